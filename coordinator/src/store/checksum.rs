//! Checksums of rows: SHA-256 of what a row says, written with it and checked when it is read.
//!
//! SQLite detects damage only to its own structure, not to stored values: a damaged file would be given out as if it had been
//! signed.

use sha2::{Digest as _, Sha256};

/// What a row says, column by column.
pub(super) struct Checksum(Sha256);

/// A row that does not match its checksum.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store is damaged: {0} does not match its checksum; see Recover in the operator's guide on the log"
)]
pub(super) struct Broken(String);

impl Broken {
    /// Of what.
    pub(super) fn of(what: String) -> Self {
        Self(what)
    }
}

impl Checksum {
    /// Of a row of `table`.
    pub(super) fn of(table: &str) -> Self {
        Self(Sha256::new()).bytes(table.as_bytes())
    }

    pub(super) fn bytes(mut self, column: &[u8]) -> Self {
        // With its length, so that no two rows give the same bytes.
        self.0.update(u64::try_from(column.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(column);
        self
    }

    pub(super) fn number(self, column: i64) -> Self {
        self.bytes(&column.to_be_bytes())
    }

    /// A column that may be absent.
    pub(super) fn option<T>(self, column: Option<T>, with: impl FnOnce(Self, T) -> Self) -> Self {
        let marked = self.number(column.is_some().into());
        match column {
            Some(column) => with(marked, column),
            None => marked,
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.finalize().to_vec()
    }

    /// Compares it with the one that was stored. Releases of an earlier version have none.
    pub(super) fn check(
        self,
        stored: Option<&[u8]>,
        is_required: bool,
        what: impl FnOnce() -> String,
    ) -> Result<(), Broken> {
        match stored {
            Some(stored) if self.finish() == stored => Ok(()),
            None if !is_required => Ok(()),
            _ => Err(Broken::of(what())),
        }
    }
}

impl From<Broken> for sqlx::Error {
    fn from(broken: Broken) -> Self {
        Self::Decode(broken.into())
    }
}

/// Of what was requested.
pub(super) struct RequestRow<'a> {
    pub(super) number: i64,
    pub(super) release_id: &'a str,
    pub(super) requester: &'a str,
    pub(super) request_id: &'a str,
    pub(super) request_digest: &'a [u8],
    pub(super) channel: [&'a str; 3],
    pub(super) sequence: i64,
    pub(super) content: &'a [u8],
    pub(super) signatures: i64,
    pub(super) created_at: i64,
    pub(super) log_index: Option<i64>,
    pub(super) roster: Option<&'a str>,
    pub(super) deadline: Option<i64>,
    pub(super) embargo_salt: Option<&'a [u8]>,
    pub(super) disclose_by: Option<i64>,
    pub(super) authority: &'a str,
}

impl RequestRow<'_> {
    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of("releases")
            .number(self.number)
            .bytes(self.release_id.as_bytes())
            .bytes(self.requester.as_bytes())
            .bytes(self.request_id.as_bytes())
            .bytes(self.request_digest)
            .bytes(self.channel[0].as_bytes())
            .bytes(self.channel[1].as_bytes())
            .bytes(self.channel[2].as_bytes())
            .number(self.sequence)
            .bytes(self.content)
            .number(self.signatures)
            .number(self.created_at)
            .option(self.log_index, Checksum::number)
            .option(self.roster.map(str::as_bytes), Checksum::bytes)
            .option(self.deadline, Checksum::number)
            .option(self.embargo_salt, Checksum::bytes)
            .option(self.disclose_by, Checksum::number)
            .bytes(self.authority.as_bytes())
    }
}

/// Of how a release ended.
pub(super) fn outcome(number: i64, state: i64, outcome: &[u8]) -> Checksum {
    Checksum::of("outcome").number(number).number(state).bytes(outcome)
}

/// Of the files that were signed.
pub(super) fn result(number: i64, files: &[u8]) -> Checksum {
    Checksum::of("results").number(number).bytes(files)
}

/// Of the files that prove it. `proven_at` in Unix seconds.
pub(super) fn proof(number: i64, files: &[u8], proven_at: i64) -> Checksum {
    Checksum::of("proofs").number(number).bytes(files).number(proven_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_counts_and_none_runs_into_the_next() {
        let checksums = [
            result(1, b"ab").finish(),
            result(2, b"ab").finish(),
            result(1, b"abc").finish(),
            Checksum::of("results").number(1).bytes(b"a").bytes(b"b").finish(),
            Checksum::of("results").number(1).option(None, Checksum::bytes).finish(),
            Checksum::of("results").number(1).option(Some(b"".as_slice()), Checksum::bytes).finish(),
            proof(1, b"ab", 0).finish(),
        ];
        let different: std::collections::BTreeSet<_> = checksums.iter().collect();
        assert_eq!(different.len(), checksums.len());
        let what = || "x".to_owned();
        let first = Some(checksums[0].as_slice());
        assert!(result(1, b"ab").check(first, true, what).is_ok());
        assert!(result(1, b"ab").check(None, false, what).is_ok(), "of an earlier version");
        assert!(result(1, b"ab").check(None, true, what).is_err());
        let problem = result(1, b"ac").check(first, false, what).unwrap_err().to_string();
        assert!(problem.contains("x does not match"), "{problem}");
    }
}
