//! Files that are written by subcommands are as these would write them now.

use std::path::Path;

use crate::support::Sandbox;

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_definitions_in_deploy_are_fresh() {
    let sandbox = Sandbox::new();
    sandbox.run(&["crds", "--dir", "crds"]).expect_code(0);
    let read = |folder: &Path| {
        let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let name = path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, std::fs::read_to_string(path).expect("text"))
            })
            .collect();
        files.sort();
        files
    };
    let fresh = read(&sandbox.work().join("crds"));
    assert!(
        read(&project().join("deploy/crds")) == fresh,
        "deploy/crds is stale: cargo run -- crds --dir deploy/crds"
    );
    let printed = sandbox.run(&["crds"]).expect_code(0).stdout;
    let joined: Vec<&str> = printed.split("\n---\n").collect();
    assert_eq!(
        joined.len(),
        fresh.len(),
        "crds prints one document for each"
    );
}

#[test]
fn the_reference_of_the_command_line_is_fresh() {
    let fresh = Sandbox::new().run(&["cli-reference"]).expect_code(0).stdout;
    let stored = std::fs::read_to_string(project().join("docs/cli.md")).expect("docs/cli.md");
    assert!(
        stored == fresh,
        "docs/cli.md is stale: cargo run -- cli-reference > docs/cli.md"
    );
}

#[test]
fn every_shell_gets_a_completion_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = Sandbox::new()
            .run(&["completion", shell])
            .expect_code(0)
            .stdout;
        assert!(script.contains("kubeopencode"), "{shell}");
    }
}
