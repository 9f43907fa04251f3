//! What an auditor keeps is bounded, and it says so where that could hide something.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rutli_log::{
    Auditor, Code, Entry, Hash, Organisation,
    entry::{Key, Outcome, OutcomeState, Request, Signables, kinds},
    limits::{MAX_ENDED, MAX_OPEN, MAX_ROSTER_NODES},
    sha256,
};
use rutli_release::{Channel, Class, Product, ReleaseId, Requester, Sequence, Version};

fn key() -> Entry {
    Entry::Key(Key {
        ceremony: sha256(b"ceremony").to_string(),
        document: sha256(b"document"),
        epoch: 1,
        kind: kinds::Key::default(),
        name: "release".into(),
        public_key: sha256(b"key"),
        purpose: "release".into(),
        roster: sha256(b"roster"),
        time: 0,
        transcript: sha256(b"transcript"),
    })
}

fn request(sequence: u64) -> Request {
    Request {
        channel: Channel::new("stable").unwrap(),
        class: Class::AvDatabase,
        deadline: 100,
        evidence: Vec::new(),
        kind: kinds::Request::default(),
        product: Product::new("av").unwrap(),
        release: ReleaseId::new("av-1").unwrap(),
        requester: Requester::new("ci").unwrap(),
        roster: sha256(b"roster"),
        sequence: Sequence::new(sequence).unwrap(),
        signables: Signables::default(),
        statement: sha256(&sequence.to_be_bytes()),
        time: 0,
        version: Version::new("1").unwrap(),
    }
}

fn expired(request: u64, statement: Hash) -> Entry {
    Entry::Outcome(Outcome {
        key: None,
        kind: kinds::Outcome::default(),
        refusals: Vec::new(),
        request,
        roster: None,
        signatures: None,
        signed_by: Vec::new(),
        state: OutcomeState::Expired,
        statement,
        time: 0,
    })
}

fn codes(findings: &[rutli_log::Finding]) -> Vec<Code> {
    findings.iter().map(|finding| finding.code).collect()
}

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
