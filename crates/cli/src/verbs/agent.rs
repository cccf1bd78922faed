//! `agent …`: list, get.

use jiff::Timestamp;
use kube::{Api, ResourceExt as _};
use kubeopencode_api::v1alpha1::Agent;

use super::task::row;
use crate::{
    cli::{AgentCommand, Format, GetArgs, ListArgs},
    failure::{Failure, Problem},
    printer::Printer,
    table, target,
};

/// Does it.
pub(crate) async fn agent(command: &AgentCommand, printer: &Printer) -> Result<(), Failure> {
    match command {
        AgentCommand::List(arguments) => list(arguments, printer).await,
        AgentCommand::Get(arguments) => get(arguments, printer).await,
    }
}

async fn list(arguments: &ListArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let found: Vec<Agent> = target.list(arguments).await?;
    if let Some(format) = arguments.output {
        return table::objects("agent.kubeopencode.io", &found, false, format, printer);
    }
    if found.is_empty() {
        printer.line("There are no Agents: Tasks that name none use the built-in one.");
        return Ok(());
    }
    let now = Timestamp::now();
    let number = |number: Option<i32>| number.map_or_else(String::new, |it| it.to_string());
    let mut rows = vec![row(
        arguments.all_namespaces,
        "NAMESPACE",
        ["NAME", "IMAGE", "MAX", "IN-USE", "SERVICE-ACCOUNT", "AGE"].map(str::to_owned),
    )];
    rows.extend(found.iter().map(|agent| {
        let cells = [
            agent.name_any(),
            agent
                .spec
                .agent_image
                .clone()
                .unwrap_or_else(|| "(built in)".to_owned()),
            number(agent.spec.max_concurrent_tasks),
            number(agent.status.as_ref().and_then(|it| it.slots_in_use)),
            agent.spec.service_account_name.clone(),
            table::age(agent.creation_timestamp().map(|time| time.0), now),
        ];
        row(
            arguments.all_namespaces,
            &agent.namespace().unwrap_or_default(),
            cells,
        )
    }));
    printer.text(&table::render(&rows));
    Ok(())
}

async fn get(arguments: &GetArgs, printer: &Printer) -> Result<(), Failure> {
    let target = target::connect(&arguments.target).await?;
    let agents: Api<Agent> = Api::namespaced(target.client.clone(), &target.namespace);
    let Some(agent) = agents.get_opt(&arguments.name).await? else {
        return Err(Problem::new(format!(
            "there is no Agent {:?} in namespace {}",
            arguments.name, target.namespace
        ))
        .hint("`kubeopencode agent list --all-namespaces` lists all")
        .failed());
    };
    // An Agent is what its spec says: YAML is the form for people too.
    table::objects(
        "agent.kubeopencode.io",
        &[agent],
        true,
        arguments.output.unwrap_or(Format::Yaml),
        printer,
    )
}
