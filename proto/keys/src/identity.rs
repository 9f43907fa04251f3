//! The long-lived Ed25519 key by which a node signs its ceremony messages and rosters.
//!
//! [`SignedText`] lists everything that it signs. Each kind has its own beginning, and none of these is a
//! prefix of another. So a text signed for one purpose is never valid for another, and never for a release.

use std::fmt;
use std::ops::Deref;
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

/// Every kind of text that an identity key signs: the key signs nothing that does not begin with one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedText {
    /// A key's roster, by its hash.
    Roster,
    /// A message of a ceremony.
    Ceremony,
    /// A proposal of a ceremony, by its id.
    Proposal,
    /// A head of the log (c2sp.org/tlog-cosignature).
    Cosignature,
}

impl SignedText {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Roster, Self::Ceremony, Self::Proposal, Self::Cosignature];

    /// How such a text begins.
    pub const fn start(self) -> &'static [u8] {
        match self {
            Self::Roster => b"rutli/roster/v1\0",
            Self::Ceremony => b"rutli/ceremony/v1\0",
            Self::Proposal => b"rutli/proposal/v1\0",
            Self::Cosignature => b"cosignature/v1\n",
        }
    }

    fn with(self, message: &[u8]) -> Vec<u8> {
        [self.start(), message].concat()
    }
}

/// A node's secret identity key. Its 32 bytes are where the holder wants them; what a signature computes of them is on the
/// stack alone.
pub struct IdentityKey {
    secret: Box<dyn Deref<Target = [u8; 32]> + Send + Sync>,
    public: VerifyingKey,
}

impl IdentityKey {
    /// A new key from the given randomness.
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut_slice());
        Self::from_bytes(&secret)
    }

    /// The key with this 32-byte seed (RFC 8032, section 5.1.5). Wiped on drop.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self::kept_in(Zeroizing::new(*secret))
    }

    /// The key whose 32-byte seed is in memory of the holder's choice, such as locked pages. That memory wipes itself.
    pub fn kept_in(secret: impl Deref<Target = [u8; 32]> + Send + Sync + 'static) -> Self {
        let public = SigningKey::from_bytes(&secret).verifying_key();
        Self { secret: Box::new(secret), public }
    }

    /// The seed, for moving it to other memory.
    pub fn expose(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Reads a PKCS #8 PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, InvalidIdentity> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| InvalidIdentity::Pem)?;
        Ok(Self::from_bytes(key.as_bytes()))
    }

    /// Writes a PKCS #8 PEM file.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidIdentity> {
        self.signing_key().to_pkcs8_pem(LineEnding::LF).map_err(|_| InvalidIdentity::Pem)
    }

    /// The public half.
    pub fn public(&self) -> IdentityPublic {
        IdentityPublic(self.public)
    }

    /// Signs `message` as a text of this kind.
    pub fn sign(&self, kind: SignedText, message: &[u8]) -> [u8; 64] {
        self.signing_key().sign(&kind.with(message)).to_bytes()
    }

    /// Cosigns a checkpoint of the log at a time in Unix seconds (c2sp.org/tlog-cosignature).
    pub fn cosign(&self, time: u64, checkpoint: &str) -> [u8; 64] {
        self.sign(SignedText::Cosignature, format!("time {time}\n{checkpoint}").as_bytes())
    }

    /// Made for one use and wiped after it: the library's type holds the seed inline, and would take it to other memory.
    fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(self.expose())
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
    pub fn verify(
        &self,
        kind: SignedText,
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), InvalidIdentity> {
        self.0
            .verify_strict(&kind.with(message), &Signature::from_bytes(signature))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_bound_to_kind_message_and_key() {
        let key = IdentityKey::from_bytes(&[7; 32]);
        for kind in SignedText::ALL {
            let signature = key.sign(kind, b"text");
            for other in SignedText::ALL {
                assert_eq!(key.public().verify(other, b"text", &signature).is_ok(), other == kind);
            }
            assert!(key.public().verify(kind, b"Text", &signature).is_err());
            assert!(IdentityKey::from_bytes(&[8; 32]).public().verify(kind, b"text", &signature).is_err());
        }
    }

    /// A text of one kind is never a text of another, whatever follows its beginning. Texts signed with
    /// shares or with a release key are signed by other keys, but are checked for it, too.
    #[test]
    fn no_text_begins_like_another() {
        // A new kind does not compile without a line here, and is tested only if it is in `ALL`.
        let place = |kind: SignedText| match kind {
            SignedText::Roster => 0,
            SignedText::Ceremony => 1,
            SignedText::Proposal => 2,
            SignedText::Cosignature => 3,
        };
        assert!(SignedText::ALL.iter().enumerate().all(|(at, kind)| place(*kind) == at));
        let others: [&[u8]; 3] = [b"rutli/ceremony-prove/v1\0", b"SSHSIG", b"DSSEv1 "];
        let starts: Vec<&[u8]> = SignedText::ALL.into_iter().map(SignedText::start).chain(others).collect();
        for (at, start) in starts.iter().enumerate() {
            let like =
                starts.iter().enumerate().find(|(other, text)| *other != at && text.starts_with(start));
            assert_eq!(like, None, "{:?}", String::from_utf8_lossy(start));
        }
    }

    /// The bytes themselves: other programs verify them.
    #[test]
    fn texts_are_these() {
        assert_eq!(SignedText::Roster.with(b"x"), b"rutli/roster/v1\0x");
        let key = IdentityKey::from_bytes(&[7; 32]);
        let text = b"cosignature/v1\ntime 5\nlog\n1\n";
        assert_eq!(key.cosign(5, "log\n1\n"), key.signing_key().sign(text).to_bytes());
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
