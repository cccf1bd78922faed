//! How a Run ended, as its Pod and the report of its agent say.

use kubeopencode_engine::{
    decide::explain,
    observe::{ContainerState, ContainerView},
    state::{Phase, Reason},
};
use serde_json::json;

use super::{fixture::status_of, moment::Moment};

#[test]
fn how_the_pod_ended_is_how_the_task_ended() {
    let cases = [
        (
            "Succeeded",
            "",
            "{exitCode: 0}",
            Reason::Succeeded,
            "exit code 0",
        ),
        (
            "Failed",
            "",
            "{exitCode: 3, reason: Error}",
            Reason::AgentExitNonZero,
            "exit code 3",
        ),
        (
            "Failed",
            "",
            "{exitCode: 137, reason: OOMKilled}",
            Reason::AgentExitNonZero,
            "memory",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 127, message: '{"error":"no-such-agent: not found"}'}"#,
            Reason::AgentExitNonZero,
            "no-such-agent",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 143, message: '{"signal":"SIGTERM"}'}"#,
            Reason::AgentExitNonZero,
            "SIGTERM",
        ),
        (
            "Failed",
            "",
            "{exitCode: 128, reason: StartError, message: no such file}",
            Reason::InfrastructureError,
            "no such file",
        ),
        (
            "Failed",
            "reason: DeadlineExceeded",
            "{exitCode: 143}",
            Reason::Timeout,
            "its Pod had not ended 1h30m after its node took it",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 124, message: '{"exitCode":0,"timedOutAfterSeconds":5400}'}"#,
            Reason::Timeout,
            "it ran longer than its timeout of 1h30m",
        ),
        (
            "Failed",
            "reason: Evicted",
            r#"{exitCode: 124, message: '{"timedOutAfterSeconds":5400}'}"#,
            Reason::Timeout,
            "1h30m",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 124, message: '{"exitCode":124}'}"#,
            Reason::AgentExitNonZero,
            "exit code 124",
        ),
        (
            "Failed",
            "reason: Evicted\n  message: low on memory",
            "{exitCode: 137}",
            Reason::InfrastructureError,
            "Evicted: low on memory",
        ),
        (
            "Failed",
            "initContainerStatuses: [{name: git-init, image: i, imageID: x, ready: false, restartCount: 0, state: {terminated: {exitCode: 1, message: no branch x}}}]",
            "{exitCode: 1}",
            Reason::InfrastructureError,
            "git-init failed: no branch x",
        ),
        (
            "Failed",
            "initContainerStatuses: [{name: git-init, image: i, imageID: x, ready: false, restartCount: 0, state: {terminated: {exitCode: 1, message: \"git-init: no branch x\\ngit-init: no branch y\"}}}]",
            "{exitCode: 1}",
            Reason::InfrastructureError,
            "git-init failed: no branch x\nno branch y",
        ),
    ];
    for (phase, more, terminated, reason, message) in cases {
        let mut moment = Moment::running();
        moment.agent_ended(phase, more, terminated);
        let (_, ended, said) = moment.end();
        assert_eq!(ended, reason, "{terminated}: {said}");
        assert!(said.contains(message), "{said}");
    }
}

/// The kubelet makes up an exit code where it does not know one.
#[test]
fn of_an_agent_that_nobody_saw_end_the_exit_code_is_unknown() {
    let mut moment = Moment::running();
    moment.agent_ended(
        "Failed",
        "reason: Evicted",
        "{exitCode: 137, reason: ContainerStatusUnknown, containerID: 'containerd://a'}",
    );
    assert_eq!(moment.reason(), Reason::InfrastructureError);
    let result = moment.state.result.expect("a result");
    assert_eq!((result.exit_code, result.duration_millis), (None, None));
}

/// Nobody knows how far it got the first time.
#[test]
fn an_agent_that_was_not_started_a_second_time_has_not_failed_by_itself() {
    let mut moment = Moment::running();
    let refused = r#"{exitCode: 126, message: '{"error":"the agent has begun in this Pod before","begunBefore":true}'}"#;
    moment.agent_ended("Failed", "", refused);
    let (_, reason, said) = moment.end();
    assert_eq!(reason, Reason::InfrastructureError);
    assert_eq!(said, "the agent has begun in this Pod before");
}

/// The exit code alone does not say whether the work is done.
#[test]
fn what_the_agent_told_is_part_of_how_the_task_ended() {
    let cases = [
        (
            "Failed",
            "",
            r#"{exitCode: 124, message: '{"exitCode":0,"passed":{"limit":"steps","allowed":"10","reached":"11"}}'}"#,
            Reason::LimitExceeded,
            "the agent was told to end at steps 11: limits.steps is 10",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 124, message: '{"exitCode":0,"passed":{"limit":"steps","allowed":"10","reached":"11","endedByItself":true}}'}"#,
            Reason::LimitExceeded,
            "the agent had ended at steps 11: limits.steps is 10",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 124, message: '{"exitCode":0,"passed":{"limit":"cost","allowed":"5","reached":"unknown"}}'}"#,
            Reason::LimitExceeded,
            "the agent was told to end with a cost that is not known (the model has no price): limits.cost is 5",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 70, message: '{"exitCode":0,"agent":{"steps":1,"tools":1,"refused":1,"stopped":"after a tool call","failure":{"class":"PermissionRefused","message":"no"}}}'}"#,
            Reason::AgentUnfinished,
            "the agent ended with exit code 0, and stopped after a tool call, which was refused",
        ),
        (
            "Failed",
            "",
            r#"{exitCode: 1, message: '{"exitCode":1,"agent":{"steps":0,"tools":0,"failure":{"class":"Authentication","message":"bad key"}}}'}"#,
            Reason::AgentExitNonZero,
            "the agent ended with exit code 1: Authentication: bad key",
        ),
        (
            "Succeeded",
            "",
            r#"{exitCode: 0, message: '{"exitCode":0,"checkouts":[{"path":"/w","commits":0,"dirty":false}]}'}"#,
            Reason::Succeeded,
            "the agent ended with exit code 0, and changed nothing",
        ),
        (
            "Succeeded",
            "",
            r#"{exitCode: 0, message: '{"exitCode":0,"agent":{"steps":1,"unread":1,"endIsUnread":true}}'}"#,
            Reason::Succeeded,
            "the agent ended with exit code 0; what it printed last was not read, so how it ended is not known",
        ),
    ];
    for (phase, more, terminated, reason, message) in cases {
        let mut moment = Moment::running();
        moment.agent_ended(phase, more, terminated);
        let (_, ended, said) = moment.end();
        assert_eq!((ended, said.as_str()), (reason, message), "{terminated}");
    }
}

/// `supervise` says so and cannot be wrong; whose exit code came through all the same is an agent of an older version.
#[test]
fn an_agent_that_ends_with_0_when_its_time_is_over_has_not_succeeded_and_keeps_its_result() {
    let mut moment = Moment::running();
    let report = r#"{"exitCode":0,"timedOutAfterSeconds":60,"durationMillis":60100,"checkouts":[{"path":"/workspace/r","commits":2}]}"#;
    moment.agent_ended(
        "Succeeded",
        "",
        &format!("{{exitCode: 0, message: '{report}'}}"),
    );
    assert_eq!(
        moment.end(),
        (
            Phase::Failed,
            Reason::Timeout,
            "it ran longer than its timeout of 1m".to_owned()
        )
    );
    let result = moment.state.result.expect("a result");
    assert_eq!(
        (result.exit_code, result.duration_millis),
        (Some(0), Some(60_100))
    );
    assert_eq!(result.checkouts[0].commits, Some(2));
}

/// `supervise` says that it ended the agent only where nobody had told the agent to end before. So whoever wants its end
/// while it has its grace is too late, whatever the clocks say.
#[test]
fn a_timeout_or_a_limit_comes_before_a_stop_and_a_deletion_that_came_during_its_grace() {
    let timeout = r#"{exitCode: 124, finishedAt: '2026-01-01T01:00:00Z', message: '{"exitCode":0,"toldToEnd":false,"timedOutAfterSeconds":60}'}"#;
    let limit = r#"{exitCode: 124, finishedAt: '2026-01-01T01:00:00Z', message: '{"exitCode":0,"toldToEnd":false,"passed":{"limit":"steps","allowed":"10","reached":"11"}}'}"#;
    for (late, reason) in [(timeout, Reason::Timeout), (limit, Reason::LimitExceeded)] {
        let mut moment = Moment::running();
        moment.stop = true;
        moment.record();
        moment.agent_ended("Failed", "", late);
        assert_eq!(moment.reason(), reason);
        assert!(!moment.state.is_true("Stopped"), "{:?}", moment.state);
        let stopped = moment.state.condition("Stopped").expect("on record");
        assert_eq!(stopped.reason, reason.as_str());

        let mut moment = Moment::running();
        moment.agent_ended("Failed", "", late);
        let requested = "2026-01-01T00:59:59Z".parse().expect("a time");
        moment.observation.pods[0].deletion_requested = Some(requested);
        assert_eq!(moment.reason(), reason);
    }
}

/// `supervise` knows whether it was told to end; the clock of the node and that of the API server need not agree.
#[test]
fn whether_a_deletion_ended_the_agent_is_told_by_whom_it_would_have_reached() {
    let ended = |told: &str, finished: &str| {
        let mut moment = Moment::running();
        let report = format!(
            r#"{{exitCode: 0, finishedAt: '{finished}', message: '{{"exitCode":0{told}}}'}}"#
        );
        moment.agent_ended("Succeeded", "", &report);
        let requested = "2026-01-01T12:00:00Z".parse().expect("a time");
        moment.observation.pods[0].deletion_requested = Some(requested);
        moment.reason()
    };
    let (hour_before, hour_after) = ("2026-01-01T11:00:00Z", "2026-01-01T13:00:00Z");
    for finished in [hour_before, hour_after] {
        assert_eq!(ended(r#","toldToEnd":false"#, finished), Reason::Succeeded);
        assert_eq!(
            ended(r#","toldToEnd":true"#, finished),
            Reason::InfrastructureError
        );
    }
    // Of an agent that nobody supervises, only the times are known.
    assert_eq!(ended("", hour_before), Reason::Succeeded);
    assert_eq!(ended("", hour_after), Reason::InfrastructureError);
}

#[test]
fn the_report_of_the_supervisor_is_the_result() {
    let mut moment = Moment::running();
    let report = r#"{"exitCode":0,"durationMillis":1500,"checkouts":[{"path":"/workspace/r","branch":"main","commits":2,"dirty":true}]}"#;
    moment.agent_ended(
        "Succeeded",
        "",
        &format!("{{exitCode: 0, message: '{report}'}}"),
    );
    moment.record();
    let result = moment.state.result.clone().expect("a result");
    assert_eq!(
        (result.exit_code, result.duration_millis),
        (Some(0), Some(1500))
    );
    assert_eq!(result.checkouts[0].commits, Some(2));
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("2 new commits on main, with changes"), "{why}");
    let result = moment.state.result.as_mut().expect("a result");
    result.checkouts[0].commits = Some(1);
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("left 1 new commit on main"), "{why}");
    moment.state.message = Some("the node went away.".to_owned());
    let why = explain(&moment.input()).join(" ");
    assert!(why.contains("went away. ") && !why.contains(".."), "{why}");
}

/// An agent that ended with 0, with this in its report.
fn reported(more: &str) -> Moment {
    let mut moment = Moment::running();
    let report = format!("{{exitCode: 0, message: '{{\"exitCode\":0,{more}}}'}}");
    moment.agent_ended("Succeeded", "", &report);
    moment.record();
    moment
}

#[test]
fn what_is_not_known_of_a_checkout_is_not_said_to_be_nothing() {
    let moment = reported(
        r#""checkouts":[{"path":"/workspace/r","error":"there is no repository any more"}]"#,
    );
    let why = explain(&moment.input()).join(" ");
    for words in [
        "Not everything is known of what the agent left in /workspace/r: there is no repository any more.",
        "a number of new commits that is not known",
    ] {
        assert!(why.contains(words), "{words}: {why}");
    }
}

#[test]
fn work_on_another_branch_is_a_change_and_told() {
    let checkout = r#"{"path":"/workspace/r","branch":"main","commits":0,"dirty":false"#;
    let moment = reported(&format!(r#""checkouts":[{checkout},"otherCommits":3}}]"#));
    let status = status_of(&moment.state);
    assert_eq!(status["result"]["outcome"], "Done");
    assert_eq!(status["result"]["checkouts"][0]["otherCommits"], 3);
    let message = moment.state.message.clone().expect("a message");
    let words = "the agent ended with exit code 0; 3 commits are on other branches, or put aside";
    assert_eq!(message, words);
    let why = explain(&moment.input()).join(" ");
    assert!(
        why.contains(", 3 more on other branches or put aside"),
        "{why}"
    );
    // Where nobody could count them, nobody knows that nothing was changed.
    let moment = reported(&format!(r#""checkouts":[{checkout},"error":"locked"}}]"#));
    let status = status_of(&moment.state);
    assert_eq!(status["result"]["outcome"], "Done");
}

#[test]
fn checkouts_that_the_report_had_no_room_for_count() {
    let checkout = r#""checkouts":[{"path":"/workspace/r","commits":0,"dirty":false}]"#;
    for (omitted, outcome, commits) in [
        (
            r#"{"checkouts":2,"commits":0,"unchanged":true}"#,
            "NoChanges",
            0,
        ),
        (
            r#"{"checkouts":2,"commits":0,"unchanged":false}"#,
            "Done",
            0,
        ),
        (
            r#"{"checkouts":2,"commits":5,"unchanged":false}"#,
            "Done",
            5,
        ),
    ] {
        let moment = reported(&format!(r#"{checkout},"omitted":{omitted}"#));
        let status = status_of(&moment.state);
        let result = &status["result"];
        assert_eq!(result["outcome"], outcome, "{omitted}");
        assert_eq!(result["commits"], commits, "{omitted}");
        assert_eq!(result["omittedCheckouts"], 2);
        let why = explain(&moment.input()).join(" ");
        assert!(why.contains("There are 2 more checkouts"), "{why}");
    }
    // The status holds no more than 64.
    let many = vec![r#"{"path":"/workspace/r","commits":1}"#; 70].join(",");
    let moment = reported(&format!(r#""checkouts":[{many}]"#));
    let status = status_of(&moment.state);
    assert_eq!(status["result"]["commits"], 70);
    assert_eq!(status["result"]["omittedCheckouts"], 6);
}

#[test]
fn an_agent_that_ended_well_has_failed_when_its_commits_did_not_arrive() {
    let judged = |exit_code: i32, of_agent: &str, pushed: &str, stop: bool| {
        let mut moment = Moment::running();
        if stop {
            moment.stop = true;
            moment.record();
        }
        let report =
            format!(r#"{{{of_agent},"checkouts":[{{"path":"/workspace/r","pushed":{pushed}}}]}}"#);
        let phase = if exit_code == 0 {
            "Succeeded"
        } else {
            "Failed"
        };
        moment.agent_ended(
            phase,
            "",
            &format!("{{exitCode: {exit_code}, message: '{report}'}}"),
        );
        let (phase, reason, message) = moment.end();
        (phase, reason, message)
    };
    let refused = r#"{"branch":"b","state":"Refused","message":"it is protected; kept"}"#;
    let failed = r#"{"branch":"b","state":"Failed"}"#;
    let words = "the push of /workspace/r to branch b was refused: it is protected; kept";
    assert_eq!(
        judged(73, r#""exitCode":0"#, refused, false),
        (Phase::Failed, Reason::PushRefused, words.to_owned())
    );
    assert_eq!(
        judged(73, r#""exitCode":0"#, failed, false).1,
        Reason::PushFailed
    );
    assert_eq!(
        judged(0, r#""exitCode":0"#, failed, false).1,
        Reason::PushFailed
    );
    let nothing = r#"{"branch":"b","state":"Nothing"}"#;
    assert_eq!(
        judged(0, r#""exitCode":0"#, nothing, false).1,
        Reason::Succeeded
    );
    // The report had no room for it.
    assert_eq!(
        judged(73, r#""exitCode":0"#, nothing, false).1,
        Reason::PushFailed
    );
    // Why it ended otherwise comes first, and this is not forgotten.
    for (code, of_agent, stop, reason) in [
        (3, r#""exitCode":3"#, false, Reason::AgentExitNonZero),
        (73, r#""exitCode":73"#, false, Reason::AgentExitNonZero),
        (
            124,
            r#""exitCode":0,"timedOutAfterSeconds":60"#,
            false,
            Reason::Timeout,
        ),
        (143, r#""signal":"SIGTERM""#, true, Reason::UserStopped),
    ] {
        let (_, judged, message) = judged(code, of_agent, refused, stop);
        assert_eq!(judged, reason, "{message}");
        assert!(message.ends_with(&format!("; also, {words}")), "{message}");
    }
}

#[test]
fn how_a_sidecar_ended_says_nothing() {
    let mut moment = Moment::running();
    moment.agent_ended("Failed", "", "{exitCode: 3}");
    let sidecar = moment.observation.pods[0].agent.clone();
    moment.observation.pods[0].sidecars.extend(sidecar);
    assert_eq!(moment.reason(), Reason::AgentExitNonZero);
}

#[test]
fn whatever_a_pod_says_the_status_stays_small_and_is_one_that_the_api_server_accepts() {
    let checkouts = vec![r#"{"path":""}"#; 300].join(",");
    let mut moment = Moment::running();
    moment.agent_ended(
        "Succeeded",
        "",
        &format!("{{exitCode: 0, message: '{{\"checkouts\":[{checkouts}]}}'}}"),
    );
    moment.record();
    let result = moment.state.result.clone().expect("a result");
    assert!(result.checkouts.len() <= 64, "{}", result.checkouts.len());

    let mut moment = Moment::running();
    let words = "\u{1b}".repeat(4096);
    moment.agent_ended("Failed", "", "{exitCode: 1, reason: StartError}");
    let agent = moment.observation.pods[0].agent.as_mut().expect("an agent");
    if let ContainerState::Terminated { message, .. } = &mut agent.state {
        message.clone_from(&words);
    }
    let (_, reason, message) = moment.end();
    assert_eq!(reason, Reason::InfrastructureError);
    assert!(!message.contains('\u{1b}'));
    let status = status_of(&moment.state).to_string();
    assert!(status.len() < 8 * 1024, "{} bytes", status.len());

    // The kubelet lets it have 4096 bytes.
    let long = |text: &str| json!(text.repeat(3000 / json!(text).to_string().len()));
    for text in ["a", "\u{1b}[2J", "\"", "\\", "\u{10ffff}"] {
        let checkout = json!({"path": text, "branch": text, "error": text, "newest": vec![json!({"id": text, "subject": text}); 12]});
        for told in [
            json!({"agent": {"steps": u64::MAX, "tools": 0, "failure": {"class": text, "message": long(text)}}}),
            json!({"agent": {"steps": 0, "tools": 0, "message": long(text), "session": text, "stopped": long("a")}}),
            json!({"passed": {"limit": text, "allowed": long(text), "reached": text}}),
            json!({"error": long(text), "checkouts": [checkout]}),
        ] {
            let mut moment = Moment::running();
            moment.agent_ended("Failed", "", "{exitCode: 70}");
            let agent = moment.observation.pods[0].agent.as_mut().expect("an agent");
            if let ContainerState::Terminated { message, .. } = &mut agent.state {
                *message = told.to_string();
                assert!(message.len() <= 4096, "{} bytes", message.len());
            }
            moment.end();
            let result = moment.state.result.as_ref().expect("a result");
            assert!(
                result
                    .checkouts
                    .iter()
                    .all(|checkout| checkout.newest.len() <= 10)
            );
            let status = status_of(&moment.state).to_string();
            assert!(status.len() < 10 * 1024, "{} bytes: {told}", status.len());
            assert!(!status.contains(r"\u001b"), "{status}");
        }
    }
}

/// `supervise` is killed with it then, and `git-push` has nobody to answer.
#[test]
fn of_an_agent_that_was_killed_with_its_container_the_log_tells_what_was_pushed() {
    let words = "; the log of the Pod's container git-push tells whether its commits were pushed";
    let report = r#"'{"exitCode":137}'"#;
    for (sidecar, terminated, is_said) in [
        ("git-push", "{exitCode: 137, reason: OOMKilled}", true),
        (
            "git-push",
            &format!("{{exitCode: 137, reason: OOMKilled, message: {report}}}"),
            false,
        ),
        (
            "git-push",
            "{exitCode: 128, reason: StartError, message: no such file}",
            false,
        ),
        ("of-a-mesh", "{exitCode: 137, reason: OOMKilled}", false),
    ] {
        let mut moment = Moment::running();
        moment.agent_ended("Failed", "", terminated);
        moment.observation.pods[0].sidecars = vec![ContainerView {
            name: sidecar.to_owned(),
            image: String::new(),
            state: ContainerState::Running,
        }];
        let (_, _, said) = moment.end();
        assert_eq!(said.ends_with(words), is_said, "{terminated}: {said}");
    }
}
