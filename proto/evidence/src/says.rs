//! What a document says of itself, for people to read: unverified, as anybody may have written it.

use std::collections::BTreeSet;

use rutli_release::Timestamp;
use ssh_key::HashAlg;

use crate::{
    document::{Content, Evidence},
    limits::MAX_LISTED,
    statement::{Predicate, Provenance, Review, ReviewResult, TestResult, Tests},
    text::{SignedText, Word},
    words::cut,
};

impl Evidence {
    /// What the document says, line by line: a name and a text that a terminal shows as it is. Nothing of it is verified: for what it
    /// establishes there is [`verify`](crate::verify()). Lists are cut.
    #[must_use]
    pub fn says(&self) -> Vec<(&'static str, String)> {
        match &self.content {
            Content::Envelope(envelope) => {
                let statement = &envelope.statement;
                let mut lines = match &statement.predicate {
                    Predicate::Provenance(provenance) => of_provenance(provenance),
                    Predicate::Tests(tests) => of_tests(tests),
                    Predicate::Review(review) => of_review(review),
                };
                let names: BTreeSet<_> = statement
                    .subjects
                    .iter()
                    .filter_map(|subject| subject.name.as_deref())
                    .map(cut)
                    .collect();
                lines.push(("about", listed(&names)));
                lines
            }
            Content::Text(text) => of_text(text),
        }
    }
}

fn of_provenance(provenance: &Provenance) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("builder", provenance.builder_id.clone()),
        ("build type", provenance.build_type.clone()),
        ("source", source(provenance.source_uri.as_deref(), &provenance.source_digest.to_string())),
    ];
    lines.extend(provenance.invocation_id.clone().map(|id| ("run", id)));
    lines.extend(provenance.finished_at.map(|time| ("finished", Timestamp(time).rfc3339())));
    lines
}

fn of_tests(tests: &Tests) -> Vec<(&'static str, String)> {
    let result = match tests.result {
        TestResult::Passed => "passed",
        TestResult::Warned => "warned",
        TestResult::Failed => "failed",
    };
    let mut lines = vec![("result", result.to_owned())];
    for (name, tests) in
        [("tested", &tests.configurations), ("passed", &tests.passed), ("failed", &tests.failed)]
    {
        if !tests.is_empty() {
            lines.push((name, listed(tests)));
        }
    }
    lines.extend(tests.url.clone().map(|url| ("report", url)));
    lines
}

fn of_review(review: &Review) -> Vec<(&'static str, String)> {
    let result = match review.result {
        ReviewResult::Passed => "passed",
        ReviewResult::Failed => "failed",
    };
    vec![
        ("reviewer", review.verifier_id.clone()),
        ("source", review.resource_uri.clone()),
        ("result", result.to_owned()),
        ("levels", listed(&review.levels)),
    ]
}

fn of_text(text: &SignedText) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("release", text.release.to_string()),
        ("statement", format!("sha256:{}", hex::encode(text.statement))),
    ];
    if let Word::Refusal { refused, reason } = &text.word {
        lines.push(("product", refused.product.to_string()));
        lines.push(("files", refused.files.len().to_string()));
        lines.push(("reason", reason.clone()));
    }
    let key = text.signature.public_key();
    lines.push(("key", format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))));
    lines.push(("namespace", cut(text.signature.namespace())));
    lines
}

fn source(uri: Option<&str>, digest: &str) -> String {
    uri.map_or_else(|| digest.to_owned(), |uri| format!("{uri} {digest}"))
}

fn listed(texts: &BTreeSet<String>) -> String {
    let shown: Vec<_> = texts.iter().take(MAX_LISTED).map(String::as_str).collect();
    match texts.len().saturating_sub(MAX_LISTED) {
        0 if shown.is_empty() => "nothing by name".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
