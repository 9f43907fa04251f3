//! Keys that a node holds, scaled for quorums, and the shares made with them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use frost_ed25519::{
    self as frost, Identifier, SigningPackage,
    keys::KeyPackage,
    round1::{NonceCommitment, SigningCommitments},
};
use rutli_keys::{KeyName, Quorum, Roster, RosterHash, SigningShare, effective_key_package};
use rutli_signer_secrets::{Locked, NoncePair, on_wiped_stack};
use rutli_wire::link::{CommitmentBytes, ItemReply, Refusal, RefusalCode};

use super::{malformed, refuse};
use crate::{limits, policy::PermittedRelease};

/// A key of this node.
#[derive(Debug)]
pub(super) struct HeldKey {
    pub(super) roster: Roster,
    pub(super) index: u16,
    /// `None`: sealed.
    pub(super) share: Option<Locked<SigningShare>>,
    /// The share scaled for each quorum met so far, with the signers' identifiers in order.
    pub(super) effective: HashMap<Vec<u16>, Arc<Effective>>,
}

/// A share scaled for one quorum.
#[derive(Debug)]
pub(super) struct Effective {
    pub(super) package: Locked<KeyPackage>,
    pub(super) identifiers: Vec<Identifier>,
    /// Own place among the signers.
    pub(super) place: usize,
}

/// A batch that was opened: what is to be signed for it.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) key: KeyName,
    /// What the key's roster was then.
    pub(super) roster: RosterHash,
    pub(super) effective: Arc<Effective>,
    pub(super) items: Vec<Result<ItemWork, Refusal>>,
}

/// One permitted release of a batch.
#[derive(Debug)]
pub(super) struct ItemWork {
    pub(super) release: PermittedRelease,
    pub(super) slots: Vec<SlotWork>,
}

/// One signature, with the nonces that were drawn for it.
#[derive(Debug)]
pub(super) struct SlotWork {
    pub(super) slot: u32,
    pub(super) pair: NoncePair,
    pub(super) commitments: Vec<CommitmentBytes>,
}

impl HeldKey {
    /// The share scaled for a quorum. The rule of the whole system is checked here, from the node's own roster: exactly
    /// a threshold of every organisation.
    pub(super) fn effective(&mut self, signers: &[u16]) -> Result<Arc<Effective>, Refusal> {
        if let Some(effective) = self.effective.get(signers) {
            return Ok(Arc::clone(effective));
        }
        let wrong = |problem: String| refuse(RefusalCode::WrongQuorum, problem);
        let quorum = Quorum::new(&self.roster, signers).map_err(|error| wrong(error.to_string()))?;
        let place = signers
            .iter()
            .position(|index| *index == self.index)
            .ok_or_else(|| wrong("this node is not among the signers".to_owned()))?;
        let share = self
            .share
            .as_ref()
            .ok_or_else(|| refuse(RefusalCode::Sealed, "the share of this key is sealed".to_owned()))?;
        let package = on_wiped_stack(|| {
            let package = effective_key_package(&self.roster, self.index, share, &quorum)
                .map_err(|error| wrong(error.to_string()))?;
            Locked::new(package).map_err(|error| refuse(RefusalCode::Closed, error.to_string()))
        })?;
        let identifiers =
            signers.iter().filter_map(|index| self.roster.identifier(*index).copied()).collect();
        if self.effective.len() >= limits::MAX_CACHED_QUORUMS {
            self.effective.clear();
        }
        let effective = Arc::new(Effective { package, identifiers, place });
        self.effective.insert(signers.to_vec(), Arc::clone(&effective));
        Ok(effective)
    }
}

/// One share for each slot of a permitted release, over bytes that this node encodes itself.
pub(super) fn sign_item(effective: &Effective, item: ItemWork) -> ItemReply {
    let signables = item.release.release().signables();
    item.slots
        .into_iter()
        .map(|slot| {
            let signable = usize::try_from(slot.slot)
                .ok()
                .and_then(|index| signables.get(index))
                .ok_or_else(|| malformed("a slot lies outside of the release"))?;
            sign_slot(effective, slot, &signable.bytes)
        })
        .collect()
}

/// The node gets the commitments, and computes the rest itself: binding factors, group commitment, challenge. A chosen
/// challenge would open the attacks of Drijvers et al. and of ROS.
fn sign_slot(effective: &Effective, slot: SlotWork, message: &[u8]) -> Result<[u8; 32], Refusal> {
    let mut commitments = BTreeMap::new();
    for (place, (identifier, bytes)) in effective.identifiers.iter().zip(&slot.commitments).enumerate() {
        let parsed =
            if place == effective.place { *slot.pair.commitments() } else { parse_commitment(bytes)? };
        commitments.insert(*identifier, parsed);
    }
    let package = SigningPackage::new(commitments, message);
    let share = slot
        .pair
        .sign(&package, &effective.package)
        .map_err(|error| malformed(&format!("signing failed: {error}")))?;
    <[u8; 32]>::try_from(share.serialize()).map_err(|_| malformed("a share has 32 bytes"))
}

/// Both points with their subgroup checks (RFC 9591, section 6.1).
fn parse_commitment(bytes: &CommitmentBytes) -> Result<SigningCommitments, Refusal> {
    let (hiding, binding) = bytes.0.split_at(32);
    let point = |bytes: &[u8]| {
        NonceCommitment::deserialize(bytes)
            .map_err(|_: frost::Error| malformed("a commitment is not a point of the group"))
    };
    Ok(SigningCommitments::new(point(hiding)?, point(binding)?))
}

pub(super) fn fits(share: &SigningShare, roster: &Roster, index: u16) -> bool {
    let verifying_share = on_wiped_stack(|| share.verifying_share());
    roster.node(index).is_some_and(|node| node.verifying_share == verifying_share)
}
