//! The files of a signed release: which there must be, and how they come onto the disk.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use rutli_release::{Format, ReleaseId, VerifiedRelease};
use rutli_wire::v1;

use crate::{
    files::{self, Access},
    releases::rubbish,
    report::Failure,
};

/// Writes the files of a signed release, each at once or not at all; gives their paths. Only names that follow from the
/// release are written: a coordinator does not choose where. Nothing is written for files that are `left_out`, by the
/// places of their artifacts.
///
/// # Errors
/// Files that do not belong to the release, or cannot be written.
pub fn write_all(
    release: &v1::Release,
    verified: &VerifiedRelease,
    out: &Path,
    left_out: &[usize],
) -> Result<Vec<PathBuf>, Failure> {
    check_names(release, verified)?;
    let left_out: BTreeSet<String> = left_out
        .iter()
        .filter_map(|place| verified.artifacts().get(*place))
        .map(|artifact| format!("{}.sig", artifact.name.file_name()))
        .collect();
    write(&release.files.iter().filter(|file| !left_out.contains(&file.name)).collect::<Vec<_>>(), out)
}

/// Writes the proofs of a release whose signatures were written before.
///
/// # Errors
/// As [`write_all`].
pub fn write_proofs(
    release: &v1::Release,
    verified: &VerifiedRelease,
    out: &Path,
) -> Result<Vec<PathBuf>, Failure> {
    check_names(release, verified)?;
    let proofs = proof_names(release)?;
    write(&release.files.iter().filter(|file| proofs.contains(&file.name)).collect::<Vec<_>>(), out)
}

fn write(files: &[&v1::SignedFile], out: &Path) -> Result<Vec<PathBuf>, Failure> {
    files::create_folder(out, Access::Public)?;
    let written = files
        .par_iter()
        .map(|file| {
            let path = out.join(&file.name);
            files::write_atomically(&path, &file.data, Access::Public)?;
            Ok(path)
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    files::sync_folder(out)?;
    Ok(written)
}

/// The files must be those of the release: every signature, and of the proofs those that there are.
fn check_names(release: &v1::Release, verified: &VerifiedRelease) -> Result<(), Failure> {
    let proofs = proof_names(release)?;
    let (proofs, signatures): (BTreeSet<_>, BTreeSet<_>) =
        release.files.iter().map(|file| file.name.clone()).partition(|name| proofs.contains(name));
    let once = release.files.len() == proofs.len() + signatures.len();
    let (proven, unproven) = (release.proven_at != 0, proofs.is_empty());
    if once && proven != unproven && signatures == signature_names(release, verified)? {
        return Ok(());
    }
    Err(rubbish("the files are not those of the release"))
}

fn signature_names(release: &v1::Release, verified: &VerifiedRelease) -> Result<BTreeSet<String>, Failure> {
    let id = release_id(release)?;
    let mut names = BTreeSet::new();
    for format in verified.formats() {
        match format {
            Format::Dsse => {
                names.insert(format!("{id}.intoto.json"));
            }
            Format::Statement => names.extend([format!("{id}.statement"), format!("{id}.statement.sig")]),
            Format::Sshsig => {
                names.extend(
                    verified.artifacts().iter().map(|artifact| format!("{}.sig", artifact.name.file_name())),
                );
            }
        }
    }
    Ok(names)
}

/// What shows that the release is in the log.
fn proof_names(release: &v1::Release) -> Result<[String; 2], Failure> {
    let id = release_id(release)?;
    Ok([format!("{id}.sigstore.json"), format!("{id}.tlog-proof")])
}

fn release_id(release: &v1::Release) -> Result<ReleaseId, Failure> {
    ReleaseId::new(release.release_id.clone()).map_err(|error| rubbish(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::{content, tests::signed};

    #[test]
    fn only_the_releases_own_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let good = signed(&["x-1-0123456789ab.intoto.json", "x.sig"]);
        let verified = content(&good).unwrap();
        let one = write_all(&good, &verified, &out, &[0]).unwrap();
        assert!(matches!(&one[..], [path] if path.ends_with("x-1-0123456789ab.intoto.json")), "{one:?}");
        assert!(!out.join("x.sig").exists());
        let written = write_all(&good, &verified, &out, &[]).unwrap();
        assert_eq!(written.len(), 2);
        assert_eq!(std::fs::read(out.join("x.sig")).unwrap(), b"x.sig");
        for bad in [
            &["x.sig", "../../etc/passwd"][..],
            &["x-1-0123456789ab.intoto.json", "x.sig", "y-1-0123456789ab.tlog-proof"],
            &["x-1-0123456789ab.intoto.json", "x.sig", "../x-1-0123456789ab.tlog-proof"],
            &["x.sig", "x-1-0123456789ab.sigstore.json", "x-1-0123456789ab.tlog-proof"],
            &["x-1-0123456789ab.intoto.json", "/tmp/x.sig"],
            &["x.sig"],
            &["x-1-0123456789ab.intoto.json", "x.sig", "x.sig"],
        ] {
            for proven_at in [0, 1] {
                let release = v1::Release { proven_at, ..signed(bad) };
                assert!(write_all(&release, &content(&release).unwrap(), &out, &[]).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn proofs_are_written_after_the_signatures_and_with_them() {
        let signatures = ["x-1-0123456789ab.intoto.json", "x.sig"];
        let proofs = ["x-1-0123456789ab.sigstore.json", "x-1-0123456789ab.tlog-proof"];
        let proven = v1::Release { proven_at: 5, ..signed(&[signatures, proofs].concat()) };
        let verified = content(&proven).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let names = |written: Vec<PathBuf>| -> Vec<_> {
            written.iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(write_proofs(&proven, &verified, folder.path()).unwrap()), proofs);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(write_all(&proven, &verified, folder.path(), &[]).unwrap().len(), 4);
        // A proof that is promised is there, and one that is there is promised.
        for wrong in [
            v1::Release { proven_at: 5, ..signed(&signatures) },
            v1::Release { proven_at: 0, ..proven.clone() },
        ] {
            assert!(write_all(&wrong, &verified, folder.path(), &[]).is_err());
            assert!(write_proofs(&wrong, &verified, folder.path()).is_err());
        }
        let twice =
            v1::Release { proven_at: 5, ..signed(&[&signatures[..], &proofs[..1], &proofs[..1]].concat()) };
        assert!(write_proofs(&twice, &verified, folder.path()).is_err());
    }
}
