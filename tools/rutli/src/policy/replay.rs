//! `rutli policy replay`: what policies say to releases that a coordinator has, before a node loads them.
//!
//! The facts are those that a node would have had when the release ended, or has now if it has not: its evidence, verified here with
//! the keys in `--trust`; the sequences, files and rates of what was signed by then of the product. Two things only a node has: what it permitted and
//! others did not sign, and refusals whose documents were kept back.

use std::collections::{BTreeMap, BTreeSet};

use rutli_evidence::{Established, Trust, verify};
use rutli_policy::{Decision, Explanation, Facts, PolicySet, Rates};
use rutli_release::{Class, Product, ReleaseId, Requester, Sequence, Timestamp, VerifiedRelease, Version};
use rutli_wire::v1::{self, ReleaseState};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{block, indented, usable, value};
use crate::{
    cli::Replay,
    clock::unix_now,
    evidence,
    limits::{HISTORY_PAGES, MAX_PAGE_RELEASES},
    releases::{self, Filter, rubbish},
    report::{Failure, Report},
    text, trust,
};

/// A rate counts what was permitted within so many seconds, see [`Rates`].
const RATE_SECONDS: u64 = 3_600;

/// `rutli policy replay`
///
/// # Errors
/// Exit code 1: a release that was signed would not be, by these policies. 2: files that cannot be used. What the coordinator answers.
pub async fn run(
    args: Replay,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    let folder = args.policies.trust.as_deref().ok_or_else(|| {
        Failure::usage("by whose keys?").help(
            "give the node's folder of rules with --trust DIR: evidence counts by the keys in it, and by no others",
        )
    })?;
    let trust = trust::read(folder)?;
    let set = usable(&args.policies, Some(&trust))?;
    let channel = connect.await?;
    let mut histories = BTreeMap::new();
    let mut replayed = Vec::new();
    for id in wanted(channel.clone(), &args).await? {
        let release = Stored::fetch(channel.clone(), &id, &trust).await?;
        let product = release.content.product().clone();
        if !histories.contains_key(&product) {
            histories.insert(product.clone(), History::fetch(channel.clone(), &product).await?);
        }
        let explanation = histories.get(&product).map(|history| release.explain(&set, history));
        replayed.extend(explanation.map(|explanation| Replayed { release, explanation }));
    }
    let none = match &args.product {
        Some(product) => format!("no releases of the product {product}"),
        None => "no releases".to_owned(),
    };
    report(&replayed, args.explain, histories.values().all(|history| history.whole), none)
}

async fn wanted(channel: Channel, args: &Replay) -> Result<Vec<ReleaseId>, Failure> {
    if !args.release.is_empty() {
        let mut seen = BTreeSet::new();
        return Ok(args.release.iter().filter(|id| seen.insert(id.as_str())).cloned().collect());
    }
    let product = args.product.as_ref().map(ToString::to_string).unwrap_or_default();
    let filter = Filter { product, ..Filter::default() };
    let wanted = usize::try_from(args.last).unwrap_or(usize::MAX);
    let found = releases::pages(channel, &filter, wanted, |_| true).await?;
    let id = |release: v1::Release| {
        ReleaseId::new(release.release_id).map_err(|error| rubbish(&error.to_string()))
    };
    found.into_iter().map(id).collect()
}

/// A release as the coordinator has it, with what its evidence establishes.
#[derive(Debug)]
struct Stored {
    id: ReleaseId,
    requester: Requester,
    content: VerifiedRelease,
    state: i32,
    embargoed: bool,
    /// Unix seconds: when it ended, or now.
    at: u64,
    established: Vec<Established>,
    not_counted: Vec<String>,
}

impl Stored {
    async fn fetch(channel: Channel, id: &ReleaseId, trust: &Trust) -> Result<Self, Failure> {
        let release = releases::get(channel.clone(), id.as_str()).await?;
        if release.release_id != id.as_str() {
            return Err(rubbish(&format!(
                "it is about the release {}",
                text::printable(&release.release_id)
            )));
        }
        let content = releases::content(&release)?;
        let requester =
            Requester::new(release.requester.clone()).map_err(|error| rubbish(&error.to_string()))?;
        let at = if release.finished_at == 0 { unix_now() } else { release.finished_at };
        let (mut established, mut not_counted) = (Vec::new(), Vec::new());
        for kept in evidence::fetch(channel, id.as_str()).await? {
            let found = kept.document.and_then(|document| {
                verify(&document, trust, &content, id, at).map_err(|error| error.to_string())
            });
            match found {
                Ok(fact) => established.push(fact),
                Err(why) => not_counted.push(format!("sha256:{}: {why}", hex::encode(&kept.info.digest))),
            }
        }
        let embargoed = release.embargo_until != 0;
        Ok(Self {
            id: id.clone(),
            requester,
            content,
            state: release.state,
            embargoed,
            at,
            established,
            not_counted,
        })
    }

    fn explain(&self, set: &PolicySet, history: &History) -> Explanation {
        let last = history.last_before(self);
        set.explain(&Facts {
            requester: &self.requester,
            release: (&self.content).into(),
            embargoed: self.embargoed,
            established: &self.established,
            previous_sequence: last.map(|last| last.sequence),
            previous_version: last.map(|last| &last.version),
            version_is_new: history.version_is_new(self),
            files_permitted_before: history.files_before(self),
            rates: history.rates_before(self),
            now_unix: self.at,
        })
    }

    fn was_signed(&self) -> bool {
        self.state == i32::from(ReleaseState::Signed)
    }
}

/// What was signed of a product.
#[derive(Debug)]
struct History {
    signed: Vec<Signed>,
    /// Whether that is all of it.
    whole: bool,
}

#[derive(Debug)]
struct Signed {
    id: String,
    class: Class,
    channel: String,
    version: Version,
    sequence: Sequence,
    files: BTreeSet<[u8; 32]>,
    artifacts: u64,
    at: u64,
}

impl History {
    async fn fetch(channel: Channel, product: &Product) -> Result<Self, Failure> {
        let state = Some(ReleaseState::Signed);
        let filter = Filter { product: product.to_string(), state, ..Filter::default() };
        let mut signed = Vec::new();
        let mut page_token = String::new();
        for _ in 0..HISTORY_PAGES {
            let (found, next) =
                releases::page(channel.clone(), &filter, MAX_PAGE_RELEASES, page_token).await?;
            let last = next.is_empty() || found.is_empty();
            for release in &found {
                let content = releases::content(release)?;
                signed.push(Signed {
                    id: release.release_id.clone(),
                    class: content.class(),
                    channel: content.channel().to_string(),
                    version: content.version().clone(),
                    sequence: content.sequence(),
                    files: content.artifacts().iter().map(|artifact| artifact.sha256).collect(),
                    artifacts: u64::try_from(content.artifacts().len()).unwrap_or(u64::MAX),
                    at: release.finished_at,
                });
            }
            if last {
                return Ok(Self { signed, whole: true });
            }
            page_token = next;
        }
        Ok(Self { signed, whole: false })
    }

    /// Signed before a release, which does not count itself.
    fn before<'a>(&'a self, release: &'a Stored) -> impl Iterator<Item = &'a Signed> {
        self.signed.iter().filter(|signed| signed.at <= release.at && signed.id != release.id.as_str())
    }

    /// Likewise, in its class and channel.
    fn beside<'a>(&'a self, release: &'a Stored) -> impl Iterator<Item = &'a Signed> {
        let (class, channel) = (release.content.class(), release.content.channel().as_str());
        self.before(release).filter(move |signed| signed.class == class && signed.channel == channel)
    }

    fn last_before<'a>(&'a self, release: &'a Stored) -> Option<&'a Signed> {
        self.beside(release).max_by_key(|signed| signed.sequence)
    }

    fn version_is_new(&self, release: &Stored) -> bool {
        self.beside(release).all(|signed| signed.version != *release.content.version())
    }

    fn files_before(&self, release: &Stored) -> u64 {
        let files: BTreeSet<_> = release.content.artifacts().iter().map(|artifact| artifact.sha256).collect();
        let signed = |file: &&[u8; 32]| self.before(release).any(|signed| signed.files.contains(*file));
        u64::try_from(files.iter().filter(signed).count()).unwrap_or(u64::MAX)
    }

    fn rates_before(&self, release: &Stored) -> Rates {
        let lately = self
            .before(release)
            .filter(|signed| signed.class == release.content.class())
            .filter(|signed| signed.at > release.at.saturating_sub(RATE_SECONDS));
        lately.fold(Rates::default(), |rates, signed| Rates {
            releases_in_hour: rates.releases_in_hour.saturating_add(1),
            artifacts_in_hour: rates.artifacts_in_hour.saturating_add(signed.artifacts),
        })
    }
}

#[derive(Debug)]
struct Replayed {
    release: Stored,
    explanation: Explanation,
}

impl Replayed {
    fn is_permitted(&self) -> bool {
        self.explanation.decision.is_permitted()
    }

    /// Signed, and by these policies it would not have been.
    fn differs(&self) -> bool {
        self.release.was_signed() && !self.is_permitted()
    }

    fn text(&self, explain: bool) -> String {
        let Stored { id, state, at, not_counted, .. } = &self.release;
        let when = if releases::is_final(*state) { Timestamp(*at).rfc3339() } else { "as of now".to_owned() };
        let differs = if self.differs() { "  DIFFERS" } else { "" };
        let head = format!("{id} ({}, {when}){differs}", releases::state_word(*state));
        let mut lines = match explain {
            true => vec![block(&head, &self.explanation)],
            false => vec![head, indented(&self.explanation.words)],
        };
        lines.extend(not_counted.iter().map(|note| indented(&format!("not counted: {note}"))));
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let Stored { id, state, at, not_counted, .. } = &self.release;
        json!({
            "release_id": id.as_str(),
            "state": releases::state_word(*state),
            "at": at,
            "explanation": value(&self.explanation),
            "not_counted": not_counted,
            "differs": self.differs(),
        })
    }
}

/// `none` is what is said where there are none.
fn report(
    replayed: &[Replayed],
    explain: bool,
    whole: bool,
    none: impl Into<String>,
) -> Result<Report, Failure> {
    let entries: Vec<Value> = replayed.iter().map(Replayed::json).collect();
    let document = json!({ "releases": entries, "whole_history": whole });
    if replayed.is_empty() {
        return Ok(Report::new(none, document));
    }
    let mut blocks: Vec<String> = replayed.iter().map(|one| one.text(explain)).collect();
    let of = |decided: fn(&Decision) -> bool| {
        replayed.iter().filter(|one| decided(&one.explanation.decision)).count()
    };
    let mut sum = format!(
        "{}: {} permitted, {} would wait, {} refused",
        text::count(replayed.len(), "release", "releases"),
        of(Decision::is_permitted),
        of(|decision| matches!(decision, Decision::Waits { .. })),
        of(|decision| matches!(decision, Decision::Refused { .. })),
    );
    if !whole {
        sum.push_str(
            "\nthe history is longer than was read: earlier sequences and rates may be missing here",
        );
    }
    let differing = replayed.iter().filter(|one| one.differs()).count();
    blocks.push(sum);
    let text = blocks.join("\n");
    if differing == 0 {
        return Ok(Report::new(text, document));
    }
    let problem = format!(
        "{} signed, and by these policies would not have been",
        text::count(differing, "release was", "releases were"),
    );
    Err(Failure::failed(problem)
        .help("if that is what you want, load them; else correct them. `--explain` says policy by policy what applies")
        .after(text)
        .with(document))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::tests::signed;

    fn stored(sequence: u64, at: u64) -> Stored {
        let mut release = signed(&[]);
        release.content.as_mut().unwrap().sequence = sequence;
        Stored {
            id: ReleaseId::new(format!("x-{sequence}-0123456789ab")).unwrap(),
            requester: Requester::new("ci").unwrap(),
            content: releases::content(&release).unwrap(),
            state: ReleaseState::Signed.into(),
            embargoed: false,
            at,
            established: Vec::new(),
            not_counted: Vec::new(),
        }
    }

    fn line(of: &Stored) -> Signed {
        Signed {
            files: of.content.artifacts().iter().map(|artifact| artifact.sha256).collect(),
            id: of.id.to_string(),
            class: of.content.class(),
            channel: of.content.channel().to_string(),
            version: of.content.version().clone(),
            sequence: of.content.sequence(),
            artifacts: 5,
            at: of.at,
        }
    }

    #[test]
    fn files_that_were_signed_before_are_counted() {
        let this = stored(5, 10_000);
        let history = |at| History { signed: vec![line(&stored(4, at))], whole: true };
        let files = u64::try_from(this.content.artifacts().len()).unwrap();
        assert_eq!((history(9_000).files_before(&this), history(11_000).files_before(&this)), (files, 0));
    }

    #[test]
    fn the_past_of_a_release_is_what_was_signed_before_it_in_its_channel_and_hour() {
        let this = stored(5, 10_000);
        let elsewhere = Signed { channel: "elsewhere".into(), ..line(&stored(9, 9_999)) };
        let other_class = Signed { class: Class::AvDatabase, ..line(&stored(2, 9_998)) };
        assert_ne!(this.content.class(), Class::AvDatabase);
        let lines = [line(&stored(1, 6_400)), line(&stored(3, 6_401)), line(&stored(6, 10_001)), line(&this)];
        let signed = lines.into_iter().chain([elsewhere, other_class]).collect();
        let history = History { signed, whole: true };
        assert_eq!(history.last_before(&this).unwrap().sequence.get(), 3);
        let rates = history.rates_before(&this);
        assert_eq!((rates.releases_in_hour, rates.artifacts_in_hour), (2, 10));
        assert!(history.last_before(&stored(1, 6_000)).is_none());
        assert!(history.version_is_new(&stored(1, 6_000)) && !history.version_is_new(&this));
    }

    #[test]
    fn a_signed_release_that_would_not_be_is_a_failure_and_an_unsigned_one_is_not() {
        let policy = "@id(\"none\") permit(principal, action == Action::\"sign\", resource) when { false };";
        let set = PolicySet::parse(&[("p.cedar".to_owned(), policy.to_owned())], None).unwrap();
        let history = History { signed: Vec::new(), whole: false };
        let replay = |state: ReleaseState| {
            let release = Stored { state: state.into(), ..stored(5, 10_000) };
            let explanation = release.explain(&set, &history);
            [Replayed { release, explanation }]
        };
        let failure = report(&replay(ReleaseState::Signed), true, false, "none").unwrap_err();
        assert_eq!(failure.problem, "1 release was signed, and by these policies would not have been");
        for said in ["x-5-0123456789ab (signed, 1970-01-01T02:46:40Z)  DIFFERS", "none", "0 permitted"] {
            assert!(failure.text.contains(said), "{said}\n{}", failure.text);
        }
        assert_eq!(
            report(&[], true, true, "no releases of the product x").unwrap().text,
            "no releases of the product x"
        );
        let report = report(&replay(ReleaseState::Expired), false, false, "none").unwrap();
        assert!(report.text.contains("1 release: 0 permitted, 0 would wait, 1 refused"), "{}", report.text);
        assert!(report.text.contains("the history is longer"), "{}", report.text);
        assert_eq!(report.json["releases"][0]["differs"], json!(false));
    }
}
