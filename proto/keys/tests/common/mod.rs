//! What several tests need: subsets, and signing in one process with the crate's plain functions.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::process::Command;

use ed25519_dalek::pkcs8::EncodePublicKey as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;

use frost_ed25519::keys::{KeyPackage, PublicKeyPackage};
use frost_ed25519::{
    CheaterDetection, Ed25519ScalarField, Field, Identifier, Signature, SigningPackage, round1, round2,
};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rutli_keys::rehearsal::{Cast, Rehearsed};
use rutli_keys::{Roster, SigningShare};

pub type Scalar = <Ed25519ScalarField as Field>::Scalar;

pub const MESSAGE: &[u8] = b"the bytes that are signed";

/// Two of three and a lone third party: the reference deployment.
pub const REFERENCE: &[(&str, u16, u16)] = &[("vendor", 2, 3), ("supervisor", 1, 1)];
/// Two organisations with thresholds.
pub const TWO: &[(&str, u16, u16)] = &[("vendor", 2, 3), ("supervisor", 2, 3)];
/// A threshold, a lone node and replicas.
pub const THREE: &[(&str, u16, u16)] = &[("auditor", 1, 2), ("supervisor", 1, 1), ("vendor", 2, 3)];

pub fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub fn rehearse(organisations: &[(&str, u16, u16)]) -> Rehearsed {
    Cast::new(organisations, &["release"], [42; 32]).unwrap().run().unwrap()
}

/// The share of the node with this index, of the first key.
pub fn share<'a>(rehearsed: &'a Rehearsed, roster: &Roster, index: u16) -> &'a SigningShare {
    &rehearsed.shares[&(roster.node(index).unwrap().id.clone(), roster.key().clone())]
}

/// All subsets of `0..count`, as ascending indices.
pub fn subsets(count: usize) -> impl Iterator<Item = Vec<u16>> {
    (0_u32..1 << count).map(move |mask| {
        (0..u16::try_from(count).unwrap()).filter(|index| mask & (1 << index) != 0).collect()
    })
}

/// How many of the chosen nodes are whose: exactly the thresholds, or at least the thresholds.
pub fn is_exact(roster: &Roster, indices: &[u16]) -> bool {
    compare(roster, indices, |chosen, threshold| chosen == threshold)
}

pub fn is_qualified(roster: &Roster, indices: &[u16]) -> bool {
    compare(roster, indices, |chosen, threshold| chosen >= threshold)
}

fn compare(roster: &Roster, indices: &[u16], rule: impl Fn(usize, usize) -> bool) -> bool {
    roster.organisations().iter().all(|organisation| {
        let chosen =
            indices.iter().filter(|&&index| roster.organisation_of(index).unwrap().name == organisation.name);
        rule(chosen.count(), usize::from(organisation.threshold))
    })
}

pub fn scalar(bytes: &[u8]) -> Scalar {
    Ed25519ScalarField::deserialize(&bytes.try_into().unwrap()).unwrap()
}

/// λ_i(T): the Lagrange coefficient at zero, straight from its definition.
pub fn lagrange(roster: &Roster, set: &[u16], i: u16) -> Scalar {
    let x = |index: u16| scalar(&roster.node(index).unwrap().identifier);
    let mut coefficient = Ed25519ScalarField::one();
    for &j in set.iter().filter(|&&j| j != i) {
        coefficient = coefficient * x(j) * Ed25519ScalarField::invert(&(x(j) - x(i))).unwrap();
    }
    coefficient
}

/// Signature shares and signing package of the given packages, by the crate's own functions.
pub fn round_two(
    packages: &[KeyPackage],
    message: &[u8],
    seed: u64,
) -> Result<(SigningPackage, BTreeMap<Identifier, round2::SignatureShare>), frost_ed25519::Error> {
    let mut rng = rng(seed);
    let mut nonces = BTreeMap::new();
    let mut commitments = BTreeMap::new();
    for package in packages {
        let (nonce, commitment) = round1::commit(package.signing_share(), &mut rng);
        nonces.insert(*package.identifier(), nonce);
        commitments.insert(*package.identifier(), commitment);
    }
    let signing_package = SigningPackage::new(commitments, message);
    let mut shares = BTreeMap::new();
    for package in packages {
        let share = round2::sign(&signing_package, &nonces[package.identifier()], package)?;
        shares.insert(*package.identifier(), share);
    }
    Ok((signing_package, shares))
}

/// Signs with all packages and aggregates without looking for culprits.
pub fn sign(packages: &[KeyPackage], public: &PublicKeyPackage) -> Result<Signature, frost_ed25519::Error> {
    let (signing_package, shares) = round_two(packages, MESSAGE, 7)?;
    frost_ed25519::aggregate_custom(&signing_package, &shares, public, CheaterDetection::Disabled)
}

/// What an endpoint with stock tools does: `openssl pkeyutl -verify -rawin`.
pub fn openssl_accepts(group_key: &[u8; 32], signature: &Signature) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(group_key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let pem = file("key.pem", key.to_public_key_pem(LineEnding::LF).unwrap().as_bytes());
    let output = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"])
        .arg(pem)
        .arg("-in")
        .arg(file("message", MESSAGE))
        .arg("-sigfile")
        .arg(file("signature", &signature.serialize().unwrap()))
        .output()
        .expect("openssl must be installed for this test");
    output.status.success()
}

/// What an endpoint does: strict Ed25519.
pub fn verify_strict(group_key: &[u8; 32], signature: &Signature) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(group_key).unwrap();
    let bytes: [u8; 64] = signature.serialize().unwrap().try_into().unwrap();
    key.verify_strict(MESSAGE, &ed25519_dalek::Signature::from_bytes(&bytes)).is_ok()
}
