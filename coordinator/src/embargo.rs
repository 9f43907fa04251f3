//! Embargoes: the log shows a salted commitment to a request, and the request itself when its time has come.

use std::{sync::Arc, time::Duration};

use rand::{RngCore as _, rngs::OsRng};
use rutli_log::{
    Entry, Hash,
    entry::{Disclosure, Embargo, Request, kinds},
    limits::MAX_EMBARGO_SECONDS,
};
use rutli_release::ReleaseId;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Limits,
    error::{Error, Result},
    limits,
    share::Limit,
    sign_release::SignRelease,
    store::StoredRelease,
};

/// A fresh salt, if an embargo is asked for.
///
/// # Errors
/// [`Error::Field`] if it would end in the past, or too late.
pub fn until(until: u64, now: u64) -> Result<Option<Embargo>> {
    if until == 0 {
        return Ok(None);
    }
    if until <= now || until > now.saturating_add(MAX_EMBARGO_SECONDS) {
        let problem = format!(
            "must be later than now ({now}) and at most {} days from now",
            MAX_EMBARGO_SECONDS / 86_400
        );
        return Err(Error::Field { field: "embargo_until", problem });
    }
    let mut salt = Hash([0; 32]);
    OsRng.fill_bytes(&mut salt.0);
    Ok(Some(Embargo { salt, disclose_by: until }))
}

/// How many requests may be hidden at a time.
#[must_use]
pub fn limit(configured: &Limits) -> Limit {
    Limit {
        what: "embargoes that have not ended",
        key: "max_embargoes",
        most: u64::from(configured.max_embargoes),
        retry: Duration::from_secs(limits::EMBARGO_RETRY_SECONDS),
    }
}

impl SignRelease {
    /// Ends the embargo of a release; one that has none, or none any more, stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::StoreClosed`]
    pub async fn disclose(&self, id: &ReleaseId) -> Result<()> {
        let stored = self.store.release(id).await?;
        let stored = stored.ok_or_else(|| Error::NotFound { kind: "release", name: id.to_string() })?;
        self.disclose_stored(&stored).await
    }

    pub(crate) async fn disclose_stored(&self, stored: &StoredRelease) -> Result<()> {
        let (release, terms) = stored.request()?;
        let (Some(logged), Some(embargo)) = (&stored.logged, terms.embargo) else { return Ok(()) };
        let opened = Request::new(&release, &terms);
        let kind = kinds::Disclosure::default();
        let disclosure = Disclosure { kind, opened, request: logged.index, salt: embargo.salt };
        let entries = vec![Entry::Disclosure(Box::new(disclosure)).encode()];
        self.store.disclose(stored.number, entries, self.clock.now()).await?;
        tracing::info!(release = %terms.release_id, "disclosed");
        Ok(())
    }

    /// Ends embargoes when their time has come, until the process stops.
    pub async fn end_embargoes(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(limits::EMBARGO_LOOK_SECONDS)) => {}
            }
            let due = self.store.embargoed(self.clock.now()).await.unwrap_or_else(|error| {
                tracing::error!(%error, "embargoes are not ended in the log; it is tried again");
                Vec::new()
            });
            for due in due {
                if let Err(error) = self.disclose_stored(&due).await {
                    let release = due.message.release_id;
                    tracing::error!(release, %error, "an embargo is not ended in the log; it is tried again");
                }
            }
        }
    }
}
