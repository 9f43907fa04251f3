//! The one writer: takes what waits, writes it in one transaction, answers after the commit.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    fs::File,
    sync::Arc,
    time::Duration,
};

use rutli_release::ReleaseId;
use rutli_wire::{role::Party, v1};
use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection,
    sqlite::SqliteConnectOptions,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use rutli_log::Head;

use super::{
    Admission, CeremonyChange, Ending, Health, NewEvidence, NewLogged, NewRelease, ReleaseNumber,
    evidence::{self, Rows},
    staging,
};
use crate::{
    error::{Error, Result},
    evidence::{bytes, submitter},
    limits,
    log::sequencer::{Appended, Appending, Sequencer},
};

/// A change on its way.
pub(super) struct Job {
    pub(super) op: Op,
    pub(super) told: Told,
    pub(super) reply: oneshot::Sender<Result<Done>>,
}

/// Who is told when a change is durable, in the order of the changes.
pub(super) enum Told {
    Nobody,
    /// Of a new release: its index in the log.
    Admitted(Box<dyn FnOnce(u64) + Send>),
    /// All evidence that there is.
    Evidence(Box<dyn FnOnce(&[v1::EvidenceInfo]) + Send>),
}

impl Job {
    fn answer(self, answer: Result<Done>) {
        match (self.told, &answer) {
            (Told::Admitted(tell), Ok(Done::Admitted(Admission::New(_, index)))) => tell(*index),
            (Told::Evidence(tell), Ok(Done::Evidence(all))) => tell(all),
            _ => {}
        }
        // Who does not wait any more asks again.
        let _ = self.reply.send(answer);
    }
}

/// What is to be changed.
pub(super) enum Op {
    Admit(NewRelease),
    Finish(Arc<Ending>),
    Culprit { node: String, named: Option<(String, u64)>, entry: Vec<u8> },
    Ceremony(CeremonyChange),
    LogAgain { number: ReleaseNumber, logged: NewLogged, superseded: Option<Vec<u8>> },
    Disclose { number: ReleaseNumber, entries: Vec<Vec<u8>>, at: u64 },
    Evidence(NewEvidence),
    Unstage(Head),
    Prove { proofs: Vec<(ReleaseNumber, Vec<u8>)>, at: u64 },
}

/// What was changed.
#[derive(Debug)]
pub(super) enum Done {
    Admitted(Admission),
    /// At this index.
    Logged(u64),
    /// All that there is.
    Evidence(Vec<v1::EvidenceInfo>),
    Written,
}

/// The disk failed the writer; everybody has been told, and the connection is not used again.
struct StorageFailed;

pub(super) struct Writer {
    options: SqliteConnectOptions,
    /// None while closed: a connection whose write failed is not used again.
    connection: Option<SqliteConnection>,
    jobs: mpsc::Receiver<Job>,
    health: watch::Sender<Health>,
    sequencer: Sequencer,
    /// Held as long as anything may be written.
    _lock: Arc<File>,
}

impl Writer {
    pub(super) async fn open(
        options: SqliteConnectOptions,
        jobs: mpsc::Receiver<Job>,
        health: watch::Sender<Health>,
        lock: Arc<File>,
        sequencer: Sequencer,
    ) -> sqlx::Result<Self> {
        let connection = Some(options.connect().await?);
        Ok(Self { options, connection, jobs, health, sequencer, _lock: lock })
    }

    pub(super) async fn run(mut self) {
        loop {
            let goes_on = match self.connection.take() {
                Some(connection) => self.write_next(connection).await,
                None => self.refuse_and_probe().await,
            };
            if !goes_on {
                break;
            }
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    /// Waits for a change and writes it with all that came meanwhile. False when nobody is left to send one.
    async fn write_next(&mut self, mut connection: SqliteConnection) -> bool {
        let Some(first) = self.jobs.recv().await else {
            self.connection = Some(connection);
            return false;
        };
        let mut bytes = first.op.bytes();
        let mut group = vec![first];
        while group.len() < limits::MAX_GROUP && bytes < limits::MAX_GROUP_BYTES {
            let Ok(job) = self.jobs.try_recv() else { break };
            bytes = bytes.saturating_add(job.op.bytes());
            group.push(job);
        }
        if self.commit(&mut connection, group).await.is_ok() {
            self.connection = Some(connection);
        }
        true
    }

    /// Commits a group and answers it.
    async fn commit(
        &mut self,
        connection: &mut SqliteConnection,
        group: Vec<Job>,
    ) -> Result<(), StorageFailed> {
        let ops: Vec<&Op> = group.iter().map(|job| &job.op).collect();
        // Crash boundary: before the commit nothing of the group exists, and nobody was told; after it all does, and
        // whoever was not told yet asks again.
        match transact(connection, &ops, &self.sequencer).await {
            Ok((done, appended)) => {
                self.appended(appended);
                for (job, done) in group.into_iter().zip(done) {
                    job.answer(done);
                }
                Ok(())
            }
            // One change that the database does not take (a bug) must not drag the others down, nor close the store.
            Err(error) if refused(&error) => self.commit_singly(connection, group).await,
            Err(error) => {
                let reason = error.to_string();
                // First closed, then answered: who tries again at once finds it closed.
                self.close(reason.clone());
                for job in group {
                    job.answer(Err(Error::StoreClosed { reason: reason.clone() }));
                }
                Err(StorageFailed)
            }
        }
    }

    /// The log's head moves before anybody is told: whoever is asks for proofs under it.
    fn appended(&mut self, appended: Option<Appended>) {
        if let Some(appended) = appended {
            self.sequencer.committed(appended);
        }
    }

    async fn commit_singly(
        &mut self,
        connection: &mut SqliteConnection,
        group: Vec<Job>,
    ) -> Result<(), StorageFailed> {
        let mut failed: Option<String> = None;
        for job in group {
            let answer = match &failed {
                Some(reason) => Err(Error::StoreClosed { reason: reason.clone() }),
                None => match transact(connection, &[&job.op], &self.sequencer).await {
                    Ok((mut done, appended)) => {
                        self.appended(appended);
                        done.pop().unwrap_or(Ok(Done::Written))
                    }
                    Err(error) if refused(&error) => {
                        tracing::error!(%error, "the database refused a change; this is a bug, please report it");
                        Err(Error::Store { reason: error.to_string() })
                    }
                    Err(error) => {
                        let reason = error.to_string();
                        self.close(reason.clone());
                        failed = Some(reason.clone());
                        Err(Error::StoreClosed { reason })
                    }
                },
            };
            job.answer(answer);
        }
        failed.map_or(Ok(()), |_| Err(StorageFailed))
    }

    /// While closed: refuses what comes, and tries to write every second. False when nobody is left.
    async fn refuse_and_probe(&mut self) -> bool {
        let due = Instant::now() + Duration::from_secs(limits::PROBE_SECONDS);
        loop {
            let job = tokio::select! {
                job = self.jobs.recv() => job,
                () = tokio::time::sleep_until(due) => break,
            };
            let Some(job) = job else { return false };
            let reason = match &*self.health.borrow() {
                Health::Closed(reason) => reason.clone(),
                Health::Open => String::new(),
            };
            job.answer(Err(Error::StoreClosed { reason }));
        }
        match self.reopen().await {
            Ok(connection) => {
                tracing::info!("the store is open again: a write succeeded");
                self.connection = Some(connection);
                self.health.send_replace(Health::Open);
            }
            Err(error) => {
                tracing::debug!(%error, "the store is still closed");
                let reason = error.to_string();
                self.health.send_if_modified(|health| {
                    let closed = Health::Closed(reason);
                    let changed = *health != closed;
                    *health = closed;
                    changed
                });
            }
        }
        true
    }

    /// A connection that writes, with the log's head where the store has it: the commit that failed may have happened.
    async fn reopen(&mut self) -> Result<SqliteConnection> {
        let mut connection =
            self.probe().await.map_err(|error| Error::StoreClosed { reason: error.to_string() })?;
        self.sequencer.catch_up(&mut connection).await?;
        Ok(connection)
    }

    /// Writes as much as a few releases would, on a fresh connection, so that an opened store stays open.
    async fn probe(&self) -> sqlx::Result<SqliteConnection> {
        let mut connection = self.options.clone().create_if_missing(false).connect().await?;
        sqlx::query("INSERT INTO probes (ballast) VALUES ($1)")
            .bind(vec![0_u8; limits::PROBE_BYTES])
            .execute(&mut connection)
            .await?;
        sqlx::query("DELETE FROM probes").execute(&mut connection).await?;
        Ok(connection)
    }

    fn close(&mut self, reason: String) {
        tracing::error!(
            reason,
            "the store is closed: nothing is accepted until a write succeeds; look after the disk"
        );
        self.health.send_replace(Health::Closed(reason));
    }
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Self::Admit(release) => {
                release.content.len() + release.logged.entry.len() + bytes(&release.evidence)
            }
            Self::Evidence(new) => bytes(&new.documents),
            Self::Finish(ending) => {
                let entries: usize = ending.entries.iter().map(Vec::len).sum();
                ending.outcome.len() + ending.files.as_ref().map_or(0, Vec::len) + entries
            }
            Self::Ceremony(change) => {
                let keys = change.ended.iter().flat_map(|end| &end.keys);
                let keys: usize = keys.map(|key| key.signed_roster.len() + key.entry.len()).sum();
                let begun = change.begun.as_ref().map_or(0, |(proposal, _)| proposal.len());
                change.messages.iter().map(Vec::len).sum::<usize>() + begun + keys
            }
            Self::Prove { proofs, .. } => proofs.iter().map(|(_, files)| files.len()).sum(),
            Self::LogAgain { logged, superseded, .. } => {
                logged.entry.len() + superseded.as_ref().map_or(0, Vec::len)
            }
            Self::Culprit { entry, .. } => entry.len(),
            Self::Disclose { entries, .. } => entries.iter().map(Vec::len).sum(),
            Self::Unstage(_) => 0,
        }
    }
}

/// Whether the database did not take a statement for what it says (constraint, type, size), rather than for the disk.
fn refused(error: &sqlx::Error) -> bool {
    match error {
        // The primary code is in the low byte: ERROR, TOOBIG, CONSTRAINT, MISMATCH, MISUSE, RANGE.
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 1 | 18 | 19 | 20 | 21 | 25)),
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    ops: &[&Op],
    sequencer: &Sequencer,
) -> sqlx::Result<(Vec<Result<Done>>, Option<Appended>)> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let mut log = sequencer.appending();
    let mut done: Vec<Result<Done>> = ops.iter().map(|_| Ok(Done::Written)).collect();
    let admits: Vec<&NewRelease> =
        ops.iter().filter_map(|op| if let Op::Admit(release) = op { Some(release) } else { None }).collect();
    if !admits.is_empty() {
        let mut admitted = admit(&mut transaction, &admits, &mut log).await?.into_iter();
        for (op, done) in ops.iter().zip(&mut done) {
            if matches!(op, Op::Admit(_))
                && let Some(admission) = admitted.next()
            {
                *done = admission.map(Done::Admitted);
            }
        }
    }
    let endings: Vec<&Ending> = ops
        .iter()
        .filter_map(|op| if let Op::Finish(ending) = op { Some(ending.as_ref()) } else { None })
        .collect();
    if !endings.is_empty() {
        finish(&mut transaction, &endings, &mut log).await?;
    }
    for (op, done) in ops.iter().zip(&mut done) {
        match op {
            Op::Culprit { node, named, entry } => {
                culprit(&mut transaction, node, named.as_ref(), entry, &mut log).await?;
            }
            Op::Ceremony(change) => ceremony(&mut transaction, change, &mut log).await?,
            Op::LogAgain { number, logged, superseded } => {
                let superseded = superseded.as_deref();
                let index =
                    staging::log_again(&mut transaction, *number, logged, superseded, &mut log).await?;
                *done = Ok(Done::Logged(index));
            }
            Op::Disclose { number, entries, at } => {
                staging::disclose(&mut transaction, *number, entries, *at, &mut log).await?;
            }
            Op::Evidence(new) => {
                *done = evidence::add(&mut transaction, new, &mut log).await?.map(Done::Evidence);
            }
            Op::Unstage(written) => staging::unstage(&mut transaction, *written).await?,
            Op::Prove { proofs, at } => staging::prove(&mut transaction, proofs, *at).await?,
            Op::Admit(_) | Op::Finish(_) => {}
        }
    }
    let appended = log.write(&mut transaction).await?;
    transaction.commit().await?;
    Ok((done, appended))
}

/// Admits in order, with four statements for any number of releases.
async fn admit(
    connection: &mut SqliteConnection,
    releases: &[&NewRelease],
    log: &mut Appending<'_>,
) -> sqlx::Result<Vec<Result<Admission>>> {
    let mut known = known_requests(connection, releases).await?;
    let mut heads = channel_heads(connection, releases).await?;
    let mut number: i64 = sqlx::query_scalar("SELECT coalesce(max(number), 0) FROM releases")
        .fetch_one(&mut *connection)
        .await?;
    let mut fresh = Vec::new();
    let mut raised = Vec::new();
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
            let channel = (release.product.to_string(), release.channel.to_string());
            let highest = heads.entry(channel.clone()).or_insert(0);
            if release.sequence.get() <= *highest {
                return Err(Error::SequenceBehind {
                    product: channel.0,
                    channel: channel.1,
                    sequence: release.sequence.get(),
                    highest: *highest,
                });
            }
            *highest = release.sequence.get();
            number = number.saturating_add(1);
            entry.insert((release.release_id.clone(), release.request_digest.to_vec()));
            known.ids.insert(release.release_id.to_string(), ());
            let index = log.push(release.logged.entry.clone(), staging::disclosed(number, &release.logged));
            fresh.push((number, *release, index));
            raised.push(channel);
            Ok(Admission::New(ReleaseNumber(number), index))
        })
        .collect();
    if !fresh.is_empty() {
        insert_releases(connection, &fresh).await?;
        insert_evidence(connection, &fresh).await?;
        raised.sort_unstable();
        raised.dedup();
        let rows = raised.into_iter().map(|channel| {
            let head = heads.get(&channel).copied().unwrap_or(0);
            (channel, head)
        });
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO channels (product, channel, sequence) ");
        query.push_values(rows, |mut row, ((product, channel), head)| {
            row.push_bind(product).push_bind(channel).push_bind(signed(head));
        });
        query.push(" ON CONFLICT (product, channel) DO UPDATE SET sequence = excluded.sequence");
        query.build().execute(&mut *connection).await?;
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

fn select_known(releases: &[&NewRelease]) -> QueryBuilder<Sqlite> {
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

async fn channel_heads(
    connection: &mut SqliteConnection,
    releases: &[&NewRelease],
) -> sqlx::Result<HashMap<(String, String), u64>> {
    let rows = select_heads(releases).build().fetch_all(&mut *connection).await?;
    rows.into_iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), unsigned(row.try_get(2)?)))).collect()
}

fn select_heads(releases: &[&NewRelease]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT known.product, known.channel, known.sequence FROM (");
    query.push_values(releases, |mut row, release| {
        row.push_bind(release.product.as_str()).push_bind(release.channel.as_str());
    });
    query.push(
        ") AS asked CROSS JOIN channels AS known \
         ON known.product = asked.column1 AND known.channel = asked.column2",
    );
    query
}

async fn insert_releases(
    connection: &mut SqliteConnection,
    fresh: &[(i64, &NewRelease, u64)],
) -> sqlx::Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO releases (number, release_id, requester, request_id, request_digest, product, channel, \
         sequence, content, signatures, created_at, state, log_index, roster, deadline, embargo_salt, disclose_by) ",
    );
    query.push_values(fresh, |mut row, (number, release, index)| {
        let logged = &release.logged;
        row.push_bind(*number)
            .push_bind(release.release_id.as_str())
            .push_bind(release.requester.as_str())
            .push_bind(release.request_id.as_str())
            .push_bind(release.request_digest.as_slice())
            .push_bind(release.product.as_str())
            .push_bind(release.channel.as_str())
            .push_bind(signed(release.sequence.get()))
            .push_bind(release.content.as_slice())
            .push_bind(i64::from(release.signatures))
            .push_bind(signed(release.created_at))
            .push_bind(i64::from(i32::from(v1::ReleaseState::Queued)))
            .push_bind(signed(*index))
            .push_bind(logged.roster.to_string())
            .push_bind(signed(logged.deadline))
            .push_bind(logged.embargo.map(|embargo| embargo.salt.as_bytes().to_vec()))
            .push_bind(logged.embargo.map(|embargo| signed(embargo.disclose_by)));
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
            at: release.created_at,
            index: *index,
            documents: release.evidence.iter().collect(),
        })
        .collect();
    evidence::insert(connection, &rows).await
}

/// The first ending of a release stands, whoever writes another; the log says it once.
async fn finish(
    connection: &mut SqliteConnection,
    endings: &[&Ending],
    log: &mut Appending<'_>,
) -> sqlx::Result<()> {
    // The first of several in one group: of two rows that fit, an UPDATE takes either.
    let mut firsts = HashSet::new();
    let endings: Vec<&Ending> =
        endings.iter().copied().filter(|ending| firsts.insert(ending.number.0)).collect();
    let ended = update_outcomes(&endings).build().fetch_all(&mut *connection).await?;
    let ended: HashSet<i64> = ended.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    let mut signed_now = Vec::new();
    for ending in endings.into_iter().filter(|ending| ended.contains(&ending.number.0)) {
        let indices: Vec<u64> = ending.entries.iter().map(|entry| log.push(entry.clone(), None)).collect();
        if let (Some(files), Some(leaf), Some(index)) = (&ending.files, ending.entries.last(), indices.last())
        {
            signed_now.push((ending.number.0, files, leaf, *index));
        }
    }
    if !signed_now.is_empty() {
        let mut files = QueryBuilder::<Sqlite>::new("INSERT INTO results (number, files) ");
        files.push_values(&signed_now, |mut row, (number, bytes, _, _)| {
            row.push_bind(*number).push_bind(bytes.as_slice());
        });
        files.build().execute(&mut *connection).await?;
        let mut proofs = QueryBuilder::<Sqlite>::new("INSERT INTO proofs (number, leaf, log_index) ");
        proofs.push_values(&signed_now, |mut row, (number, _, leaf, index)| {
            row.push_bind(*number).push_bind(leaf.as_slice()).push_bind(signed(*index));
        });
        proofs.build().execute(connection).await?;
    }
    Ok(())
}

fn update_outcomes(endings: &[&Ending]) -> QueryBuilder<Sqlite> {
    let mut outcomes = QueryBuilder::<Sqlite>::new(
        "UPDATE releases SET state = ended.column2, outcome = ended.column3 FROM (",
    );
    outcomes.push_values(endings, |mut row, ending| {
        row.push_bind(ending.number.0)
            .push_bind(i64::from(i32::from(ending.state)))
            .push_bind(ending.outcome.as_slice());
    });
    outcomes.push(") AS ended WHERE number = ended.column1 AND state = 1 RETURNING number");
    outcomes
}

async fn culprit(
    connection: &mut SqliteConnection,
    node: &str,
    named: Option<&(String, u64)>,
    entry: &[u8],
    log: &mut Appending<'_>,
) -> sqlx::Result<()> {
    let query = match named {
        Some((reason, at)) => sqlx::query(
            "INSERT INTO culprits (node, reason, named_at) VALUES ($1, $2, $3) ON CONFLICT (node) DO NOTHING",
        )
        .bind(node.to_owned())
        .bind(reason.clone())
        .bind(signed(*at)),
        None => sqlx::query("DELETE FROM culprits WHERE node = $1").bind(node.to_owned()),
    };
    if query.execute(connection).await?.rows_affected() > 0 {
        log.push(entry.to_vec(), None);
    }
    Ok(())
}

async fn ceremony(
    connection: &mut SqliteConnection,
    change: &CeremonyChange,
    log: &mut Appending<'_>,
) -> sqlx::Result<()> {
    let id = &change.ceremony_id;
    if let Some((proposal, at)) = &change.begun {
        sqlx::query(
            "INSERT INTO ceremonies (ceremony_id, proposal, started_at, state) VALUES ($1, $2, $3, 1) \
             ON CONFLICT (ceremony_id) DO NOTHING",
        )
        .bind(id.clone())
        .bind(proposal.clone())
        .bind(signed(*at))
        .execute(&mut *connection)
        .await?;
        forget_aborted(connection).await?;
    }
    if !change.messages.is_empty() {
        let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO ceremony_messages (ceremony_id, message) ");
        query.push_values(&change.messages, |mut row, message| {
            row.push_bind(id.as_str()).push_bind(message.as_slice());
        });
        query.build().execute(&mut *connection).await?;
    }
    let Some(end) = &change.ended else { return Ok(()) };
    sqlx::query("UPDATE ceremonies SET state = $1, finished_at = $2, reason = $3 WHERE ceremony_id = $4 AND state = 1")
        .bind(i64::from(i32::from(end.state)))
        .bind(signed(end.at))
        .bind(end.reason.clone())
        .bind(id.clone())
        .execute(&mut *connection)
        .await?;
    for key in &end.keys {
        let new = sqlx::query(
            "INSERT INTO keys (roster_hash, name, signed_roster, usable_since) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (roster_hash) DO NOTHING",
        )
        .bind(key.roster_hash.clone())
        .bind(key.name.clone())
        .bind(key.signed_roster.clone())
        .bind(signed(end.at))
        .execute(&mut *connection)
        .await?;
        if new.rows_affected() > 0 {
            log.push(key.entry.clone(), None);
        }
    }
    Ok(())
}

/// A node that proposes and aborts all day must not fill the disk.
async fn forget_aborted(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let kept = limits::STORED_ABORTED_CEREMONIES;
    sqlx::query(
        "DELETE FROM ceremonies WHERE state = 4 AND number NOT IN \
         (SELECT number FROM ceremonies WHERE state = 4 ORDER BY number DESC LIMIT $1)",
    )
    .bind(kept)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM ceremony_messages WHERE ceremony_id NOT IN (SELECT ceremony_id FROM ceremonies)")
        .execute(connection)
        .await
        .map(drop)
}

/// Times, sequences and sizes are bounded far below 2^63 where they come in.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// For the test of their plans.
#[cfg(test)]
pub(super) fn statements(releases: &[&NewRelease], endings: &[&Ending]) -> [String; 3] {
    [select_known(releases), select_heads(releases), update_outcomes(endings)].map(QueryBuilder::into_string)
}
