//! `rutli log show`, `prove` and `export`.

use std::{collections::BTreeMap, fs};

use rutli_log::{
    Entry, EntryBundle, Hash, check_inclusion,
    entry::{OutcomeState, Refusal},
    leaf_hash, sha256,
};
use rutli_release::Timestamp;
use serde_json::Value;

use crate::{
    folder::{FUTURE, Log, START, replace, time_digits},
    place::Place,
};

#[test]
fn releases_are_shown_proved_and_exported() {
    let place = Place::new(700);
    let run = |command: &str, more: &[&str]| {
        let output = place.rutli(command, "honest", more);
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let (exit, shown) = run("show", &["--limit", "1000"]);
    assert_eq!(exit, 0);
    let releases = shown["releases"].as_array().unwrap();
    let mut states = BTreeMap::new();
    for release in releases {
        *states.entry(release["state"].as_str().unwrap()).or_insert(0) += 1;
    }
    assert!(["signed", "refused", "expired"].iter().all(|state| states.contains_key(state)), "{states:?}");
    assert!(releases.windows(2).all(|pair| pair[0]["index"].as_u64() > pair[1]["index"].as_u64()));
    let (_, refused) = run("show", &["--state", "refused", "--product", "suite", "--limit", "1000"]);
    assert_eq!(refused["releases"].as_array().unwrap().len(), states["refused"]);
    let (_, none) = run("show", &["--product", "other"]);
    assert!(none["releases"].as_array().unwrap().is_empty());
    let (_, early) = run("show", &["--until", &Timestamp(*START + 100).rfc3339(), "--limit", "1000"]);
    assert!(early["releases"].as_array().unwrap().iter().all(|it| it["time"].as_u64() < Some(*START + 100)));

    let signed = releases.iter().find(|release| release["state"] == "signed").unwrap();
    let index = signed["index"].to_string();
    let (_, entry) = run("show", &[&index]);
    assert_eq!(entry["leaf"].as_str().unwrap().len(), 64);
    assert!(entry["document"].as_str().unwrap().contains("https://in-toto.io/Statement/v1"));
    assert_eq!(run("show", &["700"]).0, 2);

    let (exit, proof) = run("prove", &[&index, "--out", "proof"]);
    assert_eq!(exit, 0);
    let text = fs::read_to_string(place.path("proof")).unwrap();
    assert_eq!(proof["proof"], text);
    let (hashes, note) = text.split_once("\n\n").unwrap();
    let mut lines = hashes.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    assert_eq!(lines.next(), Some(format!("index {index}").as_str()));
    let path: Vec<Hash> = lines.map(|line| Hash::from_base64(line).unwrap()).collect();
    let head = Log::signer().public().open(note).unwrap().head();
    let leaf: Hash = proof["leaf"].as_str().unwrap().parse().unwrap();
    check_inclusion(&head, index.parse().unwrap(), leaf, &path).unwrap();

    let (exit, all) = run("export", &["--out", "all.jsonl"]);
    assert_eq!((exit, all["entries"].as_u64()), (0, Some(700)));
    for (index, line) in fs::read_to_string(place.path("all.jsonl")).unwrap().lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["index"], index);
        let bytes = serde_json::to_vec(&line["entry"]).unwrap();
        assert_eq!(line["leaf"], leaf_hash(&bytes).to_string());
    }
    let (_, some) = run("export", &["--out", "some.jsonl", "--state", "signed"]);
    let of_them = 3 * states["signed"] as u64 + exported(&place, "disclosure") + exported(&place, "evidence");
    assert_eq!(some["entries"].as_u64(), Some(of_them));
    assert!(exported(&place, "evidence") > 0);

    // A log that does not hold is neither shown, nor proved, nor exported.
    let bundle = place.path("honest/tile/entries/001");
    let mut bytes = fs::read(&bundle).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == time_digits().0).unwrap();
    bytes[at..at + 5].copy_from_slice(&time_digits().1);
    fs::write(&bundle, bytes).unwrap();
    assert_eq!(run("show", &[]).0, 1);
    assert_eq!(run("export", &["--out", "forged.jsonl"]).0, 1);
    assert!(!place.path("forged.jsonl").exists());
    let forged = fs::read(&bundle).unwrap();
    let entries = EntryBundle::parse(&forged, 256).unwrap();
    let changed =
        entries.iter().position(|entry| entry.windows(5).any(|bytes| bytes == time_digits().1)).unwrap();
    assert_eq!(run("prove", &[&(256 + changed).to_string()]).0, 1);
    // Nor is one that its witnesses have not cosigned.
    replace(&place.path("honest"), "checkpoint", Log::signer().sign(place.log.head()).to_note().as_bytes());
    assert_eq!(run("prove", &["3"]).0, 1);
    assert_eq!(run("prove", &["3", "--key", "log.vkey"]).0, 0);
}

/// What one asks the log after a release: what it is called, which entry proves its signature, and why it was refused.
#[test]
fn a_release_is_shown_with_its_name_its_signature_and_its_refusals() {
    let mut place = Place::new(300);
    let first = place.log.size();
    // Two at a time, with outcomes in the other order; one without a DSSE; and one under embargo.
    let (one, two) = (place.log.ask_next(), place.log.ask_next());
    place.log.end_signed(&two);
    place.log.end_signed(&one);
    let alone = place.log.ask_next();
    let signed = place.log.outcome(&alone, OutcomeState::Signed);
    place.log.append(&Entry::Outcome(signed));
    let (release, terms) = (place.log.release(), place.log.embargo(*FUTURE));
    let hidden = place.log.ask(release, &terms);
    place.log.end_signed(&hidden);
    let refused = place.log.ask_next();
    let mut outcome = place.log.outcome(&refused, OutcomeState::Refused);
    let words = "the release is not for this day of the week ".repeat(6);
    for (node, reason) in
        [("vendor/vendor-1", words.trim()), ("vendor/vendor-2", ""), ("vendor/vendor-3", "\u{1b}[2J")]
    {
        let (code, node, reason) = ("not-allowed".to_owned(), node.to_owned(), reason.to_owned());
        outcome.refusals.push(Refusal { code, node, reason });
    }
    place.log.append(&Entry::Outcome(outcome));
    place.log.publish(&place.path("honest"), 256);

    let shown: Value = serde_json::from_slice(&place.rutli("show", "honest", &[]).stdout).unwrap();
    let of =
        |index: u64| shown["releases"].as_array().unwrap().iter().find(|it| it["index"] == index).unwrap();
    for (asked, outcome, dsse) in [
        (&one, first + 4, Some(first + 5)),
        (&two, first + 2, Some(first + 3)),
        (&alone, first + 7, None),
        (&hidden, first + 9, Some(first + 10)),
        (&refused, first + 12, None),
    ] {
        let release = of(asked.index);
        assert_eq!(
            (release["outcome"].as_u64(), release["dsse"].as_u64()),
            (Some(outcome), dsse),
            "{release}"
        );
    }
    assert_eq!(of(one.index)["release"], format!("suite-{first}"));
    assert!(of(hidden.index)["release"].is_null());
    assert_eq!(of(one.index)["refusals"], serde_json::json!([]));
    assert_eq!(
        of(refused.index)["refusals"],
        serde_json::json!([
            { "node": "vendor/vendor-1", "code": "not-allowed", "reason": words.trim() },
            { "node": "vendor/vendor-2", "code": "not-allowed", "reason": "" },
            { "node": "vendor/vendor-3", "code": "not-allowed", "reason": "\u{1b}[2J" },
        ])
    );

    let text = String::from_utf8(place.show().stdout).unwrap();
    let wide: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert!(wide.is_empty(), "{wide:#?}");
    assert!(!text.contains('\u{1b}'));
    for words in [
        format!("{:<7}{}  signed   suite-{first}\n", one.index, Timestamp(*START + first).rfc3339()),
        format!("signature in entry {}: key release, by supervisor/", first + 5),
        format!("outcome in entry {}: key release", first + 7),
        "\n       vendor/vendor-1 refused, not-allowed: the release is not for".to_owned(),
        "\n       vendor/vendor-2 refused, not-allowed\n".to_owned(),
    ] {
        assert!(text.contains(&words), "{words:?} is not in\n{text}");
    }
}

/// Lines of a kind in what was exported.
fn exported(place: &Place, kind: &str) -> u64 {
    let lines = fs::read_to_string(place.path("all.jsonl")).unwrap();
    let kind = format!("\"kind\":\"{kind}\"");
    lines.lines().filter(|line| line.contains(&kind)).count() as u64
}

/// What there is of evidence for a release, by digest; what it is worth is not the log's to say.
#[test]
fn a_release_is_shown_with_its_evidence() {
    let mut place = Place::new(300);
    let (release, mut terms) = (place.log.release(), place.log.terms());
    let with_it: Vec<Hash> = (0..6_u8).map(|number| sha256(&[number])).collect();
    terms.evidence.clone_from(&with_it);
    let asked = place.log.ask(release, &terms);
    let (release, mut terms) = (place.log.release(), place.log.embargo(*FUTURE));
    terms.evidence = vec![sha256(b"hidden")];
    let hidden = place.log.ask(release, &terms);
    let entry = place.log.add_evidence(asked.index, "custodian:clara", &[b"approval"]);
    let other = place.log.add_evidence(hidden.index, "operator:olaf", &[b"one", b"two"]);
    place.log.end_signed(&asked);
    place.log.publish(&place.path("honest"), 256);

    let shown: Value = serde_json::from_slice(&place.rutli("show", "honest", &[]).stdout).unwrap();
    let of =
        |index: u64| shown["releases"].as_array().unwrap().iter().find(|it| it["index"] == index).unwrap();
    let piece = |digest: Hash, entry: u64, by: Value| serde_json::json!({ "digest": digest.to_string(), "entry": entry, "by": by });
    let mut all: Vec<Value> = with_it.iter().map(|digest| piece(*digest, asked.index, Value::Null)).collect();
    all.push(piece(sha256(b"approval"), entry, "custodian:clara".into()));
    assert_eq!(of(asked.index)["evidence"], Value::from(all));
    let later = [b"one", b"two"].map(|document| piece(sha256(document), other, "operator:olaf".into()));
    assert_eq!(of(hidden.index)["evidence"], Value::from(later.to_vec()), "what came with it is hidden");

    let text = String::from_utf8(place.show().stdout).unwrap();
    let first = |digest: &Hash| digest.to_string()[..8].to_owned();
    let named: Vec<String> = with_it.iter().take(4).map(first).collect();
    for words in [
        format!("with it came evidence: 6 ({}, …)\n", named.join(", ")),
        format!("custodian:clara added evidence in entry {entry}: 1 ({})\n", first(&sha256(b"approval"))),
    ] {
        assert!(text.contains(&words), "{words:?} is not in\n{text}");
    }
    // It goes with the release that it is for: of those that are open, one has some.
    place.rutli("export", "honest", &["--out", "all.jsonl", "--state", "open"]);
    assert_eq!(exported(&place, "evidence"), 1);
}
