//! The order of releases: what is honest is no finding, and what goes backwards is one, at the latest when it is disclosed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod entries;

use entries::{codes, expired, key, request};
use proptest::prelude::*;
use rutli_log::{
    Auditor, Code, Entry, Hash,
    entry::{Disclosure, Embargo, Embargoed, Outcome, OutcomeState, Request, kinds},
    limits::{MAX_BESIDE_EMBARGOES, MAX_CHANNELS, MIN_PLACES_TO_SWEEP},
    sha256,
};
use rutli_release::{Channel, Product, Version};

const EMBARGO: Embargo = Embargo { salt: Hash([7; 32]), disclose_by: 200 };

/// A log, and what is found in it about order.
#[derive(Default)]
struct Log {
    auditor: Auditor,
    found: Vec<Code>,
}

/// A release with all its requests.
#[derive(Clone, Debug)]
struct Release {
    asked: Request,
    /// Index of each, and whether it is under embargo.
    entries: Vec<(u64, bool)>,
    state: Option<OutcomeState>,
}

impl Log {
    fn new() -> Self {
        let mut log = Self::default();
        log.read(&key());
        log
    }

    fn read(&mut self, entry: &Entry) -> u64 {
        let order = |code: &Code| {
            matches!(code, Code::SequenceBackwards | Code::VersionBackwards | Code::TooMuchOpen)
        };
        self.found.extend(codes(&self.auditor.read(entry)).into_iter().filter(order));
        self.auditor.size() - 1
    }

    fn ask(&mut self, asked: Request, embargo: bool) -> Release {
        let mut release = Release { asked, entries: Vec::new(), state: None };
        self.log(&mut release, embargo);
        release
    }

    fn log(&mut self, release: &mut Release, embargo: bool) {
        let plain = release.asked.clone();
        let entry = if embargo {
            Entry::Embargoed(Embargoed {
                commitment: EMBARGO.commitment(&plain),
                deadline: plain.deadline,
                disclose_by: EMBARGO.disclose_by,
                kind: plain.kind,
                roster: plain.roster,
                time: plain.time,
            })
        } else {
            Entry::Request(plain)
        };
        release.entries.push((self.read(&entry), embargo));
    }

    fn end(&mut self, release: &mut Release, state: OutcomeState) {
        let (index, _) = *release.entries.last().unwrap();
        release.state = Some(state);
        let Entry::Outcome(outcome) = expired(index, release.asked.statement) else { return };
        self.read(&Entry::Outcome(Outcome { state, ..outcome }));
    }

    /// As a coordinator does that was started with another roster.
    fn log_anew(&mut self, release: &mut Release) {
        let (_, embargo) = *release.entries.last().unwrap();
        self.end(release, OutcomeState::Cancelled);
        release.state = None;
        self.log(release, embargo);
    }

    fn disclose(&mut self, release: &mut Release) {
        for (index, embargo) in &mut release.entries {
            if std::mem::take(embargo) {
                let (opened, kind) = (release.asked.clone(), kinds::Disclosure::default());
                let disclosure = Disclosure { kind, opened, request: *index, salt: EMBARGO.salt };
                self.read(&Entry::Disclosure(Box::new(disclosure)));
            }
        }
    }

    fn found(&mut self) -> Vec<Code> {
        std::mem::take(&mut self.found)
    }

    fn sign(&mut self, sequence: u64, version: &str, embargo: bool) -> Release {
        let mut release = self.ask(with_version(sequence, version), embargo);
        self.end(&mut release, OutcomeState::Signed);
        release
    }
}

fn with_version(sequence: u64, version: &str) -> Request {
    Request { version: Version::new(version).unwrap(), ..request(sequence) }
}

fn of_channel(channel: impl AsRef<str>, request: Request) -> Request {
    Request { channel: Channel::new(channel.as_ref()).unwrap(), ..request }
}

fn of_product(product: impl AsRef<str>, request: Request) -> Request {
    Request { product: Product::new(product.as_ref()).unwrap(), ..request }
}

#[test]
fn what_waits_is_logged_anew_in_its_place() {
    for embargoes in 0..16_u8 {
        let mut log = Log::new();
        let mut releases: Vec<Release> =
            (1..=4).map(|number| log.ask(request(number * 10), embargoes >> (number - 1) & 1 == 1)).collect();
        for _ in 0..3 {
            for release in &mut releases {
                log.log_anew(release);
            }
        }
        for release in releases.iter_mut().rev() {
            log.disclose(release);
        }
        assert_eq!(log.found(), [], "{embargoes:b}");
        // What was asked for last is still what all must come after.
        let other = Request { statement: sha256(b"other"), ..request(40) };
        log.ask(other, false);
        assert_eq!(log.found(), [Code::SequenceBackwards], "{embargoes:b}");
    }
}

#[test]
fn a_cancelled_release_may_not_be_asked_for_anew_at_any_time() {
    let mut log = Log::new();
    let mut release = log.ask(request(7), false);
    log.end(&mut release, OutcomeState::Cancelled);
    log.sign(8, "1", false);
    log.ask(request(7), false);
    assert_eq!(log.found(), [Code::SequenceBackwards]);
}

#[test]
fn a_rollback_under_embargo_is_compared_with_what_stands_on_both_sides_of_it() {
    for (hidden, expected) in [
        (7, vec![Code::SequenceBackwards]),
        (10, vec![Code::SequenceBackwards]),
        (11, vec![]),
        (12, vec![]),
        (13, vec![Code::SequenceBackwards]),
    ] {
        let mut log = Log::new();
        log.ask(request(10), false);
        let hidden = Request { statement: sha256(b"hidden"), ..request(hidden) };
        let mut release = log.ask(hidden.clone(), true);
        log.ask(request(13), false);
        for sequence in 14..40 {
            log.sign(sequence, "1", false);
            log.ask(of_channel("other", request(sequence)), false);
        }
        log.disclose(&mut release);
        assert_eq!(log.found(), expected, "{hidden:?}");
    }
}

#[test]
fn a_version_under_embargo_is_compared_with_what_was_signed_on_both_sides_of_it() {
    for (hidden, expected) in
        [("1.3", vec![Code::VersionBackwards]), ("1.5", vec![]), ("1.7", vec![Code::VersionBackwards])]
    {
        let mut log = Log::new();
        log.sign(1, "1.4", false);
        let mut release = log.sign(2, hidden, true);
        // Under embargo as well, but only asked for; and one that waits until the end.
        let mut never = log.ask(with_version(3, "9"), true);
        log.end(&mut never, OutcomeState::Expired);
        let mut late = log.ask(with_version(4, "1.5"), false);
        log.sign(5, "1.6", false);
        for sequence in 6..30 {
            log.sign(sequence, "2", false);
        }
        log.disclose(&mut never);
        log.disclose(&mut release);
        assert_eq!(log.found(), expected, "{hidden}");
        log.end(&mut late, OutcomeState::Signed);
        let expected: &[Code] = if hidden == "1.7" { &[Code::VersionBackwards] } else { &[] };
        assert_eq!(log.found(), expected, "{hidden}");
    }
}

#[test]
fn no_more_is_kept_than_may_still_be_compared() {
    let kept = |log: &Log| serde_json::to_value(&log.auditor).unwrap()["channels"].to_string().len();
    let mut log = Log::new();
    log.sign(1, "1", false);
    let least = kept(&log);
    let mut hidden: Vec<Release> = (0..5).map(|number| log.ask(request(number + 2), true)).collect();
    let mut waiting = log.ask(request(10), false);
    for sequence in 11..200 {
        log.sign(sequence, "1", false);
    }
    assert!(kept(&log) < 10 * least, "{}", kept(&log));
    log.end(&mut waiting, OutcomeState::Expired);
    for release in &mut hidden {
        log.disclose(release);
        log.end(release, OutcomeState::Refused);
    }
    assert_eq!(log.found(), []);
    assert!(kept(&log) < least + 20, "{}: one of each again", kept(&log));
}

#[test]
fn invented_products_do_not_make_a_reader_forget_those_that_are_signed() {
    let mut log = Log::new();
    log.sign(10, "1", false);
    let invented = u64::try_from(MAX_CHANNELS).unwrap() * 2;
    for number in 0..invented {
        let mut release = log.ask(of_product(format!("invented-{number}"), request(1)), false);
        log.end(&mut release, OutcomeState::Refused);
    }
    // Half of the room is made at once: it is told for each flood, and not for each entry.
    assert_eq!(log.found(), [Code::TooMuchOpen; 2]);
    log.sign(9, "1", false);
    assert_eq!(log.found(), [Code::SequenceBackwards]);
}

#[test]
fn requests_beside_embargoes_fill_no_room_but_their_own() {
    let mut log = Log::new();
    let mut hidden = log.ask(request(9), true);
    log.sign(10, "1", false);
    let mut greedy = Vec::new();
    for sequence in 1..=u64::try_from(MIN_PLACES_TO_SWEEP).unwrap() {
        log.ask(of_channel("nothing", request(1_000_000 + sequence)), true);
        let mut release = log.ask(of_channel("greedy", request(2 * sequence)), false);
        log.end(&mut release, OutcomeState::Refused);
        greedy.push(release);
    }
    assert_eq!(log.found(), [Code::TooMuchOpen]);
    let channels = serde_json::to_value(&log.auditor).unwrap()["channels"].to_string();
    assert!(channels.matches("statement").count() <= MAX_BESIDE_EMBARGOES + 3, "of two channels");
    log.disclose(&mut hidden);
    assert_eq!(log.found(), []);
    log.sign(9, "1", false);
    assert_eq!(log.found(), [Code::SequenceBackwards]);
}

#[test]
fn where_many_channels_stand_beside_many_embargoes_the_newest_of_each_is_kept() {
    const CHANNELS: u64 = 50;
    let mut log = Log::new();
    let of = |channel: u64, sequence: u64| of_channel(format!("channel-{channel}"), request(sequence));
    let mut sequence = 10;
    while log.found.is_empty() {
        log.ask(request(sequence), true);
        for channel in 0..CHANNELS {
            // At once: what comes after that could be learnt anew.
            if !log.found.is_empty() {
                break;
            }
            let mut release = log.ask(of(channel, sequence), false);
            log.end(&mut release, OutcomeState::Signed);
        }
        sequence += 1;
    }
    assert_eq!(log.found(), [Code::TooMuchOpen]);
    for channel in 0..CHANNELS {
        log.ask(of(channel, 9), false);
        assert_eq!(log.found(), [Code::SequenceBackwards], "{channel}");
    }
}

/// What happens next, of numbers.
fn happen(log: &mut Log, releases: &mut Vec<Release>, (what, which, how): (u8, u8, u8)) {
    let count = releases.len();
    let some = usize::from(which) % count.max(1);
    match what {
        0..=5 => {
            let channel = format!("channel-{}", which % 3);
            let before = releases.iter().filter(|release| release.asked.channel.as_str() == channel);
            let newest = before.map(|release| release.asked.sequence.get()).max().unwrap_or(10);
            let (sequence, version) = match how {
                0..=1 => (newest.saturating_sub(u64::from(which % 5)), newest),
                2..=3 => (newest + 1, newest.saturating_sub(3)),
                _ => (newest + 1, newest + 1),
            };
            let statement = sha256(&count.to_be_bytes());
            let asked = Request { statement, ..with_version(sequence, &format!("1.{version}")) };
            releases.push(log.ask(of_channel(channel, asked), how % 2 == 0));
        }
        6..=9 if releases.get(some).is_some_and(|release| release.state.is_none()) => {
            let states = [OutcomeState::Signed, OutcomeState::Refused, OutcomeState::Expired];
            let state = states.get(usize::from(how) % 5).copied().unwrap_or(OutcomeState::Signed);
            log.end(&mut releases[some], state);
        }
        10 => {
            for release in releases.iter_mut().filter(|release| release.state.is_none()) {
                log.log_anew(release);
            }
        }
        11..=12 if count > 0 => log.disclose(&mut releases[some]),
        13 if releases.get(some).is_some_and(|release| release.state.is_none()) => {
            log.end(&mut releases[some], OutcomeState::Cancelled);
        }
        14 => {
            let text = serde_json::to_string(&log.auditor).unwrap();
            assert_eq!(serde_json::from_str::<Auditor>(&text).as_ref().ok(), Some(&log.auditor));
        }
        _ => {}
    }
}

/// Whether sequences, and versions of what was signed, go backwards in some channel, as everything stands there.
fn goes_backwards(releases: &[Release]) -> (bool, bool) {
    let number = |release: &&Release| release.asked.version.as_str()[2..].parse::<u64>().unwrap();
    let (mut sequences, mut versions) = (false, false);
    for channel in ["channel-0", "channel-1", "channel-2"] {
        let all: Vec<&Release> =
            releases.iter().filter(|release| release.asked.channel.as_str() == channel).collect();
        sequences |= !all.is_sorted_by(|a, b| a.asked.sequence < b.asked.sequence);
        let signed = all.iter().filter(|release| release.state == Some(OutcomeState::Signed));
        versions |= !signed.copied().is_sorted_by_key(|release| number(&release));
    }
    (sequences, versions)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn exactly_what_goes_backwards_is_found(
        honest in any::<bool>(),
        story in prop::collection::vec((0..15_u8, any::<u8>(), 0..16_u8), 1..120),
        order in any::<u64>(),
    ) {
        let (mut log, mut releases) = (Log::new(), Vec::new());
        for (what, which, how) in story {
            let how = if honest { how | 4 } else { how };
            happen(&mut log, &mut releases, (what, which, how));
        }
        let mut last: Vec<usize> = (0..releases.len()).collect();
        last.sort_by_key(|number| sha256(&(order ^ *number as u64).to_be_bytes()));
        for number in last {
            log.disclose(&mut releases[number]);
        }
        let found = log.found();
        let found = (found.contains(&Code::SequenceBackwards), found.contains(&Code::VersionBackwards));
        prop_assert_eq!(found, goes_backwards(&releases));
        prop_assert!(!honest || found == (false, false));
    }
}

/// Asks for a release and ends it; what is said of both. Nobody announced its key, which is another finding.
fn ask_and_end(auditor: &mut Auditor, request: &Request, state: OutcomeState) -> Vec<Code> {
    let index = auditor.size();
    let asked = auditor.read(&Entry::Request(request.clone()));
    let Entry::Outcome(outcome) = expired(index, request.statement) else { return Vec::new() };
    let ended = auditor.read(&Entry::Outcome(Outcome { state, ..outcome }));
    let order = |code: &Code| matches!(code, Code::SequenceBackwards | Code::VersionBackwards);
    codes(&asked).into_iter().chain(codes(&ended)).filter(order).collect()
}

#[test]
fn versions_are_compared_with_what_was_signed_alone() {
    let release =
        |sequence, version| Request { version: Version::new(version).unwrap(), ..request(sequence) };
    let mut auditor = Auditor::default();
    auditor.read(&key());
    for (number, state) in
        [OutcomeState::Cancelled, OutcomeState::Refused, OutcomeState::Expired].into_iter().enumerate()
    {
        let sequence = 10 * u64::try_from(number + 1).unwrap();
        assert!(ask_and_end(&mut auditor, &release(sequence, "9.0"), state).is_empty());
        assert!(ask_and_end(&mut auditor, &release(sequence + 1, "1.4"), OutcomeState::Signed).is_empty());
        assert!(ask_and_end(&mut auditor, &release(sequence + 2, "1.3"), state).is_empty());
    }
    assert_eq!(
        ask_and_end(&mut auditor, &release(40, "1.3"), OutcomeState::Signed),
        [Code::VersionBackwards]
    );
    // Asked for in order, and signed in the other one.
    let (first, second) = (auditor.size(), auditor.size() + 1);
    auditor.read(&Entry::Request(release(41, "2.0")));
    auditor.read(&Entry::Request(release(42, "2.1")));
    for (index, sequence) in [(second, 42), (first, 41)] {
        let Entry::Outcome(outcome) = expired(index, request(sequence).statement) else { return };
        let signed = Entry::Outcome(Outcome { state: OutcomeState::Signed, ..outcome });
        assert!(!codes(&auditor.read(&signed)).contains(&Code::VersionBackwards));
    }
}

#[test]
fn a_cancelled_release_may_be_asked_for_anew() {
    for state in [OutcomeState::Cancelled, OutcomeState::Refused, OutcomeState::Expired, OutcomeState::Signed]
    {
        let mut auditor = Auditor::default();
        auditor.read(&key());
        assert!(ask_and_end(&mut auditor, &request(7), state).is_empty());
        let another = Request { statement: sha256(b"another"), ..request(7) };
        let mut other = auditor.clone();
        assert_eq!(ask_and_end(&mut other, &another, OutcomeState::Signed), [Code::SequenceBackwards]);
        let lower = Request { statement: request(7).statement, ..request(6) };
        let mut other = auditor.clone();
        assert_eq!(ask_and_end(&mut other, &lower, OutcomeState::Signed), [Code::SequenceBackwards]);
        let again = ask_and_end(&mut auditor, &request(7), OutcomeState::Signed);
        assert_eq!(again.is_empty(), state == OutcomeState::Cancelled, "{state:?}");
        assert_eq!(ask_and_end(&mut auditor, &request(7), OutcomeState::Signed), [Code::SequenceBackwards]);
    }
}
