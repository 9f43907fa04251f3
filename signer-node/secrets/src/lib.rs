//! A node's secrets in memory: key shares, its identity, and nonces that are used once.
//!
//! # What it promises
//!
//! Shares, scaled shares, the identity and nonces are in locked pages of their own ([`Locked`]), and are overwritten before those
//! pages are given back. What the arithmetic leaves on the stack is overwritten when it returns ([`on_wiped_stack`]). A
//! test in the release profile reads the memory of a process that has used and dropped them, and finds none.
//!
//! # Why it is not left to `frost-core`
//!
//! Version 3.0.0 wipes a nonce by an ordinary assignment, which an optimising compiler removes because nobody
//! reads the memory again. Its own nonce generation copies the signing share into two vectors that are freed
//! without being wiped. So H3's input is assembled here, and every wipe ends with a barrier that the compiler
//! cannot see through.
//!
//! # Scope
//!
//! No I/O, no clock; randomness is passed in. Elsewhere it is decided what may be signed. Registers, and
//! copies that the system saves of them, are out of scope.

pub mod locked;
pub mod nonces;

mod stack;

pub use locked::{CannotLock, Locked};
pub use nonces::{Announced, NoncePair, NoncePool};
pub use stack::on_wiped_stack;
