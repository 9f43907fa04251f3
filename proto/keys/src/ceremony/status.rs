//! What people see of a ceremony.

use std::fmt;

use super::message::Step;
use crate::names::NodeId;

/// Where a ceremony stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CeremonyStatus {
    /// The whole.
    pub state: CeremonyState,
    /// Each node, in canonical order.
    pub nodes: Vec<NodeProgress>,
    /// Unix seconds by which everything must be done.
    pub deadline: u64,
    /// Who must do what next: nodes, and the step awaited of them. Empty when the ceremony is over.
    pub waiting_for: Vec<(NodeId, Step)>,
}

/// The state of a ceremony, named for what it awaits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CeremonyState {
    /// Not all custodians have joined.
    Proposed,
    /// All have joined; the nodes go on by themselves.
    Running {
        /// The step that is awaited.
        step: Step,
    },
    /// All keys are made, and all nodes have certified them.
    Done,
    /// It ended without keys.
    Aborted {
        /// Why.
        reason: AbortReason,
    },
}

impl CeremonyState {
    /// One word: `proposed`, `running`, `done` or `aborted`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Running { .. } => "running",
            Self::Done => "done",
            Self::Aborted { .. } => "aborted",
        }
    }
}

/// Where one node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProgress {
    /// The node.
    pub node: NodeId,
    /// The last step it has published; none if it has not been heard of.
    pub step: Option<Step>,
    /// Whether its custodian has joined.
    pub joined: bool,
}

/// Why a ceremony ended without keys. As text: the problem, then the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AbortReason {
    /// A custodian did not agree.
    Rejected {
        /// Whose node.
        by: NodeId,
        /// In the custodian's words.
        reason: String,
    },
    /// A node or its custodian ended it.
    Aborted {
        /// Which node.
        by: NodeId,
        /// In its words.
        reason: String,
        /// Whom it accuses. An accusation is not a proof.
        accused: Vec<NodeId>,
    },
    /// Somebody did what must not be; everybody who sees the same messages finds the same.
    Misbehaviour {
        /// Who, as far as it can be known.
        culprits: Vec<NodeId>,
        /// What.
        finding: String,
    },
    /// Not everything was there in time.
    DeadlinePassed {
        /// Who had not yet done what.
        missing: Vec<(NodeId, Step)>,
    },
    /// This node received a message of its own that it did not make.
    OwnIdentityUsed {
        /// In which step.
        step: Step,
    },
}

impl AbortReason {
    /// The nodes to blame, or to ask.
    pub fn culprits(&self) -> Vec<NodeId> {
        match self {
            Self::Rejected { .. } | Self::OwnIdentityUsed { .. } => Vec::new(),
            Self::Aborted { accused, .. } => accused.clone(),
            Self::Misbehaviour { culprits, .. } => culprits.clone(),
            Self::DeadlinePassed { missing } => missing.iter().map(|(node, _)| node.clone()).collect(),
        }
    }
}

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected { by, reason } => write!(f, "{by} rejected it: {reason}"),
            Self::Aborted { by, reason, .. } => write!(f, "{by} ended it: {reason}"),
            Self::Misbehaviour { finding, .. } => {
                write!(f, "{finding}. Find out why before you propose again")
            }
            Self::DeadlinePassed { missing } => {
                f.write_str("its deadline has passed without")?;
                for (position, (node, step)) in missing.iter().enumerate() {
                    write!(f, "{} the {step} of {node}", if position == 0 { "" } else { "," })?;
                }
                f.write_str(". Propose it again when all nodes are up")
            }
            Self::OwnIdentityUsed { step } => write!(
                f,
                "somebody else has sent the {step} of this node: another process runs with its identity key, or its \
                 sealed seed was lost. Make sure that each identity key is used by one node only, then propose again"
            ),
        }
    }
}
