//! Real objects, as a kubelet and the Job controller write them, reduced to what a decision needs.

use kubeopencode_engine::observe::{
    ContainerState, ContainerView, JobEnd, JobView, PodPhase, PodView,
};

use super::fixture::{documents, parse};

fn pod(yaml: &str) -> PodView {
    PodView::of(&parse(&documents(yaml)[0]))
}

fn job(yaml: &str) -> JobView {
    JobView::of(&parse(&documents(yaml)[0]))
}

#[test]
fn a_pod_that_hit_its_deadline() {
    let view = pod(r#"
metadata:
  name: fix-abcdef-x
  uid: pod-uid
  creationTimestamp: "2026-01-01T00:00:00Z"
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: fix-abcdef, uid: job-uid, controller: true}]
spec: {activeDeadlineSeconds: 1, terminationGracePeriodSeconds: 3, containers: []}
status:
  phase: Failed
  reason: DeadlineExceeded
  message: Pod was active on the node longer than the specified deadline
  startTime: "2025-12-31T22:00:01Z"
  conditions: [{type: PodScheduled, status: "True", lastTransitionTime: "2026-01-01T00:00:01Z"}]
  containerStatuses:
    - name: agent
      image: i
      imageID: x
      ready: false
      restartCount: 0
      state: {terminated: {exitCode: 143, reason: Error, message: "stopped\n", finishedAt: "2026-01-01T00:00:03Z"}}
"#);
    insta::assert_debug_snapshot!(view, @r#"
    PodView {
        name: "fix-abcdef-x",
        uid: "pod-uid",
        resource_version: "",
        job_uid: Some(
            "job-uid",
        ),
        created: Some(
            2026-01-01T00:00:00Z,
        ),
        bound_at: Some(
            2026-01-01T00:00:01Z,
        ),
        started: Some(
            2025-12-31T22:00:01Z,
        ),
        deletion: None,
        deletion_requested: None,
        active_deadline_seconds: Some(
            1,
        ),
        grace_seconds: 3,
        phase: Failed,
        reason: Some(
            "DeadlineExceeded",
        ),
        message: Some(
            "Pod was active on the node longer than the specified deadline",
        ),
        disruption: None,
        given_up: false,
        bound: false,
        unschedulable: None,
        init: [],
        sidecars: [],
        agent: Some(
            ContainerView {
                name: "agent",
                image: "i",
                state: Terminated {
                    exit_code: 143,
                    reason: "Error",
                    message: "stopped\n",
                    finished: Some(
                        2026-01-01T00:00:03Z,
                    ),
                },
            },
        ),
    }
    "#);
}

#[test]
fn a_pod_that_is_new_and_one_that_was_orphaned_while_it_is_deleted() {
    let view = pod("metadata: {name: p, uid: u}\nspec: {containers: []}");
    assert_eq!(view.phase, PodPhase::Pending);
    assert_eq!((view.agent, view.grace_seconds), (None, 30));
    let view = pod(r#"
metadata:
  name: p
  uid: u
  deletionTimestamp: "2026-01-01T00:00:30Z"
  deletionGracePeriodSeconds: 30
  labels: {batch.kubernetes.io/controller-uid: job-uid}
spec: {containers: []}
status:
  phase: Unknown
  conditions:
    - {type: PodScheduled, status: "False", reason: Unschedulable, message: 0/1 nodes are available}
    - {type: DisruptionTarget, status: "True", reason: EvictionByEvictionAPI}
  containerStatuses: [{name: agent, image: i, imageID: "", ready: false, restartCount: 0}]
"#);
    assert_eq!(view.job_uid.as_deref(), Some("job-uid"));
    assert_eq!(
        view.deletion_requested.map(|time| time.to_string()),
        Some("2026-01-01T00:00:00Z".into())
    );
    assert_eq!(view.phase, PodPhase::Running);
    assert_eq!(
        view.unschedulable.as_deref(),
        Some("0/1 nodes are available")
    );
    assert_eq!(view.disruption.as_deref(), Some("EvictionByEvictionAPI"));
    // A status without a state is one that waits: the API says so.
    assert!(matches!(
        view.agent.expect("a status").state,
        ContainerState::Waiting { .. }
    ));
}

#[test]
fn an_init_container_that_runs_beside_the_agent_is_a_sidecar() {
    let view = pod("
metadata: {name: p, uid: u}
spec:
  initContainers: [{name: git-init}, {name: git-push, restartPolicy: Always}]
  containers: [{name: agent}]
status:
  initContainerStatuses:
    - {name: git-init, image: i, imageID: '', ready: true, restartCount: 0}
    - {name: git-push, image: i, imageID: '', ready: true, restartCount: 0, state: {running: {}}}
");
    let names = |containers: &[ContainerView]| {
        let names = containers.iter().map(|container| container.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&view.init), ["git-init"]);
    assert_eq!(names(&view.sidecars), ["git-push"]);
}

#[test]
fn a_job_ends_with_complete_or_failed_and_not_with_what_comes_before() {
    let with = |type_: &str| {
        job(&format!(
            "metadata: {{name: j, uid: u, resourceVersion: '7'}}\nspec: {{template: {{}}}}\nstatus: {{active: 1, conditions: [{{type: {type_}, status: 'True', reason: R, message: M}}]}}"
        ))
    };
    assert_eq!(with("Complete").end, Some(JobEnd::Complete));
    assert_eq!(with("FailureTarget").end, None);
    assert_eq!(with("SuccessCriteriaMet").end, None);
    let failed = with("Failed");
    let expected = JobEnd::Failed {
        reason: "R".into(),
        message: "M".into(),
    };
    assert_eq!(failed.end, Some(expected));
    assert_eq!(
        (failed.active, failed.suspended, failed.released),
        (1, false, false)
    );
}

#[test]
fn only_the_controlling_owner_owns() {
    let view = job("
metadata:
  name: j
  annotations: {kubeopencode.io/released: 'true', kubeopencode.io/agent: a, kubeopencode.io/agent-generation: '3'}
  ownerReferences:
    - {apiVersion: v1, kind: ConfigMap, name: m, uid: other}
    - {apiVersion: kubeopencode.io/v1alpha1, kind: Task, name: t, uid: ours, controller: true}
spec: {suspend: true, template: {}}");
    assert_eq!(view.owner_uid.as_deref(), Some("ours"));
    assert!(view.suspended && view.released);
    let agent = view.agent.expect("the annotation");
    assert_eq!((agent.name.as_str(), agent.generation), ("a", Some(3)));
}

/// As a kubelet 1.36 writes it of a Pod that is deleted while its agent's image cannot be pulled. With an ID it would have
/// been one that the runtime has lost since, and that may have done anything.
#[test]
fn a_container_that_was_never_made_has_not_ended() {
    const UNKNOWN: &str = "restartCount: 0, state: {terminated: {exitCode: 137, reason: ContainerStatusUnknown, message: The container could not be located when the pod was terminated}}";
    assert!(matches!(agent(UNKNOWN), ContainerState::Waiting { .. }));
    let made = agent(&format!("containerID: 'containerd://a', {UNKNOWN}"));
    assert!(matches!(made, ContainerState::Terminated { .. }));
}

/// As a kubelet 1.36 writes it of an agent that ran, when it evicts its Pod and has removed the container before it looked
/// how it had ended: first that it waits, then that it is unknown.
#[test]
fn an_agent_that_used_to_run_has_ended_though_the_runtime_knows_of_none() {
    const LAST: &str = "restartCount: 1, lastState: {terminated: {exitCode: 137, reason: ContainerStatusUnknown, message: The container could not be located when the pod was deleted.  The container used to be Running}}";
    for now in [
        "waiting: {reason: PodInitializing}",
        "terminated: {exitCode: 137, reason: ContainerStatusUnknown}",
    ] {
        let ended = agent(&format!("{LAST}, state: {{{now}}}"));
        assert!(matches!(ended, ContainerState::Terminated { .. }));
    }
}

/// The agent of a Pod that has failed.
fn agent(told: &str) -> ContainerState {
    pod(&format!(
        "
metadata: {{name: p, uid: pod-uid}}
status:
  phase: Failed
  containerStatuses: [{{name: agent, image: i, imageID: '', ready: false, started: false, {told}}}]
"
    ))
    .agent
    .expect("the agent")
    .state
}
