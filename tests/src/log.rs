//! A transparency log in memory, of the real parts: what an honest coordinator shows its nodes, and what a forger with the
//! log's key could show them instead.

use rutli_log::{
    Cosignature, Cosigner, Entry, Frontier, Hash, Head, LogKey, LogSigner, Origin, SignedCheckpoint, Tiles,
    entry::{Evidence, RequestTerms, kinds},
};
use rutli_release::VerifiedRelease;
use rutli_wire::link::{Batch, LogHead, LoggedEntry, LoggedEvidence};

/// See the module.
#[derive(Debug)]
pub struct ScriptedLog {
    signer: LogSigner,
    seed: [u8; 32],
    tiles: Tiles,
    leaves: Vec<Hash>,
    /// Of the newest head.
    cosignatures: Vec<(Cosigner, Cosignature)>,
}

impl ScriptedLog {
    /// An empty log whose key follows from the seed.
    #[must_use]
    pub fn new(origin: &str, seed: [u8; 32]) -> Self {
        let signer = LogSigner::from_bytes(Origin::new(origin).unwrap(), &seed);
        Self { signer, seed, tiles: Tiles::default(), leaves: Vec::new(), cosignatures: Vec::new() }
    }

    /// The key that nodes are configured with.
    #[must_use]
    pub fn key(&self) -> LogKey {
        self.signer.public()
    }

    /// Entries so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tiles.size()
    }

    /// Appends an entry, and gives its index.
    pub fn append(&mut self, entry: &Entry) -> u64 {
        self.append_leaf(entry.leaf_hash())
    }

    /// Appends what may be no entry at all.
    pub fn append_leaf(&mut self, leaf: Hash) -> u64 {
        self.cosignatures.clear();
        self.leaves.push(leaf);
        self.tiles.push(leaf);
        self.tiles.size() - 1
    }

    /// Appends the entry of a request. Its proof is empty, for it depends on the head: see [`ScriptedLog::complete`].
    pub fn log_release(&mut self, release: &VerifiedRelease, terms: &RequestTerms) -> LoggedEntry {
        let entry = Entry::request(release, terms);
        LoggedEntry {
            index: self.append(&entry),
            leaf: entry.leaf_hash(),
            proof: Vec::new(),
            deadline: terms.deadline,
            embargo: terms.embargo,
            evidence: terms.evidence.clone(),
            added: Vec::new(),
        }
    }

    /// Appends the entry of evidence that was added to the request at this index. Its proof is empty, likewise.
    pub fn log_evidence(&mut self, request: u64, by: &str, evidence: Vec<Hash>, time: u64) -> LoggedEvidence {
        let by = by.to_owned();
        let kind = kinds::Evidence::default();
        let entry =
            Entry::Evidence(Evidence { by: by.clone(), evidence: evidence.clone(), kind, request, time });
        let (index, leaf) = (self.append(&entry), entry.leaf_hash());
        LoggedEvidence { index, leaf, proof: Vec::new(), by, evidence, time }
    }

    /// The head when it had so many entries.
    #[must_use]
    pub fn head_at(&self, size: u64) -> Head {
        Frontier::of(&self.tiles, size).unwrap().head()
    }

    /// The leaves when it had so many entries.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// The signed checkpoint of that size; the newest with the cosignatures there are.
    #[must_use]
    pub fn checkpoint(&self, size: u64) -> SignedCheckpoint {
        let mut checkpoint = self.signer.sign(self.head_at(size));
        if size == self.size() {
            for (cosigner, cosignature) in &self.cosignatures {
                checkpoint.add_cosignature(cosigner, cosignature).unwrap();
            }
        }
        checkpoint
    }

    /// Adds a cosignature to the newest head; false if it is not one of it.
    pub fn cosign(&mut self, cosigner: Cosigner, cosignature: Cosignature) -> bool {
        let fits = cosigner.verifies(&self.checkpoint(self.size()).text(), &cosignature);
        if fits {
            self.cosignatures.retain(|(known, _)| *known != cosigner);
            self.cosignatures.push((cosigner, cosignature));
        }
        fits
    }

    /// The newest head, for a node that keeps one of `from` entries.
    #[must_use]
    pub fn head_for(&self, from: u64) -> LogHead {
        self.head_between(from, self.size())
    }

    /// The head of `size` entries, for a node that keeps one of `from`. Without a proof if that is larger.
    #[must_use]
    pub fn head_between(&self, from: u64, size: u64) -> LogHead {
        let consistency =
            if from > size { Vec::new() } else { self.tiles.prove_consistency(from, size).unwrap() };
        LogHead { checkpoint: self.checkpoint(size).to_note(), from, consistency }
    }

    /// The inclusion proof of an entry under the head of `size` entries.
    #[must_use]
    pub fn prove(&self, index: u64, size: u64) -> Vec<Hash> {
        self.tiles.prove_inclusion(index, size).unwrap()
    }

    /// Fills in what an honest coordinator adds to a batch when it sends it: the newest head for a node that keeps one of
    /// `from` entries, and the proofs of its items' entries under it.
    pub fn complete(&self, batch: &mut Batch, from: u64) {
        batch.head = Some(self.head_for(from));
        for entry in batch.items.iter_mut().filter_map(|item| item.entry.as_mut()) {
            entry.proof = self.prove(entry.index, self.size());
            for added in &mut entry.added {
                added.proof = self.prove(added.index, self.size());
            }
        }
    }

    /// The first `size` entries once more, under the same key: from there on another log.
    #[must_use]
    pub fn fork(&self, size: u64) -> Self {
        let mut fork = Self::new(self.key().origin().as_str(), self.seed);
        let size = usize::try_from(size).unwrap();
        self.leaves.iter().take(size).for_each(|leaf| _ = fork.append_leaf(*leaf));
        fork
    }
}
