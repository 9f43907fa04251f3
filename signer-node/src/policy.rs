//! What this node permits: its custodian's own rules, over facts that the node established itself. Deny by default.
//!
//! [`Policy::decide`] goes straight: documents become facts or notes; what a custodian refused is refused permanently; marks,
//! rates and time are this node's own; then the custodian's policies decide. The decision is made once for each release of a
//! batch, not for each file, and again whenever the release comes again: a key or an approval that was taken back stops it before the
//! next share is out. Nothing that the coordinator believes counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rutli_evidence::{Established, Trust};
use rutli_policy::{Decision, Facts, PolicyId, PolicySet, Rules};
use rutli_release::VerifiedRelease;
use rutli_wire::link::{BatchItem, Refusal, RefusalCode};
use sha2::{Digest, Sha256};

use crate::{
    evidence::{Examined, Examiner, logged},
    limits,
    marks::Marks,
    rates::RateCounter,
    refusals::{CustodianRefusal, Refusals},
    waits::{Question, Waits},
};

/// The custodian's rules, and what the node must know to apply them.
#[derive(Debug)]
pub struct Policy {
    rules: Rules,
    loaded_at: u64,
    problem: Option<String>,
    /// Why nothing is permitted for now.
    held: Option<String>,
    /// While the directory is invalid: what of it is valid. It must permit a release too.
    as_far_as_valid: Option<PolicySet>,
    examiner: Examiner,
    waits: Waits,
    rates: RateCounter,
    refusals: Refusals,
}

/// What a look at the policy directory found.
#[derive(Debug)]
pub enum Change {
    /// Other policies and trust.
    Rules(Box<Rules>),
    /// It has changed, and another look will show whether the change is complete.
    UnderWay {
        /// Whom it trusts now, if that can be read.
        trust: Option<Trust>,
    },
    /// It does not parse.
    Broken {
        /// Why, for a person.
        problem: String,
        /// Whom it trusts now, if that can be read.
        trust: Option<Trust>,
        /// Its files by name, `None` for those that cannot be read.
        files: BTreeMap<String, Option<Vec<u8>>>,
    },
}

/// A release that this node's policy permits. Only [`Policy::decide`] makes one, and only from one are shares made.
#[derive(Debug)]
pub struct PermittedRelease {
    release: Arc<VerifiedRelease>,
    basis: Basis,
}

/// A release that is not permitted, now or ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The answer.
    pub refusal: Refusal,
    /// What policies based it on; `None` if none was asked.
    pub basis: Option<Basis>,
    /// Custodians' refusals that the journal must contain from now on.
    pub refused_by: Vec<CustodianRefusal>,
}

/// What a decision of the policies rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Those that permitted or forbade it, or would permit it.
    pub policies: Vec<String>,
    /// SHA-256 of the documents that counted.
    pub evidence: Vec<[u8; 32]>,
    /// Of the rules ([`Rules::digest`]).
    pub rules: [u8; 32],
}

/// By which rules a node decides, for its custodian.
#[derive(Clone, Debug, Default)]
pub struct RulesReport {
    /// [`Rules::digest`].
    pub digest: [u8; 32],
    /// The ids of the policies in force, in order.
    pub policies: Vec<String>,
    /// Whom it trusts, one line each.
    pub trusts: Vec<String>,
    /// Unix seconds since when they are in force.
    pub loaded_at: u64,
    /// Why the files as they are now are not in force.
    pub problem: Option<String>,
    /// What was taken although it looks wrong.
    pub warnings: Vec<String>,
}

impl PermittedRelease {
    /// What was permitted.
    #[must_use]
    pub fn release(&self) -> &VerifiedRelease {
        &self.release
    }

    /// By what.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }
}

impl Policy {
    /// Rules that are in force since a time in Unix seconds, and what the journal keeps.
    #[must_use]
    pub fn new(rules: Rules, loaded_at: u64, rates: RateCounter, refusals: Refusals) -> Self {
        let (examiner, waits) = (Examiner::default(), Waits::default());
        Self {
            rules,
            loaded_at,
            problem: None,
            held: None,
            as_far_as_valid: None,
            examiner,
            waits,
            rates,
            refusals,
        }
    }

    /// Permits a release, or says what is missing, until when, or why never. `now` in Unix seconds.
    pub fn decide(
        &mut self,
        item: &BatchItem,
        marks: &Marks,
        now: u64,
    ) -> Result<PermittedRelease, Box<Denied>> {
        let release = &item.release;
        let statement = Sha256::digest(release.statement()).into();
        let digest = release.digest();
        let examined = self.examiner.examine(item, digest, &self.rules.trust, now);
        for (document, established) in &examined.established {
            if let Established::Refusal { custodian, reason, refused } = established {
                self.refusals.learn(release, (custodian, reason, refused), *document);
            }
        }
        if let Some(refusal) = self.refusals.of(release, &statement) {
            return Err(self.refused(refusal, &examined));
        }
        let waits = withheld(item, &examined).or_else(|| not_seen(&examined)).or_else(|| self.held());
        if let Some(waits) = waits {
            return Err(waits.into());
        }
        let history = marks.history(release, digest);
        // The remaining refusals are about files that other releases share with the refused one.
        let counts =
            |established: &&([u8; 32], Established)| !matches!(established.1, Established::Refusal { .. });
        let (evidence, established): (Vec<_>, Vec<_>) =
            examined.established.iter().filter(counts).cloned().unzip();
        let facts = Facts {
            requester: &item.requester,
            release: release.as_ref().into(),
            embargoed: item.entry.as_ref().is_some_and(|entry| entry.embargo.is_some()),
            established: &established,
            previous_sequence: history.previous.as_ref().map(|(sequence, _)| *sequence),
            previous_version: history.previous.as_ref().map(|(_, version)| version),
            version_is_new: history.version_is_new,
            files_permitted_before: self.refusals.permitted().count(release, &statement),
            rates: self.rates.before(release, history.permitted_at, now),
            now_unix: now,
        };
        let basis = |policies: &[PolicyId]| Basis {
            policies: policies.iter().map(ToString::to_string).collect(),
            evidence,
            rules: self.rules.digest(),
        };
        if let Some(policies) = self.rules.policies.permits(&facts) {
            if self.as_far_as_valid.as_ref().is_some_and(|now| now.permits(&facts).is_none()) {
                let reason = "the policy directory is invalid, and what is valid of it does not permit the release any more";
                return Err(held(reason).into());
            }
            return Ok(PermittedRelease { release: Arc::clone(release), basis: basis(&policies) });
        }
        let question = Question::new(item, digest, &examined, &history);
        if let Some(known) = self.waits.get(&question, now) {
            return Err(Box::new(known));
        }
        let decision = self.rules.policies.decide(&facts);
        let (Decision::Permitted { policies }
        | Decision::Waits { policies, .. }
        | Decision::Refused { policies, .. }) = &decision;
        let denied = Denied {
            refusal: answer(&decision, &examined),
            basis: Some(basis(policies)),
            refused_by: Vec::new(),
        };
        if denied.refusal.code.waits() {
            self.waits.keep(question, &denied, now);
        }
        Err(Box::new(denied))
    }

    /// A custodian's refusal is permanent, even if its document never arrives again. Refusals that came with
    /// the release and are not in the journal yet are written to it.
    fn refused(&self, refusal: &CustodianRefusal, examined: &Examined) -> Box<Denied> {
        let evidence = vec![refusal.document];
        let basis = Basis { policies: Vec::new(), evidence, rules: self.rules.digest() };
        let others = examined.established.iter().map(|(document, _)| *document);
        let others = others.filter(|document| *document != refusal.document);
        let refused_by = self.refusals.unsaved(others.chain([refusal.document]));
        Box::new(Denied { refusal: refusal.answer(), basis: Some(basis), refused_by })
    }

    /// A release was permitted for the first time, at a time in Unix seconds.
    pub fn count(&mut self, release: &VerifiedRelease, now: u64) {
        self.rates.count(release, now);
        self.refusals.permit(release, &Sha256::digest(release.statement()).into());
    }

    /// The custodian vouched for the clock: this is what counts by it.
    pub fn recount(&mut self, rates: RateCounter) {
        self.rates = rates;
    }

    /// The journal has a custodian's refusal.
    pub fn settle(&mut self, refusal: &CustodianRefusal) {
        self.refusals.settle(&refusal.document);
    }

    /// The policy directory changed, at a time in Unix seconds. Results under earlier policies no longer
    /// count.
    ///
    /// Withdrawn trust and withdrawn policies take effect at once, whatever else is wrong with the directory. A grant takes effect
    /// once the directory parses.
    pub fn reload(&mut self, change: Change, now: u64) {
        match change {
            Change::Rules(rules) => {
                self.held = None;
                self.as_far_as_valid = None;
                self.problem = None;
                self.adopt(*rules, now);
            }
            Change::UnderWay { trust } => {
                let problem =
                    "the policy directory is changing: nothing is permitted until two looks saw the same";
                self.restrict(trust.as_ref(), now);
                self.held = Some(problem.to_owned());
                self.problem = Some(problem.to_owned());
            }
            Change::Broken { problem, trust, files } => {
                // A release must be permitted by the earlier policies, and by these: what was taken away, or is forbidden, in a file
                // that is valid counts at once, and nothing that was added does.
                let as_far_as_valid = self.rules.as_far_as_valid(&files);
                self.held = self
                    .restrict(trust.as_ref(), now)
                    .or_else(|| as_far_as_valid.as_ref().err().map(ToString::to_string));
                self.as_far_as_valid = as_far_as_valid.ok();
                self.problem = Some(problem);
            }
        }
    }

    fn adopt(&mut self, rules: Rules, now: u64) {
        self.rules = rules;
        self.loaded_at = now;
        self.examiner = Examiner::default();
        self.waits = Waits::default();
    }

    /// The earlier policies, for those who are still trusted; or why they can permit nothing.
    fn restrict(&mut self, trust: Option<&Trust>, now: u64) -> Option<String> {
        let Some(trust) = trust else {
            return Some(
                "trust.toml or allowed_signers cannot be read, so that nobody can be trusted".to_owned(),
            );
        };
        match self.rules.restricted_by(trust) {
            Ok(rules) if rules.trust == self.rules.trust => None,
            Ok(rules) => {
                self.adopt(rules, now);
                None
            }
            Err(problem) => Some(problem.to_string()),
        }
    }

    /// It waits for the custodian, and is asked again when the directory is right.
    fn held(&self) -> Option<Refusal> {
        self.held.as_deref().map(held)
    }

    /// Why the files as they are now are not in force.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// For the custodian's eyes. `now` in Unix seconds.
    #[must_use]
    pub fn report(&self, now: u64) -> RulesReport {
        RulesReport {
            digest: self.rules.digest(),
            policies: self.rules.policies.ids().map(ToString::to_string).collect(),
            trusts: self.rules.trusts(now),
            loaded_at: self.loaded_at,
            problem: self.problem.clone(),
            warnings: self.rules.warnings_at(now),
        }
    }
}

fn held(reason: &str) -> Refusal {
    Refusal::new(RefusalCode::NotYet, format!("waits for this node's custodian: {reason}"))
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, basis: None, refused_by: Vec::new() }
    }
}

impl From<Refusal> for Box<Denied> {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.into())
    }
}

/// The log names the documents of the request. A coordinator that sends fewer withholds something, perhaps a
/// refusal.
fn withheld(item: &BatchItem, examined: &Examined) -> Option<Refusal> {
    let established = examined.established.iter().map(|(digest, _)| digest);
    let sent: BTreeSet<&[u8; 32]> =
        established.chain(examined.not_counted.iter().map(|note| &note.digest)).collect();
    let missing = logged(item).find(|digest| !sent.contains(digest))?;
    Some(Refusal::new(
        RefusalCode::EvidenceMissing,
        format!(
            "by the log there is the document sha256:{} for this request, and it was not sent to this node; the coordinator \
             must send all of them",
            hex::encode(missing)
        ),
    ))
}

/// What nobody has looked at may be a refusal: until it was seen nothing is permitted, and nothing refused for good. It comes again
/// by itself, with what was looked at by then remembered.
fn not_seen(examined: &Examined) -> Option<Refusal> {
    (examined.not_seen > 0).then(|| Refusal::new(RefusalCode::NotYet, format!(
            "waits for this node to look at {} of its documents, for much evidence came at once; it is asked again within a minute",
            examined.not_seen
        )))
}

/// In words, with what was not counted; bounded, for the journal keeps refusals.
fn answer(decision: &Decision, examined: &Examined) -> Refusal {
    let code = decision.code().and_then(RefusalCode::parse).unwrap_or(RefusalCode::NotAllowed);
    let mut reason = decision.words();
    reason.truncate(reason.floor_char_boundary(limits::MAX_DECISION_BYTES));
    Refusal::new(code, reason + &examined.notes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rutli_release::{ReleaseId, Requester};

    use super::*;
    use crate::{
        evidence::tests::{provenance, trust},
        testing::release,
    };

    fn policy(cedar: &str) -> Policy {
        let rules = Rules::parse(&BTreeMap::from([("a.cedar".to_owned(), cedar.into())])).unwrap();
        Policy::new(rules, 1_000, RateCounter::default(), Refusals::default())
    }

    fn item(files: u8, evidence: Vec<&'static [u8]>) -> BatchItem {
        BatchItem {
            release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
            requester: Requester::new("ci").unwrap(),
            release: Arc::new(release("suite", 1, files)),
            slots: vec![0],
            commitments: Vec::new(),
            entry: Some(crate::testing::entry_naming(&evidence)),
            evidence: evidence.into_iter().map(Into::into).collect(),
        }
    }

    #[test]
    fn files_are_counted() {
        let cedar = "@id(\"few\") permit (principal, action == Action::\"sign\", resource) when {
            resource.artifacts <= 3 && context.artifactsInHour <= 3 };";
        let mut policy = policy(cedar);
        assert!(policy.decide(&item(3, vec![]), &Marks::default(), 1_000).is_ok());
        let denied = policy.decide(&item(4, vec![]), &Marks::default(), 1_000).unwrap_err();
        assert_eq!(denied.refusal.code, RefusalCode::NotAllowed, "{denied:?}");
        assert!(denied.refusal.reason.contains("4 files"), "{denied:?}");
    }

    /// A document that has not been looked at may be a refusal.
    #[test]
    fn nothing_is_permitted_before_all_documents_were_looked_at() {
        let mut policy =
            policy("@id(\"anything\") permit (principal, action == Action::\"sign\", resource);");
        policy.rules.trust = trust(32);
        let most = u32::try_from(limits::MAX_KEY_TRIES_PER_RELEASE / 32).unwrap();
        let evidence: Vec<Vec<u8>> = (0..=most).map(provenance).collect();
        let entry = Some(crate::testing::entry_naming(&evidence));
        let evidence = evidence.into_iter().map(Into::into).collect();
        let item = BatchItem { evidence, entry, ..item(1, Vec::new()) };
        let denied = policy.decide(&item, &Marks::default(), 1_000).unwrap_err();
        assert_eq!(denied.refusal.code, RefusalCode::NotYet, "{denied:?}");
        assert!(denied.refusal.reason.contains("look at 1 of its documents"), "{denied:?}");
        assert!(policy.decide(&item, &Marks::default(), 1_000).is_ok());
    }
}
