//! Signatures of what is under embargo: nobody can verify them before the statement is disclosed, so they are kept.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::ReleaseKey;
use serde::{Deserialize, Serialize};

use super::{Auditor, Awaited};
use crate::{entry::Dsse, hash::Hash};

/// The signature of a statement that is under embargo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// Of its entry.
    pub index: u64,
    /// The 32 bytes of the public key that it is by.
    key: Hash,
    /// base64 of 64 bytes.
    signature: String,
}

impl Leaf {
    /// Whether it is a signature of this message.
    #[must_use]
    pub fn verifies(&self, message: &[u8]) -> bool {
        let verifies = || {
            let signature: [u8; 64] = STANDARD.decode(&self.signature).ok()?.try_into().ok()?;
            ReleaseKey::from_bytes(self.key.as_bytes()).ok()?.verify(message, &signature).ok()
        };
        verifies().is_some()
    }
}

impl Auditor {
    /// Keeps the signature of the `dsse` leaf that is to be read next, whose statement is not there, if that is under
    /// embargo.
    pub fn keep_leaf(&mut self, dsse: &Dsse) {
        let request = self.outcome_of(dsse).map(|(_, awaited)| awaited.request);
        if let Some(hidden) = request.and_then(|request| self.hidden.get_mut(request))
            && let (Some(key), Some(signature)) = (dsse.key(), dsse.signature())
        {
            let (key, signature) = (Hash(*key.as_bytes()), STANDARD.encode(signature));
            hidden.leaf = Some(Leaf { index: self.size, key, signature });
        }
    }

    /// The signature that was kept for this request until its disclosure, which is to be read next.
    #[must_use]
    pub fn kept_leaf(&self, request: u64) -> Option<&Leaf> {
        self.hidden.get(request)?.leaf.as_ref()
    }

    /// The outcome that announced a leaf, with its index. Nearly always the newest.
    pub(super) fn outcome_of(&self, dsse: &Dsse) -> Option<(u64, &Awaited)> {
        let payload = dsse.spec.payload_hash.value;
        let found = self.awaited.iter().rev().find(|(_, awaited)| awaited.statement == payload);
        found.map(|(outcome, awaited)| (*outcome, awaited))
    }
}
