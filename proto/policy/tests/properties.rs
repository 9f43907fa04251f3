//! What holds whatever is established.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::*;
use proptest::prelude::*;
use rutli_evidence::Established;
use rutli_policy::{Decision, PolicySet, Rates};
use rutli_release::Channel;

const EXAMPLES: [&str; 3] = [
    include_str!("../../../deploy/examples/vendor-node/policy.cedar"),
    include_str!("../../../deploy/examples/supervisor-node/policy.cedar"),
    include_str!("../../../deploy/examples/av-database/policy.cedar"),
];

fn sets() -> Vec<PolicySet> {
    EXAMPLES.iter().map(|text| trusting(text)).collect()
}

/// Documents of one source, so that builders do not contradict each other.
fn document() -> impl Strategy<Value = Established> {
    prop_oneof![
        (
            prop::sample::select(vec!["vendor-builder", "other-builder"]),
            prop::sample::select(vec!["builder", "avdb", "other"]),
        )
            .prop_map(|(by, id)| built_as(&format!("https://ci.vendor.example/{id}"), by, 1)),
        (prop::sample::select(vec!["supervisor-rebuilder", "other-rebuilder"]), 1_u8..3)
            .prop_map(|(by, of)| rebuild(by, of)),
        prop::sample::subsequence(vec!["unit", "install", "false-positives", "other"], 1..3)
            .prop_map(|passed| tests("vendor-tester", &passed)),
        (1_u8..3).prop_map(|of| review("auditor", of, &["audited"])),
        prop::sample::select(vec!["anna", "beat", "clara", "dario"]).prop_map(approval),
    ]
}

fn stage() -> impl Strategy<Value = Stage> {
    let documents = prop::collection::vec(document(), 0..6);
    let base =
        (any::<bool>(), any::<bool>(), any::<bool>(), 0_u64..15, 0_u64..3_000, 0_u64..14 * 24, 1_u64..4);
    (base, documents).prop_map(|((product, beta, embargoed, releases, files, hours, sequence), documents)| {
        let stage = if product { Stage::suite() } else { Stage::avdb() };
        Stage {
            channel: Channel::new(if beta { "beta" } else { "stable" }).unwrap(),
            embargoed,
            rates: Rates { releases_in_hour: releases, artifacts_in_hour: files },
            now: MONDAY + hours * 3_600,
            previous: Some(2),
            sequence,
            ..stage
        }
        .with(documents)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_evidence_never_takes_a_permit_away(stage in stage(), more in prop::collection::vec(document(), 1..4)) {
        for set in sets() {
            if stage.decide(&set).is_permitted() {
                prop_assert!(stage.clone().with(more.clone()).decide(&set).is_permitted());
            }
        }
    }

    #[test]
    fn what_is_said_to_be_missing_is_enough_and_needed(stage in stage()) {
        for set in sets() {
            let Decision::Waits { missing, policies } = stage.decide(&set) else { continue };
            prop_assert!(!missing.is_empty() && !policies.is_empty());
            let mut supplied = stage.clone();
            supply(&mut supplied, &missing);
            let decision = supplied.decide(&set);
            prop_assert!(decision.is_permitted(), "{:?} after {:?}", decision, missing);
            for position in 0..missing.len() {
                let mut some = missing.clone();
                some.remove(position);
                let mut supplied = stage.clone();
                supply(&mut supplied, &some);
                prop_assert!(!supplied.decide(&set).is_permitted(), "without {:?}", missing[position]);
            }
        }
    }

    #[test]
    fn a_refusal_always_refuses(stage in stage(), position in 0_usize..6) {
        let mut stage = stage;
        let position = position.min(stage.established.len());
        stage.established.insert(position, refusal("beat"));
        for set in sets() {
            prop_assert_eq!(stage.decide(&set).code(), Some("not-allowed"));
        }
    }

    #[test]
    fn order_and_repetition_of_evidence_do_not_matter(stage in stage()) {
        let mut other = stage.clone();
        other.established.reverse();
        other.established.extend(stage.established.clone());
        for set in sets() {
            prop_assert_eq!(stage.decide(&set), other.decide(&set));
        }
    }

    /// What is refused for good is not permitted by any document that can come.
    #[test]
    fn what_is_refused_stays_refused(stage in stage(), more in prop::collection::vec(document(), 0..5)) {
        for set in sets() {
            if stage.decide(&set).code() == Some("not-allowed") {
                prop_assert!(!stage.clone().with(more.clone()).decide(&set).is_permitted());
            }
        }
    }

    #[test]
    fn an_explanation_agrees_with_the_decision(stage in stage()) {
        for set in sets() {
            let explanation = set.explain(&stage.facts());
            prop_assert_eq!(&explanation.decision, &stage.decide(&set));
            let applies = |effect| explanation.policies.iter().any(|policy| policy.effect == effect && policy.applies);
            let permitted = applies(rutli_policy::Effect::Permit) && !applies(rutli_policy::Effect::Forbid);
            prop_assert_eq!(permitted, explanation.decision.is_permitted());
            prop_assert!(serde_json::to_string(&explanation).unwrap().contains("\"decision\""));
        }
    }
}
