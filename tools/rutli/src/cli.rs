//! The commands and their flags, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser};
use clap_complete::Shell;
use rutli_log::Head;
use rutli_release::{Channel, Class, Format, Product, RequestId, Requester, Sequence, Version};

use crate::log::limits::MIN_INTERVAL;

/// Over the flags that all commands have.
const EVERYWHERE: &str = "Everywhere";

/// Organisations sign releases together.
///
/// Exit codes: 0 done · 1 not verified, refused or failed · 2 wrong usage · 3 cannot be reached or not permitted ·
/// 4 time is up, and it still goes on. See `rutli help exit-codes`.
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
    /// Make keys together: propose, join, follow.
    #[command(subcommand)]
    Ceremony(Ceremony),
    /// Look after signer nodes.
    #[command(subcommand)]
    Node(Node),
    /// Public keys.
    #[command(subcommand)]
    Keys(Keys),
    /// Read the transparency log: watch it, look into it, prove entries.
    #[command(subcommand)]
    Log(Log),
    /// Run a whole deployment on this machine: ceremony, signing, verification.
    Demo(Demo),
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print help for a command or a topic: exit-codes, json, deployment, roles, log-alarms.
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

/// `rutli sign`
#[derive(Debug, Args)]
pub struct Sign {
    /// What kind of release.
    #[arg(long, value_parser = class_parser())]
    pub class: Class,
    /// The product.
    #[arg(long)]
    pub product: Product,
    /// The channel.
    #[arg(long)]
    pub channel: Channel,
    /// The version.
    #[arg(long)]
    pub version: Version,
    /// A number that goes up with every release of a channel.
    #[arg(long, value_parser = parse_sequence)]
    pub sequence: Sequence,
    /// A format to sign in; give it several times for several. Default: all.
    #[arg(long = "format", value_parser = format_parser())]
    pub formats: Vec<Format>,
    /// When verifiers shall begin to refuse it: RFC 3339, as 2027-11-21T10:00:00Z. Default: never.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expires_at: Option<u64>,
    /// Until when the log shall show that something was asked for, and not what: RFC 3339, as 2027-11-21T10:00:00Z. The
    /// signatures come at once; `rutli release disclose` ends it early. Default: no embargo.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub embargo_until: Option<u64>,
    /// Your own id of this request: the same id with the same content gives the same release. Default: made from the
    /// content, so that running the command again does no harm.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<RequestId>,
    /// Where to write the signatures.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name files in the release by their path below this folder. Default: by their file name.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The release key: verify everything with it before it is written.
    #[arg(long, value_name = "PEM")]
    pub key: Option<PathBuf>,
    /// How long to wait, as 90s, 10m or 2h; then exit with 4, and the release goes on without us. Default: for ever.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<std::time::Duration>,
    /// How long to wait for the proof that the signature is in the log, once the signatures are written; 0: not at all.
    /// Without it the release is signed all the same, and `rutli release fetch` fetches the proof later.
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "15s")]
    pub proof_timeout: std::time::Duration,
    /// Return when the coordinator has accepted the release; `rutli release fetch` fetches the signatures.
    #[arg(long)]
    pub no_wait: bool,
    /// The files. They are hashed here and never travel.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `rutli verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The release key.
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// The signature: FILE.sig, RELEASE.intoto.json or RELEASE.statement.sig; its form tells which.
    #[arg(long, value_name = "FILE", required_unless_present = "bundle")]
    pub signature: Option<PathBuf>,
    /// The proof that the signature is in the log: RELEASE.sigstore.json, which has the signature in it, or
    /// RELEASE.tlog-proof; its form tells which.
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    pub bundle: Option<PathBuf>,
    /// For a RELEASE.sigstore.json: the logs to trust, a trusted_root.json.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub trusted_root: Option<PathBuf>,
    /// The log and the witnesses of whom a quorum must have cosigned it: a tlog-policy.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub policy: Option<PathBuf>,
    /// For a RELEASE.sigstore.json with --policy: the cosigned proof. Default: RELEASE.tlog-proof beside it.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub proof: Option<PathBuf>,
    /// The statement that a RELEASE.statement.sig is for. Default: that name without `.sig`.
    #[arg(long, value_name = "FILE")]
    pub statement: Option<PathBuf>,
    /// Refuse another product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Refuse another channel.
    #[arg(long)]
    pub channel: Option<Channel>,
    /// Refuse another class.
    #[arg(long, value_parser = class_parser())]
    pub class: Option<Class>,
    /// Refuse a sequence below this one: what is installed already.
    #[arg(long, value_name = "SEQUENCE", value_parser = parse_sequence)]
    pub min_sequence: Option<Sequence>,
    /// The name that the file must have in the release. Default: its own file name, in any folder of the release.
    #[arg(long, conflicts_with = "any_name")]
    pub name: Option<String>,
    /// Accept the file under any name.
    #[arg(long)]
    pub any_name: bool,
    /// The files; a `.sig` is for one, a statement for any number of files of the release.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
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
    /// Take a release back before it is signed.
    Cancel {
        /// Its id.
        release: String,
    },
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

/// `rutli ceremony …`
#[derive(Debug, Subcommand)]
pub enum Ceremony {
    /// Propose a ceremony to all nodes, and join it (with --socket).
    Propose {
        /// The proposal, as `rutli init` writes it to proposal.json.
        proposal: PathBuf,
    },
    /// Join a ceremony, after the custodians have compared its words (with --socket).
    Join {
        /// Its id or the beginning of it. Default: the only one under way.
        ceremony: Option<String>,
        /// The words as the other custodians read them. Default: asks.
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
    /// Show what a node does, holds and allows (with --socket).
    Status,
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
    /// Write each key's NAME.pem and an allowed_signers file for ssh-keygen (with --profile).
    Export {
        /// Where to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// `rutli log …`
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Follow the log, verify all of it, and say what is wrong; ends on Ctrl-C or SIGTERM, see `rutli help exit-codes`.
    Monitor(LogMonitor),
    /// List the log's releases and how they ended, newest first; or show one entry.
    Show(LogShow),
    /// Write an offline proof that an entry is in the log.
    Prove(LogProve),
    /// Write entries as JSON lines.
    Export(LogExport),
}

impl Log {
    /// Whether it goes on until somebody ends it.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(self, Self::Monitor(monitor) if !monitor.once)
    }
}

/// Which log, and whom to trust about it.
#[derive(Debug, Args)]
pub struct LogPlace {
    /// The log: an address as https://log.example.com, or a folder with its files.
    #[arg(long, env = "RUTLI_LOG", value_name = "URL|DIR")]
    pub log: String,
    /// The log's key: log.vkey.
    #[arg(long, value_name = "FILE", required_unless_present = "policy", conflicts_with = "policy")]
    pub key: Option<PathBuf>,
    /// The log's key and the witnesses that must have cosigned: tlog-policy.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The authority of an https address, in PEM. Default: those that browsers trust.
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
}

/// `rutli log monitor`
#[derive(Debug, Args)]
pub struct LogMonitor {
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Where to keep what was verified; made by the first run.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// Another place that publishes heads of the log, to compare with: a mirror's URL or folder, or a file with a
    /// witness's checkpoint. Give it several times for several.
    #[arg(long, value_name = "URL|DIR|FILE")]
    pub compare: Vec<String>,
    /// Compare the head that the log signs for Sigstore's tools, too: trusted_root.json.
    #[arg(long, value_name = "FILE")]
    pub trusted_root: Option<PathBuf>,
    /// One round, then end: with 0, with 1 for an alarm, with 3 for a source that does not answer.
    #[arg(long)]
    pub once: bool,
    /// Time between rounds, as 90s, 10m or 2h; at least 1s.
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "60s", conflicts_with = "once")]
    pub interval: std::time::Duration,
    /// How late outcomes, disclosures and cosignatures may be.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub grace: std::time::Duration,
    /// How long ago a quorum may have cosigned the published head, with a policy; 0 for a log that was stopped.
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "1h")]
    pub max_age: std::time::Duration,
    /// Whether to compare statements and rosters, too.
    #[arg(long, value_enum, default_value = "all")]
    pub documents: DocumentsChecked,
    /// Where to write metrics for Prometheus's textfile collector after each round.
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
}

/// Which documents a monitor compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DocumentsChecked {
    /// Those of all entries that it reads.
    All,
    /// None.
    None,
}

/// Which releases of the log.
#[derive(Debug, Args)]
pub struct LogFilter {
    /// Only of this product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Only of this class.
    #[arg(long, value_parser = class_parser())]
    pub class: Option<Class>,
    /// Only of this channel.
    #[arg(long)]
    pub channel: Option<Channel>,
    /// Only asked for by this pipeline.
    #[arg(long)]
    pub requester: Option<Requester>,
    /// Only those that ended so.
    #[arg(long, value_parser = PossibleValuesParser::new(crate::log::show::STATES))]
    pub state: Option<String>,
    /// Only asked for at or after this time: RFC 3339, as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<u64>,
    /// Only asked for before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<u64>,
}

/// `rutli log show`
#[derive(Debug, Args)]
pub struct LogShow {
    /// Show this entry with its documents.
    pub index: Option<u64>,
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Which releases.
    #[command(flatten)]
    pub filter: LogFilter,
    /// At most so many.
    #[arg(long, default_value = "50")]
    pub limit: std::num::NonZeroUsize,
}

/// `rutli log prove`
#[derive(Debug, Args)]
pub struct LogProve {
    /// The entry.
    pub index: u64,
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Where to write the proof. Default: stdout.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `rutli log export`
#[derive(Debug, Args)]
pub struct LogExport {
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Which releases, with all entries about them. Default: all entries of all kinds.
    #[command(flatten)]
    pub filter: LogFilter,
    /// Where to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
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

fn class_parser() -> impl TypedValueParser<Value = Class> {
    PossibleValuesParser::new(Class::ALL.map(Class::as_str)).try_map(|word| word.parse::<Class>())
}

fn format_parser() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::ALL.map(Format::as_str)).try_map(|word| word.parse::<Format>())
}

fn parse_sequence(text: &str) -> Result<Sequence, String> {
    let number = text.parse::<u64>().map_err(|_| "give a number from 1 to 2^53-1".to_owned())?;
    Sequence::new(number).map_err(|error| error.to_string())
}

fn parse_time(text: &str) -> Result<u64, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "give a time as RFC 3339 has it, as 2027-11-21T10:00:00Z".to_owned())?;
    u64::try_from(time.as_second()).map_err(|_| "give a time after 1970".to_owned())
}

fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "give a time as 90s, 10m or 2h".to_owned())?;
    std::time::Duration::try_from(duration).map_err(|_| "give a time above zero".to_owned())
}

fn parse_interval(text: &str) -> Result<std::time::Duration, String> {
    match parse_duration(text)? {
        interval if interval < MIN_INTERVAL => Err("give a time of at least 1s".to_owned()),
        interval => Ok(interval),
    }
}

/// As [`parse_duration`], or 0.
fn parse_wait(text: &str) -> Result<std::time::Duration, String> {
    if text == "0" { Ok(std::time::Duration::ZERO) } else { parse_duration(text) }
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
    fn times_and_numbers_read() {
        assert_eq!(parse_duration("90s").unwrap().as_secs(), 90);
        assert_eq!(parse_duration("1h 30m").unwrap().as_secs(), 5400);
        assert!(parse_duration("-1s").is_err());
        assert!(parse_duration("soon").is_err());
        assert!(parse_wait("0").unwrap().is_zero() && parse_wait("0s").unwrap().is_zero());
        assert_eq!(parse_wait("2m").unwrap().as_secs(), 120);
        assert!(parse_wait("1").is_err());
        assert!(parse_interval("0s").is_err() && parse_interval("999ms").is_err());
        assert_eq!(parse_interval("1s").unwrap().as_secs(), 1);
        let show = |limit| {
            Cli::try_parse_from(["rutli", "log", "show", "--log", "l", "--key", "k", "--limit", limit])
        };
        assert!(show("1").is_ok() && show("0").is_err());
        assert_eq!(parse_time("1970-01-02T00:00:00Z").unwrap(), 86_400);
        assert!(parse_time("1969-01-02T00:00:00Z").is_err());
        assert!(parse_sequence("0").is_err());
        assert!(parse_sequence("9007199254740992").is_err());
        assert_eq!(parse_sequence("9007199254740991").unwrap().get(), (1 << 53) - 1);
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
