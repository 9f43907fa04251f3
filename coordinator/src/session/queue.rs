//! What waits to be signed: jobs, in channels, in lanes.
//!
//! A **job** is one release with its open signatures. Jobs of one channel go in the order of their sequence. A sequence is
//! **used** while a batch with it is under way: another job under it, or under a lower one, waits unsent. What is signed
//! overtakes whatever is not at nodes by then under its sequence or a lower one.
//! The **urgent** lane (AV databases) goes before the **bulk** lane (product builds), but not alone for ever.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use prost::bytes::Bytes;
use rutli_keys::{KeyName, NodeId, Roster};
use rutli_release::{ChannelKey, Class, ReleaseId, Sequence, VerifiedSignature};
use rutli_wire::{
    limits as wire_limits,
    link::{CommitmentBytes, LoggedEvidence, Refusal, RefusalCode},
};

use super::{Outcome, Phase, Progress, Submission, nodes::Choice, numbers::Numbers};
use crate::limits;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// AV databases.
    Urgent,
    /// Product builds.
    Bulk,
}

/// One release with its open signatures.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub submission: Submission,
    /// Signatures made, by slot.
    signatures: Vec<Option<VerifiedSignature>>,
    /// Slots that no session has.
    open: BTreeSet<u32>,
    /// Slots that a session has.
    busy: usize,
    /// Whether a node may have seen it.
    pub started: bool,
    /// The key it was started with.
    pub key: Option<KeyName>,
    /// Nodes that refused it, for good or until something has come.
    pub refusals: BTreeMap<NodeId, Refusal>,
    /// Whether a node refused it for good since it was last found out what that means.
    refused_for_good: bool,
    /// Whether it cannot be signed before something has come that those nodes want.
    awaits_evidence: bool,
    /// Whether nobody wants it any more: it ends as soon as no session has it.
    abandoned: bool,
    /// Nodes that gave shares.
    signed_by: BTreeSet<NodeId>,
    /// How many batches with it each node got and has not refused, or said that it waits.
    asked: BTreeMap<NodeId, u32>,
    /// What keeps a quorum from coming together now.
    pub stalled: Vec<String>,
}

/// All jobs that are not finished.
#[derive(Debug, Default)]
pub struct Queue {
    jobs: HashMap<ReleaseId, Job>,
    channels: HashMap<ChannelKey, Waiting>,
    urgent: VecDeque<ChannelKey>,
    bulk: VecDeque<ChannelKey>,
    /// Signed, but the result is not durable yet: their channels wait.
    publishing: HashMap<ReleaseId, ChannelKey>,
    /// What is known of the numbers of channels.
    numbers: Numbers,
    /// Channels in which something may be overtaken.
    behind: BTreeSet<ChannelKey>,
    /// Orders jobs under one sequence as they came.
    arrivals: u64,
    /// Sessions of the urgent lane in a row while the bulk lane waited.
    urgent_run: u32,
}

/// The jobs of one channel by sequence, and under one sequence as they came.
#[derive(Debug, Default)]
struct Waiting {
    jobs: BTreeMap<(Sequence, u64), ReleaseId>,
}

/// What of a job goes into a batch.
struct Fit {
    slots: usize,
    bytes: usize,
}

/// One signer's commitment for one signature on the wire.
const COMMITMENT_BYTES: usize = size_of::<CommitmentBytes>();

/// What a session shall sign: slots of releases, and by whom.
pub type Plan = (Choice, Vec<(Submission, Vec<u32>)>);

impl Queue {
    /// Takes a release in; false if it is there already.
    pub fn submit(&mut self, submission: Submission) -> bool {
        let id = submission.release_id.clone();
        if self.jobs.contains_key(&id) || self.publishing.contains_key(&id) {
            return false;
        }
        let job = Job::new(submission);
        let key = job.channel();
        if !self.channels.contains_key(&key) {
            lane_of(&mut self.urgent, &mut self.bulk, key.class).push_back(key.clone());
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let place = (job.submission.release.sequence(), self.arrivals);
        self.behind.insert(key.clone());
        self.channels.entry(key).or_default().jobs.insert(place, id.clone());
        self.jobs.insert(id, job);
        true
    }

    /// Jobs that are not finished.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: &ReleaseId) -> Option<&Job> {
        self.jobs.get(id)
    }

    /// One job.
    pub fn job_mut(&mut self, id: &ReleaseId) -> Option<&mut Job> {
        self.jobs.get_mut(id)
    }

    /// Jobs for which one of these nodes waits for something, by its answer.
    pub fn waiting_for(
        &self,
        who: impl Fn(&NodeId, RefusalCode) -> bool,
    ) -> impl Iterator<Item = &ReleaseId> {
        let waits = move |job: &Job| {
            job.refusals.iter().any(|(node, refusal)| refusal.code.waits() && who(node, refusal.code))
        };
        self.jobs.iter().filter(move |(_, job)| waits(job)).map(|(id, _)| id)
    }

    /// Jobs with something open.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Job> {
        self.jobs.values_mut().filter(|job| !job.open.is_empty())
    }

    /// The lanes that may start the next session while so many run (and so many of them of the bulk lane), the one whose
    /// turn it is first.
    #[must_use]
    pub fn next_lanes(&self, sessions: usize, bulk_sessions: usize) -> Vec<Lane> {
        let mut lanes = Vec::new();
        if sessions < limits::MAX_SESSIONS && self.has_work(&self.urgent) {
            lanes.push(Lane::Urgent);
        }
        if sessions < limits::MAX_SESSIONS
            && bulk_sessions < limits::MAX_SESSIONS_BULK
            && self.has_work(&self.bulk)
        {
            lanes.push(Lane::Bulk);
        }
        if self.urgent_run >= limits::URGENT_RUN {
            lanes.reverse();
        }
        lanes
    }

    /// A session of this lane was started.
    pub fn started(&mut self, lane: Lane) {
        self.urgent_run = match lane {
            Lane::Urgent if self.has_work(&self.bulk) => self.urgent_run.saturating_add(1),
            Lane::Urgent | Lane::Bulk => 0,
        };
    }

    /// Plans the next session of a lane: the quorum that `choose` gives for the first job (by the nodes that refused
    /// it), and as many slots of as many jobs as that quorum may sign and a batch may hold. The slots are taken.
    pub fn plan(
        &mut self,
        lane: Lane,
        mut choose: impl FnMut(&BTreeMap<NodeId, Refusal>) -> Option<Choice>,
    ) -> Option<Plan> {
        let mut choice: Option<Choice> = None;
        // Nodes that refused, and left too few: there may be many jobs with the same ones.
        let mut stuck: BTreeSet<Vec<NodeId>> = BTreeSet::new();
        let mut planned = Vec::new();
        let mut room = wire_limits::MAX_BATCH_SLOTS;
        let mut bytes = 0;
        for _ in 0..self.lane_mut(lane).len() {
            if room == 0 || planned.len() >= wire_limits::MAX_BATCH_ITEMS {
                break;
            }
            // Round robin over the channels: a busy one does not keep the others from their turn.
            let Some(channel) = self.lane_mut(lane).pop_front() else { break };
            self.lane_mut(lane).push_back(channel.clone());
            let Some(waiting) = self.channels.get(&channel) else { continue };
            let before = planned.len();
            let mut full = false;
            let mut used = waiting.used(&self.jobs);
            for ((sequence, _), id) in &waiting.jobs {
                let Some(job) = self.jobs.get_mut(id) else { break };
                // It may wait for days, and must not hold back its whole channel.
                if job.awaits_evidence {
                    continue;
                }
                if used.as_ref().is_some_and(|used| job.must_wait_for(used)) {
                    continue;
                }
                if job.open.is_empty() {
                    break;
                }
                if choice.is_none() && !stuck.contains(&job.refusals.keys().cloned().collect::<Vec<_>>()) {
                    choice = choose(&job.refusals);
                    room = choice.as_ref().map_or(room, |choice| room.min(choice.stock));
                }
                let Some(choice) = &choice else {
                    if job.refusals.is_empty() {
                        break;
                    }
                    // Too few are left for this one: whoever has them signed first holds up nobody.
                    stuck.insert(job.refusals.keys().cloned().collect());
                    continue;
                };
                if choice.signers.iter().any(|(_, node)| job.refusals.contains_key(node))
                    || room == 0
                    || planned.len() >= wire_limits::MAX_BATCH_ITEMS
                {
                    break;
                }
                let Some(fit) = job.fits(room, bytes, choice.signers.len()) else {
                    full = true;
                    break;
                };
                let was_busy = job.busy > 0;
                let slots = job.take(fit.slots);
                bytes += fit.bytes;
                room = room.saturating_sub(slots.len());
                planned.push((job.submission.clone(), slots));
                used = used.max(Some((*sequence, id.clone())));
                // A later sequence starts no earlier than in the same batch as the whole of its predecessor.
                if was_busy || !job.open.is_empty() {
                    break;
                }
            }
            if full {
                // A channel that had no turn has the next one, so that small releases do not keep a large one waiting.
                if planned.len() == before {
                    self.lane_mut(lane).rotate_right(1);
                }
                break;
            }
        }
        choice.filter(|_| !planned.is_empty()).map(|choice| (choice, planned))
    }

    /// Slots that a session did not sign.
    pub fn put_back(&mut self, id: &ReleaseId, slots: &[u32]) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.busy = job.busy.saturating_sub(slots.len());
            if !job.abandoned {
                job.open.extend(slots);
            }
            self.behind.insert(job.channel());
        }
    }

    /// Slots that a session signed.
    pub fn add_signatures(
        &mut self,
        id: &ReleaseId,
        signatures: &[(u32, VerifiedSignature)],
        signers: &[NodeId],
    ) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.busy = job.busy.saturating_sub(signatures.len());
            for (slot, signature) in signatures {
                if let Some(place) = usize::try_from(*slot).ok().and_then(|slot| job.signatures.get_mut(slot))
                {
                    *place = Some(*signature);
                }
            }
            if !signatures.is_empty() {
                job.signed_by.extend(signers.iter().cloned());
            }
        }
    }

    /// A job ended without signatures.
    pub fn finish(&mut self, id: &ReleaseId) {
        if let Some(job) = self.jobs.remove(id) {
            self.numbers.left(&job.channel(), job.submission.release.sequence(), job.may_hold());
            self.leave_channel(id, &job.channel());
        }
    }

    /// A job is signed. Its channel goes on only once the result is durable: if it were lost now, the release would be
    /// signed again, and by then no node may have permitted a later sequence without having permitted this one.
    pub fn signed(&mut self, id: &ReleaseId) {
        if let Some(job) = self.jobs.remove(id) {
            self.publishing.insert(id.clone(), job.channel());
        }
    }

    /// The result of a signed job is durable, or it must be signed anew.
    pub fn published(&mut self, id: &ReleaseId) {
        if let Some(channel) = self.publishing.remove(id) {
            self.leave_channel(id, &channel);
        }
    }

    /// Something is signed in a channel, durably.
    pub fn note_signed(&mut self, channel: ChannelKey, sequence: Sequence) {
        self.numbers.signed(&channel, sequence);
        self.behind.insert(channel);
    }

    /// Ends jobs that are not at nodes and can never be signed any more, for what was signed in their channel: gives them
    /// with that sequence.
    pub fn take_overtaken(&mut self) -> Vec<(ReleaseId, Sequence)> {
        let mut overtaken = Vec::new();
        for channel in std::mem::take(&mut self.behind) {
            let Some(signed) = self.numbers.signed_in(&channel) else { continue };
            let Some(waiting) = self.channels.get(&channel) else { continue };
            let behind = waiting.jobs.range(..=(signed, u64::MAX)).map(|(_, id)| id);
            let idle = behind.filter(|id| self.jobs.get(*id).is_some_and(|job| job.busy == 0));
            overtaken.extend(idle.map(|id| (id.clone(), signed)));
        }
        overtaken.iter().for_each(|(id, _)| self.finish(id));
        overtaken
    }

    /// A node answered about a job's release: its mark, if it told one, and whether it holds nothing of that release.
    pub fn answered(&mut self, id: &ReleaseId, node: &NodeId, refusal: Option<&Refusal>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let channel = job.channel();
        let mark = match refusal {
            Some(refusal) => {
                job.cleared(node);
                refusal.mark
            }
            None => Some(job.submission.release.sequence()),
        };
        if let Some(mark) = mark {
            self.numbers.told(&channel, node, mark);
        }
    }

    /// The lowest sequence that nothing speaks against, as far as is known here: above what is signed, above what as many
    /// nodes of each organisation as must sign have permitted, and above what is at nodes now. `None`: there is none left.
    #[must_use]
    pub fn next_sequence(
        &self,
        channel: &ChannelKey,
        signed: Option<Sequence>,
        roster: Option<&Roster>,
    ) -> Option<Sequence> {
        let used = self.channels.get(channel).into_iter().flat_map(|waiting| &waiting.jobs);
        let used = used.filter_map(|((sequence, _), id)| {
            self.jobs.get(id).is_none_or(Job::is_used).then_some(*sequence)
        });
        self.numbers.next(channel, signed, roster, used)
    }

    fn leave_channel(&mut self, id: &ReleaseId, key: &ChannelKey) {
        let Some(waiting) = self.channels.get_mut(key) else { return };
        waiting.jobs.retain(|_, queued| queued != id);
        if waiting.jobs.is_empty() {
            self.channels.remove(key);
            lane_of(&mut self.urgent, &mut self.bulk, key.class).retain(|channel| channel != key);
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut VecDeque<ChannelKey> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Whether some channel has a job that may go on.
    fn has_work(&self, lane: &VecDeque<ChannelKey>) -> bool {
        lane.iter().any(|channel| {
            self.channels.get(channel).is_some_and(|waiting| {
                let used = waiting.used(&self.jobs);
                let is_free = |id: &ReleaseId| {
                    self.jobs.get(id).is_none_or(|job| {
                        !job.awaits_evidence && used.as_ref().is_none_or(|used| !job.must_wait_for(used))
                    })
                };
                let first = waiting.jobs.iter().find(|(_, id)| is_free(id));
                first.and_then(|(_, id)| self.jobs.get(id)).is_some_and(|job| !job.open.is_empty())
            })
        })
    }
}

impl Waiting {
    /// The highest sequence with which a batch is under way, or whose result is not durable yet, and by whom.
    fn used(&self, jobs: &HashMap<ReleaseId, Job>) -> Option<(Sequence, ReleaseId)> {
        let busy = |id: &ReleaseId| jobs.get(id).is_none_or(|job| job.busy > 0);
        let ((sequence, _), id) = self.jobs.iter().rev().find(|(_, id)| busy(id))?;
        Some((*sequence, id.clone()))
    }
}

fn lane_of<'a>(
    urgent: &'a mut VecDeque<ChannelKey>,
    bulk: &'a mut VecDeque<ChannelKey>,
    class: Class,
) -> &'a mut VecDeque<ChannelKey> {
    match class {
        Class::AvDatabase => urgent,
        Class::ProductBuild => bulk,
    }
}

impl Job {
    fn new(submission: Submission) -> Self {
        let count = submission.release.signable_count();
        Self {
            started: submission.resumed,
            submission,
            signatures: vec![None; count],
            open: (0..u32::try_from(count).unwrap_or(u32::MAX)).collect(),
            busy: 0,
            key: None,
            refusals: BTreeMap::new(),
            refused_for_good: false,
            awaits_evidence: false,
            abandoned: false,
            signed_by: BTreeSet::new(),
            asked: BTreeMap::new(),
            stalled: Vec::new(),
        }
    }

    fn channel(&self) -> ChannelKey {
        self.submission.release.channel_key()
    }

    /// A batch with it left for these nodes.
    pub fn sent_to<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeId>) {
        for node in nodes {
            let asked = self.asked.entry(node.clone()).or_default();
            *asked = asked.saturating_add(1);
        }
    }

    /// A node answered that it refuses or waits: of that batch it holds nothing.
    fn cleared(&mut self, node: &NodeId) {
        if let Some(asked) = self.asked.get_mut(node) {
            *asked = asked.saturating_sub(1);
        }
    }

    /// Nodes that permitted it, or never answered.
    fn may_hold(&self) -> impl Iterator<Item = &NodeId> {
        self.asked.iter().filter(|(_, batches)| **batches > 0).map(|(node, _)| node)
    }

    /// Whether another one is at nodes, under its sequence or a higher one, so that its own could be lost at these: it waits
    /// unsent. What is at nodes below another one came there before it, or together with it.
    fn must_wait_for(&self, (highest, by): &(Sequence, ReleaseId)) -> bool {
        let (sequence, id) = (self.submission.release.sequence(), &self.submission.release_id);
        match highest.cmp(&sequence) {
            Ordering::Less => false,
            Ordering::Equal => by != id,
            Ordering::Greater => self.may_hold().next().is_none(),
        }
    }

    /// Whether a node may hold its sequence for it. What was taken up after a restart may have been anywhere.
    fn is_used(&self) -> bool {
        self.submission.resumed || self.may_hold().next().is_some()
    }

    /// How many of up to `room` open slots go into a batch of `so_far` bytes, and what they add to it. A release that is
    /// alone in its batch may exceed the bound, but with few commitments then; beside others it goes in as far as there is
    /// room, or not at all.
    fn fits(&self, room: usize, so_far: usize, signers: usize) -> Option<Fit> {
        let evidence: usize = self.submission.evidence.iter().map(Bytes::len).sum();
        let entries = self.submission.entry.added.len().saturating_mul(limits::ADDED_BYTES);
        let own = self.submission.content_bytes.saturating_add(evidence).saturating_add(entries);
        let own = own.saturating_add(limits::ITEM_BYTES);
        let slot = signers.saturating_mul(COMMITMENT_BYTES).max(1);
        let left = wire_limits::MAX_BATCH_BYTES.saturating_sub(so_far.saturating_add(own));
        let wanted = self.open.len().min(room);
        let slots = if so_far == 0 {
            wanted.min((left.max(limits::LONE_COMMITMENT_BYTES) / slot).max(1))
        } else {
            Some(wanted).filter(|wanted| wanted.saturating_mul(slot) <= left)?
        };
        Some(Fit { slots, bytes: own.saturating_add(slots.saturating_mul(slot)) })
    }

    /// Takes up to `room` open slots into a session.
    fn take(&mut self, room: usize) -> Vec<u32> {
        let slots: Vec<u32> = self.open.iter().take(room).copied().collect();
        for slot in &slots {
            self.open.remove(slot);
        }
        self.busy += slots.len();
        slots
    }

    /// Nobody wants it any more: no further session gets any of it.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.open.clear();
    }

    /// Whether it is abandoned and no session has any of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.abandoned && self.busy == 0
    }

    /// Refusals that nothing that comes will change.
    #[must_use]
    pub fn final_refusals(&self) -> BTreeMap<NodeId, Refusal> {
        let last = self.refusals.iter().filter(|(_, refusal)| !refusal.code.waits());
        last.map(|(node, refusal)| (node.clone(), refusal.clone())).collect()
    }

    /// A node refused it.
    pub fn refuse(&mut self, node: NodeId, refusal: Refusal) {
        self.refused_for_good |= !refusal.code.waits();
        self.refusals.insert(node, refusal);
    }

    /// Whether a node refused it for good since this was last asked.
    pub fn take_refused_for_good(&mut self) -> bool {
        std::mem::take(&mut self.refused_for_good)
    }

    /// Whether it waits for something that nodes want, and no session has it.
    #[must_use]
    pub fn is_set_aside(&self) -> bool {
        self.awaits_evidence
    }

    /// More evidence has come. False if all of it was known.
    pub fn add_evidence(&mut self, documents: Vec<Bytes>, entries: Vec<LoggedEvidence>) -> bool {
        let added = &mut self.submission.entry.added;
        for entry in entries {
            if added.iter().all(|known| known.index != entry.index) {
                added.push(entry);
            }
        }
        let known = &mut self.submission.evidence;
        let before = known.len();
        for document in documents {
            // A release has few of them.
            if !known.contains(&document) {
                known.push(document);
            }
        }
        known.len() > before
    }

    /// Nobody is asked to sign it until [`Job::forget_waits`].
    pub fn await_evidence(&mut self) {
        self.awaits_evidence = true;
    }

    /// Whether no quorum can have signed any of it: no node ever had it, or all that came of it are shares of sessions that
    /// some node refused. What was taken up after a restart may have been signed before.
    #[must_use]
    pub fn may_be_taken_back(&self) -> bool {
        let unsigned = self.signatures.iter().all(Option::is_none);
        !self.started || (self.awaits_evidence && unsigned && !self.submission.resumed)
    }

    /// Nodes that wait for something are as if they had never been asked. True if there are any.
    pub fn forget_waits(&mut self) -> bool {
        let before = self.refusals.len();
        self.refusals.retain(|_, refusal| !refusal.code.waits());
        self.awaits_evidence = false;
        self.refusals.len() < before
    }

    /// Whether a session has any of it.
    #[must_use]
    pub fn in_sessions(&self) -> bool {
        self.busy > 0
    }

    /// The result, once every signature is there.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        let signatures = self.signatures.iter().copied().collect::<Option<Vec<_>>>()?;
        Some(Outcome::Signed {
            key: self.key.clone()?,
            signatures,
            signed_by: self.signed_by.iter().cloned().collect(),
        })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut waiting_for = self.stalled.clone();
        if self.awaits_evidence {
            let wanted = self.refusals.iter().filter(|(_, refusal)| refusal.code.waits());
            waiting_for = wanted.map(|(node, refusal)| format!("{node}: {}", refusal.reason)).collect();
        } else if waiting_for.is_empty() && !self.refusals.is_empty() {
            let refused: Vec<String> = self.refusals.keys().map(ToString::to_string).collect();
            waiting_for.push(format!("nodes other than {}, which refused it", refused.join(", ")));
        }
        let phase = if self.busy > 0 {
            waiting_for.clear();
            Phase::Signing
        } else if self.awaits_evidence {
            Phase::AwaitingEvidence
        } else if waiting_for.is_empty() {
            Phase::Queued
        } else {
            Phase::AwaitingQuorum
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Progress {
            phase,
            waiting_for,
            done: count(self.signatures.iter().flatten().count()),
            total: count(self.signatures.len()),
            refusals: self.refusals.clone().into_iter().collect(),
        }
    }
}
