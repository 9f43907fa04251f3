//! What everybody verifies of a ceremony, without any secret: one straight function per step.

use std::collections::BTreeMap;

use ed25519_dalek::{Signature as DalekSignature, VerifyingKey as DalekKey};
use frost_ed25519::keys::dkg::round1;
use frost_ed25519::keys::{PublicKeyPackage, VerifiableSecretSharingCommitment};
use frost_ed25519::{Ciphersuite, Ed25519Sha512, Identifier, Signature};
use sha2::{Digest, Sha256};

use super::message::{CommitBody, NonceBody, ProofsBody, RevealBody, RevealedKey, RosterProof};
use super::proposal::{Member, OrganisationSpec, Proposal};
use crate::curve;
use crate::names::{CeremonyId, KeyName, NodeId, VerificationPhrase};
use crate::roster::{Roster, RosterNode, RosterOrganisation, RosterParts, verify_roster_signature};

/// Something that must not be, and who did it, as far as that can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) culprits: Vec<NodeId>,
    pub(crate) what: String,
}

/// One key as the reveals give it.
pub(crate) struct KeyMaterial {
    pub(crate) roster: Roster,
    /// By member: what it deals by the crate's key generation; none where the threshold is one.
    pub(crate) packages: Vec<Option<round1::Package>>,
}

/// The value of a `Commit`: binds the sender to the whole body of its `Reveal`, and the body to the sender.
pub(crate) fn commitment(ceremony: &CeremonyId, from: &NodeId, reveal: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"rutli/ceremony-commit/v1\0");
    hash.update(ceremony.as_bytes());
    hash.update(from.to_string().as_bytes());
    hash.update([0]);
    hash.update(reveal);
    hash.finalize().into()
}

/// The value of a `NonceCommit`: binds the sender to its `NonceReveal`, and the nonce to the sender and the proposal.
pub(crate) fn nonce_commitment(ceremony: &CeremonyId, from: &NodeId, nonce: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"rutli/ceremony-nonce/v1\0");
    hash.update(ceremony.as_bytes());
    hash.update(from.to_string().as_bytes());
    hash.update([0]);
    hash.update(nonce);
    hash.finalize().into()
}

/// What custodians read to each other: covers the proposal and every member's nonce, in the order of the members.
pub(crate) fn phrase<'a>(
    ceremony: &CeremonyId,
    nonces: impl Iterator<Item = &'a [u8; 32]>,
) -> VerificationPhrase {
    let mut hash = Sha256::new();
    hash.update(b"rutli/ceremony-phrase/v1\0");
    hash.update(ceremony.as_bytes());
    nonces.for_each(|nonce| hash.update(nonce));
    VerificationPhrase::from_bytes(hash.finalize().into())
}

/// Verifies that every nonce is the one that its sender committed to.
pub(crate) fn check_nonces(
    proposal: &Proposal,
    commits: &[&CommitBody],
    reveals: &[(&NonceBody, &[u8])],
) -> Result<(), Finding> {
    for ((member, commit), (reveal, _)) in proposal.members().iter().zip(commits).zip(reveals) {
        if nonce_commitment(&proposal.id(), &member.id, &reveal.nonce.0) != commit.commitment.0 {
            return Err(by(member, "revealed another nonce than it had committed to"));
        }
    }
    Ok(())
}

/// Hash of the bodies of all messages up to `Reveal`, in the order of step and member.
///
/// A `Deal` is not in it: its recipient checks it against the reveals, its ciphertext is random, and so a node that
/// crashed between making and publishing it may make it again.
pub(crate) fn transcript<'a>(ceremony: &CeremonyId, bodies: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"rutli/ceremony-transcript/v1\0");
    hash.update(ceremony.as_bytes());
    for body in bodies {
        hash.update(Sha256::digest(body));
    }
    hash.finalize().into()
}

/// What a node signs with its share to prove that it has it.
pub(crate) fn prove_text(ceremony: &CeremonyId, member: &Member, key: &KeyName, roster: &Roster) -> Vec<u8> {
    let mut text = b"rutli/ceremony-prove/v1\0".to_vec();
    text.extend_from_slice(ceremony.as_bytes());
    for name in [member.id.organisation.as_str(), member.id.node.as_str(), key.as_str()] {
        text.extend_from_slice(name.as_bytes());
        text.push(0);
    }
    text.extend_from_slice(&member.threshold.to_be_bytes());
    text.extend_from_slice(roster.hash().as_bytes());
    text
}

/// Verifies that every `Reveal` is what its sender committed to.
pub(crate) fn check_openings(
    proposal: &Proposal,
    commits: &[&CommitBody],
    reveals: &[(&RevealBody, &[u8])],
) -> Result<(), Finding> {
    for ((member, commit), (_, body)) in proposal.members().iter().zip(commits).zip(reveals) {
        if commitment(&proposal.id(), &member.id, body) != commit.commitment.0 {
            return Err(by(member, "revealed something else than it had committed to"));
        }
    }
    Ok(())
}

/// Verifies everything that the reveals claim, and computes one key's roster of them.
pub(crate) fn key_material(
    proposal: &Proposal,
    key: usize,
    reveals: &[&RevealBody],
    transcript: [u8; 32],
) -> Result<KeyMaterial, Finding> {
    let spec = proposal.keys().get(key).ok_or_else(|| nobody("the proposal lacks a key"))?;
    let mut packages = Vec::new();
    for (index, (member, reveal)) in proposal.members().iter().zip(reveals).enumerate() {
        let entry = reveal.keys.get(key).ok_or_else(|| by(member, "did not reveal all keys"))?;
        let identifier =
            proposal.identifier(key, index).ok_or_else(|| nobody("a member has no identifier"))?;
        packages.push(package(member, identifier, entry)?);
    }
    let entries: Vec<_> = reveals.iter().filter_map(|reveal| reveal.keys.get(key)).collect();
    let organisations = proposal
        .organisations()
        .iter()
        .enumerate()
        .map(|(index, organisation)| {
            roster_organisation(proposal, key, (index, organisation), &packages, &entries)
        })
        .collect::<Result<_, _>>()?;
    let roster = Roster::assemble(RosterParts {
        key: spec.name.clone(),
        purpose: spec.purpose,
        ceremony: proposal.id(),
        epoch: 1,
        transcript,
        organisations,
    });
    Ok(KeyMaterial { roster: roster.map_err(|error| nobody(&error.to_string()))?, packages })
}

/// Verifies that every node knows its share of every key.
///
/// Any `t_o` of these proofs together prove knowledge of the organisation's secret, by interpolation; and all of them,
/// that every node got the right share. A key chosen as the difference of others' keys (a rogue key) has shares that
/// nobody knows, and is refused here.
pub(crate) fn check_proofs(
    proposal: &Proposal,
    keys: &[KeyMaterial],
    proofs: &[&ProofsBody],
) -> Result<(), Finding> {
    for_each_proof(proposal, keys, proofs, |member, node, roster, proof| {
        let text = prove_text(&proposal.id(), member, &proof.key, roster);
        let signature = DalekSignature::from_bytes(&proof.signature.0);
        DalekKey::from_bytes(&node.verifying_share)
            .and_then(|key| key.verify_strict(&text, &signature))
            .map_err(|_| by(member, &format!("did not prove that it has its share of {}", proof.key)))
    })
}

/// Verifies that every node has signed every roster.
pub(crate) fn check_certificates(
    proposal: &Proposal,
    keys: &[KeyMaterial],
    proofs: &[&ProofsBody],
) -> Result<(), Finding> {
    for_each_proof(proposal, keys, proofs, |member, node, roster, proof| {
        verify_roster_signature(roster, node, &proof.signature.0)
            .map_err(|_| by(member, &format!("did not sign the roster of {}", proof.key)))
    })
}

fn for_each_proof(
    proposal: &Proposal,
    keys: &[KeyMaterial],
    proofs: &[&ProofsBody],
    check: impl Fn(&Member, &RosterNode, &Roster, &RosterProof) -> Result<(), Finding>,
) -> Result<(), Finding> {
    for (member, body) in proposal.members().iter().zip(proofs) {
        for (material, proof) in keys.iter().zip(&body.keys) {
            let roster = &material.roster;
            if proof.roster.0 != *roster.hash().as_bytes() {
                return Err(views_differ(member, &proof.key));
            }
            let node = roster.nodes().find(|node| node.id == member.id);
            check(member, node.ok_or_else(|| nobody("a member is not in the roster"))?, roster, proof)?;
        }
    }
    Ok(())
}

/// The sender may be honest and have been shown other messages: nobody is accused without evidence.
fn views_differ(member: &Member, key: &KeyName) -> Finding {
    nobody(&format!(
        "{} has computed another roster of {key}: somebody, a member or the relay, has shown different messages to \
         different nodes; their transcripts say which",
        member.id
    ))
}

fn by(member: &Member, what: &str) -> Finding {
    Finding { culprits: vec![member.id.clone()], what: format!("{} {what}", member.id) }
}

fn nobody(what: &str) -> Finding {
    Finding { culprits: Vec::new(), what: what.to_owned() }
}

/// One member's commitments to one key. The message's shape has been checked: as many points as the threshold says.
fn package(
    member: &Member,
    identifier: &Identifier,
    entry: &RevealedKey,
) -> Result<Option<round1::Package>, Finding> {
    let not_points =
        |_| by(member, &format!("revealed something for {} that is not a point of the curve", entry.key));
    let commitment =
        VerifiableSecretSharingCommitment::deserialize(entry.commitments.iter().map(|point| point.0))
            .map_err(not_points)?;
    let Some(proof) = entry.proof else {
        return Ok(None);
    };
    let no_proof = || by(member, &format!("did not prove that it knows what it deals of {}", entry.key));
    let public = entry.commitments.first().ok_or_else(no_proof)?;
    if !proves_knowledge(identifier, &public.0, &proof.0) {
        return Err(no_proof());
    }
    let proof = Signature::deserialize(&proof.0).map_err(|_| no_proof())?;
    Ok(Some(round1::Package::new(commitment, proof)))
}

/// The proof of knowledge of FROST's key generation (Komlo and Goldberg, figure 1, round 1, step 5): `R = μ·B − c·φ_0`
/// with `c = H(identifier, φ_0, R)`. The crate verifies it among the nodes of one organisation only; here everybody
/// verifies everybody's.
fn proves_knowledge(identifier: &Identifier, public: &[u8; 32], proof: &[u8; 64]) -> bool {
    let (r, mu) = proof.split_at(32);
    let mut preimage = identifier.serialize();
    preimage.extend_from_slice(public);
    preimage.extend_from_slice(r);
    let (Some(challenge), Ok(r)) = (Ed25519Sha512::HDKG(&preimage), <[u8; 32]>::try_from(r)) else {
        return false;
    };
    match (curve::element(public), curve::element(&r), curve::scalar(mu)) {
        (Some(public), Some(r), Some(mu)) => curve::base_times(&mu) - public * challenge == r,
        _ => false,
    }
}

/// An organisation's key and the verifying shares of its nodes.
fn roster_organisation(
    proposal: &Proposal,
    key: usize,
    (index, spec): (usize, &OrganisationSpec),
    packages: &[Option<round1::Package>],
    entries: &[&RevealedKey],
) -> Result<RosterOrganisation, Finding> {
    let members: Vec<_> = proposal.members_of(index).collect();
    let together = |what: &str| Finding {
        culprits: members.iter().map(|(_, member)| member.id.clone()).collect(),
        what: format!("the nodes of {} together {what}", spec.name),
    };
    let (public_key, shares) = if spec.threshold > 1 {
        shared_key(proposal, key, &members, packages)
            .ok_or_else(|| together("revealed a key that cannot be"))?
    } else {
        // The first node's key; all nodes hold the same share, which is the organisation's whole secret.
        let first = members.first().and_then(|(member, _)| entries.get(*member)?.commitments.first());
        let public_key = first.ok_or_else(|| together("revealed no key"))?.0;
        (public_key, vec![public_key; members.len()])
    };
    let mut nodes = Vec::new();
    for ((index, member), verifying_share) in members.iter().zip(shares) {
        let identifier = proposal.identifier(key, *index).map(Identifier::serialize);
        let identifier = identifier.and_then(|bytes| bytes.try_into().ok());
        nodes.push(RosterNode {
            id: member.id.clone(),
            identity: member.identity,
            identifier: identifier.ok_or_else(|| nobody("a member has no identifier"))?,
            verifying_share,
        });
    }
    // The coefficients of the highest degree must not cancel out: fewer nodes than the threshold would have the key.
    let mut highest = curve::identity();
    for (member, _) in members.iter().filter(|(_, member)| member.is_dealer()) {
        let point = entries.get(*member).and_then(|entry| curve::element(&entry.commitments.last()?.0));
        highest += point.ok_or_else(|| together("revealed something that is not a point"))?;
    }
    if highest == curve::identity() {
        return Err(together("revealed a key that is shared by fewer nodes than their threshold says"));
    }
    Ok(RosterOrganisation { name: spec.name.clone(), threshold: spec.threshold, public_key, nodes })
}

/// Sum of what the dealers of an organisation revealed: its key, and the verifying share of each of its nodes in order.
fn shared_key(
    proposal: &Proposal,
    key: usize,
    members: &[(usize, &Member)],
    packages: &[Option<round1::Package>],
) -> Option<([u8; 32], Vec<[u8; 32]>)> {
    let mut commitments = BTreeMap::new();
    for (member, _) in members {
        commitments
            .insert(*proposal.identifier(key, *member)?, packages.get(*member)?.as_ref()?.commitment());
    }
    let public = PublicKeyPackage::from_dkg_commitments(&commitments).ok()?;
    let share = |member: usize| {
        let share = public.verifying_shares().get(proposal.identifier(key, member)?)?;
        <[u8; 32]>::try_from(share.serialize().ok()?).ok()
    };
    let shares = members.iter().map(|(member, _)| share(*member)).collect::<Option<_>>()?;
    Some((public.verifying_key().serialize().ok()?.try_into().ok()?, shares))
}
