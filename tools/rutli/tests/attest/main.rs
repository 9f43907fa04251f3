//! `rutli attest` as a third party and a pipeline use it: a real program, built and built again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod bounds;
mod desk;
mod ending;
mod rebuild;
mod statements;
mod walls;
