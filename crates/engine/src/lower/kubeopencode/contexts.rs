//! Context items: into files, checkouts, and elements of `task.md`.

use k8s_openapi::api::core::v1::ConfigMap;
use kubeopencode_api::v1alpha1::{ConfigMapContext, ContextItem, ContextType};

use super::{Lookup, git, push};
use crate::{
    lower::{
        Found, Known, Lack, LowerError, Reference, Settings,
        context::{Content, Element},
        places::{Place, Places},
        reference::{NO_OBJECT_NAME, is_object_name},
    },
    run::{Checkout, File, Owner},
};

/// What the agent is told by a Runtime context.
const RUNTIME_TEXT: &str = "\
You are working inside a Kubernetes Pod, as one Task of KubeOpenCode. Nobody is at a keyboard: you cannot ask
questions, and what you leave in the workspace and write to standard output is what people see of your work.

Environment variables:
- TASK_NAME: the name of your Task
- TASK_NAMESPACE: the namespace of your Task
- WORKSPACE_DIR: the directory to work in; your instructions are in $WORKSPACE_DIR/task.md

Your Task is an object of kind Task in the API group kubeopencode.io. If kubectl is installed and your service
account may read it, these show it and others:
- kubectl get tasks.kubeopencode.io \"$TASK_NAME\" -n \"$TASK_NAMESPACE\" -o yaml
- kubectl get tasks.kubeopencode.io -n \"$TASK_NAMESPACE\"
- kubectl get agents.kubeopencode.io -n \"$TASK_NAMESPACE\"

How it ends: the Task is Completed when your process exits with 0, and Failed when it exits with anything else. It is
not started a second time, so finish what you begin. The Pod and everything outside of pushed commits and calls to
other systems is thrown away afterwards.
";

/// What the items became.
pub struct Gathered {
    /// For task.md, in order.
    pub elements: Vec<Element>,
    /// With a mountPath, in order.
    pub files: Vec<File>,
    /// In order.
    pub checkouts: Vec<Checkout>,
    /// Whether there is a Runtime context.
    pub runtime: bool,
    /// All paths that are taken.
    pub places: Places,
}

/// Context items on their way.
pub struct Contexts<'l, 'a> {
    owner: &'l Owner,
    settings: &'l Settings,
    lookup: &'l mut Lookup<'a>,
    gathered: Gathered,
}

/// Whose item it is, and where it stands.
struct Source<'s> {
    item: String,
    resource: &'s str,
    /// None: into task.md.
    mount_path: Option<&'s str>,
    mode: Option<u32>,
}

impl<'l, 'a> Contexts<'l, 'a> {
    pub fn new(
        owner: &'l Owner,
        settings: &'l Settings,
        places: Places,
        lookup: &'l mut Lookup<'a>,
    ) -> Self {
        Self {
            owner,
            settings,
            lookup,
            gathered: Gathered {
                elements: Vec::new(),
                files: Vec::new(),
                checkouts: Vec::new(),
                runtime: false,
                places,
            },
        }
    }

    pub fn finish(self) -> Gathered {
        self.gathered
    }

    /// Add the items of a resource; `owner` is how messages call it, for example `Task fix`.
    pub fn add_all(
        &mut self,
        owner: &str,
        resource: &str,
        items: &[ContextItem],
    ) -> Result<(), LowerError> {
        for (index, item) in items.iter().enumerate() {
            let detail = match (&item.type_, &item.config_map) {
                (ContextType::ConfigMap, Some(config_map)) => {
                    format!("ConfigMap {}", config_map.name)
                }
                (type_, _) => format!("{type_:?}"),
            };
            let source = Source {
                item: format!("{owner}: contexts[{index}] ({detail})"),
                resource,
                mount_path: item.mount_path.as_deref().filter(|path| !path.is_empty()),
                mode: item.file_mode.and_then(|mode| u32::try_from(mode).ok()),
            };
            self.add(&source, item)?;
        }
        Ok(())
    }

    fn add(&mut self, source: &Source<'_>, item: &ContextItem) -> Result<(), LowerError> {
        let lacks = |field: &str| LowerError::BadItem {
            item: source.item.clone(),
            problem: format!("{field} is required for this type"),
        };
        match item.type_ {
            ContextType::Text => {
                let text = item.text.as_ref().ok_or_else(|| lacks("text"))?;
                self.add_text(source, text)
            }
            ContextType::ConfigMap => {
                let reference = item.config_map.as_ref().ok_or_else(|| lacks("configMap"))?;
                self.add_config_map(source, reference)
            }
            ContextType::Git => {
                let repository = item.git.as_ref().ok_or_else(|| lacks("git"))?;
                let path = source.mount_path.ok_or_else(|| lacks("mountPath"))?;
                let path = self
                    .gathered
                    .places
                    .take(&source.item, path, Place::Checkout)?;
                let checkout = git::checkout(
                    &source.item,
                    repository,
                    path,
                    source.mode,
                    self.owner,
                    self.settings,
                )?;
                if let Some(other) = push::same_place(&self.gathered.checkouts, &checkout) {
                    return Err(LowerError::BadItem {
                        item: source.item.clone(),
                        problem: format!(
                            "git.push.branch is the branch that {} is pushed to as well",
                            other.path
                        ),
                    });
                }
                self.gathered.checkouts.push(checkout);
                Ok(())
            }
            ContextType::Runtime => {
                self.gathered.runtime = true;
                self.element(
                    source.resource,
                    "Runtime",
                    Content::Text(RUNTIME_TEXT.to_owned()),
                );
                Ok(())
            }
        }
    }

    fn add_text(&mut self, source: &Source<'_>, text: &str) -> Result<(), LowerError> {
        if let Some(path) = source.mount_path {
            self.file(source, path, text.as_bytes().to_vec())
        } else {
            // A text has no name of its own: it is called after the resource that it stands in.
            self.element(source.resource, "Text", Content::Text(text.to_owned()));
            Ok(())
        }
    }

    fn add_config_map(
        &mut self,
        source: &Source<'_>,
        wanted: &ConfigMapContext,
    ) -> Result<(), LowerError> {
        if !is_object_name(&wanted.name) {
            return Err(LowerError::BadItem {
                item: source.item.clone(),
                problem: format!("{:?} {NO_OBJECT_NAME}", wanted.name),
            });
        }
        let reference = Reference::config_map(&self.owner.namespace, &wanted.name);
        let optional = wanted.optional.unwrap_or(false);
        let found = match self.lookup.get(&reference) {
            Known::Found(Found::ConfigMap(found)) => found,
            Known::Found(_) | Known::Absent => {
                if !optional {
                    self.lookup.miss(reference, Lack::Object);
                }
                return Ok(());
            }
            Known::Unknown => return Ok(()),
        };
        let entries = entries(found);
        if let Some(key) = wanted.key.as_deref().filter(|key| !key.is_empty()) {
            let Some((_, content)) = entries.into_iter().find(|(name, _)| name == key) else {
                if !optional {
                    self.lookup.miss(reference, Lack::Key(key.to_owned()));
                }
                return Ok(());
            };
            return if let Some(path) = source.mount_path {
                self.file(source, path, content)
            } else {
                let text = text(source, key, content)?;
                self.element(&wanted.name, "ConfigMap", Content::Text(text));
                Ok(())
            };
        }
        if let Some(directory) = source.mount_path {
            for (key, content) in entries {
                self.file(source, &format!("{directory}/{key}"), content)?;
            }
            return Ok(());
        }
        let files = entries
            .into_iter()
            .map(|(key, content)| Ok((key.clone(), text(source, &key, content)?)))
            .collect::<Result<Vec<_>, LowerError>>()?;
        self.element(&wanted.name, "ConfigMap", Content::Files(files));
        Ok(())
    }

    fn file(
        &mut self,
        source: &Source<'_>,
        path: &str,
        content: Vec<u8>,
    ) -> Result<(), LowerError> {
        let path = self.gathered.places.take(&source.item, path, Place::File)?;
        self.gathered.files.push(File {
            path,
            content,
            mode: source.mode,
        });
        Ok(())
    }

    fn element(&mut self, name: &str, type_: &'static str, content: Content) {
        self.gathered.elements.push(Element {
            name: name.to_owned(),
            namespace: self.owner.namespace.clone(),
            type_,
            content,
        });
    }
}

/// All keys with their bytes, sorted by key.
fn entries(config_map: &ConfigMap) -> Vec<(String, Vec<u8>)> {
    let text = config_map.data.iter().flatten();
    let binary = config_map.binary_data.iter().flatten();
    let mut entries: Vec<_> = text
        .map(|(key, text)| (key.clone(), text.clone().into_bytes()))
        .chain(binary.map(|(key, bytes)| (key.clone(), bytes.0.clone())))
        .collect();
    entries.sort();
    entries
}

fn text(source: &Source<'_>, key: &str, content: Vec<u8>) -> Result<String, LowerError> {
    String::from_utf8(content).map_err(|_| LowerError::BadItem {
        item: source.item.clone(),
        problem: format!(
            "the key {key:?} is not text and cannot stand in task.md: give the item a mountPath"
        ),
    })
}
