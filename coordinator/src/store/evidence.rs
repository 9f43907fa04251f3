//! The store's side of evidence: documents beside the release that they belong to, each named by an entry of the log.

use prost::bytes::Bytes;
use rutli_log::{
    Entry, Hash,
    entry::{Evidence, kinds},
    leaf_hash, sha256,
};
use rutli_release::ReleaseId;
use rutli_wire::{link::LoggedEvidence, v1};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Charge, ReleaseNumber, Store,
    budget::Spent,
    checksum::{Broken, Checksum},
    writer::{signed, unsigned},
};
use crate::{
    error::{Error, Result},
    evidence::{Document, check_room, too_late},
    limits,
    log::sequencer::Appending,
};

/// Evidence that is to be added to a release.
#[derive(Clone, Debug)]
pub struct NewEvidence {
    /// Of the release.
    pub number: ReleaseNumber,
    /// Who brings it, by its certificate: `ROLE:NAME`.
    pub submitter: String,
    /// Unix seconds.
    pub at: u64,
    /// Who is charged for it.
    pub charge: Charge,
    /// Without two that are the same.
    pub documents: Vec<Document>,
}

/// All evidence of a release.
#[derive(Clone, Debug, Default)]
pub struct AllEvidence {
    /// What there is, in the order in which it came.
    pub infos: Vec<v1::EvidenceInfo>,
    /// The entries that name what was added to the request, in the order of the log, without proofs.
    pub entries: Vec<LoggedEvidence>,
}

impl Store {
    /// The entries that name what was added to a release, in the order of the log, without proofs.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn evidence_entries(&self, number: ReleaseNumber) -> Result<Vec<LoggedEvidence>> {
        let mut connection = self.reads.acquire().await.map_err(failed)?;
        entries(&mut connection, number.0).await.map_err(failed)
    }

    /// All evidence of a release with its documents, in the order in which it came.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn evidence(&self, number: ReleaseNumber) -> Result<Vec<(v1::EvidenceInfo, Bytes)>> {
        let rows = sqlx::query(
            "SELECT digest, kind, submitter, added_at, log_index, length(document), logged_by, checksum, \
             (SELECT request_checksum IS NOT NULL FROM releases WHERE releases.number = release), document FROM evidence \
             WHERE release = $1 ORDER BY number",
        )
        .bind(number.0)
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        let read = |row: &SqliteRow| {
            let record = Record {
                digest: row.try_get(0)?,
                kind: row.try_get(1)?,
                submitter: row.try_get(2)?,
                added_at: row.try_get(3)?,
                index: row.try_get(4)?,
                size: row.try_get(5)?,
                logged_by: row.try_get(6)?,
                checksum: row.try_get::<Option<_>, _>(7)?.unwrap_or_default(),
            };
            record.info(number.0, row.try_get(8)?)
        };
        rows.iter()
            .map(|row| {
                let info = read(row).map_err(failed)?;
                let document: Bytes = row.try_get::<Vec<u8>, _>(9).map_err(failed)?.into();
                if sha256(&document).as_bytes().as_slice() != info.digest {
                    return Err(failed(Broken::of(format!(
                        "a document of evidence for release no. {}",
                        number.0
                    ))));
                }
                Ok((info, document))
            })
            .collect()
    }
}

/// What the store has of a document beside itself.
struct Record {
    digest: Vec<u8>,
    kind: String,
    submitter: String,
    added_at: i64,
    index: i64,
    size: i64,
    /// The submitter's name in the log.
    logged_by: String,
    /// Empty if it has none.
    checksum: Vec<u8>,
}

impl Record {
    /// `has_checksums`: its release is of a version that has them.
    fn info(self, release: i64, has_checksums: bool) -> sqlx::Result<v1::EvidenceInfo> {
        let Self { digest, kind, submitter, added_at, index, size, logged_by, checksum } = self;
        let what = checksum_of((release, &digest, &kind), (&submitter, &logged_by, added_at, index));
        let stored = Some(checksum.as_slice()).filter(|stored| !stored.is_empty());
        what.check(stored, has_checksums, || format!("an evidence record of release no. {release}"))?;
        Ok(v1::EvidenceInfo {
            digest,
            kind,
            submitter,
            added_at: unsigned(added_at),
            log_index: unsigned(index),
            size: u32::try_from(size).unwrap_or(u32::MAX),
        })
    }
}

/// All evidence of a row of `releases` as one column, for [`infos_of`]. A release is read by one statement, because each
/// further one costs two thread switches.
macro_rules! infos_column {
    () => {
        "(SELECT json_group_array(json_array(hex(digest), kind, submitter, added_at, log_index, size, logged_by, \
         hex(checksum))) FROM (SELECT digest, kind, submitter, added_at, log_index, length(document) AS size, logged_by, \
         checksum FROM evidence WHERE release = releases.number ORDER BY evidence.number))"
    };
}
pub(super) use infos_column;

/// What there is of a release, without the documents, in the order in which it came.
pub(super) fn infos_of(
    column: &str,
    release: i64,
    has_checksums: bool,
) -> sqlx::Result<Vec<v1::EvidenceInfo>> {
    type Columns = (String, String, String, i64, i64, i64, String, String);
    let undecoded = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let bytes = |text: &str| hex::decode(text).map_err(|error| undecoded(error.to_string().into()));
    let rows: Vec<Columns> = serde_json::from_str(column).map_err(|error| undecoded(error.into()))?;
    rows.into_iter()
        .map(|(digest, kind, submitter, added_at, index, size, logged_by, checksum)| {
            let (digest, checksum) = (bytes(&digest)?, bytes(&checksum)?);
            Record { digest, kind, submitter, added_at, index, size, logged_by, checksum }
                .info(release, has_checksums)
        })
        .collect()
}

async fn infos(connection: &mut SqliteConnection, number: i64) -> sqlx::Result<Vec<v1::EvidenceInfo>> {
    let query =
        concat!("SELECT ", infos_column!(), ", request_checksum IS NOT NULL FROM releases WHERE number = $1");
    let (column, has_checksums): (String, bool) =
        sqlx::query_as(query).bind(number).fetch_one(connection).await?;
    infos_of(&column, number, has_checksums)
}

/// As nodes get them, in the order of the log.
async fn entries(connection: &mut SqliteConnection, number: i64) -> sqlx::Result<Vec<LoggedEvidence>> {
    let rows = sqlx::query(
        "SELECT log_index, logged_by, added_at, digest FROM evidence WHERE release = $1 \
         AND log_index <> (SELECT log_index FROM releases WHERE number = $1) ORDER BY log_index, number",
    )
    .bind(number)
    .fetch_all(&mut *connection)
    .await?;
    let mut entries: Vec<LoggedEvidence> = Vec::new();
    for row in &rows {
        let index = unsigned(row.try_get(0)?);
        let digest = hash(&row.try_get::<Vec<u8>, _>(3)?)?;
        match entries.last_mut().filter(|last| last.index == index) {
            Some(last) => last.evidence.push(digest),
            None => entries.push(LoggedEvidence {
                index,
                leaf: Hash([0; 32]),
                proof: Vec::new(),
                by: row.try_get(1)?,
                evidence: vec![digest],
                time: unsigned(row.try_get(2)?),
            }),
        }
    }
    let request: Option<i64> = sqlx::query_scalar("SELECT log_index FROM releases WHERE number = $1")
        .bind(number)
        .fetch_one(connection)
        .await?;
    for LoggedEvidence { leaf, by, evidence, time, .. } in &mut entries {
        let entry = entry(by.clone(), evidence.clone(), unsigned(request.unwrap_or_default()), *time);
        *leaf = leaf_hash(&entry);
    }
    Ok(entries)
}

/// Documents that are to be stored: the release's number, who brought them and when, and the place of the entry that names
/// them, with the name that it has for who brought them.
pub(super) struct Rows<'a> {
    pub(super) release: i64,
    pub(super) submitter: &'a str,
    pub(super) logged_by: &'a str,
    pub(super) at: u64,
    pub(super) index: u64,
    pub(super) documents: Vec<&'a Document>,
}

pub(super) async fn insert(connection: &mut SqliteConnection, rows: &[Rows<'_>]) -> sqlx::Result<()> {
    let each = rows.iter().flat_map(|rows| rows.documents.iter().map(move |document| (rows, *document)));
    let each: Vec<_> = each.collect();
    for each in each.chunks(limits::LOG_ROWS_PER_INSERT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO evidence (release, digest, kind, submitter, logged_by, added_at, log_index, document, checksum) ",
        );
        query.push_values(each, |mut row, (rows, document)| {
            let checksum = checksum_of(
                (rows.release, document.digest.as_bytes(), document.kind.as_str()),
                (rows.submitter, rows.logged_by, signed(rows.at), signed(rows.index)),
            );
            row.push_bind(rows.release)
                .push_bind(document.digest.as_bytes().as_slice())
                .push_bind(document.kind.as_str())
                .push_bind(rows.submitter)
                .push_bind(rows.logged_by)
                .push_bind(signed(rows.at))
                .push_bind(signed(rows.index))
                .push_bind(document.bytes.as_ref())
                .push_bind(checksum.finish());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Adds what is not there yet, and says so in the log: here, because only here it is known whether the release has ended,
/// and where its request stands. Gives all that there is then, and all entries: what a commit added that was taken for failed
/// is known to nobody yet.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    new: &NewEvidence,
    log: &mut Appending<'_>,
    spent: &mut Spent,
) -> sqlx::Result<Result<AllEvidence>> {
    let NewEvidence { number, submitter, at, charge, documents } = new;
    let mut all = infos(connection, number.0).await?;
    let there = |document: &&Document| all.iter().any(|info| info.digest == document.digest.as_bytes());
    let fresh: Vec<&Document> = documents.iter().filter(|document| !there(document)).collect();
    if fresh.is_empty() {
        let entries = entries(connection, number.0).await?;
        return Ok(Ok(AllEvidence { infos: all, entries }));
    }
    let row = sqlx::query("SELECT release_id, state, log_index FROM releases WHERE number = $1")
        .bind(number.0)
        .fetch_one(&mut *connection)
        .await?;
    let hidden = is_hidden(connection, number.0).await?;
    let id: String = row.try_get(0)?;
    let id = ReleaseId::new(id).map_err(|error| sqlx::Error::Decode(error.into()))?;
    // A release without an entry was admitted by a version without a log, and is logged before anybody is served.
    let (1, Some(request)) = (row.try_get::<i64, _>(1)?, row.try_get::<Option<i64>, _>(2)?) else {
        return Ok(Err(too_late(&id)));
    };
    if let Err(problem) = check_room(&all, submitter, &fresh) {
        return Ok(Err(Error::EvidenceFull { release_id: id.to_string(), problem }));
    }
    if let Err(full) = spent.charge(charge) {
        return Ok(Err(full.into()));
    }
    let digests = fresh.iter().map(|document| document.digest).collect();
    let by = logged_as(submitter, hidden);
    let index = log.push(entry(by.clone(), digests, unsigned(request), *at), None);
    all.extend(fresh.iter().map(|document| document.info(submitter, *at, index)));
    let rows = Rows { release: number.0, submitter, logged_by: &by, at: *at, index, documents: fresh };
    insert(connection, &[rows]).await?;
    let entries = entries(connection, number.0).await?;
    Ok(Ok(AllEvidence { infos: all, entries }))
}

/// Whether the log does not say yet whose request it is.
async fn is_hidden(connection: &mut SqliteConnection, number: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT disclose_by IS NOT NULL AND disclosed_at IS NULL FROM releases WHERE number = $1",
    )
    .bind(number)
    .fetch_one(connection)
    .await
}

/// Under embargo the role alone: a pipeline's name is that of the requester.
fn logged_as(submitter: &str, hidden: bool) -> String {
    let shown = if hidden { submitter.split(':').next().unwrap_or_default() } else { submitter };
    shown.to_owned()
}

fn entry(by: String, evidence: Vec<Hash>, request: u64, time: u64) -> Vec<u8> {
    let kind = kinds::Evidence::default();
    Entry::Evidence(Evidence { by, evidence, kind, request, time }).encode()
}

/// Of all columns but the document, which the digest covers: release, digest and kind; submitter, its name in the log, time and
/// place there.
fn checksum_of(
    (release, digest, kind): (i64, &[u8], &str),
    (submitter, logged_by, added_at, index): (&str, &str, i64, i64),
) -> Checksum {
    let what = Checksum::of("evidence").number(release).bytes(digest).bytes(kind.as_bytes());
    what.bytes(submitter.as_bytes()).bytes(logged_by.as_bytes()).number(added_at).number(index)
}

fn hash(digest: &[u8]) -> sqlx::Result<Hash> {
    Hash::from_slice(digest).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Store { reason: error.to_string() }
}
