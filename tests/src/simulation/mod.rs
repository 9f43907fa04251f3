//! The production engines of coordinator and nodes under a seeded in-memory driver: no sockets, no clock of their own.
//!
//! One seed gives one story, the same every time: releases are asked for and cancelled; messages are lost, delayed,
//! reordered and doubled; nodes and the coordinator crash and come back with what was durable; journals fail, also after
//! they wrote; custodians pause; a node may lie; and now and then a node is asked for what is not in the log, in all the
//! ways in which a coordinator in other hands could try. Then the faults end, and everything that may be signed must be
//! signed. Every message crosses as the bytes that it has on the wire.
//!
//! What is checked, at every step, is in [`checks`]: a violation names the seed, and `run(seed)` tells the story again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rand::{Rng, SeedableRng, seq::IteratorRandom};
use rand_chacha::ChaCha20Rng;
use rutli_coordinator::{
    aggregate::{AggregateResult, aggregate},
    commitment::Commitment,
    session::{Action, Engine, Event, Millis, Outcome, StreamId, Submission},
};
use rutli_keys::{IdentityKey, IdentityPublic, NodeId, SignedRoster, SigningShare, rehearsal};
use rutli_log::{Hash, entry::RequestTerms};
use rutli_release::{ChannelKey, ReleaseId, Requester, Sequence};
use rutli_signer_node::{
    clock::Reading,
    gate::{Gate, LogState, Unsaved},
    marks::{Mark, Marks},
    sign::{JournalRecord, Pending, PendingHead, Signer, StreamId as NodeStream, Verdict},
    versions::Versions,
};
use rutli_wire::{
    link::{Batch, BatchId, FromNode, RefusalCode, ToNode, Witnessed},
    v1,
};

use checks::Checks;
use prost::Message as _;
use requests::Request;

use crate::{hearts, log::ScriptedLog};

pub mod checks;
mod coordinator;
mod forger;
mod nodes;
pub mod requests;

/// Unix seconds at the beginning of every story.
pub const EPOCH: u64 = 1_800_000_000;

/// Milliseconds of story with faults …
const STORMY_MS: u64 = 60_000;

/// … and the most that may pass afterwards until all is signed.
const CALM_MS: u64 = 600_000;

/// Seconds after which a request's entry says that the coordinator gives up.
const DEADLINE_S: u64 = 3_600;

/// Commitments that a node makes at a time: few, so that pools run dry too.
const ANNOUNCED: usize = 8;

/// Keys for all stories: made once, by a real ceremony in memory.
#[derive(Debug)]
pub struct Fixture {
    roster: SignedRoster,
    shares: BTreeMap<NodeId, SigningShare>,
    identities: BTreeMap<NodeId, Arc<IdentityKey>>,
}

impl Fixture {
    /// Runs the ceremony: organisations with name, threshold and number of nodes.
    #[must_use]
    pub fn new(organisations: &[(&str, u16, u16)]) -> Self {
        let cast = rehearsal::Cast::new(organisations, &["release"], [7; 32]).unwrap();
        let rehearsed = cast.run().unwrap();
        Self {
            identities: cast.identities,
            roster: rehearsed.rosters.into_iter().next().unwrap(),
            shares: rehearsed.shares.into_iter().map(|((node, _), share)| (node, share)).collect(),
        }
    }
}

impl Fixture {
    fn peers(&self) -> BTreeMap<NodeId, IdentityPublic> {
        self.identities.iter().map(|(id, identity)| (id.clone(), identity.public())).collect()
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
    /// Releases overtaken.
    pub overtaken: usize,
    /// Crashes of any party.
    pub crashes: usize,
    /// Messages lost, doubled or long delayed.
    pub mishaps: usize,
    /// Releases that a node had no time for.
    pub undecided: usize,
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
    log: ScriptedLog,
    /// Size of the head at the other end of each stream, as far as this end knows. Not durable.
    believed: BTreeMap<u64, u64>,
}

/// What of a node is durable, and its core while it runs.
struct Node {
    signer: Option<Signer>,
    life: u64,
    journal: Vec<JournalRecord>,
    log: LogState,
    /// Of the present process: which change of the gate the journal has.
    log_revision: u64,
    paused: Option<String>,
    /// The stream to the coordinator, while it is up.
    stream: Option<u64>,
    writing: BTreeMap<u64, (u64, Writing)>,
    /// Batches that are open, as they came.
    open: Vec<(u64, Batch)>,
    /// Whether it is deciding.
    deciding: bool,
}

/// What waits for a node's disk.
enum Writing {
    Batch(Box<Pending>, Batch),
    Head(PendingHead),
}

/// Something that will happen.
enum Step {
    ToCoordinator(NodeId, u64, Vec<u8>),
    ToNode(NodeId, u64, Vec<u8>),
    Hello(NodeId, u64),
    LinkLost(NodeId, u64),
    Dial(NodeId),
    /// A node looks for the next release to decide: it is decided a while later.
    Decide(NodeId, u64),
    Decided(NodeId, u64),
    Journaled {
        node: NodeId,
        life: u64,
        ticket: u64,
        fate: Fate,
    },
    Reopen(NodeId, u64),
    Aggregated(u64, AggregateResult),
    Durable(u64, ReleaseId, Outcome),
    Tick(u64),
    Submit(Request),
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
                log: ScriptedLog::new("log.simulated/1", [9; 32]),
                believed: BTreeMap::new(),
            },
            nodes: ids.iter().map(|id| (id.clone(), Node::new())).collect(),
            liar: liar.clone(),
            checks: Checks::new(fixture, liar),
            report: Report {
                signed: 0,
                refused: 0,
                cancelled: 0,
                overtaken: 0,
                crashes: 0,
                mishaps: 0,
                undecided: 0,
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
        let mut requests = requests::requests(&mut self.rng);
        // One pipeline per channel: it asks in the order of its sequence.
        let mut times: Vec<u64> = requests.iter().map(|_| self.rng.gen_range(0..STORMY_MS / 2)).collect();
        times.sort_unstable();
        for (request, time) in requests.drain(..).zip(times) {
            if self.rng.gen_bool(0.1) {
                let later = time + self.rng.gen_range(0..400);
                self.at(later, Step::Cancel(request.release_id.clone()));
            }
            self.at(time, Step::Submit(request));
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
        self.report.cancelled = outcomes.clone().filter(|o| matches!(o, Outcome::Cancelled)).count();
        self.report.overtaken = outcomes.filter(|o| matches!(o, Outcome::Overtaken(_))).count();
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

    /// What a node's clocks show.
    fn reading(&self) -> Reading {
        let ms = i64::try_from(self.now).unwrap();
        let begun = Reading::at(EPOCH);
        Reading {
            wall_ms: begun.wall_ms + ms,
            monotonic_ms: begun.monotonic_ms + ms,
            boot_ms: begun.boot_ms + ms,
        }
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
            Step::Decide(node, life) => self.decide(&node, life),
            Step::Decided(node, life) => self.decided(&node, life),
            Step::Journaled { node, life, ticket, fate } => self.journaled(&node, life, ticket, fate)?,
            Step::Reopen(node, life) => self.with_signer(&node, life, Signer::reopen)?,
            Step::Aggregated(life, result) if life == self.coordinator.life => {
                self.engine_event(Event::Aggregated(result))?;
            }
            Step::Durable(life, id, outcome) if life == self.coordinator.life => self.durable(id, outcome)?,
            Step::Tick(life) if life == self.coordinator.life => self.engine_event(Event::Tick)?,
            Step::Aggregated(..) | Step::Durable(..) | Step::Tick(_) => {}
            Step::Submit(request) => self.submit(request)?,
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
