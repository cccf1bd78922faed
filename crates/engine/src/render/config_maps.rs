//! The files of a Run, packed into ConfigMaps.
//!
//! Each ConfigMap is immutable and named after its content, so that creating it a second time changes nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString, api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{RenderError, name};
use crate::handover;

/// The API server refuses a ConfigMap whose values are longer than this in all.
const LARGEST_FILE: usize = 1024 * 1024;
/// Files are packed up to this size; only a single larger file has a ConfigMap of its own.
const PACKED: usize = 768 * 1024;
/// More files than this are not given one by one: each is an entry of the plan, and may be a mount of the Pod.
const MOST_FILES: usize = 2000;

/// A file in a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Key in the ConfigMap, unique in the Run.
    pub key: String,
    /// Path in the agent container, for messages.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Pack the entries, in order. The names are complete, the rest of the metadata is not.
pub fn render(job_name: &str, entries: &[Entry]) -> Result<Vec<ConfigMap>, RenderError> {
    if entries.len() > MOST_FILES {
        return Err(RenderError::TooManyFiles {
            count: entries.len(),
            limit: MOST_FILES,
        });
    }
    let mut packs: Vec<Vec<&Entry>> = Vec::new();
    let mut room = 0;
    for entry in entries {
        let size = entry.content.len();
        if size > LARGEST_FILE {
            return Err(RenderError::FileTooLarge {
                path: entry.path.clone(),
                size,
                limit: LARGEST_FILE,
            });
        }
        match packs.last_mut() {
            Some(pack) if size <= room => {
                pack.push(entry);
                room -= size;
            }
            _ => {
                packs.push(vec![entry]);
                room = PACKED.saturating_sub(size);
            }
        }
    }
    Ok(packs
        .iter()
        .enumerate()
        .map(|(index, pack)| config_map(job_name, index, pack))
        .collect())
}

fn config_map(job_name: &str, index: usize, pack: &[&Entry]) -> ConfigMap {
    let mut data = BTreeMap::new();
    let mut binary_data = BTreeMap::new();
    let mut seed = Vec::new();
    for entry in pack {
        for part in [entry.key.as_bytes(), &entry.content] {
            seed.extend_from_slice(&part.len().to_be_bytes());
            seed.extend_from_slice(part);
        }
        match String::from_utf8(entry.content.clone()) {
            Ok(text) => {
                data.insert(entry.key.clone(), text);
            }
            Err(error) => {
                binary_data.insert(entry.key.clone(), ByteString(error.into_bytes()));
            }
        }
    }
    let number = match index {
        0 => String::new(),
        index => format!("-{}", index + 1),
    };
    let letters = name::letters(&seed, 5);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("{job_name}-context{number}-{letters}")),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some(data).filter(|data| !data.is_empty()),
        binary_data: Some(binary_data).filter(|data| !data.is_empty()),
    }
}

/// A key for the file of that number: readable, and valid whatever the path is.
pub fn key(number: usize, path: &str) -> String {
    let name: String = path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .take(200)
        .collect();
    format!("{number}-{name}")
}

/// An entry for a plan, as JSON that a person can read.
pub fn plan_entry(key: &str, plan: &impl serde::Serialize) -> Entry {
    let mut content = serde_json::to_string_pretty(plan).unwrap_or_default();
    content.push('\n');
    Entry {
        key: key.to_owned(),
        path: format!("{}/{key}", handover::CONTEXT_DIR),
        content: content.into_bytes(),
    }
}
