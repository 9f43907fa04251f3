//! What came out of a build, and how it differs from what was expected.
//!
//! What a build leaves is as hostile as its source: it is looked at only when all of the build has ended, links are followed no further
//! than the build's folder, and nothing but regular files is opened.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use rutli_release::ArtifactName;
use serde_json::{Value, json};

use super::{
    expected::{Expected, ExpectedFile},
    explain,
    limits::{MAX_BUILT_ENTRIES, MAX_DEPTH, MAX_EXTRA, MAX_LISTED_BYTES},
};
use crate::{
    files,
    hash::{self, Digests, Hashed},
    report::Failure,
    text,
};

/// How what was built compares to what was expected.
#[derive(Debug)]
pub struct Comparison {
    /// What is not the same. Empty: every file came out.
    pub differences: Vec<Difference>,
    /// What stands for each expected file, if anything does.
    pub rebuilt: BTreeMap<ArtifactName, Hashed>,
    /// Paths of other files, the first of them; and how many there are.
    pub extra: (Vec<String>, usize),
}

/// A file that did not come out as expected.
#[derive(Debug)]
pub struct Difference {
    /// Which one.
    pub name: ArtifactName,
    /// What was expected.
    pub expected: ExpectedFile,
    /// What is there instead.
    pub found: Found,
}

/// What is there instead of an expected file.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Missing,
    /// Several files that could be meant, by their paths.
    Ambiguous(Vec<String>),
    /// A file with another content.
    Differs {
        /// That file.
        rebuilt: Box<Hashed>,
        /// The first byte that differs, counted from 0, where both files are at hand.
        offset: Option<u64>,
        /// How it differs, in words.
        words: String,
    },
}

/// Compares what lies in `output` with what is expected. `build` is the folder that the build could write to.
///
/// An expected file is found by its path, or, if it has no folder and none is at the top, as the only one of its name: `rutli
/// sign` names files without their folders unless told otherwise.
///
/// # Errors
/// What was built cannot be read, or is out of bounds: files with holes, and links to the same one, may have more than `max_bytes` in
/// all, although they took less to write.
pub fn compare(
    expected: &Expected,
    output: &Path,
    build: &Path,
    max_bytes: u64,
) -> Result<Comparison, Failure> {
    let built = list(output, build)?;
    let mut by_name: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for path in built.keys() {
        by_name.entry(path.rsplit('/').next().unwrap_or(path)).or_default().push(path);
    }
    let mut comparison =
        Comparison { differences: Vec::new(), rebuilt: BTreeMap::new(), extra: (Vec::new(), 0) };
    let (mut names, mut paths, mut used) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    for (name, file) in expected {
        let found = match (built.get_key_value(name.as_str()), by_name.get(name.as_str()).map(Vec::as_slice))
        {
            (Some((path, real)), _) => Ok((path, real)),
            (None, Some([path])) => built.get_key_value(*path).ok_or(Found::Missing),
            (None, Some(several)) => {
                Err(Found::Ambiguous(several.iter().map(|path| (*path).clone()).collect()))
            }
            (None, None) => Err(Found::Missing),
        };
        match found {
            Ok((path, real)) => {
                used.insert(path);
                names.push((name, file));
                paths.push(real.clone());
            }
            Err(found) => {
                comparison.differences.push(Difference { name: name.clone(), expected: file.clone(), found })
            }
        }
    }
    check_bytes(&paths, max_bytes)?;
    for ((name, file), rebuilt) in names.into_iter().zip(hash::hash_files(&paths, Digests::All)?) {
        if rebuilt.sha256 != file.sha256 {
            let (offset, words) = explain::difference(file, &rebuilt)?;
            let found = Found::Differs { rebuilt: Box::new(rebuilt.clone()), offset, words };
            comparison.differences.push(Difference { name: name.clone(), expected: file.clone(), found });
        }
        comparison.rebuilt.insert(name.clone(), rebuilt);
    }
    comparison.differences.sort_by(|a, b| a.name.cmp(&b.name));
    let extra = built.keys().filter(|path| !used.contains(path));
    comparison.extra = (extra.clone().take(MAX_EXTRA).cloned().collect(), extra.count());
    Ok(comparison)
}

fn check_bytes(paths: &[PathBuf], max_bytes: u64) -> Result<(), Failure> {
    let mut bytes = 0_u64;
    for path in paths {
        let found =
            fs::metadata(path).map_err(|error| files::cannot("look into what was built,", path, &error))?;
        bytes = bytes.saturating_add(found.len());
    }
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the build leaves {} in place of the release's files, more than {} of disk",
        ByteSize(bytes),
        ByteSize(max_bytes)
    ))
    .help("if the release has files with holes that are so large, raise --disk"))
}

/// Regular files below `output` by their paths there, with where they really are. Links to files within `build` count as these.
fn list(output: &Path, build: &Path) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let cannot = |error: std::io::Error| files::cannot("look into what was built,", output, &error);
    let build = fs::canonicalize(build).map_err(cannot)?;
    let top = fs::canonicalize(output).map_err(|_| no_output(output, &build))?;
    if !top.starts_with(&build) || !top.is_dir() {
        return Err(no_output(output, &build));
    }
    let out_of_bounds = |what: String| {
        Failure::failed(format!("the build leaves {what}"))
            .help("give the folder with the release's files alone with --output")
    };
    let mut built = BTreeMap::new();
    let (mut folders, mut seen, mut bytes) = (vec![(top, String::new(), 0)], 0_usize, 0_usize);
    while let Some((folder, prefix, depth)) = folders.pop() {
        if depth > MAX_DEPTH {
            return Err(out_of_bounds(format!("more than {MAX_DEPTH} folders within each other")));
        }
        for entry in fs::read_dir(&folder).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            seen = seen.saturating_add(1);
            if seen > MAX_BUILT_ENTRIES {
                return Err(out_of_bounds(format!("more than {MAX_BUILT_ENTRIES} files and folders")));
            }
            // No file of a release has such a name.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            bytes = bytes.saturating_add(path.len());
            if bytes > MAX_LISTED_BYTES {
                return Err(out_of_bounds("more long paths than are bearable".to_owned()));
            }
            let kind = entry.file_type().map_err(cannot)?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/"), depth + 1));
            } else if kind.is_file() {
                built.insert(path, entry.path());
            } else if kind.is_symlink() {
                let real = fs::canonicalize(entry.path()).ok();
                built.extend(
                    real.filter(|real| real.starts_with(&build) && real.is_file()).map(|real| (path, real)),
                );
            }
        }
    }
    Ok(built)
}

fn no_output(output: &Path, build: &Path) -> Failure {
    let shown = output.strip_prefix(build).unwrap_or(output);
    Failure::failed(format!(
        "the build did not make the folder {}",
        text::printable(&shown.to_string_lossy())
    ))
    .help("give the folder with --output, as seen from where the command runs")
}

impl Difference {
    /// On a line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let name = text::printable(self.name.as_str());
        match &self.found {
            Found::Missing => format!("{name} is missing: the build did not make it"),
            Found::Ambiguous(paths) => format!(
                "{name} could be any of {} files: {}; give its folder with --output",
                paths.len(),
                text::list(paths.get(..paths.len().min(MAX_EXTRA)).unwrap_or_default())
            ),
            Found::Differs { words, .. } => format!("{name} differs: {words}"),
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (kind, rebuilt, offset) = match &self.found {
            Found::Missing => ("missing", Value::Null, None),
            Found::Ambiguous(_) => ("ambiguous", Value::Null, None),
            Found::Differs { rebuilt, offset, .. } => {
                ("differs", json!({ "sha256": hex::encode(rebuilt.sha256), "size": rebuilt.size }), *offset)
            }
        };
        json!({
            "name": self.name.as_str(),
            "kind": kind,
            "text": self.in_words(),
            "expected": { "sha256": hex::encode(self.expected.sha256), "size": self.expected.size },
            "rebuilt": rebuilt,
            "offset": offset,
        })
    }
}
