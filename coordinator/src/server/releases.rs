//! `ReleaseService`: what pipelines ask, what operators, custodians and auditors look at, and the evidence that they bring.

use std::{sync::Arc, time::Duration};

use futures::stream::BoxStream;
use rutli_release::{Channel, ChannelKey, InvalidRelease, Product, ReleaseId, RequestId};
use rutli_wire::{convert::class_from_wire, role::Party, v1};
use tokio::sync::{oneshot, watch};
use tonic::{Request, Response, Status};

use super::{Api, Step, party, states, status, wrong_role};
use crate::{
    error::{Error, Result},
    evidence, limits,
    session::CancelError,
    sign_release,
    store::{ReleaseFilter, ReleaseNumber, StoredRelease},
    waiting::{Seen, WatcherSlot, lay_over},
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
        let reader = Reader::of(&request).map_err(status::from)?;
        self.visible(&reader, &request.get_ref().release_id)
            .await
            .map(|(_, release)| Response::new(release))
            .map_err(status::from)
    }

    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        self.list(request).await.map(Response::new).map_err(status::from)
    }

    async fn watch_release(
        &self,
        request: Request<v1::WatchReleaseRequest>,
    ) -> Result<Response<Self::WatchReleaseStream>, Status> {
        let reader = Reader::of(&request).map_err(status::from)?;
        let watched = self.watch(&reader, &request.get_ref().release_id).await.map_err(status::from)?;
        let stream = states(watched, self.stopping.clone(), Watched::next);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn cancel_release(
        &self,
        request: Request<v1::CancelReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.cancel(request).await.map(Response::new).map_err(status::from)
    }

    async fn disclose_release(
        &self,
        request: Request<v1::DiscloseReleaseRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.disclose(request).await.map(Response::new).map_err(status::from)
    }

    async fn add_evidence(
        &self,
        request: Request<v1::AddEvidenceRequest>,
    ) -> Result<Response<v1::Release>, Status> {
        self.add(request).await.map(Response::new).map_err(status::from)
    }

    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        self.documents(request).await.map(Response::new).map_err(status::from)
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
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let (acknowledge, acknowledged) = oneshot::channel();
        let signing = Arc::clone(&self.signing);
        let request = sign_release::Request { requester, message: request.into_inner() };
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
        if let Some(id) = store.release_of_request(&requester, &request_id).await?
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

    async fn list(&self, request: Request<v1::ListReleasesRequest>) -> Result<v1::ListReleasesResponse> {
        let reader = Reader::of(&request)?;
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
        Ok(v1::ListReleasesResponse { releases: page.releases, next_page_token })
    }

    async fn watch(&self, reader: &Reader, id: &str) -> Result<Watched> {
        let slot = self.signing.waiting.watcher()?;
        let wanted = release_id(id)?;
        for _ in 0..BETWEEN_STEPS_TRIES {
            // First followed, then read: an end in between is seen by the one or the other.
            let follower = self.signing.waiting.follow(&wanted);
            let (_, release) = self.visible(reader, id).await?;
            let awaits = match follower {
                _ if is_final(release.state()) => Awaits::Nothing,
                Some(seen) => Awaits::End { seen, first: true },
                None => {
                    tokio::time::sleep(BETWEEN_STEPS).await;
                    continue;
                }
            };
            return Ok(Watched { api: self.clone(), id: wanted, release, awaits, _slot: slot });
        }
        Err(Error::Stopping)
    }

    async fn cancel(&self, request: Request<v1::CancelReleaseRequest>) -> Result<v1::Release> {
        let reader = match party(&request)? {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(&other, "pipeline or operator")),
        };
        let wanted = &request.get_ref().release_id;
        for _ in 0..BETWEEN_STEPS_TRIES {
            let (id, release) = self.visible(&reader, wanted).await?;
            match release.state() {
                v1::ReleaseState::Cancelled => return Ok(release),
                state if is_final(state) => {
                    return Err(Error::TooLate { release_id: id.to_string(), problem: "it is final" });
                }
                _ => {}
            }
            let follower = self.signing.waiting.follow(&id);
            match (self.signing.sessions.cancel(&id).await, follower) {
                (Ok(()), Some(seen)) => return self.cancelled(&reader, wanted, seen).await,
                (Err(CancelError::TooLate), _) => {
                    let problem = "nodes are signing it, and a signature share may be out";
                    return Err(Error::TooLate { release_id: id.to_string(), problem });
                }
                (Err(CancelError::Stopped(_)), _) => return Err(Error::Stopping),
                // Just admitted and not yet with the engine, or just finished and not yet read.
                (Ok(()), None) | (Err(CancelError::Unknown), _) => tokio::time::sleep(BETWEEN_STEPS).await,
            }
        }
        Err(Error::Stopping)
    }

    async fn disclose(&self, request: Request<v1::DiscloseReleaseRequest>) -> Result<v1::Release> {
        let reader = match party(&request)? {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(&other, "pipeline or operator")),
        };
        let (id, release) = self.visible(&reader, &request.get_ref().release_id).await?;
        if release.embargo_until == 0 {
            return Err(Error::TooLate { release_id: id.to_string(), problem: "it is not under embargo" });
        }
        self.signing.disclose(&id).await?;
        self.visible(&reader, id.as_str()).await.map(|(_, release)| release)
    }

    async fn add(&self, request: Request<v1::AddEvidenceRequest>) -> Result<v1::Release> {
        let party = party(&request)?;
        let reader = match &party {
            Party::Pipeline(name) => Reader::Pipeline(name.to_string()),
            Party::Custodian(_) | Party::Operator(_) => Reader::Everything,
            other => return Err(wrong_role(other, "pipeline, custodian or operator")),
        };
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        let v1::AddEvidenceRequest { release_id, evidence } = request.into_inner();
        let (_, stored) = self.stored(&reader, &release_id).await?;
        let documents = evidence::read(evidence, 1).await?;
        self.signing.add_evidence(stored, evidence::submitter(&party), documents).await?;
        self.visible(&reader, &release_id).await.map(|(_, release)| release)
    }

    async fn documents(&self, request: Request<v1::GetEvidenceRequest>) -> Result<v1::GetEvidenceResponse> {
        let reader = Reader::of(&request)?;
        let (_, stored) = self.stored(&reader, &request.get_ref().release_id).await?;
        let evidence = self.signing.store.evidence(stored.number).await?;
        let evidence = evidence.into_iter();
        let evidence = evidence.map(|(info, document)| v1::EvidenceDocument { info: Some(info), document });
        Ok(v1::GetEvidenceResponse { evidence: evidence.collect() })
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
            return Err(Error::StoreClosed {
                reason: "the cancellation is not durable yet; ask again".into(),
            });
        }
        self.visible(reader, id).await.map(|(_, release)| release)
    }
}

/// A release that somebody watches.
struct Watched {
    api: Api,
    id: ReleaseId,
    /// As it was last sent.
    release: v1::Release,
    awaits: Awaits,
    _slot: WatcherSlot,
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
        let stored = self.api.signing.store.release(&self.id).await?;
        stored
            .map(|stored| stored.message)
            .ok_or_else(|| Error::NotFound { kind: "release", name: self.id.to_string() })
    }
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
