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
    limits::MAX_STATE_BYTES,
    sigstore::Ahead,
    walk::{from_right_edge, right_edge},
};
use crate::{
    files::{self, Access},
    report::Failure,
};

const BEFORE_DIGEST: &str = "{\"sha256\":\"";
const BEFORE_STATE: &str = "\",\"state\":";
const AFTER_STATE: &str = "}\n";
/// Another one for every change of what is kept: a state that is half understood would miss something.
const VERSION: u32 = 2;

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

/// What every version of a state says.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why a state is not gone on with.
#[derive(Debug)]
enum NotRead {
    Damaged,
    OfVersion(u32),
}

impl NotRead {
    fn into_failure(self, path: &Path) -> Failure {
        let file = path.display();
        match self {
            Self::Damaged => Failure::usage(format!("the state {file} is damaged")).help(
                "put back a copy of it; without one move it away and the log is read anew from its beginning, but \
                 then compare with another monitor (--compare), for a fork before today would not be seen",
            ),
            Self::OfVersion(version) if version > VERSION => {
                Failure::usage(format!("the state {file} is of a newer rutli")).help("use that rutli, or a newer one")
            }
            Self::OfVersion(_) => Failure::usage(format!(
                "the state {file} is of an older rutli, which kept less of what it had read"
            ))
            .help(format!(
                "take its head out with `jq -j .state.note {file} > old-head`, move it away, and run this command \
                 again with `--compare old-head`: the log is read anew from its beginning, and a fork is still seen"
            )),
        }
    }
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
    /// Exit code 2: it is damaged, of another version, or of another log.
    pub fn read(path: &Path, origin: &Origin) -> Result<Self, Failure> {
        // A broken link is no missing file: there was a state once.
        if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(Self::new(origin.clone()));
        }
        let bytes = files::read_within(path, MAX_STATE_BYTES)?;
        let text = String::from_utf8(bytes).unwrap_or_default();
        let state = Self::decode(&text).map_err(|unread| unread.into_failure(path))?;
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
        if u64::try_from(text.len()).is_ok_and(|length| length > MAX_STATE_BYTES) {
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
            *count = count.saturating_add(finding.count);
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
        let state = serde_json::to_string(&record).map_err(|error| {
            Failure::failed(format!("the state cannot be written: {error}"))
                .help("report it; the file is as it was")
        })?;
        Ok(format!("{BEFORE_DIGEST}{}{BEFORE_STATE}{state}{AFTER_STATE}", sha256(state.as_bytes())))
    }

    fn decode(text: &str) -> Result<Self, NotRead> {
        let state = text.strip_prefix(BEFORE_DIGEST).and_then(|text| text.split_once(BEFORE_STATE));
        let (digest, state) = state.ok_or(NotRead::Damaged)?;
        let state = state.strip_suffix(AFTER_STATE).ok_or(NotRead::Damaged)?;
        if sha256(state.as_bytes()).to_string() != digest {
            return Err(NotRead::Damaged);
        }
        let Versioned { version } = serde_json::from_str(state).map_err(|_| NotRead::Damaged)?;
        if version != VERSION {
            return Err(NotRead::OfVersion(version));
        }
        serde_json::from_str(state).ok().and_then(Self::of).ok_or(NotRead::Damaged)
    }

    fn of(record: Record) -> Option<Self> {
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
    use rutli_log::{
        Entry,
        entry::{Dsse, Embargoed, Key, Outcome, OutcomeState, Request, Signables, kinds},
        leaf_hash,
        limits::{
            MAX_CHANNELS, MAX_CHECKPOINT_BYTES, MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS, MAX_KEYS,
            MAX_NAME_BYTES, MAX_OPEN, MAX_TREE_SIZE,
        },
    };
    use rutli_release::{Channel, Class, Product, ReleaseId, ReleaseKey, Requester, Sequence, Version};

    use super::*;
    use crate::log::limits::MAX_COMPARED;

    /// Entries that an auditor keeps as much of as it ever does, each as long as it may be.
    fn greedy(auditor: &mut Auditor) {
        let quotes = |number: usize| format!("{}{number:0>5}", "\"".repeat(MAX_NAME_BYTES - 5));
        let time = MAX_TREE_SIZE - MAX_EMBARGO_SECONDS;
        let (deadline, disclose_by) = (time + MAX_DEADLINE_SECONDS, time + MAX_EMBARGO_SECONDS);
        let signer = frost_ed25519::SigningKey::deserialize(&[1; 32]).unwrap();
        let public: [u8; 32] =
            frost_ed25519::VerifyingKey::from(&signer).serialize().unwrap().try_into().unwrap();
        let key = ReleaseKey::from_bytes(&public).unwrap();
        let mut read = |entry: Entry| {
            if auditor.size().is_multiple_of(1_000) {
                assert_eq!(
                    Entry::parse(&entry.encode()).as_ref(),
                    Ok(&entry),
                    "it is no longer than it may be"
                );
            }
            if let Entry::Dsse(dsse) = &entry {
                auditor.keep_leaf(dsse);
            }
            auditor.read(&entry);
            auditor.size() - 1
        };
        for number in 0..MAX_KEYS {
            read(Entry::Key(Key {
                ceremony: String::new(),
                document: Hash::EMPTY_ROOT,
                epoch: MAX_TREE_SIZE,
                kind: kinds::Key::default(),
                name: quotes(number),
                public_key: Hash(public),
                purpose: quotes(number),
                roster: sha256(&number.to_be_bytes()),
                time,
                transcript: Hash::EMPTY_ROOT,
            }));
        }
        for number in 0..MAX_OPEN {
            let statement = number.to_be_bytes();
            let (commitment, kind) = (Hash::EMPTY_ROOT, kinds::Request::default());
            let request = read(Entry::Embargoed(Embargoed {
                commitment,
                deadline,
                disclose_by,
                kind,
                roster: Hash::EMPTY_ROOT,
                time,
            }));
            read(signed(request, sha256(&statement), quotes(number)));
            read(Entry::Dsse(Dsse::new(b"", &statement, &key, &[255; 64])));
            // Between two embargoes each, so that all of them are kept.
            for channel in [0, 128] {
                let request = read(asked(channel + number % 128, time, deadline));
                read(signed(request, Hash::EMPTY_ROOT, quotes(number)));
            }
        }
        for number in 0..MAX_OPEN {
            read(asked(256 + number % (MAX_CHANNELS - 256), time, deadline));
        }
    }

    fn asked(channel: usize, time: u64, deadline: u64) -> Entry {
        let name = format!("{channel:0>64}");
        let numbers = [u64::MAX.to_string(), u64::MAX.to_string(), u64::MAX.to_string()].join(".");
        Entry::Request(Request {
            channel: Channel::new(name.as_str()).unwrap(),
            class: Class::ProductBuild,
            deadline,
            evidence: Vec::new(),
            kind: kinds::Request::default(),
            product: Product::new(name.as_str()).unwrap(),
            release: ReleaseId::new("r").unwrap(),
            requester: Requester::new("ci").unwrap(),
            roster: Hash::EMPTY_ROOT,
            sequence: Sequence::new(MAX_TREE_SIZE).unwrap(),
            signables: Signables::default(),
            statement: Hash::EMPTY_ROOT,
            time,
            version: Version::new(format!("{numbers}.0").as_str()).unwrap(),
        })
    }

    fn signed(request: u64, statement: Hash, key: String) -> Entry {
        Entry::Outcome(Outcome {
            key: Some(key),
            kind: kinds::Outcome::default(),
            refusals: Vec::new(),
            request,
            roster: Some(Hash::EMPTY_ROOT),
            signatures: Some(Hash::EMPTY_ROOT),
            signed_by: vec![String::new()],
            state: OutcomeState::Signed,
            statement,
            time: 0,
        })
    }

    #[test]
    fn the_largest_state_can_be_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, origin) = (folder.path().join("state"), Origin::new("log.example/2026").unwrap());
        let mut state = State::new(origin.clone());
        greedy(&mut state.auditor);
        while state.tiles.size() < state.auditor.size() {
            state.tiles.push(leaf_hash(b""));
        }
        state.root = Frontier::of(&state.tiles, state.tiles.size()).unwrap().head().root;
        let note = "\n".repeat(MAX_CHECKPOINT_BYTES);
        state.note = Some(note.clone());
        state.ahead = (0..MAX_COMPARED).map(|number| (number.to_string(), note.clone())).collect();
        state.write(&path).unwrap();
        let length = path.metadata().unwrap().len();
        assert!((30 << 20..40 << 20).contains(&length), "{length}");
        let read = State::read(&path, &origin).unwrap();
        assert_eq!(read.auditor, state.auditor);
        assert_eq!(read.auditor.embargoes(), MAX_OPEN);
        assert_eq!(read.auditor.open_requests(), MAX_OPEN);
    }

    #[test]
    fn a_state_of_another_version_is_refused_with_a_way_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, origin) = (folder.path().join("state"), Origin::new("log.example/2026").unwrap());
        let text = State::new(origin.clone()).encode().unwrap();
        let (_, state) = text.split_once(BEFORE_STATE).unwrap();
        let state = state.strip_suffix(AFTER_STATE).unwrap();
        for (version, problem, help) in [
            (VERSION - 1, "is of an older rutli", "--compare old-head"),
            (VERSION + 1, "is of a newer rutli", "use that rutli"),
        ] {
            // As an older version wrote it: an auditor that cannot be read.
            let other = state
                .replace("\"auditor\":{", "\"auditor\":{\"other\":1,")
                .replace(&format!("\"version\":{VERSION}"), &format!("\"version\":{version}"));
            let digest = sha256(other.as_bytes());
            std::fs::write(&path, format!("{BEFORE_DIGEST}{digest}{BEFORE_STATE}{other}{AFTER_STATE}"))
                .unwrap();
            let failure = State::read(&path, &origin).unwrap_err();
            assert_eq!(failure.exit.code(), 2);
            assert!(failure.problem.contains(problem), "{failure}");
            assert!(failure.help.as_ref().unwrap().contains(help), "{failure}");
        }
    }

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
