//! The lines of the journal, and what follows from them: marks, rates, custodians' refusals.

use rutli_policy::Rates;
use rutli_release::{Channel, Class, Product, limits::MAX_ARTIFACTS};
use serde_json::json;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Journal, count, integer, unsigned};
use crate::{
    error::Error,
    limits,
    marks::{Mark, Marks},
    policy::Basis,
    rates::RateCounter,
    refusals::{CustodianRefusal, Refusals},
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
    let rows =
        sqlx::query("SELECT product, channel, sequence, digest, at FROM marks").fetch_all(connection).await?;
    Ok(Marks::from_rows(rows.iter().map(mark).collect::<Result<Vec<_>, _>>()?))
}

/// One statement for any number of rows: the rows travel as JSON, so its text is always the same and prepared once.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    records: &[&JournalRecord],
) -> Result<(), Error> {
    let rows: Vec<_> = records.iter().map(|record| decision(record)).collect();
    sqlx::query(
        "INSERT INTO decisions
            (at, release_id, requester, key, digest, class, product, channel, version, sequence, verdict, reason,
            artifacts, policies, evidence, rules)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), value ->> 5, value ->> 6,
            value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11,
            value ->> 12, value ->> 13, value ->> 14, unhex(value ->> 15)
        FROM json_each($1) ORDER BY json_each.key",
    )
    .bind(serde_json::Value::from(rows).to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn decision(record: &JournalRecord) -> serde_json::Value {
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

/// Raises the marks of the channels, and forgets what is beyond the window.
pub(super) async fn raise_marks(
    connection: &mut SqliteConnection,
    permitted: &[&JournalRecord],
) -> Result<(), Error> {
    for rows in permitted.chunks(limits::ROWS_PER_INSERT) {
        let rows: Vec<_> = rows
            .iter()
            .map(|record| {
                let digest = hex::encode(record.release_digest);
                let (product, channel) = (record.product.as_str(), record.channel.as_str());
                json!([product, channel, record.sequence, digest, record.at])
            })
            .collect();
        sqlx::query(
            "INSERT INTO marks (product, channel, sequence, digest, at)
            SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3), value ->> 4 FROM json_each($1) WHERE true
            ON CONFLICT (product, channel, sequence) DO UPDATE SET digest = excluded.digest",
        )
        .bind(serde_json::Value::from(rows).to_string())
        .execute(&mut *connection)
        .await?;
    }
    let mut channels: Vec<_> = permitted.iter().map(|record| (&record.product, &record.channel)).collect();
    channels.sort_unstable();
    channels.dedup();
    for (product, channel) in channels {
        sqlx::query(
            "DELETE FROM marks WHERE product = $1 AND channel = $2 AND sequence <= (
                SELECT sequence FROM marks WHERE product = $1 AND channel = $2
                ORDER BY sequence DESC LIMIT 1 OFFSET $3)",
        )
        .bind(product.as_str())
        .bind(channel.as_str())
        .bind(count(limits::RETRY_WINDOW))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Keeps what custodians refused; of each statement the first refusal, and of them the newest.
pub(super) async fn keep_refusals(
    connection: &mut SqliteConnection,
    records: &[&JournalRecord],
) -> Result<(), Error> {
    let mut kept = false;
    for (record, refusal) in records.iter().filter_map(|record| Some((record, record.refused_by.as_ref()?))) {
        sqlx::query(
            "INSERT INTO custodian_refusals (statement, release_id, custodian, reason, document, at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (statement) DO NOTHING",
        )
        .bind(refusal.statement.as_slice())
        .bind(record.release_id.as_str())
        .bind(refusal.custodian.as_str())
        .bind(refusal.reason.as_str())
        .bind(refusal.document.as_slice())
        .bind(integer(record.at))
        .execute(&mut *connection)
        .await?;
        kept = true;
    }
    if kept {
        sqlx::query(
            "DELETE FROM custodian_refusals WHERE id <= (
                SELECT id FROM custodian_refusals ORDER BY id DESC LIMIT 1 OFFSET $1)",
        )
        .bind(count(limits::MAX_CUSTODIAN_REFUSALS))
        .execute(connection)
        .await?;
    }
    Ok(())
}

fn mark(row: &SqliteRow) -> Result<Mark, Error> {
    let unreadable = |error: rutli_release::InvalidRelease| Error::JournalRow(error.to_string());
    Ok(Mark {
        product: Product::new(row.try_get::<String, _>(0)?).map_err(unreadable)?,
        channel: Channel::new(row.try_get::<String, _>(1)?).map_err(unreadable)?,
        sequence: unsigned(row.try_get(2)?)?,
        digest: digest(row, 3)?,
        at: unsigned(row.try_get(4)?)?,
    })
}

fn rate(row: &SqliteRow) -> Result<(Class, Product, u64, Rates), Error> {
    let unreadable = |error: rutli_release::InvalidRelease| Error::JournalRow(error.to_string());
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
