//! What each requester's releases recently cost the nodes, and how often they were signed.
//!
//! A decision that finds nothing that permits a release may take fifty milliseconds; a usual one takes a
//! tenth of a millisecond. And a release that nodes refuse uses up as many nonces as one that they sign.
//! Requesters whose releases of a class take long, or are seldom signed, are [`Load::Costly`] for it. One who
//! alone asks for most of all signatures, while others ask for some, is [`Load::Heavy`]. Both share batches only
//! with their like, one at a time, and while others are active they pause after each: the costly leave three
//! quarters of the nodes' time to others, the heavy one leaves half.

use std::collections::{BTreeMap, HashMap};

use rutli_release::{Class, Requester};

use super::Millis;
use crate::limits;

/// See the module. Not durable: after a restart it is learned again from the first answer.
#[derive(Debug, Default)]
pub struct Costs {
    known: HashMap<Class, HashMap<Requester, Cost>>,
    /// Signatures that nodes were lately asked for, but for those of the costly: of each requester, and of all.
    asked: HashMap<Requester, Asked>,
    asked_of_all: u64,
    /// When these were last halved.
    halved: Millis,
    /// Whose they were and when: the last, and the last of somebody else.
    last: [Option<(Requester, Millis)>; 2],
    /// Microseconds that batches of usual requesters lately took, on average.
    batch_us: u64,
}

/// How a requester's releases of a class share the nodes' time with those of others, the lightest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Load {
    /// In batches with all others.
    #[default]
    Usual,
    /// Several times what all others together ask for.
    Heavy,
    /// Slow to decide, or seldom signed.
    Costly,
}

impl Load {
    /// How many times its duration a batch is followed by a pause, while lighter ones are there.
    pub(super) fn rests(self) -> u64 {
        match self {
            Self::Usual => 0,
            Self::Heavy => limits::HEAVY_RESTS,
            Self::Costly => limits::COSTLY_RESTS,
        }
    }
}

/// What is to be expected of a requester's next release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Microseconds that a node takes to decide it; 0 if nothing is known against it.
    pub us: u64,
    /// Whether nodes seldom sign what it requests.
    pub seldom_signed: bool,
    /// Whether it alone asks for most of all signatures.
    pub is_heavy: bool,
}

impl Expected {
    /// How it shares the nodes' time.
    #[must_use]
    pub fn load(self) -> Load {
        if self.us >= limits::COSTLY_US || self.seldom_signed {
            Load::Costly
        } else if self.is_heavy {
            Load::Heavy
        } else {
            Load::Usual
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Asked {
    all: u64,
    of_class: BTreeMap<Class, u64>,
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

    /// Records that nodes are asked for `slots` signatures on a release of this requester, in a batch of this load.
    pub fn asked(&mut self, now: Millis, load: Load, class: Class, requester: &Requester, slots: usize) {
        let halvings = now.0.saturating_sub(self.halved.0) / limits::ASKED_HALVES_MS;
        if halvings > 0 {
            self.halved = self.halved.plus(halvings.saturating_mul(limits::ASKED_HALVES_MS));
            let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
            self.asked.retain(|_, asked| {
                asked
                    .of_class
                    .values_mut()
                    .for_each(|count| *count = count.checked_shr(halvings).unwrap_or(0));
                asked.all = asked.of_class.values().sum();
                asked.all > 0
            });
            self.asked_of_all = self.asked.values().map(|asked| asked.all).sum();
        }
        // They are apart already; who is heavy beside them is nobody's burden.
        if load == Load::Costly {
            return;
        }
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        let asked = self.asked.entry(requester.clone()).or_default();
        let of_class = asked.of_class.entry(class).or_default();
        *of_class = of_class.saturating_add(slots);
        asked.all = asked.all.saturating_add(slots);
        self.asked_of_all = self.asked_of_all.saturating_add(slots);
        if self.last[0].as_ref().is_some_and(|(last, _)| last != requester) {
            self.last.swap(0, 1);
        }
        self.last[0] = Some((requester.clone(), now));
    }

    /// Records how long a batch of usual requesters took.
    pub fn batch_took(&mut self, ms: u64) {
        let old = self.batch_us;
        self.batch_us = old.saturating_sub(old / 8).saturating_add(ms.saturating_mul(1_000) / 8);
    }

    /// Whether anybody's load may be other than usual.
    #[must_use]
    pub fn are_there(&self) -> bool {
        self.known.values().any(|known| !known.is_empty()) || self.asked.len() > 1
    }

    /// What is to be expected of its next release.
    #[must_use]
    pub fn expected(&self, now: Millis, class: Class, requester: &Requester) -> Expected {
        let Cost { us, unsigned, .. } = self.at(now, class, requester);
        let seldom_signed = unsigned > WHOLE - WHOLE / limits::SELDOM;
        Expected { us, seldom_signed, is_heavy: self.is_heavy(now, class, requester) }
    }

    /// Nobody is heavy while no others are there, nor for a class of which it asks for little. A trickle of small
    /// releases makes nobody else heavy for long.
    fn is_heavy(&self, now: Millis, class: Class, requester: &Requester) -> bool {
        let batches = (self.batch_us / 1_000).saturating_mul(limits::HEAVY_BATCHES);
        let present = batches.clamp(limits::HEAVY_MS, limits::HEAVY_MOST_MS);
        let mut last = self.last.iter().flatten().filter(|(who, _)| who != requester);
        if !last.any(|(_, at)| at.plus(present) > now) {
            return false;
        }
        let Some(asked) = self.asked.get(requester) else { return false };
        let of_others = self.asked_of_all.saturating_sub(asked.all);
        asked.all > of_others.saturating_mul(limits::HEAVY_TIMES)
            && asked.of_class.get(&class).is_some_and(|count| *count >= limits::HEAVY_LEAST)
    }

    fn at(&self, now: Millis, class: Class, requester: &Requester) -> Cost {
        let known = self.known.get(&class).and_then(|of_class| of_class.get(requester));
        known.map_or(Cost { us: 0, unsigned: 0, at: now }, |cost| cost.at(now))
    }

    fn set(&mut self, now: Millis, class: Class, requester: &Requester, cost: Cost) {
        let known = self.known.entry(class).or_default();
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
        let is_costly = |costs: &Costs, ms| costs.expected(Millis(ms), CLASS, &ci).load() == Load::Costly;
        assert!(!is_costly(&costs, 0));
        costs.took(Millis(0), CLASS, &ci, 0);
        assert!(costs.known[&CLASS].is_empty());
        costs.took(Millis(0), CLASS, &ci, 50);
        assert!(is_costly(&costs, 0));
        assert!(
            costs.expected(Millis(0), Class::AvDatabase, &ci).load() == Load::Usual,
            "its databases are not"
        );
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
        assert_eq!(costs.expected(Millis(0), Class::AvDatabase, &ci).load(), Load::Usual);
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
        assert_eq!(costs.known[&CLASS].len(), limits::MAX_KNOWN_COSTS);
        let later = Millis(100 * limits::COST_HALVES_MS);
        costs.took(later, CLASS, &requester("new"), 50);
        assert_eq!(costs.known[&CLASS].len(), 1);
        assert_eq!(costs.expected(later, CLASS, &requester("new")).load(), Load::Costly);
    }

    #[test]
    fn who_asks_for_most_of_all_is_heavy_while_others_ask() {
        let (mut costs, mass, other) = (Costs::default(), requester("mass"), requester("other"));
        let load = |costs: &Costs, class, who: &Requester| costs.expected(Millis(0), class, who).load();
        costs.asked(Millis(0), Load::Usual, CLASS, &mass, 1_000);
        assert_eq!(load(&costs, CLASS, &mass), Load::Usual, "nobody else is there");
        // Those who are kept apart are not in its way.
        costs.asked(Millis(0), Load::Costly, CLASS, &other, 1);
        assert_eq!(load(&costs, CLASS, &mass), Load::Usual);
        costs.asked(Millis(0), Load::Usual, CLASS, &other, 1);
        assert_eq!(load(&costs, CLASS, &mass), Load::Heavy);
        assert_eq!(load(&costs, CLASS, &other), Load::Usual);
        costs.asked(Millis(0), Load::Usual, Class::AvDatabase, &mass, 1);
        assert_eq!(load(&costs, Class::AvDatabase, &mass), Load::Usual, "its few databases are not");
        // As heavy as it is, it stays so until the others have caught up, or are gone.
        costs.asked(Millis(0), Load::Usual, CLASS, &other, 1_000);
        assert_eq!(load(&costs, CLASS, &mass), Load::Usual);
        costs.asked(Millis(0), Load::Usual, CLASS, &mass, 5_000);
        assert_eq!(load(&costs, CLASS, &mass), Load::Heavy);
        let heavy_at = |costs: &Costs, ms| costs.expected(Millis(ms), CLASS, &mass).load() == Load::Heavy;
        assert!(heavy_at(&costs, limits::HEAVY_MS - 1));
        assert!(!heavy_at(&costs, limits::HEAVY_MS), "nobody else asks any more");
        // Where batches take long, so do the pauses between two releases of a pipeline.
        let longer = limits::HEAVY_MS + 80;
        (0..100).for_each(|_| costs.batch_took(longer / limits::HEAVY_BATCHES));
        assert!(heavy_at(&costs, limits::HEAVY_MS) && !heavy_at(&costs, longer));
        (0..100).for_each(|_| costs.batch_took(longer));
        assert!(heavy_at(&costs, limits::HEAVY_MOST_MS - 1) && !heavy_at(&costs, limits::HEAVY_MOST_MS));
        (0..100).for_each(|_| costs.batch_took(1));
        assert!(!heavy_at(&costs, limits::HEAVY_MS));
        let later = 11 * limits::ASKED_HALVES_MS;
        costs.asked(Millis(later), Load::Usual, CLASS, &mass, 5_000);
        assert!(!heavy_at(&costs, later) && costs.asked.len() == 1);
        costs.asked(Millis(later), Load::Usual, CLASS, &other, 1);
        costs.asked(Millis(later), Load::Usual, CLASS, &mass, 1);
        assert!(heavy_at(&costs, later), "regardless of who asked last");
        costs.asked(Millis(u64::MAX), Load::Costly, CLASS, &mass, 1);
        assert!(costs.asked.is_empty() && costs.asked_of_all == 0);
    }

    #[test]
    fn who_asks_for_little_is_not_heavy() {
        let (mut costs, one, other) = (Costs::default(), requester("one"), requester("other"));
        costs.asked(Millis(0), Load::Usual, CLASS, &one, 1);
        let few = usize::try_from(limits::HEAVY_LEAST).unwrap() - 1;
        costs.asked(Millis(0), Load::Usual, CLASS, &other, few);
        assert_eq!(costs.expected(Millis(0), CLASS, &other).load(), Load::Usual);
        costs.asked(Millis(0), Load::Usual, CLASS, &other, 1);
        assert_eq!(costs.expected(Millis(0), CLASS, &other).load(), Load::Heavy);
    }
}
