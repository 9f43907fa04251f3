//! The lines of the journal, and what follows from them: marks, rates, custodians' refusals.

use rutli_policy::Rates;
use rutli_release::{Channel, ChannelKey, Class, InvalidRelease, Product, Version, limits::MAX_ARTIFACTS};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Journal, count, integer, unsigned};
use crate::{
    error::Error,
    limits,
    marks::{Mark, Marks},
    policy::Basis,
    rates::RateCounter,
    refusals::{CustodianRefusal, Refusals},
    sign::{JournalRecord, Verdict},
    versions::Versions,
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

    /// What custodians refused.
    pub async fn refusals(&self) -> Result<Refusals, Error> {
        let mut write = self.write().await?;
        let rows =
            sqlx::query("SELECT statement, custodian, reason, document FROM custodian_refusals ORDER BY id")
                .fetch_all(write.connection()?)
                .await?;
        write.commit().await?;
        Ok(Refusals::from_rows(rows.iter().map(refusal).collect::<Result<Vec<_>, _>>()?))
    }
}

/// Of every channel.
pub(super) async fn marks(connection: &mut SqliteConnection) -> Result<Marks, Error> {
    let versions = sqlx::query("SELECT class, product, channel, version, digest FROM versions LIMIT $1")
        .bind(count(limits::MAX_VERSIONS))
        .fetch_all(&mut *connection)
        .await?;
    let mut known = Versions::default();
    for row in &versions {
        known.note(&channel(row)?, &version(row, 3)?, &digest(row, 4)?);
    }
    let rows = sqlx::query("SELECT class, product, channel, sequence, digest, version, at FROM marks")
        .fetch_all(connection)
        .await?;
    Ok(Marks::from_rows(rows.iter().map(mark).collect::<Result<Vec<_>, _>>()?, known))
}

/// Writes lines. One statement for any number of rows, here and below: the rows travel as JSON, so the script has one of a
/// few texts, and is prepared once.
pub(super) fn insert(script: &mut QueryBuilder<Sqlite>, records: &[&JournalRecord]) {
    script
        .push(
            "INSERT INTO decisions
                (at, release_id, requester, key, digest, class, product, channel, version, sequence, verdict, reason,
                artifacts, policies, evidence, rules)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6,
                value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11,
                value ->> 12, value ->> 13, value ->> 14, unhex(value ->> 15)
            FROM json_each(",
        )
        .push_bind(rows(records, decision))
        .push(") ORDER BY json_each.key;");
}

fn rows<T>(of: &[T], row: impl Fn(&T) -> serde_json::Value) -> String {
    serde_json::Value::Array(of.iter().map(row).collect()).to_string()
}

fn decision(record: &&JournalRecord) -> serde_json::Value {
    let (verdict, reason) = match &record.verdict {
        Verdict::Permitted => ("permitted", ""),
        Verdict::Refused(refusal) => (refusal.code.as_str(), refusal.reason.as_str()),
    };
    let basis = record.basis.as_ref();
    let policies = |basis: &Basis| json!(basis.policies).to_string();
    let evidence =
        |basis: &Basis| json!(basis.evidence.iter().map(hex::encode).collect::<Vec<_>>()).to_string();
    json!([
        record.at,
        record.release_id.as_str(),
        record.requester.as_str(),
        record.key.as_str(),
        hex::encode(record.release_digest),
        record.class.as_str(),
        record.product.as_str(),
        record.channel.as_str(),
        record.version.as_str(),
        record.sequence,
        verdict,
        reason,
        record.artifacts,
        basis.map(policies),
        basis.map(evidence),
        basis.map(|basis| hex::encode(basis.rules)),
    ])
}

/// Raises the marks of the channels and keeps the versions, and forgets the marks beyond the window.
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
            FROM json_each(",
        )
        .push_bind(marks.clone())
        .push(
            ") WHERE true
            ON CONFLICT (class, product, channel, sequence) DO UPDATE SET digest = excluded.digest;
            INSERT INTO versions (class, product, channel, version, digest)
            SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 5, unhex(value ->> 4) FROM json_each(",
        )
        .push_bind(marks)
        .push(") WHERE true ORDER BY json_each.key ON CONFLICT (class, product, channel, version) DO NOTHING;");
    let mut channels: Vec<_> = permitted.iter().map(|record| record.channel_key()).collect();
    channels.sort_unstable();
    channels.dedup();
    script
        .push(
            "DELETE FROM marks WHERE (class, product, channel, sequence) IN (
                SELECT old.class, old.product, old.channel, old.sequence FROM json_each(",
        )
        .push_bind(rows(&channels, |key| json!([key.class.as_str(), key.product, key.channel])))
        .push(
            ") AS raised
                JOIN marks AS old ON old.class = raised.value ->> 0 AND old.product = raised.value ->> 1
                    AND old.channel = raised.value ->> 2
                WHERE old.sequence <= (
                    SELECT sequence FROM marks
                    WHERE class = old.class AND product = old.product AND channel = old.channel
                    ORDER BY sequence DESC LIMIT 1 OFFSET ",
        )
        .push_bind(count(limits::RETRY_WINDOW))
        .push("));");
}

/// Keeps what custodians refused; of each statement the first refusal, and of them the newest.
pub(super) fn keep_refusals(script: &mut QueryBuilder<Sqlite>, records: &[&JournalRecord]) {
    let refused: Vec<_> =
        records.iter().filter_map(|record| Some((record, record.refused_by.as_ref()?))).collect();
    if refused.is_empty() {
        return;
    }
    script
        .push(
            "INSERT INTO custodian_refusals (statement, release_id, custodian, reason, document, at)
            SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5
            FROM json_each(",
        )
        .push_bind(rows(&refused, |(record, refusal)| {
            json!([
                hex::encode(refusal.statement),
                record.release_id.as_str(),
                refusal.custodian.as_str(),
                refusal.reason.as_str(),
                hex::encode(refusal.document),
                record.at,
            ])
        }))
        .push(
            ") WHERE true ORDER BY json_each.key ON CONFLICT (statement) DO NOTHING;
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
    Ok(CustodianRefusal {
        statement: digest(row, 0)?,
        custodian: row.try_get(1)?,
        reason: row.try_get(2)?,
        document: digest(row, 3)?,
    })
}

fn digest(row: &SqliteRow, column: usize) -> Result<[u8; 32], Error> {
    let digest: Vec<u8> = row.try_get(column)?;
    digest.try_into().map_err(|_| Error::JournalRow("a digest has not 32 bytes".into()))
}
