//! The managers of an object and what each owns: `metadata.managedFields`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Writer, set::Set};

/// How many updaters are told apart; the real server's number.
const UPDATERS_LIMIT: usize = 10;
/// The manager to whom the fields of the oldest updaters go.
const ANCIENT: &str = "ancient-changes";

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

#[derive(Clone, Debug)]
struct Manager {
    name: String,
    operation: Operation,
    api_version: String,
    subresource: String,
    time: Option<String>,
    set: Set,
}

impl Manager {
    fn is_applier(&self, writer: Writer<'_>) -> bool {
        self.operation == Operation::Apply
            && self.name == writer.manager
            && self.subresource == writer.subresource.unwrap_or_default()
    }

    /// Whether it is the same manager, writing in the same way.
    fn is(&self, other: &Self) -> bool {
        self.operation == other.operation
            && self.name == other.name
            && self.api_version == other.api_version
            && self.subresource == other.subresource
    }

    /// As messages name it.
    fn shown(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            let _ = write!(text, " with subresource {:?}", self.subresource);
        }
        if self.operation == Operation::Update {
            let _ = write!(text, " using {}", self.api_version);
        }
        text
    }
}

/// A field that another manager owns.
#[derive(Debug)]
pub(super) struct Conflict {
    /// The manager, as messages name it.
    pub(super) manager: String,
    /// The field.
    pub(super) path: String,
}

/// All managers of an object.
#[derive(Debug, Default)]
pub(super) struct Managers {
    list: Vec<Manager>,
}

impl Managers {
    /// Reads `metadata.managedFields`.
    pub(super) fn of(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let list = entries.into_iter().flatten().map(|entry| Manager {
            name: text(entry, "manager"),
            operation: if entry["operation"] == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            api_version: text(entry, "apiVersion"),
            subresource: text(entry, "subresource"),
            time: entry["time"].as_str().map(str::to_owned),
            set: Set::decode(&entry["fieldsV1"]),
        });
        Self {
            list: list.collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What a manager applied last.
    pub(super) fn applied_set(&self, manager: &str, subresource: Option<&str>) -> Option<Set> {
        let writer = Writer {
            manager,
            time: "",
            subresource,
        };
        self.list
            .iter()
            .find(|m| m.is_applier(writer))
            .map(|m| m.set.clone())
    }

    /// Everything that anybody owns.
    pub(super) fn union(&self) -> Set {
        let mut union = Set::default();
        for manager in &self.list {
            union.unite(&manager.set);
        }
        union
    }

    /// Adds a manager.
    pub(super) fn own(
        &mut self,
        name: &str,
        operation: Operation,
        api_version: &str,
        time: Option<&str>,
        set: Set,
    ) {
        self.list.push(Manager {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: String::new(),
            time: time.map(str::to_owned),
            set,
        });
    }

    /// The applier owns `set` and nothing else from now on.
    pub(super) fn replace_applied(&mut self, writer: Writer<'_>, api_version: &str, set: Set) {
        match self.list.iter_mut().find(|m| m.is_applier(writer)) {
            Some(manager) => {
                manager.set = set;
                api_version.clone_into(&mut manager.api_version);
            }
            None => self.list.push(Manager {
                name: writer.manager.to_owned(),
                operation: Operation::Apply,
                api_version: api_version.to_owned(),
                subresource: writer.subresource.unwrap_or_default().to_owned(),
                time: None,
                set,
            }),
        }
    }

    /// Fields of `gained` that others than the applier own.
    pub(super) fn conflicts(&self, writer: Writer<'_>, gained: &Set) -> Vec<Conflict> {
        let mut others: Vec<&Manager> =
            self.list.iter().filter(|m| !m.is_applier(writer)).collect();
        others.sort_by(|a, b| {
            (a.operation, &a.name, &a.subresource).cmp(&(b.operation, &b.name, &b.subresource))
        });
        let conflicts = others.into_iter().flat_map(|manager| {
            let paths = manager.set.common(gained).paths();
            paths.into_iter().map(|path| Conflict {
                manager: manager.shown(),
                path,
            })
        });
        conflicts.collect()
    }

    /// The others lose what the applier gained, and everybody what is gone.
    pub(super) fn yield_fields(&mut self, writer: Writer<'_>, gained: &Set, removed: &Set) {
        for manager in &mut self.list {
            if !manager.is_applier(writer) {
                manager.set = manager.set.without(gained).without(removed);
            }
        }
    }

    /// Everybody loses what an update set or took away.
    pub(super) fn yield_all(&mut self, gained: &Set, removed: &Set) {
        for manager in &mut self.list {
            manager.set = manager.set.without(gained).without(removed);
        }
    }

    /// The updater owns `gained` beside what it had.
    pub(super) fn add(&mut self, writer: Writer<'_>, api_version: &str, gained: Set) {
        let subresource = writer.subresource.unwrap_or_default();
        let same = |m: &&mut Manager| {
            m.operation == Operation::Update
                && m.name == writer.manager
                && m.subresource == subresource
                && m.api_version == api_version
        };
        if let Some(manager) = self.list.iter_mut().find(same) {
            manager.set.unite(&gained);
            manager.time = Some(writer.time.to_owned());
        } else {
            self.own(
                writer.manager,
                Operation::Update,
                api_version,
                Some(writer.time),
                gained,
            );
            if let Some(last) = self.list.last_mut() {
                subresource.clone_into(&mut last.subresource);
            }
        }
    }

    /// Keeps the number of updaters bounded: what the oldest of too many own goes to one manager in their place.
    pub(super) fn forget_ancient(&mut self) {
        self.list.retain(|manager| !manager.set.is_empty());
        while self.updaters() > UPDATERS_LIMIT {
            let oldest = |manager: &&Manager| {
                manager.operation == Operation::Update && manager.name != ANCIENT
            };
            let Some(oldest) = self
                .list
                .iter()
                .filter(oldest)
                .min_by_key(|m| (m.time.clone(), m.name.clone()))
                .cloned()
            else {
                return;
            };
            self.list
                .retain(|m| !(m.operation == Operation::Update && m.is(&oldest)));
            let there = self.list.iter_mut().find(|m| {
                m.name == ANCIENT
                    && m.api_version == oldest.api_version
                    && m.subresource == oldest.subresource
            });
            if let Some(ancient) = there {
                ancient.set.unite(&oldest.set);
                ancient.time = oldest.time;
            } else {
                self.list.push(Manager {
                    name: ANCIENT.to_owned(),
                    ..oldest
                });
            }
        }
    }

    fn updaters(&self) -> usize {
        let updaters = self
            .list
            .iter()
            .filter(|m| m.operation == Operation::Update && m.name != ANCIENT);
        updaters.count()
    }

    /// The applier's entry carries the time of this write.
    pub(super) fn stamp_applied(&mut self, writer: Writer<'_>) {
        if let Some(manager) = self.list.iter_mut().find(|m| m.is_applier(writer)) {
            manager.time = Some(writer.time.to_owned());
        }
    }

    /// Writes `metadata.managedFields`, in the order of the real server, without managers that own nothing.
    pub(super) fn write_into(mut self, object: &mut Value) {
        self.list.retain(|manager| !manager.set.is_empty());
        self.list.sort_by(|a, b| {
            let key = |m: &Manager| {
                (
                    m.operation,
                    m.time.clone(),
                    m.name.clone(),
                    m.api_version.clone(),
                    m.subresource.clone(),
                )
            };
            key(a).cmp(&key(b))
        });
        let entries: Vec<Value> = self.list.iter().map(entry).collect();
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        if entries.is_empty() {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        } else {
            object["metadata"]["managedFields"] = Value::Array(entries);
        }
    }
}

fn entry(manager: &Manager) -> Value {
    let mut entry = Map::new();
    entry.insert("manager".into(), manager.name.clone().into());
    entry.insert("operation".into(), manager.operation.name().into());
    entry.insert("apiVersion".into(), manager.api_version.clone().into());
    if let Some(time) = &manager.time {
        entry.insert("time".into(), time.clone().into());
    }
    entry.insert("fieldsType".into(), "FieldsV1".into());
    entry.insert("fieldsV1".into(), manager.set.encode());
    if !manager.subresource.is_empty() {
        entry.insert("subresource".into(), manager.subresource.clone().into());
    }
    Value::Object(entry)
}
