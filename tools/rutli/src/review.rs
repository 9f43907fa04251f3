//! `rutli review`: shows everything that a custodian decides by. `rutli approve` and `rutli refuse` show the
//! same before they sign.
//!
//! The content comes from the coordinator as typed fields. The statement is made of them here, and its digest with it: what is
//! shown is what is approved. What the coordinator alone says (who asked, when, what was signed last) is shown, and signed by nobody.

mod compare;
mod difference;
mod documents;

use std::path::{Path, PathBuf};

use rutli_evidence::Trust;
use rutli_release::{Artifact, Claimant, ReleaseId, Timestamp, VerifiedRelease};
use rutli_wire::v1;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

use self::{
    compare::Compared,
    difference::Difference,
    documents::{Document, Kinds},
};
use crate::{
    cli,
    clock::unix_now,
    evidence,
    limits::LISTED_FILES,
    releases::{self, rubbish},
    report::{Failure, Report},
    text, trust, waits,
};

/// A release as a custodian sees it.
#[derive(Clone, Debug)]
pub struct View {
    /// Its id.
    pub id: ReleaseId,
    /// Its content, from which the statement is made.
    pub content: VerifiedRelease,
    /// What the coordinator says of it.
    pub release: v1::Release,
    documents: Vec<Document>,
    difference: Option<Difference>,
    /// The folder of rules by whose keys the documents are verified.
    folder: Option<PathBuf>,
}

/// `rutli review`
///
/// # Errors
/// As [`View::fetch`]; exit code 5 for a FILE that is not the release's.
pub async fn run(
    args: cli::Review,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    let trust = args.view.trust.as_deref().map(trust::read).transpose()?;
    let view = View::fetch(connect.await?, &args.release, trust.as_ref(), args.view.trust.as_deref()).await?;
    let compared = compare::compare(&view.content, &args.paths, args.base.as_deref())?;
    let mut text = view.text(args.view.files.is_some());
    let mut json = view.json();
    if !compared.is_empty() {
        let lines: Vec<_> = compared.iter().map(Compared::text).collect();
        text.push_str(&format!("\n\nfiles here\n{}", lines.join("\n")));
    }
    if let Value::Object(fields) = &mut json {
        fields.insert("compared".to_owned(), compared.iter().map(Compared::json).collect());
    }
    match compared.iter().filter(|file| !file.matches()).count() {
        0 => Ok(Report::new(text, json)),
        others => {
            let problem = format!("{} not of this release", text::count(others, "file is", "files are"));
            let failure = Failure::differs(problem).help("do not approve it before you know why").with(json);
            Err(Failure { text, ..failure })
        }
    }
}

impl View {
    /// Fetches a release with its evidence, and the last signed one of its channel. `trust` is that of the folder, if one was given.
    ///
    /// # Errors
    /// What the coordinator answers, and an answer that is not about this release.
    pub async fn fetch(
        channel: Channel,
        id: &ReleaseId,
        trust: Option<&Trust>,
        folder: Option<&Path>,
    ) -> Result<Self, Failure> {
        let release = releases::get(channel.clone(), id.as_str()).await?;
        let content = content_of(&release, id)?;
        let kept = evidence::fetch(channel.clone(), id.as_str()).await?;
        let documents = Document::read_all(kept, trust, &content, id, unix_now());
        let difference = match difference::last_signed(channel.clone(), id, &content).await? {
            None => None,
            Some(last) => {
                let last_content = releases::content(&last)?;
                let last_id =
                    ReleaseId::new(last.release_id.clone()).map_err(|error| rubbish(&error.to_string()))?;
                let kept = evidence::fetch(channel, last_id.as_str()).await?;
                // Its evidence counted when it was signed, whatever became of the keys since.
                let then = last.finished_at;
                let its = Document::read_all(kept, trust, &last_content, &last_id, then);
                let kinds = Kinds { last: documents::kinds(&its), now: documents::kinds(&documents) };
                Some(Difference::new(last_id, &last_content, &content, &kinds))
            }
        };
        Ok(Self {
            id: id.clone(),
            content,
            release,
            documents,
            difference,
            folder: folder.map(Path::to_owned),
        })
    }

    /// SHA-256 of the statement, made here from what is shown.
    #[must_use]
    pub fn statement_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.content.statement()).into()
    }

    /// For eyes; `all` lists every file.
    #[must_use]
    pub fn text(&self, all: bool) -> String {
        let head = releases::describe(&self.release);
        let statement = format!(
            "statement sha256:{}, made here of what is shown: this is what an approval signs",
            hex::encode(self.statement_sha256())
        );
        let mut sections =
            vec![head, statement, self.claimed(), self.files(all), self.evidence(), self.waits()];
        sections.push(match &self.difference {
            Some(difference) => difference.text(all, self.folder.is_some()),
            None => format!(
                "nothing to compare with: no earlier release of {} in {} was signed",
                self.content.product(),
                self.content.channel()
            ),
        });
        sections.join("\n\n")
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = releases::to_json(&self.release);
        if let Value::Object(fields) = &mut json {
            fields.insert("statement_sha256".to_owned(), json!(hex::encode(self.statement_sha256())));
            let documents: Vec<_> = self.documents.iter().map(Document::json).collect();
            fields.insert("evidence".to_owned(), json!(documents));
            let claimed = self.content.claims().into_iter();
            let claimed = claimed
                .map(|claim| json!({ "field": claim.field, "value": claim.value, "by": by(claim.by) }));
            fields.insert("claimed".to_owned(), claimed.collect());
            fields.insert("wants".to_owned(), waits::to_json(&waits::wants(&self.release)));
            fields.insert(
                "difference".to_owned(),
                self.difference.as_ref().map_or(Value::Null, Difference::json),
            );
        }
        json
    }

    /// The claims that no evidence proves, for the custodian to judge.
    fn claimed(&self) -> String {
        let claims = self.content.claims();
        let rows = claims.into_iter().map(|claim| {
            vec![claim.field.to_owned(), text::printable(&claim.value), by(claim.by).to_owned()]
        });
        format!(
            "claimed, and signed although no evidence proves it\n{}",
            text::columns(&["FIELD", "VALUE", "CLAIMED BY"], rows)
        )
    }

    fn files(&self, all: bool) -> String {
        let files = self.content.artifacts();
        let shown = if all { files.len() } else { LISTED_FILES };
        let rows = files.iter().take(shown).flat_map(file_rows);
        let mut text = format!(
            "{}\n{}",
            text::count(files.len(), "file", "files"),
            text::columns(&["FILE", "DIGEST"], rows)
        );
        if files.len() > shown {
            text.push_str(&format!("\n… and {} more: --files all lists them", files.len() - shown));
        }
        text
    }

    fn evidence(&self) -> String {
        if self.documents.is_empty() {
            return "no evidence".to_owned();
        }
        let verified = if self.folder.is_some() {
            "verified by the keys in --trust"
        } else {
            "UNVERIFIED: nobody has checked here who wrote it; give a node's folder of rules with --trust"
        };
        let each: Vec<_> = self.documents.iter().map(Document::text).collect();
        format!("evidence, {verified}\n{}", each.join("\n"))
    }

    fn waits(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        for refusal in &self.release.refusals {
            let words = [&refusal.node, &refusal.code, &refusal.reason].map(|text| text::printable(text));
            let [node, code, reason] = words;
            lines.push(format!("answered by {node}: {code}: {reason}"));
        }
        match waits::advice(&self.release, self.folder.as_deref()) {
            Some(advice) => lines.push(advice),
            None => lines.push(format!("state: {}", releases::stage(&self.release))),
        }
        lines.join("\n")
    }
}

/// The content of the very release that was asked for: whoever approves one must not be shown another.
fn content_of(release: &v1::Release, id: &ReleaseId) -> Result<VerifiedRelease, Failure> {
    if release.release_id != id.as_str() {
        return Err(rubbish(&format!("it is about the release {}", text::printable(&release.release_id))));
    }
    releases::content(release)
}

/// A row for each digest that is signed for the file.
fn file_rows(file: &Artifact) -> Vec<Vec<String>> {
    let name = text::printable(file.name.as_str());
    let row = |(algorithm, digest)| vec![name.clone(), format!("{algorithm}:{}", hex::encode(digest))];
    file.digests().map(row).into()
}

fn by(claimant: Claimant) -> &'static str {
    match claimant {
        Claimant::Coordinator => "coordinator",
        Claimant::Pipeline => "pipeline",
    }
}

/// A time in Unix seconds, for the sections of a view.
fn when(unix: u64) -> String {
    if unix == 0 { "at an unknown time".to_owned() } else { Timestamp(unix).rfc3339() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{releases::tests::signed, waits::tests::waiting};

    pub(crate) fn view(release: v1::Release) -> View {
        let id = ReleaseId::new(release.release_id.clone()).unwrap();
        let content = content_of(&release, &id).unwrap();
        View { id, content, release, documents: Vec::new(), difference: None, folder: None }
    }

    #[test]
    fn another_release_than_the_one_asked_for_is_not_shown() {
        let id = ReleaseId::new("y-1-0123456789ab").unwrap();
        let failure = content_of(&signed(&[]), &id).unwrap_err();
        assert!(failure.problem.contains("x-1-0123456789ab"), "{failure}");
    }

    #[test]
    fn the_digest_is_of_what_is_shown_and_nothing_else() {
        let release = signed(&[]);
        let before = view(release.clone()).statement_sha256();
        let mut other = release.clone();
        other.log_index = 99;
        assert_eq!(view(other.clone()).statement_sha256(), before);
        other.content.as_mut().unwrap().artifacts[0].sha256[0] ^= 1;
        let changed = view(other);
        assert_ne!(changed.statement_sha256(), before);
        assert!(changed.text(false).contains(&hex::encode(changed.statement_sha256())));
        assert_eq!(changed.json()["statement_sha256"], hex::encode(changed.statement_sha256()));
    }

    #[test]
    fn files_are_bounded_and_counted() {
        let mut release = v1::Release { content: signed(&[]).content, ..waiting() };
        let content = release.content.as_mut().unwrap();
        let first = content.artifacts[0].clone();
        content.artifacts =
            (0..50).map(|number| v1::Artifact { name: format!("f-{number:02}"), ..first.clone() }).collect();
        let view = view(release);
        let text = view.text(false);
        assert!(text.contains("50 files\nFILE"), "{text}");
        assert!(text.contains("f-19") && !text.contains("f-20"), "{text}");
        assert!(text.contains("… and 30 more: --files all"), "{text}");
        assert!(view.text(true).contains("f-49"));
        assert!(text.contains("organisation supervisor, node supervisor-1"), "{text}");
        assert!(text.contains("answered by vendor/vendor-1: not-allowed: no rule"), "{text}");
        assert!(text.contains("no evidence") && text.contains("nothing to compare with"), "{text}");
        assert_eq!(view.json()["artifacts"].as_array().unwrap().len(), 50);
        // Every digest, and everything that is merely claimed.
        assert!(text.contains(&format!("sha256:{}", "00".repeat(32))), "{text}");
        let claims = view.content.claims();
        for claim in &claims {
            assert!(text.lines().any(|line| line.starts_with(claim.field)), "{}: {text}", claim.field);
        }
        assert_eq!(view.json()["claimed"].as_array().unwrap().len(), claims.len());
    }
}
