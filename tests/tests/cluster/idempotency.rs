//! The same request again, other content under its id, sequences that go back, and a queue that is full.

use rutli::client;
use rutli_tests::{
    cluster::{Cluster, Setup},
    releases::{build, check, database, finished, sign},
};
use rutli_wire::v1;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{SOON, awaits, create, get, reason, refused};

/// A release without the proof that its signature is in the log, which may come at any moment.
fn signed(mut release: v1::Release) -> v1::Release {
    release.proven_at = 0;
    release
        .files
        .retain(|file| !file.name.ends_with(".sigstore.json") && !file.name.ends_with(".tlog-proof"));
    release
}

/// Invariant 6 and point 6: the same request id gives the same bytes, however often and by how many at a time, also after
/// the coordinator died; with other content `ALREADY_EXISTS`; a sequence that does not go up `FAILED_PRECONDITION`.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_stands_for_one_content() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let asked = build("stable", 5, 3);
    let at_once = futures::future::join_all((0..8).map(|_| create(&cluster, asked.clone()))).await;
    assert!(at_once.iter().all(|id| *id == at_once[0]), "{at_once:?}");
    let first = sign(&cluster, asked.clone(), SOON).await;
    assert_eq!(first.release_id, at_once[0]);
    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    let second = sign(&cluster, asked.clone(), SOON).await;
    assert_eq!(signed(second), signed(first.clone()), "the same request id gives the same bytes");

    let mut pipeline = cluster.pipeline().await;
    let changes: [fn(&mut v1::CreateReleaseRequest); 6] = [
        |request| request.artifacts[0].sha256[31] ^= 1,
        |request| request.artifacts[2].name.push('x'),
        |request| request.sequence += 1,
        |request| request.version.push('1'),
        |request| request.expires_at = 4_000_000_000,
        |request| request.formats = vec![v1::SignatureFormat::Dsse.into()],
    ];
    for change in changes {
        let mut other = asked.clone();
        change(&mut other);
        let status = refused(pipeline.create_release(other).await, Code::AlreadyExists);
        assert_eq!(reason(&status), "REQUEST_ID_REUSED");
    }
    assert_eq!(signed(get(&cluster, &first.release_id).await), signed(first.clone()));

    for sequence in [4, 5] {
        let mut behind = build("stable", sequence, 1);
        behind.request_id = format!("another-{sequence}");
        let status = refused(pipeline.create_release(behind).await, Code::FailedPrecondition);
        assert_eq!(reason(&status), "SEQUENCE_BEHIND");
        assert!(status.message().contains('5'), "{}", status.message());
    }
    // Another pipeline has request ids of its own; other channels have sequences of their own.
    let mut other = client::releases(cluster.channel("pipeline-2").await);
    let mut same_id = build("beta", 1, 1);
    same_id.request_id = asked.request_id.clone();
    let theirs = other.create_release(same_id.clone()).await.unwrap().into_inner();
    assert_ne!(theirs.release_id, first.release_id);
    let theirs = finished(cluster.channel("pipeline-2").await, &theirs.release_id, SOON).await;
    check(&cluster.release_key().await, &same_id, &theirs);
    // And sees nothing of the first one's.
    let request = v1::GetReleaseRequest { release_id: first.release_id.clone() };
    refused(other.get_release(request).await, Code::NotFound);

    // What no node allows ends refused, with each node's word.
    let mut forbidden = build("stable", 6, 1);
    forbidden.product = "unknown".into();
    let id = create(&cluster, forbidden).await;
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(release.state(), v1::ReleaseState::Refused);
    assert!(
        !release.refusals.is_empty() && release.refusals.iter().all(|refusal| refusal.code == "not-allowed")
    );
    assert!(release.files.is_empty());
}

/// Invariant 8: a pipeline whose share of the queue is full hears `RESOURCE_EXHAUSTED` and when to come back, which keeps the last tenth for AV databases, still
/// answers requests that it knows, and takes new ones when there is room again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so() {
    let limits = "max_waiting_releases = 40";
    let mut cluster = Cluster::start(Setup { limits, ..Setup::default() }).await;
    let key = cluster.release_key().await;
    cluster.stop("supervisor-1");
    let mut pipeline = cluster.pipeline().await;
    let builds: Vec<_> = (1..=9).map(|sequence| build("stable", sequence, 1)).collect();
    let mut ids = Vec::new();
    for request in &builds {
        ids.push(create(&cluster, request.clone()).await);
    }
    let status = refused(pipeline.create_release(build("stable", 10, 1)).await, Code::ResourceExhausted);
    assert_eq!(reason(&status), "SHARE_FULL");
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap();
    assert!(!retry.is_zero());
    let urgent = database("stable", 1, 1);
    let urgent_id = create(&cluster, urgent.clone()).await;
    refused(pipeline.create_release(database("stable", 2, 1)).await, Code::ResourceExhausted);
    // A client that lost its answer is not turned away.
    assert_eq!(create(&cluster, builds[3].clone()).await, ids[3]);

    // Room is made by taking one back, before any share is out.
    awaits(&cluster, &ids[8], &["supervisor-1"]).await;
    let cancel = v1::CancelReleaseRequest { release_id: ids[8].clone() };
    let cancelled = pipeline.cancel_release(cancel.clone()).await.unwrap().into_inner();
    assert_eq!(cancelled.state(), v1::ReleaseState::Cancelled);
    create(&cluster, database("stable", 2, 1)).await;

    cluster.start_party("supervisor-1");
    let channel = cluster.channel("pipeline").await;
    for (request, id) in builds.iter().zip(&ids).take(8) {
        check(&key, request, &finished(channel.clone(), id, SOON).await);
    }
    check(&key, &urgent, &finished(channel.clone(), &urgent_id, SOON).await);
    assert_eq!(get(&cluster, &ids[8]).await.state(), v1::ReleaseState::Cancelled);
    let late = v1::CancelReleaseRequest { release_id: ids[0].clone() };
    refused(pipeline.cancel_release(late).await, Code::FailedPrecondition);
    sign(&cluster, build("stable", 10, 1), SOON).await;
}
