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
    /// Rebuild a release from its source without network, and attest it if every file is identical.
    Rebuild(Box<AttestRebuild>),
    /// Attest the source that files were built from, for pipelines whose builder does not.
    Provenance(AttestProvenance),
    /// Attest which tests files passed.
    TestResult(AttestTests),
}

/// The key that signs, and where the attestation goes.
#[derive(Debug, Args)]
pub struct AttestSigning {
    /// Secret key that signs the attestation: Ed25519, unencrypted, as `openssl genpkey` or `ssh-keygen`
    /// writes it.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Output file for the attestation.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Files by the names that `rutli sign` gives them.
#[derive(Debug, Args)]
pub struct Attested {
    /// Name files by their path below this directory, as with `rutli sign`. Default: their file names.
    #[arg(long, value_name = "DIR")]
    pub base: Option<PathBuf>,
    /// The files of the release.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `rutli attest rebuild`
#[derive(Debug, Args)]
pub struct AttestRebuild {
    /// Audited source: a .tar, .tar.gz, .tar.zst or .tar.xz, detected by its content.
    #[arg(long, value_name = "ARCHIVE")]
    pub source: PathBuf,
    /// Address of the source, for the attestation.
    #[arg(long, value_name = "URI")]
    pub source_uri: Option<String>,
    /// Build command: a line for `sh -c`, run in the archive's single top folder, or at its top if it has
    /// none.
    #[arg(long, value_name = "LINE")]
    pub command: String,
    /// Expected files: a folder of the release's files, a SHA256SUMS, a statement, an .intoto.json, a
    /// .sigstore.json, the vendor's provenance, or the output of `rutli release show --json`; detected by its
    /// content.
    #[arg(long, value_name = "FILE|DIR")]
    pub expect: PathBuf,
    /// Folder in which the build leaves the release's files, relative to where the command runs. Default:
    /// that place.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Identity of the rebuilder, as in custodians' trust.toml.
    #[arg(long, value_name = "URI")]
    pub builder_id: String,
    /// Kind of build: an address that explains the parameters.
    #[arg(long, value_name = "URI", default_value = crate::attest::REBUILD_TYPE)]
    pub build_type: String,
    /// The signing key and the attestation.
    #[command(flatten)]
    pub signing: AttestSigning,
    /// Path that the build may read, for example a toolchain; it has the same path there. May be repeated.
    #[arg(long = "ro-bind", value_name = "PATH")]
    pub ro_binds: Vec<PathBuf>,
    /// Environment variable for the build, such as PATH. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub variables: Vec<(String, String)>,
    /// SOURCE_DATE_EPOCH for the build, in RFC 3339. Default: the time of the newest file in the archive.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub source_date: Option<u64>,
    /// How long the build may take, as 90s, 10m or 2h; after that it is killed.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    pub timeout: Duration,
    /// How much memory the whole build may use at a time, as 512MiB or 4GiB; beyond that it is killed.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "4GiB")]
    pub memory: ByteSize,
    /// How much the build may write, including its unpacked source, as 512MiB or 8GiB. It is kept in memory.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "8GiB")]
    pub disk: ByteSize,
    /// How many processes and threads the build may have at a time, including about four of its isolation.
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(u64).range(16..=MAX_PROCESSES), default_value = "512")]
    pub processes: u64,
    /// What limits the build's memory and processes.
    #[arg(long, value_enum, default_value = "auto")]
    pub limits: LimitsChosen,
    /// How the build is isolated.
    #[arg(long, value_enum, default_value = "auto")]
    pub isolation: IsolationChosen,
    /// Explain files that differ with diffoscope; --expect must be a folder.
    #[arg(long)]
    pub diffoscope: bool,
    /// Copy the rebuilt files to this new or empty folder, for inspection.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
}

/// How a build is isolated.
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
    /// Archive that was built from.
    #[arg(long, value_name = "ARCHIVE", group = "of")]
    pub source: Option<PathBuf>,
    /// Digest of the source that was built from: gitCommit:HEX or sha256:HEX.
    #[arg(long, value_name = "DIGEST", group = "of")]
    pub source_digest: Option<SourceDigest>,
    /// Address of the source.
    #[arg(long, value_name = "URI")]
    pub source_uri: Option<String>,
    /// Identity of the builder, as in custodians' trust.toml.
    #[arg(long, value_name = "URI")]
    pub builder_id: String,
    /// Kind of build: an address that explains the parameters.
    #[arg(long, value_name = "URI", default_value = crate::attest::BUILD_TYPE)]
    pub build_type: String,
    /// Parameter of the build, such as its command. May be repeated.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub parameters: Vec<(String, String)>,
    /// The pipeline's own id of this run.
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
    /// Test that passed. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub passed: Vec<String>,
    /// Test that passed with a warning. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub warned: Vec<String>,
    /// Test that failed. Nodes do not count a result with a failed test as passed. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub failed: Vec<String>,
    /// Configuration of the tests, recorded by file name and digest; it is not a passed test. May be
    /// repeated.
    #[arg(long = "config", value_name = "FILE")]
    pub configurations: Vec<PathBuf>,
    /// Address of a report about the run.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The signing key and the attestation.
    #[command(flatten)]
    pub signing: AttestSigning,
    /// What was tested.
    #[command(flatten)]
    pub files: Attested,
}
