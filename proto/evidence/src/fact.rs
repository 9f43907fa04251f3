//! What evidence establishes.

use std::{collections::BTreeSet, fmt};

use rutli_release::{Product, VerifiedRelease};

/// What one piece of evidence establishes about one release, by the keys that one custodian trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Established {
    /// A trusted builder made the release's artifacts from this source.
    Provenance(BuildFact),
    /// A trusted rebuilder made the same artifacts again, bit for bit.
    Rebuild(BuildFact),
    /// A test run over the release's artifacts passed, and nothing in it failed.
    Tests {
        /// The name of the tester's key.
        by: String,
        /// What passed: the names in `passedTests`. It contains neither tests that passed with a warning nor
        /// names in `configuration`.
        passed: BTreeSet<String>,
        /// Where to read about the run.
        url: Option<String>,
    },
    /// A test run over some of the release's files failed, or a test in it.
    TestsFailed {
        /// The name of the tester's key.
        by: String,
    },
    /// A reviewer found one source in order. Whether the release was built from it is for the policy to compare with the
    /// digest in the provenance.
    Review {
        /// The name of the reviewer's key.
        by: String,
        /// Who reviewed, as the summary says: `verifier.id`.
        verifier_id: String,
        /// What was reviewed: `resourceUri`.
        source_uri: String,
        /// The digest of the source: the summary's one subject.
        source_digest: SourceDigest,
        /// What it was found to be: `verifiedLevels`.
        levels: BTreeSet<String>,
    },
    /// A custodian approves the release.
    Approval {
        /// The custodian's name: the principal in the allowed-signers file.
        custodian: String,
    },
    /// A custodian refuses the release's product with some files of it.
    Refusal {
        /// The custodian's name: the principal in the allowed-signers file.
        custodian: String,
        /// Why, in one printable line.
        reason: String,
        /// What it is about.
        refused: Refused,
    },
}

/// What a custodian refuses: any release of a product with one of these files, whatever else it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// SHA-256 of the statement of the release that the custodian looked at.
    pub statement: [u8; 32],
    /// Its product.
    pub product: Product,
    /// SHA-256 of all of its files, or of those that the custodian chose.
    pub files: BTreeSet<[u8; 32]>,
}

impl Refused {
    /// Whether it is about this release: the same product, and one of the files.
    #[must_use]
    pub fn is_about(&self, release: &VerifiedRelease) -> bool {
        self.product == *release.product()
            && release.artifacts().iter().any(|artifact| self.files.contains(&artifact.sha256))
    }
}

/// How the artifacts of a release came about (SLSA provenance v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFact {
    /// The name of the key that signed.
    pub by: String,
    /// `runDetails.builder.id`: one of those that the key may speak for.
    pub builder_id: String,
    /// `buildDefinition.buildType`.
    pub build_type: String,
    /// The address of the source.
    pub source_uri: Option<String>,
    /// The digest of the source: of the item `source` in `buildDefinition.resolvedDependencies`, or of its only item.
    pub source_digest: SourceDigest,
    /// `runDetails.metadata.invocationId`.
    pub invocation_id: Option<String>,
    /// When the build was done, in Unix seconds: `runDetails.metadata.finishedOn`.
    pub finished_at: Option<u64>,
}

/// The digest of a source. As text `sha256:<hex>` or `gitCommit:<hex>`. Where a statement gives both, the SHA-256 counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceDigest {
    /// SHA-256 of an archive.
    Sha256([u8; 32]),
    /// A Git commit: its 40 or 64 digits in lower-case hexadecimal.
    GitCommit(String),
}

impl SourceDigest {
    /// The algorithm as in-toto's digest sets name it: `sha256` or `gitCommit`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitCommit(_) => "gitCommit",
        }
    }

    /// The digest in lower-case hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        match self {
            Self::Sha256(digest) => hex::encode(digest),
            Self::GitCommit(commit) => commit.clone(),
        }
    }

    /// A digest that a digest set gives under the name of its algorithm; `None` if it has another form.
    pub(crate) fn new(algorithm: &str, text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match (algorithm, text.len()) {
            ("sha256", 64) if digits => hex::decode(text).ok()?.try_into().ok().map(Self::Sha256),
            ("gitCommit", 40 | 64) if digits => Some(Self::GitCommit(text.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for SourceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl std::str::FromStr for SourceDigest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        text.split_once(':').and_then(|(algorithm, hex)| Self::new(algorithm, hex)).ok_or(NotADigest)
    }
}

/// Text that is no digest of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the digest of a source: want `sha256:` and 64, or `gitCommit:` and 40 or 64 digits in lower-case hexadecimal"
)]
pub struct NotADigest;
