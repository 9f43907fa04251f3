//! Commitments, good and bad.

use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY};
use frost_ed25519::round1::SigningCommitments;
use rutli_wire::link::CommitmentBytes;

use crate::commitment::Commitment;

/// As a node reads it.
pub(crate) fn frost_commitments(bytes: CommitmentBytes) -> SigningCommitments {
    Commitment::parse(bytes).unwrap().to_frost().unwrap()
}

/// The same with a part of small order in its hiding (0) or binding (1) point.
pub(crate) fn with_torsion(bytes: CommitmentBytes, half: usize) -> CommitmentBytes {
    let mut bytes = bytes.0;
    let place = &mut bytes[32 * half..32 * (half + 1)];
    let point = CompressedEdwardsY::from_slice(place).unwrap().decompress().unwrap();
    place.copy_from_slice((point + EIGHT_TORSION[1]).compress().as_bytes());
    CommitmentBytes(bytes)
}
