//! Profiles and limits: which agent it is, and how much it may do.

use kubeopencode_engine::handover::Limits;

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
    insta::assert_snapshot!(cluster("profile: Codex", "limits: {tokens: 5}").error(), @"limits.tokens: cannot be held: Codex does not tell of its tokens while it works. It can be limited by duration, steps");
    insta::assert_snapshot!(cluster("command: [sh, -c, ./agent]", "limits: {steps: 5}").error(), @"limits.steps: cannot be held: nothing is known of what Agent default runs; its profile has to be one that tells of its steps, or the limit has to go");
    insta::assert_snapshot!(cluster("command: [opencode, run, hello]", "limits: {cost: '1'}").error(), @"limits.cost: cannot be held: the command of Agent default does not make OpenCode print its events as JSON, as in `opencode run --format json`");
    let run = cluster("command: [sh, -c, ./agent]", "limits: {duration: 10m}").run();
    assert_eq!(run.limits.seconds, Some(600));
}
