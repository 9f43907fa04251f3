//! The transparency log: what every party must agree on, byte for byte.
//!
//! One append-only Merkle tree (RFC 6962) per deployment, in the formats of C2SP, readable by anybody as static files.
//! Everything that Rütli is asked to sign is an [`entry`] of it before anybody signs, and every signer node cosigns its
//! [`checkpoint`]s.
//!
//! | module | holds | specification |
//! | --- | --- | --- |
//! | [`entry`] | what is logged, as canonical JSON | RFC 8785; Rekor's `dsse` 0.0.1 |
//! | [`audit`], [`finding`] | what is wrong with a log, for who reads all of it | – |
//! | [`checkpoint`] | origin, tree head, the log's signature | c2sp.org/tlog-checkpoint, c2sp.org/signed-note |
//! | [`cosignature`] | a witness's word that a checkpoint extends all that it saw before | c2sp.org/tlog-cosignature |
//! | [`policy`] | which cosignatures a verifier wants | c2sp.org/tlog-policy |
//! | [`proof`] | inclusion and consistency | RFC 6962, section 2.1 |
//! | [`proof_file`] | a proof with its checkpoint, for whoever is offline | c2sp.org/tlog-proof |
//! | [`sigstore`] | head, bundle and trusted root for Sigstore's verifiers | Sigstore's bundle v0.3 |
//! | [`tile`] | paths and contents of tiles and entry bundles | c2sp.org/tlog-tiles |
//! | [`tree`] | growing a tree, and drawing proofs from it | RFC 6962, section 2.1 |
//!
//! Does no I/O, reads no clock, draws no randomness.

pub mod audit;
pub mod checkpoint;
pub mod cosignature;
pub mod entry;
pub mod finding;
mod hash;
pub mod limits;
pub mod policy;
pub mod proof;
pub mod proof_file;
pub mod sigstore;
pub mod tile;
pub mod tree;

pub use audit::{Auditor, Organisation};
pub use checkpoint::{
    Checkpoint, Head, InvalidLogKey, LogKey, LogSigner, NotACheckpoint, Origin, SignedCheckpoint,
};
pub use cosignature::{Cosignature, Cosigner, cosigned_message};
pub use entry::{Entry, NotAnEntry};
pub use finding::{Code, Finding, Severity};
pub use hash::{Hash, NotAHash, leaf_hash, node_hash, sha256};
pub use policy::{InvalidPolicy, NotWitnessed, Policy};
pub use proof::{NotProved, check_consistency, check_inclusion};
pub use proof_file::{NotAProofFile, NotLogged, ProofFile};
pub use tile::{EntryBundle, TileId};
pub use tree::{Frontier, MissingTile, TileHashes, Tiles};
