//! The first seeds, that a seed is enough to see a run again, and that the mutations are those of the code as it is.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use kubeopencode_operator::access::{ACCESS, LEASE};

fn simulation(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubeopencode-simulation"))
        .args(arguments)
        .output()
        .expect("the simulation starts")
}

fn succeeds(arguments: &[&str]) -> String {
    let output = simulation(arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut digests = Vec::new();
    for seed in ["1", "2", "3", "4", "5"] {
        let first = succeeds(&["--seed", seed, "--trace", "--lines", "100000"]);
        let again = succeeds(&["--seed", seed, "--trace", "--lines", "100000"]);
        let mut lines = first.lines().zip(again.lines());
        if let Some((one, other)) = lines.find(|(one, other)| one != other) {
            panic!("seed {seed}:\n  {one}\n  {other}");
        }
        digests.push(first.lines().last().map(str::to_owned));
    }
    digests.dedup();
    assert_eq!(digests.len(), 5, "each seed is another run");
}

/// More are one command: `cargo run -p kubeopencode-simulation -- --seeds 0..10000`.
#[test]
fn nothing_breaks_in_the_first_seeds_nor_has_the_operator_a_right_that_it_does_not_use() {
    let said = succeeds(&["--seeds", "0..200"]);
    println!("{said}");
    let mut lines = said.lines();
    let asked = lines.find_map(|line| line.strip_prefix("operators asked for: "));
    let asked: BTreeSet<String> = asked
        .expect("a line")
        .split(", ")
        .map(str::to_owned)
        .collect();
    // No request: what the API server looks at where an owner reference is to block deletion.
    let of_admission = ["update tasks/finalizers"];
    let rules = ACCESS.iter().chain(LEASE);
    let rights: BTreeSet<String> = rules
        .flat_map(|rule| {
            rule.verbs
                .iter()
                .map(|verb| format!("{verb} {}", rule.resource))
        })
        .filter(|right| !of_admission.contains(&right.as_str()))
        .collect();
    assert_eq!(asked, rights);
}

/// Whether each is caught too, `tests/simulation/mutate` tells, which takes long.
#[test]
fn every_mutation_applies() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/mutations");
    let mut patches = 0;
    for entry in std::fs::read_dir(folder).expect("the mutations") {
        let patch = entry.expect("a file").path();
        let applied = Command::new("git")
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .args(["apply", "--check"])
            .arg(&patch)
            .output()
            .expect("git starts");
        let said = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "{}: {said}", patch.display());
        patches += 1;
    }
    assert!(patches >= 10, "only {patches} mutations");
}
