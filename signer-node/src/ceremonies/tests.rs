//! Four nodes of two organisations with a relay in memory: real journals, key stores and signers, no sockets.

use std::sync::atomic::{AtomicUsize, Ordering};

use age::x25519;
use rutli_keys::{
    KeyName, Purpose,
    ceremony::{KeySpec, NodeSpec, OrganisationSpec, Proposal, ProposalSpec},
};
use rutli_wire::link::{Condition, FromNode};
use tokio_util::sync::CancellationToken;

use rutli_signer_secrets::CannotLock;

use super::*;
use crate::{
    config::Seal,
    node,
    sign::Signer,
    testing::{PATIENCE, nothing_permitted, seal_identity, sealed_gate},
};

const PASSPHRASE: &str = "correct horse battery staple";

/// What of a node survives its process.
struct Disk {
    me: NodeId,
    identity: Arc<IdentityKey>,
    folder: tempfile::TempDir,
    seal: Seal,
    /// So many keys the signer will not take.
    failing: Arc<AtomicUsize>,
}

/// A node's process.
struct Process {
    ceremonies: CeremoniesHandle,
    node: NodeHandle,
    journal: Journal,
    outbox: mpsc::Receiver<FromNode>,
}

/// Four nodes, the coordinator's memory, and how far each process has it.
struct Cluster {
    disks: Vec<Disk>,
    processes: Vec<Process>,
    relayed: Vec<(usize, CeremonyEnvelope)>,
    delivered: Vec<usize>,
    encrypted: bool,
}

impl Disk {
    fn new(organisation: &str, name: &str, encrypted: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = x25519::Identity::generate();
        let identity_file = folder.path().join("seal.txt");
        let text = age::secrecy::ExposeSecret::expose_secret(&secret.to_string()).to_owned();
        let mut recipient = age::scrypt::Recipient::new(SecretString::from(PASSPHRASE.to_owned()));
        recipient.set_work_factor(limits::MIN_SCRYPT_LOG_N);
        let file =
            if encrypted { age::encrypt(&recipient, text.as_bytes()).unwrap() } else { text.into_bytes() };
        std::fs::write(&identity_file, file).unwrap();
        let identity = Arc::new(IdentityKey::generate(&mut OsRng));
        seal_identity(&folder.path().join("identity.age"), &identity, &secret.to_public());
        Self {
            me: NodeId::new(organisation, name).unwrap(),
            identity,
            seal: Seal { recipient: secret.to_public(), identity_file },
            folder,
            failing: Arc::default(),
        }
    }

    async fn start(&self, peers: &BTreeMap<NodeId, IdentityPublic>) -> Process {
        let keys = Arc::new(KeyStore::open(self.folder.path(), self.seal.clone()).unwrap());
        let (journal, recovered) = Journal::open(&self.folder.path().join("node.sqlite")).await.unwrap();
        let identity = IdentityFile::new(
            self.folder.path().join("identity.age"),
            self.seal.recipient.clone(),
            self.identity.public(),
        );
        let gate = sealed_gate(&self.me, &self.identity.public());
        let mut signer =
            Signer::new(self.me.clone(), nothing_permitted(), recovered.marks, gate, recovered.paused);
        let unsealed = keys.opener().unwrap().map(|opener| identity.open(opener).unwrap());
        for roster in keys.rosters().unwrap() {
            signer.install_sealed(roster).unwrap();
        }
        let node = node::start(signer, journal.clone(), recovered.newest_at, recovered.counts).unwrap();
        let (front, mut events) = node.behind();
        let (behind, failing) = (node.clone(), Arc::clone(&self.failing));
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                let has_keys = match &event {
                    NodeEvent::Install(..) => true,
                    NodeEvent::Unseal(_, keys, _) => !keys.is_empty(),
                    _ => false,
                };
                let fails = has_keys
                    && failing
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                        .is_ok();
                match event {
                    NodeEvent::Install(_, answer) | NodeEvent::Unseal(_, _, answer) if fails => {
                        let problem = CannotLock::from(region::Error::UnmappedRegion);
                        answer.send(Err(problem.into())).unwrap();
                    }
                    event => _ = behind.send(event).await,
                }
            }
        });
        let ceremonies = Ceremonies::start(
            self.me.clone(),
            identity,
            peers.clone(),
            journal.clone(),
            keys,
            front,
            unsealed,
        );
        let ceremonies = ceremonies.await.unwrap().spawn();
        let (sender, outbox) = mpsc::channel(limits::OUTBOX);
        let stream = Stream { id: StreamId(1), outbox: sender, end: CancellationToken::new() };
        ceremonies.opened(stream).await;
        Process { ceremonies, node, journal, outbox }
    }
}

impl Cluster {
    async fn new(encrypted: bool) -> Self {
        let names = [
            ("supervisor", "supervisor-1"),
            ("vendor", "vendor-1"),
            ("vendor", "vendor-2"),
            ("vendor", "vendor-3"),
        ];
        let disks: Vec<_> = names.iter().map(|(org, name)| Disk::new(org, name, encrypted)).collect();
        let mut cluster =
            Self { disks, processes: Vec::new(), relayed: Vec::new(), delivered: vec![0; 4], encrypted };
        let peers = cluster.peers();
        for disk in &cluster.disks {
            cluster.processes.push(disk.start(&peers).await);
        }
        if encrypted {
            for process in &cluster.processes {
                process.unseal().await;
            }
        }
        cluster
    }

    fn peers(&self) -> BTreeMap<NodeId, IdentityPublic> {
        self.disks.iter().map(|disk| (disk.me.clone(), disk.identity.public())).collect()
    }

    /// The node's process is killed and started again; the coordinator replays all it has.
    async fn restart(&mut self, index: usize) {
        let peers = self.peers();
        let process = self.processes.remove(index);
        // Answered after the probe at its start: nobody writes to the journal while the next process opens it.
        process.node.report().await.unwrap();
        // Nothing is said to the process: its handles are dropped, and what it had in memory is gone.
        drop(process);
        let process = self.disks[index].start(&peers).await;
        self.processes.insert(index, process);
        self.delivered[index] = 0;
    }

    /// Passes on what has come until nothing more comes. `restarts` are made in turn, one after each round.
    async fn relay(&mut self, restarts: &mut Vec<usize>) {
        let mut quiet = 0;
        while quiet < 2 {
            let mut moved = false;
            for (index, process) in self.processes.iter_mut().enumerate() {
                while let Ok(message) = process.outbox.try_recv() {
                    if let FromNode::Ceremony(envelope) = message {
                        self.relayed.push((index, envelope));
                    }
                }
            }
            for (index, process) in self.processes.iter().enumerate() {
                for (_, envelope) in self.relayed[self.delivered[index]..].iter() {
                    process.ceremonies.received(envelope.clone()).await;
                    moved = true;
                }
                self.delivered[index] = self.relayed.len();
                // Answered after all that came before it.
                process.ceremonies.list().await.unwrap();
            }
            quiet = if moved { 0 } else { quiet + 1 };
            if let Some(index) = restarts.pop() {
                self.restart(index).await;
                if self.encrypted {
                    self.processes[index].unseal().await;
                }
                quiet = 0;
            }
        }
    }

    fn text(&self, keys: &[&str]) -> Vec<u8> {
        let nodes = |organisation: &str| -> Vec<_> {
            self.disks
                .iter()
                .filter(|disk| disk.me.organisation.as_str() == organisation)
                .map(|disk| serde_json::json!({"name": disk.me.node.as_str(), "identity": disk.identity.public().to_string()}))
                .collect()
        };
        let keys: Vec<_> =
            keys.iter().map(|name| serde_json::json!({"name": name, "purpose": "release"})).collect();
        serde_json::json!({"name": "genesis", "deadline_minutes": 60, "keys": keys, "organisations": [
            {"name": "vendor", "threshold": 2, "nodes": nodes("vendor")},
            {"name": "supervisor", "threshold": 1, "nodes": nodes("supervisor")},
        ]})
        .to_string()
        .into_bytes()
    }

    /// Proposed by the first node, seen by all.
    async fn propose(&mut self, keys: &[&str]) -> CeremonyId {
        let text = self.text(keys);
        let proposed = self.processes[0].ceremonies.wish(Wish::Propose(text)).await.unwrap();
        assert_eq!(proposed.state(), v1::CeremonyState::Proposed);
        self.relay(&mut Vec::new()).await;
        proposed.ceremony_id.parse().unwrap()
    }

    async fn join_all(&self, id: CeremonyId) {
        for index in 1..self.processes.len() {
            self.join(index, id).await.unwrap();
        }
    }

    /// With the phrase that the first node shows.
    async fn join(&self, index: usize, id: CeremonyId) -> Result<v1::Ceremony, Error> {
        let phrase = self.processes[0].ceremonies.wish(Wish::Get(id)).await.unwrap().words;
        self.processes[index].ceremonies.wish(Wish::Join(id, phrase)).await
    }

    async fn states(&self, id: CeremonyId) -> Vec<v1::CeremonyState> {
        let mut states = Vec::new();
        for process in &self.processes {
            states.push(process.ceremonies.wish(Wish::Get(id)).await.unwrap().state());
        }
        states
    }

    async fn assert_keys(&self, count: usize) {
        let mut rosters = BTreeSet::new();
        for process in &self.processes {
            let keys = process.ceremonies.keys().await.unwrap();
            assert_eq!(keys.len(), count);
            rosters.insert(keys.iter().map(|key| key.roster_hash.clone()).collect::<Vec<_>>());
            let status = process.node.report().await.unwrap().status;
            assert_eq!((status.condition, status.keys.len()), (Condition::Ready, count));
        }
        assert_eq!(rosters.len(), 1, "all have the same rosters");
    }
}

impl Process {
    async fn unseal(&self) {
        let wrong = self.ceremonies.unseal(SecretString::from("wrong".to_owned())).await.unwrap_err();
        assert!(matches!(wrong, Error::Passphrase { .. }), "{wrong}");
        self.ceremonies.unseal(SecretString::from(PASSPHRASE.to_owned())).await.unwrap();
    }

    async fn seeds(&self) -> i64 {
        self.count("SELECT count(*) FROM ceremonies WHERE seed IS NOT NULL").await
    }

    async fn count(&self, query: &'static str) -> i64 {
        let mut write = self.journal.write().await.unwrap();
        let row = sqlx::query(query);
        let count = sqlx::Row::get(&row.fetch_one(write.connection().unwrap()).await.unwrap(), 0);
        write.commit().await.unwrap();
        count
    }
}

#[tokio::test]
async fn a_ceremony_makes_keys_at_all_nodes() {
    let mut cluster = Cluster::new(false).await;
    let id = cluster.propose(&["release", "second"]).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Proposed; 4]);
    let shown = cluster.processes[1].ceremonies.wish(Wish::Get(id)).await.unwrap();
    assert_eq!(shown.words.split(' ').count(), 8);
    let wrong =
        cluster.processes[1].ceremonies.wish(Wish::Join(id, "some other words".into())).await.unwrap_err();
    assert!(matches!(wrong, Error::WrongWords(_)), "{wrong}");
    let reversed: Vec<_> = shown.words.split(' ').rev().collect();
    let wrong = cluster.processes[1].ceremonies.wish(Wish::Join(id, reversed.join(" "))).await.unwrap_err();
    assert!(matches!(wrong, Error::WrongWords(_)), "{wrong}");
    cluster.join_all(id).await;
    let again = cluster.join(1, id).await.unwrap_err();
    assert!(again.to_string().contains("already joined"), "{again}");
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
    cluster.assert_keys(2).await;
    for process in &cluster.processes {
        assert_eq!(process.seeds().await, 0);
        let shown = process.ceremonies.wish(Wish::Get(id)).await.unwrap();
        assert_eq!((shown.keys.len(), shown.nodes[0].step.as_str()), (2, "certify"));
    }
    // Names are for life.
    let text = cluster.text(&["release"]);
    let taken = cluster.processes[2].ceremonies.wish(Wish::Propose(text)).await.unwrap_err();
    assert!(matches!(taken, Error::KeyExists(_)), "{taken}");
    // All of it is still there after a restart.
    for index in 0..4 {
        cluster.restart(index).await;
    }
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
    cluster.assert_keys(2).await;
}

#[tokio::test]
async fn every_node_restarts_in_every_step() {
    let mut cluster = Cluster::new(false).await;
    let text = cluster.text(&["release"]);
    let proposed = cluster.processes[0].ceremonies.wish(Wish::Propose(text)).await.unwrap();
    let id = proposed.ceremony_id.parse().unwrap();
    let mut restarts: Vec<usize> = (0..3).flat_map(|_| [0, 1, 2, 3]).collect();
    cluster.relay(&mut restarts).await;
    cluster.join_all(id).await;
    let mut restarts: Vec<usize> = (0..8).flat_map(|_| [0, 1, 2, 3]).collect();
    cluster.relay(&mut restarts).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
    cluster.assert_keys(1).await;
}

#[tokio::test]
async fn a_sealed_node_looks_on_and_goes_on_when_it_is_unsealed() {
    let mut cluster = Cluster::new(true).await;
    let id = cluster.propose(&["release"]).await;
    cluster.restart(1).await;
    let sealed = cluster.join(1, id).await.unwrap_err();
    assert!(matches!(sealed, Error::Sealed), "{sealed}");
    cluster.processes[1].unseal().await;
    cluster.join_all(id).await;
    cluster.restart(1).await;
    cluster.encrypted = false;
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Running; 4]);
    cluster.processes[1].unseal().await;
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
    cluster.assert_keys(1).await;
    let unsealed =
        cluster.processes[1].ceremonies.unseal(SecretString::from("x".to_owned())).await.unwrap_err();
    assert!(matches!(unsealed, Error::NotSealed), "{unsealed}");
    cluster.restart(1).await;
    assert_eq!(cluster.processes[1].node.status().condition, Condition::Sealed);
    cluster.processes[1].unseal().await;
    cluster.assert_keys(1).await;
}

#[tokio::test]
async fn a_node_without_keys_says_that_it_is_sealed() {
    let disk = Disk::new("vendor", "vendor-1", true);
    let process = disk.start(&BTreeMap::new()).await;
    let status = process.node.report().await.unwrap().status;
    assert_eq!(status.condition, Condition::Sealed);
    assert!(status.reason.contains("`unseal`"), "{}", status.reason);
    assert_eq!(process.node.status(), status);
    process.unseal().await;
    assert_eq!(process.node.status().condition, Condition::Ready);
    let plain = Disk::new("vendor", "vendor-1", false).start(&BTreeMap::new()).await;
    assert_eq!(plain.node.status().condition, Condition::Ready);
}

#[tokio::test]
async fn a_refused_proposal_leaves_nothing() {
    let mut cluster = Cluster::new(true).await;
    let id = cluster.propose(&["release"]).await;
    let text = cluster.text(&["other", "release"]);
    let taken = cluster.processes[0].ceremonies.wish(Wish::Propose(text.clone())).await.unwrap_err();
    assert!(matches!(&taken, Error::NameInUse(name) if name.as_str() == "release"), "{taken}");
    assert_eq!(cluster.processes[0].ceremonies.list().await.unwrap().len(), 1);
    cluster.restart(0).await;
    let sealed = cluster.processes[0].ceremonies.wish(Wish::Propose(text)).await.unwrap_err();
    assert!(matches!(sealed, Error::Sealed), "{sealed}");
    let listed = cluster.processes[0].ceremonies.list().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.ceremony_id.as_str()).collect::<Vec<_>>(), [id.to_string()]);
}

#[tokio::test]
async fn a_node_that_has_joined_aborts_once_it_is_unsealed() {
    let mut cluster = Cluster::new(true).await;
    let id = cluster.propose(&["release"]).await;
    cluster.join(1, id).await.unwrap();
    cluster.relay(&mut Vec::new()).await;
    cluster.restart(1).await;
    let reason = || "the wrong day".to_owned();
    let joined = cluster.processes[1].ceremonies.wish(Wish::Reject(id, reason())).await.unwrap_err();
    assert!(joined.to_string().contains("by abort instead"), "{joined}");
    let sealed = cluster.processes[1].ceremonies.wish(Wish::Abort(id, reason())).await.unwrap_err();
    assert!(matches!(sealed, Error::Sealed), "{sealed}");
    cluster.processes[1].unseal().await;
    cluster.processes[1].ceremonies.wish(Wish::Abort(id, reason())).await.unwrap();
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Aborted; 4]);
    for process in &cluster.processes {
        let shown = process.ceremonies.wish(Wish::Get(id)).await.unwrap();
        assert!(shown.reason.contains("vendor/vendor-1 ended it: the wrong day"), "{}", shown.reason);
        assert_eq!(process.seeds().await, 0);
    }
    // It is still so after the node has started again.
    cluster.restart(1).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Aborted; 4]);
}

#[tokio::test]
async fn a_key_that_the_signer_cannot_take_is_taken_later() {
    for encrypted in [false, true] {
        let mut cluster = Cluster::new(encrypted).await;
        let id = cluster.propose(&["release", "second"]).await;
        cluster.disks[1].failing.store(usize::MAX, Ordering::SeqCst);
        cluster.join_all(id).await;
        cluster.relay(&mut Vec::new()).await;
        assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
        assert!(cluster.processes[1].node.status().keys.is_empty());
        // It fails once more: in the next second, or at the next `unseal`.
        cluster.disks[1].failing.store(1, Ordering::SeqCst);
        if encrypted {
            let unseal = || SecretString::from(PASSPHRASE.to_owned());
            cluster.processes[1].ceremonies.unseal(unseal()).await.unwrap_err();
            cluster.processes[1].ceremonies.unseal(unseal()).await.unwrap();
        }
        let begun = tokio::time::Instant::now();
        while cluster.processes[1].node.status().keys.len() < 2 {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        cluster.assert_keys(2).await;
    }
}

#[tokio::test]
async fn a_custodians_no_ends_it_for_everybody() {
    let mut cluster = Cluster::new(false).await;
    let rejected = cluster.propose(&["release"]).await;
    let reason = || "not with these members".to_owned();
    cluster.processes[2].ceremonies.wish(Wish::Reject(rejected, reason())).await.unwrap();
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(rejected).await, [v1::CeremonyState::Aborted; 4]);
    let shown = cluster.processes[0].ceremonies.wish(Wish::Get(rejected)).await.unwrap();
    assert!(shown.reason.contains("vendor/vendor-2 rejected it: not with these members"), "{}", shown.reason);

    let aborted = cluster.propose(&["release"]).await;
    assert_ne!(aborted, rejected);
    cluster.join(1, aborted).await.unwrap();
    cluster.processes[1].ceremonies.wish(Wish::Abort(aborted, reason())).await.unwrap();
    cluster.relay(&mut vec![0, 1, 2, 3]).await;
    assert_eq!(cluster.states(aborted).await, [v1::CeremonyState::Aborted; 4]);
    for process in &cluster.processes {
        assert_eq!(process.seeds().await, 0);
        assert_eq!(process.ceremonies.list().await.unwrap().len(), 2);
    }
    let over = cluster.join(3, aborted).await.unwrap_err();
    assert!(over.to_string().contains("it has ended: vendor/vendor-1 ended it"), "{over}");
}

#[tokio::test]
async fn strangers_and_wrong_times_are_not_followed() {
    let cluster = Cluster::new(false).await;
    let now = Reading::now().unix_s();
    let spec = |disks: &[&Disk], proposed_at: u64, deadline: u64| ProposalSpec {
        deadline,
        keys: vec![KeySpec { name: KeyName::new("release").unwrap(), purpose: Purpose::Release }],
        name: KeyName::new("genesis").unwrap(),
        organisations: disks
            .iter()
            .map(|disk| OrganisationSpec {
                name: disk.me.organisation.clone(),
                nodes: vec![NodeSpec { identity: disk.identity.public(), name: disk.me.node.clone() }],
                threshold: 1,
            })
            .collect(),
        proposed_at,
    };
    let (supervisor, vendor) = (&cluster.disks[0], &cluster.disks[1]);
    let impostor = Disk::new("vendor", "vendor-1", false);
    let stranger = Disk::new("stranger", "stranger-1", false);
    let proposals = [
        (supervisor, spec(&[supervisor, &impostor], now, now + 60)),
        (supervisor, spec(&[supervisor, &stranger], now, now + 60)),
        (vendor, spec(&[vendor], now, now + 60)),
        (supervisor, spec(&[supervisor, vendor], now + 3_600, now + 7_200)),
        (supervisor, spec(&[supervisor, vendor], now - 60, now - 1)),
    ];
    let ceremonies = &cluster.processes[0].ceremonies;
    for (proposer, spec) in proposals {
        let proposal = Proposal::new(spec).unwrap();
        let signed = SignedProposal::sign(proposal, proposer.me.clone(), &proposer.identity).unwrap();
        ceremonies.received(CeremonyEnvelope { proposal: Some(signed.encode()), messages: Vec::new() }).await;
        let mut forged = signed.encode();
        let last = forged.len() - 10;
        forged[last] ^= 1;
        ceremonies
            .received(CeremonyEnvelope { proposal: Some(forged), messages: vec![b"rubbish".to_vec()] })
            .await;
    }
    assert!(ceremonies.list().await.unwrap().is_empty());
    let sound = Proposal::new(spec(&[supervisor, vendor], now, now + 60)).unwrap();
    let signed = SignedProposal::sign(sound, vendor.me.clone(), &vendor.identity).unwrap();
    ceremonies.received(CeremonyEnvelope { proposal: Some(signed.encode()), messages: Vec::new() }).await;
    assert_eq!(ceremonies.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_overdue_ceremony_ends_by_itself() {
    let mut cluster = Cluster::new(false).await;
    let now = Reading::now().unix_s();
    let mut spec: ProposalSpec = {
        let proposal = propose::read(&cluster.text(&["release"]), now).unwrap();
        ProposalSpec {
            deadline: proposal.deadline(),
            keys: proposal.keys().to_vec(),
            name: proposal.name().clone(),
            organisations: proposal.organisations().to_vec(),
            proposed_at: now,
        }
    };
    let (me, identity) = (cluster.disks[1].me.clone(), Arc::clone(&cluster.disks[1].identity));
    // On a busy machine four seconds may be over before anybody can join.
    let mut joined = None;
    for seconds in [4, 20, 200] {
        spec.proposed_at = Reading::now().unix_s();
        spec.deadline = spec.proposed_at + seconds;
        let proposal = Proposal::new(spec.clone()).unwrap();
        let signed = SignedProposal::sign(proposal, me.clone(), &identity).unwrap();
        let id = signed.proposal().id();
        let envelope = CeremonyEnvelope { proposal: Some(signed.encode()), messages: Vec::new() };
        for process in &cluster.processes {
            process.ceremonies.received(envelope.clone()).await;
        }
        cluster.relay(&mut Vec::new()).await;
        if cluster.join(2, id).await.is_ok() {
            joined = Some(id);
            break;
        }
    }
    let id = joined.expect("nobody can join");
    let begun = tokio::time::Instant::now();
    let is_over = |state: &v1::CeremonyState| *state == v1::CeremonyState::Aborted;
    while !cluster.states(id).await.iter().all(is_over) {
        assert!(begun.elapsed() < 2 * PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shown = cluster.processes[2].ceremonies.wish(Wish::Get(id)).await.unwrap();
    assert!(shown.reason.contains("deadline has passed"), "{}", shown.reason);
    assert_eq!(cluster.processes[2].seeds().await, 0);
}

#[tokio::test]
async fn nothing_is_sent_before_it_is_durable() {
    let mut cluster = Cluster::new(false).await;
    let id = cluster.propose(&["release"]).await;
    cluster.join_all(id).await;
    // All have joined; the last node hears of it while its disk is full.
    for process in &mut cluster.processes {
        while let Ok(FromNode::Ceremony(envelope)) = process.outbox.try_recv() {
            cluster.relayed.push((0, envelope));
        }
    }
    let process = &mut cluster.processes[3];
    let mut write = process.journal.write().await.unwrap();
    sqlx::query("PRAGMA query_only = ON").execute(write.connection().unwrap()).await.unwrap();
    write.commit_unsealed().await.unwrap();
    let messages = cluster.relayed.iter().flat_map(|(_, envelope)| envelope.messages.clone()).collect();
    process.ceremonies.received(CeremonyEnvelope { proposal: None, messages }).await;
    process.ceremonies.list().await.unwrap();
    // The failed connection is thrown away, and the next second brings a new one; it may have begun already.
    let message = match process.outbox.try_recv() {
        Ok(message) => {
            let commits = process.count("SELECT count(*) FROM ceremony_messages WHERE step = 'commit'").await;
            assert_eq!(commits, 1, "the commit waits for the disk");
            Some(message)
        }
        Err(_) => tokio::time::timeout(PATIENCE, process.outbox.recv()).await.unwrap(),
    };
    let Some(FromNode::Ceremony(envelope)) = message else { panic!("expected its commit") };
    cluster.relayed.push((3, envelope));
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
}

/// The phrase needs a nonce of every node: while one is sealed nobody can compare, or join.
#[tokio::test]
async fn there_is_no_phrase_while_a_node_is_sealed() {
    let mut cluster = Cluster::new(true).await;
    cluster.restart(3).await;
    let id = cluster.propose(&["release"]).await;
    let shown = cluster.processes[1].ceremonies.wish(Wish::Get(id)).await.unwrap();
    assert_eq!(shown.words, "");
    assert_eq!(shown.waiting_for, ["vendor/vendor-3: online and unsealed, for the verification phrase"]);
    let early = cluster.join(1, id).await.unwrap_err();
    assert!(matches!(&early, Error::NoPhrase(missing) if missing == "vendor/vendor-3"), "{early}");
    assert!(matches!(cluster.join(3, id).await.unwrap_err(), Error::Sealed));
    cluster.processes[3].unseal().await;
    cluster.relay(&mut Vec::new()).await;
    cluster.join_all(id).await;
    cluster.relay(&mut Vec::new()).await;
    assert_eq!(cluster.states(id).await, [v1::CeremonyState::Done; 4]);
}
