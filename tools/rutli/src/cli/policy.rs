//! `rutli policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};
use rutli_release::{Product, ReleaseId};

/// `rutli policy …`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check policies as a node does when it loads them. Exit code 1: a node would reject them.
    Check(PolicyFiles),
    /// Test policies on cases. Exit code 1: a case gives an unexpected result.
    Test {
        /// Which policies.
        #[command(flatten)]
        policies: PolicyFiles,
        /// Cases, in TOML or JSON.
        cases: PathBuf,
    },
    /// Explain policy by policy what applies to cases, and what is missing.
    Explain {
        /// Which policies.
        #[command(flatten)]
        policies: PolicyFiles,
        /// Cases, in TOML or JSON.
        cases: PathBuf,
        /// Only the case of this name.
        #[arg(long, value_name = "NAME")]
        case: Option<String>,
    },
    /// Show what policies would have decided about releases that the coordinator has. Exit code 1: a signed
    /// release would not have been permitted.
    Replay(Replay),
}

/// `rutli policy replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// Which policies.
    #[command(flatten)]
    pub policies: PolicyFiles,
    /// Id of a release, in any state. May be repeated.
    #[arg(long, value_name = "ID", conflicts_with_all = ["last", "product"])]
    pub release: Vec<ReleaseId>,
    /// Number of releases, newest first.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=200))]
    pub last: u32,
    /// Only releases of this product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Explain policy by policy what applies, and what is missing.
    #[arg(long)]
    pub explain: bool,
}

/// Which policies, and the keys to trust.
#[derive(Debug, Args)]
pub struct PolicyFiles {
    /// Cedar files, or a policy directory.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Policy directory with trust.toml and allowed_signers: names that policies use must be in it. Default:
    /// every name counts as trusted.
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,
}
