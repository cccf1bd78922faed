//! `controller`: the operator against a cluster, until it is ended. It logs JSON lines.

use kube::{Client, Config};
use kubeopencode_engine::{lower::Settings, run::Image};
use kubeopencode_operator::{Operator, OperatorOptions, Scope};

use crate::{
    cli::{ControllerArgs, ImageArgs},
    failure::{Failure, Problem},
    interrupt::Interrupts,
    target,
};

/// Runs it.
pub(crate) async fn controller(arguments: &ControllerArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let config = config(arguments).await?;
    let options = OperatorOptions {
        settings: settings(arguments),
        scope: arguments
            .namespace
            .clone()
            .map_or(Scope::Cluster, Scope::Namespace),
        identity: std::env::var("HOSTNAME")
            .unwrap_or_else(|_| format!("kubeopencode-{}", std::process::id())),
        ..OperatorOptions::default()
    };
    Operator::new(Client::try_from(config)?, options)
        .run(async move { interrupts.next().await })
        .await
        .map_err(|error| Problem::new(error.to_string()).failed())
}

/// The cluster that this program runs in, unless another one is named; else that of the kubeconfig.
async fn config(arguments: &ControllerArgs) -> Result<Config, Failure> {
    let (kubeconfig, context) = (
        arguments.kubeconfig.as_deref(),
        arguments.context.as_deref(),
    );
    if kubeconfig.is_none()
        && context.is_none()
        && let Ok(config) = Config::incluster()
    {
        return Ok(config);
    }
    target::config(kubeconfig, context).await
}

fn settings(arguments: &ControllerArgs) -> Settings {
    let ImageArgs {
        system_image,
        opencode_image,
        agent_image,
    } = arguments.images.clone();
    let usual = Settings::default();
    let image = |reference, usual| Image { reference, ..usual };
    Settings {
        system_namespace: arguments.system_namespace.clone(),
        system_image: image(system_image, usual.system_image),
        opencode_image: image(opencode_image, usual.opencode_image),
        agent_image: image(agent_image, usual.agent_image),
        ..Settings::default()
    }
}
