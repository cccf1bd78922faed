//! One Task in one moment: what is remembered and seen of it, for tests of single decisions.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kubeopencode_engine::{
    decide::{Action, Input, Step, decide},
    lower::{FrontEnd as _, Lowered, kubeopencode::TaskFrontEnd},
    observe::{JobView, Observation, PodView},
    run::Owner,
    state::{Phase, Reason, RunState},
};

use super::fixture::{Cluster, documents, parse};

/// One Task in one moment.
pub struct Moment {
    pub owner: Owner,
    pub state: RunState,
    pub lowered: Lowered,
    pub observation: Observation,
    pub stop: bool,
    pub deleting: bool,
    pub now: i64,
}

pub const AGENT: &str =
    "kind: Agent\nmetadata: {name: a}\nspec: {serviceAccountName: s, command: [work]}\n---\n";
pub const TASK: &str = "kind: Task\nmetadata: {name: fix}\nspec: {agentRef: a, description: x}";
/// A Pod whose agent is at work.
pub const RUNS: &str = "status: {phase: Running, startTime: '2026-01-01T00:00:00Z', containerStatuses: [{name: agent, image: i, imageID: x, ready: true, restartCount: 0, state: {running: {}}}]}";

impl Moment {
    pub fn of(manifests: &str) -> Self {
        let cluster = Cluster::of(manifests);
        Self {
            owner: TaskFrontEnd::owner(cluster.task()).expect("admitted"),
            state: RunState::default(),
            lowered: cluster.lower(),
            observation: Observation {
                confirmed: true,
                ..Observation::default()
            },
            stop: false,
            deleting: false,
            now: 1_767_225_600,
        }
    }

    pub fn new() -> Self {
        Self::of(&format!("{AGENT}{TASK}"))
    }

    /// The Job is on record and released.
    pub fn running() -> Self {
        let mut moment = Self::new();
        moment.create();
        moment.record();
        let job = moment.job();
        (job.suspended, job.released) = (false, true);
        moment
    }

    pub fn input(&self) -> Input<'_> {
        Input {
            owner: &self.owner,
            state: &self.state,
            lowered: Some(&self.lowered),
            observation: &self.observation,
            stop_requested: self.stop,
            deleting: self.deleting,
            now: Timestamp::from_second(self.now).expect("a time"),
        }
    }

    pub fn decide(&self) -> Step {
        decide(&self.input())
    }

    pub fn actions(&self) -> Vec<Action> {
        match self.decide() {
            Step::Act(actions) => actions,
            other => panic!("no actions: {other:?}"),
        }
    }

    pub fn create(&mut self) {
        for action in self.actions() {
            if let Action::CreateJob(job) = action {
                let job: &Job = &job;
                self.observation.job = Some(JobView {
                    uid: "job-uid".into(),
                    resource_version: "7".into(),
                    ..JobView::of(job)
                });
            }
        }
    }

    pub fn record(&mut self) {
        match self.decide() {
            Step::Record { state, .. } => self.state = *state,
            other => panic!("nothing to record: {other:?}"),
        }
    }

    pub fn job(&mut self) -> &mut JobView {
        self.observation.job.as_mut().expect("a Job")
    }

    /// The Pod of the Job, with this as the rest of it.
    pub fn pod(&mut self, yaml: &str) {
        let yaml = format!(
            "metadata: {{name: p, uid: pod-uid, creationTimestamp: '2026-01-01T00:00:00Z', labels: {{batch.kubernetes.io/controller-uid: job-uid}}}}\n{yaml}"
        );
        let mut pod = documents(&yaml).remove(0);
        pod["spec"]["containers"] = serde_json::json!([]);
        self.observation.pods = vec![PodView::of(&parse(&pod))];
    }

    pub fn agent_ended(&mut self, phase: &str, more: &str, terminated: &str) {
        self.pod(&format!(
            "spec: {{activeDeadlineSeconds: 5400}}\nstatus:\n  phase: {phase}\n  startTime: '2026-01-01T00:00:00Z'\n  {more}\n  containerStatuses: [{{name: agent, image: i, imageID: x, ready: false, restartCount: 0, state: {{terminated: {terminated}}}}}]"
        ));
    }

    /// How it ended: phase, reason, message.
    pub fn end(&mut self) -> (Phase, Reason, String) {
        self.record();
        let state = &self.state;
        assert!(state.phase.is_terminal(), "{state:?}");
        (
            state.phase,
            state.reason.expect("a reason"),
            state.message.clone().expect("a message"),
        )
    }

    pub fn reason(&mut self) -> Reason {
        self.end().1
    }
}
