//! How fast the log is written, and whether that depends on how long it is.
//!
//! The real store, sequencer and folder, in one process: entries in group commits with their fsyncs, the signed head
//! swapped in each; then tiles, bundles and `checkpoint`, as the publisher's rounds do. Nothing else: no release, no node.

use anyhow::{Result, ensure};
use rutli_coordinator::{log::folder::Appender, store::Store};
use rutli_keys::NodeId;
use rutli_log::{LogSigner, Origin};
use serde::Serialize;
use tempfile::TempDir;

use crate::{clock::Stopwatch, stats::float64};

/// Entries that are timed at each length: seconds of work, so that the few rounds that fall into it weigh the same.
const TIMED: u64 = 100_000;

/// Entries of a round: as many as a busy quarter of a second brings.
const ROUND: u64 = 4_096;

/// Changes that wait for the store at a time.
const AT_ONCE: u64 = 256;

/// Entries per second at two lengths of one log.
#[derive(Clone, Debug, Serialize)]
pub struct LogSpeed {
    /// From a thousand entries on.
    pub short: f64,
    /// From a million entries on.
    pub long: f64,
}

/// Writes a log of a million entries, and times it at its beginning and its end. The beginning is timed on two logs,
/// before and after, for a machine changes its pace.
///
/// # Errors
/// The store or the folder fails.
pub async fn measure() -> Result<LogSpeed> {
    let mut log = Log::open().await?;
    log.grow(1_000).await?;
    let before = log.timed().await?;
    log.grow(1_000_000 - log.size()).await?;
    let long = log.timed().await?;
    drop(log);
    let mut again = Log::open().await?;
    again.grow(1_000).await?;
    let after = again.timed().await?;
    Ok(LogSpeed { short: f64::midpoint(before, after), long })
}

struct Log {
    _dir: TempDir,
    store: Store,
    appender: Appender,
    next: u64,
}

impl Log {
    async fn open() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("rutli-bench-").tempdir()?;
        let signer = LogSigner::from_bytes(Origin::new("log.bench/1")?, &[7; 32]);
        let (store, appender) =
            Store::open(&dir.path().join("data"), signer, &dir.path().join("log")).await?;
        Ok(Self { _dir: dir, store, appender, next: 0 })
    }

    fn size(&self) -> u64 {
        self.store.log().newest().head().size
    }

    /// Entries per second over the next [`TIMED`].
    async fn timed(&mut self) -> Result<f64> {
        let watch = Stopwatch::start();
        self.grow(TIMED).await?;
        Ok(float64(TIMED) / watch.elapsed().as_secs_f64())
    }

    async fn grow(&mut self, by: u64) -> Result<()> {
        let mut left = by;
        while left > 0 {
            let round = left.min(ROUND);
            for _ in 0..round.div_ceil(AT_ONCE) {
                let group = left.min(AT_ONCE);
                self.append(group).await?;
                left -= group;
            }
            self.publish().await?;
        }
        Ok(())
    }

    /// So many entries of the size of a request's, that wait together.
    async fn append(&mut self, count: u64) -> Result<()> {
        let (store, mut appending) = (&self.store, Vec::new());
        for number in self.next..self.next + count {
            let entry = format!("{{\"kind\":\"bench\",\"number\":{number:>580}}}").into_bytes();
            // A node is named and put back, again and again: the smallest change that the log tells of.
            let node = NodeId::new("vendor", format!("n{}", number / 2 % AT_ONCE))?;
            let named = (number % 2 == 0).then(|| ("bench".to_owned(), 1));
            appending.push(async move { store.culprit(&node, named, entry).await });
        }
        futures::future::try_join_all(appending).await?;
        self.next += count;
        Ok(())
    }

    async fn publish(&mut self) -> Result<()> {
        let newest = self.store.log().newest();
        let staged = self.store.staged(self.appender.head().size, newest.head().size).await?;
        ensure!(!staged.entries.is_empty(), "nothing was staged");
        let to = staged.from + u64::try_from(staged.entries.len())?;
        self.appender.append(&staged.entries, &staged.documents, self.store.log().head_at(to)?)?;
        if to == newest.head().size {
            self.appender.publish(&newest, None)?;
            self.appender.forget_partials(to)?;
        }
        self.store.unstage(self.appender.head()).await?;
        Ok(())
    }
}
