//! The head that the log signs for Sigstore's tools: it must be of the same tree as the native one, for no witness cosigns it.

use std::path::Path;

use rutli_log::{Code, Finding, Head, check_consistency, sigstore::TrustedRoot};
use serde::{Deserialize, Serialize};

use super::{
    source::{Source, Unread},
    state::State,
};
use crate::{files, report::Failure, text};

/// Compares heads for Sigstore's tools with verified ones.
pub struct SigstoreHeads {
    root: TrustedRoot,
}

/// A head that is ahead of the verified tree. Kept until that has caught up: a log must not take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ahead {
    /// As it was published.
    note: String,
    /// When it was seen first, in Unix seconds.
    since: u64,
}

/// What became of a comparison.
enum Compared {
    /// Its entries are those of the verified tree.
    Same(u64),
    /// It is of so many entries, more than the verified tree has.
    Ahead(u64),
}

impl SigstoreHeads {
    /// Reads what `--trusted-root` names.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let root = TrustedRoot::parse(&files::read(path)?).map_err(|error| {
            Failure::usage(format!("{} cannot be used: {error}", path.display()))
                .help("`rutli init` writes trusted_root.json")
        })?;
        Ok(Self { root })
    }

    /// Compares what is published now, and what was ahead before, with the verified head, whose tiles are at `source`. Gives
    /// the entries of the largest head that was compared. What is ahead for more than `grace` seconds is a finding.
    ///
    /// # Errors
    /// Exit code 3: the source does not answer. What was ahead stays so.
    pub fn compare(
        &self,
        published: Option<String>,
        source: &Source,
        state: &mut State,
        now: u64,
        grace: u64,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<u64>, Failure> {
        let (ours, ahead) = (state.head(), &mut state.sigstore_ahead);
        let mut largest = None;
        let waiting = ahead.take();
        let published = published.map(|note| Ahead { note, since: now });
        // The one that waits stays: it must be reached before any later one.
        for head in waiting.into_iter().chain(published) {
            match self.compare_one(&head.note, &ours, source) {
                Ok(Ok(Compared::Same(size))) => largest = largest.max(Some(size)),
                Ok(Ok(Compared::Ahead(size))) if ahead.is_none() => {
                    if now.saturating_sub(head.since) > grace {
                        let text = format!(
                            "it is of {size} entries since {}, and no more than {} are published",
                            text::time(head.since),
                            ours.size
                        );
                        findings.push(Finding::of_log(Code::SigstoreHeadDiffers, text));
                    }
                    *ahead = Some(head);
                }
                Ok(Ok(Compared::Ahead(_))) => {}
                Ok(Err(differs)) => findings.push(Finding::of_log(Code::SigstoreHeadDiffers, differs)),
                Err(failure) => {
                    ahead.get_or_insert(head);
                    return Err(failure);
                }
            }
        }
        Ok(largest)
    }

    /// Compares one head; the inner error says how it differs.
    fn compare_one(
        &self,
        note: &str,
        ours: &Head,
        source: &Source,
    ) -> Result<Result<Compared, String>, Failure> {
        let Some(theirs) = self.root.logs().iter().find_map(|log| log.key.open_head(note)) else {
            return Ok(Err("it is not signed by a log of the trusted root".into()));
        };
        if theirs.size > ours.size {
            return Ok(Ok(Compared::Ahead(theirs.size)));
        }
        let same = match source.prove_consistency(theirs.size, ours.size) {
            Ok(proof) => check_consistency(&theirs, ours, &proof).is_ok(),
            Err(Unread::Missing | Unread::Damaged) => false,
            Err(error @ Unread::Failed(_)) => return Err(error.into_failure("log", source)),
        };
        Ok(if same {
            Ok(Compared::Same(theirs.size))
        } else {
            Err(format!("its root of {} entries is {}, which is not of this log", theirs.size, theirs.root))
        })
    }
}
