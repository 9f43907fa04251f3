//! What a reader of a log trusts: the log's key, and the witnesses that a policy asks for.

use std::path::Path;

use rutli_log::{NotACheckpoint, NotWitnessed, Origin, Policy, SignedCheckpoint};

use crate::{cli::LogPlace, files, report::Failure, text};

/// The keys of one log and its witnesses.
pub struct Trust {
    policy: Policy,
    origin: Origin,
}

/// A checkpoint of the log, and what is missing of its cosignatures.
pub struct Opened {
    /// The log has signed it.
    pub checkpoint: SignedCheckpoint,
    /// Names of known witnesses that cosigned it.
    pub cosigned_by: Vec<String>,
    /// Why it is not what the policy asks for.
    pub lacks: Option<NotWitnessed>,
}

impl Trust {
    /// Reads what `--policy` or `--key` names.
    ///
    /// # Errors
    /// Exit code 2.
    pub fn read(place: &LogPlace) -> Result<Self, Failure> {
        let policy = match (&place.policy, &place.key) {
            (Some(path), _) => parse(path, &files::read_text(path)?)?,
            (None, Some(path)) => {
                let key = files::read_text(path)?;
                parse(path, &format!("log {}\nquorum none\n", key.trim_end()))?
            }
            (None, None) => {
                return Err(Failure::usage("whose log is it?")
                    .help("give the log's key with --key log.vkey, or --policy tlog-policy"));
            }
        };
        let origins: Vec<_> = policy.logs().map(|key| key.origin().clone()).collect();
        match origins.as_slice() {
            [origin, others @ ..] if others.iter().all(|other| other == origin) => {
                Ok(Self { origin: origin.clone(), policy })
            }
            _ => Err(Failure::usage("the policy is for several logs")
                .help("give a policy for the one log that you read")),
        }
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Opens a checkpoint of the log, with or without the cosignatures that the policy asks for.
    ///
    /// # Errors
    /// [`NotACheckpoint`]: the log has not signed it.
    pub fn open(&self, note: &str) -> Result<Opened, NotACheckpoint> {
        let lacks = match self.policy.check(note) {
            Ok((checkpoint, cosigned_by)) => return Ok(Opened { checkpoint, cosigned_by, lacks: None }),
            Err(lacks) => lacks,
        };
        let mut refused = NotACheckpoint::Malformed;
        for key in self.policy.logs() {
            match key.open(note) {
                Ok(checkpoint) => {
                    let cosigned = |(name, key): (&str, _)| {
                        checkpoint.cosignature(key).ok().flatten().map(|_| name.to_owned())
                    };
                    let cosigned_by = self.policy.witnesses().filter_map(cosigned).collect();
                    return Ok(Opened { checkpoint, cosigned_by, lacks: Some(lacks) });
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// When a quorum cosigned a checkpoint last, see [`Policy::cosigned_at`].
    #[must_use]
    pub fn cosigned_at(&self, checkpoint: &SignedCheckpoint, latest: u64) -> Option<u64> {
        self.policy.cosigned_at(checkpoint, latest)
    }

    /// Whether cosignatures are asked for at all.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.policy.has_quorum()
    }

    /// Names of known witnesses who say that they cosigned a checkpoint later than this, in Unix seconds.
    #[must_use]
    pub fn cosigned_after(&self, checkpoint: &SignedCheckpoint, time: u64) -> Vec<&str> {
        let later = |(name, key)| {
            let cosignature = checkpoint.cosignature(key).ok().flatten()?;
            (cosignature.time > time).then_some(name)
        };
        self.policy.witnesses().filter_map(later).collect()
    }

    /// Opens a checkpoint that has all cosignatures that the policy asks for.
    ///
    /// # Errors
    /// Exit code 1.
    pub fn open_witnessed(&self, note: &str) -> Result<Opened, Failure> {
        let refused = |reason: String| {
            Failure::failed(format!("the checkpoint is not what you trust: {}", text::printable(&reason)))
                .help("check the key or policy; compare with another mirror of the log")
        };
        let opened = self.open(note).map_err(|error| refused(error.to_string()))?;
        match &opened.lacks {
            None => Ok(opened),
            Some(lacks) => Err(refused(lacks.to_string())),
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<Policy, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(format!("{} cannot be used: {error}", path.display()))
            .help("`rutli init` writes log.vkey and tlog-policy; c2sp.org/tlog-policy explains the latter")
    })
}
