//! Effective shares: what makes an additive key over organisations fit flat RFC 9591 signing.
//!
//! For a quorum `S`, with `S_o` the chosen nodes of node i's organisation and `λ_i(T)` the Lagrange coefficient at zero:
//!
//! ```text
//! s_eff_i = s_i · λ_i(S_o) / λ_i(S)
//! λ_i(S_o) / λ_i(S) = ∏ (x_j − x_i) / x_j    over the chosen nodes j of the other organisations
//! ```
//!
//! Flat signing multiplies by `λ_i(S)`, so that `Σ λ_i(S) s_eff_i = Σ_o Σ λ_i(S_o) s_i = Σ_o s_o`. The second line says
//! that the ratio depends only on which foreign nodes were chosen, and costs one inversion. Verifying shares are scaled
//! by the same ratio, so that `aggregate` names the node that lied and no other.
//!
//! Callers keep the packages per quorum: making them costs about as much as a signature share.

use std::collections::BTreeMap;

use frost_ed25519::Identifier;
use frost_ed25519::keys::{KeyPackage, PublicKeyPackage, SigningShare as FrostShare, VerifyingShare};
use zeroize::Zeroizing;

use crate::curve::{self, Scalar};
use crate::error::EffectiveError;
use crate::quorum::Quorum;
use crate::roster::Roster;
use crate::share::SigningShare;

/// What `frost_ed25519::round2::sign` needs at the node with index `own`, for this quorum. Wiped on drop.
///
/// `min_signers` is the size of the quorum. Checks that the share is the one that the roster records for this node.
pub fn effective_key_package(
    roster: &Roster,
    own: u16,
    share: &SigningShare,
    quorum: &Quorum,
) -> Result<KeyPackage, EffectiveError> {
    let node = roster.node(own).ok_or(EffectiveError::NotInQuorum(own))?;
    let ratio = ratio(roster, own, quorum)?;
    if share.verifying_share() != node.verifying_share {
        return Err(EffectiveError::OtherShare(node.id.clone()));
    }
    let (identifier, verifying_share) = scaled(roster, own, &ratio)?;
    let scalar = Zeroizing::new(*share.scalar() * ratio);
    let bytes = curve::scalar_bytes(&scalar);
    let share =
        Zeroizing::new(FrostShare::deserialize(bytes.as_slice()).map_err(|_| EffectiveError::Degenerate)?);
    Ok(KeyPackage::new(identifier, *share, verifying_share, *roster.verifying_key(), size(quorum)?))
}

/// What `frost_ed25519::aggregate` needs for this quorum: the scaled verifying shares of its nodes and the group key.
pub fn effective_public_package(
    roster: &Roster,
    quorum: &Quorum,
) -> Result<PublicKeyPackage, EffectiveError> {
    let shares: BTreeMap<_, _> = quorum
        .indices()
        .iter()
        .map(|&index| scaled(roster, index, &ratio(roster, index, quorum)?))
        .collect::<Result<_, _>>()?;
    Ok(PublicKeyPackage::new(shares, *roster.verifying_key(), Some(size(quorum)?)))
}

/// `∏ (x_j − x_i) / x_j` over the foreign nodes of the quorum. Public.
fn ratio(roster: &Roster, own: u16, quorum: &Quorum) -> Result<Scalar, EffectiveError> {
    if quorum.roster() != roster.hash() {
        return Err(EffectiveError::OtherRoster);
    }
    let not_in_quorum = EffectiveError::NotInQuorum(own);
    let organisation =
        roster.organisation_index(own).filter(|_| quorum.contains(own)).ok_or(not_in_quorum)?;
    let x_i = roster.x(own).ok_or(EffectiveError::NotInQuorum(own))?;
    let mut numerator = curve::one();
    let mut denominator = curve::one();
    for &other in quorum.indices() {
        if roster.organisation_index(other) != Some(organisation) {
            let x_j = roster.x(other).ok_or(EffectiveError::NotInQuorum(other))?;
            numerator *= *x_j - *x_i;
            denominator *= *x_j;
        }
    }
    // Identifiers are neither zero nor equal, so neither is zero.
    Ok(numerator * curve::invert(&denominator).ok_or(EffectiveError::Degenerate)?)
}

fn scaled(
    roster: &Roster,
    index: u16,
    ratio: &Scalar,
) -> Result<(Identifier, VerifyingShare), EffectiveError> {
    let identifier = roster.identifier(index).ok_or(EffectiveError::NotInQuorum(index))?;
    let point = roster.point(index).ok_or(EffectiveError::NotInQuorum(index))?;
    let share = curve::verifying_share(&(*point * *ratio)).ok_or(EffectiveError::Degenerate)?;
    Ok((*identifier, share))
}

fn size(quorum: &Quorum) -> Result<u16, EffectiveError> {
    u16::try_from(quorum.len()).map_err(|_| EffectiveError::Degenerate)
}
