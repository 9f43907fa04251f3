//! The accept loop: TCP, then TLS 1.3 with a client certificate, then who the peer is, once per connection.
//!
//! Everything before a verified certificate is bounded in number and time, for anybody can get that far. The server's
//! configuration is read from a watch at each handshake, so that renewed certificates need no restart.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rutli_wire::{
    limits as wire_limits,
    role::{Party, UnknownParty},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{
    bounds::Bounds,
    error::{Error, Result},
    evidence::submitter,
    limits,
    share::{Owner, Share},
    tls_files::ServerTls,
};

/// Who is at the other end of a connection; an extension of every call on it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<PeerInner>);

#[derive(Debug)]
struct PeerInner {
    party: Result<Party, UnknownParty>,
    owner: Owner,
    address: SocketAddr,
    cut: CancellationToken,
}

impl Peer {
    /// A peer by its certificate, DER, and the authority that vouched for it. `cut` ends its connection.
    #[must_use]
    pub fn new(certificate: &[u8], authority: &str, address: SocketAddr, cut: CancellationToken) -> Self {
        let party = Party::from_certificate(certificate);
        let name = party.as_ref().map_or_else(|_| NAMELESS.to_owned(), submitter);
        let owner = Owner::new(&name, authority);
        Self(Arc::new(PeerInner { party, owner, address, cut }))
    }

    /// Whose share is used by what it does.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.0.owner
    }

    /// Ends its connection, and everything that is open on it.
    pub fn cut(&self) {
        self.0.cut.cancel();
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

/// What holds the shares of certificates that name nobody.
const NAMELESS: &str = "certificates that name no party";

/// A connection after its handshake. Holds its place among the connections until it is dropped.
pub struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    /// The server asks old connections to end; this cuts those that do not.
    deadline: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Share,
}

/// Listens on `address`.
///
/// # Errors
/// [`Error::Listen`]
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| Error::Listen { address, reason: error.to_string() })
}

/// Accepts until `stopping`, as many at a time as `bounds` says.
#[must_use]
pub fn accept(
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerTls>>,
    bounds: Arc<Bounds>,
    stopping: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, accepted) = mpsc::channel(1);
    tokio::spawn(async move {
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
            let (block, revoked) = (Owner::block(address.ip()), CancellationToken::new());
            // The block that has most of them makes room, starting with those that have sent nothing yet.
            let Ok(share) = bounds.handshakes.take_revocable(&block, revoked.clone(), true) else { continue };
            let (ready, server, bounds) = (ready.clone(), Arc::clone(&tls.borrow()), Arc::clone(&bounds));
            tokio::spawn(async move {
                let shaking = shake_hands(socket, address, server, &bounds, share);
                match revoked.run_until_cancelled(shaking).await {
                    Some(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                    Some(Err(error)) => tracing::info!(%address, %error, "refused a connection"),
                    None => tracing::debug!(%address, "a handshake made room for others"),
                }
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn shake_hands(
    socket: TcpStream,
    address: SocketAddr,
    server: Arc<ServerTls>,
    bounds: &Bounds,
    handshake: Share,
) -> io::Result<Connection> {
    // Small messages that wait for each other's acknowledgement would add 40 ms to every batch.
    socket.set_nodelay(true)?;
    let patience = Duration::from_millis(wire_limits::HANDSHAKE_TIMEOUT_MS);
    let shaking = async {
        socket.readable().await?;
        handshake.in_use();
        TlsAcceptor::from(Arc::clone(&server.config)).accept(socket).await
    };
    let mut tls = timeout(patience, shaking)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long"))??;
    drop(handshake);
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = chain.first().map_or(&[][..], AsRef::as_ref);
    let authority = server.authorities.of(chain).unwrap_or_default();
    let cut = CancellationToken::new();
    let peer = Peer::new(certificate, authority, address, cut.clone());
    // Only a peer with a genuine certificate takes a place.
    let place = bounds.pool(peer.party()).connections.take_revocable(peer.owner(), cut.clone(), false);
    let place = match place {
        Ok(place) => place,
        Err(full) => {
            let _ = timeout(patience, tls.shutdown()).await;
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, full));
        }
    };
    match peer.party() {
        Ok(party) => tracing::debug!(%address, %party, "connected"),
        Err(error) => tracing::info!(%address, %error, "connected with a certificate that names nobody"),
    }
    let age = limits::CONNECTION_AGE_SECONDS.saturating_add(limits::CONNECTION_GRACE_SECONDS);
    Ok(Connection {
        tls,
        peer,
        deadline: Box::pin(sleep(Duration::from_secs(age))),
        cut: Box::pin(cut.cancelled_owned()),
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
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection is cut",
            )));
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
