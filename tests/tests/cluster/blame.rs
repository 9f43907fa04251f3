//! Nodes that lie or stay silent.

use rutli_tests::{
    cluster::{Cluster, Setup, eventually},
    releases::{build, check, finished, sign},
    stand_in::{Manner, StandIn},
};
use rutli_wire::v1;

use super::{SOON, create};

/// "A node that sends wrong shares: all come, the culprit is named." It stays left out over restarts of the coordinator,
/// until an operator reinstates the node.
#[tokio::test(flavor = "multi_thread")]
async fn a_lying_node_is_named_and_left_out() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    // Only the liar and one honest vendor: it is chosen for sure, and then missing until vendor-3 is back.
    cluster.stop("vendor-2");
    cluster.stop("vendor-3");
    let liar = StandIn::attach(&cluster.config("vendor-2"), Manner::WrongShares).await;
    cluster
        .until_node("vendor-2", "attached", |info| info.version == "stand-in" && info.commitments > 0)
        .await;

    let asked: Vec<_> = (1..=20).map(|sequence| build("stable", sequence, 4)).collect();
    let mut ids = Vec::new();
    for request in &asked {
        ids.push(create(&cluster, request.clone()).await);
    }
    let info = cluster.until_node("vendor-2", "named", |info| !info.culprit.is_empty()).await;
    println!("the culprit: {info:?}");
    assert!(liar.batches() > 0);
    for honest in ["vendor-1", "supervisor-1"] {
        assert_eq!(cluster.node_info(honest).await.unwrap().culprit, "", "{honest} is honest");
    }
    cluster.start_party("vendor-3");
    let channel = cluster.channel("pipeline").await;
    for (request, id) in asked.iter().zip(&ids) {
        let release = finished(channel.clone(), id, SOON).await;
        check(&key, request, &release);
        assert!(!release.signed_by.contains(&"vendor/vendor-2".to_owned()));
    }

    // Mended, it is still left out; the coordinator does not forget.
    drop(liar);
    cluster.start_party("vendor-2");
    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    cluster.attached().await;
    assert_ne!(cluster.node_info("vendor-2").await.unwrap().culprit, "");
    let release = sign(&cluster, build("stable", 21, 1), SOON).await;
    assert!(!release.signed_by.contains(&"vendor/vendor-2".to_owned()));

    let reinstate = v1::ReinstateNodeRequest { node: "vendor/vendor-2".into() };
    let answer = cluster.operator().await.reinstate_node(reinstate).await.unwrap().into_inner();
    assert_eq!(answer.node.unwrap().culprit, "");
    back(&cluster).await;
    cluster.kill("vendor-1");
    let release = sign(&cluster, build("stable", 22, 1), SOON).await;
    assert!(release.signed_by.contains(&"vendor/vendor-2".to_owned()), "{:?}", release.signed_by);
}

/// Other ways to lie: what is no scalar, and one share less than asked for. The node is named, and all releases are signed. Each time in
/// a deployment of its own, because a stand-in writes nothing down.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sends_rubbish_is_named() {
    for manner in [Manner::NoScalars, Manner::TooFewShares] {
        let mut cluster = Cluster::start(Setup::default()).await;
        cluster.stop("vendor-2");
        let mut sequence = 0;
        let liar = StandIn::attach(&cluster.config("vendor-2"), manner).await;
        cluster.until_node("vendor-2", "attached", |info| info.connected && info.commitments > 0).await;
        let culprit = eventually("it is asked, and named", SOON, async || {
            sequence += 1;
            sign(&cluster, build("stable", sequence, 2), SOON).await;
            let info = cluster.node_info("vendor-2").await.unwrap();
            if info.culprit.is_empty() {
                Err(format!("not in {sequence} releases"))
            } else {
                Ok(info.culprit)
            }
        })
        .await;
        println!("{manner:?}: {culprit}, after {} batches", liar.batches());
        let reinstate = v1::ReinstateNodeRequest { node: "vendor/vendor-2".into() };
        drop(liar);
        cluster.until_node("vendor-2", "away", |info| !info.connected).await;
        cluster.operator().await.reinstate_node(reinstate).await.unwrap();
    }
}

/// A node that takes work and never answers does not stop the others, is not blamed for a lie, and is taken back when it
/// answers again.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_does_not_stop_the_others() {
    let mut cluster = Cluster::start(Setup::default()).await;
    cluster.stop("vendor-2");
    let silent = StandIn::attach(&cluster.config("vendor-2"), Manner::Silent).await;
    cluster
        .until_node("vendor-2", "attached", |info| info.version == "stand-in" && info.commitments > 0)
        .await;
    let mut sequence = 0;
    eventually("the silent node is asked", SOON, async || {
        sequence += 1;
        sign(&cluster, build("stable", sequence, 2), SOON).await;
        if silent.batches() > 0 { Ok(()) } else { Err(format!("not in {sequence} releases")) }
    })
    .await;
    let info = cluster.node_info("vendor-2").await.unwrap();
    assert_eq!(info.culprit, "", "silence is no lie");
    drop(silent);
    cluster.until_node("vendor-2", "away", |info| !info.connected).await;
    cluster.start_party("vendor-2");
    back(&cluster).await;
    cluster.kill("vendor-3");
    let release = sign(&cluster, build("stable", sequence + 1, 2), SOON).await;
    assert!(release.signed_by.contains(&"vendor/vendor-2".to_owned()), "{:?}", release.signed_by);
}

/// vendor-2 itself is there again. The stand-in may have cosigned in its name: then it catches up first, while its peers are there.
async fn back(cluster: &Cluster) {
    cluster.until_ready("vendor-2").await;
    eventually("it follows the log", SOON, async || {
        let state = cluster.status("vendor-2").await.log_state;
        if state == "following" { Ok(()) } else { Err(state) }
    })
    .await;
}
