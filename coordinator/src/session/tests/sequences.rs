//! Whose number it is: who uses one, who waits for it, and who is overtaken.

use super::*;

const LAST: u64 = (1 << 53) - 1;

/// A release of `suite` with a name of its own, so that several may have one sequence.
fn submit(stage: &mut Stage, name: &str, sequence: u64) -> ReleaseId {
    submit_as(stage, name, sequence, false)
}

fn submit_as(stage: &mut Stage, name: &str, sequence: u64, resumed: bool) -> ReleaseId {
    let release_id = ReleaseId::new(name).unwrap();
    stage.event(Event::Submit(Submission {
        release_id: release_id.clone(),
        requester: Requester::new("ci").unwrap(),
        release: Arc::new(release(Class::ProductBuild, "suite", sequence, 1)),
        content_bytes: 100,
        entry: entry(),
        evidence: Vec::new(),
        resumed,
    }));
    release_id
}

fn channel() -> ChannelKey {
    release(Class::ProductBuild, "suite", 1, 1).channel_key()
}

fn number(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

fn asked(sent: &[(NodeId, Batch)]) -> Vec<&str> {
    let items = sent.first().map(|(_, batch)| batch.items.as_slice()).unwrap_or_default();
    items.iter().map(|item| item.release_id.as_str()).collect()
}

/// All say this of every item.
fn refuse(stage: &mut Stage, sent: Vec<(NodeId, Batch)>, code: RefusalCode, mark: Option<u64>) {
    for (node, batch) in sent {
        let refusal = Refusal { mark: mark.map(number), ..refusal(code) };
        let answers = batch.items.iter().map(|_| Err(refusal.clone())).collect();
        stage.reply(&node, &batch, Ok(answers));
    }
}

/// As the coordinator does once a result is durable.
fn durable(stage: &mut Stage, id: &ReleaseId, sequence: u64) {
    assert!(stage.is_signed(id), "{id}");
    stage.event(Event::Signed(channel(), number(sequence)));
    stage.event(Event::Published(id.clone()));
}

#[test]
fn a_number_at_the_nodes_makes_others_wait_until_all_have_refused() {
    let mut stage = Stage::attended(64);
    let thief = submit(&mut stage, "thief", LAST);
    let sent = stage.sent();
    let honest = submit(&mut stage, "honest", 2);
    let rival = submit(&mut stage, "rival", LAST);
    let mut answers = sent.into_iter();
    refuse(&mut stage, answers.by_ref().take(2).collect(), RefusalCode::NotAllowed, None);
    assert!(stage.sent().is_empty(), "one may hold it yet");
    refuse(&mut stage, answers.collect(), RefusalCode::NotAllowed, None);
    assert!(matches!(stage.outcome(&thief), Some(Outcome::Refused(_))));
    let sent = stage.sent();
    assert_eq!(asked(&sent), ["honest", "rival"], "in one batch, in their order");
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&honest) && stage.is_signed(&rival));
}

/// A node that never answers, and a request that too few are left for: the channel goes on all the same.
#[test]
fn a_silent_node_and_a_request_that_nobody_permits_hold_up_nobody() {
    for refuses in ["supervisor", "vendor"] {
        let mut stage = Stage::attended(64);
        let thief = submit(&mut stage, "thief", 1);
        let mut sent = stage.sent();
        let silent = sent.iter().position(|(node, _)| node.organisation.as_str() == "vendor").unwrap();
        sent.remove(silent);
        for (node, batch) in sent {
            let shares = stage.shares_of(&node, &batch);
            let refused = vec![Err(refusal(RefusalCode::NotAllowed))];
            let is_refused = node.organisation.as_str() == refuses;
            stage.reply(&node, &batch, Ok(if is_refused { refused } else { shares }));
        }
        stage.now = stage.engine.next_deadline().unwrap().0;
        stage.event(Event::Tick);
        let honest = submit(&mut stage, "honest", 2);
        for _ in 0..4 {
            for (node, batch) in stage.sent() {
                let shares = stage.shares_of(&node, &batch);
                let answers = batch.items.iter().zip(shares).map(|(item, shares)| match item.release_id {
                    ref id if *id == thief => Err(refusal(RefusalCode::NotAllowed)),
                    _ => shares,
                });
                let answers = answers.collect();
                stage.reply(&node, &batch, Ok(answers));
            }
        }
        assert!(stage.is_signed(&honest), "{refuses}");
    }
}

#[test]
fn what_is_signed_overtakes_what_waits_under_its_number_or_a_lower_one() {
    let mut stage = Stage::attended(64);
    let mut waiting = Vec::new();
    for (name, sequence) in [("lower", 4), ("same", 5), ("higher", 6)] {
        waiting.push(submit(&mut stage, name, sequence));
        let sent = stage.sent();
        refuse(&mut stage, sent, RefusalCode::EvidenceMissing, None);
        assert_eq!(stage.last_progress(&waiting[waiting.len() - 1]).phase, Phase::AwaitingEvidence);
    }
    let signed = submit(&mut stage, "signed", 5);
    let late = submit(&mut stage, "late", 5);
    let sent = stage.sent();
    assert_eq!(asked(&sent), ["signed"], "what waits holds up nobody, and the second one waits unsent");
    stage.reply_honestly(sent);
    assert!(stage.outcome(&late).is_none(), "not before the result is durable");
    durable(&mut stage, &signed, 5);
    for id in [&waiting[0], &waiting[1], &late] {
        assert_eq!(stage.outcome(id), Some(&Outcome::Overtaken(number(5))), "{id}");
    }
    assert!(stage.outcome(&waiting[2]).is_none());
    // The evidence that came too late asks nobody, and what comes behind is over at once: also after a restart.
    stage.event(Event::Evidence(waiting[0].clone(), vec!["more".into()], Vec::new()));
    let behind = submit(&mut stage, "behind", 5);
    assert_eq!(stage.outcome(&behind), Some(&Outcome::Overtaken(number(5))));
    assert!(stage.sent().is_empty());
    stage.event(Event::Evidence(waiting[2].clone(), vec!["more".into()], Vec::new()));
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&waiting[2]));
}

/// Nodes permitted both, in their order: what is at them when a later one is signed goes on. Once it is not any more, it is over.
#[test]
fn what_is_at_nodes_is_not_overtaken_before_it_comes_back() {
    let mut stage = Stage::attended(64);
    let blocker = submit(&mut stage, "blocker", 1);
    let sent = stage.sent();
    let (first, second) = (submit(&mut stage, "first", 2), submit(&mut stage, "second", 3));
    stage.reply_honestly(sent);
    durable(&mut stage, &blocker, 1);
    let sent = stage.sent();
    assert_eq!(asked(&sent), ["first", "second"]);
    // One node refuses the first one: it goes to others, while the second one is signed.
    let refuses = sent.iter().find(|(node, _)| node.organisation.as_str() == "vendor").unwrap().0.clone();
    for (node, batch) in sent {
        let mut shares = stage.shares_of(&node, &batch);
        if node == refuses {
            shares[0] = Err(refusal(RefusalCode::NotAllowed));
        }
        stage.reply(&node, &batch, Ok(shares));
    }
    durable(&mut stage, &second, 3);
    let sent = stage.sent();
    assert_eq!(asked(&sent), ["first"]);
    assert!(stage.outcome(&first).is_none());
    stage.now = stage.engine.next_deadline().unwrap().0;
    stage.event(Event::Tick);
    assert_eq!(stage.outcome(&first), Some(&Outcome::Overtaken(number(3))));
}

/// The process ended after a batch of both was signed, when only the result of the later one was durable. Nodes permitted the
/// earlier one, too, unless it was never at them.
#[test]
fn what_was_resumed_is_overtaken_if_the_nodes_say_so() {
    for permitted in [true, false] {
        let mut stage = Stage::attended(64);
        stage.event(Event::Signed(channel(), number(3)));
        let same = submit_as(&mut stage, "same", 3, true);
        assert_eq!(stage.outcome(&same), Some(&Outcome::Overtaken(number(3))));
        let first = submit_as(&mut stage, "first", 2, true);
        let sent = stage.sent();
        assert_eq!(asked(&sent), ["first"]);
        if permitted {
            stage.reply_honestly(sent);
            assert!(stage.is_signed(&first));
        } else {
            refuse(&mut stage, sent, RefusalCode::SequenceBehind, Some(3));
            assert_eq!(stage.outcome(&first), Some(&Outcome::Overtaken(number(3))));
        }
    }
}

#[test]
fn the_next_number_is_above_what_is_signed_at_nodes_or_known_of_them() {
    let mut stage = Stage::attended(64);
    let next = |stage: &Stage, signed: Option<u64>| {
        stage.engine.next_sequence(&channel(), signed.map(number)).map(Sequence::get)
    };
    assert_eq!(next(&stage, None), Some(1));
    assert_eq!(next(&stage, Some(6)), Some(7));
    let thief = submit(&mut stage, "thief", LAST);
    assert_eq!(next(&stage, Some(6)), Some(7), "what is far away takes nobody's");
    let sent = stage.sent();
    refuse(&mut stage, sent, RefusalCode::NotAllowed, Some(9));
    assert!(matches!(stage.outcome(&thief), Some(Outcome::Refused(_))));
    assert_eq!(next(&stage, Some(6)), Some(10), "nodes told their marks");
    submit(&mut stage, "under-way", 12);
    assert_eq!(next(&stage, Some(6)), Some(13));
    let sent = stage.sent();
    refuse(&mut stage, sent, RefusalCode::EvidenceMissing, Some(9));
    assert_eq!(next(&stage, Some(6)), Some(10), "what waits everywhere uses none");
    // Permitted by some, and then expired: its number is used up at these.
    let partly = submit(&mut stage, "partly", 20);
    for (node, batch) in stage.sent() {
        let shares = stage.shares_of(&node, &batch);
        let waits = vec![Err(refusal(RefusalCode::EvidenceMissing))];
        let is_vendor = node.organisation.as_str() == "vendor";
        stage.reply(&node, &batch, Ok(if is_vendor { shares } else { waits }));
    }
    stage.event(Event::Abandon(partly.clone()));
    assert_eq!(stage.outcome(&partly), Some(&Outcome::Cancelled));
    assert_eq!(next(&stage, Some(6)), Some(21));
}

/// A signed release that is not durable yet may have to be signed again: a lower number waits for it, unsent.
#[test]
fn a_lower_number_waits_until_a_higher_result_is_durable() {
    let mut stage = Stage::attended(64);
    let five = submit(&mut stage, "five", 5);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&five));
    submit(&mut stage, "four", 4);
    assert!(stage.sent().is_empty());
}
