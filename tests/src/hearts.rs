//! The hearts of all nodes of a deployment, with nothing in the way: a test makes the batches, honest ones or not.

use std::{collections::BTreeMap, sync::Arc};

use frost_ed25519::{self as frost, SigningPackage, round1::NonceCommitment, round1::SigningCommitments};
use rand::{SeedableRng, rngs::StdRng};
use rutli_keys::{
    IdentityPublic, KeyName, NodeId, Quorum, Roster, SignedRoster, SigningShare,
    effective::effective_public_package,
    rehearsal::{Cast, Rehearsed},
};
use rutli_log::{Hash, entry::RequestTerms};
use rutli_policy::Rules;
use rutli_release::{
    Class, Format, ReleaseId, ReleaseKey, Requester, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
};
use rutli_signer_node::{
    Locked,
    gate::{Gate, LogState},
    marks::Marks,
    policy::Policy,
    rates::RateCounter,
    refusals::Refusals,
    sign::{Signer, StreamId},
};
use rutli_wire::link::{Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, FromNode, RefusalCode};

use crate::log::ScriptedLog;

/// Unix seconds of every decision.
pub const NOW: u64 = 1_800_000_000;

/// The one stream of each node.
pub const STREAM: StreamId = StreamId(1);

/// Unix seconds after which the coordinator gives up, in every entry.
pub const DEADLINE: u64 = NOW + 3_600;

/// All nodes of a deployment, each with its heart, and the commitments that they announced.
pub struct Nodes {
    /// Who holds what.
    pub roster: Roster,
    /// In roster order.
    pub signers: Vec<Signer>,
    /// What each has announced and nobody used.
    pub announced: Vec<Vec<CommitmentBytes>>,
    /// Of nonces.
    pub rng: StdRng,
    /// The log that they follow.
    pub log: ScriptedLog,
}

impl Nodes {
    /// `vendor` 2 of 3 and `supervisor` 2 of 3, in roster order: supervisor 0 to 2, vendor 3 to 5.
    #[must_use]
    pub fn new() -> Self {
        Self::with(&rehearse([1; 32], &["release"]))
    }

    /// With keys that were made elsewhere.
    #[must_use]
    pub fn with(rehearsed: &Deployment) -> Self {
        let signed = rehearsed.keys.rosters.first().unwrap();
        let roster = signed.roster().clone();
        let log = ScriptedLog::new("log.test/1", [5; 32]);
        let mut rng = StdRng::seed_from_u64(7);
        let mut signers: Vec<Signer> = roster
            .nodes()
            .map(|node| signer(rehearsed, signed, gate(rehearsed, &log, &node.id, LogState::default())))
            .collect();
        let announced = signers.iter_mut().map(|signer| open(signer, STREAM, &mut rng)).collect();
        Self { roster, signers, announced, rng, log }
    }

    /// A batch as an honest coordinator makes it: one fresh commitment of each signer for each slot, and each request in
    /// the log. What depends on the node that gets it comes with [`Nodes::complete`].
    pub fn batch(&mut self, signers: &[u16], releases: &[VerifiedRelease]) -> Batch {
        let items = releases
            .iter()
            .map(|release| {
                let slots: Vec<u32> = (0..u32::try_from(release.signable_count()).unwrap()).collect();
                let commitments = slots
                    .iter()
                    .flat_map(|_| signers.iter().map(|index| self.draw(*index)).collect::<Vec<_>>());
                let commitments = commitments.collect();
                let terms = self.terms(release);
                BatchItem {
                    release_id: terms.release_id.clone(),
                    requester: terms.requester.clone(),
                    release: Arc::new(release.clone()),
                    commitments,
                    slots,
                    entry: Some(self.log.log_release(release, &terms)),
                    evidence: Vec::new(),
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

    /// What the entry of a release says besides the release.
    #[must_use]
    pub fn terms(&self, release: &VerifiedRelease) -> RequestTerms {
        RequestTerms {
            release_id: ReleaseId::new(format!("r-{}", release.sequence().get())).unwrap(),
            requester: Requester::new("pipeline").unwrap(),
            roster: Hash(*self.roster.hash().as_bytes()),
            deadline: DEADLINE,
            evidence: Vec::new(),
            embargo: None,
        }
    }

    /// Evidence that comes after the request: an entry of the log names it, and it goes with the item.
    pub fn bring(&mut self, item: &mut BatchItem, evidence: &[Vec<u8>]) {
        let entry = item.entry.as_mut().unwrap();
        // One document after another, as they come; the same twice is added once.
        for (number, document) in evidence.iter().enumerate() {
            if !evidence.iter().take(number).any(|before| before == document) {
                let digest = rutli_log::sha256(document);
                entry.added.push(self.log.log_evidence(entry.index, "custodian:anna", vec![digest], NOW));
            }
        }
        item.evidence = evidence.iter().cloned().map(Into::into).collect();
    }

    /// The batch as an honest coordinator sends it to this node.
    #[must_use]
    pub fn complete(&self, index: u16, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        self.log.complete(&mut batch, self.size(index));
        batch
    }

    /// Entries under the head that a node keeps.
    #[must_use]
    pub fn size(&self, index: u16) -> u64 {
        self.signers.get(usize::from(index)).unwrap().gate().size()
    }

    /// Takes one of a node's commitments.
    pub fn draw(&mut self, index: u16) -> CommitmentBytes {
        self.announced.get_mut(usize::from(index)).unwrap().pop().unwrap()
    }

    /// One node's answer to a batch of an honest coordinator, with a journal that works.
    pub fn ask(&mut self, index: u16, batch: &Batch) -> BatchReply {
        self.ask_on(index, STREAM, batch)
    }

    /// The same on another stream.
    pub fn ask_on(&mut self, index: u16, stream: StreamId, batch: &Batch) -> BatchReply {
        let batch = self.complete(index, batch);
        let signer = self.signers.get_mut(usize::from(index)).unwrap();
        let pending = signer.receive(stream, batch, NOW);
        signer.release_shares(pending, Ok(()))
    }

    /// All signers' shares of the first item's first slot, aggregated by the plain crate and verified strictly.
    pub fn sign(&mut self, batch: &Batch) {
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

impl Default for Nodes {
    fn default() -> Self {
        Self::new()
    }
}

/// Keys with the identities of those who hold them.
pub struct Deployment {
    /// Who.
    pub cast: Cast,
    /// What.
    pub keys: Rehearsed,
}

impl Deployment {
    /// The identity keys of all nodes.
    #[must_use]
    pub fn peers(&self) -> BTreeMap<NodeId, IdentityPublic> {
        self.cast.identities.iter().map(|(id, identity)| (id.clone(), identity.public())).collect()
    }
}

/// `vendor` 2 of 3 and `supervisor` 2 of 3.
#[must_use]
pub fn rehearse(seed: [u8; 32], keys: &[&str]) -> Deployment {
    let cast = Cast::new(&[("vendor", 2, 3), ("supervisor", 2, 3)], keys, seed).unwrap();
    let keys = cast.run().unwrap();
    Deployment { cast, keys }
}

/// The gate of a node that keeps this of a log.
#[must_use]
pub fn gate(rehearsed: &Deployment, log: &ScriptedLog, node: &NodeId, kept: LogState) -> Gate {
    let identity = Arc::clone(&rehearsed.cast.identities[node]);
    Gate::new(log.key(), node.clone(), identity, &rehearsed.peers(), kept).unwrap()
}

/// What hearts permit: the product `suite`, under embargo in the channel `stable` alone.
pub const SUITE: &str = r#"
@id("open")
permit (principal, action == Action::"sign", resource)
when { resource.class == Class::"product-build" && resource.product == "suite" && !context.embargoed };

@id("secret")
permit (principal, action == Action::"sign", resource)
when {
    resource.class == Class::"product-build" && resource.product == "suite" && resource.channel == "stable" &&
    context.embargoed
};
"#;

/// A policy of one text in Cedar, of a node whose journal is empty and that trusts nobody.
#[must_use]
pub fn policy(cedar: &str) -> Policy {
    let files = [("policy.cedar".to_owned(), cedar.as_bytes().to_vec())].into();
    Policy::new(Rules::parse(&files).unwrap(), 0, RateCounter::default(), Refusals::default())
}

/// The heart of the gate's node, with its share of one key. It permits [`SUITE`].
#[must_use]
pub fn signer(rehearsed: &Deployment, signed: &SignedRoster, gate: Gate) -> Signer {
    let node = gate.me().clone();
    let mut signer = Signer::new(node.clone(), policy(SUITE), Marks::default(), gate, None);
    let share: &SigningShare = rehearsed.keys.shares.get(&(node, signed.roster().key().clone())).unwrap();
    signer.install_key(signed.clone(), Locked::new(share.duplicate()).unwrap()).unwrap();
    signer
}

/// Opens a stream and gives what is announced on it.
#[must_use]
pub fn open(signer: &mut Signer, stream: StreamId, rng: &mut StdRng) -> Vec<CommitmentBytes> {
    signer.stream_opened(stream);
    signer
        .announce(stream, 48, rng)
        .unwrap()
        .into_iter()
        .flat_map(|message| match message {
            FromNode::Commitments(_, commitments) => commitments,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// The key's name.
#[must_use]
pub fn key() -> KeyName {
    KeyName::new("release").unwrap()
}

/// A release of `suite`; its content follows from the sequence.
#[must_use]
pub fn release(sequence: u64) -> VerifiedRelease {
    content(sequence, 1, None)
}

/// A release of `suite` with one file of this byte.
#[must_use]
pub fn content(sequence: u64, byte: u8, expires_at: Option<u64>) -> VerifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: format!("1.{sequence}"),
        sequence,
        issued_at: NOW - 100,
        expires_at,
        artifacts: vec![UnverifiedArtifact { name: "suite.bin".into(), sha256: vec![byte; 32] }],
        formats: vec![Format::Statement],
    }
    .verify()
    .unwrap()
}

/// A commitment's points.
#[must_use]
pub fn parse(commitment: &CommitmentBytes) -> SigningCommitments {
    let (hiding, binding) = commitment.0.split_at(32);
    SigningCommitments::new(
        NonceCommitment::deserialize(hiding).unwrap(),
        NonceCommitment::deserialize(binding).unwrap(),
    )
}

/// The shares of a reply whose batch has one item.
#[must_use]
pub fn shares_of(reply: &BatchReply) -> Vec<[u8; 32]> {
    reply.answer.as_ref().unwrap().first().unwrap().clone().unwrap()
}

/// The one word with which a batch, or its only item, was refused.
#[must_use]
pub fn refusal(reply: &BatchReply) -> RefusalCode {
    match &reply.answer {
        Err(refusal) => refusal.code,
        Ok(items) => items.first().unwrap().as_ref().unwrap_err().code,
    }
}
