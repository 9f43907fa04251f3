//! `rutli pending`, `rutli review`, `rutli approve`, `rutli refuse` and `rutli evidence …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use rutli_keys::OrgName;
use rutli_release::ReleaseId;

/// Commands of custodians.
#[derive(Debug, Subcommand)]
pub enum Custodian {
    /// List waiting releases and what they wait for; those that wait for evidence come first.
    Pending(Pending),
    /// Show everything that a custodian decides by: files, evidence, what is missing, the difference from the
    /// last release. Optionally compare files.
    Review(Review),
    /// Approve a release: show it, ask for confirmation, sign the approval, and add it to the release's
    /// evidence.
    Approve(Approve),
    /// Refuse a release permanently: show it, ask for confirmation, sign the refusal, and add it to the
    /// release's evidence.
    Refuse(Refuse),
    /// Add, list or export a release's evidence.
    #[command(subcommand)]
    Evidence(Evidence),
}

/// `rutli pending`
#[derive(Debug, Args)]
pub struct Pending {
    /// Only releases that wait for a node of this organisation.
    #[arg(long)]
    pub organisation: Option<OrgName>,
    /// Maximum number of results.
    #[arg(long, default_value_t = 50)]
    pub limit: u32,
}

/// `rutli review`
#[derive(Debug, Args)]
#[command(
    after_help = "Example: rutli review suite-1.4.2-0123456789ab --trust /etc/rutli/policy dist/suite.tar.gz"
)]
pub struct Review {
    /// Id of the release.
    pub release: ReleaseId,
    /// Files to compare with those of the release, by name and digest. Exit code 5 if one is not the release's.
    #[arg(value_name = "FILE")]
    pub paths: Vec<PathBuf>,
    /// Name files by their path below this directory. Default: their file names.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}

/// How a release is shown.
#[derive(Debug, Args)]
pub struct View {
    /// Policy directory of a node: verify the evidence with its trust.toml and allowed_signers.
    #[arg(long, value_name = "FOLDER")]
    pub trust: Option<PathBuf>,
    /// List all files and all differences, however many there are.
    #[arg(long = "files", value_name = "all", value_parser = ["all"])]
    pub files: Option<String>,
}

/// `rutli approve`
#[derive(Debug, Args)]
pub struct Approve {
    /// Id of the release.
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
    /// Id of the release.
    pub release: ReleaseId,
    /// Reason: one line of at most 500 bytes. It is published in the log.
    #[arg(long)]
    pub reason: String,
    /// Name of a file of the release: every release of the product that has it is refused. May be repeated.
    /// Default: all files of the release.
    #[arg(long = "file", id = "refused_file", value_name = "NAME")]
    pub refused_files: Vec<String>,
    /// How it is signed.
    #[command(flatten)]
    pub signing: Signing,
    /// How to show it.
    #[command(flatten)]
    pub view: View,
}

/// How a custodian's approval or refusal is signed.
#[derive(Debug, Args)]
pub struct Signing {
    /// The custodian's SSH key: a private key file, or a public key or `sk` key file for which `ssh-keygen`
    /// uses an agent or an authenticator.
    #[arg(long, value_name = "SSHKEY", required_unless_present_any = ["print_text", "signature"], conflicts_with_all = ["print_text", "signature"])]
    pub key: Option<PathBuf>,
    /// Only write the text to be signed to this file, to sign it elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    pub print_text: Option<PathBuf>,
    /// Signature made elsewhere over the text that --print-text wrote; `ssh-keygen -Y sign` calls it
    /// FILE.sig.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Sign without asking for confirmation, for scripts.
    #[arg(long)]
    pub yes: bool,
}

/// `rutli evidence …`
#[derive(Debug, Subcommand)]
pub enum Evidence {
    /// Add attestations, approvals or refusals to a release.
    Add {
        /// Id of the release.
        release: ReleaseId,
        /// Documents: DSSE envelopes in JSON, or signed approvals and refusals.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List a release's evidence.
    List {
        /// Id of the release.
        release: ReleaseId,
    },
    /// Write a release's evidence to files, named by digest and kind.
    Export {
        /// Id of the release.
        release: ReleaseId,
        /// Output directory.
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
        let refuse = parse("rutli refuse x-1-0123456789ab --key k --reason no --file a --file b --files all");
        let Ok(Custodian::Refuse(refuse)) = refuse else { panic!("{refuse:?}") };
        assert_eq!(refuse.refused_files, ["a", "b"]);
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
