//! When a head is cosigned, and when it is durable.

use super::*;

/// The same text under other signature lines is the same head; anything else behind that text is not.
#[tokio::test]
async fn the_own_head_comes_again_under_many_batches() {
    let mut story = Story::new().await;
    let first = story.nodes.batch(&QUORUM, &[release(1), release(2)]);
    let first = story.nodes.complete(ME, &first);
    let head = first.head.clone().unwrap();
    story.signs(first).await;
    let again = |story: &mut Story, sequence: u64, checkpoint: String| {
        let mut batch = story.nodes.batch(&QUORUM, &[release(sequence)]);
        batch.items[0].entry = None;
        batch.head = Some(LogHead { checkpoint, ..head.clone() });
        batch
    };
    story.cosign(0, NOW);
    let text = story.nodes.log.checkpoint(5).text();
    for signatures in ["\n— somebody AAAA\n", "\n— log.test/1 AAAA\n— x AAAA\n"] {
        // The head passes, and the request without an entry is what is wrong.
        let batch = again(&mut story, 3, format!("{text}{signatures}"));
        let reply = story.ask(batch).await;
        assert_eq!(refusal(&reply), RefusalCode::NotLogged);
    }
    for rest in ["", "\n", "extension\n\n— log.test/1 AAAA\n", "\nextension\n\n— log.test/1 AAAA\n"] {
        let batch = again(&mut story, 3, format!("{text}{rest}"));
        let reply = story.ask(batch).await;
        assert_eq!(refusal(&reply), RefusalCode::LogHeadUnsigned, "{rest:?}");
    }
}

/// A head that is ahead of the journal counts for the next proof, but nothing leaves for it until the journal has it.
#[tokio::test]
async fn a_head_that_could_not_be_written_is_written_with_the_next() {
    let mut story = Story::new().await;
    let batch = story.honest(1);
    let head = batch.head.clone().unwrap();
    let pending = story.me().receive(STREAM, batch, NOW);
    assert!(pending.log().is_some());
    let reply = story.me().release_shares(pending, Err("disk full".into()));
    assert_eq!(refusal(&reply), RefusalCode::Closed);
    assert_eq!(reply.witnessed, Some(Witnessed { size: 4, cosignature: None }));
    // It fails twice more: still nothing.
    for _ in 0..2 {
        story.me().reopen();
        let pending = story.me().receive_head(&head, NOW);
        assert!(pending.log().is_some(), "it is not durable yet");
        let (witnessed, refused) = story.me().witness(pending, Err("disk full".into()));
        assert_eq!((witnessed.cosignature, refused.unwrap().code), (None, RefusalCode::Closed));
    }
    story.me().reopen();
    let (witnessed, refused) = story.show(&head).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
    assert!(story.me().receive_head(&head, NOW).log().is_none(), "it is durable now");
    story.restart().await;
    assert_eq!(story.nodes.size(ME), 4);
}

/// A head that another message brought meanwhile, and that is on its way to the disk, is not cosigned with this answer.
#[tokio::test]
async fn a_head_that_is_being_written_is_not_cosigned() {
    let mut story = Story::new().await;
    let batch = story.honest(1);
    let pending = story.me().receive(STREAM, batch, NOW);
    _ = story.nodes.log.append_leaf(Hash([40; 32]));
    let head = story.nodes.log.head_for(4);
    let next = story.me().receive_head(&head, NOW);
    let records: Vec<&JournalRecord> = pending.records().iter().collect();
    story.journal.record(&records, pending.log()).await.unwrap();
    let reply = story.me().release_shares(pending, Ok(()));
    assert!(reply.answer.is_ok());
    assert_eq!(reply.witnessed, Some(Witnessed { size: 5, cosignature: None }));
    story.journal.record(&[], next.log()).await.unwrap();
    let (witnessed, refused) = story.me().witness(next, Ok(()));
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
}

/// The gate answers for itself: neither a node that waits for its peers nor one whose log forked has anything to cosign,
/// and a head that was taken before the fork was seen is refused after it.
#[tokio::test]
async fn nothing_is_cosigned_once_something_is_wrong() {
    let mut story = Story::new().await;
    let kept = story.me().gate().state().clone();
    let id = story.nodes.roster.node(ME).unwrap().id.clone();
    let build = |state: LogState| gate(&story.deployment, &story.nodes.log, &id, state);
    assert!(build(kept.clone()).cosignature(NOW).is_some());
    assert!(build(LogState { catching_up: Some(NOW), ..kept }).cosignature(NOW).is_none());
    _ = story.nodes.log.append_leaf(Hash([40; 32]));
    let mut fork = story.nodes.log.fork(3);
    _ = fork.append_leaf(Hash([41; 32]));
    let heads = [story.nodes.log.head_for(3), fork.head_for(3)];
    let [before, after] = heads.map(|head| story.me().receive_head(&head, NOW));
    story.journal.record(&[], after.log()).await.unwrap();
    for pending in [before, after] {
        let (witnessed, refused) = story.me().witness(pending, Ok(()));
        assert_eq!((witnessed.cosignature, refused.unwrap().code), (None, RefusalCode::LogForked));
    }
    assert!(story.me().gate().cosignature(NOW).is_none());
}

/// What is in the file holds whatever goes wrong above it.
#[tokio::test]
async fn the_journal_itself_takes_no_older_and_no_other_head() {
    let story = Story::new().await;
    let mut fork = story.nodes.log.fork(2);
    _ = fork.append_leaf(Hash([40; 32]));
    let origin = story.nodes.log.key().origin().clone();
    for head in [story.nodes.log.head_at(2), fork.head_at(3)] {
        let kept = KeptHead { head, note: "any".into() };
        let state = LogState { head: Some(kept), ..Default::default() };
        let log = Unsaved { origin: origin.clone(), state, revision: 9 };
        let error = story.journal.record(&[], Some(&log)).await.unwrap_err();
        assert!(error.to_string().contains("a newer or another head"), "{error}");
    }
}

#[tokio::test]
async fn a_paused_node_is_a_witness_and_signs_nothing() {
    let mut story = Story::new().await;
    story.me().pause("audit".into());
    let batch = story.honest(1);
    let (witnessed, refused) = story.show(batch.head.as_ref().unwrap()).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
    let reply = story.ask(batch).await;
    assert_eq!(refusal(&reply), RefusalCode::Paused);
    assert_eq!(reply.witnessed.unwrap().cosignature, None);
}

/// It has nothing to cosign with, and follows the log all the same: unsealed, it stands by what it took.
#[tokio::test]
async fn a_sealed_node_follows_the_log_and_cosigns_nothing() {
    let mut story = Story::new().await;
    let identity = story.seal();
    let batch = story.honest(1);
    let head = batch.head.clone().unwrap();
    let (witnessed, refused) = story.show(&head).await;
    assert_eq!((witnessed.size, witnessed.cosignature), (story.nodes.log.size(), None));
    assert_eq!(refused.unwrap().code, RefusalCode::Sealed);
    let reply = story.ask(batch).await;
    assert_eq!(refusal(&reply), RefusalCode::Sealed);
    assert_eq!(reply.witnessed.unwrap().cosignature, None);
    assert_eq!(story.me().status().condition, Condition::Sealed);

    story.me().unseal(identity);
    let (witnessed, refused) = story.show(&head).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
    let next = story.honest(2);
    let witnessed = story.signs(next).await;
    assert!(story.is_cosigned(&witnessed));
}

#[tokio::test]
async fn a_closed_node_is_no_witness() {
    let mut story = Story::new().await;
    story.me().close("its memory failed it".into());
    _ = story.nodes.log.append_leaf(Hash([40; 32]));
    for size in [3, 4] {
        let (witnessed, refused) = story.show(&story.nodes.log.head_between(3, size)).await;
        assert_eq!((witnessed.size, witnessed.cosignature), (3, None));
        assert_eq!(refused.unwrap().code, RefusalCode::Closed);
    }
}

/// A node that only witnesses has no decisions in its journal: its time goes up all the same, over restarts, and whatever
/// the clock says it does not cosign in the past.
#[tokio::test]
async fn times_of_cosignatures_never_go_back() {
    let mut story = Story::new().await;
    let head = story.nodes.log.head_for(3);
    let (witnessed, _) = story.show_at(&head, NOW + 100).await;
    assert_eq!(witnessed.cosignature.unwrap().time, NOW + 100, "also of a head that it has already");
    story.restart().await;
    let (journal, recovered) = Journal::open(story.journal.path()).await.unwrap();
    assert_eq!(recovered.newest_at, NOW + 100, "a clock far behind this closes the node");
    journal.close().await.unwrap();
    let (witnessed, _) = story.show_at(&head, NOW + 50).await;
    assert_eq!(witnessed.cosignature.unwrap().time, NOW + 100);
    assert!(story.is_cosigned(&witnessed));
    // A restore is noted by the same time.
    _ = story.nodes.log.append_leaf(Hash([40; 32]));
    story.cosign(ME, NOW);
    let (_, refused) = story.show_at(&story.nodes.log.head_for(3), NOW + 50).await;
    assert_eq!(refused.unwrap().code, RefusalCode::LogCatchingUp);
    assert_eq!(story.me().gate().state().catching_up, Some(NOW + 100));
    // The custodian vouches for the clock.
    story.resume(Some(story.nodes.log.head_at(4))).await.unwrap();
    let (witnessed, _) = story.show(&story.nodes.log.head_for(4)).await;
    assert_eq!(witnessed.cosignature.unwrap().time, NOW);
}

/// A line in this node's name that it did not write says nothing: anybody could stop it by writing one.
#[tokio::test]
async fn a_forged_cosignature_of_its_own_does_not_stop_a_node() {
    let mut story = Story::new().await;
    let peer = story.nodes.roster.node(4).unwrap().id.clone();
    let batch = story.honest(1);
    let head = batch.head.clone().unwrap();
    let text = story.nodes.log.checkpoint(4).text();
    let me = story.cosigner(ME);
    let signature = story.deployment.cast.identities[&peer].cosign(NOW, &text);
    let bytes = Cosignature { time: NOW, signature }.to_bytes();
    let line = [me.key_id().to_be_bytes().as_slice(), &bytes].concat();
    let line = {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("— {} {}\n", me.name(), STANDARD.encode(line))
    };
    let checkpoint = format!("{}{line}", head.checkpoint);
    let (witnessed, refused) = story.show(&LogHead { checkpoint, ..head }).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
}
