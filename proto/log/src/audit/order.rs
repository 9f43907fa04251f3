//! The order of the releases of a class, product and channel: sequences as they were asked for, versions as they were signed.

use std::cmp::Ordering;

use rutli_release::{Sequence, Version};
use serde::{Deserialize, Serialize};

use crate::{
    entry::{OutcomeState, Request},
    finding::{Code, Finding},
    hash::Hash,
};

/// What must be known of a request when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Class, product and channel.
    pub(super) channel: String,
    version: Version,
}

/// What is known of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// The newest request.
    newest: Newest,
    /// The newest that was signed: what was only asked for binds nobody to its version.
    signed: Option<Signed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Newest {
    index: u64,
    sequence: Sequence,
    statement: Hash,
    cancelled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    index: u64,
    version: Version,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            channel: format!("{} {} {}", request.class, request.product, request.channel),
            version: request.version.clone(),
        }
    }
}

impl Order {
    /// A channel's first request, entry `of`.
    pub(super) fn new(of: u64, request: &Request) -> Self {
        Self { newest: Newest::new(of, request), signed: None }
    }

    /// Compares a request with the newest one. `of` is the index of the request, `index` that of the entry that said it,
    /// `state` how it has ended already.
    pub(super) fn ask(
        &mut self,
        index: u64,
        of: u64,
        request: &Request,
        state: Option<OutcomeState>,
    ) -> Option<Finding> {
        let cancelled = state == Some(OutcomeState::Cancelled);
        let this = Newest { cancelled, ..Newest::new(of, request) };
        self.compare(index, &Asked::of(request).channel, this)
    }

    /// Takes note of how the request `of` ended; compares what was signed with what was signed before it.
    pub(super) fn end(&mut self, index: u64, of: u64, asked: Asked, state: OutcomeState) -> Option<Finding> {
        if state == OutcomeState::Cancelled && self.newest.index == of {
            self.newest.cancelled = true;
        }
        if state != OutcomeState::Signed {
            return None;
        }
        let Asked { channel, version } = asked;
        let this = Signed { index: of, version };
        let Some(newest) = &self.signed else {
            self.signed = Some(this);
            return None;
        };
        // What was asked for first may be signed last.
        let (older, younger) = if newest.index < of { (newest, &this) } else { (&this, newest) };
        let backwards = compare_versions(&older.version, &younger.version) == Some(Ordering::Greater);
        let finding = backwards.then(|| {
            let text = format!(
                "in {channel} the version of what is signed went from {} (entry {}) to {} (entry {})",
                older.version, older.index, younger.version, younger.index
            );
            Finding::at(Code::VersionBackwards, index, text)
        });
        if newest.index < of {
            self.signed = Some(this);
        }
        finding
    }

    fn compare(&mut self, index: u64, channel: &str, this: Newest) -> Option<Finding> {
        // What was under embargo may be older than what was read before it.
        let this_is_newest = self.newest.index < this.index;
        let (older, younger) = if this_is_newest { (&self.newest, &this) } else { (&this, &self.newest) };
        let finding = (younger.sequence <= older.sequence && !younger.repeats(older)).then(|| {
            let text = format!(
                "in {channel} the sequence went from {} (entry {}) to {} (entry {})",
                older.sequence, older.index, younger.sequence, younger.index
            );
            Finding::at(Code::SequenceBackwards, index, text)
        });
        if this_is_newest {
            self.newest = this;
        }
        finding
    }
}

impl Newest {
    fn new(index: u64, request: &Request) -> Self {
        Self { index, sequence: request.sequence, statement: request.statement, cancelled: false }
    }

    /// Whether it is the same release, asked for anew after it was cancelled.
    fn repeats(&self, older: &Self) -> bool {
        older.cancelled && self.sequence == older.sequence && self.statement == older.statement
    }
}

/// The order of two versions by the dotted numbers that they begin with; `None` where one has none. Versions are not
/// interpreted anywhere else, so only what everybody reads in the same way counts: 1.10 comes after 1.9, and a release
/// candidate neither before nor after its release.
fn compare_versions(a: &Version, b: &Version) -> Option<Ordering> {
    let (mut a, mut b) = (numbers(a.as_str())?, numbers(b.as_str())?);
    let length = a.len().max(b.len());
    a.resize(length, 0);
    b.resize(length, 0);
    Some(a.cmp(&b))
}

fn numbers(version: &str) -> Option<Vec<u64>> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let dotted = version.get(..end)?.trim_end_matches('.');
    dotted.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers_alone() {
        let compare =
            |a: &str, b: &str| compare_versions(&Version::new(a).unwrap(), &Version::new(b).unwrap());
        assert_eq!(compare("1.9", "1.10"), Some(Ordering::Less));
        assert_eq!(compare("v2.0.0", "1.10"), Some(Ordering::Greater));
        assert_eq!(compare("1.0-rc.2", "1.0.0"), Some(Ordering::Equal));
        assert_eq!(compare("1.0", "1.0.1-beta"), Some(Ordering::Less));
        assert_eq!(compare("nightly", "1.0"), None);
        assert_eq!(compare("99999999999999999999999", "1.0"), None);
    }
}
