//! A custodian's policies, as they are loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use cedar_policy::{Authorizer, Entities};
use rutli_evidence::{Established, Trust};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    check,
    context::{Asker, Counted},
    facts::{Facts, Rates},
    invalid::{InvalidPolicy, cut},
    literals::Literals,
};

/// A custodian's policies: parsed, validated, ready to decide. Empty: nothing is permitted.
#[derive(Debug)]
pub struct PolicySet {
    pub(crate) cedar: cedar_policy::PolicySet,
    pub(crate) rules: BTreeMap<PolicyId, Rule>,
    pub(crate) literals: Literals,
    pub(crate) names: Names,
    pub(crate) asker: Asker,
    warnings: Vec<String>,
    strangers: Vec<String>,
    digest: [u8; 32],
    authorizer: Authorizer,
}

/// The `@id` of a policy: 1 to 64 of `A-Z a-z 0-9 . _ -`, unique in its set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId(Arc<str>);

/// What a policy does where it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It permits, unless another forbids.
    Permit,
    /// It forbids.
    Forbid,
}

/// What is known of a policy beside its conditions.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) effect: Effect,
    /// Its `@reason`, for those whom it refuses.
    pub(crate) reason: Option<String>,
}

/// Who could give evidence: whom the custodian trusts, or, if that is not known, whom the policies name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) builders: Vec<String>,
    pub(crate) rebuilders: Vec<String>,
    pub(crate) testers: Vec<String>,
    pub(crate) reviewers: Vec<String>,
    pub(crate) custodians: Vec<String>,
}

/// What the policies say to some facts.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) permitted: bool,
    /// Which permit it, or which forbid it, by their ids.
    pub(crate) by: Vec<PolicyId>,
    /// Which could not be evaluated, and why.
    pub(crate) errors: Vec<(PolicyId, String)>,
}

impl PolicySet {
    /// Parses the texts of policy files, given with their names, and validates them against [`SCHEMA`](crate::SCHEMA).
    ///
    /// Each policy has an `@id` of its own, and may have a `@reason`: one line that those read whom it refuses. With `trust`, a set that
    /// names a key or a custodian who is not trusted is refused; without, that is not checked. No files: a set that permits nothing.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for the first thing that is wrong, with its file and line.
    pub fn parse(files: &[(String, String)], trust: Option<&Trust>) -> Result<Self, InvalidPolicy> {
        let checked = check::check(files, trust)?;
        let asker = Asker::new()
            .ok_or_else(|| InvalidPolicy::OwnSchema { problem: "its names are none in Cedar".into() })?;
        Ok(Self {
            cedar: checked.cedar,
            rules: checked.rules,
            literals: checked.literals,
            names: checked.names,
            warnings: checked.warnings,
            strangers: checked.strangers,
            asker,
            digest: digest(files),
            authorizer: Authorizer::new(),
        })
    }

    /// The ids of all policies, in order.
    pub fn ids(&self) -> impl Iterator<Item = &PolicyId> {
        self.rules.keys()
    }

    /// What a custodian should look at, though it is no error: one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whom the policies name and the trust that they were parsed with does not have: one line each. At a custodian's desk a mistake to
    /// correct; at a node it must not keep other rules from being taken, for a key that was revoked would then still count.
    #[must_use]
    pub fn strangers(&self) -> &[String] {
        &self.strangers
    }

    /// SHA-256 over the files in the order they were given: for each its name and its text, each after its length in bytes
    /// as eight bytes, big-endian.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What some of the policies say to the release, if this is established, at this time.
    pub(crate) fn outcome(
        &self,
        policies: &cedar_policy::PolicySet,
        (facts, entities): (&Facts, &Entities),
        established: &[&Established],
        (rates, now_unix): (Rates, u64),
    ) -> Outcome {
        let counted = Counted::of(established);
        let Some(request) = self.asker.request(facts, &counted, rates, now_unix) else {
            // Only repeated names lead here. Doubt refuses.
            return Outcome { permitted: false, by: Vec::new(), errors: Vec::new() };
        };
        let response = self.authorizer.is_authorized(&request, policies, entities);
        let diagnostics = response.diagnostics();
        let errors: Vec<(PolicyId, String)> = diagnostics
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    (PolicyId::new(error.policy_id().as_ref()), cut(&error.inner().to_string()))
                }
            })
            .collect();
        let mut by: Vec<PolicyId> = diagnostics.reason().map(|id| PolicyId::new(id.as_ref())).collect();
        by.sort_unstable();
        let permitted = response.decision() == cedar_policy::Decision::Allow && errors.is_empty();
        Outcome { permitted, by, errors }
    }
}

impl PolicyId {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for PolicyId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Names {
    pub(crate) fn of(trust: Option<&Trust>, literals: &Literals) -> Self {
        use rutli_evidence::Role;
        let trusted = trust.map(Trust::keys);
        let role = |role: Role, attribute: &str| -> Vec<String> {
            match &trusted {
                Some(keys) => keys.get(&role).into_iter().flatten().map(|name| (*name).to_owned()).collect(),
                None => named(literals, attribute, 1),
            }
        };
        let mut testers = role(Role::Tester, "context.testers");
        if trusted.is_none() {
            let by = literals.texts("context.testsPassedBy").filter_map(|text| text.split_once('/'));
            let by: BTreeSet<String> = by.map(|(tester, _)| tester.to_owned()).collect();
            testers.extend(by);
        }
        Self {
            builders: role(Role::Builder, "context.builders"),
            rebuilders: role(Role::Rebuilder, "context.rebuilders"),
            reviewers: role(Role::Reviewer, "context.reviewers"),
            testers,
            custodians: match trust {
                Some(trust) => trust.custodians().into_iter().map(str::to_owned).collect(),
                None => named(literals, "context.approvers", UNKNOWN_CUSTODIANS),
            },
        }
    }
}

/// Custodians that are assumed where it is not known whom a node trusts.
const UNKNOWN_CUSTODIANS: usize = 8;

/// Whom policies name, and others of whom nothing is known: their names are none.
fn named(literals: &Literals, attribute: &str, others: usize) -> Vec<String> {
    let named = literals.texts(attribute).map(str::to_owned);
    named.chain((1..=others).map(|number| format!("(any {number})"))).collect()
}

fn digest(files: &[(String, String)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for text in files.iter().flat_map(|(name, text)| [name, text]) {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}
