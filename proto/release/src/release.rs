//! The release: from what came from outside to what may be signed.
//!
//! [`UnverifiedRelease`] → [`VerifiedRelease`]; the constructor in between is the only one. A verified release says which bytes
//! Ed25519 signs for it, and has a digest over everything that a signer node decides on.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use sha2::{Digest, Sha256};

use crate::class::Class;
use crate::format::Format;
use crate::invalid::InvalidRelease;
use crate::names::{ArtifactName, Channel, Product, Sequence, Timestamp, Version, normalized};
use crate::namespace::SshNamespace;
use crate::statement::{self, Predicate};
use crate::{canonical, dsse, limits, sshsig};

/// A release as it came from outside. Nothing about it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedRelease {
    /// What kind of release it is.
    pub class: Class,
    /// The product's name, see [`Product`].
    pub product: String,
    /// The channel's name, see [`Channel`].
    pub channel: String,
    /// The version, see [`Version`].
    pub version: String,
    /// The place among the releases of this product, class and channel, see [`Sequence`].
    pub sequence: u64,
    /// When the release was admitted, in Unix seconds.
    pub issued_at: u64,
    /// From when on endpoints refuse it, in Unix seconds; later than `issued_at`.
    pub expires_at: Option<u64>,
    /// The files, 1 to 5000, in the order of the statement's subjects.
    pub artifacts: Vec<UnverifiedArtifact>,
    /// The formats to sign in: at least one, none twice, in any order.
    pub formats: Vec<Format>,
}

/// An artifact as it came from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedArtifact {
    /// The name, see [`ArtifactName`].
    pub name: String,
    /// SHA-256 of the file, 32 bytes.
    pub sha256: Vec<u8>,
}

impl UnverifiedRelease {
    /// Checks everything that can be checked without asking anybody: grammars, bounds, uniqueness. Formats are put in order.
    ///
    /// # Errors
    /// [`InvalidRelease`] for the first rule that is broken.
    pub fn verify(self) -> Result<VerifiedRelease, InvalidRelease> {
        let product = Product::new(self.product)?;
        let channel = Channel::new(self.channel)?;
        let version = Version::new(self.version)?;
        let sequence = Sequence::new(self.sequence)?;
        let (issued_at, expires_at) = verify_times(self.issued_at, self.expires_at)?;
        let formats = verify_formats(self.formats)?;
        let artifacts = verify_artifacts(self.artifacts)?;
        check_file_names(&formats, &artifacts)?;
        Ok(VerifiedRelease {
            class: self.class,
            product,
            channel,
            version,
            sequence,
            issued_at,
            expires_at,
            artifacts,
            formats,
        })
    }
}

/// A release that keeps all rules. It is not yet one that somebody *may* have signed: that is the policy's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRelease {
    class: Class,
    product: Product,
    channel: Channel,
    version: Version,
    sequence: Sequence,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    artifacts: Vec<Artifact>,
    formats: Vec<Format>,
}

/// The scope of sequences: one channel of one product and class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// The class.
    pub class: Class,
    /// The product.
    pub product: Product,
    /// The channel.
    pub channel: Channel,
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.class, self.product, self.channel)
    }
}

/// One file of a release. SHA-256 is its identity: every current format signs that digest and no other.
///
/// It has no field that evidence need not name: a size, or a digest that no format signs, would be only the
/// requester's claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The name, unique in the release.
    pub name: ArtifactName,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
}

impl Artifact {
    /// All digests of the file that are signed, by in-toto's names of their algorithms, in the order of these.
    ///
    /// This is the only definition: the statement lists exactly these, and evidence with another digest, or
    /// none, in one of these algorithms does not count. A format that signs another digest adds a field
    /// above, and with it a line here.
    #[must_use]
    pub fn digests(&self) -> [(&'static str, &[u8]); 1] {
        let Self { name: _, sha256 } = self;
        [("sha256", sha256.as_slice())]
    }
}

/// A signed field that somebody claims and no evidence proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which field, as the statement calls it where it has it.
    pub field: &'static str,
    /// What it says.
    pub value: String,
    /// Who says so.
    pub by: Claimant,
    /// The attribute that policies can ask about it.
    pub attribute: &'static str,
}

/// Who claims something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// The coordinator, within bounds that each node keeps to its own clock and log.
    Coordinator,
    /// Whoever asked.
    Pipeline,
}

/// Bytes to be signed, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signable {
    /// What the signature is for.
    pub kind: SignableKind,
    /// The exact message that is given to Ed25519.
    pub bytes: Vec<u8>,
}

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignableKind {
    /// The statement about the whole release, as DSSE signs it.
    Statement,
    /// The artifact with this index in [`VerifiedRelease::artifacts`], as SSHSIG signs it.
    Artifact(usize),
}

impl VerifiedRelease {
    /// What kind of release it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The product.
    #[must_use]
    pub fn product(&self) -> &Product {
        &self.product
    }

    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What its sequence goes up in.
    #[must_use]
    pub fn channel_key(&self) -> ChannelKey {
        ChannelKey { class: self.class, product: self.product.clone(), channel: self.channel.clone() }
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The place among the releases of this product, class and channel.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// When the release was admitted.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// From when on endpoints refuse it.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The files, 1 to 5000, in the order of the request.
    #[must_use]
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// The formats to sign in, in order, none twice.
    #[must_use]
    pub fn formats(&self) -> &[Format] {
        &self.formats
    }

    /// The SSHSIG namespace that its files are signed in.
    #[must_use]
    pub fn ssh_namespace(&self) -> SshNamespace {
        SshNamespace { class: self.class, product: self.product.clone(), channel: self.channel.clone() }
    }

    /// Everything that is signed and that no evidence proves, with who claims it. A digest is never among it.
    ///
    /// Policies can ask about each by its attribute. Approvals cover all of it but the formats, for they name the statement.
    #[must_use]
    pub fn claims(&self) -> Vec<Claim> {
        // A new field does not compile without a decision here: it is proved by evidence, or it is on this list.
        let Self { class, product, channel, version, sequence, issued_at, expires_at, artifacts, formats } =
            self;
        let pipeline = |field, attribute, value| Claim { field, value, by: Claimant::Pipeline, attribute };
        let expires_at = expires_at.map_or_else(|| "never".to_owned(), Timestamp::rfc3339);
        let formats = formats.iter().map(|format| format.as_str()).collect::<Vec<_>>().join(", ");
        vec![
            Claim {
                field: "issuedAt",
                value: issued_at.rfc3339(),
                by: Claimant::Coordinator,
                attribute: "issuedAt",
            },
            pipeline("class", "class", class.to_string()),
            pipeline("product", "product", product.to_string()),
            pipeline("channel", "channel", channel.to_string()),
            pipeline("version", "version", version.to_string()),
            pipeline("sequence", "sequence", sequence.to_string()),
            pipeline("expiresAt", "expiresAt", expires_at),
            // Which of the attested files, and their order; what they are is proved.
            pipeline("files", "fileNames", format!("these {}, in this order", artifacts.len())),
            pipeline("formats", "formats", formats),
        ]
    }

    /// The in-toto Statement v1 about this release, as canonical JSON (RFC 8785).
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        self.statement_issued(Some(self.issued_at))
    }

    /// SHA-256 over everything that a signer node decides on: the canonical JSON
    /// `{"formats":[…],"statement":{…}}`. Two releases with the same digest ask for the same signatures.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest_over(&self.statement())
    }

    /// The same as [`VerifiedRelease::digest`], without `issuedAt`: what the client sent, before the time of admission was
    /// added. A request id that comes again with another digest here is a different request under a used id.
    #[must_use]
    pub fn request_digest(&self) -> [u8; 32] {
        self.digest_over(&self.statement_issued(None))
    }

    /// All bytes to be signed, in order: first the statement, if [`Format::Dsse`] or [`Format::Statement`] is asked for (they
    /// share one signature), then each artifact, if [`Format::Sshsig`] is.
    #[must_use]
    pub fn signables(&self) -> Vec<Signable> {
        let mut signables = Vec::with_capacity(self.signable_count());
        if self.signs_statement() {
            signables.push(Signable {
                kind: SignableKind::Statement,
                bytes: dsse::pae(dsse::PAYLOAD_TYPE, &self.statement()),
            });
        }
        if self.signs_artifacts() {
            let namespace = self.ssh_namespace().to_string();
            signables.extend(self.artifacts.iter().enumerate().map(|(index, artifact)| Signable {
                kind: SignableKind::Artifact(index),
                bytes: sshsig::signed_bytes(&namespace, &artifact.sha256),
            }));
        }
        signables
    }

    /// How many [`VerifiedRelease::signables`] there are, without making them.
    #[must_use]
    pub fn signable_count(&self) -> usize {
        let artifacts = if self.signs_artifacts() { self.artifacts.len() } else { 0 };
        usize::from(self.signs_statement()) + artifacts
    }

    pub(crate) fn signs_statement(&self) -> bool {
        self.formats.contains(&Format::Dsse) || self.formats.contains(&Format::Statement)
    }

    pub(crate) fn signs_artifacts(&self) -> bool {
        self.formats.contains(&Format::Sshsig)
    }

    fn statement_issued(&self, issued_at: Option<Timestamp>) -> Vec<u8> {
        let predicate = Predicate {
            class: self.class,
            product: &self.product,
            channel: &self.channel,
            version: &self.version,
            sequence: self.sequence,
            issued_at,
            expires_at: self.expires_at,
        };
        statement::encode(&predicate, &self.artifacts)
    }

    fn digest_over(&self, statement: &[u8]) -> [u8; 32] {
        let mut head = String::with_capacity(64);
        head.push_str("{\"formats\":[");
        canonical::separated(&mut head, &self.formats, |head, format| {
            canonical::string(head, format.as_str());
        });
        head.push_str("],\"statement\":");
        Sha256::new().chain_update(head).chain_update(statement).chain_update("}").finalize().into()
    }
}

impl From<&VerifiedRelease> for UnverifiedRelease {
    /// What would have to come from outside to give this release: for storing and sending it.
    fn from(release: &VerifiedRelease) -> Self {
        Self {
            class: release.class,
            product: release.product.as_str().into(),
            channel: release.channel.as_str().into(),
            version: release.version.as_str().into(),
            sequence: release.sequence.get(),
            issued_at: release.issued_at.0,
            expires_at: release.expires_at.map(|time| time.0),
            artifacts: release.artifacts.iter().map(UnverifiedArtifact::from).collect(),
            formats: release.formats.clone(),
        }
    }
}

impl From<&Artifact> for UnverifiedArtifact {
    fn from(artifact: &Artifact) -> Self {
        let Artifact { name, sha256 } = artifact;
        Self { name: name.as_str().into(), sha256: (*sha256).into() }
    }
}

fn verify_times(
    issued_at: u64,
    expires_at: Option<u64>,
) -> Result<(Timestamp, Option<Timestamp>), InvalidRelease> {
    let in_range = |what, seconds| match seconds {
        1..=limits::MAX_TIMESTAMP => Ok(Timestamp(seconds)),
        _ => Err(InvalidRelease::Time { what }),
    };
    let issued_at = in_range("of issue", issued_at)?;
    let expires_at = expires_at.map(|seconds| in_range("of expiry", seconds)).transpose()?;
    if expires_at.is_some_and(|expires_at| expires_at <= issued_at) {
        return Err(InvalidRelease::ExpiresBeforeIssued);
    }
    Ok((issued_at, expires_at))
}

fn verify_formats(mut formats: Vec<Format>) -> Result<Vec<Format>, InvalidRelease> {
    if formats.is_empty() {
        return Err(InvalidRelease::NoFormat);
    }
    formats.sort_unstable();
    match formats.windows(2).find_map(|pair| match pair {
        [left, right] if left == right => Some(*left),
        _ => None,
    }) {
        Some(repeated) => Err(InvalidRelease::RepeatedFormat(repeated)),
        None => Ok(formats),
    }
}

fn verify_artifacts(artifacts: Vec<UnverifiedArtifact>) -> Result<Vec<Artifact>, InvalidRelease> {
    let count = artifacts.len();
    if count == 0 || count > limits::MAX_ARTIFACTS {
        return Err(InvalidRelease::ArtifactCount { count });
    }
    let mut verified = Vec::with_capacity(count);
    for (index, artifact) in artifacts.into_iter().enumerate() {
        verified.push(verify_artifact(artifact).map_err(|source| in_artifact(index, source))?);
    }
    let names = verified.iter().map(|artifact| artifact.name.as_str());
    check_unique(names, InvalidRelease::RepeatedArtifactName)?;
    Ok(verified)
}

fn verify_artifact(artifact: UnverifiedArtifact) -> Result<Artifact, InvalidRelease> {
    let UnverifiedArtifact { name, sha256 } = artifact;
    Ok(Artifact { name: ArtifactName::new(name)?, sha256: digest_bytes("SHA-256", &sha256)? })
}

fn digest_bytes<const N: usize>(algorithm: &'static str, bytes: &[u8]) -> Result<[u8; N], InvalidRelease> {
    bytes.try_into().map_err(|_| InvalidRelease::DigestLength { algorithm, expected: N, actual: bytes.len() })
}

/// SSHSIG files are named after the file alone, so that they lie beside it wherever it goes.
fn check_file_names(formats: &[Format], artifacts: &[Artifact]) -> Result<(), InvalidRelease> {
    if !formats.contains(&Format::Sshsig) {
        return Ok(());
    }
    let file_names = artifacts.iter().map(|artifact| artifact.name.file_name());
    if formats.contains(&Format::Statement)
        && let Some(index) = file_names.clone().position(|name| name.ends_with(".statement"))
    {
        return Err(in_artifact(index, InvalidRelease::ReservedFileName));
    }
    check_unique(file_names, InvalidRelease::RepeatedFileName)
}

pub(crate) fn check_unique<'a>(
    names: impl Iterator<Item = &'a str>,
    repeated: InvalidRelease,
) -> Result<(), InvalidRelease> {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !seen.insert(normalized(name)) {
            return Err(in_artifact(index, repeated));
        }
    }
    Ok(())
}

fn in_artifact(index: usize, source: InvalidRelease) -> InvalidRelease {
    InvalidRelease::Artifact { number: index.saturating_add(1), source: Box::new(source) }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::testing::{artifact, largest, unverified, verified};

    fn refused(change: impl FnOnce(&mut UnverifiedRelease)) -> InvalidRelease {
        let mut release = unverified();
        change(&mut release);
        release.verify().unwrap_err()
    }

    fn in_second(source: InvalidRelease) -> InvalidRelease {
        InvalidRelease::Artifact { number: 2, source: Box::new(source) }
    }

    #[test]
    fn a_release_survives_the_way_out_and_back() {
        let release = verified();
        assert_eq!(UnverifiedRelease::from(&release), unverified());
        assert_eq!(UnverifiedRelease::from(&release).verify().unwrap(), release);
    }

    #[test]
    fn names_and_numbers_out_of_range_are_refused() {
        assert!(matches!(
            refused(|r| r.product = "Rutli".into()),
            InvalidRelease::Name { what: "product", .. }
        ));
        assert!(matches!(
            refused(|r| r.channel = String::new()),
            InvalidRelease::Name { what: "channel", .. }
        ));
        assert!(matches!(
            refused(|r| r.version = "1 2".into()),
            InvalidRelease::Name { what: "version", .. }
        ));
        assert_eq!(refused(|r| r.sequence = 0), InvalidRelease::Sequence);
        assert_eq!(refused(|r| r.sequence = 1 << 53), InvalidRelease::Sequence);
    }

    #[test]
    fn times_out_of_range_are_refused() {
        assert_eq!(refused(|r| r.issued_at = 0), InvalidRelease::Time { what: "of issue" });
        // Milliseconds.
        assert_eq!(refused(|r| r.issued_at *= 1000), InvalidRelease::Time { what: "of issue" });
        assert_eq!(
            refused(|r| r.expires_at = Some(limits::MAX_TIMESTAMP + 1)),
            InvalidRelease::Time { what: "of expiry" }
        );
        assert_eq!(refused(|r| r.expires_at = Some(r.issued_at)), InvalidRelease::ExpiresBeforeIssued);
    }

    #[test]
    fn formats_are_a_set() {
        assert_eq!(refused(|r| r.formats.clear()), InvalidRelease::NoFormat);
        let twice = vec![Format::Sshsig, Format::Dsse, Format::Sshsig];
        assert_eq!(refused(|r| r.formats = twice), InvalidRelease::RepeatedFormat(Format::Sshsig));
        let mut release = unverified();
        release.formats.reverse();
        assert_eq!(release.verify().unwrap(), verified());
    }

    #[test]
    fn artifacts_out_of_range_are_refused() {
        assert_eq!(refused(|r| r.artifacts.clear()), InvalidRelease::ArtifactCount { count: 0 });
        assert_eq!(
            refused(|r| r.artifacts = vec![artifact(1); 5001]),
            InvalidRelease::ArtifactCount { count: 5001 }
        );
        assert!(matches!(
            refused(|r| r.artifacts[1].name = "../x".into()),
            InvalidRelease::Artifact { number: 2, .. }
        ));
    }

    #[test]
    fn digests_of_another_length_are_refused() {
        let length = |algorithm, expected, actual| {
            in_second(InvalidRelease::DigestLength { algorithm, expected, actual })
        };
        assert_eq!(refused(|r| r.artifacts[1].sha256 = vec![0; 64]), length("SHA-256", 32, 64));
        assert_eq!(refused(|r| r.artifacts[1].sha256 = vec![0; 31]), length("SHA-256", 32, 31));
        assert_eq!(refused(|r| r.artifacts[1].sha256.clear()), length("SHA-256", 32, 0));
    }

    #[test]
    fn files_that_would_overwrite_each_other_are_refused() {
        let same_name = |r: &mut UnverifiedRelease| r.artifacts[1].name = r.artifacts[0].name.clone();
        assert_eq!(refused(same_name), in_second(InvalidRelease::RepeatedArtifactName));

        // Encoded differently, but displayed the same.
        for (one, other) in [("Rütli", "Ru\u{308}tli"), ("a\u{fb01}le", "afile"), ("\u{ff41}", "a")] {
            let looks_the_same = |r: &mut UnverifiedRelease| {
                r.artifacts[0].name = one.into();
                r.artifacts[1].name = other.into();
            };
            assert_eq!(refused(looks_the_same), in_second(InvalidRelease::RepeatedArtifactName));
        }

        let same_file_name = |r: &mut UnverifiedRelease| r.artifacts[1].name = "macos/rutli-1".into();
        assert_eq!(refused(same_file_name), in_second(InvalidRelease::RepeatedFileName));
        let mut release = unverified();
        same_file_name(&mut release);
        release.formats = vec![Format::Dsse, Format::Statement];
        assert!(release.verify().is_ok());

        let statement = |r: &mut UnverifiedRelease| r.artifacts[1].name = "x.statement".into();
        assert_eq!(refused(statement), in_second(InvalidRelease::ReservedFileName));
        for formats in [vec![Format::Dsse, Format::Sshsig], vec![Format::Statement]] {
            let mut release = unverified();
            statement(&mut release);
            release.formats = formats;
            assert!(release.verify().is_ok());
        }
    }

    #[test]
    fn errors_name_the_problem_and_the_way_out() {
        assert_eq!(
            refused(|r| r.artifacts[1].name = "a//b".into()).to_string(),
            "artifact 2: the artifact name is not a relative path with single slashes: give a relative path with \
             forward slashes, 1 to 255 bytes long"
        );
        assert_eq!(
            refused(|r| r.product = "\u{1b}[31m".into()).to_string(),
            "the product is not valid: a product has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"
        );
    }

    #[test]
    fn signables_are_those_of_the_formats() {
        let kinds = |formats: &[Format]| {
            let mut release = unverified();
            release.formats = formats.to_vec();
            let release = release.verify().unwrap();
            let kinds: Vec<_> = release.signables().iter().map(|signable| signable.kind).collect();
            assert_eq!(kinds.len(), release.signable_count());
            kinds
        };
        let statement = SignableKind::Statement;
        let files = [SignableKind::Artifact(0), SignableKind::Artifact(1)];
        assert_eq!(kinds(&[Format::Dsse]), [statement]);
        assert_eq!(kinds(&[Format::Statement]), [statement]);
        assert_eq!(kinds(&[Format::Dsse, Format::Statement]), [statement]);
        assert_eq!(kinds(&[Format::Sshsig]), files);
        assert_eq!(kinds(&Format::ALL), [statement, files[0], files[1]]);
    }

    #[test]
    fn the_digest_is_over_everything_a_node_decides_on() {
        let changes: [fn(&mut UnverifiedRelease); 10] = [
            |r| r.class = Class::AvDatabase,
            |r| r.product = "other".into(),
            |r| r.channel = "other".into(),
            |r| r.version = "2".into(),
            |r| r.sequence += 1,
            |r| r.expires_at = None,
            |r| r.formats = vec![Format::Dsse],
            |r| r.artifacts.reverse(),
            |r| r.artifacts[1].name.push('x'),
            |r| r.artifacts[1].sha256[0] ^= 1,
        ];
        let mut digests = BTreeSet::from([verified().digest(), verified().request_digest()]);
        for change in changes {
            let mut release = unverified();
            change(&mut release);
            let release = release.verify().unwrap();
            assert!(digests.insert(release.digest()));
            assert!(digests.insert(release.request_digest()));
        }
        // The time of admission is in the one and not in the other.
        let mut later = unverified();
        later.issued_at += 1;
        let later = later.verify().unwrap();
        assert_ne!(later.digest(), verified().digest());
        assert_eq!(later.request_digest(), verified().request_digest());
    }

    #[test]
    fn digests_are_over_canonical_json() {
        fn digest(value: &serde_json::Value) -> [u8; 32] {
            Sha256::digest(serde_json_canonicalizer::to_vec(value).unwrap()).into()
        }
        let release = verified();
        let statement: serde_json::Value = serde_json::from_slice(&release.statement()).unwrap();
        let mut decided = serde_json::json!({
            "formats": ["dsse", "sshsig", "statement"], "statement": statement,
        });
        assert_eq!(release.digest(), digest(&decided));
        decided["statement"]["predicate"].as_object_mut().unwrap().remove("issuedAt").unwrap();
        assert_eq!(release.request_digest(), digest(&decided));
    }

    #[test]
    fn the_largest_release_keeps_the_bounds() {
        let release = largest().verify().unwrap();
        let signables = release.signables();
        assert_eq!(signables.len(), 5001);
        assert!(release.statement().len() <= limits::MAX_STATEMENT_BYTES);
        assert!(signables[0].bytes.len() <= limits::MAX_PAE_BYTES);
    }
}
