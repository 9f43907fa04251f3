//! Canonical JSON (RFC 8785), as far as releases need it: strings, integers up to 2^53 − 1, and objects whose ASCII keys the
//! caller writes in order.
//!
//! Written straight into the output, because it cannot fail that way, and because a general serializer's order of keys would hang on
//! another crate's features.

use alloc::string::{String, ToString};

/// Appends `text` as a JSON string (RFC 8785 section 3.2.2.2).
pub(crate) fn string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{08}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{0c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\0'..='\u{1f}' => {
                out.push_str("\\u00");
                let mut byte = [0; 4];
                hex(out, character.encode_utf8(&mut byte).as_bytes());
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Appends an integer. Exact up to 2^53 − 1 (RFC 8785 section 3.2.2.3), which the types of this crate keep to.
pub(crate) fn integer(out: &mut String, number: u64) {
    out.push_str(&number.to_string());
}

/// Appends `bytes` in lower-case hexadecimal, without quotes.
pub(crate) fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push(nibble(byte >> 4));
        out.push(nibble(byte & 0x0f));
    }
}

/// Appends all `items`, with commas in between.
pub(crate) fn separated<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut String, T),
) {
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
}

fn nibble(value: u8) -> char {
    char::from(match value {
        0..=9 => b'0' + value,
        _ => b'a' + (value & 0x0f) - 10,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits;

    proptest! {
        #[test]
        fn strings_are_those_of_another_implementation(text in any::<String>()) {
            let mut ours = String::new();
            string(&mut ours, &text);
            prop_assert_eq!(ours, serde_json_canonicalizer::to_string(&text).unwrap());
        }

        #[test]
        fn integers_are_those_of_another_implementation(number in 0..=limits::MAX_INTEGER) {
            let mut ours = String::new();
            integer(&mut ours, number);
            prop_assert_eq!(ours, serde_json_canonicalizer::to_string(&number).unwrap());
        }

        #[test]
        fn hex_is_that_of_another_implementation(bytes in any::<alloc::vec::Vec<u8>>()) {
            let mut ours = String::new();
            hex(&mut ours, &bytes);
            prop_assert_eq!(ours, ::hex::encode(&bytes));
        }
    }

    #[test]
    fn every_ascii_character_and_the_largest_integer() {
        let ascii: String = (0..=0x7f_u8).map(char::from).collect();
        let mut ours = String::new();
        string(&mut ours, &ascii);
        assert_eq!(ours, serde_json_canonicalizer::to_string(&ascii).unwrap());
        let mut ours = String::new();
        integer(&mut ours, limits::MAX_INTEGER);
        assert_eq!(ours, serde_json_canonicalizer::to_string(&limits::MAX_INTEGER).unwrap());
    }
}
