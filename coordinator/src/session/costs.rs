//! How long nodes recently took to decide each requester's releases.
//!
//! A decision that finds nothing that permits a release may take fifty milliseconds; a usual one takes a
//! tenth of a millisecond. Requesters whose releases take long share batches only with each other, few at a
//! time, so that nobody else waits for them.

use std::collections::HashMap;

use rutli_release::Requester;

use super::Millis;
use crate::limits;

/// See the module. Not durable: after a restart it is learned again from the first answer.
#[derive(Debug, Default)]
pub struct Costs(HashMap<Requester, Cost>);

#[derive(Debug)]
struct Cost {
    /// Microseconds for one decision.
    us: u64,
    at: Millis,
}

impl Costs {
    /// Records how long a node took for one decision about a release of this requester.
    pub fn note(&mut self, now: Millis, requester: &Requester, ms: u64) {
        let old = self.us(now, requester);
        let new = ms.saturating_mul(1_000);
        // Learned quickly and forgotten slowly: a few cheap requests do not make up for many expensive ones.
        let us = if new > old {
            old.saturating_add(new.saturating_sub(old).div_ceil(2))
        } else {
            old.saturating_sub(old.saturating_sub(new) / limits::COST_FADES)
        };
        if us < limits::COST_FORGOTTEN_US {
            self.0.remove(requester);
            return;
        }
        if self.0.len() >= limits::MAX_KNOWN_COSTS && !self.0.contains_key(requester) {
            self.0.retain(|_, cost| cost.us_at(now) >= limits::COST_FORGOTTEN_US);
        }
        if self.0.len() < limits::MAX_KNOWN_COSTS || self.0.contains_key(requester) {
            self.0.insert(requester.clone(), Cost { us, at: now });
        }
    }

    /// Microseconds that a decision about a release of this requester is expected to take; 0 if nothing is known against it.
    #[must_use]
    pub fn us(&self, now: Millis, requester: &Requester) -> u64 {
        self.0.get(requester).map_or(0, |cost| cost.us_at(now))
    }

    /// Whether its releases are kept apart from those of others.
    #[must_use]
    pub fn is_costly(&self, now: Millis, requester: &Requester) -> bool {
        self.us(now, requester) >= limits::COSTLY_US
    }

    /// Whether any requester's are.
    #[must_use]
    pub fn are_there(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Cost {
    /// It fades with time: a requester who has fixed the cause is treated like all others after some minutes.
    fn us_at(&self, now: Millis) -> u64 {
        let halvings = now.0.saturating_sub(self.at.0) / limits::COST_HALVES_MS;
        u32::try_from(halvings).ok().and_then(|halvings| self.us.checked_shr(halvings)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requester(name: &str) -> Requester {
        Requester::new(name).unwrap()
    }

    #[test]
    fn who_is_costly_is_soon_known_and_slowly_forgotten() {
        let (mut costs, ci) = (Costs::default(), requester("ci"));
        assert!(!costs.is_costly(Millis(0), &ci));
        costs.note(Millis(0), &ci, 0);
        assert!(!costs.are_there());
        costs.note(Millis(0), &ci, 50);
        assert!(costs.is_costly(Millis(0), &ci));
        for _ in 0..3 {
            costs.note(Millis(0), &ci, 0);
        }
        assert!(costs.is_costly(Millis(0), &ci), "three cheap ones are not enough");
        for _ in 0..100 {
            costs.note(Millis(0), &ci, 0);
        }
        assert!(!costs.is_costly(Millis(0), &ci));
        costs.note(Millis(0), &ci, 50);
        assert!(costs.is_costly(Millis(limits::COST_HALVES_MS), &ci));
        assert!(!costs.is_costly(Millis(9 * limits::COST_HALVES_MS), &ci));
        assert!(!costs.is_costly(Millis(u64::MAX), &ci));
    }

    #[test]
    fn so_many_are_known() {
        let mut costs = Costs::default();
        for number in 0..limits::MAX_KNOWN_COSTS + 3 {
            costs.note(Millis(0), &requester(&format!("r{number}")), 50);
        }
        assert_eq!(costs.0.len(), limits::MAX_KNOWN_COSTS);
        let later = Millis(100 * limits::COST_HALVES_MS);
        costs.note(later, &requester("new"), 50);
        assert!(costs.0.len() == 1 && costs.is_costly(later, &requester("new")));
    }
}
