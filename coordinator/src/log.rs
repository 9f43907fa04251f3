//! The transparency log, written: every request is in it before any node is asked to sign.
//!
//! The order is that of Sunlight: entries are staged and the signed checkpoint is swapped in **one transaction of the
//! store**, the one that also admits or ends the releases in question: the commit point, and the only fsync that a
//! release waits for. Tiles, bundles and documents follow, then `checkpoint`, in the [`publisher`]'s rounds; whatever
//! crashes in between is replayed from the staging.
//!
//! | file | holds |
//! | --- | --- |
//! | `log.rs` | the newest head and its tree, and proofs from it |
//! | [`sequencer`] | gives entries their places and signs the head, inside the store's transaction |
//! | [`folder`] | tiles, bundles, documents and `checkpoint` as files |
//! | [`publisher`] | rounds: write, have cosigned, publish, prove |
//! | [`bundles`] | signs for Sigstore's verifiers |
//! | [`web`] | the folder over HTTP |
//! | [`outside`] | what witnesses outside of the deployment say, collected on the side |
//! | [`witness`] | one of them |

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard},
};

use rutli_keys::{NodeId, Roster, RosterOrganisation, SignedRoster};
use rutli_log::{
    Cosignature, Entry, Frontier, Hash, Head, LogKey, MissingTile, NotProved, SignedCheckpoint, TileHashes,
    Tiles, check_consistency, check_inclusion,
    entry::{self, NodeEvent, kinds},
    sha256,
};
use rutli_wire::link::{KeptLog, Witnessed};
use tokio::sync::{Notify, watch};

use crate::{
    error::{Error, Result},
    limits,
};

pub mod bundles;
pub mod folder;
pub mod outside;
pub mod publisher;
pub mod sequencer;
pub mod web;
pub mod witness;

use folder::LogFolder;

/// The log as all but its writer see it; clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    key: LogKey,
    folder: LogFolder,
    tree: RwLock<Tree>,
    size: watch::Sender<u64>,
    collecting: Mutex<Collecting>,
    published: Mutex<Published>,
    attached: Notify,
    said: Notify,
    /// Why nothing may be appended any more.
    stopped: watch::Sender<Option<String>>,
    /// Nodes that showed a checkpoint which the log does not extend, with its size.
    contradicting: Mutex<BTreeMap<NodeId, u64>>,
}

/// The cosignatures of one head, unverified, as they come.
#[derive(Default)]
struct Collecting {
    size: u64,
    cosignatures: BTreeMap<NodeId, Cosignature>,
}

/// The published head. Every node that attaches is shown it first: a node restored from an old copy
/// recognises that by its own cosignature beyond its head.
#[derive(Default)]
struct Published {
    newest: Option<SignedCheckpoint>,
    /// The newest that each node cosigned.
    cosigned: BTreeMap<NodeId, SignedCheckpoint>,
}

/// The newest committed head, and as much of its tree as is in memory.
struct Tree {
    newest: SignedCheckpoint,
    tiles: Tiles,
    /// Entries that lie in the folder.
    written: u64,
}

impl Log {
    fn new(key: LogKey, folder: LogFolder, newest: SignedCheckpoint, tiles: Tiles, written: u64) -> Self {
        let (size, _) = watch::channel(newest.head().size);
        let tree = RwLock::new(Tree { newest, tiles, written });
        Self(Arc::new(Shared {
            key,
            folder,
            tree,
            size,
            collecting: Mutex::default(),
            published: Mutex::default(),
            attached: Notify::new(),
            said: Notify::new(),
            stopped: watch::Sender::new(None),
            contradicting: Mutex::default(),
        }))
    }

    /// The key that signs its checkpoints.
    #[must_use]
    pub fn key(&self) -> &LogKey {
        &self.0.key
    }

    /// The newest committed head.
    #[must_use]
    pub fn newest(&self) -> SignedCheckpoint {
        self.tree().newest.clone()
    }

    /// Entries under the newest head, now and after each change.
    #[must_use]
    pub fn size(&self) -> watch::Receiver<u64> {
        self.0.size.subscribe()
    }

    /// The head of the first `size` entries.
    ///
    /// # Errors
    /// [`Error::File`] if older tiles cannot be read.
    pub fn head_at(&self, size: u64) -> Result<Head> {
        self.read(size, |tiles| Frontier::of(tiles, size).map(|frontier| frontier.head()))
    }

    /// A node attaches, and keeps this of the log. It contradicts the log if it has a checkpoint that the log signed and does
    /// not extend: nothing else of what it says shows that. Reads files.
    pub fn kept_by(&self, node: &NodeId, kept: &KeptLog) {
        let own = self.newest().head().size;
        let Ok(shown) = self.key().open(&kept.checkpoint) else {
            self.agrees(node);
            if kept.size > own {
                tracing::warn!(
                    %node, keeps = kept.size, own,
                    "a node keeps a longer log, and shows no checkpoint of it that this log signed: this store is an old \
                     copy, the node's custodian vouched for a wrong head, or the node follows another log"
                );
            }
            return;
        };
        let keeps = shown.head().size;
        match self.extends(&shown.head()) {
            Ok(true) => self.agrees(node),
            Ok(false) => {
                tracing::error!(%node, keeps, own, "the log does not extend what a node has seen of it");
                self.contradictions().insert(node.clone(), keeps);
            }
            Err(error) => {
                tracing::error!(%node, keeps, %error, "nobody knows whether the log extends what the node has seen");
            }
        }
    }

    /// A node does not contradict the log, or no longer: it took a head of it.
    pub fn agrees(&self, node: &NodeId) {
        self.contradictions().remove(node);
    }

    /// Stops the log if nodes without which nothing is signed contradict it: whatever is appended forks it. Nothing is,
    /// until the process is started again. A single node of many may have been led astray once, and must not stop
    /// everything with what it was shown then.
    pub fn stop_if_contradicted(&self, active: Option<&Roster>) {
        let contradicting = self.contradictions().clone();
        if contradicting.is_empty() {
            return;
        }
        let vetoes = |organisation: &RosterOrganisation| {
            let others = organisation.nodes.iter().filter(|node| !contradicting.contains_key(&node.id));
            others.count() < usize::from(organisation.threshold)
        };
        if active.is_some_and(|roster| !roster.organisations().iter().any(vetoes)) {
            return;
        }
        let own = self.newest().head().size;
        let nodes: Vec<String> =
            contradicting.iter().map(|(node, size)| format!("{node} ({size} entries)")).collect();
        let reason = format!(
            "this store is an old copy, or another coordinator writes its log: its {own} entries do not extend what the log \
             showed to {}. Stop the coordinator, and restore the newest copies of the store and the log's folder. If these \
             are the newest, see Recover in the operator's guide on the log",
            nodes.join(", ")
        );
        self.0.stopped.send_replace(Some(reason));
    }

    /// Why nothing may be appended.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        self.0.stopped.borrow().clone()
    }

    /// Waits until nothing may be appended.
    pub async fn until_stopped(&self) {
        // The sender is this log's own.
        let _: Result<_, watch::error::RecvError> =
            self.0.stopped.subscribe().wait_for(Option::is_some).await;
    }

    /// Entries that wait to be written to the folder.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let tree = self.tree();
        tree.newest.head().size.saturating_sub(tree.written)
    }

    /// The proof that the tree of `new`, a head of this log, begins with that of `old` entries; empty if the old one is the longer, which no
    /// proof can show.
    ///
    /// # Errors
    /// [`Error::File`] if older tiles cannot be read.
    pub fn consistency(&self, old: u64, new: &Head) -> Result<Vec<Hash>> {
        if old > new.size {
            return Ok(Vec::new());
        }
        let proof = self.read(new.size, |tiles| tiles.prove_consistency(old, new.size))?;
        // What was read from a file is believed by nobody: neither are its proofs.
        check_consistency(&self.head_at(old)?, new, &proof).map_err(damaged)?;
        Ok(proof)
    }

    /// Whether the newest tree begins with that of `old`.
    ///
    /// # Errors
    /// [`Error::File`] if older tiles cannot be read, [`Error::Log`] if they are damaged.
    fn extends(&self, old: &Head) -> Result<bool> {
        let newest = self.newest().head();
        if old.size > newest.size {
            return Ok(false);
        }
        // The proof is checked against the signed head first, so that damaged tiles do not pass for another history.
        let proof = self.consistency(old.size, &newest)?;
        Ok(check_consistency(old, &newest, &proof).is_ok())
    }

    /// The proof that an entry is in the tree of `head`, a head of this log.
    ///
    /// # Errors
    /// [`Error::File`] if older tiles cannot be read; [`Error::Store`] if there is no such entry; [`Error::Log`] if the
    /// tiles in the folder do not prove it.
    pub fn inclusion(&self, index: u64, leaf: Hash, head: &Head) -> Result<Vec<Hash>> {
        let size = head.size;
        if index >= size {
            return Err(Error::Store { reason: format!("entry {index} is not in a log of {size}") });
        }
        let proof = self.read(size, |tiles| tiles.prove_inclusion(index, size))?;
        check_inclusion(head, index, leaf, &proof).map_err(damaged)?;
        Ok(proof)
    }

    /// Begins to collect the cosignatures of the newest head.
    pub fn collect(&self) -> SignedCheckpoint {
        let newest = self.newest();
        *self.collecting() = Collecting { size: newest.head().size, ..Collecting::default() };
        newest
    }

    /// Takes what a node says that it keeps, if that is what is being collected; it is verified when it is used.
    pub fn witnessed(&self, node: &NodeId, witnessed: Witnessed) {
        let mut collecting = self.collecting();
        if let Some(cosignature) = witnessed.cosignature.filter(|_| witnessed.size == collecting.size) {
            collecting.cosignatures.insert(node.clone(), cosignature);
        }
        drop(collecting);
        self.heard();
    }

    /// What was collected so far.
    #[must_use]
    pub fn collected(&self) -> BTreeMap<NodeId, Cosignature> {
        self.collecting().cosignatures.clone()
    }

    /// A head was published, with the cosignatures of these nodes.
    pub fn published(&self, checkpoint: &SignedCheckpoint, nodes: &[NodeId]) {
        let mut published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.newest = Some(checkpoint.clone());
        for node in nodes {
            published.cosigned.insert(node.clone(), checkpoint.clone());
        }
    }

    /// The published head that a node is shown first when it attaches and keeps one of `size` entries: the newest that it
    /// cosigned itself, if that is beyond its own; or else the newest, unless the node is ahead of it.
    #[must_use]
    pub fn first_for(&self, node: &NodeId, size: u64) -> Option<SignedCheckpoint> {
        let published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        let own = published.cosigned.get(node).filter(|checkpoint| checkpoint.head().size > size);
        own.or(published.newest.as_ref().filter(|checkpoint| checkpoint.head().size >= size)).cloned()
    }

    /// What was published and cosigned before this process.
    fn recovered(&self, newest: Option<SignedCheckpoint>, cosigned: BTreeMap<NodeId, SignedCheckpoint>) {
        *self.0.published.lock().unwrap_or_else(PoisonError::into_inner) = Published { newest, cosigned };
    }

    /// Entries under the newest published head that each node cosigned.
    #[must_use]
    pub fn cosigned_sizes(&self) -> BTreeMap<NodeId, u64> {
        let published = self.0.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.cosigned.iter().map(|(node, checkpoint)| (node.clone(), checkpoint.head().size)).collect()
    }

    /// Says that somebody said something of the log.
    pub fn heard(&self) {
        self.0.said.notify_one();
    }

    /// Says that a node is there that has not been asked to cosign.
    pub fn attached(&self) {
        self.0.attached.notify_one();
    }

    /// Waits for a node that attached, if none has since the last time.
    pub async fn attached_since(&self) {
        self.0.attached.notified().await;
    }

    /// Waits for a node or witness to say something of the log, if none has since the last time.
    pub async fn said(&self) {
        self.0.said.notified().await;
    }

    fn contradictions(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, u64>> {
        self.0.contradicting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collecting(&self) -> std::sync::MutexGuard<'_, Collecting> {
        self.0.collecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the tree, with tiles from the folder where they are not in memory.
    fn read<T>(&self, size: u64, read: impl Fn(&Tiles) -> Result<T, MissingTile>) -> Result<T> {
        let mut missing = match read(&self.tree().tiles) {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        // Tiles from the folder are lent to the tree while it is read, so that whoever asks for old proofs all day does
        // not fill the memory. They come one at a time, at most two for each level: this ends.
        let mut lent: Vec<(MissingTile, TileHashes)> = Vec::new();
        loop {
            lent.push((missing, self.0.folder.read_tile(missing, size)?));
            let mut tree = self.0.tree.write().unwrap_or_else(PoisonError::into_inner);
            lent.iter().for_each(|(id, tile)| tree.tiles.insert(*id, tile.clone()));
            let found = read(&tree.tiles);
            lent.iter().for_each(|(id, _)| tree.tiles.remove(*id));
            match found {
                Ok(found) => return Ok(found),
                Err(next) => missing = next,
            }
        }
    }

    /// Everything below `size` lies in the folder.
    pub(crate) fn written(&self, size: u64) {
        self.change(|tree| tree.written = size);
    }

    /// A head was committed: its leaves follow those before.
    fn committed(&self, newest: SignedCheckpoint, leaves: &[Hash]) {
        let size = newest.head().size;
        self.change(|tree| {
            leaves.iter().for_each(|leaf| tree.tiles.push(*leaf));
            // What is not in the folder yet is nowhere else.
            tree.tiles.shrink_within(tree.written, limits::LOG_TILES_IN_MEMORY);
            tree.newest = newest;
        });
        self.0.size.send_replace(size);
    }

    fn tree(&self) -> RwLockReadGuard<'_, Tree> {
        self.0.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Tree)) {
        change(&mut self.0.tree.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn damaged(problem: NotProved) -> Error {
    Error::Log(format!("a tile in the log's folder is damaged ({problem}): restore the folder from a mirror"))
}

/// The entry of a node that was named as a culprit or reinstated; `at` in Unix seconds.
#[must_use]
pub fn node_entry(node: &NodeId, event: NodeEvent, reason: &str, at: u64) -> Vec<u8> {
    let kind = kinds::Node::default();
    Entry::Node(entry::Node { event, kind, node: node.to_string(), reason: entry::cut(reason), time: at })
        .encode()
}

/// The entry of a key that a ceremony made; `at` in Unix seconds.
#[must_use]
pub fn key_entry(key: &SignedRoster, at: u64) -> Vec<u8> {
    let roster = key.roster();
    Entry::Key(entry::Key {
        ceremony: roster.ceremony().to_string(),
        document: sha256(&key.encode()),
        epoch: roster.epoch(),
        kind: kinds::Key::default(),
        name: roster.key().to_string(),
        public_key: Hash(*roster.group_key()),
        purpose: roster.purpose().as_str().to_owned(),
        roster: Hash(*roster.hash().as_bytes()),
        time: at,
        transcript: Hash(*roster.transcript()),
    })
    .encode()
}

#[cfg(test)]
mod tests;
