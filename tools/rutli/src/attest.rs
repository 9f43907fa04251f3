//! `rutli attest`: evidence for a release, made where the work is done.
//!
//! | module | does |
//! | --- | --- |
//! | [`rebuild`] | `rebuild`: source → build → comparison → attestation, in this order |
//! | [`place`] | a file system of bounded size that all of it happens in |
//! | [`archive`] | unpacks the source, which may be hostile |
//! | [`isolation`] | the walls around the build: Bubblewrap, or namespaces by util-linux |
//! | [`bounds`] | what a build may use; with [`cgroup`], or what [`usage`] counts |
//! | [`build`] | runs the build within its time and bounds, and keeps the end of what it says |
//! | [`expected`] | what must come out |
//! | [`compare`] | what came out, and how it differs |
//! | [`explain`] | how, in plain words: the first byte that differs, diffoscope |
//! | [`statements`] | `provenance` and `test-result`; what all three share |
//! | [`limits`] | every bound, with its reason |
//!
//! In scope: making attestations, which `rutli_evidence` encodes. Out of scope: bringing them to a release (`rutli evidence add`),
//! and whether they are enough, which custodians' policies say.

pub mod archive;
pub mod bounds;
pub mod build;
pub mod cgroup;
pub mod compare;
pub mod expected;
pub mod explain;
pub mod isolation;
pub mod limits;
pub mod place;
pub mod rebuild;
pub mod statements;
pub mod usage;

/// The `buildType` of rebuilds. Parameters: `command`, run by `sh -c` in the archive's one top folder below `/build`;
/// `source_date_epoch`; `output`; `isolation`; `limits`, and what kept the build to them; `read_only`, the paths that the build could read beside the system's, on a line
/// each; and `env.NAME` for every variable that was set.
pub const REBUILD_TYPE: &str = "rutli:attest-rebuild:v1";

/// The `buildType` of builds that a pipeline attests without one of its own. Parameters: any.
pub const BUILD_TYPE: &str = "rutli:build:v1";
