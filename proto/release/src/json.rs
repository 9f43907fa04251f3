//! Reads structs from JSON objects only.
//!
//! Serde's derived readers accept an array in place of a struct, with the fields in order. Two very different
//! documents would then mean the same, and readers in other languages would accept only one of them.
//! [`parse`] and the functions for `#[serde(deserialize_with = "…")]` refuse that, at every depth where they
//! are named.

use alloc::vec::Vec;
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads a struct from JSON.
///
/// # Errors
/// Whatever is not such an object.
pub fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(json).map(|Object(value)| value)
}

/// For a field that is a struct.
///
/// # Errors
/// Whatever is not an object.
pub fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// For a field that is a struct, or is not there; with `#[serde(default)]`.
///
/// # Errors
/// Whatever is neither an object nor null.
pub fn maybe_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|Object(value)| value))
}

/// For a field that is a list of structs.
///
/// # Errors
/// Whatever is not a list of objects.
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::deserialize(deserializer)?.into_iter().map(|Object(value)| value).collect())
}

struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        name: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        one: Inner,
        #[serde(default, deserialize_with = "maybe_object")]
        maybe: Option<Inner>,
        #[serde(deserialize_with = "objects")]
        many: Vec<Inner>,
    }

    #[test]
    fn structs_are_objects_at_every_depth() {
        let read = |json: &str| parse::<Outer>(json.as_bytes()).is_ok();
        for good in [
            r#"{"one":{"name":"a"},"many":[]}"#,
            r#"{"one":{"name":"a"},"maybe":null,"many":[{"name":"b"}]}"#,
            r#"{"one":{"name":"a"},"maybe":{"name":"c"},"many":[{"name":"b"},{"name":"d"}]}"#,
        ] {
            assert!(read(good), "{good}");
        }
        for bad in [
            r#"[{"name":"a"},null,[]]"#,
            r#"{"one":["a"],"many":[]}"#,
            r#"{"one":{"name":"a"},"maybe":["c"],"many":[]}"#,
            r#"{"one":{"name":"a"},"many":[["b"]]}"#,
            r#"{"one":{"name":"a"},"many":{"name":"b"}}"#,
            "null",
        ] {
            assert!(!read(bad), "{bad}");
        }
        // Without it, the same would be read.
        assert!(serde_json::from_str::<Inner>(r#"["a"]"#).is_ok());
    }
}
