//! What unit tests of this crate share.

use rutli_release::{Class, Format, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease};

/// A product build in channel `stable` with so many files, issued at second 1,000.
pub fn release(product: &str, sequence: u64, files: u8) -> VerifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: product.into(),
        channel: "stable".into(),
        version: format!("1.0.{sequence}"),
        sequence,
        issued_at: 1_000,
        expires_at: None,
        artifacts: (0..files)
            .map(|file| UnverifiedArtifact {
                name: format!("file-{file}.bin"),
                size: 1,
                sha256: vec![file; 32],
                sha512: vec![file; 64],
                blake2b: vec![file; 64],
            })
            .collect(),
        formats: vec![Format::Dsse, Format::Sshsig, Format::Statement],
    }
    .verify()
    .unwrap()
}
