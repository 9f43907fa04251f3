//! Admitting a group of releases with few statements, however many there are.

use std::collections::{HashMap, hash_map::Entry};

use rutli_release::{ChannelKey, ReleaseId};
use rutli_wire::{role::Party, v1};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Admission, NewRelease, ReleaseNumber,
    budget::Spent,
    checksum::RequestRow,
    evidence::{self, Rows},
    staging,
    writer::{channel_key, signed, unsigned},
};
use crate::{
    error::{Error, Result},
    evidence::submitter,
    log::sequencer::Appending,
};

/// Admits in order, with four statements for any number of releases.
pub(super) async fn admit(
    connection: &mut SqliteConnection,
    releases: &[&NewRelease],
    log: &mut Appending<'_>,
    spent: &mut Spent,
) -> sqlx::Result<Vec<Result<Admission>>> {
    let mut known = known_requests(connection, releases).await?;
    let signed = signed_sequences(connection, releases).await?;
    let mut number: i64 = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM releases")
        .fetch_one(&mut *connection)
        .await?;
    let mut fresh = Vec::new();
    let answers = releases
        .iter()
        .map(|release| {
            let request = (release.requester.to_string(), release.request_id.to_string());
            let entry = match known.requests.entry(request) {
                Entry::Occupied(entry) => return admitted_before(release, entry.get()),
                Entry::Vacant(entry) => entry,
            };
            // Two requests of one product and version whose short hash is the same; the client takes another id.
            if known.ids.contains_key(release.release_id.as_str()) {
                return Err(reused(release, &release.release_id));
            }
            // A request alone uses up no number, no matter whose it is.
            if let Some(highest) =
                signed.get(&release.channel).filter(|highest| release.sequence.get() <= **highest)
            {
                return Err(Error::SequenceBehind {
                    channel: release.channel.clone(),
                    sequence: release.sequence.get(),
                    highest: *highest,
                });
            }
            // The last check, and before anything is stored or logged.
            spent.charge(&release.charge)?;
            number = number.saturating_add(1);
            entry.insert((release.release_id.clone(), release.request_digest.to_vec()));
            known.ids.insert(release.release_id.to_string(), ());
            let index = log.push(release.logged.entry.clone(), staging::disclosed(number, &release.logged));
            fresh.push((number, *release, index));
            Ok(Admission::New(ReleaseNumber(number), index))
        })
        .collect();
    if !fresh.is_empty() {
        insert_releases(connection, &fresh).await?;
        insert_evidence(connection, &fresh).await?;
    }
    Ok(answers)
}

/// What the store has of a group of new releases.
struct Known {
    /// By requester and request id.
    requests: HashMap<(String, String), (ReleaseId, Vec<u8>)>,
    /// By release id.
    ids: HashMap<String, ()>,
}

fn admitted_before(release: &NewRelease, (id, digest): &(ReleaseId, Vec<u8>)) -> Result<Admission> {
    if *digest == release.request_digest {
        Ok(Admission::Known(id.clone()))
    } else {
        Err(reused(release, id))
    }
}

fn reused(release: &NewRelease, id: &ReleaseId) -> Error {
    Error::RequestIdReused { request_id: release.request_id.to_string(), release_id: id.to_string() }
}

async fn known_requests(connection: &mut SqliteConnection, releases: &[&NewRelease]) -> sqlx::Result<Known> {
    let mut known = Known { requests: HashMap::new(), ids: HashMap::new() };
    for row in select_known(releases).build().fetch_all(&mut *connection).await? {
        let id: String = row.try_get(2)?;
        known.ids.insert(id.clone(), ());
        let id = ReleaseId::new(id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        known.requests.insert((row.try_get(0)?, row.try_get(1)?), (id, row.try_get(3)?));
    }
    Ok(known)
}

pub(super) fn select_known(releases: &[&NewRelease]) -> QueryBuilder<Sqlite> {
    // A cross join keeps its order in SQLite: one search per request, where an IN would scan all releases.
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT known.requester, known.request_id, known.release_id, known.request_digest FROM (",
    );
    query.push_values(releases, |mut row, release| {
        row.push_bind(release.requester.as_str()).push_bind(release.request_id.as_str());
    });
    query.push(
        ") AS asked CROSS JOIN releases AS known \
         ON known.requester = asked.column1 AND known.request_id = asked.column2 \
         UNION ALL SELECT requester, request_id, release_id, request_digest FROM releases WHERE release_id IN (",
    );
    let mut ids = query.separated(", ");
    for release in releases {
        ids.push_bind(release.release_id.as_str());
    }
    query.push(")");
    query
}

async fn signed_sequences(
    connection: &mut SqliteConnection,
    releases: &[&NewRelease],
) -> sqlx::Result<HashMap<ChannelKey, u64>> {
    let rows = select_signed(releases).build().fetch_all(&mut *connection).await?;
    let read = |row: &SqliteRow| Ok((channel_key(row, 0)?, unsigned(row.try_get(3)?)));
    rows.iter().map(read).collect()
}

pub(super) fn select_signed(releases: &[&NewRelease]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT known.class, known.product, known.channel, known.sequence FROM (",
    );
    query.push_values(releases, |mut row, NewRelease { channel: key, .. }| {
        row.push_bind(key.class.as_str()).push_bind(key.product.as_str()).push_bind(key.channel.as_str());
    });
    query.push(
        ") AS asked CROSS JOIN channels AS known \
         ON known.class = asked.column1 AND known.product = asked.column2 AND known.channel = asked.column3",
    );
    query
}

async fn insert_releases(
    connection: &mut SqliteConnection,
    fresh: &[(i64, &NewRelease, u64)],
) -> sqlx::Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO releases (number, release_id, requester, request_id, request_digest, class, product, channel, \
         sequence, content, signatures, created_at, state, log_index, roster, deadline, embargo_salt, disclose_by, \
         authority, request_checksum) ",
    );
    query.push_values(fresh, |mut row, (number, release, index)| {
        let logged = &release.logged;
        let (roster, authority) =
            (logged.roster.to_string(), release.charge.owner.authority().unwrap_or_default());
        let request = RequestRow {
            number: *number,
            release_id: release.release_id.as_str(),
            requester: release.requester.as_str(),
            request_id: release.request_id.as_str(),
            request_digest: &release.request_digest,
            channel: [
                release.channel.class.as_str(),
                release.channel.product.as_str(),
                release.channel.channel.as_str(),
            ],
            sequence: signed(release.sequence.get()),
            content: &release.content,
            signatures: release.signatures.into(),
            created_at: signed(release.created_at),
            log_index: Some(signed(*index)),
            roster: Some(&roster),
            deadline: Some(signed(logged.deadline)),
            embargo_salt: logged.embargo.as_ref().map(|embargo| embargo.salt.as_bytes().as_slice()),
            disclose_by: logged.embargo.map(|embargo| signed(embargo.disclose_by)),
            authority,
        };
        let checksum = request.checksum().finish();
        row.push_bind(*number)
            .push_bind(release.release_id.as_str())
            .push_bind(release.requester.as_str())
            .push_bind(release.request_id.as_str())
            .push_bind(release.request_digest.as_slice())
            .push_bind(release.channel.class.as_str())
            .push_bind(release.channel.product.as_str())
            .push_bind(release.channel.channel.as_str())
            .push_bind(signed(release.sequence.get()))
            .push_bind(release.content.as_slice())
            .push_bind(i64::from(release.signatures))
            .push_bind(signed(release.created_at))
            .push_bind(i64::from(i32::from(v1::ReleaseState::Queued)))
            .push_bind(signed(*index))
            .push_bind(roster)
            .push_bind(signed(logged.deadline))
            .push_bind(logged.embargo.map(|embargo| embargo.salt.as_bytes().to_vec()))
            .push_bind(logged.embargo.map(|embargo| signed(embargo.disclose_by)))
            .push_bind(authority)
            .push_bind(checksum);
    });
    query.build().execute(connection).await.map(drop)
}

/// What came with the releases, named by the entry of each.
async fn insert_evidence(
    connection: &mut SqliteConnection,
    fresh: &[(i64, &NewRelease, u64)],
) -> sqlx::Result<()> {
    let by: Vec<String> =
        fresh.iter().map(|(_, release, _)| submitter(&Party::Pipeline(release.requester.clone()))).collect();
    let rows: Vec<Rows<'_>> = fresh
        .iter()
        .zip(&by)
        .map(|((number, release, index), submitter)| Rows {
            release: *number,
            submitter,
            logged_by: "",
            at: release.created_at,
            index: *index,
            documents: release.evidence.iter().collect(),
        })
        .collect();
    evidence::insert(connection, &rows).await
}
