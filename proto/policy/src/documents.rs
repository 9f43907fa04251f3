//! Documents that could yet come: what the trusted keys and custodians could establish.

use std::collections::BTreeSet;

use rutli_evidence::{BuildFact, Established, SourceDigest};

use crate::{
    context::sources,
    limits::{MAX_BUILDS_PER_KEY, MAX_SOURCES},
    literals::Literals,
    set::Names,
};

/// The attributes whose members come from documents.
pub(crate) const ATTRIBUTES: [&str; 12] = [
    "context.builders",
    "context.builderIds",
    "context.buildTypes",
    "context.sources",
    "context.sourceUris",
    "context.rebuilders",
    "context.reviewers",
    "context.reviewLevels",
    "context.testers",
    "context.testsPassed",
    "context.testsPassedBy",
    "context.approvers",
];

/// Stands for what no policy asks about. Begins as no name of a key or custodian does.
pub(crate) const ANY: &str = "(any)";

/// The finish time of a build that may still come: as late as policies can require.
const JUST_NOW: u64 = u64::MAX;

/// Stands for a source of which nothing is known: no archive has this digest.
pub(crate) const ANY_SOURCE: SourceDigest = SourceDigest::Sha256([0; 32]);

/// Stands for the one source that all documents of a case are about where the case names none.
pub(crate) const UNSTATED_SOURCE: SourceDigest = SourceDigest::Sha256([0x5a; 32]);

/// The same document about another source.
pub(crate) fn of_source(document: &Established, source: &SourceDigest) -> Established {
    let mut other = document.clone();
    match &mut other {
        Established::Provenance(build) | Established::Rebuild(build) => build.source_digest = source.clone(),
        Established::Review { source_digest, .. } => *source_digest = source.clone(),
        _ => {}
    }
    other
}

/// The same documents with no more names in them than policies can tell apart: those that they name, and one that stands for all
/// others. A test run may name a hundred thousand tests, and policies are asked thousands of times in search of what is missing. Where a
/// policy compares names with what is not written out, all of them stay.
pub(crate) fn told_apart(established: &[Established], literals: &Literals) -> Vec<Established> {
    let is_indirect = |attribute: &str| literals.indirect.contains(attribute);
    let all_tests = is_indirect("context.testsPassed") || is_indirect("context.testsPassedBy");
    let all_levels = is_indirect("context.reviewLevels");
    let mut few = established.to_vec();
    for document in &mut few {
        match document {
            Established::Tests { by, passed, .. } if !all_tests => {
                *passed = named_and_one(passed, &tests(literals, by));
            }
            Established::Review { levels, .. } if !all_levels => {
                *levels = named_and_one(levels, &literals.texts("context.reviewLevels").collect());
            }
            _ => {}
        }
    }
    few
}

fn named_and_one(texts: &BTreeSet<String>, named: &BTreeSet<&str>) -> BTreeSet<String> {
    let there = named.iter().filter(|text| texts.contains(**text)).map(|text| (*text).to_owned());
    there.chain(texts.iter().find(|text| !named.contains(text.as_str())).cloned()).collect()
}

/// How many documents there are for each source.
pub(crate) fn count(names: &Names, literals: &Literals) -> usize {
    let builds = names.builders.len().saturating_mul(builds(literals).len());
    let tests = names.testers.iter().map(|tester| tests(literals, tester).len()).sum::<usize>();
    [builds, names.rebuilders.len(), tests, names.reviewers.len(), names.custodians.len()]
        .into_iter()
        .fold(0, usize::saturating_add)
}

/// The sources that a build could be attested for: the one that is, if one is; else those of rebuilds and reviews that are there
/// already, those that policies name, and any. None if builders name different ones: what comes then does not count either.
pub(crate) fn possible_sources(established: &[&Established], literals: &Literals) -> Vec<SourceDigest> {
    let attested = sources(established);
    match attested.len() {
        0 => {}
        1 => return attested.into_iter().cloned().collect(),
        _ => return Vec::new(),
    }
    let waiting = established.iter().filter_map(|established| match established {
        Established::Rebuild(build) => Some(build.source_digest.clone()),
        Established::Review { source_digest, .. } => Some(source_digest.clone()),
        _ => None,
    });
    // In an order of its own: that of the documents must not matter.
    let waiting: BTreeSet<SourceDigest> = waiting.collect();
    let named = literals.texts("context.sources").filter_map(|text| text.parse().ok());
    let mut possible: Vec<SourceDigest> = Vec::new();
    for source in waiting.into_iter().chain(named).chain([ANY_SOURCE]) {
        if !possible.contains(&source) && possible.len() < MAX_SOURCES {
            possible.push(source);
        }
    }
    possible
}

/// The documents that could yet come, if what is built is built from `source`; without it none about builds.
pub(crate) fn possible(
    names: &Names,
    literals: &Literals,
    established: &[&Established],
    source: Option<&SourceDigest>,
) -> Vec<Established> {
    let mut possible = Vec::new();
    if let Some(source) = source {
        for by in &names.builders {
            possible.extend(
                builds(literals).into_iter().map(|build| Established::Provenance(build.by(by, source))),
            );
        }
        let plain = Build::default();
        possible.extend(names.rebuilders.iter().map(|by| Established::Rebuild(plain.clone().by(by, source))));
        let levels: BTreeSet<String> = literals.texts("context.reviewLevels").map(str::to_owned).collect();
        possible.extend(names.reviewers.iter().map(|by| review(by, source, levels.clone())));
    }
    for by in &names.testers {
        possible.extend(tests(literals, by).into_iter().map(|test| passed(by, test)));
    }
    possible.extend(names.custodians.iter().map(|name| Established::Approval { custodian: name.clone() }));
    possible.retain(|document| !established.iter().any(|there| covers(there, document)));
    possible
}

/// Whether what is there makes a document superfluous.
fn covers(there: &Established, document: &Established) -> bool {
    match (there, document) {
        (Established::Rebuild(there), Established::Rebuild(document)) => {
            there.by == document.by && there.source_digest == document.source_digest
        }
        (Established::Tests { by, passed, .. }, Established::Tests { by: tester, passed: wanted, .. }) => {
            by == tester && (passed.is_superset(wanted) || wanted.iter().all(|test| test == ANY))
        }
        (
            Established::Review { by, source_digest, levels, .. },
            Established::Review { by: reviewer, source_digest: source, levels: wanted, .. },
        ) => by == reviewer && source_digest == source && levels.is_superset(wanted),
        (Established::Provenance(there), Established::Provenance(document)) => {
            let is_any = |text: &str| text == ANY;
            there.by == document.by
                && (is_any(&document.builder_id) || there.builder_id == document.builder_id)
                && (is_any(&document.build_type) || there.build_type == document.build_type)
                && (document.source_uri.is_none() || there.source_uri == document.source_uri)
        }
        _ => there == document,
    }
}

/// How something is built: combinations of what policies name.
#[derive(Clone, Default)]
struct Build {
    id: Option<String>,
    kind: Option<String>,
    uri: Option<String>,
}

impl Build {
    fn by(self, by: &str, source: &SourceDigest) -> BuildFact {
        BuildFact {
            by: by.to_owned(),
            builder_id: self.id.unwrap_or_else(|| ANY.to_owned()),
            build_type: self.kind.unwrap_or_else(|| ANY.to_owned()),
            source_uri: self.uri,
            source_digest: source.clone(),
            invocation_id: None,
            finished_at: Some(JUST_NOW),
        }
    }
}

fn builds(literals: &Literals) -> Vec<Build> {
    let named = |attribute: &str| -> Vec<Option<String>> {
        let texts: Vec<_> = literals.texts(attribute).map(|text| Some(text.to_owned())).collect();
        if texts.is_empty() { vec![None] } else { texts }
    };
    let (ids, kinds, uris) =
        (named("context.builderIds"), named("context.buildTypes"), named("context.sourceUris"));
    let combinations = ids.len().saturating_mul(kinds.len()).saturating_mul(uris.len());
    if combinations > MAX_BUILDS_PER_KEY {
        // Too many together: each of them at least once.
        let most = ids.len().max(kinds.len()).max(uris.len());
        let each = |list: &[Option<String>]| -> Vec<_> { list.iter().cycle().take(most).cloned().collect() };
        let all = each(&ids).into_iter().zip(each(&kinds)).zip(each(&uris));
        return all.map(|((id, kind), uri)| Build { id, kind, uri }).collect();
    }
    let mut all = Vec::with_capacity(combinations);
    for id in &ids {
        for kind in &kinds {
            all.extend(uris.iter().map(|uri| Build { id: id.clone(), kind: kind.clone(), uri: uri.clone() }));
        }
    }
    all
}

/// The tests that policies ask of a tester, or any.
fn tests<'a>(literals: &'a Literals, tester: &str) -> BTreeSet<&'a str> {
    let by_him = literals.texts("context.testsPassedBy").filter_map(|text| text.split_once('/'));
    let by_him = by_him.filter(|(by, _)| *by == tester).map(|(_, test)| test);
    let mut tests: BTreeSet<&str> = literals.texts("context.testsPassed").chain(by_him).collect();
    if tests.is_empty() {
        tests.insert(ANY);
    }
    tests
}

pub(crate) fn passed(by: &str, test: &str) -> Established {
    Established::Tests { by: by.to_owned(), passed: BTreeSet::from([test.to_owned()]), url: None }
}

pub(crate) fn review(by: &str, source: &SourceDigest, levels: BTreeSet<String>) -> Established {
    Established::Review {
        by: by.to_owned(),
        verifier_id: ANY.to_owned(),
        source_uri: ANY.to_owned(),
        source_digest: source.clone(),
        levels,
    }
}
