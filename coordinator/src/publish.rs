//! From an outcome to what the world sees: the signed files, first durable, then told.

use std::sync::Arc;

use rutli_keys::{KeyName, NodeId};
use rutli_log::{
    Entry, Hash,
    entry::{Dsse, Outcome, OutcomeState, cut},
};
use rutli_release::{NotAssembled, Sequence, SignedFile, VerifiedSignature, dsse_envelope, files_of};
use rutli_wire::{link::Refusal, v1};

use crate::{
    clock::Clock,
    error::{Error, Result},
    keyring::Keyring,
    limits,
    session::Submission,
    share::aside,
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
        signatures: Vec<VerifiedSignature>,
        /// Every node that gave a share.
        signed_by: Vec<NodeId>,
    },
    /// An organisation refused.
    Refused(Vec<(NodeId, Refusal)>),
    /// Its requester took it back.
    Cancelled,
    /// Its entry in the log names a roster that signs nothing any more: it would have to be logged again, at another time.
    OtherRoster,
    /// Its time is over.
    Expired,
    /// A later one of its channel was signed, or another one under its own number: this sequence.
    Overtaken(Sequence),
}

/// Makes the end of a release durable, in the store and in the log, and returns what its watchers are to be told. Waits for as long as the store is
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
    roster: Hash,
    ended: Ended,
) -> Result<Arc<v1::Release>> {
    let id = &release.release_id;
    let mut message = v1::Release { finished_at: clock.now(), ..v1::Release::default() };
    let mut outcome = Outcome::new(release.entry.index, &release.release, message.finished_at);
    let mut entries = Vec::with_capacity(2);
    match ended {
        Ended::Signed { key, signatures, signed_by } => {
            message.state = v1::ReleaseState::Signed.into();
            message.signatures_done = u32::try_from(signatures.len()).unwrap_or(u32::MAX);
            let bytes: Vec<[u8; 64]> = signatures.iter().map(|signature| *signature.bytes()).collect();
            outcome.signed(key.as_str(), roster, &bytes, signed_by.iter().map(ToString::to_string));
            let dsse;
            (message.files, dsse) = assemble(keyring, release, &key, signatures, bytes).await?;
            entries.extend(dsse.map(|leaf| Entry::Dsse(leaf).encode()));
            message.signed_by = signed_by.iter().map(ToString::to_string).collect();
            message.key = key.to_string();
        }
        Ended::Refused(refusals) => {
            message.state = v1::ReleaseState::Refused.into();
            message.refusals = refusals.iter().map(refusal_message).collect();
            outcome.state = OutcomeState::Refused;
            // A reason may name what is under embargo.
            let tell = release.entry.embargo.is_none();
            outcome.refusals = message
                .refusals
                .iter()
                .take(limits::LOGGED_REFUSALS)
                .map(|refusal| rutli_log::entry::Refusal {
                    code: refusal.code.clone(),
                    node: refusal.node.clone(),
                    reason: if tell { cut(&refusal.reason) } else { String::new() },
                })
                .collect();
        }
        Ended::Cancelled => {
            message.state = v1::ReleaseState::Cancelled.into();
            outcome.state = OutcomeState::Cancelled;
        }
        Ended::OtherRoster => {
            message.state = v1::ReleaseState::Cancelled.into();
            message.refusals = vec![v1::Refusal {
                node: "coordinator".to_owned(),
                code: "roster-changed".to_owned(),
                reason: "it was logged for another roster of the key, which signs nothing any more; ask for a new release".to_owned(),
            }];
            outcome.state = OutcomeState::Cancelled;
        }
        Ended::Expired => {
            message.state = v1::ReleaseState::Expired.into();
            outcome.state = OutcomeState::Expired;
        }
        Ended::Overtaken(by) => {
            message.state = v1::ReleaseState::Overtaken.into();
            message.overtaken_by = by.get();
            outcome.state = OutcomeState::Overtaken;
        }
    }
    entries.insert(0, Entry::Outcome(outcome).encode());
    let ending = Arc::new(Ending::new(number, &message, entries));
    // Crash boundary: before this commit the release is unfinished, and signed again at the next start; its content is
    // the same then, and so is what its signatures say. After it, this is its result for ever, and the log says so.
    while let Err(error) = store.finish(Arc::clone(&ending)).await {
        match error {
            Error::StoreClosed { reason } => {
                tracing::warn!(release = %id, reason, "its result waits for the store to open");
                store.opened().await;
            }
            Error::Overtaken { .. } => {
                tracing::warn!(release = %id, %error, "its signatures are thrown away");
                let ended = Ended::Overtaken(release.release.sequence());
                return Box::pin(publish(store, keyring, clock, number, release, roster, ended)).await;
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

/// Builds the files, each from a signature that was verified for just its bytes; and the log's leaf of the DSSE signature,
/// if there is one.
async fn assemble(
    keyring: &Keyring,
    release: &Submission,
    key: &KeyName,
    signatures: Vec<VerifiedSignature>,
    bytes: Vec<[u8; 64]>,
) -> Result<(Vec<v1::SignedFile>, Option<Dsse>)> {
    let id = release.release_id.clone();
    let unfit = |reason: String| Error::Unfit { release_id: release.release_id.to_string(), reason };
    let key = keyring.release_key(key).ok_or_else(|| unfit(format!("there is no usable key {key}")))?;
    let content = Arc::clone(&release.release);
    let is_large = signatures.len() > limits::INLINE_SIGNATURES;
    let build = move || {
        let files = files_of(&content, &id, &key, &signatures)?;
        let leaf = dsse_envelope(&content, &key, &bytes)
            .map(|(envelope, signature)| Dsse::new(&envelope, &content.statement(), &key, &signature));
        Ok::<_, NotAssembled>((files, leaf))
    };
    let (files, leaf) = aside(is_large, build).await?.map_err(|error| unfit(error.to_string()))?;
    let files =
        files.into_iter().map(|SignedFile { name, bytes }| v1::SignedFile { name, data: bytes.into() });
    Ok((files.collect(), leaf))
}
