//! The yardstick: what a straightforward loop over `frost-ed25519` does on this machine.
//!
//! One process, a flat threshold over as many participants as the service's quorum has signers. For each signature
//! every participant makes a nonce pair; commitments travel as bytes; every participant parses the whole signing
//! package from bytes and signs; shares travel as bytes; `aggregate` runs once per signature, which verifies it. One
//! such loop on each core. No network, no disk, no journal: everything a service adds comes on top.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use frost_ed25519::{
    self as frost, Identifier, Signature, SigningPackage,
    keys::{IdentifierList, KeyPackage, PublicKeyPackage},
    round1::SigningCommitments,
    round2::SignatureShare,
};
use rand::rngs::OsRng;
use serde::Serialize;

use crate::{
    clock::{Stopwatch, thread_cpu},
    stats::float64,
};

/// A flat key: as many participants as its threshold.
#[derive(Debug)]
pub struct Group {
    members: BTreeMap<Identifier, KeyPackage>,
    public: PublicKeyPackage,
}

/// What the loops did.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Naive {
    /// Signatures per second, over all threads.
    pub per_second: f64,
    /// CPU microseconds per signature: hardly moved by what else the machine does.
    pub us_per_signature: f64,
    /// Signatures made.
    pub signatures: u64,
    /// Loops at the same time.
    pub threads: usize,
}

impl Group {
    /// Splits a fresh key over so many participants, all of whom must sign.
    ///
    /// # Errors
    /// From `frost-ed25519`, for fewer than two.
    pub fn new(participants: u16) -> Result<Self> {
        let (shares, public) =
            frost::keys::generate_with_dealer(participants, participants, IdentifierList::Default, OsRng)?;
        let members = shares
            .into_iter()
            .map(|(identifier, share)| Ok((identifier, KeyPackage::try_from(share)?)))
            .collect::<Result<_>>()?;
        Ok(Self { members, public })
    }

    /// One signature, everything included.
    ///
    /// # Errors
    /// None that happens: all participants are honest.
    pub fn sign(&self, message: &[u8]) -> Result<Signature> {
        let mut nonces = Vec::with_capacity(self.members.len());
        let mut commitments = BTreeMap::new();
        for (identifier, member) in &self.members {
            let (nonce, commitment) = frost::round1::commit(member.signing_share(), &mut OsRng);
            nonces.push(nonce);
            let sent = commitment.serialize()?;
            commitments.insert(*identifier, SigningCommitments::deserialize(&sent)?);
        }
        let package = SigningPackage::new(commitments, message);
        let sent = package.serialize()?;
        let mut shares = BTreeMap::new();
        for ((identifier, member), nonces) in self.members.iter().zip(&nonces) {
            let received = SigningPackage::deserialize(&sent)?;
            let share = frost::round2::sign(&received, nonces, member)?.serialize();
            shares.insert(*identifier, SignatureShare::deserialize(&share)?);
        }
        Ok(frost::aggregate(&package, &shares, &self.public)?)
    }
}

/// Runs the loops for so long.
///
/// # Errors
/// When a loop fails.
pub fn measure(group: &Group, message: &[u8], threads: usize, time: Duration) -> Result<Naive> {
    let over = AtomicBool::new(false);
    let (made, cpu_us) = (AtomicU64::new(0), AtomicU64::new(0));
    let watch = Stopwatch::start();
    let work = || -> Result<()> {
        let start = thread_cpu();
        while !over.load(Ordering::Relaxed) {
            group.sign(message)?;
            made.fetch_add(1, Ordering::Relaxed);
            if watch.elapsed() >= time {
                over.store(true, Ordering::Relaxed);
            }
        }
        let spent = thread_cpu().saturating_sub(start).as_micros();
        cpu_us.fetch_add(u64::try_from(spent)?, Ordering::Relaxed);
        Ok(())
    };
    std::thread::scope(|scope| {
        let loops: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        loops
            .into_iter()
            .try_for_each(|running| running.join().ok().context("a naive loop stopped").flatten())
    })?;
    let signatures = made.load(Ordering::Relaxed);
    Ok(Naive {
        per_second: float64(signatures) / watch.elapsed().as_secs_f64(),
        us_per_signature: float64(cpu_us.load(Ordering::Relaxed)) / float64(signatures.max(1)),
        signatures,
        threads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_makes_signatures_that_verify() {
        let group = Group::new(3).unwrap();
        let signature = group.sign(b"text").unwrap();
        group.public.verifying_key().verify(b"text", &signature).unwrap();
        let naive = measure(&group, b"text", 2, Duration::from_millis(20)).unwrap();
        assert!(naive.signatures >= 2 && naive.per_second > 0.0 && naive.us_per_signature > 0.0);
    }
}
