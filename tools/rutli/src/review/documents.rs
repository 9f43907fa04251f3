//! What a release's documents say, and what they establish for somebody who trusts certain keys.

use std::collections::BTreeMap;

use rutli_evidence::{BuildFact, Established, Evidence, Trust, verify};
use rutli_release::{ReleaseId, VerifiedRelease};
use serde_json::{Value, json};

use super::when;
use crate::{
    evidence::{self, Kept},
    text,
};

/// A document with what was found out about it.
#[derive(Clone, Debug)]
pub(super) struct Document {
    kept: Kept,
    /// `None` where nobody said whom to trust.
    verdict: Option<Result<Established, String>>,
}

/// How many documents of each kind two releases have.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    pub(super) last: BTreeMap<&'static str, usize>,
    pub(super) now: BTreeMap<&'static str, usize>,
}

impl Document {
    pub(super) fn read_all(
        kept: Vec<Kept>,
        trust: Option<&Trust>,
        content: &VerifiedRelease,
        id: &ReleaseId,
        now_unix: u64,
    ) -> Vec<Self> {
        let judge = |document: &Result<Evidence, String>, trust: &Trust| match document {
            Ok(document) => verify(document, trust, content, id, now_unix).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.clone()),
        };
        kept.into_iter()
            .map(|kept| {
                let verdict = trust.map(|trust| judge(&kept.document, trust));
                Self { kept, verdict }
            })
            .collect()
    }

    /// Its kind: what it establishes where that was asked, else what it claims to be; `None` where it establishes nothing.
    fn kind(&self) -> Option<&'static str> {
        match (&self.verdict, &self.kept.document) {
            (Some(Ok(established)), _) => Some(word(established)),
            (Some(Err(_)), _) | (None, Err(_)) => None,
            (None, Ok(document)) => Some(document.kind().as_str()),
        }
    }

    pub(super) fn text(&self) -> String {
        let info = &self.kept.info;
        let kind = self.kept.document.as_ref().map_or("unknown", |document| document.kind().as_str());
        let mut lines = vec![format!(
            "  {kind}  sha256:{}\n    brought by {} {}, in the log's entry {}",
            hex::encode(&info.digest),
            text::printable(&info.submitter),
            when(info.added_at),
            info.log_index
        )];
        lines.push(match &self.verdict {
            Some(Ok(established)) => format!("    established: {}", in_words(established)),
            Some(Err(why)) => format!("    NOT established: {}", text::printable(why)),
            None => "    unverified".to_owned(),
        });
        match &self.kept.document {
            Ok(document) => {
                let says = document.says().into_iter().map(|(name, said)| (name, text::printable(&said)));
                lines.push("    it says".to_owned());
                lines.extend(text::fields(says).lines().map(|line| format!("      {line}")));
            }
            Err(problem) => lines.push(format!("    cannot be read: {}", text::printable(problem))),
        }
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let mut json = evidence::info_json(&self.kept.info);
        let Value::Object(fields) = &mut json else { return json };
        let says: serde_json::Map<_, _> = match &self.kept.document {
            Ok(document) => {
                document.says().into_iter().map(|(name, said)| (name.to_owned(), json!(said))).collect()
            }
            Err(problem) => [("problem".to_owned(), json!(problem))].into_iter().collect(),
        };
        fields.insert("says".to_owned(), Value::Object(says));
        let verdict = self.verdict.as_ref();
        fields
            .insert("established".to_owned(), json!(verdict.map(|verdict| verdict.as_ref().ok().map(word))));
        let established = verdict.and_then(|verdict| verdict.as_ref().ok());
        fields.insert("by".to_owned(), json!(established.map(by)));
        let why = verdict.and_then(|verdict| verdict.as_ref().err());
        fields.insert("not_established".to_owned(), json!(why));
        json
    }
}

/// How many documents of each kind there are, without those that establish nothing.
pub(super) fn kinds(documents: &[Document]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for kind in documents.iter().filter_map(Document::kind) {
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

fn word(established: &Established) -> &'static str {
    match established {
        Established::Provenance(_) => "provenance",
        Established::Rebuild(_) => "rebuild",
        Established::Tests { .. } => "tests",
        Established::TestsFailed { .. } => "tests-failed",
        Established::Review { .. } => "review",
        Established::Approval { .. } => "approval",
        Established::Refusal { .. } => "refusal",
    }
}

/// The name of the key or of the custodian.
fn by(established: &Established) -> &str {
    match established {
        Established::Provenance(build) | Established::Rebuild(build) => &build.by,
        Established::Tests { by, .. } | Established::TestsFailed { by } | Established::Review { by, .. } => {
            by
        }
        Established::Approval { custodian } | Established::Refusal { custodian, .. } => custodian,
    }
}

fn in_words(established: &Established) -> String {
    let of_build =
        |what: &str, build: &BuildFact| format!("{what} by {}, from {}", build.by, build.source_digest);
    match established {
        Established::Provenance(build) => of_build("built", build),
        Established::Rebuild(build) => of_build("built again, bit for bit the same,", build),
        Established::Tests { by, passed, .. } => {
            format!("{} passed, by {by}", text::count(passed.len(), "test", "tests"))
        }
        Established::TestsFailed { by } => format!("TESTS FAILED, by {by}"),
        Established::Review { by, source_digest, .. } => format!("source {source_digest} reviewed by {by}"),
        Established::Approval { custodian } => format!("approved by {custodian}"),
        Established::Refusal { custodian, reason, refused } => format!(
            "refused by {custodian}: {reason}; with every release of {} that has one of {} files",
            refused.product,
            refused.files.len()
        ),
    }
}
