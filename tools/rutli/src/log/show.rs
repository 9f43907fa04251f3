//! `rutli log show` and `rutli log export`: the whole log, verified against its head, as what was asked for and how it
//! ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
};

use rutli_log::{
    Entry, Hash, Head, Tiles,
    entry::{Embargoed, Evidence, Outcome, OutcomeState, Refusal, Request},
};
use serde_json::{Value, json};

use super::{
    source::Source,
    trust::Trust,
    walk::{Read, walk},
};
use crate::{
    cli::{LogExport, LogFilter, LogPlace, LogShow},
    files,
    report::{Failure, Report},
    text,
};

/// How a release of the log stands.
pub const STATES: [&str; 6] = ["open", "signed", "refused", "expired", "cancelled", "overtaken"];

/// Columns of a terminal that a list is made for.
const DETAILS_WIDTH: u16 = 100;

/// Where the second column is, most times.
const DETAILS_INDENT: u16 = 7;

/// Digests of evidence that a line names; JSON has all of them.
const DIGESTS_SHOWN: usize = 4;

/// A request joined with its outcome.
struct Release {
    index: u64,
    time: u64,
    /// Not known under embargo.
    plain: Option<Request>,
    /// Evidence that came later than the request, with the index of its entry.
    added: Vec<(u64, Evidence)>,
    outcome: Option<(u64, Outcome)>,
    /// The entry of its signature.
    dsse: Option<u64>,
}

/// What was read so far.
#[derive(Default)]
struct Joined {
    /// By the index of the request.
    releases: BTreeMap<u64, Release>,
    /// Signed releases whose signature may follow, by their statement; the newest last.
    awaiting: BTreeMap<Hash, Vec<u64>>,
}

/// `rutli log show`
///
/// # Errors
/// Exit code 1 for a log that does not hold, 2 for files, 3 for a source that does not answer.
pub fn show(args: &LogShow) -> Result<Report, Failure> {
    args.filter.check()?;
    let trust = Trust::read(&args.place)?;
    let (head, releases) = releases(&args.place, &trust, |_| {})?;
    let wanted: Vec<&Release> =
        releases.values().rev().filter(|release| args.filter.takes(release)).take(args.limit.get()).collect();
    let json: Vec<Value> = wanted.iter().map(|release| release.to_json()).collect();
    let text = if wanted.is_empty() {
        format!("no such release in the log {} of {} entries", trust.origin(), head.size)
    } else {
        table(&wanted)
    };
    Ok(Report::new(text, json!({ "log": trust.origin().as_str(), "size": head.size, "releases": json })))
}

/// A line for each release, and below it what is too long for a column.
fn table(releases: &[&Release]) -> String {
    let columns =
        text::columns(&["INDEX", "TIME", "STATE", "RELEASE"], releases.iter().map(|it| it.to_row()));
    let mut lines = columns.lines();
    let header = lines.next().unwrap_or_default().to_owned();
    let blocks = lines.zip(releases).map(|(line, release)| {
        let details = release.details().into_iter();
        let details = details.map(|detail| text::indented(&detail, DETAILS_INDENT, DETAILS_WIDTH));
        std::iter::once(line.to_owned()).chain(details).collect::<Vec<_>>().join("\n")
    });
    std::iter::once(header).chain(blocks).collect::<Vec<_>>().join("\n")
}

/// `rutli log export`
///
/// # Errors
/// As [`show`].
pub fn export(args: &LogExport) -> Result<Report, Failure> {
    args.filter.check()?;
    let trust = Trust::read(&args.place)?;
    let unwritable = |error: &std::io::Error| files::cannot("write", &args.out, error);
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Beside its place, and put there only once all of it is verified.
    let mut out = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| std::path::Path::new(".")))
        .map_err(|error| unwritable(&error))?;
    let wanted = match args.filter.is_all() {
        true => None,
        false => Some(args.filter.entries(&args.place, &trust)?),
    };
    let mut written = Ok(());
    let mut entries = 0_u64;
    let (head, _) = {
        let mut lines = std::io::BufWriter::new(out.as_file_mut());
        let result = releases(&args.place, &trust, |read| {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&read.index)) && written.is_ok() {
                entries = entries.saturating_add(1);
                written = write_line(&mut lines, read);
            }
        })?;
        written.and_then(|()| lines.flush()).map_err(|error| unwritable(&error))?;
        result
    };
    out.as_file().sync_all().map_err(|error| unwritable(&error))?;
    out.persist(&args.out).map_err(|error| unwritable(&error.error))?;
    let text = format!("wrote {entries} of {} entries to {}", head.size, args.out.display());
    let json =
        json!({ "log": trust.origin().as_str(), "size": head.size, "entries": entries, "written": args.out });
    Ok(Report::new(text, json))
}

fn write_line(out: &mut impl std::io::Write, read: &Read) -> std::io::Result<()> {
    match &read.entry {
        // An entry is JSON on one line already.
        Ok(entry) => {
            write!(out, "{{\"index\":{},\"leaf\":\"{}\",\"entry\":", read.index, read.leaf)?;
            out.write_all(&entry.encode())?;
            out.write_all(b"}\n")
        }
        Err(_) => writeln!(out, "{{\"index\":{},\"leaf\":\"{}\",\"entry\":null}}", read.index, read.leaf),
    }
}

/// All releases of the log by index, each verified against the published head.
fn releases(
    place: &LogPlace,
    trust: &Trust,
    mut visit: impl FnMut(&Read),
) -> Result<(Head, BTreeMap<u64, Release>), Failure> {
    let source = Source::open(&place.log, place.ca.as_deref())?;
    let note = source.checkpoint().map_err(|error| error.into_failure("checkpoint", &source))?;
    let head = trust.open_witnessed(&note)?.checkpoint.head();
    let mut joined = Joined::default();
    let walked = walk(&source, Tiles::default(), &head, None, |read| {
        visit(&read);
        if let Ok(entry) = read.entry {
            joined.join(read.index, entry);
        }
    })?;
    match walked.findings.first() {
        None if walked.holds => Ok((head, joined.releases)),
        finding => {
            let what =
                finding.map_or_else(|| "its entries do not lead to its head".into(), |it| it.text.clone());
            Err(Failure::failed(format!("the log does not hold: {}", text::printable(&what)))
                .help("run `rutli log monitor --once`, which says all that is wrong and what to do"))
        }
    }
}

impl Joined {
    fn join(&mut self, index: u64, entry: Entry) {
        match entry {
            Entry::Request(request) => self.ask(index, request.time, Some(request)),
            Entry::Embargoed(Embargoed { time, .. }) => self.ask(index, time, None),
            Entry::Disclosure(disclosure) => {
                if let Some(release) = self.releases.get_mut(&disclosure.request) {
                    release.plain = Some(disclosure.opened);
                }
            }
            Entry::Outcome(outcome) => {
                if let Some(release) = self.releases.get_mut(&outcome.request) {
                    if outcome.state == OutcomeState::Signed && release.may_have_dsse() {
                        self.awaiting.entry(outcome.statement).or_default().push(outcome.request);
                    }
                    release.outcome = Some((index, outcome));
                }
            }
            Entry::Dsse(dsse) => {
                let awaiting = self.awaiting.get_mut(&dsse.spec.payload_hash.value);
                let request = awaiting.and_then(Vec::pop);
                if let Some(release) = request.and_then(|request| self.releases.get_mut(&request)) {
                    release.dsse = Some(index);
                }
            }
            Entry::Evidence(evidence) => {
                if let Some(release) = self.releases.get_mut(&evidence.request) {
                    release.added.push((index, evidence));
                }
            }
            Entry::Key(_) | Entry::Node(_) => {}
        }
    }

    fn ask(&mut self, index: u64, time: u64, plain: Option<Request>) {
        let release = Release { index, time, plain, added: Vec::new(), outcome: None, dsse: None };
        self.releases.insert(index, release);
    }
}

impl LogFilter {
    fn is_all(&self) -> bool {
        let Self { product, class, channel, requester, state, since, until } = self;
        product.is_none()
            && class.is_none()
            && channel.is_none()
            && requester.is_none()
            && state.is_none()
            && since.is_none()
            && until.is_none()
    }

    fn check(&self) -> Result<(), Failure> {
        match (self.since, self.until) {
            (Some(since), Some(until)) if since > until => {
                Err(Failure::usage("--since is later than --until: no release lies between them")
                    .help("exchange the two times"))
            }
            _ => Ok(()),
        }
    }

    fn takes(&self, release: &Release) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
            wanted.is_none() || wanted == found
        }
        let plain = release.plain.as_ref();
        is(self.product.as_ref(), plain.map(|plain| &plain.product))
            && is(self.class.as_ref(), plain.map(|plain| &plain.class))
            && is(self.channel.as_ref(), plain.map(|plain| &plain.channel))
            && is(self.requester.as_ref(), plain.map(|plain| &plain.requester))
            && self.state.as_deref().is_none_or(|state| state == release.state())
            && self.since.is_none_or(|since| since <= release.time)
            && self.until.is_none_or(|until| release.time < until)
    }

    /// Indexes of all entries about the releases that it takes.
    fn entries(&self, place: &LogPlace, trust: &Trust) -> Result<BTreeSet<u64>, Failure> {
        let mut about: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut leaves: Vec<(u64, Hash)> = Vec::new();
        let (_, releases) = releases(place, trust, |read| match &read.entry {
            Ok(Entry::Outcome(outcome)) => about.entry(outcome.request).or_default().push(read.index),
            Ok(Entry::Disclosure(disclosure)) => {
                about.entry(disclosure.request).or_default().push(read.index)
            }
            Ok(Entry::Evidence(evidence)) => about.entry(evidence.request).or_default().push(read.index),
            Ok(Entry::Dsse(dsse)) => leaves.push((read.index, dsse.spec.payload_hash.value)),
            _ => {}
        })?;
        let taken: Vec<&Release> = releases.values().filter(|release| self.takes(release)).collect();
        let statements: BTreeSet<Hash> = taken
            .iter()
            .filter_map(|release| release.outcome.as_ref().map(|(_, outcome)| outcome.statement))
            .collect();
        let leaves =
            leaves.into_iter().filter(|(_, payload)| statements.contains(payload)).map(|(index, _)| index);
        let others = taken.iter().filter_map(|release| about.get(&release.index)).flatten().copied();
        Ok(taken.iter().map(|release| release.index).chain(others).chain(leaves).collect())
    }
}

impl Release {
    fn state(&self) -> &'static str {
        match self.outcome.as_ref().map(|(_, outcome)| outcome.state) {
            None => "open",
            Some(OutcomeState::Signed) => "signed",
            Some(OutcomeState::Refused) => "refused",
            Some(OutcomeState::Expired) => "expired",
            Some(OutcomeState::Cancelled) => "cancelled",
            Some(OutcomeState::Overtaken) => "overtaken",
        }
    }

    fn signed_by(&self) -> &[String] {
        self.outcome.as_ref().map_or(&[], |(_, outcome)| &outcome.signed_by)
    }

    /// Without a statement to sign there is no `dsse`; under embargo that is not known.
    fn may_have_dsse(&self) -> bool {
        self.plain.as_ref().is_none_or(|plain| plain.signables.dsse.is_some())
    }

    fn to_row(&self) -> Vec<String> {
        let name =
            self.plain.as_ref().map_or_else(|| "under embargo".to_owned(), |it| it.release.to_string());
        vec![self.index.to_string(), text::time(self.time), self.state().to_owned(), name]
    }

    /// What it is, how it ended, and which entry proves that.
    fn details(&self) -> Vec<String> {
        let mut details = Vec::new();
        if let Some(Request { class, product, version, channel, sequence, requester, .. }) = &self.plain {
            details.push(format!(
                "{class} {product} {version}, channel {channel}, sequence {sequence}, asked for by {requester}"
            ));
        }
        details.extend(self.evidence_details());
        let Some((index, outcome)) = &self.outcome else { return details };
        let signature = self.dsse.map(|dsse| format!(", signature in entry {dsse}")).unwrap_or_default();
        let signers = outcome
            .key
            .as_ref()
            .map(|key| format!(": key {}, by {}", text::printable(key), text::list(&outcome.signed_by)));
        details.push(format!("outcome in entry {index}{signature}{}", signers.unwrap_or_default()));
        details.extend(outcome.refusals.iter().map(|Refusal { node, code, reason }| {
            let why = if reason.is_empty() { code.clone() } else { format!("{code}: {reason}") };
            text::printable(&format!("{node} refused, {why}"))
        }));
        details
    }

    /// How much evidence came with it and later, who brought that, and how it is called.
    fn evidence_details(&self) -> impl Iterator<Item = String> {
        let with_it = self.plain.as_ref().map(|plain| plain.evidence.as_slice()).unwrap_or_default();
        let with_it = (!with_it.is_empty()).then(|| format!("with it came evidence: {}", digests(with_it)));
        let later = self.added.iter().map(|(index, added)| {
            let by = text::printable(&added.by);
            format!("{by} added evidence in entry {index}: {}", digests(&added.evidence))
        });
        with_it.into_iter().chain(later)
    }

    /// Every piece of evidence with the entry that names it. What came with a request under embargo is not known.
    fn evidence_json(&self) -> Vec<Value> {
        let with_it = self.plain.iter().flat_map(|plain| &plain.evidence);
        let with_it =
            with_it.map(|digest| json!({ "digest": digest.to_string(), "entry": self.index, "by": null }));
        let later = self.added.iter().flat_map(|(index, added)| {
            let of =
                move |digest: &Hash| json!({ "digest": digest.to_string(), "entry": index, "by": added.by });
            added.evidence.iter().map(of)
        });
        with_it.chain(later).collect()
    }

    fn to_json(&self) -> Value {
        let plain = self.plain.as_ref();
        let outcome = self.outcome.as_ref();
        let refusals: Vec<Value> =
            outcome.map_or(&[][..], |(_, outcome)| &outcome.refusals).iter().map(to_json).collect();
        json!({
            "index": self.index,
            "time": self.time,
            "class": plain.map(|plain| plain.class.as_str()),
            "product": plain.map(|plain| plain.product.as_str()),
            "channel": plain.map(|plain| plain.channel.as_str()),
            "version": plain.map(|plain| plain.version.as_str()),
            "sequence": plain.map(|plain| plain.sequence.get()),
            "requester": plain.map(|plain| plain.requester.as_str()),
            "release": plain.map(|plain| plain.release.as_str()),
            "statement": plain.map(|plain| plain.statement.to_string()),
            "evidence": self.evidence_json(),
            "state": self.state(),
            "outcome": outcome.map(|(index, _)| index),
            "dsse": self.dsse,
            "key": outcome.and_then(|(_, outcome)| outcome.key.clone()),
            "signed_by": self.signed_by(),
            "refusals": refusals,
        })
    }
}

/// How many, and the beginnings of the first ones, by which a person finds them again.
fn digests(digests: &[Hash]) -> String {
    let mut shown: Vec<String> = digests
        .iter()
        .take(DIGESTS_SHOWN)
        .map(|digest| digest.to_string().chars().take(8).collect())
        .collect();
    if digests.len() > DIGESTS_SHOWN {
        shown.push("…".into());
    }
    format!("{} ({})", digests.len(), shown.join(", "))
}

fn to_json(refusal: &Refusal) -> Value {
    let Refusal { code, node, reason } = refusal;
    json!({ "node": node, "code": code, "reason": reason })
}
