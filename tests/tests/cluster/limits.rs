//! Messages that are too large, that are no messages, and peers that only take room: a clear error, and the process lives.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _},
};
use rutli::client;
use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup},
    releases::{artifact, build, sign},
};
use rutli_wire::{limits as wire, v1};
use tokio_stream::iter;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{SOON, reason, refused};

const CREATE: &str = "/rutli.v1.ReleaseService/CreateRelease";
const ATTACH: &str = "/rutli.v1.NodeService/Attach";
const PROPOSE: &str = "/rutli.v1.CustodianService/ProposeCeremony";
const UNSEAL: &str = "/rutli.v1.CustodianService/Unseal";

/// Invariant 8 and point 4, at every door: the release service, the node link, the custodian's socket, and the bare port.
#[tokio::test(flavor = "multi_thread")]
async fn oversize_and_malformed_messages_are_errors_and_nothing_more() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let pids: Vec<_> = ["coordinator", "vendor-1"].map(|party| cluster.process(party).pid()).to_vec();
    let pipeline = cluster.channel("pipeline").await;

    // The release service.
    let undecodable = vec![vec![0xff; 100]];
    let status = refused(raw(pipeline.clone(), CREATE, undecodable).await, Code::InvalidArgument);
    assert_eq!(reason(&status), "INVALID_REQUEST", "{status:?}");
    let huge = vec![b'x'; wire::MAX_MESSAGE_BYTES + 1];
    refused(raw(pipeline.clone(), CREATE, vec![huge.clone()]).await, Code::OutOfRange);
    // A length that is not followed by as many bytes, a group that never ends, a string that is no UTF-8.
    for rubbish in [vec![0x0a, 0x7f, b'a'], vec![0x0b; 40], vec![0x0a, 2, 0xc3, 0x28]] {
        refused(raw(pipeline.clone(), CREATE, vec![rubbish]).await, Code::InvalidArgument);
    }
    fields(&pipeline).await;

    // The node link: the stream ends with the reason, and other nodes' streams stay.
    let node = node_channel(&cluster).await;
    let hello = v1::node_message::Message::Hello(v1::Hello {
        version: "raw".into(),
        status: Some(v1::NodeStatus { state: "ready".into(), ..v1::NodeStatus::default() }),
        ..v1::Hello::default()
    });
    let hello = v1::NodeMessage { message: Some(hello) }.encode_to_vec();
    let link = |first: Vec<u8>, then: Vec<u8>| raw(node.clone(), ATTACH, vec![first, then]);
    cluster.stop("vendor-3");
    for (what, first, then) in [
        ("no message", vec![0xff; 10], vec![]),
        ("no Hello", commitments(1), vec![]),
        ("an empty message", vec![], vec![]),
        ("rubbish after Hello", hello.clone(), vec![0xff; 10]),
        ("Hello twice", hello.clone(), hello.clone()),
        ("too many commitments", hello.clone(), commitments(wire::MAX_ANNOUNCED_COMMITMENTS + 1)),
        ("half a commitment", hello.clone(), half_a_commitment()),
        ("an oversize message", hello.clone(), huge.clone()),
    ] {
        println!("node link, {what}:");
        let status = refused(link(first, then).await, Code::InvalidArgument);
        assert!(!status.message().is_empty());
    }
    cluster.start_party("vendor-3");

    // The custodian's socket.
    let custodian = client::connect_socket(&cluster.socket("vendor-1")).await.unwrap();
    refused(raw(custodian.clone(), PROPOSE, vec![vec![0xff; 10]]).await, Code::InvalidArgument);
    refused(raw(custodian.clone(), PROPOSE, vec![vec![0; 300 << 10]]).await, Code::OutOfRange);
    let proposal = v1::ProposeCeremonyRequest { proposal: b"{\"no\": \"proposal\"}".to_vec() };
    refused(raw(custodian.clone(), PROPOSE, vec![proposal.encode_to_vec()]).await, Code::InvalidArgument);
    let long = v1::UnsealRequest { passphrase: "x".repeat(100_000) };
    refused(raw(custodian, UNSEAL, vec![long.encode_to_vec()]).await, Code::InvalidArgument);

    // They stay silent and open while everything below goes on.
    let _idle = bare_port(&cluster);
    sign(&cluster, build("stable", 1, 1), SOON).await;
    cluster.ready().await;
    let now: Vec<_> = ["coordinator", "vendor-1"].map(|party| cluster.process(party).pid()).to_vec();
    assert_eq!(now, pids);
    assert!(["coordinator", "vendor-1"].into_iter().all(|party| cluster.process(party).is_running()));
}

/// Wrong fields: `INVALID_ARGUMENT` that names the field, for a person and for a program.
async fn fields(pipeline: &Channel) {
    type Change = fn(&mut v1::CreateReleaseRequest);
    let changes: [(&str, Change); 9] = [
        ("request_id", |request| request.request_id = "with space".into()),
        ("release_class", |request| request.release_class = 99),
        ("product", |request| request.product = "Übel".into()),
        ("sequence", |request| request.sequence = 1 << 53),
        ("version", |request| request.version = String::new()),
        ("artifacts", |request| request.artifacts = Vec::new()),
        ("artifacts", |request| {
            request.artifacts = (0..5001).map(|n| artifact(&n.to_string(), b"")).collect()
        }),
        ("artifacts[0].name", |request| request.artifacts[0].name = "../../etc/passwd".into()),
        ("artifacts[0].sha256", |request| request.artifacts[0].sha256.truncate(31)),
    ];
    for (field, change) in changes {
        let mut request = build("stable", 1, 1);
        change(&mut request);
        let status =
            refused(client::releases(pipeline.clone()).create_release(request).await, Code::InvalidArgument);
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, field, "{violations:?}");
    }
}

/// Rubbish instead of TLS, and more silent connections than there are handshakes at a time: they take nobody's place for
/// longer than a handshake may last.
fn bare_port(cluster: &Cluster) -> Vec<TcpStream> {
    for rubbish in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 5000], &[0x16, 3, 1, 0xff, 0xff]] {
        let mut socket = TcpStream::connect(cluster.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed before all is written.
        let _ = socket.write_all(rubbish);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.len() < 100, "no more than an alert: {answer:?}");
    }
    let idle: Vec<_> = (0..600).filter_map(|_| TcpStream::connect(cluster.address()).ok()).collect();
    println!("{} silent connections", idle.len());
    assert!(idle.len() > 500);
    idle
}

/// A connection with the certificate of vendor-3.
async fn node_channel(cluster: &Cluster) -> Channel {
    let folder = cluster.node_folder("vendor-3");
    let mut profile = client::Profile::read(&cluster.profile("pipeline")).unwrap();
    profile.tls.certificate = folder.join("tls.pem");
    profile.tls.key = folder.join("tls.key");
    profile.connect().await.unwrap()
}

fn commitments(count: usize) -> Vec<u8> {
    announcement(vec![1; 64 * count])
}

fn half_a_commitment() -> Vec<u8> {
    announcement(vec![1; 32])
}

fn announcement(commitments: Vec<u8>) -> Vec<u8> {
    let commitments = v1::Commitments { key: "release".into(), commitments };
    v1::NodeMessage { message: Some(v1::node_message::Message::Commitments(commitments)) }.encode_to_vec()
}

/// Sends bytes as gRPC messages, whatever they are, reads answers to the end, and gives the error at the end.
async fn raw(channel: Channel, path: &'static str, messages: Vec<Vec<u8>>) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel).max_encoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    // The requests' side stays open, as a node's does.
    let open = tokio_stream::StreamExt::chain(iter(messages), tokio_stream::pending());
    let one = path != ATTACH;
    let path = PathAndQuery::from_static(path);
    let call = async {
        if one {
            let mut open = Box::pin(open);
            let first = tokio_stream::StreamExt::next(&mut open).await.unwrap_or_default();
            return grpc.unary(Request::new(first), path, Bytes).await.map(drop);
        }
        let mut answers = grpc.streaming(Request::new(open), path, Bytes).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| panic!("no end of the call"))
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
