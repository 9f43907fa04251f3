//! Certificates that a deployment's own authority issues, right and wrong, for tests of who is let in.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use rutli::client::{Profile, TlsFiles};

/// An authority that vouches for whatever a test wants.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// URI subject alternative names.
    pub uris: &'a [&'a str],
    /// DNS names.
    pub names: &'a [&'a str],
    /// Seconds before now, and after it.
    pub valid: (i64, i64),
    /// Extended key usage.
    pub usage: ExtendedKeyUsagePurpose,
}

impl<'a> Claim<'a> {
    /// A client's certificate that is valid now.
    #[must_use]
    pub fn client(uris: &'a [&'a str]) -> Self {
        Self { uris, names: &[], valid: (3600, 3600), usage: ExtendedKeyUsagePurpose::ClientAuth }
    }
}

impl Authority {
    /// The authority that `rutli init` left in `folder`, as `ca.pem` and `ca.key`.
    #[must_use]
    pub fn of_deployment(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        Self { issuer: Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap() }
    }

    /// Another authority, of this name.
    #[must_use]
    pub fn invented(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: Issuer::new(params, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()) }
    }

    /// Writes a certificate and its key into `folder`, and gives a profile that uses them for the coordinator of
    /// `profile`.
    #[must_use]
    pub fn issue(&self, claim: &Claim<'_>, folder: &Path, profile: &Profile) -> Profile {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = claim.names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .subject_alt_names
            .extend(claim.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.extended_key_usages = vec![claim.usage.clone()];
        let at = |offset: i64| {
            let now = i64::try_from(rutli::clock::unix_now()).unwrap();
            date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now + offset).unwrap())
        };
        params.not_before = at(-claim.valid.0);
        params.not_after = at(claim.valid.1);
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::create_dir_all(folder).unwrap();
        let tls = TlsFiles {
            ca: profile.tls.ca.clone(),
            certificate: folder.join("tls.pem"),
            key: folder.join("tls.key"),
        };
        fs::write(&tls.certificate, certificate.pem()).unwrap();
        fs::write(&tls.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&tls.key, fs::Permissions::from_mode(0o600)).unwrap();
        Profile { tls, ..profile.clone() }
    }
}
