//! What waits to be signed: jobs, in channels, in lanes.
//!
//! A **job** is one release with its open signatures. Jobs of one channel go in the order of their sequence.
//! A sequence is **used** while a batch with it is under way: another job with it, or with a lower one, waits
//! unsent. A signature overtakes every job with its sequence or a lower one that is not at nodes by then. The
//! **urgent** lane (AV databases) goes before the **bulk** lane (product builds), but cannot block it
//! permanently. In each lane requesters share the batches. Heavy and costly requesters have separate lanes:
//! see [`costs`](super::costs).

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
};

use prost::bytes::Bytes;
use rutli_keys::{KeyName, NodeId, Roster};
use rutli_release::{ChannelKey, Class, ReleaseId, Requester, Sequence, VerifiedSignature};
use rutli_wire::{
    limits as wire_limits,
    link::{CommitmentBytes, LoggedEvidence, Refusal, RefusalCode},
};

use super::{
    Millis, Outcome, Phase, Progress, Submission,
    costs::{Expected, Load},
    nodes::Choice,
    numbers::Numbers,
};
use crate::limits;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// Of which releases.
    pub class: Class,
    /// Of which requesters.
    pub load: Load,
}

impl Lane {
    /// AV databases.
    pub const URGENT: Self = Self { class: Class::AvDatabase, load: Load::Usual };
    /// Product builds.
    pub const BULK: Self = Self { class: Class::ProductBuild, load: Load::Usual };
}

/// One release with its open signatures.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub submission: Submission,
    place: Place,
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
    /// Of these, the nodes that are asked once more, so that others are heard: see
    /// [`Nodes::completing`](super::nodes::Nodes).
    completing: BTreeSet<NodeId>,
    /// Nodes that gave shares when they answered last.
    pub permitted_by: BTreeSet<NodeId>,
    /// Whether a node refused it for good since it was last found out what that means.
    refused_for_good: bool,
    /// Whether it cannot be signed before something has come that those nodes want.
    awaits_evidence: bool,
    /// Whether a node did not sign it because of what it is.
    in_vain: bool,
    /// Whether nobody wants it any more: it ends as soon as no session has it.
    abandoned: bool,
    /// Nodes that gave shares.
    signed_by: BTreeSet<NodeId>,
    /// How many batches with it each node got, and answered with neither a refusal nor a wait.
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
    publishing: HashMap<ReleaseId, (ChannelKey, Place)>,
    /// What is known of the numbers of channels.
    numbers: Numbers,
    /// Channels in which a job may be overtaken.
    behind: BTreeSet<ChannelKey>,
    /// Jobs for which no quorum was found without nodes that refused them, since this was last asked.
    short: BTreeSet<ReleaseId>,
    /// Orders jobs with one sequence by their arrival.
    arrivals: u64,
    /// Who has jobs, or had some a moment ago.
    requesters: HashMap<Requester, Present>,
    /// The time of the engine.
    now: Millis,
    /// Sessions of the urgent lane in a row while the bulk lane waited.
    urgent_run: u32,
}

/// A batch that is being put together.
#[derive(Default)]
struct Planning {
    choice: Option<Choice>,
    /// Sets of refusing nodes that leave too few: many jobs may have the same set.
    stuck: BTreeSet<Vec<NodeId>>,
    planned: Vec<(Submission, Vec<u32>)>,
    /// Releases that are in it, at which place.
    places: HashMap<ReleaseId, usize>,
    used_by: HashMap<Requester, Share>,
    bytes: usize,
    cost_us: u64,
    /// Signatures, microseconds of decisions, and bytes, that it may have.
    room: usize,
    time: u64,
    most_bytes: usize,
}

/// Of a job in its channel: by sequence, and under one sequence as they came.
type Place = (Sequence, u64);

/// The jobs of one channel.
#[derive(Debug, Default)]
struct Waiting {
    jobs: BTreeMap<Place, ReleaseId>,
    /// Those of which a batch is under way, or whose result is not durable yet.
    at_nodes: BTreeSet<Place>,
    /// Whose jobs are not finished, and how many of each.
    requesters: BTreeMap<Requester, usize>,
}

/// What a requester has of a batch.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    slots: usize,
    /// Microseconds of decisions.
    us: u64,
}

/// A pipeline that requests one release at a time is between two of them for a moment.
#[derive(Debug, Default)]
struct Present {
    jobs: usize,
    last: Millis,
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
    /// It is this time now.
    pub fn time(&mut self, now: Millis) {
        self.now = now;
        let since = now.0.saturating_sub(limits::USUAL_MS);
        self.requesters.retain(|_, present| present.jobs > 0 || present.last.0 >= since);
    }

    /// The time that it was last told.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Takes a release in; false if it is there already.
    pub fn submit(&mut self, submission: Submission) -> bool {
        let id = submission.release_id.clone();
        if self.jobs.contains_key(&id) || self.publishing.contains_key(&id) {
            return false;
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let job = Job::new(submission, self.arrivals);
        let key = job.channel();
        if !self.channels.contains_key(&key) {
            lane_of(&mut self.urgent, &mut self.bulk, key.class).push_back(key.clone());
        }
        self.behind.insert(key.clone());
        let requester = &job.submission.requester;
        let waiting = self.channels.entry(key).or_default();
        waiting.jobs.insert(job.place, id.clone());
        let jobs = waiting.requesters.entry(requester.clone()).or_default();
        *jobs = jobs.saturating_add(1);
        let present = self.requesters.entry(requester.clone()).or_default();
        present.jobs = present.jobs.saturating_add(1);
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

    /// The lanes that may start the next session while sessions of these lanes run, the one whose turn it is first.
    /// `expected` tells what a requester's release of a class is expected to cost; if it is known to be the usual for all
    /// of them, `all_usual`.
    #[must_use]
    pub fn next_lanes(
        &self,
        running: &[Lane],
        all_usual: bool,
        expected: impl Fn(Class, &Requester) -> Expected,
    ) -> Vec<Lane> {
        let run = |lane: Lane| running.iter().filter(|other| **other == lane).count();
        let is_free = |lane: Lane| match lane {
            Lane::URGENT => run(lane) + run(Lane::BULK) < limits::MAX_SESSIONS,
            Lane::BULK => {
                run(lane) < limits::MAX_SESSIONS_BULK && run(lane) + run(Lane::URGENT) < limits::MAX_SESSIONS
            }
            Lane { class, .. } => {
                let apart = [Load::Heavy, Load::Costly].map(|load| run(Lane { class, load }));
                apart.iter().sum::<usize>() < limits::MAX_SESSIONS_APART
            }
        };
        let mut lanes = vec![Lane::URGENT, Lane::BULK];
        if self.urgent_run >= limits::URGENT_RUN {
            lanes.reverse();
        }
        if !all_usual {
            for load in [Load::Heavy, Load::Costly] {
                lanes.extend([Class::AvDatabase, Class::ProductBuild].map(|class| Lane { class, load }));
            }
        }
        lanes.retain(|lane| is_free(*lane));
        self.retain_with_work(&mut lanes, &expected);
        lanes
    }

    /// A session of this lane was started.
    pub fn started(&mut self, lane: Lane) {
        self.urgent_run = match lane {
            Lane::URGENT if self.has_work(Lane::BULK, &|_, _: &Requester| Expected::default()) => {
                self.urgent_run.saturating_add(1)
            }
            Lane::URGENT | Lane::BULK => 0,
            _ => self.urgent_run,
        };
    }

    /// Plans the next session of a lane: the quorum that `choose` gives for the first job (by the nodes that
    /// refused it), and as many slots of as many jobs as that quorum may sign, a batch may hold, and nodes
    /// decide in the time that they have for one (`expected`, as for [`Queue::next_lanes`]). Each
    /// requester first gets an equal share, then what others leave. For a release that is unlikely to be
    /// signed one slot goes first: a refusal then costs each node one nonce. The slots are then taken.
    pub fn plan(
        &mut self,
        lane: Lane,
        expected: impl Fn(Class, &Requester) -> Expected,
        mut choose: impl FnMut(&BTreeMap<NodeId, Refusal>) -> Option<Choice>,
    ) -> Option<Plan> {
        let (room, ms, most_bytes) = match (self.requesters.len(), lane.load) {
            (0 | 1, _) => (wire_limits::MAX_BATCH_SLOTS, limits::BATCH_COST_MS, wire_limits::MAX_BATCH_BYTES),
            (_, Load::Usual) => {
                (limits::SHARED_BATCH_SLOTS, limits::BATCH_COST_MS, wire_limits::MAX_BATCH_BYTES)
            }
            (_, Load::Heavy | Load::Costly) => {
                (limits::APART_BATCH_SLOTS, limits::APART_BATCH_COST_MS, limits::APART_BATCH_BYTES)
            }
        };
        let time = ms.saturating_mul(1_000);
        let mut planning = Planning { room, time, most_bytes, ..Planning::default() };
        let contenders = self.contenders(lane, &expected).max(1);
        let equal = Share { slots: (room / contenders).max(1), us: time / contenders as u64 };
        'shares: for share in [equal, Share { slots: room, us: time }] {
            for _ in 0..self.lane_mut(lane.class).len() {
                if planning.is_full() {
                    break 'shares;
                }
                // Round robin over the channels: a busy one does not keep the others from their turn.
                let Some(channel) = self.lane_mut(lane.class).pop_front() else { break };
                self.lane_mut(lane.class).push_back(channel.clone());
                let before = planning.planned.len();
                let fits = self.plan_channel(&channel, (lane, &share), &expected, &mut choose, &mut planning);
                if !fits {
                    // A channel that had no turn has the next one, so that small releases do not keep a large one waiting.
                    if planning.planned.len() == before {
                        self.lane_mut(lane.class).rotate_right(1);
                    }
                    break 'shares;
                }
            }
        }
        let Planning { choice, planned, .. } = planning;
        // Every channel comes first in its turn, whatever fitted in behind it.
        if let Some((first, _)) = planned.first() {
            let first = first.release.channel_key();
            let lane = self.lane_mut(lane.class);
            if let Some(place) = lane.iter().position(|channel| *channel == first)
                && let Some(channel) = lane.remove(place)
            {
                lane.push_back(channel);
            }
        }
        choice.filter(|_| !planned.is_empty()).map(|choice| (choice, in_turns(planned)))
    }

    /// How many requesters have jobs in a lane.
    fn contenders(&self, lane: Lane, expected: &impl Fn(Class, &Requester) -> Expected) -> usize {
        if self.requesters.len() < 2 {
            return self.requesters.len();
        }
        let waiting = self.lane(lane.class).iter().filter_map(|channel| self.channels.get(channel));
        let requesters: BTreeSet<&Requester> =
            waiting.flat_map(|waiting| waiting.requesters.keys()).collect();
        requesters.into_iter().filter(|who| expected(lane.class, who).load() == lane.load).count()
    }

    /// Adds to a plan what may go of one channel; false if there was no room for the next of it.
    fn plan_channel(
        &mut self,
        channel: &ChannelKey,
        (lane, share): (Lane, &Share),
        expected: &impl Fn(Class, &Requester) -> Expected,
        choose: &mut impl FnMut(&BTreeMap<NodeId, Refusal>) -> Option<Choice>,
        planning: &mut Planning,
    ) -> bool {
        let Some(waiting) = self.channels.get_mut(channel) else { return true };
        if !waiting.requesters.keys().any(|who| expected(lane.class, who).load() == lane.load) {
            return true;
        }
        let mut used = waiting.used();
        for (place, id) in &waiting.jobs {
            let Some(job) = self.jobs.get_mut(id) else { break };
            // It may wait for days, and must not block its whole channel.
            if job.awaits_evidence {
                continue;
            }
            let expected = expected(lane.class, &job.submission.requester);
            if let Some(item) = planning.places.get(id).copied() {
                // A batch has one item for each release: what its share did not hold goes into that one.
                if planning.fills(item, job, expected) {
                    continue;
                }
                break;
            }
            if used.is_some_and(|used| job.must_wait_for(used)) {
                continue;
            }
            if expected.load() != lane.load {
                // A job that has nothing at nodes, nor from them, delays no other lane.
                if job.may_be_taken_back() {
                    continue;
                }
                break;
            }
            if job.open.is_empty() {
                break;
            }
            let not_asked = job.not_asked();
            planning.choose(&not_asked, choose);
            let Some(choice) = &planning.choice else {
                if not_asked.is_empty() {
                    break;
                }
                // Too few commitments are left for this one; signing others first delays nobody.
                self.short.insert(id.clone());
                continue;
            };
            if choice.signers.iter().any(|(_, node)| not_asked.contains_key(node)) || planning.is_full() {
                break;
            }
            let own = planning.used_by.get(&job.submission.requester).copied().unwrap_or_default();
            // A large release is split; one that fits is not.
            let slots = if job.is_first(expected) { 1 } else { job.open.len() };
            let is_over = own.slots.saturating_add(slots) > share.slots
                || own.us.saturating_add(expected.us) > share.us;
            if (own.slots > 0 && is_over) || !planning.has_time(expected.us) {
                break;
            }
            let room = if job.is_first(expected) { 1 } else { planning.room.min(share.slots) };
            let fit = job.fits(room, (planning.bytes, planning.most_bytes), choice.signers.len());
            let Some(fit) = fit else { return false };
            let was_busy = job.busy > 0;
            let slots = job.take(fit.slots);
            planning.add(job, slots, fit.bytes, expected.us);
            waiting.at_nodes.insert(*place);
            used = used.max(Some(*place));
            // A later sequence starts no earlier than in the same batch as the whole of its predecessor.
            if was_busy || !job.open.is_empty() {
                break;
            }
        }
        true
    }

    /// Slots that a session did not sign.
    pub fn put_back(&mut self, id: &ReleaseId, slots: &[u32]) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.busy = job.busy.saturating_sub(slots.len());
            if !job.abandoned {
                job.open.extend(slots);
            }
            let (channel, place, is_back) = (job.channel(), job.place, job.busy == 0);
            if let Some(waiting) = self.channels.get_mut(&channel).filter(|_| is_back) {
                waiting.at_nodes.remove(&place);
            }
            self.behind.insert(channel);
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
            if job.busy == 0
                && let Some(waiting) = self.channels.get_mut(&job.channel())
            {
                waiting.at_nodes.remove(&job.place);
            }
        }
    }

    /// A job ended without signatures.
    pub fn finish(&mut self, id: &ReleaseId) {
        if let Some(job) = self.remove(id) {
            self.numbers.left(&job.channel(), job.submission.release.sequence(), job.may_hold());
            self.leave_channel(&job.channel(), job.place);
        }
    }

    fn remove(&mut self, id: &ReleaseId) -> Option<Job> {
        let job = self.jobs.remove(id)?;
        let requester = &job.submission.requester;
        if let Some(present) = self.requesters.get_mut(requester) {
            present.jobs = present.jobs.saturating_sub(1);
            present.last = self.now;
        }
        if let Some(waiting) = self.channels.get_mut(&job.channel())
            && let Some(jobs) = waiting.requesters.get_mut(requester)
        {
            *jobs = jobs.saturating_sub(1);
            if *jobs == 0 {
                waiting.requesters.remove(requester);
            }
        }
        Some(job)
    }

    /// A job is signed. Its channel goes on only once the result is durable: if it were lost now, the release would be
    /// signed again, and by then no node may have permitted a later sequence without having permitted this one.
    pub fn signed(&mut self, id: &ReleaseId) {
        if let Some(job) = self.remove(id) {
            let channel = job.channel();
            if let Some(waiting) = self.channels.get_mut(&channel) {
                waiting.at_nodes.insert(job.place);
            }
            self.publishing.insert(id.clone(), (channel, job.place));
        }
    }

    /// The result of a signed job is durable, or the job must be signed again.
    pub fn published(&mut self, id: &ReleaseId) {
        if let Some((channel, place)) = self.publishing.remove(id) {
            self.leave_channel(&channel, place);
        }
    }

    /// A release of a channel is signed, durably.
    pub fn note_signed(&mut self, channel: ChannelKey, sequence: Sequence) {
        self.numbers.signed(&channel, sequence);
        self.behind.insert(channel);
    }

    /// Ends jobs that are not at nodes and can no longer be signed because of what was signed in their
    /// channel. Returns them with that sequence. One that was resumed may have been at nodes together with
    /// what was signed after it: the nodes say whether they permitted it.
    pub fn take_overtaken(&mut self) -> Vec<(ReleaseId, Sequence)> {
        let mut overtaken = Vec::new();
        for channel in std::mem::take(&mut self.behind) {
            let Some(signed) = self.numbers.signed_in(&channel) else { continue };
            let Some(waiting) = self.channels.get(&channel) else { continue };
            let behind = waiting.jobs.range(..=(signed, u64::MAX)).map(|(_, id)| id);
            let idle = behind.filter(|id| {
                self.jobs.get(*id).is_some_and(|job| {
                    let may_go_on = job.submission.resumed && job.submission.release.sequence() < signed;
                    job.busy == 0 && !may_go_on
                })
            });
            overtaken.extend(idle.map(|id| (id.clone(), signed)));
        }
        overtaken.iter().for_each(|(id, _)| self.finish(id));
        overtaken
    }

    /// What was signed in a job's channel, if it is no lower than the job's own sequence.
    #[must_use]
    pub fn overtaken_by(&self, job: &Job) -> Option<Sequence> {
        let signed = self.numbers.signed_in(&job.channel())?;
        (signed >= job.submission.release.sequence()).then_some(signed)
    }

    /// Jobs for which no quorum was found without nodes that refused them, since this was last asked.
    pub fn take_short(&mut self) -> BTreeSet<ReleaseId> {
        std::mem::take(&mut self.short)
    }

    /// A node answered about a job's release: its mark, if it reported one, and whether it has nothing of
    /// that release.
    pub fn answered(&mut self, id: &ReleaseId, node: &NodeId, refusal: Option<&Refusal>) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        let channel = job.channel();
        let mark = match refusal {
            Some(refusal) => {
                job.cleared(node);
                job.permitted_by.remove(node);
                refusal.mark
            }
            None => {
                job.permitted_by.insert(node.clone());
                Some(job.submission.release.sequence())
            }
        };
        if let Some(mark) = mark {
            self.numbers.told(&channel, node, mark);
        }
    }

    /// The lowest free sequence, as far as is known here: above what is signed, above what as many nodes of
    /// each organisation as must sign have permitted, and above what is at nodes now. `None`: there is none
    /// left.
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

    fn leave_channel(&mut self, key: &ChannelKey, place: Place) {
        let Some(waiting) = self.channels.get_mut(key) else { return };
        waiting.jobs.remove(&place);
        waiting.at_nodes.remove(&place);
        if waiting.jobs.is_empty() {
            self.channels.remove(key);
            lane_of(&mut self.urgent, &mut self.bulk, key.class).retain(|channel| channel != key);
        }
    }

    fn lane(&self, class: Class) -> &VecDeque<ChannelKey> {
        match class {
            Class::AvDatabase => &self.urgent,
            Class::ProductBuild => &self.bulk,
        }
    }

    fn lane_mut(&mut self, class: Class) -> &mut VecDeque<ChannelKey> {
        lane_of(&mut self.urgent, &mut self.bulk, class)
    }

    fn has_work(&self, lane: Lane, expected: &impl Fn(Class, &Requester) -> Expected) -> bool {
        let mut lanes = vec![lane];
        self.retain_with_work(&mut lanes, expected);
        !lanes.is_empty()
    }

    /// Keeps those lanes that have a job in some channel that may go on.
    fn retain_with_work(&self, lanes: &mut Vec<Lane>, expected: &impl Fn(Class, &Requester) -> Expected) {
        lanes.retain(|lane| {
            // There are few requesters, and may be many channels.
            let belongs = |who: &Requester| expected(lane.class, who).load() == lane.load;
            if !self.requesters.iter().any(|(who, present)| present.jobs > 0 && belongs(who)) {
                return false;
            }
            // Most channels have one requester, and neighbours the same.
            let mut last: Option<(&Requester, bool)> = None;
            let mut belongs = |who| match last {
                Some((known, is_its)) if known == who => is_its,
                _ => last.insert((who, belongs(who))).1,
            };
            let mut waiting = self.lane(lane.class).iter().filter_map(|channel| self.channels.get(channel));
            waiting.any(|waiting| {
                waiting.requesters.keys().any(&mut belongs) && waiting.has_work(&self.jobs, &mut belongs)
            })
        });
    }
}

/// Nodes decide in this order until their time is used up, so requesters alternate. The releases of a channel
/// keep their order.
fn in_turns(planned: Vec<(Submission, Vec<u32>)>) -> Vec<(Submission, Vec<u32>)> {
    let mut requesters: HashMap<Requester, usize> = HashMap::new();
    let mut channels: HashMap<ChannelKey, usize> = HashMap::new();
    let mut turns: Vec<_> = planned
        .into_iter()
        .map(|item| {
            let next = requesters.entry(item.0.requester.clone()).or_default();
            let before = channels.entry(item.0.release.channel_key()).or_default();
            let turn = (*next).max(*before);
            (*next, *before) = (turn.saturating_add(1), turn);
            (turn, item)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, item)| item).collect()
}

impl Planning {
    /// Chooses a quorum for the first job that has one.
    fn choose(
        &mut self,
        refusals: &BTreeMap<NodeId, Refusal>,
        choose: &mut impl FnMut(&BTreeMap<NodeId, Refusal>) -> Option<Choice>,
    ) {
        if self.choice.is_some() || self.stuck.iter().any(|stuck| stuck.iter().eq(refusals.keys())) {
            return;
        }
        self.choice = choose(refusals);
        match &self.choice {
            Some(choice) => self.room = self.room.min(choice.stock),
            None => _ = self.stuck.insert(refusals.keys().cloned().collect()),
        }
    }

    fn is_full(&self) -> bool {
        self.room == 0 || self.planned.len() >= wire_limits::MAX_BATCH_ITEMS
    }

    /// Whether nodes have time for one more decision of this length. A single release always goes.
    fn has_time(&self, us: u64) -> bool {
        self.planned.is_empty() || self.cost_us.saturating_add(us) <= self.time
    }

    /// Adds to a release that is in it what there is room for; whether it is in it as a whole then.
    fn fills(&mut self, place: usize, job: &mut Job, expected: Expected) -> bool {
        let is_alone = self.planned.len() == 1;
        let Some((_, slots)) = self.planned.get_mut(place) else { return false };
        if !job.open.is_empty() && !job.is_first(expected) {
            let signers = self.choice.as_ref().map_or(1, |choice| choice.signers.len());
            let slot = signers.saturating_mul(COMMITMENT_BYTES).max(1);
            let mut left = self.most_bytes.saturating_sub(self.bytes) / slot;
            if is_alone {
                left = left.max((limits::LONE_COMMITMENT_BYTES / slot).saturating_sub(slots.len()));
            }
            let more = job.take(self.room.min(left));
            self.room = self.room.saturating_sub(more.len());
            self.bytes = self.bytes.saturating_add(more.len().saturating_mul(slot));
            slots.extend(more);
        }
        job.open.is_empty() && slots.len() == job.busy
    }

    fn add(&mut self, job: &Job, slots: Vec<u32>, bytes: usize, us: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.cost_us = self.cost_us.saturating_add(us);
        self.room = self.room.saturating_sub(slots.len());
        let own = self.used_by.entry(job.submission.requester.clone()).or_default();
        own.slots = own.slots.saturating_add(slots.len());
        own.us = own.us.saturating_add(us);
        self.places.insert(job.submission.release_id.clone(), self.planned.len());
        self.planned.push((job.submission.clone(), slots));
    }
}

impl Waiting {
    /// The highest place with which a batch is under way, or whose result is not durable yet.
    fn used(&self) -> Option<Place> {
        self.at_nodes.last().copied()
    }

    /// Whether the first job of these requesters that need not wait may go on.
    fn has_work<'a>(
        &self,
        jobs: &'a HashMap<ReleaseId, Job>,
        mut is_wanted: impl FnMut(&'a Requester) -> bool,
    ) -> bool {
        let used = self.used();
        let mut waits = |job: &'a Job| {
            job.awaits_evidence
                || !is_wanted(&job.submission.requester)
                || used.is_some_and(|used| job.must_wait_for(used))
        };
        // One whose result is not durable yet is no job any more: it holds up all that come after it.
        let first = self.jobs.values().map(|id| jobs.get(id)).find(|job| job.is_none_or(|job| !waits(job)));
        first.flatten().is_some_and(|job| !job.open.is_empty())
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
    fn new(submission: Submission, arrival: u64) -> Self {
        let count = submission.release.signable_count();
        Self {
            started: submission.resumed,
            place: (submission.release.sequence(), arrival),
            submission,
            signatures: vec![None; count],
            open: (0..u32::try_from(count).unwrap_or(u32::MAX)).collect(),
            busy: 0,
            key: None,
            refusals: BTreeMap::new(),
            completing: BTreeSet::new(),
            permitted_by: BTreeSet::new(),
            refused_for_good: false,
            awaits_evidence: false,
            in_vain: false,
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

    /// Whether another job with its sequence or a higher one is at nodes, so that its own number could be
    /// lost at these: it then waits unsent. A job that is at nodes below another one came there before it, or
    /// together with it.
    fn must_wait_for(&self, highest: Place) -> bool {
        match highest.0.cmp(&self.place.0) {
            Ordering::Less => false,
            Ordering::Equal => highest != self.place,
            Ordering::Greater => self.may_hold().next().is_none(),
        }
    }

    /// Whether a node may have permitted its sequence. A job resumed after a restart may have been at any
    /// node.
    fn is_used(&self) -> bool {
        self.submission.resumed || self.may_hold().next().is_some()
    }

    /// Whether one slot of it is asked for first, because it is unlikely to be signed.
    fn is_first(&self, expected: Expected) -> bool {
        expected.seldom_signed && self.permitted_by.is_empty()
    }

    /// How many of up to `room` open slots go into a batch of `so_far` bytes of `most`, and what they add to it. A release that is
    /// alone in its batch may exceed the bound, but with few commitments then; beside others it goes in as far as there is
    /// room, or not at all.
    fn fits(&self, room: usize, (so_far, most): (usize, usize), signers: usize) -> Option<Fit> {
        let evidence: usize = self.submission.evidence.iter().map(Bytes::len).sum();
        let entries = self.submission.entry.added.len().saturating_mul(limits::ADDED_BYTES);
        let own = self.submission.content_bytes.saturating_add(evidence).saturating_add(entries);
        let own = own.saturating_add(limits::ITEM_BYTES);
        let slot = signers.saturating_mul(COMMITMENT_BYTES).max(1);
        let left = most.saturating_sub(so_far.saturating_add(own));
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
        self.completing.remove(&node);
        self.refusals.insert(node, refusal);
    }

    /// A node did not sign it because of what it is; false if that was known.
    pub fn note_in_vain(&mut self) -> bool {
        !std::mem::replace(&mut self.in_vain, true)
    }

    /// Nodes that refused it, and are in its next quorum anyway.
    pub fn complete_with(&mut self, nodes: Vec<NodeId>) {
        self.completing.extend(nodes);
    }

    /// Nodes that are not asked to sign it, because of their answers.
    fn not_asked(&self) -> BTreeMap<NodeId, Refusal> {
        let others = self.refusals.iter().filter(|(node, _)| !self.completing.contains(*node));
        others.map(|(node, refusal)| (node.clone(), refusal.clone())).collect()
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

    /// Whether no signature of it exists or can still be made.
    ///
    /// Shares become a signature only in the session that they were made for: a share is bound to that
    /// session's commitments, and each node's part is used up by its one answer. A session lives only in this
    /// process. So a release can be cancelled as long as no session has any of it and none of its signatures
    /// is made:
    ///
    /// - A closed session sums nothing, whatever shares arrive late; neither does a session in which a node
    ///   refused.
    /// - Sessions of an earlier process ended with it. Their shares cannot arrive: their streams ended too, a
    ///   node answers only on the stream of the batch, and its nonces belong to that stream.
    /// - A signature that an earlier process made and did not store was shown to nobody: a result is stored
    ///   before it is reported.
    #[must_use]
    pub fn may_be_taken_back(&self) -> bool {
        self.busy == 0 && self.signatures.iter().all(Option::is_none)
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
