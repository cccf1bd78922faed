//! A git server over SSH: a real `sshd` with keys of its own, on the one address that it is given.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

const SSHD: &str = "/usr/sbin/sshd";

/// How many tests need the directory that is missing, if it was made for them.
static SEPARATED: Mutex<usize> = Mutex::new(0);
const SEPARATION: &str = "/run/sshd";

/// The directory that an sshd of root locks itself into: there, or made while a test needs it.
struct Separation {
    made: bool,
}

impl Separation {
    fn new() -> Option<Self> {
        let mut tests = SEPARATED.lock().unwrap();
        let needed =
            nix::unistd::geteuid().is_root() && (*tests > 0 || !Path::new(SEPARATION).exists());
        if needed {
            if *tests == 0 {
                std::fs::create_dir(SEPARATION).ok()?;
            }
            *tests += 1;
        }
        Some(Self { made: needed })
    }
}

impl Drop for Separation {
    fn drop(&mut self) {
        let mut tests = SEPARATED.lock().unwrap();
        if self.made {
            *tests -= 1;
            if *tests == 0 {
                let _ = std::fs::remove_dir(SEPARATION);
            }
        }
    }
}

/// One `sshd -i` for each connection, so that nothing is left when a test ends.
pub struct Sshd {
    address: SocketAddr,
    user: String,
    folder: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _separation: Separation,
}

impl Sshd {
    /// Whether this machine has one that lets this user in.
    pub fn is_there() -> bool {
        Path::new(SSHD).exists() && user().is_some()
    }

    /// Starts one with its files in this new folder. `None`, loudly: this machine cannot run one for this user.
    pub fn start(address: IpAddr, folder: &Path) -> Option<Self> {
        let user = user();
        let (true, Some(user), Some(separation)) =
            (Path::new(SSHD).exists(), user, Separation::new())
        else {
            let required = std::env::var("KUBEOPENCODE_TEST_REQUIRE")
                .is_ok_and(|list| list.split(',').any(|item| item == "sshd"));
            assert!(
                !required,
                "{SSHD} cannot be run here, or not log in this user"
            );
            eprintln!(
                "NOT TESTED: git over SSH, because {SSHD} cannot be run here, or not log in this user"
            );
            return None;
        };
        fs::create_dir_all(folder).unwrap();
        keygen(&folder.join("host"));
        keygen(&folder.join("client"));
        let config = folder.join("sshd_config");
        let text = format!(
            "HostKey {0}/host\nAuthorizedKeysFile {0}/client.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\nLogLevel ERROR\n",
            folder.display()
        );
        fs::write(&config, text).unwrap();
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut children = Vec::new();
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let stream = OwnedFd::from(stream);
                let child = Command::new(SSHD)
                    .args(["-i", "-e", "-f"])
                    .arg(&config)
                    .stdin(Stdio::from(stream.try_clone().unwrap()))
                    .stdout(Stdio::from(stream))
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                children.push(child);
            }
            for mut child in children {
                let _ = child.wait();
            }
        });
        Some(Self {
            address,
            user: user.name,
            folder: folder.to_owned(),
            stop,
            thread: Some(thread),
            _separation: separation,
        })
    }

    /// The URL of the repository at this path.
    pub fn url(&self, repository: &Path) -> String {
        format!(
            "ssh://{}@{}{}",
            self.user,
            self.address,
            repository.display()
        )
    }

    /// The private key of whom it lets in.
    pub fn key(&self) -> String {
        fs::read_to_string(self.folder.join("client")).unwrap()
    }

    /// The line of `known_hosts` for it.
    pub fn known_hosts(&self) -> String {
        let key = fs::read_to_string(self.folder.join("host.pub")).unwrap();
        self.known_as(&key)
    }

    /// A line of `known_hosts` that says that its key is this one.
    pub fn known_as(&self, key: &str) -> String {
        format!("[{}]:{} {key}", self.address.ip(), self.address.port())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who may not log in cannot be logged in as.
fn user() -> Option<nix::unistd::User> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap();
    user.filter(|user| !user.shell.ends_with("nologin") && !user.shell.ends_with("false"))
}

/// Makes a key pair: this file, and the same with `.pub`.
pub fn keygen(path: &Path) {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}
