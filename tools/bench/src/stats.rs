//! From samples to figures.

use std::time::Duration;

use serde::Serialize;

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// Half of the samples took at most so long.
    pub p50_ms: f64,
    /// 99 of 100 took at most so long.
    pub p99_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many.
    pub samples: usize,
}

impl Times {
    /// Over all samples, in any order.
    #[must_use]
    pub fn over(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |share: f64| milliseconds(percentile(&samples, share));
        Self { p50_ms: at(0.5), p99_ms: at(0.99), min_ms: at(0.0), max_ms: at(1.0), samples: samples.len() }
    }
}

/// In milliseconds.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The sample at this share of a sorted list (nearest rank); zero of none.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * float(sorted.len())).ceil().max(1.0);
    // At most the length, which was a `usize`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
    let index = rank as usize - 1;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A count as a number to calculate with. Counts here are far below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn float(count: usize) -> f64 {
    count as f64
}

/// As [`float`].
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^53")]
pub fn float64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = Times::over((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((times.p50_ms, times.p99_ms, times.min_ms, times.max_ms), (50.0, 99.0, 1.0, 100.0));
        let one = Times::over(vec![Duration::from_millis(7)]);
        assert_eq!((one.p50_ms, one.p99_ms, one.samples), (7.0, 7.0, 1));
        assert_eq!(Times::over(Vec::new()).samples, 0);
    }
}
