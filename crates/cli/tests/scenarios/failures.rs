//! The tables of `docs/failures.md`: made of what the scenarios expect, and of the rows that other tests compare with
//! what they see.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    row::{End, Left, Row},
    scenario::{self, Scenario, Step},
};

const PAGE: &str = "docs/failures.md";
const ROWS: &str = "tests/failures/rows.yaml";

/// The page is as the scenarios and rows would write it now, and every test that it names exists.
pub fn check(scenarios: &[PathBuf]) -> Result<()> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut rows: Vec<Row> = serde_saphyr::from_str(&fs::read_to_string(project.join(ROWS))?)?;
    for row in &rows {
        // What reads its row by these words compares with it.
        let body = function(&project, &row.shown)?;
        ensure!(
            body.contains(&format!("{:?}", row.when)),
            "{} does not look at the row {:?}",
            row.shown,
            row.when
        );
    }
    for path in scenarios {
        let scenario = scenario::parse(&fs::read_to_string(path)?, path)?;
        let name = scenario::name(path);
        rows.extend(of_scenario(&scenario, &name).with_context(|| name.clone())?);
    }
    let stored = fs::read_to_string(project.join(PAGE))?;
    let fresh = page(&stored, rows)?;
    for test in fresh.split('`').filter(|word| word.contains(".rs::")) {
        function(&project, test)?;
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(project.join(PAGE), fresh)?;
        return Ok(());
    }
    ensure!(
        stored == fresh,
        "{PAGE} is stale: INSTA_UPDATE=always cargo test -p kubeopencode --test scenarios -- {PAGE}"
    );
    Ok(())
}

/// The page with its tables written anew: what stands between `<!-- rows: GROUP -->` and `<!-- end -->`.
fn page(stored: &str, rows: Vec<Row>) -> Result<String> {
    let mut groups: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(row.group.clone()).or_default().push(row);
    }
    let mut parts = stored.split("<!-- rows: ");
    let mut fresh = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (group, rest) = part.split_once(" -->").context("a marker is not closed")?;
        let (_, rest) = rest
            .split_once("<!-- end -->")
            .with_context(|| format!("the rows {group} have no end"))?;
        let mut rows = groups
            .remove(group)
            .with_context(|| format!("no row belongs to {group:?}"))?;
        rows.sort_by(|one, other| one.when.cmp(&other.when));
        let table = table(&rows);
        write!(
            fresh,
            "<!-- rows: {group} -->\n\n{table}\n<!-- end -->{rest}"
        )?;
    }
    ensure!(
        groups.is_empty(),
        "{PAGE} has no marker for {:?}",
        groups.keys()
    );
    Ok(fresh)
}

fn table(rows: &[Row]) -> String {
    let mut table = "| what goes wrong | what the Task says meanwhile | how it ends | Events | new attempt | slot | Job | logs | shown by |\n|---|---|---|---|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let (end, attempt) = match &row.ends {
            None => ("it is gone".to_owned(), "no"),
            Some(end) => (
                format!("{}, {}: “{}”", end.phase, end.reason, end.message),
                match end.attempts {
                    0 => "none was begun",
                    1 => "no",
                    _ => "yes",
                },
            ),
        };
        let cells = [
            row.when.clone(),
            row.meanwhile.join("; "),
            end,
            row.events.join(", "),
            attempt.to_owned(),
            row.left.slot.to_string(),
            row.left.job.to_string(),
            row.left.logs.to_string(),
            match &row.only {
                Some(only) => format!("`{}`, {only} alone", row.shown),
                None => format!("`{}`", row.shown),
            },
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        table.push_str(&format!("| {} |\n", cells.join(" | ")).replace("|  |", "| |"));
    }
    table
}

/// The row that a scenario shows, if it shows one.
fn of_scenario(scenario: &Scenario, name: &str) -> Result<Option<Row>> {
    let Some(wrong) = &scenario.row else {
        return Ok(None);
    };
    let mut row = Row {
        group: wrong.group.clone(),
        when: wrong.when.clone(),
        meanwhile: Vec::new(),
        ends: None,
        events: Vec::new(),
        left: Left {
            job: crate::row::Job::Gone,
            logs: crate::row::Logs::None,
            slot: crate::row::Slot::Gone,
        },
        shown: name.to_owned(),
        only: scenario
            .only
            .as_ref()
            .map(|only| only.cluster.as_str().to_owned()),
    };
    let (mut looked, mut gone, mut alone) = (false, false, false);
    ensure!(
        has_limits(scenario),
        "an Agent of it has no limit, so nothing is seen of its slot"
    );
    for step in &scenario.steps {
        match step {
            Step::Until(object) if object["kind"] == "Task" && row.ends.is_none() => {
                row.meanwhile.extend(said(&object["status"]));
            }
            Step::Refused { message, .. } => {
                row.meanwhile
                    .push(format!("the change is refused: “{message}”"));
            }
            Step::Ends(ends) => {
                let attempts = ends
                    .status
                    .as_ref()
                    .and_then(|status| status.get("attempts"));
                row.ends = Some(End {
                    phase: ends.phase.clone(),
                    reason: ends.reason.clone(),
                    message: ends.message.clone().context("`ends` has no message")?,
                    attempts: match attempts {
                        Some(Value::Null) => 0,
                        Some(attempts) => attempts.as_u64().context("attempts")?,
                        None => bail!("`ends` says nothing of status.attempts"),
                    },
                });
            }
            Step::Events { reasons, .. } => row.events.extend(reasons.clone()),
            Step::Left {
                job, logs, slot, ..
            } => {
                row.left = Left {
                    job: *job,
                    logs: *logs,
                    slot: *slot,
                };
                looked = true;
            }
            // Nobody can be asked about a Task that is gone.
            Step::Until(object) if object["kind"] == "Agent" => {
                ensure!(object["status"]["slotsInUse"] == 0, "what of its slot?");
                row.left.slot = crate::row::Slot::Free;
            }
            Step::Gone(object) => {
                gone |= ["Task", "Namespace"].contains(&object.kind.as_str());
                alone |= object.kind == "Task";
            }
            _ => {}
        }
    }
    match &row.ends {
        None => {
            ensure!(gone, "its Task neither ends nor is gone");
            ensure!(
                !alone || row.left.slot == crate::row::Slot::Free,
                "it does not wait until the Agent has no slot in use"
            );
        }
        Some(end) => {
            ensure!(looked, "it does not look at what is `left`");
            ensure!(
                row.events.contains(&end.reason),
                "no Event with the reason {} is expected",
                end.reason
            );
        }
    }
    Ok(Some(row))
}

/// Whether there is a slot to be had of each Agent that the scenario makes.
fn has_limits(scenario: &Scenario) -> bool {
    let applied = scenario.steps.iter().filter_map(|step| match step {
        Step::Apply(manifests) => Some(manifests),
        _ => None,
    });
    let manifests = scenario.given.iter().chain(applied.flatten());
    let mut agents = manifests.filter(|manifest| manifest["kind"] == "Agent");
    agents.all(|agent| agent["spec"]["maxConcurrentTasks"].is_u64())
}

/// What a status says, of which this is a part.
fn said(status: &Value) -> Option<String> {
    let message = status["message"].as_str()?;
    let message = message.strip_prefix("~ ").unwrap_or(message);
    let phase = status["phase"].as_str().unwrap_or("Pending");
    Some(format!("{phase}: “{message}”"))
}

/// The text of a test, from `FILE::FUNCTION` on.
fn function(project: &Path, test: &str) -> Result<String> {
    let (file, name) = test.split_once("::").context("FILE::FUNCTION")?;
    let source = fs::read_to_string(project.join(file)).with_context(|| file.to_owned())?;
    let begin = source
        .find(&format!("fn {name}("))
        .with_context(|| format!("there is no {name} in {file}"))?;
    let rest = &source[begin..];
    let end = rest.find("\n}\n").map_or(rest.len(), |end| end + 2);
    Ok(rest[..end].to_owned())
}
