//! Nodes that are away, paused, killed or frozen: what waits says for whom, and goes on by itself.

use std::time::Duration;

use rutli::client;
use rutli_tests::{
    cluster::{Cluster, Setup},
    releases::{build, check, finished, sign},
};
use rutli_wire::v1;

use super::{SOON, awaits, create};

/// Invariant 1, and "stopped, no release is signed and its state says who is missing; started again, it is signed by
/// itself". The supervisor's own pause does the same, says so with its reason, and outlives `kill -9`.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_supervisor_nothing_is_signed() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;

    cluster.stop("supervisor-1");
    let asked = build("stable", 1, 3);
    let id = create(&cluster, asked.clone()).await;
    let waiting = awaits(&cluster, &id, &["supervisor", "supervisor-1", "not connected"]).await;
    println!("stopped: {:?}", waiting.waiting_for);
    assert_eq!(waiting.signatures_done, 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    awaits(&cluster, &id, &["supervisor-1"]).await;

    cluster.start_party("supervisor-1");
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    check(&key, &asked, &release);
    assert!(release.signed_by.contains(&"supervisor/supervisor-1".to_owned()), "{:?}", release.signed_by);
    assert_eq!(release.signed_by.iter().filter(|node| node.starts_with("vendor/")).count(), 2);

    // Paused: durable, and visible to everybody.
    let pause = v1::PauseRequest { reason: "audit of the third party".into() };
    let status = cluster.custodian("supervisor-1").await.pause(pause).await.unwrap().into_inner();
    assert_eq!(status.state, "paused");
    cluster.kill("supervisor-1");
    cluster.start_party("supervisor-1");
    let status = cluster.status("supervisor-1").await;
    assert_eq!(status.state, "paused");
    assert!(status.reason.contains("audit of the third party"), "{}", status.reason);
    let asked = build("stable", 2, 1);
    let id = create(&cluster, asked.clone()).await;
    awaits(&cluster, &id, &["supervisor-1", "paused", "audit of the third party"]).await;
    let info = cluster.until_node("supervisor-1", "paused", |info| info.state == "paused").await;
    println!("paused: {}", info.reason);
    let status = cluster
        .custodian("supervisor-1")
        .await
        .resume(v1::ResumeRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.state, "ready");
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    check(&key, &asked, &release);
    cluster.kill("supervisor-1");
    cluster.start_party("supervisor-1");
    cluster.until_ready("supervisor-1").await;
}

async fn pause(cluster: &Cluster, node: &str) {
    let pause = v1::PauseRequest { reason: "the stage is set".into() };
    cluster.custodian(node).await.pause(pause).await.unwrap();
    cluster.until_node(node, "paused", |info| info.state == "paused").await;
}

/// "One vendor node killed in the middle of 500 signatures: all 500 come." The victim holds its batch and has not answered
/// when it dies, so its session cannot end well. Then one is frozen: it neither answers nor goes away, and all come again;
/// thawed, it signs again.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_node_dies_in_the_middle_of_500_signatures() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    let channel = cluster.channel("pipeline").await;

    // 25 releases in 5 channels, 20 signatures each; the first is signed, the rest is held up by pauses.
    let asked: Vec<_> = (1..=5)
        .flat_map(|sequence| (1..=5).map(move |channel| build(&format!("c{channel}"), sequence, 19)))
        .collect();
    let (first, rest) = asked.split_first().unwrap();
    let mut ids = vec![sign(&cluster, first.clone(), SOON).await.release_id];
    for node in ["supervisor-1", "vendor-3"] {
        pause(&cluster, node).await;
    }
    for request in rest {
        let answer = client::releases(channel.clone()).create_release(request.clone()).await.unwrap();
        ids.push(answer.into_inner().release_id);
    }
    // A batch is at vendor-1, which has it for sure and does not answer. After two seconds it goes elsewhere, and a little later the
    // connection is given up: then once more.
    let signing = async || {
        loop {
            for id in &ids[1..] {
                let request = v1::GetReleaseRequest { release_id: id.clone() };
                let release =
                    client::releases(channel.clone()).get_release(request).await.unwrap().into_inner();
                if release.state() == v1::ReleaseState::Signing {
                    return;
                }
            }
        }
    };
    for tries in 1.. {
        cluster.process("vendor-1").freeze();
        cluster.custodian("supervisor-1").await.resume(v1::ResumeRequest::default()).await.unwrap();
        if tokio::time::timeout(Duration::from_secs(5), signing()).await.is_ok() {
            break;
        }
        assert!(tries < 20, "no batch was at the nodes");
        pause(&cluster, "supervisor-1").await;
        cluster.process("vendor-1").thaw();
        cluster.until_ready("vendor-1").await;
    }
    cluster.kill("vendor-1");
    cluster.custodian("vendor-3").await.resume(v1::ResumeRequest::default()).await.unwrap();
    let mut signatures = 0;
    for (request, id) in asked.iter().zip(&ids) {
        let release = finished(channel.clone(), id, SOON).await;
        signatures += check(&key, request, &release);
        let dead = release.signed_by.contains(&"vendor/vendor-1".to_owned());
        assert!(!dead || *id == ids[0], "{:?}", release.signed_by);
    }
    assert_eq!(signatures, 500);

    // Frozen: its connection stays open for a while, and its session meets its deadline.
    cluster.start_party("vendor-1");
    cluster.until_ready("vendor-1").await;
    cluster.process("vendor-3").freeze();
    for sequence in 6..=9 {
        let release = sign(&cluster, build("c1", sequence, 2), SOON).await;
        assert!(!release.signed_by.contains(&"vendor/vendor-3".to_owned()), "{:?}", release.signed_by);
    }
    cluster.process("vendor-3").thaw();
    cluster.kill("vendor-1");
    let release = sign(&cluster, build("c1", 10, 2), SOON).await;
    assert!(release.signed_by.contains(&"vendor/vendor-3".to_owned()), "{:?}", release.signed_by);
}
