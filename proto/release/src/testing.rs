//! What the tests of several modules need: a key pair, releases, and their signatures.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use ed25519_dalek::{Signer, SigningKey};

use crate::{
    Class, Format, ReleaseId, ReleaseKey, SignedFile, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
    signed_files,
};

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn release_key() -> ReleaseKey {
    ReleaseKey::from_bytes(signing_key().verifying_key().as_bytes()).unwrap()
}

pub(crate) fn release_id() -> ReleaseId {
    ReleaseId::new("rutli-1.4.2-0123456789ab").unwrap()
}

pub(crate) fn artifact(number: u8) -> UnverifiedArtifact {
    UnverifiedArtifact { name: format!("linux/rutli-{number}"), sha256: vec![number; 32] }
}

/// A product build with two artifacts, in all formats.
pub(crate) fn unverified() -> UnverifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: "rutli".into(),
        channel: "stable".into(),
        version: "1.4.2+build.7".into(),
        sequence: 42,
        issued_at: 1_795_255_200,
        expires_at: Some(1_826_791_200),
        artifacts: vec![artifact(1), artifact(2)],
        formats: Format::ALL.into(),
    }
}

/// The largest legal release: the statement takes as many bytes as it ever can.
pub(crate) fn largest() -> UnverifiedRelease {
    let mut release = unverified();
    release.product = "p".repeat(64);
    release.channel = "c".repeat(64);
    release.version = format!("1{}", "+".repeat(63));
    release.sequence = crate::limits::MAX_INTEGER;
    release.artifacts = (0..crate::limits::MAX_ARTIFACTS)
        .map(|number| UnverifiedArtifact { name: format!("{number:04}{}", "\"".repeat(251)), ..artifact(0) })
        .collect();
    release
}

pub(crate) fn verified() -> VerifiedRelease {
    unverified().verify().unwrap()
}

pub(crate) fn sign(release: &VerifiedRelease) -> Vec<[u8; 64]> {
    let key = signing_key();
    release.signables().iter().map(|signable| key.sign(&signable.bytes).to_bytes()).collect()
}

pub(crate) fn files(release: &VerifiedRelease) -> Vec<SignedFile> {
    signed_files(release, &release_id(), &release_key(), &sign(release)).unwrap()
}

/// The content of the one file whose name ends like this.
pub(crate) fn file(release: &VerifiedRelease, suffix: &str) -> Vec<u8> {
    let files = files(release);
    files.into_iter().find(|file| file.name.ends_with(suffix)).unwrap().bytes
}

pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// `bytes` with one bit flipped, for each of its bits.
pub(crate) fn bit_flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}
