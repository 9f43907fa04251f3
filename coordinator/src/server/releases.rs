//! `ReleaseService`: what pipelines ask, what operators, custodians and auditors look at, and the evidence that they bring.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use prost::{Message as _, bytes::Bytes};
use rutli_log::sha256;
use rutli_release::{Channel, ChannelKey, InvalidRelease, Product, ReleaseId, RequestId, Requester};
use rutli_wire::{convert::class_from_wire, limits as wire_limits, role::Party, v1};
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response, Status};

use super::{Api, Step, calls::Answer, party, peer, states, status, wrong_role};
use crate::{
    error::{Error, Result},
    evidence, limits,
    session::CancelError,
    share::{Owner, Share},
    sign_release,
    store::{ReleaseFilter, ReleaseNumber, StoredRelease},
    waiting::{Seen, lay_over},
};

/// How long a call waits for a release that is between two of our own steps.
const BETWEEN_STEPS: Duration = Duration::from_millis(20);

/// How often it does, in all one second.
const BETWEEN_STEPS_TRIES: u32 = 50;

/// How long a cancellation waits to become durable.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

#[tonic::async_trait]
impl v1::release_service_server::ReleaseService for Api {
    type WatchReleaseStream = BoxStream<'static, Result<v1::Release, Status>>;

    async fn create_release(
        &self,
        request: Request<v1::CreateReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.create(request).await.map(Response::new).map_err(status::from)
    }

    async fn next_sequence(
        &self,
        request: Request<v1::NextSequenceRequest>,
    ) -> Result<Response<v1::NextSequenceResponse>, Status> {
        self.next(request).await.map(Response::new).map_err(status::from)
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.get(&request).await.map_err(status::from)
    }

    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        self.list(request).await.map_err(status::from)
    }

    async fn watch_release(
        &self,
        request: Request<v1::WatchReleaseRequest>,
    ) -> Result<Response<Self::WatchReleaseStream>, Status> {
        let reader = Reader::of(&request).map_err(status::from)?;
        let owner = peer(&request).map_err(status::from)?.owner().clone();
        let id = &request.get_ref().release_id;
        let watched = self.watch(&reader, owner, id).await.map_err(status::from)?;
        let stream = states(watched, self.stopping.clone(), Watched::next);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn cancel_release(
        &self,
        request: Request<v1::CancelReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.cancel(request).await.map_err(status::from)
    }

    async fn disclose_release(
        &self,
        request: Request<v1::DiscloseReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.disclose(request).await.map_err(status::from)
    }

    async fn add_evidence(
        &self,
        request: Request<v1::AddEvidenceRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.add(request).await.map_err(status::from)
    }

    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        self.documents(request).await.map_err(status::from)
    }

    async fn cancel_releases(
        &self,
        request: Request<v1::CancelReleasesRequest>,
    ) -> Result<Response<v1::CancelReleasesResponse>, Status> {
        self.cancel_all(request).await.map(Response::new).map_err(status::from)
    }
}

/// Who may look at which releases.
enum Reader {
    /// At its own.
    Pipeline(String),
    /// At all.
    Everything,
}

impl Reader {
    fn of<T>(request: &Request<T>) -> Result<Self> {
        match party(request)? {
            Party::Pipeline(name) => Ok(Self::Pipeline(name.to_string())),
            Party::Operator(_) | Party::Custodian(_) | Party::Auditor(_) => Ok(Self::Everything),
            other => Err(wrong_role(&other, "pipeline, operator, custodian or auditor")),
        }
    }

    fn may_see(&self, release: &v1::Release) -> bool {
        match self {
            Self::Pipeline(name) => release.requester == *name,
            Self::Everything => true,
        }
    }
}

impl Api {
    async fn create(&self, request: Request<v1::CreateReleaseRequest>) -> Result<v1::Release> {
        let requester = match party(&request)? {
            Party::Pipeline(name) => name,
            other => return Err(wrong_role(&other, "pipeline")),
        };
        let owner = peer(&request)?.owner().clone();
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let (acknowledge, acknowledged) = oneshot::channel();
        let signing = Arc::clone(&self.signing);
        let request = sign_release::Request { requester, owner, message: request.into_inner() };
        // A task of its own: a client that hangs up leaves no release half admitted.
        tokio::spawn(async move { signing.sign_release(request, acknowledge).await });
        acknowledged.await.map_err(|_| Error::Stopping)?
    }

    async fn next(&self, request: Request<v1::NextSequenceRequest>) -> Result<v1::NextSequenceResponse> {
        let requester = match party(&request)? {
            Party::Pipeline(name) => name,
            other => return Err(wrong_role(&other, "pipeline")),
        };
        let v1::NextSequenceRequest { request_id, release_class, product, channel } = request.into_inner();
        let request_id =
            RequestId::new(request_id).map_err(|error| field("request_id", error.to_string()))?;
        let channel = ChannelKey {
            class: class_from_wire(release_class)?,
            product: Product::new(product).map_err(|error| field("product", error.to_string()))?,
            channel: Channel::new(channel).map_err(|error| field("channel", error.to_string()))?,
        };
        let store = &self.signing.store;
        if let Some((id, _)) = store.release_of_request(&requester, &request_id).await?
            && let Some(known) = store.release(&id).await?
        {
            let sequence = known.message.content.map_or(0, |content| content.sequence);
            return Ok(v1::NextSequenceResponse { sequence });
        }
        let signed = store.signed_sequence(&channel).await?;
        let next = self.signing.sessions.next_sequence(channel.clone(), signed).await?;
        let sequence = next.ok_or(Error::NoSequence { channel })?.get();
        Ok(v1::NextSequenceResponse { sequence })
    }

    /// A release that the reader may see, as it is now. For others it is not there.
    async fn visible(&self, reader: &Reader, id: &str) -> Result<(ReleaseId, v1::Release)> {
        let (id, stored) = self.stored(reader, id).await?;
        let mut release = stored.message;
        self.signing.waiting.overlay(&mut release);
        Ok((id, release))
    }

    /// The same as the store has it.
    async fn stored(&self, reader: &Reader, id: &str) -> Result<(ReleaseId, StoredRelease)> {
        let id = release_id(id)?;
        let stored = self.signing.store.release(&id).await?;
        let stored = stored.filter(|stored| reader.may_see(&stored.message));
        let stored = stored.ok_or_else(|| Error::NotFound { kind: "release", name: id.to_string() })?;
        Ok((id, stored))
    }

    async fn list(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>> {
        let reader = Reader::of(&request)?;
        let page = u64::try_from(limits::MAX_PAGE_BYTES).unwrap_or(u64::MAX);
        let room = Answer::room(&self.bounds, peer(&request)?, page).await?;
        let _turn = self.bounds.read(peer(&request)?.owner(), page).await?;
        let asked = request.into_inner();
        let most = match asked.page_size {
            0 => limits::DEFAULT_PAGE,
            size if size <= limits::MAX_PAGE => size,
            _ => {
                return Err(field(
                    "page_size",
                    format!("give 1 to {}, or 0 for the default", limits::MAX_PAGE),
                ));
            }
        };
        let before = match asked.page_token.as_str() {
            "" => None,
            token => Some(ReleaseNumber(
                token
                    .parse()
                    .map_err(|_| field("page_token", "give a token that a page before came with".into()))?,
            )),
        };
        let state = match v1::ReleaseState::try_from(asked.state) {
            Ok(v1::ReleaseState::Unspecified) => None,
            Ok(state) => Some(state),
            Err(_) => return Err(field("state", "is not known here".into())),
        };
        let named =
            |field_name, value: String, check: fn(&str) -> Result<(), InvalidRelease>| match check(&value) {
                _ if value.is_empty() => Ok(None),
                Ok(()) => Ok(Some(value)),
                Err(error) => Err(field(field_name, error.to_string())),
            };
        let filter = ReleaseFilter {
            requester: match reader {
                Reader::Pipeline(name) => Some(name),
                Reader::Everything => None,
            },
            product: named("product", asked.product, |name| Product::new(name).map(drop))?,
            channel: named("channel", asked.channel, |name| Channel::new(name).map(drop))?,
            state: state.map(|state| if is_final(state) { state } else { v1::ReleaseState::Queued }),
            before,
        };
        let waiting = &self.signing.waiting;
        let page = self
            .signing
            .store
            .list(&filter, most, |release| {
                waiting.overlay(release);
                release.evidence.clear();
                state.is_none_or(|state| release.state() == state)
            })
            .await?;
        let next_page_token = page.next.map(|number| number.0.to_string()).unwrap_or_default();
        let page = v1::ListReleasesResponse { releases: page.releases, next_page_token };
        Ok(with_room(page, room))
    }

    async fn get(&self, request: &Request<v1::GetReleaseRequest>) -> Result<Response<v1::Release>> {
        let reader = Reader::of(request)?;
        let id = &request.get_ref().release_id;
        let peer = peer(request)?;
        if let Some(release) = self.visible_if_small(&reader, peer.owner(), id).await? {
            let room = Answer::room(&self.bounds, peer, encoded_len(&release)).await?;
            return Ok(with_room(release, room));
        }
        let size = self.size(id).await?;
        let room = Answer::room(&self.bounds, peer, size).await?;
        let _turn = self.bounds.read(peer.owner(), size).await?;
        let (_, release) = self.visible(&reader, id).await?;
        Ok(with_room(release, room))
    }

    /// A release, at once, if it is small and the reader may see it: its size is not asked for before. Room is taken after
    /// it, of which there is enough for as many small ones as calls.
    async fn visible_if_small(
        &self,
        reader: &Reader,
        owner: &Owner,
        id: &str,
    ) -> Result<Option<v1::Release>> {
        let id = release_id(id)?;
        let _turn = self.bounds.read(owner, 0).await?;
        let stored = self.signing.store.release_within(&id, limits::LARGE_WORK_BYTES).await?;
        Ok(stored.filter(|stored| reader.may_see(&stored.message)).map(|stored| {
            let mut release = stored.message;
            self.signing.waiting.overlay(&mut release);
            release
        }))
    }

    /// Room for a release as an answer, before it is read.
    async fn room<T>(&self, request: &Request<T>, id: &str) -> Result<Answer> {
        Answer::room(&self.bounds, peer(request)?, self.size(id).await?).await
    }

    /// About how many bytes a release is.
    async fn size(&self, id: &str) -> Result<u64> {
        Ok(self.signing.store.size_of(&release_id(id)?).await?.unwrap_or(0))
    }

    async fn watch(&self, reader: &Reader, owner: Owner, id: &str) -> Result<Watched> {
        let wanted = release_id(id)?;
        for _ in 0..BETWEEN_STEPS_TRIES {
            // First followed, then read: an end in between is seen by the one or the other.
            let follower = self.signing.waiting.follow(&wanted);
            let (release, kept) = match self.visible_if_small(reader, &owner, id).await? {
                Some(release) => {
                    let kept = self.bounds.watched.take(&owner, encoded_len(&release))?;
                    (release, kept)
                }
                None => {
                    let size = self.size(id).await?;
                    let kept = self.bounds.watched.take(&owner, size)?;
                    let _turn = self.bounds.read(&owner, size).await?;
                    (self.visible(reader, id).await?.1, kept)
                }
            };
            let awaits = match follower {
                _ if is_final(release.state()) => Awaits::Nothing,
                Some(seen) => Awaits::End { seen, first: true },
                None => {
                    tokio::time::sleep(BETWEEN_STEPS).await;
                    continue;
                }
            };
            return Ok(Watched { api: self.clone(), owner, id: wanted, release, awaits, _kept: kept });
        }
        Err(self.between_steps(wanted.as_str()))
    }

    async fn cancel(&self, request: Request<v1::CancelReleaseRequest>) -> Result<Response<v1::Release>> {
        let reader = match party(&request)? {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(&other, "pipeline or operator")),
        };
        let id = &request.get_ref().release_id;
        let room = self.room(&request, id).await?;
        Ok(with_room(self.cancel_one(&reader, id).await?, room))
    }

    async fn cancel_one(&self, reader: &Reader, wanted: &str) -> Result<v1::Release> {
        for _ in 0..BETWEEN_STEPS_TRIES {
            let (id, release) = self.visible(reader, wanted).await?;
            match release.state() {
                v1::ReleaseState::Cancelled => return Ok(release),
                state if is_final(state) => {
                    return Err(Error::TooLate { release_id: id.to_string(), problem: "it is final" });
                }
                _ => {}
            }
            let follower = self.signing.waiting.follow(&id);
            match (self.signing.sessions.cancel(&id).await, follower) {
                (Ok(()), Some(seen)) => return self.cancelled(reader, wanted, seen).await,
                (Err(CancelError::TooLate), _) => {
                    let problem = "nodes have it now, or have signed a part of it, so a signature share may be out; \
                                   wait for its end, or cancel it again when nodes do not have it";
                    return Err(Error::TooLate { release_id: id.to_string(), problem });
                }
                (Err(CancelError::Stopped(_)), _) => return Err(Error::Stopping),
                // Just admitted and not yet with the engine, or just finished and not yet read.
                (Ok(()), None) | (Err(CancelError::Unknown), _) => tokio::time::sleep(BETWEEN_STEPS).await,
            }
        }
        Err(self.between_steps(wanted))
    }

    /// Why nobody carries a release that is not final.
    fn between_steps(&self, id: &str) -> Error {
        let open = self.signing.store.is_open();
        open.err().unwrap_or_else(|| Error::NotYet {
            reason: format!("{id} is just ending, or about to be resumed"),
        })
    }

    async fn disclose(&self, request: Request<v1::DiscloseReleaseRequest>) -> Result<Response<v1::Release>> {
        let reader = match party(&request)? {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(&other, "pipeline or operator")),
        };
        let id = &request.get_ref().release_id;
        let room = self.room(&request, id).await?;
        let (id, release) = self.visible(&reader, id).await?;
        if release.embargo_until == 0 {
            return Err(Error::TooLate { release_id: id.to_string(), problem: "it is not under embargo" });
        }
        self.signing.disclose(&id).await?;
        self.visible(&reader, id.as_str()).await.map(|(_, release)| with_room(release, room))
    }

    async fn add(&self, request: Request<v1::AddEvidenceRequest>) -> Result<Response<v1::Release>> {
        let party = party(&request)?;
        let reader = match &party {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Custodian(_) | Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(other, "pipeline, custodian or operator")),
        };
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let owner = peer(&request)?.owner().clone();
        let room = self.room(&request, &request.get_ref().release_id).await?;
        let v1::AddEvidenceRequest { release_id, evidence } = request.into_inner();
        let (id, stored) = self.stored(&reader, &release_id).await?;
        if !stored.is_unfinished() {
            let known = &stored.message.evidence;
            let is_known = |document: &Bytes| {
                let digest = sha256(document);
                known.iter().any(|info| info.digest == digest.as_bytes())
            };
            // A caller that got no answer asks again.
            if !evidence.iter().all(is_known) {
                return Err(evidence::too_late(&id));
            }
            return self.visible(&reader, &release_id).await.map(|(_, release)| with_room(release, room));
        }
        let documents = self.signing.read_evidence(&owner, evidence, 1, &mut None).await?;
        self.signing.add_evidence(stored, owner, documents).await?;
        self.visible(&reader, &release_id).await.map(|(_, release)| with_room(release, room))
    }

    async fn documents(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>> {
        let (reader, peer) = (Reader::of(&request)?, peer(&request)?);
        let most = u64::try_from(wire_limits::MAX_EVIDENCE_TOTAL_BYTES).unwrap_or(u64::MAX);
        let room = Answer::room(&self.bounds, peer, most).await?;
        let _turn = self.bounds.read(peer.owner(), most).await?;
        let (_, stored) = self.stored(&reader, &request.get_ref().release_id).await?;
        let evidence = self.signing.store.evidence(stored.number).await?;
        let evidence = evidence.into_iter();
        let evidence = evidence.map(|(info, document)| v1::EvidenceDocument { info: Some(info), document });
        Ok(with_room(v1::GetEvidenceResponse { evidence: evidence.collect() }, room))
    }

    /// Cancels everything that a requester has waiting, as far as possible.
    async fn cancel_all(
        &self,
        request: Request<v1::CancelReleasesRequest>,
    ) -> Result<v1::CancelReleasesResponse> {
        let operator = match party(&request)? {
            Party::Operator(operator) => operator,
            other => return Err(wrong_role(&other, "operator")),
        };
        let requester = Requester::new(request.get_ref().requester.as_str())
            .map_err(|error| field("requester", error.to_string()))?;
        let waiting = self.signing.store.unfinished_of(&requester).await?;
        let ended = stream::iter(waiting).map(|id| async move {
            let ended = self.cancel_one(&Reader::Everything, id.as_str()).await;
            (id, ended)
        });
        let mut ended = ended.buffered(limits::CANCELLED_AT_ONCE);
        let mut answer = v1::CancelReleasesResponse::default();
        while let Some((id, ended)) = ended.next().await {
            match ended {
                Ok(_) => answer.cancelled.push(id.to_string()),
                // It is signed, or may be: that is told, and the others are cancelled.
                Err(Error::TooLate { .. }) => answer.too_late.push(id.to_string()),
                Err(error) => {
                    tracing::warn!(%operator, %requester, cancelled = answer.cancelled.len(), %error, "a bulk cancellation broke off");
                    return Err(error);
                }
            }
        }
        let (cancelled, too_late) = (answer.cancelled.len(), answer.too_late.len());
        tracing::warn!(%operator, %requester, cancelled, too_late, "an operator cancelled all of a requester");
        Ok(answer)
    }

    /// Waits until the cancellation is durable: only then is it one.
    async fn cancelled(
        &self,
        reader: &Reader,
        id: &str,
        mut seen: watch::Receiver<Seen>,
    ) -> Result<v1::Release> {
        let durable = seen.wait_for(|seen| matches!(seen, Seen::Final(_)));
        if tokio::time::timeout(CANCEL_WAIT, durable).await.is_err() {
            self.signing.store.is_open()?;
            return Err(Error::NotYet { reason: "the cancellation is not durable yet".into() });
        }
        self.visible(reader, id).await.map(|(_, release)| release)
    }
}

/// A release that somebody watches.
struct Watched {
    api: Api,
    owner: Owner,
    id: ReleaseId,
    /// As it was last sent.
    release: v1::Release,
    awaits: Awaits,
    _kept: Share,
}

/// What comes next of a release.
enum Awaits {
    /// A change, until it is final.
    End { seen: watch::Receiver<Seen>, first: bool },
    /// The proof that its signature is in the log.
    Proof,
    /// It is final; what is left to be said is found out when it is sent.
    Nothing,
}

impl Watched {
    async fn next(mut self) -> Result<Step<Self, v1::Release>> {
        match &mut self.awaits {
            Awaits::End { seen, first } => {
                if !std::mem::take(first) && seen.changed().await.is_err() {
                    return Err(Error::Stopping);
                }
                let now = seen.borrow_and_update().clone();
                match now {
                    Seen::Unfinished(change) => {
                        lay_over(&mut self.release, &change);
                        return Ok(Step::Next(self.release.clone(), self));
                    }
                    Seen::Final(ended) => lay_over(&mut self.release, &ended),
                }
            }
            Awaits::Proof => {
                let mut proven = self.api.signing.waiting.unproven(&self.id);
                // It may have come before anybody waited for it.
                self.release = self.stored().await?;
                if self.release.proven_at == 0 {
                    // Gone with the process, or there.
                    let _ = proven.changed().await;
                    self.release = self.stored().await?;
                }
            }
            Awaits::Nothing => {}
        }
        if self.release.state() != v1::ReleaseState::Signed || self.release.proven_at != 0 {
            return Ok(Step::Last(self.release));
        }
        // It is sent again with its proof, to whoever is still there then.
        self.awaits = Awaits::Proof;
        Ok(Step::Next(self.release.clone(), self))
    }

    async fn stored(&self) -> Result<v1::Release> {
        let _turn = self.api.bounds.read(&self.owner, encoded_len(&self.release)).await?;
        let stored = self.api.signing.store.release(&self.id).await?;
        stored
            .map(|stored| stored.message)
            .ok_or_else(|| Error::NotFound { kind: "release", name: self.id.to_string() })
    }
}

fn with_room<T>(message: T, room: Answer) -> Response<T> {
    let mut response = Response::new(message);
    response.extensions_mut().insert(room);
    response
}

fn encoded_len(release: &v1::Release) -> u64 {
    u64::try_from(release.encoded_len()).unwrap_or(u64::MAX)
}

fn release_id(id: &str) -> Result<ReleaseId> {
    ReleaseId::new(id).map_err(|error| field("release_id", error.to_string()))
}

fn field(field: &'static str, problem: String) -> Error {
    Error::Field { field, problem }
}

/// Whether a release in this state stays in it.
#[must_use]
pub fn is_final(state: v1::ReleaseState) -> bool {
    use v1::ReleaseState::{
        AwaitingEvidence, AwaitingQuorum, Cancelled, Expired, Overtaken, Queued, Refused, Signed, Signing,
        Unspecified,
    };
    match state {
        Signed | Refused | Cancelled | Expired | Overtaken => true,
        Unspecified | Queued | AwaitingQuorum | AwaitingEvidence | Signing => false,
    }
}

#[cfg(test)]
mod tests;
