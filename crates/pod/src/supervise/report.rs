//! Writing the report so that it fits: a termination message is cut by the kubelet where it is too long, and half a
//! JSON object says nothing.

use std::{fs, io, path::Path};

use kubeopencode_engine::handover::{CheckoutReport, Report};

use crate::scrub::Scrub;

/// Longest text of an error, in bytes.
const LONGEST_ERROR: usize = 512;
/// The same, of one checkout.
const LONGEST_CHECKOUT_ERROR: usize = 200;
/// The same, of a push; what `git-push` says is a little shorter.
const LONGEST_PUSH_MESSAGE: usize = 360;
/// The same, of what the agent said last.
const LONGEST_MESSAGE: usize = 400;
/// The same, of why it gave up.
const LONGEST_FAILURE: usize = 240;
/// The same, of a few words: a name, the subject of a commit.
const LONGEST_WORDS: usize = 72;

/// Writes the report as JSON of at most so many bytes, and without the agent's secrets. They are hidden
/// before anything is cut: half a secret is one too, and nobody knows it any more.
pub(super) fn write(path: &Path, report: &Report, scrub: &Scrub, most: usize) -> io::Result<()> {
    fs::write(path, fit(without_secrets(report.clone(), scrub), most)?)
}

/// Only what the agent or a server wrote: what is ours and the plan's is how the operator finds things again, and hashes
/// are git's.
fn without_secrets(mut report: Report, scrub: &Scrub) -> Report {
    let agent = report.agent.iter_mut().flat_map(|agent| {
        let failure = agent.failure.as_mut().map(|failure| &mut failure.message);
        [
            agent.session.as_mut(),
            agent.message.as_mut(),
            agent.stopped.as_mut(),
            failure,
        ]
    });
    let checkouts = report.checkouts.iter_mut().flat_map(|checkout| {
        let pushed = checkout.pushed.as_mut();
        let subjects = checkout.newest.iter_mut().map(|commit| &mut commit.subject);
        [
            checkout.branch.as_mut(),
            checkout.error.as_mut(),
            pushed.and_then(|pushed| pushed.message.as_mut()),
        ]
        .into_iter()
        .chain(subjects.map(Some))
    });
    let texts = agent.chain(checkouts).flatten();
    for text in texts.chain(report.error.as_mut()) {
        *text = scrub.clean(text);
    }
    report
}

/// What is least missed goes first: subjects of commits, words about checkouts, most of the agent's last message, whole
/// checkouts, from the end, those last whose commits were not pushed. What happened to the agent stays.
fn fit(mut report: Report, most: usize) -> io::Result<Vec<u8>> {
    shorten(&mut report);
    let fits = |report: &Report| {
        let json = serde_json::to_vec(report)?;
        Ok::<_, io::Error>((json.len() <= most).then_some(json))
    };
    for drop_one in [drop_subject, drop_words, drop_message, drop_checkout] {
        loop {
            if let Some(json) = fits(&report)? {
                return Ok(json);
            }
            if !drop_one(&mut report) {
                break;
            }
        }
    }
    // Escapes can make a text six times as long.
    if report.error.is_some() {
        report.error = Some("the agent could not be started; its log says why".to_owned());
    }
    if let Some(agent) = &mut report.agent {
        agent.session = None;
        agent.stopped = agent
            .stopped
            .take()
            .map(|_| "half-way; its log says where".to_owned());
        if let Some(failure) = &mut agent.failure {
            "its log says why".clone_into(&mut failure.message);
        }
    }
    serde_json::to_vec(&report).map_err(Into::into)
}

/// Each text to what it may have at most.
fn shorten(report: &mut Report) {
    if let Some(error) = &mut report.error {
        cut(error, LONGEST_ERROR);
    }
    if let Some(agent) = &mut report.agent {
        let words = [&mut agent.session, &mut agent.stopped]
            .into_iter()
            .flatten();
        words.for_each(|text| cut(text, LONGEST_WORDS));
        if let Some(message) = &mut agent.message {
            cut(message, LONGEST_MESSAGE);
        }
        if let Some(failure) = &mut agent.failure {
            cut(&mut failure.message, LONGEST_FAILURE);
        }
    }
    for checkout in &mut report.checkouts {
        if let Some(error) = &mut checkout.error {
            cut(error, LONGEST_CHECKOUT_ERROR);
        }
        if let Some(message) = push_message(checkout) {
            cut(message, LONGEST_PUSH_MESSAGE);
        }
        for commit in &mut checkout.newest {
            cut(&mut commit.subject, LONGEST_WORDS);
        }
    }
}

/// The oldest commit of the checkout that names most.
fn drop_subject(report: &mut Report) -> bool {
    let checkouts = report.checkouts.iter_mut();
    let most = checkouts.max_by_key(|checkout| checkout.newest.len());
    most.and_then(|checkout| checkout.newest.pop()).is_some()
}

fn drop_words(report: &mut Report) -> bool {
    let (error, push) = (
        "no room for it in the report",
        "the log of git-push says why",
    );
    let mut dropped = false;
    for checkout in &mut report.checkouts {
        let texts = checkout.error.iter_mut().map(|text| (text, error));
        let pushed = checkout
            .pushed
            .iter_mut()
            .filter_map(|pushed| pushed.message.as_mut());
        for (text, instead) in texts.chain(pushed.map(|text| (text, push))) {
            dropped |= *text != instead;
            instead.clone_into(text);
        }
    }
    dropped
}

fn drop_message(report: &mut Report) -> bool {
    let message = report
        .agent
        .as_mut()
        .and_then(|agent| agent.message.as_mut());
    match message.filter(|message| message.len() > LONGEST_WORDS) {
        Some(message) => {
            cut(message, LONGEST_WORDS);
            true
        }
        None => report
            .agent
            .as_mut()
            .and_then(|agent| agent.message.take())
            .is_some(),
    }
}

/// The one that matters least.
fn drop_checkout(report: &mut Report) -> bool {
    let is_fine = |checkout: &CheckoutReport| {
        let pushed = checkout.pushed.as_ref();
        pushed.is_none_or(|pushed| !pushed.state.is_loss())
    };
    match report.checkouts.iter().rposition(is_fine) {
        Some(at) => report.omit(at),
        None => match report.checkouts.len() {
            0 => return false,
            number => report.omit(number - 1),
        },
    }
    true
}

fn push_message(checkout: &mut CheckoutReport) -> Option<&mut String> {
    checkout.pushed.as_mut()?.message.as_mut()
}

/// The same text, shortened where it is longer.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        *text = kubeopencode_agents::cut(text, longest);
    }
}

#[cfg(test)]
mod tests {
    use kubeopencode_engine::handover::{
        AgentReport, CommitReport, FailureReport, Passed, PushReport, PushState, UsageReport,
    };
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    /// In the Pod with the most containers.
    const MOST: usize = kubeopencode_engine::handover::SHORTEST_TERMINATION_MESSAGE;

    /// Up to so many characters, of one that JSON writes as one byte, as two to four, or as six.
    fn text(longest: usize) -> impl Strategy<Value = String> {
        let letter = prop::sample::select(vec!["a", "\u{1}", "\"", "ü", "\u{10ffff}"]);
        (letter, 0..=longest).prop_map(|(letter, count)| letter.repeat(count))
    }

    fn told() -> impl Strategy<Value = AgentReport> {
        let usage = (any::<[u64; 3]>(), option::of("[0-9]{1,11}[.][0-9]{9}")).prop_map(
            |([input, output, cached], cost)| UsageReport {
                input,
                output,
                cached,
                cost,
            },
        );
        let texts = [200, 5000, 200].map(|longest| option::of(text(longest)));
        let failure = option::of(text(5000).prop_map(|message| FailureReport {
            class: "ContextOverflow".to_owned(),
            message,
        }));
        (any::<[u64; 4]>(), option::of(usage), texts, failure).prop_map(
            |([steps, tools, refused, unread], usage, [session, message, stopped], failure)| {
                AgentReport {
                    session,
                    steps,
                    tools,
                    refused,
                    usage,
                    message,
                    failure,
                    stopped,
                    unread,
                    end_is_unread: unread == 1,
                }
            },
        )
    }

    fn checkout() -> impl Strategy<Value = CheckoutReport> {
        let state = prop_oneof![Just(PushState::Pushed), Just(PushState::Refused)];
        let pushed =
            (state, text(250), option::of(text(2000))).prop_map(|(state, branch, message)| {
                PushReport {
                    branch,
                    state,
                    head: Some("0".repeat(64)),
                    message,
                }
            });
        let commit = text(300).prop_map(|subject| CommitReport {
            id: "0123456789".to_owned(),
            subject,
        });
        (
            text(300),
            option::of(text(500)),
            option::of(text(1000)),
            vec(commit, 0..=10),
            option::of(pushed),
        )
            .prop_map(|(path, branch, error, newest, pushed)| CheckoutReport {
                path,
                branch,
                base: Some("0".repeat(64)),
                head: Some("0".repeat(64)),
                commits: Some(u32::MAX),
                newest,
                files: Some(u32::MAX),
                other_commits: u32::MAX,
                dirty: Some(true),
                error,
                pushed,
            })
    }

    proptest! {
        #[test]
        fn any_report_fits_and_keeps_how_the_agent_ended(
            ended in (option::of(0..256_i32), option::of(any::<u64>()), option::of(any::<u64>())),
            told_to_end in option::of(any::<bool>()),
            passed in any::<bool>(),
            error in option::of(text(5000)),
            agent in option::of(told()),
            checkouts in vec(checkout(), 0..8),
        ) {
            let (exit_code, timed_out_after_seconds, duration_millis) = ended;
            let most = || u64::MAX.to_string();
            let passed = passed.then(|| Passed { limit: "duration".to_owned(), allowed: most(), reached: most(), ended_by_itself: true });
            let report = Report {
                exit_code,
                signal: exit_code.is_none().then(|| "SIGVTALRM".to_owned()),
                error,
                begun_before: false,
                told_to_end,
                timed_out_after_seconds,
                passed,
                agent,
                duration_millis,
                checkouts,
                omitted: None,
            };
            let json = fit(report.clone(), MOST).unwrap();
            prop_assert!(json.len() <= MOST, "{} bytes", json.len());
            let read: Report = serde_json::from_slice(&json).unwrap();
            prop_assert_eq!(read.exit_code, report.exit_code);
            prop_assert_eq!(&read.signal, &report.signal);
            prop_assert_eq!(read.error.is_some(), report.error.is_some());
            prop_assert_eq!(read.told_to_end, report.told_to_end);
            prop_assert_eq!(read.timed_out_after_seconds, report.timed_out_after_seconds);
            prop_assert_eq!(&read.passed, &report.passed);
            prop_assert_eq!(read.duration_millis, report.duration_millis);
            prop_assert_eq!(read.agent.is_some(), report.agent.is_some());
            let omitted = read.omitted.as_ref().map_or(0, |omitted| omitted.checkouts as usize);
            prop_assert_eq!(read.checkouts.len() + omitted, report.checkouts.len());
            prop_assert_eq!(read.changed_nothing(), report.changed_nothing());
            if let (Some(read), Some(told)) = (read.agent, report.agent) {
                prop_assert_eq!(read.is_unfinished(), told.is_unfinished());
                prop_assert_eq!(read.failure.map(|it| it.class), told.failure.map(|it| it.class));
                prop_assert_eq!([read.steps, read.tools, read.refused], [told.steps, told.tools, told.refused]);
                prop_assert_eq!(read.usage, told.usage);
            }
        }
    }

    #[test]
    fn a_report_always_fits_and_keeps_what_happened() {
        let checkout = CheckoutReport {
            path: "/workspace/a".repeat(20),
            error: Some("ü\u{1}".repeat(500)),
            ..CheckoutReport::default()
        };
        let report = Report {
            exit_code: Some(3),
            timed_out_after_seconds: Some(u64::MAX),
            error: Some("\u{1}".repeat(4000)),
            checkouts: vec![checkout; 50],
            ..Report::default()
        };
        let long = || Some("\u{1}".repeat(5000));
        let agent = AgentReport {
            session: long(),
            steps: u64::MAX,
            message: long(),
            failure: Some(FailureReport {
                class: "Agent".to_owned(),
                message: "\u{1}".repeat(5000),
            }),
            stopped: long(),
            ..AgentReport::default()
        };
        let report = Report {
            agent: Some(agent),
            ..report
        };
        let json = fit(report, MOST).unwrap();
        assert!(json.len() <= MOST, "{}", json.len());
        let read: Report = serde_json::from_slice(&json).unwrap();
        assert_eq!(read.agent.unwrap().steps, u64::MAX);
        assert_eq!(read.exit_code, Some(3));
        assert_eq!(read.timed_out_after_seconds, Some(u64::MAX));
        assert!(read.error.is_some());

        let report = Report {
            exit_code: Some(0),
            checkouts: vec![
                CheckoutReport {
                    path: "/workspace/repository".to_owned(),
                    dirty: Some(true),
                    ..CheckoutReport::default()
                };
                500
            ],
            ..Report::default()
        };
        let json = fit(report, MOST).unwrap();
        assert!(json.len() <= MOST);
        let read: Report = serde_json::from_slice(&json).unwrap();
        assert!(
            read.checkouts.len() > 20,
            "as many as fit: {}",
            read.checkouts.len()
        );
        assert!(!read.changed_nothing());
    }

    #[test]
    fn a_checkout_that_does_not_fit_still_counts() {
        let checkout = CheckoutReport {
            path: "/workspace/repository".to_owned(),
            commits: Some(0),
            dirty: Some(false),
            ..CheckoutReport::default()
        };
        let mut report = Report {
            exit_code: Some(0),
            checkouts: vec![checkout; 200],
            ..Report::default()
        };
        let read = |report: &Report| -> Report {
            serde_json::from_slice(&fit(report.clone(), MOST).unwrap()).unwrap()
        };
        let fits = read(&report);
        assert!(fits.checkouts.len() < 200 && fits.changed_nothing());
        report.checkouts[199].commits = Some(3);
        let fits = read(&report);
        assert!(!fits.changed_nothing());
        assert_eq!(fits.commits(), Some(3));
        assert_eq!(
            fits.checkouts
                .iter()
                .filter_map(|it| it.commits)
                .sum::<u32>(),
            0
        );
    }

    /// A credential may be any word, such as the directory that all of it is in.
    #[test]
    fn where_things_are_is_no_secret() {
        let mut scrub = Scrub::new();
        scrub.hide("me", "/workspace");
        scrub.hide("me", "kubeopencode");
        let id = "0123456789012345678901234567890123456789";
        scrub.hide("me", id);
        let pushed = PushReport {
            branch: "kubeopencode/fix".to_owned(),
            state: PushState::Refused,
            head: Some(id.to_owned()),
            message: Some("kubeopencode says no".to_owned()),
        };
        let checkout = CheckoutReport {
            path: "/workspace/repository".to_owned(),
            branch: Some("of-kubeopencode".to_owned()),
            base: Some(id.to_owned()),
            head: Some(id.to_owned()),
            pushed: Some(pushed.clone()),
            ..CheckoutReport::default()
        };
        let report = Report {
            checkouts: vec![checkout.clone()],
            ..Report::default()
        };
        let cleaned = without_secrets(report, &scrub).checkouts.remove(0);
        let expected = CheckoutReport {
            branch: Some("of-***".to_owned()),
            pushed: Some(PushReport {
                message: Some("*** says no".to_owned()),
                ..pushed
            }),
            ..checkout
        };
        assert_eq!(cleaned, expected);
    }

    /// What an ordinary run has to say: a message, and ten commits whose subjects are as long as git likes them.
    #[test]
    fn ten_commits_fit_where_there_are_three_containers() {
        let commit = |number: usize| CommitReport {
            id: format!("012345{number}"),
            subject: "Do one thing, and say what it is in the fifty letters".to_owned(),
        };
        let checkout = CheckoutReport {
            path: "/workspace/repository".to_owned(),
            branch: Some("work".to_owned()),
            base: Some("0".repeat(40)),
            head: Some("1".repeat(40)),
            newest: (0..10).map(commit).collect(),
            ..CheckoutReport::default()
        };
        let agent = AgentReport {
            message: Some("I did it. ".repeat(30)),
            ..AgentReport::default()
        };
        let report = Report {
            exit_code: Some(0),
            agent: Some(agent),
            checkouts: vec![checkout],
            ..Report::default()
        };
        let most = kubeopencode_engine::handover::termination_message(3);
        let json = fit(report.clone(), most).unwrap();
        assert_eq!(serde_json::from_slice::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn subjects_go_before_anything_else() {
        let commit = CommitReport {
            id: "0123456789".to_owned(),
            subject: "Fix it ".repeat(50),
        };
        let checkout = CheckoutReport {
            path: "/workspace/repository".to_owned(),
            error: Some("locked".to_owned()),
            newest: vec![commit; 10],
            ..CheckoutReport::default()
        };
        let agent = AgentReport {
            message: Some("I fixed it. ".repeat(100)),
            ..AgentReport::default()
        };
        let report = Report {
            checkouts: vec![checkout.clone(), checkout],
            agent: Some(agent),
            ..Report::default()
        };
        let json = fit(report, MOST).unwrap();
        assert!(json.len() <= MOST);
        let read: Report = serde_json::from_slice(&json).unwrap();
        let subjects: Vec<usize> = read.checkouts.iter().map(|it| it.newest.len()).collect();
        assert_eq!(subjects, [4, 3]);
        assert_eq!(read.checkouts[0].error.as_deref(), Some("locked"));
        assert!(read.agent.unwrap().message.unwrap().len() > 390);
    }
}
