//! What crosses crates: the tests' own tools. The tests themselves are in `tests/`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`attack`] | attackers with stolen certificates, other people's files, or the coordinator itself; and the honest client beside them |
//! | [`simulation`] | the engines of coordinator and nodes under seeded faults, without sockets and clocks |
//! | [`cluster`] | real processes on loopback: started, killed, frozen, starved; nothing stays behind |
//! | [`hearts`] | the hearts of all nodes of a deployment, and the test as their coordinator |
//! | [`evidence`] | attestations, approvals and refusals, and rules that trust them |
//! | [`examples`] | the example policies, with keys that the tests have |
//! | [`liar`] | a compromised coordinator, for a real node over the real link |
//! | [`log`] | a transparency log in memory, and its forger |
//! | [`releases`] | requests with real files, and the check of everything that comes back |
//! | [`stand_in`] | a node that is linked from the real library and lies |
//! | [`certificates`] | certificates that should not be accepted |
//! | [`disk`] | a disk that is full |
//! | [`stock`] | the verifiers that endpoints have already, and a Python with gRPC |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness fails its test by panicking"
)]

pub mod attack;
pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod evidence;
pub mod examples;
pub mod hearts;
pub mod liar;
pub mod log;
pub mod releases;
pub mod simulation;
pub mod stand_in;
pub mod stock;
