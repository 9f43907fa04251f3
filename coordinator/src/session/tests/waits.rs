//! Releases that nodes would sign once something has come.

use super::*;

/// All answers to what was sent, where one node says this of every item.
fn answer_but(stage: &mut Stage, sent: Vec<(NodeId, Batch)>, other: &NodeId, code: RefusalCode) {
    for (node, batch) in sent {
        let shares = stage.shares_of(&node, &batch);
        let refused = batch.items.iter().map(|_| Err(refusal(code))).collect();
        stage.reply(&node, &batch, Ok(if node == *other { refused } else { shares }));
    }
}

fn supervisor() -> NodeId {
    id("supervisor", "supervisor-1")
}

/// A release that the supervisor's node would sign once something has come.
fn set_aside(stage: &mut Stage, sequence: u64, code: RefusalCode) -> ReleaseId {
    let release = stage.submit(Class::ProductBuild, "suite", sequence, 1);
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    answer_but(stage, sent, &supervisor(), code);
    assert!(stage.outcome(&release).is_none());
    assert!(stage.sent().is_empty(), "nobody is asked again before something has come");
    release
}

#[test]
fn what_lacks_evidence_is_set_aside_and_holds_nobody_back() {
    let mut stage = Stage::attended(64);
    let first = set_aside(&mut stage, 1, RefusalCode::EvidenceMissing);
    let progress = stage.last_progress(&first);
    assert_eq!(progress.phase, Phase::AwaitingEvidence);
    let reason = &refusal(RefusalCode::EvidenceMissing).reason;
    assert_eq!(progress.waiting_for, [format!("supervisor/supervisor-1: {reason}")]);

    let second = stage.submit(Class::ProductBuild, "suite", 2, 1);
    let sent = stage.sent();
    assert!(sent.iter().all(|(_, batch)| batch.items.len() == 1 && batch.items[0].release_id == second));
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&second));
    stage.event(Event::Published(second));
    assert!(stage.sent().is_empty());

    // Its custodian gave it other rules.
    let ready = ready(&stage);
    stage.event(Event::Status(id("vendor", "vendor-1"), StreamId(1), ready.clone()));
    assert!(stage.sent().is_empty(), "nobody waits for that node");
    stage.event(Event::Status(supervisor(), StreamId(1), ready));
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&first));
}

/// What a node says that may sign.
fn ready(stage: &Stage) -> NodeStatus {
    NodeStatus {
        condition: Condition::Ready,
        reason: String::new(),
        keys: vec![(key(), stage.roster.roster().hash())],
        warning: String::new(),
    }
}

/// Where several wait and only one of them is asked again there is no quorum to ask: nothing would be at nodes, nobody would be told what is
/// missing, and the channel would stand still.
#[test]
fn all_who_wait_are_asked_when_something_came_for_one() {
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let mut codes = [RefusalCode::EvidenceMissing, RefusalCode::NotYet].into_iter().cycle();
    // Other rules, another stream, and time.
    for round in 0..3 {
        let sent = stage.sent();
        assert_eq!(organisations(&sent), ["supervisor", "vendor", "vendor"], "round {round}");
        let code = codes.next().unwrap();
        for (node, batch) in sent {
            let code = if node == supervisor() { code } else { RefusalCode::EvidenceMissing };
            stage.reply(&node, &batch, Ok(vec![Err(refusal(code))]));
        }
        let progress = stage.last_progress(&release);
        assert_eq!(
            (progress.phase, progress.waiting_for.len()),
            (Phase::AwaitingEvidence, 3),
            "{progress:?}"
        );
        assert!(stage.sent().is_empty());
        match round {
            0 => {
                let ready = ready(&stage);
                stage.event(Event::Status(supervisor(), StreamId(1), ready));
            }
            1 => {
                stage.now += limits::ASK_LATER_MS;
                stage.event(Event::Tick);
            }
            _ => {}
        }
    }
    // Who is away is not asked, and what waits for evidence goes on saying so.
    stage.event(Event::Detached(supervisor(), StreamId(1)));
    stage.event(Event::Evidence(release.clone(), vec!["more".into()], Vec::new()));
    assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    assert!(stage.engine.cancel(&release).is_ok());
    let next = stage.submit(Class::ProductBuild, "suite", 2, 1);
    stage.attach(&supervisor(), 1, 8);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&next));
}

#[test]
fn a_node_that_comes_back_is_asked_again() {
    let mut stage = Stage::attended(64);
    let release = set_aside(&mut stage, 1, RefusalCode::EvidenceMissing);
    stage.attach(&supervisor(), 1, 8);
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release));
}

#[test]
fn what_is_permitted_later_is_asked_for_later() {
    let mut stage = Stage::attended(64);
    let release = set_aside(&mut stage, 1, RefusalCode::NotYet);
    let due = stage.engine.next_deadline().unwrap();
    assert_eq!(due, Millis(stage.now + limits::ASK_LATER_MS));
    stage.now = due.0 - 1;
    stage.event(Event::Tick);
    assert!(stage.sent().is_empty());
    stage.now = due.0;
    stage.event(Event::Tick);
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    answer_but(&mut stage, sent, &supervisor(), RefusalCode::NotYet);
    assert_eq!(stage.engine.next_deadline(), Some(Millis(stage.now + limits::ASK_LATER_MS)));
    stage.now += limits::ASK_LATER_MS;
    stage.event(Event::Tick);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release));
}

#[test]
fn evidence_does_not_come_with_time() {
    let mut stage = Stage::attended(64);
    set_aside(&mut stage, 1, RefusalCode::EvidenceMissing);
    assert_eq!(stage.engine.next_deadline(), None);
    stage.now += 10 * limits::ASK_LATER_MS;
    stage.event(Event::Tick);
    assert!(stage.sent().is_empty());
}

#[test]
fn another_node_of_the_organisation_may_want_less() {
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let wants = sent.iter().find(|(node, _)| node.organisation.as_str() == "vendor").unwrap().0.clone();
    answer_but(&mut stage, sent, &wants, RefusalCode::EvidenceMissing);
    let sent = stage.sent();
    assert!(sent.len() == 3 && sent.iter().all(|(node, _)| *node != wants));
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release));
}

#[test]
fn what_awaits_evidence_can_be_taken_back() {
    let mut stage = Stage::attended(64);
    let release = set_aside(&mut stage, 1, RefusalCode::EvidenceMissing);
    let actions = stage.engine.cancel(&release).unwrap();
    assert!(matches!(&actions[..], [Action::Finished(_, Outcome::Cancelled)]));
    // But not while nodes have it again.
    let release = set_aside(&mut stage, 2, RefusalCode::EvidenceMissing);
    stage.attach(&supervisor(), 1, 8);
    assert_eq!(stage.engine.cancel(&release).unwrap_err(), NotCancelled::TooLate);
}

/// A rule may be tightened, or an approval revoked, between the parts of a large release.
#[test]
fn what_is_signed_in_part_is_not_taken_back() {
    let mut stage = Stage::attended(8);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 9);
    let sent = stage.sent();
    assert!(
        sent.iter().all(|(_, batch)| batch.items[0].slots.len() == 8),
        "as many as there are commitments"
    );
    stage.reply_honestly(sent);
    assert!(stage.last_progress(&release).done > 0 && stage.outcome(&release).is_none());
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        stage.attach(&id("vendor", node), 1, 8);
    }
    stage.attach(&supervisor(), 1, 8);
    let sent = stage.sent();
    answer_but(&mut stage, sent, &supervisor(), RefusalCode::EvidenceMissing);
    assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    assert_eq!(stage.engine.cancel(&release).unwrap_err(), NotCancelled::TooLate);
}

#[test]
fn a_refusal_for_good_ends_what_waits_for_another_node() {
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    for (node, batch) in stage.sent() {
        let code = if node == supervisor() { RefusalCode::NotAllowed } else { RefusalCode::EvidenceMissing };
        stage.reply(&node, &batch, Ok(vec![Err(refusal(code))]));
    }
    let Some(Outcome::Refused(refusals)) = stage.outcome(&release) else { panic!() };
    let named: Vec<_> = refusals.iter().map(|(node, refusal)| (node.clone(), refusal.code)).collect();
    assert_eq!(named, [(supervisor(), RefusalCode::NotAllowed)], "what might have come is no refusal");
}

#[test]
fn what_awaits_evidence_expires() {
    let mut stage = Stage::attended(64);
    let release = set_aside(&mut stage, 1, RefusalCode::EvidenceMissing);
    stage.event(Event::Abandon(release.clone()));
    assert_eq!(stage.outcome(&release), Some(&Outcome::Cancelled));
}
