//! What is permitted, what waits and for what, what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::*;
use rutli_evidence::Established;
use rutli_policy::{Decision, MissingKind, PolicySet, Rates};
use rutli_release::{ArtifactName, Channel, Class, Format, Product, Requester, Version};

const REBUILT: &str = r#"context.builders.contains("vendor-builder") &&
    context.rebuilders.contains("supervisor-rebuilder") && context.approvals >= 1"#;

fn all() -> Vec<Established> {
    vec![provenance("vendor-builder", 1), rebuild("supervisor-rebuilder", 1), approval("clara")]
}

#[test]
fn nothing_is_permitted_by_default() {
    for set in [PolicySet::parse(&[], None).unwrap(), set("// nothing yet\n")] {
        let decision = Stage::suite().with(all()).decide(&set);
        assert!(
            reason(&decision)
                .contains("no policy of this node permits product-build suite in channel stable")
        );
        assert_eq!(decision.code(), Some("not-allowed"));
    }
}

#[test]
fn all_that_is_asked_for_permits() {
    let decision = Stage::suite().with(all()).decide(&trusting(&permit_when(REBUILT)));
    let Decision::Permitted { policies } = &decision else { panic!("{decision:?}") };
    assert_eq!(ids(policies), ["p"]);
    assert_eq!((decision.code(), decision.is_permitted()), (None, true));
}

/// What a node asks first, and signs by.
#[test]
fn the_short_answer_is_that_of_the_decision() {
    let set = trusting(&permit_when(REBUILT));
    let permits = |stage: &Stage| set.permits(&stage.facts());
    let stage = Stage::suite().with(all());
    assert_eq!(ids(&permits(&stage).unwrap()), ["p"]);
    assert_eq!(permits(&Stage::suite()), None);
    assert_eq!(permits(&stage.with([refusal("dario")])), None);
}

#[test]
fn policies_see_the_request_as_it_is() {
    let other = Stage {
        requester: Requester::new("other").unwrap(),
        class: Class::AvDatabase,
        product: Product::new("avdb").unwrap(),
        channel: Channel::new("beta").unwrap(),
        version: Version::new("2.0.0").unwrap(),
        sequence: 2,
        artifacts: 3,
        file_names: vec![ArtifactName::new("suite").unwrap()],
        issued_at: MONDAY - 61,
        expires_at: Some(u64::MAX),
        formats: vec![Format::Dsse],
        ..Stage::suite()
    };
    for when in [
        r#"principal == Requester::"pipeline""#,
        r#"resource.class == Class::"product-build""#,
        r#"resource.product == "suite""#,
        r#"resource.channel == "stable""#,
        r#"resource.version == "1.0.0""#,
        "resource.sequence == 1",
        "resource.artifacts == 2",
        r#"resource.fileNames == ["bin/suite", "notes"]"#,
        r#"resource.fileNames.contains("notes")"#,
        r#"resource.formats.contains("sshsig")"#,
        &format!("resource.issuedAt >= {}", MONDAY - 60),
        "!(resource has expiresAt)",
        // The other expires later than Cedar can count.
        "!(resource has expiresAt && resource.expiresAt >= 1000000000000)",
    ] {
        let set = set(&permit_when(when));
        assert!(Stage::suite().decide(&set).is_permitted(), "{when}");
        assert_eq!(other.decide(&set).code(), Some("not-allowed"), "{when}");
    }
}

#[test]
fn each_missing_document_is_named_with_those_who_can_give_it() {
    let decision = Stage::suite().decide(&trusting(&permit_when(REBUILT)));
    assert_eq!(
        words(&decision),
        [
            "a provenance of the build by one of: vendor-builder",
            "a rebuild by one of: supervisor-rebuilder",
            "1 more approval of: anna, beat, clara, dario",
        ]
    );
    assert_eq!(decision.code(), Some("evidence-missing"));
    assert!(decision.words().starts_with("waits for a provenance of the build by"), "{}", decision.words());
    assert!(decision.words().ends_with(", by p"));
}

#[test]
fn what_is_there_is_not_missing() {
    for there in 0..3 {
        let mut given = all();
        let kept = given.remove(there);
        let decision = Stage::suite().with(given).decide(&trusting(&permit_when(REBUILT)));
        let Decision::Waits { missing, .. } = &decision else { panic!("{decision:?}") };
        assert_eq!(missing.len(), 1, "{kept:?}: {decision:?}");
    }
}

#[test]
fn a_forbid_beats_a_permit_and_gives_its_reason() {
    let text = permit_when("true")
        + r#"@id("no") @reason("not in beta") forbid(principal, action, resource) when { resource.channel == "stable" };"#;
    let decision = Stage::suite().decide(&trusting(&text));
    assert!(
        reason(&decision).starts_with("forbidden by no (not in beta): product-build suite"),
        "{decision:?}"
    );
    let Decision::Refused { policies, .. } = &decision else { panic!() };
    assert_eq!(ids(policies), ["no"]);
}

/// Whoever brought the approvals would be refused all the same.
#[test]
fn of_those_that_forbid_the_ones_are_named_that_nothing_lifts() {
    let text = permit_when("true")
        + r#"@id("approved") forbid(principal, action, resource) unless { context.approvals >= 1 };"#
        + r#"@id("open") forbid(principal, action, resource) when { context.embargoed };"#;
    let decision = Stage { embargoed: true, ..Stage::suite() }.decide(&trusting(&text));
    let Decision::Refused { policies, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!(ids(policies), ["open"]);
}

#[test]
fn a_forbid_that_evidence_lifts_waits() {
    let text = permit_when("true")
        + r#"@id("no") forbid(principal, action, resource) unless { context.testsPassed.contains("fp") };"#;
    assert_eq!(
        words(&Stage::suite().decide(&trusting(&text))),
        ["the passed test `fp` by one of: vendor-tester"]
    );
    assert!(Stage::suite().with([tests("vendor-tester", &["fp"])]).decide(&trusting(&text)).is_permitted());
}

#[test]
fn a_custodians_refusal_refuses_whatever_else_there_is() {
    for text in [permit_when("true"), permit_when(REBUILT)] {
        let stage = Stage::suite().with(all()).with([refusal("dario")]);
        let decision = stage.decide(&trusting(&text));
        assert!(reason(&decision).contains("dario refuses it: not this one"), "{decision:?}");
        assert_eq!(decision.code(), Some("not-allowed"));
    }
}

#[test]
fn a_rebuild_counts_for_the_source_of_the_provenance_alone() {
    let set = trusting(&permit_when(REBUILT));
    let stage = Stage::suite().with([
        provenance("vendor-builder", 1),
        rebuild("supervisor-rebuilder", 2),
        approval("anna"),
    ]);
    let decision = stage.decide(&set);
    let said = words(&decision);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("the one by supervisor-rebuilder is of sha256:0202"), "{said:?}");
    assert!(stage.with([rebuild("supervisor-rebuilder", 1)]).decide(&set).is_permitted());
}

#[test]
fn a_rebuild_without_provenance_counts_for_nothing_yet() {
    let set = trusting(&permit_when(r#"context.rebuilders.contains("supervisor-rebuilder")"#));
    let decision = Stage::suite().with([rebuild("supervisor-rebuilder", 7)]).decide(&set);
    assert_eq!(
        words(&decision),
        [format!(
            "a provenance of the build from the source `{}` by one of: other-builder, vendor-builder",
            source(7)
        )]
    );
}

#[test]
fn a_review_counts_for_the_source_of_the_provenance_alone() {
    let set = trusting(&permit_when(
        r#"context.reviewers.contains("auditor") && context.reviewLevels.contains("audited")"#,
    ));
    let stage = Stage::suite().with([provenance("vendor-builder", 1), review("auditor", 2, &["audited"])]);
    let decision = stage.decide(&set);
    assert!(
        words(&decision)[0]
            .starts_with("a review of the source with `audited` by one of: auditor (the one by")
    );
    assert!(stage.clone().with([review("auditor", 1, &["audited", "more"])]).decide(&set).is_permitted());
    assert!(!stage.with([review("auditor", 1, &["skimmed"])]).decide(&set).is_permitted());
}

#[test]
fn builders_who_contradict_each_other_prove_nothing() {
    let set = trusting(&permit_when(REBUILT));
    let stage = Stage::suite().with(all()).with([provenance("other-builder", 2)]);
    // No end: once the custodian has found out which one is right, it goes on.
    let decision = stage.decide(&set);
    assert_eq!(decision.code(), Some("evidence-missing"));
    let Decision::Waits { missing, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!(missing.iter().map(|missing| missing.kind).collect::<Vec<_>>(), [MissingKind::Agreement]);
    assert!(missing[0].words.contains("name different ones"), "{decision:?}");
    let source = format!(r#"context.sources.contains("{}")"#, source(1));
    for alone in [
        r#"context.builders.contains("vendor-builder")"#,
        r#"context.builderIds.contains("https://example.com/builder")"#,
        source.as_str(),
    ] {
        let decision = stage.decide(&trusting(&permit_when(alone)));
        assert!(words(&decision)[0].contains("name different ones"), "{alone}: {decision:?}");
    }
    // What else is missing is said too, and what nothing would permit is refused as ever.
    let more = permit_when(&format!("{REBUILT} && context.approvals >= 4"));
    let kinds = |decision: &Decision| match decision {
        Decision::Waits { missing, .. } => missing.iter().map(|missing| missing.kind).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kinds(&stage.decide(&trusting(&more))), [MissingKind::Agreement, MissingKind::Approval]);
    let never = permit_when(&format!("{REBUILT} && resource.product == \"other\""));
    assert!(reason(&stage.decide(&trusting(&never))).contains("name different sources"));
    // It is a fact: policies may ask for it, either way.
    let decided = |condition: &str| stage.decide(&trusting(&permit_when(condition)));
    assert!(decided("context.buildersContradict && context.approvals >= 1").is_permitted());
    assert!(!decided("!context.buildersContradict").is_permitted());
    assert!(
        Stage::suite()
            .with(all())
            .decide(&trusting(&permit_when("!context.buildersContradict")))
            .is_permitted()
    );
    // What does not rest on a source still counts.
    let tested = trusting(&permit_when(r#"context.testsPassed.contains("fp")"#));
    assert!(stage.with([tests("vendor-tester", &["fp"])]).decide(&tested).is_permitted());
}

/// A run that failed takes nothing away by itself: it is a fact beside the run that passed.
#[test]
fn failed_tests_are_a_fact_beside_those_that_passed() {
    let condition = r#"context.testsPassedBy.contains("vendor-tester/fp")"#;
    let strict = trusting(&permit_when(&format!("{condition} && context.testsFailed.isEmpty()")));
    let lax = trusting(&permit_when(condition));
    let passed = Stage::suite().with([tests("vendor-tester", &["fp"])]);
    assert!(passed.decide(&strict).is_permitted());
    let both = passed.with([Established::TestsFailed { by: "vendor-tester".into() }]);
    assert!(both.decide(&lax).is_permitted());
    assert_eq!(both.decide(&strict).code(), Some("not-allowed"));
    let by_others = permit_when(&format!(r#"{condition} && !context.testsFailed.contains("other")"#));
    assert!(both.decide(&parse(&by_others, None).unwrap()).is_permitted());
}

/// Old files under a new number: as old as the oldest build, and unknown as soon as one build does not say it.
#[test]
fn builds_have_an_age() {
    let aged = |by: &str, hours: Option<u64>| {
        let Established::Provenance(mut build) = provenance(by, 1) else { panic!() };
        build.finished_at = hours.map(|hours| MONDAY - hours * 3_600 - 1);
        Established::Provenance(build)
    };
    let fresh = trusting(&permit_when("context has evidenceAgeHours && context.evidenceAgeHours <= 24"));
    let known = trusting(&permit_when("context has evidenceAgeHours"));
    let of = |builds: Vec<Established>| Stage::suite().with(builds);
    for (builds, is_fresh, is_known) in [
        (vec![], false, false),
        (vec![aged("vendor-builder", Some(24))], true, true),
        (vec![aged("vendor-builder", Some(25))], false, true),
        (vec![aged("vendor-builder", None)], false, false),
        (vec![aged("vendor-builder", Some(1)), aged("other-builder", Some(25))], false, true),
        (vec![aged("vendor-builder", Some(1)), aged("other-builder", None)], false, false),
    ] {
        let stage = of(builds);
        assert_eq!(stage.decide(&fresh).is_permitted(), is_fresh, "{:?}", stage.established);
        assert_eq!(stage.decide(&known).is_permitted(), is_known, "{:?}", stage.established);
    }
    // A build that is to come is fresh; one that is there grows old, and no other mends that.
    assert_eq!(of(vec![]).decide(&fresh).code(), Some("evidence-missing"));
    assert_eq!(of(vec![aged("vendor-builder", Some(25))]).decide(&fresh).code(), Some("not-allowed"));
    let mut later = of(vec![aged("vendor-builder", Some(24))]);
    later.now += 3_600;
    assert!(!later.decide(&fresh).is_permitted());
}

#[test]
fn files_that_were_permitted_before_are_counted() {
    let none = trusting(&permit_when("context.filesPermittedBefore == 0"));
    assert!(Stage::suite().decide(&none).is_permitted());
    let again = Stage { permitted_before: 1, ..Stage::suite() };
    assert_eq!(again.decide(&none).code(), Some("not-allowed"));
}

#[test]
fn approvals_count_custodians_not_documents() {
    let set = trusting(&permit_when("context.approvals >= 2"));
    let stage = Stage::suite().with([approval("anna"), approval("anna"), approval("anna")]);
    assert_eq!(words(&stage.decide(&set)), ["1 more approval of: beat, clara, dario"]);
    assert!(stage.with([approval("dario")]).decide(&set).is_permitted());
    assert_eq!(words(&Stage::suite().decide(&set)), ["2 more approvals of: anna, beat, clara, dario"]);
}

#[test]
fn approvals_of_named_custodians_are_asked_of_them() {
    let both = trusting(&permit_when(r#"context.approvers.containsAll(["anna", "beat"])"#));
    assert_eq!(words(&Stage::suite().decide(&both)), ["the approvals of: anna, beat"]);
    assert_eq!(words(&Stage::suite().with([approval("beat")]).decide(&both)), ["the approval of anna"]);
    let either = trusting(&permit_when(r#"context.approvers.containsAny(["anna", "beat"])"#));
    assert_eq!(words(&Stage::suite().decide(&either)), ["1 more approval of: anna, beat"]);
    assert!(!Stage::suite().with([approval("clara")]).decide(&either).is_permitted());
}

#[test]
fn more_approvals_than_there_are_custodians_are_a_refusal() {
    let decision = Stage::suite().decide(&trusting(&permit_when("context.approvals >= 5")));
    assert!(reason(&decision).contains("whatever evidence comes"));
}

#[test]
fn a_pair_of_pairs_names_one_of_each() {
    let set = trusting(&permit_when(
        r#"context.approvers.containsAny(["anna", "beat"]) && context.approvers.containsAny(["clara", "dario"])"#,
    ));
    let decision = Stage::suite().decide(&set);
    let mut said = words(&decision);
    said.sort_unstable();
    assert_eq!(said, ["1 more approval of: anna, beat", "1 more approval of: clara, dario"]);
}

#[test]
fn rates_include_the_release_itself() {
    let set = trusting(&permit_when("context.releasesInHour <= 4 && context.artifactsInHour <= 10"));
    let with = |releases_in_hour, artifacts_in_hour| {
        Stage { rates: Rates { releases_in_hour, artifacts_in_hour }, ..Stage::avdb() }.decide(&set)
    };
    assert!(with(3, 8).is_permitted());
    for over in [with(4, 8), with(3, 9)] {
        assert_eq!(over.code(), Some("not-yet"));
        assert!(words(&over)[0].starts_with("a quieter hour: with this one there are"));
    }
    let decision = Stage { artifacts: 11, ..Stage::avdb() }.decide(&set);
    assert_eq!(decision.code(), Some("not-allowed"));
}

#[test]
fn the_earliest_permitted_time_is_named() {
    let set = trusting(&permit_when(
        "context.time.weekday <= 5 && context.time.hour >= 7 && context.time.hour < 16",
    ));
    let at = |now| Stage { now, ..Stage::suite() }.decide(&set);
    assert!(at(MONDAY).is_permitted());
    // Saturday 10:00 waits for Monday 07:00.
    let decision = at(MONDAY - 2 * 86_400);
    assert_eq!(words(&decision), ["its time: not before 2026-11-23T07:00:00Z"]);
    assert_eq!(decision.code(), Some("not-yet"));
    // Friday 16:00 as well.
    assert_eq!(words(&at(MONDAY - 3 * 86_400 + 6 * 3_600)), ["its time: not before 2026-11-23T07:00:00Z"]);
}

#[test]
fn minutes_and_dates_that_policies_name_are_tried() {
    let set = trusting(&permit_when("context.time.minuteOfDay >= 630"));
    assert_eq!(words(&Stage::suite().decide(&set)), ["its time: not before 2026-11-23T10:30:00Z"]);
    let freeze = MONDAY + 90 * 86_400 + 17;
    let set = trusting(&permit_when(&format!("context.time.unix > {freeze}")));
    let Decision::Waits { missing, .. } = Stage::suite().decide(&set) else { panic!() };
    assert_eq!((missing[0].kind, missing[0].not_before), (MissingKind::Time, Some(freeze + 1)));
    let over = trusting(&permit_when(&format!("context.time.unix < {MONDAY}")));
    assert_eq!(Stage::suite().decide(&over).code(), Some("not-allowed"));
}

#[test]
fn evidence_and_a_time_may_both_be_missing() {
    let set = trusting(&permit_when(
        r#"context.time.hour >= 12 && context.releasesInHour <= 1 && context.testsPassed.contains("fp")"#,
    ));
    let stage = Stage { rates: Rates { releases_in_hour: 1, artifacts_in_hour: 1 }, ..Stage::avdb() };
    let decision = stage.decide(&set);
    let Decision::Waits { missing, .. } = &decision else { panic!("{decision:?}") };
    let kinds: Vec<_> = missing.iter().map(|missing| missing.kind).collect();
    // By then nothing will have been permitted within an hour.
    assert_eq!(kinds, [MissingKind::Tests, MissingKind::Time]);
    assert_eq!(decision.code(), Some("evidence-missing"));
}

#[test]
fn a_test_counts_by_the_tester_that_is_asked_for() {
    let set = trusting(&permit_when(r#"context.testsPassedBy.contains("vendor-tester/fp")"#));
    assert!(!Stage::avdb().with([tests("intern", &["fp", "vendor-tester/fp"])]).decide(&set).is_permitted());
    assert!(Stage::avdb().with([tests("vendor-tester", &["fp"])]).decide(&set).is_permitted());
    let beside = [tests("intern", &["fp"]), tests("vendor-tester", &["unit"])];
    assert!(!Stage::avdb().with(beside).decide(&set).is_permitted());
}

#[test]
fn a_build_is_no_rebuild_and_a_rebuild_no_build() {
    for (when, given) in [
        (r#"context.rebuilders.contains("x")"#, [provenance("x", 1), provenance("y", 1)]),
        (r#"context.builders.contains("x")"#, [provenance("y", 1), rebuild("x", 1)]),
    ] {
        assert!(!Stage::suite().with(given).decide(&set(&permit_when(when))).is_permitted(), "{when}");
    }
}

/// A custodian tries his policies before any key is named.
#[test]
fn where_nobody_is_trusted_yet_the_policies_say_who_could_give_it() {
    let waits = |when: &str| words(&Stage::suite().decide(&set(&permit_when(when)))).join("; ");
    assert_eq!(waits(r#"context.testsPassedBy.contains("qa/fp")"#), "the passed test `fp` by one of: qa");
    assert_eq!(waits("context.approvals >= 1"), "1 more approval");
}

#[test]
fn documents_say_only_what_a_policy_asks() {
    let set = trusting(&permit_when(
        r#"context.builderIds.contains("https://example.com/builder") ||
           context.sourceUris.contains("git+https://example.com/suite") && context.builders.contains("vendor-builder") && resource.artifacts > 5"#,
    ));
    assert_eq!(
        words(&Stage::suite().decide(&set)),
        [
            "a provenance of the build with `https://example.com/builder` by one of: other-builder, vendor-builder"
        ]
    );
}

#[test]
fn sequences_embargoes_and_requesters_do_not_wait() {
    let sequence =
        permit_when("context has previousSequence && resource.sequence > context.previousSequence");
    assert_eq!(Stage::avdb().decide(&set(&sequence)).code(), Some("not-allowed"));
    assert!(Stage { previous: Some(1), sequence: 2, ..Stage::avdb() }.decide(&set(&sequence)).is_permitted());
    assert_eq!(
        Stage { previous: Some(2), sequence: 2, ..Stage::avdb() }.decide(&set(&sequence)).code(),
        Some("not-allowed")
    );
    let open = set(&permit_when("!context.embargoed"));
    assert!(Stage::suite().decide(&open).is_permitted());
    let decision = Stage { embargoed: true, ..Stage::suite() }.decide(&open);
    assert!(reason(&decision).contains("under embargo"));
    let one = set(r#"@id("p") permit(principal == Requester::"other", action == Action::"sign", resource);"#);
    assert!(reason(&Stage::suite().decide(&one)).contains("asked for by pipeline"));
}

#[test]
fn a_policy_that_cannot_be_evaluated_refuses_everything() {
    let overflow = "resource.sequence + 9223372036854775807 > 0";
    let permit = permit_when("true");
    for broken in [
        format!("@id(\"x\") permit(principal, action == Action::\"sign\", resource) when {{ {overflow} }};"),
        format!("@id(\"x\") forbid(principal, action, resource) when {{ {overflow} }};"),
        format!("@id(\"x\") forbid(principal, action, resource) unless {{ {overflow} }};"),
    ] {
        let decision = Stage::suite().with(all()).decide(&trusting(&(permit.clone() + &broken)));
        assert!(
            reason(&decision).starts_with("policies that cannot be evaluated refuse everything: x"),
            "{decision:?}"
        );
        let Decision::Refused { policies, .. } = &decision else { panic!() };
        assert_eq!(ids(policies), ["x"]);
    }
}

#[test]
fn an_error_that_only_evidence_brings_is_no_way_to_a_permit() {
    let text = permit_when("context.approvals >= 1")
        + r#"@id("x") forbid(principal, action, resource) when { context.approvals * 9223372036854775807 < 0 };"#
        + r#"@id("y") forbid(principal, action, resource) when { context.approvals * 9223372036854775807 + 1 < 0 };"#;
    assert_eq!(Stage::suite().decide(&trusting(&text)).code(), Some("not-allowed"));
    assert!(!Stage::suite().with([approval("anna")]).decide(&trusting(&text)).is_permitted());
}

#[test]
fn a_policy_that_asks_for_the_absence_of_evidence_is_searched_too() {
    let set = trusting(&permit_when(
        r#"context.approvers.contains("anna") && !context.approvers.contains("beat") && !context.builders.contains("other-builder")"#,
    ));
    assert_eq!(words(&Stage::suite().decide(&set)), ["the approval of anna"]);
    assert_eq!(Stage::suite().with([approval("beat")]).decide(&set).code(), Some("not-allowed"));
}

#[test]
fn all_policies_that_permit_are_named_in_order() {
    let text = r#"@id("z") permit(principal, action == Action::"sign", resource); @id("a") permit(principal, action == Action::"sign", resource);
        @id("m") permit(principal, action == Action::"sign", resource) when { context.embargoed };"#;
    let Decision::Permitted { policies } = Stage::suite().decide(&set(text)) else { panic!() };
    assert_eq!(ids(&policies), ["a", "z"]);
}

/// Somebody is trusted and forbidden at once, as when a key is changed. What waits for others' documents is not refused for good for
/// what he might yet send.
#[test]
fn a_document_that_must_not_come_keeps_nobody_from_waiting_for_the_others() {
    let text = format!(
        "{}\n@id(\"not-dario\") forbid(principal, action, resource) when {{ context.approvers.contains(\"dario\") }};",
        permit_when(REBUILT)
    );
    let decision = Stage::suite().decide(&trusting(&text));
    let Decision::Waits { missing, .. } = &decision else { panic!("{decision:?}") };
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert!(missing.iter().all(|missing| !missing.of.contains(&"dario".to_owned())), "{missing:?}");
    let refused = Stage::suite().with([approval("dario")]).decide(&trusting(&text));
    assert!(matches!(refused, Decision::Refused { .. }), "{refused:?}");
}

/// A test run may name a hundred thousand tests. Policies are asked hundreds of times what is missing, and the node's one thread waits.
#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is what is tested")]
fn a_document_with_many_names_costs_no_more_than_one_with_few() {
    // Nothing that comes has it permitted, which is found out by asking at every hour of a week.
    let set = trusting(&permit_when(
        r#"context.testsPassed.contains("unit") && context.rebuilders.contains("nobody") && context.time.hour < 12"#,
    ));
    let many = |others: u32| {
        let passed = (0..others).map(|number| format!("test {number}")).chain(["unit".to_owned()]).collect();
        Stage::suite().with([rutli_evidence::Established::Tests { by: "qa".to_owned(), passed, url: None }])
    };
    // What else the machine does meanwhile, it does to both; the least of some tries is hardly touched by it.
    let least = |names: u32| {
        let stage = many(names);
        let tries = (0..3).map(|_| {
            let begun = std::time::Instant::now();
            (stage.decide(&set), begun.elapsed())
        });
        tries.min_by_key(|(_, elapsed)| *elapsed).unwrap()
    };
    let ((few, cost_of_few), (decision, cost)) = (least(1), least(30_000));
    assert_eq!(decision, few);
    println!("{cost_of_few:?} with one name, {cost:?} with 30,000");
    assert!(cost < 40 * cost_of_few, "{cost:?}, and {cost_of_few:?} with one name");
}

/// Whatever way policies look at names: what is left out of documents changes no answer.
#[test]
fn names_that_no_policy_asks_about_change_only_what_they_must() {
    let passed = |names: &[&str]| {
        let passed = names.iter().map(|name| (*name).to_owned()).collect();
        Stage::suite().with([rutli_evidence::Established::Tests { by: "qa".to_owned(), passed, url: None }])
    };
    for (when, names, permits) in [
        (r#"context.testsPassed == ["b", "c"]"#, &["b", "c"][..], true),
        (r#"context.testsPassed == ["b", "c"]"#, &["b", "c", "d"], false),
        (r#"["b", "c"].containsAll(context.testsPassed)"#, &["b"], true),
        (r#"["b", "c"].containsAll(context.testsPassed)"#, &["b", "z"], false),
        (r#"["qa/b"].containsAll(context.testsPassedBy)"#, &["b", "z"], false),
        (r#"["qa/b"].containsAll(context.testsPassedBy)"#, &["b"], true),
        (
            r#"context.testsPassedBy.contains("qa/y") && !context.testsPassed.contains("x")"#,
            &["a", "y"],
            true,
        ),
        (r#"context.testsPassed.isEmpty()"#, &["z"], false),
        (r#"[context.testsPassed].contains(["x", "y"])"#, &["x", "y"], true),
        (r#"{left: context.testsPassed, right: ["a"]}.left.contains("y")"#, &["a", "b", "y"], true),
        (r#"(if context.embargoed then ["x"] else context.testsPassed).contains("y")"#, &["a", "y"], true),
        (r#"context.testsPassed.contains(resource.channel)"#, &["a", "stable"], true),
    ] {
        assert_eq!(
            passed(names).decide(&trusting(&permit_when(when))).is_permitted(),
            permits,
            "{when}: {names:?}"
        );
    }
}
