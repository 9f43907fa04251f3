//! Attackers with any one certificate, or with none, who try to starve the others; and what an honest client
//! achieves next to each of them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prost::{Message as _, bytes::Bytes};
use rutli::client::{self, Profile, TlsFiles};
use rutli_wire::v1;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::Status;

use super::{
    Row, Scale,
    gauge::{Honest, Until, Work, forget_peaks, peaks, used},
    tools::{Raw, Refused, Thief, address_of, framed, handshake_as_nobody},
};
use crate::{
    cluster::{Cluster, PATIENCE, Setup, eventually, repeated},
    evidence::{self, STRANGER},
    releases::{artifact, build, database},
};

/// What a coordinator may use, whatever anybody does.
const COORDINATOR_MIB: u64 = 256;
/// What a node may use.
const NODE_MIB: u64 = 64;
/// In how long a restarted node must be back; in release only.
const BACK_WITHIN: Duration = Duration::from_secs(3);

const GET_RELEASE: &str = "/rutli.v1.ReleaseService/GetRelease";
const LIST_RELEASES: &str = "/rutli.v1.ReleaseService/ListReleases";
const WATCH_RELEASE: &str = "/rutli.v1.ReleaseService/WatchRelease";
const CREATE_RELEASE: &str = "/rutli.v1.ReleaseService/CreateRelease";
const ADD_EVIDENCE: &str = "/rutli.v1.ReleaseService/AddEvidence";
const LIST_NODES: &str = "/rutli.v1.NodeService/ListNodes";
const LIST_KEYS: &str = "/rutli.v1.CeremonyService/ListKeys";

/// Different documents of each task that adds some.
const DOCUMENTS: usize = 8;

/// What the nodes permit: `suite`; and `waiting`, which is tested, and therefore waits for its tests.
const POLICY: &str = r#"
@id("suite") permit (principal, action == Action::"sign", resource)
when { resource.product == "suite" || (resource.class == Class::"av-database" && resource.product == "avdb") };
@id("waiting") permit (principal, action == Action::"sign", resource)
when { resource.product == "waiting" && context.testsPassed.contains("unit") };
"#;

/// Ways to starve others. Who does it is in the name: see [`Way::attacker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `tries`")]
pub enum Way {
    AuditorUnsent,
    AuditorUnread,
    AuditorFlood,
    AuditorWatchers,
    AuditorResets,
    PipelineUnsent,
    PipelineResets,
    PipelineForbidden,
    PipelineLarge,
    PipelineDatabases,
    PipelineWaiting,
    PipelinePermitted,
    CustodianEvidence,
    CustodianUnsent,
    StrangerSilent,
    StrangerHandshakes,
    StrangerLog,
    NodeStreams,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AuditorUnsent,
        Self::AuditorUnread,
        Self::AuditorFlood,
        Self::AuditorWatchers,
        Self::AuditorResets,
        Self::PipelineUnsent,
        Self::PipelineResets,
        Self::PipelineForbidden,
        Self::PipelineLarge,
        Self::PipelineDatabases,
        Self::PipelineWaiting,
        Self::PipelinePermitted,
        Self::CustodianEvidence,
        Self::CustodianUnsent,
        Self::StrangerSilent,
        Self::StrangerHandshakes,
        Self::StrangerLog,
        Self::NodeStreams,
    ];

    /// Whose certificate it takes.
    #[must_use]
    pub fn attacker(self) -> &'static str {
        match self {
            Self::AuditorUnsent
            | Self::AuditorUnread
            | Self::AuditorFlood
            | Self::AuditorWatchers
            | Self::AuditorResets => "auditor",
            Self::PipelineUnsent
            | Self::PipelineResets
            | Self::PipelineForbidden
            | Self::PipelineLarge
            | Self::PipelineDatabases
            | Self::PipelineWaiting
            | Self::PipelinePermitted => "pipeline",
            Self::CustodianEvidence | Self::CustodianUnsent => "custodian",
            Self::StrangerSilent | Self::StrangerHandshakes | Self::StrangerLog => "stranger",
            Self::NodeStreams => "node",
        }
    }

    /// Attacker and way.
    #[must_use]
    pub fn name(self) -> String {
        format!("{} {self:?}", self.attacker())
    }

    /// For the table.
    #[must_use]
    pub fn tries(self) -> &'static str {
        match self {
            Self::AuditorUnsent => "256 calls of three services, all of each body but the last byte",
            Self::AuditorUnread => "1,000 answers of hundreds of KiB, none of them read",
            Self::AuditorFlood => "32 at a time that list all releases",
            Self::AuditorWatchers => "2,000 watchers of one release",
            Self::AuditorResets => "calls that are taken back as soon as they are made",
            Self::PipelineUnsent => "256 releases of 3 MiB, all of each but the last byte",
            Self::PipelineResets => "releases with 1.6 MB of documents, taken back while they are worked on",
            Self::PipelineForbidden => "releases of 60 files that no policy permits",
            Self::PipelineLarge => "releases of 2,000 files that no policy permits",
            Self::PipelineDatabases => {
                "databases that no policy permits, for the room that is kept for databases"
            }
            Self::PipelineWaiting => "releases that wait for a test, and are taken back",
            Self::PipelinePermitted => "releases of 1,000 files that are permitted",
            Self::CustodianEvidence => "documents of 200 KiB for a release that waits",
            Self::CustodianUnsent => "256 documents of 3 MiB, all of each but the last byte",
            Self::StrangerSilent => "400 connections a second that say nothing, 800 at a time",
            Self::StrangerHandshakes => "handshakes without a certificate, eight at a time",
            Self::StrangerLog => "300 readers of the log that ask slowly, and eight that ask fast",
            Self::NodeStreams => "streams of a node's stolen certificate, one after the other",
        }
    }
}

/// What an attacker requests.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// Builds that no policy permits.
    Forbidden,
    /// Databases that no policy permits.
    Database,
    /// Builds that wait for a test, and are taken back.
    Waiting,
    /// Builds that are permitted.
    Permitted,
}

/// A deployment to be starved: nodes that decide by [`POLICY`], a large release that is signed, and one that
/// waits.
pub struct Stage {
    /// It.
    pub cluster: Cluster,
    honest: Honest,
    large: String,
    waiting: (String, v1::Release),
}

impl Stage {
    /// Sets the stage.
    pub async fn set() -> Self {
        let mut cluster = Cluster::start(Setup { log: "warn", ..Setup::default() }).await;
        take_policy(&cluster, POLICY).await;
        let files = if cfg!(debug_assertions) { 250 } else { 1_000 };
        let large = create(&cluster, database("large", 1, files)).await.unwrap().release_id;
        let waiting = v1::CreateReleaseRequest { product: "waiting".into(), ..build("waiting", 1, 4) };
        let waiting = create(&cluster, waiting).await.unwrap();
        until_state(&cluster, &large, v1::ReleaseState::Signed).await;
        until_state(&cluster, &waiting.release_id, v1::ReleaseState::AwaitingEvidence).await;
        let mut honest = Honest::new(&cluster, "pipeline-2");
        honest.work(Until::Signed(8)).await;
        forget_peaks(&mut cluster);
        Self { cluster, honest, large, waiting: (waiting.release_id.clone(), waiting) }
    }

    /// What the honest client gets done while nobody disturbs it.
    pub async fn undisturbed(&mut self, scale: Scale) -> Work {
        self.honest.work(until(scale)).await
    }

    /// One way to starve it, with the honest client and a node that is restarted beside it.
    pub async fn endure(&mut self, way: Way, scale: Scale, undisturbed: &Work) -> Row {
        forget_peaks(&mut self.cluster);
        let tries = Arc::new(AtomicU64::new(0));
        let attack = self.attack(way, &tries);
        // It is at its height before anybody is measured.
        let height = if scale == Scale::Short { Duration::from_millis(700) } else { Duration::from_secs(3) };
        sleep(height).await;
        let before = used(&mut self.cluster);
        let work = self.honest.work(until(scale)).await;
        let used = used(&mut self.cluster).since(before, work.took);
        let back = self.restart("vendor-2").await;
        drop(attack);
        let (coordinator, node) = peaks(&mut self.cluster);
        let tries = tries.load(Ordering::Relaxed);
        let mut holes = Vec::new();
        let mut hole = |is_one: bool, what: String| {
            if is_one {
                holes.push(what)
            }
        };
        hole(tries == 0, "nothing was tried".into());
        work.lost.iter().for_each(|lost| hole(true, format!("the honest client: {lost}")));
        hole(coordinator > COORDINATOR_MIB, format!("the coordinator used {coordinator} MiB"));
        hole(node > NODE_MIB, format!("a node used {node} MiB"));
        hole(back.is_none(), "a restarted node does not come back".into());
        if let Scale::Long { .. } = scale {
            let (before, now) = (undisturbed.throughput(), work.throughput());
            hole(now < before / 2.0, format!("{now:.0} releases/s, {before:.0} undisturbed"));
            let (before, now) = (undisturbed.p99(), work.p99());
            hole(now > 4 * before, format!("p99 {now:?}, {before:?} undisturbed"));
            hole(
                back.is_some_and(|back| back > BACK_WITHIN),
                format!("a restarted node is back after {back:?}"),
            );
        }
        Row {
            attack: way.name(),
            tried: format!("{} ({tries} tries)", way.tries()),
            came: format!(
                "{} of the honest client's releases signed, {} retries {}",
                work.latencies.len(),
                work.retries,
                work.trouble
            ),
            figures: format!(
                "{:.1}/s ({:.1} undisturbed), p99 {:.0?} ({:.0?}), coordinator {coordinator} MiB, node {node} MiB, node back in {:.1?}, {used}",
                work.throughput(),
                undisturbed.throughput(),
                work.p99(),
                undisturbed.p99(),
                back.unwrap_or(PATIENCE)
            ),
            holes,
        }
    }

    /// Kills a node, and gives how long it takes to be ready again as an operator sees it.
    async fn restart(&mut self, node: &str) -> Option<Duration> {
        self.cluster.kill(node);
        let operator = Profile::read(&self.cluster.profile("operator")).unwrap();
        let began = Instant::now();
        self.cluster.start_party(node);
        let is_back = async {
            loop {
                if let Ok(channel) = operator.connect().await
                    && let Ok(nodes) = client::nodes(channel).list_nodes(v1::ListNodesRequest {}).await
                    && nodes.into_inner().nodes.iter().any(|info| {
                        info.node.ends_with(&format!("/{node}"))
                            && info.connected
                            && info.state == "ready"
                            && info.commitments > 0
                    })
                {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, is_back).await.ok().map(|()| began.elapsed())
    }

    /// Starts it. It ends when the tasks are dropped.
    fn attack(&self, way: Way, tries: &Arc<AtomicU64>) -> JoinSet<()> {
        let profile = self.profile(way);
        let attacker = Attacker { thief: Thief::with(&profile), profile, tries: Arc::clone(tries) };
        let mut tasks = JoinSet::new();
        match way {
            Way::AuditorUnsent => {
                for path in [GET_RELEASE, LIST_NODES, LIST_KEYS, WATCH_RELEASE] {
                    tasks.spawn(attacker.clone().unsent(path, 64, 7 << 20));
                }
            }
            Way::PipelineUnsent => {
                for _ in 0..4 {
                    tasks.spawn(attacker.clone().unsent(CREATE_RELEASE, 64, 3 << 20));
                }
            }
            Way::CustodianUnsent => {
                for _ in 0..4 {
                    tasks.spawn(attacker.clone().unsent(ADD_EVIDENCE, 64, 3 << 20));
                }
            }
            Way::AuditorUnread => {
                let get = v1::GetReleaseRequest { release_id: self.large.clone() }.encode_to_vec();
                let list = v1::ListReleasesRequest { page_size: 200, ..Default::default() }.encode_to_vec();
                for (path, message) in
                    [(GET_RELEASE, &get), (LIST_RELEASES, &list), (GET_RELEASE, &get), (GET_RELEASE, &get)]
                {
                    tasks.spawn(attacker.clone().unread(path, framed(message, message.len()), 250));
                }
            }
            Way::AuditorWatchers => {
                let watch = v1::WatchReleaseRequest { release_id: self.waiting.0.clone() }.encode_to_vec();
                for _ in 0..8 {
                    tasks.spawn(attacker.clone().unread(WATCH_RELEASE, framed(&watch, watch.len()), 250));
                }
            }
            Way::AuditorFlood => (0..32).for_each(|_| _ = tasks.spawn(attacker.clone().lists())),
            Way::AuditorResets => (0..4).for_each(|_| _ = tasks.spawn(attacker.clone().resets())),
            Way::PipelineResets => {
                let release = self.waiting.1.clone();
                (0..6)
                    .for_each(|lane| _ = tasks.spawn(attacker.clone().sent_and_reset(lane, release.clone())));
            }
            Way::PipelineForbidden => {
                (0..8)
                    .for_each(|lane| _ = tasks.spawn(attacker.clone().requests(lane, Wanted::Forbidden, 60)));
            }
            Way::PipelineLarge => {
                (0..4).for_each(|lane| {
                    _ = tasks.spawn(attacker.clone().requests(lane, Wanted::Forbidden, 2_000))
                });
            }
            Way::PipelineDatabases => {
                (0..8).for_each(|lane| _ = tasks.spawn(attacker.clone().requests(lane, Wanted::Database, 4)));
            }
            Way::PipelineWaiting => {
                (0..8).for_each(|lane| _ = tasks.spawn(attacker.clone().requests(lane, Wanted::Waiting, 4)));
            }
            Way::PipelinePermitted => {
                (0..4).for_each(|lane| {
                    _ = tasks.spawn(attacker.clone().requests(lane, Wanted::Permitted, 1_000))
                });
            }
            Way::CustodianEvidence => {
                let release = self.waiting.1.clone();
                (0..4).for_each(|lane| _ = tasks.spawn(attacker.clone().documents(lane, release.clone())));
            }
            Way::StrangerSilent => _ = tasks.spawn(attacker.silent()),
            Way::StrangerHandshakes => (0..8).for_each(|_| _ = tasks.spawn(attacker.clone().handshakes())),
            Way::StrangerLog => {
                let config = rutli_coordinator::Config::read(&self.cluster.config("coordinator")).unwrap();
                let site = config.log.listen;
                (0..300).for_each(|_| _ = tasks.spawn(attacker.clone().slow_reader(site)));
                (0..8).for_each(|_| _ = tasks.spawn(attacker.clone().fast_reader(site)));
            }
            Way::NodeStreams => (0..2).for_each(|_| _ = tasks.spawn(attacker.clone().streams())),
        }
        tasks
    }

    fn profile(&self, way: Way) -> Profile {
        let own = |client: &str| Profile::read(&self.cluster.profile(client)).unwrap();
        match way.attacker() {
            "node" => {
                let folder = self.cluster.node_folder("vendor-3");
                let own = own("pipeline");
                let tls =
                    TlsFiles { certificate: folder.join("tls.pem"), key: folder.join("tls.key"), ..own.tls };
                Profile { tls, ..own }
            }
            "stranger" => own("auditor"),
            client => own(client),
        }
    }
}

fn until(scale: Scale) -> Until {
    match scale {
        Scale::Short => Until::Signed(8),
        Scale::Long { seconds } => Until::Passed(Duration::from_secs(seconds)),
    }
}

/// Every node decides by this policy from now on, and trusts who is in [`evidence`].
pub async fn take_policy(cluster: &Cluster, policy: &str) {
    for node in cluster.nodes() {
        let folder = cluster.node_folder(&node).join("policy");
        for (name, content) in evidence::rules(policy) {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let reloaded = repeated(async || cluster.custodian(&node).await.reload(v1::ReloadRequest {}).await);
        assert_eq!(reloaded.await.unwrap().policy.unwrap().problem, "");
    }
}

/// Asks for a release as the pipeline.
pub(super) async fn create(
    cluster: &Cluster,
    request: v1::CreateReleaseRequest,
) -> Result<v1::Release, Status> {
    repeated(async || cluster.pipeline().await.create_release(request.clone()).await).await
}

async fn until_state(cluster: &Cluster, id: &str, state: v1::ReleaseState) {
    let request = v1::GetReleaseRequest { release_id: id.to_owned() };
    eventually(&format!("{id} is {state:?}"), PATIENCE, async || {
        let answered = cluster.pipeline().await.get_release(request.clone()).await;
        let release = answered.map_err(|status| status.to_string())?.into_inner();
        if release.state() == state {
            Ok(())
        } else {
            Err(format!("{:?} {:?}", release.state(), release.waiting_for))
        }
    })
    .await;
}

/// Whoever it is, it does the same again and again.
#[derive(Clone)]
struct Attacker {
    thief: Thief,
    profile: Profile,
    tries: Arc<AtomicU64>,
}

impl Attacker {
    fn count(&self) {
        self.tries.fetch_add(1, Ordering::Relaxed);
    }

    async fn dial(&self, window: u32) -> Raw {
        loop {
            if let Ok(raw) = self.thief.dial(window).await {
                return raw;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn connect(&self) -> tonic::transport::Channel {
        loop {
            if let Ok(channel) = self.profile.connect().await {
                return channel;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// So many calls at a time whose messages have begun; each that is ended by the other side is begun
    /// again.
    async fn unsent(self, path: &'static str, at_a_time: usize, announced: usize) {
        let message = framed(&vec![b'x'; announced - 1], announced);
        loop {
            let raw = self.dial(65_535).await;
            let lanes = (0..at_a_time).map(|_| async {
                while !raw.is_over() {
                    self.count();
                    if let Ok(call) = raw.call(path, message.clone(), false).await {
                        drop(call.answer.await);
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            });
            futures::future::join_all(lanes).await;
        }
    }

    /// So many calls at a time whose answers nobody reads.
    async fn unread(self, path: &'static str, message: Bytes, at_a_time: usize) {
        loop {
            let raw = self.dial(1).await;
            let lanes = (0..at_a_time).map(|_| async {
                while !raw.is_over() {
                    self.count();
                    if let Ok(call) = raw.call(path, message.clone(), true).await
                        && let Ok(mut answer) = call.answer.await
                    {
                        // The first byte, and then nothing until the other side ends it.
                        while let Some(Ok(_)) = answer.body_mut().data().await {}
                    }
                    sleep(Duration::from_millis(10)).await;
                }
            });
            futures::future::join_all(lanes).await;
        }
    }

    async fn resets(self) {
        loop {
            let raw = self.dial(65_535).await;
            while !raw.is_over() {
                for _ in 0..50 {
                    self.count();
                    let message = framed(b"", 0);
                    if let Ok(mut call) = raw.call(LIST_RELEASES, message, false).await {
                        call.body.send_reset(h2::Reason::CANCEL);
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Requests that arrive whole, and are taken back while they are worked on.
    async fn sent_and_reset(self, lane: usize, release: v1::Release) {
        let evidence = documents(lane, &release);
        // Encodings of the same message one after the other are one that has the fields of both.
        let evidence = v1::CreateReleaseRequest { evidence, ..Default::default() }.encode_to_vec();
        let mut number = 0;
        loop {
            let raw = self.dial(65_535).await;
            while !raw.is_over() {
                number += 1;
                self.count();
                let mut request = build(&format!("reset{lane}"), number, 1).encode_to_vec();
                request.extend_from_slice(&evidence);
                let message = framed(&request, request.len());
                if let Ok(mut call) = raw.call(CREATE_RELEASE, message, true).await {
                    sleep(Duration::from_millis(30)).await;
                    call.body.send_reset(h2::Reason::CANCEL);
                }
            }
        }
    }

    async fn lists(self) {
        loop {
            let channel = self.connect().await;
            let mut client = client::releases(channel);
            let list = v1::ListReleasesRequest { page_size: 200, ..Default::default() };
            for _ in 0..1_000 {
                self.count();
                let _ = client.list_releases(list.clone()).await;
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn requests(self, lane: usize, wanted: Wanted, files: usize) {
        let artifacts: Vec<_> = (0..files).map(|file| artifact(&format!("f{file}"), &[1])).collect();
        let mut sequence = 0;
        loop {
            let channel = self.connect().await;
            let mut client = client::releases(channel);
            for _ in 0..1_000 {
                sequence += 1;
                let name = format!("{wanted:?}{lane}").to_lowercase();
                let (product, request) = match wanted {
                    Wanted::Forbidden => ("forbidden", build(&name, sequence, 1)),
                    Wanted::Database => ("forbidden", database(&name, sequence, 1)),
                    Wanted::Waiting => ("waiting", build(&name, sequence, 1)),
                    Wanted::Permitted => ("suite", build(&name, sequence, 1)),
                };
                let artifacts = artifacts.clone();
                let request = v1::CreateReleaseRequest { product: product.into(), artifacts, ..request };
                self.count();
                let created = client.create_release(request).await;
                sleep(Duration::from_millis(10)).await;
                if let (Wanted::Waiting, Ok(release)) = (wanted, created) {
                    let release_id = release.into_inner().release_id;
                    let _ = client.cancel_release(v1::CancelReleaseRequest { release_id }).await;
                }
            }
        }
    }

    async fn documents(self, lane: usize, release: v1::Release) {
        let documents = documents(lane, &release);
        loop {
            let channel = self.connect().await;
            let mut client = client::releases(channel);
            for document in &documents {
                let evidence = vec![document.clone()];
                let request = v1::AddEvidenceRequest { release_id: release.release_id.clone(), evidence };
                self.count();
                let _ = client.add_evidence(request).await;
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn silent(self) {
        let address = address_of(&self.profile);
        let mut open = VecDeque::new();
        loop {
            for _ in 0..8 {
                if let Ok(Ok(socket)) = timeout(Duration::from_secs(1), TcpStream::connect(address)).await {
                    self.count();
                    open.push_back(socket);
                }
                if open.len() > 800 {
                    drop(open.pop_front());
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn handshakes(self) {
        loop {
            let attempt: Result<_, Refused> = handshake_as_nobody(&self.profile).await;
            if let Ok(mut tls) = attempt {
                self.count();
                let _ = timeout(Duration::from_secs(1), tls.read(&mut [0; 16])).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn slow_reader(self, site: std::net::SocketAddr) {
        loop {
            if let Ok(mut socket) = TcpStream::connect(site).await {
                self.count();
                for byte in b"GET /checkpoint HTTP/1.1\r\n" {
                    if socket.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    sleep(Duration::from_millis(500)).await;
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn fast_reader(self, site: std::net::SocketAddr) {
        loop {
            if let Ok(mut socket) = TcpStream::connect(site).await {
                self.count();
                let asked =
                    socket.write_all(b"GET /checkpoint HTTP/1.1\r\nHost: log\r\nConnection: close\r\n\r\n");
                if asked.await.is_ok() {
                    let _ = timeout(Duration::from_secs(1), socket.read_to_end(&mut Vec::new())).await;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Each takes the place of the one before, and of the node itself.
    async fn streams(self) {
        let status = v1::NodeStatus { state: "ready".into(), ..Default::default() };
        let hello = v1::Hello { version: "thief".into(), status: Some(status), ..Default::default() };
        let hello = v1::NodeMessage { message: Some(v1::node_message::Message::Hello(hello)) };
        loop {
            let channel = self.connect().await;
            self.count();
            let up =
                tokio_stream::StreamExt::chain(tokio_stream::iter([hello.clone()]), tokio_stream::pending());
            if let Ok(down) = client::nodes(channel).attach(up).await {
                let mut down = down.into_inner();
                let _ = timeout(Duration::from_millis(50), async {
                    while let Ok(Some(_)) = down.message().await {}
                })
                .await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Made ahead: what they cost their maker is no part of the attack.
fn documents(lane: usize, release: &v1::Release) -> Vec<Bytes> {
    let content = rutli_wire::convert::release_from_content(release.content.clone().unwrap()).unwrap();
    let document = |number| {
        let names: Vec<_> = (0..3_000).map(|name| format!("{lane} {number} {name} {:030}", 0)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        evidence::tested(&content, STRANGER, &names, &[]).into()
    };
    (0..DOCUMENTS).map(document).collect()
}
