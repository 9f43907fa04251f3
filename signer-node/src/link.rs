//! The link to one coordinator: dials, keeps the stream, comes back.
//!
//! TLS 1.3 with certificates on both sides, hybrid post-quantum key exchange first; the coordinator's
//! certificate must name a coordinator. One stream at a time: the signer's pool of nonces belongs to it, a
//! new stream means a new pool. An end without a goodbye is a loss. The TLS files are read at each dial, so
//! that a renewed certificate needs no restart.

use std::{
    error::Error as StdError,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures::{Stream as FuturesStream, stream};
use hyper_util::rt::TokioIo;
use rutli_wire::{
    limits as wire,
    link::{BatchId, BatchReply, FromNode, Refusal, RefusalCode, ToNode},
    role::Party,
    tls::{Pem, client_config},
    v1::{self, node_service_client::NodeServiceClient},
};
use tokio::{net::TcpStream, sync::mpsc, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    ceremonies::CeremoniesHandle,
    config::{Coordinator, TlsFiles, read_limited},
    limits,
    node::{Event, NodeHandle, Stream},
    sign::StreamId,
};

type BoxError = Box<dyn StdError + Send + Sync>;

/// One coordinator, and whom its messages go to.
#[derive(Debug)]
pub struct Link {
    /// Whom to dial.
    pub coordinator: Coordinator,
    /// Files of the own side.
    pub tls: TlsFiles,
    /// Work goes there.
    pub node: NodeHandle,
    /// Ceremony messages go there.
    pub ceremonies: CeremoniesHandle,
    /// What the custodian sees.
    pub state: LinkState,
    /// Names of streams, shared by all links of the process.
    pub names: Arc<AtomicU64>,
}

/// How a link does, for the custodian's eyes; clones share it.
#[derive(Clone, Debug, Default)]
pub struct LinkState(Arc<Mutex<(bool, String)>>);

impl LinkState {
    /// Whether a stream is up, and the last error.
    #[must_use]
    pub fn get(&self) -> (bool, String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, connected: bool, error: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (connected, error);
    }
}

/// How a stream ended.
enum Ended {
    /// The coordinator said goodbye.
    Goodbye(String),
    /// This side ended it: its signer wants to start over, or the coordinator did not keep up.
    ByNode,
    /// This process stops.
    Shutdown,
}

impl Link {
    /// Keeps the link until the shutdown, whatever happens at the other end.
    pub async fn keep(self, shutdown: CancellationToken) {
        let mut waits = waits();
        loop {
            let begun = tokio::time::Instant::now();
            let problem = match self.session(&shutdown).await {
                Ok(Ended::Shutdown) => return,
                Ok(Ended::Goodbye(reason)) => format!("the coordinator left: {reason}"),
                Ok(Ended::ByNode) => "the stream begins anew".to_owned(),
                Err(error) => chain(error.as_ref()),
            };
            if self.state.get() != (false, problem.clone()) {
                tracing::warn!(coordinator = self.coordinator.url, "{problem}");
            }
            self.state.set(false, problem);
            if begun.elapsed() > Duration::from_millis(limits::STEADY_STREAM_MS) {
                waits = self::waits();
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(waits.next().unwrap_or_default()) => {}
            }
        }
    }

    /// One stream from dial to end.
    async fn session(&self, shutdown: &CancellationToken) -> Result<Ended, BoxError> {
        let (outbox, waiting) = mpsc::channel(limits::OUTBOX);
        let told = self.node.status();
        let hello = FromNode::Hello {
            version: env!("CARGO_PKG_VERSION").into(),
            status: told.clone(),
            log: self.node.log(),
        };
        outbox.try_send(hello).map_err(|_| "the outbox is full")?;
        let attached = tokio::select! {
            () = shutdown.cancelled() => return Ok(Ended::Shutdown),
            attached = timeout(Duration::from_millis(limits::DIAL_TIMEOUT_MS), self.attach(waiting)) => attached,
        };
        let mut inbound = attached.map_err(|_| "the coordinator did not answer in time")??;
        let stream = Stream {
            id: StreamId(self.names.fetch_add(1, Ordering::Relaxed)),
            outbox,
            end: CancellationToken::new(),
        };
        self.state.set(true, String::new());
        tracing::info!(coordinator = self.coordinator.url, stream = stream.id.0, "attached");
        self.node.send(Event::Opened(stream.clone(), told)).await?;
        self.ceremonies.opened(stream.clone()).await;
        let ended = self.serve(&mut inbound, &stream, shutdown).await;
        self.ceremonies.closed(stream.id).await;
        self.node.send(Event::Closed(stream.id)).await?;
        if ended.is_ok() {
            say_goodbye(&stream, &mut inbound).await;
        }
        ended
    }

    /// Dials, says hello, and waits for the welcome.
    async fn attach(
        &self,
        waiting: mpsc::Receiver<FromNode>,
    ) -> Result<Streaming<v1::CoordinatorMessage>, BoxError> {
        let mut client = NodeServiceClient::new(self.dial().await?)
            .max_decoding_message_size(wire::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(wire::MAX_MESSAGE_BYTES);
        let mut inbound = client.attach(outgoing(waiting)).await?.into_inner();
        match inbound.message().await?.map(ToNode::try_from).transpose()? {
            Some(ToNode::Welcome(version)) => {
                tracing::debug!(coordinator = self.coordinator.url, version, "welcome");
                Ok(inbound)
            }
            Some(ToNode::Goodbye(reason)) => {
                Err(format!("the coordinator sent the node away: {reason}").into())
            }
            _ => Err("the coordinator did not begin with a welcome".into()),
        }
    }

    async fn serve(
        &self,
        inbound: &mut Streaming<v1::CoordinatorMessage>,
        stream: &Stream,
        shutdown: &CancellationToken,
    ) -> Result<Ended, BoxError> {
        loop {
            let message = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                () = stream.end.cancelled() => return Ok(Ended::ByNode),
                message = inbound.message() => message?.ok_or("the stream was lost")?,
            };
            let batch_id = match &message.message {
                Some(v1::coordinator_message::Message::Batch(batch)) => Some(BatchId(batch.batch_id)),
                _ => None,
            };
            match (ToNode::try_from(message), batch_id) {
                (Ok(ToNode::Batch(batch)), _) => self.node.send(Event::Batch(stream.id, batch)).await?,
                (Ok(ToNode::Ceremony(envelope)), _) => self.ceremonies.received(envelope).await,
                (Ok(ToNode::Head(head)), _) => self.node.send(Event::Head(stream.id, head)).await?,
                (Ok(ToNode::Welcome(_)), _) => {}
                (Ok(ToNode::Goodbye(reason)), _) => return Ok(Ended::Goodbye(reason)),
                (Err(malformed), Some(id)) => {
                    tracing::warn!(coordinator = self.coordinator.url, %malformed, "refused a batch");
                    let refusal = Refusal::new(RefusalCode::Malformed, malformed.to_string());
                    let (witnessed, decision_ms) = (None, Vec::new());
                    stream.send(FromNode::Reply(BatchReply {
                        id,
                        answer: Err(refusal),
                        witnessed,
                        decision_ms,
                    }));
                }
                // A coordinator that is newer than this node may say more than it understands.
                (Err(malformed), None) => {
                    tracing::warn!(coordinator = self.coordinator.url, %malformed, "left out a message");
                }
            }
        }
    }

    async fn dial(&self) -> Result<Channel, BoxError> {
        let (host, port) = (&self.coordinator.host, self.coordinator.port);
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        // TLS is this connector's own business: tonic's would allow TLS 1.2 and hide the peer's certificate.
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))?
            .origin(format!("https://{authority}").parse()?)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_millis(wire::KEEP_ALIVE_INTERVAL_MS))
            .keep_alive_timeout(Duration::from_millis(wire::KEEP_ALIVE_TIMEOUT_MS))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::LINK_WINDOW_BYTES)
            .initial_connection_window_size(limits::LINK_WINDOW_BYTES);
        let (coordinator, tls) = (self.coordinator.clone(), self.tls.clone());
        let connector = tower::service_fn(move |_| {
            let (coordinator, tls) = (coordinator.clone(), tls.clone());
            async move { connect(&coordinator, &tls).await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector(connector).await?)
    }
}

/// A connection to a party that its certificate names as a coordinator.
async fn connect(coordinator: &Coordinator, files: &TlsFiles) -> Result<TlsStream<TcpStream>, BoxError> {
    let config = tls_config(files)?;
    let tcp = TcpStream::connect((coordinator.host.as_str(), coordinator.port)).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(config)).connect(coordinator.server_name.clone(), tcp).await?;
    let certificate = tls
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or("the coordinator showed no certificate")?;
    match Party::from_certificate(certificate)? {
        Party::Coordinator(_) => Ok(tls),
        other => Err(format!("{} is {other}, not a coordinator", coordinator.url).into()),
    }
}

/// Reads the files of the own side.
pub(crate) fn tls_config(files: &TlsFiles) -> Result<rustls::ClientConfig, crate::error::Error> {
    let read = |path| read_limited(path, limits::MAX_KEY_FILE_BYTES);
    let (ca, certificate, key) = (read(&files.ca)?, read(&files.certificate)?, read(&files.key)?);
    Ok(client_config(Pem { ca: &ca, certificate: &certificate, key: &key })?)
}

/// What waits, as messages; ends after a goodbye.
fn outgoing(waiting: mpsc::Receiver<FromNode>) -> impl FuturesStream<Item = v1::NodeMessage> {
    stream::unfold(Some(waiting), |waiting| async {
        let mut waiting = waiting?;
        let message = waiting.recv().await?;
        let rest = (!matches!(message, FromNode::Goodbye(_))).then_some(waiting);
        Some((message.into(), rest))
    })
}

/// Says goodbye, or answers one, and lets the coordinator close its side; what it sends meanwhile comes too late.
async fn say_goodbye(stream: &Stream, inbound: &mut Streaming<v1::CoordinatorMessage>) {
    let farewell = async {
        _ = stream.outbox.send(FromNode::Goodbye("the node ends this stream".into())).await;
        while let Ok(Some(_)) = inbound.message().await {}
    };
    _ = timeout(Duration::from_millis(limits::GOODBYE_MS), farewell).await;
}

/// Short waits at first, then longer ones; with jitter, so that the nodes do not all come at once.
fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(limits::FIRST_BACKOFF_MS))
        .with_max_delay(Duration::from_millis(limits::LAST_BACKOFF_MS))
        .without_max_times()
        .with_jitter()
        .build()
}

/// An error with its causes, for tonic's own text says only "transport error".
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::StreamExt as _;
    use rustls::pki_types::ServerName;
    use rutli_wire::{
        link::{CeremonyEnvelope, Condition},
        tls::server_config,
        v1::node_service_server::{NodeService, NodeServiceServer},
    };
    use tokio::{net::TcpListener, task::JoinHandle};
    use tokio_rustls::TlsAcceptor;
    use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
    use tonic::{Request, Response, Status, transport::Server};

    use super::*;
    use crate::testing::{Authority, PATIENCE, TestNode};

    /// A coordinator of few words: it welcomes, tells the test what it hears, and says what the test wants.
    struct Coordinator {
        address: SocketAddr,
        attached: mpsc::Receiver<Attached>,
        task: JoinHandle<()>,
    }

    struct Attached {
        heard: mpsc::Receiver<FromNode>,
        say: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    }

    struct Service(mpsc::Sender<Attached>);

    #[tonic::async_trait]
    impl NodeService for Service {
        type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;

        async fn attach(
            &self,
            request: Request<Streaming<v1::NodeMessage>>,
        ) -> Result<Response<Self::AttachStream>, Status> {
            let mut inbound = request.into_inner();
            let (tell, heard) = mpsc::channel(1_000);
            let (say, said) = mpsc::channel(10);
            say.send(Ok((&ToNode::Welcome("1".into())).into())).await.unwrap();
            self.0.send(Attached { heard, say }).await.unwrap();
            tokio::spawn(async move {
                while let Ok(Some(message)) = inbound.message().await {
                    _ = tell.send(message.try_into().unwrap()).await;
                }
            });
            Ok(Response::new(ReceiverStream::new(said)))
        }

        async fn list_nodes(
            &self,
            _: Request<v1::ListNodesRequest>,
        ) -> Result<Response<v1::ListNodesResponse>, Status> {
            Err(Status::unimplemented("not here"))
        }

        async fn reinstate_node(
            &self,
            _: Request<v1::ReinstateNodeRequest>,
        ) -> Result<Response<v1::ReinstateNodeResponse>, Status> {
            Err(Status::unimplemented("not here"))
        }
    }

    impl Coordinator {
        async fn start(authority: &Authority, uri: &str, address: &str) -> Self {
            let (certificate, key) = authority.issue(uri);
            let ca = authority.pem();
            let pem = Pem { ca: ca.as_bytes(), certificate: certificate.as_bytes(), key: key.as_bytes() };
            let acceptor = TlsAcceptor::from(Arc::new(server_config(pem).unwrap()));
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            let incoming = TcpListenerStream::new(listener).filter_map(move |tcp| {
                let acceptor = acceptor.clone();
                async move {
                    let mut tls = acceptor.accept(tcp.unwrap()).await.ok()?;
                    let (mut near, far) = tokio::io::duplex(64 << 10);
                    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut near).await });
                    Some(Ok::<_, std::io::Error>(far))
                }
            });
            let (sender, attached) = mpsc::channel(10);
            let server = Server::builder().add_service(NodeServiceServer::new(Service(sender)));
            let task =
                tokio::spawn(async move { server.serve_with_incoming(incoming.boxed()).await.unwrap() });
            Self { address, attached, task }
        }

        async fn attached(&mut self) -> Attached {
            timeout(PATIENCE, self.attached.recv()).await.unwrap().unwrap()
        }
    }

    impl Attached {
        async fn hear(&mut self) -> FromNode {
            timeout(PATIENCE, self.heard.recv()).await.unwrap().unwrap()
        }

        async fn say(&self, message: &ToNode) {
            self.say.send(Ok(message.into())).await.unwrap();
        }
    }

    /// A node with one link.
    struct Node {
        _folder: tempfile::TempDir,
        node: TestNode,
        state: LinkState,
        shutdown: CancellationToken,
        task: JoinHandle<()>,
    }

    impl Node {
        async fn start(authority: &Authority, address: SocketAddr) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let tls = authority.files(folder.path(), "rutli:node:vendor:vendor-1");
            let node = TestNode::start(folder.path()).await;
            let coordinator = crate::config::Coordinator {
                url: format!("https://{address}"),
                host: address.ip().to_string(),
                port: address.port(),
                server_name: ServerName::try_from("localhost").unwrap(),
            };
            let state = LinkState::default();
            let link = Link {
                coordinator,
                tls,
                node: node.node.clone(),
                ceremonies: node.ceremonies.clone(),
                state: state.clone(),
                names: Arc::new(AtomicU64::new(1)),
            };
            let shutdown = CancellationToken::new();
            let task = tokio::spawn(link.keep(shutdown.clone()));
            Self { _folder: folder, node, state, shutdown, task }
        }

        /// Waits until it has no stream for such a reason. A busy machine may bring others before.
        async fn is_cut_off(&self, is_reason: impl Fn(&str) -> bool) {
            let cut_off = async {
                loop {
                    let (connected, error) = self.state.get();
                    if !connected && is_reason(&error) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(PATIENCE, cut_off).await.unwrap_or_else(|_| panic!("{:?}", self.state.get()));
        }
    }

    #[tokio::test]
    async fn it_says_hello_and_goodbye_and_comes_back_after_a_loss() {
        let authority = Authority::new();
        let mut coordinator = Coordinator::start(&authority, "rutli:coordinator:c", "127.0.0.1:0").await;
        let node = Node::start(&authority, coordinator.address).await;
        let mut attached = coordinator.attached().await;
        let FromNode::Hello { status, .. } = attached.hear().await else { panic!("expected a hello") };
        assert_eq!(status.condition, Condition::Ready);

        attached.say(&ToNode::Goodbye("an upgrade".into())).await;
        let mut attached = coordinator.attached().await;
        assert!(matches!(attached.hear().await, FromNode::Hello { .. }));

        // A lost coordinator is found again.
        coordinator.task.abort();
        assert!((&mut coordinator.task).await.unwrap_err().is_cancelled());
        drop(attached);
        let address = coordinator.address.to_string();
        drop(coordinator);
        node.is_cut_off(|error| !error.contains("an upgrade")).await;
        let mut coordinator = Coordinator::start(&authority, "rutli:coordinator:c", &address).await;
        let mut attached = coordinator.attached().await;
        assert!(matches!(attached.hear().await, FromNode::Hello { .. }));

        while !node.state.get().0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        node.shutdown.cancel();
        assert!(matches!(attached.hear().await, FromNode::Goodbye(_)));
        drop(attached);
        timeout(PATIENCE, node.task).await.unwrap().unwrap();
    }

    /// However long a coordinator was away: it is found soon, and not by a node that does nothing else.
    #[test]
    fn no_wait_is_long_and_none_is_missing() {
        let waits: Vec<_> = waits().take(1_000).collect();
        assert_eq!(waits.len(), 1_000);
        let [shortest, longest] =
            [limits::FIRST_BACKOFF_MS, 2 * limits::LAST_BACKOFF_MS].map(Duration::from_millis);
        assert!(waits.iter().all(|wait| (shortest..=longest).contains(wait)), "{waits:?}");
        assert_ne!(
            super::waits().take(1_000).collect::<Vec<_>>(),
            waits,
            "the nodes do not all come at once"
        );
    }

    #[tokio::test]
    async fn what_does_not_parse_is_answered_or_left_out_and_the_stream_goes_on() {
        let authority = Authority::new();
        let mut coordinator = Coordinator::start(&authority, "rutli:coordinator:c", "127.0.0.1:0").await;
        let node = Node::start(&authority, coordinator.address).await;
        let mut attached = coordinator.attached().await;
        assert!(matches!(attached.hear().await, FromNode::Hello { .. }));
        attached.say.send(Ok(v1::CoordinatorMessage { message: None })).await.unwrap();
        attached
            .say(&ToNode::Ceremony(CeremonyEnvelope { proposal: Some(vec![7; 99]), messages: vec![vec![]] }))
            .await;
        let batch = v1::Batch { batch_id: 77, ..v1::Batch::default() };
        let message = Some(v1::coordinator_message::Message::Batch(batch));
        attached.say.send(Ok(v1::CoordinatorMessage { message })).await.unwrap();
        let FromNode::Reply(reply) = attached.hear().await else { panic!("expected a reply") };
        assert_eq!((reply.id, reply.answer.unwrap_err().code), (BatchId(77), RefusalCode::Malformed));
        assert_eq!(node.state.get(), (true, String::new()));

        // Oversize: the stream ends with a clear error, the node lives and comes back.
        let huge = v1::Goodbye { reason: "x".repeat(wire::MAX_MESSAGE_BYTES + 1) };
        let message = Some(v1::coordinator_message::Message::Goodbye(huge));
        attached.say.send(Ok(v1::CoordinatorMessage { message })).await.unwrap();
        node.is_cut_off(|error| error.contains("too large") || error.contains("limit")).await;
        let mut attached = coordinator.attached().await;
        assert!(matches!(attached.hear().await, FromNode::Hello { .. }));
    }

    #[tokio::test]
    async fn only_a_coordinator_of_the_own_authority_is_talked_to() {
        let authority = Authority::new();
        let mut impostor = Coordinator::start(&authority, "rutli:node:vendor:vendor-2", "127.0.0.1:0").await;
        let node = Node::start(&authority, impostor.address).await;
        node.is_cut_off(|error| error.contains("is rutli:node:vendor:vendor-2, not a coordinator")).await;
        assert!(impostor.attached.try_recv().is_err());

        let other = Authority::new();
        let mut stranger = Coordinator::start(&other, "rutli:coordinator:c", "127.0.0.1:0").await;
        let node = Node::start(&authority, stranger.address).await;
        node.is_cut_off(|error| error.contains("UnknownIssuer") || error.contains("certificate")).await;
        assert!(stranger.attached.try_recv().is_err());
        node.node.node.report().await.unwrap();
    }
}
