//! From an outcome to what the world sees: the signed files, first durable, then told.

use std::sync::Arc;

use rutli_keys::{KeyName, NodeId};
use rutli_release::{SignedFile, signed_files};
use rutli_wire::{link::Refusal, v1};

use crate::{
    clock::Clock,
    error::{Error, Result},
    keyring::Keyring,
    limits,
    session::Submission,
    store::{Ending, ReleaseNumber, Store},
};

/// How a release ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// With all its signatures.
    Signed {
        /// The group key.
        key: KeyName,
        /// One for each of the release's signables.
        signatures: Vec<[u8; 64]>,
        /// Every node that gave a share.
        signed_by: Vec<NodeId>,
    },
    /// An organisation refused.
    Refused(Vec<(NodeId, Refusal)>),
    /// Its requester took it back.
    Cancelled,
    /// Its time is over.
    Expired,
}

/// Makes the end of a release durable, and returns what its watchers are to be told. Waits for as long as the store is
/// closed: a result is never lost.
///
/// # Errors
/// [`Error::Unfit`] if the signatures are not those of the release; nothing was stored then. [`Error::Stopping`].
pub async fn publish(
    store: &Store,
    keyring: &Keyring,
    clock: &Clock,
    number: ReleaseNumber,
    release: &Submission,
    ended: Ended,
) -> Result<Arc<v1::Release>> {
    let id = &release.release_id;
    let mut message = v1::Release { finished_at: clock.now(), ..v1::Release::default() };
    match ended {
        Ended::Signed { key, signatures, signed_by } => {
            message.state = v1::ReleaseState::Signed.into();
            message.signatures_done = u32::try_from(signatures.len()).unwrap_or(u32::MAX);
            message.files = assemble(keyring, release, &key, signatures).await?;
            message.signed_by = signed_by.iter().map(ToString::to_string).collect();
            message.key = key.to_string();
        }
        Ended::Refused(refusals) => {
            message.state = v1::ReleaseState::Refused.into();
            message.refusals = refusals.iter().map(refusal_message).collect();
        }
        Ended::Cancelled => message.state = v1::ReleaseState::Cancelled.into(),
        Ended::Expired => message.state = v1::ReleaseState::Expired.into(),
    }
    let ending = Arc::new(Ending::new(number, &message));
    // Crash boundary: before this commit the release is unfinished, and signed again at the next start; its content is
    // the same then, and so is what its signatures say. After it, this is its result for ever.
    while let Err(error) = store.finish(Arc::clone(&ending)).await {
        match error {
            Error::StoreClosed { reason } => {
                tracing::warn!(release = %id, reason, "its result waits for the store to open");
                store.opened().await;
            }
            other => return Err(other),
        }
    }
    tracing::info!(release = %id, state = message.state().as_str_name(), signed_by = ?message.signed_by, "finished");
    Ok(Arc::new(message))
}

/// A node's refusal for the wire.
#[must_use]
pub fn refusal_message((node, refusal): &(NodeId, Refusal)) -> v1::Refusal {
    v1::Refusal { node: node.to_string(), code: refusal.code.to_string(), reason: refusal.reason.clone() }
}

/// Builds the files, and with that verifies every signature once more, as an endpoint will.
async fn assemble(
    keyring: &Keyring,
    release: &Submission,
    key: &KeyName,
    signatures: Vec<[u8; 64]>,
) -> Result<Vec<v1::SignedFile>> {
    let id = release.release_id.clone();
    let unfit = |reason: String| Error::Unfit { release_id: release.release_id.to_string(), reason };
    let key = keyring.release_key(key).ok_or_else(|| unfit(format!("there is no usable key {key}")))?;
    let content = Arc::clone(&release.release);
    let inline = signatures.len() <= limits::INLINE_SIGNATURES;
    let build = move || signed_files(&content, &id, &key, &signatures);
    let files = if inline {
        build()
    } else {
        // A blocking task that does not come back was cut off at the end of the process.
        tokio::task::spawn_blocking(build).await.map_err(|_| Error::Stopping)?
    };
    let files = files.map_err(|error| unfit(error.to_string()))?;
    Ok(files
        .into_iter()
        .map(|SignedFile { name, bytes }| v1::SignedFile { name, data: bytes.into() })
        .collect())
}
