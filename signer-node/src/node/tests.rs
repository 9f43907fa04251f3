//! The driver with a real journal and signer, and the test as its coordinator.

use std::sync::Arc;

use rutli_keys::{KeyName, RosterHash};
use rutli_log::{Cosigner, Entry};
use rutli_policy::Rules;
use rutli_release::{ReleaseId, Requester, UnverifiedRelease};
use rutli_wire::link::{
    BatchId, BatchItem, BatchReply, CommitmentBytes, Condition, Refusal, RefusalCode, Witnessed,
};
use tokio::time::timeout;

use super::*;
use crate::{
    marks::Marks,
    testing::{
        PATIENCE, TestNode, entry, entry_of, gate, log_head, log_signer, logged, lone_key, nothing_permitted,
        release,
    },
};

/// A node with a key of its own organisation alone, and the coordinator's end of a stream.
struct Fixture {
    folder: tempfile::TempDir,
    node: TestNode,
    roster: RosterHash,
    outbox: mpsc::Receiver<FromNode>,
    stream: Stream,
    commitments: Vec<CommitmentBytes>,
    last_batch: u64,
    /// The log, and the size of the head that the node keeps.
    entries: Vec<Entry>,
    seen: u64,
    /// Of every release.
    issued_at: u64,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (roster, share, _) = lone_key("release");
        let node = TestNode::start(folder.path()).await;
        node.keys.store(&roster, &share).unwrap();
        let key = OpenKey { roster: roster.clone(), share: Locked::new(share).unwrap() };
        node.node.ask(|answer| Event::Install(Box::new(key), answer)).await.unwrap();
        let (stream, outbox) = stream(1);
        node.node.send(Event::Opened(stream.clone(), node.node.status())).await.unwrap();
        let roster = roster.roster().hash();
        Self {
            folder,
            node,
            roster,
            outbox,
            stream,
            commitments: Vec::new(),
            last_batch: 0,
            entries: Vec::new(),
            seen: 0,
            issued_at: Reading::now().unix_s(),
        }
    }

    /// The next message that is not an announcement; those are collected.
    async fn next(&mut self) -> FromNode {
        loop {
            let message = timeout(PATIENCE, self.outbox.recv()).await.unwrap().unwrap();
            match message {
                FromNode::Commitments(_, commitments) => self.commitments.extend(commitments),
                other => return other,
            }
        }
    }

    async fn commitment(&mut self) -> CommitmentBytes {
        while self.commitments.is_empty() {
            let message = timeout(PATIENCE, self.outbox.recv()).await.unwrap().unwrap();
            let FromNode::Commitments(_, commitments) = message else { panic!("{message:?}") };
            self.commitments.extend(commitments);
        }
        self.commitments.pop().unwrap()
    }

    async fn send_batch(&mut self, sequence: u64) -> BatchId {
        let own = self.commitment().await;
        let release = release("suite", sequence, 1);
        // Of now: the node knows since when the log had it.
        let release = UnverifiedRelease { issued_at: self.issued_at, ..UnverifiedRelease::from(&release) };
        let release = release.verify().unwrap();
        self.entries.push(entry_of(&release, self.roster));
        let index = u64::try_from(self.entries.len() - 1).unwrap();
        let head = log_head(&self.entries, self.seen);
        self.seen = index + 1;
        self.last_batch += 1;
        let id = BatchId(self.last_batch);
        let batch = Batch {
            id,
            key: KeyName::new("release").unwrap(),
            roster: self.roster,
            signers: vec![0],
            items: vec![BatchItem {
                release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
                requester: Requester::new("ci").unwrap(),
                release: Arc::new(release),
                slots: vec![0],
                commitments: vec![own],
                entry: Some(logged(&self.entries, index)),
                evidence: Vec::new(),
            }],
            head: Some(head),
        };
        self.node.node.send(Event::Batch(self.stream.id, batch)).await.unwrap();
        id
    }

    async fn sign(&mut self, sequence: u64) -> BatchReply {
        let id = self.send_batch(sequence).await;
        loop {
            if let FromNode::Reply(reply) = self.next().await {
                assert_eq!(reply.id, id);
                return reply;
            }
        }
    }

    async fn wait_for(&mut self, condition: Condition) {
        loop {
            if matches!(self.next().await, FromNode::Status(status) if status.condition == condition) {
                return;
            }
        }
    }
}

fn stream(id: u64) -> (Stream, mpsc::Receiver<FromNode>) {
    let (outbox, waiting) = mpsc::channel(limits::OUTBOX);
    (Stream { id: StreamId(id), outbox, end: CancellationToken::new() }, waiting)
}

fn shares(reply: &BatchReply) -> usize {
    reply.answer.as_ref().unwrap().iter().flatten().map(Vec::len).sum()
}

#[tokio::test]
async fn it_fills_the_pool_signs_and_fills_it_again() {
    let mut fixture = Fixture::new().await;
    while fixture.commitments.len() < limits::NONCE_POOL {
        let message = timeout(PATIENCE, fixture.outbox.recv()).await.unwrap().unwrap();
        let FromNode::Commitments(_, fresh) = message else { panic!("{message:?}") };
        assert!(fresh.len() <= limits::NONCE_STEP);
        fixture.commitments.extend(fresh);
    }
    assert_eq!(fixture.commitments.len(), limits::NONCE_POOL);
    assert_eq!(shares(&fixture.sign(5).await), 1);
    // One was used and one is made again, perhaps while the disk was at work.
    while fixture.commitments.len() < limits::NONCE_POOL {
        let message = timeout(PATIENCE, fixture.outbox.recv()).await.unwrap().unwrap();
        let FromNode::Commitments(_, fresh) = message else { panic!("{message:?}") };
        fixture.commitments.extend(fresh);
    }
    let report = fixture.node.node.report().await.unwrap();
    assert_eq!((report.shares, report.marks.len(), report.rules.policies.len()), (1, 1, 1));
    assert_eq!(report.counts, Counts { permitted: 1, refused: 0 });
}

#[tokio::test]
async fn without_a_journal_no_share_leaves_and_the_node_opens_again_by_itself() {
    let mut fixture = Fixture::new().await;
    assert_eq!(shares(&fixture.sign(5).await), 1);
    fixture.node.fail_next_write().await;
    let refusal = fixture.sign(6).await.answer.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Closed, "{}", refusal.reason);
    fixture.wait_for(Condition::Closed).await;
    fixture.wait_for(Condition::Ready).await;
    assert_eq!(shares(&fixture.sign(6).await), 1, "the same release comes again");
    assert_eq!(fixture.node.node.report().await.unwrap().counts.permitted, 2);
}

#[tokio::test]
async fn a_pause_holds_at_once_and_over_restarts() {
    let mut fixture = Fixture::new().await;
    let node = fixture.node.node.clone();
    node.ask(|answer| Event::Pause("audit".into(), answer)).await.unwrap();
    fixture.wait_for(Condition::Paused).await;
    assert_eq!(fixture.sign(5).await.answer.unwrap_err().code, RefusalCode::Paused);
    let Fixture { folder, node, .. } = fixture;
    drop(node);
    let node = TestNode::start(folder.path()).await;
    let status = node.node.report().await.unwrap().status;
    assert_eq!((status.condition, status.keys.len()), (Condition::Paused, 1));
    assert!(status.reason.contains("audit"));
    node.node.ask(|answer| Event::Resume(None, answer)).await.unwrap();
    assert_eq!(node.node.report().await.unwrap().status.condition, Condition::Ready);
}

#[tokio::test]
async fn a_pause_that_cannot_be_kept_holds_until_the_restart_and_says_so() {
    let fixture = Fixture::new().await;
    fixture.node.fail_next_write().await;
    let kept = fixture.node.node.ask(|answer| Event::Pause("audit".into(), answer)).await;
    assert!(matches!(kept, Err(Error::Journal(_))), "{kept:?}");
    assert_eq!(fixture.node.node.report().await.unwrap().status.condition, Condition::Paused);
}

/// Coordinators ask waiting releases again when a node says its status: so it says it also when nothing else is new.
#[tokio::test]
async fn accepted_rules_are_said_anew_and_refused_ones_with_a_warning() {
    let mut fixture = Fixture::new().await;
    let node = fixture.node.node.clone();
    let rules = || Box::new(Rules::parse(&crate::testing::suite_rules()).unwrap());
    let trust = || Rules::parse_trust(&crate::testing::suite_rules()).ok();
    let files = || {
        let files = crate::testing::suite_rules().into_iter();
        files.map(|(name, content)| (name, Some(content))).collect()
    };
    let broken = || Change::Broken { problem: "x.cedar, line 3".into(), trust: trust(), files: files() };
    let told = node.status();
    node.ask(|answer| Event::Rules(Change::Rules(rules()), answer)).await.unwrap();
    let FromNode::Status(status) = fixture.next().await else { panic!("no status") };
    assert_eq!(status, told);
    node.ask(|answer| Event::Rules(broken(), answer)).await.unwrap();
    let FromNode::Status(status) = fixture.next().await else { panic!("no status") };
    assert_eq!((status.condition, status.warning.as_str()), (Condition::Ready, "x.cedar, line 3"));
    assert_eq!(shares(&fixture.sign(5).await), 1, "by the earlier rules");
    node.ask(|answer| Event::Rules(Change::Rules(rules()), answer)).await.unwrap();
    let FromNode::Status(status) = fixture.next().await else { panic!("no status") };
    assert_eq!(status, told);
    assert!(timeout(Duration::from_millis(200), fixture.next()).await.is_err(), "said once");
}

/// The custodian vouches for a clock that was a day ahead: what the journal has of then counts, as of now.
#[tokio::test]
async fn rates_are_counted_anew_when_the_custodian_vouches_for_the_clock() {
    const TWO: &str = r#"@id("two") permit (principal, action == Action::"sign", resource) when { context.releasesInHour <= 2 };"#;
    let mut fixture = Fixture::new().await;
    let rules = Rules::parse(&[("two.cedar".to_owned(), TWO.as_bytes().to_vec())].into()).unwrap();
    fixture.node.node.ask(|answer| Event::Rules(Change::Rules(Box::new(rules)), answer)).await.unwrap();
    assert!(matches!(fixture.next().await, FromNode::Status(_)));
    assert_eq!(shares(&fixture.sign(5).await), 1);
    let mut write = fixture.node.journal.write().await.unwrap();
    let ahead = sqlx::query(
        "INSERT INTO decisions (at, release_id, requester, key, digest, class, product, channel, version, sequence, verdict, reason, artifacts)
        SELECT at + 86400, release_id, requester, key, randomblob(32), class, product, channel, version, sequence, verdict, reason, artifacts
        FROM decisions",
    );
    ahead.execute(write.connection().unwrap()).await.unwrap();
    write.commit().await.unwrap();
    fixture.node.node.ask(|answer| Event::Resume(None, answer)).await.unwrap();
    let reply = fixture.sign(6).await.answer.unwrap();
    assert_eq!(reply[0].as_ref().unwrap_err().code, RefusalCode::NotYet);
    assert_eq!(fixture.sign(5).await.answer.unwrap()[0].as_ref().unwrap().len(), 1, "again");
}

#[tokio::test]
async fn a_coordinator_that_does_not_read_loses_its_stream() {
    let mut fixture = Fixture::new().await;
    let first = fixture.commitment().await;
    fixture.commitments.push(first);
    let outbox = std::mem::replace(&mut fixture.outbox, stream(9).1);
    for sequence in 1..=2 * u64::try_from(limits::OUTBOX).unwrap() {
        fixture.commitments.push(first);
        fixture.send_batch(sequence).await;
    }
    timeout(PATIENCE, fixture.stream.end.cancelled()).await.unwrap();
    assert_eq!(outbox.len(), limits::OUTBOX);
}

#[tokio::test]
async fn nonces_of_a_lost_stream_are_gone() {
    let mut fixture = Fixture::new().await;
    let old = fixture.commitment().await;
    fixture.node.node.send(Event::Closed(fixture.stream.id)).await.unwrap();
    (fixture.stream, fixture.outbox) = stream(2);
    let status = fixture.node.node.status();
    fixture.node.node.send(Event::Opened(fixture.stream.clone(), status)).await.unwrap();
    fixture.commitments = vec![old];
    let reply = fixture.sign(5).await.answer.unwrap();
    assert_eq!(reply[0].as_ref().unwrap_err().code, RefusalCode::UnknownCommitment);
    fixture.commitments.clear();
    assert_eq!(shares(&fixture.sign(6).await), 1);
}

#[tokio::test]
async fn a_clock_behind_the_journal_closes_the_node_until_the_custodian_vouches() {
    let folder = tempfile::tempdir().unwrap();
    drop(TestNode::start(folder.path()).await);
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let mut write = journal.write().await.unwrap();
    let ahead = sqlx::query("UPDATE state SET newest_at = 4000000000");
    ahead.execute(write.connection().unwrap()).await.unwrap();
    write.commit().await.unwrap();
    let node = TestNode::start(folder.path()).await;
    let report = timeout(PATIENCE, async {
        loop {
            let report = node.node.report().await.unwrap();
            if report.status.condition == Condition::Closed {
                return report;
            }
        }
    });
    let reason = report.await.unwrap().status.reason;
    assert!(reason.contains("clock") && reason.contains("resume"), "{reason}");
    node.node.ask(|answer| Event::Resume(None, answer)).await.unwrap();
    assert_eq!(node.node.report().await.unwrap().status.condition, Condition::Ready);
}

impl Fixture {
    /// What the node says to a head of its log that comes alone.
    async fn show(&mut self, head: LogHead) -> (Witnessed, Option<Refusal>) {
        self.node.node.send(Event::Head(self.stream.id, head)).await.unwrap();
        loop {
            if let FromNode::Head(witnessed, refusal) = self.next().await {
                return (witnessed, refusal);
            }
        }
    }
}

/// Whether a cosignature is this node's, of the log's head over these entries, made just now.
fn is_cosigned(node: &TestNode, witnessed: &Witnessed, entries: &[Entry]) -> bool {
    let cosigner = Cosigner::new("vendor/vendor-1", &node.identity.public().to_bytes()).unwrap();
    let text = log_signer().public().open(&log_head(entries, 0).checkpoint).unwrap().text();
    witnessed.cosignature.is_some_and(|cosignature| {
        cosigner.verifies(&text, &cosignature) && cosignature.time.abs_diff(Reading::now().unix_s()) < 60
    })
}

#[tokio::test]
async fn a_head_is_durable_before_it_is_cosigned_and_there_after_a_restart() {
    let mut fixture = Fixture::new().await;
    let entries = [entry(1), entry(2), entry(3)];
    let (witnessed, refusal) = fixture.show(log_head(&entries[..2], 0)).await;
    assert_eq!((witnessed.size, refusal), (2, None));
    assert!(is_cosigned(&fixture.node, &witnessed, &entries[..2]));
    fixture.node.fail_next_write().await;
    let (witnessed, refusal) = fixture.show(log_head(&entries, 2)).await;
    assert_eq!(refusal.unwrap().code, RefusalCode::Closed);
    assert_eq!(witnessed.cosignature, None);
    fixture.wait_for(Condition::Closed).await;
    fixture.wait_for(Condition::Ready).await;
    let log = log_signer().public();
    let kept = fixture.node.journal.log(log.origin()).await.unwrap();
    assert_eq!(kept.head.unwrap().head.size, 2, "the write failed");
    // The same head again is written now.
    let (witnessed, refusal) = fixture.show(log_head(&entries, 2)).await;
    assert_eq!((witnessed.size, refusal), (3, None));
    assert!(is_cosigned(&fixture.node, &witnessed, &entries));
    assert_eq!(fixture.node.node.log().size, 3);
    let Fixture { folder, node, .. } = fixture;
    drop(node);
    let node = TestNode::start(folder.path()).await;
    assert_eq!(node.node.log().size, 3);
    let log = node.node.report().await.unwrap().log;
    assert_eq!((log.origin.as_str(), log.head.size, log.state), ("log.test/1", 3, "following"));
}

#[tokio::test]
async fn the_head_and_the_decision_of_a_batch_are_one_transaction() {
    let mut fixture = Fixture::new().await;
    let reply = fixture.sign(5).await;
    assert_eq!(shares(&reply), 1);
    assert!(is_cosigned(&fixture.node, &reply.witnessed.unwrap(), &fixture.entries));
    let log = log_signer().public();
    assert_eq!(fixture.node.journal.log(log.origin()).await.unwrap().head.unwrap().head.size, 1);
    fixture.node.fail_next_write().await;
    let reply = fixture.sign(6).await;
    assert_eq!(reply.answer.unwrap_err().code, RefusalCode::Closed);
    assert_eq!(reply.witnessed.unwrap().cosignature, None);
    let report = fixture.node.node.report().await.unwrap();
    assert_eq!(report.counts.permitted, 1);
    assert_eq!(fixture.node.journal.log(log.origin()).await.unwrap().head.unwrap().head.size, 1);
}

#[tokio::test]
async fn a_paused_node_is_a_witness_all_the_same() {
    let mut fixture = Fixture::new().await;
    fixture.node.node.ask(|answer| Event::Pause("audit".into(), answer)).await.unwrap();
    let entries = [entry(1)];
    let (witnessed, refusal) = fixture.show(log_head(&entries, 0)).await;
    assert_eq!(refusal, None);
    assert!(is_cosigned(&fixture.node, &witnessed, &entries));
}

#[tokio::test]
async fn a_forked_log_closes_the_node_over_restarts_until_the_custodian_vouches() {
    let mut fixture = Fixture::new().await;
    let (ours, theirs) = ([entry(1), entry(2)], [entry(1), entry(7)]);
    assert_eq!(fixture.show(log_head(&ours, 0)).await.1, None);
    let (witnessed, refusal) = fixture.show(log_head(&theirs, 2)).await;
    assert_eq!(refusal.unwrap().code, RefusalCode::LogForked);
    assert_eq!((witnessed.size, witnessed.cosignature), (2, None));
    fixture.wait_for(Condition::Closed).await;
    let Fixture { folder, node, .. } = fixture;
    drop(node);
    let node = TestNode::start(folder.path()).await;
    let report = node.node.report().await.unwrap();
    assert_eq!((report.status.condition, report.log.state), (Condition::Closed, "forked"));
    assert!(report.status.reason.contains("resume"), "{}", report.status.reason);
    // Both notes are evidence that anybody can check.
    let log = log_signer().public();
    let fork = node.journal.log(log.origin()).await.unwrap().fork.unwrap();
    let opened = [&fork.own, &fork.other].map(|kept| log.open(&kept.note).unwrap().head());
    assert_eq!(opened, [fork.own.head, fork.other.head]);
    assert!(opened[0].size == opened[1].size && opened[0].root != opened[1].root);
    node.node.ask(|answer| Event::Resume(None, answer)).await.unwrap();
    assert_eq!(node.node.report().await.unwrap().log.state, "following");
    drop(node);
    let node = TestNode::start(folder.path()).await;
    let report = node.node.report().await.unwrap();
    assert_eq!((report.log.state, report.log.head.size), ("following", 2), "the own head stays");
}

/// Two copies of a machine draw the same randomness from their kernels for up to a minute.
#[tokio::test]
async fn no_nonces_are_made_for_a_minute_after_an_anomaly() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let (roster, share, me) = lone_key("release");
    let mut signer = Signer::new(me.clone(), nothing_permitted(), Marks::default(), gate(&me), None);
    signer.install_key(roster, Locked::new(share).unwrap()).unwrap();
    let (mut node, handle) = ready(signer, journal, 0, Counts::default());
    let announced = |node: &mut Node, id: u64| {
        let (stream, mut outbox) = stream(id);
        node.opened(stream, &handle.status());
        for _ in 0..node.hungry.len() {
            node.feed(8);
        }
        let mut messages = std::iter::from_fn(|| outbox.try_recv().ok());
        messages.any(|message| matches!(message, FromNode::Commitments(..)))
    };
    assert!(announced(&mut node, 1));
    node.forget_nonces("the machine was suspended for 9000 ms");
    assert!(!announced(&mut node, 2));
    let warning = node.signer.status().warning;
    assert_eq!(warning, "no nonces are made for 60 s: the machine was suspended for 9000 ms");
    node.tick().await;
    assert!(!announced(&mut node, 3));
    // A minute later.
    let now = Reading::now().monotonic_ms;
    assert!((now + 30_000..=now + 60_000).contains(&node.no_nonces_before_ms));
    node.no_nonces_before_ms = now;
    node.tick().await;
    assert_eq!(node.signer.status().warning, "");
    assert!(announced(&mut node, 4));
}
