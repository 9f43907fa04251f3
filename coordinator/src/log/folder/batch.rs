//! Files that are there whole and durable, or not at all: all of them are written beside their places, synced together,
//! renamed, and their names synced together. So a round costs two `syncfs`, however many files it lays down: with an
//! `fsync` for each file and folder a statement's file cost more than its release's signature.
//!
//! `syncfs` tells of failed writes since Linux 5.8, of all since its descriptor was opened.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rutli_log::TileId;

use crate::{
    crash::crash_point,
    error::{Error, Result},
};

/// Everybody may read the log, whatever the process's umask says.
const FOLDER_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// Files on their way into the log's folder. They are in their places, and durable, after [`sync`](Batch::sync).
pub(super) struct Batch<'a> {
    root: &'a Path,
    /// The root, opened before anything is written.
    filesystem: File,
    /// Folders that are there.
    folders: BTreeSet<PathBuf>,
    /// Where files shall be, and where they are until then.
    beside: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(root: &'a Path) -> Result<Self> {
        let filesystem = File::open(root).map_err(|error| refused(root, "cannot be opened", &error))?;
        Ok(Self { root, filesystem, folders: BTreeSet::new(), beside: BTreeMap::new() })
    }

    /// Lays down a file that never changes. One that is there must be the same.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.enter(name)?;
        match read(&path, bytes.len())? {
            // Its bytes were synced before it got its name; that its name is, only `sync` makes sure.
            Some(found) if found == bytes => Ok(()),
            Some(_) => Err(Error::LogForked {
                problem: "another file lies here than the one that follows from the store: it was changed, or is of \
                          another log. Move it away, keep it as evidence, and start again: it is then written anew"
                    .into(),
                path,
            }),
            None => {
                self.replace(path, bytes)?;
                // Crash boundary: beside its place, under a name that nobody asks for. For documents as well.
                crash_point("log-tiles-half-written");
                Ok(())
            }
        }
    }

    /// Puts a file in the place of another.
    pub(super) fn replace(&mut self, path: PathBuf, bytes: &[u8]) -> Result<()> {
        let beside = write(&path, bytes)?;
        self.beside.insert(path, beside);
        Ok(())
    }

    /// Makes all durable: the files first, then their names, and those that were equal already. `crash`: the boundary's
    /// name at which all are whole, and not yet in their places.
    pub(super) fn sync(mut self, crash: &str) -> Result<()> {
        let beside = std::mem::take(&mut self.beside);
        if !beside.is_empty() {
            self.sync_all()?;
            crash_point(crash);
        }
        for (path, beside) in beside {
            fs::rename(beside, &path)
                .map_err(|error| refused(&path, "cannot be put in its place", &error))?;
            // Crash boundary: some are in their places, whole. The next round finds them equal.
            crash_point("log-half-renamed");
        }
        self.sync_all()
    }

    fn sync_all(&self) -> Result<()> {
        nix::unistd::syncfs(&self.filesystem)
            .map_err(|error| refused(self.root, "cannot be synced", &error.into()))
    }

    /// Where a file shall be, with the folders above it.
    pub(super) fn enter(&mut self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        let above: Vec<&Path> =
            path.ancestors().skip(1).take_while(|folder| folder.starts_with(self.root)).collect();
        for folder in above.into_iter().rev() {
            if self.folders.insert(folder.to_owned()) {
                make_folder(folder)?;
            }
        }
        Ok(path)
    }
}

/// Makes the log's own folder and what is missing above it, durable.
pub(super) fn make_root(path: &Path) -> Result<()> {
    let above: Vec<&Path> =
        path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()).collect();
    for folder in above.into_iter().rev() {
        make_folder(folder)?;
        if let Some(parent) = folder.parent() {
            sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
    }
    sync_folder(path)
}

/// A whole file; `None` if there is none. Of one longer than `most` bytes the first `most` and one more.
pub(super) fn read(path: &Path, most: usize) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, "cannot be read", &error)),
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(|error| refused(path, "cannot be read", &error))?;
    Ok(Some(bytes))
}

/// Removes the partial tiles of a full one, with whatever a crash left half-written among them. Not synced: those that a
/// power cut brings back are true.
pub(super) fn remove_partials(root: &Path, full: TileId) -> Result<()> {
    let folder = root.join(format!("{}.p", full.path()));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(refused(&folder, "cannot be removed", &error))
        }
        _ => Ok(()),
    }
}

/// Writes beside a file's place. The name is always the same, so that what a crash leaves is overwritten by
/// the next attempt; no reader asks for it.
fn write(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.tmp"));
    let written = File::create(&beside).and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)
    });
    written.map_err(|error| refused(&beside, "cannot be written", &error))?;
    Ok(beside)
}

fn make_folder(path: &Path) -> Result<()> {
    let made = match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    };
    made.map_err(|error| refused(path, "cannot be made", &error))
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| refused(path, "cannot be synced", &error))
}

fn refused(path: &Path, what: &str, error: &io::Error) -> Error {
    Error::File { path: path.to_owned(), problem: format!("{what}: {error}") }
}
