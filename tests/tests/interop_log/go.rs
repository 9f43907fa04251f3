//! A log's folder, read by Go.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use rutli_log::Code;
use rutli_tests::{cluster::process::program, stock::go::reads};
use serde_json::Value;

use crate::made::MadeLog;

#[test]
fn go_reads_every_entry_of_a_log_and_proves_consistency() {
    for size in [1, 2, 255, 256, 257, 300, 700] {
        let log = MadeLog::new("https://log.example.com", size);
        let folder = log.write_folder();
        let found = reads(&folder, &log.vkey()).unwrap();
        let head = log.head(size);
        assert_eq!(found["origin"], "log.example.com/2026");
        assert_eq!(found["size"], size);
        assert_eq!(found["root"], head.root.to_base64());
        assert_eq!(found["included"], size);
        assert_eq!(found["consistent"].as_array().unwrap().is_empty(), size == 1);
    }
}

/// Each of these alone, in a log of 300: the first full tile is one that Go's reader accepted forged before golang/go#80744
/// (CVE-2026-56865) was mended, because several subtrees at the edge of this tree lie in one tile.
#[test]
fn go_refuses_what_was_forged() {
    let log = MadeLog::new("https://log.example.com", 300);
    let folder = log.write_folder();
    reads(&folder, &log.vkey()).unwrap();
    assert_eq!(monitor_finds(&log, &folder), BTreeSet::new());
    type Forgery<'a> = (&'a str, Code, &'a dyn Fn(&Path));
    let forgeries: [Forgery<'_>; 8] = [
        ("an entry", Code::EntryForged, &|folder| {
            change(folder, "tile/entries/000", |bytes| bytes[100] ^= 1)
        }),
        ("a full tile", Code::TileForged, &|folder| change(folder, "tile/0/000", |bytes| bytes[32 * 7] ^= 1)),
        ("a partial tile", Code::TileForged, &|folder| {
            change(folder, "tile/0/001.p/44", |bytes| bytes[0] ^= 1)
        }),
        ("a tile above", Code::TileForged, &|folder| change(folder, "tile/1/000.p/1", |bytes| bytes[0] ^= 1)),
        ("a tile cut", Code::TileForged, &|folder| {
            change(folder, "tile/0/000", |bytes| bytes.truncate(32 * 200))
        }),
        ("an entry with its hash in the tile", Code::HeadInconsistent, &forge_entry),
        ("the checkpoint", Code::CheckpointInvalid, &|folder| {
            let path = folder.join("checkpoint");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(path, text.replacen("\n300\n", "\n299\n", 1)).unwrap();
        }),
        ("no tile", Code::TileMissing, &|folder| fs::remove_file(folder.join("tile/0/000")).unwrap()),
    ];
    for (what, code, forge) in forgeries {
        let folder = log.write_folder();
        forge(&folder);
        let refused = reads(&folder, &log.vkey());
        println!("{what}: {refused:?}");
        assert!(refused.is_err(), "{what} was accepted");
        assert_eq!(monitor_finds(&log, &folder), BTreeSet::from([code.as_str().to_owned()]), "{what}");
    }
    let other = MadeLog::other_vkey();
    assert!(reads(&log.write_folder(), &other).is_err());
}

/// What `rutli log monitor --once` finds; but for what it says of each entry, which is a signature that no request led to.
fn monitor_finds(log: &MadeLog, folder: &Path) -> BTreeSet<String> {
    let key = log.path("log.vkey");
    fs::write(&key, log.vkey()).unwrap();
    let state = tempfile::tempdir().unwrap();
    let monitor = Command::new(program("rutli"))
        .args(["--json", "log", "monitor", "--once", "--documents", "none", "--max-age", "0", "--log"])
        .arg(folder)
        .arg("--key")
        .arg(key)
        .arg("--state")
        .arg(state.path().join("state"))
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&monitor.stdout).unwrap();
    assert_eq!(monitor.status.code(), Some(1), "{said:#}");
    let codes = said["findings"].as_array().unwrap().iter().map(|found| found["code"].as_str().unwrap());
    let of_entries = [Code::DsseWithoutOutcome, Code::KeyUnknown].map(Code::as_str);
    codes.filter(|code| !of_entries.contains(code)).map(str::to_owned).collect()
}

fn change(folder: &Path, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(name);
    let mut bytes = fs::read(&path).unwrap();
    edit(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The forger's whole work: another entry 7, and its hash where it belongs.
fn forge_entry(folder: &Path) {
    let mut forged = Vec::new();
    change(folder, "tile/entries/000", |bytes| {
        let mut start = 0;
        for _ in 0..7 {
            start += 2 + usize::from(u16::from_be_bytes([bytes[start], bytes[start + 1]]));
        }
        let length = usize::from(u16::from_be_bytes([bytes[start], bytes[start + 1]]));
        bytes[start + 2 + 40] ^= 1;
        forged = bytes[start + 2..start + 2 + length].to_vec();
    });
    change(folder, "tile/0/000", |bytes| {
        bytes[32 * 7..32 * 8].copy_from_slice(rutli_log::leaf_hash(&forged).as_bytes());
    });
}
