//! Why a release is refused before anybody decides on it.

use alloc::boxed::Box;

use crate::format::Format;

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
    /// No namespace that files are signed in.
    #[error(
        "invalid namespace: it is `<class>/<product>/<channel>`, for example `product-build/suite/stable`"
    )]
    Namespace,
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
    #[error("an earlier artifact has the same name, or one that looks the same: name each file once")]
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
