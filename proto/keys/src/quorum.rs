//! The access rule: a signature is made by exactly as many nodes of every organisation as its threshold says.
//!
//! `frost_ed25519::round2::sign` and `aggregate` count participants in total only. So the rule per organisation is
//! checked here, by every node for itself, from its own roster.

use crate::error::QuorumError;
use crate::names::RosterHash;
use crate::roster::Roster;

/// A set of nodes that may sign together, of one roster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quorum {
    roster: RosterHash,
    indices: Vec<u16>,
}

impl Quorum {
    /// Checks strictly ascending roster indices: exactly `threshold` nodes of every organisation.
    ///
    /// More nodes than the threshold are refused too: they would make no signature safer, only cost time, and a set
    /// that nobody needs is one thing less to reason about.
    pub fn new(roster: &Roster, indices: &[u16]) -> Result<Self, QuorumError> {
        // Also bounds the work below: ascending and known means no longer than the roster.
        if !indices.is_sorted_by(|a, b| a < b) {
            return Err(QuorumError::NotAscending);
        }
        let mut present = vec![0_u16; roster.organisations().len()];
        for &index in indices {
            let count =
                roster.organisation_index(index).and_then(|organisation| present.get_mut(organisation));
            *count.ok_or(QuorumError::UnknownIndex { index, nodes: roster.node_count() })? += 1;
        }
        for (organisation, present) in roster.organisations().iter().zip(present) {
            if present != organisation.threshold {
                return Err(QuorumError::Threshold {
                    organisation: organisation.name.clone(),
                    threshold: organisation.threshold,
                    present,
                });
            }
        }
        Ok(Self { roster: roster.hash(), indices: indices.to_vec() })
    }

    /// The roster indices of the nodes, ascending.
    pub fn indices(&self) -> &[u16] {
        &self.indices
    }

    /// How many nodes sign.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Never true: a roster has an organisation, and its threshold is at least one.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Whether the node with this index takes part.
    pub fn contains(&self, index: u16) -> bool {
        self.indices.binary_search(&index).is_ok()
    }

    /// The place of a node among the signers.
    pub fn position(&self, index: u16) -> Option<usize> {
        self.indices.binary_search(&index).ok()
    }

    /// The roster that the quorum was checked against.
    pub fn roster(&self) -> RosterHash {
        self.roster
    }
}
