//! A JSON body as it was sent, which is more than its value: keys may stand in it twice.

use serde_json::Value;

/// A parsed JSON body.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The value; of a key given twice the last one counts.
    pub value: Value,
    /// Paths (`spec.size`) of keys given more than once, in the order of the text.
    pub duplicates: Vec<String>,
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self {
            value,
            duplicates: Vec::new(),
        }
    }
}

impl Document {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Where and why the text is not JSON.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice::<Value>(text).map(Self::from)
    }
}
