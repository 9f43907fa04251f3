//! A custodian's rules over the facts that its node established: who may have what signed, with which evidence, when.
//!
//! A [`PolicySet`] is parsed from the texts of Cedar files and validated against one [`SCHEMA`], so that what is loaded cannot speak of
//! facts that do not exist. [`PolicySet::decide`] says of a release's [`Facts`] that it is permitted, that it waits (for which evidence,
//! from whom, or until when), or that it is refused for good; each in words for a person.
//!
//! # Doubt refuses
//!
//! - Nothing is permitted that no `permit` permits, and nothing that a `forbid` forbids.
//! - Cedar passes over policies that cannot be evaluated. Here such a policy refuses the release, whichever it is.
//! - A custodian's refusal among the facts refuses the release, whatever policies say.
//! - Builds, rebuilds and reviews count for one source: the one that all attestations of builders agree on.
//!
//! # What is missing
//!
//! is found by asking the same policies again with more evidence: documents that the keys and custodians of the node's
//! [`Trust`](rutli_evidence::Trust) could yet give, other times, an hour in which nothing was permitted. What is not needed of it is taken
//! away again. The search is bounded ([`limits`]). It is exact for policies that only ever ask for more evidence; where a policy
//! asks that some evidence is *not* there, only a few documents at a time are tried before the release is refused.
//!
//! # Out of scope
//!
//! Reading files and clocks, verifying evidence (`rutli-evidence`), counting rates, the high-water marks of sequences, pauses.
//!
//! # Sources
//!
//! The Cedar policy language 4 and its schema format; strict validation as its specification defines it.

mod cases;
mod check;
mod context;
mod decide;
mod documents;
mod explain;
mod facts;
mod invalid;
pub mod limits;
mod literals;
mod missing;
mod rules;
mod schema;
mod search;
mod set;

pub use cases::{Case, CaseResult, Cases, CasesReport, Expected, InvalidCases, run_cases};
pub use decide::Decision;
pub use explain::{Explanation, PolicyExplanation};
pub use facts::{Facts, FileNames, Rates, ReleaseFacts};
pub use invalid::InvalidPolicy;
pub use missing::{Missing, MissingKind};
pub use rules::{CASES_FILE, InvalidRules, Rules, SIGNERS_FILE, TRUST_FILE, expired};
pub use schema::SCHEMA;
pub use set::{Effect, PolicyId, PolicySet};
