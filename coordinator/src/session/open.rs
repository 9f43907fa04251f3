//! One session under way: a quorum, a batch, and the answers so far.
//!
//! `AwaitingShares` from the moment the batch is sent; `AwaitingAggregation` once every signer answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rutli_keys::{KeyName, NodeId, Roster};
use rutli_release::{Class, ReleaseId, Requester};
use rutli_wire::link::{Batch, BatchId, BatchItem, ItemReply, Refusal, RefusalCode};

use super::{
    Millis,
    nodes::Nodes,
    queue::{Lane, Plan},
};
use crate::{
    aggregate::{AggregateItem, AggregateJob, QuorumKeys},
    commitment::Commitment,
};

/// See the module.
#[derive(Debug)]
pub struct Session {
    id: BatchId,
    /// Whose turn it was.
    pub lane: Lane,
    /// When the batch was sent.
    pub started: Millis,
    /// In the order of their roster indices.
    pub signers: Vec<NodeId>,
    quorum: Arc<QuorumKeys>,
    items: Vec<BatchItem>,
    commitments: Vec<Vec<Commitment>>,
    state: State,
}

/// A node's answers to the releases of a batch.
pub(super) struct Said {
    /// Signatures for which it decided anything.
    pub(super) decided: usize,
    /// Whether it left some undecided.
    pub(super) is_partial: bool,
    /// Milliseconds that each decision took, by class and requester.
    pub(super) costs: Vec<(Class, Requester, u64)>,
    /// Releases for which it gave no share, with how many pieces of evidence it was shown.
    pub(super) refusals: Vec<(ReleaseId, usize, Refusal)>,
    /// Nodes whose commitments it refused rightly.
    pub(super) outside: BTreeSet<NodeId>,
}

impl Said {
    /// No decision took longer than the answer. So a node's claim alone makes no requester slow.
    pub(super) fn of(session: &Session, node: &NodeId, decision_ms: &[u32], elapsed_ms: u64) -> Self {
        let (mut decided, mut is_partial, mut costs, mut refusals) = (0, false, Vec::new(), Vec::new());
        let took = decision_ms.iter().copied().chain(std::iter::repeat(0));
        for ((item, answer), ms) in session.answers_of(node).zip(took) {
            if let Err(refusal) = answer {
                refusals.push((item.release_id.clone(), item.evidence.len(), refusal.clone()));
                if refusal.code == RefusalCode::Undecided {
                    is_partial = true;
                    continue;
                }
            }
            decided += item.slots.len();
            costs.push((item.release.class(), item.requester.clone(), u64::from(ms).min(elapsed_ms)));
        }
        Self { decided, is_partial, costs, refusals, outside: session.outside_group(node) }
    }
}

#[derive(Debug)]
enum State {
    AwaitingShares { replies: BTreeMap<NodeId, Vec<ItemReply>>, deadline: Millis },
    AwaitingAggregation,
}

impl Session {
    /// Draws commitments of every signer for every slot and makes the batch. `None` if a roster or a pool does not give
    /// what the plan took for granted; the caller puts the slots back.
    pub(super) fn start(
        now: Millis,
        (id, lane): (BatchId, Lane),
        key: &KeyName,
        roster: &Roster,
        quorum: Arc<QuorumKeys>,
        (choice, releases): Plan,
        nodes: &mut Nodes,
    ) -> Option<(Self, Batch)> {
        let (indices, signers): (Vec<u16>, Vec<NodeId>) = choice.signers.into_iter().unzip();
        let mut items = Vec::with_capacity(releases.len());
        let mut commitments = Vec::with_capacity(releases.len());
        let mut count = 0;
        for (submission, slots) in releases {
            let mut bytes = Vec::with_capacity(slots.len() * signers.len());
            let mut drawn = Vec::with_capacity(slots.len() * signers.len());
            for _ in &slots {
                for node in &signers {
                    let commitment = nodes.draw(node, key)?;
                    bytes.push(commitment.bytes);
                    drawn.push(commitment);
                }
            }
            count += slots.len();
            commitments.push(drawn);
            items.push(BatchItem {
                release_id: submission.release_id,
                requester: submission.requester,
                release: submission.release,
                slots,
                commitments: bytes,
                entry: Some(submission.entry),
                evidence: submission.evidence,
            });
        }
        let batch = Batch {
            id,
            key: key.clone(),
            roster: roster.hash(),
            signers: indices,
            items: items.clone(),
            head: None,
        };
        let patience = signers.iter().map(|node| nodes.patience_ms(node, count)).max().unwrap_or_default();
        let state = State::AwaitingShares { replies: BTreeMap::new(), deadline: now.plus(patience) };
        Some((Self { id, lane, started: now, signers, quorum, items, commitments, state }, batch))
    }

    pub(super) fn id(&self) -> BatchId {
        self.id
    }

    pub(super) fn items(&self) -> &[BatchItem] {
        &self.items
    }

    /// Signatures in it.
    pub(super) fn slots(&self) -> usize {
        self.items.iter().map(|item| item.slots.len()).sum()
    }

    /// Whether a node still owes its answer.
    pub(super) fn awaits(&self, node: &NodeId) -> bool {
        matches!(&self.state, State::AwaitingShares { replies, .. }
            if self.signers.contains(node) && !replies.contains_key(node))
    }

    /// Nodes that still owe their answer.
    pub(super) fn silent(&self) -> Vec<NodeId> {
        self.signers.iter().filter(|node| self.awaits(node)).cloned().collect()
    }

    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::AwaitingShares { deadline, .. } => Some(deadline),
            State::AwaitingAggregation => None,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.state, State::AwaitingShares { replies, .. } if replies.len() == self.signers.len())
    }

    /// Takes a node's answer: `Ok(Some)` if it refuses the whole batch, `Err` if no honest node answers like that.
    pub(super) fn take_reply(
        &mut self,
        node: &NodeId,
        answer: Result<Vec<ItemReply>, Refusal>,
    ) -> Result<Option<Refusal>, String> {
        let answers = match answer {
            Ok(answers) => answers,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let fits = answers.len() == self.items.len()
            && answers.iter().zip(&self.items).all(|(answer, item)| {
                answer.as_ref().map_or(true, |shares| shares.len() == item.slots.len())
            });
        if !fits {
            return Err("answered a batch with another number of shares than it has".to_owned());
        }
        if let State::AwaitingShares { replies, .. } = &mut self.state {
            replies.insert(node.clone(), answers);
        }
        Ok(None)
    }

    /// What a node said about each release, with how many pieces of evidence it was shown.
    pub(super) fn answers_of(&self, node: &NodeId) -> impl Iterator<Item = (&BatchItem, &ItemReply)> {
        let answers = match &self.state {
            State::AwaitingShares { replies, .. } => replies.get(node),
            State::AwaitingAggregation => None,
        };
        self.items.iter().zip(answers.into_iter().flatten())
    }

    /// Nodes that announced commitments outside of the prime-order group, if this node refused a release as
    /// malformed because of them. An honest node has no other reason to call our releases malformed, so its
    /// first one shows whether it is right. For a node that refuses without a reason, at most one release is
    /// searched.
    pub(super) fn outside_group(&self, node: &NodeId) -> BTreeSet<NodeId> {
        let malformed =
            |answer: &ItemReply| answer.as_ref().is_err_and(|refusal| refusal.code == RefusalCode::Malformed);
        let refused = self.answers_of(node).position(|(_, answer)| malformed(answer));
        let Some(commitments) = refused.and_then(|place| self.commitments.get(place)) else {
            return BTreeSet::new();
        };
        let drawn = self.signers.iter().cycle().zip(commitments);
        let outside = drawn.filter(|(_, commitment)| commitment.to_frost().is_none());
        outside.map(|(signer, _)| signer.clone()).collect()
    }

    /// Keeps the items that every signer signed, and gives them to aggregation; the others leave the session with
    /// their slots.
    pub(super) fn start_aggregation(&mut self) -> (Option<AggregateJob>, Vec<(ReleaseId, Vec<u32>)>) {
        let State::AwaitingShares { replies, .. } =
            std::mem::replace(&mut self.state, State::AwaitingAggregation)
        else {
            return (None, Vec::new());
        };
        let items = std::mem::take(&mut self.items);
        let commitments = std::mem::take(&mut self.commitments);
        let mut answers: Vec<_> = self
            .signers
            .iter()
            .map(|node| replies.get(node).cloned().unwrap_or_default().into_iter())
            .collect();
        let mut put_back = Vec::new();
        let mut work = Vec::new();
        for (item, commitments) in items.into_iter().zip(commitments) {
            let of_item: Option<Vec<ItemReply>> = answers.iter_mut().map(Iterator::next).collect();
            match of_item.and_then(|replies| replies.into_iter().collect::<Result<Vec<_>, _>>().ok()) {
                Some(shares) => {
                    let (release, slots) = (Arc::clone(&item.release), item.slots.clone());
                    work.push(AggregateItem { release, slots, commitments, shares });
                    self.items.push(item);
                }
                None => put_back.push((item.release_id, item.slots)),
            }
        }
        let quorum = Arc::clone(&self.quorum);
        let job = (!work.is_empty()).then_some(AggregateJob { batch: self.id, quorum, items: work });
        (job, put_back)
    }
}
