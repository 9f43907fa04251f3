//! `rutli attest …`

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{ArgGroup, Args, Subcommand, ValueEnum, value_parser};
use rutli_evidence::SourceDigest;

use super::parse::{parse_duration, parse_pair, parse_size, parse_time};
use crate::attest::limits::MAX_PROCESSES;

/// `rutli attest …`
#[derive(Debug, Subcommand)]
pub enum Attest {
    /// Build a release again from its source, without network; where every file comes out the same, attest that.
    Rebuild(Box<AttestRebuild>),
    /// Attest which source files were built from, for pipelines whose builder does not.
    Provenance(AttestProvenance),
    /// Attest which tests files passed.
    TestResult(AttestTests),
}

/// The key that signs, and where the attestation goes.
#[derive(Debug, Args)]
pub struct AttestSigning {
    /// The secret key that signs the attestation: Ed25519, as `openssl genpkey` or `ssh-keygen` writes it, not encrypted.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where to write the attestation.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Files by the names that `rutli sign` gives them.
#[derive(Debug, Args)]
pub struct Attested {
    /// Name files by their path below this folder, as with `rutli sign`. Default: by their file name.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The files of the release.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `rutli attest rebuild`
#[derive(Debug, Args)]
pub struct AttestRebuild {
    /// The audited source: a .tar, .tar.gz, .tar.zst or .tar.xz; its content tells which.
    #[arg(long, value_name = "ARCHIVE")]
    pub source: PathBuf,
    /// Where that source is, for the attestation.
    #[arg(long, value_name = "URI")]
    pub source_uri: Option<String>,
    /// How to build: a line for `sh -c`, run in the archive's one top folder, else at its top.
    #[arg(long, value_name = "LINE")]
    pub command: String,
    /// What must come out: a folder of the release's files, a SHA256SUMS, a statement, a .intoto.json, a .sigstore.json, or
    /// what `rutli release show --json` prints; its content tells which.
    #[arg(long, value_name = "FILE|DIR")]
    pub expect: PathBuf,
    /// The folder that the build leaves the release's files in, seen from where the command runs. Default: that place itself.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Who rebuilds, as custodians' configurations name you.
    #[arg(long, value_name = "URI")]
    pub builder_id: String,
    /// What kind of build this is: an address that explains the parameters.
    #[arg(long, value_name = "URI", default_value = crate::attest::REBUILD_TYPE)]
    pub build_type: String,
    /// The signing key and the attestation.
    #[command(flatten)]
    pub signing: AttestSigning,
    /// Let the build read this, at the same path: a toolchain. Give it several times for several.
    #[arg(long = "ro-bind", value_name = "PATH")]
    pub ro_binds: Vec<PathBuf>,
    /// Set a variable for the build, such as PATH. Give it several times for several.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub variables: Vec<(String, String)>,
    /// SOURCE_DATE_EPOCH for the build, in RFC 3339. Default: when the newest file of the archive was changed.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub source_date: Option<u64>,
    /// How long the build may take, as 90s, 10m or 2h; then all of it is killed.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    pub timeout: Duration,
    /// How much memory all of the build may use at a time, as 512MiB or 4GiB. At its bounds the build is killed.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "4GiB")]
    pub memory: ByteSize,
    /// How much the build may write, its unpacked source included, as 512MiB or 8GiB. This is in memory, too.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "8GiB")]
    pub disk: ByteSize,
    /// How many processes and threads the build may have at a time, some four of its walls included.
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(16..=MAX_PROCESSES), default_value = "512")]
    pub processes: u64,
    /// What keeps the build to its memory and processes.
    #[arg(long, value_enum, default_value = "auto")]
    pub limits: LimitsChosen,
    /// What keeps the build to itself.
    #[arg(long, value_enum, default_value = "auto")]
    pub isolation: IsolationChosen,
    /// Have diffoscope explain files that differ; --expect must be a folder.
    #[arg(long)]
    pub diffoscope: bool,
    /// Copy what was built in place of the release's files to this new or empty folder, to look into.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// What keeps a build to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IsolationChosen {
    /// The first of these that works.
    Auto,
    /// Bubblewrap.
    Bwrap,
    /// Namespaces, by util-linux.
    Unshare,
}

/// What keeps a build to its memory and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LimitsChosen {
    /// A cgroup where one may be made, else resource limits.
    Auto,
    /// A cgroup (version 2): the kernel counts all of the build together.
    Cgroup,
    /// Resource limits of each process; the sum is looked at ten times a second.
    Rlimits,
}

/// `rutli attest provenance`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("of").required(true))]
pub struct AttestProvenance {
    /// The archive that was built from.
    #[arg(long, value_name = "ARCHIVE", group = "of")]
    pub source: Option<PathBuf>,
    /// The source that was built from: gitCommit:HEX or sha256:HEX.
    #[arg(long, value_name = "DIGEST", group = "of")]
    pub source_digest: Option<SourceDigest>,
    /// Where that source is.
    #[arg(long, value_name = "URI")]
    pub source_uri: Option<String>,
    /// Who built, as custodians' configurations name the builder.
    #[arg(long, value_name = "URI")]
    pub builder_id: String,
    /// What kind of build this is: an address that explains the parameters.
    #[arg(long, value_name = "URI", default_value = crate::attest::BUILD_TYPE)]
    pub build_type: String,
    /// A parameter of the build, such as its command. Give it several times for several.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub parameters: Vec<(String, String)>,
    /// The pipeline's own name of this run.
    #[arg(long, value_name = "ID")]
    pub invocation_id: Option<String>,
    /// The signing key and the attestation.
    #[command(flatten)]
    pub signing: AttestSigning,
    /// What was built.
    #[command(flatten)]
    pub files: Attested,
}

/// `rutli attest test-result`
#[derive(Debug, Args)]
pub struct AttestTests {
    /// A test that passed. Give it several times for several.
    #[arg(long, value_name = "NAME")]
    pub passed: Vec<String>,
    /// A test that passed with a warning.
    #[arg(long, value_name = "NAME")]
    pub warned: Vec<String>,
    /// A test that failed. Nodes take no test result with one.
    #[arg(long, value_name = "NAME")]
    pub failed: Vec<String>,
    /// What configured the tests; its file name counts as passed if they did. Give it several times for several.
    #[arg(long = "config", value_name = "FILE")]
    pub configurations: Vec<PathBuf>,
    /// Where to read about the run.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The signing key and the attestation.
    #[command(flatten)]
    pub signing: AttestSigning,
    /// What was tested.
    #[command(flatten)]
    pub files: Attested,
}
