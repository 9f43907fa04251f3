//! The Unix socket of the person in charge: gRPC, `rutli.v1.CustodianService`, never on a network.
//!
//! The socket has mode 0600, and whoever connects must be this process's own user or root (`SO_PEERCRED`): two locks,
//! for the mode of a socket is easily changed. Here is the only place that makes a gRPC status of an error.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use age::secrecy::SecretString;
use futures::{Stream as FuturesStream, stream};
use rutli_keys::{CeremonyId, IdentityPublic, NodeId};
use rutli_log::{Hash, Head, limits::MAX_TREE_SIZE};
use rutli_release::ChannelKey;
use rutli_wire::{
    convert::class_to_wire,
    v1::{
        self,
        custodian_service_server::{CustodianService, CustodianServiceServer},
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    transport::{
        Server,
        server::{Connected, UdsConnectInfo},
    },
};

use crate::{
    ceremonies::{CeremoniesHandle, Wish},
    error::Error,
    limits,
    link::LinkState,
    node::{Event, NodeHandle},
    rules::RulesHandle,
};

/// The socket, bound.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// What the custodian sees and moves.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Which node this is.
    pub me: NodeId,
    /// Its identity.
    pub identity: IdentityPublic,
    /// The signer.
    pub node: NodeHandle,
    /// Its ceremonies.
    pub ceremonies: CeremoniesHandle,
    /// The one who looks at its rules.
    pub rules: RulesHandle,
    /// URL and state of each link.
    pub links: Vec<(String, LinkState)>,
}

impl Socket {
    /// Binds the socket; takes away one that a dead process left.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(Error::SocketInUse { path: path.to_path_buf() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove_stale(path)?,
            Err(error) => return Err(Error::file("look at the socket", path)(error)),
        }
        let listener = UnixListener::bind(path).map_err(Error::file("bind the socket", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(Error::file("close to others", path))?;
        Ok(Self { listener, path: path.to_path_buf() })
    }

    /// Serves until the shutdown, then takes the socket away.
    pub async fn serve(self, desk: Desk, shutdown: CancellationToken) -> Result<(), Error> {
        let Self { listener, path } = self;
        let service = CustodianServiceServer::new(desk)
            .max_decoding_message_size(limits::MAX_CUSTODIAN_REQUEST_BYTES)
            .max_encoding_message_size(rutli_wire::limits::MAX_MESSAGE_BYTES);
        let served = Server::builder()
            .timeout(Duration::from_millis(limits::CUSTODIAN_TIMEOUT_MS))
            .concurrency_limit_per_connection(limits::MAX_CUSTODIANS)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming(listener), shutdown.cancelled_owned())
            .await;
        // Another process may have it by now only if somebody removed this one's: then there is nothing to take away.
        _ = fs::remove_file(&path);
        served.map_err(|error| Error::file("serve", path)(io::Error::other(error)))
    }
}

fn remove_stale(path: &Path) -> Result<(), Error> {
    let kind = fs::symlink_metadata(path).map_err(Error::file("look at the socket", path))?.file_type();
    if !kind.is_socket() {
        let other =
            io::Error::new(io::ErrorKind::AlreadyExists, "something else lies there; give another `socket`");
        return Err(Error::file("bind the socket", path)(other));
    }
    fs::remove_file(path).map_err(Error::file("remove the socket of a dead process at", path))
}

/// Connections of this user and root, so many at a time.
fn incoming(listener: UnixListener) -> impl FuturesStream<Item = io::Result<Guarded>> {
    let places = Arc::new(Semaphore::new(limits::MAX_CUSTODIANS));
    stream::unfold((listener, places), |(listener, places)| async move {
        loop {
            // Never closed.
            let permit = Arc::clone(&places).acquire_owned().await.ok()?;
            match listener.accept().await {
                Ok((stream, _)) if is_allowed(&stream) => {
                    return Some((Ok(Guarded { stream, _permit: permit }), (listener, places)));
                }
                Ok(_) => tracing::warn!("another user connected to the custodian's socket, and was refused"),
                Err(error) => {
                    // Out of file descriptors, most likely: not for ever.
                    tracing::warn!(%error, "cannot accept a connection at the custodian's socket");
                    tokio::time::sleep(Duration::from_millis(limits::TICK_MS)).await;
                }
            }
        }
    })
}

fn is_allowed(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

/// A connection that holds its place.
struct Guarded {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Guarded {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Desk {
    async fn status(&self) -> Result<v1::StatusResponse, Error> {
        let report = self.node.report().await?;
        let keys = self.ceremonies.keys().await?;
        let coordinators = self.links.iter().map(|(url, state)| {
            let (connected, error) = state.get();
            v1::CoordinatorLink { url: url.clone(), connected, error }
        });
        let marks = report.marks.into_iter();
        Ok(v1::StatusResponse {
            node: self.me.to_string(),
            state: report.status.condition.as_str().into(),
            reason: report.status.reason,
            version: env!("CARGO_PKG_VERSION").into(),
            identity: self.identity.to_string(),
            keys,
            coordinators: coordinators.collect(),
            permitted: report.counts.permitted,
            refused: report.counts.refused,
            shares: report.shares,
            marks: marks
                .map(|(ChannelKey { class, product, channel }, sequence)| v1::Mark {
                    release_class: class_to_wire(class).into(),
                    product: product.to_string(),
                    channel: channel.to_string(),
                    sequence,
                })
                .collect(),
            policy: Some(v1::PolicyStatus {
                digest: report.rules.digest.to_vec(),
                policies: report.rules.policies,
                trusts: report.rules.trusts,
                loaded_at: report.rules.loaded_at,
                problem: report.rules.problem.unwrap_or_default(),
                warnings: report.rules.warnings,
            }),
            log_origin: report.log.origin,
            log_size: report.log.head.size,
            log_root: report.log.head.root.as_bytes().to_vec(),
            log_state: report.log.state.into(),
        })
    }

    async fn show_status(&self) -> Result<Response<v1::StatusResponse>, Status> {
        self.status().await.map(Response::new).map_err(to_status)
    }

    async fn wish(&self, wish: Result<Wish, Error>) -> Result<Response<v1::Ceremony>, Status> {
        let wish = wish.map_err(to_status)?;
        self.ceremonies.wish(wish).await.map(Response::new).map_err(to_status)
    }
}

#[tonic::async_trait]
impl CustodianService for Desk {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        self.show_status().await
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let reason = reason(request.into_inner().reason).map_err(to_status)?;
        tracing::info!(reason, "the custodian pauses the node");
        self.node.ask(|answer| Event::Pause(reason, answer)).await.map_err(to_status)?;
        self.show_status().await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        let head = vouched_head(&request.into_inner()).map_err(to_status)?;
        tracing::info!("the custodian resumes the node");
        self.node.ask(|answer| Event::Resume(head, answer)).await.map_err(to_status)?;
        self.show_status().await
    }

    async fn reload(&self, _: Request<v1::ReloadRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        tracing::info!("the custodian has the rules read again");
        self.rules.reload().await.map_err(to_status)?;
        self.show_status().await
    }

    async fn unseal(
        &self,
        request: Request<v1::UnsealRequest>,
    ) -> Result<Response<v1::StatusResponse>, Status> {
        // From here on it is wiped when it is dropped; the copy in the request's buffer is the transport's.
        let passphrase = SecretString::from(request.into_inner().passphrase);
        if age::secrecy::ExposeSecret::expose_secret(&passphrase).len() > limits::MAX_PASSPHRASE_BYTES {
            return Err(to_status(Error::Request("the passphrase is too long".into())));
        }
        self.ceremonies.unseal(passphrase).await.map_err(to_status)?;
        tracing::info!("the custodian unsealed the node");
        self.show_status().await
    }

    async fn propose_ceremony(
        &self,
        request: Request<v1::ProposeCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        self.wish(Ok(Wish::Propose(request.into_inner().proposal))).await
    }

    async fn list_ceremonies(
        &self,
        _: Request<v1::ListCeremoniesRequest>,
    ) -> Result<Response<v1::ListCeremoniesResponse>, Status> {
        let ceremonies = self.ceremonies.list().await.map_err(to_status)?;
        Ok(Response::new(v1::ListCeremoniesResponse { ceremonies }))
    }

    async fn get_ceremony(
        &self,
        request: Request<v1::GetCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        self.wish(ceremony_id(&request.into_inner().ceremony_id).map(Wish::Get)).await
    }

    async fn join_ceremony(
        &self,
        request: Request<v1::JoinCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        let request = request.into_inner();
        self.wish(ceremony_id(&request.ceremony_id).map(|id| Wish::Join(id, request.words))).await
    }

    async fn reject_ceremony(
        &self,
        request: Request<v1::RejectCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        let request = request.into_inner();
        self.wish(ceremony_id(&request.ceremony_id).map(|id| Wish::Reject(id, request.reason))).await
    }

    async fn abort_ceremony(
        &self,
        request: Request<v1::RejectCeremonyRequest>,
    ) -> Result<Response<v1::Ceremony>, Status> {
        let request = request.into_inner();
        self.wish(ceremony_id(&request.ceremony_id).map(|id| Wish::Abort(id, request.reason))).await
    }
}

fn ceremony_id(text: &str) -> Result<CeremonyId, Error> {
    text.parse().map_err(|_| Error::UnknownCeremony(text.chars().take(64).collect()))
}

/// The head of the log that the custodian names, if any.
fn vouched_head(request: &v1::ResumeRequest) -> Result<Option<Head>, Error> {
    if (request.log_size, request.log_root.is_empty()) == (0, true) {
        return Ok(None);
    }
    let root = Hash::from_slice(&request.log_root)
        .map_err(|_| Error::Request("the root of a log's head has 32 bytes".into()))?;
    if request.log_size > MAX_TREE_SIZE {
        return Err(Error::Request(format!("a log has at most {MAX_TREE_SIZE} entries")));
    }
    Ok(Some(Head { size: request.log_size, root }))
}

fn reason(text: String) -> Result<String, Error> {
    if text.len() <= limits::MAX_REASON_BYTES && !text.chars().any(char::is_control) {
        return Ok(if text.is_empty() { "no reason given".to_owned() } else { text });
    }
    Err(Error::Request(format!("a reason has at most {} bytes, in one line", limits::MAX_REASON_BYTES)))
}

fn to_status(error: Error) -> Status {
    let code = match &error {
        Error::Passphrase { .. } => Code::Unauthenticated,
        Error::UnknownCeremony(_) => Code::NotFound,
        Error::WrongWords(_) | Error::Proposal(_) | Error::Stranger { .. } | Error::Request(_) => {
            Code::InvalidArgument
        }
        Error::KeyExists(_) => Code::AlreadyExists,
        Error::CannotVouch(_)
        | Error::Sealed
        | Error::NotSealed
        | Error::NameInUse(_)
        | Error::NoPhrase(_)
        | Error::Ceremony(_) => Code::FailedPrecondition,
        Error::TooManyCeremonies(_) => Code::ResourceExhausted,
        Error::Journal(_) | Error::File { .. } | Error::Stopping => Code::Unavailable,
        _ => Code::Internal,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use rutli_wire::v1::custodian_service_client::CustodianServiceClient;
    use tonic::transport::{Channel, Endpoint};

    use super::*;
    use crate::{
        rules::{Keeper, RulesFolder},
        testing::TestNode,
    };

    struct Served {
        client: CustodianServiceClient<Channel>,
        path: PathBuf,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<Result<(), Error>>,
    }

    async fn serve(folder: &Path) -> Served {
        let TestNode { identity, node, ceremonies, .. } = TestNode::start(folder).await;
        let link = LinkState::default();
        let rules = folder.join("policy");
        std::fs::create_dir_all(&rules).unwrap();
        std::fs::write(rules.join("suite.cedar"), crate::testing::SUITE).unwrap();
        let rules = RulesFolder::new(rules);
        let (keeper, rules) = Keeper::new(rules.clone(), rules.load().unwrap().look, node.clone());
        tokio::spawn(keeper.keep());
        let desk = Desk {
            me: NodeId::new(TestNode::ME.0, TestNode::ME.1).unwrap(),
            identity: identity.public(),
            node,
            ceremonies,
            rules,
            links: vec![("https://127.0.0.1:1".into(), link)],
        };
        let path = folder.join("node.sock");
        let socket = Socket::bind(&path).unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(socket.serve(desk, shutdown.clone()));
        Served { client: connect(&path).await, path, shutdown, task }
    }

    async fn connect(path: &Path) -> CustodianServiceClient<Channel> {
        let path = path.to_path_buf();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://socket");
        CustodianServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
    }

    impl Served {
        async fn stop(self) {
            self.shutdown.cancel();
            drop(self.client);
            self.task.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn the_custodian_sees_pauses_and_resumes_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let mut served = serve(folder.path()).await;
        assert_eq!(fs::metadata(&served.path).unwrap().permissions().mode() & 0o777, 0o600);
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.node.as_str(), status.state.as_str()), ("vendor/vendor-1", "ready"));
        assert_eq!(status.policy.unwrap().policies, ["suite"]);
        assert!(!status.coordinators[0].connected);
        let reason = "an audit, until Monday".to_owned();
        let paused = served.client.pause(v1::PauseRequest { reason }).await.unwrap().into_inner();
        assert_eq!(paused.state, "paused");
        served.stop().await;

        let mut served = serve(folder.path()).await;
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert!(status.reason.contains("an audit, until Monday"), "{}", status.reason);
        let resumed = served.client.resume(v1::ResumeRequest::default()).await.unwrap().into_inner();
        assert_eq!(resumed.state, "ready");
        let path = served.path.clone();
        served.stop().await;
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_custodian_vouches_for_a_head_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut served = serve(folder.path()).await;
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.log_size, status.log_root), (0, Head::EMPTY.root.as_bytes().to_vec()));
        let name = |log_size, log_root: &[u8]| v1::ResumeRequest { log_size, log_root: log_root.to_vec() };
        for wrong in [name(7, &[]), name(7, &[9; 31]), name(MAX_TREE_SIZE + 1, &[9; 32])] {
            assert_eq!(served.client.resume(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let other = served.client.resume(name(0, &[9; 32])).await.unwrap_err();
        assert_eq!(other.code(), Code::FailedPrecondition, "an empty log has one root");
        let vouched = served.client.resume(name(7, &[9; 32])).await.unwrap().into_inner();
        assert_eq!((vouched.log_size, vouched.log_root), (7, vec![9; 32]));
        served.stop().await;
        let mut served = serve(folder.path()).await;
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.log_size, status.log_root), (7, vec![9; 32]), "over restarts");
        served.stop().await;
    }

    #[tokio::test]
    async fn errors_have_codes_and_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let mut served = serve(folder.path()).await;
        let client = &mut served.client;
        let long = v1::PauseRequest { reason: "x".repeat(501) };
        assert_eq!(client.pause(long).await.unwrap_err().code(), Code::InvalidArgument);
        let unseal = v1::UnsealRequest { passphrase: "x".into() };
        assert_eq!(client.unseal(unseal).await.unwrap_err().code(), Code::FailedPrecondition);
        let unseal = v1::UnsealRequest { passphrase: "x".repeat(2_000) };
        assert_eq!(client.unseal(unseal).await.unwrap_err().code(), Code::InvalidArgument);
        let proposal = v1::ProposeCeremonyRequest { proposal: b"{}".to_vec() };
        assert_eq!(client.propose_ceremony(proposal).await.unwrap_err().code(), Code::InvalidArgument);
        for ceremony_id in ["x".to_owned(), "ab".repeat(32)] {
            let unknown = client.get_ceremony(v1::GetCeremonyRequest { ceremony_id }).await.unwrap_err();
            assert_eq!(unknown.code(), Code::NotFound);
            assert!(unknown.message().contains("rutli ceremony list"), "{unknown}");
        }
        let huge = v1::ProposeCeremonyRequest { proposal: vec![b' '; 1 << 20] };
        assert_eq!(client.propose_ceremony(huge).await.unwrap_err().code(), Code::OutOfRange);
        assert!(
            client
                .list_ceremonies(v1::ListCeremoniesRequest {})
                .await
                .unwrap()
                .into_inner()
                .ceremonies
                .is_empty()
        );
        served.stop().await;
    }

    #[tokio::test]
    async fn a_lone_node_makes_its_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut served = serve(folder.path()).await;
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        let proposed = |lone: &str| {
            let proposal = format!(
                r#"{{"name":"genesis",{lone}"keys":[{{"name":"release","purpose":"release"}}],"organisations":[
                    {{"name":"vendor","threshold":1,"nodes":[{{"name":"vendor-1","identity":"{}"}}]}}]}}"#,
                status.identity
            );
            v1::ProposeCeremonyRequest { proposal: proposal.into_bytes() }
        };
        let refused = served.client.propose_ceremony(proposed("")).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "only where it is meant");
        let meant = proposed(r#""lone":true,"#);
        let ceremony = served.client.propose_ceremony(meant).await.unwrap().into_inner();
        assert_eq!((ceremony.state(), ceremony.keys.len()), (v1::CeremonyState::Done, 1));
        let status = served.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.state.as_str(), status.keys.len()), ("ready", 1));
        assert_eq!(status.keys[0].words, ceremony.keys[0].words);
        served.stop().await;
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a killed process leaves its socket");
        let socket = Socket::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path).unwrap_err(), Error::SocketInUse { .. }));
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody's file").unwrap();
        let error = Socket::bind(&path).unwrap_err();
        assert!(error.to_string().contains("something else lies there"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's file");
    }
}
