//! The store's side of the log: what is staged until it lies in the folder, what waits to be proved or disclosed.

use futures::TryStreamExt as _;
use prost::Message as _;
use rutli_keys::NodeId;
use rutli_log::{Entry, Hash, Head, entry::Embargo, sha256};
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_wire::{convert::release_from_content, v1};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{
    NewLogged, ReleaseNumber, Store, checksum,
    writer::{signed, unsigned},
};
use crate::{
    error::{Error, Result},
    limits,
    log::sequencer::Appending,
};

/// Entries that are not in the log's folder yet, without a gap, with the documents that they name.
#[derive(Clone, Debug, Default)]
pub struct Staged {
    /// Index of the first.
    pub from: u64,
    /// Encoded.
    pub entries: Vec<Vec<u8>>,
    /// By their SHA-256.
    pub documents: Vec<(Hash, Vec<u8>)>,
}

/// A signed release whose proof is not there yet.
#[derive(Clone, Debug)]
pub struct Unproven {
    /// Its key in the store.
    pub number: ReleaseNumber,
    /// Its name.
    pub release_id: ReleaseId,
    /// What was signed.
    pub release: VerifiedRelease,
    /// With which key.
    pub key: String,
    /// Unix seconds.
    pub finished_at: u64,
    /// The entry to be proved.
    pub leaf: Vec<u8>,
    /// Its index.
    pub index: u64,
}

/// What the store keeps of a release's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTerms {
    /// Index of the entry.
    pub index: u64,
    /// The roster that it names.
    pub roster: Hash,
    /// Unix seconds.
    pub deadline: u64,
    /// If it is under embargo, or was.
    pub embargo: Option<Embargo>,
}

impl Store {
    /// Staged entries from `from` on and below `size`: at most [`limits::LOG_WRITE_ENTRIES`], with documents of at most
    /// [`limits::LOG_WRITE_BYTES`] beyond the first.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn staged(&self, from: u64, size: u64) -> Result<Staged> {
        let mut rows = sqlx::query(
            "SELECT log_entries.number, entry, content FROM log_entries \
             LEFT JOIN releases ON releases.number = log_entries.release \
             WHERE log_entries.number >= $1 AND log_entries.number < $2 ORDER BY log_entries.number LIMIT $3",
        )
        .bind(signed(from))
        .bind(signed(size))
        .bind(limits::LOG_WRITE_ENTRIES)
        .fetch(&self.reads);
        let mut staged = Staged::default();
        let mut bytes = 0_usize;
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let entry: Vec<u8> = row.try_get(1).map_err(failed)?;
            let document = match row.try_get::<Option<&[u8]>, _>(2).map_err(failed)? {
                Some(content) => Some(release(content)?.statement()),
                None => self.roster_of(&entry).await?,
            };
            if let Some(document) = document {
                bytes = bytes.saturating_add(document.len());
                if bytes > limits::LOG_WRITE_BYTES && !staged.entries.is_empty() {
                    break;
                }
                staged.documents.push((sha256(&document), document));
            }
            if staged.entries.is_empty() {
                staged.from = unsigned(row.try_get(0).map_err(failed)?);
            }
            staged.entries.push(entry);
        }
        Ok(staged)
    }

    /// Signed releases whose entries lie from `from` on and below `size` and are not proved, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn unproven(&self, from: u64, size: u64) -> Result<Vec<Unproven>> {
        let rows = sqlx::query(
            "SELECT proofs.number, release_id, content, outcome, leaf, proofs.log_index FROM proofs \
             JOIN releases ON releases.number = proofs.number \
             WHERE files IS NULL AND proofs.log_index >= $1 AND proofs.log_index < $2 \
             ORDER BY proofs.log_index LIMIT $3",
        )
        .bind(signed(from))
        .bind(signed(size))
        .bind(limits::LOG_PROOFS_AT_ONCE)
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let outcome: Vec<u8> = row.try_get(3).map_err(failed)?;
                let outcome = v1::Release::decode(outcome.as_slice()).map_err(failed)?;
                Ok(Unproven {
                    number: ReleaseNumber(row.try_get(0).map_err(failed)?),
                    release_id: ReleaseId::new(row.try_get::<String, _>(1).map_err(failed)?)
                        .map_err(failed)?,
                    release: release(row.try_get::<&[u8], _>(2).map_err(failed)?)?,
                    key: outcome.key,
                    finished_at: outcome.finished_at,
                    leaf: row.try_get(4).map_err(failed)?,
                    index: unsigned(row.try_get(5).map_err(failed)?),
                })
            })
            .collect()
    }

    /// The document of an entry about a key: its signed roster.
    async fn roster_of(&self, entry: &[u8]) -> Result<Option<Vec<u8>>> {
        let Ok(Entry::Key(key)) = Entry::parse(entry) else { return Ok(None) };
        sqlx::query_scalar("SELECT signed_roster FROM keys WHERE roster_hash = $1")
            .bind(key.roster.to_string())
            .fetch_optional(&self.reads)
            .await
            .map_err(failed)
    }
}

fn release(content: &[u8]) -> Result<VerifiedRelease> {
    Ok(release_from_content(v1::ReleaseContent::decode(content).map_err(failed)?)?)
}

/// The release whose statement lies beside an entry: none while it is under embargo.
pub(super) fn disclosed(number: i64, logged: &NewLogged) -> Option<i64> {
    logged.embargo.is_none().then_some(number)
}

pub(super) async fn disclose(
    connection: &mut SqliteConnection,
    number: ReleaseNumber,
    entries: &[Vec<u8>],
    at: u64,
    log: &mut Appending<'_>,
) -> sqlx::Result<()> {
    let disclosed =
        sqlx::query("UPDATE releases SET disclosed_at = $1 WHERE number = $2 AND disclosed_at IS NULL")
            .bind(signed(at))
            .bind(number.0)
            .execute(connection)
            .await?;
    if disclosed.rows_affected() > 0 {
        for entry in entries {
            log.push(entry.clone(), Some(number.0));
        }
    }
    Ok(())
}

/// Only forwards, and only what is staged: said twice it does no harm.
pub(super) async fn unstage(connection: &mut SqliteConnection, written: Head) -> sqlx::Result<()> {
    let moved =
        sqlx::query("UPDATE log_head SET written_size = $1, written_root = $2 WHERE written_size < $1")
            .bind(signed(written.size))
            .bind(written.root.as_bytes().to_vec())
            .execute(&mut *connection)
            .await?;
    if moved.rows_affected() > 0 {
        sqlx::query("DELETE FROM log_entries WHERE number < $1")
            .bind(signed(written.size))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The newest of each node stays.
pub(super) async fn cosigned(
    connection: &mut SqliteConnection,
    size: u64,
    note: &str,
    nodes: &[NodeId],
) -> sqlx::Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let mut query =
        QueryBuilder::<Sqlite>::new("INSERT INTO cosigned_heads (node, size, note) SELECT column1, ");
    query.push_bind(signed(size)).push(", ").push_bind(note).push(" FROM (");
    query.push_values(nodes, |mut row, node| {
        row.push_bind(node.to_string());
    });
    query.push(
        ") WHERE true ON CONFLICT (node) DO UPDATE SET size = excluded.size, note = excluded.note \
         WHERE excluded.size >= cosigned_heads.size",
    );
    query.build().execute(connection).await.map(drop)
}

pub(super) async fn prove(
    connection: &mut SqliteConnection,
    proofs: &[(ReleaseNumber, Vec<u8>)],
    at: u64,
) -> sqlx::Result<()> {
    if proofs.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("UPDATE proofs SET proven_at = ");
    query.push_bind(signed(at)).push(", files = proved.column2, checksum = proved.column3 FROM (");
    query.push_values(proofs, |mut row, (number, files)| {
        let checksum = checksum::proof(number.0, files, signed(at)).finish();
        row.push_bind(number.0).push_bind(files.as_slice()).push_bind(checksum);
    });
    query.push(") AS proved WHERE number = proved.column1 AND files IS NULL");
    query.build().execute(connection).await.map(drop)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Store { reason: error.to_string() }
}
