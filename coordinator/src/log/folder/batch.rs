//! Files that are there whole and durable, or not at all: written beside their place, synced, renamed; then the folders
//! synced, each once for many files.

use std::{
    collections::BTreeSet,
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

/// Files on their way into the log's folder. Their names are durable after [`sync`](Batch::sync).
pub(super) struct Batch<'a> {
    root: &'a Path,
    folders: BTreeSet<PathBuf>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, folders: BTreeSet::new() }
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
                let written = write(&path, bytes)?;
                // Crash boundary: whole, beside its place, under a name that nobody asks for. For documents as well.
                crash_point("log-tiles-half-written");
                rename(&written, &path)
            }
        }
    }

    /// Puts a file in the place of another. `crash`: the boundary's name at which it is whole, and not yet in its place.
    pub(super) fn replace(&mut self, name: &str, bytes: &[u8], crash: &str) -> Result<()> {
        let path = self.enter(name)?;
        let written = write(&path, bytes)?;
        crash_point(crash);
        rename(&written, &path)
    }

    /// Makes all names durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        for folder in std::mem::take(&mut self.folders) {
            sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Makes the folders above a file. Those that are there are synced as well: the process that made them may have died
    /// before it could.
    fn enter(&mut self, name: &str) -> Result<PathBuf> {
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

/// Writes beside a file's place, durable. The name is always the same, so that what a crash leaves is overwritten by
/// the next attempt; no reader asks for it.
fn write(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.tmp"));
    let written = File::create(&beside).and_then(|mut file| {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| refused(&beside, "cannot be written", &error))?;
    Ok(beside)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| refused(to, "cannot be put in its place", &error))
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
