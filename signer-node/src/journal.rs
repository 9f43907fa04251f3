//! The node's journal: one SQLite file (WAL, `synchronous=FULL`), one writer.
//!
//! [`Journal::record`] puts the decisions of all batches that wait, and the head of the log that they rest
//! on, into one transaction: one fsync. What it has confirmed survives `kill -9` and power loss; what it has
//! not confirmed may be there or not, and nothing has left the node for it. After any failure the connection
//! is thrown away, for after a failed fsync nobody knows what the system has kept; the next use opens the
//! file again and finds its last durable state.
//!
//! Lost or changed content is detected: see [`memory`]. A journal is verified as a whole when it is opened
//! ([`verify`]), and its last state is compared with a [witness](crate::journal_witness) outside of its
//! folder.
//!
//! Key ceremonies keep their rows in the same file, see [`crate::ceremonies`].

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use rand::{RngCore as _, rngs::OsRng};
use rutli_log::Hash;

use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Row as _, SqlSafeStr as _, Sqlite, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::{
    error::Error,
    gate::Unsaved,
    limits,
    marks::Marks,
    sign::{JournalRecord, Verdict},
    versions::Versions,
};

mod decisions;
mod log;
mod memory;
mod rows;
mod verify;

pub use memory::{Chain, Point};

use memory::Memory;

/// The journal; clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// `None` after a failure.
    open: Mutex<Option<Open>>,
    /// Since the last look for old ones.
    refusals: AtomicU32,
    /// Where the journal is, after each transaction.
    point: watch::Sender<Point>,
    /// It is the node's newest, or its custodian goes on with it.
    accepted: watch::Sender<bool>,
    /// Why its witness cannot be written.
    witness_problem: watch::Sender<Option<String>>,
    /// Nothing is written any more: the process ends.
    stopped: AtomicBool,
}

/// The file, and what is known of it.
#[derive(Debug)]
struct Open {
    connection: SqliteConnection,
    memory: Memory,
}

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Of every channel.
    pub marks: Marks,
    /// The custodian's reason, if the node was paused.
    pub paused: Option<String>,
    /// Unix seconds of the newest decision or cosignature, 0 if there is none.
    pub newest_at: u64,
    /// Decisions so far.
    pub counts: Counts,
}

/// Decisions since the journal began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Permitted releases.
    pub permitted: u64,
    /// Refused ones, also those that are no longer kept.
    pub refused: u64,
}

impl Journal {
    /// Opens or creates the file, migrates it to this version, and verifies all of it.
    ///
    /// # Errors
    /// [`Error::JournalDamaged`] if it is not what was written, and others if it cannot be read.
    pub async fn open(path: &Path) -> Result<(Self, Recovered), Error> {
        let options = options(path);
        let mut connection = options.connect().await.map_err(|error| Error::from(error).of_content())?;
        let (memory, recovered) = look(&mut connection, path).await.map_err(Error::of_content)?;
        let (point, _) = watch::channel(memory.point());
        let inner = Inner {
            path: path.to_path_buf(),
            options,
            open: Mutex::new(Some(Open { connection, memory })),
            refusals: AtomicU32::new(0),
            point,
            accepted: watch::channel(false).0,
            witness_problem: watch::channel(None).0,
            stopped: AtomicBool::new(false),
        };
        Ok((Self(Arc::new(inner)), recovered))
    }

    /// Makes decisions durable, and what is `log`ged that they rest on, all or none. When this returns `Ok`, shares and
    /// cosignatures may leave.
    ///
    /// One script, and so one way to the thread that has the file: each further one is two changes of threads in the
    /// middle of a release.
    pub async fn record(&self, records: &[&JournalRecord], log: Option<&Unsaved>) -> Result<(), Error> {
        if records.is_empty() && log.is_none() {
            return Ok(());
        }
        let mut write = self.take().await?;
        let mut script = QueryBuilder::new("BEGIN IMMEDIATE;");
        if let Some(log) = log {
            log::keep(&mut script, log);
            write.memory()?.note_head(log);
        }
        let mut changes_rest = log.is_some_and(|log| log.state.fork.is_some());
        if let Some(log) = log {
            changes_rest |= write.memory()?.note_reached(log);
        }
        if let Some(newest_at) = records.iter().map(|record| record.at).max() {
            self.record_decisions(&mut script, write.memory()?, records, newest_at);
        }
        if changes_rest {
            // Once an hour, and for a fork: it changes a table that is sealed as a whole.
            script.build().execute(write.connection()?).await?;
            return write.commit().await;
        }
        write.memory()?.write(&mut script);
        // A crash before this line: nothing was decided, and the head is the old one. After it: the marks and the head
        // stand, and the same release may come again with the same content.
        script.push("COMMIT;");
        write.run(script).await
    }

    fn record_decisions(
        &self,
        script: &mut QueryBuilder<Sqlite>,
        memory: &mut Memory,
        records: &[&JournalRecord],
        newest_at: u64,
    ) {
        let permitted: Vec<_> =
            records.iter().copied().filter(|record| record.verdict == Verdict::Permitted).collect();
        let refused = records.len() - permitted.len();
        decisions::insert(script, memory, records);
        if !permitted.is_empty() {
            decisions::raise_marks(script, &permitted);
        }
        decisions::keep_refusals(script, memory, records);
        memory.note_time(newest_at);
        script.push("UPDATE state SET newest_at = max(newest_at, ").push_bind(integer(newest_at));
        script.push("), permitted = permitted + ").push_bind(count(permitted.len()));
        script.push(", refused = refused + ").push_bind(count(refused)).push(";");
        if self.is_time_to_prune(refused) {
            decisions::prune(script);
        }
    }

    /// Keeps a pause over restarts, until [`Journal::resume`].
    pub async fn set_paused(&self, reason: &str) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET paused = $1").bind(reason).execute(write.connection()?).await?;
        write.commit().await
    }

    /// Whether a write of some size succeeds, and leaves no trace.
    pub async fn probe(&self) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET probe = zeroblob($1)")
            .bind(limits::PROBE_BYTES)
            .execute(write.connection()?)
            .await?;
        write.commit().await?;
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET probe = NULL").execute(write.connection()?).await?;
        write.commit().await
    }

    /// Begins a transaction. One at a time; dropped without [`Write::commit`] it never happened.
    pub(crate) async fn write(&self) -> Result<Write<'_>, Error> {
        let mut write = self.take().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(write.connection()?).await?;
        Ok(write)
    }

    async fn take(&self) -> Result<Write<'_>, Error> {
        if self.0.stopped.load(Ordering::SeqCst) {
            return Err(Error::Stopping);
        }
        let mut slot = self.0.open.lock().await;
        let open = match slot.take() {
            Some(open) => open,
            None => self.reopen().await?,
        };
        Ok(Write { open: Some(open), slot, point: &self.0.point })
    }

    /// After a failure only the content of the file counts, whatever was believed before.
    async fn reopen(&self) -> Result<Open, Error> {
        let mut connection = self.0.options.connect().await?;
        match Memory::load(&mut connection).await.map_err(Error::of_content)? {
            Some(memory) if memory.name == self.0.point.borrow().journal => Ok(Open { connection, memory }),
            _ => Err(Error::JournalDamaged("it is not the journal that this process opened".into())),
        }
    }

    fn is_time_to_prune(&self, fresh: usize) -> bool {
        let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
        let since = self.0.refusals.fetch_add(fresh, Ordering::Relaxed).saturating_add(fresh);
        let is_time = since >= limits::REFUSALS_BETWEEN_PRUNES;
        if is_time {
            self.0.refusals.store(0, Ordering::Relaxed);
        }
        is_time
    }

    /// Where the journal is, now and after each transaction.
    #[must_use]
    pub fn point(&self) -> watch::Receiver<Point> {
        self.0.point.subscribe()
    }

    /// From now on its [witness](crate::journal_witness) follows it.
    pub fn accept(&self) {
        self.0.accepted.send_replace(true);
    }

    /// Whether it is accepted, now and after a change.
    #[must_use]
    pub fn accepted(&self) -> watch::Receiver<bool> {
        self.0.accepted.subscribe()
    }

    /// Why its witness cannot be written; `None` if it can.
    #[must_use]
    pub fn witness_problem(&self) -> Option<String> {
        self.0.witness_problem.borrow().clone()
    }

    pub(crate) fn set_witness_problem(&self, problem: Option<String>) {
        self.0.witness_problem.send_replace(problem);
    }

    /// The hash that the first `count` permissions end with, if there are so many.
    pub async fn permitted_after(&self, count: u64) -> Result<Option<Hash>, Error> {
        let mut write = self.write().await?;
        let memory = write.memory()?.clone();
        let hash = verify::permitted_after(write.connection()?, &memory, count).await?;
        write.commit().await?;
        Ok(hash)
    }

    /// Waits until the journal is closed as one file with everything in it. A journal that is only dropped
    /// closes a little later, on its own thread. A later use opens it again.
    pub async fn close(&self) -> Result<(), Error> {
        let Some(Open { mut connection, .. }) = self.0.open.lock().await.take() else { return Ok(()) };
        // Crash boundary: before, the journal is two files; after, one. Both hold the same.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// The end: what is under way is finished, nothing more is written, and one file holds everything.
    pub async fn stop(&self) -> Result<(), Error> {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.close().await
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// A transaction under way.
pub(crate) struct Write<'a> {
    /// Only a committed transaction puts it back.
    open: Option<Open>,
    slot: MutexGuard<'a, Option<Open>>,
    point: &'a watch::Sender<Point>,
}

impl Write<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        Ok(&mut self.open.as_mut().ok_or(Error::Journal(sqlx::Error::WorkerCrashed))?.connection)
    }

    fn memory(&mut self) -> Result<&mut Memory, Error> {
        Ok(&mut self.open.as_mut().ok_or(Error::Journal(sqlx::Error::WorkerCrashed))?.memory)
    }

    /// Seals what the tables hold now. Durable when this returns `Ok`.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        if let Some(Open { connection, memory }) = &mut self.open {
            memory.reseal(connection).await?;
        }
        self.run(QueryBuilder::new("COMMIT")).await
    }

    /// Writes as another program would, without seals.
    #[cfg(test)]
    pub(crate) async fn commit_unsealed(self) -> Result<(), Error> {
        self.run(QueryBuilder::new("COMMIT")).await
    }

    /// A script that ends the transaction. Only one that succeeded to its end gives the connection back.
    async fn run(mut self, mut script: QueryBuilder<Sqlite>) -> Result<(), Error> {
        script.build().execute(self.connection()?).await?;
        self.point.send_replace(self.memory()?.point());
        *self.slot = self.open.take();
        Ok(())
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(2))
        .statement_cache_capacity(32)
        .thread_name(|_| "journal".into())
        // KiB, negative by SQLite's own rule: the node's memory is for nonces.
        .pragma("cache_size", "-1024")
        .pragma("temp_store", "MEMORY")
        // Sealed seeds of ended ceremonies are overwritten, not just unlinked.
        .pragma("secure_delete", "ON")
        .pragma("journal_size_limit", "16777216")
        .disable_statement_logging()
}

/// The content of a file, once all of it was verified. An empty one begins a journal.
async fn look(connection: &mut SqliteConnection, path: &Path) -> Result<(Memory, Recovered), Error> {
    verify::file(connection).await?;
    let broken = |error: sqlx::migrate::MigrateError| Error::Migration {
        path: path.to_path_buf(),
        problem: error.to_string(),
    };
    migrations().run_direct(None, connection, false).await.map_err(broken)?;
    let memory = match Memory::load(connection).await? {
        Some(memory) => memory,
        None => begin(connection).await?,
    };
    let versions = verify::content(connection, &memory).await?;
    let recovered = recover(connection, versions).await?;
    Ok((memory, recovered))
}

/// Gives a journal its name. A crash before leaves tables without a row, and the next start begins it.
async fn begin(connection: &mut SqliteConnection) -> Result<Memory, Error> {
    let mut name = [0; 32];
    OsRng.fill_bytes(&mut name);
    let mut memory = Memory::begin(Hash(name));
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    memory.reseal(connection).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(memory)
}

fn migrations() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let all = [
        (1, "journal", include_str!("../migrations/0001_journal.sql")),
        (2, "log", include_str!("../migrations/0002_log.sql")),
        (3, "vouched", include_str!("../migrations/0003_vouched.sql")),
        (4, "policy", include_str!("../migrations/0004_policy.sql")),
        (5, "memory", include_str!("../migrations/0005_memory.sql")),
        (6, "channels", include_str!("../migrations/0006_channels.sql")),
        (7, "files", include_str!("../migrations/0007_files.sql")),
        (8, "reached", include_str!("../migrations/0008_reached.sql")),
        (9, "versions", include_str!("../migrations/0009_versions.sql")),
    ];
    Migrator::with_migrations(all.into_iter().map(migration).collect())
}

async fn recover(connection: &mut SqliteConnection, versions: Versions) -> Result<Recovered, Error> {
    let state = sqlx::query("SELECT paused, newest_at, permitted, refused FROM state")
        .fetch_one(&mut *connection)
        .await?;
    Ok(Recovered {
        marks: Marks::from_rows(decisions::mark_rows(connection).await?, versions),
        paused: state.try_get(0)?,
        newest_at: unsigned(state.try_get(1)?)?,
        counts: Counts { permitted: unsigned(state.try_get(2)?)?, refused: unsigned(state.try_get(3)?)? },
    })
}

/// Sequences and times are below 2^53, counts far below: none is ever cut.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::JournalRow(format!("{number} is negative")))
}

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests;
