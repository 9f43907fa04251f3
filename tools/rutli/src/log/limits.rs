//! Bounds of what is read from a log, and why they are what they are.

use std::time::Duration;

/// Bytes of a monitor's state: an auditor that keeps as much as it ever does has 40 MB of it.
pub const MAX_STATE_BYTES: u64 = 64 << 20;

/// Entry bundles that are read and parsed side by side before their entries are joined in order: work for many threads.
pub const BUNDLES_AT_ONCE: u64 = 64;

/// Bytes of each bundle that is read beside others: 256 entries of 4 KiB, and 64 MiB for all of them. Entries are a
/// kilobyte long. A larger bundle, of at most 16 MiB, is read again when it is its turn, one at a time: so no server
/// decides how much memory it takes to find out that it lies.
pub const MAX_BYTES_SIDE_BY_SIDE: usize = 1 << 20;

/// Requests under way at a time where the log is behind a network: there, waiting is what takes time.
pub const REQUESTS_AT_ONCE: usize = 16;

/// Time for a checkpoint over the network, which has a few kilobytes, and how often it is asked for: somebody waits for it,
/// and a monitor asks again in its next round.
pub const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(15);

/// See [`CHECKPOINT_TIMEOUT`].
pub const CHECKPOINT_TRIES: u32 = 2;

/// Time for any other answer over the network, from the name to the last byte of 16 MiB, which is more than a bundle has.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Time to connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often any other file is asked for while the other side does not answer or says that it is busy.
pub const TRIES: u32 = 4;

/// Wait before the second try; twice as long before each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Shortest time between the rounds of a monitor: a log publishes a head every minute, and a loop without a wait only harms.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Findings of one code that a round tells one by one; the rest is counted. A log that is wrong so often needs no longer
/// list.
pub const MAX_OF_A_CODE: usize = 250;

/// Full tiles in memory while the tree grows: only those of its right edge are needed.
pub const TILES_IN_MEMORY: usize = 64;

/// Tiles that one proof needs at most: two for each level, and both edges.
pub const MAX_TILES_OF_A_PROOF: usize = 32;

/// Other sources to compare with.
pub const MAX_COMPARED: usize = 64;

/// Public keys whose form was checked once and is remembered.
pub const MAX_CHECKED_KEYS: usize = 64;
