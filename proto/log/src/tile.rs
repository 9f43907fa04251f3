//! Tiles and entry bundles: their paths and their bytes (c2sp.org/tlog-tiles).
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]         256 hashes of level L, 32 bytes each; level 0 are hashes of entries
//! tile/entries/<N>[.p/<W>]     256 entries, each after its length in two bytes, big-endian
//! sha256/<hh>/<64 hex>         a document that an entry names by its SHA-256: a statement, a signed roster
//! checkpoint                   the newest published head
//! ```
//!
//! `N` in groups of three digits, all but the last with an `x`: 1234067 is `x001/x234/067`. A partial tile says how many
//! hashes it has; once the full one is there, nobody needs it any more.

use std::fmt::Write as _;

use crate::{
    hash::Hash,
    limits::{MAX_ENTRY_BYTES, MAX_TILE_LEVEL, TILE_WIDTH},
};

/// Names a tile or a bundle of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    /// `None`: entries; else the level of hashes.
    pub level: Option<u8>,
    /// Place in its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256.
    pub width: u16,
}

impl TileId {
    /// The tile of a level that holds a node of that level, in a tree of `size` entries; `None` if it is not there.
    /// `level` as in [`TileId::level`].
    #[must_use]
    pub fn in_tree(level: Option<u8>, index: u64, size: u64) -> Option<Self> {
        let shift = 8 * u32::from(level.unwrap_or(0));
        let nodes = size.checked_shr(shift).unwrap_or(0);
        let left = nodes.checked_sub(index.checked_mul(u64::from(TILE_WIDTH))?)?;
        let width = u16::try_from(left).unwrap_or(TILE_WIDTH).min(TILE_WIDTH);
        (width > 0).then_some(Self { level, index, width })
    }

    /// Whether it has all that it ever will.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The same tile, full.
    #[must_use]
    pub fn full(self) -> Self {
        Self { width: TILE_WIDTH, ..self }
    }

    /// Its path below the log's folder or address.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = match self.level {
            Some(level) => format!("tile/{level}/"),
            None => "tile/entries/".to_owned(),
        };
        let digits = self.index.to_string();
        let padded = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
        let groups = padded.len() / 3;
        for (place, group) in padded.as_bytes().chunks(3).enumerate() {
            if place + 1 < groups {
                path.push('x');
            }
            path.extend(group.iter().copied().map(char::from));
            if place + 1 < groups {
                path.push('/');
            }
        }
        if !self.is_full() {
            // Writing to a string does not fail.
            let _ = write!(path, ".p/{}", self.width);
        }
        path
    }

    /// Reads a path, strictly: each tile has one.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let level = if level == "entries" { None } else { Some(level.parse().ok()?) };
        if level.is_some_and(|level| level > MAX_TILE_LEVEL) {
            return None;
        }
        let (name, width) = match rest.split_once(".p/") {
            Some((name, width)) => (name, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let digits: String = name.split('/').map(|group| group.strip_prefix('x').unwrap_or(group)).collect();
        let id = Self { level, index: digits.parse().ok()?, width };
        // Whatever was spelt otherwise than we do is another name.
        ((1..=TILE_WIDTH).contains(&width) && id.path() == path).then_some(id)
    }

    /// Reads the bytes of a tile of hashes of exactly this width.
    #[must_use]
    pub fn hashes(&self, bytes: &[u8]) -> Option<Vec<Hash>> {
        let (chunks, rest) = bytes.as_chunks::<32>();
        (rest.is_empty() && chunks.len() == usize::from(self.width))
            .then(|| chunks.iter().map(|chunk| Hash(*chunk)).collect())
    }
}

/// Path of a document that an entry names by its SHA-256.
#[must_use]
pub fn document_path(sha256: &Hash) -> String {
    let name = sha256.to_string();
    format!("sha256/{}/{name}", name.get(..2).unwrap_or_default())
}

/// Entries, each after its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryBundle(Vec<u8>);

impl EntryBundle {
    /// Adds an entry; false if it is longer than a bundle can say.
    pub fn push(&mut self, entry: &[u8]) -> bool {
        match u16::try_from(entry.len()) {
            Ok(length) => {
                self.0.extend(length.to_be_bytes());
                self.0.extend(entry);
                true
            }
            Err(_) => false,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The entries in a bundle's bytes, if they are exactly `width`.
    #[must_use]
    pub fn parse(bytes: &[u8], width: u16) -> Option<Vec<&[u8]>> {
        let mut entries = Vec::with_capacity(usize::from(width));
        let mut rest = bytes;
        while let Some((length, tail)) = rest.split_first_chunk::<2>() {
            if entries.len() >= usize::from(width) {
                return None;
            }
            let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            entries.push(entry);
            rest = tail;
        }
        (rest.is_empty() && entries.len() == usize::from(width)).then_some(entries)
    }

    /// The most bytes that a bundle of this width has.
    #[must_use]
    pub fn max_bytes(width: u16) -> usize {
        usize::from(width) * (2 + MAX_ENTRY_BYTES)
    }
}
