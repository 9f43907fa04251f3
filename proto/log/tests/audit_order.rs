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
    /// Entries at which a version was found to be signed twice.
    repeated: Vec<u64>,
}

/// A release with all its requests.
#[derive(Clone, Debug)]
struct Release {
    asked: Request,
    /// Index of each, and whether it is under embargo.
    entries: Vec<(u64, bool)>,
    state: Option<OutcomeState>,
    /// Index of its outcome.
    ended: u64,
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
        let findings = self.auditor.read(entry);
        let repeated = findings.iter().filter(|finding| finding.code == Code::VersionRepeated);
        self.repeated.extend(repeated.filter_map(|finding| finding.index));
        self.found.extend(codes(&findings).into_iter().filter(order));
        self.auditor.size() - 1
    }

    fn ask(&mut self, asked: Request, embargo: bool) -> Release {
        let mut release = Release { asked, entries: Vec::new(), state: None, ended: 0 };
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
        release.ended = self.read(&Entry::Outcome(Outcome { state, ..outcome }));
    }

    /// Ends a request as cancelled and logs it a second time. Honest coordinators log each request once; the
    /// order must not depend on that.
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
        for release in &mut releases {
            log.end(release, OutcomeState::Signed);
        }
        assert_eq!(log.found(), [], "{embargoes:b}");
        // Later requests must have a sequence above what was signed last.
        let other = Request { statement: sha256(b"other"), ..request(40) };
        let mut other = log.ask(other, false);
        log.end(&mut other, OutcomeState::Signed);
        assert_eq!(log.found(), [Code::SequenceBackwards], "{embargoes:b}");
    }
}

/// A requester cannot take other people's numbers: neither with the highest one nor with one that somebody
/// waits for.
#[test]
fn what_is_only_asked_for_binds_nobody() {
    let mut log = Log::new();
    let mut thief = log.ask(request((1 << 53) - 1), false);
    let mut waiting = log.ask(with_version(7, "1.7"), false);
    let mut rival = log.ask(Request { statement: sha256(b"rival"), ..with_version(7, "1.7") }, false);
    log.end(&mut thief, OutcomeState::Refused);
    log.sign(6, "1.6", false);
    log.end(&mut rival, OutcomeState::Signed);
    log.end(&mut waiting, OutcomeState::Overtaken);
    log.sign(8, "1.8", false);
    assert_eq!(log.found(), []);
    // Requested before anything above it was signed: it was at the nodes together with a later one.
    let first = log.ask(with_version(9, "1.9"), false);
    let (mut first, mut second) = (first, log.ask(with_version(10, "1.10"), false));
    log.end(&mut second, OutcomeState::Signed);
    log.end(&mut first, OutcomeState::Signed);
    assert_eq!(log.found(), []);
    log.sign(9, "1.10", false);
    assert_eq!(log.found(), [Code::SequenceBackwards]);
}

#[test]
fn two_contents_under_one_version_are_found() {
    let version = |log: &mut Log, asked: Request, embargo| {
        let mut release = log.ask(asked, embargo);
        log.end(&mut release, OutcomeState::Signed);
        release
    };
    let repeated = |log: &mut Log| log.repeated.drain(..).collect::<Vec<_>>();
    let mut log = Log::new();
    version(&mut log, with_version(1, "1.0"), false);
    let mut never = log.ask(with_version(2, "1.1"), false);
    log.end(&mut never, OutcomeState::Refused);
    version(&mut log, with_version(3, "1.1"), false);
    version(&mut log, of_channel("beta", with_version(4, "1.1")), false);
    assert!(repeated(&mut log).is_empty(), "not signed, or in another channel");
    let mut hidden = version(&mut log, with_version(5, "1.0"), true);
    assert!(repeated(&mut log).is_empty(), "nobody can see it yet");
    log.disclose(&mut hidden);
    assert_eq!(repeated(&mut log), [hidden.ended + 1]);
    let again = version(&mut log, with_version(6, "1.1"), false);
    assert_eq!(repeated(&mut log), [again.ended]);
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
        log.sign(10, "1", false);
        let hidden = Request { statement: sha256(b"hidden"), ..with_version(hidden, "1") };
        let mut release = log.ask(hidden.clone(), true);
        log.end(&mut release, OutcomeState::Signed);
        for sequence in 13..40 {
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
        assert_eq!(log.found(), [], "{hidden}");
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
    for number in 0..u64::try_from(MAX_CHANNELS).unwrap() * 2 {
        let mut release = log.ask(of_product(format!("invented-{number}"), request(1)), false);
        log.end(&mut release, OutcomeState::Refused);
    }
    assert_eq!(log.found(), []);
    log.sign(9, "1", false);
    assert_eq!(log.found(), [Code::SequenceBackwards]);
    // Signed in more channels than are kept.
    for number in 0..u64::try_from(MAX_CHANNELS).unwrap() {
        let mut release = log.ask(of_product(format!("signed-{number}"), request(1)), false);
        log.end(&mut release, OutcomeState::Signed);
    }
    assert_eq!(log.found(), [Code::TooMuchOpen]);
}

#[test]
fn what_is_signed_beside_embargoes_fills_no_room_but_its_own() {
    let mut log = Log::new();
    let mut hidden = log.ask(request(9), true);
    log.sign(10, "1", false);
    for sequence in 1..=u64::try_from(MIN_PLACES_TO_SWEEP).unwrap() {
        log.ask(of_channel("nothing", request(1_000_000 + sequence)), true);
        let mut release = log.ask(of_channel("greedy", with_version(2 * sequence, "1")), false);
        log.end(&mut release, OutcomeState::Signed);
    }
    assert_eq!(log.found(), [Code::TooMuchOpen]);
    let channels = serde_json::to_value(&log.auditor).unwrap()["channels"].to_string();
    assert!(channels.matches("highest").count() <= MAX_BESIDE_EMBARGOES + 3, "of two channels");
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
        let mut release = log.ask(of(channel, 9), false);
        log.end(&mut release, OutcomeState::Signed);
        assert!(log.found().contains(&Code::SequenceBackwards), "{channel}");
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
            let signed: Vec<Request> = releases
                .iter()
                .filter(|release| release.state == Some(OutcomeState::Signed))
                .map(|release| release.asked.clone())
                .collect();
            for release in releases.iter_mut().filter(|release| release.state.is_none()) {
                let asked = &release.asked;
                let behind =
                    |other: &Request| other.channel == asked.channel && other.sequence >= asked.sequence;
                if signed.iter().any(behind) {
                    log.end(release, OutcomeState::Overtaken);
                } else {
                    log.log_anew(release);
                }
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

/// Whether something was signed that is not above what had been signed when it was asked for; and whether versions go
/// backwards by sequence.
fn goes_backwards(releases: &[Release]) -> (bool, bool) {
    let number = |release: &Release| release.asked.version.as_str()[2..].parse::<u64>().unwrap();
    let signed: Vec<&Release> =
        releases.iter().filter(|release| release.state == Some(OutcomeState::Signed)).collect();
    let pairs = signed.iter().flat_map(|a| signed.iter().map(move |b| (*a, *b)));
    let pairs: Vec<_> = pairs.filter(|(a, b)| a.asked.channel == b.asked.channel).collect();
    let late = |(a, b): &(&Release, &Release)| {
        a.ended < b.entries.last().unwrap().0 && b.asked.sequence <= a.asked.sequence
    };
    let down = |(a, b): &(&Release, &Release)| a.asked.sequence <= b.asked.sequence && number(a) > number(b);
    (pairs.iter().any(late), pairs.iter().any(down))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn exactly_what_goes_backwards_is_found(
        honest in any::<bool>(),
        open in any::<bool>(),
        story in prop::collection::vec((0..15_u8, any::<u8>(), 0..16_u8), 1..120),
        order in any::<u64>(),
    ) {
        let (mut log, mut releases) = (Log::new(), Vec::new());
        for (what, which, how) in story {
            // Under embargo not every lower one that was signed behind a higher one can be remembered.
            let how = if honest { how | 4 } else { how };
            let how = if open { how | 1 } else { how };
            happen(&mut log, &mut releases, (what, which, how));
        }
        let mut last: Vec<usize> = (0..releases.len()).collect();
        last.sort_by_key(|number| sha256(&(order ^ *number as u64).to_be_bytes()));
        for number in last {
            log.disclose(&mut releases[number]);
        }
        let found = log.found();
        let found = (found.contains(&Code::SequenceBackwards), found.contains(&Code::VersionBackwards));
        let (sequences, versions) = goes_backwards(&releases);
        if open {
            prop_assert_eq!(found.0, sequences);
        }
        prop_assert!(found.0 <= sequences && found.1 <= versions, "{found:?} {sequences} {versions}");
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
fn only_what_was_signed_is_not_asked_for_anew() {
    for state in [
        OutcomeState::Cancelled,
        OutcomeState::Refused,
        OutcomeState::Expired,
        OutcomeState::Overtaken,
        OutcomeState::Signed,
    ] {
        let mut auditor = Auditor::default();
        auditor.read(&key());
        assert!(ask_and_end(&mut auditor, &request(7), state).is_empty());
        let another = Request { statement: sha256(b"another"), ..request(7) };
        let lower = Request { statement: request(7).statement, ..request(6) };
        for request in [another, lower, request(7)] {
            let found = ask_and_end(&mut auditor.clone(), &request, OutcomeState::Signed);
            let expected: &[Code] =
                if state == OutcomeState::Signed { &[Code::SequenceBackwards] } else { &[] };
            assert_eq!(found, expected, "{state:?}");
        }
    }
}
