//! The services from outside, as pipelines and nodes see them. No node has a key here, so releases wait.

use std::time::Duration;

use prost::Message as _;
use rutli_wire::{limits as wire_limits, v1};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::{
    config::Limits,
    limits,
    testing::{NOW, PATIENCE, Running, give_key, log_signer, request},
};

const PIPELINE: &str = "rutli:pipeline:ci";
const NODE: &str = "rutli:node:vendor:vendor-1";

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

#[tokio::test]
async fn a_release_is_admitted_once() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let release = client.create_release(request("job-1", 7)).await.unwrap().into_inner();
    assert!(release.release_id.starts_with("suite-1.7-"), "{}", release.release_id);
    assert_eq!((release.requester.as_str(), release.created_at, release.signatures_total), ("ci", NOW, 2));
    let again = client.create_release(request("job-1", 7)).await.unwrap().into_inner();
    assert_eq!((&again.release_id, &again.content), (&release.release_id, &release.content));

    let status = client.create_release(request("job-1", 8)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    // Another one under its number: it reserves nothing.
    let rival = client.create_release(request("job-2", 7)).await.unwrap().into_inner();
    assert_ne!(rival.release_id, release.release_id);

    let mut bad = request("job-3", 9);
    bad.artifacts[0].sha256.pop();
    let status = client.create_release(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "artifacts[0].sha256");
    let status = client.create_release(request("no spaces", 9)).await.unwrap_err();
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "request_id");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn releases_are_seen_by_their_own_pipeline_and_by_operators() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let id = client.create_release(request("job-1", 1)).await.unwrap().into_inner().release_id;
    let get = || v1::GetReleaseRequest { release_id: id.clone() };
    assert_eq!(client.get_release(get()).await.unwrap().into_inner().request_id, "job-1");
    running.releases("rutli:auditor:a").await.get_release(get()).await.unwrap();
    let mut other = running.releases("rutli:pipeline:other").await;
    assert_eq!(other.get_release(get()).await.unwrap_err().code(), Code::NotFound);
    let watch = v1::WatchReleaseRequest { release_id: id.clone() };
    assert_eq!(other.watch_release(watch).await.unwrap_err().code(), Code::NotFound);
    let cancel = v1::CancelReleaseRequest { release_id: id.clone() };
    assert_eq!(other.cancel_release(cancel).await.unwrap_err().code(), Code::NotFound);
    let all = v1::ListReleasesRequest::default;
    assert!(other.list_releases(all()).await.unwrap().into_inner().releases.is_empty());
    assert_eq!(client.list_releases(all()).await.unwrap().into_inner().releases.len(), 1);

    let waiting = v1::ListReleasesRequest { state: v1::ReleaseState::AwaitingQuorum.into(), ..all() };
    let signed = v1::ListReleasesRequest { state: v1::ReleaseState::Signed.into(), ..all() };
    let mut operator = running.releases("rutli:operator:o").await;
    let waits = operator.list_releases(waiting).await.unwrap().into_inner().releases;
    assert_eq!(waits.len(), 1);
    assert!(!waits[0].waiting_for.is_empty(), "it says what it waits for");
    assert!(operator.list_releases(signed).await.unwrap().into_inner().releases.is_empty());
    for bad in [
        v1::ListReleasesRequest { page_size: 201, ..all() },
        v1::ListReleasesRequest { page_token: "x".into(), ..all() },
        v1::ListReleasesRequest { product: "No Product".into(), ..all() },
        v1::ListReleasesRequest { state: 77, ..all() },
    ] {
        assert_eq!(operator.list_releases(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_watched_release_is_cancelled() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let id = client.create_release(request("job-1", 1)).await.unwrap().into_inner().release_id;
    let watch = v1::WatchReleaseRequest { release_id: id.clone() };
    let mut states = client.watch_release(watch.clone()).await.unwrap().into_inner();
    let first = states.message().await.unwrap().unwrap();
    assert_eq!(first.content.as_ref().unwrap().product, "suite");

    let cancel = v1::CancelReleaseRequest { release_id: id.clone() };
    let cancelled = client.cancel_release(cancel.clone()).await.unwrap().into_inner();
    assert_eq!((cancelled.state(), cancelled.finished_at), (v1::ReleaseState::Cancelled, NOW));
    let last = loop {
        let message = states.message().await.unwrap().unwrap();
        if message.state() == v1::ReleaseState::Cancelled {
            break message;
        }
    };
    assert_eq!(last.release_id, id);
    assert!(states.message().await.unwrap().is_none(), "a final state is the last");
    // Again, and watched again: the same.
    assert_eq!(
        client.cancel_release(cancel).await.unwrap().into_inner().state(),
        v1::ReleaseState::Cancelled
    );
    let mut states = client.watch_release(watch).await.unwrap().into_inner();
    assert_eq!(states.message().await.unwrap().unwrap().state(), v1::ReleaseState::Cancelled);
    assert!(states.message().await.unwrap().is_none());
    // Its sequence is free.
    client.create_release(request("job-2", 1)).await.unwrap();
    let nothing = v1::WatchReleaseRequest { release_id: "suite-1.0-000000000000".into() };
    assert_eq!(client.watch_release(nothing).await.unwrap_err().code(), Code::NotFound);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_is_said_early_and_known_requests_are_answered() {
    let running = Running::start_with(Limits { max_waiting_releases: 8, ..Limits::default() }).await;
    let mut client = running.releases(PIPELINE).await;
    let first = client.create_release(request("job-1", 1)).await.unwrap().into_inner();
    client.create_release(request("job-2", 2)).await.unwrap();
    let status = client.create_release(request("job-3", 3)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SHARE_FULL"));
    assert!(status.get_error_details().retry_info().is_some());
    let again = client.create_release(request("job-1", 1)).await.unwrap().into_inner();
    assert_eq!(again.release_id, first.release_id);
    assert_eq!(client.create_release(request("job-1", 4)).await.unwrap_err().code(), Code::AlreadyExists);
    let cancel = v1::CancelReleaseRequest { release_id: first.release_id };
    client.cancel_release(cancel).await.unwrap();
    client.create_release(request("job-3", 3)).await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn oversize_requests_are_refused_and_the_process_lives() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let mut huge = request("job-1", 1);
    huge.product = "x".repeat(wire_limits::MAX_MESSAGE_BYTES + 1);
    let status = client.create_release(huge).await.unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    client.create_release(request("job-1", 1)).await.unwrap();
    running.stop().await.unwrap();
}

fn hello() -> v1::NodeMessage {
    let status = v1::NodeStatus { state: "ready".into(), ..Default::default() };
    message(v1::node_message::Message::Hello(v1::Hello {
        version: "1".into(),
        status: Some(status),
        ..v1::Hello::default()
    }))
}

fn message(message: v1::node_message::Message) -> v1::NodeMessage {
    v1::NodeMessage { message: Some(message) }
}

type Up = tokio::sync::mpsc::Sender<v1::NodeMessage>;

async fn attach(running: &Running) -> (Up, Streaming<v1::CoordinatorMessage>) {
    let (up, messages) = tokio::sync::mpsc::channel(16);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let down = running.nodes(NODE).await.attach(messages).await.unwrap().into_inner();
    (up, down)
}

async fn attached(running: &Running) -> (Up, Streaming<v1::CoordinatorMessage>) {
    let (up, mut down) = attach(running).await;
    up.send(hello()).await.unwrap();
    let welcome = down.message().await.unwrap().unwrap().message.unwrap();
    assert!(matches!(welcome, v1::coordinator_message::Message::Welcome(_)));
    (up, down)
}

async fn end(mut down: Streaming<v1::CoordinatorMessage>) -> Result<(), Status> {
    tokio::time::timeout(PATIENCE, async move {
        while down.message().await?.is_some() {}
        Ok(())
    })
    .await
    .expect("the stream ends")
}

#[tokio::test]
async fn malformed_node_messages_end_the_stream_and_nothing_else() {
    use v1::node_message::Message;
    let running = Running::start().await;
    let status = v1::NodeStatus { state: "sleepy".into(), ..Default::default() };
    let before_hello = [
        v1::NodeMessage::default(),
        message(Message::Goodbye(v1::Goodbye::default())),
        message(Message::Hello(v1::Hello::default())),
        message(Message::Hello(v1::Hello {
            version: "1".into(),
            status: Some(status.clone()),
            ..v1::Hello::default()
        })),
    ];
    for bad in before_hello {
        let (up, down) = attach(&running).await;
        up.send(bad.clone()).await.unwrap();
        assert_eq!(end(down).await.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    let after_hello = [
        v1::NodeMessage::default(),
        hello(),
        message(Message::Status(status)),
        message(Message::Commitments(v1::Commitments { key: "release".into(), commitments: vec![0; 63] })),
        message(Message::Commitments(v1::Commitments {
            key: "release".into(),
            commitments: vec![0; 64 * 1025],
        })),
        message(Message::Commitments(v1::Commitments { key: "No Key".into(), commitments: vec![0; 64] })),
        message(Message::BatchReply(v1::BatchReply::default())),
        message(Message::Ceremony(v1::CeremonyEnvelope { proposal: b"{}".to_vec(), messages: Vec::new() })),
        message(Message::Ceremony(v1::CeremonyEnvelope {
            proposal: Vec::new(),
            messages: vec![b"?".to_vec()],
        })),
        message(Message::Ceremony(v1::CeremonyEnvelope {
            proposal: Vec::new(),
            messages: vec![Vec::new(); 257],
        })),
    ];
    for bad in after_hello {
        let (up, down) = attached(&running).await;
        up.send(bad.clone()).await.unwrap();
        let status = end(down).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}: {status}");
        assert!(!reason(&status).is_empty());
    }
    // Longer than any message may be.
    let (up, down) = attached(&running).await;
    let huge =
        v1::CeremonyEnvelope { proposal: vec![0; wire_limits::MAX_MESSAGE_BYTES + 1], messages: Vec::new() };
    up.send(message(Message::Ceremony(huge))).await.unwrap();
    assert_eq!(end(down).await.unwrap_err().code(), Code::InvalidArgument);
    // A node that names a point that is none is a culprit, and the others go on.
    let (up, _down) = attached(&running).await;
    let commitments = v1::Commitments { key: "release".into(), commitments: vec![0xff; 64] };
    up.send(message(Message::Commitments(commitments))).await.unwrap();
    let mut operator = running.nodes("rutli:operator:o").await;
    let named = loop {
        let nodes = operator.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
        match nodes.into_iter().find(|node| !node.culprit.is_empty()) {
            Some(node) => break node,
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!((named.node.as_str(), named.connected), ("vendor/vendor-1", true));
    let node = v1::ReinstateNodeRequest { node: "vendor/vendor-1".into() };
    let back = operator.reinstate_node(node).await.unwrap().into_inner().node.unwrap();
    assert_eq!(back.culprit, "");
    let nobody = v1::ReinstateNodeRequest { node: "vendor/vendor-9".into() };
    assert_eq!(operator.reinstate_node(nobody).await.unwrap_err().code(), Code::NotFound);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn bytes_that_are_no_message_end_the_stream() {
    use http::uri::PathAndQuery;
    /// Sends bytes as they are.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Garbage(Vec<u8>);
    impl prost::Message for Garbage {
        fn encode_raw(&self, buf: &mut impl prost::bytes::BufMut) {
            buf.put_slice(&self.0);
        }
        fn merge_field(
            &mut self,
            _: u32,
            _: prost::encoding::WireType,
            _: &mut impl prost::bytes::Buf,
            _: prost::encoding::DecodeContext,
        ) -> Result<(), prost::DecodeError> {
            Ok(())
        }
        fn encoded_len(&self) -> usize {
            self.0.len()
        }
        fn clear(&mut self) {}
    }
    let running = Running::start().await;
    let good = Garbage(hello().encode_to_vec());
    for messages in [vec![Garbage(vec![0xff; 9])], vec![good, Garbage(vec![0xff; 9])]] {
        let mut grpc = tonic::client::Grpc::new(running.channel(NODE).await);
        grpc.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<Garbage, v1::CoordinatorMessage> =
            tonic_prost::ProstCodec::default();
        let path = PathAndQuery::from_static("/rutli.v1.NodeService/Attach");
        let request = tonic::Request::new(futures::StreamExt::chain(
            tokio_stream::iter(messages),
            futures::stream::pending(),
        ));
        let down = grpc.streaming(request, path, codec).await.unwrap().into_inner();
        assert_eq!(end(down).await.unwrap_err().code(), Code::InvalidArgument);
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_stream_of_a_node_ends_the_first() {
    let running = Running::start().await;
    let (_up, first) = attached(&running).await;
    let (_second_up, second) = attached(&running).await;
    let status = end(first).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "REPLACED"));
    let mut operator = running.nodes("rutli:operator:o").await;
    let nodes = operator.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert!(nodes[0].connected, "the end of the first does not detach the second");
    drop(second);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn nodes_and_watchers_hear_of_the_end() {
    let running = Running::start().await;
    let (_up, mut down) = attached(&running).await;
    let mut client = running.releases(PIPELINE).await;
    let id = client.create_release(request("job-1", 1)).await.unwrap().into_inner().release_id;
    let mut states =
        client.watch_release(v1::WatchReleaseRequest { release_id: id }).await.unwrap().into_inner();
    states.message().await.unwrap().unwrap();
    let stopped = tokio::spawn(running.stop());
    // A head of the log to be cosigned may come before it.
    let is_goodbye = |message| matches!(message, v1::coordinator_message::Message::Goodbye(_));
    while !is_goodbye(down.message().await.unwrap().unwrap().message.unwrap()) {}
    assert!(down.message().await.unwrap().is_none());
    let status = loop {
        if let Err(status) = states.message().await {
            break status;
        }
    };
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STOPPING"));
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_embargo_is_ended_by_its_pipeline_or_an_operator() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let mut hidden = request("job-1", 1);
    hidden.embargo_until = NOW + 1_000;
    let release = client.create_release(hidden.clone()).await.unwrap().into_inner();
    assert_eq!((release.embargo_until, release.log_index), (NOW + 1_000, 1));
    let again = client.create_release(hidden).await.unwrap().into_inner();
    assert_eq!((again.release_id, again.embargo_until), (release.release_id.clone(), NOW + 1_000));
    let disclose = || v1::DiscloseReleaseRequest { release_id: release.release_id.clone() };
    let mut other = running.releases("rutli:pipeline:other").await;
    assert_eq!(other.disclose_release(disclose()).await.unwrap_err().code(), Code::NotFound);
    for party in ["rutli:auditor:a", NODE] {
        let status = running.releases(party).await.disclose_release(disclose()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "WRONG_ROLE"));
    }
    let open = client.create_release(request("job-2", 2)).await.unwrap().into_inner();
    assert_eq!(open.log_index, 2);
    let none = v1::DiscloseReleaseRequest { release_id: open.release_id };
    let status = client.disclose_release(none).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let disclosed = client.disclose_release(disclose()).await.unwrap().into_inner();
    assert_eq!(disclosed.release_id, release.release_id);
    running.releases("rutli:operator:o").await.disclose_release(disclose()).await.unwrap();
    // One disclosure, however often it is asked for.
    let third = client.create_release(request("job-3", 3)).await.unwrap().into_inner();
    assert_eq!(third.log_index, 4);
    let nothing = v1::DiscloseReleaseRequest { release_id: "suite-1.0-000000000000".into() };
    assert_eq!(client.disclose_release(nothing).await.unwrap_err().code(), Code::NotFound);
    for until in [NOW, NOW + rutli_log::limits::MAX_EMBARGO_SECONDS + 1] {
        let mut bad = request("job-4", 4);
        bad.embargo_until = until;
        let status = client.create_release(bad).await.unwrap_err();
        assert_eq!(
            status.get_error_details().bad_request().unwrap().field_violations[0].field,
            "embargo_until"
        );
    }
    running.stop().await.unwrap();
}

/// So many entries wait for a folder that takes none.
async fn backlog(data_dir: &std::path::Path, size: u64) {
    use sqlx::{Connection as _, Row as _};
    give_key(data_dir).await;
    std::fs::write(data_dir.join("log/tile"), "no folder").unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data_dir.join(crate::store::FILE_NAME));
    let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let mut transaction = database.begin().await.unwrap();
    let first = sqlx::query("SELECT entry FROM log_entries").fetch_one(&mut *transaction).await.unwrap();
    let mut frontier = rutli_log::Frontier::default();
    frontier.push(rutli_log::leaf_hash(&first.get::<Vec<u8>, _>(0)));
    let numbers: Vec<u64> = (1..size).collect();
    for numbers in numbers.chunks(10_000) {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("INSERT INTO log_entries (number, entry) ");
        query.push_values(numbers, |mut row, number| {
            let entry = format!("entry {number}").into_bytes();
            frontier.push(rutli_log::leaf_hash(&entry));
            row.push_bind(i64::try_from(*number).unwrap()).push_bind(entry);
        });
        query.build().execute(&mut *transaction).await.unwrap();
    }
    let checkpoint = log_signer().sign(frontier.head()).to_note();
    let swap = sqlx::query("UPDATE log_head SET checkpoint = $1").bind(checkpoint);
    swap.execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_log_that_is_not_written_stops_admission_before_the_disk_is_full() {
    let running = Running::start_on(Limits::default(), async |data_dir| {
        backlog(&data_dir, limits::LOG_STAGED_ENTRIES).await;
    })
    .await;
    let mut client = running.releases(PIPELINE).await;
    let known = client.create_release(request("job-1", 1)).await.unwrap().into_inner();
    assert_eq!(known.log_index, limits::LOG_STAGED_ENTRIES);
    let status = client.create_release(request("job-2", 2)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LOG_BEHIND"));
    assert!(status.message().contains("log entries wait"), "{status}");
    let again = client.create_release(request("job-1", 1)).await.unwrap().into_inner();
    assert_eq!(again.release_id, known.release_id, "who asks for what is admitted takes no room");
    // The disk is back: all of it is written, and admission goes on.
    std::fs::remove_file(running.folder.path().join("data/log/tile")).unwrap();
    let admitted = async {
        while client.create_release(request("job-2", 2)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, admitted).await.unwrap();
    running.stop().await.unwrap();
}
