//! The one writer: takes what waits, writes it in one transaction, answers after the commit.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    sync::Arc,
    time::Duration,
};

use rutli_wire::v1;
use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use rutli_keys::NodeId;
use rutli_log::Head;
use rutli_release::{Channel, ChannelKey, InvalidRelease, Product};

use super::{
    Admission, AllEvidence, CeremonyChange, Ending, Health, NewEvidence, NewRelease, ReleaseNumber,
    admission::admit, budget::Spent, checksum, evidence, staging,
};
use crate::{
    error::{Error, Result},
    evidence::bytes,
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
    Admitted(OnAdmitted),
    /// All evidence that there is.
    Evidence(OnEvidence),
}

type OnAdmitted = Box<dyn FnOnce(u64) + Send>;
type OnEvidence = Box<dyn FnOnce(&AllEvidence) + Send>;

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
    Admit(Box<NewRelease>),
    Finish(Arc<Ending>),
    Culprit { node: String, named: Option<(String, u64)>, entry: Vec<u8> },
    Ceremony(CeremonyChange),
    Disclose { number: ReleaseNumber, entries: Vec<Vec<u8>>, at: u64 },
    Evidence(NewEvidence),
    Unstage(Head),
    Cosigned { size: u64, note: String, nodes: Vec<NodeId> },
    Prove { proofs: Vec<(ReleaseNumber, Vec<u8>)>, at: u64 },
}

/// What was changed.
#[derive(Debug)]
pub(super) enum Done {
    Admitted(Admission),
    /// All that there is.
    Evidence(AllEvidence),
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

    /// Waits for a change and writes it with all that came meanwhile, or for the log to be stopped. False when nobody is
    /// left to send one.
    async fn write_next(&mut self, mut connection: SqliteConnection) -> bool {
        let first = tokio::select! {
            biased;
            () = self.sequencer.until_stopped() => {
                self.close(self.sequencer.stopped().unwrap_or_default());
                return true;
            }
            first = self.jobs.recv() => first,
        };
        let Some(first) = first else {
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
                // First closed, then answered: who tries again at once finds it closed.
                let reason = self.failed(error);
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
                        let reason = self.failed(error);
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
            Err(reason) => {
                tracing::debug!(reason, "the store is still closed");
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
    ///
    /// # Errors
    /// Why the store stays closed.
    async fn reopen(&mut self) -> Result<SqliteConnection, String> {
        if let Some(reason) = self.sequencer.stopped() {
            return Err(reason);
        }
        let mut connection = self.probe().await.map_err(not_written)?;
        self.sequencer.catch_up(&mut connection).await.map_err(|error| error.to_string())?;
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

    fn close(&self, reason: String) {
        tracing::error!("the store is closed, and nothing is accepted: {reason}");
        self.health.send_replace(Health::Closed(reason));
    }

    /// Why a change was not written, for the caller, with what opens the store again.
    fn failed(&self, error: sqlx::Error) -> String {
        self.sequencer.stopped().unwrap_or_else(|| not_written(error))
    }
}

fn not_written(error: sqlx::Error) -> String {
    format!("{error}; see that its disk works and has space; the store opens by itself when a write succeeds")
}

impl Op {
    /// When it is charged to somebody's hourly budget, if it is.
    fn charged_at(&self) -> Option<u64> {
        match self {
            Self::Admit(release) => Some(release.charge.at),
            Self::Evidence(new) => Some(new.charge.at),
            Self::Finish(_)
            | Self::Culprit { .. }
            | Self::Ceremony(_)
            | Self::Disclose { .. }
            | Self::Unstage(_)
            | Self::Cosigned { .. }
            | Self::Prove { .. } => None,
        }
    }

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
            Self::Culprit { entry, .. } => entry.len(),
            Self::Disclose { entries, .. } => entries.iter().map(Vec::len).sum(),
            Self::Cosigned { note, nodes, .. } => note.len().saturating_mul(nodes.len()),
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
    let mut spent = match ops.iter().find_map(|op| op.charged_at()) {
        Some(at) => Some(Spent::load(&mut transaction, at).await?),
        None => None,
    };
    let mut done: Vec<Result<Done>> = ops.iter().map(|_| Ok(Done::Written)).collect();
    let admits: Vec<&NewRelease> = ops
        .iter()
        .filter_map(|op| if let Op::Admit(release) = op { Some(release.as_ref()) } else { None })
        .collect();
    if let (false, Some(spent)) = (admits.is_empty(), &mut spent) {
        let mut admitted = admit(&mut transaction, &admits, &mut log, spent).await?.into_iter();
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
        let mut overtaken = finish(&mut transaction, &endings, &mut log).await?;
        for (op, done) in ops.iter().zip(&mut done) {
            if let Op::Finish(ending) = op
                && let Some(error) = overtaken.remove(&ending.number.0)
            {
                *done = Err(error);
            }
        }
    }
    for (op, done) in ops.iter().zip(&mut done) {
        match op {
            Op::Culprit { node, named, entry } => {
                culprit(&mut transaction, node, named.as_ref(), entry, &mut log).await?;
            }
            Op::Ceremony(change) => ceremony(&mut transaction, change, &mut log).await?,
            Op::Disclose { number, entries, at } => {
                staging::disclose(&mut transaction, *number, entries, *at, &mut log).await?;
            }
            Op::Evidence(new) => {
                if let Some(spent) = &mut spent {
                    *done = evidence::add(&mut transaction, new, &mut log, spent).await?.map(Done::Evidence);
                }
            }
            Op::Unstage(written) => staging::unstage(&mut transaction, *written).await?,
            Op::Cosigned { size, note, nodes } => {
                staging::cosigned(&mut transaction, *size, note, nodes).await?;
            }
            Op::Prove { proofs, at } => staging::prove(&mut transaction, proofs, *at).await?,
            Op::Admit(_) | Op::Finish(_) => {}
        }
    }
    if let Some(spent) = spent {
        spent.write(&mut transaction).await?;
    }
    let appended = log.write(&mut transaction).await?;
    transaction.commit().await?;
    Ok((done, appended))
}

/// The first recorded end of a release counts, and the log has it once. Returns the releases that must end
/// differently, because another release of their channel was signed with their number.
async fn finish(
    connection: &mut SqliteConnection,
    endings: &[&Ending],
    log: &mut Appending<'_>,
) -> sqlx::Result<HashMap<i64, Error>> {
    // The first of several in one group: of two rows that fit, an UPDATE takes either.
    let mut firsts = HashSet::new();
    let endings: Vec<&Ending> =
        endings.iter().copied().filter(|ending| firsts.insert(ending.number.0)).collect();
    let overtaken = overtaken(connection, &endings).await?;
    let endings: Vec<&Ending> =
        endings.into_iter().filter(|ending| !overtaken.contains_key(&ending.number.0)).collect();
    if endings.is_empty() {
        return Ok(overtaken);
    }
    let ended = update_outcomes(&endings).build().fetch_all(&mut *connection).await?;
    let ended: HashSet<i64> = ended.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<_>>()?;
    let mut signed_now = Vec::new();
    for ending in endings.iter().copied().filter(|ending| ended.contains(&ending.number.0)) {
        let indices: Vec<u64> = ending.entries.iter().map(|entry| log.push(entry.clone(), None)).collect();
        if let (Some(files), Some(leaf), Some(index)) = (&ending.files, ending.entries.last(), indices.last())
        {
            signed_now.push(SignedNow { number: ending.number.0, files, leaf, index: *index });
        }
    }
    let signed: Vec<i64> = endings_signed(&endings).filter(|number| ended.contains(number)).collect();
    if signed.is_empty() {
        return Ok(overtaken);
    }
    // One script, and so one round trip to the thread that has the file.
    let mut script = QueryBuilder::<Sqlite>::new("");
    if !signed_now.is_empty() {
        insert_results(&mut script, &signed_now);
    }
    raise_channels(&mut script, &signed);
    script.build().execute(connection).await?;
    Ok(overtaken)
}

/// What was signed, with the entry that is to be proved.
struct SignedNow<'a> {
    number: i64,
    files: &'a [u8],
    leaf: &'a [u8],
    index: u64,
}

fn insert_results(script: &mut QueryBuilder<Sqlite>, signed_now: &[SignedNow<'_>]) {
    script.push("INSERT INTO results (number, files, checksum) ");
    script.push_values(signed_now, |mut row, SignedNow { number, files, .. }| {
        row.push_bind(*number).push_bind(*files).push_bind(checksum::result(*number, files).finish());
    });
    script.push("; INSERT INTO proofs (number, leaf, log_index) ");
    script.push_values(signed_now, |mut row, SignedNow { number, leaf, index, .. }| {
        row.push_bind(*number).push_bind(*leaf).push_bind(signed(*index));
    });
    script.push(";");
}

fn endings_signed(endings: &[&Ending]) -> impl Iterator<Item = i64> {
    let signed = endings.iter().filter(|ending| ending.state == v1::ReleaseState::Signed);
    signed.map(|ending| ending.number.0)
}

/// Releases that would be signed under a number that another release of their channel has been signed under.
async fn overtaken(
    connection: &mut SqliteConnection,
    endings: &[&Ending],
) -> sqlx::Result<HashMap<i64, Error>> {
    let numbers: Vec<i64> = endings_signed(endings).collect();
    let mut overtaken = HashMap::new();
    if numbers.is_empty() {
        return Ok(overtaken);
    }
    let mut first = HashMap::new();
    for row in select_rivals(&numbers).build().fetch_all(connection).await? {
        let number: i64 = row.try_get(0)?;
        let rival: Option<i64> = row.try_get(1)?;
        let (channel, sequence) = (channel_key(&row, 2)?, unsigned(row.try_get(5)?));
        let rival = rival.unwrap_or_else(|| *first.entry((channel.clone(), sequence)).or_insert(number));
        if rival != number {
            overtaken.insert(number, Error::Overtaken { channel, sequence });
        }
    }
    Ok(overtaken)
}

fn select_rivals(numbers: &[i64]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT own.number, (SELECT rival.number FROM releases AS rival WHERE rival.class = own.class \
         AND rival.product = own.product AND rival.channel = own.channel AND rival.sequence = own.sequence \
         AND rival.state = 4), own.class, own.product, own.channel, own.sequence FROM releases AS own \
         WHERE own.number IN (",
    );
    let mut ids = query.separated(", ");
    for number in numbers {
        ids.push_bind(*number);
    }
    query.push(") ORDER BY own.number");
    query
}

/// The highest signed sequence of each channel.
fn raise_channels(script: &mut QueryBuilder<Sqlite>, numbers: &[i64]) {
    script.push(
        "INSERT INTO channels (class, product, channel, sequence) \
         SELECT class, product, channel, max(sequence) FROM releases WHERE number IN (",
    );
    let mut ids = script.separated(", ");
    for number in numbers {
        ids.push_bind(*number);
    }
    script.push(
        ") GROUP BY class, product, channel ON CONFLICT (class, product, channel) \
         DO UPDATE SET sequence = max(sequence, excluded.sequence);",
    );
}

/// A channel from three columns.
pub(super) fn channel_key(row: &SqliteRow, column: usize) -> sqlx::Result<ChannelKey> {
    let unreadable = |error: InvalidRelease| sqlx::Error::Decode(error.into());
    Ok(ChannelKey {
        class: row.try_get::<String, _>(column)?.parse().map_err(unreadable)?,
        product: Product::new(row.try_get::<String, _>(column + 1)?).map_err(unreadable)?,
        channel: Channel::new(row.try_get::<String, _>(column + 2)?).map_err(unreadable)?,
    })
}

fn update_outcomes(endings: &[&Ending]) -> QueryBuilder<Sqlite> {
    let mut outcomes = QueryBuilder::<Sqlite>::new(
        "UPDATE releases SET state = ended.column2, outcome = ended.column3, outcome_checksum = ended.column4 FROM (",
    );
    outcomes.push_values(endings, |mut row, ending| {
        let (number, state) = (ending.number.0, i64::from(i32::from(ending.state)));
        row.push_bind(number)
            .push_bind(state)
            .push_bind(ending.outcome.as_slice())
            .push_bind(checksum::outcome(number, state, &ending.outcome).finish());
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
pub(super) fn statements(releases: &[&NewRelease], endings: &[&Ending]) -> [String; 5] {
    let numbers: Vec<i64> = endings_signed(endings).collect();
    let mut raise = QueryBuilder::new("");
    raise_channels(&mut raise, &numbers);
    [
        super::admission::select_known(releases),
        super::admission::select_signed(releases),
        update_outcomes(endings),
        select_rivals(&numbers),
        raise,
    ]
    .map(QueryBuilder::into_string)
}
