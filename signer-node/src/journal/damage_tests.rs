//! A damaged journal is refused, or still has its whole content: it never silently loses anything. Every byte
//! of its files is damaged at least once, alone or with its neighbours, and the files are truncated at every
//! block.

use std::fs;

use rutli_keys::NodeId;
use rutli_wire::link::{Refusal, RefusalCode};

use super::{rows::Value, *};
use crate::{
    journal_witness::JournalWitness,
    refusals::CustodianRefusal,
    testing::{entry, gate, log_head, log_signer, permitted_line},
};

/// Blocks of a file that are damaged one after the other: the bytes of one are damaged together.
const BLOCKS: usize = 150;

fn me() -> NodeId {
    NodeId::new("vendor", "vendor-1").unwrap()
}

/// A journal with something in every table, as a killed process leaves it: most of it is in the `-wal` file.
async fn written(folder: &Path) -> (Journal, JournalWitness) {
    let (journal, _) = Journal::open(&folder.join("node.sqlite")).await.unwrap();
    let mut gate = gate(&me());
    for sequence in 1..=6 {
        let entries: Vec<_> = (1..=sequence).map(entry).collect();
        gate.take(Some(&log_head(&entries, sequence - 1)), std::iter::empty(), 1_000 + sequence).unwrap();
        let refusal = Refusal::new(RefusalCode::CustodianRefused, "the changelog");
        let refused_by = CustodianRefusal {
            statement: [u8::try_from(sequence).unwrap(); 32],
            product: rutli_release::Product::new("suite").unwrap(),
            files: vec![[u8::try_from(sequence).unwrap(); 32]],
            custodian: "anna".into(),
            reason: "the changelog".into(),
            document: [u8::try_from(sequence).unwrap(); 32],
        };
        let permitted = permitted_line(sequence);
        let refused = JournalRecord {
            verdict: Verdict::Refused(refusal),
            refused_by: vec![refused_by],
            ..permitted_line(100 + sequence)
        };
        let unsaved = gate.unsaved().unwrap();
        journal.record(&[&permitted, &refused], Some(&unsaved)).await.unwrap();
        gate.settle(&unsaved);
    }
    journal.set_paused("audit").await.unwrap();
    let mut write = journal.write().await.unwrap();
    for script in [
        "INSERT INTO ceremonies (id, proposal, seed, state, accepted_at) VALUES (zeroblob(32), 'p', 's', 'open', 5)",
        "INSERT INTO ceremony_messages VALUES (zeroblob(32), 'vendor/vendor-1', 'commit', 'm')",
        "INSERT INTO log_vouches (at, origin, size, root, own_size, own_root) VALUES (1, 'o', 1, zeroblob(32), 0, zeroblob(32))",
    ] {
        let script = script.replace("'p'", "x'70'").replace("'s',", "x'73',").replace("'m'", "x'6d'");
        sqlx::query(sqlx::AssertSqlSafe(script)).execute(write.connection().unwrap()).await.unwrap();
    }
    write.commit().await.unwrap();
    let witness = JournalWitness::new(folder.join("witness/journal"), me());
    witness.write(&journal.point().borrow()).unwrap();
    (journal, witness)
}

/// Everything that a node reads from its journal, or why it reads nothing.
async fn taken(folder: &Path, witness: &JournalWitness) -> Result<String, String> {
    let opened = Journal::open(&folder.join("node.sqlite")).await;
    let (journal, recovered) = opened.map_err(|error| error.to_string())?;
    let everything = async {
        let Recovered { marks, paused, newest_at, counts } = &recovered;
        let highest: Vec<_> = marks.highest().map(|highest| format!("{highest:?}")).collect();
        let mut all = format!("{highest:?} {paused:?} {newest_at} {counts:?}");
        let rates = journal.rates(1_100).await.map_err(|error| error.to_string())?;
        let refusals = journal.refusals().await.map_err(|error| error.to_string())?;
        let log = journal.log(log_signer().public().origin()).await.map_err(|error| error.to_string())?;
        let none = crate::testing::release("other", 1, 1);
        let refused = (1..=6).filter(|statement| refusals.of(&none, &[*statement; 32]).is_some()).count();
        all += &format!("{rates:?} {refused} {log:?}");
        let mut write = journal.write().await.map_err(|error| error.to_string())?;
        for table in
            ["decisions", "marks", "custodian_refusals", "ceremonies", "ceremony_messages", "log_vouches"]
        {
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM {table}")))
                .fetch_all(write.connection().unwrap())
                .await
                .map_err(|error| error.to_string())?;
            let rows: Result<Vec<_>, _> = rows.iter().map(Value::read_all).collect();
            all += &format!("{:?}", rows.map_err(|error| error.to_string())?);
        }
        write.commit().await.map_err(|error| error.to_string())?;
        match witness.lost(&journal, true).await.map_err(|error| error.to_string())? {
            Some(lost) => Err(lost.reason()),
            None => Ok(all),
        }
    };
    let all = everything.await;
    // What cannot be closed was said already.
    _ = journal.close().await;
    all
}

/// The files of a journal.
fn files(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let names = ["node.sqlite", "node.sqlite-wal"];
    names.iter().filter_map(|name| Some((*name, fs::read(folder.join(name)).ok()?))).collect()
}

/// How a file is damaged: each block flipped, one bit of each block, and cut short at each of them.
fn damages(content: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let size = content.len().div_ceil(BLOCKS);
    (0..content.len()).step_by(size).flat_map(move |from| {
        let (to, number) = (content.len().min(from + size), from / size);
        let mut block = content.to_vec();
        block[from..to].iter_mut().for_each(|byte| *byte ^= 0xff);
        let mut bit = content.to_vec();
        // Another place in each block, so that all kinds of fields have their turn.
        bit[from + (number * 37) % (to - from)] ^= 1 << (number % 8);
        [
            (format!("bytes {from} to {to} flipped"), block),
            (format!("a bit from {from} on flipped"), bit),
            (format!("cut at {from}"), content[..from].to_vec()),
        ]
    })
}

async fn damaged_everywhere(whole: &[(&'static str, Vec<u8>)], witness: &JournalWitness, expected: &str) {
    let (mut same, mut refused) = (0, 0);
    for (name, content) in whole {
        for (what, damaged) in damages(content) {
            let folder = tempfile::tempdir().unwrap();
            for (other, content) in whole {
                let content = if other == name { &damaged } else { content };
                fs::write(folder.path().join(other), content).unwrap();
            }
            match taken(folder.path(), witness).await {
                Ok(all) => {
                    assert_eq!(all, expected, "{name}, {what}: another state, and nobody said so");
                    same += 1;
                }
                Err(why) => {
                    assert!(why.len() > 10, "{name}, {what}: {why}");
                    refused += 1;
                }
            }
        }
    }
    println!("{same} times the same state, {refused} times refused");
    assert!(refused > 100);
}

/// One file, as a clean stop leaves it.
#[tokio::test]
async fn one_file_is_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, witness) = written(folder.path()).await;
    journal.stop().await.unwrap();
    let whole = files(folder.path());
    assert_eq!(whole.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["node.sqlite"]);
    let expected = taken(folder.path(), &witness).await.unwrap();
    damaged_everywhere(&whole, &witness, &expected).await;
}

/// Two files, as a killed process leaves them. SQLite drops what follows a damaged place of the `-wal` file: the witness
/// tells that something is missing.
#[tokio::test]
async fn two_files_are_whole_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, witness) = written(folder.path()).await;
    let whole = files(folder.path());
    assert_eq!(whole.len(), 2);
    let copy = tempfile::tempdir().unwrap();
    for (name, content) in &whole {
        fs::write(copy.path().join(name), content).unwrap();
    }
    let expected = taken(copy.path(), &witness).await.unwrap();
    damaged_everywhere(&whole, &witness, &expected).await;
    // The main file without the other, as a careless copy takes it.
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join("node.sqlite"), &whole[0].1).unwrap();
    let why = taken(copy.path(), &witness).await.unwrap_err();
    assert!(why.contains("is empty, and this node has a witness"), "{why}");
    journal.close().await.unwrap();
}

/// Pages of two times in one file, each of them sound: a copy that was made while the node wrote.
#[tokio::test]
async fn pages_of_two_times_are_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, witness) = written(folder.path()).await;
    journal.close().await.unwrap();
    let old = fs::read(folder.path().join("node.sqlite")).unwrap();
    journal.record(&[&permitted_line(7)], None).await.unwrap();
    journal.set_paused("another audit").await.unwrap();
    witness.write(&journal.point().borrow()).unwrap();
    journal.close().await.unwrap();
    let new = fs::read(folder.path().join("node.sqlite")).unwrap();
    let expected = taken(folder.path(), &witness).await.unwrap();
    let (mut refused, mut differing) = (0, 0);
    for from in (0..old.len().min(new.len())).step_by(4096) {
        let to = from + 4096;
        if old[from..to] == new[from..to] {
            continue;
        }
        differing += 1;
        let mut mixed = new.clone();
        mixed[from..to].copy_from_slice(&old[from..to]);
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("node.sqlite"), mixed).unwrap();
        match taken(copy.path(), &witness).await {
            Ok(all) => assert_eq!(all, expected, "page {}", from / 4096),
            Err(_) => refused += 1,
        }
    }
    println!("{refused} of {differing} mixed files refused");
    assert!(refused >= 3);
}

/// What somebody does with a tool of SQLite's, so that the file is sound.
#[tokio::test]
async fn a_row_that_was_changed_added_or_taken_away_is_found() {
    for change in [
        "DELETE FROM decisions WHERE id = 1",
        "DELETE FROM decisions WHERE id = (SELECT max(id) FROM decisions)",
        "DELETE FROM decisions WHERE verdict <> 'permitted'",
        "DELETE FROM decisions",
        "UPDATE decisions SET reason = 'x' WHERE id = 2",
        "UPDATE decisions SET digest = zeroblob(32) WHERE id = 3",
        "UPDATE decisions SET verdict = 'not-allowed' WHERE id = 1",
        "UPDATE decisions SET rules = zeroblob(32) WHERE id = 1",
        // The newest of each chain: no line after it carries its hash.
        "UPDATE decisions SET rules = zeroblob(32) WHERE id = (SELECT max(id) FROM decisions WHERE verdict = 'permitted')",
        "UPDATE decisions SET reason = 'x' WHERE id = (SELECT max(id) FROM decisions WHERE verdict <> 'permitted')",
        "UPDATE custodian_refusals SET custodian = 'beat' WHERE id = (SELECT max(id) FROM custodian_refusals)",
        "INSERT INTO decisions SELECT 99, at, release_id, requester, key, digest, class, product, channel, version, sequence,
            verdict, reason, artifacts, policies, evidence, rules, before, statement, files FROM decisions WHERE id = 1",
        "UPDATE decisions SET files = randomblob(16) WHERE id = 1",
        "UPDATE custodian_refusals SET files = zeroblob(32) WHERE id = 2",
        "DELETE FROM marks WHERE sequence = 6",
        "UPDATE marks SET at = 1 WHERE sequence = 6",
        "INSERT INTO marks VALUES ('product-build', 'suite', 'beta', 1, zeroblob(32), '1', 1)",
        "DELETE FROM custodian_refusals WHERE id = 1",
        "DELETE FROM custodian_refusals WHERE id = 6",
        "UPDATE custodian_refusals SET custodian = 'beat' WHERE id = 2",
        "UPDATE state SET paused = NULL",
        "UPDATE state SET newest_at = 0",
        "UPDATE state SET permitted = 5",
        "UPDATE log_heads SET catching_up = 5",
        "UPDATE log_heads SET note = ''",
        "DELETE FROM log_heads",
        "DELETE FROM log_vouches",
        "DELETE FROM ceremony_messages",
        "UPDATE ceremonies SET seed = NULL",
        "DELETE FROM memory",
        "UPDATE memory SET seal = zeroblob(32)",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (journal, witness) = written(folder.path()).await;
        let mut write = journal.write().await.unwrap();
        sqlx::query(change).execute(write.connection().unwrap()).await.unwrap();
        write.commit_unsealed().await.unwrap();
        journal.close().await.unwrap();
        let why = taken(folder.path(), &witness).await.expect_err(change);
        println!("{change}: {why}");
    }
}
