//! SSH signatures: by a key in a file, or by `ssh-keygen` where the key is somewhere else.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use rutli_evidence::{InvalidTrust, Trust};
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};
use zeroize::Zeroizing;

use crate::{
    client, files,
    limits::{MAX_SSH_KEY_BYTES, MAX_SSH_SIGNATURE_BYTES},
    report::Failure,
};

/// How a private key file begins that OpenSSH made.
const PRIVATE: &[u8] = b"-----BEGIN OPENSSH PRIVATE KEY-----";

/// Where signatures come from.
pub(super) enum Key {
    /// A key that this program can use by itself.
    Own(Box<PrivateKey>),
    /// Any other: encrypted, in an agent, in an authenticator. `ssh-keygen` asks for the passphrase or the touch itself, so that
    /// neither passes through here.
    SshKeygen(PathBuf),
}

impl Key {
    /// Looks at the file of a key.
    ///
    /// # Errors
    /// Exit code 2: it cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = Zeroizing::new(files::read_within(path, MAX_SSH_KEY_BYTES)?);
        if !bytes.starts_with(PRIVATE) {
            return Ok(Self::SshKeygen(path.to_owned()));
        }
        client::warn_if_others_can_read(path);
        // Of what cannot be read here, ssh-keygen says better why.
        Ok(match PrivateKey::from_openssh(&*bytes) {
            Ok(key) if is_usable(&key) => Self::Own(Box::new(key)),
            _ => Self::SshKeygen(path.to_owned()),
        })
    }

    /// The armored signature over a text, as `ssh-keygen` spells it.
    ///
    /// # Errors
    /// Exit code 1 when it does not come about, 2 where there is no `ssh-keygen`.
    pub(super) async fn sign(&self, namespace: &str, text: &str) -> Result<String, Failure> {
        match self {
            Self::Own(key) => key
                .sign(namespace, HashAlg::Sha512, text.as_bytes())
                .and_then(|signature| signature.to_pem(LineEnding::LF))
                .map_err(|error| {
                    Failure::failed(format!("the key does not sign: {error}"))
                        .help("try it with `ssh-keygen -Y sign`, on what --print-text writes")
                }),
            Self::SshKeygen(path) => by_ssh_keygen(path, namespace, text).await,
        }
    }
}

/// Trust in nobody but the key that a signature names: whether it holds at all.
///
/// # Errors
/// Exit code 2: no signature, or by a key of a kind that nodes do not take.
pub(super) fn trust_of(armor: &str) -> Result<Trust, Failure> {
    let unusable = |problem: String| {
        Failure::usage(format!("the signature cannot be used: {problem}"))
            .help("sign with a key of the type ed25519, ed25519-sk or ecdsa (256 bits)")
    };
    let signature = SshSig::from_pem(armor).map_err(|error| unusable(error.to_string()))?;
    let key = PublicKey::from(signature.public_key().clone())
        .to_openssh()
        .map_err(|error| unusable(error.to_string()))?;
    Trust::new(Vec::new(), &format!("signer {key}\n")).map_err(|error| match error {
        // Nobody gave a file with lines.
        InvalidTrust::SignersLine { problem, .. } => unusable(problem),
        error => unusable(error.to_string()),
    })
}

fn is_usable(key: &PrivateKey) -> bool {
    let kinds = [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }];
    !key.is_encrypted() && kinds.contains(&key.algorithm())
}

/// Its prompts go to the terminal: for passphrases it opens that itself, and to touch a key it asks on stderr.
async fn by_ssh_keygen(key: &Path, namespace: &str, text: &str) -> Result<String, Failure> {
    let folder = tempfile::tempdir().map_err(|error| {
        Failure::failed(format!("cannot make a temporary folder: {error}")).help("check TMPDIR")
    })?;
    let file = folder.path().join("text");
    files::write_atomically(&file, text.as_bytes(), files::Access::Secret)?;
    let mut command = tokio::process::Command::new("ssh-keygen");
    command.args(["-Y", "sign", "-n", namespace, "-f"]).arg(key).arg(&file);
    // Stdout has the document for programs and nothing else.
    command.stdin(Stdio::inherit()).stdout(std::io::stderr()).kill_on_drop(true);
    let status = tokio::select! {
        status = command.status() => status,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::failed("interrupted: nothing was signed").help("run it again"));
        }
    };
    let status = status.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::usage("this key needs `ssh-keygen`, which is not on this machine")
                .help("install OpenSSH; or write the text with --print-text, and sign it elsewhere")
        }
        _ => Failure::failed(format!("cannot run ssh-keygen: {error}")).help("check that it can be run"),
    })?;
    if !status.success() {
        return Err(Failure::failed(format!("ssh-keygen did not sign with {}", key.display()))
            .help("it said why above: a wrong passphrase, no agent with this key, or an authenticator that was not touched"));
    }
    let armor = files::read_within(&folder.path().join("text.sig"), MAX_SSH_SIGNATURE_BYTES)?;
    String::from_utf8(armor)
        .map_err(|_| Failure::failed("ssh-keygen wrote no text").help("check which ssh-keygen is in PATH"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rutli_evidence::{APPROVAL_NAMESPACE, Evidence, approval_text, verify};
    use rutli_release::ReleaseId;

    use super::*;
    use crate::releases::{content, tests::signed};

    fn make(folder: &Path, arguments: &[&str]) -> PathBuf {
        let key = folder.join("key");
        let status =
            Command::new("ssh-keygen").args(["-q", "-f"]).arg(&key).args(arguments).status().unwrap();
        assert!(status.success());
        key
    }

    #[tokio::test]
    async fn a_key_file_signs_here_as_ssh_keygen_does() {
        let content = content(&signed(&[])).unwrap();
        let id = ReleaseId::new("x-1-0123456789ab").unwrap();
        let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(content.statement()).into();
        let text = approval_text(&id, &digest);
        for kind in [&["-N", "", "-t", "ed25519"][..], &["-N", "", "-t", "ecdsa", "-b", "256"]] {
            let folder = tempfile::tempdir().unwrap();
            let path = make(folder.path(), kind);
            let key = Key::read(&path).unwrap();
            assert!(matches!(key, Key::Own(_)));
            let ours = key.sign(APPROVAL_NAMESPACE, &text).await.unwrap();
            let theirs = Key::SshKeygen(path).sign(APPROVAL_NAMESPACE, &text).await.unwrap();
            for armor in [&ours, &theirs] {
                let document = Evidence::parse(format!("{text}{armor}").as_bytes()).unwrap();
                verify(&document, &trust_of(armor).unwrap(), &content, &id, 1).unwrap();
            }
            // ed25519 signs the same to the same.
            assert_eq!(ours == theirs, kind.contains(&"ed25519"));
        }
    }

    #[tokio::test]
    async fn keys_that_are_not_used_here_go_to_ssh_keygen() {
        let folder = tempfile::tempdir().unwrap();
        let encrypted = make(folder.path(), &["-N", "passphrase", "-t", "ed25519"]);
        assert!(matches!(Key::read(&encrypted).unwrap(), Key::SshKeygen(_)));
        assert!(matches!(Key::read(&encrypted.with_extension("pub")).unwrap(), Key::SshKeygen(_)));
        let garbage = folder.path().join("garbage");
        std::fs::write(&garbage, "garbage").unwrap();
        let failure = Key::read(&garbage).unwrap().sign(APPROVAL_NAMESPACE, "x").await.unwrap_err();
        assert_eq!(failure.exit.code(), 1);
        assert!(failure.problem.contains("did not sign") && failure.help.is_some(), "{failure}");
        assert!(Key::read(&folder.path().join("none")).is_err());
        std::fs::write(&garbage, vec![b'x'; 20_000]).unwrap();
        assert!(Key::read(&garbage).is_err());
    }

    #[tokio::test]
    async fn a_kind_of_key_that_nodes_do_not_take_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = make(folder.path(), &["-N", "", "-t", "rsa", "-b", "2048"]);
        let armor = Key::read(&path).unwrap().sign(APPROVAL_NAMESPACE, "x").await.unwrap();
        let failure = trust_of(&armor).unwrap_err();
        assert!(!failure.problem.contains("line 1"), "{failure}");
        assert!(failure.help.as_deref().is_some_and(|help| help.contains("ed25519-sk")), "{failure}");
        assert!(trust_of("garbage").is_err());
    }
}
