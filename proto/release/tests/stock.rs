//! The files we write, before the programs that endpoints have already: `ssh-keygen` and `openssl`. Both must accept what was
//! signed and refuse everything else. A missing program fails the test, since an unproved format is not a format.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ed25519_dalek::{Signer, SigningKey};
use rutli_release::{
    Class, Format, PRINCIPAL, Product, ReleaseId, ReleaseKey, SshNamespaces, UnverifiedArtifact,
    UnverifiedRelease, signed_files, verify_sshsig,
};
use sha2::{Digest, Sha256};
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use tempfile::TempDir;

const CONTENT: &[u8] = b"the content of a product build\n";
const NAMESPACE: &str = "product-build/rutli/stable@rutli";

/// A directory with one signed release: `rutli` and its `rutli.sig`, `r.statement`, `r.statement.sig`, and the public key as
/// `key.pem` and `allowed_signers`.
struct Published {
    directory: TempDir,
    key: ReleaseKey,
}

impl Published {
    fn new(class: Class) -> Self {
        let signing_key = SigningKey::from_bytes(&[7; 32]);
        let key = ReleaseKey::from_bytes(signing_key.verifying_key().as_bytes()).unwrap();
        let release = UnverifiedRelease {
            class,
            product: "rutli".into(),
            channel: "stable".into(),
            version: "1.4.2".into(),
            sequence: 1,
            issued_at: 1_795_255_200,
            expires_at: None,
            artifacts: vec![UnverifiedArtifact {
                name: "rutli".into(),
                sha256: Sha256::digest(CONTENT).to_vec(),
            }],
            formats: Format::ALL.into(),
        };
        let release = release.verify().unwrap();
        let signatures: Vec<[u8; 64]> =
            release.signables().iter().map(|signable| signing_key.sign(&signable.bytes).to_bytes()).collect();
        let published = Self { directory: tempfile::tempdir().unwrap(), key };
        let id = ReleaseId::new("r").unwrap();
        for file in signed_files(&release, &id, &key, &signatures).unwrap() {
            published.write(&file.name, &file.bytes);
        }
        published.write("rutli", CONTENT);
        published.write("key.pem", key.to_pem().as_bytes());
        let namespaces = Class::ALL.map(|class| SshNamespaces {
            class,
            product: Product::new("rutli").unwrap(),
            channel: None,
        });
        let line = key.allowed_signers(PRINCIPAL, &namespaces).unwrap();
        published.write("allowed_signers", line.as_bytes());
        published
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Changes one bit in the middle of a file.
    fn tamper(&self, name: &str) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).unwrap() ^= 1;
        self.write(name, &bytes);
    }

    fn ssh_keygen_accepts(&self, namespace: &str) -> bool {
        let output = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", PRINCIPAL, "-n", namespace, "-f"])
            .arg(self.path("allowed_signers"))
            .arg("-s")
            .arg(self.path("rutli.sig"))
            .stdin(fs::File::open(self.path("rutli")).unwrap())
            .output()
            .unwrap_or_else(|error| panic!("ssh-keygen must be installed for this test: {error}"));
        output.status.success()
    }

    fn openssl_accepts(&self) -> bool {
        openssl(|command| {
            command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]);
            command.arg(self.path("key.pem")).arg("-in").arg(self.path("r.statement"));
            command.arg("-sigfile").arg(self.path("r.statement.sig"));
        })
        .is_some()
    }
}

/// What OpenSSL printed, if it succeeded.
fn openssl(arguments: impl FnOnce(&mut Command)) -> Option<String> {
    let mut command = Command::new("openssl");
    arguments(&mut command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("openssl must be installed for this test: {error}"));
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn ssh_keygen_accepts_signed_files_of_both_classes() {
    for class in Class::ALL {
        assert!(Published::new(class).ssh_keygen_accepts(&format!("{class}/rutli/stable@rutli")), "{class}");
    }
}

#[test]
fn ssh_keygen_refuses_another_file_signature_or_namespace() {
    let published = Published::new(Class::ProductBuild);
    for other in [
        "file",
        "git",
        "product-build@rutli",
        "av-database/rutli/stable@rutli",
        "product-build/other/stable@rutli",
        "product-build/rutli/beta@rutli",
    ] {
        assert!(!published.ssh_keygen_accepts(other), "{other}");
    }
    published.tamper("rutli");
    assert!(!published.ssh_keygen_accepts(NAMESPACE));
    let published = Published::new(Class::ProductBuild);
    published.tamper("rutli.sig");
    assert!(!published.ssh_keygen_accepts(NAMESPACE));
}

/// The namespace itself is right in each case; the allowed-signers line alone says no.
#[test]
fn ssh_keygen_trusts_the_key_for_the_products_and_channels_that_a_line_names() {
    let published = Published::new(Class::ProductBuild);
    for (named, accepted) in [
        ("product-build/rutli", true),
        ("product-build/rutli/stable", true),
        ("product-build/rutli/beta", false),
        ("product-build/rut", false),
        ("product-build/other", false),
        ("av-database/rutli", false),
    ] {
        let line = published.key.allowed_signers(PRINCIPAL, &[named.parse().unwrap()]).unwrap();
        published.write("allowed_signers", line.as_bytes());
        assert_eq!(published.ssh_keygen_accepts(NAMESPACE), accepted, "{named}");
    }
}

#[test]
fn ssh_keygen_trusts_the_key_in_no_other_namespace() {
    let published = Published::new(Class::ProductBuild);
    let sig = ssh_keygen_signs(published.directory.path(), "file");
    published.write("rutli.sig", sig.as_bytes());
    assert!(!published.ssh_keygen_accepts("file"), "the allowed-signers line must restrict the namespaces");
    // The same signature is good where the line does not.
    let line = format!("{PRINCIPAL} {}", published.key.to_openssh("").unwrap());
    published.write("allowed_signers", line.as_bytes());
    assert!(published.ssh_keygen_accepts("file"));
}

#[test]
fn ssh_keygen_writes_the_same_signature_byte_for_byte() {
    let published = Published::new(Class::ProductBuild);
    let ours = fs::read_to_string(published.path("rutli.sig")).unwrap();
    let theirs = ssh_keygen_signs(published.directory.path(), NAMESPACE);
    assert_eq!(ours, theirs);
    let verdict = verify_sshsig(&published.key, &theirs, &Sha256::digest(CONTENT).into()).unwrap();
    assert_eq!(verdict.namespace.to_string(), NAMESPACE);
}

/// Has `ssh-keygen` itself sign the artifact with the release's key.
fn ssh_keygen_signs(directory: &Path, namespace: &str) -> String {
    let signing_key = directory.join("signing_key");
    let pair = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    fs::write(&signing_key, pair.to_openssh(ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
    restrict(&signing_key);
    let copy = directory.join("copy");
    fs::write(&copy, CONTENT).unwrap();
    let output = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-O", "hashalg=sha256", "-n", namespace, "-f"])
        .arg(&signing_key)
        .arg(&copy)
        .output()
        .unwrap_or_else(|error| panic!("ssh-keygen must be installed for this test: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(directory.join("copy.sig")).unwrap()
}

/// `ssh-keygen` refuses private keys that others may read.
fn restrict(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn openssl_accepts_the_statement_and_refuses_another() {
    assert!(Published::new(Class::ProductBuild).openssl_accepts());
    for file in ["r.statement", "r.statement.sig"] {
        let published = Published::new(Class::ProductBuild);
        published.tamper(file);
        assert!(!published.openssl_accepts(), "{file}");
    }
}

#[test]
fn openssl_writes_the_same_public_key() {
    let published = Published::new(Class::ProductBuild);
    let pem = openssl(|command| {
        command.args(["pkey", "-pubin", "-in"]).arg(published.path("key.pem")).arg("-pubout");
    });
    assert_eq!(pem.unwrap(), published.key.to_pem());
}
