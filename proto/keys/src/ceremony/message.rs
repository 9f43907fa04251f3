//! The messages of a ceremony: one signed envelope, and a body per step.
//!
//! # Encoding
//!
//! Canonical JSON (RFC 8785). The envelope is
//! `{"body":"<base64>","ceremony":"<hex>","from":"organisation/node","signature":"<hex>","step":"join"}`.
//! The sender's identity key signs `ceremony id ‖ from ‖ 0x00 ‖ step ‖ 0x00 ‖ SHA-256(body)` as a
//! [`SignedText::Ceremony`].
//! A body is canonical JSON too, and lists the keys of the proposal in their order.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::CeremonyError;
use super::proposal::{Member, Proposal};
use crate::canonical::{self, Hex, base64_bytes, hex_array};
use crate::identity::{IdentityKey, SignedText};
use crate::limits::{MAX_ACCUSED, MAX_CIPHERTEXT_BYTES, MAX_MESSAGE_BYTES, MAX_REASON_BYTES};
use crate::names::{CeremonyId, KeyName, NodeId, NodeName};

/// The steps of a ceremony in their order, and the two ways out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Binds the node to its part of the verification phrase, before it sees the others'.
    NonceCommit,
    /// The node's part of the verification phrase.
    NonceReveal,
    /// The custodian agreed. Carries a recipient for this ceremony's encrypted shares.
    Join,
    /// Binds the node to what it will reveal, before it sees what others reveal.
    Commit,
    /// The public commitments to the shares that the node will deal.
    Reveal,
    /// The shares, encrypted to each node of the same organisation.
    Deal,
    /// Proof that the node knows its share of every key.
    Prove,
    /// Signature under every roster: everything was verified.
    Certify,
    /// The custodian did not agree.
    Reject,
    /// The node ends the ceremony for everybody.
    Abort,
}

impl Step {
    /// The steps that everybody takes, in their order.
    pub const ALL: [Self; 8] = [
        Self::NonceCommit,
        Self::NonceReveal,
        Self::Join,
        Self::Commit,
        Self::Reveal,
        Self::Deal,
        Self::Prove,
        Self::Certify,
    ];

    /// The step as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NonceCommit => "nonce-commit",
            Self::NonceReveal => "nonce-reveal",
            Self::Join => "join",
            Self::Commit => "commit",
            Self::Reveal => "reveal",
            Self::Deal => "deal",
            Self::Prove => "prove",
            Self::Certify => "certify",
            Self::Reject => "reject",
            Self::Abort => "abort",
        }
    }

    /// Index among these steps; none for rejections and aborts.
    pub(crate) fn position(self) -> Option<usize> {
        Self::ALL.iter().position(|step| *step == self)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A signed message of a ceremony. As it comes from outside, nothing in it is verified.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CeremonyMessage {
    /// Canonical JSON, as the step says.
    #[serde(with = "base64_bytes")]
    pub body: Vec<u8>,
    /// The ceremony it belongs to.
    pub ceremony: CeremonyId,
    /// Who says that it sent it.
    pub from: NodeId,
    /// Ed25519 by the sender's identity key.
    #[serde(with = "hex_array")]
    pub signature: [u8; 64],
    /// Which step.
    pub step: Step,
}

impl CeremonyMessage {
    /// Reads the canonical encoding, strictly. Verifies nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, CeremonyError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(CeremonyError::TooLong(bytes.len()));
        }
        canonical::parse(bytes).map_err(CeremonyError::Encoding)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canonical::encode(self)
    }

    pub(crate) fn sign(ceremony: CeremonyId, from: NodeId, body: &Body, identity: &IdentityKey) -> Self {
        let step = body.step();
        let body = body.encode();
        let signature = identity.sign(SignedText::Ceremony, &signed_text(&ceremony, &from, step, &body));
        Self { body, ceremony, from, signature, step }
    }

    pub(crate) fn verify(&self, member: &Member) -> Result<(), CeremonyError> {
        member
            .identity
            .verify(
                SignedText::Ceremony,
                &signed_text(&self.ceremony, &self.from, self.step, &self.body),
                &self.signature,
            )
            .map_err(|_| CeremonyError::Signature(self.from.clone()))
    }
}

impl fmt::Debug for CeremonyMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({} bytes)", self.step, self.from, self.body.len())
    }
}

fn signed_text(ceremony: &CeremonyId, from: &NodeId, step: Step, body: &[u8]) -> Vec<u8> {
    let mut text = ceremony.as_bytes().to_vec();
    text.extend_from_slice(from.to_string().as_bytes());
    text.push(0);
    text.extend_from_slice(step.as_str().as_bytes());
    text.push(0);
    text.extend_from_slice(&Sha256::digest(body));
    text
}

/// The body of a message, parsed and of the shape that the proposal asks for; its claims are not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    NonceCommit(CommitBody),
    NonceReveal(NonceBody),
    Join(JoinBody),
    Commit(CommitBody),
    Reveal(RevealBody),
    Deal(DealBody),
    Prove(ProofsBody),
    Certify(ProofsBody),
    Reject(RejectBody),
    Abort(AbortBody),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NonceBody {
    pub(crate) nonce: Hex<32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinBody {
    /// age X25519 recipient, Bech32.
    pub(crate) recipient: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitBody {
    pub(crate) commitment: Hex<32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevealBody {
    pub(crate) keys: Vec<RevealedKey>,
    /// Makes the commitment hide what it commits to.
    pub(crate) salt: Hex<32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RevealedKey {
    /// Points: as many as the threshold says, or none if the node does not deal.
    pub(crate) commitments: Vec<Hex<32>>,
    pub(crate) key: KeyName,
    /// Proof of knowledge of the first coefficient, where the crate's key generation makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proof: Option<Hex<64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DealBody {
    pub(crate) keys: Vec<DealtKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DealtKey {
    pub(crate) deals: Vec<DealtShare>,
    pub(crate) key: KeyName,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DealtShare {
    /// age, binary.
    #[serde(with = "base64_bytes")]
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) to: NodeName,
}

/// A signature per key, over the roster with this hash: by the share in `Prove`, by the identity in `Certify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProofsBody {
    pub(crate) keys: Vec<RosterProof>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RosterProof {
    pub(crate) key: KeyName,
    pub(crate) roster: Hex<32>,
    pub(crate) signature: Hex<64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RejectBody {
    pub(crate) reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AbortBody {
    pub(crate) accused: Vec<NodeId>,
    pub(crate) reason: String,
}

impl Body {
    pub(crate) fn step(&self) -> Step {
        match self {
            Self::NonceCommit(_) => Step::NonceCommit,
            Self::NonceReveal(_) => Step::NonceReveal,
            Self::Join(_) => Step::Join,
            Self::Commit(_) => Step::Commit,
            Self::Reveal(_) => Step::Reveal,
            Self::Deal(_) => Step::Deal,
            Self::Prove(_) => Step::Prove,
            Self::Certify(_) => Step::Certify,
            Self::Reject(_) => Step::Reject,
            Self::Abort(_) => Step::Abort,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::NonceReveal(body) => canonical::encode(body),
            Self::Join(body) => canonical::encode(body),
            Self::NonceCommit(body) | Self::Commit(body) => canonical::encode(body),
            Self::Reveal(body) => canonical::encode(body),
            Self::Deal(body) => canonical::encode(body),
            Self::Prove(body) | Self::Certify(body) => canonical::encode(body),
            Self::Reject(body) => canonical::encode(body),
            Self::Abort(body) => canonical::encode(body),
        }
    }

    /// Reads canonical bytes, and checks that all is there that this member must send in this step, and no more.
    pub(crate) fn parse(
        step: Step,
        bytes: &[u8],
        proposal: &Proposal,
        member: &Member,
    ) -> Result<Self, String> {
        let body = match step {
            Step::NonceCommit => Self::NonceCommit(canonical::parse(bytes)?),
            Step::NonceReveal => Self::NonceReveal(canonical::parse(bytes)?),
            Step::Join => Self::Join(canonical::parse(bytes)?),
            Step::Commit => Self::Commit(canonical::parse(bytes)?),
            Step::Reveal => Self::Reveal(canonical::parse(bytes)?),
            Step::Deal => Self::Deal(canonical::parse(bytes)?),
            Step::Prove => Self::Prove(canonical::parse(bytes)?),
            Step::Certify => Self::Certify(canonical::parse(bytes)?),
            Step::Reject => Self::Reject(canonical::parse(bytes)?),
            Step::Abort => Self::Abort(canonical::parse(bytes)?),
        };
        body.check(proposal, member)?;
        Ok(body)
    }

    fn check(&self, proposal: &Proposal, member: &Member) -> Result<(), String> {
        match self {
            Self::Join(body) => body
                .recipient
                .parse::<age::x25519::Recipient>()
                .map(drop)
                .map_err(|error| format!("its recipient: {error}")),
            Self::NonceCommit(_) | Self::NonceReveal(_) | Self::Commit(_) => Ok(()),
            Self::Reveal(body) => {
                check_keys(proposal, body.keys.iter().map(|entry| &entry.key))?;
                body.keys.iter().try_for_each(|entry| check_revealed(member, entry))
            }
            Self::Deal(body) => {
                check_keys(proposal, body.keys.iter().map(|entry| &entry.key))?;
                body.keys.iter().try_for_each(|entry| check_dealt(proposal, member, entry))
            }
            Self::Prove(body) | Self::Certify(body) => {
                check_keys(proposal, body.keys.iter().map(|entry| &entry.key))
            }
            Self::Reject(body) => check_reason(&body.reason),
            Self::Abort(body) => {
                if body.accused.len() > MAX_ACCUSED {
                    return Err(format!("it accuses {} nodes", body.accused.len()));
                }
                check_reason(&body.reason)
            }
        }
    }
}

/// Whether a person's words can be shown in any terminal and log.
pub(crate) fn is_reason(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_REASON_BYTES && text.chars().all(is_plain)
}

/// No control characters, and none of those that hide text or turn its direction.
pub(crate) fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check_reason(text: &str) -> Result<(), String> {
    if is_reason(text) { Ok(()) } else { Err("its reason is empty, too long or not plain text".to_owned()) }
}

fn check_keys<'a>(proposal: &Proposal, keys: impl Iterator<Item = &'a KeyName>) -> Result<(), String> {
    if keys.eq(proposal.keys().iter().map(|key| &key.name)) {
        Ok(())
    } else {
        Err("it does not have the keys of the proposal in their order".to_owned())
    }
}

/// The degree check: a dealer commits to exactly as many coefficients as the threshold says.
fn check_revealed(member: &Member, entry: &RevealedKey) -> Result<(), String> {
    let coefficients = if member.is_dealer() { usize::from(member.threshold) } else { 0 };
    if entry.commitments.len() != coefficients {
        return Err(format!(
            "it commits to {} coefficients for {}, not {coefficients} as its threshold asks",
            entry.commitments.len(),
            entry.key
        ));
    }
    if entry.proof.is_some() != (member.threshold > 1) {
        return Err(format!("a proof of knowledge for {} is missing or not wanted", entry.key));
    }
    Ok(())
}

fn check_dealt(proposal: &Proposal, member: &Member, entry: &DealtKey) -> Result<(), String> {
    let recipients = dealt_to(proposal, member).map(|(_, recipient)| &recipient.id.node);
    if !entry.deals.iter().map(|deal| &deal.to).eq(recipients) {
        return Err(format!("it does not deal {} to exactly the nodes it has to", entry.key));
    }
    if entry.deals.iter().any(|deal| deal.ciphertext.len() > MAX_CIPHERTEXT_BYTES) {
        return Err(format!("an encrypted share of {} is too long", entry.key));
    }
    Ok(())
}

/// The members to whom this one deals: all others of its organisation, if it is a dealer.
pub(crate) fn dealt_to<'a>(
    proposal: &'a Proposal,
    member: &'a Member,
) -> impl Iterator<Item = (usize, &'a Member)> {
    proposal
        .members_of(member.organisation)
        .filter(|(_, other)| member.is_dealer() && other.position != member.position)
}
