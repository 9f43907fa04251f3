//! From signature shares to signatures (RFC 9591, section 5.3): sum, verify, and only if that fails name the culprit.
//!
//! Pure computation over one session, made for a thread of its own. The verifying shares are scaled for the quorum, so
//! that `aggregate` blames the node that lied and nobody else.

use std::{collections::BTreeMap, sync::Arc};

use frost_ed25519::{
    self as frost, Identifier, SigningPackage, keys::PublicKeyPackage, round1::SigningCommitments,
    round2::SignatureShare,
};
use rutli_release::{Signable, VerifiedRelease};
use rutli_wire::link::BatchId;

/// One quorum with what aggregation needs of it.
#[derive(Debug)]
pub struct QuorumKeys {
    /// In the order of the signers on the wire.
    pub identifiers: Vec<Identifier>,
    /// With scaled verifying shares.
    pub public: PublicKeyPackage,
}

/// The shares of one session, complete for each of its items.
#[derive(Debug)]
pub struct AggregateJob {
    /// Of the session.
    pub batch: BatchId,
    /// Of the session.
    pub quorum: Arc<QuorumKeys>,
    /// At least one.
    pub items: Vec<AggregateItem>,
}

/// The shares of one release in a session.
#[derive(Debug)]
pub struct AggregateItem {
    /// What is signed.
    pub release: Arc<VerifiedRelease>,
    /// Which of its signables.
    pub slots: Vec<u32>,
    /// Slot by slot, signer by signer.
    pub commitments: Vec<SigningCommitments>,
    /// Signer by signer, slot by slot.
    pub shares: Vec<Vec<[u8; 32]>>,
}

/// What came of a job.
#[derive(Debug)]
pub struct AggregateResult {
    /// Of the session.
    pub batch: BatchId,
    /// Item by item, slot by slot.
    pub items: Vec<Vec<Result<[u8; 64], Blame>>>,
}

/// Why a slot has no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Places of the signers that sent a wrong share, in the quorum's order; empty if nobody can be blamed.
    pub places: Vec<usize>,
    /// For a person.
    pub reason: String,
}

/// Aggregates all items of a session.
#[must_use]
pub fn aggregate(job: &AggregateJob) -> AggregateResult {
    let items = job.items.iter().map(|item| aggregate_item(&job.quorum, item)).collect();
    AggregateResult { batch: job.batch, items }
}

fn aggregate_item(quorum: &QuorumKeys, item: &AggregateItem) -> Vec<Result<[u8; 64], Blame>> {
    let signables = item.release.signables();
    let signers = quorum.identifiers.len().max(1);
    item.slots
        .iter()
        .zip(item.commitments.chunks(signers))
        .enumerate()
        .map(|(row, (slot, commitments))| {
            let signable = usize::try_from(*slot).ok().and_then(|slot| signables.get(slot));
            let shares =
                item.shares.iter().map(|of_signer| of_signer.get(row).copied()).collect::<Option<Vec<_>>>();
            match (signable, shares) {
                (Some(signable), Some(shares)) => aggregate_slot(quorum, signable, commitments, &shares),
                // The engine hands over complete items only; an incomplete one is nobody's fault but ours.
                _ => Err(Blame { places: Vec::new(), reason: "the session was incomplete".to_owned() }),
            }
        })
        .collect()
}

fn aggregate_slot(
    quorum: &QuorumKeys,
    signable: &Signable,
    commitments: &[SigningCommitments],
    shares: &[[u8; 32]],
) -> Result<[u8; 64], Blame> {
    let commitments: BTreeMap<_, _> =
        quorum.identifiers.iter().copied().zip(commitments.iter().copied()).collect();
    let package = SigningPackage::new(commitments, &signable.bytes);
    let mut parsed = BTreeMap::new();
    for (place, (identifier, share)) in quorum.identifiers.iter().zip(shares).enumerate() {
        let share = SignatureShare::deserialize(share).map_err(|_| Blame {
            places: vec![place],
            reason: "sent a signature share that is no scalar".to_owned(),
        })?;
        parsed.insert(*identifier, share);
    }
    let signature =
        frost::aggregate(&package, &parsed, &quorum.public).map_err(|error| blame(quorum, &error))?;
    let bytes = signature.serialize().map_err(|error| blame(quorum, &error))?;
    <[u8; 64]>::try_from(bytes)
        .map_err(|_| Blame { places: Vec::new(), reason: "a signature has 64 bytes".to_owned() })
}

fn blame(quorum: &QuorumKeys, error: &frost::Error) -> Blame {
    let culprits = error.culprits();
    let places = quorum
        .identifiers
        .iter()
        .enumerate()
        .filter(|(_, identifier)| culprits.contains(identifier))
        .map(|(place, _)| place)
        .collect();
    Blame { places, reason: format!("sent a wrong signature share ({error})") }
}
