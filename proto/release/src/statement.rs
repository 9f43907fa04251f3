//! The statement: an in-toto Statement v1 with the `release` predicate v0.2, one per release, in canonical JSON (RFC 8785).
//!
//! ```json
//! {"_type":"https://in-toto.io/Statement/v1",
//!  "predicate":{"channel":"stable","class":"product-build","expiresAt":"2027-11-21T10:00:00Z","issuedAt":"2026-11-21T10:00:00Z",
//!    "packageId":"rutli","purl":"pkg:generic/rutli@1.4.2","sequence":42},
//!  "predicateType":"https://in-toto.io/attestation/release/v0.2",
//!  "subject":[{"digest":{"sha256":"…"},"name":"rutli"}]}
//! ```
//!
//! (On one line, without spaces.) `purl` and `packageId` are the predicate's own; the rest are extension fields, which in-toto allows.
//! Times are in RFC 3339, as in-toto has them; `expiresAt` is absent if the release does not expire. Subjects are in the order of
//! the request, each with exactly the digests that [`Artifact::digests`] names. Sizes are not in it: a digest says more.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::class::Class;
use crate::invalid::InvalidRelease;
use crate::names::{ArtifactName, Channel, Product, Sequence, Timestamp, Version};
use crate::release::{Artifact, check_unique};
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
    subjects: Vec<Artifact>,
}

/// What somebody says that a statement says, as a log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
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
    /// When the release was admitted.
    pub issued_at: Timestamp,
}

impl Claims<'_> {
    /// Whether bytes are a statement, in its one encoding, that says so. Nothing is verified about who signed it: that
    /// is why this does not give the statement.
    #[must_use]
    pub fn are_of(&self, statement: &[u8]) -> bool {
        Statement::parse(statement).is_ok_and(|statement| {
            let said = Claims {
                class: statement.class,
                product: &statement.product,
                channel: &statement.channel,
                version: &statement.version,
                sequence: statement.sequence,
                issued_at: statement.issued_at,
            };
            said == *self
        })
    }
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
    pub fn subjects(&self) -> &[Artifact] {
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
        encode(&predicate, &self.subjects)
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

/// The canonical encoding: keys in the order of their bytes, no white space.
pub(crate) fn encode(predicate: &Predicate<'_>, subjects: &[Artifact]) -> Vec<u8> {
    // The digest takes 64 digits, keys and quotes 34 bytes, names are mostly short.
    let mut out = String::with_capacity(768 + subjects.len() * 160);
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
        out.push_str("{\"digest\":{");
        canonical::separated(out, subject.digests(), |out, (algorithm, digest)| {
            canonical::string(out, algorithm);
            out.push_str(":\"");
            canonical::hex(out, digest);
            out.push('"');
        });
        out.push_str("},\"name\":");
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
    sha256: Cow<'a, str>,
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
        let subjects: Vec<Artifact> =
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
    fn read(self) -> Option<Artifact> {
        Some(Artifact { name: self.name, sha256: read_hex(&self.digest.sha256)? })
    }
}

fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::format::Format;
    use crate::release::{UnverifiedArtifact, UnverifiedRelease};
    use crate::testing::{bit_flips, largest, text, unverified, verified};

    #[test]
    fn the_statement_is_exactly_this() {
        let mut release = unverified();
        release.artifacts.truncate(1);
        let d64 = "01".repeat(32);
        assert_eq!(
            text(release.verify().unwrap().statement()),
            format!(
                "{{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicate\":{{\"channel\":\"stable\",\
                 \"class\":\"product-build\",\"expiresAt\":\"2027-11-21T10:00:00Z\",\
                 \"issuedAt\":\"2026-11-21T10:00:00Z\",\"packageId\":\"rutli\",\
                 \"purl\":\"pkg:generic/rutli@1.4.2%2Bbuild.7\",\"sequence\":42}},\
                 \"predicateType\":\"https://in-toto.io/attestation/release/v0.2\",\"subject\":[{{\"digest\":\
                 {{\"sha256\":\"{d64}\"}},\"name\":\"linux/rutli-1\"}}]}}"
            )
        );
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        let release = verified();
        let statement = Statement::parse(&release.statement()).unwrap();
        assert_eq!(statement.class(), release.class());
        assert_eq!(statement.product(), release.product());
        assert_eq!(statement.channel(), release.channel());
        assert_eq!(statement.version(), release.version());
        assert_eq!(statement.sequence(), release.sequence());
        assert_eq!(statement.issued_at(), release.issued_at());
        assert_eq!(statement.expires_at(), release.expires_at());
        assert_eq!(statement.subjects(), release.artifacts());
        assert!(Statement::parse(&largest().verify().unwrap().statement()).is_ok());
    }

    #[test]
    fn claims_are_of_the_statement_that_says_them_and_of_no_other() {
        let (release, later) = (verified(), Timestamp(verified().issued_at().0 + 1));
        let bytes = release.statement();
        let claims = Claims {
            class: release.class(),
            product: release.product(),
            channel: release.channel(),
            version: release.version(),
            sequence: release.sequence(),
            issued_at: release.issued_at(),
        };
        assert!(claims.are_of(&bytes));
        let (product, channel, version) =
            (Product::new("x").unwrap(), Channel::new("x").unwrap(), Version::new("x").unwrap());
        for other in [
            Claims { class: Class::AvDatabase, ..claims },
            Claims { product: &product, ..claims },
            Claims { channel: &channel, ..claims },
            Claims { version: &version, ..claims },
            Claims { sequence: Sequence::new(43).unwrap(), ..claims },
            Claims { issued_at: later, ..claims },
        ] {
            assert!(!other.are_of(&bytes), "{other:?}");
        }
        assert!(!claims.are_of(&[bytes.as_slice(), b"\n"].concat()));
    }

    #[test]
    fn other_spellings_of_the_same_statement_are_refused() {
        let canonical = text(verified().statement());
        let value: Value = serde_json::from_str(&canonical).unwrap();
        let others = [
            serde_json::to_string_pretty(&value).unwrap(),
            canonical.replace("linux/", "linux\\/"),
            canonical.replace("\"stable\"", "\"\\u0073table\""),
            canonical.replace(&"02".repeat(32), &"0\\u0032".repeat(32)),
            canonical.replace("%2B", "%2b"),
            canonical.replace("%2B", "+"),
            canonical.replace("1.4.2", "1%2E4.2"),
            canonical.replace("\"sequence\":42", "\"sequence\":42.0"),
            canonical.replace("\"sequence\":42", "\"sequence\":4.2e1"),
            canonical.replace("\"sequence\":42", "\"sequence\":\"42\""),
            canonical.replace("10:00:00Z", "10:00:00.000Z"),
            canonical.replace("2026-11-21T10:00:00Z", "2026-11-21T11:00:00+01:00"),
            canonical.replace("\"expiresAt\":\"2027-11-21T10:00:00Z\"", "\"expiresAt\":null"),
            canonical.replace("\"class\"", "\"class\":\"av-database\",\"class\""),
            canonical.replace("\"sequence\"", "\"extra\":1,\"sequence\""),
            canonical.replace("{\"channel\"", "{ \"channel\""),
            canonical.clone() + "\n",
            canonical.clone() + "{}",
            String::from("\u{feff}") + &canonical,
        ];
        for other in others {
            assert_ne!(other, canonical);
            let refused = Statement::parse(other.as_bytes()).unwrap_err();
            assert!(
                matches!(refused, NotVerified::StatementForm | NotVerified::StatementNotCanonical),
                "{other}: {refused}"
            );
        }
        assert_eq!(
            Statement::parse(canonical.replace("linux/", "linux\\/").as_bytes()),
            Err(NotVerified::StatementNotCanonical)
        );
    }

    #[test]
    fn statements_that_no_release_gives_are_refused() {
        let change = |pointer: &str, to: Value| {
            let mut value: Value = serde_json::from_slice(&verified().statement()).unwrap();
            *value.pointer_mut(pointer).unwrap() = to;
            Statement::parse(&serde_json_canonicalizer::to_vec(&value).unwrap())
        };
        assert!(change("/predicate/sequence", json!(43)).is_ok());
        for (pointer, to) in [
            ("/_type", json!("https://in-toto.io/Statement/v0.1")),
            ("/predicateType", json!("https://in-toto.io/attestation/release/v0.1")),
        ] {
            assert_eq!(change(pointer, to), Err(NotVerified::StatementType), "{pointer}");
        }
        let subject = change("/predicate/sequence", json!(42)).unwrap().encode();
        let subject = serde_json::from_slice::<Value>(&subject).unwrap()["subject"][0].clone();
        for (pointer, to) in [
            ("/predicate/sequence", json!(0)),
            ("/predicate/sequence", json!(1_u64 << 53)),
            ("/predicate/sequence", json!(-1)),
            ("/predicate/class", json!("firmware")),
            ("/predicate/channel", json!("Stable")),
            ("/predicate/packageId", json!("other")),
            ("/predicate/purl", json!("pkg:generic/rutli")),
            ("/predicate/purl", json!("pkg:generic/other@1")),
            ("/predicate/purl", json!("pkg:npm/rutli@1")),
            ("/predicate/issuedAt", json!(1_795_255_200)),
            ("/predicate/issuedAt", json!("yesterday")),
            ("/subject", json!([])),
            ("/subject", json!([subject, subject])),
            ("/subject/0/name", json!("../x")),
            ("/subject/0/digest/sha256", json!("AB".repeat(32))),
            ("/subject/0/digest/sha256", json!("ab".repeat(31))),
            ("/subject/0/digest", json!({})),
            ("/subject/0/digest", json!({"sha512": "ab".repeat(64)})),
            ("/subject/0/digest", json!({"sha256": "ab".repeat(32), "sha512": "ab".repeat(64)})),
        ] {
            let refused = change(pointer, to).unwrap_err();
            assert!(
                matches!(refused, NotVerified::StatementForm | NotVerified::StatementNotCanonical),
                "{pointer}: {refused}"
            );
        }
        let deep = "[".repeat(1_000_000);
        assert_eq!(Statement::parse(deep.as_bytes()), Err(NotVerified::StatementForm));
        let long = vec![b' '; limits::MAX_STATEMENT_BYTES + 1];
        assert!(matches!(Statement::parse(&long), Err(NotVerified::TooLarge { .. })));
    }

    #[test]
    fn no_bit_flip_gives_the_same_statement() {
        let bytes = verified().statement();
        let statement = Statement::parse(&bytes).unwrap();
        for flipped in bit_flips(&bytes) {
            assert_ne!(Statement::parse(&flipped).ok(), Some(statement.clone()));
        }
    }

    fn any_artifact() -> impl Strategy<Value = UnverifiedArtifact> {
        let name = "[^\\x00-\\x1f\\x7f-\\x9f/\\\\.]{1,30}(/[a-z\"<>&é\u{10ffff}\u{2028}]{1,9}){0,3}";
        (name, any::<[u8; 32]>())
            .prop_map(|(name, sha256)| UnverifiedArtifact { name, sha256: sha256.into() })
    }

    prop_compose! {
        fn any_release()(
            class in prop::sample::select(Class::ALL.as_slice()),
            product in "[a-z0-9][a-z0-9._-]{0,63}",
            channel in "[a-z0-9][a-z0-9._-]{0,63}",
            version in "[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}",
            sequence in 1..=limits::MAX_INTEGER,
            issued_at in 1..limits::MAX_TIMESTAMP,
            lifetime in prop::option::of(1..1_000_000_u64),
            mut artifacts in prop::collection::vec(any_artifact(), 1..8),
        ) -> UnverifiedRelease {
            for (number, artifact) in artifacts.iter_mut().enumerate() {
                let visible = |c| if crate::names::is_invisible(c) { 'x' } else { c };
                artifact.name = artifact.name.chars().map(visible).collect();
                artifact.name.push_str(&number.to_string());
            }
            let expires_at = lifetime
                .map(|lifetime| issued_at + lifetime)
                .filter(|expires_at| *expires_at <= limits::MAX_TIMESTAMP);
            UnverifiedRelease {
                class, product, channel, version, sequence, issued_at, expires_at, artifacts,
                formats: vec![Format::Dsse],
            }
        }
    }

    proptest! {
        #[test]
        fn statements_are_canonical_by_another_implementation(release in any_release()) {
            let release = release.verify().unwrap();
            let bytes = release.statement();
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap(), &bytes);
            let statement = Statement::parse(&bytes).unwrap();
            prop_assert_eq!(statement.version(), release.version());
            prop_assert_eq!(statement.encode(), bytes);
        }

        #[test]
        fn garbage_is_refused(bytes in any::<Vec<u8>>()) {
            prop_assert!(Statement::parse(&bytes).is_err());
        }

        #[test]
        fn spliced_statements_are_refused_or_canonical(
            start in any::<prop::sample::Index>(),
            length in 0..64_usize,
            insert in "[\\x00-\\x7f]{0,16}",
        ) {
            let mut bytes = verified().statement();
            let start = start.index(bytes.len());
            let end = bytes.len().min(start + length);
            bytes.splice(start..end, insert.into_bytes());
            if let Ok(statement) = Statement::parse(&bytes) {
                prop_assert_eq!(statement.encode(), bytes);
            }
        }
    }
}
