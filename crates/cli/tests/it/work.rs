//! What an agent did in a run of its own: it comes back, or it is kept, and is said to be where it is.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Sandbox, can_run_pods, ended, git, signal, started};

/// Runs an agent on the repository `repo`, and answers the summary of its checkout and standard error.
fn worked(sandbox: &Sandbox, work: &str) -> (Value, String) {
    worked_with(sandbox, None, work, 0)
}

/// The same with a search path before the usual one, and another exit status.
fn worked_with(sandbox: &Sandbox, path: Option<&str>, work: &str, code: i32) -> (Value, String) {
    let arguments = [
        "run",
        "Do it",
        "--repo",
        "repo",
        "-o",
        "json",
        "--command",
        work,
    ];
    let usual = std::env::var("PATH").expect("a PATH");
    let path = path.map_or_else(|| usual.clone(), |path| format!("{path}:{usual}"));
    let run = sandbox
        .command(&arguments)
        .env("PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let outcome = ended(run).expect_code(code);
    let summary: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    (summary["tasks"][0]["checkouts"][0].clone(), outcome.stderr)
}

#[test]
fn work_that_is_not_committed_comes_back_too() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let work = "echo built > .gitignore && git add .gitignore && git commit --quiet --message three && \
                echo fixed > README.md && echo new > new && echo x > built";
    let (checkout, said) = worked(&sandbox, work);
    assert_eq!(checkout["broughtBack"]["branch"], "kubeopencode/do-it");
    assert_eq!(checkout["broughtBack"]["uncommitted"], true);
    for words in [
        "; its last commit is what the agent did not commit",
        "diff main...kubeopencode/do-it`, take it with `git -C ",
        " merge kubeopencode/do-it`",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let log = ["log", "--format=%s", "main..kubeopencode/do-it"];
    let subjects = "What the agent left uncommitted\nthree";
    assert_eq!(git(&repository, &log), subjects);
    let names = ["diff", "--name-only", "main...kubeopencode/do-it"];
    assert_eq!(git(&repository, &names), ".gitignore\nREADME.md\nnew");
    git(&repository, &["fsck", "--strict", "--connectivity-only"]);
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// As agents do with a report that somebody is to see.
#[test]
fn what_is_staged_comes_back_also_where_it_is_ignored() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("it's here");
    sandbox.write("it's here/.gitignore", "reports/\n");
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "--quiet", "--message", "three"]);
    let work = "mkdir reports && echo one > reports/one && echo two > reports/two && git add --force reports/one";
    let arguments = ["run", "Do it", "--repo", "it's here", "--command", work];
    let outcome = sandbox.run(&arguments).expect_code(0);
    let names = ["diff", "--name-only", "main...kubeopencode/do-it"];
    assert_eq!(git(&repository, &names), "reports/one");
    // The command that it says works.
    let said = &outcome.stderr;
    let command = said.split('`').find(|words| words.contains(" diff "));
    let shown = Command::new("sh")
        .args(["-c", command.expect("a command")])
        .output()
        .expect("sh starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("+one"), "{said}: {shown}");
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// The agent ends when it is told to, after the commit that it began with has gone from every branch.
#[test]
fn work_comes_back_also_when_its_base_was_amended_meanwhile() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let work = "trap 'echo new > new; exit 0' TERM; echo working; sleep 1000 & wait";
    let arguments = ["run", "Do it", "--repo", "repo", "--command", work];
    let (run, _stdout, _) = started(&sandbox, &arguments);
    let base = git(&repository, &["rev-parse", "HEAD"]);
    let amend = ["commit", "--quiet", "--amend", "--message", "amended"];
    git(&repository, &amend);
    signal(&run, "INT");
    let said = ended(run).expect_code(130).stderr;
    let short = &base[..10];
    let words = format!("diff {short}...kubeopencode/do-it`");
    assert!(said.contains(&words), "{said}");
    let log = ["log", "--format=%s", "kubeopencode/do-it"];
    let subjects = "What the agent left uncommitted\ntwo\none";
    assert_eq!(git(&repository, &log), subjects);
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// Everything that a checkout can make git run is tried, with marks that anybody may write.
#[test]
fn nothing_that_the_agent_configured_runs_when_work_comes_back() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let mark = sandbox.work().join("ran");
    let mark = mark.display();
    let work = format!(
        "git config core.fsmonitor 'touch {mark}; false' && git config filter.x.clean 'touch {mark}; cat' && \
         git config uploadpack.packObjectsHook 'touch {mark}; false' && git config core.hooksPath hooks && \
         mkdir hooks && printf '#!/bin/sh\\ntouch {mark}\\n' > hooks/post-index-change && chmod +x hooks/* && \
         echo '* filter=x' > .gitattributes && echo fixed > README.md"
    );
    let (checkout, said) = worked(&sandbox, &work);
    assert_eq!(checkout["broughtBack"]["uncommitted"], true, "{said}");
    assert!(!sandbox.work().join("ran").exists());
    let shown = git(&repository, &["show", "kubeopencode/do-it:README.md"]);
    assert_eq!(shown, "fixed");
}

/// Search paths with an empty entry or a point are no rarity, and mean the directory that a program is in.
#[test]
fn a_git_in_the_checkout_is_not_run_for_one_on_the_search_path() {
    if !can_run_pods("run --repo") {
        return;
    }
    for path in [".", "", "bin"] {
        let sandbox = Sandbox::new();
        let repository = sandbox.repository("repo");
        let mark = sandbox.work().join("ran");
        let work = format!(
            "mkdir bin && printf '#!/bin/sh\ntouch {}\n' > git && chmod +x git && cp git bin",
            mark.display()
        );
        let (checkout, said) = worked_with(&sandbox, Some(path), &work, 0);
        assert!(!mark.exists(), "{path}: {said}");
        assert_eq!(checkout["broughtBack"]["uncommitted"], true, "{said}");
        let names = ["diff", "--name-only", "main...kubeopencode/do-it"];
        assert_eq!(git(&repository, &names), "bin/git\ngit");
    }
}

/// A git that says what `fails` are of its arguments, and cannot do that.
fn failing(sandbox: &Sandbox, fails: &str) -> String {
    let usual = std::env::var("PATH").expect("a PATH");
    let wrapper = format!(
        "#!/bin/sh\ncase \"$*\" in *{fails}*) echo 'fatal: it is broken' >&2; exit 128;; esac\nPATH='{usual}' exec git \"$@\"\n"
    );
    let file = sandbox.write("wrapper/git", &wrapper);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&file, executable).expect("it is ours");
    file.parent().expect("a folder").display().to_string()
}

#[test]
fn commits_come_back_also_where_what_is_uncommitted_does_not() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let work =
        "echo fixed > README.md && git commit --quiet --all --message three && echo new > new";
    let path = failing(&sandbox, "--modified");
    let (checkout, said) = worked_with(&sandbox, Some(&path), work, 1);
    assert_eq!(checkout["broughtBack"]["branch"], "kubeopencode/do-it");
    assert_eq!(checkout["broughtBack"]["uncommitted"], false, "{said}");
    let why = checkout["notBroughtBack"].as_str().expect("a reason");
    assert!(
        why.starts_with("what the agent did not commit could not be brought back to "),
        "{why}"
    );
    assert!(
        why.ends_with("git failed (git: fatal: it is broken)"),
        "{why}"
    );
    let log = ["log", "--format=%s", "main..kubeopencode/do-it"];
    assert_eq!(git(&repository, &log), "three");
    let kept = PathBuf::from(checkout["kept"].as_str().expect("it is kept"));
    assert!(kept.join("new").exists());
}

/// One that cannot answer has not said no.
#[test]
fn a_git_that_cannot_say_what_is_new_is_not_taken_at_its_word() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let work = "git commit --quiet --allow-empty --message three";
    let path = failing(&sandbox, "--is-ancestor");
    let (checkout, said) = worked_with(&sandbox, Some(&path), work, 1);
    let why = checkout["notBroughtBack"].as_str();
    let why = why.unwrap_or_else(|| panic!("a reason: {said}"));
    assert!(
        why.ends_with("git failed (git: fatal: it is broken)"),
        "{why}"
    );
    assert!(checkout["kept"].is_string(), "{said}");
}

#[test]
fn what_is_on_another_branch_or_put_aside_comes_back_too() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let work = "git checkout --quiet -b topic/a && git commit --quiet --allow-empty --message aside && \
                git checkout --quiet main && echo put > README.md && git stash --quiet && git pack-refs --all && \
                git checkout --quiet -b loose && git commit --quiet --allow-empty --message loose && \
                git checkout --quiet --orphan pages && git commit --quiet --allow-empty --message pages && git checkout --quiet main";
    let (checkout, said) = worked(&sandbox, work);
    assert_eq!(checkout["commits"], 0);
    assert_eq!(checkout["otherCommits"], 5, "three, and the two of a stash");
    assert!(said.contains("on other branches or put aside"), "{said}");
    assert!(!said.contains("nothing was changed"), "{said}");
    let branches = [("topic-a", "aside"), ("loose", "loose"), ("pages", "pages")];
    for (branch, subject) in branches {
        let branch = format!("kubeopencode/do-it-{branch}");
        let log = git(&repository, &["log", "-1", "--format=%s", &branch]);
        assert_eq!(log, subject);
    }
    let shown = git(&repository, &["show", "kubeopencode/do-it-stash:README.md"]);
    assert_eq!(shown, "put");
    assert_eq!(checkout["broughtBack"]["branch"], Value::Null);
    // The commands that it says work, also where nothing is common with what was cloned.
    let commands: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
    assert_eq!(commands.len(), 4, "{said}");
    for command in commands {
        let shown = Command::new("sh").args(["-c", command]).output();
        assert!(shown.expect("sh starts").status.success(), "{command}");
    }
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

#[test]
fn all_that_was_put_aside_comes_back() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let put = |text: &str| format!("echo {text} > README.md && git stash --quiet");
    let work = ["first", "second", "third"].map(put).join(" && ");
    worked(&sandbox, &work);
    for (stash, text) in [
        ("stash", "third"),
        ("stash-2", "second"),
        ("stash-3", "first"),
    ] {
        let file = format!("kubeopencode/do-it-{stash}:README.md");
        assert_eq!(git(&repository, &["show", &file]), text);
    }
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
}

/// The only folder that is left, of a run whose work is nowhere else.
fn kept(sandbox: &Sandbox) -> PathBuf {
    let left = sandbox.leftovers();
    assert_eq!(left.len(), 1, "{left:?}");
    sandbox.temporary().join(&left[0])
}

#[test]
fn a_repository_inside_of_the_checkout_is_kept() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let work = "git init --quiet inner && git -C inner commit --quiet --allow-empty --message inner && echo new > new";
    let (checkout, said) = worked(&sandbox, work);
    assert_eq!(checkout["broughtBack"]["branch"], "kubeopencode/do-it");
    assert!(said.contains("a repository inside of"), "{said}");
    let place = Path::new(checkout["kept"].as_str().expect("a place"));
    assert!(place.starts_with(kept(&sandbox)));
    let subject = git(&place.join("inner"), &["log", "-1", "--format=%s"]);
    assert_eq!(subject, "inner");
}

/// What is committed there comes back; what is not is where nobody looks.
#[test]
fn a_checkout_with_another_working_tree_is_kept() {
    if !can_run_pods("run --repo") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    sandbox.write("repo/.gitignore", "trees/\n");
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "--quiet", "--message", "three"]);
    let work = "git worktree add --quiet trees/x -b x && echo new > trees/x/new";
    let (checkout, said) = worked(&sandbox, work);
    assert!(said.contains("another working tree of it"), "{said}");
    let place = Path::new(checkout["kept"].as_str().expect("a place"));
    assert!(place.join("trees/x/new").exists());
    assert!(place.starts_with(kept(&sandbox)));
}

/// Nobody brings commits back to a URL, and there is no push.
#[test]
fn a_clone_of_a_url_is_kept_if_the_agent_did_something_there() {
    if !can_run_pods("run -f with a URL") {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.repository("repo");
    let task = |command: &str| {
        let url = format!("file://{}", repository.display());
        let objects = [
            serde_json::json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent", "metadata": {"name": "default"},
                "spec": {"serviceAccountName": "default", "command": ["sh", "-c", command]},
            }),
            serde_json::json!({
                "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task", "metadata": {"name": "it"},
                "spec": {"description": "Do it", "contexts": [
                    {"type": "Git", "mountPath": "repo", "git": {"repository": url}},
                ]},
            }),
        ];
        sandbox.write("it.yaml", &objects.map(|it| it.to_string()).join("\n---\n"));
        sandbox.run(&["run", "-f", "it.yaml"]).expect_code(0).stderr
    };
    task("true");
    assert_eq!(sandbox.leftovers(), Vec::<String>::new());
    let said = task("echo new > repo/new");
    assert!(
        said.contains("what the agent left there is nowhere else, so it is kept: "),
        "{said}"
    );
    let folder = kept(&sandbox);
    assert!(said.contains(&*folder.to_string_lossy()), "{said}");
}

#[test]
fn a_second_interrupt_leaves_the_work_where_it_is() {
    if !can_run_pods("run and Ctrl-C twice") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let command = "trap '' TERM; echo new > new; echo working; sleep 1000; sleep 1000";
    let arguments = ["run", "Wait", "--repo", "repo", "--command", command];
    let (mut child, _stdout, _) = started(&sandbox, &arguments);
    signal(&child, "INT");
    while child.try_wait().expect("its status").is_none() {
        signal(&child, "INT");
    }
    let said = ended(child).expect_code(130).stderr;
    let place = said
        .lines()
        .find_map(|line| line.split_once("it is kept in "))
        .map(|(_, place)| Path::new(place));
    let place = place.unwrap_or_else(|| panic!("a place: {said}"));
    assert!(place.starts_with(kept(&sandbox)));
    assert!(place.join("new").exists());
}
