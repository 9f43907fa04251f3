//! The ceremonies' rows in the journal.

use rutli_keys::{
    CeremonyId, NodeId,
    ceremony::{CeremonyMessage, SignedProposal},
};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    error::Error,
    journal::{Journal, Write, integer},
    limits,
};

/// A ceremony as the journal knows it.
#[derive(Debug)]
pub(super) struct StoredCeremony {
    pub(super) signed: SignedProposal,
    /// Sealed.
    pub(super) seed: Option<Vec<u8>>,
    pub(super) end: Option<End>,
    pub(super) messages: Vec<CeremonyMessage>,
}

/// How a ceremony ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) done: bool,
    pub(super) reason: String,
    pub(super) culprits: Vec<NodeId>,
}

/// All of them, oldest first.
pub(super) async fn load(journal: &Journal) -> Result<Vec<StoredCeremony>, Error> {
    let mut write = journal.write().await?;
    let rows = sqlx::query(
        "SELECT id, proposal, seed, state, reason, culprits FROM ceremonies ORDER BY accepted_at, id",
    )
    .fetch_all(write.connection()?)
    .await?;
    let mut ceremonies = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut ceremony = ceremony(row)?;
        let messages = sqlx::query("SELECT message FROM ceremony_messages WHERE ceremony = $1")
            .bind(ceremony.signed.proposal().id().as_bytes().as_slice())
            .fetch_all(write.connection()?)
            .await?;
        ceremony.messages = messages
            .iter()
            .map(|row| CeremonyMessage::parse(row.try_get(0)?).map_err(|error| unreadable(&error)))
            .collect::<Result<_, _>>()?;
        ceremonies.push(ceremony);
    }
    write.commit().await?;
    Ok(ceremonies)
}

/// A proposal that was accepted, not joined.
pub(super) async fn accept(journal: &Journal, signed: &SignedProposal, now: u64) -> Result<(), Error> {
    let mut write = journal.write().await?;
    sqlx::query("INSERT INTO ceremonies (id, proposal, state, accepted_at) VALUES ($1, $2, 'open', $3)")
        .bind(signed.proposal().id().as_bytes().as_slice())
        .bind(signed.encode())
        .bind(integer(now))
        .execute(write.connection()?)
        .await?;
    write.commit().await
}

/// The sealed seed, before the first message that depends on it. A ceremony has one seed for ever.
pub(super) async fn keep_seed(journal: &Journal, id: CeremonyId, sealed: &[u8]) -> Result<(), Error> {
    let mut write = journal.write().await?;
    let kept =
        sqlx::query("UPDATE ceremonies SET seed = $2 WHERE id = $1 AND seed IS NULL AND state = 'open'")
            .bind(id.as_bytes().as_slice())
            .bind(sealed)
            .execute(write.connection()?)
            .await?;
    if kept.rows_affected() != 1 {
        return Err(Error::Ceremony("it has a seed already, or has ended".into()));
    }
    write.commit().await
}

/// Messages that are not there yet, all or none.
pub(super) async fn keep_messages(
    journal: &Journal,
    id: CeremonyId,
    messages: &[CeremonyMessage],
) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut write = journal.write().await?;
    insert_messages(&mut write, id, messages).await?;
    write.commit().await
}

/// The end. The seed goes with it, unless it may still be needed; so does what is left of the oldest ended ceremonies.
pub(super) async fn end(
    journal: &Journal,
    id: CeremonyId,
    end: &End,
    keep_seed: bool,
    now: u64,
) -> Result<(), Error> {
    let culprits: Vec<_> = end.culprits.iter().map(ToString::to_string).collect();
    let mut write = journal.write().await?;
    sqlx::query(
        "UPDATE ceremonies SET state = $2, reason = $3, culprits = $4, ended_at = $5,
            seed = CASE WHEN $6 THEN seed END
        WHERE id = $1 AND state = 'open'",
    )
    .bind(id.as_bytes().as_slice())
    .bind(if end.done { "done" } else { "aborted" })
    .bind(&end.reason)
    .bind(serde_json::Value::from(culprits).to_string())
    .bind(integer(now))
    .bind(keep_seed)
    .execute(write.connection()?)
    .await?;
    sqlx::query(
        "DELETE FROM ceremonies WHERE state <> 'open' AND seed IS NULL AND id IN (
            SELECT id FROM ceremonies WHERE state <> 'open' ORDER BY ended_at DESC, id LIMIT -1 OFFSET $1)",
    )
    .bind(i64::try_from(limits::MAX_ENDED_CEREMONIES).unwrap_or(i64::MAX))
    .execute(write.connection()?)
    .await?;
    write.commit().await
}

async fn insert_messages(
    write: &mut Write<'_>,
    id: CeremonyId,
    messages: &[CeremonyMessage],
) -> Result<(), Error> {
    for message in messages {
        sqlx::query(
            "INSERT INTO ceremony_messages (ceremony, sender, step, message) VALUES ($1, $2, $3, $4)
            ON CONFLICT (ceremony, sender, step) DO NOTHING",
        )
        .bind(id.as_bytes().as_slice())
        .bind(message.from.to_string())
        .bind(message.step.as_str())
        .bind(message.encode())
        .execute(write.connection()?)
        .await?;
    }
    Ok(())
}

fn ceremony(row: &SqliteRow) -> Result<StoredCeremony, Error> {
    let signed = SignedProposal::parse(row.try_get(1)?).map_err(|error| unreadable(&error))?;
    let state: String = row.try_get(3)?;
    let culprits: String = row.try_get(5)?;
    let culprits = serde_json::from_str(&culprits).map_err(|error| unreadable(&error))?;
    let end = End { done: state == "done", reason: row.try_get(4)?, culprits };
    Ok(StoredCeremony {
        signed,
        seed: row.try_get(2)?,
        end: (state != "open").then_some(end),
        messages: Vec::new(),
    })
}

fn unreadable(error: &dyn std::error::Error) -> Error {
    Error::JournalRow(error.to_string())
}
