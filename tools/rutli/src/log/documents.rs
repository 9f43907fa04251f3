//! The documents beside the tree, compared with the entries that name them: statements, and signed rosters.

use std::{collections::BTreeMap, sync::RwLock};

use rutli_keys::{SignedRoster, limits::MAX_ROSTER_BYTES};
use rutli_log::{
    Code, Entry, Finding, Hash, Organisation,
    audit::Leaf,
    entry::{Dsse, Key, Request},
    sha256,
};
use rutli_release::{Claims, PAYLOAD_TYPE, ReleaseKey, Timestamp, limits::MAX_STATEMENT_BYTES, pae};

use super::{
    limits::MAX_CHECKED_KEYS,
    source::{Source, Unread},
};

/// Compares documents with entries. Used by many threads.
#[derive(Default)]
pub struct Documents {
    /// Public keys by their text in `dsse` leaves: reading one costs more than verifying with it.
    keys: RwLock<BTreeMap<String, Option<ReleaseKey>>>,
}

/// Why an entry's documents were not compared: the source does not answer.
pub struct NotCompared(pub Unread);

/// What documents say of an entry.
pub enum Checked {
    /// Nothing against it.
    Fine,
    /// Nothing against it, and who must sign with the key that it names.
    Roster(Vec<Organisation>),
    /// Something else than the entry.
    Wrong(Finding),
    /// Nothing yet: the statement of a signature is not there. It is under embargo, or its request's entry was found wrong
    /// already.
    Absent,
}

impl Documents {
    /// Reads the documents of an entry and compares them with it.
    ///
    /// # Errors
    /// [`NotCompared`]
    pub fn check(&self, source: &Source, index: u64, entry: &Entry) -> Result<Checked, NotCompared> {
        let wrong = match entry {
            Entry::Request(request) => statement(source, index, request)?,
            Entry::Disclosure(disclosure) => statement(source, index, &disclosure.opened)?,
            Entry::Key(key) => {
                let read = roster(source, index, key)?;
                return Ok(read.map_or_else(Checked::Wrong, Checked::Roster));
            }
            Entry::Dsse(dsse) => return self.signature(source, index, dsse),
            Entry::Embargoed(_) | Entry::Evidence(_) | Entry::Outcome(_) | Entry::Node(_) => None,
        };
        Ok(wrong.map_or(Checked::Fine, Checked::Wrong))
    }

    fn signature(&self, source: &Source, index: u64, dsse: &Dsse) -> Result<Checked, NotCompared> {
        let [signature] = dsse.spec.signatures.as_slice() else { return Ok(Checked::Fine) };
        let wrong = || Ok(Checked::Wrong(unverified(index)));
        let (Some(key), Some(raw)) = (self.key(dsse, &signature.verifier), dsse.signature()) else {
            return wrong();
        };
        match signed(source, &dsse.spec.payload_hash.value)? {
            None => Ok(Checked::Absent),
            Some(message) if key.verify(&message, &raw).is_ok() => Ok(Checked::Fine),
            Some(_) => wrong(),
        }
    }

    fn key(&self, dsse: &Dsse, verifier: &str) -> Option<ReleaseKey> {
        if let Ok(keys) = self.keys.read()
            && let Some(key) = keys.get(verifier)
        {
            return *key;
        }
        let key = dsse.key();
        if let Ok(mut keys) = self.keys.write()
            && keys.len() < MAX_CHECKED_KEYS
        {
            keys.insert(verifier.to_owned(), key);
        }
        key
    }
}

/// Verifies a signature that was made under embargo, once its statement is disclosed.
///
/// # Errors
/// [`NotCompared`]
pub fn disclosed(source: &Source, leaf: &Leaf, statement: &Hash) -> Result<Option<Finding>, NotCompared> {
    let message = signed(source, statement)?;
    // Without its statement the disclosure has been found wrong already.
    Ok(message.filter(|message| !leaf.verifies(message)).map(|_| unverified(leaf.index)))
}

fn unverified(leaf: u64) -> Finding {
    Finding::at(Code::DsseMismatch, leaf, "its signature of the statement does not verify")
}

/// What is signed of the statement with this digest, if that is there.
fn signed(source: &Source, digest: &Hash) -> Result<Option<Vec<u8>>, NotCompared> {
    match source.document(digest, MAX_STATEMENT_BYTES) {
        Ok(statement) if sha256(&statement) == *digest => Ok(Some(pae(PAYLOAD_TYPE, &statement))),
        Err(error @ Unread::Failed(_)) => Err(NotCompared(error)),
        _ => Ok(None),
    }
}

fn statement(source: &Source, index: u64, request: &Request) -> Result<Option<Finding>, NotCompared> {
    let bytes = match fetch(source, index, &request.statement, "statement", MAX_STATEMENT_BYTES)? {
        Ok(bytes) => bytes,
        Err(finding) => return Ok(Some(finding)),
    };
    let claims = Claims {
        class: request.class,
        product: &request.product,
        channel: &request.channel,
        version: &request.version,
        sequence: request.sequence,
        issued_at: Timestamp(request.time),
    };
    let wrong = if !claims.are_of(&bytes) {
        "its statement is about another class, product, channel, version, sequence or time, or is no statement"
    } else if request.signables.dsse.is_some_and(|digest| digest != sha256(&pae(PAYLOAD_TYPE, &bytes))) {
        "what was to be signed is not its statement"
    } else {
        return Ok(None);
    };
    Ok(Some(Finding::at(Code::StatementMismatch, index, wrong)))
}

/// The organisations of a key's signed roster, or what is wrong with that.
fn roster(source: &Source, index: u64, key: &Key) -> Result<Result<Vec<Organisation>, Finding>, NotCompared> {
    let bytes = match fetch(source, index, &key.document, "signed roster", MAX_ROSTER_BYTES)? {
        Ok(bytes) => bytes,
        Err(finding) => return Ok(Err(finding)),
    };
    let signed = match SignedRoster::parse(&bytes) {
        Ok(signed) => signed,
        Err(error) => {
            let text = format!("the signed roster of the key {} does not hold: {error}", key.name);
            return Ok(Err(Finding::at(Code::RosterInvalid, index, text)));
        }
    };
    let roster = signed.roster();
    let differs = [
        ("name", roster.key().as_str() != key.name),
        ("purpose", roster.purpose().as_str() != key.purpose),
        ("epoch", roster.epoch() != key.epoch),
        ("public key", roster.group_key() != key.public_key.as_bytes()),
        ("roster", roster.hash().as_bytes() != key.roster.as_bytes()),
        ("ceremony", roster.ceremony().to_string() != key.ceremony),
        ("transcript", roster.transcript() != key.transcript.as_bytes()),
    ];
    let named: Vec<_> = differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if !named.is_empty() {
        let text =
            format!("the entry and the signed roster of the key {} differ: {}", key.name, named.join(", "));
        return Ok(Err(Finding::at(Code::RosterMismatch, index, text)));
    }
    let organisations = roster.organisations().iter().map(|organisation| Organisation {
        name: organisation.name.to_string(),
        threshold: organisation.threshold,
        nodes: organisation.nodes.iter().map(|node| node.id.to_string()).collect(),
    });
    Ok(Ok(organisations.collect()))
}

/// The document with this digest, or what is wrong with it.
fn fetch(
    source: &Source,
    index: u64,
    digest: &Hash,
    what: &str,
    max_bytes: usize,
) -> Result<Result<Vec<u8>, Finding>, NotCompared> {
    Ok(match source.document(digest, max_bytes) {
        Ok(bytes) if sha256(&bytes) == *digest => Ok(bytes),
        Ok(_) | Err(Unread::Damaged) => Err(Finding::at(
            Code::DocumentForged,
            index,
            format!("the file of its {what} {digest} has another content"),
        )),
        Err(Unread::Missing) => {
            Err(Finding::at(Code::DocumentMissing, index, format!("its {what} {digest} is not there")))
        }
        Err(error @ Unread::Failed(_)) => return Err(NotCompared(error)),
    })
}
