//! The roster of a key: who holds which share, under which thresholds, signed by every node.
//!
//! # Encoding
//!
//! Canonical JSON (RFC 8785); hashes, points and scalars as lower-case hexadecimal text, identity keys in base64:
//!
//! ```json
//! {"ceremony":"…","epoch":1,"group_key":"…","key":"release","organisations":[{"name":"vendor","nodes":[
//!  {"identifier":"…","identity":"…","name":"vendor-1","verifying_share":"…"}],"public_key":"…","threshold":2}],
//!  "purpose":"release","transcript":"…","type":"rutli-roster/v1"}
//! ```
//!
//! Organisations and nodes stand in the order of their names; a node's place in that order is its **index**, which names
//! it on the wire. The SHA-256 of these bytes is the [`RosterHash`].
//!
//! # What a parsed roster guarantees
//!
//! Identifiers are those derived from ceremony, key and node; verifying shares of each organisation lie on one
//! polynomial of exactly the degree that its threshold says, with the organisation's key at zero; the group key is the
//! sum of the organisations' keys. A [`SignedRoster`] is also signed by all its nodes. *Whose* keys these are, the
//! roster cannot say: compare it with what the node was configured with, and its words with the other custodians'.

use std::collections::{BTreeMap, BTreeSet};

use frost_ed25519::keys::VerifyingShare;
use frost_ed25519::{Identifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::canonical::{self, hex_array};
use crate::curve::{self, Element, Scalar};
use crate::error::InvalidRoster;
use crate::identity::{IdentityKey, IdentityPublic, SignedText};
use crate::limits::{MAX_NODES_PER_ORGANISATION, MAX_ORGANISATIONS, MAX_ROSTER_BYTES, MAX_SAFE_INTEGER};
use crate::names::{CeremonyId, KeyName, NodeId, NodeName, OrgName, Purpose, RosterHash};

const ROSTER_TYPE: &str = "rutli-roster/v1";

/// Who holds which share of one key. Checked in itself, and ready for use: points and scalars are parsed once.
#[derive(Clone)]
pub struct Roster {
    record: Record,
    organisations: Vec<RosterOrganisation>,
    members: Vec<Member>,
    group_key: VerifyingKey,
    encoded: Vec<u8>,
    hash: RosterHash,
}

/// One organisation of a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterOrganisation {
    /// Its name.
    pub name: OrgName,
    /// How many of its nodes must take part in a signature.
    pub threshold: u16,
    /// Its part `Y_o` of the group key, compressed.
    pub public_key: [u8; 32],
    /// Its nodes, in the order of their names.
    pub nodes: Vec<RosterNode>,
}

/// One node of a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterNode {
    /// The node.
    pub id: NodeId,
    /// The key that signs its messages.
    pub identity: IdentityPublic,
    /// Its RFC 9591 identifier: a scalar, 32 bytes little-endian.
    pub identifier: [u8; 32],
    /// The public point of its share, compressed.
    pub verifying_share: [u8; 32],
}

/// A roster with the signatures of all its nodes: the certificate that the ceremony succeeded for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoster {
    roster: Roster,
    signatures: BTreeMap<NodeId, [u8; 64]>,
}

/// What [`Roster::assemble`] makes a roster of: all that a ceremony found out.
pub(crate) struct RosterParts {
    pub(crate) key: KeyName,
    pub(crate) purpose: Purpose,
    pub(crate) ceremony: CeremonyId,
    pub(crate) epoch: u64,
    pub(crate) transcript: [u8; 32],
    pub(crate) organisations: Vec<RosterOrganisation>,
}

impl Roster {
    /// Reads the canonical encoding, strictly, and checks that the roster does not contradict itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidRoster> {
        if bytes.len() > MAX_ROSTER_BYTES {
            return Err(InvalidRoster::TooLong(bytes.len()));
        }
        Self::from_record(canonical::parse(bytes).map_err(InvalidRoster::Encoding)?)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> &[u8] {
        &self.encoded
    }

    /// SHA-256 of the canonical bytes.
    pub fn hash(&self) -> RosterHash {
        self.hash
    }

    /// Eight BIP 39 words of the hash, for custodians to read to each other.
    pub fn words(&self) -> String {
        self.hash.words()
    }

    /// The key's name.
    pub fn key(&self) -> &KeyName {
        &self.record.key
    }

    /// What the key is for.
    pub fn purpose(&self) -> Purpose {
        self.record.purpose
    }

    /// The ceremony that made the key.
    pub fn ceremony(&self) -> CeremonyId {
        self.record.ceremony
    }

    /// 1 for a new key, one more after every refresh.
    pub fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// Hash of the ceremony's messages that this roster follows from.
    pub fn transcript(&self) -> &[u8; 32] {
        &self.record.transcript
    }

    /// The group key `Y`, compressed: the Ed25519 public key under which signatures verify.
    pub fn group_key(&self) -> &[u8; 32] {
        &self.record.group_key
    }

    /// The group key, parsed.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.group_key
    }

    /// The organisations in the order of their names.
    pub fn organisations(&self) -> &[RosterOrganisation] {
        &self.organisations
    }

    /// All nodes in canonical order: the position of each is its index.
    pub fn nodes(&self) -> impl Iterator<Item = &RosterNode> {
        self.organisations.iter().flat_map(|organisation| &organisation.nodes)
    }

    /// How many nodes there are. Indices are `0..node_count()`.
    pub fn node_count(&self) -> usize {
        self.members.len()
    }

    /// The node with this index.
    pub fn node(&self, index: u16) -> Option<&RosterNode> {
        let member = self.member(index)?;
        self.organisations.get(member.organisation)?.nodes.get(member.position)
    }

    /// The index of a node.
    pub fn index_of(&self, id: &NodeId) -> Option<u16> {
        u16::try_from(self.nodes().position(|node| node.id == *id)?).ok()
    }

    /// The index of the node with this identifier, for naming culprits.
    pub fn index_of_identifier(&self, identifier: &Identifier) -> Option<u16> {
        u16::try_from(self.members.iter().position(|member| member.identifier == *identifier)?).ok()
    }

    /// The organisation of the node with this index.
    pub fn organisation_of(&self, index: u16) -> Option<&RosterOrganisation> {
        self.organisations.get(self.member(index)?.organisation)
    }

    /// The parsed identifier of the node with this index.
    pub fn identifier(&self, index: u16) -> Option<&Identifier> {
        Some(&self.member(index)?.identifier)
    }

    /// The parsed verifying share of the node with this index, as dealt, not scaled.
    pub fn verifying_share(&self, index: u16) -> Option<&VerifyingShare> {
        Some(&self.member(index)?.verifying_share)
    }

    /// Each organisation with its threshold.
    pub fn thresholds(&self) -> impl Iterator<Item = (&OrgName, u16)> {
        self.organisations.iter().map(|organisation| (&organisation.name, organisation.threshold))
    }

    /// How many nodes sign together: the sum of the thresholds.
    pub fn quorum_size(&self) -> usize {
        self.organisations.iter().map(|organisation| usize::from(organisation.threshold)).sum()
    }

    /// This node's signature under the roster.
    pub fn sign(&self, identity: &IdentityKey) -> [u8; 64] {
        identity.sign(SignedText::Roster, self.hash.as_bytes())
    }

    /// Makes the roster of a ceremony's result, with all the checks of [`Roster::parse`].
    pub(crate) fn assemble(parts: RosterParts) -> Result<Self, InvalidRoster> {
        let sum = parts
            .organisations
            .iter()
            .map(|organisation| curve::element(&organisation.public_key))
            .try_fold(curve::identity(), |sum, key| Some(sum + key?));
        let group_key = sum
            .as_ref()
            .and_then(curve::element_bytes)
            .ok_or_else(|| inconsistent("the organisations' keys have no sum that could be a key"))?;
        Self::from_record(Record {
            ceremony: parts.ceremony,
            epoch: parts.epoch,
            group_key,
            key: parts.key,
            organisations: parts.organisations.into_iter().map(OrganisationRecord::from).collect(),
            purpose: parts.purpose,
            transcript: parts.transcript,
            kind: ROSTER_TYPE.to_owned(),
        })
    }

    fn from_record(record: Record) -> Result<Self, InvalidRoster> {
        check_structure(&record)?;
        let organisations: Vec<_> =
            record.organisations.iter().map(organisation).collect::<Result<_, _>>()?;
        let members = members(&record, &organisations)?;
        check_shares(&organisations, &members)?;
        let group_key = check_group_key(&record)?;
        let encoded = canonical::encode(&record);
        let hash = RosterHash::from_bytes(Sha256::digest(&encoded).into());
        Ok(Self { record, organisations, members, group_key, encoded, hash })
    }

    fn member(&self, index: u16) -> Option<&Member> {
        self.members.get(usize::from(index))
    }

    /// Index of the node's organisation.
    pub(crate) fn organisation_index(&self, index: u16) -> Option<usize> {
        Some(self.member(index)?.organisation)
    }

    /// The x coordinate of a node.
    pub(crate) fn x(&self, index: u16) -> Option<&Scalar> {
        Some(&self.member(index)?.x)
    }

    /// The point of a node's share.
    pub(crate) fn point(&self, index: u16) -> Option<&Element> {
        Some(&self.member(index)?.point)
    }
}

impl PartialEq for Roster {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Roster {}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.encoded))
    }
}

impl SignedRoster {
    /// Checks that all nodes of the roster have signed it, and nobody else.
    pub fn new(roster: Roster, signatures: BTreeMap<NodeId, [u8; 64]>) -> Result<Self, InvalidRoster> {
        for node in roster.nodes() {
            let signature =
                signatures.get(&node.id).ok_or_else(|| InvalidRoster::MissingSignature(node.id.clone()))?;
            verify_roster_signature(&roster, node, signature)?;
        }
        if let Some(stranger) = signatures.keys().find(|id| roster.index_of(id).is_none()) {
            return Err(InvalidRoster::StrangeSignature(stranger.to_string()));
        }
        Ok(Self { roster, signatures })
    }

    /// Reads the canonical encoding, strictly, and verifies all signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidRoster> {
        if bytes.len() > MAX_ROSTER_BYTES {
            return Err(InvalidRoster::TooLong(bytes.len()));
        }
        let record: SignedRecord = canonical::parse(bytes).map_err(InvalidRoster::Encoding)?;
        let ordered = record.signatures.windows(2).all(|pair| matches!(pair, [a, b] if a.node < b.node));
        if !ordered {
            return Err(InvalidRoster::Encoding(
                "the signatures are not in the order of the nodes".to_owned(),
            ));
        }
        let signatures = record.signatures.into_iter().map(|entry| (entry.node, entry.signature)).collect();
        Self::new(Roster::from_record(record.roster)?, signatures)
    }

    /// The canonical bytes: `{"roster":{…},"signatures":[{"node":"organisation/node","signature":"…"}]}`.
    pub fn encode(&self) -> Vec<u8> {
        let signatures = self
            .signatures
            .iter()
            .map(|(node, signature)| SignatureRecord { node: node.clone(), signature: *signature })
            .collect();
        canonical::encode(&SignedRecord { roster: self.roster.record.clone(), signatures })
    }

    /// The roster.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The signature of each node.
    pub fn signatures(&self) -> &BTreeMap<NodeId, [u8; 64]> {
        &self.signatures
    }

    /// Gives up the signatures, for use where only the roster is needed.
    pub fn into_roster(self) -> Roster {
        self.roster
    }
}

/// One node's signature under a roster.
pub(crate) fn verify_roster_signature(
    roster: &Roster,
    node: &RosterNode,
    signature: &[u8; 64],
) -> Result<(), InvalidRoster> {
    node.identity
        .verify(SignedText::Roster, roster.hash().as_bytes(), signature)
        .map_err(|_| InvalidRoster::Signature(node.id.clone()))
}

/// The identifier of a node for one key of one ceremony.
///
/// Unique per ceremony, because the proof of knowledge in the crate's key generation hashes no other context than the
/// identifier; and per key, because one ceremony makes several. Names have no zero byte, so the parts stay apart.
pub(crate) fn derive_identifier(ceremony: &CeremonyId, key: &KeyName, node: &NodeId) -> Option<Identifier> {
    let mut text = b"rutli/identifier/v1\0".to_vec();
    text.extend_from_slice(ceremony.as_bytes());
    for name in [key.as_str(), node.organisation.as_str(), node.node.as_str()] {
        text.extend_from_slice(name.as_bytes());
        text.push(0);
    }
    Identifier::derive(&text).ok()
}

/// A node as signing needs it.
#[derive(Clone)]
struct Member {
    organisation: usize,
    position: usize,
    identifier: Identifier,
    x: Scalar,
    verifying_share: VerifyingShare,
    point: Element,
}

// The records' fields stand in the order of their names: that makes their encoding canonical.

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    ceremony: CeremonyId,
    epoch: u64,
    #[serde(with = "hex_array")]
    group_key: [u8; 32],
    key: KeyName,
    organisations: Vec<OrganisationRecord>,
    purpose: Purpose,
    #[serde(with = "hex_array")]
    transcript: [u8; 32],
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganisationRecord {
    name: OrgName,
    nodes: Vec<NodeRecord>,
    #[serde(with = "hex_array")]
    public_key: [u8; 32],
    threshold: u16,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRecord {
    #[serde(with = "hex_array")]
    identifier: [u8; 32],
    identity: IdentityPublic,
    name: NodeName,
    #[serde(with = "hex_array")]
    verifying_share: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedRecord {
    roster: Record,
    signatures: Vec<SignatureRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureRecord {
    node: NodeId,
    #[serde(with = "hex_array")]
    signature: [u8; 64],
}

impl From<RosterOrganisation> for OrganisationRecord {
    fn from(organisation: RosterOrganisation) -> Self {
        let node = |node: RosterNode| NodeRecord {
            identifier: node.identifier,
            identity: node.identity,
            name: node.id.node,
            verifying_share: node.verifying_share,
        };
        Self {
            name: organisation.name,
            nodes: organisation.nodes.into_iter().map(node).collect(),
            public_key: organisation.public_key,
            threshold: organisation.threshold,
        }
    }
}

fn check_structure(record: &Record) -> Result<(), InvalidRoster> {
    let wrong = |what: String| Err(InvalidRoster::Structure(what));
    if record.kind != ROSTER_TYPE {
        return wrong(format!("its type is {:?}, not {ROSTER_TYPE:?}", record.kind));
    }
    if record.epoch == 0 || record.epoch > MAX_SAFE_INTEGER {
        return wrong(format!("its epoch is {}", record.epoch));
    }
    if record.organisations.is_empty() || record.organisations.len() > MAX_ORGANISATIONS {
        return wrong(format!("it has {} organisations", record.organisations.len()));
    }
    if !record.organisations.is_sorted_by(|a, b| a.name < b.name) {
        return wrong("its organisations are not in the order of their names, each one once".to_owned());
    }
    for organisation in &record.organisations {
        let nodes = organisation.nodes.len();
        if nodes == 0 || nodes > MAX_NODES_PER_ORGANISATION {
            return wrong(format!("{} has {nodes} nodes", organisation.name));
        }
        if organisation.threshold == 0 || usize::from(organisation.threshold) > nodes {
            return wrong(format!(
                "{} has the threshold {} of {nodes}",
                organisation.name, organisation.threshold
            ));
        }
        if !organisation.nodes.is_sorted_by(|a, b| a.name < b.name) {
            return wrong(format!(
                "the nodes of {} are not in the order of their names, each one once",
                organisation.name
            ));
        }
    }
    Ok(())
}

fn organisation(record: &OrganisationRecord) -> Result<RosterOrganisation, InvalidRoster> {
    let node = |node: &NodeRecord| RosterNode {
        id: NodeId { organisation: record.name.clone(), node: node.name.clone() },
        identity: node.identity,
        identifier: node.identifier,
        verifying_share: node.verifying_share,
    };
    Ok(RosterOrganisation {
        name: record.name.clone(),
        threshold: record.threshold,
        public_key: record.public_key,
        nodes: record.nodes.iter().map(node).collect(),
    })
}

/// Parses identifiers and points, and refuses duplicates: two nodes with one identity or identifier would be one node.
fn members(record: &Record, organisations: &[RosterOrganisation]) -> Result<Vec<Member>, InvalidRoster> {
    let mut members = Vec::new();
    let mut identities = BTreeSet::new();
    let mut identifiers = BTreeSet::new();
    for (index, organisation) in organisations.iter().enumerate() {
        for (position, node) in organisation.nodes.iter().enumerate() {
            let identifier = derive_identifier(&record.ceremony, &record.key, &node.id)
                .filter(|identifier| identifier.serialize() == node.identifier)
                .ok_or_else(|| {
                    inconsistent(&format!(
                        "the identifier of {} is not the one derived from its name",
                        node.id
                    ))
                })?;
            let x = curve::identifier_scalar(&identifier)
                .ok_or_else(|| inconsistent("an identifier is not a scalar"))?;
            let not_a_point = || inconsistent(&format!("the verifying share of {} is not a point", node.id));
            let point = curve::element(&node.verifying_share).ok_or_else(not_a_point)?;
            let verifying_share = curve::verifying_share(&point).ok_or_else(not_a_point)?;
            if !identities.insert(node.identity.to_bytes()) || !identifiers.insert(node.identifier) {
                return Err(inconsistent(&format!(
                    "{} has the identity or identifier of another node",
                    node.id
                )));
            }
            members.push(Member { organisation: index, position, identifier, x, verifying_share, point });
        }
    }
    Ok(members)
}

/// The verifying shares of an organisation with threshold t lie on a polynomial of degree t − 1, and of no lower one,
/// whose value at zero is the organisation's key. So its threshold is what the roster says: no more, no less.
fn check_shares(organisations: &[RosterOrganisation], members: &[Member]) -> Result<(), InvalidRoster> {
    for (index, organisation) in organisations.iter().enumerate() {
        let name = &organisation.name;
        let degenerate = || inconsistent(&format!("two nodes of {name} have the same identifier"));
        let key = curve::element(&organisation.public_key)
            .ok_or_else(|| inconsistent(&format!("the key of {name} is not a point")))?;
        let points: Vec<_> = members
            .iter()
            .filter(|member| member.organisation == index)
            .map(|member| (member.x, member.point))
            .collect();
        let (basis, others) =
            points.split_at_checked(usize::from(organisation.threshold)).ok_or_else(degenerate)?;
        if curve::interpolate(basis, &curve::zero()).ok_or_else(degenerate)? != key {
            return Err(inconsistent(&format!("the verifying shares of {name} do not give its key")));
        }
        for (x, point) in others {
            if curve::interpolate(basis, x).ok_or_else(degenerate)? != *point {
                return Err(inconsistent(&format!("a verifying share of {name} does not fit the others")));
            }
        }
        if let Some((_, fewer)) = basis.split_first().filter(|(_, fewer)| !fewer.is_empty())
            && curve::interpolate(fewer, &curve::zero()).ok_or_else(degenerate)? == key
        {
            return Err(inconsistent(&format!(
                "fewer nodes of {name} than its threshold already have its key"
            )));
        }
    }
    Ok(())
}

fn check_group_key(record: &Record) -> Result<VerifyingKey, InvalidRoster> {
    let not_the_sum = || inconsistent("the group key is not the sum of the organisations' keys");
    let mut sum = curve::identity();
    for organisation in &record.organisations {
        sum += curve::element(&organisation.public_key).ok_or_else(not_the_sum)?;
    }
    if curve::element(&record.group_key).ok_or_else(not_the_sum)? != sum {
        return Err(not_the_sum());
    }
    curve::verifying_key(&record.group_key).ok_or_else(not_the_sum)
}

fn inconsistent(what: &str) -> InvalidRoster {
    InvalidRoster::Inconsistent(what.to_owned())
}
