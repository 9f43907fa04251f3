//! `rutli-signer backup` and `restore`: everything that a node must not lose, in one file for the recipients that its
//! custodian names.
//!
//! # The file
//!
//! An `age` file to X25519 recipients; inside, a tar of these regular files and no others:
//!
//! - `backup.json`: whose it is, and when it was made
//! - `identity.age`, `keys/KEY.share.age`, `keys/KEY.roster.json`: as they are at the node, with identity and
//!   shares still sealed
//! - `node.sqlite`: a consistent copy of the journal
//!
//! The seal's identity is not in it: otherwise anybody with the backup's age identity would have the identity
//! and the shares.
//!
//! A backup is always older than what the node has signed since. So a restored node knows that it was
//! restored, and catches up with its peers before it signs. The custodian decides to replace what the
//! [witness](crate::journal_witness) knew of the time in between.

use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read as _, Write as _},
    iter,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use age::{Decryptor, Encryptor, x25519};
use rutli_keys::KeyName;
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

use crate::{
    config::{Config, read_limited},
    error::Error,
    identity::IdentityFile,
    journal::Journal,
    journal_witness::JournalWitness,
    key_store::{KeyStore, make_private_folder, sync_folder, write_durably},
    limits,
};

const MANIFEST: &str = "backup.json";
const IDENTITY: &str = "identity.age";
const KEYS: &str = "keys";
const JOURNAL: &str = "node.sqlite";
const FORMAT: &str = "rutli-signer-backup/v2";

/// Metadata of the backup.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    /// Unix seconds.
    made_at: u64,
    /// "organisation/node"
    node: String,
}

/// What was restored, for the custodian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Unix seconds at which the backup was made.
    pub made_at: u64,
    /// Its keys.
    pub keys: usize,
    /// Where the previous content of the data folder was moved, if there was any.
    pub before: Option<PathBuf>,
}

/// Writes a backup, also while the node runs. `now` in Unix seconds.
///
/// # Errors
/// What the disk says; [`Error::JournalDamaged`]; [`Error::Backup`] if there is a file already.
pub async fn backup(
    config: &Config,
    recipients: &[x25519::Recipient],
    to: &Path,
    now: u64,
) -> Result<(), Error> {
    if fs::exists(to).map_err(Error::file("look at", to))? {
        return Err(wrong(to, "it exists already; give a new file"));
    }
    // What is not sealed at the node would not be sealed in the backup.
    IdentityFile::of(config).read()?;
    let staging = Staging::new(&config.data_dir, "backup.tmp")?;
    copy_journal(&config.data_dir.join(JOURNAL), &staging.0.join(JOURNAL)).await?;
    let manifest = Manifest { format: FORMAT.into(), made_at: now, node: config.me.to_string() };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| wrong(to, error))?;
    let mut files: Vec<(String, PathBuf)> =
        vec![(IDENTITY.into(), config.identity.clone()), (JOURNAL.into(), staging.0.join(JOURNAL))];
    for (name, path) in key_files(&config.data_dir.join(KEYS))? {
        files.push((format!("{KEYS}/{name}"), path));
    }
    seal(recipients, &manifest, &files, to)
}

/// Replaces the content of the data folder with a backup; the previous content is moved aside. The node must
/// be stopped, and its folder locked by the caller. `identity` is a plain age identity of one of the backup's
/// recipients; `now` in Unix seconds.
///
/// # Errors
/// [`Error::Backup`] if it is not a backup of this node, or what it would replace is whole; nothing was changed then.
pub async fn restore(
    config: &Config,
    witness: &JournalWitness,
    from: &Path,
    identity: &Path,
    now: u64,
) -> Result<Restored, Error> {
    refuse_to_go_back(config, witness).await?;
    let staging = Staging::new(&config.data_dir, "restore.tmp")?;
    unseal(from, identity, &staging.0)?;
    let manifest = read_manifest(from, &staging.0)?;
    if manifest.node != config.me.to_string() {
        return Err(wrong(from, format!("it is of the node {}, not of {}", manifest.node, config.me)));
    }
    let keys = KeyStore::open(&staging.0, config.seal.clone())?.rosters()?.len();
    let journal = Journal::open(&staging.0.join(JOURNAL)).await?.0;
    journal.set_catching_up(config.log.origin(), now).await?;
    let point = journal.point().borrow().clone();
    journal.close().await?;
    restore_identity(config, &staging.0.join(IDENTITY))?;
    let before = set_aside(&config.data_dir, now)?;
    // Crash boundary: from here on the folder is empty or half full, and the witness belongs to another
    // journal. The node does not sign, and the same command can be run again.
    for name in [KEYS, JOURNAL] {
        let (staged, place) = (staging.0.join(name), config.data_dir.join(name));
        sync_folder(&staged)?;
        fs::rename(staged, &place).map_err(Error::file("rename to", &place))?;
    }
    sync_folder(&config.data_dir)?;
    witness.write(&point)?;
    Ok(Restored { made_at: manifest.made_at, keys, before })
}

/// A valid journal that is the node's newest must not be replaced by an older one.
async fn refuse_to_go_back(config: &Config, witness: &JournalWitness) -> Result<(), Error> {
    let path = config.data_dir.join(JOURNAL);
    if !fs::exists(&path).map_err(Error::file("look at", &path))? {
        return Ok(());
    }
    // Restoring is meant for damaged ones.
    let Ok((journal, _)) = Journal::open(&path).await else { return Ok(()) };
    let lost = witness.lost(&journal, true).await?;
    let is_blank = journal.point().borrow().is_blank();
    journal.close().await?;
    if lost.is_some() || is_blank {
        return Ok(());
    }
    Err(wrong(
        &path,
        "it is whole and this node's newest, and a backup is older; start the node, or move this file away first",
    ))
}

/// A consistent copy, verified as a whole.
async fn copy_journal(from: &Path, to: &Path) -> Result<(), Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(from)
        .create_if_missing(false)
        .disable_statement_logging()
        .connect()
        .await?;
    let target = to.to_str().ok_or_else(|| wrong(to, "its path is not UTF-8"))?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut connection).await.map_err(Error::from)?;
    connection.close().await?;
    let (journal, _) = Journal::open(to).await?;
    journal.close().await
}

/// Name and path of each share and roster.
fn key_files(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if is_key_file(&name) {
            files.push((name, path));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn is_key_file(name: &str) -> bool {
    let key = name.strip_suffix(".share.age").or_else(|| name.strip_suffix(".roster.json"));
    key.is_some_and(|key| KeyName::new(key).is_ok())
}

/// Writes the archive, encrypted: it is durable under its name, or does not exist.
fn seal(
    recipients: &[x25519::Recipient],
    manifest: &[u8],
    files: &[(String, PathBuf)],
    to: &Path,
) -> Result<(), Error> {
    let failed = |error: io::Error| Error::file("write", to)(error);
    let mut temporary = to.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(Error::file("create", &temporary))?;
    let encryptor = Encryptor::with_recipients(recipients.iter().map(|recipient| recipient as _))
        .map_err(|error| Error::Sealing(error.to_string()))?;
    let mut archive = tar::Builder::new(encryptor.wrap_output(io::BufWriter::new(file)).map_err(failed)?);
    let header = |size: usize| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(u64::try_from(size).unwrap_or(u64::MAX));
        header
    };
    archive.append_data(&mut header(manifest.len()), MANIFEST, manifest).map_err(failed)?;
    for (name, path) in files {
        let mut file = fs::File::open(path).map_err(Error::file("open", path))?;
        let size = file.metadata().map_err(Error::file("read", path))?.len();
        let mut header = header(0);
        header.set_size(size);
        archive.append_data(&mut header, name, (&mut file).take(size)).map_err(failed)?;
    }
    let mut writer = archive.into_inner().and_then(age::stream::StreamWriter::finish).map_err(failed)?;
    writer.flush().map_err(failed)?;
    writer.get_ref().sync_all().map_err(failed)?;
    fs::rename(&temporary, to).map_err(Error::file("rename to", to))?;
    sync_folder(to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
}

/// Unpacks a backup: only regular files with known names, each once and within its bound.
fn unseal(from: &Path, identity: &Path, into: &Path) -> Result<(), Error> {
    let identity = read_identity(identity)?;
    let file = fs::File::open(from).map_err(Error::file("open", from))?;
    let decryptor = Decryptor::new(io::BufReader::new(file)).map_err(|error| wrong(from, error))?;
    let opened = decryptor.decrypt(iter::once(&identity as _)).map_err(|error| {
        wrong(from, format!("{error}; give --identity the age identity of one of its recipients"))
    })?;
    make_private_folder(&into.join(KEYS))?;
    let mut archive = tar::Archive::new(opened);
    let mut found = BTreeSet::new();
    for entry in archive.entries().map_err(|error| wrong(from, error))? {
        let mut entry = entry.map_err(|error| wrong(from, error))?;
        let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned)).unwrap_or_default();
        let most = most_bytes(&name).ok_or_else(|| wrong(from, format!("it holds a file {name:?}")))?;
        if !entry.header().entry_type().is_file() || entry.size() > most || !found.insert(name.clone()) {
            return Err(wrong(
                from,
                format!("its file {name:?} is not a regular file of at most {most} bytes"),
            ));
        }
        let path = into.join(&name);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("create", &path))?;
        io::copy(&mut entry, &mut file).map_err(Error::file("write", &path))?;
        file.sync_all().map_err(Error::file("sync", &path))?;
    }
    match [MANIFEST, IDENTITY, JOURNAL].into_iter().find(|name| !found.contains(*name)) {
        Some(missing) => Err(wrong(from, format!("it holds no {missing}"))),
        None => Ok(()),
    }
}

/// Bytes that a file of this name may have; `None` if no backup contains it.
fn most_bytes(name: &str) -> Option<u64> {
    match name {
        JOURNAL => Some(limits::MAX_BACKUP_JOURNAL_BYTES),
        MANIFEST | IDENTITY => Some(limits::MAX_KEY_FILE_BYTES),
        _ => name
            .strip_prefix(KEYS)
            .and_then(|name| name.strip_prefix('/'))
            .filter(|name| is_key_file(name))
            .map(|_| limits::MAX_KEY_FILE_BYTES),
    }
}

fn read_manifest(from: &Path, folder: &Path) -> Result<Manifest, Error> {
    let bytes = read_limited(&folder.join(MANIFEST), limits::MAX_KEY_FILE_BYTES)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| wrong(from, error))?;
    if manifest.format == FORMAT {
        return Ok(manifest);
    }
    Err(wrong(from, format!("its format is {:?}, and this version reads {FORMAT:?}", manifest.format)))
}

/// The first age identity of a plain file.
fn read_identity(path: &Path) -> Result<x25519::Identity, Error> {
    let bytes = read_limited(path, limits::MAX_KEY_FILE_BYTES)?;
    let problem =
        |problem: &str| Error::SealIdentity { path: path.to_path_buf(), problem: problem.to_owned() };
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| problem("it is encrypted; open it with `age -d` into memory first"))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    line.ok_or_else(|| problem("it is empty"))?.parse().map_err(problem)
}

/// Writes the sealed identity key where the configuration expects it. A different file there is not overwritten.
fn restore_identity(config: &Config, staged: &Path) -> Result<(), Error> {
    let path = &config.identity;
    let restored = read_limited(staged, limits::MAX_KEY_FILE_BYTES)?;
    if !fs::exists(path).map_err(Error::file("look at", path))? {
        return write_durably(path, &restored);
    }
    if *read_limited(path, limits::MAX_KEY_FILE_BYTES)? == *restored {
        return Ok(());
    }
    Err(wrong(path, "it is not the identity key file of the backup; move it away first"))
}

/// Moves the content of the data folder into a folder of its own.
fn set_aside(data_dir: &Path, now: u64) -> Result<Option<PathBuf>, Error> {
    let names = [KEYS, JOURNAL, "node.sqlite-wal", "node.sqlite-shm"];
    let there = |name: &&str| fs::exists(data_dir.join(name)).unwrap_or(true);
    let found: Vec<_> = names.into_iter().filter(there).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut before = data_dir.join(format!("before-restore-{now}"));
    let mut number = 1;
    while fs::exists(&before).map_err(Error::file("look at", &before))? {
        number += 1;
        before = data_dir.join(format!("before-restore-{now}-{number}"));
    }
    make_private_folder(&before)?;
    for name in found {
        let (from, to) = (data_dir.join(name), before.join(name));
        fs::rename(&from, &to).map_err(Error::file("rename to", &to))?;
    }
    sync_folder(&before)?;
    sync_folder(data_dir)?;
    Ok(Some(before))
}

/// A folder for incomplete files, removed at the end.
struct Staging(PathBuf);

impl Staging {
    fn new(data_dir: &Path, name: &str) -> Result<Self, Error> {
        let path = data_dir.join(name);
        // A crash left it.
        if fs::exists(&path).map_err(Error::file("look at", &path))? {
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
        make_private_folder(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If it cannot be removed now, the next backup or restore does.
        _ = fs::remove_dir_all(&self.0);
    }
}

fn wrong(path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::Backup { path: path.to_path_buf(), problem: problem.to_string() }
}
