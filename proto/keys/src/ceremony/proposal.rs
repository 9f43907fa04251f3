//! The proposal of a ceremony: which keys, which organisations, which thresholds and which nodes.
//!
//! One signed proposal carries everything, so that nothing of a ceremony is typed twice by hand.

use std::collections::BTreeSet;

use frost_ed25519::Identifier;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::InvalidProposal;
use crate::canonical::{self, hex_array};
use crate::identity::{IdentityKey, IdentityPublic, SignedText};
use crate::limits::{
    MAX_BODY_BYTES, MAX_CEREMONY_SECONDS, MAX_KEYS, MAX_NODES_PER_ORGANISATION, MAX_ORGANISATIONS,
    MAX_PROPOSAL_BYTES, MAX_SAFE_INTEGER,
};
use crate::names::{CeremonyId, KeyName, NodeId, NodeName, OrgName, Purpose};
use crate::roster::derive_identifier;

const PROPOSAL_TYPE: &str = "rutli-proposal/v1";

/// What a person writes to propose a ceremony, in any order. [`Proposal::new`] checks and sorts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProposalSpec {
    /// Unix seconds by which everything must be done.
    pub deadline: u64,
    /// The keys to make.
    pub keys: Vec<KeySpec>,
    /// What people call the ceremony.
    pub name: KeyName,
    /// The organisations that share each of the keys.
    pub organisations: Vec<OrganisationSpec>,
    /// Unix seconds of the proposal.
    pub proposed_at: u64,
}

/// A key to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// Its name.
    pub name: KeyName,
    /// What it is for.
    pub purpose: Purpose,
}

/// An organisation that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrganisationSpec {
    /// Its name.
    pub name: OrgName,
    /// Its nodes.
    pub nodes: Vec<NodeSpec>,
    /// How many of them must take part in a signature. 1 of 1 is a lone node; 1 of several are replicas of one share.
    pub threshold: u16,
}

/// A node that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// The key that signs its messages.
    pub identity: IdentityPublic,
    /// Its name.
    pub name: NodeName,
}

/// A checked proposal.
#[derive(Clone)]
pub struct Proposal {
    record: Record,
    members: Vec<Member>,
    /// By key, then by member.
    identifiers: Vec<Vec<Identifier>>,
    encoded: Vec<u8>,
    id: CeremonyId,
}

/// A node of a ceremony. Its place in [`Proposal::members`] is its roster index in each of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The node.
    pub id: NodeId,
    /// The key that signs its messages.
    pub identity: IdentityPublic,
    /// Threshold of its organisation.
    pub threshold: u16,
    /// Which of the organisations.
    pub(crate) organisation: usize,
    /// Which node of its organisation.
    pub(crate) position: usize,
}

/// A proposal with the signature of the member that proposes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedProposal {
    proposal: Proposal,
    proposer: NodeId,
    signature: [u8; 64],
}

impl Proposal {
    /// Sorts and checks what a person wrote.
    pub fn new(mut spec: ProposalSpec) -> Result<Self, InvalidProposal> {
        spec.keys.sort_by(|a, b| a.name.cmp(&b.name));
        spec.organisations.sort_by(|a, b| a.name.cmp(&b.name));
        for organisation in &mut spec.organisations {
            organisation.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        }
        Self::from_record(Record::from(spec))
    }

    /// Reads the canonical encoding, strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidProposal> {
        if bytes.len() > MAX_PROPOSAL_BYTES {
            return Err(InvalidProposal::TooLong(bytes.len()));
        }
        Self::from_record(canonical::parse(bytes).map_err(InvalidProposal::Encoding)?)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> &[u8] {
        &self.encoded
    }

    /// SHA-256 of the canonical bytes.
    pub fn id(&self) -> CeremonyId {
        self.id
    }

    /// What people call the ceremony.
    pub fn name(&self) -> &KeyName {
        &self.record.name
    }

    /// Unix seconds of the proposal.
    pub fn proposed_at(&self) -> u64 {
        self.record.proposed_at
    }

    /// Unix seconds by which everything must be done.
    pub fn deadline(&self) -> u64 {
        self.record.deadline
    }

    /// The keys to make, in the order of their names.
    pub fn keys(&self) -> &[KeySpec] {
        &self.record.keys
    }

    /// The organisations in the order of their names.
    pub fn organisations(&self) -> &[OrganisationSpec] {
        &self.record.organisations
    }

    /// All nodes in canonical order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The place of a node among the members.
    pub fn index_of(&self, id: &NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == *id)
    }

    /// The access rule in words, for people to read to each other: `supervisor one of one, vendor two of three`.
    pub fn rule(&self) -> String {
        let of = |organisation: &OrganisationSpec| {
            let (threshold, nodes) = (usize::from(organisation.threshold), organisation.nodes.len());
            format!("{} {} of {}", organisation.name, number(threshold), number(nodes))
        };
        self.organisations().iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// What a custodian should know before joining, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let warning = |organisation: &OrganisationSpec| match (
            organisation.threshold,
            organisation.nodes.as_slice(),
        ) {
            (1, [node]) => Some(format!(
                "{}/{} is alone: its share cannot be refreshed or repaired, and without it nothing can be signed. \
                 Consider 2 of 3 nodes.",
                organisation.name, node.name
            )),
            (1, _) => Some(format!(
                "Each node of {} holds the same share: one of them taken over is {} taken over. Consider a threshold of 2.",
                organisation.name, organisation.name
            )),
            (threshold, nodes) if usize::from(threshold) == nodes.len() => Some(format!(
                "All {threshold} nodes of {} must be up to sign: one of them lost is the key lost.",
                organisation.name
            )),
            _ => None,
        };
        let has_majority = |organisation: &OrganisationSpec| {
            2 * usize::from(organisation.threshold) > organisation.nodes.len()
        };
        let disjoint = (!self.organisations().iter().any(has_majority)).then(|| {
            "No organisation's threshold is above half of its nodes: a coordinator that is taken over could find two \
             quorums without a common node, and have each sign another content for one sequence. Raise one threshold."
                .to_owned()
        });
        let lone = match self.organisations() {
            [only] if only.threshold == 1 => Some(format!(
                "{} is the only organisation, with a threshold of 1: a share of it is the key itself, and signs without any \
                 log. Add an organisation, or raise the threshold.",
                only.name
            )),
            _ => None,
        };
        self.organisations().iter().filter_map(warning).chain(disjoint).chain(lone).collect()
    }

    /// The identifier of a member for a key.
    pub(crate) fn identifier(&self, key: usize, member: usize) -> Option<&Identifier> {
        self.identifiers.get(key)?.get(member)
    }

    /// Indices of all members of an organisation.
    pub(crate) fn members_of(&self, organisation: usize) -> impl Iterator<Item = (usize, &Member)> {
        self.members.iter().enumerate().filter(move |(_, member)| member.organisation == organisation)
    }

    /// How large any message of this ceremony can be.
    pub(crate) fn max_body_bytes(&self) -> usize {
        let largest =
            |size: fn(&OrganisationSpec) -> usize| self.organisations().iter().map(size).max().unwrap_or(0);
        let nodes = largest(|organisation| organisation.nodes.len());
        let threshold = largest(|organisation| usize::from(organisation.threshold));
        MAX_BODY_BYTES.min(4096 + self.keys().len() * (512 + 80 * threshold + 960 * nodes))
    }

    fn from_record(record: Record) -> Result<Self, InvalidProposal> {
        check_structure(&record)?;
        let encoded = canonical::encode(&record);
        if encoded.len() > MAX_PROPOSAL_BYTES {
            return Err(InvalidProposal::TooLong(encoded.len()));
        }
        let id = CeremonyId::from_bytes(Sha256::digest(&encoded).into());
        let members = members(&record)?;
        let identifiers = identifiers(&record, &id, &members)?;
        Ok(Self { record, members, identifiers, encoded, id })
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Proposal {}

impl std::fmt::Debug for Proposal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.encoded))
    }
}

impl Member {
    /// Whether this node deals shares: every node of an organisation with a threshold of two or more, and the first
    /// node of one with a threshold of one, where all hold the same share.
    pub(crate) fn is_dealer(&self) -> bool {
        self.threshold > 1 || self.position == 0
    }
}

impl SignedProposal {
    /// Signs as a member of the ceremony.
    pub fn sign(
        proposal: Proposal,
        proposer: NodeId,
        identity: &IdentityKey,
    ) -> Result<Self, InvalidProposal> {
        let signature = identity.sign(SignedText::Proposal, proposal.id().as_bytes());
        Self::new(proposal, proposer, signature)
    }

    /// Reads the canonical encoding, strictly, and verifies the signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidProposal> {
        if bytes.len() > MAX_PROPOSAL_BYTES {
            return Err(InvalidProposal::TooLong(bytes.len()));
        }
        let record: SignedRecord = canonical::parse(bytes).map_err(InvalidProposal::Encoding)?;
        Self::new(Proposal::from_record(record.proposal)?, record.proposer, record.signature)
    }

    /// The canonical bytes: `{"proposal":{…},"proposer":"organisation/node","signature":"…"}`.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(&SignedRecord {
            proposal: self.proposal.record.clone(),
            proposer: self.proposer.clone(),
            signature: self.signature,
        })
    }

    /// The proposal.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// Who proposes.
    pub fn proposer(&self) -> &NodeId {
        &self.proposer
    }

    fn new(proposal: Proposal, proposer: NodeId, signature: [u8; 64]) -> Result<Self, InvalidProposal> {
        let member = proposal.members.iter().find(|member| member.id == proposer);
        let member = member.ok_or_else(|| InvalidProposal::StrangeProposer(proposer.clone()))?;
        member
            .identity
            .verify(SignedText::Proposal, proposal.id().as_bytes(), &signature)
            .map_err(|_| InvalidProposal::Signature(proposer.clone()))?;
        Ok(Self { proposal, proposer, signature })
    }
}

// The records' fields stand in the order of their names: that makes their encoding canonical.

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    deadline: u64,
    keys: Vec<KeySpec>,
    name: KeyName,
    organisations: Vec<OrganisationSpec>,
    proposed_at: u64,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedRecord {
    proposal: Record,
    proposer: NodeId,
    #[serde(with = "hex_array")]
    signature: [u8; 64],
}

impl From<ProposalSpec> for Record {
    fn from(spec: ProposalSpec) -> Self {
        Self {
            deadline: spec.deadline,
            keys: spec.keys,
            name: spec.name,
            organisations: spec.organisations,
            proposed_at: spec.proposed_at,
            kind: PROPOSAL_TYPE.to_owned(),
        }
    }
}

/// Up to the most nodes that an organisation may have.
const NUMBERS: [&str; 1 + MAX_NODES_PER_ORGANISATION] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen",
];

fn number(number: usize) -> &'static str {
    NUMBERS.get(number).copied().unwrap_or("too many")
}

fn check_structure(record: &Record) -> Result<(), InvalidProposal> {
    let wrong = |what: String| Err(InvalidProposal::Structure(what));
    if record.kind != PROPOSAL_TYPE {
        return wrong(format!("its type is {:?}, not {PROPOSAL_TYPE:?}", record.kind));
    }
    if record.deadline > MAX_SAFE_INTEGER || record.deadline <= record.proposed_at {
        return wrong("its deadline is not after the time of the proposal".to_owned());
    }
    if record.deadline - record.proposed_at > MAX_CEREMONY_SECONDS {
        return wrong(format!("it would last longer than {} days", MAX_CEREMONY_SECONDS / 86_400));
    }
    if record.keys.is_empty() || record.keys.len() > MAX_KEYS {
        return wrong(format!("it makes {} keys, not 1 to {MAX_KEYS}", record.keys.len()));
    }
    if !record.keys.is_sorted_by(|a, b| a.name < b.name) {
        return wrong("its keys are not in the order of their names, each one once".to_owned());
    }
    if record.organisations.is_empty() || record.organisations.len() > MAX_ORGANISATIONS {
        return wrong(format!(
            "it has {} organisations, not 1 to {MAX_ORGANISATIONS}",
            record.organisations.len()
        ));
    }
    if !record.organisations.is_sorted_by(|a, b| a.name < b.name) {
        return wrong("its organisations are not in the order of their names, each one once".to_owned());
    }
    record.organisations.iter().try_for_each(check_organisation)
}

fn check_organisation(organisation: &OrganisationSpec) -> Result<(), InvalidProposal> {
    let wrong = |what: String| Err(InvalidProposal::Structure(what));
    let OrganisationSpec { name, nodes, threshold } = organisation;
    if nodes.is_empty() || nodes.len() > MAX_NODES_PER_ORGANISATION {
        return wrong(format!("{name} has {} nodes, not 1 to {MAX_NODES_PER_ORGANISATION}", nodes.len()));
    }
    if *threshold == 0 || usize::from(*threshold) > nodes.len() {
        return wrong(format!("{name} has the threshold {threshold}, not 1 to {}", nodes.len()));
    }
    if !nodes.is_sorted_by(|a, b| a.name < b.name) {
        return wrong(format!("the nodes of {name} are not in the order of their names, each one once"));
    }
    Ok(())
}

fn members(record: &Record) -> Result<Vec<Member>, InvalidProposal> {
    let mut members = Vec::new();
    let mut identities = BTreeSet::new();
    for (organisation, spec) in record.organisations.iter().enumerate() {
        for (position, node) in spec.nodes.iter().enumerate() {
            let id = NodeId { organisation: spec.name.clone(), node: node.name.clone() };
            if !identities.insert(node.identity.to_bytes()) {
                return Err(InvalidProposal::Structure(format!("{id} has the identity key of another node")));
            }
            members.push(Member {
                id,
                identity: node.identity,
                threshold: spec.threshold,
                organisation,
                position,
            });
        }
    }
    Ok(members)
}

fn identifiers(
    record: &Record,
    id: &CeremonyId,
    members: &[Member],
) -> Result<Vec<Vec<Identifier>>, InvalidProposal> {
    // They are hashes: a collision means that the moon fell down, and is refused all the same.
    let collision =
        || InvalidProposal::Structure("two nodes would have the same identifier: propose again".to_owned());
    let of_key = |key: &KeySpec| {
        let of_member = |member: &Member| derive_identifier(id, &key.name, &member.id).ok_or_else(collision);
        let identifiers = members.iter().map(of_member).collect::<Result<Vec<_>, _>>()?;
        let distinct: BTreeSet<_> = identifiers.iter().collect();
        if distinct.len() == identifiers.len() { Ok(identifiers) } else { Err(collision()) }
    };
    record.keys.iter().map(of_key).collect()
}
