//! Rounds: the newest head is written to the folder, cosigned by the nodes that are there, and published; then the
//! signatures below it are proved.
//!
//! Nothing here is in the way of a signature. Whatever fails is tried again in the next round, and a crash anywhere is
//! made good at the next start: entries are staged until they lie in the folder, and proofs are wanted until they are
//! there. A round begins when the log grew, a node attached, or something waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rutli_keys::{NodeId, Roster};
use rutli_log::{
    Cosignature, Cosigner, Entry, Head, SignedCheckpoint,
    entry::Dsse,
    leaf_hash,
    proof_file::ProofFile,
    sigstore::{LoggedSignature, SigstoreHead},
};
use rutli_release::{ReleaseKey, dsse_envelope};
use rutli_wire::v1;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{bundles::BundleSigner, folder::Appender, outside::OutsideWitnesses};
use crate::{
    clock::Clock,
    crash::crash_point,
    error::{Error, Result},
    keyring::Keyring,
    limits,
    session::Sessions,
    store::{ReleaseNumber, Store, Unproven},
    waiting::Waiting,
};

/// Everything that a round needs. One per process.
pub struct Publisher {
    /// Stages, and remembers proofs.
    pub store: Store,
    /// Asks the nodes.
    pub sessions: Sessions,
    /// Who the nodes are.
    pub keyring: Keyring,
    /// Tells watchers.
    pub waiting: Arc<Waiting>,
    /// Tells when a proof was there.
    pub clock: Clock,
    /// Signs what Sigstore's verifiers want.
    pub sigstore: Arc<BundleSigner>,
    /// Witnesses outside of the deployment.
    pub outside: OutsideWitnesses,
    /// Writes the folder; away while it does, on a thread of its own.
    pub appender: Option<Appender>,
}

impl Publisher {
    /// Publishes until the process stops.
    pub async fn run(mut self, stop: CancellationToken) {
        let log = self.store.log().clone();
        let mut size = log.size();
        loop {
            let began = Instant::now();
            size.mark_unchanged();
            let waits = match self.round().await {
                Ok(waits) => waits,
                Err(Error::Stopping) => return,
                Err(error) => {
                    tracing::error!(%error, "the log is not published; it is tried again");
                    true
                }
            };
            let again = Duration::from_millis(if waits { limits::LOG_RETRY_MS } else { limits::LOG_IDLE_MS });
            tokio::select! {
                () = stop.cancelled() => return,
                changed = size.changed() => if changed.is_err() { return },
                () = log.attached_since() => {}
                () = tokio::time::sleep(again) => {}
            }
            // One round for many: requests and their outcomes a moment later go together.
            tokio::time::sleep_until(began + Duration::from_millis(limits::LOG_ROUND_MS)).await;
        }
    }

    /// One round. True if something waits for nodes that did not come.
    async fn round(&mut self) -> Result<bool> {
        let log = self.store.log().clone();
        if log.stopped().is_some() {
            return Ok(false);
        }
        // Nodes check and cosign while the folder is written.
        let (newest, asked) = self.sessions.cosign().await?;
        self.outside.ask(&newest);
        self.write(newest.head()).await?;
        let (checkpoint, nodes, witnessed) = self.collect(newest, asked.len()).await;
        if log.stopped().is_some() {
            return Ok(false);
        }
        let sigstore = self.publish(&checkpoint, witnessed).await?;
        log.published(&checkpoint, &nodes);
        self.unstage(&checkpoint, nodes).await?;
        // A node that was restored takes a head only if its peers cosigned it later, by full seconds: it may want the next one.
        let catching_up = self.sessions.restored(checkpoint.clone()).await? > 0;
        let unproven = match sigstore {
            None => !self.store.unproven(0, checkpoint.head().size).await?.is_empty(),
            Some(sigstore) => self.prove(&checkpoint, sigstore).await?,
        };
        Ok(catching_up || unproven)
    }

    /// Brings the folder up to a head.
    async fn write(&mut self, head: Head) -> Result<()> {
        loop {
            let written = self.appender.as_ref().ok_or(Error::Stopping)?.head().size;
            let staged = self.store.staged(written, head.size).await?;
            if staged.entries.is_empty() {
                return Ok(());
            }
            let to = staged.from.saturating_add(u64::try_from(staged.entries.len()).unwrap_or(u64::MAX));
            let to = self.store.log().head_at(to)?;
            self.with_appender(move |appender| appender.append(&staged.entries, &staged.documents, to))
                .await?;
        }
    }

    /// Empties the staging of what lies in the folder and was published, and keeps who cosigned it, in one transaction.
    async fn unstage(&self, published: &SignedCheckpoint, nodes: Vec<NodeId>) -> Result<()> {
        let done = || async {
            tokio::try_join!(
                self.store.unstage(published.head()),
                self.store.cosigned(published, nodes.clone())
            )
        };
        // Crash boundary: before this the entries are staged and written; writing them again changes nothing.
        while let Err(error) = done().await {
            match error {
                Error::StoreClosed { .. } => self.store.opened().await,
                other => return Err(other),
            }
        }
        crash_point("log-unstaged");
        Ok(())
    }

    /// Waits a moment for the cosignatures of those who were asked; gives who cosigned, and true if they make a quorum.
    async fn collect(
        &self,
        mut checkpoint: SignedCheckpoint,
        asked: usize,
    ) -> (SignedCheckpoint, Vec<NodeId>, bool) {
        let log = self.store.log();
        let roster = self.keyring.active();
        let is_quorum =
            |nodes: &[NodeId]| roster.as_ref().is_some_and(|roster| is_quorum(roster.roster(), nodes));
        let mut cosigned = Cosigned::by(self.keyring.cosigners());
        let mut patience = Instant::now() + Duration::from_millis(limits::LOG_COSIGN_MS);
        loop {
            cosigned.take(&mut checkpoint, log.collected());
            if cosigned.heard.len() >= asked {
                break;
            }
            // Whoever is away, closed or silent does not keep the others' proofs waiting; nor does whoever lies.
            if is_quorum(&cosigned.nodes) {
                patience = patience.min(Instant::now() + Duration::from_millis(limits::LOG_STRAGGLERS_MS));
            }
            if timeout_at(patience, log.said()).await.is_err() {
                break;
            }
        }
        let patience = Instant::now() + Duration::from_millis(limits::LOG_OUTSIDE_MS);
        while self.outside.awaited(checkpoint.head().size) && timeout_at(patience, log.said()).await.is_ok() {
        }
        // The nodes' lines first, for there is room for so many.
        cosigned.take(&mut checkpoint, log.collected());
        self.outside.add_cosignatures(&mut checkpoint);
        let witnessed = is_quorum(&cosigned.nodes);
        (checkpoint, cosigned.nodes, witnessed)
    }

    /// Publishes a head that lies in the folder; if it is witnessed, for Sigstore's tools as well. Gives the latter, once
    /// signed for all bundles of the round.
    async fn publish(
        &mut self,
        checkpoint: &SignedCheckpoint,
        witnessed: bool,
    ) -> Result<Option<Arc<SigstoreHead>>> {
        let (checkpoint, sigstore) = (checkpoint.clone(), Arc::clone(&self.sigstore));
        self.with_appender(move |appender| {
            let sigstore = witnessed.then(|| sigstore.sign_head(checkpoint.head())).transpose();
            let sigstore = sigstore.map_err(|error| Error::Store { reason: error.to_string() })?;
            appender.publish(&checkpoint, sigstore.as_ref())?;
            appender.forget_partials(checkpoint.head().size)?;
            Ok(sigstore.map(Arc::new))
        })
        .await
    }

    /// Makes the proofs that are wanted below a cosigned head, and tells who waits for them. True if one could not be made.
    async fn prove(&self, checkpoint: &SignedCheckpoint, sigstore_head: Arc<SigstoreHead>) -> Result<bool> {
        let head = checkpoint.head();
        let note: Arc<str> = checkpoint.to_note().into();
        let (mut from, mut failed) = (0, false);
        loop {
            let wanted = self.store.unproven(from, head.size).await?;
            let Some(last) = wanted.last() else { return Ok(failed) };
            from = last.index.saturating_add(1);
            let count = wanted.len();
            let (log, sigstore) = (self.store.log().clone(), Arc::clone(&self.sigstore));
            let (note, sigstore_head) = (Arc::clone(&note), Arc::clone(&sigstore_head));
            let proofs = tokio::task::spawn_blocking(move || {
                let mut proofs: Vec<(ReleaseNumber, Vec<v1::SignedFile>)> = Vec::with_capacity(wanted.len());
                let mut ids = Vec::with_capacity(wanted.len());
                for wanted in wanted {
                    let files = log
                        .inclusion(wanted.index, leaf_hash(&wanted.leaf), &head)
                        .and_then(|proof| proof_files(&wanted, &note, proof, &sigstore, &sigstore_head));
                    match files {
                        Ok(files) => {
                            proofs.push((wanted.number, files));
                            ids.push(wanted.release_id);
                        }
                        // Tried again in a later round; the others do not wait for it.
                        Err(error) => {
                            tracing::error!(release = %wanted.release_id, %error, "cannot prove it")
                        }
                    }
                }
                (proofs, ids)
            });
            let (proofs, ids) = proofs.await.map_err(|_| Error::Stopping)?;
            failed |= proofs.len() < count;
            self.store.prove(proofs, self.clock.now()).await?;
            self.waiting.proven(&ids);
        }
    }

    /// Lets the appender work on a thread where it may wait for the disk.
    async fn with_appender<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Appender) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut appender = self.appender.take().ok_or(Error::Stopping)?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work(&mut appender);
            (appender, done)
        });
        // A thread that did not come back ended with the process.
        let (appender, done) = worked.await.map_err(|_| Error::Stopping)?;
        self.appender = Some(appender);
        done
    }
}

/// The nodes that were heard of one head, and those of them whose cosignatures hold.
struct Cosigned {
    cosigners: BTreeMap<NodeId, Cosigner>,
    heard: BTreeSet<NodeId>,
    nodes: Vec<NodeId>,
}

impl Cosigned {
    fn by(cosigners: BTreeMap<NodeId, Cosigner>) -> Self {
        Self { cosigners, heard: BTreeSet::new(), nodes: Vec::new() }
    }

    /// Adds to a checkpoint what is new and holds; the first word of a node counts.
    fn take(&mut self, checkpoint: &mut SignedCheckpoint, collected: BTreeMap<NodeId, Cosignature>) {
        for (node, cosignature) in collected {
            let Some(cosigner) = self.cosigners.get(&node) else { continue };
            if !self.heard.insert(node.clone()) {
                continue;
            }
            match checkpoint.add_cosignature(cosigner, &cosignature) {
                Ok(()) => self.nodes.push(node),
                Err(problem) => tracing::error!(%node, %problem, "a node's cosignature of the log"),
            }
        }
    }
}

/// A threshold of every organisation.
fn is_quorum(roster: &Roster, nodes: &[NodeId]) -> bool {
    roster.organisations().iter().all(|organisation| {
        let there = organisation.nodes.iter().filter(|node| nodes.contains(&node.id)).count();
        there >= usize::from(organisation.threshold)
    })
}

/// The files that prove a signature: for the statement's, the bundle of Sigstore's verifiers; for all, the log's own
/// proof, with the entry in it where no other file has it.
fn proof_files(
    wanted: &Unproven,
    note: &str,
    proof: Vec<rutli_log::Hash>,
    sigstore: &BundleSigner,
    head: &SigstoreHead,
) -> Result<Vec<v1::SignedFile>> {
    let id = &wanted.release_id;
    let unfit = |reason: String| Error::Unfit { release_id: id.to_string(), reason };
    let mut files = Vec::with_capacity(2);
    let entry = Entry::parse(&wanted.leaf).map_err(|error| unfit(error.to_string()))?;
    let extra = match &entry {
        Entry::Dsse(leaf) => {
            let (envelope, key) =
                envelope(wanted, leaf).ok_or_else(|| unfit("its leaf is of another signature".into()))?;
            let logged = LoggedSignature {
                envelope: &envelope,
                hint: &wanted.key,
                key: &key,
                entry: leaf,
                index: wanted.index,
                head,
                proof: &proof,
                time: wanted.finished_at,
            };
            let bundle = sigstore.bundle(&logged).map_err(|error| unfit(error.to_string()))?;
            files.push(v1::SignedFile { name: format!("{id}.sigstore.json"), data: bundle.into() });
            None
        }
        _ => Some(wanted.leaf.clone()),
    };
    let proof = ProofFile { extra, index: wanted.index, hashes: proof, checkpoint: note.to_owned() };
    files.push(v1::SignedFile {
        name: format!("{id}.tlog-proof"),
        data: proof.to_string().into_bytes().into(),
    });
    Ok(files)
}

/// The envelope again, from the release and the signature in the leaf, with its key.
fn envelope(wanted: &Unproven, leaf: &Dsse) -> Option<(Vec<u8>, ReleaseKey)> {
    let (signature, key) = (leaf.signature()?, leaf.key()?);
    dsse_envelope(&wanted.release, &key, &[signature]).map(|(envelope, _)| (envelope, key))
}

#[cfg(test)]
mod tests;
