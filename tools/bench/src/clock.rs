//! The benchmark's only clocks.

use std::time::{Duration, Instant};

use nix::time::ClockId;

/// Wall time since a moment.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "measuring time is what this program is for")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// CPU time that this thread has used (`CLOCK_THREAD_CPUTIME_ID`): what other processes do at the same time hardly
/// shows in it.
#[must_use]
pub fn thread_cpu() -> Duration {
    // The clock exists on every Linux; without it a difference is zero, and zero shows.
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from).unwrap_or_default()
}
