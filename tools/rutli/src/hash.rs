//! Hashes local files: SHA-256, which identifies them; for attestations also SHA-512 and BLAKE2b-512, in the
//! same pass.
//!
//! Many files go side by side, one thread each; few files are taken one after the other, with the hashes of each
//! side by side. Memory is one buffer per thread. A file that changes while it is read has no digest worth signing:
//! that is an error.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use blake2::{Blake2b512, Digest as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use rutli_evidence::OtherDigests;
use sha2::{Sha256, Sha512};

use crate::{files, report::Failure};

/// Bytes read at once: enough that a thread is worth waking for a hash of them.
const CHUNK_BYTES: usize = 1 << 20;

/// A file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Where it lies.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: [u8; 32],
    /// Its other digests, if [`Digests::All`] were asked for.
    pub others: Option<OtherDigests>,
    stamp: Stamp,
}

/// Which digests are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digests {
    /// SHA-256 alone: what releases are made of.
    Sha256,
    /// All that attestations name.
    All,
}

impl Hashed {
    /// Whether the file was changed or replaced since, as far as its metadata tell.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |metadata| Stamp::of(&metadata) != self.stamp)
    }
}

/// Hashes files, in the order given, with a progress bar on stderr if that is a terminal.
///
/// # Errors
/// Exit code 2: a file that cannot be read, is no file, or changes meanwhile.
pub fn hash_files(paths: &[PathBuf], digests: Digests) -> Result<Vec<Hashed>, Failure> {
    let total = paths.iter().map(|path| size_of(path)).sum::<Result<u64, Failure>>()?;
    let bar = progress_bar(total);
    let many = paths.len() >= rayon::current_num_threads();
    let hashed = if many {
        paths.par_iter().map(|path| hash_file(path, digests, false, &bar)).collect()
    } else {
        paths.iter().map(|path| hash_file(path, digests, true, &bar)).collect()
    };
    bar.finish_and_clear();
    hashed
}

fn hash_file(
    path: &Path,
    digests: Digests,
    side_by_side: bool,
    bar: &ProgressBar,
) -> Result<Hashed, Failure> {
    let cannot = |error: std::io::Error| files::cannot("read", path, &error);
    let mut file = File::open(path).map_err(cannot)?;
    let before = Stamp::of(&file.metadata().map_err(cannot)?);
    let mut sha256 = Sha256::new();
    let mut others = (digests == Digests::All).then(|| (Sha512::new(), Blake2b512::new()));
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0u64;
    loop {
        let chunk = read_chunk(&mut file, &mut buffer).map_err(cannot)?;
        if chunk.is_empty() {
            break;
        }
        match &mut others {
            Some((sha512, blake2b)) if side_by_side && chunk.len() == CHUNK_BYTES => {
                rayon::join(
                    || sha512.update(chunk),
                    || rayon::join(|| blake2b.update(chunk), || sha256.update(chunk)),
                );
            }
            Some((sha512, blake2b)) => {
                sha512.update(chunk);
                blake2b.update(chunk);
                sha256.update(chunk);
            }
            None => sha256.update(chunk),
        }
        let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        size = size.saturating_add(length);
        bar.inc(length);
    }
    let after = Stamp::of(&file.metadata().map_err(cannot)?);
    if before != after || size != after.size {
        return Err(Failure::usage(format!("{} changed while it was hashed", path.display()))
            .help("sign it when nothing writes to it any more"));
    }
    Ok(Hashed {
        path: path.to_owned(),
        size,
        sha256: sha256.finalize().into(),
        others: others.map(|(sha512, blake2b)| OtherDigests {
            sha512: sha512.finalize().into(),
            blake2b: blake2b.finalize().into(),
        }),
        stamp: after,
    })
}

/// What tells that a file is still the same one with the same content, as far as a file system can.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn size_of(path: &Path) -> Result<u64, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| files::cannot("read", path, &error))?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!("{} is not a regular file", path.display()))
            .help("give files; a shell pattern or `find` gives those of a folder"));
    }
    Ok(metadata.len())
}

/// Fills the buffer as far as the file goes; empty at its end.
fn read_chunk<'a>(file: &mut File, buffer: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

fn progress_bar(bytes: u64) -> ProgressBar {
    // Drawn on stderr, and hidden by indicatif itself where that is not a terminal.
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("hashing {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "abc", b"abc");
        let hashed = hash_files(std::slice::from_ref(&path), Digests::All).unwrap().remove(0);
        assert_eq!(hashed.size, 3);
        // FIPS 180-4 examples, RFC 7693 appendix A.
        assert_eq!(
            hex::encode(hashed.sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let others = hashed.others.clone().unwrap();
        assert!(hex::encode(others.sha512).starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(hex::encode(others.blake2b).starts_with("ba80a53f981c4d0d6a2797b69f12f6e9"));
        let alone = hash_files(&[path], Digests::Sha256).unwrap().remove(0);
        assert_eq!((alone.sha256, alone.others), (hashed.sha256, None));
    }

    #[test]
    fn both_ways_of_hashing_agree_over_chunk_borders() {
        let folder = tempfile::tempdir().unwrap();
        let bar = ProgressBar::hidden();
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7] {
            let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let path = write(folder.path(), "f", &bytes);
            let one = hash_file(&path, Digests::All, true, &bar).unwrap();
            assert_eq!(one, hash_file(&path, Digests::All, false, &bar).unwrap());
            assert_eq!(one.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
            assert_eq!(one.others.unwrap().sha512, <[u8; 64]>::from(Sha512::digest(&bytes)));
            assert_eq!(hash_file(&path, Digests::Sha256, true, &bar).unwrap().sha256, one.sha256);
        }
    }

    #[test]
    fn order_is_kept_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..40).map(|i| write(folder.path(), &format!("f{i}"), &[i])).collect();
        let hashed = hash_files(&paths, Digests::Sha256).unwrap();
        assert!(hashed.iter().zip(&paths).all(|(hashed, path)| hashed.path == *path));
        let failure = hash_files(&[folder.path().to_owned()], Digests::Sha256).unwrap_err();
        assert!(failure.problem.ends_with("is not a regular file"), "{}", failure.problem);
        assert_eq!(hash_files(&[folder.path().join("none")], Digests::Sha256).unwrap_err().exit.code(), 2);
    }

    #[test]
    fn a_change_after_hashing_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "f", b"one");
        let hashed = hash_files(std::slice::from_ref(&path), Digests::Sha256).unwrap().remove(0);
        assert!(!hashed.has_changed());
        write(folder.path(), "f", b"other");
        assert!(hashed.has_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(hashed.has_changed());
    }
}
