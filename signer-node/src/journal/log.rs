//! What the journal keeps of the log, one row for each origin, see [`crate::gate`].

use rutli_log::{Hash, Head, Origin};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Journal, integer, rows::Value, unsigned};
use crate::{
    error::Error,
    gate::{Fork, KeptHead, LogState, Reached, Unsaved},
    limits,
};

impl Journal {
    /// What is kept of a log; nothing yet of one that this node has not followed.
    pub async fn log(&self, origin: &Origin) -> Result<LogState, Error> {
        let mut write = self.write().await?;
        let head = sqlx::query(
            "SELECT size, root, note, catching_up, vouched_size, vouched_root FROM log_heads WHERE origin = $1",
        )
        .bind(origin.as_str())
        .fetch_optional(write.connection()?)
        .await?;
        let newest_at: i64 =
            sqlx::query_scalar("SELECT newest_at FROM state").fetch_one(write.connection()?).await?;
        let fork = sqlx::query(
            "SELECT size, root, note, other_root, other_note, at FROM log_forks
            WHERE origin = $1 AND vouched_at IS NULL ORDER BY at LIMIT 1",
        )
        .bind(origin.as_str())
        .fetch_optional(write.connection()?)
        .await?;
        let reached = sqlx::query("SELECT at, size FROM log_reached WHERE origin = $1 ORDER BY at")
            .bind(origin.as_str())
            .fetch_all(write.connection()?)
            .await?;
        write.commit().await?;
        let reached = reached.iter().map(reached_of).collect::<Result<Vec<_>, Error>>()?;
        let mut state = LogState {
            reached: reached.into(),
            fork: fork.as_ref().map(fork_of).transpose()?,
            newest_at: unsigned(newest_at)?,
            ..LogState::default()
        };
        if let Some(row) = head {
            let kept = kept_head(&row, 0, 1, 2)?;
            state.head = (!kept.note.is_empty()).then_some(kept);
            state.catching_up = row.try_get::<Option<i64>, _>(3)?.map(unsigned).transpose()?;
            if row.try_get::<Option<i64>, _>(4)?.is_some() {
                state.vouched = Some(head_of(&row, 4, 5)?);
            }
        }
        Ok(state)
    }

    /// Other logs that this node has followed.
    pub async fn other_logs(&self, origin: &Origin) -> Result<Vec<String>, Error> {
        let mut write = self.write().await?;
        let rows = sqlx::query("SELECT origin FROM log_heads WHERE origin <> $1 ORDER BY origin")
            .bind(origin.as_str())
            .fetch_all(write.connection()?)
            .await?;
        write.commit().await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// From now on (Unix seconds) this node neither signs nor cosigns until it has caught up with this log. Where the journal
    /// has a later time than the clock shows, from then on: what peers cosigned before vouches for nothing.
    pub async fn set_catching_up(&self, origin: &Origin, now: u64) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO log_heads (origin, size, root, note, catching_up) VALUES ($1, 0, $2, '', max($3, (SELECT newest_at FROM state)))
            ON CONFLICT (origin) DO UPDATE SET catching_up = excluded.catching_up",
        )
        .bind(origin.as_str())
        .bind(Head::EMPTY.root.as_bytes().as_slice())
        .bind(integer(now))
        .execute(write.connection()?)
        .await?;
        write.commit().await
    }

    /// The custodian's word, all of it or nothing: a pause is over, the present time (Unix seconds) is right, whatever the
    /// journal says, and the log goes on as the gate made it of that word ([`crate::gate::Gate::vouched`]), with the `head`
    /// that was named.
    pub async fn resume(&self, now: u64, log: &Unsaved, head: Option<Head>) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET paused = NULL, newest_at = min(newest_at, $1)")
            .bind(integer(now))
            .execute(write.connection()?)
            .await?;
        sqlx::query("UPDATE log_forks SET vouched_at = $1 WHERE origin = $2 AND vouched_at IS NULL")
            .bind(integer(now))
            .bind(log.origin.as_str())
            .execute(write.connection()?)
            .await?;
        sqlx::query("DELETE FROM log_reached WHERE at > $1")
            .bind(integer(now))
            .execute(write.connection()?)
            .await?;
        if let Some(head) = head {
            note_vouched(write.connection()?, now, &log.origin, head).await?;
        }
        let mut script = QueryBuilder::new("");
        keep(&mut script, log);
        script.build().execute(write.connection()?).await?;
        write.commit().await
    }
}

/// What was vouched for, and what the node itself knew until now.
async fn note_vouched(
    connection: &mut SqliteConnection,
    now: u64,
    origin: &Origin,
    head: Head,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO log_vouches (at, origin, size, root, own_size, own_root, catching_up)
        SELECT $1, $2, $3, $4, coalesce(max(size), 0), coalesce(max(root), $5), max(catching_up)
        FROM log_heads WHERE origin = $2",
    )
    .bind(integer(now))
    .bind(origin.as_str())
    .bind(integer(head.size))
    .bind(head.root.as_bytes().as_slice())
    .bind(Head::EMPTY.root.as_bytes().as_slice())
    .execute(connection)
    .await?;
    Ok(())
}

/// All rows of what is kept of logs, in the order of the columns of [`row`].
pub(super) const HEADS: &str =
    "SELECT origin, size, root, note, catching_up, vouched_size, vouched_root FROM log_heads ORDER BY origin";

/// The row of a log, as it is written and sealed.
pub(super) fn row(log: &Unsaved) -> [Value; 7] {
    let LogState { head, vouched, catching_up, .. } = &log.state;
    let (newest, note) = head.as_ref().map_or((Head::EMPTY, ""), |kept| (kept.head, kept.note.as_str()));
    [
        Value::text(log.origin.as_str()),
        Value::integer(newest.size),
        Value::blob(newest.root.as_bytes()),
        Value::text(note),
        Value::optional(*catching_up, Value::integer),
        Value::optional(*vouched, |head| Value::integer(head.size)),
        Value::optional(*vouched, |head| Value::blob(head.root.as_bytes())),
    ]
}

/// Writes what the gate knows, within the transaction of the decisions that rest on it.
pub(super) fn keep(script: &mut QueryBuilder<Sqlite>, log: &Unsaved) {
    let LogState { fork, newest_at, reached, .. } = &log.state;
    script.push("UPDATE state SET newest_at = max(newest_at, ").push_bind(integer(*newest_at)).push(");");
    script.push(
        "INSERT INTO log_heads (origin, size, root, note, catching_up, vouched_size, vouched_root) VALUES (",
    );
    let mut values = script.separated(", ");
    for value in row(log) {
        match value {
            Value::Null => values.push_bind(None::<i64>),
            Value::Integer(number) => values.push_bind(number),
            Value::Text(text) => values.push_bind(text),
            Value::Blob(bytes) => values.push_bind(bytes),
        };
    }
    script.push(
        ") ON CONFLICT (origin) DO UPDATE SET
            size = excluded.size, root = excluded.root, note = excluded.note, catching_up = excluded.catching_up,
            vouched_size = excluded.vouched_size, vouched_root = excluded.vouched_root;",
    );
    if let Some(newest) = reached.last() {
        keep_reached(script, &log.origin, *newest);
    }
    if let Some(fork) = fork {
        keep_fork(script, &log.origin, fork);
    }
}

/// The newest point, which mostly is there already; those before it are.
fn keep_reached(script: &mut QueryBuilder<Sqlite>, origin: &Origin, new: Reached) {
    script.push("INSERT OR IGNORE INTO log_reached (origin, at, size) VALUES (");
    script.separated(", ").push_bind(origin.as_str()).push_bind(integer(new.at)).push_bind(integer(new.size));
    let kept_from = new.at.saturating_sub(limits::REACHED_KEPT_S);
    script.push("); DELETE FROM log_reached WHERE origin = ").push_bind(origin.as_str());
    script.push(" AND at < ").push_bind(integer(kept_from)).push(";");
}

fn reached_of(row: &SqliteRow) -> Result<Reached, Error> {
    Ok(Reached { at: unsigned(row.try_get(0)?)?, size: unsigned(row.try_get(1)?)? })
}

/// A head that the custodian vouched against once is a fork again if it is shown again.
fn keep_fork(script: &mut QueryBuilder<Sqlite>, origin: &Origin, fork: &Fork) {
    let Fork { at, own, other } = fork;
    script.push("INSERT INTO log_forks (origin, size, root, other_root, note, other_note, at) VALUES (");
    script
        .separated(", ")
        .push_bind(origin.as_str())
        .push_bind(integer(own.head.size))
        .push_bind(own.head.root.as_bytes().as_slice())
        .push_bind(other.head.root.as_bytes().as_slice())
        .push_bind(own.note.as_str())
        .push_bind(other.note.as_str())
        .push_bind(integer(*at));
    script
        .push(") ON CONFLICT (origin, size, other_root) DO UPDATE SET at = excluded.at, vouched_at = NULL;");
}

fn fork_of(row: &SqliteRow) -> Result<Fork, Error> {
    Ok(Fork {
        own: kept_head(row, 0, 1, 2)?,
        other: kept_head(row, 0, 3, 4)?,
        at: unsigned(row.try_get(5)?)?,
    })
}

fn kept_head(row: &SqliteRow, size: usize, root: usize, note: usize) -> Result<KeptHead, Error> {
    Ok(KeptHead { head: head_of(row, size, root)?, note: row.try_get(note)? })
}

pub(super) fn head_of(row: &SqliteRow, size: usize, root: usize) -> Result<Head, Error> {
    let root: Vec<u8> = row.try_get(root)?;
    let root = Hash::from_slice(&root)
        .map_err(|_| Error::JournalRow("the root of a log's head has not 32 bytes".into()))?;
    Ok(Head { size: unsigned(row.try_get(size)?)?, root })
}
