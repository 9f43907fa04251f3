//! The channels of all products, bounded. Only signed releases count: a requester may invent products, but
//! must not make a reader forget channels that devices install from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    embargoes::Embargoes,
    order::{Asked, Order, Said, channel_of},
    versions::Versions,
};
use crate::{
    entry::Request,
    finding::Finding,
    limits::{MAX_BESIDE_EMBARGOES, MAX_CHANNELS, MAX_PLACES, MIN_PLACES_TO_SWEEP, PLACES_AFTER_SWEEP},
};

/// What is known of each class, product and channel in which something was signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channels {
    orders: BTreeMap<String, Order>,
    versions: Versions,
    /// Places of all orders.
    places: usize,
    /// How many there were after the last sweep.
    swept: usize,
}

impl Channels {
    /// What must be known of a request, the entry `index`, when it ends.
    pub(super) fn ask(&self, index: u64, request: &Request) -> Asked {
        Asked::new(index, request, self.orders.get(&channel_of(request)))
    }

    /// Takes note that a request was signed, and compares it with others; see [`Order::sign`].
    pub(super) fn sign(&mut self, said: Said, asked: Asked, embargoes: &Embargoes) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.versions.sign(said, &asked).into_iter().collect();
        let order = self.orders.entry(asked.channel.clone()).or_default();
        let before = order.len();
        findings.extend(order.sign(said, asked));
        order.tidy(said.place, embargoes);
        self.places = self.places.saturating_add(order.len()).saturating_sub(before);
        findings
    }

    /// Forgets places that can no longer be compared with anything, next to a place where nothing is hidden
    /// any longer.
    pub(super) fn tidy(&mut self, channel: &str, place: u64, embargoes: &Embargoes) {
        if let Some(order) = self.orders.get_mut(channel) {
            let before = order.len();
            order.tidy(place, embargoes);
            self.places = self.places.saturating_add(order.len()).saturating_sub(before);
        }
    }

    /// Whether another flood would be a new one.
    pub(super) fn have_room(&self) -> bool {
        self.orders.len() <= MAX_CHANNELS / 2 && self.places <= MAX_PLACES / 2
    }

    /// Forgets what does not fit. Says whether that could hide something.
    pub(super) fn keep_bounded(&mut self, embargoes: &Embargoes) -> bool {
        // Twice as many as were needed: so a sweep costs each entry little.
        let enough = self.swept.saturating_mul(2).clamp(MIN_PLACES_TO_SWEEP, MAX_PLACES);
        if self.places <= enough {
            return self.orders.len() > MAX_CHANNELS && self.evict();
        }
        let mut lost = self.sweep(embargoes, MAX_BESIDE_EMBARGOES);
        lost |= self.evict();
        let mut most = MAX_BESIDE_EMBARGOES;
        while self.places > PLACES_AFTER_SWEEP && most > 0 {
            most /= 2;
            lost |= self.sweep(embargoes, most);
        }
        self.swept = self.places;
        lost
    }

    fn sweep(&mut self, embargoes: &Embargoes, most: usize) -> bool {
        let mut lost = false;
        for order in self.orders.values_mut() {
            lost |= order.sweep(embargoes, most);
        }
        self.places = self.orders.values().map(Order::len).sum();
        lost
    }

    /// Forgets the channels in which something was signed longest ago, an eighth at once.
    fn evict(&mut self) -> bool {
        if self.orders.len() <= MAX_CHANNELS {
            return false;
        }
        let mut newest: Vec<u64> = self.orders.values().map(|order| order.newest).collect();
        newest.sort_unstable();
        let last = newest.get(MAX_CHANNELS / 8).copied().unwrap_or(u64::MAX);
        self.orders.retain(|_, order| order.newest > last);
        self.places = self.orders.values().map(Order::len).sum();
        true
    }
}
