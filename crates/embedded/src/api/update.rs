//! `update` and `patch`: read, change, check, and write on the condition that nobody else did in between.

use std::sync::Arc;

use http::Response;
use serde_json::{Value, json};

use super::body::{self, Body};
use super::create::writer;
use super::query::{WriteOptions, WriteVerb};
use super::read::shown;
use super::{Call, broken, respond};
use crate::apply;
use crate::kinds::FieldValidation;
use crate::patch::{self, Form};
use crate::schema::Document;
use crate::status::{Cause, Failure};
use crate::store::{Expect, Revised, StoreError, Write};

/// How a patch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

const CUSTOM_PATCHES: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

impl PatchType {
    fn read(media: &str, custom: bool) -> Result<Self, Failure> {
        match media {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            "application/strategic-merge-patch+json" if custom => {
                Err(Failure::unsupported_media_type(&CUSTOM_PATCHES))
            }
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            _ => Err(Failure::unknown_patch_type()),
        }
    }
}

/// A change worked out against one revision of the object.
struct Changed {
    object: Value,
    warnings: Vec<String>,
    advice: Vec<String>,
    /// Its `managedFields` are right already.
    applied: bool,
    /// Fields that were sent as empty maps, which decoding leaves out.
    hollow: Vec<&'static str>,
}

/// What came of one attempt.
enum Attempt {
    Done(Response<Body>),
    /// Somebody else wrote in between.
    Again,
}

impl Call {
    pub(super) async fn update(self) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::read(&self.query, WriteVerb::Update)?;
        let document = self.document()?;
        let hollow = self.kind.hollow(&document.value);
        let decoded = self.kind.decode(document, options.validation)?;
        let answer = self.replace(decoded.object, hollow, &options).await;
        Ok(respond::warned(answer, &decoded.warnings, &decoded.advice))
    }

    /// Puts an object in the place of the one that is there.
    async fn replace(
        &self,
        mut object: Value,
        hollow: Vec<&'static str>,
        options: &WriteOptions,
    ) -> Result<Response<Body>, Failure> {
        self.same_name(&object)?;
        self.same_namespace(&object)?;
        loop {
            let Some(current) = self.api.store.get(&self.key(self.name())) else {
                let creates = self.kind.kind == "Lease" && self.path.subresource.is_none();
                if !creates {
                    return Err(self.not_found());
                }
                if let Some(metadata) = object["metadata"].as_object_mut() {
                    metadata.remove("resourceVersion");
                }
                return self.insert(object, options, false).await;
            };
            let old = shown(&self.kind, &current);
            self.update_conditions(&old, &object)?;
            let changed = Changed {
                object: object.clone(),
                warnings: Vec::new(),
                advice: Vec::new(),
                applied: false,
                hollow: hollow.clone(),
            };
            if let Attempt::Done(response) = self.save(&current, old, changed, options).await? {
                return Ok(response);
            }
        }
    }

    /// What a PUT says about the object it replaces.
    fn update_conditions(&self, old: &Value, new: &Value) -> Result<(), Failure> {
        let (group, plural) = (&self.kind.group, &self.kind.plural);
        let version = new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        let there = old["metadata"]["uid"].as_str().unwrap_or_default();
        self.unconditional(new, Some(there))?;
        if !version.is_empty() && old["metadata"]["resourceVersion"] != version {
            return Err(Failure::modified(group, plural, self.name()));
        }
        if !uid.is_empty() && uid != there {
            let place = match self.namespace() {
                Some(namespace) => format!("{namespace}/{}", self.name()),
                None => self.name().to_owned(),
            };
            // Where the real server keeps it.
            let kept = if self.kind.custom {
                format!("{group}/{plural}/{place}")
            } else {
                format!("{plural}/{place}")
            };
            return Err(Failure::conflict(
                group,
                plural,
                self.name(),
                &format!(
                    "StorageError: invalid object, Code: 4, Key: /registry/{kept}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {there}"
                ),
            ));
        }
        Ok(())
    }

    /// Objects of some kinds are not changed without a resourceVersion; `there` is the UID of the one to be replaced.
    fn unconditional(&self, new: &Value, there: Option<&str>) -> Result<(), Failure> {
        let text = |key: &str| new["metadata"][key].as_str().unwrap_or_default();
        let kind = self.kind.kind.as_str();
        let needs = self.kind.custom || matches!(kind, "Lease" | "CustomResourceDefinition");
        // A UID alone is looked at first where the server would create what is missing.
        let other = !text("uid").is_empty() && there.is_some_and(|there| there != text("uid"));
        if !needs || !text("resourceVersion").is_empty() || (kind == "Lease" && other) {
            return Ok(());
        }
        let cause = Cause::invalid(
            "metadata.resourceVersion",
            &0.into(),
            "must be specified for an update",
        );
        let (group, plural) = (&self.kind.group, &self.kind.plural);
        Err(Failure::invalid(group, plural, self.name(), vec![cause]))
    }

    fn same_name(&self, object: &Value) -> Result<(), Failure> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if name == self.name() {
            return Ok(());
        }
        if name.is_empty() {
            return Err(Failure::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                self.name()
            )));
        }
        Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            self.name()
        )))
    }

    pub(super) async fn patch(self) -> Result<Response<Body>, Failure> {
        let patch_type = PatchType::read(&self.media, self.kind.custom)?;
        let options = WriteOptions::read(
            &self.query,
            if patch_type == PatchType::Apply {
                WriteVerb::Apply
            } else {
                WriteVerb::Patch
            },
        )?;
        if self.path.subresource.is_some() && self.api.store.get(&self.key(self.name())).is_none() {
            return Err(self.not_found());
        }
        let (content, faults) = self.patch_content(patch_type, options.validation)?;
        loop {
            let current = self.api.store.get(&self.key(self.name()));
            let old = current.as_deref().map(|object| shown(&self.kind, object));
            if patch_type == PatchType::Apply {
                let mut applied = self.applied(old.as_ref(), &content, &options)?;
                applied.warnings.extend_from_slice(&faults);
                let (Some(current), Some(old)) = (current, old) else {
                    let answer = self.insert(applied.object, &options, true).await;
                    return Ok(respond::warned(answer, &applied.warnings, &applied.advice));
                };
                if let Attempt::Done(response) = self.save(&current, old, applied, &options).await?
                {
                    return Ok(response);
                }
                continue;
            }
            let (Some(current), Some(old)) = (current, old) else {
                return Err(self.not_found());
            };
            let changed = self.patched(patch_type, &old, &content, &options)?;
            if let Attempt::Done(response) = self.save(&current, old, changed, &options).await? {
                return Ok(response);
            }
        }
    }

    /// The patch, and what there is to warn of in its text.
    fn patch_content(
        &self,
        patch_type: PatchType,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), Failure> {
        if patch_type == PatchType::Apply {
            let (value, faults) = body::lenient_yaml(&self.body)
                .map_err(|error| Failure::bad_request(format!("error decoding YAML: {error}")))?;
            self.apply_conditions(&value)?;
            return match (validation, faults.first()) {
                (FieldValidation::Strict, Some(fault)) => Err(Failure::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {fault}"
                ))),
                (FieldValidation::Ignore, _) => Ok((value, Vec::new())),
                _ => Ok((value, faults)),
            };
        }
        let patch = serde_json::from_slice(&self.body).map_err(|error| {
            Failure::bad_request(format!(
                "error decoding patch: {}",
                body::go_error(&error, &self.body)
            ))
        })?;
        Ok((patch, Vec::new()))
    }

    /// What an apply configuration must say of itself.
    fn apply_conditions(&self, applied: &Value) -> Result<(), Failure> {
        let fields = &applied["metadata"]["managedFields"];
        if fields.as_array().is_some_and(|fields| !fields.is_empty()) {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        let kind = applied["kind"].as_str().unwrap_or_default();
        let version = applied["apiVersion"].as_str().unwrap_or_default();
        if kind != self.kind.kind || version != self.kind.api_version() {
            let slash = if version.contains('/') { "" } else { "/" };
            return Err(Failure::bad_request(format!(
                "invalid object type: {slash}{version}, Kind={kind}"
            )));
        }
        // Without a name it is about the object that is there.
        if !applied["metadata"]["name"].is_null() {
            self.same_name(applied)?;
        }
        self.same_namespace(applied)
    }

    fn applied(
        &self,
        old: Option<&Value>,
        content: &Value,
        options: &WriteOptions,
    ) -> Result<Changed, Failure> {
        let (group, plural) = (&self.kind.group, &self.kind.plural);
        let metadata = &content["metadata"];
        match old {
            Some(old) => self.same_version(old, content)?,
            None if self.path.subresource.is_some() => return Err(self.not_found()),
            None => {
                if let Some(uid) = metadata["uid"].as_str().filter(|uid| !uid.is_empty()) {
                    let why = format!(
                        "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                    );
                    return Err(Failure::conflict(group, plural, self.name(), &why));
                }
                self.same_name(content)?;
            }
        }
        let manager = self.manager(options.manager.as_ref());
        let time = self.api.now();
        let merged = apply::apply(
            &self.kind,
            old,
            content,
            writer(&manager, &time, self.path.subresource.as_deref()),
            options.force,
        )?;
        let decoded = self
            .kind
            .decode(Document::from(merged), FieldValidation::Ignore)?;
        Ok(Changed {
            object: decoded.object,
            warnings: decoded.warnings,
            advice: decoded.advice,
            applied: true,
            hollow: self.kind.hollow(content),
        })
    }

    /// A resource version in a patch is a condition.
    fn same_version(&self, old: &Value, new: &Value) -> Result<(), Failure> {
        let version = new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if version.is_empty() || old["metadata"]["resourceVersion"] == version {
            return Ok(());
        }
        Err(Failure::modified(
            &self.kind.group,
            &self.kind.plural,
            self.name(),
        ))
    }

    fn patched(
        &self,
        patch_type: PatchType,
        old: &Value,
        content: &Value,
        options: &WriteOptions,
    ) -> Result<Changed, Failure> {
        let (result, form) = match patch_type {
            PatchType::Json => (patch::json(old, content)?, Form::Json),
            PatchType::Merge => (patch::merge(old, content)?, Form::Merge),
            PatchType::Strategic | PatchType::Apply => {
                (patch::strategic(&self.kind, old, content)?, Form::Strategic)
            }
        };
        let hollow = self.kind.hollow(&result);
        let decoded = self
            .kind
            .decode_patched(result, content, form, options.validation)?;
        self.same_name(&decoded.object)?;
        self.same_namespace(&decoded.object)?;
        self.unconditional(&decoded.object, None)?;
        self.same_version(old, &decoded.object)?;
        Ok(Changed {
            object: decoded.object,
            warnings: decoded.warnings,
            advice: decoded.advice,
            applied: false,
            hollow,
        })
    }

    /// Checks a change and writes it, if it is one.
    async fn save(
        &self,
        current: &Arc<Revised>,
        old: Value,
        changed: Changed,
        options: &WriteOptions,
    ) -> Result<Attempt, Failure> {
        let done = |object: &Value| -> Result<Attempt, Failure> {
            let mut response = self.rendering.object(200, &self.kind, object)?;
            respond::warn(&mut response, &changed.warnings);
            respond::warn(&mut response, &changed.advice);
            Ok(Attempt::Done(response))
        };
        let new = match self.resolve(&old, &changed, options) {
            Ok(Some(new)) => new,
            Ok(None) => return done(&old),
            Err(refusal) => {
                let refused = respond::warned(Err(refusal), &changed.warnings, &[]);
                return Ok(Attempt::Done(refused));
            }
        };
        if options.dry_run {
            return done(&new);
        }
        let complete = deletion_is_complete(&new);
        let write = if complete {
            Write::Delete {
                key: current.key.clone(),
                revision: current.revision,
            }
        } else {
            Write::Put {
                key: current.key.clone(),
                expect: Expect::Revision(current.revision),
                value: self.kind.to_stored(new.clone()),
            }
        };
        match self.api.store.write(write).await {
            Ok(_) if complete => {
                self.api.removed(&self.kind, &new).await?;
                done(&new)
            }
            Ok(stored) => {
                self.api.updated(&self.kind, &stored).await?;
                done(&shown(&self.kind, &stored))
            }
            Err(StoreError::Conflict(_)) => Ok(Attempt::Again),
            Err(error) => Err(broken(&error)),
        }
    }

    /// The object as it will be, or `None` if nothing changes.
    fn resolve(
        &self,
        old: &Value,
        changed: &Changed,
        options: &WriteOptions,
    ) -> Result<Option<Value>, Failure> {
        let mut new = changed.object.clone();
        let mut causes = Vec::new();
        let uid = new["metadata"]["uid"].as_str().unwrap_or_default();
        if !uid.is_empty() && old["metadata"]["uid"] != uid {
            let cause = Cause::invalid("metadata.uid", &uid.into(), "field is immutable");
            causes.extend([cause.clone(), cause]);
        }
        keep_metadata(&mut new, old);
        self.kind.fill_in(&mut new);
        let subresource = self.path.subresource.as_deref();
        self.kind.prepare_update(&mut new, old, subresource);
        self.refuse(&new, causes)?;
        let mut checked = new.clone();
        for field in &changed.hollow {
            if checked.get(*field).is_none() {
                checked[*field] = json!({});
            }
        }
        self.valid(&checked, Some(old))?;
        if !changed.applied {
            let manager = self.manager(options.manager.as_ref());
            let time = self.api.now();
            let writer = writer(&manager, &time, subresource);
            apply::track_update(&self.kind, Some(old), &mut new, writer);
        }
        Ok((without_times(&new) != without_times(old)).then_some(new))
    }
}

/// What a client cannot change in the metadata.
fn keep_metadata(new: &mut Value, old: &Value) {
    let Some(metadata) = new["metadata"].as_object_mut() else {
        return;
    };
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        match old["metadata"].get(key) {
            Some(value) => metadata.insert(key.into(), value.clone()),
            None => metadata.remove(key),
        };
    }
}

/// An object without the times of its managers: a write that changes these alone changes nothing.
fn without_times(object: &Value) -> Value {
    let mut copy = object.clone();
    let managers = copy["metadata"]
        .get_mut("managedFields")
        .and_then(Value::as_array_mut);
    for manager in managers.into_iter().flatten() {
        if let Some(manager) = manager.as_object_mut() {
            manager.remove("time");
        }
    }
    copy
}

/// Whether nothing holds up an object that is being deleted.
pub(super) fn deletion_is_complete(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let empty = |list: &Value| list.as_array().is_none_or(Vec::is_empty);
    let namespace_done = object["kind"] != "Namespace" || empty(&object["spec"]["finalizers"]);
    metadata["deletionTimestamp"].is_string()
        && metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) == 0
        && empty(&metadata["finalizers"])
        && namespace_done
}
