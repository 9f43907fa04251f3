//! The coordinator: admits releases, gathers the quorum, aggregates and publishes. It holds no share and no nonce, and is
//! trusted for being up, not for what is signed.
//!
//! The way of one release, file by file: [`server`] (who asks, how errors look) → [`sign_release`] (the heart: admit, log,
//! session, publish) → [`session`] (the sans-IO engine and its driver) → [`node_link`] (the streams of the nodes) →
//! back: [`session`] → [`aggregate`] → [`publish`]. Around it: [`store`] (what must not be forgotten), [`waiting`] (bounds
//! and watchers), [`ceremonies`] (the relay of key ceremonies), [`listener`] and [`tls_files`] (connections), [`health`].

pub mod aggregate;
pub mod bounds;
pub mod ceremonies;
pub mod clients;
pub mod clock;
pub mod commitment;
pub mod config;
mod crash;
mod daemon;
pub mod embargo;
pub mod error;
pub mod evidence;
pub mod health;
pub mod keyring;
pub mod limits;
pub mod listener;
pub mod log;
pub mod node_link;
pub mod publish;
pub mod server;
pub mod session;
pub mod share;
pub mod sign_release;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tls_files;
pub mod waiting;

pub use clock::Clock;
pub use config::Config;
pub use daemon::{Daemon, Signals, run};
pub use error::{Error, Result};
