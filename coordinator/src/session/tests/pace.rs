//! Nodes that are slow, and requesters whose releases take them long.

use std::collections::BTreeSet;

use super::*;

impl Stage {
    fn submit_by(&mut self, requester: &str, class: Class, product: &str) -> ReleaseId {
        let release_id = ReleaseId::new(format!("{product}-1")).unwrap();
        self.event(Event::Submit(Submission {
            release_id: release_id.clone(),
            requester: Requester::new(requester).unwrap(),
            release: Arc::new(release(class, product, 1, 1)),
            content_bytes: 100,
            entry: entry(),
            evidence: Vec::new(),
            resumed: false,
        }));
        release_id
    }

    /// So many releases, each in a channel of its own.
    fn flood(&mut self, requester: &str, class: Class, count: usize) -> Vec<ReleaseId> {
        (0..count).map(|number| self.submit_by(requester, class, &format!("{requester}{number}"))).collect()
    }

    /// A node's answer, with the milliseconds that its decisions took.
    fn reply_slowly(&mut self, node: &NodeId, batch: &Batch, answer: Vec<ItemReply>, decision_ms: Vec<u32>) {
        let reply = BatchReply { id: batch.id, answer: Ok(answer), witnessed: None, decision_ms };
        self.event(Event::Reply(node.clone(), StreamId(1), reply));
    }

    fn tick_at_deadline(&mut self) {
        self.now = self.engine.next_deadline().unwrap().0;
        self.event(Event::Tick);
    }
}

fn supervisor() -> NodeId {
    id("supervisor", "supervisor-1")
}

/// Releases in what was sent to the supervisor, batch by batch.
fn batches(sent: &[(NodeId, Batch)]) -> Vec<Vec<ReleaseId>> {
    let of_supervisor = sent.iter().filter(|(node, _)| *node == supervisor());
    of_supervisor.map(|(_, batch)| batch.items.iter().map(|item| item.release_id.clone()).collect()).collect()
}

#[test]
fn what_a_node_had_no_time_for_is_asked_again_and_nothing_is_held_against_it() {
    let mut stage = Stage::attended(64);
    let first = stage.submit(Class::ProductBuild, "a", 1, 1);
    let second = stage.submit(Class::ProductBuild, "b", 1, 1);
    stage.now += 500;
    for (node, batch) in stage.sent() {
        let mut answer = stage.shares_of(&node, &batch);
        if batch.items[0].release_id == second && node == supervisor() {
            answer[0] = Err(refusal(RefusalCode::Undecided));
        }
        stage.reply(&node, &batch, Ok(answer));
    }
    assert!(stage.is_signed(&first) && !stage.is_signed(&second));
    assert!(stage.last_progress(&second).refusals.is_empty());
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[second.clone()]], "the same node, at once");
    let fresh: BTreeSet<_> = sent[0].1.items[0].commitments.iter().collect();
    assert_eq!(fresh.len(), sent[0].1.items[0].commitments.len());
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&second));
}

/// One that says so at once would be asked again at once, for ever.
#[test]
fn a_node_that_leaves_all_undecided_at_once_is_left_aside() {
    let mut stage = Stage::attended(64);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let idle = sent.last().unwrap().0.clone();
    for (node, batch) in sent {
        let shares = stage.shares_of(&node, &batch);
        let undecided = vec![Err(refusal(RefusalCode::Undecided))];
        stage.reply(&node, &batch, Ok(if node == idle { undecided } else { shares }));
    }
    let sent = stage.sent();
    assert!(sent.len() == 3 && sent.iter().all(|(node, _)| *node != idle));
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&suite));
}

/// Only where a session ended with all its answers were they looked at: whoever refused was asked again and again.
#[test]
fn what_nodes_decided_counts_though_another_one_is_silent() {
    let mut stage = Stage::attended(64);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let refuses = sent.iter().find(|(node, _)| *node == supervisor()).unwrap().clone();
    stage.reply(&refuses.0, &refuses.1, Ok(vec![Err(refusal(RefusalCode::NotAllowed))]));
    assert_eq!(stage.outcome(&suite), None, "others are at it");
    stage.tick_at_deadline();
    assert!(matches!(stage.outcome(&suite), Some(Outcome::Refused(_))));
    assert!(stage.sent().is_empty());
}

#[test]
fn what_a_node_decided_counts_also_when_it_comes_late() {
    let mut stage = Stage::attended(64);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let late = sent.iter().find(|(node, _)| *node == supervisor()).unwrap().clone();
    stage.reply_honestly(sent.iter().filter(|(node, _)| *node != late.0).cloned().collect());
    stage.tick_at_deadline();
    assert!(stage.sent().is_empty() && stage.outcome(&suite).is_none(), "nobody can stand in for it");
    stage.reply(&late.0, &late.1, Ok(vec![Err(refusal(RefusalCode::NotAllowed))]));
    assert!(matches!(stage.outcome(&suite), Some(Outcome::Refused(_))));
    // An answer is taken once, and shares that come late make no signature.
    let suite = stage.submit(Class::ProductBuild, "suite", 2, 1);
    stage.tick_at_deadline();
    let sent = stage.sent();
    stage.tick_at_deadline();
    stage.reply_honestly(sent.clone());
    stage.reply_honestly(sent);
    assert!(!stage.is_signed(&suite));
    assert!(stage.engine.nodes().iter().all(|node| node.culprit.is_none()));
}

#[test]
fn a_batch_that_was_too_large_is_halved_and_grows_again() {
    let mut stage = Stage::attended(2_000);
    stage.flood("ci", Class::AvDatabase, 64);
    let sent = stage.sent();
    // The first release went at once, and alone; the second and the rest follow.
    let sizes = |sent: &[(NodeId, Batch)]| batches(sent).iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(&sent), [1, 1, 1]);
    stage.reply_honestly(sent);
    let sent = stage.sent();
    assert_eq!(sizes(&sent), [61]);
    let mut largest: usize = 61;
    let mut under_way = Vec::new();
    for _ in 0..3 {
        // Nobody answers in time, and nobody is asked for a while.
        stage.tick_at_deadline();
        while stage.sent.is_empty() {
            stage.tick_at_deadline();
        }
        under_way = stage.sent();
        let next = sizes(&under_way).into_iter().max().unwrap();
        // Of two signatures each; the last one may be in it with one of them.
        assert!(next <= largest.div_ceil(2), "{next} after {largest}");
        largest = next;
    }
    stage.reply_honestly(under_way);
    for _ in 0..8 {
        stage.now += 1;
        let sent = stage.sent();
        stage.reply_honestly(sent);
    }
    stage.flood("other", Class::AvDatabase, 64);
    let mut grown = 0;
    for _ in 0..8 {
        stage.now += 1;
        let sent = stage.sent();
        grown = sizes(&sent).into_iter().max().unwrap_or(0).max(grown);
        stage.reply_honestly(sent);
    }
    assert!(grown > largest, "{grown} after {largest}");
}

/// All decisions about one requester's releases take long. Another's are never in a batch with them, nor behind them.
#[test]
fn who_costs_nodes_much_waits_for_nobody_but_itself() {
    for class in [Class::AvDatabase, Class::ProductBuild] {
        let mut stage = Stage::attended(2_000);
        let flood: BTreeSet<ReleaseId> = stage.flood("flood", class, 100).into_iter().collect();
        stage.now += 500;
        for (node, batch) in stage.sent() {
            let refused =
                batch.items.iter().map(|_| Err(refusal(RefusalCode::Undecided))).collect::<Vec<_>>();
            let mut answer = refused;
            answer[0] = Err(refusal(RefusalCode::EvidenceMissing));
            stage.reply_slowly(&node, &batch, answer, vec![50; batch.items.len()]);
        }
        let sent = stage.sent();
        let most = usize::try_from(limits::BATCH_COST_MS / 25).unwrap();
        assert_eq!(batches(&sent).len(), limits::MAX_SESSIONS_APART, "{class:?}");
        assert!(batches(&sent).iter().all(|batch| batch.len() <= most), "{class:?}: {:?}", batches(&sent));
        let honest = stage.submit_by("honest", class, "honest");
        let sent = stage.sent();
        assert_eq!(batches(&sent), [[honest.clone()]], "{class:?}: at once, and alone");
        stage.reply_honestly(sent);
        assert!(stage.is_signed(&honest));
        assert!(flood.iter().all(|id| stage.outcome(id).is_none()));
    }
}

/// Cheap requests in great number do not delay another's either: each has a share of the next batch.
#[test]
fn requesters_share_a_batch() {
    let mut stage = Stage::attended(2_000);
    stage.flood("flood", Class::ProductBuild, 400);
    let under_way = stage.sent();
    assert_eq!(batches(&under_way).len(), limits::MAX_SESSIONS_BULK);
    let honest = stage.flood("honest", Class::ProductBuild, 3);
    assert!(stage.sent().is_empty());
    stage.reply_honestly(under_way.into_iter().take(3).collect());
    let next = batches(&stage.sent());
    let [shared, apart] = next.as_slice() else { panic!("{next:?}") };
    assert!(honest.iter().all(|id| shared.contains(id)), "{next:?}");
    // Of two signatures each.
    assert_eq!(shared.len(), limits::SHARED_BATCH_SLOTS / 2, "and what they leave is used");
    assert!(apart.len() == limits::APART_BATCH_SLOTS / 2 && honest.iter().all(|id| !apart.contains(id)));
}

/// Who asks for most of all signatures has half of the time while others are there, and none of their batches.
#[test]
fn the_heavy_share_no_batch_and_rest() {
    let mut stage = Stage::attended(8_000);
    stage.flood("flood", Class::ProductBuild, 1_000);
    stage.submit_by("honest", Class::ProductBuild, "first");
    let under_way = stage.sent();
    stage.now += 10;
    stage.reply_honestly(under_way);
    let sent = stage.sent();
    assert_eq!(batches(&sent).len(), 2, "one that all share, and from then on the flood's own");
    let (shared, own) = sent.split_at(sent.len() / 2);
    stage.reply_honestly(shared.to_vec());
    assert!(stage.sent().is_empty(), "nobody else has anything");
    let honest = stage.submit_by("honest", Class::ProductBuild, "second");
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[honest]], "beside it, alone");
    stage.reply_honestly(sent);
    stage.now += 50;
    stage.reply_honestly(own.to_vec());
    let honest = stage.submit_by("honest", Class::ProductBuild, "third");
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[honest]], "the flood rests");
    stage.reply_honestly(sent);
    let until = stage.now + 50 * limits::HEAVY_RESTS;
    assert_eq!(stage.engine.next_deadline(), Some(Millis(until)));
    stage.now = until;
    stage.event(Event::Tick);
    let own = stage.sent();
    assert_eq!(batches(&own).len(), limits::MAX_SESSIONS_APART);
    // Its databases are few: they are nobody's burden.
    let urgent = stage.submit_by("flood", Class::AvDatabase, "urgent");
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[urgent]]);
    stage.reply_honestly(sent);
    // Once nobody else is there, it goes on at once.
    stage.now += limits::HEAVY_MS;
    stage.reply_honestly(own);
    assert_eq!(batches(&stage.sent()).len(), limits::MAX_SESSIONS_BULK);
}

/// One release of many files takes no more of a batch than many releases do.
#[test]
fn a_large_release_takes_its_share_of_a_batch() {
    let mut stage = Stage::attended(2_000);
    let large = stage.submit(Class::ProductBuild, "large", 1, 250);
    let alone = stage.sent();
    assert_eq!(alone[0].1.items[0].slots.len(), 251, "nobody else is there");
    stage.reply_honestly(alone);
    assert!(stage.is_signed(&large));
    // Long ago, so that nobody is heavy.
    stage.now += 20 * limits::ASKED_HALVES_MS;
    stage.flood("other", Class::ProductBuild, 4);
    let under_way = stage.sent();
    stage.submit(Class::ProductBuild, "large-too", 1, 250);
    stage.reply_honestly(under_way);
    let sent = stage.sent();
    let of_large = |sent: &[(NodeId, Batch)]| {
        let items = sent.iter().filter(|(node, _)| *node == supervisor()).flat_map(|(_, batch)| &batch.items);
        let large = items.filter(|item| item.release_id.as_str().starts_with("large"));
        large.map(|item| item.slots.len()).collect::<Vec<_>>()
    };
    // Two others of two signatures each; what they leave is used, in the one item.
    let left = limits::SHARED_BATCH_SLOTS - 4;
    assert_eq!(of_large(&sent), [left, limits::APART_BATCH_SLOTS], "one item in each of two batches");
}

/// A requester with many channels whose decisions take long takes no more of a batch's time than another.
#[test]
fn requesters_share_the_time_of_a_batch() {
    let mut stage = Stage::attended(4_000);
    // Not long enough to be kept apart.
    for round in 0..12 {
        let requester = if round % 2 == 0 { "flood" } else { "honest" };
        stage.submit_by(requester, Class::ProductBuild, &format!("known{round}"));
        stage.now += 9;
        for (node, batch) in stage.sent() {
            let answer = batch.items.iter().map(|_| Err(refusal(RefusalCode::NotAllowed))).collect();
            stage.reply_slowly(&node, &batch, answer, vec![9; batch.items.len()]);
        }
    }
    stage.flood("flood", Class::ProductBuild, 1_000);
    let under_way = stage.sent();
    assert_eq!(batches(&under_way).len(), limits::MAX_SESSIONS_BULK);
    let honest = stage.flood("honest", Class::ProductBuild, 3);
    stage.reply_honestly(under_way.into_iter().take(3).collect());
    let next = batches(&stage.sent());
    assert!(honest.iter().all(|id| next[0].contains(id)), "{next:?}");
}

/// One organisation's permission is no signature.
#[test]
fn who_is_refused_by_one_organisation_is_seldom_signed() {
    let mut stage = Stage::attended(4_000);
    let requester = Requester::new("flood").unwrap();
    for round in 0..80 {
        stage.submit_by("flood", Class::ProductBuild, &format!("f{round}"));
        for (node, batch) in stage.sent() {
            let shares = stage.shares_of(&node, &batch);
            let refused = batch.items.iter().map(|_| Err(refusal(RefusalCode::NotAllowed))).collect();
            stage.reply(&node, &batch, Ok(if node == supervisor() { refused } else { shares }));
        }
    }
    assert!(stage.engine.costs.expected(Millis(stage.now), Class::ProductBuild, &requester).seldom_signed);
}

/// A node that tells its status again and again has what waits asked about once a second, and makes nobody costly.
#[test]
fn a_node_has_waiting_releases_asked_about_once_a_second() {
    let mut stage = Stage::attended(4_000);
    stage.submit_by("honest", Class::ProductBuild, "waits");
    let wait = |stage: &mut Stage| {
        let sent = stage.sent();
        let asked = !sent.is_empty();
        for (node, batch) in sent {
            let answer = batch.items.iter().map(|_| Err(refusal(RefusalCode::EvidenceMissing))).collect();
            stage.reply(&node, &batch, Ok(answer));
        }
        asked
    };
    assert!(wait(&mut stage));
    let keys = vec![(stage.roster.roster().key().clone(), stage.roster.roster().hash())];
    let mut asked = 0;
    for _ in 0..300 {
        let (condition, keys) = (Condition::Ready, keys.clone());
        let status = NodeStatus { condition, reason: String::new(), keys, warning: String::new() };
        stage.event(Event::Status(supervisor(), StreamId(1), status));
        asked += usize::from(wait(&mut stage));
        stage.now += 100;
    }
    assert_eq!(asked, 30, "in half a minute");
    // The last change is not forgotten.
    stage.now = stage.engine.next_deadline().unwrap().0;
    stage.event(Event::Tick);
    assert!(wait(&mut stage));
    let honest = Requester::new("honest").unwrap();
    assert_eq!(
        stage.engine.costs.expected(Millis(stage.now), Class::ProductBuild, &honest).load(),
        Load::Usual
    );
}

/// While others have releases waiting, costly requesters have a quarter of the time.
#[test]
fn the_costly_rest_while_others_are_there() {
    let mut stage = Stage::attended(4_000);
    let refuse = |stage: &mut Stage, sent: Vec<(NodeId, Batch)>| {
        for (node, batch) in sent {
            let answer = batch.items.iter().map(|_| Err(refusal(RefusalCode::NotAllowed))).collect();
            stage.reply(&node, &batch, Ok(answer));
        }
    };
    // Nodes refuse all of it.
    for round in 0..70 {
        stage.submit_by("flood", Class::ProductBuild, &format!("known{round}"));
        let sent = stage.sent();
        refuse(&mut stage, sent);
    }
    let many = |stage: &mut Stage, name: &str| {
        for number in 0..3 {
            stage.submit_by("flood", Class::ProductBuild, &format!("{name}{number}"));
        }
        stage.sent()
    };
    let first = many(&mut stage, "first");
    assert_eq!(batches(&first).len(), limits::MAX_SESSIONS_APART);
    assert!(
        first.iter().all(|(_, batch)| batch.items.iter().all(|item| item.slots.len() == 1)),
        "one nonce each"
    );
    let honest = stage.submit_by("honest", Class::ProductBuild, "honest");
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[honest.clone()]], "beside them");
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&honest));
    stage.now += 50;
    refuse(&mut stage, first);
    assert!(stage.sent().is_empty(), "they rest");
    let honest = stage.submit_by("honest", Class::ProductBuild, "again");
    let sent = stage.sent();
    assert_eq!(batches(&sent), [[honest]], "others do not");
    stage.reply_honestly(sent);
    let until = stage.now + 50 * limits::COSTLY_RESTS;
    assert_eq!(stage.engine.next_deadline(), Some(Millis(until)));
    stage.now = until - 1;
    stage.event(Event::Tick);
    assert!(stage.sent().is_empty());
    stage.now = until;
    stage.event(Event::Tick);
    let second = stage.sent();
    assert_eq!(batches(&second).len(), limits::MAX_SESSIONS_APART);
    // Once others have been idle for a while, the costly go on at once.
    stage.now += limits::USUAL_MS;
    many(&mut stage, "third");
    refuse(&mut stage, second);
    assert_eq!(batches(&stage.sent()).len(), limits::MAX_SESSIONS_APART);
}

/// A heavy release goes in many small batches. Between two of them, the next of its channel does not overtake it.
#[test]
fn what_is_signed_in_part_is_not_overtaken_from_another_lane() {
    let mut stage = Stage::attended(4_000);
    let by = |stage: &mut Stage, requester: &str, product: &str, sequence: u64, files: u8| {
        let release_id = ReleaseId::new(format!("{product}-{sequence}")).unwrap();
        stage.event(Event::Submit(Submission {
            release_id: release_id.clone(),
            requester: Requester::new(requester).unwrap(),
            release: Arc::new(release(Class::ProductBuild, product, sequence, files)),
            content_bytes: 100,
            entry: entry(),
            evidence: Vec::new(),
            resumed: false,
        }));
        release_id
    };
    by(&mut stage, "honest", "known", 1, 1);
    by(&mut stage, "mass", "other", 1, 250);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    by(&mut stage, "honest", "known", 2, 1);
    let large = by(&mut stage, "mass", "suite", 5, 250);
    while stage.last_progress(&large).done == 0 {
        let sent = stage.sent();
        stage.reply_honestly(sent);
        stage.now += 1;
        stage.event(Event::Tick);
    }
    // A batch of it is back, and the heavy lane rests or goes on; the next one of its channel waits for all of it.
    let next = by(&mut stage, "honest", "suite", 6, 1);
    while !stage.is_signed(&next) {
        let sent = stage.sent();
        let items = sent.iter().flat_map(|(_, batch)| &batch.items);
        let is_next = items.clone().any(|item| item.release_id == next);
        let of_large = items.filter(|item| item.release_id == large).count();
        assert!(!is_next || stage.is_signed(&large) || of_large > 0);
        stage.reply_honestly(sent);
        for id in [&large, &next] {
            if stage.is_signed(id) {
                stage.event(Event::Published(id.clone()));
            }
        }
        stage.now += 10;
        stage.event(Event::Tick);
    }
    assert!(stage.is_signed(&large), "{:?}", stage.outcome(&large));
}

/// Nodes decide in the order of the batch, as far as they come.
#[test]
fn requesters_alternate_within_a_batch_and_channels_keep_their_order() {
    let mut stage = Stage::new();
    stage.flood("a", Class::ProductBuild, 3);
    for sequence in 1..=3 {
        stage.submit(Class::ProductBuild, "shared", sequence, 1);
    }
    stage.flood("b", Class::ProductBuild, 2);
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        stage.attach(&id("vendor", node), 1, 64);
    }
    stage.attach(&supervisor(), 1, 64);
    let sent = stage.sent();
    let order: Vec<_> = batches(&sent)[0].iter().map(ToString::to_string).collect();
    let expected = ["a0-1", "shared-1", "b0-1", "a1-1", "shared-2", "b1-1", "a2-1", "shared-3"];
    assert_eq!(order, expected);
}

#[test]
fn a_clock_that_differs_is_told_once_and_waits_with_it() {
    let mut stage = Stage::attended(64);
    let differs = |stage: &Stage| {
        stage.engine.nodes().into_iter().filter_map(|node| node.clock_ahead_s).collect::<Vec<_>>()
    };
    let told = |stage: &mut Stage| {
        let clock = |action: &mut Action| matches!(action, Action::Clock(..));
        stage.seen.extract_if(.., clock).count()
    };
    for (ahead_s, count, differing) in
        [(2, 0, vec![]), (-600, 1, vec![-600]), (-601, 0, vec![-601]), (1, 1, vec![])]
    {
        stage.event(Event::Clock(supervisor(), StreamId(1), ahead_s));
        assert_eq!((told(&mut stage), differs(&stage)), (count, differing), "{ahead_s}");
    }
    // An old stream's word does not count.
    stage.event(Event::Clock(supervisor(), StreamId(7), 600));
    assert_eq!(told(&mut stage), 0);
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    for (node, batch) in stage.sent() {
        let shares = stage.shares_of(&node, &batch);
        let waits = vec![Err(refusal(RefusalCode::ClockDiffers))];
        stage.reply(&node, &batch, Ok(if node == supervisor() { waits } else { shares }));
    }
    assert_eq!((stage.outcome(&suite), stage.last_progress(&suite).phase), (None, Phase::AwaitingEvidence));
    stage.tick_at_deadline();
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&suite), "asked again by itself");
}

/// vendor-1 is excluded. Of the two that are left one refuses, and the other's answer is lost.
fn refused_by_one_of_two() -> (Stage, ReleaseId, NodeId) {
    let mut stage = Stage::attended(64);
    stage.event(Event::Misbehaved(id("vendor", "vendor-1"), "lied".to_owned()));
    let suite = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let refuses = id("vendor", "vendor-2");
    for (node, batch) in sent.into_iter().filter(|(node, _)| *node != id("vendor", "vendor-3")) {
        let shares = stage.shares_of(&node, &batch);
        let answer = if node == refuses { vec![Err(refusal(RefusalCode::NotAllowed))] } else { shares };
        stage.reply(&node, &batch, Ok(answer));
    }
    stage.tick_at_deadline();
    assert!(stage.sent().is_empty(), "the silent one is suspended");
    stage.tick_at_deadline();
    (stage, suite, refuses)
}

/// Alone it is no quorum: it is asked together with the one that refused, and its answer ends the release.
#[test]
fn a_release_does_not_wait_for_an_excluded_node_while_another_was_not_heard() {
    let (mut stage, suite, refuses) = refused_by_one_of_two();
    let sent = stage.sent();
    assert!(sent.iter().any(|(node, _)| *node == refuses));
    assert_eq!(stage.last_progress(&suite).refusals.len(), 1, "it has refused all the same");
    let unheard = id("vendor", "vendor-3");
    let of_unheard: Vec<_> = sent.iter().filter(|(node, _)| *node == unheard).collect();
    assert!(!of_unheard.is_empty());
    for (node, batch) in of_unheard {
        stage.reply(node, batch, Ok(vec![Err(refusal(RefusalCode::NotAllowed))]));
    }
    stage.tick_at_deadline();
    assert!(matches!(stage.outcome(&suite), Some(Outcome::Refused(_))));
}

/// It may be signed once the excluded one is reinstated: until then nobody is asked again and again.
#[test]
fn a_release_that_the_others_permit_waits_for_the_excluded_node() {
    let (mut stage, suite, refuses) = refused_by_one_of_two();
    for (node, batch) in stage.sent() {
        let shares = stage.shares_of(&node, &batch);
        let refused = batch.items.iter().map(|_| Err(refusal(RefusalCode::NotAllowed))).collect();
        stage.reply(&node, &batch, Ok(if node == refuses { refused } else { shares }));
    }
    for _ in 0..3 {
        stage.now += 60_000;
        stage.event(Event::Tick);
        assert!(stage.sent().is_empty() && stage.outcome(&suite).is_none());
    }
    let excluded = id("vendor", "vendor-1");
    stage.event(Event::Reinstate(excluded.clone()));
    let sent = stage.sent();
    assert!(sent.iter().any(|(node, _)| *node == excluded) && sent.iter().all(|(node, _)| *node != refuses));
}
