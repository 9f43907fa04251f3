//! A compromised coordinator: it serves a real `rutli-signer` over the real link, with the real coordinator's
//! certificate, address and log key, and sends what a test wants. The real coordinator and the other nodes
//! must be stopped.
//!
//! Its default messages are honest; a test changes one thing. A node drops a link over which it hears nothing for some
//! seconds, as when this process stands still: then it is asked again over the next one.

use std::sync::Arc;

use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey as _};
use rustls::ServerConfig;
use rutli_coordinator::Config;
use rutli_keys::{NodeId, Roster, SignedRoster};
use rutli_log::{EntryBundle, Hash, TileId, entry::RequestTerms, leaf_hash};
use rutli_release::{ReleaseId, Requester, VerifiedRelease};
use rutli_wire::{
    convert::release_from_request,
    link::{
        Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, FromNode, LogHead, NodeStatus, Refusal,
        ToNode, Witnessed,
    },
    tls::{Pem, server_config},
    v1::{
        self,
        node_service_server::{NodeService, NodeServiceServer},
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::{
    cluster::{Cluster, PATIENCE, eventually},
    log::ScriptedLog,
};

/// Links that the node may drop in one test: more are no matter of a busy machine.
const MAX_LOST_LINKS: u32 = 5;

/// See the module. It ends when it is dropped.
pub struct Liar {
    /// The real log, which it may go on with as it likes.
    pub log: ScriptedLog,
    /// What the node said of itself last.
    pub status: Option<NodeStatus>,
    /// Entries under the head that the node keeps, as it said last.
    pub size: u64,
    roster: Roster,
    me: NodeId,
    commitments: Vec<CommitmentBytes>,
    attached: mpsc::Receiver<Attached>,
    stream: Option<Attached>,
    lost_links: u32,
    batches: u64,
    task: JoinHandle<()>,
}

struct Attached {
    heard: mpsc::Receiver<FromNode>,
    say: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
}

impl Liar {
    /// Takes the place of a cluster's coordinator, which is stopped, for one of its nodes; all others are stopped, too.
    pub async fn before(cluster: &mut Cluster, node: &str) -> Self {
        let config = Config::read(&cluster.config("coordinator")).unwrap();
        stop_coordinator(cluster, node, &config).await;
        for other in cluster.nodes().iter().filter(|other| *other != node) {
            cluster.stop(other);
        }
        let pem = std::fs::read_to_string(&config.log.key).unwrap();
        let seed = SigningKey::from_pkcs8_pem(&pem).unwrap().to_bytes();
        let mut log = ScriptedLog::new(config.log.origin.as_str(), seed);
        leaves(&config).into_iter().for_each(|leaf| _ = log.append_leaf(leaf));
        let roster = std::fs::read(cluster.data(node).join("keys/release.roster.json")).unwrap();
        let roster = SignedRoster::parse(&roster).unwrap().into_roster();
        let me = roster.nodes().find(|known| known.id.node.as_str() == node).unwrap().id.clone();
        let (sender, attached) = mpsc::channel(10);
        let task = serve(&config, sender).await;
        let mut liar = Self {
            log,
            status: None,
            size: 0,
            roster,
            me,
            commitments: Vec::new(),
            attached,
            stream: None,
            lost_links: 0,
            batches: 0,
            task,
        };
        liar.attach().await;
        liar
    }

    /// Waits for the node to dial, and for its hello and first commitments, if it is to announce any.
    pub async fn attach(&mut self) {
        loop {
            let mut stream = tokio::time::timeout(PATIENCE, self.attached.recv()).await.unwrap().unwrap();
            // Only the last link can still be up.
            while let Ok(newer) = self.attached.try_recv() {
                stream = newer;
            }
            self.commitments.clear();
            self.stream = Some(stream);
            match self.hear().await {
                Some(FromNode::Hello { status, log, .. }) => {
                    self.size = log.size;
                    self.status = Some(status);
                    return;
                }
                Some(_) => panic!("no hello"),
                None => {}
            }
        }
    }

    /// A release as its pipeline asks for it, issued so many seconds from now.
    #[must_use]
    pub fn release(&self, request: v1::CreateReleaseRequest, issued_in: i64) -> VerifiedRelease {
        let now = rutli::clock::unix_now().saturating_add_signed(issued_in);
        release_from_request(request, now).unwrap()
    }

    /// What the entry of a release says besides the release, with a deadline so many seconds from now.
    #[must_use]
    pub fn terms(&self, release: &VerifiedRelease, deadline_in: i64) -> RequestTerms {
        RequestTerms {
            release_id: ReleaseId::new(format!("r-{}", release.sequence().get())).unwrap(),
            requester: Requester::new("pipeline").unwrap(),
            roster: Hash(*self.roster.hash().as_bytes()),
            deadline: rutli::clock::unix_now().saturating_add_signed(deadline_in),
            evidence: Vec::new(),
            embargo: None,
        }
    }

    /// An honest batch of one release, which is logged for it.
    pub async fn batch(&mut self, release: &VerifiedRelease) -> Batch {
        let terms = self.terms(release, 3_600);
        self.batch_under(release, &terms).await
    }

    /// The same with other terms in its entry.
    pub async fn batch_under(&mut self, release: &VerifiedRelease, terms: &RequestTerms) -> Batch {
        let signers = self.quorum();
        let slots: Vec<u32> = (0..u32::try_from(release.signable_count()).unwrap()).collect();
        // Others' commitments are some that this node announced for another time: points, and nothing of its own.
        let commitments = self.take_commitments(slots.len() * signers.len()).await;
        let entry = self.log.log_release(release, terms);
        self.batches += 1;
        let item = BatchItem {
            release_id: terms.release_id.clone(),
            requester: terms.requester.clone(),
            release: Arc::new(release.clone()),
            slots,
            commitments,
            entry: Some(entry),
            evidence: Vec::new(),
        };
        let mut batch = Batch {
            id: BatchId(self.batches),
            key: self.roster.key().clone(),
            roster: self.roster.hash(),
            signers,
            items: vec![item],
            head: None,
        };
        self.log.complete(&mut batch, self.size);
        batch
    }

    /// The node's answer. If the link is lost it is asked over the next one, with commitments of that.
    pub async fn ask(&mut self, batch: &Batch) -> BatchReply {
        let mut batch = batch.clone();
        loop {
            if let Some(reply) = self.ask_once(&batch).await {
                return reply;
            }
            self.attach_for(&mut batch).await;
        }
    }

    /// The node's answers to a batch, and to the very same once more: over one link, for commitments belong to it.
    pub async fn ask_twice(&mut self, batch: &Batch) -> [BatchReply; 2] {
        let mut batch = batch.clone();
        loop {
            if let Some(first) = self.ask_once(&batch).await
                && let Some(second) = self.ask_once(&batch).await
            {
                return [first, second];
            }
            self.attach_for(&mut batch).await;
        }
    }

    /// What the node answers to a batch that does not parse.
    pub async fn ask_malformed(&mut self) -> BatchReply {
        loop {
            self.batches += 1;
            let batch = v1::Batch { batch_id: self.batches, ..v1::Batch::default() };
            let message = Some(v1::coordinator_message::Message::Batch(batch));
            self.send(v1::CoordinatorMessage { message }).await;
            if let Some(reply) = self.reply(BatchId(self.batches)).await {
                return reply;
            }
            self.attach().await;
        }
    }

    /// What the node says to a head.
    pub async fn show(&mut self, head: &LogHead) -> (Witnessed, Option<Refusal>) {
        loop {
            self.send((&ToNode::Head(head.clone())).into()).await;
            while let Some(heard) = self.hear().await {
                if let FromNode::Head(witnessed, refusal) = heard {
                    self.size = witnessed.size;
                    return (witnessed, refusal);
                }
            }
            self.attach().await;
        }
    }

    /// Waits until the node's status is like this.
    pub async fn until(&mut self, what: &str, like: impl Fn(&NodeStatus) -> bool) {
        while !self.status.as_ref().is_some_and(&like) {
            let heard = tokio::time::timeout(PATIENCE, self.hear()).await;
            if heard.unwrap_or_else(|_| panic!("{what}: {:?}", self.status)).is_none() {
                self.attach().await;
            }
        }
    }

    /// A threshold of each organisation, this node among them.
    fn quorum(&self) -> Vec<u16> {
        let mut signers: Vec<u16> = Vec::new();
        for organisation in self.roster.organisations() {
            let own = organisation.nodes.iter().filter(|node| node.id == self.me);
            let others = organisation.nodes.iter().filter(|node| node.id != self.me);
            let chosen = own.chain(others).take(usize::from(organisation.threshold));
            signers.extend(chosen.map(|node| self.roster.index_of(&node.id).unwrap()));
        }
        signers.sort_unstable();
        signers
    }

    /// So many, all of one link.
    async fn take_commitments(&mut self, count: usize) -> Vec<CommitmentBytes> {
        // A node that is sealed or closed announces none, and does not look at those that it gets.
        while self.commitments.len() < count && self.is_ready() {
            if self.hear().await.is_none() {
                self.attach().await;
            }
        }
        let announced = self.commitments.split_off(self.commitments.len().saturating_sub(count));
        announced.into_iter().chain(std::iter::repeat(CommitmentBytes([9; 64]))).take(count).collect()
    }

    fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.reason.is_empty())
    }

    /// Attaches again, with a batch that is still to be answered.
    async fn attach_for(&mut self, batch: &mut Batch) {
        self.attach().await;
        let count: usize = batch.items.iter().map(|item| item.commitments.len()).sum();
        let fresh = self.take_commitments(count).await;
        let stale = batch.items.iter_mut().flat_map(|item| &mut item.commitments);
        stale.zip(fresh).for_each(|(stale, fresh)| *stale = fresh);
    }

    async fn ask_once(&mut self, batch: &Batch) -> Option<BatchReply> {
        self.send((&ToNode::Batch(batch.clone())).into()).await;
        self.reply(batch.id).await
    }

    /// The one who waits for the answer learns whether the link is up.
    async fn send(&mut self, message: v1::CoordinatorMessage) {
        let _ = self.stream.as_ref().unwrap().say.send(Ok(message)).await;
    }

    async fn reply(&mut self, id: BatchId) -> Option<BatchReply> {
        loop {
            match self.hear().await? {
                FromNode::Reply(reply) if reply.id == id => {
                    self.size = reply.witnessed.map_or(self.size, |witnessed| witnessed.size);
                    return Some(reply);
                }
                _ => {}
            }
        }
    }

    /// `None` if the node dropped the link.
    async fn hear(&mut self) -> Option<FromNode> {
        let stream = self.stream.as_mut().unwrap();
        let heard = tokio::time::timeout(PATIENCE, stream.heard.recv()).await.unwrap();
        match &heard {
            Some(FromNode::Commitments(_, commitments)) => self.commitments.extend(commitments),
            Some(FromNode::Status(status)) => self.status = Some(status.clone()),
            Some(_) => {}
            None => {
                self.lost_links += 1;
                assert!(self.lost_links <= MAX_LOST_LINKS, "the node drops every link");
            }
        }
        heard
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stops the coordinator at a moment at which all that a node has seen of the log is published.
async fn stop_coordinator(cluster: &mut Cluster, node: &str, config: &Config) {
    eventually("the coordinator stops with all published that the node has seen", PATIENCE, async || {
        is_published(cluster, node, config).await?;
        cluster.stop("coordinator");
        eventually("the node has heard the last of it", PATIENCE, async || {
            let links = cluster.status(node).await.coordinators;
            if links.iter().all(|link| !link.connected) { Ok(()) } else { Err(format!("{links:?}")) }
        })
        .await;
        let stopped = is_published(cluster, node, config).await;
        if stopped.is_err() {
            // It ended between showing a head and publishing it. The next start makes that good.
            cluster.start_party("coordinator");
        }
        stopped
    })
    .await;
}

/// Whether all that a node has seen of the log is published.
async fn is_published(cluster: &Cluster, node: &str, config: &Config) -> Result<(), String> {
    let (seen, published) = (cluster.status(node).await.log_size, published(config));
    if seen > 0 && seen == published { Ok(()) } else { Err(format!("{seen} seen, {published} published")) }
}

/// The leaves of the log as it was published.
fn leaves(config: &Config) -> Vec<Hash> {
    let size = published(config);
    let bundles = (0..).map_while(|index| TileId::in_tree(None, index, size));
    bundles
        .flat_map(|id| {
            let bytes = std::fs::read(config.log.folder.join(id.path())).unwrap();
            let entries = EntryBundle::parse(&bytes, id.width).unwrap();
            entries.into_iter().map(leaf_hash).collect::<Vec<_>>()
        })
        .collect()
}

/// Entries under the published head.
fn published(config: &Config) -> u64 {
    let note = std::fs::read_to_string(config.log.folder.join("checkpoint")).unwrap_or_default();
    note.lines().nth(1).map_or(0, |size| size.parse().unwrap())
}

async fn serve(config: &Config, sender: mpsc::Sender<Attached>) -> JoinHandle<()> {
    let read = |path| std::fs::read(path).unwrap();
    let (ca, certificate, key) = (read(&config.tls.ca), read(&config.tls.certificate), read(&config.tls.key));
    let tls: ServerConfig = server_config(Pem { ca: &ca, certificate: &certificate, key: &key }).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let address = config.listen;
    let listener = eventually("the coordinator's address is free", PATIENCE, async || {
        TcpListener::bind(address).await.map_err(|error| error.to_string())
    })
    .await;
    let incoming = TcpListenerStream::new(listener).then(move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let mut tls = acceptor.accept(tcp?).await?;
            let (mut near, far) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut near).await });
            Ok::<_, std::io::Error>(far)
        }
    });
    let incoming = incoming.filter(Result::is_ok);
    let server = Server::builder().add_service(
        NodeServiceServer::new(Service(sender))
            .max_decoding_message_size(rutli_wire::limits::MAX_MESSAGE_BYTES),
    );
    tokio::spawn(async move { server.serve_with_incoming(Box::pin(incoming)).await.unwrap() })
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
        self.0.send(Attached { heard, say }).await.map_err(|_| Status::unavailable("the test is over"))?;
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                if tell.send(message.try_into().unwrap()).await.is_err() {
                    return;
                }
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
