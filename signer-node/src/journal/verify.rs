//! Verifies a whole journal when it is opened: is it what was written, all of it, and nothing else?
//!
//! It reads every line once. In order: SQLite's own check of its file, the seal, the chains from their first
//! kept line to the newest, and the marks, which follow from the permissions. Any mismatch is damage: the
//! node does not start with it. The versions that were permitted are nowhere but in these lines, so this gives
//! them.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;
use rutli_log::Hash;
use rutli_release::ChannelKey;
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::{
    decisions::{self, CUSTODIAN_REFUSALS, DECISIONS},
    memory::{self, Chain, Memory},
    rows::{Table, Value},
};
use crate::{error::Error, limits, marks::Mark, versions::Versions};

/// What stands in for the lines of one chain.
const PERMITTED: &str = "verdict = 'permitted'";
const REFUSED: &str = "verdict <> 'permitted'";
const ALL: &str = "true";

/// Whether SQLite finds its file whole, indices included.
pub(super) async fn file(connection: &mut SqliteConnection) -> Result<(), Error> {
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(3)").fetch_all(connection).await?;
    if found == ["ok"] { Ok(()) } else { Err(Error::JournalDamaged(found.join("; ").replace('\n', " "))) }
}

/// Checks that everything in the journal is what its memory says. `memory` came with a valid seal. Gives the versions that
/// were permitted.
pub(super) async fn content(connection: &mut SqliteConnection, memory: &Memory) -> Result<Versions, Error> {
    if !memory.rest_is(memory::rest(connection).await?) {
        return Err(Error::JournalDamaged("a table of its log or its ceremonies was changed".into()));
    }
    let begun = Memory::begin(memory.name);
    let (mut derived, mut versions) = (BTreeMap::new(), Versions::default());
    walk(connection, &DECISIONS, PERMITTED, Stretch::whole(begun.permitted, memory.permitted), |line| {
        let mark = decisions::mark_of(line)?;
        versions.note(&mark.channel, &mark.version, &mark.digest);
        derive(&mut derived, mark);
        Ok(())
    })
    .await?;
    let refused = Stretch::newest(begun.refused, memory.refused, u64::from(limits::MAX_JOURNALED_REFUSALS));
    walk(connection, &DECISIONS, REFUSED, refused, |_| Ok(())).await?;
    let most = u64::try_from(limits::MAX_CUSTODIAN_REFUSALS).unwrap_or(u64::MAX);
    let custodians = Stretch::newest(begun.custodians, memory.custodians, most);
    walk(connection, &CUSTODIAN_REFUSALS, ALL, custodians, |_| Ok(())).await?;
    let derived: Vec<Mark> = derived.into_values().flat_map(BTreeMap::into_values).collect();
    if decisions::mark_rows(connection).await? != derived {
        return Err(Error::JournalDamaged("its marks are not those of its permissions".into()));
    }
    Ok(versions)
}

/// The hash of the newest of the first `count` lines of the permissions, if the journal has so many.
pub(super) async fn permitted_after(
    connection: &mut SqliteConnection,
    memory: &Memory,
    count: u64,
) -> Result<Option<Hash>, Error> {
    if count >= memory.permitted.count {
        return Ok((count == memory.permitted.count).then_some(memory.permitted.head));
    }
    let query = format!("SELECT before FROM decisions WHERE {PERMITTED} ORDER BY id LIMIT 1 OFFSET $1");
    let row =
        sqlx::query(AssertSqlSafe(query)).bind(super::integer(count)).fetch_optional(connection).await?;
    row.map(|row| Value::read(&row, 0)?.as_hash().map(Hash)).transpose()
}

/// Which lines of a chain must be there.
struct Stretch {
    begun: Chain,
    newest: Chain,
    /// At least so many of the newest, if there were so many.
    kept: u64,
}

impl Stretch {
    fn whole(begun: Chain, newest: Chain) -> Self {
        Self { begun, newest, kept: u64::MAX }
    }

    fn newest(begun: Chain, newest: Chain, kept: u64) -> Self {
        Self { begun, newest, kept }
    }
}

/// Follows a chain from its first kept line to its newest.
async fn walk<const COLUMNS: usize>(
    connection: &mut SqliteConnection,
    table: &Table<COLUMNS>,
    which: &str,
    stretch: Stretch,
    mut each: impl FnMut(&[Value]) -> Result<(), Error>,
) -> Result<(), Error> {
    let broken = |problem: &str| Error::JournalDamaged(format!("{}: {problem}", table.name));
    let query = format!("SELECT {} FROM {} WHERE {which} ORDER BY id", table.selected(), table.name);
    let mut lines = sqlx::query(AssertSqlSafe(query)).fetch(connection);
    let (mut found, mut first, mut head) = (0_u64, stretch.begun.head, stretch.begun.head);
    while let Some(row) = lines.try_next().await? {
        let values = (0..COLUMNS).map(|column| Value::read(&row, column)).collect::<Result<Vec<_>, _>>()?;
        let before = Hash(Value::read(&row, COLUMNS)?.as_hash()?);
        if found == 0 {
            first = before;
        } else if head != before {
            return Err(broken("a line does not carry the hash of the one before"));
        }
        each(&values)?;
        head = table.hash(&before, &values);
        found = found.saturating_add(1);
    }
    if head != stretch.newest.head {
        return Err(broken("its newest lines are missing, or a line was changed"));
    }
    if found > stretch.newest.count || found < stretch.newest.count.min(stretch.kept) {
        return Err(broken("it does not have as many lines as were written"));
    }
    // What came before the first line was deleted, unless all of them are there.
    if found == stretch.newest.count && first != stretch.begun.head {
        return Err(broken("its first line is not the first that was written"));
    }
    Ok(())
}

/// What [`crate::marks`] keeps of a permission: of each channel the highest sequences, and of each when it was first permitted.
fn derive(marks: &mut BTreeMap<ChannelKey, BTreeMap<u64, Mark>>, mark: Mark) {
    let window = marks.entry(mark.channel.clone()).or_default();
    window.entry(mark.sequence).or_insert(mark);
    while window.len() > limits::RETRY_WINDOW {
        window.pop_first();
    }
}
