//! in-toto Statements v1 of the types that are evidence, as far as they are read.
//!
//! | `predicateType` | read |
//! | --- | --- |
//! | `https://slsa.dev/provenance/v1` | builder, build type, source, invocation, end |
//! | `https://in-toto.io/attestation/test-result/v0.1` | result, names of configurations and tests |
//! | `https://slsa.dev/verification_summary/v1` | verifier, what was reviewed, result, levels |
//!
//! Unknown fields are passed over, as in-toto's parsing rules ask for; what is read must be of the right type, printable and within
//! its bound. Timestamps are those of RFC 3339.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{
    document::NotEvidence,
    fact::SourceDigest,
    json,
    limits::{MAX_SUBJECTS, MAX_TEXT_BYTES},
    words::{is_printable, quoted},
};

pub(crate) const STATEMENT: &str = "https://in-toto.io/Statement/v1";
pub(crate) const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
pub(crate) const TEST_RESULT: &str = "https://in-toto.io/attestation/test-result/v0.1";
pub(crate) const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";

/// The digests that our attestations name for each file, by in-toto's names, with their lengths in bytes.
const FILE_DIGESTS: [(&str, usize); 3] = [("blake2b", 64), ("sha256", 32), ("sha512", 64)];

/// A statement whose form is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// 1 to 5000.
    pub(crate) subjects: Vec<Subject>,
    pub(crate) predicate: Predicate,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: Option<String>,
    /// All digests with their algorithms, as written. Digests in algorithms that identify a release's files
    /// are checked for their form.
    pub(crate) digests: Vec<(String, String)>,
    /// What identifies it if it is a source.
    pub(crate) source: Option<SourceDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Predicate {
    Provenance(Provenance),
    Tests(Tests),
    Review(Review),
}

/// SLSA provenance v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    pub(crate) builder_id: String,
    pub(crate) build_type: String,
    pub(crate) source_uri: Option<String>,
    pub(crate) source_digest: SourceDigest,
    pub(crate) invocation_id: Option<String>,
    pub(crate) finished_at: Option<u64>,
}

/// in-toto test result v0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tests {
    pub(crate) result: TestResult,
    pub(crate) configurations: BTreeSet<String>,
    pub(crate) passed: BTreeSet<String>,
    pub(crate) failed: BTreeSet<String>,
    pub(crate) url: Option<String>,
}

/// SLSA verification summary v1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) verifier_id: String,
    pub(crate) resource_uri: String,
    pub(crate) result: ReviewResult,
    pub(crate) levels: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TestResult {
    Passed,
    Warned,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum ReviewResult {
    Passed,
    Failed,
}

/// Reads the payload of an envelope.
pub(crate) fn parse(payload: &[u8]) -> Result<Statement, NotEvidence> {
    // The type first, so that an unknown one is named, whatever its predicate looks like.
    let head: Head = json::parse(payload).map_err(NotEvidence::Statement)?;
    if head.statement_type != STATEMENT {
        return Err(NotEvidence::Statement(format!("its _type is {}", quoted(&head.statement_type))));
    }
    let count = head.subject.len();
    if !(1..=MAX_SUBJECTS).contains(&count) {
        return Err(NotEvidence::Subjects { count });
    }
    let subjects =
        head.subject.into_iter().map(subject).collect::<Result<_, _>>().map_err(NotEvidence::Statement)?;
    let in_predicate = |predicate| move |problem| NotEvidence::Predicate { predicate, problem };
    let predicate = match head.predicate_type.as_str() {
        PROVENANCE => provenance(payload).map_err(in_predicate("SLSA provenance"))?,
        TEST_RESULT => tests(payload).map_err(in_predicate("test result"))?,
        SUMMARY => review(payload).map_err(in_predicate("verification summary"))?,
        other => return Err(NotEvidence::UnknownPredicate { found: quoted(other) }),
    };
    Ok(Statement { subjects, predicate })
}

fn subject(json: SubjectJson) -> Result<Subject, String> {
    // Not shown but quoted, so that it may be any that an artifact may have.
    if json.name.as_ref().is_some_and(|name| name.len() > MAX_TEXT_BYTES) {
        return Err(format!("a subject's name has more than {MAX_TEXT_BYTES} bytes"));
    }
    let source = digest("a subject", &json.digest)?;
    for (algorithm, bytes) in FILE_DIGESTS {
        let is_hex = |text: &String| {
            text.len() == 2 * bytes && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if json.digest.get(algorithm).is_some_and(|text| !is_hex(text)) {
            return Err(format!(
                "the {algorithm} digest of a subject is not in lower-case hexadecimal of its length"
            ));
        }
    }
    Ok(Subject { name: json.name, digests: json.digest.into_iter().collect(), source })
}

fn provenance(payload: &[u8]) -> Result<Predicate, String> {
    let Body { predicate: ProvenanceJson { build_definition, run_details } } = json::parse(payload)?;
    let source = source(build_definition.resolved_dependencies)?;
    let source_digest = digest("the source", &source.digest)?.ok_or(
        "the source in buildDefinition.resolvedDependencies has neither a sha256 nor a gitCommit digest",
    )?;
    let metadata = run_details.metadata.unwrap_or_default();
    Ok(Predicate::Provenance(Provenance {
        builder_id: text("runDetails.builder.id", run_details.builder.id)?,
        build_type: text("buildDefinition.buildType", build_definition.build_type)?,
        source_uri: optional("the source's uri", source.uri)?,
        source_digest,
        invocation_id: optional("runDetails.metadata.invocationId", metadata.invocation_id)?,
        finished_at: metadata
            .finished_on
            .map(|time| timestamp("runDetails.metadata.finishedOn", &time))
            .transpose()?,
    }))
}

/// The item named `source`, or the only one.
fn source(dependencies: Vec<ResourceJson>) -> Result<ResourceJson, String> {
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        dependencies.into_iter().partition(|item| item.name.as_deref() == Some("source"));
    match (named.len(), others.len()) {
        (1, _) => named.pop(),
        (0, 1) => others.pop(),
        _ => None,
    }
    .ok_or_else(|| {
        format!(
            "it has {} items in buildDefinition.resolvedDependencies, {} of them named `source`: exactly one must be",
            named.len().saturating_add(others.len()),
            named.len()
        )
    })
}

fn tests(payload: &[u8]) -> Result<Predicate, String> {
    let Body { predicate: TestsJson { result, configuration, passed_tests, failed_tests, url } } =
        json::parse(payload)?;
    let configurations = configuration.into_iter().filter_map(|item| item.name).collect();
    Ok(Predicate::Tests(Tests {
        result,
        configurations: names("configuration", configurations)?,
        passed: names("passedTests", passed_tests)?,
        failed: names("failedTests", failed_tests)?,
        url: optional("url", url)?,
    }))
}

fn review(payload: &[u8]) -> Result<Predicate, String> {
    let Body { predicate: SummaryJson { verifier, resource_uri, verification_result, verified_levels } } =
        json::parse(payload)?;
    Ok(Predicate::Review(Review {
        verifier_id: text("verifier.id", verifier.id)?,
        resource_uri: text("resourceUri", resource_uri)?,
        result: verification_result,
        levels: names("verifiedLevels", verified_levels)?,
    }))
}

/// The digest of a set that counts. One of a known algorithm in another form than in-toto gives it is a mistake.
fn digest(of: &str, set: &BTreeMap<String, String>) -> Result<Option<SourceDigest>, String> {
    let mut found = None;
    for algorithm in ["gitCommit", "sha256"] {
        if let Some(text) = set.get(algorithm) {
            let digest = SourceDigest::new(algorithm, text).ok_or_else(|| {
                format!("the {algorithm} digest of {of} is not in lower-case hexadecimal of its length")
            })?;
            found = Some(digest);
        }
    }
    Ok(found)
}

fn text(field: &str, text: String) -> Result<String, String> {
    if text.len() > MAX_TEXT_BYTES || !is_printable(&text) {
        return Err(format!("{field} is not 1 to {MAX_TEXT_BYTES} bytes of printable text"));
    }
    Ok(text)
}

/// A text that need not be there. Empty is as good as absent, as protobuf writes it.
fn optional(field: &str, value: Option<String>) -> Result<Option<String>, String> {
    value.filter(|value| !value.is_empty()).map(|value| text(field, value)).transpose()
}

fn names(field: &str, names: Vec<String>) -> Result<BTreeSet<String>, String> {
    names.into_iter().map(|name| text(field, name)).collect()
}

/// A time in Unix seconds, rounded down.
fn timestamp(field: &str, text: &str) -> Result<u64, String> {
    let time = text.parse::<jiff::Timestamp>().ok().filter(|_| text.len() <= MAX_TEXT_BYTES);
    time.and_then(|time| u64::try_from(time.as_second()).ok())
        .ok_or_else(|| format!("{field} is no time in RFC 3339, as 2026-11-21T10:00:00Z"))
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "_type")]
    statement_type: String,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    subject: Vec<SubjectJson>,
}

#[derive(Deserialize)]
struct SubjectJson {
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(bound = "P: Deserialize<'de>")]
struct Body<P> {
    #[serde(deserialize_with = "rutli_release::json::object")]
    predicate: P,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProvenanceJson {
    #[serde(deserialize_with = "rutli_release::json::object")]
    build_definition: DefinitionJson,
    #[serde(deserialize_with = "rutli_release::json::object")]
    run_details: RunJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DefinitionJson {
    build_type: String,
    #[serde(default, deserialize_with = "rutli_release::json::objects")]
    resolved_dependencies: Vec<ResourceJson>,
}

/// in-toto's `ResourceDescriptor`, v1.
#[derive(Deserialize)]
struct ResourceJson {
    name: Option<String>,
    uri: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RunJson {
    #[serde(deserialize_with = "rutli_release::json::object")]
    builder: IdJson,
    #[serde(default, deserialize_with = "rutli_release::json::maybe_object")]
    metadata: Option<MetadataJson>,
}

#[derive(Deserialize)]
struct IdJson {
    id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetadataJson {
    invocation_id: Option<String>,
    finished_on: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestsJson {
    result: TestResult,
    #[serde(deserialize_with = "rutli_release::json::objects")]
    configuration: Vec<ResourceJson>,
    #[serde(default)]
    passed_tests: Vec<String>,
    #[serde(default)]
    failed_tests: Vec<String>,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryJson {
    #[serde(deserialize_with = "rutli_release::json::object")]
    verifier: IdJson,
    resource_uri: String,
    verification_result: ReviewResult,
    verified_levels: Vec<String>,
}
