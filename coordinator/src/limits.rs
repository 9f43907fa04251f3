//! Bounds of the coordinator, each with its reason. What crosses the wire is bounded in
//! [`rutli_wire::limits`]. What a peer uses is a share of a bound, see [`crate::share`].

use rutli_wire::limits as wire_limits;

/// Unfinished releases when the configuration does not say: a mass rebuild of a distribution fits, and each costs a
/// task and its content in memory.
pub const DEFAULT_WAITING_RELEASES: u32 = 10_000;

/// Pending embargoes: the default, and the most that a configuration may allow. Half of what monitors keep in
/// mind, because as many again may be admitted while they are counted.
pub const MAX_EMBARGOES: u32 = 10_000;

/// Seconds after which a client may retry when too many embargoes are pending: they end by the day.
pub const EMBARGO_RETRY_SECONDS: u64 = 3_600;

/// Most unfinished releases that a configuration may allow: as many as monitors keep in mind
/// ([`rutli_log::limits::MAX_OPEN`]).
pub const MAX_WAITING_RELEASES: u32 = 20_000;
const _: () = assert!(MAX_WAITING_RELEASES as usize <= rutli_log::limits::MAX_OPEN);

/// MiB of content and evidence of all unfinished releases when the configuration does not say. Contents are kept decoded, in
/// about the same size again, and the whole process has to stay below 256 MiB; a release of one file takes 0.3 KiB, the
/// largest 2.2 MB.
pub const DEFAULT_WAITING_MEBIBYTES: u32 = 64;

/// Bytes of evidence from custodians beyond that: a thousand approvals and refusals, which pipelines must not keep out
/// by what they ask for.
pub const WAITING_BYTES_FOR_CUSTODIANS: u64 = 4 << 20;

/// Least value of bounds in MiB: the largest message has to fit into a quarter, one name's share.
pub const LEAST_MEBIBYTES: u32 = 48;
const _: () = assert!(LEAST_MEBIBYTES as usize * (1 << 20) / 4 >= wire_limits::MAX_MESSAGE_BYTES);

/// Largest value of bounds in MiB: more would not fit into a small machine.
pub const MOST_MEBIBYTES: u32 = 4_096;

/// Default MiB of requests that are being received: two of the largest for one name.
pub const DEFAULT_REQUEST_MEBIBYTES: u32 = 64;

/// Bytes of a request that are received before its name may have to wait, because it sent more than its share within a
/// second. Usual requests are smaller.
pub const PACED_BYTES: u64 = 32 << 10;

/// Default MiB of answers that are being sent: one of the largest for one name (12 MB, see
/// [`wire_limits::MAX_RESPONSE_BYTES`]).
pub const DEFAULT_ANSWER_MEBIBYTES: u32 = 64;

/// Default seconds that a request may take to arrive: the largest over 7 Mbit/s.
pub const DEFAULT_REQUEST_SECONDS: u32 = 10;

/// Default seconds that an answer may go without being read: a reader may stop, or lose its network, for a
/// moment.
pub const DEFAULT_ANSWER_SECONDS: u32 = 30;

/// Largest value for either.
pub const MAX_SECONDS: u32 = 600;

/// Bytes of an answer that are handed to HTTP/2 at a time. Bytes that are handed over are no longer counted.
pub const ANSWER_PIECE_BYTES: usize = 32 << 10;

/// Default number of releases and documents of evidence in an hour: a mass rebuild of a distribution fits
/// into one name's quarter.
pub const DEFAULT_REQUESTS_PER_HOUR: u32 = 40_000;

/// The most of these.
pub const MAX_REQUESTS_PER_HOUR: u32 = 100_000_000;

/// Default MiB by which requests may make store and log grow in an hour. One name's quarter is 30,000
/// releases of one file, or some fifty of 5,000.
pub const DEFAULT_MEBIBYTES_PER_HOUR: u32 = 2_048;

/// The most of these.
pub const MAX_MEBIBYTES_PER_HOUR: u32 = 1 << 20;

/// Bytes that are charged for what a release leaves behind whatever is in it: rows with their indices, entries of the log
/// with their hashes, its outcome with the reasons of refusals, bundle and proof.
pub const CHARGED_PER_RELEASE: u64 = 12 << 10;

/// How often a release's statement may be kept: in the log's folder, and once it is signed in the envelope (base64), in the
/// statement file, and in the bundle (base64).
pub const CHARGED_STATEMENTS: u64 = 5;

/// Bytes that are charged for each signature and its file.
pub const CHARGED_PER_SIGNATURE: u64 = 512;

/// Bytes that are charged for each document of evidence beside its own: row, index and entry.
pub const CHARGED_PER_DOCUMENT: u64 = 1 << 10;

/// Requests, large or with evidence, that are worked on at the same time, at most one per name: nobody keeps all processors busy
/// with megabytes of JSON.
pub const READING_EVIDENCE: u64 = 4;

/// Pieces of evidence of one release that one party brings, so that nobody fills a release's room for the others: a pipeline
/// has a handful of builders and testers, and a custodian says one thing …
pub const MAX_EVIDENCE_OF_SUBMITTER: usize = 16;

/// … and their bytes: half of what a release may have, enough for two attestations of the largest one.
pub const MAX_EVIDENCE_BYTES_OF_SUBMITTER: usize = rutli_wire::limits::MAX_EVIDENCE_TOTAL_BYTES / 2;

/// Bytes of a release's evidence that attestations leave to approvals and refusals: as many as a release may have documents, of fewer
/// than 4 KiB each, and one refusal that names the most files, 78 bytes each. Two parties together could fill the rest.
pub const EVIDENCE_BYTES_FOR_WORDS: usize = rutli_wire::limits::MAX_EVIDENCE * (4 << 10) + (384 << 10);

/// Pieces of evidence of a release that all others leave to custodians: of these each may bring
/// [`MAX_EVIDENCE_OF_SUBMITTER`].
pub const EVIDENCE_OF_CUSTODIANS: usize = rutli_wire::limits::MAX_EVIDENCE / 2;

/// The part of the queue that is reserved for AV databases, as a divisor: a mass rebuild must not lock out
/// the next update of an anti-virus database.
pub const RESERVED_FOR_AV: u64 = 10;

/// Seconds after which a client may retry when the queue is full.
pub const QUEUE_RETRY_SECONDS: u64 = 2;

/// Hours after which an unsigned release expires, when the configuration does not say: a long weekend of approvals.
pub const DEFAULT_LIFETIME_HOURS: u32 = 168;

/// Longest lifetime of a release that a configuration may allow: a year.
pub const MAX_LIFETIME_HOURS: u32 = 8_760;

/// Seconds between two looks at the clock while a release waits to expire, so that a clock set by hand is noticed.
pub const EXPIRY_LOOK_SECONDS: u64 = 600;

/// Default number of client connections.
pub const DEFAULT_CONNECTIONS: u32 = 1_000;

/// Default number of node connections. A node's quarter is far more than it needs: one, and a second while it
/// attaches again.
pub const DEFAULT_NODE_CONNECTIONS: u32 = 256;

/// Most connections that a configuration may allow: each costs a file descriptor and some 50 KiB.
pub const MAX_CONNECTIONS: u32 = 100_000;

/// Default number of handshakes under way. A flood of 400 a second from one address block leaves each half a
/// second to send its first bytes, and the whole time of a handshake after that.
pub const DEFAULT_HANDSHAKES: u32 = 1_024;

/// Most handshakes that a configuration may allow: each costs a file descriptor and some 50 KiB.
pub const MAX_HANDSHAKES: u32 = 16_384;

/// HTTP/2 streams that a peer may have open on one connection.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 256;

/// Bytes that a peer may send on one connection, and on one stream of it, before they are read. Calls that
/// wait for their turn are not read.
pub const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes of HTTP/2 headers of one call.
pub const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Default number of unary calls, from their beginning until the answer is sent. One name's quarter is as
/// many as one connection has.
pub const DEFAULT_CALLS: u32 = 1_024;

/// Most calls that a configuration may allow.
pub const MAX_CALLS: u32 = 65_536;

/// Calls that are processed at the same time. One name has a quarter, and its other calls wait. This many
/// calls share one commit of the store, and nobody waits long behind another name's.
pub const MAX_TURNS: u64 = 256;

/// Bytes from which work is done in turns of its name, each followed by a pause at least three times as long as it took, up to
/// [`REST_MOST_MS`]: a large request, its documents, or a page of releases, which is counted at its largest. What a pipeline
/// in a hurry sends and reads is smaller.
pub const LARGE_WORK_BYTES: u64 = 32 << 10;

/// Number of files from which a request is large: each is checked and encoded several times.
pub const LARGE_WORK_FILES: u64 = 64;

/// See [`LARGE_WORK_BYTES`].
pub const LARGE_WORK_RESTS: u32 = 3;

/// Errors per second that one name receives without delay. Further ones come a second later …
pub const PROMPT_ERRORS: u64 = 16;

/// … up to this many in total, a quarter of them for one name: each costs a few KiB until then.
pub const MAX_ERRORS: u64 = 16_384;

/// Seconds that a call waits for its turn, behind others of its own name.
pub const TURN_SECONDS: u64 = 10;

/// Seconds within which a call must be read and answered (a stream: begun).
pub const CALL_TIMEOUT_SECONDS: u64 = 60;

/// Default number of watchers' streams.
pub const DEFAULT_WATCHERS: u32 = 4_096;

/// Most watchers that a configuration may allow.
pub const MAX_WATCHERS: u32 = 65_536;

/// `[[client]]` entries in the configuration.
pub const MAX_CLIENTS: usize = 10_000;

/// Seconds after which a connection is asked to end (no new calls), so that withdrawn or renewed certificates take
/// effect within a day; node links and watchers are ended by their own clocks at the same age.
pub const CONNECTION_AGE_SECONDS: u64 = 24 * 3600;

/// Seconds over [`CONNECTION_AGE_SECONDS`] after which a connection is cut, whatever is open on it.
pub const CONNECTION_GRACE_SECONDS: u64 = 3600;

/// Node links end at different times, up to so many seconds before the age of their connection: never a whole
/// organisation at once.
pub const LINK_AGE_SPREAD_SECONDS: u64 = 3600;

/// Seconds between two looks at the TLS files.
pub const TLS_POLL_SECONDS: u64 = 2;

/// Bytes of one TLS file; certificates and keys have a few KiB, a list of authorities some more.
pub const MAX_TLS_FILE_BYTES: u64 = 1 << 20;

/// Bytes of the configuration.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Seconds that a node has for its first message.
pub const HELLO_TIMEOUT_SECONDS: u64 = 10;

/// Messages on their way to one node. The engine has a few batches open per node at most; a node that does not read
/// them is slow, and is treated as such.
pub const LINK_OUTBOX: usize = 64;

/// Messages handed to HTTP/2 for one node but not yet written.
pub const LINK_WRITE_BUFFER: usize = 4;

/// Unfinished ceremonies, by the rule of [`share::check`](crate::share::check): a quarter for each proposer, three quarters for its
/// organisation. They are made by people, one at a time.
pub const MAX_OPEN_CEREMONIES: u64 = 8;

/// Finished ceremonies that are kept in memory for nodes that missed the end, and shown to operators.
pub const KEPT_CEREMONIES: usize = 32;

/// Ceremonies in memory, open and finished, by the same rule. A finished one is not forgotten before its deadline, because
/// nodes propose again what they believe to be under way.
pub const MAX_CEREMONIES: u64 = 128;

/// Aborted ceremonies that the store keeps; those that made keys are kept for ever.
pub const STORED_ABORTED_CEREMONIES: i64 = 1_000;

/// Finished ceremonies are replayed to nodes for so many seconds after their end, for a node that missed it.
pub const REPLAY_SECONDS: u64 = 7 * 24 * 3600;

/// Seconds after its deadline in which a ceremony still takes what was sent just in time.
pub const CEREMONY_GRACE_SECONDS: u64 = 30;

/// Messages of one ceremony in one envelope: the largest are 96 KiB, so that an envelope stays below a message.
pub const MAX_ENVELOPE_BYTES: usize = 2 << 20;

/// Size in bytes from which the check of a store at the start takes more than a few seconds, and is logged.
pub const LARGE_STORE_BYTES: u64 = 256 << 20;

/// Operations that wait for the store's writer. Senders beyond that wait themselves.
pub const STORE_QUEUE: usize = 1_024;

/// Operations in one transaction: more would only make the first wait for the last. Also keeps the number of bound
/// parameters far below the 32,766 of `SQLite`.
pub const MAX_GROUP: usize = 256;

/// Rows of the log's staging in one statement.
pub const LOG_ROWS_PER_INSERT: usize = 512;

/// Tiles of the log's tree in memory, of 16 KiB each: the newest, from which almost all proofs are drawn.
pub const LOG_TILES_IN_MEMORY: usize = 256;

/// Entries that are written to the log's folder at a time: many full tiles, little memory.
pub const LOG_WRITE_ENTRIES: i64 = 4_096;

/// Bytes of documents that are written to the log's folder at a time.
pub const LOG_WRITE_BYTES: usize = 16 << 20;

/// Entries that may wait to be written to the log's folder, before nothing more is admitted: its disk is full, or gone.
pub const LOG_STAGED_ENTRIES: u64 = 100_000;

/// Releases whose proofs are made at a time.
pub const LOG_PROOFS_AT_ONCE: i64 = 64;

/// Milliseconds from one round of the log to the next: a proof follows its signature at once for people, and under load
/// one fsync of each node covers what was signed in a quarter of a second.
pub const LOG_ROUND_MS: u64 = 250;

/// Milliseconds that a round waits for the nodes' cosignatures: a link around the world and a slow disk.
pub const LOG_COSIGN_MS: u64 = 1_500;

/// Milliseconds that a round waits for more cosignatures once it has a quorum's.
pub const LOG_STRAGGLERS_MS: u64 = 150;

/// Milliseconds more that a round waits for witnesses outside of the deployment that answered the last time.
pub const LOG_OUTSIDE_MS: u64 = 500;

/// Milliseconds until a round that failed, or whose quorum did not come, is tried again.
pub const LOG_RETRY_MS: u64 = 2_000;

/// Milliseconds until the next round when nothing happens, so that the published cosignatures say that all is well.
pub const LOG_IDLE_MS: u64 = 60_000;

/// Seconds between two looks for embargoes that are to end.
pub const EMBARGO_LOOK_SECONDS: u64 = 1;

/// Refusals that an outcome's entry names: with reasons of 300 bytes they stay far below an entry's bound.
pub const LOGGED_REFUSALS: usize = 64;

/// Releases of one requester that are cancelled at a time: they share commits.
pub const CANCELLED_AT_ONCE: usize = 64;

/// Releases whose embargo is ended at a time.
pub const DISCLOSED_AT_ONCE: i64 = 64;

/// Bytes of content in one transaction.
pub const MAX_GROUP_BYTES: usize = 16 << 20;

/// Seconds between two attempts of a closed store to write.
pub const PROBE_SECONDS: u64 = 1;

/// Bytes that such an attempt writes: what a few releases need.
pub const PROBE_BYTES: usize = 256 << 10;

/// Milliseconds after which nodes are asked again that permit a release later, by a time window or a rate: each time costs
/// them nonces.
pub const ASK_LATER_MS: u64 = 60_000;

/// Connections for reading the store. Callers' reads are shares of so many: a quarter is one name's.
pub const STORE_READERS: u32 = 8;

/// Largest page of a list.
pub const MAX_PAGE: u32 = 200;

/// Page of a list when the caller does not say.
pub const DEFAULT_PAGE: u32 = 50;

/// Bytes of a page: it ends early rather than to exceed what clients take by default (4 MiB).
pub const MAX_PAGE_BYTES: usize = 3 << 20;

/// Up to so many signatures are checked on the spot when a release is published; more go to a thread of their own,
/// so that a release of 5,000 files does not hold up the others.
pub const INLINE_SIGNATURES: usize = 32;

/// Seconds before a release is signed again whose signatures turned out not to fit it.
pub const RESIGN_SECONDS: u64 = 10;

/// Seconds that the process waits at its end for open streams after it said goodbye.
pub const SHUTDOWN_SECONDS: u64 = 5;

/// Signatures in a batch while several requesters have releases in the queue: nodes make them in some thirty milliseconds,
/// and nobody waits long behind another's. A requester alone may fill a batch ([`wire_limits::MAX_BATCH_SLOTS`]).
pub const SHARED_BATCH_SLOTS: usize = 128;

/// Signatures in a batch of heavy or costly requesters meanwhile: others' batches wait behind it at every node.
pub const APART_BATCH_SLOTS: usize = 32;

/// Milliseconds of decisions that are planned into such a batch, for the same reason. A single release always goes.
pub const APART_BATCH_COST_MS: u64 = 50;

/// Bytes of such a batch: some large releases, which nodes take longer to read than to decide.
pub const APART_BATCH_BYTES: usize = 512 << 10;

/// Sessions under way at once. Two keep the nodes busy while the coordinator aggregates; one more is kept free …
pub const MAX_SESSIONS: usize = 3;

/// … of product builds, so that an AV database never waits for a mass rebuild to leave the nodes.
pub const MAX_SESSIONS_BULK: usize = 2;

/// Bytes of a release in a batch beside content, evidence and commitments: its proof in the log, the digests of what came with
/// it, names and slots.
pub const ITEM_BYTES: usize = 8 << 10;

/// Bytes of an entry of added evidence in a batch: its proof, names and one digest; the digests of 64 documents are in
/// [`ITEM_BYTES`] already.
pub const ADDED_BYTES: usize = 3 << 10;

/// Bytes of commitments that a release whose content and evidence fill a batch has beside them: with the largest of both that
/// stays below [`rutli_wire::limits::MAX_MESSAGE_BYTES`], and is 128 signatures of the largest quorum.
pub const LONE_COMMITMENT_BYTES: usize = 1 << 20;

/// Batches of AV databases in a row before product builds that wait get one: urgent, but never alone in the world.
pub const URGENT_RUN: u32 = 8;

/// Extra sessions for heavy and for costly requesters: one for each class, so that here, too, a database never waits for
/// a build. Nodes expect five batches of a coordinator in total.
pub const MAX_SESSIONS_APART: usize = 1;

/// Microseconds for a decision from which a requester's releases are kept apart from those of others. Usual
/// decisions take less than a thousand; new and large evidence takes some thousands.
pub const COSTLY_US: u64 = 10_000;

/// Roughly how many releases are remembered per requester, by whether they were signed.
pub const RELEASES_REMEMBERED: u32 = 32;

/// A requester is seldom signed if fewer than one in this many of its releases is. One that waits for evidence first counts
/// twice: as not signed, and as signed.
pub const SELDOM: u32 = 8;

/// How many times its duration costly requesters pause after a batch while others are active: a quarter of the time is
/// theirs.
pub const COSTLY_RESTS: u64 = 3;

/// The same for a heavy requester: half of the time is its own.
pub const HEAVY_RESTS: u64 = 1;

/// For this many milliseconds after the last signature requested for others, a requester may be heavy: longer than a busy
/// pipeline is between two releases, and so short that hardly any budget keeps another requester heavy for most of an hour.
pub const HEAVY_MS: u64 = 200;

/// Or, if that is longer, as long as this many batches lately took: on a slow or busy machine, or over a long way, a pipeline
/// takes longer between two releases.
pub const HEAVY_BATCHES: u64 = 8;

/// The longest such time, in milliseconds: with more, a trickle would keep somebody heavy.
pub const HEAVY_MOST_MS: u64 = 400;

/// A requester is heavy if it requests more than this multiple of the signatures of all others together …
pub const HEAVY_TIMES: u64 = 3;

/// … and recently at least this number in a class: half of a shared batch.
pub const HEAVY_LEAST: u64 = 64;

/// Milliseconds after which signatures that were asked for count half.
pub const ASKED_HALVES_MS: u64 = 1_000;

/// Milliseconds of the longest such pause: a node may be silent until a deadline.
pub const REST_MOST_MS: u64 = 2_000;

/// Milliseconds between two times that a node's change of status has waiting releases asked about again.
pub const STATUS_ASKS_MS: u64 = 1_000;

/// Milliseconds for which others count as active after their last batch: a pipeline that requests one release at a time is
/// between two.
pub const USUAL_MS: u64 = 1_000;

/// Milliseconds after which the recorded cost of a requester has halved.
pub const COST_HALVES_MS: u64 = 30_000;

/// With each cheaper decision, the recorded cost of a requester goes down by this fraction of the difference.
pub const COST_FADES: u64 = 16;

/// Microseconds for a decision below which nothing is recorded: below the resolution of a node's clock.
pub const COST_FORGOTTEN_US: u64 = 1_000;

/// Requesters whose costs are known at one time: each has a certificate.
pub const MAX_KNOWN_COSTS: usize = 1_024;

/// Milliseconds of decisions that are planned into one batch: half of what a node takes (`BATCH_MS` there), for not every node
/// is as fast as the one that said how long it took.
pub const BATCH_COST_MS: u64 = 250;

/// Least milliseconds that a node must work on a batch before it leaves the rest undecided: half of its
/// `BATCH_MS`. A node that gives up sooner is not chosen for a while.
pub const UNDECIDED_LEAST_MS: u64 = 250;

/// Ended sessions that may still get answers: a node's decision counts even if it arrives late.
pub const MAX_LATE_SESSIONS: usize = 16;

/// Seconds by which a node's clock may differ before operators are warned: well below what nodes refuse for.
pub const CLOCK_WARNING_S: u64 = 60;

/// Milliseconds that a node has for any batch, on top of what its own recent times say: covers a fsync on a slow disk.
pub const REPLY_BASE_MS: u64 = 2_000;

/// A node has so many times its own recent time for each signature.
pub const REPLY_PATIENCE: u64 = 8;

/// Milliseconds of the longest wait for a reply, whatever a node's recent times say.
pub const REPLY_MOST_MS: u64 = 30_000;

/// Milliseconds per signature that a node is taken to need before it was ever measured.
pub const FIRST_GUESS_MS: u64 = 5;

/// Milliseconds that a node is not chosen after it did not answer in time; doubled each time in a row …
pub const SUSPEND_MS: u64 = 2_000;

/// … up to this.
pub const SUSPEND_MOST_MS: u64 = 60_000;

/// Times in a row that a node may ask for another consistency proof and is asked again at once. Each time it says where
/// its head is, so that the next proof fits, unless every session had a batch under way by then: twice for each of them.
pub const MAX_LOG_GAPS: u32 = 6;

/// Commitments of one node and key that are kept parsed: the node's pool and one more announcement.
pub const MAX_POOL: usize = 4_096;

/// Keys per node that commitments are kept for.
pub const MAX_POOLS_PER_NODE: usize = 64;

/// Quorums whose keys are kept ready.
pub const MAX_CACHED_QUORUMS: usize = 64;

/// Seconds between two messages to the engine that an expired release is no longer wanted.
pub const ABANDON_AGAIN_SECONDS: u64 = 5;

/// Bytes of a request that only names something.
pub const MAX_SMALL_MESSAGE_BYTES: usize = 16 << 10;

/// A node that is passed over loses this fraction of its remembered time for a signature: after some five quorums
/// without it, a node that was slow once counts as twice as fast.
pub const PACE_FADES: u64 = 8;

/// Witnesses outside of the deployment: each is asked for every head that is published, and a checkpoint has room for a
/// hundred cosignatures, the nodes' among them.
pub const MAX_WITNESSES: usize = 16;

/// Bytes of a URL in the configuration: what HTTP servers commonly take.
pub const MAX_URL_BYTES: usize = 2_048;

/// Connections of the log's web server, a quarter for each block of addresses: a proxy before it has enough. A further one
/// ends the oldest of the block that has most: an answer takes milliseconds, so that it had its time. Each costs a file
/// descriptor or two, and about 100 KiB.
pub const WEB_CONNECTIONS: u64 = 1_024;

/// Bytes of a request's line and headers there, and of what is written before the reader takes it.
pub const WEB_BUFFER_BYTES: usize = 16 << 10;

/// Headers of a request there: browsers behind proxies send some thirty.
pub const WEB_HEADERS: usize = 64;

/// Seconds that a reader of the log has for a request's headers, and may be silent between two requests.
pub const WEB_HEADER_SECONDS: u64 = 10;

/// Seconds after which a connection there takes no further request …
pub const WEB_CONNECTION_SECONDS: u64 = 120;

/// … and seconds that it then has for the rest of its last answer: a full bundle of usual entries over 64 kbit/s.
pub const WEB_GRACE_SECONDS: u64 = 60;

/// Seconds that an outside witness has for one answer, with connecting and all: it may be on another continent, and
/// syncs a disk. Nobody waits for it but its own task.
pub const WITNESS_SECONDS: u64 = 15;

/// Bytes of a witness's answer, and of its headers: a cosignature line has 250.
pub const WITNESS_ANSWER_BYTES: usize = 16 << 10;

/// Questions to a witness for one cosignature: one learns its size, the next has the proof from there.
pub const WITNESS_QUESTIONS: u32 = 2;

/// Seconds that a witness is left alone after an error; doubled each time in a row …
pub const WITNESS_RETRY_SECONDS: u64 = 2;

/// … up to this.
pub const WITNESS_RETRY_MOST_SECONDS: u64 = 600;

/// Channels whose high-water marks the engine remembers: nodes report a forgotten mark again.
pub const KNOWN_CHANNELS: usize = 4_096;

/// How far above the signed ones a requested number counts in the search for the next free one. It is the
/// default step of a node, so nodes permit the number that is given.
pub const NEXT_REACH: u64 = 1_000;
