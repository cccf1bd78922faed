//! Continue tokens: where a list ended, and at which revision.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::status::Failure;

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    /// Version of this form.
    v: String,
    /// Revision of the list's first part; `None`: whatever is newest.
    rv: Option<u64>,
    /// Key of the last object sent, relative to the list's prefix.
    after: String,
}

impl Continue {
    /// Behind `after`, in the state at `revision`.
    #[must_use]
    pub fn new(revision: Option<u64>, after: &str) -> Self {
        Self {
            v: "meta.k8s.io/v1".to_owned(),
            rv: revision,
            after: after.to_owned(),
        }
    }

    /// The revision at which the list is, if it is consistent.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.rv
    }

    /// Key of the last object sent, relative to the prefix.
    #[must_use]
    pub fn after(&self) -> &str {
        &self.after
    }

    /// As it is sent.
    #[must_use]
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what a client gives back.
    ///
    /// # Errors
    /// 400.
    pub fn decode(text: &str) -> Result<Self, Failure> {
        let bad = |why: String| {
            Failure::bad_request(format!(
                "invalid continue token: continue key is not valid: {why}"
            ))
        };
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|error| bad(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| bad(super::body::go_error(&error, &bytes)))
    }
}
