//! A ceremony as its custodian sees it.

use std::collections::BTreeMap;

use rutli_keys::{
    NodeId,
    ceremony::{AbortReason, CeremonyMessage, CeremonyState, SignedProposal, Step},
};
use rutli_wire::v1;

use super::{open::Open, store::End};

/// One under way. `me` is the only node whose connection this node knows of.
pub(super) fn open(open: &Open, me: &NodeId, connected: bool) -> v1::Ceremony {
    let status = open.part.status();
    let (state, reason, culprits) = match &status.state {
        CeremonyState::Proposed => (v1::CeremonyState::Proposed, String::new(), Vec::new()),
        CeremonyState::Running { .. } => (v1::CeremonyState::Running, String::new(), Vec::new()),
        // Its keys are not stored yet: it counts as running until they are.
        CeremonyState::Done => (v1::CeremonyState::Running, String::new(), Vec::new()),
        CeremonyState::Aborted { reason } => {
            (v1::CeremonyState::Aborted, reason.to_string(), culprits(reason))
        }
    };
    let nodes = status
        .nodes
        .iter()
        .map(|progress| node(&progress.node, progress.step, progress.node == *me && connected))
        .collect();
    let waiting_for = status.waiting_for.iter().map(|(node, step)| awaited(node, *step)).collect();
    let words = open.part.phrase().map(|phrase| phrase.words()).unwrap_or_default();
    v1::Ceremony { words, reason, culprits, waiting_for, ..base(&open.signed, state, nodes) }
}

/// One that has ended, with the keys that it made and that are still here.
pub(super) fn ended(
    signed: &SignedProposal,
    end: &End,
    steps: &BTreeMap<NodeId, Step>,
    keys: Vec<v1::Key>,
) -> v1::Ceremony {
    let state = if end.done { v1::CeremonyState::Done } else { v1::CeremonyState::Aborted };
    let members = signed.proposal().members().iter();
    let nodes = members.map(|member| node(&member.id, steps.get(&member.id).copied(), false)).collect();
    v1::Ceremony {
        reason: end.reason.clone(),
        culprits: end.culprits.iter().map(ToString::to_string).collect(),
        keys,
        ..base(signed, state, nodes)
    }
}

/// The last step of each node. A rejection or abort is the last, whatever came before.
pub(super) fn last_steps(messages: &[CeremonyMessage]) -> BTreeMap<NodeId, Step> {
    let mut steps = BTreeMap::new();
    for message in messages {
        let last = steps.entry(message.from.clone()).or_insert(message.step);
        *last = (*last).max(message.step);
    }
    steps
}

fn base(signed: &SignedProposal, state: v1::CeremonyState, nodes: Vec<v1::CeremonyNode>) -> v1::Ceremony {
    let proposal = signed.proposal();
    v1::Ceremony {
        ceremony_id: proposal.id().to_string(),
        state: state.into(),
        proposal: proposal.encode().to_vec(),
        proposer: signed.proposer().to_string(),
        nodes,
        deadline: proposal.deadline(),
        ..v1::Ceremony::default()
    }
}

fn node(id: &NodeId, step: Option<Step>, connected: bool) -> v1::CeremonyNode {
    let step = step.map_or("none", Step::as_str);
    v1::CeremonyNode { node: id.to_string(), step: step.into(), connected }
}

fn awaited(node: &NodeId, step: Step) -> String {
    match step {
        Step::NonceCommit | Step::NonceReveal => {
            format!("{node}: online and unsealed, for the verification phrase")
        }
        Step::Join => format!("{node}: its custodian joins or rejects"),
        step => format!("{node}: its {step}"),
    }
}

fn culprits(reason: &AbortReason) -> Vec<String> {
    reason.culprits().iter().map(ToString::to_string).collect()
}
