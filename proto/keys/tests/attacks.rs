//! The ceremony among nodes that lie, a relay that cheats, and outsiders. Nobody gets keys, and the right one is named.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/stage.rs"]
mod stage;

use common::{REFERENCE, THREE, TWO};
use frost_ed25519::{Ed25519Group, Ed25519ScalarField, Field, Group};
use rutli_keys::NodeId;
use rutli_keys::ceremony::{CeremonyError, CeremonyMessage, CeremonyObserver, CeremonyState, Received, Step};
use serde_json::{Value, json};
use stage::{Stage, commitment, honest_message};

type Change = Box<dyn Fn(&mut Value)>;

/// A stage on which one node's message of one step is changed, and signed by that node all the same. If it is a reveal,
/// its commit is made to fit.
fn with_liar(organisations: &[(&str, u16, u16)], liar: &str, step: Step, change: Change) -> Stage {
    let mut stage = Stage::new(organisations, &["release"], 21);
    let honest = |step| honest_message(organisations, 21, liar, step);
    let forged = stage.forge(&honest(step), &change);
    let commit = (step == Step::Reveal)
        .then(|| stage.forge(&honest(Step::Commit), |body| body["commitment"] = commitment(&forged)));
    replace(&mut stage, forged, commit);
    stage
}

/// The liar's messages in the queue to the relay are exchanged for the forged ones.
fn replace(stage: &mut Stage, forged: CeremonyMessage, commit: Option<CeremonyMessage>) {
    stage.join_all();
    while !stage.queue.is_empty() {
        for message in &mut stage.queue {
            for forged in commit.iter().chain([&forged]) {
                if message.from == forged.from && message.step == forged.step {
                    *message = forged.clone();
                }
            }
        }
        stage.step();
    }
}

/// Everybody else ends the ceremony, for this reason, and blames the liar.
fn assert_blamed(stage: &Stage, liar: &str, says: &str) {
    stage.assert_aborted(&[liar]);
    for id in stage.ids().iter().map(ToString::to_string).filter(|id| id != liar) {
        let (reason, culprits) = stage.end_of(&id);
        assert_eq!(culprits, [liar], "{id}: {reason}");
    }
    let CeremonyState::Aborted { reason } = stage.relay.status().state else {
        panic!("the relay sees {:?}", stage.relay.status().state);
    };
    assert!(reason.to_string().contains(says), "{reason} does not say {says:?}");
}

/// A node that chooses its nonce once it has seen the others' could look for a phrase.
#[test]
fn another_nonce_than_committed_to_is_found() {
    for liar in ["vendor/vendor-3", SUPERVISOR] {
        let change = |body: &mut Value| body["nonce"] = json!("07".repeat(32));
        let stage = with_liar(REFERENCE, liar, Step::NonceReveal, Box::new(change));
        assert_blamed(&stage, liar, "revealed another nonce than it had committed to");
        assert!(stage.relay.phrase().is_none());
    }
}

/// Two nonces of one node, shown to different members.
#[test]
fn two_nonces_of_one_node_are_found() {
    let change = |body: &mut Value| body["nonce"] = json!("07".repeat(32));
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    stage.join_all();
    stage.run();
    let honest = honest_message(REFERENCE, 21, SUPERVISOR, Step::NonceReveal);
    let second = stage.forge(&honest, change);
    let mut fresh = CeremonyObserver::new(stage.proposal.clone());
    assert_eq!(fresh.receive(&honest), Ok(Received::New));
    fresh.receive(&second).unwrap();
    let CeremonyState::Aborted { reason } = fresh.status().state else { panic!("{:?}", fresh.status()) };
    assert_eq!(reason.culprits(), [SUPERVISOR.parse().unwrap()]);
}

fn point(hex_digits: &Value) -> <Ed25519Group as Group>::Element {
    let bytes: [u8; 32] = hex::decode(hex_digits.as_str().unwrap()).unwrap().try_into().unwrap();
    Ed25519Group::deserialize(&bytes).unwrap()
}

fn text(point: &<Ed25519Group as Group>::Element) -> Value {
    Value::String(hex::encode(Ed25519Group::serialize(point).unwrap()))
}

/// X − Y_V, with a secret x of the third party's choice: the sum with the vendor's key would be x·B.
fn rogue_key() -> Value {
    let mut vendor = Ed25519Group::identity();
    for node in ["vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"] {
        let reveal = honest_message(REFERENCE, 21, node, Step::Reveal);
        let body: Value = serde_json::from_slice(&reveal.body).unwrap();
        vendor += point(&body["keys"][0]["commitments"][0]);
    }
    let x = Ed25519ScalarField::one() + Ed25519ScalarField::one();
    text(&(Ed25519Group::generator() * x - vendor))
}

const SUPERVISOR: &str = "supervisor/supervisor-1";

#[test]
fn a_rogue_key_chosen_after_the_others_is_not_what_was_committed_to() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    let reveal = honest_message(REFERENCE, 21, SUPERVISOR, Step::Reveal);
    let forged = stage.forge(&reveal, |body| body["keys"][0]["commitments"][0] = rogue_key());
    replace(&mut stage, forged, None);
    assert_blamed(&stage, SUPERVISOR, "something else than it had committed to");
}

/// Even if the third party knew the vendor's keys before it committed, it cannot prove that it knows its share.
#[test]
fn a_rogue_key_has_no_proof() {
    let rogue = rogue_key();
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    let reveal = stage.forge(&honest_message(REFERENCE, 21, SUPERVISOR, Step::Reveal), |body| {
        body["keys"][0]["commitments"][0] = rogue;
    });
    let commit = stage.forge(&honest_message(REFERENCE, 21, SUPERVISOR, Step::Commit), |body| {
        body["commitment"] = commitment(&reveal);
    });
    stage.join_all();
    let mut prove: Option<CeremonyMessage> = None;
    while !stage.queue.is_empty() {
        for message in stage.queue.iter_mut().filter(|message| message.from.to_string() == SUPERVISOR) {
            match message.step {
                Step::Commit => *message = commit.clone(),
                Step::Reveal => *message = reveal.clone(),
                _ => {}
            }
        }
        // The liar says no more of what its honest machine would, and does the best that it can: it names the roster
        // that all others compute, and signs by some key it has.
        let honest = |message: &CeremonyMessage| {
            message.from.to_string() != SUPERVISOR
                || message.step < Step::Prove
                || Some(message) == prove.as_ref()
        };
        stage.queue.retain(honest);
        let others = stage
            .queue
            .iter()
            .find(|message| message.step == Step::Prove && message.from.to_string() != SUPERVISOR);
        if let (None, Some(others)) = (&prove, others) {
            let others: Value = serde_json::from_slice(&others.body).unwrap();
            let own = honest_message(REFERENCE, 21, SUPERVISOR, Step::Prove);
            let own =
                stage.forge(&own, |body| body["keys"][0]["roster"] = others["keys"][0]["roster"].clone());
            stage.queue.push_back(own.clone());
            prove = Some(own);
        }
        stage.step();
    }
    assert_blamed(&stage, SUPERVISOR, "did not prove that it has its share of release");
}

#[test]
fn a_key_copied_from_another_has_no_proof() {
    let organisations: &[(&str, u16, u16)] = &[("a", 1, 1), ("b", 1, 1)];
    let reveal = honest_message(organisations, 21, "b/b-1", Step::Reveal);
    let body: Value = serde_json::from_slice(&reveal.body).unwrap();
    let copied = body["keys"][0]["commitments"][0].clone();
    let stage = with_liar(
        organisations,
        "a/a-1",
        Step::Reveal,
        Box::new(move |body| {
            body["keys"][0]["commitments"][0] = copied.clone();
        }),
    );
    // Its own machine computes another roster than all others, and says so.
    stage.assert_aborted(&[]);
}

#[test]
fn a_polynomial_of_another_degree_is_refused() {
    let longer = |body: &mut Value| {
        let commitments = body["keys"][0]["commitments"].as_array_mut().unwrap();
        commitments.push(commitments[0].clone());
    };
    let shorter = |body: &mut Value| {
        body["keys"][0]["commitments"].as_array_mut().unwrap().pop();
    };
    let none = |body: &mut Value| body["keys"][0]["commitments"] = json!([]);
    for (liar, change, says) in [
        ("vendor/vendor-2", Box::new(longer) as Change, "commits to 3 coefficients for release, not 2"),
        ("vendor/vendor-2", Box::new(shorter), "commits to 1 coefficients for release, not 2"),
        (SUPERVISOR, Box::new(longer), "commits to 2 coefficients for release, not 1"),
        (SUPERVISOR, Box::new(none), "commits to 0 coefficients for release, not 1"),
    ] {
        assert_blamed(&with_liar(REFERENCE, liar, Step::Reveal, change), liar, says);
    }
    // A replica that is not the first reveals nothing.
    let stage = with_liar(
        THREE,
        "auditor/auditor-2",
        Step::Reveal,
        Box::new(|body| {
            body["keys"][0]["commitments"] =
                json!([hex::encode(Ed25519Group::serialize(&Ed25519Group::generator()).unwrap())]);
        }),
    );
    assert_blamed(&stage, "auditor/auditor-2", "commits to 1 coefficients for release, not 0");
}

/// All nodes of an organisation together let their highest coefficients cancel out: one node alone would have the key.
#[test]
fn a_degree_that_cancels_out_is_refused() {
    let mut others = Ed25519Group::identity();
    for node in ["vendor/vendor-1", "vendor/vendor-2"] {
        let reveal = honest_message(REFERENCE, 21, node, Step::Reveal);
        let body: Value = serde_json::from_slice(&reveal.body).unwrap();
        others += point(&body["keys"][0]["commitments"][1]);
    }
    let cancelling = text(&(Ed25519Group::identity() - others));
    let stage = with_liar(
        REFERENCE,
        "vendor/vendor-3",
        Step::Reveal,
        Box::new(move |body| {
            body["keys"][0]["commitments"][1] = cancelling.clone();
        }),
    );
    stage.assert_aborted(&["vendor/vendor-3"]);
    let (reason, culprits) = stage.end_of(SUPERVISOR);
    assert!(reason.contains("shared by fewer nodes than their threshold says"), "{reason}");
    assert_eq!(culprits, ["vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"]);
}

#[test]
fn what_is_no_point_of_the_group_is_refused() {
    let neutral = "0100000000000000000000000000000000000000000000000000000000000000";
    let order8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    let no_point = "0200000000000000000000000000000000000000000000000000000000000000";
    let not_canonical = "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    for bad in [neutral, order8, no_point, not_canonical] {
        for (liar, position) in [(SUPERVISOR, 0), ("vendor/vendor-1", 0), ("vendor/vendor-1", 1)] {
            let change = move |body: &mut Value| body["keys"][0]["commitments"][position] = json!(bad);
            let stage = with_liar(REFERENCE, liar, Step::Reveal, Box::new(change));
            assert_blamed(&stage, liar, "not a point of the curve");
        }
    }
}

#[test]
fn a_wrong_proof_of_knowledge_is_refused_by_everybody() {
    // Of another node, and of nobody.
    let another = honest_message(REFERENCE, 21, "vendor/vendor-1", Step::Reveal);
    let another: Value = serde_json::from_slice(&another.body).unwrap();
    for proof in [another["keys"][0]["proof"].clone(), json!("00".repeat(64)), json!("ff".repeat(64))] {
        let change = move |body: &mut Value| body["keys"][0]["proof"] = proof.clone();
        let stage = with_liar(REFERENCE, "vendor/vendor-2", Step::Reveal, Box::new(change));
        assert_blamed(&stage, "vendor/vendor-2", "did not prove that it knows what it deals of release");
    }
    let absent = |body: &mut Value| drop(body["keys"][0].as_object_mut().unwrap().remove("proof"));
    let stage = with_liar(REFERENCE, "vendor/vendor-2", Step::Reveal, Box::new(absent));
    assert_blamed(&stage, "vendor/vendor-2", "is missing or not wanted");
}

#[test]
fn a_wrong_proof_of_the_share_is_refused() {
    for (node, signer) in [("vendor/vendor-2", "vendor/vendor-1"), (SUPERVISOR, "vendor/vendor-1")] {
        let another = honest_message(REFERENCE, 21, signer, Step::Prove);
        let another: Value = serde_json::from_slice(&another.body).unwrap();
        for proof in [another["keys"][0]["signature"].clone(), json!("00".repeat(64)), json!("ff".repeat(64))]
        {
            let change = move |body: &mut Value| body["keys"][0]["signature"] = proof.clone();
            let stage = with_liar(REFERENCE, node, Step::Prove, Box::new(change));
            assert_blamed(&stage, node, "did not prove that it has its share of release");
        }
    }
}

#[test]
fn without_a_proof_nobody_certifies() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    stage.join_all();
    while !stage.queue.is_empty() {
        stage
            .queue
            .retain(|message| !(message.step == Step::Prove && message.from.to_string() == SUPERVISOR));
        stage.step();
    }
    // But for the silent node itself, which has its proof.
    let certificates = stage.relay.messages().filter(|message| message.step == Step::Certify);
    assert!(certificates.map(|message| message.from.to_string()).all(|from| from == SUPERVISOR));
    assert_eq!(stage.relay.status().waiting_for, [(SUPERVISOR.parse().unwrap(), Step::Prove)]);
    let deadline = stage.proposal.deadline();
    stage.tick(deadline + 1);
    stage.run();
    // The silent node itself thinks that it has sent everything, and hears of the end by the others.
    stage.assert_aborted(&[]);
    let (reason, culprits) = stage.end_of("vendor/vendor-1");
    assert!(reason.contains("without the prove of supervisor/supervisor-1"), "{reason}");
    assert_eq!(culprits, [SUPERVISOR]);
}

#[test]
fn a_wrong_certificate_is_refused() {
    let another = honest_message(REFERENCE, 21, "vendor/vendor-1", Step::Certify);
    let another: Value = serde_json::from_slice(&another.body).unwrap();
    let change =
        move |body: &mut Value| body["keys"][0]["signature"] = another["keys"][0]["signature"].clone();
    let stage = with_liar(REFERENCE, "vendor/vendor-2", Step::Certify, Box::new(change));
    // The liar may believe that it is done, with the honest certificate that it kept for itself: of no use to anybody
    // else, since no other node stores its share.
    assert!(stage.relay.rosters().is_none());
    for id in stage.ids().iter().map(ToString::to_string).filter(|id| id != "vendor/vendor-2") {
        let (reason, culprits) = stage.end_of(&id);
        assert!(reason.contains("did not sign the roster of release"), "{reason}");
        assert_eq!(culprits, ["vendor/vendor-2"]);
    }
}

/// The third party shows vendor-1 another key than it shows the others, with everything that belongs to it.
#[test]
fn equivocation_ends_without_a_certificate() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    let victim: NodeId = "vendor/vendor-1".parse().unwrap();
    let reveal = honest_message(REFERENCE, 21, SUPERVISOR, Step::Reveal);
    let generator = text(&Ed25519Group::generator());
    let reveal = stage.forge(&reveal, |body| body["keys"][0]["commitments"][0] = generator);
    let commit = honest_message(REFERENCE, 21, SUPERVISOR, Step::Commit);
    let commit = stage.forge(&commit, |body| body["commitment"] = commitment(&reveal));
    stage.hand = Box::new(move |to, message| {
        let shown = match message.step {
            Step::Commit if *to == victim && message.from == commit.from => &commit,
            Step::Reveal if *to == victim && message.from == reveal.from => &reveal,
            _ => message,
        };
        vec![shown.clone()]
    });
    stage.play();
    stage.assert_aborted(&[]);
    assert!(stage.relay.messages().all(|message| message.step != Step::Certify));
    for id in stage.ids() {
        let (reason, culprits) = stage.end_of(&id.to_string());
        assert!(reason.contains("different messages to different nodes"), "{id}: {reason}");
        assert!(culprits.is_empty(), "honest nodes are not accused: {culprits:?}");
    }
}

/// Whoever shows two signed messages of one step to the same eyes has convicted itself.
#[test]
fn two_messages_of_one_step_are_a_proof() {
    for step in [Step::Join, Step::Commit, Step::Reveal, Step::Prove, Step::Certify] {
        let mut stage = Stage::new(REFERENCE, &["release"], 21);
        let honest = honest_message(REFERENCE, 21, SUPERVISOR, step);
        let other = honest_message(REFERENCE, 22, SUPERVISOR, step);
        let second = stage.forge_raw(&honest, other.body);
        let observer: NodeId = "vendor/vendor-1".parse().unwrap();
        stage.deliver(&observer, &honest);
        stage.deliver(&observer, &second);
        let (reason, culprits) = stage.end_of("vendor/vendor-1");
        assert_eq!(culprits, [SUPERVISOR]);
        assert!(reason.contains(&format!("signed two different {step} messages")), "{reason}");
        // Also to the node itself: somebody else has its key.
        let own: NodeId = SUPERVISOR.parse().unwrap();
        let mut stage = Stage::new(REFERENCE, &["release"], 21);
        stage.join_all();
        stage.deliver(&own, &second);
        stage.run();
        stage.assert_aborted(&["vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"]);
    }
}

/// The dealer's lie is seen by its victim only, who accuses it.
#[test]
fn a_wrong_share_is_found_by_its_recipient() {
    let other_ceremony = |organisations, from| {
        let body: Value =
            serde_json::from_slice(&honest_message(organisations, 23, from, Step::Deal).body).unwrap();
        body["keys"][0]["deals"][0].clone()
    };
    for (organisations, dealer, victim) in
        [(TWO, "vendor/vendor-1", "vendor/vendor-2"), (THREE, "auditor/auditor-1", "auditor/auditor-2")]
    {
        let garbage = |body: &mut Value| body["keys"][0]["deals"][0]["ciphertext"] = json!("AAAA");
        let foreign = other_ceremony(organisations, dealer);
        let foreign = move |body: &mut Value| body["keys"][0]["deals"][0] = foreign.clone();
        for change in [Box::new(garbage) as Change, Box::new(foreign)] {
            let stage = with_liar(organisations, dealer, Step::Deal, change);
            stage.assert_aborted(&[]);
            let (reason, culprits) = stage.end_of("vendor/vendor-3");
            assert!(
                reason.contains(&format!("the share of release that {dealer} dealt cannot be decrypted")),
                "{reason}"
            );
            assert!(reason.starts_with(&format!("{victim} ended it")), "{reason}");
            assert_eq!(culprits, [dealer]);
        }
    }
}

/// Well encrypted, for the right node and purpose, but not the share that fits the reveal.
#[test]
fn a_share_that_does_not_fit_is_found_by_its_recipient() {
    for (organisations, dealer, victim) in
        [(TWO, "vendor/vendor-1", "vendor/vendor-2"), (THREE, "auditor/auditor-1", "auditor/auditor-2")]
    {
        let join = honest_message(organisations, 21, victim, Step::Join);
        let join: Value = serde_json::from_slice(&join.body).unwrap();
        let recipient: age::x25519::Recipient = join["recipient"].as_str().unwrap().parse().unwrap();
        let mut context = b"rutli/ceremony-deal/v1\0".to_vec();
        context.extend(honest_message(organisations, 21, dealer, Step::Join).ceremony.as_bytes());
        context.extend(format!("release\0{dealer}\0{victim}\0").bytes());
        let context = <sha2::Sha256 as sha2::Digest>::digest(&context);
        let encrypted = |context: &[u8], share: &[u8]| {
            use base64::Engine;
            let ciphertext = age::encrypt(&recipient, &[context, share].concat()).unwrap();
            base64::engine::general_purpose::STANDARD.encode(ciphertext)
        };
        for (ciphertext, says) in [
            (encrypted(&context, &[1; 32]), "does not fit"),
            (encrypted(&context, &[0; 32]), "is not a share"),
            (encrypted(&context, &[0xff; 32]), "is not a share"),
            (encrypted(&[0; 32], &[1; 32]), "was made for another purpose"),
            (encrypted(&context, &[]), "is not a share"),
        ] {
            let change =
                move |body: &mut Value| body["keys"][0]["deals"][0]["ciphertext"] = json!(ciphertext);
            let stage = with_liar(organisations, dealer, Step::Deal, Box::new(change));
            stage.assert_aborted(&[]);
            let (reason, culprits) = stage.end_of("vendor/vendor-3");
            assert!(reason.contains(says), "{reason} does not say {says:?}");
            assert_eq!(culprits, [dealer]);
        }
    }
}

/// A signed body that cannot be is its sender's fault, whatever the step.
#[test]
fn bodies_of_the_wrong_shape_are_refused() {
    let cases: Vec<(Step, Change, &str)> = vec![
        (Step::Join, Box::new(|body| body["recipient"] = json!("age1nonsense")), "its recipient"),
        (Step::Join, Box::new(|body| body["extra"] = json!(1)), "unknown field"),
        (Step::Commit, Box::new(|body| body["commitment"] = json!("00")), "hexadecimal"),
        (Step::Commit, Box::new(|body| body["commitment"] = json!("AA".repeat(32))), "canonical"),
        (Step::Reveal, Box::new(|body| body["keys"] = json!([])), "keys of the proposal"),
        (Step::Reveal, Box::new(|body| body["keys"][0]["key"] = json!("other")), "keys of the proposal"),
        (Step::Deal, Box::new(|body| body["keys"][0]["deals"] = json!([])), "exactly the nodes"),
        (
            Step::Deal,
            Box::new(|body| body["keys"][0]["deals"][1] = body["keys"][0]["deals"][0].clone()),
            "exactly the nodes",
        ),
        (
            Step::Deal,
            Box::new(|body| body["keys"][0]["deals"][0]["ciphertext"] = json!("A".repeat(1000))),
            "too long",
        ),
        (Step::Prove, Box::new(|body| body["keys"] = json!([])), "keys of the proposal"),
        (Step::Certify, Box::new(|body| body["keys"] = json!({})), "invalid type"),
    ];
    for (step, change, says) in cases {
        let stage = with_liar(REFERENCE, "vendor/vendor-1", step, change);
        let CeremonyState::Aborted { reason } = stage.relay.status().state else { panic!("{step} {says}") };
        assert!(reason.to_string().contains(says), "{reason} does not say {says:?}");
        assert_eq!(reason.culprits(), ["vendor/vendor-1".parse().unwrap()]);
    }
}

#[test]
fn messages_of_another_ceremony_are_refused() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    let mut other = Stage::new(REFERENCE, &["release", "spare"], 21);
    other.play();
    assert_ne!(stage.proposal.id(), other.proposal.id());
    for message in other.relay.messages() {
        assert_eq!(stage.relay.receive(message), Err(CeremonyError::OtherCeremony));
        // With the name of this ceremony on it, the signature does not fit.
        let renamed = CeremonyMessage { ceremony: stage.proposal.id(), ..message.clone() };
        assert_eq!(stage.relay.receive(&renamed), Err(CeremonyError::Signature(message.from.clone())));
    }
    assert_eq!(stage.relay.messages().count(), 0);
    stage.play();
    stage.assert_done();
}

#[test]
fn forged_messages_are_refused_and_change_nothing() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    let join = honest_message(REFERENCE, 21, "vendor/vendor-1", Step::Join);
    let unsigned = CeremonyMessage { signature: [0; 64], ..join.clone() };
    assert_eq!(stage.relay.receive(&unsigned), Err(CeremonyError::Signature(join.from.clone())));
    let stranger: NodeId = "vendor/vendor-9".parse().unwrap();
    let strange = CeremonyMessage { from: stranger.clone(), ..join.clone() };
    assert_eq!(stage.relay.receive(&strange), Err(CeremonyError::NotAMember(stranger)));
    let in_anothers_name = CeremonyMessage { from: "vendor/vendor-2".parse().unwrap(), ..join.clone() };
    assert!(matches!(stage.relay.receive(&in_anothers_name), Err(CeremonyError::Signature(_))));
    let as_another_step = CeremonyMessage { step: Step::Reject, ..join.clone() };
    assert!(matches!(stage.relay.receive(&as_another_step), Err(CeremonyError::Signature(_))));
    let huge = CeremonyMessage { body: vec![b' '; 20_000], ..join.clone() };
    assert_eq!(stage.relay.receive(&huge), Err(CeremonyError::TooLong(20_000)));
    assert!(matches!(CeremonyMessage::parse(&vec![b' '; 200_000]), Err(CeremonyError::TooLong(_))));
    assert_eq!(stage.relay.messages().count(), 0);
    assert_eq!(stage.relay.receive(&join), Ok(Received::New));
    assert_eq!(stage.relay.receive(&join), Ok(Received::Known));
    stage.relay = CeremonyObserver::new(stage.proposal.clone());
    stage.play();
    stage.assert_done();
}

#[test]
fn every_flipped_bit_of_a_message_is_noticed() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    for step in [Step::Join, Step::Reveal] {
        let bytes = honest_message(REFERENCE, 21, "vendor/vendor-1", step).encode();
        assert_eq!(
            serde_json_canonicalizer::to_vec(&serde_json::from_slice::<Value>(&bytes).unwrap()).unwrap(),
            bytes
        );
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[position] ^= 1 << bit;
                let refused = match CeremonyMessage::parse(&flipped) {
                    Ok(message) => stage.relay.receive(&message).is_err(),
                    Err(_) => true,
                };
                assert!(refused, "bit {bit} of byte {position}");
            }
        }
    }
    assert_eq!(stage.relay.messages().count(), 0);
}

/// Who has certified cannot end the ceremony any more, and who has ended it cannot certify.
#[test]
fn a_certificate_is_final() {
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    stage.join_all();
    while stage.queue.iter().any(|message| message.step != Step::Certify) {
        stage.step();
    }
    stage.step();
    let certificate = stage.relay.messages().find(|message| message.step == Step::Certify).unwrap().clone();
    let body = serde_json::to_vec(&json!({"accused": [], "reason": "never mind"})).unwrap();
    let abort = stage.forge_raw(&CeremonyMessage { step: Step::Abort, ..certificate.clone() }, body);
    let too_late = |step, earlier| CeremonyError::TooLate { from: certificate.from.clone(), step, earlier };
    assert_eq!(stage.relay.receive(&abort), Err(too_late(Step::Abort, Step::Certify)));
    stage.run();
    stage.assert_done();
}

#[test]
fn words_that_could_fool_a_reader_are_refused() {
    for reason in ["", "two\nlines", "\u{1b}[31mred", "\u{202e}backwards", &"x".repeat(501)] {
        let mut stage = Stage::new(REFERENCE, &["release"], 21);
        let join = honest_message(REFERENCE, 21, SUPERVISOR, Step::Join);
        let body = serde_json::to_vec(&json!({"reason": reason})).unwrap();
        let reject = stage.forge_raw(&CeremonyMessage { step: Step::Reject, ..join }, body);
        stage.relay.receive(&reject).unwrap();
        let CeremonyState::Aborted { reason } = stage.relay.status().state else { panic!("not over") };
        assert!(reason.to_string().contains("sent a reject that cannot be"), "{reason}");
    }
}

/// A node whose seed is lost, or whose identity key is used twice, stops instead of mixing two lives.
#[test]
fn another_life_under_the_same_identity_is_noticed() {
    use std::sync::Arc;

    use rutli_keys::ceremony::{CeremonyMachine, Output};
    let mut stage = Stage::new(REFERENCE, &["release"], 21);
    stage.join_all();
    stage.run();
    let id: NodeId = "vendor/vendor-1".parse().unwrap();
    let identity = Arc::clone(&stage.cast.identities[&id]);
    let transcript: Vec<_> = stage.relay.messages().cloned().collect();
    for count in [1, 8, 12, transcript.len()] {
        let shown: Vec<_> =
            transcript.iter().filter(|message| message.from == id).chain(&transcript).take(count).collect();
        let (machine, outputs) = CeremonyMachine::resume(
            stage.proposal.clone(),
            id.clone(),
            Arc::clone(&identity),
            [99; 32],
            shown,
        )
        .unwrap();
        assert!(machine.is_over());
        let done = outputs.iter().any(|output| matches!(output, Output::Done { .. }));
        let told = outputs.iter().any(|output| matches!(output, Output::Aborted { .. }));
        assert!(told && !done, "{outputs:?}");
    }
}
