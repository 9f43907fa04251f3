//! A coordinator in other hands, against the real heart of a node with its real journal: whatever it shows of the log, no
//! share and no cosignature leaves for it, the node names the reason, and its journal has it. The same batch without the
//! one change is signed.
//!
//! Invariants 3 (nothing is signed that is not in the log) and 5 (the head is durable before anything leaves).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use ed25519_dalek::{Signer as _, SigningKey};
use rutli_keys::rehearsal::Cast;
use rutli_log::{
    Cosignature, Cosigner, Entry, Hash, Head,
    entry::{Embargo, RequestTerms},
    limits::{MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS, MAX_TREE_SIZE},
    sha256,
};
use rutli_release::{ReleaseId, Requester, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{
    gate::{CannotVouch, KeptHead, LogState, Unsaved},
    journal::Journal,
    marks::Marks,
    sign::{JournalRecord, Signer},
};
use rutli_tests::{
    hearts::{
        DEADLINE, Deployment, NOW, Nodes, STREAM, gate, open, policy, refusal, rehearse, release, signer,
    },
    log::ScriptedLog,
};
use rutli_wire::link::{Batch, BatchReply, Condition, LogHead, Refusal, RefusalCode, Witnessed};
use sqlx::Connection as _;

const ORIGIN: &str = "log.test/1";
const SEED: [u8; 32] = [5; 32];

/// The node that is asked: `vendor/vendor-1`, in roster order.
const ME: u16 = 3;

/// The quorum of every batch.
const QUORUM: [u16; 4] = [0, 1, 3, 4];

/// One node with its journal, and a log of three entries of which it has seen the head.
struct Story {
    deployment: Deployment,
    nodes: Nodes,
    folder: tempfile::TempDir,
    journal: Journal,
}

impl Story {
    async fn new() -> Self {
        let deployment = rehearse([1; 32], &["release"]);
        let mut nodes = Nodes::with(&deployment);
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
        (1..=3).for_each(|number| _ = nodes.log.append_leaf(Hash([number; 32])));
        let mut story = Self { deployment, nodes, folder, journal };
        let (_, refused) = story.show(&story.nodes.log.head_for(0)).await;
        assert_eq!(refused, None);
        story
    }

    fn me(&mut self) -> &mut Signer {
        self.nodes.signers.get_mut(usize::from(ME)).unwrap()
    }

    /// A batch of one release as an honest coordinator sends it.
    fn honest(&mut self, sequence: u64) -> Batch {
        let batch = self.nodes.batch(&QUORUM, &[release(sequence)]);
        self.nodes.complete(ME, &batch)
    }

    /// The node's answer: decided, journaled, and only then released.
    async fn ask(&mut self, batch: Batch) -> BatchReply {
        let pending = self.me().receive(STREAM, batch, NOW);
        let records: Vec<&JournalRecord> = pending.records().iter().collect();
        self.journal.record(&records, pending.log()).await.unwrap();
        self.me().release_shares(pending, Ok(()))
    }

    async fn show(&mut self, head: &LogHead) -> (Witnessed, Option<Refusal>) {
        self.show_at(head, NOW).await
    }

    async fn show_at(&mut self, head: &LogHead, now: u64) -> (Witnessed, Option<Refusal>) {
        let pending = self.me().receive_head(head, now);
        self.journal.record(&[], pending.log()).await.unwrap();
        self.me().witness(pending, Ok(()))
    }

    /// The node ends without a word, and comes back with what its journal has.
    async fn restart(&mut self) {
        self.journal.close().await.unwrap();
        let (journal, recovered) = Journal::open(&self.folder.path().join("node.sqlite")).await.unwrap();
        self.journal = journal;
        let kept = self.journal.log(self.nodes.log.key().origin()).await.unwrap();
        let id = self.nodes.roster.node(ME).unwrap().id.clone();
        let gate = gate(&self.deployment, &self.nodes.log, &id, kept);
        let mut reborn = signer(&self.deployment, &self.deployment.keys.rosters[0], gate);
        if let Some(reason) = recovered.paused {
            reborn.pause(reason);
        }
        let announced = open(&mut reborn, STREAM, &mut self.nodes.rng);
        self.nodes.signers[usize::from(ME)] = reborn;
        self.nodes.announced[usize::from(ME)] = announced;
    }

    /// The words of all decisions in the journal, in order.
    async fn verdicts(&self) -> Vec<String> {
        let path = format!("sqlite://{}", self.folder.path().join("node.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
        let rows = sqlx::query_scalar("SELECT verdict FROM decisions ORDER BY id");
        rows.fetch_all(&mut connection).await.unwrap()
    }

    /// At, size, root, own size, catching up: every head that was vouched for by name.
    async fn vouches(&self) -> Vec<String> {
        let path = format!("sqlite://{}", self.folder.path().join("node.sqlite").display());
        let mut connection = sqlx::SqliteConnection::connect(&path).await.unwrap();
        let rows = sqlx::query_scalar(
            "SELECT concat_ws(' ', at, size, lower(hex(root)), own_size, catching_up) FROM log_vouches ORDER BY id",
        );
        rows.fetch_all(&mut connection).await.unwrap()
    }

    /// The batch costs its sender everything: no share, no cosignature, one word, in the journal too, and the node's own
    /// head stays where it was.
    async fn refuses(&mut self, what: &str, batch: Batch, code: RefusalCode) -> Refusal {
        let (size, before) = (self.nodes.size(ME), self.verdicts().await.len());
        let head_level = is_head_level(code);
        let reply = self.ask(batch).await;
        assert_eq!(refusal(&reply), code, "{what}: {reply:?}");
        assert_eq!(reply.answer.is_err(), head_level, "{what}");
        let witnessed = reply.witnessed.unwrap();
        assert_eq!(witnessed.cosignature, None, "{what}");
        if head_level {
            assert_eq!(witnessed.size, size, "{what}");
        }
        // A gap is no decision.
        let line = if code == RefusalCode::LogGap { vec![] } else { vec![code.as_str().to_owned()] };
        assert_eq!(self.verdicts().await[before..], line, "{what}");
        match reply.answer {
            Err(refusal) => refusal,
            Ok(mut items) => items.remove(0).unwrap_err(),
        }
    }

    /// The node does what it is there for.
    async fn signs(&mut self, batch: Batch) -> Witnessed {
        let reply = self.ask(batch).await;
        let items = reply.answer.unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert!(items.iter().all(Result::is_ok), "{items:?}");
        reply.witnessed.unwrap()
    }

    /// The custodian's word, as the driver takes it.
    async fn resume(&mut self, head: Option<Head>) -> Result<(), CannotVouch> {
        let vouched = self.me().gate().vouched(head, NOW)?;
        self.journal.resume(NOW, &vouched, head).await.unwrap();
        self.me().resume(vouched);
        Ok(())
    }

    /// Whether a cosignature is this node's, over the log's head of that size.
    fn is_cosigned(&self, witnessed: &Witnessed) -> bool {
        let text = self.nodes.log.checkpoint(witnessed.size).text();
        witnessed.cosignature.is_some_and(|cosignature| self.cosigner(ME).verifies(&text, &cosignature))
    }

    fn cosigner(&self, index: u16) -> Cosigner {
        let node = self.nodes.roster.node(index).unwrap();
        Cosigner::new(node.id.to_string(), &node.identity.to_bytes()).unwrap()
    }

    /// A peer cosigns the log's newest head.
    fn cosign(&mut self, index: u16, time: u64) {
        let node = self.nodes.roster.node(index).unwrap().id.clone();
        let text = self.nodes.log.checkpoint(self.nodes.log.size()).text();
        let signature = self.deployment.cast.identities[&node].cosign(time, &text);
        assert!(self.nodes.log.cosign(self.cosigner(index), Cosignature { time, signature }));
    }
}

fn is_head_level(code: RefusalCode) -> bool {
    use RefusalCode::{LogInclusion, LogOtherEntry, LogTerms, NotLogged};
    !matches!(code, NotLogged | LogInclusion | LogOtherEntry | LogTerms)
}

/// A note over any text, signed as the log signs.
fn note(text: &str, origin: &str, seed: &[u8; 32]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let key = SigningKey::from_bytes(seed);
    let public = [&[1], key.verifying_key().as_bytes().as_slice()].concat();
    let id = sha256(&[origin.as_bytes(), b"\n", &public].concat());
    let line = [&id.0[..4], key.sign(text.as_bytes()).to_bytes().as_slice()].concat();
    format!("{text}\n— {origin} {}\n", STANDARD.encode(line))
}

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

#[tokio::test]
async fn a_request_that_names_no_entry_is_refused() {
    let mut story = Story::new().await;
    let mut batch = story.honest(1);
    batch.items[0].entry = None;
    story.refuses("no entry", batch, RefusalCode::NotLogged).await;
    let batch = story.honest(2);
    story.signs(batch).await;
}

#[tokio::test]
async fn an_entry_that_is_not_shown_to_be_in_the_log_is_refused() {
    let mut story = Story::new().await;
    let logged = |story: &mut Story, sequence| {
        let batch = story.honest(sequence);
        let entry = batch.items[0].entry.clone().unwrap();
        (batch, entry)
    };
    let terms = story.nodes.terms(&release(9));
    let unlogged = Entry::request(&release(9), &terms).leaf_hash();
    for sequence in 1..=6 {
        let (mut batch, mut entry) = logged(&mut story, sequence);
        let size = story.nodes.log.size();
        let what = match sequence {
            1 => {
                entry.index = size;
                "an index outside of the tree"
            }
            2 => {
                entry.index = 0;
                "another's place"
            }
            3 => {
                entry.proof = story.nodes.log.prove(0, size);
                "another's proof"
            }
            4 => {
                _ = story.nodes.log.append_leaf(Hash([60; 32]));
                batch.head = Some(story.nodes.log.head_for(story.nodes.size(ME)));
                "a proof under another head"
            }
            5 => {
                entry.proof = Vec::new();
                "no proof"
            }
            _ => {
                // The request for sequence 9 under the proof of the one for sequence 6.
                let wanted = story.nodes.batch(&QUORUM, &[release(9)]).items.remove(0);
                batch.items[0].release = wanted.release;
                batch.items[0].release_id = wanted.release_id;
                entry.leaf = unlogged;
                "a leaf that is not there"
            }
        };
        batch.items[0].entry = Some(entry);
        story.refuses(what, batch, RefusalCode::LogInclusion).await;
    }
    let batch = story.honest(20);
    story.signs(batch).await;
}

/// What is in the log is the request itself: this release, by this requester, under this roster and deadline, with its
/// evidence, plain or under its embargo. Each differs once.
#[tokio::test]
async fn an_entry_of_another_request_is_refused() {
    let mut story = Story::new().await;
    let embargo = Embargo { salt: Hash([70; 32]), disclose_by: DEADLINE };
    let other_salt = Embargo { salt: Hash([71; 32]), ..embargo };
    for (sequence, what) in [
        (1, "another release"),
        (2, "another requester"),
        (3, "another roster"),
        (4, "another deadline"),
        (5, "another name"),
        (6, "other evidence"),
        (7, "an embargo that is not named"),
        (8, "another salt"),
    ] {
        let mut batch = story.nodes.batch(&QUORUM, &[release(sequence)]);
        let mut wanted = release(sequence);
        let mut terms = story.nodes.terms(&wanted);
        match sequence {
            1 => wanted = release(99),
            2 => terms.requester = Requester::new("somebody-else").unwrap(),
            3 => terms.roster = Hash([72; 32]),
            4 => terms.deadline += 1,
            5 => terms.release_id = ReleaseId::new("r-99").unwrap(),
            6 => terms.evidence = vec![Hash([73; 32])],
            _ => terms.embargo = Some(embargo),
        }
        let mut entry = story.nodes.log.log_release(&wanted, &terms);
        entry.deadline = DEADLINE;
        entry.evidence = Vec::new();
        entry.embargo = (sequence == 8).then_some(other_salt);
        batch.items[0].entry = Some(entry);
        let batch = story.nodes.complete(ME, &batch);
        story.refuses(what, batch, RefusalCode::LogOtherEntry).await;
    }
    // A leaf that is no request at all.
    let index = story.nodes.log.append_leaf(Hash([74; 32]));
    let mut batch = story.nodes.batch(&QUORUM, &[release(9)]);
    let entry = batch.items[0].entry.as_mut().unwrap();
    (entry.index, entry.leaf) = (index, Hash([74; 32]));
    let batch = story.nodes.complete(ME, &batch);
    story.refuses("no request", batch, RefusalCode::LogOtherEntry).await;
    // Under its own embargo it is signed.
    let mut batch = story.nodes.batch(&QUORUM, &[release(10)]);
    let terms = rutli_log::entry::RequestTerms { embargo: Some(embargo), ..story.nodes.terms(&release(10)) };
    batch.items[0].entry = Some(story.nodes.log.log_release(&release(10), &terms));
    let batch = story.nodes.complete(ME, &batch);
    story.signs(batch).await;
}

impl Story {
    /// A batch whose entry, in the log as it should be, has these terms.
    fn under(&mut self, release: VerifiedRelease, deadline: u64, disclose_by: Option<u64>) -> Batch {
        let embargo = disclose_by.map(|disclose_by| Embargo { salt: Hash([70; 32]), disclose_by });
        let terms = RequestTerms { deadline, embargo, ..self.nodes.terms(&release) };
        let mut batch = self.nodes.batch(&QUORUM, std::slice::from_ref(&release));
        batch.items[0].entry = Some(self.nodes.log.log_release(&release, &terms));
        self.nodes.complete(ME, &batch)
    }
}

/// A deadline that never comes, or an embargo without an end: no monitor would ever ask what became of it.
#[tokio::test]
async fn an_entry_that_comes_due_in_nobodys_time_is_refused() {
    let mut story = Story::new().await;
    let skew = rutli_signer_node::limits::MAX_CLOCK_SKEW_S;
    let latest = |most: u64| NOW + most + skew;
    let (deadline, embargo) = (latest(MAX_DEADLINE_SECONDS), latest(MAX_EMBARGO_SECONDS));
    for (sequence, (what, deadline, disclose_by)) in (1..).zip([
        ("a deadline that is past", NOW - skew - 1, None),
        ("a deadline at the beginning of time", 0, None),
        ("a deadline that is too far away", deadline + 1, None),
        ("a deadline at the end of numbers", MAX_TREE_SIZE, None),
        ("an embargo that is over", DEADLINE, Some(NOW - skew - 1)),
        ("an embargo that is too long", DEADLINE, Some(embargo + 1)),
        ("an embargo for ever", DEADLINE, Some(MAX_TREE_SIZE)),
        ("both for ever", MAX_TREE_SIZE, Some(MAX_TREE_SIZE)),
    ]) {
        let batch = story.under(release(sequence), deadline, disclose_by);
        let refusal = story.refuses(what, batch, RefusalCode::LogTerms).await;
        assert!(refusal.reason.contains("compare the clocks"), "{}", refusal.reason);
    }
    for (sequence, (deadline, disclose_by)) in (20..).zip([
        (NOW - skew, None),
        (deadline, None),
        (DEADLINE, Some(NOW - skew)),
        (deadline, Some(embargo)),
    ]) {
        let batch = story.under(release(sequence), deadline, disclose_by);
        story.signs(batch).await;
    }
}

/// What the log hides is signed only where a rule says so; the same release in the open is another matter.
#[tokio::test]
async fn an_embargo_that_no_rule_allows_is_refused() {
    let mut story = Story::new().await;
    let beta = |sequence| {
        let mut beta = UnverifiedRelease::from(&release(sequence));
        beta.channel = "beta".into();
        beta.verify().unwrap()
    };
    let batch = story.under(beta(1), DEADLINE, Some(DEADLINE));
    let reply = story.ask(batch).await;
    assert_eq!(refusal(&reply), RefusalCode::NotAllowed);
    assert_eq!(story.verdicts().await, ["not-allowed"]);
    let batch = story.under(beta(1), DEADLINE, None);
    story.signs(batch).await;
    let batch = story.under(release(1), DEADLINE, Some(DEADLINE));
    story.signs(batch).await;
}

/// The log comes before the node's own opinion: what is not logged is not even looked at.
#[tokio::test]
async fn what_is_not_logged_leaves_no_mark() {
    let mut story = Story::new().await;
    let mut batch = story.honest(50);
    batch.items[0].entry = None;
    story.refuses("unlogged", batch, RefusalCode::NotLogged).await;
    // A mark at 50 would put 49 behind it.
    let batch = story.honest(49);
    story.signs(batch).await;
}

/// In one batch each request stands for itself, but no cosignature goes with what the log does not have.
#[tokio::test]
async fn one_unlogged_request_costs_the_others_nothing_but_the_cosignature() {
    let mut story = Story::new().await;
    let mut batch = story.nodes.batch(&QUORUM, &[release(1), release(2)]);
    batch.items[0].entry = None;
    let batch = story.nodes.complete(ME, &batch);
    let reply = story.ask(batch).await;
    let items = reply.answer.unwrap();
    assert_eq!(items[0].as_ref().unwrap_err().code, RefusalCode::NotLogged);
    assert_eq!(items[1].as_ref().unwrap().len(), 1);
    assert_eq!(reply.witnessed.unwrap().cosignature, None);
    assert_eq!(story.verdicts().await, ["not-logged", "permitted"]);
}

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
