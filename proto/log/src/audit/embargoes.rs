//! Embargoes without a disclosure, and the places that they may turn out to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use serde::{Deserialize, Serialize, Serializer};

use super::Leaf;
use crate::{entry::Embargoed, hash::Hash};

/// An embargo without a disclosure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hidden {
    /// With the time at which a disclosure is due, however late the entry says.
    pub(super) entry: Embargoed,
    /// What its outcome said that the statement is.
    pub(super) statement: Option<Hash>,
    /// Index of its outcome, if it was signed.
    pub(super) signed_at: Option<u64>,
    /// The signature, to be verified once the statement is there.
    pub(super) leaf: Option<Leaf>,
    pub(super) reported: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<u64, Hidden>")]
pub(super) struct Embargoes {
    by_index: BTreeMap<u64, Hidden>,
    /// Where each was asked for, and signed.
    places: BTreeSet<u64>,
}

impl Embargoes {
    pub(super) fn len(&self) -> usize {
        self.by_index.len()
    }

    pub(super) fn get(&self, index: u64) -> Option<&Hidden> {
        self.by_index.get(&index)
    }

    /// Its places are not to be changed.
    pub(super) fn get_mut(&mut self, index: u64) -> Option<&mut Hidden> {
        self.by_index.get_mut(&index)
    }

    /// Likewise.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&u64, &mut Hidden)> {
        self.by_index.iter_mut()
    }

    pub(super) fn insert(&mut self, index: u64, hidden: Hidden) {
        self.places.extend(places(index, &hidden));
        self.by_index.insert(index, hidden);
    }

    pub(super) fn remove(&mut self, index: u64) -> Option<Hidden> {
        let hidden = self.by_index.remove(&index)?;
        for place in places(index, &hidden) {
            self.places.remove(&place);
        }
        Some(hidden)
    }

    /// Forgets the oldest until there are no more than `most`; says whether there were.
    pub(super) fn shrink(&mut self, most: usize) -> bool {
        let over = self.len() > most;
        while self.len() > most {
            let Some((oldest, _)) = self.by_index.first_key_value() else { break };
            self.remove(*oldest);
        }
        over
    }

    /// How an embargoed request ended, which is about this statement; `signed_at` is the outcome's index if it was signed.
    pub(super) fn end(&mut self, index: u64, statement: Hash, signed_at: Option<u64>) -> bool {
        let Some(hidden) = self.by_index.get_mut(&index) else { return false };
        hidden.statement = Some(statement);
        hidden.signed_at = signed_at;
        self.places.extend(signed_at);
        true
    }

    /// Whether one was asked for, or signed, between these two places, which are open ends where there is none.
    pub(super) fn between(&self, after: Option<u64>, before: Option<u64>) -> bool {
        let (after, before) = (after.map_or(Unbounded, Excluded), before.map_or(Unbounded, Excluded));
        self.places.range((after, before)).next().is_some()
    }
}

fn places(index: u64, hidden: &Hidden) -> impl Iterator<Item = u64> + use<> {
    std::iter::once(index).chain(hidden.signed_at)
}

impl From<BTreeMap<u64, Hidden>> for Embargoes {
    fn from(by_index: BTreeMap<u64, Hidden>) -> Self {
        let places = by_index.iter().flat_map(|(index, hidden)| places(*index, hidden)).collect();
        Self { by_index, places }
    }
}

/// As the map that it is read from.
impl Serialize for Embargoes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.by_index.serialize(serializer)
    }
}
