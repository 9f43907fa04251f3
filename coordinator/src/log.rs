//! The transparency log: its folder, its web server, its outside witnesses.

pub mod folder;
pub mod web;
pub mod witness;
