//! From a configuration to a running node, and back.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rutli_keys::{IdentityKey, NodeId};
use rutli_wire::role::Party;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    ceremonies::Ceremonies,
    config::{Config, read_limited},
    custodian::{Desk, Socket},
    error::Error,
    journal::Journal,
    key_store::{KeyStore, make_private_folder, sync_folder},
    limits,
    link::{Link, LinkState, tls_config},
    node,
    sign::Signer,
};

/// Runs the node until the shutdown is asked for; then it says goodbye to its coordinators and returns.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    make_private_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    let identity = read_identity(&config)?;
    check_certificate(&config)?;
    let keys = Arc::new(KeyStore::open(&config.data_dir, config.seal.clone())?);
    let opener = keys.opener()?;
    let (journal, recovered) = Journal::open(&config.data_dir.join("node.sqlite")).await?;
    sync_folder(&config.data_dir)?;

    let mut signer = Signer::new(config.me.clone(), config.allow.clone(), recovered.marks, recovered.paused);
    for roster in keys.rosters()? {
        signer.install_sealed(roster)?;
    }
    let node = node::start(signer, journal.clone(), recovered.newest_at)?;
    let ceremonies = Ceremonies::start(
        config.me.clone(),
        Arc::clone(&identity),
        config.peers.clone(),
        journal.clone(),
        keys,
        node.clone(),
        opener,
    )
    .await?
    .spawn();
    let socket = Socket::bind(&config.socket)?;

    let states: Vec<LinkState> = config.coordinators.iter().map(|_| LinkState::default()).collect();
    let urls = config.coordinators.iter().map(|coordinator| coordinator.url.clone());
    let desk = Desk {
        me: config.me.clone(),
        identity: identity.public(),
        node: node.clone(),
        ceremonies: ceremonies.clone(),
        journal,
        links: urls.zip(states.iter().cloned()).collect(),
    };
    let custodian = tokio::spawn(socket.serve(desk, shutdown.clone()));
    let names = Arc::new(AtomicU64::new(1));
    let mut links = JoinSet::new();
    for (coordinator, state) in config.coordinators.into_iter().zip(states) {
        let link = Link {
            coordinator,
            tls: config.tls.clone(),
            node: node.clone(),
            ceremonies: ceremonies.clone(),
            state,
            names: Arc::clone(&names),
        };
        links.spawn(link.keep(shutdown.clone()));
    }
    let status = node.status();
    tracing::info!(
        node = %config.me,
        version = env!("CARGO_PKG_VERSION"),
        state = status.condition.as_str(),
        keys = status.keys.len(),
        socket = %config.socket.display(),
        "up"
    );
    notify(sd_notify::NotifyState::Ready);

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        // A thread that is gone takes its nonces with it; the service manager starts the process anew.
        () = node.gone() => Some(Error::SignerGone),
    };
    notify(sd_notify::NotifyState::Stopping);
    shutdown.cancel();
    let farewell = async {
        while links.join_next().await.is_some() {}
        custodian.await
    };
    let stopped = tokio::time::timeout(Duration::from_millis(2 * limits::GOODBYE_MS), farewell).await;
    if let Some(error) = failed {
        return Err(error);
    }
    match stopped {
        Ok(Ok(served)) => served,
        // A custodian that keeps a connection open does not keep the node up.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// One process for each data folder: two would permit different things under the same marks.
fn lock(data_dir: &Path) -> Result<fs::File, Error> {
    let path = data_dir.join("lock");
    let file = fs::File::create(&path).map_err(Error::file("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::DataInUse { path: data_dir.to_path_buf() }),
        Err(fs::TryLockError::Error(source)) => Err(Error::file("lock", &path)(source)),
    }
}

/// The identity key; if the configuration lists this node among its peers, it must be the same key.
fn read_identity(config: &Config) -> Result<Arc<IdentityKey>, Error> {
    let path = &config.identity;
    let bytes = read_limited(path, limits::MAX_KEY_FILE_BYTES)?;
    let pem = std::str::from_utf8(&bytes).unwrap_or_default();
    let identity =
        IdentityKey::from_pkcs8_pem(pem).map_err(|source| Error::Identity { path: path.clone(), source })?;
    check_own_entry(&config.me, &identity, &config.peers)?;
    Ok(Arc::new(identity))
}

fn check_own_entry(
    me: &NodeId,
    identity: &IdentityKey,
    peers: &BTreeMap<NodeId, rutli_keys::IdentityPublic>,
) -> Result<(), Error> {
    match peers.get(me) {
        Some(listed) if *listed != identity.public() => Err(Error::OwnIdentity {
            me: me.clone(),
            listed: listed.to_string(),
            own: identity.public().to_string(),
        }),
        _ => Ok(()),
    }
}

/// The TLS files fit, and the certificate names this node: otherwise every coordinator would refuse it.
fn check_certificate(config: &Config) -> Result<(), Error> {
    tls_config(&config.tls)?;
    let pem = read_limited(&config.tls.certificate, limits::MAX_KEY_FILE_BYTES)?;
    let named = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| error.to_string())
        .and_then(|certificate| Party::from_certificate(&certificate).map_err(|error| error.to_string()));
    match named {
        Ok(Party::Node(node)) if node == config.me => Ok(()),
        Ok(other) => Err(Error::Certificate { problem: format!("it names {other}") }),
        Err(problem) => Err(Error::Certificate { problem }),
    }
}

/// Tells the service manager, if there is one.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
