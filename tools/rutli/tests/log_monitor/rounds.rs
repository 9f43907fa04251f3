//! What a round of the monitor finds.

use std::{fs, path::Path, process::Command};

use rutli_log::{
    Entry, EntryBundle, Frontier, Head, TileId, Tiles,
    entry::{Dsse, NodeEvent, Outcome, OutcomeState, Refusal, kinds},
    leaf_hash, sha256,
};
use rutli_release::{PAYLOAD_TYPE, pae};
use serde_json::Value;

use crate::{
    faults::FAULTS,
    folder::{FUTURE, Log, START, copy, impostor, replace, time_digits, unix_now},
    place::{Place, Round, TRUSTED_ROOT},
};

/// Size of the honest log. Not at the end of a tile.
const HONEST: u64 = 100_007;

#[test]
fn an_honest_log_has_nothing_wrong_and_each_fault_has_its_code() {
    let mut place = Place::new(HONEST);
    let round = place.monitor("honest", "state", &[&["--metrics", "metrics"], &TRUSTED_ROOT[..]].concat());
    round.assert("the honest log", &[]);
    assert_eq!(round.json["sigstore_size"].as_u64(), Some(HONEST));
    assert_eq!(
        (round.json["size"].as_u64(), round.json["new_entries"].as_u64()),
        (Some(HONEST), Some(HONEST))
    );
    assert_eq!(round.json["cosigned_by"].as_array().unwrap().len(), 3);
    let metrics = fs::read_to_string(place.path("metrics")).unwrap();
    assert!(
        metrics.contains(&format!("rutli_log_size{{log=\"log.example.com/2026\"}} {HONEST}\n")),
        "{metrics}"
    );
    assert!(!metrics.lines().any(|line| line.contains("findings_total{") && !line.ends_with(" 0")));

    forged_tiles(&place);
    place.log.keep_edge();
    let base = place.log.clone();
    for (number, (what, codes, plant)) in FAULTS.iter().enumerate() {
        let mut log = base.clone();
        plant(&mut log);
        // A change of heart of the author ends in a log that goes on honestly.
        log.sign_last();
        let name = format!("fault-{number}");
        copy(&place.path("honest/tile/0"), &place.path(&name).join("tile/0"));
        log.publish(&place.path(&name), HONEST);
        fs::copy(place.path("state"), place.path("copy-of-state")).unwrap();
        let metrics = ["--metrics", "metrics"];
        let round = place.monitor(&name, "copy-of-state", &metrics);
        let mut expected = codes.to_vec();
        expected.dedup();
        round.assert(what, &expected);
        assert_eq!(round.findings().len(), codes.len(), "{what}: {:#}", round.json);
        let metrics = fs::read_to_string(place.path("metrics")).unwrap();
        for code in expected {
            let line = metrics.lines().find(|line| line.contains(&format!("code=\"{code}\""))).unwrap();
            let times = codes.iter().filter(|found| **found == code).count();
            assert!(line.ends_with(&format!(" {times}")), "{line}");
        }
        // What lies in entries is said once.
        place.monitor(&name, "copy-of-state", &[]).assert(what, &[]);
        fs::remove_dir_all(place.path(&name)).unwrap();
    }
}

/// A tile of a large tree that is consistent with its parent: the tiles above it are forged to fit, and only the entries
/// tell.
fn forged_tiles(place: &Place) {
    copy(&place.path("honest"), &place.path("forged"));
    let folder = &place.path("forged");
    let tile = TileId { level: Some(0), index: 7, width: 256 };
    let mut leaves = tile.hashes(&fs::read(folder.join(tile.path())).unwrap()).unwrap();
    leaves[100] = leaf_hash(b"what somebody wants to prove");
    let root = rutli_log::TileHashes::new(leaves.clone()).root().unwrap();
    replace(folder, &tile.path(), &leaves.iter().flat_map(|hash| hash.0).collect::<Vec<_>>());
    let above = TileId { level: Some(1), index: 0, width: 256 };
    let mut bytes = fs::read(folder.join(above.path())).unwrap();
    bytes[7 * 32..8 * 32].copy_from_slice(&root.0);
    replace(folder, &above.path(), &bytes);
    let parent = rutli_log::TileHashes::new(above.hashes(&bytes).unwrap()).root().unwrap();
    let top = TileId::in_tree(Some(2), 0, HONEST).unwrap();
    replace(folder, &top.path(), &parent.0);
    let round = place.monitor("forged", "forged-state", &["--documents", "none"]);
    round.assert("tiles that fit each other", &["tile-forged"]);
    assert_eq!(round.findings().len(), 3, "{:#}", round.json);
}

#[test]
fn what_cannot_be_read_or_is_not_the_log_is_found() {
    let place = Place::new(1_000);
    place.monitor("honest", "state", &[]).assert("the honest log", &[]);
    type Change = fn(&Path, &Log);
    let id = |level, index| TileId::in_tree(level, index, 1_000).unwrap().path();
    let whole: &[(&str, &[&str], Change)] = &[
        ("a tile that is gone", &["tile-missing"], |folder, _| {
            fs::remove_file(folder.join("tile/0/001")).unwrap();
        }),
        ("a tile that is cut", &["tile-forged"], |folder, _| replace(folder, "tile/0/002", &[1; 100])),
        ("a partial tile", &["tile-forged"], |folder, _| replace(folder, "tile/1/000.p/3", &[1; 96])),
        ("a bundle that is gone", &["bundle-missing"], |folder, _| {
            fs::remove_file(folder.join("tile/entries/001")).unwrap();
        }),
        ("a bundle that is cut", &["bundle-damaged"], |folder, _| replace(folder, "tile/entries/002", b"\0")),
        ("an exchanged entry", &["entry-forged"], |folder, _| {
            let bytes = fs::read(folder.join("tile/entries/001")).unwrap();
            let entries = EntryBundle::parse(&bytes, 256).unwrap();
            let mut forged = EntryBundle::default();
            // Another one of the same log.
            entries.iter().enumerate().for_each(|(place, entry)| {
                assert!(forged.push(if place == 17 { entries[20] } else { entry }));
            });
            replace(folder, "tile/entries/001", &forged.into_bytes());
        }),
        ("a checkpoint of somebody else", &["checkpoint-invalid"], |folder, log| {
            replace(folder, "checkpoint", impostor().sign(log.head()).to_note().as_bytes());
        }),
        ("a checkpoint that is none", &["checkpoint-invalid"], |folder, _| {
            replace(folder, "checkpoint", b"hello")
        }),
        ("a cosignature that does not verify", &["cosignature-invalid"], |folder, log| {
            let note = log.checkpoint().to_note();
            let (rest, last) = note.trim_end().rsplit_once(' ').unwrap();
            let at = last.len() - 10;
            let other = if last.as_bytes()[at] == b'A' { 'B' } else { 'A' };
            let note = format!("{rest} {}{other}{}\n", &last[..at], &last[at + 1..]);
            replace(folder, "checkpoint", note.as_bytes());
        }),
        ("a head of other entries", &["head-inconsistent"], |folder, log| {
            let head = Head { root: sha256(b"another"), ..log.head() };
            replace(folder, "checkpoint", Log::signer().sign(head).to_note().as_bytes());
        }),
    ];
    let forked: &[(&str, &[&str], Change)] = &[
        ("a smaller head", &["head-backwards"], |folder, log| {
            let head = Frontier::of(&log.tiles, 999).unwrap().head();
            replace(folder, "checkpoint", Log::signer().sign(head).to_note().as_bytes());
        }),
        ("another head of the same size", &["head-forked"], |folder, log| {
            let head = Head { root: sha256(b"another"), ..log.head() };
            replace(folder, "checkpoint", Log::signer().sign(head).to_note().as_bytes());
        }),
        ("an old entry exchanged, in the same tree", &["entry-forged"], |folder, log| {
            let mut grown = log.clone();
            grown.sign_next();
            grown.publish(folder, 1_000);
            let bundle = TileId::in_tree(None, 3, grown.size()).unwrap();
            let mut bytes = fs::read(folder.join(bundle.path())).unwrap();
            let at = bytes.windows(5).position(|bytes| bytes == time_digits().0).unwrap();
            bytes[at..at + 5].copy_from_slice(&time_digits().1);
            replace(folder, &bundle.path(), &bytes);
        }),
        ("a history that was written anew", &["head-inconsistent"], |folder, log| {
            let mut other = Log::new(&folder.join("sha256"));
            while other.size() < log.size() + 10 {
                other.append(&log.node(NodeEvent::Culprit));
            }
            other.publish(folder, 0);
        }),
    ];
    let key = ["--key", "log.vkey", "--documents", "none"];
    for (number, (what, codes, change)) in whole.iter().chain(forked).enumerate() {
        let (name, state) = (format!("copy-{number}"), format!("state-{number}"));
        copy(&place.path("honest"), &place.path(&name));
        change(&place.path(&name), &place.log);
        let begins = number >= whole.len();
        if begins {
            fs::copy(place.path("state"), place.path(&state)).unwrap();
        }
        let more: &[&str] = if codes.contains(&"cosignature-invalid") { &[] } else { &key };
        let round = place.monitor(&name, &state, more);
        round.assert(what, codes);
        // What is wrong with the head stays so; and the head that was verified is kept.
        if codes.iter().any(|code| code.starts_with("head") || code.starts_with("checkpoint")) {
            assert_eq!(round.json["size"].as_u64().unwrap(), if begins { 1_000 } else { 0 }, "{what}");
            place.monitor(&name, &state, more).assert(what, codes);
        }
    }
    // A partial tile may go once the full one is there.
    let mut grown = place.log.clone();
    while grown.size() < 1_100 {
        grown.sign_next();
    }
    grown.publish(&place.path("honest"), 1_000);
    let head = place.log.checkpoint().to_note();
    replace(&place.path("honest"), "checkpoint", head.as_bytes());
    fs::remove_dir_all(place.path("honest").join(id(Some(0), 3)).parent().unwrap()).unwrap();
    fs::remove_dir_all(place.path("honest").join(id(None, 3)).parent().unwrap()).unwrap();
    place.monitor("honest", "another-state", &[]).assert("full tiles in place of partial ones", &[]);
}

#[test]
fn rounds_go_on_where_the_last_one_ended() {
    let place = Place::new(300);
    let mut log = place.log.clone();
    place.monitor("honest", "state", &[]).assert("first", &[]);
    for size in [301, 511, 512, 513, 700] {
        while log.size() < size {
            log.append(&log.node(NodeEvent::Reinstated));
        }
        log.publish(&place.path("honest"), 256);
        let round = place.monitor("honest", "state", &[]);
        round.assert("grown", &["node-reinstated"]);
        assert_eq!(round.json["size"].as_u64(), Some(size));
        assert_eq!(round.json["new_entries"].as_u64(), Some(round.findings().len() as u64));
    }
    let state = fs::read_to_string(place.path("state")).unwrap();
    fs::write(place.path("state"), state.replacen("700", "701", 1)).unwrap();
    let output = place.rutli("monitor", "honest", &["--once", "--state", "state"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("is damaged"));

    // Heads that lack the witnesses are an alarm once they lack them for longer than the grace time.
    let (head, uncosigned) = (log.checkpoint().to_note(), Log::signer().sign(log.head()).to_note());
    replace(&place.path("honest"), "checkpoint", uncosigned.as_bytes());
    let now = ["--grace", "0s"];
    place.monitor("honest", "second", &now);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    place.monitor("honest", "second", &now).assert("not cosigned for long", &["cosignatures-missing"]);
    place.monitor("honest", "second", &[]).assert("not cosigned for a short time", &[]);
    replace(&place.path("honest"), "checkpoint", head.as_bytes());
    place.monitor("honest", "second", &now).assert("cosigned again", &[]);
    replace(&place.path("honest"), "checkpoint", uncosigned.as_bytes());
    let round = place.monitor("honest", "second", &now);
    round.assert("not cosigned since now", &[]);
    assert_eq!(round.json["quorum"], false);
}

/// A finding that could not be shown, or not be counted, is found again or was shown.
#[test]
fn what_fails_beside_a_round_hides_nothing() {
    let mut place = Place::new(300);
    place.monitor("honest", "state", &[]).assert("first", &[]);
    place.log.append(&place.log.node(NodeEvent::Culprit));
    drop(place.log.ask_next());
    place.log.publish(&place.path("honest"), 256);
    let codes = ["node-culprit", "request-without-outcome"];
    let before = fs::read(place.path("state")).unwrap();
    let mut full = Command::new(env!("CARGO_BIN_EXE_rutli"));
    full.args(["log", "monitor", "--log", "honest", "--policy", "tlog-policy", "--once", "--state", "state"]);
    full.current_dir(place.folder.path()).stdout(fs::File::create("/dev/full").unwrap());
    assert_eq!(full.output().unwrap().status.code(), Some(1));
    assert_eq!(fs::read(place.path("state")).unwrap(), before, "what was not shown is not kept");
    let metrics = ["--once", "--state", "state", "--metrics", "none/metrics"];
    let output = place.rutli("monitor", "honest", &metrics);
    assert!(String::from_utf8_lossy(&output.stderr).contains("none/metrics"));
    Round::of(output).assert("without metrics", &codes);
    let output = place.rutli("monitor", "honest", &metrics);
    assert_eq!(output.status.code(), Some(2), "they were said once, and the file is still not there");
    // The first round of a log that is another one than was meant leaves nothing behind.
    let other = rutli_log::Origin::new("log.example.com/2025").unwrap();
    let other = rutli_log::LogSigner::from_bytes(other, &[7; 32]).public().to_string();
    fs::write(place.path("other.vkey"), other).unwrap();
    let output = place.rutli("monitor", "honest", &["--key", "other.vkey", "--once", "--state", "other"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!place.path("other").exists());
    let times = ["--since", "2026-01-02T00:00:00Z", "--until", "2026-01-01T00:00:00Z"];
    assert_eq!(place.rutli("show", "honest", &times).status.code(), Some(2));
}

#[test]
fn a_head_that_no_quorum_cosigned_of_late_is_an_alarm() {
    let place = Place::new(300);
    let now = unix_now();
    let publish = |times| {
        replace(&place.path("honest"), "checkpoint", place.log.checkpoint_at(times).to_note().as_bytes());
    };
    let stale: &[&str] = &["head-stale"];
    for (times, more, codes) in [
        ([now - 3_000, now - 60, now - 3_000], &[][..], &[][..]),
        // One of each organisation is young, but the quorum is not.
        ([now, now, now - 3_700], &[], stale),
        ([now - 3_700, now, now], &[], stale),
        ([now - 3_700; 3], &["--max-age", "2h"], &[]),
        ([now - 9_000; 3], &["--max-age", "2h"], stale),
        ([9; 3], &["--max-age", "0"], &[]),
        ([9; 3], &["--key", "log.vkey"], &[]),
        ([now, now, now + 300], &[], &[]),
        // A clock that is wrong makes no head young.
        ([now, now, now + 900], &[], &["cosignature-future", "head-stale"]),
        ([now, now, u64::MAX], &["--max-age", "0"], &["cosignature-future"]),
    ] {
        publish(times);
        let round = place.monitor("honest", "state", more);
        round.assert(&format!("{times:?} {more:?}"), codes);
        // So it is for as long as it is so.
        place.monitor("honest", "state", more).assert("again", codes);
    }
    publish([now - 3_700; 3]);
    let round = place.monitor("honest", "state", &[]);
    assert!(
        round.json["findings"][0]["text"].as_str().unwrap().contains("say --max-age 0"),
        "{}",
        round.json
    );
    // What lacks a quorum is told by another finding.
    let mut checkpoint = Log::signer().sign(place.log.head());
    place.log.key.cosign(0, now - 9_000, &mut checkpoint);
    replace(&place.path("honest"), "checkpoint", checkpoint.to_note().as_bytes());
    place.monitor("honest", "state", &[]).assert("no quorum", &[]);
}

#[test]
fn a_signature_under_embargo_is_verified_when_it_is_disclosed() {
    let place = Place::new(300);
    let mut log = place.log.clone();
    let mut asked = Vec::new();
    for forged in [false, true] {
        let (release, terms) = (log.release(), log.embargo(*FUTURE));
        let request = log.ask(release, &terms);
        let outcome = log.outcome(&request, OutcomeState::Signed);
        log.append(&Entry::Outcome(outcome));
        let statement = request.release.statement();
        let message = if forged { b"another".to_vec() } else { pae(PAYLOAD_TYPE, &statement) };
        let dsse = Dsse::new(b"", &statement, &log.key.public(), &log.key.sign(&message));
        let leaf = log.append(&Entry::Dsse(dsse));
        asked.push((request, terms, leaf));
    }
    log.publish(&place.path("honest"), 256);
    let none = ["--documents", "none"];
    place.monitor("honest", "state", &[]).assert("under embargo", &[]);
    place.monitor("honest", "without", &none).assert("under embargo", &[]);
    for (request, terms, leaf) in asked.iter().rev() {
        log.disclose(request, terms);
        log.publish(&place.path("honest"), 256);
        let round = place.monitor("honest", "state", &[]);
        let forged = *leaf == asked[1].2;
        round.assert("disclosed", if forged { &["dsse-mismatch"] } else { &[] });
        assert_eq!(round.findings().first().and_then(|(_, index)| *index), forged.then_some(*leaf));
    }
    place.monitor("honest", "without", &none).assert("no documents", &[]);
    // Whoever comes later has the statement at once, and is told once.
    let round = place.monitor("honest", "later", &[]);
    assert_eq!(round.findings(), [("dsse-mismatch", Some(asked[1].2))]);
}

/// Bundles and entries of the most bytes there may be, all of which lie there well-formed: a server must not decide how
/// much memory is taken to find out that they are wrong, nor how long the list of findings is.
#[test]
fn no_log_takes_as_much_memory_as_it_likes() {
    const BUNDLES: u64 = 8;
    let place = Place::new(8);
    let names = vec!["n".repeat(255); 128];
    let refusal = |_| Refusal { code: "c".repeat(255), node: "n".repeat(255), reason: "r".repeat(300) };
    let entry = Entry::Outcome(Outcome {
        key: None,
        kind: kinds::Outcome::default(),
        refusals: (0..36).map(refusal).collect(),
        request: 1,
        roster: None,
        signatures: None,
        signed_by: names,
        state: OutcomeState::Refused,
        statement: sha256(b""),
        time: *START,
    });
    let bytes = entry.encode();
    assert!((60_000..65_536).contains(&bytes.len()), "{}", bytes.len());
    let mut tiles = Tiles::default();
    (0..BUNDLES * 256).for_each(|_| tiles.push(leaf_hash(&bytes)));
    let head = Frontier::of(&tiles, BUNDLES * 256).unwrap().head();
    let mut bundle = EntryBundle::default();
    (0..256).for_each(|_| assert!(bundle.push(&bytes)));
    let folder = place.path("greedy");
    let path = |index| TileId::in_tree(None, index, head.size).unwrap().path();
    replace(&folder, &path(0), &bundle.into_bytes());
    (1..BUNDLES).for_each(|index| fs::hard_link(folder.join(path(0)), folder.join(path(index))).unwrap());
    replace(&folder, "checkpoint", Log::signer().sign(head).to_note().as_bytes());

    let limited =
        "ulimit -d 80000 && exec \"$0\" --json log monitor --once --log greedy --key log.vkey --state state";
    let output = Command::new("sh")
        .args(["-c", limited, env!("CARGO_BIN_EXE_rutli")])
        .env_remove("RUTLI_LOG")
        // Each thread has a stack.
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(place.folder.path())
        .output()
        .unwrap();
    let round = Round::of(output);
    assert_eq!((round.exit, round.json["size"].as_u64()), (1, Some(head.size)), "{:#}", round.json);
    let outcomes = |shown: &&Value| shown["code"] == "outcome-without-request";
    let shown: Vec<&Value> = round.json["findings"].as_array().unwrap().iter().filter(outcomes).collect();
    assert_eq!(shown.len(), 251);
    assert_eq!(shown[250]["text"], format!("and {} more of this kind", head.size - 250));
    let tiles = round.findings().iter().filter(|(code, _)| *code == "tile-missing").count() as u64;
    assert_eq!(round.json["alarms"].as_u64(), Some(head.size + tiles));
}
