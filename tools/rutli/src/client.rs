//! Connections: a profile (TLS to a coordinator) or a custodian's socket (a node on this machine) → a gRPC channel.
//!
//! A profile is a `client.toml`:
//!
//! ```toml
//! coordinator = "https://127.0.0.1:7410"
//! server_name = "localhost"      # optional: the name to expect in the coordinator's certificate
//! [tls]                          # relative paths are relative to this file's folder
//! ca = "ca.pem"
//! certificate = "tls.pem"
//! key = "tls.key"
//! ```
//!
//! TLS is set up here and not by tonic, so that both sides speak what [`rutli_wire::tls`] allows and nothing else.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rutli_wire::{
    limits,
    role::Party,
    tls::{self, Pem},
    v1::{
        ceremony_service_client::CeremonyServiceClient, custodian_service_client::CustodianServiceClient,
        node_service_client::NodeServiceClient, release_service_client::ReleaseServiceClient,
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{files, report::Failure, status};

/// How long a connection with its TLS handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may be silent after the handshake.
const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(2);

/// How one reaches a coordinator, and as whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `https://HOST:PORT`
    pub coordinator: String,
    /// The name in the coordinator's certificate, where it is not the host of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Who may vouch for the coordinator, and the caller's own certificate.
    pub tls: TlsFiles,
}

/// PEM files of one side of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The authority that vouches for the other side.
    pub ca: PathBuf,
    /// Own certificate, then intermediates.
    pub certificate: PathBuf,
    /// Own private key.
    pub key: PathBuf,
}

impl Profile {
    /// Reads a profile; its paths become absolute.
    ///
    /// # Errors
    /// Exit code 2: not readable, or not a profile.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = files::read_text(path)?;
        let mut profile: Self = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!("{} is not a client profile: {}", path.display(), error.message()))
                .help("a profile has `coordinator = \"https://HOST:PORT\"` and a [tls] section with ca, certificate and key; `rutli init` writes some")
        })?;
        let path = files::absolute(path)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        for file in [&mut profile.tls.ca, &mut profile.tls.certificate, &mut profile.tls.key] {
            *file = folder.join(&*file);
        }
        Ok(profile)
    }

    /// Connects. When this returns, the TLS handshake is done and the coordinator took the certificate.
    ///
    /// # Errors
    /// Exit code 2 for a profile that cannot be used, 3 when nobody answers or the other side is not the coordinator.
    pub async fn connect(&self) -> Result<Channel, Failure> {
        let target = self.target()?;
        let endpoint = keep_alive(
            // The scheme is `http` because tonic must not set up TLS of its own; the origin is what the server sees.
            Endpoint::from_shared(format!("http://{}", target.authority))
                .map_err(|_| self.bad_url())?
                .origin(target.origin.clone()),
        );
        let connector = TlsConnector::from(Arc::new(self.tls_config()?));
        let dial = service_fn(move |_: Uri| {
            let (connector, target) = (connector.clone(), target.clone());
            async move {
                let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
                stream.set_nodelay(true)?;
                let mut stream = connector.connect(target.server_name.clone(), stream).await?;
                must_be_a_coordinator(stream.get_ref().1.peer_certificates())?;
                first_word(&mut stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(dial)).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => {
                Err(status::unreachable_by(&error, &format!("the coordinator at {}", self.coordinator)))
            }
            Err(_) => {
                Err(Failure::unreachable(format!("the coordinator at {} does not answer", self.coordinator))
                    .help("check that it runs, and that no firewall is between"))
            }
        }
    }

    fn tls_config(&self) -> Result<rustls::ClientConfig, Failure> {
        warn_if_others_can_read(&self.tls.key);
        let (ca, certificate, key) =
            (files::read(&self.tls.ca)?, files::read(&self.tls.certificate)?, files::read(&self.tls.key)?);
        tls::client_config(Pem { ca: &ca, certificate: &certificate, key: &key }).map_err(|error| {
            Failure::usage(format!("the profile's TLS files cannot be used: {error}"))
                .help("check ca, certificate and key in the profile's [tls] section")
        })
    }

    fn target(&self) -> Result<Target, Failure> {
        let uri: Uri = self.coordinator.parse().map_err(|_| self.bad_url())?;
        let (Some("https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(self.bad_url());
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = self.server_name.clone().unwrap_or_else(|| host.clone());
        Ok(Target {
            server_name: ServerName::try_from(name.clone()).map_err(|_| {
                Failure::usage(format!(
                    "the profile's server name {name:?} is neither a DNS name nor an IP address"
                ))
                .help("set server_name to a name in the coordinator's certificate")
            })?,
            port: authority.port_u16().unwrap_or(443),
            host,
            authority: authority.to_string(),
            origin: uri.clone(),
        })
    }

    fn bad_url(&self) -> Failure {
        Failure::usage(format!(
            "the profile's coordinator {:?} is not a URL that can be used",
            self.coordinator
        ))
        .help("write it as \"https://HOST:PORT\"")
    }
}

/// Connects to the socket of a node on this machine.
///
/// # Errors
/// Exit code 3, when the node does not run or the caller may not use its socket.
pub async fn connect_socket(path: &Path) -> Result<Channel, Failure> {
    let socket = files::absolute(path)?;
    // The authority is not used, but HTTP/2 wants one.
    let endpoint = keep_alive(Endpoint::from_static("http://node.invalid"));
    let dial = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(dial)).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(status::unreachable_by(&error, &format!("the node at {}", path.display()))),
        Err(_) => Err(Failure::unreachable(format!("the node at {} does not answer", path.display()))),
    }
}

/// A client of the release service, with Rütli's message bounds.
#[must_use]
pub fn releases(channel: Channel) -> ReleaseServiceClient<Channel> {
    ReleaseServiceClient::new(channel)
        .max_decoding_message_size(limits::MAX_RESPONSE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES)
}

/// A client of the ceremony service, with Rütli's message bounds.
#[must_use]
pub fn ceremonies(channel: Channel) -> CeremonyServiceClient<Channel> {
    CeremonyServiceClient::new(channel)
        .max_decoding_message_size(limits::MAX_RESPONSE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES)
}

/// A client of the node service.
#[must_use]
pub fn nodes(channel: Channel) -> NodeServiceClient<Channel> {
    NodeServiceClient::new(channel)
        .max_decoding_message_size(limits::MAX_RESPONSE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES)
}

/// A client of a node's custodian service.
#[must_use]
pub fn custodian(channel: Channel) -> CustodianServiceClient<Channel> {
    CustodianServiceClient::new(channel)
        .max_decoding_message_size(limits::MAX_RESPONSE_BYTES)
        .max_encoding_message_size(limits::MAX_MESSAGE_BYTES)
}

/// The other side is not a coordinator, says its certificate: some other party of the deployment, or none.
#[derive(Debug)]
pub struct NotACoordinator(String);

impl fmt::Display for NotACoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotACoordinator {}

/// Every party's certificate is of the same authority: without this a node could pass for the coordinator.
fn must_be_a_coordinator(certificates: Option<&[CertificateDer<'_>]>) -> std::io::Result<()> {
    let problem = match certificates.and_then(<[_]>::first).map(|first| Party::from_certificate(first)) {
        Some(Ok(Party::Coordinator(_))) => return Ok(()),
        Some(Ok(other)) => format!("it is {other}, not a coordinator"),
        Some(Err(error)) => error.to_string(),
        None => "it showed no certificate".to_owned(),
    };
    Err(std::io::Error::other(NotACoordinator(problem)))
}

/// Waits for the server's first bytes, which stay in the stream.
///
/// In TLS 1.3 a client has finished its handshake before the server has looked at its certificate (RFC 8446, section
/// 2), so that a refusal would only show as some broken call later. An HTTP/2 server that has accepted sends its
/// settings (RFC 9113, section 3.4), as a rule without waiting for ours; one that does not is taken on trust.
async fn first_word(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<()> {
    match tokio::time::timeout(FIRST_WORD_TIMEOUT, stream.fill_buf()).await {
        Ok(Ok([])) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(Ok(_)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(error),
    }
}

#[derive(Clone)]
struct Target {
    host: String,
    port: u16,
    authority: String,
    origin: Uri,
    server_name: ServerName<'static>,
}

fn keep_alive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .http2_keep_alive_interval(Duration::from_millis(limits::KEEP_ALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(limits::KEEP_ALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
}

pub(crate) fn warn_if_others_can_read(key: &Path) {
    if let Ok(metadata) = std::fs::metadata(key)
        && metadata.permissions().mode() & 0o077 != 0
    {
        eprintln!("warning: {} can be read by others; run: chmod 600 {}", key.display(), key.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(coordinator: &str, server_name: Option<&str>) -> Profile {
        let none = PathBuf::from("/nonexistent");
        Profile {
            coordinator: coordinator.to_owned(),
            server_name: server_name.map(str::to_owned),
            tls: TlsFiles { ca: none.clone(), certificate: none.clone(), key: none },
        }
    }

    #[test]
    fn urls_give_host_port_and_the_name_to_expect() {
        let target = profile("https://[::1]:7410", Some("localhost")).target().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("::1", 7410));
        assert_eq!(target.server_name, ServerName::try_from("localhost").unwrap());
        let target = profile("https://rutli.example", None).target().unwrap();
        assert_eq!((target.host.as_str(), target.port), ("rutli.example", 443));
        for bad in ["http://127.0.0.1:7410", "127.0.0.1:7410", "https://", ""] {
            assert_eq!(
                profile(bad, None).target().err().map(|failure| failure.exit.code()),
                Some(2),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_a_coordinators_certificate_is_a_coordinators() {
        let certificate = |uri: &str| {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        must_be_a_coordinator(Some(&[certificate("rutli:coordinator:main")])).unwrap();
        for other in ["rutli:node:vendor:vendor-1", "rutli:pipeline:ci", "https://example.org"] {
            assert!(must_be_a_coordinator(Some(&[certificate(other)])).is_err(), "{other}");
        }
        let error = must_be_a_coordinator(Some(&[certificate("rutli:pipeline:ci")])).unwrap_err();
        let failure = status::unreachable_by(&error, "the coordinator at X");
        assert_eq!(failure.exit.code(), 3);
        assert!(failure.problem.contains("not a coordinator"), "{}", failure.problem);
        assert!(failure.help.is_some());
        assert!(must_be_a_coordinator(None).is_err());
    }

    #[test]
    fn a_profile_reads_with_paths_relative_to_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("client.toml");
        std::fs::write(
            &path,
            "coordinator = \"https://127.0.0.1:1\"\n[tls]\nca = \"ca.pem\"\ncertificate = \"/c.pem\"\nkey = \"k/tls.key\"\n",
        )
        .unwrap();
        let profile = Profile::read(&path).unwrap();
        assert_eq!(profile.tls.ca, folder.path().join("ca.pem"));
        assert_eq!(profile.tls.certificate, Path::new("/c.pem"));
        std::fs::write(&path, "coordinator = \"x\"\nunknown = 1\n").unwrap();
        assert!(Profile::read(&path).unwrap_err().problem.contains("unknown"));
    }
}
