//! The node's journal: one SQLite file (WAL, `synchronous=FULL`), one writer.
//!
//! [`Journal::record`] puts the decisions of all batches that wait, and the head of the log that they rest on, into one
//! transaction: one fsync. What it has
//! confirmed survives `kill -9` and power loss; what it has not confirmed may be there or not, and nothing has left the
//! node for it. After any failure the connection is thrown away, for after a failed fsync nobody knows what the system
//! has kept; the next use opens the file anew and finds its last durable state.
//!
//! Key ceremonies keep their rows in the same file, see [`crate::ceremonies`].

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions as _, Connection as _, QueryBuilder, Row as _, SqlSafeStr as _, Sqlite, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    error::Error,
    gate::Unsaved,
    limits,
    marks::Marks,
    sign::{JournalRecord, Verdict},
};

mod decisions;
mod log;

/// The journal; clones share it.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// `None` after a failure.
    connection: Mutex<Option<SqliteConnection>>,
    /// Since the last look for old ones.
    refusals: AtomicU32,
}

/// What a journal held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Of every channel.
    pub marks: Marks,
    /// The custodian's reason, if the node was paused.
    pub paused: Option<String>,
    /// Unix seconds of the newest decision or cosignature, 0 if there is none.
    pub newest_at: u64,
    /// Decisions so far.
    pub counts: Counts,
}

/// Decisions since the journal began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Permitted releases.
    pub permitted: u64,
    /// Refused ones, also those that are no longer kept.
    pub refused: u64,
}

impl Journal {
    /// Opens or creates the file and brings it to this version.
    pub async fn open(path: &Path) -> Result<(Self, Recovered), Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(2))
            .statement_cache_capacity(32)
            .thread_name(|_| "journal".into())
            // KiB, negative by SQLite's own rule: the node's memory is for nonces.
            .pragma("cache_size", "-1024")
            .pragma("temp_store", "MEMORY")
            // Sealed seeds of ended ceremonies are overwritten, not just unlinked.
            .pragma("secure_delete", "ON")
            .pragma("journal_size_limit", "16777216")
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        let broken = |error: sqlx::migrate::MigrateError| Error::Migration {
            path: path.to_path_buf(),
            problem: error.to_string(),
        };
        migrations().run_direct(None, &mut connection, false).await.map_err(broken)?;
        let recovered = recover(&mut connection).await?;
        let inner = Inner {
            path: path.to_path_buf(),
            options,
            connection: Mutex::new(Some(connection)),
            refusals: AtomicU32::new(0),
        };
        Ok((Self(Arc::new(inner)), recovered))
    }

    /// Makes decisions durable, and what is `log`ged that they rest on, all or none. When this returns `Ok`, shares and
    /// cosignatures may leave.
    ///
    /// One script, and so one way to the thread that has the file: each further one is two changes of threads in the
    /// middle of a release.
    pub async fn record(&self, records: &[&JournalRecord], log: Option<&Unsaved>) -> Result<(), Error> {
        if records.is_empty() && log.is_none() {
            return Ok(());
        }
        let mut script = QueryBuilder::new("BEGIN IMMEDIATE;");
        if let Some(log) = log {
            log::keep(&mut script, log);
        }
        if let Some(newest_at) = records.iter().map(|record| record.at).max() {
            self.record_decisions(&mut script, records, newest_at);
        }
        // A crash before this line: nothing was decided, and the head is the old one. After it: the marks and the head
        // stand, and the same release may come again with the same content.
        script.push("COMMIT;");
        self.take().await?.run(script).await
    }

    fn record_decisions(
        &self,
        script: &mut QueryBuilder<Sqlite>,
        records: &[&JournalRecord],
        newest_at: u64,
    ) {
        let permitted: Vec<_> =
            records.iter().copied().filter(|record| record.verdict == Verdict::Permitted).collect();
        let refused = records.len() - permitted.len();
        decisions::insert(script, records);
        if !permitted.is_empty() {
            decisions::raise_marks(script, &permitted);
        }
        decisions::keep_refusals(script, records);
        script.push("UPDATE state SET newest_at = max(newest_at, ").push_bind(integer(newest_at));
        script.push("), permitted = permitted + ").push_bind(count(permitted.len()));
        script.push(", refused = refused + ").push_bind(count(refused)).push(";");
        if self.is_time_to_prune(refused) {
            decisions::prune(script);
        }
    }

    /// Keeps a pause over restarts, until [`Journal::resume`].
    pub async fn set_paused(&self, reason: &str) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET paused = $1").bind(reason).execute(write.connection()?).await?;
        write.commit().await
    }

    /// Whether a write of some size succeeds, and leaves no trace.
    pub async fn probe(&self) -> Result<(), Error> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET probe = zeroblob($1)")
            .bind(limits::PROBE_BYTES)
            .execute(write.connection()?)
            .await?;
        write.commit().await?;
        let mut write = self.write().await?;
        sqlx::query("UPDATE state SET probe = NULL").execute(write.connection()?).await?;
        write.commit().await
    }

    /// Begins a transaction. One at a time; dropped without [`Write::commit`] it never happened.
    pub(crate) async fn write(&self) -> Result<Write<'_>, Error> {
        let mut write = self.take().await?;
        sqlx::query("BEGIN IMMEDIATE").execute(write.connection()?).await?;
        Ok(write)
    }

    async fn take(&self) -> Result<Write<'_>, Error> {
        let mut slot = self.0.connection.lock().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => self.0.options.connect().await?,
        };
        Ok(Write { connection: Some(connection), slot })
    }

    fn is_time_to_prune(&self, fresh: usize) -> bool {
        let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
        let since = self.0.refusals.fetch_add(fresh, Ordering::Relaxed).saturating_add(fresh);
        let is_time = since >= limits::REFUSALS_BETWEEN_PRUNES;
        if is_time {
            self.0.refusals.store(0, Ordering::Relaxed);
        }
        is_time
    }

    /// Waits until the file is closed; a journal that is only dropped closes a little later, on a thread of its own.
    /// Whoever uses it afterwards opens it again.
    pub async fn close(&self) -> Result<(), Error> {
        match self.0.connection.lock().await.take() {
            Some(connection) => Ok(connection.close().await?),
            None => Ok(()),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// A transaction under way.
pub(crate) struct Write<'a> {
    /// Only a committed transaction puts it back.
    connection: Option<SqliteConnection>,
    slot: MutexGuard<'a, Option<SqliteConnection>>,
}

impl Write<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, Error> {
        self.connection.as_mut().ok_or(Error::Journal(sqlx::Error::WorkerCrashed))
    }

    /// Durable when this returns `Ok`.
    pub(crate) async fn commit(self) -> Result<(), Error> {
        self.run(QueryBuilder::new("COMMIT")).await
    }

    /// A script that ends the transaction. Only one that succeeded to its end gives the connection back.
    async fn run(mut self, mut script: QueryBuilder<Sqlite>) -> Result<(), Error> {
        script.build().execute(self.connection()?).await?;
        *self.slot = self.connection.take();
        Ok(())
    }
}

fn migrations() -> Migrator {
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let all = [
        (1, "journal", include_str!("../migrations/0001_journal.sql")),
        (2, "log", include_str!("../migrations/0002_log.sql")),
        (3, "vouched", include_str!("../migrations/0003_vouched.sql")),
        (4, "policy", include_str!("../migrations/0004_policy.sql")),
        (6, "channels", include_str!("../migrations/0006_channels.sql")),
    ];
    Migrator::with_migrations(all.into_iter().map(migration).collect())
}

async fn recover(connection: &mut SqliteConnection) -> Result<Recovered, Error> {
    let state = sqlx::query("SELECT paused, newest_at, permitted, refused FROM state")
        .fetch_one(&mut *connection)
        .await?;
    Ok(Recovered {
        marks: decisions::marks(connection).await?,
        paused: state.try_get(0)?,
        newest_at: unsigned(state.try_get(1)?)?,
        counts: Counts { permitted: unsigned(state.try_get(2)?)?, refused: unsigned(state.try_get(3)?)? },
    })
}

/// Sequences and times are below 2^53, counts far below: none is ever cut.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::JournalRow(format!("{number} is negative")))
}

#[cfg(test)]
mod tests {
    use rutli_keys::KeyName;
    use rutli_release::{ReleaseId, Requester};
    use rutli_wire::link::{Refusal, RefusalCode};

    use super::*;
    use crate::{
        gate::LogState, marks::Novelty, policy::Basis, refusals::CustodianRefusal, testing::release,
    };

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
            refused_by: None,
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
        let records =
            [record("suite", 5, Verdict::Permitted), record("avdb", 7, Verdict::Permitted), refused(6)];
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
        assert_eq!(
            rows(&journal, "SELECT count(*) FROM decisions").await,
            i64::try_from(window + 43).unwrap()
        );

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
        let basis = Basis {
            policies: vec!["a".into(), "b\"c".into()],
            evidence: vec![[1; 32], [2; 32]],
            rules: [3; 32],
        };
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
    async fn custodians_refusals_are_kept_the_first_of_each_statement_and_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&folder.path().join("node.sqlite")).await.unwrap();
        let by = |custodian: &str, statement| JournalRecord {
            refused_by: Some(CustodianRefusal {
                statement: [statement; 32],
                custodian: custodian.into(),
                reason: "it's not right".into(),
                document: [9; 32],
            }),
            ..refused(6)
        };
        journal.record(&[&by("anna", 1), &by("beat", 1), &by("beat", 2)], None).await.unwrap();
        let refusals = journal.refusals().await.unwrap();
        let found = [1, 2].map(|statement| refusals.get(&[statement; 32]).unwrap());
        assert_eq!(
            found.map(|(refusal, durable)| (refusal.custodian.as_str(), durable)),
            [("anna", true), ("beat", true)]
        );
        let mut write = journal.write().await.unwrap();
        sqlx::query(
            "INSERT INTO custodian_refusals (statement, release_id, custodian, reason, document, at)
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
            SELECT unhex(printf('%064x', i)), '', '', '', zeroblob(32), 0 FROM n",
        )
        .bind(count(limits::MAX_CUSTODIAN_REFUSALS))
        .execute(write.connection().unwrap())
        .await
        .unwrap();
        write.commit().await.unwrap();
        journal.record(&[&by("anna", 3)], None).await.unwrap();
        let kept = rows(&journal, "SELECT count(*) FROM custodian_refusals").await;
        assert_eq!(kept, count(limits::MAX_CUSTODIAN_REFUSALS));
        assert_eq!(
            rows(&journal, "SELECT count(*) FROM custodian_refusals WHERE custodian = 'anna'").await,
            1
        );
    }
}
