//! Bounds of the wire, each with its reason.

/// Bytes of one gRPC message, each way: a batch of [`MAX_BATCH_SLOTS`] signatures of 21 signers next to the largest
/// release (5,000 files of 255-byte names and 160 bytes of digests, 2.2 MB) stays below.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Bytes of one message that a client takes from a coordinator: a signed release of 5,000 files with names of 255 bytes
/// comes to 12 MB, its statement being in it twice.
pub const MAX_RESPONSE_BYTES: usize = 32 << 20;

/// Signatures in one batch: enough to make the fixed cost of a batch (a message, an fsync) vanish, few enough that
/// the coordinator aggregates one part of a large release while the nodes compute the next.
pub const MAX_BATCH_SLOTS: usize = 512;

/// Releases in one batch.
pub const MAX_BATCH_ITEMS: usize = 256;

/// Pieces of evidence of one release: attestations of a few builders and testers, and approvals of some dozen custodians.
pub const MAX_EVIDENCE: usize = 64;

/// Bytes of all evidence of one release: two attestations of the largest releases and what goes with them. With the largest
/// content it stays below [`MAX_MESSAGE_BYTES`].
pub const MAX_EVIDENCE_TOTAL_BYTES: usize = 3 << 20;

/// Bytes of content, evidence and commitments in one batch of several releases.
pub const MAX_BATCH_BYTES: usize = 4 << 20;

/// Signers of one batch: 8 organisations of 16 nodes at most.
pub const MAX_SIGNERS: usize = 128;

/// Commitments in one announcement.
pub const MAX_ANNOUNCED_COMMITMENTS: usize = 1024;

/// Keys that one node holds.
pub const MAX_KEYS: usize = 64;

/// Bytes of a reason or a version that a peer sends for people to read; longer ones are cut.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Messages in one ceremony envelope: the transcript of the largest ceremony goes in several.
pub const MAX_CEREMONY_MESSAGES: usize = 256;

/// Bytes of one ceremony message or proposal: 8 keys dealt to 15 peers, each an age file of under 1 KiB.
pub const MAX_CEREMONY_MESSAGE_BYTES: usize = 512 << 10;

/// Connections that a peer may leave idle before the handshake is done, in milliseconds.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 5_000;

/// HTTP/2 keep-alive: a ping after so many milliseconds of silence …
pub const KEEP_ALIVE_INTERVAL_MS: u64 = 3_000;

/// … and the peer is gone when it did not answer within so many.
pub const KEEP_ALIVE_TIMEOUT_MS: u64 = 2_000;
