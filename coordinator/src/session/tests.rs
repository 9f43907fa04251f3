//! The engine against nodes that are as small as they can be: real keys, real shares, no policy.

mod evidence;
mod pace;
mod sequences;
mod waits;

use std::collections::{BTreeMap, HashMap};

use frost_ed25519::{self as frost, SigningPackage, round1::SigningNonces};
use rand::{SeedableRng, rngs::StdRng};
use rutli_keys::{SigningShare, effective_key_package, rehearsal};
use rutli_release::{Class, Format, UnverifiedArtifact, UnverifiedRelease};
use rutli_wire::link::{Batch, BatchItem, CommitmentBytes, Condition, ItemReply, RefusalCode};

use super::{costs::Expected, *};
use crate::{
    aggregate::aggregate,
    testing::commitments::{frost_commitments, with_torsion},
};

/// An engine with everything around it that a test needs.
struct Stage {
    engine: Engine,
    roster: SignedRoster,
    shares: BTreeMap<NodeId, SigningShare>,
    nonces: HashMap<CommitmentBytes, SigningNonces>,
    rng: StdRng,
    now: u64,
    sent: Vec<(NodeId, Batch)>,
    seen: Vec<Action>,
}

impl Stage {
    /// Keys of 2 of 3 vendors and one supervisor; nobody is attached.
    fn new() -> Self {
        let cast = rehearsal::Cast::new(&[("vendor", 2, 3), ("supervisor", 1, 1)], &["release"], [3; 32]);
        let rehearsed = cast.unwrap().run().unwrap();
        let roster = rehearsed.rosters.into_iter().next().unwrap();
        let mut stage = Self {
            engine: Engine::new(BTreeMap::new(), None),
            roster: roster.clone(),
            shares: rehearsed.shares.into_iter().map(|((node, _), share)| (node, share)).collect(),
            nonces: HashMap::new(),
            rng: StdRng::seed_from_u64(1),
            now: 0,
            sent: Vec::new(),
            seen: Vec::new(),
        };
        stage.event(Event::KeyAdded(Box::new(roster)));
        stage
    }

    /// The same, with all nodes attached and a pool of so many commitments each.
    fn attended(pool: usize) -> Self {
        let mut stage = Self::new();
        for node in ["vendor-1", "vendor-2", "vendor-3"] {
            stage.attach(&id("vendor", node), 1, pool);
        }
        stage.attach(&id("supervisor", "supervisor-1"), 1, pool);
        stage
    }

    fn attach(&mut self, node: &NodeId, stream: u64, pool: usize) {
        let keys = vec![(self.roster.roster().key().clone(), self.roster.roster().hash())];
        let status =
            NodeStatus { condition: Condition::Ready, reason: String::new(), keys, warning: String::new() };
        let stream = StreamId(stream);
        self.event(Event::Attached { node: node.clone(), stream, version: String::new(), status });
        let commitments = (0..pool).map(|_| self.commit(node)).collect();
        self.event(Event::Commitments(node.clone(), stream, key(), commitments));
    }

    fn commit(&mut self, node: &NodeId) -> Commitment {
        let share = self.shares[node].to_frost();
        let (nonces, commitments) = frost::round1::commit(&share, &mut self.rng);
        let points = [commitments.hiding(), commitments.binding()].map(|point| point.serialize().unwrap());
        let bytes = CommitmentBytes(points.concat().try_into().unwrap());
        self.nonces.insert(bytes, nonces);
        Commitment::parse(bytes).unwrap()
    }

    fn event(&mut self, event: Event) {
        for action in self.engine.handle(Millis(self.now), event) {
            match action {
                Action::Send(node, _, ToNode::Batch(batch)) => self.sent.push((node, batch)),
                action => self.seen.push(action),
            }
        }
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<(NodeId, Batch)> {
        std::mem::take(&mut self.sent)
    }

    fn submit(&mut self, class: Class, product: &str, sequence: u64, files: u8) -> ReleaseId {
        let release_id = ReleaseId::new(format!("{product}-{sequence}")).unwrap();
        let release = Arc::new(release(class, product, sequence, files));
        let requester = Requester::new("ci").unwrap();
        self.event(Event::Submit(Submission {
            release_id: release_id.clone(),
            requester,
            release,
            content_bytes: 100,
            entry: entry(),
            evidence: Vec::new(),
            resumed: false,
        }));
        release_id
    }

    /// The honest answer of a node.
    fn shares_of(&self, node: &NodeId, batch: &Batch) -> Vec<ItemReply> {
        let roster = self.roster.roster();
        let quorum = Quorum::new(roster, &batch.signers).unwrap();
        let own = roster.index_of(node).unwrap();
        let package = effective_key_package(roster, own, &self.shares[node], &quorum).unwrap();
        let place = batch.signers.iter().position(|index| *index == own).unwrap();
        let sign = |item: &BatchItem| {
            let signables = item.release.signables();
            let slots = item.slots.iter().zip(item.commitments.chunks(batch.signers.len()));
            slots
                .map(|(slot, commitments)| {
                    let points = commitments.iter().map(|bytes| frost_commitments(*bytes));
                    let identifiers = batch.signers.iter().map(|index| *roster.identifier(*index).unwrap());
                    let message = &signables[*slot as usize].bytes;
                    let signing = SigningPackage::new(identifiers.zip(points).collect(), message);
                    let nonces = &self.nonces[&commitments[place]];
                    frost::round2::sign(&signing, nonces, &package).unwrap().serialize().try_into().unwrap()
                })
                .collect()
        };
        batch.items.iter().map(|item| Ok(sign(item))).collect()
    }

    fn reply(&mut self, node: &NodeId, batch: &Batch, answer: Result<Vec<ItemReply>, Refusal>) {
        self.event(Event::Reply(
            node.clone(),
            StreamId(1),
            BatchReply { id: batch.id, answer, witnessed: None, decision_ms: Vec::new() },
        ));
        let jobs =
            self.seen.extract_if(.., |action| matches!(action, Action::Aggregate(_))).collect::<Vec<_>>();
        for job in jobs {
            let Action::Aggregate(job) = job else { continue };
            self.event(Event::Aggregated(aggregate(&job)));
        }
    }

    fn reply_honestly(&mut self, sent: Vec<(NodeId, Batch)>) {
        for (node, batch) in sent {
            let shares = self.shares_of(&node, &batch);
            self.reply(&node, &batch, Ok(shares));
        }
    }

    fn outcome(&self, id: &ReleaseId) -> Option<&Outcome> {
        self.seen.iter().find_map(|action| match action {
            Action::Finished(finished, outcome) if finished == id => Some(outcome),
            _ => None,
        })
    }

    fn is_signed(&self, id: &ReleaseId) -> bool {
        matches!(self.outcome(id), Some(Outcome::Signed { .. }))
    }

    fn last_progress(&self, id: &ReleaseId) -> &Progress {
        let of_it = |action: &'_ Action| matches!(action, Action::Progress(release, _) if release == id);
        match self.seen.iter().rev().find(|action| of_it(action)) {
            Some(Action::Progress(_, progress)) => progress,
            _ => panic!("no progress of {id}"),
        }
    }
}

fn id(organisation: &str, node: &str) -> NodeId {
    NodeId::new(organisation, node).unwrap()
}

fn key() -> KeyName {
    KeyName::new("release").unwrap()
}

fn release(class: Class, product: &str, sequence: u64, files: u8) -> VerifiedRelease {
    let artifact = |file: u8| UnverifiedArtifact { name: format!("file-{file}"), sha256: vec![file; 32] };
    let release = UnverifiedRelease {
        class,
        product: product.into(),
        channel: "stable".into(),
        version: "1".into(),
        sequence,
        issued_at: 1,
        expires_at: None,
        artifacts: (0..files).map(artifact).collect(),
        formats: vec![Format::Dsse, Format::Sshsig],
    };
    release.verify().unwrap()
}

/// Where a request stands in a log; only nodes look at it.
fn entry() -> LoggedEntry {
    LoggedEntry {
        index: 0,
        leaf: rutli_log::Hash([0; 32]),
        proof: Vec::new(),
        deadline: 9_000,
        embargo: None,
        evidence: Vec::new(),
        added: Vec::new(),
    }
}

fn refusal(code: RefusalCode) -> Refusal {
    Refusal::new(code, "the test says so")
}

fn organisations(sent: &[(NodeId, Batch)]) -> Vec<&str> {
    sent.iter().map(|(node, _)| node.organisation.as_str()).collect()
}

#[test]
fn a_quorum_of_every_organisation_signs() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 2);
    let sent = stage.sent();
    assert_eq!(organisations(&sent), ["supervisor", "vendor", "vendor"]);
    assert_eq!(sent[0].1.items[0].slots, [0, 1, 2]);
    stage.reply_honestly(sent);
    let Some(Outcome::Signed { signatures, signed_by, .. }) = stage.outcome(&suite) else { panic!() };
    assert_eq!((signatures.len(), signed_by.len()), (3, 3));
}

#[test]
fn without_the_supervisor_nothing_starts_and_the_release_says_who_is_missing() {
    let mut stage = Stage::attended(8);
    let supervisor = id("supervisor", "supervisor-1");
    stage.event(Event::Detached(supervisor.clone(), StreamId(1)));
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    assert!(stage.sent().is_empty());
    let progress = stage.last_progress(&suite);
    assert_eq!(progress.phase, Phase::AwaitingQuorum);
    assert!(progress.waiting_for[0].contains("supervisor-1: not connected"), "{progress:?}");
    stage.attach(&supervisor, 1, 8);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&suite));
}

#[test]
fn a_silent_node_is_left_aside_after_its_time_and_its_work_goes_on() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let mut sent = stage.sent();
    let (silent, _) = sent.pop().unwrap();
    stage.reply_honestly(sent);
    assert!(stage.sent().is_empty() && !stage.is_signed(&suite));
    stage.now = stage.engine.next_deadline().unwrap().0;
    stage.event(Event::Tick);
    let again = stage.sent();
    assert!(again.len() == 3 && again.iter().all(|(node, _)| *node != silent));
    stage.reply_honestly(again);
    assert!(stage.is_signed(&suite));
}

#[test]
fn a_wrong_share_names_its_node_and_nobody_else() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let liar = id("vendor", "vendor-1");
    for (node, batch) in stage.sent() {
        let mut shares = stage.shares_of(&node, &batch);
        if node == liar {
            shares[0].as_mut().unwrap()[0][0] ^= 1;
        }
        stage.reply(&node, &batch, Ok(shares));
    }
    let culprits: Vec<_> = stage.engine.nodes().into_iter().filter(|node| node.culprit.is_some()).collect();
    assert_eq!(culprits.iter().map(|node| &node.node).collect::<Vec<_>>(), [&liar]);
    let again = stage.sent();
    assert!(again.iter().all(|(node, _)| *node != liar));
    stage.reply_honestly(again);
    assert!(stage.is_signed(&suite));
    // Left out until a person puts it back.
    stage.event(Event::Reinstate(liar));
    assert!(stage.engine.nodes().iter().all(|node| node.culprit.is_none()));
}

#[test]
fn a_commitment_outside_of_the_group_names_its_node_and_nobody_else() {
    for half in [0, 1] {
        let mut stage = Stage::new();
        let liar = id("vendor", "vendor-1");
        for (node, pool) in [("vendor-1", 0), ("vendor-2", 8), ("vendor-3", 8)] {
            stage.attach(&id("vendor", node), 1, pool);
        }
        let bad = (0..8).map(|_| Commitment::parse(with_torsion(stage.commit(&liar).bytes, half)).unwrap());
        let bad = bad.collect();
        stage.event(Event::Commitments(liar.clone(), StreamId(1), key(), bad));
        let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
        stage.attach(&id("supervisor", "supervisor-1"), 1, 8);
        let sent = stage.sent();
        assert!(sent.iter().any(|(node, _)| *node == liar));
        for (node, batch) in sent {
            // As every honest node answers that reads the liar's commitment; the liar goes on as if nothing was.
            let malformed = Err(refusal(RefusalCode::Malformed));
            let shares = Ok(vec![[1; 32]; batch.items[0].slots.len()]);
            stage.reply(&node, &batch, Ok(vec![if node == liar { shares } else { malformed }]));
        }
        let culprits = stage.engine.nodes().into_iter().filter_map(|node| Some((node.node, node.culprit?)));
        assert_eq!(culprits.collect::<Vec<_>>(), [(liar.clone(), OUTSIDE_GROUP.to_owned())]);
        assert!(stage.last_progress(&suite).refusals.is_empty(), "nothing is held against the release");
        let again = stage.sent();
        assert!(again.len() == 3 && again.iter().all(|(node, _)| *node != liar));
        stage.reply_honestly(again);
        assert!(stage.is_signed(&suite));
    }
}

#[test]
fn who_refuses_as_malformed_without_cause_has_refused() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    for _ in 0..2 {
        let sent = stage.sent();
        let refuses = sent.iter().find(|(node, _)| node.organisation.as_str() == "vendor").unwrap().0.clone();
        for (node, batch) in sent {
            let shares = stage.shares_of(&node, &batch);
            let refused = vec![Err(refusal(RefusalCode::Malformed))];
            stage.reply(&node, &batch, Ok(if node == refuses { refused } else { shares }));
        }
    }
    let Some(Outcome::Refused(refusals)) = stage.outcome(&suite) else { panic!() };
    assert_eq!(refusals.len(), 2);
    assert!(stage.engine.nodes().iter().all(|node| node.culprit.is_none()));
}

#[test]
fn another_number_of_shares_is_misbehaviour() {
    let mut stage = Stage::attended(8);
    stage.submit(Class::ProductBuild, "suite", 1, 1);
    let (node, batch) = stage.sent().pop().unwrap();
    stage.reply(&node, &batch, Ok(vec![Ok(vec![[0; 32]])]));
    assert!(stage.engine.nodes().iter().any(|known| known.node == node && known.culprit.is_some()));
}

#[test]
fn a_refusal_is_an_answer_and_ends_the_release_only_when_its_organisation_cannot_sign() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    for round in 0..2 {
        let sent = stage.sent();
        assert_eq!(sent.len(), 3, "round {round}");
        let refuses = sent.iter().find(|(node, _)| node.organisation.as_str() == "vendor").unwrap().0.clone();
        for (node, batch) in sent {
            let shares = stage.shares_of(&node, &batch);
            let refused = vec![Err(refusal(RefusalCode::NotAllowed))];
            stage.reply(&node, &batch, Ok(if node == refuses { refused } else { shares }));
        }
    }
    let Some(Outcome::Refused(refusals)) = stage.outcome(&suite) else { panic!() };
    assert_eq!(refusals.len(), 2);
    assert!(stage.engine.nodes().iter().all(|node| node.culprit.is_none()));
}

#[test]
fn pools_that_disagree_end_the_stream() {
    let mut stage = Stage::attended(8);
    stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let disagrees = sent[1].0.clone();
    for (node, batch) in sent {
        let shares = stage.shares_of(&node, &batch);
        let refused = vec![Err(refusal(RefusalCode::UnknownCommitment))];
        stage.reply(&node, &batch, Ok(if node == disagrees { refused } else { shares }));
    }
    let ended = |action: &Action| matches!(action, Action::Disconnect(node, _, _) if *node == disagrees);
    assert!(stage.seen.iter().any(ended));
}

#[test]
fn a_gap_in_the_log_is_nobodys_fault_and_a_fork_closes_the_node() {
    let refused = |code: RefusalCode, times: usize| {
        let mut stage = Stage::attended(64);
        stage.submit(Class::ProductBuild, "suite", 1, 1);
        // Supervisor has one node only: without it nothing is sent.
        let lone = id("supervisor", "supervisor-1");
        for time in 0..times {
            let sent = stage.sent();
            let asked = sent.iter().find(|(node, _)| *node == lone);
            let Some((node, batch)) = asked else { return Some(time) };
            let (node, batch) = (node.clone(), batch.clone());
            stage.reply(&node, &batch, Err(refusal(code)));
        }
        None
    };
    let most = usize::try_from(limits::MAX_LOG_GAPS).unwrap();
    assert_eq!(refused(RefusalCode::LogGap, most + 1), None, "asked again at once");
    assert_eq!(refused(RefusalCode::LogGap, most + 5), Some(most + 1), "but not for ever");
    for code in [RefusalCode::LogBehind, RefusalCode::LogInconsistent] {
        assert_eq!(refused(code, 2), Some(1), "{code}");
    }
    // No time helps these: the node says so itself when it is ready again.
    for code in [RefusalCode::LogForked, RefusalCode::LogCatchingUp] {
        let mut stage = Stage::attended(8);
        stage.submit(Class::ProductBuild, "suite", 1, 1);
        let (node, batch) = stage.sent().remove(0);
        stage.reply(&node, &batch, Err(refusal(code)));
        let known = stage.engine.nodes().into_iter().find(|known| known.node == node).unwrap();
        assert_eq!(known.status.unwrap().condition, Condition::Closed, "{code}");
    }
}

#[test]
fn an_av_database_finds_a_session_free_of_product_builds() {
    let mut stage = Stage::attended(64);
    for product in ["a", "b", "c"] {
        stage.submit(Class::ProductBuild, product, 1, 1);
    }
    assert_eq!(stage.sent().len(), 6, "two sessions of product builds");
    let avdb = stage.submit(Class::AvDatabase, "avdb", 1, 1);
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].1.items[0].release_id, avdb);
}

#[test]
fn what_arrives_meanwhile_collects_into_one_batch_in_the_order_of_its_sequence() {
    let mut stage = Stage::attended(64);
    stage.submit(Class::ProductBuild, "suite", 1, 1);
    let first = stage.sent();
    for sequence in 2..=4 {
        stage.submit(Class::ProductBuild, "suite", sequence, 1);
    }
    assert!(stage.sent().is_empty(), "a channel's next waits for its predecessor");
    stage.reply_honestly(first);
    assert!(stage.sent().is_empty(), "… until its result is durable");
    stage.event(Event::Published(ReleaseId::new("suite-1").unwrap()));
    let next = stage.sent();
    let ids: Vec<_> = next[0].1.items.iter().map(|item| item.release_id.to_string()).collect();
    assert_eq!(ids, ["suite-2", "suite-3", "suite-4"]);
}

#[test]
fn a_release_can_be_taken_back_until_a_node_has_it() {
    let mut stage = Stage::new();
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    assert!(matches!(
        stage.engine.cancel(&suite).unwrap().as_slice(),
        [Action::Finished(id, Outcome::Cancelled)] if *id == suite
    ));
    assert_eq!(stage.engine.cancel(&suite).unwrap_err(), NotCancelled::Unknown);
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    assert_eq!(stage.engine.cancel(&suite).unwrap_err(), NotCancelled::TooLate);
}

#[test]
fn a_commitment_goes_into_one_batch_only() {
    let mut stage = Stage::attended(4);
    let mut used = std::collections::BTreeSet::new();
    for product in ["a", "b", "c", "d", "e"] {
        stage.submit(Class::ProductBuild, product, 1, 1);
        let sent = stage.sent();
        for commitment in
            sent.iter().take(1).flat_map(|(_, batch)| &batch.items).flat_map(|item| &item.commitments)
        {
            assert!(used.insert(*commitment), "{commitment} is in two batches");
        }
        stage.reply_honestly(sent);
    }
    assert!(!used.is_empty());
}

#[test]
fn a_replaced_stream_gives_its_work_to_others() {
    let mut stage = Stage::attended(8);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let back = sent.last().unwrap().0.clone();
    stage.attach(&back, 2, 8);
    let again = stage.sent();
    assert_eq!(again.len(), 3, "the session did not wait for its deadline");
    // A late answer of the old stream is not heard.
    let (node, batch) = sent.last().unwrap();
    stage.event(Event::Reply(
        node.clone(),
        StreamId(1),
        BatchReply { id: batch.id, answer: Ok(Vec::new()), witnessed: None, decision_ms: Vec::new() },
    ));
    assert!(stage.engine.nodes().iter().all(|node| node.culprit.is_none()) && !stage.is_signed(&suite));
}

#[test]
fn an_expired_release_ends_as_soon_as_no_node_has_it() {
    let mut stage = Stage::new();
    let waiting = stage.submit(Class::ProductBuild, "suite", 1, 1);
    stage.event(Event::Abandon(waiting.clone()));
    assert_eq!(stage.outcome(&waiting), Some(&Outcome::Cancelled));

    let mut stage = Stage::attended(8);
    let started = stage.submit(Class::ProductBuild, "suite", 1, 1);
    stage.event(Event::Abandon(started.clone()));
    assert_eq!(stage.outcome(&started), None, "nodes are at it");
    stage.now = stage.engine.next_deadline().unwrap().0;
    stage.event(Event::Tick);
    assert_eq!(stage.outcome(&started), Some(&Outcome::Cancelled));
    let next = stage.submit(Class::ProductBuild, "suite", 2, 1);
    assert_eq!(stage.engine.unfinished(), 1, "{next} alone");
}

#[test]
fn product_builds_get_their_turn_under_steady_av_load() {
    let mut queue = Queue::default();
    for (class, product) in [(Class::AvDatabase, "avdb"), (Class::ProductBuild, "suite")] {
        assert!(queue.submit(Submission {
            release_id: ReleaseId::new(product).unwrap(),
            requester: Requester::new("ci").unwrap(),
            release: Arc::new(release(class, product, 1, 1)),
            content_bytes: 100,
            entry: entry(),
            evidence: Vec::new(),
            resumed: false,
        }));
    }
    let lanes = |queue: &Queue, urgent: usize, bulk: usize| {
        let running = [vec![Lane::URGENT; urgent], vec![Lane::BULK; bulk]].concat();
        queue.next_lanes(&running, true, |_, _| Expected::default())
    };
    let most = limits::MAX_SESSIONS;
    // The last free session may be a product build's, as long as the others are not all theirs.
    assert_eq!(lanes(&queue, most - 1, 0), [Lane::URGENT, Lane::BULK]);
    assert_eq!(
        lanes(&queue, most - 1 - limits::MAX_SESSIONS_BULK, limits::MAX_SESSIONS_BULK),
        [Lane::URGENT]
    );
    assert!(lanes(&queue, most, 0).is_empty());
    // Urgent, but not alone for ever: after a run of AV databases it is the product build's turn.
    for _ in 0..limits::URGENT_RUN {
        assert_eq!(lanes(&queue, 0, 0).first(), Some(&Lane::URGENT));
        queue.started(Lane::URGENT);
    }
    assert_eq!(lanes(&queue, most - 1, 0).first(), Some(&Lane::BULK));
    queue.started(Lane::BULK);
    assert_eq!(lanes(&queue, most - 1, 0).first(), Some(&Lane::URGENT));
}

#[test]
fn a_later_ceremony_does_not_change_the_key_that_signs() {
    let mut stage = Stage::attended(8);
    let cast = rehearsal::Cast::new(&[("vendor", 1, 1), ("supervisor", 1, 1)], &["coup"], [4; 32]);
    let coup = cast.unwrap().run().unwrap().rosters.into_iter().next().unwrap();
    stage.event(Event::KeyAdded(Box::new(coup)));
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    assert_eq!(sent[0].1.key, key());
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&suite));
}

/// Its sessions ended with the process that had them, so that no share of it can come: until a batch leaves again it is as free as
/// one that nobody ever saw.
#[test]
fn a_release_taken_up_after_a_restart_can_be_taken_back_until_a_node_has_it() {
    let resumed = |stage: &mut Stage| {
        let release_id = ReleaseId::new("suite-1").unwrap();
        stage.event(Event::Submit(Submission {
            release_id: release_id.clone(),
            requester: Requester::new("ci").unwrap(),
            release: Arc::new(release(Class::ProductBuild, "suite", 1, 1)),
            content_bytes: 100,
            entry: entry(),
            evidence: Vec::new(),
            resumed: true,
        }));
        release_id
    };
    let mut stage = Stage::new();
    let suite = resumed(&mut stage);
    assert!(matches!(&stage.engine.cancel(&suite).unwrap()[..], [Action::Finished(_, Outcome::Cancelled)]));
    let mut stage = Stage::attended(8);
    let suite = resumed(&mut stage);
    assert_eq!(stage.engine.cancel(&suite).unwrap_err(), NotCancelled::TooLate);
    let sent = stage.sent();
    // Two gave their shares, and the third never answers: what they gave is of no use without it.
    stage.reply_honestly(sent[..2].to_vec());
    stage.now = stage.engine.next_deadline().unwrap().0;
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        stage.event(Event::Detached(id("vendor", node), StreamId(1)));
    }
    assert!(matches!(&stage.engine.cancel(&suite).unwrap()[..], [Action::Finished(_, Outcome::Cancelled)]));
    // Its share comes too late, whatever stream it comes on, and makes no signature.
    let (node, batch) = sent[2].clone();
    let shares = stage.shares_of(&node, &batch);
    stage.attach(&node, 1, 8);
    stage.reply(&node, &batch, Ok(shares));
    assert!(!stage.is_signed(&suite) && !stage.seen.iter().any(|seen| matches!(seen, Action::Aggregate(_))));
}

#[test]
fn a_node_that_was_slow_once_is_tried_again() {
    let mut stage = Stage::attended(256);
    stage.submit(Class::ProductBuild, "p0", 1, 1);
    let sent = stage.sent();
    let slow = sent.last().unwrap().0.clone();
    // All answer within a millisecond, but for one that takes a second.
    for (node, batch) in sent {
        stage.now += if node == slow { 1_000 } else { 1 };
        let shares = stage.shares_of(&node, &batch);
        stage.reply(&node, &batch, Ok(shares));
    }
    let mut rounds = 0..200;
    let again = rounds.find(|round| {
        stage.submit(Class::ProductBuild, &format!("q{round}"), 1, 1);
        let sent = stage.sent();
        let asked = sent.iter().any(|(node, _)| *node == slow);
        stage.now += 1;
        stage.reply_honestly(sent);
        asked
    });
    assert!(again.is_some_and(|round| round > 0), "{again:?}");
}

#[test]
fn commitments_that_came_before_their_key_are_made_anew() {
    let mut stage = Stage::attended(8);
    // A coordinator that does not know the key, as from an old backup: nodes attach and announce, and then it learns it.
    stage.engine = Engine::new(BTreeMap::new(), None);
    let nodes: Vec<NodeId> = stage.shares.keys().cloned().collect();
    nodes.iter().for_each(|node| stage.attach(node, 1, 8));
    let roster = stage.roster.clone();
    stage.event(Event::KeyAdded(Box::new(roster)));
    let ended = stage.seen.iter().filter(|action| matches!(action, Action::Disconnect(..))).count();
    assert_eq!(ended, nodes.len());
    nodes.iter().for_each(|node| stage.attach(node, 2, 8));
    stage.submit(Class::ProductBuild, "suite", 1, 1);
    assert_eq!(stage.sent().len(), 3);
}
