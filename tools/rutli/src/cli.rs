//! The commands and their flags, as clap reads them.

mod attest;
mod custodian;
mod files;
mod log;
mod parse;
mod policy;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};
use clap_complete::Shell;
use rutli_log::Head;
use rutli_release::SshNamespaces;

use self::parse::parse_duration;
pub use self::{
    attest::{
        Attest, AttestProvenance, AttestRebuild, AttestSigning, AttestTests, Attested, IsolationChosen,
        LimitsChosen,
    },
    custodian::{Approve, Custodian, Evidence, Pending, Refuse, Review, Signing, View},
    files::{Number, Sign, Verify},
    log::{DocumentsChecked, Log, LogExport, LogFilter, LogMonitor, LogPlace, LogProve, LogShow},
    policy::{Policy, PolicyFiles, Replay},
};

/// Heading of the flags that all commands have.
const EVERYWHERE: &str = "Everywhere";

/// Threshold release signing across organisations.
///
/// Exit codes: 0 done · 1 not verified, refused or failed · 2 wrong usage · 3 unreachable or not permitted ·
/// 4 timed out, the request is still pending · 5 files differ from those expected · 6 a file changed after it
/// was hashed. See `rutli help exit-codes`.
#[derive(Debug, Parser)]
#[command(name = "rutli", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Profile: the coordinator's address and the client's certificate, a client.toml.
    #[arg(long, global = true, env = "RUTLI_PROFILE", value_name = "FILE", help_heading = EVERYWHERE)]
    pub profile: Option<PathBuf>,

    /// Socket of the node on this machine whose custodian you are.
    #[arg(long, global = true, env = "RUTLI_SOCKET", value_name = "PATH", help_heading = EVERYWHERE)]
    pub socket: Option<PathBuf>,

    /// Print one JSON document on stdout, errors too.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create certificates, identities and configurations for a trial deployment.
    Init(Init),
    /// Sign files as a release.
    Sign(Box<Sign>),
    /// Verify a file's signature.
    Verify(Box<Verify>),
    /// List, show, cancel and fetch releases.
    #[command(subcommand)]
    Release(Release),
    /// Cancel a release before it is signed, or all releases of a requester. Same as `release cancel`.
    Cancel(Cancel),
    /// Commands of custodians; see `rutli help roles`.
    #[command(flatten)]
    Custodian(Custodian),
    /// Run a key ceremony: propose, join, watch.
    #[command(subcommand)]
    Ceremony(Ceremony),
    /// Manage signer nodes.
    #[command(subcommand)]
    Node(Node),
    /// List and export public keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Make evidence for a release: rebuild it, attest its provenance or its tests.
    #[command(subcommand)]
    Attest(Attest),
    /// Read the transparency log: monitor it, show entries, prove them.
    #[command(subcommand)]
    Log(Log),
    /// Check a custodian's policies, and test them on cases and earlier releases, before a node loads them.
    #[command(subcommand)]
    Policy(Policy),
    /// Run a whole deployment on this machine: ceremony, signing, verification.
    Demo(Demo),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print help for a command or a topic: exit-codes, json, deployment, roles, log-alarms, policy-facts, policy-cases.
    Help {
        /// A command or a topic.
        topic: Vec<String>,
    },
}

/// `rutli init`
#[derive(Debug, Args)]
pub struct Init {
    /// The description of the deployment; `rutli help deployment` explains it.
    #[arg(required_unless_present = "example")]
    pub deployment: Option<PathBuf>,
    /// Output directory: new or empty.
    #[arg(long, value_name = "DIR", required_unless_present = "example")]
    pub out: Option<PathBuf>,
    /// Overwrite the certificates and identities of an earlier run. Policies are kept, and the log's keys:
    /// new ones under the same name would fork it.
    #[arg(long)]
    pub force: bool,
    /// Print an example description.
    #[arg(long, conflicts_with_all = ["deployment", "out", "force"])]
    pub example: bool,
}

/// `rutli release …`
#[derive(Debug, Subcommand)]
pub enum Release {
    /// List releases, newest first.
    List {
        /// Only releases of this product.
        #[arg(long)]
        product: Option<String>,
        /// Only releases of this channel.
        #[arg(long)]
        channel: Option<String>,
        /// Only releases in this state.
        #[arg(long, value_parser = PossibleValuesParser::new(crate::releases::STATES.map(|(_, word)| word)))]
        state: Option<String>,
        /// Maximum number of results.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one release.
    Show {
        /// Id of the release.
        release: String,
    },
    /// Watch a release until it is final.
    Watch {
        /// Id of the release.
        release: String,
        /// How long to watch, as 90s, 10m or 2h. Default: no limit.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Cancel a release before it is signed, or all releases of a requester.
    Cancel(Cancel),
    /// End a release's embargo early: the log then shows what was requested.
    Disclose {
        /// Id of the release.
        release: String,
    },
    /// Fetch the signatures of a signed release, and the proof that it is in the log.
    #[command(visible_alias = "get")]
    Fetch {
        /// Id of the release.
        release: String,
        /// Output directory.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `rutli cancel`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rutli cancel suite-1.2-0123456789ab --profile pipeline.toml\n  \
                        rutli cancel --requester nightly --profile operator.toml")]
pub struct Cancel {
    /// Id of the release.
    #[arg(required_unless_present = "requester")]
    pub release: Option<String>,
    /// Cancel all unfinished releases of the pipeline with this name. Role: operator.
    #[arg(long, value_name = "NAME", conflicts_with = "release")]
    pub requester: Option<String>,
}

/// `rutli ceremony …`
#[derive(Debug, Subcommand)]
pub enum Ceremony {
    /// Propose a ceremony to all nodes, and join it (with --socket).
    Propose {
        /// The proposal, as `rutli init` writes it to proposal.json.
        proposal: PathBuf,
        /// Allow a single organisation with a threshold of 1, each of whose nodes holds the whole key.
        #[arg(long)]
        lone: bool,
    },
    /// Join a ceremony, after the custodians have compared its verification phrase (with --socket).
    Join {
        /// Id of the ceremony, or its beginning. Default: the only one under way.
        ceremony: Option<String>,
        /// The verification phrase as the other custodians read it out. Default: ask.
        #[arg(long)]
        words: Option<String>,
    },
    /// Refuse to join a ceremony; this ends it (with --socket).
    Reject {
        /// Id of the ceremony, or its beginning. Default: the only one under way.
        ceremony: Option<String>,
        /// Reason, shown to the other custodians.
        #[arg(long)]
        reason: String,
    },
    /// End a ceremony for everybody (with --socket).
    Abort {
        /// Id of the ceremony, or its beginning. Default: the only one under way.
        ceremony: Option<String>,
        /// Reason, shown to the other custodians.
        #[arg(long)]
        reason: String,
    },
    /// Show one ceremony with its members (with --profile or --socket).
    Show {
        /// Id of the ceremony, or its beginning. Default: the only one under way, otherwise the newest.
        ceremony: Option<String>,
    },
    /// List ceremonies (with --profile or --socket).
    List,
    /// Watch a ceremony until it is final (with --profile or --socket).
    Watch {
        /// Id of the ceremony, or its beginning. Default: the only one under way, otherwise the newest.
        ceremony: Option<String>,
        /// How long to watch, as 90s, 10m or 2h. Default: until its deadline.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Show the state of a ceremony, and who must do what next (with --profile or --socket).
    Status {
        /// Id of the ceremony, or its beginning. Default: the only one under way, otherwise the newest.
        ceremony: Option<String>,
    },
}

/// `rutli node …`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Show a node's state, keys and policies (with --socket).
    Status,
    /// Reload a node's policy directory (with --socket). Exit code 1 if the policies are invalid.
    Reload,
    /// Stop a node from signing until it is resumed (with --socket).
    Pause {
        /// Reason; stored, and shown in the node's status.
        #[arg(long)]
        reason: String,
    },
    /// Resume a paused or closed node. This vouches for its clock, and for its log head if the log forked
    /// (with --socket).
    Resume {
        /// Vouch for this log head, SIZE:ROOT as `rutli node status` and a checkpoint show it. The node then
        /// accepts what extends it, and does not wait for peers if it was restored. Compare the head by
        /// telephone with the other custodians first.
        #[arg(long, value_name = "SIZE:ROOT", value_parser = crate::nodes::parse_head)]
        log_head: Option<Head>,
    },
    /// Unseal a node with its passphrase (with --socket): asks for it, or reads one line from stdin.
    Unseal,
    /// List the nodes as the coordinator sees them (with --profile of an operator, custodian or auditor).
    List,
    /// Reinstate a node that was excluded as a culprit (with --profile of an operator).
    Reinstate {
        /// The node, as ORGANISATION/NODE.
        node: String,
    },
}

/// `rutli keys …`
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// List the keys with their rosters (with --profile).
    List,
    /// Write each key's NAME.pem, and with --allow an allowed_signers file for ssh-keygen (with --profile).
    Export {
        /// Output directory.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Product whose signed files ssh-keygen should accept, in one channel or in all; for example
        /// product-build/suite or product-build/suite/stable. May be repeated.
        #[arg(long = "allow", value_name = "CLASS/PRODUCT[/CHANNEL]")]
        allow: Vec<SshNamespaces>,
    },
}

/// `rutli demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Working directory: new, empty, or that of an earlier demo, which is deleted. Default: a temporary one,
    /// whose path is printed.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stay up until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Directory of rutli-coordinator and rutli-signer. Default: the directory of this program.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Python with securesystemslib, to verify DSSE. Default: python3, if it has securesystemslib.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// Files to sign as a product build. Default: this program.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contracted_lines_parse() {
        let line = "rutli --profile P sign --class product-build --product x --channel c --version 1 --sequence 1 --format dsse --format sshsig --request-id ID --out OUT a b";
        let Command::Sign(sign) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((sign.formats.len(), sign.files.len()), (2, 2));
        assert_eq!((sign.proof_timeout.as_secs(), sign.embargo_until), (15, None));
        let line = "rutli sign --class product-build --product x --channel c --version 1 --sequence 1 --out OUT --proof-timeout 0 --embargo-until 1970-01-02T00:00:00Z a";
        let Command::Sign(sign) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
        assert_eq!((sign.proof_timeout.as_secs(), sign.embargo_until), (0, Some(86_400)));
        for line in [
            "rutli release disclose ID",
            "rutli release fetch ID --out DIR",
            "rutli release get ID --out DIR",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        let line = "rutli verify --key release.pem --signature FILE.sig FILE";
        assert!(Cli::try_parse_from(line.split(' ')).is_ok());
        assert!(Cli::try_parse_from("rutli init --example".split(' ')).is_ok());
        assert!(Cli::try_parse_from("rutli init d.toml".split(' ')).is_err());
        assert!(Cli::try_parse_from("rutli verify --key k --signature s".split(' ')).is_err());
    }
}
