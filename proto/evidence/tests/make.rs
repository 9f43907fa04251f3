//! Attestations that are made here are those that are verified here, and are canonical.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{collections::BTreeMap, fs, process::Command};

use rutli_evidence::{
    AttestationSigner, Build, Established, Evidence, File, InvalidSigner, NotEvidence, NotMade, OtherDigests,
    Role, SourceDigest, TestRun, Trust, limits, provenance_statement, sign_dsse, test_statement,
};
use serde_json::Value;
use support::*;

fn files() -> Vec<File> {
    (1..=3)
        .map(|number| File { name: format!("linux/suite-{number}"), sha256: [number; 32], others: None })
        .collect()
}

fn build() -> Build {
    Build {
        builder_id: REBUILDER.into(),
        build_type: "https://rutli.example/attest-rebuild/v1".into(),
        parameters: BTreeMap::from([("command".into(), "make \"all\"\n".into()), ("A".into(), "ü".into())]),
        source_uri: Some("suite-1.2.tar.gz".into()),
        source_digest: SourceDigest::Sha256([0xef; 32]),
        invocation_id: Some("run-1".into()),
        started_at: Some(NOW - 60),
        finished_at: Some(NOW),
    }
}

fn run() -> TestRun {
    TestRun {
        configurations: vec![File { name: "clean-set".into(), sha256: [5; 32], others: None }],
        passed: ["b".into(), "a".into()].into(),
        url: Some("https://qa.example/1".into()),
        ..TestRun::default()
    }
}

fn signer(number: u8) -> AttestationSigner {
    use ed25519_dalek::pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding};
    AttestationSigner::from_private_key(&ed25519(number).to_pkcs8_pem(LineEnding::LF).unwrap()).unwrap()
}

fn canonical(json: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), json);
    value
}

#[test]
fn a_rebuild_is_attested_and_verified() {
    let statement = provenance_statement(&files(), &build()).unwrap();
    let value = canonical(&statement);
    assert_eq!(value["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(value["predicate"]["buildDefinition"]["externalParameters"]["command"], "make \"all\"\n");
    assert_eq!(value["predicate"]["runDetails"]["metadata"]["startedOn"], "2026-11-21T09:59:00Z");
    let document = sign_dsse(&statement, &signer(2)).unwrap();
    canonical(&document);
    assert_eq!(sign_dsse(&statement, &signer(2)).unwrap(), document);
    let Ok(Established::Rebuild(fact)) = check(&trust(), &document) else { panic!() };
    assert_eq!((fact.by.as_str(), fact.builder_id.as_str()), ("supervisor-rebuild", REBUILDER));
    assert_eq!((fact.source_digest, fact.finished_at), (SourceDigest::Sha256([0xef; 32]), Some(NOW)));
    assert_eq!(
        (fact.source_uri.unwrap().as_str(), fact.invocation_id.unwrap().as_str()),
        ("suite-1.2.tar.gz", "run-1")
    );
    let bare = Build {
        source_uri: None,
        invocation_id: None,
        started_at: None,
        finished_at: None,
        parameters: BTreeMap::new(),
        source_digest: SourceDigest::GitCommit("ab".repeat(20)),
        ..build()
    };
    let statement = provenance_statement(&files(), &bare).unwrap();
    canonical(&statement);
    assert!(check(&trust(), &sign_dsse(&statement, &signer(2)).unwrap()).is_ok());
}

#[test]
fn a_test_run_is_attested_and_verified() {
    let statement = test_statement(&files(), &run()).unwrap();
    canonical(&statement);
    let Ok(Established::Tests { passed, .. }) = check(&trust(), &sign_dsse(&statement, &signer(3)).unwrap())
    else {
        panic!()
    };
    assert_eq!(passed, ["a", "b", "clean-set"].map(String::from).into());
    for (bad, result) in [
        (TestRun { failed: ["c".into()].into(), ..run() }, "FAILED"),
        (TestRun { warned: ["c".into()].into(), ..run() }, "WARNED"),
        (TestRun { failed: ["c".into()].into(), warned: ["d".into()].into(), ..run() }, "FAILED"),
    ] {
        let statement = test_statement(&files(), &bad).unwrap();
        assert_eq!(canonical(&statement)["predicate"]["result"], result);
        assert!(check(&trust(), &sign_dsse(&statement, &signer(3)).unwrap()).is_err());
    }
}

#[test]
fn what_nobody_would_take_is_not_made() {
    let refused = |change: fn(&mut Build)| {
        let mut build = build();
        change(&mut build);
        provenance_statement(&files(), &build).unwrap_err()
    };
    assert!(matches!(
        refused(|build| build.builder_id.clear()),
        NotMade::NotEvidence(NotEvidence::Predicate { .. })
    ));
    assert!(matches!(refused(|build| build.build_type = "a\n".into()), NotMade::NotEvidence(_)));
    for name in ["ü", "", "a\n"] {
        let mut build = build();
        build.parameters.insert(name.into(), String::new());
        assert!(matches!(provenance_statement(&files(), &build), Err(NotMade::Parameter { .. })), "{name:?}");
    }
    assert!(matches!(
        provenance_statement(&[], &build()),
        Err(NotMade::NotEvidence(NotEvidence::Subjects { count: 0 }))
    ));
    let large = File { name: "x".repeat(255), ..files()[0].clone() };
    let many = vec![large; 3_000];
    let statement = provenance_statement(&many, &build()).unwrap();
    assert!(matches!(
        sign_dsse(&statement, &signer(2)),
        Err(NotMade::NotEvidence(NotEvidence::TooLarge { .. }))
    ));
    assert!(matches!(sign_dsse(b"{}", &signer(2)), Err(NotMade::NotEvidence(NotEvidence::Statement(_)))));
}

#[test]
fn every_digest_that_is_known_is_named() {
    let mut files = files();
    files[0].others = Some(OtherDigests { sha512: [8; 64], blake2b: [9; 64] });
    let value = canonical(&provenance_statement(&files, &build()).unwrap());
    let expected =
        serde_json::json!({"blake2b": "09".repeat(64), "sha256": "01".repeat(32), "sha512": "08".repeat(64)});
    assert_eq!(value["subject"][0]["digest"], expected);
    assert_eq!(value["subject"][1]["digest"], serde_json::json!({"sha256": "02".repeat(32)}));
    let document = sign_dsse(&provenance_statement(&files, &build()).unwrap(), &signer(2)).unwrap();
    assert!(check(&trust(), &document).is_ok());
}

#[test]
fn the_largest_release_fits_with_names_of_56_bytes() {
    let artifacts = limits::MAX_SUBJECTS;
    let files: Vec<_> = (0..artifacts)
        .map(|number| File { name: format!("{number:056}"), sha256: [7; 32], others: None })
        .collect();
    let statement = provenance_statement(&files, &build()).unwrap();
    assert!(sign_dsse(&statement, &signer(2)).is_ok());
    let statement = test_statement(&files, &run()).unwrap();
    assert!(sign_dsse(&statement, &signer(3)).is_ok());
}

#[test]
fn keys_of_stock_tools_sign() {
    let directory = tempfile::tempdir().unwrap();
    let make = |program: &str, arguments: &[&str]| {
        let _ = fs::remove_file(directory.path().join("key"));
        assert!(
            Command::new(program).args(arguments).current_dir(&directory).output().unwrap().status.success()
        );
        fs::read_to_string(directory.path().join("key")).unwrap()
    };
    let genpkey = ["genpkey", "-algorithm"];
    let statement = provenance_statement(&files(), &build()).unwrap();
    for key in [
        make("openssl", &[&genpkey[..], &["ed25519", "-out", "key"]].concat()),
        make("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "key"]),
    ] {
        let signer = AttestationSigner::from_private_key(&key).unwrap();
        let trusted = attestation_key("rebuild", Role::Rebuilder, signer.public_pem(), &[REBUILDER]);
        let document = sign_dsse(&statement, &signer).unwrap();
        assert!(check(&Trust::new(vec![trusted], "").unwrap(), &document).is_ok());
        assert!(!format!("{signer:?}").contains(key.lines().nth(1).unwrap()));
        let long = AttestationSigner::from_private_key(&(" ".repeat(limits::MAX_KEY_FILE_BYTES) + &key));
        assert_eq!(long.unwrap_err(), InvalidSigner::NotAKey);
    }
    let refused = |key: &str| AttestationSigner::from_private_key(key).unwrap_err();
    let encrypted = ["ed25519", "-aes256", "-pass", "pass:secret", "-out", "key"];
    assert!(matches!(
        refused(&make("openssl", &[&genpkey[..], &encrypted].concat())),
        InvalidSigner::Encrypted { .. }
    ));
    let encrypted = make("ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "key"]);
    assert!(matches!(refused(&encrypted), InvalidSigner::Encrypted { .. }));
    let p256 = make(
        "openssl",
        &[&genpkey[..], &["EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key"]].concat(),
    );
    assert_eq!(refused(&p256), InvalidSigner::NotEd25519);
    let p256 = make("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "key"]);
    assert_eq!(refused(&p256), InvalidSigner::NotEd25519);
    let public = pem(&ed25519(1));
    let cut = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    for bad in ["", "x", public.as_str(), cut, &"x".repeat(5_000)] {
        assert_eq!(refused(bad), InvalidSigner::NotAKey);
    }
}

#[test]
fn digests_of_sources_are_read_as_they_are_written() {
    for good in [
        format!("sha256:{}", "ab".repeat(32)),
        format!("gitCommit:{}", "ab".repeat(20)),
        format!("gitCommit:{}", "ab".repeat(32)),
    ] {
        assert_eq!(good.parse::<SourceDigest>().unwrap().to_string(), good);
    }
    for bad in [
        "",
        "sha256:",
        "ab",
        "sha1:ab",
        &format!("sha256:{}", "AB".repeat(32)),
        &format!("gitCommit:{}", "ab".repeat(21)),
        &format!("sha256:{}", "é".repeat(32)),
    ] {
        assert!(bad.parse::<SourceDigest>().is_err(), "{bad}");
    }
}

#[test]
fn evidence_is_shown_without_its_content() {
    let evidence = Evidence::parse(&attested(&provenance(BUILDER), 1)).unwrap();
    assert_eq!(
        format!("{evidence:?}"),
        format!("Evidence(build, sha256:{})", hex::encode(evidence.digest()))
    );
}
