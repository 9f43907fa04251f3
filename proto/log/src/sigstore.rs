//! The log as Sigstore's verifiers want it: a second signed head over the same tree, a promise for each entry, a trusted
//! root, and the [bundle](bundle::verify).
//!
//! ```text
//! <name> - 1                              name: host and port of the log's address
//! <size>
//! <base64 of the root>
//!
//! — <name> <base64 of key id ‖ ECDSA signature in DER>
//! ```
//!
//! An ECDSA key over P-256, because no other kind is known to all of them; its key id is the beginning of the log's id, the SHA-256 of
//! the key's SPKI. Such a head is made only of a tree that nodes have cosigned as a native [checkpoint](crate::checkpoint),
//! and has no cosignatures of its own. Signatures have the lower of the two values of `s`, and those made here are deterministic
//! (RFC 6979). Promises may be signed by a faster library, outside of this crate, which draws no randomness.
//!
//! Sources: Sigstore's `sigstore_bundle.proto`, `sigstore_rekor.proto` and `sigstore_trustroot.proto`; Rekor's signed entry
//! timestamps; RFC 8785.

pub mod bundle;
mod trusted_root;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{
        Signature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
    },
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    checkpoint::{Head, InvalidLogKey, is_name},
    hash::{Hash, sha256},
    limits::{MAX_NAME_BYTES, MAX_TREE_SIZE},
};
pub use bundle::{BundleNotVerified, LoggedSignature, VerifiedBundle};
pub use trusted_root::{InvalidTrustedRoot, TrustedLog, TrustedRoot};

/// The address at which the world reaches a log: `http` or `https`, a host, perhaps a port and a path. Its host and port are
/// the log's name in Sigstore's files, so that a log that moves needs a trusted root with both addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogUrl {
    url: String,
    name: String,
}

/// A log's secret key for Sigstore's verifiers: ECDSA over P-256.
pub struct SigstoreSigner {
    url: LogUrl,
    key: SigningKey,
}

/// A head that a log has signed for Sigstore's verifiers. Only [`SigstoreSigner::sign_head`] makes one, so that it verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigstoreHead {
    head: Head,
    note: String,
    key: SigstoreKey,
}

/// A log's public key for Sigstore's verifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigstoreKey {
    name: String,
    key: VerifyingKey,
    id: Hash,
    spki: Vec<u8>,
}

impl LogUrl {
    /// Host and port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

impl FromStr for LogUrl {
    type Err = InvalidLogKey;

    fn from_str(text: &str) -> Result<Self, InvalidLogKey> {
        let url = text.trim_end_matches('/');
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        let name = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@\\\"".contains(&byte));
        // Some of Sigstore's verifiers take the name for a pattern: an IPv6 address in brackets would match other text.
        let literal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
        if is_name(name) && name.bytes().all(literal) && plain(url) && url.len() <= MAX_NAME_BYTES {
            return Ok(Self { url: url.to_owned(), name: name.to_owned() });
        }
        Err(InvalidLogKey(format!(
            "want the log's address of at most {MAX_NAME_BYTES} bytes, with a host name or an IPv4 address and without \
             query and user, as https://log.example.com"
        )))
    }
}

impl TryFrom<String> for LogUrl {
    type Error = InvalidLogKey;

    fn try_from(text: String) -> Result<Self, InvalidLogKey> {
        text.parse()
    }
}

impl From<LogUrl> for String {
    fn from(url: LogUrl) -> Self {
        url.url
    }
}

impl fmt::Display for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl SigstoreSigner {
    /// The key with this secret scalar, big-endian.
    ///
    /// # Errors
    /// [`InvalidLogKey`] for zero and what is not below the group's order: of random bytes hardly ever, draw others.
    pub fn from_bytes(url: LogUrl, secret: &[u8; 32]) -> Result<Self, InvalidLogKey> {
        let key = SigningKey::from_bytes(secret.into())
            .map_err(|_| InvalidLogKey("these bytes are no secret scalar of P-256".into()))?;
        Ok(Self { url, key })
    }

    /// Reads a PKCS #8 PEM file, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes it.
    ///
    /// # Errors
    /// [`InvalidLogKey`]
    pub fn from_pkcs8_pem(url: LogUrl, pem: &str) -> Result<Self, InvalidLogKey> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| {
            InvalidLogKey(
                "want an ECDSA key over P-256 in PKCS #8 PEM, as `openssl genpkey -algorithm EC -pkeyopt \
                 ec_paramgen_curve:P-256` makes it"
                    .into(),
            )
        })?;
        Ok(Self { url, key })
    }

    /// Writes a PKCS #8 PEM file.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidLogKey> {
        self.key.to_pkcs8_pem(LineEnding::LF).map_err(|error| InvalidLogKey(error.to_string()))
    }

    /// The same in DER, for another library. Wiped when dropped.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours.
    pub fn to_pkcs8_der(&self) -> Result<Zeroizing<Vec<u8>>, InvalidLogKey> {
        let der = self.key.to_pkcs8_der().map_err(|error| InvalidLogKey(error.to_string()))?;
        Ok(Zeroizing::new(der.as_bytes().to_vec()))
    }

    /// The public half.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours.
    pub fn public(&self) -> Result<SigstoreKey, InvalidLogKey> {
        SigstoreKey::new(&self.url, *self.key.verifying_key())
    }

    /// Where the log is.
    #[must_use]
    pub fn url(&self) -> &LogUrl {
        &self.url
    }

    /// Signs a head, for many bundles, and opens it before it is given out. Only of a tree that nodes have cosigned.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours and a tree of up to [`MAX_TREE_SIZE`] entries.
    pub fn sign_head(&self, head: Head) -> Result<SigstoreHead, InvalidLogKey> {
        let key = self.public()?;
        let text = head_text(&key.name, head);
        let signature = [key.hint(), self.sign(text.as_bytes()).as_slice()].concat();
        let note = format!("{text}\n— {} {}\n", key.name, STANDARD.encode(signature));
        if key.open_head(&note) != Some(head) {
            return Err(InvalidLogKey(format!(
                "the head of {} entries that it signed does not verify",
                head.size
            )));
        }
        Ok(SigstoreHead { head, note, key })
    }

    /// Whether it was this key that signed a head, under its name of now.
    fn has_signed(&self, head: &SigstoreHead) -> bool {
        head.key.key == *self.key.verifying_key() && head.key.name == self.url.name
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        lower_s(self.key.sign(message))
    }
}

impl fmt::Debug for SigstoreSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigstoreSigner({})", self.url)
    }
}

impl SigstoreHead {
    /// Of which tree.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The signed note.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

impl SigstoreKey {
    fn new(url: &LogUrl, key: VerifyingKey) -> Result<Self, InvalidLogKey> {
        let spki = key.to_public_key_der().map_err(|error| InvalidLogKey(error.to_string()))?.into_vec();
        Ok(Self { name: url.name.clone(), key, id: sha256(&spki), spki })
    }

    /// From a SubjectPublicKeyInfo in DER.
    fn from_spki(url: &LogUrl, spki: &[u8]) -> Result<Self, InvalidLogKey> {
        let key = VerifyingKey::from_public_key_der(spki)
            .map_err(|_| InvalidLogKey("its key is no ECDSA key over P-256".into()))?;
        Self::new(url, key)
    }

    /// The log's id: SHA-256 of the key's SPKI.
    #[must_use]
    pub fn log_id(&self) -> Hash {
        self.id
    }

    /// Its name: host and port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a head: form, name and the one signature. `None` if anything about it is not as [`SigstoreSigner::sign_head`]
    /// makes it.
    #[must_use]
    pub fn open_head(&self, note: &str) -> Option<Head> {
        let (text, line) = note.split_once("\n\n")?;
        let mut lines = text.split('\n').skip(1);
        let head = Head { size: lines.next()?.parse().ok()?, root: Hash::from_base64(lines.next()?).ok()? };
        let encoded = line.strip_prefix(&format!("— {} ", self.name))?.strip_suffix('\n')?;
        let signature = STANDARD.decode(encoded).ok()?;
        let signature = signature.strip_prefix(self.hint())?;
        let expected = head_text(&self.name, head);
        // What was spelt otherwise, or had more lines, is another text.
        (note.strip_prefix(&expected)? == format!("\n{line}")
            && head.size <= MAX_TREE_SIZE
            && self.verifies(expected.as_bytes(), signature))
        .then_some(head)
    }

    /// Whether the log promised that this entry is in it.
    fn promised(&self, body: &[u8], index: u64, time: u64, promise: &[u8]) -> bool {
        self.verifies(&promised(self.id, body, index, time), promise)
    }

    /// Strictly: DER, and the lower `s`, so that nobody makes a second signature from one.
    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_der(signature).is_ok_and(|signature| {
            signature.normalize_s().is_none() && self.key.verify(message, &signature).is_ok()
        })
    }

    fn hint(&self) -> &[u8] {
        self.id.as_bytes().first_chunk::<4>().map_or(&[], <[u8; 4]>::as_slice)
    }
}

/// In DER, with the lower of the two values of `s`.
fn lower_s(signature: Signature) -> Vec<u8> {
    signature.normalize_s().unwrap_or(signature).to_der().as_bytes().to_vec()
}

fn head_text(name: &str, head: Head) -> String {
    format!("{name} - 1\n{}\n{}\n", head.size, head.root.to_base64())
}

/// What a promise signs: canonical JSON, its fields in the order of their names.
fn promised(id: Hash, body: &[u8], index: u64, time: u64) -> Vec<u8> {
    format!(
        r#"{{"body":"{}","integratedTime":{time},"logID":"{id}","logIndex":{index}}}"#,
        STANDARD.encode(body)
    )
    .into_bytes()
}
