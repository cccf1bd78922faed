//! `controller`: the operator against a cluster, until it is ended. It logs JSON lines.

use kube::{Client, Config};
use kubeopencode_engine::lower::Settings;
use kubeopencode_operator::{Operator, OperatorOptions, Scope};

use crate::{
    cli::ControllerArgs,
    failure::{Failure, Problem},
    interrupt::Interrupts,
    target,
};

/// Runs it.
pub(crate) async fn controller(arguments: &ControllerArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let named = arguments.context.is_some() || arguments.kubeconfig.is_some();
    let client = match Config::incluster() {
        Ok(config) if !named => Client::try_from(config)?,
        _ => {
            target::named(
                arguments.kubeconfig.as_deref(),
                arguments.context.as_deref(),
                None,
            )
            .await?
            .client
        }
    };
    let options = OperatorOptions {
        settings: Settings {
            system_namespace: arguments.system_namespace.clone(),
            ..Settings::default()
        },
        scope: arguments
            .namespace
            .clone()
            .map_or(Scope::Cluster, Scope::Namespace),
        identity: std::env::var("HOSTNAME")
            .unwrap_or_else(|_| format!("kubeopencode-{}", std::process::id())),
        ..OperatorOptions::default()
    };
    Operator::new(client, options)
        .run(async move { interrupts.next().await })
        .await
        .map_err(|error| Problem::new(error.to_string()).failed())
}
