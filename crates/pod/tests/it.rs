//! The programs of the Pod, run as processes, against real git servers on loopback.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "the functions that tests share are tests, which clippy does not see"
)]

#[path = "it/checkouts.rs"]
mod checkouts;
#[path = "it/context.rs"]
mod context;
#[path = "it/credentials.rs"]
mod credentials;
#[path = "it/file.rs"]
mod file;
#[path = "it/hearing.rs"]
mod hearing;
#[path = "it/https.rs"]
mod https;
#[path = "it/left_behind.rs"]
mod left_behind;
#[path = "it/push.rs"]
mod push;
#[expect(dead_code, reason = "scenarios listen on other addresses")]
#[path = "../../../tests/git/https.rs"]
mod server;
#[path = "it/sidecar.rs"]
mod sidecar;
#[path = "it/ssh.rs"]
mod ssh;
#[expect(dead_code, reason = "scenarios ask before they begin")]
#[path = "../../../tests/git/ssh.rs"]
mod sshd;
#[path = "it/supervise.rs"]
mod supervise;
#[path = "it/traps.rs"]
mod traps;
#[path = "it/world.rs"]
mod world;
