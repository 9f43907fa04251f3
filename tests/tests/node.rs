//! The node's own defences, on the real heart of the node and with nothing else in the way: every batch that an honest
//! coordinator never sends is refused with its own word, and the same batch without the one change is signed.
//!
//! Invariants 1 (a quorum by the node's own roster), 4 (no nonce twice) and 11 (no roster from the coordinator).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, sync::Arc};

use frost_ed25519::{self as frost, SigningPackage, round1::NonceCommitment, round1::SigningCommitments};
use rand::{SeedableRng, rngs::StdRng};
use rutli_keys::{
    KeyName, NodeId, Quorum, Roster, SignedRoster, SigningShare,
    effective::effective_public_package,
    rehearsal::{Cast, Rehearsed},
};
use rutli_release::{
    Class, Format, Product, ReleaseId, ReleaseKey, Requester, UnverifiedArtifact, UnverifiedRelease,
    VerifiedRelease,
};
use rutli_signer_node::{
    marks::Marks,
    policy::{AllowList, AllowRule},
    sign::{Signer, StreamId, Verdict},
};
use rutli_wire::link::{Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, FromNode, RefusalCode};

const NOW: u64 = 1_800_000_000;
const STREAM: StreamId = StreamId(1);

/// All nodes of a deployment, each with its heart, and the commitments that they announced.
struct Nodes {
    roster: Roster,
    signers: Vec<Signer>,
    announced: Vec<Vec<CommitmentBytes>>,
    rng: StdRng,
}

impl Nodes {
    /// `vendor` 2 of 3 and `supervisor` 2 of 3, in roster order: supervisor 0 to 2, vendor 3 to 5.
    fn new() -> Self {
        Self::with(&rehearse([1; 32], &["release"]))
    }

    fn with(rehearsed: &Rehearsed) -> Self {
        let signed = rehearsed.rosters.first().unwrap();
        let roster = signed.roster().clone();
        let mut rng = StdRng::seed_from_u64(7);
        let mut signers: Vec<Signer> =
            roster.nodes().map(|node| signer(rehearsed, signed, &node.id)).collect();
        let announced = signers.iter_mut().map(|signer| open(signer, STREAM, &mut rng)).collect();
        Self { roster, signers, announced, rng }
    }

    /// A batch as an honest coordinator makes it: one fresh commitment of each signer for each slot.
    fn batch(&mut self, signers: &[u16], releases: &[VerifiedRelease]) -> Batch {
        let items = releases
            .iter()
            .map(|release| {
                let slots: Vec<u32> = (0..u32::try_from(release.signable_count()).unwrap()).collect();
                let commitments = slots
                    .iter()
                    .flat_map(|_| signers.iter().map(|index| self.draw(*index)).collect::<Vec<_>>());
                BatchItem {
                    release_id: ReleaseId::new(format!("r-{}", release.sequence().get())).unwrap(),
                    requester: Requester::new("pipeline").unwrap(),
                    release: Arc::new(release.clone()),
                    commitments: commitments.collect(),
                    slots,
                    entry: None,
                }
            })
            .collect();
        Batch {
            id: BatchId(1),
            key: key(),
            roster: self.roster.hash(),
            signers: signers.to_vec(),
            items,
            head: None,
        }
    }

    fn draw(&mut self, index: u16) -> CommitmentBytes {
        self.announced.get_mut(usize::from(index)).unwrap().pop().unwrap()
    }

    /// One node's answer, with a journal that works.
    fn ask(&mut self, index: u16, batch: &Batch) -> BatchReply {
        self.ask_on(index, STREAM, batch)
    }

    fn ask_on(&mut self, index: u16, stream: StreamId, batch: &Batch) -> BatchReply {
        let signer = self.signers.get_mut(usize::from(index)).unwrap();
        let pending = signer.receive(stream, batch.clone(), NOW);
        signer.release_shares(pending, Ok(()))
    }

    /// All signers' shares of the first item's first slot, aggregated by the plain crate and verified strictly.
    fn sign(&mut self, batch: &Batch) {
        let item = batch.items.first().unwrap();
        let message = item.release.signables().first().unwrap().bytes.clone();
        let mut commitments = BTreeMap::new();
        let mut shares = BTreeMap::new();
        for (place, index) in batch.signers.iter().enumerate() {
            let identifier = *self.roster.identifier(*index).unwrap();
            commitments.insert(identifier, parse(item.commitments.get(place).unwrap()));
            let share = shares_of(&self.ask(*index, batch)).first().copied().unwrap();
            shares.insert(identifier, frost::round2::SignatureShare::deserialize(&share).unwrap());
        }
        let quorum = Quorum::new(&self.roster, &batch.signers).unwrap();
        let package = effective_public_package(&self.roster, &quorum).unwrap();
        let signature =
            frost::aggregate(&SigningPackage::new(commitments, &message), &shares, &package).unwrap();
        let signature: [u8; 64] = signature.serialize().unwrap().try_into().unwrap();
        ReleaseKey::from_bytes(self.roster.group_key()).unwrap().verify(&message, &signature).unwrap();
    }
}

fn rehearse(seed: [u8; 32], keys: &[&str]) -> Rehearsed {
    Cast::new(&[("vendor", 2, 3), ("supervisor", 2, 3)], keys, seed).unwrap().run().unwrap()
}

fn signer(rehearsed: &Rehearsed, signed: &SignedRoster, node: &NodeId) -> Signer {
    let allow = AllowRule {
        class: Class::ProductBuild,
        product: Product::new("suite").unwrap(),
        channels: None,
        max_artifacts: None,
    };
    let mut signer = Signer::new(node.clone(), AllowList::new(vec![allow]), Marks::default(), None);
    let share: &SigningShare = rehearsed.shares.get(&(node.clone(), signed.roster().key().clone())).unwrap();
    signer.install_key(signed.clone(), share.duplicate()).unwrap();
    signer
}

fn open(signer: &mut Signer, stream: StreamId, rng: &mut StdRng) -> Vec<CommitmentBytes> {
    signer.stream_opened(stream);
    signer
        .announce(stream, 48, rng)
        .into_iter()
        .flat_map(|message| match message {
            FromNode::Commitments(_, commitments) => commitments,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn key() -> KeyName {
    KeyName::new("release").unwrap()
}

fn release(sequence: u64) -> VerifiedRelease {
    content(sequence, 1, None)
}

fn content(sequence: u64, byte: u8, expires_at: Option<u64>) -> VerifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: format!("1.{sequence}"),
        sequence,
        issued_at: NOW - 100,
        expires_at,
        artifacts: vec![UnverifiedArtifact {
            name: "suite.bin".into(),
            size: 1,
            sha256: vec![byte; 32],
            sha512: vec![byte; 64],
            blake2b: vec![byte; 64],
        }],
        formats: vec![Format::Statement],
    }
    .verify()
    .unwrap()
}

fn parse(commitment: &CommitmentBytes) -> SigningCommitments {
    let (hiding, binding) = commitment.0.split_at(32);
    SigningCommitments::new(
        NonceCommitment::deserialize(hiding).unwrap(),
        NonceCommitment::deserialize(binding).unwrap(),
    )
}

/// The shares of a reply whose batch has one item.
fn shares_of(reply: &BatchReply) -> Vec<[u8; 32]> {
    reply.answer.as_ref().unwrap().first().unwrap().clone().unwrap()
}

/// The one word with which a batch, or its only item, was refused.
fn refusal(reply: &BatchReply) -> RefusalCode {
    match &reply.answer {
        Err(refusal) => refusal.code,
        Ok(items) => items.first().unwrap().as_ref().unwrap_err().code,
    }
}

/// The honest batch is signed, and the signature is an ordinary one: without this no refusal below means anything.
#[test]
fn an_honest_batch_is_signed() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 5], &[release(1)]);
    nodes.sign(&batch);
}

/// Invariant 4: a commitment that was used once is unknown afterwards, also under another message, another batch id and
/// another quorum. The share that leaked twice would give the key away.
#[test]
fn a_used_commitment_is_refused() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(shares_of(&nodes.ask(3, &batch)).len(), 1);
    let used = batch.items.first().unwrap().commitments.clone();
    for (what, signers, content) in [
        ("the same message", [0, 1, 3, 4], release(1)),
        ("another message", [0, 1, 3, 4], release(2)),
        ("another quorum", [0, 2, 3, 4], release(3)),
    ] {
        let mut again = nodes.batch(&signers, &[content]);
        again.id = BatchId(99);
        let item = again.items.first_mut().unwrap();
        *item.commitments.get_mut(2).unwrap() = *used.get(2).unwrap();
        let reply = nodes.ask(3, &again);
        assert_eq!(refusal(&reply), RefusalCode::UnknownCommitment, "{what}");
        println!("a used commitment under {what}: {reply:?}");
    }
}

/// Invariant 4: one commitment for two signatures of one batch: at most one of them is computed, and nothing leaves.
#[test]
fn one_commitment_for_two_slots_is_refused() {
    let mut nodes = Nodes::new();
    let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1), release(2)]);
    let own = *batch.items.first().unwrap().commitments.get(2).unwrap();
    *batch.items.get_mut(1).unwrap().commitments.get_mut(2).unwrap() = own;
    let reply = nodes.ask(3, &batch);
    let items = reply.answer.unwrap();
    assert!(items.first().unwrap().is_ok());
    assert_eq!(items.get(1).unwrap().as_ref().unwrap_err().code, RefusalCode::UnknownCommitment);
}

/// A commitment that nobody announced, another node's, one of this node on another stream, one of an earlier stream, and
/// one of a node that forgot all of them: refused.
#[test]
fn unknown_and_foreign_commitments_are_refused() {
    let mut nodes = Nodes::new();
    let unknown = CommitmentBytes([9; 64]);
    let foreign = nodes.draw(5);
    let other_stream = StreamId(2);
    let mut rng = nodes.rng.clone();
    let elsewhere = open(nodes.signers.get_mut(3).unwrap(), other_stream, &mut rng).pop().unwrap();
    for (what, commitment) in
        [("unknown", unknown), ("another node's", foreign), ("another stream's", elsewhere)]
    {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        *batch.items.first_mut().unwrap().commitments.get_mut(2).unwrap() = commitment;
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment, "{what}");
    }
    // The stream ends and begins anew: its pool is gone.
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let signer = nodes.signers.get_mut(3).unwrap();
    signer.stream_closed(STREAM);
    signer.stream_opened(STREAM);
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment);
    // A process that may have been copied forgets all.
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.signers.get_mut(4).unwrap().forget_nonces();
    assert_eq!(refusal(&nodes.ask(4, &batch)), RefusalCode::UnknownCommitment);
    // The others were asked for nothing wrong.
    let batch = nodes.batch(&[0, 1, 5, 4].map(|index| if index == 4 { 0 } else { index }), &[release(1)]);
    assert_eq!(refusal(&nodes.ask(5, &batch)), RefusalCode::WrongQuorum);
}

/// A batch that is sent again, word for word: no second share, whatever became of the first.
#[test]
fn a_replayed_batch_is_refused() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1), release(2)]);
    let first = nodes.ask(3, &batch).answer.unwrap();
    assert!(first.iter().all(Result::is_ok));
    let second = nodes.ask(3, &batch).answer.unwrap();
    assert!(second.iter().all(|item| item.as_ref().unwrap_err().code == RefusalCode::UnknownCommitment));
    // Nor on another stream.
    nodes.signers.get_mut(3).unwrap().stream_opened(StreamId(5));
    assert_eq!(refusal(&nodes.ask_on(3, StreamId(5), &batch)), RefusalCode::UnknownCommitment);
}

/// Also a batch that was refused for another reason costs its nonces: it cannot be asked for until it is permitted.
#[test]
fn a_refused_batch_uses_up_its_commitments() {
    let mut nodes = Nodes::new();
    let refused = nodes.batch(&[0, 1, 3, 4], &[content(1, 1, Some(NOW + 10))]);
    let late = NOW + 11;
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, refused.clone(), late);
    assert_eq!(refusal(&signer.release_shares(pending, Ok(()))), RefusalCode::OutOfTime);
    // The very same batch, in time: policy would permit it, but its nonces are gone.
    assert_eq!(refusal(&nodes.ask(3, &refused)), RefusalCode::UnknownCommitment);
}

/// Invariant 11: the roster is the node's own. Another epoch, another key's, another deployment's and an invented one:
/// refused. (A roster's hash covers key, ceremony, epoch, thresholds and every share.)
#[test]
fn another_roster_is_refused() {
    let rehearsed = rehearse([1; 32], &["release", "release-2"]);
    let mut nodes = Nodes::with(&rehearsed);
    let next_epoch = next_epoch(&nodes.roster);
    let other_key = rehearsed.rosters.get(1).unwrap().roster().hash();
    let other_deployment = rehearse([2; 32], &["release"]).rosters.first().unwrap().roster().hash();
    let invented = rutli_keys::RosterHash::from_bytes([7; 32]);
    for (what, hash) in [
        ("the next epoch", next_epoch),
        ("another key", other_key),
        ("another deployment", other_deployment),
        ("invented", invented),
    ] {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        batch.roster = hash;
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::WrongRoster, "{what}");
    }
    let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    batch.key = KeyName::new("other").unwrap();
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownKey);
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.sign(&batch);
}

/// The hash of the same roster, one epoch later.
fn next_epoch(roster: &Roster) -> rutli_keys::RosterHash {
    let mut json: serde_json::Value = serde_json::from_slice(roster.encode()).unwrap();
    let epoch = json.get("epoch").and_then(serde_json::Value::as_u64).unwrap();
    *json.get_mut("epoch").unwrap() = (epoch + 1).into();
    // serde_json sorts keys as canonical JSON does.
    Roster::parse(json.to_string().as_bytes()).unwrap().hash()
}

/// Invariant 1: exactly a threshold of every organisation, in the roster's order, with this node among them. Everything
/// else is refused by every node that is asked, honest or not the others.
#[test]
fn a_wrong_quorum_is_refused() {
    let mut nodes = Nodes::new();
    let wrong: [(&str, &[u16]); 9] = [
        ("one vendor only", &[0, 1, 3]),
        ("one supervisor only", &[0, 3, 4]),
        ("no supervisor", &[3, 4]),
        ("all vendors and no supervisor", &[3, 4, 5]),
        ("no vendor", &[0, 1]),
        ("too many vendors", &[0, 1, 3, 4, 5]),
        ("too many supervisors", &[0, 1, 2, 3, 4]),
        ("this node alone", &[3]),
        ("nobody that exists", &[0, 1, 3, 17]),
    ];
    for (what, signers) in wrong {
        let own = *signers.iter().find(|index| **index < 6).unwrap();
        let existing: Vec<u16> = signers.iter().copied().filter(|index| *index < 6).collect();
        let mut batch = nodes.batch(&existing, &[release(1)]);
        batch.signers = signers.to_vec();
        if existing.len() < signers.len() {
            batch.items.first_mut().unwrap().commitments.push(CommitmentBytes([1; 64]));
        }
        let reply = nodes.ask(own, &batch);
        assert_eq!(refusal(&reply), RefusalCode::WrongQuorum, "{what}");
        println!("{what}: {:?}", reply.answer.unwrap_err().reason);
    }
    for (what, signers) in [("twice the same", [0, 1, 3, 3]), ("out of order", [1, 0, 4, 3])] {
        let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
        batch.signers = signers.to_vec();
        assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::WrongQuorum, "{what}");
    }
    let without_me = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(refusal(&nodes.ask(5, &without_me)), RefusalCode::WrongQuorum);
    nodes.sign(&without_me);
}

/// What is signed follows from the typed request alone: time, allow-list, marks.
#[test]
fn what_policy_forbids_is_refused_and_journaled() {
    let mut nodes = Nodes::new();
    let other_product = |sequence| {
        let mut other = UnverifiedRelease::from(&release(sequence));
        other.product = "other".into();
        other.verify().unwrap()
    };
    let from_the_future = {
        let mut early = UnverifiedRelease::from(&release(9));
        early.issued_at = NOW + 3600;
        early.verify().unwrap()
    };
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(5)]);
    nodes.sign(&batch);
    for (content, code) in [
        (other_product(6), RefusalCode::NotAllowed),
        (from_the_future, RefusalCode::OutOfTime),
        (content(7, 1, Some(NOW)), RefusalCode::OutOfTime),
        (release(4), RefusalCode::SequenceBehind),
        (content(5, 2, None), RefusalCode::SequenceConflict),
    ] {
        let batch = nodes.batch(&[0, 1, 3, 4], &[content]);
        let signer = nodes.signers.get_mut(3).unwrap();
        let pending = signer.receive(STREAM, batch, NOW);
        let verdicts: Vec<_> = pending.records().iter().map(|record| record.verdict.clone()).collect();
        assert!(
            matches!(verdicts.as_slice(), [Verdict::Refused(refusal)] if refusal.code == code),
            "{verdicts:?}"
        );
        assert_eq!(refusal(&signer.release_shares(pending, Ok(()))), code);
    }
}

/// Invariant 5: no share without its journal. If the record could not be made durable the batch is refused, its nonces
/// are gone, and the node stays closed until a write succeeds.
#[test]
fn without_a_journal_there_is_no_share() {
    let mut nodes = Nodes::new();
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, batch.clone(), NOW);
    assert_eq!(pending.records().len(), 1);
    assert_eq!(refusal(&signer.release_shares(pending, Err("disk full".into()))), RefusalCode::Closed);
    assert_eq!(signer.status().condition.as_str(), "closed");
    assert!(signer.status().reason.contains("disk full"));
    let next = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(refusal(&nodes.ask(3, &next)), RefusalCode::Closed);
    nodes.signers.get_mut(3).unwrap().reopen();
    // It was never durable, so it is journaled now.
    let again = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    let signer = nodes.signers.get_mut(3).unwrap();
    let pending = signer.receive(STREAM, again, NOW);
    assert_eq!(pending.records().len(), 1);
    assert_eq!(shares_of(&signer.release_shares(pending, Ok(()))).len(), 1);
    assert_eq!(
        refusal(&nodes.ask(3, &batch)),
        RefusalCode::UnknownCommitment,
        "the nonces of the first are gone"
    );
}

/// What is no point of the group, or the identity, or of small order is refused in a foreign commitment (RFC 9591,
/// section 6.1); a share over it is never computed.
#[test]
fn bad_points_are_refused() {
    let mut nodes = Nodes::new();
    let mut identity = [0; 32];
    identity[0] = 1;
    // y = -1: a point of order 2.
    let mut order_two = [0xff; 32];
    order_two[0] = 0xec;
    order_two[31] = 0x7f;
    for (what, point) in [("no point", [2; 32]), ("identity", identity), ("order two", order_two)] {
        for half in [0, 32] {
            let mut batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
            let foreign = batch.items.first_mut().unwrap().commitments.first_mut().unwrap();
            foreign.0.get_mut(half..half + 32).unwrap().copy_from_slice(&point);
            assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::Malformed, "{what}");
        }
    }
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.sign(&batch);
}

/// A paused or sealed node gives no share, and says which it is. What it refused is used up: the coordinator has thrown
/// those commitments away, and a pool that still held them would run dry on one side and look full on the other.
#[test]
fn paused_and_sealed_nodes_refuse() {
    let rehearsed = rehearse([1; 32], &["release"]);
    let mut nodes = Nodes::with(&rehearsed);
    let batch = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    nodes.signers.get_mut(3).unwrap().pause("audit".into());
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::Paused);
    nodes.signers.get_mut(3).unwrap().resume();
    assert_eq!(refusal(&nodes.ask(3, &batch)), RefusalCode::UnknownCommitment);
    let again = nodes.batch(&[0, 1, 3, 4], &[release(1)]);
    assert_eq!(shares_of(&nodes.ask(3, &again)).len(), 1);
    let signed = rehearsed.rosters.first().unwrap();
    nodes.signers.get_mut(4).unwrap().install_sealed(signed.clone()).unwrap();
    assert_eq!(refusal(&nodes.ask(4, &batch)), RefusalCode::Sealed);
}
