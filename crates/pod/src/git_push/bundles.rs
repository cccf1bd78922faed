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
    waiting: BTreeMap<usize, Bundle>,
}

struct Bundle {
    /// Path of the checkout.
    checkout: String,
    file: PathBuf,
}

impl Bundles {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            room: ROOM,
            waiting: BTreeMap::new(),
        }))
    }

    /// There is a bundle of the checkout with this number. The file has to stay until it is printed, or has arrived.
    pub fn add(&self, number: usize, checkout: &str, file: PathBuf) {
        let bundle = Bundle {
            checkout: checkout.to_owned(),
            file,
        };
        self.state().waiting.insert(number, bundle);
    }

    /// It is elsewhere, too.
    pub fn arrived(&self, number: usize) {
        self.state().waiting.remove(&number);
    }

    /// Puts it into the log.
    pub fn print(&self, number: usize) -> Place {
        let mut state = self.state();
        match state.waiting.remove(&number) {
            Some(bundle) => bundle.print(&mut state.room),
            None => Place::Nowhere("there is none".to_owned()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
