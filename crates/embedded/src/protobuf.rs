//! Kubernetes' protobuf form of request bodies, for the kinds that `kubectl create` and typed Go clients send in it.
//!
//! A body is the four bytes `k8s\0` and an envelope (`runtime.Unknown`) with the kind and the object's own bytes.
//! The numbers of the fields are in `fields.txt`; answers need no protobuf, since clients take JSON as well.

use std::{collections::BTreeMap, sync::LazyLock};

use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

mod wire;

use wire::{Field, Reader};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may stand in one another.
const DEPTH_LIMIT: usize = 64;

/// A field of a message: its name in JSON (empty if its fields stand in the message itself) and its type.
#[derive(Debug)]
struct Entry {
    name: &'static str,
    list: bool,
    map: bool,
    kind: &'static str,
}

type Table = BTreeMap<&'static str, BTreeMap<u64, Entry>>;

/// Types by name, their fields by number.
static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let lines = include_str!("protobuf/fields.txt").lines();
    let types = lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, fields) = line.split_once(": ")?;
            Some((name, fields.split("; ").filter_map(entry).collect()))
        });
    types.collect()
});

fn entry(text: &'static str) -> Option<(u64, Entry)> {
    let mut words = text.split(' ');
    let number = words.next()?.parse().ok()?;
    let second = words.next()?;
    let entry = match (second.strip_prefix('<'), words.next()) {
        (Some(kind), _) => Entry {
            name: "",
            list: false,
            map: false,
            kind,
        },
        (None, kind) => {
            let kind = kind?;
            Entry {
                name: second,
                list: kind.starts_with('*'),
                map: kind.starts_with('{'),
                kind: kind.trim_start_matches(['*', '{']),
            }
        }
    };
    Some((number, entry))
}

/// Reads a body of type `application/vnd.kubernetes.protobuf` into the object it would be in JSON.
///
/// # Errors
/// A text for people if the bytes are not protobuf, or of a kind that has no table here.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
    )?;
    let (mut api_version, mut kind, mut raw): (String, String, &[u8]) = Default::default();
    for field in Reader::new(envelope) {
        match field? {
            (1, Field::Bytes(meta)) => {
                for field in Reader::new(meta) {
                    match field? {
                        (1, Field::Bytes(text)) => api_version = utf8(text)?,
                        (2, Field::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    if !TABLE.contains_key(kind.as_str()) || api_version.starts_with("events.k8s.io/") {
        return Err(format!(
            "no protobuf form is known for {api_version} {kind}"
        ));
    }
    let mut object = message(&kind, raw, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(Value::Object(object))
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a text is not UTF-8".to_owned())
}

fn message(kind: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, String> {
    let mut object = Map::new();
    fill(kind, bytes, depth, &mut object)?;
    Ok(object)
}

fn fill(
    kind: &str,
    bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), String> {
    if depth > DEPTH_LIMIT {
        return Err("messages are nested too deeply".to_owned());
    }
    let Some(entries) = TABLE.get(kind) else {
        return Err(format!("no protobuf form is known for {kind}"));
    };
    for field in Reader::new(bytes) {
        let (number, field) = field?;
        let Some(entry) = entries.get(&number) else {
            continue;
        };
        if entry.name.is_empty() {
            if let Field::Bytes(bytes) = field {
                fill(entry.kind, bytes, depth + 1, object)?;
            }
        } else if entry.map {
            let (key, value) = map_entry(entry.kind, &field, depth)?;
            object.entry(entry.name).or_insert_with(|| json!({}))[key] = value;
        } else {
            let value = value(entry.kind, &field, depth)?;
            if entry.list {
                let list = object.entry(entry.name).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.push(value);
                }
            } else {
                object.insert(entry.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn map_entry(kind: &str, field: &Field<'_>, depth: usize) -> Result<(String, Value), String> {
    let Field::Bytes(bytes) = field else {
        return Err("a map entry is not a message".to_owned());
    };
    let mut key = String::new();
    let mut found = None;
    for field in Reader::new(bytes) {
        match field? {
            (1, Field::Bytes(text)) => key = utf8(text)?,
            (2, field) => found = Some(value(kind, &field, depth)?),
            _ => {}
        }
    }
    let empty = || match kind {
        "s" | "y" => Value::from(""),
        _ => Value::Null,
    };
    Ok((key, found.unwrap_or_else(empty)))
}

fn value(kind: &str, field: &Field<'_>, depth: usize) -> Result<Value, String> {
    match (kind, field) {
        ("s", Field::Bytes(text)) => utf8(text).map(Value::from),
        ("y", Field::Bytes(bytes)) => Ok(base64::engine::general_purpose::STANDARD
            .encode(bytes)
            .into()),
        ("b", Field::Number(number)) => Ok((*number != 0).into()),
        ("i", Field::Number(number)) => Ok(number.cast_signed().into()),
        ("f", Field::Number(bits)) => Ok(f64::from_bits(*bits).into()),
        ("Quantity", Field::Bytes(bytes)) => {
            Ok(texts(bytes)?.into_iter().next().unwrap_or_default().into())
        }
        ("ExtraValue", Field::Bytes(bytes)) => Ok(texts(bytes)?.into()),
        ("FieldsV1" | "RawExtension", Field::Bytes(bytes)) => raw_json(bytes),
        ("IntOrString", Field::Bytes(bytes)) => int_or_string(bytes),
        ("Time" | "MicroTime", Field::Bytes(bytes)) => time(bytes, kind == "MicroTime"),
        (_, Field::Bytes(bytes)) => message(kind, bytes, depth + 1).map(Value::Object),
        (_, Field::Number(_)) => Err("a field has the wrong wire type".to_owned()),
    }
}

/// The texts in field 1 of a message.
fn texts(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for field in Reader::new(bytes) {
        if let (1, Field::Bytes(text)) = field? {
            texts.push(utf8(text)?);
        }
    }
    Ok(texts)
}

fn raw_json(bytes: &[u8]) -> Result<Value, String> {
    for field in Reader::new(bytes) {
        if let (1, Field::Bytes(text)) = field? {
            return serde_json::from_slice(text).map_err(|error| error.to_string());
        }
    }
    Ok(Value::Null)
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Reader::new(bytes) {
        match field? {
            (1, Field::Number(kind)) => is_text = kind == 1,
            (2, Field::Number(value)) => number = value.cast_signed(),
            (3, Field::Bytes(value)) => text = utf8(value)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds since 1970; an empty message is no time.
fn time(bytes: &[u8], micro: bool) -> Result<Value, String> {
    let (mut seconds, mut nanos) = (None, 0);
    for field in Reader::new(bytes) {
        match field? {
            (1, Field::Number(value)) => seconds = Some(value.cast_signed()),
            (2, Field::Number(value)) => {
                nanos = i32::try_from(value.cast_signed()).unwrap_or_default();
            }
            _ => {}
        }
    }
    let Some(seconds) = seconds else {
        return Ok(Value::Null);
    };
    let timestamp = Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    let form = if micro {
        "%Y-%m-%dT%H:%M:%S.%6fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    Ok(timestamp.strftime(form).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field with length-delimited content.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 127 {
            field.push(u8::try_from(length & 127).expect("seven bits") | 128);
            length >>= 7;
        }
        field.push(u8::try_from(length).expect("seven bits"));
        field.extend(content);
        field
    }

    fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object)].concat()
    }

    #[test]
    fn a_config_map_with_metadata_and_a_map() {
        let metadata = [bytes(1, b"kx"), bytes(8, &[])].concat();
        let data = [bytes(1, b"a"), bytes(2, b"b")].concat();
        let object = [bytes(1, &metadata), bytes(2, &data), vec![4 << 3, 1]].concat();
        assert_eq!(
            decode(&body("v1", "ConfigMap", &object)),
            Ok(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
                "metadata": {"name": "kx", "creationTimestamp": null}, "data": {"a": "b"},
            }))
        );
    }

    #[test]
    fn inlined_messages_quantities_and_numbers_of_a_job() {
        let limit = [bytes(1, b"memory"), bytes(2, &bytes(1, b"1Gi"))].concat();
        let secret = [bytes(1, b"token")].concat();
        let volume = [bytes(1, b"v"), bytes(2, &bytes(6, &secret))].concat();
        let container = [bytes(1, b"main"), bytes(8, &bytes(1, &limit))].concat();
        let pod_spec = [bytes(1, &volume), bytes(2, &container)].concat();
        let spec = [vec![1 << 3, 2], bytes(6, &bytes(2, &pod_spec))].concat();
        let job = decode(&body("batch/v1", "Job", &bytes(2, &spec))).expect("decodes");
        assert_eq!(
            job["spec"],
            json!({"parallelism": 2, "template": {"spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "token"}}],
                "containers": [{"name": "main", "resources": {"limits": {"memory": "1Gi"}}}],
            }}})
        );
    }

    #[test]
    fn what_is_cut_off_or_foreign_is_refused() {
        assert!(decode(b"{}").is_err());
        let whole = body("v1", "ConfigMap", &bytes(1, b"\x0a\x02kx"));
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        assert!(decode(&body("v1", "Nothing", b"")).is_err());
    }
}
