//! What is said of the transparency log on the node link: heads, where a request stands, and what a node keeps.

use rutli_log::{Cosignature, Hash, entry::Embargo, limits as log_limits};

use super::within;
use crate::{convert::Malformed, limits, v1};

/// A head of the log, for a node to check and to cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// A signed note, unopened, with the cosignatures there are.
    pub checkpoint: String,
    /// Size of the head that the node keeps, as far as the coordinator knows.
    pub from: u64,
    /// The consistency proof from there.
    pub consistency: Vec<Hash>,
}

/// What a node keeps of the log when it attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptLog {
    /// Size of its newest head.
    pub size: u64,
    /// That head as the log signed it, unopened, without cosignatures. Empty if it keeps none, or if its custodian vouched
    /// for a head since.
    pub checkpoint: String,
}

/// Where a request stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Counted from 0.
    pub index: u64,
    /// The entry's hash, as the coordinator claims; the node compares it with the entry that it encoded
    /// itself.
    pub leaf: Hash,
    /// The inclusion proof under the batch's head.
    pub proof: Vec<Hash>,
    /// A field of the entry, in Unix seconds.
    pub deadline: u64,
    /// If it is logged under embargo.
    pub embargo: Option<Embargo>,
    /// SHA-256 of each piece of evidence that came with the request, as the entry has them.
    pub evidence: Vec<Hash>,
    /// The `evidence` entries for this request. A document that was added later counts only if one of them names it.
    pub added: Vec<LoggedEvidence>,
}

/// Where an `evidence` entry is in the log, with the fields from which a node encodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvidence {
    /// Counted from 0.
    pub index: u64,
    /// What the coordinator says stands there; the node compares it with what it encoded itself.
    pub leaf: Hash,
    /// The inclusion proof under the batch's head.
    pub proof: Vec<Hash>,
    /// Who brought the documents, as the entry has it.
    pub by: String,
    /// SHA-256 of each document, at least one.
    pub evidence: Vec<Hash>,
    /// Unix seconds.
    pub time: u64,
}

/// What a node keeps of the log, as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Size of its newest durable head.
    pub size: u64,
    /// Its cosignature of that head.
    pub cosignature: Option<Cosignature>,
}

impl TryFrom<(u64, String)> for KeptLog {
    type Error = Malformed;

    fn try_from((size, checkpoint): (u64, String)) -> Result<Self, Malformed> {
        within("log_checkpoint", checkpoint.len(), 0, log_limits::MAX_CHECKPOINT_BYTES)?;
        Ok(Self { size, checkpoint })
    }
}

impl From<&LogHead> for v1::LogHead {
    fn from(head: &LogHead) -> Self {
        Self {
            checkpoint: head.checkpoint.clone(),
            from_size: head.from,
            consistency: join_hashes(&head.consistency),
        }
    }
}

impl TryFrom<v1::LogHead> for LogHead {
    type Error = Malformed;

    fn try_from(head: v1::LogHead) -> Result<Self, Malformed> {
        within("checkpoint", head.checkpoint.len(), 1, log_limits::MAX_CHECKPOINT_BYTES)?;
        Ok(Self {
            checkpoint: head.checkpoint,
            from: head.from_size,
            consistency: split_hashes("consistency", &head.consistency)?,
        })
    }
}

impl From<&LoggedEntry> for v1::LoggedEntry {
    fn from(entry: &LoggedEntry) -> Self {
        let embargo = entry.embargo.as_ref();
        Self {
            index: entry.index,
            leaf_hash: entry.leaf.as_bytes().to_vec(),
            proof: join_hashes(&entry.proof),
            deadline: entry.deadline,
            embargo_salt: embargo.map(|embargo| embargo.salt.as_bytes().to_vec()).unwrap_or_default(),
            disclose_by: embargo.map(|embargo| embargo.disclose_by).unwrap_or_default(),
            evidence: join_hashes(&entry.evidence),
            added: entry.added.iter().map(Into::into).collect(),
        }
    }
}

impl From<&LoggedEvidence> for v1::LoggedEvidence {
    fn from(added: &LoggedEvidence) -> Self {
        Self {
            index: added.index,
            leaf_hash: added.leaf.as_bytes().to_vec(),
            proof: join_hashes(&added.proof),
            by: added.by.clone(),
            evidence: join_hashes(&added.evidence),
            time: added.time,
        }
    }
}

impl TryFrom<v1::LoggedEvidence> for LoggedEvidence {
    type Error = Malformed;

    fn try_from(added: v1::LoggedEvidence) -> Result<Self, Malformed> {
        within("added.by", added.by.len(), 1, log_limits::MAX_NAME_BYTES)?;
        let evidence = split_hashes("added.evidence", &added.evidence)?;
        within("added.evidence", evidence.len(), 1, limits::MAX_EVIDENCE)?;
        Ok(Self {
            index: added.index,
            leaf: Hash::from_slice(&added.leaf_hash)
                .map_err(|_| Malformed::new("added.leaf_hash", "want 32 bytes"))?,
            proof: split_hashes("added.proof", &added.proof)?,
            by: added.by,
            evidence,
            time: safe_integer("added.time", added.time)?,
        })
    }
}

impl TryFrom<v1::LoggedEntry> for LoggedEntry {
    type Error = Malformed;

    fn try_from(entry: v1::LoggedEntry) -> Result<Self, Malformed> {
        let hash =
            |field, bytes: &[u8]| Hash::from_slice(bytes).map_err(|_| Malformed::new(field, "want 32 bytes"));
        let embargo = if entry.embargo_salt.is_empty() {
            None
        } else {
            Some(Embargo {
                salt: hash("embargo_salt", &entry.embargo_salt)?,
                disclose_by: safe_integer("disclose_by", entry.disclose_by)?,
            })
        };
        within("added", entry.added.len(), 0, limits::MAX_EVIDENCE)?;
        Ok(Self {
            index: entry.index,
            leaf: hash("leaf_hash", &entry.leaf_hash)?,
            proof: split_hashes("proof", &entry.proof)?,
            deadline: safe_integer("deadline", entry.deadline)?,
            embargo,
            evidence: split_hashes("evidence", &entry.evidence)?,
            added: entry.added.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Witnessed> for v1::Witnessed {
    fn from(witnessed: Witnessed) -> Self {
        let (time, signature) = witnessed
            .cosignature
            .map(|cosignature| (cosignature.time, cosignature.signature.to_vec()))
            .unwrap_or_default();
        Self { size: witnessed.size, time, signature }
    }
}

impl TryFrom<v1::Witnessed> for Witnessed {
    type Error = Malformed;

    fn try_from(witnessed: v1::Witnessed) -> Result<Self, Malformed> {
        let cosignature = if witnessed.signature.is_empty() {
            None
        } else {
            let signature = witnessed
                .signature
                .try_into()
                .map_err(|_| Malformed::new("signature", "want 64 bytes, or none"))?;
            Some(Cosignature { time: witnessed.time, signature })
        };
        Ok(Self { size: witnessed.size, cosignature })
    }
}

fn join_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn split_hashes(field: &'static str, bytes: &[u8]) -> Result<Vec<Hash>, Malformed> {
    let (chunks, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Malformed::new(field, "want 32 bytes each"));
    }
    within(field, chunks.len(), 0, log_limits::MAX_PROOF_HASHES)?;
    Ok(chunks.iter().map(|chunk| Hash(*chunk)).collect())
}

/// Exact in JSON, as the log's entries have it.
fn safe_integer(field: &'static str, number: u64) -> Result<u64, Malformed> {
    if number <= log_limits::MAX_TREE_SIZE {
        return Ok(number);
    }
    Err(Malformed::new(field, "is larger than 2^53 - 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> LogHead {
        LogHead {
            checkpoint: "log.test/1\n7\n…\n\n— log.test/1 …\n".into(),
            from: 5,
            consistency: vec![Hash([1; 32]), Hash([2; 32])],
        }
    }

    fn entry() -> LoggedEntry {
        LoggedEntry {
            index: 6,
            leaf: Hash([3; 32]),
            proof: vec![Hash([4; 32])],
            deadline: 1_800_000_000,
            embargo: Some(Embargo { salt: Hash([5; 32]), disclose_by: 1_900_000_000 }),
            evidence: vec![Hash([6; 32]), Hash([7; 32])],
            added: vec![added()],
        }
    }

    fn added() -> LoggedEvidence {
        LoggedEvidence {
            index: 9,
            leaf: Hash([8; 32]),
            proof: vec![Hash([9; 32])],
            by: "custodian:anna".into(),
            evidence: vec![Hash([10; 32])],
            time: 1_800_000_100,
        }
    }

    fn problem<T>(result: Result<T, Malformed>) -> String {
        result.err().map(|malformed| malformed.to_string()).unwrap()
    }

    #[test]
    fn what_is_said_is_heard() {
        assert_eq!(LogHead::try_from(v1::LogHead::from(&head())), Ok(head()));
        let first = LogHead { from: 0, consistency: Vec::new(), ..head() };
        assert_eq!(LogHead::try_from(v1::LogHead::from(&first)), Ok(first));
        let plain = LoggedEntry {
            embargo: None,
            proof: Vec::new(),
            evidence: Vec::new(),
            added: Vec::new(),
            ..entry()
        };
        for entry in [entry(), plain] {
            assert_eq!(LoggedEntry::try_from(v1::LoggedEntry::from(&entry)), Ok(entry));
        }
        let cosignature = Some(Cosignature { time: 1_800_000_000, signature: [6; 64] });
        for witnessed in [Witnessed { size: 7, cosignature }, Witnessed { size: 0, cosignature: None }] {
            assert_eq!(Witnessed::try_from(v1::Witnessed::from(witnessed)), Ok(witnessed));
        }
    }

    #[test]
    fn a_head_is_bounded_and_its_proof_whole() {
        let wire = || v1::LogHead::from(&head());
        let missing = v1::LogHead { checkpoint: String::new(), ..wire() };
        assert!(problem(LogHead::try_from(missing)).starts_with("checkpoint: 0 given"));
        let long = v1::LogHead { checkpoint: "x".repeat(log_limits::MAX_CHECKPOINT_BYTES + 1), ..wire() };
        assert!(problem(LogHead::try_from(long)).starts_with("checkpoint: 32769 given"));
        let torn = v1::LogHead { consistency: vec![0; 33], ..wire() };
        assert_eq!(problem(LogHead::try_from(torn)), "consistency: want 32 bytes each");
        let most = log_limits::MAX_PROOF_HASHES;
        assert!(LogHead::try_from(v1::LogHead { consistency: vec![0; 32 * most], ..wire() }).is_ok());
        let over = v1::LogHead { consistency: vec![0; 32 * (most + 1)], ..wire() };
        assert!(problem(LogHead::try_from(over)).starts_with("consistency: 65 given"));
    }

    #[test]
    fn an_entry_has_hashes_of_32_bytes_and_times_that_json_can_say() {
        let wire = || v1::LoggedEntry::from(&entry());
        let too_late = log_limits::MAX_TREE_SIZE + 1;
        for (entry, expected) in [
            (v1::LoggedEntry { leaf_hash: vec![3; 31], ..wire() }, "leaf_hash: want 32 bytes"),
            (v1::LoggedEntry { leaf_hash: Vec::new(), ..wire() }, "leaf_hash: want 32 bytes"),
            (v1::LoggedEntry { proof: vec![0; 1], ..wire() }, "proof: want 32 bytes each"),
            (v1::LoggedEntry { proof: vec![0; 32 * 65], ..wire() }, "proof: 65 given"),
            (v1::LoggedEntry { evidence: vec![0; 31], ..wire() }, "evidence: want 32 bytes each"),
            (v1::LoggedEntry { evidence: vec![0; 32 * 65], ..wire() }, "evidence: 65 given"),
            (v1::LoggedEntry { embargo_salt: vec![5; 33], ..wire() }, "embargo_salt: want 32 bytes"),
            (v1::LoggedEntry { deadline: too_late, ..wire() }, "deadline: is larger than 2^53 - 1"),
            (v1::LoggedEntry { disclose_by: too_late, ..wire() }, "disclose_by: is larger than 2^53 - 1"),
        ] {
            let problem = problem(LoggedEntry::try_from(entry));
            assert!(problem.starts_with(expected), "{expected}: {problem}");
        }
    }

    #[test]
    fn added_evidence_is_named_in_bounded_entries() {
        let wire = || v1::LoggedEvidence::from(&added());
        let most = limits::MAX_EVIDENCE;
        for (added, expected) in [
            (v1::LoggedEvidence { leaf_hash: vec![8; 31], ..wire() }, "added.leaf_hash: want 32 bytes"),
            (v1::LoggedEvidence { proof: vec![0; 1], ..wire() }, "added.proof: want 32 bytes each"),
            (v1::LoggedEvidence { proof: vec![0; 32 * 65], ..wire() }, "added.proof: 65 given"),
            (v1::LoggedEvidence { evidence: Vec::new(), ..wire() }, "added.evidence: 0 given"),
            (v1::LoggedEvidence { evidence: vec![0; 32 * (most + 1)], ..wire() }, "added.evidence: 65 given"),
            (v1::LoggedEvidence { by: String::new(), ..wire() }, "added.by: 0 given"),
            (v1::LoggedEvidence { by: "x".repeat(65_536), ..wire() }, "added.by: 65536 given"),
            (v1::LoggedEvidence { time: u64::MAX, ..wire() }, "added.time: is larger than 2^53 - 1"),
        ] {
            let entry = v1::LoggedEntry { added: vec![added], ..v1::LoggedEntry::from(&entry()) };
            let problem = problem(LoggedEntry::try_from(entry));
            assert!(problem.starts_with(expected), "{expected}: {problem}");
        }
        let full = v1::LoggedEntry { added: vec![wire(); most], ..v1::LoggedEntry::from(&entry()) };
        assert!(LoggedEntry::try_from(full).is_ok());
        let over = v1::LoggedEntry { added: vec![wire(); most + 1], ..v1::LoggedEntry::from(&entry()) };
        assert!(problem(LoggedEntry::try_from(over)).starts_with("added: 65 given"));
    }

    #[test]
    fn a_cosignature_is_whole_or_not_there() {
        let torn = v1::Witnessed { size: 7, time: 1, signature: vec![6; 63] };
        assert_eq!(problem(Witnessed::try_from(torn)), "signature: want 64 bytes, or none");
    }
}
