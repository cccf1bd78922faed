//! The CEL rules, evaluated as the API server does.

use kube::{CustomResourceExt, core::cel::Validator};
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig, TOKENS, Task};
use serde_json::{Value, json};

fn messages<T: CustomResourceExt>(object: &Value, old: Option<&Value>) -> Vec<String> {
    let crd = T::crd();
    let schema = crd.spec.versions[0].schema.as_ref().expect("a schema");
    let schema = serde_json::to_value(&schema.open_api_v3_schema).expect("JSON");
    match Validator::new().validate(&schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

fn refused<T: CustomResourceExt>(object: &Value, part: &str) {
    let said = messages::<T>(object, None).join("\n");
    assert!(said.contains(part), "{object} was answered with {said:?}");
}

fn task(item: &Value) -> Value {
    json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task",
        "metadata": {"name": "t"}, "spec": {"contexts": [item]}
    })
}

fn agent(credential: &Value) -> Value {
    json!({
        "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Agent",
        "metadata": {"name": "a"}, "spec": {"serviceAccountName": "s", "credentials": [credential]}
    })
}

#[test]
fn items_that_are_complete_are_accepted() {
    for item in [
        json!({"type": "Text", "text": "x"}),
        json!({"type": "Text", "text": "", "mountPath": "a/b..c", "fileMode": 493}),
        json!({"type": "ConfigMap", "configMap": {"name": "m", "key": "k", "optional": true}}),
        json!({"type": "Git", "mountPath": "r", "git": {"repository": "https://h/r", "ref": "main", "path": ".claude/", "depth": 0}}),
        json!({"type": "Git", "mountPath": "r", "git": {"repository": "git@h:o/r"}}),
        json!({"type": "Git", "mountPath": "r", "git": {"repository": "ssh://git@h:22/o/r@v:1"}}),
        json!({"type": "Git", "mountPath": "r", "git": {"repository": "https://h/r", "push": {}}}),
        json!({"type": "Git", "mountPath": "r", "git": {"repository": "https://h/r", "push": {
            "branch": "agents/{{.taskNamespace}}/{{ .taskName }}-x", "secretRef": {"name": "s"},
            "uncommitted": "Commit", "allowBase": true,
        }}}),
        json!({"type": "Runtime", "runtime": {}}),
        json!({"type": "Runtime"}),
    ] {
        let said = messages::<Task>(&task(&item), None);
        assert!(said.is_empty(), "{item}: {said:?}");
    }
}

#[test]
fn items_that_are_not_are_refused_with_the_field() {
    let git = |more: Value| {
        let mut git = json!({"repository": "https://h/r"});
        for (key, value) in more.as_object().into_iter().flatten() {
            git[key] = value.clone();
        }
        json!({"type": "Git", "mountPath": "r", "git": git})
    };
    for (item, part) in [
        (
            json!({"type": "Text"}),
            "text is required when type is Text",
        ),
        (
            git(json!({"path": "docs", "push": {}})),
            "push is not possible with path",
        ),
        (
            git(json!({"repository": "file:///srv/r", "push": {}})),
            "push is not possible to a file:// repository",
        ),
        (
            git(json!({"push": {"branch": "a/{{.taskUID}}"}})),
            "branch may have {{.taskName}}",
        ),
        (
            git(json!({"push": {"branch": "refs/heads/main"}})),
            "must not begin with '-' or 'refs/'",
        ),
        (
            json!({"type": "ConfigMap"}),
            "configMap is required when type is ConfigMap",
        ),
        (
            json!({"type": "Git", "mountPath": "r"}),
            "git is required when type is Git",
        ),
        (
            json!({"type": "Runtime", "text": "x"}),
            "text is only allowed when type is Text",
        ),
        (
            json!({"type": "Text", "text": "x", "configMap": {"name": "m"}}),
            "configMap is only allowed",
        ),
        (
            json!({"type": "Text", "text": "x", "runtime": {}}),
            "runtime is only allowed",
        ),
        (
            json!({"type": "Text", "text": "x", "git": {"repository": "https://h/r"}}),
            "git is only allowed",
        ),
        (
            json!({"type": "Git", "git": {"repository": "https://h/r"}}),
            "mountPath is required when type is Git",
        ),
        (
            json!({"type": "Git", "mountPath": "", "git": {"repository": "https://h/r"}}),
            "mountPath is required when type is Git",
        ),
        (
            json!({"type": "Text", "text": "x", "mountPath": "a/../../b"}),
            "mountPath must not contain '..'",
        ),
        (
            git(json!({"repository": "ext::sh -c id"})),
            "repository must be a URL",
        ),
        (
            git(json!({"repository": "https://me:password@h/r"})),
            "repository has a password or token in its URL",
        ),
        (
            git(json!({"repository": "--upload-pack=id"})),
            "repository must be a URL",
        ),
        (git(json!({"ref": "-x"})), "ref must not begin with '-'"),
        (git(json!({"path": "../x"})), "path must be relative"),
        (git(json!({"path": "/x"})), "path must be relative"),
    ] {
        refused::<Task>(&task(&item), part);
    }
}

#[test]
fn credentials_say_where_they_go() {
    for credential in [
        json!({"name": "a", "secretRef": {"name": "s"}}),
        json!({"name": "a", "secretRef": {"name": "s"}, "mountPath": "/d"}),
        json!({"name": "a", "secretRef": {"name": "s", "key": "k"}, "env": "T", "mountPath": "/f", "fileMode": 256}),
    ] {
        let said = messages::<Agent>(&agent(&credential), None);
        assert!(said.is_empty(), "{credential}: {said:?}");
    }
    for (credential, part) in [
        (
            json!({"name": "a", "secretRef": {"name": "s"}, "env": "T"}),
            "env needs secretRef.key",
        ),
        (
            json!({"name": "a", "secretRef": {"name": "s", "key": "k"}}),
            "needs env, mountPath or both",
        ),
        (
            json!({"name": "a", "secretRef": {"name": "s"}, "fileMode": 256}),
            "fileMode needs mountPath",
        ),
        (
            json!({"name": "a", "secretRef": {"name": "s"}, "mountPath": "/a/../b"}),
            "mountPath must be absolute",
        ),
    ] {
        refused::<Agent>(&agent(&credential), part);
    }
}

#[test]
fn the_spec_of_a_started_task_is_immutable_and_its_metadata_is_not() {
    let mut old = task(&json!({"type": "Text", "text": "x"}));
    let mut new = old.clone();
    new["spec"]["description"] = json!("other");
    assert_eq!(messages::<Task>(&new, Some(&old)), Vec::<String>::new());
    // Also between two attempts, and after an end without any.
    for status in [
        json!({"phase": "Running", "jobName": "t-abcdef", "attempts": 1}),
        json!({"phase": "Pending", "attempts": 1}),
        json!({"phase": "Failed", "completionTime": "2026-01-01T00:00:00Z"}),
    ] {
        old["status"] = status;
        new["status"] = old["status"].clone();
        let said = messages::<Task>(&new, Some(&old)).join("\n");
        assert!(
            said.contains("spec is immutable once the Task has started or ended"),
            "{said}"
        );
    }
    let mut stopped = old.clone();
    stopped["metadata"]["annotations"] = json!({"kubeopencode.io/stop": "true"});
    assert_eq!(messages::<Task>(&stopped, Some(&old)), Vec::<String>::new());
}

/// What it is to do may be changed while it waits; whose slot it waits for, or has, may not.
#[test]
fn an_agent_may_be_changed_only_while_something_is_missing() {
    let mut old = task(&json!({"type": "Text", "text": "x"}));
    old["status"] = json!({"phase": "Queued", "queue": {"agent": "default", "position": 1}});
    let mut new = old.clone();
    new["spec"]["description"] = json!("other");
    assert_eq!(messages::<Task>(&new, Some(&old)), Vec::<String>::new());
    new["spec"]["agentRef"] = json!("other");
    let said = messages::<Task>(&new, Some(&old)).join("\n");
    assert!(
        said.contains("agentRef can be changed only while"),
        "{said}"
    );
    new["status"] = json!(null);
    old["status"] = json!(null);
    let said = messages::<Task>(&new, Some(&old)).join("\n");
    assert!(
        said.contains("agentRef can be changed only while"),
        "{said}"
    );
    old["status"] = json!({"phase": "Pending", "conditions": [{
        "type": "Ready", "status": "False", "reason": "ReferenceNotFound", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    new["status"] = old["status"].clone();
    assert_eq!(
        messages::<Task>(&new, Some(&old)),
        Vec::<String>::new(),
        "a typo can be mended"
    );
    let had_a_slot = json!({
        "type": "Queued", "status": "False", "reason": "Admitted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let conditions = old["status"]["conditions"].as_array_mut().unwrap();
    conditions.push(had_a_slot);
    new["status"] = old["status"].clone();
    let said = messages::<Task>(&new, Some(&old)).join("\n");
    assert!(
        said.contains("agentRef can be changed only while"),
        "{said}"
    );
}

#[test]
fn a_configuration_of_another_name_is_refused() {
    let config = |name: &str| json!({"metadata": {"name": name}, "spec": {}});
    refused::<KubeOpenCodeConfig>(&config("other"), "metadata.name must be 'default'");
    let said = messages::<KubeOpenCodeConfig>(&config("default"), None);
    assert!(said.is_empty(), "{said:?}");
}

/// The rule has a list of its own, which nothing but this compares with the other one.
#[test]
fn a_token_as_the_user_of_a_url_is_refused_for_each_host_that_is_known() {
    for token in TOKENS {
        let repository = format!("https://{token}0123abc@h/r");
        let item = json!({"type": "Git", "mountPath": "r", "git": {"repository": repository}});
        refused::<Task>(
            &task(&item),
            "repository has a password or token in its URL",
        );
    }
}
