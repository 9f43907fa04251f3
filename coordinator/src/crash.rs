//! For tests: a process that dies at a named place, as by a power cut or `kill -9`.
//!
//! Every crash boundary that a comment tells of has a name here. In builds with debug assertions the environment variable
//! `RUTLI_CRASH_AT` picks one: `log-tiles-written` dies at its first passage, `log-tiles-half-written:3` at its third.
//! Released builds have nothing of this.

/// Dies here if `RUTLI_CRASH_AT` says so.
#[cfg(debug_assertions)]
pub fn crash_point(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };

    /// The place, and how many passages of it are left.
    static CRASH_AT: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let wish = std::env::var("RUTLI_CRASH_AT").ok()?;
        let (name, passage) = wish.split_once(':').unwrap_or((&wish, "1"));
        Some((name.to_owned(), AtomicU32::new(passage.parse().ok()?)))
    });

    let Some((wanted, left)) = &*CRASH_AT else { return };
    if wanted == name && left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // SIGKILL: no handler, no destructor, no flush, as when the power goes.
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline]
pub fn crash_point(_: &str) {}
