//! What an endpoint needs: releases, the statement about them, the signature formats and their verification.
//!
//! A *release* is what a pipeline asks Rütli to sign: a class, a product, a channel, a version, a sequence and up to
//! 5000 artifacts, each known by its SHA-256. Files never travel; this crate never reads one. It answers three questions,
//! byte for byte the same for every party:
//!
//! 1. **Is this release well formed?** [`UnverifiedRelease::verify`] is the only way to a [`VerifiedRelease`].
//! 2. **Which bytes does Ed25519 sign for it?** [`VerifiedRelease::signables`]. A signer node calls this itself, over the typed
//!    release, and signs nothing else: there is no way to ask for "a signature over this digest".
//! 3. **Does this signature hold?** [`verify_dsse`], [`verify_statement`] and [`verify_sshsig`], one straight function per
//!    format, each refusal with its own name in [`NotVerified`].
//!
//! # Formats
//!
//! | format | files | bytes that are signed | signatures |
//! | --- | --- | --- | --- |
//! | [`Format::Dsse`] | `<release id>.intoto.json` | the DSSE pre-authentication encoding of the in-toto Statement | one per release |
//! | [`Format::Statement`] | `<release id>.statement`, `.statement.sig` | the same bytes, and so the same signature | (shared) |
//! | [`Format::Sshsig`] | `<artifact>.sig` | the `SSHSIG` blob over SHA-256 of the file, in a namespace of its class, product and channel ([`SshNamespace`]) | one per artifact |
//!
//! All signed bytes carry a domain of their own (`DSSEv1 …`, `SSHSIG…`), so that no signature in one format can be taken for
//! one in another.
//!
//! # Strictness
//!
//! Verification is that of RFC 8032 with canonical checks: canonical, torsion-free public keys of full order, canonical `S`, no
//! small-order `R`. A statement is accepted only if re-encoding what was parsed gives exactly the bytes that were signed, so
//! there is one encoding of each statement and no two readers can disagree about one. All inputs are bounded
//! ([`limits`]) before they are parsed.
//!
//! # Out of scope
//!
//! Hashing files, reading clocks, drawing randomness, networks: all of that is handed in. The crate is `no_std` with `alloc`.
//!
//! # Sources
//!
//! RFC 8032 (Ed25519), RFC 8410 (Ed25519 keys in SPKI), RFC 8785 (canonical JSON), in-toto Statement v1 and `release` predicate
//! v0.2, DSSE v1, OpenSSH `PROTOCOL.sshsig`, package-url.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod canonical;
mod class;
mod dsse;
mod format;
mod invalid;
pub mod json;
mod key;
pub mod limits;
mod names;
mod namespace;
mod release;
mod signed_files;
mod sshsig;
mod statement;
mod verify;

pub use class::Class;
pub use dsse::{PAYLOAD_TYPE, pae};
pub use format::Format;
pub use invalid::InvalidRelease;
pub use key::{InvalidKey, PRINCIPAL, ReleaseKey, VerifiedSignature};
pub use names::{
    ArtifactName, Channel, Product, ReleaseId, RequestId, Requester, Sequence, Timestamp, Version,
};
pub use namespace::{SshNamespace, SshNamespaces};
pub use release::{
    Artifact, ChannelKey, Claim, Claimant, Signable, SignableKind, UnverifiedArtifact, UnverifiedRelease,
    VerifiedRelease,
};
pub use signed_files::{NotAssembled, SignedFile, dsse_envelope, files_of, signed_files};
pub use statement::{Claims, PREDICATE_TYPE, STATEMENT_TYPE, Statement};
pub use verify::{Expectation, NotVerified, SshsigVerdict, verify_dsse, verify_sshsig, verify_statement};

#[cfg(test)]
mod testing;
