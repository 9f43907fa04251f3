//! What must hold at every step of a story.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::{Signature, VerifyingKey};
use rutli_coordinator::session::{Outcome, Submission};
use rutli_keys::NodeId;
use rutli_log::{Cosigner, Entry, Hash, entry::RequestTerms};
use rutli_release::ReleaseId;
use rutli_signer_node::{
    gate::LogState,
    sign::{JournalRecord, Verdict},
};
use rutli_wire::link::{Batch, BatchReply, CommitmentBytes, Refusal, RefusalCode, Witnessed};

use super::{DEADLINE_S, EPOCH, Fixture, requests::THIEF};
use crate::log::ScriptedLog;

/// Remembers what it must compare.
#[derive(Debug)]
pub struct Checks {
    key: VerifyingKey,
    indices: BTreeMap<NodeId, u16>,
    cosigners: BTreeMap<NodeId, Cosigner>,
    liar: Option<NodeId>,
    /// Own commitments for which a share left the node.
    consumed: BTreeSet<CommitmentBytes>,
}

impl Checks {
    pub(super) fn new(fixture: &Fixture, liar: Option<NodeId>) -> Self {
        let roster = fixture.roster.roster();
        let cosigner =
            |id: &NodeId| Cosigner::new(id.to_string(), &fixture.identities[id].public().to_bytes()).unwrap();
        Self {
            cosigners: fixture.identities.keys().map(|id| (id.clone(), cosigner(id))).collect(),
            key: VerifyingKey::from_bytes(roster.group_key()).unwrap(),
            indices: roster
                .nodes()
                .map(|node| (node.id.clone(), roster.index_of(&node.id).unwrap()))
                .collect(),
            liar,
            consumed: BTreeSet::new(),
        }
    }

    /// A node is about to answer: no commitment is used twice (invariant 4); nothing leaves that is not durable
    /// (invariant 5); and no sequence of a channel is permitted with two contents (invariant 6).
    pub(super) fn replied(
        &mut self,
        node: &NodeId,
        batch: &Batch,
        reply: &BatchReply,
        journal: &[JournalRecord],
    ) -> Result<(), String> {
        let Ok(items) = &reply.answer else { return Ok(()) };
        let signers = batch.signers.len();
        let place = batch.signers.iter().position(|index| *index == self.indices[node]);
        let place = place.ok_or("a node that is not among the signers answered with shares")?;
        for (item, answer) in batch.items.iter().zip(items) {
            if answer.is_err() {
                continue;
            }
            for commitments in item.commitments.chunks(signers) {
                let own = commitments[place];
                if !self.consumed.insert(own) {
                    return Err(format!("{node} used commitment {own} twice"));
                }
            }
            let digest = item.release.digest();
            let durable = |record: &&JournalRecord| {
                record.verdict == Verdict::Permitted && record.release_digest == digest
            };
            if !journal.iter().any(|record| durable(&record)) {
                return Err(format!("{node} gave shares for {} before its journal held it", item.release_id));
            }
        }
        let mut contents = BTreeMap::new();
        for record in journal.iter().filter(|record| record.verdict == Verdict::Permitted) {
            let place = (record.channel_key(), record.sequence);
            let first = contents.entry(place).or_insert(record.release_digest);
            if *first != record.release_digest {
                let (channel, sequence) = (record.channel_key(), record.sequence);
                return Err(format!("{node} permitted {channel} {sequence} with two contents"));
            }
        }
        Ok(())
    }

    /// No share is given for a request whose entry is not in the durable log (invariant 3).
    pub(super) fn logged(
        &self,
        node: &NodeId,
        batch: &Batch,
        reply: &BatchReply,
        log: &ScriptedLog,
    ) -> Result<(), String> {
        let Ok(items) = &reply.answer else { return Ok(()) };
        for (item, _) in batch.items.iter().zip(items).filter(|(_, answer)| answer.is_ok()) {
            let terms = RequestTerms {
                release_id: item.release_id.clone(),
                requester: item.requester.clone(),
                roster: Hash(*batch.roster.as_bytes()),
                deadline: EPOCH + DEADLINE_S,
                evidence: Vec::new(),
                embargo: None,
            };
            if !log.leaves().contains(&Entry::request(&item.release, &terms).leaf_hash()) {
                return Err(format!(
                    "{node} gave shares for {} by {}, which is not in the log",
                    item.release_id, item.requester
                ));
            }
        }
        Ok(())
    }

    /// Every cosignature is over a head of the one log that there is, and the node has that head on its disk.
    pub(super) fn witnessed(
        &self,
        node: &NodeId,
        witnessed: Option<&Witnessed>,
        kept: &LogState,
        log: &ScriptedLog,
    ) -> Result<(), String> {
        let witnessed = witnessed.ok_or("a node does not say what it keeps of the log")?;
        let Some(cosignature) = &witnessed.cosignature else { return Ok(()) };
        let size = witnessed.size;
        if size > log.size() || !self.cosigners[node].verifies(&log.checkpoint(size).text(), cosignature) {
            return Err(format!("{node} cosigned a head of {size} entries that is not of the log"));
        }
        if kept.head.as_ref().is_none_or(|kept| kept.head != log.head_at(size)) {
            return Err(format!("{node} cosigned a head of {size} entries that is not in its journal"));
        }
        Ok(())
    }

    /// A result became durable: it fits what was admitted, and every signature verifies strictly.
    pub(super) fn finished(
        &self,
        admitted: &[Submission],
        id: &ReleaseId,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let submission = admitted
            .iter()
            .find(|s| s.release_id == *id)
            .ok_or_else(|| format!("{id} was never admitted"))?;
        let Outcome::Signed { signatures, .. } = outcome else { return Ok(()) };
        let signables = submission.release.signables();
        if signables.len() != signatures.len() {
            return Err(format!("{id} has {} signatures for {}", signatures.len(), signables.len()));
        }
        for (signable, signature) in signables.iter().zip(signatures) {
            self.key
                .verify_strict(&signable.bytes, &Signature::from_bytes(signature.bytes()))
                .map_err(|error| format!("a signature of {id} does not verify: {error}"))?;
        }
        Ok(())
    }

    /// Only the liar is ever blamed.
    pub(super) fn blamed(&self, node: &NodeId, reason: &str) -> Result<(), String> {
        if self.liar.as_ref() == Some(node) {
            return Ok(());
        }
        Err(format!("{node} is blamed though it is honest: {reason}"))
    }

    /// Everything that may be signed is signed, and nothing else.
    pub(super) fn at_the_end(
        &self,
        admitted: &[Submission],
        finished: &BTreeMap<ReleaseId, Outcome>,
    ) -> Result<(), String> {
        let number =
            |submission: &Submission| (submission.release.channel_key(), submission.release.sequence());
        let allowed = |submission: &Submission| {
            submission.release.product().as_str() != "forbidden" && submission.requester.as_str() != THIEF
        };
        let is_signed = |submission: &&Submission| {
            matches!(finished.get(&submission.release_id), Some(Outcome::Signed { .. }))
        };
        let mut signed = BTreeSet::new();
        for submission in admitted.iter().filter(is_signed) {
            if !signed.insert(number(submission)) {
                return Err(format!("two contents are signed under the number of {}", submission.release_id));
            }
        }
        for submission in admitted {
            let id = &submission.release_id;
            let (channel, sequence) = number(submission);
            // Another one of its channel has, or had at some node, its number or a higher one.
            let outrun = admitted.iter().filter(|other| other.release_id != *id && allowed(other));
            let outrun = outrun.map(number).any(|(other, number)| other == channel && number >= sequence);
            let by_number = |refusals: &[(NodeId, Refusal)]| {
                use RefusalCode::{SequenceBehind, SequenceConflict};
                refusals.iter().all(|(_, refusal)| matches!(refusal.code, SequenceBehind | SequenceConflict))
            };
            match finished.get(id) {
                Some(Outcome::Signed { .. }) if allowed(submission) => {}
                Some(Outcome::Refused(_)) if !allowed(submission) => {}
                Some(Outcome::Refused(refusals)) if outrun && by_number(refusals) => {}
                Some(Outcome::Overtaken(by)) if signed.contains(&(channel, *by)) && *by >= sequence => {}
                Some(Outcome::Cancelled) => {}
                Some(outcome) => return Err(format!("{id} must not end as {outcome:?}")),
                None => return Err(format!("{id} has no end")),
            }
        }
        Ok(())
    }
}

/// An outcome in a word.
#[must_use]
pub fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Signed { .. } => "signed",
        Outcome::Refused(_) => "refused",
        Outcome::Cancelled => "cancelled",
        Outcome::Overtaken(_) => "overtaken",
    }
}
