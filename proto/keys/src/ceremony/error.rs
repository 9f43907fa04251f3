//! What can go wrong with a proposal or a message of a ceremony.

use thiserror::Error;

use super::message::Step;
use crate::names::NodeId;

/// A proposal that cannot be carried out. The proposer corrects it and proposes again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidProposal {
    /// More than [`MAX_PROPOSAL_BYTES`](crate::limits::MAX_PROPOSAL_BYTES).
    #[error("the proposal has {0} bytes, more than any proposal can have")]
    TooLong(usize),
    /// Not canonical JSON of a proposal.
    #[error("this is not a proposal in canonical JSON: {0}")]
    Encoding(String),
    /// Something in it that cannot be.
    #[error("the proposal cannot be carried out: {0}")]
    Structure(String),
    /// Signed by somebody who would not take part.
    #[error("{0} is not a member of the ceremony that it proposes: let one of the members propose it")]
    StrangeProposer(NodeId),
    /// The signature is not the proposer's.
    #[error("the proposal is not signed by {0}")]
    Signature(NodeId),
}

/// A message or request that the ceremony does not take. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CeremonyError {
    /// The proposal cannot be carried out.
    #[error(transparent)]
    Proposal(#[from] InvalidProposal),
    /// The sender or relay erred, or this is not a message.
    #[error("this is not a ceremony message in canonical JSON: {0}")]
    Encoding(String),
    /// More bytes than any message of this ceremony can have.
    #[error("the message has {0} bytes, more than any message of this ceremony can have")]
    TooLong(usize),
    /// A replay from, or a message for, another ceremony.
    #[error("the message belongs to another ceremony")]
    OtherCeremony,
    /// From somebody who is no member.
    #[error("{0} is not a member of this ceremony")]
    NotAMember(NodeId),
    /// Forged, or damaged on its way.
    #[error("the message is not signed by {0}")]
    Signature(NodeId),
    /// A member that has certified the keys wants to end the ceremony, or the other way round.
    #[error("{from} cannot send {step}: it has already sent {earlier}")]
    TooLate {
        /// The sender.
        from: NodeId,
        /// What it sent.
        step: Step,
        /// What it had sent before.
        earlier: Step,
    },
    /// The operator configured another identity key than the one in the proposal.
    #[error(
        "the proposal names another identity key for {0} than this node has: propose again with the key that its `status` shows"
    )]
    OtherIdentity(NodeId),
    /// A decision that was already taken.
    #[error("this node has already {0}")]
    Decided(&'static str),
    /// The ceremony is over.
    #[error("the ceremony is over: propose a new one")]
    Over,
    /// Its time is over.
    #[error("the deadline of the ceremony has passed: propose a new one")]
    DeadlinePassed,
    /// A reason that cannot be shown.
    #[error("a reason is 1 to {} bytes of plain text in one line", crate::limits::MAX_REASON_BYTES)]
    Reason,
    /// The age library failed, or a bug.
    #[error("the node could not make its own message: {0}")]
    Internal(String),
}
