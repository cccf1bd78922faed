//! Where the bytes of an agent go: as they are, or line by line behind the Task's name when there are several.

use std::sync::{Arc, Mutex, PoisonError};

use crate::printer::Printer;

/// Where the output of one agent goes. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Output {
    printer: Printer,
    aside: bool,
    prefix: Option<String>,
    /// The beginning of a line whose end has not come yet; only used with a prefix.
    rest: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    /// To standard output, or to standard error when `aside` is set; with `prefix`, by lines.
    pub(crate) fn new(printer: &Printer, aside: bool, prefix: Option<String>) -> Self {
        Self {
            printer: printer.clone(),
            aside,
            prefix,
            rest: Arc::default(),
        }
    }

    /// Passes bytes on.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let Some(prefix) = &self.prefix else {
            return self.emit(bytes);
        };
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        rest.extend_from_slice(bytes);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let mut lines = Vec::new();
        for line in rest
            .drain(..=end)
            .collect::<Vec<u8>>()
            .split_inclusive(|byte| *byte == b'\n')
        {
            lines.extend_from_slice(prefix.as_bytes());
            lines.extend_from_slice(line);
        }
        drop(rest);
        self.emit(&lines);
    }

    /// Ends a line that has no end.
    pub(crate) fn finish(&self) {
        let rest = std::mem::take(&mut *self.rest.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(prefix) = &self.prefix
            && !rest.is_empty()
        {
            self.emit(&[prefix.as_bytes(), &rest, b"\n"].concat());
        }
    }

    fn emit(&self, bytes: &[u8]) {
        if self.aside {
            self.printer.aside(bytes);
        } else {
            self.printer.data(bytes);
        }
    }
}
