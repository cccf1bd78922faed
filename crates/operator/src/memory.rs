//! What the operator has just written and its caches may not show yet.
//!
//! A round that ended with a write is followed by one that the write itself caused, and by others that older events
//! caused. Seen through a cache that lags behind, the object would still be as it was before the write, and the work
//! would be begun again, only to fail at a precondition. An [`Overlay`] covers exactly the versions that our own writes
//! replaced, and those that must be earlier by what is in them. It never guesses an order between versions: with any
//! other version, the cache is right.
//!
//! It saves requests; correctness does not depend on it.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::Resource;
use kubeopencode_engine::{
    decide::{Action, Event, REFUSED_AGAIN},
    state::RunState,
};
use tokio::time::Instant;

/// A lock that nothing can poison: no code that holds one can panic half-way through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The newest version of one object that we know of, over those that it replaced.
#[derive(Debug)]
pub(crate) struct Overlay<K> {
    replaced: Vec<String>,
    newest: Option<Arc<K>>,
}

impl<K> Default for Overlay<K> {
    fn default() -> Self {
        Self {
            replaced: Vec::new(),
            newest: None,
        }
    }
}

impl<K: Resource> Overlay<K> {
    /// There is a version `after` since `before`: a write made it, or the API server has shown it to who asked.
    pub(crate) fn knows(&mut self, before: Option<&str>, after: Arc<K>) {
        self.replaced.extend(before.map(str::to_owned));
        self.newest = Some(after);
    }

    /// The newer one of what a cache shows and what we know. `earlier` says of our version and one that is shown whether
    /// the latter must be from before it.
    pub(crate) fn over(&mut self, cached: Arc<K>, earlier: impl Fn(&K, &K) -> bool) -> Arc<K> {
        let version = cached.meta().resource_version.as_ref();
        let replaced = version.is_some_and(|version| self.replaced.contains(version));
        match &self.newest {
            Some(newest) if replaced || earlier(newest, &cached) => newest.clone(),
            _ => {
                *self = Self::default();
                cached
            }
        }
    }
}

/// What is remembered of one owner between its rounds.
#[derive(Debug)]
pub(crate) struct Remembered<K> {
    /// The owner itself.
    pub(crate) owner: Overlay<K>,
    /// Its current Job.
    pub(crate) job: Overlay<Job>,
    /// Its Pods, by UID; only those that were written to.
    pub(crate) pods: HashMap<String, Overlay<Pod>>,
    /// Rounds that failed since the last one that did not.
    pub(crate) failures: u32,
    /// The last of these that failed because of what the API server answered, and not for want of an answer.
    pub(crate) answered: u32,
    /// Whether the last change was refused, or undone.
    pub(crate) refused: bool,
    /// The last change that was granted.
    granted: Option<Granted>,
    /// A state that was sent and never answered for: whether it is on record, the next look tells.
    pub(crate) unanswered: Option<Box<Unanswered>>,
    /// When the API server said that there is no such owner.
    missed: Option<Instant>,
    /// When something was recorded lately that changes nothing, and is there for people alone.
    told: Vec<Instant>,
}

/// A change that was granted. Where it has to be made again, somebody undoes it.
#[derive(Debug)]
struct Granted {
    change: Box<Action>,
    times: u32,
    at: Instant,
    in_this_round: bool,
}

/// How often a person may undo a change before it is made again only after a pause: whoever mends something with another
/// tool does that once or twice.
const UNDONE_AT_MOST: u32 = 3;
/// How often something new may be told of a Run before that has to wait: two operators of which one sees what is old would
/// contradict each other as fast as they can.
const TOLD_AT_MOST: usize = 5;

impl<K> Remembered<K> {
    /// A round begins.
    pub(crate) fn begins(&mut self) {
        if let Some(granted) = &mut self.granted {
            granted.in_this_round = false;
        }
    }

    /// The API server says that the owner is gone, and the watch has not said so.
    pub(crate) fn is_missed(&mut self) {
        self.missed = Some(Instant::now());
    }

    /// How long nothing is done for an owner that is gone: what is made of it goes with it, and each of these events would
    /// begin it anew. It is asked again, since a gateway may say so of one that is there.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let since = self.missed?.elapsed();
        REFUSED_AGAIN
            .checked_sub(since)
            .filter(|left| !left.is_zero())
    }

    /// What became of a change that was not refused.
    pub(crate) fn tried<E>(&mut self, change: Box<Action>, became: &Result<ControlFlow<()>, E>) {
        match became {
            Ok(ControlFlow::Continue(())) => self.grant(change),
            // The object was another one by then.
            Ok(ControlFlow::Break(())) => self.refused = false,
            // What may pass is neither.
            Err(_) => {}
        }
    }

    fn grant(&mut self, change: Box<Action>) {
        let before = self.granted.take().filter(|it| it.change == change);
        let times = before.map_or(0, |it| it.times).saturating_add(1);
        // One that has to be made again was as good as refused before.
        self.refused &= times > 1;
        self.granted = Some(Granted {
            change,
            times,
            at: Instant::now(),
            in_this_round: true,
        });
    }

    /// Something new is to be told: whether it may be now. Then it counts as told.
    pub(crate) fn may_tell(&mut self) -> bool {
        self.told.retain(|told| told.elapsed() < REFUSED_AGAIN);
        let may = self.told.len() < TOLD_AT_MOST;
        if may {
            self.told.push(Instant::now());
        }
        may
    }

    /// Whether this change was granted and undone so often, or so lately, that it is not made again now.
    pub(crate) fn is_undone(&self, change: &Action) -> bool {
        let granted = self.granted.as_ref().filter(|it| *it.change == *change);
        granted.is_some_and(|it| {
            it.in_this_round || (it.times >= UNDONE_AT_MOST && it.at.elapsed() < REFUSED_AGAIN)
        })
    }
}

/// A state that may be on record, and what people are to hear then.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) state: RunState,
    /// Whether it had not ended before.
    pub(crate) went_on: bool,
    pub(crate) events: Vec<Event>,
}

impl<K> Default for Remembered<K> {
    fn default() -> Self {
        Self {
            owner: Overlay::default(),
            job: Overlay::default(),
            pods: HashMap::new(),
            failures: 0,
            answered: 0,
            refused: false,
            missed: None,
            granted: None,
            unanswered: None,
            told: Vec::new(),
        }
    }
}

/// What is remembered of all owners, by their UID.
#[derive(Debug)]
pub(crate) struct Memory<K>(Mutex<HashMap<String, Remembered<K>>>);

impl<K> Memory<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Look at, or change, what is remembered of an owner.
    pub(crate) fn of<T>(&self, uid: &str, look: impl FnOnce(&mut Remembered<K>) -> T) -> T {
        let mut all = lock(&self.0);
        match all.get_mut(uid) {
            Some(remembered) => look(remembered),
            None => look(all.entry(uid.to_owned()).or_default()),
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Forget all but these.
    pub(crate) fn keep(&self, mut known: impl FnMut(&str) -> bool) {
        lock(&self.0).retain(|uid, _| known(uid));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    fn version(version: &str) -> Arc<ConfigMap> {
        let mut object = ConfigMap::default();
        object.metadata.resource_version = Some(version.to_owned());
        Arc::new(object)
    }

    fn shown(overlay: &mut Overlay<ConfigMap>, cached: &str) -> Option<String> {
        overlay
            .over(version(cached), |_, shown| {
                shown.metadata.resource_version.as_deref() == Some("2")
            })
            .metadata
            .resource_version
            .clone()
    }

    #[test]
    fn a_version_that_we_replaced_is_covered_and_any_other_is_believed() {
        let mut overlay = Overlay::default();
        overlay.knows(Some("1"), version("5"));
        overlay.knows(Some("5"), version("9"));
        assert_eq!(shown(&mut overlay, "1").as_deref(), Some("9"));
        assert_eq!(shown(&mut overlay, "2").as_deref(), Some("9"), "earlier");
        assert_eq!(shown(&mut overlay, "5").as_deref(), Some("9"));
        assert_eq!(shown(&mut overlay, "7").as_deref(), Some("7"));
        assert_eq!(
            shown(&mut overlay, "1").as_deref(),
            Some("1"),
            "forgotten once the cache moved on"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_again_and_again_has_to_wait() {
        let mut remembered = Remembered::<ConfigMap>::default();
        let at_once = std::iter::repeat_with(|| remembered.may_tell());
        assert_eq!(at_once.take_while(|may| *may).count(), TOLD_AT_MOST);
        tokio::time::advance(REFUSED_AGAIN).await;
        assert!(remembered.may_tell());
    }
}
