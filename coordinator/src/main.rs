//! `rutli-coordinator`: arguments, logs, signals and the clock; the daemon itself is the library.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rutli_coordinator::{Clock, Config, Daemon, Signals, store};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Rütli coordinator: admits releases, forms quorums of signer nodes, and publishes what they signed.
#[derive(Parser)]
#[command(version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: Serve,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Serve {
    /// Configuration, TOML
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Write the log as JSON, one object per line
    #[arg(long)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write a consistent copy of the store to a new file, while the coordinator runs or not
    Backup {
        /// Configuration of the coordinator, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Output file. It must not exist. To restore, stop the coordinator and replace coordinator.sqlite
        /// with it, without
        /// -wal and -shm files next to it
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log_to_stderr(cli.serve.log_json);
    let result = match (cli.command, cli.serve.config) {
        (Some(Command::Backup { config, to }), _) => backup(config, to).await,
        (None, Some(config)) => serve(config).await,
        // Clap asks for it.
        (None, None) => Err(anyhow::anyhow!("give --config FILE")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each connection is a file descriptor, and shells allow a process few of them.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        // A service manager may forbid it, and has set what is needed.
        tracing::debug!(%error, "cannot raise the limit of open files (RLIMIT_NOFILE)");
    }
}

async fn serve(config: PathBuf) -> anyhow::Result<()> {
    let config = Config::read(&config)?;
    raise_descriptor_limit();
    let signals = Signals::default();
    catch_signals(&signals)?;
    let daemon = Daemon::open(config, system_clock(), signals.clone()).await?;
    // No service manager is no error.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let ended = daemon.serve().await;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    ended?;
    tracing::info!("stopped");
    Ok(())
}

async fn backup(config: PathBuf, to: PathBuf) -> anyhow::Result<()> {
    let config = Config::read(&config)?;
    store::backup(&config.data_dir, &to).await?;
    tracing::info!(to = %to.display(), "the copy is complete");
    Ok(())
}

/// SIGTERM and SIGINT end the process, SIGHUP has the TLS files read again. SIGXFSZ (a file grew over the process's
/// limit) is caught so that the write fails like one to a full disk, instead of the process.
fn catch_signals(signals: &Signals) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut file_size = signal(SignalKind::from_raw(SIGXFSZ))?;
    let signals = signals.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => signals.stop.cancel(),
                _ = interrupt.recv() => signals.stop.cancel(),
                _ = hangup.recv() => signals.reload.notify_one(),
                _ = file_size.recv() => tracing::error!("a file would grow over the limit of this process"),
            }
        }
    });
    Ok(())
}

/// Its number on Linux, except on MIPS.
const SIGXFSZ: i32 = 25;

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the system's clock enters the coordinator"
)]
fn system_clock() -> Clock {
    // A clock before 1970 gives times that every verifier refuses.
    Clock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
}

fn log_to_stderr(json: bool) {
    let filter = EnvFilter::builder()
        .with_env_var("RUTLI_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log on a full disk loses lines; a complaint about that on the same stderr would panic instead.
        .log_internal_errors(false);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
}
