//! The node's identity key on disk: sealed to the same recipient as its shares.
//!
//! An age file, binary or armoured, as `age -r RECIPIENT` makes it; inside, the key in PKCS #8 PEM. What the node is called by
//! others, its public half, stands in its own `[[peer]]` entry: so a sealed node knows who it is, follows the log and its
//! ceremonies, and signs nothing.
//!
//! It is opened where shares are, into locked memory, and compared with that entry: another node's file is of no use.

use std::{path::PathBuf, sync::Arc};

use age::x25519::Recipient;
use rutli_keys::{IdentityKey, IdentityPublic};
use rutli_signer_secrets::{Locked, on_wiped_stack};
use zeroize::Zeroizing;

use crate::{
    config::{Config, read_limited},
    error::Error,
    key_store::{Opener, is_age_file},
    limits,
};

/// A sealed identity, and whose it must be.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    path: PathBuf,
    recipient: Recipient,
    public: IdentityPublic,
}

/// All that a custodian's passphrase opens, or a plain seal by itself.
#[derive(Debug)]
pub struct Unsealed {
    /// For shares and seeds.
    pub opener: Opener,
    /// In locked memory.
    pub identity: Arc<IdentityKey>,
}

impl IdentityFile {
    /// The file that the configuration names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self::new(config.identity.clone(), config.seal.recipient.clone(), config.public_identity)
    }

    /// A file that is sealed to `recipient`, with the pair of a public key.
    #[must_use]
    pub fn new(path: PathBuf, recipient: Recipient, public: IdentityPublic) -> Self {
        Self { path, recipient, public }
    }

    /// Whose it is.
    #[must_use]
    pub fn public(&self) -> IdentityPublic {
        self.public
    }

    /// The file as it lies, if that is sealed.
    ///
    /// # Errors
    /// [`Error::UnsealedIdentity`] for a private key that anybody can read who can read the file;
    /// [`Error::SealedIdentity`] for anything else that is no age file.
    pub fn read(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let bytes = read_limited(&self.path, limits::MAX_KEY_FILE_BYTES)?;
        if is_age_file(&bytes) {
            return Ok(bytes);
        }
        if bytes.windows(PRIVATE_KEY.len()).any(|window| window == PRIVATE_KEY) {
            let (path, recipient) = (self.path.clone(), self.recipient.to_string());
            return Err(Error::UnsealedIdentity { path, recipient });
        }
        Err(self.wrong("it is not an age file"))
    }

    /// Opens it, into locked memory.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::SealedIdentity`] if it does not open or holds no key; [`Error::OwnIdentity`] if it
    /// is another node's.
    pub fn open(&self, opener: Opener) -> Result<Unsealed, Error> {
        let sealed = self.read()?;
        let identity = on_wiped_stack(|| self.open_sealed(&opener, &sealed))?;
        if identity.public() == self.public {
            return Ok(Unsealed { opener, identity: Arc::new(identity) });
        }
        Err(Error::OwnIdentity {
            path: self.path.clone(),
            listed: self.public.to_string(),
            own: identity.public().to_string(),
        })
    }

    fn open_sealed(&self, opener: &Opener, sealed: &[u8]) -> Result<IdentityKey, Error> {
        let pem = opener.decrypt(sealed).map_err(|problem| self.wrong(problem))?;
        let pem = std::str::from_utf8(&pem).unwrap_or_default();
        let identity = IdentityKey::from_pkcs8_pem(pem).map_err(|error| self.wrong(error))?;
        Ok(IdentityKey::kept_in(Locked::new(*identity.expose())?))
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::SealedIdentity {
            path: self.path.clone(),
            recipient: self.recipient.to_string(),
            problem: problem.to_string(),
        }
    }
}

/// In the first line of a PEM file with a private key of any kind.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{config::Seal, key_store::KeyStore, testing::seal_identity};

    struct Fixture {
        folder: tempfile::TempDir,
        opens: age::x25519::Identity,
        key: IdentityKey,
    }

    impl Fixture {
        fn new() -> Self {
            let opens = age::x25519::Identity::generate();
            let folder = tempfile::tempdir().unwrap();
            let text = opens.to_string();
            fs::write(folder.path().join("seal.txt"), age::secrecy::ExposeSecret::expose_secret(&text))
                .unwrap();
            Self { folder, opens, key: IdentityKey::from_bytes(&[7; 32]) }
        }

        fn file(&self) -> IdentityFile {
            let path = self.folder.path().join("identity.age");
            IdentityFile::new(path, self.opens.to_public(), self.key.public())
        }

        fn opener(&self) -> Opener {
            let identity_file = self.folder.path().join("seal.txt");
            let seal = Seal { recipient: self.opens.to_public(), identity_file };
            KeyStore::open(self.folder.path(), seal).unwrap().opener().unwrap().unwrap()
        }

        fn problem(&self, content: &[u8]) -> Error {
            fs::write(self.file().path, content).unwrap();
            self.file().open(self.opener()).unwrap_err()
        }
    }

    #[test]
    fn it_opens_as_age_seals_it() {
        let fixture = Fixture::new();
        let file = fixture.file();
        seal_identity(&file.path, &fixture.key, &fixture.opens.to_public());
        let opened = file.open(fixture.opener()).unwrap().identity;
        assert_eq!(opened.expose(), fixture.key.expose());
        let pem = fixture.key.to_pkcs8_pem().unwrap();
        let armoured = age::encrypt_and_armor(&fixture.opens.to_public(), pem.as_bytes()).unwrap();
        fs::write(&file.path, armoured).unwrap();
        assert_eq!(file.open(fixture.opener()).unwrap().identity.public(), fixture.key.public());
    }

    #[test]
    fn an_unsealed_key_is_refused_with_the_command_that_seals_it() {
        let fixture = Fixture::new();
        let pem = fixture.key.to_pkcs8_pem().unwrap();
        let error = fixture.problem(pem.as_bytes());
        assert!(matches!(error, Error::UnsealedIdentity { .. }), "{error}");
        let (error, path) = (error.to_string(), fixture.file().path.display().to_string());
        let command = format!("age -r {} -o '{path}.sealed' '{path}'", fixture.opens.to_public());
        assert!(error.contains(&command), "{error}");
        let lines: Vec<&str> = pem.lines().collect();
        assert!(!error.contains(lines[1]), "{error}");
    }

    #[test]
    fn what_is_no_identity_of_this_node_is_refused() {
        let fixture = Fixture::new();
        let recipient = fixture.opens.to_public();
        let sealed = |content: &[u8]| age::encrypt(&recipient, content).unwrap();
        let pem = fixture.key.to_pkcs8_pem().unwrap();
        let stranger = age::x25519::Identity::generate().to_public();
        let whole = sealed(pem.as_bytes());
        for (what, content) in [
            ("nothing", Vec::new()),
            ("no age file", b"no key".to_vec()),
            ("sealed to somebody else", age::encrypt(&stranger, pem.as_bytes()).unwrap()),
            ("no key inside", sealed(b"no key")),
            ("no text inside", sealed(b"\xff\xfe")),
            ("cut short", whole[..whole.len() - 1].to_vec()),
        ] {
            let error = fixture.problem(&content);
            assert!(matches!(error, Error::SealedIdentity { .. }), "{what}: {error}");
            assert!(error.to_string().contains("age -r age1"), "{what}: {error}");
        }
        let other = IdentityKey::from_bytes(&[8; 32]).to_pkcs8_pem().unwrap();
        let error = fixture.problem(&sealed(other.as_bytes()));
        assert!(matches!(error, Error::OwnIdentity { .. }), "{error}");
    }
}
