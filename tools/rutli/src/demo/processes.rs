//! The demo's processes: started, watched, and stopped on every path.
//!
//! Each has a process group of its own, so that Ctrl-C in the terminal reaches the demo alone, which then stops them in
//! order. Should the demo itself be dropped in the middle, the runtime kills them.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use super::{LOOK_INTERVAL, STEP_TIMEOUT, Workplace, people::People, step};
use crate::{
    client::Profile,
    init::{
        self, Written,
        deployment::{ClientRole, Deployment as Description},
    },
    report::Failure,
};

/// The coordinator's name among the processes; nodes have theirs, `organisation/node`.
pub const COORDINATOR: &str = "coordinator";

/// Attempts to find a port that stays free until the coordinator has it.
const PORT_ATTEMPTS: u32 = 5;

/// How long a process may take to end in order.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of a dead process's log that are shown.
const LOG_LINES: usize = 10;

/// A deployment that was started.
pub struct Deployment {
    /// Where the coordinator listens.
    pub address: SocketAddr,
    /// Its files.
    pub written: Written,
}

impl Deployment {
    /// The profile of the client with a role.
    pub fn profile(&self, role: ClientRole) -> Result<Profile, Failure> {
        Profile::read(&self.profile_path(role)?)
    }

    /// Where it lies.
    pub fn profile_path(&self, role: ClientRole) -> Result<PathBuf, Failure> {
        let client = self.written.clients.iter().find(|client| client.role == role);
        Ok(client.ok_or_else(|| Failure::failed("the deployment lacks a client"))?.profile.clone())
    }
}

/// Everything that was started and has to be stopped.
#[derive(Default)]
pub struct Processes {
    running: Vec<Running>,
}

struct Running {
    name: String,
    pid: u32,
    log: std::path::PathBuf,
    child: Child,
}

impl Processes {
    /// Writes a deployment for a free port and starts all of it.
    pub async fn start(&mut self, workplace: &Workplace, people: &People<'_>) -> Result<Deployment, Failure> {
        let mut attempt = 1;
        let deployment = loop {
            let [address, log] = free_addresses().await?;
            let sockets = workplace.sockets.as_ref().map(|dir| dir.path());
            let description = Description::parse(&description(address, log, sockets))?;
            let written = init::write(&description, &workplace.deployment, attempt > 1)?;
            people.write_rules(&written)?;
            let deployment = Deployment { address, written };
            match self.start_coordinator(workplace, &deployment).await {
                Ok(()) => break deployment,
                // Somebody took a port between looking and listening.
                Err(_) if attempt < PORT_ATTEMPTS && (in_use(address).await || in_use(log).await) => {
                    attempt += 1;
                }
                Err(failure) => return Err(failure),
            }
        };
        step(&format!(
            "the coordinator listens on {}; its log is read at {}",
            deployment.address, deployment.written.log.url
        ));
        for node in &deployment.written.nodes {
            let name = node.id.to_string();
            self.spawn(workplace, &name, "rutli-signer", &node.config)?;
        }
        Ok(deployment)
    }

    /// Ends when a process did, which is then forgotten; with the end of its log.
    pub async fn next_death(&mut self) -> Failure {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let deaths = self.running.iter_mut().map(|running| {
            Box::pin(async {
                let status = running.child.wait().await;
                died(
                    &running.name,
                    &running.log,
                    &status.map_or_else(|error| error.to_string(), |status| status.to_string()),
                )
            })
        });
        let (failure, index, _) = futures::future::select_all(deaths).await;
        self.running.remove(index);
        failure
    }

    /// The process id.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.iter().find(|running| running.name == name).map(|running| running.pid)
    }

    /// Stops everything: nodes first, so that they say goodbye to a coordinator that listens.
    pub async fn stop(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let (coordinator, nodes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|running| running.name == COORDINATOR);
        futures::future::join_all(nodes.into_iter().map(Running::stop)).await;
        futures::future::join_all(coordinator.into_iter().map(Running::stop)).await;
        step("stopped all processes");
    }

    async fn start_coordinator(
        &mut self,
        workplace: &Workplace,
        deployment: &Deployment,
    ) -> Result<(), Failure> {
        let profile = deployment.profile(ClientRole::Operator)?;
        self.spawn(workplace, COORDINATOR, "rutli-coordinator", &deployment.written.coordinator)?;
        let Some(running) = self.running.last_mut() else {
            return Err(Failure::failed("the coordinator did not start"));
        };
        let listens = async {
            while profile.connect().await.is_err() {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let failure = tokio::select! {
            status = running.child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                died(COORDINATOR, &running.log, &status)
            }
            result = tokio::time::timeout(STEP_TIMEOUT, listens) => match result {
                Ok(()) => return Ok(()),
                Err(_) => Failure::failed("the coordinator does not listen"),
            },
        };
        self.running.clear();
        Err(failure)
    }

    fn spawn(
        &mut self,
        workplace: &Workplace,
        name: &str,
        program: &str,
        config: &Path,
    ) -> Result<(), Failure> {
        let log = workplace.logs.join(format!("{}.log", name.replace('/', "-")));
        let cannot =
            |error: std::io::Error| Failure::failed(format!("cannot start {program} for {name}: {error}"));
        let output = File::create(&log).map_err(cannot)?;
        let child = Command::new(workplace.program(program))
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(cannot)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let pid = child.id().ok_or_else(|| died(name, &log, "at once"))?;
        self.running.push(Running { name: name.to_owned(), pid, log, child });
        Ok(())
    }
}

impl Running {
    /// Asks politely, then not.
    async fn stop(mut self) {
        // `id` is gone once the process was reaped: a process id of our own is never anybody else's here.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            step(&format!("{} did not stop in time; killing it", self.name));
            let _ = self.child.kill().await;
        }
    }
}

fn died(name: &str, log: &Path, status: &str) -> Failure {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
    Failure::failed(format!("{name} ended ({status}):\n{tail}")).help(format!("its log is {}", log.display()))
}

/// Two at a time, so that they differ.
async fn free_addresses() -> Result<[SocketAddr; 2], Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("no free port on loopback: {error}"));
    let first = TcpListener::bind("127.0.0.1:0").await.map_err(cannot)?;
    let second = TcpListener::bind("127.0.0.1:0").await.map_err(cannot)?;
    Ok([first.local_addr().map_err(cannot)?, second.local_addr().map_err(cannot)?])
}

async fn in_use(address: SocketAddr) -> bool {
    TcpListener::bind(address).await.is_err()
}

/// The demo's deployment. What is free in it is `sandbox`; the rest needs evidence, see [`People::write_rules`].
fn description(address: SocketAddr, log: SocketAddr, sockets: Option<&Path>) -> String {
    let sockets = sockets.map_or_else(String::new, |dir| {
        format!("sockets = {}\n", toml::Value::from(dir.to_string_lossy().as_ref()))
    });
    format!(
        r#"name = "demo"
{sockets}
[coordinator]
listen = "{address}"

[log]
listen = "{log}"

[[organisation]]
name = "vendor"
threshold = 2
nodes = ["vendor-1", "vendor-2", "vendor-3"]

[[organisation]]
name = "supervisor"
threshold = 1
nodes = ["supervisor-1"]

[[allow]]
class = "product-build"
product = "sandbox"
unattested = true

[[allow]]
class = "av-database"
product = "sandbox"
unattested = true
"#
    )
}

/// The demo's deployment, which nobody starts.
#[cfg(test)]
pub fn for_tests() -> Description {
    let (address, log) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
    Description::parse(&description(address, log, None)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_allows_what_is_promised_and_nothing_else() {
        let (address, log) = ("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        let sockets = Some(Path::new("/tmp/a \"b"));
        let deployment = Description::parse(&description(address, log, sockets)).unwrap();
        let allowed: Vec<_> =
            deployment.allow.iter().map(|allow| format!("{} {}", allow.class, allow.product)).collect();
        assert_eq!(allowed, ["product-build sandbox", "av-database sandbox"]);
        assert_eq!(deployment.sockets.as_deref(), Some(Path::new("/tmp/a \"b")));
        assert_eq!(deployment.log_url().unwrap().as_str(), "http://127.0.0.1:2");
        Description::parse(&description(address, log, None)).unwrap();
    }

    #[test]
    fn a_dead_process_shows_the_end_of_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        std::fs::write(&log, (1..=30).map(|line| format!("line {line}\n")).collect::<String>()).unwrap();
        let failure = died("x", &log, "exit status: 1");
        assert!(
            failure.problem.ends_with("line 30")
                && failure.problem.contains("line 21\n")
                && !failure.problem.contains("line 20\n")
        );
    }
}
