//! Requests that nothing permits, with policies at their bound of 50 ms for a decision, beside honest ones: the real engine of
//! the coordinator and the real hearts of the nodes, in simulated time. What a decision takes is the test's; everything else is real.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use rutli_coordinator::{
    aggregate::{AggregateResult, aggregate},
    commitment::Commitment,
    session::{Action, Engine, Event, Millis, Outcome, StreamId, Submission},
};
use rutli_keys::{NodeId, rehearsal::Cast};
use rutli_log::entry::RequestTerms;
use rutli_release::{Class, ReleaseId, Requester, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{clock::Reading, sign::StreamId as NodeStream};
use rutli_tests::hearts::{Deployment, NOW, Nodes, STREAM, release};
use rutli_wire::link::{Batch, FromNode, ToNode};

/// What a decision about a forbidden release takes: the documented bound.
const SLOW_MS: u64 = 50;

/// A message from here to there, a write to a journal, and an aggregation take so long each.
const STEP_MS: u64 = 2;

/// Forbidden requests at once.
const FLOOD: u64 = 256;

enum Step {
    Submit(Box<Submission>),
    ToNode(usize, Batch),
    Decide(usize),
    Decided(usize),
    ToCoordinator(usize, FromNode),
    Aggregated(AggregateResult),
    Tick,
}

struct World {
    engine: Engine,
    nodes: Nodes,
    ids: Vec<NodeId>,
    deciding: BTreeSet<usize>,
    now: u64,
    agenda: BTreeMap<(u64, u64), Step>,
    steps: u64,
    asked: BTreeMap<ReleaseId, u64>,
    /// How it ended, and after how many milliseconds.
    ended: BTreeMap<ReleaseId, (Outcome, u64)>,
    /// Milliseconds from each batch to its answer.
    answers: VecDeque<u64>,
    sent: BTreeMap<(usize, u64), u64>,
}

impl World {
    /// Vendor 2 of 3 and a lone supervisor, all attached.
    fn new() -> Self {
        let cast = Cast::new(&[("vendor", 2, 3), ("supervisor", 1, 1)], &["release"], [1; 32]).unwrap();
        let deployment = Deployment { keys: cast.run().unwrap(), cast };
        let nodes = Nodes::with(&deployment);
        let ids: Vec<NodeId> = nodes.roster.nodes().map(|node| node.id.clone()).collect();
        let mut world = Self {
            engine: Engine::new(BTreeMap::new(), None),
            ids: ids.clone(),
            nodes,
            deciding: BTreeSet::new(),
            now: 0,
            agenda: BTreeMap::new(),
            steps: 0,
            asked: BTreeMap::new(),
            ended: BTreeMap::new(),
            answers: VecDeque::new(),
            sent: BTreeMap::new(),
        };
        let roster = deployment.keys.rosters.into_iter().next().unwrap();
        world.event(Event::KeyAdded(Box::new(roster)));
        for (place, id) in ids.into_iter().enumerate() {
            let (status, version) = (world.nodes.signers[place].status(), String::new());
            world.event(Event::Attached { node: id.clone(), stream: StreamId(1), version, status });
            let announced = std::mem::take(&mut world.nodes.announced[place]);
            let key = rutli_tests::hearts::key();
            let parsed = announced.into_iter().map(|bytes| Commitment::parse(bytes).unwrap()).collect();
            world.event(Event::Commitments(id, StreamId(1), key, parsed));
            world.announce(place);
        }
        world
    }

    fn at(&mut self, delay: u64, step: Step) {
        self.steps += 1;
        self.agenda.insert((self.now + delay, self.steps), step);
    }

    fn reading(&self) -> Reading {
        let (begun, ms) = (Reading::at(NOW), i64::try_from(self.now).unwrap());
        Reading {
            wall_ms: begun.wall_ms + ms,
            monotonic_ms: begun.monotonic_ms + ms,
            boot_ms: begun.boot_ms + ms,
        }
    }

    /// Asks for a release at a time; nodes permit the product `suite` alone.
    fn ask(&mut self, at: u64, requester: &str, class: Class, product: &str, channel: u64) -> ReleaseId {
        let mut wanted = UnverifiedRelease::from(&release(1));
        (wanted.class, wanted.product, wanted.channel) = (class, product.into(), format!("c{channel}"));
        let wanted: VerifiedRelease = wanted.verify().unwrap();
        let release_id = ReleaseId::new(format!("{product}-{channel}")).unwrap();
        let terms = RequestTerms {
            release_id: release_id.clone(),
            requester: Requester::new(requester).unwrap(),
            ..self.nodes.terms(&wanted)
        };
        let entry = self.nodes.log.log_release(&wanted, &terms);
        let submission = Submission {
            release_id: release_id.clone(),
            requester: terms.requester,
            release: Arc::new(wanted),
            content_bytes: 500,
            entry,
            evidence: Vec::new(),
            resumed: false,
        };
        self.asked.insert(release_id.clone(), at);
        self.at(at, Step::Submit(Box::new(submission)));
        release_id
    }

    fn flood(&mut self, class: Class, product: &str) -> Vec<ReleaseId> {
        (0..FLOOD).map(|channel| self.ask(0, "flood", class, product, channel)).collect()
    }

    fn announce(&mut self, place: usize) {
        for message in self.nodes.signers[place].announce(STREAM, 4_096, &mut self.nodes.rng).unwrap() {
            self.at(STEP_MS, Step::ToCoordinator(place, message));
        }
    }

    fn event(&mut self, event: Event) {
        for action in self.engine.handle(Millis(self.now), event) {
            match action {
                Action::Send(node, _, ToNode::Batch(batch)) => {
                    let place = self.ids.iter().position(|id| *id == node).unwrap();
                    self.sent.insert((place, batch.id.0), self.now);
                    self.at(STEP_MS, Step::ToNode(place, batch));
                }
                Action::Aggregate(job) => self.at(STEP_MS, Step::Aggregated(aggregate(&job))),
                Action::Finished(id, outcome) => {
                    let took = self.now - self.asked[&id];
                    self.ended.insert(id.clone(), (outcome, took));
                    self.event(Event::Published(id));
                }
                Action::Disconnect(node, _, reason) => panic!("{node}: {reason}"),
                Action::Culprit(node, reason) => panic!("{node}: {reason}"),
                _ => {}
            }
        }
        if let Some(deadline) = self.engine.next_deadline() {
            self.at(deadline.0.saturating_sub(self.now).max(1), Step::Tick);
        }
    }

    /// Until all that was asked for is over.
    fn run(&mut self) {
        while self.ended.len() < self.asked.len() {
            let ((now, _), step) = self.agenda.pop_first().unwrap();
            self.now = now;
            assert!(now < 600_000, "{} of {} are over", self.ended.len(), self.asked.len());
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit(submission) => self.event(Event::Submit(*submission)),
            Step::ToNode(place, batch) => {
                let batch = self.nodes.complete(u16::try_from(place).unwrap(), &batch);
                let now = self.reading();
                self.nodes.signers[place].open(STREAM, batch, now);
                if self.deciding.insert(place) {
                    self.at(0, Step::Decide(place));
                }
            }
            Step::Decide(place) => {
                let now = self.reading();
                let decided = self.nodes.signers[place].decide_next(now);
                let slow = decided.is_some_and(|id| !id.as_str().starts_with("suite"));
                self.at(if slow { SLOW_MS } else { 0 }, Step::Decided(place));
            }
            Step::Decided(place) => {
                let now = self.reading();
                let signer = &mut self.nodes.signers[place];
                let decided = signer.take_decided(now);
                if signer.is_deciding() {
                    self.at(u64::from(!decided.is_empty()) * STEP_MS, Step::Decide(place));
                } else {
                    self.deciding.remove(&place);
                }
                for pending in decided {
                    assert_eq!(pending.stream(), NodeStream(1));
                    let reply = self.nodes.signers[place].release_shares(pending, Ok(()));
                    let sent = self.sent.remove(&(place, reply.id.0)).unwrap();
                    self.answers.push_back(self.now + STEP_MS - sent);
                    self.at(2 * STEP_MS, Step::ToCoordinator(place, FromNode::Reply(reply)));
                }
                self.announce(place);
            }
            Step::ToCoordinator(place, message) => {
                let id = self.ids[place].clone();
                self.event(match message {
                    FromNode::Reply(reply) => Event::Reply(id, StreamId(1), reply),
                    FromNode::Commitments(key, all) => {
                        let parsed = all.into_iter().map(|bytes| Commitment::parse(bytes).unwrap());
                        Event::Commitments(id, StreamId(1), key, parsed.collect())
                    }
                    other => panic!("{other:?}"),
                });
            }
            Step::Aggregated(result) => self.event(Event::Aggregated(result)),
            Step::Tick => self.event(Event::Tick),
        }
    }

    /// Milliseconds that a release took to be signed.
    fn signed(&self, id: &ReleaseId) -> u64 {
        let (outcome, took) = &self.ended[id];
        assert!(matches!(outcome, Outcome::Signed { .. }), "{id}: {outcome:?}");
        *took
    }

    /// Milliseconds that the last of them took to be refused.
    fn refused(&self, ids: &[ReleaseId]) -> u64 {
        let all = ids.iter().map(|id| match &self.ended[id] {
            (Outcome::Refused(_), took) => *took,
            other => panic!("{id}: {other:?}"),
        });
        all.max().unwrap()
    }
}

/// All of them are refused within a minute. Another requester's release is signed within two seconds,
/// whenever it comes: before anybody knows that the others are expensive, and after.
#[test]
fn requests_that_nothing_permits_delay_nobody() {
    let mut world = World::new();
    let flood = world.flood(Class::ProductBuild, "forbidden");
    let honest: Vec<_> = (0..20)
        .map(|number| world.ask(number * 397, "honest", Class::ProductBuild, "suite", number))
        .collect();
    world.run();
    let (refused, slowest) = (world.refused(&flood), honest.iter().map(|id| world.signed(id)).max().unwrap());
    let answer = world.answers.iter().max().unwrap();
    println!("{FLOOD} refused within {refused} ms; honest within {slowest} ms; answers within {answer} ms");
    assert!(refused < 60_000, "{refused}");
    assert!(slowest < 2_000, "{slowest}");
    assert!(*answer < 1_000, "{answer}");
}

/// The same where the flood calls itself urgent: it gains nothing by it but among its like.
#[test]
fn an_urgent_flood_delays_nobody_either() {
    let mut world = World::new();
    let flood = world.flood(Class::AvDatabase, "forbidden");
    let honest: Vec<_> = (0..20)
        .map(|number| world.ask(number * 397, "honest", Class::ProductBuild, "suite", number))
        .collect();
    world.run();
    assert!(world.refused(&flood) < 60_000);
    let slowest = honest.iter().map(|id| world.signed(id)).max().unwrap();
    assert!(slowest < 2_000, "{slowest}");
}

/// And one with several certificates: they share what one alone would have.
#[test]
fn several_floods_delay_nobody_either() {
    let mut world = World::new();
    for number in 0..8 {
        for channel in 0..32 {
            world.ask(0, &format!("flood-{number}"), Class::ProductBuild, &format!("no{number}"), channel);
        }
    }
    let honest: Vec<_> = (0..20)
        .map(|number| world.ask(number * 397, "honest", Class::ProductBuild, "suite", number))
        .collect();
    world.run();
    let slowest = honest.iter().map(|id| world.signed(id)).max().unwrap();
    assert!(slowest < 2_000, "{slowest}");
}
