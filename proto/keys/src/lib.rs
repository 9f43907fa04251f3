//! Who holds which share of which key, which nodes together may sign, and how keys come into being.
//!
//! # Purpose
//!
//! A key's secret is a sum over organisations, `s = Σ s_o`, and so is its public key, `Y = Σ Y_o`. Each organisation
//! shares its own `s_o` by Shamir among its own nodes with its own threshold `t_o`. A signature needs `t_o` nodes of
//! *every* organisation, and is an ordinary Ed25519 signature, made by RFC 9591 with the unmodified crate
//! `frost-ed25519`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`names`] | names of organisations, nodes and keys |
//! | [`identity`] | the long-lived Ed25519 key by which a node signs its messages |
//! | [`share`] | a signing share in memory, wiped on drop |
//! | [`roster`] | the signed record of who holds which share of a key |
//! | [`quorum`] | the access rule: exactly `t_o` nodes of every organisation |
//! | [`effective`] | effective shares, which make an additive key fit flat RFC 9591 signing |
//! | [`ceremony`] | distributed key generation as a state machine that people can follow |
//! | [`rehearsal`] | a whole ceremony in one process, for tests and benchmarks |
//!
//! # Scope
//!
//! Everything here is sans-IO: no clock is read, nothing is stored or sent. Time is handed in as Unix seconds and
//! secret randomness as a seed. Where shares are stored, how messages travel and what may be signed are other crates'
//! affairs.

pub mod ceremony;
pub mod effective;
pub mod error;
pub mod identity;
pub mod limits;
pub mod names;
pub mod quorum;
pub mod rehearsal;
pub mod roster;
pub mod share;

mod canonical;
mod curve;

pub use effective::{effective_key_package, effective_public_package};
pub use error::{EffectiveError, InvalidIdentity, InvalidName, InvalidRoster, InvalidShare, QuorumError};
pub use identity::{IdentityKey, IdentityPublic, SignedText};
pub use names::{CeremonyId, KeyName, NodeId, NodeName, OrgName, Purpose, RosterHash, VerificationPhrase};
pub use quorum::Quorum;
pub use roster::{Roster, RosterNode, RosterOrganisation, SignedRoster};
pub use share::SigningShare;
