//! The honest client beside an attacker, and what the processes use meanwhile.

use std::{fs, time::Duration};

use rutli::{
    client::{self, Profile},
    releases::follow,
};
use rutli_wire::v1;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use crate::{
    cluster::{Cluster, PATIENCE},
    releases::build,
};

/// Releases of the honest client that are under way at a time.
const LANES: usize = 4;

/// Clock ticks per second in /proc (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Until when it is measured.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many releases are signed, however long it takes (but not for ever).
    Signed(usize),
    /// This time is over.
    Passed(Duration),
}

/// What the honest client got done.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// How long it took.
    pub took: Duration,
    /// From asking to the signature, of each release, sorted.
    pub latencies: Vec<Duration>,
    /// Calls that were refused or failed, and were made again.
    pub retries: usize,
    /// Why the last of them was.
    pub trouble: String,
    /// Releases that ended otherwise than signed, or not at all.
    pub lost: Vec<String>,
}

impl Work {
    /// Releases a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        let count = u32::try_from(self.latencies.len()).unwrap();
        f64::from(count) / self.took.as_secs_f64().max(0.001)
    }

    /// The time within which 99 of 100 were signed.
    #[must_use]
    pub fn p99(&self) -> Duration {
        let place = (self.latencies.len() * 99).div_ceil(100);
        self.latencies.get(place.saturating_sub(1)).copied().unwrap_or(PATIENCE)
    }
}

/// A pipeline that asks for one release after the other in each of its channels, and waits for every one.
pub struct Honest {
    profile: Profile,
    sequences: [u64; LANES],
}

impl Honest {
    /// With a certificate of its own.
    #[must_use]
    pub fn new(cluster: &Cluster, client: &str) -> Self {
        Self { profile: Profile::read(&cluster.profile(client)).unwrap(), sequences: [0; LANES] }
    }

    /// Works until then. What is under way at the end is finished, and not counted.
    pub async fn work(&mut self, until: Until) -> Work {
        let began = Instant::now();
        let profile = &self.profile;
        let lanes = self.sequences.iter_mut().enumerate().map(|(number, sequence)| async move {
            let mut work = Work::default();
            let mut channel = None;
            loop {
                let is_over = match until {
                    Until::Signed(count) => work.latencies.len() >= count.div_ceil(LANES),
                    Until::Passed(time) => began.elapsed() >= time,
                };
                if is_over {
                    return work;
                }
                *sequence += 1;
                let asked = Instant::now();
                let request = build(&format!("lane{number}"), *sequence, 1);
                let signed = sign(profile, &mut channel, request, &mut work);
                if timeout(PATIENCE, signed).await.is_err() {
                    work.lost.push(format!("not signed within {PATIENCE:?}; {}", work.trouble));
                    return work;
                }
                work.latencies.push(asked.elapsed());
            }
        });
        let mut all = Work::default();
        for lane in futures::future::join_all(lanes).await {
            all.latencies.extend(lane.latencies);
            all.retries += lane.retries;
            all.lost.extend(lane.lost);
            if !lane.trouble.is_empty() {
                all.trouble = lane.trouble;
            }
        }
        all.took = began.elapsed();
        all.latencies.sort_unstable();
        all
    }
}

/// One release, asked for again as long as that is refused, until it is signed.
async fn sign(
    profile: &Profile,
    channel: &mut Option<Channel>,
    request: v1::CreateReleaseRequest,
    work: &mut Work,
) {
    let id = loop {
        let connected = match channel.take() {
            Some(open) => Ok(open),
            None => profile.connect().await.map_err(|failure| failure.to_string()),
        };
        let answer = match connected {
            Ok(open) => {
                let answer = client::releases(open.clone()).create_release(request.clone()).await;
                *channel = answer.is_ok().then_some(open);
                answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))
            }
            Err(problem) => Err(problem),
        };
        match answer {
            Ok(release) => break release.into_inner().release_id,
            Err(problem) => {
                work.retries += 1;
                work.trouble = problem;
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let mut open = channel.clone();
    loop {
        let followed = match open.take() {
            Some(open) => follow(open, &id, |_| ()).await.map_err(|failure| failure.to_string()),
            None => Err("not connected".into()),
        };
        match followed {
            Ok(release) if release.state() == v1::ReleaseState::Signed => return,
            Ok(release) => {
                work.lost.push(format!("{id} ended as {:?}: {:?}", release.state(), release.refusals));
                return;
            }
            Err(problem) => {
                work.retries += 1;
                work.trouble = problem;
                sleep(Duration::from_millis(50)).await;
                open = profile.connect().await.ok();
            }
        }
    }
}

/// Memory of a process in MiB: its peak since [`forget_peaks`], from `/proc`.
#[must_use]
pub fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

/// Peaks count from now on.
pub fn forget_peaks(cluster: &mut Cluster) {
    for party in parties(cluster) {
        if let Some(pid) = cluster.process(&party).pid() {
            // proc(5): 5 resets the peak resident set size to what it is now.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }
}

/// The peaks of the coordinator and of the largest node, in MiB.
pub fn peaks(cluster: &mut Cluster) -> (u64, u64) {
    let mut peak = |party: &str| cluster.process(party).pid().map_or(0, peak_mib);
    let coordinator = peak("coordinator");
    let nodes = cluster.nodes();
    let mut peak = |party: &str| cluster.process(party).pid().map_or(0, peak_mib);
    (coordinator, nodes.iter().map(|node| peak(node)).max().unwrap_or(0))
}

/// CPU seconds used by the coordinator, by all nodes, and by this process, in which both clients are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    coordinator: f64,
    nodes: f64,
    clients: f64,
}

/// What was used until now.
pub fn used(cluster: &mut Cluster) -> Used {
    let of = |pid: Option<u32>| pid.map_or(0.0, processor_seconds);
    let coordinator = of(cluster.process("coordinator").pid());
    let nodes = cluster.nodes().iter().map(|node| of(cluster.process(node).pid())).sum();
    Used { coordinator, nodes, clients: of(Some(std::process::id())) }
}

impl Used {
    /// What was used from `before` to `self`, as percentages of one core over `time`.
    #[must_use]
    pub fn since(self, before: Self, time: Duration) -> String {
        let part = |now: f64, before: f64| 100.0 * (now - before) / time.as_secs_f64().max(0.001);
        format!(
            "CPU coordinator {:.0} %, nodes {:.0} %, both clients {:.0} %",
            part(self.coordinator, before.coordinator),
            part(self.nodes, before.nodes),
            part(self.clients, before.clients)
        )
    }
}

/// In user and kernel mode together, from proc(5).
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program is in parentheses, and may contain anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS_PER_SECOND
}

fn parties(cluster: &Cluster) -> Vec<String> {
    cluster.nodes().into_iter().chain(["coordinator".to_owned()]).collect()
}
