//! `rutli log prove` and `rutli log show INDEX`: one entry, with the proof that the published head commits to it.

use rutli_keys::limits::MAX_ROSTER_BYTES;
use rutli_log::{Entry, Hash, ProofFile, TileId, check_inclusion, leaf_hash, limits::TILE_WIDTH, sha256};
use rutli_release::limits::MAX_STATEMENT_BYTES;
use serde_json::{Value, json};

use super::{
    source::Source,
    trust::{Opened, Trust},
};
use crate::{
    cli::{LogPlace, LogProve},
    files::{self, Access},
    report::{self, Failure, Report},
    text,
};

/// An entry that the published head commits to.
struct Proved {
    source: Source,
    opened: Opened,
    index: u64,
    bytes: Vec<u8>,
    leaf: Hash,
    proof: ProofFile,
}

/// `rutli log prove`
///
/// # Errors
/// Exit code 1 for a log that does not hold, 2 for an index that is not there and for files, 3 for a source that does not
/// answer.
pub fn run(args: &LogProve) -> Result<Report, Failure> {
    let proved = Proved::fetch(&args.place, args.index)?;
    let proof = proved.proof.to_string();
    if let Some(path) = &args.out {
        files::write_atomically(path, proof.as_bytes(), Access::Public)?;
    }
    let text = match &args.out {
        Some(path) => format!(
            "verified: entry {} is in the log {} of {} entries; proof written to {}",
            proved.index,
            proved.opened.checkpoint.origin(),
            proved.opened.checkpoint.head().size,
            path.display()
        ),
        None => proof.trim_end().to_owned(),
    };
    let json = json!({
        "log": proved.opened.checkpoint.origin().as_str(),
        "size": proved.opened.checkpoint.head().size,
        "index": proved.index,
        "leaf": proved.leaf.to_string(),
        "cosigned_by": proved.opened.cosigned_by,
        "proof": proof,
        "written": args.out,
    });
    Ok(Report::new(text, json))
}

/// `rutli log show INDEX`
///
/// # Errors
/// As [`run`].
pub fn show(place: &LogPlace, index: u64) -> Result<Report, Failure> {
    let proved = Proved::fetch(place, index)?;
    let entry = Entry::parse(&proved.bytes).map_err(|error| {
        Failure::failed(format!("entry {index} is in the log, but {error}"))
            .help("this program may be older than the log: update it")
    })?;
    let value: Value = serde_json::from_slice(&proved.bytes).map_err(|error| {
        Failure::failed(format!("entry {index} is no JSON: {error}"))
            .help("run `rutli log monitor --once`, which says what is wrong and what to do")
    })?;
    let document = document(&proved.source, &entry)?;
    let head = proved.opened.checkpoint.head();
    // Escaped as JSON, so no entry can move the cursor.
    let pretty = report::pretty(&value);
    let mut lines = vec![
        text::fields([
            ("entry", format!("{index}, {}", entry.kind())),
            ("leaf", proved.leaf.to_string()),
            ("in", format!("{} of {} entries", proved.opened.checkpoint.origin(), head.size)),
        ]),
        pretty,
    ];
    if let Some(document) = &document {
        lines.push(format!("its document:\n{}", text::printable(document)));
    }
    let json = json!({
        "log": proved.opened.checkpoint.origin().as_str(),
        "size": head.size,
        "index": index,
        "leaf": proved.leaf.to_string(),
        "entry": value,
        "document": document,
    });
    Ok(Report::new(lines.join("\n\n"), json))
}

/// The statement or signed roster that an entry names.
fn document(source: &Source, entry: &Entry) -> Result<Option<String>, Failure> {
    let (digest, max_bytes) = match entry {
        Entry::Request(request) => (request.statement, MAX_STATEMENT_BYTES),
        Entry::Disclosure(disclosure) => (disclosure.opened.statement, MAX_STATEMENT_BYTES),
        Entry::Key(key) => (key.document, MAX_ROSTER_BYTES),
        Entry::Embargoed(_) | Entry::Evidence(_) | Entry::Outcome(_) | Entry::Dsse(_) | Entry::Node(_) => {
            return Ok(None);
        }
    };
    let what = format!("document {digest}");
    let bytes = source.document(&digest, max_bytes).map_err(|error| error.into_failure(&what, source))?;
    if sha256(&bytes) != digest {
        return Err(Failure::failed(format!("the {what} at {} has another content", source.name()))
            .help("keep a copy of it as evidence, and compare with another mirror of the log"));
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

impl Proved {
    fn fetch(place: &LogPlace, index: u64) -> Result<Self, Failure> {
        let trust = Trust::read(place)?;
        let source = Source::open(&place.log, place.ca.as_deref())?;
        let failed = |error: super::source::Unread| error.into_failure("log", &source);
        let note = source.checkpoint().map_err(|error| error.into_failure("checkpoint", &source))?;
        let opened = trust.open_witnessed(&note)?;
        let head = opened.checkpoint.head();
        let (bundle, place) = (index / u64::from(TILE_WIDTH), index % u64::from(TILE_WIDTH));
        let id = TileId::in_tree(None, bundle, head.size).filter(|_| index < head.size).ok_or_else(|| {
            Failure::usage(format!("there is no entry {index} in a log of {} entries", head.size))
                .help("entries are counted from 0")
        })?;
        let lying = source.bundle(id).map_err(failed)?;
        let entries = lying.entries().map_err(failed)?;
        let bytes = usize::try_from(place).ok().and_then(|place| entries.get(place)).copied();
        let bytes = bytes.unwrap_or_default().to_vec();
        let leaf = leaf_hash(&bytes);
        let proof = source.prove_inclusion(index, head.size).map_err(failed)?;
        check_inclusion(&head, index, leaf, &proof).map_err(|error| {
            Failure::failed(format!("entry {index} is not shown to be in the log: {error}"))
                .help("run `rutli log monitor --once`, which says what is wrong and what to do")
        })?;
        let proof = ProofFile { extra: None, index, hashes: proof, checkpoint: opened.checkpoint.to_note() };
        Ok(Self { source, opened, index, bytes, leaf, proof })
    }
}
