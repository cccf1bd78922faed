//! `run --env`: variables that an agent gets, and that nobody else sees.

use crate::support::{Outcome, Sandbox, can_run_pods};

/// Runs it with these variables in its environment, to an end that is good.
fn run_with(sandbox: &Sandbox, variables: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = sandbox.command(arguments);
    let output = command.envs(variables.iter().copied()).output();
    Outcome::of(&output.expect("the binary starts")).expect_code(0)
}

/// What is said of a file with this in it.
fn refused(sandbox: &Sandbox, file: &str) -> String {
    sandbox.write("broken.env", file);
    let arguments = [
        "run",
        "Say it",
        "--command",
        "true",
        "--env-file",
        "broken.env",
    ];
    sandbox.run(&arguments).expect_code(2).stderr
}

#[test]
fn variables_come_by_name_or_from_files_and_never_by_an_argument() {
    if !can_run_pods("run --env") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.write(
        ".env",
        "# of the project\nexport ONE=\"1 2\"\nTOKEN=from-the-file\n",
    );
    let arguments = [
        "run",
        "Say it",
        "--env",
        "TOKEN",
        "--env-file",
        ".env",
        "--command",
    ];
    let arguments = [&arguments[..], &["echo \"$ONE, $TOKEN, $OTHER\""]].concat();
    let variables = [("TOKEN", "hush"), ("OTHER", "unseen")];
    let outcome = run_with(&sandbox, &variables, &arguments);
    assert_eq!(outcome.stdout, "1 2, hush, \n");
    for (arguments, part) in [
        (["--env", "TOKEN=hush"], "others"),
        (
            ["--env", "NOT_THERE"],
            "--env NOT_THERE: there is no such variable",
        ),
        (["--env", "1"], "cannot be the name of a variable"),
        (
            ["--env-file", "nowhere"],
            "--env-file nowhere: cannot be read: No such file",
        ),
    ] {
        let arguments = [&["run", "Say it", "--command", "true"], &arguments[..]].concat();
        let said = sandbox.run(&arguments).expect_code(2).stderr;
        assert!(said.contains(part), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    let said = refused(&sandbox, "# of the project\nGOOD=1\n\nhush hush\n");
    assert!(
        said.contains("--env-file broken.env:4: this is not of the form"),
        "{said}"
    );
    assert!(!said.contains("hush"), "{said}");
}

/// A password may have any character in it, and nobody has named the variables of the environment.
#[test]
fn a_value_in_a_file_is_taken_as_it_stands_there() {
    if !can_run_pods("run --env-file") {
        return;
    }
    let sandbox = Sandbox::new();
    let file = r#"
# $UNNAMED
A=pa$UNNAMED
B="pa${UNNAMED}ss"
C='it's pa\$UNNAMED'
D=white space, say "hi" #9
E={"a": "b\nc"}
F="of two
$UNNAMED lines"
G=$
"#;
    sandbox.write(".env", file);
    let command = "for name in A B C D E F G; do printenv $name; done";
    let arguments = [
        "run",
        "Say it",
        "--raw",
        "--env-file",
        ".env",
        "--command",
        command,
    ];
    let outcome = run_with(&sandbox, &[("UNNAMED", "unseen")], &arguments);
    let values = [
        "pa$UNNAMED",
        "pa${UNNAMED}ss",
        r"it's pa\$UNNAMED",
        "white space, say \"hi\" #9",
        r#"{"a": "b\nc"}"#,
        "of two\n$UNNAMED lines",
        "$",
    ];
    assert_eq!(
        outcome.stdout,
        values.map(|value| format!("{value}\n")).concat()
    );
    let said = refused(&sandbox, "A=$UNNAMED\nhush$UNNAMED hush\n");
    let words = "--env-file broken.env:2: this is not of the form";
    assert!(said.contains(words) && !said.contains("hush"), "{said}");
    let said = refused(&sandbox, "A=1\nB='hush\nhush\n");
    let words = "--env-file broken.env:2: its value begins with a quote";
    assert!(said.contains(words) && !said.contains("hush"), "{said}");
}

#[test]
fn a_secret_that_the_agent_prints_is_hidden_unless_its_bytes_are_asked_for() {
    if !can_run_pods("run --env") {
        return;
    }
    let sandbox = Sandbox::new();
    let print = ["run", "Say it", "--env", "KEY", "--command"];
    let print = [&print[..], &["printf 'with %s' \"$KEY\""]].concat();
    let variables = [("KEY", "hush-hush-hush")];
    let printed = |arguments: &[&str]| run_with(&sandbox, &variables, arguments).stdout;
    assert_eq!(printed(&print), "with ***");
    let raw = [&print[..], &["--raw"]].concat();
    assert_eq!(printed(&raw), "with hush-hush-hush");
}

/// In its last message, in the subject of a commit, in the name of a branch.
#[test]
fn a_secret_that_the_agent_tells_is_not_in_the_result() {
    if !can_run_pods("run --env") {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.repository("repo");
    let event = r#"{"type":"text","sessionID":"s","part":{"text":"the key is KEY"}}"#;
    let work = format!(
        "echo '{event}' | sed s/KEY/$KEY/ && git checkout --quiet -b with-$KEY && git commit --quiet --allow-empty --message \"with $KEY\""
    );
    // It stands in for OpenCode, so its program is named.
    let work = format!("{work} # opencode");
    let arguments = [
        "run",
        "Say it",
        "--repo",
        "repo",
        "--env",
        "KEY",
        "-o",
        "json",
        "--command",
        &work,
    ];
    let outcome = run_with(&sandbox, &[("KEY", "hush-hush-hush")], &arguments);
    for words in ["the key is ***", "with ***", "with-***"] {
        assert!(
            outcome.stdout.contains(words),
            "{words}: {}",
            outcome.stdout
        );
    }
    assert!(!outcome.stdout.contains("hush"), "{}", outcome.stdout);
    assert!(!outcome.stderr.contains("hush"), "{}", outcome.stderr);
}
