//! Bounds of what is read and shown about releases, each with its reason.

/// Files, or differences between files, that a release is shown with unless all are asked for: a screenful.
pub const LISTED_FILES: usize = 20;

/// Releases in one page when the last signed one is looked for: a page of large releases must fit into one message.
pub const PAGE_RELEASES: u32 = 8;

/// Pages that are looked through for the last signed release of a channel: it is as a rule on the first one.
pub const MAX_PAGES: usize = 32;

/// Releases that a coordinator gives in one page, at most.
pub const MAX_PAGE_RELEASES: u32 = 200;

/// Pages of what was signed of a product, as its past: some months of one that comes out every hour.
pub const HISTORY_PAGES: usize = 20;

/// Bytes of a file with an SSH key: the largest that are taken have fewer than 4,000, and a comment.
pub const MAX_SSH_KEY_BYTES: u64 = 16 << 10;

/// Bytes of a file with an armored SSH signature, as [`rutli_evidence`] takes it.
pub const MAX_SSH_SIGNATURE_BYTES: u64 = rutli_evidence::limits::MAX_SSH_SIGNATURE_BYTES as u64;

/// Attempts to hand in evidence while the coordinator says that it is not ready.
pub const ADD_ATTEMPTS: u32 = 6;

/// Bytes of a line that a person types as an answer.
pub const MAX_ANSWER_BYTES: u64 = 1_024;
