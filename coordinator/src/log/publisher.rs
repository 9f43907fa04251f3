//! Rounds: the newest head is written to the folder, cosigned by the nodes that are there, and published; then the
//! signatures below it are proved.
//!
//! Nothing here is in the way of a signature. Whatever fails is tried again in the next round, and a crash anywhere is
//! made good at the next start: entries are staged until they lie in the folder, and proofs are wanted until they are
//! there. A round begins when the log grew, a node attached, or something waits.

use std::{sync::Arc, time::Duration};

use rutli_keys::{NodeId, Roster};
use rutli_log::{
    Cosigner, Entry, Head, SignedCheckpoint, check_inclusion,
    entry::Dsse,
    leaf_hash,
    proof_file::ProofFile,
    sigstore::{LoggedSignature, SigstoreSigner},
};
use rutli_release::dsse_envelope;
use rutli_wire::v1;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{folder::Appender, outside::OutsideWitnesses};
use crate::{
    clock::Clock,
    crash::crash_point,
    error::{Error, Result},
    keyring::Keyring,
    limits,
    session::Sessions,
    store::{Store, Unproven},
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
    /// Signs the heads that Sigstore's verifiers want.
    pub sigstore: Arc<SigstoreSigner>,
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
        // Nodes check and cosign while the folder is written.
        let (newest, asked) = self.sessions.cosign().await?;
        self.outside.ask(&newest);
        self.write(newest.head()).await?;
        let (checkpoint, witnessed) = self.collect(newest, &asked).await;
        let checkpoint = self.publish(checkpoint).await?;
        self.sessions.restored(checkpoint.clone()).await;
        if !witnessed {
            return Ok(!self.store.unproven(checkpoint.head().size).await?.is_empty());
        }
        self.prove(&checkpoint).await?;
        Ok(false)
    }

    /// Brings the folder up to a head.
    async fn write(&mut self, head: Head) -> Result<()> {
        loop {
            let staged = self.store.staged(head.size).await?;
            if staged.entries.is_empty() {
                return Ok(());
            }
            let to = staged.from.saturating_add(u64::try_from(staged.entries.len()).unwrap_or(u64::MAX));
            let to = self.store.log().head_at(to)?;
            self.with_appender(move |appender| {
                // What a crash left behind may be staged still: it is written already.
                let written = appender.head().size.saturating_sub(staged.from);
                let new =
                    staged.entries.get(usize::try_from(written).unwrap_or(usize::MAX)..).unwrap_or_default();
                appender.append(new, &staged.documents, to)
            })
            .await?;
            // Crash boundary: before this the entries are staged and written; writing them again changes nothing.
            self.unstage(to).await?;
            crash_point("log-unstaged");
        }
    }

    async fn unstage(&self, written: Head) -> Result<()> {
        while let Err(error) = self.store.unstage(written).await {
            match error {
                Error::StoreClosed { .. } => self.store.opened().await,
                other => return Err(other),
            }
        }
        self.store.log().written(written.size);
        Ok(())
    }

    /// Waits a moment for the cosignatures of those who were asked; true if they make a quorum.
    async fn collect(&self, mut checkpoint: SignedCheckpoint, asked: &[NodeId]) -> (SignedCheckpoint, bool) {
        let log = self.store.log();
        let patience = Instant::now() + Duration::from_millis(limits::LOG_COSIGN_MS);
        while log.collected().len() < asked.len() && timeout_at(patience, log.said()).await.is_ok() {}
        let patience = Instant::now() + Duration::from_millis(limits::LOG_OUTSIDE_MS);
        while self.outside.awaited(checkpoint.head().size) && timeout_at(patience, log.said()).await.is_ok() {
        }
        self.outside.add_cosignatures(&mut checkpoint);
        let cosigners = self.keyring.cosigners();
        let mut cosigned = Vec::new();
        for (node, cosignature) in log.collected() {
            let Some(cosigner) = cosigners.get(&node) else { continue };
            match checkpoint.add_cosignature(cosigner, &cosignature) {
                Ok(()) => cosigned.push(node),
                Err(problem) => tracing::error!(%node, %problem, "a node's cosignature of the log"),
            }
        }
        let quorum = self.keyring.active().is_some_and(|roster| is_quorum(roster.roster(), &cosigned));
        (checkpoint, quorum)
    }

    /// Publishes a head that lies in the folder.
    async fn publish(&mut self, checkpoint: SignedCheckpoint) -> Result<SignedCheckpoint> {
        let published = checkpoint.clone();
        self.with_appender(move |appender| {
            appender.publish(&published)?;
            appender.forget_partials(published.head().size)
        })
        .await?;
        Ok(checkpoint)
    }

    /// Makes the proofs that are wanted below a cosigned head, and tells who waits for them.
    async fn prove(&self, checkpoint: &SignedCheckpoint) -> Result<()> {
        let head = checkpoint.head();
        let note: Arc<str> = checkpoint.to_note().into();
        loop {
            let wanted = self.store.unproven(head.size).await?;
            if wanted.is_empty() {
                return Ok(());
            }
            let (log, sigstore, note) =
                (self.store.log().clone(), Arc::clone(&self.sigstore), Arc::clone(&note));
            let proofs = tokio::task::spawn_blocking(move || {
                let prove = |wanted: &Unproven| {
                    let proof = log.inclusion(wanted.index, head.size)?;
                    proof_files(wanted, head, &note, proof, &sigstore)
                };
                wanted.into_iter().map(|wanted| (prove(&wanted), wanted)).collect::<Vec<_>>()
            });
            let (mut ids, mut proved, mut failed) = (Vec::new(), Vec::new(), Ok(()));
            for (made, wanted) in proofs.await.map_err(|_| Error::Stopping)? {
                match made {
                    Ok(files) => {
                        ids.push(wanted.release_id);
                        proved.push((wanted.number, files));
                    }
                    Err(error) => failed = Err(error),
                }
            }
            // One that cannot be proved does not hold up the others.
            if proved.is_empty() {
                return failed;
            }
            self.store.prove(proved, self.clock.now()).await?;
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
    head: Head,
    note: &str,
    proof: Vec<rutli_log::Hash>,
    sigstore: &SigstoreSigner,
) -> Result<Vec<v1::SignedFile>> {
    let id = &wanted.release_id;
    let unfit = |reason: String| Error::Unfit { release_id: id.to_string(), reason };
    // Its hashes may come from files, which are no witnesses for themselves.
    check_inclusion(&head, wanted.index, leaf_hash(&wanted.leaf), &proof)
        .map_err(|error| unfit(error.to_string()))?;
    let mut files = Vec::with_capacity(2);
    let entry = Entry::parse(&wanted.leaf).map_err(|error| unfit(error.to_string()))?;
    let extra = match &entry {
        Entry::Dsse(leaf) => {
            let envelope =
                envelope(wanted, leaf).ok_or_else(|| unfit("its leaf is of another signature".into()))?;
            let logged = LoggedSignature {
                envelope: &envelope,
                hint: &wanted.key,
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

/// The envelope again, from the release and the signature in the leaf.
fn envelope(wanted: &Unproven, leaf: &Dsse) -> Option<Vec<u8>> {
    let signature = leaf.signature()?;
    dsse_envelope(&wanted.release, &leaf.key()?, &[signature]).map(|(envelope, _)| envelope)
}

impl Keyring {
    /// Every node that holds a share of a key, as a cosigner of the log.
    #[must_use]
    pub fn cosigners(&self) -> std::collections::BTreeMap<NodeId, Cosigner> {
        self.all()
            .iter()
            .flat_map(|key| key.roster().nodes().cloned().collect::<Vec<_>>())
            .filter_map(|node| {
                let cosigner = Cosigner::new(node.id.to_string(), &node.identity.to_bytes()).ok()?;
                Some((node.id, cosigner))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
