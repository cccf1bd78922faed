//! `task list`: a line for each Task, with what kubectl's columns cannot say: the Agent that it waits for, its place in the
//! queue right now, that it is being stopped.

use std::collections::HashMap;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kubeopencode_api::v1alpha1::Task;
use kubeopencode_engine::{
    lower::{FrontEnd as _, kubeopencode::TaskFrontEnd},
    queue::Turn,
};

use super::{queue, row};
use crate::{cli::ListArgs, failure::Failure, printer::Printer, table, target};

/// Does it.
pub(super) async fn list(arguments: &ListArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let found: Vec<Task> = target.list(arguments).await?;
    if let Some(format) = arguments.output {
        return table::objects("task.kubeopencode.io", &found, false, format, printer);
    }
    if found.is_empty() {
        let place = if arguments.all_namespaces {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", target.namespace)
        };
        printer.line(&format!("There are no Tasks in {place}."));
        return Ok(());
    }
    // Of a selection nobody knows who else is in the queue.
    let places = match arguments.selector {
        None => places(&found),
        Some(_) => HashMap::new(),
    };
    let now = Timestamp::now();
    let mut rows = vec![row(
        arguments.all_namespaces,
        "NAMESPACE",
        ["NAME", "PHASE", "AGENT", "AGE", "REASON"].map(str::to_owned),
    )];
    rows.extend(found.iter().map(|task| {
        let state = TaskFrontEnd::state(task);
        let cells = [
            task.name_any(),
            state.phase.as_str().to_owned(),
            TaskFrontEnd::agent(task).to_owned(),
            table::age(task.creation_timestamp().map(|time| time.0), now),
            reason(task, &places),
        ];
        row(
            arguments.all_namespaces,
            &task.namespace().unwrap_or_default(),
            cells,
        )
    }));
    printer.text(&table::render(&rows));
    Ok(())
}

/// Why it ended; before that, what it waits for.
fn reason(task: &Task, places: &HashMap<String, usize>) -> String {
    let state = TaskFrontEnd::state(task);
    if let Some(reason) = state.reason {
        reason.as_str().to_owned()
    } else if TaskFrontEnd::stop_requested(task) || state.stop_is_recorded() {
        "Stopping".to_owned()
    } else {
        let place = task.uid().and_then(|uid| places.get(&uid).copied());
        place.map_or_else(String::new, |place| format!("place {place} in the queue"))
    }
}

/// The place of each Task that is in a queue, by its UID, counted from 1.
fn places(tasks: &[Task]) -> HashMap<String, usize> {
    let mut queues: HashMap<(String, &str), Vec<Turn>> = HashMap::new();
    for task in tasks.iter().filter(|task| queue::waits(task)) {
        let queue = (
            task.namespace().unwrap_or_default(),
            TaskFrontEnd::agent(task),
        );
        queues
            .entry(queue)
            .or_default()
            .push(TaskFrontEnd::turn(task));
    }
    let mut places = HashMap::new();
    for mut turns in queues.into_values() {
        turns.sort_unstable();
        let turns = turns.into_iter().zip(1..);
        places.extend(turns.map(|(turn, place)| (turn.slot().uid.clone(), place)));
    }
    places
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(name: &str, created: u8, spec: &serde_json::Value, status: &serde_json::Value) -> Task {
        serde_json::from_value(json!({
            "apiVersion": "kubeopencode.io/v1alpha1", "kind": "Task",
            "metadata": {
                "name": name, "uid": name, "namespace": "default",
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
            },
            "spec": spec, "status": status,
        }))
        .expect("a Task")
    }

    #[test]
    fn a_place_is_that_in_the_queue_of_its_own_agent() {
        let queued = json!({"phase": "Queued"});
        let mut deleted = task("deleted", 0, &json!({}), &queued);
        deleted.metadata.deletion_timestamp = deleted.metadata.creation_timestamp.clone();
        let tasks = [
            deleted,
            task("late", 3, &json!({}), &queued),
            task("runs", 1, &json!({}), &json!({"phase": "Running"})),
            task("first", 2, &json!({}), &queued),
            task("urgent", 4, &json!({"priority": 1}), &queued),
            task("other", 5, &json!({"agentRef": "other"}), &queued),
        ];
        let places = places(&tasks);
        let reasons: Vec<String> = tasks.iter().map(|task| reason(task, &places)).collect();
        assert_eq!(
            reasons,
            [
                "",
                "place 3 in the queue",
                "",
                "place 2 in the queue",
                "place 1 in the queue",
                "place 1 in the queue"
            ]
        );
    }

    #[test]
    fn a_task_that_is_stopped_says_so_until_it_has_ended() {
        let mut stopped = task("a", 1, &json!({}), &json!({"phase": "Running"}));
        let annotations = stopped.metadata.annotations.get_or_insert_default();
        annotations.insert("kubeopencode.io/stop".into(), "true".into());
        assert_eq!(reason(&stopped, &HashMap::new()), "Stopping");
        let ended = json!({"phase": "Completed", "reason": "UserStopped"});
        let ended = task("a", 1, &json!({}), &ended);
        assert_eq!(reason(&ended, &HashMap::new()), "UserStopped");
    }
}
