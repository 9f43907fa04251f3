//! The production engines of coordinator and nodes under a seeded in-memory driver: no sockets, no clock of their own.
//!
//! One seed gives one story, the same every time: releases are asked for and cancelled; messages are lost, delayed,
//! reordered and doubled; nodes and the coordinator crash and come back with what was durable; journals fail, also after
//! they wrote; custodians pause; a node may lie. Then the faults end, and everything that may be signed must be signed.
//! Every message crosses as the bytes that it has on the wire.
//!
//! What is checked, at every step, is in [`checks`]: a violation names the seed, and `run(seed)` tells the story again.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, seq::IteratorRandom};
use rand_chacha::ChaCha20Rng;
use rutli_coordinator::{
    aggregate::{AggregateResult, aggregate},
    session::{Action, Engine, Event, Millis, Outcome, StreamId, Submission, driver::parse_commitment},
};
use rutli_keys::{KeyName, NodeId, SignedRoster, SigningShare, rehearsal};
use rutli_release::ReleaseId;
use rutli_signer_node::{
    marks::Marks,
    policy::AllowList,
    sign::{JournalRecord, Pending, Signer, StreamId as NodeStream, Verdict},
};
use rutli_wire::{
    link::{Batch, FromNode, ToNode},
    v1,
};

use checks::Checks;
use prost::Message as _;

pub mod checks;
pub mod requests;

/// Unix seconds at the beginning of every story.
pub const EPOCH: u64 = 1_800_000_000;

/// Milliseconds of story with faults …
const STORMY_MS: u64 = 60_000;

/// … and the most that may pass afterwards until all is signed.
const CALM_MS: u64 = 600_000;

/// Commitments that a node makes at a time: few, so that pools run dry too.
const ANNOUNCED: usize = 8;

/// Keys for all stories: made once, by a real ceremony in memory.
#[derive(Debug)]
pub struct Fixture {
    roster: SignedRoster,
    shares: BTreeMap<NodeId, SigningShare>,
}

impl Fixture {
    /// Runs the ceremony: organisations with name, threshold and number of nodes.
    #[must_use]
    pub fn new(organisations: &[(&str, u16, u16)]) -> Self {
        let rehearsed = rehearsal::Cast::new(organisations, &["release"], [7; 32]).unwrap().run().unwrap();
        Self {
            roster: rehearsed.rosters.into_iter().next().unwrap(),
            shares: rehearsed.shares.into_iter().map(|((node, _), share)| (node, share)).collect(),
        }
    }
}

/// How a story went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Releases signed.
    pub signed: usize,
    /// Releases refused.
    pub refused: usize,
    /// Releases cancelled.
    pub cancelled: usize,
    /// Crashes of any party.
    pub crashes: usize,
    /// Messages lost, doubled or long delayed.
    pub mishaps: usize,
    /// Nodes named as culprits.
    pub culprits: BTreeSet<NodeId>,
    /// Every step in words; equal for equal seeds.
    pub story: Vec<String>,
}

/// Tells the story of a seed; an error names the broken invariant and ends with the last steps.
pub fn run(fixture: &Fixture, seed: u64) -> Result<Report, String> {
    let mut world = World::new(fixture, seed);
    world.play().map_err(|violation| {
        let last: Vec<_> = world.report.story.iter().rev().take(40).rev().cloned().collect();
        format!("seed {seed}: {violation}\nthe last steps were:\n  {}", last.join("\n  "))
    })?;
    Ok(world.report)
}

struct World<'a> {
    fixture: &'a Fixture,
    rng: ChaCha20Rng,
    now: u64,
    agenda: BTreeMap<(u64, u64), Step>,
    next_step: u64,
    next_stream: u64,
    stormy: bool,
    coordinator: Coordinator,
    nodes: BTreeMap<NodeId, Node>,
    liar: Option<NodeId>,
    checks: Checks,
    report: Report,
}

/// What of the coordinator is durable, and its engine while it runs.
struct Coordinator {
    engine: Option<Engine>,
    life: u64,
    admitted: Vec<Submission>,
    finished: BTreeMap<ReleaseId, Outcome>,
    culprits: BTreeMap<NodeId, String>,
}

/// What of a node is durable, and its core while it runs.
struct Node {
    signer: Option<Signer>,
    life: u64,
    journal: Vec<JournalRecord>,
    paused: Option<String>,
    /// The stream to the coordinator, while it is up.
    stream: Option<u64>,
    writing: BTreeMap<u64, (u64, Pending, Batch)>,
}

/// Something that will happen.
enum Step {
    ToCoordinator(NodeId, u64, Vec<u8>),
    ToNode(NodeId, u64, Vec<u8>),
    Hello(NodeId, u64),
    LinkLost(NodeId, u64),
    Dial(NodeId),
    Journaled { node: NodeId, life: u64, ticket: u64, fate: Fate },
    Reopen(NodeId, u64),
    Aggregated(u64, AggregateResult),
    Durable(u64, ReleaseId, Outcome),
    Tick(u64),
    Submit(Submission),
    Cancel(ReleaseId),
    CrashCoordinator,
    StartCoordinator,
    CrashNode(NodeId),
    StartNode(NodeId),
    Pause(NodeId),
    Resume(NodeId),
    EndOfStorm,
}

/// What the disk did with a journal's transaction.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Written,
    Failed,
    /// Reported as failed, though it happened.
    WrittenButFailed,
}

impl<'a> World<'a> {
    fn new(fixture: &'a Fixture, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let ids: Vec<NodeId> = fixture.shares.keys().cloned().collect();
        // One of an organisation that can do without it.
        let expendable: Vec<NodeId> = fixture
            .roster
            .roster()
            .organisations()
            .iter()
            .filter(|organisation| usize::from(organisation.threshold) < organisation.nodes.len())
            .flat_map(|organisation| organisation.nodes.iter().map(|node| node.id.clone()))
            .collect();
        let liar = if rng.gen_bool(0.25) { expendable.into_iter().choose(&mut rng) } else { None };
        let mut world = Self {
            fixture,
            rng,
            now: 0,
            agenda: BTreeMap::new(),
            next_step: 0,
            next_stream: 1,
            stormy: true,
            coordinator: Coordinator {
                engine: None,
                life: 0,
                admitted: Vec::new(),
                finished: BTreeMap::new(),
                culprits: BTreeMap::new(),
            },
            nodes: ids.iter().map(|id| (id.clone(), Node::new())).collect(),
            liar: liar.clone(),
            checks: Checks::new(fixture.roster.roster(), liar),
            report: Report {
                signed: 0,
                refused: 0,
                cancelled: 0,
                crashes: 0,
                mishaps: 0,
                culprits: BTreeSet::new(),
                story: Vec::new(),
            },
        };
        world.plot(&ids);
        world
    }

    /// Lays out the requests and the great faults of the story.
    fn plot(&mut self, ids: &[NodeId]) {
        self.at(0, Step::StartCoordinator);
        for id in ids {
            let delay = self.rng.gen_range(0..200);
            self.at(delay, Step::StartNode(id.clone()));
        }
        let mut submissions = requests::requests(&mut self.rng);
        // One pipeline per channel: it asks in the order of its sequence.
        let mut times: Vec<u64> = submissions.iter().map(|_| self.rng.gen_range(0..STORMY_MS / 2)).collect();
        times.sort_unstable();
        for (submission, time) in submissions.drain(..).zip(times) {
            if self.rng.gen_bool(0.1) {
                let later = time + self.rng.gen_range(0..400);
                self.at(later, Step::Cancel(submission.release_id.clone()));
            }
            self.at(time, Step::Submit(submission));
        }
        for id in ids {
            for _ in 0..self.rng.gen_range(0..3) {
                let (when, long) = (self.rng.gen_range(0..STORMY_MS), self.rng.gen_range(10..8_000));
                let (begin, end) = match self.rng.gen_range(0..3) {
                    0 => (Step::CrashNode(id.clone()), Step::StartNode(id.clone())),
                    1 => (Step::Pause(id.clone()), Step::Resume(id.clone())),
                    _ => (Step::LinkLost(id.clone(), 0), Step::Dial(id.clone())),
                };
                self.at(when, begin);
                self.at(when + long, end);
            }
        }
        for _ in 0..self.rng.gen_range(0..3) {
            let (when, long) = (self.rng.gen_range(0..STORMY_MS), self.rng.gen_range(10..4_000));
            self.at(when, Step::CrashCoordinator);
            self.at(when + long, Step::StartCoordinator);
        }
        self.at(STORMY_MS + 10_000, Step::EndOfStorm);
    }

    fn play(&mut self) -> Result<(), String> {
        while let Some(((time, _), step)) = self.agenda.pop_first() {
            self.now = time;
            if !self.stormy && self.is_done() {
                break;
            }
            if self.now > STORMY_MS + CALM_MS {
                return Err(format!("not all is signed long after the faults ended: {}", self.unfinished()));
            }
            self.step(step)?;
        }
        if !self.is_done() {
            return Err(format!("nothing happens any more, but not all is signed: {}", self.unfinished()));
        }
        let outcomes = self.coordinator.finished.values();
        self.report.signed = outcomes.clone().filter(|o| matches!(o, Outcome::Signed { .. })).count();
        self.report.refused = outcomes.clone().filter(|o| matches!(o, Outcome::Refused(_))).count();
        self.report.cancelled = outcomes.filter(|o| matches!(o, Outcome::Cancelled)).count();
        self.report.culprits = self.coordinator.culprits.keys().cloned().collect();
        self.checks.at_the_end(&self.coordinator.admitted, &self.coordinator.finished)
    }

    fn is_done(&self) -> bool {
        self.coordinator.admitted.iter().all(|s| self.coordinator.finished.contains_key(&s.release_id))
    }

    fn unfinished(&self) -> String {
        let open = self.coordinator.admitted.iter().map(|submission| &submission.release_id);
        open.filter(|id| !self.coordinator.finished.contains_key(id))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn at(&mut self, delay: u64, step: Step) {
        self.next_step += 1;
        self.agenda.insert((self.now + delay, self.next_step), step);
    }

    fn tell(&mut self, what: impl Into<String>) {
        let line = format!("{:>6} ms  {}", self.now, what.into());
        self.report.story.push(line);
    }

    /// When something sent now arrives: usually once and soon; in a storm perhaps never, late, or twice.
    fn fates_of_message(&mut self) -> Vec<u64> {
        if !self.stormy {
            return vec![1];
        }
        let soon = self.rng.gen_range(1..30);
        match self.rng.gen_range(0..100) {
            0..=2 => Vec::new(),
            3..=5 => vec![soon, soon + self.rng.gen_range(0..3_000)],
            6..=8 => vec![soon + self.rng.gen_range(0..6_000)],
            _ => vec![soon],
        }
    }

    fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::ToCoordinator(node, stream, bytes) => {
                return self.arrive_at_coordinator(&node, stream, &bytes);
            }
            Step::ToNode(node, stream, bytes) => self.arrive_at_node(&node, stream, &bytes)?,
            Step::Hello(node, stream) => self.hello(&node, stream)?,
            Step::Dial(node) => self.dial(&node),
            Step::LinkLost(node, stream) => self.link_lost(&node, stream)?,
            Step::Journaled { node, life, ticket, fate } => self.journaled(&node, life, ticket, fate)?,
            Step::Reopen(node, life) => self.with_signer(&node, life, Signer::reopen)?,
            Step::Aggregated(life, result) if life == self.coordinator.life => {
                self.engine_event(Event::Aggregated(result))?;
            }
            Step::Durable(life, id, outcome) if life == self.coordinator.life => self.durable(id, outcome)?,
            Step::Tick(life) if life == self.coordinator.life => self.engine_event(Event::Tick)?,
            Step::Aggregated(..) | Step::Durable(..) | Step::Tick(_) => {}
            Step::Submit(submission) => self.submit(submission)?,
            Step::Cancel(id) => self.cancel(&id)?,
            Step::CrashCoordinator => self.crash_coordinator(),
            Step::StartCoordinator => self.start_coordinator()?,
            Step::CrashNode(node) => self.crash_node(&node)?,
            Step::StartNode(node) => self.start_node(&node),
            Step::Pause(node) => self.pause(&node, Some("by the story".to_owned()))?,
            Step::Resume(node) => self.pause(&node, None)?,
            Step::EndOfStorm => self.end_storm()?,
        }
        Ok(())
    }
}

// The coordinator's side.
impl World<'_> {
    fn start_coordinator(&mut self) -> Result<(), String> {
        if self.coordinator.engine.is_some() {
            return Ok(());
        }
        self.coordinator.life += 1;
        self.tell("the coordinator starts");
        self.coordinator.engine = Some(Engine::new(self.coordinator.culprits.clone(), None));
        self.engine_event(Event::KeyAdded(Box::new(self.fixture.roster.clone())))?;
        for submission in self.coordinator.admitted.clone() {
            if !self.coordinator.finished.contains_key(&submission.release_id) {
                self.engine_event(Event::Submit(submission))?;
            }
        }
        Ok(())
    }

    fn crash_coordinator(&mut self) {
        if self.coordinator.engine.take().is_some() {
            self.report.crashes += 1;
            self.coordinator.life += 1;
            self.tell("the coordinator crashes");
            for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
                self.node_stream_over(&id);
            }
        }
    }

    /// Admission: durable before it is acknowledged. A pipeline whose coordinator is down asks again.
    fn submit(&mut self, submission: Submission) -> Result<(), String> {
        if self.coordinator.engine.is_none() {
            self.at(200, Step::Submit(submission));
            return Ok(());
        }
        // Admission demands that a channel's sequence goes up: whoever had to ask again may come too late.
        let asked = &submission.release;
        let behind = self.coordinator.admitted.iter().any(|other| {
            let other = &other.release;
            other.product() == asked.product()
                && other.channel() == asked.channel()
                && other.sequence() >= asked.sequence()
        });
        if behind {
            self.tell(format!("{} is not admitted: its sequence is behind", submission.release_id));
            return Ok(());
        }
        self.tell(format!("{} is admitted", submission.release_id));
        self.coordinator.admitted.push(submission.clone());
        self.engine_event(Event::Submit(submission))
    }

    fn cancel(&mut self, id: &ReleaseId) -> Result<(), String> {
        let Some(engine) = &mut self.coordinator.engine else { return Ok(()) };
        match engine.cancel(id) {
            Ok(actions) => {
                self.tell(format!("{id} is taken back"));
                self.carry_out(actions)
            }
            Err(_) => Ok(()),
        }
    }

    fn durable(&mut self, id: ReleaseId, outcome: Outcome) -> Result<(), String> {
        self.tell(format!("{id} is over: {}", checks::word(&outcome)));
        self.checks.finished(&self.coordinator.admitted, &id, &outcome)?;
        self.coordinator.finished.insert(id.clone(), outcome);
        self.engine_event(Event::Published(id))
    }

    fn arrive_at_coordinator(&mut self, node: &NodeId, stream: u64, bytes: &[u8]) -> Result<(), String> {
        let message = v1::NodeMessage::decode(bytes).map_err(|error| error.to_string())?;
        let message = FromNode::try_from(message).map_err(|error| error.to_string())?;
        let event = match message {
            FromNode::Commitments(key, commitments) => {
                let parsed = commitments.into_iter().filter_map(parse_commitment).collect();
                Event::Commitments(node.clone(), StreamId(stream), key, parsed)
            }
            FromNode::Reply(reply) => Event::Reply(node.clone(), StreamId(stream), reply),
            FromNode::Status(status) => Event::Status(node.clone(), StreamId(stream), status),
            _ => return Ok(()),
        };
        self.engine_event(event)
    }

    fn engine_event(&mut self, event: Event) -> Result<(), String> {
        let Some(engine) = &mut self.coordinator.engine else { return Ok(()) };
        let actions = engine.handle(Millis(self.now), event);
        self.carry_out(actions)?;
        if let Some(deadline) = self.coordinator.engine.as_ref().and_then(Engine::next_deadline) {
            let life = self.coordinator.life;
            self.at(deadline.0.saturating_sub(self.now).max(1), Step::Tick(life));
        }
        Ok(())
    }

    fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), String> {
        let life = self.coordinator.life;
        for action in actions {
            match action {
                Action::Send(node, stream, message) => {
                    let bytes = v1::CoordinatorMessage::from(&message).encode_to_vec();
                    for delay in self.fates_of_message() {
                        self.at(delay, Step::ToNode(node.clone(), stream.0, bytes.clone()));
                    }
                }
                Action::Disconnect(node, stream, reason) => {
                    self.tell(format!("the coordinator ends the stream of {node}: {reason}"));
                    self.at(1, Step::LinkLost(node.clone(), stream.0));
                    self.at(50, Step::Dial(node));
                }
                Action::Aggregate(job) => {
                    let delay = self.rng.gen_range(1..20);
                    self.at(delay, Step::Aggregated(life, aggregate(&job)));
                }
                Action::Progress(..) => {}
                Action::Finished(id, outcome) => {
                    let delay = self.rng.gen_range(1..50);
                    self.at(delay, Step::Durable(life, id, outcome));
                }
                Action::Culprit(node, reason) => {
                    self.tell(format!("{node} is a culprit: {reason}"));
                    self.checks.blamed(&node, &reason)?;
                    self.coordinator.culprits.insert(node, reason);
                }
            }
        }
        Ok(())
    }
}

// The nodes' side.
impl Node {
    fn new() -> Self {
        Self {
            signer: None,
            life: 0,
            journal: Vec::new(),
            paused: None,
            stream: None,
            writing: BTreeMap::new(),
        }
    }

    fn marks(&self) -> Marks {
        let permitted = self.journal.iter().filter(|record| record.verdict == Verdict::Permitted);
        Marks::from_rows(permitted.map(|record| {
            (record.product.clone(), record.channel.clone(), record.sequence, record.release_digest)
        }))
    }
}

impl World<'_> {
    fn node(&mut self, id: &NodeId) -> &mut Node {
        self.nodes.get_mut(id).unwrap()
    }

    fn with_signer(&mut self, id: &NodeId, life: u64, act: impl FnOnce(&mut Signer)) -> Result<(), String> {
        let node = self.node(id);
        match &mut node.signer {
            Some(signer) if node.life == life => act(signer),
            _ => return Ok(()),
        }
        self.send_status(id)
    }

    fn start_node(&mut self, id: &NodeId) {
        let share = self.fixture.shares[id].duplicate();
        let roster = self.fixture.roster.clone();
        let node = self.node(id);
        if node.signer.is_some() {
            return;
        }
        node.life += 1;
        let allow = AllowList::new(requests::allow_rules());
        let mut signer = Signer::new(id.clone(), allow, node.marks(), node.paused.clone());
        signer.install_key(roster, share).unwrap();
        node.signer = Some(signer);
        self.tell(format!("{id} starts"));
        self.at(10, Step::Dial(id.clone()));
    }

    fn crash_node(&mut self, id: &NodeId) -> Result<(), String> {
        let node = self.node(id);
        if node.signer.take().is_none() {
            return Ok(());
        }
        node.life += 1;
        node.writing.clear();
        let stream = node.stream.take();
        self.report.crashes += 1;
        self.tell(format!("{id} crashes"));
        match stream {
            Some(stream) => self.engine_event(Event::Detached(id.clone(), StreamId(stream))),
            None => Ok(()),
        }
    }

    fn pause(&mut self, id: &NodeId, paused: Option<String>) -> Result<(), String> {
        self.tell(format!("{id} is {}", if paused.is_some() { "paused" } else { "resumed" }));
        let node = self.node(id);
        node.paused.clone_from(&paused);
        let life = node.life;
        self.with_signer(id, life, |signer| match paused {
            Some(reason) => signer.pause(reason),
            None => signer.resume(),
        })
    }

    fn dial(&mut self, id: &NodeId) {
        let node = self.node(id);
        if node.signer.is_none() || node.stream.is_some() {
            return;
        }
        if self.coordinator.engine.is_none() {
            self.at(100, Step::Dial(id.clone()));
            return;
        }
        let stream = self.next_stream;
        self.next_stream += 1;
        let node = self.node(id);
        node.stream = Some(stream);
        if let Some(signer) = &mut node.signer {
            signer.stream_opened(NodeStream(stream));
        }
        self.at(2, Step::Hello(id.clone(), stream));
    }

    fn hello(&mut self, id: &NodeId, stream: u64) -> Result<(), String> {
        let node = self.node(id);
        if node.stream != Some(stream) {
            return Ok(());
        }
        let Some(signer) = &node.signer else { return Ok(()) };
        let status = signer.status();
        self.tell(format!("{id} attaches with stream {stream}"));
        self.engine_event(Event::Attached {
            node: id.clone(),
            stream: StreamId(stream),
            version: "simulated".to_owned(),
            status,
        })?;
        for _ in 0..4 {
            self.announce(id);
        }
        Ok(())
    }

    /// A stream ends for both sides. 0 names the current one.
    fn link_lost(&mut self, id: &NodeId, stream: u64) -> Result<(), String> {
        let current = self.node(id).stream;
        let Some(current) = current.filter(|current| stream == 0 || stream == *current) else {
            return Ok(());
        };
        self.tell(format!("stream {current} of {id} is lost"));
        self.node_stream_over(id);
        self.engine_event(Event::Detached(id.clone(), StreamId(current)))
    }

    fn node_stream_over(&mut self, id: &NodeId) {
        let node = self.node(id);
        if let Some(stream) = node.stream.take() {
            if let Some(signer) = &mut node.signer {
                signer.stream_closed(NodeStream(stream));
            }
            self.at(100, Step::Dial(id.clone()));
        }
    }

    fn announce(&mut self, id: &NodeId) {
        let mut rng = ChaCha20Rng::from_rng(&mut self.rng).unwrap();
        let node = self.node(id);
        let (Some(stream), Some(signer)) = (node.stream, &mut node.signer) else { return };
        for message in signer.announce(NodeStream(stream), ANNOUNCED, &mut rng) {
            self.send_up(id, stream, message);
        }
    }

    fn send_status(&mut self, id: &NodeId) -> Result<(), String> {
        let node = self.node(id);
        if let (Some(stream), Some(signer)) = (node.stream, &node.signer) {
            let status = signer.status();
            // The last word on a node's state must arrive: on a real stream nothing is lost but with the stream.
            let bytes = v1::NodeMessage::from(FromNode::Status(status)).encode_to_vec();
            self.at(1, Step::ToCoordinator(id.clone(), stream, bytes));
        }
        Ok(())
    }

    fn send_up(&mut self, id: &NodeId, stream: u64, message: FromNode) {
        let bytes = v1::NodeMessage::from(message).encode_to_vec();
        let fates = self.fates_of_message();
        self.report.mishaps += usize::from(fates.len() != 1);
        for delay in fates {
            self.at(delay, Step::ToCoordinator(id.clone(), stream, bytes.clone()));
        }
    }

    fn arrive_at_node(&mut self, id: &NodeId, stream: u64, bytes: &[u8]) -> Result<(), String> {
        let message = v1::CoordinatorMessage::decode(bytes).map_err(|error| error.to_string())?;
        let ToNode::Batch(batch) = ToNode::try_from(message).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let now = EPOCH + self.now / 1_000;
        let fate = match self.rng.gen_range(0..100) {
            0 if self.stormy => Fate::Failed,
            1 if self.stormy => Fate::WrittenButFailed,
            _ => Fate::Written,
        };
        let (ticket, delay) = (self.next_step, self.rng.gen_range(1..10));
        let node = self.node(id);
        let Some(signer) = node.signer.as_mut().filter(|_| node.stream == Some(stream)) else {
            return Ok(());
        };
        let pending = signer.receive(NodeStream(stream), batch.clone(), now);
        node.writing.insert(ticket, (stream, pending, batch));
        let life = node.life;
        self.at(delay, Step::Journaled { node: id.clone(), life, ticket, fate });
        Ok(())
    }

    fn journaled(&mut self, id: &NodeId, life: u64, ticket: u64, fate: Fate) -> Result<(), String> {
        let node = self.node(id);
        if node.life != life {
            return Ok(());
        }
        let Some((stream, pending, batch)) = node.writing.remove(&ticket) else { return Ok(()) };
        if !matches!(fate, Fate::Failed) {
            node.journal.extend(pending.records().iter().cloned());
        }
        let result = match fate {
            Fate::Written => Ok(()),
            Fate::Failed | Fate::WrittenButFailed => Err(format!("the story says {fate:?}")),
        };
        let failed = result.is_err();
        let Some(signer) = &mut node.signer else { return Ok(()) };
        let mut reply = signer.release_shares(pending, result);
        let journal = node.journal.clone();
        self.checks.replied(id, &batch, &reply, &journal)?;
        if failed {
            self.tell(format!("the journal of {id}: {fate:?}"));
            self.send_status(id)?;
            self.at(700, Step::Reopen(id.clone(), life));
        }
        if self.liar.as_ref() == Some(id)
            && let Ok(items) = &mut reply.answer
            && let Some(Ok(shares)) = items.first_mut()
            && let Some(share) = shares.first_mut()
        {
            share[0] ^= 1;
        }
        if self.node(id).stream == Some(stream) {
            self.send_up(id, stream, FromNode::Reply(reply));
            self.announce(id);
        }
        Ok(())
    }

    /// All faults end: everybody is there, and every link starts afresh.
    fn end_storm(&mut self) -> Result<(), String> {
        self.tell("the storm ends");
        self.stormy = false;
        self.start_coordinator()?;
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.start_node(&id);
            self.pause(&id, None)?;
            self.link_lost(&id, 0)?;
            self.at(10, Step::Dial(id));
        }
        Ok(())
    }
}

/// The key of every story.
#[must_use]
pub fn key() -> KeyName {
    KeyName::new("release").unwrap()
}
