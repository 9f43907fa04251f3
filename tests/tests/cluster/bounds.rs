//! Nobody can use up another's share: in each test one certificate, or none, takes all it can get, next to an
//! honest party.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use rutli::client::{self, Profile};
use rutli_tests::{
    attack::tools::{Thief, framed},
    cluster::{Cluster, PATIENCE, Setup, eventually},
    evidence,
    releases::{artifact, build, database, finished, sign},
};
use rutli_wire::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{
    Code, Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{SOON, create, get, reason, refused};

const GET: &str = "/rutli.v1.ReleaseService/GetRelease";

/// More calls than one name may have, their bodies never sent, again and again: an honest pipeline goes on, and a node that was
/// restarted gets in. Each of them ends after the time that a request may take, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_requests_of_an_auditor_keep_nobody_out() {
    let setup = Setup { limits: "request_seconds = 3", ..Setup::default() };
    let mut cluster = Cluster::start(setup).await;
    let (ended, full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let called = Arc::new(AtomicUsize::new(0));
    let mut stalling = Vec::new();
    for _ in 0..2 {
        let channel = cluster.channel("auditor").await;
        for _ in 0..200 {
            let (channel, ended, full) = (channel.clone(), Arc::clone(&ended), Arc::clone(&full));
            let called = Arc::clone(&called);
            stalling.push(tokio::spawn(async move {
                loop {
                    called.fetch_add(1, Ordering::Relaxed);
                    let status = stalled(channel.clone()).await;
                    match reason(&status).as_str() {
                        "REQUEST_TOO_SLOW" => ended.store(true, Ordering::Relaxed),
                        "SHARE_FULL" => full.store(true, Ordering::Relaxed),
                        _ => {}
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }));
        }
    }
    eventually("the auditor has called", PATIENCE, async || match called.load(Ordering::Relaxed) {
        400.. => Ok(()),
        called => Err(format!("{called} times")),
    })
    .await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    cluster.kill("vendor-1");
    cluster.until_node("vendor-1", "away", |info| !info.connected).await;
    cluster.start_party("vendor-1");
    cluster.until_ready("vendor-1").await;
    sign(&cluster, build("stable", 2, 1), SOON).await;
    eventually("a stalled call ends, and another is refused", PATIENCE, async || {
        match (ended.load(Ordering::Relaxed), full.load(Ordering::Relaxed)) {
            (true, true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    stalling.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A call whose request never comes; gives how it ends.
async fn stalled(channel: Channel) -> Status {
    let mut grpc = Grpc::new(channel);
    if let Err(error) = grpc.ready().await {
        return Status::unavailable(error.to_string());
    }
    let codec = tonic_prost::ProstCodec::<v1::GetReleaseRequest, v1::Release>::default();
    let never = Request::new(tokio_stream::pending());
    match grpc.client_streaming(never, PathAndQuery::from_static(GET), codec).await {
        Ok(_) => panic!("an answer without a request"),
        Err(status) => status,
    }
}

/// Hundreds of answers of megabytes that are asked for and not read, by one auditor: what the coordinator keeps for them is
/// bounded, and others go on. A connection on which nothing is read is cut.
#[tokio::test(flavor = "multi_thread")]
async fn unread_answers_do_not_fill_the_memory() {
    let setup = Setup { limits: "answer_seconds = 20", ..Setup::default() };
    let mut cluster = Cluster::start(setup).await;
    let id = create(&cluster, large("large", 1)).await;
    let channel = cluster.channel("pipeline").await;
    eventually("it is refused", SOON, async || match get(&cluster, &id).await.state() {
        v1::ReleaseState::Refused => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let pid = cluster.process("coordinator").pid().unwrap();
    let before = resident_kib(pid);
    let reader = cluster.channel("auditor").await;
    let asked: Vec<_> = (0..250).map(|_| tokio::spawn(unread(reader.clone(), id.clone()))).collect();
    let (mut held, mut full, mut most) = (Vec::new(), 0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            Ok(answer) => held.push(answer),
            Err(status) => full += u32::from(reason(&status) == "SHARE_FULL"),
        }
        most = most.max(resident_kib(pid));
    }
    sign(&cluster, build("stable", 1, 1), SOON).await;
    most = most.max(resident_kib(pid));
    assert!(!held.is_empty() && full > 0, "{} unread, {full} refused", held.len());
    println!("{} unread, {full} refused, {before} KiB before, {most} KiB at most", held.len());
    assert!(most.saturating_sub(before) < 160 << 10, "it grew from {before} to {most} KiB");
    assert!(finished(channel, &id, SOON).await.state() == v1::ReleaseState::Refused);
    // What was read to here is read to the end, or broke off.
    eventually("the connection is cut", PATIENCE, async || {
        let log = cluster.log("coordinator");
        if log.contains("cut a connection") { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
}

/// Asks for a release and reads nothing of the answer.
async fn unread(channel: Channel, release_id: String) -> Result<Streaming<v1::Release>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::default();
    let request = Request::new(v1::GetReleaseRequest { release_id });
    grpc.server_streaming(request, PathAndQuery::from_static(GET), codec)
        .await
        .map(tonic::Response::into_inner)
}

/// Of a product that no node signs: as large as a release can be.
fn large(channel: &str, sequence: u64) -> v1::CreateReleaseRequest {
    let name = "n".repeat(240);
    let artifacts = (0..5_000).map(|number| artifact(&format!("{name}{number}"), b""));
    v1::CreateReleaseRequest {
        product: "nobodys".to_owned(),
        artifacts: artifacts.collect(),
        ..build(channel, sequence, 0)
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One pipeline takes all places that it gets: another one still gets in, and so do databases of those who may ask for them.
/// Over a restart it has no more than before, and an operator takes all of it back at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_pipeline_fills_its_own_places_and_no_others() {
    let setup = Setup { limits: "max_waiting_releases = 40", ..Setup::default() };
    let mut cluster = Cluster::written(&setup);
    // The second pipeline has no entry.
    let config = cluster.config("coordinator");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("\"pipeline-2\""), "{text}");
    std::fs::write(&config, text.replace("\"pipeline-2\"", "\"somebody-else\"")).unwrap();
    for party in ["coordinator", "vendor-1", "vendor-2", "vendor-3", "supervisor-1"] {
        cluster.start_party(party);
    }
    cluster.attached().await;
    cluster.make_key().await;
    cluster.ready().await;
    cluster.stop("supervisor-1");

    let mut pipeline = cluster.pipeline().await;
    for sequence in 1..=9 {
        create(&cluster, build("stable", sequence, 1)).await;
    }
    let full = refused(pipeline.create_release(build("stable", 10, 1)).await, Code::ResourceExhausted);
    share_is(&full, "max_waiting_releases", "name:pipeline:pipeline");
    // The place that is left is for the urgent.
    create(&cluster, database("stable", 1, 1)).await;
    let mut other = client::releases(cluster.channel("pipeline-2").await);
    let theirs = other.create_release(build("theirs", 1, 1)).await.unwrap().into_inner().release_id;
    let status = refused(other.create_release(database("theirs", 2, 1)).await, Code::PermissionDenied);
    assert_eq!(reason(&status), "CLIENT_NOT_LISTED");
    assert!(status.message().contains("name = \"pipeline-2\""), "{status:?}");

    cluster.stop("coordinator");
    cluster.start_party("coordinator");
    let mut pipeline = cluster.pipeline().await;
    let full = refused(pipeline.create_release(build("stable", 10, 1)).await, Code::ResourceExhausted);
    share_is(&full, "max_waiting_releases", "name:pipeline:pipeline");

    let all = v1::CancelReleasesRequest { requester: "pipeline-2".to_owned() };
    let status = refused(pipeline.cancel_releases(all.clone()).await, Code::PermissionDenied);
    assert_eq!(reason(&status), "WRONG_ROLE");
    cancelled_by_operator(&cluster, "pipeline-2", &theirs).await;
}

/// One is asked for after the restart, for what was restarted has been with a node.
async fn cancelled_by_operator(cluster: &Cluster, requester: &str, waiting: &str) {
    let mut other = client::releases(cluster.channel(requester).await);
    let fresh = other.create_release(build("fresh", 1, 1)).await.unwrap().into_inner().release_id;
    let operator = Profile::read(&cluster.profile("operator")).unwrap().connect().await.unwrap();
    let all = v1::CancelReleasesRequest { requester: requester.to_owned() };
    let answer = client::releases(operator).cancel_releases(all).await.unwrap().into_inner();
    println!("{answer:?}");
    assert!(answer.cancelled.contains(&fresh), "{answer:?}");
    let mut ids = answer.cancelled;
    ids.extend(answer.too_late);
    ids.sort();
    let mut asked = [fresh, waiting.to_owned()];
    asked.sort();
    assert_eq!(ids, asked, "each is told of once, and nobody else's");
    let log = cluster.log("coordinator");
    assert!(log.contains("an operator cancelled all of a requester"), "it can be audited");
}

fn share_is(status: &Status, bound: &str, whose: &str) {
    assert_eq!(reason(status), "SHARE_FULL", "{status:?}");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata.get("bound").map(String::as_str), Some(bound), "{status:?}");
    let violations = status.get_details_quota_failure().unwrap().violations;
    assert_eq!(violations[0].subject, whose);
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
}

/// An hour's budget is used up once, whatever is restarted; and what goes beyond it leaves nothing behind, however large it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_hourly_budget_outlives_a_restart() {
    let limits = "max_requests_per_hour = 40\nmax_mebibytes_per_hour = 16";
    let mut cluster = Cluster::start(Setup { limits, ..Setup::default() }).await;
    let data = cluster.data("coordinator");
    let mut pipeline = cluster.pipeline().await;
    // A quarter of 16 MiB is less than the largest release costs.
    let before = bytes_below(&data);
    for sequence in 1..=10 {
        let refusal =
            refused(pipeline.create_release(large("large", sequence)).await, Code::ResourceExhausted);
        share_is(&refusal, "max_mebibytes_per_hour", "name:pipeline:pipeline");
    }
    let grown = bytes_below(&data).saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes are left of ten refused requests of 2 MB");

    // Ten in an hour, or twenty where one begins meanwhile.
    let hour = rutli::clock::unix_now() / 3_600;
    let refusal = fill(&mut pipeline, 1).await;
    share_is(&refusal.1, "max_requests_per_hour", "name:pipeline:pipeline");
    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    let mut pipeline = cluster.pipeline().await;
    let again = pipeline.create_release(build("stable", refusal.0, 1)).await;
    if rutli::clock::unix_now() / 3_600 == hour {
        share_is(&refused(again, Code::ResourceExhausted), "max_requests_per_hour", "name:pipeline:pipeline");
    } else {
        println!("a new hour began: nothing to see");
    }
    let mut other = client::releases(cluster.channel("pipeline-2").await);
    other.create_release(build("theirs", 1, 1)).await.unwrap();
}

/// Asks until it is refused; gives the sequence, and the refusal.
async fn fill(
    pipeline: &mut rutli_wire::v1::release_service_client::ReleaseServiceClient<Channel>,
    from: u64,
) -> (u64, Status) {
    for sequence in from..from + 25 {
        if let Err(status) = pipeline.create_release(build("stable", sequence, 1)).await {
            return (sequence, status);
        }
    }
    panic!("no budget is used up")
}

fn bytes_below(folder: &Path) -> u64 {
    let mut sizes = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // Files come and go meanwhile.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => drop(sizes.insert(entry.path(), metadata.len())),
                Err(_) => {}
            }
        }
    }
    sizes.values().sum()
}

/// Requests that only name something are short, whichever call they are for; one that goes on and on is ended, and its bytes with it.
/// What a caller takes back while it is worked on is counted until that is done.
#[tokio::test(flavor = "multi_thread")]
async fn requests_are_bounded_in_streaming_calls_and_after_a_reset() {
    let mut cluster = Cluster::without_key(Setup::default()).await;
    let pid = cluster.process("coordinator").pid().unwrap();
    let before = resident_kib(pid);
    let auditor = Thief::with(&Profile::read(&cluster.profile("auditor")).unwrap());
    let raw = auditor.dial(65_535).await.unwrap();
    let endless = framed(&vec![b'x'; (7 << 20) - 1], 7 << 20);
    let mut calls = Vec::new();
    for _ in 0..32 {
        calls.push(raw.call("/rutli.v1.ReleaseService/WatchRelease", endless.clone(), false).await.unwrap());
    }
    let mut ended = 0;
    for call in calls {
        let answer = timeout(Duration::from_secs(20), call.answer).await;
        ended += usize::from(answer.is_ok());
    }
    assert_eq!(ended, 32, "each is answered");
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for what nobody asked");

    let pipeline = Thief::with(&Profile::read(&cluster.profile("pipeline")).unwrap());
    let content = rutli_wire::convert::release_from_request(build("resets", 1, 1), 1).unwrap();
    let names: Vec<_> = (0..3_000).map(|name| format!("{name} {:030}", 0)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let document: prost::bytes::Bytes = evidence::tested(&content, evidence::STRANGER, &names, &[]).into();
    let request = v1::CreateReleaseRequest { evidence: vec![document; 12], ..build("resets", 1, 1) };
    let message = framed(&request.encode_to_vec(), request.encoded_len());
    let threads = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    let (idle, mut most) = (threads(), 0);
    for _ in 0..4 {
        let raw = pipeline.dial(65_535).await.unwrap();
        for _ in 0..16 {
            let mut call =
                raw.call("/rutli.v1.ReleaseService/CreateRelease", message.clone(), true).await.unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            call.body.send_reset(h2::Reason::CANCEL);
            most = most.max(threads());
        }
    }
    assert!(most < idle + 20, "{most} threads work on what was taken back, and {idle} are there anyway");
    let grown = resident_kib(pid).saturating_sub(before);
    assert!(grown < 128 << 10, "{grown} KiB for what was taken back");
}

/// A flood of connections that say nothing, without any certificate: somebody 300 ms away still gets in, each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_flood_does_not_keep_slow_peers_out() {
    let setup = Setup { limits: "max_handshakes = 64", ..Setup::default() };
    let cluster = Cluster::without_key(setup).await;
    let coordinator: SocketAddr = cluster.address().parse().unwrap();
    let far = delayed(coordinator, Duration::from_millis(300)).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let flood = |opened: Arc<AtomicUsize>| async move {
        let mut silent = std::collections::VecDeque::new();
        loop {
            if let Ok(socket) = TcpStream::connect(coordinator).await {
                opened.fetch_add(1, Ordering::Relaxed);
                silent.push_back(socket);
            }
            if silent.len() > 80 {
                silent.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let flood: Vec<_> = (0..4).map(|_| tokio::spawn(flood(Arc::clone(&opened)))).collect();
    let mut profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    profile.coordinator = format!("https://{far}");
    profile.server_name = Some("localhost".to_owned());
    let began = tokio::time::Instant::now();
    let gets_in = async || {
        let channel = profile.connect().await.map_err(|failure| failure.to_string())?;
        let listed = client::releases(channel).list_releases(v1::ListReleasesRequest::default()).await;
        listed.map(drop).map_err(|status| status.to_string())
    };
    for number in 1..=5 {
        // A flood keeps a peer out each time; a machine that pauses for seconds does not.
        let mut failed = Vec::new();
        while let Err(error) = gets_in().await {
            failed.push(error);
            assert!(failed.len() < 3, "number {number}: {failed:?}");
        }
    }
    let (opened, seconds) = (opened.load(Ordering::Relaxed), began.elapsed().as_secs_f64());
    println!("{opened} silent connections in {seconds:.1} s");
    assert!(opened > 256, "{opened} connections are no flood");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A way to the coordinator that takes so long in each direction, and comes from another block of addresses.
async fn delayed(to: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind("127.77.7.7:0".parse().unwrap()).unwrap();
                let far = socket.connect(to).await.unwrap();
                let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
                tokio::join!(carry(from_near, to_far, delay), carry(from_far, to_near, delay));
            });
        }
    });
    address
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    let (sent, mut coming) = tokio::sync::mpsc::unbounded_channel();
    let reading = async move {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = tokio::time::Instant::now() + delay;
            if sent.send((due, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = coming.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reading, writing);
}
