//! Nonces that are used once (RFC 9591, sections 4.1 and 5.1).
//!
//! A pair is made ahead of time, its commitment is announced on one stream, and it is consumed **by value** by the one
//! signature it is for. It is neither `Clone` nor `Copy`, has no encoding, and leaves the pool before anything is
//! computed with it, whatever happens afterwards. The pool belongs to a stream: a new stream means a new pool, a restart
//! means none. The only name of a pair is its commitment.

use std::{collections::HashMap, fmt};

use frost_ed25519::{
    self as frost, SigningPackage,
    keys::{KeyPackage, SigningShare},
    round1::{SigningCommitments, SigningNonces},
    round2::SignatureShare,
};
use rand::{CryptoRng, RngCore};
use rutli_wire::link::CommitmentBytes;
use zeroize::Zeroize;

/// A hiding and a binding nonce; see the module.
pub struct NoncePair(SigningNonces);

/// A commitment that does not lie in the stream's pool. Either the coordinator erred or lies, or the stream was lost in
/// between; a fresh session with fresh commitments is the way out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "commitment {0} is not in this connection's pool: used already, another node's, or of an earlier connection"
)]
pub struct UnknownCommitment(pub CommitmentBytes);

impl NoncePair {
    fn make(share: &SigningShare, rng: &mut (impl RngCore + CryptoRng)) -> (CommitmentBytes, Self) {
        let (nonces, commitments) = frost::round1::commit(share, rng);
        (commitment_bytes(&commitments), Self(nonces))
    }

    /// What was announced, as points.
    #[must_use]
    pub fn commitments(&self) -> &SigningCommitments {
        self.0.commitments()
    }

    /// Consumes the pair for one signature share (RFC 9591, section 5.2).
    pub fn sign(
        mut self,
        package: &SigningPackage,
        key: &KeyPackage,
    ) -> Result<SignatureShare, frost::Error> {
        let share = frost::round2::sign(package, &self.0, key);
        self.0.zeroize();
        share
    }
}

impl Drop for NoncePair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for NoncePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoncePair(…)")
    }
}

/// The pairs announced for one key on one stream and not used yet.
#[derive(Debug, Default)]
pub struct NoncePool(HashMap<CommitmentBytes, NoncePair>);

impl NoncePool {
    /// Makes pairs until the pool holds `target`, at most `most` now; returns their commitments for the announcement.
    pub fn top_up(
        &mut self,
        share: &SigningShare,
        target: usize,
        most: usize,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Vec<CommitmentBytes> {
        let wanted = target.saturating_sub(self.0.len()).min(most);
        (0..wanted)
            .map(|_| {
                let (commitment, pair) = NoncePair::make(share, rng);
                self.0.insert(commitment, pair);
                commitment
            })
            .collect()
    }

    /// Takes a pair out for good.
    pub fn take(&mut self, commitment: &CommitmentBytes) -> Result<NoncePair, UnknownCommitment> {
        self.0.remove(commitment).ok_or(UnknownCommitment(*commitment))
    }

    /// Pairs at hand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is at hand.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The bytes of a commitment on the wire: hiding ‖ binding, 32 bytes each.
fn commitment_bytes(commitments: &SigningCommitments) -> CommitmentBytes {
    let mut bytes = [0; 64];
    let points = [commitments.hiding(), commitments.binding()];
    for (chunk, point) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(points) {
        // A nonce is a non-zero scalar, so its point is never the identity, the one point that has no encoding here.
        if let Ok(encoded) = point.serialize() {
            chunk.copy_from_slice(&encoded);
        }
    }
    CommitmentBytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn share(rng: &mut StdRng) -> SigningShare {
        SigningShare::new(frost::SigningKey::new(rng).to_scalar())
    }

    #[test]
    fn a_pair_leaves_the_pool_with_its_first_use() {
        let mut rng = StdRng::seed_from_u64(1);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        let announced = pool.top_up(&share, 3, 64, &mut rng);
        assert_eq!((announced.len(), pool.len()), (3, 3));
        assert!(pool.take(&announced[0]).is_ok());
        assert_eq!(pool.take(&announced[0]).unwrap_err(), UnknownCommitment(announced[0]));
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn a_foreign_commitment_is_named() {
        let mut rng = StdRng::seed_from_u64(2);
        let share = share(&mut rng);
        let (mut ours, mut theirs) = (NoncePool::default(), NoncePool::default());
        ours.top_up(&share, 1, 1, &mut rng);
        let foreign = theirs.top_up(&share, 1, 1, &mut rng);
        assert_eq!(ours.take(&foreign[0]).unwrap_err(), UnknownCommitment(foreign[0]));
    }

    #[test]
    fn topping_up_is_bounded_by_target_and_by_step() {
        let mut rng = StdRng::seed_from_u64(3);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        assert_eq!(pool.top_up(&share, 100, 64, &mut rng).len(), 64);
        assert_eq!(pool.top_up(&share, 100, 64, &mut rng).len(), 36);
        assert_eq!(pool.top_up(&share, 100, 64, &mut rng).len(), 0);
    }

    #[test]
    fn announced_bytes_are_the_points() {
        let mut rng = StdRng::seed_from_u64(4);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        let announced = pool.top_up(&share, 1, 1, &mut rng);
        let pair = pool.take(&announced[0]).unwrap();
        let hiding = frost::round1::NonceCommitment::deserialize(&announced[0].0[..32]).unwrap();
        let binding = frost::round1::NonceCommitment::deserialize(&announced[0].0[32..]).unwrap();
        assert_eq!(pair.commitments(), &SigningCommitments::new(hiding, binding));
    }
}
