//! Nonce commitments as the nodes announce them (RFC 9591, section 5.1).
//!
//! Nearly all of what parsing one costs is the check that its points are of the prime-order group. The nodes make that check
//! on every foreign commitment before they sign; the coordinator, which holds no secret and verifies every signature that
//! comes of one, makes it only when something went wrong, to find out whose commitment it was.

use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use frost_ed25519::round1::{NonceCommitment, SigningCommitments};
use rutli_wire::link::CommitmentBytes;

/// A commitment with its points, parsed once when it arrives. They are on the curve, canonically encoded and not of small
/// order; whether they are of the prime-order group, only [`to_frost`](Self::to_frost) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commitment {
    /// As announced.
    pub bytes: CommitmentBytes,
    hiding: EdwardsPoint,
    binding: EdwardsPoint,
}

impl Commitment {
    /// Parses both points; `None` if one of them is none, or nothing that an honest node can have drawn.
    #[must_use]
    pub fn parse(bytes: CommitmentBytes) -> Option<Self> {
        let (hiding, binding) = bytes.0.split_at(32);
        Some(Self { bytes, hiding: point(hiding)?, binding: point(binding)? })
    }

    /// Both points for frost, with the check of RFC 9591, section 6.1; `None` if one is not of the prime-order group.
    #[must_use]
    pub fn to_frost(&self) -> Option<SigningCommitments> {
        let (hiding, binding) = self.bytes.0.split_at(32);
        let hiding = NonceCommitment::deserialize(hiding).ok()?;
        let binding = NonceCommitment::deserialize(binding).ok()?;
        Some(SigningCommitments::new(hiding, binding))
    }

    /// The hiding commitment.
    #[must_use]
    pub fn hiding(&self) -> EdwardsPoint {
        self.hiding
    }

    /// The binding commitment.
    #[must_use]
    pub fn binding(&self) -> EdwardsPoint {
        self.binding
    }
}

fn point(bytes: &[u8]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY::from_slice(bytes).ok()?.decompress()?;
    // A second encoding of a point has a y of p or more, or the sign of an x that is 0; the latter are of small order.
    (is_reduced(bytes) && !point.is_small_order()).then_some(point)
}

/// Whether y is below p = 2^255 - 19: decompression takes it modulo p.
fn is_reduced(bytes: &[u8]) -> bool {
    let (Some((low, rest)), Some(high)) = (bytes.split_first(), bytes.last()) else { return false };
    let middle = rest.get(..rest.len().saturating_sub(1)).unwrap_or_default();
    *low < 0xed || high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{Scalar, constants::EIGHT_TORSION};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::commitments::with_torsion;

    fn both(point: [u8; 32]) -> CommitmentBytes {
        CommitmentBytes([point, point].concat().try_into().unwrap())
    }

    /// What frost says about a point, and what is said here. They differ for points of mixed order alone.
    fn verdicts(bytes: [u8; 32]) -> (bool, bool, bool) {
        let parsed = Commitment::parse(both(bytes));
        let mixed = parsed.is_some_and(|parsed| !parsed.hiding().is_torsion_free());
        let checked = parsed.and_then(|parsed| parsed.to_frost()).is_some();
        assert_eq!(checked, NonceCommitment::deserialize(&bytes).is_ok(), "{bytes:02x?}");
        (parsed.is_some(), checked, mixed)
    }

    #[test]
    fn only_points_of_mixed_order_are_taken_that_frost_refuses() {
        let honest = EdwardsPoint::mul_base(&Scalar::from(7_u64));
        assert_eq!(verdicts(honest.compress().to_bytes()), (true, true, false));
        for torsion in EIGHT_TORSION {
            assert_eq!(verdicts(torsion.compress().to_bytes()), (false, false, false), "of small order");
            let mixed = (honest + torsion).compress().to_bytes();
            let is_mixed = torsion != EIGHT_TORSION[0];
            assert_eq!(verdicts(mixed), (true, !is_mixed, is_mixed));
        }
    }

    #[test]
    fn no_second_encoding_of_a_point_is_taken() {
        let mut decoded = 0;
        for low in 0xed_u8..=0xff {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, high);
                decoded += usize::from(CompressedEdwardsY(bytes).decompress().is_some());
                assert_eq!(verdicts(bytes), (false, false, false), "{low:x} {high:x}");
            }
        }
        assert!(decoded > 0, "some of these are points to whoever does not look");
        // x = 0 with the sign of a negative number: y = 1 and y = -1.
        let mut one = [0; 32];
        (one[0], one[31]) = (1, 0x80);
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        for bytes in [one, minus_one] {
            assert!(CompressedEdwardsY(bytes).decompress().is_some());
            assert_eq!(verdicts(bytes), (false, false, false));
        }
    }

    #[test]
    fn both_halves_are_looked_at() {
        let honest = EdwardsPoint::mul_base(&Scalar::from(7_u64)).compress().to_bytes();
        for bad in [[0xff; 32], EIGHT_TORSION[1].compress().to_bytes()] {
            for halves in [[honest, bad], [bad, honest]] {
                assert_eq!(Commitment::parse(CommitmentBytes(halves.concat().try_into().unwrap())), None);
            }
        }
        for half in 0..2 {
            let mixed = Commitment::parse(with_torsion(both(honest), half)).unwrap();
            assert_eq!(mixed.to_frost(), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_is_refused_frost_refuses(bytes in any::<[u8; 32]>()) {
            let (taken, checked, mixed) = verdicts(bytes);
            prop_assert_eq!(checked, taken && !mixed);
        }
    }
}
