//! `rutli policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
