//! `rutli sign` and `rutli verify`.

use std::path::PathBuf;

use clap::Args;
use rutli_release::{Channel, Class, Format, Product, RequestId, Sequence, Version};

use super::parse::{
    class_parser, format_parser, parse_duration, parse_number, parse_sequence, parse_time, parse_wait,
};

/// A release's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// This one.
    Given(Sequence),
    /// The next free one, from the coordinator.
    Next,
}

/// `rutli sign`
#[derive(Debug, Args)]
pub struct Sign {
    /// Class of the release.
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
    /// Number of the release, higher than all signed ones of its class, product and channel: 1 to 2^53-1. Or
    /// `next`: ask the coordinator for one, and again if another release was faster, at most five times.
    #[arg(long, value_name = "NUMBER|next", value_parser = parse_number)]
    pub sequence: Number,
    /// Format to sign in. May be repeated. Default: all.
    #[arg(long = "format", value_parser = format_parser())]
    pub formats: Vec<Format>,
    /// When verifiers begin to refuse it: RFC 3339, as 2027-11-21T10:00:00Z. Default: never.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub expires_at: Option<u64>,
    /// Until when the log hides what was requested: RFC 3339, as 2027-11-21T10:00:00Z. The signatures are
    /// available at once; `rutli release disclose` ends the embargo early. Default: no embargo.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub embargo_until: Option<u64>,
    /// Your own id for this request: the same id with the same content gives the same release. Default:
    /// derived from the content, so that running the command again is safe.
    #[arg(long, value_name = "ID")]
    pub request_id: Option<RequestId>,
    /// Attestation or other evidence to send with the request. May be repeated. Add more later with
    /// `rutli evidence add`.
    #[arg(long, value_name = "FILE")]
    pub evidence: Vec<PathBuf>,
    /// Output directory for the signatures.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Name files in the release by their path below this directory. Default: their file names.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// Release key: verify everything with it before it is written.
    #[arg(long, value_name = "PEM")]
    pub key: Option<PathBuf>,
    /// How long to wait, as 90s, 10m or 2h; then exit with 4, while the release continues. Default: no limit.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<std::time::Duration>,
    /// How long to wait for the proof that the signature is in the log, once the signatures are written; 0:
    /// do not wait. The release is signed in any case, and `rutli release fetch` fetches the proof later.
    #[arg(long, value_name = "TIME", value_parser = parse_wait, default_value = "15s")]
    pub proof_timeout: std::time::Duration,
    /// Return once the coordinator has accepted the release; `rutli release fetch` fetches the signatures.
    #[arg(long)]
    pub no_wait: bool,
    /// Files to sign. They are hashed locally and never sent.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `rutli verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// Release key.
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// Signature: FILE.sig, RELEASE.intoto.json or RELEASE.statement.sig, detected by its content.
    #[arg(long, value_name = "FILE", required_unless_present = "bundle")]
    pub signature: Option<PathBuf>,
    /// Proof that the signature is in the log: RELEASE.sigstore.json, which contains the signature, or
    /// RELEASE.tlog-proof; detected by its content.
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    pub bundle: Option<PathBuf>,
    /// Logs to trust, for a RELEASE.sigstore.json: a trusted_root.json.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub trusted_root: Option<PathBuf>,
    /// Witness policy: the log, and the witnesses of which a quorum must have cosigned it; a tlog-policy.
    #[arg(long, value_name = "FILE", requires = "bundle")]
    pub policy: Option<PathBuf>,
    /// Cosigned proof, for a RELEASE.sigstore.json with --policy. Default: RELEASE.tlog-proof next to it.
    #[arg(long, value_name = "FILE", requires = "policy")]
    pub proof: Option<PathBuf>,
    /// Statement that a RELEASE.statement.sig is for. Default: the same name without `.sig`.
    #[arg(long, value_name = "FILE")]
    pub statement: Option<PathBuf>,
    /// Refuse any other product.
    #[arg(long)]
    pub product: Option<Product>,
    /// Refuse any other channel.
    #[arg(long)]
    pub channel: Option<Channel>,
    /// Refuse any other class.
    #[arg(long, value_parser = class_parser())]
    pub class: Option<Class>,
    /// Refuse a sequence below this one, the installed one.
    #[arg(long, value_name = "SEQUENCE", value_parser = parse_sequence)]
    pub min_sequence: Option<Sequence>,
    /// Name that the file must have in the release. Default: its own file name, in any folder of the release.
    #[arg(long, conflicts_with = "any_name")]
    pub name: Option<String>,
    /// Accept the file under any name.
    #[arg(long)]
    pub any_name: bool,
    /// Files to verify: one for a `.sig`, any number of files of the release for a statement.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}
