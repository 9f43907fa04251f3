//! What the processes cost, as `/proc` tells it.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{cluster::Cluster, stats::float64};

/// Ticks of `utime` and `stime` in a second: `USER_HZ`, 100 on every Linux that Rust runs on but for Alpha
/// (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of every process at one moment, in seconds; this program, as the client, last.
#[derive(Clone, Debug)]
pub struct CpuReading(Vec<(String, f64)>);

/// CPU time of one process for each signature.
#[derive(Clone, Debug, Serialize)]
pub struct CpuCost {
    /// `coordinator`, a node's name, or `client`.
    pub process: String,
    /// Microseconds of CPU, user and system, per signature.
    pub us_per_signature: f64,
    /// How many cores it kept busy.
    pub cores: f64,
}

/// Memory of one process.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// As in [`CpuCost`].
    pub process: String,
    /// Resident after the start, with a key and full pools, in MiB.
    pub rest_mib: f64,
    /// The highest ever up to now (`VmHWM`), in MiB.
    pub peak_mib: f64,
}

impl CpuReading {
    /// Reads it now.
    ///
    /// # Errors
    /// A process is gone.
    pub fn take(cluster: &Cluster) -> Result<Self> {
        let mut readings = Vec::new();
        for process in &cluster.processes {
            readings.push((process.name.clone(), cpu_seconds(&process.pid.to_string())?));
        }
        readings.push(("client".to_owned(), cpu_seconds("self")?));
        Ok(Self(readings))
    }

    /// From an earlier reading to this one, `seconds` later.
    #[must_use]
    pub fn since(&self, earlier: &Self, signatures: u64, seconds: f64) -> Vec<CpuCost> {
        self.0
            .iter()
            .zip(&earlier.0)
            .map(|((process, now), (_, before))| CpuCost {
                process: process.clone(),
                us_per_signature: (now - before) * 1e6 / float64(signatures.max(1)),
                cores: (now - before) / seconds,
            })
            .collect()
    }
}

/// Resident memory of every process now, in MiB.
///
/// # Errors
/// A process is gone.
pub fn resident(cluster: &Cluster) -> Result<Vec<(String, f64)>> {
    cluster
        .processes
        .iter()
        .map(|process| Ok((process.name.clone(), status_mib(process.pid, "VmRSS:")?)))
        .collect()
}

/// The highest resident memory of every process, beside what it was at rest.
///
/// # Errors
/// A process is gone.
pub fn peaks(cluster: &Cluster, rest: &[(String, f64)]) -> Result<Vec<Memory>> {
    cluster
        .processes
        .iter()
        .zip(rest)
        .map(|(process, (_, rest_mib))| {
            Ok(Memory {
                process: process.name.clone(),
                rest_mib: *rest_mib,
                peak_mib: status_mib(process.pid, "VmHWM:")?,
            })
        })
        .collect()
}

fn cpu_seconds(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat =
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the process ended?"))?;
    ticks(&stat)
        .map(|ticks| float64(ticks) / TICKS_PER_SECOND)
        .with_context(|| format!("{path} has another format"))
}

/// Fields 14 and 15, counted after the command in parentheses, which may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn status_mib(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status =
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the process ended?"))?;
    kib(&status, field).map(|kib| float64(kib) / 1024.0).with_context(|| format!("{path} has no {field}"))
}

fn kib(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_reads() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(kib("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS:"), Some(1024));
        assert!(cpu_seconds("self").unwrap() >= 0.0);
        assert!(status_mib(std::process::id(), "VmHWM:").unwrap() > 0.0);
    }
}
