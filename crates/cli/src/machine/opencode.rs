//! Where this machine has `OpenCode`, the agent that runs when none is named.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// The one command that installs it.
pub(crate) const INSTALL: &str = "install it with `npm install -g opencode-ai`";

/// The program itself: what npm puts on the `PATH` may be a script that looks for it.
pub(crate) fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("opencode"))
        .filter_map(|candidate| candidate.canonicalize().ok())
        .find_map(|candidate| {
            if is_program(&candidate) {
                Some(candidate)
            } else {
                behind_script(&candidate)
            }
        })
}

/// The program in the platform's package, which npm installs beside the one with the script.
fn behind_script(script: &Path) -> Option<PathBuf> {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x64"
    };
    let packages = ["", "-baseline", "-musl", "-baseline-musl"]
        .map(|variant| format!("opencode-linux-{architecture}{variant}"));
    script
        .ancestors()
        .flat_map(|folder| [folder.to_owned(), folder.join("node_modules")])
        .flat_map(|folder| {
            packages
                .clone()
                .map(|package| folder.join(package).join("bin/opencode"))
        })
        .find(|candidate| is_program(candidate))
}

/// Whether it is an ELF file.
fn is_program(path: &Path) -> bool {
    let mut magic = [0; 4];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && magic == *b"\x7fELF"
}
