//! A development PKI: one authority, ECDSA P-256 throughout, each certificate for one party and one use.
//!
//! In production an organisation has its own authority; what matters to Rütli is the one `rutli:` URI in the subject
//! alternative names ([`rutli_wire::role`]) and the extended key usage.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rutli_wire::role::Party;

use crate::report::Failure;

/// Clocks of machines differ: certificates are valid from a little before they were made.
const BACKDATED_SECONDS: u64 = 60 * 60;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// When a certificate is valid, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: u64,
    /// Until.
    pub not_after: u64,
}

impl Validity {
    /// From now on, for some days.
    #[must_use]
    pub fn days(now: u64, days: u32) -> Self {
        Self {
            not_before: now.saturating_sub(BACKDATED_SECONDS),
            not_after: now.saturating_add(u64::from(days) * DAY_SECONDS),
        }
    }
}

/// What issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl Authority {
    /// A new authority for one deployment.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn new(deployment: &str, validity: Validity) -> Result<Self, Failure> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = named(&format!("Rütli development authority of {deployment}"), validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let pem = key.serialize_pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate, key: pem })
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PKCS #8 PEM.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for a party: the coordinator's is for serving under `names`, all others are for dialling.
    ///
    /// # Errors
    /// Names that are neither DNS names nor IP addresses.
    pub fn issue(&self, party: &Party, names: &[String], validity: Validity) -> Result<Issued, Failure> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let uri = party.to_string();
        let mut params = named(&uri, validity);
        params.subject_alt_names =
            CertificateParams::new(names.to_vec()).map_err(|_| bad_names(names))?.subject_alt_names;
        params.subject_alt_names.push(SanType::URI(uri.as_str().try_into().map_err(failed)?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match party {
            Party::Coordinator(_) => ExtendedKeyUsagePurpose::ServerAuth,
            _ => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

fn named(common_name: &str, validity: Validity) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.not_before = epoch + Duration::from_secs(validity.not_before);
    params.not_after = epoch + Duration::from_secs(validity.not_after);
    params
}

fn bad_names(names: &[String]) -> Failure {
    Failure::usage(format!("the coordinator's names {names:?} are not all DNS names or IP addresses"))
        .help("correct `names` in the description")
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn a_certificate_names_its_party_and_makes_a_tls_configuration() {
        let validity = Validity::days(1_800_000_000, 10);
        let authority = Authority::new("try", validity).unwrap();
        for uri in
            ["rutli:coordinator:c", "rutli:node:vendor:vendor-1", "rutli:pipeline:ci", "rutli:auditor:a"]
        {
            let party: Party = uri.parse().unwrap();
            let names = if uri.contains("coordinator") {
                vec!["localhost".to_owned(), "::1".to_owned()]
            } else {
                vec![]
            };
            let issued = authority.issue(&party, &names, validity).unwrap();
            let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
            assert_eq!(Party::from_certificate(&der).unwrap(), party);
            let pem = rutli_wire::tls::Pem {
                ca: authority.certificate().as_bytes(),
                certificate: issued.certificate.as_bytes(),
                key: issued.key.as_bytes(),
            };
            if uri.contains("coordinator") {
                rutli_wire::tls::server_config(pem).unwrap();
            } else {
                rutli_wire::tls::client_config(pem).unwrap();
            }
        }
        let party: Party = "rutli:coordinator:c".parse().unwrap();
        assert_eq!(
            authority.issue(&party, &["ü".to_owned()], validity).err().map(|failure| failure.exit.code()),
            Some(2)
        );
    }
}
