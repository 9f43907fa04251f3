//! What a node knows about one request when it decides.

use rutli_evidence::Established;
use rutli_release::{
    Artifact, ArtifactName, Channel, Class, Format, Product, Requester, Sequence, Timestamp, VerifiedRelease,
    Version,
};
use serde::Serialize;

/// All that a decision depends on, besides the policies. Each of it was established by the node itself.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who asked, by its certificate.
    pub requester: &'a Requester,
    /// What was asked for.
    pub release: ReleaseFacts<'a>,
    /// Whether the log shows only a commitment until some day.
    pub embargoed: bool,
    /// What the evidence for this release establishes, by this custodian's trust, now. In any order; the same twice counts once.
    pub established: &'a [Established],
    /// The highest sequence that this node permitted before in this class, product and channel.
    pub previous_sequence: Option<Sequence>,
    /// The version of that release.
    pub previous_version: Option<&'a Version>,
    /// Whether this node permitted no other content under this version before in this class, product and channel.
    pub version_is_new: bool,
    /// How many of the release's files, by SHA-256, this node permitted in an earlier release.
    pub files_permitted_before: u64,
    /// What this node permitted lately.
    pub rates: Rates,
    /// The node's time, in Unix seconds.
    pub now_unix: u64,
}

/// What policies can ask about a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseFacts<'a> {
    /// What kind of release it is.
    pub class: Class,
    /// The product.
    pub product: &'a Product,
    /// The channel.
    pub channel: &'a Channel,
    /// The version.
    pub version: &'a Version,
    /// The place among the releases of this product, class and channel.
    pub sequence: Sequence,
    /// How many files.
    pub artifacts: u64,
    /// What they are called.
    pub file_names: FileNames<'a>,
    /// When it was admitted.
    pub issued_at: Timestamp,
    /// From when on endpoints refuse it.
    pub expires_at: Option<Timestamp>,
    /// In which formats it is signed.
    pub formats: &'a [Format],
}

/// The names of a release's files, from wherever they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileNames<'a> {
    /// Of these files.
    Of(&'a [Artifact]),
    /// These.
    Names(&'a [ArtifactName]),
}

impl<'a> FileNames<'a> {
    /// In the order of the release.
    pub(crate) fn texts(self) -> impl Iterator<Item = &'a str> {
        let (files, names) = match self {
            Self::Of(files) => (files, Default::default()),
            Self::Names(names) => (Default::default(), names),
        };
        files.iter().map(|file| &file.name).chain(names).map(ArtifactName::as_str)
    }
}

/// What a node permitted within the last 3,600 seconds, of the class and product of the release that is decided on. That release itself is
/// **not** counted here; in policies it is (`context.releasesInHour` is one more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rates {
    /// How many releases.
    pub releases_in_hour: u64,
    /// How many files they had together.
    pub artifacts_in_hour: u64,
}

impl<'a> From<&'a VerifiedRelease> for ReleaseFacts<'a> {
    fn from(release: &'a VerifiedRelease) -> Self {
        let artifacts = release.artifacts();
        Self {
            class: release.class(),
            product: release.product(),
            channel: release.channel(),
            version: release.version(),
            sequence: release.sequence(),
            artifacts: u64::try_from(artifacts.len()).unwrap_or(u64::MAX),
            file_names: FileNames::Of(artifacts),
            issued_at: release.issued_at(),
            expires_at: release.expires_at(),
            formats: release.formats(),
        }
    }
}

/// A time as policies see it, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Time {
    /// 1 Monday to 7 Sunday (ISO 8601).
    pub(crate) weekday: u64,
    pub(crate) hour: u64,
    pub(crate) minute_of_day: u64,
    pub(crate) unix: u64,
}

impl Time {
    pub(crate) fn at(unix: u64) -> Self {
        let (days, second) = (unix / 86_400, unix % 86_400);
        // 1 January 1970 was a Thursday.
        Self { weekday: (days % 7 + 3) % 7 + 1, hour: second / 3_600, minute_of_day: second / 60, unix }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        let time = |unix| {
            let Time { weekday, hour, minute_of_day, .. } = Time::at(unix);
            (weekday, hour, minute_of_day)
        };
        assert_eq!(time(0), (4, 0, 0));
        // 2026-11-21T10:00:00Z, a Saturday.
        assert_eq!(time(1_795_255_200), (6, 10, 600));
        // 2024-02-29T23:59:59Z, a Thursday; a second later a Friday.
        assert_eq!(time(1_709_251_199), (4, 23, 1_439));
        assert_eq!(time(1_709_251_200), (5, 0, 0));
        // 2026-11-22 and 23: Sunday and Monday.
        assert_eq!(time(1_795_305_600).0, 7);
        assert_eq!(time(1_795_392_000).0, 1);
        assert_eq!(time(u64::MAX).1 / 24, 0);
    }
}
