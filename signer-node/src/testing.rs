//! What unit tests of this crate share.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use age::x25519;
use rand::{RngCore as _, rngs::OsRng};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rutli_keys::{
    IdentityKey, IdentityPublic, KeyName, NodeId, Purpose, RosterHash, SignedRoster, SigningShare,
    ceremony::{CeremonyMachine, KeySpec, NodeSpec, OrganisationSpec, Output, Proposal, ProposalSpec},
};
use rutli_log::{Entry, Frontier, Hash, Head, LogSigner, Origin, Tiles, entry::RequestTerms};
use rutli_policy::Rules;
use rutli_release::{
    Class, Format, ReleaseId, Requester, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
};
use rutli_wire::link::{LogHead, LoggedEntry};

use crate::{
    ceremonies::{Ceremonies, CeremoniesHandle},
    clock::Reading,
    config::{Seal, TlsFiles},
    gate::{Gate, LogState},
    identity::IdentityFile,
    journal::Journal,
    key_store::KeyStore,
    node::{self, NodeHandle},
    policy::Policy,
    rates::RateCounter,
    refusals::Refusals,
    sign::{JournalRecord, Signer, Verdict},
};

/// What a machine that is busy with something else may need for a step that takes a moment. Only a test that fails waits
/// so long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A product build in channel `stable` with so many files, issued at second 1,000.
pub fn release(product: &str, sequence: u64, files: u8) -> VerifiedRelease {
    release_of(Class::ProductBuild, product, sequence, files)
}

/// The same of any class.
pub fn release_of(class: Class, product: &str, sequence: u64, files: u8) -> VerifiedRelease {
    UnverifiedRelease {
        class,
        product: product.into(),
        channel: "stable".into(),
        version: format!("1.0.{sequence}"),
        sequence,
        issued_at: 1_000,
        expires_at: None,
        artifacts: (0..files)
            .map(|file| UnverifiedArtifact { name: format!("file-{file}.bin"), sha256: vec![file; 32] })
            .collect(),
        formats: vec![Format::Dsse, Format::Sshsig, Format::Statement],
    }
    .verify()
    .unwrap()
}

/// What [`TestNode`] permits.
pub const SUITE: &str = r#"
@id("suite")
permit (principal, action == Action::"sign", resource)
when { resource.class == Class::"product-build" && resource.product == "suite" };
"#;

/// The files of a folder of rules with [`SUITE`] alone.
pub fn suite_rules() -> BTreeMap<String, Vec<u8>> {
    [("suite.cedar".to_owned(), SUITE.as_bytes().to_vec())].into()
}

/// By these rules, with nothing in the journal.
pub fn policy(files: &BTreeMap<String, Vec<u8>>) -> Policy {
    Policy::new(Rules::parse(files).unwrap(), 0, RateCounter::default(), Refusals::default())
}

/// A policy without rules.
pub fn nothing_permitted() -> Policy {
    policy(&BTreeMap::new())
}

/// The journal's line for a release of `suite` that was permitted.
pub fn permitted_line(sequence: u64) -> JournalRecord {
    let release = release("suite", sequence, 1);
    JournalRecord {
        at: 1_000 + sequence,
        release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
        requester: Requester::new("ci").unwrap(),
        key: KeyName::new("release").unwrap(),
        release_digest: release.digest(),
        class: release.class(),
        product: release.product().clone(),
        channel: release.channel().clone(),
        version: release.version().clone(),
        sequence,
        artifacts: 1,
        verdict: Verdict::Permitted,
        basis: None,
        refused_by: Vec::new(),
        statement: rutli_log::sha256(&release.statement()).0,
        files: release.artifacts().iter().map(|artifact| artifact.sha256).collect(),
    }
}

/// A key of an organisation with a lone node, made by its own ceremony, fresh each time.
pub fn lone_key(name: &str) -> (SignedRoster, SigningShare, NodeId) {
    let me = NodeId::new("vendor", "vendor-1").unwrap();
    let identity = Arc::new(IdentityKey::generate(&mut OsRng));
    let spec = ProposalSpec {
        deadline: 2_000,
        keys: vec![KeySpec { name: KeyName::new(name).unwrap(), purpose: Purpose::Release }],
        name: KeyName::new("genesis").unwrap(),
        organisations: vec![OrganisationSpec {
            name: me.organisation.clone(),
            nodes: vec![NodeSpec { identity: identity.public(), name: me.node.clone() }],
            threshold: 1,
        }],
        proposed_at: 1_000,
    };
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let proposal = Proposal::new(spec).unwrap();
    let mut machine = CeremonyMachine::new(proposal, me.clone(), identity, seed).unwrap();
    let outputs = machine.join().unwrap();
    let done = outputs.into_iter().find_map(|output| match output {
        Output::Done { keys } => keys.into_iter().next(),
        _ => None,
    });
    let (roster, share) = done.unwrap();
    (roster, share, me)
}

/// Of every logged request: tomorrow.
static DEADLINE: LazyLock<u64> = LazyLock::new(|| Reading::now().unix_s() + 86_400);

/// The key of the tests' log.
pub fn log_signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.test/1").unwrap(), &[5; 32])
}

/// The gate of a node that has seen nothing yet and has no peers.
pub fn gate(me: &NodeId) -> Gate {
    let identity = Arc::new(IdentityKey::from_bytes(&[7; 32]));
    Gate::new(log_signer().public(), me.clone(), identity, &BTreeMap::new(), LogState::default()).unwrap()
}

/// The gate of such a node while it is sealed.
pub fn sealed_gate(me: &NodeId, own: &IdentityPublic) -> Gate {
    Gate::sealed(log_signer().public(), me.clone(), own, &BTreeMap::new(), LogState::default()).unwrap()
}

/// The entry of a release `suite`, as asked for by `ci` for the roster of [`lone_key`].
pub fn entry_of(release: &VerifiedRelease, roster: RosterHash) -> Entry {
    let terms = RequestTerms {
        release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
        requester: Requester::new("ci").unwrap(),
        roster: Hash(*roster.as_bytes()),
        deadline: *DEADLINE,
        evidence: Vec::new(),
        embargo: None,
    };
    Entry::request(release, &terms)
}

/// Some entry.
pub fn entry(sequence: u64) -> Entry {
    entry_of(&release("suite", sequence, 1), RosterHash::from_bytes([3; 32]))
}

/// A log of these entries: the head for a node that keeps one of `from` entries.
pub fn log_head(entries: &[Entry], from: u64) -> LogHead {
    let tiles = tiles(entries);
    LogHead {
        checkpoint: log_signer().sign(head(entries)).to_note(),
        from,
        consistency: tiles.prove_consistency(from, tiles.size()).unwrap(),
    }
}

/// The entry of a request that came with these documents, for those who do not look at proofs.
pub fn entry_naming(documents: &[impl AsRef<[u8]>]) -> LoggedEntry {
    let evidence = documents.iter().map(|document| rutli_log::sha256(document.as_ref())).collect();
    LoggedEntry { evidence, ..logged(&[entry(1)], 0) }
}

/// Where an entry of that log stands.
pub fn logged(entries: &[Entry], index: u64) -> LoggedEntry {
    let tiles = tiles(entries);
    LoggedEntry {
        index,
        leaf: entries[usize::try_from(index).unwrap()].leaf_hash(),
        proof: tiles.prove_inclusion(index, tiles.size()).unwrap(),
        deadline: *DEADLINE,
        embargo: None,
        evidence: Vec::new(),
        added: Vec::new(),
    }
}

fn tiles(entries: &[Entry]) -> Tiles {
    let mut tiles = Tiles::default();
    entries.iter().for_each(|entry| tiles.push(entry.leaf_hash()));
    tiles
}

fn head(entries: &[Entry]) -> Head {
    let mut frontier = Frontier::default();
    entries.iter().for_each(|entry| frontier.push(entry.leaf_hash()));
    frontier.head()
}

/// Writes an identity key as `age -r RECIPIENT` seals it.
pub fn seal_identity(path: &Path, key: &IdentityKey, recipient: &x25519::Recipient) {
    let pem = key.to_pkcs8_pem().unwrap();
    fs::write(path, age::encrypt(recipient, pem.as_bytes()).unwrap()).unwrap();
}

/// A node as the daemon starts it, without links: journal, key store, the signer's thread, ceremonies. It permits the
/// product `suite`.
pub struct TestNode {
    pub identity: Arc<IdentityKey>,
    pub keys: Arc<KeyStore>,
    pub journal: Journal,
    pub node: NodeHandle,
    pub ceremonies: CeremoniesHandle,
}

impl TestNode {
    pub const ME: (&'static str, &'static str) = ("vendor", "vendor-1");

    /// What lies in the folder is taken up; what is missing is made.
    pub async fn start(folder: &Path) -> Self {
        let identity_file = folder.join("seal.txt");
        if !identity_file.exists() {
            let secret = x25519::Identity::generate().to_string();
            fs::write(&identity_file, age::secrecy::ExposeSecret::expose_secret(&secret)).unwrap();
        }
        let secret: x25519::Identity = fs::read_to_string(&identity_file).unwrap().parse().unwrap();
        let me = NodeId::new(Self::ME.0, Self::ME.1).unwrap();
        let identity = Arc::new(IdentityKey::from_bytes(&[7; 32]));
        let file = IdentityFile::new(folder.join("identity.age"), secret.to_public(), identity.public());
        seal_identity(&folder.join("identity.age"), &identity, &secret.to_public());
        let keys =
            Arc::new(KeyStore::open(folder, Seal { recipient: secret.to_public(), identity_file }).unwrap());
        let (journal, recovered) = Journal::open(&folder.join("node.sqlite")).await.unwrap();
        let peers = [(me.clone(), identity.public())].into();
        let kept = journal.log(log_signer().public().origin()).await.unwrap();
        let gate = Gate::sealed(log_signer().public(), me.clone(), &identity.public(), &peers, kept).unwrap();
        let now = Reading::now().unix_s();
        let rules = Rules::parse(&suite_rules()).unwrap();
        let policy =
            Policy::new(rules, now, journal.rates(now).await.unwrap(), journal.refusals().await.unwrap());
        let mut signer = Signer::new(me.clone(), policy, recovered.marks, gate, recovered.paused);
        for roster in keys.rosters().unwrap() {
            signer.install_sealed(roster).unwrap();
        }
        let node = node::start(signer, journal.clone(), recovered.newest_at, recovered.counts).unwrap();
        let unsealed = file.open(keys.opener().unwrap().unwrap()).unwrap();
        let ceremonies = Ceremonies::start(
            me.clone(),
            file,
            peers,
            journal.clone(),
            Arc::clone(&keys),
            node.clone(),
            Some(unsealed),
        );
        let ceremonies = ceremonies.await.unwrap().spawn();
        Self { identity, keys, journal, node, ceremonies }
    }

    /// From now on nothing can be written, until the connection has failed once.
    pub async fn fail_next_write(&self) {
        let mut write = self.journal.write().await.unwrap();
        sqlx::query("PRAGMA query_only = ON").execute(write.connection().unwrap()).await.unwrap();
        write.commit_unsealed().await.unwrap();
    }
}

/// An authority, and certificates that it signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Certificate and key in PEM.
    pub fn issue(&self, uri: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub fn files(&self, folder: &Path, uri: &str) -> TlsFiles {
        let (certificate, key) = self.issue(uri);
        let write = |name: &str, text: &str| -> PathBuf {
            fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        TlsFiles {
            ca: write("ca.pem", &self.0.pem()),
            certificate: write("tls.pem", &certificate),
            key: write("tls.key", &key),
        }
    }
}
