//! The whole daemon, from a configuration to its end.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rutli_keys::{KeyName, NodeId, SignedRoster};
use rutli_log::{
    InvalidLogKey, LogSigner,
    entry::NodeEvent,
    sigstore::{LogUrl, SigstoreSigner},
};
use rutli_wire::{
    limits as wire_limits,
    v1::{
        self, ceremony_service_server::CeremonyServiceServer, node_service_server::NodeServiceServer,
        release_service_server::ReleaseServiceServer,
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Server, server::Router},
};
use tower::layer::util::{Identity, Stack};

use crate::{
    bounds::Bounds,
    ceremonies::Ceremonies,
    clock::Clock,
    config::Config,
    embargo,
    error::{Error, Result},
    evidence, health,
    keyring::Keyring,
    limits, listener,
    log::{self, bundles::BundleSigner, folder::LogFolder, outside::OutsideWitnesses, publisher::Publisher},
    node_link::NodeLinks,
    publish::refusal_message,
    server::{self, Api, calls::CallsLayer},
    session::{Notice, Phase, Progress, Sessions},
    sign_release::{Order, SignRelease},
    store::{Hourly, Store},
    tls_files,
    waiting::Waiting,
};

/// What comes to the daemon from outside while it runs.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Ends it, gracefully.
    pub stop: CancellationToken,
    /// Has the TLS files read again at once.
    pub reload: Arc<Notify>,
}

/// Runs until `signals.stop`, or until it cannot go on.
///
/// # Errors
/// What the operator must look after; see [`Error`].
pub async fn run(config: Config, clock: Clock, signals: Signals) -> Result<()> {
    Daemon::open(config, clock, signals).await?.serve().await
}

/// A daemon that has its store, its keys and its address, and does not serve yet.
pub struct Daemon {
    api: Api,
    config: Config,
    listener: TcpListener,
    address: SocketAddr,
    log_listener: TcpListener,
    tls: tls_files::Loaded,
    signals: Signals,
    /// Ends when the session engine has; true if that is a failure.
    engine: JoinHandle<bool>,
}

impl Daemon {
    /// Opens everything, and takes up what the store has.
    ///
    /// # Errors
    /// What the operator must look after; nothing runs then.
    pub async fn open(config: Config, clock: Clock, signals: Signals) -> Result<Self> {
        let tls = tls_files::load(&config.tls).await?;
        let log_key =
            LogSigner::from_pkcs8_pem(config.log.origin.clone(), &tls_files::secret(&config.log.key).await?)
                .map_err(|problem| Error::File {
                    path: config.log.key.clone(),
                    problem: problem.to_string(),
                })?;
        let sigstore = bundle_signer(&config).await?;
        let (store, appender) = Store::open(&config.data_dir, log_key, &config.log.folder).await?;
        let listener = listener::bind(config.listen).await?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::Listen { address: config.listen, reason: error.to_string() })?;
        let release_key = config.release_key.as_deref().and_then(|name| KeyName::new(name).ok());
        let log_listener = listener::bind(config.log.listen).await?;
        let keyring = Keyring::new(release_key.clone());
        let rosters = stored_rosters(&store).await?;
        rosters.iter().for_each(|roster| keyring.add(roster.clone()));
        let culprits = stored_culprits(&store).await?;
        let (sessions, notices) =
            Sessions::start(rosters, culprits, release_key, store.log().clone(), clock.clone());
        let waiting = Waiting::new(&config.limits);
        let carrying = carry_notices(notices, store.clone(), Arc::clone(&waiting), clock.clone());
        let stop = signals.stop.clone();
        let engine = tokio::spawn(async move {
            carrying.await;
            // Without its engine the process would admit what it never signs. It is to be started again instead. At the
            // end of the process it ends like everything else.
            let failed = !stop.is_cancelled();
            stop.cancel();
            failed
        });
        let ceremonies =
            Ceremonies::open(store.clone(), sessions.clone(), keyring.clone(), clock.clone()).await?;
        let stopping = signals.stop.clone();
        tokio::spawn(Arc::clone(&ceremonies).watch_deadlines(stopping.clone()));
        let links = Arc::new(NodeLinks {
            sessions: sessions.clone(),
            ceremonies: Arc::clone(&ceremonies),
            log: store.log().clone(),
            keyring: keyring.clone(),
            stopping: stopping.clone(),
            newest: Mutex::default(),
        });
        let lifetime_s = u64::from(config.limits.release_lifetime_hours).saturating_mul(3600);
        let order = Order::start(sessions.clone());
        let publisher = Publisher {
            store: store.clone(),
            sessions: sessions.clone(),
            keyring: keyring.clone(),
            waiting: Arc::clone(&waiting),
            clock: clock.clone(),
            sigstore,
            outside: OutsideWitnesses::start(&config.log.witness, store.log(), &stopping)?,
            appender: Some(appender),
        };
        let signing = Arc::new(SignRelease {
            store,
            sessions,
            waiting,
            clients: config.clients.clone(),
            hourly: Hourly::new(&config.limits),
            embargoes: embargo::limit(&config.limits),
            reading: evidence::reading(),
            keyring,
            clock,
            lifetime_s,
            order,
            admitting: tokio::sync::RwLock::default(),
        });
        let resumed = signing.resume().await?;
        tokio::spawn(publish_log(publisher, stopping.clone()));
        tokio::spawn(Arc::clone(&signing).end_embargoes(stopping.clone()));
        tokio::spawn(Arc::clone(&signing).resume_when_reopened(stopping.clone()));
        tracing::info!(resumed, keys = signing.keyring.all().len(), "took up where the store says it was");
        Ok(Self {
            api: Api { signing, ceremonies, links, bounds: Bounds::new(&config.limits), stopping },
            config,
            listener,
            address,
            log_listener,
            tls,
            signals,
            engine,
        })
    }

    /// Where it listens: the configured address, with the real port if that one was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is told to stop, then says goodbye and waits a little for open streams.
    ///
    /// # Errors
    /// [`Error::Serve`] if the server ends by itself.
    pub async fn serve(self) -> Result<()> {
        let Self { api, config, listener, address, log_listener, tls, signals, engine } = self;
        let stopping = signals.stop;
        let (current, configs) = watch::channel(Arc::clone(&tls.tls));
        tokio::spawn(tls_files::follow(config.tls, tls, current, signals.reload, stopping.clone()));
        let (folder, key) = (LogFolder::open(&config.log.folder)?, api.signing.store.log().key().clone());
        tokio::spawn({
            let stopping = stopping.clone();
            async move { log::web::serve(log_listener, folder, &key, stopping).await }
        });
        let connections = listener::accept(listener, configs, Arc::clone(&api.bounds), stopping.clone());
        tracing::info!(%address, "listening");
        let serving =
            routes(api)?.serve_with_incoming_shutdown(connections, stopping.clone().cancelled_owned());
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => ended,
            () = stopping.cancelled() => {
                tracing::info!("stopping");
                let patience = Duration::from_secs(limits::SHUTDOWN_SECONDS);
                // Streams that do not end are cut: all that matters is durable.
                tokio::time::timeout(patience, &mut serving).await.unwrap_or(Ok(()))
            }
        };
        if engine.is_finished() && engine.await.unwrap_or(true) {
            return Err(Error::Serve("the session engine failed; start the coordinator again".into()));
        }
        ended.map_err(|error| Error::Serve(error.to_string()))
    }
}

fn routes(api: Api) -> Result<Router<Stack<CallsLayer, Identity>>> {
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let small = limits::MAX_SMALL_MESSAGE_BYTES;
    let bounds = Arc::clone(&api.bounds);
    tokio::spawn(health::report(reporter, api.signing.store.health(), api.stopping.clone()));
    // Whoever has no business with a service is turned away before a byte of its message is read.
    let releases =
        ReleaseServiceServer::new(api.clone()).max_decoding_message_size(wire_limits::MAX_MESSAGE_BYTES);
    let releases =
        InterceptedService::new(releases, server::only(&["pipeline", "operator", "custodian", "auditor"]));
    let nodes = NodeServiceServer::new(api.clone()).max_decoding_message_size(wire_limits::MAX_MESSAGE_BYTES);
    let nodes = InterceptedService::new(nodes, server::only(&["node", "operator", "custodian", "auditor"]));
    let ceremonies =
        CeremonyServiceServer::new(api).max_decoding_message_size(limits::MAX_SMALL_MESSAGE_BYTES);
    let ceremonies =
        InterceptedService::new(ceremonies, server::only(&["pipeline", "operator", "custodian", "auditor"]));
    let calls = CallsLayer::new(Arc::clone(&bounds))?;
    let reflection = |error: tonic_reflection::server::Error| Error::Serve(error.to_string());
    Ok(Server::builder()
        .http2_keepalive_interval(Some(Duration::from_millis(wire_limits::KEEP_ALIVE_INTERVAL_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(wire_limits::KEEP_ALIVE_TIMEOUT_MS)))
        .http2_max_header_list_size(limits::MAX_HEADER_BYTES)
        .max_concurrent_streams(limits::MAX_STREAMS_PER_CONNECTION)
        .max_connection_age(Duration::from_secs(limits::CONNECTION_AGE_SECONDS))
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(limits::CONNECTION_WINDOW_BYTES)
        .timeout(Duration::from_secs(limits::CALL_TIMEOUT_SECONDS))
        .layer(calls)
        .add_service(health_service.max_decoding_message_size(small))
        .add_service(reflected().build_v1().map_err(reflection)?.max_decoding_message_size(small))
        .add_service(reflected().build_v1alpha().map_err(reflection)?.max_decoding_message_size(small))
        .add_service(releases)
        .add_service(nodes)
        .add_service(ceremonies))
}

/// What is served here: not the custodian's service, which the descriptors have too.
fn reflected() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("rutli.v1.ReleaseService")
        .with_service_name("rutli.v1.NodeService")
        .with_service_name("rutli.v1.CeremonyService")
        .with_service_name("grpc.health.v1.Health")
}

/// Publishes until the process stops, or stops it.
async fn publish_log(publisher: Publisher, stop: CancellationToken) {
    publisher.run(stop.clone()).await;
    if !stop.is_cancelled() {
        // Its disk or a computation failed it for good: nothing would be published or proved any more.
        tracing::error!("the log's publisher ended; the process stops, to be started again");
        stop.cancel();
    }
}

/// Carries what the session engine says to watchers and to the store.
async fn carry_notices(
    mut notices: mpsc::Receiver<Notice>,
    store: Store,
    waiting: Arc<Waiting>,
    clock: Clock,
) {
    while let Some(notice) = notices.recv().await {
        match notice {
            Notice::Progress(id, progress) => waiting.progress(&id, progress_message(&progress)),
            Notice::Culprit { node, reason } => {
                // Apart, for the store may be closed for a while; there are only so many nodes.
                tokio::spawn(remember_culprit(store.clone(), node, reason, clock.now()));
            }
        }
    }
}

async fn remember_culprit(store: Store, node: NodeId, reason: String, at: u64) {
    let entry = log::node_entry(&node, NodeEvent::Culprit, &reason, at);
    while let Err(error) = store.culprit(&node, Some((reason.clone(), at)), entry.clone()).await {
        match error {
            Error::StoreClosed { .. } => store.opened().await,
            other => return tracing::error!(%node, error = %other, "a culprit is not stored"),
        }
    }
}

fn progress_message(progress: &Progress) -> v1::Release {
    let state = match progress.phase {
        Phase::Queued => v1::ReleaseState::Queued,
        Phase::AwaitingQuorum => v1::ReleaseState::AwaitingQuorum,
        Phase::AwaitingEvidence => v1::ReleaseState::AwaitingEvidence,
        Phase::Signing => v1::ReleaseState::Signing,
    };
    v1::Release {
        state: state.into(),
        waiting_for: progress.waiting_for.clone(),
        refusals: progress.refusals.iter().map(refusal_message).collect(),
        signatures_done: progress.done,
        signatures_total: progress.total,
        ..v1::Release::default()
    }
}

async fn bundle_signer(config: &Config) -> Result<Arc<BundleSigner>> {
    let path = &config.log.sigstore_key;
    let wrong = |problem: String| Error::File { path: path.clone(), problem };
    let url: LogUrl = config.log.url.parse().map_err(|problem: InvalidLogKey| wrong(problem.to_string()))?;
    let pem = tls_files::secret(path).await?;
    let signer = SigstoreSigner::from_pkcs8_pem(url, &pem).map_err(|problem| wrong(problem.to_string()))?;
    BundleSigner::new(signer).map(Arc::new)
}

async fn stored_rosters(store: &Store) -> Result<Vec<SignedRoster>> {
    let broken =
        |error: rutli_keys::InvalidRoster| Error::Store { reason: format!("a stored roster: {error}") };
    store.keys().await?.iter().map(|bytes| SignedRoster::parse(bytes).map_err(broken)).collect()
}

async fn stored_culprits(store: &Store) -> Result<BTreeMap<NodeId, String>> {
    let broken =
        |error: rutli_keys::InvalidName| Error::Store { reason: format!("a stored culprit: {error}") };
    let culprits = store.culprits().await?;
    culprits.into_iter().map(|(node, reason)| Ok((node.parse().map_err(broken)?, reason))).collect()
}

#[cfg(test)]
mod tests;
