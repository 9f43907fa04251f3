//! How much this node permitted within the last hour, of each class and product.
//!
//! Counted by minutes, so that memory is bounded however much is permitted: what was permitted counts for an hour, and for
//! less than a minute more. Doubt refuses: nothing is forgotten because the clock says so, but only because something was
//! permitted later, and what was permitted in the clock's future counts too.

use std::collections::BTreeMap;

use rutli_policy::Rates;
use rutli_release::{Class, Product, VerifiedRelease};

use crate::limits::MAX_CLOCK_BACKSTEP_S;

/// What policies call an hour.
const HOUR_S: u64 = 3_600;

const MINUTE_S: u64 = 60;

/// Permitted releases and their files, by the minute.
#[derive(Debug, Default)]
pub struct RateCounter {
    counts: BTreeMap<(Class, Product), BTreeMap<u64, Rates>>,
    /// The newest one that something was counted in.
    newest_minute: u64,
}

impl RateCounter {
    /// From the journal: what was permitted of a class and product in each minute since the epoch. What is later than `now`
    /// counts as of `now`: that clock was wrong, and would count it for longer than an hour.
    pub fn from_rows(rows: impl IntoIterator<Item = (Class, Product, u64, Rates)>, now: u64) -> Self {
        let mut counter = Self::default();
        for (class, product, minute, rates) in rows {
            counter.add(class, product, minute.min(now / MINUTE_S), rates);
        }
        counter
    }

    /// Unix seconds of what [`RateCounter::from_rows`] must get: everything permitted then or later.
    #[must_use]
    pub fn since(now: u64) -> u64 {
        now.saturating_sub(HOUR_S + MINUTE_S + MAX_CLOCK_BACKSTEP_S)
    }

    /// Counts a release that was permitted for the first time, at a time in Unix seconds.
    pub fn count(&mut self, release: &VerifiedRelease, now: u64) {
        let rates = Rates { releases_in_hour: 1, artifacts_in_hour: files(release) };
        self.add(release.class(), release.product().clone(), now / MINUTE_S, rates);
    }

    /// What was permitted of a release's class and product in the hour before `now`, without the release itself, which may have
    /// been permitted before.
    #[must_use]
    pub fn before(&self, release: &VerifiedRelease, permitted_at: Option<u64>, now: u64) -> Rates {
        let within = |minute: u64| (minute + 1).saturating_mul(MINUTE_S) > now.saturating_sub(HOUR_S);
        let key = (release.class(), release.product().clone());
        let mut rates = Rates::default();
        for (_, more) in self.counts.get(&key).into_iter().flatten().filter(|(minute, _)| within(**minute)) {
            rates = sum(rates, *more);
        }
        if permitted_at.is_some_and(|at| within(at / MINUTE_S)) {
            rates.releases_in_hour = rates.releases_in_hour.saturating_sub(1);
            rates.artifacts_in_hour = rates.artifacts_in_hour.saturating_sub(files(release));
        }
        rates
    }

    fn add(&mut self, class: Class, product: Product, minute: u64, rates: Rates) {
        let count = self.counts.entry((class, product)).or_default().entry(minute).or_default();
        *count = sum(*count, rates);
        if minute > self.newest_minute {
            self.newest_minute = minute;
            let since = Self::since(minute.saturating_mul(MINUTE_S)) / MINUTE_S;
            self.counts.retain(|_, minutes| {
                minutes.retain(|minute, _| *minute >= since);
                !minutes.is_empty()
            });
        }
    }
}

fn sum(a: Rates, b: Rates) -> Rates {
    Rates {
        releases_in_hour: a.releases_in_hour.saturating_add(b.releases_in_hour),
        artifacts_in_hour: a.artifacts_in_hour.saturating_add(b.artifacts_in_hour),
    }
}

fn files(release: &VerifiedRelease) -> u64 {
    u64::try_from(release.artifacts().len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{release, release_of};

    const NOW: u64 = 1_800_000_000;

    fn rates(releases_in_hour: u64, artifacts_in_hour: u64) -> Rates {
        Rates { releases_in_hour, artifacts_in_hour }
    }

    #[test]
    fn an_hour_is_counted_of_each_product() {
        let mut counter = RateCounter::default();
        counter.count(&release("suite", 1, 3), NOW);
        counter.count(&release("suite", 2, 1), NOW + 600);
        counter.count(&release("avdb", 1, 2), NOW + 600);
        let suite = release("suite", 3, 1);
        assert_eq!(counter.before(&suite, None, NOW + 600), rates(2, 4));
        assert_eq!(counter.before(&release("avdb", 2, 1), None, NOW + 600), rates(1, 2));
        assert_eq!(counter.before(&release("other", 1, 1), None, NOW + 600), rates(0, 0));
        // NOW is the first second of a minute.
        assert_eq!(counter.before(&suite, None, NOW + HOUR_S), rates(2, 4), "an hour is over");
        assert_eq!(counter.before(&suite, None, NOW + HOUR_S + MINUTE_S), rates(1, 1));
        assert_eq!(counter.before(&suite, None, NOW + 2 * HOUR_S), rates(0, 0));
    }

    #[test]
    fn an_hour_is_counted_of_each_class() {
        let (build, database) = (release("suite", 1, 3), release_of(Class::AvDatabase, "suite", 1, 2));
        let mut counter = RateCounter::default();
        counter.count(&database, NOW);
        assert_eq!(counter.before(&build, None, NOW), rates(0, 0));
        assert_eq!(counter.before(&database, None, NOW), rates(1, 2));
    }

    #[test]
    fn a_release_that_comes_again_is_not_in_its_own_way() {
        let mut counter = RateCounter::default();
        let suite = release("suite", 1, 3);
        counter.count(&suite, NOW);
        counter.count(&release("suite", 2, 1), NOW + 5);
        assert_eq!(counter.before(&suite, Some(NOW), NOW + 10), rates(1, 1));
        // Long ago it is counted no more, and nothing is to be taken away.
        counter.count(&release("suite", 3, 1), NOW + HOUR_S + MINUTE_S);
        assert_eq!(counter.before(&suite, Some(NOW), NOW + HOUR_S + MINUTE_S), rates(1, 1));
    }

    /// Forth, with nothing permitted there, and back: nothing is free. Back alone: what is in the future counts.
    #[test]
    fn a_clock_that_runs_backwards_frees_nothing() {
        let mut counter = RateCounter::default();
        let suite = release("suite", 9, 1);
        counter.count(&release("suite", 1, 1), NOW);
        assert_eq!(counter.before(&suite, None, NOW + 10 * HOUR_S), rates(0, 0));
        assert_eq!(counter.before(&suite, None, NOW + 60), rates(1, 1));
        assert_eq!(counter.before(&suite, None, NOW - 10 * HOUR_S), rates(1, 1));
        // A clock that is corrected by a little after something was permitted.
        counter.count(&release("suite", 2, 1), NOW + HOUR_S + MINUTE_S + MAX_CLOCK_BACKSTEP_S - 1);
        assert_eq!(counter.before(&suite, None, NOW + HOUR_S - 1), rates(2, 2));
    }

    #[test]
    fn what_was_permitted_in_the_future_counts_for_an_hour_from_now() {
        let suite = release("suite", 9, 1);
        let row = (suite.class(), suite.product().clone(), NOW / MINUTE_S + 1_000_000, rates(4, 7));
        let counter = RateCounter::from_rows([row], NOW);
        assert_eq!(counter.before(&suite, None, NOW), rates(4, 7));
        assert_eq!(counter.before(&suite, None, NOW + 2 * HOUR_S), rates(0, 0));
    }

    #[test]
    fn memory_is_bounded_by_minutes() {
        let mut counter = RateCounter::default();
        let suite = release("suite", 1, 1);
        (0..10_000).for_each(|step| counter.count(&suite, NOW + step * 30));
        let minutes: usize = counter.counts.values().map(BTreeMap::len).sum();
        assert!(minutes <= 63, "{minutes}");
        counter.count(&release("avdb", 1, 1), NOW + 1_000_000);
        assert_eq!(counter.counts.len(), 1, "products of which nothing is counted are forgotten");
    }
}
