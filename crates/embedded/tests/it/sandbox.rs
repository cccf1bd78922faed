//! Containers as processes: one test for each thing that is easy to get wrong.
//!
//! Needs user namespaces. Every test runs as the user of the test and, when that is root, as an
//! ordinary user (65534) too, by `setpriv` of util-linux. What is missing is said on stderr.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what the tests share fails and speaks as they do"
)]

mod mounts;
mod processes;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use kubeopencode_embedded::node::sandbox::{
    Container, Ended, Mount, Process, Resource, Rlimit, RootFs, SetupError, SetupReason, Source,
    Started, User, probe, start,
};
use nix::unistd::geteuid;
use tokio::io::AsyncReadExt as _;

/// A directory for one test and one user, and a helper that runs as that user.
struct Bed {
    directory: tempfile::TempDir,
    helper: PathBuf,
    uid: u32,
}

impl Bed {
    fn new(uid: u32) -> Self {
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let mut helper = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-helper"));
        if uid != geteuid().as_raw() {
            let binary = directory.path().join("sandbox-helper");
            fs::copy(&helper, &binary).unwrap();
            helper = directory.path().join("as-other");
            let id = uid.to_string();
            let script = format!(
                "#!/bin/sh\nexec setpriv --reuid {id} --regid {id} --clear-groups -- {} \"$@\"\n",
                binary.display()
            );
            fs::write(&helper, script).unwrap();
            fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self {
            directory,
            helper,
            uid,
        }
    }

    /// One for each user that can be tried here.
    fn all() -> Vec<Self> {
        let own = geteuid().as_raw();
        let mut beds = vec![Self::new(own)];
        if own != 0 {
            eprintln!("not run as root: the sandbox is tested as an ordinary user only");
        } else if Command::new("setpriv").arg("--version").output().is_err() {
            eprintln!("setpriv is missing: the sandbox is tested as root only");
        } else {
            beds.push(Self::new(65534));
        }
        beds
    }

    /// A directory of the host that belongs to the bed's user.
    fn volume(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(self.uid), Some(self.uid)).unwrap();
        path
    }

    fn file(&self, path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        chown(path, Some(self.uid), Some(self.uid)).unwrap();
    }

    async fn start(&self, container: &Container) -> Result<Started, SetupError> {
        guarded(start(&self.helper, container)).await
    }

    /// Runs a shell script; gives its output (both streams) and its end.
    async fn run(&self, container: &Container) -> (String, Ended) {
        let started = self
            .start(container)
            .await
            .unwrap_or_else(|error| panic!("as {}: {error}", self.uid));
        finish(started).await
    }
}

async fn finish(mut started: Started) -> (String, Ended) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (_, _, ended) = guarded(futures::future::join3(
        started.stdout.read_to_end(&mut out),
        started.stderr.read_to_end(&mut err),
        started.running.wait(),
    ))
    .await;
    out.extend(err);
    (String::from_utf8_lossy(&out).into_owned(), ended)
}

async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(2), future)
        .await
        .expect("no answer")
}

fn shell(script: &str) -> Container {
    Container {
        hostname: "pod-1".to_owned(),
        root: RootFs::Host {
            visible: Vec::new(),
            hidden: Vec::new(),
        },
        readonly_root: false,
        mounts: Vec::new(),
        process: Process {
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![(
                "PATH".to_owned(),
                "/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
            )],
            cwd: "/".into(),
            user: User { uid: 0, gid: 0 },
            rlimits: Vec::new(),
        },
    }
}

fn bind(path: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: Source::Bind {
            path: path.to_owned(),
            sub_path: None,
            owned: true,
        },
        readonly: false,
    }
}

fn readonly(path: &Path, destination: &str) -> Mount {
    Mount {
        readonly: true,
        source: Source::Bind {
            path: path.to_owned(),
            sub_path: None,
            owned: false,
        },
        ..bind(path, destination)
    }
}

fn sub_path(path: &Path, sub: &str, destination: &str) -> Mount {
    Mount {
        source: Source::Bind {
            path: path.to_owned(),
            sub_path: Some(sub.into()),
            owned: true,
        },
        ..bind(path, destination)
    }
}

/// All files below a directory, to see that nothing was made there.
fn listing(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_host_can_run_containers() {
    for bed in Bed::all() {
        assert_eq!(guarded(probe(&bed.helper)).await, Ok(()), "as {}", bed.uid);
    }
}

#[tokio::test]
async fn a_host_that_forbids_namespaces_is_told_what_to_do() {
    for bed in Bed::all() {
        // In a user namespace of its own, root may set the limit to nothing.
        let wrapper = bed.directory.path().join("forbidden");
        let script = format!(
            "#!/bin/sh\nexec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces && \
             exec {} \"$@\"' sh \"$@\"\n",
            bed.helper.display()
        );
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        if bed.uid != geteuid().as_raw() {
            // Changing the user needs rights that this namespace does not give.
            continue;
        }
        let refused = guarded(probe(&wrapper)).await.unwrap_err().to_string();
        assert!(
            refused.contains("user.max_user_namespaces is 0; raise it"),
            "{refused}"
        );
        let error = start(&wrapper, &shell("true"))
            .await
            .expect_err("no namespaces");
        assert_eq!(error.reason, SetupReason::NamespacesForbidden);
    }
}

#[tokio::test]
async fn exit_codes_and_signals_come_through() {
    for bed in Bed::all() {
        assert_eq!(
            bed.run(&shell("echo out; echo err >&2; exit 7")).await,
            ("out\nerr\n".into(), Ended::Exited(7))
        );
        let (_, ended) = bed.run(&shell("kill -KILL $$")).await;
        assert_eq!(ended, Ended::Signaled(9));
        assert_eq!(ended.exit_code(), 137);
    }
}

#[tokio::test]
async fn what_cannot_start_is_no_exit_code() {
    for bed in Bed::all() {
        let mut container = shell("true");
        for (program, reason) in [
            (
                "no-such-program",
                "exec: \"no-such-program\": executable file not found in $PATH",
            ),
            (
                "/no/such/program",
                "exec: \"/no/such/program\": No such file or directory",
            ),
            ("/etc/passwd", "exec: \"/etc/passwd\": Permission denied"),
            ("/etc", "exec: \"/etc\": is a directory"),
        ] {
            container.process.args = vec![program.to_owned()];
            let error = bed.start(&container).await.expect_err(program);
            assert_eq!(
                (error.reason, error.message.as_str()),
                (SetupReason::Program, reason)
            );
        }
        let mut container = shell("true");
        container.process.cwd = "/proc/none".into();
        let error = bed.start(&container).await.expect_err("no such directory");
        assert!(error.message.contains("/proc/none"), "{error}");
        let mut container = shell("true");
        container.mounts = vec![bind(&bed.directory.path().join("missing"), "/data")];
        let error = bed.start(&container).await.expect_err("no such source");
        assert_eq!(error.reason, SetupReason::Mount);
    }
}

#[tokio::test]
async fn the_program_is_alone() {
    for bed in Bed::all() {
        let script = "echo pids $(ls /proc | grep -c '^[0-9]*$'); hostname; \
            for f in /home /root /run /tmp /mnt; do echo $f $(ls -A $f | grep -v -e systemd -e current-system); done; \
            env | sort; ls -l /proc/self/fd | wc -l; grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs|Seccomp:' /proc/self/status";
        let (output, ended) = bed.run(&shell(script)).await;
        assert_eq!(ended, Ended::Exited(0), "{output}");
        let lines: Vec<&str> = output.lines().collect();
        // PID 1, the shell and its children.
        let pids: u32 = lines[0].trim_start_matches("pids ").parse().unwrap();
        assert!(pids <= 5, "{output}");
        assert_eq!(lines[1], "pod-1");
        for (line, directory) in lines[2..]
            .iter()
            .zip(["/home", "/root", "/run", "/tmp", "/mnt"])
        {
            assert_eq!(line.trim(), directory, "{output}");
        }
        assert!(
            !output.contains("CARGO"),
            "the node's environment: {output}"
        );
        for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert!(
                output.contains(&format!("{set}:\t0000000000000000")),
                "{output}"
            );
        }
        assert!(
            output.contains("NoNewPrivs:\t1") && output.contains("Seccomp:\t2"),
            "{output}"
        );
        // "total" and the descriptors 0, 1, 2 and that of the directory.
        assert!(output.lines().any(|line| line == "5"), "{output}");
    }
}

#[tokio::test]
async fn limits_and_the_tools_that_agents_use() {
    for bed in Bed::all() {
        let volume = bed.volume("work");
        let mut container = shell(
            "ulimit -c; ulimit -n; set -e; git init -q repo; cd repo; git config user.name a; git config user.email a@b; \
             echo x > f; git add f; git commit -qm x; git log --oneline | wc -l; \
             tar -cf ../t.tar f; mkdir out; tar -xf ../t.tar -C out; cat out/f; \
             echo x > /dev/null; head -c 1 /dev/urandom | wc -c; [ -n \"$OTHER\" ] || echo via-dev > /dev/stderr",
        );
        container.mounts = vec![bind(&volume, "/work")];
        container.process.cwd = "/work".into();
        container.process.env.push(("HOME".into(), "/tmp".into()));
        container.process.rlimits = vec![
            Rlimit {
                resource: Resource::Core,
                soft: 0,
                hard: 0,
            },
            Rlimit {
                resource: Resource::OpenFiles,
                soft: 100,
                hard: 200,
            },
        ];
        // The pipe belongs to the user of this test; only the same user can open it by its path.
        let mut expected = "0\n100\n1\nx\n1\n".to_owned();
        if bed.uid == geteuid().as_raw() {
            expected += "via-dev\n";
        } else {
            container.process.env.push(("OTHER".into(), "1".into()));
        }
        let (output, ended) = bed.run(&container).await;
        assert_eq!(
            (output.as_str(), ended),
            (expected.as_str(), Ended::Exited(0)),
            "as {}",
            bed.uid
        );
    }
}
