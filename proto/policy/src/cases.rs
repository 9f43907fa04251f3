//! Cases: facts, and what a custodian expects of his policies for them.

use std::collections::BTreeSet;

use rutli_evidence::{BuildFact, Established, Refused, Role, SourceDigest, Trust};
use rutli_release::{ArtifactName, Channel, Class, Format, Product, Requester, Sequence, Timestamp, Version};
use serde::{Deserialize, Serialize};

use crate::{
    decide::Decision,
    documents::{ANY, UNSTATED_SOURCE},
    facts::{Facts, FileNames, Rates, ReleaseFacts},
    invalid::cut,
    limits::{MAX_CASES, MAX_CASES_BYTES, MAX_EVIDENCE_PER_CASE},
    missing::{MissingKind, giver},
    rules::{SIGNERS_FILE, TRUST_FILE},
    set::PolicySet,
};

/// A file of cases, with unique names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The cases, at least one.
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

/// Facts, and what is expected of the policies for them. What is not given stands for something ordinary.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, unique in its file.
    pub name: String,
    /// What is expected.
    pub expect: Expected,
    /// By which policies, in any order: those that permit it, or would, or forbid it. Not given: not compared.
    pub policies: Option<BTreeSet<String>>,
    /// What is missing, for a case that waits. Not given: not compared.
    pub missing: Option<BTreeSet<MissingKind>>,
    /// Who asks. Default: `pipeline`.
    #[serde(default = "defaults::requester")]
    pub requester: Requester,
    /// `product-build` or `av-database`.
    pub class: Class,
    /// The product.
    pub product: Product,
    /// Default: `stable`.
    #[serde(default = "defaults::channel")]
    pub channel: Channel,
    /// Default: `1.0.0`.
    #[serde(default = "defaults::version")]
    pub version: Version,
    /// Default: 1.
    #[serde(default = "defaults::sequence")]
    pub sequence: Sequence,
    /// How many files. Default: 1.
    #[serde(default = "defaults::one")]
    pub artifacts: u64,
    /// What they are called. Default: none, whatever their number.
    #[serde(default)]
    pub file_names: Vec<ArtifactName>,
    /// In which formats it is signed. Default: all.
    #[serde(default = "defaults::formats")]
    pub formats: Vec<Format>,
    /// When it was admitted, as `2026-11-23T10:00:00Z`. Default: that.
    #[serde(default = "defaults::now", deserialize_with = "time")]
    pub issued_at: u64,
    /// From when on endpoints refuse it. Default: it does not expire.
    #[serde(default, deserialize_with = "optional_time")]
    pub expires_at: Option<u64>,
    /// Default: false.
    #[serde(default)]
    pub embargoed: bool,
    /// The highest sequence before. Default: none.
    pub previous_sequence: Option<Sequence>,
    /// The version of that release. Default: none.
    pub previous_version: Option<Version>,
    /// Whether no other content had this version. Default: true.
    #[serde(default = "defaults::yes")]
    pub version_is_new: bool,
    /// Files of it that were permitted in an earlier release. Default: 0.
    #[serde(default)]
    pub files_permitted_before: u64,
    /// Permitted in the last hour, this release not included. Default: 0.
    #[serde(default)]
    pub releases_in_hour: u64,
    /// Files permitted in the last hour, those of this release not included. Default: 0.
    #[serde(default)]
    pub artifacts_in_hour: u64,
    /// The node's time, as `2026-11-23T10:00:00Z`. Default: that, a Monday.
    #[serde(default = "defaults::now", deserialize_with = "time")]
    pub now: u64,
    /// What is established.
    #[serde(default, deserialize_with = "evidence")]
    pub evidence: Vec<Established>,
}

/// What is expected of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It is permitted.
    Permitted,
    /// It waits.
    Waits,
    /// It is refused.
    Refused,
}

/// Why a file has no cases that can be tried. Whoever wrote it corrects it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCases {
    /// Larger than cases for people are.
    #[error("the cases have {bytes} bytes: at most {MAX_CASES_BYTES} are read; split the file")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Neither TOML nor JSON, or not of cases.
    #[error("the cases cannot be read: {problem}; see deploy/examples for files of cases")]
    Form {
        /// What is wrong, with the line.
        problem: String,
    },
    /// None, or too many.
    #[error("there are {count} cases: want 1 to {MAX_CASES}")]
    Count {
        /// How many.
        count: usize,
    },
    /// Two cases with one name.
    #[error("two cases are called {name:?}: give each its own name")]
    Repeated {
        /// The name, cut and escaped.
        name: String,
    },
    /// More evidence than a node keeps for a release.
    #[error(
        "the case {name:?} has more than {MAX_EVIDENCE_PER_CASE} pieces of evidence: a node would not keep them"
    )]
    Evidence {
        /// The name, cut and escaped.
        name: String,
    },
}

/// How the cases of a file went.
#[derive(Clone, Debug, Serialize)]
pub struct CasesReport {
    /// Whether each went as expected.
    pub passed: bool,
    /// Each, in the order of the file.
    pub cases: Vec<CaseResult>,
}

/// How one case went.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// Whether it went as expected.
    pub passed: bool,
    /// What was expected.
    pub expected: Expected,
    /// What the policies said.
    pub decision: Decision,
    /// The same in words.
    pub words: String,
    /// What was not as expected, in words.
    pub problem: Option<String>,
}

/// Decides all cases and compares.
#[must_use]
pub fn run_cases(policies: &PolicySet, cases: &Cases) -> CasesReport {
    let cases: Vec<CaseResult> = cases.cases.iter().map(|case| case.run(policies)).collect();
    CasesReport { passed: cases.iter().all(|case| case.passed), cases }
}

impl Cases {
    /// Reads a file of cases: JSON, if it begins with `{`, else TOML. The shape is that of [`Case`], as `[[case]]` tables in TOML or
    /// `{"case": [...]}` in JSON; evidence has a `kind`: `provenance`, `rebuild`, `tests`,
    /// `tests-failed`, `review`, `approval` or `refusal`.
    ///
    /// # Errors
    /// [`InvalidCases`] for the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidCases> {
        if text.len() > MAX_CASES_BYTES {
            return Err(InvalidCases::TooLarge { bytes: text.len() });
        }
        let form = |problem: String| InvalidCases::Form { problem: cut(&problem) };
        let cases: Self = match text.trim_start().starts_with('{') {
            true => serde_json::from_str(text).map_err(|error| form(error.to_string()))?,
            false => toml::from_str(text).map_err(|error| form(error.to_string()))?,
        };
        if cases.cases.is_empty() || cases.cases.len() > MAX_CASES {
            return Err(InvalidCases::Count { count: cases.cases.len() });
        }
        let mut names = BTreeSet::new();
        for case in &cases.cases {
            if !names.insert(&case.name) {
                return Err(InvalidCases::Repeated { name: cut(&case.name) });
            }
            if case.evidence.len() > MAX_EVIDENCE_PER_CASE {
                return Err(InvalidCases::Evidence { name: cut(&case.name) });
            }
        }
        Ok(cases)
    }
}

impl Cases {
    /// Evidence of cases by somebody whom a node with this trust does not believe, so that it would never be established: one line for
    /// each case and name.
    #[must_use]
    pub fn untrusted(&self, trust: &Trust) -> Vec<String> {
        let (keys, custodians) = (trust.keys(), trust.custodians());
        let mut lines = BTreeSet::new();
        let mut add = |case: &Case, document: &Established| {
            let name = giver(document);
            let role = role(document);
            let trusted = match role {
                Some(role) => keys.get(&role).is_some_and(|names| names.contains(name)),
                None => custodians.contains(name),
            };
            let (what, file) = match role {
                Some(role) => (role.to_string(), TRUST_FILE),
                None => ("custodian".to_owned(), SIGNERS_FILE),
            };
            if !trusted {
                let (case, name) = (cut(&case.name), cut(name));
                lines.insert(format!("the case {case:?} has a word of {name}, who is no {what} in {file}"));
            }
        };
        for case in &self.cases {
            case.evidence.iter().for_each(|document| add(case, document));
        }
        lines.into_iter().collect()
    }
}

/// Which role's key a document needs; `None` for what custodians sign.
fn role(document: &Established) -> Option<Role> {
    match document {
        Established::Provenance(_) => Some(Role::Builder),
        Established::Rebuild(_) => Some(Role::Rebuilder),
        Established::Tests { .. } | Established::TestsFailed { .. } => Some(Role::Tester),
        Established::Review { .. } => Some(Role::Reviewer),
        Established::Approval { .. } | Established::Refusal { .. } => None,
    }
}

impl Case {
    /// The case's facts.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            requester: &self.requester,
            release: ReleaseFacts {
                class: self.class,
                product: &self.product,
                channel: &self.channel,
                version: &self.version,
                sequence: self.sequence,
                artifacts: self.artifacts,
                file_names: FileNames::Names(&self.file_names),
                issued_at: Timestamp(self.issued_at),
                expires_at: self.expires_at.map(Timestamp),
                formats: &self.formats,
            },
            embargoed: self.embargoed,
            established: &self.evidence,
            previous_sequence: self.previous_sequence,
            previous_version: self.previous_version.as_ref(),
            version_is_new: self.version_is_new,
            files_permitted_before: self.files_permitted_before,
            rates: Rates {
                releases_in_hour: self.releases_in_hour,
                artifacts_in_hour: self.artifacts_in_hour,
            },
            now_unix: self.now,
        }
    }

    fn run(&self, policies: &PolicySet) -> CaseResult {
        let decision = policies.decide(&self.facts());
        let problem = self.problem(&decision);
        CaseResult {
            name: self.name.clone(),
            passed: problem.is_none(),
            expected: self.expect,
            words: decision.words(),
            decision,
            problem,
        }
    }

    /// What is not as expected.
    fn problem(&self, decision: &Decision) -> Option<String> {
        let (found, by, missing) = match decision {
            Decision::Permitted { policies } => (Expected::Permitted, policies, BTreeSet::new()),
            Decision::Waits { missing, policies } => {
                (Expected::Waits, policies, missing.iter().map(|missing| missing.kind).collect())
            }
            Decision::Refused { policies, .. } => (Expected::Refused, policies, BTreeSet::new()),
        };
        if found != self.expect {
            return Some(
                format!("expected that it is {:?}, but: {}", self.expect, decision.words()).to_lowercase(),
            );
        }
        let by: BTreeSet<&str> = by.iter().map(|id| id.as_str()).collect();
        if let Some(policies) = &self.policies
            && policies.iter().map(String::as_str).collect::<BTreeSet<_>>() != by
        {
            let expected = policies.iter().map(String::as_str).collect();
            return Some(format!("expected it by {}, but it is by {}", list(&expected), list(&by)));
        }
        match &self.missing {
            Some(expected) if *expected != missing => {
                Some(format!("expected that {expected:?} is missing, but {missing:?} is").to_lowercase())
            }
            _ => None,
        }
    }
}

fn list(names: &BTreeSet<&str>) -> String {
    if names.is_empty() {
        "no policy".to_owned()
    } else {
        names.iter().copied().collect::<Vec<_>>().join(", ")
    }
}

/// A piece of evidence of a case. What is not given is as in all the others.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum CaseEvidence {
    Provenance {
        by: String,
        builder_id: Option<String>,
        build_type: Option<String>,
        source: Option<String>,
        source_uri: Option<String>,
        /// When the build was done, as `2026-11-23T09:00:00Z`. Default: not said.
        #[serde(default, deserialize_with = "optional_time")]
        finished: Option<u64>,
    },
    Rebuild {
        by: String,
        builder_id: Option<String>,
        source: Option<String>,
    },
    Tests {
        by: String,
        passed: BTreeSet<String>,
    },
    #[serde(rename = "tests-failed")]
    TestsFailed {
        by: String,
    },
    Review {
        by: String,
        source: Option<String>,
        #[serde(default)]
        levels: BTreeSet<String>,
    },
    Approval {
        by: String,
    },
    Refusal {
        by: String,
        reason: String,
    },
}

impl CaseEvidence {
    fn established(self) -> Result<Established, String> {
        let digest = |source: Option<String>| match source {
            Some(text) => text.parse::<SourceDigest>().map_err(|error| error.to_string()),
            None => Ok(UNSTATED_SOURCE),
        };
        let any = |text: Option<String>| text.unwrap_or_else(|| ANY.to_owned());
        let build = |by, builder_id, build_type, source_uri, source, finished_at| {
            Ok::<_, String>(BuildFact {
                by,
                builder_id: any(builder_id),
                build_type: any(build_type),
                source_uri,
                source_digest: digest(source)?,
                invocation_id: None,
                finished_at,
            })
        };
        Ok(match self {
            Self::Provenance { by, builder_id, build_type, source, source_uri, finished } => {
                Established::Provenance(build(by, builder_id, build_type, source_uri, source, finished)?)
            }
            Self::Rebuild { by, builder_id, source } => {
                Established::Rebuild(build(by, builder_id, None, None, source, None)?)
            }
            Self::Tests { by, passed } => Established::Tests { by, passed, url: None },
            Self::TestsFailed { by } => Established::TestsFailed { by },
            Self::Review { by, source, levels } => crate::documents::review(&by, &digest(source)?, levels),
            Self::Approval { by } => Established::Approval { custodian: by },
            Self::Refusal { by, reason } => {
                let (statement, files) = ([0; 32], BTreeSet::new());
                let refused = Refused { statement, product: defaults::product(), files };
                Established::Refusal { custodian: by, reason, refused }
            }
        })
    }
}

fn evidence<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Established>, D::Error> {
    let evidence = Vec::<CaseEvidence>::deserialize(deserializer)?;
    evidence.into_iter().map(|one| one.established().map_err(serde::de::Error::custom)).collect()
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time: Option<jiff::Timestamp> = text.parse().ok();
    time.and_then(|time| u64::try_from(time.as_second()).ok()).ok_or_else(|| {
        serde::de::Error::custom(format_args!(
            "{text:?} is no time since 1970: want it as \"2026-11-23T10:00:00Z\""
        ))
    })
}

fn optional_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    time(deserializer).map(Some)
}

mod defaults {
    use super::{Channel, Format, Product, Requester, Sequence, Version};

    pub(super) fn formats() -> Vec<Format> {
        Format::ALL.into()
    }

    pub(super) fn yes() -> bool {
        true
    }

    #[expect(clippy::expect_used, reason = "a constant that is a legal value")]
    pub(super) fn requester() -> Requester {
        Requester::new("pipeline").expect("a legal constant")
    }

    #[expect(clippy::expect_used, reason = "a constant that is a legal value")]
    pub(super) fn product() -> Product {
        Product::new("any").expect("a legal constant")
    }

    #[expect(clippy::expect_used, reason = "a constant that is a legal value")]
    pub(super) fn channel() -> Channel {
        Channel::new("stable").expect("a legal constant")
    }

    #[expect(clippy::expect_used, reason = "a constant that is a legal value")]
    pub(super) fn version() -> Version {
        Version::new("1.0.0").expect("a legal constant")
    }

    #[expect(clippy::expect_used, reason = "a constant that is a legal value")]
    pub(super) fn sequence() -> Sequence {
        Sequence::new(1).expect("a legal constant")
    }

    pub(super) fn one() -> u64 {
        1
    }

    /// 2026-11-23T10:00:00Z
    pub(super) fn now() -> u64 {
        1_795_428_000
    }
}
