//! The decision about one release.

use cedar_policy::Entities;
use rutli_evidence::Established;
use serde::Serialize;

use crate::{
    context::sources,
    documents::told_apart,
    facts::Facts,
    limits::MAX_SOURCES,
    missing::Missing,
    search::{Found, Search},
    set::{Effect, Outcome, PolicyId, PolicySet},
};

/// What the policies say of a release, by the facts of now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "lowercase")]
#[must_use]
pub enum Decision {
    /// It may be signed.
    Permitted {
        /// The policies that permit it, at least one.
        policies: Vec<PolicyId>,
    },
    /// More evidence, or another time, would have it permitted.
    Waits {
        /// The smallest set of things that was found to be enough, at least one. Evidence first.
        missing: Vec<Missing>,
        /// The policies that would permit it then.
        policies: Vec<PolicyId>,
    },
    /// Nothing that could come would have it permitted.
    Refused {
        /// The policies that forbid it, or that cannot be evaluated; none if it is that no policy permits it.
        policies: Vec<PolicyId>,
        /// Why, for a person: the problem, then the way out.
        reason: String,
    },
}

impl Decision {
    /// Whether it may be signed.
    #[must_use]
    pub fn is_permitted(&self) -> bool {
        matches!(self, Self::Permitted { .. })
    }

    /// The stable word with which a node gives no share: `evidence-missing` where any document is missing, `not-yet` where only a time or a
    /// rate is, `not-allowed` for a refusal; `None` where it is permitted.
    #[must_use]
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Permitted { .. } => None,
            Self::Waits { missing, .. } if missing.iter().any(|missing| missing.kind.is_evidence()) => {
                Some("evidence-missing")
            }
            Self::Waits { .. } => Some("not-yet"),
            Self::Refused { .. } => Some("not-allowed"),
        }
    }

    /// In words for a person, on one line.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Permitted { policies } => format!("permitted by {}", list(policies)),
            Self::Waits { missing, policies } => {
                let missing = missing.iter().map(|missing| missing.words.as_str()).collect::<Vec<_>>();
                format!("waits for {}, by {}", missing.join("; and "), list(policies))
            }
            Self::Refused { reason, .. } => reason.clone(),
        }
    }
}

impl PolicySet {
    /// What the policies say of a release. The same facts always get the same answer.
    ///
    /// Costs some 20 µs where it is permitted. Otherwise what is missing is searched for, for some milliseconds at most.
    pub fn decide(&self, facts: &Facts) -> Decision {
        if let Some(refused) = refused_by_custodian(facts) {
            return refused;
        }
        let established = told_apart(facts.established, &self.literals);
        let facts = &Facts { established: &established, ..*facts };
        let Some(entities) = self.asker.entities(facts) else {
            let reason =
                "the release cannot be shown to the policies; report this to whoever gave you the program";
            return Decision::Refused { policies: Vec::new(), reason: reason.to_owned() };
        };
        let mut search = Search::new(self, &self.cedar, facts, &entities);
        let now = search.outcome_now();
        if now.permitted {
            return Decision::Permitted { policies: now.by };
        }
        // What cannot be evaluated may be the one that forbids.
        if !now.errors.is_empty() {
            return broken(&now);
        }
        match search.run() {
            Some(Found { missing, policies }) => Decision::Waits { missing, policies },
            None => match self.waits_for_agreement(facts, &entities, search.trials()) {
                Some(waits) => waits,
                None => self.refused(facts, &now, &search.outcome_at_best()),
            },
        }
    }

    /// Builders who contradict each other do not end a release: it waits as long as it is, or could still be,
    /// permitted if one of them is right. Shares the trials of the previous search.
    fn waits_for_agreement(&self, facts: &Facts, entities: &Entities, mut trials: u32) -> Option<Decision> {
        let established: Vec<&Established> = facts.established.iter().collect();
        let sources = sources(&established);
        if sources.len() < 2 {
            return None;
        }
        let mut least: Option<Found> = None;
        for source in sources.iter().take(MAX_SOURCES) {
            let is_other = |document: &&Established| matches!(document, Established::Provenance(build) if build.source_digest != **source);
            let agreed: Vec<Established> =
                facts.established.iter().filter(|document| !is_other(document)).cloned().collect();
            let facts = Facts { established: &agreed, ..*facts };
            let mut search = Search::after(trials, self, &self.cedar, &facts, entities);
            let now = search.outcome_now();
            let found = match now.permitted {
                true => Some(Found { missing: Vec::new(), policies: now.by }),
                false => search.run(),
            };
            trials = search.trials();
            let is_less =
                |found: &Found| least.as_ref().is_none_or(|least| found.missing.len() < least.missing.len());
            if let Some(found) = found.filter(is_less) {
                least = Some(found);
            }
        }
        let Found { missing, policies } = least?;
        let missing = std::iter::once(Missing::agreement(&sources)).chain(missing).collect();
        Some(Decision::Waits { missing, policies })
    }

    /// The policies that permit a release by the facts of now; `None` if it is not permitted. As [`PolicySet::decide`], without the search
    /// for what is missing: some 20 µs in any case.
    #[must_use]
    pub fn permits(&self, facts: &Facts) -> Option<Vec<PolicyId>> {
        if refused_by_custodian(facts).is_some() {
            return None;
        }
        let established = told_apart(facts.established, &self.literals);
        let facts = &Facts { established: &established, ..*facts };
        let entities = self.asker.entities(facts)?;
        let now = Search::new(self, &self.cedar, facts, &entities).outcome_now();
        now.permitted.then_some(now.by)
    }

    fn refused(&self, facts: &Facts, now: &Outcome, at_best: &Outcome) -> Decision {
        let forbids = |id: &&PolicyId| self.rules.get(*id).is_some_and(|rule| rule.effect == Effect::Forbid);
        let forbidding = |outcome: &Outcome| outcome.by.iter().filter(forbids).cloned().collect::<Vec<_>>();
        let policies = match forbidding(at_best) {
            still if still.is_empty() => forbidding(now),
            still => still,
        };
        let release = &facts.release;
        let what = format!(
            "{} {} in channel {}, sequence {}, {} files{}, asked for by {}",
            release.class.as_str(),
            release.product,
            release.channel,
            release.sequence,
            release.artifacts,
            if facts.embargoed { ", under embargo" } else { "" },
            facts.requester
        );
        let reason = if policies.is_empty() {
            format!("no policy of this node permits {what}, whatever evidence comes{}", contradiction(facts))
        } else {
            let said =
                policies.iter().map(|id| match self.rules.get(id).and_then(|rule| rule.reason.as_deref()) {
                    Some(reason) => format!("{id} ({reason})"),
                    None => id.to_string(),
                });
            let said = said.collect::<Vec<_>>().join(", ");
            format!("forbidden by {said}: {what}{}", contradiction(facts))
        };
        let reason = reason + "; its custodian may change the policies";
        Decision::Refused { policies, reason }
    }
}

fn refused_by_custodian(facts: &Facts) -> Option<Decision> {
    let refusal = facts.established.iter().find_map(|established| match established {
        Established::Refusal { custodian, reason, .. } => Some((custodian, reason)),
        _ => None,
    });
    let (custodian, reason) = refusal?;
    let reason =
        format!("the custodian {custodian} refuses it: {reason}; speak to {custodian}, and ask anew");
    Some(Decision::Refused { policies: Vec::new(), reason })
}

fn broken(outcome: &Outcome) -> Decision {
    let problems = outcome.errors.iter().map(|(id, problem)| format!("{id} ({problem})")).collect::<Vec<_>>();
    let mut policies: Vec<PolicyId> = outcome.errors.iter().map(|(id, _)| id.clone()).collect();
    policies.sort_unstable();
    let reason = format!(
        "policies that cannot be evaluated refuse everything: {}; their custodian must correct them",
        problems.join(", ")
    );
    Decision::Refused { policies, reason }
}

/// Builders contradict each other, and the release would not be permitted even if one of them were right.
fn contradiction(facts: &Facts) -> String {
    let established: Vec<&Established> = facts.established.iter().collect();
    let sources = sources(&established);
    if sources.len() < 2 {
        return String::new();
    }
    let sources = sources.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    format!(
        ". The builders' attestations name different sources ({sources}), so that no build, rebuild or review counts: find out which is right"
    )
}

fn list(policies: &[PolicyId]) -> String {
    policies.iter().map(PolicyId::as_str).collect::<Vec<_>>().join(", ")
}
