//! Heads that the node must not take.

use super::*;

/// Without this no refusal below means anything; and the cosignature is one that any C2SP verifier takes.
#[tokio::test]
async fn an_honest_batch_is_signed_and_its_head_cosigned() {
    let mut story = Story::new().await;
    let batch = story.honest(1);
    let witnessed = story.signs(batch).await;
    assert_eq!(witnessed.size, 4);
    assert!(story.is_cosigned(&witnessed));
    assert_eq!(witnessed.cosignature.unwrap().time, NOW);
    // The same text at another time, and another text, are not cosigned by it.
    let moved = Cosignature { time: NOW + 1, ..witnessed.cosignature.unwrap() };
    assert!(!story.is_cosigned(&Witnessed { cosignature: Some(moved), ..witnessed }));
    assert!(!story.is_cosigned(&Witnessed { size: 3, ..witnessed }));
    let kept = story.journal.log(story.nodes.log.key().origin()).await.unwrap().head.unwrap();
    assert_eq!(kept.head, story.nodes.log.head_at(4));
    assert_eq!(story.nodes.log.key().open(&kept.note).unwrap().head(), kept.head);
    assert_eq!(story.verdicts().await, ["permitted"]);
}

#[tokio::test]
async fn a_head_that_the_log_did_not_sign_is_refused() {
    let mut story = Story::new().await;
    let batch = story.honest(1);
    story.refuses("no head", Batch { head: None, ..batch }, RefusalCode::LogHeadMissing).await;
    let honest = story.nodes.log.head_for(3);
    let text = story.nodes.log.checkpoint(4).text();
    note_is_ours(&story, &text);
    let forged_text = text.replace("\n4\n", "\n5\n");
    let other_root = format!("{ORIGIN}\n4\n{}\n", Hash([9; 32]).to_base64());
    let signatures = honest.checkpoint.strip_prefix(&text).unwrap();
    let half = note(&text, ORIGIN, &SEED).replace("— log.test/1", "— log.test/9");
    for (what, checkpoint) in [
        ("nothing", String::new()),
        ("no note", "sign this".to_owned()),
        ("no signature", text.clone()),
        ("another size", format!("{forged_text}{signatures}")),
        ("another root", format!("{other_root}{signatures}")),
        ("a foreign key", note(&text, ORIGIN, &[6; 32])),
        ("a signature under another name", half),
        ("an extension line", note(&format!("{text}extension\n"), ORIGIN, &SEED)),
        ("a size with a zero before it", note(&text.replace("\n4\n", "\n04\n"), ORIGIN, &SEED)),
        ("more than a checkpoint may have", format!("{}{}", honest.checkpoint, "— x eA==\n".repeat(4_000))),
    ] {
        let mut batch = story.honest(2);
        batch.head = Some(LogHead { checkpoint, ..honest.clone() });
        story.refuses(what, batch, RefusalCode::LogHeadUnsigned).await;
    }
    // What was refused is used up and in the log all the same; the next one is signed.
    let batch = story.honest(30);
    story.signs(batch).await;
}

/// Otherwise the notes above would be refused for another reason than the one that they are named for.
fn note_is_ours(story: &Story, text: &str) {
    assert_eq!(story.nodes.log.key().open(&note(text, ORIGIN, &SEED)).unwrap().text(), text);
}

#[tokio::test]
async fn another_log_is_refused() {
    let mut story = Story::new().await;
    for (origin, seed) in [("log.test/2", SEED), ("log.test/2", [6; 32])] {
        let mut other = ScriptedLog::new(origin, seed);
        story.nodes.log.leaves().iter().for_each(|leaf| _ = other.append_leaf(*leaf));
        let mut batch = story.nodes.batch(&QUORUM, &[release(1)]);
        batch.items[0].entry = Some(other.log_release(&release(1), &story.nodes.terms(&release(1))));
        other.complete(&mut batch, 3);
        story.refuses(origin, batch, RefusalCode::LogOrigin).await;
    }
    let batch = story.honest(2);
    story.signs(batch).await;
}

#[tokio::test]
async fn an_older_head_is_refused_also_after_a_restart() {
    let mut story = Story::new().await;
    let first = story.honest(1);
    let older = first.head.clone();
    story.signs(first).await;
    let batch = story.honest(2);
    story.signs(batch).await;
    for _ in 0..2 {
        let mut replayed = story.honest(3);
        replayed.head.clone_from(&older);
        let refusal = story.refuses("replayed", replayed, RefusalCode::LogBehind).await;
        assert!(refusal.reason.contains("4 entries and this node has seen 5"), "{}", refusal.reason);
        let (witnessed, refused) = story.show(older.as_ref().unwrap()).await;
        assert_eq!(refused.unwrap().code, RefusalCode::LogBehind);
        assert_eq!((witnessed.size, witnessed.cosignature), (5, None), "its size goes with every answer");
        story.restart().await;
    }
    let batch = story.honest(4);
    story.signs(batch).await;
}

#[tokio::test]
async fn a_gap_says_where_the_proof_must_begin() {
    let mut story = Story::new().await;
    for from in [0, 2, 4, 99] {
        let mut batch = story.honest(1);
        batch.head = Some(story.nodes.log.head_between(from, story.nodes.log.size()));
        let pending = story.me().receive(STREAM, batch.clone(), NOW);
        assert!(pending.records().is_empty() && pending.log().is_none(), "it costs no write");
        _ = story.me().release_shares(pending, Ok(()));
        let refusal = story.refuses("gap", batch, RefusalCode::LogGap).await;
        assert!(refusal.reason.contains("own head at 3"), "{}", refusal.reason);
    }
    let batch = story.honest(2);
    let witnessed = story.signs(batch).await;
    // The own head once more has nothing to prove, wherever its proof begins: another coordinator may have shown it.
    let (again, refused) = story.show(&story.nodes.log.head_between(1, witnessed.size)).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&again));
}

#[tokio::test]
async fn after_downtime_an_ordinary_proof_is_enough() {
    let mut story = Story::new().await;
    (0..300_u16).for_each(|number| {
        _ = story.nodes.log.append_leaf(sha256(&number.to_be_bytes()));
    });
    story.restart().await;
    assert_eq!(story.nodes.size(ME), 3);
    let batch = story.honest(1);
    let witnessed = story.signs(batch).await;
    assert_eq!(witnessed.size, 304);
    assert!(story.is_cosigned(&witnessed));
}

#[tokio::test]
async fn a_log_that_changed_its_past_is_refused() {
    let mut story = Story::new().await;
    let batch = story.honest(1);
    story.signs(batch).await;
    for kept in 0..4 {
        let mut fork = story.nodes.log.fork(kept);
        (kept..6).for_each(|number| _ = fork.append_leaf(Hash([50 + u8::try_from(number).unwrap(); 32])));
        let mut batch = story.nodes.batch(&QUORUM, &[release(2)]);
        batch.items[0].entry = Some(fork.log_release(&release(2), &story.nodes.terms(&release(2))));
        fork.complete(&mut batch, 4);
        story.refuses("another past", batch, RefusalCode::LogInconsistent).await;
    }
    // The honest head, with a proof that is torn, empty or too long.
    let proof = story.nodes.log.head_for(4).consistency;
    assert!(!proof.is_empty());
    for consistency in [Vec::new(), proof[1..].to_vec(), [proof.clone(), proof.clone()].concat()] {
        let mut batch = story.honest(3);
        batch.head.as_mut().unwrap().consistency = consistency;
        story.refuses("a torn proof", batch, RefusalCode::LogInconsistent).await;
    }
    let batch = story.honest(4);
    story.signs(batch).await;
}

/// Two heads of one size, both signed by the log: the node closes, keeps both as evidence, and stays closed until its
/// custodian vouches.
#[tokio::test]
async fn a_forked_log_closes_the_node() {
    let mut story = Story::new().await;
    let mut fork = story.nodes.log.fork(2);
    let mut batch = story.nodes.batch(&QUORUM, &[release(1)]);
    batch.items[0].entry = Some(fork.log_release(&release(1), &story.nodes.terms(&release(1))));
    fork.complete(&mut batch, 3);
    let refusal = story.refuses("a fork", batch, RefusalCode::LogForked).await;
    assert!(refusal.reason.contains("resume") && refusal.reason.contains("log_forks"), "{}", refusal.reason);
    for _ in 0..2 {
        let status = story.me().status();
        assert_eq!((status.condition, status.reason), (Condition::Closed, refusal.reason.clone()));
        // What is honest is refused too, and so is the head.
        let honest = story.honest(2);
        let (witnessed, refused) = story.show(honest.head.as_ref().unwrap()).await;
        assert_eq!((witnessed.size, witnessed.cosignature), (3, None));
        assert_eq!(refused.unwrap().code, RefusalCode::LogForked);
        story.refuses("closed", honest, RefusalCode::LogForked).await;
        // A journal that works again does not open it.
        story.me().reopen();
        story.restart().await;
    }
    let key = story.nodes.log.key();
    let evidence = story.journal.log(key.origin()).await.unwrap().fork.unwrap();
    let heads = [&evidence.own, &evidence.other].map(|kept| key.open(&kept.note).unwrap().head());
    assert_eq!(heads, [story.nodes.log.head_at(3), fork.head_at(3)]);
    story.resume(None).await.unwrap();
    let batch = story.honest(3);
    story.signs(batch).await;
    story.restart().await;
    let batch = story.honest(4);
    story.signs(batch).await;
}

/// A coordinator shows two nodes different logs of one size. Each takes the first that it sees, for it cannot know; the
/// first look at the other's head closes it.
#[tokio::test]
async fn two_nodes_with_two_logs_close_when_they_see_each_others() {
    let (mut one, mut other) = (Story::new().await, Story::new().await);
    other.nodes.log = one.nodes.log.fork(3);
    _ = one.nodes.log.append_leaf(Hash([40; 32]));
    _ = other.nodes.log.append_leaf(Hash([41; 32]));
    let heads = [one.nodes.log.head_for(3), other.nodes.log.head_for(3)];
    for (story, own) in [(&mut one, &heads[0]), (&mut other, &heads[1])] {
        let (witnessed, refused) = story.show(own).await;
        assert_eq!((witnessed.size, refused), (4, None));
    }
    for (story, foreign) in [(&mut one, &heads[1]), (&mut other, &heads[0])] {
        let (witnessed, refused) = story.show(&LogHead { from: 4, ..foreign.clone() }).await;
        assert_eq!(refused.unwrap().code, RefusalCode::LogForked);
        assert_eq!((witnessed.size, witnessed.cosignature), (4, None));
        assert_eq!(story.me().status().condition, Condition::Closed);
        let batch = story.honest(1);
        story.refuses("closed", batch, RefusalCode::LogForked).await;
    }
}

/// Two batches in one transaction of the journal: the second shows that the log forked, and the first gets nothing.
#[tokio::test]
async fn a_fork_in_the_same_breath_stops_what_was_decided_before_it() {
    let mut story = Story::new().await;
    let honest = story.honest(1);
    let mut fork = story.nodes.log.fork(3);
    _ = fork.append_leaf(Hash([40; 32]));
    let mut forked = story.honest(2);
    forked.head = Some(LogHead { from: 4, ..fork.head_for(3) });
    let pending = [honest, forked].map(|batch| story.me().receive(STREAM, batch, NOW));
    let log = pending[1].log().unwrap().clone();
    let records: Vec<&JournalRecord> = pending.iter().flat_map(|pending| pending.records()).collect();
    story.journal.record(&records, Some(&log)).await.unwrap();
    for pending in pending {
        let reply = story.me().release_shares(pending, Ok(()));
        assert_eq!(refusal(&reply), RefusalCode::LogForked);
        assert_eq!(reply.witnessed.unwrap().cosignature, None);
    }
}
