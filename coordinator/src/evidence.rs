//! Evidence on its way from whoever brings it to the nodes: attestations, approvals and refusals.
//!
//! The coordinator looks at form alone, so that nobody fills the store or the nodes' time with rubbish; what a document is
//! worth is for each node to find out. It is durable and named in the log before any node gets it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use prost::bytes::Bytes;
use rutli_evidence::{Evidence, Kind};
use rutli_log::Hash;
use rutli_release::ReleaseId;
use rutli_wire::{limits as wire_limits, link::check_evidence, role::Party, v1};

use crate::{
    error::{Error, Result},
    limits,
    share::{Bound, Limit, Owner, Turn, aside},
    sign_release::SignRelease,
    store::{Charge, NewEvidence, StoredRelease},
};

/// How custodians are named as [`submitter`]s.
const CUSTODIAN: &str = "custodian:";

/// A document whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// SHA-256 of its bytes: its name.
    pub digest: Hash,
    /// What it is by its form.
    pub kind: Kind,
    /// It.
    pub bytes: Bytes,
}

impl SignRelease {
    /// [`read`] for one party, once its budget has room and it is its turn, unless that has begun: parsing megabytes of JSON
    /// takes a while.
    ///
    /// # Errors
    /// [`Error::Full`], and those of [`read`]
    pub async fn read_evidence(
        &self,
        owner: &Owner,
        given: Vec<Bytes>,
        least: usize,
        turn: &mut Option<Turn>,
    ) -> Result<Vec<Document>> {
        check_evidence(&given, least)?;
        if given.is_empty() {
            return Ok(Vec::new());
        }
        let (requests, sizes) = (count(given.len()), given.iter().map(|document| count(document.len())));
        let (at, bytes) = (self.clock.now(), sizes.fold(0, u64::saturating_add));
        self.store
            .check_budget(Charge { owner: owner.clone(), requests, bytes, at, hourly: self.hourly })
            .await?;
        if turn.is_none() {
            *turn = Some(self.turn(owner, bytes).await?);
        }
        read(given, least).await
    }

    /// Adds documents to a release that is not final: durable and in the log once this returns, and on their way to the
    /// nodes. What is there already is not added again, and is no mistake: whoever got no answer asks again.
    ///
    /// # Errors
    /// [`Error::TooLate`], [`Error::EvidenceFull`], [`Error::Full`], [`Error::StoreClosed`]
    pub async fn add_evidence(
        &self,
        stored: StoredRelease,
        owner: Owner,
        documents: Vec<Document>,
    ) -> Result<()> {
        let _admitting = self.admitting()?;
        let id = stored.release_id()?;
        let known = &stored.message.evidence;
        let fresh = documents.iter().filter(|document| !known.iter().any(|info| document.is(info)));
        let bytes = fresh.map(|document| document.bytes.len()).sum();
        let room = if bytes == 0 {
            None
        } else if stored.is_unfinished() {
            self.log_has_room()?;
            Some(match owner.name().starts_with(CUSTODIAN) {
                true => self.waiting.grow_for_custodian(&id, &owner, bytes)?,
                false => self.waiting.grow(&id, stored.class(), &owner, bytes)?,
            })
        } else {
            return Err(too_late(&id));
        };
        let (order, waiting) = (self.order.clone(), Arc::clone(&self.waiting));
        let (release, brought) = (id.clone(), documents.iter().map(|document| document.bytes.clone()));
        let brought: Vec<Bytes> = brought.collect();
        let (at, submitter) = (self.clock.now(), owner.name().to_owned());
        let requests = count(documents.len());
        let charge = Charge { owner, requests, bytes: lasting_bytes(&documents), at, hourly: self.hourly };
        let new = NewEvidence { number: stored.number, submitter, at, charge, documents };
        // Crash boundary: before this the sender has no answer and asks again, and the log knows nothing of it; after it
        // the nodes get it, from here or from whoever takes the release up at the next start.
        let added = self.store.add_evidence(new, move |all| {
            waiting.evidence(&release, all.infos.clone());
            // Those that were there too: a commit that was taken for failed may have happened, and nobody has told them.
            order.evidence(release, brought, all.entries.clone());
        });
        let all = added.await?;
        if let Some(room) = room {
            room.keep();
        }
        tracing::info!(release = %id, documents = all.infos.len(), "evidence was added");
        Ok(())
    }
}

impl Document {
    fn is(&self, info: &v1::EvidenceInfo) -> bool {
        info.digest == self.digest.as_bytes()
    }

    /// What is told of it, once its entry stands at `log_index`. `added_at` in Unix seconds.
    #[must_use]
    pub fn info(&self, submitter: &str, added_at: u64, log_index: u64) -> v1::EvidenceInfo {
        v1::EvidenceInfo {
            digest: self.digest.as_bytes().to_vec(),
            kind: self.kind.as_str().to_owned(),
            submitter: submitter.to_owned(),
            added_at,
            size: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            log_index,
        }
    }
}

/// How many requests with documents, or large ones, are read at a time. Parties take turns.
#[must_use]
pub fn reading() -> Arc<Bound> {
    let (what, key) = ("requests being read that are large or have documents", "max_calls");
    Bound::new(Limit { what, key, most: limits::READING_EVIDENCE, retry: Duration::from_secs(1) })
}

/// Reads what a client sent, at least `least` documents: their number and size, and the form of each. Of two that are the
/// same, one.
///
/// # Errors
/// [`Error::Malformed`], [`Error::Field`] which one is no evidence, and why; [`Error::Stopping`]
pub async fn read(given: Vec<Bytes>, least: usize) -> Result<Vec<Document>> {
    check_evidence(&given, least)?;
    if given.is_empty() {
        return Ok(Vec::new());
    }
    aside(true, move || parse(&given)).await?
}

fn parse(given: &[Bytes]) -> Result<Vec<Document>> {
    let mut names = BTreeSet::new();
    let mut documents = Vec::with_capacity(given.len());
    for (place, bytes) in given.iter().enumerate() {
        let evidence = Evidence::parse(bytes).map_err(|problem| Error::Field {
            field: "evidence",
            problem: format!("document {} of {}: {problem}", place.saturating_add(1), given.len()),
        })?;
        let digest = Hash(evidence.digest());
        if names.insert(digest) {
            // A copy: as a part of the message it would keep all of that in memory.
            let bytes = Bytes::copy_from_slice(bytes);
            documents.push(Document { digest, kind: evidence.kind(), bytes });
        }
    }
    Ok(documents)
}

/// Whether there is room for `fresh` documents of one submitter beside those that a release has.
///
/// # Errors
/// What is full, for a person.
pub fn check_room(known: &[v1::EvidenceInfo], submitter: &str, fresh: &[&Document]) -> Result<(), String> {
    let there = known.iter().map(|info| {
        let is_word = [Kind::Approval, Kind::Refusal].iter().any(|kind| kind.as_str() == info.kind);
        let size = usize::try_from(info.size).unwrap_or(usize::MAX);
        (info.submitter == submitter, is_word, size)
    });
    let is_word = |document: &&Document| matches!(document.kind, Kind::Approval | Kind::Refusal);
    let added = fresh.iter().map(|document| (true, is_word(document), document.bytes.len()));
    let all: Vec<(bool, bool, usize)> = there.chain(added).collect();
    let sum = |of: &dyn Fn(&(bool, bool, usize)) -> bool| {
        let of = all.iter().filter(|document| of(document));
        of.fold((0_usize, 0_usize), |(count, bytes), (.., size)| (count + 1, bytes.saturating_add(*size)))
    };
    let own = sum(&|(own, ..)| *own);
    let most = (limits::MAX_EVIDENCE_OF_SUBMITTER, limits::MAX_EVIDENCE_BYTES_OF_SUBMITTER);
    if own.0 > most.0 || own.1 > most.1 {
        return Err(format!(
            "with it {submitter} would have brought {} documents of {} bytes; one party may bring {} of {} bytes",
            own.0, own.1, most.0, most.1
        ));
    }
    let (count, bytes) = sum(&|_| true);
    let most = (wire_limits::MAX_EVIDENCE, wire_limits::MAX_EVIDENCE_TOTAL_BYTES);
    if count > most.0 || bytes > most.1 {
        return Err(format!(
            "with it there would be {count} documents of {bytes} bytes; a release may have {} of {} bytes",
            most.0, most.1
        ));
    }
    let is_of_custodian = |name: &str| name.starts_with(CUSTODIAN);
    let of_others = known.iter().filter(|info| !is_of_custodian(&info.submitter)).count() + fresh.len();
    let most = wire_limits::MAX_EVIDENCE - limits::EVIDENCE_OF_CUSTODIANS;
    if !is_of_custodian(submitter) && of_others > most {
        return Err(format!(
            "with it there would be {of_others} documents that no custodian brought; a release may have {most} of these, for the rest is \
             left to custodians"
        ));
    }
    let (_, attested) = sum(&|(_, is_word, _)| !is_word);
    let most = wire_limits::MAX_EVIDENCE_TOTAL_BYTES - limits::EVIDENCE_BYTES_FOR_WORDS;
    if attested > most && !fresh.iter().all(is_word) {
        return Err(format!(
            "with it there would be attestations of {attested} bytes; a release may have {most} bytes of them, for the rest is left to \
             approvals and refusals"
        ));
    }
    Ok(())
}

/// Who brings evidence, as store and log name it: `ROLE:NAME`.
#[must_use]
pub fn submitter(party: &Party) -> String {
    let name = party.to_string();
    name.strip_prefix("rutli:").map_or_else(|| name.clone(), str::to_owned)
}

/// Bytes of all of them.
#[must_use]
pub fn bytes(documents: &[Document]) -> usize {
    documents.iter().map(|document| document.bytes.len()).sum()
}

/// By how much store and log grow by them.
#[must_use]
pub fn lasting_bytes(documents: &[Document]) -> u64 {
    let each = documents
        .iter()
        .map(|document| limits::CHARGED_PER_DOCUMENT.saturating_add(count(document.bytes.len())));
    each.fold(0, u64::saturating_add)
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

pub(crate) fn too_late(id: &ReleaseId) -> Error {
    Error::TooLate { release_id: id.to_string(), problem: "it is final, and nobody reads evidence any more" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(number: u8, kind: Kind, bytes: usize) -> Document {
        Document { digest: Hash([number; 32]), kind, bytes: vec![number; bytes].into() }
    }

    /// A pipeline and a custodian of another organisation together bring as much as they can.
    #[test]
    fn attestations_leave_room_for_a_refusal() {
        let half = wire_limits::MAX_EVIDENCE_TOTAL_BYTES / 2;
        let mut known = Vec::new();
        for (number, by) in [(1, "pipeline:ci"), (2, "custodian:mallory")] {
            for part in 0..3 {
                let part = document(number + part * 10, Kind::Tests, half / 3);
                if check_room(&known, by, &[&part]).is_ok() {
                    known.push(part.info(by, 1, 1));
                }
            }
        }
        assert_eq!(known.len(), 4, "but for the room of words");
        // The largest that there may be: it names 5,000 files.
        let refusal = document(99, Kind::Refusal, 400_000);
        check_room(&known, "custodian:anna", &[&refusal]).unwrap();
        let refused = check_room(&known, "operator:o", &[&document(98, Kind::Build, half / 3)]).unwrap_err();
        assert!(refused.contains("left to approvals"), "{refused}");
    }

    /// Small ones, by as many parties as it takes: a custodian's refusal still has its place.
    #[test]
    fn documents_of_others_leave_places_for_custodians() {
        let mut known = Vec::new();
        for number in 0..wire_limits::MAX_EVIDENCE {
            let document = document(u8::try_from(number).unwrap(), Kind::Approval, 10);
            let by = format!("pipeline:ci-{}", number / 8);
            if check_room(&known, &by, &[&document]).is_ok() {
                known.push(document.info(&by, 1, 1));
            }
        }
        assert_eq!(known.len(), wire_limits::MAX_EVIDENCE - limits::EVIDENCE_OF_CUSTODIANS);
        check_room(&known, "custodian:anna", &[&document(99, Kind::Refusal, 10)]).unwrap();
    }
}
