//! Reading the entries of a log one after the other, and saying what is wrong with them.
//!
//! An [`Auditor`] joins requests with outcomes, outcomes with signatures, disclosures with embargoes, and all of them with
//! the keys that were announced. It is handed entries that belong to a verified tree, and the time; documents beside the
//! tree are for whoever can read files. Its state is bounded and can be stored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    entry::{Disclosure, Embargoed, Entry, Evidence, Node, NodeEvent, Outcome, OutcomeState, Request},
    finding::{Code, Finding},
    hash::Hash,
    limits::{
        MAX_AWAITED_LEAVES, MAX_CLOCK_SKEW_SECONDS, MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS, MAX_ENDED,
        MAX_KEYS, MAX_OPEN,
    },
};

mod channels;
mod embargoes;
mod keys;
mod leaf;
mod order;
mod versions;

use channels::Channels;
use embargoes::{Embargoes, Hidden};
pub use keys::Organisation;
use keys::{KnownKey, KnownRoster};
pub use leaf::Leaf;
use order::{Asked, Said};

/// What a reader of the log keeps of what it has read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auditor {
    /// Entries read.
    size: u64,
    /// Requests without an outcome, by index.
    open: BTreeMap<u64, Open>,
    /// Embargoes without a disclosure, by index.
    hidden: Embargoes,
    /// Requests that ended, the newest.
    ended: BTreeSet<u64>,
    /// Signed releases whose `dsse` leaf may come, by the index of the outcome.
    awaited: BTreeMap<u64, Awaited>,
    /// What is known of each class, product and channel.
    channels: Channels,
    /// The newest epoch of each key, by name.
    keys: BTreeMap<String, KnownKey>,
    /// The rosters that were announced.
    rosters: BTreeMap<Hash, KnownRoster>,
    /// What did not fit any more, and has no room again yet.
    overflowed: BTreeSet<Kept>,
}

/// What there is a bounded room for. Each has its own, so that one that is full for ever does not silence the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kept {
    Requests,
    Embargoes,
    Channels,
    Keys,
    Rosters,
    Nodes,
}

/// A request without an outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    /// By which an outcome is due, however late the entry says.
    deadline: u64,
    /// Not known under embargo.
    statement: Option<Hash>,
    /// Likewise.
    asked: Option<Asked>,
    /// Whether a `dsse` leaf may come of it.
    dsse: bool,
    reported: bool,
}

/// A signed release whose `dsse` leaf may come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Awaited {
    /// Index of the request.
    request: u64,
    statement: Hash,
    /// The key's name, as far as it is known.
    key: Option<String>,
}

impl Auditor {
    /// Entries read so far: the index of the next one.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Requests without an outcome.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.open.len()
    }

    /// Embargoes without a disclosure.
    #[must_use]
    pub fn embargoes(&self) -> usize {
        self.hidden.len()
    }

    /// Reads the next entry.
    pub fn read(&mut self, entry: &Entry) -> Vec<Finding> {
        let index = self.size;
        self.size += 1;
        let mut findings = Vec::new();
        match entry {
            Entry::Request(request) => self.request(index, request, &mut findings),
            Entry::Embargoed(request) => self.embargoed(index, request, &mut findings),
            Entry::Disclosure(disclosure) => self.disclosure(index, disclosure, &mut findings),
            Entry::Evidence(evidence) => self.evidence(index, evidence, &mut findings),
            Entry::Outcome(outcome) => self.outcome(index, outcome, &mut findings),
            Entry::Dsse(dsse) => self.dsse(index, dsse, &mut findings),
            Entry::Key(key) => self.key(index, key, &mut findings),
            Entry::Node(node) => findings.push(culprit(index, node)),
        }
        self.keep_bounded(index, &mut findings);
        findings
    }

    /// Goes past an entry that could not be parsed.
    pub fn skip(&mut self) {
        self.size += 1;
    }

    /// What should have happened by `now`, each once. `now` and `grace` in Unix seconds and seconds.
    pub fn overdue(&mut self, now: u64, grace: u64) -> Vec<Finding> {
        let mut findings = self.yet_to_come(now);
        let late = |limit: u64| limit.saturating_add(grace) < now;
        for (index, open) in self.open.iter_mut().filter(|(_, open)| !open.reported && late(open.deadline)) {
            open.reported = true;
            let text = format!("its deadline was {}, and no entry says how it ended", time(open.deadline));
            findings.push(Finding::at(Code::RequestWithoutOutcome, *index, text));
        }
        for (index, hidden) in
            self.hidden.iter_mut().filter(|(_, hidden)| !hidden.reported && late(hidden.entry.disclose_by))
        {
            hidden.reported = true;
            let text =
                format!("it was to be disclosed by {}, and no entry does", time(hidden.entry.disclose_by));
            findings.push(Finding::at(Code::EmbargoOverdue, *index, text));
        }
        findings
    }

    /// What is due later than anything can be that was asked for by `now`. From here on it is due as late as possible.
    fn yet_to_come(&mut self, now: u64) -> Vec<Finding> {
        let now = now.saturating_add(MAX_CLOCK_SKEW_SECONDS);
        let open =
            self.open.iter_mut().map(|(index, open)| (index, &mut open.deadline, MAX_DEADLINE_SECONDS));
        let hidden = self.hidden.iter_mut();
        let hidden =
            hidden.map(|(index, hidden)| (index, &mut hidden.entry.disclose_by, MAX_EMBARGO_SECONDS));
        let mut findings = Vec::new();
        for (index, due, most) in open.chain(hidden) {
            let latest = now.saturating_add(most);
            if *due > latest {
                let text = format!("its time is yet to come, and it lasts until {}", time(*due));
                findings.push(Finding::at(Code::TermsExcessive, *index, text));
                *due = latest;
            }
        }
        findings
    }

    fn request(&mut self, index: u64, request: &Request, findings: &mut Vec<Finding>) {
        self.check_roster(index, &request.roster, findings);
        let asked = self.channels.ask(index, request);
        let open = Open {
            deadline: due(index, "deadline", request.time, request.deadline, MAX_DEADLINE_SECONDS, findings),
            statement: Some(request.statement),
            asked: Some(asked),
            dsse: request.signables.dsse.is_some(),
            reported: false,
        };
        self.open.insert(index, open);
    }

    fn embargoed(&mut self, index: u64, request: &Embargoed, findings: &mut Vec<Finding>) {
        self.check_roster(index, &request.roster, findings);
        let Embargoed { time, deadline, disclose_by, .. } = *request;
        let deadline = due(index, "deadline", time, deadline, MAX_DEADLINE_SECONDS, findings);
        let disclose_by = due(index, "disclosure", time, disclose_by, MAX_EMBARGO_SECONDS, findings);
        self.open.insert(index, Open { deadline, statement: None, asked: None, dsse: true, reported: false });
        // The entry's own deadline: the disclosure must repeat it.
        let entry = Embargoed { disclose_by, ..request.clone() };
        let hidden = Hidden { entry, statement: None, signed_at: None, leaf: None, reported: false };
        self.hidden.insert(index, hidden);
    }

    fn disclosure(&mut self, index: u64, disclosure: &Disclosure, findings: &mut Vec<Finding>) {
        let of = disclosure.request;
        let Some(hidden) = self.hidden.get(of) else {
            let text = format!("it discloses entry {of}, which is not under embargo");
            findings.push(Finding::at(Code::DisclosureWithoutRequest, index, text));
            return;
        };
        let statement = disclosure.opened.statement;
        if !disclosure.opens(&hidden.entry) {
            let text = format!("it does not open the commitment of entry {of}");
            findings.push(Finding::at(Code::DisclosureMismatch, index, text));
            return;
        }
        if hidden.statement.is_some_and(|signed| signed != statement) {
            let text = format!("the outcome of entry {of} was about another statement");
            findings.push(Finding::at(Code::DisclosureMismatch, index, text));
        }
        let signed_at = hidden.signed_at;
        self.hidden.remove(of);
        let asked = self.channels.ask(of, &disclosure.opened);
        if let Some(open) = self.open.get_mut(&of) {
            open.statement = Some(statement);
            open.asked = Some(asked.clone());
            open.dsse = disclosure.opened.signables.dsse.is_some();
        }
        let channel = asked.channel.clone();
        if let Some(place) = signed_at {
            findings.extend(self.channels.sign(Said { at: index, place }, asked, &self.hidden));
        }
        self.channels.tidy(&channel, of, &self.hidden);
    }

    fn evidence(&self, index: u64, evidence: &Evidence, findings: &mut Vec<Finding>) {
        let of = evidence.request;
        if self.open.contains_key(&of) {
            return;
        }
        let text = if self.ended.contains(&of) {
            format!("{} added evidence to entry {of}, which has an outcome already", evidence.by)
        } else {
            format!(
                "{} added evidence to entry {of}, which is no request that waits for an outcome",
                evidence.by
            )
        };
        findings.push(Finding::at(Code::EvidenceWithoutRequest, index, text));
    }

    fn outcome(&mut self, index: u64, outcome: &Outcome, findings: &mut Vec<Finding>) {
        let of = outcome.request;
        let Some(open) = self.open.remove(&of) else {
            let (code, text) = if self.ended.contains(&of) {
                (Code::OutcomeTwice, format!("the request, entry {of}, has an outcome already"))
            } else {
                (Code::OutcomeWithoutRequest, format!("entry {of} is no request that waits for an outcome"))
            };
            findings.push(Finding::at(code, index, text));
            return;
        };
        self.ended.insert(of);
        let signed = outcome.state == OutcomeState::Signed;
        if let Some(asked) = open.asked.filter(|_| signed) {
            findings.extend(self.channels.sign(Said { at: index, place: index }, asked, &self.hidden));
        }
        let mut wrong = |text: &str| {
            let text = format!("{text} (its request is entry {of})");
            findings.push(Finding::at(Code::OutcomeMismatch, index, text));
        };
        if open.statement.is_some_and(|asked| asked != outcome.statement) {
            wrong("it is about another statement than its request");
        }
        let named = outcome.key.is_some() && outcome.roster.is_some() && outcome.signatures.is_some();
        let any = outcome.key.is_some() || outcome.roster.is_some() || outcome.signatures.is_some();
        if signed && (!named || outcome.signed_by.is_empty()) {
            wrong("it does not say by which key and which nodes it was signed");
        }
        if !signed && (any || !outcome.signed_by.is_empty()) {
            wrong("it names a key or signers, although it was not signed");
        }
        if signed {
            self.check_quorum(index, outcome, findings);
        }
        if signed && open.dsse {
            let awaited = Awaited { request: of, statement: outcome.statement, key: outcome.key.clone() };
            self.awaited.insert(index, awaited);
        }
        if self.hidden.end(of, outcome.statement, signed.then_some(index))
            && outcome.refusals.iter().any(|refusal| !refusal.reason.is_empty())
        {
            let text = format!("it says why entry {of} was refused, which is under embargo");
            findings.push(Finding::at(Code::EmbargoLeak, index, text));
        }
        self.check_key(index, outcome, findings);
    }

    /// Forgets what does not fit; says so where that could hide something.
    fn keep_bounded(&mut self, index: u64, findings: &mut Vec<Finding>) {
        while self.ended.len() > MAX_ENDED {
            self.ended.pop_first();
        }
        while self.awaited.len() > MAX_AWAITED_LEAVES {
            self.awaited.pop_first();
        }
        let (keys, rosters) = self.keep_keys_bounded(index);
        let requests = shrink(&mut self.open, MAX_OPEN);
        let embargoes = self.hidden.shrink(MAX_OPEN);
        let forgotten = self.channels.keep_bounded(&self.hidden);
        let room = |kept: usize, most: usize| kept <= most / 2;
        for (kept, lost, has_room) in [
            (Kept::Requests, requests, room(self.open.len(), MAX_OPEN)),
            (Kept::Embargoes, embargoes, room(self.hidden.len(), MAX_OPEN)),
            (Kept::Channels, forgotten, self.channels.have_room()),
            (Kept::Keys, keys, room(self.keys.len(), MAX_KEYS)),
            (Kept::Rosters, rosters, room(self.rosters.len(), MAX_KEYS)),
        ] {
            self.overflow(kept, lost, has_room, index, findings);
        }
    }

    /// Says that something was `lost`: once, and again after there was room.
    fn overflow(&mut self, kept: Kept, lost: bool, has_room: bool, index: u64, findings: &mut Vec<Finding>) {
        if lost && self.overflowed.insert(kept) {
            let what = match kept {
                Kept::Requests => "requests are open",
                Kept::Embargoes => "embargoes are open",
                Kept::Channels => "channels, or signed releases beside embargoes, are there",
                Kept::Keys => "keys are there",
                Kept::Rosters => "rosters are there",
                Kept::Nodes => "nodes are in signed rosters",
            };
            let text = format!(
                "more {what} than are kept: findings about old ones may be missing or wrong from here on"
            );
            findings.push(Finding::at(Code::TooMuchOpen, index, text));
        }
        if has_room {
            self.overflowed.remove(&kept);
        }
    }
}

/// When something is due that an entry sets a time for: at most `most` seconds after the entry's own time.
fn due(index: u64, what: &str, from: u64, to: u64, most: u64, findings: &mut Vec<Finding>) -> u64 {
    let latest = from.saturating_add(most);
    if !(from..=latest).contains(&to) {
        let text = format!(
            "its {what} is {}, and it was asked for on {}: 0 to {} days lie between them in an honest entry",
            time(to),
            time(from),
            most / 86_400
        );
        findings.push(Finding::at(Code::TermsExcessive, index, text));
    }
    to.min(latest)
}

fn shrink<K: Ord, V>(map: &mut BTreeMap<K, V>, most: usize) -> bool {
    let over = map.len() > most;
    while map.len() > most {
        map.pop_first();
    }
    over
}

fn culprit(index: u64, node: &Node) -> Finding {
    let (code, what) = match node.event {
        NodeEvent::Culprit => (Code::NodeCulprit, "was named as a culprit"),
        NodeEvent::Reinstated => (Code::NodeReinstated, "was put back"),
    };
    Finding::at(code, index, format!("{} {what} on {}: {}", node.node, time(node.time), node.reason))
}

fn time(seconds: u64) -> String {
    rutli_release::Timestamp(seconds).rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_word_of_its_own() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("\"{code}\""));
        }
    }
}
