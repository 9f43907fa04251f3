//! The node's clocks, and what they tell of a process that was suspended, copied or resumed.
//!
//! A nonce must never meet two messages, so a node must not be snapshotted and resumed. It cannot prevent that, but it
//! looks for the traces before every batch: the clock that counts through a suspension (`CLOCK_BOOTTIME`) parted from
//! the one that does not (`CLOCK_MONOTONIC`); the wall clock jumped; the kernel under the process is another one. On any
//! of them every nonce is forgotten and every stream ends. A copy that is resumed so quickly that no clock shows it
//! still has no connection of its own: each stream's TLS keys are in use by the original.

use nix::time::{ClockId, clock_gettime};

use crate::limits::MAX_CLOCK_DRIFT_MS;

/// All clocks at one moment, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since 1970, as people set it.
    pub wall_ms: i64,
    /// Since some moment, without suspensions.
    pub monotonic_ms: i64,
    /// Since some moment, with suspensions.
    pub boot_ms: i64,
}

impl Reading {
    /// Reads the system's clocks.
    #[must_use]
    pub fn now() -> Self {
        let read =
            |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000);
        Self {
            wall_ms: read(ClockId::CLOCK_REALTIME),
            monotonic_ms: read(ClockId::CLOCK_MONOTONIC),
            boot_ms: read(ClockId::CLOCK_BOOTTIME),
        }
    }

    /// A moment in Unix seconds, for all clocks.
    #[must_use]
    pub fn at(unix_s: u64) -> Self {
        let ms = i64::try_from(unix_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self { wall_ms: ms, monotonic_ms: ms, boot_ms: ms }
    }

    /// Unix seconds.
    #[must_use]
    pub fn unix_s(self) -> u64 {
        u64::try_from(self.wall_ms / 1_000).unwrap_or(0)
    }
}

/// A trace of suspension, copying or resuming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// The machine or the process slept.
    #[error("the machine was suspended for {0} ms")]
    Suspended(i64),
    /// The wall clock was set, or the machine resumed from a copy.
    #[error("the wall clock jumped by {0} ms")]
    Jumped(i64),
    /// The process moved to another kernel.
    #[error("the process was moved to another running system")]
    Moved,
}

/// Compares each reading with the one before.
#[derive(Debug)]
pub struct Watch {
    last: Reading,
    boot_id: String,
}

impl Watch {
    /// Begins with this reading and the present `boot_id`.
    #[must_use]
    pub fn new(now: Reading, boot_id: String) -> Self {
        Self { last: now, boot_id }
    }

    /// What happened since the last look at the clocks.
    pub fn check(&mut self, now: Reading) -> Option<Anomaly> {
        let last = std::mem::replace(&mut self.last, now);
        let slept = (now.boot_ms - now.monotonic_ms) - (last.boot_ms - last.monotonic_ms);
        let jumped = (now.wall_ms - now.boot_ms) - (last.wall_ms - last.boot_ms);
        if slept.abs() > MAX_CLOCK_DRIFT_MS {
            Some(Anomaly::Suspended(slept))
        } else if jumped.abs() > MAX_CLOCK_DRIFT_MS {
            Some(Anomaly::Jumped(jumped))
        } else {
            None
        }
    }

    /// What a fresh look at `boot_id` says.
    pub fn check_boot_id(&mut self, boot_id: String) -> Option<Anomaly> {
        let moved = boot_id != self.boot_id;
        self.boot_id = boot_id;
        moved.then_some(Anomaly::Moved)
    }
}

/// The running kernel's own name, new at each boot; empty where the system does not tell.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Reading = Reading { wall_ms: 1_700_000_000_000, monotonic_ms: 50_000, boot_ms: 60_000 };

    fn later(wall: i64, monotonic: i64, boot: i64) -> Reading {
        Reading {
            wall_ms: START.wall_ms + wall,
            monotonic_ms: START.monotonic_ms + monotonic,
            boot_ms: START.boot_ms + boot,
        }
    }

    #[test]
    fn time_that_goes_by_is_no_anomaly() {
        let mut watch = Watch::new(START, "a".into());
        assert_eq!(watch.check(later(3_600_000, 3_600_000, 3_600_000)), None);
        assert_eq!(
            watch.check(later(3_604_000, 3_600_100, 3_600_100)),
            None,
            "the time service corrects a little"
        );
        assert_eq!(watch.check_boot_id("a".into()), None);
    }

    #[test]
    fn suspension_jump_and_move_are_seen_once() {
        let mut watch = Watch::new(START, "a".into());
        assert_eq!(watch.check(later(9_000, 1_000, 9_000)), Some(Anomaly::Suspended(8_000)));
        assert_eq!(watch.check(later(10_000, 2_000, 10_000)), None);
        assert_eq!(watch.check(later(4_000, 3_000, 11_000)), Some(Anomaly::Jumped(-7_000)));
        assert_eq!(watch.check(later(3_600_000, 4_000, 12_000)), Some(Anomaly::Jumped(3_595_000)));
        assert_eq!(watch.check_boot_id("b".into()), Some(Anomaly::Moved));
        assert_eq!(watch.check_boot_id("b".into()), None);
    }

    #[test]
    fn the_system_has_clocks() {
        let now = Reading::now();
        assert!(now.unix_s() > 1_600_000_000 && now.monotonic_ms > 0 && now.boot_ms >= now.monotonic_ms);
    }
}
