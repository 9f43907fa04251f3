//! The channels of all products, bounded: whoever may ask for releases may invent products, and must not make a reader
//! forget those that devices install from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::order::{Asked, Order, Said, Unsettled, channel_of};
use crate::{
    entry::{OutcomeState, Request},
    finding::Finding,
    limits::{MAX_BESIDE_EMBARGOES, MAX_CHANNELS, MAX_PLACES, MIN_PLACES_TO_SWEEP, PLACES_AFTER_SWEEP},
};

/// What is known of each class, product and channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channels {
    orders: BTreeMap<String, Order>,
    /// Places of all orders.
    places: usize,
    /// How many there were after the last sweep.
    swept: usize,
}

impl Channels {
    /// Finds the place of a request, and compares it with those before and after it; see [`Order::ask`].
    pub(super) fn ask(
        &mut self,
        said: Said,
        cancelled: Option<u64>,
        request: &Request,
    ) -> (u64, Vec<Finding>) {
        self.change(channel_of(request), |order| order.ask(said, cancelled, request))
    }

    /// Takes note of how a request ended. A channel that was forgotten is known again once something is signed in it.
    pub(super) fn end(&mut self, said: Said, asked: Asked, state: OutcomeState) -> Vec<Finding> {
        if state != OutcomeState::Signed {
            return Vec::new();
        }
        self.change(asked.channel.clone(), |order| order.sign(said, asked))
    }

    /// Forgets what nothing can be compared with any more, beside a place at which something changed.
    pub(super) fn tidy(&mut self, channel: &str, place: u64, unsettled: &Unsettled<'_>) {
        if let Some(order) = self.orders.get_mut(channel) {
            let before = order.len();
            order.tidy(place, unsettled);
            self.places = self.places.saturating_add(order.len()).saturating_sub(before);
        }
    }

    /// Whether another flood would be a new one.
    pub(super) fn have_room(&self) -> bool {
        self.orders.len() <= MAX_CHANNELS / 2 && self.places <= MAX_PLACES / 2
    }

    /// Forgets what does not fit. Says whether that could hide something.
    pub(super) fn keep_bounded(&mut self, unsettled: &Unsettled<'_>) -> bool {
        // Twice as many as were needed: so a sweep costs each entry little.
        let enough = self.swept.saturating_mul(2).clamp(MIN_PLACES_TO_SWEEP, MAX_PLACES);
        if self.places <= enough {
            return self.orders.len() > MAX_CHANNELS && self.evict();
        }
        let mut lost = self.sweep(unsettled, MAX_BESIDE_EMBARGOES);
        lost |= self.evict();
        let mut most = MAX_BESIDE_EMBARGOES;
        while self.places > PLACES_AFTER_SWEEP && most > 0 {
            most /= 2;
            lost |= self.sweep(unsettled, most);
        }
        self.swept = self.places;
        lost
    }

    fn sweep(&mut self, unsettled: &Unsettled<'_>, most: usize) -> bool {
        let mut lost = false;
        for order in self.orders.values_mut() {
            lost |= order.sweep(unsettled, most);
        }
        self.places = self.orders.values().map(Order::len).sum();
        lost
    }

    fn change<T>(&mut self, channel: String, change: impl FnOnce(&mut Order) -> T) -> T {
        let order = self.orders.entry(channel).or_default();
        let before = order.len();
        let changed = change(order);
        self.places = self.places.saturating_add(order.len()).saturating_sub(before);
        changed
    }

    /// Forgets channels: first those in which nothing was ever signed, half of the room at once, then as few others as must
    /// be, and these only for their number; of both those that were asked for longest ago.
    fn evict(&mut self) -> bool {
        let (mut channels, mut places) = (self.orders.len(), self.places);
        if channels <= MAX_CHANNELS && places <= PLACES_AFTER_SWEEP {
            return false;
        }
        let rank = |order: &Order| (order.ever_signed, order.newest);
        let mut ranks: Vec<_> = self.orders.values().map(|order| (rank(order), order.len())).collect();
        ranks.sort_unstable();
        let mut last = None;
        for (rank, length) in ranks {
            let (ever_signed, _) = rank;
            let fit = if ever_signed {
                channels <= MAX_CHANNELS
            } else {
                channels <= MAX_CHANNELS / 2 && places <= MAX_PLACES / 2
            };
            if !fit {
                (channels, places) = (channels.saturating_sub(1), places.saturating_sub(length));
                last = Some(rank);
            }
        }
        self.orders.retain(|_, order| Some(rank(order)) > last);
        self.places = self.orders.values().map(Order::len).sum();
        last.is_some()
    }
}
