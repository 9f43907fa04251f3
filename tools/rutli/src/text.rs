//! Text for eyes: tables, times, and other parties' words made harmless.

use comfy_table::{ContentArrangement, Table, presets};
use rutli_evidence::is_shown;
use rutli_release::Timestamp;

/// Another party's text for a terminal: without control characters, which could move the cursor or forge lines, and without what turns
/// text around or is not seen, so that one name could look like another to whoever approves it.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_shown(c) { c } else { '\u{fffd}' }).collect()
}

/// Another party's texts, joined by commas; a dash for none.
#[must_use]
pub fn list<T: AsRef<str>>(texts: &[T]) -> String {
    if texts.is_empty() {
        return "–".to_owned();
    }
    texts.iter().map(|text| printable(text.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Another party's texts, each on a line of its own.
#[must_use]
pub fn printable_lines(lines: &[String]) -> String {
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// A dash for an empty text, else the text made printable.
#[must_use]
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { printable(text) }
}

/// Unix seconds for eyes; a dash for 0.
#[must_use]
pub fn time(seconds: u64) -> String {
    if seconds == 0 { "–".to_owned() } else { Timestamp(seconds).rfc3339() }
}

/// Seconds for eyes, in their two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// `1 file`, `2 files`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Columns without lines, for lists that one may also `grep`.
#[must_use]
pub fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table.add_rows(rows);
    trimmed(&table)
}

/// `name  value` lines.
#[must_use]
pub fn fields(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!("{name:width$}  {}", value.replace('\n', &format!("\n{:width$}  ", ""))))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A framed table, for what is read once and slowly.
#[must_use]
pub fn framed(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_header(header.iter().copied());
    table.add_rows(rows);
    table.to_string()
}

/// A paragraph, its lines broken between words and indented.
#[must_use]
pub fn indented(text: &str, indent: u16, width: u16) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    // The table has a space on both sides of its only column.
    table.set_width(width.saturating_sub(indent).saturating_add(2)).add_row([text]);
    let lines = trimmed(&table);
    lines.lines().map(|line| format!("{:1$}{line}", "", usize::from(indent))).collect::<Vec<_>>().join("\n")
}

fn trimmed(table: &Table) -> String {
    table
        .lines()
        .map(|line| {
            line.trim_end().strip_prefix(' ').map_or_else(|| line.trim_end().to_owned(), str::to_owned)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor_or_forge_lines() {
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(list::<&str>(&[]), "–");
        assert_eq!(list(&["a", "b\r"]), "a, b\u{fffd}");
    }

    #[test]
    fn foreign_text_cannot_look_like_another() {
        assert_eq!(printable("setup\u{202e}gpj.exe"), "setup\u{fffd}gpj.exe");
        assert_eq!(printable("su\u{200b}ite\u{feff}"), "su\u{fffd}ite\u{fffd}");
        assert_eq!(printable("Zürich 日本"), "Zürich 日本");
    }

    #[test]
    fn numbers_are_for_eyes() {
        assert_eq!(
            [0, 59, 60, 3_725, 90_061].map(duration),
            ["0 s", "59 s", "1 min 0 s", "1 h 2 min", "1 d 1 h"]
        );
    }

    #[test]
    fn paragraphs_are_broken_between_words() {
        assert_eq!(indented("one two three", 2, 9), "  one two\n  three");
        assert_eq!(indented("one", 2, 9), "  one");
    }

    #[test]
    fn columns_and_fields_line_up() {
        let table = columns(&["NODE", "STATE"], [vec!["vendor/vendor-1".to_owned(), "ready".to_owned()]]);
        assert_eq!(table, "NODE             STATE\nvendor/vendor-1  ready");
        assert_eq!(fields([("a", "1".to_owned()), ("long", "2\n3".to_owned())]), "a     1\nlong  2\n      3");
        assert_eq!(time(0), "–");
    }
}
