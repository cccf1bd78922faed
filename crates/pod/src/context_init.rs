//! `context-init`: writes the files that the agent finds, and puts this program where the agent can run it.
//!
//! In: the [`ContextPlan`] and the contents, in the context directory; the paths of the checkouts, from the [`GitPlan`]
//! beside it. Out: the files, with exactly their permission bits, over what a checkout brought and yet no change of it;
//! a copy of the Pod's programs. It runs after `git-init`, and sees the volumes where the agent will.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use kubeopencode_engine::handover::{
    BEGUN_DIR_IN_TOOLS, CONTEXT_DIR, CONTEXT_PLAN, ContextPlan, GIT_CONFIG, GIT_PLAN, GitPlan,
    POD_PROGRAM, PROGRAM_EVERYWHERE, SUPERVISOR, TOOLS_DIR,
};

use crate::{
    beneath::{self, PlaceError},
    exclude, may_pass, once, say,
};

/// Where things are.
#[derive(Debug, Clone)]
pub struct Places {
    /// The plans, and the contents that they name.
    pub context_dir: PathBuf,
    /// Where the copy of the program goes.
    pub tools_dir: PathBuf,
    /// The program that is copied.
    pub program: PathBuf,
    /// Where every container of the Pod sees the program anyway: then a link to it is enough.
    pub everywhere: Option<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            context_dir: CONTEXT_DIR.into(),
            tools_dir: TOOLS_DIR.into(),
            program: if Path::new(POD_PROGRAM).exists() {
                POD_PROGRAM.into()
            } else {
                "/proc/self/exe".into()
            },
            everywhere: std::env::var_os(PROGRAM_EVERYWHERE).map(PathBuf::from),
        }
    }
}

/// Why the files are not all there.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// A plan is missing or cannot be read.
    #[error("cannot read the plan {path}: {source}")]
    Plan {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content of a file is missing.
    #[error("{path}: cannot read its content, {name}: {source}")]
    Content {
        /// The file that was to be written.
        path: String,
        /// Name of the content.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A plan names a content outside of its directory.
    #[error("{path}: its content {name} is not a file name")]
    ContentName {
        /// The file that was to be written.
        path: String,
        /// Name of the content.
        name: String,
    },
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Place {
        /// The file, as the agent would see it.
        path: String,
        /// Why.
        source: PlaceError,
    },
    /// What is written cannot be kept out of the changes of the repository it is in.
    #[error("{path}: cannot keep the context out of the repository's changes: {source}")]
    Exclude {
        /// The file, or the repository.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no room for the mark that the agent has begun.
    #[error("cannot make {path}: {source}")]
    Begun {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program cannot be copied.
    #[error("cannot copy this program to {path}: {source}")]
    Program {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The program: [`context_init`] with its error on standard error and in the exit code.
pub(crate) fn main(places: &Places) -> u8 {
    match context_init(places) {
        Ok(()) => 0,
        Err(error) => {
            say::line(&format!("context-init: {error}"));
            may_pass::exit_code(&error)
        }
    }
}

/// Copies the program, makes room for the mark that the agent has begun, and writes every file of the plan.
pub fn context_init(places: &Places) -> Result<(), ContextError> {
    hand_on_program(places)?;
    once::make_room(&places.tools_dir).map_err(|source| ContextError::Begun {
        path: places.tools_dir.join(BEGUN_DIR_IN_TOOLS),
        source,
    })?;
    let Some(plan) = read_plan::<ContextPlan>(&places.context_dir.join(CONTEXT_PLAN))? else {
        return Ok(());
    };
    let checkouts: Vec<PathBuf> = read_plan::<GitPlan>(&places.context_dir.join(GIT_PLAN))?
        .map(|plan| plan.checkouts)
        .unwrap_or_default()
        .into_iter()
        .map(|checkout| checkout.path.into())
        .collect();
    let mut in_repositories: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for file in &plan.files {
        let at = || file.path.clone();
        if file.source.is_empty() || file.source.contains('/') || file.source == ".." {
            return Err(ContextError::ContentName {
                path: at(),
                name: file.source.clone(),
            });
        }
        let content = fs::read(places.context_dir.join(&file.source)).map_err(|source| {
            ContextError::Content {
                path: at(),
                name: file.source.clone(),
                source,
            }
        })?;
        let target = Path::new(&file.target);
        beneath::write(target, &checkouts, &content, file.mode & 0o7777)
            .map_err(|source| ContextError::Place { path: at(), source })?;
        let outermost = checkouts
            .iter()
            .filter(|checkout| target.starts_with(checkout));
        // The innermost checkout first has the longest path.
        if let Some(checkout) = outermost.max_by_key(|checkout| checkout.components().count()) {
            let entry = exclude::add(target, checkout)
                .map_err(|source| ContextError::Exclude { path: at(), source })?;
            if let Some(entry) = entry {
                let files = in_repositories.entry(entry.root).or_default();
                files.push(entry.relative);
            }
        }
    }
    let config = places.tools_dir.join(file_name(GIT_CONFIG));
    for (root, files) in in_repositories {
        exclude::mark_unchanged(&root, &files, &config).map_err(|source| {
            ContextError::Exclude {
                path: root.display().to_string(),
                source,
            }
        })?;
    }
    Ok(())
}

/// A plan; `None` when there is none, because there is nothing to do.
pub(crate) fn read_plan<P: serde::de::DeserializeOwned>(
    path: &Path,
) -> Result<Option<P>, ContextError> {
    let failed = |source| ContextError::Plan {
        path: path.to_owned(),
        source,
    };
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| failed(error.into()))
}

/// The name of a file below the tools directory, wherever that is mounted.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Gives the agent container the program, so that it is never there half.
fn hand_on_program(places: &Places) -> Result<(), ContextError> {
    let tools_dir = &places.tools_dir;
    let path = tools_dir.join(file_name(SUPERVISOR));
    let copy = || -> io::Result<()> {
        if let Some(target) = &places.everywhere {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return std::os::unix::fs::symlink(target, &path),
            }
        }
        let mut temporary = tempfile::Builder::new()
            .prefix(".kubeopencode-")
            .tempfile_in(tools_dir)?;
        io::copy(
            &mut fs::File::open(&places.program)?,
            temporary.as_file_mut(),
        )?;
        let permissions = fs::Permissions::from_mode(0o755);
        temporary.as_file().set_permissions(permissions)?;
        // Closed before it becomes visible: a program that is open for writing cannot be run.
        temporary.into_temp_path().persist(&path)?;
        Ok(())
    };
    copy().map_err(|source| ContextError::Program {
        path: path.clone(),
        source,
    })
}
