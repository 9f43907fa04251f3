//! Disks that are full.

use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup, eventually},
    releases::{build, check, finished, sign},
};
use rutli_wire::v1;
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{SOON, awaits, create, reason};

/// Most releases that fit on a small disk; far more than do.
const MOST: u64 = 400;

/// Invariants 5 and 10 at a node: no signature without its journal. The node closes, says why to custodian and
/// coordinator, and opens by itself when space is back; then what waited is signed, and the journal has all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_full_disk_signs_nothing() {
    let small_disks = vec![("supervisor-1", 24)];
    let mut cluster = Cluster::start(Setup { small_disks, ..Setup::default() }).await;
    let key = cluster.release_key().await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    let (disk, pid) = cluster.disk("supervisor-1");
    disk.fill(pid);

    // Room that the journal has already made for itself may still take some decisions; then it is over.
    let mut waiting = None;
    let mut signed = 1;
    let channel = cluster.channel("pipeline").await;
    for sequence in 2..MOST {
        let asked = build("stable", sequence, 1);
        let id = create(&cluster, asked.clone()).await;
        let ended = eventually("signed or waiting", SOON, async || {
            let release = super::get(&cluster, &id).await;
            match release.state() {
                v1::ReleaseState::Signed => Ok(true),
                v1::ReleaseState::AwaitingQuorum => Ok(false),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        if !ended {
            waiting = Some((asked, id));
            break;
        }
        signed += 1;
    }
    let (asked, id) = waiting.unwrap_or_else(|| panic!("the disk was never full"));
    println!("{signed} releases fitted on the disk");
    let release = awaits(&cluster, &id, &["supervisor-1", "closed", "journal"]).await;
    println!("full: {:?}", release.waiting_for);
    let status = cluster.status("supervisor-1").await;
    assert_eq!(status.state, "closed");
    assert!(status.reason.contains("free space"), "{}", status.reason);
    cluster.until_node("supervisor-1", "closed", |info| info.state == "closed").await;
    let kept = permitted(&mut cluster, "supervisor-1").await;
    assert_eq!(kept, signed, "signatures without a line in the journal");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    awaits(&cluster, &id, &["supervisor-1", "closed"]).await;

    let (disk, pid) = cluster.disk("supervisor-1");
    disk.free(pid);
    let release = finished(channel, &id, SOON).await;
    check(&key, &asked, &release);
    assert_eq!(cluster.status("supervisor-1").await.state, "ready");
    assert_eq!(permitted(&mut cluster, "supervisor-1").await, signed + 1);
}

/// Invariants 5 and 6 at the coordinator: what cannot be made durable is not acknowledged (`UNAVAILABLE`, with the reason),
/// and no result is shown that could be lost; health says `NOT_SERVING`. When space is back it serves by itself, and every
/// release that was ever acknowledged comes, also over `kill -9`.
#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_with_a_full_disk_acknowledges_nothing() {
    let small_disks = vec![("coordinator", 24)];
    let mut cluster = Cluster::start(Setup { small_disks, ..Setup::default() }).await;
    let key = cluster.release_key().await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    until_health(&cluster, ServingStatus::Serving).await;
    cluster.stop("supervisor-1");
    let mut acknowledged = Vec::new();
    for sequence in 2..=6 {
        let asked = build("stable", sequence, 5);
        let id = create(&cluster, asked.clone()).await;
        acknowledged.push((asked, id));
    }
    let (disk, pid) = cluster.disk("coordinator");
    disk.fill(pid);

    // Room that the store has already made for itself may still take some; then it is over.
    let mut refusal = None;
    let mut pipeline = cluster.pipeline().await;
    for sequence in 7..MOST {
        let asked = build("stable", sequence, 40);
        match pipeline.create_release(asked.clone()).await {
            Ok(release) => acknowledged.push((asked, release.into_inner().release_id)),
            Err(status) => {
                refusal = Some((asked, status));
                break;
            }
        }
    }
    let (asked, status) = refusal.unwrap_or_else(|| panic!("the disk was never full"));
    println!("{} acknowledged, then: {}", acknowledged.len(), status.message());
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STORE_CLOSED"));
    until_health(&cluster, ServingStatus::NotServing).await;

    // Nodes sign on; but a signature is not there before it is durable.
    cluster.start_party("supervisor-1");
    eventually("the supervisor's node signs", PATIENCE, async || {
        match cluster.status("supervisor-1").await {
            status if status.shares > 0 => Ok(()),
            status => Err(format!("{status:?}")),
        }
    })
    .await;
    for (_, id) in &acknowledged {
        let release = super::get(&cluster, id).await;
        assert_ne!(release.state(), v1::ReleaseState::Signed, "a result that is not durable is shown");
        assert!(release.files.is_empty());
    }

    let (disk, pid) = cluster.disk("coordinator");
    disk.free(pid);
    until_health(&cluster, ServingStatus::Serving).await;
    // The client asks again, as it was told, and nothing is in its way.
    acknowledged.push((asked.clone(), create(&cluster, asked).await));
    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    let channel = cluster.channel("pipeline").await;
    for (asked, id) in &acknowledged {
        check(&key, asked, &finished(channel.clone(), id, SOON).await);
    }
}

async fn until_health(cluster: &Cluster, wanted: ServingStatus) {
    eventually(&format!("health says {wanted:?}"), SOON, async || match health(cluster).await {
        status if status == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

async fn health(cluster: &Cluster) -> ServingStatus {
    let mut client = HealthClient::new(cluster.channel("operator").await);
    let service = "rutli.v1.ReleaseService".to_owned();
    client.check(HealthCheckRequest { service }).await.unwrap().into_inner().status()
}

/// Permissions in a node's journal. Read with the process's own view of the file, from a copy that nobody writes to.
async fn permitted(cluster: &mut Cluster, node: &str) -> i64 {
    let copy = tempfile::tempdir().unwrap();
    cluster.while_frozen(&[node.to_owned()], |cluster| {
        for name in ["node.sqlite", "node.sqlite-wal"] {
            // Without a log beside it the database is complete in itself.
            let _ = std::fs::copy(cluster.data(node).join(name), copy.path().join(name));
        }
    });
    let mut connection =
        SqliteConnectOptions::new().filename(copy.path().join("node.sqlite")).connect().await.unwrap();
    let row =
        sqlx::query("SELECT count(*) FROM decisions WHERE verdict = 'permitted'").fetch_one(&mut connection);
    row.await.unwrap().get(0)
}
