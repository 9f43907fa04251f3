//! Proof files: one spelling, and nothing holds but the entry at its index under a witnessed checkpoint.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use rutli_log::{
    Frontier, LogSigner, NotLogged, NotProved, NotWitnessed, Origin, Policy, ProofFile, Tiles, leaf_hash,
};

const VECTOR: &str = include_str!("vectors/example.tlog-proof");

#[test]
fn the_vector_is_read_and_written_and_its_checkpoint_is_witnessed() {
    let file = ProofFile::parse(VECTOR).unwrap();
    assert_eq!((file.index, file.hashes.len(), &file.extra), (517, 10, &None));
    assert_eq!(file.checkpoint, include_str!("vectors/checkpoint"));
    assert_eq!(file.to_string(), VECTOR);
    let policy = |quorum: &str| -> Policy {
        let (log, witness) = (include_str!("vectors/log.vkey"), include_str!("vectors/witness.vkey"));
        format!("log {}\nwitness w {}\nquorum {quorum}\n", log.trim(), witness.trim()).parse().unwrap()
    };
    assert_eq!(policy("w").check(&file.checkpoint).unwrap().1, ["w"]);
    // Its entry is not known, and none that somebody makes up is in it.
    assert_eq!(file.verify(b"made up", &policy("w")), Err(NotLogged::Proof(NotProved::Hashes)));
    let unsigned = ProofFile { checkpoint: without_cosignature(&file.checkpoint), ..file };
    assert!(matches!(
        unsigned.verify(b"", &policy("w")),
        Err(NotLogged::Checkpoint(NotWitnessed::Quorum { .. }))
    ));
    assert!(policy("none").check(&unsigned.checkpoint).is_ok());
}

fn without_cosignature(note: &str) -> String {
    note.lines().filter(|line| !line.starts_with("— node1")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn other_spellings_are_refused() {
    let first = VECTOR.lines().nth(2).unwrap();
    let with_extra = VECTOR.replace("index 517", "extra aGk=\nindex 517");
    assert_eq!(ProofFile::parse(&with_extra).unwrap().extra.unwrap(), b"hi");
    for bad in [
        String::new(),
        VECTOR.replace("@v1", "@v2"),
        VECTOR.replace("517", "0517"),
        VECTOR.replace("517", "+517"),
        VECTOR.replace("index", "Index"),
        VECTOR.replace("index 517\n", ""),
        VECTOR.replace(first, first.trim_end_matches('=')),
        VECTOR.replace(first, "aGk="),
        VECTOR.replace('\n', "\r\n"),
        with_extra.replace("aGk=", "aGk"),
        with_extra.replace("extra", "extra "),
        VECTOR.replace("index 517", "index 517\nextra aGk="),
        VECTOR.replace(first, &[first; 64].join("\n")),
        VECTOR.split_once("\n\n").unwrap().0.to_owned(),
        format!("{VECTOR}{}", "x".repeat(200_000)),
    ] {
        assert!(ProofFile::parse(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_proof_holds_for_its_entry_and_index_only() {
    let entries: Vec<Vec<u8>> = (0..300_u64).map(|number| number.to_be_bytes().to_vec()).collect();
    let (mut frontier, mut tiles) = (Frontier::default(), Tiles::default());
    for entry in &entries {
        frontier.push(leaf_hash(entry));
        tiles.push(leaf_hash(entry));
    }
    let log = LogSigner::from_bytes(Origin::new("log.example/1").unwrap(), &[1; 32]);
    let policy: Policy = format!("log {}\nquorum none\n", log.public()).parse().unwrap();
    let file = ProofFile {
        extra: None,
        index: 277,
        hashes: tiles.prove_inclusion(277, 300).unwrap(),
        checkpoint: log.sign(frontier.head()).to_note(),
    };
    let file = ProofFile::parse(&file.to_string()).unwrap();
    let (checkpoint, _) = file.verify(entries.get(277).unwrap(), &policy).unwrap();
    assert_eq!(checkpoint.head(), frontier.head());
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(file.verify(entry, &policy).is_ok(), index == 277);
        let moved = ProofFile { index: u64::try_from(index).unwrap(), ..file.clone() };
        assert_eq!(moved.verify(entries.get(277).unwrap(), &policy).is_ok(), index == 277);
    }
}
