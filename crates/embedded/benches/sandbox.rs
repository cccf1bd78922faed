//! How long a container takes from start to end when its program does nothing.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kubeopencode_embedded::node::sandbox::{Container, Process, RootFs, User, start};

const RUNS: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut times: Vec<Duration> = (0..RUNS).map(|_| runtime.block_on(one())).collect();
    times.sort();
    #[expect(clippy::print_stdout, reason = "the figure is what this is for")]
    {
        println!(
            "container start + end of /bin/true: median {:.1?}, 95 % {:.1?}, of {RUNS}",
            times[RUNS / 2],
            times[RUNS * 95 / 100]
        );
    }
}

async fn one() -> Duration {
    let container = Container {
        hostname: "bench".to_owned(),
        root: RootFs::Host {
            visible: Vec::new(),
            hidden: Vec::new(),
        },
        readonly_root: false,
        mounts: Vec::new(),
        process: Process {
            args: vec!["/bin/true".to_owned()],
            env: Vec::new(),
            cwd: "/".into(),
            user: User { uid: 0, gid: 0 },
            rlimits: Vec::new(),
        },
    };
    let helper = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-helper"));
    let begun = Instant::now();
    let mut started = start(&helper, &container).await.expect("a container");
    started.running.wait().await;
    begun.elapsed()
}
