//! HTTPS before the API service, on loopback only.
//!
//! Each cluster has an authority, a server certificate and a token of its own, made at its first start
//! and kept in files that only their owner can read. The authority's key is thrown away once it
//! has signed the one certificate. Nothing is merged into the user's kubeconfig: the cluster writes one
//! that stands alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::clock::Entropy;

/// Why HTTPS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file of the credentials.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// What the files hold is no certificate or key.
    #[error(
        "the certificate or key in {0} is damaged; remove that directory to have new ones made"
    )]
    Damaged(PathBuf),
    /// The port is taken or not allowed.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What a client needs to know and what the server shows it. Holds secrets; is not printed.
pub struct Credentials {
    directory: PathBuf,
    authority: String,
    certificate: String,
    key: String,
    token: String,
}

impl Credentials {
    /// Those in `directory`, made if there are none.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(directory: &Path, entropy: &Entropy) -> Result<Self, ServeError> {
        let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
        // The token is written last: with it, everything is there.
        if let (Some(authority), Some(certificate), Some(key), Some(token)) = (
            read("ca.crt"),
            read("server.crt"),
            read("server.key"),
            read("token"),
        ) {
            return Ok(Self {
                directory: directory.to_owned(),
                authority,
                certificate,
                key,
                token: token.trim().to_owned(),
            });
        }
        let made = Self::make(directory, entropy)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| ServeError::File {
                path: directory.to_owned(),
                source,
            })?;
        for (name, text) in [
            ("ca.crt", &made.authority),
            ("server.crt", &made.certificate),
            ("server.key", &made.key),
            ("token", &made.token),
        ] {
            write_private(&directory.join(name), text)?;
        }
        Ok(made)
    }

    /// Some that are kept nowhere.
    ///
    /// # Errors
    /// A certificate cannot be made.
    pub fn temporary(entropy: &Entropy) -> Result<Self, ServeError> {
        Self::make(Path::new("memory"), entropy)
    }

    fn make(directory: &Path, entropy: &Entropy) -> Result<Self, ServeError> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "kubeopencode local authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let names = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc"];
        let mut server = CertificateParams::new(names.map(str::to_owned))?;
        server
            .distinguished_name
            .push(DnType::CommonName, "kubeopencode local");
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &authority)?;
        let token = format!("{:032x}{:032x}", entropy(), entropy());
        Ok(Self {
            directory: directory.to_owned(),
            authority: authority.pem(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            token,
        })
    }

    /// PEM of the authority.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The administrator's bearer token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A kubeconfig for this cluster alone.
    #[must_use]
    pub fn kubeconfig(&self, address: SocketAddr) -> String {
        let authority = STANDARD.encode(&self.authority);
        let token = &self.token;
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: kubeopencode-local\n  cluster:\n    \
             server: https://{address}\n    certificate-authority-data: {authority}\n\
             users:\n- name: kubeopencode-local\n  user:\n    token: {token}\n\
             contexts:\n- name: kubeopencode-local\n  context:\n    cluster: kubeopencode-local\n    \
             user: kubeopencode-local\n    namespace: default\ncurrent-context: kubeopencode-local\n"
        )
    }

    fn acceptor(&self) -> Result<TlsAcceptor, ServeError> {
        let damaged = || ServeError::Damaged(self.directory.clone());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| damaged())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| damaged())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| damaged())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|_| damaged())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Writes a file that only its owner can read; a reader sees the old content or all of the new.
///
/// # Errors
/// The system refuses.
pub fn write_private(path: &Path, text: &str) -> Result<(), ServeError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| ServeError::File {
        path: path.to_owned(),
        source,
    })
}

/// A port that is taken, and not served yet.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Takes a port on loopback; 0 takes any.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn new(port: u16) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where clients find it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then drops every connection.
    ///
    /// # Errors
    /// The credentials are damaged.
    pub fn serve(
        self,
        api: Api,
        credentials: &Credentials,
        shutdown: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ServeError> {
        let acceptor = credentials.acceptor()?;
        Ok(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    accepted = self.listener.accept() => match accepted {
                        Ok((stream, _)) => {
                            connections.spawn(connection(stream, acceptor.clone(), api.clone()));
                        }
                        // Out of file descriptors: what is open must end first.
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept a connection");
                            let _ = connections.join_next().await;
                        }
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
            connections.shutdown().await;
        })
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, api: Api) {
    let _ = stream.set_nodelay(true);
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
    };
    let service = TowerToHyperService::new(api);
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended early");
    }
}
