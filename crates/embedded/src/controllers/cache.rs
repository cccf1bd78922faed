//! What a watch has shown of one resource, together with what the controller itself has written since.
//!
//! A watch is late. A controller that looks only at its watch would create a Pod again that it has just created.
//! So every answer to a write goes in here at once, and counts until the watch has passed it: resource
//! versions of one resource can be compared as numbers (KEP-5504).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::{Resource, ResourceExt as _, runtime::watcher::Event};

/// Namespace and name.
pub(crate) type ObjectKey = (String, String);

/// Namespace and name of an object.
pub(crate) fn key<K: Resource>(object: &K) -> ObjectKey {
    (
        object.meta().namespace.clone().unwrap_or_default(),
        object.name_any(),
    )
}

/// The resource version as a number; 0 for none.
fn version<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or_default()
}

/// One object that is not as it was.
#[derive(Debug)]
pub(crate) struct Change<K> {
    /// As it was; `None` if it is new.
    pub(crate) old: Option<Arc<K>>,
    /// As it is; `None` if it is gone.
    pub(crate) new: Option<Arc<K>>,
}

/// All objects of one resource.
#[derive(Debug)]
pub(crate) struct Cache<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    /// The newest version the watch has shown.
    watched: u64,
    /// While the watch lists: what is known to exist.
    listed: Option<BTreeSet<ObjectKey>>,
    synced: bool,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            watched: 0,
            listed: None,
            synced: false,
        }
    }
}

impl<K: Resource> Cache<K> {
    /// Whether the watch has listed everything once.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// The object of this name.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Takes over what the watch says.
    pub(crate) fn observe(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listed = Some(BTreeSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listed) = &mut self.listed {
                    listed.insert(key(&object));
                }
                self.watched = self.watched.max(version(&object));
                self.replace(object).into_iter().collect()
            }
            Event::InitDone => {
                self.synced = true;
                let Some(listed) = self.listed.take() else {
                    return Vec::new();
                };
                let gone: Vec<ObjectKey> = self
                    .objects
                    .keys()
                    .filter(|key| !listed.contains(key))
                    .cloned()
                    .collect();
                gone.iter().filter_map(|key| self.forget(key)).collect()
            }
            Event::Apply(object) => {
                self.watched = self.watched.max(version(&object));
                self.replace(object).into_iter().collect()
            }
            Event::Delete(object) => {
                self.watched = self.watched.max(version(&object));
                let key = key(&object);
                let same = |known: &Arc<K>| known.meta().uid == object.meta().uid;
                if self.objects.get(&key).is_some_and(same) {
                    self.forget(&key).into_iter().collect()
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// Takes over the answer to a write of this controller.
    pub(crate) fn written(&mut self, object: K) -> Option<Change<K>> {
        if version(&object) <= self.watched {
            return None;
        }
        let meta = object.meta();
        let gone = meta.deletion_timestamp.is_some()
            && meta.deletion_grace_period_seconds.unwrap_or_default() == 0
            && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        let key = key(&object);
        if gone {
            return self.forget(&key);
        }
        if let Some(listed) = &mut self.listed {
            listed.insert(key);
        }
        self.replace(object)
    }

    /// Takes an object out that turned out not to exist.
    pub(crate) fn forget(&mut self, key: &ObjectKey) -> Option<Change<K>> {
        let old = self.objects.remove(key)?;
        Some(Change {
            old: Some(old),
            new: None,
        })
    }

    /// Puts an object in, unless a newer state of it is known.
    fn replace(&mut self, object: K) -> Option<Change<K>> {
        let key = key(&object);
        if self
            .objects
            .get(&key)
            .is_some_and(|known| version(&**known) >= version(&object))
        {
            return None;
        }
        let new = Arc::new(object);
        let old = self.objects.insert(key, new.clone());
        Some(Change {
            old,
            new: Some(new),
        })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, uid: &str, version: u64) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {
            "namespace": "n", "name": name, "uid": uid, "resourceVersion": version.to_string(),
        }}))
        .unwrap()
    }

    fn names(cache: &Cache<ConfigMap>) -> Vec<String> {
        cache.objects.keys().map(|(_, name)| name.clone()).collect()
    }

    #[test]
    fn an_own_write_is_seen_before_the_watch_shows_it() {
        let mut cache = Cache::default();
        cache.observe(Event::Apply(object("a", "1", 5)));
        assert!(cache.written(object("b", "2", 6)).is_some());
        assert_eq!(names(&cache), ["a", "b"]);
    }

    #[test]
    fn an_own_write_that_the_watch_has_passed_does_not_raise_the_dead() {
        let mut cache = Cache::default();
        cache.observe(Event::Apply(object("a", "1", 5)));
        cache.observe(Event::Delete(object("a", "1", 7)));
        assert!(cache.written(object("a", "1", 6)).is_none());
        assert!(names(&cache).is_empty());
    }

    #[test]
    fn a_late_watch_does_not_undo_an_own_write() {
        let mut cache = Cache::default();
        cache.observe(Event::Apply(object("a", "1", 5)));
        cache.written(object("a", "1", 9));
        assert!(cache.observe(Event::Apply(object("a", "1", 7))).is_empty());
    }

    #[test]
    fn what_a_new_list_does_not_show_is_gone() {
        let mut cache = Cache::default();
        cache.observe(Event::Apply(object("a", "1", 5)));
        cache.observe(Event::Apply(object("b", "2", 6)));
        cache.observe(Event::Init);
        cache.observe(Event::InitApply(object("b", "2", 6)));
        cache.written(object("c", "3", 9));
        let gone = cache.observe(Event::InitDone);
        assert_eq!(gone.len(), 1);
        assert_eq!(names(&cache), ["b", "c"]);
    }

    #[test]
    fn a_namesake_is_not_deleted_by_its_predecessors_event() {
        let mut cache = Cache::default();
        cache.observe(Event::Apply(object("a", "1", 5)));
        cache.written(object("a", "2", 9));
        cache.observe(Event::Delete(object("a", "1", 8)));
        assert_eq!(names(&cache), ["a"]);
    }
}
