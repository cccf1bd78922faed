//! The Job controller and the kubelet of the model.

use kubeopencode_engine::{
    handover::TIMED_OUT,
    observe::{ContainerState, ContainerView, JobEnd, JobView, PodPhase, PodView},
};

use super::World;

impl World {
    /// Also the garbage collector: Pods of a Job that is gone are deleted.
    pub(super) fn job_controller(&mut self) {
        let now = self.time();
        let version = self.version();
        let job_uid = self.job.as_ref().map(|job| job.uid.clone());
        let ends = |job: &JobView| job.suspended || job.closed;
        let ends = self.job.as_ref().is_some_and(ends);
        for pod in &mut self.pods {
            let orphan = pod.job_uid != job_uid;
            if orphan || (ends && !pod.ended()) {
                pod.deletion.get_or_insert(now);
                pod.deletion_requested.get_or_insert(now);
            }
        }
        let Some(job) = &mut self.job else { return };
        let of_job = |pod: &&PodView| pod.job_uid.as_deref() == Some(job.uid.as_str());
        let own: Vec<&PodView> = self.pods.iter().filter(of_job).collect();
        if job.end.is_none()
            && let Some(ended) = own.iter().find(|pod| pod.ended())
        {
            job.failed = i32::from(ended.phase != PodPhase::Succeeded);
            job.end = Some(if ended.phase == PodPhase::Succeeded {
                JobEnd::Complete
            } else {
                JobEnd::Failed {
                    reason: "BackoffLimitExceeded".into(),
                    message: String::new(),
                }
            });
        }
        let closed = job.closed && !job.suspended && own.is_empty();
        if closed && job.end.is_none() {
            job.end = Some(JobEnd::Failed {
                reason: "DeadlineExceeded".into(),
                message: String::new(),
            });
        }
        let start = !job.suspended && job.end.is_none() && own.is_empty();
        job.active = i32::from(start || own.iter().any(|pod| !pod.ended()));
        job.resource_version = version.to_string();
        if start {
            self.pods.push(PodView {
                resource_version: "1".into(),
                name: format!("pod-{version}"),
                uid: format!("pod-{version}"),
                job_uid: Some(job.uid.clone()),
                created: Some(now),
                bound_at: None,
                started: None,
                deletion: None,
                deletion_requested: None,
                active_deadline_seconds: None,
                grace_seconds: 30,
                phase: PodPhase::Pending,
                reason: None,
                message: None,
                disruption: None,
                given_up: false,
                bound: false,
                unschedulable: None,
                init: Vec::new(),
                sidecars: Vec::new(),
                agent: None,
            });
        }
    }

    /// A Pod that is being deleted is counted by the Job controller before it goes.
    fn take_away_who_was_counted(&mut self) {
        let job = self.job.clone();
        self.pods.retain(|pod| {
            let counted = job.as_ref().is_none_or(|job| {
                job.end.is_some() || job.suspended || pod.job_uid.as_deref() != Some(&job.uid)
            });
            !(pod.deletion.is_some() && pod.ended() && counted)
        });
    }

    pub(super) fn kubelet(&mut self, how: u8) {
        let now = self.time();
        self.take_away_who_was_counted();
        let Some(pod) = self.pods.iter_mut().find(|pod| !pod.ended()) else {
            return;
        };
        let container = |state| ContainerView {
            name: "agent".into(),
            image: "image".into(),
            state,
        };
        let terminated = |exit_code, reason: &str| {
            container(ContainerState::Terminated {
                exit_code,
                reason: reason.into(),
                message: String::new(),
                finished: Some(now),
            })
        };
        let ran = pod
            .agent
            .as_ref()
            .is_some_and(|agent| agent.state == ContainerState::Running);
        if pod.deletion.is_some() {
            pod.phase = PodPhase::Failed;
            pod.agent = ran.then(|| terminated(143, "Error"));
        } else if pod.started.is_none() {
            match how % 8 {
                0 => pod.unschedulable = Some("0/1 nodes are available".into()),
                1 => {
                    pod.bound = true;
                    pod.phase = PodPhase::Failed;
                    pod.reason = Some("Evicted".into());
                    let waiting = container(ContainerState::Waiting {
                        reason: "PodInitializing".into(),
                        message: String::new(),
                    });
                    pod.init = vec![waiting.clone()];
                    pod.agent = Some(waiting);
                }
                _ => {
                    pod.started = Some(now);
                    pod.bound = true;
                    pod.unschedulable = None;
                }
            }
        } else if pod.active_deadline_seconds.is_some() {
            pod.phase = PodPhase::Failed;
            pod.reason = Some("DeadlineExceeded".into());
            pod.agent = ran.then(|| terminated(143, "Error"));
        } else if ran {
            match how % 6 {
                0 => {
                    pod.phase = PodPhase::Failed;
                    pod.agent = Some(terminated(3, "Error"));
                }
                // Its time is over. Whoever wants its end now comes too late.
                3 => {
                    pod.phase = PodPhase::Failed;
                    pod.agent = Some(container(ContainerState::Terminated {
                        exit_code: i32::from(TIMED_OUT),
                        reason: "Error".into(),
                        message: r#"{"exitCode":124,"toldToEnd":false,"timedOutAfterSeconds":60}"#
                            .into(),
                        finished: Some(now),
                    }));
                }
                1 => {
                    pod.phase = PodPhase::Failed;
                    pod.reason = Some("Evicted".into());
                    pod.agent = Some(terminated(137, "Error"));
                }
                // Its kubelet was restarted, and does not admit it any more.
                2 => {
                    pod.phase = PodPhase::Failed;
                    pod.reason = Some("NodeAffinity".into());
                    pod.agent = None;
                }
                _ => {
                    pod.phase = PodPhase::Succeeded;
                    pod.agent = Some(terminated(0, "Completed"));
                }
            }
        } else {
            match how % 6 {
                0 => {
                    pod.phase = PodPhase::Failed;
                    pod.init = vec![terminated(1, "Error")];
                }
                1 => {
                    pod.agent = Some(container(ContainerState::Waiting {
                        reason: "ImagePullBackOff".into(),
                        message: format!("attempt {how}"),
                    }));
                }
                _ => {
                    pod.phase = PodPhase::Running;
                    pod.agent = Some(container(ContainerState::Running));
                    self.agents_started.push(pod.uid.clone());
                    assert!(self.holds || !self.limited, "started without a slot");
                }
            }
        }
    }
}
