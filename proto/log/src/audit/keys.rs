//! The keys that were announced, their rosters, and what is judged by them.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::ReleaseKey;
use serde::{Deserialize, Serialize};

use super::Auditor;
use crate::{
    entry::{Dsse, Key, Outcome},
    finding::{Code, Finding},
    hash::Hash,
    limits::MAX_ROSTER_NODES,
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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownRoster {
    /// The newest entry that announced it.
    index: u64,
    /// The name of the key that it is of.
    key: String,
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
        while self.rosters.values().map(KnownRoster::nodes).sum::<usize>() > MAX_ROSTER_NODES {
            let read = self.rosters.values_mut().filter(|known| known.organisations.is_some());
            let Some(oldest) = read.min_by_key(|known| known.index) else { break };
            oldest.organisations = None;
            self.overflow(self.size.saturating_sub(1), &mut findings);
        }
        findings
    }

    pub(super) fn key(&mut self, index: u64, key: &Key, findings: &mut Vec<Finding>) {
        let new = KnownKey {
            epoch: key.epoch,
            public_key: key.public_key,
            purpose: key.purpose.clone(),
            // What is no key signs nothing; its roster does not hold either.
            verifier: ReleaseKey::from_bytes(key.public_key.as_bytes())
                .map_or_else(|_| String::new(), |key| STANDARD.encode(key.to_pem())),
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
        let organisations = self.rosters.remove(&key.roster).and_then(|known| known.organisations);
        self.rosters.insert(key.roster, KnownRoster { index, key: key.name.clone(), organisations });
    }

    pub(super) fn check_roster(&self, index: u64, roster: &Hash, findings: &mut Vec<Finding>) {
        if !self.rosters.contains_key(roster) {
            let text = format!("no entry before it announced a key with the roster {roster}");
            findings.push(Finding::at(Code::RosterUnknown, index, text));
        }
    }

    pub(super) fn check_key(&self, index: u64, outcome: &Outcome, findings: &mut Vec<Finding>) {
        if let (Some(name), Some(roster)) = (&outcome.key, &outcome.roster)
            && self.rosters.get(roster).is_none_or(|known| known.key != *name)
        {
            let text = format!("no entry before it announced the key {name} with the roster {roster}");
            findings.push(Finding::at(Code::KeyUnknown, index, text));
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
