//! A JSON body as it was sent, which is more than its value: keys may stand in it twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::path;

/// A parsed JSON body.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The value; of a key given twice the last one counts.
    pub value: Value,
    /// Paths (`spec.size`) of keys given more than once, in the order of the text.
    pub duplicates: Vec<String>,
    /// The text of an object without `kind`, which the refusal quotes.
    source: Option<String>,
}

impl From<Value> for Document {
    fn from(value: Value) -> Self {
        Self {
            value,
            duplicates: Vec::new(),
            source: None,
        }
    }
}

impl Document {
    /// Reads JSON text.
    ///
    /// # Errors
    /// Where and why the text is not JSON.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let mut document = Self::read(&mut deserializer)?;
        deserializer.end()?;
        if document.value.get("kind").is_none() {
            document.source = Some(String::from_utf8_lossy(text).into_owned());
        }
        Ok(document)
    }

    /// Reads from any self-describing format.
    ///
    /// # Errors
    /// Those of the format.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let seed = Seed {
            path: String::new(),
            duplicates: &mut duplicates,
        };
        let value = seed.deserialize(deserializer)?;
        Ok(Self {
            value,
            duplicates,
            source: None,
        })
    }

    /// The text, as a refusal quotes it.
    pub(crate) fn shown(&self) -> String {
        self.source
            .clone()
            .unwrap_or_else(|| self.value.to_string())
    }

    /// The first 30 bytes of the text, as a refusal quotes it.
    pub(crate) fn summary(&self) -> String {
        if self.value.get("kind").is_some() {
            return String::new();
        }
        summary(self.shown().as_bytes())
    }
}

/// The first 30 bytes of a body: as they are if it begins as an object, else in hexadecimal.
pub(crate) fn summary(text: &[u8]) -> String {
    const LIMIT: usize = 30;
    let start = &text[..text.len().min(LIMIT)];
    let more = if text.len() > LIMIT { " ..." } else { "" };
    match text.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(start)),
        Some(_) => {
            let digits = start
                .iter()
                .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
            format!("{digits}{more}")
        }
    }
}

struct Seed<'a> {
    path: String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Seed {
            path: path::index(&self.path, items.len()),
            duplicates: &mut *self.duplicates,
        })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<Value>()? {
            let key = match key {
                Value::String(key) => key,
                Value::Bool(key) => key.to_string(),
                Value::Number(key) => key.to_string(),
                _ => return Err(A::Error::custom("a key must be a string")),
            };
            let child = path::child(&self.path, &key);
            if map.contains_key(&key) && !self.duplicates.contains(&child) {
                self.duplicates.push(child.clone());
            }
            let value = access.next_value_seed(Seed {
                path: child,
                duplicates: &mut *self.duplicates,
            })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
