//! `rutli policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand, value_parser};
use rutli_release::{Product, ReleaseId};

/// `rutli policy …`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check policies as a node does when it loads them. Exit code 1: it would not.
    Check(PolicyFiles),
    /// Try policies on cases. Exit code 1: one does not go as expected.
    Test {
        /// Which policies.
        #[command(flatten)]
        policies: PolicyFiles,
        /// The cases, in TOML or JSON.
        cases: PathBuf,
    },
    /// Say policy by policy what applies to cases, and what is missing.
    Explain {
        /// Which policies.
        #[command(flatten)]
        policies: PolicyFiles,
        /// The cases, in TOML or JSON.
        cases: PathBuf,
        /// Only the case of this name.
        #[arg(long, value_name = "NAME")]
        case: Option<String>,
    },
    /// Say what policies would have said to releases that the coordinator has. Exit code 1: one that was signed would not have been.
    Replay(Replay),
}

/// `rutli policy replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// Which policies.
    #[command(flatten)]
    pub policies: PolicyFiles,
    /// This release, whatever became of it. May be repeated.
    #[arg(long, value_name = "ID", conflicts_with_all = ["last", "product"])]
    pub release: Vec<ReleaseId>,
    /// The newest so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = value_parser!(u32).range(1..=200))]
    pub last: u32,
    /// Only of this product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Say policy by policy what applies, and what is missing.
    #[arg(long)]
    pub explain: bool,
}

/// Which policies, and by whose trust.
#[derive(Debug, Args)]
pub struct PolicyFiles {
    /// Cedar files, or a folder with some.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// A node's folder of rules, with trust.toml and allowed_signers: names that policies use must be in it. Default: whoever
    /// is named counts as trusted.
    #[arg(long, value_name = "DIR")]
    pub trust: Option<PathBuf>,
}
