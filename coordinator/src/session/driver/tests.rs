//! What the driver adds to the engine: heads of the log on their way to nodes, and what it believes that they keep.

use rutli_log::{check_consistency, check_inclusion};
use rutli_wire::link::KeptLog;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::testing::{PATIENCE, log_signer, nodes::Core, request};

/// A stream of a node that the test itself is.
struct Link {
    node: NodeId,
    stream: StreamId,
    inbox: Receiver<ToNode>,
}

impl Link {
    async fn attach(core: &Core, name: &str, log_size: u64, room: usize) -> Self {
        let node = NodeId::new(name.split('-').next().unwrap(), name).unwrap();
        let (outbox, inbox) = mpsc::channel(room);
        let status = NodeStatus {
            condition: rutli_wire::link::Condition::Ready,
            reason: String::new(),
            keys: Vec::new(),
            warning: String::new(),
        };
        let stream = core.sessions.attach(node.clone(), "1".into(), status, log_size, outbox).await.unwrap();
        Self { node, stream, inbox }
    }

    async fn head(&mut self) -> LogHead {
        match self.inbox.recv().await {
            Some(ToNode::Head(head)) => head,
            other => panic!("{other:?}"),
        }
    }

    async fn says(&self, core: &Core, size: u64, refusal: Option<RefusalCode>) {
        let refusal = refusal.map(|code| Refusal::new(code, ""));
        let witnessed = Witnessed { size, cosignature: None };
        core.sessions.received(&self.node, self.stream, FromNode::Head(witnessed, refusal)).await;
    }
}

async fn core() -> (tempfile::TempDir, Core) {
    let folder = tempfile::tempdir().unwrap();
    let (core, _publisher) = Core::open(folder.path()).await.unwrap();
    (folder, core)
}

/// Adds so many entries.
async fn grow(core: &Core, count: u64) {
    for _ in 0..count {
        let size = core.store.log().newest().head().size;
        let node = NodeId::new("other", format!("n{size}")).unwrap();
        core.store.culprit(&node, Some(("x".into(), 1)), format!("entry {size}").into_bytes()).await.unwrap();
    }
}

/// It is the newest head, proved from there.
fn assert_head(core: &Core, head: &LogHead, from: u64) {
    let log = core.store.log();
    assert_eq!(head.from, from);
    assert_eq!(head.checkpoint, log.newest().to_note());
    check_consistency(&log.head_at(from).unwrap(), &log.newest().head(), &head.consistency).unwrap();
}

#[tokio::test]
async fn heads_are_proved_from_what_a_node_is_believed_to_keep() {
    let (_folder, core) = core().await;
    let mut link = Link::attach(&core, "vendor-1", 0, 16).await;
    grow(&core, 4).await;
    let (newest, asked) = core.sessions.cosign().await.unwrap();
    assert_eq!((newest, asked), (core.store.log().newest(), vec![link.node.clone()]));
    assert_head(&core, &link.head().await, 0);
    // It is believed to have taken it before it says so …
    grow(&core, 3).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 5);
    // … until it says that it has not.
    link.says(&core, 0, Some(RefusalCode::LogGap)).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 0);
    // An answer that is late does not set it back.
    link.says(&core, 5, None).await;
    grow(&core, 1).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 8);
    // One that knows more from elsewhere is believed, too.
    link.says(&core, 2, Some(RefusalCode::LogGap)).await;
    link.says(&core, 6, None).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 6);
}

#[tokio::test]
async fn a_node_that_has_kept_a_head_gets_the_rest() {
    let (_folder, core) = core().await;
    grow(&core, 9).await;
    let mut link = Link::attach(&core, "vendor-1", 4, 16).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 4);
}

#[tokio::test]
async fn a_node_with_a_longer_log_is_told_what_there_is() {
    let (_folder, core) = core().await;
    grow(&core, 2).await;
    let mut link = Link::attach(&core, "vendor-1", u64::MAX, 16).await;
    for _ in 0..2 {
        core.sessions.cosign().await.unwrap();
        let head = link.head().await;
        assert_eq!((head.from, head.consistency.len()), (u64::MAX, 0));
        assert_eq!(head.checkpoint, core.store.log().newest().to_note());
        grow(&core, 1).await;
    }
    // It said so by mistake, or was set up anew.
    link.says(&core, 1, Some(RefusalCode::LogGap)).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 1);
}

/// Its custodian has led it back.
#[tokio::test]
async fn a_node_that_takes_a_head_contradicts_nothing() {
    let (_folder, core) = core().await;
    let log = core.store.log();
    let link = Link::attach(&core, "vendor-1", 3, 16).await;
    let other = log_signer().sign(Head { size: 3, root: rutli_log::Hash([7; 32]) }).to_note();
    log.kept_by(&link.node, &KeptLog { size: 3, checkpoint: other });
    link.says(&core, 3, Some(RefusalCode::Paused)).await;
    link.says(&core, 3, None).await;
    core.sessions.nodes().await;
    log.stop_if_contradicted(None);
    assert_eq!(log.stopped(), None);
}

/// Another coordinator showed the node a head since it attached: it attaches again, and shows that one.
#[tokio::test]
async fn a_node_that_was_shown_another_log_attaches_again() {
    use RefusalCode::{LogBehind, LogForked, LogGap, LogInconsistent};
    let (_folder, core) = core().await;
    grow(&core, 4).await;
    let own = core.store.log().newest().head().size;
    for (kept, code, again) in [
        // It showed that when it attached.
        (3, LogForked, false),
        (3, LogInconsistent, false),
        (own, LogForked, true),
        (4, LogInconsistent, true),
        // This log's own heads made it go on.
        (own, LogBehind, false),
        (own + 1, LogGap, false),
        (own + 1, LogBehind, true),
    ] {
        let mut link = Link::attach(&core, "vendor-1", 3, 16).await;
        link.says(&core, kept, Some(code)).await;
        core.sessions.nodes().await;
        while link.inbox.try_recv().is_ok() {}
        assert_eq!(link.inbox.is_closed(), again, "{kept} {code}");
    }
}

#[tokio::test]
async fn an_earlier_stream_says_nothing_of_this_one() {
    let (_folder, core) = core().await;
    grow(&core, 4).await;
    let first = Link::attach(&core, "vendor-1", 0, 16).await;
    let mut second = Link::attach(&core, "vendor-1", 3, 16).await;
    first.says(&core, 0, Some(RefusalCode::LogCatchingUp)).await;
    core.sessions.restored(core.store.log().newest()).await.unwrap();
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &second.head().await, 3);
    core.sessions.detach(&first.node, first.stream).await;
    let (_, asked) = core.sessions.cosign().await.unwrap();
    assert_eq!(asked, [second.node.clone()]);
    core.sessions.detach(&second.node, second.stream).await;
    let (_, asked) = core.sessions.cosign().await.unwrap();
    assert!(asked.is_empty());
}

#[tokio::test]
async fn only_nodes_that_catch_up_get_the_cosigned_head() {
    let (_folder, core) = core().await;
    let mut restored = Link::attach(&core, "vendor-1", 0, 16).await;
    let mut other = Link::attach(&core, "vendor-2", 0, 16).await;
    restored.says(&core, 0, Some(RefusalCode::LogCatchingUp)).await;
    other.says(&core, 0, Some(RefusalCode::Paused)).await;
    core.sessions.restored(core.store.log().newest()).await.unwrap();
    assert_head(&core, &restored.head().await, 0);
    core.sessions.nodes().await;
    assert!(other.inbox.try_recv().is_err());
    restored.says(&core, 1, None).await;
    core.sessions.restored(core.store.log().newest()).await.unwrap();
    core.sessions.nodes().await;
    assert!(restored.inbox.try_recv().is_err(), "it has caught up");
}

/// The cosigned head may be on its way before the node has said where its own is; the next round may be a minute away.
#[tokio::test]
async fn a_node_that_catches_up_gets_the_cosigned_head_again_from_where_its_own_is() {
    let (_folder, core) = core().await;
    grow(&core, 5).await;
    let mut link = Link::attach(&core, "vendor-1", 2, 16).await;
    link.says(&core, 2, Some(RefusalCode::LogCatchingUp)).await;
    core.sessions.cosign().await.unwrap();
    assert_head(&core, &link.head().await, 2);
    let newest = core.store.log().newest();
    assert_eq!(core.sessions.restored(newest.clone()).await, Ok(1));
    assert_head(&core, &link.head().await, newest.head().size);
    link.says(&core, 2, Some(RefusalCode::LogCatchingUp)).await;
    link.says(&core, 2, Some(RefusalCode::LogGap)).await;
    assert_head(&core, &link.head().await, 2);
    // Whoever says nothing else is not sent the same for ever.
    link.says(&core, 2, Some(RefusalCode::LogGap)).await;
    core.sessions.nodes().await;
    assert!(link.inbox.try_recv().is_err());
}

#[tokio::test]
async fn a_node_that_does_not_read_loses_its_stream_alone() {
    let (_folder, core) = core().await;
    let mut silent = Link::attach(&core, "vendor-1", 0, 1).await;
    let mut other = Link::attach(&core, "vendor-2", 0, 16).await;
    for _ in 0..3 {
        grow(&core, 1).await;
        core.sessions.cosign().await.unwrap();
        other.head().await;
    }
    assert!(matches!(silent.inbox.recv().await, Some(ToNode::Head(_))));
    assert!(silent.inbox.recv().await.is_none());
    let (_, asked) = core.sessions.cosign().await.unwrap();
    assert_eq!(asked, [other.node.clone()]);
}

#[tokio::test]
async fn a_batch_has_one_head_and_the_proofs_of_all_its_entries() {
    let (_folder, core) = core().await;
    grow(&core, 300).await;
    let nodes = core.attach_all().await;
    core.sessions.cosign().await.unwrap();
    let mut ids = Vec::new();
    for sequence in 1..=3 {
        ids.push(core.ask(request(&format!("job-{sequence}"), sequence)).await.unwrap().release_id);
    }
    for id in &ids {
        // Each node has checked the proofs of each batch before it signed.
        assert_eq!(core.ended(id).await.state(), rutli_wire::v1::ReleaseState::Signed);
    }
    let size = core.store.log().newest().head().size;
    assert_eq!(size, 301 + 3 * 3);
    for node in &nodes {
        let heads = node.offered.lock().unwrap().clone();
        let key = log_signer().public();
        let sizes: Vec<u64> =
            heads.iter().map(|head| key.open(&head.checkpoint).unwrap().head().size).collect();
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert!(
            heads.iter().skip(1).zip(&sizes).all(|(head, before)| head.from == *before),
            "no gaps: {heads:?}"
        );
    }
}

#[tokio::test]
async fn a_node_that_was_believed_to_be_further_signs_with_the_next_proof() {
    let (_folder, core) = core().await;
    grow(&core, 5).await;
    let nodes = core.attach_all().await;
    core.sessions.cosign().await.unwrap();
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    core.ended(&id).await;
    // All of them forget, as a node does whose disk was replaced, while their streams go on.
    for node in &nodes {
        *node.kept.lock().unwrap() = Head::EMPTY;
    }
    let id = core.ask(request("job-2", 2)).await.unwrap().release_id;
    let ended = tokio::time::timeout(PATIENCE, core.ended(&id)).await.unwrap();
    assert_eq!(ended.state(), rutli_wire::v1::ReleaseState::Signed);
    let gaps = nodes.iter().flat_map(|node| node.offered.lock().unwrap().clone());
    assert!(gaps.filter(|head| head.from == 0).count() > nodes.len());
}

/// The engine's clones of an item are the driver's to fill: what a batch proves is what the node asks for.
#[tokio::test]
async fn nodes_of_one_batch_share_its_proofs_and_have_their_own_beginning() {
    let (_folder, core) = core().await;
    grow(&core, 20).await;
    let (log, newest) = (core.store.log().clone(), core.store.log().newest());
    let (internal, _computed) = mpsc::unbounded_channel();
    let (notices, _) = mpsc::channel(1);
    let mut driver = Driver {
        engine: Engine::new(BTreeMap::new(), None),
        clock: Instant::now(),
        time: Clock::new(|| 1),
        outboxes: HashMap::new(),
        waiting: HashMap::new(),
        notices,
        internal,
        log: log.clone(),
        proved: None,
        restored: None,
        heads: BTreeMap::new(),
    };
    let (sender, _inbox) = mpsc::channel(4);
    let node = |name: &str| NodeId::new("vendor", name).unwrap();
    for (name, log_size) in [("vendor-1", 3), ("vendor-2", 7)] {
        let way = Outbox {
            stream: StreamId(1),
            sender: sender.clone(),
            log_size,
            shown: log_size,
            catching_up: false,
            clock_differs: false,
        };
        driver.outboxes.insert(node(name), way);
    }
    let id = core.ask(request("job-1", 1)).await.unwrap().release_id;
    let stored = core.store.release(&ReleaseId::new(id).unwrap()).await.unwrap().unwrap();
    let release = rutli_wire::convert::release_from_content(stored.message.content.unwrap()).unwrap();
    let leaf = rutli_log::leaf_hash(core.store.staged(0, u64::MAX).await.unwrap().entries.last().unwrap());
    let batch = |batch: u64| Batch {
        id: BatchId(batch),
        key: core.roster.roster().key().clone(),
        roster: core.roster.roster().hash(),
        signers: vec![1],
        items: vec![rutli_wire::link::BatchItem {
            release_id: ReleaseId::new("suite-1").unwrap(),
            requester: rutli_release::Requester::new("ci").unwrap(),
            release: Arc::new(release.clone()),
            slots: vec![0],
            commitments: Vec::new(),
            entry: Some(LoggedEntry {
                index: 21,
                leaf,
                proof: Vec::new(),
                deadline: 1,
                embargo: None,
                evidence: Vec::new(),
                added: Vec::new(),
            }),
            evidence: Vec::new(),
        }],
        head: None,
    };
    let one = driver.prove(&node("vendor-1"), batch(1)).unwrap();
    grow(&core, 5).await;
    let two = driver.prove(&node("vendor-2"), batch(1)).unwrap();
    let (first, second) = (one.head.unwrap(), two.head.unwrap());
    assert_eq!((first.from, second.from, &first.checkpoint), (3, 7, &second.checkpoint));
    assert_ne!(first.checkpoint, newest.to_note(), "of the moment at which it is sent");
    let head = log_signer().public().open(&first.checkpoint).unwrap().head();
    for (offered, from) in [(&first, 3), (&second, 7)] {
        check_consistency(&log.head_at(from).unwrap(), &head, &offered.consistency).unwrap();
    }
    let entry = one.items[0].entry.clone().unwrap();
    check_inclusion(&head, entry.index, entry.leaf, &entry.proof).unwrap();
    assert_eq!(one.items[0].entry, two.items[0].entry);
    // The next batch is under the head of its own moment.
    let three = driver.prove(&node("vendor-1"), batch(2)).unwrap();
    let third = three.head.unwrap();
    assert_eq!((third.from, third.checkpoint), (22, log.newest().to_note()));
    let entry = three.items[0].entry.clone().unwrap();
    check_inclusion(&log.newest().head(), entry.index, entry.leaf, &entry.proof).unwrap();
    // An entry that is not there yet goes to nobody.
    let mut early = batch(3);
    early.items[0].entry.as_mut().unwrap().index = 99;
    driver.prove(&node("vendor-1"), early).unwrap_err();
}
