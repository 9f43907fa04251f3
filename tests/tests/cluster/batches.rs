//! Requests that nodes take long to decide; and releases that are taken back after the coordinator was killed.

use std::{collections::BTreeMap, fs};

use rutli::{client, releases::is_final};
use rutli_tests::{
    cluster::{Cluster, Setup},
    evidence,
    releases::{build, check, finished, sign},
};
use rutli_wire::v1;
use tokio::time::Instant;
use tonic::Code;

use super::{SOON, awaits, create, get, reason};

/// Forbidden requests: fewer where decisions are not optimised, for each takes a second there.
const FLOOD: u64 = if cfg!(debug_assertions) { 24 } else { 256 };

/// How often a node may decide each on average. Its answer may come too late on a busy machine; a coordinator that asked all
/// of them twice, or in vain, would need more.
const DECISIONS: u64 = 2;
/// How many of them may end while an honest one is signed: what nodes have begun, and not all that wait.
const BEFORE_HONEST: u64 = FLOOD / 4;

/// A policy that makes the search for what is missing go on to its end, wherever no other policy permits the release.
pub(super) fn costly(when: &str) -> String {
    let names: Vec<String> = (0..100).map(|number| format!("\"t{number}\"")).collect();
    format!(
        "@id(\"costly\") permit (principal, action == Action::\"sign\", resource) when {{
            {when} && context.testsPassed.containsAll([{}]) && !context.testsPassed.contains(\"t0\") &&
            context.time.hour < 12 }};",
        names.join(", ")
    )
}

/// Permits `suite`.
fn costly_rules() -> BTreeMap<String, Vec<u8>> {
    let suite = "@id(\"suite\") permit (principal, action == Action::\"sign\", resource) when {
        resource.class == Class::\"product-build\" && resource.product == \"suite\" };\n";
    evidence::rules(&(suite.to_owned() + &costly("resource.product == \"costly\"")))
}

/// 256 requests that no policy permits, with policies at the bound of a decision.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nothing_permits_are_refused_and_delay_nobody() {
    let cluster = Cluster::start(Setup::default()).await;
    for node in cluster.nodes() {
        let policy = cluster.node_folder(&node).join("policy");
        for (name, bytes) in costly_rules() {
            fs::write(policy.join(name), bytes).unwrap();
        }
        cluster.custodian(&node).await.reload(v1::ReloadRequest {}).await.unwrap();
    }
    let key = cluster.release_key().await;
    sign(&cluster, build("before", 1, 1), SOON).await;

    let costly =
        |channel, number| v1::CreateReleaseRequest { product: "costly".into(), ..build(channel, number, 1) };
    let channel = cluster.channel("pipeline").await;
    let begun = Instant::now();
    let mut flood = Vec::new();
    for number in 1..=FLOOD {
        flood.push(create(&cluster, costly("flood", number)).await);
    }
    let ended = async || {
        let mut ended = 0;
        for id in &flood {
            ended += u64::from(is_final(get(&cluster, id).await.state));
        }
        ended
    };
    let mut other = client::releases(cluster.channel("pipeline-2").await);
    for number in 1..=3 {
        let (before, asked) = (ended().await, Instant::now());
        let request = build("honest", number, 1);
        let honest = other.create_release(request.clone()).await.unwrap().into_inner().release_id;
        let release = finished(cluster.channel("pipeline-2").await, &honest, SOON).await;
        let took = asked.elapsed();
        check(&key, &request, &release);
        let meanwhile = ended().await - before;
        println!("an honest one is signed after {took:.2?}, {meanwhile} of {FLOOD} refused meanwhile");
        assert!(meanwhile <= BEFORE_HONEST, "{meanwhile} of {FLOOD} before honest number {number}");
    }
    for id in &flood {
        let release = finished(channel.clone(), id, SOON).await;
        assert_eq!(release.state(), v1::ReleaseState::Refused, "{release:?}");
    }
    println!("all are refused after {:.1?}", begun.elapsed());
    for node in cluster.nodes() {
        let decided = cluster.status(&node).await.refused;
        assert!(decided <= DECISIONS * FLOOD, "{node} decided {decided} times about {FLOOD}");
    }
    let culprits =
        cluster.operator().await.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert!(culprits.iter().all(|node| node.culprit.is_empty()), "{culprits:?}");
}

/// What a batch with it had left for nodes, and what had not: nothing that was before the coordinator was killed can become a signature
/// after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_can_be_taken_back_after_the_coordinator_was_killed() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let cancel = |id: &str| v1::CancelReleaseRequest { release_id: id.to_owned() };
    // One is at nodes, of which one does not answer; the other waits behind it in its channel. After two seconds the batch is given up,
    // and the release can be taken back: then again with another.
    let mut number = 0;
    let (at_nodes, behind) = loop {
        number += 1;
        cluster.process("supervisor-1").freeze();
        let at_nodes = create(&cluster, build(&format!("c{number}"), 1, 1)).await;
        let behind = create(&cluster, build(&format!("c{number}"), 2, 1)).await;
        let signing = async {
            while get(&cluster, &at_nodes).await.state() != v1::ReleaseState::Signing {}
            cluster.pipeline().await.cancel_release(cancel(&at_nodes)).await
        };
        if let Ok(Err(status)) = tokio::time::timeout(std::time::Duration::from_secs(5), signing).await {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "TOO_LATE"));
            break (at_nodes, behind);
        }
        assert!(number < 20, "no release was at nodes");
        cluster.process("supervisor-1").thaw();
        cluster.until_ready("supervisor-1").await;
    };

    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    awaits(&cluster, &at_nodes, &["supervisor-1"]).await;
    for id in [&at_nodes, &behind] {
        let release = cluster.pipeline().await.cancel_release(cancel(id)).await.unwrap().into_inner();
        assert_eq!(release.state(), v1::ReleaseState::Cancelled, "{release:?}");
    }
    // The node that was asked before comes back: whatever it made of that batch, nobody has a use for it.
    cluster.process("supervisor-1").thaw();
    cluster.until_ready("supervisor-1").await;
    sign(&cluster, build(&format!("c{number}"), 3, 1), SOON).await;
    for id in [&at_nodes, &behind] {
        let release = get(&cluster, id).await;
        assert!(release.state() == v1::ReleaseState::Cancelled && release.files.is_empty(), "{release:?}");
    }
}
