use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    process::{Command, ExitStatus},
};

use proptest::prelude::*;
use rutli_log::{LogSigner, Origin, sigstore::SigstoreSigner};

use super::*;

/// Entry `index` of the test's log; of some the length differs.
fn entry(index: u64) -> Vec<u8> {
    let mut entry = format!("entry {index} ").into_bytes();
    entry.resize(20 + usize::try_from(index % 7).unwrap() * 10, b'.');
    entry
}

fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    (from..to).map(entry).collect()
}

/// All hashes of the tree of `size` entries.
fn tree(size: u64) -> Tiles {
    let mut tiles = Tiles::default();
    (0..size).for_each(|index| tiles.push(leaf_hash(&entry(index))));
    tiles
}

fn head(size: u64) -> Head {
    Frontier::of(&tree(size), size).unwrap().head()
}

fn signer() -> LogSigner {
    LogSigner::from_bytes(Origin::new("log.example/test").unwrap(), &[7; 32])
}

fn sigstore_signer() -> SigstoreSigner {
    SigstoreSigner::from_bytes("https://log.example".parse().unwrap(), &[7; 32]).unwrap()
}

fn sigstore(head: Head) -> SigstoreHead {
    sigstore_signer().sign_head(head).unwrap()
}

fn folder() -> (tempfile::TempDir, LogFolder) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = LogFolder::open(&temporary.path().join("data/log")).unwrap();
    (temporary, folder)
}

fn grown(folder: &LogFolder, sizes: &[u64]) -> Appender {
    let mut appender = folder.resume(Head::EMPTY).unwrap();
    for &size in sizes {
        appender.append(&entries(appender.head().size, size), &[], head(size)).unwrap();
    }
    appender
}

/// Every file below the folder.
fn files(folder: &LogFolder) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, path: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder.path(), folder.path(), &mut found);
    found
}

/// What the folder must hold of the tree of exactly this size, straight from the specification.
fn expected(size: u64) -> BTreeMap<String, Vec<u8>> {
    let tiles = tree(size);
    let mut expected = BTreeMap::new();
    for level in 0..=MAX_TILE_LEVEL {
        for id in (0..).map_while(|index| TileId::in_tree(Some(level), index, size)) {
            let tile = tiles.get(level, id.index).unwrap();
            expected.insert(id.path(), tile.hashes().iter().flat_map(|hash| hash.0).collect());
        }
    }
    for id in (0..).map_while(|index| TileId::in_tree(None, index, size)) {
        let mut bundle = EntryBundle::default();
        (id.index * 256..id.index * 256 + u64::from(id.width)).for_each(|index| {
            assert!(bundle.push(&entry(index)));
        });
        expected.insert(id.path(), bundle.into_bytes());
    }
    expected
}

#[test]
fn the_example_of_the_specification() {
    let (_temporary, folder) = folder();
    grown(&folder, &[70_000]);
    let found = files(&folder);
    let level = |level: &str| found.keys().filter(|name| name.starts_with(level)).count();
    assert_eq!(
        (level("tile/0/"), level("tile/1/"), level("tile/2/"), level("tile/entries/")),
        (274, 2, 1, 274)
    );
    for name in
        ["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"]
    {
        assert!(found.contains_key(name), "{name}");
    }
    assert_eq!(found, expected(70_000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// However it grew, and however often the process was started anew: the same tiles, and besides only true partial
    /// ones of the sizes on the way, which are gone where a full one is.
    #[test]
    fn splits_and_restarts_make_no_difference(
        steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..7),
    ) {
        let (_temporary, folder) = folder();
        let mut appender = folder.resume(Head::EMPTY).unwrap();
        let mut allowed = BTreeMap::new();
        for (step, restart) in steps {
            let size = appender.head().size + step;
            appender.append(&entries(appender.head().size, size), &[], head(size)).unwrap();
            appender.forget_partials(size).unwrap();
            allowed.append(&mut expected(size));
            if restart {
                appender = folder.resume(head(size)).unwrap();
            }
        }
        let size = appender.head().size;
        let found = files(&folder);
        for (name, bytes) in expected(size) {
            prop_assert_eq!(found.get(&name), Some(&bytes), "{}", name);
        }
        for (name, bytes) in &found {
            prop_assert_eq!(allowed.get(name), Some(bytes), "{}", name);
            let id = TileId::parse(name).unwrap();
            let full_there = id.full() != id && found.contains_key(&id.full().path());
            prop_assert!(!full_there, "{} is not needed", name);
        }
    }
}

const SIZES: [u64; 5] = [40, 255, 256, 700, 1_100];
/// Those that a quorum of nodes cosigned.
const COSIGNED: [u64; 4] = [40, 256, 700, 1_100];

/// The coordinator's rounds over [`SIZES`], from where its staging begins: the file beside the folder says.
fn rounds(path: &Path) {
    let staging = path.with_file_name("staging-begins-at");
    let folder = LogFolder::open(path).unwrap();
    let begins: u64 = fs::read_to_string(&staging).map_or(0, |text| text.parse().unwrap());
    let mut appender = folder.resume(head(begins)).unwrap();
    for size in SIZES.into_iter().filter(|size| *size > begins) {
        let document = format!("document of {size}").into_bytes();
        let documents = [(sha256(&document), document)];
        appender.append(&entries(appender.head().size, size), &documents, head(size)).unwrap();
        let sigstore = COSIGNED.contains(&size).then(|| sigstore(head(size)));
        appender.publish(&signer().sign(head(size)), sigstore.as_ref()).unwrap();
        appender.forget_partials(size).unwrap();
        fs::write(&staging, size.to_string()).unwrap();
    }
}

#[test]
#[ignore = "not by itself: a process that `a_crash_anywhere_is_survived` starts and that kills itself"]
fn the_one_that_dies() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    rounds(Path::new(&std::env::var_os("RUTLI_TEST_LOG_FOLDER").unwrap()));
}

fn run_rounds(path: &Path, crash_at: Option<&str>) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "log::folder::tests::the_one_that_dies", "--ignored"])
        .env("RUTLI_TEST_LOG_FOLDER", path)
        .env_remove("RUTLI_CRASH_AT")
        .stdout(std::process::Stdio::null());
    if let Some(place) = crash_at {
        command.env("RUTLI_CRASH_AT", place);
    }
    command.status().unwrap()
}

/// Killed at every boundary, then started again: the folder is, byte for byte, that of a process that lived.
#[test]
fn a_crash_anywhere_is_survived() {
    let (_temporary, undisturbed) = folder();
    rounds(undisturbed.path());
    let undisturbed = files(&undisturbed);
    let names = [
        "log-tiles-half-written",
        "log-tiles-beside",
        "log-half-renamed",
        "log-tiles-written",
        "log-checkpoint-written",
        "log-published",
        "log-sigstore-written",
    ];
    let passages = |name| [1, 2, 4].into_iter().map(move |passage| (name, passage));
    let half_written = (3..20).step_by(4).map(|passage| ("log-tiles-half-written", passage));
    for (name, passage) in names.into_iter().flat_map(passages).chain(half_written) {
        let place = format!("{name}:{passage}");
        let (_temporary, folder) = folder();
        assert_eq!(run_rounds(folder.path(), Some(&place)).signal(), Some(9), "{place} was not passed");
        // Nothing stands in its place before it is whole.
        let beside = files(&folder).keys().filter(|name| name.ends_with(".tmp")).count();
        match name {
            "log-tiles-half-written" | "log-tiles-beside" => assert!(beside > 0, "{place}"),
            "log-half-renamed" => {}
            "log-checkpoint-written" | "log-sigstore-written" => assert_eq!(beside, 1, "{place}"),
            _ => assert_eq!(beside, 0, "{place}"),
        }
        // Whatever was published has its tiles.
        let note = folder.published().unwrap();
        let published = note.map_or(Head::EMPTY, |note| signer().public().open(&note).unwrap().head());
        assert_eq!(folder.resume(published).unwrap().head(), head(published.size), "{place}");
        let note = folder.published_sigstore().unwrap();
        let sigstore = note.map_or(0, |note| {
            let opened = sigstore_signer().public().unwrap().open_head(&note).unwrap();
            assert_eq!(opened, head(opened.size), "{place}");
            opened.size
        });
        assert!(sigstore <= published.size, "{place}: the head for Sigstore's tools is ahead");
        match name {
            "log-sigstore-written" => assert_eq!(published.size, COSIGNED[passage - 1], "{place}"),
            "log-published" => assert_eq!(published.size, SIZES[passage - 1], "{place}"),
            "log-tiles-half-written" | "log-half-renamed" => {}
            _ => assert_eq!(published.size, if passage == 1 { 0 } else { SIZES[passage - 2] }, "{place}"),
        }
        assert!(run_rounds(folder.path(), None).success(), "{place}");
        assert_eq!(files(&folder), undisturbed, "{place}");
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("checkpoint"), mode("tile/0/000"), mode("tile/0")), (0o644, 0o644, 0o755));
    }
}

#[test]
fn a_forged_tile_or_entry_is_found_before_it_is_built_upon() {
    let (_temporary, folder) = folder();
    grown(&folder, &[70_000]);
    let before = head(70_000);
    for name in ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"] {
        let path = folder.path().join(name);
        let genuine = fs::read(&path).unwrap();
        for place in [2, genuine.len() - 1] {
            let mut forged = genuine.clone();
            forged[place] ^= 1;
            fs::write(&path, &forged).unwrap();
            let error = folder.resume(before).unwrap_err();
            assert!(matches!(error, Error::LogForked { .. }), "{name}: {error}");
        }
        fs::write(&path, &genuine[..genuine.len() - 1]).unwrap();
        let error = folder.resume(before).unwrap_err();
        assert!(matches!(&error, Error::LogForked { path: named, .. } if *named == path), "{name}: {error}");
        fs::remove_file(&path).unwrap();
        let error = folder.resume(before).unwrap_err();
        assert!(matches!(&error, Error::File { path: named, .. } if *named == path), "{name}: {error}");
        fs::write(&path, genuine).unwrap();
    }
    folder.resume(before).unwrap();
    // A tile and its bundle that go together, of another log.
    let mut other = Tiles::default();
    (0..112_u64).for_each(|index| other.push(leaf_hash(&index.to_be_bytes())));
    let mut bundle = EntryBundle::default();
    (0..112_u64).for_each(|index| assert!(bundle.push(&index.to_be_bytes())));
    let bytes: Vec<u8> = other.get(0, 0).unwrap().hashes().iter().flat_map(|hash| hash.0).collect();
    fs::write(folder.path().join("tile/0/273.p/112"), bytes).unwrap();
    fs::write(folder.path().join("tile/entries/273.p/112"), bundle.into_bytes()).unwrap();
    assert!(matches!(folder.resume(before), Err(Error::LogForked { .. })));
}

#[test]
fn the_full_tile_does_where_the_partial_one_has_gone() {
    let (_temporary, folder) = folder();
    let mut appender = grown(&folder, &[300, 600]);
    appender.forget_partials(600).unwrap();
    assert!(!folder.path().join("tile/0/001.p").exists());
    let mut again = folder.resume(head(300)).unwrap();
    let tile = folder.read_tile(MissingTile { level: 0, index: 1 }, 300).unwrap();
    assert_eq!(Some(&tile), tree(600).get(0, 1));
    let partial = folder.read_tile(MissingTile { level: 0, index: 2 }, 600).unwrap();
    assert_eq!(partial.width(), 88);
    again.append(&entries(300, 650), &[], head(650)).unwrap();
    assert_eq!(folder.resume(head(650)).unwrap().head(), head(650));
    let error = folder.read_tile(MissingTile { level: 0, index: 3 }, 600).unwrap_err();
    assert!(error.to_string().contains("a tree of 600 entries has none"), "{error}");
}

#[test]
fn another_file_in_the_place_is_never_overwritten() {
    let document = b"statement".to_vec();
    let documents = [(sha256(&document), document)];
    let names = ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000"].map(str::to_owned);
    for name in names.into_iter().chain([document_path(&documents[0].0)]) {
        for other in [&b"another"[..], b""] {
            let (_temporary, folder) = folder();
            let mut appender = grown(&folder, &[40]);
            let path = folder.path().join(&name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, other).unwrap();
            let error = appender.append(&entries(40, 300), &documents, head(300)).unwrap_err();
            assert!(matches!(&error, Error::LogForked { path: named, .. } if *named == path), "{error}");
            assert_eq!(fs::read(&path).unwrap(), other);
            assert_eq!(appender.head().size, 40);
            // As the message says: moved away, it is written anew.
            fs::rename(&path, folder.path().join("evidence")).unwrap();
            appender.append(&entries(40, 300), &documents, head(300)).unwrap();
            assert_eq!(files(&folder)["tile/0/000"], expected(300)["tile/0/000"]);
        }
    }
}

#[test]
fn entries_that_do_not_lead_to_the_head_are_not_written() {
    let (_temporary, folder) = folder();
    let mut appender = grown(&folder, &[10]);
    let before = files(&folder);
    let mut changed = entries(10, 20);
    changed[3][0] ^= 1;
    for (entries, to) in [(changed, 20), (entries(10, 19), 20), (entries(11, 21), 20), (entries(0, 10), 10)] {
        assert!(matches!(appender.append(&entries, &[], head(to)), Err(Error::Store { .. })));
    }
    let wrong = [(sha256(b"one"), b"another".to_vec())];
    assert!(matches!(appender.append(&entries(10, 20), &wrong, head(20)), Err(Error::Store { .. })));
    assert_eq!(files(&folder), before);
    appender.append(&entries(10, 20), &[], head(20)).unwrap();
}

/// What is full is neither read nor written again: here it could not be.
#[test]
fn the_work_does_not_grow_with_the_tree() {
    let (_temporary, folder) = folder();
    grown(&folder, &[66_000]);
    let full = || (0..257).flat_map(|index| [None, Some(0)].map(|level| TileId { level, index, width: 256 }));
    for id in full().chain([TileId { level: Some(1), index: 0, width: 256 }]) {
        fs::write(folder.path().join(id.path()), "lost").unwrap();
    }
    let mut appender = folder.resume(head(66_000)).unwrap();
    appender.append(&entries(66_000, 67_000), &[], head(67_000)).unwrap();
    assert!(appender.edge().get(0, 257).is_none(), "full tiles are not kept in memory");
    assert_eq!(appender.edge().get(0, 261).unwrap().width(), 67_000 % 256);
    for id in full() {
        assert_eq!(fs::read(folder.path().join(id.path())).unwrap(), b"lost");
    }
}

#[test]
fn a_disk_that_refuses_loses_nothing() {
    let (_temporary, folder) = folder();
    let mut appender = grown(&folder, &[40]);
    appender.publish(&signer().sign(head(40)), None).unwrap();
    // A folder in the place of a file: nobody can write that, not even root.
    for name in ["tile/0/.000.tmp", "tile/entries/.003.tmp", ".checkpoint.tmp", ".checkpoint-sigstore.tmp"] {
        let obstacle = folder.path().join(name);
        fs::create_dir_all(&obstacle).unwrap();
        let (from, to) = (appender.head().size, appender.head().size + 500);
        let written = appender.append(&entries(from, to), &[], head(to));
        let (checkpoint, sigstore) = (signer().sign(head(to)), sigstore(head(to)));
        let error = written.and_then(|()| appender.publish(&checkpoint, Some(&sigstore))).unwrap_err();
        assert!(matches!(&error, Error::File { path, .. } if *path == obstacle), "{error}");
        fs::remove_dir(&obstacle).unwrap();
        let from = appender.head().size;
        appender.append(&entries(from, to), &[], head(to)).unwrap();
        appender.publish(&signer().sign(head(to)), Some(&sigstore)).unwrap();
        assert_eq!(folder.published_sigstore().unwrap().as_deref(), Some(sigstore.note()));
        assert_eq!(signer().public().open(&folder.published().unwrap().unwrap()).unwrap().head(), head(to));
    }
}

#[test]
fn partial_tiles_stay_while_a_published_head_needs_them() {
    let (_temporary, folder) = folder();
    let mut appender = grown(&folder, &[40, 300, 600]);
    let there = |name: &str| folder.path().join(name).exists();
    // 300 is published, and 600 laid down already.
    appender.forget_partials(300).unwrap();
    assert!(!there("tile/0/000.p") && !there("tile/entries/000.p"));
    assert!(there("tile/0/001.p/44") && there("tile/entries/001.p/44") && there("tile/1/000.p/1"));
    // More than was laid down is not believed.
    appender.forget_partials(10_000).unwrap();
    assert!(!there("tile/0/001.p") && there("tile/0/002.p/88") && there("tile/1/000.p/2"));
    assert_eq!(folder.resume(head(600)).unwrap().head(), head(600));
}

#[test]
fn only_what_is_laid_down_is_published() {
    let (_temporary, folder) = folder();
    let appender = grown(&folder, &[40]);
    assert_eq!(folder.published().unwrap(), None);
    let forked = Head { root: Hash([1; 32]), ..head(40) };
    for head in [head(41), forked] {
        assert!(matches!(appender.publish(&signer().sign(head), None), Err(Error::Store { .. })));
        assert_eq!(folder.published().unwrap(), None);
    }
    for other in [head(39), Head { root: Hash([1; 32]), ..head(40) }] {
        let published = appender.publish(&signer().sign(head(40)), Some(&sigstore(other)));
        assert!(matches!(published, Err(Error::Store { .. })));
        assert_eq!((folder.published().unwrap(), folder.published_sigstore().unwrap()), (None, None));
    }
    for sigstore in [None, Some(&sigstore(head(40))), None] {
        appender.publish(&signer().sign(head(40)), sigstore).unwrap();
    }
    assert_eq!(folder.published().unwrap().unwrap(), signer().sign(head(40)).to_note());
    assert_eq!(folder.published_sigstore().unwrap().as_deref(), Some(sigstore(head(40)).note()));
}

#[test]
fn a_start_with_an_older_or_another_store_is_refused() {
    let (_temporary, folder) = folder();
    let appender = grown(&folder, &[300]);
    let key = signer().public();
    let prove = |old| Ok(tree(400).prove_consistency(old, 400).unwrap());
    assert_eq!(folder.check_published(&key, head(400), prove).unwrap(), None);
    appender.publish(&signer().sign(head(300)), None).unwrap();
    let published = folder.check_published(&key, head(400), prove).unwrap().unwrap();
    assert_eq!(published.head(), head(300));
    folder.check_published(&key, head(300), |_| Ok(Vec::new())).unwrap().unwrap();

    let refused = |key: &LogKey, store, proof: Vec<Hash>| {
        let error = folder.check_published(key, store, |_| Ok(proof)).unwrap_err();
        assert!(matches!(&error, Error::LogForked { path, .. } if path.ends_with("checkpoint")), "{error}");
        error.to_string()
    };
    let older = refused(&key, head(299), Vec::new());
    assert!(older.contains("the world has seen 300") && older.contains("newest copy"), "{older}");
    let forked = refused(&key, Head { root: Hash([1; 32]), size: 300 }, Vec::new());
    assert!(forked.contains("are not those that the store has"), "{forked}");
    let proof = tree(400).prove_consistency(300, 400).unwrap();
    refused(&key, Head { root: Hash([1; 32]), size: 400 }, proof.clone());
    refused(&key, head(400), Vec::new());
    let another_key = LogSigner::from_bytes(key.origin().clone(), &[8; 32]).public();
    refused(&another_key, head(400), proof.clone());
    let another_log = LogSigner::from_bytes(Origin::new("log.example/other").unwrap(), &[7; 32]).public();
    assert!(refused(&another_log, head(400), proof).contains("of the log log.example/test"));
}
