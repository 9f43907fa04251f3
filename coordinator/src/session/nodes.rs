//! What the engine knows of each node, and the choice of a quorum among them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use rutli_keys::{KeyName, NodeId, Roster};
use rutli_wire::link::{Condition, NodeStatus, Refusal, RefusalCode};

use super::Millis;
use crate::{commitment::Commitment, limits};

/// Names one connection of one node, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A node, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSnapshot {
    /// Which.
    pub node: NodeId,
    /// Whether it is attached.
    pub connected: bool,
    /// Of its program, when last seen.
    pub version: String,
    /// Its own word, when last seen.
    pub status: Option<NodeStatus>,
    /// Why it is excluded, if it is.
    pub culprit: Option<String>,
    /// Available commitments.
    pub commitments: usize,
    /// Seconds by which its clock is ahead of this coordinator's, if they differ much; negative: behind.
    pub clock_ahead_s: Option<i64>,
    /// Its log head, as the driver knows it.
    pub log: KnownHead,
}

/// The log head that a node reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownHead {
    /// Entries under the newest head that it ever reported.
    pub size: u64,
    /// It came back with fewer entries than it had reported before: its data is an old copy.
    pub fell_from: Option<u64>,
}

/// A quorum for the next session.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Roster indices in ascending order, with their nodes.
    pub signers: Vec<(u16, NodeId)>,
    /// Signatures that all of them have commitments for, and take in one batch; at least one.
    pub stock: usize,
}

/// All nodes ever seen or blamed.
#[derive(Debug, Default)]
pub struct Nodes(BTreeMap<NodeId, NodeState>);

#[derive(Debug, Default)]
struct NodeState {
    stream: Option<StreamId>,
    version: String,
    status: Option<NodeStatus>,
    culprit: Option<String>,
    pools: HashMap<KeyName, VecDeque<Commitment>>,
    /// Not chosen before, and why.
    suspended: Option<(Millis, String)>,
    /// Suspensions in a row.
    strikes: u32,
    /// Consistency proofs in a row that did not begin at its own head.
    log_gaps: u32,
    /// Microseconds per signature, moving average over its recent replies.
    pace_us: Option<u64>,
    /// The most signatures that it gets in one batch: half of a batch that it did not answer in time, twice
    /// one that it did.
    most: Option<usize>,
    /// Seconds by which its clock is ahead, when it last told its time.
    clock_ahead_s: Option<i64>,
    /// Sessions it takes part in now or took part in; spreads the load between equals.
    served: u64,
}

/// Codes that mean that node and coordinator disagree about the pool: only a new stream makes them agree again.
#[must_use]
pub fn is_pool_fault(code: RefusalCode) -> bool {
    code == RefusalCode::UnknownCommitment
}

/// Whether a node does not sign because of what was requested, and not because of its own state, another's, or the
/// coordinator's.
#[must_use]
pub fn is_about_release(code: RefusalCode) -> bool {
    matches!(
        code,
        RefusalCode::NotAllowed
            | RefusalCode::EvidenceMissing
            | RefusalCode::NotYet
            | RefusalCode::CustodianRefused
            | RefusalCode::SequenceBehind
            | RefusalCode::SequenceConflict
            | RefusalCode::SequenceStep
    )
}

/// Whether some organisation has fewer nodes left than its threshold, once those that refused are taken out.
#[must_use]
pub fn is_hopeless(roster: &Roster, refused: &BTreeMap<NodeId, Refusal>) -> bool {
    roster.organisations().iter().any(|organisation| {
        let left = organisation.nodes.iter().filter(|node| !refused.contains_key(&node.id)).count();
        left < usize::from(organisation.threshold)
    })
}

/// Whether a clock differs by so much that operators are warned.
#[must_use]
pub fn clock_differs(ahead_s: i64) -> bool {
    ahead_s.unsigned_abs() >= limits::CLOCK_WARNING_S
}

impl Nodes {
    pub(super) fn new(culprits: BTreeMap<NodeId, String>) -> Self {
        let state = |reason| NodeState { culprit: Some(reason), ..NodeState::default() };
        Self(culprits.into_iter().map(|(node, reason)| (node, state(reason))).collect())
    }

    pub(super) fn attach(&mut self, node: NodeId, stream: StreamId, version: String, status: NodeStatus) {
        let state = self.0.entry(node).or_default();
        state.stream = Some(stream);
        state.version = version;
        state.status = Some(status);
        state.pools.clear();
        // What it took before says nothing about it now.
        state.pace_us = None;
        state.most = None;
        state.clock_ahead_s = None;
    }

    pub(super) fn detach(&mut self, node: &NodeId) {
        if let Some(state) = self.0.get_mut(node) {
            state.stream = None;
            state.pools.clear();
        }
    }

    pub(super) fn is_current(&self, node: &NodeId, stream: StreamId) -> bool {
        self.stream(node) == Some(stream)
    }

    pub(super) fn stream(&self, node: &NodeId) -> Option<StreamId> {
        self.0.get(node).and_then(|state| state.stream)
    }

    /// Whether an attached node says that it has a key.
    pub(super) fn holds(&self, node: &NodeId, key: &KeyName) -> bool {
        self.0.get(node).filter(|state| state.stream.is_some()).is_some_and(|state| {
            state.status.iter().flat_map(|status| &status.keys).any(|(name, _)| name == key)
        })
    }

    pub(super) fn set_status(&mut self, node: &NodeId, stream: StreamId, status: NodeStatus) {
        if let Some(state) = self.0.get_mut(node).filter(|state| state.stream == Some(stream)) {
            state.status = Some(status);
        }
    }

    /// Takes announced commitments in, up to the bound; what is over it is dropped, for no honest node announces it.
    pub(super) fn stock(
        &mut self,
        node: &NodeId,
        stream: StreamId,
        key: KeyName,
        commitments: Vec<Commitment>,
    ) {
        let Some(state) = self.0.get_mut(node).filter(|state| state.stream == Some(stream)) else { return };
        if !state.pools.contains_key(&key) && state.pools.len() >= limits::MAX_POOLS_PER_NODE {
            return;
        }
        let pool = state.pools.entry(key).or_default();
        let room = limits::MAX_POOL.saturating_sub(pool.len());
        pool.extend(commitments.into_iter().take(room));
    }

    /// Takes one commitment out for good.
    pub(super) fn draw(&mut self, node: &NodeId, key: &KeyName) -> Option<Commitment> {
        self.0.get_mut(node)?.pools.get_mut(key)?.pop_front()
    }

    pub(super) fn stocked(&self, node: &NodeId, key: &KeyName) -> usize {
        self.0.get(node).and_then(|state| state.pools.get(key)).map_or(0, VecDeque::len)
    }

    /// A node answered in time: `elapsed_ms` for so many signatures.
    pub(super) fn replied(&mut self, node: &NodeId, elapsed_ms: u64, slots: usize) {
        self.answered_late(node, elapsed_ms, slots);
        if let Some(state) = self.0.get_mut(node) {
            state.strikes = 0;
            state.log_gaps = 0;
            state.suspended = None;
            state.most = state
                .most
                .map(|most| most.max(slots.saturating_mul(2)))
                .filter(|most| *most < rutli_wire::limits::MAX_BATCH_SLOTS);
        }
    }

    /// A node answered, perhaps when nobody waited for it any longer.
    pub(super) fn answered_late(&mut self, node: &NodeId, elapsed_ms: u64, slots: usize) {
        if let Some(state) = self.0.get_mut(node) {
            let slots = u64::try_from(slots).unwrap_or(u64::MAX).max(1);
            let pace = elapsed_ms.saturating_mul(1_000) / slots;
            state.pace_us = Some(state.pace_us.map_or(pace, |old| (old * 3).saturating_add(pace) / 4));
        }
    }

    /// A node did not answer in time: it gets half as much, and about as much time for that.
    pub(super) fn timed_out(&mut self, now: Millis, node: &NodeId, elapsed_ms: u64, slots: usize) {
        self.suspend(now, node, "did not answer in time");
        if let Some(state) = self.0.get_mut(node) {
            state.most = Some(state.most.unwrap_or(usize::MAX).min((slots / 2).max(1)));
            let slots = u64::try_from(slots).unwrap_or(u64::MAX).max(1);
            let pace = elapsed_ms.saturating_mul(1_000) / slots / limits::REPLY_PATIENCE;
            state.pace_us = Some(state.pace_us.unwrap_or(0).max(pace));
        }
    }

    /// A node reported its time. True if the warning about its clock begins or ends.
    pub(super) fn told_time(&mut self, node: &NodeId, ahead_s: i64) -> bool {
        let Some(state) = self.0.get_mut(node) else { return false };
        let differs = |ahead: Option<i64>| ahead.is_some_and(clock_differs);
        let before = differs(state.clock_ahead_s.replace(ahead_s));
        before != clock_differs(ahead_s)
    }

    pub(super) fn suspend(&mut self, now: Millis, node: &NodeId, reason: &str) {
        if let Some(state) = self.0.get_mut(node) {
            let doubled = limits::SUSPEND_MS.saturating_mul(1 << state.strikes.min(10));
            state.strikes = state.strikes.saturating_add(1);
            state.suspended = Some((now.plus(doubled.min(limits::SUSPEND_MOST_MS)), reason.to_owned()));
        }
    }

    /// A node refused a whole batch; true if its stream must end for that.
    pub(super) fn refused_batch(&mut self, now: Millis, node: &NodeId, refusal: &Refusal) -> bool {
        let Some(state) = self.0.get_mut(node) else { return false };
        let condition = match refusal.code {
            RefusalCode::Paused => Condition::Paused,
            RefusalCode::Sealed => Condition::Sealed,
            // It says so itself when its custodian vouched, or when it has caught up.
            RefusalCode::Closed | RefusalCode::LogForked | RefusalCode::LogCatchingUp => Condition::Closed,
            // Nothing is wrong: whoever sends knows now where its head is.
            RefusalCode::LogGap if state.log_gaps < limits::MAX_LOG_GAPS => {
                state.log_gaps += 1;
                return false;
            }
            code => {
                self.suspend(now, node, &format!("refused a batch: {} ({code})", refusal.reason));
                return is_pool_fault(code);
            }
        };
        // Its own status message follows when that changes.
        if let Some(status) = &mut state.status {
            status.condition = condition;
            status.reason.clone_from(&refusal.reason);
        }
        false
    }

    /// Leaves a node out; false if it is already.
    pub(super) fn blame(&mut self, node: &NodeId, reason: String) -> bool {
        let state = self.0.entry(node.clone()).or_default();
        let new = state.culprit.is_none();
        state.culprit.get_or_insert(reason);
        new
    }

    pub(super) fn reinstate(&mut self, node: &NodeId) {
        if let Some(state) = self.0.get_mut(node) {
            state.culprit = None;
            state.suspended = None;
            state.strikes = 0;
        }
    }

    /// When suspended nodes may be chosen again.
    pub(super) fn next_return(&self) -> impl Iterator<Item = Millis> {
        self.0
            .values()
            .filter(|state| state.stream.is_some())
            .filter_map(|state| state.suspended.as_ref().map(|(until, _)| *until))
    }

    /// Milliseconds that a node gets for so many signatures.
    pub(super) fn patience_ms(&self, node: &NodeId, slots: usize) -> u64 {
        let pace_us =
            self.0.get(node).and_then(|state| state.pace_us).unwrap_or(limits::FIRST_GUESS_MS * 1_000);
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        let own = pace_us.saturating_mul(slots).saturating_mul(limits::REPLY_PATIENCE) / 1_000;
        limits::REPLY_BASE_MS.saturating_add(own).min(limits::REPLY_MOST_MS)
    }

    /// Whether [`Nodes::choose`] would find a quorum.
    pub(super) fn are_at_hand(
        &mut self,
        now: Millis,
        roster: &Arc<Roster>,
        key: &KeyName,
        refused: &BTreeMap<NodeId, Refusal>,
    ) -> bool {
        self.end_suspensions(now);
        roster.organisations().iter().all(|organisation| {
            let at_hand =
                organisation.nodes.iter().filter(|node| self.is_at_hand(&node.id, roster, key, refused));
            at_hand.count() >= usize::from(organisation.threshold)
        })
    }

    /// For a release that too few nodes are left for because some refused it: the refusing nodes that
    /// complete a quorum, so that a node that has not answered yet is asked. Once all nodes are heard it is
    /// clear whether the release can ever be signed. Empty if all are heard, or if there is no quorum that
    /// way either.
    pub(super) fn completing(
        &mut self,
        now: Millis,
        roster: &Arc<Roster>,
        key: &KeyName,
        refused: &BTreeMap<NodeId, Refusal>,
        permitted: &BTreeSet<NodeId>,
    ) -> Vec<NodeId> {
        self.end_suspensions(now);
        let (mut completing, mut is_one_unheard) = (Vec::new(), false);
        for organisation in roster.organisations() {
            let available = organisation.nodes.iter().map(|node| &node.id);
            let available = available.filter(|node| self.is_at_hand(node, roster, key, &BTreeMap::new()));
            let (refusers, others): (Vec<_>, Vec<_>) =
                available.partition(|node| refused.contains_key(*node));
            let missing = usize::from(organisation.threshold).saturating_sub(others.len());
            if refusers.len() < missing {
                return Vec::new();
            }
            // If nobody is missing, another node may be chosen instead, and this one stays unheard.
            is_one_unheard |= missing > 0 && others.iter().any(|node| !permitted.contains(*node));
            completing.extend(refusers.into_iter().take(missing).cloned());
        }
        if is_one_unheard { completing } else { Vec::new() }
    }

    fn is_at_hand(
        &self,
        node: &NodeId,
        roster: &Roster,
        key: &KeyName,
        refused: &BTreeMap<NodeId, Refusal>,
    ) -> bool {
        !refused.contains_key(node)
            && self.stocked(node, key) > 0
            && self.0.get(node).is_some_and(|state| state.obstacle(roster).is_none())
    }

    /// Picks, in every organisation, as many nodes at hand as its threshold asks, those first that answered fastest;
    /// their roster indices in ascending order. `None` if somewhere there are too few.
    pub(super) fn choose(
        &mut self,
        now: Millis,
        roster: &Arc<Roster>,
        key: &KeyName,
        refused: &BTreeMap<NodeId, Refusal>,
    ) -> Option<Choice> {
        self.end_suspensions(now);
        let mut chosen = Vec::new();
        let mut passed_over = Vec::new();
        for organisation in roster.organisations() {
            let mut at_hand: Vec<_> = organisation
                .nodes
                .iter()
                .filter(|node| self.is_at_hand(&node.id, roster, key, refused))
                .filter_map(|node| self.0.get(&node.id).map(|state| (node, state)))
                .collect();
            // A node at half the pace of another comes after it; among about equals the one that served less.
            at_hand.sort_by_key(|(_, state)| (state.pace_us.unwrap_or(0).max(1).ilog2(), state.served));
            let threshold = usize::from(organisation.threshold);
            if at_hand.len() < threshold {
                return None;
            }
            for (place, (node, _)) in at_hand.into_iter().enumerate() {
                if place < threshold {
                    chosen.push((roster.index_of(&node.id)?, node.id.clone()));
                } else {
                    passed_over.push(node.id.clone());
                }
            }
        }
        // An old measurement fades, so that a node that was slow once is tried again.
        for node in passed_over {
            if let Some(pace) = self.0.get_mut(&node).and_then(|state| state.pace_us.as_mut()) {
                *pace -= *pace / limits::PACE_FADES;
            }
        }
        for (_, node) in &chosen {
            if let Some(state) = self.0.get_mut(node) {
                state.served = state.served.saturating_add(1);
            }
        }
        chosen.sort_unstable();
        let most = |node: &NodeId| self.0.get(node).and_then(|state| state.most).unwrap_or(usize::MAX);
        let stock = chosen.iter().map(|(_, node)| self.stocked(node, key).min(most(node))).min()?;
        Some(Choice { signers: chosen, stock })
    }

    /// What keeps a quorum from coming together, for a person; empty if nothing does. `pools`: an empty pool counts too.
    pub(super) fn missing(&mut self, now: Millis, roster: &Roster, pools: bool) -> Vec<String> {
        self.end_suspensions(now);
        roster
            .organisations()
            .iter()
            .filter_map(|organisation| {
                let obstacles: Vec<String> = organisation
                    .nodes
                    .iter()
                    .filter_map(|node| {
                        let obstacle = match self.0.get(&node.id) {
                            Some(state) => state.obstacle(roster).or_else(|| {
                                let dry = pools && self.stocked(&node.id, roster.key()) == 0;
                                dry.then(|| "has announced no nonce commitments yet".to_owned())
                            }),
                            None => Some("not connected".to_owned()),
                        };
                        obstacle.map(|obstacle| format!("{}: {obstacle}", node.id.node))
                    })
                    .collect();
                let at_hand = organisation.nodes.len() - obstacles.len();
                (at_hand < usize::from(organisation.threshold)).then(|| {
                    format!(
                        "organisation {}: {at_hand} of {} nodes at hand, {} must sign ({})",
                        organisation.name,
                        organisation.nodes.len(),
                        organisation.threshold,
                        obstacles.join("; ")
                    )
                })
            })
            .collect()
    }

    pub(super) fn snapshot(&self) -> Vec<NodeSnapshot> {
        self.0
            .iter()
            .map(|(node, state)| NodeSnapshot {
                node: node.clone(),
                connected: state.stream.is_some(),
                version: state.version.clone(),
                status: state.status.clone(),
                culprit: state.culprit.clone(),
                commitments: state.pools.values().map(VecDeque::len).sum(),
                clock_ahead_s: state.clock_ahead_s.filter(|ahead| clock_differs(*ahead)),
                log: KnownHead::default(),
            })
            .collect()
    }

    fn end_suspensions(&mut self, now: Millis) {
        for state in self.0.values_mut() {
            if state.suspended.as_ref().is_some_and(|(until, _)| *until <= now) {
                state.suspended = None;
            }
        }
    }
}

impl NodeState {
    /// Why this node cannot be chosen for a key, for a person.
    fn obstacle(&self, roster: &Roster) -> Option<String> {
        if let Some(reason) = &self.culprit {
            return Some(format!("left out as a culprit: {reason}; an operator may reinstate it"));
        }
        let (Some(_), Some(status)) = (self.stream, &self.status) else {
            return Some("not connected".to_owned());
        };
        if status.condition != Condition::Ready {
            return Some(format!("{}: {}", status.condition.as_str(), status.reason));
        }
        match status.keys.iter().find(|(name, _)| name == roster.key()) {
            None => return Some(format!("holds no share of key {}", roster.key())),
            Some((_, hash)) if *hash != roster.hash() => {
                return Some(format!("holds another roster of key {}", roster.key()));
            }
            Some(_) => {}
        }
        self.suspended.as_ref().map(|(_, reason)| reason.clone())
    }
}
