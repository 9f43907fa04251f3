//! A node that was restored from a backup, and the word of its custodian.

use super::*;

impl Story {
    /// The custodian restores a backup, and says so.
    async fn restored(&mut self, at: u64) {
        self.journal.set_catching_up(self.nodes.log.key().origin(), at).await.unwrap();
        self.restart().await;
    }

    /// Neither head nor batch gets anything from a node that waits for its peers.
    async fn waits(&mut self, what: &str, sequence: u64) {
        let status = self.me().status();
        assert_eq!(status.condition, Condition::Closed, "{what}");
        assert!(status.reason.contains("restored"), "{}", status.reason);
        let head = self.nodes.log.head_for(self.nodes.size(ME));
        let (witnessed, refused) = self.show(&head).await;
        assert_eq!(refused.unwrap().code, RefusalCode::LogCatchingUp, "{what}");
        assert_eq!(witnessed.cosignature, None, "{what}");
        let mut batch = self.nodes.batch(&QUORUM, &[release(sequence)]);
        // Logged before: the cosignatures are of that head.
        batch.items[0].entry = None;
        batch.head = Some(head);
        self.refuses(what, batch, RefusalCode::LogCatchingUp).await;
    }
}

/// A restored node waits for a head that as many others of each organisation as it takes to sign have cosigned since: here
/// two vendors beside itself, and two supervisors. It needs no other word, and stays at it over restarts.
#[tokio::test]
async fn a_restored_node_waits_for_its_peers() {
    let mut story = Story::new().await;
    story.restored(NOW).await;
    story.nodes.batch(&QUORUM, &[release(1)]);
    let skew = rutli_signer_node::limits::MAX_CLOCK_SKEW_S;
    let since = NOW + 1;
    let refresh = |story: &mut Story| _ = story.nodes.log.append_leaf(Hash([80; 32]));
    refresh(&mut story);
    story.waits("nobody cosigned", 2).await;
    for peers in [&[0, 1][..], &[0, 4, 5], &[0, 1, 2], &[3], &[0, 1, 4], &[0, 1, 3, 4], &[0, 1, 2, 3, 5]] {
        refresh(&mut story);
        peers.iter().for_each(|peer| story.cosign(*peer, since));
        // Own cosignatures vouch for nothing.
        story.waits("too few, or of one organisation only", 2).await;
    }
    for (time, what) in [
        (NOW - skew, "before it was restored, by the skew of clocks"),
        (NOW, "in the second in which it was restored"),
        (NOW + skew + 1, "in the future"),
    ] {
        refresh(&mut story);
        [0, 1, 5].into_iter().for_each(|peer| story.cosign(peer, since));
        story.cosign(4, time);
        story.waits(what, 2).await;
    }
    story.restart().await;
    story.waits("after a restart", 2).await;
    refresh(&mut story);
    for (peer, time) in [(0, since), (1, since), (4, NOW + skew), (5, since)] {
        story.cosign(peer, time);
    }
    let (witnessed, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
    assert_eq!(story.me().status().condition, Condition::Ready);
    story.restart().await;
    assert_eq!(story.me().status().condition, Condition::Ready);
    let batch = story.honest(3);
    story.signs(batch).await;
}

/// Without a key there is no quorum that could vouch, whoever cosigned.
#[tokio::test]
async fn a_restored_node_without_a_key_waits_too() {
    let mut story = Story::new().await;
    [0, 1, 2, 4, 5].into_iter().for_each(|peer| story.cosign(peer, NOW));
    let id = story.nodes.roster.node(ME).unwrap().id.clone();
    let kept = LogState { catching_up: Some(NOW), ..LogState::default() };
    let gate = gate(&story.deployment, &story.nodes.log, &id, kept);
    let mut keyless = Signer::new(id, policy(""), Marks::default(), gate, None);
    let pending = keyless.receive_head(&story.nodes.log.head_for(0), NOW);
    let (witnessed, refused) = keyless.witness(pending, Ok(()));
    assert_eq!((witnessed.cosignature, refused.unwrap().code), (None, RefusalCode::LogCatchingUp));
}

/// The head that it catches up with must extend what the backup has, whoever cosigned it; and may be that very head.
#[tokio::test]
async fn a_restored_node_catches_up_with_its_own_log_only() {
    let mut story = Story::new().await;
    let honest = story.nodes.log.fork(3);
    story.restored(NOW).await;
    story.nodes.log = honest.fork(2);
    (0..3).for_each(|_| _ = story.nodes.log.append_leaf(Hash([81; 32])));
    [0, 1, 4, 5].into_iter().for_each(|peer| story.cosign(peer, NOW + 1));
    let (_, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!(refused.unwrap().code, RefusalCode::LogInconsistent);
    story.nodes.log = honest;
    let (_, refused) = story.show(&story.nodes.log.head_between(2, 2)).await;
    assert_eq!(refused.unwrap().code, RefusalCode::LogBehind);
    [0, 1, 4, 5].into_iter().for_each(|peer| story.cosign(peer, NOW + 1));
    let (witnessed, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!((witnessed.size, refused), (3, None));
    story.restart().await;
    assert_eq!(story.me().status().condition, Condition::Ready, "that is durable too");
}

/// Restored, and nobody said so: the node finds its own cosignature of a head that it does not know.
#[tokio::test]
async fn a_node_notices_by_itself_that_it_was_restored() {
    let mut story = Story::new().await;
    let backup = tempfile::tempdir().unwrap();
    story.journal.close().await.unwrap();
    let file = "node.sqlite";
    std::fs::copy(story.folder.path().join(file), backup.path().join(file)).unwrap();
    let (journal, _) = Journal::open(&story.folder.path().join(file)).await.unwrap();
    story.journal = journal;
    let batch = story.honest(1);
    let witnessed = story.signs(batch).await;
    assert_eq!(witnessed.size, 4);
    // Its own head with its own cosignature is nothing new.
    assert!(story.nodes.log.cosign(story.cosigner(ME), witnessed.cosignature.unwrap()));
    let (_, refused) = story.show(&story.nodes.log.head_for(4)).await;
    assert_eq!(refused, None);
    let cosigned = story.nodes.log.head_for(3);
    story.journal.close().await.unwrap();
    story.folder = backup;
    story.restart().await;
    assert_eq!(story.nodes.size(ME), 3);
    let (witnessed, refused) = story.show(&cosigned).await;
    assert_eq!(refused.unwrap().code, RefusalCode::LogCatchingUp);
    assert_eq!((witnessed.size, witnessed.cosignature), (3, None));
    story.restart().await;
    story.waits("over restarts", 2).await;
    [0, 1, 4, 5].into_iter().for_each(|peer| story.cosign(peer, NOW + 1));
    let (witnessed, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!(refused, None);
    assert!(story.is_cosigned(&witnessed));
}

/// Every node of an organisation may be needed: a quorum that is all of them waits for all others, and never for itself.
#[tokio::test]
async fn a_restored_node_of_a_small_organisation_waits_for_all_others() {
    let cast = Cast::new(&[("lone", 1, 1), ("pair", 2, 2)], &["release"], [1; 32]).unwrap();
    let keys = cast.run().unwrap();
    let deployment = Deployment { cast, keys };
    let roster = deployment.keys.rosters[0].roster().clone();
    let ids: Vec<_> = roster.nodes().map(|node| node.id.clone()).collect();
    assert_eq!(
        ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["lone/lone-1", "pair/pair-1", "pair/pair-2"]
    );
    for (me, peers) in [(0, [1, 2]), (1, [0, 2])] {
        for cosigners in [&peers[..1], &peers[1..], &peers[..]] {
            let mut log = ScriptedLog::new(ORIGIN, SEED);
            _ = log.append_leaf(Hash([1; 32]));
            for peer in cosigners {
                let node = roster.node(*peer).unwrap();
                let text = log.checkpoint(1).text();
                let signature = deployment.cast.identities[&node.id].cosign(NOW + 1, &text);
                let cosigner = Cosigner::new(node.id.to_string(), &node.identity.to_bytes()).unwrap();
                assert!(log.cosign(cosigner, Cosignature { time: NOW + 1, signature }));
            }
            let kept = LogState { catching_up: Some(NOW), ..LogState::default() };
            let mut gate = gate(&deployment, &log, &ids[me], kept);
            let taken = gate.take(Some(&log.head_for(0)), std::iter::once(&roster), NOW).map(drop);
            let wanted = if cosigners.len() == 2 { Ok(()) } else { Err(RefusalCode::LogCatchingUp) };
            assert_eq!(taken.map_err(|refusal| refusal.code), wanted, "{} with {cosigners:?}", ids[me]);
        }
    }
}

/// Two of two are restored, and each waits for the other: their custodians compare the newest head, and vouch for it. From
/// there on the log is followed as ever.
#[tokio::test]
async fn a_custodian_vouches_for_a_head_by_name() {
    let mut story = Story::new().await;
    story.restored(NOW).await;
    (0..4).for_each(|number| _ = story.nodes.log.append_leaf(Hash([80 + number; 32])));
    let honest = story.nodes.log.fork(7);
    story.waits("nobody cosigned", 1).await;
    // A plain word is not enough, nor is one against what the node has seen itself.
    story.resume(None).await.unwrap();
    story.waits("a head must be named", 2).await;
    let own = story.nodes.log.head_at(3);
    let behind = story.resume(Some(story.nodes.log.head_at(2))).await.unwrap_err();
    assert_eq!(behind, CannotVouch::Behind { given: 2, own: 3 });
    let other = story.resume(Some(Head { root: Hash([9; 32]), ..own })).await.unwrap_err();
    assert_eq!(other, CannotVouch::OtherRoot { size: 3, own: own.root });
    story.nodes.log = honest.fork(7);
    // What coordinators are shown: the checkpoint that it has, unless its custodian decided otherwise.
    let shown = |story: &mut Story| {
        let kept = story.me().gate().kept();
        (kept.size, story.nodes.log.key().open(&kept.checkpoint).ok().map(|checkpoint| checkpoint.head()))
    };
    assert_eq!(shown(&mut story), (3, Some(own)));
    // Mistyped: no log of this name has that head, and it can be said again.
    story.resume(Some(Head { size: 1_000, root: Hash([9; 32]) })).await.unwrap();
    let (witnessed, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!((witnessed.size, witnessed.cosignature), (1_000, None));
    assert_eq!(refused.unwrap().code, RefusalCode::LogBehind);
    story.resume(Some(story.nodes.log.head_at(5))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(story.me().status().condition, Condition::Ready);
        assert_eq!(story.me().gate().head(), story.nodes.log.head_at(5));
        assert!(story.me().gate().cosignature(NOW).is_none(), "the log has not signed it yet");
        assert_eq!(shown(&mut story), (5, None));
        story.restart().await;
    }
    // What does not extend it is refused, whatever it extends: here the own head of three entries.
    story.nodes.log = honest.fork(4);
    (0..4).for_each(|_| _ = story.nodes.log.append_leaf(Hash([90; 32])));
    for head in [story.nodes.log.head_between(5, 8), story.nodes.log.head_between(5, 5)] {
        let (witnessed, refused) = story.show(&head).await;
        assert_eq!(refused.unwrap().code, RefusalCode::LogInconsistent);
        assert_eq!((witnessed.size, witnessed.cosignature), (5, None));
    }
    story.nodes.log = honest;
    let (_, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!(refused.unwrap().code, RefusalCode::LogGap);
    let batch = story.honest(20);
    let witnessed = story.signs(batch).await;
    assert!(story.is_cosigned(&witnessed));
    assert_eq!(story.me().gate().state().vouched, None);
    story.restart().await;
    assert_eq!(story.me().gate().head(), story.nodes.log.head_at(8));
    assert_eq!(shown(&mut story), (8, Some(story.nodes.log.head_at(8))));
    let root = story.nodes.log.head_at(5).root;
    let vouches = [format!("{NOW} 1000 {} 3 {NOW}", Hash([9; 32])), format!("{NOW} 5 {root} 3")];
    assert_eq!(story.vouches().await, vouches);
}

/// The head that it has is the newest there is: the same word opens the node, and that very head is cosigned.
#[tokio::test]
async fn a_custodian_vouches_for_the_own_head() {
    let mut story = Story::new().await;
    story.restored(NOW).await;
    story.resume(Some(story.nodes.log.head_at(3))).await.unwrap();
    story.restart().await;
    assert_eq!(story.me().gate().state().vouched, None);
    let (witnessed, refused) = story.show(&story.nodes.log.head_for(3)).await;
    assert_eq!((witnessed.size, refused), (3, None));
    assert!(story.is_cosigned(&witnessed));
    let batch = story.honest(1);
    story.signs(batch).await;
}
