//! A cluster for one test: embedded API, Job controller, garbage collector, kubelet stand-in, operator.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{
    Api, Client, Resource,
    api::{
        ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    },
    core::NamespaceResourceScope,
    runtime::wait::await_condition,
};
use kubeopencode_api::v1alpha1::{Agent, Task, TaskPhase, TaskStatus};
use kubeopencode_embedded::cluster::{Cluster, Options};
use kubeopencode_operator::{Clock, Operator, OperatorOptions, ServerTime, system_clock};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Layer as _;

use super::{
    faults::Faults,
    kubelet::{Kubelet, Play},
};

/// An Agent for Tasks that name none.
pub const AGENT: &str = "
apiVersion: kubeopencode.io/v1alpha1
kind: Agent
metadata: {name: default}
spec: {agentImage: agent:1, workspaceDir: /workspace, serviceAccountName: default, command: [sh, -c, 'true']}
";

/// A Task that refers to nothing.
/// The Agent `default`, with so many slots.
pub fn limited(limit: usize) -> String {
    AGENT.replace("spec: {", &format!("spec: {{maxConcurrentTasks: {limit}, "))
}

pub const TASK: &str = "
apiVersion: kubeopencode.io/v1alpha1
kind: Task
metadata: {name: it}
spec: {description: Do it.}
";

/// The same with another name.
pub fn task(name: &str) -> String {
    TASK.replace("{name: it}", &format!("{{name: {name}}}"))
}

/// Whatever a test waits for happens within this time, or the test fails. Only a guard.
pub const GUARD: Duration = Duration::from_mins(2);

/// A cluster for one test.
pub struct World {
    pub client: Client,
    pub kubelet: Kubelet,
    pub guard: Duration,
    cluster: Cluster,
    end: CancellationToken,
    running: JoinSet<()>,
    operators: (CancellationToken, JoinSet<()>),
}

impl World {
    /// A cluster without an operator.
    pub async fn new(play: Play) -> Self {
        Self::with(play, |_| {}).await
    }

    /// A cluster without an operator, whose definitions are other ones.
    pub async fn with(play: Play, change: impl Fn(&mut Value)) -> Self {
        Self::made(play, change, system_clock()).await
    }

    /// A cluster without an operator whose time is that of this clock.
    pub async fn by(play: Play, clock: &Clock) -> Self {
        Self::made(play, |_| {}, clock.clone()).await
    }

    async fn made(play: Play, change: impl Fn(&mut Value), clock: Clock) -> Self {
        let definitions = kubeopencode_api::crds().into_iter().map(|definition| {
            let mut definition = serde_json::to_value(definition).unwrap();
            change(&mut definition);
            definition
        });
        let cluster = Cluster::start(Options {
            definitions: definitions.collect(),
            clock: clock.clone(),
            ..Options::default()
        })
        .await
        .unwrap();
        let client = cluster.client();
        let kubelet = Kubelet::new(play, clock);
        let end = CancellationToken::new();
        let mut running = JoinSet::new();
        let work = end
            .clone()
            .run_until_cancelled_owned(kubelet.clone().run(client.clone()));
        running.spawn(async move {
            Box::pin(work).await;
        });
        Self {
            client,
            kubelet,
            guard: GUARD,
            cluster,
            operators: (end.child_token(), JoinSet::new()),
            end,
            running,
        }
    }

    /// A cluster with an operator.
    pub async fn start(play: Play) -> Self {
        let mut world = Self::new(play).await;
        world.operate(&Faults::none());
        world
    }

    /// An operator whose calls suffer these faults begins. If it dies of them, another one, which suffers none, begins.
    pub fn operate(&mut self, faults: &Faults) {
        self.operate_with(faults, &OperatorOptions::default());
    }

    pub fn operate_with(&mut self, faults: &Faults, options: &OperatorOptions) {
        let (api, end) = (self.cluster.api(), self.operators.0.clone());
        let (faults, options) = (faults.clone(), options.clone());
        self.operators.1.spawn(async move {
            let operator = |faults: &Faults| {
                let counted = options.metrics.requests().layer(faults.layer(api.clone()));
                let client = Client::new(counted, "default");
                let operator = Operator::new(client, options.clone());
                operator.run(end.clone().cancelled_owned())
            };
            tokio::select! {
                ended = operator(&faults) => ended.unwrap(),
                () = faults.died() => operator(&Faults::none()).await.unwrap(),
            }
        });
    }

    /// An operator whose own clock is this one: it goes by what the API server tells.
    pub fn operate_by(&mut self, faults: &Faults, own: Clock, options: OperatorOptions) {
        let time = ServerTime::new(own);
        let (api, end) = (self.cluster.api(), self.operators.0.clone());
        let client = Client::new(time.layer(faults.layer(api)), "default");
        let options = OperatorOptions {
            clock: time.clock(),
            ..options
        };
        let operator = Operator::new(client, options).run(end.cancelled_owned());
        self.operators.1.spawn(async move {
            operator.await.unwrap();
        });
    }

    /// All operators that run end. Others may begin.
    pub async fn stop_operators(&mut self) {
        let (end, mut running) = std::mem::replace(
            &mut self.operators,
            (self.end.child_token(), JoinSet::new()),
        );
        end.cancel();
        let all = async {
            while let Some(ended) = running.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(self.guard, all)
            .await
            .expect("an operator ends when it is told to");
    }

    /// A client whose calls suffer these faults.
    pub fn client_with(&self, faults: &Faults) -> Client {
        Client::new(faults.layer(self.cluster.api()), "default")
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Create an object from a manifest.
    pub async fn create(&self, manifest: &str) -> DynamicObject {
        let object: DynamicObject = serde_saphyr::from_str(manifest).unwrap();
        let types = object.types.clone().unwrap();
        let gvk = GroupVersionKind::try_from(&types).unwrap();
        let kind = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), "default", &kind);
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Wait until an object is as it should be.
    pub async fn until<K>(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(Option<&K>) -> bool,
    ) -> Option<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let condition = await_condition(self.api::<K>(), name, |object: Option<&K>| is(object));
        let Ok(object) = tokio::time::timeout(self.guard, condition).await else {
            let now = self.api::<K>().get_opt(name).await;
            panic!("{} {name}: not {what}: {now:#?}", K::kind(&()));
        };
        object.unwrap()
    }

    /// Wait until the Task's status is as it should be.
    pub async fn status(
        &self,
        task: &str,
        what: &str,
        is: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        let seen = self.until::<Task>(task, what, |task| {
            task.and_then(|task| task.status.as_ref()).is_some_and(&is)
        });
        seen.await.unwrap().status.unwrap()
    }

    /// Wait until the Task has ended.
    pub async fn ends(&self, task: &str) -> TaskStatus {
        self.status(task, "ended", |status| {
            matches!(status.phase, Some(TaskPhase::Completed | TaskPhase::Failed))
        })
        .await
    }

    /// Wait until no slot of the Agent `default` is in use.
    pub async fn all_slots_are_free(&self) {
        self.until::<Agent>("default", "with free slots", |agent| {
            let status = agent.and_then(|agent| agent.status.as_ref());
            status.is_some_and(|status| status.slots_in_use == Some(0))
        })
        .await;
    }

    /// An Agent without a limit, and a Task whose agent runs; with the name of its Job.
    pub async fn is_at_work(&self) -> String {
        self.create(AGENT).await;
        self.create(TASK).await;
        let job = self.job_of("it").await;
        let runs = |pod: &Pod| super::life::phase(pod) == "Running";
        self.pod_of(&job, runs).await;
        job
    }

    /// Wait until the Task's Job is on record.
    pub async fn job_of(&self, task: &str) -> String {
        let status = self
            .status(task, "started", |status| status.job_name.is_some())
            .await;
        status.job_name.unwrap()
    }

    /// The one Pod of a Job, as soon as it is as it should be.
    pub async fn pod_of(&self, job: &str, is: impl Fn(&Pod) -> bool) -> Pod {
        use futures::StreamExt as _;
        use kube::runtime::{WatchStreamExt as _, watcher};
        let selector =
            watcher::Config::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let mut pods = watcher::watcher(self.api::<Pod>(), selector)
            .applied_objects()
            .boxed();
        let seen = async {
            loop {
                match pods.next().await.unwrap() {
                    Ok(pod) if is(&pod) => return pod,
                    Ok(_) | Err(_) => {}
                }
            }
        };
        tokio::time::timeout(self.guard, seen)
            .await
            .expect("a Pod of the Job that is as it should be")
    }

    /// A person asks for a stop.
    pub async fn stop(&self, task: &str) {
        self.annotate(task, &json!({"kubeopencode.io/stop": "true"}))
            .await;
    }

    pub async fn annotate(&self, task: &str, annotations: &Value) {
        let change = json!({"metadata": {"annotations": annotations}});
        let api = self.api::<Task>();
        api.patch(task, &PatchParams::default(), &Patch::Merge(change))
            .await
            .unwrap();
    }

    /// Reasons of the Task's Events, as soon as there are this many.
    pub async fn events(&self, task: &str, count: usize) -> Vec<String> {
        use futures::StreamExt as _;
        use kube::runtime::watcher;
        let selector = watcher::Config::default().fields(&format!(
            "involvedObject.kind=Task,involvedObject.name={task}"
        ));
        let mut events = watcher::watcher(self.api::<Event>(), selector).boxed();
        let mut seen: Vec<(Value, String)> = Vec::new();
        let all = async {
            while seen.len() < count {
                if let watcher::Event::Apply(event) | watcher::Event::InitApply(event) =
                    events.next().await.unwrap().unwrap()
                {
                    let version = event
                        .metadata
                        .resource_version
                        .unwrap()
                        .parse::<u64>()
                        .unwrap();
                    seen.push((json!(version), event.reason.unwrap()));
                }
            }
        };
        let waited = tokio::time::timeout(self.guard, all).await;
        assert!(waited.is_ok(), "{count} Events, only {seen:?}");
        seen.sort_by_key(|(version, _)| version.as_u64());
        seen.into_iter().map(|(_, reason)| reason).collect()
    }

    pub async fn jobs(&self) -> Vec<Job> {
        self.api::<Job>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
    }

    /// Everything ends, and is waited for.
    pub async fn end(mut self) {
        self.stop_operators().await;
        self.end.cancel();
        let all = async {
            while let Some(ended) = self.running.join_next().await {
                ended.unwrap();
            }
        };
        tokio::time::timeout(self.guard, all)
            .await
            .expect("everything ends when it is told to");
        self.cluster.shutdown().await;
    }
}

/// The status of a condition.
pub fn condition<'a>(status: &'a TaskStatus, type_: &str) -> Option<&'a str> {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == type_);
    found.map(|condition| condition.status.as_str())
}
