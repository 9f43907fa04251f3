//! What a call takes, and when it gives it back.

use std::net::SocketAddr;

use tokio::sync::Notify;
use tower::{Layer as _, Service as _, service_fn};

use super::*;
use crate::{config::Limits, testing::PATIENCE};

/// What a caller has worked on is counted until that is done, also if it hangs up meanwhile.
#[tokio::test]
async fn a_call_is_counted_until_it_is_worked_off() {
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let bounds = Bounds::new(&Limits::default());
    let inner = service_fn({
        let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
        move |_: Request<Body>| {
            let (began, go_on) = (Arc::clone(&began), Arc::clone(&go_on));
            async move {
                began.notify_one();
                go_on.notified().await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        }
    });
    let mut calls = CallsLayer::new(Arc::clone(&bounds)).unwrap().layer(inner);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for path in ["/rutli.v1.ReleaseService/GetRelease", "/rutli.v1.ReleaseService/WatchRelease"] {
        let mut request = Request::post(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer::new(&[], "authority", address, CancellationToken::new()));
        let call = calls.call(request);
        tokio::select! {
            _ = call => panic!("{path}: it is answered"),
            () = began.notified() => {}
        }
        // The caller has gone.
        assert_eq!(bounds.clients.turns.used(), 1, "{path}");
        go_on.notify_one();
        let done = async {
            while bounds.clients.turns.used() + bounds.clients.calls.used() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.unwrap();
    }
}

/// A caller that has found what panics is told so, and held back like one with any other error.
#[tokio::test]
async fn a_call_that_panics_is_answered_and_counted() {
    let bounds = Bounds::new(&Limits::default());
    let inner = service_fn(async |request: Request<Body>| -> Result<Response<Body>, Infallible> {
        panic!("{}", request.uri())
    });
    let mut calls = CallsLayer::new(Arc::clone(&bounds)).unwrap().layer(inner);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for (told, path) in
        [(1, "/rutli.v1.ReleaseService/GetRelease"), (2, "/rutli.v1.ReleaseService/WatchRelease")]
    {
        let mut request = Request::post(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer::new(&[], "authority", address, CancellationToken::new()));
        let answer = calls.call(request).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::Internal, "{path}: {status:?}");
        let clients = &bounds.clients;
        assert_eq!(clients.turns.used() + clients.calls.used() + clients.streams.used(), 0, "{path}");
        assert_eq!(clients.errors.used(), told, "{path}");
    }
}

/// A stream whose place went to another while it waited for its turn ends at once, and nothing is done for it.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_revoked_before_its_turn_does_no_work() {
    let bounds = Bounds::new(&Limits::default());
    let inner = service_fn(async |request: Request<Body>| -> Result<Response<Body>, Infallible> {
        panic!("{}", request.uri())
    });
    let mut calls = CallsLayer::new(Arc::clone(&bounds)).unwrap().layer(inner);
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let peer = Peer::new(&[], "authority", address, CancellationToken::new());
    let (turns, streams) = (&bounds.clients.turns, &bounds.clients.streams);
    let _busy = turns.take(peer.owner(), crate::share::name_share(turns.most())).unwrap();
    let mut request = Request::post("/rutli.v1.ReleaseService/WatchRelease").body(Body::empty()).unwrap();
    request.extensions_mut().insert(peer.clone());
    let began = tokio::time::Instant::now();
    let mut call = calls.call(request);
    assert!(futures::poll!(&mut call).is_pending(), "it waits for its turn");
    let newer = (0..crate::share::name_share(streams.most()))
        .map(|_| streams.take_revocable(peer.owner(), CancellationToken::new(), true).unwrap());
    let _newer: Vec<Share> = newer.collect();
    let answer = call.await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), status::from(Error::Revoked).code(), "{status:?}");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

/// Who sends more than its share within a second waits with what it sends; nobody else does.
#[tokio::test(start_paused = true)]
async fn what_is_sent_faster_waits_on_its_way() {
    let bounds = Bounds::new(&Limits::default());
    let inner = service_fn(async |request: Request<Body>| {
        let body = request.into_body().collect().await;
        let status = body.err().unwrap_or_else(|| Status::ok(""));
        Ok::<_, Infallible>(status.into_http())
    });
    let calls = CallsLayer::new(Arc::clone(&bounds)).unwrap().layer(inner);
    let took = async |name: &str, bytes: usize| {
        let body = Body::new(http_body_util::Full::new(Bytes::from(vec![0; bytes])));
        let mut request = Request::post(CARRY_CONTENT[0]).body(body).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        request.extensions_mut().insert(Peer::new(&[], name, address, CancellationToken::new()));
        let began = tokio::time::Instant::now();
        let answer = calls.clone().call(request).await.unwrap();
        assert!(!is_error(&answer), "{:?}", answer.headers());
        began.elapsed()
    };
    let share = usize::try_from(crate::share::name_share(bounds.clients.received.most())).unwrap();
    assert_eq!(took("mallory", share / 2).await, Duration::ZERO);
    assert_eq!(took("mallory", share / 2 + 1).await, Duration::from_secs(1));
    assert_eq!(took("alice", share / 2).await, Duration::ZERO);
    let small = usize::try_from(limits::PACED_BYTES).unwrap() - 1;
    // A small one does not wait, but is counted.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(took("mallory", share / 2).await, Duration::ZERO);
    assert_eq!(took("mallory", small).await, Duration::ZERO);
    assert_eq!(took("mallory", share / 2 - small + 1).await, Duration::from_secs(1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    assert_eq!(bounds.clients.received.used(), 0);
}

/// A caller that calls again at once, whatever it is told, is told later; nobody else is.
#[tokio::test(start_paused = true)]
async fn many_errors_in_a_second_come_later() {
    let bounds = Bounds::new(&Limits::default());
    let inner = service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let calls = CallsLayer::new(Arc::clone(&bounds)).unwrap().layer(inner);
    let took = async |name: &str| {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let peer = Peer::new(&[], name, address, CancellationToken::new());
        let most = crate::share::name_share(bounds.clients.calls.most());
        let full = bounds.clients.calls.take(peer.owner(), most).unwrap();
        let mut request = Request::post("/rutli.v1.ReleaseService/GetRelease").body(Body::empty()).unwrap();
        request.extensions_mut().insert(peer);
        let began = tokio::time::Instant::now();
        let answer = calls.clone().call(request).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        drop(full);
        began.elapsed()
    };
    for _ in 0..limits::PROMPT_ERRORS {
        assert_eq!(took("mallory").await, Duration::ZERO);
    }
    assert_eq!(took("mallory").await, Duration::from_secs(1));
    assert_eq!(took("alice").await, Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(took("mallory").await, Duration::ZERO, "a second without one");

    // Calls that are reset before their error is told count, too, and too many end the connection.
    let cut = CancellationToken::new();
    let peer = Peer::new(&[], "reset", SocketAddr::from(([127, 0, 0, 1], 1)), cut.clone());
    for _ in 0..crate::share::name_share(limits::MAX_ERRORS) {
        assert!(!cut.is_cancelled());
        tokio::select! {
            biased;
            () = delay_error(&bounds, &peer) => {}
            () = std::future::ready(()) => {}
        }
        tokio::task::yield_now().await;
    }
    delay_error(&bounds, &peer).await;
    assert!(cut.is_cancelled());
}
