//! The ceremony: distributed key generation of several keys at once, as a state machine that people can follow.
//!
//! # The steps
//!
//! A member proposes; the proposal is signed and says everything: keys, organisations, thresholds, nodes,
//! deadline. Each step is sent once the previous one has arrived from **all** members. The nodes send the
//! first two automatically; then custodians read the [`VerificationPhrase`](crate::VerificationPhrase) to
//! each other, and join or reject. From then on the nodes go on by themselves:
//!
//! | step | each node sends |
//! | --- | --- |
//! | [`NonceCommit`](Step::NonceCommit) | a hash of its next message, so that nobody chooses a nonce knowing the others' |
//! | [`NonceReveal`](Step::NonceReveal) | a random nonce: the phrase covers proposal and nonces |
//! | [`Join`](Step::Join) | a recipient for this ceremony's encrypted shares |
//! | [`Commit`](Step::Commit) | a hash of its next message, so that nobody chooses a key knowing the others' |
//! | [`Reveal`](Step::Reveal) | commitments to the polynomials by which it will deal, with proofs of knowledge |
//! | [`Deal`](Step::Deal) | to each node of its own organisation, encrypted, that node's part of the shares |
//! | [`Prove`](Step::Prove) | a signature by its share of each key, under its verifying share, over the roster |
//! | [`Certify`](Step::Certify) | its identity's signature under each roster, after verifying everybody's everything |
//!
//! An organisation with a threshold of two or more runs the crate's key generation (FROST, figure 1, by Komlo and
//! Goldberg) among its nodes. In an organisation with a threshold of one, its first node makes the key and sends it,
//! encrypted, to the other nodes, if there are any.
//!
//! # The phrase
//!
//! A phrase over the proposal alone could be attacked by brute force: a proposer tries proposals, some 2^44
//! for eight words, until two have the same phrase, and shows each to one half of the nodes. Here every
//! honest node adds a nonce that it reveals only after all are committed to theirs. Whatever is shown to two
//! nodes, the two phrases are then independent and random, and each try is a ceremony that people see.
//!
//! # What is verified, by every node of every organisation
//!
//! Openings of the commitments; exactly `t_o` commitments of each dealer, not adding up to a lower degree; proofs of
//! knowledge; verifying shares and organisation keys computed from the commitments, group key as their sum; a proof of
//! each node's share, which refuses rogue keys; that all saw the same messages, since the rosters that they sign hash
//! the transcript. Each node also verifies its own share against what the dealers revealed.
//!
//! # Scope
//!
//! The relay is trusted with nothing but delivery. Whether members and identity keys are the right ones is decided
//! before: each node compares a proposal with its own configuration. Nothing here does I/O; [`CeremonyMachine`] tells
//! how a driver uses it.

mod error;
mod machine;
mod message;
mod observer;
mod proposal;
mod secrets;
mod status;
mod verify;

pub use error::{CeremonyError, InvalidProposal};
pub use machine::{CeremonyMachine, Output};
pub use message::{CeremonyMessage, Step};
pub use observer::{CeremonyObserver, Received};
pub use proposal::{KeySpec, Member, NodeSpec, OrganisationSpec, Proposal, ProposalSpec, SignedProposal};
pub use status::{AbortReason, CeremonyState, CeremonyStatus, NodeProgress};
