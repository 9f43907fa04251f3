//! The only conversion between messages and the domain types of releases and keys.

use rutli_keys::SignedRoster;
use rutli_release::{
    Class, Format, InvalidRelease, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
    limits::MAX_ARTIFACTS,
};

use crate::v1;

/// What a peer sent does not make a message of ours. The peer erred; sending it again does not help.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Malformed {
    /// A field is missing, too long, or not of its type.
    #[error("{field}: {problem}")]
    Field {
        /// The field's name in the `.proto` file.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The release itself does not hold together.
    #[error(transparent)]
    Release(#[from] InvalidRelease),
}

impl Malformed {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field { field, problem: problem.into() }
    }
}

/// A class on the wire.
pub fn class_from_wire(class: i32) -> Result<Class, Malformed> {
    match v1::ReleaseClass::try_from(class) {
        Ok(v1::ReleaseClass::ProductBuild) => Ok(Class::ProductBuild),
        Ok(v1::ReleaseClass::AvDatabase) => Ok(Class::AvDatabase),
        _ => Err(Malformed::new(
            "release_class",
            "give RELEASE_CLASS_PRODUCT_BUILD or RELEASE_CLASS_AV_DATABASE",
        )),
    }
}

/// A class for the wire.
#[must_use]
pub fn class_to_wire(class: Class) -> v1::ReleaseClass {
    match class {
        Class::ProductBuild => v1::ReleaseClass::ProductBuild,
        Class::AvDatabase => v1::ReleaseClass::AvDatabase,
    }
}

/// Formats on the wire; an unknown one is an error, for a newer client must not get less than it asked for.
pub fn formats_from_wire(formats: &[i32]) -> Result<Vec<Format>, Malformed> {
    formats
        .iter()
        .map(|format| match v1::SignatureFormat::try_from(*format) {
            Ok(v1::SignatureFormat::Dsse) => Ok(Format::Dsse),
            Ok(v1::SignatureFormat::Sshsig) => Ok(Format::Sshsig),
            Ok(v1::SignatureFormat::Statement) => Ok(Format::Statement),
            _ => Err(Malformed::new("formats", format!("format {format} is not known here"))),
        })
        .collect()
}

/// A format for the wire.
#[must_use]
pub fn format_to_wire(format: Format) -> v1::SignatureFormat {
    match format {
        Format::Dsse => v1::SignatureFormat::Dsse,
        Format::Sshsig => v1::SignatureFormat::Sshsig,
        Format::Statement => v1::SignatureFormat::Statement,
    }
}

/// Checks the numbers of files and formats in a request, before anything is done with it.
///
/// # Errors
/// There are more files or formats than a release may have.
pub fn check_counts(request: &v1::CreateReleaseRequest) -> Result<(), Malformed> {
    let count = request.artifacts.len();
    if count > MAX_ARTIFACTS {
        return Err(InvalidRelease::ArtifactCount { count }.into());
    }
    if request.formats.len() > Format::ALL.len() {
        return Err(Malformed::new(
            "formats",
            format!("has {} of them; there are only {}", request.formats.len(), Format::ALL.len()),
        ));
    }
    Ok(())
}

/// What a pipeline asked for, admitted at `issued_at` (Unix seconds). No formats given means all of them.
pub fn release_from_request(
    request: v1::CreateReleaseRequest,
    issued_at: u64,
) -> Result<VerifiedRelease, Malformed> {
    let mut formats = formats_from_wire(&request.formats)?;
    if formats.is_empty() {
        formats = vec![Format::Dsse, Format::Sshsig, Format::Statement];
    }
    let unverified = UnverifiedRelease {
        class: class_from_wire(request.release_class)?,
        product: request.product,
        channel: request.channel,
        version: request.version,
        sequence: request.sequence,
        issued_at,
        expires_at: (request.expires_at != 0).then_some(request.expires_at),
        artifacts: request.artifacts.into_iter().map(artifact_from_wire).collect(),
        formats,
    };
    Ok(unverified.verify()?)
}

/// The content of a release as a node gets it.
pub fn release_from_content(content: v1::ReleaseContent) -> Result<VerifiedRelease, Malformed> {
    let unverified = UnverifiedRelease {
        class: class_from_wire(content.release_class)?,
        product: content.product,
        channel: content.channel,
        version: content.version,
        sequence: content.sequence,
        issued_at: content.issued_at,
        expires_at: (content.expires_at != 0).then_some(content.expires_at),
        artifacts: content.artifacts.into_iter().map(artifact_from_wire).collect(),
        formats: formats_from_wire(&content.formats)?,
    };
    Ok(unverified.verify()?)
}

/// The content of a release for the wire and for the coordinator's store.
#[must_use]
pub fn release_to_content(release: &VerifiedRelease) -> v1::ReleaseContent {
    v1::ReleaseContent {
        release_class: class_to_wire(release.class()).into(),
        product: release.product().to_string(),
        channel: release.channel().to_string(),
        version: release.version().to_string(),
        sequence: release.sequence().get(),
        issued_at: release.issued_at().0,
        expires_at: release.expires_at().map_or(0, |time| time.0),
        artifacts: release
            .artifacts()
            .iter()
            .map(|artifact| v1::Artifact {
                name: artifact.name.to_string(),
                sha256: artifact.sha256.to_vec(),
            })
            .collect(),
        formats: release.formats().iter().map(|format| format_to_wire(*format).into()).collect(),
    }
}

/// A usable key for the wire: for people and programs, public all of it.
#[must_use]
pub fn key_to_wire(signed: &SignedRoster) -> v1::Key {
    let roster = signed.roster();
    v1::Key {
        name: roster.key().to_string(),
        purpose: roster.purpose().to_string(),
        public_key: roster.group_key().to_vec(),
        roster_hash: roster.hash().as_bytes().to_vec(),
        words: roster.words(),
        signed_roster: signed.encode(),
    }
}

fn artifact_from_wire(artifact: v1::Artifact) -> UnverifiedArtifact {
    UnverifiedArtifact { name: artifact.name, sha256: artifact.sha256 }
}
