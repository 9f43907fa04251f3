//! What the coordinator must not forget: releases, evidence, results, culprits, ceremonies and keys, in one SQLite file.
//!
//! **Persist, then answer.** Every change goes to one writer task, which takes all that waits into one transaction
//! (group commit) and answers after the commit; with `synchronous=FULL` a commit is on the disk. So whatever a caller
//! was told survives `kill -9` and a power cut, and what it was not told may or may not be there: it asks again, and
//! request ids make that safe. Reads have connections of their own and never wait for the writer.
//!
//! **A disk that does not take writes closes the store**: every change is refused at once with the reason, nothing is
//! half done, and the writer tries again each second until a write succeeds ([`Store::health`]). A log that is stopped
//! closes it until the next start ([`Log::stop_if_contradicted`]).

mod admission;
mod budget;
mod checksum;
mod evidence;
mod read;
mod staging;
mod writer;

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rutli_keys::NodeId;
use rutli_log::{Hash, Head, LogSigner, SignedCheckpoint, entry::Embargo};
use rutli_release::{ChannelKey, ReleaseId, RequestId, Requester, Sequence};
use rutli_wire::v1;
use sqlx::{
    ConnectOptions as _, Connection as _, SqlSafeStr as _, SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot, watch};

pub use budget::{Charge, Hourly};
pub use evidence::{AllEvidence, NewEvidence};
pub use read::{Page, ReleaseFilter, StoredCeremony, StoredRelease};
pub use staging::{LoggedTerms, Staged, Unproven};

use crate::{
    error::{Error, Result},
    evidence::Document,
    limits,
    log::{
        Log,
        folder::{Appender, LogFolder},
        sequencer::Sequencer,
    },
};
use writer::{Done, Job, Op, Told, Writer};
pub(crate) use writer::{signed, unsigned};

/// The file in the data folder.
pub const FILE_NAME: &str = "coordinator.sqlite";

/// A handle; clones share the same store.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    reads: SqlitePool,
    health: watch::Receiver<Health>,
    log: Log,
}

/// Whether changes can be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Open,
    /// No, for this reason.
    Closed(String),
}

/// Place of a release in the order of admission, and its key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseNumber(pub i64);

/// A release to be admitted.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// Its name from now on.
    pub release_id: ReleaseId,
    /// Who asks.
    pub requester: Requester,
    /// Under which id.
    pub request_id: RequestId,
    /// What the client sent, without the time of admission.
    pub request_digest: [u8; 32],
    /// What its sequence goes up in.
    pub channel: ChannelKey,
    /// Must be above all signed ones of the channel.
    pub sequence: Sequence,
    /// Encoded [`v1::ReleaseContent`].
    pub content: Vec<u8>,
    /// What came with it. Brought by the requester's pipeline.
    pub evidence: Vec<Document>,
    /// How many signatures it needs.
    pub signatures: u32,
    /// Unix seconds.
    pub created_at: u64,
    /// How it is logged.
    pub logged: NewLogged,
    /// Who is charged for it.
    pub charge: Charge,
}

/// The log's side of a release that is admitted.
#[derive(Clone, Debug)]
pub struct NewLogged {
    /// Its `request` entry, encoded.
    pub entry: Vec<u8>,
    /// SHA-256 of the roster that the entry names.
    pub roster: Hash,
    /// Unix seconds, as in the entry.
    pub deadline: u64,
    /// If it is logged under embargo.
    pub embargo: Option<Embargo>,
}

/// What became of a [`NewRelease`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is durable, and in the log at this index.
    New(ReleaseNumber, u64),
    /// The same request was admitted before.
    Known(ReleaseId),
}

/// How a release ended.
#[derive(Clone, Debug)]
pub struct Ending {
    number: ReleaseNumber,
    state: v1::ReleaseState,
    outcome: Vec<u8>,
    files: Option<Vec<u8>>,
    entries: Vec<Vec<u8>>,
}

impl Ending {
    /// Takes from the release's message what is kept: state, refusals, signers, key, time of the end, and the files.
    /// `entries` are what the log says of it; the last one is what is proved of a signed release.
    #[must_use]
    pub fn new(number: ReleaseNumber, ended: &v1::Release, entries: Vec<Vec<u8>>) -> Self {
        let outcome = v1::Release {
            refusals: ended.refusals.clone(),
            signed_by: ended.signed_by.clone(),
            key: ended.key.clone(),
            signatures_done: ended.signatures_done,
            finished_at: ended.finished_at,
            overtaken_by: ended.overtaken_by,
            ..v1::Release::default()
        };
        let files = v1::Release { files: ended.files.clone(), ..v1::Release::default() };
        Self {
            number,
            state: ended.state(),
            outcome: outcome.encode_to_vec(),
            files: (!files.files.is_empty()).then(|| files.encode_to_vec()),
            entries,
        }
    }
}

/// One change of a ceremony, all or nothing.
#[derive(Clone, Debug, Default)]
pub struct CeremonyChange {
    /// 64 hex digits.
    pub ceremony_id: String,
    /// Set when it begins: the signed proposal and the time.
    pub begun: Option<(Vec<u8>, u64)>,
    /// New messages, encoded.
    pub messages: Vec<Vec<u8>>,
    /// Set when it ends.
    pub ended: Option<CeremonyEnd>,
}

/// How a ceremony ended.
#[derive(Clone, Debug)]
pub struct CeremonyEnd {
    /// Done or aborted.
    pub state: v1::CeremonyState,
    /// Unix seconds.
    pub at: u64,
    /// Why it was aborted.
    pub reason: String,
    /// Keys it made.
    pub keys: Vec<NewKey>,
}

/// A key that became usable.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// 64 hex digits.
    pub roster_hash: String,
    /// Its name.
    pub name: String,
    /// Canonical JSON.
    pub signed_roster: Vec<u8>,
    /// Its `key` entry, encoded.
    pub entry: Vec<u8>,
}

impl Store {
    /// Opens the store in `data_dir`, makes both if they are not there, and brings an older one up to date; opens the log
    /// that `signer` signs, with its files in `folder`, and gives who writes there.
    ///
    /// # Errors
    /// [`Error::File`] if a folder cannot be used, another process has it, or the database is damaged or newer;
    /// [`Error::Log`] if store, folder and key do not belong together.
    pub async fn open(data_dir: &Path, signer: LogSigner, folder: &Path) -> Result<(Self, Appender)> {
        let lock = lock(data_dir)?;
        // After the data folder, in which it usually lies: that one is closed to others, this one open to the world.
        let folder = LogFolder::open(folder)?;
        let path = data_dir.join(FILE_NAME);
        let unusable = |error: &dyn std::fmt::Display| Error::File {
            path: path.clone(),
            problem: format!(
                "cannot open the database: {error}; see that the disk has space and that the user of this process may write"
            ),
        };
        let options = options(&path);
        // SQLite would let everybody read it, as far as the umask goes.
        File::options().create(true).append(true).mode(0o600).open(&path).map_err(|e| unusable(&e))?;
        let mut connection = options.connect().await.map_err(|e| unusable(&e))?;
        check_structure(&mut connection, &path).await?;
        migrations().run(&mut connection).await.map_err(|e| unusable(&e))?;
        check_channels(&mut connection, &path).await?;
        let (sequencer, log, appender) = Sequencer::open(&mut connection, signer, folder).await?;
        connection.close().await.map_err(|e| unusable(&e))?;
        let reads = SqlitePoolOptions::new()
            .max_connections(limits::STORE_READERS)
            .acquire_timeout(Duration::from_secs(limits::CALL_TIMEOUT_SECONDS))
            .connect_with(options.clone().create_if_missing(false).read_only(true))
            .await
            .map_err(|e| unusable(&e))?;
        let (jobs, received) = mpsc::channel(limits::STORE_QUEUE);
        let (health, watched) = watch::channel(Health::Open);
        let writer =
            Writer::open(options, received, health, lock, sequencer).await.map_err(|e| unusable(&e))?;
        tokio::spawn(writer.run());
        Ok((Self { jobs, reads, health: watched, log }, appender))
    }

    /// The log that is written here.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether it takes changes, now and after each change of that.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Makes a release durable, or says that it is known already.
    ///
    /// `admitted` runs with its index in the log if it is new, as soon as it is durable, for one release after the other
    /// in the order of admission, whether or not somebody still waits for this call. It must not block.
    ///
    /// # Errors
    /// [`Error::RequestIdReused`], [`Error::SequenceBehind`], [`Error::Full`], [`Error::StoreClosed`]
    pub async fn admit(
        &self,
        release: NewRelease,
        admitted: impl FnOnce(u64) + Send + 'static,
    ) -> Result<Admission> {
        match self.write(Op::Admit(Box::new(release)), Told::Admitted(Box::new(admitted))).await? {
            Done::Admitted(admission) => Ok(admission),
            Done::Evidence(_) | Done::Written => Err(unanswered()),
        }
    }

    /// Adds evidence to a release that has not ended, with its entry in the log; what is there already is left as it is.
    /// Gives all that there is then.
    ///
    /// `added` runs with the same as soon as it is durable, for one addition after the other, whether or not somebody still
    /// waits for this call. It must not block.
    ///
    /// # Errors
    /// [`Error::TooLate`], [`Error::EvidenceFull`], [`Error::Full`], [`Error::StoreClosed`]
    pub async fn add_evidence(
        &self,
        evidence: NewEvidence,
        added: impl FnOnce(&AllEvidence) + Send + 'static,
    ) -> Result<AllEvidence> {
        match self.write(Op::Evidence(evidence), Told::Evidence(Box::new(added))).await? {
            Done::Evidence(all) => Ok(all),
            Done::Admitted(_) | Done::Written => Err(unanswered()),
        }
    }

    /// Ends an embargo: the `disclosure` entries are in the log once this returns. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn disclose(&self, number: ReleaseNumber, entries: Vec<Vec<u8>>, at: u64) -> Result<()> {
        self.write(Op::Disclose { number, entries, at }, Told::Nobody).await.map(drop)
    }

    /// Everything below this head lies in the log's folder, durable: its staging is emptied.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn unstage(&self, written: Head) -> Result<()> {
        self.write(Op::Unstage(written), Told::Nobody).await?;
        self.log.written(written.size);
        Ok(())
    }

    /// Makes durable that a head was published with the cosignatures of these nodes.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn cosigned(&self, published: &SignedCheckpoint, nodes: Vec<NodeId>) -> Result<()> {
        let (size, note) = (published.head().size, published.to_note());
        self.write(Op::Cosigned { size, note, nodes }, Told::Nobody).await.map(drop)
    }

    /// Makes the proofs of signed releases durable: number and further files of each.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn prove(&self, proofs: Vec<(ReleaseNumber, Vec<v1::SignedFile>)>, at: u64) -> Result<()> {
        let proofs = proofs
            .into_iter()
            .map(|(number, files)| (number, v1::Release { files, ..v1::Release::default() }.encode_to_vec()))
            .collect();
        self.write(Op::Prove { proofs, at }, Told::Nobody).await.map(drop)
    }

    /// Makes an ending durable. A release that has one keeps it: safe to repeat.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]: repeat it when the store is open again. [`Error::Overtaken`]: it says that the release is
    /// signed, and another one of its channel is, under the same number.
    pub async fn finish(&self, ending: Arc<Ending>) -> Result<()> {
        self.write(Op::Finish(ending), Told::Nobody).await.map(drop)
    }

    /// Records that a node is excluded, or reinstates it (`None`); `entry` is its log entry.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn culprit(&self, node: &NodeId, named: Option<(String, u64)>, entry: Vec<u8>) -> Result<()> {
        self.write(Op::Culprit { node: node.to_string(), named, entry }, Told::Nobody).await.map(drop)
    }

    /// Makes a step of a ceremony durable.
    ///
    /// # Errors
    /// [`Error::StoreClosed`]
    pub async fn ceremony(&self, change: CeremonyChange) -> Result<()> {
        self.write(Op::Ceremony(change), Told::Nobody).await.map(drop)
    }

    /// # Errors
    /// [`Error::StoreClosed`] while it is closed.
    pub fn is_open(&self) -> Result<()> {
        match &*self.health.borrow() {
            Health::Open => Ok(()),
            Health::Closed(reason) => Err(Error::StoreClosed { reason: reason.clone() }),
        }
    }

    /// Waits until the store is open.
    pub async fn opened(&self) {
        let mut health = self.health.clone();
        // An error means that the writer is gone with the process; nobody waits for long then.
        let _ = health.wait_for(|health| *health == Health::Open).await;
    }

    async fn write(&self, op: Op, told: Told) -> Result<Done> {
        // The refusal of a closed store is quick and does not wait in the queue behind a failing disk.
        self.is_open()?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { op, told, reply }).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }
}

/// Writes a consistent copy of the store in `data_dir` to the new file `to`, while a coordinator may be running.
///
/// # Errors
/// [`Error::File`] if there is no store, `to` exists already, or the copy cannot be made durable.
pub async fn backup(data_dir: &Path, to: &Path) -> Result<()> {
    let wrong = |path: &Path, problem: String| Error::File { path: path.to_owned(), problem };
    if to.exists() {
        return Err(wrong(to, "exists already: give the name of a new file".into()));
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let text =
        partial.to_str().ok_or_else(|| wrong(to, "is not UTF-8: give another name".into()))?.to_owned();
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(wrong(&partial, error.to_string()));
        }
        _ => {}
    }
    let source = data_dir.join(FILE_NAME);
    let mut connection = options(&source)
        .create_if_missing(false)
        .read_only(true)
        .connect()
        .await
        .map_err(|e| wrong(&source, format!("cannot be read: {e}")))?;
    sqlx::query("VACUUM INTO $1")
        .bind(text)
        .execute(&mut connection)
        .await
        .map_err(|e| wrong(&partial, format!("cannot write the copy: {e}")))?;
    // Only a whole copy that is on the disk gets the name that was asked for.
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(&partial)
        .and_then(|file| file.sync_all())
        .and_then(|()| std::fs::hard_link(&partial, to))
        .and_then(|()| std::fs::remove_file(&partial))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|e| wrong(to, e.to_string()))
}

/// The highest signed sequence of a channel is what its releases say: a higher one would close the channel.
async fn check_channels(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let wrong: Option<String> = sqlx::query_scalar(
        "SELECT class || '/' || product || '/' || channel FROM channels WHERE sequence IS NOT \
         (SELECT max(sequence) FROM releases WHERE releases.class = channels.class \
         AND releases.product = channels.product AND releases.channel = channels.channel AND state = 4) LIMIT 1",
    )
    .fetch_optional(connection)
    .await
    .map_err(|error| damaged(path, &error.to_string()))?;
    wrong.map_or(Ok(()), |channel| Err(damaged(path, &format!("the sequence of channel {channel}"))))
}

fn damaged(path: &Path, problem: &str) -> Error {
    Error::File {
        path: path.to_owned(),
        problem: format!(
            "the database is damaged ({problem}); see Recover in the operator's guide on the log"
        ),
    }
}

/// Tables and indices of a damaged file may contradict each other: a release would be there and not be found.
async fn check_structure(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let size = std::fs::metadata(path).map_or(0, |file| file.len());
    if size > limits::LARGE_STORE_BYTES {
        tracing::info!(mebibytes = size >> 20, "checking the integrity of the store; this may take a while");
    }
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(3)")
        .fetch_all(connection)
        .await
        .map_err(|error| damaged(path, &error.to_string()))?;
    match found.as_slice() {
        [only] if only == "ok" => Ok(()),
        _ => Err(damaged(path, &found.join("; "))),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        // A log that grew in a burst shrinks again.
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

fn migrations() -> Migrator {
    let files = [
        (1, "initial", include_str!("../migrations/0001_initial.sql")),
        (2, "log", include_str!("../migrations/0002_log.sql")),
        (3, "superseded", include_str!("../migrations/0003_superseded.sql")),
        (4, "evidence", include_str!("../migrations/0004_evidence.sql")),
        (5, "channels", include_str!("../migrations/0005_channels.sql")),
        (6, "budgets", include_str!("../migrations/0006_budgets.sql")),
        (7, "evidence entries", include_str!("../migrations/0007_evidence_entries.sql")),
        (9, "logged_once", include_str!("../migrations/0009_logged_once.sql")),
        (10, "cosigned heads", include_str!("../migrations/0010_cosigned_heads.sql")),
        (11, "checksums", include_str!("../migrations/0011_checksums.sql")),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(files.into_iter().map(migration).collect())
}

fn unanswered() -> Error {
    Error::Store { reason: "a change had another's answer".into() }
}

/// Two coordinators over one file would each believe to be the only writer.
fn lock(data_dir: &Path) -> Result<Arc<File>> {
    let wrong = |path: &Path, problem: String| Error::File { path: path.to_owned(), problem };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|e| wrong(data_dir, format!("cannot make the data folder: {e}")))?;
    let path = data_dir.join("coordinator.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(|e| {
        wrong(&path, format!("cannot be opened: {e}; see that the user of this process may write here"))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(Arc::new(file)),
        Err(TryLockError::WouldBlock) => Err(wrong(
            &path,
            "another coordinator uses this data folder: stop it first, or give this one its own".into(),
        )),
        Err(TryLockError::Error(error)) => Err(wrong(&path, format!("cannot be locked: {error}"))),
    }
}

#[cfg(test)]
mod checksum_tests;
#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod log_open_tests;
#[cfg(test)]
mod log_tests;
#[cfg(test)]
mod tests;
