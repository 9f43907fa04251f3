//! What the documents that came with a release establish, by this custodian's trust alone.
//!
//! Nothing that is sent as evidence fails anything: a document that does not parse, or does not verify, is no fact, and what is
//! answered says which one was not counted and why.
//!
//! A document counts only if the log names it: with the request, or in an `evidence` entry that the gate
//! found under the batch's head. So everybody can see what a signature is based on. A custodian's refusal
//! counts in any case: withdrawing trust waits for nobody.
//!
//! What attestations establish depends on keys, document and release alone, and is kept: a release that waits
//! comes again every minute with all its documents. Approvals and refusals are verified every time, because
//! their keys are valid for a limited time.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap, VecDeque},
};

use rutli_evidence::{Established, Evidence, Kind, Trust, verify};
use rutli_wire::link::BatchItem;
use sha2::{Digest, Sha256};

use crate::limits;

/// What is known of a release by its documents.
#[derive(Debug, Default)]
pub struct Examined {
    /// With the digest of the document.
    pub established: Vec<([u8; 32], Established)>,
    /// What was not counted.
    pub not_counted: Vec<NotCounted>,
    /// How many of these were not even looked at: any of them may be a custodian's refusal.
    pub not_seen: usize,
}

/// A document that is no fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCounted {
    /// SHA-256 of the document.
    pub digest: [u8; 32],
    /// What it claims to be, if it could be read.
    pub kind: Option<Kind>,
    /// Why, for a person.
    pub why: String,
}

/// Verifies documents, and remembers the results. Replace it when the trusted keys change.
#[derive(Debug, Default)]
pub struct Examiner {
    known: HashMap<Known, Finding>,
    /// Oldest first.
    order: VecDeque<Known>,
    bytes: usize,
    /// Keys that were tried for the release that is being decided.
    tries: usize,
}

/// Digests of a document, and of the release that it came with.
type Known = ([u8; 32], [u8; 32]);

type Finding = Result<Established, (Option<Kind>, String)>;

impl Examiner {
    /// Verifies everything that came with a release of this digest. `now` in Unix seconds.
    pub fn examine(
        &mut self,
        item: &BatchItem,
        release_digest: [u8; 32],
        trust: &Trust,
        now: u64,
    ) -> Examined {
        self.tries = 0;
        let mut examined = Examined::default();
        let mut seen = BTreeSet::new();
        let logged: BTreeSet<&[u8; 32]> = logged(item).collect();
        for bytes in item.evidence.iter().take(rutli_wire::limits::MAX_EVIDENCE) {
            let digest: [u8; 32] = Sha256::digest(bytes).into();
            if !seen.insert(digest) {
                continue;
            }
            let finding = match logged.contains(&digest) {
                true => self.examine_one(bytes, (digest, release_digest), item, trust, now),
                false => self.examine_unlogged(bytes, item, trust, now),
            };
            match finding {
                Some(Ok(established)) => examined.established.push((digest, established)),
                Some(Err((kind, why))) => examined.not_counted.push(NotCounted { digest, kind, why }),
                None => {
                    let why = "not looked at yet, for much evidence came at once".to_owned();
                    examined.not_counted.push(NotCounted { digest, kind: None, why });
                    examined.not_seen += 1;
                }
            }
        }
        examined
    }

    /// If the log does not name a document, it counts only as a custodian's refusal. Its result is not
    /// remembered, because the log may still name it.
    fn examine_unlogged(
        &mut self,
        bytes: &[u8],
        item: &BatchItem,
        trust: &Trust,
        now: u64,
    ) -> Option<Finding> {
        let unlogged = |kind| (kind, "the log does not name it for this request".to_owned());
        let refusal = match Evidence::parse(bytes) {
            Ok(evidence) if evidence.kind() == Kind::Refusal => evidence,
            Ok(evidence) => return Some(Err(unlogged(Some(evidence.kind())))),
            Err(_) => return Some(Err(unlogged(None))),
        };
        if !self.has_time(&refusal, trust) {
            return None;
        }
        let finding = verify(&refusal, trust, &item.release, &item.release_id, now);
        Some(finding.map_err(|error| (Some(Kind::Refusal), error.note())))
    }

    /// Each key is tried on each signature: a release with many documents delays this node, and with it the
    /// releases of others.
    fn has_time(&mut self, evidence: &Evidence, trust: &Trust) -> bool {
        let keys: usize = match evidence.kind() {
            Kind::Approval | Kind::Refusal => 1,
            Kind::Build | Kind::Tests | Kind::Review => trust.keys().values().map(BTreeSet::len).sum(),
        };
        self.tries = self.tries.saturating_add(keys.saturating_mul(evidence.signatures()));
        self.tries <= limits::MAX_KEY_TRIES_PER_RELEASE
    }

    /// `None` if the release has used up its time.
    fn examine_one(
        &mut self,
        bytes: &[u8],
        known: Known,
        item: &BatchItem,
        trust: &Trust,
        now: u64,
    ) -> Option<Finding> {
        if let Some(finding) = self.known.get(&known) {
            return Some(finding.clone());
        }
        let evidence = match Evidence::parse(bytes) {
            Ok(evidence) => evidence,
            Err(error) => return Some(self.keep(known, Err((None, error.to_string())))),
        };
        let kind = evidence.kind();
        if !self.has_time(&evidence, trust) {
            return None;
        }
        let finding = verify(&evidence, trust, &item.release, &item.release_id, now)
            .map_err(|error| (Some(kind), error.note()));
        Some(match kind {
            Kind::Approval | Kind::Refusal => finding,
            Kind::Build | Kind::Tests | Kind::Review => self.keep(known, finding),
        })
    }

    fn keep(&mut self, known: Known, finding: Finding) -> Finding {
        self.bytes = self.bytes.saturating_add(size(&finding));
        self.known.insert(known, finding.clone());
        self.order.push_back(known);
        while (self.order.len() > limits::MAX_KNOWN_EVIDENCE || self.bytes > limits::MAX_KNOWN_EVIDENCE_BYTES)
            && let Some(oldest) = self.order.pop_front()
        {
            let forgotten = self.known.remove(&oldest);
            self.bytes = self.bytes.saturating_sub(forgotten.as_ref().map_or(0, size));
        }
        finding
    }
}

/// SHA-256 of every document that the log names for the request: those that came with it, and those that were added.
pub fn logged(item: &BatchItem) -> impl Iterator<Item = &[u8; 32]> {
    let brought = item.entry.iter().flat_map(|entry| &entry.evidence);
    let added = item.entry.iter().flat_map(|entry| &entry.added).flat_map(|added| &added.evidence);
    brought.chain(added).map(|digest| digest.as_bytes())
}

impl Examined {
    /// What was not counted, for a person: some of it, cut.
    #[must_use]
    pub fn notes(&self) -> String {
        let mut notes = String::new();
        for note in self.not_counted.iter().take(limits::MAX_NOTES) {
            let digest = hex::encode(note.digest.get(..8).unwrap_or_default());
            let kind = note.kind.map_or("document", Kind::as_str);
            let why = cut_at_word(&note.why, limits::MAX_NOTE_BYTES);
            notes.push_str(&format!("; not counted: the {kind} sha256:{digest}…: {why}"));
        }
        match self.not_counted.len().saturating_sub(limits::MAX_NOTES) {
            0 => notes,
            more => notes + &format!("; nor {more} more"),
        }
    }
}

/// At most so many bytes of a text, and where it does not fit as many whole words and `…`.
fn cut_at_word(text: &str, most: usize) -> Cow<'_, str> {
    const MORE: &str = "…";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let fits = text.get(..text.floor_char_boundary(most.saturating_sub(MORE.len()))).unwrap_or_default();
    let words = fits.rsplit_once(' ').map_or(fits, |(words, _)| words);
    Cow::Owned(format!("{}{MORE}", words.trim_end_matches([' ', ',', ':', ';'])))
}

/// About how many bytes are kept for a finding, at most twice of what its texts have.
fn size(finding: &Finding) -> usize {
    const FIXED_BYTES: usize = 256;
    let texts = |texts: &BTreeSet<String>| -> usize { texts.iter().map(|text| text.len() + 64).sum() };
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    FIXED_BYTES
        + match finding {
            Err((_, why)) => why.len(),
            Ok(Established::Provenance(build) | Established::Rebuild(build)) => {
                build.by.len()
                    + build.builder_id.len()
                    + build.build_type.len()
                    + text(&build.source_uri)
                    + text(&build.invocation_id)
            }
            Ok(Established::TestsFailed { by }) => by.len(),
            Ok(Established::Tests { by, passed, url }) => by.len() + texts(passed) + text(url),
            Ok(Established::Review { by, verifier_id, source_uri, levels, .. }) => {
                by.len() + verifier_id.len() + source_uri.len() + texts(levels)
            }
            Ok(Established::Approval { custodian }) => custodian.len(),
            Ok(Established::Refusal { custodian, reason, refused }) => {
                custodian.len() + reason.len() + 64 * refused.files.len()
            }
        }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use rutli_evidence::{
        AttestationKey, AttestationSigner, Build, File, Role, SourceDigest, provenance_statement, sign_dsse,
    };
    use rutli_keys::IdentityKey;
    use rutli_release::{ReleaseId, Requester};

    use super::*;
    use crate::testing::release;

    const NOW: u64 = 1_800_000_000;

    fn signer(number: u8) -> AttestationSigner {
        let pem = IdentityKey::from_bytes(&[number; 32]).to_pkcs8_pem().unwrap();
        AttestationSigner::from_private_key(&pem).unwrap()
    }

    /// Trusts that many builders; the first is [`signer`] 1.
    pub(crate) fn trust(builders: u8) -> Trust {
        let key = |number| AttestationKey {
            name: format!("ci-{number}"),
            role: Role::Builder,
            public_key: signer(number).public_pem(),
            ids: vec!["https://ci.example".into()],
        };
        Trust::new((1..=builders).map(key).collect(), "").unwrap()
    }

    fn item(sequence: u64, evidence: Vec<Vec<u8>>) -> BatchItem {
        BatchItem {
            release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
            requester: Requester::new("ci").unwrap(),
            release: Arc::new(release("suite", sequence, 1)),
            slots: vec![0],
            commitments: Vec::new(),
            entry: Some(crate::testing::entry_naming(&evidence)),
            evidence: evidence.into_iter().map(Into::into).collect(),
        }
    }

    /// Each number gives another document about a release of one file.
    pub(crate) fn provenance(number: u32) -> Vec<u8> {
        let build = Build {
            builder_id: "https://ci.example".into(),
            build_type: "https://ci.example/v1".into(),
            parameters: std::collections::BTreeMap::new(),
            source_uri: None,
            source_digest: SourceDigest::Sha256([9; 32]),
            invocation_id: Some(format!("run {number}")),
            started_at: None,
            finished_at: None,
        };
        let files = [File { name: "file-0.bin".into(), sha256: [0; 32], others: None }];
        sign_dsse(&provenance_statement(&files, &build).unwrap(), &signer(1)).unwrap()
    }

    #[test]
    fn what_attestations_establish_is_looked_up_the_second_time() {
        let mut examiner = Examiner::default();
        let item = item(1, vec![provenance(1), provenance(1), b"rubbish".to_vec()]);
        let digest = item.release.digest();
        for tries in [1, 0] {
            let examined = examiner.examine(&item, digest, &trust(1), NOW);
            assert_eq!((examined.established.len(), examined.not_counted.len()), (1, 1));
            assert_eq!(examiner.tries, tries, "one document with one signature, one key");
        }
        // For another release it is verified again: this one has the same file, but others may have other
        // digests.
        examiner.examine(&item, [1; 32], &trust(1), NOW);
        assert_eq!((examiner.tries, examiner.known.len()), (1, 4));
    }

    /// Half a sentence of advice sends people astray, and "your file" is not theirs who read this.
    #[test]
    fn a_note_ends_with_a_word_and_advises_nobody_about_files_of_others() {
        assert_eq!(cut_at_word("as it is", 8), "as it is");
        assert_eq!(cut_at_word("add it there: if it is one's", 19), "add it there…");
        assert_eq!(cut_at_word(&"ä".repeat(9), 8), "ää…");
        let item = item(1, vec![provenance(1)]);
        let notes =
            |trust: &Trust| Examiner::default().examine(&item, item.release.digest(), trust, NOW).notes();
        assert_eq!(notes(&trust(1)), "");
        let said = notes(&Trust::default());
        assert!(said.ends_with("a key that this node trusts as builder or rebuilder"), "{said}");
    }

    /// Whoever sends many documents does not hold the node up; what is left is looked at the next time.
    #[test]
    fn keys_are_tried_only_so_often_for_one_release() {
        let mut examiner = Examiner::default();
        let trust = trust(32);
        let at_once = limits::MAX_KEY_TRIES_PER_RELEASE / 32;
        let item = item(1, (0..=u32::try_from(at_once).unwrap()).map(provenance).collect());
        let examined = examiner.examine(&item, item.release.digest(), &trust, NOW);
        assert_eq!(
            (examined.established.len(), examined.not_counted.len(), examined.not_seen),
            (at_once, 1, 1)
        );
        assert!(examined.notes().contains("not looked at yet"), "{}", examined.notes());
        let examined = examiner.examine(&item, item.release.digest(), &trust, NOW);
        assert_eq!(
            (examined.established.len(), examined.not_counted.len(), examined.not_seen),
            (at_once + 1, 0, 0)
        );
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_bytes() {
        let mut examiner = Examiner::default();
        let known = |number: u32| {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            (digest, [0; 32])
        };
        let most = u32::try_from(limits::MAX_KNOWN_EVIDENCE).unwrap();
        for number in 0..most + 5 {
            _ = examiner.keep(known(number), Err((None, "why".into())));
        }
        assert_eq!(
            (examiner.known.len(), examiner.order.len()),
            (limits::MAX_KNOWN_EVIDENCE, limits::MAX_KNOWN_EVIDENCE)
        );
        assert!(!examiner.known.contains_key(&known(4)) && examiner.known.contains_key(&known(5)));
        let long = "x".repeat(limits::MAX_KNOWN_EVIDENCE_BYTES / 4);
        for number in most + 5..most + 15 {
            _ = examiner.keep(known(number), Err((None, long.clone())));
        }
        assert_eq!(examiner.known.len(), 3);
        assert!(examiner.bytes <= limits::MAX_KNOWN_EVIDENCE_BYTES);
    }
}
