//! A whole ceremony in one process, for tests, benchmarks and rehearsals.
//!
//! It runs the very machines that real nodes run, and passes their messages in memory. But all secrets meet in one
//! place: **keys made here are not shared, and must not be used for real releases.**

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::ceremony::{
    AbortReason, CeremonyError, CeremonyMachine, KeySpec, NodeSpec, OrganisationSpec, Output, Proposal,
    ProposalSpec,
};
use crate::error::InvalidName;
use crate::identity::IdentityKey;
use crate::names::{KeyName, NodeId, NodeName, OrgName, Purpose};
use crate::roster::SignedRoster;
use crate::share::SigningShare;

/// Who takes part, with all secrets.
#[derive(Debug)]
pub struct Cast {
    /// What they propose.
    pub spec: ProposalSpec,
    /// Each node's identity.
    pub identities: BTreeMap<NodeId, Arc<IdentityKey>>,
    /// Each node's seed.
    pub seeds: BTreeMap<NodeId, [u8; 32]>,
}

/// The result of a rehearsal.
#[derive(Debug)]
pub struct Rehearsed {
    /// One signed roster per key, in the order of their names.
    pub rosters: Vec<SignedRoster>,
    /// Each node's share of each key.
    pub shares: BTreeMap<(NodeId, KeyName), SigningShare>,
}

/// Why a rehearsal did not end with keys.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A node has no identity or no seed.
    #[error("{0} has no identity or no seed: give one to each node of the proposal")]
    Missing(NodeId),
    /// A machine refused something.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// The ceremony ended without keys.
    #[error("the ceremony ended without keys: {0}")]
    Aborted(AbortReason),
    /// No machine had anything to do any more.
    #[error("the ceremony came to a halt")]
    Halted,
}

impl Cast {
    /// Invents nodes `<organisation>-1`, `<organisation>-2`, … with keys that follow from `seed`.
    ///
    /// `organisations` are name, threshold and number of nodes, `keys` the names of release keys.
    pub fn new(
        organisations: &[(&str, u16, u16)],
        keys: &[&str],
        seed: [u8; 32],
    ) -> Result<Self, InvalidName> {
        let mut cast = Self {
            spec: ProposalSpec {
                deadline: 86_400,
                keys: Vec::new(),
                name: KeyName::new("rehearsal")?,
                organisations: Vec::new(),
                proposed_at: 0,
            },
            identities: BTreeMap::new(),
            seeds: BTreeMap::new(),
        };
        for key in keys {
            cast.spec.keys.push(KeySpec { name: KeyName::new(*key)?, purpose: Purpose::Release });
        }
        for (organisation, threshold, count) in organisations {
            let name = OrgName::new(*organisation)?;
            let mut nodes = Vec::new();
            for number in 1..=*count {
                let id =
                    NodeId { organisation: name.clone(), node: NodeName::new(format!("{name}-{number}"))? };
                let identity = Arc::new(IdentityKey::from_bytes(&derive(&seed, "identity", &id)));
                nodes.push(NodeSpec { identity: identity.public(), name: id.node.clone() });
                cast.seeds.insert(id.clone(), derive(&seed, "seed", &id));
                cast.identities.insert(id, identity);
            }
            cast.spec.organisations.push(OrganisationSpec { name, nodes, threshold: *threshold });
        }
        Ok(cast)
    }

    /// Runs the ceremony.
    pub fn run(&self) -> Result<Rehearsed, RehearsalError> {
        run(self.spec.clone(), &self.identities, &self.seeds)
    }
}

/// Runs all machines of a ceremony until it ends. Everybody joins, and every message arrives everywhere, once.
pub fn run(
    spec: ProposalSpec,
    identities: &BTreeMap<NodeId, Arc<IdentityKey>>,
    seeds: &BTreeMap<NodeId, [u8; 32]>,
) -> Result<Rehearsed, RehearsalError> {
    let proposal = Proposal::new(spec).map_err(CeremonyError::from)?;
    let mut machines = Vec::new();
    for member in proposal.members() {
        let missing = || RehearsalError::Missing(member.id.clone());
        let identity = Arc::clone(identities.get(&member.id).ok_or_else(missing)?);
        let seed = *seeds.get(&member.id).ok_or_else(missing)?;
        let machine = CeremonyMachine::new(proposal.clone(), member.id.clone(), identity, seed)?;
        machines.push((member.id.clone(), machine));
    }
    let mut rehearsed = Rehearsed { rosters: Vec::new(), shares: BTreeMap::new() };
    let mut messages = VecDeque::new();
    for (id, machine) in &mut machines {
        messages.extend(take(id, machine.join()?, &mut rehearsed)?);
    }
    // Each goes on by itself: the phrase is there before the first of them joins.
    while let Some(message) = messages.pop_front() {
        for (id, machine) in machines.iter_mut().filter(|(id, _)| *id != message.from) {
            messages.extend(take(id, machine.receive(&message)?, &mut rehearsed)?);
        }
    }
    if rehearsed.shares.len() == machines.len() * proposal.keys().len() {
        Ok(rehearsed)
    } else {
        Err(RehearsalError::Halted)
    }
}

fn take(
    id: &NodeId,
    outputs: Vec<Output>,
    rehearsed: &mut Rehearsed,
) -> Result<Vec<crate::ceremony::CeremonyMessage>, RehearsalError> {
    let mut messages = Vec::new();
    for output in outputs {
        match output {
            Output::Send(message) => messages.push(message),
            Output::Aborted { reason, .. } => return Err(RehearsalError::Aborted(reason)),
            Output::Done { keys } => {
                rehearsed.rosters = keys.iter().map(|(roster, _)| roster.clone()).collect();
                for (roster, share) in keys {
                    rehearsed.shares.insert((id.clone(), roster.roster().key().clone()), share);
                }
            }
        }
    }
    Ok(messages)
}

fn derive(seed: &[u8; 32], label: &str, node: &NodeId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(label.as_bytes());
    hash.update([0]);
    hash.update(node.to_string().as_bytes());
    hash.finalize().into()
}
