//! One process at a time may use a data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by process {owner}", directory.display())]
    Taken {
        /// The directory.
        directory: PathBuf,
        /// Its process id, as far as it is known.
        owner: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", directory.display())]
    File {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The right to use a data directory; ends when it is dropped or its process ends.
pub struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Takes the directory.
    ///
    /// # Errors
    /// Another process has it, with that process's id.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::File {
            directory: directory.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let pid = std::process::id().to_string();
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                file.write_all(pid.as_bytes()).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                if owner.is_empty() {
                    "another".clone_into(&mut owner);
                }
                Err(LockError::Taken {
                    directory: directory.to_owned(),
                    owner,
                })
            }
            Err((_, error)) => Err(failed(error.into())),
        }
    }
}
