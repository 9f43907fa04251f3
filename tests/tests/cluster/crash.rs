//! The coordinator dies in the middle.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rutli::client;
use rutli_tests::{
    cluster::{Cluster, Setup, eventually},
    releases::{build, check, database, finished},
};
use rutli_wire::v1;
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use tokio::task::JoinHandle;

use super::SOON;

/// Rounds of killing.
const KILLS: usize = 3;

/// Acknowledged releases in each round without which it means little.
const ENOUGH: usize = 7;

/// Invariant 6: "the coordinator killed with `-9` in the middle: every acknowledged release comes, none twice with other
/// content". Five pipelines ask all the time while the coordinator is killed again and again; then every acknowledged
/// release is fetched and verified, asked for again, and looked up in every node's journal.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_release_is_lost_and_none_is_signed_twice() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let profile = client::Profile::read(&cluster.profile("pipeline")).unwrap();
    let pipelines: Vec<_> = (1..=5)
        .map(|number| {
            tokio::spawn(ask(number, profile.clone(), Arc::clone(&acknowledged), Arc::clone(&stop)))
        })
        .collect();

    for round in 1..=KILLS {
        let before = acknowledged.lock().unwrap().len();
        // At a moment of its own in each round; on a busy machine later, when there is something to lose.
        tokio::time::sleep(Duration::from_millis(700 + 331 * u64::try_from(round).unwrap())).await;
        eventually("something to lose", SOON, async || {
            let fresh = acknowledged.lock().unwrap().len() - before;
            let is_enough = fresh >= ENOUGH || pipelines.iter().all(JoinHandle::is_finished);
            if is_enough { Ok(()) } else { Err(format!("{fresh} acknowledged")) }
        })
        .await;
        cluster.kill("coordinator");
        println!("kill {round}: {} acknowledged since the last", acknowledged.lock().unwrap().len() - before);
        cluster.start_party("coordinator");
        // It must serve again before the next round means anything.
        cluster.channel("pipeline").await;
    }
    stop.store(true, Ordering::SeqCst);
    for pipeline in pipelines {
        pipeline.await.unwrap();
    }

    let acknowledged: BTreeMap<String, v1::CreateReleaseRequest> =
        std::mem::take(&mut acknowledged.lock().unwrap());
    println!("{} releases were acknowledged", acknowledged.len());
    assert!(acknowledged.len() >= KILLS * ENOUGH, "too few to mean anything");
    let channel = cluster.channel("pipeline").await;
    for (id, asked) in &acknowledged {
        let release = finished(channel.clone(), id, SOON).await;
        check(&key, asked, &release);
        // Asked again: the same release with the same bytes.
        let again =
            client::releases(channel.clone()).create_release(asked.clone()).await.unwrap().into_inner();
        assert_eq!((&again.release_id, again.created_at), (&release.release_id, release.created_at));
        let fetched = super::get(&cluster, id).await;
        // The proof may have come since.
        assert!(fetched.files.starts_with(&release.files), "{id} changed");
    }
    for node in cluster.nodes() {
        cluster.stop(&node);
        let seen = one_content_each(&cluster.data(&node).join("node.sqlite")).await;
        println!("{node}: {seen} sequences permitted, each with one content");
        let all = i64::try_from(acknowledged.len()).unwrap();
        assert!(node != "supervisor-1" || seen >= all, "the supervisor's node permitted {seen} of {all}");
    }
}

/// One pipeline with a channel of its own: asks for one release after the other, and again for one that had no answer.
async fn ask(
    number: u64,
    profile: client::Profile,
    acknowledged: Arc<Mutex<BTreeMap<String, v1::CreateReleaseRequest>>>,
    stop: Arc<AtomicBool>,
) {
    let mut sequence = 0;
    while !stop.load(Ordering::SeqCst) && sequence < 60 {
        sequence += 1;
        let channel = format!("c{number}");
        let request =
            if number == 1 { database(&channel, sequence, 3) } else { build(&channel, sequence, 2) };
        while !stop.load(Ordering::SeqCst) {
            let answer = match profile.connect().await {
                Ok(connection) => client::releases(connection).create_release(request.clone()).await.ok(),
                Err(_) => None,
            };
            if let Some(release) = answer {
                acknowledged.lock().unwrap().insert(release.into_inner().release_id, request.clone());
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// In a node's journal each sequence of a channel was permitted with one content; gives how many there are.
async fn one_content_each(journal: &Path) -> i64 {
    let mut connection =
        SqliteConnectOptions::new().filename(journal).read_only(true).connect().await.unwrap();
    let twice = sqlx::query(
        "SELECT class, product, channel, sequence FROM decisions WHERE verdict = 'permitted'
         GROUP BY class, product, channel, sequence HAVING count(DISTINCT digest) > 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(twice.is_empty(), "{} sequences with two contents in {}", twice.len(), journal.display());
    let row = sqlx::query("SELECT count(*) FROM (SELECT DISTINCT class, product, channel, sequence FROM decisions WHERE verdict = 'permitted')")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    row.get(0)
}
