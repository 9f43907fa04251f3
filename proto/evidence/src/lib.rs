//! What a custodian's node verifies about a release beyond the request itself: attestations, approvals, refusals.
//!
//! A piece of [`Evidence`] is an opaque document of at most 1 MiB, known by the SHA-256 of its bytes. It is either
//!
//! - a **DSSE envelope** in JSON around an in-toto Statement v1: SLSA provenance v1 of a build or of a rebuild, a test result v0.1, or an SLSA
//!   verification summary v1 of a review of the source; or
//! - a **signed text**: [`approval_text`] or [`refusal_text`], and directly after it the armored SSH signature that
//!   `ssh-keygen -Y sign` makes.
//!
//! [`Evidence::parse`] looks at form alone. [`verify`] says what a document [establishes](Established) about one release, for
//! one custodian's [`Trust`], at one time; nothing that a document [says](Evidence::says) of itself counts before.
//!
//! # Strictness
//!
//! JSON has no name twice in an object, at any depth, so that it reads the same to everybody; unknown fields are passed over, as DSSE
//! and in-toto ask for. In an envelope only the payload is signed: its layout, its `keyid`s and unknown fields may change
//! without changing what is established. Signed texts have one spelling, to the last byte. All inputs are bounded ([`limits`]), and
//! what goes into a fact or an error is printable and short.
//!
//! # Out of scope
//!
//! Whether what is established is enough: that is for policies. Which release a document is sent for: the caller says so.
//! Reading files and clocks. Certificates, Sigstore bundles, and keys of other kinds than Ed25519 and ECDSA P-256.
//!
//! # Sources
//!
//! DSSE v1, in-toto Statement v1, its test result v0.1, SLSA provenance v1 and verification summary v1; OpenSSH's PROTOCOL.sshsig,
//! PROTOCOL.u2f and ssh-keygen(1); RFC 8032, RFC 8785.

mod document;
mod envelope;
mod fact;
mod json;
mod key;
pub mod limits;
mod make;
mod says;
mod signers;
mod statement;
mod text;
mod trust;
mod verify;
mod words;

pub use document::{Evidence, Kind, NotEvidence};
pub use fact::{BuildFact, Established, NotADigest, Refused, SourceDigest};
pub use make::{
    AttestationSigner, Build, File, InvalidSigner, NotMade, OtherDigests, TestRun, provenance_statement,
    sign_dsse, test_statement,
};
pub use text::{
    APPROVAL_NAMESPACE, InvalidRefusal, REFUSAL_NAMESPACE, approval_text, check_reason, refusal_text,
};
pub use trust::{AttestationKey, InvalidTrust, Role, Trust};
pub use verify::{NotEstablished, verify};
pub use words::is_shown;
