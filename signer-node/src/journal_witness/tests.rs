use rutli_wire::link::{Refusal, RefusalCode};

use super::*;
use crate::{
    sign::{JournalRecord, Verdict},
    testing::{PATIENCE, entry, gate, log_head, permitted_line},
};

struct Desk {
    folder: tempfile::TempDir,
    witness: JournalWitness,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeId::new("vendor", "vendor-1").unwrap();
        let witness = JournalWitness::new(folder.path().join("elsewhere/journal"), node);
        Self { folder, witness }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("node.sqlite")
    }

    async fn open(&self) -> Journal {
        Journal::open(&self.path()).await.unwrap().0
    }

    /// One permission, one refusal, one more head.
    async fn work(&self, journal: &Journal, sequence: u64) {
        let refusal = Refusal::new(RefusalCode::NotAllowed, "it is not");
        let permitted = permitted_line(sequence);
        let refused = JournalRecord { verdict: Verdict::Refused(refusal), ..permitted_line(sequence) };
        let mut gate = gate(&NodeId::new("vendor", "vendor-1").unwrap());
        let entries: Vec<_> = (1..=sequence).map(entry).collect();
        gate.take(Some(&log_head(&entries, 0)), std::iter::empty(), 1_000 + sequence).unwrap();
        journal.record(&[&permitted, &refused], gate.unsaved().as_ref()).await.unwrap();
    }

    async fn lost(&self) -> Option<Lost> {
        let journal = self.open().await;
        let lost = self.witness.lost(&journal, true).await.unwrap();
        journal.close().await.unwrap();
        lost
    }
}

/// A journal that is one line behind, or has as many lines but other ones, is reported. One that is ahead, as
/// after a crash, is valid.
#[tokio::test]
async fn an_old_copy_and_another_history_are_told_from_the_newest() {
    let desk = Desk::new();
    let journal = desk.open().await;
    desk.work(&journal, 1).await;
    let early = journal.point().borrow().clone();
    journal.close().await.unwrap();
    let old = fs::read(desk.path()).unwrap();
    let journal = desk.open().await;
    desk.work(&journal, 2).await;
    let late = journal.point().borrow().clone();
    journal.close().await.unwrap();
    let newest = fs::read(desk.path()).unwrap();

    desk.witness.write(&late).unwrap();
    assert_eq!(desk.lost().await, None);
    desk.witness.write(&early).unwrap();
    assert_eq!(desk.lost().await, None, "a crash before the witness was written again");
    desk.witness.write(&late).unwrap();
    fs::write(desk.path(), &old).unwrap();
    let lost = desk.lost().await.unwrap();
    assert!(matches!(lost, Lost::Behind { what: "permissions", journal: 1, known: 2, .. }), "{lost}");
    // The old copy continues on its own: as many lines, but different ones.
    let journal = desk.open().await;
    desk.work(&journal, 3).await;
    journal.close().await.unwrap();
    let lost = desk.lost().await.unwrap();
    assert!(matches!(lost, Lost::Differs { what: "permissions", .. }), "{lost}");
    let journal = desk.open().await;
    desk.work(&journal, 4).await;
    journal.close().await.unwrap();
    let lost = desk.lost().await.unwrap();
    assert!(
        matches!(lost, Lost::Differs { what: "permissions", .. }),
        "more lines, and not the same: {lost}"
    );
    fs::write(desk.path(), &newest).unwrap();
    assert_eq!(desk.lost().await, None);

    for (point, expected) in [
        (Point { refused: Chain { count: 9, ..late.refused }, ..late.clone() }, "refusals"),
        (Point { custodians: Chain { count: 9, ..late.custodians }, ..late.clone() }, "custodians' refusals"),
        (Point { heads: heads(&late, 9), ..late.clone() }, "entries of its log"),
        (Point { changes: 9, ..late.clone() }, "other changes"),
    ] {
        desk.witness.write(&point).unwrap();
        let lost = desk.lost().await.unwrap();
        assert!(matches!(&lost, Lost::Behind { what, known: 9, .. } if *what == expected), "{lost}");
    }
    let other = Hash([9; 32]);
    let root =
        |size| heads(&late, size).into_keys().map(|origin| (origin, Head { size, root: other })).collect();
    for point in [
        Point { refused: Chain { head: other, ..late.refused }, ..late.clone() },
        Point { custodians: Chain { head: other, ..late.custodians }, ..late.clone() },
        Point { permitted: Chain { head: other, ..late.permitted }, ..late.clone() },
        Point { heads: root(2), ..late.clone() },
    ] {
        desk.witness.write(&point).unwrap();
        let lost = desk.lost().await.unwrap();
        assert!(matches!(lost, Lost::Differs { .. }), "{lost}");
    }
    desk.witness.write(&Point { journal: other, ..late }).unwrap();
    assert!(matches!(desk.lost().await.unwrap(), Lost::Other { .. }));
}

fn heads(point: &Point, size: u64) -> BTreeMap<String, Head> {
    point.heads.iter().map(|(origin, head)| (origin.clone(), Head { size, ..*head })).collect()
}

/// Every byte of it counts: with one byte changed or missing it is no longer a witness.
#[tokio::test]
async fn a_damaged_witness_says_nothing() {
    let desk = Desk::new();
    let journal = desk.open().await;
    desk.work(&journal, 1).await;
    let lost = desk.witness.lost(&journal, false).await.unwrap();
    assert!(matches!(lost, Some(Lost::NoWitness { .. })), "{lost:?}");
    desk.witness.write(&journal.point().borrow()).unwrap();
    assert_eq!(desk.witness.lost(&journal, true).await.unwrap(), None);
    let whole = fs::read(desk.witness.path()).unwrap();
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        for damaged in [&flipped[..], &whole[..place]] {
            fs::write(desk.witness.path(), damaged).unwrap();
            let lost = desk.witness.lost(&journal, true).await.unwrap();
            assert!(matches!(lost, Some(Lost::Unreadable { .. })), "byte {place}: {lost:?}");
        }
    }
    let other = NodeId::new("vendor", "vendor-2").unwrap();
    fs::write(desk.witness.path(), &whole).unwrap();
    let lost = JournalWitness::new(desk.witness.path().to_owned(), other).lost(&journal, true).await.unwrap();
    assert!(
        matches!(&lost, Some(Lost::Unreadable { problem, .. }) if problem.contains("vendor-1")),
        "{lost:?}"
    );
}

/// It follows the journal once that is accepted, reports when it cannot be written, and recovers
/// automatically.
#[tokio::test]
async fn it_follows_an_accepted_journal_and_says_when_it_cannot() {
    let desk = Desk::new();
    let journal = desk.open().await;
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(desk.witness.clone().keep(journal.clone(), stop.clone()));
    desk.work(&journal, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!desk.witness.path().exists(), "nobody accepted this journal");
    journal.accept();
    let until = async |done: &dyn Fn() -> bool| {
        let begun = tokio::time::Instant::now();
        while !done() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let knows = |count| {
        let known = desk.witness.read().ok().flatten();
        known.is_some_and(|point| point.permitted.count == count)
    };
    until(&|| knows(1)).await;
    // Nothing can be put in the place of a folder.
    fs::remove_file(desk.witness.path()).unwrap();
    fs::create_dir(desk.witness.path()).unwrap();
    desk.work(&journal, 2).await;
    until(&|| journal.witness_problem().is_some()).await;
    fs::remove_dir(desk.witness.path()).unwrap();
    until(&|| journal.witness_problem().is_none() && knows(2)).await;
    stop.cancel();
    keeper.await.unwrap();
}
