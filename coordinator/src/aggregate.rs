//! From signature shares to signatures (RFC 9591, section 5.3): sum, verify, and only if that fails name the culprit.
//!
//! Pure computation over one session, made for a thread of its own. The sum is made here, from points that were parsed when
//! they arrived and without the checks that only serve to name a culprit: what comes out is verified, strictly, as an
//! endpoint will, so that a wrong sum can be nothing but slow. If it does not verify, all is done again by frost, with every
//! check: commitments outside of the prime-order group first, then share by share. The verifying shares are scaled for the
//! quorum, so that `aggregate` blames the node that lied and nobody else.

use std::{collections::BTreeMap, sync::Arc};

use curve25519_dalek::{Scalar, edwards::EdwardsPoint, traits::VartimeMultiscalarMul as _};
use frost_ed25519::{
    self as frost, Ciphersuite as _, Ed25519ScalarField, Ed25519Sha512, Field as _, Identifier,
    SigningPackage, keys::PublicKeyPackage, round2::SignatureShare,
};
use rutli_keys::{Quorum, Roster, effective_public_package};
use rutli_release::{ReleaseKey, Signable, VerifiedRelease, VerifiedSignature};
use rutli_wire::link::BatchId;

use crate::commitment::Commitment;

/// One quorum with what aggregation needs of it.
#[derive(Debug)]
pub struct QuorumKeys {
    /// In the order of the signers on the wire.
    identifiers: Vec<Identifier>,
    /// Places in that order with their encoded identifiers, by identifier: the order of RFC 9591.
    encoded: Vec<(usize, Vec<u8>)>,
    /// With scaled verifying shares.
    public: PublicKeyPackage,
    /// The group key.
    key: ReleaseKey,
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
    pub commitments: Vec<Commitment>,
    /// Signer by signer, slot by slot.
    pub shares: Vec<Vec<[u8; 32]>>,
}

/// What came of a job.
#[derive(Debug)]
pub struct AggregateResult {
    /// Of the session.
    pub batch: BatchId,
    /// Item by item, slot by slot.
    pub items: Vec<Vec<Result<VerifiedSignature, Blame>>>,
}

/// Why a slot has no signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Places of the signers that sent a wrong share, in the quorum's order; empty if nobody can be blamed.
    pub places: Vec<usize>,
    /// For a person.
    pub reason: String,
}

impl QuorumKeys {
    /// What a quorum of a roster needs; `None` if it is no quorum of it.
    #[must_use]
    pub fn new(roster: &Roster, quorum: &Quorum) -> Option<Self> {
        let identifiers: Option<Vec<Identifier>> =
            quorum.indices().iter().map(|index| roster.identifier(*index).copied()).collect();
        let public = effective_public_package(roster, quorum).ok()?;
        Some(Self::of(identifiers?, public, ReleaseKey::from_bytes(roster.group_key()).ok()?))
    }

    fn of(identifiers: Vec<Identifier>, public: PublicKeyPackage, key: ReleaseKey) -> Self {
        let mut by_identifier: Vec<(Identifier, usize)> = identifiers.iter().copied().zip(0..).collect();
        by_identifier.sort_unstable();
        let encoded =
            by_identifier.into_iter().map(|(identifier, place)| (place, identifier.serialize())).collect();
        Self { identifiers, encoded, public, key }
    }
}

/// Aggregates all items of a session.
#[must_use]
pub fn aggregate(job: &AggregateJob) -> AggregateResult {
    let items = job.items.iter().map(|item| aggregate_item(&job.quorum, item)).collect();
    AggregateResult { batch: job.batch, items }
}

fn aggregate_item(quorum: &QuorumKeys, item: &AggregateItem) -> Vec<Result<VerifiedSignature, Blame>> {
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
                _ => Err(nobody("the session was incomplete")),
            }
        })
        .collect()
}

fn aggregate_slot(
    quorum: &QuorumKeys,
    signable: &Signable,
    commitments: &[Commitment],
    shares: &[[u8; 32]],
) -> Result<VerifiedSignature, Blame> {
    let summed = sum(quorum, &signable.bytes, commitments, shares);
    if let Some(verified) = summed.and_then(|signature| quorum.key.check(&signable.bytes, signature).ok()) {
        return Ok(verified);
    }
    let signature = aggregate_checked(quorum, &signable.bytes, commitments, shares)?;
    // What frost takes for a signature is one, strictly: its points are of the prime-order group.
    quorum.key.check(&signable.bytes, signature).map_err(|_| nobody("the signature does not verify"))
}

/// The signature that the shares make (RFC 9591, sections 4.4, 4.5 and 5.3): binding factors, `R = Σ (D_i + ρ_i E_i)` and
/// `z = Σ z_i`. Nothing about it is verified. `None` if a share is no scalar, or something is missing.
fn sum(
    quorum: &QuorumKeys,
    message: &[u8],
    commitments: &[Commitment],
    shares: &[[u8; 32]],
) -> Option<[u8; 64]> {
    let signers = quorum.encoded.len();
    if commitments.len() != signers || shares.len() != signers {
        return None;
    }
    let mut list = Vec::with_capacity(signers * 96);
    for (place, identifier) in &quorum.encoded {
        list.extend_from_slice(identifier);
        list.extend_from_slice(&commitments.get(*place)?.bytes.0);
    }
    let mut input = Vec::with_capacity(32 + 64 + 64 + 32);
    input.extend_from_slice(quorum.key.as_bytes());
    input.extend_from_slice(&Ed25519Sha512::H4(message));
    input.extend_from_slice(&Ed25519Sha512::H5(&list));
    let prefix = input.len();
    let mut factors = Vec::with_capacity(signers);
    let mut binding = Vec::with_capacity(signers);
    let mut point = EdwardsPoint::default();
    let mut scalar = Scalar::ZERO;
    for (place, identifier) in &quorum.encoded {
        input.truncate(prefix);
        input.extend_from_slice(identifier);
        factors.push(Ed25519Sha512::H1(&input));
        let commitment = commitments.get(*place)?;
        binding.push(commitment.binding());
        point += commitment.hiding();
        scalar += Ed25519ScalarField::deserialize(shares.get(*place)?).ok()?;
    }
    point += EdwardsPoint::vartime_multiscalar_mul(&factors, &binding);
    <[u8; 64]>::try_from([point.compress().to_bytes(), scalar.to_bytes()].concat()).ok()
}

/// The same by frost, with every check: of two wrong things the one that it finds first names the culprit.
fn aggregate_checked(
    quorum: &QuorumKeys,
    message: &[u8],
    commitments: &[Commitment],
    shares: &[[u8; 32]],
) -> Result<[u8; 64], Blame> {
    let mut points = BTreeMap::new();
    let mut outside = Vec::new();
    for (place, (identifier, commitment)) in quorum.identifiers.iter().zip(commitments).enumerate() {
        match commitment.to_frost() {
            Some(checked) => drop(points.insert(*identifier, checked)),
            None => outside.push(place),
        }
    }
    if !outside.is_empty() {
        return Err(Blame { places: outside, reason: OUTSIDE_GROUP.to_owned() });
    }
    let package = SigningPackage::new(points, message);
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
    <[u8; 64]>::try_from(bytes).map_err(|_| nobody("a signature has 64 bytes"))
}

/// What a node did whose commitment is no point of the prime-order group.
pub(crate) const OUTSIDE_GROUP: &str = "announced a commitment that is not of the prime-order group";

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

fn nobody(reason: &str) -> Blame {
    Blame { places: Vec::new(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests;
