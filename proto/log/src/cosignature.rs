//! Cosignatures: a witness has seen a checkpoint that extends all that it saw before (c2sp.org/tlog-cosignature).
//!
//! An Ed25519 signature over `cosignature/v1\ntime <t>\n` and the text of the checkpoint. The name is not signed, so each
//! cosigner needs a key of its own. A signer node cosigns with its identity key, under its own name `organisation/node`:
//! so the signed roster of a key says which cosigners its holders are.

use std::{fmt, str::FromStr};

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use signed_note::Verifier;

use crate::checkpoint::{InvalidLogKey, decode_vkey, encode_vkey, is_name};

/// The type of a cosigner's Ed25519 key in C2SP's signed notes.
const TYPE_COSIGNATURE: u8 = 0x04;

/// A witness's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature {
    /// Unix seconds by the witness's clock.
    pub time: u64,
    /// Ed25519, over [`cosigned_message`].
    pub signature: [u8; 64],
}

impl Cosignature {
    /// As in a note's signature line: big-endian time, then the signature.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 72] {
        let mut bytes = [0; 72];
        let (time, signature) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.time.to_be_bytes());
        signature.copy_from_slice(&self.signature);
        bytes
    }

    /// From a note's signature line.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, signature) = bytes.split_first_chunk::<8>()?;
        Some(Self { time: u64::from_be_bytes(*time), signature: signature.try_into().ok()? })
    }
}

/// What a witness signs: `checkpoint` is the text of the note, up to and without the blank line.
#[must_use]
pub fn cosigned_message(time: u64, checkpoint: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{checkpoint}").into_bytes()
}

/// A witness's public key, with its name. As text a C2SP verifier key of type 0x04.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cosigner {
    name: String,
    key: VerifyingKey,
}

impl Cosigner {
    /// From a name and 32 bytes.
    ///
    /// # Errors
    /// [`InvalidLogKey`]
    pub fn new(name: impl Into<String>, key: &[u8; 32]) -> Result<Self, InvalidLogKey> {
        let name = name.into();
        let key = VerifyingKey::from_bytes(key).ok().filter(|key| !key.is_weak());
        match key {
            Some(key) if is_name(&name) => Ok(Self { name, key }),
            _ => Err(InvalidLogKey(format!("{name} and its key are no name and Ed25519 key of a cosigner"))),
        }
    }

    /// Its name in signature lines.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether a cosignature is this witness's, strictly.
    #[must_use]
    pub fn verifies(&self, checkpoint: &str, cosignature: &Cosignature) -> bool {
        let message = cosigned_message(cosignature.time, checkpoint);
        self.key.verify_strict(&message, &Signature::from_bytes(&cosignature.signature)).is_ok()
    }

    fn encoded(&self) -> Vec<u8> {
        [&[TYPE_COSIGNATURE], self.key.as_bytes().as_slice()].concat()
    }
}

impl fmt::Display for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_vkey(&self.name, self.key_id(), &self.encoded()))
    }
}

impl FromStr for Cosigner {
    type Err = InvalidLogKey;

    fn from_str(text: &str) -> Result<Self, InvalidLogKey> {
        let (name, key) = decode_vkey(text, TYPE_COSIGNATURE)?;
        Ok(Self { name, key })
    }
}

impl TryFrom<String> for Cosigner {
    type Error = InvalidLogKey;

    fn try_from(text: String) -> Result<Self, InvalidLogKey> {
        text.parse()
    }
}

impl From<Cosigner> for String {
    fn from(cosigner: Cosigner) -> Self {
        cosigner.to_string()
    }
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        signed_note::key_id(&self.name, &self.encoded())
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let text = std::str::from_utf8(message);
        Cosignature::from_bytes(signature)
            .zip(text.ok())
            .is_some_and(|(cosignature, text)| self.verifies(text, &cosignature))
    }
}

impl Cosigner {
    /// The key id in signature lines.
    #[must_use]
    pub fn key_id(&self) -> u32 {
        Verifier::key_id(self)
    }
}
