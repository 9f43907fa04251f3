//! What an attacker has: connections with a stolen certificate or with none, and HTTP/2 below gRPC, so that
//! a message can be begun and not ended, an answer asked for and not read, a call made and taken back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use prost::bytes::{BufMut as _, Bytes, BytesMut};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use rutli::client::Profile;
use rutli_wire::tls::{Pem, client_config};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Whatever an attacker does that did not work.
pub type Refused = Box<dyn std::error::Error + Send + Sync>;

/// How long an attacker waits for anything.
const WAIT: Duration = Duration::from_secs(10);

/// Someone with a certificate that was stolen from its owner.
#[derive(Clone)]
pub struct Thief {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Thief {
    /// With the certificate of this profile.
    #[must_use]
    pub fn with(profile: &Profile) -> Self {
        let read = |path| std::fs::read(path).unwrap();
        let (ca, certificate, key) =
            (read(&profile.tls.ca), read(&profile.tls.certificate), read(&profile.tls.key));
        let config = client_config(Pem { ca: &ca, certificate: &certificate, key: &key }).unwrap();
        Self { config: Arc::new(config), address: address_of(profile) }
    }

    /// A connection in whose answers so many bytes are under way before they are read.
    ///
    /// # Errors
    /// If it is not let in.
    pub async fn dial(&self, window: u32) -> Result<Raw, Refused> {
        let tls = timeout(WAIT, tls(self.address, Arc::clone(&self.config))).await??;
        let mut builder = Builder::new();
        builder.initial_window_size(window).max_concurrent_reset_streams(1_000);
        let (requests, connection) = timeout(WAIT, builder.handshake(tls)).await??;
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Raw { requests, driver })
    }
}

/// A connection of HTTP/2. It ends when it is dropped.
pub struct Raw {
    requests: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A call that was begun.
pub struct Call {
    /// Its answer. While this is kept and not read, nothing more of it is sent than the window allows.
    pub answer: ResponseFuture,
    /// Its message, as far as it is not sent.
    pub body: h2::SendStream<Bytes>,
}

impl Raw {
    /// Begins a call, with these bytes of its body, and ends the body or not.
    ///
    /// # Errors
    /// If the other side does not want it.
    pub async fn call(&self, path: &str, body: Bytes, ends: bool) -> Result<Call, Refused> {
        let mut requests = timeout(WAIT, self.requests.clone().ready()).await??;
        let request = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut stream) = requests.send_request(request, false)?;
        stream.send_data(body, ends)?;
        Ok(Call { answer, body: stream })
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.driver.is_finished()
    }
}

/// A message as gRPC frames it, of which `announced` bytes are promised.
#[must_use]
pub fn framed(message: &[u8], announced: usize) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(announced).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// A TLS handshake without any certificate of the client; gives the connection as far as it comes.
///
/// # Errors
/// If it comes to nothing.
pub async fn handshake_as_nobody(profile: &Profile) -> Result<TlsStream<TcpStream>, Refused> {
    let mut roots = RootCertStore::empty();
    for certificate in rustls_certificates(&profile.tls.ca) {
        roots.add(certificate)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    timeout(WAIT, tls(address_of(profile), Arc::new(config))).await?
}

fn rustls_certificates(path: &std::path::Path) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    let pem = std::fs::read(path).unwrap();
    rustls::pki_types::CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect()
}

async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, Refused> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(TlsConnector::from(config).connect(ServerName::try_from("localhost")?, tcp).await?)
}

/// Where the coordinator of a profile listens.
#[must_use]
pub fn address_of(profile: &Profile) -> SocketAddr {
    profile.coordinator.trim_start_matches("https://").parse().unwrap()
}
