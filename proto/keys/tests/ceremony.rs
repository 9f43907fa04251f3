//! The ceremony among honest nodes: order, loss, duplicates, crashes, deadlines, decisions.
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

use std::collections::BTreeSet;

use common::{REFERENCE, THREE, rng};
use rand::Rng;
use rand::seq::SliceRandom;
use rutli_keys::ceremony::{
    AbortReason, CeremonyError, CeremonyMessage, CeremonyObserver, CeremonyState, Proposal, SignedProposal,
    Step,
};
use rutli_keys::{NodeId, SignedRoster};
use stage::Stage;

const KEYS: &[&str] = &["canary", "release"];

#[test]
fn all_nodes_get_the_same_rosters_and_their_shares() {
    for organisations in [REFERENCE, THREE, &[("solo", 1, 1)], &[("a", 1, 3)], &[("a", 5, 5), ("b", 2, 4)]] {
        let mut stage = Stage::new(organisations, KEYS, 1);
        stage.play();
        let rosters = stage.assert_done();
        assert_eq!(rosters.len(), 2);
        assert_ne!(rosters[0].roster().group_key(), rosters[1].roster().group_key());
        for roster in rosters {
            assert_eq!(SignedRoster::parse(&roster.encode()).unwrap(), roster);
            assert_eq!(roster.roster().ceremony(), stage.proposal.id());
        }
    }
}

#[test]
fn keys_follow_from_seeds_and_proposal_alone() {
    let rosters = |seed: u8, deadline: u64| {
        let mut cast = rutli_keys::rehearsal::Cast::new(REFERENCE, KEYS, [seed; 32]).unwrap();
        cast.spec.deadline = deadline;
        cast.run().unwrap().rosters
    };
    assert_eq!(rosters(1, 100), rosters(1, 100));
    let keys: BTreeSet<_> = [rosters(1, 100), rosters(2, 100), rosters(1, 101)]
        .iter()
        .flatten()
        .map(|roster| *roster.roster().group_key())
        .collect();
    assert_eq!(keys.len(), 6, "another ceremony has other keys, even with the same seeds");
}

/// Messages in any order, many of them twice, some before their time.
#[test]
fn order_and_duplicates_do_not_matter() {
    let mut expected = None;
    for seed in 0..30 {
        let mut rng = rng(seed);
        let mut stage = Stage::new(THREE, &["release"], 2);
        stage.join_all();
        let mut flying: Vec<(_, CeremonyMessage)> = Vec::new();
        loop {
            while let Some(message) = stage.queue.pop_front() {
                stage.relay.receive(&message).unwrap();
                for id in stage.ids() {
                    flying.push((id.clone(), message.clone()));
                    if rng.gen_bool(0.3) {
                        flying.push((id, message.clone()));
                    }
                }
            }
            flying.shuffle(&mut rng);
            let Some((id, message)) = flying.pop() else { break };
            stage.deliver(&id, &message);
        }
        let rosters = stage.assert_done();
        assert_eq!(*expected.get_or_insert(rosters.clone()), rosters);
    }
}

/// Every node crashes after every single message that the relay has taken, and comes back with its seed alone.
#[test]
fn a_node_resumes_from_any_point() {
    let organisations: &[(&str, u16, u16)] = &[("auditor", 1, 2), ("vendor", 2, 2)];
    let mut undisturbed = Stage::new(organisations, &["release"], 3);
    undisturbed.join_all();
    let mut points = 0;
    while undisturbed.step() {
        points += 1;
    }
    let expected = undisturbed.assert_done();
    for id in undisturbed.ids() {
        for point in 0..=points {
            let mut stage = Stage::new(organisations, &["release"], 3);
            stage.join_all();
            for _ in 0..point {
                stage.step();
            }
            stage.crash(&id);
            stage.run();
            assert_eq!(stage.assert_done(), expected, "{id} crashed after {point} messages");
        }
    }
}

#[test]
fn all_processes_resume_at_once_from_any_point() {
    let mut expected = None;
    for point in 0..=24 {
        let mut stage = Stage::new(REFERENCE, &["release"], 4);
        stage.join_all();
        for _ in 0..point {
            stage.step();
        }
        // The relay comes back with what it had stored.
        let transcript: Vec<_> = stage.relay.messages().cloned().collect();
        stage.relay = CeremonyObserver::new(stage.proposal.clone());
        for message in &transcript {
            stage.relay.receive(message).unwrap();
        }
        for id in stage.ids() {
            stage.crash(&id);
        }
        stage.run();
        let rosters = stage.assert_done();
        assert_eq!(*expected.get_or_insert(rosters.clone()), rosters, "after {point} messages");
    }
}

/// A node that crashes between making and publishing its deal makes another one: the first that arrives counts.
#[test]
fn a_second_deal_is_harmless() {
    let mut stage = Stage::new(REFERENCE, &["release"], 5);
    stage.join_all();
    let dealt = |stage: &Stage| stage.queue.iter().any(|message| message.step == Step::Deal);
    while !dealt(&stage) {
        stage.step();
    }
    let first = stage.queue.iter().find(|message| message.step == Step::Deal).unwrap().clone();
    stage.crash(&first.from);
    let again =
        stage.queue.iter().find(|message| message.from == first.from && message.step == Step::Deal).unwrap();
    assert_ne!(again.body, first.body);
    // One node hears the first deal after all, the others the second one.
    let other = "vendor/vendor-3".parse().unwrap();
    stage.deliver(&other, &first);
    stage.run();
    stage.assert_done();
}

#[test]
fn people_can_follow() {
    let mut stage = Stage::new(REFERENCE, &["release"], 6);
    let status = stage.relay.status();
    assert_eq!(status.state, CeremonyState::Proposed);
    assert_eq!(status.waiting_for.len(), 4);
    assert!(status.nodes.iter().all(|node| node.step.is_none() && !node.joined));
    let absent = "supervisor/supervisor-1".parse().unwrap();
    for id in stage.ids().into_iter().filter(|id| *id != absent) {
        let outputs = stage.actors.get_mut(&id).unwrap().machine.join().unwrap();
        stage.take(&id, outputs);
    }
    stage.run();
    assert_eq!(stage.relay.status().waiting_for, [(absent.clone(), Step::Join)]);
    let outputs = stage.actors.get_mut(&absent).unwrap().machine.join().unwrap();
    stage.take(&absent, outputs);
    stage.step();
    assert_eq!(stage.relay.status().state, CeremonyState::Running { step: Step::Commit });
    stage.run();
    let status = stage.relay.status();
    assert_eq!(status.state, CeremonyState::Done);
    assert!(status.waiting_for.is_empty());
    assert!(status.nodes.iter().all(|node| node.step == Some(Step::Certify) && node.joined));
    let warnings = stage.proposal.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("supervisor/supervisor-1 is alone"), "{warnings:?}");
}

/// Where no organisation has a threshold above half of its nodes, two quorums may have no node in common.
#[test]
fn quorums_without_a_common_node_are_warned_of() {
    let warns = |organisations: &[(&str, u16, u16)]| {
        let stage = Stage::new(organisations, &["release"], 7);
        stage.proposal.warnings().iter().any(|warning| warning.contains("without a common node"))
    };
    assert!(warns(&[("vendor", 2, 4), ("supervisor", 1, 2)]));
    assert!(!warns(&[("vendor", 3, 4), ("supervisor", 1, 2)]));
    assert!(!warns(REFERENCE));
}

#[test]
fn a_custodian_rejects() {
    let mut stage = Stage::new(REFERENCE, &["release"], 7);
    let id = "supervisor/supervisor-1".parse().unwrap();
    for other in stage.ids().into_iter().filter(|other| *other != id) {
        let outputs = stage.actors.get_mut(&other).unwrap().machine.join().unwrap();
        stage.take(&other, outputs);
    }
    let machine = &mut stage.actors.get_mut(&id).unwrap().machine;
    assert_eq!(machine.reject("").unwrap_err(), CeremonyError::Reason);
    assert_eq!(machine.reject("a\u{1b}[2J").unwrap_err(), CeremonyError::Reason);
    assert_eq!(machine.reject("turned \u{202e} round").unwrap_err(), CeremonyError::Reason);
    let outputs = machine.reject("not on a Friday").unwrap();
    assert_eq!(machine.join().unwrap_err(), CeremonyError::Over);
    assert_eq!(machine.reject("twice").unwrap_err(), CeremonyError::Over);
    stage.take(&id, outputs);
    stage.run();
    stage.assert_aborted(&[]);
    assert_eq!(stage.end_of("vendor/vendor-1").0, "supervisor/supervisor-1 rejected it: not on a Friday");
    assert!(matches!(
        stage.relay.status().state,
        CeremonyState::Aborted { reason: AbortReason::Rejected { .. } }
    ));
}

#[test]
fn a_custodian_aborts_at_any_step_until_it_has_certified() {
    let id = "vendor/vendor-2".parse().unwrap();
    let mut aborted = 0;
    for point in 0..32 {
        let mut stage = Stage::new(REFERENCE, &["release"], 8);
        stage.join_all();
        for _ in 0..point {
            stage.step();
        }
        let machine = &mut stage.actors.get_mut(&id).unwrap().machine;
        assert!(matches!(machine.reject("too late"), Err(CeremonyError::Decided(_))));
        assert!(matches!(machine.join(), Err(CeremonyError::Decided(_))));
        if machine.has_certified() {
            assert!(matches!(
                machine.abort("too late"),
                Err(CeremonyError::Decided(_) | CeremonyError::Over)
            ));
            stage.run();
            stage.assert_done();
            continue;
        }
        aborted += 1;
        let outputs = machine.abort("changed my mind").unwrap();
        stage.take(&id, outputs);
        stage.run();
        stage.assert_aborted(&[]);
        assert_eq!(stage.end_of("supervisor/supervisor-1").0, "vendor/vendor-2 ended it: changed my mind");
        // A restart does not bring it back.
        stage.crash(&id);
        stage.assert_aborted(&[]);
    }
    assert!((20..32).contains(&aborted), "{aborted}");
}

#[test]
fn the_deadline_ends_it_and_says_who_is_missing() {
    let mut stage = Stage::new(REFERENCE, &["release"], 9);
    stage.join_all();
    let silent = "vendor/vendor-3".parse().unwrap();
    // vendor-3 joins and is never heard of again.
    while stage.queue.iter().all(|message| message.step <= Step::Join) {
        stage.step();
    }
    stage.hand = Box::new(move |_, message| {
        if message.from == silent && message.step > Step::Join { vec![] } else { vec![message.clone()] }
    });
    while let Some(message) = stage.queue.front() {
        if message.from.to_string() == "vendor/vendor-3" && message.step > Step::Join {
            stage.queue.pop_front();
        } else {
            stage.step();
        }
    }
    let deadline = stage.proposal.deadline();
    stage.tick(deadline);
    assert!(
        stage.actors.values().all(|actor| !actor.machine.is_over()),
        "the deadline itself is still in time"
    );
    stage.tick(deadline + 1);
    stage.run();
    stage.assert_aborted(&[]);
    let (reason, culprits) = stage.end_of("vendor/vendor-1");
    assert!(reason.contains("deadline has passed without the commit of vendor/vendor-3"), "{reason}");
    assert_eq!(culprits, ["vendor/vendor-3"]);
    // Time does not run backwards, and nobody joins what is over.
    stage.tick(0);
    assert!(matches!(stage.relay.status().state, CeremonyState::Aborted { .. }));
    let machine = &mut stage.actors.get_mut(&"vendor/vendor-1".parse().unwrap()).unwrap().machine;
    assert_eq!(machine.join().unwrap_err(), CeremonyError::Over);
}

#[test]
fn nobody_joins_after_the_deadline() {
    let mut stage = Stage::new(REFERENCE, &["release"], 9);
    let deadline = stage.proposal.deadline();
    stage.tick(deadline + 1);
    for actor in stage.actors.values_mut() {
        assert_eq!(actor.machine.join().unwrap_err(), CeremonyError::Over);
    }
    assert!(stage.queue.is_empty(), "who never joined has nothing to say");
}

/// The last certificates arrive after the deadline: whoever certified waits for them, and everybody has the keys.
#[test]
fn certificates_complete_the_ceremony_after_the_deadline() {
    let mut stage = Stage::new(REFERENCE, &["release"], 10);
    stage.join_all();
    while stage.queue.iter().any(|message| message.step != Step::Certify) {
        stage.step();
    }
    assert_eq!(stage.queue.len(), 4);
    let deadline = stage.proposal.deadline();
    stage.tick(deadline + 1000);
    // The relay has seen no certificate yet and calls it aborted; but it goes on relaying.
    assert_eq!(stage.relay.status().state.as_str(), "aborted");
    stage.step();
    assert_eq!(stage.relay.status().state, CeremonyState::Running { step: Step::Certify });
    stage.crash(&"supervisor/supervisor-1".parse().unwrap());
    stage.tick(deadline + 2000);
    stage.run();
    stage.assert_done();
}

#[test]
fn a_machine_is_made_for_members_with_their_own_identity() {
    use std::sync::Arc;

    use rutli_keys::ceremony::CeremonyMachine;
    let stage = Stage::new(REFERENCE, &["release"], 11);
    let ids = stage.ids();
    let identity = Arc::clone(&stage.cast.identities[&ids[0]]);
    let machine =
        |id, identity| CeremonyMachine::new(stage.proposal.clone(), id, identity, [0; 32]).unwrap_err();
    let stranger: rutli_keys::NodeId = "vendor/vendor-9".parse().unwrap();
    assert_eq!(machine(stranger.clone(), Arc::clone(&identity)), CeremonyError::NotAMember(stranger));
    assert_eq!(machine(ids[1].clone(), identity), CeremonyError::OtherIdentity(ids[1].clone()));
}

#[test]
fn proposals_are_strict() {
    let stage = Stage::new(REFERENCE, KEYS, 12);
    let proposal = &stage.proposal;
    assert_eq!(Proposal::parse(proposal.encode()).unwrap(), *proposal);
    let id = stage.ids().remove(0);
    let signed = SignedProposal::sign(proposal.clone(), id.clone(), &stage.cast.identities[&id]).unwrap();
    let bytes = signed.encode();
    assert_eq!(SignedProposal::parse(&bytes).unwrap(), signed);
    assert_eq!(
        serde_json_canonicalizer::to_vec(&serde_json::from_slice::<serde_json::Value>(&bytes).unwrap())
            .unwrap(),
        bytes
    );
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        assert!(SignedProposal::parse(&flipped).is_err(), "bit {} of byte {position}", position % 8);
    }
    let stranger = "vendor/vendor-9".parse().unwrap();
    assert!(SignedProposal::sign(proposal.clone(), stranger, &stage.cast.identities[&id]).is_err());
    let another = &stage.cast.identities[&stage.ids()[1]];
    assert!(SignedProposal::sign(proposal.clone(), id, another).is_err());
    let spaced = [proposal.encode(), b"\n"].concat();
    assert!(Proposal::parse(&spaced).is_err());
    assert!(Proposal::parse(&vec![b' '; 70_000]).is_err());
}

#[test]
fn impossible_proposals_are_refused() {
    let spec = || Stage::new(REFERENCE, KEYS, 13).cast.spec;
    type Change<'a> = &'a dyn Fn(&mut rutli_keys::ceremony::ProposalSpec);
    let refused = |change: Change| {
        let mut spec = spec();
        change(&mut spec);
        Proposal::new(spec).unwrap_err().to_string()
    };
    let cases: [(Change, &str); 12] = [
        (&|spec| spec.keys.clear(), "0 keys"),
        (&|spec| spec.keys = vec![spec.keys[0].clone(); 2], "each one once"),
        (&|spec| spec.organisations.clear(), "0 organisations"),
        (&|spec| spec.organisations = vec![spec.organisations[0].clone(); 2], "each one once"),
        (&|spec| spec.organisations[0].nodes.clear(), "0 nodes"),
        (&|spec| spec.organisations[0].threshold = 0, "threshold 0"),
        (&|spec| spec.organisations[0].threshold = 4, "threshold 4"),
        (
            &|spec| spec.organisations[0].nodes[1].name = spec.organisations[0].nodes[0].name.clone(),
            "each one once",
        ),
        (
            &|spec| spec.organisations[0].nodes[1].identity = spec.organisations[1].nodes[0].identity,
            "identity key of another",
        ),
        (&|spec| spec.deadline = spec.proposed_at, "deadline"),
        (&|spec| spec.deadline = u64::MAX, "deadline"),
        (&|spec| spec.deadline = spec.proposed_at + 40 * 86_400, "31 days"),
    ];
    for (change, says) in cases {
        let error = refused(change);
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    // Any order will do for a person.
    let mut shuffled = spec();
    shuffled.organisations.reverse();
    shuffled.keys.reverse();
    shuffled.organisations.iter_mut().for_each(|organisation| organisation.nodes.reverse());
    assert_eq!(Proposal::new(shuffled).unwrap(), Proposal::new(spec()).unwrap());
}

/// The phrase is there once every member has added its nonce, and the same for all. It is another one with other nonces,
/// although the proposal is the same.
#[test]
fn the_phrase_covers_the_proposal_and_every_nonce() {
    let phrases = |seeds: &[u8]| {
        let mut stage = Stage::new(REFERENCE, &["release"], 6);
        for (id, seed) in stage.ids().into_iter().zip(seeds) {
            *stage.cast.seeds.get_mut(&id).unwrap() = [*seed; 32];
            stage.crash(&id);
        }
        let before = stage.relay.phrase();
        let outputs: Vec<_> = stage.ids().into_iter().map(|id| (id.clone(), tick(&mut stage, &id))).collect();
        outputs.into_iter().for_each(|(id, outputs)| stage.take(&id, outputs));
        while stage.relay.phrase().is_none() {
            // Nobody reveals before it has seen that everybody is bound.
            for reveal in stage.queue.iter().filter(|message| message.step == Step::NonceReveal) {
                let machine = &stage.actors[&reveal.from].machine;
                assert_eq!(machine.messages().filter(|seen| seen.step == Step::NonceCommit).count(), 4);
            }
            assert!(stage.step());
        }
        stage.run();
        assert_eq!(before, None);
        let seen: BTreeSet<_> =
            stage.actors.values().map(|actor| actor.machine.phrase().unwrap().words()).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [stage.relay.phrase().unwrap().words()]);
        // Nobody has joined: the phrase is there to be compared before.
        assert!(stage.relay.messages().all(|message| message.step < Step::Join));
        stage.relay.phrase().unwrap().words()
    };
    let base = phrases(&[1, 2, 3, 4]);
    assert_eq!(base, phrases(&[1, 2, 3, 4]));
    for place in 0..4 {
        let mut seeds = [1, 2, 3, 4];
        seeds[place] = 9;
        assert_ne!(base, phrases(&seeds), "the nonce of member {place} does not count");
    }
}

fn tick(stage: &mut Stage, id: &NodeId) -> Vec<rutli_keys::ceremony::Output> {
    stage.actors.get_mut(id).unwrap().machine.tick(0).unwrap()
}

#[test]
fn thresholds_are_read_in_words() {
    let stage = Stage::new(&[("vendor", 2, 3), ("supervisor", 1, 1), ("auditor", 11, 16)], &["release"], 6);
    assert_eq!(
        stage.proposal.rule(),
        "auditor eleven of sixteen, supervisor one of one, vendor two of three"
    );
}
