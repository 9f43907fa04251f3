//! Tokio around the engine: one task owns it, feeds it events with the time, and carries out its actions.
//!
//! Arithmetic runs on threads of its own: parsing commitments (90 µs each) when they arrive, ahead of their use, and
//! aggregation when a session is complete.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use frost_ed25519::round1::{NonceCommitment, SigningCommitments};
use rutli_keys::{KeyName, NodeId, SignedRoster};
use rutli_release::ReleaseId;
use rutli_wire::link::{CommitmentBytes, FromNode, NodeStatus, ToNode};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Action, Engine, Event, Millis, NodeSnapshot, NotCancelled, Outcome, ParsedCommitment, Progress, StreamId,
    Submission,
};
use crate::aggregate::aggregate;

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
    #[error("nodes are signing it already, so it cannot be taken back")]
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
    /// A node is left out from now on.
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
        outbox: mpsc::Sender<ToNode>,
    },
    Sign(Submission, oneshot::Sender<Outcome>),
    Cancel(ReleaseId, oneshot::Sender<Result<(), NotCancelled>>),
    Nodes(oneshot::Sender<Vec<NodeSnapshot>>),
}

impl Sessions {
    /// Starts the engine's task; `release_key` as for [`Engine::new`]. It ends when the last handle is dropped. If the
    /// receiver of notices ends before, the engine has failed, and the process must not go on.
    #[must_use]
    pub fn start(
        rosters: Vec<SignedRoster>,
        culprits: BTreeMap<NodeId, String>,
        release_key: Option<KeyName>,
    ) -> (Self, mpsc::Receiver<Notice>) {
        let (inbox, commands) = mpsc::channel(INBOX);
        let (notices, receiver) = mpsc::channel(NOTICES);
        let (internal, computed) = mpsc::unbounded_channel();
        let driver = Driver {
            engine: Engine::new(culprits, release_key),
            clock: Instant::now(),
            outboxes: HashMap::new(),
            waiting: HashMap::new(),
            notices,
            internal,
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
        outbox: mpsc::Sender<ToNode>,
    ) -> Result<StreamId, Stopped> {
        let stream = StreamId(self.next_stream.fetch_add(1, Ordering::Relaxed));
        self.send(Command::Attach { node, stream, version, status, outbox }).await?;
        Ok(stream)
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
            FromNode::Hello { .. } | FromNode::Ceremony(_) | FromNode::Head(..) | FromNode::Goodbye(_) => {
                return;
            }
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

    /// Puts a node back that was left out; false if it was not.
    pub async fn reinstate(&self, node: &NodeId) -> bool {
        let culprit = self.nodes().await.iter().any(|known| known.node == *node && known.culprit.is_some());
        culprit && self.send(Command::Event(Event::Reinstate(node.clone()))).await.is_ok()
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.inbox.send(command).await.map_err(|_| Stopped)
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
        commitments.into_iter().map(parse_commitment).collect::<Option<Vec<_>>>()
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

/// Parses both points (RFC 9591, section 5.1); `None` if one is not of the group.
#[must_use]
pub fn parse_commitment(bytes: CommitmentBytes) -> Option<ParsedCommitment> {
    let (hiding, binding) = bytes.0.split_at(32);
    let hiding = NonceCommitment::deserialize(hiding).ok()?;
    let binding = NonceCommitment::deserialize(binding).ok()?;
    Some(ParsedCommitment { bytes, points: SigningCommitments::new(hiding, binding) })
}

struct Driver {
    engine: Engine,
    clock: Instant,
    outboxes: HashMap<NodeId, (StreamId, mpsc::Sender<ToNode>)>,
    waiting: HashMap<ReleaseId, Vec<oneshot::Sender<Outcome>>>,
    notices: mpsc::Sender<Notice>,
    /// Results of our own computations: as many as there are sessions, hence bounded.
    internal: mpsc::UnboundedSender<Option<Event>>,
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
            Command::Attach { node, stream, version, status, outbox } => {
                self.outboxes.insert(node.clone(), (stream, outbox));
                self.event(Event::Attached { node, stream, version, status }).await;
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
            Command::Nodes(answer) => {
                let _: Result<(), _> = answer.send(self.engine.nodes());
            }
        }
    }

    async fn event(&mut self, event: Event) {
        if let Event::Detached(node, stream) = &event
            && self.outboxes.get(node).is_some_and(|(current, _)| current == stream)
        {
            self.outboxes.remove(node);
        }
        let now = Millis(u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX));
        let actions = self.engine.handle(now, event);
        self.carry_out(actions).await;
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
        let Some((current, outbox)) = self.outboxes.get(node) else { return };
        if *current == stream && outbox.try_send(message).is_err() {
            tracing::warn!(%node, "does not read what is sent to it: ending its stream");
            self.outboxes.remove(node);
            let _: Result<(), _> = self.internal.send(Some(Event::Detached(node.clone(), stream)));
        }
    }

    fn disconnect(&mut self, node: &NodeId, stream: StreamId) {
        if self.outboxes.get(node).is_some_and(|(current, _)| *current == stream) {
            self.outboxes.remove(node);
        }
    }

    async fn notify(&mut self, notice: Notice) {
        // Nobody listens at the end of the process only.
        let _: Result<(), _> = self.notices.send(notice).await;
    }
}
