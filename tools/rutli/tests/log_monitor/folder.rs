//! Writes logs as a deployment publishes them, honest ones and others: a folder with checkpoint, tiles, bundles and
//! documents, all keys and signatures real.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use ed25519_dalek::SigningKey;
use frost_ed25519::keys::reconstruct;
use rand::{SeedableRng as _, rngs::StdRng};
use rutli_keys::{IdentityKey, Quorum, Roster, SignedRoster, effective_key_package, rehearsal::Cast};
use rutli_log::{
    Cosignature, Cosigner, Entry, EntryBundle, Frontier, Hash, Head, LogSigner, Origin, SignedCheckpoint,
    TileId, Tiles,
    entry::{
        Dsse, Embargo, Evidence, Key, Node, NodeEvent, Outcome, OutcomeState, Refusal, Request, RequestTerms,
        kinds,
    },
    leaf_hash, sha256,
    sigstore::SigstoreSigner,
    tile::document_path,
};
use rutli_release::{
    Class, Format, PAYLOAD_TYPE, ReleaseId, ReleaseKey, Requester, UnverifiedArtifact, UnverifiedRelease,
    VerifiedRelease, pae,
};

/// Unix seconds of the first entry: round, and 115 to 231 days ago, so that what is overdue is, and the longest embargo is
/// not over.
pub static START: LazyLock<u64> = LazyLock::new(|| (unix_now() / 10_000_000 - 1) * 10_000_000);

/// As a deadline or the end of an embargo: not yet, and not too late.
pub static FUTURE: LazyLock<u64> = LazyLock::new(|| *START + 360 * 86_400);

pub fn unix_now() -> u64 {
    rutli::clock::unix_now()
}

/// The digits that each time of a small log begins with, and others.
pub fn time_digits() -> (Vec<u8>, Vec<u8>) {
    let digits = |time: u64| time.to_string().into_bytes()[..5].to_vec();
    (digits(*START), digits(*START + 100_000))
}

/// Seconds from a request to its deadline.
pub const PATIENCE: u64 = 600;

/// A group key with its whole secret in one place, as only a test may have it.
#[derive(Clone)]
pub struct GroupKey {
    pub signed: SignedRoster,
    secret: frost_ed25519::SigningKey,
    identities: Vec<std::sync::Arc<IdentityKey>>,
}

impl GroupKey {
    /// Made by a ceremony of three and one nodes.
    pub fn new(name: &str, seed: u8) -> Self {
        let cast = Cast::new(&[("vendor", 2, 3), ("supervisor", 1, 1)], &[name], [seed; 32]).unwrap();
        let made = cast.run().unwrap();
        let signed = made.rosters[0].clone();
        let roster = signed.roster();
        // supervisor-1, vendor-1, vendor-2
        let quorum = Quorum::new(roster, &[0, 1, 2]).unwrap();
        let packages: Vec<_> = (0..3)
            .map(|index| {
                let id = roster.node(index).unwrap().id.clone();
                let share = &made.shares[&(id, roster.key().clone())];
                effective_key_package(roster, index, share, &quorum).unwrap()
            })
            .collect();
        let identities = roster.nodes().map(|node| cast.identities[&node.id].clone()).collect();
        Self { secret: reconstruct(&packages).unwrap(), signed, identities }
    }

    pub fn roster(&self) -> &Roster {
        self.signed.roster()
    }

    pub fn public(&self) -> ReleaseKey {
        ReleaseKey::from_bytes(self.roster().group_key()).unwrap()
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.secret.sign(StdRng::seed_from_u64(1), message);
        signature.serialize().unwrap().try_into().unwrap()
    }

    /// The roster with other words in it, signed by all nodes anew.
    pub fn with_roster(&self, change: impl Fn(&mut serde_json::Value)) -> Self {
        let mut json: serde_json::Value = serde_json::from_slice(self.roster().encode()).unwrap();
        change(&mut json);
        let roster = Roster::parse(&serde_json::to_vec(&json).unwrap()).unwrap();
        let signatures = roster
            .nodes()
            .zip(&self.identities)
            .map(|(node, identity)| (node.id.clone(), roster.sign(identity)))
            .collect();
        Self { signed: SignedRoster::new(roster, signatures).unwrap(), ..self.clone() }
    }

    pub fn roster_hash(&self) -> Hash {
        Hash(*self.roster().hash().as_bytes())
    }

    /// The cosigners that its nodes are.
    pub fn cosigners(&self) -> Vec<Cosigner> {
        self.roster()
            .nodes()
            .map(|node| Cosigner::new(node.id.to_string(), &node.identity.to_bytes()).unwrap())
            .collect()
    }

    pub fn cosign(&self, node: usize, time: u64, checkpoint: &mut SignedCheckpoint) {
        let signature = self.identities[node].cosign(time, &checkpoint.text());
        checkpoint.add_cosignature(&self.cosigners()[node], &Cosignature { time, signature }).unwrap();
    }
}

/// A log that grows. Documents are written at once, the rest by [`Log::publish`].
#[derive(Clone)]
pub struct Log {
    pub tiles: Tiles,
    pub key: GroupKey,
    pub other: GroupKey,
    /// Entries from this one on are at hand.
    from: u64,
    entries: Vec<Vec<u8>>,
    documents: PathBuf,
    sequence: u64,
}

/// A request as it was logged.
pub struct Asked {
    pub index: u64,
    pub release: VerifiedRelease,
    pub plain: Request,
}

impl Log {
    /// An empty log whose documents go below `documents`.
    pub fn new(documents: &Path) -> Self {
        Self {
            tiles: Tiles::default(),
            key: GroupKey::new("release", 1),
            other: GroupKey::new("second", 2),
            from: 0,
            entries: Vec::new(),
            documents: documents.to_owned(),
            sequence: 0,
        }
    }

    /// The signer of logs that this name.
    pub fn signer() -> LogSigner {
        LogSigner::from_bytes(Origin::new("log.example.com/2026").unwrap(), &[9; 32])
    }

    /// The signer of its heads for Sigstore's tools.
    pub fn sigstore_signer() -> SigstoreSigner {
        SigstoreSigner::from_bytes("https://log.example.com".parse().unwrap(), &[9; 32]).unwrap()
    }

    pub fn size(&self) -> u64 {
        self.tiles.size()
    }

    pub fn head(&self) -> Head {
        Frontier::of(&self.tiles, self.size()).unwrap().head()
    }

    /// Unix seconds of the next entry.
    pub fn now(&self) -> u64 {
        *START + self.size()
    }

    pub fn append(&mut self, entry: &Entry) -> u64 {
        self.append_bytes(entry.encode())
    }

    pub fn append_bytes(&mut self, bytes: Vec<u8>) -> u64 {
        self.tiles.push(leaf_hash(&bytes));
        self.entries.push(bytes);
        self.size() - 1
    }

    pub fn document(&self, bytes: &[u8]) -> Hash {
        let digest = sha256(bytes);
        self.document_as(&digest, bytes);
        digest
    }

    /// Writes a document under this name, right or wrong.
    pub fn document_as(&self, digest: &Hash, bytes: &[u8]) {
        let path = self.documents.join(document_path(digest).strip_prefix("sha256/").unwrap());
        if fs::write(&path, bytes).is_err() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    pub fn forget_document(&self, digest: &Hash) {
        fs::remove_file(self.documents.join(document_path(digest).strip_prefix("sha256/").unwrap())).unwrap();
    }

    /// The entry of a key, as it should be.
    pub fn key_entry(&self, key: &GroupKey) -> Key {
        let roster = key.roster();
        Key {
            ceremony: roster.ceremony().to_string(),
            document: sha256(&key.signed.encode()),
            epoch: roster.epoch(),
            kind: kinds::Key::default(),
            name: roster.key().to_string(),
            public_key: Hash(*roster.group_key()),
            purpose: roster.purpose().as_str().to_owned(),
            roster: key.roster_hash(),
            time: self.now(),
            transcript: Hash(*roster.transcript()),
        }
    }

    pub fn announce(&mut self, key: &GroupKey) -> u64 {
        self.document(&key.signed.encode());
        let entry = self.key_entry(key);
        self.append(&Entry::Key(entry))
    }

    /// A release of the only channel, with the next sequence.
    pub fn release(&mut self) -> VerifiedRelease {
        self.sequence += 1;
        self.release_with(self.sequence, &format!("1.{}", self.sequence))
    }

    pub fn release_with(&self, sequence: u64, version: &str) -> VerifiedRelease {
        self.release_in("stable", sequence, version)
    }

    fn release_in(&self, channel: &str, sequence: u64, version: &str) -> VerifiedRelease {
        let byte = u8::try_from(sequence % 251).unwrap();
        let artifact = UnverifiedArtifact { name: "suite.bin".into(), sha256: vec![byte; 32] };
        let release = UnverifiedRelease {
            class: Class::ProductBuild,
            product: "suite".into(),
            channel: channel.into(),
            version: version.into(),
            sequence,
            issued_at: self.now(),
            expires_at: None,
            artifacts: vec![artifact],
            formats: vec![Format::Dsse, Format::Sshsig],
        };
        release.verify().unwrap()
    }

    pub fn terms(&self) -> RequestTerms {
        RequestTerms {
            release_id: ReleaseId::new(format!("suite-{}", self.size())).unwrap(),
            requester: Requester::new("ci").unwrap(),
            roster: self.key.roster_hash(),
            deadline: self.now() + PATIENCE,
            evidence: Vec::new(),
            embargo: None,
        }
    }

    /// Asks for a release; under embargo its statement is published with the disclosure.
    pub fn ask(&mut self, release: VerifiedRelease, terms: &RequestTerms) -> Asked {
        let plain = Request::new(&release, terms);
        let index = match terms.embargo {
            None => {
                self.document_as(&plain.statement, &release.statement());
                self.append(&Entry::Request(plain.clone()))
            }
            Some(_) => self.append(&Entry::request(&release, terms)),
        };
        Asked { index, plain, release }
    }

    /// Asks for a release with an entry that says something else than its statement.
    pub fn ask_instead(&mut self, sequence: u64, change: impl Fn(&mut Request)) -> Asked {
        let (release, terms) = (self.release_with(sequence, "2.2"), self.terms());
        self.document(&release.statement());
        let mut plain = Request::new(&release, &terms);
        change(&mut plain);
        let index = self.append(&Entry::Request(plain.clone()));
        Asked { index, release, plain }
    }

    /// Goes on honestly in another channel.
    pub fn sign_last(&mut self) {
        let (release, terms) = (self.release_in("beta", 1, "3.0"), self.terms());
        let asked = self.ask(release, &terms);
        let outcome = self.outcome(&asked, OutcomeState::Cancelled);
        self.append(&Entry::Outcome(outcome));
    }

    /// Asks for the next release.
    pub fn ask_next(&mut self) -> Asked {
        let (release, terms) = (self.release(), self.terms());
        self.ask(release, &terms)
    }

    pub fn outcome(&self, asked: &Asked, state: OutcomeState) -> Outcome {
        let signed = state == OutcomeState::Signed;
        Outcome {
            key: signed.then(|| self.key.roster().key().to_string()),
            kind: kinds::Outcome::default(),
            refusals: Vec::new(),
            request: asked.index,
            roster: signed.then(|| self.key.roster_hash()),
            signatures: signed.then(|| sha256(b"signatures")),
            signed_by: if signed {
                ["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-2"].map(str::to_owned).to_vec()
            } else {
                Vec::new()
            },
            state,
            statement: asked.plain.statement,
            time: self.now(),
        }
    }

    pub fn dsse(&self, asked: &Asked, key: &GroupKey) -> Dsse {
        let statement = asked.release.statement();
        let signature = key.sign(&pae(PAYLOAD_TYPE, &statement));
        Dsse::new(b"envelope", &statement, &key.public(), &signature)
    }

    /// A request with its outcome and its leaf.
    pub fn sign_next(&mut self) -> Asked {
        let asked = self.ask_next();
        self.end_signed(&asked);
        asked
    }

    pub fn end_signed(&mut self, asked: &Asked) {
        let outcome = self.outcome(asked, OutcomeState::Signed);
        self.append(&Entry::Outcome(outcome));
        let dsse = self.dsse(asked, &self.key);
        self.append(&Entry::Dsse(dsse));
    }

    pub fn embargo(&self, disclose_by: u64) -> RequestTerms {
        let salt = sha256(&self.size().to_be_bytes());
        RequestTerms { embargo: Some(Embargo { salt, disclose_by }), ..self.terms() }
    }

    /// An honest log of about `size` entries of all kinds.
    pub fn honest(documents: &Path, size: u64) -> Self {
        let mut log = Self::new(documents);
        let (key, other) = (log.key.clone(), log.other.clone());
        log.announce(&key);
        log.announce(&other);
        for step in 0.. {
            if log.size() + 8 > size {
                break;
            }
            match step % 13 {
                0 => {
                    let asked = log.ask_next();
                    let mut outcome = log.outcome(&asked, OutcomeState::Refused);
                    outcome.refusals.push(Refusal {
                        code: "policy".into(),
                        node: "vendor/vendor-1".into(),
                        reason: "not on Sundays".into(),
                    });
                    log.append(&Entry::Outcome(outcome));
                }
                1 => {
                    let (first, second) = (log.ask_next(), log.ask_next());
                    log.end_signed(&second);
                    let outcome = log.outcome(&first, OutcomeState::Expired);
                    log.append(&Entry::Outcome(outcome));
                }
                2 => {
                    let (release, terms) = (log.release(), log.embargo(log.now() + PATIENCE));
                    let asked = log.ask(release, &terms);
                    log.end_signed(&asked);
                    log.disclose(&asked, &terms);
                }
                3 => {
                    let (release, mut terms) = (log.release(), log.terms());
                    terms.evidence = vec![sha256(b"provenance"), sha256(b"tests")];
                    let asked = log.ask(release, &terms);
                    log.add_evidence(asked.index, "custodian:clara", &[b"approval"]);
                    log.end_signed(&asked);
                }
                4 => {
                    let (release, mut terms) = (log.release(), log.embargo(log.now() + PATIENCE));
                    terms.evidence = vec![sha256(b"hidden")];
                    let asked = log.ask(release, &terms);
                    log.add_evidence(asked.index, "pipeline:ci", &[b"one", b"two"]);
                    log.end_signed(&asked);
                    log.disclose(&asked, &terms);
                }
                _ => drop(log.sign_next()),
            }
        }
        while log.size() < size {
            // The last ones may still end.
            let (release, mut terms) = (log.release(), log.terms());
            terms.deadline = *FUTURE;
            log.ask(release, &terms);
        }
        log
    }

    pub fn add_evidence(&mut self, request: u64, by: &str, documents: &[&[u8]]) -> u64 {
        let evidence = documents.iter().map(|document| sha256(document)).collect();
        let kind = kinds::Evidence::default();
        let entry = Evidence { by: by.into(), evidence, kind, request, time: self.now() };
        self.append(&Entry::Evidence(entry))
    }

    pub fn disclose(&mut self, asked: &Asked, terms: &RequestTerms) -> u64 {
        self.document(&asked.release.statement());
        let entry = self.disclosure(asked, terms);
        self.append(&entry)
    }

    pub fn disclosure(&self, asked: &Asked, terms: &RequestTerms) -> Entry {
        Entry::Disclosure(Box::new(rutli_log::entry::Disclosure {
            kind: kinds::Disclosure::default(),
            opened: asked.plain.clone(),
            request: asked.index,
            salt: terms.embargo.unwrap().salt,
        }))
    }

    pub fn node(&self, event: NodeEvent) -> Entry {
        Entry::Node(Node {
            event,
            kind: kinds::Node::default(),
            node: "vendor/vendor-3".into(),
            reason: "a share that does not verify".into(),
            time: self.now(),
        })
    }

    /// Drops what a copy that only grows need not have at hand.
    pub fn keep_edge(&mut self) {
        let from = self.size() / 256 * 256;
        self.entries.drain(..usize::try_from(from - self.from).unwrap());
        self.from = from;
    }

    /// A checkpoint that a whole quorum just cosigned.
    pub fn checkpoint(&self) -> SignedCheckpoint {
        self.checkpoint_at([unix_now(); 3])
    }

    /// A checkpoint that a supervisor's node and two of the vendor cosigned at these times.
    pub fn checkpoint_at(&self, times: [u64; 3]) -> SignedCheckpoint {
        let mut checkpoint = Self::signer().sign(self.head());
        for (node, time) in [0, 1, 3].into_iter().zip(times) {
            self.key.cosign(node, time, &mut checkpoint);
        }
        checkpoint
    }

    /// Writes tiles and bundles from those that hold entry `changed` on, then the heads.
    pub fn publish(&self, folder: &Path, changed: u64) {
        for level in 0..3_u8 {
            let shift = 8 * u32::from(level);
            for index in changed >> shift >> 8.. {
                let Some(id) = TileId::in_tree(Some(level), index, self.size()) else { break };
                let hashes = self.tiles.get(level, index).unwrap().hashes();
                replace(folder, &id.path(), &hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>());
            }
        }
        for index in changed / 256.. {
            let Some(id) = TileId::in_tree(None, index, self.size()) else { break };
            let mut bundle = EntryBundle::default();
            let first = usize::try_from(index * 256 - self.from).unwrap();
            for entry in &self.entries[first..first + usize::from(id.width)] {
                assert!(bundle.push(entry));
            }
            replace(folder, &id.path(), &bundle.into_bytes());
        }
        if !folder.join("sha256").exists() {
            symlink(&self.documents, folder.join("sha256")).unwrap();
        }
        replace(folder, "checkpoint", self.checkpoint().to_note().as_bytes());
        let sigstore = Self::sigstore_signer().sign_head(self.head()).unwrap();
        replace(folder, "checkpoint-sigstore", sigstore.note().as_bytes());
    }
}

/// A copy of a published log by hard links; documents are shared.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), target).unwrap();
        } else {
            fs::hard_link(entry.path(), target).unwrap();
        }
    }
}

/// Writes a file in place of what a copy shares.
pub fn replace(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&path);
    fs::write(path, bytes).unwrap();
}

/// Another log's signer of the same name.
pub fn impostor() -> LogSigner {
    let key = SigningKey::from_bytes(&[10; 32]);
    LogSigner::from_bytes(Origin::new("log.example.com/2026").unwrap(), &key.to_bytes())
}
