use rutli_keys::KeyName;
use rutli_log::Origin;
use rutli_release::{ReleaseId, Requester};
use rutli_wire::link::{Refusal, RefusalCode};

use super::*;
use crate::{gate::LogState, marks::Novelty, policy::Basis, refusals::CustodianRefusal, testing::release};

fn record(product: &str, sequence: u64, verdict: Verdict) -> JournalRecord {
    let release = release(product, sequence, 1);
    JournalRecord {
        at: 1_000 + sequence,
        release_id: ReleaseId::new("suite-1.0-0123456789ab").unwrap(),
        requester: Requester::new("ci").unwrap(),
        key: KeyName::new("release").unwrap(),
        release_digest: release.digest(),
        class: release.class(),
        product: release.product().clone(),
        channel: release.channel().clone(),
        version: release.version().clone(),
        sequence,
        artifacts: 1,
        verdict,
        basis: None,
        refused_by: Vec::new(),
        statement: [0; 32],
        files: Vec::new(),
    }
}

fn refused(sequence: u64) -> JournalRecord {
    let refusal = Refusal::new(RefusalCode::NotAllowed, "it's \"not\" allowed");
    record("suite", sequence, Verdict::Refused(refusal))
}

async fn rows(journal: &Journal, query: &'static str) -> i64 {
    let mut write = journal.write().await.unwrap();
    let count = sqlx::query(query).fetch_one(write.connection().unwrap()).await.unwrap().get(0);
    write.commit().await.unwrap();
    count
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let (journal, recovered) = Journal::open(&path).await.unwrap();
    assert_eq!((recovered.paused, recovered.newest_at), (None, 0));
    let records = [record("suite", 5, Verdict::Permitted), record("avdb", 7, Verdict::Permitted), refused(6)];
    journal.record(&records.iter().collect::<Vec<_>>(), None).await.unwrap();
    journal.set_paused("audit").await.unwrap();
    // No orderly end: what a killed process leaves is what is in the files now.
    let copy = tempfile::tempdir().unwrap();
    for name in ["node.sqlite", "node.sqlite-wal"] {
        std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let (journal, recovered) = Journal::open(&copy.path().join("node.sqlite")).await.unwrap();
    let mut marks = recovered.marks;
    let suite = release("suite", 5, 1);
    let is_new = |sequence, digest| marks.history(&release("suite", sequence, 1), digest).version_is_new;
    assert!(is_new(5, suite.digest()), "the version of a release that comes again");
    assert!(!is_new(5, [9; 32]), "the same version with other content");
    assert!(is_new(6, [9; 32]), "the version of one that was refused");
    assert_eq!(marks.admit(&suite, suite.digest(), 50).unwrap(), Novelty::Durable);
    assert!(marks.admit(&release("suite", 4, 1), [0; 32], 50).is_err());
    assert!(
        marks.admit(&release("avdb", 7, 1), [0; 32], 50).is_err(),
        "the same sequence with other content"
    );
    assert_eq!((recovered.paused.as_deref(), recovered.newest_at), (Some("audit"), 1_007));
    assert_eq!(recovered.counts, Counts { permitted: 2, refused: 1 });
    assert_eq!(rows(&journal, "SELECT count(*) FROM decisions WHERE verdict = 'not-allowed'").await, 1);
    let digests =
        "SELECT count(*) FROM decisions WHERE length(digest) = 32 AND reason LIKE '%\"not\" allowed'";
    assert_eq!(rows(&journal, digests).await, 1);
}

/// It had a table of its own for the versions.
#[tokio::test]
async fn a_journal_of_an_earlier_version_keeps_its_versions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let (journal, _) = Journal::open(&path).await.unwrap();
    journal.record(&[&record("suite", 5, Verdict::Permitted)], None).await.unwrap();
    let mut write = journal.write().await.unwrap();
    for script in [
        "CREATE TABLE versions (class TEXT, product TEXT, channel TEXT, version TEXT, digest BLOB)",
        "INSERT INTO versions SELECT class, product, channel, version, digest FROM decisions",
        "DELETE FROM _sqlx_migrations WHERE version = 9",
    ] {
        sqlx::query(script).execute(write.connection().unwrap()).await.unwrap();
    }
    write.commit_unsealed().await.unwrap();
    journal.close().await.unwrap();
    let (journal, recovered) = Journal::open(&path).await.unwrap();
    assert_eq!(rows(&journal, "SELECT count(*) FROM sqlite_schema WHERE name = 'versions'").await, 0);
    assert!(!recovered.marks.history(&release("suite", 5, 1), [9; 32]).version_is_new);
}

#[tokio::test]
async fn marks_are_kept_for_the_window_and_refusals_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let window = u64::try_from(limits::RETRY_WINDOW).unwrap();
    let permitted: Vec<_> =
        (1..=window + 40).map(|sequence| record("suite", sequence, Verdict::Permitted)).collect();
    let others = [1, 2, window].map(|sequence| record("avdb", sequence, Verdict::Permitted));
    journal.record(&permitted.iter().chain(&others).collect::<Vec<_>>(), None).await.unwrap();
    let marks = "SELECT count(*) FROM marks WHERE product = 'suite'";
    assert_eq!(rows(&journal, marks).await, i64::try_from(window).unwrap());
    assert_eq!(rows(&journal, "SELECT min(sequence) FROM marks WHERE product = 'suite'").await, 41);
    assert_eq!(
        rows(&journal, "SELECT count(*) FROM marks WHERE product = 'avdb'").await,
        3,
        "each of its own"
    );
    assert_eq!(rows(&journal, "SELECT count(*) FROM decisions").await, i64::try_from(window + 43).unwrap());

    let refusals: Vec<_> = (1..=1_100).map(refused).collect();
    let refusals: Vec<_> = refusals.iter().collect();
    for _ in 0..92 {
        journal.record(&refusals, None).await.unwrap();
    }
    let kept = rows(&journal, "SELECT count(*) FROM decisions WHERE verdict <> 'permitted'").await;
    assert_eq!(kept, i64::from(limits::MAX_JOURNALED_REFUSALS));
    let (_, recovered) = Journal::open(journal.path()).await.unwrap();
    assert_eq!(recovered.counts, Counts { permitted: window + 43, refused: 92 * 1_100 });
}

#[tokio::test]
async fn one_sequence_has_one_content_whatever_goes_wrong_above() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let first = record("suite", 5, Verdict::Permitted);
    journal.record(&[&first], None).await.unwrap();
    journal.record(&[&first], None).await.unwrap();
    let other = JournalRecord { release_digest: [9; 32], ..first.clone() };
    let origin = crate::testing::log_signer().public().origin().clone();
    let state = LogState { newest_at: 9_000, ..LogState::default() };
    let log = Unsaved { origin: origin.clone(), state, revision: 1 };
    let error =
        journal.record(&[&record("suite", 6, Verdict::Permitted), &other], Some(&log)).await.unwrap_err();
    assert!(error.to_string().contains("permitted before with other content"), "{error}");
    // All or none: no line, no mark, and nothing of the log that came with them.
    assert_eq!(rows(&journal, "SELECT max(sequence) FROM marks").await, 5);
    assert_eq!(rows(&journal, "SELECT count(*) FROM decisions WHERE sequence = 6").await, 0);
    assert_eq!(rows(&journal, "SELECT count(*) FROM log_heads").await, 0);
    assert_eq!(journal.log(&origin).await.unwrap().newest_at, 1_005);
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing_and_the_next_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    // A disk that is full, as SQLite sees it: no page may be added.
    let mut write = journal.write().await.unwrap();
    sqlx::query("PRAGMA max_page_count = 1").execute(write.connection().unwrap()).await.unwrap();
    write.commit().await.unwrap();
    let many: Vec<_> = (1..=500).map(|sequence| record("suite", sequence, Verdict::Permitted)).collect();
    let error = journal.record(&many.iter().collect::<Vec<_>>(), None).await.unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    // The failed connection is gone, and with it its limit.
    journal.probe().await.unwrap();
    assert_eq!(rows(&journal, "SELECT count(*) FROM decisions").await, 0);
    assert_eq!(rows(&journal, "SELECT count(*) FROM state WHERE probe IS NOT NULL").await, 0);
    journal.record(&many.iter().collect::<Vec<_>>(), None).await.unwrap();
    assert_eq!(rows(&journal, "SELECT count(*) FROM decisions").await, 500);
}

#[tokio::test]
async fn the_custodian_vouches_for_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let (journal, _) = Journal::open(&path).await.unwrap();
    journal.record(&[&record("suite", 5_000, Verdict::Permitted)], None).await.unwrap();
    let origin = crate::testing::log_signer().public().origin().clone();
    let state = journal.log(&origin).await.unwrap();
    assert_eq!(state.newest_at, 6_000, "cosignatures are not older than decisions");
    let state = LogState { newest_at: 3_000, ..state };
    journal.resume(3_000, &Unsaved { origin, state, revision: 1 }, None).await.unwrap();
    let (_, recovered) = Journal::open(&path).await.unwrap();
    assert_eq!(recovered.newest_at, 3_000);
}

/// One point an hour is kept, over restarts, and none that is later than the custodian says it is.
#[tokio::test]
async fn how_far_the_log_was_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let (journal, _) = Journal::open(&path).await.unwrap();
    let origin = crate::testing::log_signer().public().origin().clone();
    let point = |at, size| crate::gate::Reached { at, size };
    let state = |reached: &[crate::gate::Reached]| LogState {
        newest_at: reached.last().unwrap().at,
        reached: reached.to_vec().into(),
        ..LogState::default()
    };
    let year = limits::REACHED_KEPT_S;
    for all in [
        &[point(5_000, 3)][..],
        &[point(5_000, 3), point(9_000, 3)],
        &[point(9_000, 3), point(year + 6_000, 7)],
    ] {
        let log = Unsaved { origin: origin.clone(), state: state(all), revision: 1 };
        journal.record(&[], Some(&log)).await.unwrap();
    }
    let (journal, _) = Journal::open(&path).await.unwrap();
    let kept = journal.log(&origin).await.unwrap();
    assert_eq!(*kept.reached, [point(9_000, 3), point(year + 6_000, 7)]);
    let other = Origin::new("log.example/other").unwrap();
    assert!(journal.log(&other).await.unwrap().reached.is_empty());
    let resumed = LogState { newest_at: 9_500, reached: vec![point(9_000, 3)].into(), ..kept };
    journal
        .resume(9_500, &Unsaved { origin: origin.clone(), state: resumed, revision: 2 }, None)
        .await
        .unwrap();
    assert_eq!(*journal.log(&origin).await.unwrap().reached, [point(9_000, 3)]);
}

/// A clock that was set back before the restore does not make old cosignatures fresh.
#[tokio::test]
async fn a_restore_is_not_older_than_the_newest_line() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    journal.record(&[&record("suite", 5_000, Verdict::Permitted)], None).await.unwrap();
    let origin = crate::testing::log_signer().public().origin().clone();
    for (clock, since) in [(100, 6_000), (7_000, 7_000)] {
        journal.set_catching_up(&origin, clock).await.unwrap();
        assert_eq!(journal.log(&origin).await.unwrap().catching_up, Some(since));
    }
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    std::fs::write(&path, "not a database, but a text that is long enough to be looked at").unwrap();
    assert!(Journal::open(&path).await.is_err());
}

#[tokio::test]
async fn a_line_says_what_the_decision_rests_on() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let basis =
        Basis { policies: vec!["a".into(), "b\"c".into()], evidence: vec![[1; 32], [2; 32]], rules: [3; 32] };
    let record = JournalRecord { basis: Some(basis), ..record("suite", 5, Verdict::Permitted) };
    journal.record(&[&record, &refused(6)], None).await.unwrap();
    for (query, expected) in [
        ("SELECT count(*) FROM decisions, json_each(policies) WHERE value IN ('a', 'b\"c')", 2),
        ("SELECT count(*) FROM decisions, json_each(evidence) WHERE length(unhex(value)) = 32", 2),
        ("SELECT count(*) FROM decisions WHERE rules = unhex(replace(hex(zeroblob(32)), '00', '03'))", 1),
        ("SELECT count(*) FROM decisions WHERE rules IS NULL AND policies IS NULL AND artifacts = 1", 1),
    ] {
        assert_eq!(rows(&journal, query).await, expected, "{query}");
    }
}

/// Lines of the last hour count by class and product, one that was written twice once, and one that does not say how many
/// files there were as the most.
#[tokio::test]
async fn rates_are_read_from_the_lines_of_the_last_hour() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let at = |at, record: JournalRecord| JournalRecord { at, ..record };
    let old = at(10_000, record("suite", 1, Verdict::Permitted));
    let records =
        [2, 2, 3].map(|sequence| at(20_000 + sequence, record("suite", sequence, Verdict::Permitted)));
    let other = at(20_000, record("avdb", 1, Verdict::Permitted));
    let refused = at(20_000, refused(9));
    for record in records.iter().chain([&old, &other, &refused]) {
        journal.record(&[record], None).await.unwrap();
    }
    let before = |rates: crate::rates::RateCounter, product| {
        let rates = rates.before(&release(product, 99, 1), None, 20_100);
        (rates.releases_in_hour, rates.artifacts_in_hour)
    };
    assert_eq!(before(journal.rates(20_100).await.unwrap(), "suite"), (2, 2));
    assert_eq!(before(journal.rates(20_100).await.unwrap(), "avdb"), (1, 1));
    assert_eq!(before(journal.rates(999_999).await.unwrap(), "suite"), (2, 2), "the clock may be ahead");
    let mut write = journal.write().await.unwrap();
    let before_this_version = sqlx::query("UPDATE decisions SET artifacts = NULL WHERE sequence = 3");
    before_this_version.execute(write.connection().unwrap()).await.unwrap();
    write.commit().await.unwrap();
    assert_eq!(before(journal.rates(20_100).await.unwrap(), "suite"), (2, 5_001));
}

#[tokio::test]
async fn custodians_refusals_are_kept_with_their_files_and_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
    let by = |custodian: &str, document, files: Vec<[u8; 32]>| JournalRecord {
        refused_by: vec![CustodianRefusal {
            statement: [5; 32],
            product: rutli_release::Product::new("suite").unwrap(),
            files,
            custodian: custodian.into(),
            reason: "it's not right".into(),
            document: [document; 32],
        }],
        ..refused(6)
    };
    // The files of [`release`] are 0, 1, 2 …
    let (first, second) = (by("anna", 1, vec![[0; 32], [7; 32]]), by("beat", 2, vec![[1; 32]]));
    journal.record(&[&first, &first, &second], None).await.unwrap();
    let refusals = journal.refusals().await.unwrap();
    let custodian = |files| {
        let refusal = refusals.of(&release("suite", 9, files), &[9; 32]);
        refusal.map(|refusal| refusal.custodian.clone())
    };
    assert_eq!((custodian(1), custodian(2)), (Some("anna".into()), Some("beat".into())));
    assert!(refusals.of(&release("other", 9, 2), &[9; 32]).is_none());
    assert!(refusals.unsaved([[1; 32], [2; 32]].into_iter()).is_empty());
    let mut write = journal.write().await.unwrap();
    sqlx::query(
        "INSERT INTO custodian_refusals (statement, release_id, product, files, custodian, reason, document, at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
        SELECT zeroblob(32), '', 'p', zeroblob(32), '', '', unhex(printf('%064x', i)), 0 FROM n",
    )
    .bind(count(limits::MAX_CUSTODIAN_REFUSALS))
    .execute(write.connection().unwrap())
    .await
    .unwrap();
    write.commit().await.unwrap();
    journal.record(&[&by("anna", 3, vec![[3; 32]])], None).await.unwrap();
    let kept = rows(&journal, "SELECT count(*) FROM custodian_refusals").await;
    assert_eq!(kept, count(limits::MAX_CUSTODIAN_REFUSALS));
    assert_eq!(rows(&journal, "SELECT count(*) FROM custodian_refusals WHERE custodian <> ''").await, 1);
}

#[tokio::test]
async fn files_that_were_permitted_are_in_the_lines_of_their_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let (journal, _) = Journal::open(&path).await.unwrap();
    let of = |sequence, statement: u8, files: Vec<[u8; 32]>| JournalRecord {
        statement: [statement; 32],
        files,
        ..record("suite", sequence, Verdict::Permitted)
    };
    journal.record(&[&of(1, 1, vec![[0; 32]]), &of(2, 2, vec![[0; 32], [1; 32]])], None).await.unwrap();
    journal.record(&[&refused(3)], None).await.unwrap();
    let (journal, _) = Journal::open(&path).await.unwrap();
    let files = journal.refusals().await.unwrap();
    let before = |statement: u8| files.permitted().count(&release("suite", 9, 3), &[statement; 32]);
    assert_eq!([1, 2, 3].map(before), [1, 1, 2], "each but its own");
}
