//! How a TLS session between two parties must look: TLS 1.3, certificates on both sides, hybrid post-quantum key
//! exchange (X25519MLKEM768) offered first. PEM in, rustls configurations out; the daemons read the files.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// PEM material of one side of a session.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// Certificates of the authorities that may vouch for the other side.
    pub ca: &'a [u8],
    /// Own certificate, then intermediates.
    pub certificate: &'a [u8],
    /// Own private key.
    pub key: &'a [u8],
}

/// The material does not make a TLS configuration. The operator erred.
#[derive(Debug, thiserror::Error)]
pub enum BadMaterial {
    /// No certificate in it, or not PEM.
    #[error("{0} holds no usable PEM certificate")]
    Certificate(&'static str),
    /// No key in it, or not PEM.
    #[error("the key file holds no usable PEM private key")]
    Key,
    /// The parts do not fit each other.
    #[error("certificate, key and CA do not fit together: {0}")]
    Rejected(String),
}

/// What a coordinator serves with; a client without a certificate of the authority is refused in the handshake.
pub fn server_config(pem: Pem<'_>) -> Result<ServerConfig, BadMaterial> {
    let roots = Arc::new(roots(pem.ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|e| BadMaterial::Rejected(e.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| BadMaterial::Rejected(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(pem.certificate, "the certificate file")?, key(pem.key)?)
        .map_err(|e| BadMaterial::Rejected(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would keep an identity alive beyond a certificate that was withdrawn.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// What a node or a client dials with.
pub fn client_config(pem: Pem<'_>) -> Result<ClientConfig, BadMaterial> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| BadMaterial::Rejected(e.to_string()))?
        .with_root_certificates(roots(pem.ca)?)
        .with_client_auth_cert(certificates(pem.certificate, "the certificate file")?, key(pem.key)?)
        .map_err(|e| BadMaterial::Rejected(e.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(pem: &[u8]) -> Result<RootCertStore, BadMaterial> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem, "the CA file")? {
        store.add(certificate).map_err(|e| BadMaterial::Rejected(e.to_string()))?;
    }
    Ok(store)
}

fn certificates(pem: &[u8], file: &'static str) -> Result<Vec<CertificateDer<'static>>, BadMaterial> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| BadMaterial::Certificate(file))?;
    if found.is_empty() { Err(BadMaterial::Certificate(file)) } else { Ok(found) }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, BadMaterial> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| BadMaterial::Key)
}
