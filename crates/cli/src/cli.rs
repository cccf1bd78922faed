//! The command line as clap types: what can be said, and nothing of what is done.
//!
//! The verbs are in [`crate::verbs`]; the programs of the Pod are dispatched in `main` before any of this.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser};
use kubeopencode_engine::lower::Settings;

/// What the exit status of each command says.
pub(crate) const EXIT_STATUS: &str = "Exit status: 0 done, 1 failed, 2 wrong input; `run` ends with the exit status of the agent, \
    with 124 where its time or another limit was over, and with 1 where its work could not be brought back.";

/// Run AI coding agents as Kubernetes workloads, on a cluster or on this machine alone.
#[derive(Debug, Parser)]
#[command(
    name = "kubeopencode",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = EXIT_STATUS
)]
pub(crate) struct Cli {
    /// When to use colours and moving progress.
    #[arg(long, global = true, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN", hide_possible_values = true)]
    pub(crate) color: ColorWhen,
    /// Say what happens inside; twice says more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run Tasks to their end: live logs, the result, and the agent's exit status
    Run(RunArgs),
    /// Serve a Kubernetes of this machine alone, with the operator in it
    Local(LocalArgs),
    /// Run the operator against a cluster
    Controller(ControllerArgs),
    /// Create, look at, stop and delete Tasks
    #[command(subcommand)]
    Task(TaskCommand),
    /// Look at Agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Show what would become of manifests, without any cluster
    Plan(PlanArgs),
    /// Print the CustomResourceDefinitions
    Crds(CrdsArgs),
    /// Print the rights that the operator needs, as roles
    Rbac(RbacArgs),
    /// Print the completion script of a shell
    Completion(CompletionArgs),
    /// Print this reference as Markdown
    #[command(hide = true)]
    CliReference,
}

/// Which cluster, and where in it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct TargetArgs {
    /// Context of the kubeconfig. Default: the running `kubeopencode local`, else the current context, but for `run`, which
    /// then has a cluster of its own
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) context: Option<String>,
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace. Default: that of the context, else `default`
    #[arg(short, long, value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// Only kind and name
    Name,
}

/// `run`.
#[derive(Debug, Args)]
#[command(
    override_usage = "kubeopencode run [OPTIONS] <WHAT TO DO>\n       kubeopencode run [OPTIONS] --file <FILE>...",
    after_long_help = "Examples:\n  kubeopencode run -f examples/first-task.yaml\n  kubeopencode run \"Fix the failing test\" --repo .\n  kubeopencode run \"Fix it\" --context CLUSTER --repo https://git.example.com/app.git --push\n  kubeopencode run \"Say hello\" --repo . --command 'echo hello > hello.txt && git add . && git commit -m hello'\n\nWhat the agent does is shown on standard output: the events of an agent that is known rendered for people, other lines as they are, and secrets hidden in both; with --raw it is the agent's bytes. Everything else goes to standard error.\nCtrl-C stops the Task, gives the agent its grace period and waits for it. A second one, half a second later or more, ends the Task at once where the cluster is this run's own; where others use the cluster, as `local` or one with --context, it only waits no longer: the Task is stopped there."
)]
pub(crate) struct RunArgs {
    /// What to do, in words
    #[arg(value_name = "WHAT TO DO", required_unless_present = "files", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) what: Option<String>,
    /// Manifests: files, directories, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Form of the summary, on standard output; the agent's output then goes to standard error
    #[arg(short, long, value_enum, value_name = "FORMAT", value_parser = ["json"])]
    pub(crate) output: Option<String>,
    /// Show what the agent prints as it is: its events are not rendered, and no secrets hidden
    #[arg(long)]
    pub(crate) raw: bool,
    /// Keep the Pod's workspace, and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) said: SaidArgs,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// What only belongs to a Task that is said in words.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "With words instead of files")]
pub(crate) struct SaidArgs {
    /// Repository to work in: a directory of this machine, or a URL. What is done in a directory comes back as a branch
    #[arg(long, value_name = "DIR|URL", requires = "what", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repo: Option<String>,
    /// Branch, tag or commit of the repository
    #[arg(long = "ref", value_name = "REF", requires = "repo", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reference: Option<String>,
    /// Push what the agent commits to this branch of the URL, when it has ended. Without a name: `kubeopencode/` and the
    /// Task's. The branch that is cloned, and the repository's default branch, are not pushed to
    #[arg(long, value_name = "BRANCH", requires = "repo", num_args = 0..=1, require_equals = true, value_parser = NonEmptyStringValueParser::new())]
    #[expect(clippy::option_option, reason = "not given, given, given with a name")]
    pub(crate) push: Option<Option<String>>,
    /// Secret of the namespace that has the credentials for the URL, to clone and to push. The agent does not see it
    #[arg(long, value_name = "NAME", requires = "repo", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) repo_secret: Option<String>,
    /// Shell command to run as the agent. Default: that of the Agent, or `OpenCode` where there is none
    #[arg(long, value_name = "COMMAND", requires = "what", conflicts_with = "agent", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) command: Option<String>,
    /// Agent to use, of the cluster or of the files. Default: the one that is named `default`, if there is one
    #[arg(long, value_name = "NAME", requires = "what", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) agent: Option<String>,
    /// Image of the agent's container
    #[arg(long, value_name = "IMAGE", requires = "what", conflicts_with = "agent", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) image: Option<String>,
    /// Variable of this environment that the agent gets too, by its name; may be given several times
    #[arg(long, value_name = "NAME", requires = "what", conflicts_with = "agent", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) env: Vec<String>,
    /// File with variables that the agent gets, as NAME=value; may be given several times. A value is
    /// all that follows to the end of the line, as it stands there; quotes around it are taken off
    #[arg(long, value_name = "FILE", requires = "what", conflicts_with = "agent")]
    pub(crate) env_file: Vec<PathBuf>,
    /// How long it may take, as in `1h30m`
    #[arg(long, value_name = "DURATION", requires = "what", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) timeout: Option<String>,
    /// Name of the Task. Default: made from the words
    #[arg(long, value_name = "NAME", requires = "what", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
}

/// `local`.
#[derive(Debug, Args)]
pub(crate) struct LocalArgs {
    /// Where everything is kept. Default: `$XDG_DATA_HOME/kubeopencode` or `~/.local/share/kubeopencode`
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port on loopback. Default: the one of the last time, or a free one
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Also add a context `kubeopencode` to the default kubeconfig, and make it the current one
    #[arg(long)]
    pub(crate) merge_kubeconfig: bool,
}

/// `controller`.
#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    /// Context of the kubeconfig. Default: the cluster it runs in, else the current context
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) context: Option<String>,
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Look after this namespace only. Default: all
    #[arg(short, long, value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
    /// Namespace of the operator itself, where the configuration for all namespaces is
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE", default_value = kubeopencode_api::names::SYSTEM_NAMESPACE, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) system_namespace: String,
    /// Of several operators one acts: the one that holds a Lease in the system namespace. `false`: this one always acts
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    pub(crate) leader_elect: bool,
    /// Name of that Lease
    #[arg(long, value_name = "NAME", default_value = kubeopencode_api::names::LEASE, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) lease_name: String,
    /// Where `/livez`, `/readyz` and `/metrics` are served, over plain HTTP; `[::]:8080`: on all addresses, `off`: nowhere
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: Listen,
    #[command(flatten)]
    pub(crate) images: ImageArgs,
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "off" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|_| {
                "neither `off` nor an IP address with a port, such as 127.0.0.1:8080 or [::]:8080"
                    .to_owned()
            })
    }
}

/// Images that Pods get where neither a configuration nor an Agent names another one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Images, where no configuration and no Agent names another one")]
pub(crate) struct ImageArgs {
    /// Image of `git-init`, `context-init` and `git-push`
    #[arg(long = "system-image", value_name = "IMAGE", env = "KUBEOPENCODE_SYSTEM_IMAGE", default_value_t = Settings::default().system_image.reference, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) system: String,
    /// Image that has `OpenCode`
    #[arg(long = "opencode-image", value_name = "IMAGE", env = "KUBEOPENCODE_OPENCODE_IMAGE", default_value_t = Settings::default().opencode_image.reference, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) opencode: String,
    /// Image of the agent
    #[arg(long = "agent-image", value_name = "IMAGE", env = "KUBEOPENCODE_AGENT_IMAGE", default_value_t = Settings::default().agent_image.reference, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) agent: String,
}

/// `task …`.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Create what manifests say, without waiting for it
    Create(CreateArgs),
    /// List Tasks
    List(ListArgs),
    /// Show one Task
    Get(GetArgs),
    /// Print what the agent of a Task prints
    Logs(LogsArgs),
    /// Stop a Task; its Pod and logs stay
    Stop(NamedArgs),
    /// Say where a Task stands, and what it waits for
    Why(NamedArgs),
    /// Delete a Task with its Job, Pod and logs
    Delete(NamedArgs),
}

/// `agent …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// List Agents
    List(ListArgs),
    /// Show one Agent
    Get(GetArgs),
}

/// `task create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Manifests: files, directories, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `task list`, `agent list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `task get`, `agent get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Its name
    pub(crate) name: String,
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `task logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name of the Task
    pub(crate) name: String,
    /// Go on until the agent ends; exit status 1 where not all of its log could be had
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The bytes as they are: events are not rendered, and no secrets hidden
    #[arg(long)]
    pub(crate) raw: bool,
    /// Container: `agent`, or one of the init containers such as `git-init`
    #[arg(short, long, value_name = "NAME", default_value = kubeopencode_api::names::container::AGENT)]
    pub(crate) container: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// A Task by its name.
#[derive(Debug, Args)]
pub(crate) struct NamedArgs {
    /// Name of the Task
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Manifests: files, directories, or `-` for standard input; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Namespace of what names none
    #[arg(short, long, value_name = "NAMESPACE", default_value = kubeopencode_api::names::DEFAULT)]
    pub(crate) namespace: String,
}

/// `crds`.
#[derive(Debug, Args)]
pub(crate) struct CrdsArgs {
    /// Write one file for each into this directory instead
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `rbac`.
#[derive(Debug, Args)]
pub(crate) struct RbacArgs {
    /// For an operator that looks after this namespace only. Default: all
    #[arg(short, long, value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) namespace: Option<String>,
    /// Namespace of the operator itself
    #[arg(long, value_name = "NAMESPACE", default_value = kubeopencode_api::names::SYSTEM_NAMESPACE, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) system_namespace: String,
    /// Name of the Lease by which several operators elect the one that acts
    #[arg(long, value_name = "NAME", default_value = kubeopencode_api::names::LEASE, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) lease_name: String,
}

/// `completion`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}
