//! The command line's only clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970. A clock before that counts as 1970, so that everything with a time in it is refused, not
/// accepted.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, not an engine: this is where its time comes from"
)]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
