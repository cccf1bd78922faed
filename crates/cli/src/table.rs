//! Tables for people, and objects in the forms that programs ask for.

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::Format,
    failure::{Failure, Problem},
    printer::Printer,
};

/// Columns as wide as their widest cell, three spaces between them, as `kubectl` has it.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago something was, in one or two units.
pub(crate) fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    let Some(time) = time else {
        return "<unknown>".to_owned();
    };
    duration(now.duration_since(time).as_secs())
}

/// Seconds in one or two units.
pub(crate) fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds @ 7200..172_800 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{}d", seconds / 86400),
    }
}

/// Objects in a form for programs; several become a List.
pub(crate) fn objects<K>(
    kind: &str,
    objects: &[K],
    one: bool,
    format: Format,
    printer: &Printer,
) -> Result<(), Failure>
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let values = || -> Result<Vec<Value>, Failure> {
        objects
            .iter()
            .map(|object| serde_json::to_value(object).map_err(|error| unwritable(&error)))
            .collect()
    };
    let value = || -> Result<Value, Failure> {
        let mut values = values()?;
        Ok(match (one, values.len()) {
            (true, 1) => values.remove(0),
            _ => json!({"apiVersion": "v1", "kind": "List", "items": values, "metadata": {}}),
        })
    };
    match format {
        Format::Name => {
            for object in objects {
                printer.text(&format!("{kind}/{}", object.name_any()));
            }
        }
        Format::Json => printer
            .text(&serde_json::to_string_pretty(&value()?).map_err(|error| unwritable(&error))?),
        Format::Yaml => {
            printer.text(&serde_saphyr::to_string(&value()?).map_err(|error| unwritable(&error))?);
        }
    }
    Ok(())
}

fn unwritable(error: &dyn std::fmt::Display) -> Failure {
    Problem::new(format!("the object cannot be written: {error}")).failed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["NAME".into(), "X".into()],
            vec!["a-long-name".into(), String::new()],
        ];
        assert_eq!(render(&rows), "NAME          X\na-long-name\n");
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let texts: Vec<String> = [5, 119, 125, 7300, 200_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(texts, ["5s", "119s", "2m5s", "2h1m", "2d"]);
    }
}
