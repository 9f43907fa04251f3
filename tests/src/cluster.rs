//! A deployment of real processes on loopback: real sockets, real files, real certificates, a real ceremony.
//!
//! Parties go by their short names: `coordinator`, `vendor-1`, `supervisor-1`. Every wait is bounded and says what it
//! waited for. When a test fails, the last lines of every process are printed. Nothing is left behind but, with
//! `RUTLI_TEST_KEEP` set, the folder.

pub mod process;
pub mod seal;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rutli::{
    client::{self, Profile},
    init::{self, Written, deployment::Deployment},
    status::is_passing,
};
use rutli_release::ReleaseKey;
use rutli_wire::v1::{
    self, ceremony_service_client::CeremonyServiceClient, custodian_service_client::CustodianServiceClient,
    node_service_client::NodeServiceClient, release_service_client::ReleaseServiceClient,
};
use tempfile::TempDir;
use tonic::{Response, Status, transport::Channel};

use self::process::{Process, program};
use crate::disk::SmallDisk;

/// What a machine that is busy with something else may need for a step that takes a moment. Only a test that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name, threshold and nodes of each organisation; nodes are `NAME-1`, `NAME-2`, …
    pub organisations: Vec<(&'static str, u16, u16)>,
    /// `RUTLI_LOG` of every process.
    pub log: &'static str,
    /// The `[limits]` of the coordinator, as TOML.
    pub limits: &'static str,
    /// Minutes that the first ceremony may take.
    pub deadline_minutes: u32,
    /// Nodes whose age identity is encrypted, with its passphrase.
    pub sealed: Vec<(&'static str, &'static str)>,
    /// Parties whose data lie on a small disk of their own, with its size in MiB.
    pub small_disks: Vec<(&'static str, u32)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            organisations: vec![("vendor", 2, 3), ("supervisor", 1, 1)],
            log: "info",
            limits: "",
            deadline_minutes: 60,
            sealed: Vec::new(),
            small_disks: Vec::new(),
        }
    }
}

/// A running deployment.
pub struct Cluster {
    processes: BTreeMap<String, Process>,
    disks: BTreeMap<String, SmallDisk>,
    written: Written,
    url: String,
    folder: Option<TempDir>,
}

/// Polls until `probe` succeeds. Panics with its last complaint when `within` is over.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = tokio::time::Instant::now() + within;
    let mut last = "nothing yet".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(complaint)) => last = complaint,
            Err(_) => panic!("{what}: not within {within:?}; last: {last} (and the last try hung)"),
        }
        if tokio::time::Instant::now() >= deadline {
            panic!("{what}: not within {within:?}; last: {last}");
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
}

/// Repeats a call that is safe to repeat while the other side is away or not ready; gives its answer, or its refusal.
pub async fn repeated<T>(mut call: impl AsyncFnMut() -> Result<Response<T>, Status>) -> Result<T, Status> {
    eventually("the other side answers", PATIENCE, async || match call().await {
        Err(status) if is_passing(&status) => Err(status.to_string()),
        answer => Ok(answer.map(Response::into_inner)),
    })
    .await
}

/// A folder with its access rights; the pipes in it are left out.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

/// Reverts a folder to a copy of it.
pub fn put_back(copy: &Path, folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    copy_folder(copy, folder);
}

impl Cluster {
    /// Everything started, the key `release` made, all nodes ready.
    pub async fn start(setup: Setup) -> Self {
        let cluster = Self::without_key(setup).await;
        cluster.make_key().await;
        cluster.ready().await;
        cluster
    }

    /// Everything started and attached, but no key yet.
    pub async fn without_key(setup: Setup) -> Self {
        let mut cluster = Self::written(&setup);
        let parties: Vec<String> = cluster.processes.keys().cloned().collect();
        for party in &parties {
            cluster.start_party(party);
        }
        cluster.attached().await;
        cluster
    }

    /// Files are there, and nothing runs.
    #[must_use]
    pub fn written(setup: &Setup) -> Self {
        let folder = short_folder();
        let sockets = folder.path().join("s");
        fs::create_dir(&sockets).unwrap();
        let text = description(setup, free_ports(), &sockets);
        let deployment = Deployment::parse(&text).unwrap();
        let written = init::write(&deployment, &folder.path().join("d"), false).unwrap();
        append(&written.coordinator, setup.limits);
        let mut cluster = Self {
            processes: BTreeMap::new(),
            disks: BTreeMap::new(),
            url: deployment.url(),
            written,
            folder: Some(folder),
        };
        for (node, passphrase) in &setup.sealed {
            seal::encrypt(&cluster.node_folder(node).join("seal.txt"), passphrase);
        }
        for (party, mebibytes) in &setup.small_disks {
            let data = cluster.config(party).with_file_name("data");
            cluster.disks.insert((*party).to_owned(), SmallDisk::new(&data, *mebibytes));
        }
        for party in cluster.parties() {
            let process = cluster.process_of(&party, setup.log);
            cluster.processes.insert(party, process);
        }
        cluster
    }

    /// Short names of all nodes, in the order of their organisations.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.written.nodes.iter().map(|node| node.id.node.to_string()).collect()
    }

    /// Where everything is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().map(TempDir::path).unwrap()
    }

    /// What `rutli init` wrote.
    #[must_use]
    pub fn files(&self) -> &Written {
        &self.written
    }

    /// The coordinator's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The coordinator's address, as `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("https://")
    }

    /// `node.toml` or `coordinator.toml` of a party.
    #[must_use]
    pub fn config(&self, party: &str) -> PathBuf {
        if party == "coordinator" {
            return self.written.coordinator.clone();
        }
        let node = self.written.nodes.iter().find(|node| node.id.node.as_str() == party);
        node.unwrap_or_else(|| panic!("no node {party}")).config.clone()
    }

    /// The folder of a node.
    #[must_use]
    pub fn node_folder(&self, node: &str) -> PathBuf {
        self.config(node).parent().unwrap().to_owned()
    }

    /// The data folder of a party, as this process sees it.
    #[must_use]
    pub fn data(&self, party: &str) -> PathBuf {
        let folder = self.config(party).with_file_name("data");
        self.disks.get(party).map_or(folder.clone(), |disk| disk.seen_from_outside(&folder))
    }

    /// The custodian's socket of a node.
    #[must_use]
    pub fn socket(&self, node: &str) -> PathBuf {
        let node = self.written.nodes.iter().find(|known| known.id.node.as_str() == node);
        node.unwrap().socket.clone()
    }

    /// The profile of a client.
    #[must_use]
    pub fn profile(&self, client: &str) -> PathBuf {
        let client = self.written.clients.iter().find(|known| known.name == client);
        client.unwrap().profile.clone()
    }

    /// The process of a party.
    pub fn process(&mut self, party: &str) -> &mut Process {
        self.processes.get_mut(party).unwrap_or_else(|| panic!("no party {party}"))
    }

    /// The disk of a party that has one of its own.
    pub fn disk(&mut self, party: &str) -> (&mut SmallDisk, u32) {
        let pid = self.process(party).pid().unwrap();
        (self.disks.get_mut(party).unwrap(), pid)
    }

    /// Starts a party that does not run.
    pub fn start_party(&mut self, party: &str) {
        self.process(party).start();
    }

    /// Ends a party with SIGTERM; it must end without an error.
    pub fn stop(&mut self, party: &str) {
        let status = self.process(party).stop();
        assert!(status.success(), "{party} ended with {status}");
    }

    /// Ends a party with SIGKILL.
    pub fn kill(&mut self, party: &str) {
        self.process(party).kill();
    }

    /// A connection to the coordinator as one of the clients, as soon as it serves.
    pub async fn channel(&self, client: &str) -> Channel {
        let profile = Profile::read(&self.profile(client)).unwrap();
        eventually("the coordinator serves", PATIENCE, async || {
            profile.connect().await.map_err(|failure| failure.to_string())
        })
        .await
    }

    /// The release service, as the pipeline.
    pub async fn pipeline(&self) -> ReleaseServiceClient<Channel> {
        client::releases(self.channel("pipeline").await)
    }

    /// The node service, as the operator.
    pub async fn operator(&self) -> NodeServiceClient<Channel> {
        client::nodes(self.channel("operator").await)
    }

    /// The ceremony service, as the auditor.
    pub async fn auditor(&self) -> CeremonyServiceClient<Channel> {
        client::ceremonies(self.channel("auditor").await)
    }

    /// The custodian's service of a node, as soon as it serves.
    pub async fn custodian(&self, node: &str) -> CustodianServiceClient<Channel> {
        let socket = self.socket(node);
        let channel = eventually(&format!("{node} serves its custodian"), PATIENCE, async || {
            client::connect_socket(&socket).await.map_err(|failure| failure.to_string())
        })
        .await;
        client::custodian(channel)
    }

    /// A node's own word about itself.
    pub async fn status(&self, node: &str) -> v1::StatusResponse {
        repeated(async || self.custodian(node).await.status(v1::StatusRequest {}).await).await.unwrap()
    }

    /// A node as the coordinator sees it.
    pub async fn node_info(&self, node: &str) -> Option<v1::NodeInfo> {
        let listed =
            repeated(async || self.operator().await.list_nodes(v1::ListNodesRequest {}).await).await.unwrap();
        listed.nodes.into_iter().find(|info| info.node.ends_with(&format!("/{node}")))
    }

    /// Waits until the coordinator sees a node like this.
    pub async fn until_node(
        &self,
        node: &str,
        what: &str,
        like: impl Fn(&v1::NodeInfo) -> bool,
    ) -> v1::NodeInfo {
        eventually(&format!("{node} is {what}"), PATIENCE, async || match self.node_info(node).await {
            Some(info) if like(&info) => Ok(info),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until every node is attached.
    pub async fn attached(&self) {
        for node in self.nodes() {
            self.until_node(&node, "attached", |info| info.connected).await;
        }
    }

    /// Waits until every node can sign.
    pub async fn ready(&self) {
        for node in self.nodes() {
            self.until_ready(&node).await;
        }
    }

    /// Waits until a node can sign.
    pub async fn until_ready(&self, node: &str) -> v1::NodeInfo {
        self.until_node(node, "ready", |info| info.connected && info.state == "ready" && info.commitments > 0)
            .await
    }

    /// Runs the ceremony of `proposal.json`: the first node's custodian proposes, all others join.
    pub async fn make_key(&self) {
        let ceremony = self.propose().await;
        for node in self.nodes().iter().skip(1) {
            self.join(node, &ceremony).await;
        }
        self.key_everywhere().await;
    }

    /// The first node's custodian proposes what is in `proposal.json`.
    pub async fn propose(&self) -> v1::Ceremony {
        let proposal = fs::read(&self.written.proposal).unwrap();
        let first = self.nodes().into_iter().next().unwrap();
        let request = v1::ProposeCeremonyRequest { proposal };
        // Two proposals of one second are one and the same.
        eventually("the ceremony is proposed", PATIENCE, async || {
            let answer = self.custodian(&first).await.propose_ceremony(request.clone()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
        })
        .await
    }

    /// A node's custodian joins a ceremony, once the node has heard of it.
    pub async fn join(&self, node: &str, ceremony: &v1::Ceremony) {
        let words = self.phrase_at(node, ceremony).await;
        let request = v1::JoinCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone(), words };
        self.custodian(node).await.join_ceremony(request).await.unwrap();
    }

    /// The verification phrase, once a node knows it: all nodes must be online and unsealed for that.
    pub async fn phrase_at(&self, node: &str, ceremony: &v1::Ceremony) -> String {
        let known = |ceremony: &v1::Ceremony| !ceremony.words.is_empty();
        self.ceremony_at(node, &ceremony.ceremony_id, "ready to be compared", known).await.words
    }

    /// Waits until a ceremony is like this at a node.
    pub async fn ceremony_at(
        &self,
        node: &str,
        id: &str,
        what: &str,
        like: impl Fn(&v1::Ceremony) -> bool,
    ) -> v1::Ceremony {
        let request = v1::GetCeremonyRequest { ceremony_id: id.to_owned() };
        eventually(&format!("the ceremony is {what} at {node}"), PATIENCE, async || {
            let mut custodian = self.custodian(node).await;
            match custodian.get_ceremony(request.clone()).await.map(tonic::Response::into_inner) {
                Ok(ceremony) if like(&ceremony) => Ok(ceremony),
                other => Err(format!("{other:?}")),
            }
        })
        .await
    }

    /// Waits until all nodes and the coordinator have the key `release`.
    pub async fn key_everywhere(&self) {
        for node in self.nodes() {
            eventually(&format!("{node} has the key"), PATIENCE, async || {
                let keys = self.status(&node).await.keys;
                if keys.iter().any(|key| key.name == "release") { Ok(()) } else { Err(format!("{keys:?}")) }
            })
            .await;
        }
        self.release_key().await;
    }

    /// The public key, once the coordinator has it.
    pub async fn release_key(&self) -> ReleaseKey {
        let bytes = eventually("the coordinator has the key", PATIENCE, async || {
            let answer = self.auditor().await.list_keys(v1::ListKeysRequest {}).await;
            let keys = answer.map_err(|status| status.to_string())?.into_inner().keys;
            keys.into_iter()
                .find(|key| key.name == "release")
                .map(|key| key.public_key)
                .ok_or("no such key".to_owned())
        })
        .await;
        ReleaseKey::from_bytes(&bytes.try_into().unwrap()).unwrap()
    }

    /// Looks at a party's files while its process stands still: none of them changes, comes or goes meanwhile.
    pub fn while_frozen<T>(&mut self, parties: &[String], look: impl FnOnce(&Self) -> T) -> T {
        parties.iter().for_each(|party| self.process(party).freeze());
        let seen = look(self);
        parties.iter().for_each(|party| self.process(party).thaw());
        seen
    }

    /// Everything that a party has logged.
    #[must_use]
    pub fn log(&self, party: &str) -> String {
        let log = fs::read(self.processes.get(party).unwrap().log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn parties(&self) -> Vec<String> {
        std::iter::once("coordinator".to_owned()).chain(self.nodes()).collect()
    }

    fn process_of(&self, party: &str, log: &str) -> Process {
        let name = if party == "coordinator" { "rutli-coordinator" } else { "rutli-signer" };
        let command: Vec<OsString> = vec![program(name).into(), "--config".into(), self.config(party).into()];
        let command = self.disks.get(party).map_or(command.clone(), |disk| disk.wrap(command));
        let environment = vec![("RUTLI_LOG".into(), log.into()), ("RUST_BACKTRACE".into(), "1".into())];
        // A small disk holds the log too, as a disk that is full does in the field: that must not hurt either.
        let folder = if self.disks.contains_key(party) { self.data(party) } else { self.folder().to_owned() };
        Process::new(command, environment, folder.join(format!("{party}.log")))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (party, process) in &self.processes {
                eprintln!("--- {party} (pid {:?}), last lines:\n{}", process.pid(), process.last_lines(40));
            }
        }
        self.processes.clear();
        self.disks.clear();
        if std::env::var_os("RUTLI_TEST_KEEP").is_some()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("--- kept: {}", folder.keep().display());
        }
    }
}

/// A socket's path has 107 bytes at most, whatever `TMPDIR` says.
fn short_folder() -> TempDir {
    let mut builder = tempfile::Builder::new();
    builder.prefix("rutli-");
    let folder = std::env::temp_dir();
    if folder.as_os_str().len() > 40 { builder.tempdir_in("/tmp") } else { builder.tempdir() }.unwrap()
}

/// Ports that nobody has, for the coordinator and the log. Each test process has a loopback address of its own, and no
/// cluster of one process gets what another one of it had, so that nobody can take them between this look and the
/// coordinator's start.
fn free_ports() -> [SocketAddr; 2] {
    static TAKEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
    let listen = || {
        let listener = TcpListener::bind((own, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        listener.unwrap().local_addr().unwrap()
    };
    let fresh = || {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::repeat_with(listen).find(|address| taken.insert(*address)).unwrap()
    };
    [fresh(), fresh()]
}

fn description(setup: &Setup, [listen, log]: [SocketAddr; 2], sockets: &Path) -> String {
    let organisations: String = setup
        .organisations
        .iter()
        .map(|(name, threshold, count)| {
            let nodes: Vec<_> = (1..=*count).map(|number| format!("\"{name}-{number}\"")).collect();
            format!(
                "[[organisation]]\nname = \"{name}\"\nthreshold = {threshold}\nnodes = [{}]\n",
                nodes.join(", ")
            )
        })
        .collect();
    format!(
        r#"
name = "test"
sockets = "{sockets}"
[coordinator]
listen = "{listen}"
[log]
listen = "{log}"
{organisations}
[ceremony]
name = "genesis"
deadline_minutes = {deadline}
[clients]
pipelines = ["pipeline", "pipeline-2"]
operators = ["operator"]
custodians = ["custodian"]
auditors = ["auditor"]
[[allow]]
class = "product-build"
product = "suite"
unattested = true
embargo = true
[[allow]]
class = "av-database"
product = "avdb"
unattested = true
"#,
        sockets = sockets.display(),
        deadline = setup.deadline_minutes,
    )
}

fn append(config: &Path, limits: &str) {
    if !limits.is_empty() {
        let text = fs::read_to_string(config).unwrap();
        fs::write(config, format!("{text}\n[limits]\n{limits}\n")).unwrap();
    }
}
