//! From a configuration to a running node, and back.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use rutli_keys::{IdentityPublic, NodeId, Roster};
use rutli_wire::role::Party;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    backup::{self, Restored},
    ceremonies::{Ceremonies, CeremoniesHandle},
    clock::Reading,
    config::{Config, read_limited},
    custodian::{Desk, Socket},
    error::Error,
    gate::Gate,
    identity::IdentityFile,
    journal::{Journal, Recovered},
    journal_witness::{JournalWitness, Lost},
    key_store::{KeyStore, make_private_folder, sync_folder},
    limits,
    link::{Link, LinkState, tls_config},
    node,
    policy::Policy,
    rules::{Keeper, RulesHandle},
    sign::Signer,
};

/// Runs the node until the shutdown is asked for; then it says goodbye to its coordinators and returns.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    make_private_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    let identity = IdentityFile::of(&config);
    identity.read()?;
    check_certificate(&config)?;
    let keys = Arc::new(KeyStore::open(&config.data_dir, config.seal.clone())?);
    let unsealed = keys.opener()?.map(|opener| identity.open(opener)).transpose()?;
    let witness = witness(&config)?;
    let (journal, node, rules) = start_signer(&config, &witness, &keys).await?;
    let end = CancellationToken::new();
    let keeper = tokio::spawn(witness.clone().keep(journal.clone(), end.clone()));
    let ceremonies = Ceremonies::start(
        config.me.clone(),
        identity,
        config.peers.clone(),
        journal.clone(),
        keys,
        node.clone(),
        unsealed,
    )
    .await?
    .spawn();
    let socket = Socket::bind(&config.socket)?;

    let states: Vec<LinkState> = config.coordinators.iter().map(|_| LinkState::default()).collect();
    let urls = config.coordinators.iter().map(|coordinator| coordinator.url.clone());
    let desk = Desk {
        me: config.me.clone(),
        identity: config.public_identity,
        node: node.clone(),
        ceremonies: ceremonies.clone(),
        rules,
        links: urls.zip(states.iter().cloned()).collect(),
    };
    let custodian = tokio::spawn(socket.serve(desk, shutdown.clone()));
    let (me, path) = (config.me.clone(), config.socket.clone());
    let mut links = dial(config, states, &node, &ceremonies, &shutdown);
    let status = node.status();
    tracing::info!(
        node = %me,
        version = env!("CARGO_PKG_VERSION"),
        state = status.condition.as_str(),
        keys = status.keys.len(),
        socket = %path.display(),
        "up"
    );
    notify(sd_notify::NotifyState::Ready);

    let failed = tokio::select! {
        () = shutdown.cancelled() => None,
        // A thread that is gone takes its nonces with it; the service manager restarts the process.
        () = node.gone() => Some(Error::Gone("signer's thread")),
        () = ceremonies.gone() => Some(Error::Gone("ceremonies' task")),
    };
    notify(sd_notify::NotifyState::Stopping);
    shutdown.cancel();
    let farewell = async {
        while links.join_next().await.is_some() {}
        custodian.await
    };
    let stopped = tokio::time::timeout(Duration::from_millis(2 * limits::GOODBYE_MS), farewell).await;
    end.cancel();
    // It ends by itself; if it failed, the last write comes all the same.
    _ = keeper.await;
    if let Err(error) = close_journal(&journal, &witness).await {
        // As after a crash: everything is durable, in two files, and the witness may be a moment behind.
        tracing::warn!("the journal is not closed in order: {error}");
    }
    if let Some(error) = failed {
        return Err(error);
    }
    match stopped {
        Ok(Ok(served)) => served,
        // A custodian that keeps a connection open does not keep the node up.
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// The signer with all that it has on disk: journal, rosters, rules. It is sealed until the ceremonies' task, which holds the seal,
/// unseals it. From then on its rules are looked at again and again.
async fn start_signer(
    config: &Config,
    witness: &JournalWitness,
    keys: &KeyStore,
) -> Result<(Journal, node::NodeHandle, RulesHandle), Error> {
    // Before the journal: what is wrong with the rules is to be corrected first.
    let loaded = config.policy.load()?;
    loaded.rules.warnings().iter().for_each(|warning| tracing::warn!("rules: {warning}"));
    let rosters = keys.rosters()?;
    for signed in &rosters {
        check_identities(signed.roster(), &config.peers)?;
    }
    let (journal, recovered, lost) = open_journal(config, witness, !rosters.is_empty()).await?;
    let gate = open_gate(config, &journal).await?;
    let now = Reading::now().unix_s();
    let policy = Policy::new(loaded.rules, now, journal.rates(now).await?, journal.refusals().await?);
    let marks = recovered.marks.with_steps(config.steps.clone());
    let mut signer = Signer::new(config.me.clone(), policy, marks, gate, recovered.paused);
    if let Some(lost) = lost {
        signer.lose_memory(lost.reason());
    }
    for roster in rosters {
        signer.install_sealed(roster)?;
    }
    let node = node::start(signer, journal.clone(), recovered.newest_at, recovered.counts)?;
    let (keeper, rules) = Keeper::new(config.policy.clone(), loaded.look, node.clone());
    tokio::spawn(keeper.keep());
    Ok((journal, node, rules))
}

/// One task for each coordinator.
fn dial(
    config: Config,
    states: Vec<LinkState>,
    node: &node::NodeHandle,
    ceremonies: &CeremoniesHandle,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
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
    links
}

/// Replaces the content of the data folder with a backup, see [`backup::restore`]. The node must be stopped.
/// `now` in Unix seconds.
pub async fn restore(config: &Config, from: &Path, identity: &Path, now: u64) -> Result<Restored, Error> {
    make_private_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    backup::restore(config, &witness(config)?, from, identity, now).await
}

/// Says that this node was restored from a backup: from now on it neither signs nor cosigns until it has caught up with
/// its peers. The node itself must be stopped. `now` in Unix seconds.
pub async fn mark_restored(config: &Config, now: u64) -> Result<(), Error> {
    make_private_folder(&config.data_dir)?;
    let _lock = lock(&config.data_dir)?;
    let witness = witness(config)?;
    let (journal, _) = Journal::open(&journal_path(config)).await?;
    journal.set_catching_up(config.log.origin(), now).await?;
    journal.close().await?;
    // The custodian decides this: the node now catches up with what the witness knew of a later time.
    let point = journal.point().borrow().clone();
    witness.write(&point)
}

fn journal_path(config: &Config) -> PathBuf {
    config.data_dir.join("node.sqlite")
}

/// The witness of the journal, in a folder that is not reverted together with the data folder.
fn witness(config: &Config) -> Result<JournalWitness, Error> {
    let path = &config.journal_witness;
    let folder = path.parent().unwrap_or(Path::new("."));
    make_private_folder(folder)?;
    let real = |path: &Path| fs::canonicalize(path).map_err(Error::file("open", path));
    if real(folder)?.starts_with(real(&config.data_dir)?) {
        return Err(Error::WitnessInside { witness: path.clone() });
    }
    Ok(JournalWitness::new(path.clone(), config.me.clone()))
}

/// A journal that is not this node's newest has lost marks: what it permitted before, and what it would sign
/// twice. When in doubt, nothing is signed: the node is closed until its custodian restores it or goes on
/// without it, and then it catches up with its peers' view of the log.
async fn open_journal(
    config: &Config,
    witness: &JournalWitness,
    holds_keys: bool,
) -> Result<(Journal, Recovered, Option<Lost>), Error> {
    let (journal, recovered) = Journal::open(&journal_path(config)).await?;
    sync_folder(&config.data_dir)?;
    let lost = witness.lost(&journal, holds_keys).await?;
    match &lost {
        Some(lost) => {
            tracing::error!("{}", lost.reason());
            journal.set_catching_up(config.log.origin(), Reading::now().unix_s()).await?;
        }
        None => journal.accept(),
    }
    Ok((journal, recovered, lost))
}

/// The journal is one file when this returns, and its witness knows all of it.
async fn close_journal(journal: &Journal, witness: &JournalWitness) -> Result<(), Error> {
    journal.stop().await?;
    if *journal.accepted().borrow() {
        witness.write(&journal.point().borrow())?;
    }
    Ok(())
}

/// The log is the one that the configuration names: whoever changes that line says that this node shall follow another,
/// and heads are kept for each origin, so that the way back does not forget anything either.
async fn open_gate(config: &Config, journal: &Journal) -> Result<Gate, Error> {
    let origin = config.log.origin();
    let kept = journal.log(origin).await?;
    if kept.head.is_none() {
        for other in journal.other_logs(origin).await? {
            tracing::warn!(
                from = other,
                to = %origin,
                "this node followed another log until now, and knows nothing of the one that [log] key names: it takes \
                 its first head as it comes. If nobody decided that, put the key back"
            );
        }
    }
    if let Some(fork) = &kept.fork {
        tracing::error!(log = %origin, size = fork.own.head.size, "the log forked; the node stays closed until `resume`");
    }
    if kept.catching_up.is_some() {
        tracing::warn!(log = %origin, "restored: waiting for a head that the peers cosigned since");
    }
    let (log, me) = (config.log.clone(), config.me.clone());
    Ok(Gate::sealed(log, me, &config.public_identity, &config.peers, kept)?)
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

/// The members of a key are those that the configuration lists, by the same identity keys: the gate counts these peers'
/// cosignatures, and a roster of other people's nodes was made under another configuration.
fn check_identities(roster: &Roster, peers: &BTreeMap<NodeId, IdentityPublic>) -> Result<(), Error> {
    for node in roster.nodes() {
        let known = peers.get(&node.id).copied();
        if known != Some(node.identity) {
            return Err(Error::RosterIdentity {
                key: roster.key().clone(),
                node: node.id.clone(),
                roster: node.identity.to_string(),
                known: known.map_or_else(|| "no such [[peer]]".to_owned(), |known| known.to_string()),
            });
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::future::Future;

    use rustls::pki_types::ServerName;
    use rutli_keys::IdentityKey;
    use rutli_wire::link::Condition;

    use super::*;
    use crate::{
        config::{Coordinator, Seal},
        marks::{Marks, Steps},
        rules::RulesFolder,
        testing::{Authority, log_signer, nothing_permitted, seal_identity},
    };

    /// What a configuration file gives: nobody listens at its coordinator.
    fn config(folder: &Path, uri: &str) -> Config {
        let secret = age::x25519::Identity::generate();
        let identity_file = folder.join("seal.txt");
        if !identity_file.exists() {
            fs::write(&identity_file, age::secrecy::ExposeSecret::expose_secret(&secret.to_string()))
                .unwrap();
        }
        let secret: age::x25519::Identity = fs::read_to_string(&identity_file).unwrap().parse().unwrap();
        let rules = folder.join("policy");
        fs::create_dir_all(&rules).unwrap();
        let (identity, key) = (folder.join("identity.age"), IdentityKey::from_bytes(&[7; 32]));
        seal_identity(&identity, &key, &secret.to_public());
        let me = NodeId::new("vendor", "vendor-1").unwrap();
        Config {
            steps: Steps::default(),
            me: me.clone(),
            data_dir: folder.join("data"),
            journal_witness: folder.join("witness/journal"),
            socket: folder.join("node.sock"),
            identity,
            public_identity: key.public(),
            tls: Authority::new().files(folder, uri),
            seal: Seal { recipient: secret.to_public(), identity_file },
            coordinators: vec![Coordinator {
                url: "https://127.0.0.1:1".into(),
                host: "127.0.0.1".into(),
                port: 1,
                server_name: ServerName::try_from("localhost").unwrap(),
            }],
            peers: [(me, key.public())].into(),
            log: log_signer().public(),
            policy: RulesFolder::new(rules),
        }
    }

    #[test]
    fn a_roster_of_other_identities_than_the_configurations_is_refused() {
        let rehearsed = rutli_keys::rehearsal::Cast::new(
            &[("supervisor", 1, 1), ("vendor", 2, 3)],
            &["release"],
            [5; 32],
        )
        .unwrap();
        let identity = |id: &NodeId| Arc::clone(&rehearsed.identities[id]);
        let made = rehearsed.run().unwrap();
        let roster = made.rosters[0].roster();
        let peers: BTreeMap<_, _> =
            roster.nodes().map(|node| (node.id.clone(), identity(&node.id).public())).collect();
        check_identities(roster, &peers).unwrap();
        let other = IdentityKey::from_bytes(&[9; 32]);
        let problem = |peers: &BTreeMap<_, _>| check_identities(roster, peers).unwrap_err().to_string();
        for id in peers.keys() {
            let mut missing = peers.clone();
            missing.remove(id);
            assert!(problem(&missing).contains(&format!("{id}")));
            let mut changed = peers.clone();
            changed.insert(id.clone(), other.public());
            assert!(problem(&changed).contains(&other.public().to_string()));
        }
    }

    const OWN: &str = "rutli:node:vendor:vendor-1";

    async fn started(config: Config) -> (CancellationToken, impl Future<Output = Result<(), Error>>) {
        let socket = config.socket.clone();
        let shutdown = CancellationToken::new();
        let mut task = tokio::spawn(run(config, shutdown.clone()));
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            if task.is_finished() {
                panic!("{:?}", (&mut task).await);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (shutdown, async move { task.await.unwrap() })
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_runs_alone_in_its_folder_and_stops_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), OWN);
        let (shutdown, ended) = started(config.clone()).await;
        let second = run(config.clone(), CancellationToken::new()).await.unwrap_err();
        assert!(matches!(second, Error::DataInUse { .. }), "{second}");
        let elsewhere = Config { data_dir: folder.path().join("other"), ..config.clone() };
        let third = run(elsewhere, CancellationToken::new()).await.unwrap_err();
        assert!(matches!(third, Error::SocketInUse { .. }), "{third}");
        shutdown.cancel();
        ended.await.unwrap();
        assert!(!config.socket.exists());
        let (shutdown, ended) = started(config).await;
        shutdown.cancel();
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn a_foreign_certificate_or_identity_stops_it_before_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let problem =
            async |config: Config| run(config, CancellationToken::new()).await.unwrap_err().to_string();
        for uri in ["rutli:node:vendor:vendor-2", "rutli:pipeline:ci", "https://example.org"] {
            let problem = problem(config(folder.path(), uri)).await;
            assert!(problem.contains("must name this node"), "{problem}");
        }
        let mut other = config(folder.path(), OWN);
        other.public_identity = IdentityKey::from_bytes(&[8; 32]).public();
        assert!(problem(other).await.contains("the [[peer]] entry of this node has"));
        let broken = config(folder.path(), OWN);
        fs::write(&broken.tls.key, "no key").unwrap();
        assert!(problem(broken).await.contains("no usable PEM private key"));
        let broken = config(folder.path(), OWN);
        let pem = IdentityKey::from_bytes(&[7; 32]).to_pkcs8_pem().unwrap();
        fs::write(&broken.identity, pem.as_bytes()).unwrap();
        assert!(problem(broken).await.contains("is not sealed; run: age -r age1"));
    }

    /// A first start has no keys, no journal and no witness. In any other case, missing, emptied or old state
    /// is lost state, across restarts, until the custodian goes on.
    #[tokio::test]
    async fn what_is_lost_is_never_a_first_start() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), OWN);
        let (data, path) = (config.data_dir.clone(), journal_path(&config));
        make_private_folder(&data).unwrap();
        let witness = witness(&config).unwrap();
        let open = async |holds_keys| open_journal(&config, &witness, holds_keys).await.unwrap();
        let end = async |journal: Journal| close_journal(&journal, &witness).await.unwrap();
        let said = |lost: &Option<Lost>| lost.as_ref().map(ToString::to_string).unwrap_or_default();

        let (journal, _, lost) = open(false).await;
        assert_eq!(lost, None);
        journal.close().await.unwrap();
        let (_, _, lost) = open(false).await;
        assert_eq!(lost, None, "a crash before the first write of the witness");
        let (journal, _, lost) = open(true).await;
        assert!(said(&lost).contains("is empty, and this node has keys"), "{lost:?}");
        // Not accepted: the stop leaves no witness either, and the next start finds the same.
        end(journal).await;
        assert!(!witness.path().exists());
        let (journal, _, lost) = open(true).await;
        assert!(said(&lost).contains("has keys"), "over restarts: {lost:?}");
        let log = journal.log(config.log.origin()).await.unwrap();
        assert!(log.catching_up.is_some());
        journal.accept();
        end(journal).await;
        let (journal, _, lost) = open(true).await;
        assert_eq!(lost, None, "the custodian went on");
        end(journal).await;

        fs::write(&path, "").unwrap();
        let (journal, _, lost) = open(false).await;
        assert!(said(&lost).contains("has a witness of one"), "{lost:?}");
        journal.close().await.unwrap();
        let (journal, _, lost) = open(false).await;
        assert!(said(&lost).contains("has a witness of one"), "over restarts: {lost:?}");
        journal.accept();
        end(journal).await;
        for (content, expected) in
            [(None, ""), (Some(""), "cut short"), (Some("{}\nabc\n"), "checksum is wrong")]
        {
            let known = fs::read(witness.path()).unwrap();
            match content {
                Some(content) => fs::write(witness.path(), content).unwrap(),
                None => fs::remove_file(witness.path()).unwrap(),
            }
            let (journal, _, lost) = open(true).await;
            assert!(said(&lost).contains(expected) && lost.is_some(), "{lost:?}");
            end(journal).await;
            fs::write(witness.path(), known).unwrap();
        }
    }

    #[tokio::test]
    async fn a_witness_inside_of_the_data_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path(), OWN);
        fs::create_dir_all(config.data_dir.join("inside")).unwrap();
        std::os::unix::fs::symlink(config.data_dir.join("inside"), folder.path().join("link")).unwrap();
        for inside in ["data/journal", "data/inside/journal", "link/journal"] {
            config.journal_witness = folder.path().join(inside);
            let error = run(config.clone(), CancellationToken::new()).await.unwrap_err();
            assert!(matches!(error, Error::WitnessInside { .. }), "{inside}: {error}");
        }
    }

    /// A clean stop leaves one file, and a witness that knows all of it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_clean_stop_leaves_one_file_and_its_witness() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), OWN);
        let (shutdown, ended) = started(config.clone()).await;
        shutdown.cancel();
        ended.await.unwrap();
        let mut left: Vec<_> = fs::read_dir(&config.data_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort_unstable();
        assert_eq!(left, ["keys", "lock", "node.sqlite"]);
        assert!(config.journal_witness.exists());
    }

    /// `rutli-signer --config … restored`, and the start after it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_that_was_restored_says_so_until_it_has_caught_up() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), OWN);
        let (shutdown, ended) = started(config.clone()).await;
        let running = mark_restored(&config, 5_000).await.unwrap_err();
        assert!(matches!(running, Error::DataInUse { .. }), "{running}");
        shutdown.cancel();
        ended.await.unwrap();
        mark_restored(&config, 5_000).await.unwrap();
        let (journal, _, lost) = open_journal(&config, &witness(&config).unwrap(), false).await.unwrap();
        assert_eq!(lost, None, "the custodian said so");
        let gate = open_gate(&config, &journal).await.unwrap();
        journal.close().await.unwrap();
        assert_eq!(gate.state().catching_up, Some(5_000));
        let signer = Signer::new(config.me.clone(), nothing_permitted(), Marks::default(), gate, None);
        let status = signer.status();
        assert_eq!(status.condition, Condition::Closed);
        assert!(status.reason.contains("restored at 5000"), "{}", status.reason);
    }

    /// Another log is the custodian's word, and begins with nothing; what was kept of the first one stays.
    #[tokio::test]
    async fn another_origin_begins_with_nothing_and_forgets_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let first = config(folder.path(), OWN);
        make_private_folder(&first.data_dir).unwrap();
        let (journal, _, _) = open_journal(&first, &witness(&first).unwrap(), false).await.unwrap();
        let mut gate = open_gate(&first, &journal).await.unwrap();
        let entries = [crate::testing::entry(1), crate::testing::entry(2)];
        gate.take(Some(&crate::testing::log_head(&entries, 0)), std::iter::empty(), 1_000).unwrap();
        journal.record(&[], gate.unsaved().as_ref()).await.unwrap();
        let other = rutli_log::LogSigner::from_bytes(rutli_log::Origin::new("log.test/2").unwrap(), &[6; 32]);
        let second = Config { log: other.public(), ..first.clone() };
        assert_eq!(journal.other_logs(second.log.origin()).await.unwrap(), ["log.test/1"]);
        let gate = open_gate(&second, &journal).await.unwrap();
        assert_eq!(gate.size(), 0);
        assert_eq!(open_gate(&first, &journal).await.unwrap().size(), 2);
    }
}
