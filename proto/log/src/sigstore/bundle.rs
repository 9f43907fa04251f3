//! Sigstore's bundle v0.3: a DSSE envelope, and the proof that its signature is in the log. One file, verified offline by
//! Sigstore's own verifiers with their defaults, and by [`verify`], which leaves nothing about it unlooked at.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::{NotVerified, PAYLOAD_TYPE, ReleaseKey, Statement, verify_dsse};
use serde::{Deserialize, Serialize};

use super::{Signature, SigstoreHead, SigstoreSigner, TrustedLog, TrustedRoot, lower_s, promised};
use crate::{
    checkpoint::{Head, InvalidLogKey},
    entry::{Dsse, Entry},
    hash::{Hash, leaf_hash},
    limits::{MAX_BUNDLE_BYTES, MAX_PROOF_HASHES, MAX_TREE_SIZE},
    proof::{NotProved, check_inclusion},
};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A DSSE signature that is in the log: what a bundle is made of.
#[derive(Clone, Copy, Debug)]
pub struct LoggedSignature<'a> {
    /// The DSSE envelope, as `<release>.intoto.json` has it.
    pub envelope: &'a [u8],
    /// The name of the key, by which verifiers look it up.
    pub hint: &'a str,
    /// That key.
    pub key: &'a ReleaseKey,
    /// The entry of the signature.
    pub entry: &'a Dsse,
    /// Its index.
    pub index: u64,
    /// A head that nodes have cosigned.
    pub head: &'a SigstoreHead,
    /// The proof that the head's tree holds the entry.
    pub proof: &'a [Hash],
    /// Unix seconds at which the entry was appended.
    pub time: u64,
}

/// A bundle that was verified.
#[derive(Clone, Debug)]
pub struct VerifiedBundle {
    /// What was signed.
    pub statement: Statement,
    /// The entry in the log, byte for byte.
    pub entry: Vec<u8>,
    /// Its index.
    pub index: u64,
    /// The tree's head, by the log's word alone: no witness has seen it in this form.
    pub head: Head,
    /// Unix seconds at which the log says that it appended the entry.
    pub time: u64,
    /// The log's name in the trusted root.
    pub log: String,
    /// The name of the key, by the bundle's own account. Nobody signed it.
    pub hint: String,
}

/// Why a bundle was refused. Trying again with the same bytes fails again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleNotVerified {
    /// Not a bundle with exactly what ours have.
    #[error("it is no Sigstore bundle v0.3 as Rütli writes it: {0}")]
    Form(String),
    /// The key's name is not the expected one.
    #[error("it names the key {found:?}, not {expected:?}: check that it is of the right release key")]
    Hint {
        /// What it says.
        found: String,
        /// What it should.
        expected: String,
    },
    /// The trusted root does not have its log.
    #[error("its log is not in the trusted root: check that both are of the same deployment")]
    UnknownLog,
    /// The log's head is not in the form of ours, or its signature does not verify.
    #[error("the signature of the log {0} under its head does not verify")]
    Head(String),
    /// The proof is for another tree or index than the head or the entry.
    #[error("its parts contradict each other: {0}")]
    Contradiction(&'static str),
    /// The log's promise does not verify.
    #[error("the log {0} has not promised this entry at this index and time")]
    Promise(String),
    /// The log's key was not in use then.
    #[error("the entry is from a time at which the log's key was not in use")]
    Time,
    /// The entry is about another signature.
    #[error("the entry in the log is not of this envelope and key")]
    Entry,
    /// The proof does not hold.
    #[error("the entry is not in the log: {0}")]
    Proof(#[from] NotProved),
    /// The envelope does not verify.
    #[error(transparent)]
    Signature(#[from] NotVerified),
    /// The log's own key cannot be encoded: never for a key of ours.
    #[error(transparent)]
    Key(#[from] InvalidLogKey),
}

impl SigstoreSigner {
    /// Makes the bundle, and verifies it before it is given out; all but what the log itself has signed, the head (which was
    /// verified when it was made) and the promise: verifying that costs more than all else here.
    ///
    /// # Errors
    /// [`BundleNotVerified`]: the parts do not belong together.
    pub fn bundle(&self, logged: &LoggedSignature<'_>) -> Result<Vec<u8>, BundleNotVerified> {
        let envelope = |envelope: &[u8]| verify_dsse(logged.key, envelope).map(drop);
        self.make(logged, |message| Some(self.sign(message)), envelope)
    }

    /// The same by a log that appends no entry but of a signature that it has verified: the proof shows that this is such an
    /// entry, and the entry that this is the signature, so that it need not be verified again. The log's promise (Rekor's signed
    /// entry timestamp) is signed by another library, under this very key: `sign` gives an ECDSA signature with SHA-256 in
    /// DER, with either value of `s`.
    ///
    /// # Errors
    /// [`BundleNotVerified`]: the parts do not belong together, or `sign` gives no signature.
    pub fn bundle_of_verified(
        &self,
        logged: &LoggedSignature<'_>,
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<Vec<u8>, BundleNotVerified> {
        self.make(logged, sign, |_| Ok(()))
    }

    fn make(
        &self,
        logged: &LoggedSignature<'_>,
        sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
        envelope: impl FnOnce(&[u8]) -> Result<(), NotVerified>,
    ) -> Result<Vec<u8>, BundleNotVerified> {
        let SigstoreHead { head, note, key } = logged.head;
        if !self.has_signed(logged.head) {
            return Err(BundleNotVerified::Head(self.url.name().to_owned()));
        }
        let body = Entry::Dsse(logged.entry.clone()).encode();
        let promise = sign(&promised(key.id, &body, logged.index, logged.time))
            .and_then(|signature| Signature::from_der(&signature).ok())
            .map(lower_s)
            .ok_or_else(|| BundleNotVerified::Promise(key.name.clone()))?;
        let bundle = BundleJson {
            media_type: MEDIA_TYPE.into(),
            verification_material: MaterialJson {
                public_key: HintJson { hint: logged.hint.into() },
                tlog_entries: vec![EntryJson {
                    log_index: Number(logged.index),
                    log_id: LogIdJson { key_id: Base64(key.id.0.into()) },
                    kind_version: KindVersionJson { kind: "dsse".into(), version: "0.0.1".into() },
                    integrated_time: Number(logged.time),
                    inclusion_proof: ProofJson {
                        log_index: Number(logged.index),
                        root_hash: Base64(head.root.0.into()),
                        tree_size: Number(head.size),
                        hashes: logged.proof.iter().map(|hash| Base64(hash.0.into())).collect(),
                        checkpoint: CheckpointJson { envelope: note.clone() },
                    },
                    inclusion_promise: PromiseJson { signed_entry_timestamp: Base64(promise) },
                    canonicalized_body: Base64(body),
                }],
            },
            dsse_envelope: rutli_release::json::parse(logged.envelope).map_err(form)?,
        };
        let json = serde_json::to_vec(&bundle).map_err(form)?;
        let log = TrustedLog { key: key.clone(), valid_from: 0, valid_until: None };
        check(&json, logged.key, Some(logged.hint), |_| Ok((&log, *head)), envelope)?;
        Ok(json)
    }
}

/// Verifies a bundle under a release key and a trusted root: form; the log's head, promise and proof; that the entry is the
/// one of this envelope and key; the signature and the statement. With `hint` also the key's name.
///
/// # Errors
/// [`BundleNotVerified`]
pub fn verify(
    json: &[u8],
    key: &ReleaseKey,
    hint: Option<&str>,
    root: &TrustedRoot,
) -> Result<VerifiedBundle, BundleNotVerified> {
    let envelope = |envelope: &[u8]| verify_dsse(key, envelope);
    let (statement, checked) = check(json, key, hint, |entry| open_head(entry, root), envelope)?;
    let Checked { entry, index, head, time, log, hint } = checked;
    Ok(VerifiedBundle { statement, entry, index, head, time, log, hint })
}

/// A bundle but for its envelope, as [`VerifiedBundle`].
struct Checked {
    entry: Vec<u8>,
    index: u64,
    head: Head,
    time: u64,
    log: String,
    hint: String,
}

/// Everything about a bundle, under the log and head that `open` finds in its entry; `envelope` verifies the envelope.
fn check<'a, T>(
    json: &[u8],
    key: &ReleaseKey,
    hint: Option<&str>,
    open: impl FnOnce(&EntryJson) -> Result<(&'a TrustedLog, Head), BundleNotVerified>,
    envelope: impl FnOnce(&[u8]) -> Result<T, NotVerified>,
) -> Result<(T, Checked), BundleNotVerified> {
    let bundle = parse(json)?;
    let found = bundle.verification_material.public_key.hint;
    if let Some(expected) = hint.filter(|expected| *expected != found) {
        return Err(BundleNotVerified::Hint { found, expected: expected.to_owned() });
    }
    let [entry] = <[EntryJson; 1]>::try_from(bundle.verification_material.tlog_entries)
        .map_err(|_| form("want exactly one entry of a log"))?;
    if entry.kind_version.kind != "dsse" || entry.kind_version.version != "0.0.1" {
        return Err(form("want an entry of the kind dsse 0.0.1"));
    }

    let proof = &entry.inclusion_proof;
    if proof.log_index.0 != entry.log_index.0 {
        return Err(BundleNotVerified::Contradiction("the proof is for another index"));
    }
    let (log, head) = open(&entry)?;
    let log_name = log.key.name().to_owned();
    if proof.tree_size.0 != head.size || proof.root_hash.0 != head.root.0 {
        return Err(BundleNotVerified::Contradiction("the proof is for another head"));
    }
    let (index, time, body) = (entry.log_index.0, entry.integrated_time.0, entry.canonicalized_body.0);
    if !log.covers(time) {
        return Err(BundleNotVerified::Time);
    }

    let canonical = serde_json::to_vec(&bundle.dsse_envelope).map_err(form)?;
    let verified = envelope(&canonical)?;
    if entry_of(&bundle.dsse_envelope, &canonical, key).as_deref() != Some(body.as_slice()) {
        return Err(BundleNotVerified::Entry);
    }
    let hashes: Result<Vec<_>, _> = proof.hashes.iter().map(|hash| Hash::from_slice(&hash.0)).collect();
    check_inclusion(&head, index, leaf_hash(&body), &hashes.map_err(form)?)?;
    Ok((verified, Checked { entry: body, index, head, time, log: log_name, hint: found }))
}

/// The entry that the log must have of a DSSE envelope (`<release>.intoto.json`) by this key, in any layout of its JSON.
///
/// # Errors
/// [`BundleNotVerified`] if it is no envelope of ours. Its signature is not verified.
pub fn entry_of_envelope(envelope: &[u8], key: &ReleaseKey) -> Result<Vec<u8>, BundleNotVerified> {
    let parsed: EnvelopeJson = rutli_release::json::parse(envelope).map_err(form)?;
    let canonical = serde_json::to_vec(&parsed).map_err(form)?;
    entry_of(&parsed, &canonical, key).ok_or_else(|| form("want one signature of 64 bytes"))
}

fn entry_of(envelope: &EnvelopeJson, canonical: &[u8], key: &ReleaseKey) -> Option<Vec<u8>> {
    let [signature] = envelope.signatures.as_slice() else { return None };
    let bytes: &[u8; 64] = signature.sig.0.as_slice().try_into().ok()?;
    Some(Entry::Dsse(Dsse::new(canonical, &envelope.payload.0, key, bytes)).encode())
}

/// Finds the log by its id, and verifies what it has signed: its head, and the promise. A log that has moved is in the root
/// more than once.
fn open_head<'a>(
    entry: &EntryJson,
    root: &'a TrustedRoot,
) -> Result<(&'a TrustedLog, Head), BundleNotVerified> {
    let mut refused = BundleNotVerified::UnknownLog;
    for log in root.with_id(&entry.log_id.key_id.0) {
        let promise = &entry.inclusion_promise.signed_entry_timestamp.0;
        let (index, time) = (entry.log_index.0, entry.integrated_time.0);
        match log.key.open_head(&entry.inclusion_proof.checkpoint.envelope) {
            None => refused = BundleNotVerified::Head(log.key.name().to_owned()),
            Some(_) if !log.key.promised(&entry.canonicalized_body.0, index, time, promise) => {
                refused = BundleNotVerified::Promise(log.key.name().to_owned());
            }
            Some(head) => return Ok((log, head)),
        }
    }
    Err(refused)
}

fn parse(json: &[u8]) -> Result<BundleJson, BundleNotVerified> {
    if json.len() > MAX_BUNDLE_BYTES {
        return Err(form(format!("it has more than {MAX_BUNDLE_BYTES} bytes")));
    }
    let bundle: BundleJson = rutli_release::json::parse(json).map_err(form)?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(form(format!("want the media type {MEDIA_TYPE}")));
    }
    if bundle.dsse_envelope.payload_type != PAYLOAD_TYPE {
        return Err(NotVerified::PayloadType.into());
    }
    let hashes = |entry: &EntryJson| entry.inclusion_proof.hashes.len();
    if bundle.verification_material.tlog_entries.iter().any(|entry| hashes(entry) > MAX_PROOF_HASHES) {
        return Err(NotProved::TooLarge.into());
    }
    Ok(bundle)
}

fn form(problem: impl ToString) -> BundleNotVerified {
    BundleNotVerified::Form(problem.to_string())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct BundleJson {
    media_type: String,
    #[serde(deserialize_with = "rutli_release::json::object")]
    verification_material: MaterialJson,
    #[serde(deserialize_with = "rutli_release::json::object")]
    dsse_envelope: EnvelopeJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct MaterialJson {
    #[serde(deserialize_with = "rutli_release::json::object")]
    public_key: HintJson,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    tlog_entries: Vec<EntryJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HintJson {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EntryJson {
    log_index: Number,
    #[serde(deserialize_with = "rutli_release::json::object")]
    log_id: LogIdJson,
    #[serde(deserialize_with = "rutli_release::json::object")]
    kind_version: KindVersionJson,
    integrated_time: Number,
    #[serde(deserialize_with = "rutli_release::json::object")]
    inclusion_promise: PromiseJson,
    #[serde(deserialize_with = "rutli_release::json::object")]
    inclusion_proof: ProofJson,
    canonicalized_body: Base64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LogIdJson {
    key_id: Base64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindVersionJson {
    kind: String,
    version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PromiseJson {
    signed_entry_timestamp: Base64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ProofJson {
    log_index: Number,
    root_hash: Base64,
    tree_size: Number,
    hashes: Vec<Base64>,
    #[serde(deserialize_with = "rutli_release::json::object")]
    checkpoint: CheckpointJson,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointJson {
    envelope: String,
}

/// In the order of canonical JSON: written anew, it is what `<release>.intoto.json` is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EnvelopeJson {
    payload: Base64,
    payload_type: String,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    signatures: Vec<SignatureJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson {
    keyid: String,
    sig: Base64,
}

/// An integer of 64 bits as protobuf's JSON has it: a decimal string. Here in one spelling, and exact in every JSON reader.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Number(u64);

impl TryFrom<String> for Number {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number =
            text.parse().ok().filter(|number: &u64| *number <= MAX_TREE_SIZE && number.to_string() == text);
        number.map(Self).ok_or_else(|| format!("{text:?} is no number from 0 to 2^53 - 1"))
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.0.to_string()
    }
}

/// Bytes in base64, in one spelling.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Base64(Vec<u8>);

impl TryFrom<String> for Base64 {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        STANDARD.decode(text).map(Self)
    }
}

impl From<Base64> for String {
    fn from(bytes: Base64) -> Self {
        STANDARD.encode(bytes.0)
    }
}
