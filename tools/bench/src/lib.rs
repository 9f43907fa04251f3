//! The bare library and the whole service, side by side in one run on the same cores.
//!
//! | figure | what it is | module |
//! | --- | --- | --- |
//! | *naive* | signatures/s of a loop over `frost-ed25519` | [`naive`] |
//! | *service* | signatures/s of the real thing: processes, mutual TLS, journals, fsync | [`cluster`], [`load`] |
//! | *files* | the same with 16 files per release: 17 signatures | [`load`] |
//! | *ratio* | service ÷ naive | [`report`] |
//! | *burst* | 1,000 signatures of one release, against the naive time for as many | [`load`] |
//! | *latency* | lone releases, beside the sum of what cannot be avoided | [`latency`] |
//! | *cost* | CPU per signature and memory, by process | [`cost`] |
//! | *micro* | CPU of every step in one process | [`micro`] |
//! | *log* | entries/s that the log takes at two lengths | [`log`] |
//! | *policy* | CPU of a node's decision by the supervisor's example rules, as a share of the signing | [`policy`] |
//!
//! Figures compare within one run on one machine; an absolute time is never a test. In scope: measuring, and nothing
//! that a daemon or the command line needs. *Micro*, *policy*, and the share and the aggregation that *latency* counts as
//! unavoidable, reach into the daemons' libraries; everything else meets them as processes.

pub mod args;
pub mod clock;
pub mod cluster;
pub mod cost;
pub mod latency;
pub mod load;
pub mod log;
pub mod micro;
pub mod naive;
pub mod policy;
pub mod report;
mod run;
pub mod stats;
pub mod work;

pub use run::run;
