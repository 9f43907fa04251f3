//! The published side of the log: immutable files by name in a local folder, as c2sp.org/tlog-tiles lays them out
//! ([`rutli_log::tile`]), so that any web server or CDN can serve them.
//!
//! **What counts is the store.** An entry is in the log once the store has committed a signed checkpoint over it; this
//! folder follows. One round of its writer:
//!
//! 1. [`Appender::append`]: documents, then tiles and entry bundles, durable;
//! 2. [`Appender::publish`]: the checkpoint, and after it the head for Sigstore's tools, in the place of the ones before;
//! 3. [`Appender::forget_partials`]: partial tiles that have become full are removed;
//! 4. the caller empties the store's staging up to there, and so tells where a restart takes up.
//!
//! A crash anywhere has the round done again from where staging begins, to the same files. What lies here already must
//! compare equal, and what is read here is only believed if it leads to a root that the store knows.
//!
//! Everything blocks on the disk: call it from a thread that may wait. One process writes at a time; the store's lock
//! sees to that.

mod batch;

use std::path::{Path, PathBuf};

use rutli_log::{
    EntryBundle, Frontier, Hash, Head, LogKey, MissingTile, SignedCheckpoint, TileHashes, TileId, Tiles,
    check_consistency, leaf_hash,
    limits::{MAX_CHECKPOINT_BYTES, MAX_TILE_LEVEL, TILE_WIDTH},
    sha256,
    sigstore::SigstoreHead,
    tile::document_path,
};

use crate::{
    crash::crash_point,
    error::{Error, Result},
};
use batch::Batch;

/// The file with the newest published head.
const CHECKPOINT: &str = "checkpoint";
/// The file with the newest head for Sigstore's tools: of a tree that a quorum of nodes cosigned.
const SIGSTORE_CHECKPOINT: &str = "checkpoint-sigstore";

/// The log's folder, for reading. Clones are the same folder.
#[derive(Clone, Debug)]
pub struct LogFolder {
    path: PathBuf,
}

/// Writes the log's folder: the one who knows its right edge.
#[derive(Debug)]
pub struct Appender {
    folder: LogFolder,
    /// What is durable here, and leads to a root of the store's.
    head: Head,
    /// The partial tiles of that head, and nothing else.
    edge: Tiles,
    /// The entries of its partial bundle.
    bundle: EntryBundle,
    /// Of all tiles that were full in a tree of this size no partial ones are left, as far as this process is concerned.
    forgotten: u64,
}

impl LogFolder {
    /// Opens the folder, and makes it if it is not there: for everybody to read, and durable.
    ///
    /// # Errors
    /// [`Error::File`]
    pub fn open(path: &Path) -> Result<Self> {
        batch::make_root(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes up writing at `head`, which the store vouches for: it is where the store's staging begins. The right edge is
    /// read from files, and every hash and entry of it recomputed up to the root: a file is no witness for itself.
    ///
    /// # Errors
    /// [`Error::File`] if a tile is missing or cannot be read, [`Error::LogForked`] if one is not of this tree.
    pub fn resume(&self, head: Head) -> Result<Appender> {
        let mut edge = Tiles::of_size(head.size);
        for level in 0..=MAX_TILE_LEVEL {
            if let Some(id) = partial(Some(level), head.size) {
                let tile = self.tile(id)?;
                let hashes = tile.hashes().iter().copied().take(usize::from(id.width));
                edge.insert(MissingTile { level, index: id.index }, TileHashes::new(hashes));
            }
        }
        let root = Frontier::of(&edge, head.size).map(|frontier| frontier.head().root);
        if root != Ok(head.root) {
            return Err(self.forked(
                "",
                format!(
                    "its tiles do not lead to the root that the store has for {} entries: they are of another log, or \
                     were changed; keep them aside as evidence, restore the newest copy of this folder, start again",
                    head.size
                ),
            ));
        }
        let bundle = self.partial_bundle(&edge)?;
        Ok(Appender { folder: self.clone(), head, edge, bundle, forgotten: head.size })
    }

    /// A tile of the tree of `size` entries: the full one, if the partial one has gone. It is what lies in a file: a
    /// proof made from it must be checked before it is believed.
    ///
    /// # Errors
    /// [`Error::File`] if it is not there, [`Error::LogForked`] if it has not the form of a tile.
    pub fn read_tile(&self, missing: MissingTile, size: u64) -> Result<TileHashes> {
        match TileId::in_tree(Some(missing.level), missing.index, size) {
            Some(id) => self.tile(id),
            None => Err(self.wrong("", format!("{missing}, and a tree of {size} entries has none"))),
        }
    }

    /// The newest published checkpoint, as it lies there.
    ///
    /// # Errors
    /// [`Error::File`]
    pub fn published(&self) -> Result<Option<String>> {
        self.note(CHECKPOINT)
    }

    /// The newest published head for Sigstore's tools, as it lies there: of the tree of [`published`](Self::published), or of
    /// an older one.
    ///
    /// # Errors
    /// [`Error::File`]
    pub fn published_sigstore(&self) -> Result<Option<String>> {
        self.note(SIGSTORE_CHECKPOINT)
    }

    /// On start: has the world seen a head that the store knows nothing of? `prove` gives the consistency proof from
    /// the tree of so many entries to the store's; what it reads here may be forged, for the proof is checked.
    ///
    /// # Errors
    /// [`Error::LogForked`], upon which nothing may be signed, and what comes from `prove`.
    pub fn check_published(
        &self,
        key: &LogKey,
        store: Head,
        prove: impl FnOnce(u64) -> Result<Vec<Hash>>,
    ) -> Result<Option<SignedCheckpoint>> {
        let Some(note) = self.published()? else { return Ok(None) };
        let published = key.open(&note).map_err(|error| {
            self.forked(CHECKPOINT, format!(
                "{error}: this folder is of another log, or the log's key was changed; give each log its own folder and \
                 its own key for ever"
            ))
        })?;
        let Head { size, .. } = published.head();
        let origin = key.origin();
        if size > store.size {
            return Err(self.forked(CHECKPOINT, format!(
                "the world has seen {size} entries of {origin}, and the store knows {}: it is an old copy. Restore the \
                 store's newest copy; if there is none, end this log and begin one under a new origin, never a second \
                 one under the same",
                store.size
            )));
        }
        if check_consistency(&published.head(), &store, &prove(size)?).is_err() {
            return Err(self.forked(CHECKPOINT, format!(
                "the {size} entries of {origin} that the world has seen are not those that the store has: it is \
                 another store, or another history. Restore the store's newest copy that goes with this folder; never \
                 start a second log under the same origin"
            )));
        }
        Ok(Some(published))
    }

    /// The entries of the partial bundle that goes with the edge, each of which must have its leaf there.
    fn partial_bundle(&self, edge: &Tiles) -> Result<EntryBundle> {
        let mut bundle = EntryBundle::default();
        let Some(id) = partial(None, edge.size()) else { return Ok(bundle) };
        let (path, bytes) = self.either(id, EntryBundle::max_bytes)?;
        let leaves = edge.get(0, id.index).map_or(&[][..], TileHashes::hashes);
        let width = TileId::parse(&path).map_or(0, |found| found.width);
        let entries = EntryBundle::parse(&bytes, width).unwrap_or_default();
        for (place, leaf) in leaves.iter().enumerate() {
            match entries.get(place) {
                Some(entry) if leaf_hash(entry) == *leaf && bundle.push(entry) => {}
                _ => {
                    return Err(self.forked(&path, format!(
                        "its entry {place} is not the one that its tile and the store's root tell of: restore the \
                         newest copy of this folder"
                    )));
                }
            }
        }
        Ok(bundle)
    }

    fn note(&self, name: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(name, MAX_CHECKPOINT_BYTES)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|_| self.wrong(name, "it is no text".to_owned()))
    }

    fn tile(&self, id: TileId) -> Result<TileHashes> {
        let (path, bytes) = self.either(id, |width| usize::from(width) * size_of::<Hash>())?;
        let hashes = TileId::parse(&path).and_then(|found| found.hashes(&bytes));
        match hashes {
            Some(hashes) => Ok(TileHashes::new(hashes)),
            None => Err(self.forked(&path, format!("{} bytes are no such tile: restore it", bytes.len()))),
        }
    }

    /// The bytes of a tile or bundle, or of the full one that took its place, and which it was.
    fn either(&self, id: TileId, max_bytes: impl Fn(u16) -> usize) -> Result<(String, Vec<u8>)> {
        for id in [id, id.full()] {
            if let Some(bytes) = self.read(&id.path(), max_bytes(id.width))? {
                return Ok((id.path(), bytes));
            }
        }
        Err(self.wrong(
            &id.path(),
            "is not there, and the log needs it: restore this folder's newest copy".into(),
        ))
    }

    /// A whole file of at most so many bytes; one byte more than that if it is longer, which no reader takes.
    fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>> {
        batch::read(&self.path.join(name), most)
    }

    fn wrong(&self, name: &str, problem: String) -> Error {
        Error::File { path: self.path.join(name), problem }
    }

    fn forked(&self, name: &str, problem: String) -> Error {
        Error::LogForked { path: self.path.join(name), problem }
    }
}

impl Appender {
    /// What is durable here.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }

    /// The partial tiles at the right edge of that head, every hash of them checked.
    #[must_use]
    pub fn edge(&self) -> &Tiles {
        &self.edge
    }

    /// Where it writes.
    #[must_use]
    pub fn folder(&self) -> &LogFolder {
        &self.folder
    }

    /// Lays down the entries after [`head`](Self::head), and the documents that they name; when it returns, all of it
    /// is durable. `to` is the head of the store that these entries lead to: nothing is written if they do not.
    ///
    /// After an error it stays where it was, and may be called again. What was written already is left as it is then,
    /// and compared. The cost depends on the number of entries, not on the size of the tree.
    ///
    /// # Errors
    /// [`Error::Store`] if the entries do not lead to `to` or a document has not its digest, [`Error::LogForked`] if
    /// another file lies in the place of one of these, [`Error::File`] for what the disk refuses.
    pub fn append(&mut self, entries: &[Vec<u8>], documents: &[(Hash, Vec<u8>)], to: Head) -> Result<()> {
        let mut tiles = self.edge.clone();
        entries.iter().for_each(|entry| tiles.push(leaf_hash(entry)));
        let reached = Frontier::of(&tiles, tiles.size()).map(|frontier| frontier.head());
        if reached != Ok(to) {
            return Err(Error::Store {
                reason: format!(
                    "{} entries after the first {} of the log do not lead to its checkpoint of {}",
                    entries.len(),
                    self.head.size,
                    to.size
                ),
            });
        }
        let mut batch = Batch::new(&self.folder.path)?;
        for (digest, document) in documents {
            if sha256(document) != *digest {
                return Err(Error::Store { reason: format!("the document {digest} has another digest") });
            }
            batch.put(&document_path(digest), document)?;
        }
        let bundle = self.put_bundles(&mut batch, entries)?;
        self.put_tiles(&mut batch, &tiles)?;
        // Crash boundary: before, any of the tiles are there, whole or not at all, as each is renamed into its place when
        // its bytes are on the disk. After, all are. No published head tells of them yet, and staging has their
        // entries still: the next round begins where this one did, and finds equal what is there.
        batch.sync("log-tiles-beside")?;
        crash_point("log-tiles-written");
        tiles.shrink(0);
        (self.head, self.edge, self.bundle) = (to, tiles, bundle);
        Ok(())
    }

    /// Publishes a checkpoint of what is durable here, in the place of the one before: at once or not at all. Then, if nodes
    /// have cosigned it, the same head for Sigstore's tools; without it the one before stays.
    ///
    /// # Errors
    /// [`Error::Store`] if it is of a tree that was not laid down or the heads are not the same, [`Error::File`] for what
    /// the disk refuses; the one before stays.
    pub fn publish(&self, checkpoint: &SignedCheckpoint, sigstore: Option<&SigstoreHead>) -> Result<()> {
        let head = checkpoint.head();
        if let Some(other) = sigstore.map(SigstoreHead::head).filter(|other| *other != head) {
            return Err(Error::Store {
                reason: format!(
                    "a head of {} entries for Sigstore's tools is to be published beside a checkpoint of {}",
                    other.size, head.size
                ),
            });
        }
        if head.size > self.head.size || (head.size == self.head.size && head.root != self.head.root) {
            return Err(Error::Store {
                reason: format!(
                    "a checkpoint of {} entries is to be published, and the log's folder holds {} of this tree",
                    head.size, self.head.size
                ),
            });
        }
        let replace = |name, note: &str, crash| {
            let mut batch = Batch::new(&self.folder.path)?;
            let path = batch.enter(name)?;
            batch.replace(path, note.as_bytes())?;
            batch.sync(crash)
        };
        // Crash boundary: before, the world sees the head before. After, it sees this one, and staging is not emptied
        // yet: the next round lays down and publishes the same again.
        replace(CHECKPOINT, &checkpoint.to_note(), "log-checkpoint-written")?;
        crash_point("log-published");
        if let Some(sigstore) = sigstore {
            // Crash boundary: before, the head for Sigstore's tools is an older one than the checkpoint, never a newer one.
            replace(SIGSTORE_CHECKPOINT, sigstore.note(), "log-sigstore-written")?;
        }
        Ok(())
    }

    /// Removes the partial tiles and bundles of those that are full in a published tree of so many entries. Whoever reads
    /// an older head finds the full ones, as c2sp.org/tlog-tiles tells readers to.
    ///
    /// To be called after [`publish`](Self::publish) and before staging is emptied: then a restart begins at the same
    /// tiles again, and nothing has to be searched.
    ///
    /// # Errors
    /// [`Error::File`]; the next call tries the same again.
    pub fn forget_partials(&mut self, published_size: u64) -> Result<()> {
        let size = published_size.min(self.head.size);
        // Crash boundary: any of them are gone, and the full ones were durable before.
        for level in std::iter::once(None).chain((0..=MAX_TILE_LEVEL).map(Some)) {
            for index in full_tiles(level, self.forgotten)..full_tiles(level, size) {
                batch::remove_partials(&self.folder.path, TileId { level, index, width: TILE_WIDTH })?;
            }
        }
        self.forgotten = self.forgotten.max(size);
        Ok(())
    }

    /// Lays down the bundles of `entries`, and gives the one that is left partial.
    fn put_bundles(&self, batch: &mut Batch<'_>, entries: &[Vec<u8>]) -> Result<EntryBundle> {
        let mut bundle = self.bundle.clone();
        let last = self.head.size.saturating_add(u64::try_from(entries.len()).unwrap_or(u64::MAX));
        for (index, entry) in (self.head.size..last).zip(entries) {
            if !bundle.push(entry) {
                return Err(Error::Store {
                    reason: format!("entry {index} of the log is too long for a bundle"),
                });
            }
            let size = index + 1;
            if full_tiles(None, size) > full_tiles(None, index) {
                let full = TileId { level: None, index: full_tiles(None, index), width: TILE_WIDTH };
                batch.put(&full.path(), &std::mem::take(&mut bundle).into_bytes())?;
            }
        }
        if let Some(id) = partial(None, last).filter(|_| last > self.head.size) {
            batch.put(&id.path(), &bundle.clone().into_bytes())?;
        }
        Ok(bundle)
    }

    /// Lays down the tiles from the right edge of [`head`](Self::head) on; those that are as they were compare equal.
    fn put_tiles(&self, batch: &mut Batch<'_>, tiles: &Tiles) -> Result<()> {
        for level in 0..=MAX_TILE_LEVEL {
            let mut index = full_tiles(Some(level), self.head.size);
            while let Some(id) = TileId::in_tree(Some(level), index, tiles.size()) {
                index += 1;
                let hashes = tiles.get(level, id.index).map_or(&[][..], TileHashes::hashes);
                let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
                batch.put(&id.path(), &bytes)?;
            }
        }
        Ok(())
    }
}

/// The partial tile at the right edge of a tree; `None` if all tiles of this level are full.
fn partial(level: Option<u8>, size: u64) -> Option<TileId> {
    TileId::in_tree(level, full_tiles(level, size), size)
}

/// How many tiles of a level are full in a tree of `size`.
fn full_tiles(level: Option<u8>, size: u64) -> u64 {
    size >> (8 * (u32::from(level.unwrap_or(0)) + 1))
}

#[cfg(test)]
mod tests;
