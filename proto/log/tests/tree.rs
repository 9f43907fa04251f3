//! Trees, proofs and tiles, against a slow reference and against vectors that Go's `sumdb/note` checked.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;
use rutli_log::{
    Cosignature, Cosigner, EntryBundle, Frontier, Hash, Head, LogKey, LogSigner, MissingTile, NotACheckpoint,
    NotProved, Origin, TileHashes, TileId, Tiles, check_consistency, check_inclusion, cosigned_message,
    leaf_hash,
    limits::{MAX_CHECKPOINT_BYTES, MAX_NAME_BYTES, MAX_SIGNATURE_LINES},
    node_hash, sha256,
};

fn leaf(number: u64) -> Hash {
    leaf_hash(&number.to_be_bytes())
}

/// RFC 6962, section 2.1, word by word.
fn reference(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::EMPTY_ROOT,
        [only] => *only,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(split);
            node_hash(reference(left), reference(right))
        }
    }
}

fn grown(size: u64) -> (Vec<Hash>, Frontier, Tiles) {
    let leaves: Vec<Hash> = (0..size).map(leaf).collect();
    let (mut frontier, mut tiles) = (Frontier::default(), Tiles::default());
    for leaf in &leaves {
        frontier.push(*leaf);
        tiles.push(*leaf);
    }
    (leaves, frontier, tiles)
}

#[test]
fn heads_are_those_of_the_reference() {
    let (mut leaves, mut frontier, mut tiles) = grown(0);
    for size in 0..=600 {
        let head = frontier.head();
        assert_eq!(head, Head { size, root: reference(&leaves) });
        assert_eq!(Frontier::of(&tiles, size).unwrap(), frontier);
        leaves.push(leaf(size));
        frontier.push(leaf(size));
        tiles.push(leaf(size));
    }
}

#[test]
fn proofs_hold_and_only_as_they_are() {
    let (leaves, _, tiles) = grown(70_000);
    let head = |size: u64| Frontier::of(&tiles, size).unwrap().head();
    for (index, size) in
        [(0, 1), (0, 2), (5, 300), (255, 256), (256, 257), (65_535, 65_536), (69_999, 70_000), (1, 70_000)]
    {
        let leaf = leaves[usize::try_from(index).unwrap()];
        let mut proof = tiles.prove_inclusion(index, size).unwrap();
        check_inclusion(&head(size), index, leaf, &proof).unwrap();
        assert!(check_inclusion(&head(size), index ^ 1, leaf, &proof).is_err() || size == 1);
        assert!(size == 70_000 || check_inclusion(&head(size + 1), index, leaf, &proof).is_err());
        if let Some(hash) = proof.first_mut() {
            hash.0[0] ^= 1;
            assert_eq!(check_inclusion(&head(size), index, leaf, &proof), Err(NotProved::Hashes));
        }
    }
    for (old, new) in
        [(0, 0), (0, 9), (9, 9), (1, 2), (255, 256), (256, 65_537), (300, 70_000), (69_999, 70_000)]
    {
        let mut proof = tiles.prove_consistency(old, new).unwrap();
        check_consistency(&head(old), &head(new), &proof).unwrap();
        proof.push(Hash([0; 32]));
        assert_eq!(check_consistency(&head(old), &head(new), &proof), Err(NotProved::Hashes), "{old} {new}");
        let mut forked = head(old);
        forked.root.0[0] ^= 1;
        proof.pop();
        assert!(check_consistency(&forked, &head(new), &proof).is_err(), "{old} {new}");
    }
    assert_eq!(check_consistency(&head(9), &head(8), &[]), Err(NotProved::Shrunk { old: 9, new: 8 }));
    let huge = Head { size: u64::MAX, root: Hash([0; 32]) };
    assert_eq!(check_inclusion(&huge, 0, leaves[0], &[Hash([0; 32]); 64]), Err(NotProved::TooLarge));
    assert_eq!(check_inclusion(&head(9), 9, leaves[0], &[]), Err(NotProved::Outside { index: 9, size: 9 }));
}

#[test]
fn tiles_that_were_forgotten_can_be_handed_in_again() {
    let (leaves, _, mut tiles) = grown(66_000);
    let whole = tiles.clone();
    tiles.shrink_within(255, 3);
    assert!(tiles.get(0, 0).is_some(), "it is nowhere else");
    tiles.shrink(3);
    assert!(tiles.get(0, 0).is_none());
    let missing = tiles.prove_inclusion(3, 66_000).unwrap_err();
    assert_eq!(missing, MissingTile { level: 0, index: 0 });
    tiles.insert(missing, TileHashes::new(leaves[..256].iter().copied()));
    assert_eq!(loaded(&mut tiles, &whole, 3), whole.prove_inclusion(3, 66_000).unwrap());
}

fn loaded(tiles: &mut Tiles, whole: &Tiles, index: u64) -> Vec<Hash> {
    loop {
        match tiles.prove_inclusion(index, 66_000) {
            Ok(proof) => return proof,
            Err(missing) => tiles.insert(missing, whole.get(missing.level, missing.index).unwrap().clone()),
        }
    }
}

#[test]
fn paths_are_those_of_the_specification() {
    let path = |level, index, width| TileId { level, index, width }.path();
    assert_eq!(path(Some(0), 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(path(Some(1), 0, 8), "tile/1/000.p/8");
    assert_eq!(path(None, 1_000, 255), "tile/entries/x001/000.p/255");
    for bad in [
        "tile/0/1",
        "tile/0/001.p/256",
        "tile/0/001.p/0",
        "tile/0/x000/001",
        "tile/entries/",
        "tile/7/000",
        "tile/0/001.p/08",
    ] {
        assert_eq!(TileId::parse(bad), None, "{bad}");
    }
    assert_eq!(TileId::in_tree(Some(0), 1, 300), Some(TileId { level: Some(0), index: 1, width: 44 }));
    assert_eq!(TileId::in_tree(Some(1), 0, 300), Some(TileId { level: Some(1), index: 0, width: 1 }));
    assert_eq!(TileId::in_tree(None, 0, 300).map(|id| id.width), Some(256));
    assert_eq!(TileId::in_tree(Some(1), 1, 300), None);
    assert_eq!(TileId::in_tree(Some(1), 0, 255), None);
}

proptest! {
    #[test]
    fn paths_are_read_back(level in prop::option::of(0_u8..=6), index in 0_u64..1 << 45, width in 1_u16..=256) {
        let id = TileId { level, index, width };
        prop_assert_eq!(TileId::parse(&id.path()), Some(id));
    }

    #[test]
    fn bundles_are_read_back(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut bundle = EntryBundle::default();
        for entry in &entries {
            prop_assert!(bundle.push(entry));
        }
        let bytes = bundle.into_bytes();
        let width = u16::try_from(entries.len()).unwrap();
        prop_assert_eq!(EntryBundle::parse(&bytes, width).unwrap(), entries);
        prop_assert_eq!(EntryBundle::parse(&bytes, width + 1), None);
        if width > 0 {
            prop_assert_eq!(EntryBundle::parse(&bytes, width - 1), None);
            prop_assert_eq!(EntryBundle::parse(&bytes[..bytes.len() - 1], width), None);
        }
    }
}

#[test]
fn the_vectors_hold() {
    let log: LogKey = include_str!("vectors/log.vkey").parse().unwrap();
    let witness: Cosigner = include_str!("vectors/witness.vkey").parse().unwrap();
    let note = include_str!("vectors/checkpoint");
    let mut checkpoint = log.open(note).unwrap();
    assert_eq!(checkpoint.to_note(), note);
    assert_eq!(checkpoint.head().size, 1000);
    let cosignature = checkpoint.cosignature(&witness).unwrap().unwrap();
    checkpoint.add_cosignature(&witness, &cosignature).unwrap();
    assert_eq!(checkpoint.to_note(), note);
    assert_eq!(
        log.open(&note.replace("1000", "1001")),
        Err(NotACheckpoint::Signature(log.origin().to_string()))
    );
    assert_eq!(log.to_string(), include_str!("vectors/log.vkey").trim());
    assert_eq!(witness.to_string(), include_str!("vectors/witness.vkey").trim());
}

#[test]
fn a_checkpoint_takes_no_more_cosignatures_than_can_be_opened() {
    let log = LogSigner::from_bytes(Origin::new("log.example/2026").unwrap(), &[1; 32]);
    let witness = |number: usize, length: usize| {
        let key = SigningKey::from_bytes(&sha256(&number.to_be_bytes()).0);
        let name = format!("{number:0>length$}");
        (Cosigner::new(name, key.verifying_key().as_bytes()).unwrap(), key)
    };
    for (length, most) in [(64, MAX_SIGNATURE_LINES), (MAX_NAME_BYTES, 89)] {
        let mut checkpoint = log.sign(Head { size: 1, root: sha256(b"root") });
        let mut add = |number| {
            let (cosigner, key) = witness(number, length);
            let signature = key.sign(&cosigned_message(9, &checkpoint.text())).to_bytes();
            checkpoint.add_cosignature(&cosigner, &Cosignature { time: 9, signature })
        };
        let taken = (0..MAX_SIGNATURE_LINES + 30).filter(|number| add(*number).is_ok()).count();
        assert_eq!(taken, most);
        assert_eq!(add(0), Ok(()), "in place of an earlier one");
        assert_eq!(add(most), Err(NotACheckpoint::Full(witness(most, length).0.name().to_owned())));
        let note = checkpoint.to_note();
        assert!(note.len() <= MAX_CHECKPOINT_BYTES);
        let opened = log.public().open(&note).unwrap();
        for number in 0..most {
            assert!(opened.cosignature(&witness(number, length).0).unwrap().is_some());
        }
    }
}
