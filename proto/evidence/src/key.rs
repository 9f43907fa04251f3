//! The keys that attestations, approvals and refusals are verified with.
//!
//! Ed25519 as strictly as release keys: canonical keys of prime order, canonical `S`, no small-order `R` (RFC 8032). ECDSA over P-256 with
//! SHA-256, either value of `s`. Keys in FIDO authenticators as OpenSSH uses them (PROTOCOL.u2f).

use p256::{
    ecdsa::{Signature, VerifyingKey, signature::Verifier as _},
    pkcs8::DecodePublicKey as _,
};
use rutli_release::ReleaseKey;
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, EcdsaCurve, SshSig, public::KeyData};

use crate::limits::MAX_KEY_FILE_BYTES;

/// The curve point of a key, whatever its type: the holder of its secret can sign with every key type of that
/// point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Ed25519([u8; 32]),
    /// Compressed, whichever form the file has.
    P256(Box<[u8]>),
}

impl Point {
    fn p256(key: &VerifyingKey) -> Self {
        Self::P256(key.to_encoded_point(true).as_bytes().into())
    }
}

/// A key that envelopes are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Ed25519(ReleaseKey),
    P256(VerifyingKey),
}

impl PublicKey {
    /// Reads a key from a PEM file (`BEGIN PUBLIC KEY`) or an OpenSSH line (`ssh-ed25519 AAAA… comment`).
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() > MAX_KEY_FILE_BYTES {
            return Err(format!("it has more than {MAX_KEY_FILE_BYTES} bytes"));
        }
        if text.contains("PRIVATE KEY-----") {
            return Err("it is a private key, which does not belong here: give the public one".into());
        }
        if text.starts_with("-----BEGIN") {
            return Self::from_pem(text);
        }
        let line = ssh_key::PublicKey::from_openssh(text).map_err(|_| WANTED)?;
        match line.key_data() {
            KeyData::Ed25519(key) if !text.contains('\n') => ed25519(&key.0).map(Self::Ed25519),
            _ => Err(WANTED.into()),
        }
    }

    pub(crate) fn point(&self) -> Point {
        match self {
            Self::Ed25519(key) => Point::Ed25519(key.to_bytes()),
            Self::P256(key) => Point::p256(key),
        }
    }

    /// Whether `signature` is one over `message`: 64 bytes for Ed25519 (RFC 8032), DER for ECDSA (RFC 3279).
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => verifies(key, message, signature),
            Self::P256(key) => {
                Signature::from_der(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }

    fn from_pem(pem: &str) -> Result<Self, String> {
        use rutli_release::InvalidKey::{NotEd25519, NotPem};
        match ReleaseKey::from_pem(pem) {
            Ok(key) => Ok(Self::Ed25519(key)),
            Err(NotPem | NotEd25519) => {
                VerifyingKey::from_public_key_pem(pem).map(Self::P256).map_err(|_| WANTED.to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A key that approvals and refusals are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SshKey {
    Ed25519(ReleaseKey),
    /// Of an authenticator, which signs for one application. OpenSSH's is `ssh:` or begins so; here as there it is part of the key, and
    /// the signature must be for just that one.
    SkEd25519 {
        key: ReleaseKey,
        application: String,
    },
    P256(VerifyingKey),
}

/// That an SSH signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSignature {
    /// It is not one over this text by this key.
    Signature,
    /// It is, but nobody touched the authenticator.
    NoPresence,
}

impl SshKey {
    pub(crate) fn new(data: &KeyData) -> Result<Self, String> {
        match data {
            KeyData::Ed25519(key) => ed25519(&key.0).map(Self::Ed25519),
            KeyData::SkEd25519(sk) => {
                let key = ed25519(&sk.public_key().0)?;
                Ok(Self::SkEd25519 { key, application: sk.application().to_owned() })
            }
            KeyData::Ecdsa(key) if key.curve() == EcdsaCurve::NistP256 => VerifyingKey::try_from(key)
                .map(Self::P256)
                .map_err(|_| "the key is not a point of its curve".into()),
            other => Err(format!(
                "keys of the type {} are not supported: use ssh-ed25519, sk-ssh-ed25519@openssh.com or \
                 ecdsa-sha2-nistp256",
                crate::words::cut(other.algorithm().as_str())
            )),
        }
    }

    pub(crate) fn point(&self) -> Point {
        match self {
            Self::Ed25519(key) | Self::SkEd25519 { key, .. } => Point::Ed25519(key.to_bytes()),
            Self::P256(key) => Point::p256(key),
        }
    }

    /// Verifies a signature over `text` in `namespace`.
    pub(crate) fn verify(&self, namespace: &str, text: &str, signature: &SshSig) -> Result<(), BadSignature> {
        let message = SshSig::signed_data(namespace, signature.hash_alg(), text.as_bytes())
            .map_err(|_| BadSignature::Signature)?;
        let made = signature.signature();
        let (holds, present) = match (self, made.algorithm()) {
            (Self::Ed25519(key), Algorithm::Ed25519) => (verifies(key, &message, made.as_bytes()), true),
            (Self::SkEd25519 { key, application }, Algorithm::SkEd25519) => {
                verify_sk(key, application, &message, made.as_bytes())
            }
            (Self::P256(key), Algorithm::Ecdsa { .. }) => {
                let holds = Signature::try_from(made).is_ok_and(|made| key.verify(&message, &made).is_ok());
                (holds, true)
            }
            _ => (false, false),
        };
        match (holds, present) {
            (true, true) => Ok(()),
            (true, false) => Err(BadSignature::NoPresence),
            (false, _) => Err(BadSignature::Signature),
        }
    }
}

/// What the authenticator sets if somebody touched it (PROTOCOL.u2f; WebAuthn section 6.1, `UP`).
const USER_PRESENT: u8 = 0x01;

/// Whether the signature of an authenticator holds, and whether somebody was present. `made` is 64 bytes, one of flags and four of a
/// counter, which nobody here keeps track of.
fn verify_sk(key: &ReleaseKey, application: &str, message: &[u8], made: &[u8]) -> (bool, bool) {
    let Some((signature, trailer @ [flags, _, _, _, _])) = made.split_first_chunk::<64>() else {
        return (false, false);
    };
    let signed = [&Sha256::digest(application)[..], trailer, &Sha256::digest(message)[..]].concat();
    (key.verify(&signed, signature).is_ok(), flags & USER_PRESENT != 0)
}

fn verifies(key: &ReleaseKey, message: &[u8], signature: &[u8]) -> bool {
    <&[u8; 64]>::try_from(signature).is_ok_and(|signature| key.verify(message, signature).is_ok())
}

fn ed25519(bytes: &[u8; 32]) -> Result<ReleaseKey, String> {
    ReleaseKey::from_bytes(bytes).map_err(|error| error.to_string())
}

const WANTED: &str = "want an Ed25519 or ECDSA P-256 public key in PEM (`-----BEGIN PUBLIC KEY-----`), or one line \
                      `ssh-ed25519 AAAA…`";
