//! The sum against frost: the same signatures, and of whatever is wrong the same blame.

use std::sync::LazyLock;

use frost_ed25519::{VerifyingKey, keys::VerifyingShare, round1, round2};
use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};
use rutli_keys::{NodeId, effective_key_package, rehearsal::Cast};
use rutli_release::SignableKind;
use rutli_wire::link::CommitmentBytes;
use serde_json::Value;

use super::*;
use crate::testing::commitments::{frost_commitments, with_torsion};

/// A quorum with all its secrets.
struct Signers {
    keys: QuorumKeys,
    packages: Vec<frost::keys::KeyPackage>,
}

/// One slot, complete.
#[derive(Clone, Debug)]
struct Slot {
    signable: Signable,
    commitments: Vec<Commitment>,
    shares: Vec<[u8; 32]>,
}

/// Quorums of several shapes; roster indices are not in the order of identifiers in all of them.
static QUORUMS: LazyLock<Vec<Signers>> = LazyLock::new(|| {
    [
        vec![("vendor", 2, 3), ("supervisor", 1, 1)],
        vec![("a", 1, 1), ("b", 1, 1)],
        vec![("vendor", 3, 5), ("supervisor", 2, 3), ("auditor", 2, 2)],
    ]
    .iter()
    .map(|organisations| signers(organisations))
    .collect()
});

fn signers(organisations: &[(&str, u16, u16)]) -> Signers {
    let rehearsed = Cast::new(organisations, &["release"], [5; 32]).unwrap().run().unwrap();
    let roster = rehearsed.rosters[0].roster();
    let mut indices: Vec<u16> = Vec::new();
    for organisation in roster.organisations() {
        // Not the first of each: the others' shares are scaled, too.
        let chosen = organisation.nodes.iter().rev().take(usize::from(organisation.threshold));
        indices.extend(chosen.map(|node| roster.index_of(&node.id).unwrap()));
    }
    indices.sort_unstable();
    let quorum = Quorum::new(roster, &indices).unwrap();
    let package = |index: &u16| {
        let id: NodeId = roster.node(*index).unwrap().id.clone();
        let share = &rehearsed.shares[&(id, roster.key().clone())];
        effective_key_package(roster, *index, share, &quorum).unwrap()
    };
    let packages = indices.iter().map(package).collect();
    Signers { keys: QuorumKeys::new(roster, &quorum).unwrap(), packages }
}

impl Signers {
    /// What honest nodes send for a message.
    fn sign(&self, message: &[u8], seed: u64) -> Slot {
        let mut rng = StdRng::seed_from_u64(seed);
        let drawn = self.packages.iter().map(|package| round1::commit(package.signing_share(), &mut rng));
        let (nonces, points): (Vec<_>, Vec<_>) = drawn.unzip();
        let package =
            SigningPackage::new(self.keys.identifiers.iter().copied().zip(points.clone()).collect(), message);
        let signed = nonces.iter().zip(&self.packages);
        let shares = signed.map(|(nonces, key)| round2::sign(&package, nonces, key).unwrap().serialize());
        Slot {
            signable: Signable { kind: SignableKind::Statement, bytes: message.to_vec() },
            shares: shares.map(|share| share.try_into().unwrap()).collect(),
            commitments: points.iter().map(commitment).collect(),
        }
    }

    fn aggregate(&self, slot: &Slot) -> Result<[u8; 64], Blame> {
        aggregate_slot(&self.keys, &slot.signable, &slot.commitments, &slot.shares)
            .map(|verified| *verified.bytes())
    }

    /// What frost makes of it, by the crate's own functions alone.
    fn by_frost(&self, slot: &Slot) -> Result<[u8; 64], Blame> {
        let points = slot.commitments.iter().map(|commitment| frost_commitments(commitment.bytes));
        let ids = || self.keys.identifiers.iter().copied();
        let package = SigningPackage::new(ids().zip(points).collect(), &slot.signable.bytes);
        let mut shares = BTreeMap::new();
        for (place, (id, share)) in ids().zip(&slot.shares).enumerate() {
            let Ok(share) = SignatureShare::deserialize(share) else {
                let reason = "sent a signature share that is no scalar".to_owned();
                return Err(Blame { places: vec![place], reason });
            };
            shares.insert(id, share);
        }
        match frost::aggregate(&package, &shares, &self.keys.public) {
            Ok(signature) => Ok(signature.serialize().unwrap().try_into().unwrap()),
            Err(error) => {
                let culprits = error.culprits();
                let named = ids().zip(0..).filter(|(id, _)| culprits.contains(id));
                let reason = format!("sent a wrong signature share ({error})");
                Err(Blame { places: named.map(|(_, place)| place).collect(), reason })
            }
        }
    }
}

fn commitment(points: &round1::SigningCommitments) -> Commitment {
    let halves = [points.hiding(), points.binding()].map(|point| point.serialize().unwrap());
    Commitment::parse(CommitmentBytes(halves.concat().try_into().unwrap())).unwrap()
}

/// What a node may do to its share or commitment.
#[derive(Clone, Debug)]
enum Lie {
    Flips { bit: u8 },
    Sends([u8; 32]),
    SendsShareOf { place: usize },
    CommitsAs { seed: u64 },
}

fn lies() -> impl Strategy<Value = Vec<(usize, Lie)>> {
    let lie = prop_oneof![
        any::<u8>().prop_map(|bit| Lie::Flips { bit }),
        any::<[u8; 32]>().prop_map(Lie::Sends),
        (0..7_usize).prop_map(|place| Lie::SendsShareOf { place }),
        any::<u64>().prop_map(|seed| Lie::CommitsAs { seed }),
    ];
    proptest::collection::vec((0..7_usize, lie), 1..4)
}

impl Slot {
    fn tell(&mut self, signers: &Signers, place: usize, lie: &Lie) {
        let width = self.shares.len();
        let place = place % width;
        match lie {
            Lie::Flips { bit } => self.shares[place][usize::from(bit / 8)] ^= 1 << (bit % 8),
            Lie::Sends(bytes) => self.shares[place] = *bytes,
            Lie::SendsShareOf { place: other } => self.shares[place] = self.shares[other % width],
            Lie::CommitsAs { seed } => {
                self.commitments[place] = signers.sign(b"other", *seed).commitments[place];
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_sum_is_frosts_to_the_byte(message: Vec<u8>, seed: u64, which in 0..3_usize) {
        let signers = &QUORUMS[which];
        let slot = signers.sign(&message, seed);
        let summed = sum(&signers.keys, &message, &slot.commitments, &slot.shares);
        prop_assert_eq!(summed, Some(signers.by_frost(&slot).unwrap()));
        prop_assert_eq!(signers.aggregate(&slot).ok(), summed);
    }

    #[test]
    fn whoever_lies_is_blamed_as_by_frost(
        message: Vec<u8>, seed: u64, which in 0..3_usize, lies in lies()
    ) {
        let signers = &QUORUMS[which];
        let mut slot = signers.sign(&message, seed);
        for (place, lie) in &lies {
            slot.tell(signers, *place, lie);
        }
        prop_assert_eq!(signers.aggregate(&slot), signers.by_frost(&slot));
    }
}

#[test]
fn who_sends_a_wrong_share_is_named_alone() {
    for signers in &*QUORUMS {
        let honest = signers.sign(b"message", 1);
        for place in 0..honest.shares.len() {
            let mut slot = honest.clone();
            slot.tell(signers, place, &Lie::Flips { bit: 3 });
            assert_eq!(signers.aggregate(&slot).unwrap_err().places, [place]);
            slot.tell(signers, place, &Lie::Sends([0xff; 32]));
            assert_eq!(signers.aggregate(&slot).unwrap_err().places, [place]);
        }
    }
}

#[test]
fn whose_commitment_is_not_of_the_group_is_named_alone() {
    for signers in &*QUORUMS {
        let honest = signers.sign(b"message", 1);
        for (place, half) in (0..honest.shares.len()).flat_map(|place| [(place, 0), (place, 1)]) {
            let mut slot = honest.clone();
            let bytes = with_torsion(slot.commitments[place].bytes, half);
            slot.commitments[place] = Commitment::parse(bytes).unwrap();
            let blame = signers.aggregate(&slot).unwrap_err();
            assert_eq!((blame.places, blame.reason.as_str()), (vec![place], OUTSIDE_GROUP), "{half}");
            // Though another's share is wrong as well: it may be so because of the commitment.
            slot.tell(signers, place + 1, &Lie::Sends([0xff; 32]));
            assert_eq!(signers.aggregate(&slot).unwrap_err().places, [place]);
        }
    }
}

#[test]
fn what_is_incomplete_is_nobodys_fault() {
    let signers = &QUORUMS[0];
    let honest = signers.sign(b"message", 1);
    let (mut commitments, mut shares) = (honest.clone(), honest);
    commitments.commitments.pop();
    shares.shares.pop();
    for slot in [commitments, shares] {
        assert_eq!(signers.aggregate(&slot).unwrap_err().places, Vec::<usize>::new());
    }
}

#[test]
fn rfc_9591_appendix_e_1() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../../proto/keys/tests/data/rfc9591-appendix-e1.json"))
            .unwrap();
    let bytes = |value: &Value, name: &str| hex::decode(value[name].as_str().unwrap()).unwrap();
    let group_key = bytes(&vectors, "group_public_key");
    let participants = vectors["participants"].as_object().unwrap();
    let mut identifiers = Vec::new();
    let (mut commitments, mut shares, mut verifying) = (Vec::new(), Vec::new(), BTreeMap::new());
    // On the wire in the other order than by identifier.
    for (number, values) in participants.iter().rev() {
        let identifier = Identifier::try_from(number.parse::<u16>().unwrap()).unwrap();
        let halves = [bytes(values, "hiding_commitment"), bytes(values, "binding_commitment")].concat();
        let signing = frost::keys::SigningShare::deserialize(&bytes(values, "signing_share")).unwrap();
        identifiers.push(identifier);
        commitments.push(Commitment::parse(CommitmentBytes(halves.try_into().unwrap())).unwrap());
        shares.push(bytes(values, "signature_share").try_into().unwrap());
        verifying.insert(identifier, VerifyingShare::from(signing));
    }
    let public = PublicKeyPackage::new(verifying, VerifyingKey::deserialize(&group_key).unwrap(), Some(2));
    let key = ReleaseKey::from_bytes(&group_key.try_into().unwrap()).unwrap();
    let keys = QuorumKeys::of(identifiers, public, key);
    let message = bytes(&vectors, "message");
    let signature = sum(&keys, &message, &commitments, &shares).unwrap();
    assert_eq!(signature.to_vec(), bytes(&vectors, "signature"));
    keys.key.check(&message, signature).unwrap();
}
