//! The log of a real deployment: written before anything is signed, published, proved, and never forked, whatever dies.

use std::{
    path::{Path, PathBuf},
    process::Output,
};

use rutli_log::{Entry, EntryBundle, LogKey, TileId};
use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup, copy_folder, eventually, process::program, put_back},
    releases::{build, check, database, finished, sign},
    stock::{
        go,
        sigstore::{Evidence, accept_and_refuse_tampering},
    },
};
use rutli_wire::v1;
use serde_json::Value;
use tonic::Code;

use super::{SOON, create, get, reason};

/// What anybody can see and say of a log.
struct Reader {
    folder: PathBuf,
    policy: PathBuf,
    trusted_root: PathBuf,
    key: LogKey,
    state: tempfile::TempDir,
}

impl Reader {
    fn of(cluster: &Cluster) -> Self {
        let log = &cluster.files().log;
        Self {
            folder: cluster.data("coordinator").join("log"),
            policy: log.policy.clone(),
            trusted_root: log.trusted_root.clone(),
            key: std::fs::read_to_string(&log.key).unwrap().trim().parse().unwrap(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn size(&self) -> u64 {
        let note = std::fs::read_to_string(self.folder.join("checkpoint")).unwrap();
        self.key.open(&note).unwrap().head().size
    }

    fn entries(&self) -> Vec<Entry> {
        let size = self.size();
        let bundles = (0..).map_while(|index| TileId::in_tree(None, index, size));
        bundles
            .flat_map(|id| {
                let bytes = std::fs::read(self.folder.join(id.path())).unwrap();
                let entries = EntryBundle::parse(&bytes, id.width).unwrap();
                entries.into_iter().map(|entry| Entry::parse(entry).unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// `rutli log monitor --once`, which goes on from where it was.
    fn monitor(&self, place: &str) -> (Output, Value) {
        let output = std::process::Command::new(program("rutli"))
            .args(["--json", "log", "monitor", "--once", "--log", place, "--policy"])
            .arg(&self.policy)
            .arg("--trusted-root")
            .arg(&self.trusted_root)
            .arg("--state")
            .arg(self.state.path().join("state"))
            .output()
            .unwrap();
        let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output, said)
    }

    /// The monitor finds nothing wrong. Gives the entries of the head for Sigstore's tools.
    fn holds(&self) -> Option<u64> {
        let (output, said) = self.monitor(self.folder.to_str().unwrap());
        assert!(output.status.success(), "{said:#} {}", String::from_utf8_lossy(&output.stderr));
        said["sigstore_size"].as_u64()
    }
}

/// Waits until a signed release is proved; gives it.
async fn proven(cluster: &Cluster, id: &str) -> v1::Release {
    eventually(&format!("{id} is proved"), SOON, async || {
        let release = get(cluster, id).await;
        if release.proven_at == 0 { Err(format!("{:?}", release.state())) } else { Ok(release) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_asked_signed_and_made_is_in_the_log_for_everybody() {
    let cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    let asked = build("stable", 1, 2);
    let signed = sign(&cluster, asked.clone(), SOON).await;
    let mut watched = Vec::new();
    let request = v1::WatchReleaseRequest { release_id: signed.release_id.clone() };
    let mut stream = cluster.pipeline().await.watch_release(request).await.unwrap().into_inner();
    while let Some(release) = stream.message().await.unwrap() {
        watched.push(release);
    }
    let signed = watched.pop().unwrap();
    assert!(signed.proven_at > 0, "a watcher is told of the proof, and then no more");
    check(&key, &asked, &signed);
    let names: Vec<_> = signed.files.iter().map(|file| file.name.as_str()).collect();
    for kind in ["sigstore.json", "tlog-proof"] {
        let name = format!("{}.{kind}", signed.release_id);
        assert!(names.contains(&name.as_str()), "{name} is not in {names:?}");
    }
    // SSH signatures alone have no envelope that Sigstore's tools know; the log proves them all the same.
    let database = sign(&cluster, database("stable", 1, 2), SOON).await;
    let database = proven(&cluster, &database.release_id).await;
    let proof = database.files.iter().find(|file| file.name.ends_with(".tlog-proof")).unwrap();
    assert!(std::str::from_utf8(&proof.data).unwrap().contains("\nextra "));
    let refused =
        create(&cluster, v1::CreateReleaseRequest { product: "forbidden".into(), ..build("x", 1, 1) }).await;
    let refused = finished(cluster.channel("pipeline").await, &refused, SOON).await;
    assert_eq!(refused.state(), v1::ReleaseState::Refused);

    let reader = Reader::of(&cluster);
    eventually("the refusal is published", PATIENCE, async || {
        if reader.size() >= 8 { Ok(()) } else { Err(reader.size().to_string()) }
    })
    .await;
    reader.holds();
    let kinds: Vec<_> = reader.entries().iter().map(Entry::kind).collect();
    assert_eq!(kinds, ["key", "request", "outcome", "dsse", "request", "outcome", "request", "outcome"]);
    // The same over HTTP, from its beginning.
    let url = log_url(&cluster);
    let (output, said) = Reader::of(&cluster).monitor(&url);
    assert!(output.status.success(), "{said:#} {}", String::from_utf8_lossy(&output.stderr));
    for node in cluster.nodes() {
        eventually(&format!("{node} is a witness, also where it did not sign"), PATIENCE, async || {
            let (seen, size) = (cluster.status(&node).await.log_size, reader.size());
            if seen == size { Ok(()) } else { Err(format!("{seen} of {size}")) }
        })
        .await;
    }
}

/// What a deployment publishes, in the hands of tools that are not ours: npm's and the crate's Sigstore verifiers with their
/// defaults, and Go's `sumdb`; and in ours, offline.
#[tokio::test(flavor = "multi_thread")]
async fn stock_tools_accept_bundles_and_log_and_refuse_tampering() {
    let cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut bundles = Vec::new();
    for sequence in 1..=3 {
        let release = sign(&cluster, build("stable", sequence, 2), SOON).await;
        let release = proven(&cluster, &release.release_id).await;
        for file in &release.files {
            write(&file.name, &file.data);
        }
        bundles.push(folder.path().join(format!("{}.sigstore.json", release.release_id)));
    }
    let key = write("release.pem", cluster.release_key().await.to_pem().as_bytes());
    let trusted_root = cluster.files().log.trusted_root.clone();
    let evidence = Evidence {
        bundle: &bundles[2],
        other: &bundles[1],
        trusted_root: &trusted_root,
        key: &key,
        hint: "release",
    };
    let refused = accept_and_refuse_tampering(&evidence);
    println!("{refused} refusals");
    assert!(refused >= 60);
    let vkey = std::fs::read_to_string(&cluster.files().log.key).unwrap();
    let read = go::reads(&reader.folder, vkey.trim()).unwrap();
    println!("{read}");

    let artifact = write("suite-0.so", b"stable 3 0");
    let verify = |artifact: &PathBuf| {
        std::process::Command::new(program("rutli"))
            .args(["verify", "--any-name", "--bundle"])
            .arg(&bundles[2])
            .arg("--policy")
            .arg(&reader.policy)
            .arg("--trusted-root")
            .arg(&trusted_root)
            .arg("--key")
            .arg(&key)
            .arg(artifact)
            .output()
            .unwrap()
    };
    let accepted = verify(&artifact);
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    println!("{}", String::from_utf8_lossy(&accepted.stdout));
    let other = write("other.so", b"stable 2 0");
    assert_eq!(verify(&other).status.code(), Some(1), "a file of another release");
}

fn log_url(cluster: &Cluster) -> String {
    let config = rutli_coordinator::Config::read(&cluster.config("coordinator")).unwrap();
    config.log.url
}

/// Where the coordinator may die while it writes the log.
const CRASHES: [&str; 11] = [
    "log-before-commit:3",
    "log-committed:3",
    "log-committed:6",
    "log-tiles-half-written:2",
    "log-tiles-beside:2",
    "log-half-renamed:2",
    "log-tiles-written:2",
    "log-checkpoint-written:2",
    "log-published:2",
    "log-sigstore-written:2",
    "log-unstaged:2",
];

/// Killed at every boundary that the log's writing has: after a restart by nobody's hand but the service manager's, every
/// acknowledged release is signed and proved, the log extends whatever any node or monitor had seen of it, and nothing
/// is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_killed_at_any_boundary_never_forks_the_log_nor_loses_an_entry() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    let reader = Reader::of(&cluster);
    let mut sequence = 0;
    for crash in CRASHES {
        cluster.stop("coordinator");
        cluster.process("coordinator").start_with(&[("RUTLI_CRASH_AT", crash)]);
        let mut acknowledged = Vec::new();
        // It dies while it is asked, or soon after.
        let profile = rutli::client::Profile::read(&cluster.profile("pipeline")).unwrap();
        let what = format!("{crash} is reached");
        eventually(&what, SOON, async || {
            if !cluster.process("coordinator").is_running() {
                return Ok(());
            }
            sequence += 1;
            let request = build("stable", sequence, 1);
            if let Ok(channel) = profile.connect().await
                && let Ok(release) = rutli::client::releases(channel).create_release(request.clone()).await
            {
                acknowledged.push((release.into_inner().release_id, request));
            }
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            Err("it still runs".to_owned())
        })
        .await;
        println!("{crash}: dead after {} acknowledged releases", acknowledged.len());
        cluster.start_party("coordinator");
        for (id, asked) in &acknowledged {
            let release = proven(&cluster, id).await;
            check(&key, asked, &release);
        }
        // From where the last look ended: also what was published before the crash must be there still.
        reader.holds();
    }
    // What the nodes have cosigned is what everybody sees.
    let last = sign(&cluster, build("stable", sequence + 1, 1), SOON).await;
    proven(&cluster, &last.release_id).await;
    reader.holds();
    for node in cluster.nodes() {
        let status = cluster.status(&node).await;
        assert!(status.log_size <= reader.size(), "{node} has seen {} entries", status.log_size);
    }
}

/// No witness cosigns the head for Sigstore's tools, so it is only made of what a quorum has cosigned in the native one.
#[tokio::test(flavor = "multi_thread")]
async fn sigstores_tools_see_no_head_before_a_quorum_of_nodes_has() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    let first = sign(&cluster, build("stable", 1, 1), SOON).await;
    proven(&cluster, &first.release_id).await;
    let cosigned = reader.holds();
    assert_eq!(cosigned, Some(reader.size()));

    cluster.stop("supervisor-1");
    let id = create(&cluster, build("stable", 2, 1)).await;
    eventually("the request is published", SOON, async || {
        if Some(reader.size()) > cosigned { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    assert_eq!(reader.holds(), cosigned);

    cluster.start_party("supervisor-1");
    proven(&cluster, &id).await;
    assert_eq!(reader.holds(), Some(reader.size()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_restored_from_an_old_copy_starts_no_second_log() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    sign(&cluster, build("stable", 1, 1), SOON).await;
    cluster.stop("coordinator");
    let data = cluster.data("coordinator");
    let store = data.join("coordinator.sqlite");
    let copies = tempfile::tempdir().unwrap();
    let config = cluster.config("coordinator");
    let backup = |name: &str| {
        let copy = copies.path().join(name);
        let command = std::process::Command::new(program("rutli-coordinator"))
            .args(["backup", "--config"])
            .arg(&config)
            .arg("--to")
            .arg(&copy)
            .output()
            .unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        copy
    };
    let restore = |copy: &PathBuf| {
        for journal in ["coordinator.sqlite-wal", "coordinator.sqlite-shm"] {
            drop(std::fs::remove_file(data.join(journal)));
        }
        std::fs::copy(copy, &store).unwrap();
    };
    let old = backup("old");
    cluster.start_party("coordinator");
    let second = sign(&cluster, build("stable", 2, 1), SOON).await;
    proven(&cluster, &second.release_id).await;
    cluster.stop("coordinator");
    let newest = backup("newest");
    restore(&old);

    cluster.start_party("coordinator");
    let status = cluster.process("coordinator").wait(PATIENCE).expect("it must not run");
    assert!(!status.success());
    let log = cluster.log("coordinator");
    assert!(log.contains("the world has seen"), "{log}");
    assert!(log.contains("it is an old copy"), "{log}");
    reader.holds();

    restore(&newest);
    cluster.start_party("coordinator");
    let third = sign(&cluster, build("stable", 3, 1), SOON).await;
    proven(&cluster, &third.release_id).await;
    reader.holds();
}

/// A coordinator whose store and log folder are reverted together after its second release: nothing on its disk shows it, but the
/// nodes remember. With its newest data.
async fn reverted(cluster: &mut Cluster) -> PathBuf {
    let first = sign(cluster, build("stable", 1, 1), SOON).await;
    proven(cluster, &first.release_id).await;
    let data = cluster.data("coordinator");
    let (old, newest) = (cluster.folder().join("old"), cluster.folder().join("newest"));
    cluster.stop("coordinator");
    copy_folder(&data, &old);
    cluster.start_party("coordinator");
    let second = sign(cluster, build("stable", 2, 1), SOON).await;
    proven(cluster, &second.release_id).await;
    cluster.stop("coordinator");
    copy_folder(&data, &newest);
    put_back(&old, &data);
    newest
}

/// The coordinator tells every caller, for as long as it runs, why it accepts nothing and what to do.
async fn stays_stopped(cluster: &Cluster) {
    eventually("the log is stopped", SOON, async || {
        if cluster.log("coordinator").contains("this store is an old copy") {
            Ok(())
        } else {
            Err("it is not".to_owned())
        }
    })
    .await;
    for channel in ["alpha", "beta", "gamma"] {
        let status = cluster.pipeline().await.create_release(build(channel, 1, 1)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_CLOSED"));
        assert!(status.message().contains("restore the newest copies"), "{status}");
        assert!(!status.message().contains("by itself"), "{status}");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// With its newest data the coordinator signs where it had stopped.
async fn goes_on_with(cluster: &mut Cluster, newest: &Path) {
    cluster.stop("coordinator");
    put_back(newest, &cluster.data("coordinator"));
    cluster.start_party("coordinator");
    let third = sign(cluster, build("stable", 3, 1), SOON).await;
    proven(cluster, &third.release_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_reverted_as_a_whole_appends_nothing() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    let newest = reverted(&mut cluster).await;
    cluster.start_party("coordinator");
    stays_stopped(&cluster).await;

    goes_on_with(&mut cluster, &newest).await;
    reader.holds();
}

/// Before any node is there it takes requests, until the log is longer than the nodes remember it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reverted_coordinator_that_wrote_on_is_stopped_when_nodes_come() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    let newest = reverted(&mut cluster).await;
    let nodes = cluster.nodes();
    let mut kept = 0;
    for node in &nodes {
        kept = kept.max(cluster.status(node).await.log_size);
        cluster.stop(node);
    }
    cluster.start_party("coordinator");
    let mut requests = Vec::new();
    for sequence in 3..3 + kept {
        requests.push(create(&cluster, build("stable", sequence, 1)).await);
    }
    for node in &nodes {
        cluster.start_party(node);
    }
    stays_stopped(&cluster).await;
    for id in requests {
        let release = get(&cluster, &id).await;
        assert!(release.files.is_empty() && release.state() != v1::ReleaseState::Signed, "{release:?}");
    }

    // No node was shown two heads of one size: none has to be told which history stands.
    goes_on_with(&mut cluster, &newest).await;
    reader.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embargo_hides_a_request_until_its_time() {
    let cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    let secret = v1::CreateReleaseRequest { embargo_until: now() + 3_600, ..build("stable", 1, 1) };
    let signed = sign(&cluster, secret, SOON).await;
    assert_eq!(signed.state(), v1::ReleaseState::Signed, "nodes sign it like any other");
    proven(&cluster, &signed.release_id).await;
    reader.holds();
    let text = String::from_utf8(reader.entries().iter().flat_map(Entry::encode).collect()).unwrap();
    for word in ["suite", "stable", "1.0.1", "pipeline", &signed.release_id] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
    let documents = std::fs::read_dir(reader.folder.join("sha256")).unwrap().count();
    assert_eq!(documents, 1, "the roster's, and no statement");

    // Its pipeline ends it before its time; another one cannot.
    let request = v1::DiscloseReleaseRequest { release_id: signed.release_id.clone() };
    let mut other = rutli::client::releases(cluster.channel("pipeline-2").await);
    super::refused(other.disclose_release(request.clone()).await, tonic::Code::NotFound);
    cluster.pipeline().await.disclose_release(request.clone()).await.unwrap();
    cluster.pipeline().await.disclose_release(request).await.unwrap();
    // One whose time comes by itself.
    let id = eventually("it is asked for before its time", PATIENCE, async || {
        let soon = v1::CreateReleaseRequest { embargo_until: now() + 2, ..build("stable", 2, 1) };
        let answer = cluster.pipeline().await.create_release(soon).await;
        answer.map(|release| release.into_inner().release_id).map_err(|status| status.to_string())
    })
    .await;
    let signed = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(signed.state(), v1::ReleaseState::Signed);
    eventually("both are disclosed", PATIENCE, async || {
        let kinds: Vec<_> = reader.entries().iter().map(Entry::kind).collect();
        if kinds.iter().filter(|kind| **kind == "disclosure").count() == 2 {
            Ok(())
        } else {
            Err(format!("{kinds:?}"))
        }
    })
    .await;
    reader.holds();
    let past = v1::CreateReleaseRequest { embargo_until: 5, ..build("stable", 3, 1) };
    super::refused(cluster.pipeline().await.create_release(past).await, tonic::Code::InvalidArgument);
}

#[expect(clippy::disallowed_methods, reason = "an embargo ends by the clock on the wall")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The supervisor's node is put back to an old copy, journal and all. It was a witness of more than it knows: it finds
/// out by its own cosignature, and signs nothing before its peers have shown it a head that they cosigned since.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_restored_from_a_backup_catches_up_before_it_signs() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let reader = Reader::of(&cluster);
    sign(&cluster, build("stable", 1, 1), SOON).await;
    cluster.stop("supervisor-1");
    let data = cluster.data("supervisor-1");
    let copy = data.with_file_name("old-copy");
    copy_folder(&data, &copy);
    cluster.start_party("supervisor-1");
    sign(&cluster, build("stable", 2, 1), SOON).await;
    let seen = cluster.status("supervisor-1").await.log_size;
    cluster.stop("supervisor-1");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&copy, &data).unwrap();
    let marked = std::process::Command::new(program("rutli-signer"))
        .arg("--config")
        .arg(cluster.config("supervisor-1"))
        .arg("restored")
        .output()
        .unwrap();
    assert!(marked.status.success(), "{}", String::from_utf8_lossy(&marked.stderr));

    // Its peers are away: nothing tells it what they have cosigned.
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        cluster.stop(node);
    }
    cluster.start_party("supervisor-1");
    let waiting = eventually("it says that it catches up", PATIENCE, async || {
        let status = cluster.status("supervisor-1").await;
        if status.state == "ready" { Err(format!("{status:?}")) } else { Ok(status) }
    })
    .await;
    println!("{}: {}", waiting.state, waiting.reason);
    let id = create(&cluster, build("stable", 3, 1)).await;
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        cluster.start_party(node);
    }
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(release.state(), v1::ReleaseState::Signed);
    assert!(cluster.status("supervisor-1").await.log_size >= seen);
    reader.holds();
}
