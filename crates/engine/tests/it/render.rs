//! What every rendered Run has to hold, whatever it is.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec, SecurityContext};
use kubeopencode_engine::{
    handover::{ContextPlan, GitPlan},
    render::{RenderError, Rendered, job_name, label_value, render},
    run::{Checkout, Credential, File, Owner, Push, Run},
};
use proptest::prelude::*;

use super::fixture::Cluster;

fn run(command: &str) -> Run {
    Cluster::of(&format!(
        "kind: Agent\nmetadata: {{name: default}}\nspec: {{serviceAccountName: s, command: [{command}]}}\n---\n\
         kind: Task\nmetadata: {{name: fix}}\nspec: {{description: x}}"
    ))
    .run()
}

fn owner(name: &str, uid: &str) -> Owner {
    Owner {
        name: name.into(),
        uid: uid.into(),
        ..run("work").owner
    }
}

fn file(path: &str, size: usize) -> File {
    File {
        path: path.into(),
        content: vec![b'x'; size],
        mode: None,
    }
}

fn checkout(path: &str) -> Checkout {
    Checkout {
        path: path.into(),
        repository: "https://h/r".into(),
        reference: None,
        depth: 1,
        sub_path: None,
        submodules: false,
        secret: None,
        host_path: None,
        mode: None,
        push: None,
    }
}

fn pod(rendered: &Rendered) -> PodSpec {
    let spec = rendered.job.spec.clone().expect("spec");
    spec.template.spec.expect("Pod")
}

/// The mount paths of a container, with `:ro` where it only reads.
fn mounts(pod: &PodSpec, container: &str) -> Vec<String> {
    let all = pod.init_containers.iter().flatten().chain(&pod.containers);
    let container = all
        .into_iter()
        .find(|candidate| candidate.name == container)
        .expect("the container");
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            let ro = if mount.read_only == Some(true) {
                ":ro"
            } else {
                ""
            };
            format!("{}{ro}", mount.mount_path)
        })
        .collect()
}

fn plan<T: serde::de::DeserializeOwned>(rendered: &Rendered, key: &str) -> T {
    let config_map = rendered.config_maps.first().expect("a ConfigMap");
    let data = config_map.data.as_ref().expect("data");
    serde_json::from_str(&data[key]).expect("a plan")
}

fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

proptest! {
    #[test]
    fn names_are_valid_and_differ_for_each_owner_and_attempt(
        name in "[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,2}",
        uids in prop::collection::btree_set("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", 1..20),
    ) {
        let mut seen = BTreeSet::new();
        for uid in &uids {
            for attempt in 1..4 {
                let job = job_name(&owner(&name, uid), attempt);
                prop_assert!(is_dns_label(&job), "{job}");
                prop_assert!(seen.insert(job.clone()), "{job} twice");
            }
        }
        let label = label_value(&name);
        prop_assert!(label.len() <= 63);
        prop_assert!(label.ends_with(|c: char| c.is_ascii_alphanumeric()));
    }

    #[test]
    fn every_file_is_in_one_configmap_and_none_is_too_large(
        sizes in prop::collection::vec(0..400_000_usize, 0..12),
    ) {
        let mut run = run("work");
        for (index, size) in sizes.iter().enumerate() {
            run.files.push(file(&format!("/workspace/{index}"), *size));
        }
        let rendered = render(&run, 1).expect("small enough");
        let mut keys = BTreeSet::new();
        let mut names = BTreeSet::new();
        for config_map in &rendered.config_maps {
            let data = config_map.data.iter().flatten();
            let size: usize = data.clone().map(|(_, text)| text.len()).sum();
            prop_assert!(size <= 1024 * 1024);
            for (key, _) in data {
                prop_assert!(keys.insert(key.clone()), "{key} twice");
            }
            prop_assert!(names.insert(config_map.metadata.name.clone()));
        }
        let plan: ContextPlan = plan(&rendered, "context.json");
        prop_assert_eq!(plan.files.len(), run.files.len());
        for planned in &plan.files {
            prop_assert!(keys.contains(&planned.source));
        }
        // All of them are mounted, as one directory.
        let volumes = pod(&rendered).volumes.expect("volumes");
        let context = volumes.iter().find(|volume| volume.name == "context").expect("context");
        let sources = context.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        prop_assert_eq!(sources.map(Vec::len), Some(rendered.config_maps.len()));
    }
}

#[test]
fn a_created_again_owner_never_meets_its_predecessors_objects() {
    let names = |uid: &str| {
        let mut run = run("work");
        run.owner.uid = uid.into();
        let rendered = render(&run, 1).expect("rendered");
        let config_map = rendered.config_maps[0].metadata.name.clone();
        (rendered.job.metadata.name, config_map)
    };
    let (first, second) = (names("one"), names("two"));
    assert_ne!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

#[test]
fn other_content_is_another_configmap_because_a_job_keeps_the_files_that_it_was_rendered_with() {
    let mut run = run("work");
    let before = render(&run, 1).expect("rendered");
    run.files[0].content = b"changed".to_vec();
    let after = render(&run, 1).expect("rendered");
    assert_eq!(before.job.metadata.name, after.job.metadata.name);
    assert_ne!(
        before.config_maps[0].metadata.name,
        after.config_maps[0].metadata.name
    );
    assert_eq!(before.config_maps[0].immutable, Some(true));
}

#[test]
fn one_file_over_the_limit_is_refused_with_name_and_size() {
    let mut run = run("work");
    run.files.push(file("/workspace/big", 1024 * 1024 + 1));
    let error = render(&run, 1).expect_err("too large");
    assert!(
        matches!(&error, RenderError::FileTooLarge { path, size: 1_048_577, .. } if path == "/workspace/big")
    );
    insta::assert_snapshot!(error, @"/workspace/big is 1048577 bytes, and no file may have more than 1048576 (the limit of a ConfigMap): shorten it, or bring it in a Git repository");
    // Up to the limit it has a ConfigMap of its own.
    run.files.pop();
    run.files.push(file("/workspace/big", 1024 * 1024));
    assert_eq!(render(&run, 1).expect("rendered").config_maps.len(), 2);
}

#[test]
fn content_that_is_not_text_travels_as_binary_data() {
    let mut run = run("work");
    run.files.push(File {
        content: vec![0xff, 0],
        ..file("/workspace/logo png", 0)
    });
    let rendered = render(&run, 1).expect("rendered");
    let binary = rendered.config_maps[0].binary_data.clone().expect("binary");
    assert_eq!(binary["1-logo_png"].0, [0xff, 0]);
}

#[test]
fn files_outside_every_volume_are_mounted_alone() {
    let mut run = run("work");
    run.checkouts.push(checkout("/src/app"));
    run.files.push(file("/etc/app/key.json", 1));
    run.files.push(file("/src/app/docs/a.md", 1));
    run.files.push(file("/opt/b", 1));
    let rendered = render(&run, 1).expect("rendered");
    let plan: ContextPlan = plan(&rendered, "context.json");
    let targets: Vec<&str> = plan.files.iter().map(|file| file.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/workspace/task.md",
            "/kubeopencode-files/0",
            "/src/app/docs/a.md",
            "/kubeopencode-files/1"
        ]
    );
    let pod = pod(&rendered);
    assert_eq!(
        mounts(&pod, "agent"),
        [
            "/etc/app/key.json",
            "/kubeopencode-begun",
            "/opt/b",
            "/src/app",
            "/tmp",
            "/tools:ro",
            "/workspace"
        ]
    );
    let agent = pod.containers[0].volume_mounts.as_ref().expect("mounts");
    assert_eq!(agent[0].sub_path.as_deref(), Some("0"));
    assert_eq!(
        mounts(&pod, "context-init"),
        [
            "/workspace",
            "/src/app",
            "/tools",
            "/kubeopencode-context:ro",
            "/kubeopencode-files"
        ]
    );
}

#[test]
fn credentials_that_write_are_seen_by_git_push_alone_which_is_there_only_where_something_is_pushed()
{
    let mut run = run("work");
    run.checkouts.push(checkout("/workspace/a"));
    let push = Push {
        branch: "kubeopencode/fix".into(),
        secret: Some("writer".into()),
        uncommitted: true,
        allow_base: false,
    };
    let without = pod(&render(&run, 1).expect("rendered"));
    assert!(!format!("{without:?}").contains("push"));

    run.checkouts.push(Checkout {
        push: Some(push.clone()),
        ..checkout("/tmp/b")
    });
    run.checkouts.push(Checkout {
        secret: Some("writer".into()),
        push: Some(push),
        ..checkout("/workspace/c")
    });
    let rendered = render(&run, 1).expect("rendered");
    let pod = pod(&rendered);
    let last = pod
        .init_containers
        .iter()
        .flatten()
        .next_back()
        .expect("init containers");
    assert_eq!(last.name, "git-push");
    assert_eq!(last.restart_policy.as_deref(), Some("Always"));
    let variables = last.env.iter().flatten();
    assert!(
        variables
            .clone()
            .any(|variable| variable.name == "KUBEOPENCODE_GRACE_SECONDS"
                && variable.value.as_deref() == Some("30")),
        "{variables:?}"
    );
    assert_eq!(
        mounts(&pod, "git-push"),
        [
            "/kubeopencode-context:ro",
            "/kubeopencode-push",
            "/kubeopencode-push-secrets/0:ro",
            "/tmp/b:ro",
            "/tools:ro",
            "/workspace:ro",
        ]
    );
    for other in ["git-init", "context-init", "agent"] {
        let seen = mounts(&pod, other);
        assert!(
            !seen
                .iter()
                .any(|path| path.starts_with("/kubeopencode-push-secrets")),
            "{other}"
        );
    }
    let agent = mounts(&pod, "agent");
    assert!(
        agent.contains(&"/kubeopencode-push:ro".to_owned()),
        "{agent:?}"
    );
    let plan: GitPlan = plan(&rendered, "git.json");
    let secrets: Vec<_> = plan
        .checkouts
        .iter()
        .map(|checkout| {
            checkout
                .push
                .as_ref()
                .and_then(|push| push.secret_dir.as_deref())
        })
        .collect();
    let writer = Some("/kubeopencode-push-secrets/0");
    assert_eq!(secrets, [None, writer, writer]);

    // Nobody knows when an agent that is not supervised has ended.
    run.command = None;
    let unsupervised = format!("{:?}", render(&run, 1).expect("rendered"));
    assert!(!unsupervised.contains("push"));
}

#[test]
fn git_secrets_and_host_repositories_are_seen_by_git_init_alone() {
    let mut run = run("work");
    for (index, path) in ["/workspace/a", "/workspace/b", "/workspace/c"]
        .iter()
        .enumerate()
    {
        run.checkouts.push(Checkout {
            secret: (index < 2).then(|| "git-creds".into()),
            host_path: (index == 2).then(|| "/home/me/project".into()),
            repository: if index == 2 {
                "file:///home/me/project".into()
            } else {
                "https://h/r".into()
            },
            ..checkout(path)
        });
    }
    let rendered = render(&run, 1).expect("rendered");
    let pod = pod(&rendered);
    assert_eq!(
        mounts(&pod, "git-init"),
        [
            "/workspace",
            "/tools",
            "/kubeopencode-context:ro",
            "/kubeopencode-git-secrets/0:ro",
            "/kubeopencode-repositories/2:ro"
        ]
    );
    for other in ["context-init", "agent"] {
        let seen = mounts(&pod, other).join(" ");
        assert!(
            !seen.contains("secrets") && !seen.contains("repositories"),
            "{seen}"
        );
    }
    let plan: GitPlan = plan(&rendered, "git.json");
    assert_eq!(plan.checkouts[0].secret_dir, plan.checkouts[1].secret_dir);
    assert_eq!(
        plan.checkouts[2].repository,
        "file:///kubeopencode-repositories/2"
    );
    assert_eq!(
        plan.checkouts[2].origin.as_deref(),
        Some("file:///home/me/project")
    );
}

#[test]
fn the_environment_has_a_fixed_order_and_a_credential_wins() {
    let names = |run: &Run| -> Vec<String> {
        let pod = pod(&render(run, 1).expect("rendered"));
        let env = pod.containers[0].env.clone().expect("env");
        env.into_iter().map(|variable| variable.name).collect()
    };
    let mut run = run("/tools/opencode");
    run.checkouts.push(checkout("/workspace/a"));
    let credential = |env: &str| Credential::Key {
        secret: "s".into(),
        key: "k".into(),
        env: Some(env.into()),
        file: None,
    };
    run.credentials.push(credential("TOKEN"));
    assert_eq!(
        names(&run),
        [
            "HOME",
            "SHELL",
            "TASK_NAME",
            "TASK_NAMESPACE",
            "WORKSPACE_DIR",
            "TOKEN",
            "GIT_CONFIG_SYSTEM",
            "OPENCODE_DISABLE_AUTOUPDATE",
            "OPENCODE_DISABLE_MODELS_FETCH",
            "OPENCODE_DISABLE_SHARE",
            "OPENCODE_DISABLE_PROJECT_CONFIG",
            "OPENCODE_CONFIG_CONTENT",
            "KUBEOPENCODE_GRACE_SECONDS",
            "KUBEOPENCODE_REPORT_BYTES",
            "KUBEOPENCODE_PROFILE",
            "KUBEOPENCODE_SECRETS",
        ]
    );
    run.credentials.push(credential("OPENCODE_CONFIG_CONTENT"));
    let names = names(&run);
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    assert_eq!(count("OPENCODE_CONFIG_CONTENT"), 1);
    assert_eq!(names[6], "OPENCODE_CONFIG_CONTENT");
}

#[test]
fn without_a_known_command_the_image_runs_its_own_entrypoint_unsupervised() {
    let mut run = run("work");
    run.command = None;
    let pod = pod(&render(&run, 1).expect("rendered"));
    assert_eq!(pod.containers[0].command, None);
    assert_eq!(pod.containers[0].args, None);
}

/// What the supervisor is told, and when the kubelet ends the Pod.
fn timeout(run: &Run) -> (Option<String>, Option<i64>) {
    let pod = pod(&render(run, 1).expect("rendered"));
    let variables = pod.containers[0].env.clone().unwrap_or_default();
    let told = variables
        .into_iter()
        .find(|variable| variable.name == "KUBEOPENCODE_TIMEOUT_SECONDS");
    (
        told.and_then(|variable| variable.value),
        pod.active_deadline_seconds,
    )
}

#[test]
fn the_supervisor_holds_the_timeout_and_the_kubelet_ends_a_pod_that_never_gets_to_its_agent() {
    let mut run = run("work");
    assert_eq!(timeout(&run), (None, None));
    run.timeout = Some(Duration::from_millis(200));
    assert_eq!(timeout(&run), (Some("1".to_owned()), Some(3601)));
    run.timeout = Some(Duration::from_secs(2_147_483_647));
    assert_eq!(
        timeout(&run),
        (Some("2147483647".to_owned()), Some(2_147_483_647))
    );
}

#[test]
fn without_a_supervisor_the_kubelet_holds_the_timeout() {
    let mut run = run("work");
    run.command = None;
    run.timeout = Some(Duration::from_mins(1));
    assert_eq!(timeout(&run), (None, Some(60)));
}

#[test]
fn nothing_limits_or_repeats_the_job_itself() {
    let mut run = run("work");
    run.timeout = Some(Duration::from_mins(1));
    let rendered = render(&run, 1).expect("rendered");
    let spec = rendered.job.spec.expect("spec");
    assert_eq!(
        spec.active_deadline_seconds, None,
        "it would delete the Pod"
    );
    assert_eq!(spec.backoff_limit, Some(0));
    let policy = spec.pod_failure_policy.expect("it cannot be edited");
    assert!(policy.rules.iter().all(|rule| rule.action == "FailJob"));
    assert_eq!(spec.suspend, Some(true));
}

#[test]
fn the_agents_security_wins_field_by_field_and_the_systems_containers_stay_restricted() {
    let mut run = run("work");
    run.pod.security_context = Some(SecurityContext {
        privileged: Some(true),
        run_as_user: Some(1000),
        ..SecurityContext::default()
    });
    run.pod.pod_security_context = Some(PodSecurityContext {
        fs_group: Some(2000),
        ..PodSecurityContext::default()
    });
    let pod = pod(&render(&run, 1).expect("rendered"));
    let agent = pod.containers[0].security_context.as_ref().expect("set");
    // Kubernetes refuses `allowPrivilegeEscalation: false` beside `privileged: true`.
    assert_eq!(agent.allow_privilege_escalation, None);
    let init = pod.init_containers.as_ref().expect("init")[0].clone();
    let init = init.security_context.expect("set");
    assert_eq!(init.privileged, None);
    assert_eq!(
        init.run_as_user,
        Some(1000),
        "the agent owns what is left for it"
    );
    assert_eq!(init.allow_privilege_escalation, Some(false));
    let whole = pod.security_context.expect("set");
    assert_eq!(whole.fs_group, Some(2000));
    assert_eq!(whole.seccomp_profile.expect("set").type_, "RuntimeDefault");
}

/// `OpenCode` and others cannot work without a place for their sessions, and it goes with the Pod.
#[test]
fn the_home_of_an_agent_is_a_volume() {
    let home = |run: &Run| {
        let pod = pod(&render(run, 1).expect("it renders"));
        let volumes = pod.volumes.clone().unwrap_or_default();
        let is_there = volumes.iter().any(|volume| volume.name == "tmp");
        let at = mounts(&pod, "agent");
        let at_home = |path: &&String| path.trim_end_matches(":ro") == "/tmp";
        (at.iter().filter(at_home).count(), is_there)
    };
    let mut agent = run("work");
    assert_eq!(home(&agent), (1, true));
    // Once, where something else is there.
    agent.credentials = vec![Credential::Directory {
        secret: "keys".to_owned(),
        path: "/tmp".to_owned(),
        mode: 0o600,
    }];
    assert_eq!(home(&agent), (1, false));
    let mut agent = run("work");
    agent.workspace_dir = "/tmp".to_owned();
    assert_eq!(home(&agent), (1, false));
}

#[test]
fn the_systems_labels_win_over_the_agents() {
    let mut run = run("work");
    run.pod
        .labels
        .insert("kubeopencode.io/task".into(), "stolen".into());
    run.pod.labels.insert("team".into(), "a".into());
    let rendered = render(&run, 1).expect("rendered");
    let template = rendered.job.spec.expect("spec").template;
    let labels = template.metadata.expect("metadata").labels.expect("labels");
    assert_eq!(labels["kubeopencode.io/task"], "fix");
    assert_eq!(labels["team"], "a");
}

/// Names alone: a Pod can be read by many.
#[test]
fn supervise_is_told_where_the_secrets_are() {
    let told = |credentials: Vec<Credential>| {
        let mut run = run("/tools/opencode");
        run.credentials = credentials;
        let pod = pod(&render(&run, 1).expect("rendered"));
        let env = pod.containers[0].env.clone().expect("env");
        let variable = env.into_iter().find(|it| it.name == "KUBEOPENCODE_SECRETS");
        variable.and_then(|it| it.value)
    };
    assert_eq!(told(Vec::new()), None);
    let key = Credential::Key {
        secret: "s".into(),
        key: "k".into(),
        env: Some("TOKEN".into()),
        file: Some(("/home/agent/.token".into(), 0o600)),
    };
    let directory = Credential::Directory {
        secret: "t".into(),
        path: "/etc/keys".into(),
        mode: 0o600,
    };
    let expected = r#"{"variables":["TOKEN"],"allVariables":false,"files":["/home/agent/.token","/etc/keys"]}"#;
    assert_eq!(told(vec![key, directory]).as_deref(), Some(expected));
    let all = Credential::AllAsEnv { secret: "u".into() };
    assert_eq!(told(vec![all]).as_deref(), Some(r#"{"allVariables":true}"#));
}

/// Also where the duration is a limit, and `supervise` hangs.
#[test]
fn the_kubelet_ends_a_pod_that_is_active_for_long_after_its_stricter_limit() {
    let mut run = run("work");
    run.limits.seconds = Some(60);
    assert_eq!(timeout(&run), (None, Some(3660)));
    run.timeout = Some(Duration::from_mins(5));
    assert_eq!(timeout(&run), (Some("300".to_owned()), Some(3660)));
    run.timeout = Some(Duration::from_secs(30));
    assert_eq!(timeout(&run), (Some("30".to_owned()), Some(3630)));
}
