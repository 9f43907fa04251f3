//! Evidence that comes while nodes are at it, custodians who refuse, and batches that evidence makes large.

use std::collections::BTreeSet;

use prost::Message as _;
use rutli_wire::{convert::release_to_content, limits as wire_limits, v1};

use super::*;

fn document(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

fn supervisor() -> NodeId {
    id("supervisor", "supervisor-1")
}

/// Answers what was sent: these nodes with these codes, the others honestly.
fn answer(stage: &mut Stage, sent: Vec<(NodeId, Batch)>, codes: &[(&NodeId, RefusalCode)]) {
    for (node, batch) in sent {
        let answer = match codes.iter().find(|(other, _)| **other == node) {
            Some((_, code)) => batch.items.iter().map(|_| Err(refusal(*code))).collect(),
            None => stage.shares_of(&node, &batch),
        };
        stage.reply(&node, &batch, Ok(answer));
    }
}

fn shown(sent: &[(NodeId, Batch)]) -> Vec<Vec<Bytes>> {
    sent.iter().map(|(_, batch)| batch.items[0].evidence.clone()).collect()
}

fn of_vendor(sent: &[(NodeId, Batch)]) -> BTreeSet<NodeId> {
    let vendors = sent.iter().filter(|(node, _)| node.organisation.as_str() == "vendor");
    vendors.map(|(node, _)| node.clone()).collect()
}

#[test]
fn what_waits_for_evidence_goes_on_with_it_and_not_with_what_is_known() {
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let other = stage.submit(Class::ProductBuild, "other", 1, 1);
    for _ in 0..2 {
        let sent = stage.sent();
        answer(&mut stage, sent, &[(&supervisor(), RefusalCode::EvidenceMissing)]);
    }
    assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    stage.event(Event::Evidence(release.clone(), vec![document("a"), document("a")], Vec::new()));
    let sent = stage.sent();
    assert_eq!(shown(&sent), vec![vec![document("a")]; 3]);
    assert!(sent.iter().all(|(_, batch)| batch.items.len() == 1), "{other} got nothing");
    answer(&mut stage, sent, &[(&supervisor(), RefusalCode::EvidenceMissing)]);
    assert!(stage.sent().is_empty());
    stage.event(Event::Evidence(release.clone(), vec![document("a")], Vec::new()));
    assert!(stage.sent().is_empty(), "nodes have seen it");
    stage.event(Event::Evidence(ReleaseId::new("suite-9").unwrap(), vec![document("b")], Vec::new()));
    stage.event(Event::Evidence(release.clone(), vec![document("a"), document("b")], Vec::new()));
    let sent = stage.sent();
    assert_eq!(shown(&sent), vec![vec![document("a"), document("b")]; 3]);
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release) && !stage.is_signed(&other));
}

/// What a node says of evidence is about what it was shown.
#[test]
fn who_wants_what_came_while_it_was_at_it_is_asked_again_at_once() {
    for code in [RefusalCode::EvidenceMissing, RefusalCode::NotYet] {
        let mut stage = Stage::attended(64);
        let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
        let sent = stage.sent();
        stage.event(Event::Evidence(release.clone(), vec![document("a")], Vec::new()));
        assert!(stage.sent().is_empty(), "a session under way goes on");
        answer(&mut stage, sent, &[(&supervisor(), code)]);
        let sent = stage.sent();
        assert_eq!(shown(&sent), vec![vec![document("a")]; 3], "{code}");
        // It has seen all that there is: now it waits.
        answer(&mut stage, sent, &[(&supervisor(), code)]);
        assert!(stage.sent().is_empty());
        assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    }
    // What is refused for good stays so.
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    stage.event(Event::Evidence(release.clone(), vec![document("a")], Vec::new()));
    answer(&mut stage, sent, &[(&supervisor(), RefusalCode::CustodianRefused)]);
    assert!(matches!(stage.outcome(&release), Some(Outcome::Refused(_))));
}

#[test]
fn evidence_that_comes_while_nodes_sign_is_not_in_the_way() {
    let mut stage = Stage::attended(64);
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    stage.event(Event::Evidence(release.clone(), vec![document("a")], Vec::new()));
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release));
    stage.event(Event::Evidence(release, vec![document("b")], Vec::new()));
    assert!(stage.sent().is_empty());
}

/// Two of three vendors must sign. One refuses for good, another would sign, and the supervisor waits.
fn one_refuses_for_good(stage: &mut Stage) -> (ReleaseId, BTreeSet<NodeId>) {
    let release = stage.submit(Class::ProductBuild, "suite", 1, 1);
    let sent = stage.sent();
    let asked = of_vendor(&sent);
    let refuses = asked.first().unwrap().clone();
    let codes = [(&refuses, RefusalCode::CustodianRefused), (&supervisor(), RefusalCode::EvidenceMissing)];
    answer(stage, sent, &codes);
    assert_eq!(stage.outcome(&release), None, "two other vendors may sign it");
    (release, asked)
}

#[test]
fn the_others_are_asked_when_one_refuses_for_good_although_somebody_waits() {
    let mut stage = Stage::attended(64);
    let (release, asked) = one_refuses_for_good(&mut stage);
    let sent = stage.sent();
    let refused = asked.first().unwrap();
    let third = of_vendor(&sent).into_iter().find(|node| !asked.contains(node)).expect("the third is asked");
    assert!(sent.len() == 3 && !of_vendor(&sent).contains(refused));
    let codes = [(&third, RefusalCode::CustodianRefused), (&supervisor(), RefusalCode::EvidenceMissing)];
    answer(&mut stage, sent, &codes);
    let Some(Outcome::Refused(refusals)) = stage.outcome(&release) else { panic!("{:?}", stage.seen) };
    let named: BTreeSet<_> = refusals.iter().map(|(node, _)| node).collect();
    assert_eq!(named, BTreeSet::from([refused, &third]));
}

#[test]
fn the_others_are_asked_once_for_each_that_refuses() {
    let mut stage = Stage::attended(64);
    let (release, _) = one_refuses_for_good(&mut stage);
    let sent = stage.sent();
    assert_eq!(sent.len(), 3);
    answer(&mut stage, sent, &[(&supervisor(), RefusalCode::EvidenceMissing)]);
    assert!(stage.sent().is_empty(), "two vendors sign it: all that is missing is the supervisor's evidence");
    assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    stage.event(Event::Evidence(release.clone(), vec![document("a")], Vec::new()));
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&release));
}

#[test]
fn what_is_undecided_holds_nobody_back_while_the_others_are_away() {
    let mut stage = Stage::attended(64);
    let third = id("vendor", "vendor-3");
    stage.event(Event::Detached(third.clone(), StreamId(1)));
    let (release, _) = one_refuses_for_good(&mut stage);
    assert!(stage.sent().is_empty());
    assert_eq!(stage.last_progress(&release).phase, Phase::AwaitingEvidence);
    let second = stage.submit(Class::ProductBuild, "suite", 2, 1);
    let sent = stage.sent();
    stage.reply_honestly(sent);
    assert!(stage.is_signed(&second));
    stage.event(Event::Published(second));
    stage.attach(&third, 1, 64);
    let sent = stage.sent();
    assert!(of_vendor(&sent).contains(&third));
    let codes = [(&third, RefusalCode::CustodianRefused), (&supervisor(), RefusalCode::EvidenceMissing)];
    answer(&mut stage, sent, &codes);
    assert!(matches!(stage.outcome(&release), Some(Outcome::Refused(_))));
}

/// A release of this product with so many bytes of content, as far as the engine knows.
fn submit(stage: &mut Stage, product: &str, sequence: u64, content_bytes: usize, evidence: Vec<Bytes>) {
    stage.event(Event::Submit(Submission {
        release_id: ReleaseId::new(format!("{product}-{sequence}")).unwrap(),
        requester: Requester::new("ci").unwrap(),
        release: Arc::new(release(Class::ProductBuild, product, sequence, 1)),
        content_bytes,
        entry: entry(),
        evidence,
        resumed: false,
    }));
}

/// The batches that were sent since the last look, by their items; all of them are signed.
fn batches(stage: &mut Stage) -> Vec<Vec<String>> {
    let sent = stage.sent();
    let of_supervisor = sent.iter().filter(|(node, _)| *node == supervisor());
    let items = |batch: &Batch| batch.items.iter().map(|item| item.release_id.to_string()).collect();
    let batches = of_supervisor.map(|(_, batch)| items(batch)).collect();
    stage.reply_honestly(sent);
    batches
}

/// A stage whose nodes come when all has been submitted.
fn attend(stage: &mut Stage) {
    for node in ["vendor-1", "vendor-2"] {
        stage.attach(&id("vendor", node), 1, 64);
    }
    stage.attach(&supervisor(), 1, 64);
}

#[test]
fn a_batch_holds_so_many_bytes_of_content_and_evidence() {
    let mib = 1 << 20;
    let mut stage = Stage::new();
    submit(&mut stage, "a", 1, mib, vec![Bytes::from(vec![0; mib])]);
    submit(&mut stage, "b", 1, mib, Vec::new());
    submit(&mut stage, "c", 1, mib, Vec::new());
    submit(&mut stage, "d", 1, 100, Vec::new());
    attend(&mut stage);
    assert_eq!(
        batches(&mut stage),
        [vec!["a-1", "b-1"], vec!["c-1", "d-1"]],
        "two and one, and the next would be over"
    );
    // Alone it may be larger than that: it has bounds of its own.
    let mut stage = Stage::new();
    submit(&mut stage, "a", 1, wire_limits::MAX_BATCH_BYTES + 1, Vec::new());
    submit(&mut stage, "b", 1, 100, Vec::new());
    attend(&mut stage);
    assert_eq!(batches(&mut stage), [["a-1"], ["b-1"]]);
}

#[test]
fn small_releases_do_not_keep_a_large_one_waiting() {
    let mut stage = Stage::new();
    submit(&mut stage, "a", 1, 100, Vec::new());
    submit(&mut stage, "b", 1, wire_limits::MAX_BATCH_BYTES, Vec::new());
    submit(&mut stage, "c", 1, 100, Vec::new());
    attend(&mut stage);
    // It does not fit behind the first; and then it is its turn.
    assert_eq!(batches(&mut stage), [["a-1"], ["b-1"]]);
    submit(&mut stage, "a", 2, 100, Vec::new());
    stage.event(Event::Published(ReleaseId::new("a-1").unwrap()));
    assert_eq!(batches(&mut stage), [["c-1"], ["a-2"]]);
}

/// As many of the largest releases as a batch has room for items, of one signature each.
#[test]
fn batches_of_the_largest_releases_fit_into_a_message() {
    let mut stage = Stage::new();
    let artifact = |number: usize| UnverifiedArtifact {
        name: format!("{}{number:04}", "f".repeat(251)),
        sha256: vec![1; 32],
    };
    for product in 0..5 {
        let release = UnverifiedRelease {
            class: Class::ProductBuild,
            product: format!("p{product}"),
            channel: "stable".into(),
            version: "1".into(),
            sequence: 1,
            issued_at: 1,
            expires_at: None,
            artifacts: (0..5_000).map(artifact).collect(),
            formats: vec![Format::Dsse],
        };
        let release = Arc::new(release.verify().unwrap());
        stage.event(Event::Submit(Submission {
            release_id: ReleaseId::new(format!("p{product}-1")).unwrap(),
            requester: Requester::new("ci").unwrap(),
            content_bytes: release_to_content(&release).encoded_len(),
            release,
            entry: entry(),
            evidence: vec![Bytes::from(vec![0; wire_limits::MAX_EVIDENCE_TOTAL_BYTES])],
            resumed: false,
        }));
    }
    attend(&mut stage);
    let mut items = 0;
    while items < 5 {
        let sent = stage.sent();
        let message = v1::CoordinatorMessage::from(&ToNode::Batch(sent[0].1.clone()));
        let bytes = message.encoded_len();
        assert!(bytes > wire_limits::MAX_BATCH_BYTES && bytes <= wire_limits::MAX_MESSAGE_BYTES, "{bytes}");
        items += sent.iter().filter(|(node, _)| *node == supervisor()).count();
        stage.reply_honestly(sent);
    }
    assert!(stage.sent().is_empty());
}

/// The largest quorum has so many commitments for each signature that they alone fill a batch.
#[test]
fn a_large_release_is_signed_in_parts_where_its_commitments_are_too_many() {
    let content_bytes = 2_300_000;
    let evidence = vec![Bytes::from(vec![0; wire_limits::MAX_EVIDENCE_TOTAL_BYTES])];
    let submission = |files, evidence| Submission {
        release_id: ReleaseId::new("suite-1").unwrap(),
        requester: Requester::new("ci").unwrap(),
        release: Arc::new(release(Class::ProductBuild, "suite", 1, files)),
        content_bytes,
        entry: entry(),
        evidence,
        resumed: false,
    };
    let signers: Vec<(u16, NodeId)> =
        (0..128_u16).map(|number| (number, id("vendor", &format!("vendor-{number}")))).collect();
    for (evidence, most) in [(evidence, 128), (Vec::new(), 230)] {
        let mut queue = Queue::default();
        assert!(queue.submit(submission(250, evidence.clone())));
        let choice = || Some(Choice { signers: signers.clone(), stock: 512 });
        let (_, planned) = queue.plan(Lane::BULK, |_, _| Expected::default(), |_| choice()).unwrap();
        let slots = planned[0].1.len();
        assert_eq!(slots, most);
        let commitments = slots * signers.len() * 64;
        let all = content_bytes + evidence.iter().map(Bytes::len).sum::<usize>() + commitments;
        assert!(all + limits::ITEM_BYTES <= wire_limits::MAX_MESSAGE_BYTES, "{all}");
        let (_, rest) = queue.plan(Lane::BULK, |_, _| Expected::default(), |_| choice()).unwrap();
        assert!(!rest[0].1.is_empty() && slots + rest[0].1.len() <= 251, "the rest follows");
    }
}
