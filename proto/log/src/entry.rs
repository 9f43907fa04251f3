//! What is logged: entries as canonical JSON (RFC 8785), each of one kind, none of which can be read as another.
//!
//! | kind | says | appended |
//! | --- | --- | --- |
//! | `request` | somebody asked for a release | before any node is asked to sign it |
//! | `request` with `commitment` | the same, under embargo: a salted commitment to the plain entry | likewise |
//! | `evidence` | evidence was added to a request that has no outcome yet | before nodes get it |
//! | `disclosure` | opens a commitment: the plain entry and its salt | when the embargo ends |
//! | `outcome` | how a request ended: signed by whom, refused why, expired, cancelled, overtaken | with the result |
//! | `dsse` | the DSSE signature itself, as Rekor's `dsse` 0.0.1, the one leaf that stock Sigstore verifiers take | after its `outcome` |
//! | `key` | a key with its signed roster, as its ceremony made it | when it becomes usable |
//! | `node` | a node was named as a culprit, or reinstated | when it happens |
//!
//! A **request** is joined with its outcome by the entry's index and by the statement's digest; a `dsse` leaf by its
//! payload hash, which is that digest. The documents that digests name lie beside the tree, see
//! [`document_path`](crate::tile::document_path).
//!
//! Fields of each struct stand in the order of their names, because that is their order in canonical JSON.

mod bounds;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::{
    Channel, Class, Format, Product, ReleaseId, ReleaseKey, Requester, Sequence, SignableKind,
    VerifiedRelease, Version,
};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Hash, leaf_hash, sha256},
    limits::{MAX_ENTRY_BYTES, MAX_TEXT_BYTES},
};

/// Before the salt in a commitment.
const EMBARGO_DOMAIN: &[u8] = b"rutli/embargo/v1\0";

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Somebody asked for a release.
    Request(Request),
    /// The same under embargo.
    Embargoed(Embargoed),
    /// The end of an embargo.
    Disclosure(Box<Disclosure>),
    /// Evidence was added.
    Evidence(Evidence),
    /// How a request ended.
    Outcome(Outcome),
    /// A signature, for Sigstore's verifiers.
    Dsse(Dsse),
    /// A key became usable.
    Key(Key),
    /// A node was named or reinstated.
    Node(Node),
}

/// Bytes that are no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no entry of a Rütli log: {0}")]
pub struct NotAnEntry(String);

impl NotAnEntry {
    /// Cut, for whoever wrote the bytes must not decide how much is kept of them.
    fn because(problem: impl Into<String>) -> Self {
        Self(cut(&problem.into()))
    }
}

/// The kind of an entry, as its field `kind`.
macro_rules! kind {
    ($($name:ident),+) => {$(
        #[doc = "The word of this kind."]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            #[doc = "It."]
            #[default]
            $name,
        }
    )+};
}

/// The words of `kind`.
pub mod kinds {
    use serde::{Deserialize, Serialize};
    kind!(Request, Disclosure, Evidence, Outcome, Dsse, Key, Node);
}

/// Somebody asked for a release. Every node encodes this itself before it signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Of the release.
    pub channel: Channel,
    /// Of the release.
    pub class: Class,
    /// Unix seconds after which the coordinator gives up: by then there is an outcome.
    pub deadline: u64,
    /// SHA-256 of each piece of evidence that came with the request.
    pub evidence: Vec<Hash>,
    /// `request`
    pub kind: kinds::Request,
    /// Of the release.
    pub product: Product,
    /// The coordinator's name of the release.
    pub release: ReleaseId,
    /// Who asked, by its certificate.
    pub requester: Requester,
    /// SHA-256 of the roster under which it shall be signed.
    pub roster: Hash,
    /// Of the release.
    pub sequence: Sequence,
    /// Digests of the bytes to be signed.
    pub signables: Signables,
    /// SHA-256 of the in-toto statement.
    pub statement: Hash,
    /// Unix seconds of admission; the statement's `issuedAt`.
    pub time: u64,
    /// Of the release.
    pub version: Version,
}

/// Digests of the bytes to be signed, per format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signables {
    /// SHA-256 of the DSSE pre-authentication encoding, which the formats `dsse` and `statement` share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dsse: Option<Hash>,
    /// SHA-256 over the SHA-256 of each SSHSIG blob, in the order of the artifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sshsig: Option<Hash>,
}

/// A request under embargo: says nothing but that there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embargoed {
    /// SHA-256 over a domain, the salt and the plain entry, see [`Embargo::commitment`].
    pub commitment: Hash,
    /// As in [`Request`].
    pub deadline: u64,
    /// Unix seconds by which the coordinator promises to disclose it.
    pub disclose_by: u64,
    /// `request`
    pub kind: kinds::Request,
    /// As in [`Request`].
    pub roster: Hash,
    /// As in [`Request`].
    pub time: u64,
}

/// The end of an embargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// `disclosure`
    pub kind: kinds::Disclosure,
    /// The plain entry.
    pub opened: Request,
    /// Index of the embargoed entry.
    pub request: u64,
    /// 32 bytes.
    pub salt: Hash,
}

/// Evidence was added to a request, which has no outcome yet. It says what came and when, not what it is worth: that each node
/// finds out for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Who brought it, by its certificate: `ROLE:NAME`; of a request under embargo `ROLE` alone.
    pub by: String,
    /// SHA-256 of each document, at least one.
    pub evidence: Vec<Hash>,
    /// `evidence`
    pub kind: kinds::Evidence,
    /// Index of the request's entry.
    pub request: u64,
    /// Unix seconds.
    pub time: u64,
}

/// What keeps a request secret for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embargo {
    /// Random; known to the coordinator and the nodes.
    pub salt: Hash,
    /// Unix seconds by which it is disclosed.
    pub disclose_by: u64,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The group key's name, if it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `outcome`
    pub kind: kinds::Outcome,
    /// Nodes that refused, if it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// Index of the request's entry.
    pub request: u64,
    /// SHA-256 of the roster under which it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roster: Option<Hash>,
    /// SHA-256 over all signatures, in the order of the release's signables, if it was signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signatures: Option<Hash>,
    /// `organisation/node` of each that gave a share, if it was signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
    /// How.
    pub state: OutcomeState,
    /// SHA-256 of the statement.
    pub statement: Hash,
    /// Unix seconds.
    pub time: u64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeState {
    /// All signatures were made.
    Signed,
    /// An organisation's nodes refused.
    Refused,
    /// Not signed within its time.
    Expired,
    /// Taken back.
    Cancelled,
    /// It waited, and a later one of its channel was signed, or another one under its own sequence.
    Overtaken,
}

/// Why a node refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// A stable word.
    pub code: String,
    /// `organisation/node`
    pub node: String,
    /// For a person, cut; empty under embargo, for it may name the product.
    pub reason: String,
}

/// Rekor's `dsse` 0.0.1: the signature of one DSSE envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dsse {
    /// `0.0.1`
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// `dsse`
    pub kind: kinds::Dsse,
    /// What there is to say.
    pub spec: DsseSpec,
}

/// See [`Dsse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DsseSpec {
    /// Of the envelope in canonical JSON.
    pub envelope_hash: NamedHash,
    /// Of the payload: the statement.
    pub payload_hash: NamedHash,
    /// One.
    pub signatures: Vec<DsseSignature>,
}

/// A digest with the name of its algorithm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedHash {
    /// `sha256`
    pub algorithm: String,
    /// The digest.
    pub value: Hash,
}

/// See [`Dsse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DsseSignature {
    /// base64 of 64 bytes.
    pub signature: String,
    /// base64 of the public key's PEM.
    pub verifier: String,
}

/// A key became usable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The ceremony that made it, 64 hexadecimal digits.
    pub ceremony: String,
    /// SHA-256 of the signed roster, which lies beside the tree.
    pub document: Hash,
    /// 1 for a new key, one more after each refresh.
    pub epoch: u64,
    /// `key`
    pub kind: kinds::Key,
    /// Its name.
    pub name: String,
    /// The 32 bytes of the group's public key.
    pub public_key: Hash,
    /// What it is for.
    pub purpose: String,
    /// SHA-256 of the roster, by which requests name it.
    pub roster: Hash,
    /// Unix seconds.
    pub time: u64,
    /// SHA-256 over the ceremony's messages.
    pub transcript: Hash,
}

/// A node was named or reinstated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Which.
    pub event: NodeEvent,
    /// `node`
    pub kind: kinds::Node,
    /// `organisation/node`
    pub node: String,
    /// Why, cut.
    pub reason: String,
    /// Unix seconds.
    pub time: u64,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeEvent {
    /// It sent what no honest node sends, and is left out.
    Culprit,
    /// An operator put it back.
    Reinstated,
}

/// What a request's entry says besides the release itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTerms {
    /// The coordinator's name of the release.
    pub release_id: ReleaseId,
    /// Who asked.
    pub requester: Requester,
    /// SHA-256 of the roster under which it shall be signed.
    pub roster: Hash,
    /// Unix seconds after which the coordinator gives up.
    pub deadline: u64,
    /// SHA-256 of each piece of evidence.
    pub evidence: Vec<Hash>,
    /// If it is to be kept secret for a while.
    pub embargo: Option<Embargo>,
}

impl Entry {
    /// The entry that must be in the log before a node signs this release: plain, or under embargo.
    #[must_use]
    pub fn request(release: &VerifiedRelease, terms: &RequestTerms) -> Self {
        let plain = Request::new(release, terms);
        match &terms.embargo {
            None => Self::Request(plain),
            Some(embargo) => Self::Embargoed(embargo.cover(&plain)),
        }
    }

    /// Canonical JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Request(entry) => encode(entry),
            Self::Embargoed(entry) => encode(entry),
            Self::Disclosure(entry) => encode(entry),
            Self::Evidence(entry) => encode(entry),
            Self::Outcome(entry) => encode(entry),
            Self::Dsse(entry) => encode(entry),
            Self::Key(entry) => encode(entry),
            Self::Node(entry) => encode(entry),
        }
    }

    /// Hash of the entry in the tree.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        leaf_hash(&self.encode())
    }

    /// Reads an entry, strictly: known kinds, known fields, bounded names and lists, one encoding.
    ///
    /// # Errors
    /// [`NotAnEntry`]
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAnEntry> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(NotAnEntry::because(format!("it has more than {MAX_ENTRY_BYTES} bytes")));
        }
        let peek: Peek<'_> = read(bytes)?;
        let entry = match (peek.kind, peek.commitment.is_some()) {
            ("request", false) => Self::Request(read(bytes)?),
            ("request", true) => Self::Embargoed(read(bytes)?),
            ("disclosure", _) => Self::Disclosure(read(bytes)?),
            ("evidence", _) => Self::Evidence(read(bytes)?),
            ("outcome", _) => Self::Outcome(read(bytes)?),
            ("dsse", _) => Self::Dsse(read(bytes)?),
            ("key", _) => Self::Key(read(bytes)?),
            ("node", _) => Self::Node(read(bytes)?),
            (kind, _) => {
                return Err(NotAnEntry::because(format!("its kind is not known here: {:?}", cut(kind))));
            }
        };
        entry.check_bounds()?;
        if entry.encode() == bytes {
            return Ok(entry);
        }
        Err(NotAnEntry::because("it is not in canonical JSON"))
    }

    /// The word of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Embargoed(_) => "request",
            Self::Disclosure(_) => "disclosure",
            Self::Evidence(_) => "evidence",
            Self::Outcome(_) => "outcome",
            Self::Dsse(_) => "dsse",
            Self::Key(_) => "key",
            Self::Node(_) => "node",
        }
    }
}

impl Request {
    /// The plain entry of a release.
    #[must_use]
    pub fn new(release: &VerifiedRelease, terms: &RequestTerms) -> Self {
        Self {
            channel: release.channel().clone(),
            class: release.class(),
            deadline: terms.deadline,
            evidence: terms.evidence.clone(),
            kind: kinds::Request::default(),
            product: release.product().clone(),
            release: terms.release_id.clone(),
            requester: terms.requester.clone(),
            roster: terms.roster,
            sequence: release.sequence(),
            signables: Signables::of(release),
            statement: sha256(&release.statement()),
            time: release.issued_at().0,
            version: release.version().clone(),
        }
    }
}

impl Signables {
    /// Of all that is to be signed for a release.
    #[must_use]
    pub fn of(release: &VerifiedRelease) -> Self {
        let mut sshsig = Vec::new();
        let mut dsse = None;
        for signable in release.signables() {
            let digest = sha256(&signable.bytes);
            match signable.kind {
                SignableKind::Statement => dsse = Some(digest),
                SignableKind::Artifact(_) => sshsig.extend(digest.0),
            }
        }
        let sshsig = release.formats().contains(&Format::Sshsig).then(|| sha256(&sshsig));
        Self { dsse, sshsig }
    }
}

impl Outcome {
    /// The outcome of the request at this index, signed with nothing yet. `time` in Unix seconds.
    #[must_use]
    pub fn new(request: u64, release: &VerifiedRelease, time: u64) -> Self {
        Self {
            key: None,
            kind: kinds::Outcome::default(),
            refusals: Vec::new(),
            request,
            roster: None,
            signatures: None,
            signed_by: Vec::new(),
            state: OutcomeState::Expired,
            statement: sha256(&release.statement()),
            time,
        }
    }

    /// It was signed with this key, under this roster, by these nodes.
    pub fn signed(
        &mut self,
        key: &str,
        roster: Hash,
        signatures: &[[u8; 64]],
        signed_by: impl Iterator<Item = String>,
    ) {
        self.state = OutcomeState::Signed;
        self.key = Some(key.to_owned());
        self.roster = Some(roster);
        self.signatures = Some(sha256(signatures.as_flattened()));
        self.signed_by = signed_by.collect();
    }
}

impl Embargo {
    /// SHA-256 over a domain, the salt, and the plain entry in canonical JSON.
    #[must_use]
    pub fn commitment(&self, plain: &Request) -> Hash {
        commitment(&self.salt, plain)
    }

    fn cover(&self, plain: &Request) -> Embargoed {
        Embargoed {
            commitment: self.commitment(plain),
            deadline: plain.deadline,
            disclose_by: self.disclose_by,
            kind: kinds::Request::default(),
            roster: plain.roster,
            time: plain.time,
        }
    }
}

impl Disclosure {
    /// Whether this opens an embargoed entry.
    #[must_use]
    pub fn opens(&self, embargoed: &Embargoed) -> bool {
        commitment(&self.salt, &self.opened) == embargoed.commitment
            && self.opened.deadline == embargoed.deadline
            && self.opened.roster == embargoed.roster
            && self.opened.time == embargoed.time
    }
}

fn commitment(salt: &Hash, plain: &Request) -> Hash {
    sha256(&[EMBARGO_DOMAIN, salt.as_bytes().as_slice(), &encode(plain)].concat())
}

impl Dsse {
    /// The leaf of a DSSE envelope in canonical JSON, its payload, and its one signature by `key`.
    #[must_use]
    pub fn new(envelope: &[u8], payload: &[u8], key: &ReleaseKey, signature: &[u8; 64]) -> Self {
        let named = |bytes: &[u8]| NamedHash { algorithm: "sha256".into(), value: sha256(bytes) };
        Self {
            api_version: "0.0.1".into(),
            kind: kinds::Dsse::default(),
            spec: DsseSpec {
                envelope_hash: named(envelope),
                payload_hash: named(payload),
                signatures: vec![DsseSignature {
                    signature: STANDARD.encode(signature),
                    verifier: STANDARD.encode(key.to_pem()),
                }],
            },
        }
    }

    /// Its one signature.
    #[must_use]
    pub fn signature(&self) -> Option<[u8; 64]> {
        let [signature] = self.spec.signatures.as_slice() else { return None };
        STANDARD.decode(&signature.signature).ok()?.try_into().ok()
    }

    /// The key that its one signature is by.
    #[must_use]
    pub fn key(&self) -> Option<ReleaseKey> {
        let [signature] = self.spec.signatures.as_slice() else { return None };
        let pem = STANDARD.decode(&signature.verifier).ok()?;
        ReleaseKey::from_pem(std::str::from_utf8(&pem).ok()?).ok()
    }
}

/// Text for an entry: bounded.
#[must_use]
pub fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default().to_owned()
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    kind: &'a str,
    commitment: Option<serde::de::IgnoredAny>,
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, NotAnEntry> {
    serde_json::from_slice(bytes).map_err(|error| NotAnEntry::because(error.to_string()))
}

/// Fields stand in order and are text, integers and lists of them: what serde_json writes is canonical.
fn encode(entry: &impl Serialize) -> Vec<u8> {
    // Structs of text and numbers into memory: it cannot fail, and an empty entry would match nothing.
    serde_json::to_vec(entry).unwrap_or_default()
}
