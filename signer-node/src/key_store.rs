//! Shares and rosters on disk.
//!
//! # Files
//!
//! In the node's folder `keys/`, one pair for each key:
//!
//! - `KEY.share.age`: sealed with `age` to the node's X25519 recipient; inside, the line `rutli-share/v1`, the 32 bytes
//!   of the roster's hash and the 32 bytes of the share. The hash binds the file to its roster, so that files cannot be
//!   exchanged for each other unseen.
//! - `KEY.roster.json`: the signed roster. It is written after the share: where it lies, the share lies.
//!
//! Each is written to a temporary file, which is synced, renamed, and its folder synced.
//!
//! # Secrets
//!
//! The age identity is in memory only while files are opened with it. Age plugins (a YubiKey's, a TPM's) are not
//! supported: the node would have to run foreign programs next to its secrets.

use std::{
    fs,
    io::{Read as _, Write as _},
    iter,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use age::{DecryptError, Decryptor, Encryptor, armor::ArmoredReader, secrecy::SecretString, x25519};
use rutli_keys::{KeyName, NodeId, Roster, SignedRoster, SigningShare};
use rutli_signer_secrets::{Locked, on_wiped_stack};
use zeroize::Zeroizing;

use crate::{
    config::{Seal, read_limited},
    error::Error,
    limits,
};

/// What a sealed secret is, so that one is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// A key share; the context is its roster's hash.
    Share,
    /// The seed of a ceremony; the context is the ceremony's id.
    Seed,
}

impl Label {
    fn line(self) -> &'static [u8] {
        match self {
            Self::Share => b"rutli-share/v1\n",
            Self::Seed => b"rutli-seed/v1\n",
        }
    }
}

/// The folder of the keys, and how they are sealed.
#[derive(Debug)]
pub struct KeyStore {
    folder: PathBuf,
    seal: Seal,
}

/// Opens what was sealed to the node's recipient. Wiped on drop.
pub struct Opener(x25519::Identity);

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(…)")
    }
}

impl KeyStore {
    /// Takes the folder into use; makes it if need be, and sweeps up what an interrupted write left.
    pub fn open(data_dir: &Path, seal: Seal) -> Result<Self, Error> {
        let folder = data_dir.join("keys");
        make_private_folder(&folder)?;
        for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))? {
            let path = entry.map_err(Error::file("read", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                // A crash before the rename: the ceremony that wrote it writes it again.
                fs::remove_file(&path).map_err(Error::file("remove", &path))?;
            }
        }
        Ok(Self { folder, seal })
    }

    /// The opener from a plain identity file; `None` if the file is encrypted and waits for a passphrase.
    pub fn opener(&self) -> Result<Option<Opener>, Error> {
        let bytes = self.identity_file()?;
        if is_age_file(&bytes) {
            // Recognise another kind of age file now, not at the first `unseal`.
            self.decryptor(&bytes)?;
            return Ok(None);
        }
        self.parse_identity(&bytes).map(Some)
    }

    /// The opener from an encrypted identity file. Takes about a second, on purpose (scrypt).
    pub fn unlock(&self, passphrase: SecretString) -> Result<Opener, Error> {
        let bytes = self.identity_file()?;
        if !is_age_file(&bytes) {
            return Err(Error::NotSealed);
        }
        let path = &self.seal.identity_file;
        let mut identity = age::scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(limits::MAX_SCRYPT_LOG_N);
        let opened =
            self.decryptor(&bytes)?.decrypt(iter::once(&identity as _)).map_err(|error| match error {
                DecryptError::DecryptionFailed
                | DecryptError::NoMatchingKeys
                | DecryptError::KeyDecryptionFailed => Error::Passphrase { path: path.clone() },
                other => Error::SealIdentity { path: path.clone(), problem: other.to_string() },
            })?;
        let mut plain = Zeroizing::new(Vec::with_capacity(bytes.len()));
        opened
            .take(limits::MAX_KEY_FILE_BYTES)
            .read_to_end(&mut plain)
            .map_err(|error| Error::SealIdentity { path: path.clone(), problem: error.to_string() })?;
        self.parse_identity(&plain)
    }

    /// The rosters of all keys that are complete here.
    pub fn rosters(&self) -> Result<Vec<SignedRoster>, Error> {
        let mut rosters = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(Error::file("read", &self.folder))? {
            let path = entry.map_err(Error::file("read", &self.folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(key) = name.strip_suffix(".roster.json") else { continue };
            let bytes = read_limited(&path, limits::MAX_KEY_FILE_BYTES)?;
            let roster = SignedRoster::parse(&bytes)
                .map_err(|source| Error::RosterFile { path: path.clone(), source })?;
            if roster.roster().key().as_str() != key {
                return Err(Error::ShareFile {
                    path,
                    problem: format!("it is the roster of key {}, under another name", roster.roster().key()),
                });
            }
            rosters.push(roster);
        }
        rosters.sort_by(|a, b| a.roster().key().cmp(b.roster().key()));
        Ok(rosters)
    }

    /// Opens the share of a key, and checks it against the roster's verifying share of this node.
    pub fn share(
        &self,
        opener: &Opener,
        roster: &Roster,
        me: &NodeId,
    ) -> Result<Locked<SigningShare>, Error> {
        on_wiped_stack(|| Ok(Locked::new(self.open_share(opener, roster, me)?)?))
    }

    fn open_share(&self, opener: &Opener, roster: &Roster, me: &NodeId) -> Result<SigningShare, Error> {
        let path = self.share_path(roster.key());
        let wrong = |problem: &str| Error::ShareFile { path: path.clone(), problem: problem.to_owned() };
        let sealed = read_limited(&path, limits::MAX_KEY_FILE_BYTES)?;
        let secret = opener
            .open(Label::Share, roster.hash().as_bytes(), &sealed)
            .map_err(|problem| wrong(&problem))?;
        let share = SigningShare::from_bytes(&*secret).map_err(|error| wrong(&error.to_string()))?;
        let expected = roster.index_of(me).and_then(|index| roster.node(index));
        match expected {
            Some(node) if node.verifying_share == share.verifying_share() => Ok(share),
            Some(_) => Err(wrong("the share is not the one that the roster records for this node")),
            None => Err(wrong("the roster does not name this node")),
        }
    }

    /// Makes a key durable: its share, then its roster. Again with the same roster it is the same; another roster under
    /// the same name is refused.
    pub fn store(&self, roster: &SignedRoster, share: &SigningShare) -> Result<(), Error> {
        let key = roster.roster().key();
        let roster_path = self.roster_path(key);
        if roster_path.exists() {
            let bytes = read_limited(&roster_path, limits::MAX_KEY_FILE_BYTES)?;
            if *bytes != roster.encode() {
                return Err(Error::KeyExists(key.clone()));
            }
        }
        let sealed = self.seal(Label::Share, roster.roster().hash().as_bytes(), share.expose())?;
        write_durably(&self.share_path(key), &sealed)?;
        // A crash here leaves a share without a roster: not used, and written again when the ceremony resumes.
        write_durably(&roster_path, &roster.encode())
    }

    /// Whether a key of this name lies here.
    #[must_use]
    pub fn holds(&self, key: &KeyName) -> bool {
        self.roster_path(key).exists()
    }

    /// Seals 32 secret bytes to the node's recipient.
    pub fn seal(&self, label: Label, context: &[u8; 32], secret: &[u8; 32]) -> Result<Vec<u8>, Error> {
        on_wiped_stack(|| self.sealed(label, context, secret))
    }

    fn sealed(&self, label: Label, context: &[u8; 32], secret: &[u8; 32]) -> Result<Vec<u8>, Error> {
        let failed = |problem: String| Error::Sealing(problem);
        let encryptor = Encryptor::with_recipients(iter::once(&self.seal.recipient as _))
            .map_err(|error| failed(error.to_string()))?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed).map_err(|error| failed(error.to_string()))?;
        for part in [label.line(), context, secret] {
            writer.write_all(part).map_err(|error| failed(error.to_string()))?;
        }
        writer.finish().map_err(|error| failed(error.to_string()))?;
        Ok(sealed)
    }

    fn identity_file(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        read_limited(&self.seal.identity_file, limits::MAX_KEY_FILE_BYTES)
    }

    fn decryptor<'a>(
        &self,
        bytes: &'a [u8],
    ) -> Result<Decryptor<ArmoredReader<std::io::BufReader<&'a [u8]>>>, Error> {
        let wrong = |problem: String| Error::SealIdentity { path: self.seal.identity_file.clone(), problem };
        let decryptor =
            Decryptor::new(ArmoredReader::new(bytes)).map_err(|error| wrong(error.to_string()))?;
        if !decryptor.is_scrypt() {
            return Err(wrong("it is encrypted, but not with a passphrase".to_owned()));
        }
        match scrypt_log_n(bytes) {
            Some(log_n) if log_n >= limits::MIN_SCRYPT_LOG_N => Ok(decryptor),
            Some(log_n) => Err(wrong(format!(
                "its passphrase can be guessed too cheaply: scrypt's work factor is 2^{log_n}, at least 2^{} is required; \
                 encrypt it again with `age --passphrase`",
                limits::MIN_SCRYPT_LOG_N
            ))),
            None => Err(wrong("its header does not say scrypt's work factor".to_owned())),
        }
    }

    /// The first secret key of the file; comments and empty lines are left out. It must be the recipient's own, or what
    /// is sealed now could never be opened again.
    fn parse_identity(&self, bytes: &[u8]) -> Result<Opener, Error> {
        let wrong = |problem: &str| Error::SealIdentity {
            path: self.seal.identity_file.clone(),
            problem: problem.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not text"))?;
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .ok_or_else(|| wrong("it is empty"))?;
        let identity: x25519::Identity = line.parse().map_err(wrong)?;
        let (recipient, own) = (self.seal.recipient.to_string(), identity.to_public().to_string());
        if recipient != own {
            return Err(Error::SealPair { recipient, identity: own });
        }
        Ok(Opener(identity))
    }

    fn share_path(&self, key: &KeyName) -> PathBuf {
        self.folder.join(format!("{key}.share.age"))
    }

    fn roster_path(&self, key: &KeyName) -> PathBuf {
        self.folder.join(format!("{key}.roster.json"))
    }
}

impl Opener {
    /// Opens 32 secret bytes, if they are what is expected. The error is for a person.
    pub fn open(
        &self,
        label: Label,
        context: &[u8; 32],
        sealed: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, String> {
        let plain = self.decrypt(sealed)?;
        let rest = plain.strip_prefix(label.line()).ok_or("it holds something else")?;
        let secret =
            rest.strip_prefix(context.as_slice()).ok_or("it belongs to another roster or ceremony")?;
        let mut bytes = Zeroizing::new([0; 32]);
        if secret.len() != bytes.len() {
            return Err("what it holds is cut short".to_owned());
        }
        bytes.copy_from_slice(secret);
        Ok(bytes)
    }

    /// Opens an age file. What is in it is shorter than the file, which its reader bounds. The error is for a person.
    pub(crate) fn decrypt(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let decryptor = Decryptor::new(ArmoredReader::new(sealed)).map_err(|error| error.to_string())?;
        let mut opened = decryptor.decrypt(iter::once(&self.0 as _)).map_err(|error| error.to_string())?;
        // Room for all of it at once: a growing buffer would leave unwiped copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        opened.read_to_end(&mut plain).map_err(|error| error.to_string())?;
        Ok(plain)
    }
}

/// Makes a folder that only its owner can enter.
pub(crate) fn make_private_folder(path: &Path) -> Result<(), Error> {
    std::os::unix::fs::DirBuilderExt::mode(fs::DirBuilder::new().recursive(true), 0o700)
        .create(path)
        .map_err(Error::file("create", path))
}

/// After this the file has the new content, whatever crashes; before, it has the old or none.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(Error::file("create", &temporary))?;
    file.write_all(bytes).map_err(Error::file("write", &temporary))?;
    file.sync_all().map_err(Error::file("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::file("rename to", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes a rename or a new file in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    fs::File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::file("sync", path))
}

/// From the second line of the header: `-> scrypt SALT LOG_N` (age-encryption.org/v1, "scrypt recipient type").
fn scrypt_log_n(bytes: &[u8]) -> Option<u8> {
    let mut start = Vec::new();
    ArmoredReader::new(bytes).take(limits::SCRYPT_STANZA_BYTES).read_to_end(&mut start).ok()?;
    let stanza = start.split(|byte| *byte == b'\n').nth(1)?;
    let arguments = std::str::from_utf8(stanza).ok()?.strip_prefix("-> scrypt ")?;
    arguments.split(' ').nth(1)?.parse().ok()
}

pub(crate) fn is_age_file(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/")
        || bytes.trim_ascii_start().starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::testing::lone_key;

    const PASSPHRASE: &str = "correct horse battery staple";

    struct Fixture {
        folder: tempfile::TempDir,
        identity: x25519::Identity,
    }

    impl Fixture {
        fn new() -> Self {
            let fixture =
                Self { folder: tempfile::tempdir().unwrap(), identity: x25519::Identity::generate() };
            let plain = format!("# created by a test\n\n{}\n", fixture.secret());
            fs::write(fixture.identity_file(), plain).unwrap();
            fixture
        }

        fn secret(&self) -> String {
            age::secrecy::ExposeSecret::expose_secret(&self.identity.to_string()).to_owned()
        }

        fn identity_file(&self) -> PathBuf {
            self.folder.path().join("seal.txt")
        }

        fn store(&self) -> KeyStore {
            let seal = Seal { recipient: self.identity.to_public(), identity_file: self.identity_file() };
            KeyStore::open(self.folder.path(), seal).unwrap()
        }

        /// As `age -p` makes it, with a work factor for tests.
        fn encrypt_identity(&self, armor: bool, log_n: u8) {
            let mut recipient = age::scrypt::Recipient::new(SecretString::from(PASSPHRASE.to_owned()));
            recipient.set_work_factor(log_n);
            let sealed = if armor {
                age::encrypt_and_armor(&recipient, self.secret().as_bytes()).unwrap().into_bytes()
            } else {
                age::encrypt(&recipient, self.secret().as_bytes()).unwrap()
            };
            fs::write(self.identity_file(), sealed).unwrap();
        }

        fn share_file(&self) -> PathBuf {
            self.folder.path().join("keys/release.share.age")
        }
    }

    #[test]
    fn a_key_comes_back_and_lies_closed() {
        let fixture = Fixture::new();
        let (roster, share, me) = lone_key("release");
        fixture.store().store(&roster, &share).unwrap();
        fixture.store().store(&roster, &share).unwrap();
        let store = fixture.store();
        assert!(store.holds(roster.roster().key()));
        assert_eq!(store.rosters().unwrap(), std::slice::from_ref(&roster));
        let opener = store.opener().unwrap().unwrap();
        let opened = store.share(&opener, roster.roster(), &me).unwrap();
        assert_eq!(opened.expose(), share.expose());
        let sealed = fs::read(fixture.share_file()).unwrap();
        assert!(!sealed.windows(32).any(|window| window == share.expose()));
        for file in fs::read_dir(fixture.folder.path().join("keys")).unwrap() {
            assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let keys = fs::metadata(fixture.folder.path().join("keys")).unwrap();
        assert_eq!(keys.permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn another_roster_under_the_same_name_is_refused() {
        let fixture = Fixture::new();
        let (roster, share, _) = lone_key("release");
        fixture.store().store(&roster, &share).unwrap();
        let (other, other_share, _) = lone_key("release");
        let error = fixture.store().store(&other, &other_share).unwrap_err();
        assert!(matches!(error, Error::KeyExists(_)), "{error}");
        assert_eq!(fixture.store().rosters().unwrap(), [roster]);
    }

    #[test]
    fn a_damaged_share_file_is_refused() {
        let fixture = Fixture::new();
        let (roster, share, me) = lone_key("release");
        let store = fixture.store();
        store.store(&roster, &share).unwrap();
        let opener = store.opener().unwrap().unwrap();
        let sound = fs::read(fixture.share_file()).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(fixture.share_file(), bytes).unwrap();
            let error = store.share(&opener, roster.roster(), &me).unwrap_err();
            assert!(matches!(error, Error::ShareFile { .. }), "{error}");
        };
        for length in [0, 1, 20, sound.len() / 2, sound.len() - 1] {
            refused(&sound[..length]);
        }
        for place in (0..sound.len()).step_by(7) {
            let mut flipped = sound.clone();
            flipped[place] ^= 1;
            refused(&flipped);
        }
        refused(&[sound.as_slice(), b"x"].concat());
        fs::write(fixture.share_file(), &sound).unwrap();
        store.share(&opener, roster.roster(), &me).unwrap();
    }

    #[test]
    fn a_share_of_another_roster_node_or_kind_is_refused() {
        let fixture = Fixture::new();
        let store = fixture.store();
        let (roster, share, me) = lone_key("release");
        store.store(&roster, &share).unwrap();
        let opener = store.opener().unwrap().unwrap();
        let hash = roster.roster().hash();
        let problem = |sealed: &[u8]| {
            fs::write(fixture.share_file(), sealed).unwrap();
            store.share(&opener, roster.roster(), &me).unwrap_err().to_string()
        };
        let (other, other_share, _) = lone_key("other");
        let of_other =
            store.seal(Label::Share, other.roster().hash().as_bytes(), other_share.expose()).unwrap();
        assert!(problem(&of_other).contains("another roster"));
        let exchanged = store.seal(Label::Share, hash.as_bytes(), other_share.expose()).unwrap();
        assert!(problem(&exchanged).contains("not the one that the roster records"));
        let seed = store.seal(Label::Seed, hash.as_bytes(), share.expose()).unwrap();
        assert!(problem(&seed).contains("something else"));
        let zero = store.seal(Label::Share, hash.as_bytes(), &[0; 32]).unwrap();
        assert!(problem(&zero).contains("not a signing share"));
        let foreign = age::encrypt(&x25519::Identity::generate().to_public(), b"rutli-share/v1\n").unwrap();
        assert!(problem(&foreign).contains("does not open"));
    }

    #[test]
    fn an_encrypted_identity_waits_for_its_passphrase() {
        for armor in [false, true] {
            let fixture = Fixture::new();
            fixture.encrypt_identity(armor, limits::MIN_SCRYPT_LOG_N);
            let store = fixture.store();
            assert!(store.opener().unwrap().is_none());
            let wrong = store.unlock(SecretString::from("wrong".to_owned())).unwrap_err();
            assert!(matches!(wrong, Error::Passphrase { .. }), "{wrong}");
            let opener = store.unlock(SecretString::from(PASSPHRASE.to_owned())).unwrap();
            let sealed = store.seal(Label::Seed, &[1; 32], &[2; 32]).unwrap();
            assert_eq!(*opener.open(Label::Seed, &[1; 32], &sealed).unwrap(), [2; 32]);
            assert_eq!(format!("{opener:?}"), "Opener(…)");
        }
    }

    #[test]
    fn a_passphrase_that_is_cheap_to_guess_is_refused_before_it_is_asked_for() {
        for armor in [false, true] {
            for log_n in [1, 4, limits::MIN_SCRYPT_LOG_N - 1] {
                let fixture = Fixture::new();
                fixture.encrypt_identity(armor, log_n);
                let error = fixture.store().opener().unwrap_err();
                assert!(error.to_string().contains(&format!("work factor is 2^{log_n}")), "{error}");
                let error = fixture.store().unlock(SecretString::from(PASSPHRASE.to_owned())).unwrap_err();
                assert!(matches!(error, Error::SealIdentity { .. }), "{error}");
            }
        }
    }

    #[test]
    fn an_identity_that_is_not_the_recipients_is_refused() {
        let fixture = Fixture::new();
        let store = fixture.store();
        let other = x25519::Identity::generate().to_string();
        fs::write(fixture.identity_file(), age::secrecy::ExposeSecret::expose_secret(&other)).unwrap();
        assert!(matches!(store.opener().unwrap_err(), Error::SealPair { .. }));
        let to_key = age::encrypt(&fixture.identity.to_public(), b"x").unwrap();
        for rubbish in [b"".as_slice(), b"# only a comment", b"AGE-SECRET-KEY-1X", b"\xff\xfe", &to_key] {
            fs::write(fixture.identity_file(), rubbish).unwrap();
            let error = store.opener().unwrap_err();
            assert!(matches!(error, Error::SealIdentity { .. }), "{error}");
            assert!(!error.to_string().contains("AGE-SECRET-KEY-1X"), "{error}");
        }
    }

    #[test]
    fn a_damaged_roster_stops_the_node_and_leftovers_do_not() {
        let fixture = Fixture::new();
        let (roster, share, _) = lone_key("release");
        fixture.store().store(&roster, &share).unwrap();
        let keys = fixture.folder.path().join("keys");
        fs::write(keys.join("half.share.age.tmp"), "half").unwrap();
        fs::write(keys.join("orphan.share.age"), "a crash before its roster").unwrap();
        assert_eq!(fixture.store().rosters().unwrap().len(), 1);
        assert!(!keys.join("half.share.age.tmp").exists());
        fs::copy(keys.join("release.roster.json"), keys.join("other.roster.json")).unwrap();
        assert!(fixture.store().rosters().unwrap_err().to_string().contains("under another name"));
        fs::remove_file(keys.join("other.roster.json")).unwrap();
        let mut bytes = fs::read(keys.join("release.roster.json")).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(keys.join("release.roster.json"), bytes).unwrap();
        assert!(matches!(fixture.store().rosters().unwrap_err(), Error::RosterFile { .. }));
    }
}
