//! Every bound of this crate, with its reason.

/// Keys that one ceremony may make. One per purpose is needed; the rest is room to grow.
pub const MAX_KEYS: usize = 8;

/// Organisations that may share a key. Each one is a veto, so more would only make the key less available.
pub const MAX_ORGANISATIONS: usize = 8;

/// Nodes of one organisation. Dealing is quadratic in it, and nobody runs more signers than that.
pub const MAX_NODES_PER_ORGANISATION: usize = 16;

/// Nodes that may hold a share of one key.
pub const MAX_NODES: usize = MAX_ORGANISATIONS * MAX_NODES_PER_ORGANISATION;

/// Bytes of a name of an organisation, a node or a key.
pub const MAX_NAME_BYTES: usize = 64;

/// Bytes of an encoded proposal, signed or not: 128 nodes of about 180 bytes, and room.
pub const MAX_PROPOSAL_BYTES: usize = 64 * 1024;

/// Bytes of an encoded roster with its signatures: 128 nodes of about 550 bytes, and room.
pub const MAX_ROSTER_BYTES: usize = 128 * 1024;

/// Bytes of one encrypted share: the age header of one recipient with its random filler stanza, and 64 bytes.
pub const MAX_CIPHERTEXT_BYTES: usize = 640;

/// Bytes of the body of one ceremony message. The largest is a deal of 8 keys to 15 nodes; smaller ceremonies have
/// smaller bounds of their own.
pub const MAX_BODY_BYTES: usize = 136 * 1024;

/// Bytes of an encoded ceremony message: its body in base64, and its envelope.
pub const MAX_MESSAGE_BYTES: usize = 192 * 1024;

/// Nodes that one message may accuse.
pub const MAX_ACCUSED: usize = 16;

/// Bytes of a reason that a person gives for a rejection or an abort.
pub const MAX_REASON_BYTES: usize = 500;

/// Seconds that a ceremony may last: people in several organisations must be found, but not longer than a month.
pub const MAX_CEREMONY_SECONDS: u64 = 31 * 24 * 60 * 60;

/// Largest integer that canonical JSON carries exactly (RFC 8785, section 3.2.2.3; RFC 7493, section 2.2).
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
