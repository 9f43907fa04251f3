//! Rütli's command line: sign and verify releases, run key ceremonies, look after nodes, try it all out.
//!
//! In scope: what people and scripts do with a deployment from outside. The commands live in one module each and give
//! back a [`report::Report`]; [`run`] is the only place that prints it. Programs that want to talk to a coordinator
//! or a node in the same way (benchmarks, tests) start at [`client`].
//! Out of scope: anything that a daemon does; this crate starts daemons ([`demo`]), it never is one.

pub mod attest;
pub mod ceremonies;
pub mod cli;
pub mod client;
pub mod clock;
pub mod demo;
pub mod evidence;
pub mod files;
pub mod hash;
pub mod help;
pub mod init;
pub mod interruption;
pub mod keys;
pub mod limits;
pub mod log;
pub mod nodes;
pub mod pending;
pub mod policy;
pub mod release_files;
pub mod releases;
pub mod report;
pub mod review;
pub mod run;
pub mod sign;
pub mod status;
pub mod text;
pub mod trust;
pub mod verify;
pub mod waits;
pub mod word;
