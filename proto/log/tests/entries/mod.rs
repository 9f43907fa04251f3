//! Entries for tests of what reads them.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rutli_log::{
    Code, Entry, Finding, Hash,
    entry::{Embargoed, Evidence, Key, Outcome, OutcomeState, Request, Signables, kinds},
    sha256,
};
use rutli_release::{Channel, Class, Product, ReleaseId, Requester, Sequence, Version};

pub fn key() -> Entry {
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

pub fn request(sequence: u64) -> Request {
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
        version: Version::new(format!("1.{sequence}")).unwrap(),
    }
}

pub fn expired(request: u64, statement: Hash) -> Entry {
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

pub fn embargoed(time: u64, deadline: u64, disclose_by: u64) -> Entry {
    Entry::Embargoed(Embargoed {
        commitment: sha256(b"commitment"),
        deadline,
        disclose_by,
        kind: kinds::Request::default(),
        roster: sha256(b"roster"),
        time,
    })
}

pub fn evidence(request: u64) -> Entry {
    Entry::Evidence(Evidence {
        by: "custodian:clara".into(),
        evidence: vec![sha256(b"approval")],
        kind: kinds::Evidence::default(),
        request,
        time: 0,
    })
}

pub fn codes(findings: &[Finding]) -> Vec<Code> {
    findings.iter().map(|finding| finding.code).collect()
}
