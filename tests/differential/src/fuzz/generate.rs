//! From a seed to a sequence of requests, written as a [`Script`].

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use super::bodies::{Kind, damage, pick, rarely};
use crate::script::{Form, Patch, Script, Step, Until};

/// Names of objects: few, so that requests meet.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What stands behind the sequence's own namespace in the names of others.
pub(super) const NAMESPACES: [&str; 2] = ["a", "b"];

/// Where the objects of a sequence's own namespace are.
pub(super) fn collections() -> impl Iterator<Item = &'static str> {
    let namespaced = Kind::ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Namespace);
    namespaced.map(Kind::collection)
}

/// The object that ends a watch.
const END: &str = "zz-end";

/// The sequence of a seed. Its namespace is yet to be filled in.
pub(super) fn script(seed: u64) -> Script {
    let mut generator = Generator {
        rng: Rng::with_seed(seed),
        kinds: Vec::new(),
        steps: Vec::new(),
        touched: Vec::new(),
    };
    generator.kinds = (0..2)
        .map(|_| Kind::ALL[generator.rng.usize(0..Kind::ALL.len())])
        .collect();
    let count = generator.rng.usize(4..20);
    let watched = (generator.rng.usize(0..3) == 0 && generator.kinds[0] != Kind::Namespace)
        .then_some(generator.kinds[0]);
    if let Some(kind) = watched {
        generator.push(format!("GET {}", kind.collection()), Value::Null, |_| {});
    }
    let begin = generator.steps.len();
    for _ in 0..count {
        generator.request();
    }
    if let Some(kind) = watched {
        generator.watch(kind, begin);
    }
    Script {
        note: format!("seed {seed}"),
        namespace: String::new(),
        requests: generator.steps,
    }
}

struct Generator {
    rng: Rng,
    kinds: Vec<Kind>,
    steps: Vec<Step>,
    /// Which request was about which object.
    touched: Vec<(String, String)>,
}

impl Generator {
    fn push(&mut self, request: String, body: Value, change: impl FnOnce(&mut Step)) {
        let mut step = Step {
            id: format!("r{}", self.steps.len()),
            note: None,
            request,
            patch: None,
            accept: None,
            headers: BTreeMap::new(),
            who: None,
            body,
            until: None,
            during: None,
            through: None,
        };
        change(&mut step);
        self.steps.push(step);
    }

    /// All steps from `begin` on happen during a watch.
    fn watch(&mut self, kind: Kind, begin: usize) {
        let mut end = kind.simplest(END);
        end["metadata"]["labels"] = json!({"app": "a"});
        self.push(format!("POST {}", kind.collection()), end, |_| {});
        let during = self.steps.split_off(begin);
        let first = self.steps[begin - 1].id.clone();
        let mut query = format!("watch=true&resourceVersion=${{{first}/metadata/resourceVersion}}");
        if self.rng.bool() {
            query += "&labelSelector=app%3Da";
        }
        let accept = match self.rng.usize(0..4) {
            0 => Some(Form::Table),
            1 => Some(Form::Metadata),
            _ => None,
        };
        self.push(
            format!("GET {}?{query}", kind.collection()),
            Value::Null,
            |step| {
                "watch".clone_into(&mut step.id);
                step.accept = accept;
                step.during = Some(during);
                step.through = Some(END.to_owned());
            },
        );
    }

    fn request(&mut self) {
        let kind = self.kinds[self.rng.usize(0..self.kinds.len())];
        let name = pick(&mut self.rng, &NAMES);
        let name = if kind == Kind::Namespace {
            format!("{{namespace}}-{}", pick(&mut self.rng, &NAMESPACES))
        } else {
            name.to_owned()
        };
        let path = format!("{}/{name}", kind.collection());
        match self.rng.usize(0..20) {
            0..=5 => self.create(kind, &name, &path),
            6..=7 => self.update(kind, &name, &path),
            8..=12 => self.patch(kind, &name, &path),
            13..=14 => self.delete(kind, &path),
            15 if kind.has_status() => self.status(kind, &name, &path),
            15..=16 => self.get(&path),
            17..=18 => self.list(kind),
            _ if kind == Kind::Namespace => self.get(&path),
            _ => self.delete_collection(kind),
        }
    }

    /// A reference into the answer to an earlier request about an object.
    fn reference(&mut self, path: &str, field: &str) -> Option<String> {
        let about: Vec<&String> = self
            .touched
            .iter()
            .filter_map(|(of, id)| (of == path).then_some(id))
            .collect();
        let chosen = about.get(self.rng.usize(0..about.len().max(1)))?;
        Some(format!("${{{chosen}/metadata/{field}}}"))
    }

    fn about(&mut self, path: &str, request: String, body: Value, change: impl FnOnce(&mut Step)) {
        self.push(request, body, change);
        let id = self.steps[self.steps.len() - 1].id.clone();
        self.touched.push((path.to_owned(), id));
    }

    fn write_query(&mut self, apply: bool) -> String {
        let mut parameters = Vec::new();
        if apply || rarely(&mut self.rng, 3) {
            parameters.push(format!(
                "fieldManager={}",
                pick(&mut self.rng, &["one", "two", "three"])
            ));
        }
        if apply && rarely(&mut self.rng, 3) {
            parameters.push("force=true".to_owned());
        }
        if rarely(&mut self.rng, 8) {
            parameters.push("dryRun=All".to_owned());
        }
        if rarely(&mut self.rng, 4) {
            let mode = pick(&mut self.rng, &["Strict", "Warn", "Ignore"]);
            parameters.push(format!("fieldValidation={mode}"));
        }
        if parameters.is_empty() {
            String::new()
        } else {
            format!("?{}", parameters.join("&"))
        }
    }

    fn maybe_damaged(&mut self, mut body: Value) -> Value {
        if rarely(&mut self.rng, 8) {
            damage(&mut self.rng, &mut body);
        }
        // A Job without it would be the Job controller's.
        if body["spec"]["template"].is_object() {
            body["spec"]["managedBy"] = "example.test/fuzz".into();
        }
        body
    }

    fn create(&mut self, kind: Kind, name: &str, path: &str) {
        let mut body = kind.object(&mut self.rng, name);
        if rarely(&mut self.rng, 12)
            && kind != Kind::Namespace
            && let Some(metadata) = body["metadata"].as_object_mut()
        {
            metadata.remove("name");
            metadata.insert("generateName".into(), "g-".into());
        }
        let body = self.maybe_damaged(body);
        let query = self.write_query(false);
        self.about(
            path,
            format!("POST {}{query}", kind.collection()),
            body,
            |_| {},
        );
    }

    fn update(&mut self, kind: Kind, name: &str, path: &str) {
        let mut body = kind.object(&mut self.rng, name);
        if !rarely(&mut self.rng, 4)
            && let Some(version) = self.reference(path, "resourceVersion")
        {
            body["metadata"]["resourceVersion"] = version.into();
        }
        if rarely(&mut self.rng, 6)
            && let Some(uid) = self.reference(path, "uid")
        {
            body["metadata"]["uid"] = uid.into();
        }
        let body = self.maybe_damaged(body);
        let query = self.write_query(false);
        self.about(path, format!("PUT {path}{query}"), body, |_| {});
    }

    fn patch(&mut self, kind: Kind, name: &str, path: &str) {
        let all = [Patch::Merge, Patch::Json, Patch::Apply, Patch::Strategic];
        let how = all[self.rng.usize(0..if kind.is_custom() { 3 } else { 4 })];
        let body = match how {
            Patch::Json => self.json_patch(kind),
            Patch::Apply => kind.object(&mut self.rng, name),
            Patch::Merge | Patch::Strategic => self.part(kind, path, how),
        };
        let body = self.maybe_damaged(body);
        let query = self.write_query(how == Patch::Apply);
        self.about(path, format!("PATCH {path}{query}"), body, |step| {
            step.patch = Some(how);
        });
    }

    /// A part of an object: some of its top fields, some of what is in them null.
    fn part(&mut self, kind: Kind, path: &str, how: Patch) -> Value {
        let mut part = kind.fragment(&mut self.rng);
        let Some(fields) = part.as_object_mut() else {
            return part;
        };
        fields.retain(|_, _| self.rng.usize(0..3) > 0);
        for field in fields.values_mut() {
            if let Some(inner) = field.as_object_mut() {
                inner.retain(|_, _| self.rng.bool());
                for value in inner.values_mut() {
                    if rarely(&mut self.rng, 6) {
                        *value = Value::Null;
                    }
                }
            }
        }
        if rarely(&mut self.rng, 6)
            && let Some(version) = self.reference(path, "resourceVersion")
        {
            part["metadata"]["resourceVersion"] = version.into();
        }
        if how == Patch::Strategic && rarely(&mut self.rng, 4) {
            match (kind, self.rng.bool()) {
                (Kind::Pod, true) => {
                    part["spec"]["tolerations"] =
                        json!([{"$patch": "replace"}, {"key": "z", "operator": "Exists"}]);
                }
                (Kind::Pod, false) => {
                    part["spec"]["containers"] = json!([{"name": "main", "image": "i:3"}]);
                }
                (_, true) => part["metadata"]["labels"] = json!({"$patch": "replace", "app": "b"}),
                (_, false) => {
                    part["metadata"]["$deleteFromPrimitiveList/finalizers"] =
                        json!(["example.test/a"]);
                }
            }
        }
        part
    }

    fn json_patch(&mut self, kind: Kind) -> Value {
        let mut places = vec![
            "/metadata/labels",
            "/metadata/labels/app",
            "/metadata/annotations/note",
            "/metadata/finalizers",
            "/metadata/finalizers/0",
        ];
        places.extend(kind.pointers());
        places.retain(|place| kind != Kind::Namespace || !place.contains("finalizers"));
        let values = [
            json!("a"),
            json!("b"),
            json!({}),
            json!([]),
            json!(null),
            json!(1),
            json!(["example.test/a"]),
        ];
        let operations = (0..self.rng.usize(1..4)).map(|_| {
            let path = pick(&mut self.rng, &places);
            match pick(&mut self.rng, &["add", "replace", "remove", "test", "copy", "move"]) {
                "remove" => json!({"op": "remove", "path": path}),
                op @ ("copy" | "move") => json!({"op": op, "path": path, "from": pick(&mut self.rng, &places)}),
                op => json!({"op": op, "path": path, "value": values[self.rng.usize(0..values.len())]}),
            }
        });
        operations.collect()
    }

    fn status(&mut self, kind: Kind, name: &str, path: &str) {
        let status = kind.status(&mut self.rng);
        let (method, how, mut body) = match self.rng.usize(0..4) {
            0 => {
                let mut body = kind.object(&mut self.rng, name);
                if let Some(version) = self.reference(path, "resourceVersion") {
                    body["metadata"]["resourceVersion"] = version.into();
                }
                ("PUT", None, body)
            }
            1 => {
                let body = kind.object(&mut self.rng, name);
                let kept = json!({"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": {"name": name}});
                ("PATCH", Some(Patch::Apply), kept)
            }
            2 if !kind.is_custom() => ("PATCH", Some(Patch::Strategic), json!({})),
            _ => ("PATCH", Some(Patch::Merge), json!({})),
        };
        body["status"] = status;
        let body = self.maybe_damaged(body);
        let query = self.write_query(how == Some(Patch::Apply));
        self.about(
            path,
            format!("{method} {path}/status{query}"),
            body,
            |step| step.patch = how,
        );
    }

    fn delete_options(&mut self, path: &str) -> Value {
        let mut options = json!({});
        if rarely(&mut self.rng, 2) {
            let policy = pick(
                &mut self.rng,
                &["Background", "Foreground", "Orphan", "Sideways"],
            );
            options["propagationPolicy"] = policy.into();
        }
        if rarely(&mut self.rng, 4)
            && let Some(uid) = self.reference(path, "uid")
        {
            options["preconditions"]["uid"] = uid.into();
        }
        if rarely(&mut self.rng, 4)
            && let Some(version) = self.reference(path, "resourceVersion")
        {
            options["preconditions"]["resourceVersion"] = version.into();
        }
        if rarely(&mut self.rng, 6) {
            options["gracePeriodSeconds"] = self.rng.i32(-1..30).into();
        }
        if rarely(&mut self.rng, 8) {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    fn delete(&mut self, kind: Kind, path: &str) {
        let body = if rarely(&mut self.rng, 3) {
            Value::Null
        } else {
            self.delete_options(path)
        };
        self.push(format!("DELETE {path}"), body.clone(), |_| {});
        // What other programs do next is waited for, so that both have done it.
        let until = if kind == Kind::Namespace && body["dryRun"].is_null() {
            return self.push(format!("GET {path}"), Value::Null, |step| {
                step.until = Some(Until::Gone);
            });
        } else {
            Until::Collected
        };
        self.push(format!("GET {path}"), Value::Null, |step| {
            step.until = Some(until);
        });
    }

    fn delete_collection(&mut self, kind: Kind) {
        let query = pick(
            &mut self.rng,
            &[
                "?labelSelector=app%3Da",
                "?labelSelector=app%3Db",
                "?labelSelector=!app",
            ],
        );
        let query = if kind == Kind::ConfigMap && query.contains('!') {
            "?labelSelector=app"
        } else {
            query
        };
        let body = json!({"propagationPolicy": "Background"});
        self.push(format!("DELETE {}{query}", kind.collection()), body, |_| {});
    }

    fn form(&mut self, list: bool) -> Option<Form> {
        match self.rng.usize(0..4) {
            0 => Some(Form::Table),
            1 if list => Some(Form::MetadataList),
            1 => Some(Form::Metadata),
            _ => None,
        }
    }

    fn get(&mut self, path: &str) {
        let accept = self.form(false);
        self.about(path, format!("GET {path}"), Value::Null, |step| {
            step.accept = accept;
        });
    }

    fn list(&mut self, kind: Kind) {
        let mut parameters = Vec::new();
        // Other namespaces, and what every namespace gets, belong to other programs.
        let selector = pick(
            &mut self.rng,
            &[
                "app",
                "app%3Da",
                "app+in+(a,b)",
                "app!%3Da,tier",
                "tier%3Dx",
                "!tier,app",
                "app%3D-",
            ],
        );
        if kind == Kind::Namespace {
            parameters.push("fieldSelector=metadata.name%3D{namespace}-a".to_owned());
        } else if kind == Kind::ConfigMap || self.rng.bool() {
            parameters.push(format!("labelSelector={selector}"));
        }
        if rarely(&mut self.rng, 6) && kind != Kind::Namespace {
            let field = pick(
                &mut self.rng,
                &[
                    "metadata.name%3Da",
                    "metadata.name!%3Da",
                    "status.phase%3DPending",
                    "type%3DOpaque",
                    "spec.x%3D1",
                ],
            );
            parameters.push(format!("fieldSelector={field}"));
        }
        let paged = rarely(&mut self.rng, 3);
        if paged {
            parameters.push(format!("limit={}", self.rng.usize(1..3)));
        }
        let query = parameters.join("&");
        let accept = self.form(true);
        let path = format!("GET {}?{query}", kind.collection());
        self.push(path.clone(), Value::Null, |step| step.accept = accept);
        if paged {
            let first = self.steps[self.steps.len() - 1].id.clone();
            let next = format!("{path}&continue=${{{first}/metadata/continue}}");
            self.push(next, Value::Null, |step| step.accept = accept);
        }
    }
}
