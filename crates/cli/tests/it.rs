//! The real binary, as a person or a script uses it.

#[path = "it/support.rs"]
mod support;

#[path = "it/chart.rs"]
mod chart;
#[path = "it/controller.rs"]
mod controller;
#[path = "it/errors.rs"]
mod errors;
#[path = "it/generated.rs"]
mod generated;
#[path = "it/interrupt.rs"]
mod interrupt;
#[path = "it/local.rs"]
mod local;
#[path = "it/logs.rs"]
mod logs;
#[path = "it/plan.rs"]
mod plan;
#[path = "it/requests.rs"]
mod requests;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/run.rs"]
mod run;
#[path = "it/several.rs"]
mod several;
#[path = "it/shared.rs"]
mod shared;
#[path = "it/shown.rs"]
mod shown;
#[path = "it/terminal.rs"]
mod terminal;
#[path = "it/variables.rs"]
mod variables;
#[path = "it/work.rs"]
mod work;
