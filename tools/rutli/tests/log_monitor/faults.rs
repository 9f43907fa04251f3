//! Entries that should not be, one fault each.

use rutli_log::{
    Entry, Hash,
    entry::{NodeEvent, OutcomeState, Refusal},
    sha256,
};
use rutli_release::{Product, Version};

use crate::folder::{FUTURE, GroupKey, Log};

/// What it is, the codes of all its findings, and how to append it to an honest log.
pub type Fault = (&'static str, &'static [&'static str], fn(&mut Log));

/// Entries that should not be, after an honest log; and some that may.
pub const FAULTS: &[Fault] = &[
    ("honest entries of all kinds", &[], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Expired);
        log.append(&Entry::Outcome(outcome));
        log.sign_next();
    }),
    ("an outcome of an outcome", &["outcome-without-request"], |log| {
        let mut asked = log.sign_next();
        asked.index += 1;
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
    }),
    ("an outcome before its request", &["outcome-without-request", "outcome-without-request"], |log| {
        let mut asked = log.sign_next();
        asked.index = log.size() + 1;
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome.clone()));
        log.append(&Entry::Outcome(outcome));
    }),
    ("evidence for what is open, under embargo or not", &[], |log| {
        let asked = log.ask_next();
        log.add_evidence(asked.index, "custodian:clara", &[b"one"]);
        log.add_evidence(asked.index, "operator:o", &[b"two", b"three"]);
        log.end_signed(&asked);
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let hidden = log.ask(release, &terms);
        log.add_evidence(hidden.index, "pipeline:ci", &[b"four"]);
        log.end_signed(&hidden);
    }),
    ("evidence after the end", &["evidence-without-request"], |log| {
        let asked = log.sign_next();
        log.add_evidence(asked.index, "custodian:clara", &[b"late"]);
    }),
    ("evidence for an outcome", &["evidence-without-request"], |log| {
        let asked = log.sign_next();
        log.add_evidence(asked.index + 1, "custodian:clara", &[b"nothing"]);
    }),
    ("evidence of nothing", &["entry-malformed"], |log| {
        let (release, mut terms) = (log.release(), log.terms());
        terms.deadline = *FUTURE;
        let asked = log.ask(release, &terms);
        log.add_evidence(asked.index, "custodian:clara", &[]);
    }),
    ("a second outcome", &["outcome-twice"], |log| {
        let asked = log.sign_next();
        let outcome = log.outcome(&asked, OutcomeState::Expired);
        log.append(&Entry::Outcome(outcome));
    }),
    ("an outcome about another statement", &["outcome-mismatch"], |log| {
        let asked = log.ask_next();
        let mut outcome = log.outcome(&asked, OutcomeState::Refused);
        outcome.statement = sha256(b"another");
        log.append(&Entry::Outcome(outcome));
    }),
    ("a refusal that names a key", &["outcome-mismatch"], |log| {
        let asked = log.ask_next();
        let mut outcome = log.outcome(&asked, OutcomeState::Signed);
        outcome.state = OutcomeState::Refused;
        log.append(&Entry::Outcome(outcome));
    }),
    ("a signature by nobody", &["outcome-mismatch"], |log| {
        let asked = log.ask_next();
        let mut outcome = log.outcome(&asked, OutcomeState::Signed);
        outcome.signed_by.clear();
        log.append(&Entry::Outcome(outcome));
    }),
    ("a signature by too few of an organisation", &["quorum-missing"], |log| {
        end_signed_by(log, &["supervisor/supervisor-1", "vendor/vendor-1"]);
    }),
    ("a signature by a node twice", &["quorum-missing"], |log| {
        end_signed_by(log, &["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-1"]);
    }),
    ("a signature without an organisation", &["quorum-missing"], |log| {
        end_signed_by(log, &["vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"]);
    }),
    ("a signature by a node that the roster does not have", &["quorum-missing"], |log| {
        end_signed_by(
            log,
            &["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-4"],
        );
    }),
    ("a signature by more than a quorum", &[], |log| {
        end_signed_by(
            log,
            &["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"],
        );
    }),
    ("a signature under a roster that is not there", &["document-missing"], |log| {
        let key = GroupKey::new("ninth", 9);
        let entry = log.key_entry(&key);
        log.append(&Entry::Key(entry));
        log.key = key;
        end_signed_by(log, &["vendor/vendor-1"]);
    }),
    (
        "a signature under a roster that was announced again, without its document",
        &["key-reused", "document-missing", "quorum-missing"],
        |log| {
            let mut entry = log.key_entry(&log.key);
            entry.document = sha256(b"not there");
            log.append(&Entry::Key(entry));
            end_signed_by(log, &["vendor/vendor-1"]);
        },
    ),
    ("a request that never ended", &["request-without-outcome"], |log| drop(log.ask_next())),
    ("a request that may still end", &[], |log| {
        let (release, mut terms) = (log.release(), log.terms());
        terms.deadline = *FUTURE;
        log.ask(release, &terms);
    }),
    ("a leaf that no outcome announced", &["dsse-without-outcome"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Refused);
        log.append(&Entry::Outcome(outcome));
        let dsse = log.dsse(&asked, &log.key);
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf twice", &["dsse-without-outcome"], |log| {
        let asked = log.sign_next();
        let dsse = log.dsse(&asked, &log.key);
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf whose signature does not verify", &["dsse-mismatch"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let signature = log.key.sign(b"another");
        let dsse =
            rutli_log::entry::Dsse::new(b"", &asked.release.statement(), &log.key.public(), &signature);
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf by another key of the deployment", &["dsse-mismatch"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let dsse = log.dsse(&asked, &log.other);
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf of another version", &["dsse-mismatch"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let mut dsse = log.dsse(&asked, &log.key);
        dsse.api_version = "0.0.2".into();
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf without a signature", &["dsse-mismatch"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let mut dsse = log.dsse(&asked, &log.key);
        dsse.spec.signatures.clear();
        log.append(&Entry::Dsse(dsse));
    }),
    ("a leaf by an unknown key", &["key-unknown"], |log| {
        let asked = log.ask_next();
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let dsse = log.dsse(&asked, &GroupKey::new("third", 3));
        log.append(&Entry::Dsse(dsse));
    }),
    ("an outcome under an unknown roster", &["key-unknown"], |log| {
        let asked = log.ask_next();
        let mut outcome = log.outcome(&asked, OutcomeState::Signed);
        outcome.roster = Some(sha256(b"another"));
        log.append(&Entry::Outcome(outcome));
    }),
    ("an outcome with a known roster of another key", &["key-unknown"], |log| {
        let asked = log.ask_next();
        let mut outcome = log.outcome(&asked, OutcomeState::Signed);
        outcome.key = Some("second".into());
        log.append(&Entry::Outcome(outcome));
    }),
    ("a sequence that stands still", &["sequence-backwards"], |log| {
        let asked = log.sign_next();
        let sequence = asked.plain.sequence.get();
        let (release, mut terms) = (log.release_with(sequence, "1.99999999"), log.terms());
        terms.deadline = *FUTURE;
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("a version that is signed twice", &["version-repeated"], |log| {
        let version = log.sign_next().plain.version.to_string();
        let sequence = log.release().sequence().get();
        let (release, mut terms) = (log.release_with(sequence, &version), log.terms());
        terms.deadline = *FUTURE;
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("a version that goes down", &["version-backwards"], |log| {
        log.sign_next();
        let sequence = log.release().sequence().get();
        let (release, mut terms) = (log.release_with(sequence, "1.0.9"), log.terms());
        terms.deadline = *FUTURE;
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("a request under an unknown roster", &["roster-unknown"], |log| {
        let (release, mut terms) = (log.release(), log.terms());
        terms.roster = sha256(b"another");
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("a new key", &[], |log| {
        log.announce(&GroupKey::new("third", 3));
    }),
    ("a key whose roster is not there", &["document-missing"], |log| {
        let entry = log.key_entry(&GroupKey::new("fourth", 4));
        log.append(&Entry::Key(entry));
    }),
    ("a key whose roster is another file", &["document-forged"], |log| {
        let key = GroupKey::new("fifth", 5);
        let entry = log.key_entry(&key);
        log.document_as(&entry.document, b"another");
        log.append(&Entry::Key(entry));
    }),
    ("a key whose roster a node has not signed", &["roster-invalid"], |log| {
        let key = GroupKey::new("sixth", 6);
        let text = String::from_utf8(key.signed.encode()).unwrap();
        let at = text.rfind("\"signature\":\"").unwrap() + 13;
        let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
        let forged = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        let mut entry = log.key_entry(&key);
        entry.document = log.document(forged.as_bytes());
        log.append(&Entry::Key(entry));
    }),
    ("a key that says another transcript than its roster", &["roster-mismatch"], |log| {
        let key = GroupKey::new("seventh", 7);
        log.document(&key.signed.encode());
        let mut entry = log.key_entry(&key);
        entry.transcript = sha256(b"another");
        log.append(&Entry::Key(entry));
    }),
    ("a key that says another public key than its roster", &["roster-mismatch"], |log| {
        let key = GroupKey::new("eighth", 8);
        log.document(&key.signed.encode());
        let mut entry = log.key_entry(&key);
        entry.public_key = Hash(*log.key.roster().group_key());
        log.append(&Entry::Key(entry));
    }),
    ("a known key's name from another ceremony", &["key-reused"], |log| {
        log.announce(&GroupKey::new("release", 20));
    }),
    ("a refresh", &[], |log| {
        let refreshed = log.key.with_roster(|roster| roster["epoch"] = 2.into());
        log.announce(&refreshed);
    }),
    ("a refresh that leaves out an epoch", &["key-reused"], |log| {
        let refreshed = log.key.with_roster(|roster| roster["epoch"] = 3.into());
        log.announce(&refreshed);
    }),
    ("a refresh that changes the key", &["key-changed"], |log| {
        let other = GroupKey::new("release", 20).with_roster(|roster| roster["epoch"] = 2.into());
        log.announce(&other);
    }),
    ("a statement that is not there", &["document-missing"], |log| {
        let asked = log.sign_next();
        log.forget_document(&asked.plain.statement);
    }),
    ("a statement that is another file", &["document-forged"], |log| {
        let (release, terms) = (log.release_with(1_000_001, "2.1"), log.terms());
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
        log.document_as(&asked.plain.statement, b"another");
    }),
    ("a request for another product than its statement", &["statement-mismatch"], |log| {
        let mut asked = log.ask_instead(1_000_002, |plain| plain.product = Product::new("other").unwrap());
        asked.index = log.size() - 1;
        log.end_signed(&asked);
    }),
    ("a request for another version than its statement", &["statement-mismatch"], |log| {
        let asked = log.ask_instead(1_000_003, |plain| plain.version = Version::new("2.2.2").unwrap());
        log.end_signed(&asked);
    }),
    ("a request to sign another thing than its statement", &["statement-mismatch"], |log| {
        let asked = log.ask_instead(1_000_004, |plain| plain.signables.dsse = Some(sha256(b"another")));
        log.end_signed(&asked);
    }),
    ("an embargo, kept and disclosed", &[], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        log.sign_next();
        log.disclose(&asked, &terms);
        log.end_signed(&asked);
    }),
    ("an embargo, not yet disclosed", &[], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("an embargo without an end", &["embargo-overdue"], |log| {
        let (release, terms) = (log.release(), log.embargo(log.now()));
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
    }),
    ("a deadline that never comes", &["terms-excessive"], |log| {
        let (release, mut terms) = (log.release(), log.terms());
        terms.deadline = (1 << 53) - 1;
        log.ask(release, &terms);
    }),
    ("an embargo for ever", &["terms-excessive", "terms-excessive"], |log| {
        let (release, mut terms) = (log.release(), log.embargo((1 << 53) - 1));
        terms.deadline = (1 << 53) - 1;
        log.ask(release, &terms);
    }),
    ("an embargo whose leaf does not verify once it is disclosed", &["dsse-mismatch"], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        let outcome = log.outcome(&asked, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let signature = log.key.sign(b"another");
        let dsse =
            rutli_log::entry::Dsse::new(b"", &asked.release.statement(), &log.key.public(), &signature);
        log.append(&Entry::Dsse(dsse));
        log.disclose(&asked, &terms);
    }),
    ("an embargoed request that never ended", &["request-without-outcome"], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        log.ask(release, &terms);
    }),
    ("a disclosure of what was no secret", &["disclosure-without-request"], |log| {
        let terms = log.embargo(*FUTURE);
        let asked = log.sign_next();
        log.disclose(&asked, &terms);
    }),
    ("a disclosure with another salt", &["disclosure-mismatch"], |log| {
        let (release, mut terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        log.end_signed(&asked);
        terms.embargo.as_mut().unwrap().salt = sha256(b"another");
        log.disclose(&asked, &terms);
    }),
    ("an embargo whose outcome was about another statement", &["disclosure-mismatch"], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        let mut outcome = log.outcome(&asked, OutcomeState::Expired);
        outcome.statement = sha256(b"another");
        log.append(&Entry::Outcome(outcome));
        log.disclose(&asked, &terms);
    }),
    ("an outcome about another statement than was disclosed", &["outcome-mismatch"], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        log.disclose(&asked, &terms);
        let mut outcome = log.outcome(&asked, OutcomeState::Expired);
        outcome.statement = sha256(b"another");
        log.append(&Entry::Outcome(outcome));
    }),
    ("a sequence that an embargo hid", &["sequence-backwards"], |log| {
        let sequence = log.sign_next().plain.sequence.get();
        let (release, terms) = (log.release_with(sequence + 1, "1.99999998"), log.embargo(*FUTURE));
        let hidden = log.ask(release, &terms);
        log.end_signed(&hidden);
        let (release, plain) = (log.release_with(sequence + 1, "1.99999999"), log.terms());
        let asked = log.ask(release, &plain);
        log.end_signed(&asked);
        log.disclose(&hidden, &terms);
    }),
    ("a reason that tells what an embargo hides", &["embargo-leak"], |log| {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let asked = log.ask(release, &terms);
        let mut outcome = log.outcome(&asked, OutcomeState::Refused);
        let node = "vendor/vendor-1".to_owned();
        outcome.refusals.push(Refusal { code: "policy".into(), node, reason: "suite is not allowed".into() });
        log.append(&Entry::Outcome(outcome));
    }),
    ("an entry of an unknown kind", &["entry-malformed"], |log| {
        log.append_bytes(br#"{"kind":"advert"}"#.to_vec());
    }),
    ("an entry with a space", &["entry-malformed"], |log| {
        let asked = log.sign_next();
        let entry = String::from_utf8(Entry::Request(asked.plain).encode()).unwrap();
        log.append_bytes(entry.replacen("{\"", "{ \"", 1).into_bytes());
    }),
    ("a culprit", &["node-culprit"], |log| {
        let entry = log.node(NodeEvent::Culprit);
        log.append(&entry);
    }),
    ("a culprit put back", &["node-reinstated"], |log| {
        let entry = log.node(NodeEvent::Reinstated);
        log.append(&entry);
    }),
];

/// A release that these nodes signed, by its outcome's account.
fn end_signed_by(log: &mut Log, nodes: &[&str]) {
    let asked = log.ask_next();
    let mut outcome = log.outcome(&asked, OutcomeState::Signed);
    outcome.signed_by = nodes.iter().map(|node| (*node).to_owned()).collect();
    log.append(&Entry::Outcome(outcome));
    let dsse = log.dsse(&asked, &log.key);
    log.append(&Entry::Dsse(dsse));
}
