//! How `supervise` is told what to do, and how long each part of the end may take.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use kubeopencode_agents::Profile;
use kubeopencode_engine::handover::{
    BEGUN_DIR, DEFAULTS_VARIABLE, GRACE_VARIABLE, LIMITS_VARIABLE, LONGEST_TERMINATION_MESSAGE,
    Limits, PROFILE_VARIABLE, PUSH_VARIABLE, Passed, REPORT_BYTES_VARIABLE, SECRETS_VARIABLE,
    SHORTEST_TERMINATION_MESSAGE, Secrets, TERMINATION_LOG, TIMEOUT_VARIABLE, TOOLS_DIR,
};

use super::watch::Over;

/// Kubernetes' `terminationGracePeriodSeconds` where nobody said another.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// The Pod's grace period. What cannot be read counts as not said: `supervise` tells of that.
pub(crate) fn grace() -> Duration {
    let seconds = std::env::var(GRACE_VARIABLE).ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    seconds.map_or(DEFAULT_GRACE, Duration::from_secs)
}

/// Where things are, and how long the end may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Pod's grace period: after it the kubelet kills the container, so everything has to be over a little earlier.
    pub grace: Duration,
    /// How long the agent may run before it is told to end; `None` is for ever. Whole seconds.
    pub timeout: Option<Duration>,
    /// Where the report goes.
    pub termination_log: PathBuf,
    /// How many bytes it may have at most.
    pub report_bytes: usize,
    /// Where `git-init` left its records.
    pub tools_dir: PathBuf,
    /// Where it is marked that the agent has begun.
    pub begun_dir: PathBuf,
    /// Where `git-push` listens; `None`: nothing is pushed.
    pub push_socket: Option<PathBuf>,
    /// The agent, where its events are to be read.
    pub profile: Option<&'static Profile>,
    /// How much it may do.
    pub limits: Limits,
    /// Where it has its secrets.
    pub secrets: Secrets,
    /// Variables that the agent gets where it has none of that name.
    pub defaults: BTreeMap<String, String>,
    /// A variable that is there and cannot be read. What it says is not known, so no agent is started.
    pub unreadable: Option<&'static str>,
}

impl Settings {
    /// The constants of the handover, and what its environment variables say.
    #[must_use]
    pub fn from_environment() -> Self {
        let mut unreadable = None;
        let mut seconds = |variable| {
            let seconds = read(variable, &mut unreadable, |text| text.parse().ok());
            seconds.map(Duration::from_secs)
        };
        let (grace, timeout) = (seconds(GRACE_VARIABLE), seconds(TIMEOUT_VARIABLE));
        let report_bytes = read(REPORT_BYTES_VARIABLE, &mut unreadable, |text| {
            text.parse().ok()
        });
        let profile = read(PROFILE_VARIABLE, &mut unreadable, Profile::named);
        let limits = read(LIMITS_VARIABLE, &mut unreadable, |text| {
            serde_json::from_str(text).ok()
        });
        let secrets = read(SECRETS_VARIABLE, &mut unreadable, |text| {
            serde_json::from_str(text).ok()
        });
        let defaults = read(DEFAULTS_VARIABLE, &mut unreadable, |text| {
            serde_json::from_str(text).ok()
        });
        Self {
            grace: grace.unwrap_or(DEFAULT_GRACE),
            timeout,
            termination_log: TERMINATION_LOG.into(),
            report_bytes: report_bytes
                .unwrap_or(SHORTEST_TERMINATION_MESSAGE)
                .clamp(SHORTEST_TERMINATION_MESSAGE, LONGEST_TERMINATION_MESSAGE),
            tools_dir: TOOLS_DIR.into(),
            begun_dir: BEGUN_DIR.into(),
            push_socket: std::env::var_os(PUSH_VARIABLE).map(PathBuf::from),
            profile,
            limits: limits.unwrap_or_default(),
            secrets: secrets.unwrap_or_default(),
            defaults: defaults.unwrap_or_default(),
            unreadable,
        }
    }

    /// How long before the end of the grace the killing begins.
    fn margin(&self) -> Duration {
        (self.grace / 4).min(Duration::from_secs(3))
    }

    /// For how long the agent may go on after it was told to end: the grace, less what the killing and the report take.
    pub(super) fn patience(&self) -> Duration {
        self.grace.saturating_sub(self.margin())
    }

    /// When the agent's time is over, counted from its start, and what that is then.
    pub(super) fn deadline(&self, began: Instant) -> Option<(Instant, Over)> {
        // Too far to be a point in time is never.
        let timeout = self.timeout.and_then(|timeout| {
            Some((
                began.checked_add(timeout)?,
                Over::Timeout(timeout.as_secs()),
            ))
        });
        let limit = self.limits.seconds.and_then(|seconds| {
            let passed = Passed {
                limit: "duration".to_owned(),
                allowed: format!("{seconds} s"),
                reached: format!("{seconds} s"),
                ended_by_itself: false,
            };
            let at = began.checked_add(Duration::from_secs(seconds))?;
            Some((at, Over::Limit(passed)))
        });
        timeout.into_iter().chain(limit).min_by_key(|(at, _)| *at)
    }

    /// Until when git may be asked after that: what is left then is for writing the report.
    pub(super) fn asking(&self) -> Duration {
        self.grace.saturating_sub(self.margin() / 3)
    }
}

/// What a variable says; `None`: there is none, or it cannot be read, which is noted.
fn read<T>(
    variable: &'static str,
    unreadable: &mut Option<&'static str>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = std::env::var_os(variable)?;
    let value = text.to_str().and_then(parse);
    if value.is_none() {
        unreadable.get_or_insert(variable);
    }
    value
}
