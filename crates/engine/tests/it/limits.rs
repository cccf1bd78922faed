//! Profiles and limits: which agent it is, and how much it may do.

use std::collections::BTreeMap;

use kubeopencode_agents::Profile;
use kubeopencode_engine::{handover::Limits, render::render};

use super::fixture::Cluster;

fn cluster(agent: &str, task: &str) -> Cluster {
    Cluster::of(&format!(
        "
kind: Agent
metadata: {{name: default}}
spec: {{serviceAccountName: a, {agent}}}
---
kind: Task
metadata: {{name: fix}}
spec: {{description: Fix it, {task}}}"
    ))
}

#[test]
fn a_profile_says_how_its_agent_is_started() {
    let started = |agent: &str| {
        let run = cluster(agent, "").run();
        let command = run.command.unwrap_or_default().join(" ");
        (run.profile.map(|profile| profile.name), command)
    };
    let (profile, command) = started("");
    assert_eq!(profile, Some("OpenCode"));
    assert!(
        command.contains("exec /tools/opencode run --format json <"),
        "{command}"
    );
    let (profile, command) = started("profile: ClaudeCode");
    assert_eq!(profile, Some("ClaudeCode"));
    assert!(
        command.contains("exec claude --print --output-format stream-json"),
        "{command}"
    );
    // Of a command, its words tell, unless somebody says better.
    let (profile, _) = started("command: [sh, -c, 'codex exec --json - < task.md']");
    assert_eq!(profile, Some("Codex"));
    let (profile, _) =
        started("profile: Command, command: [sh, -c, 'codex exec --json - < task.md']");
    assert_eq!(profile, None);
    insta::assert_snapshot!(cluster("profile: Command", "").error(), @"Agent default: command: has to be there for the profile Command");
}

/// Otherwise an Agent that says the word would be as one whose output is not read.
#[test]
fn every_profile_of_the_api_is_known_and_the_other_way_round() {
    let definitions = kubeopencode_api::crds();
    let agent = definitions
        .iter()
        .find(|definition| definition.spec.names.kind == "Agent");
    let agent = serde_json::to_value(agent).expect("JSON");
    let spec = &agent["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let words = spec["properties"]["profile"]["enum"].as_array();
    let mut words: Vec<&str> = words
        .expect("a list")
        .iter()
        .filter_map(serde_json::Value::as_str)
        .collect();
    words.retain(|word| *word != "Command");
    words.sort_unstable();
    let mut known = Profile::ALL.map(|profile| profile.name).to_vec();
    known.sort_unstable();
    assert_eq!(words, known);
    for word in words {
        let run = cluster(&format!("profile: {word}"), "").run();
        assert_eq!(run.profile.map(|profile| profile.name), Some(word));
    }
}

#[test]
fn a_profile_has_its_variables_and_who_sets_them_himself_has_his_own() {
    let environment = |agent: &str| {
        let rendered = render(&cluster(agent, "").run(), 1).expect("it can be rendered");
        let pod = rendered.job.spec.and_then(|job| job.template.spec);
        let env = pod.and_then(|mut pod| pod.containers.remove(0).env);
        let env = env.unwrap_or_default().into_iter();
        env.map(|variable| (variable.name, variable.value.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let said = |agent: &str, name: &str| {
        let mut values = environment(agent)
            .into_iter()
            .filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value);
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    };
    assert_eq!(
        said("profile: ClaudeCode", "IS_SANDBOX").as_deref(),
        Some("1")
    );
    assert_eq!(
        said("profile: ClaudeCode", "KUBEOPENCODE_PROFILE").as_deref(),
        Some("ClaudeCode")
    );
    assert_eq!(said("profile: ClaudeCode", "OPENCODE_DISABLE_SHARE"), None);
    let own = "profile: ClaudeCode, credentials: [{name: own, secretRef: {name: s, key: k}, env: IS_SANDBOX}]";
    assert_eq!(
        said(own, "IS_SANDBOX").as_deref(),
        Some(""),
        "from the Secret"
    );
    // Who says Command does not want its output to be read. What its program needs where nobody answers it needs all the same.
    let unread = "profile: Command, command: [sh, -c, /tools/opencode run --format json < task.md]";
    assert_eq!(said(unread, "OPENCODE_DISABLE_SHARE").as_deref(), Some("1"));
    assert_eq!(said(unread, "KUBEOPENCODE_PROFILE"), None);
    assert_eq!(
        said(
            "profile: Command, command: [./agent]",
            "OPENCODE_DISABLE_SHARE"
        ),
        None
    );
    // All keys of a Secret may have any of them among them, and would lose to it unseen.
    let all = "profile: OpenCode, credentials: [{name: all, secretRef: {name: s}}]";
    assert!(said("profile: OpenCode", "OPENCODE_CONFIG_CONTENT").is_some());
    assert_eq!(said("profile: OpenCode", "KUBEOPENCODE_DEFAULTS"), None);
    assert_eq!(said(all, "OPENCODE_CONFIG_CONTENT"), None);
    assert_eq!(said(all, "OPENCODE_DISABLE_SHARE"), None);
    let defaults = said(all, "KUBEOPENCODE_DEFAULTS").expect("for supervise to fill in");
    let defaults: BTreeMap<String, String> = serde_json::from_str(&defaults).expect("JSON");
    assert_eq!(
        defaults.get("OPENCODE_CONFIG_CONTENT"),
        said("profile: OpenCode", "OPENCODE_CONFIG_CONTENT").as_ref()
    );
    assert_eq!(
        defaults.get("OPENCODE_DISABLE_SHARE").map(String::as_str),
        Some("1")
    );
    // What it allows unasked stands before the operator's own rules; that variable would stand after them.
    assert_eq!(said("profile: OpenCode", "OPENCODE_PERMISSION"), None);
    assert_eq!(
        said("limits: {steps: 3, duration: 1m}", "KUBEOPENCODE_LIMITS").as_deref(),
        Some(r#"{"seconds":60,"steps":3}"#)
    );
    assert_eq!(said("", "KUBEOPENCODE_LIMITS"), None);
}

#[test]
fn a_task_can_only_be_stricter_than_its_agent() {
    let both = cluster(
        "limits: {duration: 1h, steps: 50, tokens: 1000, cost: '2.50'}",
        "limits: {duration: 2h, steps: 20, tokens: 2000, cost: '0.5'}",
    );
    let run = both.run();
    let expected = Limits {
        seconds: Some(3600),
        steps: Some(20),
        tokens: Some(1000),
        cost: Some("0.5".into()),
    };
    assert_eq!(run.limits, expected);
    assert_eq!(cluster("", "").run().limits, Limits::default());
    // And whoever asks for more hears of it.
    let mut told = both.told();
    told.retain(|[name, ..]| name.starts_with("limits."));
    told.sort();
    let lines: Vec<String> = told.iter().map(|words| words.join(" | ")).collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    limits.cost | 0.5 | its own spec
    limits.duration | 1h (its own spec says 2h, which is laxer) | Agent team-a/default
    limits.steps | 20 | its own spec
    limits.tokens | 1000 (its own spec says 2000, which is laxer) | Agent team-a/default
    ");
}

/// One that does not hold would only seem to protect.
#[test]
fn a_limit_that_cannot_be_held_is_refused() {
    insta::assert_snapshot!(cluster("profile: Codex", "limits: {tokens: 5}").error(), @"Task fix: limits.tokens: cannot be held: Codex does not tell of its tokens while it works. It can be limited by duration, steps");
    insta::assert_snapshot!(cluster("command: [sh, -c, ./agent]", "limits: {steps: 5}").error(), @"Task fix: limits.steps: cannot be held: nothing is known of what Agent default runs; its profile has to be one that tells of its steps, or the limit has to go");
    insta::assert_snapshot!(cluster("command: [opencode, run, hello]", "limits: {cost: '1'}").error(), @"Task fix: limits.cost: cannot be held: the command of Agent default does not make OpenCode print its events as JSON, as in `opencode run --format json`");
    // A word of the prompt makes no agent tell.
    insta::assert_snapshot!(cluster("command: [sh, -c, \"claude -p 'fix package.json'\"]", "limits: {steps: 5}").error(), @"Task fix: limits.steps: cannot be held: the command of Agent default does not make ClaudeCode print its events as JSON, as in `claude --print --output-format stream-json --verbose --dangerously-skip-permissions --setting-sources user --add-dir .`");
    // Whose limit has to change: the one that holds.
    let whose = |agent: &str, task: &str| {
        let error = cluster(&format!("profile: Codex, {agent}"), task).error();
        let (whose, _) = error.split_once(": cannot be held").expect("a refusal");
        whose.to_owned()
    };
    assert_eq!(
        whose("limits: {tokens: 5}", ""),
        "Agent default: limits.tokens"
    );
    assert_eq!(
        whose("limits: {tokens: 5}", "limits: {tokens: 9}"),
        "Agent default: limits.tokens"
    );
    assert_eq!(
        whose("limits: {tokens: 5}", "limits: {tokens: 3}"),
        "Task fix: limits.tokens"
    );
    let run = cluster("command: [sh, -c, ./agent]", "limits: {duration: 10m}").run();
    assert_eq!(run.limits.seconds, Some(600));
}
