//! The text of `task.md`: the description, and each context without a place of its own.
//!
//! ```text
//! Update the dependencies.
//!
//! <context name="guides" namespace="team-a" type="ConfigMap">
//! <file name="a.md">
//! …
//! </file>
//! </context>
//! ```
//!
//! Content stands there byte for byte: it is for a model to read, and escaping would show. So that a closing tag in the
//! content cannot end the element early, the element then has another name: `<context-2 …>` ends at `</context-2>`, with
//! the smallest number whose closing tag the content does not have. The same holds for `<file …>`.

use std::{collections::BTreeSet, fmt::Write as _};

/// A context without a mountPath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Where the content comes from: name of the ConfigMap, or of the resource that the text stands in.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `Text`, `ConfigMap`, `Runtime`.
    pub type_: &'static str,
    /// What it says.
    pub content: Content,
}

/// What a context says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One text.
    Text(String),
    /// Several files: name and text, sorted by name.
    Files(Vec<(String, String)>),
}

/// Write `task.md`: the description first, then the elements in the order given, a blank line between them.
#[must_use]
pub fn task_md(description: Option<&str>, elements: &[Element]) -> String {
    let mut text = String::new();
    if let Some(description) = description {
        text.push_str(description);
        end_line(&mut text);
    }
    for element in elements {
        if !text.is_empty() {
            text.push('\n');
        }
        let body = match &element.content {
            Content::Text(text) => text.clone(),
            Content::Files(files) => {
                let mut body = String::new();
                for (name, content) in files {
                    push(&mut body, "file", &[("name", name)], content);
                }
                body
            }
        };
        let attributes = [
            ("name", element.name.as_str()),
            ("namespace", element.namespace.as_str()),
            ("type", element.type_),
        ];
        push(&mut text, "context", &attributes, &body);
    }
    text
}

fn push(text: &mut String, tag: &str, attributes: &[(&str, &str)], content: &str) {
    let tag = unambiguous(tag, content);
    let _ = write!(text, "<{tag}");
    for (name, value) in attributes {
        let value = value
            .replace('&', "&amp;")
            .replace('"', "&quot;")
            .replace('<', "&lt;");
        let _ = write!(text, " {name}=\"{value}\"");
    }
    text.push_str(">\n");
    text.push_str(content);
    end_line(text);
    let _ = writeln!(text, "</{tag}>");
}

/// The tag, or the tag with the smallest number from 2 whose closing form is nowhere in the content.
fn unambiguous(tag: &str, content: &str) -> String {
    let content = content.to_ascii_lowercase();
    let closing = format!("</{tag}");
    let mut found = false;
    let mut taken = BTreeSet::new();
    for (at, _) in content.match_indices(&closing) {
        found = true;
        let rest = content.get(at + closing.len()..).unwrap_or_default();
        let mut number = 0_usize;
        // `</context-25` begins with `</context-2`, so both are taken. A content has no room for ten digits of tags.
        for digit in rest.strip_prefix('-').unwrap_or_default().bytes().take(9) {
            if !digit.is_ascii_digit() {
                break;
            }
            number = number * 10 + usize::from(digit - b'0');
            taken.insert(number);
        }
    }
    if !found {
        return tag.to_owned();
    }
    let mut number = 2;
    while taken.contains(&number) {
        number += 1;
    }
    format!("{tag}-{number}")
}

fn end_line(text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}
