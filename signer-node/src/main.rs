//! The daemon `rutli-signer`: arguments, logs, signals; everything else is in the library.

use std::{alloc::System, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use rutli_signer_node::{clock::Reading, config::Config, error::Error, hardening, mark_restored, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use zeroizing_alloc::ZeroAlloc;

/// Libraries free what held a share, a nonce or a passphrase as it is: age buffers plaintext, growing vectors move. So all
/// memory is overwritten when it is freed.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// A signer node of Rütli: holds one share of each key, decides for itself what is signed, dials out.
///
/// Logs go to stderr; RUTLI_LOG filters them (error, warn, info, debug, trace, or per module). SIGTERM ends it in order.
#[derive(Parser)]
#[command(name = "rutli-signer", version)]
struct Arguments {
    /// The node's configuration, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Logs as JSON, one object per line.
    #[arg(long)]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Say that this node was restored from a backup, once, before it is started again.
    ///
    /// It may have permitted and cosigned more than the backup knows. From now on it neither signs nor cosigns, until it
    /// gets a head of the log that its peers cosigned since; then it goes on by itself. The node must be stopped.
    Restored,
}

fn main() -> ExitCode {
    // Before anything else, and while there is one thread.
    let hardened = hardening::harden();
    let arguments = Arguments::parse();
    start_log(arguments.log_json);
    let act = match arguments.command {
        None => serve,
        Some(Command::Restored) => restored,
    };
    match hardened.and_then(|()| Config::load(&arguments.config)).and_then(act) {
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

fn restored(config: Config) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Thread { source })?;
    runtime.block_on(mark_restored(&config, Reading::now().unix_s()))?;
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
