//! A node's secrets of a ceremony, all derived from its sealed seed: nothing else must survive a crash.
//!
//! Every random value is drawn from ChaCha20 keyed with `SHA-256(seed ‖ ceremony ‖ node ‖ label ‖ context)`, so one
//! seed gives other values in every other ceremony and for every other use. The nonce of a proof depends on the whole
//! text that it proves: no nonce ever meets two texts. The one exception are the ephemeral keys of the `age` library,
//! which draws them from the operating system itself.

use std::collections::BTreeMap;

use age::x25519;
use frost_ed25519::Identifier;
use frost_ed25519::SigningKey;
use frost_ed25519::keys::dkg;
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::CeremonyError;
use super::message::{
    Body, CommitBody, DealBody, DealtKey, DealtShare, JoinBody, NonceBody, ProofsBody, RevealBody,
    RevealedKey, RosterProof, dealt_to,
};
use super::proposal::{Member, Proposal};
use super::verify::{self, KeyMaterial};
use crate::canonical::Hex;
use crate::identity::IdentityKey;
use crate::names::NodeId;
use crate::share::SigningShare;

/// The seed, and whose it is.
pub(crate) struct Secrets {
    seed: Zeroizing<[u8; 32]>,
    own: usize,
    member: Member,
}

/// Signs every roster with the node's identity.
pub(crate) fn certify(keys: &[KeyMaterial], identity: &IdentityKey) -> Body {
    let sign = |material: &KeyMaterial| RosterProof {
        key: material.roster.key().clone(),
        roster: Hex(*material.roster.hash().as_bytes()),
        signature: Hex(material.roster.sign(identity)),
    };
    Body::Certify(ProofsBody { keys: keys.iter().map(sign).collect() })
}

/// A share that this node was dealt and that is not right, and who dealt it.
#[derive(Debug)]
pub(crate) struct BadDeal {
    pub(crate) dealer: NodeId,
    pub(crate) what: String,
}

/// Why the node has no share.
#[derive(Debug)]
pub(crate) enum NoShare {
    Dealt(BadDeal),
    Internal(CeremonyError),
}

impl Secrets {
    pub(crate) fn new(seed: [u8; 32], own: usize, member: Member) -> Self {
        Self { seed: Zeroizing::new(seed), own, member }
    }

    pub(crate) fn nonce_commit(&self, proposal: &Proposal) -> Body {
        let commitment = verify::nonce_commitment(&proposal.id(), &self.member.id, &self.nonce(proposal));
        Body::NonceCommit(CommitBody { commitment: Hex(commitment) })
    }

    pub(crate) fn nonce_reveal(&self, proposal: &Proposal) -> Body {
        Body::NonceReveal(NonceBody { nonce: Hex(self.nonce(proposal)) })
    }

    /// This node's part of the verification phrase.
    fn nonce(&self, proposal: &Proposal) -> [u8; 32] {
        let mut nonce = [0; 32];
        self.rng(proposal, "nonce", &[]).fill_bytes(&mut nonce);
        nonce
    }

    pub(crate) fn join(&self, proposal: &Proposal) -> Result<Body, CeremonyError> {
        Ok(Body::Join(JoinBody { recipient: self.age_identity(proposal)?.to_public().to_string() }))
    }

    pub(crate) fn commit(&self, proposal: &Proposal) -> Result<Body, CeremonyError> {
        let reveal = self.reveal(proposal)?.encode();
        let commitment = Hex(verify::commitment(&proposal.id(), &self.member.id, &reveal));
        Ok(Body::Commit(CommitBody { commitment }))
    }

    pub(crate) fn reveal(&self, proposal: &Proposal) -> Result<Body, CeremonyError> {
        let mut salt = [0; 32];
        self.rng(proposal, "salt", &[]).fill_bytes(&mut salt);
        let keys = (0..proposal.keys().len())
            .map(|key| self.revealed_key(proposal, key))
            .collect::<Result<_, _>>()?;
        Ok(Body::Reveal(RevealBody { keys, salt: Hex(salt) }))
    }

    /// Deals to the recipients that joined. `recipients` are the age recipients by member.
    pub(crate) fn deal(
        &self,
        proposal: &Proposal,
        keys: &[KeyMaterial],
        recipients: &[x25519::Recipient],
    ) -> Result<Body, CeremonyError> {
        let keys = keys
            .iter()
            .enumerate()
            .map(|(key, material)| self.dealt_key(proposal, key, material, recipients))
            .collect::<Result<_, _>>()?;
        Ok(Body::Deal(DealBody { keys }))
    }

    /// This node's share of one key, from what it was dealt. Verified against what the dealers revealed.
    pub(crate) fn share(
        &self,
        proposal: &Proposal,
        key: usize,
        material: &KeyMaterial,
        deals: &[&DealBody],
    ) -> Result<SigningShare, NoShare> {
        if self.member.threshold > 1 {
            return self.shared(proposal, key, material, deals);
        }
        if self.member.is_dealer() {
            return self.lone_share(proposal, key).map_err(NoShare::Internal);
        }
        let mut dealers =
            proposal.members_of(self.member.organisation).filter(|(_, member)| member.is_dealer());
        let (index, dealer) = dealers.next().ok_or_else(|| NoShare::Internal(internal("no dealer")))?;
        let share = self.open(proposal, key, (index, dealer), deals)?;
        let expected = material.roster.nodes().nth(self.own).map(|node| node.verifying_share);
        if Some(share.verifying_share()) == expected {
            Ok(share)
        } else {
            Err(bad_deal(proposal, key, dealer, "does not fit the key that it revealed"))
        }
    }

    /// Proves knowledge of the shares: an Ed25519 signature by each under its verifying share.
    pub(crate) fn prove(
        &self,
        proposal: &Proposal,
        keys: &[KeyMaterial],
        shares: &[SigningShare],
    ) -> Result<Body, CeremonyError> {
        let prove = |(material, share): (&KeyMaterial, &SigningShare)| {
            let roster = &material.roster;
            let text = verify::prove_text(&proposal.id(), &self.member, roster.key(), roster);
            let mut rng = self.rng(proposal, "prove", &text);
            let signing_key = SigningKey::deserialize(share.expose()).map_err(internal)?;
            let signature = signing_key.sign(&mut rng, &text).serialize().map_err(internal)?;
            Ok(RosterProof {
                key: roster.key().clone(),
                roster: Hex(*roster.hash().as_bytes()),
                signature: Hex(signature
                    .try_into()
                    .map_err(|_| internal("a signature of another length"))?),
            })
        };
        let keys = keys.iter().zip(shares).map(prove).collect::<Result<_, CeremonyError>>()?;
        Ok(Body::Prove(ProofsBody { keys }))
    }

    fn revealed_key(&self, proposal: &Proposal, key: usize) -> Result<RevealedKey, CeremonyError> {
        let name = key_name(proposal, key)?;
        let points = |bytes: Vec<Vec<u8>>| -> Result<Vec<Hex<32>>, CeremonyError> {
            let point =
                |bytes: Vec<u8>| bytes.try_into().map(Hex).map_err(|_| internal("a point of another length"));
            bytes.into_iter().map(point).collect()
        };
        let (commitments, proof) = if self.member.threshold > 1 {
            let (_, package) = self.part1(proposal, key)?;
            let proof = package.proof_of_knowledge().serialize().map_err(internal)?;
            let proof = proof.try_into().map_err(|_| internal("a proof of another length"))?;
            (points(package.commitment().serialize().map_err(internal)?)?, Some(Hex(proof)))
        } else if self.member.is_dealer() {
            (vec![Hex(self.lone_share(proposal, key)?.verifying_share())], None)
        } else {
            (Vec::new(), None)
        };
        Ok(RevealedKey { commitments, key: name, proof })
    }

    /// Part 1 of the crate's key generation. The same every time, because its randomness is.
    fn part1(
        &self,
        proposal: &Proposal,
        key: usize,
    ) -> Result<(dkg::round1::SecretPackage, dkg::round1::Package), CeremonyError> {
        let identifier = proposal.identifier(key, self.own).ok_or_else(|| internal("no identifier"))?;
        let nodes = u16::try_from(proposal.members_of(self.member.organisation).count()).map_err(internal)?;
        let mut rng = self.rng(proposal, "share", key_name(proposal, key)?.as_str().as_bytes());
        dkg::part1(*identifier, nodes, self.member.threshold, &mut rng).map_err(internal)
    }

    /// The whole secret of an organisation with a threshold of one, at its first node.
    fn lone_share(&self, proposal: &Proposal, key: usize) -> Result<SigningShare, CeremonyError> {
        let mut rng = self.rng(proposal, "share", key_name(proposal, key)?.as_str().as_bytes());
        let bytes = Zeroizing::new(SigningKey::new(&mut rng).serialize());
        SigningShare::from_bytes(&bytes).map_err(internal)
    }

    fn dealt_key(
        &self,
        proposal: &Proposal,
        key: usize,
        material: &KeyMaterial,
        recipients: &[x25519::Recipient],
    ) -> Result<DealtKey, CeremonyError> {
        let packages = if self.member.threshold > 1 {
            let (secret, _) = self.part1(proposal, key)?;
            dkg::part2(secret, &self.others(proposal, key, material)?).map_err(internal)?.1
        } else {
            BTreeMap::new()
        };
        let deal = |(index, to): (usize, &Member)| {
            let share = if self.member.threshold > 1 {
                let identifier = proposal.identifier(key, index).ok_or_else(|| internal("no identifier"))?;
                let package = packages.get(identifier).ok_or_else(|| internal("no package for a node"))?;
                SigningShare::from_frost(*package.signing_share()).map_err(internal)?
            } else {
                self.lone_share(proposal, key)?
            };
            let mut plaintext = Zeroizing::new([0; 64]);
            let (context, secret) = plaintext.split_at_mut(32);
            context.copy_from_slice(&self.deal_context(proposal, key, &self.member, to)?);
            secret.copy_from_slice(share.expose());
            let recipient = recipients.get(index).ok_or_else(|| internal("no recipient for a node"))?;
            let ciphertext = age::encrypt(recipient, plaintext.as_slice()).map_err(internal)?;
            Ok(DealtShare { ciphertext, to: to.id.node.clone() })
        };
        let deals = dealt_to(proposal, &self.member).map(deal).collect::<Result<_, CeremonyError>>()?;
        Ok(DealtKey { deals, key: key_name(proposal, key)? })
    }

    /// What the other nodes of the organisation revealed for a key.
    fn others(
        &self,
        proposal: &Proposal,
        key: usize,
        material: &KeyMaterial,
    ) -> Result<BTreeMap<Identifier, dkg::round1::Package>, CeremonyError> {
        let others = proposal.members_of(self.member.organisation).filter(|(index, _)| *index != self.own);
        let package = |(index, _): (usize, &Member)| {
            let package = material.packages.get(index).cloned().flatten();
            Some((*proposal.identifier(key, index)?, package?))
        };
        others.map(|other| package(other).ok_or_else(|| internal("no package of a node"))).collect()
    }

    /// Part 3 of the crate's key generation: verifies each dealt share, and sums them up.
    fn shared(
        &self,
        proposal: &Proposal,
        key: usize,
        material: &KeyMaterial,
        deals: &[&DealBody],
    ) -> Result<SigningShare, NoShare> {
        let internal_error = |error: CeremonyError| NoShare::Internal(error);
        let others = self.others(proposal, key, material).map_err(internal_error)?;
        let (secret, _) = self.part1(proposal, key).map_err(internal_error)?;
        let (secret, _) = dkg::part2(secret, &others).map_err(|error| NoShare::Internal(internal(error)))?;
        let mut dealt = BTreeMap::new();
        for (index, dealer) in
            proposal.members_of(self.member.organisation).filter(|(index, _)| *index != self.own)
        {
            let identifier = proposal
                .identifier(key, index)
                .ok_or_else(|| NoShare::Internal(internal("no identifier")))?;
            let share = self.open(proposal, key, (index, dealer), deals)?;
            dealt.insert(*identifier, dkg::round2::Package::new(*share.to_frost()));
        }
        let package = match dkg::part3(&secret, &others, &dealt) {
            Ok((package, _)) => package,
            Err(error) => return Err(self.blame(proposal, key, &error)),
        };
        let share = SigningShare::from_frost(*package.signing_share());
        share.map_err(|error| NoShare::Internal(internal(error)))
    }

    fn blame(&self, proposal: &Proposal, key: usize, error: &frost_ed25519::Error) -> NoShare {
        let culprits = error.culprits();
        let culprit = proposal.members().iter().enumerate().find(|(index, _)| {
            proposal.identifier(key, *index).is_some_and(|identifier| culprits.contains(identifier))
        });
        match culprit {
            Some((_, dealer)) => bad_deal(proposal, key, dealer, "does not fit what it revealed"),
            None => NoShare::Internal(internal(error)),
        }
    }

    /// Decrypts one share that this node was dealt.
    fn open(
        &self,
        proposal: &Proposal,
        key: usize,
        (index, dealer): (usize, &Member),
        deals: &[&DealBody],
    ) -> Result<SigningShare, NoShare> {
        let bad = |what| bad_deal(proposal, key, dealer, what);
        let dealt = deals.get(index).and_then(|body| body.keys.get(key));
        let dealt = dealt.and_then(|entry| entry.deals.iter().find(|deal| deal.to == self.member.id.node));
        let ciphertext = &dealt.ok_or_else(|| bad("is missing"))?.ciphertext;
        let identity = self.age_identity(proposal).map_err(NoShare::Internal)?;
        let plaintext = age::decrypt(&identity, ciphertext).map_err(|_| bad("cannot be decrypted"))?;
        let plaintext = Zeroizing::new(plaintext);
        let context = self.deal_context(proposal, key, dealer, &self.member).map_err(NoShare::Internal)?;
        match plaintext.split_first_chunk::<32>() {
            Some((head, share)) if *head == context => {
                SigningShare::from_bytes(share).map_err(|_| bad("is not a share"))
            }
            _ => Err(bad("was made for another purpose")),
        }
    }

    /// Stands before the share in the plaintext: age binds a ciphertext to its recipient only, not to what it is for.
    fn deal_context(
        &self,
        proposal: &Proposal,
        key: usize,
        from: &Member,
        to: &Member,
    ) -> Result<[u8; 32], CeremonyError> {
        let mut hash = Sha256::new();
        hash.update(b"rutli/ceremony-deal/v1\0");
        hash.update(proposal.id().as_bytes());
        for name in [key_name(proposal, key)?.to_string(), from.id.to_string(), to.id.to_string()] {
            hash.update(name.as_bytes());
            hash.update([0]);
        }
        Ok(hash.finalize().into())
    }

    /// The key to which shares of this ceremony are encrypted. Forgotten with the seed: whoever takes over the node
    /// later cannot read them.
    fn age_identity(&self, proposal: &Proposal) -> Result<x25519::Identity, CeremonyError> {
        let mut secret = Zeroizing::new([0; 32]);
        self.rng(proposal, "recipient", &[]).fill_bytes(secret.as_mut_slice());
        let prefix = bech32::Hrp::parse("age-secret-key-").map_err(internal)?;
        let text = bech32::encode_upper::<bech32::Bech32>(prefix, secret.as_slice()).map_err(internal)?;
        Zeroizing::new(text).parse().map_err(internal)
    }

    fn rng(&self, proposal: &Proposal, label: &str, context: &[u8]) -> WipedRng {
        let mut hash = Sha256::new();
        hash.update(b"rutli/ceremony-seed/v1\0");
        hash.update(self.seed.as_slice());
        hash.update(proposal.id().as_bytes());
        hash.update(self.member.id.to_string().as_bytes());
        hash.update([0]);
        hash.update(label.as_bytes());
        hash.update([0]);
        hash.update(context);
        let mut key: [u8; 32] = hash.finalize().into();
        let rng = WipedRng(ChaCha20Rng::from_seed(key));
        key.zeroize();
        rng
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.member.id)
    }
}

/// ChaCha20 that overwrites its state when dropped, which `rand_chacha` does not do.
struct WipedRng(ChaCha20Rng);

impl Drop for WipedRng {
    fn drop(&mut self) {
        self.0 = ChaCha20Rng::from_seed([0; 32]);
        // Keeps the compiler from leaving out a write that nobody reads.
        std::hint::black_box(&self.0);
    }
}

impl RngCore for WipedRng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.try_fill_bytes(bytes)
    }
}

impl CryptoRng for WipedRng {}

fn bad_deal(proposal: &Proposal, key: usize, dealer: &Member, what: &str) -> NoShare {
    let name = proposal.keys().get(key).map(|key| key.name.to_string()).unwrap_or_default();
    let dealer = dealer.id.clone();
    NoShare::Dealt(BadDeal { what: format!("the share of {name} that {dealer} dealt {what}"), dealer })
}

fn key_name(proposal: &Proposal, key: usize) -> Result<crate::names::KeyName, CeremonyError> {
    proposal.keys().get(key).map(|key| key.name.clone()).ok_or_else(|| internal("no such key"))
}

fn internal(error: impl ToString) -> CeremonyError {
    CeremonyError::Internal(error.to_string())
}
