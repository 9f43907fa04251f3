//! Policy by policy, what it says to some facts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    decide::Decision,
    documents::told_apart,
    facts::Facts,
    missing::Missing,
    search::Search,
    set::{Effect, PolicyId, PolicySet, Rule},
};

/// What the policies say to some facts, one by one.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What they say together.
    pub decision: Decision,
    /// The same in words.
    pub words: String,
    /// Each policy, in the order of files and lines.
    pub policies: Vec<PolicyExplanation>,
    /// What the policies saw, under the names that they use.
    pub facts: BTreeMap<&'static str, serde_json::Value>,
}

/// What one policy says to some facts.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyExplanation {
    /// Its id.
    pub id: PolicyId,
    /// In which file it stands.
    pub file: String,
    /// Where it begins, counted from 1.
    pub line: usize,
    /// What it does where it applies.
    pub effect: Effect,
    /// Its `@reason`.
    pub reason: Option<String>,
    /// Whether it applies.
    pub applies: bool,
    /// Why it cannot be evaluated.
    pub error: Option<String>,
    /// For a permit: what would have it apply. For a forbid that applies: what would have it not apply. Empty with `for_good`.
    pub missing: Vec<Missing>,
    /// Whether nothing that could come changes what it says.
    pub for_good: bool,
}

impl PolicySet {
    /// What the policies say of a release, one by one.
    #[must_use]
    pub fn explain(&self, facts: &Facts) -> Explanation {
        let decision = self.decide(facts);
        let mut rules: Vec<(&PolicyId, &Rule)> = self.rules.iter().collect();
        rules.sort_by_key(|(_, rule)| (&rule.file, rule.line));
        let policies = rules.into_iter().filter_map(|(id, rule)| self.explain_one(id, rule, facts)).collect();
        Explanation { words: decision.words(), decision, policies, facts: crate::context::shown(facts) }
    }

    fn explain_one(&self, id: &PolicyId, rule: &Rule, facts: &Facts) -> Option<PolicyExplanation> {
        let policy = self.cedar.policy(&cedar_policy::PolicyId::new(id.as_str()))?.clone();
        // A forbid alone permits nothing: beside one that permits everything it shows when it does not apply.
        let everything = "permit(principal, action, resource);";
        let everything =
            cedar_policy::Policy::parse(Some(cedar_policy::PolicyId::new("(everything)")), everything).ok();
        let everything = everything.filter(|_| rule.effect == Effect::Forbid);
        let alone = cedar_policy::PolicySet::from_policies([policy].into_iter().chain(everything)).ok()?;
        let established = told_apart(facts.established, &self.literals);
        let facts = &Facts { established: &established, ..*facts };
        let entities = self.asker.entities(facts)?;
        let mut search = Search::new(self, &alone, facts, &entities);
        let now = search.outcome_now();
        let error = now.errors.first().map(|(_, problem)| problem.clone());
        let applies = error.is_none() && now.permitted == (rule.effect == Effect::Permit);
        let found = if now.permitted || error.is_some() { None } else { search.run() };
        Some(PolicyExplanation {
            id: id.clone(),
            file: rule.file.clone(),
            line: rule.line,
            effect: rule.effect,
            reason: rule.reason.clone(),
            applies,
            for_good: !now.permitted && found.is_none(),
            error,
            missing: found.map(|found| found.missing).unwrap_or_default(),
        })
    }
}
