//! Which agents this machine has, and where. It is looked for each time that somebody asks: what is missing may be installed
//! while a cluster runs.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use kubeopencode_agents::Profile;
use kubeopencode_embedded::node::{HostFiles, HostImage};
use kubeopencode_engine::{handover, run::Run};

use super::AGENTS_DIR;
use crate::{create, failure::Problem};

/// An agent that a Run is about to start, and that this machine does not have.
pub(crate) struct Lacking {
    profile: &'static Profile,
    task: String,
    /// Whether nothing else can come of it. Otherwise its command does other things first, or with it.
    pub(crate) for_certain: bool,
}

impl Lacking {
    /// In words, with what helps.
    pub(crate) fn problem(&self) -> Problem {
        let (name, task) = (self.profile.name, &self.task);
        let says = if self.for_certain {
            format!("the Task {task} runs {name}, which is not installed on this machine")
        } else {
            format!(
                "the command of the Task {task} names {name}, which is not installed on this machine"
            )
        };
        Problem::new(says).hint(format!(
            "`{}` installs it; --command, or an Agent with a command, runs something else",
            self.profile.install
        ))
    }
}

/// What a Run needs and this machine does not have. A program that is named with its path is somebody else's.
pub(crate) fn lacking(run: &Run) -> Option<Lacking> {
    let command = run.command.as_deref().unwrap_or_default();
    let in_tools = run.images.opencode.is_some().then(Profile::usual);
    let profile = in_tools.or_else(|| Profile::of_command(command))?;
    let words = kubeopencode_agents::command_words(command);
    let is_named = in_tools.is_some() || words.iter().any(|word| word == profile.program);
    if !is_named || find(profile).is_some() {
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
        for_certain,
    })
}

/// What this machine has in place of images: OpenCode for the one that brings it, and for every container, `this` program
/// and the other agents.
pub(super) fn host_files(this: &Path) -> HostFiles {
    let usual = Profile::usual();
    let reference = create::settings(true).opencode_image.reference;
    let name = reference.rsplit_once(':').map(|(name, _)| name.to_owned());
    let found = find(usual);
    let missing = format!(
        "{} is not installed on this machine: install it with `{}`",
        usual.name, usual.install
    );
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
        .filter_map(|profile| Some((Path::new(AGENTS_DIR).join(profile.program), find(profile)?)));
    let own = (PathBuf::from(handover::PROGRAM), this.to_owned());
    HostFiles {
        images: vec![opencode],
        everywhere: [own].into_iter().chain(others).collect(),
    }
}

/// The program of that agent: what npm puts on the `PATH` may be a script that looks for it.
fn find(profile: &Profile) -> Option<PathBuf> {
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
