//! Where the shares and identity keys of real nodes are in their memory.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    ops::Range,
    thread,
    time::Duration,
};

use memchr::memmem;
use rutli_tests::{
    cluster::{Cluster, Setup},
    releases::{build, sign},
};
use tokio::time::Instant;

use super::{
    SOON,
    secrets::{identities, shares},
};

/// A share, and the identity key, is in locked pages and nowhere else: after the ceremony, after a restart that read it from
/// its file, and after signing with it. Only root reads the memory of a hardened process, so others skip this.
#[tokio::test(flavor = "multi_thread")]
async fn shares_and_identities_are_in_locked_memory_alone() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can read a node's memory");
        return;
    }
    let mut cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 1, 2), SOON).await;
    assert_locked(&mut cluster, "after the ceremony");
    for node in cluster.nodes() {
        cluster.kill(&node);
        cluster.start_party(&node);
    }
    cluster.ready().await;
    for sequence in 2..6 {
        sign(&cluster, build("stable", sequence, 2), SOON).await;
    }
    assert_locked(&mut cluster, "after a restart and signing");
}

fn assert_locked(cluster: &mut Cluster, when: &str) {
    for (what, secret) in shares(cluster).into_iter().chain(identities(cluster)) {
        let node = what.rsplit(' ').next().unwrap().to_owned();
        let (locked, elsewhere) = found(cluster.process(&node).pid().unwrap(), &secret);
        assert!(locked > 0, "{what} is not found {when}: the search does not work");
        assert!(elsewhere.is_empty(), "{what} {when}: {elsewhere:?}");
    }
}

/// How often a secret is in locked pages of a process, and where else it is. What a thread computes with is on its stack
/// until it is done, so a copy elsewhere counts only if no thread ran during the search.
pub(super) fn found(pid: u32, secret: &[u8]) -> (usize, Vec<String>) {
    let until = Instant::now() + SOON;
    loop {
        let before = at_rest(pid);
        let (locked, elsewhere) = look(pid, secret);
        if elsewhere.is_empty() || (before.is_some() && before == at_rest(pid)) {
            return (locked, elsewhere);
        }
        assert!(Instant::now() < until, "the process {pid} never rests; last found: {elsewhere:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// How often each thread of a process was given a processor; `None` if one of them is at work.
fn at_rest(pid: u32) -> Option<BTreeMap<OsString, Vec<String>>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| {
            let thread = thread.ok()?;
            let status = fs::read_to_string(thread.path().join("status")).ok()?;
            let lines = |start| status.lines().filter(move |line| line.starts_with(start));
            if !lines("State:").all(|line| line.contains("(sleeping)")) {
                return None;
            }
            Some((
                thread.file_name(),
                lines("voluntary_ctxt").chain(lines("nonvoluntary_ctxt")).map(str::to_owned).collect(),
            ))
        })
        .collect()
}

fn look(pid: u32, secret: &[u8]) -> (usize, Vec<String>) {
    let (mut locked, mut elsewhere) = (0, Vec::new());
    for (range, is_locked) in writable(pid) {
        let found = memmem::find_iter(&read(pid, &range), secret).count();
        if is_locked {
            locked += found;
        } else if found > 0 {
            elsewhere.push(format!("{found} in {range:x?}"));
        }
    }
    (locked, elsewhere)
}

fn read(pid: u32, range: &Range<u64>) -> Vec<u8> {
    let mut memory = vec![0; usize::try_from(range.end - range.start).unwrap()];
    let mut file = File::open(format!("/proc/{pid}/mem")).unwrap();
    file.seek(SeekFrom::Start(range.start)).unwrap();
    // A part may be gone since its address was read, and with it what was in it.
    match file.read_exact(&mut memory) {
        Ok(()) => memory,
        Err(_) => Vec::new(),
    }
}

/// The writable parts of a process's memory, and whether they are locked.
fn writable(pid: u32) -> Vec<(Range<u64>, bool)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut parts = Vec::new();
    let mut range = None;
    for line in maps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((start, end)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            range = rest.starts_with("rw").then(|| address(start)..address(end));
        } else if first == "VmFlags:"
            && let Some(range) = range.take()
        {
            parts.push((range, rest.split(' ').any(|flag| flag == "lo")));
        }
    }
    parts
}
