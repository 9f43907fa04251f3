//! The release: from what came from outside to what may be signed.
//!
//! [`UnverifiedRelease`] → [`VerifiedRelease`]; the constructor in between is the only one. A verified release says which bytes
//! Ed25519 signs for it, and has a digest over everything that a signer node decides on.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::{ArtifactName, Channel, Product, Sequence, Timestamp, Version};
use crate::statement::{self, Predicate};
use crate::{canonical, dsse, limits, sshsig};

/// What kind of release it is. Policies, queues and SSHSIG namespaces differ by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A build of a product: few, large, reviewed.
    ProductBuild,
    /// An update of an anti-virus database: frequent and urgent.
    AvDatabase,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::ProductBuild, Self::AvDatabase];

    /// The class as it is written: `product-build` or `av-database`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProductBuild => "product-build",
            Self::AvDatabase => "av-database",
        }
    }

    /// The only SSHSIG namespace that files of this class are signed in. Never one that other programs verify in, such as
    /// `git` or `file`.
    #[must_use]
    pub fn ssh_namespace(self) -> &'static str {
        match self {
            Self::ProductBuild => "product-build@rutli",
            Self::AvDatabase => "av-database@rutli",
        }
    }

    /// The class whose [`Class::ssh_namespace`] this is.
    #[must_use]
    pub fn from_ssh_namespace(namespace: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.ssh_namespace() == namespace)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(InvalidRelease::Class)
    }
}

/// A format that a release's signatures come in. The order is that of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A DSSE envelope around the in-toto Statement.
    Dsse,
    /// One SSHSIG per artifact, for `ssh-keygen -Y verify`.
    Sshsig,
    /// The signed bytes of the DSSE envelope as a file, and the raw signature over them as another.
    Statement,
}

impl Format {
    /// All formats, in order.
    pub const ALL: [Self; 3] = [Self::Dsse, Self::Sshsig, Self::Statement];

    /// The format as it is written: `dsse`, `sshsig` or `statement`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dsse => "dsse",
            Self::Sshsig => "sshsig",
            Self::Statement => "statement",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(InvalidRelease::Format)
    }
}

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
    /// The size in bytes, at most 2^53 − 1.
    pub size: u64,
    /// SHA-256 of the file, 32 bytes.
    pub sha256: Vec<u8>,
    /// SHA-512 of the file, 64 bytes.
    pub sha512: Vec<u8>,
    /// BLAKE2b-512 of the file, 64 bytes.
    pub blake2b: Vec<u8>,
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

/// One file of a release, known by its digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The name, unique in the release.
    pub name: ArtifactName,
    /// The size in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// SHA-512 of the file.
    pub sha512: [u8; 64],
    /// BLAKE2b-512 of the file.
    pub blake2b: [u8; 64],
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

    /// The in-toto Statement v1 about this release, as canonical JSON (RFC 8785).
    #[must_use]
    pub fn statement(&self) -> Vec<u8> {
        self.statement_issued(Some(self.issued_at))
    }

    /// SHA-256 over everything that a signer node decides on: the canonical JSON
    /// `{"formats":[…],"sizes":[…],"statement":{…}}`. Two releases with the same digest ask for the same signatures.
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
            let namespace = self.class.ssh_namespace();
            signables.extend(self.artifacts.iter().enumerate().map(|(index, artifact)| Signable {
                kind: SignableKind::Artifact(index),
                bytes: sshsig::signed_bytes(namespace, &artifact.sha512),
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
        statement::encode(&predicate, self.artifacts.iter().map(statement::SubjectRef::from))
    }

    fn digest_over(&self, statement: &[u8]) -> [u8; 32] {
        let mut head = String::with_capacity(64 + 17 * self.artifacts.len());
        head.push_str("{\"formats\":[");
        canonical::separated(&mut head, &self.formats, |head, format| {
            canonical::string(head, format.as_str());
        });
        head.push_str("],\"sizes\":[");
        canonical::separated(&mut head, &self.artifacts, |head, artifact| {
            canonical::integer(head, artifact.size);
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
        Self {
            name: artifact.name.as_str().into(),
            size: artifact.size,
            sha256: artifact.sha256.into(),
            sha512: artifact.sha512.into(),
            blake2b: artifact.blake2b.into(),
        }
    }
}

/// Why a release is not well formed. Always the requester's mistake; asking again with the same content fails again.
///
/// Texts from outside are never repeated in the message, since they may be long or hostile to a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRelease {
    /// A name breaks its grammar. Rename it.
    #[error("the {what} is not valid: a {what} has {rule}")]
    Name {
        /// Which name.
        what: &'static str,
        /// The grammar it breaks.
        rule: &'static str,
    },
    /// An artifact name is not a plain relative path. Rename the file or give its path relative to the release's directory.
    #[error("the artifact name {problem}: give a relative path with forward slashes, 1 to 255 bytes long")]
    ArtifactName {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No such class.
    #[error("unknown class: it is `product-build` or `av-database`")]
    Class,
    /// No such format.
    #[error("unknown format: it is `dsse`, `sshsig` or `statement`")]
    Format,
    /// The sequence is 0 or cannot be kept exact in JSON.
    #[error("the sequence is out of range: count from 1, at most to 2^53 - 1")]
    Sequence,
    /// A time is 0 or beyond what RFC 3339 can write.
    #[error("the time {what} is out of range: give Unix seconds, not milliseconds, from 1 to the year 9999")]
    Time {
        /// Which time.
        what: &'static str,
    },
    /// The release would expire before it is issued.
    #[error("the release expires before it is issued: set an expiry in the future, or none")]
    ExpiresBeforeIssued,
    /// No format was asked for, so there is nothing to sign.
    #[error("no format: ask for at least one of `dsse`, `sshsig` and `statement`")]
    NoFormat,
    /// A format was asked for twice.
    #[error("the format `{0}` is there twice: name each format once")]
    RepeatedFormat(Format),
    /// No artifacts, or too many.
    #[error("the release has {count} artifacts: 1 to 5000 are possible; split larger releases")]
    ArtifactCount {
        /// How many there are.
        count: usize,
    },
    /// The size cannot be kept exact in JSON.
    #[error("the size is out of range: at most 2^53 - 1 bytes are possible")]
    ArtifactSize,
    /// A digest has the wrong length.
    #[error(
        "the {algorithm} digest has {actual} bytes instead of {expected}: send the raw digest of the whole file, not hex"
    )]
    DigestLength {
        /// The hash function.
        algorithm: &'static str,
        /// The length of its digests, in bytes.
        expected: usize,
        /// The length that came, in bytes.
        actual: usize,
    },
    /// Two artifacts have the same name. Each name is one file.
    #[error("an earlier artifact has the same name: name each file once")]
    RepeatedArtifactName,
    /// Two artifacts of different directories have the same file name, and SSHSIG files are named after it.
    #[error(
        "an earlier artifact has the same file name in another directory, so that their .sig files would be one: rename one of them or leave out the format `sshsig`"
    )]
    RepeatedFileName,
    /// An artifact's `.sig` could overwrite the signature over the statement.
    #[error(
        "a file name that ends in `.statement` cannot have a .sig of its own, since that is the statement's: rename it or leave out one of the formats `sshsig` and `statement`"
    )]
    ReservedFileName,
    /// One of the other errors, in one artifact.
    #[error("artifact {number}: {source}")]
    Artifact {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong with it.
        source: Box<InvalidRelease>,
    },
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
    if artifact.size > limits::MAX_INTEGER {
        return Err(InvalidRelease::ArtifactSize);
    }
    Ok(Artifact {
        name: ArtifactName::new(artifact.name)?,
        size: artifact.size,
        sha256: digest_bytes("SHA-256", &artifact.sha256)?,
        sha512: digest_bytes("SHA-512", &artifact.sha512)?,
        blake2b: digest_bytes("BLAKE2b-512", &artifact.blake2b)?,
    })
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
        if !seen.insert(name) {
            return Err(in_artifact(index, repeated));
        }
    }
    Ok(())
}

fn in_artifact(index: usize, source: InvalidRelease) -> InvalidRelease {
    InvalidRelease::Artifact { number: index.saturating_add(1), source: Box::new(source) }
}
