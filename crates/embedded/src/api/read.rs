//! `get` and `list`.

use std::borrow::Cow;
use std::sync::Arc;

use http::Response;
use serde_json::Value;

use super::body::Body;
use super::fields::Selection;
use super::paging::Continue;
use super::query::{ListOptions, Version};
use super::respond::ListMeta;
use super::{Call, broken, prefix};
use crate::kinds::Kind;
use crate::status::Failure;
use crate::store::{Revised, StoreError};

/// Whether objects of a kind are sent as they are kept.
pub(super) fn kept_as_shown(kind: &Kind) -> bool {
    let (group, version, _) = &kind.stored_as;
    *group == kind.group && *version == kind.version
}

/// A kept object as a kind shows it.
pub(super) fn shown(kind: &Kind, object: &Revised) -> Value {
    kind.from_stored(object.value.clone())
}

/// The same without a copy, where nothing has to change.
pub(super) fn view<'a>(kind: &Kind, object: &'a Revised) -> Cow<'a, Value> {
    if kept_as_shown(kind) {
        Cow::Borrowed(&object.value)
    } else {
        Cow::Owned(shown(kind, object))
    }
}

/// An object of a list: the kept one, or one made from it.
pub(super) enum Listed {
    Kept(Arc<Revised>),
    Made(Value),
}

impl std::ops::Deref for Listed {
    type Target = Value;

    fn deref(&self) -> &Value {
        match self {
            Self::Kept(object) => &object.value,
            Self::Made(value) => value,
        }
    }
}

const EXPIRED_LIST: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

impl Call {
    pub(super) fn get(&self) -> Result<Response<Body>, Failure> {
        let version = self.query.text("resourceVersion");
        if let Ok(asked) = version.parse::<u64>() {
            self.not_in_future(asked)?;
        }
        let object = self
            .api
            .store
            .get(&self.key(self.name()))
            .ok_or_else(|| self.not_found())?;
        self.rendering
            .object(200, &self.kind, &view(&self.kind, &object))
    }

    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        Selection::read(
            &self.kind,
            self.query.text("labelSelector"),
            self.query.text("fieldSelector"),
            self.path.name.as_deref(),
        )
    }

    pub(super) fn not_in_future(&self, asked: u64) -> Result<(), Failure> {
        let current = self.api.store.revision();
        if asked > current {
            return Err(Failure::too_large_resource_version(asked, current));
        }
        Ok(())
    }

    pub(super) async fn list(&self) -> Result<Response<Body>, Failure> {
        let options = ListOptions::read(&self.query)?;
        let selection = self.selection()?;
        let (objects, meta) = self.select(&options, &selection).await?;
        let objects: Vec<&Value> = objects.iter().map(|object| &**object).collect();
        Ok(self.rendering.list(&self.kind, &objects, &meta))
    }

    /// What a list finds, in the order of namespaces and names.
    pub(super) async fn select(
        &self,
        options: &ListOptions,
        selection: &Selection,
    ) -> Result<(Vec<Listed>, ListMeta), Failure> {
        let prefix = prefix(&self.kind, self.namespace());
        let token = options
            .continue_token
            .as_deref()
            .map(Continue::decode)
            .transpose()?;
        let (state, revision) = self.state(&prefix, options, token.as_ref()).await?;
        let after = token.as_ref().map_or("", Continue::after);
        let start = state.partition_point(|object| {
            !after.is_empty() && object.key.get(prefix.len()..).unwrap_or_default() <= after
        });
        let limit = if options.limit == 0 {
            usize::MAX
        } else {
            options.limit
        };
        let mut found = Vec::new();
        let mut last = None;
        let mut left = 0;
        for (index, object) in state.iter().enumerate().skip(start) {
            if found.len() == limit {
                left = state.len() - index;
                break;
            }
            let view = view(&self.kind, object);
            if selection.matches(&self.kind, &view) {
                last = Some(object);
                found.push(match view {
                    Cow::Borrowed(_) => Listed::Kept(object.clone()),
                    Cow::Owned(made) => Listed::Made(made),
                });
            }
        }
        let mut meta = ListMeta {
            revision,
            ..ListMeta::default()
        };
        // One object has no second page.
        let single =
            selection.name.is_some() && (self.namespace().is_some() || !self.kind.namespaced);
        if left > 0
            && !single
            && let Some(last) = last
        {
            let after = last.key.get(prefix.len()..).unwrap_or_default();
            meta.continue_token = Some(Continue::new(Some(revision), after).encode());
            meta.remaining = selection.is_empty().then_some(left);
        }
        Ok((found, meta))
    }

    /// All objects below a prefix at the revision that was asked for.
    async fn state(
        &self,
        prefix: &str,
        options: &ListOptions,
        token: Option<&Continue>,
    ) -> Result<(Vec<Arc<Revised>>, u64), Failure> {
        let store = &self.api.store;
        let exact = match (token, options.version) {
            (Some(token), _) => token.revision(),
            (None, Version::Exact(revision)) => Some(revision),
            (None, Version::NotOlderThan(revision)) => {
                self.not_in_future(revision)?;
                None
            }
            (None, Version::Newest | Version::Any) => None,
        };
        let Some(exact) = exact else {
            return Ok(store.list(prefix));
        };
        self.not_in_future(exact)?;
        let (newest, revision) = store.list(prefix);
        if exact == revision {
            return Ok((newest, exact));
        }
        match store.list_at(prefix, exact).await {
            Ok(state) => Ok((state, exact)),
            Err(StoreError::Compacted { .. }) => Err(match token {
                Some(token) => expired_list(token),
                None => Failure::expired("The resourceVersion for the provided list is too old."),
            }),
            Err(error) => Err(broken(&error)),
        }
    }
}

/// 410 with a token that goes on in the newest state.
fn expired_list(token: &Continue) -> Failure {
    let mut failure = Failure::expired(EXPIRED_LIST);
    if let Failure::Status(status) = &mut failure {
        status.continue_token = Some(Continue::new(None, token.after()).encode());
    }
    failure
}
