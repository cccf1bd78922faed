//! `create`, and the same at the end of a PUT or an apply that finds nothing.

use http::Response;
use serde_json::Value;

use super::body::{Body, document};
use super::query::{WriteOptions, WriteVerb};
use super::{Call, auth, broken, respond};
use crate::apply::{self, Writer};
use crate::clock;
use crate::schema::Document;
use crate::status::{Cause, Failure};
use crate::store::{Expect, StoreError, Write};

/// How often a generated name that is taken is replaced by another.
const NAME_ATTEMPTS: usize = 8;

/// Longest part of a generated name that the client gives.
const GENERATED_BASE: usize = 58;

impl Call {
    pub(super) fn document(&self) -> Result<Document, Failure> {
        document(&self.media, &self.body, &self.kind.kind, self.kind.custom)
    }

    pub(super) async fn create(self) -> Result<Response<Body>, Failure> {
        let options = WriteOptions::read(&self.query, WriteVerb::Create)?;
        let decoded = self.kind.decode(self.document()?, options.validation)?;
        let mut object = decoded.object;
        if !self.kind.is_stored() {
            return self.review(object);
        }
        if let Some(name) = &self.path.name
            && object["metadata"]["name"].is_null()
        {
            object["metadata"]["name"] = name.as_str().into();
        }
        let answer = match self.same_namespace(&object) {
            Ok(()) => self.insert(object, &options, false).await,
            Err(refusal) => Err(refusal),
        };
        Ok(respond::warned(answer, &decoded.warnings, &decoded.advice))
    }

    fn review(&self, mut object: Value) -> Result<Response<Body>, Failure> {
        if let Some(namespace) = self.namespace() {
            object["spec"]["resourceAttributes"]["namespace"] = namespace.into();
        }
        auth::review(&self.api.store, &self.user, &self.kind.kind, &mut object);
        match self.kind.kind.as_str() {
            "SelfSubjectReview" => {
                object["metadata"]["creationTimestamp"] = self.api.now().into();
            }
            "SelfSubjectRulesReview" => object["spec"] = Value::Object(serde_json::Map::new()),
            _ => {
                let manager = self.manager(None);
                let time = self.api.now();
                let status = object.as_object_mut().and_then(|map| map.remove("status"));
                apply::track_update(&self.kind, None, &mut object, writer(&manager, &time, None));
                object["status"] = status.unwrap_or_default();
            }
        }
        self.rendering.object(201, &self.kind, &object)
    }

    /// The namespace in a body, where there is one, must be that of the path.
    pub(super) fn same_namespace(&self, object: &Value) -> Result<(), Failure> {
        let given = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if given.is_empty() || Some(given) == self.namespace() || !self.kind.namespaced {
            return Ok(());
        }
        Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }

    /// Stores a decoded object as a new one. `applied` says that its `managedFields` are right already.
    pub(super) async fn insert(
        &self,
        object: Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Response<Body>, Failure> {
        let generated = object["metadata"]["name"]
            .as_str()
            .is_none_or(str::is_empty);
        for attempt in 1.. {
            match self.try_insert(object.clone(), options, applied).await {
                Err(Failure::Status(status))
                    if generated && attempt < NAME_ATTEMPTS && status.reason == "AlreadyExists" => {
                }
                other => return other,
            }
        }
        Err(Failure::internal("no name could be generated"))
    }

    async fn try_insert(
        &self,
        mut object: Value,
        options: &WriteOptions,
        applied: bool,
    ) -> Result<Response<Body>, Failure> {
        let kind = &self.kind;
        self.fill_metadata(&mut object, applied)?;
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Some(namespace) = self.namespace() {
            self.api.admit_namespace(kind, namespace, &name)?;
        }
        if kind.has_status
            && kind.custom
            && let Some(map) = object.as_object_mut()
        {
            map.remove("status");
        }
        if !applied {
            let manager = self.manager(options.manager.as_ref());
            let time = self.api.now();
            apply::track_update(kind, None, &mut object, writer(&manager, &time, None));
        }
        self.api.admit(kind, &mut object);
        kind.prepare_create(&mut object);
        self.valid(&object, None)?;
        let key = self.key(&name);
        if options.dry_run {
            if let Some(there) = self.api.store.get(&key) {
                return Err(self.exists(&name, &there.value));
            }
            return self.rendering.object(201, kind, &object);
        }
        let write = Write::Put {
            key,
            expect: Expect::Absent,
            value: kind.to_stored(object),
        };
        match self.api.store.write(write).await {
            Ok(stored) => {
                let shown = kind.from_stored(stored.value.clone());
                self.api.created(kind, &stored).await?;
                self.rendering.object(201, kind, &shown)
            }
            Err(StoreError::Conflict(there)) => {
                let there = there.map(|there| there.value.clone()).unwrap_or_default();
                Err(self.exists(&name, &there))
            }
            Err(error) => Err(broken(&error)),
        }
    }

    fn exists(&self, name: &str, there: &Value) -> Failure {
        let (group, plural) = (&self.kind.group, &self.kind.plural);
        if there["metadata"]["deletionTimestamp"].is_string() {
            Failure::being_deleted(group, plural, name)
        } else {
            Failure::already_exists(group, plural, name)
        }
    }

    /// What the server decides in the metadata of a new object.
    fn fill_metadata(&self, object: &mut Value, applied: bool) -> Result<(), Failure> {
        if object["metadata"].is_null() {
            object["metadata"] = Value::Object(serde_json::Map::new());
        }
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default();
        if !version.is_empty() {
            return Err(Failure::internal(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let Some(metadata) = object["metadata"].as_object_mut() else {
            return Err(Failure::bad_request("metadata must be an object"));
        };
        for given in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "resourceVersion",
        ] {
            metadata.remove(given);
        }
        if !applied {
            metadata.remove("managedFields");
        }
        if let Some(namespace) = self.namespace() {
            metadata.insert("namespace".into(), namespace.into());
        }
        let text = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if text("name").is_empty() && !text("generateName").is_empty() {
            let base: String = text("generateName").chars().take(GENERATED_BASE).collect();
            let name = format!("{base}{}", clock::suffix(&self.api.entropy));
            metadata.insert("name".into(), name.into());
        }
        metadata.insert("uid".into(), clock::uid(&self.api.entropy).into());
        metadata.insert("creationTimestamp".into(), self.api.now().into());
        Ok(())
    }

    /// Refuses an object with faults.
    pub(super) fn valid(&self, object: &Value, old: Option<&Value>) -> Result<(), Failure> {
        let subresource = self.path.subresource.as_deref();
        let causes = self.kind.validate(object, old, subresource);
        self.refuse(object, causes)
    }

    pub(super) fn refuse(&self, object: &Value, causes: Vec<Cause>) -> Result<(), Failure> {
        if causes.is_empty() {
            return Ok(());
        }
        let kind = object["kind"].as_str().unwrap_or(&self.kind.kind);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        // Events of both groups are one type inside the real server, and it names that one.
        let group = &self.kind.stored_as.0;
        Err(Failure::invalid(group, kind, name, causes))
    }
}

pub(super) fn writer<'a>(
    manager: &'a str,
    time: &'a str,
    subresource: Option<&'a str>,
) -> Writer<'a> {
    Writer {
        manager,
        time,
        subresource,
    }
}
