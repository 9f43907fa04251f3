//! The signer node: holds one share of each key, decides for itself what is signed, and dials out.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`sign`] | **the heart**: what must hold before a share leaves, in order; sans-IO |
//! | [`gate`] | **log before sign**: what must hold of the transparency log; sans-IO |
//! | [`policy`] | **what is permitted**: the custodian's rules over facts that the node established; sans-IO |
//! | [`evidence`], [`marks`], [`versions`], [`rates`], [`refusals`] | those facts: documents that verify, sequences, versions, counts, custodians' refusals |
//! | [`waits`] | what releases that wait were answered, for a while |
//! | `rutli-signer-secrets` | shares, identity and nonces in locked memory, wiped: a crate of its own |
//! | [`node`] | the driver: owns the heart on a thread of its own, between links, journal and custodian |
//! | [`link`] | one task for each coordinator: dials, keeps the stream, comes back |
//! | [`journal`] | decisions, marks, refusals, pause and ceremonies, durable |
//! | [`rules`] | the folder with the custodian's rules, looked at again and again |
//! | [`key_store`] | shares and rosters on disk, sealed with `age` |
//! | [`identity`] | the node's own key, sealed as shares are |
//! | [`ceremonies`] | key ceremonies of this node, over restarts |
//! | [`custodian`] | the Unix socket of the person in charge |
//! | [`config`], [`clock`], [`entropy`], [`hardening`], [`limits`], [`error`] | what the daemon stands on |
//!
//! Out of scope: what signatures and rosters are (`rutli-keys`), what is signed (`rutli-release`), and what messages
//! look like (`rutli-wire`), what documents say (`rutli-evidence`), and how policies decide (`rutli-policy`).

pub mod backup;
pub mod ceremonies;
pub mod clock;
pub mod config;
pub mod custodian;
pub mod entropy;
pub mod error;
pub mod evidence;
pub mod gate;
pub mod hardening;
pub mod identity;
pub mod journal;
pub mod journal_witness;
pub mod key_store;
pub mod limits;
pub mod link;
pub mod marks;
pub mod node;
pub mod policy;
pub mod rates;
pub mod refusals;
pub mod rules;
pub mod sign;
pub mod versions;
pub mod waits;

#[cfg(test)]
mod testing;

mod run;

pub use run::{mark_restored, restore, run};
pub use rutli_signer_secrets::{CannotLock, Locked, on_wiped_stack};
