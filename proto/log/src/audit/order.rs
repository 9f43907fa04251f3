//! The order of signed releases in a class, product and channel: sequences go up, versions do not go down,
//! and no version is signed twice.
//!
//! A request binds nobody: it may wait, and be overtaken. A signed release has its **place** at its outcome.
//! Its sequence must be above everything that was signed before it was requested. A release that was at the
//! nodes together with a later one may be signed after that one. Under embargo the channel is not known
//! before the disclosure, which is then compared with the releases before and after it.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use rutli_release::{Sequence, Version};
use serde::{Deserialize, Serialize};

use super::embargoes::Embargoes;
use crate::{
    entry::Request,
    finding::{Code, Finding},
    hash::Hash,
};

/// What must be known of a request when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Class, product and channel.
    pub(super) channel: String,
    /// Its index.
    pub(super) index: u64,
    sequence: Sequence,
    pub(super) version: Version,
    pub(super) statement: Hash,
    /// The signed release with the highest sequence in the channel then, as far as was known.
    above: Option<Named>,
}

/// An entry that says something of a signed release.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Its index: of the outcome, or of the disclosure.
    pub(super) at: u64,
    /// Index of the outcome.
    pub(super) place: u64,
}

/// What is known of a channel: what may still be compared with something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// What was signed, by place.
    signed: BTreeMap<u64, Signed>,
    /// Place of the newest.
    pub(super) newest: u64,
}

/// A release, by the index of its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    index: u64,
    sequence: Sequence,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    this: Named,
    /// The one with the highest sequence of all that was signed until then, including itself.
    highest: Named,
}

impl Asked {
    /// `above` as [`Order::highest_before`] gives it.
    pub(super) fn new(index: u64, request: &Request, order: Option<&Order>) -> Self {
        Self {
            channel: channel_of(request),
            index,
            sequence: request.sequence,
            version: request.version.clone(),
            statement: request.statement,
            above: order.and_then(|order| order.highest_before(index)).cloned(),
        }
    }
}

/// By which the order of a request is kept: class, product and channel.
pub(super) fn channel_of(request: &Request) -> String {
    format!("{} {} {}", request.class, request.product, request.channel)
}

impl Order {
    /// The release with the highest sequence of those signed before an entry.
    fn highest_before(&self, index: u64) -> Option<&Named> {
        self.signed.range(..index).next_back().map(|(_, signed)| &signed.highest)
    }

    /// Takes note that a request was signed, and compares it with what was signed before and after it.
    pub(super) fn sign(&mut self, said: Said, asked: Asked) -> Vec<Finding> {
        let Asked { channel, index, sequence, version, above, .. } = asked;
        let this = Named { index, sequence, version };
        self.newest = self.newest.max(said.place);
        let known = self.highest_before(index).cloned();
        let above = [above, known].into_iter().flatten().max_by_key(|named| named.sequence);
        let older = above.filter(|above| above.sequence >= sequence).map(|above| (above, this.clone()));
        // Under embargo until now: releases requested after it was signed had to be above it.
        let younger = self.signed.range(said.place..).map(|(_, younger)| &younger.this);
        let younger = younger.filter(|younger| younger.index > said.place && younger.sequence <= sequence);
        let younger = younger.map(|younger| (this.clone(), younger.clone()));
        let mut findings: Vec<Finding> = older
            .into_iter()
            .chain(younger.take(1))
            .map(|(older, younger)| backwards(Code::SequenceBackwards, &channel, said.at, &older, &younger))
            .collect();
        let (before, after) = neighbours(&self.signed, said.place);
        let before = before.and_then(|place| self.signed.get(&place)).map(|signed| &signed.highest);
        let after = after.and_then(|place| self.signed.get(&place)).map(|signed| &signed.this);
        // Of two with one sequence neither is later; that there are two was reported above.
        let others = before.into_iter().chain(after).filter(|other| other.sequence != sequence);
        for other in others {
            let (lower, higher) =
                if other.sequence < this.sequence { (other, &this) } else { (&this, other) };
            if compare_versions(&lower.version, &higher.version) == Some(Ordering::Greater) {
                findings.push(backwards(Code::VersionBackwards, &channel, said.at, lower, higher));
            }
        }
        let highest = before.filter(|highest| highest.sequence > sequence).unwrap_or(&this).clone();
        for (_, younger) in self.signed.range_mut(said.place..) {
            if younger.highest.sequence < sequence {
                younger.highest = this.clone();
            }
        }
        self.signed.insert(said.place, Signed { this, highest });
        findings
    }

    /// How much is kept.
    pub(super) fn len(&self) -> usize {
        self.signed.len()
    }

    /// Forgets what nothing can be compared with any more, at and beside a place at which something changed.
    pub(super) fn tidy(&mut self, place: u64, embargoes: &Embargoes) {
        let (older, younger) = neighbours(&self.signed, place);
        for place in [older, Some(place), younger].into_iter().flatten() {
            if !self.matters(place, embargoes) {
                self.signed.remove(&place);
            }
        }
    }

    /// Forgets everything that nothing can be compared with any more, and of the rest what is oldest where there are
    /// more than `most` beside the newest. Says whether there were.
    pub(super) fn sweep(&mut self, embargoes: &Embargoes, most: usize) -> bool {
        let places: Vec<u64> = self.signed.keys().copied().collect();
        for place in places {
            self.tidy(place, embargoes);
        }
        let too_many = self.signed.len().saturating_sub(most.saturating_add(1));
        for _ in 0..too_many {
            self.signed.pop_first();
        }
        too_many > 0
    }

    /// The newest counts, and what stands beside a place that an embargo may hide.
    fn matters(&self, place: u64, embargoes: &Embargoes) -> bool {
        let (older, younger) = neighbours(&self.signed, place);
        younger.is_none() || embargoes.between(Some(place), younger) || embargoes.between(older, Some(place))
    }
}

fn backwards(code: Code, channel: &str, at: u64, older: &Named, younger: &Named) -> Finding {
    let (what, from, to) = match code {
        Code::VersionBackwards => ("version", older.version.to_string(), younger.version.to_string()),
        _ => ("sequence", older.sequence.to_string(), younger.sequence.to_string()),
    };
    let text = format!(
        "in {channel} the {what} of what is signed went from {from} (entry {}) to {to} (entry {})",
        older.index, younger.index
    );
    Finding::at(code, at, text)
}

/// The places before and after this one that something stands at.
fn neighbours<V>(map: &BTreeMap<u64, V>, place: u64) -> (Option<u64>, Option<u64>) {
    let older = map.range(..place).next_back();
    let younger = map.range((Excluded(place), Unbounded)).next();
    (older.map(|(place, _)| *place), younger.map(|(place, _)| *place))
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
