//! Names of organisations, nodes and keys, and the two hashes by which ceremonies and rosters are known.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidName;
use crate::limits::MAX_NAME_BYTES;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// `[a-z0-9][a-z0-9._-]{0,63}`.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the rule.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                if is_name(&name) { Ok(Self(name)) } else { Err(InvalidName::Name(shortened(&name))) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Name of an organisation: a party with a veto of its own.
    OrgName
);
name!(
    /// Name of a node, unique in its organisation.
    NodeName
);
name!(
    /// Name of a key.
    KeyName
);

macro_rules! hash {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        ///
        /// 32 bytes; as text 64 lower-case hexadecimal digits.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type([u8; 32]);

        impl $type {
            /// Takes the 32 bytes as they are.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($type), hex::encode(self.0))
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bytes = hex32(text).ok_or(InvalidName::Hash)?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(hash: $type) -> Self {
                hex::encode(hash.0)
            }
        }
    };
}

hash!(
    /// A ceremony is known by the SHA-256 of its canonical proposal.
    CeremonyId
);
hash!(
    /// A roster is known by the SHA-256 of its canonical encoding.
    RosterHash
);
hash!(
    /// Covers a ceremony's proposal and a nonce of every member, each of which was committed to before: nobody can choose
    /// its value.
    VerificationPhrase
);

impl RosterHash {
    /// Eight English BIP 39 words, the first 88 bits, for people to read to each other.
    pub fn words(&self) -> String {
        words(&self.0)
    }
}

impl VerificationPhrase {
    /// Eight English BIP 39 words, the first 88 bits, for people to read to each other.
    pub fn words(&self) -> String {
        words(&self.0)
    }

    /// Whether a person typed these words, with any spaces and letters.
    pub fn is(&self, typed: &str) -> bool {
        typed.split_whitespace().map(str::to_lowercase).eq(self.words().split(' '))
    }
}

/// A node and the organisation that runs it. As text `organisation/node`.
///
/// Its order, by organisation and then by node, is the canonical order of all lists of nodes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId {
    /// The organisation.
    pub organisation: OrgName,
    /// The node.
    pub node: NodeName,
}

impl NodeId {
    /// Checks both names.
    pub fn new(organisation: impl Into<String>, node: impl Into<String>) -> Result<Self, InvalidName> {
        Ok(Self { organisation: OrgName::new(organisation)?, node: NodeName::new(node)? })
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.organisation, self.node))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organisation, self.node)
    }
}

impl FromStr for NodeId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (organisation, node) =
            text.split_once('/').ok_or_else(|| InvalidName::NodeId(shortened(text)))?;
        Self::new(organisation, node)
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.to_string()
    }
}

/// What a key is for. A key made for one purpose is never used for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Purpose {
    /// Signing releases.
    Release,
}

impl Purpose {
    /// The purpose as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Release => "release",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Purpose {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "release" => Ok(Self::Release),
            other => Err(InvalidName::Purpose(shortened(other))),
        }
    }
}

/// Strictly 64 lower-case digits, so that a value has one text only.
pub(crate) fn hex32(text: &str) -> Option<[u8; 32]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_NAME_BYTES
        && text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// What comes from outside is not repeated at any length in an error message.
fn shortened(text: &str) -> String {
    text.chars().take(MAX_NAME_BYTES).collect()
}

/// 88 bits as eight words of eleven bits, most significant first, as BIP 39 cuts them.
fn words(hash: &[u8; 32]) -> String {
    let list = bip39::Language::English.word_list();
    let bits = hash.iter().take(11).fold(0_u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let word = |position: u32| {
        let index = usize::try_from((bits >> (11 * (7 - position))) & 0x7ff).unwrap_or_default();
        list.get(index).copied().unwrap_or_default()
    };
    (0..8).map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rule() {
        for good in ["a", "0", "vendor", "vendor-1", "a.b_c-d", &"x".repeat(64)] {
            assert_eq!(OrgName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "_a", "A", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(OrgName::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!("vendor/vendor-1".parse::<NodeId>().unwrap().to_string(), "vendor/vendor-1");
        for bad in ["vendor", "vendor/", "/a", "a/b/c", "A/b"] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nodes_are_ordered_by_organisation_first() {
        // As text "a-b/x" would come before "a/x".
        let first: NodeId = "a/x".parse().unwrap();
        let second: NodeId = "a-b/x".parse().unwrap();
        assert!(first < second);
    }

    #[test]
    fn a_hash_has_one_text() {
        let id = CeremonyId::from_bytes([0xab; 32]);
        assert_eq!(id.to_string().parse::<CeremonyId>().unwrap(), id);
        assert!(id.to_string().to_uppercase().parse::<CeremonyId>().is_err());
        assert!("ab".parse::<CeremonyId>().is_err());
    }

    /// The official BIP 39 vector for 16 bytes of 0x7f: its first eight words cover the first 88 bits.
    #[test]
    fn words_are_those_of_bip_39() {
        let phrase = VerificationPhrase::from_bytes([0x7f; 32]);
        assert_eq!(phrase.words(), "legal winner thank year wave sausage worth useful");
        assert!(phrase.is("  Legal winner thank\tyear WAVE sausage worth useful"));
        assert!(!phrase.is("legal winner thank year wave sausage worth"));
    }
}
