//! Manifests: from files to objects that are known to be good, before anything is created.
//!
//! [`read`] takes files, directories and standard input apart into documents; [`check`] holds each object against the
//! schema and rules that an API server would hold it against. Every fault is told with file, line and column.

pub(crate) mod check;
pub(crate) mod repository;
pub(crate) mod tree;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use kubeopencode_embedded::kinds::Kind;
use serde_json::Value;
use tree::{Node, Place};

use crate::failure::{Failure, Problem};

/// What stands for the place of what was said in words.
const COMMAND_LINE: &str = "the command line";

/// An object of a manifest.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    /// Which file it is from.
    pub(crate) source: Source,
    /// Its text, with places.
    pub(crate) node: Node,
    /// The object.
    pub(crate) object: Value,
    /// Its kind.
    pub(crate) kind: Arc<Kind>,
}

/// Where a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// As it is shown.
    pub(crate) name: String,
    /// The directory that relative paths in it are relative to; None for what comes from no file.
    pub(crate) folder: Option<PathBuf>,
}

impl Source {
    /// What was said on the command line.
    pub(crate) fn command_line() -> Self {
        Self {
            name: COMMAND_LINE.to_owned(),
            folder: None,
        }
    }

    /// Whether it was said in words.
    pub(crate) fn is_command_line(&self) -> bool {
        self.name == COMMAND_LINE
    }

    /// A place in it.
    pub(crate) fn at(&self, place: Place) -> String {
        if self.name == COMMAND_LINE {
            return self.name.clone();
        }
        format!("{}:{place}", self.name)
    }
}

impl Manifest {
    /// `metadata.name`.
    pub(crate) fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// `metadata.namespace`, as far as the manifest says it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object["metadata"]["namespace"].as_str()
    }

    /// Whether it is a Task of the main API.
    pub(crate) fn is_task(&self) -> bool {
        self.is("Task")
    }

    /// Whether it is this kind of the main API.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.group == kubeopencode_api::names::GROUP && self.kind.kind == kind
    }

    /// A problem at a field such as `spec.contexts[0].git`.
    pub(crate) fn problem(&self, field: &str, message: impl Into<String>) -> Problem {
        Problem::new(message).at(self.source.at(self.node.place_of(field)))
    }

    /// `Task fix-it`.
    pub(crate) fn title(&self) -> String {
        format!("{} {}", self.kind.kind, self.name())
    }
}

/// Reads and checks manifests. Objects of namespaced kinds that name no namespace are put into `namespace`.
pub(crate) fn load(files: &[PathBuf], namespace: &str) -> Result<Vec<Manifest>, Failure> {
    let documents = read(files)?;
    check::check(documents, namespace)
}

/// A document and where it is from.
pub(crate) type Document = (Source, Node);

/// Takes files apart into documents.
fn read(files: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text)?;
            let source = Source {
                name: "standard input".to_owned(),
                folder: Some(PathBuf::from(".")),
            };
            parse(&source, &text, &mut documents)?;
        } else {
            for path in expand(file)? {
                let text = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
                let source = Source {
                    name: path.display().to_string(),
                    folder: path.parent().map(|folder| {
                        if folder.as_os_str().is_empty() {
                            PathBuf::from(".")
                        } else {
                            folder.to_owned()
                        }
                    }),
                };
                parse(&source, &text, &mut documents)?;
            }
        }
    }
    if documents.is_empty() {
        let names: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(Problem::new("there is no object in it")
            .at(names.join(", "))
            .hint("a manifest begins with apiVersion and kind; docs/tasks.md has a Task to start from")
            .input());
    }
    Ok(documents)
}

/// A file is itself; a directory is its files that end as manifests do, in order.
fn expand(file: &Path) -> Result<Vec<PathBuf>, Failure> {
    let metadata = std::fs::metadata(file).map_err(|error| unreadable(file, &error))?;
    if !metadata.is_dir() {
        return Ok(vec![file.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(file).map_err(|error| unreadable(file, &error))? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("yaml" | "yml" | "json")) && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(Problem::new(
            "there is no file in this directory that ends in .yaml, .yml or .json",
        )
        .at(file.display())
        .input());
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let problem = match error.kind() {
        std::io::ErrorKind::NotFound => Problem::new("there is no such file")
            .hint("paths are relative to the current directory; `-f -` reads standard input"),
        _ => Problem::new(format!("it cannot be read: {error}")),
    };
    problem.at(file.display()).input()
}

fn parse(source: &Source, text: &[u8], documents: &mut Vec<Document>) -> Result<(), Failure> {
    let text = std::str::from_utf8(text).map_err(|error| {
        let line = text[..error.valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        Problem::new("this is not text in UTF-8")
            .at(format!("{}:{line}", source.name))
            .input()
    })?;
    let nodes = tree::parse(text).map_err(|(place, message)| {
        let place = place.map_or_else(|| source.name.clone(), |place| source.at(place));
        Problem::new(format!("this is not YAML: {message}"))
            .at(place)
            .input()
    })?;
    for node in nodes {
        let is_list = node.to_value()["kind"]
            .as_str()
            .is_some_and(|kind| kind == "List");
        match node.member("items") {
            Some(items) if is_list => {
                documents.extend(
                    items
                        .items()
                        .iter()
                        .map(|item| (source.clone(), item.clone())),
                );
            }
            _ => documents.push((source.clone(), node)),
        }
    }
    Ok(())
}
