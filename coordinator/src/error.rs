//! Everything that can go wrong in the coordinator. Each variant says who erred, what to do next, and whether trying
//! again is safe. `server/status.rs` is the only place that turns one into a gRPC status.

use std::path::PathBuf;

use rutli_release::{ChannelKey, Class};
use rutli_wire::{convert::Malformed, role::UnknownParty};

use crate::share::Full;

/// What went wrong. Messages state the problem, then the way out; none holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller erred: a message does not parse into a release. The same again fails again.
    #[error(transparent)]
    Malformed(#[from] Malformed),

    /// The caller erred in one field. The same again fails again.
    #[error("{field}: {problem}")]
    Field {
        /// Its name in the `.proto` file.
        field: &'static str,
        /// What is wrong, and how it must be.
        problem: String,
    },

    /// The caller erred: it reused a request id for other content. It takes a new id, or sends the old content.
    #[error(
        "request id {request_id:?} was used before for other content ({release_id}): use a new request id"
    )]
    RequestIdReused {
        /// The id in question.
        request_id: String,
        /// The release that has it.
        release_id: String,
    },

    /// The caller erred: sequences go up in each channel of a class and product. It uses a higher one.
    #[error(
        "sequence {sequence} of {channel} does not go up: {highest} was signed already, give a higher one"
    )]
    SequenceBehind {
        /// The channel.
        channel: ChannelKey,
        /// What was asked for.
        sequence: u64,
        /// What was signed before.
        highest: u64,
    },

    /// Nobody erred: the numbers of a channel are used up. The caller takes another channel.
    #[error("{channel} has no sequence left: use another channel")]
    NoSequence {
        /// The channel.
        channel: ChannelKey,
    },

    /// Nobody erred: another release of the channel was signed under this number before. The caller takes a higher one.
    #[error("{channel} has another signed release under sequence {sequence}")]
    Overtaken {
        /// The channel.
        channel: ChannelKey,
        /// The number.
        sequence: u64,
    },

    /// There is nothing of that name that the caller may see. Trying again does not help.
    #[error("there is no {kind} {name:?} for you: check the name")]
    NotFound {
        /// "release", "ceremony" or "node".
        kind: &'static str,
        /// What was asked for.
        name: String,
    },

    /// Nobody erred: a signature share may be out, or the release is final. The caller waits for the end.
    #[error("{release_id} cannot be changed like that: {problem}")]
    TooLate {
        /// The release.
        release_id: String,
        /// Why.
        problem: &'static str,
    },

    /// The caller erred, or others were before it: a release has room for so much evidence, and so much of one party. The
    /// same again fails again.
    #[error("{release_id} has no room for more evidence: {problem}")]
    EvidenceFull {
        /// The release.
        release_id: String,
        /// What is full.
        problem: String,
    },

    /// The caller's certificate names a role that may not do this. Somebody with the right role does it.
    #[error("this needs the role {needed}, and your certificate says {actual}")]
    WrongRole {
        /// Roles that may.
        needed: String,
        /// The caller's.
        actual: String,
    },

    /// The caller's certificate names nobody. Whoever issued it issues another.
    #[error("your certificate is of the right authority but names no party: {0}")]
    Unknown(#[from] UnknownParty),

    /// No `[[client]]` entry lets this pipeline request this. It fails again until the operator adds one.
    #[error(
        "no [[client]] entry in coordinator.toml lets {requester:?} ask for {class} releases of {product:?}: have the \
         operator add name = \"{requester}\", classes = [\"{class}\"], products = [\"{product}\"]"
    )]
    NotListed {
        /// Who asks.
        requester: String,
        /// For what.
        class: Class,
        /// Of which product.
        product: String,
    },

    /// Nobody erred: a share is full, the caller's own or a larger one. The caller comes back later; trying again is safe.
    #[error(transparent)]
    Full(#[from] Full),

    /// Nobody erred: this name had most streams open, and others needed room. The caller polls, or watches
    /// again later.
    #[error("this stream was ended to make room: its name had most of them open; poll, or watch again later")]
    Revoked,

    /// The caller, or its network, is too slow: its request did not arrive in time. Trying again is safe.
    #[error("the request did not arrive within {seconds} s: send it again, all at once")]
    RequestTooSlow {
        /// How long it may take.
        seconds: u64,
    },

    /// The caller's fault: this call takes no such long request.
    #[error("the request has more than {most} bytes: this call takes no more")]
    RequestTooLarge {
        /// In bytes.
        most: usize,
    },

    /// Nobody erred: the log's disk does not accept writes. Trying again is safe, and succeeds once the disk
    /// works again.
    #[error(
        "{entries} log entries wait to be written: try again in a few seconds, or look after the log's disk"
    )]
    LogBehind {
        /// How many wait.
        entries: u64,
    },

    /// The operator must look after the disk, or the log: nothing can be made durable, so nothing is accepted. Trying
    /// again is safe, and works once the store is open.
    #[error("the coordinator's store is closed: {reason}")]
    StoreClosed {
        /// What the store said, and what opens it.
        reason: String,
    },

    /// Nobody erred: something else must end first, and does so by itself. Trying again is safe.
    #[error("{reason}; try again in a moment")]
    NotYet {
        /// What must end first.
        reason: String,
    },

    /// A bug, or a damaged database. The operator looks at the log; trying again is safe.
    #[error("the coordinator's store failed: {reason}")]
    Store {
        /// What the store said.
        reason: String,
    },

    /// The operator must look: store, folder and key of the log do not belong together. Nothing was started, or written.
    #[error("the transparency log: {0}")]
    Log(String),

    /// Nobody erred: no ceremony has made a key for releases yet. The custodians hold one; trying again is safe then.
    #[error("there is no key for releases yet: the custodians have to make one in a ceremony first")]
    NoKey,

    /// A bug: a result that does not fit its release. The release is signed again; nothing wrong is published.
    #[error("the result of {release_id} does not fit it: {reason}")]
    Unfit {
        /// The release.
        release_id: String,
        /// What does not fit.
        reason: String,
    },

    /// Nobody erred: the process ends. Trying again is safe, at another coordinator or a little later.
    #[error("the coordinator is stopping: try again in a moment")]
    Stopping,

    /// The node erred: it broke the order of the link. It reconnects.
    #[error("the node link: {0}")]
    Link(String),

    /// Nobody erred: the node attached again, or its stream had to start over. The node reconnects, or has
    /// reconnected.
    #[error("this stream is over: the node attached again, or its commitments did not fit; connect anew")]
    Replaced,

    /// A node erred: a ceremony message or proposal that no honest node sends. It reconnects.
    #[error("the ceremony: {0}")]
    Ceremony(String),

    /// The operator erred in the configuration. Nothing was started.
    #[error("cannot use the configuration {}: {problem}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },

    /// The operator must look after a file or folder. Nothing was started, or the old content stays in use.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        problem: String,
    },

    /// The operator must look, at once: what lies in the log's folder, or was published, is not what the store says.
    /// Nothing goes on, nothing was overwritten, and trying again does not help.
    #[error("{}: {problem}", path.display())]
    LogForked {
        /// The file or folder.
        path: PathBuf,
        /// What differs, and the way out.
        problem: String,
    },

    /// An outside witness erred, is out of reach, or has seen another log of our name. Others go on; it is asked again
    /// by itself.
    #[error("the witness {name}: {problem}")]
    Witness {
        /// Its name, from its key.
        name: String,
        /// What it said or did not say.
        problem: String,
    },

    /// The operator must look: the address cannot be used.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// From the configuration.
        address: std::net::SocketAddr,
        /// What the system said.
        reason: String,
    },

    /// The operator must look: the server ended by itself.
    #[error("the server ended: {0}")]
    Serve(String),
}

/// What comes back from most of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<crate::session::Stopped> for Error {
    fn from(_: crate::session::Stopped) -> Self {
        Self::Stopping
    }
}
