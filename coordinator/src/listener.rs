//! The accept loop: TCP, then TLS 1.3 with a client certificate, then who the peer is, once per connection.
//!
//! Everything before a verified certificate is bounded in number and time, for anybody can get that far. The server's
//! configuration is read from a watch at each handshake, so that renewed certificates need no restart.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use rutli_wire::{
    limits as wire_limits,
    role::{Party, UnknownParty},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::AbortHandle,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    error::{Error, Result},
    limits,
};

/// Who is at the other end of a connection; an extension of every call on it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerInner>);

#[derive(Debug)]
struct PeerInner {
    party: Result<Party, UnknownParty>,
    address: SocketAddr,
}

impl Peer {
    /// A peer by its certificate.
    #[must_use]
    pub fn new(party: Result<Party, UnknownParty>, address: SocketAddr) -> Self {
        Self(Arc::new(PeerInner { party, address }))
    }

    /// Who it is, or why its certificate, genuine as it is, names nobody.
    ///
    /// # Errors
    /// Each call on such a connection is refused with this.
    pub fn party(&self) -> Result<&Party, UnknownParty> {
        self.0.party.as_ref().map_err(Clone::clone)
    }

    /// Where it comes from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A connection after its handshake. Holds its place among the connections until it is dropped.
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    /// The server asks old connections to end; this cuts those that do not.
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// Listens on `address`.
///
/// # Errors
/// [`Error::Listen`]
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen { address, reason: error.to_string() })
}

/// Accepts until `stopping`, at most `most` connections at a time.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    most: u32,
    stopping: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, accepted) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
    tokio::spawn(async move {
        let mut handshakes = VecDeque::new();
        while let Some(next) = stopping.run_until_cancelled(listener.accept()).await {
            let (socket, address) = match next {
                Ok(accepted) => accepted,
                // No file descriptors, mostly: there will be some when connections end.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            handshakes.retain(|handshake: &AbortHandle| !handshake.is_finished());
            if handshakes.len() >= limits::MAX_HANDSHAKES
                && let Some(oldest) = handshakes.pop_front()
            {
                // The newest may be honest and is done in milliseconds; the oldest had its time.
                oldest.abort();
            }
            let (ready, config, places) = (ready.clone(), Arc::clone(&tls.borrow()), Arc::clone(&places));
            let handshake = tokio::spawn(async move {
                match shake_hands(socket, address, config, places).await {
                    Ok(connection) => drop(ready.send(Ok(connection)).await),
                    Err(error) => tracing::info!(%address, %error, "refused a connection"),
                }
            });
            handshakes.push_back(handshake.abort_handle());
        }
    });
    ReceiverStream::new(accepted)
}

async fn shake_hands(
    socket: TcpStream,
    address: SocketAddr,
    config: Arc<ServerConfig>,
    places: Arc<Semaphore>,
) -> io::Result<Connection> {
    // Small messages that wait for each other's acknowledgement would add 40 ms to every batch.
    socket.set_nodelay(true)?;
    let patience = Duration::from_millis(wire_limits::HANDSHAKE_TIMEOUT_MS);
    let mut tls = timeout(patience, TlsAcceptor::from(config).accept(socket))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))??;
    // Only a peer with a genuine certificate takes a place.
    let Ok(place) = places.try_acquire_owned() else {
        let _ = timeout(patience, tls.shutdown()).await;
        return Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            "there are as many connections as there may be",
        ));
    };
    let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let party = certificate
        .ok_or(UnknownParty::NotACertificate)
        .and_then(|certificate| Party::from_certificate(certificate));
    match &party {
        Ok(party) => tracing::debug!(%address, %party, "connected"),
        Err(error) => tracing::info!(%address, %error, "connected with a certificate that names nobody"),
    }
    let age = limits::CONNECTION_AGE_SECONDS.saturating_add(limits::CONNECTION_GRACE_SECONDS);
    Ok(Connection {
        tls,
        peer: Peer::new(party, address),
        deadline: Box::pin(sleep(Duration::from_secs(age))),
        _place: place,
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection is too old")));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
