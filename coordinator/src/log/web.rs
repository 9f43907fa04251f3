//! The log for everybody: its folder over plain HTTP, to be read and nothing else.
//!
//! What it serves are the folder's files as they are, so that a CDN before it, or any web server in its place, does the
//! same. It keeps no secret and is not trusted: readers check all of it against the checkpoint's signatures. Anybody may
//! connect, so that everything is bounded, and what is asked for is parsed into the name of a tile or document: the
//! path of a file is made from that, never from what was sent.

use std::{convert::Infallible, fs::Metadata, io, os::unix::fs::MetadataExt as _, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        IF_RANGE, LAST_MODIFIED, RANGE, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Bytes},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rutli_log::{Hash, LogKey, TileId, sha256, tile::document_path};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_http::services::ServeFile;

use crate::{
    error::Result,
    limits,
    log::folder::LogFolder,
    share::{Bound, Limit, Owner},
};

/// What full tiles, bundles and documents are: a name has one content, for ever.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Partial tiles do not change either, but go away when the full one is there.
const A_WHILE: &str = "public, max-age=60";
/// The heads: may be kept, and are asked for again each time.
const ASK_AGAIN: &str = "no-cache";
/// What is not there now may be soon.
const NEVER: &str = "no-store";

/// The address block that holds most makes room; readers have no certificates.
const CONNECTIONS: Limit = Limit {
    what: "connections to the log",
    key: "none",
    most: limits::WEB_CONNECTIONS,
    retry: Duration::from_secs(1),
};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Serves the folder until `stopping`, and then the answers that are under way.
pub async fn serve(listener: TcpListener, folder: LogFolder, key: &LogKey, stopping: CancellationToken) {
    let index = Bytes::from(index(key));
    let mut connections = JoinSet::new();
    let bound = Bound::new(CONNECTIONS);
    while let Some(next) = stopping.run_until_cancelled(listener.accept()).await {
        let (socket, address) = match next {
            Ok(accepted) => accepted,
            // No file descriptors, mostly: there will be some when connections end.
            Err(error) => {
                tracing::warn!(%error, "the log's web server cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (block, revoked) = (Owner::block(address.ip()), CancellationToken::new());
        let Ok(place) = bound.take_revocable(&block, revoked.clone(), true) else { continue };
        let (folder, index, stopping) = (folder.clone(), index.clone(), stopping.clone());
        connections.spawn(async move {
            let _place = place;
            // Whoever is cut off comes again.
            let _ = revoked.run_until_cancelled(converse(socket, folder, index, stopping)).await;
        });
    }
    let ending = async { while connections.join_next().await.is_some() {} };
    // Whoever is not done by then is cut off when the set is dropped.
    let _ = timeout(Duration::from_secs(limits::SHUTDOWN_SECONDS), ending).await;
}

/// One connection, from its first request to its end.
async fn converse(socket: TcpStream, folder: LogFolder, index: Bytes, stopping: CancellationToken) {
    let answer = service_fn(|request| {
        let (folder, index) = (folder.clone(), index.clone());
        async move { Ok::<_, Infallible>(answer(&request, &folder, index).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits::WEB_HEADER_SECONDS))
        .max_buf_size(limits::WEB_BUFFER_BYTES)
        .max_headers(limits::WEB_HEADERS)
        .serve_connection(TokioIo::new(socket), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // However it ended: the reader comes again if it wants more.
        _ = connection.as_mut() => return,
        () = stopping.cancelled() => {}
        () = sleep(Duration::from_secs(limits::WEB_CONNECTION_SECONDS)) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(Duration::from_secs(limits::WEB_GRACE_SECONDS), connection).await;
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Index,
    Checkpoint,
    SigstoreCheckpoint,
    Tile(TileId),
    Document(Hash),
}

impl Resource {
    /// Strictly: each has one path.
    fn parse(path: &str) -> Option<Self> {
        match path.strip_prefix('/')? {
            "" => Some(Self::Index),
            "checkpoint" => Some(Self::Checkpoint),
            "checkpoint-sigstore" => Some(Self::SigstoreCheckpoint),
            name => TileId::parse(name).map(Self::Tile).or_else(|| {
                let digest = name.rsplit('/').next()?.parse().ok()?;
                (document_path(&digest) == name).then_some(Self::Document(digest))
            }),
        }
    }
}

async fn answer<B: Body>(request: &Request<B>, folder: &LogFolder, index: Bytes) -> Answer {
    let mut answer = if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut answer = refusal(StatusCode::METHOD_NOT_ALLOWED, "the log is only read: GET or HEAD\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        answer
    } else if !request.body().is_end_stream() {
        refusal(StatusCode::BAD_REQUEST, "the log takes no content: send a request without a body\n")
    } else {
        match Resource::parse(request.uri().path()) {
            Some(Resource::Index) => whole(request, index, ASK_AGAIN),
            Some(Resource::Checkpoint) => note(request, folder, LogFolder::published).await,
            Some(Resource::SigstoreCheckpoint) => note(request, folder, LogFolder::published_sigstore).await,
            Some(Resource::Tile(id)) => {
                let caching = if id.is_full() { FOR_EVER } else { A_WHILE };
                file(request, folder, &id.path(), caching).await
            }
            Some(Resource::Document(digest)) => {
                file(request, folder, &document_path(&digest), FOR_EVER).await
            }
            None => not_found(),
        }
    };
    set(&mut answer, ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(&mut answer, X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// A newest head. Read whole, for its name stays and its content does not.
async fn note<B>(
    request: &Request<B>,
    folder: &LogFolder,
    read: fn(&LogFolder) -> Result<Option<String>>,
) -> Answer {
    let folder = folder.clone();
    match tokio::task::spawn_blocking(move || read(&folder)).await {
        Ok(Ok(Some(note))) => whole(request, note.into(), ASK_AGAIN),
        Ok(Ok(None)) => not_found(),
        Ok(Err(error)) => unreadable(&error),
        Err(error) => unreadable(&error),
    }
}

/// A text from memory, with the digest of its content as its tag.
fn whole<B>(request: &Request<B>, text: Bytes, caching: &'static str) -> Answer {
    let tag = format!("\"{}\"", sha256(&text));
    if is_known(request.headers(), &tag) {
        return not_modified(&tag, caching);
    }
    let length = text.len();
    let mut answer = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    set(&mut answer, CONTENT_TYPE, TEXT);
    set(&mut answer, CONTENT_LENGTH, &length.to_string());
    tagged(answer, &tag, caching)
}

/// A file that never changes, or the range of it that was asked for.
async fn file<B>(request: &Request<B>, folder: &LogFolder, name: &str, caching: &'static str) -> Answer {
    let path = folder.path().join(name);
    let tag = match tokio::fs::metadata(&path).await {
        Ok(metadata) => tag_of(&metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return not_found(),
        Err(error) => return unreadable(&error),
    };
    if is_known(request.headers(), &tag) {
        return not_modified(&tag, caching);
    }
    // The library is asked for no more than the file and a range.
    let mut inner = Request::new(Empty::<Bytes>::new());
    inner.method_mut().clone_from(request.method());
    if let Some(range) = range(request, &tag) {
        inner.headers_mut().insert(RANGE, range.clone());
    }
    match ServeFile::new(path).try_call(inner).await {
        Ok(answer) if answer.status().is_success() => {
            let mut answer = answer.map(UnsyncBoxBody::new);
            // It tells whole seconds, and the tag says more.
            answer.headers_mut().remove(LAST_MODIFIED);
            set(&mut answer, CONTENT_TYPE, BYTES);
            tagged(answer, &tag, caching)
        }
        // It went away since, or the range cannot be served.
        Ok(answer) => {
            let mut answer = answer.map(UnsyncBoxBody::new);
            set(&mut answer, CONTENT_TYPE, TEXT);
            set(&mut answer, CACHE_CONTROL, NEVER);
            answer
        }
        Err(error) => unreadable(&error),
    }
}

/// The range that a reader wants, if it is one to look at (RFC 9110, sections 13.1.5 and 14.2).
fn range<'a, B>(request: &'a Request<B>, tag: &str) -> Option<&'a HeaderValue> {
    let same = request.headers().get(IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes());
    let range = request.headers().get(RANGE)?;
    (same && request.method() == Method::GET && range.as_bytes().starts_with(b"bytes=")).then_some(range)
}

/// A strong tag: files here are written once, so that length and time of writing say which one it is.
fn tag_of(metadata: &Metadata) -> String {
    format!("\"{:x}-{:x}.{:x}\"", metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// Whether the reader has what this tag stands for (RFC 9110, section 13.1.2: weak comparison).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    })
}

fn tagged(mut answer: Answer, tag: &str, caching: &'static str) -> Answer {
    set(&mut answer, ETAG, tag);
    set(&mut answer, CACHE_CONTROL, caching);
    answer
}

fn not_modified(tag: &str, caching: &'static str) -> Answer {
    let mut answer = refusal(StatusCode::NOT_MODIFIED, "");
    answer.headers_mut().remove(CONTENT_TYPE);
    tagged(answer, tag, caching)
}

fn not_found() -> Answer {
    refusal(StatusCode::NOT_FOUND, "this log has no such tile, bundle or document; see / for what it has\n")
}

fn unreadable(error: &dyn std::error::Error) -> Answer {
    tracing::error!(%error, "the log's web server cannot read the log");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "the log cannot be read at the moment: try again later\n")
}

fn refusal(status: StatusCode, text: &'static str) -> Answer {
    let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    set(&mut answer, CONTENT_TYPE, TEXT);
    set(&mut answer, CACHE_CONTROL, NEVER);
    answer
}

fn set(answer: &mut Answer, name: HeaderName, value: &str) {
    // Values are ours, and of visible characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// What this is, for people who come across it.
fn index(key: &LogKey) -> String {
    format!(
        "The transparency log {origin}: all that its signing service was asked to sign, and what became of it.\n\
         \n\
         verifier key  {key}\n\
         \n\
         /checkpoint                the newest head, signed by the log and its witnesses (c2sp.org/tlog-checkpoint)\n\
         /checkpoint-sigstore       a head for Sigstore's tools, of the same tree or an older one\n\
         /tile/<L>/<N>[.p/<W>]      256 hashes of level L, or W of them (c2sp.org/tlog-tiles)\n\
         /tile/entries/<N>[.p/<W>]  256 entries, or W of them\n\
         /sha256/<hh>/<64 hex>      a document that an entry names by its SHA-256\n\
         \n\
         Take the key from a place that you trust, not from here, and check what you read against the checkpoint.\n",
        origin = key.origin(),
    )
}

#[cfg(test)]
mod tests;
