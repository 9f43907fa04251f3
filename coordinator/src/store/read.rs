//! Reading the store. Every list is bounded in rows and bytes.

use futures::TryStreamExt as _;
use prost::{Message as _, bytes::Bytes};
use rutli_log::{
    Hash,
    entry::{Embargo, RequestTerms},
};
use rutli_release::{ChannelKey, Class, ReleaseId, RequestId, Requester, Sequence, VerifiedRelease};
use rutli_wire::{convert::release_from_content, role::Party, v1};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    Charge, ReleaseNumber, Store,
    budget::Spent,
    checksum::{self, Broken, RequestRow},
    evidence::{self, infos_column},
    staging::LoggedTerms,
    writer::{signed, unsigned},
};
use crate::{
    error::{Error, Result},
    evidence::submitter,
    limits,
    share::{Held, Owner},
    waiting::lay_over,
};

/// A release as the store has it.
#[derive(Clone, Debug)]
pub struct StoredRelease {
    /// Its place.
    pub number: ReleaseNumber,
    /// With state `QUEUED` while it is unfinished, whatever it awaits: that is known to the session engine alone. In lists
    /// without evidence.
    pub message: v1::Release,
    /// Whose share it uses while it waits.
    pub owner: Owner,
    /// Its entry in the log; none if it was admitted by a version without one.
    pub logged: Option<LoggedTerms>,
    /// Of what was asked for: [`VerifiedRelease::request_digest`].
    pub request_digest: Vec<u8>,
}

impl StoredRelease {
    /// Its name.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub fn release_id(&self) -> Result<ReleaseId> {
        ReleaseId::new(self.message.release_id.as_str()).map_err(|error| self.broken(&error))
    }

    /// Whether it is still to be signed.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.message.state() == v1::ReleaseState::Queued
    }

    /// What was asked for, with the terms of its entry in the log. Without an entry roster and deadline are zero.
    ///
    /// # Errors
    /// [`Error::Store`] if what is stored is no release any more.
    pub fn request(&self) -> Result<(VerifiedRelease, RequestTerms)> {
        let content = self.message.content.clone().unwrap_or_default();
        let release = release_from_content(content).map_err(|error| self.broken(&error))?;
        let requester =
            Requester::new(self.message.requester.as_str()).map_err(|error| self.broken(&error))?;
        let logged = self.logged.as_ref();
        let terms = RequestTerms {
            release_id: self.release_id()?,
            requester,
            roster: logged.map_or(Hash([0; 32]), |logged| logged.roster),
            deadline: logged.map_or(0, |logged| logged.deadline),
            evidence: self.requested_with()?,
            embargo: logged.and_then(|logged| logged.embargo),
        };
        Ok((release, terms))
    }

    /// Digests of the evidence that came with the request, as its entry has them.
    fn requested_with(&self) -> Result<Vec<Hash>> {
        let index = self.logged.as_ref().map(|logged| logged.index);
        let with_it = self.message.evidence.iter().filter(|info| Some(info.log_index) == index);
        with_it.map(|info| Hash::from_slice(&info.digest).map_err(|error| self.broken(&error))).collect()
    }

    /// What is asked for.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.message.content.as_ref().map(v1::ReleaseContent::release_class) {
            Some(v1::ReleaseClass::AvDatabase) => Class::AvDatabase,
            _ => Class::ProductBuild,
        }
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Error {
        Error::Store { reason: format!("release {} does not read: {error}", self.message.release_id) }
    }
}

/// Which releases a list has.
#[derive(Clone, Debug, Default)]
pub struct ReleaseFilter {
    /// Only of this requester.
    pub requester: Option<String>,
    /// Only of this product.
    pub product: Option<String>,
    /// Only of this channel.
    pub channel: Option<String>,
    /// Only in this state, where all that are not final count as `QUEUED`.
    pub state: Option<v1::ReleaseState>,
    /// Only older than this one.
    pub before: Option<ReleaseNumber>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// Newest first, without files.
    pub releases: Vec<v1::Release>,
    /// The next page has those before this one; none: this was the last.
    pub next: Option<ReleaseNumber>,
}

/// A ceremony with its whole transcript.
#[derive(Clone, Debug)]
pub struct StoredCeremony {
    /// 64 hex digits.
    pub ceremony_id: String,
    /// Signed proposal, canonical JSON.
    pub proposal: Vec<u8>,
    /// In the order in which they came.
    pub messages: Vec<Vec<u8>>,
    /// Proposed (and unfinished), done or aborted.
    pub state: v1::CeremonyState,
    /// Unix seconds.
    pub finished_at: Option<u64>,
    /// Why it was aborted.
    pub reason: String,
}

/// About how many bytes a release is as a message, with its files.
macro_rules! size {
    () => {
        "length(content) \
         + coalesce((SELECT length(files) FROM results WHERE results.number = releases.number), 0) \
         + coalesce((SELECT length(files) FROM proofs WHERE proofs.number = releases.number), 0)"
    };
}

/// The columns that [`stored_release`] reads, in its order.
macro_rules! select_release {
    ($($more:expr),+) => {
        concat!(
            "SELECT number, release_id, requester, request_id, content, signatures, created_at, state, outcome, \
             log_index, roster, deadline, embargo_salt, disclose_by, disclosed_at, \
             (SELECT proven_at FROM proofs WHERE proofs.number = releases.number), authority, request_checksum, outcome_checksum, \
             request_digest, class, product, channel, sequence",
            $($more),+
        )
    };
}

/// Columns of [`select_release`] beyond the first nine, and what follows on them for one release.
const LOG_INDEX: usize = 9;
const DISCLOSED_AT: usize = 14;
const PROVEN_AT: usize = 15;
const AUTHORITY: usize = 16;
const REQUEST_CHECKSUM: usize = 17;
const OUTCOME_CHECKSUM: usize = 18;
const REQUEST_DIGEST: usize = 19;
const EVIDENCE: usize = 24;
const FILES: usize = 25;
const PROOF_FILES: usize = 27;

impl Store {
    /// One release with its files, and what there is of evidence.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn release(&self, id: &ReleaseId) -> Result<Option<StoredRelease>> {
        self.release_within(id, u64::MAX).await
    }

    /// The same, if it has less than `bytes` by [`Store::size_of`].
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn release_within(&self, id: &ReleaseId, bytes: u64) -> Result<Option<StoredRelease>> {
        // One state of the store: the terms of a release are where its entry and its evidence fit together.
        let query = select_release!(
            ", ",
            infos_column!(),
            ", (SELECT files FROM results WHERE results.number = releases.number), \
             (SELECT checksum FROM results WHERE results.number = releases.number), \
             (SELECT files FROM proofs WHERE proofs.number = releases.number), \
             (SELECT checksum FROM proofs WHERE proofs.number = releases.number) \
             FROM releases WHERE release_id = $1 AND ",
            size!(),
            " < $2"
        );
        let row = sqlx::query(query)
            .bind(id.as_str())
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .fetch_optional(&self.reads)
            .await
            .map_err(failed)?;
        row.map(|row| with_files(id, &row)).transpose()
    }

    /// Releases whose embargo is to end by `now` in Unix seconds, and has not.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn embargoed(&self, now: u64) -> Result<Vec<StoredRelease>> {
        let rows = sqlx::query(select_release!(
            ", ",
            infos_column!(),
            " FROM releases WHERE disclose_by <= $1 AND disclosed_at IS NULL ORDER BY disclose_by LIMIT $2"
        ))
        .bind(signed(now))
        .bind(limits::DISCLOSED_AT_ONCE)
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(mut release) = undamaged(&row) else { continue };
            release.message.evidence = infos(&row).map_err(failed)?;
            due.push(release);
        }
        Ok(due)
    }

    /// Commitments in the log that are not opened: of this requester, of its authority, and of all.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn embargoes(&self, requester: &Requester, owner: &Owner) -> Result<Held> {
        let row = sqlx::query(
            "SELECT coalesce(sum(requester = $1), 0), coalesce(sum(authority = $2), 0), count(*) FROM releases \
             WHERE disclose_by IS NOT NULL AND disclosed_at IS NULL",
        )
        .bind(requester.as_str())
        .bind(owner.authority().unwrap_or_default().to_owned())
        .fetch_one(&self.reads)
        .await
        .map_err(failed)?;
        let count = |column: usize| row.try_get(column).map(unsigned).map_err(failed);
        Ok(Held { name: count(0)?, authority: Some(count(1)?), all: count(2)? })
    }

    /// Fails early if a budget is used up; storing charges it.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Store`]
    pub async fn check_budget(&self, charge: Charge) -> Result<()> {
        let mut connection = self.reads.acquire().await.map_err(failed)?;
        let spent = Spent::load(&mut connection, charge.at).await.map_err(failed)?;
        Ok(spent.check(&charge)?)
    }

    /// About how many bytes a release is as a message, with its files; none if it is not there. Costs no reading of them.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn size_of(&self, id: &ReleaseId) -> Result<Option<u64>> {
        let size: Option<i64> =
            sqlx::query_scalar(concat!("SELECT ", size!(), " FROM releases WHERE release_id = $1"))
                .bind(id.as_str())
                .fetch_optional(&self.reads)
                .await
                .map_err(failed)?;
        Ok(size.map(unsigned))
    }

    /// Unfinished releases of a requester, oldest first; bounded by what was admitted.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn unfinished_of(&self, requester: &Requester) -> Result<Vec<ReleaseId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT release_id FROM releases WHERE state = 1 AND requester = $1 ORDER BY number",
        )
        .bind(requester.as_str())
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        ids.into_iter().map(|id| ReleaseId::new(id).map_err(failed)).collect()
    }

    /// The release that a requester asked for under this id, and when it was admitted, in Unix seconds.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn release_of_request(
        &self,
        requester: &Requester,
        id: &RequestId,
    ) -> Result<Option<(ReleaseId, u64)>> {
        let found: Option<(String, i64)> = sqlx::query_as(
            "SELECT release_id, created_at FROM releases WHERE requester = $1 AND request_id = $2",
        )
        .bind(requester.as_str())
        .bind(id.as_str())
        .fetch_optional(&self.reads)
        .await
        .map_err(failed)?;
        found.map(|(id, at)| Ok((ReleaseId::new(id).map_err(failed)?, unsigned(at)))).transpose()
    }

    /// The highest sequence that was signed in a channel.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn signed_sequence(&self, channel: &ChannelKey) -> Result<Option<Sequence>> {
        let found: Option<i64> = sqlx::query_scalar(
            "SELECT sequence FROM channels WHERE class = $1 AND product = $2 AND channel = $3",
        )
        .bind(channel.class.as_str())
        .bind(channel.product.as_str())
        .bind(channel.channel.as_str())
        .fetch_optional(&self.reads)
        .await
        .map_err(failed)?;
        found.map(|sequence| Sequence::new(unsigned(sequence)).map_err(failed)).transpose()
    }

    /// All unfinished releases, oldest first; bounded by what was admitted.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn unfinished(&self) -> Result<Vec<StoredRelease>> {
        let query = sqlx::query(select_release!(" FROM releases WHERE state = 1 ORDER BY number"));
        let mut rows = query.fetch(&self.reads);
        let mut releases = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            releases.extend(undamaged(&row));
        }
        Ok(releases)
    }

    /// A page of at most `most` releases, and of at most [`limits::MAX_PAGE_BYTES`] once it has one. `shown` may
    /// change each release before it counts, or leave it out.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn list(
        &self,
        filter: &ReleaseFilter,
        most: u32,
        mut shown: impl FnMut(&mut v1::Release) -> bool,
    ) -> Result<Page> {
        let mut query = QueryBuilder::<Sqlite>::new(select_release!(" FROM releases WHERE true"));
        for (column, value) in
            [("requester", &filter.requester), ("product", &filter.product), ("channel", &filter.channel)]
        {
            if let Some(value) = value {
                query.push(" AND ").push(column).push(" = ").push_bind(value.clone());
            }
        }
        if let Some(state) = filter.state {
            query.push(" AND state = ").push_bind(i64::from(i32::from(state)));
        }
        if let Some(before) = filter.before {
            query.push(" AND number < ").push_bind(before.0);
        }
        query.push(" ORDER BY number DESC");
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut page = Page { releases: Vec::new(), next: None };
        let (mut last, mut bytes) = (None, 0_usize);
        let mut rows = query.build().fetch(&self.reads);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let Some(StoredRelease { number, mut message, .. }) = undamaged(&row) else { continue };
            if !shown(&mut message) {
                continue;
            }
            bytes = bytes.saturating_add(message.encoded_len());
            let full = page.releases.len() >= most || bytes > limits::MAX_PAGE_BYTES;
            if full && !page.releases.is_empty() {
                page.next = last;
                break;
            }
            last = Some(number);
            page.releases.push(message);
        }
        Ok(page)
    }

    /// Excluded nodes, with the reasons.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn culprits(&self) -> Result<Vec<(String, String)>> {
        let rows =
            sqlx::query("SELECT node, reason FROM culprits").fetch_all(&self.reads).await.map_err(failed)?;
        rows.iter()
            .map(|row| Ok((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?)))
            .collect()
    }

    /// Signed rosters of the usable keys, in the order in which they became so.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn keys(&self) -> Result<Vec<Vec<u8>>> {
        sqlx::query_scalar("SELECT signed_roster FROM keys ORDER BY number")
            .fetch_all(&self.reads)
            .await
            .map_err(failed)
    }

    /// All unfinished ceremonies, and the newest `finished` others, oldest first.
    ///
    /// # Errors
    /// [`Error::Store`]
    pub async fn ceremonies(&self, finished: u64) -> Result<Vec<StoredCeremony>> {
        let rows = sqlx::query(
            "SELECT ceremony_id, proposal, state, finished_at, reason FROM ceremonies WHERE state = 1 OR number IN \
             (SELECT number FROM ceremonies WHERE state <> 1 ORDER BY number DESC LIMIT $1) ORDER BY number",
        )
        .bind(i64::try_from(finished).unwrap_or(i64::MAX))
        .fetch_all(&self.reads)
        .await
        .map_err(failed)?;
        let mut ceremonies = Vec::with_capacity(rows.len());
        for row in rows {
            let ceremony_id: String = row.try_get(0).map_err(failed)?;
            let messages = sqlx::query_scalar(
                "SELECT message FROM ceremony_messages WHERE ceremony_id = $1 ORDER BY number",
            )
            .bind(ceremony_id.clone())
            .fetch_all(&self.reads)
            .await
            .map_err(failed)?;
            let state: i32 = row.try_get(2).map_err(failed)?;
            ceremonies.push(StoredCeremony {
                ceremony_id,
                proposal: row.try_get(1).map_err(failed)?,
                messages,
                state: v1::CeremonyState::try_from(state).map_err(failed)?,
                finished_at: row.try_get::<Option<i64>, _>(3).map_err(failed)?.map(unsigned),
                reason: row.try_get(4).map_err(failed)?,
            });
        }
        Ok(ceremonies)
    }
}

/// One of many: a damaged one does not keep the others from being read.
fn undamaged(row: &SqliteRow) -> Option<StoredRelease> {
    stored_release(row).inspect_err(|error| tracing::error!(%error, "a release is left out")).ok()
}

/// The evidence of a row that has it.
fn infos(row: &SqliteRow) -> sqlx::Result<Vec<v1::EvidenceInfo>> {
    let has_checksums = row.try_get::<Option<Vec<u8>>, _>(REQUEST_CHECKSUM)?.is_some();
    evidence::infos_of(row.try_get(EVIDENCE)?, row.try_get(0)?, has_checksums)
}

/// From a row with evidence and files.
fn with_files(id: &ReleaseId, row: &SqliteRow) -> Result<StoredRelease> {
    let mut release = stored_release(row)?;
    release.message.evidence = infos(row).map_err(failed)?;
    let number = release.number.0;
    let proven_at: Option<i64> = row.try_get(PROVEN_AT).map_err(failed)?;
    let has_checksums = row.try_get::<Option<Vec<u8>>, _>(REQUEST_CHECKSUM).map_err(failed)?.is_some();
    let is_signed = release.message.state() == v1::ReleaseState::Signed;
    if is_signed && row.try_get::<Option<Vec<u8>>, _>(FILES).map_err(failed)?.is_none() {
        return Err(failed(Broken::of(format!("the result of {id}"))));
    }
    for column in [FILES, PROOF_FILES] {
        if let Some(files) = row.try_get::<Option<Vec<u8>>, _>(column).map_err(failed)? {
            let stored: Option<Vec<u8>> = row.try_get(column + 1).map_err(failed)?;
            let checksum = match column {
                FILES => checksum::result(number, &files),
                _ => checksum::proof(number, &files, proven_at.unwrap_or_default()),
            };
            let what = || format!("a file of {id}");
            checksum.check(stored.as_deref(), has_checksums, what).map_err(failed)?;
            release.message.files.extend(v1::Release::decode(Bytes::from(files)).map_err(failed)?.files);
        }
    }
    Ok(release)
}

fn stored_release(row: &SqliteRow) -> Result<StoredRelease> {
    let read = || -> sqlx::Result<(StoredRelease, Vec<u8>, Option<Vec<u8>>)> {
        let state: i32 = row.try_get(7)?;
        let signatures: i64 = row.try_get(5)?;
        let message = v1::Release {
            release_id: row.try_get(1)?,
            requester: row.try_get(2)?,
            request_id: row.try_get(3)?,
            signatures_total: u32::try_from(signatures).unwrap_or(u32::MAX),
            created_at: unsigned(row.try_get(6)?),
            state,
            ..v1::Release::default()
        };
        let number = ReleaseNumber(row.try_get(0)?);
        let requester = Requester::new(message.requester.as_str());
        let requester = requester.map_err(|error| sqlx::Error::Decode(error.into()))?;
        let owner = Owner::new(&submitter(&Party::Pipeline(requester)), row.try_get(AUTHORITY)?);
        let request_digest = row.try_get(REQUEST_DIGEST)?;
        let release = StoredRelease { number, message, owner, logged: None, request_digest };
        Ok((release, row.try_get(4)?, row.try_get(8)?))
    };
    let (mut release, content, outcome) = read().map_err(failed)?;
    check_checksums(row, &release, &content, outcome.as_deref()).map_err(failed)?;
    release.logged = logged_terms(row)?;
    if let Some(logged) = &release.logged {
        release.message.log_index = logged.index;
        release.message.embargo_until = logged.embargo.map_or(0, |embargo| embargo.disclose_by);
    }
    let time = |column: usize| -> Result<u64> {
        Ok(row.try_get::<Option<i64>, _>(column).map_err(failed)?.map_or(0, unsigned))
    };
    release.message.disclosed_at = time(DISCLOSED_AT)?;
    release.message.proven_at = time(PROVEN_AT)?;
    release.message.content = Some(v1::ReleaseContent::decode(content.as_slice()).map_err(failed)?);
    if let Some(outcome) = outcome {
        let outcome = v1::Release::decode(outcome.as_slice()).map_err(failed)?;
        let state = release.message.state;
        lay_over(&mut release.message, &v1::Release { state, ..outcome });
    }
    Ok(release)
}

/// Checks that a stored release is unchanged.
fn check_checksums(
    row: &SqliteRow,
    release: &StoredRelease,
    content: &[u8],
    outcome: Option<&[u8]>,
) -> sqlx::Result<()> {
    let message = &release.message;
    let what = || message.release_id.clone();
    let roster: Option<String> = row.try_get(LOG_INDEX + 1)?;
    let embargo_salt: Option<Vec<u8>> = row.try_get(LOG_INDEX + 3)?;
    let authority: String = row.try_get(AUTHORITY)?;
    let [class, product, channel] = [1, 2, 3].map(|place| row.try_get::<String, _>(REQUEST_DIGEST + place));
    let (class, product, channel) = (class?, product?, channel?);
    let request = RequestRow {
        number: release.number.0,
        release_id: &message.release_id,
        requester: &message.requester,
        request_id: &message.request_id,
        request_digest: &release.request_digest,
        channel: [&class, &product, &channel],
        sequence: row.try_get(REQUEST_DIGEST + 4)?,
        content,
        signatures: row.try_get(5)?,
        created_at: row.try_get(6)?,
        log_index: row.try_get(LOG_INDEX)?,
        roster: roster.as_deref(),
        deadline: row.try_get(LOG_INDEX + 2)?,
        embargo_salt: embargo_salt.as_deref(),
        disclose_by: row.try_get(LOG_INDEX + 4)?,
        authority: &authority,
    };
    let stored: Option<Vec<u8>> = row.try_get(REQUEST_CHECKSUM)?;
    let ended: Option<Vec<u8>> = row.try_get(OUTCOME_CHECKSUM)?;
    // One that was admitted by an earlier version and ended in this one has none.
    request.checksum().check(stored.as_deref(), false, what)?;
    match (outcome, ended) {
        (Some(outcome), Some(ended)) => {
            checksum::outcome(release.number.0, message.state.into(), outcome).check(
                Some(&ended),
                true,
                what,
            )?;
        }
        // It has not ended, and nothing says so; or it ended in an earlier version.
        (None, None) if release.is_unfinished() || stored.is_none() => {}
        (Some(_), None) if stored.is_none() => {}
        _ => return Err(Broken::of(what()).into()),
    }
    Ok(())
}

/// What the store keeps of a release's entry.
fn logged_terms(row: &SqliteRow) -> Result<Option<LoggedTerms>> {
    let Some(index) = row.try_get::<Option<i64>, _>(LOG_INDEX).map_err(failed)? else { return Ok(None) };
    let roster: String = row.try_get(LOG_INDEX + 1).map_err(failed)?;
    let salt: Option<Vec<u8>> = row.try_get(LOG_INDEX + 3).map_err(failed)?;
    let disclose_by: Option<i64> = row.try_get(LOG_INDEX + 4).map_err(failed)?;
    let embargo = match (salt, disclose_by) {
        (Some(salt), Some(by)) => {
            Some(Embargo { salt: Hash::from_slice(&salt).map_err(failed)?, disclose_by: unsigned(by) })
        }
        _ => None,
    };
    Ok(Some(LoggedTerms {
        index: unsigned(index),
        roster: roster.parse().map_err(failed)?,
        deadline: unsigned(row.try_get(LOG_INDEX + 2).map_err(failed)?),
        embargo,
    }))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Store { reason: error.to_string() }
}
