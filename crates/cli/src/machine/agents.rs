//! Where this machine has the programs of agents that are known.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use kubeopencode_agents::Profile;

/// The program of that agent: what npm puts on the `PATH` may be a script that looks for it.
pub(crate) fn find(profile: &Profile) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(profile.program))
        .filter_map(|candidate| candidate.canonicalize().ok())
        .find_map(|candidate| {
            if is_program(&candidate) {
                Some(candidate)
            } else {
                behind_script(&candidate, profile)
            }
        })
}

/// The program in the platform's package, which npm installs beside the one with the script.
fn behind_script(script: &Path, profile: &Profile) -> Option<PathBuf> {
    let (npm, rust) = if cfg!(target_arch = "aarch64") {
        ("arm64", "aarch64")
    } else {
        ("x64", "x86_64")
    };
    let programs: Vec<String> = profile
        .packaged
        .iter()
        .map(|path| path.replace("{npm}", npm).replace("{rust}", rust))
        .collect();
    script
        .ancestors()
        .flat_map(|folder| [folder.to_owned(), folder.join("node_modules")])
        .flat_map(|folder| programs.iter().map(move |program| folder.join(program)))
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
