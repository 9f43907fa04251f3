//! What witnesses outside of the deployment say of the log: each is asked by a task of its own, for the newest head there
//! is when it has answered for the one before. A round waits a moment for those that answer, and for nobody who does not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rutli_log::{Cosignature, Cosigner, SignedCheckpoint};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Log, witness::OutsideWitness};
use crate::{config::Witness, error::Result};

/// All of them.
pub struct OutsideWitnesses {
    newest: watch::Sender<Option<SignedCheckpoint>>,
    said: Arc<Mutex<BTreeMap<String, Said>>>,
}

/// What a witness said last.
struct Said {
    cosigner: Cosigner,
    /// Whether it is worth waiting for.
    answers: bool,
    /// Of a tree of so many entries.
    cosignature: Option<(u64, Cosignature)>,
}

impl OutsideWitnesses {
    /// Starts a task for each; they end with the process.
    ///
    /// # Errors
    /// [`Error::Witness`](crate::Error::Witness) for one that cannot be asked at all.
    pub fn start(witnesses: &[Witness], log: &Log, stop: &CancellationToken) -> Result<Self> {
        let (newest, _) = watch::channel(None);
        let said = Arc::new(Mutex::new(BTreeMap::new()));
        for config in witnesses {
            let witness = OutsideWitness::new(config)?;
            let cosigner = witness.cosigner().clone();
            lock(&said).insert(cosigner.to_string(), Said { cosigner, answers: true, cosignature: None });
            let asking = ask(witness, newest.subscribe(), Arc::clone(&said), log.clone());
            let stop = stop.clone();
            tokio::spawn(async move { stop.run_until_cancelled(asking).await });
        }
        Ok(Self { newest, said })
    }

    /// Has all of them cosign a head; those that are busy take the newest one next.
    pub fn ask(&self, checkpoint: &SignedCheckpoint) {
        self.newest.send_replace(Some(checkpoint.clone()));
    }

    /// Whether somebody who answers has not answered for a tree of this size.
    #[must_use]
    pub fn awaited(&self, size: u64) -> bool {
        lock(&self.said)
            .values()
            .any(|said| said.answers && said.cosignature.is_none_or(|(cosigned, _)| cosigned != size))
    }

    /// Adds what was said of this head.
    pub fn add_cosignatures(&self, checkpoint: &mut SignedCheckpoint) {
        for said in lock(&self.said).values() {
            if let Some((size, cosignature)) = said.cosignature
                && size == checkpoint.head().size
                && let Err(problem) = checkpoint.add_cosignature(&said.cosigner, &cosignature)
            {
                tracing::error!(witness = said.cosigner.name(), %problem, "an outside witness's cosignature");
            }
        }
    }
}

/// Asks one witness for as long as there is something to ask.
async fn ask(
    mut witness: OutsideWitness,
    mut newest: watch::Receiver<Option<SignedCheckpoint>>,
    said: Arc<Mutex<BTreeMap<String, Said>>>,
    log: Log,
) {
    let name = witness.cosigner().to_string();
    while newest.changed().await.is_ok() {
        witness.rested().await;
        let Some(checkpoint) = newest.borrow_and_update().clone() else { continue };
        let head = checkpoint.head();
        let answer = witness.cosign(&checkpoint, |old| log.consistency(old, &head)).await;
        if let Err(error) = &answer {
            tracing::warn!(%error, "an outside witness did not cosign; it is asked again");
        }
        if let Some(said) = lock(&said).get_mut(&name) {
            said.answers = answer.is_ok();
            said.cosignature = answer.ok().map(|cosignature| (head.size, cosignature)).or(said.cosignature);
        }
        log.heard();
    }
}

fn lock(said: &Mutex<BTreeMap<String, Said>>) -> MutexGuard<'_, BTreeMap<String, Said>> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}
