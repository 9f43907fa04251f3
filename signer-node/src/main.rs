//! The daemon `rutli-signer`: arguments, logs, signals; everything else is in the library.

use std::{
    alloc::System,
    path::{Path, PathBuf},
    process::ExitCode,
};

use age::x25519;
use clap::{Parser, Subcommand};
use rutli_release::Timestamp;
use rutli_signer_node::{clock::Reading, config::Config, error::Error, hardening, mark_restored, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use zeroizing_alloc::ZeroAlloc;

/// Libraries free memory that held a share, a nonce or a passphrase without wiping it: age buffers plaintext,
/// growing vectors move. So all memory is overwritten when it is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Rütli signer node: holds one share of each key, decides itself what is signed, dials out.
///
/// Logs go to stderr; RUTLI_LOG filters them (error, warn, info, debug, trace, or per module). SIGTERM stops
/// it cleanly.
#[derive(Parser)]
#[command(name = "rutli-signer", version)]
struct Arguments {
    /// Configuration of the node, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Write the log as JSON, one object per line.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Write a backup of sealed shares, rosters, identity and journal, encrypted to the recipients. The node
    /// may run.
    ///
    /// It does not contain the seal's identity; keep a copy of that file elsewhere.
    #[command(
        after_help = "Example:\n  rutli-signer --config node.toml backup --recipient age1… --to vendor-1.backup"
    )]
    Backup {
        /// X25519 recipient of age that can open the backup. May be repeated.
        #[arg(long = "recipient", value_name = "AGE1…", required = true)]
        recipients: Vec<x25519::Recipient>,
        /// File to write. It must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Restore a backup. The node must be stopped.
    ///
    /// The previous content of the data folder is moved aside. The node then neither signs nor cosigns until
    /// it gets a log head that its peers have cosigned since, and resumes automatically.
    #[command(
        after_help = "Example:\n  rutli-signer --config node.toml restore --from vendor-1.backup --identity age.txt"
    )]
    Restore {
        /// File that `backup` wrote.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// Plain age identity of one of the backup's recipients.
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
    /// Record that this node's whole machine was reverted to an old copy, before it is started again.
    ///
    /// The node may have permitted and cosigned more than the copy knows. It neither signs nor cosigns until
    /// it gets a log head that its peers have cosigned since, and resumes automatically. The node must be
    /// stopped.
    Restored,
}

fn main() -> ExitCode {
    // Before anything else, and while there is one thread.
    let hardened = hardening::harden();
    let arguments = Arguments::parse();
    start_log(arguments.log_json);
    let path = arguments.config;
    let done = hardened.and_then(|()| match arguments.command {
        None => serve(Config::load(&path)?),
        Some(Command::Backup { recipients, to }) => backup(&Config::load(&path)?, &recipients, &to),
        Some(Command::Restore { from, identity }) => restore(&Config::read(&path)?, &from, &identity),
        Some(Command::Restored) => restored(&Config::load(&path)?),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> Result<(), Error> {
    // Two workers for links, custodian and ceremonies; signing has a thread of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .thread_name("links")
        .enable_all()
        .build()
        .map_err(|source| Error::Thread { source })?;
    let served = runtime.block_on(async {
        survive_file_limit();
        let shutdown = CancellationToken::new();
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        run(config, shutdown).await
    });
    // Nothing that still runs then has anything to lose: what counts is in the journal.
    runtime.shutdown_background();
    served
}

/// For commands that run once and then end.
fn one_thread() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|source| Error::Thread { source })
}

fn backup(config: &Config, recipients: &[x25519::Recipient], to: &Path) -> Result<(), Error> {
    let now = Reading::now().unix_s();
    one_thread()?.block_on(rutli_signer_node::backup::backup(config, recipients, to, now))?;
    tracing::info!(file = %to.display(), recipients = recipients.len(), "backup written");
    Ok(())
}

fn restore(config: &Config, from: &Path, identity: &Path) -> Result<(), Error> {
    let now = Reading::now().unix_s();
    let restored = one_thread()?.block_on(rutli_signer_node::restore(config, from, identity, now))?;
    let before = restored.before.map(|path| path.display().to_string()).unwrap_or_default();
    tracing::info!(
        made_at = %Timestamp(restored.made_at).rfc3339(),
        keys = restored.keys,
        set_aside = before,
        "restored: once started the node waits for its peers' cosignatures"
    );
    Ok(())
}

fn restored(config: &Config) -> Result<(), Error> {
    one_thread()?.block_on(mark_restored(config, Reading::now().unix_s()))?;
    tracing::info!(log = %config.log.origin(), "marked as restored: once started it waits for its peers' cosignatures");
    Ok(())
}

/// A limit on the size of files is a full disk like any other: the write fails, and the node closes. Without a handler
/// the signal would end the process.
fn survive_file_limit() {
    if let Err(error) = signal(SignalKind::from_raw(nix::libc::SIGXFSZ)) {
        tracing::warn!(%error, "a limit on the size of files would end this process");
    }
}

async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; stopping");
        return shutdown.cancel();
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
    }
    shutdown.cancel();
}

fn start_log(json: bool) {
    let wanted = std::env::var("RUTLI_LOG").unwrap_or_else(|_| "info".into());
    let (filter, problem) = match EnvFilter::try_new(&wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log on a full disk loses lines; a complaint about that on the same stderr would panic instead.
        .log_internal_errors(false);
    if json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
    if let Some(error) = problem {
        tracing::warn!("RUTLI_LOG={wanted:?} does not read: {error}; logging at info");
    }
}
