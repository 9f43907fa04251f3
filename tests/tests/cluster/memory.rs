//! The memory of nodes: lost, emptied or reverted state is never mistaken for a first start, and the node
//! signs nothing with it before it has caught up, or its custodian has decided to go on.

use std::{fs, path::PathBuf, process::Command};

use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup, copy_folder, eventually, process::program},
    releases::{build, finished, sign},
};
use rutli_wire::v1;

use super::{SOON, create, get};

/// How a journal becomes an old one.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The data folder as it was before.
    OldCopy,
    /// The main file alone, of a node that was killed: what it wrote last is in the other one.
    WithoutWal,
    /// One byte of the `-wal` file is another.
    FlippedWal,
    /// A file without content.
    Empty,
}

fn journal(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.data(node).join("node.sqlite")
}

fn wal(cluster: &Cluster, node: &str) -> PathBuf {
    cluster.data(node).join("node.sqlite-wal")
}

/// Waits until a node's witness knows all of its journal.
async fn witnessed(cluster: &Cluster, node: &str) {
    eventually(&format!("the witness of {node} knows all"), PATIENCE, async || {
        let status = cluster.status(node).await;
        let text = fs::read_to_string(cluster.node_folder(node).join("witness/journal")).unwrap_or_default();
        let known: serde_json::Value =
            text.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let size = known["heads"][status.log_origin.as_str()]["size"].as_u64();
        let permitted = known["permitted"]["count"].as_u64();
        if size == Some(status.log_size) && permitted == Some(status.permitted) {
            Ok(())
        } else {
            Err(format!("{known} {status:?}"))
        }
    })
    .await;
}

/// What a node's custodian reads, once it is not ready.
async fn why(cluster: &Cluster, node: &str) -> String {
    eventually(&format!("{node} says what is wrong"), PATIENCE, async || {
        let status = cluster.status(node).await;
        if status.state == "closed" { Ok(status.reason) } else { Err(format!("{status:?}")) }
    })
    .await
}

/// "Old journals, four ways, all nodes: nothing is signed until they have caught up, and each says why." Each node has an old
/// journal, each in another way. None signs; the custodians go on, and once they have compared the newest head and vouched
/// for it, for nobody is left who could, all of them sign again. What was permitted stays permitted once.
#[tokio::test(flavor = "multi_thread")]
async fn old_journals_four_ways_sign_nothing_before_they_have_caught_up() {
    let mut cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    let losses = [
        ("vendor-1", Loss::OldCopy, "is an old copy"),
        ("vendor-2", Loss::WithoutWal, "is empty, and this node has a witness"),
        ("vendor-3", Loss::FlippedWal, "is empty, and this node has a witness"),
        ("supervisor-1", Loss::Empty, "is empty, and this node has a witness"),
    ];
    cluster.stop("vendor-1");
    copy_folder(&cluster.data("vendor-1"), &cluster.folder().join("old"));
    cluster.start_party("vendor-1");
    cluster.until_ready("vendor-1").await;
    for sequence in 2..=4 {
        sign(&cluster, build("stable", sequence, 1), SOON).await;
    }
    // vendor-1 must have taken part in something since its copy.
    cluster.stop("vendor-3");
    sign(&cluster, build("stable", 5, 1), SOON).await;
    cluster.start_party("vendor-3");
    cluster.until_ready("vendor-3").await;
    let size = cluster.status("supervisor-1").await.log_size;

    for node in cluster.nodes() {
        // The head that is published now is new to vendor-3, which was away.
        eventually(&format!("{node} has seen all"), PATIENCE, async || {
            let own = cluster.status(&node).await.log_size;
            if own >= size { Ok(()) } else { Err(own.to_string()) }
        })
        .await;
        witnessed(&cluster, &node).await;
    }
    for (node, loss, _) in losses {
        // Killed: everything since its start is in the -wal file.
        cluster.kill(node);
        match loss {
            Loss::OldCopy => {
                fs::remove_dir_all(cluster.data(node)).unwrap();
                copy_folder(&cluster.folder().join("old"), &cluster.data(node));
            }
            Loss::WithoutWal => {
                fs::remove_file(wal(&cluster, node)).unwrap();
                drop(fs::remove_file(cluster.data(node).join("node.sqlite-shm")));
            }
            Loss::FlippedWal => {
                let mut bytes = fs::read(wal(&cluster, node)).unwrap();
                bytes[100] ^= 1;
                fs::write(wal(&cluster, node), bytes).unwrap();
            }
            Loss::Empty => {
                fs::write(journal(&cluster, node), "").unwrap();
                for other in ["node.sqlite-wal", "node.sqlite-shm"] {
                    drop(fs::remove_file(cluster.data(node).join(other)));
                }
            }
        }
        cluster.start_party(node);
    }
    let mut said = Vec::new();
    for (node, loss, expected) in losses {
        let reason = why(&cluster, node).await;
        println!("{node} ({loss:?}): {reason}");
        said.push((node, reason, expected));
    }
    // Asked for a sequence that was signed, with other content, and for a new one: nothing.
    let id = create(&cluster, build("stable", 6, 2)).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let release = get(&cluster, &id).await;
    assert_eq!(
        (release.state(), release.signatures_done),
        (v1::ReleaseState::AwaitingQuorum, 0),
        "{release:?}"
    );
    for (node, reason, expected) in &said {
        assert!(reason.contains("memory is lost"), "{node}: {reason}");
        assert!(
            reason.contains(expected) || reason.contains("is an old copy"),
            "{node} wants {expected}: {reason}"
        );
    }
    // Also after another start.
    cluster.stop("supervisor-1");
    cluster.start_party("supervisor-1");
    assert!(why(&cluster, "supervisor-1").await.contains("memory is lost"));

    // The custodians go on. Each node waits for the others, who wait too: so they vouch for the newest head.
    for node in cluster.nodes() {
        cluster.custodian(&node).await.resume(v1::ResumeRequest::default()).await.unwrap();
        let status = cluster.status(&node).await;
        assert_eq!(
            (status.state.as_str(), status.log_state.as_str()),
            ("closed", "catching-up"),
            "{status:?}"
        );
    }
    assert_eq!(get(&cluster, &id).await.signatures_done, 0);
    let (published, root) = published(&cluster);
    assert!(published >= size);
    for node in cluster.nodes() {
        let request = v1::ResumeRequest { log_size: published, log_root: root.clone() };
        cluster.custodian(&node).await.resume(request).await.unwrap();
    }
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(release.state(), v1::ReleaseState::Signed, "{release:?}");
    cluster.ready().await;
}

/// The published head as it is, with everybody's cosignatures.
fn published_note(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.data("coordinator").join("log/checkpoint")).unwrap()
}

/// Size and root of the published head.
fn published(cluster: &Cluster) -> (u64, Vec<u8>) {
    let note = published_note(cluster);
    let mut lines = note.lines().skip(1);
    let size = lines.next().unwrap().parse().unwrap();
    (size, rutli_log::Hash::from_base64(lines.next().unwrap()).unwrap().as_bytes().to_vec())
}

/// A clean stop of the real process leaves one file, which is all of the journal: copied alone, it is the node's.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_leaves_one_file_that_holds_everything() {
    let mut cluster = Cluster::start(Setup::default()).await;
    for sequence in 1..=3 {
        sign(&cluster, build("stable", sequence, 1), SOON).await;
    }
    let before = cluster.status("supervisor-1").await;
    assert!(wal(&cluster, "supervisor-1").exists(), "while it runs");
    cluster.stop("supervisor-1");
    for gone in ["node.sqlite-wal", "node.sqlite-shm"] {
        assert!(!cluster.data("supervisor-1").join(gone).exists(), "{gone}");
    }
    let copy = cluster.folder().join("copy.sqlite");
    fs::copy(journal(&cluster, "supervisor-1"), &copy).unwrap();
    fs::remove_file(journal(&cluster, "supervisor-1")).unwrap();
    fs::copy(&copy, journal(&cluster, "supervisor-1")).unwrap();
    cluster.start_party("supervisor-1");
    cluster.until_ready("supervisor-1").await;
    let after = cluster.status("supervisor-1").await;
    assert_eq!((&after.marks, after.permitted), (&before.marks, before.permitted));
    assert!(after.log_size >= before.log_size);
    sign(&cluster, build("stable", 4, 1), SOON).await;
}

/// A deployment whose supervisor's machine was copied before it cosigned the published head, and is stopped now; and the size of that
/// head.
async fn copied_machine() -> (Cluster, u64) {
    let mut cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    cluster.stop("supervisor-1");
    copy_folder(&cluster.node_folder("supervisor-1"), &cluster.folder().join("machine"));
    cluster.start_party("supervisor-1");
    let second = sign(&cluster, build("stable", 2, 1), SOON).await;
    // Published with its cosignature: that is what it will find.
    eventually("it is proved", SOON, async || {
        let release = get(&cluster, &second.release_id).await;
        if release.proven_at == 0 { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    let seen = cluster.status("supervisor-1").await.log_size;
    cluster.stop("supervisor-1");
    (cluster, seen)
}

/// The supervisor's machine as it was copied. Its peers stop, so that nothing tells it what they have cosigned since.
fn put_back(cluster: &mut Cluster) {
    let folder = cluster.node_folder("supervisor-1");
    fs::remove_dir_all(&folder).unwrap();
    copy_folder(&cluster.folder().join("machine"), &folder);
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        cluster.stop(node);
    }
}

async fn catches_up(cluster: &Cluster) {
    eventually("it catches up", PATIENCE, async || {
        let status = cluster.status("supervisor-1").await;
        if status.log_state == "catching-up" { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

/// A whole machine is reverted, data folder and witness: only its own cosignature tells the node. The
/// coordinator shows it with the first head, before any work, and tells its operators that the node's head
/// went down. The node signs nothing before its peers have cosigned since, and then goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_put_back_with_its_witness_finds_its_own_cosignature() {
    let (mut cluster, seen) = copied_machine().await;
    put_back(&mut cluster);
    cluster.start_party("supervisor-1");
    catches_up(&cluster).await;
    let info = cluster.node_info("supervisor-1").await.unwrap();
    assert!(info.log_size_before >= seen && info.log_size >= seen, "{info:?}");
    assert!(cluster.log("coordinator").contains("the node's head of the log went down"));
    let listed = Command::new(program("rutli"))
        .args(["node", "list", "--profile"])
        .arg(cluster.profile("operator"))
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("its data are an old copy"), "{listed}");
    let id = create(&cluster, build("stable", 3, 1)).await;
    for node in ["vendor-1", "vendor-2", "vendor-3"] {
        cluster.start_party(node);
    }
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(release.state(), v1::ReleaseState::Signed);
    assert!(cluster.status("supervisor-1").await.log_size >= seen);
}

/// As above, and worse: the last head was published while the node was away, and the coordinator has been started again since. It
/// still knows the last one that the node cosigned.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_killed_still_knows_what_a_node_cosigned() {
    let (mut cluster, seen) = copied_machine().await;
    // Without it nothing is signed, but what is asked for is logged and published, with its peers' cosignatures alone.
    create(&cluster, build("stable", 3, 1)).await;
    eventually("its peers go on", SOON, async || {
        let (note, (size, _)) = (published_note(&cluster), published(&cluster));
        let is_without = note.contains("vendor/vendor-1") && !note.contains("supervisor/supervisor-1");
        if size > seen && is_without { Ok(()) } else { Err(format!("{size} {seen} {note}")) }
    })
    .await;
    cluster.kill("coordinator");
    put_back(&mut cluster);
    cluster.start_party("coordinator");
    cluster.start_party("supervisor-1");
    catches_up(&cluster).await;
    assert!(cluster.log("coordinator").contains("the node's head of the log went down"));
}

fn signer(cluster: &Cluster, node: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program("rutli-signer"))
        .arg("--config")
        .arg(cluster.config(node))
        .args(arguments)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// As the operator's guide says: a backup of a running node, the loss of its machine, the restore, and back in service.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_restored_from_its_backup_as_the_guide_says() {
    let mut cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    let secret = age::x25519::Identity::generate();
    let identity = cluster.folder().join("age.txt");
    fs::write(&identity, age::secrecy::ExposeSecret::expose_secret(&secret.to_string())).unwrap();
    let file = cluster.folder().join("vendor-1.backup");
    let (file_name, identity_name) =
        (file.to_str().unwrap().to_owned(), identity.to_str().unwrap().to_owned());
    let recipient = secret.to_public().to_string();
    let backup = ["backup", "--recipient", &recipient, "--to", &file_name];
    let (done, said) = signer(&cluster, "vendor-1", &backup);
    assert!(done, "{said}");
    let (done, said) = signer(&cluster, "vendor-1", &backup);
    assert!(!done && said.contains("it exists already"), "{said}");
    for sequence in 2..=4 {
        sign(&cluster, build("stable", sequence, 1), SOON).await;
    }
    let restore = ["restore", "--from", &file_name, "--identity", &identity_name];
    let (done, said) = signer(&cluster, "vendor-1", &restore);
    assert!(!done && said.contains("another rutli-signer works in"), "{said}");
    cluster.stop("vendor-1");
    let (done, said) = signer(&cluster, "vendor-1", &restore);
    assert!(!done && said.contains("this node's newest"), "a whole journal is not replaced: {said}");

    // The machine is gone: what is left are the configuration, the certificate and the seal's identity.
    fs::remove_dir_all(cluster.data("vendor-1")).unwrap();
    fs::remove_file(cluster.node_folder("vendor-1").join("identity.age")).unwrap();
    let other = cluster.folder().join("other.txt");
    let stranger = age::x25519::Identity::generate().to_string();
    fs::write(&other, age::secrecy::ExposeSecret::expose_secret(&stranger)).unwrap();
    let (done, said) = signer(
        &cluster,
        "vendor-1",
        &["restore", "--from", &file_name, "--identity", other.to_str().unwrap()],
    );
    assert!(!done && said.contains("give --identity the age identity of one of its recipients"), "{said}");
    cluster.stop("vendor-2");
    let (done, said) = signer(&cluster, "vendor-2", &restore);
    assert!(!done && said.contains("this node's newest"), "{said}");
    cluster.start_party("vendor-2");
    let (done, said) = signer(&cluster, "vendor-1", &restore);
    assert!(done, "{said}");
    cluster.start_party("vendor-1");
    let caught_up = cluster.until_ready("vendor-1").await;
    assert_eq!(caught_up.keys.len(), 1);
    // It signs: the others of its organisation are too few without it.
    cluster.stop("vendor-3");
    let release = sign(&cluster, build("stable", 5, 1), SOON).await;
    assert!(release.signed_by.contains(&"vendor/vendor-1".to_owned()), "{:?}", release.signed_by);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// A few damaged files with the real process: it does not start, and says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_keeps_the_real_process_from_starting() {
    let mut cluster = Cluster::start(Setup::default()).await;
    for sequence in 1..=3 {
        sign(&cluster, build("stable", sequence, 1), SOON).await;
    }
    cluster.stop("vendor-3");
    let path = journal(&cluster, "vendor-3");
    let whole = fs::read(&path).unwrap();
    let place = whole.windows(6).position(|window| window == b"stable").expect("a line of the journal");
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x20;
        bytes
    };
    for (what, damaged) in [
        ("a letter of a line", flipped(place)),
        ("the file's header", flipped(3)),
        ("half of it", whole[..whole.len() / 2].to_vec()),
        ("no database", b"not a database, but a text that is long enough to be looked at".repeat(9)),
    ] {
        fs::write(&path, damaged).unwrap();
        cluster.start_party("vendor-3");
        let status = cluster.process("vendor-3").wait(PATIENCE).unwrap_or_else(|| panic!("{what}: it runs"));
        assert!(!status.success(), "{what}");
        let log = cluster.process("vendor-3").last_lines(1);
        assert!(
            log.contains("the journal is damaged") && log.contains("rutli-signer restore"),
            "{what}: {log}"
        );
        println!("{what}: {log}");
    }
    fs::write(&path, whole).unwrap();
    cluster.start_party("vendor-3");
    cluster.until_ready("vendor-3").await;
}
