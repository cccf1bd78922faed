//! YAML with the place of every value, so that a message can say in which line something is wrong.
//!
//! JSON is YAML. Keys given twice are an error, `yes` is a string (as in YAML 1.2), `0755` is octal (as `kubectl` reads
//! it, and as everybody means it who writes a file mode).

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) line: u64,
    pub(crate) column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where the value begins; for a member of a map, where its key begins.
    pub(crate) place: Place,
    tree: Tree,
}

#[derive(Debug, Clone)]
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Reads all documents of a text; empty ones are left out.
pub(crate) fn parse(text: &str) -> Result<Vec<Node>, (Option<Place>, String)> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let documents = serde_saphyr::from_multiple_with_options::<Spanned<Tree>>(text, options)
        .map_err(|error| {
            let place = error.location().map(|at| Place {
                line: at.line(),
                column: at.column(),
            });
            (place, first_line(&error))
        })?;
    Ok(documents
        .into_iter()
        .map(Node::from)
        .filter(|node| !matches!(node.tree, Tree::Null))
        .collect())
}

/// What the parser says, without the place, which is printed in front.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = match line.split_once(": ") {
        Some((at, rest)) if at.starts_with("line ") => rest,
        _ => line,
    };
    if let Some((key, _)) = line
        .strip_prefix("duplicate mapping key: ")
        .and_then(|rest| rest.split_once(','))
    {
        return format!("the key {key:?} is there twice");
    }
    line.rsplit_once(" at line ")
        .map_or(line, |(message, _)| message)
        .to_owned()
}

impl Node {
    /// The value without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(value) => Value::Number(value.clone()),
            Tree::String(value) => Value::String(value.clone()),
            Tree::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Tree::Map(members) => Value::Object(
                members
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// A member of a map.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        match &self.tree {
            Tree::Map(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.tree {
            Tree::List(items) => items,
            _ => &[],
        }
    }

    /// Where a path such as `spec.contexts[0].text` stands: the place of its longest part that is there.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
            let step = step.trim_matches('"');
            let next = match step.parse::<usize>() {
                Ok(index) => node.items().get(index),
                Err(_) => node.member(step),
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.place
    }
}

impl From<Spanned<Tree>> for Node {
    fn from(spanned: Spanned<Tree>) -> Self {
        Self {
            place: Place {
                line: spanned.referenced.line(),
                column: spanned.referenced.column(),
            },
            tree: spanned.value,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value)
            .map(Tree::Number)
            .ok_or_else(|| E::custom("a number that JSON does not have"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Tree>>()? {
            items.push(item.into());
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let value: Spanned<Tree> = access.next_value()?;
            let mut node = Node::from(value);
            node.place = Place {
                line: key.referenced.line(),
                column: key.referenced.column(),
            };
            members.push((key.value, node));
        }
        Ok(Tree::Map(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_value_has_its_place() {
        let text = "a: 1\nb:\n  - c: x\n    d: [true, null, 0755]\n---\n# nothing\n---\ne: yes\n";
        let documents = parse(text).expect("good YAML");
        assert_eq!(documents.len(), 2);
        assert_eq!(
            documents[0].to_value(),
            json!({"a": 1, "b": [{"c": "x", "d": [true, null, 493]}]})
        );
        assert_eq!(documents[0].place_of("b[0].d").to_string(), "4:5");
        assert_eq!(documents[0].place_of("b[0].nowhere").to_string(), "3:5");
        assert_eq!(documents[1].to_value(), json!({"e": "yes"}));
        assert_eq!(documents[1].place.line, 8);
    }

    #[test]
    fn what_is_no_yaml_has_a_place() {
        for (text, line) in [
            ("a: 1\nb: [1,\n", 2),
            ("a: 1\n  b: 2\n", 2),
            ("a: 1\na: 2\n", 2),
        ] {
            let (place, message) = parse(text).expect_err("bad YAML");
            assert_eq!(place.expect("a place").line, line, "{text:?}: {message}");
        }
    }
}
