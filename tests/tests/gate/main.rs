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

mod cosignatures;
mod dates;
mod entries;
mod evidence;
mod heads;
mod restored;

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use rutli_keys::{IdentityKey, rehearsal::Cast};
use rutli_log::{
    Cosignature, Cosigner, Entry, Hash, Head,
    entry::{Embargo, RequestTerms},
    limits::{MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS, MAX_TREE_SIZE},
    sha256,
};
use rutli_release::{ReleaseId, Requester, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{
    gate::{CannotVouch, Gate, KeptHead, LogState, Unsaved},
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

    /// The node begins again without its identity key, which is given back.
    fn seal(&mut self) -> Arc<IdentityKey> {
        let id = self.nodes.roster.node(ME).unwrap().id.clone();
        let identity = Arc::clone(&self.deployment.cast.identities[&id]);
        let kept = self.me().gate().state().clone();
        let (log, peers) = (self.nodes.log.key(), self.deployment.peers());
        let gate = Gate::sealed(log, id, &identity.public(), &peers, kept).unwrap();
        let mut sealed = signer(&self.deployment, &self.deployment.keys.rosters[0], gate);
        self.nodes.announced[usize::from(ME)] = open(&mut sealed, STREAM, &mut self.nodes.rng);
        self.nodes.signers[usize::from(ME)] = sealed;
        identity
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
