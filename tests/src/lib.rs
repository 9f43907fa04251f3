//! What crosses crates: the tests' own tools. The tests themselves are in `tests/`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`cluster`] | real processes on loopback: started, killed, frozen, starved; nothing stays behind |
//! | [`releases`] | requests with real files, and the check of everything that comes back |
//! | [`stand_in`] | a node that is linked from the real library and lies |
//! | [`certificates`] | certificates that should not be accepted |
//! | [`disk`] | a disk that is full |
//! | [`stock`] | the verifiers that endpoints have already, and a Python with gRPC |

pub mod certificates;
pub mod cluster;
pub mod disk;
pub mod releases;
pub mod simulation;
pub mod stand_in;
pub mod stock;
