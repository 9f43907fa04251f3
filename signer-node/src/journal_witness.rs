//! The witness of the journal: a small file outside of the data folder that records how far the journal has
//! got.
//!
//! An old copy of the data folder is consistent in itself. Only something that is not reverted together with
//! it can show that it is old. The file is replaced as a whole after commits, at most once in
//! [`limits::JOURNAL_WITNESS_MS`], and at the stop, so no batch waits for it. At startup, a journal that is
//! behind its witness, or is a different one, counts as lost state ([`Lost`]), and so does any journal or key
//! without a witness. The witness may lack only what was written within that time before a crash: a journal
//! ahead of its witness is valid.
//!
//! ```text
//! {"custodians":{…},"heads":{"log.example/1":{"root":"…","size":17}},"journal":"…","node":"vendor/vendor-1",…}
//! SHA-256 of that line, in hexadecimal
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rutli_keys::NodeId;
use rutli_log::{Hash, Head, sha256};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    config::read_limited,
    error::Error,
    journal::{Chain, Journal, Point},
    key_store::{make_private_folder, write_durably},
    limits,
};

/// The file, and whose it is.
#[derive(Clone, Debug)]
pub struct JournalWitness {
    path: PathBuf,
    node: NodeId,
}

/// Why a journal is not the node's newest. Nothing is signed until the custodian restores it, or decides to
/// go on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// There is no journal, but there are keys, or a witness.
    #[error("the journal in {journal} is empty, and this node has {what} from before")]
    Empty {
        /// The file.
        journal: PathBuf,
        /// Keys, or a witness.
        what: &'static str,
    },
    /// Nothing shows whether it is the newest: it was moved to another machine, or the witness was removed.
    #[error("the journal has no witness at {witness}, so nothing says that it is the newest")]
    NoWitness {
        /// Where it should be.
        witness: PathBuf,
    },
    /// The witness is damaged.
    #[error(
        "the journal's witness {witness} is unreadable ({problem}), so nothing says that it is the newest"
    )]
    Unreadable {
        /// The file.
        witness: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another node's, or another journal of this node.
    #[error("the witness {witness} is of another journal")]
    Other {
        /// The file.
        witness: PathBuf,
    },
    /// An old copy.
    #[error(
        "the journal is an old copy: it has {journal} {what}, and its witness {witness} knows of {known}"
    )]
    Behind {
        /// The file.
        witness: PathBuf,
        /// What is counted.
        what: &'static str,
        /// In the journal.
        journal: u64,
        /// By the witness.
        known: u64,
    },
    /// As many lines, and others.
    #[error("the journal has another history than its witness {witness} knows of: its {what} differ")]
    Differs {
        /// The file.
        witness: PathBuf,
        /// What differs.
        what: &'static str,
    },
}

impl Lost {
    /// The problem and the way out, for a person.
    #[must_use]
    pub fn reason(&self) -> String {
        format!(
            "this node's memory is lost: {self}. Restore its newest backup with `rutli-signer restore`; or accept what is \
             there with `rutli node resume`, and the node catches up with its peers before it signs"
        )
    }
}

impl JournalWitness {
    /// The witness of a node's journal.
    #[must_use]
    pub fn new(path: PathBuf, node: NodeId) -> Self {
        Self { path, node }
    }

    /// Why a journal is not the newest of this node, if it is not. `None`: it is, or this is the first start, without keys,
    /// journal and witness.
    ///
    /// # Errors
    /// What the journal or the disk says.
    pub async fn lost(&self, journal: &Journal, holds_keys: bool) -> Result<Option<Lost>, Error> {
        let witness = self.path.clone();
        let known = match self.read() {
            Ok(known) => known,
            Err(problem) => return Ok(Some(Lost::Unreadable { witness, problem })),
        };
        let empty = |what| Some(Lost::Empty { journal: journal.path().to_path_buf(), what });
        let own = journal.point().borrow().clone();
        match known {
            None if own.is_blank() && holds_keys => Ok(empty("keys")),
            None if own.is_blank() => Ok(None),
            None => Ok(Some(Lost::NoWitness { witness })),
            Some(known) if own.is_blank() && own.journal != known.journal => Ok(empty("a witness of one")),
            Some(known) => self.compare(&known, &own, journal).await,
        }
    }

    /// Compares a journal with its witness: it must have got at least as far, with the same lines up to
    /// there.
    async fn compare(&self, known: &Point, own: &Point, journal: &Journal) -> Result<Option<Lost>, Error> {
        let witness = || self.path.clone();
        if own.journal != known.journal {
            return Ok(Some(Lost::Other { witness: witness() }));
        }
        let behind = |what, journal: u64, known: u64| {
            (journal < known).then(|| Lost::Behind { witness: witness(), what, journal, known })
        };
        let counted = behind("permissions", own.permitted.count, known.permitted.count)
            .or_else(|| behind("refusals", own.refused.count, known.refused.count))
            .or_else(|| behind("custodians' refusals", own.custodians.count, known.custodians.count))
            .or_else(|| behind("other changes", own.changes, known.changes));
        if counted.is_some() {
            return Ok(counted);
        }
        for (origin, head) in &known.heads {
            let own = own.heads.get(origin).copied().unwrap_or(Head::EMPTY);
            if let Some(lost) = behind("entries of its log", own.size, head.size) {
                return Ok(Some(lost));
            }
            if own.size == head.size && own.root != head.root {
                return Ok(Some(Lost::Differs { witness: witness(), what: "heads of the log" }));
            }
        }
        let differs = |what, own: Chain, known: Chain| {
            (own.count == known.count && own.head != known.head)
                .then(|| Lost::Differs { witness: witness(), what })
        };
        if journal.permitted_after(known.permitted.count).await? != Some(known.permitted.head) {
            return Ok(Some(Lost::Differs { witness: witness(), what: "permissions" }));
        }
        Ok(differs("refusals", own.refused, known.refused)
            .or_else(|| differs("custodians' refusals", own.custodians, known.custodians)))
    }

    /// Makes a point durable, replacing the previous one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, point: &Point) -> Result<(), Error> {
        let body = serde_json::to_string(&Body::of(point, &self.node))
            .map_err(|error| Error::file("write", &self.path)(io::Error::other(error)))?;
        let text = format!("{body}\n{}\n", sha256(body.as_bytes()));
        if let Some(folder) = self.path.parent() {
            make_private_folder(folder)?;
        }
        write_durably(&self.path, text.as_bytes())
    }

    /// What is known; `None` if there is no file. The error is for a person.
    fn read(&self) -> Result<Option<Point>, String> {
        if !fs::exists(&self.path).map_err(|error| error.to_string())? {
            return Ok(None);
        }
        let bytes =
            read_limited(&self.path, limits::MAX_JOURNAL_WITNESS_BYTES).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is not text")?;
        let (body, digest) = text.split_once('\n').ok_or("it is cut short")?;
        if digest.strip_suffix('\n') != Some(sha256(body.as_bytes()).to_string().as_str()) {
            return Err("its checksum is wrong".into());
        }
        let body: Body = serde_json::from_str(body).map_err(|error| error.to_string())?;
        if body.node != self.node.to_string() {
            return Err(format!("it is of the node {}", body.node));
        }
        Ok(Some(body.into_point()))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the journal's point after commits, from the time on at which the journal is accepted as the node's, until the
    /// stop. While it cannot be written the journal says why ([`Journal::witness_problem`]).
    pub async fn keep(self, journal: Journal, stop: CancellationToken) {
        let (mut point, mut accepted) = (journal.point(), journal.accepted());
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = accepted.wait_for(|accepted| *accepted) => if accepted.is_err() { return },
        }
        point.mark_changed();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = point.changed() => if changed.is_err() { return },
            }
            let (witness, now) = (self.clone(), point.borrow_and_update().clone());
            // Not interrupted by the stop: the last write comes after it.
            let written = tokio::task::spawn_blocking(move || witness.write(&now)).await;
            let problem = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the thread that writes it ended".to_owned()),
            };
            if problem.is_some() {
                point.mark_changed();
            }
            journal.set_witness_problem(problem);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(limits::JOURNAL_WITNESS_MS)) => {}
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    changes: u64,
    custodians: BodyChain,
    heads: BTreeMap<String, BodyHead>,
    journal: Hash,
    node: String,
    permitted: BodyChain,
    refused: BodyChain,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyChain {
    count: u64,
    head: Hash,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyHead {
    root: Hash,
    size: u64,
}

impl Body {
    fn of(point: &Point, node: &NodeId) -> Self {
        let chain = |chain: Chain| BodyChain { count: chain.count, head: chain.head };
        let head = |(origin, head): (&String, &Head)| {
            (origin.clone(), BodyHead { root: head.root, size: head.size })
        };
        Self {
            changes: point.changes,
            custodians: chain(point.custodians),
            heads: point.heads.iter().map(head).collect(),
            journal: point.journal,
            node: node.to_string(),
            permitted: chain(point.permitted),
            refused: chain(point.refused),
        }
    }

    fn into_point(self) -> Point {
        let chain = |chain: BodyChain| Chain { count: chain.count, head: chain.head };
        let head = |(origin, head): (String, BodyHead)| (origin, Head { size: head.size, root: head.root });
        Point {
            journal: self.journal,
            permitted: chain(self.permitted),
            refused: chain(self.refused),
            custodians: chain(self.custodians),
            changes: self.changes,
            heads: self.heads.into_iter().map(head).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
