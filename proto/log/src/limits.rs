//! Bounds, and why they are what they are.

/// Bytes of an entry: what a bundle's length of two bytes can say (c2sp.org/tlog-tiles).
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// Entries of a tree: exact in every JSON reader (2^53 − 1).
pub const MAX_TREE_SIZE: u64 = (1 << 53) - 1;

/// Hashes of a proof: one for each level of the largest tree, and one more for consistency.
pub const MAX_PROOF_HASHES: usize = 64;

/// Bytes of a checkpoint with all its signature lines: room for a hundred cosignatures of 250 bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 32 * 1024;

/// Signature lines of others than the log in a checkpoint: with the log's own the 100 that readers of signed notes take
/// (c2sp.org/signed-note names that bound, and `signed_note` keeps it).
pub const MAX_SIGNATURE_LINES: usize = 99;

/// Bytes of an origin, of a cosigner's name, and of a name within an entry, so that what keeps names is bounded.
pub const MAX_NAME_BYTES: usize = 255;

/// Hashes of a full tile, and entries of a full bundle (c2sp.org/tlog-tiles).
pub const TILE_WIDTH: u16 = 256;

/// Levels of tiles of the largest tree.
pub const MAX_TILE_LEVEL: u8 = 6;

/// Bytes of a reason within an entry, so that many of them fit, and of what is said about text that is no entry.
pub const MAX_TEXT_BYTES: usize = 300;

/// Items of each list within an entry: all nodes of the largest deployment.
pub const MAX_ITEMS: usize = 128;

/// Bytes of what is said about a finding: a few names, reasons and hashes.
pub const MAX_FINDING_BYTES: usize = 1_024;

/// Seconds from a request to its deadline: the longest life of a release is a year. With no bound a request could wait
/// for ever, and nobody would ever be told that its outcome is missing.
pub const MAX_DEADLINE_SECONDS: u64 = 366 * 86_400;

/// Seconds from a request to the end of its embargo: a coordinated disclosure takes months, not years. With no bound it
/// could be hidden for ever.
pub const MAX_EMBARGO_SECONDS: u64 = 366 * 86_400;

/// Seconds by which the clocks of two machines may differ: whoever is further off has no time service.
pub const MAX_CLOCK_SKEW_SECONDS: u64 = 600;

/// Requests without an outcome, and embargoes without an end, that an auditor keeps each: a coordinator admits far fewer
/// at a time, and they still fit into a state file.
pub const MAX_OPEN: usize = 20_000;

/// Requests that ended, as an auditor remembers them to tell a second outcome from one of nothing: the newest.
pub const MAX_ENDED: usize = 16_384;

/// Signed releases whose `dsse` leaf an auditor still waits for: it follows its outcome closely, or never comes.
pub const MAX_AWAITED_LEAVES: usize = 1_024;

/// Keys, and rosters of keys, that an auditor keeps each: a deployment has a handful, and a refresh now and then.
pub const MAX_KEYS: usize = 1_024;

/// Nodes of all signed rosters that an auditor keeps, each with a name of 129 bytes at most: 128 of the largest rosters, so
/// that a state file still holds them.
pub const MAX_ROSTER_NODES: usize = 16_384;

/// Channels of products that an auditor keeps.
pub const MAX_CHANNELS: usize = 16_384;

/// Versions of signed releases that an auditor remembers, the newest: 160 bytes each in a state file.
pub const MAX_VERSIONS: usize = 16_384;

/// Places that an auditor keeps for all channels together: one for each channel, and those next to embargoes.
/// 320 bytes each in a state file.
pub const MAX_PLACES: usize = 98_304;

/// Places that an auditor has at most after it has looked which of them it needs: so it does not look again at each entry.
/// The newest of every channel fits into them.
pub const PLACES_AFTER_SWEEP: usize = 73_728;

/// Places of signed releases that an auditor keeps in one channel beside embargoes: so nobody fills the
/// room of all channels through one. Two for each embargo, or fewer; fewer, too, where all channels together have too many.
pub const MAX_BESIDE_EMBARGOES: usize = 1_024;

/// Places with which an auditor first looks which of them it needs no more: fewer are not worth it.
pub const MIN_PLACES_TO_SWEEP: usize = 4_096;

/// Bytes of a policy: its most witnesses with names and keys of a middling length.
pub const MAX_POLICY_BYTES: usize = 128 * 1024;

/// Logs of a policy: those that C2SP recommends to take.
pub const MAX_POLICY_LOGS: usize = 32;

/// Witnesses and groups of a policy: all nodes of the largest deployment, outside witnesses, and their groups.
pub const MAX_POLICY_NAMES: usize = 256;

/// Bytes of a proof file: a checkpoint, the hashes, and the largest entry in base64.
pub const MAX_PROOF_FILE_BYTES: usize = 160 * 1024;

/// Bytes of a Sigstore bundle: the largest envelope, and the largest entry in base64 with its proof.
pub const MAX_BUNDLE_BYTES: usize = rutli_release::limits::MAX_ENVELOPE_BYTES + 128 * 1024;

/// Bytes of a trusted root: that of Sigstore's public instance has 7,000.
pub const MAX_TRUSTED_ROOT_BYTES: usize = 1024 * 1024;
