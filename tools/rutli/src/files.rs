//! Reading what people name on the command line, and writing so that no half a file is ever seen.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::report::Failure;

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody whom the folder and the umask let (0666 without the umask).
    Public,
    /// The owner alone (0600).
    Secret,
}

/// Bytes of a file that is read whole: configurations, keys, signatures, statements of 5,000 files.
pub const MAX_SMALL_FILE_BYTES: u64 = 16 << 20;

/// Reads a small file whole.
///
/// # Errors
/// Says which file and why, with exit code 2: a file that cannot be used is a matter of usage.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    read_within(path, MAX_SMALL_FILE_BYTES)
}

/// Reads a file whole that has a bound of its own.
///
/// # Errors
/// As [`read`].
pub fn read_within(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Failure> {
    let bytes = read_start(path, max_bytes.saturating_add(1))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > max_bytes) {
        return Err(Failure::usage(format!("{} is larger than {max_bytes} bytes", path.display()))
            .help("is it the right file?"));
    }
    Ok(bytes)
}

/// Reads a file, but no more than so many bytes.
///
/// # Errors
/// As [`read`], but not for its size.
pub fn read_start(path: &Path, bytes: u64) -> Result<Vec<u8>, Failure> {
    let file = File::open(path).map_err(|error| cannot("read", path, &error))?;
    let mut start = Vec::new();
    file.take(bytes).read_to_end(&mut start).map_err(|error| cannot("read", path, &error))?;
    Ok(start)
}

/// Reads a small text file whole.
///
/// # Errors
/// As [`read`], and for what is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?)
        .map_err(|_| Failure::usage(format!("{} is not text", path.display())).help("is it the right file?"))
}

/// Writes a file at once or not at all: a temporary file beside it, synced, then renamed over `path`.
///
/// # Errors
/// Says which file and why; nothing is left behind then.
pub fn write_atomically(path: &Path, bytes: &[u8], access: Access) -> Result<(), Failure> {
    let failed = |error: &std::io::Error| cannot("write", path, error);
    let temporary = temporary_name(path)?;
    let mode = match access {
        Access::Public => 0o666,
        Access::Secret => 0o600,
    };
    let result =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
    result.map_err(|error| {
        // Best effort: the write failed already, and that is what is reported.
        let _ = fs::remove_file(&temporary);
        failed(&error)
    })
}

/// Makes names in `folder` durable after renames.
///
/// # Errors
/// Says which folder and why.
pub fn sync_folder(folder: &Path) -> Result<(), Failure> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|error| cannot("sync", folder, &error))
}

/// Makes a folder and its parents, all the new ones for the owner alone where `access` says so.
///
/// # Errors
/// Says which folder and why.
pub fn create_folder(path: &Path, access: Access) -> Result<(), Failure> {
    let mode = match access {
        Access::Public => 0o777,
        Access::Secret => 0o700,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| cannot("make the folder", path, &error))
}

/// Makes a folder where there is none, and checks that files can be made in it.
///
/// # Errors
/// Says which folder and why.
pub fn create_output_folder(path: &Path) -> Result<(), Failure> {
    if path.exists() && !path.is_dir() {
        return Err(Failure::usage(format!("{} is not a folder", path.display())).help("give a folder"));
    }
    create_folder(path, Access::Public)?;
    tempfile::tempfile_in(path).map(drop).map_err(|error| cannot("write to", path, &error))
}

/// Whether a folder has something in it; a missing one has not.
///
/// # Errors
/// Says which folder and why, when it cannot be looked into.
pub fn has_entries(path: &Path) -> Result<bool, Failure> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot("look into", path, &error)),
    }
}

/// The absolute path of something that exists or will.
///
/// # Errors
/// When the current folder is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| cannot("find", path, &error))
}

/// An I/O error about a path, in people's words. Exit code 2.
#[must_use]
pub fn cannot(action: &str, path: &Path, error: &std::io::Error) -> Failure {
    let (reason, help) = in_words(error);
    Failure::usage(format!("cannot {action} {}: {reason}", path.display())).help(help)
}

/// What an I/O error about a path means, and what to do about it.
#[must_use]
pub fn in_words(error: &std::io::Error) -> (String, &'static str) {
    let (reason, help) = match error.kind() {
        ErrorKind::NotFound => ("it does not exist", "check the path"),
        ErrorKind::PermissionDenied => ("permission denied", "check who owns it, or run as its owner"),
        ErrorKind::AlreadyExists => ("it exists already", "take it away first"),
        ErrorKind::IsADirectory => ("it is a folder", "give a file"),
        ErrorKind::NotADirectory => ("a part of the path is not a folder", "check the path"),
        ErrorKind::StorageFull => ("the disk is full", "make space, then run the command again"),
        _ => {
            // The system's words, without its number.
            let mut words = error.to_string();
            words.truncate(words.rfind(" (os error").unwrap_or(words.len()));
            return (words, "check the path and the disk");
        }
    };
    (reason.to_owned(), help)
}

fn temporary_name(path: &Path) -> Result<PathBuf, Failure> {
    let name = path
        .file_name()
        .ok_or_else(|| {
            Failure::usage(format!("{} does not name a file", path.display())).help("give a file's name")
        })?
        .to_string_lossy();
    // Long names leave no room for a suffix (255 bytes on all common file systems): the temporary name is its own.
    let digest = {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(name.as_bytes()))
    };
    let short: String = digest.chars().take(16).collect();
    Ok(path.with_file_name(format!(".rutli-{}-{short}.tmp", std::process::id())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        write_atomically(&path, b"one", Access::Public).unwrap();
        write_atomically(&path, b"two", Access::Secret).unwrap();
        assert_eq!(read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        // A folder in the way makes the rename fail.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("inside"), b"x").unwrap();
        assert!(write_atomically(&path, b"two", Access::Public).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(fs::read(path.join("inside")).unwrap(), b"x");
    }

    #[test]
    fn the_longest_name_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        write_atomically(&folder.path().join("x".repeat(255)), b"one", Access::Public).unwrap();
    }

    #[test]
    fn secret_folders_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        create_folder(&path, Access::Secret).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!has_entries(&path).unwrap());
        assert!(!has_entries(&folder.path().join("none")).unwrap());
        assert!(has_entries(folder.path()).unwrap());
    }

    #[test]
    fn an_output_folder_is_made_and_a_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        create_output_folder(&folder.path().join("a/b")).unwrap();
        create_output_folder(&folder.path().join("a/b")).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(create_output_folder(&file).unwrap_err().problem.contains("not a folder"));
        assert!(create_output_folder(&file.join("below")).is_err());
    }

    #[test]
    fn problems_name_the_file() {
        let failure = read(Path::new("/nonexistent/file")).unwrap_err();
        assert_eq!(failure.problem, "cannot read /nonexistent/file: it does not exist");
        assert_eq!(failure.exit.code(), 2);
    }
}
