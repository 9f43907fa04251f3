//! Tokio around the engine: one task owns it, feeds it events with the time, and carries out its actions.
//!
//! Arithmetic runs on threads of its own: parsing commitments when they arrive, ahead of their use, and
//! aggregation when a session is complete.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::bytes::Bytes;
use rutli_keys::{KeyName, NodeId, SignedRoster};
use rutli_log::{Head, SignedCheckpoint};
use rutli_release::{ChannelKey, ReleaseId, Sequence};
use rutli_wire::link::{
    Batch, BatchId, CommitmentBytes, FromNode, LogHead, LoggedEntry, LoggedEvidence, NodeStatus, Refusal,
    RefusalCode, ToNode, Witnessed,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Action, Engine, Event, KnownHead, Millis, NodeSnapshot, NotCancelled, Outcome, Progress, StreamId,
    Submission, nodes::clock_differs,
};
use crate::{aggregate::aggregate, clock::Clock, commitment::Commitment, error::Error, log::Log};

/// Events that may wait for the engine; a sender waits when it is full, and through HTTP/2 so does the node behind it.
const INBOX: usize = 1_024;

/// Notices that may wait for their reader.
const NOTICES: usize = 4_096;

/// The engine's task is gone: the process is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is shutting down; ask again in a moment")]
pub struct Stopped;

/// Why a release cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// A share of it may be out.
    #[error("nodes have it now, or have signed a part of it, so it cannot be taken back")]
    TooLate,
    /// Finished, or never submitted.
    #[error("it is not waiting to be signed")]
    Unknown,
    /// See [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What the engine has to say to the rest of the coordinator.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A release went on.
    Progress(ReleaseId, Progress),
    /// A node is excluded from now on.
    Culprit {
        /// Which.
        node: NodeId,
        /// What it did.
        reason: String,
    },
}

/// A handle to the engine.
#[derive(Clone, Debug)]
pub struct Sessions {
    inbox: mpsc::Sender<Command>,
    next_stream: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Command {
    Event(Event),
    Attach {
        node: NodeId,
        stream: StreamId,
        version: String,
        status: NodeStatus,
        log_size: u64,
        outbox: mpsc::Sender<ToNode>,
    },
    Cosign(oneshot::Sender<(SignedCheckpoint, Vec<NodeId>)>),
    Restored(SignedCheckpoint, oneshot::Sender<usize>),
    Witnessed(NodeId, StreamId, Witnessed, Option<Refusal>),
    Sign(Submission, oneshot::Sender<Outcome>),
    Cancel(ReleaseId, oneshot::Sender<Result<(), NotCancelled>>),
    Nodes(oneshot::Sender<Vec<NodeSnapshot>>),
    Next(ChannelKey, Option<Sequence>, oneshot::Sender<Option<Sequence>>),
}

impl Sessions {
    /// Starts the engine's task; `release_key` as for [`Engine::new`]. It ends when the last handle is dropped. If the
    /// receiver of notices ends before, the engine has failed, and the process must not go on.
    #[must_use]
    pub fn start(
        rosters: Vec<SignedRoster>,
        culprits: BTreeMap<NodeId, String>,
        release_key: Option<KeyName>,
        log: Log,
        time: Clock,
    ) -> (Self, mpsc::Receiver<Notice>) {
        let (inbox, commands) = mpsc::channel(INBOX);
        let (notices, receiver) = mpsc::channel(NOTICES);
        let (internal, computed) = mpsc::unbounded_channel();
        let known = |(node, size)| (node, KnownHead { size, ..KnownHead::default() });
        let heads = log.cosigned_sizes().into_iter().map(known).collect();
        let driver = Driver {
            engine: Engine::new(culprits, release_key),
            clock: Instant::now(),
            time,
            outboxes: HashMap::new(),
            waiting: HashMap::new(),
            notices,
            internal,
            log,
            proved: None,
            restored: None,
            heads,
        };
        let task = driver.run(rosters, commands, computed);
        tokio::spawn(task);
        (Self { inbox, next_stream: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// Queues a release; the answer comes when it is final. A second call for a release under way joins it.
    ///
    /// Releases of one channel must be submitted in the order of their sequence: nodes' marks only go up.
    pub async fn submit(&self, submission: Submission) -> Result<oneshot::Receiver<Outcome>, Stopped> {
        let (answer, outcome) = oneshot::channel();
        self.send(Command::Sign(submission, answer)).await?;
        Ok(outcome)
    }

    /// Queues a release and waits until it is final.
    pub async fn sign(&self, submission: Submission) -> Result<Outcome, Stopped> {
        self.submit(submission).await?.await.map_err(|_| Stopped)
    }

    /// The result of a signed release is durable: the next release of its channel may start.
    pub async fn published(&self, id: &ReleaseId) {
        let _: Result<(), Stopped> = self.send(Command::Event(Event::Published(id.clone()))).await;
    }

    /// A sequence was signed in a channel, durably: before [`Sessions::published`], and before what may be behind it is
    /// submitted.
    pub async fn signed(&self, channel: ChannelKey, sequence: Sequence) {
        let _: Result<(), Stopped> = self.send(Command::Event(Event::Signed(channel, sequence))).await;
    }

    /// The lowest free sequence of a channel, see [`Engine::next_sequence`].
    pub async fn next_sequence(
        &self,
        channel: ChannelKey,
        signed: Option<Sequence>,
    ) -> Result<Option<Sequence>, Stopped> {
        let (answer, next) = oneshot::channel();
        self.send(Command::Next(channel, signed, answer)).await?;
        next.await.map_err(|_| Stopped)
    }

    /// There is more evidence for a release that was submitted before, named in these entries of the log.
    pub async fn evidence(&self, id: &ReleaseId, documents: Vec<Bytes>, entries: Vec<LoggedEvidence>) {
        let event = Event::Evidence(id.clone(), documents, entries);
        let _: Result<(), Stopped> = self.send(Command::Event(event)).await;
    }

    /// Nobody wants a release any more: its outcome comes as soon as no node has it.
    pub async fn abandon(&self, id: &ReleaseId) {
        let _: Result<(), Stopped> = self.send(Command::Event(Event::Abandon(id.clone()))).await;
    }

    /// Takes a release back.
    pub async fn cancel(&self, id: &ReleaseId) -> Result<(), CancelError> {
        let (answer, cancelled) = oneshot::channel();
        self.send(Command::Cancel(id.clone(), answer)).await?;
        match cancelled.await.map_err(|_| Stopped)? {
            Ok(()) => Ok(()),
            Err(NotCancelled::TooLate) => Err(CancelError::TooLate),
            Err(NotCancelled::Unknown) => Err(CancelError::Unknown),
        }
    }

    /// A node is there; what the engine sends to it goes to `outbox`, which is dropped when its stream must end.
    pub async fn attach(
        &self,
        node: NodeId,
        version: String,
        status: NodeStatus,
        log_size: u64,
        outbox: mpsc::Sender<ToNode>,
    ) -> Result<StreamId, Stopped> {
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        self.send(Command::Attach { node, stream, version, status, log_size, outbox }).await?;
        Ok(stream)
    }

    /// Asks every attached node to cosign the newest head of the log; gives that head, and those nodes. What they say goes
    /// to [`Log::witnessed`].
    pub async fn cosign(&self) -> Result<(SignedCheckpoint, Vec<NodeId>), Stopped> {
        let (answer, asked) = oneshot::channel();
        self.send(Command::Cosign(answer)).await?;
        asked.await.map_err(|_| Stopped)
    }

    /// Shows a cosigned head to the nodes that were restored and wait for one; gives how many those are.
    pub async fn restored(&self, checkpoint: SignedCheckpoint) -> Result<usize, Stopped> {
        let (answer, shown) = oneshot::channel();
        self.send(Command::Restored(checkpoint, answer)).await?;
        shown.await.map_err(|_| Stopped)
    }

    /// A node sent commitments, an answer or its status; anything else is not for the engine.
    pub async fn received(&self, node: &NodeId, stream: StreamId, message: FromNode) {
        let event = match message {
            FromNode::Commitments(key, commitments) => {
                let Some(event) = parse(node, stream, key, commitments).await else { return };
                event
            }
            FromNode::Reply(reply) => Event::Reply(node.clone(), stream, reply),
            FromNode::Status(status) => Event::Status(node.clone(), stream, status),
            FromNode::Head(witnessed, refusal) => {
                let command = Command::Witnessed(node.clone(), stream, witnessed, refusal);
                let _: Result<(), Stopped> = self.send(command).await;
                return;
            }
            FromNode::Hello { .. } | FromNode::Ceremony(_) | FromNode::Goodbye(_) => return,
        };
        // A stopped engine has no use for it.
        let _: Result<(), Stopped> = self.send(Command::Event(event)).await;
    }

    /// A node's stream ended.
    pub async fn detach(&self, node: &NodeId, stream: StreamId) {
        let _: Result<(), Stopped> = self.send(Command::Event(Event::Detached(node.clone(), stream))).await;
    }

    /// A ceremony made a key.
    pub async fn add_key(&self, roster: SignedRoster) {
        let _: Result<(), Stopped> = self.send(Command::Event(Event::KeyAdded(Box::new(roster)))).await;
    }

    /// Every node ever seen or blamed.
    pub async fn nodes(&self) -> Vec<NodeSnapshot> {
        let (answer, nodes) = oneshot::channel();
        match self.send(Command::Nodes(answer)).await {
            Ok(()) => nodes.await.unwrap_or_default(),
            Err(Stopped) => Vec::new(),
        }
    }

    /// Reinstates an excluded node; false if it was not excluded.
    pub async fn reinstate(&self, node: &NodeId) -> bool {
        let culprit = self.nodes().await.iter().any(|known| known.node == *node && known.culprit.is_some());
        culprit && self.send(Command::Event(Event::Reinstate(node.clone()))).await.is_ok()
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.inbox.send(command).await.map_err(|_| Stopped)
    }
}

/// Which clock is wrong is not known here, only that the two differ.
fn tell_clock(node: &NodeId, ahead_s: i64) {
    if clock_differs(ahead_s) {
        tracing::warn!(
            %node, ahead_s,
            "a node's clock differs from this coordinator's: set the one that is wrong; if all nodes differ alike, it is the coordinator's"
        );
    } else {
        tracing::info!(%node, ahead_s, "a node's clock no longer differs much from this coordinator's");
    }
}

/// Parses announced commitments on a thread made for it. A node that announces what is no point misbehaves; a thread
/// that does not come back ends with the process, and is nobody's fault.
async fn parse(
    node: &NodeId,
    stream: StreamId,
    key: KeyName,
    commitments: Vec<CommitmentBytes>,
) -> Option<Event> {
    let parsed = tokio::task::spawn_blocking(move || {
        commitments.into_iter().map(Commitment::parse).collect::<Option<Vec<_>>>()
    })
    .await
    .ok()?;
    Some(match parsed {
        Some(parsed) => Event::Commitments(node.clone(), stream, key, parsed),
        None => {
            Event::Misbehaved(node.clone(), "announced a commitment that is no point of the group".to_owned())
        }
    })
}

struct Driver {
    engine: Engine,
    clock: Instant,
    /// Unix seconds, to compare nodes' clocks with.
    time: Clock,
    outboxes: HashMap<NodeId, Outbox>,
    waiting: HashMap<ReleaseId, Vec<oneshot::Sender<Outcome>>>,
    notices: mpsc::Sender<Notice>,
    /// Results of our own computations: as many as there are sessions, hence bounded.
    internal: mpsc::UnboundedSender<Option<Event>>,
    log: Log,
    /// The newest batch with its proofs: it goes to several nodes.
    proved: Option<(BatchId, Proved)>,
    /// The newest head that was shown to nodes that were restored.
    restored: Option<SignedCheckpoint>,
    /// The newest log head that every node ever reported.
    heads: BTreeMap<NodeId, KnownHead>,
}

/// The way to a node.
struct Outbox {
    stream: StreamId,
    sender: mpsc::Sender<ToNode>,
    /// Size of the log's head that the node keeps once it has taken what was sent to it; its answers correct it.
    log_size: u64,
    /// That size when it attached, and showed its checkpoint.
    shown: u64,
    /// It was restored, and waits for a head that its peers cosigned.
    catching_up: bool,
    /// Its clock differed when it last reported its time.
    clock_differs: bool,
}

/// Proofs of a batch's entries under one head.
struct Proved {
    note: String,
    head: Head,
    entries: Vec<Option<LoggedEntry>>,
}

impl Driver {
    async fn run(
        mut self,
        rosters: Vec<SignedRoster>,
        mut commands: mpsc::Receiver<Command>,
        mut computed: mpsc::UnboundedReceiver<Option<Event>>,
    ) {
        for roster in rosters {
            self.event(Event::KeyAdded(Box::new(roster))).await;
        }
        loop {
            let deadline = self.engine.next_deadline().map(|at| self.clock + Duration::from_millis(at.0));
            let tick = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(event) = computed.recv() => match event {
                    Some(event) => self.event(event).await,
                    None => return tracing::error!("a computation failed; the engine ends"),
                },
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                () = tick => self.event(Event::Tick).await,
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Event(event) => self.event(event).await,
            Command::Attach { node, stream, version, status, log_size, outbox } => {
                let way = Outbox {
                    stream,
                    sender: outbox,
                    log_size,
                    shown: log_size,
                    catching_up: false,
                    clock_differs: false,
                };
                self.outboxes.insert(node.clone(), way);
                self.compare_head(&node, log_size);
                // Before any work: a node whose data is an old copy finds its own cosignature here, and
                // stops.
                if let Some(first) = self.log.first_for(&node, log_size) {
                    self.send_head(&node, &first);
                }
                self.log.attached();
                self.event(Event::Attached { node, stream, version, status }).await;
            }
            Command::Cosign(answer) => {
                let newest = self.log.collect();
                let nodes: Vec<NodeId> = self.outboxes.keys().cloned().collect();
                nodes.iter().for_each(|node| self.send_head(node, &newest));
                let _: Result<(), _> = answer.send((newest, nodes));
            }
            Command::Restored(checkpoint, answer) => {
                let waiting = self.outboxes.iter().filter(|(_, outbox)| outbox.catching_up);
                let nodes: Vec<NodeId> = waiting.map(|(node, _)| node.clone()).collect();
                nodes.iter().for_each(|node| self.send_head(node, &checkpoint));
                self.restored = Some(checkpoint);
                let _: Result<(), _> = answer.send(nodes.len());
            }
            Command::Witnessed(node, stream, witnessed, refusal) => {
                let waited = self.outboxes.get(&node).is_some_and(|outbox| outbox.catching_up);
                let gap = refusal.as_ref().is_some_and(|refusal| refusal.code == RefusalCode::LogGap);
                // A sealed node took it and cannot cosign, until its status says otherwise.
                if let Some(refusal) = refusal.as_ref().filter(|refusal| refusal.code != RefusalCode::Sealed)
                {
                    tracing::warn!(%node, code = %refusal.code, refusal.reason, "did not take a head of the log");
                }
                if let Some(event) = self.witnessed(&node, stream, witnessed, refusal.as_ref()) {
                    self.event(event).await;
                }
                // It was shown before the node's answer to the head before said where its own is. Once for each time that it
                // says that it waits: otherwise it would wait for the next round, which comes only when something happens.
                if waited
                    && gap
                    && let Some(checkpoint) = self.restored.clone()
                {
                    self.send_head(&node, &checkpoint);
                }
            }
            Command::Sign(submission, answer) => {
                self.waiting.entry(submission.release_id.clone()).or_default().push(answer);
                self.event(Event::Submit(submission)).await;
            }
            Command::Cancel(id, answer) => {
                let result = self.engine.cancel(&id);
                let _: Result<(), _> = answer.send(result.as_ref().map(|_| ()).map_err(|error| *error));
                self.carry_out(result.unwrap_or_default()).await;
            }
            Command::Next(channel, signed, answer) => {
                let _: Result<(), _> = answer.send(self.engine.next_sequence(&channel, signed));
            }
            Command::Nodes(answer) => {
                let mut nodes = self.engine.nodes();
                for node in &mut nodes {
                    node.log = self.heads.get(&node.node).copied().unwrap_or_default();
                }
                let _: Result<(), _> = answer.send(nodes);
            }
        }
    }

    async fn event(&mut self, event: Event) {
        if let Event::Detached(node, stream) = &event
            && self.outboxes.get(node).is_some_and(|outbox| outbox.stream == *stream)
        {
            self.outboxes.remove(node);
        }
        let mut clock = None;
        if let Event::Reply(node, stream, reply) = &event
            && let Some(witnessed) = reply.witnessed
        {
            clock = self.witnessed(node, *stream, witnessed, reply.answer.as_ref().err());
        }
        let now = Millis(u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX));
        for event in clock.into_iter().chain([event]) {
            let actions = self.engine.handle(now, event);
            self.carry_out(actions).await;
        }
    }

    async fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send(node, stream, message) => self.send(&node, stream, message),
                Action::Disconnect(node, stream, reason) => {
                    tracing::warn!(%node, reason, "ending a node's stream: its pool is not what it was taken for");
                    self.disconnect(&node, stream);
                }
                Action::Aggregate(job) => {
                    let internal = self.internal.clone();
                    let computing = tokio::task::spawn_blocking(move || aggregate(&job));
                    tokio::spawn(async move {
                        // Without a result the computation panicked: a bug, after which the engine is not to be trusted.
                        // The receiver ends with the process only.
                        let event = computing.await.ok().map(Event::Aggregated);
                        let _: Result<(), _> = internal.send(event);
                    });
                }
                Action::Progress(id, progress) => self.notify(Notice::Progress(id, progress)).await,
                Action::Finished(id, outcome) => {
                    for answer in self.waiting.remove(&id).unwrap_or_default() {
                        let _: Result<(), _> = answer.send(outcome.clone());
                    }
                }
                Action::Clock(node, ahead_s) => tell_clock(&node, ahead_s),
                Action::Culprit(node, reason) => {
                    tracing::error!(%node, reason, "left out as a culprit until an operator reinstates it");
                    self.notify(Notice::Culprit { node, reason }).await;
                }
            }
        }
    }

    /// A node whose outbox is full does not read. What it missed it would never answer, and its pool would differ from
    /// what we believe: its stream ends, and its work goes on elsewhere.
    fn send(&mut self, node: &NodeId, stream: StreamId, message: ToNode) {
        let message = match message {
            ToNode::Batch(batch) => match self.prove(node, batch) {
                Ok(batch) => ToNode::Batch(batch),
                // The node does not get the batch: its session ends at its deadline, and is tried again.
                Err(error) => return tracing::error!(%node, %error, "no proof that a batch is in the log"),
            },
            other => other,
        };
        let Some(outbox) = self.outboxes.get(node).filter(|outbox| outbox.stream == stream) else { return };
        if outbox.sender.try_send(message).is_err() {
            tracing::warn!(%node, "does not read what is sent to it: ending its stream");
            self.outboxes.remove(node);
            let _: Result<(), _> = self.internal.send(Some(Event::Detached(node.clone(), stream)));
        }
    }

    /// Adds to a batch the newest head of the log, the proof that it extends what this node keeps, and for each item the
    /// proof that its entry is under it. The engine sends a batch to all its nodes in a row: they share the proofs.
    fn prove(&mut self, node: &NodeId, mut batch: Batch) -> Result<Batch, Error> {
        if self.proved.as_ref().is_none_or(|(id, _)| *id != batch.id) {
            let newest = self.log.newest();
            let head = newest.head();
            let mut entries: Vec<_> = batch.items.iter().map(|item| item.entry.clone()).collect();
            for entry in entries.iter_mut().flatten() {
                entry.proof = self.log.inclusion(entry.index, entry.leaf, &head)?;
                for added in &mut entry.added {
                    added.proof = self.log.inclusion(added.index, added.leaf, &head)?;
                }
            }
            self.proved = Some((batch.id, Proved { note: newest.to_note(), head, entries }));
        }
        let Some((_, proved)) = &self.proved else { return Ok(batch) };
        for (item, entry) in batch.items.iter_mut().zip(&proved.entries) {
            item.entry.clone_from(entry);
        }
        let (note, head) = (proved.note.clone(), proved.head);
        batch.head = self.head_for(node, note, head)?;
        Ok(batch)
    }

    fn send_head(&mut self, node: &NodeId, checkpoint: &SignedCheckpoint) {
        let Some(stream) = self.outboxes.get(node).map(|outbox| outbox.stream) else { return };
        match self.head_for(node, checkpoint.to_note(), checkpoint.head()) {
            Ok(Some(head)) => self.send(node, stream, ToNode::Head(head)),
            Ok(None) => {}
            Err(error) => tracing::error!(%node, %error, "no proof that the log extends what the node keeps"),
        }
    }

    /// A head for a node that keeps another, which it will keep once it has taken this one. `None`: the node is gone.
    fn head_for(&mut self, node: &NodeId, checkpoint: String, head: Head) -> Result<Option<LogHead>, Error> {
        let Some(outbox) = self.outboxes.get_mut(node) else { return Ok(None) };
        let from = outbox.log_size;
        let consistency = self.log.consistency(from, &head)?;
        // A node that keeps more says so, whatever it is sent.
        outbox.log_size = from.max(head.size);
        Ok(Some(LogHead { checkpoint, from, consistency }))
    }

    /// A log never gets shorter, and neither do nodes' heads: a node that comes back with a shorter one runs
    /// on an old copy of its data.
    fn compare_head(&mut self, node: &NodeId, log_size: u64) {
        let known = self.heads.entry(node.clone()).or_default();
        known.fell_from = (log_size < known.size).then_some(known.size);
        if let Some(before) = known.fell_from {
            tracing::warn!(
                %node, before, now = log_size,
                "the node's head of the log went down: it runs on an old copy of its data; its custodian must look"
            );
        }
        known.size = known.size.max(log_size);
    }

    /// A node that did not accept the head has an older one than we believed. Its cosignature contains its
    /// time: an event, if the warning about its clock begins or ends.
    fn witnessed(
        &mut self,
        node: &NodeId,
        stream: StreamId,
        witnessed: Witnessed,
        refusal: Option<&Refusal>,
    ) -> Option<Event> {
        let outbox = self.outboxes.get_mut(node).filter(|outbox| outbox.stream == stream)?;
        let ahead_s = witnessed.cosignature.map(|cosignature| {
            i64::try_from(cosignature.time).unwrap_or(i64::MAX).saturating_sub_unsigned(self.time.now())
        });
        let told = ahead_s.filter(|ahead_s| clock_differs(*ahead_s) || outbox.clock_differs);
        outbox.clock_differs = ahead_s.map_or(outbox.clock_differs, clock_differs);
        outbox.catching_up = refusal.is_some_and(|refusal| refusal.code == RefusalCode::LogCatchingUp);
        let is_other = match refusal.map(|refusal| refusal.code) {
            // It took a head, and can at most not cosign it.
            None | Some(RefusalCode::Sealed) => {
                self.log.agrees(node);
                false
            }
            Some(RefusalCode::LogInconsistent | RefusalCode::LogForked) => true,
            Some(RefusalCode::LogBehind) => witnessed.size > self.log.newest().head().size,
            Some(_) => false,
        };
        // Another coordinator has shown it a head since: it attaches again, with the checkpoint.
        let shows_again = is_other && witnessed.size > outbox.shown;
        outbox.log_size = match refusal {
            Some(_) => witnessed.size,
            None => outbox.log_size.max(witnessed.size),
        };
        let known = self.heads.entry(node.clone()).or_default();
        known.size = known.size.max(witnessed.size);
        self.log.witnessed(node, witnessed);
        if shows_again {
            tracing::warn!(%node, keeps = witnessed.size, "the node keeps what this log did not show to it");
            self.outboxes.remove(node);
            let _: Result<(), _> = self.internal.send(Some(Event::Detached(node.clone(), stream)));
        }
        told.map(|ahead_s| Event::Clock(node.clone(), stream, ahead_s))
    }

    fn disconnect(&mut self, node: &NodeId, stream: StreamId) {
        if self.outboxes.get(node).is_some_and(|outbox| outbox.stream == stream) {
            self.outboxes.remove(node);
        }
    }

    async fn notify(&mut self, notice: Notice) {
        // Nobody listens at the end of the process only.
        let _: Result<(), _> = self.notices.send(notice).await;
    }
}

#[cfg(test)]
mod tests;
