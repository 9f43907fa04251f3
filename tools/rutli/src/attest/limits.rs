//! Every bound of `rutli attest`, with its reason.

use std::time::Duration;

/// Bytes that an archive unpacks to, headers included: several times the largest source trees there are. More is a bomb.
pub const MAX_UNPACKED_BYTES: u64 = 16 << 30;

/// Files, folders and links of an archive: the largest source trees have some 400,000.
pub const MAX_ENTRIES: u64 = 1_000_000;

/// Folders within each other, in archives and in what is built. Real trees have fewer than 40.
pub const MAX_DEPTH: usize = 100;

/// Bytes of a path in an archive: what Linux takes (PATH_MAX).
pub const MAX_PATH_BYTES: usize = 4096;

/// Bytes of the headers of one entry of an archive. Long names and extended headers are kept in memory.
pub const MAX_HEADER_BYTES: u64 = 256 * 1024;

/// KiB of memory to decompress with: twice what the highest levels of xz and zstd need.
pub const MAX_DECODER_KIB: u32 = 128 * 1024;

/// Files and folders that a build may leave. More than its source has, for there are object files too.
pub const MAX_BUILT_ENTRIES: usize = 2_000_000;

/// Bytes of the paths of all that a build leaves: two million with a hundred bytes each. They are in this program's memory.
pub const MAX_LISTED_BYTES: usize = 200 << 20;

/// Bytes of what a build said that are kept: enough to see why it failed.
pub const MAX_TAIL_BYTES: usize = 64 * 1024;

/// Bytes of a line of the build's that are shown at once.
pub const MAX_LINE_BYTES: usize = 4096;

/// Lines of the build's last words that an error repeats.
pub const MAX_TAIL_LINES: usize = 20;

/// How long the walls may take to stand: they are up in milliseconds.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the system may take to end a build that was killed.
pub const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Differences that are told one by one.
pub const MAX_DIFFERENCES: usize = 20;

/// Files beside the expected ones that are told by name.
pub const MAX_EXTRA: usize = 20;

/// Bytes shown of either file where two begin to differ.
pub const MAX_SHOWN_BYTES: usize = 8;

/// Files that diffoscope looks into: the first ones tell what kind of difference it is.
pub const MAX_EXPLAINED: usize = 3;

/// How long diffoscope may take for one file.
pub const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(600);

/// Characters of a foreign name that a message repeats.
pub const MAX_SHOWN_CHARACTERS: usize = 200;

/// Bytes of disk for each file that a build may make: those of a page, and as good as those that the kernel needs for the file itself.
/// With the default that is two million files, as in [`MAX_BUILT_ENTRIES`].
pub const BYTES_OF_FILE: u64 = 4096;

/// Bytes of memory that one process can have over its bound, where no cgroup bounds it: so that who looks sees it above it, before the
/// kernel refuses it more.
pub const MEMORY_SLACK: u64 = 64 << 20;

/// The share of the machine's memory below which a build without a cgroup is ended. Memory can be had that no process seems to use.
pub const MIN_FREE_MEMORY_SHARE: u64 = 16;

/// How often a build is looked at: a process can fill some 100 MiB between two looks.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often it is tried to take a cgroup away, whose processes were killed: for ten seconds in all.
pub const END_ATTEMPTS: u32 = 1_000;

/// How long it is waited between two of these.
pub const END_INTERVAL: Duration = Duration::from_millis(10);

/// The least memory and disk that a build can be given: the walls use some of it themselves.
pub const MIN_SIZE: u64 = 16 << 20;

/// The most: more than any machine has.
pub const MAX_SIZE: u64 = 1 << 50;

/// The most processes that a build can be given: as many as Linux knows.
pub const MAX_PROCESSES: u64 = 4 << 20;
