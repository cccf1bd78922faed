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

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kubeopencode_embedded::node::sandbox::{
    Container, Ended, Mount, Process, Resource, Rlimit, RootFs, SetupError, SetupReason, Source,
    Started, User, probe, start,
};
use nix::sys::signal::Signal;
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
async fn the_host_is_never_written_to() {
    for bed in Bed::all() {
        let script = "for d in /etc /usr /usr/bin /opt /var /var/lib /sys /proc/sys/kernel; do \
              if [ -d $d ] && touch $d/kubeopencode-was-here 2>/dev/null; then echo wrote $d; fi; done; \
            for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/sys/vm/drop_caches /etc/passwd; do \
              if (: >>$f) 2>/dev/null; then echo can write $f; fi; done; \
            for f in /dev/null /dev/tty /dev/urandom /dev/stdin; do \
              if chmod 666 $f 2>/dev/null; then echo can change $f; fi; done; \
            mkdir /mine /root/mine /tmp/mine /var/tmp/mine && echo mine";
        let (output, ended) = bed.run(&shell(script)).await;
        assert_eq!(
            (output.as_str(), ended),
            ("mine\n", Ended::Exited(0)),
            "as {}",
            bed.uid
        );
        let mut container = shell("touch /x 2>/dev/null || echo refused");
        container.readonly_root = true;
        assert!(bed.run(&container).await.0.ends_with("refused\n"));
        for place in [
            "/mine",
            "/x",
            "/root/mine",
            "/etc/kubeopencode-was-here",
            "/tmp/mine",
        ] {
            assert!(!Path::new(place).exists(), "{place} on the host");
        }
    }
}

#[tokio::test]
async fn a_read_only_bind_cannot_be_remounted() {
    for bed in Bed::all() {
        let volume = bed.volume("data");
        let mut container = shell(
            "for d in /data /etc /usr /proc/sys; do mount -o remount,bind,rw $d && echo remounted $d; \
               umount $d && echo unmounted $d; touch $d/written && echo wrote $d; done; \
             mount -t tmpfs none /data && echo mounted; \
             unshare -U true && echo unshared; unshare -Urm mount -o remount,bind,rw /data && echo nested; \
             unshare -m true && echo unshared; nsenter -t 1 -m true && echo entered; \
             cat /proc/1/environ && echo read; ls /proc/1/root/ && echo looked; \
             kill -KILL 1; kill -TERM 1; echo alive",
        );
        container.mounts = vec![readonly(&volume, "/data")];
        let (output, ended) = bed.run(&container).await;
        assert_eq!(ended, Ended::Exited(0), "{output}");
        for word in [
            "remounted",
            "unmounted",
            "wrote",
            "mounted\n",
            "unshared",
            "nested",
            "entered",
            "read\n",
            "looked",
        ] {
            assert!(
                !output.contains(&format!("\n{word}")) && !output.starts_with(word),
                "{word}: {output}"
            );
        }
        assert!(output.contains("alive\n"), "{output}");
        assert!(listing(&volume).is_empty());
    }
}

#[tokio::test]
async fn volumes_are_shared_and_belong_to_the_user_inside() {
    for bed in Bed::all() {
        let volume = bed.volume("work");
        let mut container = shell(
            "id -u; id -g; echo hello > /workspace/a/file; stat -c %u /workspace/a/file /etc/passwd; pwd",
        );
        container.mounts = vec![bind(&volume, "/workspace")];
        container.process.cwd = "/workspace/a".into();
        container.process.user = User {
            uid: 1000,
            gid: 1001,
        };
        let (output, ended) = bed.run(&container).await;
        // What belongs to the host's root is root's only for a node run by root.
        let root = if bed.uid == 0 { 1000 } else { 65534 };
        assert_eq!(output, format!("1000\n1001\n1000\n{root}\n/workspace/a\n"));
        assert_eq!(ended, Ended::Exited(0));
        assert_eq!(
            fs::read_to_string(volume.join("a/file")).unwrap(),
            "hello\n"
        );
        let owner =
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(volume.join("a/file")).unwrap());
        assert_eq!(owner, bed.uid);
    }
}

#[tokio::test]
async fn one_file_over_a_directory_of_the_host() {
    for bed in Bed::all() {
        let key = bed.directory.path().join("key");
        bed.file(&key, "secret");
        let mut container = shell(
            "cat /etc/app/key.json /etc/app.conf /usr/share/app/deep/x; ls -d /etc/passwd /usr/share/doc; \
            ls -A /etc | wc -l; (echo >/etc/app/key.json) 2>/dev/null || echo ro",
        );
        container.mounts = [
            "/etc/app/key.json",
            "/etc/app.conf",
            "/usr/share/app/deep/x",
            "/top.txt",
        ]
        .map(|place| readonly(&key, place))
        .to_vec();
        let (output, ended) = bed.run(&container).await;
        assert_eq!(ended, Ended::Exited(0), "{output}");
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[0], "secretsecretsecret/etc/passwd");
        // Everything else of /etc is still there, and two more.
        let names = fs::read_dir("/etc").unwrap().count() + 2;
        assert_eq!(lines[2], names.to_string());
        assert_eq!(lines[3], "ro");
        assert!(!Path::new("/etc/app").exists() && !Path::new("/usr/share/app").exists());
    }
}

#[tokio::test]
async fn a_file_inside_a_volume() {
    for bed in Bed::all() {
        let (volume, key) = (bed.volume("work"), bed.directory.path().join("key"));
        bed.file(&key, "text");
        let mut container = shell(
            "cat /workspace/docs/guide.md; (echo >/workspace/docs/guide.md) 2>/dev/null || echo ro",
        );
        container.mounts = vec![
            bind(&volume, "/workspace"),
            readonly(&key, "/workspace/docs/guide.md"),
        ];
        assert_eq!(bed.run(&container).await.0, "textro\n");
        // A host's directory gets no place made in it.
        let foreign = bed.volume("foreign");
        container.mounts = vec![
            readonly(&foreign, "/workspace"),
            readonly(&key, "/workspace/docs/guide.md"),
        ];
        container.mounts[0].readonly = false;
        let error = bed
            .start(&container)
            .await
            .expect_err("a place in a host's directory");
        assert!(
            error.message.contains("/workspace/docs/guide.md"),
            "{error}"
        );
        assert!(listing(&foreign).is_empty());
    }
}

#[tokio::test]
async fn a_link_in_a_volume_leads_nowhere_on_the_host() {
    for bed in Bed::all() {
        let (volume, host, key) = (
            bed.volume("work"),
            bed.volume("host"),
            bed.directory.path().join("key"),
        );
        bed.file(&host.join("private"), "private");
        bed.file(&key, "text");
        symlink(&host, volume.join("link")).unwrap();
        symlink("/old/etc", volume.join("old")).unwrap();
        symlink("../host", volume.join("relative")).unwrap();
        symlink("/etc", volume.join("etc")).unwrap();
        let before = listing(&host);
        for destination in [
            "/w/link/new/file",
            "/w/old/new",
            "/w/relative/new",
            "/w/link/private",
        ] {
            let mut container = shell("true");
            container.mounts = vec![bind(&volume, "/w"), readonly(&key, destination)];
            match bed.start(&container).await {
                Ok(started) => drop(finish(started).await),
                Err(error) => assert_eq!(error.reason, SetupReason::Mount, "{destination}"),
            }
            assert_eq!(listing(&host), before, "{destination}");
            assert_eq!(fs::read_to_string(host.join("private")).unwrap(), "private");
        }
        let mut container = shell("cat /w/link/private");
        container.mounts = vec![bind(&volume, "/w")];
        assert!(bed.run(&container).await.0.contains("No such file"));
        for sub in ["link", "relative", "etc/passwd", "../host", "link/private"] {
            container.mounts = vec![sub_path(&volume, sub, "/w")];
            let error = bed.start(&container).await.expect_err(sub);
            assert!(
                error.message.contains("subPath leads out"),
                "{sub}: {error}"
            );
        }
        assert!(!Path::new("/etc/new").exists());
    }
}

#[tokio::test]
async fn a_sub_path_of_a_volume() {
    for bed in Bed::all() {
        let volume = bed.volume("work");
        fs::create_dir(volume.join("there")).unwrap();
        bed.file(&volume.join("there/file"), "text");
        symlink("there", volume.join("alias")).unwrap();
        let mut container = shell("cat /a/file /b/file /c; ls /new");
        container.mounts = vec![
            sub_path(&volume, "there", "/a"),
            sub_path(&volume, "alias", "/b"),
            sub_path(&volume, "there/file", "/c"),
            sub_path(&volume, "new/deep", "/new"),
        ];
        assert_eq!(bed.run(&container).await.0, "texttexttext");
        assert!(volume.join("new/deep").is_dir());
    }
}

#[tokio::test]
async fn read_only_reaches_mounts_below_and_keeps_their_flags() {
    for bed in Bed::all() {
        // /dev/shm of the host is a mount of its own with flags that must be kept.
        let mut container = shell(
            "touch /host-dev/shm/x 2>/dev/null && echo wrote; grep ' /host-dev' /proc/self/mountinfo",
        );
        container.mounts = vec![readonly(Path::new("/dev"), "/host-dev")];
        let (output, _) = bed.run(&container).await;
        assert!(!output.contains("wrote"), "{output}");
        // Of mounts on one place, the last covers the others.
        let top: BTreeMap<&str, &str> = output
            .lines()
            .map(|line| (line.split(' ').nth(4).unwrap(), line))
            .collect();
        assert!(top.len() >= 2, "no mount below: {output}");
        for line in top.values() {
            let options = line.split(' ').nth(5).unwrap();
            for flag in ["ro", "nosuid", "nodev"] {
                assert!(
                    options.split(',').any(|option| option == flag),
                    "{flag}: {line}"
                );
            }
        }
        assert!(!Path::new("/dev/shm/x").exists());
    }
}

#[tokio::test]
async fn hidden_and_visible_parts_of_the_host() {
    for bed in Bed::all() {
        let seen = bed.volume("seen");
        bed.file(&seen.join("file"), "text");
        let at = seen.join("file");
        let mut container = shell(&format!(
            "cat {} ; cat /etc/hostname; ls /usr/share/doc; touch {} 2>/dev/null || echo ro",
            at.display(),
            at.display()
        ));
        container.root = RootFs::Host {
            visible: vec![seen.clone()],
            hidden: vec![
                "/etc/hostname".into(),
                "/usr/share/doc".into(),
                "/no/such".into(),
            ],
        };
        let (output, ended) = bed.run(&container).await;
        assert_eq!((output.as_str(), ended), ("textro\n", Ended::Exited(0)));
        let (output, _) = bed.run(&shell("cat /etc/shadow; ls /etc/ssh/ssh_host_*_key && cat /etc/ssh/ssh_host_*_key | wc -c")).await;
        assert!(
            !output.contains("root:") && !output.contains("PRIVATE"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn daemons_end_with_the_program() {
    for bed in Bed::all() {
        let mark = format!("{}", 100_000 + std::process::id() % 100_000 + bed.uid % 7);
        let script = format!(
            "(setsid sh -c 'trap \"\" TERM HUP; sleep {mark} & sleep {mark}' &) ; (sleep {mark} &); echo started"
        );
        let (output, ended) = bed.run(&shell(&script)).await;
        assert_eq!((output.as_str(), ended), ("started\n", Ended::Exited(0)));
        assert_eq!(processes_with(&mark), 0);
    }
}

/// How many processes of the host have this argument.
fn processes_with(mark: &str) -> usize {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|line| {
            line.split(|byte| *byte == 0)
                .any(|argument| argument == mark.as_bytes())
        })
        .count()
}

#[tokio::test]
async fn orphans_are_reaped() {
    for bed in Bed::all() {
        // Each orphan writes to the pipe when it has ended; then its zombie must go too.
        let script = "for i in 1 2 3 4 5 6 7 8; do (true &); done; sleep 0.2; \
            while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; echo clean";
        let (output, _) = bed.run(&shell(script)).await;
        assert!(output.ends_with("clean\n"), "{output}");
    }
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group_and_kill_ends_all() {
    for bed in Bed::all() {
        let mut container =
            shell("trap 'echo got TERM; exit 143' TERM; echo ready; while :; do sleep 0.1; done");
        let mut started = bed.start(&container).await.unwrap();
        let mut ready = [0; 6];
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        started.running.signal(Signal::SIGTERM).await;
        let (output, ended) = finish(started).await;
        assert_eq!(ended, Ended::Exited(143), "{output}");
        assert!(output.starts_with("got TERM\n"), "{output}");

        container.process.args[2] =
            "trap '' TERM; echo ready; while :; do sleep 0.1; done".to_owned();
        let mut started = bed.start(&container).await.unwrap();
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        started.running.signal(Signal::SIGTERM).await;
        started.running.kill();
        assert_eq!(finish(started).await.1, Ended::Killed);
    }
}

#[tokio::test]
async fn dropping_the_handle_ends_the_container() {
    for bed in Bed::all() {
        let mut started = bed
            .start(&shell("echo ready; exec sleep 1000"))
            .await
            .unwrap();
        let mut ready = [0; 6];
        guarded(started.stdout.read_exact(&mut ready))
            .await
            .unwrap();
        drop(started.running);
        // The pipe closes when the last process is gone.
        let mut rest = Vec::new();
        guarded(started.stdout.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn the_end_of_the_node_ends_the_container() {
    use tokio::io::AsyncWriteExt as _;
    for bed in Bed::all() {
        // The node of this test is a connection that closes without a word, as after kill -9.
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut helper = tokio::process::Command::new(&bed.helper)
            .arg("__sandbox")
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut node = tokio::net::UnixStream::from_std(ours).unwrap();
        let mut line =
            serde_json::to_vec(&shell("(setsid sleep 1000 &); echo ready; exec sleep 1000"))
                .unwrap();
        line.push(b'\n');
        node.write_all(&line).await.unwrap();
        let mut stdout = helper.stdout.take().unwrap();
        let mut ready = [0; 6];
        guarded(stdout.read_exact(&mut ready)).await.unwrap();
        drop(node);
        let mut rest = Vec::new();
        guarded(stdout.read_to_end(&mut rest)).await.unwrap();
        guarded(helper.wait()).await.unwrap();
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
