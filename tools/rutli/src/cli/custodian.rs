//! `rutli pending`, `rutli review`, `rutli approve`, `rutli refuse` and `rutli evidence …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rutli_keys::OrgName;
use rutli_release::ReleaseId;

/// What custodians do about releases.
#[derive(Debug, Subcommand)]
pub enum Custodian {
    /// List the releases that wait, those that wait for evidence first, and whom they wait for.
    Pending(Pending),
    /// Show all that a custodian decides by: files, evidence, what is missing, the difference to the last release; compare
    /// files.
    Review(Review),
    /// Approve a release: show it, ask, sign the approval, add it to the release's evidence.
    Approve(Approve),
    /// Refuse a release, for good: show it, ask, sign the refusal, add it to the release's evidence.
    Refuse(Refuse),
    /// A release's evidence: add to it, list it, write it to files.
    #[command(subcommand)]
    Evidence(Evidence),
}

/// `rutli pending`
#[derive(Debug, Args)]
pub struct Pending {
    /// Only those that wait for a node of this organisation.
    #[arg(long)]
    pub organisation: Option<OrgName>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// `rutli review`
#[derive(Debug, Args)]
#[command(
    after_help = "Example: rutli review suite-1.4.2-0123456789ab --trust /etc/rutli/policy dist/suite.tar.gz"
)]
pub struct Review {
    /// Its id.
    pub release: ReleaseId,
    /// Files to compare with those of the release, by name and digest. Exit code 5 if one is not the release's.
    #[arg(value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Names of the files are their paths relative to this directory. Default: their file names.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}

/// How a release is shown.
#[derive(Debug, Args)]
pub struct View {
    /// A node's folder of rules: say what the evidence establishes by its trust.toml and allowed_signers.
    #[arg(long, value_name = "FOLDER")]
    pub trust: Option<PathBuf>,
    /// List all files and all differences, however many there are.
    #[arg(long = "files", value_name = "all", value_parser = ["all"])]
    pub files: Option<String>,
}

/// `rutli approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// Its id.
    pub release: ReleaseId,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}

/// `rutli refuse`
#[derive(Debug, Args)]
pub struct Refuse {
    /// Its id.
    pub release: ReleaseId,
    /// Why: one line of at most 500 bytes. It stands in the log, for everybody to read.
    #[arg(long)]
    pub reason: String,
    /// A file of the release, by its name: refuse every release of the product that has it. May be repeated. Default: all files
    /// of the release.
    #[arg(long = "file", value_name = "NAME")]
    pub files: Vec<String>,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}

/// How a custodian's word is signed.
#[derive(Debug, Args)]
pub struct Signing {
    /// The custodian's SSH key: a private key file; or a public key or `sk` key file, with which `ssh-keygen` signs by an agent
    /// or an authenticator.
    #[arg(long, value_name = "SSHKEY", required_unless_present_any = ["print_text", "signature"], conflicts_with_all = ["print_text", "signature"])]
    pub key: Option<PathBuf>,
    /// Only write the text that is to be signed, to sign it elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    pub print_text: Option<PathBuf>,
    /// The signature that was made elsewhere of the text that --print-text wrote: `ssh-keygen -Y sign` calls it FILE.sig.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Sign without asking, for scripts.
    #[arg(long)]
    pub yes: bool,
}

/// `rutli evidence …`
#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// Add attestations, approvals or refusals to a release.
    Add {
        /// Its id.
        release: ReleaseId,
        /// Documents: DSSE envelopes in JSON, or signed approvals and refusals.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List a release's evidence.
    List {
        /// Its id.
        release: ReleaseId,
    },
    /// Write a release's evidence to files, named by digest and kind.
    Export {
        /// Its id.
        release: ReleaseId,
        /// Where to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<Custodian, String> {
        match Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?.command {
            Command::Custodian(command) => Ok(command),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_word_is_signed_in_exactly_one_way() {
        let release = "rutli approve x-1-0123456789ab";
        for good in ["--key k", "--key k --yes", "--print-text t", "--signature s", "--key k --trust policy"]
        {
            assert!(matches!(parse(&format!("{release} {good}")), Ok(Custodian::Approve(_))), "{good}");
        }
        for bad in
            ["--yes", "--key k --print-text t", "--key k --signature s", "--print-text t --signature s"]
        {
            assert!(parse(&format!("{release} {bad}")).is_err(), "{bad}");
        }
        assert!(parse("rutli approve ../x --key k").is_err());
        assert!(parse("rutli refuse x-1-0123456789ab --key k").unwrap_err().contains("--reason"));
        assert!(parse("rutli refuse x-1-0123456789ab --key k --reason no").is_ok());
    }

    #[test]
    fn evidence_names_a_release_and_files() {
        assert!(parse("rutli evidence add x-1-0123456789ab").is_err());
        let Ok(Custodian::Evidence(Evidence::Add { files, .. })) =
            parse("rutli evidence add x-1-0123456789ab a b")
        else {
            panic!()
        };
        assert_eq!(files.len(), 2);
        assert!(parse("rutli evidence list x-1-0123456789ab").is_ok());
        assert!(parse("rutli evidence export x-1-0123456789ab").is_err());
        assert!(parse("rutli pending --organisation vendor").is_ok());
        assert!(parse("rutli pending --organisation ../vendor").is_err());
        assert!(parse("rutli review x-1-0123456789ab --files all dist/a dist/b").is_ok());
        assert!(parse("rutli review x-1-0123456789ab --files some").is_err());
    }
}
