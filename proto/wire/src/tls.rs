//! How a TLS session between two parties must look: TLS 1.3, certificates on both sides, hybrid post-quantum key
//! exchange (X25519MLKEM768) offered first. PEM in, rustls configurations out; the daemons read the files.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

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

/// The authorities that may vouch for clients. Which of them vouched for one is found out by verifying, for what a certificate says of
/// its issuer is its holder's word.
pub struct Authorities(Vec<(String, Arc<dyn ClientCertVerifier>)>);

impl Authorities {
    /// By their certificates, PEM.
    pub fn new(ca: &[u8]) -> Result<Self, BadMaterial> {
        let rejected = |problem: String| BadMaterial::Rejected(problem);
        let authority = |certificate: CertificateDer<'static>| {
            let name = authority_name(&certificate).ok_or(BadMaterial::Certificate("the CA file"))?;
            let mut roots = RootCertStore::empty();
            roots.add(certificate).map_err(|error| rejected(error.to_string()))?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            Ok((name, verifier.map_err(|error| rejected(error.to_string()))?))
        };
        certificates(ca, "the CA file")?.into_iter().map(authority).collect::<Result<_, _>>().map(Self)
    }

    /// The one that vouches for a client: its certificate, and then intermediates.
    #[must_use]
    pub fn of(&self, chain: &[CertificateDer<'_>]) -> Option<&str> {
        let (certificate, intermediates) = chain.split_first()?;
        let vouches = |(_, verifier): &&(String, Arc<dyn ClientCertVerifier>)| {
            verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
        };
        self.0.iter().find(vouches).map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Characters of an authority's name that are kept.
const MAX_AUTHORITY_CHARS: usize = 200;

/// Its distinguished name and the id of its key, where it has one: two authorities may go by one name. Printable.
fn authority_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let key = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key),
        _ => None,
    });
    let mut name = certificate.subject().to_string();
    if let Some(key) = key {
        name.extend([" key ".to_owned()].into_iter().chain(key.0.iter().map(|byte| format!("{byte:02x}"))));
    }
    let printable = name.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
    // The end tells two of one name apart.
    let skipped = name.chars().count().saturating_sub(MAX_AUTHORITY_CHARS);
    Some(printable.skip(skipped).collect())
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
    }

    fn issued(by: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
    }

    #[test]
    fn an_authority_is_the_one_that_vouches() {
        let (one_pem, one) = authority("One\nline");
        let (namesake_pem, namesake) = authority("One\nline");
        let (_, stranger) = authority("Stranger");
        let authorities = Authorities::new(format!("{one_pem}{namesake_pem}").as_bytes()).unwrap();
        let of = |by: &Issuer<'_, KeyPair>| authorities.of(&[issued(by)]).map(str::to_owned);
        assert!(of(&one).unwrap().starts_with("CN=One?line key "), "{authorities:?}");
        assert_eq!(of(&one), of(&one));
        assert_ne!(of(&one), of(&namesake));
        assert_eq!(of(&stranger), None);
        assert_eq!(authorities.of(&[]), None);
    }

    /// The holder of an authority's key writes into its certificates whatever it likes: they are all that authority's.
    #[test]
    fn what_a_certificate_says_of_its_issuer_changes_nothing() {
        let (pem, one) = authority("One");
        let authorities = Authorities::new(pem.as_bytes()).unwrap();
        let honest = authorities.of(&[issued(&one)]).unwrap().to_owned();
        for identifier in [1, 2] {
            let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
            params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            // AuthorityKeyIdentifier (RFC 5280, section 4.2.1.1): [0] keyIdentifier.
            let made_up = vec![0x30, 6, 0x80, 4, 0xde, 0xad, 0xbe, identifier];
            params.custom_extensions =
                vec![rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 35], made_up)];
            let certificate = params.signed_by(&KeyPair::generate().unwrap(), &one).unwrap().der().clone();
            assert_eq!(authorities.of(&[certificate]), Some(honest.as_str()));
        }
    }
}
