//! What can go wrong in the daemon. Each variant says who erred and what the operator does next.

use std::{io, path::PathBuf};

use rutli_keys::{CeremonyId, InvalidRoster, KeyName, NodeId};
use rutli_log::checkpoint::InvalidLogKey;
use rutli_wire::tls::BadMaterial;

use rutli_signer_secrets::CannotLock;

use crate::{gate::CannotVouch, sign::KeyError};

/// Everything that stops the daemon, or a request of its custodian.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator erred: mend the configuration and start again.
    #[error("the configuration {path} does not hold: {problem}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        problem: String,
    },
    /// The custodian's rules do not hold at the start: mend the file that is named, and start again.
    #[error("the rules in {path} do not hold: {problem}", path = path.display())]
    Rules {
        /// The folder.
        path: PathBuf,
        /// File, line and reason.
        problem: String,
    },
    /// The system refused a file operation. Mend what it names, then start again.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// A verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operator erred: a secret lies open.
    #[error("{path} can be read by others (mode {mode:04o}); run: chmod 600 '{path}'", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The operator erred: the system's limit on socket paths.
    #[error(
        "the socket's path {path} has {length} bytes and the system takes at most {most}; choose a shorter `socket`",
        path = path.display()
    )]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// Another process serves there.
    #[error("another rutli-signer listens on {path}; stop it first, or give this node another `socket`", path = path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// Another process works there. Two would permit different things under the same marks.
    #[error("another rutli-signer works in {path}; stop it first, or give this node another `data_dir`", path = path.display())]
    DataInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The operator left the identity key as it was made: anybody who reads the file can act as this node.
    #[error(
        "the identity key {path} is not sealed; run: age -r {recipient} -o '{path}.sealed' '{path}' && shred -u '{path}' && \
         mv '{path}.sealed' '{path}'",
        path = path.display()
    )]
    UnsealedIdentity {
        /// The file.
        path: PathBuf,
        /// Of the seal.
        recipient: String,
    },
    /// The identity file is damaged, or was sealed to somebody else.
    #[error(
        "cannot open the sealed identity key {path}: {problem}; restore it from its backup, or seal the node's key again: \
         age -r {recipient} -o '{path}' KEY.pem",
        path = path.display()
    )]
    SealedIdentity {
        /// The file.
        path: PathBuf,
        /// Of the seal.
        recipient: String,
        /// What is wrong.
        problem: String,
    },
    /// The operator mixed up identity files or configurations.
    #[error(
        "the identity key {path} is {own}, but the [[peer]] entry of this node has {listed}; give the pair",
        path = path.display()
    )]
    OwnIdentity {
        /// The file.
        path: PathBuf,
        /// In the configuration.
        listed: String,
        /// In the file.
        own: String,
    },
    /// A bug: names and identity keys that were parsed make cosigners. Report it.
    #[error("the log's gate: {0}")]
    Cosigner(#[from] InvalidLogKey),
    /// The operator gave another party's certificate.
    #[error("[tls] certificate must name this node (rutli:node:ORGANISATION:NAME): {problem}")]
    Certificate {
        /// What it names.
        problem: String,
    },
    /// A bug. The service manager restarts the process; report it.
    #[error("the {0} ended unexpectedly; the log above says why")]
    Gone(&'static str),
    /// The operator gave wrong TLS files.
    #[error("[tls]: {0}; compare its `ca`, `certificate` and `key`")]
    Tls(#[from] BadMaterial),
    /// The system does not let the process protect its memory; it does not run without.
    #[error("cannot protect this process ({step}): {source}; a service manager or sandbox forbids it")]
    Hardening {
        /// Which step.
        step: &'static str,
        /// Why.
        source: nix::Error,
    },

    /// The system gave no thread or no runtime.
    #[error("cannot start: {source}; the system's limits on threads or files are too low")]
    Thread {
        /// Why.
        source: io::Error,
    },

    /// The disk is full, read-only or failing, or the file damaged. The node is closed until a write succeeds.
    #[error("the journal: {0}")]
    Journal(#[from] sqlx::Error),
    /// The journal was made by a newer version, or its migration was damaged. Install the newer version again.
    #[error("the journal {path} cannot be brought to this version: {problem}", path = path.display())]
    Migration {
        /// The database.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A row that this version did not write. Restore the journal from its backup.
    #[error("the journal holds a row that does not read: {0}; restore it from its backup")]
    JournalRow(String),

    /// The journal is not what this node wrote: a failing disk, a truncated copy, or somebody changed it. The
    /// node does not start with it.
    #[error(
        "the journal is damaged: {0}. Keep the file as it is for a look, and restore the newest backup with `rutli-signer \
         restore`. There is no backup: move the file away and start; the node then says that its memory is lost, and waits \
         for `rutli node resume`"
    )]
    JournalDamaged(String),

    /// The operator put the journal's witness where it is copied together with the data folder.
    #[error(
        "invalid journal_witness {witness}: it is inside of data_dir, so an old copy of that folder brings an old witness \
         with it; give a file in another folder, best on another disk",
        witness = witness.display()
    )]
    WitnessInside {
        /// The witness.
        witness: PathBuf,
    },

    /// A backup, or what it would replace, is not what it should be.
    #[error("cannot use {path}: {problem}", path = path.display())]
    Backup {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        problem: String,
    },

    /// The custodian gave a wrong passphrase; try again.
    #[error("the passphrase does not open {path}", path = path.display())]
    Passphrase {
        /// The identity file.
        path: PathBuf,
    },
    /// The operator gave a file that holds no age identity.
    #[error(
        "{path} is no age identity: want one line AGE-SECRET-KEY-1…, or an age file encrypted with a passphrase: {problem}",
        path = path.display()
    )]
    SealIdentity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The operator paired a recipient with another identity. Shares sealed so could never be opened again.
    #[error("[seal] recipient is {recipient}, but the identity file's own is {identity}; give the pair")]
    SealPair {
        /// From the configuration.
        recipient: String,
        /// From the file.
        identity: String,
    },
    /// A share file is damaged, or was sealed to somebody else. Restore it from its backup.
    #[error("the share file {path} does not open: {problem}; restore it from its backup", path = path.display())]
    ShareFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A roster file is damaged. Fetch it again from the coordinator or a peer.
    #[error("the roster file {path} does not hold: {source}; restore it from a peer or its backup", path = path.display())]
    RosterFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidRoster,
    },
    /// Sealing failed inside the age library.
    #[error("cannot seal a secret: {0}")]
    Sealing(String),
    /// See [`CannotLock`].
    #[error(transparent)]
    CannotLock(#[from] CannotLock),
    /// See [`KeyError`].
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was asked needs the shares, or the identity key.
    #[error("this node is sealed; its custodian opens it with `unseal` first")]
    Sealed,
    /// There is nothing to unseal.
    #[error("this node is not sealed")]
    NotSealed,

    /// The custodian named a ceremony that this node does not know. List them.
    #[error("this node knows no ceremony {0}; list them with `rutli ceremony list`")]
    UnknownCeremony(String),
    /// The words are not those of this ceremony: a typing error, or another ceremony than the one talked about.
    #[error(
        "this is not the verification phrase of ceremony {0}; have another custodian read it, and do not join if it differs"
    )]
    WrongWords(CeremonyId),
    /// The configuration changed since the key was made, or the roster file is another deployment's.
    #[error(
        "the roster of key {key} names {node} with identity {roster}, the configuration has {known}; put the configuration \
         back, or the roster file of this deployment"
    )]
    RosterIdentity {
        /// Which key.
        key: KeyName,
        /// Whose identity differs.
        node: NodeId,
        /// As the roster has it.
        roster: String,
        /// As the configuration has it.
        known: String,
    },
    /// There is nothing to compare yet: not all members have added their part.
    #[error(
        "the verification phrase is not known yet: it needs {0} online and unsealed; join once the phrase was compared"
    )]
    NoPhrase(String),
    /// A proposal that this node does not take part in, whoever made it.
    #[error("{0}")]
    Proposal(String),
    /// The proposal names other nodes or identity keys than this node's configuration.
    #[error(
        "the proposal names {node} {problem}; compare [[peer]] in this node's configuration with the proposal"
    )]
    Stranger {
        /// Which node.
        node: NodeId,
        /// What differs.
        problem: &'static str,
    },
    /// Keys have names for life.
    #[error("this node holds a key {0} already; propose another name")]
    KeyExists(KeyName),
    /// Both ceremonies would be certified, and the key of one be lost.
    #[error(
        "another ceremony that this node has joined makes a key {0}; wait for its end, or propose another name"
    )]
    NameInUse(KeyName),
    /// The state of the ceremony forbids it, or a peer's message did not hold.
    #[error("the ceremony: {0}")]
    Ceremony(String),
    /// Too many at one time.
    #[error("{0} ceremonies are under way at this node; end one of them first")]
    TooManyCeremonies(usize),
    /// The custodian's request is too large or empty.
    #[error("{0}")]
    Request(String),
    /// See [`CannotVouch`].
    #[error(transparent)]
    CannotVouch(#[from] CannotVouch),
    /// The node is on its way down.
    #[error("the node is stopping")]
    Stopping,
}

impl Error {
    /// An SQLite error about the file's content is damage; one about the disk is not.
    pub(crate) fn of_content(self) -> Self {
        /// `SQLITE_CORRUPT` and `SQLITE_NOTADB`, without what an extended code adds.
        const DAMAGE: [i32; 2] = [11, 26];
        match self {
            Self::JournalRow(problem) => Self::JournalDamaged(problem),
            Self::Journal(sqlx::Error::Database(error)) => {
                let code = error.code().and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff);
                match code {
                    Some(code) if DAMAGE.contains(&code) => Self::JournalDamaged(error.message().to_owned()),
                    _ => Self::Journal(sqlx::Error::Database(error)),
                }
            }
            Self::Journal(
                error
                @ (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound),
            ) => Self::JournalDamaged(error.to_string()),
            other => other,
        }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
