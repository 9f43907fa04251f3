//! Randomness for nonces that a copied machine does not repeat.
//!
//! Two copies of a running virtual machine draw the same bytes from their kernels until these reseed, and a
//! nonce used with two messages gives away the share. So the system's randomness is hashed with everything
//! that distinguishes the copies: the clocks to the nanosecond, a counter, the kernel's boot id, and the
//! processor's own random seed where it has one. This loses nothing: the output is as random as the best of
//! its inputs. RFC 9591 calls it `random_bytes`.
//!
//! The processor gives its seed slowly: read for each block, it took 2 % of a busy node's time. So it is read
//! once for each [`Batch`], a few milliseconds of nonces, and everything else for each block. Copies that are
//! made within a batch differ by their clocks alone until it ends.

use nix::time::{ClockId, clock_gettime};
use rand::{CryptoRng, Error, RngCore};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

/// Nanoseconds of the wall clock, of the clock that stands still while the machine sleeps, and of the one that does not.
type Clocks = [i64; 3];

/// Hashes what `system` gives with what tells copies of this process apart.
#[derive(Debug)]
pub struct HedgedRng<R> {
    system: R,
    counter: u64,
    boot_id: String,
}

impl<R: RngCore + CryptoRng> HedgedRng<R> {
    /// `boot_id` as [`crate::clock::boot_id`] reads it.
    pub fn new(system: R, boot_id: String) -> Self {
        Self { system, counter: 0, boot_id }
    }

    /// For a few nonces, made now.
    pub fn batch(&mut self) -> Batch<'_, R> {
        Batch { rng: self, hardware: None }
    }
}

/// Randomness for the nonces that are made at one time.
pub struct Batch<'a, R> {
    rng: &'a mut HedgedRng<R>,
    /// The processor's seed, once it gave one.
    hardware: Option<Zeroizing<[u8; 16]>>,
}

impl<R: RngCore + CryptoRng> Batch<'_, R> {
    fn block(&mut self) -> Zeroizing<[u8; 32]> {
        let mut random = Zeroizing::new([0; 32]);
        self.rng.system.fill_bytes(random.as_mut_slice());
        if self.hardware.is_none() {
            self.hardware = processor_seed();
        }
        let hardware = self.hardware.as_deref().unwrap_or(&[0; 16]);
        self.rng.counter = self.rng.counter.wrapping_add(1);
        mix(&random, hardware, self.rng.counter, clocks(), &self.rng.boot_id)
    }
}

impl<R: RngCore + CryptoRng> RngCore for Batch<'_, R> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = self.block();
            chunk.iter_mut().zip(block.iter()).for_each(|(byte, random)| *byte = *random);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> CryptoRng for Batch<'_, R> {}

fn mix(
    random: &[u8; 32],
    hardware: &[u8; 16],
    counter: u64,
    clocks: Clocks,
    boot_id: &str,
) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(b"rutli/nonce-randomness/v1\0");
    hash.update(random);
    hash.update(hardware);
    hash.update(counter.to_le_bytes());
    clocks.iter().for_each(|clock| hash.update(clock.to_le_bytes()));
    hash.update(boot_id.as_bytes());
    let mut digest = hash.finalize();
    let mut mixed = Zeroizing::new([0; 32]);
    mixed.copy_from_slice(&digest);
    digest.as_mut_slice().zeroize();
    mixed
}

fn clocks() -> Clocks {
    [ClockId::CLOCK_REALTIME, ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME].map(|clock| {
        clock_gettime(clock)
            .map_or(0, |time| time.tv_sec().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec()))
    })
}

/// The processor's own seed (RDSEED); `None` where it has none, or none ready.
#[cfg(target_arch = "x86_64")]
fn processor_seed() -> Option<Zeroizing<[u8; 16]>> {
    let mut seed = Zeroizing::new([0; 16]);
    rdrand::RdSeed::new().ok()?.try_fill_bytes(seed.as_mut_slice()).ok()?;
    Some(seed)
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_seed() -> Option<Zeroizing<[u8; 16]>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system of a copied machine gives: the same again and again.
    struct Repeating;

    impl RngCore for Repeating {
        fn next_u32(&mut self) -> u32 {
            7
        }
        fn next_u64(&mut self) -> u64 {
            7
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            self.fill_bytes(bytes);
            Ok(())
        }
    }

    impl CryptoRng for Repeating {}

    #[test]
    fn copies_that_draw_the_same_from_the_system_draw_differently() {
        let mut copies: Vec<_> = (0..4).map(|_| HedgedRng::new(Repeating, "boot".into())).collect();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..64 {
            for copy in &mut copies {
                let mut block = [0; 64];
                copy.batch().fill_bytes(&mut block);
                seen.insert(block[..32].to_vec());
                seen.insert(block[32..].to_vec());
            }
        }
        assert_eq!(seen.len(), 2 * 64 * 4);
    }

    /// Each input alone tells two copies apart, also where all others are the same.
    #[test]
    fn every_input_counts() {
        let base = mix(&[1; 32], &[2; 16], 3, [4, 5, 6], "boot");
        assert_eq!(base, mix(&[1; 32], &[2; 16], 3, [4, 5, 6], "boot"));
        let others = [
            mix(&[0; 32], &[2; 16], 3, [4, 5, 6], "boot"),
            mix(&[1; 32], &[0; 16], 3, [4, 5, 6], "boot"),
            mix(&[1; 32], &[2; 16], 0, [4, 5, 6], "boot"),
            mix(&[1; 32], &[2; 16], 3, [0, 5, 6], "boot"),
            mix(&[1; 32], &[2; 16], 3, [4, 0, 6], "boot"),
            mix(&[1; 32], &[2; 16], 3, [4, 5, 0], "boot"),
            mix(&[1; 32], &[2; 16], 3, [4, 5, 6], "other"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn clocks_go_on() {
        let (first, second) = (clocks(), clocks());
        assert!(first.iter().all(|clock| *clock > 0));
        assert!(second[1] >= first[1] && second[2] >= first[2]);
    }
}
