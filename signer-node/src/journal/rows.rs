//! Rows as the journal writes, hashes and reads them: one list of columns for all three.

use rutli_log::Hash;
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, TypeInfo as _, ValueRef as _, sqlite::SqliteRow};

use crate::error::Error;

/// A value as SQLite keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// How a column travels in the JSON of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As it is.
    Plain,
    /// In hexadecimal.
    Blob,
}

/// A table whose lines form a chain. **To add a column**, add it here and in the one function that makes the values of a
/// line (`decision`, `custodian_refusal`): what is written, what is hashed and what is verified follow from these two. It
/// changes the hash of every line, so once journals are in the field it needs another [`Table::label`] for new lines.
#[derive(Debug)]
pub(super) struct Table<const COLUMNS: usize> {
    pub(super) name: &'static str,
    /// Separates the hashes of one table from all others.
    pub(super) label: &'static [u8],
    pub(super) columns: [(&'static str, Kind); COLUMNS],
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// The statement that writes lines, up to the place of their JSON.
    pub(super) fn insert(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let values: Vec<_> = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, (_, kind))| match kind {
                Kind::Plain => format!("value ->> {place}"),
                Kind::Blob => format!("unhex(value ->> {place})"),
            })
            .collect();
        format!(
            "INSERT INTO {} ({}, before) SELECT {}, unhex(value ->> {COLUMNS}) FROM jsonb_each(",
            self.name,
            names.join(", "),
            values.join(", ")
        )
    }

    /// The columns of a line, and then `before`.
    pub(super) fn selected(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("{}, before", names.join(", "))
    }

    /// Where a column stands.
    pub(super) fn place(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|(name, _)| *name == column)
    }

    /// The hash of a line: SHA-256 over the label, the hash of the line before, and each value with its type and length.
    pub(super) fn hash(&self, before: &Hash, values: &[Value]) -> Hash {
        let mut hasher = Sha256::new_with_prefix(self.label);
        hasher.update(before.as_bytes());
        values.iter().for_each(|value| value.hash_into(&mut hasher));
        Hash(hasher.finalize().into())
    }
}

impl Value {
    /// Of a number that fits: times, sequences and counts do.
    pub(super) fn integer(number: u64) -> Self {
        Self::Integer(super::integer(number))
    }

    /// Text comes back from SQLite as it was hashed: it ends no text at a zero, for there is none.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(text.as_ref().replace('\0', "\u{fffd}"))
    }

    pub(super) fn blob(bytes: impl AsRef<[u8]>) -> Self {
        Self::Blob(bytes.as_ref().to_vec())
    }

    /// A value that may be missing.
    pub(super) fn optional<T>(value: Option<T>, make: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Null, make)
    }

    /// What stands in a row, whatever its column is called.
    pub(super) fn read(row: &SqliteRow, column: usize) -> Result<Self, Error> {
        let kind = {
            let raw = row.try_get_raw(column)?;
            if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() }
        };
        Ok(match kind.as_str() {
            "NULL" => Self::Null,
            "INTEGER" => Self::Integer(row.try_get(column)?),
            "TEXT" => Self::Text(row.try_get(column)?),
            "BLOB" => Self::Blob(row.try_get(column)?),
            other => return Err(Error::JournalRow(format!("a column holds a value of type {other}"))),
        })
    }

    /// Every column of a row.
    pub(super) fn read_all(row: &SqliteRow) -> Result<Vec<Self>, Error> {
        (0..row.len()).map(|column| Self::read(row, column)).collect()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Integer(number) => (*number).into(),
            Self::Text(text) => text.as_str().into(),
            Self::Blob(bytes) => hex::encode(bytes).into(),
        }
    }

    /// One type, one length, one content: no two lists of values have the same encoding.
    pub(super) fn hash_into(&self, hasher: &mut Sha256) {
        let (kind, bytes): (u8, &[u8]) = match self {
            Self::Null => (0, &[]),
            Self::Integer(number) => (1, &number.to_be_bytes()),
            Self::Text(text) => (2, text.as_bytes()),
            Self::Blob(bytes) => (3, bytes),
        };
        hasher.update([kind]);
        hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(bytes);
    }

    pub(super) fn as_text(&self) -> Result<&str, Error> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(Error::JournalRow("a text is missing".into())),
        }
    }

    pub(super) fn as_number(&self) -> Result<u64, Error> {
        match self {
            Self::Integer(number) => super::unsigned(*number),
            _ => Err(Error::JournalRow("a number is missing".into())),
        }
    }

    pub(super) fn as_hash(&self) -> Result<[u8; 32], Error> {
        match self {
            Self::Blob(bytes) => bytes.as_slice().try_into().ok(),
            _ => None,
        }
        .ok_or_else(|| Error::JournalRow("a digest has not 32 bytes".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table<2> =
        Table { name: "t", label: b"t/v1\0", columns: [("a", Kind::Plain), ("b", Kind::Blob)] };

    #[test]
    fn a_line_is_hashed_by_type_length_and_content() {
        let before = Hash([0; 32]);
        let lines = [
            vec![Value::Text("ab".into()), Value::Text("c".into())],
            vec![Value::Text("a".into()), Value::Text("bc".into())],
            vec![Value::Text("ab".into()), Value::Blob(b"c".to_vec())],
            vec![Value::Null, Value::Integer(0)],
            vec![Value::Integer(0), Value::Null],
            vec![Value::Text(String::new()), Value::Integer(0)],
        ];
        let mut hashes: Vec<_> = lines.iter().map(|line| TABLE.hash(&before, line)).collect();
        hashes.push(TABLE.hash(&Hash([1; 32]), &lines[0]));
        hashes.push(Table { label: b"u/v1\0", ..TABLE }.hash(&before, &lines[0]));
        let count = hashes.len();
        hashes.sort_unstable_by_key(|hash| hash.0);
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn one_list_of_columns_serves_writing_and_reading() {
        assert_eq!(
            TABLE.insert(),
            "INSERT INTO t (a, b, before) SELECT value ->> 0, unhex(value ->> 1), unhex(value ->> 2) FROM jsonb_each("
        );
        assert_eq!((TABLE.selected().as_str(), TABLE.place("b")), ("a, b, before", Some(1)));
    }
}
