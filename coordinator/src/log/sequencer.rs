//! Gives entries their places in the tree and signs the head, inside the store's transaction.
//!
//! The head in memory follows the one in the store: [`Sequencer::committed`] after a commit, and
//! [`Sequencer::catch_up`] when nobody knows whether a commit happened.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use rutli_keys::{NodeId, SignedRoster};
use rutli_log::{Frontier, Hash, Head, LogKey, LogSigner, SignedCheckpoint, leaf_hash};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{
    Log,
    folder::{Appender, LogFolder},
    key_entry,
};
use crate::{
    crash::crash_point,
    error::{Error, Result},
    store::{signed, unsigned},
};

/// The one writer's view of the log.
pub struct Sequencer {
    signer: LogSigner,
    frontier: Frontier,
    /// The newest checkpoint as the store has it.
    note: String,
    log: Log,
}

/// Entries on their way into the log, with the tree that they make.
pub struct Appending<'a> {
    sequencer: &'a Sequencer,
    frontier: Frontier,
    rows: Vec<(u64, Vec<u8>, Option<i64>)>,
    leaves: Vec<Hash>,
}

/// A head that is the log's once the transaction is committed.
pub struct Appended {
    frontier: Frontier,
    leaves: Vec<Hash>,
    checkpoint: SignedCheckpoint,
}

impl Sequencer {
    /// Opens the log: finds the head in the store, the tree in the folder and the staging, and that they fit.
    ///
    /// # Errors
    /// [`Error::Log`] if the store, the folder and the key do not belong together; nothing was changed then.
    pub async fn open(
        connection: &mut SqliteConnection,
        signer: LogSigner,
        folder: LogFolder,
    ) -> Result<(Self, Log, Appender)> {
        let key = signer.public();
        let stored = sqlx::query("SELECT checkpoint, written_size, written_root FROM log_head")
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed)?;
        let (note, written) = match stored {
            Some(row) => {
                let root: Vec<u8> = row.try_get(2).map_err(failed)?;
                let root = Hash::from_slice(&root).map_err(failed)?;
                let size = unsigned(row.try_get(1).map_err(failed)?);
                (row.try_get::<String, _>(0).map_err(failed)?, Head { size, root })
            }
            None => (begin(connection, &signer, &folder).await?, Head::EMPTY),
        };
        let newest = key.open(&note).map_err(|problem| {
            Error::Log(format!(
                "the newest checkpoint in the store is not by the configured key and origin: {problem}; put the log's \
                 own key and origin back into [log]"
            ))
        })?;
        let appender = folder.resume(written)?;
        let mut tiles = appender.edge().clone();
        for leaf in staged_leaves(connection, written.size).await? {
            tiles.push(leaf);
        }
        let frontier = Frontier::of(&tiles, tiles.size())
            .map_err(|missing| Error::Log(format!("the log's folder is incomplete: {missing}")))?;
        if frontier.head() != newest.head() {
            return Err(Error::Log(format!(
                "folder and staging make a tree of {} entries with the root {}, but the store has signed {} with {}; \
                 restore the folder from a mirror, or the store's newest copy",
                frontier.head().size,
                frontier.head().root,
                newest.head().size,
                newest.head().root
            )));
        }
        let head = newest.head();
        let log = Log::new(key, folder.clone(), newest, tiles, written.size);
        let published =
            folder.check_published(log.key(), head, |published| log.consistency(published, &head))?;
        log.recovered(published, cosigned_heads(connection, log.key()).await?);
        Ok((Self { signer, frontier, note, log: log.clone() }, log, appender))
    }

    /// Why nothing may be appended until the process is started again.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        self.log.stopped()
    }

    /// Waits until then.
    pub async fn until_stopped(&self) {
        self.log.until_stopped().await;
    }

    /// Begins to append.
    #[must_use]
    pub fn appending(&self) -> Appending<'_> {
        Appending { sequencer: self, frontier: self.frontier.clone(), rows: Vec::new(), leaves: Vec::new() }
    }

    /// The transaction is committed.
    pub fn committed(&mut self, appended: Appended) {
        // Crash boundary: the entries are in the log from now on, and their release is taken up at the next start.
        crash_point("log-committed");
        self.frontier = appended.frontier;
        self.note = appended.checkpoint.to_note();
        self.log.committed(appended.checkpoint, &appended.leaves);
    }

    /// After a transaction that may or may not have happened: takes over what the store has.
    ///
    /// # Errors
    /// [`Error::Log`] if that does not follow on what was known before.
    pub async fn catch_up(&mut self, connection: &mut SqliteConnection) -> Result<()> {
        let note: String = sqlx::query_scalar("SELECT checkpoint FROM log_head")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed)?;
        if note == self.note {
            return Ok(());
        }
        let mut frontier = self.frontier.clone();
        let leaves = staged_leaves(connection, frontier.size()).await?;
        leaves.iter().for_each(|leaf| frontier.push(*leaf));
        let checkpoint = self.log.key().open(&note).ok().filter(|newest| newest.head() == frontier.head());
        let checkpoint = checkpoint.ok_or_else(|| {
            Error::Log(
                "the store's log is not the one that was written here: another process writes it, or its file was replaced; \
                 stop both, and see Recover in the operator's guide on the log"
                    .into(),
            )
        })?;
        self.committed(Appended { frontier, leaves, checkpoint });
        Ok(())
    }
}

impl Appending<'_> {
    /// Adds an entry, and says where it will stand. `release`: the number of the release whose statement lies beside it.
    pub fn push(&mut self, entry: Vec<u8>, release: Option<i64>) -> u64 {
        let index = self.frontier.size();
        let leaf = leaf_hash(&entry);
        self.frontier.push(leaf);
        self.leaves.push(leaf);
        self.rows.push((index, entry, release));
        index
    }

    /// Stages the entries and swaps the signed head, if there are any.
    pub async fn write(self, connection: &mut SqliteConnection) -> sqlx::Result<Option<Appended>> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        if let Some(reason) = self.sequencer.stopped() {
            return Err(sqlx::Error::Protocol(reason));
        }
        let checkpoint = self.sequencer.signer.sign(self.frontier.head());
        let swapped = sqlx::query("UPDATE log_head SET checkpoint = $1 WHERE checkpoint = $2")
            .bind(checkpoint.to_note())
            .bind(self.sequencer.note.clone())
            .execute(&mut *connection)
            .await?;
        // Somebody else wrote, or a commit that was taken for failed was none: nothing of this may stand. Asked before the
        // entries: theirs have the same places, and a conflict there would pass for a change that is refused.
        if swapped.rows_affected() != 1 {
            return Err(sqlx::Error::Protocol("the log's head is not where it was left".into()));
        }
        for rows in self.rows.chunks(crate::limits::LOG_ROWS_PER_INSERT) {
            let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO log_entries (number, entry, release) ");
            query.push_values(rows, |mut row, (number, entry, release)| {
                row.push_bind(signed(*number)).push_bind(entry.as_slice()).push_bind(*release);
            });
            query.build().execute(&mut *connection).await?;
        }
        crash_point("log-before-commit");
        Ok(Some(Appended { frontier: self.frontier, leaves: self.leaves, checkpoint }))
    }
}

/// The head of a log that has no entries yet.
async fn begin(connection: &mut SqliteConnection, signer: &LogSigner, folder: &LogFolder) -> Result<String> {
    if folder.published()?.is_some() {
        return Err(Error::Log(
            "the log's folder has a published log, but the store knows of none: restore the store that it belongs to, \
             or give a new log a new origin and an empty folder"
                .into(),
        ));
    }
    // Keys that were made before there was a log are its first entries: whatever is signed under them refers to these.
    let mut frontier = Frontier::default();
    let keys = sqlx::query("SELECT signed_roster, usable_since FROM keys ORDER BY number")
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    for (number, row) in (0_i64..).zip(&keys) {
        let roster = SignedRoster::parse(row.try_get::<&[u8], _>(0).map_err(failed)?).map_err(failed)?;
        let entry = key_entry(&roster, unsigned(row.try_get(1).map_err(failed)?));
        frontier.push(leaf_hash(&entry));
        // Crash boundary: without a head they are staged again, the same.
        sqlx::query("INSERT OR REPLACE INTO log_entries (number, entry) VALUES ($1, $2)")
            .bind(number)
            .bind(entry)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    let note = signer.sign(frontier.head()).to_note();
    sqlx::query("INSERT INTO log_head (id, checkpoint, written_root) VALUES (1, $1, $2)")
        .bind(note.clone())
        .bind(Hash::EMPTY_ROOT.as_bytes().to_vec())
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(note)
}

/// The newest published head that each node cosigned.
async fn cosigned_heads(
    connection: &mut SqliteConnection,
    key: &LogKey,
) -> Result<BTreeMap<NodeId, SignedCheckpoint>> {
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT node, note FROM cosigned_heads")
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    let read = |(node, note): (String, String)| {
        Ok((node.parse().map_err(failed)?, key.open(&note).map_err(failed)?))
    };
    rows.into_iter().map(read).collect()
}

/// The leaves of what is staged from an index on, without a gap.
async fn staged_leaves(connection: &mut SqliteConnection, from: u64) -> Result<Vec<Hash>> {
    let mut rows = sqlx::query("SELECT number, entry FROM log_entries WHERE number >= $1 ORDER BY number")
        .bind(signed(from))
        .fetch(connection);
    let mut leaves = Vec::new();
    for expected in from.. {
        let Some(row) = rows.try_next().await.map_err(failed)? else { break };
        if unsigned(row.try_get(0).map_err(failed)?) != expected {
            return Err(Error::Log(format!(
                "entry {expected} is neither in the folder nor in the store; restore the store's newest copy"
            )));
        }
        leaves.push(leaf_hash(row.try_get(1).map_err(failed)?));
    }
    Ok(leaves)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Log(format!("the store does not give the log's head: {error}; see that its disk works"))
}
