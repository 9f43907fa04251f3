//! Inclusion and consistency (RFC 6962, sections 2.1.1 and 2.1.2), checked.

use crate::{
    checkpoint::Head,
    hash::Hash,
    limits::{MAX_PROOF_HASHES, MAX_TREE_SIZE},
};

/// A proof that proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProved {
    /// More hashes, or a larger tree, than there can be.
    #[error("the proof is larger than any tree's")]
    TooLarge,
    /// The index lies outside of the tree.
    #[error("entry {index} lies outside of a tree of {size}")]
    Outside {
        /// Of the entry, counted from 0.
        index: u64,
        /// Of the tree.
        size: u64,
    },
    /// The tree got smaller.
    #[error("the tree got smaller: from {old} to {new} entries")]
    Shrunk {
        /// Entries before.
        old: u64,
        /// Entries now.
        new: u64,
    },
    /// The hashes do not lead to the root.
    #[error("the hashes of the proof do not lead to the root")]
    Hashes,
}

/// Checks that a tree holds a leaf at `index`.
///
/// # Errors
/// [`NotProved`]
pub fn check_inclusion(head: &Head, index: u64, leaf: Hash, proof: &[Hash]) -> Result<(), NotProved> {
    within(head.size, proof)?;
    if index >= head.size {
        return Err(NotProved::Outside { index, size: head.size });
    }
    tlog_tiles::check_record(&library(proof), head.size, head.root.into(), index, leaf.into())
        .map_err(|_| NotProved::Hashes)
}

/// Checks that the tree of `new` begins with all that the tree of `old` holds. Every tree begins with the empty one, and
/// a tree of the same size must be the same; there the proof is empty.
///
/// # Errors
/// [`NotProved`]
pub fn check_consistency(old: &Head, new: &Head, proof: &[Hash]) -> Result<(), NotProved> {
    within(new.size, proof)?;
    if old.size > new.size {
        return Err(NotProved::Shrunk { old: old.size, new: new.size });
    }
    if old.size == 0 || old.size == new.size {
        let same = if old.size == new.size { old.root == new.root } else { old.root == Hash::EMPTY_ROOT };
        return if same && proof.is_empty() { Ok(()) } else { Err(NotProved::Hashes) };
    }
    tlog_tiles::check_tree(&library(proof), new.size, new.root.into(), old.size, old.root.into())
        .map_err(|_| NotProved::Hashes)
}

fn within(size: u64, proof: &[Hash]) -> Result<(), NotProved> {
    if size > MAX_TREE_SIZE || proof.len() > MAX_PROOF_HASHES {
        return Err(NotProved::TooLarge);
    }
    Ok(())
}

fn library(proof: &[Hash]) -> Vec<tlog_tiles::Hash> {
    proof.iter().map(|hash| (*hash).into()).collect()
}
