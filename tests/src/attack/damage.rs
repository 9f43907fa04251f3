//! Files that were damaged, emptied, half copied, or reverted to an old copy while their process did not run.
//! Lost state is never a first start: a process that starts at all still has its state.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rutli::client::{self, Profile};
use rutli_wire::v1;
use serde_json::Value;

use super::{Row, Scale};
use crate::{
    cluster::{Cluster, PATIENCE, Setup, copy_folder, eventually, process::program, put_back},
    releases::{build, sign},
};

/// Steps in which a file is damaged in the short form; in the long one it is every 512 bytes.
const STEPS: usize = 12;

/// In which time a deployment that would sign something wrong does so. A busy machine makes the attack
/// weaker, and never fails the test.
const SETTLED: Duration = Duration::from_secs(8);

/// What is done to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// It has no bytes any more.
    Emptied,
    /// Its second half is gone.
    Halved,
    /// It is gone.
    Gone,
    /// These bytes are others.
    Other(std::ops::Range<usize>),
}

impl Damage {
    /// All that is done to a file of that size: each of its bytes is damaged at least once.
    fn all(size: usize, scale: Scale) -> Vec<Self> {
        let step = match scale {
            Scale::Short => size.div_ceil(STEPS).max(64),
            Scale::Long { .. } => size.div_ceil(200).max(512),
        };
        let others = (0..size).step_by(step).map(|start| Self::Other(start..size.min(start + step)));
        [Self::Emptied, Self::Halved, Self::Gone].into_iter().chain(others).collect()
    }

    fn apply(&self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Emptied => bytes.clear(),
            Self::Halved => bytes.truncate(bytes.len() / 2),
            Self::Gone => return fs::remove_file(path).unwrap(),
            Self::Other(range) => bytes[range.clone()].iter_mut().for_each(|byte| *byte ^= 0x55),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// What came of all damages to one kind of file.
#[derive(Default)]
struct Tally {
    refused: usize,
    closed: usize,
    unharmed: usize,
    holes: Vec<String>,
}

impl Tally {
    fn row(self, attack: &str, tried: String) -> Row {
        let Self { refused, closed, unharmed, holes } = self;
        let came = format!(
            "{refused} times it does not start, {closed} times it is closed, {unharmed} times it knows all that it knew"
        );
        Row { attack: attack.into(), tried, came, figures: String::new(), holes }
    }
}

/// A node's and the coordinator's files, and the log's.
pub async fn damages(scale: Scale) -> Vec<Row> {
    let mut cluster = Cluster::start(Setup { log: "warn", ..Setup::default() }).await;
    sign(&cluster, build("stable", 1, 1), PATIENCE).await;
    let old = cluster.folder().join("old");
    fs::create_dir(&old).unwrap();
    for party in parties(&cluster) {
        cluster.while_frozen(std::slice::from_ref(&party), |cluster| {
            copy_folder(&cluster.data(&party), &old.join(&party))
        });
    }
    let mut releases = Vec::new();
    for sequence in [2, 3, 4] {
        releases.push(sign(&cluster, build("stable", sequence, 2), PATIENCE).await);
    }
    let mut rows = a_log(&mut cluster, scale).await;
    rows.extend(journals(&mut cluster, scale).await);
    rows.extend(stores(&mut cluster, &releases, scale).await);
    rows.push(old_copies_of_everything(&mut cluster, &old).await);
    rows
}

/// A node whose journal was damaged while it did not run. It had been killed: what it knows is in the
/// write-ahead log, too.
async fn journals(cluster: &mut Cluster, scale: Scale) -> Vec<Row> {
    const NODE: &str = "vendor-1";
    let before = cluster.status(NODE).await;
    cluster.kill("coordinator");
    cluster.kill(NODE);
    let (data, copy_of_it) = (cluster.data(NODE), cluster.folder().join("copy"));
    copy_folder(&data, &copy_of_it);
    let mut rows = Vec::new();
    for name in files_below(&copy_of_it) {
        if name.ends_with("lock") || name.to_str().unwrap().ends_with("-shm") {
            continue;
        }
        let size = fs::metadata(copy_of_it.join(&name)).unwrap().len();
        let damages = Damage::all(usize::try_from(size).unwrap(), scale);
        let mut tally = Tally::default();
        for damage in &damages {
            put_back(&copy_of_it, &data);
            damage.apply(&data.join(&name));
            let what = format!("{} {damage:?}", name.display());
            match awakened(cluster, NODE).await {
                None => tally.refused += 1,
                Some(now) if now.state != "ready" => tally.closed += 1,
                Some(now) if knows_as_much(&now, &before) => tally.unharmed += 1,
                Some(now) => tally.holes.push(format!(
                    "{what}: ready with {} marks, {} decisions and a log of {} (before: {}, {} and {})",
                    now.marks.len(),
                    now.permitted,
                    now.log_size,
                    before.marks.len(),
                    before.permitted,
                    before.log_size
                )),
            }
            panicked(cluster, NODE, &what, &mut tally);
            cluster.kill(NODE);
        }
        rows.push(tally.row("files of a node", format!("{}, {} damages", name.display(), damages.len())));
    }
    put_back(&copy_of_it, &data);
    fs::remove_dir_all(&copy_of_it).unwrap();
    cluster.start_party(NODE);
    cluster.start_party("coordinator");
    cluster.ready().await;
    rows
}

/// Starts a node; what it says of itself, or nothing if it ends.
async fn awakened(cluster: &mut Cluster, node: &str) -> Option<v1::StatusResponse> {
    cluster.start_party(node);
    let socket = cluster.socket(node);
    eventually(&format!("{node} starts or does not"), PATIENCE, async || {
        if !cluster.process(node).is_running() {
            return Ok(None);
        }
        let channel = client::connect_socket(&socket).await.map_err(|failure| failure.to_string())?;
        let status = client::custodian(channel).status(v1::StatusRequest {}).await;
        status.map(|status| Some(status.into_inner())).map_err(|status| status.to_string())
    })
    .await
}

fn knows_as_much(now: &v1::StatusResponse, before: &v1::StatusResponse) -> bool {
    now.marks == before.marks && now.log_size == before.log_size && now.permitted == before.permitted
}

fn panicked(cluster: &Cluster, party: &str, what: &str, tally: &mut Tally) {
    let log = cluster.log(party);
    if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
        tally.holes.push(format!("{what}: {party} {line}"));
    }
}

/// The coordinator's store.
async fn stores(cluster: &mut Cluster, releases: &[v1::Release], scale: Scale) -> Vec<Row> {
    cluster.kill("coordinator");
    let (data, copy_of_it) = (cluster.data("coordinator"), cluster.folder().join("copy"));
    copy_folder(&data, &copy_of_it);
    let mut rows = Vec::new();
    for name in ["coordinator.sqlite", "coordinator.sqlite-wal"] {
        let Ok(metadata) = fs::metadata(copy_of_it.join(name)) else { continue };
        let damages = Damage::all(usize::try_from(metadata.len()).unwrap(), scale);
        let mut tally = Tally::default();
        for damage in &damages {
            put_back(&copy_of_it, &data);
            damage.apply(&data.join(name));
            let what = format!("{name} {damage:?}");
            remembered(cluster, releases, &what, &mut tally).await;
            panicked(cluster, "coordinator", &what, &mut tally);
            cluster.kill("coordinator");
        }
        rows.push(tally.row("files of the coordinator", format!("{name}, {} damages", damages.len())));
    }
    put_back(&copy_of_it, &data);
    fs::remove_dir_all(&copy_of_it).unwrap();
    cluster.start_party("coordinator");
    cluster.ready().await;
    rows
}

/// Starts the coordinator; if it serves, it says of every release what it said before, or that it cannot.
async fn remembered(cluster: &mut Cluster, releases: &[v1::Release], what: &str, tally: &mut Tally) {
    cluster.start_party("coordinator");
    let profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    let channel = eventually("the coordinator starts or does not", PATIENCE, async || {
        if !cluster.process("coordinator").is_running() {
            return Ok(None);
        }
        profile.connect().await.map(Some).map_err(|failure| failure.to_string())
    })
    .await;
    let Some(channel) = channel else {
        tally.refused += 1;
        return;
    };
    let mut is_closed = false;
    for before in releases {
        let request = v1::GetReleaseRequest { release_id: before.release_id.clone() };
        match client::releases(channel.clone()).get_release(request).await {
            Ok(now) => {
                let now = now.into_inner();
                let is_same = now.content == before.content
                    && now.state == before.state
                    && before.files.iter().all(|file| now.files.contains(file));
                if !is_same {
                    tally.holes.push(format!("{what}: it says {now:?} where it said {before:?}"));
                }
            }
            Err(status) if status.code() == tonic::Code::NotFound => {
                tally.holes.push(format!("{what}: it has forgotten {}", before.release_id));
            }
            Err(_) => is_closed = true,
        }
    }
    if is_closed {
        tally.closed += 1;
    } else {
        tally.unharmed += 1;
    }
}

/// The log's folder, as a monitor reads it that sees it for the first time, and one that has seen it before.
async fn a_log(cluster: &mut Cluster, scale: Scale) -> Vec<Row> {
    // A log folder grows while it is copied; not while its writer stands still.
    let (folder, copy_of_it) = (cluster.data("coordinator").join("log"), cluster.folder().join("log-copy"));
    let place = cluster.folder().join("damaged-log");
    let published = folder.join("checkpoint");
    eventually("the log is published", PATIENCE, async || {
        if published.exists() { Ok(()) } else { Err("not yet".into()) }
    })
    .await;
    cluster.while_frozen(&["coordinator".to_owned()], |_| copy_folder(&folder, &copy_of_it));
    put_back(&copy_of_it, &place);
    let seen = place.with_file_name("seen");
    let (exit, honest) = monitored(cluster, &place, &seen);
    assert_eq!(exit, Some(0), "{honest:#}");
    let mut rows = Vec::new();
    let mut tally = Tally::default();
    let mut count = 0;
    for name in files_below(&copy_of_it) {
        let size = fs::metadata(copy_of_it.join(&name)).unwrap().len();
        // A monitor is a process for each damage: fewer steps than for a journal.
        let damages = Damage::all(usize::try_from(size).unwrap(), scale);
        let every = if scale == Scale::Short { damages.len().div_ceil(5).max(1) } else { 1 };
        for damage in damages.iter().step_by(every) {
            count += 1;
            put_back(&copy_of_it, &place);
            damage.apply(&place.join(&name));
            let fresh = place.with_file_name("fresh");
            let _ = fs::remove_file(&fresh);
            let (exit, said) = monitored(cluster, &place, &fresh);
            match exit {
                Some(0) if said["size"] == honest["size"] => tally.unharmed += 1,
                Some(0) => tally.holes.push(format!("{} {damage:?}: {said:#}", name.display())),
                Some(101) | None => tally.holes.push(format!("{} {damage:?}: it panics", name.display())),
                Some(_) => tally.refused += 1,
            }
        }
    }
    rows.push(tally.row("the log's folder, read by a monitor", format!("{count} damages to its files")));
    rows
}

fn monitored(cluster: &Cluster, place: &Path, state: &Path) -> (Option<i32>, Value) {
    let log = &cluster.files().log;
    let output = Command::new(program("rutli"))
        .args(["--json", "log", "monitor", "--once", "--log"])
        .arg(place)
        .arg("--policy")
        .arg(&log.policy)
        .arg("--trusted-root")
        .arg(&log.trusted_root)
        .arg("--state")
        .arg(state)
        .output()
        .unwrap();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// All nodes and the coordinator are reverted to their state after the first release, without being told. A
/// number that was signed since must not be signed again with other content, as long as anybody remembers it.
async fn old_copies_of_everything(cluster: &mut Cluster, old: &Path) -> Row {
    let parties = parties(cluster);
    for party in &parties {
        cluster.kill(party);
    }
    // All but one, which still remembers.
    for party in parties.iter().filter(|party| *party != "supervisor-1") {
        put_back(&old.join(party), &cluster.data(party));
    }
    for party in &parties {
        cluster.start_party(party);
    }
    let mut holes = Vec::new();
    let began = tokio::time::Instant::now();
    // The sequence of a release that was signed, with other files.
    let asked = v1::CreateReleaseRequest { request_id: "once-more".into(), ..build("stable", 3, 5) };
    let profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    let came = eventually("something comes of it", PATIENCE, async || {
        if !cluster.process("coordinator").is_running() {
            return Ok("the coordinator does not start".to_owned());
        }
        let channel = profile.connect().await.map_err(|failure| failure.to_string())?;
        let answer = client::releases(channel).create_release(asked.clone()).await;
        let release = match answer {
            Ok(release) => release.into_inner(),
            // It may open yet. A log that nodes outgrew stays closed.
            Err(status) if status.code() == tonic::Code::Unavailable && began.elapsed() < SETTLED => {
                return Err(status.to_string());
            }
            Err(status) => return Ok(format!("{:?}: {}", status.code(), status.message())),
        };
        let came = format!("{:?} {}", release.state(), release.waiting_for.join("; "));
        match release.state() {
            // The nodes may not all have come yet. If this is all that comes of it, nothing is signed.
            v1::ReleaseState::Queued | v1::ReleaseState::Signing | v1::ReleaseState::AwaitingQuorum
                if began.elapsed() < SETTLED =>
            {
                Err(came)
            }
            _ => Ok(came),
        }
    })
    .await;
    if came.starts_with("Signed") {
        holes.push("a sequence was signed with a second content".into());
    }
    Row {
        attack: "old copies".into(),
        tried: "the coordinator and all vendor nodes are put back; the supervisor is not".into(),
        came,
        figures: String::new(),
        holes,
    }
}

fn parties(cluster: &Cluster) -> Vec<String> {
    cluster.nodes().into_iter().chain(["coordinator".to_owned()]).collect()
}

/// Files in a folder and below it, by their paths in it, sorted.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}
