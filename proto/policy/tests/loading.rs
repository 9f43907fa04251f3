//! What is refused when it is loaded, with file, line and reason.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::*;
use proptest::prelude::*;
use rutli_policy::{InvalidPolicy, PolicySet, SCHEMA, limits};
use rutli_release::Version;

fn refused(text: &str) -> InvalidPolicy {
    parse(text, Some(&trust())).map(|_| text).unwrap_err()
}

/// A policy written today would permit an action that a later version adds.
#[test]
fn a_permit_is_for_signing_and_names_product_and_class() {
    for any in [
        "permit(principal, action, resource);",
        "permit(principal, action, resource) when { context.approvals >= 1 };",
    ] {
        let error = refused(&format!("@id(\"a\")\n{any}")).to_string();
        assert!(error.contains("line 1: the permit a is for every action"), "{error}");
        assert!(error.contains("write `action == Action::\"sign\"`"), "{error}");
    }
    let warned = |when: &str| {
        let text =
            format!("@id(\"a\") permit(principal, action == Action::\"sign\", resource) when {{ {when} }};");
        let set = PolicySet::parse(&[("x.cedar".to_owned(), text)], None).unwrap();
        set.warnings().iter().filter(|warning| warning.contains("applies to every")).count()
    };
    let (product, class) = (r#"resource.product == "suite""#, r#"resource.class == Class::"product-build""#);
    assert_eq!(warned("context.approvals >= 1"), 2);
    assert_eq!([warned(product), warned(class), warned(&format!("{product} && {class}"))], [1, 1, 0]);
    assert_eq!(warned(&format!("[\"suite\"].contains(resource.product) && {class}")), 0);
    let forbid = "@id(\"f\") forbid(principal, action, resource);".to_owned();
    assert!(PolicySet::parse(&[("x.cedar".to_owned(), forbid)], None).unwrap().warnings().is_empty());
}

#[test]
fn syntax_errors_name_file_line_and_reason() {
    let error = refused(
        "// one\n@id(\"a\") permit(principal, action == Action::\"sign\", resource);\n\npermt(principal);\n",
    );
    assert!(
        matches!(&error, InvalidPolicy::Syntax { line: 4, file, .. } if file == "policy.cedar"),
        "{error:?}"
    );
    assert!(error.to_string().starts_with("policy.cedar, line 4: this is not Cedar: "), "{error}");
}

#[test]
fn what_does_not_fit_the_schema_is_refused_with_its_line() {
    for bad in [
        "context.buildrs.contains(\"vendor-builder\")",
        "context.builders.contains(1)",
        "context.builders == \"vendor-builder\"",
        "resource.class == \"product-build\"",
        "resource.class == Class::\"produkt-build\"",
        "context.previousSequence < 5",
        "resource.owner == \"x\"",
        "principal.name == \"x\"",
        "context.time.day == 1",
    ] {
        let text = format!(
            "@id(\"a\") permit(principal, action == Action::\"sign\", resource);\n\n@id(\"b\")\npermit(principal, action == Action::\"sign\", resource)\nwhen {{ {bad} }};"
        );
        let error = refused(&text);
        match &error {
            InvalidPolicy::Schema { line, id, .. } => {
                assert!(id.as_str() == "b" && (3..=5).contains(line), "{bad}: {error}");
            }
            InvalidPolicy::Syntax { line, .. } => assert!((3..=5).contains(line), "{bad}: {error}"),
            _ => panic!("{bad}: {error:?}"),
        }
    }
}

#[test]
fn actions_and_types_that_do_not_exist_are_refused() {
    for bad in [
        r#"@id("a") permit(principal, action == Action::"pay", resource);"#,
        r#"@id("a") permit(principal == User::"x", action == Action::"sign", resource);"#,
        r#"@id("a") forbid(principal, action, resource is Folder);"#,
    ] {
        assert!(matches!(refused(bad), InvalidPolicy::Schema { .. }), "{bad}");
    }
}

#[test]
fn each_policy_has_an_id_of_its_own() {
    let rest = "permit(principal, action == Action::\"sign\", resource);";
    for bad in ["", "@id ", "@id(\"\") ", "@id(\"a b\") ", "@id(\"ä\") ", "@reason(\"x\") "] {
        let error = refused(&format!("\n{bad}{rest}"));
        assert!(matches!(error, InvalidPolicy::Id { line: 2, .. }), "{bad}: {error:?}");
    }
    assert!(matches!(refused(&format!("@id(\"{}\") {rest}", "a".repeat(65))), InvalidPolicy::Id { .. }));
    let file = |name: &str| (name.to_owned(), format!("@id(\"a\")\n{rest}"));
    let error = PolicySet::parse(&[file("one"), file("two")], None).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "two, line 1: the id a is used before, in one: give each policy its own");
}

#[test]
fn other_annotations_mean_nothing_and_are_refused() {
    let rest = "permit(principal, action == Action::\"sign\", resource);";
    let error = refused(&format!("@id(\"a\") @advice(\"x\") {rest}"));
    assert!(matches!(&error, InvalidPolicy::Annotation { name, .. } if name == "advice"), "{error:?}");
    let long = "x".repeat(limits::MAX_REASON_BYTES + 1);
    for bad in ["", "a\\nb", long.as_str()] {
        assert!(matches!(
            refused(&format!("@id(\"a\") @reason(\"{bad}\") {rest}")),
            InvalidPolicy::Annotation { .. }
        ));
    }
}

#[test]
fn templates_are_refused() {
    let error = refused("@id(\"a\") permit(principal == ?principal, action, resource);");
    assert!(matches!(error, InvalidPolicy::Template { .. }), "{error:?}");
}

#[test]
fn whoever_is_named_and_not_trusted_is_told() {
    for (bad, role) in [
        ("context.builders.contains(\"vendor-bilder\")", "builder"),
        ("context.builders.contains(\"supervisor-rebuilder\")", "builder"),
        ("context.rebuilders.containsAny([\"supervisor-rebuilder\", \"x\"])", "rebuilder"),
        ("[\"x\"].containsAll(context.testers)", "tester"),
        ("context.reviewers == [\"x\"]", "reviewer"),
        ("context.approvers.contains(\"emil\")", "custodian"),
        ("context.testsPassedBy.contains(\"x/fp\")", "tester"),
    ] {
        let text = format!("\n{}", permit_when(bad));
        let set = trusting(&text);
        let told = set.strangers().iter().any(|stranger| {
            stranger.contains("line 2: ") && stranger.contains(&format!("you trust no such {role} "))
        });
        assert!(told, "{bad}: {:?}", set.strangers());
        // Without knowing whom the node trusts it cannot be said.
        assert!(parse(&text, None).unwrap().strangers().is_empty(), "{bad}");
    }
}

#[test]
fn names_that_cannot_be_followed_are_warned_about() {
    let text =
        permit_when("(if context.embargoed then context.builders else context.testers).contains(\"x\")");
    let set = trusting(&text);
    assert_eq!(set.warnings().len(), 5, "and that it leaves product and class free, and asks no builder");
    assert!(
        set.warnings()[0].contains("context.builders is compared with something that is not written out")
    );
    assert!(set_warnings("// nothing").contains("has no policies"));
    // Cedar's own.
    assert!(set_warnings(&permit_when("false")).contains("policy.cedar, line 1: p: "));
}

fn set_warnings(text: &str) -> String {
    set(text).warnings().join("\n")
}

#[test]
fn texts_that_can_never_be_there_are_refused() {
    for bad in [
        permit_when("resource.product == \"Suite\""),
        permit_when("[\"suite\", \"a b\"].contains(resource.product)"),
        permit_when("resource.channel != \"Stable\""),
        permit_when("resource.version == \"\""),
        permit_when("context.sources.contains(\"abc\")"),
        permit_when("context.testsPassedBy.contains(\"fp\")"),
        r#"@id("p") permit(principal == Requester::"The Pipeline", action == Action::"sign", resource);"#
            .to_owned(),
        r#"@id("p") forbid(principal, action, resource == Release::"suite");"#.to_owned(),
    ] {
        assert!(matches!(refused(&bad), InvalidPolicy::NeverThere { .. }), "{bad}: {:?}", refused(&bad));
    }
}

#[test]
fn all_bounds_hold() {
    let file = |text: String| vec![("f".to_owned(), text)];
    let error = |files: &[(String, String)]| PolicySet::parse(files, None).map(|_| ()).unwrap_err();
    let many: Vec<_> = (0..=limits::MAX_FILES).map(|_| ("f".to_owned(), String::new())).collect();
    assert!(matches!(error(&many), InvalidPolicy::TooManyFiles { .. }));
    assert!(matches!(error(&file(" ".repeat(limits::MAX_BYTES + 1))), InvalidPolicy::TooLarge { .. }));
    let policies = |count: usize| -> String {
        (0..count)
            .map(|number| {
                format!("@id(\"p{number}\") permit(principal, action == Action::\"sign\", resource);\n")
            })
            .collect()
    };
    assert!(matches!(
        error(&file(policies(limits::MAX_POLICIES + 1))),
        InvalidPolicy::TooManyPolicies { .. }
    ));
    assert!(PolicySet::parse(&file(policies(limits::MAX_POLICIES)), None).is_ok());
    let long = format!("resource.product like \"{}*\"", "x".repeat(10))
        + &format!(" || resource.version == \"{}\"", "1".repeat(3_000));
    assert!(parse(&permit_when(&long), None).is_err());
    let text =
        |length: usize| permit_when(&format!("context.builderIds.contains(\"{}\")", "x".repeat(length)));
    assert!(matches!(refused(&text(limits::MAX_LITERAL_BYTES + 1)), InvalidPolicy::Literals { .. }));
    assert!(parse(&text(limits::MAX_LITERAL_BYTES - 2), None).is_ok());
    let texts = |count: usize, from: usize| {
        let texts: Vec<String> = (from..from + count).map(|number| format!("\"t{number}\"")).collect();
        format!("context.testsPassed.containsAny([{}])", texts.join(","))
    };
    let literals_of = |policies: usize| -> String {
        let policy = |part: usize| {
            format!(
                "@id(\"p{part}\") permit(principal, action == Action::\"sign\", resource) when {{ {} }};",
                texts(100, part * 100)
            )
        };
        (0..policies).map(policy).collect()
    };
    assert!(matches!(error(&file(literals_of(6))), InvalidPolicy::Literals { .. }));
    assert!(matches!(error(&file(literals_of(3))), InvalidPolicy::TooManyDocuments { .. }));
    // Of ways to build not every combination is thought up.
    let twenty = (0..20).map(|number| format!("\"t{number}\"")).collect::<Vec<_>>().join(",");
    let ways =
        format!("context.builderIds.containsAny([{twenty}]) && context.buildTypes.containsAny([{twenty}])");
    assert!(parse(&permit_when(&ways), None).is_ok());
}

#[test]
fn nesting_is_bounded_before_anything_recursive_reads_it() {
    let deep = |open: &str, close: &str, times: usize| {
        permit_when(&format!("{}true{}", open.repeat(times), close.repeat(times)))
    };
    for text in [
        deep("(", ")", 20_000),
        deep("!", "", 60_000),
        deep("if true then ", " else false", 4_000),
        deep("[", "]", 20_000),
        deep("true && ", "", 12_000),
        "(".repeat(100_000),
        deep("{a: ", "}", 20_000),
        permit_when(&format!("context{}", ".time".repeat(20_000))),
        // Each bound by itself, and one more; `when {` is open already.
        deep("(", ")", limits::MAX_DEPTH),
        deep("!", "", limits::MAX_DEPTH + 1),
        deep("true && ", "", limits::MAX_OPERATORS / 2 + 1),
        format!("// (\n{}", deep("(", ")", limits::MAX_DEPTH)),
    ] {
        let error = refused(&text);
        assert!(matches!(error, InvalidPolicy::TooComplex { .. }), "{error:?}");
    }
    // Up to the bounds it is read, and evaluated, in the stack that a thread has.
    let row =
        set(&permit_when(&format!("{}true", "!context.embargoed && ".repeat(limits::MAX_OPERATORS / 2))));
    let decision = Stage::suite().decide(&row);
    assert!(decision.is_permitted(), "{decision:?}");
    let row = set(&permit_when(&format!("{}true{}", "(".repeat(9), ")".repeat(9))));
    let decision = Stage::suite().decide(&row);
    assert!(decision.is_permitted(), "{decision:?}");
}

#[test]
fn strings_and_comments_do_not_count_as_brackets() {
    let text = format!(
        "// {}\n{}",
        "(".repeat(200),
        permit_when(&format!(
            "resource.version != \"1\" || \"{}\\\"{}\" == \"\"",
            "(".repeat(100),
            "(".repeat(100)
        ))
    );
    assert!(parse(&text, None).is_ok(), "{:?}", parse(&text, None).map(|_| ()));
}

#[test]
fn errors_are_short_and_printable() {
    let error = refused(&format!("permit({}\u{1b}[31m\u{202e}", "x".repeat(5_000)));
    let said = error.to_string();
    assert!(said.len() < 1_500 && !said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said:?}");
}

#[test]
fn ids_and_the_digest_tell_sets_apart() {
    let one = set(
        "@id(\"b\") permit(principal, action == Action::\"sign\", resource); @id(\"a\") forbid(principal, action, resource);",
    );
    assert_eq!(one.ids().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let digest = |files: &[(&str, &str)]| {
        let files: Vec<_> =
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        PolicySet::parse(&files, None).unwrap().digest()
    };
    let all = [
        digest(&[]),
        digest(&[("a", "")]),
        digest(&[("", "a".get(..0).unwrap())]),
        digest(&[("a", "//")]),
        digest(&[("a/", "/ ".get(..0).unwrap())]),
        digest(&[("a", ""), ("b", "")]),
        digest(&[("b", ""), ("a", "")]),
    ];
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
}

/// The context that is built without asking the schema has just the attributes that the schema has.
#[test]
fn every_attribute_of_the_schema_can_be_asked_for_and_is_there() {
    let attributes = [
        "builders",
        "builderIds",
        "buildTypes",
        "sources",
        "sourceUris",
        "rebuilders",
        "reviewers",
        "reviewLevels",
        "testers",
        "testsPassed",
        "testsPassedBy",
        "approvers",
    ];
    let mut all: Vec<String> =
        attributes.iter().map(|name| format!("(context.{name}.contains(\"x\") || true)")).collect();
    // Sources and tests of testers have a form of their own.
    all.retain(|text| !text.contains(".sources.") && !text.contains("testsPassedBy"));
    all.push("(context.sources.isEmpty() || true) && (context.testsPassedBy.isEmpty() || true)".to_owned());
    all.push("context.approvals == 0 && !context.embargoed && context.releasesInHour == 1 && context.artifactsInHour == 2".to_owned());
    all.push("context.time.weekday == 1 && context.time.hour == 10 && context.time.minuteOfDay == 600 && context.time.unix == 1795428000".to_owned());
    all.push("resource.class == Class::\"product-build\" && resource.product == \"suite\" && resource.channel == \"stable\"".to_owned());
    all.push("resource.version == \"1.0.0\" && resource.sequence == 1 && resource.artifacts == 2".to_owned());
    all.push("resource.issuedAt == 1795427940 && !(resource has expiresAt)".to_owned());
    all.push("resource.formats.contains(\"dsse\") && resource.fileNames.contains(\"notes\")".to_owned());
    all.push(
        "context.filesPermittedBefore == 0 && !context.buildersContradict && context.testsFailed.isEmpty()"
            .to_owned(),
    );
    all.push("!(context has evidenceAgeHours)".to_owned());
    all.push("!(context has previousVersion) && context.versionIsNew".to_owned());
    all.push("!(context has previousSequence) && principal == Requester::\"pipeline\"".to_owned());
    let stage = Stage::suite();
    for when in &all {
        assert!(stage.decide(&set(&permit_when(when))).is_permitted(), "{when}");
    }
    let stage = Stage { previous: Some(7), ..Stage::suite() };
    assert!(
        stage
            .decide(&set(&permit_when("context has previousSequence && context.previousSequence == 7")))
            .is_permitted()
    );
    let stage = Stage { expires_at: Some(9), ..Stage::suite() };
    assert!(
        stage.decide(&set(&permit_when("resource has expiresAt && resource.expiresAt == 9"))).is_permitted()
    );
    let stage = Stage {
        previous_version: Some(Version::new("0.9.1").unwrap()),
        version_is_new: false,
        ..Stage::suite()
    };
    let when =
        "!context.versionIsNew && context has previousVersion && context.previousVersion like \"0.9.*\"";
    assert!(stage.decide(&set(&permit_when(when))).is_permitted());
    let lines = SCHEMA.lines().filter(|line| {
        line.trim_start().chars().next().is_some_and(char::is_lowercase) && line.contains(": ")
    });
    let names: Vec<&str> = lines.map(|line| line.trim().split([':', '?']).next().unwrap()).collect();
    let asked = all.join(" ")
        + " context.evidenceAgeHours resource.expiresAt context.previousSequence context.previousVersion .sources.isEmpty";
    for name in names.into_iter().filter(|name| !["principal", "resource", "context"].contains(name)) {
        assert!(asked.contains(&format!(".{name}")), "{name} is in the schema and not in this test");
    }
}

#[test]
fn the_table_of_facts_has_every_attribute() {
    let table = include_str!("../src/schema.rs");
    for line in SCHEMA.lines().filter(|line| line.trim_end().ends_with([';', ',']) && line.contains(": ")) {
        let name = line.trim().split([':', '?']).next().unwrap();
        if !["principal", "resource", "time"].contains(&name) {
            assert!(table.contains(&format!(".{name}`")), "{name} is not in the table");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever text comes, it is refused or loaded; nothing panics, and what it permits it permits by a policy.
    #[test]
    fn any_text_is_loaded_or_refused(
        parts in prop::collection::vec(prop_oneof![
            Just("@id(\"a\")"), Just("permit"), Just("forbid"), Just("(principal, action, resource)"), Just("when"),
            Just("unless"), Just("{"), Just("}"), Just(";"), Just("context.approvals >= 1"), Just("&&"), Just("!"),
            Just("\""), Just("//"), Just("\n"), Just("?principal"), Just("\u{0}"), Just("("), Just("é"),
        ], 0..40)
    ) {
        let text = parts.join(" ");
        if let Ok(set) = parse(&text, None) {
            let decision = Stage::suite().decide(&set);
            prop_assert!(!decision.is_permitted() || set.ids().count() > 0);
        }
    }
}
