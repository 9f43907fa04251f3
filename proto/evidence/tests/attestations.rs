//! What attestations establish, and what keeps them from it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use p256::ecdsa::Signature;
use rutli_evidence::{
    BuildFact, Established, Evidence, Kind, NotEstablished, NotEvidence, Role, SourceDigest, Trust,
};
use serde_json::{Value, json};
use support::*;

fn build_fact(by: &str, builder_id: &str) -> BuildFact {
    BuildFact {
        by: by.into(),
        builder_id: builder_id.into(),
        build_type: "https://vendor.example/build/v1".into(),
        source_uri: Some("git+https://vendor.example/suite".into()),
        source_digest: SourceDigest::GitCommit("ab".repeat(20)),
        invocation_id: Some("run-17".into()),
        finished_at: Some(1_795_255_200),
    }
}

fn provenance_refused(statement: &Value) -> NotEstablished {
    check(&trust(), &attested(statement, 1)).unwrap_err()
}

#[test]
fn provenance_by_a_builder_is_a_build_and_by_a_rebuilder_a_rebuild() {
    let built = check(&trust(), &attested(&provenance(BUILDER), 1)).unwrap();
    assert_eq!(built, Established::Provenance(build_fact("vendor-ci", BUILDER)));
    let rebuilt = check(&trust(), &attested(&provenance(REBUILDER), 2)).unwrap();
    assert_eq!(rebuilt, Established::Rebuild(build_fact("supervisor-rebuild", REBUILDER)));
    let evidence = Evidence::parse(&attested(&provenance(BUILDER), 1)).unwrap();
    assert_eq!(evidence.kind(), Kind::Build);
    assert_eq!(Evidence::parse(evidence.as_bytes()).unwrap().digest(), evidence.digest());
}

#[test]
fn nobody_speaks_for_a_builder_that_is_not_his() {
    let refused = check(&trust(), &attested(&provenance(REBUILDER), 1)).unwrap_err();
    assert_eq!(
        refused,
        NotEstablished::UntrustedId { key: "vendor-ci".into(), id: format!("\"{REBUILDER}\"") }
    );
    let refused = check(&trust(), &attested(&provenance(BUILDER), 2)).unwrap_err();
    assert!(matches!(refused, NotEstablished::UntrustedId { key, .. } if key == "supervisor-rebuild"));
    let hostile = check(&trust(), &attested(&provenance(&"x".repeat(2_000)), 1)).unwrap_err();
    assert!(hostile.to_string().len() < 400, "{hostile}");
}

#[test]
fn keys_speak_in_their_role_only() {
    for (statement, right) in [
        (provenance(BUILDER), &[1_u8][..]),
        (provenance(REBUILDER), &[2]),
        (test_result(), &[3]),
        (review(), &[4]),
    ] {
        for number in 1..=5 {
            let outcome = check(&trust(), &attested(&statement, number));
            assert_eq!(outcome.is_ok(), right.contains(&number), "{number} {statement}");
        }
    }
    assert_eq!(
        check(&trust(), &attested(&provenance(BUILDER), 3)),
        Err(NotEstablished::WrongRole {
            key: "qa".into(),
            role: Role::Tester,
            wanted: "builder or rebuilder"
        })
    );
    assert_eq!(
        check(&trust(), &attested(&test_result(), 1)),
        Err(NotEstablished::WrongRole { key: "vendor-ci".into(), role: Role::Builder, wanted: "tester" })
    );
}

#[test]
fn a_removed_key_establishes_nothing() {
    let document = attested(&provenance(BUILDER), 1);
    let without: Vec<_> = keys().into_iter().filter(|key| key.role != Role::Builder).collect();
    let removed = Trust::new(without, "").unwrap();
    let wanted = "builder or rebuilder";
    assert_eq!(check(&removed, &document), Err(NotEstablished::Untrusted { wanted }));
    assert_eq!(check(&Trust::default(), &document), Err(NotEstablished::Untrusted { wanted }));
}

#[test]
fn every_file_is_named_with_its_own_digest() {
    let missing = with(provenance(BUILDER), "/subject", json!([subjects()[1]]));
    assert_eq!(
        provenance_refused(&missing),
        NotEstablished::SubjectMissing { file: "\"linux/suite-1\"".into(), algorithm: "sha256", more: 1 }
    );
    let mut swapped = provenance(BUILDER);
    swapped["subject"][0]["digest"] = subjects()[1]["digest"].clone();
    swapped["subject"][1]["digest"] = subjects()[0]["digest"].clone();
    assert_eq!(
        provenance_refused(&swapped),
        NotEstablished::SubjectContradicts {
            file: "\"linux/suite-1\"".into(),
            algorithm: "sha256",
            release: "01".repeat(32),
            evidence: "02".repeat(32),
        }
    );
    // By a name that only looks like it, and by another algorithm only.
    for (pointer, to) in [
        ("/subject/0/name", json!("./linux/suite-1")),
        ("/subject/0/name", json!("LINUX/suite-1")),
        ("/subject/0/digest", json!({"sha512": "01".repeat(64)})),
        ("/subject/0/digest", json!({"gitCommit": "01".repeat(32)})),
        ("/subject/0", json!({"digest": {"sha256": "01".repeat(32)}})),
    ] {
        let refused = provenance_refused(&with(provenance(BUILDER), pointer, to));
        assert!(matches!(refused, NotEstablished::SubjectMissing { more: 0, .. }), "{pointer}: {refused}");
    }
    // More algorithms do no harm, nor do more subjects, nor does a file that is named twice alike.
    let mut more = provenance(BUILDER);
    more["subject"][0]["digest"]["sha512"] = json!("12".repeat(64));
    let again = more["subject"][0].clone();
    more["subject"].as_array_mut().unwrap().push(again);
    let log = json!({"name": "build.log", "digest": {"sha256": "77".repeat(32), "sha1": "x"}});
    more["subject"].as_array_mut().unwrap().push(log);
    assert!(check(&trust(), &attested(&more, 1)).is_ok());
}

/// One reader uses the first of two subjects with a name, another the last: both must be the same.
#[test]
fn no_algorithm_has_two_values_for_a_file() {
    let (one, two) = ("12".repeat(64), "13".repeat(64));
    let also = |digest: Value| json!({"name": "linux/suite-3", "digest": digest});
    for (first, then, repeated) in [
        // The right SHA-256 and another one.
        (json!({}), also(json!({"sha256": "99".repeat(32)})), "sha256"),
        // Both the right one, with another algorithm that differs.
        (json!({"sha512": one}), also(json!({"sha256": "03".repeat(32), "sha512": two})), "sha512"),
        (json!({"sha512": one}), also(json!({"sha512": two})), "sha512"),
        (json!({"blake2b": one}), also(json!({"blake2b": two})), "blake2b"),
        (json!({"sha1": "a"}), also(json!({"sha1": "b"})), "sha1"),
    ] {
        let mut both = provenance(BUILDER);
        both["subject"][2]["digest"].as_object_mut().unwrap().extend(first.as_object().unwrap().clone());
        assert!(check(&trust(), &attested(&both, 1)).is_ok(), "{both}");
        for place in [0, 3] {
            let mut both = both.clone();
            both["subject"].as_array_mut().unwrap().insert(place, then.clone());
            assert_eq!(
                provenance_refused(&both),
                NotEstablished::SubjectRepeated {
                    file: "\"linux/suite-3\"".into(),
                    algorithm: format!("{repeated:?}"),
                }
            );
        }
    }
    // Digests that identify files have one encoding.
    for (algorithm, digest) in
        [("sha512", "AB".repeat(64)), ("sha512", "ab".repeat(32)), ("blake2b", "x".repeat(128))]
    {
        let mut odd = provenance(BUILDER);
        odd["subject"][0]["digest"][algorithm] = json!(digest);
        assert!(Evidence::parse(&attested(&odd, 1)).is_err(), "{algorithm}");
    }
}

#[test]
fn test_results_count_if_everything_passed() {
    let established = check(&trust(), &attested(&test_result(), 3)).unwrap();
    let passed = ["false-positives", "install"].map(String::from).into();
    let url = Some("https://qa.example/runs/1".into());
    assert_eq!(established, Established::Tests { by: "qa".into(), passed, url });

    let refused = |pointer, to| check(&trust(), &attested(&with(test_result(), pointer, to), 3)).unwrap_err();
    let result = "WARNED";
    assert_eq!(refused("/predicate/result", json!(result)), NotEstablished::TestsNotPassed { result });
    // That a run failed counts as soon as it is about one of the files.
    let failed = with(test_result(), "/predicate/failedTests", json!(["b", "a"]));
    for failed in [with(test_result(), "/predicate/result", json!("FAILED")), failed] {
        let one = with(failed.clone(), "/subject", json!([subjects()[0]]));
        for failed in [&failed, &one] {
            let established = check(&trust(), &attested(failed, 3)).unwrap();
            assert_eq!(established, Established::TestsFailed { by: "qa".into() });
        }
        let other = with(one, "/subject/0/digest/sha256", json!("99".repeat(32)));
        assert!(matches!(
            check(&trust(), &attested(&other, 3)).unwrap_err(),
            NotEstablished::TestsNotPassed { result: "FAILED" } | NotEstablished::TestsFailed { more: 1, .. }
        ));
        assert!(check(&trust(), &attested(&failed, 1)).is_err(), "by somebody else");
    }
    assert!(matches!(
        refused("/subject", json!([subjects()[0]])),
        NotEstablished::SubjectMissing { more: 1, .. }
    ));
    let swapped = json!("02".repeat(32));
    assert!(matches!(
        refused("/subject/0/digest/sha256", swapped),
        NotEstablished::SubjectContradicts { .. }
    ));
}

#[test]
fn reviews_are_of_one_source_that_passed() {
    let sha256 = SourceDigest::Sha256([0xef; 32]);
    let expected = |source_digest| Established::Review {
        by: "audit".into(),
        verifier_id: "https://audit.example/reviewers".into(),
        source_uri: "https://vendor.example/suite-1.2.tar.gz".into(),
        source_digest,
        levels: BTreeSet::from(["AUDITED".into()]),
    };
    assert_eq!(check(&trust(), &attested(&review(), 4)).unwrap(), expected(sha256.clone()));
    let commit = with(review(), "/subject/0/digest", json!({"gitCommit": "12".repeat(20)}));
    let commit = check(&trust(), &attested(&commit, 4)).unwrap();
    assert_eq!(commit, expected(SourceDigest::GitCommit("12".repeat(20))));
    let both =
        with(review(), "/subject/0/digest", json!({"gitCommit": "12".repeat(20), "sha256": "ef".repeat(32)}));
    assert_eq!(check(&trust(), &attested(&both, 4)).unwrap(), expected(sha256));

    let refused = |pointer, to| check(&trust(), &attested(&with(review(), pointer, to), 4)).unwrap_err();
    assert_eq!(refused("/predicate/verificationResult", json!("FAILED")), NotEstablished::ReviewNotPassed);
    assert_eq!(
        refused("/subject/0/digest", json!({"sha1": "00"})),
        NotEstablished::ReviewSubject { count: 1 }
    );
    assert_eq!(refused("/subject", subjects()), NotEstablished::ReviewSubject { count: 3 });
}

#[test]
fn a_reviewer_may_be_held_to_its_name() {
    let held = |id: &str| {
        let key = attestation_key("audit", Role::Reviewer, pem(&ed25519(4)), &[id]);
        check(&Trust::new(vec![key], "").unwrap(), &attested(&review(), 4))
    };
    assert!(held("https://audit.example/reviewers").is_ok());
    assert!(matches!(held("https://audit.example/others"), Err(NotEstablished::UntrustedId { .. })));
}

#[test]
fn one_valid_signature_is_enough_and_the_role_that_fits_counts() {
    let payload = provenance(REBUILDER).to_string().into_bytes();
    let signatures: Vec<Vec<u8>> = (1..=5).rev().map(|number| sign(&ed25519(number), &payload)).collect();
    // The builder signed too, but may not speak for the rebuilder.
    let rebuilt = check(&trust(), &envelope(&payload, &signatures)).unwrap();
    assert!(matches!(rebuilt, Established::Rebuild(_)));
    let signatures = vec![vec![], vec![0; 64], vec![1; 10_000], sign(&ed25519(2), &payload)];
    assert!(check(&trust(), &envelope(&payload, &signatures)).is_ok());
}

/// Whoever wrote the file in another order did not mean anything by it.
#[test]
fn of_two_roles_the_first_counts_whatever_the_order_of_the_keys() {
    let payload = provenance(BUILDER).to_string().into_bytes();
    let document = envelope(&payload, &[sign(&ed25519(2), &payload), sign(&ed25519(1), &payload)]);
    let mut keys = keys();
    keys[1].ids.push(BUILDER.into());
    for _ in 0..2 {
        keys.reverse();
        let trust = Trust::new(keys.clone(), "").unwrap();
        assert!(matches!(check(&trust, &document), Ok(Established::Provenance(_))));
    }
}

#[test]
fn the_payload_type_and_the_frame_are_signed() {
    use ed25519_dalek::Signer;
    let payload = provenance(BUILDER).to_string().into_bytes();
    for signed in [payload.clone(), rutli_release::pae("application/json", &payload)] {
        let signature = ed25519(1).sign(&signed).to_bytes().to_vec();
        assert!(check(&trust(), &envelope(&payload, &[signature])).is_err());
    }
}

#[test]
fn ecdsa_signatures_are_der_with_either_s() {
    let key = p256_key();
    let builder = attestation_key("vendor-ci", Role::Builder, p256_pem(&key), &[BUILDER]);
    let trust = Trust::new(vec![builder], "").unwrap();
    let payload = provenance(BUILDER).to_string().into_bytes();
    let low = sign_p256(&key, &payload);
    let low = low.normalize_s().unwrap_or(low);
    let (r, s) = low.split_scalars();
    let high = Signature::from_scalars(*r, *(-s)).unwrap();
    assert!(high.normalize_s().is_some());
    for signature in [low, high] {
        let der = signature.to_der().as_bytes().to_vec();
        let longer = [&der[..], &[0]].concat();
        assert!(check(&trust, &envelope(&payload, &[der])).is_ok());
        for bad in [signature.to_vec(), longer] {
            assert!(matches!(
                check(&trust, &envelope(&payload, &[bad])),
                Err(NotEstablished::Untrusted { .. })
            ));
        }
    }
    let other = [payload.as_slice(), b" "].concat();
    let der = sign_p256(&key, &payload).to_der().as_bytes().to_vec();
    assert!(check(&trust, &envelope(&other, &[der])).is_err());
}

#[test]
fn openssl_signs_what_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let status =
            std::process::Command::new("openssl").args(arguments).current_dir(&directory).output().unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    };
    let payload = provenance(BUILDER).to_string().into_bytes();
    std::fs::write(
        directory.path().join("signed"),
        rutli_release::pae(rutli_release::PAYLOAD_TYPE, &payload),
    )
    .unwrap();
    for (make, sign) in [
        (
            &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"][..],
            &["dgst", "-sha256", "-sign", "key", "-out", "signature", "signed"][..],
        ),
        (
            &["genpkey", "-algorithm", "ed25519", "-out", "key"],
            &["pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "signed", "-out", "signature"],
        ),
    ] {
        run(make);
        run(sign);
        run(&["pkey", "-in", "key", "-pubout", "-out", "public"]);
        let public = std::fs::read_to_string(directory.path().join("public")).unwrap();
        let signature = std::fs::read(directory.path().join("signature")).unwrap();
        let key = attestation_key("vendor-ci", Role::Builder, public, &[BUILDER]);
        let trust = Trust::new(vec![key], "").unwrap();
        assert!(matches!(check(&trust, &envelope(&payload, &[signature])), Ok(Established::Provenance(_))));
    }
}

#[test]
fn the_source_is_named_or_the_only_one() {
    let dependencies = |items: Value| {
        let pointer = "/predicate/buildDefinition/resolvedDependencies";
        Evidence::parse(&attested(&with(provenance(BUILDER), pointer, items), 1))
    };
    let source = json!({"name": "source", "digest": {"sha256": "ab".repeat(32)}});
    let other = json!({"name": "src", "uri": "x", "digest": {"sha256": "cd".repeat(32)}});
    assert!(dependencies(json!([other])).is_ok());
    assert!(dependencies(json!([other, source, other])).is_ok());
    for bad in [
        json!([]),
        json!([other, other]),
        json!([source, source]),
        json!([{"name": "source", "uri": "x"}]),
        json!([{"name": "source", "digest": {"sha1": "00"}}]),
        json!([{"name": "source", "digest": {"sha256": "AB".repeat(32)}}]),
        json!([{"name": "source", "digest": {"gitCommit": "abc"}}]),
    ] {
        let refused = dependencies(bad.clone()).unwrap_err();
        assert!(
            matches!(refused, NotEvidence::Predicate { predicate: "SLSA provenance", .. }),
            "{bad}: {refused}"
        );
    }
    let fact = |document: &[u8]| match check(&trust(), document) {
        Ok(Established::Provenance(fact)) => fact,
        other => panic!("{other:?}"),
    };
    let pointer = "/predicate/buildDefinition/resolvedDependencies";
    let built = fact(&attested(&with(provenance(BUILDER), pointer, json!([other, source])), 1));
    assert_eq!((built.source_digest, built.source_uri), (SourceDigest::Sha256([0xab; 32]), None));
}

#[test]
fn what_need_not_be_there_need_not() {
    let bare = without(provenance(BUILDER), "/predicate/runDetails/metadata");
    let Ok(Established::Provenance(fact)) = check(&trust(), &attested(&bare, 1)) else { panic!() };
    assert_eq!((fact.invocation_id, fact.finished_at), (None, None));
    let mut bare = test_result();
    for field in ["url", "passedTests", "warnedTests", "failedTests"] {
        bare = without(bare, &format!("/predicate/{field}"));
    }
    let Ok(Established::Tests { passed, .. }) = check(&trust(), &attested(&bare, 3)) else { panic!() };
    assert_eq!(passed, BTreeSet::new(), "what it ran on is not what passed");
}

#[test]
fn what_must_be_there_must_be_of_the_right_type() {
    for (statement, pointer, to) in [
        (provenance(BUILDER), "/predicate/runDetails/builder/id", json!("")),
        (provenance(BUILDER), "/predicate/runDetails/builder/id", json!("a\nb")),
        (provenance(BUILDER), "/predicate/runDetails/builder/id", json!("x".repeat(2_049))),
        (provenance(BUILDER), "/predicate/runDetails/builder", json!("x")),
        (provenance(BUILDER), "/predicate/runDetails/metadata/finishedOn", json!("yesterday")),
        (provenance(BUILDER), "/predicate/runDetails/metadata/finishedOn", json!(17)),
        (provenance(BUILDER), "/predicate/runDetails/metadata/invocationId", json!("\u{202e}")),
        (provenance(BUILDER), "/predicate/buildDefinition/buildType", json!(null)),
        (test_result(), "/predicate/result", json!("passed")),
        (test_result(), "/predicate/result", json!("SKIPPED")),
        (test_result(), "/predicate/passedTests", json!([1])),
        (test_result(), "/predicate/passedTests", json!([""])),
        (test_result(), "/predicate/failedTests", json!("none")),
        (review(), "/predicate/verificationResult", json!("OK")),
        (review(), "/predicate/verifier/id", json!("")),
        (review(), "/predicate/resourceUri", json!("")),
    ] {
        let refused = refused(&attested(&with(statement, pointer, to), 1));
        assert!(matches!(refused, NotEvidence::Predicate { .. }), "{pointer}: {refused}");
    }
    for (statement, pointer) in [
        (provenance(BUILDER), "/predicate/buildDefinition/resolvedDependencies"),
        (provenance(BUILDER), "/predicate/runDetails/builder/id"),
        (test_result(), "/predicate/result"),
        (test_result(), "/predicate/configuration"),
        (review(), "/predicate/verificationResult"),
        (review(), "/predicate/verifier"),
        (review(), "/predicate/verifiedLevels"),
    ] {
        let refused = refused(&attested(&without(statement, pointer), 1));
        assert!(matches!(refused, NotEvidence::Predicate { .. }), "{pointer}: {refused}");
    }
}
