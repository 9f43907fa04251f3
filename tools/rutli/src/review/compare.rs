//! Compares local files with those of a release.

use std::path::{Path, PathBuf};

use rutli_release::{Artifact, VerifiedRelease};
use serde_json::{Value, json};

use crate::{
    hash::{self, Digests, Hashed},
    report::Failure,
    sign::name_of,
    text,
};

/// A local file, and what it is in the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    path: PathBuf,
    sha256: [u8; 32],
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is this file of the release.
    Matches(String),
    /// The release has another file of this name.
    Differs(String),
    /// The release has no file of this name; the names under which it has this content.
    NotInRelease(Vec<String>),
}

/// Hashes files and compares each with the release's file of its name: its path below `base`, or without one its file name.
///
/// # Errors
/// Exit code 2: a file that cannot be read, or is not below `base`.
pub(super) fn compare(
    content: &VerifiedRelease,
    files: &[PathBuf],
    base: Option<&Path>,
) -> Result<Vec<Compared>, Failure> {
    hash::hash_files(files, Digests::Sha256)?
        .into_iter()
        .map(|file| compare_one(content, file, base))
        .collect()
}

fn compare_one(content: &VerifiedRelease, file: Hashed, base: Option<&Path>) -> Result<Compared, Failure> {
    let own = name_of(&file.path, base)?;
    let is_named = |artifact: &&Artifact| match base {
        Some(_) => artifact.name.as_str() == own,
        None => artifact.name.file_name() == own,
    };
    let is_same = |artifact: &&Artifact| artifact.sha256 == file.sha256;
    let name = |artifact: &Artifact| artifact.name.to_string();
    let named: Vec<&Artifact> = content.artifacts().iter().filter(is_named).collect();
    let verdict = match (named.iter().copied().find(is_same), named.first()) {
        (Some(same), _) => Verdict::Matches(name(same)),
        (None, Some(other)) => Verdict::Differs(name(other)),
        (None, None) => Verdict::NotInRelease(content.artifacts().iter().filter(is_same).map(name).collect()),
    };
    Ok(Compared { path: file.path, sha256: file.sha256, verdict })
}

impl Compared {
    pub(super) fn matches(&self) -> bool {
        matches!(self.verdict, Verdict::Matches(_))
    }

    /// One line for eyes.
    pub(super) fn text(&self) -> String {
        let path = self.path.display();
        let digest = hex::encode(self.sha256);
        match &self.verdict {
            Verdict::Matches(name) => format!("{path}: matches {}", text::printable(name)),
            Verdict::Differs(name) => {
                format!("{path}: DIFFERS from {}: it has sha256:{digest}", text::printable(name))
            }
            Verdict::NotInRelease(names) if names.is_empty() => {
                format!("{path}: NOT IN THE RELEASE, by name or content: it has sha256:{digest}")
            }
            Verdict::NotInRelease(names) => {
                format!("{path}: NOT IN THE RELEASE under this name; its content is {}", text::list(names))
            }
        }
    }

    pub(super) fn json(&self) -> Value {
        let (verdict, names) = match &self.verdict {
            Verdict::Matches(name) => ("matches", std::slice::from_ref(name)),
            Verdict::Differs(name) => ("differs", std::slice::from_ref(name)),
            Verdict::NotInRelease(names) => ("not-in-release", names.as_slice()),
        };
        json!({ "path": self.path, "sha256": hex::encode(self.sha256), "verdict": verdict, "names": names })
    }
}

#[cfg(test)]
mod tests {
    use rutli_wire::v1;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::releases::{content, tests::signed};

    #[test]
    fn a_file_matches_differs_or_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut release = signed(&[]);
        release.content.as_mut().unwrap().artifacts = [("bin/suite", "one"), ("notes", "two")]
            .map(|(name, content)| v1::Artifact {
                name: name.to_owned(),
                sha256: Sha256::digest(content).to_vec(),
            })
            .into();
        let content = content(&release).unwrap();
        let verdict = |path: &Path, base: Option<&Path>| {
            let compared = compare(&content, &[path.to_owned()], base).unwrap().remove(0);
            (compared.verdict.clone(), compared.matches(), compared.text(), compared.json())
        };
        let suite = || "bin/suite".to_owned();
        let good = write("bin/suite", b"one");
        let (found, matches, text, json) = verdict(&good, None);
        assert_eq!((found, matches), (Verdict::Matches(suite()), true));
        assert!(text.ends_with("matches bin/suite"), "{text}");
        assert_eq!((&json["verdict"], &json["names"][0]), (&json!("matches"), &json!("bin/suite")));
        assert!(verdict(&good, Some(folder.path())).1);
        // The right content under another name is not that file.
        let (found, matches, ..) = verdict(&good, Some(&folder.path().join("bin")));
        assert_eq!((found, matches), (Verdict::NotInRelease(vec![suite()]), false));
        let evil = write("evil/suite", b"evil");
        let (found, matches, text, json) = verdict(&evil, None);
        assert_eq!((found, matches), (Verdict::Differs(suite()), false));
        assert!(text.contains("DIFFERS") && text.contains(&hex::encode(Sha256::digest("evil"))), "{text}");
        assert_eq!(json["verdict"], "differs");
        let swapped = write("notes", b"one");
        assert_eq!(verdict(&swapped, None).0, Verdict::Differs("notes".to_owned()));
        let (found, _, text, json) = verdict(&write("other", b"other"), None);
        assert_eq!(found, Verdict::NotInRelease(Vec::new()));
        assert!(text.contains("NOT IN THE RELEASE"), "{text}");
        assert_eq!(json["verdict"], "not-in-release");
    }
}
