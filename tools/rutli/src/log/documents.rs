//! The documents beside the tree, compared with the entries that name them: statements, and signed rosters.

use std::{collections::BTreeMap, sync::RwLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_keys::{SignedRoster, limits::MAX_ROSTER_BYTES};
use rutli_log::{
    Code, Entry, Finding, Hash, Organisation,
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

/// What the documents of an entry say.
#[derive(Default)]
pub struct Checked {
    /// What is wrong with them.
    pub finding: Option<Finding>,
    /// Who must sign with a key, by its signed roster, if that holds.
    pub roster: Option<Vec<Organisation>>,
}

/// Why an entry's documents were not compared: the source does not answer.
pub struct NotCompared(pub Unread);

impl Documents {
    /// Reads and compares the documents of an entry.
    ///
    /// # Errors
    /// [`NotCompared`]
    pub fn check(&self, source: &Source, index: u64, entry: &Entry) -> Result<Checked, NotCompared> {
        let finding = match entry {
            Entry::Request(request) => statement(source, index, request)?,
            Entry::Disclosure(disclosure) => statement(source, index, &disclosure.opened)?,
            Entry::Key(key) => {
                return Ok(match roster(source, index, key)? {
                    Ok(roster) => Checked { roster: Some(roster), finding: None },
                    Err(finding) => Checked { roster: None, finding: Some(finding) },
                });
            }
            Entry::Dsse(dsse) => self.signature(source, index, dsse)?,
            Entry::Embargoed(_) | Entry::Outcome(_) | Entry::Node(_) => None,
        };
        Ok(Checked { finding, roster: None })
    }

    fn signature(&self, source: &Source, index: u64, dsse: &Dsse) -> Result<Option<Finding>, NotCompared> {
        let [signature] = dsse.spec.signatures.as_slice() else { return Ok(None) };
        let statement = match source.document(&dsse.spec.payload_hash.value, MAX_STATEMENT_BYTES) {
            Ok(statement) if sha256(&statement) == dsse.spec.payload_hash.value => statement,
            Err(error @ Unread::Failed(_)) => return Err(NotCompared(error)),
            // Not there under embargo; else the request's entry has been found wrong already.
            _ => return Ok(None),
        };
        let verifies = || {
            let key = self.key(dsse, &signature.verifier)?;
            let raw: [u8; 64] = STANDARD.decode(&signature.signature).ok()?.try_into().ok()?;
            key.verify(&pae(PAYLOAD_TYPE, &statement), &raw).ok()
        };
        Ok(verifies().is_none().then(|| {
            Finding::at(Code::DsseMismatch, index, "its signature of the statement does not verify")
        }))
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
