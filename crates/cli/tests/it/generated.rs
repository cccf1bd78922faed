//! Files that are written by subcommands are as these would write them now.

use std::path::Path;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kubeopencode_api::names;
use kubeopencode_operator::access::{ACCESS, Access, CONFIGURATION, LEASE};

use crate::support::Sandbox;

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_definitions_in_deploy_and_chart_are_fresh() {
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
    for folder in ["deploy/crds", "charts/kubeopencode/files/crds"] {
        assert!(
            read(&project().join(folder)) == fresh,
            "{folder} is stale: cargo run -- crds --dir {folder}"
        );
    }
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

/// The two documents that `rbac` prints with these arguments.
fn roles(arguments: &[&str]) -> (String, Role) {
    let arguments = [&["rbac"], arguments].concat();
    let printed = Sandbox::new().run(&arguments).expect_code(0).stdout;
    let (work, own) = printed.split_once("---\n").expect("two documents");
    let own = serde_saphyr::from_str(own).expect("a Role");
    (work.to_owned(), own)
}

#[test]
fn the_roles_of_an_operator_for_all_namespaces_are_its_access_rules() {
    let (work, own) = roles(&["--lease-name", "mine"]);
    for access in ACCESS {
        assert!(work.contains(access.why), "the reason stands there");
    }
    let work: ClusterRole = serde_saphyr::from_str(&work).expect("a ClusterRole");
    let rules: Vec<PolicyRule> = ACCESS.iter().map(Access::rule).collect();
    assert_eq!(work.rules, Some(rules));
    assert_eq!(
        own.metadata.namespace.as_deref(),
        Some("kubeopencode-system")
    );
    let lease: Vec<PolicyRule> = LEASE.iter().map(|access| access.rule_for("mine")).collect();
    let named = lease[0].resource_names.as_ref().expect("one Lease alone");
    assert_eq!(*named, ["mine"]);
    assert_eq!(own.rules, Some(lease));
}

#[test]
fn an_operator_for_one_namespace_needs_no_cluster_role() {
    let (work, own) = roles(&["-n", "team", "--system-namespace", "team"]);
    let work: Role = serde_saphyr::from_str(&work).expect("a Role");
    assert_eq!(work.metadata.namespace.as_deref(), Some("team"));
    assert_eq!(work.rules.map(|rules| rules.len()), Some(ACCESS.len()));
    assert_eq!(own.rules.map(|rules| rules.len()), Some(LEASE.len()));
    let (_, own) = roles(&["-n", "team", "--system-namespace", "system"]);
    let rules = own.rules.expect("rules");
    assert_eq!(
        rules[0],
        CONFIGURATION[0].rule_for(names::DEFAULT),
        "settings are in another one"
    );
    assert_eq!(rules.len(), 1 + LEASE.len());
}
