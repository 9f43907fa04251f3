//! What the journal knows about itself, so that lost, damaged or old state is never taken for complete.
//!
//! - **Chains.** Each line of `decisions` carries the hash of the one before it, permissions and refusals
//!   separately, because the oldest refusals are deleted; custodians' refusals are a third chain. The hash of
//!   each newest line is in the row `memory`.
//! - **The seal** in that row covers it, the row `state`, the heads of the logs and the tables that are
//!   small. It changes with every transaction, so a mix of pages from two times is not accepted as a journal.
//! - **The point** is what of all this goes to the [witness](crate::journal_witness) outside of the data folder.
//!
//! The journal has one writer, which keeps all of this in memory, so a batch needs no further round trip to
//! SQLite. A write through [`super::Write::commit`] is sealed there from the tables' content.

use std::collections::BTreeMap;

use rutli_log::{Hash, Head};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{
    decisions::{CUSTODIAN_REFUSALS, DECISIONS},
    log,
    rows::{Table, Value},
    unsigned,
};
use crate::{
    error::Error,
    gate::{Reached, Unsaved},
};

/// The tables that are sealed as a whole, with the order of their rows. Whatever changes them ends with
/// [`super::Write::commit`].
const SMALL: [(&str, &str); 5] = [
    ("log_forks", "origin, size, other_root"),
    ("log_reached", "origin, at"),
    ("log_vouches", "id"),
    ("ceremonies", "id"),
    ("ceremony_messages", "ceremony, sender, step"),
];

/// How many lines a chain has, and the hash of the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Lines so far, also those that were deleted since.
    pub count: u64,
    /// Of the newest.
    pub head: Hash,
}

/// Where a journal is: what the witness keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The journal's own name, drawn when it began.
    pub journal: Hash,
    /// Permissions.
    pub permitted: Chain,
    /// Refusals.
    pub refused: Chain,
    /// What custodians refused.
    pub custodians: Chain,
    /// Transactions so far that changed something else: ceremonies, forks, a pause, what a custodian vouched for.
    pub changes: u64,
    /// By origin: the newest head of each log that was taken.
    pub heads: BTreeMap<String, Head>,
}

impl Point {
    /// Nothing was decided and no head taken.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let chains = [self.permitted, self.refused, self.custodians];
        chains.iter().all(|chain| chain.count == 0) && self.heads.values().all(|head| head.size == 0)
    }
}

/// What the writer keeps in memory between two transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) name: Hash,
    pub(super) permitted: Chain,
    pub(super) refused: Chain,
    pub(super) custodians: Chain,
    newest_at: u64,
    paused: Option<String>,
    heads: BTreeMap<String, SealedHead>,
    /// The newest point of each log in `log_reached` that this process wrote.
    reached: BTreeMap<String, Reached>,
    rest: Hash,
    changes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SealedHead {
    head: Head,
    row: Hash,
}

impl Chain {
    /// The chain without a line, of one table of one journal.
    pub(super) fn begin(journal: Hash, label: &[u8], kind: &str) -> Self {
        let mut hasher = Sha256::new_with_prefix(label);
        hasher.update(kind.as_bytes());
        hasher.update(journal.as_bytes());
        Self { count: 0, head: Hash(hasher.finalize().into()) }
    }

    /// Adds a line; gives the hash that it carries, of the one before.
    pub(super) fn append<const COLUMNS: usize>(&mut self, table: &Table<COLUMNS>, line: &[Value]) -> Hash {
        let before = self.head;
        self.head = table.hash(&before, line);
        self.count = self.count.saturating_add(1);
        before
    }
}

impl Memory {
    /// Of a journal that begins under this name.
    pub(super) fn begin(name: Hash) -> Self {
        let chain = |kind| Chain::begin(name, DECISIONS.label, kind);
        Self {
            name,
            permitted: chain("permitted"),
            refused: chain("refused"),
            custodians: Chain::begin(name, CUSTODIAN_REFUSALS.label, "custodians"),
            newest_at: 0,
            paused: None,
            heads: BTreeMap::new(),
            reached: BTreeMap::new(),
            rest: Hash([0; 32]),
            changes: 0,
        }
    }

    /// What the journal's own rows say, as long as the seal fits; `None` if it has not begun.
    pub(super) async fn load(connection: &mut SqliteConnection) -> Result<Option<Self>, Error> {
        let row = sqlx::query(
            "SELECT name, permitted, refused, custodians, custodian_count, rest, changes, seal FROM memory WHERE id = 1",
        )
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Value::read_all(&row)?;
        let hash = |place: usize| row.get(place).map_or(Err(short()), Value::as_hash).map(Hash);
        let mut memory = Self::begin(hash(0)?);
        memory.permitted.head = hash(1)?;
        memory.refused.head = hash(2)?;
        let number = |place: usize| row.get(place).map_or(Err(short()), Value::as_number);
        memory.custodians = Chain { count: number(4)?, head: hash(3)? };
        memory.rest = hash(5)?;
        memory.changes = number(6)?;
        memory.read_state(connection).await?;
        if memory.seal() != hash(7)? {
            return Err(Error::JournalDamaged("its rows are not those of one and the same time".into()));
        }
        Ok(Some(memory))
    }

    /// Reads the tables that are written by others than [`super::Journal::record`].
    async fn read_state(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        let state = sqlx::query("SELECT paused, newest_at, permitted, refused FROM state WHERE id = 1")
            .fetch_one(&mut *connection)
            .await?;
        self.paused = state.try_get(0)?;
        self.newest_at = unsigned(state.try_get(1)?)?;
        self.permitted.count = unsigned(state.try_get(2)?)?;
        self.refused.count = unsigned(state.try_get(3)?)?;
        self.heads.clear();
        for row in sqlx::query(log::HEADS).fetch_all(&mut *connection).await? {
            let values = Value::read_all(&row)?;
            self.heads.insert(
                row.try_get(0)?,
                SealedHead { head: log::head_of(&row, 1, 2)?, row: digest(&values) },
            );
        }
        Ok(())
    }

    /// Seals the current content of the tables, within their transaction.
    pub(super) async fn reseal(&mut self, connection: &mut SqliteConnection) -> Result<(), Error> {
        let before = (self.rest, self.paused.clone());
        self.read_state(connection).await?;
        self.rest = rest(connection).await?;
        if before != (self.rest, self.paused.clone()) {
            self.changes = self.changes.saturating_add(1);
        }
        let mut script = QueryBuilder::new("");
        self.write(&mut script);
        script.build().execute(connection).await?;
        Ok(())
    }

    /// A decision was made or a head taken at this time.
    pub(super) fn note_time(&mut self, at: u64) {
        self.newest_at = self.newest_at.max(at);
    }

    /// A head was taken: its row will be the one that is given.
    pub(super) fn note_head(&mut self, log: &Unsaved) {
        let head = log.state.head.as_ref().map_or(Head::EMPTY, |kept| kept.head);
        let row = digest(&log::row(log));
        self.heads.insert(log.origin.as_str().to_owned(), SealedHead { head, row });
        self.note_time(log.state.newest_at);
    }

    /// How far a log was: whether that is new, so that it changes the table.
    pub(super) fn note_reached(&mut self, log: &Unsaved) -> bool {
        let Some(newest) = log.state.reached.last() else { return false };
        self.reached.insert(log.origin.as_str().to_owned(), *newest) != Some(*newest)
    }

    /// The statement that writes it.
    pub(super) fn write(&self, script: &mut QueryBuilder<Sqlite>) {
        let bytes = |hash: &Hash| hash.as_bytes().to_vec();
        script.push("INSERT OR REPLACE INTO memory VALUES (1, ");
        script
            .separated(", ")
            .push_bind(bytes(&self.name))
            .push_bind(bytes(&self.permitted.head))
            .push_bind(bytes(&self.refused.head))
            .push_bind(bytes(&self.custodians.head))
            .push_bind(super::integer(self.custodians.count))
            .push_bind(bytes(&self.rest))
            .push_bind(super::integer(self.changes))
            .push_bind(bytes(&self.seal()));
        script.push(");");
    }

    fn seal(&self) -> Hash {
        let mut hasher = Sha256::new_with_prefix(b"rutli-journal-seal/v1\0");
        hasher.update(self.name.as_bytes());
        for chain in [&self.permitted, &self.refused, &self.custodians] {
            Value::integer(chain.count).hash_into(&mut hasher);
            hasher.update(chain.head.as_bytes());
        }
        Value::integer(self.newest_at).hash_into(&mut hasher);
        Value::optional(self.paused.as_ref(), Value::text).hash_into(&mut hasher);
        hasher.update(self.rest.as_bytes());
        Value::integer(self.changes).hash_into(&mut hasher);
        for (origin, sealed) in &self.heads {
            Value::text(origin).hash_into(&mut hasher);
            hasher.update(sealed.row.as_bytes());
        }
        Hash(hasher.finalize().into())
    }

    pub(super) fn rest_is(&self, rest: Hash) -> bool {
        self.rest == rest
    }

    pub(super) fn point(&self) -> Point {
        Point {
            journal: self.name,
            permitted: self.permitted,
            refused: self.refused,
            custodians: self.custodians,
            changes: self.changes,
            heads: self.heads.iter().map(|(origin, sealed)| (origin.clone(), sealed.head)).collect(),
        }
    }
}

/// Over all rows of the small tables.
pub(super) async fn rest(connection: &mut SqliteConnection) -> Result<Hash, Error> {
    let mut hasher = Sha256::new_with_prefix(b"rutli-journal-rest/v1\0");
    for (table, order) in SMALL {
        Value::text(table).hash_into(&mut hasher);
        let query = format!("SELECT * FROM {table} ORDER BY {order}");
        for row in sqlx::query(AssertSqlSafe(query)).fetch_all(&mut *connection).await? {
            hasher.update(digest(&Value::read_all(&row)?).as_bytes());
        }
    }
    Ok(Hash(hasher.finalize().into()))
}

fn digest(values: &[Value]) -> Hash {
    let mut hasher = Sha256::new_with_prefix(b"rutli-journal-row/v1\0");
    values.iter().for_each(|value| value.hash_into(&mut hasher));
    Hash(hasher.finalize().into())
}

fn short() -> Error {
    Error::JournalRow("a column is missing".into())
}
