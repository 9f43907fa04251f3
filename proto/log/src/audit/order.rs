//! The order of the releases of a class, product and channel: sequences as they were asked for, versions as they were signed.
//!
//! A request has its **place** in that order: the index of its entry. A coordinator that goes on with another roster logs
//! what waits anew: one transaction cancels the old request and asks for the same statement in the very next entry. Such a
//! request stands in the place of the one that it repeats, whatever has been asked for between them. Under embargo neither
//! place nor channel is known before the disclosure, which is then compared with what stands before and after it.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use rutli_release::{Sequence, Version};
use serde::{Deserialize, Serialize};

use super::{Open, embargoes::Embargoes};
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
    /// In the order of its channel.
    pub(super) place: u64,
    version: Version,
}

/// An entry that says something of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Its index.
    pub(super) at: u64,
    /// Index of the request: the same, but for a disclosure or an outcome.
    pub(super) of: u64,
}

/// What is known of a channel: what may still be compared with something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    /// Requests, by place.
    asked: BTreeMap<u64, Seen>,
    /// What was signed, by place, if its version begins with numbers. What was only asked for binds nobody to its version.
    signed: BTreeMap<u64, Signed>,
    /// Whether anything was ever signed.
    pub(super) ever_signed: bool,
    /// Index of the newest request.
    pub(super) newest: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    index: u64,
    sequence: Sequence,
    statement: Hash,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    index: u64,
    version: Version,
}

/// What is not known yet, and may have its place in any channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsettled<'a> {
    /// What has no outcome may be cancelled and asked for anew.
    pub(super) open: &'a BTreeMap<u64, Open>,
    /// What is under embargo.
    pub(super) embargoes: &'a Embargoes,
    /// The place of what the last entry cancelled.
    pub(super) cancelled: Option<u64>,
}

impl Unsettled<'_> {
    fn waits(&self, place: u64, seen: &Seen) -> bool {
        self.cancelled == Some(place) || self.open.contains_key(&seen.index)
    }
}

impl Asked {
    /// `place` as [`Order::ask`] gave it.
    pub(super) fn new(request: &Request, place: u64) -> Self {
        Self { channel: channel_of(request), place, version: request.version.clone() }
    }
}

/// By which the order of a request is kept: class, product and channel.
pub(super) fn channel_of(request: &Request) -> String {
    format!("{} {} {}", request.class, request.product, request.channel)
}

impl Order {
    /// Finds the place of a request, and compares it with those before and after it. `cancelled` is the place of what was
    /// cancelled right before it, if something was.
    pub(super) fn ask(
        &mut self,
        said: Said,
        cancelled: Option<u64>,
        request: &Request,
    ) -> (u64, Vec<Finding>) {
        let this = Seen { index: said.of, sequence: request.sequence, statement: request.statement };
        self.newest = self.newest.max(said.of);
        if let Some(place) = cancelled
            && let Some(before) = self.asked.get_mut(&place)
            && (before.sequence, before.statement) == (this.sequence, this.statement)
        {
            // Nothing is new but where it is logged: it was compared when it came first.
            before.index = this.index;
            return (place, Vec::new());
        }
        let (older, younger) = neighbours(&self.asked, said.of);
        let older = older.and_then(|place| self.asked.get(&place)).map(|older| (older, &this));
        let younger = younger.and_then(|place| self.asked.get(&place)).map(|younger| (&this, younger));
        let backwards = older.into_iter().chain(younger).filter(|(a, b)| b.sequence <= a.sequence);
        let findings = backwards.map(|(older, younger)| {
            let text = format!(
                "in {} the sequence went from {} (entry {}) to {} (entry {})",
                channel_of(request),
                older.sequence,
                older.index,
                younger.sequence,
                younger.index
            );
            Finding::at(Code::SequenceBackwards, said.at, text)
        });
        let findings = findings.collect();
        self.asked.insert(said.of, this);
        (said.of, findings)
    }

    /// Takes note that a request was signed; compares it with what was asked for before and after it, and signed.
    pub(super) fn sign(&mut self, said: Said, asked: Asked) -> Vec<Finding> {
        let Asked { channel, place, version } = asked;
        self.ever_signed = true;
        self.newest = self.newest.max(said.of);
        if numbers(version.as_str()).is_none() {
            return Vec::new();
        }
        let this = Signed { index: said.of, version };
        let (older, younger) = neighbours(&self.signed, place);
        let older = older.and_then(|place| self.signed.get(&place)).map(|older| (older, &this));
        let younger = younger.and_then(|place| self.signed.get(&place)).map(|younger| (&this, younger));
        let backwards = older
            .into_iter()
            .chain(younger)
            .filter(|(a, b)| compare_versions(&a.version, &b.version) == Some(Ordering::Greater));
        let findings = backwards.map(|(older, younger)| {
            let text = format!(
                "in {channel} the version of what is signed went from {} (entry {}) to {} (entry {})",
                older.version, older.index, younger.version, younger.index
            );
            Finding::at(Code::VersionBackwards, said.at, text)
        });
        let findings = findings.collect();
        self.signed.insert(place, this);
        findings
    }

    /// How much is kept.
    pub(super) fn len(&self) -> usize {
        self.asked.len().saturating_add(self.signed.len())
    }

    /// Forgets what nothing can be compared with any more, at and beside a place at which something changed.
    pub(super) fn tidy(&mut self, place: u64, unsettled: &Unsettled<'_>) {
        let around = |(older, younger): (Option<u64>, Option<u64>)| [older, Some(place), younger];
        for place in around(neighbours(&self.asked, place)).into_iter().flatten() {
            if !self.asked_matters(place, unsettled) {
                self.asked.remove(&place);
            }
        }
        for place in around(neighbours(&self.signed, place)).into_iter().flatten() {
            if !self.signed_matters(place, unsettled) {
                self.signed.remove(&place);
            }
        }
    }

    /// Forgets everything that nothing can be compared with any more, and of the rest what is oldest where there are
    /// more than `most` beside embargoes. Says whether there were.
    pub(super) fn sweep(&mut self, unsettled: &Unsettled<'_>, most: usize) -> bool {
        let places: Vec<u64> = self.asked.keys().chain(self.signed.keys()).copied().collect();
        for place in places {
            self.tidy(place, unsettled);
        }
        let newest = self.asked.last_key_value().map(|(place, _)| *place);
        let beside = self.asked.iter().filter(|(place, seen)| !unsettled.waits(**place, seen));
        let beside: Vec<u64> =
            beside.map(|(place, _)| *place).filter(|place| Some(*place) != newest).collect();
        let too_many = beside.len().saturating_sub(most);
        for place in beside.iter().take(too_many) {
            self.asked.remove(place);
        }
        let too_many_signed = self.signed.len().saturating_sub(most.saturating_add(1));
        for _ in 0..too_many_signed {
            self.signed.pop_first();
        }
        too_many + too_many_signed > 0
    }

    /// The newest counts, what waits, and what stands beside a place that an embargo may hide.
    fn asked_matters(&self, place: u64, unsettled: &Unsettled<'_>) -> bool {
        let Some(seen) = self.asked.get(&place) else { return false };
        let (older, younger) = neighbours(&self.asked, place);
        younger.is_none() || unsettled.waits(place, seen) || unsettled.embargoes.between(older, younger)
    }

    /// Likewise; and what stands beside something that may be signed yet.
    fn signed_matters(&self, place: u64, unsettled: &Unsettled<'_>) -> bool {
        let (older, younger) = neighbours(&self.signed, place);
        let (Some(_), Some(before)) = (self.signed.get(&place), younger) else { return younger.is_none() };
        let mut between = self.asked.range((older.map_or(Unbounded, Excluded), Excluded(before)));
        unsettled.embargoes.between(older, younger)
            || between.any(|(place, seen)| unsettled.waits(*place, seen))
    }
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
