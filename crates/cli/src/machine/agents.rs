//! Which agents this machine has, and where. It is looked for each time that somebody asks: what is missing may be installed
//! while a cluster runs.
//!
//! They are found on the `PATH` of the process that runs the cluster. A `local` keeps its own in its data directory, since
//! the shell of whoever asks it to run something may have another.

use std::{
    ffi::OsString,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

use kubeopencode_agents::Profile;
use kubeopencode_embedded::node::{HostFiles, HostImage};
use kubeopencode_engine::{handover, run::Run};

use super::AGENTS_DIR;
use crate::{create, failure::Problem};

/// The file of the data directory with the `PATH` of the `local` that runs there.
const PATH_FILE: &str = "path";

/// Where programs are looked for.
pub(crate) struct Search {
    path: OsString,
    /// Whether that is the `PATH` of another process, a `local`.
    of_local: bool,
}

impl Search {
    /// On the `PATH` of this process.
    pub(crate) fn here() -> Self {
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            of_local: false,
        }
    }

    /// On that of the `local` whose data is here; on this process' own where it did not say.
    pub(crate) fn of_local(directory: &Path) -> Self {
        match std::fs::read(directory.join(PATH_FILE)) {
            Ok(path) => Self {
                path: OsString::from_vec(path),
                of_local: true,
            },
            Err(_) => Self::here(),
        }
    }

    /// Says that this process is the `local` whose data is here.
    pub(super) fn keep(directory: &Path) -> std::io::Result<()> {
        std::fs::write(directory.join(PATH_FILE), Self::here().path.as_bytes())
    }

    /// The program of that agent: what npm puts on the `PATH` may be a script that looks for it.
    fn find(&self, profile: &Profile) -> Option<PathBuf> {
        std::env::split_paths(&self.path)
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
}

/// An agent that a Run is about to start, and that this machine does not have.
pub(crate) struct Lacking {
    profile: &'static Profile,
    task: String,
    /// Whether it is a `local` that does not find it.
    of_local: bool,
    /// Whether nothing else can come of it. Otherwise its command does other things first, or with it.
    pub(crate) for_certain: bool,
}

impl Lacking {
    /// In words, with what helps.
    pub(crate) fn problem(&self) -> Problem {
        let (name, task) = (self.profile.name, &self.task);
        let subject = if self.for_certain {
            format!("the Task {task} runs {name}")
        } else {
            format!("the command of the Task {task} names {name}")
        };
        // What is looked for is the program: a script could need anything of a home that no Pod sees.
        let install = format!(
            "`{}` installs it (a script that starts it does not count)",
            self.profile.install
        );
        let other = "--command, or an Agent with a command, runs something else";
        if !self.of_local {
            let says = format!("{subject}, which is not installed on this machine");
            return Problem::new(says).hint(format!("{install}; {other}"));
        }
        let says = format!(
            "{subject}, which is not on the PATH of `kubeopencode local`, the process that runs it"
        );
        let hint = if Search::here().find(self.profile).is_some() {
            "it is on the PATH of this shell: end `kubeopencode local`, and start it again from here".to_owned()
        } else {
            format!(
                "{install}; where that is not on its PATH, restart `kubeopencode local` with a PATH that has it"
            )
        };
        Problem::new(says).hint(format!("{hint}; {other}"))
    }
}

/// What a Run needs and this machine does not have. A program that is named with its path is somebody else's.
pub(crate) fn lacking(run: &Run, search: &Search) -> Option<Lacking> {
    let command = run.command.as_deref().unwrap_or_default();
    let in_tools = run.images.opencode.is_some().then(Profile::usual);
    let profile = in_tools.or_else(|| Profile::of_command(command))?;
    let words = kubeopencode_agents::command_words(command);
    let is_named = in_tools.is_some() || words.iter().any(|word| word == profile.program);
    if !is_named || search.find(profile).is_some() {
        return None;
    }
    let script = command.last().map(String::as_str).unwrap_or_default();
    let mut begin = script.split_whitespace().filter(|word| *word != "exec");
    let is_first = |word: Option<&str>| word == Some(profile.program);
    let for_certain = in_tools.is_some()
        || is_first(command.first().map(String::as_str))
        || is_first(begin.next());
    Some(Lacking {
        profile,
        task: run.owner.name.clone(),
        of_local: search.of_local,
        for_certain,
    })
}

/// What this machine has in place of images: OpenCode for the one that brings it, and for every container, `this` program
/// and the other agents. `is_local` says whether others than this process ask for it.
pub(super) fn host_files(this: &Path, is_local: bool) -> HostFiles {
    let search = Search::here();
    let usual = Profile::usual();
    let reference = create::settings(true).opencode_image.reference;
    let name = reference.rsplit_once(':').map(|(name, _)| name.to_owned());
    let found = search.find(usual);
    let (agent, install) = (usual.name, usual.install);
    let missing = if is_local {
        format!(
            "{agent} is not on the PATH of `kubeopencode local`: install it with `{install}`, or restart `kubeopencode local` \
             with a PATH that has it"
        )
    } else {
        format!("{agent} is not installed on this machine: install it with `{install}`")
    };
    let opencode = HostImage {
        name: name.unwrap_or(reference),
        missing: found.is_none().then_some(missing),
        files: found
            .into_iter()
            .map(|program| (PathBuf::from(handover::OPENCODE_PROGRAM), program))
            .collect(),
        ..HostImage::default()
    };
    // What an image would have to bring: every image here is this machine, less what is outside the system's folders.
    let others = Profile::ALL
        .iter()
        .filter(|profile| !profile.in_tools)
        .filter_map(|profile| {
            Some((
                Path::new(AGENTS_DIR).join(profile.program),
                search.find(profile)?,
            ))
        });
    let own = (PathBuf::from(handover::PROGRAM), this.to_owned());
    HostFiles {
        images: vec![opencode],
        everywhere: [own].into_iter().chain(others).collect(),
    }
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
