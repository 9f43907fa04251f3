//! Embargoes without a disclosure, and the places that they may turn out to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use serde::{Deserialize, Serialize, Serializer};

use super::Leaf;
use crate::{
    entry::{Embargoed, OutcomeState},
    hash::Hash,
};

/// An embargo without a disclosure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hidden {
    /// With the time at which a disclosure is due, however late the entry says.
    pub(super) entry: Embargoed,
    /// The place of what was cancelled right before it, which it may repeat.
    pub(super) cancelled: Option<u64>,
    /// What its outcome said that the statement is.
    pub(super) statement: Option<Hash>,
    /// How it ended.
    pub(super) state: Option<OutcomeState>,
    /// The signature, to be verified once the statement is there.
    pub(super) leaf: Option<Leaf>,
    pub(super) reported: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<u64, Hidden>")]
pub(super) struct Embargoes {
    by_index: BTreeMap<u64, Hidden>,
    /// Every place that one may turn out to have, with its index.
    places: BTreeSet<(u64, u64)>,
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

    /// The entry `index` was disclosed and has this place: so has what may repeat it.
    pub(super) fn settle(&mut self, index: u64, place: u64) {
        let heirs = self.places.range((index, 0)..=(index, u64::MAX));
        let heirs: Vec<u64> = heirs.map(|(_, heir)| *heir).filter(|heir| *heir != index).collect();
        for heir in heirs {
            if let Some(hidden) = self.by_index.get_mut(&heir) {
                self.places.remove(&(index, heir));
                hidden.cancelled = Some(place);
                self.places.insert((place, heir));
            }
        }
    }

    /// Whether one may turn out to have its place between these two, which are open ends where there is none.
    pub(super) fn between(&self, after: Option<u64>, before: Option<u64>) -> bool {
        let after = after.map_or(Unbounded, |after| Excluded((after, u64::MAX)));
        let before = before.map_or(Unbounded, |before| Excluded((before, 0)));
        self.places.range((after, before)).next().is_some()
    }
}

fn places(index: u64, hidden: &Hidden) -> impl Iterator<Item = (u64, u64)> + use<> {
    std::iter::once(index).chain(hidden.cancelled).map(move |place| (place, index))
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
