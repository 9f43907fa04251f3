//! The verifiers that endpoints have already: they accept what the deployment signed, and refuse every change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::{PRINCIPAL, ReleaseKey, verify_dsse, verify_sshsig, verify_statement};
use rutli_tests::{
    cluster::{Cluster, Setup, process::program},
    stock::{openssl_accepts, python, ssh_keygen_accepts},
};
use sha2::{Digest as _, Sha256};

const NAMESPACE: &str = "product-build/suite/stable@rutli";

/// Files of a release as `rutli sign` wrote them, with the key.
struct Published {
    folder: tempfile::TempDir,
    key: ReleaseKey,
    id: String,
}

/// Point 3, for files that `rutli sign` had signed by real nodes: `ssh-keygen -Y verify`, `openssl pkeyutl -verify -rawin`
/// and securesystemslib accept, and refuse one-bit changes of file, signature and statement. A process takes its time, so
/// ssh-keygen and openssl get every third bit of file and signature and every 23rd of the statement (steps that meet
/// every bit of a byte); securesystemslib gets every bit of payload, signature and type, and our own verifier every bit of
/// every byte of every file, armour and JSON included.
#[tokio::test(flavor = "multi_thread")]
async fn stock_verifiers_accept_what_is_signed_and_refuse_every_change() {
    let cluster = Cluster::start(Setup::default()).await;
    let published = publish(&cluster).await;
    drop(cluster);
    command_line(&published);
    type TryAll = fn(&Published) -> usize;
    let verifiers: [(&str, TryAll); 4] = [
        ("ssh-keygen", ssh_keygen),
        ("openssl", openssl),
        ("securesystemslib", securesystemslib),
        ("rutli-release", our_own),
    ];
    for (verifier, try_all) in verifiers {
        let begun = tokio::time::Instant::now();
        let refused = try_all(&published);
        println!("{verifier}: accepted, and {refused} one-bit changes refused, in {:?}", begun.elapsed());
        assert!(refused >= 300, "too few changes to mean anything");
    }
}

/// The contract's command lines, as a script runs them.
async fn publish(cluster: &Cluster) -> Published {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("suite.bin"), b"64 bytes of a product build, signed by two and one organisation.")
        .unwrap();
    let key = cluster.release_key().await;
    fs::write(path("release.pem"), key.to_pem()).unwrap();
    let allowed = ["product-build/suite".parse().unwrap()];
    fs::write(path("allowed_signers"), key.allowed_signers(PRINCIPAL, &allowed).unwrap()).unwrap();
    let output = Command::new(program("rutli"))
        .arg("--profile")
        .arg(cluster.profile("pipeline"))
        .args(["--json", "sign", "--class", "product-build", "--product", "suite", "--channel", "stable"])
        .args(["--version", "1.0", "--sequence", "1", "--request-id", "interop", "--out"])
        .arg(path("out"))
        .arg(path("suite.bin"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = said["release_id"].as_str().unwrap().to_owned();
    Published { folder, key, id }
}

impl Published {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn out(&self, suffix: &str) -> PathBuf {
        self.folder.path().join("out").join(format!("{}{suffix}", self.id))
    }

    fn sig(&self) -> PathBuf {
        self.path("out/suite.bin.sig")
    }
}

/// `rutli verify`: 0 verified, 1 not verified with the reason, 2 usage.
fn command_line(published: &Published) {
    let verify = |signature: &Path, file: &Path| {
        let mut command = Command::new(program("rutli"));
        command
            .arg("verify")
            .arg("--key")
            .arg(published.path("release.pem"))
            .arg("--signature")
            .arg(signature)
            .arg(file);
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let file = published.path("suite.bin");
    for signature in [published.sig(), published.out(".intoto.json"), published.out(".statement.sig")] {
        assert_eq!(verify(&signature, &file).0, 0, "{}", signature.display());
    }
    let tampered = published.path("tampered/suite.bin");
    fs::create_dir_all(tampered.parent().unwrap()).unwrap();
    fs::write(&tampered, flipped(&fs::read(&file).unwrap(), 77)).unwrap();
    for signature in [published.sig(), published.out(".intoto.json"), published.out(".statement.sig")] {
        let (code, why) = verify(&signature, &tampered);
        assert_eq!(code, 1, "{}: {why}", signature.display());
        assert!(!why.trim().is_empty());
        println!("rutli verify: {}", why.lines().next().unwrap());
    }
    assert_eq!(verify(&published.path("nothing"), &file).0, 2);
}

/// Every third bit of the file, and of the signature inside its armour.
fn ssh_keygen(published: &Published) -> usize {
    let (signers, file, sig) =
        (published.path("allowed_signers"), published.path("suite.bin"), published.sig());
    assert!(ssh_keygen_accepts(&signers, NAMESPACE, &sig, &file));
    for namespace in [
        "file",
        "git",
        "product-build@rutli",
        "av-database/suite/stable@rutli",
        "product-build/other/stable@rutli",
        "product-build/suite/beta@rutli",
    ] {
        assert!(!ssh_keygen_accepts(&signers, namespace, &sig, &file), "{namespace}");
    }
    let changed = published.path("changed");
    let content = fs::read(&file).unwrap();
    for bit in bits(&content).step_by(3) {
        fs::write(&changed, flipped(&content, bit)).unwrap();
        assert!(!ssh_keygen_accepts(&signers, NAMESPACE, &sig, &changed), "bit {bit} of the file");
    }
    let blob = unarmoured(&fs::read_to_string(&sig).unwrap());
    assert_eq!(armoured(&blob), fs::read_to_string(&sig).unwrap(), "the armour is the usual one");
    // The 64 bytes of the signature proper are the last ones.
    let signature = (blob.len() - 64) * 8..blob.len() * 8;
    for bit in signature.clone().step_by(3) {
        fs::write(&changed, armoured(&flipped(&blob, bit))).unwrap();
        assert!(!ssh_keygen_accepts(&signers, NAMESPACE, &changed, &file), "bit {bit} of the signature");
    }
    bits(&content).step_by(3).len() + signature.step_by(3).len()
}

/// Every third bit of the signature, and every 23rd of the statement.
fn openssl(published: &Published) -> usize {
    let (key, statement, sig) =
        (published.path("release.pem"), published.out(".statement"), published.out(".statement.sig"));
    assert!(openssl_accepts(&key, &sig, &statement));
    let changed = published.path("changed");
    let mut refused = 0;
    let signature = fs::read(&sig).unwrap();
    assert_eq!(signature.len(), 64);
    for bit in bits(&signature).step_by(3) {
        fs::write(&changed, flipped(&signature, bit)).unwrap();
        assert!(!openssl_accepts(&key, &changed, &statement), "bit {bit} of the signature");
        refused += 1;
    }
    let content = fs::read(&statement).unwrap();
    for bit in bits(&content).step_by(23) {
        fs::write(&changed, flipped(&content, bit)).unwrap();
        assert!(!openssl_accepts(&key, &sig, &changed), "bit {bit} of the statement");
        refused += 1;
    }
    refused
}

fn securesystemslib(published: &Published) -> usize {
    let (key, envelope) = (published.path("release.pem"), published.out(".intoto.json"));
    python("verify_dsse.py", &[key.as_os_str(), envelope.as_os_str()]).trim().parse().unwrap()
}

/// Every bit of every file, armour and JSON included: nothing about a signature file can be changed unseen.
fn our_own(published: &Published) -> usize {
    let key = &published.key;
    let content = fs::read(published.path("suite.bin")).unwrap();
    let sha256 = |content: &[u8]| <[u8; 32]>::from(Sha256::digest(content));
    let armour = fs::read(published.sig()).unwrap();
    let envelope = fs::read(published.out(".intoto.json")).unwrap();
    let statement = fs::read(published.out(".statement")).unwrap();
    let signature: [u8; 64] = fs::read(published.out(".statement.sig")).unwrap().try_into().unwrap();
    let sshsig = |armour: &[u8], content: &[u8]| {
        std::str::from_utf8(armour).is_ok_and(|armour| verify_sshsig(key, armour, &sha256(content)).is_ok())
    };
    let of_statement = |statement: rutli_release::Statement, content: &[u8]| {
        statement.check_file(Some("suite.bin"), &sha256(content)).is_ok()
    };
    let dsse = |envelope: &[u8], content: &[u8]| {
        verify_dsse(key, envelope).is_ok_and(|found| of_statement(found, content))
    };
    let raw = |statement: &[u8], signature: &[u8; 64], content: &[u8]| {
        verify_statement(key, statement, signature).is_ok_and(|found| of_statement(found, content))
    };
    assert!(sshsig(&armour, &content) && dsse(&envelope, &content) && raw(&statement, &signature, &content));
    let mut refused = 0;
    for bit in bits(&content) {
        let changed = flipped(&content, bit);
        assert!(!sshsig(&armour, &changed) && !dsse(&envelope, &changed), "bit {bit} of the file");
        assert!(!raw(&statement, &signature, &changed), "bit {bit} of the file");
        refused += 3;
    }
    for bit in bits(&armour) {
        assert!(!sshsig(&flipped(&armour, bit), &content), "bit {bit} of the armour");
        refused += 1;
    }
    for bit in bits(&envelope) {
        assert!(!dsse(&flipped(&envelope, bit), &content), "bit {bit} of the envelope");
        refused += 1;
    }
    for bit in bits(&statement) {
        assert!(!raw(&flipped(&statement, bit), &signature, &content), "bit {bit} of the statement");
        refused += 1;
    }
    for bit in bits(&signature) {
        let changed = flipped(&signature, bit).try_into().unwrap();
        assert!(!raw(&statement, &changed, &content), "bit {bit} of the signature");
        refused += 1;
    }
    refused
}

fn bits(bytes: &[u8]) -> std::ops::Range<usize> {
    0..bytes.len() * 8
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

fn unarmoured(armour: &str) -> Vec<u8> {
    let lines: Vec<_> = armour.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(lines.concat()).unwrap()
}

fn armoured(blob: &[u8]) -> String {
    let text = STANDARD.encode(blob);
    let lines: Vec<_> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}
