//! What is missing, in words for a person.

use std::collections::BTreeSet;

use rutli_evidence::{Established, SourceDigest};
use rutli_release::Timestamp;
use serde::Serialize;

use crate::{
    documents::{ANY, ANY_SOURCE, UNSTATED_SOURCE},
    facts::Facts,
};

/// One thing that is missing before a release is permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What it is.
    pub kind: MissingKind,
    /// For a person: `a rebuild by one of: supervisor-rebuilder`.
    pub words: String,
    /// How many documents of this kind, each by another of `of`; 0 for a rate or a time.
    pub count: usize,
    /// The names of the keys or custodians who may give it, in order. Empty where it is not known who may.
    pub of: Vec<String>,
    /// What the document has to say: names of tests, a builder's id, the digest of the one source that what is there is about, levels
    /// of a review.
    pub saying: Vec<String>,
    /// From when on, in Unix seconds: for a time, if nothing else changes until then.
    pub not_before: Option<u64>,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingKind {
    /// Builders who contradict each other must agree, or all but one of them must no longer be trusted.
    Agreement,
    /// A builder's attestation.
    Provenance,
    /// A rebuilder's attestation.
    Rebuild,
    /// A passed run of tests.
    Tests,
    /// A reviewer's summary.
    Review,
    /// A custodian's approval.
    Approval,
    /// Nothing but that fewer releases or files were permitted in the last hour.
    Rate,
    /// Nothing but another time.
    Time,
}

impl MissingKind {
    /// Whether it is a document (`evidence-missing`), not a time or a rate (`not-yet`).
    #[must_use]
    pub fn is_evidence(self) -> bool {
        !matches!(self, Self::Rate | Self::Time)
    }
}

/// What documents have in common that may stand for each other: all but who gives them.
pub(crate) fn sort(document: &Established) -> (MissingKind, Vec<String>) {
    let known = |texts: &mut dyn Iterator<Item = &String>| -> Vec<String> {
        texts.filter(|text| *text != ANY).cloned().collect()
    };
    match document {
        Established::Provenance(build) => {
            let mut said = [&build.builder_id, &build.build_type].into_iter().chain(&build.source_uri);
            let mut said = known(&mut said);
            if build.source_digest != ANY_SOURCE {
                said.push(build.source_digest.to_string());
            }
            (MissingKind::Provenance, said)
        }
        Established::Rebuild(_) => (MissingKind::Rebuild, Vec::new()),
        Established::Tests { passed, .. } => (MissingKind::Tests, known(&mut passed.iter())),
        Established::TestsFailed { .. } => (MissingKind::Tests, Vec::new()),
        Established::Review { levels, .. } => (MissingKind::Review, known(&mut levels.iter())),
        Established::Approval { .. } | Established::Refusal { .. } => (MissingKind::Approval, Vec::new()),
    }
}

/// Who gave or would give a document.
pub(crate) fn giver(document: &Established) -> &str {
    match document {
        Established::Provenance(build) | Established::Rebuild(build) => &build.by,
        Established::Tests { by, .. } | Established::TestsFailed { by } | Established::Review { by, .. } => {
            by
        }
        Established::Approval { custodian } | Established::Refusal { custodian, .. } => custodian,
    }
}

/// The same document by somebody else.
pub(crate) fn given_by(document: &Established, name: &str) -> Established {
    let mut other = document.clone();
    match &mut other {
        Established::Provenance(build) | Established::Rebuild(build) => build.by = name.to_owned(),
        Established::Tests { by, .. } | Established::TestsFailed { by } | Established::Review { by, .. } => {
            *by = name.to_owned();
        }
        Established::Approval { custodian } | Established::Refusal { custodian, .. } => {
            *custodian = name.to_owned();
        }
    }
    other
}

impl Missing {
    /// `count` documents of a sort, each by another of `of`.
    pub(crate) fn evidence(
        (kind, mut saying): (MissingKind, Vec<String>),
        count: usize,
        mut of: Vec<String>,
        facts: &Facts,
    ) -> Self {
        of.sort_unstable();
        // Of those whom nobody named nothing can be said.
        of.retain(|name| !name.starts_with('('));
        // A person who named no source in a case is told of none.
        let unstated = UNSTATED_SOURCE.to_string();
        let before = saying.len();
        saying.retain(|text| *text != unstated);
        let same = if saying.len() < before { " of the same source" } else { "" };
        let words = words(kind, &saying, same, count, &of) + &note(kind, &of, facts);
        Self { kind, words, count, of, saying, not_before: None }
    }

    /// The sources that the builders named; none of them counts.
    pub(crate) fn agreement(sources: &BTreeSet<&SourceDigest>) -> Self {
        let saying: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let words = format!(
            "one source: the builders' attestations name different ones ({}), and none counts until this node trusts one builder alone",
            saying.join(" and ")
        );
        let kind = MissingKind::Agreement;
        Self { kind, words, count: 0, of: Vec::new(), saying, not_before: None }
    }

    pub(crate) fn rate(facts: &Facts) -> Self {
        let releases = facts.rates.releases_in_hour.saturating_add(1);
        let files = facts.rates.artifacts_in_hour.saturating_add(facts.release.artifacts);
        let words = format!(
            "a quieter hour: with this one there are {releases} releases and {files} files of {} {} within an hour",
            facts.release.class.as_str(),
            facts.release.product
        );
        let kind = MissingKind::Rate;
        Self { kind, words, count: 0, of: Vec::new(), saying: Vec::new(), not_before: None }
    }

    pub(crate) fn time(unix: u64) -> Self {
        let words = format!("its time: not before {}", Timestamp(unix).rfc3339());
        let kind = MissingKind::Time;
        Self { kind, words, count: 0, of: Vec::new(), saying: Vec::new(), not_before: Some(unix) }
    }
}

fn words(kind: MissingKind, saying: &[String], same: &str, count: usize, of: &[String]) -> String {
    let listed =
        |texts: &[&String]| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let (sources, others): (Vec<&String>, Vec<&String>) =
        saying.iter().partition(|text| text.parse::<SourceDigest>().is_ok());
    let some = |words: &str, texts: &[&String]| match texts {
        [] => String::new(),
        _ => format!(" {words} {}", listed(texts)),
    };
    let said = listed(&saying.iter().collect::<Vec<_>>());
    let (of_source, with) = (some("from the source", &sources), some("with", &others));
    let what = match kind {
        MissingKind::Provenance => format!("a provenance of the build{same}{of_source}{with}"),
        MissingKind::Rebuild => "a rebuild".to_owned(),
        MissingKind::Tests if saying.is_empty() => "a passed test run".to_owned(),
        MissingKind::Tests => format!("the passed test {said}"),
        MissingKind::Review => {
            format!("a review of the source{}", some("with", &saying.iter().collect::<Vec<_>>()))
        }
        MissingKind::Approval => return approvals(count, of),
        MissingKind::Agreement | MissingKind::Rate | MissingKind::Time => return String::new(),
    };
    let names = of.join(", ");
    match of {
        [] => what,
        _ if of.len() == count && count > 1 => format!("{what} by each of: {names}"),
        _ if count > 1 => format!("{what} by {count} of: {names}"),
        _ => format!("{what} by one of: {names}"),
    }
}

fn approvals(count: usize, of: &[String]) -> String {
    let plural = if count == 1 { "" } else { "s" };
    match of {
        [] => format!("{count} more approval{plural}"),
        [name] => format!("the approval of {name}"),
        _ if of.len() == count => format!("the approvals of: {}", of.join(", ")),
        _ => format!("{count} more approval{plural} of: {}", of.join(", ")),
    }
}

/// What is there already, but of another source than that of the build.
fn note(kind: MissingKind, of: &[String], facts: &Facts) -> String {
    let there = facts.established.iter().filter(|document| of.iter().any(|name| name == giver(document)));
    match there
        .filter_map(|document| Some((giver(document), source_of(kind, document)?)))
        .min_by_key(|(name, source)| (*name, source.to_string()))
    {
        Some((name, source)) if *source == UNSTATED_SOURCE => {
            format!(" (the one by {name} counts only with a provenance of the same source)")
        }
        Some((name, source)) => {
            format!(" (the one by {name} is of {source}, and counts only with a provenance of that source)")
        }
        None => String::new(),
    }
}

/// Of a document that counts only beside a provenance of the same source.
fn source_of(kind: MissingKind, document: &Established) -> Option<&SourceDigest> {
    match document {
        Established::Rebuild(build) if kind == MissingKind::Rebuild => Some(&build.source_digest),
        Established::Review { source_digest, .. } if kind == MissingKind::Review => Some(source_digest),
        _ => None,
    }
}
