//! Files of cases, and explanations.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::*;
use rutli_policy::{Cases, Effect, InvalidCases, limits, run_cases};

const ONE: &str =
    "[[case]]\nname = \"a\"\nexpect = \"permitted\"\nclass = \"product-build\"\nproduct = \"suite\"\n";

#[test]
fn a_case_that_goes_otherwise_says_how() {
    let policies = set(&permit_when("context.approvals >= 1"));
    let with = |more: &str| {
        let report = run_cases(&policies, &Cases::parse(&format!("{ONE}{more}")).unwrap());
        assert_eq!(report.passed, report.cases[0].passed);
        report.cases[0].problem.clone().unwrap_or_default()
    };
    assert_eq!(with("evidence = [{ kind = \"approval\", by = \"anna\" }]"), "");
    assert!(
        with("").starts_with("expected that it is permitted, but: waits for 1 more approval"),
        "{}",
        with("")
    );
    let approved = "evidence = [{ kind = \"approval\", by = \"anna\" }]\n";
    assert_eq!(with(&format!("{approved}policies = [\"p\"]")), "");
    assert_eq!(with(&format!("{approved}policies = []")), "expected it by no policy, but it is by p");
    let waits = ONE.replace("permitted", "waits") + "missing = [\"rebuild\"]";
    let report = run_cases(&policies, &Cases::parse(&waits).unwrap());
    assert!(report.cases[0].problem.as_ref().unwrap().contains("rebuild"), "{report:?}");
}

/// What nobody trusted says is never established at a node: a case with it shows nothing.
#[test]
fn words_of_people_who_are_not_trusted_are_told() {
    let cases = format!(
        "{ONE}evidence = [{{ kind = \"approval\", by = \"anna\" }}, {{ kind = \"approval\", by = \"emil\" }}, {{ kind = \"tests\", by = \"anna\", passed = [] }}]"
    );
    assert_eq!(
        Cases::parse(&cases).unwrap().untrusted(&trust()),
        [
            "the case \"a\" has a word of anna, who is no tester in trust.toml",
            "the case \"a\" has a word of emil, who is no custodian in allowed_signers",
        ]
    );
}

/// Where a case names no source, nobody has seen the digest that stands for it.
#[test]
fn a_source_that_no_case_names_is_not_told() {
    let policies =
        set(&permit_when(r#"context.builders.contains("ci") && context.rebuilders.contains("re")"#));
    let waits = ONE.replace("permitted", "waits");
    let cases = |source: &str| {
        Cases::parse(&format!("{waits}evidence = [{{ kind = \"rebuild\", by = \"re\"{source} }}]")).unwrap()
    };
    let words = |source: &str| run_cases(&policies, &cases(source)).cases[0].words.clone();
    let unstated = words("");
    assert!(unstated.contains("a provenance of the build of the same source"), "{unstated}");
    assert!(!unstated.contains("5a5a"), "{unstated}");
    let commit = "1".repeat(40);
    assert!(words(&format!(", source = \"gitCommit:{commit}\"")).contains(&commit));
}

#[test]
fn what_a_case_gives_is_what_policies_see() {
    for (given, when) in [
        ("requester = \"other\"", r#"principal == Requester::"other""#),
        ("channel = \"beta\"", r#"resource.channel == "beta""#),
        ("version = \"2.0.0\"", r#"resource.version == "2.0.0""#),
        ("sequence = 7", "resource.sequence == 7"),
        ("artifacts = 7", "resource.artifacts == 7"),
        ("file_names = [\"a\", \"b/c\"]", r#"resource.fileNames == ["b/c", "a"]"#),
        ("formats = [\"dsse\"]", r#"resource.formats == ["dsse"]"#),
        ("issued_at = \"2026-11-23T09:59:59Z\"", "resource.issuedAt == 1795427999"),
        (
            "expires_at = \"2026-11-24T10:00:00Z\"",
            "resource has expiresAt && resource.expiresAt == 1795514400",
        ),
        ("embargoed = true", "context.embargoed"),
        ("previous_sequence = 7", "context has previousSequence && context.previousSequence == 7"),
        (
            "previous_version = \"0.9\"",
            "context has previousVersion && context.previousVersion == \"0.9\" && context.versionIsNew",
        ),
        ("version_is_new = false", "!context.versionIsNew"),
        ("releases_in_hour = 7", "context.releasesInHour == 8"),
        ("artifacts_in_hour = 7", "context.artifactsInHour == 8"),
        ("now = \"2026-11-23T12:00:00Z\"", "context.time.hour == 12"),
    ] {
        let passed = |more: &str| {
            run_cases(&set(&permit_when(when)), &Cases::parse(&format!("{ONE}{more}")).unwrap()).passed
        };
        assert!(passed(given), "{given}");
        assert!(!passed(""), "{given}");
    }
}

#[test]
fn json_is_taken_as_well() {
    let json = r#"{"case":[{"name":"a","expect":"refused","class":"av-database","product":"avdb","now":"2026-11-23T10:00:00Z",
        "evidence":[{"kind":"refusal","by":"anna","reason":"no"}]}]}"#;
    assert!(run_cases(&set(&permit_when("true")), &Cases::parse(json).unwrap()).passed);
}

#[test]
fn fields_and_values_that_mean_nothing_are_refused() {
    for bad in [
        "extra = 1",
        "product = \"Suite\"",
        "now = \"yesterday\"",
        "now = \"1969-01-01T00:00:00Z\"",
        "sequence = 0",
        "missing = [\"luck\"]",
        "evidence = [{ kind = \"hearsay\", by = \"anna\" }]",
        "evidence = [{ kind = \"approval\", by = \"anna\", of = \"x\" }]",
        "evidence = [{ kind = \"rebuild\", by = \"x\", source = \"x\" }]",
        "evidence = [{ kind = \"approval\" }]",
    ] {
        let result = Cases::parse(&format!("{ONE}{bad}"));
        assert!(matches!(result, Err(InvalidCases::Form { .. })), "{bad}: {result:?}");
    }
    assert!(matches!(Cases::parse("[[case]]\nname = \"a\""), Err(InvalidCases::Form { .. })));
}

#[test]
fn files_of_cases_are_bounded() {
    assert!(matches!(Cases::parse("case = []"), Err(InvalidCases::Count { count: 0 })));
    assert!(matches!(Cases::parse(&format!("{ONE}{ONE}")), Err(InvalidCases::Repeated { .. })));
    let long = " ".repeat(limits::MAX_CASES_BYTES + 1);
    assert!(matches!(Cases::parse(&long), Err(InvalidCases::TooLarge { .. })));
    let many: String =
        (0..=limits::MAX_CASES).map(|number| ONE.replace("\"a\"", &format!("\"{number}\""))).collect();
    assert!(matches!(Cases::parse(&many), Err(InvalidCases::Count { .. })));
    let evidence = "{ kind = \"approval\", by = \"anna\" },".repeat(limits::MAX_EVIDENCE_PER_CASE + 1);
    assert!(matches!(
        Cases::parse(&format!("{ONE}evidence = [{evidence}]")),
        Err(InvalidCases::Evidence { .. })
    ));
    assert!(Cases::parse(&"[".repeat(100_000)).is_err());
    assert!(Cases::parse(&format!("{{\"case\":{}", "[".repeat(100_000))).is_err());
}

#[test]
fn an_explanation_says_of_each_policy_what_it_lacks() {
    let text = r#"@id("product") permit(principal, action == Action::"sign", resource) when { resource.product == "other" };
@id("approved") permit(principal, action == Action::"sign", resource) when { context.approvals >= 1 };
@id("tested") @reason("untested")
forbid(principal, action, resource) unless { context.testsPassed.contains("fp") };
@id("embargo") forbid(principal, action, resource) when { context.embargoed };"#;
    let explanation = trusting(text).explain(&Stage { embargoed: true, ..Stage::suite() }.facts());
    let policies = &explanation.policies;
    let brief: Vec<_> = policies
        .iter()
        .map(|policy| {
            (policy.id.as_str(), policy.line, policy.applies, policy.for_good, policy.missing.len())
        })
        .collect();
    assert_eq!(
        brief,
        [
            ("product", 1, false, true, 0),
            ("approved", 2, false, false, 1),
            ("tested", 3, true, false, 1),
            ("embargo", 5, true, true, 0),
        ]
    );
    assert_eq!((policies[2].effect, policies[2].reason.as_deref()), (Effect::Forbid, Some("untested")));
    assert_eq!(policies[2].missing[0].words, "the passed test `fp` by one of: vendor-tester");
    assert_eq!(explanation.facts["embargoed"], true);
    assert!(explanation.words.starts_with("forbidden by embargo"), "{}", explanation.words);
    let broken = "@id(\"x\") forbid(principal, action, resource) when { resource.sequence + 9223372036854775807 > 0 };";
    let explanation = trusting(broken).explain(&Stage::suite().facts());
    assert!(!explanation.policies[0].applies && explanation.policies[0].error.is_some(), "{explanation:?}");
}
