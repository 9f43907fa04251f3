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

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use rand::{RngCore as _, rngs::OsRng};
use rutli_keys::{IdentityPublic, NodeId};
use rutli_log::{
    Cosigner, LogKey, LogSigner, Origin,
    policy::Policy,
    sigstore::{LogUrl, SigstoreSigner, TrustedRoot},
};
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

/// The trusted root for Sigstore's verifiers.
const TRUSTED_ROOT_FILE: &str = "trusted_root.json";

/// What was written for the log's readers.
#[derive(Clone, Debug)]
pub struct LogFiles {
    /// log.vkey
    pub key: PathBuf,
    /// tlog-policy
    pub policy: PathBuf,
    /// trusted_root.json
    pub trusted_root: PathBuf,
    /// How the world reaches it.
    pub url: String,
    /// Whether the keys of an earlier run were kept.
    pub kept: bool,
}

/// The keys of a deployment's log.
pub struct LogKeys {
    signer: LogSigner,
    sigstore: SigstoreSigner,
    /// Unix seconds.
    made_at: u64,
    kept: bool,
}

impl LogKeys {
    /// Those of an earlier run in `out`, or new ones; `now` in Unix seconds.
    ///
    /// # Errors
    /// Exit code 2: keys that cannot be read, one without the other, or of a log with another name.
    pub fn keep_or_make(out: &Path, deployment: &Deployment, now: u64) -> Result<Self, Failure> {
        let (origin, url) = (deployment.log_origin()?, deployment.log_url()?);
        let (key, sigstore_key) = key_files(out);
        match (key.exists(), sigstore_key.exists()) {
            (false, false) => Self::make(origin, url, now),
            (true, true) => Self::keep(out, origin, url),
            (there, _) => {
                let (there, missing) = if there { (key, sigstore_key) } else { (sigstore_key, key) };
                Err(Failure::usage(format!("{} is there without {}", there.display(), missing.display()))
                    .help("restore the other one; or give a new folder, for another log"))
            }
        }
    }

    fn make(origin: Origin, url: LogUrl, now: u64) -> Result<Self, Failure> {
        let mut secret = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *secret);
        let signer = LogSigner::from_bytes(origin, &secret);
        OsRng.fill_bytes(&mut *secret);
        let sigstore = SigstoreSigner::from_bytes(url, &secret).map_err(failed)?;
        Ok(Self { signer, sigstore, made_at: now, kept: false })
    }

    fn keep(out: &Path, origin: Origin, url: LogUrl) -> Result<Self, Failure> {
        let (key, sigstore_key) = key_files(out);
        let public = out.join("log").join(VKEY_FILE);
        let before: LogKey = files::read_text(&public)?.parse().map_err(|error| unusable(&public, &error))?;
        if *before.origin() != origin {
            return Err(Failure::usage(format!(
                "{} is the key of the log {}, and the description names it {origin}",
                key.display(),
                before.origin()
            ))
            .help(
                "another name is another log: give a new folder, or the log its old name in the description",
            ));
        }
        let pem = Zeroizing::new(files::read_text(&key)?);
        let signer = LogSigner::from_pkcs8_pem(origin, &pem).map_err(|error| unusable(&key, &error))?;
        if signer.public() != before {
            return Err(unusable(&key, &format!("it is not the secret of {}", public.display())));
        }
        let pem = Zeroizing::new(files::read_text(&sigstore_key)?);
        let sigstore =
            SigstoreSigner::from_pkcs8_pem(url, &pem).map_err(|error| unusable(&sigstore_key, &error))?;
        let root = out.join("log").join(TRUSTED_ROOT_FILE);
        let made_at = TrustedRoot::parse(&files::read(&root)?)
            .map_err(|error| unusable(&root, &error))?
            .logs()
            .iter()
            .map(|log| log.valid_from)
            .min()
            .unwrap_or_default();
        Ok(Self { signer, sigstore, made_at, kept: true })
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
            let pem = self.signer.to_pkcs8_pem().map_err(failed)?;
            files::write_atomically(&key, pem.as_bytes(), Access::Secret)?;
            let pem = self.sigstore.to_pkcs8_pem().map_err(failed)?;
            files::write_atomically(&sigstore_key, pem.as_bytes(), Access::Secret)?;
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
            trusted_root: public(
                TRUSTED_ROOT_FILE,
                self.sigstore.trusted_root(self.made_at).map_err(failed)?,
            )?,
            url: self.sigstore.url().to_string(),
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
                    Cosigner::new(id.to_string(), &identity.to_bytes()).map_err(failed)
                })
                .collect::<Result<Vec<_>, Failure>>()?;
            Ok((organisation.name.to_string(), usize::from(organisation.threshold), cosigners))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    Policy::of(log, organisations).map_err(failed)
}

fn unusable(path: &Path, problem: &impl Display) -> Failure {
    Failure::usage(format!("{}: {problem}", path.display()))
        .help("restore it; or give a new folder, for another log")
}

fn failed(error: impl Display) -> Failure {
    Failure::failed(error.to_string())
}

fn key_files(out: &Path) -> (PathBuf, PathBuf) {
    let folder = out.join("coordinator");
    (folder.join(KEY_FILE), folder.join(SIGSTORE_KEY_FILE))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use rutli_keys::IdentityKey;
    use rutli_log::{Cosignature, Hash, Head};

    use super::*;
    use crate::init::deployment::EXAMPLE;

    const MADE_AT: u64 = 1_800_000_000;

    fn deployment() -> Deployment {
        Deployment::parse(EXAMPLE).unwrap()
    }

    fn identities(deployment: &Deployment) -> BTreeMap<NodeId, IdentityKey> {
        deployment.nodes().map(|(_, id)| (id, IdentityKey::generate(&mut OsRng))).collect()
    }

    /// As `rutli init` does it, in an empty folder or that of an earlier run.
    fn init(out: &Path, deployment: &Deployment, now: u64) -> Result<LogFiles, Failure> {
        files::create_folder(&out.join("coordinator"), Access::Secret)?;
        let identities = identities(deployment);
        LogKeys::keep_or_make(out, deployment, now)?
            .write(out, deployment, |id| identities.get(id).map(IdentityKey::public))
    }

    fn text(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_policy_wants_a_threshold_of_every_organisation() {
        let folder = tempfile::tempdir().unwrap();
        let deployment = deployment();
        let identities = identities(&deployment);
        files::create_folder(&folder.path().join("coordinator"), Access::Secret).unwrap();
        let keys = LogKeys::keep_or_make(folder.path(), &deployment, MADE_AT).unwrap();
        let files =
            keys.write(folder.path(), &deployment, |id| identities.get(id).map(IdentityKey::public)).unwrap();
        let policy: Policy = text(&files.policy).parse().unwrap();
        let cosigned = |nodes: &[&str]| {
            let mut checkpoint = keys.signer.sign(Head { size: 1, root: Hash::EMPTY_ROOT });
            for node in nodes {
                let key = &identities[&node.parse::<NodeId>().unwrap()];
                let signature = key.cosign(MADE_AT, &checkpoint.text());
                let cosigner = Cosigner::new(*node, &key.public().to_bytes()).unwrap();
                checkpoint.add_cosignature(&cosigner, &Cosignature { time: MADE_AT, signature }).unwrap();
            }
            policy.check(&checkpoint.to_note()).is_ok()
        };
        assert!(cosigned(&["vendor/vendor-1", "vendor/vendor-3", "supervisor/supervisor-1"]));
        assert!(!cosigned(&["vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"]));
        assert!(!cosigned(&["vendor/vendor-1", "supervisor/supervisor-1"]));
    }

    #[test]
    fn what_readers_get_belongs_to_the_secret_keys_and_holds_none() {
        let folder = tempfile::tempdir().unwrap();
        let files = init(folder.path(), &deployment(), MADE_AT).unwrap();
        let (key, sigstore_key) = key_files(folder.path());
        let origin = deployment().log_origin().unwrap();
        let signer = LogSigner::from_pkcs8_pem(origin, &text(&key)).unwrap();
        assert_eq!(text(&files.key), format!("{}\n", signer.public()));
        let url = deployment().log_url().unwrap();
        let sigstore = SigstoreSigner::from_pkcs8_pem(url, &text(&sigstore_key)).unwrap();
        let root = TrustedRoot::parse(&files::read(&files.trusted_root).unwrap()).unwrap();
        assert_eq!(root.logs()[0].key, sigstore.public().unwrap());
        assert_eq!(root.logs()[0].valid_from, MADE_AT);
        for path in [&key, &sigstore_key] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        for entry in std::fs::read_dir(folder.path().join("log")).unwrap() {
            assert!(!text(&entry.unwrap().path()).contains("PRIVATE"));
        }
    }

    #[test]
    fn the_keys_of_a_log_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let first = init(folder.path(), &deployment(), MADE_AT).unwrap();
        let (key, sigstore_key) = key_files(folder.path());
        let before = (text(&key), text(&sigstore_key), text(&first.key), text(&first.trusted_root));
        let again = init(folder.path(), &deployment(), MADE_AT + 1).unwrap();
        assert_eq!((first.kept, again.kept), (false, true));
        assert_eq!(before, (text(&key), text(&sigstore_key), text(&again.key), text(&again.trusted_root)));

        let mut renamed = deployment();
        renamed.log.origin = Some(Origin::new("log.example.com/2026").unwrap());
        let failure = init(folder.path(), &renamed, MADE_AT).unwrap_err();
        assert!(failure.problem.contains("names it log.example.com/2026"), "{}", failure.problem);
        let other = LogSigner::from_bytes(deployment().log_origin().unwrap(), &[9; 32]);
        std::fs::write(&key, other.to_pkcs8_pem().unwrap().as_bytes()).unwrap();
        assert!(
            init(folder.path(), &deployment(), MADE_AT).unwrap_err().problem.contains("not the secret of")
        );
        std::fs::remove_file(&key).unwrap();
        let failure = init(folder.path(), &deployment(), MADE_AT).unwrap_err();
        assert!(failure.problem.contains("is there without"), "{}", failure.problem);
        assert_eq!(text(&sigstore_key), before.1);
    }
}
