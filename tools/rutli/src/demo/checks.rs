//! The demo's verification, with our own verifier and every stock one on this machine: each must accept what was signed,
//! and refuse it with one bit changed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use rutli_release::{PRINCIPAL, ReleaseKey};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Workplace, quoted, workplace::LogTrust};
use crate::{
    cli,
    files::{self, Access},
    releases,
    report::Failure,
    sign::Signed,
    text,
};

const RUTLI: &str = "rutli verify";
const SSH_KEYGEN: &str = "ssh-keygen";
const OPENSSL: &str = "openssl";
const SECURESYSTEMSLIB: &str = "securesystemslib";

/// Exits with 0 if the envelope verifies.
const DSSE_SCRIPT: &str = r#"
import json, sys
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
envelope = Envelope.from_dict(json.load(open(sys.argv[1])))
envelope.verify([SSlibKey(sys.argv[2], "ed25519", "ed25519", {"public": sys.argv[3]})], 1)
"#;

const DSSE_VERSION_SCRIPT: &str = "
import cryptography, securesystemslib, securesystemslib.dsse, securesystemslib.signer
print('securesystemslib', securesystemslib.__version__)
";

/// One verification and whether it went as it must.
pub struct Check {
    /// The verifier.
    pub by: &'static str,
    /// What was given to it.
    pub what: String,
    /// Whether a bit of it was changed, so that it had to be refused.
    pub tampered: bool,
    /// Accepted what was signed, refused what was not.
    pub ok: bool,
}

impl Check {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({ "by": self.by, "what": self.what, "tampered": self.tampered, "ok": self.ok })
    }
}

/// The verifiers on this machine: a version, or why not.
pub struct Verifiers {
    python: PathBuf,
    ssh_keygen: Result<String, String>,
    openssl: Result<String, String>,
    securesystemslib: Result<String, String>,
}

impl Verifiers {
    /// Looks for them.
    pub async fn find(args: &cli::Demo) -> Self {
        let python = args.python.clone().unwrap_or_else(|| PathBuf::from("python3"));
        let openssl = first_line(Command::new("openssl").arg("version")).await;
        // "OpenSSL 3.0.19 27 Jan 2026 (Library: …)": the date says nothing more.
        let openssl = openssl.map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
        Self {
            ssh_keygen: ssh_version().await,
            // Ed25519 from the command line came with 3.0 (`pkeyutl -rawin`).
            openssl: openssl
                .filter(|version| is_openssl_3(version))
                .ok_or_else(|| "not installed (3.0 or newer)".to_owned()),
            securesystemslib: first_line(Command::new(&python).args(["-c", DSSE_VERSION_SCRIPT]))
                .await
                .ok_or_else(|| "not installed".to_owned()),
            python,
        }
    }

    /// All of them with their versions, in the order of the report.
    pub fn names(&self) -> Vec<(&'static str, Result<String, String>)> {
        vec![
            (RUTLI, Ok(concat!("rutli ", env!("CARGO_PKG_VERSION")).to_owned())),
            (SSH_KEYGEN, self.ssh_keygen.clone()),
            (OPENSSL, self.openssl.clone()),
            (SECURESYSTEMSLIB, self.securesystemslib.clone()),
        ]
    }

    /// Verifies all of one release: each file's SSHSIG, the DSSE envelope, the statement; then all with a bit changed.
    ///
    /// # Errors
    /// When a verifier cannot be run. What it says is in the checks.
    pub async fn check(
        &self,
        workplace: &Workplace,
        files: &[PathBuf],
        signed: &Signed,
        key: &ReleaseKey,
    ) -> Result<Vec<Check>, Failure> {
        let release = Release::of(workplace, files, signed)?;
        let mut checks = Vec::new();
        self.accept(workplace, &release, key, &mut checks).await?;
        self.refuse(workplace, &release, key, &mut checks).await?;
        Ok(checks)
    }

    async fn accept(
        &self,
        workplace: &Workplace,
        release: &Release<'_>,
        key: &ReleaseKey,
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let accepted = |by, what: String, ok| Check { by, what, tampered: false, ok };
        for file in release.files {
            let signature = release.signature_of(file);
            let ok = rutli(workplace, &signature, file).await?;
            checks.push(accepted(RUTLI, format!("SSHSIG of {}", name(file)), ok));
            if self.ssh_keygen.is_ok() {
                let ok = ssh_keygen(workplace, &release.namespace, &signature, file).await?;
                checks.push(accepted(SSH_KEYGEN, format!("SSHSIG of {}", name(file)), ok));
            }
            for (form, signature) in
                [("DSSE", &release.envelope), ("statement", &release.statement_signature)]
            {
                let ok = rutli(workplace, signature, file).await?;
                checks.push(accepted(RUTLI, format!("{form} of {} with {}", release.id, name(file)), ok));
            }
        }
        let LogTrust { trusted_root, policy, .. } = workplace.log_trust();
        for (what, trust) in [
            (
                format!("Sigstore bundle of {}", release.id),
                &["--trusted-root".as_ref(), trusted_root.as_path()][..],
            ),
            (
                format!("Sigstore bundle of {} with its nodes' cosignatures", release.id),
                &["--trusted-root".as_ref(), &trusted_root, "--policy".as_ref(), &policy],
            ),
        ] {
            let ok = in_log(workplace, &release.bundle, trust, release.files).await?;
            checks.push(accepted(RUTLI, what, ok));
        }
        let trust = ["--policy".as_ref(), policy.as_path()];
        let ok = in_log(workplace, &release.proof, &trust, release.files).await?;
        checks.push(accepted(RUTLI, format!("proof of {} with its nodes' cosignatures", release.id), ok));
        if self.openssl.is_ok() {
            let ok = openssl(workplace, &release.statement, &release.statement_signature).await?;
            checks.push(accepted(OPENSSL, format!("statement of {}", release.id), ok));
        }
        if self.securesystemslib.is_ok() {
            let ok = self.dsse(&release.envelope, key).await?;
            checks.push(accepted(SECURESYSTEMSLIB, format!("DSSE of {}", release.id), ok));
        }
        Ok(())
    }

    async fn refuse(
        &self,
        workplace: &Workplace,
        release: &Release<'_>,
        key: &ReleaseKey,
        checks: &mut Vec<Check>,
    ) -> Result<(), Failure> {
        let Some(file) = release.files.first() else { return Ok(()) };
        let mut refused =
            |by, what: String, accepted: bool| checks.push(Check { by, what, tampered: true, ok: !accepted });
        let folder = tempfile::tempdir()
            .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
        // Under its own name, so that it is the content that is refused.
        let changed = folder.path().join(name(file));
        change_a_bit(file, &changed)?;
        let signature = release.signature_of(file);
        refused(RUTLI, format!("{} changed", name(file)), rutli(workplace, &signature, &changed).await?);
        refused(
            RUTLI,
            format!("{} changed", name(file)),
            rutli(workplace, &release.envelope, &changed).await?,
        );
        let LogTrust { trusted_root, policy, .. } = workplace.log_trust();
        let bundle = folder.path().join(name(&release.bundle));
        change_payload(&release.bundle, &bundle, "/dsseEnvelope/payload")?;
        let trust = ["--trusted-root".as_ref(), trusted_root.as_path()];
        let accepted = in_log(workplace, &bundle, &trust, release.files).await?;
        refused(RUTLI, format!("Sigstore bundle of {} changed", release.id), accepted);
        // The proof finds the envelope beside it: it must not hold for another one.
        let proof = folder.path().join(name(&release.proof));
        files::write_atomically(&proof, &files::read(&release.proof)?, Access::Public)?;
        change_payload(&release.envelope, &folder.path().join(name(&release.envelope)), "/payload")?;
        let trust = ["--policy".as_ref(), policy.as_path()];
        let accepted = in_log(workplace, &proof, &trust, release.files).await?;
        refused(RUTLI, format!("proof of {} for a changed envelope", release.id), accepted);
        if self.ssh_keygen.is_ok() {
            let accepted = ssh_keygen(workplace, &release.namespace, &signature, &changed).await?;
            refused(SSH_KEYGEN, format!("{} changed", name(file)), accepted);
        }
        if self.openssl.is_ok() {
            let statement = folder.path().join("statement");
            change_a_bit(&release.statement, &statement)?;
            let accepted = openssl(workplace, &statement, &release.statement_signature).await?;
            refused(OPENSSL, format!("statement of {} changed", release.id), accepted);
        }
        if self.securesystemslib.is_ok() {
            let envelope = folder.path().join("envelope.json");
            change_payload(&release.envelope, &envelope, "/payload")?;
            refused(
                SECURESYSTEMSLIB,
                format!("DSSE of {} changed", release.id),
                self.dsse(&envelope, key).await?,
            );
        }
        Ok(())
    }

    async fn dsse(&self, envelope: &Path, key: &ReleaseKey) -> Result<bool, Failure> {
        let mut command = Command::new(&self.python);
        command.args(["-c", DSSE_SCRIPT]).arg(envelope).arg(key.key_id()).arg(hex::encode(key.as_bytes()));
        succeeds(&mut command).await
    }
}

/// How one verifies it oneself, in the demo's folder, with the first file of each release.
pub fn commands(workplace: &Workplace, signed: &[(Vec<PathBuf>, Signed)]) -> Vec<String> {
    // Below the demo's folder short paths, elsewhere the whole ones.
    let shown = |path: &Path| quoted(path.strip_prefix(&workplace.dir).unwrap_or(path));
    let (rutli, key) = (shown(&workplace.program("rutli")), shown(&workplace.release_key()));
    let allowed_signers = shown(&workplace.allowed_signers());
    let LogTrust { trusted_root, policy, .. } = workplace.log_trust();
    let (trusted_root, policy) = (shown(&trusted_root), shown(&policy));
    let mut lines = vec![format!("  cd {}", quoted(&workplace.dir))];
    for (files, signed) in signed {
        let Ok(release) = Release::of(workplace, files, signed) else { continue };
        let Some(file) = release.files.first() else { continue };
        let signature = shown(&release.signature_of(file));
        let (file, envelope, bundle) = (shown(file), shown(&release.envelope), shown(&release.bundle));
        let (statement, statement_signature) =
            (shown(&release.statement), shown(&release.statement_signature));
        let namespace = &release.namespace;
        lines.extend([
            format!("  {rutli} verify --key {key} --signature {signature} {file}"),
            format!("  ssh-keygen -Y verify -f {allowed_signers} -I {PRINCIPAL} -n {namespace} -s {signature} < {file}"),
            format!("  {rutli} verify --key {key} --signature {envelope} {file}"),
            format!("  {rutli} verify --key {key} --bundle {bundle} --trusted-root {trusted_root} --policy {policy} {file}"),
            format!("  openssl pkeyutl -verify -pubin -inkey {key} -rawin -in {statement} -sigfile {statement_signature}"),
        ]);
    }
    lines
}

struct Release<'a> {
    id: String,
    namespace: String,
    files: &'a [PathBuf],
    out: PathBuf,
    envelope: PathBuf,
    statement: PathBuf,
    statement_signature: PathBuf,
    bundle: PathBuf,
    proof: PathBuf,
}

impl<'a> Release<'a> {
    fn of(workplace: &Workplace, files: &'a [PathBuf], signed: &Signed) -> Result<Self, Failure> {
        let id = text::printable(&signed.release.release_id);
        let file = |suffix: &str| workplace.out.join(format!("{id}{suffix}"));
        Ok(Self {
            namespace: releases::content(&signed.release)?.ssh_namespace().to_string(),
            files,
            out: workplace.out.clone(),
            envelope: file(".intoto.json"),
            statement: file(".statement"),
            statement_signature: file(".statement.sig"),
            bundle: file(".sigstore.json"),
            proof: file(".tlog-proof"),
            id,
        })
    }

    fn signature_of(&self, file: &Path) -> PathBuf {
        self.out.join(format!("{}.sig", name(file)))
    }
}

async fn rutli(workplace: &Workplace, signature: &Path, file: &Path) -> Result<bool, Failure> {
    let mut command = Command::new(workplace.program("rutli"));
    command
        .arg("verify")
        .arg("--key")
        .arg(workplace.release_key())
        .arg("--signature")
        .arg(signature)
        .arg(file);
    succeeds(&mut command).await
}

/// With a bundle or proof, under what `trust` says.
async fn in_log(
    workplace: &Workplace,
    bundle: &Path,
    trust: &[&Path],
    files: &[PathBuf],
) -> Result<bool, Failure> {
    let mut command = Command::new(workplace.program("rutli"));
    command.arg("verify").arg("--key").arg(workplace.release_key()).arg("--bundle").arg(bundle);
    succeeds(command.args(trust).args(files)).await
}

async fn ssh_keygen(
    workplace: &Workplace,
    namespace: &str,
    signature: &Path,
    file: &Path,
) -> Result<bool, Failure> {
    let input = std::fs::File::open(file).map_err(|error| files::cannot("read", file, &error))?;
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-I", PRINCIPAL, "-n", namespace, "-f"]).arg(workplace.allowed_signers());
    command.arg("-s").arg(signature).stdin(input);
    succeeds(&mut command).await
}

async fn openssl(workplace: &Workplace, statement: &Path, signature: &Path) -> Result<bool, Failure> {
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(workplace.release_key());
    command.arg("-in").arg(statement).arg("-sigfile").arg(signature).stdin(Stdio::null());
    succeeds(&mut command).await
}

async fn succeeds(command: &mut Command) -> Result<bool, Failure> {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status().await;
    Ok(status.map_err(|error| Failure::failed(format!("cannot run a verifier: {error}")))?.success())
}

async fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next().map(text::printable)?;
    output.status.success().then_some(text)
}

/// `ssh-keygen` cannot say its version; `ssh`, which comes with it, can.
async fn ssh_version() -> Result<String, String> {
    let exists = Command::new("ssh-keygen")
        .arg("-Y")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if exists.await.is_err() {
        return Err("not installed".to_owned());
    }
    let output = Command::new("ssh").arg("-V").stdin(Stdio::null()).output().await;
    let said = output
        .ok()
        .and_then(|output| String::from_utf8_lossy(&output.stderr).lines().next().map(text::printable));
    Ok(said
        .and_then(|line| line.split(',').next().map(str::to_owned))
        .unwrap_or_else(|| "OpenSSH".to_owned()))
}

fn is_openssl_3(version: &str) -> bool {
    let number = version.strip_prefix("OpenSSL ").and_then(|rest| rest.split('.').next());
    number.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 3)
}

fn change_a_bit(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut bytes = std::fs::read(from).map_err(|error| files::cannot("read", from, &error))?;
    let middle = bytes.len() / 2;
    match bytes.get_mut(middle) {
        Some(byte) => *byte ^= 1,
        None => bytes.push(1),
    }
    files::write_atomically(to, &bytes, Access::Public)
}

/// Changes a bit of what is signed, leaving JSON and base64 in order: the signature alone can tell. `payload` points to
/// it (RFC 6901).
fn change_payload(from: &Path, to: &Path, payload: &str) -> Result<(), Failure> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let rubbish = || Failure::failed(format!("{} has no envelope", from.display()));
    let mut document: Value = serde_json::from_slice(&files::read(from)?).map_err(|_| rubbish())?;
    let payload = document.pointer_mut(payload).ok_or_else(rubbish)?;
    let mut bytes = STANDARD.decode(payload.as_str().unwrap_or_default()).map_err(|_| rubbish())?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).ok_or_else(rubbish)? ^= 1;
    *payload = Value::String(STANDARD.encode(bytes));
    files::write_atomically(to, document.to_string().as_bytes(), Access::Public)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_openssl_that_can_is_used() {
        assert!(is_openssl_3("OpenSSL 3.0.13 30 Jan 2024 (Library: OpenSSL 3.0.13)"));
        assert!(!is_openssl_3("OpenSSL 1.1.1w  11 Sep 2023"));
        assert!(!is_openssl_3("LibreSSL 3.9.0"));
    }

    #[test]
    fn one_bit_is_changed() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&from, b"abcd").unwrap();
        change_a_bit(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"abbd");
        std::fs::write(&from, r#"{"a":{"payload":"YWJjZA==","b":1}}"#).unwrap();
        change_payload(&from, &to, "/a/payload").unwrap();
        let changed: Value = serde_json::from_slice(&std::fs::read(&to).unwrap()).unwrap();
        assert_eq!(changed, json!({ "a": { "payload": "YWJiZA==", "b": 1 } }));
        assert!(change_payload(&from, &to, "/payload").is_err());
    }
}
