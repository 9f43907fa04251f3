//! `rutli log …`

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use rutli_release::{Channel, Class, Product, Requester};

use super::parse::{class_parser, parse_duration, parse_interval, parse_time, parse_wait};

/// `rutli log …`
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Follow the log, verify all of it, and report findings. Ends on Ctrl-C or SIGTERM; see
    /// `rutli help exit-codes`.
    Monitor(LogMonitor),
    /// List the log's releases and how they ended, newest first; or show one entry.
    Show(LogShow),
    /// Write an offline proof that an entry is in the log.
    Prove(LogProve),
    /// Write entries as JSON lines.
    Export(LogExport),
}

impl Log {
    /// Whether it runs until somebody stops it.
    #[must_use]
    pub fn follows(&self) -> bool {
        matches!(self, Self::Monitor(monitor) if !monitor.once)
    }
}

/// Which log, and the keys to trust for it.
#[derive(Debug, Args)]
pub struct LogPlace {
    /// Log: an address such as https://log.example.com, or a folder with its files.
    #[arg(long, env = "RUTLI_LOG", value_name = "URL|DIR")]
    pub log: String,
    /// Key of the log: log.vkey.
    #[arg(long, value_name = "FILE", required_unless_present = "policy", conflicts_with = "policy")]
    pub key: Option<PathBuf>,
    /// Witness policy: the log's key, and the witnesses that must have cosigned; a tlog-policy.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Authority for an https address, in PEM. Default: those that browsers trust.
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
}

/// `rutli log monitor`
#[derive(Debug, Args)]
pub struct LogMonitor {
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// State file: what was verified so far. The first run creates it.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// Another source of the log's heads to compare with: a mirror's URL or folder, or a file with a
    /// witness's checkpoint. May be repeated.
    #[arg(long, value_name = "URL|DIR|FILE")]
    pub compare: Vec<String>,
    /// Also compare the head that the log signs for Sigstore's tools: a trusted_root.json.
    #[arg(long, value_name = "FILE")]
    pub trusted_root: Option<PathBuf>,
    /// Run one round, then exit: 0, 1 for an alarm, or 3 for a source that does not answer.
    #[arg(long)]
    pub once: bool,
    /// Time between rounds, as 90s, 10m or 2h; at least 1s.
    #[arg(long, value_name = "TIME", value_parser = parse_interval, default_value = "60s", conflicts_with = "once")]
    pub interval: std::time::Duration,
    /// How late outcomes, disclosures and cosignatures may be.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "10m")]
    pub grace: std::time::Duration,
    /// How long ago a quorum may have cosigned the published head (with --policy); 0 for a log that was
    /// stopped.
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "1h")]
    pub max_age: std::time::Duration,
    /// Whether to also compare statements and rosters.
    #[arg(long, value_enum, default_value = "all")]
    pub documents: DocumentsChecked,
    /// Output file for metrics, written after each round for Prometheus's textfile collector.
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
    /// Only releases of this product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Only releases of this class.
    #[arg(long, value_parser = class_parser())]
    pub class: Option<Class>,
    /// Only releases of this channel.
    #[arg(long)]
    pub channel: Option<Channel>,
    /// Only releases requested by this pipeline.
    #[arg(long)]
    pub requester: Option<Requester>,
    /// Only releases in this state.
    #[arg(long, value_parser = PossibleValuesParser::new(crate::log::show::STATES))]
    pub state: Option<String>,
    /// Only releases requested at or after this time: RFC 3339, as 2026-11-21T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<u64>,
    /// Only releases requested before this time.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<u64>,
}

/// `rutli log show`
#[derive(Debug, Args)]
pub struct LogShow {
    /// Index of an entry to show with its documents. Default: list releases.
    pub index: Option<u64>,
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Which releases.
    #[command(flatten)]
    pub filter: LogFilter,
    /// Maximum number of results.
    #[arg(long, default_value = "50")]
    pub limit: std::num::NonZeroUsize,
}

/// `rutli log prove`
#[derive(Debug, Args)]
pub struct LogProve {
    /// Index of the entry.
    pub index: u64,
    /// Which log.
    #[command(flatten)]
    pub place: LogPlace,
    /// Output file for the proof. Default: stdout.
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
    /// Output file.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
