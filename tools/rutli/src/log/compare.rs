//! Heads of other sources: mirrors of the log, and what witnesses publish. Of one size they must be equal, of different
//! sizes one must extend the other.

use std::path::Path;

use rutli_log::{Code, Finding, Head, NotACheckpoint, check_consistency, limits::MAX_CHECKPOINT_BYTES};

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

    /// The checkpoint that it publishes, of whatever log.
    ///
    /// # Errors
    /// Exit code 3: it does not answer, or with what is no checkpoint at all. That says nothing about the log: it is a wrong
    /// file, or a login page in the mirror's place. 2 for a file that cannot be read.
    pub fn note(&self, trust: &Trust) -> Result<String, Failure> {
        let published = match self {
            Self::Mirror(source) => source.checkpoint(),
            Self::Note { name } => read_note(Path::new(name))?,
        };
        match (published, self) {
            (Ok(note), _) if trust.open(&note).is_err_and(|error| error == NotACheckpoint::Malformed) => {
                Err(self.no_checkpoint(kind_of(&note)))
            }
            (Ok(note), _) => Ok(note),
            (Err(Unread::Damaged), _) => Err(self.no_checkpoint("what is no text, or too long")),
            (Err(error), Self::Mirror(source)) => Err(error.into_failure("checkpoint", source)),
            (Err(error), Self::Note { .. }) => Err(self.no_checkpoint(&error.to_string())),
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

    fn no_checkpoint(&self, what: &str) -> Failure {
        let help = match self {
            Self::Mirror(_) => {
                "see what answers there: a proxy or a login page may stand before the mirror. It must have a `checkpoint` \
                 of this log"
            }
            Self::Note { .. } => {
                "give a file with a signed checkpoint of this log, as it is published under the name `checkpoint`"
            }
        };
        let name = text::printable(self.name());
        Failure::unreachable(format!("cannot compare with {name}: there is no checkpoint, but {what}"))
            .help(help)
    }

    fn finding(&self, code: Code, what: &str) -> Compared {
        Compared::Different(Finding::of_log(code, format!("{}: {what}", text::printable(self.name()))))
    }
}

/// A file that must be there and readable; what is in it is another matter.
fn read_note(path: &Path) -> Result<Result<String, Unread>, Failure> {
    let limit = u64::try_from(MAX_CHECKPOINT_BYTES).unwrap_or(u64::MAX);
    let bytes = files::read_start(path, limit.saturating_add(1))?;
    let fits = bytes.len() <= MAX_CHECKPOINT_BYTES;
    Ok(String::from_utf8(bytes).ok().filter(|_| fits).ok_or(Unread::Damaged))
}

/// What a text is that is no checkpoint, without a word of it: it may be a file that was not meant.
fn kind_of(note: &str) -> &'static str {
    match note.trim_start() {
        "" => "an empty file",
        text if text.starts_with('<') => "a web page",
        _ => "other text",
    }
}
