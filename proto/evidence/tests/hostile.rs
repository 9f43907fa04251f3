//! Documents that nobody honest sends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
};
use proptest::prelude::*;
use rutli_evidence::{Evidence, NotEvidence, limits};
use serde_json::{Value, json};
use support::*;

/// An envelope with this text as its payload, signed by the builder.
fn raw(payload: &str) -> Vec<u8> {
    envelope(payload.as_bytes(), &[sign(&ed25519(1), payload.as_bytes())])
}

fn document() -> Value {
    serde_json::from_slice(&attested(&provenance(BUILDER), 1)).unwrap()
}

fn refused_with(pointer: &str, to: Value) -> NotEvidence {
    refused(with(document(), pointer, to).to_string().as_bytes())
}

#[test]
fn sizes_are_bounded() {
    let mut bytes = attested(&provenance(BUILDER), 1);
    bytes.resize(limits::MAX_EVIDENCE_BYTES, b' ');
    assert!(Evidence::parse(&bytes).is_ok());
    bytes.push(b' ');
    assert_eq!(refused(&bytes), NotEvidence::TooLarge { bytes: limits::MAX_EVIDENCE_BYTES + 1 });
}

#[test]
fn other_documents_are_named_as_such() {
    for bad in ["", "[]", "null", "rutli", "-----BEGIN SSH SIGNATURE-----\n", "\u{feff}{}", "\0"] {
        assert_eq!(refused(bad.as_bytes()), NotEvidence::NotRecognised, "{bad:?}");
    }
    let payload_type = json!("application/vnd.cyclonedx+json");
    assert!(
        matches!(refused_with("/payloadType", payload_type), NotEvidence::PayloadType { found } if found.contains("cyclonedx"))
    );
    let spdx = with(provenance(BUILDER), "/predicateType", json!("https://spdx.dev/Document"));
    assert_eq!(
        refused(&attested(&without(spdx, "/predicate"), 1)),
        NotEvidence::UnknownPredicate { found: "\"https://spdx.dev/Document\"".into() }
    );
    for (pointer, to) in [
        ("/_type", json!("https://in-toto.io/Statement/v0.1")),
        ("/subject", json!({})),
        ("/subject/0/digest", json!([])),
    ] {
        let refused = refused(&attested(&with(provenance(BUILDER), pointer, to), 1));
        assert!(matches!(refused, NotEvidence::Statement(_)), "{refused}");
    }
    assert!(matches!(refused(&raw("\u{feff}{}")), NotEvidence::Statement(_)));
}

#[test]
fn what_is_repeated_of_them_is_short_and_escaped() {
    let long = format!("\u{1b}[31m{}", "\u{202e}x".repeat(5_000));
    for refused in [
        refused_with("/payloadType", json!(long)),
        refused_with("/signatures", json!(long)),
        refused(&attested(&with(provenance(BUILDER), "/predicateType", json!(long)), 1)),
        refused(&attested(&with(provenance(BUILDER), "/_type", json!(long)), 1)),
        refused(&attested(&with(provenance(BUILDER), "/subject", json!(long)), 1)),
        refused(&attested(&with(test_result(), "/predicate/result", json!(long)), 1)),
        refused(&raw(&format!("{{{0}:1,{0}:1}}", json!(long)))),
    ] {
        let text = refused.to_string();
        assert!(text.len() < 2_000 && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
    }
}

#[test]
fn envelopes_have_one_to_eight_signatures_and_whole_base64() {
    let one = document()["signatures"][0].clone();
    for count in [0, 9, 5_000] {
        let signatures = Value::from(vec![one.clone(); count]);
        assert_eq!(refused_with("/signatures", signatures), NotEvidence::Signatures { count });
    }
    let eight = with(document(), "/signatures", Value::from(vec![one; 8]));
    assert!(check(&trust(), eight.to_string().as_bytes()).is_ok());

    let payload = provenance(BUILDER).to_string();
    let payload = if payload.len().is_multiple_of(3) { payload + " " } else { payload };
    let encoded = STANDARD.encode(&payload);
    assert_ne!(STANDARD_NO_PAD.encode(&payload), encoded);
    for bad in [
        STANDARD_NO_PAD.encode(&payload),
        format!("{encoded}\n"),
        format!(" {encoded}"),
        "*".into(),
        encoded.replace('=', "=="),
    ] {
        assert_eq!(refused_with("/payload", json!(bad)), NotEvidence::Base64 { what: "payload" }, "{bad}");
    }
    assert_eq!(refused_with("/signatures/0/sig", json!("AA")), NotEvidence::Base64 { what: "signature" });
    for pointer in ["/payload", "/payloadType", "/signatures", "/signatures/0/sig"] {
        let refused = refused(without(document(), pointer).to_string().as_bytes());
        assert!(matches!(refused, NotEvidence::Envelope(_)), "{pointer}: {refused}");
    }
}

/// Serde would accept an array in place of an object: the same document in two forms, of which other readers
/// accept one.
#[test]
fn objects_are_not_arrays_of_their_fields() {
    let values = |value: &Value, names: &[&str]| -> Value {
        names.iter().map(|name| value.get(*name).cloned().unwrap_or(Value::Null)).collect()
    };
    let envelope = document();
    let listed = values(&envelope, &["payload", "payloadType", "signatures"]);
    assert!(Evidence::parse(listed.to_string().as_bytes()).is_err());
    let signature = values(&envelope["signatures"][0], &["sig"]);
    assert!(matches!(refused_with("/signatures/0", signature), NotEvidence::Envelope(_)));
    let build = provenance(BUILDER);
    let at = |pointer: &str, names: &[&str]| {
        let listed = values(build.pointer(pointer).unwrap(), names);
        refused(&attested(&with(build.clone(), pointer, listed), 1))
    };
    for (pointer, names) in [
        ("/subject/0", &["name", "digest"][..]),
        ("/predicate", &["buildDefinition", "runDetails"]),
        ("/predicate/buildDefinition", &["buildType", "resolvedDependencies"]),
        ("/predicate/buildDefinition/resolvedDependencies/1", &["name", "uri", "digest"]),
        ("/predicate/runDetails", &["builder", "metadata"]),
        ("/predicate/runDetails/builder", &["id"]),
        ("/predicate/runDetails/metadata", &["invocationId", "finishedOn"]),
    ] {
        let refused = at(pointer, names);
        let expected = matches!(refused, NotEvidence::Statement(_) | NotEvidence::Predicate { .. });
        assert!(expected && refused.to_string().contains("object"), "{pointer}: {refused}");
    }
    let tests = with(test_result(), "/predicate/configuration/0", json!(["clean-set", null, {}]));
    assert!(matches!(refused(&attested(&tests, 3)), NotEvidence::Predicate { .. }));
    let review = with(review(), "/predicate/verifier", json!(["https://audit.example/reviewers"]));
    assert!(matches!(refused(&attested(&review, 4)), NotEvidence::Predicate { .. }));
}

#[test]
fn a_large_statement_has_few_signatures() {
    let payload = |bytes: usize| {
        let mut payload = provenance(BUILDER).to_string();
        payload.extend(std::iter::repeat_n(' ', bytes - payload.len()));
        payload.into_bytes()
    };
    let document = |payload: &[u8], count: usize| {
        let mut signatures = vec![vec![1; 64]; count - 1];
        signatures.push(sign(&ed25519(1), payload));
        envelope(payload, &signatures)
    };
    let (large, small) = (payload(700 * 1024), payload(256 * 1024));
    assert!(check(&trust(), &document(&large, 2)).is_ok());
    assert!(check(&trust(), &document(&small, limits::MAX_SIGNATURES)).is_ok());
    for (payload, count) in [(&large, 3), (&payload(256 * 1024 + 1), limits::MAX_SIGNATURES)] {
        assert_eq!(refused(&document(payload, count)), NotEvidence::Signed { count, bytes: payload.len() });
    }
}

#[test]
fn the_specification_lets_envelopes_vary_where_nothing_is_signed() {
    let expected = check(&trust(), document().to_string().as_bytes());
    assert!(expected.is_ok());
    let mut other = document();
    other["extra"] = json!({"a": [1, 2.5, null, true, {"b": -1}]});
    other["signatures"][0]["cert"] = json!("x");
    other["signatures"][0]["keyid"] = json!("\u{202e}");
    let payload = STANDARD.decode(other["payload"].as_str().unwrap()).unwrap();
    other["payload"] = json!(URL_SAFE.encode(payload));
    assert_eq!(check(&trust(), serde_json::to_string_pretty(&other).unwrap().as_bytes()), expected);
    let bare = without(document(), "/signatures/0/keyid");
    assert_eq!(check(&trust(), format!("\n {bare}\n").as_bytes()), expected);
}

#[test]
fn names_stand_once_at_any_depth() {
    let good = document().to_string();
    for bad in [
        good.replacen('{', r#"{"payload":"","#, 1),
        good.replacen('{', r#"{"x":1,"x":1,"#, 1),
        good.replacen('{', r#"{"x":[{"y":{},"y":{}}],"#, 1),
        good.replace(r#""keyid""#, r#""sig":"","keyid""#),
        good.replace(r#""keyid""#, r#""\u0073ig":"","keyid""#),
    ] {
        assert_ne!(bad, good);
        assert!(matches!(refused(bad.as_bytes()), NotEvidence::Envelope(error) if error.contains("twice")));
    }
    let good = provenance(BUILDER).to_string();
    let sha256 = format!(r#""sha256":"{}""#, "01".repeat(32));
    for bad in [
        good.replacen('{', r#"{"subject":[],"#, 1),
        good.replacen('{', r#"{"predicate":{},"#, 1),
        good.replace(&sha256, &format!("{sha256},{sha256}")),
        good.replace(r#""target":"linux""#, r#""target":"linux","target":"linux""#),
        good.replace(r#""ci":"4""#, r#""ci":"4","ci":"5""#),
    ] {
        assert_ne!(bad, good);
        assert!(matches!(refused(&raw(&bad)), NotEvidence::Statement(error) if error.contains("twice")));
    }
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(100_000);
        assert!(matches!(refused(format!("{{\"x\":{deep}").as_bytes()), NotEvidence::Envelope(_)));
        assert!(matches!(refused(&raw(&deep)), NotEvidence::Statement(_)));
        let whole = format!("{{\"x\":{}1{}}}", "[".repeat(400_000), "]".repeat(400_000));
        assert!(
            matches!(refused(whole.as_bytes()), NotEvidence::Envelope(error) if error.contains("recursion"))
        );
    }
}

#[test]
fn subjects_are_bounded() {
    let subjects = |count: usize| with(provenance(BUILDER), "/subject", Value::from(vec![json!({}); count]));
    assert!(Evidence::parse(&attested(&subjects(limits::MAX_SUBJECTS), 1)).is_ok());
    for count in [0, limits::MAX_SUBJECTS + 1, 250_000] {
        assert_eq!(refused(&attested(&subjects(count), 1)), NotEvidence::Subjects { count });
    }
    let named =
        |bytes: usize| attested(&with(provenance(BUILDER), "/subject/0/name", "x".repeat(bytes).into()), 1);
    assert!(Evidence::parse(&named(limits::MAX_TEXT_BYTES)).is_ok());
    assert!(matches!(refused(&named(limits::MAX_TEXT_BYTES + 1)), NotEvidence::Statement(_)));
}

#[test]
fn digests_have_one_spelling() {
    for bad in [
        "",
        "0",
        &"01".repeat(31),
        &"01".repeat(33),
        &"AB".repeat(32),
        &"zz".repeat(32),
        &format!("{} ", "01".repeat(32)),
    ] {
        let statement = with(provenance(BUILDER), "/subject/0/digest/sha256", json!(bad));
        assert!(matches!(refused(&attested(&statement, 1)), NotEvidence::Statement(_)), "{bad}");
    }
}

/// Documents that each establish something.
fn documents() -> Vec<Vec<u8>> {
    vec![
        attested(&provenance(BUILDER), 1),
        attested(&provenance(REBUILDER), 2),
        attested(&test_result(), 3),
        attested(&review(), 4),
    ]
}

proptest! {
    /// In the layout, in a key id or in an unknown field a flipped bit may do nothing. It never makes another fact.
    #[test]
    fn a_flipped_bit_never_makes_another_fact(number in 0..4_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let document = documents().swap_remove(number);
        let expected = check(&trust(), &document).unwrap();
        let mut flipped = document;
        let at = at.index(flipped.len());
        flipped[at] ^= 1_u8 << bit;
        if let Ok(evidence) = Evidence::parse(&flipped) {
            let outcome = rutli_evidence::verify(&evidence, &trust(), &release(), &id(), NOW);
            prop_assert!(outcome.is_err() || outcome == Ok(expected));
        }
    }

    /// What is signed, and the signature, hold to the last bit.
    #[test]
    fn a_flipped_bit_in_payload_or_signature_establishes_nothing(
        number in 0..4_usize, in_payload in any::<bool>(), at in any::<prop::sample::Index>(), bit in 0..8_u8,
    ) {
        let mut document: Value = serde_json::from_slice(&documents().swap_remove(number)).unwrap();
        let field = document.pointer_mut(if in_payload { "/payload" } else { "/signatures/0/sig" }).unwrap();
        let mut bytes = STANDARD.decode(field.as_str().unwrap()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        *field = json!(STANDARD.encode(bytes));
        if let Ok(evidence) = Evidence::parse(document.to_string().as_bytes()) {
            prop_assert!(rutli_evidence::verify(&evidence, &trust(), &release(), &id(), NOW).is_err());
        }
    }

    #[test]
    fn garbage_is_refused(bytes in any::<Vec<u8>>(), head in prop::sample::select(&["", "{", "rutli ", "rutli approval v1\n"][..])) {
        prop_assert!(Evidence::parse(&[head.as_bytes(), &bytes].concat()).is_err());
    }

    #[test]
    fn garbage_in_an_envelope_is_refused(payload in "\\PC{0,64}") {
        prop_assert!(Evidence::parse(&raw(&payload)).is_err());
    }
}
