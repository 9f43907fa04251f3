//! A log that is larger than what is in memory of it.

use rutli_log::{LogSigner, Origin, check_consistency, check_inclusion, leaf_hash};

use super::{folder::Appender, *};

/// More than the tiles in memory hold, and no multiple of anything.
const SIZE: u64 = 100_777;

fn signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.test/1").unwrap(), &[9; 32])
}

fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(|index| format!("entry {index}").into_bytes()).collect()
}

/// All of the tree, grown apart from the log's own code.
struct Whole {
    heads: Vec<Head>,
}

impl Whole {
    fn new() -> Self {
        let mut frontier = Frontier::default();
        let mut heads = vec![Head::EMPTY];
        for entry in entries(0, SIZE) {
            frontier.push(leaf_hash(&entry));
            heads.push(frontier.head());
        }
        Self { heads }
    }

    fn head(&self, size: u64) -> Head {
        self.heads[usize::try_from(size).unwrap()]
    }
}

/// A log of `SIZE` entries that came in steps, of which the folder was told the first `written`.
fn grown(whole: &Whole, written: u64) -> (tempfile::TempDir, Log, Appender) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = LogFolder::open(&temporary.path().join("log")).unwrap();
    let mut appender = folder.resume(Head::EMPTY).unwrap();
    let log = Log::new(signer().public(), folder, signer().sign(Head::EMPTY), Tiles::default(), 0);
    let mut size = 0;
    while size < SIZE {
        let to = (size + 9_973).min(SIZE);
        let leaves: Vec<Hash> = entries(size, to).iter().map(|entry| leaf_hash(entry)).collect();
        log.committed(signer().sign(whole.head(to)), &leaves);
        if to <= written {
            appender.append(&entries(size, to), &[], whole.head(to)).unwrap();
            log.written(to);
        }
        size = to;
    }
    (temporary, log, appender)
}

fn tiles_in_memory(log: &Log) -> usize {
    let tree = log.tree();
    let places = (0..3).flat_map(|level| (0..500).map(move |index| (level, index)));
    places.filter(|(level, index)| tree.tiles.get(*level, *index).is_some()).count()
}

/// Indices and sizes where proofs are different: edges of tiles, of the tree, and between.
const PLACES: [u64; 16] =
    [0, 1, 255, 256, 257, 511, 512, 9_973, 65_535, 65_536, 65_537, 65_792, 80_001, 100_000, SIZE - 1, SIZE];

fn assert_proofs(whole: &Whole, log: &Log) {
    for size in PLACES {
        assert_eq!(log.head_at(size).unwrap(), whole.head(size));
        for old in PLACES.into_iter().filter(|old| *old <= size) {
            let proof = log.consistency(old, &whole.head(size)).unwrap();
            check_consistency(&whole.head(old), &whole.head(size), &proof).unwrap();
        }
        for index in PLACES.into_iter().filter(|index| *index < size) {
            let leaf = leaf_hash(&entries(index, index + 1)[0]);
            let proof = log.inclusion(index, leaf, &whole.head(size)).unwrap();
            check_inclusion(&whole.head(size), index, leaf, &proof).unwrap();
        }
    }
}

#[test]
fn proofs_hold_beyond_what_is_in_memory() {
    let whole = Whole::new();
    let (_folder, log, _appender) = grown(&whole, SIZE);
    assert_eq!((log.newest().head(), log.backlog()), (whole.head(SIZE), 0));
    assert!(tiles_in_memory(&log) <= limits::LOG_TILES_IN_MEMORY, "{}", tiles_in_memory(&log));
    assert!(log.tree().tiles.get(0, 0).is_none(), "the test is of tiles that are not in memory");
    assert_proofs(&whole, &log);
    // Not even what readers asked for stays.
    log.committed(signer().sign(whole.head(SIZE)), &[]);
    assert!(tiles_in_memory(&log) <= limits::LOG_TILES_IN_MEMORY, "{}", tiles_in_memory(&log));
}

#[test]
fn what_the_folder_has_not_is_kept_in_memory() {
    let whole = Whole::new();
    let (_folder, log, mut appender) = grown(&whole, 0);
    assert_eq!(log.backlog(), SIZE);
    assert_proofs(&whole, &log);
    // The disk is back: the folder is brought up to date in the publisher's steps.
    while appender.head().size < SIZE {
        let (from, to) = (appender.head().size, (appender.head().size + 4_096).min(SIZE));
        appender.append(&entries(from, to), &[], log.head_at(to).unwrap()).unwrap();
        log.written(to);
    }
    log.committed(signer().sign(whole.head(SIZE)), &[]);
    assert!(tiles_in_memory(&log) <= limits::LOG_TILES_IN_MEMORY, "then it is forgotten");
    assert_proofs(&whole, &log);
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let whole = Whole::new();
    let (folder, log, _appender) = grown(&whole, SIZE);
    assert!(log.inclusion(SIZE, whole.head(0).root, &whole.head(SIZE)).is_err());
    assert!(
        log.consistency(SIZE, &whole.head(5)).unwrap().is_empty(),
        "of a longer log there is nothing to be shown"
    );
    std::fs::remove_file(folder.path().join("log/tile/0/000")).unwrap();
    let error = log.inclusion(3, leaf_hash(&entries(3, 4)[0]), &whole.head(SIZE)).unwrap_err().to_string();
    assert!(error.contains("restore this folder's newest copy"), "{error}");
    log.inclusion(SIZE - 1, leaf_hash(&entries(SIZE - 1, SIZE)[0]), &whole.head(SIZE)).unwrap();
}

/// What a damaged tile leads to is wrong in both trees: only the signed head shows it.
#[test]
fn a_damaged_tile_proves_nothing() {
    let whole = Whole::new();
    let (folder, log, _appender) = grown(&whole, SIZE);
    let tile = folder.path().join("log/tile/0/003");
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[32 * 2] ^= 1;
    std::fs::write(&tile, bytes).unwrap();
    for problem in [
        log.consistency(990, &whole.head(1_000)).unwrap_err(),
        log.inclusion(900, leaf_hash(&entries(900, 901)[0]), &whole.head(1_000)).unwrap_err(),
    ] {
        assert!(problem.to_string().contains("a tile in the log's folder is damaged"), "{problem}");
    }
    let node = NodeId::new("vendor", "vendor-1").unwrap();
    log.kept_by(&node, &kept(&signer(), whole.head(990)));
    assert!(log.contradictions().is_empty(), "nobody has another history");
}

/// What a node attaches with.
fn kept(signer: &LogSigner, head: Head) -> KeptLog {
    KeptLog { size: head.size, checkpoint: signer.sign(head).to_note() }
}

#[test]
fn only_a_checkpoint_of_the_log_itself_contradicts_it() {
    let whole = Whole::new();
    let (_folder, log, _appender) = grown(&whole, SIZE);
    let node = NodeId::new("vendor", "vendor-1").unwrap();
    let contradicts = |kept: KeptLog| {
        log.kept_by(&node, &kept);
        log.contradictions().contains_key(&node)
    };
    let own = signer();
    let other = LogSigner::from_bytes(own.public().origin().clone(), &[8; 32]);
    let foreign = |size| Head { size, root: Hash([7; 32]) };
    for size in [1, 300, SIZE] {
        assert!(!contradicts(kept(&own, whole.head(size))), "{size}");
        assert!(contradicts(kept(&own, foreign(size))), "{size}");
        assert!(!contradicts(kept(&other, foreign(size))), "anybody can write that: {size}");
    }
    let bare = KeptLog { size: 0, ..kept(&own, foreign(SIZE + 1)) };
    assert!(contradicts(bare), "it has seen more, whatever it says");
    assert_eq!(log.contradictions()[&node], SIZE + 1);
    log.agrees(&node);
    assert!(log.contradictions().is_empty(), "it took a head since");
    assert!(
        !contradicts(KeptLog { size: SIZE + 1, checkpoint: String::new() }),
        "its word counts for nothing"
    );
}

#[test]
fn only_cosignatures_of_what_is_collected_are_taken() {
    let whole = Whole::new();
    let (_folder, log, _appender) = grown(&whole, 0);
    let node = NodeId::new("vendor", "vendor-1").unwrap();
    let cosignature = Some(Cosignature { time: 1, signature: [1; 64] });
    log.witnessed(&node, Witnessed { size: SIZE, cosignature });
    assert!(log.collected().is_empty(), "nothing is collected yet");
    assert_eq!(log.collect(), log.newest());
    log.witnessed(&node, Witnessed { size: SIZE - 1, cosignature });
    log.witnessed(&node, Witnessed { size: SIZE, cosignature: None });
    assert!(log.collected().is_empty());
    log.witnessed(&node, Witnessed { size: SIZE, cosignature });
    assert_eq!(log.collected().into_keys().collect::<Vec<_>>(), [node]);
    log.collect();
    assert!(log.collected().is_empty(), "each head is collected anew");
}
