//! Repositories of this machine in manifests: a path becomes a `file://` URL that the embedded node can serve.
//!
//! A relative `repository` is relative to the file that names it, as people expect of a path in a file.

use std::path::{Path, PathBuf};

use super::Manifest;
use crate::{
    failure::{Failure, Problem},
    git,
};

/// A repository of this machine that a manifest names by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalRepository {
    /// Where it is: its top directory, or the Git directory of one that has none.
    pub(crate) directory: PathBuf,
    /// The URL that stands in the object.
    pub(crate) url: String,
    /// The directory that a person works in: of a linked worktree, the worktree.
    pub(crate) shown: PathBuf,
}

/// Whether a `repository` is a path of this machine.
pub(crate) fn is_path(repository: &str) -> bool {
    repository == "."
        || repository == ".."
        || ["./", "../", "/"]
            .iter()
            .any(|prefix| repository.starts_with(prefix))
}

/// Finds paths where only a URL means anything: nobody follows the Task to its end and brings its commits back, and most
/// clusters cannot see this machine.
pub(crate) fn refuse(manifests: &[Manifest]) -> Result<(), Failure> {
    let mut problems = Vec::new();
    for manifest in manifests {
        for (index, repository) in paths(manifest) {
            let field = format!("spec.contexts[{index}].git.repository");
            let problem = manifest.problem(
                &field,
                format!("{field}: {repository:?} is a path, which only `kubeopencode run` takes"),
            );
            problems.push(problem.hint(
                "give the URL of a repository that the cluster can reach, or use `kubeopencode run -f`, which brings new commits back",
            ));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::input(problems))
    }
}

/// The Git contexts whose repository is a path, by their number.
fn paths(manifest: &Manifest) -> Vec<(usize, String)> {
    if !manifest.is("Task") && !manifest.is("Agent") {
        return Vec::new();
    }
    let contexts = manifest.object["spec"]["contexts"].as_array();
    let contexts = contexts.into_iter().flatten().enumerate();
    let named = contexts.filter_map(|(index, context)| {
        let repository = context["git"]["repository"].as_str()?;
        Some((index, repository.to_owned()))
    });
    named
        .filter(|(_, repository)| is_path(repository))
        .collect()
}

/// Puts URLs in place of paths. `reachable` says whether the cluster runs on this machine and may see them.
pub(crate) fn resolve(
    manifests: &mut [Manifest],
    reachable: bool,
) -> Result<Vec<LocalRepository>, Failure> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for manifest in manifests {
        for (index, repository) in paths(manifest) {
            let has_ref = manifest.object["spec"]["contexts"][index]["git"]["ref"].is_string();
            let field = format!("spec.contexts[{index}].git.repository");
            if !reachable {
                let push = if manifest.source.is_command_line() {
                    "`--push`"
                } else {
                    "`push`"
                };
                problems.push(
                    manifest
                        .problem(&field, format!("{repository:?} is a directory of this machine, which the cluster cannot see"))
                        .hint(format!("give the URL of a repository that the cluster can reach, with {push} so that what the agent commits gets there, or run it on this machine, without --context and --kubeconfig")),
                );
                continue;
            }
            let folder = manifest
                .source
                .folder
                .clone()
                .unwrap_or_else(|| PathBuf::from("."));
            match locate(&plain(&folder.join(&repository))) {
                Err(problem) => problems.push(Problem {
                    place: manifest.problem(&field, "").place,
                    ..problem
                }),
                Ok(located) => {
                    let git = &mut manifest.object["spec"]["contexts"][index]["git"];
                    git["repository"] = located.repository.url.clone().into();
                    if !has_ref && let Some(reference) = located.reference {
                        git["ref"] = reference.into();
                    }
                    if !found.contains(&located.repository) {
                        found.push(located.repository);
                    }
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(Failure::input(problems))
    }
}

/// A repository, and what is checked out there where the repository itself does not say so.
pub(crate) struct Located {
    pub(crate) repository: LocalRepository,
    pub(crate) reference: Option<String>,
}

/// A path as a person would write it: without `./`.
fn plain(path: &Path) -> PathBuf {
    let plain: PathBuf = path
        .components()
        .filter(|part| *part != std::path::Component::CurDir)
        .collect();
    if plain.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        plain
    }
}

/// The repository that a directory belongs to.
pub(crate) fn locate(start: &Path) -> Result<Located, Problem> {
    let directory = start;
    let shown = directory.display();
    if !directory.is_dir() {
        return Err(Problem::new(format!("there is no directory {shown}")).hint("a repository is a directory of this machine, or a URL such as https://git.example.com/app.git"));
    }
    let none = || {
        Problem::new(format!("{shown} is not in a Git repository")).hint(format!(
            "`git -C {shown} init` makes one; the agent works on what is committed"
        ))
    };
    let common = git::output(
        directory,
        &["rev-parse", "--path-format=absolute", "--git-common-dir"],
    )
    .map_err(|_| none())?;
    let own = git::output(
        directory,
        &["rev-parse", "--path-format=absolute", "--git-dir"],
    )
    .map_err(|_| none())?;
    let common = PathBuf::from(common);
    if git::output(
        directory,
        &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"],
    )
    .is_err()
    {
        return Err(
            Problem::new(format!("the repository {shown} has no commit yet"))
                .hint("commit something first: the agent works on what is committed"),
        );
    }
    // A linked worktree keeps everything in the Git directory of the main one, whose HEAD is another.
    let linked = common != Path::new(&own);
    let place = match common.file_name() {
        Some(name) if name == ".git" && !linked => common.parent().unwrap_or(&common).to_owned(),
        _ => common.clone(),
    };
    let reference = if linked {
        git::output(directory, &["symbolic-ref", "--quiet", "--short", "HEAD"])
            .or_else(|_| git::output(directory, &["rev-parse", "HEAD"]))
            .ok()
    } else {
        None
    };
    let directory = std::fs::canonicalize(&place).unwrap_or(place);
    let url = format!("file://{}", directory.display());
    let shown = if linked {
        git::output(start, &["rev-parse", "--show-toplevel"])
            .map_or_else(|_| directory.clone(), PathBuf::from)
    } else {
        directory.clone()
    };
    Ok(Located {
        repository: LocalRepository {
            directory,
            url,
            shown,
        },
        reference,
    })
}
