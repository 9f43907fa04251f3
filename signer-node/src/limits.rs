//! Every bound of the node, with its reason.

/// Nonce pairs kept ready for each key and stream: enough to sign an AV database of 1,000 files, next to
/// other work, with pairs made in idle time. About 300 bytes each.
pub const NONCE_POOL: usize = 2048;

/// Nonce pairs made in one go, between two looks at what waits: about five milliseconds.
pub const NONCE_STEP: usize = 64;

/// Nonce pairs made in one go while the disk works: about a millisecond, for an answer waits on it.
pub const NONCE_STEP_DURING_WRITE: usize = 16;

/// Permitted sequences of a channel that are kept, so that a release whose quorum failed can come again.
pub const RETRY_WINDOW: usize = 256;

/// Default step above its high-water mark that a node permits: room for releases that fail between two that
/// succeed, and too little for anybody to use up a channel's 2^53 numbers.
pub const MAX_STEP: u64 = 1_000;

/// Channels in the configuration for which it says where their numbers begin.
pub const MAX_FIRSTS: usize = 1_024;

/// Versions of all channels that a node remembers: 14 MiB at most. A product has a quarter: hourly releases for seven years.
pub const MAX_VERSIONS: usize = 1 << 18;

/// Channels of all products that a node keeps marks for. Policies may leave products and channels open. A product of a class has a
/// quarter.
pub const MAX_CHANNELS: usize = 4096;

/// Whether a product that has `own` of `all` may have one more, where there are at most `most`: a quarter for each, and the last tenth
/// for products that have less than a hundredth. So a pipeline of one product takes nothing from the others.
#[must_use]
pub const fn has_room(most: usize, own: usize, all: usize) -> bool {
    let open = if own < most / 100 { most } else { most - most / 10 };
    own < most / 4 && all < open
}

/// Quorums whose scaled shares are kept: each one takes a locked page.
pub const MAX_CACHED_QUORUMS: usize = 64;

/// Seconds that a coordinator's clock may be ahead of this node's.
pub const MAX_CLOCK_SKEW_S: u64 = 300;

/// Seconds between two points at which a node records the size of the log. A release can be backdated by at
/// most that, plus the difference of the clocks.
pub const REACHED_EVERY_S: u64 = 3_600;

/// Seconds for which these points are kept: as long as a request may be valid in the log, and a leap day.
pub const REACHED_KEPT_S: u64 = 366 * 86_400;

/// Seconds by which a release may be out of time and still wait until the clock is set, instead of being
/// refused: a wrong time zone, or a wrong day.
pub const MAX_CLOCK_ERROR_S: u64 = 86_400;

/// Refusals that the journal keeps; permissions it keeps for ever. A coordinator that asks for the same forbidden thing
/// again and again must not fill the disk.
pub const MAX_JOURNALED_REFUSALS: u32 = 100_000;

/// Refusals journaled between two looks for old ones to delete, so that deleting costs little.
pub const REFUSALS_BETWEEN_PRUNES: u32 = 1_000;

/// Custodians' refusals that are remembered, also in memory: some 500 bytes each, at most 4 MB; on disk, as
/// much as their files take. At a few refusals a day they last for some years …
pub const MAX_CUSTODIAN_REFUSALS: usize = 8_192;

/// … and files that they name together, at most 60 bytes each in memory: 26 refusals of the largest releases, or sixteen files
/// for each of the refusals.
pub const MAX_REFUSED_FILES: usize = 131_072;

/// Files that this node permitted and remembers, at most 90 bytes each in memory: those of 130 databases of 1,000 files, or years
/// of product builds.
pub const MAX_PERMITTED_FILES: usize = 131_072;

/// Public keys tried on the evidence of one release at a time, each in some 50 µs for each signature: as much
/// time as the policies may take (`rutli_policy::limits::MAX_TRIALS`). Most releases need some dozen. The
/// rest waits for the next time, when the results so far are remembered; approvals are not remembered, and
/// need one try each.
pub const MAX_KEY_TRIES_PER_RELEASE: usize = 1_024;

/// Documents of which it is remembered what they establish: a few for each of some thousand releases that wait …
pub const MAX_KNOWN_EVIDENCE: usize = 16_384;

/// … and bytes of what is remembered of them, about: a document may name thousands of tests.
pub const MAX_KNOWN_EVIDENCE_BYTES: usize = 16 << 20;

/// Answers to waiting releases that are kept, at most 2 KiB each: coordinators hold at most 20,000 waiting releases, and what
/// is beyond costs a search each time.
pub const MAX_KNOWN_WAITS: usize = 8_192;

/// Seconds for which they are kept: what they say of times and rates is at most so old.
pub const WAIT_KEPT_S: u64 = 600;

/// Documents that an answer says were not counted, and bytes of the reason for each: with the decision they fit into what
/// coordinators take (`rutli_wire::limits::MAX_TEXT_BYTES`).
pub const MAX_NOTES: usize = 2;

/// See [`MAX_NOTES`].
pub const MAX_NOTE_BYTES: usize = 150;

/// Bytes of a decision in words: policies have reasons of their own, and there may be many.
pub const MAX_DECISION_BYTES: usize = 600;

/// Milliseconds between two looks at the policy directory: custodians who edit it wait at most twice as long.
pub const RULES_LOOK_MS: u64 = 2_000;

/// Bytes that the probe of a failed journal writes: more than a small hole on a full disk.
pub const PROBE_BYTES: u32 = 256 << 10;

/// Milliseconds between two writes of the journal's witness: at most one extra fsync in this time, and a
/// crash leaves no more than this unwitnessed.
pub const JOURNAL_WITNESS_MS: u64 = 1_000;

/// Bytes of the journal's witness: three chains, and a head of some 200 bytes for each log that was ever followed.
pub const MAX_JOURNAL_WITNESS_BYTES: u64 = 64 << 10;

/// Milliseconds between two probes of a failed journal, and between two looks at the clocks.
pub const TICK_MS: u64 = 1_000;

/// Milliseconds after such a trace for which no nonces are made: until then the kernels of two copies of one machine may
/// give the same randomness, for Linux reseeds once a minute.
pub const NONCE_PAUSE_MS: i64 = 60_000;

/// Seconds by which the wall clock may be behind the newest line of the journal: corrections of the time service.
pub const MAX_CLOCK_BACKSTEP_S: u64 = 60;

/// Milliseconds by which two clocks that run alike may part before the process counts as suspended, copied or resumed.
pub const MAX_CLOCK_DRIFT_MS: i64 = 5_000;

/// Messages that wait for the signer's thread; a batch may have 8 MiB. A link that finds no room waits, and HTTP/2 holds
/// its coordinator back.
pub const NODE_QUEUE: usize = 8;

/// Batches that are open at one time, of all coordinators: each may have 8 MiB, and a coordinator has five
/// under way at most. Further batches are answered at once as undecided.
pub const MAX_OPEN_BATCHES: usize = 8;

/// Milliseconds that the decisions of a batch may take from its arrival; the rest is answered as undecided.
/// With journal, shares and the way back, an answer arrives within a second, and a release that shares a
/// batch with expensive ones waits no longer than that.
pub const BATCH_MS: i64 = 500;

/// Milliseconds of decisions after which a batch yields to those that have used less: one decision at its
/// bound (`rutli_policy::limits::MAX_TRIALS`), or a whole batch of usual ones.
pub const BATCH_TURN_MS: i64 = 50;

/// Milliseconds of decisions after which a batch of AV databases no longer goes before product builds: usual ones take a few.
pub const URGENT_MS: i64 = 250;

/// Milliseconds that a decided batch waits for other cheap ones to share one write to the journal: the time
/// of such a write.
pub const JOURNAL_GROUP_MS: i64 = 5;

/// Messages that wait to be sent to one coordinator; one that does not read loses its stream.
pub const OUTBOX: usize = 256;

/// Messages of an outbox that stay free for answers while commitments are announced.
pub const OUTBOX_RESERVE: usize = 128;

/// Envelopes that wait for the ceremonies' task.
pub const CEREMONY_QUEUE: usize = 32;

/// Coordinators that one node dials.
pub const MAX_COORDINATORS: usize = 16;

/// Peers in the configuration: all nodes of the deployment, over several keys.
pub const MAX_PEERS: usize = 256;

/// Bytes of the configuration file.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Bytes of a PEM or age file that the configuration names, and of a share file.
pub const MAX_KEY_FILE_BYTES: u64 = 256 << 10;

/// Ceremonies under way at one time: people take part in each of them.
pub const MAX_OPEN_CEREMONIES: usize = 16;

/// Ended ceremonies that are remembered, so that a late peer still gets this node's messages.
pub const MAX_ENDED_CEREMONIES: usize = 32;

/// Messages that a ceremony's transcript may hold: eight steps of 128 nodes, and a rejection and abort of each.
pub const MAX_TRANSCRIPT_MESSAGES: u32 = 1_280;

/// Bytes of a Unix socket's path (`sun_path` of `unix(7)` has 108 with the closing zero).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Connections at the custodian's socket at one time: a person and a few scripts.
pub const MAX_CUSTODIANS: usize = 16;

/// Bytes of one custodian request: a proposal, and room.
pub const MAX_CUSTODIAN_REQUEST_BYTES: usize = 256 << 10;

/// Milliseconds for one custodian request: `unseal` takes a second on purpose, and more on a busy machine.
pub const CUSTODIAN_TIMEOUT_MS: u64 = 60_000;

/// Bytes of a passphrase.
pub const MAX_PASSPHRASE_BYTES: usize = 1024;

/// Bytes of a reason that the custodian gives.
pub const MAX_REASON_BYTES: usize = 500;

/// Milliseconds for dialling a coordinator, with the TLS handshake.
pub const DIAL_TIMEOUT_MS: u64 = 5_000;

/// Milliseconds until the first try to dial again …
pub const FIRST_BACKOFF_MS: u64 = 50;

/// … and at most, before jitter: a coordinator that is back is found soon.
pub const LAST_BACKOFF_MS: u64 = 1_000;

/// Milliseconds that a stream must have lived for the next dial to begin with the shortest wait again.
pub const STEADY_STREAM_MS: u64 = 5_000;

/// Milliseconds that an orderly end may take, with its goodbye.
pub const GOODBYE_MS: u64 = 2_000;

/// HTTP/2 flow control of the link, in bytes: a large batch flows without waiting for the window, and no coordinator
/// makes a node hold more than this for each stream.
pub const LINK_WINDOW_BYTES: u32 = 2 << 20;

/// Work factor of a passphrase that is accepted: 2^20 takes about 1 GiB of memory while `unseal` runs, a usual one
/// (2^18) a quarter of it.
pub const MAX_SCRYPT_LOG_N: u8 = 20;

/// Work factor below which a passphrase is refused: each step down halves the cost of guessing it. 2^15 takes
/// a tenth of a second and 32 MiB for each guess; the `age` command writes 2^18.
pub const MIN_SCRYPT_LOG_N: u8 = 15;

/// Bytes of the beginning of an age file that have its work factor: two short lines.
pub const SCRYPT_STANZA_BYTES: u64 = 256;

/// Bytes of a journal in a backup: some 50 million permissions. Anything larger is not a backup of a node.
pub const MAX_BACKUP_JOURNAL_BYTES: u64 = 64 << 30;
