//! What each requester's releases recently cost the nodes, and how often they were signed.
//!
//! A decision that finds nothing that permits a release may take fifty milliseconds; a usual one takes a
//! tenth of a millisecond. And a release that nodes refuse uses up as many nonces as one that they sign.
//! Requesters whose releases of a class take long, or are seldom signed, are **costly** for it: they share
//! batches only with each other, one at a time, and get a quarter of the nodes' time while others have releases
//! waiting.

use std::collections::HashMap;

use rutli_release::{Class, Requester};

use super::Millis;
use crate::limits;

/// See the module. Not durable: after a restart it is learned again from the first answer.
#[derive(Debug, Default)]
pub struct Costs(HashMap<Class, HashMap<Requester, Cost>>);

/// What is to be expected of a requester's next release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Microseconds that a node takes to decide it; 0 if nothing is known against it.
    pub us: u64,
    /// Whether nodes seldom sign what it requests.
    pub seldom_signed: bool,
}

impl Expected {
    /// Whether its releases are kept apart from those of others.
    #[must_use]
    pub fn is_costly(self) -> bool {
        self.us >= limits::COSTLY_US || self.seldom_signed
    }
}

#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Microseconds for one decision.
    us: u64,
    /// The fraction of recent releases that nodes did not sign, or not at once, in units of 1 / [`WHOLE`].
    unsigned: u32,
    at: Millis,
}

/// See [`Cost::unsigned`].
const WHOLE: u32 = 1 << 16;

impl Costs {
    /// Records how long a node took for one decision about a release of this requester.
    pub fn took(&mut self, now: Millis, class: Class, requester: &Requester, ms: u64) {
        let old = self.at(now, class, requester);
        let new = ms.saturating_mul(1_000);
        // Learned quickly and forgotten slowly: a few cheap requests do not make up for many expensive ones.
        let us = if new > old.us {
            old.us.saturating_add(new.saturating_sub(old.us).div_ceil(2))
        } else {
            old.us.saturating_sub(old.us.saturating_sub(new) / limits::COST_FADES)
        };
        self.set(now, class, requester, Cost { us, ..old });
    }

    /// Records that a release of this requester was signed; or, once for each release, that a node did not sign it.
    pub fn ended(&mut self, now: Millis, class: Class, requester: &Requester, signed: bool) {
        let old = self.at(now, class, requester);
        let unsigned = if signed {
            old.unsigned - old.unsigned / limits::RELEASES_REMEMBERED
        } else {
            old.unsigned + (WHOLE - old.unsigned) / limits::RELEASES_REMEMBERED
        };
        self.set(now, class, requester, Cost { unsigned, ..old });
    }

    /// Whether anything is known of anybody.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.0.values().any(|known| !known.is_empty())
    }

    /// What is to be expected of its next release.
    #[must_use]
    pub fn expected(&self, now: Millis, class: Class, requester: &Requester) -> Expected {
        let Cost { us, unsigned, .. } = self.at(now, class, requester);
        Expected { us, seldom_signed: unsigned > WHOLE - WHOLE / limits::SELDOM }
    }

    fn at(&self, now: Millis, class: Class, requester: &Requester) -> Cost {
        let known = self.0.get(&class).and_then(|of_class| of_class.get(requester));
        known.map_or(Cost { us: 0, unsigned: 0, at: now }, |cost| cost.at(now))
    }

    fn set(&mut self, now: Millis, class: Class, requester: &Requester, cost: Cost) {
        let known = self.0.entry(class).or_default();
        if cost.is_nothing() {
            known.remove(requester);
            return;
        }
        if known.len() >= limits::MAX_KNOWN_COSTS && !known.contains_key(requester) {
            known.retain(|_, cost| !cost.at(now).is_nothing());
        }
        if known.len() < limits::MAX_KNOWN_COSTS || known.contains_key(requester) {
            known.insert(requester.clone(), Cost { at: now, ..cost });
        }
    }
}

impl Cost {
    /// It fades with time: a requester who has fixed the cause is treated like all others after some minutes.
    fn at(self, now: Millis) -> Self {
        let halvings = now.0.saturating_sub(self.at.0) / limits::COST_HALVES_MS;
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        let (us, unsigned) = (self.us.checked_shr(halvings), self.unsigned.checked_shr(halvings));
        Self { us: us.unwrap_or(0), unsigned: unsigned.unwrap_or(0), at: self.at }
    }

    fn is_nothing(self) -> bool {
        self.us < limits::COST_FORGOTTEN_US && self.unsigned < WHOLE / limits::RELEASES_REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requester(name: &str) -> Requester {
        Requester::new(name).unwrap()
    }

    const CLASS: Class = Class::ProductBuild;

    #[test]
    fn who_is_costly_is_soon_known_and_slowly_forgotten() {
        let (mut costs, ci) = (Costs::default(), requester("ci"));
        let is_costly = |costs: &Costs, ms| costs.expected(Millis(ms), CLASS, &ci).is_costly();
        assert!(!is_costly(&costs, 0));
        costs.took(Millis(0), CLASS, &ci, 0);
        assert!(costs.0[&CLASS].is_empty());
        costs.took(Millis(0), CLASS, &ci, 50);
        assert!(is_costly(&costs, 0));
        assert!(!costs.expected(Millis(0), Class::AvDatabase, &ci).is_costly(), "its databases are not");
        for _ in 0..3 {
            costs.took(Millis(0), CLASS, &ci, 0);
        }
        assert!(is_costly(&costs, 0), "three cheap ones are not enough");
        for _ in 0..100 {
            costs.took(Millis(0), CLASS, &ci, 0);
        }
        assert!(!is_costly(&costs, 0));
        costs.took(Millis(0), CLASS, &ci, 50);
        assert!(is_costly(&costs, limits::COST_HALVES_MS));
        assert!(!is_costly(&costs, 9 * limits::COST_HALVES_MS));
        assert!(!is_costly(&costs, u64::MAX));
    }

    #[test]
    fn who_is_seldom_signed_is_kept_apart() {
        let (mut costs, ci) = (Costs::default(), requester("ci"));
        let seldom = |costs: &Costs, ms| costs.expected(Millis(ms), CLASS, &ci).seldom_signed;
        for number in 0..200 {
            costs.ended(Millis(0), CLASS, &ci, number % 2 == 1);
            assert!(!seldom(&costs, 0), "each waits for its approval, and is then signed");
        }
        let mut releases = 0;
        while !seldom(&costs, 0) {
            costs.ended(Millis(0), CLASS, &ci, false);
            releases += 1;
        }
        assert!((16..100).contains(&releases), "after {releases}");
        assert!(!costs.expected(Millis(0), Class::AvDatabase, &ci).is_costly());
        assert!(!seldom(&costs, limits::COST_HALVES_MS));
        for _ in 0..3 * limits::RELEASES_REMEMBERED {
            costs.ended(Millis(0), CLASS, &ci, false);
        }
        for _ in 0..5 {
            costs.ended(Millis(0), CLASS, &ci, true);
        }
        assert!(!seldom(&costs, 0), "five were signed");
    }

    #[test]
    fn so_many_are_known() {
        let mut costs = Costs::default();
        for number in 0..limits::MAX_KNOWN_COSTS + 3 {
            costs.took(Millis(0), CLASS, &requester(&format!("r{number}")), 50);
        }
        assert_eq!(costs.0[&CLASS].len(), limits::MAX_KNOWN_COSTS);
        let later = Millis(100 * limits::COST_HALVES_MS);
        costs.took(later, CLASS, &requester("new"), 50);
        assert!(costs.0[&CLASS].len() == 1 && costs.expected(later, CLASS, &requester("new")).is_costly());
    }
}
