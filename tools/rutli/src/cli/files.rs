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
    /// One that the coordinator names.
    Next,
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
    /// The number of the release, higher than all that were signed in its class, product and channel: 1 to 2^53-1; or
    /// `next`: the coordinator is asked for one, and asked again if another release was first, five times at most.
    #[arg(long, value_name = "NUMBER|next", value_parser = parse_number)]
    pub sequence: Number,
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
    /// An attestation, or another document of evidence, that goes with the request; give it several times for several. More may be
    /// added later with `rutli evidence add`.
    #[arg(long, value_name = "FILE")]
    pub evidence: Vec<PathBuf>,
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
