//! `rutli verify --bundle` as scripts see it, with a log that is made here.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ed25519_dalek::{Signer as _, SigningKey};
use rutli_log::{
    Cosignature, Cosigner, Entry, Frontier, Head, LogSigner, Origin, Policy, ProofFile, Tiles,
    cosigned_message,
    entry::{Outcome, OutcomeState, kinds},
    leaf_hash, sha256,
    sigstore::{LoggedSignature, SigstoreSigner, bundle::entry_of_envelope},
};
use rutli_release::{
    Class, Format, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease, signed_files,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const FILES: [&str; 2] = ["suite.bin", "notes.txt"];
const NODES: [&str; 3] = ["vendor/a", "vendor/b", "reviewer/c"];

/// A folder with a signed release, its proofs, and what verifiers know of the log.
struct Logged {
    folder: TempDir,
}

/// A tree whose entry 2 is the one in question.
struct Tree {
    head: Head,
    tiles: Tiles,
}

impl Tree {
    fn with(entry: &[u8], others: u8) -> Self {
        Self::of(|number| number == 2, entry, others)
    }

    fn of(is_ours: impl Fn(u8) -> bool, entry: &[u8], others: u8) -> Self {
        let (mut frontier, mut tiles) = (Frontier::default(), Tiles::default());
        for number in 0..5_u8 {
            let leaf = if is_ours(number) { leaf_hash(entry) } else { leaf_hash(&[others, number]) };
            frontier.push(leaf);
            tiles.push(leaf);
        }
        Self { head: frontier.head(), tiles }
    }

    fn proof(&self, index: u64, cosigned_by: &[usize], extra: Option<Vec<u8>>) -> ProofFile {
        let mut checkpoint = log().sign(self.head);
        for node in cosigned_by {
            let (cosigner, secret) = node_key(*node);
            let signature = secret.sign(&cosigned_message(9, &checkpoint.text())).to_bytes();
            checkpoint.add_cosignature(&cosigner, &Cosignature { time: 9, signature }).unwrap();
        }
        let hashes = self.tiles.prove_inclusion(index, self.head.size).unwrap();
        ProofFile { extra, index, hashes, checkpoint: checkpoint.to_note() }
    }
}

fn log() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.example/2026").unwrap(), &[1; 32])
}

fn sigstore(key: u8) -> SigstoreSigner {
    SigstoreSigner::from_bytes("https://log.example".parse().unwrap(), &[key; 32]).unwrap()
}

fn node_key(node: usize) -> (Cosigner, SigningKey) {
    let secret = SigningKey::from_bytes(&[u8::try_from(node).unwrap() + 10; 32]);
    (Cosigner::new(NODES[node], secret.verifying_key().as_bytes()).unwrap(), secret)
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn release_key() -> ReleaseKey {
    ReleaseKey::from_bytes(secret().verifying_key().as_bytes()).unwrap()
}

impl Logged {
    /// In these formats; gives the signatures too.
    fn signed(formats: &[Format]) -> (Self, Vec<[u8; 64]>) {
        let logged = Self { folder: tempfile::tempdir().unwrap() };
        let artifact =
            |name: &&str| UnverifiedArtifact { name: (*name).into(), sha256: Sha256::digest(name).to_vec() };
        let release = UnverifiedRelease {
            class: Class::ProductBuild,
            product: "suite".into(),
            channel: "stable".into(),
            version: "1.0".into(),
            sequence: 7,
            issued_at: 1_795_255_200,
            expires_at: None,
            artifacts: FILES.iter().map(artifact).collect(),
            formats: formats.to_vec(),
        };
        let release = release.verify().unwrap();
        let signatures: Vec<_> =
            release.signables().iter().map(|signable| secret().sign(&signable.bytes).to_bytes()).collect();
        let id = ReleaseId::new("r").unwrap();
        for file in signed_files(&release, &id, &release_key(), &signatures).unwrap() {
            logged.write(&file.name, &file.bytes);
        }
        FILES.iter().for_each(|name| logged.write(name, name.as_bytes()));
        logged.write("release.pem", release_key().to_pem().as_bytes());
        logged.write("trusted_root.json", sigstore(2).trusted_root(0).unwrap().as_bytes());
        logged.write("other_root.json", sigstore(3).trusted_root(0).unwrap().as_bytes());
        let nodes = |range: std::ops::Range<usize>| range.map(|node| node_key(node).0).collect::<Vec<_>>();
        let policy = Policy::of(
            log().public(),
            [("vendor".into(), 2, nodes(0..2)), ("reviewer".into(), 1, nodes(2..3))],
        );
        logged.write("tlog-policy", policy.unwrap().to_string().as_bytes());
        (logged, signatures)
    }

    /// A DSSE release with bundle and proof.
    fn dsse() -> Self {
        let (logged, _) = Self::signed(&[Format::Dsse, Format::Sshsig]);
        let envelope = fs::read(logged.path("r.intoto.json")).unwrap();
        let body = entry_of_envelope(&envelope, &release_key()).unwrap();
        let Entry::Dsse(entry) = Entry::parse(&body).unwrap() else { panic!() };
        let tree = Tree::with(&body, 0);
        let proof = tree.proof(2, &[0, 1, 2], None);
        let bundle = LoggedSignature {
            envelope: &envelope,
            hint: "release",
            key: &release_key(),
            entry: &entry,
            index: 2,
            head: &sigstore(2).sign_head(tree.head).unwrap(),
            proof: &proof.hashes,
            time: 1_795_255_300,
        };
        logged.write("r.sigstore.json", &sigstore(2).bundle(&bundle).unwrap());
        logged.write("r.tlog-proof", proof.to_string().as_bytes());
        logged.write("few.tlog-proof", tree.proof(2, &[0, 2], None).to_string().as_bytes());
        logged.write("another.tlog-proof", tree.proof(1, &[0, 1, 2], None).to_string().as_bytes());
        // The same entry at the same place in a tree of the same size, which is another tree.
        let fork = Tree::with(&body, 1).proof(2, &[0, 1, 2], None);
        logged.write("fork.tlog-proof", fork.to_string().as_bytes());
        // The same entry a second time.
        let twin = Tree::of(|number| number == 2 || number == 3, &body, 0).proof(3, &[0, 1, 2], None);
        logged.write("twin.tlog-proof", twin.to_string().as_bytes());
        logged
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Exit code, and what was said on stdout and stderr.
    fn verify(&self, line: &str) -> (i32, String) {
        let output = rutli(self.folder.path(), line);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

fn rutli(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rutli"));
    command.args(["verify", "--key", "release.pem"]).args(line.split(' ')).current_dir(folder);
    command.output().unwrap()
}

const BUNDLE: &str = "--bundle r.sigstore.json --trusted-root trusted_root.json";
const PROOF: &str = "--bundle r.tlog-proof --policy tlog-policy";

#[test]
fn a_bundle_a_cosigned_bundle_and_a_proof_verify() {
    let logged = Logged::dsse();
    let nodes = "cosigned by vendor/a, vendor/b, reviewer/c";
    for (line, log) in [
        (format!("{BUNDLE} suite.bin"), "log.example as entry 2 of 5, by the log's word alone".to_owned()),
        (
            format!("{BUNDLE} --policy tlog-policy suite.bin notes.txt"),
            format!("log.example/2026 as entry 2 of 5, {nodes}"),
        ),
        (format!("{PROOF} suite.bin"), format!("log.example/2026 as entry 2 of 5, {nodes}")),
        (
            format!("{PROOF} --signature r.intoto.json --product suite --min-sequence 7 suite.bin"),
            nodes.to_owned(),
        ),
    ] {
        let (code, said) = logged.verify(&line);
        assert_eq!(code, 0, "{line}: {said}");
        assert!(said.contains(&log), "{line}: {said}");
        let (_, json) = logged.verify(&format!("--json {line}"));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["verified"], true);
        assert_eq!((json["log"]["index"].as_u64(), json["log"]["size"].as_u64()), (Some(2), Some(5)));
        assert_eq!(json["product"], "suite");
    }
}

#[test]
fn whatever_does_not_hold_is_refused_with_its_reason() {
    let logged = Logged::dsse();
    fs::create_dir(logged.path("changed")).unwrap();
    logged.write("changed/suite.bin", b"something else");
    let bundle = fs::read_to_string(logged.path("r.sigstore.json")).unwrap();
    logged.write("t.sigstore.json", bundle.replace("\"1795255300\"", "\"1795255301\"").as_bytes());
    let proof = fs::read_to_string(logged.path("r.tlog-proof")).unwrap();
    logged.write("t.tlog-proof", proof.replace("index 2", "index 3").as_bytes());
    for (line, reason) in [
        (format!("{BUNDLE} changed/suite.bin"), "is not the one that was signed"),
        (format!("{BUNDLE} --product other suite.bin"), "of another product"),
        (format!("{BUNDLE} --min-sequence 8 suite.bin"), "sequence"),
        (
            "--bundle r.sigstore.json --trusted-root other_root.json suite.bin".into(),
            "not in the trusted root",
        ),
        ("--bundle t.sigstore.json --trusted-root trusted_root.json suite.bin".into(), "has not promised"),
        (format!("{BUNDLE} --policy tlog-policy --proof few.tlog-proof suite.bin"), "vendor has 1 of 2"),
        (format!("{BUNDLE} --policy tlog-policy --proof another.tlog-proof suite.bin"), "not in the log"),
        (format!("{BUNDLE} --policy tlog-policy --proof twin.tlog-proof suite.bin"), "of another entry than"),
        (format!("{BUNDLE} --policy tlog-policy --proof fork.tlog-proof suite.bin"), "two trees of one size"),
        (format!("{BUNDLE} --policy tlog-policy --proof notes.txt suite.bin"), "no proof file"),
        (format!("{PROOF} changed/suite.bin"), "is not the one that was signed"),
        (format!("{PROOF} --channel beta suite.bin"), "for another channel"),
        (
            "--bundle few.tlog-proof --policy tlog-policy --signature r.intoto.json suite.bin".into(),
            "vendor has 1 of 2",
        ),
        (
            "--bundle t.tlog-proof --policy tlog-policy --signature r.intoto.json suite.bin".into(),
            "not in the log",
        ),
    ] {
        let (code, said) = logged.verify(&line);
        assert_eq!(code, 1, "{line}: {said}");
        assert!(said.contains(reason), "{line}: {said}");
        let (_, json) = logged.verify(&format!("--json {line}"));
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["verified"], false, "{json}");
    }
}

#[test]
fn what_is_missing_is_a_matter_of_usage() {
    let logged = Logged::dsse();
    fs::remove_file(logged.path("few.tlog-proof")).unwrap();
    logged.write("bad-policy", b"quorum none\n");
    fs::copy(logged.path("r.sigstore.json"), logged.path("lone.sigstore.json")).unwrap();
    fs::copy(logged.path("r.tlog-proof"), logged.path("lone.tlog-proof")).unwrap();
    for (line, help) in [
        ("--bundle r.sigstore.json suite.bin", "--trusted-root"),
        ("--bundle r.tlog-proof suite.bin", "--policy"),
        ("--bundle r.sigstore.json --trusted-root notes.txt suite.bin", "no trusted root"),
        ("--bundle r.tlog-proof --policy bad-policy suite.bin", "names no log"),
        ("--bundle r.tlog-proof --policy notes.txt suite.bin", "line 1 of the policy"),
        (
            "--bundle lone.sigstore.json --trusted-root trusted_root.json --policy tlog-policy --proof r.tlog-proof \
             --signature r.intoto.json suite.bin",
            "leave --signature",
        ),
        (
            "--bundle lone.sigstore.json --trusted-root trusted_root.json --policy tlog-policy --signature x f",
            "leave --signature",
        ),
        ("--bundle lone.tlog-proof --policy tlog-policy suite.bin", "RELEASE.intoto.json"),
        ("--bundle r.tlog-proof --policy tlog-policy --trusted-root trusted_root.json suite.bin", "leave"),
        ("--trusted-root trusted_root.json --signature r.intoto.json suite.bin", "--bundle"),
        ("suite.bin", "--signature"),
    ] {
        let (code, said) = logged.verify(line);
        assert_eq!(code, 2, "{line}: {said}");
        assert!(said.contains(help), "{line}: {said}");
    }
    fs::remove_file(logged.path("lone.tlog-proof")).unwrap();
    let (code, said) = logged.verify(
        "--bundle lone.sigstore.json --trusted-root trusted_root.json --policy tlog-policy suite.bin",
    );
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--proof"), "{said}");
}

/// Without DSSE the log knows a release by its outcome, which binds all signatures together.
#[test]
fn ssh_signatures_are_bound_by_the_outcome_all_together() {
    let (logged, signatures) = Logged::signed(&[Format::Sshsig]);
    let outcome = |state: OutcomeState, signatures: &[[u8; 64]]| {
        let entry = Entry::Outcome(Outcome {
            key: Some("release".into()),
            kind: kinds::Outcome::default(),
            refusals: Vec::new(),
            request: 0,
            roster: None,
            signatures: Some(sha256(&signatures.concat())),
            signed_by: NODES.map(String::from).into(),
            state,
            statement: sha256(b"statement"),
            time: 1,
        });
        let entry = entry.encode();
        Tree::with(&entry, 0).proof(2, &[0, 1, 2], Some(entry)).to_string()
    };
    let good = outcome(OutcomeState::Signed, &signatures);
    logged.write("r.tlog-proof", good.as_bytes());
    let (code, said) = logged.verify(&format!("{PROOF} suite.bin notes.txt"));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not bound by SSH signatures: version"), "{said}");
    assert!(said.contains("by vendor/a, vendor/b, reviewer/c"), "{said}");

    logged.write("changed", b"something else");
    fs::copy(logged.path("notes.txt.sig"), logged.path("changed.sig")).unwrap();
    for (line, wanted, reason) in [
        ("notes.txt suite.bin", 1, "every file of the release"),
        ("suite.bin", 1, "every file of the release"),
        ("suite.bin changed", 1, "does not verify"),
        ("--class av-database suite.bin notes.txt", 1, "of another class"),
        ("--product other suite.bin notes.txt", 1, "of another product"),
        ("--min-sequence 1 suite.bin notes.txt", 2, "does not bind what --min-sequence asks for"),
        ("suite.bin trusted_root.json", 2, "there is no trusted_root.json.sig"),
    ] {
        let (code, said) = logged.verify(&format!("{PROOF} {line}"));
        assert_eq!(code, wanted, "{line}: {said}");
        assert!(said.contains(reason), "{line}: {said}");
    }
    // An entry that is in the log but says otherwise, and one that is not in it.
    let refused = outcome(OutcomeState::Refused, &signatures);
    let foreign = good.replacen("extra e", "extra f", 1);
    for (proof, reason) in [(refused, "does not say that a release was signed"), (foreign, "not in the log")]
    {
        logged.write("r.tlog-proof", proof.as_bytes());
        let (code, said) = logged.verify(&format!("{PROOF} suite.bin notes.txt"));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(reason), "{said}");
    }
}
