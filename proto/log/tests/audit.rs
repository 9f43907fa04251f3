//! What an auditor keeps is bounded, and it says so where that could hide something.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod entries;

use entries::{codes, embargoed, evidence, expired, key, request};
use rutli_log::{
    Auditor, Code, Entry, Finding, Organisation,
    entry::{Dsse, Evidence, Key, Node, NodeEvent, Outcome, OutcomeState, Refusal, Request, kinds},
    limits::{
        MAX_CLOCK_SKEW_SECONDS, MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS, MAX_ENDED, MAX_ENTRY_BYTES,
        MAX_FINDING_BYTES, MAX_ITEMS, MAX_KEYS, MAX_NAME_BYTES, MAX_OPEN, MAX_ROSTER_NODES, MAX_TEXT_BYTES,
        MAX_TREE_SIZE,
    },
    sha256,
};

#[test]
fn more_open_requests_than_are_kept_are_an_alarm_once() {
    let mut auditor = Auditor::default();
    assert!(auditor.read(&key()).is_empty());
    let most = u64::try_from(MAX_OPEN).unwrap();
    for sequence in 1..=most {
        assert!(auditor.read(&Entry::Request(request(sequence))).is_empty());
    }
    assert_eq!(codes(&auditor.read(&Entry::Request(request(most + 1)))), [Code::TooMuchOpen]);
    assert!(auditor.read(&Entry::Request(request(most + 2))).is_empty());
    assert_eq!(auditor.open_requests(), MAX_OPEN);
    assert_eq!(auditor.size(), most + 3);
}

#[test]
fn what_was_too_much_is_told_again_once_it_had_room() {
    let mut auditor = Auditor::default();
    auditor.read(&key());
    let most = u64::try_from(MAX_OPEN).unwrap();
    let ask = |auditor: &mut Auditor, sequences: std::ops::Range<u64>| -> Vec<Code> {
        sequences.flat_map(|sequence| codes(&auditor.read(&Entry::Request(request(sequence))))).collect()
    };
    assert_eq!(ask(&mut auditor, 1..most + 10), [Code::TooMuchOpen]);
    // Another room is another alarm.
    let hidden = |_| codes(&auditor.read(&embargoed(0, 0, 0)));
    assert_eq!((0..=most).flat_map(hidden).collect::<Vec<_>>(), [Code::TooMuchOpen]);
    // Those under embargo took the place of all others. Nearly half of them end, which is no room yet; then half.
    let end = |auditor: &mut Auditor, count: u64| {
        let oldest = auditor.size() - most;
        for index in oldest..oldest + count {
            assert!(!codes(&auditor.read(&expired(index, sha256(b"")))).contains(&Code::TooMuchOpen));
        }
        assert_eq!(auditor.open_requests() as u64, most - count);
    };
    end(&mut auditor, most / 2 - 1);
    assert_eq!(ask(&mut auditor, 2 * most..3 * most), []);
    end(&mut auditor, most / 2);
    assert_eq!(ask(&mut auditor, 4 * most..5 * most), [Code::TooMuchOpen]);
}

#[test]
fn a_second_outcome_is_told_from_one_of_nothing_for_a_while() {
    let mut auditor = Auditor::default();
    auditor.read(&key());
    let statement = |sequence: u64| request(sequence).statement;
    let ended = u64::try_from(MAX_ENDED).unwrap() + 1;
    for sequence in 1..=ended {
        let index = auditor.size();
        auditor.read(&Entry::Request(request(sequence)));
        assert!(auditor.read(&expired(index, statement(sequence))).is_empty());
    }
    // Of the first, all that is known by now is that nothing waits.
    assert_eq!(codes(&auditor.read(&expired(1, statement(1)))), [Code::OutcomeWithoutRequest]);
    assert_eq!(codes(&auditor.read(&expired(3, statement(2)))), [Code::OutcomeTwice]);
}

/// Evidence belongs to a request that has not ended, under embargo or not.
#[test]
fn evidence_is_for_what_is_open() {
    let mut auditor = Auditor::default();
    auditor.read(&key());
    let nothing = [Code::EvidenceWithoutRequest];
    assert_eq!(codes(&auditor.read(&evidence(0))), nothing, "a key");
    assert_eq!(codes(&auditor.read(&evidence(3))), nothing, "what is not asked for yet");
    assert!(auditor.read(&Entry::Request(request(1))).is_empty());
    assert!(auditor.read(&embargoed(0, 100, 1_000)).is_empty());
    for open in [3, 4, 3] {
        assert!(auditor.read(&evidence(open)).is_empty());
    }
    assert_eq!(codes(&auditor.read(&evidence(5))), nothing, "of evidence");
    // The one has an outcome; the other has, too, and its embargo is not over.
    assert!(auditor.read(&expired(3, request(1).statement)).is_empty());
    assert!(auditor.read(&expired(4, sha256(b"hidden"))).is_empty());
    for ended in [3, 4] {
        let late = auditor.read(&evidence(ended));
        assert_eq!(codes(&late), nothing);
        assert!(late.iter().all(|finding| finding.text.contains("has an outcome already")), "{late:?}");
        assert!(late.iter().all(|finding| finding.text.contains("custodian:clara")), "{late:?}");
    }
    assert_eq!((auditor.open_requests(), auditor.embargoes()), (0, 1), "evidence opens and ends nothing");
}

#[test]
fn what_is_overdue_is_said_once_and_ends_with_its_outcome() {
    let mut auditor = Auditor::default();
    auditor.read(&key());
    auditor.read(&Entry::Request(request(1)));
    auditor.read(&Entry::Request(request(2)));
    assert!(auditor.overdue(110, 10).is_empty(), "not before the grace is over");
    auditor.read(&expired(1, request(1).statement));
    let late = auditor.overdue(111, 10);
    assert_eq!(codes(&late), [Code::RequestWithoutOutcome]);
    assert_eq!(late.first().and_then(|finding| finding.index), Some(2));
    assert!(auditor.overdue(112, 10).is_empty());
    // Stored and read back, it is the same.
    let text = serde_json::to_string(&auditor).unwrap();
    assert_eq!(serde_json::from_str::<Auditor>(&text).unwrap(), auditor);
}

/// A key of this name with its signed roster, of 128 nodes that must all sign.
fn announce(auditor: &mut Auditor, name: String) -> Vec<Code> {
    let roster = sha256(name.as_bytes());
    let Entry::Key(key) = key() else { return Vec::new() };
    auditor.read(&Entry::Key(Key { name, roster, ..key }));
    let nodes = (0..128).map(|node| format!("vendor/vendor-{node}")).collect();
    let organisation = Organisation { name: "vendor".into(), threshold: 128, nodes };
    codes(&auditor.learn_roster(&roster, vec![organisation]))
}

/// What is said of a signature with this key by one node.
fn signed_by_one(auditor: &mut Auditor, name: &str) -> Vec<Code> {
    let index = auditor.size();
    let request = Request { roster: sha256(name.as_bytes()), ..request(index) };
    auditor.read(&Entry::Request(request.clone()));
    let Entry::Outcome(outcome) = expired(index, request.statement) else { return Vec::new() };
    codes(&auditor.read(&Entry::Outcome(Outcome {
        key: Some(name.into()),
        roster: Some(request.roster),
        signatures: Some(sha256(b"signatures")),
        signed_by: vec!["vendor/vendor-1".into()],
        state: OutcomeState::Signed,
        ..outcome
    })))
}

#[test]
fn the_newest_rosters_are_kept_and_an_older_one_is_not_judged_by() {
    let mut auditor = Auditor::default();
    let most = MAX_ROSTER_NODES / 128;
    for number in 0..most {
        assert_eq!(announce(&mut auditor, format!("key-{number}")), []);
    }
    assert_eq!(signed_by_one(&mut auditor, "key-0"), [Code::QuorumMissing]);
    // Announced again, and so not the oldest.
    announce(&mut auditor, "key-0".into());
    assert_eq!(announce(&mut auditor, "one-more".into()), [Code::TooMuchOpen]);
    assert_eq!(announce(&mut auditor, "two-more".into()), [], "said once");
    for (name, kept) in
        [("key-0", true), ("key-1", false), ("key-2", false), ("key-3", true), ("two-more", true)]
    {
        let expected: &[Code] = if kept { &[Code::QuorumMissing] } else { &[] };
        assert_eq!(signed_by_one(&mut auditor, name), expected, "{name}");
    }
}

#[test]
fn keys_that_sign_are_kept_and_those_that_never_did_make_room() {
    let mut auditor = Auditor::default();
    let announce = |auditor: &mut Auditor, name: &str| {
        let Entry::Key(key) = key() else { return Vec::new() };
        let roster = sha256(name.as_bytes());
        codes(&auditor.read(&Entry::Key(Key { name: name.into(), roster, ..key })))
    };
    let used: Vec<String> = (0..8).map(|number| format!("a-{number}")).collect();
    for name in &used {
        assert_eq!(announce(&mut auditor, name), []);
        assert_eq!(signed_by_one(&mut auditor, name), []);
    }
    let told: Vec<Code> =
        (0..2 * MAX_KEYS).flat_map(|number| announce(&mut auditor, &format!("b-{number}"))).collect();
    assert_eq!(told, [Code::TooMuchOpen; 2], "of keys, and of rosters");
    for name in &used {
        assert_eq!(signed_by_one(&mut auditor, name), [], "{name}");
    }
    let unknown = [Code::KeyUnknown];
    assert_eq!(signed_by_one(&mut auditor, "b-0"), unknown);
    // Where all have signed, the one that did longest ago makes room for one that had no time to.
    for number in MAX_KEYS + used.len()..2 * MAX_KEYS {
        assert_eq!(signed_by_one(&mut auditor, &format!("b-{number}")), []);
    }
    announce(&mut auditor, "new");
    assert_eq!(signed_by_one(&mut auditor, "new"), []);
    assert_eq!(signed_by_one(&mut auditor, "a-0"), unknown);
    assert_eq!(signed_by_one(&mut auditor, "a-1"), []);
}

#[test]
fn terms_that_would_hide_something_for_ever_are_an_alarm_at_once() {
    const TIME: u64 = 1_000_000;
    let (deadline, disclosure) = (TIME + MAX_DEADLINE_SECONDS, TIME + MAX_EMBARGO_SECONDS);
    let plain = |deadline| Entry::Request(Request { time: TIME, deadline, ..request(1) });
    for (entry, excessive) in [
        (plain(TIME), 0),
        (plain(deadline), 0),
        (plain(deadline + 1), 1),
        (plain(TIME - 1), 1),
        (plain(MAX_TREE_SIZE), 1),
        (embargoed(TIME, deadline, disclosure), 0),
        (embargoed(TIME, TIME, TIME), 0),
        (embargoed(TIME, deadline + 1, disclosure), 1),
        (embargoed(TIME, deadline, disclosure + 1), 1),
        (embargoed(TIME, deadline, TIME - 1), 1),
        (embargoed(TIME, MAX_TREE_SIZE, MAX_TREE_SIZE), 2),
        (embargoed(TIME, u64::MAX, u64::MAX), 2),
    ] {
        let mut auditor = Auditor::default();
        auditor.read(&key());
        let found = codes(&auditor.read(&entry));
        assert_eq!(found, vec![Code::TermsExcessive; excessive], "{entry:?}");
        assert!(found.iter().all(|code| code.severity() == rutli_log::Severity::Alarm));
        // Whatever it says, what is missing is an alarm once the longest time is over.
        let embargo = matches!(entry, Entry::Embargoed(_));
        let missing = if embargo {
            vec![Code::RequestWithoutOutcome, Code::EmbargoOverdue]
        } else {
            vec![Code::RequestWithoutOutcome]
        };
        assert_eq!(codes(&auditor.overdue(disclosure + 1, 0)), missing, "{entry:?}");
    }
}

#[test]
fn a_request_of_the_future_cannot_wait_for_ever_either() {
    const NOW: u64 = 1_000_000;
    let time = NOW + MAX_CLOCK_SKEW_SECONDS;
    let read = |time: u64| {
        let mut auditor = Auditor::default();
        auditor.read(&key());
        let entry = embargoed(time, time + MAX_DEADLINE_SECONDS, time + MAX_EMBARGO_SECONDS);
        assert!(auditor.read(&entry).is_empty());
        auditor
    };
    assert!(read(time).overdue(NOW, 0).is_empty(), "clocks may differ");
    let mut auditor = read(time + 1_000);
    assert_eq!(codes(&auditor.overdue(NOW, 0)), [Code::TermsExcessive; 2]);
    assert!(auditor.overdue(NOW, 0).is_empty(), "once");
    assert!(auditor.overdue(time + MAX_DEADLINE_SECONDS, 0).is_empty());
    let missing = [Code::RequestWithoutOutcome, Code::EmbargoOverdue];
    assert_eq!(codes(&auditor.overdue(time + MAX_DEADLINE_SECONDS + 1, 0)), missing);
}

/// The longest text that fits into an entry beside the rest.
fn huge() -> String {
    "\u{1}".repeat(MAX_ENTRY_BYTES / 6 - 200)
}

/// Makes something within an entry so long.
type Change = fn(&mut Entry, usize);

/// Each change may make it as long as it says, and no longer.
fn assert_bounded(changes: &[(Entry, usize, Change)]) {
    for (place, (entry, most, change)) in changes.iter().enumerate() {
        for (length, holds) in [(*most, true), (most + 1, false)] {
            let mut entry = entry.clone();
            change(&mut entry, length);
            assert_eq!(Entry::parse(&entry.encode()).is_ok(), holds, "change {place}, {length}");
        }
    }
}

#[test]
fn names_texts_and_lists_within_entries_are_bounded() {
    let name = MAX_NAME_BYTES;
    let of_key = || key();
    let node = || {
        let (event, kind) = (NodeEvent::Culprit, kinds::Node::default());
        Entry::Node(Node { event, kind, node: "v/n".into(), reason: String::new(), time: 0 })
    };
    let dsse = || {
        let key = rutli_release::ReleaseKey::from_bytes(
            ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().as_bytes(),
        );
        Entry::Dsse(Dsse::new(b"", b"", &key.unwrap(), &[0; 64]))
    };
    macro_rules! set {
        ($kind:ident, $($field:tt)+) => { |entry, length| {
            let Entry::$kind(it) = entry else { return };
            it.$($field)+ = "x".repeat(length);
        }};
    }
    let changes: &[(Entry, usize, Change)] = &[
        (of_key(), name, set!(Key, name)),
        (of_key(), name, set!(Key, purpose)),
        (of_key(), name, set!(Key, ceremony)),
        (node(), name, set!(Node, node)),
        (node(), MAX_TEXT_BYTES, set!(Node, reason)),
        (dsse(), name, set!(Dsse, api_version)),
        (dsse(), name, set!(Dsse, spec.payload_hash.algorithm)),
        (dsse(), name, set!(Dsse, spec.envelope_hash.algorithm)),
        (dsse(), MAX_TEXT_BYTES, set!(Dsse, spec.signatures[0].verifier)),
        (dsse(), MAX_TEXT_BYTES, set!(Dsse, spec.signatures[0].signature)),
        (dsse(), MAX_ITEMS, |entry, length| {
            let Entry::Dsse(dsse) = entry else { return };
            dsse.spec.signatures = vec![dsse.spec.signatures[0].clone(); length];
        }),
        (evidence(1), name, set!(Evidence, by)),
        (evidence(1), MAX_ITEMS, |entry, length| {
            let Entry::Evidence(it) = entry else { return };
            it.evidence = vec![sha256(b""); length];
        }),
        (Entry::Request(request(1)), MAX_ITEMS, |entry, length| {
            let Entry::Request(request) = entry else { return };
            request.evidence = vec![sha256(b""); length];
        }),
    ];
    assert_bounded(changes);
    let Entry::Evidence(nothing) = evidence(1) else { return };
    let nothing = Entry::Evidence(Evidence { evidence: Vec::new(), ..nothing });
    assert!(Entry::parse(&nothing.encode()).is_err(), "evidence of nothing");
}

#[test]
fn names_texts_and_lists_within_outcomes_are_bounded() {
    let name = MAX_NAME_BYTES;
    let ended = || expired(1, sha256(b"statement"));
    let refusal = |length| Refusal { code: "x".repeat(length), node: String::new(), reason: String::new() };
    assert_bounded(&[
        (ended(), name, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            outcome.key = Some("x".repeat(length));
        }),
        (ended(), name, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            outcome.signed_by = vec!["x".repeat(length)];
        }),
        (ended(), MAX_ITEMS, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            outcome.signed_by = vec!["x".to_owned(); length];
        }),
        (ended(), MAX_ITEMS, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            let empty = Refusal { code: String::new(), node: String::new(), reason: String::new() };
            outcome.refusals = vec![empty; length];
        }),
        (ended(), MAX_TEXT_BYTES, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            let reason = "x".repeat(length);
            outcome.refusals = vec![Refusal { code: String::new(), node: String::new(), reason }];
        }),
        (ended(), name, |entry, length| {
            let Entry::Outcome(outcome) = entry else { return };
            let node = "x".repeat(length);
            outcome.refusals = vec![Refusal { code: String::new(), node, reason: String::new() }];
        }),
    ]);
    let mut outcome = ended();
    let Entry::Outcome(it) = &mut outcome else { return };
    for (length, holds) in [(name, true), (name + 1, false)] {
        it.refusals = vec![refusal(length)];
        assert_eq!(Entry::parse(&Entry::Outcome(it.clone()).encode()).is_ok(), holds);
    }
    // Six bytes in JSON for each.
    it.refusals = vec![refusal(0)];
    it.key = Some("\u{1}".into());
    assert!(Entry::parse(&Entry::Outcome(it.clone()).encode()).is_err());
}

#[test]
fn what_is_said_about_text_is_not_as_long_as_the_text() {
    let text = serde_json::to_string(&huge()).unwrap();
    for bytes in [
        format!("{{\"kind\":{text}}}"),
        format!("{{\"kind\":\"{}\"}}", "ü".repeat(MAX_ENTRY_BYTES / 2 - 20)),
        format!("{{\"kind\":\"key\",{text}:1}}"),
        format!("{{\"kind\":\"node\",\"event\":{text}}}"),
    ] {
        assert!(bytes.len() < MAX_ENTRY_BYTES, "{}", bytes.len());
        let error = Entry::parse(bytes.as_bytes()).unwrap_err().to_string();
        assert!(error.len() <= MAX_TEXT_BYTES + 100, "{}", error.len());
    }
    for text in ["x".repeat(100_000), "ü".repeat(MAX_FINDING_BYTES)] {
        for finding in
            [Finding::at(Code::EntryMalformed, 1, text.clone()), Finding::of_log(Code::EntryMalformed, text)]
        {
            assert!((MAX_FINDING_BYTES - 2..=MAX_FINDING_BYTES).contains(&finding.text.len()));
        }
    }
}
