//! The long-lived Ed25519 key by which a node signs its ceremony messages and rosters.
//!
//! Every signature is made over `"rutli/" ‖ domain ‖ "/v1" ‖ 0x00 ‖ message`, so that a text signed for one purpose is
//! never valid for another, and never for a release.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::InvalidIdentity;

/// A node's secret identity key. Wiped on drop.
pub struct IdentityKey(SigningKey);

impl IdentityKey {
    /// A new key from the given randomness.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        Self::from_bytes(&secret)
    }

    /// The key with this 32-byte seed (RFC 8032, section 5.1.5).
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// Reads a PKCS #8 PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidIdentity> {
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| InvalidIdentity::Pem)
    }

    /// Writes a PKCS #8 PEM file.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidIdentity> {
        self.0.to_pkcs8_pem(LineEnding::LF).map_err(|_| InvalidIdentity::Pem)
    }

    /// The public half.
    pub fn public(&self) -> IdentityPublic {
        IdentityPublic(self.0.verifying_key())
    }

    /// Signs `message` in `domain` (see the module).
    pub fn sign(&self, domain: &str, message: &[u8]) -> [u8; 64] {
        self.0.sign(&separated(domain, message)).to_bytes()
    }

    /// Cosigns a checkpoint of the log at a time in Unix seconds (c2sp.org/tlog-cosignature): what is signed begins with
    /// `cosignature/v1`, and so is in no domain of [`IdentityKey::sign`].
    pub fn cosign(&self, time: u64, checkpoint: &str) -> [u8; 64] {
        self.0.sign(format!("cosignature/v1\ntime {time}\n{checkpoint}").as_bytes()).to_bytes()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({})", self.public())
    }
}

/// A node's public identity key: a point of the curve, not of small order. As text the base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityPublic(VerifyingKey);

impl IdentityPublic {
    /// Refuses what is not a point, or is of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidIdentity> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidIdentity::Key)?;
        if key.is_weak() { Err(InvalidIdentity::Key) } else { Ok(Self(key)) }
    }

    /// The 32 bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Verifies strictly: the usual equation without cofactor, canonical values, no small order.
    pub fn verify(&self, domain: &str, message: &[u8], signature: &[u8; 64]) -> Result<(), InvalidIdentity> {
        self.0
            .verify_strict(&separated(domain, message), &Signature::from_bytes(signature))
            .map_err(|_| InvalidIdentity::Signature)
    }
}

impl fmt::Display for IdentityPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&STANDARD.encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for IdentityPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityPublic({self})")
    }
}

impl FromStr for IdentityPublic {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidIdentity::Encoding)?;
        Self::from_bytes(&bytes.try_into().map_err(|_| InvalidIdentity::Encoding)?)
    }
}

impl TryFrom<String> for IdentityPublic {
    type Error = InvalidIdentity;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IdentityPublic> for String {
    fn from(key: IdentityPublic) -> Self {
        key.to_string()
    }
}

fn separated(domain: &str, message: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(domain.len() + message.len() + 10);
    text.extend_from_slice(b"rutli/");
    text.extend_from_slice(domain.as_bytes());
    text.extend_from_slice(b"/v1\0");
    text.extend_from_slice(message);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_domain_message_and_key() {
        let key = IdentityKey::from_bytes(&[7; 32]);
        let signature = key.sign("roster", b"text");
        key.public().verify("roster", b"text", &signature).unwrap();
        assert!(key.public().verify("ceremony", b"text", &signature).is_err());
        assert!(key.public().verify("roster", b"Text", &signature).is_err());
        assert!(IdentityKey::from_bytes(&[8; 32]).public().verify("roster", b"text", &signature).is_err());
    }

    #[test]
    fn texts_come_back() {
        let key = IdentityKey::from_bytes(&[7; 32]);
        let again = IdentityKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_string().parse::<IdentityPublic>().unwrap(), key.public());
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        // The identity, and a point of order eight (RFC 8032 torsion).
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(IdentityPublic::from_bytes(&identity).is_err());
        assert!(IdentityPublic::from_bytes(&[0; 32]).is_err());
        let order8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
        assert!(IdentityPublic::from_bytes(&crate::names::hex32(order8).unwrap()).is_err());
    }
}
