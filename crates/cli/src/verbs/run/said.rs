//! A Task said in words on the command line, and the Agent that goes with it.

use kubeopencode_embedded::clock;
use serde_json::{Value, json};

use super::environment;
use crate::{
    cli::SaidArgs,
    failure::{Failure, Problem},
    manifest::{Manifest, Source, check, repository},
};

/// The longest name that is made from words.
const LONGEST: usize = 40;

/// The objects that the words stand for. On a cluster of its own a Task has the name that the words give; elsewhere it
/// gets an ending that nobody else has.
pub(super) fn manifests(
    what: &str,
    said: &SaidArgs,
    namespace: &str,
    own_cluster: bool,
) -> Result<Vec<Manifest>, Failure> {
    let name = match &said.name {
        Some(name) => name.clone(),
        None if own_cluster => name_of(what),
        None => format!(
            "{}-{}",
            name_of(what),
            clock::suffix(&clock::system_entropy())
        ),
    };
    let variables = environment::variables(said)?;
    let own_agent = said.command.is_some() || said.image.is_some() || !variables.is_empty();
    let mut objects = Vec::new();
    if !variables.is_empty() {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": variables,
        }));
    }
    if own_agent {
        objects.push(agent(&name, said, variables.keys()));
    }
    let agent_ref = if own_agent {
        Some(name.clone())
    } else {
        said.agent.clone()
    };
    objects.push(task(what, &name, agent_ref, said)?);
    objects
        .iter()
        .map(|object| {
            let mut manifest = check::check_made(object, namespace)?;
            manifest.source = Source {
                folder: Some(".".into()),
                ..manifest.source
            };
            Ok(manifest)
        })
        .collect()
}

/// An Agent for this Task alone; it has the variables one by one, so that each wins over one of ours.
fn agent<'a>(name: &str, said: &SaidArgs, variables: impl Iterator<Item = &'a String>) -> Value {
    let mut spec = json!({"serviceAccountName": "default"});
    if let Some(command) = &said.command {
        // Kubernetes expands `$(VAR)` and `$$` in a command; the shell is to have the text as it was said.
        spec["command"] = json!(["sh", "-c", command.replace('$', "$$")]);
    }
    let variables: Vec<Value> = variables
        .map(|key| json!({"name": key, "secretRef": {"name": name, "key": key}, "env": key}))
        .collect();
    if !variables.is_empty() {
        spec["credentials"] = json!(variables);
    }
    if let Some(image) = &said.image {
        spec["agentImage"] = json!(image);
    }
    json!({"apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": spec})
}

fn task(what: &str, name: &str, agent: Option<String>, said: &SaidArgs) -> Result<Value, Failure> {
    let mut spec = json!({"description": what});
    if let Some(agent) = agent {
        spec["agentRef"] = json!(agent);
    }
    if let Some(timeout) = &said.timeout {
        spec["timeout"] = json!(timeout);
    }
    if let Some(repo) = &said.repo {
        let local = !is_url(repo);
        let repository = if local && !repository::is_path(repo) {
            format!("./{repo}")
        } else {
            repo.clone()
        };
        let mut git = json!({"repository": repository});
        if local {
            refuse_for_directory(repo, said)?;
            // Agents look at history, and here it costs next to nothing.
            git["depth"] = json!(0);
        }
        if let Some(reference) = &said.reference {
            git["ref"] = json!(reference);
        }
        match &said.push {
            None => {}
            Some(None) => git["push"] = json!({}),
            Some(Some(branch)) => git["push"] = json!({"branch": branch}),
        }
        if let Some(secret) = &said.repo_secret {
            git["secretRef"] = json!({"name": secret});
        }
        // The repository is the workspace itself: the agent begins in it.
        spec["contexts"] = json!([{"type": "Git", "mountPath": ".", "git": git}]);
    }
    Ok(
        json!({"apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec}),
    )
}

/// What means nothing where `--repo` is a directory.
fn refuse_for_directory(repo: &str, said: &SaidArgs) -> Result<(), Failure> {
    let option = match (&said.push, &said.repo_secret) {
        (None, None) => return Ok(()),
        (Some(_), _) => "--push",
        (None, Some(_)) => "--repo-secret",
    };
    Err(Problem::new(format!(
        "{option} is for a URL, and {repo:?} is a directory of this machine"
    ))
    .hint("leave it out: what is done in a directory comes back as a branch of it")
    .input())
}

/// Whether git would fetch it from somewhere: `scheme://…`, or `user@host:path`.
fn is_url(repo: &str) -> bool {
    if repo.contains("://") {
        return true;
    }
    match repo.split_once(':') {
        Some((host, _)) => !host.contains('/'),
        None => false,
    }
}

/// A name from words: `Fix the failing test!` is `fix-the-failing-test`.
fn name_of(what: &str) -> String {
    let mut name = String::new();
    for word in what
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if name.len() + 1 + word.len() > LONGEST {
            break;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&word.to_ascii_lowercase());
    }
    if name.is_empty() {
        "task".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_words() {
        assert_eq!(name_of("Fix the failing test!"), "fix-the-failing-test");
        assert_eq!(name_of("修复"), "task");
        assert!(name_of(&"word ".repeat(50)).len() <= LONGEST);
    }

    #[test]
    fn a_directory_is_no_url() {
        for url in ["https://a/b", "git@host:path", "file:///a"] {
            assert!(is_url(url), "{url}");
        }
        for path in [".", "../a", "/a/b:c", "sub/dir", "app"] {
            assert!(!is_url(path), "{path}");
        }
    }
}
