//! The real kubectl against `kubeopencode local`: the terminal sessions of `tests/kubectl`, whose README has the form.
//! With a real cluster beside it, the same sessions run there too, and what is printed must be the same.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/local.rs"]
mod local;
#[path = "support/some.rs"]
mod some;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, ensure};
use cluster::{Cluster, Session};
use libtest_mimic::{Arguments, Failed, Trial};
use local::Local;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/kubectl");
    let mut sessions: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("tests/kubectl is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    sessions.sort();
    let mut trials = Vec::new();
    let cluster = Cluster::of_environment();
    for kubectl in kubectls() {
        let has_node = cluster.as_ref().is_some_and(|cluster| {
            let answer = cluster.runs_pods(&kubectl);
            answer.expect("the cluster of KUBEOPENCODE_TEST_CLUSTER has nodes or not")
        });
        assert!(
            cluster.is_none() || has_node || !is_required("node"),
            "the cluster of KUBEOPENCODE_TEST_CLUSTER has no node"
        );
        let stays = kubectl.clone();
        trials.push(Trial::test(
            format!("what is somebody else's stays with {}", version(&kubectl)),
            move || {
                somebody_elses_stays(&stays).map_err(|error| Failed::from(format!("{error:#}")))
            },
        ));
        for path in &sessions {
            let name = format!(
                "{} with {}",
                path.file_stem().unwrap_or_default().to_string_lossy(),
                version(&kubectl)
            );
            let failed = |error| Failed::from(format!("{error:#}"));
            if let Some(cluster) = cluster.clone().filter(|_| !says(path, "local")) {
                let left_out = says(path, "pods") && !has_node;
                let (kubectl, path) = (kubectl.clone(), path.clone());
                let both = Trial::test(format!("{name}, there and here"), move || {
                    compare(&kubectl, &path, &cluster).map_err(failed)
                });
                trials.push(both.with_ignored_flag(left_out));
            }
            let (kubectl, path) = (kubectl.clone(), path.clone());
            trials.push(Trial::test(name, move || {
                run_here(&kubectl, &path).map(drop).map_err(failed)
            }));
        }
    }
    some::run(&arguments, trials)
}

/// The kubectls of this machine. None is an error where the environment requires them, and told loudly elsewhere.
#[expect(clippy::print_stderr, reason = "what is left out has to be seen")]
fn kubectls() -> Vec<PathBuf> {
    let listed = std::env::var_os("KUBEOPENCODE_TEST_KUBECTL");
    let found: Vec<PathBuf> = match &listed {
        Some(paths) => std::env::split_paths(paths).collect(),
        None => std::env::var_os("PATH")
            .iter()
            .flat_map(std::env::split_paths)
            .map(|folder| folder.join("kubectl"))
            .find(|program| program.is_file())
            .into_iter()
            .collect(),
    };
    if found.is_empty() {
        assert!(
            !is_required("kubectl"),
            "no kubectl: neither on PATH nor in KUBEOPENCODE_TEST_KUBECTL"
        );
        eprintln!(
            "LEFT OUT: there is no kubectl on PATH or in KUBEOPENCODE_TEST_KUBECTL, so nothing is tested with it"
        );
    }
    found
}

/// Whether the environment requires this of the machine, so that nothing may be left out for want of it.
fn is_required(what: &str) -> bool {
    std::env::var("KUBEOPENCODE_TEST_REQUIRE")
        .is_ok_and(|list| list.split(',').any(|item| item == what))
}

fn version(kubectl: &Path) -> String {
    let output = Command::new(kubectl)
        .args(["version", "--client", "-o", "json"])
        .output()
        .expect("kubectl runs");
    let version: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("kubectl version prints JSON");
    version["clientVersion"]["gitVersion"]
        .as_str()
        .unwrap_or("unknown")
        .to_owned()
}

/// One command of a session.
struct Line {
    number: usize,
    command: String,
    status: i32,
    expected: Vec<String>,
}

/// Whether a session has a line `! WORD`: it is about Pods that run (`pods`), or about a local cluster alone (`local`).
fn says(path: &Path, word: &str) -> bool {
    let wanted = format!("! {word}");
    std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(|line| line == wanted))
}

/// Runs a session on a local cluster.
fn run_here(kubectl: &Path, path: &Path) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let local = Local::start(&folder.path().join("data"))?;
    run(kubectl, path, local.kubeconfig(), folder.path())
}

/// A cluster with a namespace that a session would delete at its end is refused, and keeps it. Shown on a local one.
fn somebody_elses_stays(kubectl: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let local = Local::start(&folder.path().join("data"))?;
    let kubectl_there = |arguments: &str| {
        let mut command = Command::new(kubectl);
        command.args(arguments.split(' '));
        command.env("KUBECONFIG", local.kubeconfig()).output()
    };
    for namespace in ["kubeopencode-system", "session-hello"] {
        kubectl_there(&format!("create namespace {namespace}"))?;
        let cluster = Cluster::of(local.kubeconfig());
        let session = Session::begin(&cluster, kubectl, Path::new("hello.txt"), folder.path());
        let error = session.err().context("the session begins")?.to_string();
        ensure!(error.contains(namespace), "{error}");
        let there = kubectl_there(&format!(
            "get namespace {namespace} -o jsonpath={{.status.phase}}"
        ))?;
        let phase = String::from_utf8_lossy(&there.stdout).into_owned();
        ensure!(phase == "Active", "{namespace} is {phase:?}");
        kubectl_there(&format!("delete namespace {namespace} --wait"))?;
    }
    Ok(())
}

/// Runs a session on both clusters; each command must print the same.
fn compare(kubectl: &Path, path: &Path, cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let session = Session::begin(cluster, kubectl, path, folder.path())?;
    let there = run(kubectl, path, session.kubeconfig(), folder.path())
        .context("on the cluster of KUBEOPENCODE_TEST_CLUSTER")?;
    let here = run_here(kubectl, path)?;
    let lines = parse(&std::fs::read_to_string(path)?, folder.path())?;
    let mut different = Vec::new();
    for ((line, there), here) in lines.iter().zip(&there).zip(&here) {
        let (there, here) = (session.comparable(there), session.comparable(here));
        if there != here {
            let (number, command) = (line.number, &line.command);
            let path = path.display();
            different.push(format!(
                "{path}:{number}: $ {command}\nthere:\n{there}\nhere:\n{here}"
            ));
        }
    }
    ensure!(different.is_empty(), "{}", different.join("\n\n"));
    Ok(())
}

/// What each command of a session has printed. Each must be as the session says.
fn run(kubectl: &Path, path: &Path, kubeconfig: &Path, folder: &Path) -> Result<Vec<String>> {
    let bin = folder.join("bin");
    let work = folder.join("work");
    std::fs::create_dir_all(&bin)?;
    std::fs::create_dir_all(&work)?;
    std::os::unix::fs::symlink(kubectl, bin.join("kubectl"))?;
    let lines = parse(&std::fs::read_to_string(path)?, &work)?;
    let search = format!("{}:{}", bin.display(), std::env::var("PATH")?);
    let mut printed = Vec::new();
    for line in &lines {
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1; {}", line.command)])
            .current_dir(&work)
            .env("PATH", &search)
            .env("HOME", folder)
            .env("KUBECONFIG", kubeconfig)
            .env("KUBEOPENCODE", env!("CARGO_BIN_EXE_kubeopencode"))
            .env(
                "EXAMPLES",
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"),
            )
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let place = format!("{}:{}: $ {}", path.display(), line.number, line.command);
        ensure!(
            output.status.code() == Some(line.status),
            "{place}\nexit {:?}, expected {}:\n{text}",
            output.status.code(),
            line.status
        );
        let found: Vec<String> = text.lines().map(squeeze).collect();
        ensure!(
            matches(&line.expected, &found),
            "{place}\nexpected:\n{}\nfound:\n{text}",
            line.expected.join("\n")
        );
        printed.push(found.join("\n"));
    }
    Ok(printed)
}

/// Reads a session; writes its files into the folder.
fn parse(text: &str, folder: &Path) -> Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut source = text.lines().enumerate();
    while let Some((index, line)) = source.next() {
        if let Some(name) = line.strip_prefix("--- ") {
            let content: Vec<&str> = source
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != "---")
                .collect();
            std::fs::write(folder.join(name), content.join("\n"))?;
        } else if let Some(command) = line.strip_prefix("$ ") {
            lines.push(Line {
                number: index + 1,
                command: command.to_owned(),
                status: 0,
                expected: Vec::new(),
            });
        } else if let Some(last) = lines.last_mut() {
            match line.strip_prefix("? ") {
                Some(status) => {
                    last.status = status
                        .parse()
                        .with_context(|| format!("line {}", index + 1))?;
                }
                None => last.expected.push(squeeze(line)),
            }
        }
    }
    Ok(lines)
}

/// Runs of spaces become one, and none is left at the ends: columns move with the lengths of names.
fn squeeze(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn matches(expected: &[String], found: &[String]) -> bool {
    match (expected.split_first(), found.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            matches(rest, found)
                || found
                    .split_first()
                    .is_some_and(|(_, more)| matches(expected, more))
        }
        (Some((pattern, rest)), Some((line, more))) => {
            line_matches(pattern, line) && matches(rest, more)
        }
        _ => false,
    }
}

fn line_matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once("[..]") {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| line_matches(after, &rest[at..]))
        }),
    }
}
