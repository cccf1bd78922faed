//! Resources as people write them, admitted as an API server would.

use k8s_openapi::api::core::v1::ConfigMap;
use kubeopencode_api::v1alpha1::{Agent, KubeOpenCodeConfig, Task, TaskSpec};
use kubeopencode_engine::{
    lower::{
        Found, FrontEnd as _, Lowered, Reference, References, Settings, kubeopencode::TaskFrontEnd,
    },
    run::Run,
    state::RunState,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace of everything that names none.
pub const NAMESPACE: &str = "team-a";

/// The status that remembers a state, as it is written.
pub fn status_of(state: &RunState) -> Value {
    let task = TaskFrontEnd::with_state(&Task::new("any", TaskSpec::default()), state);
    serde_json::to_value(task.status).expect("JSON")
}

/// All documents of a YAML text. Numbers are read as `kubectl` reads them: `0400` is octal.
pub fn documents(yaml: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_multiple_with_options(yaml, options).expect("valid YAML")
}

/// A small cluster: manifests, looked up by reference.
pub struct Cluster {
    pub settings: Settings,
    pub references: References,
    objects: Vec<Value>,
    tasks: Vec<Task>,
}

impl Cluster {
    pub fn of(yaml: &str) -> Self {
        let mut cluster = Self {
            settings: Settings::default(),
            references: References::new(),
            objects: Vec::new(),
            tasks: Vec::new(),
        };
        for (index, mut object) in documents(yaml).into_iter().enumerate() {
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            metadata.entry("namespace").or_insert(json!(NAMESPACE));
            metadata
                .entry("uid")
                .or_insert(json!(format!("00000000-0000-4000-8000-{index:012}")));
            metadata.entry("generation").or_insert(json!(1));
            if object["kind"] == "Task" {
                cluster.tasks.push(parse(&object));
            } else {
                cluster.objects.push(object);
            }
        }
        cluster
    }

    pub fn task(&self) -> &Task {
        self.tasks.first().expect("a Task")
    }

    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// Lower the first Task, looking up whatever it asks for.
    pub fn lower(&self) -> Lowered {
        self.lower_task(self.task())
    }

    pub fn lower_task(&self, task: &Task) -> Lowered {
        self.look_up(task).0
    }

    /// What the first Task is executed with: name, value and source of each setting.
    pub fn told(&self) -> Vec<[String; 3]> {
        let (_, references) = self.look_up(self.task());
        TaskFrontEnd::settings(self.task(), &references, &self.settings)
            .into_iter()
            .map(|setting| {
                [
                    setting.name.to_owned(),
                    setting.value,
                    setting.source.to_string(),
                ]
            })
            .collect()
    }

    /// What a Task is lowered to, and everything that was looked up for it.
    fn look_up(&self, task: &Task) -> (Lowered, References) {
        let mut references = self.references.clone();
        for _ in 0..10 {
            match TaskFrontEnd::lower(task, &references, &self.settings) {
                Lowered::Needs(needs) => {
                    assert!(!needs.is_empty(), "asks for nothing");
                    for reference in needs {
                        let found = self.find(&reference);
                        references.insert(reference, found);
                    }
                }
                lowered => return (lowered, references),
            }
        }
        panic!("lowering asks again and again");
    }

    /// The Run of the first Task.
    pub fn run(&self) -> Run {
        match self.lower() {
            Lowered::Ready(run) => *run,
            other => panic!("not ready: {other:?}"),
        }
    }

    /// The content of a file of the Run.
    pub fn file(&self, path: &str) -> String {
        let run = self.run();
        let file = run.files.iter().find(|file| file.path == path);
        let file = file.unwrap_or_else(|| panic!("no file {path}"));
        String::from_utf8(file.content.clone()).expect("text")
    }

    /// Why the first Task can never run.
    pub fn error(&self) -> String {
        match self.lower() {
            Lowered::Invalid(error) => error.to_string(),
            other => panic!("not invalid: {other:?}"),
        }
    }

    fn find(&self, reference: &Reference) -> Option<Found> {
        let object = self.objects.iter().find(|object| {
            object["kind"] == reference.kind.to_string()
                && object["metadata"]["namespace"] == reference.namespace
                && object["metadata"]["name"] == reference.name
        })?;
        Some(match object["kind"].as_str() {
            Some("Agent") => Found::Agent(Box::new(parse::<Agent>(object))),
            Some("ConfigMap") => Found::ConfigMap(Box::new(parse::<ConfigMap>(object))),
            Some("KubeOpenCodeConfig") => {
                Found::KubeOpenCodeConfig(Box::new(parse::<KubeOpenCodeConfig>(object)))
            }
            kind => panic!("nobody refers to {kind:?}"),
        })
    }
}

pub fn parse<T: DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).expect("a valid object")
}
