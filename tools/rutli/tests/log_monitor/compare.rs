//! Heads of other sources, and the head for Sigstore's tools.

use std::fs;

use rutli_log::{Frontier, Head, Tiles, entry::NodeEvent, leaf_hash, sha256, sigstore::SigstoreSigner};

use crate::{
    folder::{Log, copy, impostor, replace},
    place::{Place, Round, TRUSTED_ROOT},
};

#[test]
fn heads_of_other_sources_are_compared() {
    let place = Place::new(700);
    let honest = &place.log;
    let publish = |name: &str, log: &Log| {
        copy(&place.path("honest"), &place.path(name));
        log.publish(&place.path(name), 512);
    };
    let mut ahead = honest.clone();
    ahead.sign_next();
    publish("ahead", &ahead);
    let mut forked = Tiles::default();
    (0..700_u64).for_each(|number| forked.push(leaf_hash(&number.to_be_bytes())));
    let note = |name: &str, tiles: &Tiles, size| {
        let head = Frontier::of(tiles, size).unwrap().head();
        fs::write(place.path(name), Log::signer().sign(head).to_note()).unwrap();
    };
    note("same", &honest.tiles, 700);
    note("older", &honest.tiles, 411);
    note("fork", &forked, 700);
    note("older-fork", &forked, 411);
    note("newer", &ahead.tiles, ahead.size());
    forked.push(leaf_hash(b"more"));
    note("newer-fork", &forked, 701);
    fs::write(place.path("stranger"), impostor().sign(honest.head()).to_note()).unwrap();

    let compare = |state: &str, other: &str| place.monitor("honest", state, &["--compare", other]);
    for other in ["honest", "ahead", "same", "older", "newer"] {
        compare("state", other).assert(other, &[]);
    }
    compare("state", "fork").assert("fork", &["head-forked"]);
    compare("state", "older-fork").assert("older fork", &["head-inconsistent"]);
    compare("state", "stranger").assert("stranger", &["checkpoint-invalid"]);
    // Nothing can be said of a head ahead, until one is there oneself.
    compare("waits", "newer-fork").assert("newer fork", &[]);
    note("newer-fork", &ahead.tiles, ahead.size());
    ahead.publish(&place.path("honest"), 700);
    compare("waits", "newer-fork").assert("the fork is caught up with", &["head-inconsistent"]);

    let output =
        place.rutli("monitor", "honest", &["--once", "--state", "state", "--compare", "http://127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(3));
    let round = Round::of(output);
    assert!(round.json["findings"].as_array().unwrap().is_empty(), "{}", round.json);
}

/// A log that keeps one file back must not hide what other sources show of what was verified before.
#[test]
fn a_log_that_cannot_be_read_is_compared_all_the_same() {
    let place = Place::new(700);
    let compare =
        |other: &str| place.rutli("monitor", "honest", &["--once", "--state", "state", "--compare", other]);
    assert!(compare("honest").status.success());
    let mut forked = Tiles::default();
    (0..700_u64).for_each(|number| forked.push(leaf_hash(&number.to_be_bytes())));
    let fork = Frontier::of(&forked, 700).unwrap().head();
    fs::write(place.path("fork"), Log::signer().sign(fork).to_note()).unwrap();
    let mut ahead = place.log.clone();
    ahead.sign_next();
    ahead.publish(&place.path("honest"), 700);
    let kept_back = place.path("honest").join(format!("tile/entries/002.p/{}", ahead.size() % 256));
    fs::remove_file(&kept_back).unwrap();
    // It is there, and cannot be opened.
    std::os::unix::fs::symlink(&kept_back, &kept_back).unwrap();

    let output = compare("honest");
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(Round::of(output).json["size"], 700, "what could not be read is not verified");
    let output = compare("fork");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("002.p"), "what could not be read is said as well: {said}");
    Round::of(output).assert("the fork is seen", &["head-forked"]);
}

/// What is no checkpoint at all says nothing about the log: a wrong file, or a login page in a mirror's place.
#[test]
fn what_is_no_checkpoint_is_not_compared() {
    let place = Place::new(300);
    let page = |length| format!("\n<!DOCTYPE html><html>{}</html>", "x".repeat(length)).into_bytes();
    let unsigned = place.log.checkpoint().to_note();
    let unsigned = unsigned.split_once("\n\n").unwrap().0.as_bytes().to_vec();
    for (number, (bytes, what)) in [
        (b"host-1\n".to_vec(), "other text"),
        (Vec::new(), "empty"),
        (vec![0xff; 100], "no text, or too long"),
        (page(10), "a web page"),
        (page(1 << 20), "no text, or too long"),
        (unsigned, "other text"),
    ]
    .into_iter()
    .enumerate()
    {
        let (file, mirror) = (format!("file-{number}"), format!("mirror-{number}"));
        fs::write(place.path(&file), &bytes).unwrap();
        copy(&place.path("honest"), &place.path(&mirror));
        replace(&place.path(&mirror), "checkpoint", &bytes);
        for other in [&file, &mirror] {
            for _ in 0..2 {
                let output =
                    place.rutli("monitor", "honest", &["--once", "--state", "state", "--compare", other]);
                let round = Round::of(output);
                assert_eq!((round.exit, round.codes()), (3, Vec::new()), "{other}: {}", round.json);
                let error = &round.json["error"];
                let problem = error["problem"].as_str().unwrap();
                assert!(problem.starts_with(&format!("cannot compare with {other}: ")), "{problem}");
                assert!(problem.contains(what) && error["help"].is_string(), "{error}");
            }
        }
    }
    // Nothing of it is kept.
    fs::write(place.path("file-0"), place.log.checkpoint().to_note()).unwrap();
    place.monitor("honest", "state", &["--compare", "file-0"]).assert("a checkpoint in its place", &[]);
    // The log itself is not excused.
    replace(&place.path("honest"), "checkpoint", &page(10));
    place.monitor("honest", "state", &[]).assert("a web page", &["checkpoint-invalid"]);
}

#[test]
fn the_head_for_sigstores_tools_is_compared() {
    let mut place = Place::new(1_000);
    let monitor = |place: &Place, grace: &str, codes: &[&str], size: Option<u64>, what: &str| {
        let round = place.monitor("honest", "state", &[&TRUSTED_ROOT[..], &["--grace", grace]].concat());
        round.assert(what, codes);
        assert_eq!(round.json["sigstore_size"].as_u64(), size, "{what}");
    };
    monitor(&place, "10m", &[], Some(1_000), "the same head");
    let folder = place.path("honest");
    let publish = |note: &[u8]| replace(&folder, "checkpoint-sigstore", note);
    let signed = |head: Head| Log::sigstore_signer().sign_head(head).unwrap().note().as_bytes().to_vec();
    let head = |log: &Log, size| Frontier::of(&log.tiles, size).unwrap().head();
    for size in [1, 256, 700, 999] {
        publish(&signed(head(&place.log, size)));
        monitor(&place, "10m", &[], Some(size), "an older head");
    }
    let own = head(&place.log, 1_000);
    let foreign = SigstoreSigner::from_bytes("https://log.example.com".parse().unwrap(), &[8; 32]).unwrap();
    for (what, note) in [
        ("another root", signed(Head { root: sha256(b"another"), ..own })),
        ("an older head with another root", signed(Head { root: sha256(b"another"), size: 700 })),
        ("another size", signed(Head { size: 999, ..own })),
        ("a foreign key", foreign.sign_head(own).unwrap().note().as_bytes().to_vec()),
        ("the native head", place.log.checkpoint().to_note().into_bytes()),
        ("no text", vec![0xff; 100]),
        ("too long a text", vec![b'a'; 1 << 20]),
    ] {
        publish(&note);
        for _ in 0..2 {
            monitor(&place, "10m", &["sigstore-head-differs"], None, what);
        }
        place.monitor("honest", "state", &[]).assert("not asked for", &[]);
    }
    fs::remove_file(folder.join("checkpoint-sigstore")).unwrap();
    monitor(&place, "10m", &[], None, "no head");

    // One ahead waits for the checkpoint, but not for ever.
    let mut grown = place.log.clone();
    grown.sign_next();
    publish(&signed(grown.head()));
    monitor(&place, "0s", &[], None, "ahead");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    monitor(&place, "0s", &["sigstore-head-differs"], None, "ahead for long");
    monitor(&place, "10m", &[], None, "ahead for a short time");
    grown.publish(&folder, 1_000);
    monitor(&place, "0s", &[], Some(grown.size()), "caught up");
    // Nor can it be taken back.
    place.log = grown;
    let mut forged = place.log.clone();
    forged.append(&forged.node(NodeEvent::Culprit));
    publish(&signed(forged.head()));
    monitor(&place, "10m", &[], None, "ahead, and forged");
    publish(&signed(place.log.head()));
    monitor(&place, "10m", &[], Some(place.log.size()), "taken back, but not forgotten");
    place.log.sign_next();
    place.log.publish(&folder, 1_000);
    let size = Some(place.log.size());
    monitor(&place, "10m", &["sigstore-head-differs"], size, "the forged head is caught up with");
    monitor(&place, "10m", &[], size, "and said once");

    let more = ["--once", "--state", "state", "--trusted-root", "log.vkey"];
    assert_eq!(place.rutli("monitor", "honest", &more).status.code(), Some(2));
}
