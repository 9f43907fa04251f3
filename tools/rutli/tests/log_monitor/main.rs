//! `rutli log` as scripts see it, over logs that are honest, and logs with one fault each.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod compare;
mod errors;
mod faults;
mod folder;
mod follow;
mod place;
mod read;
mod rounds;
mod server;
