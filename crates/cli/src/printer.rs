//! Everything that is printed goes through here: data to standard output, everything else to standard error.
//!
//! Colours and moving progress are for terminals; elsewhere there are plain lines. A reader that has gone away
//! (`kubeopencode … | head`) is no error.

use std::{
    io::{IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::{OwoColorize as _, Style};

use crate::{
    cli::ColorWhen,
    failure::{Failure, Problem},
};

/// Where there are colours.
#[derive(Debug, Clone, Copy)]
struct Colors {
    data: bool,
    aside: bool,
}

/// Where output goes. Cheap to clone; clones share the progress line.
#[derive(Clone)]
pub(crate) struct Printer {
    colors: Colors,
    progress: Arc<Mutex<Option<ProgressBar>>>,
    moving: bool,
    /// Whether both outputs are shown on a terminal, mixed.
    mixed: bool,
    /// Whether standard output ends in the middle of a line.
    data_open: Arc<AtomicBool>,
    /// Whether standard error does.
    aside_open: Arc<AtomicBool>,
}

impl Printer {
    /// A printer for this process' terminal.
    pub(crate) fn new(when: ColorWhen) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let chosen = |auto: anstream::ColorChoice| match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => auto != anstream::ColorChoice::Never,
        };
        let colors = Colors {
            data: chosen(anstream::AutoStream::choice(&std::io::stdout())),
            aside: chosen(anstream::AutoStream::choice(&std::io::stderr())),
        };
        Self {
            colors,
            progress: Arc::default(),
            moving: colors.aside && terminal,
            mixed: terminal && std::io::stdout().is_terminal(),
            data_open: Arc::default(),
            aside_open: Arc::default(),
        }
    }

    /// Whether there are colours on standard output, or on standard error.
    pub(crate) fn colors(&self, aside: bool) -> bool {
        if aside {
            self.colors.aside
        } else {
            self.colors.data
        }
    }

    /// How many columns the terminal has that is standard output, or standard error; None where that is none.
    #[expect(
        clippy::unused_self,
        reason = "whatever is printed goes through a printer"
    )]
    pub(crate) fn width(&self, aside: bool) -> Option<usize> {
        let terminal = if aside {
            console::Term::stderr()
        } else {
            console::Term::stdout()
        };
        let (_rows, columns) = terminal.size_checked()?;
        Some(usize::from(columns)).filter(|columns| *columns > 0)
    }

    /// Data, as it is, to standard output.
    pub(crate) fn data(&self, bytes: &[u8]) {
        self.begins(bytes);
        self.suspended(|| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
        Self::wrote(bytes, &self.data_open);
    }

    /// Text to standard output; a newline is added where there is none.
    pub(crate) fn text(&self, text: &str) {
        self.data(text.as_bytes());
        if !text.ends_with('\n') {
            self.data(b"\n");
        }
    }

    /// Bytes as they are, to standard error.
    pub(crate) fn aside(&self, bytes: &[u8]) {
        self.begins(bytes);
        self.suspended(|| {
            let mut out = std::io::stderr().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
        Self::wrote(bytes, &self.aside_open);
    }

    /// A line for the person, to standard error.
    pub(crate) fn line(&self, text: &str) {
        let begin = if self.in_a_line() { "\n" } else { "" };
        self.aside(format!("{begin}{text}\n").as_bytes());
        if self.mixed {
            self.data_open.store(false, Ordering::Relaxed);
        }
    }

    /// Whether a line of ours would begin in the middle of somebody else's.
    fn in_a_line(&self) -> bool {
        self.aside_open.load(Ordering::Relaxed)
            || (self.mixed && self.data_open.load(Ordering::Relaxed))
    }

    /// Moving progress would erase a line that is not finished, so it goes away before one.
    fn begins(&self, bytes: &[u8]) {
        if !bytes.ends_with(b"\n") {
            self.progress_end();
        }
    }

    /// Remembers where the output stands.
    fn wrote(bytes: &[u8], open: &AtomicBool) {
        if let Some(last) = bytes.last() {
            open.store(*last != b'\n', Ordering::Relaxed);
        }
    }

    /// A line about one subject, such as a Task.
    pub(crate) fn about(&self, subject: &str, text: &str) {
        self.line(&format!(
            "{} {text}",
            self.paint(subject, Style::new().bold())
        ));
    }

    /// A warning.
    pub(crate) fn warn(&self, text: &str) {
        self.line(&format!(
            "{} {text}",
            self.paint("warning:", Style::new().yellow().bold())
        ));
    }

    /// A problem that nobody has to stop for.
    pub(crate) fn warn_of(&self, problem: &Problem) {
        self.warn(&problem.message);
        self.hint(problem);
    }

    /// Good and bad ends.
    pub(crate) fn good(&self, text: &str) -> String {
        self.paint(text, Style::new().green())
    }

    /// See [`Printer::good`].
    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint(text, Style::new().red())
    }

    /// Why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.progress_end();
        for (index, problem) in failure.problems.iter().enumerate() {
            let next = failure.problems.get(index + 1);
            // What helps against several in a row is said once, after them.
            let hint = next.is_none_or(|next| next.hint != problem.hint);
            self.problem(problem, hint);
        }
    }

    fn problem(&self, problem: &Problem, with_hint: bool) {
        let Problem { place, message, .. } = problem;
        let label = self.paint("error:", Style::new().red().bold());
        let place = if place.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.paint(place, Style::new().bold()))
        };
        self.line(&format!("{label} {place}{message}"));
        if with_hint {
            self.hint(problem);
        }
    }

    fn hint(&self, problem: &Problem) {
        if let Some(hint) = &problem.hint {
            let label = self.paint("hint:", Style::new().cyan().bold());
            self.line(&format!("{label} {hint}"));
        }
    }

    /// Shows what is going on, on a terminal only, until the next such line or [`Printer::progress_end`].
    pub(crate) fn progress(&self, text: &str) {
        if !self.moving || self.in_a_line() {
            return;
        }
        let mut bar = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }

    /// Takes the progress line away.
    pub(crate) fn progress_end(&self) {
        let bar = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn suspended(&self, write: impl FnOnce()) {
        let bar = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.colors.aside {
            text.style(style).to_string()
        } else {
            text.to_owned()
        }
    }
}
