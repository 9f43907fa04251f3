//! The built `rutli` program as scripts see it: exit codes, stdout, stderr.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ed25519_dalek::{Signer, SigningKey};
use rutli_release::{
    Class, Format, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
    signed_files,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const CONTENT: &[u8] = b"the content of a file that was signed";

/// A release of two files, signed with a key that no ceremony made.
struct Signed {
    folder: TempDir,
}

impl Signed {
    fn new(expires_at: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let public = ReleaseKey::from_bytes(key.verifying_key().as_bytes()).unwrap();
        let release = release(expires_at);
        let id = ReleaseId::new("suite-1.0-0123456789ab").unwrap();
        let signatures: Vec<_> =
            release.signables().iter().map(|signable| key.sign(&signable.bytes).to_bytes()).collect();
        for file in signed_files(&release, &id, &public, &signatures).unwrap() {
            std::fs::write(folder.path().join(file.name), file.bytes).unwrap();
        }
        std::fs::write(folder.path().join("suite.bin"), CONTENT).unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"notes").unwrap();
        std::fs::write(folder.path().join("release.pem"), public.to_pem()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn verify(&self, signature: &str, more: &[&str]) -> Output {
        let mut command = rutli();
        command
            .arg("verify")
            .arg("--key")
            .arg(self.path("release.pem"))
            .arg("--signature")
            .arg(self.path(signature));
        command.args(more).current_dir(self.folder.path()).output().unwrap()
    }
}

fn release(expires_at: Option<u64>) -> VerifiedRelease {
    let artifact = |name: &str, content: &[u8]| UnverifiedArtifact {
        name: name.to_owned(),
        sha256: Sha256::digest(content).to_vec(),
    };
    let release = UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".to_owned(),
        channel: "stable".to_owned(),
        version: "1.0".to_owned(),
        sequence: 5,
        issued_at: 1_700_000_000,
        expires_at,
        artifacts: vec![artifact("bin/suite.bin", CONTENT), artifact("notes.txt", b"notes")],
        formats: Format::ALL.to_vec(),
    };
    release.verify().unwrap()
}

fn rutli() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rutli"));
    command.env_remove("RUTLI_PROFILE").env_remove("RUTLI_SOCKET");
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

const SSHSIG: &str = "suite.bin.sig";
const DSSE: &str = "suite-1.0-0123456789ab.intoto.json";
const STATEMENT: &str = "suite-1.0-0123456789ab.statement.sig";

#[test]
fn all_three_forms_verify() {
    let signed = Signed::new(None);
    for form in [SSHSIG, DSSE, STATEMENT] {
        let output = signed.verify(form, &["suite.bin"]);
        assert_eq!(code(&output), 0, "{form}: {}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("verified: "), "{form}");
        assert!(output.stderr.is_empty());
    }
    assert_eq!(code(&signed.verify(DSSE, &["suite.bin", "notes.txt"])), 0);
}

#[test]
fn every_changed_bit_of_file_and_signature_is_not_verified() {
    let signed = Signed::new(None);
    for form in [SSHSIG, DSSE, STATEMENT] {
        for changed in [form, "suite.bin"] {
            let path = signed.path(changed);
            let original = std::fs::read(&path).unwrap();
            // A sample of bits over all of it: the exhaustive test is the library's.
            for bit in (0..original.len() * 8).step_by((original.len() / 4).max(1) | 1) {
                let mut bytes = original.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, bytes).unwrap();
                let output = signed.verify(form, &["suite.bin"]);
                assert_eq!(code(&output), 1, "{form}, bit {bit} of {changed}: {}", stderr(&output));
                assert!(stderr(&output).starts_with("error: not verified: "), "{}", stderr(&output));
                assert!(stderr(&output).contains("\nhelp: "), "{}", stderr(&output));
            }
            std::fs::write(&path, original).unwrap();
        }
    }
    let statement = signed.path("suite-1.0-0123456789ab.statement");
    std::fs::write(&statement, b"DSSEv1 rubbish").unwrap();
    assert_eq!(code(&signed.verify(STATEMENT, &["suite.bin"])), 1);
}

#[test]
fn expectations_are_held() {
    let signed = Signed::new(None);
    let good = [
        "--product",
        "suite",
        "--channel",
        "stable",
        "--class",
        "product-build",
        "--min-sequence",
        "5",
        "suite.bin",
    ];
    // Which product it is for an SSH signature says too.
    let output = signed.verify(SSHSIG, &["--json", "suite.bin"]);
    assert_eq!(json(&output)["namespace"], "product-build/suite/stable@rutli");
    assert_eq!(json(&output)["product"], "suite");
    assert_eq!(code(&signed.verify(SSHSIG, &[&good[..6], &good[8..]].concat())), 0);
    for (flag, other) in [("--product", "other"), ("--channel", "beta"), ("--class", "av-database")] {
        let output = signed.verify(SSHSIG, &[flag, other, "suite.bin"]);
        assert_eq!(code(&output), 1, "{flag}");
        assert!(stderr(&output).contains("not verified"), "{}", stderr(&output));
    }
    for form in [DSSE, STATEMENT] {
        assert_eq!(code(&signed.verify(form, &good)), 0);
        for (flag, other) in [
            ("--product", "other"),
            ("--channel", "beta"),
            ("--class", "av-database"),
            ("--min-sequence", "6"),
        ] {
            let output = signed.verify(form, &[flag, other, "suite.bin"]);
            assert_eq!(code(&output), 1, "{form} {flag}");
        }
    }
    // What an SSHSIG does not bind cannot be asked of it.
    let unbound = signed.verify(SSHSIG, &["--min-sequence", "5", "suite.bin"]);
    assert_eq!(code(&unbound), 2);
    assert!(stderr(&unbound).contains("--min-sequence"));
    assert_eq!(code(&signed.verify(SSHSIG, &["suite.bin", "notes.txt"])), 2);

    let expired = Signed::new(Some(1_700_000_001));
    let output = expired.verify(DSSE, &["suite.bin"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("expired"));
}

#[test]
fn a_file_under_another_name_is_not_the_one_that_was_signed() {
    let signed = Signed::new(None);
    std::fs::copy(signed.path("suite.bin"), signed.path("renamed")).unwrap();
    let output = signed.verify(DSSE, &["renamed"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("bin/suite.bin"), "{}", stderr(&output));
    assert_eq!(code(&signed.verify(DSSE, &["--name", "bin/suite.bin", "renamed"])), 0);
    assert_eq!(code(&signed.verify(DSSE, &["--any-name", "renamed"])), 0);
    assert_eq!(code(&signed.verify(DSSE, &["--name", "notes.txt", "renamed"])), 1);
}

#[test]
fn what_cannot_be_asked_is_usage() {
    let signed = Signed::new(None);
    assert_eq!(code(&signed.verify(SSHSIG, &["missing.bin"])), 2);
    assert_eq!(code(&signed.verify("missing.sig", &["suite.bin"])), 2);
    assert_eq!(code(&signed.verify(SSHSIG, &[])), 2);
    std::fs::write(signed.path("release.pem"), "rubbish").unwrap();
    let output = signed.verify(SSHSIG, &["suite.bin"]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("release.pem"));
    assert_eq!(code(&rutli().output().unwrap()), 2);
    assert_eq!(code(&rutli().arg("--version").output().unwrap()), 0);
}

#[test]
fn a_mix_up_of_statement_and_signature_is_usage_and_says_the_way_out() {
    let signed = Signed::new(None);
    let usage = |signature: &str, more: &[&str], help: &str| {
        let output = signed.verify(signature, more);
        assert_eq!(code(&output), 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(help), "{}", stderr(&output));
    };
    let statement = STATEMENT.strip_suffix(".sig").unwrap();
    usage(statement, &["suite.bin"], ".statement.sig as --signature");
    usage(SSHSIG, &["--statement", statement, "suite.bin"], "leave --statement out");
    std::fs::copy(signed.path(STATEMENT), signed.path("lone.sig")).unwrap();
    usage("lone.sig", &["suite.bin"], "--statement FILE");
    assert_eq!(code(&signed.verify("lone.sig", &["--statement", statement, "suite.bin"])), 0);
    std::fs::write(signed.path("release.pem"), "rubbish").unwrap();
    usage(DSSE, &["suite.bin"], "help: give the public key");
}

#[test]
fn stdout_that_cannot_be_written_is_a_failure() {
    for args in [&["init", "--example"][..], &["--json", "help", "json"], &["--json", "verify"], &["--help"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = rutli().args(args).stdout(full).output().unwrap();
        assert_ne!(code(&output), 0, "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn signatures_that_have_no_place_are_said_before_anything_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("taken"), "x").unwrap();
    let line =
        "sign --class product-build --product x --channel stable --version 1 --sequence 1 --out taken taken";
    let output = rutli().args(line.split(' ')).current_dir(folder.path()).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("taken is not a folder"), "{}", stderr(&output));
}

#[test]
fn evidence_keys_and_reasons_are_looked_at_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("file", "x"), ("garbage", "garbage")] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let long = "x".repeat(501);
    let sign = "sign --class product-build --product x --channel stable --version 1 --sequence 1 --out out";
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for (line, more, said) in [
        (sign, vec!["--evidence", "garbage", "file"], "garbage is no evidence"),
        (sign, vec!["--evidence", "none", "file"], "none: it does not exist"),
        ("evidence add x-1-0123456789ab", vec!["garbage"], "garbage is no evidence"),
        ("approve x-1-0123456789ab --yes", vec!["--key", "none"], "none: it does not exist"),
        ("approve x-1-0123456789ab", vec!["--key", "garbage"], "stdin is no terminal"),
        ("approve x-1-0123456789ab --yes", vec!["--key", "garbage", "--trust", "."], "neither trust.toml"),
        (
            "refuse x-1-0123456789ab --yes --key garbage",
            vec!["--reason", &long],
            "not one line of 1 to 500 bytes",
        ),
        ("refuse x-1-0123456789ab --yes --key garbage", vec!["--reason", "no"], "which coordinator"),
        ("review x-1-0123456789ab", vec![], "which coordinator"),
        ("pending", vec![], "which coordinator"),
    ] {
        let mut command = rutli();
        command.args(words(line)).args(more).current_dir(folder.path()).stdin(std::process::Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(code(&output), 2, "{line}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(said) && stderr(&output).contains("\nhelp: "),
            "{}",
            stderr(&output)
        );
    }
    assert!(!folder.path().join("out").exists());
}

#[test]
fn json_is_one_document_on_stdout_for_success_and_failure() {
    let signed = Signed::new(None);
    let document = json(&signed.verify(DSSE, &["--json", "suite.bin"]));
    assert_eq!(document["verified"], true);
    assert_eq!(document["product"], "suite");
    assert_eq!(document["files"][0]["name"], "bin/suite.bin");

    let refused = signed.verify(DSSE, &["--json", "--product", "other", "suite.bin"]);
    assert_eq!(code(&refused), 1);
    let document = json(&refused);
    assert_eq!((&document["verified"], &document["error"]["exit"]), (&Value::Bool(false), &Value::from(1)));
    assert!(document["reason"].as_str().unwrap().contains("suite"));
    assert!(refused.stderr.is_empty());

    let usage = rutli().args(["--json", "verify", "--nonsense"]).output().unwrap();
    assert_eq!(code(&usage), 2);
    assert_eq!(json(&usage)["error"]["exit"], 2);
    let missing = json(&rutli().args(["--json", "verify", "--key", "k"]).output().unwrap());
    let problem = missing["error"]["problem"].as_str().unwrap();
    assert!(problem.contains("--signature <FILE>") && problem.contains("<FILE>..."), "{missing}");
    assert!(!problem.contains("Usage"), "{missing}");
}

#[test]
fn init_writes_what_it_says_and_not_twice() {
    let folder = tempfile::tempdir().unwrap();
    let example = rutli().args(["init", "--example"]).output().unwrap();
    assert_eq!(code(&example), 0);
    let description = folder.path().join("deployment.toml");
    std::fs::write(&description, &example.stdout).unwrap();
    let init = |more: &[&str]| {
        let mut command = rutli();
        command
            .arg("init")
            .arg(&description)
            .arg("--out")
            .arg(folder.path().join("out"))
            .args(more)
            .output()
            .unwrap()
    };
    let output = init(&["--json"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let document = json(&output);
    assert_eq!(document["nodes"].as_array().unwrap().len(), 4);
    for path in [
        &document["ca"],
        &document["coordinator"]["config"],
        &document["nodes"][0]["config"],
        &document["clients"][0]["profile"],
        &document["log"]["key"],
        &document["log"]["policy"],
        &document["log"]["trusted_root"],
    ] {
        assert!(Path::new(path.as_str().unwrap()).is_file(), "{path}");
    }
    let again = init(&[]);
    assert_eq!(code(&again), 2);
    assert!(stderr(&again).contains("--force"));
    let log_key = std::fs::read(document["log"]["key"].as_str().unwrap()).unwrap();
    let forced = init(&["--force"]);
    assert_eq!(code(&forced), 0);
    assert!(String::from_utf8_lossy(&forced.stdout).contains("Its keys are those of before"));
    assert_eq!(std::fs::read(document["log"]["key"].as_str().unwrap()).unwrap(), log_key);
    std::fs::write(&description, "name = 1").unwrap();
    assert_eq!(code(&init(&["--force"])), 2);
}

#[test]
fn nobody_there_is_said_and_coded() {
    let folder = tempfile::tempdir().unwrap();
    let description = folder.path().join("deployment.toml");
    let example = rutli().args(["init", "--example"]).output().unwrap();
    // Port 9 is nobody's here.
    std::fs::write(
        &description,
        String::from_utf8(example.stdout).unwrap().replace("127.0.0.1:7410", "127.0.0.1:9"),
    )
    .unwrap();
    let out = folder.path().join("out");
    rutli().arg("init").arg(&description).arg("--out").arg(&out).output().unwrap();
    let profile = out.join("clients/pipeline/client.toml");
    let output = rutli().arg("--profile").arg(&profile).args(["release", "list"]).output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("nobody listens there"), "{}", stderr(&output));

    let output = rutli().args(["node", "status", "--socket", "/nonexistent/node.sock"]).output().unwrap();
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    let output = rutli().args(["release", "list"]).output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("--profile"));
}

#[test]
fn help_explains_topics_and_completions_come_for_every_shell() {
    let output = rutli().args(["help", "exit-codes"]).output().unwrap();
    assert_eq!(code(&output), 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("  4  Time is up"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(!rutli().args(["completions", shell]).output().unwrap().stdout.is_empty(), "{shell}");
    }
}
