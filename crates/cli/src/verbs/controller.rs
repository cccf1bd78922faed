//! `controller`: the operator against a cluster, until it is ended. It logs JSON lines.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use kube::{Client, Config, client::ClientBuilder};
use kubeopencode_engine::{lower::Settings, run::Image};
use kubeopencode_operator::{
    Health, Leadership, Metrics, Operator, OperatorOptions, Scope, ServerTime, endpoint,
    leadership::election::{Election, ElectionOptions, Refused, Timing, identity_of},
    system_clock, system_entropy,
};
use nix::errno::Errno;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::{
    cli::{ControllerArgs, ImageArgs},
    failure::{Failure, Problem},
    interrupt::Interrupts,
    target,
};

/// Runs it. A second signal ends it in the middle of its rounds.
pub(crate) async fn controller(arguments: &ControllerArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::new()?;
    let config = config(arguments).await?;
    // So that whatever is told of a cluster that does not answer says which one that is.
    let span = info_span!("controller", cluster = %config.cluster_url);
    let pod = std::env::var("HOSTNAME")
        .unwrap_or_else(|_| format!("kubeopencode-{}", std::process::id()));
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let (health, metrics) = (Health::default(), Metrics::default());
    if let Some(address) = arguments.listen.0 {
        let listener = listen(address).await.map_err(|error| {
            Problem::new(format!(
                "probes and metrics cannot be served on {address}: {error}"
            ))
            .hint("--listen names another address; `--listen off` serves none")
            .failed()
        })?;
        tokio::spawn(endpoint::serve(listener, health.clone(), metrics.clone()));
    }
    let time = ServerTime::new(system_clock());
    let (election, leadership) = if arguments.leader_elect {
        let (election, leadership) = election(arguments, &config, &metrics, &time, &pod)?;
        (Some(election), leadership)
    } else {
        (None, Leadership::always())
    };
    let options = OperatorOptions {
        clock: time.clock(),
        settings: settings(arguments),
        scope: arguments
            .namespace
            .clone()
            .map_or(Scope::Cluster, Scope::Namespace),
        identity: pod,
        leadership,
        health,
        metrics: metrics.clone(),
        ..OperatorOptions::default()
    };
    let operator = Operator::new(client(config, &metrics, &time)?, options);
    let operator = async {
        let result = operator.run(stop.clone().cancelled_owned()).await;
        // From here on nothing is done under the Lease any more.
        ended.cancel();
        result.map_err(|error| Problem::new(error.to_string()).failed())
    };
    // On a task of its own: it has its turn between what the operator does, however long a round takes.
    let election = election.map(|election| {
        // The operator ends with it, also when it panics.
        let stop = stop.clone().drop_guard();
        let ended = ended.clone().cancelled_owned();
        let stands = async move {
            let _stop = stop;
            let result = election.run(ended).await;
            result.map_err(|refused| not_elected(&refused))
        };
        tokio::spawn(stands.instrument(span.clone()))
    });
    let all = async {
        let operator = operator.instrument(span.clone()).await;
        let election = match election {
            Some(election) => election.await.map_err(anyhow::Error::from)?,
            None => Ok(()),
        };
        election.and(operator)
    };
    let impatience = async {
        interrupts.next().await;
        stop.cancel();
        interrupts.next().await;
    };
    tokio::select! {
        result = all => result,
        () = impatience => Ok(()),
    }
}

/// On `[::]` it listens on all addresses of both kinds; of IPv4 alone where there is no IPv6.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// The cluster that this program runs in, unless another one is named; else that of the kubeconfig.
async fn config(arguments: &ControllerArgs) -> Result<Config, Failure> {
    let kubeconfig = arguments.kubeconfig.as_deref();
    let context = arguments.context.as_deref();
    if kubeconfig.is_none()
        && context.is_none()
        && let Ok(config) = Config::incluster()
    {
        return Ok(config);
    }
    target::config(kubeconfig, context).await
}

/// A client whose requests are counted, and whose answers tell the time. It repeats no request by itself: kube would for
/// minutes, longer than a round lasts, so nobody would hear that the API server answers, and how. Rounds, watches and
/// elections know better when.
fn client(mut config: Config, metrics: &Metrics, time: &ServerTime) -> Result<Client, Failure> {
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?.with_layer(time);
    Ok(builder.with_layer(&metrics.requests()).build())
}

/// A candidate with connections of its own.
fn election(
    arguments: &ControllerArgs,
    config: &Config,
    metrics: &Metrics,
    time: &ServerTime,
    pod: &str,
) -> Result<(Election, Leadership), Failure> {
    let timing = Timing::default();
    let mut config = config.clone();
    config.connect_timeout = Some(timing.retry);
    let client = client(config, metrics, time)?;
    let entropy = system_entropy();
    let options = ElectionOptions {
        namespace: arguments.system_namespace.clone(),
        name: arguments.lease_name.clone(),
        identity: identity_of(pod, &entropy),
        timing,
        clock: time.clock(),
        entropy,
    };
    Ok(Election::new(client, options))
}

fn not_elected(refused: &Refused) -> Failure {
    let problem = Problem::new(refused.to_string());
    match refused {
        Refused::NoNamespace(_) => problem.hint(
            "create it, or name another one with --system-namespace; an operator that is alone needs none: --leader-elect=false",
        ),
        Refused::Forbidden(_) => problem.hint("`kubeopencode rbac` prints the rights that it needs"),
    }
    .failed()
}

fn settings(arguments: &ControllerArgs) -> Settings {
    let ImageArgs {
        system,
        opencode,
        agent,
    } = arguments.images.clone();
    let usual = Settings::default();
    let image = |reference, usual| Image { reference, ..usual };
    Settings {
        system_namespace: arguments.system_namespace.clone(),
        system_image: image(system, usual.system_image),
        opencode_image: image(opencode, usual.opencode_image),
        agent_image: image(agent, usual.agent_image),
        ..Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, extract::State, http::StatusCode};

    use super::*;

    /// One that repeats it for minutes hides from the operator that the API server answers.
    #[tokio::test]
    async fn a_request_is_sent_once_whatever_is_answered() {
        for code in [429, 503, 504] {
            let asked = Arc::new(AtomicUsize::new(0));
            let refuses = move |State(asked): State<Arc<AtomicUsize>>| async move {
                asked.fetch_add(1, Ordering::Relaxed);
                StatusCode::from_u16(code).unwrap()
            };
            let router = Router::new().fallback(refuses).with_state(asked.clone());
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move { axum::serve(listener, router).await });
            let config = Config::new(format!("http://{address}").parse().unwrap());
            let time = ServerTime::new(system_clock());
            let client = client(config, &Metrics::default(), &time);
            let client = client.unwrap_or_else(|_| panic!("a client"));
            client.apiserver_version().await.unwrap_err();
            assert_eq!(asked.load(Ordering::Relaxed), 1, "{code}");
            server.abort();
        }
    }
}
