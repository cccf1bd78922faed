//! An Agent `default` of the cluster, which a Task said in words gets although nobody has named it: that is said before
//! anything starts, since another program may work then than a person expects.

use kubeopencode_engine::run::Run;

use crate::manifest::Manifest;

/// How much of a command is shown: enough to know the program.
const LONGEST: usize = 60;

/// The Tasks that are said in words and get an Agent of the cluster unasked, each with a line about it.
pub(super) fn agents(manifests: &[Manifest], runs: &[Run]) -> Vec<(String, String)> {
    let unasked = |run: &&Run| {
        // The built-in one has no generation, and what stands in a file was given.
        run.agent.generation.is_some()
            && manifests.iter().any(|it| is_unasked(it, run))
            && !manifests.iter().any(|it| is_its_agent(it, run))
    };
    let told = runs.iter().filter(unasked).map(|run| {
        let text = format!(
            "uses the Agent {} of namespace {}, which runs {}",
            run.agent.name,
            run.owner.namespace,
            program(run)
        );
        (run.owner.name.clone(), text)
    });
    told.collect()
}

/// Whether it is the Task of the Run, said in words that name no Agent.
fn is_unasked(manifest: &Manifest, run: &Run) -> bool {
    manifest.is_task()
        && manifest.source.is_command_line()
        && manifest.name() == run.owner.name
        && manifest.object["spec"]["agentRef"].is_null()
}

fn is_its_agent(manifest: &Manifest, run: &Run) -> bool {
    manifest.is("Agent")
        && manifest.name() == run.agent.name
        && manifest.namespace() == Some(&run.owner.namespace)
}

/// The agent that is known, and the beginning of the command, in one line.
fn program(run: &Run) -> String {
    let command = run.command.as_deref().unwrap_or_default().join(" ");
    let words: Vec<&str> = command.split_whitespace().collect();
    let line = words.join(" ");
    let shown = match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    };
    match (run.profile, shown.as_str()) {
        (Some(profile), "") => profile.name.to_owned(),
        (Some(profile), _) => format!("{} (`{shown}`)", profile.name),
        (None, "") => format!("what the image {} runs", run.images.agent.reference),
        (None, _) => format!("`{shown}`"),
    }
}
