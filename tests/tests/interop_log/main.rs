//! The log and its proofs, read by programs that are not ours: Sigstore's verifiers for Node.js and Rust, and Go's own
//! libraries for notes and trees.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod made;
mod sigstore;
