//! The statement: an in-toto Statement v1 with the `release` predicate v0.2, one per release, in canonical JSON (RFC 8785).
//!
//! ```json
//! {"_type":"https://in-toto.io/Statement/v1",
//!  "predicate":{"channel":"stable","class":"product-build","expiresAt":"2027-11-21T10:00:00Z","issuedAt":"2026-11-21T10:00:00Z",
//!    "packageId":"rutli","purl":"pkg:generic/rutli@1.4.2","sequence":42},
//!  "predicateType":"https://in-toto.io/attestation/release/v0.2",
//!  "subject":[{"digest":{"blake2b":"…","sha256":"…","sha512":"…"},"name":"rutli"}]}
//! ```
//!
//! (On one line, without spaces.) `purl` and `packageId` are the predicate's own; the rest are extension fields, which in-toto allows.
//! Times are in RFC 3339, as in-toto has them; `expiresAt` is absent if the release does not expire. Subjects are in the order of
//! the request. Sizes are not in it: a digest says more.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::names::{ArtifactName, Channel, Product, Sequence, Timestamp, Version};
use crate::release::{Artifact, Class, InvalidRelease, check_unique};
use crate::verify::NotVerified;
use crate::{canonical, limits};

/// The `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// The `predicateType` of every statement.
pub const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/release/v0.2";

/// A statement that was signed: the verification functions alone make it. Whether it is about the file at hand and is what is
/// expected is asked by [`Statement::check_file`] and [`Statement::expect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    class: Class,
    product: Product,
    channel: Channel,
    version: Version,
    sequence: Sequence,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    subjects: Vec<Subject>,
}

/// One file that a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The name, unique in the statement.
    pub name: ArtifactName,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// SHA-512 of the file.
    pub sha512: [u8; 64],
    /// BLAKE2b-512 of the file.
    pub blake2b: [u8; 64],
}

impl Statement {
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

    /// From when on it is to be refused.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The files, 1 to 5000, in the order of the request.
    #[must_use]
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Reads a statement whose bytes were verified. Only the one canonical encoding is accepted: what was read is encoded
    /// again and compared.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotVerified> {
        if bytes.len() > limits::MAX_STATEMENT_BYTES {
            return Err(NotVerified::too_large("statement", limits::MAX_STATEMENT_BYTES));
        }
        let json: StatementJson<'_> =
            serde_json::from_slice(bytes).map_err(|_| NotVerified::StatementForm)?;
        if json.statement_type != STATEMENT_TYPE || json.predicate_type != PREDICATE_TYPE {
            return Err(NotVerified::StatementType);
        }
        let statement = json.read().ok_or(NotVerified::StatementForm)?;
        if statement.encode() != bytes {
            return Err(NotVerified::StatementNotCanonical);
        }
        Ok(statement)
    }

    fn encode(&self) -> Vec<u8> {
        let predicate = Predicate {
            class: self.class,
            product: &self.product,
            channel: &self.channel,
            version: &self.version,
            sequence: self.sequence,
            issued_at: Some(self.issued_at),
            expires_at: self.expires_at,
        };
        encode(&predicate, self.subjects.iter().map(SubjectRef::from))
    }
}

/// What a statement says about the release as a whole.
pub(crate) struct Predicate<'a> {
    pub(crate) class: Class,
    pub(crate) product: &'a Product,
    pub(crate) channel: &'a Channel,
    pub(crate) version: &'a Version,
    pub(crate) sequence: Sequence,
    /// Left out where the time of admission does not count. Such an encoding is hashed, never signed.
    pub(crate) issued_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// What a statement says about one file.
pub(crate) struct SubjectRef<'a> {
    name: &'a ArtifactName,
    sha256: &'a [u8; 32],
    sha512: &'a [u8; 64],
    blake2b: &'a [u8; 64],
}

impl<'a> From<&'a Artifact> for SubjectRef<'a> {
    fn from(artifact: &'a Artifact) -> Self {
        Self {
            name: &artifact.name,
            sha256: &artifact.sha256,
            sha512: &artifact.sha512,
            blake2b: &artifact.blake2b,
        }
    }
}

impl<'a> From<&'a Subject> for SubjectRef<'a> {
    fn from(subject: &'a Subject) -> Self {
        Self {
            name: &subject.name,
            sha256: &subject.sha256,
            sha512: &subject.sha512,
            blake2b: &subject.blake2b,
        }
    }
}

/// The canonical encoding: keys in the order of their bytes, no white space.
pub(crate) fn encode<'a>(
    predicate: &Predicate<'_>,
    subjects: impl ExactSizeIterator<Item = SubjectRef<'a>>,
) -> Vec<u8> {
    // Digests take 320 digits, keys and quotes 54 bytes, names are mostly short.
    let mut out = String::with_capacity(768 + subjects.len() * 448);
    out.push_str("{\"_type\":");
    canonical::string(&mut out, STATEMENT_TYPE);
    out.push_str(",\"predicate\":{\"channel\":");
    canonical::string(&mut out, predicate.channel.as_str());
    out.push_str(",\"class\":");
    canonical::string(&mut out, predicate.class.as_str());
    if let Some(expires_at) = predicate.expires_at {
        out.push_str(",\"expiresAt\":");
        canonical::string(&mut out, &expires_at.rfc3339());
    }
    if let Some(issued_at) = predicate.issued_at {
        out.push_str(",\"issuedAt\":");
        canonical::string(&mut out, &issued_at.rfc3339());
    }
    out.push_str(",\"packageId\":");
    canonical::string(&mut out, predicate.product.as_str());
    out.push_str(",\"purl\":");
    canonical::string(&mut out, &purl(predicate.product, predicate.version));
    out.push_str(",\"sequence\":");
    canonical::integer(&mut out, predicate.sequence.get());
    out.push_str("},\"predicateType\":");
    canonical::string(&mut out, PREDICATE_TYPE);
    out.push_str(",\"subject\":[");
    canonical::separated(&mut out, subjects, |out, subject| {
        out.push_str("{\"digest\":{\"blake2b\":\"");
        canonical::hex(out, subject.blake2b);
        out.push_str("\",\"sha256\":\"");
        canonical::hex(out, subject.sha256);
        out.push_str("\",\"sha512\":\"");
        canonical::hex(out, subject.sha512);
        out.push_str("\"},\"name\":");
        canonical::string(out, subject.name.as_str());
        out.push('}');
    });
    out.push_str("]}");
    out.into_bytes()
}

/// `pkg:generic/<product>@<version>`. Of all characters that both may have, `+` alone has to be percent-encoded (package-url, "character
/// encoding").
fn purl(product: &Product, version: &Version) -> String {
    format!("{PURL_TYPE}{product}@{}", version.as_str().replace('+', "%2B"))
}

const PURL_TYPE: &str = "pkg:generic/";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementJson<'a> {
    #[serde(borrow, rename = "_type")]
    statement_type: Cow<'a, str>,
    #[serde(borrow)]
    predicate: PredicateJson<'a>,
    #[serde(borrow, rename = "predicateType")]
    predicate_type: Cow<'a, str>,
    #[serde(borrow)]
    subject: Vec<SubjectJson<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PredicateJson<'a> {
    channel: Channel,
    class: Class,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
    #[serde(borrow)]
    issued_at: Cow<'a, str>,
    package_id: Product,
    #[serde(borrow)]
    purl: Cow<'a, str>,
    sequence: Sequence,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectJson<'a> {
    #[serde(borrow)]
    digest: DigestJson<'a>,
    name: ArtifactName,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestJson<'a> {
    #[serde(borrow)]
    blake2b: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    #[serde(borrow)]
    sha512: Cow<'a, str>,
}

impl StatementJson<'_> {
    /// The typed statement, if all texts are legal. Spellings are left to the comparison of encodings.
    fn read(self) -> Option<Statement> {
        let predicate = self.predicate;
        let version = predicate
            .purl
            .strip_prefix(PURL_TYPE)?
            .strip_prefix(predicate.package_id.as_str())?
            .strip_prefix('@')?
            .replace("%2B", "+");
        let expires_at = match predicate.expires_at {
            Some(text) => Some(Timestamp::from_rfc3339(&text)?),
            None => None,
        };
        if self.subject.is_empty() || self.subject.len() > limits::MAX_ARTIFACTS {
            return None;
        }
        let subjects: Vec<Subject> =
            self.subject.into_iter().map(SubjectJson::read).collect::<Option<_>>()?;
        let names = subjects.iter().map(|subject| subject.name.as_str());
        check_unique(names, InvalidRelease::RepeatedArtifactName).ok()?;
        Some(Statement {
            class: predicate.class,
            product: predicate.package_id,
            channel: predicate.channel,
            version: Version::new(version).ok()?,
            sequence: predicate.sequence,
            issued_at: Timestamp::from_rfc3339(&predicate.issued_at)?,
            expires_at,
            subjects,
        })
    }
}

impl SubjectJson<'_> {
    fn read(self) -> Option<Subject> {
        Some(Subject {
            name: self.name,
            sha256: read_hex(&self.digest.sha256)?,
            sha512: read_hex(&self.digest.sha512)?,
            blake2b: read_hex(&self.digest.blake2b)?,
        })
    }
}

fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}
