//! Foreign text: what may go into a fact, and how an error repeats it.

use crate::limits::{MAX_NAME_BYTES, MAX_QUOTED_CHARACTERS};

/// Whether `text` is one line that a terminal shows as it is: at least one character, and [each of them](is_shown) is shown.
pub(crate) fn is_printable(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_shown)
}

/// Whether a terminal shows a character as it is: no control character, line or paragraph separator, and nothing invisible that turns or
/// hides what stands beside it.
#[must_use]
pub fn is_shown(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Whether `text` may name a key or a custodian: 1 to 64 of `A-Z a-z 0-9 . _ @ + -`.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte))
}

/// Foreign text for an error: escaped, in quotes, and cut.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", cut(text))
}

/// Foreign text for an error: escaped and cut.
pub(crate) fn cut(text: &str) -> String {
    let mut shown = String::new();
    for (number, character) in text.chars().enumerate() {
        if number >= MAX_QUOTED_CHARACTERS {
            shown.push('…');
            break;
        }
        match character {
            '\'' | '"' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_or_turns_text_is_not_printable() {
        for good in ["a", " ", "Zürich", "日本", "it's \"fine\" \\ really"] {
            assert!(is_printable(good), "{good}");
        }
        for bad in [
            "",
            "a\nb",
            "a\tb",
            "\u{1b}[31m",
            "a\0",
            "\u{202e}txt",
            "a\u{200b}b",
            "\u{feff}",
            "\u{2028}",
            "\u{85}",
        ] {
            assert!(!is_printable(bad), "{bad:?}");
        }
    }

    #[test]
    fn foreign_text_is_cut_and_escaped() {
        assert_eq!(quoted("a\u{1b}[31m\u{202e}"), "\"a\\u{1b}[31m\\u{202e}\"");
        assert_eq!(quoted("it's"), "\"it's\"");
        let long = quoted(&"\n".repeat(100_000));
        assert_eq!(long.chars().count(), 2 * MAX_QUOTED_CHARACTERS + 3);
        assert!(long.ends_with("…\""));
    }
}
