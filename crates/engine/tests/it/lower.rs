//! From manifests to a Run, or to a sentence that says what is wrong.

mod repositories;
mod settings;

use k8s_openapi::api::core::v1::ConfigMap;
use kubeopencode_engine::{
    lower::{Found, FrontEnd as _, Lowered, Reference, References, kubeopencode::TaskFrontEnd},
    run::Credential,
};

use super::fixture::{Cluster, NAMESPACE};

/// A Task with these lines as its spec, and an Agent `default` with those.
fn cluster(agent: &str, task: &str, more: &str) -> Cluster {
    let task = if task.is_empty() {
        "description: do it"
    } else {
        task
    };
    let indent = |text: &str| text.trim().replace('\n', "\n  ");
    Cluster::of(&format!(
        "kind: Agent\nmetadata: {{name: default}}\nspec:\n  serviceAccountName: sa\n  {}\n---\n\
         kind: Task\nmetadata: {{name: fix}}\nspec:\n  {}\n{more}",
        indent(agent),
        indent(task)
    ))
}

fn task(task: &str) -> Cluster {
    cluster("command: [work]", task, "")
}

const GUIDES: &str = "
---
kind: ConfigMap
metadata: {name: guides}
data: {b.md: second, a.md: 'first, without end of line'}
binaryData: {logo.png: iVBORw0KGgo=}
";

#[test]
fn task_md_is_description_then_the_agents_contexts_then_the_tasks() {
    let cluster = cluster(
        "contexts: [{type: Text, text: of the agent}]",
        "description: Do it.\ncontexts: [{type: Text, text: of the task}, {type: Runtime}]",
        "",
    );
    let text = cluster.file("/workspace/task.md");
    let expected = "Do it.

<context name=\"default\" namespace=\"team-a\" type=\"Text\">
of the agent
</context>

<context name=\"fix\" namespace=\"team-a\" type=\"Text\">
of the task
</context>

<context name=\"fix\" namespace=\"team-a\" type=\"Runtime\">
";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("</context>\n"), "{text}");
    assert!(cluster.run().pod.service_account_token, "to ask the API");
}

#[test]
fn several_files_of_a_configmap_are_one_element_with_keys_sorted() {
    let more = GUIDES.replace("binaryData", "unused");
    let item = "contexts: [{type: ConfigMap, configMap: {name: guides}}]";
    insta::assert_snapshot!(cluster("", item, &more).file("/workspace/task.md"), @r#"
    <context name="guides" namespace="team-a" type="ConfigMap">
    <file name="a.md">
    first, without end of line
    </file>
    <file name="b.md">
    second
    </file>
    </context>
    "#);
}

#[test]
fn content_that_has_the_closing_tag_stands_unchanged_in_an_element_of_another_name() {
    let text = "contexts: [{type: Text, text: 'a </context> b </Context-2> c'}]";
    insta::assert_snapshot!(task(text).file("/workspace/task.md"), @r#"
    <context-3 name="fix" namespace="team-a" type="Text">
    a </context> b </Context-2> c
    </context-3>
    "#);
    let files = "\n---\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: 'x </file> y', b: z}";
    let item = "contexts: [{type: ConfigMap, configMap: {name: m}}]";
    insta::assert_snapshot!(cluster("", item, files).file("/workspace/task.md"), @r#"
    <context name="m" namespace="team-a" type="ConfigMap">
    <file-2 name="a">
    x </file> y
    </file-2>
    <file name="b">
    z
    </file>
    </context>
    "#);
}

#[test]
fn binary_content_needs_a_mount_path() {
    let item = "contexts: [{type: ConfigMap, configMap: {name: guides}}]";
    insta::assert_snapshot!(cluster("", item, GUIDES).error(), @r#"Task fix: contexts[0] (ConfigMap guides): the key "logo.png" is not text and cannot stand in task.md: give the item a mountPath"#);
    let item = "contexts: [{type: ConfigMap, mountPath: g, configMap: {name: guides}}]";
    let run = cluster("", item, GUIDES).run();
    let paths: Vec<&str> = run.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/workspace/task.md",
            "/workspace/g/a.md",
            "/workspace/g/b.md",
            "/workspace/g/logo.png"
        ]
    );
    assert_eq!(run.files[3].content, b"\x89PNG\r\n\x1a\n");
}

#[test]
fn paths_are_below_the_workspace_unless_absolute_and_are_made_normal() {
    let run = cluster(
        "workspaceDir: /srv//work/",
        "contexts:
- {type: Text, mountPath: guides/./a.md, text: x, fileMode: 0755}
- {type: Text, mountPath: /etc/app//key.json, text: x}",
        "",
    )
    .run();
    assert_eq!(run.workspace_dir, "/srv/work");
    assert_eq!(run.files[0].path, "/srv/work/task.md");
    assert_eq!(run.files[1].path, "/srv/work/guides/a.md");
    assert_eq!(run.files[1].mode, Some(0o755));
    assert_eq!(run.files[2].path, "/etc/app/key.json");
}

#[test]
fn paths_that_cannot_be_are_refused_with_the_names_of_the_items() {
    let text = |path: &str| format!("{{type: Text, mountPath: {path}, text: x}}");
    let git = |path: &str| {
        format!("{{type: Git, mountPath: {path}, git: {{repository: 'https://h/r'}}}}")
    };
    let two = |a: String, b: String| task(&format!("contexts: [{a}, {b}]")).error();
    let one = |a: String| task(&format!("contexts: [{a}]")).error();
    insta::assert_snapshot!(two(text("a"), text("/workspace/a/")), @"Task fix: contexts[0] (Text) and Task fix: contexts[1] (Text) both want the path /workspace/a: give one of them another mountPath");
    insta::assert_snapshot!(two(text("a/b"), text("a")), @"Task fix: contexts[0] (Text) wants /workspace/a/b, which lies inside /workspace/a, the file of Task fix: contexts[1] (Text): move one of them");
    insta::assert_snapshot!(two(git("r"), git("r/sub")), @"Task fix: contexts[1] (Git) wants /workspace/r/sub, which lies inside /workspace/r, the checkout of Task fix: contexts[0] (Git): move one of them");
    insta::assert_snapshot!(two(git("r"), text("r")), @"Task fix: contexts[0] (Git) and Task fix: contexts[1] (Text) both want the path /workspace/r: give one of them another mountPath");
    insta::assert_snapshot!(one(text("task.md")), @"Task fix: description (task.md) and Task fix: contexts[0] (Text) both want the path /workspace/task.md: give one of them another mountPath");
    insta::assert_snapshot!(one(text("a/../../etc")), @r#"Task fix: contexts[0] (Text): the path "a/../../etc" climbs out with '..': write where it is to be, without '..'"#);
    insta::assert_snapshot!(one(text("/tools/x")), @r#"Task fix: contexts[0] (Text): the path "/tools/x" is reserved for the system: choose another"#);
    insta::assert_snapshot!(one(text("/proc/x")), @r#"Task fix: contexts[0] (Text): the path "/proc/x" is reserved for the system: choose another"#);
    insta::assert_snapshot!(one(git("/")), @r#"Task fix: contexts[0] (Git): the path "/" is the root directory, which nothing can replace"#);
    // A file may lie in a checkout, and a checkout may be the workspace.
    task(&format!("contexts: [{}, {}]", git("."), text("docs/a"))).run();
    let secret = "credentials: [{name: c, secretRef: {name: s}, mountPath: /workspace/a}]";
    let error = cluster(secret, &format!("contexts: [{}]", text("a/b")), "").error();
    insta::assert_snapshot!(error, @"Task fix: contexts[0] (Text) wants /workspace/a/b, which lies inside /workspace/a, the directory of Agent default: credentials[0] (c): move one of them");
}

#[test]
fn the_workspace_must_be_a_directory_of_its_own() {
    for path in ["/", "/tools", "/proc/1", "/kubeopencode-context"] {
        let error = cluster(&format!("workspaceDir: {path}"), "", "").error();
        assert!(error.starts_with("workspaceDir: "), "{error}");
    }
}

#[test]
fn opencode_is_copied_only_where_the_command_names_it() {
    assert!(task("").run().images.opencode.is_none());
    let agent =
        r#"command: [sh, -c, '/tools/opencode run --format json "$(cat /workspace/task.md)"']"#;
    assert!(cluster(agent, "", "").run().images.opencode.is_some());
}

#[test]
fn what_is_missing_is_waited_for_and_named_and_what_is_optional_is_not() {
    let missing = |cluster: &Cluster| match cluster.lower() {
        Lowered::Missing { missing, timeout } => {
            assert_eq!(timeout.as_secs(), 300);
            missing.iter().map(ToString::to_string).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&task("agentRef: nobody")), ["Agent team-a/nobody"]);
    // Named, it has to exist; only the silent default may be absent.
    let explicit = "kind: Task\nmetadata: {name: fix}\nspec: {agentRef: default}";
    assert_eq!(missing(&Cluster::of(explicit)), ["Agent team-a/default"]);
    let contexts = "contexts:
- {type: ConfigMap, configMap: {name: nothing}}
- {type: ConfigMap, configMap: {name: guides, key: c.md}}
- {type: ConfigMap, configMap: {name: nothing, optional: true}}
- {type: ConfigMap, mountPath: c.md, configMap: {name: guides, key: c.md, optional: true}}";
    assert_eq!(
        missing(&cluster("", contexts, GUIDES)),
        [
            "ConfigMap team-a/nothing",
            "key \"c.md\" of ConfigMap team-a/guides"
        ]
    );
}

#[test]
fn what_can_never_be_valid_fails_although_something_is_missing_too() {
    let contexts = "contexts:
- {type: ConfigMap, configMap: {name: nothing}}
- {type: Text, mountPath: ../x, text: x}";
    assert!(task(contexts).error().contains("climbs out"));
}

#[test]
fn a_name_that_no_object_can_have_is_never_asked_for() {
    for name in ["no such", "x/status", "x?y", "..", "X", "-x", "x.", "ü"] {
        let error = task(&format!("agentRef: {name:?}")).error();
        assert!(error.starts_with("Task fix: agentRef: "), "{error}");
        let item = format!("contexts: [{{type: ConfigMap, configMap: {{name: {name:?}}}}}]");
        let error = task(&item).error();
        assert!(error.starts_with("Task fix: contexts[0] "), "{error}");
    }
    let good = task("agentRef: team.a-1");
    assert!(matches!(good.lower(), Lowered::Missing { .. }));
}

#[test]
fn a_hundred_thousand_keys_or_tags_are_no_work_to_speak_of() {
    let began = std::time::Instant::now();
    let mut cluster = task(
        "contexts: [{type: ConfigMap, mountPath: many, configMap: {name: many, optional: true}}]",
    );
    let many = ConfigMap {
        data: Some(
            (0..100_000)
                .map(|n| (format!("k{n}"), String::new()))
                .collect(),
        ),
        ..ConfigMap::default()
    };
    cluster.references.insert(
        Reference::config_map(NAMESPACE, "many"),
        Some(Found::ConfigMap(Box::new(many))),
    );
    assert_eq!(cluster.run().files.len(), 100_001);

    let tags: Vec<String> = (2..60_000).map(|n| format!("</context-{n}>")).collect();
    let tags = tags.concat();
    let text = task(&format!(
        "contexts: [{{type: Text, text: '</context>{tags}'}}]"
    ));
    let task_md = text.file("/workspace/task.md");
    assert!(task_md.ends_with("</context-60000>\n"));
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn all_references_are_asked_for_at_once_as_far_as_they_are_known() {
    let cluster = task("agentRef: a\ncontexts: [{type: ConfigMap, configMap: {name: m}}]");
    let asked = TaskFrontEnd::references(cluster.task(), &References::new(), &cluster.settings);
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    assert_eq!(
        asked,
        [
            "KubeOpenCodeConfig team-a/default",
            "KubeOpenCodeConfig kubeopencode-system/default",
            "Agent team-a/a",
            "ConfigMap team-a/m"
        ]
    );
}

#[test]
fn credentials_in_all_their_forms() {
    let agent = "credentials:
- {name: all, secretRef: {name: s}}
- {name: directory, secretRef: {name: s}, mountPath: /creds}
- {name: variable, secretRef: {name: s, key: k}, env: TOKEN}
- {name: file, secretRef: {name: s, key: k}, mountPath: /home/agent/.ssh/id, fileMode: 0400}
- {name: both, secretRef: {name: s, key: k}, env: OTHER, mountPath: here}";
    let key = |env: Option<&str>, file: Option<(&str, u32)>| Credential::Key {
        secret: "s".into(),
        key: "k".into(),
        env: env.map(Into::into),
        file: file.map(|(path, mode)| (path.into(), mode)),
    };
    assert_eq!(
        cluster(agent, "", "").run().credentials,
        [
            Credential::AllAsEnv { secret: "s".into() },
            Credential::Directory {
                secret: "s".into(),
                path: "/creds".into(),
                mode: 0o600
            },
            key(Some("TOKEN"), None),
            key(None, Some(("/home/agent/.ssh/id", 0o400))),
            key(Some("OTHER"), Some(("/workspace/here", 0o600))),
        ]
    );
    for (bad, problem) in [
        (
            "{name: a, secretRef: {name: s}, env: T}",
            "env needs secretRef.key",
        ),
        (
            "{name: a, secretRef: {name: s, key: k}}",
            "needs env, mountPath or both",
        ),
    ] {
        let error = cluster(&format!("credentials: [{bad}]"), "", "").error();
        assert!(
            error.contains("credentials[0] (a)") && error.contains(problem),
            "{error}"
        );
    }
    let twice = "credentials:
- {name: a, secretRef: {name: s, key: k}, env: T}
- {name: b, secretRef: {name: s, key: l}, env: T}";
    insta::assert_snapshot!(cluster(twice, "", "").error(), @"Agent default: credentials[1] (b): the variable T is already set by Agent default: credentials[0] (a)");
}

#[test]
fn a_resource_that_no_api_server_has_accepted_is_not_lowered() {
    let cluster = task("");
    let mut fresh = cluster.task().clone();
    fresh.metadata.uid = None;
    let lowered = TaskFrontEnd::lower(&fresh, &References::new(), &cluster.settings);
    assert!(matches!(lowered, Lowered::Invalid(_)), "{lowered:?}");
    let owner = TaskFrontEnd::owner(cluster.task()).expect("accepted");
    assert_eq!(
        (owner.name.as_str(), owner.namespace.as_str()),
        ("fix", NAMESPACE)
    );
}

#[test]
fn stop_is_the_annotation_with_a_word_for_yes() {
    for (value, stop) in [
        ("'true'", true),
        ("'True'", true),
        ("'yes'", true),
        ("'1'", true),
        ("'false'", false),
        ("''", false),
        ("'no'", false),
    ] {
        let cluster = Cluster::of(&format!(
            "kind: Task\nmetadata: {{name: a, annotations: {{kubeopencode.io/stop: {value}}}}}\nspec: {{}}"
        ));
        assert_eq!(
            TaskFrontEnd::stop_requested(cluster.task()),
            stop,
            "{value}"
        );
    }
}
