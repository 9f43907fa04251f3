//! Reading a tree from its entries, and comparing every tile of every level with what they give.
//!
//! A tile is never believed: one that agrees with the tile above it, but not with its entries, deceives whoever draws
//! proofs from tiles (CVE-2026-56865). Hashes are computed from entries alone; their root must be the head's, and each
//! tile that lies there must be the one computed. Where the root is another, the tiles tell whose fault it was: if they
//! lead to the head, entries were exchanged; if not, the head does not extend what was read before.

use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use rutli_log::{
    Code, Entry, Finding, Frontier, Hash, Head, MissingTile, NotAnEntry, TileHashes, TileId, Tiles,
    leaf_hash,
    limits::{MAX_TILE_LEVEL, TILE_WIDTH},
};

use super::{
    documents::{Checked, Documents, NotCompared},
    findings::Findings,
    limits::{BUNDLES_AT_ONCE, MAX_BYTES_SIDE_BY_SIDE, TILES_IN_MEMORY},
    source::{Source, Unread},
};
use crate::report::Failure;

const WIDTH: u64 = TILE_WIDTH as u64;

/// An entry as it lies there. It is one of the log only if the walk [holds](Walked::holds).
pub struct Read {
    /// Counted from 0.
    pub index: u64,
    /// Its hash in the tree.
    pub leaf: Hash,
    /// What it says.
    pub entry: Result<Entry, NotAnEntry>,
    /// What the documents that it names say of it; nothing without documents.
    pub document: Checked,
}

/// What a walk found.
pub struct Walked {
    /// The tree with all new entries; its right edge is in memory.
    pub tiles: Tiles,
    /// Whether the entries lead to the head.
    pub holds: bool,
    /// What is wrong with tiles, bundles, or the head.
    pub findings: Vec<Finding>,
}

/// Reads all entries from the end of `from` to `head`, in order. With `documents`, compares those too.
///
/// # Errors
/// Exit code 3: the source does not answer.
pub fn walk(
    source: &Source,
    from: Tiles,
    head: &Head,
    documents: Option<&Documents>,
    mut visit: impl FnMut(Read),
) -> Result<Walked, Failure> {
    let threads =
        rayon::ThreadPoolBuilder::new().num_threads(source.side_by_side()).build().map_err(|error| {
            Failure::failed(format!("cannot start threads: {error}"))
                .help("see how many this user may have (`ulimit -u`)")
        })?;
    let begin = from.size();
    let bar = progress_bar(head.size.saturating_sub(begin));
    let mut walk = Walk {
        source,
        head,
        tiles: from,
        by_tiles: None,
        differing: Vec::new(),
        changed: None,
        findings: Findings::default(),
    };
    let (mut bundle, last) = (walk.tiles.size() / WIDTH, head.size.div_ceil(WIDTH));
    let mut complete = true;
    while complete && walk.tiles.size() < head.size {
        let next = bundle.saturating_add(BUNDLES_AT_ONCE).min(last);
        let known = walk.known();
        let start = walk.tiles.size();
        let fetch = |bundle, most| {
            fetch(source, documents, TileId::in_tree(None, bundle, head.size), start, &known, most)
        };
        let fetched: Vec<_> = threads.install(|| {
            (bundle..next).into_par_iter().map(|bundle| fetch(bundle, MAX_BYTES_SIDE_BY_SIDE)).collect()
        });
        for (bundle, fetched) in (bundle..next).zip(fetched) {
            let alone = || threads.install(|| fetch(bundle, usize::MAX));
            let fetched = match fetched {
                // Or only too long to be read beside others.
                Ok(Fetched { reads: Err(Unread::Damaged), .. }) => alone(),
                fetched => fetched,
            };
            let fetched = fetched.map_err(|error| error.into_failure("log", source))?;
            complete = walk.append(fetched, &mut visit)?;
            if !complete {
                break;
            }
        }
        bundle = next;
        bar.set_position(walk.tiles.size().saturating_sub(begin));
    }
    bar.finish_and_clear();
    if complete {
        walk.compare_right_edge()?;
    }
    Ok(walk.finish(complete))
}

/// The tiles at the right edge of a tree, which is all that appending to it needs. Gives one for each level.
#[must_use]
pub fn right_edge(tiles: &Tiles) -> Vec<Vec<Hash>> {
    let edge = |level: u8| {
        let nodes = tiles.size().checked_shr(8 * u32::from(level)).unwrap_or(0);
        if nodes.is_multiple_of(WIDTH) {
            return Vec::new();
        }
        tiles.get(level, nodes / WIDTH).map(|tile| tile.hashes().to_vec()).unwrap_or_default()
    };
    (0..=MAX_TILE_LEVEL).map(edge).collect()
}

/// A tree of which only the right edge is known, if it is as wide as the size says.
#[must_use]
pub fn from_right_edge(size: u64, edge: &[Vec<Hash>]) -> Option<Tiles> {
    let mut tiles = Tiles::of_size(size);
    for level in 0..=MAX_TILE_LEVEL {
        let nodes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let hashes = edge.get(usize::from(level))?;
        if u64::try_from(hashes.len()).ok()? != nodes % WIDTH {
            return None;
        }
        if !hashes.is_empty() {
            let id = MissingTile { level, index: nodes / WIDTH };
            tiles.insert(id, TileHashes::new(hashes.iter().copied()));
        }
    }
    Some(tiles)
}

/// A bundle with its tile of hashes, as they lie there.
struct Fetched {
    bundle: TileId,
    reads: Result<Vec<Read>, Unread>,
    /// The first entry that was known before and is another now.
    changed: Option<u64>,
    tile: Result<Vec<Hash>, Unread>,
}

fn fetch(
    source: &Source,
    documents: Option<&Documents>,
    bundle: Option<TileId>,
    start: u64,
    known: &[Hash],
    max_bytes: usize,
) -> Result<Fetched, Unread> {
    let id = bundle.ok_or(Unread::Damaged)?;
    let tile = answered(source.tile(TileId { level: Some(0), ..id }))?;
    let lying = match answered(source.bundle_within(id, max_bytes))? {
        Ok(lying) => lying,
        Err(unread) => return Ok(Fetched { bundle: id, reads: Err(unread), changed: None, tile }),
    };
    let entries = match lying.entries() {
        Ok(entries) => entries,
        Err(unread) => return Ok(Fetched { bundle: id, reads: Err(unread), changed: None, tile }),
    };
    let first = id.index.saturating_mul(WIDTH);
    let old = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX).min(entries.len());
    let (old, new) = entries.split_at(old);
    let same = |(entry, leaf): (&&[u8], &Hash)| leaf_hash(entry) == *leaf;
    let changed = (old.iter().zip(known).position(|pair| !same(pair)))
        .and_then(|place| first.checked_add(u64::try_from(place).ok()?));
    let begin = start.max(first);
    // A document is a round trip: each entry on its own.
    let reads = new
        .par_iter()
        .enumerate()
        .map(|(place, bytes)| {
            let index = begin.saturating_add(u64::try_from(place).unwrap_or(u64::MAX));
            read(source, documents, index, bytes)
        })
        .collect::<Result<_, _>>()?;
    Ok(Fetched { bundle: id, reads: Ok(reads), changed, tile })
}

fn read(source: &Source, documents: Option<&Documents>, index: u64, bytes: &[u8]) -> Result<Read, Unread> {
    let entry = Entry::parse(bytes);
    let document = match (&entry, documents) {
        (Ok(entry), Some(documents)) => {
            documents.check(source, index, entry).map_err(|NotCompared(unread)| unread)?
        }
        _ => Checked::Fine,
    };
    Ok(Read { index, leaf: leaf_hash(bytes), entry, document })
}

/// Apart: what says something about the log, and what only says that the source does not answer.
fn answered<T>(result: Result<T, Unread>) -> Result<Result<T, Unread>, Unread> {
    match result {
        Err(error @ Unread::Failed(_)) => Err(error),
        result => Ok(result),
    }
}

struct Walk<'a> {
    source: &'a Source,
    head: &'a Head,
    tiles: Tiles,
    /// The tree that the tiles of level 0 give, from the first that differs from its entries.
    by_tiles: Option<Frontier>,
    differing: Vec<TileId>,
    /// The first entry that was read before, and is another now.
    changed: Option<u64>,
    findings: Findings,
}

impl Walk<'_> {
    /// Hashes of the tile that the tree ends in.
    fn known(&self) -> Vec<Hash> {
        self.tiles.get(0, self.tiles.size() / WIDTH).map(|tile| tile.hashes().to_vec()).unwrap_or_default()
    }

    /// Adds a bundle; false if it cannot be read, and so nothing after it.
    fn append(&mut self, fetched: Fetched, visit: &mut impl FnMut(Read)) -> Result<bool, Failure> {
        let Fetched { bundle, reads, changed, tile } = fetched;
        let first = bundle.index.saturating_mul(WIDTH);
        let reads = match reads {
            Ok(reads) => reads,
            Err(unread) => {
                let code = if unread == Unread::Missing { Code::BundleMissing } else { Code::BundleDamaged };
                self.findings.push(Finding::at(code, first, format!("{}: {unread}", bundle.path())));
                return Ok(false);
            }
        };
        self.changed = self.changed.or(changed);
        self.compare_leaves(bundle, &reads, tile);
        for read in reads {
            self.tiles.push(read.leaf);
            visit(read);
        }
        self.compare_completed()?;
        self.tiles.shrink(TILES_IN_MEMORY);
        Ok(true)
    }

    fn compare_leaves(&mut self, bundle: TileId, reads: &[Read], tile: Result<Vec<Hash>, Unread>) {
        let id = TileId { level: Some(0), ..bundle };
        let mut leaves = self.known();
        let before = leaves.len();
        leaves.extend(reads.iter().map(|read| read.leaf));
        let lying = match tile {
            Ok(lying) => lying,
            Err(unread) => {
                self.unread_tile(id, &unread);
                leaves.clone()
            }
        };
        if lying != leaves {
            self.differing.push(id);
            // All tiles before it were those of the entries.
            if self.by_tiles.is_none() {
                self.by_tiles = Frontier::of(&self.tiles, self.tiles.size()).ok();
            }
        }
        if let Some(by_tiles) = &mut self.by_tiles {
            lying.iter().skip(before).for_each(|leaf| by_tiles.push(*leaf));
        }
    }

    /// Compares the tiles of higher levels that the last bundle completed.
    fn compare_completed(&mut self) -> Result<(), Failure> {
        let mut nodes = self.tiles.size();
        for level in 1..=MAX_TILE_LEVEL {
            if !nodes.is_multiple_of(WIDTH) {
                break;
            }
            nodes /= WIDTH;
            if nodes.is_multiple_of(WIDTH)
                && let Some(before) = (nodes / WIDTH).checked_sub(1)
            {
                self.compare(TileId { level: Some(level), index: before, width: TILE_WIDTH })?;
            }
        }
        Ok(())
    }

    /// Compares the tiles of higher levels that are not full.
    fn compare_right_edge(&mut self) -> Result<(), Failure> {
        for level in 1..=MAX_TILE_LEVEL {
            let nodes = self.head.size.checked_shr(8 * u32::from(level)).unwrap_or(0);
            if let Some(id) = TileId::in_tree(Some(level), nodes / WIDTH, self.head.size) {
                self.compare(id)?;
            }
        }
        Ok(())
    }

    fn compare(&mut self, id: TileId) -> Result<(), Failure> {
        let lying = answered(self.source.tile(id)).map_err(|error| error.into_failure("log", self.source))?;
        let computed = self.tiles.get(id.level.unwrap_or(0), id.index).map_or(&[][..], TileHashes::hashes);
        match lying {
            Ok(lying) if lying == computed => {}
            Ok(_) => self.differing.push(id),
            Err(unread) => self.unread_tile(id, &unread),
        }
        Ok(())
    }

    fn unread_tile(&mut self, id: TileId, unread: &Unread) {
        let path = id.path();
        self.findings.push(match unread {
            Unread::Missing => Finding::of_log(Code::TileMissing, format!("{path} is not there")),
            _ => Finding::of_log(Code::TileForged, format!("{path} is not of its form")),
        });
    }

    fn finish(mut self, complete: bool) -> Walked {
        let root = Frontier::of(&self.tiles, self.tiles.size()).map(|frontier| frontier.head());
        let holds = complete && root.is_ok_and(|head| head == *self.head);
        let by_tiles = self.by_tiles.as_ref().is_some_and(|tree| tree.head() == *self.head);
        if let Some(index) = self.changed.filter(|_| holds || by_tiles) {
            let text = "its bundle now holds another entry than when it was read first";
            self.findings.push(Finding::at(Code::EntryForged, index, text));
        }
        if holds {
            self.findings.extend(self.differing.iter().map(|id| {
                let text = format!("{} does not hold the hashes of the entries below it", id.path());
                Finding::of_log(Code::TileForged, text)
            }));
        } else if complete && by_tiles {
            let leaves = self.differing.iter().filter(|id| id.level == Some(0));
            self.findings.extend(leaves.map(|id| {
                let bundle = TileId { level: None, ..*id }.path();
                let text = format!("{bundle} holds other entries than the head commits to");
                Finding::at(Code::EntryForged, id.index.saturating_mul(WIDTH), text)
            }));
        } else if complete {
            let text = format!(
                "the entries do not lead to the published head of {} entries: it does not extend what was read before",
                self.head.size
            );
            self.findings.push(Finding::of_log(Code::HeadInconsistent, text));
        }
        Walked { tiles: self.tiles, holds, findings: self.findings.into_vec() }
    }
}

fn progress_bar(entries: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("reading {human_pos} of {human_len} entries {wide_bar} {eta}");
    match style {
        Ok(style) => ProgressBar::new(entries).with_style(style),
        Err(_) => ProgressBar::hidden(),
    }
}
