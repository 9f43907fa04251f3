//! The signer node: holds one share of each key, decides for itself what is signed, and dials out.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`sign`] | **the heart**: what must hold before a share leaves, in order; sans-IO |
//! | [`gate`] | **log before sign**: what must hold of the transparency log; sans-IO |
//! | [`nonces`], [`policy`], [`marks`], [`locked`] | its parts: nonces of one use, allow-list, high-water marks, locked memory |
//! | [`node`] | the driver: owns the heart on a thread of its own, between links, journal and custodian |
//! | [`link`] | one task for each coordinator: dials, keeps the stream, comes back |
//! | [`journal`] | decisions, marks, pause and ceremonies, durable |
//! | [`key_store`] | shares and rosters on disk, sealed with `age` |
//! | [`ceremonies`] | key ceremonies of this node, over restarts |
//! | [`custodian`] | the Unix socket of the person in charge |
//! | [`config`], [`clock`], [`hardening`], [`limits`], [`error`] | what the daemon stands on |
//!
//! Out of scope: what signatures and rosters are (`rutli-keys`), what is signed (`rutli-release`), and what messages
//! look like (`rutli-wire`).

pub mod ceremonies;
pub mod clock;
pub mod config;
pub mod custodian;
pub mod error;
pub mod gate;
pub mod hardening;
pub mod journal;
pub mod key_store;
pub mod limits;
pub mod link;
pub mod locked;
pub mod marks;
pub mod node;
pub mod nonces;
pub mod policy;
pub mod sign;

#[cfg(test)]
mod testing;

mod run;

pub use run::{mark_restored, run};
