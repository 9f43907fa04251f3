//! Which ceremonies a node takes part in: what its custodian proposes, and what others propose to it.

use std::collections::BTreeMap;

use rutli_keys::{
    IdentityPublic, KeyName, NodeId,
    ceremony::{KeySpec, OrganisationSpec, Proposal, ProposalSpec, SignedProposal},
};
use serde::Deserialize;

use crate::{error::Error, limits};

/// What a person writes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: KeyName,
    keys: Vec<KeySpec>,
    organisations: Vec<OrganisationSpec>,
    #[serde(default = "one_hour")]
    deadline_minutes: u64,
    /// One organisation with a threshold of one: said on purpose.
    #[serde(default)]
    lone: bool,
}

fn one_hour() -> u64 {
    60
}

/// Reads what a person wrote; the times are this node's.
pub(super) fn read(text: &[u8], now: u64) -> Result<Proposal, Error> {
    let written: Written = serde_json::from_slice(text)
        .map_err(|error| Error::Proposal(format!("this does not read as a proposal: {error}")))?;
    if let ([organisation], false) = (written.organisations.as_slice(), written.lone)
        && organisation.threshold == 1
    {
        return Err(Error::Proposal(format!(
            "{} alone with a threshold of 1: each of its nodes holds the whole key, and could sign without any other. Add an \
             organisation or raise the threshold; or propose it with `--lone`",
            organisation.name
        )));
    }
    let spec = ProposalSpec {
        deadline: now.saturating_add(written.deadline_minutes.saturating_mul(60)),
        keys: written.keys,
        name: written.name,
        organisations: written.organisations,
        proposed_at: now,
    };
    Proposal::new(spec).map_err(|error| Error::Proposal(error.to_string()))
}

/// Whether this node takes part: it is a member by its own identity key, every member is one that its configuration
/// knows, by the same identity key, and the time is right. The coordinator and the proposer are believed nothing.
pub(super) fn check(
    signed: &SignedProposal,
    me: &NodeId,
    identity: &IdentityPublic,
    peers: &BTreeMap<NodeId, IdentityPublic>,
    now: u64,
) -> Result<(), Error> {
    let proposal = signed.proposal();
    for member in proposal.members() {
        let stranger = |problem| Error::Stranger { node: member.id.clone(), problem };
        let known = if member.id == *me { Some(identity) } else { peers.get(&member.id) };
        match known {
            Some(known) if *known == member.identity => {}
            Some(_) => return Err(stranger("with another identity key than this node knows")),
            None => return Err(stranger("whom this node does not know")),
        }
    }
    if proposal.index_of(me).is_none() {
        return Err(Error::Proposal(format!("{me} is not among the members of the proposal")));
    }
    if proposal.proposed_at() > now.saturating_add(limits::MAX_CLOCK_SKEW_S) {
        return Err(Error::Proposal("the proposal was made in the future; compare the nodes' clocks".into()));
    }
    if proposal.deadline() <= now {
        return Err(Error::Proposal("the deadline of the proposal has passed; propose it again".into()));
    }
    Ok(())
}
