//! Canonical JSON (RFC 8785) of this crate's own records.
//!
//! Each record's fields stand in the order of their names, text is ASCII or escaped by the same rules, and numbers are
//! integers below 2^53. So `serde_json` without white space *is* the canonical form, which the tests compare with an
//! independent implementation. Strict parsing encodes what it read once more and compares all bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The canonical bytes. Records of this crate always have some; only a bug gives none.
pub(crate) fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

/// Reads canonical bytes and nothing else: unknown or missing fields, other orders, other spellings are refused.
pub(crate) fn parse<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let record: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if encode(&record) == bytes {
        Ok(record)
    } else {
        Err("it is valid JSON, but not in canonical form (RFC 8785)".to_owned())
    }
}

/// Byte arrays as lower-case hexadecimal text, for `#[serde(with = "…")]`.
pub(crate) mod hex_array {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| D::Error::custom(format!("expected {} hexadecimal digits", 2 * N)))?;
        Ok(bytes)
    }
}

/// `N` bytes that are lower-case hexadecimal text in JSON, where `#[serde(with)]` does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Hex<const N: usize>(#[serde(with = "hex_array")] pub(crate) [u8; N]);

/// Byte strings as standard base64 text, for `#[serde(with = "…")]`.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(|_| D::Error::custom("expected base64"))
    }
}
