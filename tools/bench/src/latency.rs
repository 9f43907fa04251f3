//! What a lone release cannot do without, measured in the same run: fsyncs, round trips, arithmetic.
//!
//! | part | why | measured as |
//! | --- | --- | --- |
//! | admit | the request is durable before it is acknowledged | one fsync |
//! | journal | each signer's decision is durable before its share leaves | the slowest of as many fsyncs at once |
//! | publish | the result is durable before it is told | one fsync |
//! | client | the request, and the watch that brings the result | two round trips |
//! | node | the batch and its answer | one round trip |
//! | sign | the other signers' commitments are parsed, a share is made; as many at once as there are cores | CPU |
//! | aggregate | the shares are summed and verified | CPU |
//!
//! A round trip is a health check over the very connection that a pipeline uses: mutual TLS, HTTP/2, gRPC, loopback. An
//! fsync is a write of four pages at the end of a file and `fdatasync`, about what SQLite does for a small transaction.

use std::{fs::File, io::Write as _, path::Path, sync::Barrier, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    clock::Stopwatch,
    cluster::Cluster,
    load::{self, Lone},
    micro::{self, Quorum},
    stats::{Times, float},
};

/// Samples of each part.
const SAMPLES: usize = 100;

/// Bytes of one small transaction in SQLite's log: four pages.
const COMMIT_BYTES: usize = 16 << 10;

/// Pause between two round trips, as between two lone releases.
const REST: Duration = Duration::from_millis(5);

/// The latency figure.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// From the request to the files at the client.
    pub whole: Times,
    /// Until the coordinator has said that the request is durable.
    pub acknowledged: Times,
    /// What cannot be avoided, in order.
    pub parts: Vec<Part>,
    /// Their sum.
    pub unavoidable_ms: f64,
    /// p50 of the whole ÷ that sum.
    pub ratio: f64,
}

/// A part of a release's time.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What.
    pub name: &'static str,
    /// Median, in milliseconds.
    pub ms: f64,
}

/// Lone releases beside their parts.
///
/// # Errors
/// A release is not signed, or the disk fails.
pub async fn measure(cluster: &Cluster, dir: &Path, releases: u16, quorum: &mut Quorum) -> Result<Latency> {
    let Lone { whole, acknowledged } = load::lone(cluster, releases).await?;
    let parts = parts(cluster, dir, quorum).await?;
    let unavoidable_ms: f64 = parts.iter().map(|part| part.ms).sum();
    Ok(Latency { ratio: whole.p50_ms / unavoidable_ms, whole, acknowledged, parts, unavoidable_ms })
}

async fn parts(cluster: &Cluster, dir: &Path, quorum: &mut Quorum) -> Result<Vec<Part>> {
    let signers = quorum.signers();
    let folder = tempfile::Builder::new().prefix("fsync-").tempdir_in(dir)?;
    let (one, slowest) = tokio::task::spawn_blocking(move || -> Result<(f64, f64)> {
        Ok((fsyncs(folder.path(), 1)?, fsyncs(folder.path(), signers)?))
    })
    .await??;
    let round_trip = round_trip(cluster).await?;
    let steps = micro::arithmetic(quorum)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let part = |name, ms| Part { name, ms };
    Ok(vec![
        part("fsync: admit", one),
        part("fsync: journal of the slowest signer", slowest),
        part("fsync: publish", one),
        part("round trips: client, two", 2.0 * round_trip),
        part("round trip: node", round_trip),
        part("CPU: signature shares", float(signers.div_ceil(cores)) * steps.share_us / 1e3),
        part("CPU: aggregate", steps.aggregate_us / 1e3),
    ])
}

/// Median of the slowest of so many commits at once, in milliseconds.
fn fsyncs(dir: &Path, writers: usize) -> Result<f64> {
    let barrier = Barrier::new(writers);
    let write = |writer: usize| -> Result<Vec<Duration>> {
        let path = dir.join(format!("{writers}-{writer}"));
        let mut file = File::create(path);
        let mut times = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            // Everybody comes here every time, also after an error: no writer waits for ever.
            barrier.wait();
            let watch = Stopwatch::start();
            if let Ok(open) = &mut file
                && let Err(error) = open.write_all(&[0xa5; COMMIT_BYTES]).and_then(|()| open.sync_data())
            {
                file = Err(error);
            }
            times.push(watch.elapsed());
        }
        file?;
        Ok(times)
    };
    let all: Vec<Vec<Duration>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().ok().context("a writer stopped").flatten())
            .collect::<Result<_>>()
    })?;
    let slowest = (0..SAMPLES)
        .map(|sample| all.iter().filter_map(|times| times.get(sample)).max().copied().unwrap_or_default())
        .collect();
    Ok(Times::over(slowest).p50_ms)
}

/// Median round trip, in milliseconds.
async fn round_trip(cluster: &Cluster) -> Result<f64> {
    let mut client = HealthClient::new(load::connect(cluster).await?);
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        tokio::time::sleep(REST).await;
        let watch = Stopwatch::start();
        client.check(HealthCheckRequest { service: String::new() }).await?;
        times.push(watch.elapsed());
    }
    Ok(Times::over(times).p50_ms)
}
