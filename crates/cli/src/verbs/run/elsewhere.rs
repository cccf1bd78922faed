//! A cluster into whose Pods nobody here can look: what an agent commits there comes out only by a push. Where nothing says
//! that there is one, it is said before anything is created; and where something was left behind, with the end.

use kubeopencode_engine::run::Run;

use super::workspace;
use crate::{manifest::Manifest, printer::Printer, summary::TaskSummary};

/// Says of each Task what is not pushed, and what would push it.
pub(super) fn warn(runs: &[Run], manifests: &[Manifest], printer: &Printer) {
    for run in runs {
        // A part of a repository is no checkout that one could commit in.
        let checkouts = run.checkouts.iter().filter(|it| it.sub_path.is_none());
        let unpushed: Vec<&str> = checkouts
            .filter(|it| it.push.is_none())
            .map(|it| it.path.as_str())
            .collect();
        if unpushed.is_empty() {
            continue;
        }
        let name = &run.owner.name;
        let in_words =
            |it: &Manifest| it.is_task() && it.source.is_command_line() && it.name() == name;
        let remedy = if manifests.iter().any(in_words) {
            "`--push` pushes it"
        } else {
            "`push` in the Git item pushes it"
        };
        printer.warn(&format!(
            "{name}: what the agent commits in {} is not pushed: it stays in its Pod, and goes with it; {remedy}",
            unpushed.join(", ")
        ));
    }
}

/// Marks the checkouts in which something is, or may be, that is nowhere else.
pub(super) fn mark(run: &Run, summary: &mut TaskSummary) {
    for checkout in &mut summary.checkouts {
        let mut planned = run.checkouts.iter();
        let planned = planned.find(|it| it.path == checkout.result.path);
        checkout.only_in_pod =
            planned.is_none_or(|planned| !workspace::is_elsewhere(&checkout.result, planned));
    }
}
