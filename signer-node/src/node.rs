//! The driver of the [`Signer`]: owns it on a thread of its own, between the links, the custodian and the journal.
//!
//! Waiting batches are handled together: they are opened, decided release by release with a look at the inbox
//! after each, journaled in one transaction where they are ready together, and only then answered. In idle
//! time, and while the disk works, the node makes nonces ahead in small steps.
//!
//! It is also the one who looks at the clocks, closes the node when the journal fails, and opens it again when a write
//! succeeds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rand::rngs::OsRng;
use rutli_keys::{IdentityKey, SignedRoster, SigningShare};
use rutli_log::Head;
use rutli_release::ChannelKey;
use rutli_signer_secrets::Locked;
use rutli_wire::link::{Batch, FromNode, KeptLog, LogHead, NodeStatus, RefusalCode};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Interval, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{self, Reading, Watch},
    entropy::HedgedRng,
    error::Error,
    gate::{LogState, Unsaved},
    journal::{Counts, Journal},
    limits,
    policy::{Change, RulesReport},
    sign::{JournalRecord, Pending, Signer, StreamId, Verdict},
};

/// One connection to a coordinator, as those who send on it see it.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name.
    pub id: StreamId,
    /// What is to be sent.
    pub outbox: mpsc::Sender<FromNode>,
    /// Ends it.
    pub end: CancellationToken,
}

impl Stream {
    /// Sends without waiting; a coordinator that does not read loses its stream.
    pub fn send(&self, message: FromNode) {
        if self.outbox.try_send(message).is_err() {
            self.end.cancel();
        }
    }
}

/// A key with its open share, on its way to the signer.
#[derive(Debug)]
pub struct OpenKey {
    /// Who holds what.
    pub roster: SignedRoster,
    /// This node's, in memory that moves with it.
    pub share: Locked<SigningShare>,
}

/// What the signer's thread answers its custodian.
#[derive(Clone, Debug)]
pub struct Report {
    /// What coordinators see.
    pub status: NodeStatus,
    /// Decisions since the journal began.
    pub counts: Counts,
    /// Signature shares made since the start.
    pub shares: u64,
    /// Product, channel and highest permitted sequence.
    pub marks: Vec<(ChannelKey, u64)>,
    /// By which rules it decides.
    pub rules: RulesReport,
    /// What is kept of the log.
    pub log: LogReport,
}

/// What a node keeps of the log, for its custodian.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// Which log.
    pub origin: String,
    /// What the next head must extend: the newest that it took, or that its custodian vouched for.
    pub head: Head,
    /// `following`, `catching-up` or `forked`.
    pub state: &'static str,
}

/// What waits for the signer's thread.
#[derive(Debug)]
pub enum Event {
    /// A stream is up; the coordinator has this status of the node.
    Opened(Stream, NodeStatus),
    /// It is gone.
    Closed(StreamId),
    /// Work.
    Batch(StreamId, Batch),
    /// A head of the log, to be cosigned.
    Head(StreamId, LogHead),
    /// The custodian pauses the node.
    Pause(String, Answer),
    /// The custodian ends a pause, and vouches for the clock and for what is kept of the log, or for a head by name.
    Resume(Option<Head>, Answer),
    /// The node is unsealed: its identity, and its keys; there may be none.
    Unseal(Arc<IdentityKey>, Vec<OpenKey>, Answer),
    /// One more key that can be signed with from now on. Only an unsealed node has it.
    Install(Box<OpenKey>, Answer),
    /// The custodian's files changed or were to be read again: what is in them, or what is wrong with them.
    Rules(Change, Answer),
    /// What is the matter?
    Report(oneshot::Sender<Report>),
}

/// Where an answer goes.
pub type Answer = oneshot::Sender<Result<(), Error>>;

/// The way to the signer's thread.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    events: mpsc::Sender<Event>,
    status: watch::Receiver<NodeStatus>,
    log: watch::Receiver<KeptLog>,
}

impl NodeHandle {
    /// The same node, behind a queue that a test empties.
    #[cfg(test)]
    pub(crate) fn behind(&self) -> (Self, mpsc::Receiver<Event>) {
        let (events, intercepted) = mpsc::channel(limits::NODE_QUEUE);
        (Self { events, status: self.status.clone(), log: self.log.clone() }, intercepted)
    }

    /// Hands over an event, waiting for room.
    pub async fn send(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).await.map_err(|_| Error::Stopping)
    }

    /// Hands over an event that is answered, and waits for the answer.
    pub async fn ask(&self, event: impl FnOnce(Answer) -> Event) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        self.send(event(answer)).await?;
        answered.await.map_err(|_| Error::Stopping)?
    }

    /// What is the matter?
    pub async fn report(&self) -> Result<Report, Error> {
        let (answer, answered) = oneshot::channel();
        self.send(Event::Report(answer)).await?;
        answered.await.map_err(|_| Error::Stopping)
    }

    /// Returns when the signer's thread has ended.
    pub async fn gone(&self) {
        self.events.closed().await;
    }

    /// The node's status at this moment.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    /// What the node keeps of the log at this moment.
    #[must_use]
    pub fn log(&self) -> KeptLog {
        self.log.borrow().clone()
    }
}

/// Starts the signer's thread; it ends when the last handle is dropped.
pub fn start(signer: Signer, journal: Journal, newest_at: u64, counts: Counts) -> Result<NodeHandle, Error> {
    let thread_error = |source| Error::Thread { source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(thread_error)?;
    let (node, handle) = ready(signer, journal, newest_at, counts);
    std::thread::Builder::new()
        .name("signer".into())
        .spawn(move || runtime.block_on(node.run()))
        .map_err(thread_error)?;
    Ok(handle)
}

/// What the signer's thread will run, and the way to it.
fn ready(signer: Signer, journal: Journal, newest_at: u64, counts: Counts) -> (Node, NodeHandle) {
    let (events, inbox) = mpsc::channel(limits::NODE_QUEUE);
    let (publish, status) = watch::channel(signer.status());
    let (publish_log, log) = watch::channel(signer.gate().kept());
    let node = Node {
        signer,
        journal,
        inbox,
        publish,
        publish_log,
        streams: BTreeMap::new(),
        hungry: VecDeque::new(),
        watch: Watch::new(Reading::now(), clock::boot_id()),
        rng: HedgedRng::new(OsRng, clock::boot_id()),
        no_nonces_before_ms: 0,
        newest_at,
        counts,
        journal_failed: None,
        witness_failed: false,
        clock_behind: false,
    };
    (node, NodeHandle { events, status, log })
}

struct Node {
    signer: Signer,
    journal: Journal,
    inbox: mpsc::Receiver<Event>,
    publish: watch::Sender<NodeStatus>,
    publish_log: watch::Sender<KeptLog>,
    streams: BTreeMap<StreamId, Stream>,
    /// Streams whose pools may have room.
    hungry: VecDeque<StreamId>,
    watch: Watch,
    rng: HedgedRng<OsRng>,
    /// No nonce is made before this time in milliseconds, by the clock that also counts suspensions.
    no_nonces_before_ms: i64,
    /// Highest time in the journal.
    newest_at: u64,
    /// Of the journal's lines.
    counts: Counts,
    journal_failed: Option<String>,
    witness_failed: bool,
    clock_behind: bool,
}

impl Node {
    async fn run(mut self) {
        let mut ticks = interval(Duration::from_millis(limits::TICK_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A journal that cannot be written is known before the first release needs it.
        self.probe().await;
        while let Some(event) = self.next(&mut ticks).await {
            let mut event = Some(event);
            while let Some(next) = event {
                event = self.handle(next).await;
            }
            // Also while one event follows the other.
            self.decide().await;
            self.publish_status();
        }
    }

    /// The next event; meanwhile, ticks, decisions and nonces.
    async fn next(&mut self, ticks: &mut Interval) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.tick().await,
                event = self.inbox.recv() => return event,
                () = tokio::task::yield_now(), if self.signer.is_deciding() => self.decide().await,
                () = tokio::task::yield_now(), if !self.hungry.is_empty() => self.feed(limits::NONCE_STEP),
            }
        }
    }

    /// Returns what was taken from the queue behind the event and is to be handled next.
    async fn handle(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Batch(stream, batch) => return self.open_batches(stream, batch),
            Event::Head(stream, head) => self.handle_head(stream, &head).await,
            Event::Opened(stream, told) => self.opened(stream, &told),
            Event::Closed(stream) => self.close_stream(stream),
            Event::Pause(reason, answer) => {
                // At once, also if the disk is full: the custodian's word needs no journal to hold for this process.
                self.signer.pause(reason.clone());
                self.answer_all().await;
                let kept = self.journal.set_paused(&reason).await;
                self.publish_status();
                _ = answer.send(kept);
            }
            Event::Resume(head, answer) => {
                self.answer_all().await;
                let resumed = self.resume(head).await;
                self.publish_status();
                _ = answer.send(resumed);
            }
            Event::Unseal(identity, keys, answer) => {
                self.answer_all().await;
                let installed = keys.into_iter().try_for_each(|key| self.install(key));
                if installed.is_ok() {
                    self.signer.unseal(identity);
                }
                self.publish_status();
                _ = answer.send(installed);
            }
            Event::Install(key, answer) => {
                self.answer_all().await;
                let installed = self.install(*key);
                self.publish_status();
                _ = answer.send(installed);
            }
            Event::Rules(rules, answer) => {
                self.answer_all().await;
                self.reload(rules);
                _ = answer.send(Ok(()));
            }
            Event::Report(answer) => _ = answer.send(self.report()),
        }
        None
    }

    /// Opens all batches that wait.
    fn open_batches(&mut self, stream: StreamId, batch: Batch) -> Option<Event> {
        let mut next = Some((stream, batch));
        while let Some((stream, batch)) = next.take() {
            let now = self.look_at_clocks();
            // A batch whose stream has ended has no nonces left here, and nobody to answer to.
            if self.streams.contains_key(&stream) {
                self.signer.open(stream, batch, now);
            }
            match self.inbox.try_recv() {
                Ok(Event::Batch(stream, batch)) if self.signer.has_room() => next = Some((stream, batch)),
                Ok(other) => return Some(other),
                Err(_) => {}
            }
        }
        None
    }

    /// Decides one release, and answers the batches that are to be answered.
    async fn decide(&mut self) {
        let now = self.look_at_clocks();
        self.signer.decide_next(now);
        let decided = self.signer.take_decided(Reading::now());
        self.answer(decided).await;
    }

    /// Answers all open batches: something that their decisions depend on changes.
    async fn answer_all(&mut self) {
        let now = self.look_at_clocks();
        let all = self.signer.take_all(now);
        self.answer(all).await;
    }

    /// Makes the decisions of all these batches durable at once, and answers.
    async fn answer(&mut self, decided: Vec<Pending>) {
        if decided.is_empty() {
            return;
        }
        let records: Vec<&JournalRecord> = decided.iter().flat_map(Pending::records).collect();
        // Each one says all that the gate knew then: the last one counts.
        let log = decided.iter().rev().find_map(Pending::log);
        let journaled = self.record(&records, log).await;
        for pending in decided {
            let stream = pending.stream();
            let reply = self.signer.release_shares(pending, journaled.clone());
            self.send(stream, FromNode::Reply(reply));
            self.make_hungry(stream);
        }
        self.publish_status();
    }

    /// Takes a head, makes it durable, and cosigns it.
    async fn handle_head(&mut self, stream: StreamId, head: &LogHead) {
        if !self.streams.contains_key(&stream) {
            return;
        }
        let now = self.look_at_clocks();
        let pending = self.signer.receive_head(head, now.unix_s());
        let journaled = self.record(&[], pending.log()).await;
        let (witnessed, refusal) = self.signer.witness(pending, journaled);
        if let Some(refusal) = &refusal {
            // Each head, for as long as it is sealed: its status says so.
            if refusal.code != RefusalCode::Sealed {
                tracing::warn!(code = %refusal.code, reason = refusal.reason, "did not take a head of the log");
            }
        }
        self.send(stream, FromNode::Head(witnessed, refusal));
    }

    fn look_at_clocks(&mut self) -> Reading {
        let now = Reading::now();
        if let Some(anomaly) = self.watch.check(now) {
            self.forget_nonces(&anomaly.to_string());
        }
        self.check_backstep(now);
        now
    }

    /// Nonces are made while the disk works.
    async fn record(&mut self, records: &[&JournalRecord], log: Option<&Unsaved>) -> Result<(), String> {
        if records.is_empty() && log.is_none() {
            return Ok(());
        }
        let cosigned = log.map_or(0, |log| log.state.newest_at);
        let newest = records.iter().map(|record| record.at).max().unwrap_or_default().max(cosigned);
        let journal = self.journal.clone();
        let mut recording = std::pin::pin!(journal.record(records, log));
        let recorded = loop {
            tokio::select! {
                biased;
                recorded = &mut recording => break recorded,
                () = tokio::task::yield_now(), if !self.hungry.is_empty() => self.feed(limits::NONCE_STEP_DURING_WRITE),
            }
        };
        match recorded {
            Ok(()) => {
                self.newest_at = self.newest_at.max(newest);
                self.count(records);
                Ok(())
            }
            Err(error) => {
                tracing::error!("{error}; the node is closed until a write succeeds");
                self.journal_failed = Some(error.to_string());
                Err(error.to_string())
            }
        }
    }

    fn count(&mut self, records: &[&JournalRecord]) {
        for record in records {
            match record.verdict {
                Verdict::Permitted => self.counts.permitted += 1,
                Verdict::Refused(_) => self.counts.refused += 1,
            }
        }
        tracing::debug!(records = records.len(), "journaled");
    }

    fn opened(&mut self, stream: Stream, told: &NodeStatus) {
        self.signer.stream_opened(stream.id);
        let status = self.signer.status();
        if status != *told {
            stream.send(FromNode::Status(status));
        }
        let id = stream.id;
        self.streams.insert(id, stream);
        self.make_hungry(id);
    }

    fn close_stream(&mut self, stream: StreamId) {
        self.signer.stream_closed(stream);
        self.hungry.retain(|hungry| *hungry != stream);
        if let Some(stream) = self.streams.remove(&stream) {
            stream.end.cancel();
        }
    }

    async fn resume(&mut self, head: Option<Head>) -> Result<(), Error> {
        let now = Reading::now().unix_s();
        let vouched = self.signer.gate().vouched(head, now)?;
        self.journal.resume(now, &vouched, head).await?;
        let rates = self.journal.rates(now).await?;
        if let Some(Head { size, root }) = head {
            tracing::warn!(size, %root, "the custodian vouched for a head of the log");
        }
        self.newest_at = self.newest_at.min(now);
        self.clock_behind = false;
        self.signer.resume(vouched);
        // Whatever the witness said before, from now on it follows this journal.
        self.journal.accept();
        self.signer.recount(rates, now);
        self.reopen_if_sound();
        Ok(())
    }

    /// Coordinators are told also if the status is the same: what waited for these rules is asked again.
    fn reload(&mut self, change: Change) {
        let is_new = match &change {
            Change::Rules(rules) => {
                let (policies, digest) = (rules.policies.ids().count(), hex::encode(rules.digest()));
                tracing::info!(policies, digest, "rules loaded");
                rules.warnings().iter().for_each(|warning| tracing::warn!("rules: {warning}"));
                true
            }
            Change::UnderWay { .. } => {
                tracing::info!("the policy directory is changing");
                false
            }
            Change::Broken { problem, .. } => {
                tracing::error!("{problem}");
                false
            }
        };
        self.signer.reload(change, Reading::now().unix_s());
        let status = self.signer.status();
        if is_new && *self.publish.borrow() == status {
            self.send_status(&status);
        }
        self.publish_status();
    }

    fn install(&mut self, key: OpenKey) -> Result<(), Error> {
        let name = key.roster.roster().key().clone();
        self.signer.install_key(key.roster, key.share)?;
        tracing::info!(key = %name, "key ready");
        let streams: Vec<_> = self.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.make_hungry(stream));
        Ok(())
    }

    fn report(&self) -> Report {
        Report {
            status: self.signer.status(),
            counts: self.counts,
            shares: self.signer.shares_made(),
            marks: self
                .signer
                .marks()
                .highest()
                .map(|(channel, sequence)| (channel.clone(), sequence))
                .collect(),
            rules: self.signer.policy().report(Reading::now().unix_s()),
            log: self.log_report(),
        }
    }

    fn log_report(&self) -> LogReport {
        let gate = self.signer.gate();
        let state = match gate.state() {
            LogState { fork: Some(_), .. } => "forked",
            LogState { catching_up: Some(_), .. } => "catching-up",
            LogState { .. } => "following",
        };
        LogReport { origin: gate.origin().to_string(), head: gate.head(), state }
    }

    /// Once a second.
    async fn tick(&mut self) {
        let now = Reading::now();
        let anomaly = self.watch.check(now).or_else(|| self.watch.check_boot_id(clock::boot_id()));
        if let Some(anomaly) = anomaly {
            self.forget_nonces(&anomaly.to_string());
        }
        self.check_backstep(now);
        if self.journal_failed.is_some() {
            self.probe().await;
        }
        if now.monotonic_ms >= self.no_nonces_before_ms {
            self.signer.set_lull(None);
        }
        self.check_witness();
        // Outboxes that were too full for commitments may have room again.
        let streams: Vec<_> = self.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.make_hungry(stream));
        self.publish_status();
    }

    /// Closes the node if the journal cannot be written, opens it if it can again.
    async fn probe(&mut self) {
        match self.journal.probe().await {
            Ok(()) => {
                if self.journal_failed.take().is_some() {
                    tracing::info!("the journal can be written again");
                    self.reopen_if_sound();
                }
            }
            Err(error) => {
                if self.journal_failed.is_none() {
                    tracing::error!("{error}; the node is closed until a write succeeds");
                }
                self.signer
                    .close(format!("the journal cannot be written: {error}; free space or mend the disk"));
                self.journal_failed = Some(error.to_string());
            }
        }
    }

    /// Without its witness, an old copy of the journal could later be taken for the newest.
    fn check_witness(&mut self) {
        let problem = self.journal.witness_problem();
        let failed = problem.is_some();
        if let Some(problem) = problem.filter(|_| !self.witness_failed) {
            tracing::error!("{problem}; the node is closed until the journal's witness can be written");
            self.signer.close(format!(
                "the journal's witness cannot be written: {problem}; free space or mend the disk"
            ));
        }
        if self.witness_failed && !failed {
            tracing::info!("the journal's witness can be written again");
            self.witness_failed = false;
            self.reopen_if_sound();
        }
        self.witness_failed = failed;
    }

    /// A clock behind the journal would let statements in that were out of time before.
    fn check_backstep(&mut self, now: Reading) {
        let behind = now.unix_s().saturating_add(limits::MAX_CLOCK_BACKSTEP_S) < self.newest_at;
        if behind && !self.clock_behind {
            tracing::error!(
                now = now.unix_s(),
                journal = self.newest_at,
                "the clock ran backwards; the node is closed"
            );
            self.signer.close(format!(
                "the clock says {} and the journal's newest line {}: set the clock right, or vouch for it with `resume`",
                now.unix_s(),
                self.newest_at
            ));
        }
        if self.clock_behind && !behind {
            self.clock_behind = false;
            tracing::info!("the clock is ahead of the journal again");
            self.reopen_if_sound();
        }
        self.clock_behind = behind;
    }

    fn reopen_if_sound(&mut self) {
        if self.journal_failed.is_none() && !self.witness_failed && !self.clock_behind {
            self.signer.reopen();
        }
    }

    /// Every nonce may exist twice: none is used, and every stream starts over. The kernel's randomness may
    /// repeat until it reseeds, so no nonce is made before that.
    fn forget_nonces(&mut self, why: &str) {
        let pause_s = limits::NONCE_PAUSE_MS / 1_000;
        tracing::warn!(
            "{why}: every nonce made before is forgotten, every stream begins anew, and no nonces are made for {pause_s} s"
        );
        self.no_nonces_before_ms = Reading::now().monotonic_ms.saturating_add(limits::NONCE_PAUSE_MS);
        self.signer.forget_nonces();
        self.signer.set_lull(Some(format!("no nonces are made for {pause_s} s: {why}")));
        let streams: Vec<_> = self.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.close_stream(stream));
    }

    fn make_hungry(&mut self, stream: StreamId) {
        if self.streams.contains_key(&stream) && !self.hungry.contains(&stream) {
            self.hungry.push_back(stream);
        }
    }

    /// Makes some nonces for the stream whose turn it is.
    fn feed(&mut self, most: usize) {
        let Some(id) = self.hungry.pop_front() else { return };
        // Each tick asks again.
        if Reading::now().monotonic_ms < self.no_nonces_before_ms {
            return;
        }
        let Some(stream) = self.streams.get(&id) else { return };
        // Answers come first: a full outbox means that the coordinator does not keep up, not that it wants more.
        if stream.outbox.capacity() < limits::OUTBOX_RESERVE {
            return;
        }
        let announcements = match self.signer.announce(id, most, &mut self.rng.batch()) {
            Ok(announcements) => announcements,
            // Tried again with the next tick.
            Err(error) => return tracing::error!(%error, "no nonces can be made"),
        };
        if !announcements.is_empty() {
            announcements.into_iter().for_each(|announcement| self.send(id, announcement));
            self.make_hungry(id);
        }
    }

    fn send(&mut self, stream: StreamId, message: FromNode) {
        if let Some(stream) = self.streams.get(&stream) {
            stream.send(message);
        }
    }

    /// Tells everybody who holds an older status.
    fn publish_status(&mut self) {
        self.publish_log.send_replace(self.signer.gate().kept());
        let status = self.signer.status();
        if *self.publish.borrow() == status {
            return;
        }
        tracing::info!(
            state = status.condition.as_str(),
            reason = status.reason,
            keys = status.keys.len(),
            "status"
        );
        self.send_status(&status);
        self.publish.send_replace(status);
    }

    fn send_status(&self, status: &NodeStatus) {
        for stream in self.streams.values() {
            stream.send(FromNode::Status(status.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
