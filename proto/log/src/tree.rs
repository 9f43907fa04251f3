//! Growing a tree, and drawing proofs from it.
//!
//! [`Frontier`] is all that appending needs: the roots of the complete subtrees at the right edge, at most 53 hashes.
//! [`Tiles`] are the hashes of a tree, tile by tile, as far as they are in memory; whoever keeps the others in files
//! hands them in when a proof asks for them ([`MissingTile`]).

use std::collections::BTreeMap;

use crate::{
    checkpoint::Head,
    hash::{Hash, node_hash},
    limits::TILE_WIDTH,
};

/// The right edge of a tree: the roots of its complete subtrees, largest first, one for each bit of its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The edge of a tree whose hashes are at hand.
    ///
    /// # Errors
    /// [`MissingTile`]: hand it in and ask again.
    pub fn of(tiles: &Tiles, size: u64) -> Result<Self, MissingTile> {
        let mut peaks = Vec::new();
        let mut start = 0_u64;
        for level in (0..u64::BITS).rev() {
            let width = 1_u64 << level;
            if size & width != 0 {
                peaks.push(tiles.node(level, start >> level)?);
                start += width;
            }
        }
        Ok(Self { size, peaks })
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Every one at the end of the size in binary is a complete subtree that this leaf completes further.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(left, hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The tree's head.
    #[must_use]
    pub fn head(&self) -> Head {
        let root = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(left, right));
        Head { size: self.size, root: root.unwrap_or(Hash::EMPTY_ROOT) }
    }
}

/// The hashes of one tile, with the roots of all complete subtrees within it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileHashes {
    /// `rows[r]`: roots of complete subtrees over 2^r of the tile's hashes; row 0 is the tile itself.
    rows: [Vec<Hash>; 9],
}

impl TileHashes {
    /// From the tile's own hashes, 1 to 256 of them; more are left out.
    #[must_use]
    pub fn new(hashes: impl IntoIterator<Item = Hash>) -> Self {
        let mut tile = Self::default();
        for hash in hashes.into_iter().take(usize::from(TILE_WIDTH)) {
            tile.push(hash);
        }
        tile
    }

    /// The tile's own hashes.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        self.rows.first().map_or(&[], Vec::as_slice)
    }

    /// How many there are.
    #[must_use]
    pub fn width(&self) -> usize {
        self.hashes().len()
    }

    /// The tile's root, if it is full.
    #[must_use]
    pub fn root(&self) -> Option<Hash> {
        self.rows.last().and_then(|row| row.first()).copied()
    }

    /// Adds a hash; gives the root of the tile when that made it full.
    fn push(&mut self, hash: Hash) -> Option<Hash> {
        let mut hash = hash;
        for row in &mut self.rows {
            row.push(hash);
            match row.as_slice() {
                [.., left, right] if row.len().is_multiple_of(2) => hash = node_hash(*left, *right),
                _ => break,
            }
        }
        self.root()
    }

    fn node(&self, row: usize, place: usize) -> Option<Hash> {
        self.rows.get(row)?.get(place).copied()
    }
}

/// A proof needs a tile that is not in memory, or not as wide as the proof needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("tile {index} of level {level} is not at hand")]
pub struct MissingTile {
    /// 0: hashes of entries.
    pub level: u8,
    /// Place in its level.
    pub index: u64,
}

/// The hashes of a tree, as far as they are in memory.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    tiles: BTreeMap<MissingTile, TileHashes>,
    size: u64,
}

impl Tiles {
    /// Nothing in memory of a tree of this size.
    #[must_use]
    pub fn of_size(size: u64) -> Self {
        Self { tiles: BTreeMap::new(), size }
    }

    /// Entries of the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. The tiles at the right edge must be at hand, as they are in a tree that grew from nothing.
    pub fn push(&mut self, leaf: Hash) {
        let mut carried = Some(leaf);
        let mut index = self.size;
        let mut level = 0;
        while let Some(hash) = carried {
            index /= u64::from(TILE_WIDTH);
            carried = self.tiles.entry(MissingTile { level, index }).or_default().push(hash);
            level = level.saturating_add(1);
        }
        self.size += 1;
    }

    /// Hands in a tile. The caller has checked that it belongs to the tree.
    pub fn insert(&mut self, id: MissingTile, tile: TileHashes) {
        self.tiles.insert(id, tile);
    }

    /// Takes a tile back that was handed in.
    pub fn remove(&mut self, id: MissingTile) {
        self.tiles.remove(&id);
    }

    /// One tile.
    #[must_use]
    pub fn get(&self, level: u8, index: u64) -> Option<&TileHashes> {
        self.tiles.get(&MissingTile { level, index })
    }

    /// Forgets full tiles until at most `most` tiles are left, the oldest of the lowest level first.
    pub fn shrink(&mut self, most: usize) {
        self.shrink_within(self.size, most);
    }

    /// The same with tiles that are full in the tree of `size` entries alone: who keeps those in files needs the others.
    pub fn shrink_within(&mut self, size: u64, most: usize) {
        let is_full = |id: &MissingTile| {
            size.checked_shr(8 * (u32::from(id.level) + 1)).is_some_and(|full| id.index < full)
        };
        while self.tiles.len() > most {
            let Some(oldest) = self.tiles.keys().copied().find(is_full) else { return };
            self.tiles.remove(&oldest);
        }
    }

    /// The proof of an entry in the tree of `size` entries.
    ///
    /// # Errors
    /// [`MissingTile`]: hand it in and ask again.
    pub fn prove_inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, MissingTile> {
        debug_assert!(index < size && size <= self.size, "a proof of what is not there");
        self.proof(|reader| tlog_tiles::prove_record(size, index, reader))
    }

    /// The proof that the tree of `new` entries begins with that of `old`.
    ///
    /// # Errors
    /// [`MissingTile`]: hand it in and ask again.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, MissingTile> {
        debug_assert!(old <= new && new <= self.size, "a proof of what is not there");
        if old == 0 || old == new {
            return Ok(Vec::new());
        }
        self.proof(|reader| tlog_tiles::prove_tree(new, old, reader))
    }

    /// Root of the complete subtree of 2^`level` leaves whose place in its level is `index`.
    fn node(&self, level: u32, index: u64) -> Result<Hash, MissingTile> {
        let (tile_level, row) = (level / 8, level % 8);
        let place = index << row;
        let id = MissingTile {
            level: u8::try_from(tile_level).unwrap_or(u8::MAX),
            index: place / u64::from(TILE_WIDTH),
        };
        let within = usize::try_from((place % u64::from(TILE_WIDTH)) >> row).unwrap_or(usize::MAX);
        self.tiles
            .get(&id)
            .and_then(|tile| tile.node(usize::try_from(row).unwrap_or(usize::MAX), within))
            .ok_or(id)
    }

    fn proof(
        &self,
        prove: impl FnOnce(&Reader<'_>) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error>,
    ) -> Result<Vec<Hash>, MissingTile> {
        let reader = Reader { tiles: self, missing: std::cell::Cell::new(None) };
        match prove(&reader) {
            Ok(hashes) => Ok(hashes.into_iter().map(Hash::from).collect()),
            // Whatever else the library may refuse are sizes that the caller answers for.
            Err(_) => Err(reader.missing.get().unwrap_or(MissingTile { level: u8::MAX, index: u64::MAX })),
        }
    }
}

/// The view of the tree that the library's proof functions want.
struct Reader<'a> {
    tiles: &'a Tiles,
    missing: std::cell::Cell<Option<MissingTile>>,
}

impl tlog_tiles::HashReader for Reader<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        indexes
            .iter()
            .map(|index| {
                let (level, place) = tlog_tiles::split_stored_hash_index(*index);
                self.tiles.node(u32::from(level), place).map(Into::into).map_err(|missing| {
                    self.missing.set(Some(missing));
                    tlog_tiles::Error::IndexesNotInTree
                })
            })
            .collect()
    }
}
