//! `task logs`: what it promises, and its exit status where that is not what it gave.

use super::local::served::Local;
use crate::support::{Sandbox, can_run_pods};

const MANIFESTS: &str = "\
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {serviceAccountName: default, command: [sh, -c, 'cat task.md']}
---
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: it}
spec: {description: Do it.}
";

#[test]
fn a_log_that_is_not_given_to_its_end_is_no_success() {
    if !can_run_pods("task logs --follow") {
        return;
    }
    let sandbox = Sandbox::new();
    let _local = Local::start(&sandbox.data()).expect("it serves");
    sandbox.write("all.yaml", MANIFESTS);
    sandbox
        .run(&["task", "create", "-f", "all.yaml"])
        .expect_code(0);
    let follow = || sandbox.run(&["task", "logs", "--follow", "it"]);
    assert_eq!(follow().expect_code(0).stdout, "Do it.\n");
    // Its disk does not give the log any more: it leads to itself.
    let logs = sandbox.data().join("kubeopencode/logs");
    for pod in std::fs::read_dir(logs).expect("the logs") {
        let log = pod.expect("a Pod").path().join("agent/0.log");
        std::fs::remove_file(&log).expect("the log of the agent");
        std::os::unix::fs::symlink("0.log", &log).expect("a link");
    }
    let cut = follow().expect_code(1);
    assert_eq!(cut.stdout, "");
    let says = "error: it: the logs cannot be read to their end: ";
    assert!(
        cut.stderr.starts_with(says) && cut.stderr.contains("\nhint: "),
        "{}",
        cut.stderr
    );
    let cut = sandbox.run(&["task", "logs", "it"]).expect_code(1);
    assert!(
        cut.stderr.starts_with("error: agent: the logs"),
        "{}",
        cut.stderr
    );
    sandbox.run(&["task", "get", "it"]).expect_code(0);
}
