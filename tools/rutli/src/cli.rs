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

/// Over the flags that all commands have.
const EVERYWHERE: &str = "Everywhere";

/// Organisations sign releases together.
///
/// Exit codes: 0 done · 1 not verified, refused or failed · 2 wrong usage · 3 cannot be reached or not permitted ·
/// 4 time is up, and it still goes on · 5 files are not those expected · 6 a file changed after it was hashed.
/// See `rutli help exit-codes`.
#[derive(Debug, Parser)]
#[command(name = "rutli", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// How to reach the coordinator, and as whom: a client.toml.
    #[arg(long, global = true, env = "RUTLI_PROFILE", value_name = "FILE", help_heading = EVERYWHERE)]
    pub profile: Option<PathBuf>,

    /// The socket of the node on this machine that one is custodian of.
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
    /// Make certificates, identities and configurations for a deployment, to try it out with.
    Init(Init),
    /// Have files signed as a release.
    Sign(Box<Sign>),
    /// Verify a file's signature.
    Verify(Box<Verify>),
    /// Look at releases, take them back, fetch their files.
    #[command(subcommand)]
    Release(Release),
    /// Take a release back before it is signed, or all of a requester: the same as `release cancel`.
    Cancel(Cancel),
    /// See `rutli help roles`: what custodians do about releases.
    #[command(flatten)]
    Custodian(Custodian),
    /// Make keys together: propose, join, follow.
    #[command(subcommand)]
    Ceremony(Ceremony),
    /// Look after signer nodes.
    #[command(subcommand)]
    Node(Node),
    /// Public keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Make evidence for a release: rebuild it, attest where it comes from, or what was tested.
    #[command(subcommand)]
    Attest(Attest),
    /// Read the transparency log: watch it, look into it, prove entries.
    #[command(subcommand)]
    Log(Log),
    /// Check a custodian's policies, and try them on cases and on earlier releases, before a node loads them.
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
    /// Where to write: a new or empty folder.
    #[arg(long, value_name = "DIR", required_unless_present = "example")]
    pub out: Option<PathBuf>,
    /// Write new certificates and identities over those of an earlier run. The log's keys are kept: new ones under the
    /// same name would fork it.
    #[arg(long)]
    pub force: bool,
    /// Print an example description and end.
    #[arg(long, conflicts_with_all = ["deployment", "out", "force"])]
    pub example: bool,
}

/// `rutli release …`
#[derive(Debug, Subcommand)]
pub enum Release {
    /// List releases, newest first.
    List {
        /// Only of this product.
        #[arg(long)]
        product: Option<String>,
        /// Only of this channel.
        #[arg(long)]
        channel: Option<String>,
        /// Only in this state.
        #[arg(long, value_parser = PossibleValuesParser::new(crate::releases::STATES.map(|(_, word)| word)))]
        state: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one release.
    Show {
        /// Its id.
        release: String,
    },
    /// Follow a release until it is final.
    Watch {
        /// Its id.
        release: String,
        /// How long, as 90s, 10m or 2h. Default: for ever.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Take a release back before it is signed, or all of a requester.
    Cancel(Cancel),
    /// End a release's embargo before its time: the log shows then what was asked for.
    Disclose {
        /// Its id.
        release: String,
    },
    /// Fetch the signatures of a signed release, and the proof that it is in the log.
    #[command(visible_alias = "get")]
    Fetch {
        /// Its id.
        release: String,
        /// Where to write them.
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
    /// Take back all unfinished releases of the pipeline with this name. Role: operator.
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
        /// Allow a single organisation with a threshold of 1, whose nodes hold the whole key each.
        #[arg(long)]
        lone: bool,
    },
    /// Join a ceremony, after the custodians have compared its verification phrase (with --socket).
    Join {
        /// Its id or the beginning of it. Default: the only one under way.
        ceremony: Option<String>,
        /// The verification phrase as the other custodians read it. Default: asks.
        #[arg(long)]
        words: Option<String>,
    },
    /// Refuse to join a ceremony, which ends it (with --socket).
    Reject {
        /// Its id or the beginning of it. Default: the only one under way.
        ceremony: Option<String>,
        /// Why, for the other custodians.
        #[arg(long)]
        reason: String,
    },
    /// End a ceremony under way, for everybody (with --socket).
    Abort {
        /// Its id or the beginning of it. Default: the only one under way.
        ceremony: Option<String>,
        /// Why, for the other custodians.
        #[arg(long)]
        reason: String,
    },
    /// Show one ceremony with its members (with --profile or --socket).
    Show {
        /// Its id or the beginning of it. Default: the only one under way, else the newest.
        ceremony: Option<String>,
    },
    /// List ceremonies (with --profile or --socket).
    List,
    /// Follow a ceremony until it is final (with --profile or --socket).
    Watch {
        /// Its id or the beginning of it. Default: the only one under way, else the newest.
        ceremony: Option<String>,
        /// How long, as 90s, 10m or 2h. Default: until its deadline.
        #[arg(long, value_name = "TIME", value_parser = parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Say where a ceremony stands, and who must do what next (with --profile or --socket).
    Status {
        /// Its id or the beginning of it. Default: the only one under way, else the newest.
        ceremony: Option<String>,
    },
}

/// `rutli node …`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Show what a node does, holds and decides by (with --socket).
    Status,
    /// Have a node read its rules again, at once (with --socket). Exit code 1 if they do not hold.
    Reload,
    /// Have a node sign nothing until it is resumed (with --socket).
    Pause {
        /// Why; kept and shown.
        #[arg(long)]
        reason: String,
    },
    /// Have a paused node sign again; vouches for its clock, and for its head of the log if that forked (with --socket).
    Resume {
        /// Vouch for this head of the log, SIZE:ROOT as `rutli node status` and a checkpoint show it: the node takes what
        /// extends it, and waits for no peer if it was restored. Only after the custodians have compared it by telephone.
        #[arg(long, value_name = "SIZE:ROOT", value_parser = crate::nodes::parse_head)]
        log_head: Option<Head>,
    },
    /// Give a sealed node its passphrase (with --socket): asks, or reads a line from stdin.
    Unseal,
    /// List the nodes as the coordinator sees them (with --profile of an operator or auditor).
    List,
    /// Put a node back that was left out for lying (with --profile of an operator).
    Reinstate {
        /// ORGANISATION/NODE
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
        /// A product whose signed files ssh-keygen is to accept, in one channel or in all, for example
        /// product-build/suite or product-build/suite/stable. May be repeated.
        #[arg(long = "allow", value_name = "CLASS/PRODUCT[/CHANNEL]")]
        allow: Vec<SshNamespaces>,
    },
}

/// `rutli demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Where to work: a new or empty folder, or that of an earlier demo, which goes. Default: a temporary one, whose
    /// path is printed.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Stay up until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Where rutli-coordinator and rutli-signer are. Default: beside this program.
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// A Python with securesystemslib, to verify DSSE with. Default: python3, if it has it.
    #[arg(long, value_name = "PATH")]
    pub python: Option<PathBuf>,
    /// The files to sign as a product build. Default: this program.
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
