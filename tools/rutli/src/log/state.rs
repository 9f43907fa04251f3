//! What a monitor keeps between rounds: the last head that it verified, what is open, and what it has counted.
//!
//! One JSON document with its own SHA-256, replaced at once and synced. A state that is lost or damaged makes the
//! monitor begin anew, and so makes it blind for a fork before that: so that is a person's decision, never its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rutli_log::{Auditor, Finding, Frontier, Hash, Head, Origin, Tiles, sha256};
use serde::{Deserialize, Serialize};

use super::{
    sigstore::Ahead,
    walk::{from_right_edge, right_edge},
};
use crate::{
    files::{self, Access, MAX_SMALL_FILE_BYTES},
    report::Failure,
};

const BEFORE_DIGEST: &str = "{\"sha256\":\"";
const BEFORE_STATE: &str = "\",\"state\":";
const AFTER_STATE: &str = "}\n";
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Debug)]
pub struct State {
    /// Which log.
    pub origin: Origin,
    /// The last verified head, as a signed note; none yet before the first round.
    pub note: Option<String>,
    /// The tree of that head.
    pub tiles: Tiles,
    /// Its root.
    pub root: Hash,
    /// When this head was seen first, in Unix seconds.
    pub head_seen: u64,
    /// When a round last went through, in Unix seconds.
    pub verified: u64,
    /// What is open.
    pub auditor: Auditor,
    /// Since when the published heads lack cosignatures, in Unix seconds.
    pub uncosigned_since: Option<u64>,
    /// Heads of other sources that were ahead, by source, as signed notes.
    pub ahead: BTreeMap<String, String>,
    /// A head for Sigstore's tools that was ahead.
    pub sigstore_ahead: Option<Ahead>,
    /// Findings so far, by their word.
    pub counts: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    origin: Origin,
    note: Option<String>,
    size: u64,
    root: Hash,
    edge: Vec<Vec<Hash>>,
    head_seen: u64,
    verified: u64,
    auditor: Auditor,
    uncosigned_since: Option<u64>,
    ahead: BTreeMap<String, String>,
    sigstore_ahead: Option<Ahead>,
    counts: BTreeMap<String, u64>,
}

impl State {
    /// Nothing read yet.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            note: None,
            tiles: Tiles::default(),
            root: Hash::EMPTY_ROOT,
            head_seen: 0,
            verified: 0,
            auditor: Auditor::default(),
            uncosigned_since: None,
            ahead: BTreeMap::new(),
            sigstore_ahead: None,
            counts: BTreeMap::new(),
        }
    }

    /// Reads the state of a log; a new one where there is no file.
    ///
    /// # Errors
    /// Exit code 2: it is damaged, or of another log.
    pub fn read(path: &Path, origin: &Origin) -> Result<Self, Failure> {
        // A broken link is no missing file: there was a state once.
        if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(Self::new(origin.clone()));
        }
        let state = Self::decode(&files::read_text(path)?).ok_or_else(|| {
            Failure::usage(format!("the state {} is damaged", path.display())).help(
                "put back a copy of it; without one move it away and the log is read anew from its beginning, but \
                 then compare with another monitor (--compare), for a fork before today would not be seen",
            )
        })?;
        if state.origin != *origin {
            return Err(Failure::usage(format!(
                "the state {} is of the log {}, not of {origin}",
                path.display(),
                state.origin
            ))
            .help("give each log a state of its own"));
        }
        Ok(state)
    }

    /// Writes it in place of the last one, durably.
    ///
    /// # Errors
    /// Exit code 2, with the file.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let text = self.encode()?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_SMALL_FILE_BYTES) {
            return Err(Failure::failed("the state does not fit into a file any more")
                .help("see which requests are open for ever: `rutli log show --state open`"));
        }
        files::write_atomically(path, text.as_bytes(), Access::Public)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        files::sync_folder(folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf).as_path())
    }

    /// The last verified head.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { size: self.tiles.size(), root: self.root }
    }

    /// Counts findings.
    pub fn count(&mut self, findings: &[Finding]) {
        for finding in findings {
            let count = self.counts.entry(finding.code.as_str().to_owned()).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn encode(&self) -> Result<String, Failure> {
        let record = Record {
            version: VERSION,
            origin: self.origin.clone(),
            note: self.note.clone(),
            size: self.tiles.size(),
            root: self.root,
            edge: right_edge(&self.tiles),
            head_seen: self.head_seen,
            verified: self.verified,
            auditor: self.auditor.clone(),
            uncosigned_since: self.uncosigned_since,
            ahead: self.ahead.clone(),
            sigstore_ahead: self.sigstore_ahead.clone(),
            counts: self.counts.clone(),
        };
        let state = serde_json::to_string(&record)
            .map_err(|error| Failure::failed(format!("the state cannot be written: {error}")))?;
        Ok(format!("{BEFORE_DIGEST}{}{BEFORE_STATE}{state}{AFTER_STATE}", sha256(state.as_bytes())))
    }

    fn decode(text: &str) -> Option<Self> {
        let (digest, rest) = text.strip_prefix(BEFORE_DIGEST)?.split_once(BEFORE_STATE)?;
        let state = rest.strip_suffix(AFTER_STATE)?;
        if sha256(state.as_bytes()).to_string() != digest {
            return None;
        }
        let record: Record =
            serde_json::from_str(state).ok().filter(|record: &Record| record.version == VERSION)?;
        let tiles = from_right_edge(record.size, &record.edge)?;
        let head = Frontier::of(&tiles, record.size).ok()?.head();
        if head.root != record.root || record.auditor.size() != record.size {
            return None;
        }
        Some(Self {
            origin: record.origin,
            note: record.note,
            tiles,
            root: record.root,
            head_seen: record.head_seen,
            verified: record.verified,
            auditor: record.auditor,
            uncosigned_since: record.uncosigned_since,
            ahead: record.ahead,
            sigstore_ahead: record.sigstore_ahead,
            counts: record.counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use rutli_log::leaf_hash;

    use super::*;

    #[test]
    fn a_state_is_read_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, origin) = (folder.path().join("state"), Origin::new("log.example/2026").unwrap());
        let mut state = State::new(origin.clone());
        for size in [0, 1, 255, 256, 257, 65_536, 65_792, 70_000] {
            while state.tiles.size() < size {
                state.tiles.push(leaf_hash(&state.tiles.size().to_be_bytes()));
                state.auditor.skip();
            }
            state.root = Frontier::of(&state.tiles, size).unwrap().head().root;
            state.write(&path).unwrap();
            let mut read = State::read(&path, &origin).unwrap();
            assert_eq!(read.head(), state.head());
            // Both grow in the same way.
            let mut grown = state.tiles.clone();
            for number in 0..300_u64 {
                read.tiles.push(leaf_hash(&number.to_le_bytes()));
                grown.push(leaf_hash(&number.to_le_bytes()));
            }
            assert_eq!(
                Frontier::of(&read.tiles, size + 300).unwrap(),
                Frontier::of(&grown, size + 300).unwrap()
            );
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for place in (0..text.len()).step_by(text.len() / 50) {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(State::read(&path, &origin).unwrap_err().exit.code(), 2, "byte {place}");
        }
        std::fs::write(&path, &text).unwrap();
        let other = State::read(&path, &Origin::new("other").unwrap()).unwrap_err();
        assert!(other.problem.contains("is of the log log.example/2026"), "{other}");
    }
}
