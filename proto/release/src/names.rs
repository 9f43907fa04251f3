//! Names and numbers, each in a type of its own that exists only for legal values.
//!
//! Products, channels, versions and ids use small ASCII alphabets, because they go into file names, URLs, purls, policy rules
//! and terminals. Artifact names are the pipeline's file names and so may be any UTF-8, but only as a relative path that
//! stays below the directory it is unpacked into, and without characters that cannot be seen.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use crate::invalid::InvalidRelease;
use crate::limits;

/// Defines a newtype over `String` whose only constructor checks a grammar.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Takes `text` if it is legal.
            ///
            /// # Errors
            /// [`InvalidRelease`] naming the rule that was broken.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidRelease> {
                let text = text.into();
                $check(&text)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidRelease;

            fn from_str(text: &str) -> Result<Self, InvalidRelease> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidRelease;

            fn try_from(text: String) -> Result<Self, InvalidRelease> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text! {
    /// The name of a product: `[a-z0-9][a-z0-9._-]{0,63}`.
    Product, |text| name("product", text)
}

text! {
    /// The name of a channel, such as `stable`: `[a-z0-9][a-z0-9._-]{0,63}`.
    Channel, |text| name("channel", text)
}

text! {
    /// A version, such as `1.4.2-rc.1+build7`: `[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}`. Not interpreted; the order of releases is
    /// that of their [`Sequence`].
    Version, version
}

text! {
    /// The id a pipeline gives to its request, so that asking again gives the same release: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
    RequestId, request_id
}

text! {
    /// The id of a release, as made by [`ReleaseId::for_request`]: `[a-z0-9][A-Za-z0-9._+~-]{0,141}`.
    ReleaseId, release_id
}

text! {
    /// The name of an artifact: a relative path of 1 to 255 bytes of UTF-8 with forward slashes, without empty, `.` or `..`
    /// components, backslashes or control characters. Unique in its release.
    ArtifactName, artifact_name
}

text! {
    /// Who asked: the name in the pipeline's client certificate, `[a-z0-9][a-z0-9._-]{0,63}`.
    Requester, |text| name("requester", text)
}

impl ReleaseId {
    /// The id of the release that `requester` asks for under `request_id`:
    /// `<product>-<version>-<first 12 hex digits of SHA-256(requester ‖ 0x00 ‖ request id)>`. The same request always has the
    /// same id, and two requesters never share one by choosing the same request id.
    #[must_use]
    pub fn for_request(
        requester: &Requester,
        request_id: &RequestId,
        product: &Product,
        version: &Version,
    ) -> Self {
        let digest = Sha256::new()
            .chain_update(requester.as_str())
            .chain_update([0])
            .chain_update(request_id.as_str())
            .finalize();
        let mut hex = hex::encode(digest);
        hex.truncate(12);
        // Legal by construction: it begins with a product, and both alphabets are part of a release id's.
        Self(format!("{product}-{version}-{hex}"))
    }
}

impl ArtifactName {
    /// The last component of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

/// The place of a release among all of one product, class and channel: 1 to 2^53 − 1, growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Sequence(u64);

impl Sequence {
    /// Takes `number` if it is legal.
    ///
    /// # Errors
    /// [`InvalidRelease::Sequence`] for 0 and for more than 2^53 − 1.
    pub fn new(number: u64) -> Result<Self, InvalidRelease> {
        if number == 0 || number > limits::MAX_INTEGER {
            return Err(InvalidRelease::Sequence);
        }
        Ok(Self(number))
    }

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u64> for Sequence {
    type Error = InvalidRelease;

    fn try_from(number: u64) -> Result<Self, InvalidRelease> {
        Self::new(number)
    }
}

impl From<Sequence> for u64 {
    fn from(sequence: Sequence) -> u64 {
        sequence.0
    }
}

/// A time in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time in RFC 3339, in UTC and whole seconds: `2026-11-21T10:00:00Z`.
    ///
    /// RFC 3339 ends with the year 9999. A time after [`limits::MAX_TIMESTAMP`], which no verified release carries, is given as
    /// `@` and its seconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map_or_else(|| format!("@{}", self.0), |time| time.to_string())
    }

    /// Reads back what [`Timestamp::rfc3339`] wrote, and nothing else: one time has one spelling.
    pub(crate) fn from_rfc3339(text: &str) -> Option<Self> {
        let time: jiff::Timestamp = text.parse().ok()?;
        let time = Self(u64::try_from(time.as_second()).ok()?);
        (time.rfc3339() == text).then_some(time)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

const NAME_RULE: &str = "1 to 64 of a-z 0-9 . _ - and begins with a letter or digit";
const VERSION_RULE: &str = "1 to 64 of A-Z a-z 0-9 . _ + ~ - and begins with a letter or digit";
const REQUEST_ID_RULE: &str = "1 to 128 of A-Z a-z 0-9 . _ : - and begins with a letter or digit";
const RELEASE_ID_RULE: &str =
    "1 to 142 of A-Z a-z 0-9 . _ + ~ - and begins with a lower-case letter or digit";

fn name(what: &'static str, text: &str) -> Result<(), InvalidRelease> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let legal = matches(text, limits::MAX_NAME_BYTES, letter, |byte| letter(byte) || b"._-".contains(&byte));
    legal.then_some(()).ok_or(InvalidRelease::Name { what, rule: NAME_RULE })
}

fn version(text: &str) -> Result<(), InvalidRelease> {
    let legal = matches(
        text,
        limits::MAX_VERSION_BYTES,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte),
    );
    legal.then_some(()).ok_or(InvalidRelease::Name { what: "version", rule: VERSION_RULE })
}

fn request_id(text: &str) -> Result<(), InvalidRelease> {
    let legal = matches(
        text,
        limits::MAX_REQUEST_ID_BYTES,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte),
    );
    legal.then_some(()).ok_or(InvalidRelease::Name { what: "request id", rule: REQUEST_ID_RULE })
}

fn release_id(text: &str) -> Result<(), InvalidRelease> {
    let legal = matches(
        text,
        limits::MAX_RELEASE_ID_BYTES,
        |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(),
        |byte| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte),
    );
    legal.then_some(()).ok_or(InvalidRelease::Name { what: "release id", rule: RELEASE_ID_RULE })
}

/// Whether `text` is one byte that is `first`, then only bytes that are `rest`, `max_bytes` in all at most.
fn matches(text: &str, max_bytes: usize, first: impl Fn(u8) -> bool, rest: impl Fn(u8) -> bool) -> bool {
    match text.as_bytes() {
        [head, tail @ ..] => text.len() <= max_bytes && first(*head) && tail.iter().all(|byte| rest(*byte)),
        [] => false,
    }
}

fn artifact_name(text: &str) -> Result<(), InvalidRelease> {
    let problem = if text.is_empty() {
        "is empty"
    } else if text.len() > limits::MAX_ARTIFACT_NAME_BYTES {
        "is longer than 255 bytes"
    } else if text.chars().any(char::is_control) {
        "has a control character"
    } else if text.chars().any(is_invisible) {
        "has a character that cannot be seen"
    } else if text.contains('\\') {
        "has a backslash"
    } else if text.split('/').any(str::is_empty) {
        "is not a relative path with single slashes"
    } else if text.split('/').any(|component| component == "." || component == "..") {
        "has a component `.` or `..`"
    } else {
        return Ok(());
    };
    Err(InvalidRelease::ArtifactName { problem })
}

/// Characters that are invisible, or that change the direction of text: Unicode's
/// `Default_Ignorable_Code_Point`, and the separators of lines and paragraphs.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The form in which names are compared: names that differ only by Unicode normalisation look the same (NFKC,
/// UAX #15).
pub(crate) fn normalized(name: &str) -> Cow<'_, str> {
    if name.is_ascii() { Cow::Borrowed(name) } else { Cow::Owned(name.nfkc().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_grammar() {
        for good in ["a", "0", "rutli", "av.db_1-x", &"a".repeat(64)] {
            assert_eq!(Product::new(good).unwrap().as_str(), good);
            assert!(Channel::new(good).is_ok() && Requester::new(good).is_ok());
        }
        for bad in ["", "A", ".a", "-a", "_a", "a b", "a/b", "ä", "a\n", "a\0", "a+b", &"a".repeat(65)] {
            assert!(Product::new(bad).is_err(), "{bad:?}");
            assert!(Channel::new(bad).is_err() && Requester::new(bad).is_err(), "{bad:?}");
        }
        for good in ["1", "1.4.2-rc.1+build~7", "V2", &"9".repeat(64)] {
            assert!(Version::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "+1", "1:2", "1/2", "1@2", "1%2B", &"9".repeat(65)] {
            assert!(Version::new(bad).is_err(), "{bad:?}");
        }
        for good in ["A", "ci:run-1.2_3", &"x".repeat(128)] {
            assert!(RequestId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ":a", "a+b", "a b", &"x".repeat(129)] {
            assert!(RequestId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn artifact_names_stay_below_their_directory() {
        for good in ["a", "linux/x64/rutli", "a b", "Rütli.exe", "..a", "a..", "...", "\"", &"a".repeat(255)]
        {
            assert!(ArtifactName::new(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "./a",
            "a/./b",
            "../a",
            "a/..",
            "a\\b",
            "a\nb",
            "a\0",
            "a\u{7f}",
            "a\u{85}",
            "a\u{200b}b",
            "a\u{202e}exe.b",
            "a\u{ad}",
            "\u{feff}a",
            "a\u{e0041}",
            &"a".repeat(256),
        ] {
            assert!(ArtifactName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ArtifactName::new("linux/x64/rutli").unwrap().file_name(), "rutli");
        assert_eq!(ArtifactName::new("rutli").unwrap().file_name(), "rutli");
    }

    #[test]
    fn the_longest_release_id_is_legal() {
        let id = ReleaseId::for_request(
            &Requester::new("ci").unwrap(),
            &RequestId::new("run:1").unwrap(),
            &Product::new("p".repeat(64)).unwrap(),
            &Version::new("V".repeat(64)).unwrap(),
        );
        assert_eq!(ReleaseId::new(id.as_str()).unwrap(), id);
        assert_eq!(id.as_str().len(), limits::MAX_RELEASE_ID_BYTES);
        // printf 'ci\0run:1' | sha256sum
        assert!(id.as_str().ends_with("-70f95aeb7ed3"), "{id}");
    }

    #[test]
    fn names_read_from_json_are_checked() {
        assert!(serde_json::from_str::<Product>("\"rutli\"").is_ok());
        assert!(serde_json::from_str::<Product>("\"Rutli\"").is_err());
        assert!(serde_json::from_str::<Sequence>("9007199254740991").is_ok());
        assert!(serde_json::from_str::<Sequence>("9007199254740992").is_err());
        assert!(serde_json::from_str::<Sequence>("0").is_err());
    }

    #[test]
    fn times_have_one_spelling() {
        let time = Timestamp(1_795_255_200);
        assert_eq!(time.rfc3339(), "2026-11-21T10:00:00Z");
        assert_eq!(Timestamp::from_rfc3339("2026-11-21T10:00:00Z"), Some(time));
        assert_eq!(Timestamp(0).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp(limits::MAX_TIMESTAMP).rfc3339(), "9999-12-30T22:00:00Z");
        assert_eq!(Timestamp(limits::MAX_TIMESTAMP + 1).rfc3339(), "@253402207201");
        assert_eq!(Timestamp(u64::MAX).rfc3339(), "@18446744073709551615");
        for other in [
            "2026-11-21T10:00:00+00:00",
            "2026-11-21t10:00:00z",
            "2026-11-21 10:00:00Z",
            "2026-11-21T11:00:00+01:00",
            "2026-11-21T10:00:00.0Z",
            "1969-12-31T23:59:59Z",
            "2026-11-21T10:00:60Z",
            "@1",
            "",
        ] {
            assert_eq!(Timestamp::from_rfc3339(other), None, "{other:?}");
        }
    }
}
