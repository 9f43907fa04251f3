//! Attacks on a deployment of real processes, on loopback and bounded: what an attacker has, what it tries,
//! and the result.
//!
//! | module | the attacker |
//! | --- | --- |
//! | [`stolen`] | has a pipeline's certificate, and the genuine evidence of earlier releases |
//! | [`rogue`] | is the coordinator itself, with its TLS key and the log's key |
//! | [`damage`] | reaches the files of a process that does not run |
//! | [`starve`] | has any one certificate, or none, and wants the others to get nothing done |
//!
//! [`tools`] is what it does it with, [`gauge`] the honest client beside it. `tests/tests/attack` runs all
//! of it in a short form, which asserts what a busy machine can hold; `cargo xtask attack` runs the long
//! one, with the figures.

pub mod damage;
pub mod gauge;
pub mod rogue;
pub mod starve;
pub mod stolen;
pub mod tools;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// In the test command: every kind of attack, a few seconds each.
    Short,
    /// By `cargo xtask attack`: so many seconds for each measurement, and every damage in small steps.
    Long {
        /// Of each measurement.
        seconds: u64,
    },
}

/// What came of an attack: a line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who attacks, and how.
    pub attack: String,
    /// What was tried.
    pub tried: String,
    /// What came of it.
    pub came: String,
    /// What was measured, if anything was.
    pub figures: String,
    /// How the attack succeeded, fully or in part; empty if it achieved nothing.
    pub holes: Vec<String>,
}

/// Attacks that are known to achieve something: who attacks, what is tried (how both begin), and why. The
/// table shows them as open, and the test command does not fail for them.
pub const OPEN: &[(&str, &str, &str)] = &[];

/// Why an attack is known to be open, if it is.
#[must_use]
pub fn known_open(attack: &str, tried: &str) -> Option<&'static str> {
    let is_it = |(who, what, _): &&(&str, &str, _)| attack.starts_with(who) && tried.starts_with(what);
    OPEN.iter().find(is_it).map(|(_, _, why)| *why)
}

impl Row {
    /// Why it is known to be open, if it is.
    #[must_use]
    pub fn known(&self) -> Option<&'static str> {
        known_open(&self.attack, &self.tried)
    }
}
