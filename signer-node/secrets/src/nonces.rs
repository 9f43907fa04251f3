//! Nonces that are used once (RFC 9591, sections 4.1 and 5.1).
//!
//! A pair is made ahead of time, its commitment is announced on one stream, and it is consumed **by value** by the one
//! signature it is for. It is neither `Clone` nor `Copy`, has no encoding, and leaves the pool before anything is
//! computed with it, whatever happens afterwards. The pool belongs to a stream: a new stream means a new pool, a restart
//! means none. The only name of a pair is its commitment.
//!
//! # Where a nonce is
//!
//! In one slot of one locked page, from creation to end: only a [`NoncePair`] moves, which refers to the
//! slot. The slot is overwritten when the pair is used or dropped, and reused by a later pair. So a pool
//! needs only as many pages as its pairs fill, whichever pairs a coordinator uses first.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use frost_ed25519::{
    self as frost, Ciphersuite as _, Ed25519ScalarField, Ed25519Sha512, Field as _, SigningPackage,
    keys::KeyPackage,
    round1::{SigningCommitments, SigningNonces},
    round2::SignatureShare,
};
use rand_core::{CryptoRng, RngCore};
use zeroize::{Zeroize, Zeroizing, optimization_barrier};

use crate::{
    locked::{CannotLock, Locked},
    stack::on_wiped_stack,
};

type Nonce = frost_core::round1::Nonce<Ed25519Sha512>;

/// A commitment as it is announced: hiding ‖ binding, 32 bytes each.
pub type Announced = [u8; 64];

/// Pairs that fit into a page of 4 KiB.
const PAIRS_PER_PAGE: usize = 4096 / size_of::<Option<SigningNonces>>();

/// A hiding and a binding nonce; see the module.
pub struct NoncePair {
    page: SharedPage,
    place: usize,
    commitments: SigningCommitments,
}

type SharedPage = Arc<Mutex<Locked<Page>>>;

/// The nonces of a page. An empty place can be given to a pair.
struct Page([Option<SigningNonces>; PAIRS_PER_PAGE]);

impl NoncePair {
    /// What was announced, as points.
    #[must_use]
    pub fn commitments(&self) -> &SigningCommitments {
        &self.commitments
    }

    /// Consumes the pair for one signature share (RFC 9591, section 5.2).
    pub fn sign(self, package: &SigningPackage, key: &KeyPackage) -> Result<SignatureShare, frost::Error> {
        let page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        match page.0.get(self.place) {
            Some(Some(nonces)) => on_wiped_stack(|| frost::round2::sign(package, nonces, key)),
            // Cannot be: a place is emptied by the end of its pair alone.
            _ => Err(frost::Error::IncorrectCommitment),
        }
    }
}

impl Drop for NoncePair {
    fn drop(&mut self) {
        let mut page = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = page.0.get_mut(self.place) {
            wipe(place);
        }
    }
}

impl fmt::Debug for NoncePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoncePair(…)")
    }
}

impl Zeroize for Page {
    fn zeroize(&mut self) {
        self.0.iter_mut().for_each(wipe);
    }
}

/// Overwrites the nonces of a place, so that no compiler leaves it out, and gives it back.
fn wipe(place: &mut Option<SigningNonces>) {
    if let Some(nonces) = place {
        nonces.zeroize();
        optimization_barrier(nonces);
    }
    *place = None;
}

/// The unused pairs that were announced for one key on one stream.
#[derive(Default)]
pub struct NoncePool {
    pairs: HashMap<Announced, NoncePair>,
    pages: Vec<SharedPage>,
    /// Where the search for an empty place begins.
    next: usize,
}

impl NoncePool {
    /// Makes pairs until the pool holds `target`, at most `most` now; returns their commitments for the announcement.
    /// `share` is the 32 bytes of the signing share. An error means that no pair could be made.
    pub fn top_up(
        &mut self,
        share: &[u8; 32],
        target: usize,
        most: usize,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<Announced>, CannotLock> {
        let wanted = target.saturating_sub(self.pairs.len()).min(most);
        let mut made = Vec::with_capacity(wanted);
        on_wiped_stack(|| {
            while made.len() < wanted {
                match self.make(share, rng) {
                    Ok(commitment) => made.push(commitment),
                    // What was made is announced; the next call meets the limit again.
                    Err(_) if !made.is_empty() => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(made)
    }

    /// Takes a pair out, never to be taken again; `None` if it is not here: used already, another node's, or of an
    /// earlier connection.
    pub fn take(&mut self, commitment: &Announced) -> Option<NoncePair> {
        self.pairs.remove(commitment)
    }

    /// Number of pairs available.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether no pair is available.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    fn make(
        &mut self,
        share: &[u8; 32],
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Announced, CannotLock> {
        let (page, place) = self.empty_place()?;
        let (announced, commitments) = fill(&page, place, share, rng);
        self.pairs.insert(announced, NoncePair { page, place, commitments });
        Ok(announced)
    }

    /// The next empty place, in a new page if all are full.
    fn empty_place(&mut self) -> Result<(SharedPage, usize), CannotLock> {
        for step in 0..self.pages.len() {
            let at = (self.next + step) % self.pages.len();
            let Some(page) = self.pages.get(at) else { continue };
            let place =
                page.lock().unwrap_or_else(PoisonError::into_inner).0.iter().position(Option::is_none);
            if let Some(place) = place {
                self.next = at;
                return Ok((Arc::clone(page), place));
            }
        }
        let page = Arc::new(Mutex::new(Locked::new(Page([const { None }; PAIRS_PER_PAGE]))?));
        self.next = self.pages.len();
        self.pages.push(Arc::clone(&page));
        Ok((page, 0))
    }
}

impl fmt::Debug for NoncePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoncePool({} pairs)", self.pairs.len())
    }
}

/// Draws a pair into its place.
fn fill(
    page: &SharedPage,
    place: usize,
    share: &[u8; 32],
    rng: &mut (impl RngCore + CryptoRng),
) -> (Announced, SigningCommitments) {
    loop {
        let (Some(hiding), Some(binding)) = (nonce(share, rng), nonce(share, rng)) else { continue };
        let nonces = SigningNonces::from_nonces(hiding, binding);
        let commitments = *nonces.commitments();
        // The nonce zero has no commitment that can be announced. It comes once in 2^252 draws.
        let Some(announced) = announced(&commitments) else { continue };
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = page.0.get_mut(place) {
            *slot = Some(nonces);
        }
        return (announced, commitments);
    }
}

/// `nonce_generate` of RFC 9591, section 4.1: `H3(random_bytes ‖ secret_enc)`.
///
/// frost-core's own copies the share into vectors that are freed as they are. Here the input is wiped, and the stack of
/// the hash by the caller.
fn nonce(share: &[u8; 32], rng: &mut (impl RngCore + CryptoRng)) -> Option<Nonce> {
    let mut input = Zeroizing::new([0; 64]);
    let (random, secret) = input.split_at_mut(32);
    rng.fill_bytes(random);
    secret.copy_from_slice(share);
    let scalar = Zeroizing::new(Ed25519Sha512::H3(input.as_slice()));
    let bytes = Zeroizing::new(Ed25519ScalarField::serialize(&scalar));
    Nonce::deserialize(bytes.as_slice()).ok()
}

/// `None` if a point is the identity, which has no encoding.
fn announced(commitments: &SigningCommitments) -> Option<Announced> {
    let mut bytes = [0; 64];
    let points = [commitments.hiding(), commitments.binding()];
    for (chunk, point) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(points) {
        chunk.copy_from_slice(&point.serialize().ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frost_ed25519::keys::{SigningShare, VerifyingShare};
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::Value;

    fn share(rng: &mut StdRng) -> [u8; 32] {
        frost::SigningKey::new(rng).serialize().try_into().unwrap()
    }

    #[test]
    fn a_pair_leaves_the_pool_with_its_first_use() {
        let mut rng = StdRng::seed_from_u64(1);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        let announced = pool.top_up(&share, 3, 64, &mut rng).unwrap();
        assert_eq!((announced.len(), pool.len()), (3, 3));
        assert!(pool.take(&announced[0]).is_some());
        assert!(pool.take(&announced[0]).is_none());
        assert_eq!(pool.len(), 2);
    }

    #[test]
    fn a_foreign_commitment_is_not_in_the_pool() {
        let mut rng = StdRng::seed_from_u64(2);
        let share = share(&mut rng);
        let (mut ours, mut theirs) = (NoncePool::default(), NoncePool::default());
        ours.top_up(&share, 1, 1, &mut rng).unwrap();
        let foreign = theirs.top_up(&share, 1, 1, &mut rng).unwrap();
        assert!(ours.take(&foreign[0]).is_none());
    }

    #[test]
    fn topping_up_is_bounded_by_target_and_by_step() {
        let mut rng = StdRng::seed_from_u64(3);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        for made in [64, 36, 0] {
            assert_eq!(pool.top_up(&share, 100, 64, &mut rng).unwrap().len(), made);
        }
    }

    #[test]
    fn announced_bytes_are_the_points() {
        let mut rng = StdRng::seed_from_u64(4);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        let announced = pool.top_up(&share, 1, 1, &mut rng).unwrap();
        let pair = pool.take(&announced[0]).unwrap();
        let hiding = frost::round1::NonceCommitment::deserialize(&announced[0][..32]).unwrap();
        let binding = frost::round1::NonceCommitment::deserialize(&announced[0][32..]).unwrap();
        assert_eq!(pair.commitments(), &SigningCommitments::new(hiding, binding));
    }

    /// Whichever pairs a coordinator uses first: it cannot make a node lock a page for each of them.
    #[test]
    fn places_are_used_again() {
        let mut rng = StdRng::seed_from_u64(5);
        let share = share(&mut rng);
        let mut pool = NoncePool::default();
        let full = 20 * PAIRS_PER_PAGE;
        let mut announced = pool.top_up(&share, full, full, &mut rng).unwrap();
        for _ in 0..10 {
            let (used, left): (Vec<_>, Vec<_>) =
                announced.into_iter().enumerate().partition(|(place, _)| place % PAIRS_PER_PAGE != 0);
            used.iter().for_each(|(_, commitment)| drop(pool.take(commitment).unwrap()));
            announced = left.into_iter().map(|(_, commitment)| commitment).collect();
            announced.extend(pool.top_up(&share, full, full, &mut rng).unwrap());
            assert_eq!((pool.len(), pool.pages.len()), (full, 20));
        }
    }

    /// RFC 9591, appendix E.1: the randomness and shares of its participants give its nonces and commitments.
    #[test]
    fn nonces_are_those_of_the_rfc() {
        struct Given(Vec<u8>);
        impl RngCore for Given {
            fn next_u32(&mut self) -> u32 {
                unreachable!()
            }
            fn next_u64(&mut self) -> u64 {
                unreachable!()
            }
            fn fill_bytes(&mut self, bytes: &mut [u8]) {
                let rest = self.0.split_off(bytes.len());
                bytes.copy_from_slice(&std::mem::replace(&mut self.0, rest));
            }
            fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
                self.fill_bytes(bytes);
                Ok(())
            }
        }
        impl CryptoRng for Given {}
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let participants = vectors["participants"].as_object().unwrap();
        assert_eq!(participants.len(), 2);
        for values in participants.values() {
            let bytes = |name: &str| hex::decode(values[name].as_str().unwrap()).unwrap();
            let share: [u8; 32] = bytes("signing_share").try_into().unwrap();
            let mut given =
                Given([bytes("hiding_nonce_randomness"), bytes("binding_nonce_randomness")].concat());
            let mut pool = NoncePool::default();
            let announced = pool.top_up(&share, 1, 1, &mut given).unwrap();
            assert_eq!(
                announced[0].to_vec(),
                [bytes("hiding_commitment"), bytes("binding_commitment")].concat()
            );
            let pair = pool.take(&announced[0]).unwrap();
            let page = pair.page.lock().unwrap();
            let nonces = page.0[pair.place].as_ref().unwrap();
            assert_eq!(nonces.hiding().serialize(), bytes("hiding_nonce"));
            assert_eq!(nonces.binding().serialize(), bytes("binding_nonce"));
        }
    }

    const VECTORS: &str = include_str!("../../../proto/keys/tests/data/rfc9591-appendix-e1.json");

    /// The crate's own generation, given the same randomness, makes the same pairs.
    #[test]
    fn nonces_are_those_of_the_crate() {
        let mut rng = StdRng::seed_from_u64(6);
        for seed in 0..200 {
            let secret = share(&mut rng);
            let mut pool = NoncePool::default();
            let ours = pool.top_up(&secret, 1, 1, &mut StdRng::seed_from_u64(seed)).unwrap();
            let theirs = SigningShare::deserialize(&secret).unwrap();
            let (_, commitments) = frost::round1::commit(&theirs, &mut StdRng::seed_from_u64(seed));
            assert_eq!(ours[0], announced(&commitments).unwrap());
        }
    }

    #[test]
    fn a_pair_is_gone_from_its_place_once_used_or_dropped() {
        let mut rng = StdRng::seed_from_u64(7);
        let secret = share(&mut rng);
        let id = frost::Identifier::try_from(1).unwrap();
        let share = SigningShare::deserialize(&secret).unwrap();
        let verifying = VerifyingShare::from(share);
        let group = frost::VerifyingKey::deserialize(&verifying.serialize().unwrap()).unwrap();
        let key = KeyPackage::new(id, share, verifying, group, 1);
        let mut pool = NoncePool::default();
        let announced = pool.top_up(&secret, 2, 2, &mut rng).unwrap();
        let pair = pool.take(&announced[0]).unwrap();
        let package = SigningPackage::new([(id, *pair.commitments())].into(), b"message");
        pair.sign(&package, &key).unwrap();
        drop(pool.take(&announced[1]));
        assert!(pool.pages[0].lock().unwrap().0.iter().all(Option::is_none));
    }
}
