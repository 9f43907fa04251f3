//! The way of one release through the coordinator: admit, log, session, publish.
//!
//! **Log before sign**: the request's entry is in the log, and the signed head swapped, in the transaction that admits
//! it; the engine gets a release only with the index of its entry, and nodes get the proof with the batch.
//!
//! One task per release carries it from admission to its end. The client has its answer once the release is durable;
//! whatever crashes after that, [`SignRelease::resume`] takes it up again at the next start.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use prost::{Message as _, bytes::Bytes};
use rutli_log::{Entry, Hash, entry::RequestTerms};
use rutli_release::{ReleaseId, RequestId, Requester, VerifiedRelease};
use rutli_wire::{
    convert::{check_counts, release_from_request, release_to_content},
    link::{LoggedEntry, LoggedEvidence, check_evidence},
    role::Party,
    v1,
};
use tokio::sync::{RwLock, RwLockReadGuard, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::Clients,
    clock::Clock,
    embargo,
    error::{Error, Result},
    evidence::{self, Document},
    keyring::Keyring,
    limits, publish,
    session::{Outcome, Sessions, Stopped, Submission},
    share::{Bound, Held, Limit, Owner, Turn, aside},
    store::{Admission, Charge, Health, Hourly, NewLogged, NewRelease, ReleaseNumber, Store, StoredRelease},
    waiting::{Slot, Waiting},
};

/// What a release needs on its way. One per process.
pub struct SignRelease {
    /// Remembers.
    pub store: Store,
    /// Signs.
    pub sessions: Sessions,
    /// Bounds, and tells watchers.
    pub waiting: Arc<Waiting>,
    /// Which pipeline may request what.
    pub clients: Clients,
    /// How much may be stored and logged in an hour.
    pub hourly: Hourly,
    /// How many requests may be under embargo.
    pub embargoes: Limit,
    /// Bounds how many requests that are large or have documents are read at a time.
    pub reading: Arc<Bound>,
    /// Public keys.
    pub keyring: Keyring,
    /// Tells when a release was issued, and when it expires.
    pub clock: Clock,
    /// Seconds after which an unsigned release expires.
    pub lifetime_s: u64,
    /// Where admitted releases go, in the order of admission.
    pub order: Order,
    /// Read by admissions; written while what a failed commit left behind is taken up.
    pub admitting: RwLock<()>,
}

/// A pipeline's request.
#[derive(Clone, Debug)]
pub struct Request {
    /// From its certificate.
    pub requester: Requester,
    /// Whose shares it uses.
    pub owner: Owner,
    /// As it came.
    pub message: v1::CreateReleaseRequest,
}

/// A release that is durable and not final.
pub struct Unfinished {
    /// Its key in the store.
    pub number: ReleaseNumber,
    /// What the session engine gets.
    pub submission: Submission,
    /// What its entry in the log says of it.
    pub terms: RequestTerms,
    outcome: PendingOutcome,
    slot: Slot,
    /// Its entry in the log names another roster than the one that signs now: no node signs it.
    is_stale: bool,
}

type PendingOutcome = BoxFuture<'static, Result<Outcome, Stopped>>;

impl SignRelease {
    /// Carries a request from its beginning to its end. `acknowledge` gets the release as soon as it is durable.
    pub async fn sign_release(&self, request: Request, acknowledge: oneshot::Sender<Result<v1::Release>>) {
        let admitted = match self.admit(request).await {
            Ok(admitted) => admitted,
            Err(error) => return drop(acknowledge.send(Err(error))),
        };
        match admitted {
            Admitted::Known(release) => drop(acknowledge.send(Ok(*release))),
            Admitted::New(release, message) => {
                // A client that is gone asks again with the same request id.
                let _ = acknowledge.send(Ok(*message));
                self.complete(*release).await;
            }
        }
    }

    /// Carries an admitted release to its end. Returns early only when the process stops.
    async fn complete(&self, mut release: Unfinished) {
        loop {
            let Ok(ended) = self.session(&mut release).await else { return };
            let Unfinished { number, submission, terms, .. } = &release;
            let (store, keyring) = (&self.store, &self.keyring);
            let published =
                publish::publish(store, keyring, &self.clock, *number, submission, terms.roster, ended).await;
            if published.as_ref().is_ok_and(|ended| ended.state() == v1::ReleaseState::Signed) {
                let release = &submission.release;
                self.sessions.signed(release.channel_key(), release.sequence()).await;
            }
            // The next release of the channel may start; if the result does not fit, this one starts again.
            self.sessions.published(&submission.release_id).await;
            match published {
                Ok(ended) => return release.slot.finished(ended),
                Err(Error::Stopping) => return,
                Err(error) => {
                    tracing::error!(release = %release.submission.release_id, %error, "signing it again")
                }
            }
            tokio::time::sleep(Duration::from_secs(limits::RESIGN_SECONDS)).await;
            release.outcome = self.sign(&release);
        }
    }

    /// Takes up every release that is admitted, not finished, and carried by nobody: after a start, and after a commit
    /// that was taken for failed and had happened.
    ///
    /// # Errors
    /// [`Error::Store`], also if what is stored is no release any more.
    pub async fn resume(self: &Arc<Self>) -> Result<usize> {
        let mut count = 0;
        for stored in self.store.unfinished().await? {
            let id = stored.release_id()?;
            let mut slot = self.waiting.restore(&stored.owner, stored.message.encoded_len());
            if !slot.carries(&id) {
                continue;
            }
            // Carried first, then read: whoever carried it until now may just have ended it.
            let Some(stored) = self.store.release(&id).await?.filter(StoredRelease::is_unfinished) else {
                continue;
            };
            let release = self.restore(stored, slot).await?;
            let this = Arc::clone(self);
            tokio::spawn(async move { this.complete(release).await });
            count += 1;
        }
        Ok(count)
    }

    /// Takes up what a failing disk left behind, whenever the store is open again, until the process stops. Nothing is
    /// admitted meanwhile: a retry would find its release and leave it to nobody, and a later one of its channel would
    /// go first.
    pub async fn resume_when_reopened(self: Arc<Self>, stop: CancellationToken) {
        let resuming = async {
            let mut health = self.store.health();
            loop {
                // Every change, not only the state of now: it may have opened again before this task ran.
                health.changed().await?;
                let _nobody_is_admitted = self.admitting.write().await;
                let mut left = true;
                while left {
                    health.wait_for(|health| *health == Health::Open).await?;
                    let resumed = self.resume().await;
                    match &resumed {
                        Ok(0) => {}
                        Ok(count) => tracing::info!(count, "taken up: a commit that failed had happened"),
                        Err(error) => {
                            tracing::error!(%error, "nothing is admitted until all that was is taken up");
                            tokio::time::sleep(Duration::from_secs(limits::PROBE_SECONDS)).await;
                        }
                    }
                    // It may have closed and opened meanwhile.
                    left = resumed.is_err() || health.has_changed()?;
                }
            }
        };
        let _: Option<Result<(), watch::error::RecvError>> = stop.run_until_cancelled(resuming).await;
    }

    /// Validates, takes room in the queue, and makes the release durable; or finds that it is.
    async fn admit(&self, request: Request) -> Result<Admitted> {
        drop(self.admitting()?);
        let Request { requester, owner, mut message } = request;
        let request_id = RequestId::new(message.request_id.as_str())
            .map_err(|error| Error::Field { field: "request_id", problem: error.to_string() })?;
        let given = std::mem::take(&mut message.evidence);
        // Nothing with more files or documents than allowed waits for a turn.
        check_counts(&message)?;
        check_evidence(&given, 0)?;
        let mut turn = self.turn_if_large(&owner, work_bytes(&message)).await?;
        let is_large = turn.is_some();
        let now = self.clock.now();
        let embargo = embargo::until(message.embargo_until, now);
        let issued_at = self.issued_at(&requester, &request_id, message.expires_at, now).await?;
        let read = move || {
            let release = release_from_request(message, issued_at)?;
            let content = release_to_content(&release);
            let encoded = content.encode_to_vec();
            let digest = release.request_digest();
            Ok::<_, Error>((Arc::new(release), content, encoded, digest))
        };
        let (release, content, encoded, request_digest) = aside(is_large, read).await??;
        self.clients.may_ask(&requester, release.class(), release.product())?;
        if !given.is_empty()
            && let Some((known, _)) = self.store.release_of_request(&requester, &request_id).await?
        {
            // Its documents are not read again.
            return self.known(&known, request_digest).await;
        }
        let release_id =
            ReleaseId::for_request(&requester, &request_id, release.product(), release.version());
        let bytes = given.iter().map(Bytes::len).fold(encoded.len(), usize::saturating_add);
        let embargoes = match embargo {
            Ok(Some(_)) => self.store.embargoes(&requester, &owner).await?,
            _ => Held::default(),
        };
        let room = async {
            let embargo = embargo?;
            self.log_has_room()?;
            if embargo.is_some() {
                self.embargoes.check(&owner, embargoes, 1)?;
            }
            let slot = self.waiting.reserve(release.class(), &owner, bytes)?;
            // Cheap refusals come before documents are read.
            Ok((embargo, slot, self.brought(&requester, &owner, given, &mut turn).await?))
        };
        let (embargo, slot, documents) = match room.await {
            Ok(room) => room,
            // Whoever asks for a release that is admitted already takes no room, and must not lose its answer; nor may
            // its embargo be over.
            Err(full) => match self.store.release_of_request(&requester, &request_id).await? {
                Some((known, _)) => return self.known(&known, request_digest).await,
                None => return Err(full),
            },
        };
        let signatures = u32::try_from(release.signable_count()).unwrap_or(u32::MAX);
        let terms = RequestTerms {
            release_id: release_id.clone(),
            requester: requester.clone(),
            roster: self.active_roster().ok_or(Error::NoKey)?,
            deadline: self.expiry(&release, now),
            evidence: documents.iter().map(|document| document.digest).collect(),
            embargo,
        };
        let (asked, documents_last) = (Arc::clone(&release), evidence::lasting_bytes(&documents));
        let size = encoded.len();
        let draft = move || {
            let (logged, entry) = logged(&asked, &terms);
            let recorded = size.saturating_add(logged.entry.len());
            let lasting = lasting_bytes(&asked, recorded).saturating_add(documents_last);
            (logged, entry, lasting, terms)
        };
        let (logged, entry, lasting, terms) = aside(is_large, draft).await?;
        drop(turn);
        let at = self.clock.now();
        let charge = Charge { owner, requests: 1, bytes: lasting, at, hourly: self.hourly };
        // Only the store is waited for while it is held, because [`Self::resume_when_reopened`] waits for its end. After a
        // failure that takes a place in the queue again, so this one is dropped before the guard.
        let admitting = self.admitting()?;
        let mut slot = slot;
        let new = NewRelease {
            release_id: release_id.clone(),
            requester: requester.clone(),
            request_id,
            request_digest,
            channel: release.channel_key(),
            sequence: release.sequence(),
            content: encoded,
            evidence: documents,
            signatures,
            created_at: now,
            logged,
            charge,
        };
        let mut message = queued(&new, content);
        let submission = Submission {
            release_id: release_id.clone(),
            requester,
            release,
            content_bytes: new.content.len(),
            entry,
            evidence: new.evidence.iter().map(|document| document.bytes.clone()).collect(),
            resumed: false,
        };
        let infos = infos(&new);
        let told = infos.clone();
        let (outcome, submit) = self.order.place(submission.clone());
        slot.carries(&release_id);
        let waiting = Arc::clone(&self.waiting);
        // Crash boundary: before this the client has no answer and asks again, and the log knows nothing of it; after it
        // the release is in the log and taken up at the next start, acknowledged or not.
        let admission = self.store.admit(new, move |index| {
            waiting.show(&release_id, told(index));
            submit(index);
        });
        let (number, index) = match admission.await? {
            Admission::New(number, index) => (number, index),
            Admission::Known(known) => return self.known(&known, request_digest).await,
        };
        drop(admitting);
        message.log_index = index;
        message.evidence = infos(index);
        let Submission { release_id, requester, release, .. } = &submission;
        tracing::info!(release = %release_id, %requester, class = %release.class(), signatures, index, "admitted");
        let submission = placed_at(submission, index);
        let unfinished = Unfinished { number, submission, terms, outcome, slot, is_stale: false };
        Ok(Admitted::New(Box::new(unfinished), Box::new(message)))
    }

    /// A turn of one party at work on about `bytes` of what it sent.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub(crate) async fn turn(&self, owner: &Owner, bytes: u64) -> Result<Turn> {
        let patience = Duration::from_secs(limits::TURN_SECONDS);
        Ok(Turn::begin(self.reading.wait(owner, 1, patience).await?, bytes))
    }

    /// The same; none if they are few.
    async fn turn_if_large(&self, owner: &Owner, bytes: u64) -> Result<Option<Turn>> {
        match bytes {
            0..limits::LARGE_WORK_BYTES => Ok(None),
            large => self.turn(owner, large).await.map(Some),
        }
    }

    /// Held while something is admitted: not while what a failed commit left behind is taken up.
    ///
    /// # Errors
    /// [`Error::StoreClosed`], with what closed it; [`Error::NotYet`] if it is open again.
    pub(crate) fn admitting(&self) -> Result<RwLockReadGuard<'_, ()>> {
        self.admitting.try_read().or_else(|_| {
            self.store.is_open()?;
            Err(Error::NotYet { reason: "the coordinator is still resuming earlier releases".into() })
        })
    }

    /// When a request is issued: now, or when it was admitted, if it comes again after its own expiry.
    async fn issued_at(
        &self,
        requester: &Requester,
        request_id: &RequestId,
        expires_at: u64,
        now: u64,
    ) -> Result<u64> {
        if !(1..=now).contains(&expires_at) {
            return Ok(now);
        }
        let known = self.store.release_of_request(requester, request_id).await?;
        Ok(known.map_or(now, |(_, admitted_at)| admitted_at))
    }

    /// The documents that come with a request.
    async fn brought(
        &self,
        requester: &Requester,
        owner: &Owner,
        given: Vec<Bytes>,
        turn: &mut Option<Turn>,
    ) -> Result<Vec<Document>> {
        let documents = self.read_evidence(owner, given, 0, turn).await?;
        let pipeline = evidence::submitter(&Party::Pipeline(requester.clone()));
        evidence::check_room(&[], &pipeline, &documents.iter().collect::<Vec<_>>())
            .map_err(|problem| Error::Field { field: "evidence", problem })?;
        Ok(documents)
    }

    /// The release of an earlier request, if it was the same one, by its digest.
    async fn known(&self, id: &ReleaseId, asked: [u8; 32]) -> Result<Admitted> {
        let stored = self.store.release(id).await?;
        let StoredRelease { mut message, request_digest, .. } =
            stored.ok_or_else(|| Error::Store { reason: format!("{id} is known but not there") })?;
        if request_digest != asked {
            return Err(Error::RequestIdReused {
                request_id: message.request_id,
                release_id: message.release_id,
            });
        }
        self.waiting.overlay(&mut message);
        Ok(Admitted::Known(Box::new(message)))
    }

    /// Resumes an unfinished release, under its own entry. A request is logged once: an entry at another time
    /// would backdate it, and nodes accept no entry that names a roster other than theirs.
    async fn restore(&self, stored: StoredRelease, mut slot: Slot) -> Result<Unfinished> {
        let (release, terms) = stored.request()?;
        let channel = release.channel_key();
        // It may have been overtaken when the process ended.
        if let Some(signed) = self.store.signed_sequence(&channel).await? {
            self.sessions.signed(channel, signed).await;
        }
        let StoredRelease { number, message, logged: before, .. } = stored;
        let before = before.ok_or_else(|| Error::Store {
            reason: format!("{} has no entry in the log", terms.release_id),
        })?;
        // Without a key nothing is signed until the next start.
        let is_stale = self.active_roster().is_some_and(|active| active != terms.roster);
        let (_, entry) = logged(&release, &terms);
        let (release_id, requester) = (terms.release_id.clone(), terms.requester.clone());
        let added = self.store.evidence_entries(number).await?;
        let (infos, documents): (_, Vec<Bytes>) = self.store.evidence(number).await?.into_iter().unzip();
        let entry = LoggedEntry { added, ..entry };
        slot.add(documents.iter().map(Bytes::len).sum());
        self.waiting.show(&release_id, infos);
        let submission = Submission {
            release_id,
            requester,
            release: release.into(),
            content_bytes: message.content.as_ref().map_or(0, v1::ReleaseContent::encoded_len),
            entry,
            evidence: documents,
            resumed: true,
        };
        let submission = placed_at(submission, before.index);
        if is_stale {
            tracing::warn!(release = %submission.release_id, "ends: it was logged for another roster");
            let outcome = futures::future::ready(Ok(Outcome::Cancelled)).boxed();
            return Ok(Unfinished { number, submission, terms, outcome, slot, is_stale });
        }
        let (outcome, submit) = self.order.place(submission.clone());
        submit(before.index);
        Ok(Unfinished { number, submission, terms, outcome, slot, is_stale })
    }

    pub(crate) fn log_has_room(&self) -> Result<()> {
        let backlog = self.store.log().backlog();
        if backlog > limits::LOG_STAGED_ENTRIES {
            return Err(Error::LogBehind { entries: backlog });
        }
        Ok(())
    }

    /// SHA-256 of the roster under which releases are signed now.
    fn active_roster(&self) -> Option<Hash> {
        self.keyring.active().map(|roster| Hash(*roster.roster().hash().as_bytes()))
    }

    /// What the quorum made of it, or that its time is over.
    async fn session(&self, release: &mut Unfinished) -> Result<publish::Ended, Stopped> {
        if release.is_stale {
            return Ok(publish::Ended::OtherRoster);
        }
        tokio::select! {
            outcome = &mut release.outcome => return outcome.map(publish::Ended::from),
            () = self.expired(release.terms.deadline) => {}
        }
        let id = &release.submission.release_id;
        tracing::info!(release = %id, "expired");
        loop {
            // Nodes that are at it finish or meet their deadline, within half a minute. Said again, because after a
            // restart the release may not have been submitted yet.
            self.sessions.abandon(id).await;
            tokio::select! {
                outcome = &mut release.outcome => return Ok(match outcome? {
                    Outcome::Cancelled => publish::Ended::Expired,
                    outcome => publish::Ended::from(outcome),
                }),
                () = tokio::time::sleep(Duration::from_secs(limits::ABANDON_AGAIN_SECONDS)) => {}
            }
        }
    }

    /// Signs it once more.
    fn sign(&self, release: &Unfinished) -> PendingOutcome {
        let (sessions, store) = (self.sessions.clone(), self.store.clone());
        let (number, submission) = (release.number, release.submission.clone());
        async move {
            let id = submission.release_id.clone();
            let outcome = sessions.submit(submission).await?;
            // What was added since it was submitted first, and while the engine did not know it. The entries
            // first: a document that arrives in between is reported by the call that adds it.
            let all = async {
                Ok::<_, Error>((store.evidence_entries(number).await?, store.evidence(number).await?))
            };
            match all.await {
                Ok((entries, all)) => {
                    sessions.evidence(&id, all.into_iter().map(|(_, bytes)| bytes).collect(), entries).await;
                }
                Err(error) => tracing::error!(release = %id, %error, "nodes do not get what was added"),
            }
            outcome.await.map_err(|_| Stopped)
        }
        .boxed()
    }

    fn expiry(&self, release: &VerifiedRelease, created_at: u64) -> u64 {
        let own = release.expires_at().map_or(u64::MAX, |time| time.0);
        created_at.saturating_add(self.lifetime_s).min(own)
    }

    async fn expired(&self, at: u64) {
        loop {
            let left = at.saturating_sub(self.clock.now());
            if left == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_secs(left.min(limits::EXPIRY_LOOK_SECONDS))).await;
        }
    }
}

/// Submits releases to the session engine in the order in which they were admitted, as nodes' marks ask for.
///
/// Tasks that wait for the same commit wake up in any order; so the store's writer hands each release over here, and
/// one task submits them one after the other. As many are on their way as may wait.
#[derive(Clone, Debug)]
pub struct Order(mpsc::UnboundedSender<Placed>);

enum Placed {
    Release(Box<Submission>, oneshot::Sender<oneshot::Receiver<Outcome>>),
    /// Behind the release that it is for.
    Evidence(ReleaseId, Vec<Bytes>, Vec<LoggedEvidence>),
}

impl Order {
    /// Starts the task. It ends with the last handle.
    #[must_use]
    pub fn start(sessions: Sessions) -> Self {
        let (order, mut placed) = mpsc::unbounded_channel::<Placed>();
        tokio::spawn(async move {
            while let Some(placed) = placed.recv().await {
                match placed {
                    Placed::Release(submission, answer) => {
                        // The engine is gone with the process, and so is whoever waits.
                        let Ok(outcome) = sessions.submit(*submission).await else { return };
                        let _ = answer.send(outcome);
                    }
                    Placed::Evidence(id, documents, entries) => {
                        sessions.evidence(&id, documents, entries).await;
                    }
                }
            }
        });
        Self(order)
    }

    /// What will come of a release, and how to submit it when its turn has come.
    /// The index of its entry is known only then.
    fn place(&self, submission: Submission) -> (PendingOutcome, impl FnOnce(u64) + Send + use<>) {
        let (answer, submitted) = oneshot::channel::<oneshot::Receiver<Outcome>>();
        let order = self.0.clone();
        let outcome = async move {
            // Both senders live as long as the process is not ending.
            let outcome = submitted.await.map_err(|_| Stopped)?;
            outcome.await.map_err(|_| Stopped)
        };
        let submit = move |index| {
            drop(order.send(Placed::Release(Box::new(placed_at(submission, index)), answer)));
        };
        (outcome.boxed(), submit)
    }

    /// Evidence of a release, durable and logged in these entries, on its way to the nodes.
    pub fn evidence(&self, id: ReleaseId, documents: Vec<Bytes>, entries: Vec<LoggedEvidence>) {
        // Without a task the process ends.
        let _ = self.0.send(Placed::Evidence(id, documents, entries));
    }
}

/// By how much a release may make store and log grow, however it ends: its content and entry (`recorded`),
/// its evidence, its statement, and what a signature of each of its files adds.
fn lasting_bytes(release: &VerifiedRelease, recorded: usize) -> u64 {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let statements = count(release.statement().len()).saturating_mul(limits::CHARGED_STATEMENTS);
    let signatures = count(release.signable_count()).saturating_mul(limits::CHARGED_PER_SIGNATURE);
    [count(recorded), statements, signatures, limits::CHARGED_PER_RELEASE]
        .into_iter()
        .fold(0, u64::saturating_add)
}

/// How large the work on a request is, in bytes: most of it is done once for each file.
fn work_bytes(message: &v1::CreateReleaseRequest) -> u64 {
    let files = u64::try_from(message.artifacts.len()).unwrap_or(u64::MAX);
    let bytes = u64::try_from(message.encoded_len()).unwrap_or(u64::MAX);
    bytes.max(files.saturating_mul(limits::LARGE_WORK_BYTES / limits::LARGE_WORK_FILES))
}

/// What is told of that, once the request has its place in the log.
fn infos(new: &NewRelease) -> impl Fn(u64) -> Vec<v1::EvidenceInfo> + Clone + use<> {
    let (at, pipeline) = (new.created_at, evidence::submitter(&Party::Pipeline(new.requester.clone())));
    let documents = new.evidence.clone();
    move |index| documents.iter().map(|document| document.info(&pipeline, at, index)).collect()
}

/// What a client is told of a release that is to be admitted, but for its place in the log.
fn queued(new: &NewRelease, content: v1::ReleaseContent) -> v1::Release {
    v1::Release {
        release_id: new.release_id.to_string(),
        request_id: new.request_id.to_string(),
        requester: new.requester.to_string(),
        content: Some(content),
        state: v1::ReleaseState::Queued.into(),
        signatures_total: new.signatures,
        created_at: new.created_at,
        embargo_until: new.logged.embargo.map_or(0, |embargo| embargo.disclose_by),
        ..v1::Release::default()
    }
}

/// The entry that is to be logged, as the store gets it, and as the nodes do once it has its place.
fn logged(release: &VerifiedRelease, terms: &RequestTerms) -> (NewLogged, LoggedEntry) {
    let entry = Entry::request(release, terms);
    let (bytes, leaf) = (entry.encode(), entry.leaf_hash());
    let (roster, deadline, embargo) = (terms.roster, terms.deadline, terms.embargo);
    (
        NewLogged { entry: bytes, roster, deadline, embargo },
        LoggedEntry {
            index: 0,
            leaf,
            proof: Vec::new(),
            deadline,
            embargo,
            evidence: terms.evidence.clone(),
            added: Vec::new(),
        },
    )
}

fn placed_at(submission: Submission, index: u64) -> Submission {
    Submission { entry: LoggedEntry { index, ..submission.entry }, ..submission }
}

enum Admitted {
    New(Box<Unfinished>, Box<v1::Release>),
    Known(Box<v1::Release>),
}

impl From<Outcome> for publish::Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Signed { key, signatures, signed_by } => Self::Signed { key, signatures, signed_by },
            Outcome::Refused(refusals) => Self::Refused(refusals),
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Overtaken(by) => Self::Overtaken(by),
        }
    }
}
