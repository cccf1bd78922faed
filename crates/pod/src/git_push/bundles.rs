//! What did not arrive, as Git bundles in the log of this container: base64 between two lines that name the checkout.
//!
//! The log is what outlives a Pod that has ended. A kubelet takes its volumes away as soon as no container runs (`emptyDir`
//! in `SyncTerminatedPod` of Kubernetes' `pkg/kubelet/kubelet.go`), and keeps the logs until the Pod is deleted.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::say;

/// How many bytes of bundles a log has room for, all together. A kubelet begins a new file at 10 MiB unless it is told
/// otherwise, and `kubectl logs` reads the newest alone: with base64, and with what a runtime puts before each line, these
/// are 6 MiB.
const ROOM: u64 = 4 * 1024 * 1024;
/// How many bytes make a line. Runtimes break lines of more than 16 KiB, and put some forty bytes before each.
const LINE: usize = 768;

/// Where a bundle is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In the log.
    Log,
    /// It has so many bytes, which is too many.
    TooLarge(u64),
    /// It could not be made, read or written, for this reason.
    Nowhere(String),
}

/// After what is wrong, for a person.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log => f.write_str(
                "its commits are in the log of the Pod's container git-push, as a Git bundle",
            ),
            Self::TooLarge(size) => {
                let kib = size.div_ceil(1024);
                write!(
                    f,
                    "it is only in the Pod, and goes with it: its bundle of {kib} KiB is too large for the log"
                )
            }
            Self::Nowhere(why) => write!(
                f,
                "it is only in the Pod, and goes with it: no bundle could be made ({why})"
            ),
        }
    }
}

/// The bundles of what has not arrived yet.
pub(super) struct Bundles(Mutex<State>);

struct State {
    room: u64,
    /// Whether there may be no time later.
    at_once: bool,
    bundles: BTreeMap<usize, Bundle>,
}

struct Bundle {
    /// Path of the checkout.
    checkout: String,
    file: PathBuf,
    /// Where it is, once that is settled.
    place: Option<Place>,
}

impl Bundles {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            room: ROOM,
            at_once: false,
            bundles: BTreeMap::new(),
        }))
    }

    /// There is a bundle of the checkout with this number. The file has to stay until it is printed, or has arrived.
    pub fn add(&self, number: usize, checkout: &str, file: PathBuf) {
        let bundle = Bundle {
            checkout: checkout.to_owned(),
            file,
            place: None,
        };
        let mut state = self.state();
        state.bundles.insert(number, bundle);
        if state.at_once {
            state.print(number);
        }
    }

    /// It is elsewhere, too.
    pub fn arrived(&self, number: usize) {
        self.state().bundles.remove(&number);
    }

    /// Puts it into the log, unless it is there.
    pub fn print(&self, number: usize) -> Place {
        let place = self.state().print(number);
        place.unwrap_or_else(|| Place::Nowhere("there is none".to_owned()))
    }

    /// Puts all of them into the log, and from now on every new one: this process may be killed at any time.
    pub fn print_all(&self) {
        let mut state = self.state();
        state.at_once = true;
        let all: Vec<usize> = state.bundles.keys().copied().collect();
        for number in all {
            state.print(number);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn print(&mut self, number: usize) -> Option<Place> {
        let bundle = self.bundles.get_mut(&number)?;
        let room = &mut self.room;
        let place = match bundle.place.take() {
            Some(place) => place,
            None => bundle.print(room),
        };
        bundle.place = Some(place.clone());
        Some(place)
    }
}

impl Bundle {
    fn print(&self, room: &mut u64) -> Place {
        let mut printed = || {
            let size = fs::metadata(&self.file)?.len();
            let Some(rest) = room.checked_sub(size) else {
                return Ok(Place::TooLarge(size));
            };
            let content = fs::read(&self.file)?;
            // In one write: bundles of several checkouts, and lines between them, stay whole.
            say::whole(&armored(&self.checkout, &content))?;
            *room = rest;
            Ok(Place::Log)
        };
        printed().unwrap_or_else(|error: std::io::Error| Place::Nowhere(error.to_string()))
    }
}

/// As text. No line of base64 begins with a hyphen.
fn armored(checkout: &str, content: &[u8]) -> String {
    let mut text = format!("-----BEGIN GIT BUNDLE {checkout}-----\n");
    for line in content.chunks(LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    let _ = writeln!(text, "-----END GIT BUNDLE {checkout}-----");
    text
}
