//! A git server over HTTPS: `git http-backend` behind a small server with a CA of its own and, if wanted, basic
//! authentication. It listens on the one address that it is given.

use std::{
    io::{BufReader, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// Of the CA, PEM.
    pub ca: String,
    /// The `Authorization` headers that came, decoded.
    pub credentials: Arc<Mutex<Vec<String>>>,
}

struct Site {
    root: PathBuf,
    /// `user:password`.
    login: Option<String>,
    /// Speaks protocol 0, which gives out nothing but what it advertises.
    old: bool,
    /// Requests below `/moved/` are sent here.
    moved_to: Option<String>,
    /// Answers everything with this.
    status: Option<&'static str>,
    /// How long the first request waits for its answer.
    pause: Mutex<Duration>,
    credentials: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the repositories below `root` on loopback.
    pub fn start(root: PathBuf, login: Option<&str>, moved_to: Option<String>) -> Self {
        let mut site = Site::of(root);
        site.login = login.map(str::to_owned);
        site.moved_to = moved_to;
        Self::serve(LOOPBACK, site)
    }

    /// The same, as a server of long ago.
    pub fn old(root: PathBuf) -> Self {
        let mut site = Site::of(root);
        site.old = true;
        Self::serve(LOOPBACK, site)
    }

    /// A server that answers with nothing but this status, such as `503 Service Unavailable`.
    pub fn broken(root: PathBuf, status: &'static str) -> Self {
        let mut site = Site::of(root);
        site.status = Some(status);
        Self::serve(LOOPBACK, site)
    }

    /// Serves them on this address, to whoever has the login (`user:password`). The first answer takes this long.
    pub fn at(address: IpAddr, root: PathBuf, login: &str, pause: Duration) -> Self {
        let mut site = Site::of(root);
        site.login = Some(login.to_owned());
        site.pause = Mutex::new(pause);
        Self::serve(address, site)
    }

    fn serve(address: IpAddr, site: Site) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Two CAs of one name cannot be told apart by every TLS library.
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("CA of {address}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), address.ip().to_string()];
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &ca)
            .unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let credentials = Arc::clone(&site.credentials);
        let site = Arc::new(site);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (config, site) = (Arc::clone(&config), Arc::clone(&site));
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    // A client that goes away, or does not trust the certificate, is no failure of the server.
                    let _ = site.answer(StreamOwned::new(connection, stream));
                });
            }
        });
        Self {
            address,
            stop,
            thread: Some(thread),
            ca: ca.pem(),
            credentials,
        }
    }

    pub fn url(&self, path: &str) -> String {
        let port = self.address.port();
        match self.address.ip() {
            LOOPBACK => format!("https://localhost:{port}/{path}"),
            address => format!("https://{address}:{port}/{path}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn read(reader: &mut impl std::io::BufRead) -> std::io::Result<Self> {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut request = Self {
            method,
            path,
            query,
            headers,
            body: Vec::new(),
        };
        if request.header("transfer-encoding") == Some("chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk)?;
                if size == 0 {
                    break;
                }
                request.body.extend_from_slice(&chunk[..size]);
            }
        } else if let Some(length) = request.header("content-length") {
            let mut body = vec![0; length.parse().unwrap_or(0)];
            reader.read_exact(&mut body)?;
            request.body = body;
        }
        Ok(request)
    }
}

impl Site {
    /// For everybody, at once, as of today.
    fn of(root: PathBuf) -> Self {
        Self {
            root,
            login: None,
            old: false,
            moved_to: None,
            status: None,
            pause: Mutex::default(),
            credentials: Arc::default(),
        }
    }

    fn answer(&self, stream: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let request = Request::read(&mut reader)?;
        let pause = std::mem::take(&mut *self.pause.lock().unwrap());
        std::thread::sleep(pause);
        let answer = self.respond(&request);
        let stream = reader.get_mut();
        stream.write_all(&answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    }

    fn respond(&self, request: &Request) -> Vec<u8> {
        let plain = |status: &str, header: &str| {
            format!("HTTP/1.1 {status}\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes()
        };
        if let Some(status) = self.status {
            return plain(status, "");
        }
        if let (Some(to), Some(rest)) = (&self.moved_to, request.path.strip_prefix("/moved/")) {
            let query = &request.query;
            return plain("302 Found", &format!("Location: {to}{rest}?{query}\r\n"));
        }
        let given = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|value| base64::engine::general_purpose::STANDARD.decode(value).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        self.credentials.lock().unwrap().extend(given.clone());
        if self.login.is_some() && self.login != given {
            return plain(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"git\"\r\n",
            );
        }
        let protocol = request.header("git-protocol").filter(|_| !self.old);
        let mut backend = Command::new("git")
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", &request.path)
            .env("QUERY_STRING", &request.query)
            .env(
                "CONTENT_TYPE",
                request.header("content-type").unwrap_or_default(),
            )
            .env(
                "HTTP_CONTENT_ENCODING",
                request.header("content-encoding").unwrap_or_default(),
            )
            .env("GIT_PROTOCOL", protocol.unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ = backend.stdin.take().unwrap().write_all(&request.body);
        let output = backend.wait_with_output().unwrap().stdout;
        let split = output
            .windows(4)
            .position(|end| end == b"\r\n\r\n")
            .unwrap_or(0);
        let head = String::from_utf8_lossy(&output[..split]).into_owned();
        let status = head
            .lines()
            .find_map(|line| line.strip_prefix("Status: "))
            .unwrap_or("200 OK");
        let mut answer =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\n{head}\r\n\r\n").into_bytes();
        answer.extend_from_slice(&output[(split + 4).min(output.len())..]);
        answer
    }
}
