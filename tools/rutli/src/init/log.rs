//! The log's keys, and what its readers are given.
//!
//! ```text
//! DIR/coordinator/log.pem, log-sigstore.pem    the secret keys, with the coordinator's other things
//! DIR/log/log.vkey                             the log's public key, for nodes and monitors
//! DIR/log/tlog-policy                          which cosignatures a verifier wants
//! DIR/log/trusted_root.json                    for Sigstore's verifiers
//! ```
//!
//! **The keys of a log are made once.** A new key under a log's name begins a second log of that name, and to everybody who
//! reads it that is a fork. So `--force`, which makes new certificates and identities, keeps them, and refuses to give
//! them another name.

use std::path::{Path, PathBuf};

use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use rand::{RngCore as _, rngs::OsRng};
use rutli_keys::{IdentityPublic, NodeId};
use rutli_log::{Cosigner, LogKey, LogSigner, policy::Policy};
use zeroize::Zeroizing;

use super::deployment::Deployment;
use crate::{
    files::{self, Access},
    report::Failure,
};

/// The log's secret key, in the coordinator's folder.
pub const KEY_FILE: &str = "log.pem";

/// The secret key of the heads for Sigstore's verifiers, in the coordinator's folder.
pub const SIGSTORE_KEY_FILE: &str = "log-sigstore.pem";

/// The log's public key.
const VKEY_FILE: &str = "log.vkey";

/// What was written for the log's readers.
#[derive(Clone, Debug)]
pub struct LogFiles {
    /// log.vkey
    pub key: PathBuf,
    /// tlog-policy
    pub policy: PathBuf,
    /// How the world reaches it.
    pub url: String,
    /// Whether the keys of an earlier run were kept.
    pub kept: bool,
}

/// The keys of a deployment's log.
pub struct LogKeys {
    signer: LogSigner,
    sigstore: Zeroizing<String>,
    kept: bool,
}

impl LogKeys {
    /// Those of an earlier run in `out`, or new ones.
    ///
    /// # Errors
    /// Exit code 2: keys that cannot be read, one without the other, or of a log with another name.
    pub fn keep_or_make(out: &Path, deployment: &Deployment) -> Result<Self, Failure> {
        let origin = deployment.log_origin()?;
        let (key, sigstore_key) = key_files(out);
        match (key.exists(), sigstore_key.exists()) {
            (false, false) => {
                let mut secret = Zeroizing::new([0; 32]);
                OsRng.fill_bytes(&mut *secret);
                let sigstore = p256::SecretKey::random(&mut OsRng)
                    .to_pkcs8_pem(LineEnding::LF)
                    .map_err(|error| Failure::failed(error.to_string()))?;
                Ok(Self { signer: LogSigner::from_bytes(origin, &secret), sigstore, kept: false })
            }
            (true, true) => {
                let before = read_key(&out.join("log").join(VKEY_FILE))?;
                if *before.origin() != origin {
                    return Err(Failure::usage(format!(
                        "{} is the key of the log {}, and the description names it {origin}",
                        key.display(),
                        before.origin()
                    ))
                    .help("another name is another log: give a new folder, or the log its old name in the description"));
                }
                let pem = Zeroizing::new(files::read_text(&key)?);
                let signer = LogSigner::from_pkcs8_pem(origin, &pem)
                    .map_err(|error| Failure::usage(format!("{}: {error}", key.display())))?;
                let sigstore = Zeroizing::new(files::read_text(&sigstore_key)?);
                Ok(Self { signer, sigstore, kept: true })
            }
            (there, _) => {
                let (there, missing) = if there { (key, sigstore_key) } else { (sigstore_key, key) };
                Err(Failure::usage(format!("{} is there without {}", there.display(), missing.display()))
                    .help("restore the other one; or give a new folder, for another log"))
            }
        }
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> LogKey {
        self.signer.public()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Exit code 2: files that cannot be written.
    pub fn write(
        &self,
        out: &Path,
        deployment: &Deployment,
        identity_of: impl Fn(&NodeId) -> Option<IdentityPublic>,
    ) -> Result<LogFiles, Failure> {
        let (key, sigstore_key) = key_files(out);
        if !self.kept {
            let pem = self.signer.to_pkcs8_pem().map_err(|error| Failure::failed(error.to_string()))?;
            files::write_atomically(&key, pem.as_bytes(), Access::Secret)?;
            files::write_atomically(&sigstore_key, self.sigstore.as_bytes(), Access::Secret)?;
        }
        let folder = out.join("log");
        files::create_folder(&folder, Access::Secret)?;
        let public = |name: &str, text: String| {
            let path = folder.join(name);
            files::write_atomically(&path, text.as_bytes(), Access::Public).map(|()| path)
        };
        let policy = policy(self.public(), deployment, identity_of)?;
        Ok(LogFiles {
            key: public(VKEY_FILE, format!("{}\n", self.public()))?,
            policy: public("tlog-policy", policy.to_string())?,
            url: deployment.log_url(),
            kept: self.kept,
        })
    }
}

/// Of every organisation a threshold of nodes, as for a signature.
fn policy(
    log: LogKey,
    deployment: &Deployment,
    identity_of: impl Fn(&NodeId) -> Option<IdentityPublic>,
) -> Result<Policy, Failure> {
    let organisations = deployment
        .organisations
        .iter()
        .map(|organisation| {
            let cosigners = organisation
                .node_ids()
                .map(|id| {
                    let identity =
                        identity_of(&id).ok_or_else(|| Failure::failed(format!("{id} has no identity")))?;
                    Cosigner::new(id.to_string(), &identity.to_bytes())
                        .map_err(|error| Failure::failed(error.to_string()))
                })
                .collect::<Result<Vec<_>, Failure>>()?;
            Ok((organisation.name.to_string(), usize::from(organisation.threshold), cosigners))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    Policy::of(log, organisations).map_err(|error| Failure::failed(error.to_string()))
}

fn read_key(path: &Path) -> Result<LogKey, Failure> {
    files::read_text(path)?.parse().map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn key_files(out: &Path) -> (PathBuf, PathBuf) {
    let folder = out.join("coordinator");
    (folder.join(KEY_FILE), folder.join(SIGSTORE_KEY_FILE))
}
