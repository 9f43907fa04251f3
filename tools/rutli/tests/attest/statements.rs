//! `provenance` and `test-result`: for pipelines whose builder and tests attest nothing by themselves.

use std::{fs, process::Command};

use rutli_evidence::{Established, NotEstablished, Role, SourceDigest};
use serde_json::json;

use crate::desk::{Desk, REBUILDER, code, json, said, sha256};

const FILES: [&str; 4] = ["--base", "expected", "expected/bin/suite", "expected/notes.txt"];

#[test]
fn provenance_is_about_the_files_by_the_names_of_the_release() {
    let desk = Desk::new();
    let commit = format!("gitCommit:{}", "ab".repeat(20));
    let archive = SourceDigest::Sha256(sha256(&desk.path("source.tar.gz")));
    for (source, digest) in [
        (["--source", "source.tar.gz"], archive),
        (["--source-digest", &commit], SourceDigest::GitCommit("ab".repeat(20))),
    ] {
        let mut command =
            desk.attest(&["provenance", "--builder-id", REBUILDER, "--key", "key.pem", "--out", "p"]);
        command.args(source).args(["--source-uri", "git+https://vendor.example/suite"]);
        let output = command.args(["--param", "target=linux", "--json"]).args(FILES).output().unwrap();
        assert_eq!(code(&output), 0, "{}", said(&output));
        assert_eq!(json(&output)["source_digest"], digest.to_string());
        assert_eq!(json(&output)["files"][0]["name"], "bin/suite");
        let Ok(Established::Provenance(fact)) = desk.established("p", Role::Builder) else { panic!() };
        assert_eq!((fact.source_digest, fact.builder_id.as_str()), (digest, REBUILDER));
        assert_eq!((fact.build_type.as_str(), fact.invocation_id), ("rutli:build:v1", None));
    }
    // By other names than the release's it establishes nothing.
    let mut command =
        desk.attest(&["provenance", "--builder-id", REBUILDER, "--key", "key.pem", "--out", "p"]);
    command.args(["--source", "source.tar.gz", "expected/bin/suite", "expected/notes.txt"]);
    let output = command.output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(said(&output).contains("rutli evidence add RELEASE p"), "{}", said(&output));
    assert!(matches!(desk.established("p", Role::Builder), Err(NotEstablished::SubjectMissing { .. })));
}

#[test]
fn test_results_count_if_everything_passed() {
    let desk = Desk::new();
    desk.write("clean-set", "hashes");
    let run = |results: &[&str]| {
        let mut command = desk.attest(&["test-result", "--key", "key.pem", "--out", "t", "--json"]);
        let output = command.args(results).args(FILES).output().unwrap();
        assert_eq!(code(&output), 0, "{}", said(&output));
        (json(&output)["result"].clone(), desk.established("t", Role::Tester))
    };
    let (result, established) = run(&[
        "--passed",
        "install",
        "--passed",
        "false-positives",
        "--config",
        "clean-set",
        "--url",
        "https://qa.example/1",
    ]);
    assert_eq!(result, "PASSED");
    let Ok(Established::Tests { passed, url, .. }) = established else { panic!() };
    assert_eq!(passed, ["false-positives", "install"].map(String::from).into());
    assert_eq!(url.unwrap(), "https://qa.example/1");
    let (result, established) = run(&["--passed", "install", "--warned", "slow"]);
    assert!(result == "WARNED" && matches!(established, Err(NotEstablished::TestsNotPassed { .. })));
    let (result, established) = run(&["--passed", "install", "--failed", "update"]);
    assert!(result == "FAILED" && matches!(established, Ok(Established::TestsFailed { .. })));
}

#[test]
fn what_cannot_be_attested_is_usage_and_nothing_is_written() {
    let desk = Desk::new();
    fs::create_dir(desk.path("other")).unwrap();
    desk.write("other/suite", "x");
    let source = ["--source", "source.tar.gz"];
    for (command, args, reason) in [
        ("provenance", vec!["expected/notes.txt"], "--source"),
        ("provenance", [&source[..], &["--source-digest", "sha256:00", "f"]].concat(), "digest of a source"),
        ("provenance", [&source[..], &["missing"]].concat(), "missing: it does not exist"),
        ("provenance", [&source[..], &["expected"]].concat(), "is not a regular file"),
        (
            "provenance",
            [&source[..], &["expected/bin/suite", "other/suite"]].concat(),
            "two files are named suite",
        ),
        ("provenance", [&source[..], &["--base", "other", "expected/notes.txt"]].concat(), "is not below"),
        (
            "provenance",
            [&source[..], &["--param", "a=1", "--param", "a=2", "expected/notes.txt"]].concat(),
            "given twice",
        ),
        ("provenance", [&source[..], &["--param", "ü=1", "expected/notes.txt"]].concat(), "printable ASCII"),
        ("provenance", [&source[..], &["--source-uri", "a\nb", "expected/notes.txt"]].concat(), "uri"),
        ("test-result", vec!["expected/notes.txt"], "no test is named"),
        ("test-result", vec!["--passed", "a", "--failed", "a", "expected/notes.txt"], "in two ways"),
        ("test-result", vec!["--passed", "a\nb", "expected/notes.txt"], "passedTests"),
        ("test-result", vec!["--passed", "a", "--config", "missing", "expected/notes.txt"], "does not exist"),
    ] {
        let builder: &[&str] = if command == "provenance" { &["--builder-id", REBUILDER] } else { &[] };
        let mut line = desk.attest(&[command, "--key", "key.pem", "--out", "o"]);
        let output = line.args(builder).args(&args).output().unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", said(&output));
        assert!(said(&output).contains(reason), "{args:?}: {}", said(&output));
        assert!(!desk.path("o").exists());
    }
}

#[test]
fn only_a_secret_ed25519_key_signs_and_none_is_repeated() {
    let desk = Desk::new();
    let make = |program: &str, args: &[&str]| {
        assert!(
            Command::new(program).args(args).current_dir(desk.path("")).output().unwrap().status.success(),
            "{args:?}"
        );
    };
    make("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "openssh"]);
    make("ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]);
    make("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "p256"]);
    make(
        "openssl",
        &["genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", "locked.pem"],
    );
    make("openssl", &["genpkey", "-algorithm", "ed25519", "-out", "openssl.pem"]);
    make("openssl", &["pkey", "-in", "openssl.pem", "-pubout", "-out", "public.pem"]);
    desk.write("rubbish", "x");
    let attest = |key: &str| {
        let _ = fs::remove_file(desk.path("o"));
        let mut command =
            desk.attest(&["test-result", "--passed", "a", "--out", "o", "--key", key, "--json"]);
        command.arg("expected/notes.txt").output().unwrap()
    };
    for good in ["openssh", "openssl.pem", "key.pem"] {
        assert_eq!(code(&attest(good)), 0, "{good}: {}", said(&attest(good)));
    }
    for (bad, reason, help) in [
        ("locked", "the key is encrypted", "ssh-keygen -p -N '' -f COPY"),
        ("locked.pem", "the key is encrypted", "openssl pkey"),
        ("p256", "not an Ed25519 key", "ssh-keygen -t ed25519"),
        ("public.pem", "no secret key", "BEGIN PRIVATE KEY"),
        ("openssh.pub", "no secret key", "BEGIN PRIVATE KEY"),
        ("rubbish", "no secret key", "BEGIN PRIVATE KEY"),
        ("missing", "does not exist", "path"),
    ] {
        let output = attest(bad);
        assert_eq!(code(&output), 2, "{bad}: {}", said(&output));
        let error = json(&output)["error"].clone();
        assert!(error["problem"].as_str().unwrap().contains(reason), "{bad}: {error}");
        assert!(error["help"].as_str().unwrap().contains(help), "{bad}: {error}");
        assert!(!desk.path("o").exists());
        if let Ok(content) = fs::read_to_string(desk.path(bad)) {
            assert!(
                content.lines().all(|line| line.len() < 20
                    || line.starts_with("-----")
                    || !said(&output).contains(line))
            );
        }
    }
    assert_eq!(json!(null), json(&attest("key.pem"))["error"]);
}
