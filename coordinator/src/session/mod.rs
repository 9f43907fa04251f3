//! The session engine: which nodes sign what together, and what happens when one does not.
//!
//! A plain state machine, sans-IO: it takes [`Event`]s with the time handed in and returns [`Action`]s. It does no I/O,
//! reads no clock and draws no randomness. The tokio [`driver`] and the simulator run this very code.
//!
//! - **Batches.** While batches are under way, what arrives collects into the next: batching adapts by itself, with no
//!   waiting at low load.
//! - **Robust.** A session whose node is slow, silent, wrong or refusing is closed, and its open signatures go on in a
//!   new one with fresh commitments and other nodes (the idea of ROAST); a node is in one open session for a signature
//!   at most. A node that was too slow gets half as much the next time, and more again as it is quick; what it decided
//!   counts whenever it says so.
//! - **Fair.** Requesters take turns. Those whose releases take nodes long to decide, or are seldom signed, share
//!   separate sessions, and so does one who asks for several times as much as all others together.
//! - **Blame.** A node whose share does not verify is named, and excluded until an operator reinstates it.
//!   What a node may legitimately refuse is an answer, not a fault.
//! - **Order.** Releases of one channel are signed in the order of their sequence, because nodes keep marks that only go
//!   up: a later one starts no earlier than in the same batch, or when its predecessor's result is durable. What waits
//!   reserves nothing: once its own sequence or a later one is signed, it is over. AV databases go before product builds.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | events, actions, and the engine that joins the others |
//! | [`nodes`] | what is known of each node, and the choice of a quorum |
//! | [`queue`] | what waits, by lane and channel |
//! | [`numbers`] | the known sequence numbers of channels |
//! | [`open`] | one session under way |
//! | [`costs`] | which requesters are costly to the nodes |
//! | [`driver`] | tokio around it |

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use prost::bytes::Bytes;
use rutli_keys::{KeyName, NodeId, Purpose, Quorum, Roster, SignedRoster};
use rutli_release::{ChannelKey, ReleaseId, Requester, Sequence, VerifiedRelease, VerifiedSignature};
use rutli_wire::link::{
    BatchId, BatchReply, ItemReply, LoggedEntry, LoggedEvidence, NodeStatus, Refusal, RefusalCode, ToNode,
};

use crate::{
    aggregate::{AggregateJob, AggregateResult, OUTSIDE_GROUP, QuorumKeys},
    commitment::Commitment,
    limits,
};

pub mod costs;
pub mod driver;
pub mod nodes;
pub mod numbers;
pub mod open;
pub mod queue;

pub use driver::{CancelError, Notice, Sessions, Stopped};
pub use nodes::{KnownHead, NodeSnapshot, StreamId};

use costs::{Costs, Load};
use nodes::{Choice, Nodes};
use open::{Said, Session};
use queue::{Job, Lane, Queue};

/// Milliseconds of a clock that never runs back; the driver's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl Millis {
    pub(crate) fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// A release to be signed.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The coordinator's name of it.
    pub release_id: ReleaseId,
    /// Who asked.
    pub requester: Requester,
    /// What is asked.
    pub release: Arc<VerifiedRelease>,
    /// Bytes of that on the wire.
    pub content_bytes: usize,
    /// Its entry in the log, with those of added evidence; proofs are added when a batch is sent, under the head of that moment.
    pub entry: LoggedEntry,
    /// All evidence that there is for it, in the order in which it came.
    pub evidence: Vec<Bytes>,
    /// Resumed after a restart: nodes may have permitted it before.
    pub resumed: bool,
}

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All signatures are there and verified.
    Signed {
        /// The group key.
        key: KeyName,
        /// One for each of the release's signables.
        signatures: Vec<VerifiedSignature>,
        /// Every node that gave a share.
        signed_by: Vec<NodeId>,
    },
    /// So many nodes of an organisation refused that its threshold cannot be reached.
    Refused(Vec<(NodeId, Refusal)>),
    /// Its requester took it back.
    Cancelled,
    /// This sequence of its channel was signed, which is its own or a higher one.
    Overtaken(Sequence),
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its turn.
    Queued,
    /// Waits for nodes.
    AwaitingQuorum,
    /// Waits for what nodes want to see first.
    AwaitingEvidence,
    /// Nodes have it.
    Signing,
}

/// How far a release is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it stands.
    pub phase: Phase,
    /// What must come before it goes on, for a person.
    pub waiting_for: Vec<String>,
    /// Signatures made.
    pub done: u32,
    /// Signatures wanted.
    pub total: u32,
    /// Nodes that refused it so far.
    pub refusals: Vec<(NodeId, Refusal)>,
}

/// What happens to the engine.
#[derive(Debug)]
pub enum Event {
    /// A key may be used.
    KeyAdded(Box<SignedRoster>),
    /// A node is there. An earlier stream of it is over.
    Attached {
        /// Which.
        node: NodeId,
        /// Names the connection.
        stream: StreamId,
        /// Of its program.
        version: String,
        /// Its own word.
        status: NodeStatus,
    },
    /// A stream ended.
    Detached(NodeId, StreamId),
    /// A node's own word changed.
    Status(NodeId, StreamId, NodeStatus),
    /// A node announced commitments.
    Commitments(NodeId, StreamId, KeyName, Vec<Commitment>),
    /// A node answered.
    Reply(NodeId, StreamId, BatchReply),
    /// A node told its time, which is so many seconds ahead of the coordinator's.
    Clock(NodeId, StreamId, i64),
    /// A node sent something that no honest node sends.
    Misbehaved(NodeId, String),
    /// A person put a node back.
    Reinstate(NodeId),
    /// A release is to be signed. One that is known already changes nothing.
    Submit(Submission),
    /// There is more evidence for a release, and these are the entries of the log that name it. What is known already changes
    /// nothing.
    Evidence(ReleaseId, Vec<Bytes>, Vec<LoggedEvidence>),
    /// A release expired: it ends as soon as no node has it, or signed, if all shares are there by then.
    Abandon(ReleaseId),
    /// The result of a signed release is durable, so that the next of its channel may start.
    Published(ReleaseId),
    /// A sequence was signed in a channel, durably: whatever waits there at or below it will never be signed.
    Signed(ChannelKey, Sequence),
    /// Shares were summed and verified.
    Aggregated(AggregateResult),
    /// Time passed.
    Tick,
}

/// What the engine wants done.
#[derive(Debug)]
pub enum Action {
    /// Send to a node on its stream.
    Send(NodeId, StreamId, ToNode),
    /// End a node's stream: its pool is not what we believed. It comes back with a new one.
    Disconnect(NodeId, StreamId, String),
    /// Compute, and come back with [`Event::Aggregated`].
    Aggregate(AggregateJob),
    /// Tell who watches.
    Progress(ReleaseId, Progress),
    /// The release is over.
    Finished(ReleaseId, Outcome),
    /// A node is excluded from now on.
    Culprit(NodeId, String),
    /// A node's clock differs from now on by so many seconds, ahead or behind; or no longer.
    Clock(NodeId, i64),
}

/// Why a release cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCancelled {
    /// A session has it, or a part of it is signed.
    TooLate,
    /// Not known here: finished, or never submitted.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Engine {
    keys: BTreeMap<KeyName, Arc<Roster>>,
    /// Which key signs releases, if the operator chose.
    chosen: Option<KeyName>,
    signing_key: Option<KeyName>,
    nodes: Nodes,
    queue: Queue,
    sessions: HashMap<BatchId, Session>,
    /// Sessions that ended without all answers, the newest last.
    late: VecDeque<Session>,
    costs: Costs,
    /// Batches of heavy and costly requesters that are at nodes, in which lane and since when.
    apart: BTreeMap<BatchId, (Lane, Millis)>,
    /// Until when a lane of such requesters pauses, while lighter ones are active.
    rests: BTreeMap<Lane, Millis>,
    /// When requesters of each load last had a batch at nodes.
    active: BTreeMap<Load, Millis>,
    next_batch: u64,
    quorums: HashMap<(KeyName, Vec<u16>), Arc<QuorumKeys>>,
    /// What keeps a quorum from coming together now, for a person.
    stalled: Vec<String>,
    /// Releases that are set aside, to be sent again once a quorum is available.
    again: BTreeSet<ReleaseId>,
    /// When nodes are asked again that permit something later.
    ask_later: Option<Millis>,
    /// Nodes whose status changed; those of the rosters alone attach.
    status_asks: BTreeMap<NodeId, StatusAsks>,
    actions: Vec<Action>,
}

/// When what waits for a node is asked about again because its status changed.
#[derive(Debug, Default)]
struct StatusAsks {
    wanted: bool,
    next: Millis,
}

impl Engine {
    /// An engine that leaves out the culprits of earlier runs. Releases are signed with the `chosen` key, or else with
    /// the first one of that purpose: a later ceremony alone never changes what endpoints must trust.
    #[must_use]
    pub fn new(culprits: BTreeMap<NodeId, String>, chosen: Option<KeyName>) -> Self {
        Self { nodes: Nodes::new(culprits), chosen, ..Self::default() }
    }

    /// Takes an event, returns what is to be done, in order.
    pub fn handle(&mut self, now: Millis, event: Event) -> Vec<Action> {
        self.queue.time(now);
        match event {
            Event::KeyAdded(roster) => self.add_key(*roster),
            Event::Attached { node, stream, version, status } => {
                self.lose(&node);
                self.ask_again(|refused, _| *refused == node);
                self.nodes.attach(node, stream, version, status);
            }
            Event::Detached(node, stream) => {
                if self.nodes.is_current(&node, stream) {
                    self.lose(&node);
                    self.nodes.detach(&node);
                }
            }
            Event::Status(node, stream, status) => {
                // A node answers differently once its custodian has changed its policies.
                if self.nodes.is_current(&node, stream) {
                    self.status_asks.entry(node.clone()).or_default().wanted = true;
                }
                self.nodes.set_status(&node, stream, status);
            }
            Event::Commitments(node, stream, key, commitments) => {
                let holds = self.keys.get(&key).is_some_and(|roster| roster.index_of(&node).is_some());
                if holds {
                    self.nodes.stock(&node, stream, key, commitments);
                }
            }
            Event::Reply(node, stream, reply) => self.reply(now, &node, stream, reply),
            Event::Clock(node, stream, ahead_s) => {
                if self.nodes.is_current(&node, stream) && self.nodes.told_time(&node, ahead_s) {
                    self.actions.push(Action::Clock(node, ahead_s));
                }
            }
            Event::Misbehaved(node, reason) => self.blame(&node, reason),
            Event::Reinstate(node) => self.nodes.reinstate(&node),
            Event::Submit(submission) => self.submit(submission),
            Event::Evidence(id, documents, entries) => {
                if self.queue.job_mut(&id).is_some_and(|job| job.add_evidence(documents, entries)) {
                    self.ask_again_for(&id);
                }
            }
            Event::Abandon(id) => {
                if let Some(job) = self.queue.job_mut(&id) {
                    job.abandon();
                }
                self.advance(&id);
            }
            Event::Published(id) => self.queue.published(&id),
            Event::Signed(channel, sequence) => self.queue.note_signed(channel, sequence),
            Event::Aggregated(result) => self.aggregated(result),
            Event::Tick => {}
        }
        self.close_overdue(now);
        self.ask_after_status(now);
        if self.ask_later.take_if(|due| *due <= now).is_some() {
            self.ask_again(|_, code| code.waits_for_time());
        }
        for (id, signed) in self.queue.take_overtaken() {
            self.again.remove(&id);
            self.actions.push(Action::Finished(id, Outcome::Overtaken(signed)));
        }
        self.begin_rest(now);
        self.schedule(now);
        std::mem::take(&mut self.actions)
    }

    /// Cancels a release, as long as no signature of it exists or can still be made: see
    /// [`Job::may_be_taken_back`].
    pub fn cancel(&mut self, id: &ReleaseId) -> Result<Vec<Action>, NotCancelled> {
        let job = self.queue.job(id).ok_or(NotCancelled::Unknown)?;
        if !job.may_be_taken_back() {
            return Err(NotCancelled::TooLate);
        }
        self.queue.finish(id);
        Ok(vec![Action::Finished(id.clone(), Outcome::Cancelled)])
    }

    /// When to come back with [`Event::Tick`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let sessions = self.sessions.values().filter_map(Session::deadline);
        let rests = self.rests.keys().filter_map(|lane| self.rest_ends(*lane));
        let status = self.status_asks.values().filter(|asks| asks.wanted).map(|asks| asks.next);
        sessions.chain(self.nodes.next_return()).chain(self.ask_later).chain(rests).chain(status).min()
    }

    /// The lowest free sequence of a channel, as far as is known; `signed` is the highest one there, by the
    /// store.
    #[must_use]
    pub fn next_sequence(&self, channel: &ChannelKey, signed: Option<Sequence>) -> Option<Sequence> {
        let roster = self.signing_key.as_ref().and_then(|key| self.keys.get(key));
        self.queue.next_sequence(channel, signed, roster.map(AsRef::as_ref))
    }

    /// What is known of every node that was ever seen or blamed.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeSnapshot> {
        self.nodes.snapshot()
    }

    /// Releases that are not finished.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.queue.len()
    }

    fn add_key(&mut self, roster: SignedRoster) {
        let roster = Arc::new(roster.into_roster());
        let name = roster.key().clone();
        if roster.purpose() == Purpose::Release && self.chosen.as_ref().is_none_or(|chosen| *chosen == name) {
            self.signing_key.get_or_insert_with(|| name.clone());
        }
        self.quorums.retain(|(key, _), _| *key != name);
        // Nodes that had the key before we had it (as after a restored backup) have announced commitments that were not
        // kept, and would not announce them again on the same stream.
        for node in roster.nodes() {
            if self.nodes.holds(&node.id, &name) {
                self.disconnect(&node.id, format!("it had key {name} before the coordinator knew it"));
            }
        }
        self.keys.insert(name, roster);
    }

    fn submit(&mut self, submission: Submission) {
        let id = submission.release_id.clone();
        if !self.queue.submit(submission) {
            return;
        }
        let stalled = self.stalled.clone();
        if let Some(job) = self.queue.job_mut(&id) {
            job.stalled = stalled;
            self.actions.push(job.progress_action());
        }
    }

    /// A node answered one of its sessions. Its decisions are kept even if the session is over, so that no
    /// node decides twice.
    fn reply(&mut self, now: Millis, node: &NodeId, stream: StreamId, reply: BatchReply) {
        if !self.nodes.is_current(node, stream) {
            return;
        }
        let BatchReply { id, answer, decision_ms, .. } = reply;
        let is_late = !self.sessions.contains_key(&id);
        let session = match self.sessions.get_mut(&id) {
            Some(session) => Some(session),
            None => self.late.iter_mut().find(|session| session.id() == id),
        };
        let Some(session) = session.filter(|session| session.awaits(node)) else { return };
        let elapsed_ms = now.0.saturating_sub(session.started.0);
        for (item, answer) in session.items().iter().zip(item_answers(&answer)) {
            self.queue.answered(&item.release_id, node, answer);
        }
        match session.take_reply(node, answer) {
            Err(fault) => {
                self.blame(node, fault);
                self.close(id);
            }
            Ok(Some(refusal)) => {
                // The batch as a whole is refused, for a reason of the node's own.
                let pool_differs = self.nodes.refused_batch(now, node, &refusal);
                self.close(id);
                if pool_differs {
                    self.disconnect(node, refusal.reason);
                }
            }
            Ok(None) => {
                let said = Said::of(session, node, &decision_ms, elapsed_ms);
                if is_late {
                    self.nodes.answered_late(node, elapsed_ms, said.decided);
                } else {
                    self.nodes.replied(node, elapsed_ms, said.decided);
                }
                // Otherwise it would be asked again and again, with the same answer.
                if said.is_partial && elapsed_ms < limits::UNDECIDED_LEAST_MS {
                    self.nodes.suspend(now, node, "left a batch undecided before its time was over");
                }
                self.keep(now, node, said, is_late);
                if self.sessions.get(&id).is_some_and(Session::is_complete) {
                    self.aggregate(id);
                }
            }
        }
    }

    /// Records a node's answer to each release of a batch.
    fn keep(&mut self, now: Millis, node: &NodeId, said: Said, is_late: bool) {
        let Said { costs, refusals, outside, .. } = said;
        for (class, requester, ms) in costs {
            self.costs.took(now, class, &requester, ms);
        }
        let mut pool_differs = None;
        for (release, shown, refusal) in refusals {
            if nodes::is_pool_fault(refusal.code) {
                pool_differs = Some(refusal.reason);
                continue;
            }
            // It is asked again as if it had not been asked …
            let says_nothing = refusal.code == RefusalCode::Undecided
                // … and if it is right about malformed commitments, that is nothing against the release.
                || (refusal.code == RefusalCode::Malformed && !outside.is_empty());
            let Some(job) = self.queue.job_mut(&release).filter(|_| !says_nothing) else { continue };
            if nodes::is_about_release(refusal.code) && job.note_in_vain() {
                let Submission { release, requester, .. } = &job.submission;
                self.costs.ended(now, release.class(), requester, false);
            }
            // It may be waiting for evidence that arrived while it decided: it is asked again at once.
            if refusal.code.waits() && shown < job.submission.evidence.len() {
                continue;
            }
            if refusal.code.waits_for_time() {
                self.ask_later.get_or_insert(now.plus(limits::ASK_LATER_MS));
            }
            job.refuse(node.clone(), refusal);
            if is_late {
                self.settle_refusals(&release);
            }
        }
        for culprit in outside {
            self.blame(&culprit, OUTSIDE_GROUP.to_owned());
        }
        if let Some(reason) = pool_differs {
            self.disconnect(node, reason);
        }
    }

    /// All signers answered: what all of them signed is aggregated, and the rest goes to other sessions.
    fn aggregate(&mut self, id: BatchId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (job, put_back) = session.start_aggregation();
        let settled: Vec<ReleaseId> = put_back.iter().map(|(release, _)| release.clone()).collect();
        for (release, slots) in put_back {
            self.queue.put_back(&release, &slots);
        }
        match job {
            Some(job) => self.actions.push(Action::Aggregate(job)),
            None => {
                self.sessions.remove(&id);
            }
        }
        for release in settled {
            self.settle_refusals(&release);
        }
    }

    /// Signatures are there, or somebody is to blame.
    fn aggregated(&mut self, result: AggregateResult) {
        let Some(session) = self.sessions.remove(&result.batch) else { return };
        if session.lane.load == Load::Usual {
            self.costs.batch_took(self.queue.now().0.saturating_sub(session.started.0));
        }
        let mut culprits = BTreeMap::new();
        for (item, slots) in session.items().iter().zip(result.items) {
            let mut failed = Vec::new();
            let mut made = Vec::new();
            for (slot, signature) in item.slots.iter().zip(slots) {
                match signature {
                    Ok(signature) => made.push((*slot, signature)),
                    Err(blame) => {
                        failed.push(*slot);
                        let named = blame.places.iter().filter_map(|place| session.signers.get(*place));
                        culprits.extend(named.map(|node| (node.clone(), blame.reason.clone())));
                    }
                }
            }
            self.queue.put_back(&item.release_id, &failed);
            self.queue.add_signatures(&item.release_id, &made, &session.signers);
            self.advance(&item.release_id);
        }
        for (node, reason) in culprits {
            self.blame(&node, reason);
        }
    }

    /// Finishes a release that is complete, or says how far it is.
    fn advance(&mut self, id: &ReleaseId) {
        let Some(job) = self.queue.job(id) else { return };
        if let Some(outcome) = job.outcome() {
            let Submission { release, requester, .. } = &job.submission;
            self.costs.ended(self.queue.now(), release.class(), requester, true);
            self.queue.signed(id);
            self.actions.push(Action::Finished(id.clone(), outcome));
        } else if job.is_over() {
            self.queue.finish(id);
            self.actions.push(Action::Finished(id.clone(), Outcome::Cancelled));
        } else {
            self.actions.push(job.progress_action());
        }
    }

    /// Ends a release that some organisation can no longer sign, once no node has it any more; or sets it aside, if that may
    /// change.
    fn settle_refusals(&mut self, id: &ReleaseId) {
        let Some(job) = self.queue.job(id) else { return };
        let key = job.key.as_ref().or(self.signing_key.as_ref());
        let Some(roster) = key.and_then(|key| self.keys.get(key)) else { return };
        let refused = job.final_refusals();
        if !job.in_sessions() && nodes::is_hopeless(roster, &refused) {
            let is_behind = refused.values().all(|refusal| refusal.code == RefusalCode::SequenceBehind);
            let outcome = match self.queue.overtaken_by(job).filter(|_| is_behind) {
                Some(signed) => Outcome::Overtaken(signed),
                None => Outcome::Refused(refused.into_iter().collect()),
            };
            self.queue.finish(id);
            self.actions.push(Action::Finished(id.clone(), outcome));
            return;
        }
        let waits = !job.in_sessions() && nodes::is_hopeless(roster, &job.refusals);
        if let Some(job) = self.queue.job_mut(id).filter(|_| waits) {
            job.await_evidence();
            // The other nodes of an organisation of which some refused for good are asked, although another organisation waits for
            // evidence: if they refuse too, nobody need look for it. Once for each node that refuses so, hence not for ever.
            if job.take_refused_for_good() {
                self.again.insert(id.clone());
            }
        }
        self.advance(id);
    }

    /// Something has come that nodes waited for.
    fn ask_again(&mut self, who: impl Fn(&NodeId, RefusalCode) -> bool) {
        let ids: Vec<ReleaseId> = self.queue.waiting_for(who).cloned().collect();
        for id in ids {
            self.ask_again_for(&id);
        }
    }

    /// Asks again about what waits for nodes whose status changed, once a second for each of them.
    fn ask_after_status(&mut self, now: Millis) {
        let due = self.status_asks.iter_mut().filter(|(_, asks)| asks.wanted && asks.next <= now);
        let nodes: Vec<NodeId> = due
            .map(|(node, asks)| {
                *asks = StatusAsks { wanted: false, next: now.plus(limits::STATUS_ASKS_MS) };
                node.clone()
            })
            .collect();
        for node in nodes {
            self.ask_again(|refused, _| *refused == node);
        }
    }

    /// All who wait for something are asked again, for one of them alone would be no quorum. What is set aside holds nobody back, and
    /// stays so until there is one.
    fn ask_again_for(&mut self, id: &ReleaseId) {
        let Some(job) = self.queue.job_mut(id) else { return };
        if job.is_set_aside() {
            self.again.insert(id.clone());
        } else if job.forget_waits() {
            self.actions.push(job.progress_action());
        }
    }

    /// Resumes releases that are set aside, where a quorum is available.
    fn take_up_again(&mut self, now: Millis, key: &KeyName, roster: &Arc<Roster>) {
        if self.again.is_empty() || !self.nodes.are_at_hand(now, roster, key, &BTreeMap::new()) {
            return;
        }
        let ids: Vec<ReleaseId> = self.again.iter().cloned().collect();
        for id in ids {
            let Some(job) = self.queue.job_mut(&id).filter(|job| job.is_set_aside()) else {
                self.again.remove(&id);
                continue;
            };
            if self.nodes.are_at_hand(now, roster, key, &job.final_refusals()) {
                job.forget_waits();
                self.actions.push(job.progress_action());
                self.again.remove(&id);
            }
        }
    }

    fn blame(&mut self, node: &NodeId, reason: String) {
        if self.nodes.blame(node, reason.clone()) {
            self.actions.push(Action::Culprit(node.clone(), reason));
            self.lose(node);
        }
    }

    /// Ends a node's stream, because its pool is not what it was taken for; the node comes back with a new one.
    fn disconnect(&mut self, node: &NodeId, reason: String) {
        if let Some(stream) = self.nodes.stream(node) {
            self.actions.push(Action::Disconnect(node.clone(), stream, reason));
            self.nodes.detach(node);
            self.lose(node);
        }
    }

    /// A node is gone: whatever waits for it goes on without it.
    fn lose(&mut self, node: &NodeId) {
        let waiting: Vec<BatchId> =
            self.sessions.iter().filter(|(_, session)| session.awaits(node)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.close(id);
        }
    }

    /// Ends a session without a result; its signatures are open again.
    fn close(&mut self, id: BatchId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        for item in session.items() {
            self.queue.put_back(&item.release_id, &item.slots);
            self.settle_refusals(&item.release_id);
        }
        // Its shares are never summed, but the nodes' decisions are still useful.
        if !session.silent().is_empty() {
            self.late.push_back(session);
            if self.late.len() > limits::MAX_LATE_SESSIONS {
                self.late.pop_front();
            }
        }
    }

    fn close_overdue(&mut self, now: Millis) {
        let overdue: Vec<BatchId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            if let Some(session) = self.sessions.get(&id) {
                let (elapsed_ms, slots) = (now.0.saturating_sub(session.started.0), session.slots());
                for node in session.silent() {
                    self.nodes.timed_out(now, &node, elapsed_ms, slots);
                }
            }
            self.close(id);
        }
    }

    /// Starts as many sessions as may run, urgent lane first.
    fn schedule(&mut self, now: Millis) {
        let Some(key) = self.signing_key.clone() else {
            let key =
                self.chosen.as_ref().map_or_else(|| "a key".to_owned(), |chosen| format!("key {chosen}"));
            self.stall(vec![format!("{key}: no ceremony has made it yet")]);
            return;
        };
        let Some(roster) = self.keys.get(&key).cloned() else { return };
        // While sessions run, a pool may be empty for a moment; without any, nothing tops it up but the node itself.
        self.take_up_again(now, &key, &roster);
        let missing = self.nodes.missing(now, &roster, self.sessions.is_empty());
        self.stall(missing);
        // Each session takes slots out of the queue, and there is room for few: this ends.
        while self.next_lanes(now).into_iter().any(|lane| self.start_session(now, lane, &key, &roster))
            || self.hear_the_others(now, &key, &roster)
        {}
    }

    /// If some nodes refused a release and too few others are left, it is sent once more, together with some
    /// of those who refused it, so that another node is heard. It then ends as soon as enough nodes refuse
    /// it, even if a node is away or excluded. True if there is such a release.
    fn hear_the_others(&mut self, now: Millis, key: &KeyName, roster: &Arc<Roster>) -> bool {
        let mut is_any = false;
        for id in self.queue.take_short() {
            let Some(job) = self.queue.job_mut(&id).filter(|job| !job.in_sessions()) else { continue };
            let completing = self.nodes.completing(now, roster, key, &job.refusals, &job.permitted_by);
            is_any |= !completing.is_empty();
            job.complete_with(completing);
        }
        is_any
    }

    fn next_lanes(&self, now: Millis) -> Vec<Lane> {
        let running: Vec<Lane> = self.sessions.values().map(|session| session.lane).collect();
        let expected = |class, requester: &Requester| self.costs.expected(now, class, requester);
        let lanes = self.queue.next_lanes(&running, !self.costs.are_there(), expected);
        lanes.into_iter().filter(|lane| self.rest_ends(*lane).is_none_or(|end| end <= now)).collect()
    }

    /// When the next batch of a lane may follow the last one, if it must wait.
    fn rest_ends(&self, lane: Lane) -> Option<Millis> {
        let end = self.rests.get(&lane)?;
        let lighter = self.active.range(..lane.load).map(|(_, at)| *at).max()?;
        Some((*end).min(lighter.plus(limits::USUAL_MS)))
    }

    /// Starts the pause after a batch of heavy or costly requesters that has left the nodes, however it ended.
    fn begin_rest(&mut self, now: Millis) {
        let is_at_nodes =
            |id: &BatchId| self.sessions.get(id).is_some_and(|session| session.deadline().is_some());
        let ended: Vec<_> = self.apart.extract_if(.., |id, _| !is_at_nodes(id)).collect();
        for (_, (lane, since)) in ended {
            let took = now.0.saturating_sub(since.0).saturating_mul(lane.load.rests());
            self.rests.insert(lane, now.plus(took.min(limits::REST_MOST_MS)));
        }
        for session in self.sessions.values().filter(|session| session.deadline().is_some()) {
            self.active.insert(session.lane.load, now);
        }
        let over: Vec<Lane> = self
            .rests
            .keys()
            .copied()
            .filter(|lane| self.rest_ends(*lane).is_some_and(|end| end <= now))
            .collect();
        self.rests.retain(|lane, _| !over.contains(lane));
    }

    fn start_session(&mut self, now: Millis, lane: Lane, key: &KeyName, roster: &Arc<Roster>) -> bool {
        let choose = |refused: &BTreeMap<_, _>| self.nodes.choose(now, roster, key, refused);
        let costs = &self.costs;
        let expected = |class, requester: &Requester| costs.expected(now, class, requester);
        let Some(plan) = self.queue.plan(lane, expected, choose) else { return false };
        let taken: Vec<_> =
            plan.1.iter().map(|(submission, slots)| (submission.release_id.clone(), slots.clone())).collect();
        let id = BatchId(self.next_batch);
        self.next_batch = self.next_batch.wrapping_add(1);
        let started = self
            .quorum_keys(key, roster, &plan.0)
            .and_then(|quorum| Session::start(now, (id, lane), key, roster, quorum, plan, &mut self.nodes));
        let Some((session, batch)) = started else {
            for (release, slots) in &taken {
                self.queue.put_back(release, slots);
            }
            return false;
        };
        self.queue.started(lane);
        self.active.insert(lane.load, now);
        if lane.load != Load::Usual {
            self.apart.insert(id, (lane, now));
        }
        for item in session.items() {
            self.costs.asked(now, lane.load, item.release.class(), &item.requester, item.slots.len());
        }
        for (release, _) in &taken {
            if let Some(job) = self.queue.job_mut(release) {
                let first = !job.started;
                job.started = true;
                job.key = Some(key.clone());
                job.sent_to(session.signers.iter());
                if first {
                    self.actions.push(job.progress_action());
                }
            }
        }
        for node in &session.signers {
            if let Some(stream) = self.nodes.stream(node) {
                self.actions.push(Action::Send(node.clone(), stream, ToNode::Batch(batch.clone())));
            }
        }
        self.sessions.insert(id, session);
        true
    }

    /// What aggregation needs of a quorum, kept for the next session with the same one.
    fn quorum_keys(&mut self, key: &KeyName, roster: &Roster, choice: &Choice) -> Option<Arc<QuorumKeys>> {
        let indices: Vec<u16> = choice.signers.iter().map(|(index, _)| *index).collect();
        let name = (key.clone(), indices);
        if let Some(keys) = self.quorums.get(&name) {
            return Some(Arc::clone(keys));
        }
        let quorum = Quorum::new(roster, &name.1).ok()?;
        let keys = Arc::new(QuorumKeys::new(roster, &quorum)?);
        if self.quorums.len() >= limits::MAX_CACHED_QUORUMS {
            self.quorums.clear();
        }
        self.quorums.insert(name, Arc::clone(&keys));
        Some(keys)
    }

    /// Tells the waiting releases what they wait for, when that changed.
    fn stall(&mut self, missing: Vec<String>) {
        if self.stalled == missing {
            return;
        }
        self.stalled = missing;
        for job in self.queue.waiting_mut() {
            job.stalled.clone_from(&self.stalled);
            self.actions.push(job.progress_action());
        }
    }
}

/// A node's answer to each item of a batch.
fn item_answers(answer: &Result<Vec<ItemReply>, Refusal>) -> impl Iterator<Item = Option<&Refusal>> {
    let (items, whole) = match answer {
        Ok(items) => (items.as_slice(), None),
        Err(refusal) => ([].as_slice(), Some(refusal)),
    };
    let singly = items.iter().map(|item| item.as_ref().err());
    singly.chain(std::iter::repeat_with(move || whole).take_while(Option::is_some))
}

impl Job {
    fn progress_action(&self) -> Action {
        Action::Progress(self.submission.release_id.clone(), self.progress())
    }
}

/// An AV database always finds a session free of product builds.
const _: () = assert!(limits::MAX_SESSIONS_BULK < limits::MAX_SESSIONS);

#[cfg(test)]
mod tests;
