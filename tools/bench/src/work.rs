//! What the benchmark has signed: requests, and the check that the results are worth something.

use anyhow::{Context as _, Result, bail};
use rutli_release::{ReleaseKey, VerifiedRelease, verify_dsse, verify_sshsig, verify_statement};
use rutli_wire::{
    convert::release_from_content,
    v1::{self, ReleaseClass, ReleaseState, SignatureFormat},
};

/// Products that the nodes allow, for product builds.
pub const PRODUCTS: [&str; 4] = ["bench-0", "bench-1", "bench-2", "bench-3"];

/// The product that the nodes allow for AV databases.
pub const AV_PRODUCT: &str = "bench-av";

/// What a release looks like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Files in it.
    pub files: usize,
    /// What is asked for.
    pub formats: &'static [SignatureFormat],
    /// Signatures that it needs.
    pub signatures: usize,
    /// Product build or AV database.
    pub class: ReleaseClass,
}

/// One file, one signature: the statement, in both of its forms.
pub const LONE: Shape = Shape {
    files: 1,
    formats: &[SignatureFormat::Dsse, SignatureFormat::Statement],
    signatures: 1,
    class: ReleaseClass::ProductBuild,
};

/// Sixteen files in all formats: 17 signatures.
pub const FILES: Shape = Shape {
    files: 16,
    formats: &[SignatureFormat::Dsse, SignatureFormat::Sshsig, SignatureFormat::Statement],
    signatures: 17,
    class: ReleaseClass::ProductBuild,
};

/// An AV database: 1,000 files, a signature for each.
pub const BURST: Shape = Shape {
    files: 1_000,
    formats: &[SignatureFormat::Sshsig],
    signatures: 1_000,
    class: ReleaseClass::AvDatabase,
};

impl Shape {
    /// A request like a pipeline's; `sequence` makes it differ from the others of its channel.
    #[must_use]
    pub fn request(&self, product: &str, channel: &str, sequence: u64) -> v1::CreateReleaseRequest {
        v1::CreateReleaseRequest {
            request_id: format!("{product}.{channel}.{sequence}"),
            release_class: self.class.into(),
            product: product.to_owned(),
            channel: channel.to_owned(),
            version: format!("1.0.{sequence}"),
            sequence,
            expires_at: 0,
            artifacts: (0..self.files).map(|file| artifact(file, sequence)).collect(),
            formats: self.formats.iter().map(|format| i32::from(*format)).collect(),
            embargo_until: 0,
            evidence: Vec::new(),
        }
    }

    /// The same as a release that was admitted, for measuring in one process.
    ///
    /// # Errors
    /// None that happens.
    pub fn release(&self, sequence: u64) -> Result<VerifiedRelease> {
        let product = if self.class == ReleaseClass::AvDatabase { AV_PRODUCT } else { PRODUCTS[0] };
        let request = self.request(product, "stable", sequence);
        let content = v1::ReleaseContent {
            release_class: request.release_class,
            product: request.product,
            channel: request.channel,
            version: request.version,
            sequence: request.sequence,
            issued_at: 1_800_000_000,
            expires_at: 0,
            artifacts: request.artifacts,
            formats: request.formats,
        };
        Ok(release_from_content(content)?)
    }
}

/// A file by its digests, as if it had been hashed. Names and sizes are like a product's.
fn artifact(file: usize, sequence: u64) -> v1::Artifact {
    let seed = sequence.wrapping_mul(5_000).wrapping_add(u64::try_from(file).unwrap_or_default());
    let sha256 = seed.to_be_bytes().into_iter().cycle().zip(0_u8..32).map(|(byte, at)| byte ^ at ^ 1);
    v1::Artifact { name: format!("packages/x86_64/component-{file:04}.bin"), sha256: sha256.collect() }
}

/// Whether a release is final: the watch is over.
///
/// # Errors
/// It ended without signatures.
pub fn is_signed(release: &v1::Release) -> Result<bool> {
    match release.state() {
        ReleaseState::Signed => Ok(true),
        ReleaseState::Unspecified
        | ReleaseState::Queued
        | ReleaseState::AwaitingQuorum
        | ReleaseState::AwaitingEvidence
        | ReleaseState::Signing => Ok(false),
        state @ (ReleaseState::Refused
        | ReleaseState::Cancelled
        | ReleaseState::Expired
        | ReleaseState::Overtaken) => bail!(
            "release {} ended as {}: {}",
            release.release_id,
            state.as_str_name(),
            release
                .refusals
                .iter()
                .map(|refusal| format!("{}: {}", refusal.node, refusal.reason))
                .collect::<Vec<_>>()
                .join("; ")
        ),
    }
}

/// Verifies every file of a signed release. Outside of all measured times.
///
/// # Errors
/// One does not verify, or is missing.
pub fn verify(key: &ReleaseKey, release: &v1::Release) -> Result<()> {
    let content = release.content.clone().context("a signed release without content")?;
    let content = release_from_content(content)?;
    let file = |name: &str| {
        release
            .files
            .iter()
            .find(|file| file.name == name)
            .map(|file| file.data.as_ref())
            .with_context(|| format!("release {} lacks the file {name}", release.release_id))
    };
    let base = &release.release_id;
    for format in content.formats() {
        match format {
            rutli_release::Format::Dsse => {
                verify_dsse(key, file(&format!("{base}.intoto.json"))?)?;
            }
            rutli_release::Format::Statement => {
                let signature = file(&format!("{base}.statement.sig"))?.try_into()?;
                verify_statement(key, file(&format!("{base}.statement"))?, &signature)?;
            }
            rutli_release::Format::Sshsig => {
                for artifact in content.artifacts() {
                    let armour = std::str::from_utf8(file(&format!("{}.sig", artifact.name.file_name()))?)?;
                    verify_sshsig(key, armour, &artifact.sha256)?;
                }
            }
        }
    }
    Ok(())
}
