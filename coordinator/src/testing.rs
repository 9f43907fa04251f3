//! For tests: a PKI, a running daemon, and clients of every role; in [`nodes`] a coordinator without its network.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{RecvTimeoutError, Sender},
    },
    time::Duration,
};

use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{ClientConfig, pki_types::ServerName};
use rutli_keys::{SignedRoster, rehearsal};
use rutli_log::{Hash, LogSigner, Origin};
use rutli_wire::{
    tls::{Pem, client_config},
    v1::{
        self, ceremony_service_client::CeremonyServiceClient, node_service_client::NodeServiceClient,
        release_service_client::ReleaseServiceClient,
    },
};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Clock, Config, Daemon, Result, Signals,
    clients::Clients,
    config::{Limits, Log, TlsFiles},
    log::key_entry,
    share::Owner,
    store::{CeremonyChange, CeremonyEnd, Charge, Hourly, NewKey, NewLogged, Store},
};

pub(crate) mod commitments;
pub(crate) mod nodes;

/// The time on every test's clock: 2026-11-21T10:00:00Z.
pub(crate) const NOW: u64 = 1_795_255_200;

/// An authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For the party `uri`, valid now.
    pub(crate) fn issue(&self, uri: &str) -> Identity {
        self.issue_until(uri, 4096)
    }

    /// Valid from 1975 to the given year.
    pub(crate) fn issue_until(&self, uri: &str, year: i32) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        if !uri.is_empty() {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        let server = uri.starts_with("rutli:coordinator:");
        params.extended_key_usages = vec![if server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// The log's key of all tests.
pub(crate) fn log_signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.test/1").unwrap(), &[9; 32])
}

/// A store with its log beside it.
pub(crate) async fn open_store(data_dir: &Path) -> Result<Store> {
    Store::open(data_dir, log_signer(), &data_dir.join("log")).await.map(|(store, _)| store)
}

/// A key of one node, as a ceremony makes it.
pub(crate) fn key() -> SignedRoster {
    let cast = rehearsal::Cast::new(&[("vendor", 1, 1)], &["release"], [5; 32]).unwrap();
    cast.run().unwrap().rosters.into_iter().next().unwrap()
}

/// What kill -9 leaves behind of a store, without its log's folder: the files as they are, no connection closed.
pub(crate) fn copy_of(data_dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(data_dir).unwrap().map(|file| file.unwrap().path()) {
        if file.is_file() && !file.to_str().unwrap().ends_with("-shm") {
            std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    copy
}

/// What a machine that is busy with something else may need for a step that takes a moment. Only a test that fails waits
/// so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so, which takes milliseconds.
pub(crate) async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    eventually_some(what, async || is_so().await.then_some(())).await;
}

/// Waits until there is something, which takes milliseconds.
pub(crate) async fn eventually_some<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("it does not come to this within {PATIENCE:?}: {what}"))
}

/// The clock stands still as long as this lives: whoever waits for time to pass waits for ever. Real sockets, files and
/// databases go on. Needs the test's own runtime of one thread.
pub(crate) struct StillClock {
    release: Option<Sender<()>>,
    is_over: Arc<AtomicBool>,
}

impl StillClock {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (release, held) = std::sync::mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        // A paused clock jumps to the next timer when nothing is under way; this is under way.
        tokio::task::spawn_blocking(move || {
            over.store(held.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout), Ordering::SeqCst);
        });
        Self { release: Some(release), is_over }
    }
}

impl Drop for StillClock {
    fn drop(&mut self) {
        drop(self.release.take());
        tokio::time::resume();
        let is_over = self.is_over.load(Ordering::SeqCst);
        assert!(!is_over || std::thread::panicking(), "somebody waits for time to pass");
    }
}

/// Whose shares somebody uses, by a name as `pipeline:ci`.
pub(crate) fn owner(name: &str) -> Owner {
    Owner::new(name, "CN=test authority")
}

/// What a pipeline is charged for something small.
pub(crate) fn charge(at: u64) -> Charge {
    let hourly = Hourly::new(&Limits::default());
    Charge { owner: owner("pipeline:ci"), requests: 1, bytes: 1_000, at, hourly }
}

/// How a release is logged.
pub(crate) fn new_logged() -> NewLogged {
    NewLogged { entry: b"{}".to_vec(), roster: Hash([1; 32]), deadline: NOW + 60, embargo: None }
}

/// A daemon that runs in this process.
pub(crate) struct Running {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) signals: Signals,
    task: JoinHandle<Result<()>>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_on(limits, async |data_dir| give_key(&data_dir).await).await
    }

    /// The same on data that `prepare` has laid down.
    pub(crate) async fn start_on(limits: Limits, prepare: impl AsyncFnOnce(PathBuf)) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let authority = Arc::new(Authority::new());
        let server = authority.issue("rutli:coordinator:main");
        std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        write_identity(folder.path(), &server);
        prepare(folder.path().join("data")).await;
        Self::open(folder, authority, limits).await
    }

    async fn open(folder: Arc<tempfile::TempDir>, authority: Arc<Authority>, limits: Limits) -> Self {
        let file = |name: &str| folder.path().join(name);
        let config = Config {
            release_key: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            data_dir: file("data"),
            tls: TlsFiles { ca: file("ca.pem"), certificate: file("tls.pem"), key: file("tls.key") },
            log: Log {
                origin: "log.test/1".to_owned().try_into().unwrap(),
                key: file("log.pem"),
                sigstore_key: file("log-sigstore.pem"),
                listen: "127.0.0.1:0".parse().unwrap(),
                url: "http://log.test".to_owned(),
                folder: file("data/log"),
                witness: Vec::new(),
            },
            limits,
            clients: Clients::default(),
        };
        std::fs::write(&config.log.key, log_signer().to_pkcs8_pem().unwrap().as_str()).unwrap();
        std::fs::write(&config.log.sigstore_key, nodes::sigstore().to_pkcs8_pem().unwrap().as_str()).unwrap();
        let signals = Signals::default();
        let mut tries = 0;
        let daemon = loop {
            match Daemon::open(config.clone(), Clock::new(|| NOW), signals.clone()).await {
                Ok(daemon) => break daemon,
                // The daemon before lets go of its lock when its last task is gone.
                Err(error) if tries == 200 => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            tries += 1;
        };
        let address = daemon.address();
        Self { folder, authority, address, signals, task: tokio::spawn(daemon.serve()) }
    }

    /// Stops gracefully.
    pub(crate) async fn stop(self) -> Result<()> {
        self.signals.stop.cancel();
        self.task.await.unwrap()
    }

    /// A TLS session as `identity`.
    pub(crate) async fn tls(&self, identity: &Identity) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.address, client(&self.authority, identity)).await
    }

    pub(crate) async fn channel(&self, uri: &str) -> Channel {
        let identity = self.authority.issue(uri);
        let (address, config) = (self.address, client(&self.authority, &identity));
        let connector = tower::service_fn(move |_| {
            let config = Arc::clone(&config);
            async move { connect(address, config).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
    }

    pub(crate) async fn releases(&self, uri: &str) -> ReleaseServiceClient<Channel> {
        ReleaseServiceClient::new(self.channel(uri).await)
    }

    pub(crate) async fn nodes(&self, uri: &str) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel(uri).await)
    }

    pub(crate) async fn ceremonies(&self, uri: &str) -> CeremonyServiceClient<Channel> {
        CeremonyServiceClient::new(self.channel(uri).await)
    }
}

/// A release is admitted only when there is a key to sign it with.
pub(crate) async fn give_key(data_dir: &Path) {
    open_store(data_dir).await.unwrap().ceremony(made(&key())).await.unwrap();
}

/// The end of the ceremony that made a key.
pub(crate) fn made(key: &SignedRoster) -> CeremonyChange {
    let new = NewKey {
        roster_hash: key.roster().hash().to_string(),
        name: key.roster().key().to_string(),
        signed_roster: key.encode(),
        entry: key_entry(key, NOW),
    };
    let end = CeremonyEnd { state: v1::CeremonyState::Done, at: NOW, reason: String::new(), keys: vec![new] };
    CeremonyChange {
        ceremony_id: key.roster().ceremony().to_string(),
        begun: None,
        messages: Vec::new(),
        ended: Some(end),
    }
}

pub(crate) fn write_identity(folder: &Path, identity: &Identity) {
    std::fs::write(folder.join("tls.key"), &identity.key).unwrap();
    std::fs::write(folder.join("tls.pem"), &identity.certificate).unwrap();
}

pub(crate) fn client(authority: &Authority, identity: &Identity) -> Arc<ClientConfig> {
    let pem = Pem {
        ca: authority.pem.as_bytes(),
        certificate: identity.certificate.as_bytes(),
        key: identity.key.as_bytes(),
    };
    Arc::new(client_config(pem).unwrap())
}

pub(crate) async fn connect(
    address: std::net::SocketAddr,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// Evidence by its form: a test result, another one for each name.
pub(crate) fn attestation(name: &str) -> Bytes {
    let key = log_signer().to_pkcs8_pem().unwrap();
    let signer = rutli_evidence::AttestationSigner::from_private_key(key.as_str()).unwrap();
    let file = rutli_evidence::File { name: "suite.bin".into(), sha256: [1; 32], others: None };
    let run = rutli_evidence::TestRun { passed: [name.to_owned()].into(), ..Default::default() };
    let statement = rutli_evidence::test_statement(&[file], &run).unwrap();
    rutli_evidence::sign_dsse(&statement, &signer).unwrap().into()
}

/// A request for a product build of one file.
pub(crate) fn request(request_id: &str, sequence: u64) -> v1::CreateReleaseRequest {
    v1::CreateReleaseRequest {
        request_id: request_id.into(),
        release_class: v1::ReleaseClass::ProductBuild.into(),
        product: "suite".into(),
        channel: "stable".into(),
        version: format!("1.{sequence}"),
        sequence,
        expires_at: 0,
        artifacts: vec![v1::Artifact { name: "suite.bin".into(), sha256: vec![1; 32] }],
        formats: Vec::new(),
        embargo_until: 0,
        evidence: Vec::new(),
    }
}
