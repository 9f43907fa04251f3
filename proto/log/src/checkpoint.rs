//! Checkpoints: a tree's head, signed by its log (c2sp.org/tlog-checkpoint, c2sp.org/signed-note).
//!
//! ```text
//! <origin>
//! <size>
//! <base64 of the root>
//!
//! — <origin> <base64 of key id ‖ Ed25519 signature>
//! — <cosigner> <base64 of key id ‖ time ‖ Ed25519 signature>
//! ```
//!
//! Ours have no extension lines. The origin is the name of the log's key, as C2SP asks.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    Signature, Signer as _, SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use serde::{Deserialize, Serialize};
use signed_note::{Note, VerificationError, Verifier, Verifiers};
use zeroize::Zeroizing;

use crate::{
    cosignature::{Cosignature, Cosigner},
    hash::Hash,
    limits::{MAX_CHECKPOINT_BYTES, MAX_NAME_BYTES, MAX_SIGNATURE_LINES, MAX_TREE_SIZE},
};

/// The type of an Ed25519 key in C2SP's signed notes.
const TYPE_ED25519: u8 = 0x01;

/// Names a log for ever: another origin is another log. Printable ASCII without spaces and pluses, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

/// A tree's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl Head {
    /// The tree without entries.
    pub const EMPTY: Self = Self { size: 0, root: Hash::EMPTY_ROOT };
}

/// A head of a named log: what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// Its head.
    pub head: Head,
}

/// Why text is no checkpoint of a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACheckpoint {
    /// Too long, or not of the form.
    #[error("it is not a signed checkpoint without extension lines")]
    Malformed,
    /// It is one of another log.
    #[error("it is of the log {found}, not of {expected}")]
    Origin {
        /// What it says.
        found: String,
        /// What it should.
        expected: String,
    },
    /// The log's own signature is missing.
    #[error("the log {0} has not signed it")]
    Unsigned(String),
    /// A signature by a known key does not verify.
    #[error("the signature of {0} does not verify")]
    Signature(String),
    /// With one more signature line nobody could open it.
    #[error(
        "it has no room for the cosignature of {0}: a checkpoint has at most {MAX_SIGNATURE_LINES} of them, and \
         {MAX_CHECKPOINT_BYTES} bytes"
    )]
    Full(String),
}

/// Text that is no name or key of a log or cosigner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLogKey(pub(crate) String);

impl Origin {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidLogKey`]
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidLogKey> {
        let name = name.into();
        if is_name(&name) {
            return Ok(Self(name));
        }
        Err(InvalidLogKey(format!(
            "a log's name is 1 to {MAX_NAME_BYTES} printable ASCII characters without spaces and pluses, as \
             log.example.com/2026"
        )))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidLogKey;

    fn try_from(name: String) -> Result<Self, InvalidLogKey> {
        Self::new(name)
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.head.size, self.head.root.to_base64())
    }

    /// Reads the text of a note, strictly: one spelling, no extension lines.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split_terminator('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let head = Head { size: size.parse().ok()?, root: Hash::from_base64(root).ok()? };
        let checkpoint = Self { origin: Origin::new(origin).ok()?, head };
        (checkpoint.text() == text && head.size <= MAX_TREE_SIZE).then_some(checkpoint)
    }
}

/// A log's secret key.
pub struct LogSigner {
    origin: Origin,
    key: SigningKey,
}

impl LogSigner {
    /// The key with this 32-byte seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_bytes(origin: Origin, secret: &[u8; 32]) -> Self {
        Self { origin, key: SigningKey::from_bytes(secret) }
    }

    /// Reads a PKCS #8 PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`InvalidLogKey`]
    pub fn from_pkcs8_pem(origin: Origin, pem: &str) -> Result<Self, InvalidLogKey> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|_| {
            InvalidLogKey(
                "want an Ed25519 key in PKCS #8 PEM, as `openssl genpkey -algorithm ed25519` makes it".into(),
            )
        })?;
        Ok(Self { origin, key })
    }

    /// Writes a PKCS #8 PEM file.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for a key of ours.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, InvalidLogKey> {
        self.key.to_pkcs8_pem(LineEnding::LF).map_err(|error| InvalidLogKey(error.to_string()))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> LogKey {
        LogKey { origin: self.origin.clone(), key: self.key.verifying_key() }
    }

    /// Signs a head.
    #[must_use]
    pub fn sign(&self, head: Head) -> SignedCheckpoint {
        let checkpoint = Checkpoint { origin: self.origin.clone(), head };
        let signature = self.key.sign(checkpoint.text().as_bytes()).to_bytes().to_vec();
        let line = Line { name: self.origin.to_string(), id: self.public().id(), signature };
        SignedCheckpoint { checkpoint, lines: vec![line] }
    }
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSigner({})", self.public())
    }
}

/// A log's public key, with its origin. As text a C2SP verifier key: `<origin>+<key id>+<base64 of type ‖ key>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogKey {
    origin: Origin,
    key: VerifyingKey,
}

impl LogKey {
    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Opens a checkpoint of this log: form, origin, and the log's own signature, strictly (RFC 8032 with canonical
    /// checks). Other signature lines are kept and not looked at.
    ///
    /// # Errors
    /// [`NotACheckpoint`]
    pub fn open(&self, note: &str) -> Result<SignedCheckpoint, NotACheckpoint> {
        if note.len() > MAX_CHECKPOINT_BYTES {
            return Err(NotACheckpoint::Malformed);
        }
        let parsed = Note::from_bytes(note.as_bytes()).map_err(|_| NotACheckpoint::Malformed)?;
        let text = std::str::from_utf8(parsed.text()).map_err(|_| NotACheckpoint::Malformed)?;
        let checkpoint = Checkpoint::parse(text).ok_or(NotACheckpoint::Malformed)?;
        if checkpoint.origin != self.origin {
            return Err(NotACheckpoint::Origin {
                found: checkpoint.origin.to_string(),
                expected: self.origin.to_string(),
            });
        }
        let (own, others) = parsed.verify(&Only(self)).map_err(|error| match error {
            signed_note::NoteError::UnverifiedNote => NotACheckpoint::Unsigned(self.origin.to_string()),
            _ => NotACheckpoint::Signature(self.origin.to_string()),
        })?;
        let lines = own.iter().chain(&others).map(Line::from).collect();
        Ok(SignedCheckpoint { checkpoint, lines })
    }

    fn id(&self) -> u32 {
        signed_note::key_id(self.origin.as_str(), &self.encoded())
    }

    fn encoded(&self) -> Vec<u8> {
        [&[TYPE_ED25519], self.key.as_bytes().as_slice()].concat()
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_vkey(self.origin.as_str(), self.id(), &self.encoded()))
    }
}

impl FromStr for LogKey {
    type Err = InvalidLogKey;

    fn from_str(text: &str) -> Result<Self, InvalidLogKey> {
        let (name, key) = decode_vkey(text, TYPE_ED25519)?;
        Ok(Self { origin: Origin::new(name)?, key })
    }
}

impl TryFrom<String> for LogKey {
    type Error = InvalidLogKey;

    fn try_from(text: String) -> Result<Self, InvalidLogKey> {
        text.parse()
    }
}

impl From<LogKey> for String {
    fn from(key: LogKey) -> Self {
        key.to_string()
    }
}

impl Verifier for LogKey {
    fn name(&self) -> &str {
        self.origin.as_str()
    }

    fn key_id(&self) -> u32 {
        self.id()
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

/// The one key that a note is opened with.
struct Only<'a, V>(&'a V);

impl<V: Verifier> Verifiers for Only<'_, V> {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if self.0.name() == name && self.0.key_id() == id {
            return Ok(self.0);
        }
        Err(VerificationError::UnknownKey { name: name.to_owned(), id })
    }
}

pub(crate) fn encode_vkey(name: &str, id: u32, key: &[u8]) -> String {
    format!("{name}+{id:08x}+{}", STANDARD.encode(key))
}

/// Name and key of a verifier key of this type, if its key id fits.
pub(crate) fn decode_vkey(text: &str, wanted: u8) -> Result<(String, VerifyingKey), InvalidLogKey> {
    let wrong =
        |problem: &str| InvalidLogKey(format!("{problem}: want NAME+ID+KEY, as c2sp.org/signed-note has it"));
    let (name, rest) = text.trim_end().split_once('+').ok_or_else(|| wrong("it is no verifier key"))?;
    let (id, encoded) = rest.split_once('+').ok_or_else(|| wrong("it is no verifier key"))?;
    let bytes = STANDARD.decode(encoded).map_err(|_| wrong("its key is not base64"))?;
    if !is_name(name) || id != format!("{:08x}", signed_note::key_id(name, &bytes)) {
        return Err(wrong("its id does not fit its name and key"));
    }
    match bytes.split_first() {
        Some((found, key)) if *found == wanted => {
            let key = <[u8; 32]>::try_from(key).ok().and_then(|key| VerifyingKey::from_bytes(&key).ok());
            let key = key.filter(|key| !key.is_weak()).ok_or_else(|| wrong("its key is no Ed25519 key"))?;
            Ok((name.to_owned(), key))
        }
        _ => Err(wrong("it is of another type")),
    }
}

/// One signature line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    name: String,
    id: u32,
    signature: Vec<u8>,
}

impl From<&signed_note::Signature> for Line {
    fn from(line: &signed_note::Signature) -> Self {
        Self { name: line.name().to_owned(), id: line.id(), signature: line.signature().to_vec() }
    }
}

/// A checkpoint whose log's signature was verified, or just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    lines: Vec<Line>,
}

impl SignedCheckpoint {
    /// Its head.
    #[must_use]
    pub fn head(&self) -> Head {
        self.checkpoint.head
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.checkpoint.origin
    }

    /// The text that log and cosigners sign.
    #[must_use]
    pub fn text(&self) -> String {
        self.checkpoint.text()
    }

    /// The cosignature of a witness that one knows: `None` if it has not cosigned.
    ///
    /// # Errors
    /// [`NotACheckpoint::Signature`] if there is a line of this cosigner that does not verify.
    pub fn cosignature(&self, cosigner: &Cosigner) -> Result<Option<Cosignature>, NotACheckpoint> {
        let own = |line: &&Line| line.name == cosigner.name() && line.id == cosigner.key_id();
        let Some(line) = self.lines.iter().find(own) else { return Ok(None) };
        Cosignature::from_bytes(&line.signature)
            .filter(|cosignature| cosigner.verifies(&self.text(), cosignature))
            .map(Some)
            .ok_or_else(|| NotACheckpoint::Signature(line.name.clone()))
    }

    /// Adds a cosignature, in place of an earlier one by the same key, so that the note can still be opened.
    ///
    /// # Errors
    /// [`NotACheckpoint::Signature`] if it does not verify; [`NotACheckpoint::Full`] if there is no room for it.
    pub fn add_cosignature(
        &mut self,
        cosigner: &Cosigner,
        cosignature: &Cosignature,
    ) -> Result<(), NotACheckpoint> {
        if !cosigner.verifies(&self.text(), cosignature) {
            return Err(NotACheckpoint::Signature(cosigner.name().to_owned()));
        }
        let mut with = self.clone();
        with.lines.retain(|line| line.name != cosigner.name() || line.id != cosigner.key_id());
        with.lines.push(Line {
            name: cosigner.name().to_owned(),
            id: cosigner.key_id(),
            signature: cosignature.to_bytes().to_vec(),
        });
        // The first line is the log's own.
        if with.lines.len() > MAX_SIGNATURE_LINES.saturating_add(1)
            || with.to_note().len() > MAX_CHECKPOINT_BYTES
        {
            return Err(NotACheckpoint::Full(cosigner.name().to_owned()));
        }
        *self = with;
        Ok(())
    }

    /// The note with all its signature lines.
    #[must_use]
    pub fn to_note(&self) -> String {
        let mut note = self.text();
        note.push('\n');
        for line in &self.lines {
            let bytes = [line.id.to_be_bytes().as_slice(), &line.signature].concat();
            note.push_str(&format!("— {} {}\n", line.name, STANDARD.encode(bytes)));
        }
        note
    }
}
