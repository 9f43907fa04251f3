//! The access rule: every allowed quorum signs, and no other set of nodes does, whatever it computes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use common::{
    REFERENCE, THREE, TWO, is_exact, is_qualified, lagrange, rehearse, round_two, scalar, share, sign,
    subsets,
};
use frost_ed25519::keys::{
    KeyPackage, PublicKeyPackage, SigningShare as FrostShare, VerifyingShare, reconstruct,
};
use frost_ed25519::{Ed25519Group, Ed25519ScalarField, Error, Field, Group, VerifyingKey, aggregate, round2};
use rutli_keys::rehearsal::Rehearsed;
use rutli_keys::{
    EffectiveError, Quorum, QuorumError, Roster, effective_key_package, effective_public_package,
};

fn packages(rehearsed: &Rehearsed, roster: &Roster, quorum: &Quorum) -> Vec<KeyPackage> {
    let package =
        |&index: &u16| effective_key_package(roster, index, share(rehearsed, roster, index), quorum).unwrap();
    quorum.indices().iter().map(package).collect()
}

/// Key packages from any scalars, without any of our checks.
fn forged(
    roster: &Roster,
    indices: &[u16],
    scalar_of: impl Fn(u16) -> common::Scalar,
) -> (Vec<KeyPackage>, PublicKeyPackage) {
    let size = u16::try_from(indices.len()).unwrap();
    let mut packages = Vec::new();
    let mut public = BTreeMap::new();
    for &index in indices {
        let share = FrostShare::deserialize(&Ed25519ScalarField::serialize(&scalar_of(index))).unwrap();
        let identifier = *roster.identifier(index).unwrap();
        let verifying_share = VerifyingShare::from(share);
        packages.push(KeyPackage::new(identifier, share, verifying_share, *roster.verifying_key(), size));
        public.insert(identifier, verifying_share);
    }
    (packages, PublicKeyPackage::new(public, *roster.verifying_key(), Some(size)))
}

fn check_every_set(organisations: &[(&str, u16, u16)], allowed: usize) {
    let rehearsed = rehearse(organisations);
    let roster = rehearsed.rosters[0].roster();
    let mut signed = 0;
    for indices in subsets(roster.node_count()) {
        if is_exact(roster, &indices) {
            let quorum = Quorum::new(roster, &indices).unwrap();
            let public = effective_public_package(roster, &quorum).unwrap();
            let signature = sign(&packages(&rehearsed, roster, &quorum), &public).unwrap();
            assert!(common::verify_strict(roster.group_key(), &signature), "{indices:?}");
            assert!(common::openssl_accepts(roster.group_key(), &signature), "{indices:?}");
            if roster.organisations().len() > 1 {
                let part = roster.organisations()[0].public_key;
                assert!(
                    !common::openssl_accepts(&part, &signature),
                    "one organisation's part is not the key"
                );
            }
            signed += 1;
            continue;
        }
        assert!(Quorum::new(roster, &indices).is_err(), "{indices:?}");
        if indices.is_empty() || is_qualified(roster, &indices) {
            // More nodes than the thresholds ask can sign, of course, but only as the quorums that they contain.
            continue;
        }
        // Without our checks: shares as they are, for the union.
        let raw = |index| scalar(share(&rehearsed, roster, index).expose());
        let (packages, public) = forged(roster, &indices, raw);
        assert_no_signature(&packages, &public, &indices);
        // Without our checks: effective shares for whoever is there.
        let own_organisation = |index| {
            let name = &roster.organisation_of(index).unwrap().name;
            indices
                .iter()
                .copied()
                .filter(|&j| roster.organisation_of(j).unwrap().name == *name)
                .collect::<Vec<_>>()
        };
        let effective = |index| {
            let ratio = lagrange(roster, &own_organisation(index), index)
                * Ed25519ScalarField::invert(&lagrange(roster, &indices, index)).unwrap();
            raw(index) * ratio
        };
        let (packages, public) = forged(roster, &indices, effective);
        assert_no_signature(&packages, &public, &indices);
    }
    assert_eq!(signed, allowed);
}

fn assert_no_signature(packages: &[KeyPackage], public: &PublicKeyPackage, indices: &[u16]) {
    assert_eq!(sign(packages, public).unwrap_err(), Error::InvalidSignature, "{indices:?}");
}

#[test]
fn two_of_three_and_a_lone_node() {
    check_every_set(REFERENCE, 3);
}

#[test]
fn two_of_three_twice() {
    check_every_set(TWO, 9);
}

#[test]
fn three_organisations_one_of_them_replicated() {
    check_every_set(THREE, 6);
}

#[test]
fn one_organisation_alone() {
    check_every_set(&[("vendor", 3, 4)], 4);
    check_every_set(&[("vendor", 1, 1)], 1);
}

/// Effective shares reconstruct, by flat interpolation, exactly the sum of the organisations' secrets.
#[test]
fn effective_shares_are_what_plain_reconstruction_says() {
    let rehearsed = rehearse(THREE);
    let roster = rehearsed.rosters[0].roster();
    for indices in subsets(roster.node_count()).filter(|indices| is_exact(roster, indices)) {
        let quorum = Quorum::new(roster, &indices).unwrap();
        let packages = packages(&rehearsed, roster, &quorum);
        // Σ over organisations of Σ λ_i(S_o) s_i, from the definition.
        let mut secret = Ed25519ScalarField::zero();
        for organisation in roster.organisations() {
            let chosen: Vec<u16> = indices
                .iter()
                .copied()
                .filter(|&index| roster.organisation_of(index).unwrap().name == organisation.name)
                .collect();
            for &index in &chosen {
                secret +=
                    lagrange(roster, &chosen, index) * scalar(share(&rehearsed, roster, index).expose());
            }
        }
        let flat =
            packages.iter().zip(&indices).fold(Ed25519ScalarField::zero(), |sum, (package, &index)| {
                sum + lagrange(roster, &indices, index) * scalar(&package.signing_share().serialize())
            });
        assert_eq!(flat, secret);
        assert_eq!(
            Ed25519Group::serialize(&(Ed25519Group::generator() * secret)).unwrap(),
            *roster.group_key()
        );
        let by_the_crate = reconstruct(&packages).unwrap();
        assert_eq!(VerifyingKey::from(&by_the_crate), *roster.verifying_key());
        for package in &packages {
            assert_eq!(VerifyingShare::from(*package.signing_share()), *package.verifying_share());
        }
    }
}

/// With scaled verifying shares the node that lied is blamed, and no other; with unscaled ones everybody is.
#[test]
fn exactly_the_node_that_lied_is_blamed() {
    let rehearsed = rehearse(TWO);
    let roster = rehearsed.rosters[0].roster();
    let quorum = Quorum::new(roster, &[0, 2, 3, 4]).unwrap();
    let public = effective_public_package(roster, &quorum).unwrap();
    let (signing_package, honest) =
        round_two(&packages(&rehearsed, roster, &quorum), common::MESSAGE, 9).unwrap();
    for &liar in quorum.indices() {
        let identifier = *roster.identifier(liar).unwrap();
        let wrong = scalar(&honest[&identifier].serialize()) + Ed25519ScalarField::one();
        let mut shares = honest.clone();
        let wrong = round2::SignatureShare::deserialize(&Ed25519ScalarField::serialize(&wrong)).unwrap();
        shares.insert(identifier, wrong);
        let error = aggregate(&signing_package, &shares, &public).unwrap_err();
        let blamed: Vec<_> =
            error.culprits().iter().map(|id| roster.index_of_identifier(id).unwrap()).collect();
        assert_eq!(blamed, [liar]);

        let unscaled = quorum
            .indices()
            .iter()
            .map(|&i| (*roster.identifier(i).unwrap(), *roster.verifying_share(i).unwrap()));
        let unscaled = PublicKeyPackage::new(unscaled.collect(), *roster.verifying_key(), Some(4));
        let error = frost_ed25519::aggregate_custom(
            &signing_package,
            &shares,
            &unscaled,
            frost_ed25519::CheaterDetection::AllCheaters,
        );
        assert_eq!(error.unwrap_err().culprits().len(), 4);
    }
}

#[test]
fn a_quorum_says_what_is_wrong() {
    let rehearsed = rehearse(REFERENCE);
    let roster = rehearsed.rosters[0].roster();
    // 0 is supervisor-1; 1 to 3 are vendor-1 to vendor-3.
    assert_eq!(roster.node(0).unwrap().id.to_string(), "supervisor/supervisor-1");
    let refused = |indices: &[u16]| Quorum::new(roster, indices).unwrap_err();
    assert_eq!(refused(&[2, 1, 0]), QuorumError::NotAscending);
    assert_eq!(refused(&[0, 1, 1]), QuorumError::NotAscending);
    assert_eq!(refused(&[0, 1, 9]), QuorumError::UnknownIndex { index: 9, nodes: 4 });
    assert_eq!(refused(&[1, 2]).to_string(), "a signature needs exactly 1 of the nodes of supervisor, not 0");
    assert_eq!(
        refused(&[1, 2, 3]).to_string(),
        "a signature needs exactly 1 of the nodes of supervisor, not 0"
    );
    assert_eq!(refused(&[0, 1]).to_string(), "a signature needs exactly 2 of the nodes of vendor, not 1");
    assert_eq!(
        refused(&[0, 1, 2, 3]).to_string(),
        "a signature needs exactly 2 of the nodes of vendor, not 3"
    );
    let quorum = Quorum::new(roster, &[0, 1, 3]).unwrap();
    assert_eq!((quorum.len(), quorum.position(3), quorum.contains(2)), (3, Some(2), false));
}

#[test]
fn packages_are_made_only_of_what_belongs_together() {
    let rehearsed = rehearse(REFERENCE);
    let roster = rehearsed.rosters[0].roster();
    let other = rehearse(TWO);
    let foreign = Quorum::new(other.rosters[0].roster(), &[0, 1, 3, 4]).unwrap();
    let quorum = Quorum::new(roster, &[0, 1, 3]).unwrap();
    let own = share(&rehearsed, roster, 1);
    assert_eq!(effective_key_package(roster, 1, own, &foreign).unwrap_err(), EffectiveError::OtherRoster);
    assert_eq!(effective_public_package(roster, &foreign).unwrap_err(), EffectiveError::OtherRoster);
    assert_eq!(effective_key_package(roster, 2, own, &quorum).unwrap_err(), EffectiveError::NotInQuorum(2));
    assert_eq!(effective_key_package(roster, 9, own, &quorum).unwrap_err(), EffectiveError::NotInQuorum(9));
    let not_ours = share(&rehearsed, roster, 2);
    let error = effective_key_package(roster, 1, not_ours, &quorum).unwrap_err();
    assert_eq!(error, EffectiveError::OtherShare("vendor/vendor-1".parse().unwrap()));
}
