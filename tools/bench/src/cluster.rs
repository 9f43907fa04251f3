//! The real thing, as processes: one coordinator and its nodes on loopback, with keys from a ceremony.
//!
//! Built with `rutli init` and the custodians' sockets, as an operator would. Every process is stopped by its id on
//! all paths: [`Cluster::stop`] asks first, and dropping a cluster kills.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rutli::{
    ceremonies::{self, Place},
    client::{self, Profile},
    init::{self, Written, deployment::Deployment},
    report::Failure,
};
use rutli_release::ReleaseKey;
use rutli_wire::v1;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::{
    args::Organisation,
    clock::Stopwatch,
    work::{AV_PRODUCT, PRODUCTS},
};

/// A process must be up, and a ceremony over, within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that was asked to end has so long.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Lines of a process's log that an error shows.
const LOG_LINES: usize = 15;

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    /// The coordinator first, then the nodes.
    pub processes: Vec<Process>,
    /// How the pipeline reaches the coordinator.
    pub pipeline: Profile,
    /// The key that signs.
    pub key: ReleaseKey,
    operator: Channel,
    nodes: usize,
    /// Sockets' paths are short; the folder goes last.
    _sockets: tempfile::TempDir,
}

/// One pipeline asks for more in a minute than a mass rebuild does in an hour.
const HOURLY: &str = "[limits]\nmax_requests_per_hour = 100000000\nmax_mebibytes_per_hour = 1048576\n";

/// One process of the service.
#[derive(Debug)]
pub struct Process {
    /// `coordinator`, or the node's name.
    pub name: String,
    /// Its id.
    pub pid: u32,
    child: Child,
    log: PathBuf,
}

impl Cluster {
    /// Sets a deployment up in `dir` (made if need be, and it must not hold one already), starts it, and makes its key.
    ///
    /// # Errors
    /// With the end of the log of a process that did not come up.
    pub async fn start(bin: &Path, dir: &Path, organisations: &[Organisation]) -> Result<Self> {
        let sockets = tempfile::Builder::new().prefix("rutli-bench-").tempdir()?;
        let deployment = describe(organisations, free_ports()?, sockets.path())?;
        let deployment = Deployment::parse(&toml::to_string(&deployment)?).map_err(failure)?;
        let written = init::write(&deployment, dir, false).map_err(failure)?;
        let config = fs::read_to_string(&written.coordinator)?;
        fs::write(&written.coordinator, format!("{config}\n{HOURLY}"))?;
        let logs = dir.join("logs");
        fs::create_dir_all(&logs)?;

        let mut processes =
            vec![spawn(bin, "rutli-coordinator", "coordinator", &written.coordinator, &logs)?];
        for node in &written.nodes {
            processes.push(spawn(bin, "rutli-signer", node.id.node.as_str(), &node.config, &logs)?);
        }
        match assemble(&written, &mut processes).await {
            Ok((pipeline, operator, key)) => {
                Ok(Self { nodes: written.nodes.len(), processes, pipeline, key, operator, _sockets: sockets })
            }
            Err(error) => {
                let logs: Vec<String> = processes.iter().map(Process::last_words).collect();
                Err(error.context(format!(
                    "the service did not come up; its processes last said:\n{}",
                    logs.join("\n")
                )))
            }
        }
    }

    /// Waits until every node's commitments do not grow any more: everybody is at rest.
    ///
    /// # Errors
    /// A node is gone, or it never ends.
    pub async fn rest(&self) -> Result<()> {
        let watch = Stopwatch::start();
        let mut last = Vec::new();
        let mut steady = 0;
        while steady < 4 {
            ensure!(
                watch.elapsed() < PATIENCE,
                "the nodes' pools are not full after {} s",
                PATIENCE.as_secs()
            );
            let nodes = self.list_nodes().await?;
            let stock: Vec<u32> = nodes.iter().map(|node| node.commitments).collect();
            let ready =
                nodes.len() == self.nodes && nodes.iter().all(|node| node.connected && node.commitments > 0);
            steady = if ready && stock == last { steady + 1 } else { 0 };
            last = stock;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// What the coordinator says of its nodes.
    ///
    /// # Errors
    /// What it answers.
    pub async fn list_nodes(&self) -> Result<Vec<v1::NodeInfo>> {
        Ok(client::nodes(self.operator.clone()).list_nodes(v1::ListNodesRequest {}).await?.into_inner().nodes)
    }

    /// Asks every process to end, and kills those that do not.
    pub async fn stop(mut self) {
        for process in &self.processes {
            process.signal(Signal::SIGTERM);
        }
        for process in &mut self.processes {
            if tokio::time::timeout(STOP_PATIENCE, process.child.wait()).await.is_err() {
                eprintln!(
                    "warning: {} (process {}) did not end when asked; killing it",
                    process.name, process.pid
                );
                // An error means that it has ended meanwhile.
                let _ = process.child.kill().await;
            }
        }
    }

    /// What a process said last, if one of them ended by itself.
    pub fn casualty(&mut self) -> Option<String> {
        self.processes.iter_mut().find_map(|process| {
            let status = process.child.try_wait().ok().flatten()?;
            Some(format!("{} ended: {status}\n{}", process.name, process.last_words()))
        })
    }
}

impl Process {
    fn signal(&self, signal: Signal) {
        // The child was not waited for yet, so its id is not another's.
        if let (Some(_), Ok(pid)) = (self.child.id(), i32::try_from(self.pid)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
        format!("--- {} ({})\n{}", self.name, self.log.display(), tail.join("\n"))
    }
}

/// A failure of the command line's library as an error here.
fn failure(failure: Failure) -> anyhow::Error {
    anyhow!("{failure}")
}

/// The deployment, as `rutli init` reads it.
fn describe(organisations: &[Organisation], [port, log_port]: [u16; 2], sockets: &Path) -> Result<Value> {
    let sockets = sockets.to_str().context("the temporary folder's name is not UTF-8")?;
    let organisations: Vec<Value> = organisations
        .iter()
        .map(|organisation| {
            let nodes: Vec<String> =
                (1..=organisation.nodes).map(|number| format!("{}-{number}", organisation.name)).collect();
            json!({ "name": organisation.name, "threshold": organisation.threshold, "nodes": nodes })
        })
        .collect();
    let mut allow: Vec<Value> = PRODUCTS
        .iter()
        .map(|product| json!({ "class": "product-build", "product": product, "unattested": true }))
        .collect();
    allow.push(json!({ "class": "av-database", "product": AV_PRODUCT, "unattested": true }));
    Ok(json!({
        "name": "bench",
        "sockets": sockets,
        "coordinator": { "listen": SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string() },
        "log": { "listen": SocketAddr::from((Ipv4Addr::LOCALHOST, log_port)).to_string() },
        "organisation": organisations,
        "clients": { "pipelines": ["pipeline"], "operators": ["operator"], "auditors": [] },
        "allow": allow,
    }))
}

/// Ports that are free now, for the coordinator and the log.
fn free_ports() -> Result<[u16; 2]> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both at once: they must differ.
    let (coordinator, log) = (listen()?, listen()?);
    Ok([coordinator.local_addr()?.port(), log.local_addr()?.port()])
}

fn spawn(bin: &Path, program: &str, name: &str, config: &Path, logs: &Path) -> Result<Process> {
    let path = bin.join(program);
    let log = logs.join(format!("{name}.log"));
    let file = File::create(&log)?;
    let child = Command::new(&path)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        // Ctrl-C at the terminal is for the benchmark, which then stops them.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| {
            format!(
                "cannot start {}: build it with `cargo build --release -p rutli-coordinator -p rutli-signer-node`, or say where it is with --bin",
                path.display()
            )
        })?;
    let pid = child.id().context("a process without an id")?;
    Ok(Process { name: name.to_owned(), pid, child, log })
}

/// From started processes to a key.
async fn assemble(written: &Written, processes: &mut [Process]) -> Result<(Profile, Channel, ReleaseKey)> {
    let profile = |name: &str| -> Result<Profile> {
        let files =
            written.clients.iter().find(|client| client.name == name).context("a client is missing")?;
        Profile::read(&files.profile).map_err(failure)
    };
    let (pipeline, operator) = (profile("pipeline")?, profile("operator")?);
    let operator =
        until(processes, "the coordinator's port", async || operator.connect().await.map_err(failure))
            .await?;
    let mut nodes = Vec::new();
    for node in &written.nodes {
        let channel = until(processes, "a node's socket", async || {
            client::connect_socket(&node.socket).await.map_err(failure)
        });
        nodes.push(channel.await?);
    }
    until(processes, "the nodes' links", async || {
        let attached =
            client::nodes(operator.clone()).list_nodes(v1::ListNodesRequest {}).await?.into_inner().nodes;
        ensure!(
            attached.iter().filter(|node| node.connected).count() == nodes.len(),
            "not all nodes are attached"
        );
        Ok(())
    })
    .await?;
    hold_ceremony(&written.proposal, &nodes, processes).await?;
    let key = until(processes, "the ceremony's end", async || {
        let keys =
            client::ceremonies(operator.clone()).list_keys(v1::ListKeysRequest {}).await?.into_inner().keys;
        keys.into_iter().next().context("no key yet")
    })
    .await?;
    let public: [u8; 32] = key.public_key.as_slice().try_into().context("a public key has 32 bytes")?;
    Ok((pipeline, operator, ReleaseKey::from_bytes(&public)?))
}

/// The first custodian proposes, the others compare the phrase and join.
async fn hold_ceremony(proposal: &Path, nodes: &[Channel], processes: &mut [Process]) -> Result<()> {
    let (first, others) = nodes.split_first().context("a deployment without nodes")?;
    let proposed =
        ceremonies::propose(&Place::Node(first.clone()), proposal, false).await.map_err(failure)?.json;
    let text =
        |field: &str| proposed.get(field).and_then(Value::as_str).map(str::to_owned).context("no ceremony");
    let id = text("ceremony_id")?;
    let words = ceremonies::with_phrase(&Place::Node(first.clone()), &id).await.map_err(failure)?.words;
    for node in others {
        let place = Place::Node(node.clone());
        until(processes, "a node's joining", async || {
            ceremonies::join(&place, Some(id.clone()), Some(words.clone())).await.map_err(failure)
        })
        .await?;
    }
    Ok(())
}

/// Tries until it works, time is up, or a process is gone.
async fn until<T>(
    processes: &mut [Process],
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        let error = match tokio::time::timeout(PATIENCE, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("no answer"),
        };
        for process in processes.iter_mut() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{} ended: {status}", process.name);
            }
        }
        if watch.elapsed() > PATIENCE {
            return Err(error.context(format!("waited {} s for {what}", PATIENCE.as_secs())));
        }
        tokio::time::sleep(LOOK).await;
    }
}
