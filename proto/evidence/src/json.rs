//! JSON that has one reading.
//!
//! Readers differ about an object that has a name twice: some take the first, most the last, and a statement would say different
//! things to different people (RFC 8259 section 4). So no name may stand twice in an object, at any depth, also where the
//! value is not read. Unknown names are passed over, as DSSE and in-toto ask for. `serde_json` bounds the depth (128).

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use crate::words;

/// Reads a struct from a JSON object. The error is for people, cut and escaped.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let problem = |error: serde_json::Error| words::cut(&error.to_string());
    serde_json::from_slice::<Unambiguous>(bytes).map_err(problem)?;
    rutli_release::json::parse(bytes).map_err(problem)
}

/// Any JSON without a repeated name.
struct Unambiguous;

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Walk)
    }
}

struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unambiguous, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, Unambiguous)) = map.next_entry::<String, Unambiguous>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format_args!("an object has this name twice: {name}")));
            }
            names.insert(name);
        }
        Ok(Unambiguous)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Unambiguous, A::Error> {
        while sequence.next_element::<Unambiguous>()?.is_some() {}
        Ok(Unambiguous)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }

    fn visit_unit<E>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<std::collections::BTreeMap<String, serde_json::Value>, String> {
        parse(json.as_bytes())
    }

    #[test]
    fn names_stand_once() {
        assert!(read(r#"{"a":[{"b":1},{"b":2.5e3}],"b":{"a":null,"c":[true,"x",-1]}}"#).is_ok());
        for bad in
            [r#"{"a":1,"a":1}"#, r#"[[{"x":{"a":1,"\u0061":2}}]]"#, r#"{"a":{"b":1},"c":{"d":1,"d":[]}}"#]
        {
            assert!(read(bad).unwrap_err().contains("twice"), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        for open in ["[", "{\"a\":"] {
            assert!(read(&open.repeat(30_000)).unwrap_err().contains("recursion"));
        }
    }

    #[test]
    fn errors_are_short() {
        let error =
            read(&format!(r#"{{"{name}":1,"{name}":2}}"#, name = "\u{202e}".repeat(9_000))).unwrap_err();
        assert!(error.len() < 1_000 && !error.contains('\u{202e}'), "{error}");
    }

    #[test]
    fn what_follows_or_is_no_json_is_refused() {
        for bad in ["", "{}{}", "{} x", "\u{feff}{}", "nul", "{\"a\":\"\\ud800\"}", "01", "{\"a\":1,}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
