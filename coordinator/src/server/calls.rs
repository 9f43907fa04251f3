//! What every call takes and gives back, whatever it asks: a layer around all services.
//!
//! ```text
//! call      a share of `calls`, or of `streams` where there are many answers; refused at once where there is none
//! turn      so many calls of one name are worked on, the others wait
//! request   its bytes are counted as they arrive, are no more than the call may have, and must arrive in time; each
//!           name has a share of bytes per second, and further ones wait on their way
//! work      goes on when the caller hangs up, and so do its shares: what is worked on is counted
//! answer    its bytes are counted from before it is made ([`Answer`]) until it is sent; nobody reads it: the connection
//!           ends
//! error     comes a second later, if the caller had many ([`delay_error`])
//! ```
//!
//! A body is handed to HTTP/2 piece by piece, each only when the reader has room for it. So what is counted here is what is
//! in memory, but for one piece.

use std::{
    collections::HashSet,
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use rutli_wire::{limits as wire_limits, role::Party, v1};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Status, body::Body};

use super::status;
use crate::{
    bounds::{Bounds, Pool},
    error::{Error, Result},
    limits,
    listener::Peer,
    share::{Bound, Full, Owner, Share, Whose},
};

/// The share that an answer takes before it is made; an extension of the answer.
#[derive(Clone)]
pub struct Answer(Arc<Share>);

impl Answer {
    /// Room for an answer of about `bytes`. Waits for earlier answers to the same caller to be read.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub async fn room(bounds: &Bounds, peer: &Peer, bytes: u64) -> Result<Self> {
        let patience = Duration::from_secs(limits::TURN_SECONDS);
        let answers = &bounds.pool(peer.party()).answers;
        Ok(Self(Arc::new(answers.wait(peer.owner(), bytes, patience).await?)))
    }
}

/// Puts [`CountedCalls`] around services.
#[derive(Clone)]
pub struct CallsLayer {
    bounds: Arc<Bounds>,
    /// Paths of the calls with a stream of answers.
    streaming: Arc<HashSet<String>>,
}

impl CallsLayer {
    /// # Errors
    /// [`Error::Serve`] if the services' own descriptions do not parse.
    pub fn new(bounds: Arc<Bounds>) -> Result<Self> {
        let mut streaming = HashSet::new();
        for set in [
            v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = FileDescriptorSet::decode(set).map_err(|error| Error::Serve(error.to_string()))?;
            for file in &set.file {
                for service in &file.service {
                    let of_service = service.method.iter().filter(|method| method.server_streaming());
                    streaming.extend(
                        of_service.map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name())),
                    );
                }
            }
        }
        Ok(Self { bounds, streaming: Arc::new(streaming) })
    }
}

impl<S> tower::Layer<S> for CallsLayer {
    type Service = CountedCalls<S>;

    fn layer(&self, inner: S) -> CountedCalls<S> {
        CountedCalls { layer: self.clone(), inner }
    }
}

/// See the module.
#[derive(Clone)]
pub struct CountedCalls<S> {
    layer: CallsLayer,
    inner: S,
}

impl<S> tower::Service<Request<Body>> for CountedCalls<S>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready goes, and its clone stays (tower's documentation of `Service`).
        let fresh = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, fresh);
        let CallsLayer { bounds, streaming } = self.layer.clone();
        Box::pin(async move {
            let Some(peer) = request.extensions().get::<Peer>().cloned() else {
                // Only a connection of our own listener comes here; this is a bug, and nobody gets in by it.
                return Ok(status::from(Error::Serve("a call without a connection".into())).into_http());
            };
            let answered = if streaming.contains(request.uri().path()) {
                stream(inner, request, &bounds, &peer).await
            } else {
                unary(inner, request, &bounds, &peer).await
            };
            let answer = answered.unwrap_or_else(|error| status::from(error).into_http());
            if is_error(&answer) {
                delay_error(&bounds, &peer).await;
            }
            Ok(answer)
        })
    }
}

fn is_error(answer: &Response<Body>) -> bool {
    Status::from_header_map(answer.headers()).is_some_and(|status| status.code() != Code::Ok)
}

/// Delays an error for a caller that had many within a second: retrying at once would keep the processors busy with errors.
async fn delay_error(bounds: &Bounds, peer: &Peer) {
    let errors = &bounds.pool(peer.party()).errors;
    let counted = match errors.take(peer.owner(), 1) {
        Ok(counted) => counted,
        // It does not wait for its answers: nothing slows it down but a new connection.
        Err(full) if full.whose == Whose::Name => return peer.cut(),
        Err(_) => return,
    };
    let is_many = errors.held(peer.owner()).name > limits::PROMPT_ERRORS;
    let second = Duration::from_secs(1);
    // A task of its own: an error counts although its call is reset.
    tokio::spawn(async move {
        sleep(second).await;
        drop(counted);
    });
    if is_many {
        sleep(second).await;
    }
}

/// A call with one answer.
async fn unary<S>(
    mut inner: S,
    request: Request<Body>,
    bounds: &Bounds,
    peer: &Peer,
) -> Result<Response<Body>>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let pool = bounds.pool(peer.party());
    let call = pool.calls.take(peer.owner(), 1)?;
    let turn = turn(pool, peer.owner()).await?;
    let (request, received) = received(request, bounds, peer)?;
    let answering = async move {
        let Ok(response) = inner.call(request).await;
        let (mut parts, body) = response.into_parts();
        let room = parts.extensions.remove::<Answer>();
        // Made whole at once, so that it is counted whole; it is in memory as a message anyway.
        let whole = body.collect().await;
        drop((turn, received));
        (parts, room, whole, call)
    };
    let (parts, room, whole, call) = ToTheEnd::of(answering).await?;
    let whole = whole.map_err(|_| not_made())?;
    let trailers = whole.trailers().cloned();
    let bytes = whole.to_bytes();
    if bytes.is_empty() {
        return Ok(Response::from_parts(parts, Body::new(Trailers(trailers))));
    }
    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let room = match room {
        Some(room) => {
            room.0.resize(size)?;
            room.0
        }
        None => Arc::new(pool.answers.take(peer.owner(), size)?),
    };
    let reading = Reading::begin(peer, bounds.answer_time);
    let body = Sent { bytes, trailers, reading, _room: room, _call: call };
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// A call with a stream of answers. A node's requests are bounded by their reader.
async fn stream<S>(
    mut inner: S,
    request: Request<Body>,
    bounds: &Bounds,
    peer: &Peer,
) -> Result<Response<Body>>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    let pool = bounds.pool(peer.party());
    let revoked = CancellationToken::new();
    let place = pool.streams.take_revocable(peer.owner(), revoked.clone(), false)?;
    let turn = revoked.run_until_cancelled(turn(pool, peer.owner())).await.ok_or(Error::Revoked)??;
    // A node's link is bounded by its own queues, and the engine handles nodes that do not read.
    let counted = !matches!(peer.party(), Ok(Party::Node(_)));
    let (request, held) = if counted {
        let (request, received) = received(request, bounds, peer)?;
        (request, Some(received))
    } else {
        (request, None)
    };
    let answering = async move {
        let Ok(response) = inner.call(request).await;
        drop((turn, held));
        response
    };
    let answered = revoked.run_until_cancelled(ToTheEnd::of(answering)).await;
    let response = answered.ok_or(Error::Revoked)??;
    Ok(response.map(|body| {
        Body::new(Streamed {
            body,
            answers: counted.then(|| (Arc::clone(&pool.answers), peer.owner().clone())),
            unsent: Bytes::new(),
            room: None,
            reading: counted.then(|| Reading::begin(peer, bounds.answer_time)),
            revoked: Box::pin(revoked.cancelled_owned()),
            over: false,
            _place: place,
        })
    }))
}

/// Work that goes on, and stays counted, when its caller resets the call: what is left becomes a task of its own. It is
/// not one from the beginning, because that costs each call two thread switches.
struct ToTheEnd<T: Send + 'static>(Option<BoxFuture<'static, thread::Result<T>>>);

impl<T: Send + 'static> ToTheEnd<T> {
    fn of(work: impl Future<Output = T> + Send + 'static) -> Self {
        // An answer that panics is an error like any other, told and counted.
        Self(Some(AssertUnwindSafe(work).catch_unwind().boxed()))
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let Some(work) = &mut self.0 else { return Poll::Ready(Err(not_made())) };
        let done = std::task::ready!(work.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(done.map_err(|_| not_made()))
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // At the end of the process nothing goes on.
        if let (Some(work), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

fn not_made() -> Error {
    Error::Serve("an answer could not be made".into())
}

/// A request whose body is counted, bounded and timed, and the share that its bytes are counted on.
fn received(request: Request<Body>, bounds: &Bounds, peer: &Peer) -> Result<(Request<Body>, Arc<Share>)> {
    let pool = bounds.pool(peer.party());
    let share = Arc::new(pool.bodies.take(peer.owner(), 0)?);
    let (bound, owner) = (Arc::clone(&pool.received), peer.owner().clone());
    let pace = Pace { bound, owner, untold: 0, turn: None, waiting: 0 };
    let carries_content = CARRY_CONTENT.contains(&request.uri().path());
    let most = if carries_content { wire_limits::MAX_MESSAGE_BYTES } else { limits::MAX_SMALL_MESSAGE_BYTES };
    let counted = Arc::clone(&share);
    let request = request.map(|body| {
        let late = Box::pin(sleep(bounds.body_time));
        let left = most.saturating_add(FRAME_BYTES);
        Body::new(Received { body, counted, left, most, late, allowed: bounds.body_time, pace })
    });
    Ok((request, share))
}

/// Calls whose requests carry releases or documents. All others only name things.
const CARRY_CONTENT: [&str; 2] =
    ["/rutli.v1.ReleaseService/CreateRelease", "/rutli.v1.ReleaseService/AddEvidence"];

/// What gRPC puts before a message: whether it is compressed, and its length.
const FRAME_BYTES: usize = 5;

async fn turn(pool: &Pool, owner: &Owner) -> Result<Share, Full> {
    pool.turns.wait(owner, 1, Duration::from_secs(limits::TURN_SECONDS)).await
}

/// A request on its way in.
struct Received {
    body: Body,
    counted: Arc<Share>,
    /// Bytes that may still come …
    left: usize,
    /// … of this many.
    most: usize,
    late: Pin<Box<Sleep>>,
    allowed: Duration,
    pace: Pace,
}

/// How fast the requests of a name are taken. Bytes beyond that are held back by flow control, but for one window for
/// each connection.
struct Pace {
    bound: Arc<Bound>,
    owner: Owner,
    /// Bytes that are not yet counted for this second.
    untold: u64,
    /// The turn that earlier ones wait for.
    turn: Option<BoxFuture<'static, Result<(), Full>>>,
    /// Of these, if it did not come.
    waiting: u64,
}

/// Counts what was received for a second.
fn for_a_second(counted: Share) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            sleep(Duration::from_secs(1)).await;
            drop(counted);
        });
    }
}

impl Drop for Pace {
    /// What came is counted, also of a small request, and of one that is reset while it waits.
    fn drop(&mut self) {
        let left = self.untold.saturating_add(self.waiting);
        if left > 0 {
            for_a_second(self.bound.promised(&self.owner, left));
        }
    }
}

impl Pace {
    fn took(&mut self, bytes: usize) {
        self.untold = self.untold.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if self.untold < limits::PACED_BYTES {
            return;
        }
        let (bound, owner, bytes) =
            (Arc::clone(&self.bound), self.owner.clone(), std::mem::take(&mut self.untold));
        self.waiting = bytes;
        self.turn = Some(Box::pin(async move {
            let counted = bound.wait(&owner, bytes, Duration::from_secs(limits::TURN_SECONDS)).await?;
            for_a_second(counted);
            Ok(())
        }));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Full>> {
        let Some(turn) = &mut self.turn else { return Poll::Ready(Ok(())) };
        let polled = turn.as_mut().poll(cx);
        if polled.is_ready() {
            self.turn = None;
            self.waiting = 0;
        }
        polled
    }
}

impl HttpBody for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = match self.pace.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(full)) => return Poll::Ready(Some(Err(status::from(Error::Full(full))))),
            Poll::Ready(Ok(())) => Pin::new(&mut self.body).poll_frame(cx),
        };
        if polled.is_pending() && self.late.as_mut().poll(cx).is_ready() {
            let seconds = self.allowed.as_secs();
            return Poll::Ready(Some(Err(status::from(Error::RequestTooSlow { seconds }))));
        }
        polled.map(|frame| {
            frame.map(|frame| {
                let frame = frame?;
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let too_large = Error::RequestTooLarge { most: self.most };
                self.left = self.left.checked_sub(bytes).ok_or_else(|| status::from(too_large))?;
                let counted = self.counted.grow(u64::try_from(bytes).unwrap_or(u64::MAX));
                counted.map_err(|full| status::from(Error::Full(full)))?;
                self.pace.took(bytes);
                Ok(frame)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Nothing but trailers, if there are any.
struct Trailers(Option<HeaderMap>);

impl HttpBody for Trailers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// One answer on its way out, with all that its call holds.
struct Sent {
    bytes: Bytes,
    trailers: Option<HeaderMap>,
    reading: Reading,
    _room: Arc<Share>,
    _call: Share,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = next_piece(&mut self.bytes);
        self.reading.moved(piece.is_some());
        Poll::Ready(match piece {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.trailers.is_none()
    }
}

/// A stream of answers.
struct Streamed {
    body: Body,
    /// Where they are counted, and for whom.
    answers: Option<(Arc<Bound>, Owner)>,
    /// Of the answer that is being sent.
    unsent: Bytes,
    room: Option<Share>,
    reading: Option<Reading>,
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    _place: Share,
}

impl Streamed {
    fn end(&mut self, error: Error) -> Frame<Bytes> {
        self.over = true;
        self.room = None;
        self.unsent = Bytes::new();
        let mut headers = status::from(error).into_http::<Body>().into_parts().0.headers;
        headers.remove(CONTENT_TYPE);
        Frame::trailers(headers)
    }

    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = next_piece(&mut self.unsent) {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        self.room = None;
        if self.over {
            return Poll::Ready(None);
        }
        if self.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Ok(self.end(Error::Revoked))));
        }
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let (Some((answers, owner)), Some(data)) = (&self.answers, frame.data_ref()) else {
            return Poll::Ready(Some(Ok(frame)));
        };
        match answers.take(owner, u64::try_from(data.len()).unwrap_or(u64::MAX)) {
            Ok(room) => self.room = Some(room),
            Err(full) => return Poll::Ready(Some(Ok(self.end(Error::Full(full))))),
        }
        self.unsent = frame.into_data().unwrap_or_default();
        // An empty piece would end nothing and say nothing.
        let piece = next_piece(&mut self.unsent).unwrap_or_default();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = self.next_frame(cx);
        if let Some(reading) = &self.reading {
            reading.moved(matches!(&polled, Poll::Ready(Some(Ok(frame))) if frame.is_data()));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.unsent.is_empty() && (self.over || self.body.is_end_stream())
    }
}

fn next_piece(bytes: &mut Bytes) -> Option<Bytes> {
    let piece = bytes.split_to(bytes.len().min(limits::ANSWER_PIECE_BYTES));
    (!piece.is_empty()).then_some(piece)
}

/// Checks that an answer is being read; ends with it.
struct Reading {
    moved: Arc<Moved>,
    _over: oneshot::Sender<()>,
}

#[derive(Default)]
struct Moved {
    /// How often a piece was asked for.
    count: AtomicU64,
    /// Whether a piece is on its way that the reader has no room for yet.
    unsent: AtomicBool,
}

impl Reading {
    /// A reader that reads nothing for `patience` loses its connection: HTTP/2 has no other way to drop bytes
    /// that were handed to it.
    fn begin(peer: &Peer, patience: Duration) -> Self {
        let (over, mut ended) = oneshot::channel::<()>();
        let moved = Arc::new(Moved { count: AtomicU64::new(0), unsent: AtomicBool::new(true) });
        let (watched, peer) = (Arc::clone(&moved), peer.clone());
        tokio::spawn(async move {
            let mut before = watched.count.load(Ordering::Relaxed);
            while tokio::time::timeout(patience, &mut ended).await.is_err() {
                let now = watched.count.load(Ordering::Relaxed);
                if now == before && watched.unsent.load(Ordering::Relaxed) {
                    tracing::info!(
                        address = %peer.address(),
                        name = peer.owner().name(),
                        "cut a connection: an answer was not read for {} s",
                        patience.as_secs()
                    );
                    return peer.cut();
                }
                before = now;
            }
        });
        Self { moved, _over: over }
    }

    fn moved(&self, unsent: bool) {
        self.moved.count.fetch_add(1, Ordering::Relaxed);
        self.moved.unsent.store(unsent, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
