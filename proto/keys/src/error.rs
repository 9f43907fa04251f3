//! What can go wrong with names, identities, rosters, quorums and shares. The ceremony has its own
//! [`CeremonyError`](crate::ceremony::CeremonyError).

use thiserror::Error;

use crate::names::{NodeId, OrgName};

/// A name, hash or id that does not follow its rule. Whoever wrote it erred; trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// Not `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error(
        "{0:?} is not a name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"
    )]
    Name(String),
    /// Not `organisation/node`.
    #[error("{0:?} does not name a node: write it as organisation/node")]
    NodeId(String),
    /// A purpose that this version does not know.
    #[error("{0:?} is not a known purpose of a key: use \"release\"")]
    Purpose(String),
    /// Not 64 lower-case hexadecimal digits.
    #[error("this is not a SHA-256 value: write 64 lower-case hexadecimal digits")]
    Hash,
}

/// An identity key that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidIdentity {
    /// Not the base64 text of 32 bytes.
    #[error(
        "this is not an identity key: write the 32 bytes of an Ed25519 public key in base64, as `status` of the node shows it"
    )]
    Encoding,
    /// Not a point of the curve, or one of small order, under which anybody can sign.
    #[error(
        "this identity key is not a usable Ed25519 public key: take the one that `status` of the node shows"
    )]
    Key,
    /// Not a PKCS #8 PEM file of an Ed25519 private key.
    #[error(
        "this is not an Ed25519 private key in PKCS #8 PEM: make one with `rutli init` or `openssl genpkey -algorithm ed25519`"
    )]
    Pem,
    /// The signature is not by this identity over this text.
    #[error("the signature is not valid under this identity")]
    Signature,
}

/// Bytes that are not a signing share. They come from a damaged share file, or from a key of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "these bytes are not a signing share (32 bytes, a canonical scalar other than zero): restore the share file from its backup"
)]
pub struct InvalidShare;

/// A roster that must not be used. It was damaged or forged on its way: fetch it again, and compare its words with
/// the other custodians.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidRoster {
    /// More than [`MAX_ROSTER_BYTES`](crate::limits::MAX_ROSTER_BYTES).
    #[error("the roster has {0} bytes, more than any roster can have")]
    TooLong(usize),
    /// Not canonical JSON of a roster.
    #[error("this is not a roster in canonical JSON: {0}")]
    Encoding(String),
    /// Too many or too few organisations or nodes, or a threshold that cannot be.
    #[error("the roster's structure cannot be: {0}")]
    Structure(String),
    /// A value that is not a point or scalar, or does not fit the others.
    #[error("the roster contradicts itself: {0}")]
    Inconsistent(String),
    /// A node has not signed.
    #[error("the roster is not signed by {0}: a key is usable only with the signatures of all its nodes")]
    MissingSignature(NodeId),
    /// A signature by somebody who is not in the roster.
    #[error("{0} has signed the roster but is not in it")]
    StrangeSignature(String),
    /// A signature that is not valid.
    #[error("the signature of {0} under the roster is not valid")]
    Signature(NodeId),
}

/// A set of nodes that is not allowed to sign. The coordinator erred if it sent one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuorumError {
    /// No index of the roster.
    #[error("there is no node {index} in a roster of {nodes} nodes")]
    UnknownIndex {
        /// The index that was asked for.
        index: u16,
        /// How many nodes there are.
        nodes: usize,
    },
    /// Not strictly ascending, so perhaps a node twice.
    #[error("the nodes of a quorum must be in ascending order, each one once")]
    NotAscending,
    /// Fewer or more nodes of an organisation than its threshold.
    #[error("a signature needs exactly {threshold} of the nodes of {organisation}, not {present}")]
    Threshold {
        /// The organisation.
        organisation: OrgName,
        /// Its threshold.
        threshold: u16,
        /// How many of its nodes were chosen.
        present: u16,
    },
}

/// Why an effective share or package cannot be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EffectiveError {
    /// A bug in the caller: the quorum was checked against another roster.
    #[error("the quorum belongs to another roster: make it anew from the roster in use")]
    OtherRoster,
    /// A bug in the caller, or a node that was not chosen.
    #[error("node {0} is not in the quorum")]
    NotInQuorum(u16),
    /// The share file does not belong to this node and roster. The operator restores the right one.
    #[error("the signing share is not the one that the roster records for {0}: restore the right share file")]
    OtherShare(NodeId),
    /// Happens with negligible probability; another quorum works.
    #[error("these nodes give a degenerate quorum: choose others")]
    Degenerate,
}
