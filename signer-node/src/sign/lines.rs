//! The lines of the journal: which decision leaves one, and what it says.

use rutli_keys::KeyName;
use rutli_release::{Channel, ChannelKey, Class, Product, ReleaseId, Requester, Version};
use rutli_wire::link::{BatchItem, Refusal};
use sha2::{Digest, Sha256};

use crate::{
    marks::Novelty,
    policy::{Basis, Denied, PermittedRelease},
    refusals::CustodianRefusal,
};

/// What the node decided about one release: a line of its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRecord {
    /// Unix seconds, by the node's own clock.
    pub at: u64,
    /// The coordinator's name of the release.
    pub release_id: ReleaseId,
    /// Who asked, as the coordinator says.
    pub requester: Requester,
    /// The group key.
    pub key: KeyName,
    /// SHA-256 over all that was decided on ([`VerifiedRelease::digest`]).
    pub release_digest: [u8; 32],
    /// Of the release.
    pub class: Class,
    /// Of the release.
    pub product: Product,
    /// Of the release.
    pub channel: Channel,
    /// Of the release.
    pub version: Version,
    /// Of the release.
    pub sequence: u64,
    /// How many files it has.
    pub artifacts: u64,
    /// The decision.
    pub verdict: Verdict,
    /// What the policies based it on; `None` if they were not asked.
    pub basis: Option<Basis>,
    /// Custodians' refusals that were verified for it, and that the journal does not have yet.
    pub refused_by: Vec<CustodianRefusal>,
    /// SHA-256 of its statement.
    pub statement: [u8; 32],
    /// SHA-256 of its files, if it is permitted.
    pub files: Vec<[u8; 32]>,
}

impl JournalRecord {
    /// What its sequence goes up in.
    #[must_use]
    pub fn channel_key(&self) -> ChannelKey {
        ChannelKey { class: self.class, product: self.product.clone(), channel: self.channel.clone() }
    }
}

/// A decision about a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Shares may leave once this is durable.
    Permitted,
    /// None will.
    Refused(Refusal),
}

/// The journal's line for a decision. None for a permission that is durable already; and none for a release that waits, for
/// that is no decision yet: nothing leaves the node for it, it comes again every minute, and what it waited for is to be read from
/// the evidence of the line that it gets in the end.
pub(super) fn record(
    item: &BatchItem,
    key: &KeyName,
    now: u64,
    decision: &Result<(PermittedRelease, Novelty), Box<Denied>>,
) -> Option<JournalRecord> {
    match decision {
        Ok((_, Novelty::Durable)) => None,
        Ok((permitted, Novelty::New)) => {
            Some(line(item, key, now, Verdict::Permitted, Some(permitted.basis().clone())))
        }
        Err(denied) if denied.refusal.code.waits() => None,
        Err(denied) => Some(refused_line(item, key, now, Denied::clone(denied))),
    }
}

pub(super) fn refused_line(item: &BatchItem, key: &KeyName, now: u64, denied: Denied) -> JournalRecord {
    let Denied { refusal, basis, refused_by } = denied;
    JournalRecord { refused_by, ..line(item, key, now, Verdict::Refused(refusal), basis) }
}

fn line(item: &BatchItem, key: &KeyName, now: u64, verdict: Verdict, basis: Option<Basis>) -> JournalRecord {
    let release = &item.release;
    let permitted = verdict == Verdict::Permitted;
    JournalRecord {
        at: now,
        release_id: item.release_id.clone(),
        requester: item.requester.clone(),
        key: key.clone(),
        release_digest: release.digest(),
        class: release.class(),
        product: release.product().clone(),
        channel: release.channel().clone(),
        version: release.version().clone(),
        sequence: release.sequence().get(),
        artifacts: u64::try_from(release.artifacts().len()).unwrap_or(u64::MAX),
        verdict,
        basis,
        refused_by: Vec::new(),
        statement: Sha256::digest(release.statement()).into(),
        files: release.artifacts().iter().filter(|_| permitted).map(|artifact| artifact.sha256).collect(),
    }
}
