//! Heads of other sources: mirrors of the log, and what witnesses publish. Of one size they must be equal, of different
//! sizes one must extend the other.

use std::path::Path;

use rutli_log::{Code, Finding, Head, check_consistency};

use super::{
    source::{Source, Unread},
    trust::{Opened, Trust},
};
use crate::{files, report::Failure, text};

/// Somewhere that a head of the log is published, too.
pub enum Other {
    /// A mirror, with its tiles.
    Mirror(Source),
    /// A checkpoint alone, in a file.
    Note {
        /// As it was given.
        name: String,
    },
}

/// What became of a comparison.
pub enum Compared {
    /// They agree.
    Same,
    /// They do not, or it is none of this log.
    Different(Finding),
    /// It is of a larger tree, and its source cannot prove yet that it extends ours: to be compared again later.
    Ahead,
}

impl Other {
    /// A folder or address of a mirror, which `open` opens, or a file with a checkpoint.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn open(place: &str, open: impl FnOnce(&str) -> Result<Source, Failure>) -> Result<Self, Failure> {
        if Path::new(place).is_file() {
            return Ok(Self::Note { name: place.to_owned() });
        }
        open(place).map(Self::Mirror)
    }

    /// As it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Mirror(source) => source.name(),
            Self::Note { name } => name,
        }
    }

    /// The checkpoint that it publishes.
    ///
    /// # Errors
    /// Exit code 3, or 2 for a file.
    pub fn note(&self) -> Result<String, Failure> {
        match self {
            Self::Mirror(source) => {
                source.checkpoint().map_err(|error| error.into_failure("checkpoint", source))
            }
            Self::Note { name } => files::read_text(Path::new(name)),
        }
    }

    /// Compares a note of it with our verified head, whose tiles are at `source`.
    ///
    /// # Errors
    /// Exit code 3: a source does not answer.
    pub fn compare(
        &self,
        note: &str,
        trust: &Trust,
        ours: &Head,
        source: &Source,
    ) -> Result<Compared, Failure> {
        let theirs = match trust.open(note) {
            Ok(Opened { checkpoint, .. }) => checkpoint.head(),
            Err(error) => return Ok(self.finding(Code::CheckpointInvalid, &error.to_string())),
        };
        if theirs.size == ours.size {
            return Ok(if theirs.root == ours.root {
                Compared::Same
            } else {
                self.finding(
                    Code::HeadForked,
                    &format!(
                        "it has another root for {} entries: {} and {}",
                        ours.size, theirs.root, ours.root
                    ),
                )
            });
        }
        let (old, new) = if theirs.size < ours.size { (&theirs, ours) } else { (ours, &theirs) };
        let prover = match self {
            _ if theirs.size < ours.size => source,
            Self::Mirror(mirror) => mirror,
            Self::Note { .. } => return Ok(Compared::Ahead),
        };
        let differs = || {
            let sizes = format!(
                "it is not shown that its head of {} entries and ours of {} are of one log",
                theirs.size, ours.size
            );
            self.finding(Code::HeadInconsistent, &sizes)
        };
        match prover.prove_consistency(old.size, new.size) {
            Ok(proof) if check_consistency(old, new, &proof).is_ok() => Ok(Compared::Same),
            Ok(_) | Err(Unread::Damaged) => Ok(differs()),
            // A mirror may publish its head before its tiles; our own were verified.
            Err(Unread::Missing) if theirs.size > ours.size => Ok(Compared::Ahead),
            Err(Unread::Missing) => Ok(differs()),
            Err(error @ Unread::Failed(_)) => Err(error.into_failure("log", prover)),
        }
    }

    fn finding(&self, code: Code, what: &str) -> Compared {
        Compared::Different(Finding::of_log(code, format!("{}: {what}", text::printable(self.name()))))
    }
}
