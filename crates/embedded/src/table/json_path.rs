//! The part of `JSONPath` that printer columns use: `.spec.size`, `.a["b.c"]`, `.list[0].x`,
//! `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// The first value at a path.
pub(super) fn find<'a>(path: &str, object: &'a Value) -> Option<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    rest = rest.strip_prefix('$').unwrap_or(rest);
    while !rest.is_empty() {
        let (step, after) = next_step(rest)?;
        found = found
            .into_iter()
            .flat_map(|value| take(&step, value))
            .collect();
        rest = after;
    }
    found.into_iter().next()
}

enum Step {
    Field(String),
    Index(i64),
    All,
    /// Field below the item, whether it must be equal, value.
    Filter(String, bool, Value),
}

fn next_step(path: &str) -> Option<(Step, &str)> {
    if let Some(rest) = path.strip_prefix('.') {
        let mut name = String::new();
        let mut chars = rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '.' | '[' => return Some((Step::Field(name), &rest[at..])),
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                c => name.push(c),
            }
        }
        return Some((Step::Field(name), ""));
    }
    let rest = path.strip_prefix('[')?;
    if let Some(rest) = rest.strip_prefix("?(@") {
        let (filter, after) = rest.split_once(")]")?;
        let (equal, (field, value)) = match filter.split_once("==") {
            Some(parts) => (true, parts),
            None => (false, filter.split_once("!=")?),
        };
        let value = value.trim();
        let quoted = value
            .strip_prefix(['"', '\''])
            .and_then(|v| v.strip_suffix(['"', '\'']));
        let value = match quoted {
            Some(text) => Value::from(text),
            None => serde_json::from_str(value).ok()?,
        };
        return Some((Step::Filter(field.trim().to_owned(), equal, value), after));
    }
    let (inside, after) = rest.split_once(']')?;
    let inside = inside.trim();
    if inside == "*" {
        return Some((Step::All, after));
    }
    if let Some(name) = inside
        .strip_prefix(['"', '\''])
        .and_then(|v| v.strip_suffix(['"', '\'']))
    {
        return Some((Step::Field(name.to_owned()), after));
    }
    Some((Step::Index(inside.parse().ok()?), after))
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Field(name) if name.is_empty() => vec![value],
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Index(index) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { length + index } else { *index };
            usize::try_from(index)
                .ok()
                .and_then(|at| items.get(at))
                .into_iter()
                .collect()
        }
        Step::Filter(field, equal, wanted) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let matches = |item: &&Value| (find(field, item) == Some(wanted)) == *equal;
            items.iter().filter(matches).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::find;
    use serde_json::json;

    #[test]
    fn paths_of_printer_columns() {
        let object =
            json!({"a": {"b.c": 1, "list": [{"type": "x", "v": 1}, {"type": "Ready", "v": 2}]}});
        let cases = [
            (".a['b.c']", Some(json!(1))),
            (r".a.b\.c", Some(json!(1))),
            (".a.list[1].v", Some(json!(2))),
            (".a.list[-1].type", Some(json!("Ready"))),
            (r#".a.list[?(@.type=="Ready")].v"#, Some(json!(2))),
            (".a.none.deeper", None),
        ];
        for (path, value) in cases {
            assert_eq!(find(path, &object), value.as_ref(), "{path}");
        }
    }
}
