//! Bounds within an entry. Whoever reads a log keeps names of its entries: counting them bounds nothing while each may be
//! as long as an entry.

use super::{Dsse, Entry, Evidence, Key, Node, NotAnEntry, Outcome};
use crate::limits::{MAX_ITEMS, MAX_NAME_BYTES, MAX_TEXT_BYTES};

impl Entry {
    /// Refuses names, texts and lists that are longer than any of a log of ours.
    pub(super) fn check_bounds(&self) -> Result<(), NotAnEntry> {
        match self {
            Self::Request(request) => list("evidence", request.evidence.len()),
            Self::Disclosure(disclosure) => list("evidence", disclosure.opened.evidence.len()),
            Self::Evidence(Evidence { by, evidence, .. }) => {
                name("by", by)?;
                if evidence.is_empty() {
                    return Err(NotAnEntry::because("its evidence is empty"));
                }
                list("evidence", evidence.len())
            }
            Self::Embargoed(_) => Ok(()),
            Self::Outcome(outcome) => check_outcome(outcome),
            Self::Dsse(dsse) => check_dsse(dsse),
            Self::Key(Key { ceremony, name: key, purpose, .. }) => {
                name("ceremony", ceremony)?;
                name("name", key)?;
                name("purpose", purpose)
            }
            Self::Node(Node { node, reason, .. }) => {
                name("node", node)?;
                text("reason", reason)
            }
        }
    }
}

fn check_outcome(outcome: &Outcome) -> Result<(), NotAnEntry> {
    list("refusals", outcome.refusals.len())?;
    list("signed_by", outcome.signed_by.len())?;
    outcome.key.iter().try_for_each(|key| name("key", key))?;
    outcome.signed_by.iter().try_for_each(|node| name("signed_by", node))?;
    outcome.refusals.iter().try_for_each(|refusal| {
        name("code", &refusal.code)?;
        name("node", &refusal.node)?;
        text("reason", &refusal.reason)
    })
}

fn check_dsse(dsse: &Dsse) -> Result<(), NotAnEntry> {
    list("signatures", dsse.spec.signatures.len())?;
    name("apiVersion", &dsse.api_version)?;
    name("algorithm", &dsse.spec.envelope_hash.algorithm)?;
    name("algorithm", &dsse.spec.payload_hash.algorithm)?;
    dsse.spec.signatures.iter().try_for_each(|signature| {
        text("signature", &signature.signature)?;
        text("verifier", &signature.verifier)
    })
}

/// Without control characters, each of which takes six bytes in JSON.
fn name(field: &str, name: &str) -> Result<(), NotAnEntry> {
    if name.len() <= MAX_NAME_BYTES && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(NotAnEntry::because(format!(
        "its {field} is more than {MAX_NAME_BYTES} bytes long, or has control characters"
    )))
}

fn text(field: &str, text: &str) -> Result<(), NotAnEntry> {
    if text.len() <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(NotAnEntry::because(format!("its {field} is more than {MAX_TEXT_BYTES} bytes long")))
}

fn list(field: &str, items: usize) -> Result<(), NotAnEntry> {
    if items <= MAX_ITEMS {
        return Ok(());
    }
    Err(NotAnEntry::because(format!("its {field} has more than {MAX_ITEMS} items")))
}
