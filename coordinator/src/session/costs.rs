//! What each requester's releases recently cost the nodes, and whether they signed them.
//!
//! A decision that finds nothing that permits a release may take fifty milliseconds; a usual one takes a
//! tenth of a millisecond. And a release that nodes refuse uses up as many nonces as one that they sign.
//! Requesters whose releases take long, or are seldom signed, are **costly**: they share batches only with
//! each other, one at a time, and get a quarter of the nodes' time while others want it.

use std::collections::HashMap;

use rutli_release::Requester;

use super::Millis;
use crate::limits;

/// See the module. Not durable: after a restart it is learned again from the first answer.
#[derive(Debug, Default)]
pub struct Costs(HashMap<Requester, Cost>);

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
    /// Of the recent answers, the part that gave no share, in parts of [`WHOLE`].
    unsigned: u32,
    at: Millis,
}

/// See [`Cost::unsigned`].
const WHOLE: u32 = 1 << 16;

impl Costs {
    /// Records how long a node took for one decision about a release of this requester, and whether it gave shares.
    pub fn note(&mut self, now: Millis, requester: &Requester, ms: u64, signed: bool) {
        let old = self.now(now, requester);
        let new = ms.saturating_mul(1_000);
        // Learned quickly and forgotten slowly: a few cheap requests do not make up for many expensive ones.
        let us = if new > old.us {
            old.us.saturating_add(new.saturating_sub(old.us).div_ceil(2))
        } else {
            old.us.saturating_sub(old.us.saturating_sub(new) / limits::COST_FADES)
        };
        let unsigned = if signed {
            old.unsigned - old.unsigned / limits::ANSWERS_REMEMBERED
        } else {
            old.unsigned + (WHOLE - old.unsigned) / limits::ANSWERS_REMEMBERED
        };
        let cost = Cost { us, unsigned, at: now };
        if cost.is_nothing() {
            self.0.remove(requester);
            return;
        }
        if self.0.len() >= limits::MAX_KNOWN_COSTS && !self.0.contains_key(requester) {
            self.0.retain(|_, cost| !cost.at(now).is_nothing());
        }
        if self.0.len() < limits::MAX_KNOWN_COSTS || self.0.contains_key(requester) {
            self.0.insert(requester.clone(), cost);
        }
    }

    /// What is to be expected of its next release.
    #[must_use]
    pub fn expected(&self, now: Millis, requester: &Requester) -> Expected {
        let Cost { us, unsigned, .. } = self.now(now, requester);
        Expected { us, seldom_signed: unsigned > WHOLE - WHOLE / limits::SELDOM }
    }

    fn now(&self, now: Millis, requester: &Requester) -> Cost {
        self.0.get(requester).map_or(Cost { us: 0, unsigned: 0, at: now }, |cost| cost.at(now))
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
        self.us < limits::COST_FORGOTTEN_US && self.unsigned < WHOLE / limits::ANSWERS_REMEMBERED
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
        let is_costly = |costs: &Costs, ms| costs.expected(Millis(ms), &ci).is_costly();
        assert!(!is_costly(&costs, 0));
        costs.note(Millis(0), &ci, 0, true);
        assert!(costs.0.is_empty());
        costs.note(Millis(0), &ci, 50, true);
        assert!(is_costly(&costs, 0));
        for _ in 0..3 {
            costs.note(Millis(0), &ci, 0, true);
        }
        assert!(is_costly(&costs, 0), "three cheap ones are not enough");
        for _ in 0..100 {
            costs.note(Millis(0), &ci, 0, true);
        }
        assert!(!is_costly(&costs, 0));
        costs.note(Millis(0), &ci, 50, true);
        assert!(is_costly(&costs, limits::COST_HALVES_MS));
        assert!(!is_costly(&costs, 9 * limits::COST_HALVES_MS));
        assert!(!is_costly(&costs, u64::MAX));
    }

    /// A build that waits for its approvals is asked about several times before it is signed.
    #[test]
    fn who_is_seldom_signed_is_kept_apart() {
        let (mut costs, ci) = (Costs::default(), requester("ci"));
        let seldom = |costs: &Costs, ms| costs.expected(Millis(ms), &ci).seldom_signed;
        for number in 0..200 {
            costs.note(Millis(0), &ci, 0, number % 5 == 4);
            assert!(!seldom(&costs, 0), "one answer in five gives shares");
        }
        let mut answers = 0;
        while !seldom(&costs, 0) {
            costs.note(Millis(0), &ci, 0, false);
            answers += 1;
        }
        assert!((3..100).contains(&answers), "after {answers} answers");
        assert!(costs.expected(Millis(0), &ci).is_costly());
        assert!(!seldom(&costs, limits::COST_HALVES_MS));
        for _ in 0..3 * limits::ANSWERS_REMEMBERED {
            costs.note(Millis(0), &ci, 0, false);
        }
        for _ in 0..6 {
            costs.note(Millis(0), &ci, 0, true);
        }
        assert!(!seldom(&costs, 0), "two releases signed by three nodes");
    }

    #[test]
    fn so_many_are_known() {
        let mut costs = Costs::default();
        for number in 0..limits::MAX_KNOWN_COSTS + 3 {
            costs.note(Millis(0), &requester(&format!("r{number}")), 50, false);
        }
        assert_eq!(costs.0.len(), limits::MAX_KNOWN_COSTS);
        let later = Millis(100 * limits::COST_HALVES_MS);
        costs.note(later, &requester("new"), 50, true);
        assert!(costs.0.len() == 1 && costs.expected(later, &requester("new")).is_costly());
    }
}
