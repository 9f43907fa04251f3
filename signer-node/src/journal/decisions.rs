//! The lines of the journal, and what follows from them: marks, rates, custodians' refusals.

use std::sync::LazyLock;

use futures::TryStreamExt as _;
use rutli_log::Hash;
use rutli_policy::Rates;
use rutli_release::{Channel, ChannelKey, Class, InvalidRelease, Product, Version, limits::MAX_ARTIFACTS};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Journal, count, integer,
    memory::Memory,
    rows::{Kind, Table, Value},
    unsigned,
};
use crate::{
    error::Error,
    limits,
    marks::Mark,
    policy::Basis,
    rates::RateCounter,
    refusals::{CustodianRefusal, FileKey, PermittedFiles, Refusals, file_key},
    sign::{JournalRecord, Verdict},
};

impl Journal {
    /// What was permitted within the last hour, by a clock that says `now` (Unix seconds). Where the journal's newest line is older,
    /// the hour before that line is read too: the clock may yet turn out to be ahead.
    pub async fn rates(&self, now: u64) -> Result<RateCounter, Error> {
        let mut write = self.write().await?;
        let newest_at: i64 =
            sqlx::query_scalar("SELECT newest_at FROM state").fetch_one(write.connection()?).await?;
        // A release whose line was written twice counts once. Lines from before this version do not say how many files.
        let rows = sqlx::query(
            "SELECT class, product, at / 60, count(*), sum(artifacts) FROM (
                SELECT class, product, max(at) AS at, coalesce(max(artifacts), $2) AS artifacts
                FROM decisions WHERE verdict = 'permitted' AND at >= $1 GROUP BY digest)
            GROUP BY 1, 2, 3",
        )
        .bind(integer(RateCounter::since(now.min(unsigned(newest_at)?))))
        .bind(count(MAX_ARTIFACTS))
        .fetch_all(write.connection()?)
        .await?;
        write.commit().await?;
        let rows = rows.iter().map(rate).collect::<Result<Vec<_>, _>>()?;
        Ok(RateCounter::from_rows(rows, now))
    }

    /// What custodians refused, and which files were permitted.
    pub async fn refusals(&self) -> Result<Refusals, Error> {
        let mut write = self.write().await?;
        let refused = sqlx::query(
            "SELECT statement, product, files, custodian, reason, document FROM custodian_refusals ORDER BY id",
        )
        .fetch_all(write.connection()?)
        .await?;
        // All lines, in their order: so the node forgets the same after a restart as without one.
        let mut permitted = PermittedFiles::default();
        let mut lines = sqlx::query(
            "SELECT statement, files, product FROM decisions WHERE verdict = 'permitted' AND files IS NOT NULL ORDER BY id",
        )
        .fetch(write.connection()?);
        while let Some(line) = lines.try_next().await? {
            let (statement, files, product) = permitted_files(&line)?;
            files.into_iter().for_each(|file| permitted.add(&product, file, &statement));
        }
        drop(lines);
        write.commit().await?;
        Ok(Refusals::from_rows(refused.iter().map(refusal).collect::<Result<Vec<_>, _>>()?, permitted))
    }
}

/// The lines, in the order of their columns. See [`Table`] for how to add one.
pub(super) const DECISIONS: Table<18> = Table {
    name: "decisions",
    label: b"rutli-journal-decision/v1\0",
    columns: [
        ("at", Kind::Plain),
        ("release_id", Kind::Plain),
        ("requester", Kind::Plain),
        ("key", Kind::Plain),
        ("digest", Kind::Blob),
        ("class", Kind::Plain),
        ("product", Kind::Plain),
        ("channel", Kind::Plain),
        ("version", Kind::Plain),
        ("sequence", Kind::Plain),
        ("verdict", Kind::Plain),
        ("reason", Kind::Plain),
        ("artifacts", Kind::Plain),
        ("policies", Kind::Plain),
        ("evidence", Kind::Plain),
        ("rules", Kind::Blob),
        ("statement", Kind::Blob),
        ("files", Kind::Blob),
    ],
};

/// The same for what custodians refused.
pub(super) const CUSTODIAN_REFUSALS: Table<8> = Table {
    name: "custodian_refusals",
    label: b"rutli-journal-custodian-refusal/v1\0",
    columns: [
        ("statement", Kind::Blob),
        ("release_id", Kind::Plain),
        ("product", Kind::Plain),
        ("files", Kind::Blob),
        ("custodian", Kind::Plain),
        ("reason", Kind::Plain),
        ("document", Kind::Blob),
        ("at", Kind::Plain),
    ],
};

static INSERT_DECISIONS: LazyLock<String> = LazyLock::new(|| DECISIONS.insert());
static INSERT_REFUSALS: LazyLock<String> = LazyLock::new(|| CUSTODIAN_REFUSALS.insert());

/// The values of a line, as [`DECISIONS`] names them.
fn decision(record: &JournalRecord) -> [Value; 18] {
    let (verdict, reason) = match &record.verdict {
        Verdict::Permitted => ("permitted", ""),
        Verdict::Refused(refusal) => (refusal.code.as_str(), refusal.reason.as_str()),
    };
    let basis = record.basis.as_ref();
    let files = Some(&record.files).filter(|files| !files.is_empty());
    let policies = |basis: &Basis| Value::text(json!(basis.policies).to_string());
    let evidence = |basis: &Basis| {
        Value::text(json!(basis.evidence.iter().map(hex::encode).collect::<Vec<_>>()).to_string())
    };
    [
        Value::integer(record.at),
        Value::text(record.release_id.as_str()),
        Value::text(record.requester.as_str()),
        Value::text(record.key.as_str()),
        Value::blob(record.release_digest),
        Value::text(record.class.as_str()),
        Value::text(record.product.as_str()),
        Value::text(record.channel.as_str()),
        Value::text(record.version.as_str()),
        Value::integer(record.sequence),
        Value::text(verdict),
        Value::text(reason),
        Value::integer(record.artifacts),
        Value::optional(basis, policies),
        Value::optional(basis, evidence),
        Value::optional(basis, |basis| Value::blob(basis.rules)),
        Value::optional(files, |_| Value::blob(record.statement)),
        Value::optional(files, |files| Value::blob(keys_of(files))),
    ]
}

/// The same for what a custodian refused.
fn custodian_refusal(record: &JournalRecord, refusal: &CustodianRefusal) -> [Value; 8] {
    [
        Value::blob(refusal.statement),
        Value::text(record.release_id.as_str()),
        Value::text(refusal.product.as_str()),
        Value::blob(refusal.files.as_flattened()),
        Value::text(&refusal.custodian),
        Value::text(&refusal.reason),
        Value::blob(refusal.document),
        Value::integer(record.at),
    ]
}

/// The mark that a permission's line leaves.
pub(super) fn mark_of(line: &[Value]) -> Result<Mark, Error> {
    let column = |name: &str| {
        let value = DECISIONS.place(name).and_then(|place| line.get(place));
        value.ok_or_else(|| Error::JournalRow(format!("a line has no {name}")))
    };
    Ok(Mark {
        channel: ChannelKey {
            class: column("class")?.as_text()?.parse().map_err(unreadable)?,
            product: Product::new(column("product")?.as_text()?).map_err(unreadable)?,
            channel: Channel::new(column("channel")?.as_text()?).map_err(unreadable)?,
        },
        sequence: column("sequence")?.as_number()?,
        digest: column("digest")?.as_hash()?,
        version: Version::new(column("version")?.as_text()?).map_err(unreadable)?,
        at: column("at")?.as_number()?,
    })
}

/// In the order of channel and sequence.
pub(super) async fn mark_rows(connection: &mut SqliteConnection) -> Result<Vec<Mark>, Error> {
    let rows = sqlx::query("SELECT class, product, channel, sequence, digest, version, at FROM marks")
        .fetch_all(connection)
        .await?;
    let mut marks = rows.iter().map(mark).collect::<Result<Vec<_>, _>>()?;
    marks.sort_unstable_by(|a, b| (&a.channel, a.sequence).cmp(&(&b.channel, b.sequence)));
    Ok(marks)
}

/// Writes lines, each after the one before it in its chain. One statement for any number of rows, here and below: the rows
/// travel as JSON, so the script has one of a few texts, and is prepared once.
pub(super) fn insert(script: &mut QueryBuilder<Sqlite>, memory: &mut Memory, records: &[&JournalRecord]) {
    let mut line = |record: &&JournalRecord| {
        let line = decision(record);
        let chain = match record.verdict {
            Verdict::Permitted => &mut memory.permitted,
            Verdict::Refused(_) => &mut memory.refused,
        };
        chained(chain.append(&DECISIONS, &line), &line)
    };
    let lines = serde_json::Value::Array(records.iter().map(&mut line).collect());
    script.push(INSERT_DECISIONS.as_str()).push_bind(lines.to_string()).push(") ORDER BY jsonb_each.key;");
}

/// A line in JSON, with the hash of the one before it.
fn chained(before: Hash, line: &[Value]) -> serde_json::Value {
    let before = serde_json::Value::from(hex::encode(before.as_bytes()));
    line.iter().map(Value::json).chain([before]).collect()
}

fn rows<T>(of: &[T], row: impl Fn(&T) -> serde_json::Value) -> String {
    serde_json::Value::Array(of.iter().map(row).collect()).to_string()
}

/// Raises the marks of the channels, and forgets those beyond the window.
pub(super) fn raise_marks(script: &mut QueryBuilder<Sqlite>, permitted: &[&JournalRecord]) {
    let mark = |record: &&JournalRecord| {
        let (class, product, channel) = (record.class.as_str(), &record.product, &record.channel);
        let (digest, version) = (hex::encode(record.release_digest), record.version.as_str());
        json!([class, product, channel, record.sequence, digest, version, record.at])
    };
    let marks = rows(permitted, mark);
    script
        .push(
            "INSERT INTO marks (class, product, channel, sequence, digest, version, at)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6
            FROM jsonb_each(",
        )
        .push_bind(marks)
        .push(
            ") WHERE true
            ON CONFLICT (class, product, channel, sequence) DO UPDATE SET digest = excluded.digest;",
        );
    let mut channels: Vec<_> = permitted.iter().map(|record| record.channel_key()).collect();
    channels.sort_unstable();
    channels.dedup();
    // Once for each channel, not for each of its marks: their number squared is more than all else that a batch costs.
    script
        .push(
            "WITH raised AS MATERIALIZED (
                SELECT value ->> 0 AS class, value ->> 1 AS product, value ->> 2 AS channel, (
                    SELECT sequence FROM marks
                    WHERE class = value ->> 0 AND product = value ->> 1 AND channel = value ->> 2
                    ORDER BY sequence DESC LIMIT 1 OFFSET ",
        )
        .push_bind(count(limits::RETRY_WINDOW))
        .push(") AS forgotten FROM jsonb_each(")
        .push_bind(rows(&channels, |key| json!([key.class.as_str(), key.product, key.channel])))
        .push(
            "))
            DELETE FROM marks WHERE (class, product, channel, sequence) IN (
                SELECT old.class, old.product, old.channel, old.sequence FROM raised
                JOIN marks AS old ON old.class = raised.class AND old.product = raised.product
                    AND old.channel = raised.channel AND old.sequence <= raised.forgotten
            );",
        );
}

/// Keeps what custodians refused, of it the newest. A document that is written again changes nothing.
pub(super) fn keep_refusals(
    script: &mut QueryBuilder<Sqlite>,
    memory: &mut Memory,
    records: &[&JournalRecord],
) {
    let refused =
        records.iter().flat_map(|record| record.refused_by.iter().map(move |refusal| (record, refusal)));
    let lines: Vec<serde_json::Value> = refused
        .map(|(record, refusal)| {
            let line = custodian_refusal(record, refusal);
            chained(memory.custodians.append(&CUSTODIAN_REFUSALS, &line), &line)
        })
        .collect();
    if lines.is_empty() {
        return;
    }
    script
        .push(INSERT_REFUSALS.as_str())
        .push_bind(serde_json::Value::Array(lines).to_string())
        .push(
            ") ORDER BY jsonb_each.key;
            DELETE FROM custodian_refusals WHERE id <= (
                SELECT id FROM custodian_refusals ORDER BY id DESC LIMIT 1 OFFSET ",
        )
        .push_bind(count(limits::MAX_CUSTODIAN_REFUSALS))
        .push(");");
}

/// Forgets the oldest lines of what was refused.
pub(super) fn prune(script: &mut QueryBuilder<Sqlite>) {
    script
        .push(
            "DELETE FROM decisions WHERE verdict <> 'permitted' AND id <= (
                SELECT id FROM decisions WHERE verdict <> 'permitted' ORDER BY id DESC LIMIT 1 OFFSET ",
        )
        .push_bind(limits::MAX_JOURNALED_REFUSALS)
        .push(");");
}

fn mark(row: &SqliteRow) -> Result<Mark, Error> {
    Ok(Mark {
        channel: channel(row)?,
        sequence: unsigned(row.try_get(3)?)?,
        digest: digest(row, 4)?,
        version: version(row, 5)?,
        at: unsigned(row.try_get(6)?)?,
    })
}

/// From the first three columns.
fn channel(row: &SqliteRow) -> Result<ChannelKey, Error> {
    Ok(ChannelKey {
        class: row.try_get::<String, _>(0)?.parse().map_err(unreadable)?,
        product: Product::new(row.try_get::<String, _>(1)?).map_err(unreadable)?,
        channel: Channel::new(row.try_get::<String, _>(2)?).map_err(unreadable)?,
    })
}

fn version(row: &SqliteRow, column: usize) -> Result<Version, Error> {
    Version::new(row.try_get::<String, _>(column)?).map_err(unreadable)
}

fn unreadable(error: InvalidRelease) -> Error {
    Error::JournalRow(error.to_string())
}

fn rate(row: &SqliteRow) -> Result<(Class, Product, u64, Rates), Error> {
    let class: Class = row.try_get::<String, _>(0)?.parse().map_err(unreadable)?;
    let product = Product::new(row.try_get::<String, _>(1)?).map_err(unreadable)?;
    let rates =
        Rates { releases_in_hour: unsigned(row.try_get(3)?)?, artifacts_in_hour: unsigned(row.try_get(4)?)? };
    Ok((class, product, unsigned(row.try_get(2)?)?, rates))
}

fn refusal(row: &SqliteRow) -> Result<CustodianRefusal, Error> {
    let files: Vec<u8> = row.try_get(2)?;
    let (files, []) = files.as_chunks::<32>() else {
        return Err(Error::JournalRow("the files of a refusal have not 32 bytes each".into()));
    };
    Ok(CustodianRefusal {
        statement: digest(row, 0)?,
        product: Product::new(row.try_get::<String, _>(1)?).map_err(unreadable)?,
        files: files.to_vec(),
        custodian: row.try_get(3)?,
        reason: row.try_get(4)?,
        document: digest(row, 5)?,
    })
}

fn permitted_files(row: &SqliteRow) -> Result<([u8; 32], Vec<FileKey>, Product), Error> {
    let files: Vec<u8> = row.try_get(1)?;
    let (files, []) = files.as_chunks::<16>() else {
        return Err(Error::JournalRow("the files of a permission have not 16 bytes each".into()));
    };
    let product = Product::new(row.try_get::<String, _>(2)?).map_err(unreadable)?;
    Ok((digest(row, 0)?, files.to_vec(), product))
}

fn keys_of(files: &[[u8; 32]]) -> Vec<u8> {
    files.iter().flat_map(file_key).collect()
}

fn digest(row: &SqliteRow, column: usize) -> Result<[u8; 32], Error> {
    let digest: Vec<u8> = row.try_get(column)?;
    digest.try_into().map_err(|_| Error::JournalRow("a digest has not 32 bytes".into()))
}
