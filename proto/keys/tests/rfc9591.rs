//! The crate underneath against RFC 9591, appendix E.1, through the same functions that Rütli uses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;

use frost_ed25519::keys::{KeyPackage, PublicKeyPackage, SigningShare, VerifyingShare};
use frost_ed25519::round1::{self, NonceCommitment, SigningCommitments, SigningNonces};
use frost_ed25519::{
    Ciphersuite, Ed25519ScalarField, Ed25519Sha512, Field, Identifier, SigningPackage, VerifyingKey,
};
use frost_ed25519::{aggregate, round2};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use serde_json::Value;

const VECTORS: &str = include_str!("data/rfc9591-appendix-e1.json");

struct Participant {
    values: Value,
    package: KeyPackage,
    nonces: SigningNonces,
}

fn bytes(value: &Value, name: &str) -> Vec<u8> {
    hex::decode(value[name].as_str().unwrap()).unwrap()
}

fn participants(vectors: &Value) -> BTreeMap<Identifier, Participant> {
    let group_key = VerifyingKey::deserialize(&bytes(vectors, "group_public_key")).unwrap();
    let participant = |(number, values): (&String, &Value)| {
        let identifier = Identifier::try_from(number.parse::<u16>().unwrap()).unwrap();
        let share = SigningShare::deserialize(&bytes(values, "signing_share")).unwrap();
        let package = KeyPackage::new(identifier, share, VerifyingShare::from(share), group_key, 2);
        let nonces = signing_nonces(values, &share);
        (identifier, Participant { values: values.clone(), package, nonces })
    };
    vectors["participants"].as_object().unwrap().iter().map(participant).collect()
}

/// The crate's encoding is header (5 bytes), hiding and binding nonce, header, hiding and binding commitment.
fn signing_nonces(values: &Value, share: &SigningShare) -> SigningNonces {
    let mut encoded = round1::commit(share, &mut ChaCha20Rng::seed_from_u64(1)).0.serialize().unwrap();
    assert_eq!(encoded.len(), 5 + 64 + 5 + 64);
    encoded[5..37].copy_from_slice(&bytes(values, "hiding_nonce"));
    encoded[37..69].copy_from_slice(&bytes(values, "binding_nonce"));
    encoded[74..106].copy_from_slice(&bytes(values, "hiding_commitment"));
    encoded[106..].copy_from_slice(&bytes(values, "binding_commitment"));
    let nonces = SigningNonces::deserialize(&encoded).unwrap();
    // The commitments follow from the nonces; they are not merely repeated from the vector.
    SigningNonces::from_nonces(*nonces.hiding(), *nonces.binding())
}

#[test]
fn appendix_e_1() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let message = bytes(&vectors, "message");
    let group_key = bytes(&vectors, "group_public_key");
    let participants = participants(&vectors);
    assert_eq!(participants.len(), 2);

    // Round one: commitments.
    let mut commitments = BTreeMap::new();
    for (identifier, participant) in &participants {
        let ours = participant.nonces.commitments();
        assert_eq!(ours.hiding().serialize().unwrap(), bytes(&participant.values, "hiding_commitment"));
        assert_eq!(ours.binding().serialize().unwrap(), bytes(&participant.values, "binding_commitment"));
        let published = SigningCommitments::new(
            NonceCommitment::deserialize(&bytes(&participant.values, "hiding_commitment")).unwrap(),
            NonceCommitment::deserialize(&bytes(&participant.values, "binding_commitment")).unwrap(),
        );
        commitments.insert(*identifier, published);
    }

    // Section 4.4: binding factors, by hand.
    let mut encoded = Vec::new();
    for (identifier, commitment) in &commitments {
        encoded.extend(identifier.serialize());
        encoded.extend(commitment.hiding().serialize().unwrap());
        encoded.extend(commitment.binding().serialize().unwrap());
    }
    for (identifier, participant) in &participants {
        let mut input = group_key.clone();
        input.extend(Ed25519Sha512::H4(&message));
        input.extend(Ed25519Sha512::H5(&encoded));
        input.extend(identifier.serialize());
        let factor = Ed25519ScalarField::serialize(&Ed25519Sha512::H1(&input));
        assert_eq!(factor.to_vec(), bytes(&participant.values, "binding_factor"));
    }

    // Round two: signature shares, and the signature.
    let signing_package = SigningPackage::new(commitments, &message);
    let mut shares = BTreeMap::new();
    for (identifier, participant) in &participants {
        let share = round2::sign(&signing_package, &participant.nonces, &participant.package).unwrap();
        assert_eq!(share.serialize(), bytes(&participant.values, "signature_share"));
        shares.insert(*identifier, share);
    }
    let verifying_shares = participants.iter().map(|(id, p)| (*id, *p.package.verifying_share())).collect();
    let public =
        PublicKeyPackage::new(verifying_shares, VerifyingKey::deserialize(&group_key).unwrap(), Some(2));
    let signature = aggregate(&signing_package, &shares, &public).unwrap().serialize().unwrap();
    assert_eq!(signature, bytes(&vectors, "signature"));

    let key = ed25519_dalek::VerifyingKey::from_bytes(&group_key.try_into().unwrap()).unwrap();
    let signature = ed25519_dalek::Signature::from_slice(&signature).unwrap();
    key.verify_strict(&message, &signature).unwrap();
}
