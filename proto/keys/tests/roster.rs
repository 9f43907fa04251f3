//! Rosters are strict: canonical, consistent in themselves, signed by all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use common::{REFERENCE, THREE, rehearse};
use frost_ed25519::{Ed25519Group, Group};
use rutli_keys::rehearsal::Cast;
use rutli_keys::{InvalidRoster, Roster, SignedRoster};
use serde_json::{Value, json};

fn changed(bytes: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    serde_json_canonicalizer::to_vec(&value).unwrap()
}

#[test]
fn encodings_are_canonical_and_come_back() {
    for organisations in [REFERENCE, THREE] {
        let signed = rehearse(organisations).rosters.remove(0);
        for bytes in [signed.encode(), signed.roster().encode().to_vec()] {
            assert_eq!(changed(&bytes, |_| ()), bytes, "RFC 8785 says the same");
        }
        assert_eq!(SignedRoster::parse(&signed.encode()).unwrap(), signed);
        assert_eq!(Roster::parse(signed.roster().encode()).unwrap(), *signed.roster());
        assert_eq!(signed.roster().words().split(' ').count(), 8);
    }
}

#[test]
fn indices_follow_the_canonical_order() {
    let rehearsed = rehearse(THREE);
    let roster = rehearsed.rosters[0].roster();
    let names: Vec<_> = roster.nodes().map(|node| node.id.to_string()).collect();
    assert!(names.is_sorted());
    for (index, node) in (0..).zip(roster.nodes()) {
        assert_eq!(roster.node(index).unwrap(), node);
        assert_eq!(roster.index_of(&node.id), Some(index));
        assert_eq!(roster.identifier(index).unwrap().serialize(), node.identifier);
        assert_eq!(roster.index_of_identifier(roster.identifier(index).unwrap()), Some(index));
        assert_eq!(roster.verifying_share(index).unwrap().serialize().unwrap(), node.verifying_share);
        assert_eq!(roster.organisation_of(index).unwrap().name, node.id.organisation);
    }
    assert_eq!((roster.node_count(), roster.quorum_size()), (6, 4));
    assert!(
        roster.node(6).is_none() && roster.organisation_of(6).is_none() && roster.identifier(6).is_none()
    );
}

#[test]
fn every_flipped_bit_is_noticed() {
    let signed = rehearse(REFERENCE).rosters.remove(0).encode();
    for position in 0..signed.len() {
        let mut flipped = signed.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(SignedRoster::parse(&flipped).is_err(), "bit {} of byte {position}", position % 8);
    }
}

#[test]
fn only_the_canonical_form_is_read() {
    let signed = rehearse(REFERENCE).rosters.remove(0).encode();
    let text = String::from_utf8(signed.clone()).unwrap();
    let upper = text.replacen("\"group_key\":\"", "\"group_key\":\" ", 1);
    for other in [format!("{text}\n"), format!(" {text}"), text.replacen(':', ": ", 1), upper] {
        assert!(matches!(SignedRoster::parse(other.as_bytes()), Err(InvalidRoster::Encoding(_))));
    }
    for change in [
        Box::new(|value: &mut Value| value["roster"]["extra"] = json!(1)) as Box<dyn Fn(&mut Value)>,
        Box::new(|value| drop(value["roster"].as_object_mut().unwrap().remove("epoch"))),
        Box::new(|value| value["roster"]["epoch"] = json!(1.5)),
        Box::new(|value| {
            value["roster"]["group_key"] =
                json!(value["roster"]["group_key"].as_str().unwrap().to_uppercase())
        }),
        Box::new(|value| value["signatures"].as_array_mut().unwrap().reverse()),
        Box::new(|value| {
            let twice = value["signatures"][0].clone();
            value["signatures"].as_array_mut().unwrap().insert(0, twice);
        }),
    ] {
        let error = SignedRoster::parse(&changed(&signed, change)).unwrap_err();
        assert!(matches!(error, InvalidRoster::Encoding(_)), "{error}");
    }
    assert!(matches!(SignedRoster::parse(&vec![b' '; 200_000]), Err(InvalidRoster::TooLong(200_000))));
}

#[test]
fn all_signatures_and_no_others() {
    let signed = rehearse(REFERENCE).rosters.remove(0);
    let bytes = signed.encode();
    for index in 0..4 {
        let without =
            changed(&bytes, |value| drop(value["signatures"].as_array_mut().unwrap().remove(index)));
        let error = SignedRoster::parse(&without).unwrap_err();
        let node = signed.roster().node(u16::try_from(index).unwrap()).unwrap();
        assert_eq!(error, InvalidRoster::MissingSignature(node.id.clone()));
    }
    let swapped = changed(&bytes, |value| {
        value["signatures"][0]["signature"] = value["signatures"][1]["signature"].clone();
    });
    assert!(matches!(SignedRoster::parse(&swapped), Err(InvalidRoster::Signature(_))));
    let mut signatures = signed.signatures().clone();
    signatures.insert("vendor/vendor-9".parse().unwrap(), [0; 64]);
    let error = SignedRoster::new(signed.roster().clone(), signatures).unwrap_err();
    assert_eq!(error, InvalidRoster::StrangeSignature("vendor/vendor-9".to_owned()));
    let error = SignedRoster::new(signed.roster().clone(), BTreeMap::new()).unwrap_err();
    assert!(matches!(error, InvalidRoster::MissingSignature(_)));
    // A roster of another key of the same ceremony has the same nodes, but other signatures.
    let two = Cast::new(REFERENCE, &["a", "b"], [42; 32]).unwrap().run().unwrap().rosters;
    let error = SignedRoster::new(two[0].roster().clone(), two[1].signatures().clone()).unwrap_err();
    assert!(matches!(error, InvalidRoster::Signature(_)));
}

/// What a forger of a roster would like to change, with every value a valid one of its kind.
#[test]
fn a_roster_does_not_contradict_itself() {
    let signed = rehearse(THREE).rosters.remove(0);
    let bytes = signed.roster().encode();
    // Organisation 0 is auditor (replicas), 1 supervisor (lone), 2 vendor (2 of 3).
    let generator = json!(hex::encode(Ed25519Group::serialize(&Ed25519Group::generator()).unwrap()));
    type Change = Box<dyn Fn(&mut Value)>;
    let mut cases: Vec<(&str, Change)> = vec![
        ("type", Box::new(|roster| roster["type"] = json!("rutli-roster/v2"))),
        ("epoch", Box::new(|roster| roster["epoch"] = json!(0))),
        ("0 organisations", Box::new(|roster| roster["organisations"] = json!([]))),
        ("order", Box::new(|roster| roster["organisations"].as_array_mut().unwrap().reverse())),
        ("order", Box::new(|roster| roster["organisations"][2]["nodes"].as_array_mut().unwrap().reverse())),
        ("0 nodes", Box::new(|roster| roster["organisations"][2]["nodes"] = json!([]))),
        ("threshold 0", Box::new(|roster| roster["organisations"][2]["threshold"] = json!(0))),
        ("threshold 4", Box::new(|roster| roster["organisations"][2]["threshold"] = json!(4))),
        ("do not give its key", Box::new(|roster| roster["organisations"][2]["threshold"] = json!(1))),
        ("fewer nodes of vendor", Box::new(|roster| roster["organisations"][2]["threshold"] = json!(3))),
        ("fewer nodes of auditor", Box::new(|roster| roster["organisations"][0]["threshold"] = json!(2))),
        (
            "derived from its name",
            Box::new(|roster| roster["organisations"][1]["nodes"][0]["name"] = json!("other")),
        ),
        ("derived from its name", Box::new(|roster| roster["key"] = json!("other"))),
        ("derived from its name", Box::new(|roster| roster["ceremony"] = roster["transcript"].clone())),
        (
            "identity or identifier of another",
            Box::new(|roster| {
                roster["organisations"][2]["nodes"][1]["identity"] =
                    roster["organisations"][2]["nodes"][0]["identity"].clone();
            }),
        ),
    ];
    let point = generator.clone();
    cases.push(("not the sum", Box::new(move |roster| roster["group_key"] = point.clone())));
    let point = generator.clone();
    cases.push((
        "do not give its key",
        Box::new(move |roster| roster["organisations"][1]["public_key"] = point.clone()),
    ));
    for node in 0..3 {
        let point = generator.clone();
        cases.push((
            "vendor",
            Box::new(move |roster| {
                roster["organisations"][2]["nodes"][node]["verifying_share"] = point.clone();
            }),
        ));
    }
    for (says, change) in cases {
        let error = Roster::parse(&changed(bytes, change)).unwrap_err().to_string();
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
}

/// A rogue roster: an organisation's key and share are replaced by a key that cancels out all others.
#[test]
fn a_forged_group_key_needs_the_nodes_signatures() {
    let signed = rehearse(REFERENCE).rosters.remove(0);
    let vendor = signed.roster().organisations()[1].public_key;
    let vendor = Ed25519Group::deserialize(&vendor).unwrap();
    let rogue = Ed25519Group::generator() - vendor;
    let rogue = json!(hex::encode(Ed25519Group::serialize(&rogue).unwrap()));
    let forged = changed(&signed.encode(), |value| {
        let roster = &mut value["roster"];
        roster["group_key"] =
            json!(hex::encode(Ed25519Group::serialize(&Ed25519Group::generator()).unwrap()));
        roster["organisations"][0]["public_key"] = rogue.clone();
        roster["organisations"][0]["nodes"][0]["verifying_share"] = rogue;
    });
    let error = SignedRoster::parse(&forged).unwrap_err();
    assert!(matches!(error, InvalidRoster::Signature(_)), "{error}");
}
