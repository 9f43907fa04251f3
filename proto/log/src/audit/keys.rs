//! The keys that were announced, their rosters, and what is judged by them.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::ReleaseKey;
use serde::{Deserialize, Serialize};

use super::{Auditor, Kept};
use crate::{
    entry::{Dsse, Key, Outcome, OutcomeState},
    finding::{Code, Finding},
    hash::Hash,
    limits::{MAX_KEYS, MAX_ROSTER_NODES},
};

/// An organisation of a signed roster: how many of which nodes must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// Its name.
    pub name: String,
    /// How many.
    pub threshold: u16,
    /// `organisation/node` of each.
    pub nodes: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownKey {
    epoch: u64,
    public_key: Hash,
    purpose: String,
    /// As `dsse` leaves name it: so a leaf need not be decoded, which would cost more than all the rest.
    verifier: String,
    /// The entry that announced it.
    index: u64,
    /// The newest entry that says that it signed something.
    used: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownRoster {
    /// The newest entry that announced it.
    index: u64,
    /// The name of the key that it is of.
    key: String,
    /// The newest entry that says that something was signed under it.
    used: Option<u64>,
    /// What the signed roster says, if it was read.
    organisations: Option<Vec<Organisation>>,
}

impl Auditor {
    /// Takes note of the signed roster of the key whose entry was read last, so that outcomes are judged by it. `roster` is its
    /// hash, and whoever calls has checked that the document is the one that the entry names.
    pub fn learn_roster(&mut self, roster: &Hash, organisations: Vec<Organisation>) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(known) = self.rosters.get_mut(roster) {
            known.organisations = Some(organisations);
        }
        let newest = self.size.saturating_sub(1);
        let mut lost = false;
        while self.roster_nodes() > MAX_ROSTER_NODES {
            let read = self.rosters.values_mut().filter(|known| known.organisations.is_some());
            let Some(least) = read.min_by_key(|known| worth(newest, known.index, known.used)) else { break };
            least.organisations = None;
            lost = true;
        }
        let has_room = self.roster_nodes() <= MAX_ROSTER_NODES / 2;
        self.overflow(Kept::Nodes, lost, has_room, newest, &mut findings);
        findings
    }

    fn roster_nodes(&self) -> usize {
        self.rosters.values().map(KnownRoster::nodes).sum()
    }

    /// Forgets keys and rosters that do not fit, the worthless ones first; says whether there were some. `newest` is the
    /// entry that was read last.
    pub(super) fn keep_keys_bounded(&mut self, newest: u64) -> (bool, bool) {
        let Self { keys, rosters, .. } = self;
        let lost = (keys.len() > MAX_KEYS, rosters.len() > MAX_KEYS);
        while keys.len() > MAX_KEYS {
            let least = keys.iter().min_by_key(|(_, known)| worth(newest, known.index, known.used));
            let Some(name) = least.map(|(name, _)| name.clone()) else { break };
            keys.remove(&name);
        }
        while rosters.len() > MAX_KEYS {
            let least = rosters.iter().min_by_key(|(_, known)| worth(newest, known.index, known.used));
            let Some(hash) = least.map(|(hash, _)| *hash) else { break };
            rosters.remove(&hash);
        }
        lost
    }

    pub(super) fn key(&mut self, index: u64, key: &Key, findings: &mut Vec<Finding>) {
        let new = KnownKey {
            epoch: key.epoch,
            public_key: key.public_key,
            purpose: key.purpose.clone(),
            // What is no key signs nothing; its roster does not hold either.
            verifier: ReleaseKey::from_bytes(key.public_key.as_bytes())
                .map_or_else(|_| String::new(), |key| STANDARD.encode(key.to_pem())),
            index,
            used: self.keys.get(&key.name).and_then(|known| known.used),
        };
        if let Some(known) = self.keys.get(&key.name) {
            if known.epoch.checked_add(1) != Some(new.epoch) {
                let text =
                    format!("the key {} had the epoch {}, and now has {}", key.name, known.epoch, new.epoch);
                findings.push(Finding::at(Code::KeyReused, index, text));
            } else if (known.public_key, &known.purpose) != (new.public_key, &new.purpose) {
                let text = format!("a refresh of the key {} changed its public key or purpose", key.name);
                findings.push(Finding::at(Code::KeyChanged, index, text));
            }
        }
        self.keys.insert(key.name.clone(), new);
        // A hash has one roster: what was read of it holds when it is announced again.
        let (used, organisations) =
            self.rosters.remove(&key.roster).map_or((None, None), |known| (known.used, known.organisations));
        self.rosters.insert(key.roster, KnownRoster { index, key: key.name.clone(), used, organisations });
    }

    pub(super) fn check_roster(&self, index: u64, roster: &Hash, findings: &mut Vec<Finding>) {
        if !self.rosters.contains_key(roster) {
            let text = format!("no entry before it announced a key with the roster {roster}");
            findings.push(Finding::at(Code::RosterUnknown, index, text));
        }
    }

    /// Whether the key and the roster that an outcome names belong together and were announced.
    pub(super) fn check_key(&mut self, index: u64, outcome: &Outcome, findings: &mut Vec<Finding>) {
        let (Some(name), Some(hash)) = (&outcome.key, &outcome.roster) else { return };
        let Some(roster) = self.rosters.get_mut(hash).filter(|known| known.key == *name) else {
            let text = format!("no entry before it announced the key {name} with the roster {hash}");
            findings.push(Finding::at(Code::KeyUnknown, index, text));
            return;
        };
        if outcome.state == OutcomeState::Signed {
            roster.used = Some(index);
            if let Some(key) = self.keys.get_mut(name) {
                key.used = Some(index);
            }
        }
    }

    /// Compares the nodes that signed with the roster that the outcome names, if that was read.
    pub(super) fn check_quorum(&self, index: u64, outcome: &Outcome, findings: &mut Vec<Finding>) {
        let known = outcome.roster.and_then(|roster| self.rosters.get(&roster));
        let organisations = known.and_then(|known| known.organisations.as_deref());
        // That nobody is named at all has been found already.
        let Some(organisations) = organisations.filter(|_| !outcome.signed_by.is_empty()) else { return };
        let signers: BTreeSet<_> = outcome.signed_by.iter().collect();
        let there = |organisation: &Organisation| {
            signers.iter().filter(|node| organisation.nodes.contains(**node)).count()
        };
        let stranger =
            signers.iter().find(|node| !organisations.iter().any(|known| known.nodes.contains(**node)));
        let lacking = organisations.iter().find(|known| there(known) < usize::from(known.threshold));
        let text = match (stranger, lacking) {
            (Some(node), _) => format!("it names {node}, which its roster does not have"),
            (None, Some(lacking)) => format!(
                "{} nodes of {} are named, and its roster wants {}",
                there(lacking),
                lacking.name,
                lacking.threshold
            ),
            (None, None) => return,
        };
        let text = format!("{text} (its request is entry {})", outcome.request);
        findings.push(Finding::at(Code::QuorumMissing, index, text));
    }

    pub(super) fn dsse(&mut self, index: u64, dsse: &Dsse, findings: &mut Vec<Finding>) {
        let payload = dsse.spec.payload_hash.value;
        let outcome = self.outcome_of(dsse).map(|(outcome, _)| outcome);
        let awaited = outcome.and_then(|outcome| self.awaited.remove(&outcome));
        if awaited.is_none() {
            let text = format!("no outcome before it says that the statement {payload} was signed");
            findings.push(Finding::at(Code::DsseWithoutOutcome, index, text));
        }
        let plain = dsse.api_version == "0.0.1"
            && [&dsse.spec.envelope_hash, &dsse.spec.payload_hash]
                .iter()
                .all(|hash| hash.algorithm == "sha256");
        let [signature] = dsse.spec.signatures.as_slice() else {
            let text = "it does not have one signature";
            findings.push(Finding::at(Code::DsseMismatch, index, text));
            return;
        };
        if !plain {
            let text = "it is not of the form that stock verifiers take";
            findings.push(Finding::at(Code::DsseMismatch, index, text));
        }
        let by = |known: &KnownKey| known.verifier == signature.verifier;
        let expected = awaited.and_then(|awaited| awaited.key).and_then(|name| self.keys.get(&name));
        if expected.is_some_and(by) {
            return;
        }
        if !self.keys.values().any(by) {
            let text = "no entry before it announced the public key that its signature is by";
            findings.push(Finding::at(Code::KeyUnknown, index, text));
        } else if expected.is_some() {
            let text = "its signature is by another key than its outcome says";
            findings.push(Finding::at(Code::DsseMismatch, index, text));
        }
    }
}

impl KnownRoster {
    fn nodes(&self) -> usize {
        self.organisations.iter().flatten().map(|organisation| organisation.nodes.len()).sum()
    }
}

/// By which keys and rosters are forgotten, the least first: those that never signed before those that did, of both those
/// that were announced or used longest ago. One that was just announced stays, for it had no time to sign.
fn worth(newest: u64, announced: u64, used: Option<u64>) -> (bool, bool, u64) {
    (announced == newest, used.is_some(), used.map_or(announced, |used| used.max(announced)))
}
