//! One run: the figures in their order, and the end of everything that was started.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Args, Figure},
    cluster::Cluster,
    cost, latency, load, log, micro,
    naive::{self, Naive},
    policy,
    report::{NaiveFigure, Report},
    work,
};

/// Runs what the command line asks for, and prints it.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    let mut report = Report::new(args);
    let outcome =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start").and_then(
            |runtime| {
                let outcome = runtime.block_on(interruptible(args, &mut report));
                runtime.shutdown_background();
                outcome
            },
        );
    if let Err(error) = &outcome {
        report.failures.push(format!("{error:#}"));
    }
    if args.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ctrl-C and SIGTERM drop whatever runs, and with it every process.
async fn interruptible(args: &Args, report: &mut Report) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        outcome = all(args, report) => outcome,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("asked to end"),
    }
}

async fn all(args: &Args, report: &mut Report) -> Result<()> {
    if args.wants(Figure::Micro) {
        note("micro");
        let organisations = args.organisations();
        let measured = blocking(move || micro::measure(&mut micro::Quorum::rehearse(&organisations)?)).await;
        report.micro = keep(args, report, Figure::Micro, measured)?.unwrap_or_default();
    }
    if args.wants(Figure::Policy) {
        note("policy");
        let organisations = args.organisations();
        let measured = blocking(move || policy::measure(&mut micro::Quorum::rehearse(&organisations)?)).await;
        report.policy = keep(args, report, Figure::Policy, measured)?;
    }
    if args.wants(Figure::Log) {
        note("log");
        report.log = keep(args, report, Figure::Log, log::measure().await)?;
    }
    // The yardstick is laid on twice, before and after, so that a machine that changed its pace in between shows.
    let mut naive = Vec::new();
    if args.wants(Figure::Naive) {
        naive.extend(keep(args, report, Figure::Naive, run_naive(args).await)?);
    }
    if args.wants_cluster() {
        let outcome = with_cluster(args, report).await;
        keep(args, report, Figure::Service, outcome)?;
    }
    if args.wants(Figure::Naive) {
        naive.extend(keep(args, report, Figure::Naive, run_naive(args).await)?);
    }
    report.naive = NaiveFigure::over(&naive);
    Ok(())
}

/// All figures of the service; it is stopped however they end.
async fn with_cluster(args: &Args, report: &mut Report) -> Result<()> {
    let (dir, _temporary) = folder(args)?;
    note("starting the service");
    let mut cluster = Cluster::start(&binaries(args)?, &dir, &args.organisations()).await?;
    let outcome = on_cluster(args, report, &cluster, &dir).await;
    let outcome = match (outcome, cluster.casualty()) {
        (Err(error), Some(casualty)) => Err(error.context(casualty)),
        (outcome, _) => outcome,
    };
    cluster.stop().await;
    outcome
}

async fn on_cluster(args: &Args, report: &mut Report, cluster: &Cluster, dir: &Path) -> Result<()> {
    cluster.rest().await?;
    let rest = cost::resident(cluster)?;
    if args.wants(Figure::Latency) {
        note("latency");
        let mut quorum = micro::Quorum::rehearse(&args.organisations())?;
        let measured = latency::measure(cluster, dir, args.releases, &mut quorum).await;
        report.latency = keep(args, report, Figure::Latency, measured)?;
    }
    if args.wants(Figure::Burst) {
        note("burst");
        report.burst = keep(args, report, Figure::Burst, load::burst(cluster, args.bursts).await)?;
    }
    if args.wants(Figure::Service) {
        note("service");
        let concurrency = usize::from(args.concurrency);
        let measured = load::saturate(cluster, work::LONE, concurrency, args.window()).await;
        report.service = keep(args, report, Figure::Service, measured)?;
    }
    if args.wants(Figure::Files) {
        note("files");
        // As many signatures under way as in the other.
        let concurrency = usize::from(args.concurrency).div_ceil(work::FILES.signatures).max(32);
        let measured = load::saturate(cluster, work::FILES, concurrency, args.window()).await;
        report.files = keep(args, report, Figure::Files, measured)?;
    }
    if args.wants(Figure::Cost) {
        report.memory = cost::peaks(cluster, &rest)?;
    }
    Ok(())
}

/// A quarter of the window before the service, and a quarter after it.
async fn run_naive(args: &Args) -> Result<Naive> {
    note("naive");
    let (signers, window) = (args.signers(), args.window());
    blocking(move || {
        let group = naive::Group::new(signers)?;
        let release = work::LONE.release(1)?;
        let signable =
            release.signables().into_iter().next().context("a release without anything to sign")?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        naive::measure(&group, &signable.bytes, threads, (window / 2).max(Duration::from_secs(1)))
    })
    .await
}

/// With `--keep-going` a figure that failed is noted and left out.
fn keep<T>(args: &Args, report: &mut Report, figure: Figure, measured: Result<T>) -> Result<Option<T>> {
    match measured {
        Ok(measured) => Ok(Some(measured)),
        Err(error) if args.keep_going => {
            report.failures.push(format!("{figure:?}: {error:#}"));
            Ok(None)
        }
        Err(error) => Err(error.context(format!("{figure:?}"))),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a measurement stopped")?
}

/// Where the service keeps its data, and what removes it again.
fn folder(args: &Args) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    if let Some(dir) = &args.dir {
        return Ok((dir.clone(), None));
    }
    let temporary = tempfile::Builder::new().prefix("rutli-bench-").tempdir()?;
    Ok((temporary.path().join("deployment"), Some(temporary)))
}

fn binaries(args: &Args) -> Result<PathBuf> {
    match &args.bin {
        Some(bin) => Ok(bin.clone()),
        None => {
            let own = std::env::current_exe()?;
            Ok(own.parent().context("this program lies in no folder")?.to_owned())
        }
    }
}

fn note(what: &str) {
    eprintln!("measuring: {what}");
}
