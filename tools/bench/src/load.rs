//! Pipelines that ask the service: saturating it, with one large release, or one at a time.
//!
//! Every pipeline asks as a real one does: `CreateRelease`, then `WatchRelease` to the end, which brings the files. Each
//! has a channel of its own, because in one channel the sequence must go up. After the clock has stopped, the last
//! release of every pipeline is verified, file by file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::{StreamExt as _, stream::FuturesUnordered};
use rutli::client;
use rutli_wire::v1;
use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    clock::Stopwatch,
    cluster::Cluster,
    cost::{CpuCost, CpuReading},
    stats::{Times, float64, milliseconds},
    work::{self, AV_PRODUCT, BURST, PRODUCTS, Shape},
};

/// Calls on one connection at the same time: below what coordinators allow.
const CALLS_PER_CONNECTION: usize = 64;

/// A release must be signed within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two lone releases: the nodes make up for the commitments that the last one took.
const REST: Duration = Duration::from_millis(20);

/// A throughput figure.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Signatures per second.
    pub per_second: f64,
    /// Releases per second.
    pub releases_per_second: f64,
    /// Signatures counted.
    pub signatures: u64,
    /// Releases under way at the same time.
    pub concurrency: usize,
    /// From the request to the files at the client, under this load.
    pub latency: Times,
    /// CPU per signature, by process.
    pub cpu: Vec<CpuCost>,
}

/// The burst figure.
#[derive(Clone, Debug, Serialize)]
pub struct Burst {
    /// Signatures of each release.
    pub signatures: usize,
    /// From the request to all files at the client.
    pub time: Times,
    /// By the median.
    pub per_second: f64,
    /// CPU per signature, by process, with the making of the next commitments.
    pub cpu: Vec<CpuCost>,
}

/// Lone releases.
#[derive(Clone, Debug)]
pub struct Lone {
    /// From the request to the files at the client.
    pub whole: Times,
    /// The part of it until the coordinator has said that the request is durable.
    pub acknowledged: Times,
}

/// Keeps the service busy and counts.
///
/// # Errors
/// A release is not signed, a signature does not verify, or a process is gone.
pub async fn saturate(
    cluster: &Cluster,
    shape: Shape,
    concurrency: usize,
    window: Duration,
) -> Result<Throughput> {
    let mut connections = Vec::new();
    for _ in 0..concurrency.div_ceil(CALLS_PER_CONNECTION).max(1) {
        connections.push(connect(cluster).await?);
    }
    let shared = Arc::new(Shared::default());
    let mut pipelines: FuturesUnordered<_> = (0..concurrency)
        .zip(connections.iter().cycle())
        .map(|(number, channel)| {
            let pipeline = Pipeline::new(channel.clone(), shape, number);
            tokio::spawn(keep_asking(pipeline, Arc::clone(&shared)))
        })
        .collect();
    let outcome = tokio::select! {
        counted = count(cluster, &shared, window) => counted,
        Some(ended) = pipelines.next() => Err(early(ended)),
    };
    shared.over.store(true, Ordering::Relaxed);
    let Counted { signatures, releases, seconds, cpu } = outcome?;
    let mut times = Vec::new();
    while let Some(ended) = pipelines.next().await {
        let (last, of_pipeline) = ended.context("a pipeline stopped")??;
        times.extend(of_pipeline);
        work::verify(&cluster.key, &last)?;
    }
    Ok(Throughput {
        per_second: float64(signatures) / seconds,
        releases_per_second: float64(releases) / seconds,
        signatures,
        concurrency,
        latency: Times::over(times),
        cpu,
    })
}

/// Large releases one after the other, each with full pools.
///
/// # Errors
/// As [`saturate`].
pub async fn burst(cluster: &Cluster, count: u16) -> Result<Burst> {
    let mut pipeline = Pipeline::named(connect(cluster).await?, BURST, AV_PRODUCT, "burst");
    let mut times = Vec::new();
    let mut last = None;
    cluster.rest().await?;
    let before = CpuReading::take(cluster)?;
    let watch = Stopwatch::start();
    for _ in 0..count {
        let (release, times_of) = pipeline.ask().await?;
        times.push(times_of.whole);
        last = Some(release);
        cluster.rest().await?;
    }
    let made = u64::from(count) * u64::try_from(BURST.signatures)?;
    let cpu = CpuReading::take(cluster)?.since(&before, made, watch.elapsed().as_secs_f64());
    work::verify(&cluster.key, &last.context("no burst was asked for")?)?;
    let time = Times::over(times);
    Ok(Burst {
        signatures: BURST.signatures,
        per_second: crate::stats::float(BURST.signatures) * 1e3 / time.p50_ms.max(f64::MIN_POSITIVE),
        time,
        cpu,
    })
}

/// One release at a time, with pauses.
///
/// # Errors
/// As [`saturate`].
pub async fn lone(cluster: &Cluster, count: u16) -> Result<Lone> {
    let mut pipeline = Pipeline::named(connect(cluster).await?, work::LONE, PRODUCTS[0], "lone");
    let (mut whole, mut acknowledged) = (Vec::new(), Vec::new());
    cluster.rest().await?;
    // The first one pays for what is made once: a scaled share, prepared statements.
    let (mut last, _) = pipeline.ask().await?;
    for _ in 0..count {
        tokio::time::sleep(REST).await;
        let (release, times) = pipeline.ask().await?;
        whole.push(times.whole);
        acknowledged.push(times.acknowledged);
        last = release;
    }
    work::verify(&cluster.key, &last)?;
    Ok(Lone { whole: Times::over(whole), acknowledged: Times::over(acknowledged) })
}

/// A connection as the pipeline.
///
/// # Errors
/// The coordinator cannot be reached.
pub async fn connect(cluster: &Cluster) -> Result<Channel> {
    cluster.pipeline.connect().await.map_err(|failure| anyhow!("{failure}"))
}

/// What the pipelines of one load share with the one who counts.
#[derive(Debug, Default)]
struct Shared {
    signatures: AtomicU64,
    releases: AtomicU64,
    /// Only releases that were asked for from then on count for latency.
    counting: AtomicBool,
    over: AtomicBool,
}

struct Counted {
    signatures: u64,
    releases: u64,
    seconds: f64,
    cpu: Vec<CpuCost>,
}

/// Warms up, for what was prepared in idle time must be used up, then counts.
async fn count(cluster: &Cluster, shared: &Shared, window: Duration) -> Result<Counted> {
    tokio::time::sleep((window / 4).max(Duration::from_secs(2))).await;
    shared.counting.store(true, Ordering::Relaxed);
    let before = CpuReading::take(cluster)?;
    let read = || (shared.signatures.load(Ordering::Relaxed), shared.releases.load(Ordering::Relaxed));
    let start = read();
    let watch = Stopwatch::start();
    tokio::time::sleep(window).await;
    let end = read();
    let seconds = watch.elapsed().as_secs_f64();
    let (signatures, releases) = (end.0 - start.0, end.1 - start.1);
    let cpu = CpuReading::take(cluster)?.since(&before, signatures, seconds);
    Ok(Counted { signatures, releases, seconds, cpu })
}

type Kept = (v1::Release, Vec<Duration>);

async fn keep_asking(mut pipeline: Pipeline, shared: Arc<Shared>) -> Result<Kept> {
    let mut times = Vec::new();
    loop {
        let counts = shared.counting.load(Ordering::Relaxed);
        let (release, times_of) = pipeline.ask().await?;
        shared.signatures.fetch_add(u64::try_from(pipeline.shape.signatures)?, Ordering::Relaxed);
        shared.releases.fetch_add(1, Ordering::Relaxed);
        if counts {
            times.push(times_of.whole);
        }
        if shared.over.load(Ordering::Relaxed) {
            return Ok((release, times));
        }
    }
}

/// A pipeline that ends before time has failed.
fn early(ended: Result<Result<Kept>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(_)) => anyhow!("a pipeline ended before time"),
        Err(error) => error.into(),
    }
}

/// One that asks, in its own channel.
struct Pipeline {
    channel: Channel,
    shape: Shape,
    product: &'static str,
    name: String,
    sequence: u64,
}

/// How long one release took.
#[derive(Clone, Copy, Debug)]
struct Asked {
    acknowledged: Duration,
    whole: Duration,
}

impl Pipeline {
    fn new(channel: Channel, shape: Shape, number: usize) -> Self {
        let product = PRODUCTS.iter().cycle().nth(number % PRODUCTS.len()).copied().unwrap_or(AV_PRODUCT);
        Self::named(channel, shape, product, &format!("f{}.c{number}", shape.files))
    }

    fn named(channel: Channel, shape: Shape, product: &'static str, name: &str) -> Self {
        Self { channel, shape, product, name: name.to_owned(), sequence: 0 }
    }

    /// From the request to the files.
    async fn ask(&mut self) -> Result<(v1::Release, Asked)> {
        self.sequence += 1;
        let request = self.shape.request(self.product, &self.name, self.sequence);
        let mut client = client::releases(self.channel.clone());
        let watch = Stopwatch::start();
        let mut acknowledged = Duration::ZERO;
        let asking = async {
            let created = client.create_release(request).await?.into_inner();
            acknowledged = watch.elapsed();
            let request = v1::WatchReleaseRequest { release_id: created.release_id };
            let mut changes = client.watch_release(request).await?.into_inner();
            while let Some(release) = changes.message().await? {
                if work::is_signed(&release)? {
                    return Ok(release);
                }
            }
            bail!("the coordinator ended a watch before the release was final")
        };
        let release = tokio::time::timeout(PATIENCE, asking)
            .await
            .map_err(|_| anyhow!("a release was not signed within {} ms", milliseconds(PATIENCE)))??;
        Ok((release, Asked { acknowledged, whole: watch.elapsed() }))
    }
}
