//! The programs of the Pod, run as processes, against real git servers on loopback.

#[path = "it/context.rs"]
mod context;
#[path = "it/file.rs"]
mod file;
#[path = "it/https.rs"]
mod https;
#[path = "it/server.rs"]
mod server;
#[path = "it/ssh.rs"]
mod ssh;
#[path = "it/supervise.rs"]
mod supervise;
#[path = "it/world.rs"]
mod world;
