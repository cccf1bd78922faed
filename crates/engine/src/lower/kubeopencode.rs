//! The front end of `kubeopencode.io/v1alpha1`.

mod agent;
mod configuration;
mod contexts;
mod git;
mod limits;
mod push;
mod result;
mod status;

use std::{borrow::Cow, num::NonZeroUsize, time::Duration};

use kubeopencode_api::{
    names,
    v1alpha1::{Agent, AgentSlot, AgentSpec, AgentStatus, Task},
};

use self::{configuration::Configuration, contexts::Contexts};
use super::{
    Found, FrontEnd, Known, Lack, LowerError, Lowered, Missing, Reference, ReferenceKind,
    References, Setting, Settings, Source,
    context::task_md,
    places::{Place, Places},
    reference::{NO_OBJECT_NAME, is_object_name},
    setting::Sourced,
};
use crate::{
    queue::{Slot, Turn},
    run::{AgentUsed, File, Image, Images, Owner, Run},
    state::RunState,
};

/// `kubeopencode.io/v1alpha1`, kind Task.
#[derive(Debug, Clone, Copy)]
pub struct TaskFrontEnd;

impl FrontEnd for TaskFrontEnd {
    type Resource = Task;
    type Agent = Agent;

    fn owner(task: &Task) -> Option<Owner> {
        let metadata = &task.metadata;
        Some(Owner {
            group: names::GROUP.to_owned(),
            version: "v1alpha1".to_owned(),
            kind: "Task".to_owned(),
            plural: "tasks".to_owned(),
            name: metadata.name.clone()?,
            namespace: metadata.namespace.clone()?,
            uid: metadata.uid.clone()?,
            generation: metadata.generation.unwrap_or_default(),
        })
    }

    fn lower(task: &Task, references: &References, settings: &Settings) -> Lowered {
        let Some(owner) = Self::owner(task) else {
            return Lowered::Invalid(LowerError::NotAdmitted("uid, namespace or name"));
        };
        let mut lookup = Lookup::new(references);
        let attempt = lower(task, owner, settings, &mut lookup);
        // What is unknown comes first, because it may change everything; then what can never be valid; then what waits.
        if !lookup.needs.is_empty() {
            return Lowered::Needs(lookup.needs);
        }
        match attempt.run {
            Err(error) => Lowered::Invalid(error),
            Ok(_) if !lookup.missing.is_empty() => Lowered::Missing {
                missing: lookup.missing,
                timeout: attempt.reference_timeout,
            },
            Ok(run) => Lowered::Ready(Box::new(run)),
        }
    }

    fn references(task: &Task, references: &References, settings: &Settings) -> Vec<Reference> {
        let Some(owner) = Self::owner(task) else {
            return Vec::new();
        };
        let mut lookup = Lookup::new(references);
        let _outcome = lower(task, owner, settings, &mut lookup);
        lookup.asked
    }

    fn settings(task: &Task, references: &References, settings: &Settings) -> Vec<Setting> {
        let Some(owner) = Self::owner(task) else {
            return Vec::new();
        };
        lower(task, owner, settings, &mut Lookup::new(references)).settings
    }

    fn state(task: &Task) -> RunState {
        task.status
            .as_ref()
            .map(status::to_state)
            .unwrap_or_default()
    }

    fn with_state(task: &Task, state: &RunState) -> Task {
        Task {
            metadata: task.metadata.clone(),
            spec: task.spec.clone(),
            status: Some(status::of_state(state)),
        }
    }

    fn stop_requested(task: &Task) -> bool {
        task.metadata
            .annotations
            .as_ref()
            .and_then(|annotations| annotations.get(names::ANNOTATION_STOP))
            .is_some_and(|value| says_yes(value))
    }

    fn agent(task: &Task) -> &str {
        let used = task
            .status
            .as_ref()
            .and_then(|status| status.agent.as_ref());
        match used {
            Some(used) => &used.name,
            None => named_agent(task).unwrap_or(names::DEFAULT),
        }
    }

    fn turn(task: &Task) -> Turn {
        let metadata = &task.metadata;
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        let slot = Slot {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        };
        Turn::new(task.spec.priority.unwrap_or_default(), created, slot)
    }

    fn limit(agent: &Agent) -> Option<NonZeroUsize> {
        agent::limit(&agent.spec)
    }

    fn slots(agent: &Agent) -> Vec<Slot> {
        let slots = agent.status.iter().flat_map(|status| &status.slots);
        slots
            .map(|slot| Slot {
                name: slot.task.clone(),
                uid: slot.uid.clone(),
            })
            .collect()
    }

    fn with_slots(agent: &Agent, slots: &[Slot]) -> Agent {
        let status = AgentStatus {
            slots_in_use: Some(i32::try_from(slots.len()).unwrap_or(i32::MAX)),
            slots: slots
                .iter()
                .map(|slot| AgentSlot {
                    task: slot.name.clone(),
                    uid: slot.uid.clone(),
                })
                .collect(),
        };
        Agent {
            status: Some(status),
            ..agent.clone()
        }
    }
}

/// Looks things up in what is known, and notes what was asked for and what came of it.
struct Lookup<'a> {
    references: &'a References,
    asked: Vec<Reference>,
    needs: Vec<Reference>,
    missing: Vec<Missing>,
}

impl<'a> Lookup<'a> {
    fn new(references: &'a References) -> Self {
        Self {
            references,
            asked: Vec::new(),
            needs: Vec::new(),
            missing: Vec::new(),
        }
    }

    fn get(&mut self, reference: &Reference) -> Known<'a> {
        if !self.asked.contains(reference) {
            self.asked.push(reference.clone());
        }
        let known = self.references.get(reference);
        if known == Known::Unknown && !self.needs.contains(reference) {
            self.needs.push(reference.clone());
        }
        if let Known::Found(Found::Unreadable(why)) = known {
            self.miss(reference.clone(), Lack::Form(why.clone()));
            return Known::Absent;
        }
        known
    }

    fn miss(&mut self, reference: Reference, lack: Lack) {
        let is_noted = |known: &Missing| {
            known.reference == reference && (lack == Lack::Object || known.lack == lack)
        };
        if !self.missing.iter().any(is_noted) {
            self.missing.push(Missing { reference, lack });
        }
    }
}

/// What a Task was lowered to. What is not known or missing is noted in the [`Lookup`].
struct Attempt {
    run: Result<Run, LowerError>,
    settings: Vec<Setting>,
    /// How long it may wait for what is missing.
    reference_timeout: Duration,
}

fn lower(task: &Task, owner: Owner, settings: &Settings, lookup: &mut Lookup<'_>) -> Attempt {
    let config = Configuration::of(lookup, &owner.namespace, settings);
    let reference_timeout = config.reference_timeout.value;
    let (spec, used) = match find_agent(lookup, task, &owner.namespace) {
        Ok((agent, used)) => (
            agent.map_or_else(
                || Cow::Owned(agent::built_in()),
                |agent| Cow::Borrowed(&agent.spec),
            ),
            used,
        ),
        Err(error) => {
            return Attempt {
                run: Err(error),
                settings: config.settings(false),
                reference_timeout,
            };
        }
    };
    let chosen = Chosen::of(
        task,
        &spec,
        &Reference::agent(&owner.namespace, &used.name),
        settings,
    );
    let is_agent = |missing: &Missing| missing.reference.kind == ReferenceKind::Agent;
    let told = if lookup.missing.iter().any(is_agent) {
        config.settings(false)
    } else {
        let command = agent::command(&used.name, &spec).unwrap_or_default();
        let opencode = agent::uses_opencode(&command);
        let limits = limits(task, &owner, &spec, &used);
        let limits = limits.map(|limits| limits.settings()).unwrap_or_default();
        [config.settings(opencode), chosen.settings(), limits].concat()
    };
    Attempt {
        run: run(
            task,
            owner,
            &spec,
            used,
            (&config, chosen),
            settings,
            lookup,
        ),
        settings: told,
        reference_timeout,
    }
}

/// What Task and Agent decide between them.
struct Chosen {
    agent_image: Sourced<Image>,
    timeout: Sourced<Option<String>>,
}

impl Chosen {
    fn of(task: &Task, spec: &AgentSpec, agent: &Reference, settings: &Settings) -> Self {
        Self {
            agent_image: match agent::image(spec) {
                Some(image) => Sourced::from(image, agent),
                None => Sourced::built_in(settings.agent_image.clone()),
            },
            timeout: match (&task.spec.timeout, &spec.timeout) {
                (Some(timeout), _) => Sourced {
                    value: Some(timeout.clone()),
                    source: Source::Own,
                },
                (None, Some(timeout)) => Sourced::from(Some(timeout.clone()), agent),
                (None, None) => Sourced::built_in(None),
            },
        }
    }

    fn settings(&self) -> Vec<Setting> {
        vec![
            self.agent_image
                .setting("agentImage", |image| image.reference.clone()),
            self.timeout.setting("timeout", |timeout| {
                timeout.clone().unwrap_or_else(|| "none".to_owned())
            }),
        ]
    }
}

/// Whether the value of an annotation that a person has written means yes. Who wants an agent to stop is not asked for the
/// one right spelling.
fn says_yes(value: &str) -> bool {
    let yes = ["true", "t", "yes", "y", "on", "1"];
    yes.iter()
        .any(|word| value.trim().eq_ignore_ascii_case(word))
}

/// The Agent that the Task names.
fn named_agent(task: &Task) -> Option<&str> {
    let named = task.spec.agent_ref.as_deref();
    named.filter(|name| !name.is_empty())
}

/// Whether an Agent that there was is on its record: it waits, or has waited, for a slot of that, keeps one while it waits for
/// something else, or was started with it. The built-in one has neither slots nor credentials, and does not take its place.
fn has_used_one(task: &Task) -> bool {
    let Some(status) = &task.status else {
        return false;
    };
    let used = status.agent.as_ref();
    used.is_some_and(|used| used.generation.is_some())
        || status
            .conditions
            .iter()
            .any(|condition| condition.type_ == names::condition::QUEUED)
}

/// The Agent, and what to remember of it. Without `agentRef` and without an Agent `default`, the built-in one, unless there was
/// such an Agent, by the Task's own record.
fn find_agent<'a>(
    lookup: &mut Lookup<'a>,
    task: &Task,
    namespace: &str,
) -> Result<(Option<&'a Agent>, AgentUsed), LowerError> {
    let named = named_agent(task);
    let name = named.unwrap_or(names::DEFAULT);
    if !is_object_name(name) {
        return Err(LowerError::BadField {
            field: format!(
                "Task {}: agentRef",
                task.metadata.name.as_deref().unwrap_or_default()
            ),
            problem: format!("{name:?} {NO_OBJECT_NAME}"),
        });
    }
    let mut used = AgentUsed {
        name: name.to_owned(),
        generation: None,
    };
    let reference = Reference::agent(namespace, name);
    Ok(match lookup.get(&reference) {
        Known::Found(Found::Agent(agent)) => {
            used.generation = agent.metadata.generation;
            (Some(agent), used)
        }
        Known::Found(_) | Known::Absent => {
            if named.is_some() || has_used_one(task) {
                lookup.miss(reference, Lack::Object);
            }
            (None, used)
        }
        Known::Unknown => (None, used),
    })
}

/// What Task and Agent say of how much the agent may do.
fn limits(
    task: &Task,
    owner: &Owner,
    spec: &AgentSpec,
    used: &AgentUsed,
) -> Result<limits::Chosen, LowerError> {
    let agent = Reference::agent(&owner.namespace, &used.name);
    limits::Chosen::of(
        (&owner.name, task.spec.limits.as_ref()),
        (&agent, spec.limits.as_ref()),
    )
}

/// The Run of what was found.
fn run(
    task: &Task,
    owner: Owner,
    spec: &AgentSpec,
    used: AgentUsed,
    (config, chosen): (&Configuration, Chosen),
    settings: &Settings,
    lookup: &mut Lookup<'_>,
) -> Result<Run, LowerError> {
    let task_item = format!("Task {}", owner.name);
    let agent_item = format!("Agent {}", used.name);

    let mut places = Places::new(spec.workspace_dir.as_deref().unwrap_or("/workspace"))?;
    let task_md_path = places.take(
        &format!("{task_item}: description (task.md)"),
        "task.md",
        Place::File,
    )?;
    let mut contexts = Contexts::new(&owner, settings, places, lookup);
    contexts.add_all(&agent_item, &used.name, &spec.contexts)?;
    contexts.add_all(&task_item, &owner.name, &task.spec.contexts)?;
    let mut gathered = contexts.finish();
    let credentials = agent::credentials(&agent_item, spec, &mut gathered.places)?;

    let mut files = vec![File {
        path: task_md_path,
        content: task_md(task.spec.description.as_deref(), &gathered.elements).into_bytes(),
        mode: None,
    }];
    files.append(&mut gathered.files);

    let command = agent::command(&agent_item, spec)?;
    let profile = agent::profile(spec);
    let limits = limits(task, &owner, spec, &used)?;
    let limits = limits.held_by((&owner.name, &used.name), profile, &command)?;
    let opencode = agent::uses_opencode(&command).then(|| config.opencode_image.image());
    let said_by = match chosen.timeout.source {
        Source::Own => &task_item,
        _ => &agent_item,
    };
    let timeout = chosen.timeout.value.as_ref();
    let timeout = timeout
        .map(|timeout| agent::duration(&format!("{said_by}: timeout"), timeout))
        .transpose()?;
    Ok(Run {
        owner,
        agent: used,
        images: Images {
            system: config.system_image.image(),
            opencode,
            agent: chosen.agent_image.value,
        },
        workspace_dir: gathered.places.workspace().to_owned(),
        command: Some(command),
        profile,
        files,
        checkouts: gathered.checkouts,
        credentials,
        pod: agent::pod_options(spec, gathered.runtime),
        timeout,
        limits,
        limit: agent::limit(spec),
    })
}
