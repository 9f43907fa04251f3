//! What is different from the last signed release of the same class, product and channel.

use std::collections::BTreeMap;

use rutli_release::{Artifact, ReleaseId, VerifiedRelease};
use rutli_wire::{
    convert::class_from_wire,
    v1::{self, ReleaseState},
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::documents::Kinds;
use crate::{
    limits::{LISTED_FILES, MAX_PAGES, PAGE_RELEASES},
    releases::{self, Filter},
    report::Failure,
    text,
};

/// From the last signed release to this one.
#[derive(Clone, Debug, Default)]
pub(super) struct Difference {
    last: String,
    product: String,
    channel: String,
    sequence: (u64, u64),
    version: (String, String),
    added: Vec<String>,
    removed: Vec<String>,
    changed: Vec<String>,
    unchanged: usize,
    /// Kinds of evidence with how many the last one had, and this one has: those of which it had more.
    fewer: Vec<(&'static str, usize, usize)>,
}

/// The signed release of the same class, product and channel with the next lower sequence, as far as the coordinator tells.
pub(super) async fn last_signed(
    channel: Channel,
    id: &ReleaseId,
    content: &VerifiedRelease,
) -> Result<Option<v1::Release>, Failure> {
    let filter = Filter {
        product: content.product().to_string(),
        channel: content.channel().to_string(),
        state: Some(ReleaseState::Signed),
    };
    let mut page_token = String::new();
    for _ in 0..MAX_PAGES {
        let (found, next) = releases::page(channel.clone(), &filter, PAGE_RELEASES, page_token).await?;
        let last = next.is_empty() || found.is_empty();
        if let Some(found) = newest_before(found, id, content) {
            // What a list leaves out is of no use here; but it comes newly read.
            return releases::get(channel, &found.release_id).await.map(Some);
        }
        if last {
            return Ok(None);
        }
        page_token = next;
    }
    Ok(None)
}

/// Sequences go up with time in a channel, so that the first page with a lower one has the next lower one.
fn newest_before(found: Vec<v1::Release>, id: &ReleaseId, content: &VerifiedRelease) -> Option<v1::Release> {
    let sequence = |release: &v1::Release| release.content.as_ref().map_or(0, |content| content.sequence);
    let same = |release: &v1::Release| {
        release.content.as_ref().is_some_and(|other| {
            class_from_wire(other.release_class) == Ok(content.class())
                && other.product == content.product().as_str()
                && other.channel == content.channel().as_str()
        })
    };
    found
        .into_iter()
        .filter(|release| release.state() == ReleaseState::Signed && same(release))
        .filter(|release| release.release_id != id.as_str() && sequence(release) < content.sequence().get())
        .max_by_key(sequence)
}

impl Difference {
    pub(super) fn new(
        last_id: ReleaseId,
        last: &VerifiedRelease,
        now: &VerifiedRelease,
        kinds: &Kinds,
    ) -> Self {
        let mut difference = Self {
            last: last_id.to_string(),
            product: now.product().to_string(),
            channel: now.channel().to_string(),
            sequence: (last.sequence().get(), now.sequence().get()),
            version: (last.version().to_string(), now.version().to_string()),
            ..Self::default()
        };
        let mut before: BTreeMap<&str, &Artifact> =
            last.artifacts().iter().map(|file| (file.name.as_str(), file)).collect();
        for file in now.artifacts() {
            let name = file.name.as_str();
            match before.remove(name) {
                None => difference.added.push(name.to_owned()),
                Some(old) if old.digests() == file.digests() => difference.unchanged += 1,
                Some(_) => difference.changed.push(name.to_owned()),
            }
        }
        difference.removed = before.into_values().map(|file| file.name.to_string()).collect();
        for (kind, had) in &kinds.last {
            let has = kinds.now.get(kind).copied().unwrap_or_default();
            if has < *had {
                difference.fewer.push((kind, *had, has));
            }
        }
        difference
    }

    /// For eyes; `all` lists every file. Where nothing is `verified`, evidence is counted by what it says of itself.
    pub(super) fn text(&self, all: bool, verified: bool) -> String {
        let mut lines = vec![
            format!(
                "compared with the last signed release of {} in {}: {}",
                text::printable(&self.product),
                text::printable(&self.channel),
                text::printable(&self.last)
            ),
            format!("  sequence {} → {}", self.sequence.0, self.sequence.1),
            format!("  version {} → {}", text::printable(&self.version.0), text::printable(&self.version.1)),
            format!(
                "  files: {} added, {} removed, {} changed, {} unchanged",
                self.added.len(),
                self.removed.len(),
                self.changed.len(),
                self.unchanged
            ),
        ];
        let files = self.file_lines();
        let shown = if all { files.len() } else { LISTED_FILES };
        lines.extend(files.iter().take(shown).map(|line| format!("    {line}")));
        if files.len() > shown {
            lines.push(format!("    … and {} more: --files all lists them", files.len() - shown));
        }
        for (kind, had, has) in &self.fewer {
            lines.push(match has {
                0 => format!("  MISSING: the last one had {}, and this one has none", counted(*had, kind)),
                _ => format!("  FEWER: the last one had {}, and this one has {has}", counted(*had, kind)),
            });
        }
        if !verified {
            lines.push(
                "  UNVERIFIED: evidence is counted here by what it says of itself, also what no node counts; --trust tells builds from \
                 rebuilds"
                    .to_owned(),
            );
        }
        lines.join("\n")
    }

    pub(super) fn json(&self) -> Value {
        let named =
            |files: &[String]| -> Vec<Value> { files.iter().map(|name| json!({ "name": name })).collect() };
        let fewer: Vec<_> = self
            .fewer
            .iter()
            .map(|(kind, had, has)| json!({ "kind": kind, "before": had, "now": has }))
            .collect();
        json!({
            "release_id": self.last,
            "sequence_before": self.sequence.0,
            "version_before": self.version.0,
            "added": named(&self.added),
            "removed": named(&self.removed),
            "changed": named(&self.changed),
            "unchanged": self.unchanged,
            "less_evidence": fewer,
        })
    }

    fn file_lines(&self) -> Vec<String> {
        let signs = [('+', &self.added), ('-', &self.removed), ('~', &self.changed)];
        signs
            .into_iter()
            .flat_map(|(sign, names)| {
                names.iter().map(move |name| format!("{sign} {}", text::printable(name)))
            })
            .collect()
    }
}

fn counted(number: usize, kind: &str) -> String {
    match kind {
        "tests" => text::count(number, "test run", "test runs"),
        // What a document claims: whose key signed it would say which of the two it is.
        "build" => text::count(number, "build or rebuild", "builds or rebuilds"),
        _ => text::count(number, kind, &format!("{kind}s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::{content, tests::signed};

    fn release(sequence: u64, files: &[(&str, u8)]) -> v1::Release {
        let mut release = signed(&[]);
        release.release_id = format!("x-{sequence}-0123456789ab");
        let content = release.content.as_mut().unwrap();
        (content.sequence, content.version) = (sequence, format!("1.{sequence}"));
        content.artifacts = files
            .iter()
            .map(|(name, digest)| v1::Artifact { name: (*name).to_owned(), sha256: vec![*digest; 32] })
            .collect();
        release
    }

    #[test]
    fn a_difference_says_what_came_went_changed_and_is_missing() {
        let last = release(1, &[("same", 1), ("gone", 2), ("other", 4)]);
        let now = release(3, &[("same", 1), ("new", 5), ("other", 7)]);
        let kinds = Kinds {
            last: [("rebuild", 1), ("approval", 2)].into(),
            now: [("approval", 1), ("tests", 1)].into(),
        };
        let id = ReleaseId::new(last.release_id.clone()).unwrap();
        let difference = Difference::new(id, &content(&last).unwrap(), &content(&now).unwrap(), &kinds);
        let text = difference.text(false, true);
        for said in [
            "x-1-0123456789ab",
            "sequence 1 → 3",
            "version 1.1 → 1.3",
            "1 added, 1 removed, 1 changed, 1 unchanged",
            "    + new",
            "    - gone",
            "    ~ other",
            "MISSING: the last one had 1 rebuild, and this one has none",
            "FEWER: the last one had 2 approvals, and this one has 1",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        assert!(!text.contains("UNVERIFIED"), "{text}");
        assert!(difference.text(false, false).contains("UNVERIFIED: evidence is counted"));
        assert_eq!(counted(2, "build"), "2 builds or rebuilds");
        let json = difference.json();
        assert_eq!((&json["added"][0]["name"], &json["unchanged"]), (&json!("new"), &json!(1)));
        assert_eq!(json["less_evidence"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_last_one_is_the_next_lower_of_the_same_channel() {
        let this = release(5, &[("f", 1)]);
        let id = ReleaseId::new(this.release_id.clone()).unwrap();
        let mut elsewhere = release(4, &[("f", 1)]);
        elsewhere.content.as_mut().unwrap().channel = "beta".to_owned();
        let unsigned = v1::Release { state: ReleaseState::Refused.into(), ..release(4, &[("f", 1)]) };
        let mut other_class = release(4, &[("f", 1)]);
        other_class.content.as_mut().unwrap().release_class = v1::ReleaseClass::AvDatabase.into();
        let list = vec![
            release(7, &[]),
            this.clone(),
            elsewhere,
            other_class,
            unsigned,
            release(2, &[]),
            release(3, &[]),
        ];
        let found = newest_before(list, &id, &content(&this).unwrap()).unwrap();
        assert_eq!(found.release_id, "x-3-0123456789ab");
        assert!(newest_before(vec![this.clone()], &id, &content(&this).unwrap()).is_none());
    }
}
