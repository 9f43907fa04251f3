//! Every bound of this crate, with its reason. Nothing is parsed before it was measured against one of these.

/// Bytes of one piece of evidence. An envelope of this size names the 5,000 artifacts that a release may have, with names of 56 bytes.
pub const MAX_EVIDENCE_BYTES: usize = 1024 * 1024;

/// Signatures of an envelope: a builder has one key, and a few more while it changes keys. Each is tried under each key.
pub const MAX_SIGNATURES: usize = 8;

/// Bytes of a statement times the signatures over it: each is hashed whole under each key. Twice the largest statement, for a builder
/// that changes keys, or a small one with all the signatures that there may be.
pub const MAX_SIGNED_BYTES: usize = 2 * MAX_EVIDENCE_BYTES;

/// Subjects of a statement: as many as a release may have artifacts.
pub const MAX_SUBJECTS: usize = rutli_release::limits::MAX_ARTIFACTS;

/// Bytes of a text within a statement that goes into a fact: an identifier, an address, the name of a test.
pub const MAX_TEXT_BYTES: usize = 2_048;

/// Bytes of the reason of a refusal: a few sentences on one line.
pub const MAX_REASON_BYTES: usize = 500;

/// Bytes of an armored SSH signature. Those of the key types that are taken have fewer than 700, with an application of
/// a few hundred bytes more.
pub const MAX_SSH_SIGNATURE_BYTES: usize = 2_048;

/// Characters of foreign text that an error repeats: enough to recognise it.
pub const MAX_QUOTED_CHARACTERS: usize = 100;

/// Names of files or tests that are listed for a person: who wants all of them reads the document.
pub const MAX_LISTED: usize = 8;

/// Attestation keys that a custodian trusts: each costs a verification for each signature of each envelope.
pub const MAX_ATTESTATION_KEYS: usize = 32;

/// Builders that one attestation key may speak for.
pub const MAX_IDS: usize = 32;

/// Bytes of the name of a key or of a custodian.
pub const MAX_NAME_BYTES: usize = 64;

/// Bytes of a public or secret key file: those that are taken have fewer than 1,000.
pub const MAX_KEY_FILE_BYTES: usize = 4_096;

/// Bytes of an allowed-signers file: its most keys with options and comments of a middling length.
pub const MAX_SIGNERS_BYTES: usize = 64 * 1024;

/// Keys in an allowed-signers file: a handful of custodians with a handful of keys each.
pub const MAX_SIGNERS: usize = 128;
