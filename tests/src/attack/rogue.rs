//! A coordinator that was taken over: the attacker has its TLS key, the log's key, its store and the log, and speaks to a real node that
//! dials in as always. Whatever it sends, no share comes back for what is not in the log, not permitted, or not new.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use curve25519_dalek::{EdwardsPoint, Scalar};
use prost::bytes::Bytes;
use rand::{RngCore as _, rngs::OsRng};
use rutli_keys::{KeyName, Roster, SignedRoster};
use rutli_log::{EntryBundle, Hash, LogKey, TileId, entry::RequestTerms, leaf_hash};
use rutli_release::{ReleaseId, Requester, VerifiedRelease};
use rutli_wire::{
    convert::release_from_request,
    link::{
        Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, FromNode, LogHead, Refusal, ToNode, Witnessed,
    },
    tls::{Pem, server_config},
    v1::{
        self,
        node_service_server::{NodeService, NodeServiceServer},
    },
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::{Row, Scale, starve::take_policy};
use crate::{
    cluster::{Cluster, PATIENCE, Setup, eventually},
    evidence,
    log::ScriptedLog,
    releases::{build, sign},
};

/// The node that is lied to: its organisation signs with it alone.
const NODE: &str = "supervisor-1";

const POLICY: &str = r#"
@id("suite") permit (principal, action, resource) when { resource.product == "suite" };
@id("tested") permit (principal, action, resource)
when { resource.product == "tested" && context.testsPassed.contains("unit") };
"#;

/// A day, in seconds.
const DAY: u64 = 86_400;

/// The attacker in the coordinator's place.
struct Rogue {
    cluster: Cluster,
    log: ScriptedLog,
    roster: Roster,
    attached: mpsc::Receiver<Link>,
    server: JoinHandle<()>,
    next: u64,
}

/// A node that attached.
struct Link {
    heard: mpsc::Receiver<FromNode>,
    say: mpsc::Sender<Result<v1::CoordinatorMessage, Status>>,
    commitments: VecDeque<CommitmentBytes>,
    /// Entries under the node's own head, as it says.
    size: u64,
}

/// What a lie is made of: a release with its terms, and what of the batch is changed at last.
struct Lie {
    release: VerifiedRelease,
    /// What its entry in the log says, and what the node is told.
    terms: RequestTerms,
    evidence: Vec<Bytes>,
    is_logged: bool,
}

struct Service(mpsc::Sender<Link>);

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
        let _ = say.send(Ok((&ToNode::Welcome("1".into())).into())).await;
        let link = Link { heard, say, commitments: VecDeque::new(), size: 0 };
        let _ = self.0.send(link).await;
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let _ = tell.send(message.try_into().unwrap()).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        Err(Status::unimplemented("not by an attacker"))
    }

    async fn reinstate_node(
        &self,
        _: Request<v1::ReinstateNodeRequest>,
    ) -> Result<Response<v1::ReinstateNodeResponse>, Status> {
        Err(Status::unimplemented("not by an attacker"))
    }
}

/// Every lie, one after the other, to one real node; and the same without the lie, which is signed.
pub async fn lies(_scale: Scale) -> Vec<Row> {
    let mut rogue = Rogue::take_over().await;
    let mut link = rogue.link().await;
    let mut rows = vec![rogue.tells_the_truth(&mut link).await];
    rows.extend(rogue.about_the_log(&mut link).await);
    rows.extend(rogue.about_entries(&mut link).await);
    rows.extend(rogue.about_releases(&mut link).await);
    rows.push(rogue.replays(&mut link).await);
    rows.push(rogue.tells_the_truth(&mut link).await);
    // Last, for the node stays closed.
    rows.push(rogue.forks(&mut link).await);
    rows
}

impl Rogue {
    /// An honest deployment signs two releases; then its coordinator is somebody else, and the other nodes are away.
    async fn take_over() -> Self {
        let mut cluster = Cluster::start(Setup { log: "warn", ..Setup::default() }).await;
        take_policy(&cluster, POLICY).await;
        for sequence in [1, 2] {
            sign(&cluster, build("stable", sequence, 1), PATIENCE).await;
        }
        let config = rutli_coordinator::Config::read(&cluster.config("coordinator")).unwrap();
        let key: LogKey = std::fs::read_to_string(&cluster.files().log.key).unwrap().trim().parse().unwrap();
        let folder = cluster.data("coordinator").join("log");
        let size = || {
            let note =
                std::fs::read_to_string(folder.join("checkpoint")).map_err(|error| error.to_string())?;
            key.open(&note).map(|opened| opened.head().size).map_err(|error| error.to_string())
        };
        let kept = cluster.status(NODE).await.log_size;
        let size = eventually("all that the node has seen is published", PATIENCE, async || {
            size().and_then(|size| if size >= kept { Ok(size) } else { Err(format!("{size} of {kept}")) })
        })
        .await;
        let leaves: Vec<Hash> = (0..)
            .map_while(|index| TileId::in_tree(None, index, size))
            .flat_map(|id| {
                let bytes = std::fs::read(folder.join(id.path())).unwrap();
                let entries = EntryBundle::parse(&bytes, id.width).unwrap();
                entries.into_iter().map(leaf_hash).collect::<Vec<_>>()
            })
            .collect();
        let mut log = ScriptedLog::new(config.log.origin.as_str(), seed(&config.log.key));
        leaves.into_iter().for_each(|leaf| _ = log.append_leaf(leaf));
        let roster = std::fs::read(cluster.data(NODE).join("keys/release.roster.json")).unwrap();
        let roster = SignedRoster::parse(&roster).unwrap().into_roster();
        for party in ["vendor-1", "vendor-2", "vendor-3", "coordinator"] {
            cluster.kill(party);
        }
        let (server, attached) = serve(&config).await;
        Self { cluster, log, roster, attached, server, next: 10 }
    }

    /// The node, as it dials in; and its commitments.
    async fn link(&mut self) -> Link {
        let mut link = timeout(PATIENCE, self.attached.recv()).await.unwrap().unwrap();
        while link.commitments.len() < 8 {
            link.hear().await;
        }
        link
    }

    /// A build of `product` that is new to the node, issued so many seconds before now (or after it).
    fn lie(&mut self, product: &str, channel: &str, issued_before: i64) -> Lie {
        self.next += 1;
        self.lie_of(
            v1::CreateReleaseRequest { product: product.into(), ..build(channel, self.next, 1) },
            issued_before,
        )
    }

    fn lie_of(&self, request: v1::CreateReleaseRequest, issued_before: i64) -> Lie {
        let now = rutli::clock::unix_now();
        let id = format!("{}-{}-{}", request.product, request.channel, request.sequence);
        let release = release_from_request(request, now.checked_add_signed(-issued_before).unwrap()).unwrap();
        let terms = RequestTerms {
            release_id: ReleaseId::new(id).unwrap(),
            requester: Requester::new("pipeline").unwrap(),
            roster: Hash(*self.roster.hash().as_bytes()),
            deadline: now + 3_600,
            evidence: Vec::new(),
            embargo: None,
        };
        Lie { release, terms, evidence: Vec::new(), is_logged: true }
    }

    /// A batch as an honest coordinator would send it, with its entry in the log.
    fn batch(&mut self, link: &mut Link, lie: &Lie) -> Batch {
        let entry = lie.is_logged.then(|| self.log.log_release(&lie.release, &lie.terms));
        let place =
            |wanted: &str| (0..).find(|index| self.roster.node(*index).unwrap().id.to_string() == wanted);
        let me = place(&format!("supervisor/{NODE}")).unwrap();
        let mut signers = vec![me, place("vendor/vendor-1").unwrap(), place("vendor/vendor-2").unwrap()];
        signers.sort_unstable();
        let slots: Vec<u32> = (0..u32::try_from(lie.release.signable_count()).unwrap()).collect();
        let mut commitments = Vec::new();
        for _ in &slots {
            for signer in &signers {
                commitments.push(if *signer == me {
                    link.commitments.pop_front().unwrap()
                } else {
                    anybodys()
                });
            }
        }
        let item = BatchItem {
            release_id: lie.terms.release_id.clone(),
            requester: lie.terms.requester.clone(),
            release: Arc::new(lie.release.clone()),
            slots,
            commitments,
            entry,
            evidence: lie.evidence.clone(),
        };
        self.next += 1;
        let mut batch = Batch {
            id: BatchId(self.next),
            key: KeyName::new("release").unwrap(),
            roster: self.roster.hash(),
            signers,
            items: vec![item],
            head: None,
        };
        self.log.complete(&mut batch, link.size);
        batch
    }

    /// The control: without a lie, all of this is signed.
    async fn tells_the_truth(&mut self, link: &mut Link) -> Row {
        let truth = self.lie("suite", "stable", 0);
        let batch = self.batch(link, &truth);
        let (reply, _) = link.ask(batch).await;
        let mut row = row("the coordinator, the control", "a release as it should be", &reply);
        row.holes =
            if has_shares(&reply) { Vec::new() } else { vec![format!("it is not signed: {reply:?}")] };
        row
    }

    /// Asks with a lie; whatever comes but a share is right.
    async fn tries(&mut self, link: &mut Link, what: &str, batch: Batch) -> Row {
        let (reply, _) = link.ask(batch).await;
        row("the coordinator", what, &reply)
    }

    async fn about_the_log(&mut self, link: &mut Link) -> Vec<Row> {
        type Change = fn(&mut Batch, &ScriptedLog);
        let lies: [(&str, Change); 6] = [
            ("no head at all", |batch, _| batch.head = None),
            ("a head that the log did not sign", |batch, log| {
                let other = ScriptedLog::new(log.key().origin().as_str(), [7; 32]);
                let other = log.leaves().iter().fold(other, |mut other, leaf| {
                    other.append_leaf(*leaf);
                    other
                });
                batch.head = Some(other.head_for(0));
            }),
            ("a head of another log", |batch, _| {
                let mut other = ScriptedLog::new("other.log/1", [7; 32]);
                (0..50).for_each(|leaf| _ = other.append_leaf(Hash([leaf; 32])));
                batch.head = Some(other.head_for(0));
            }),
            ("an older head", |batch, log| batch.head = Some(log.head_between(1, 2))),
            ("a consistency proof of something else", |batch, _| {
                let head = batch.head.as_mut().unwrap();
                head.consistency.iter_mut().for_each(|hash| hash.0[0] ^= 1);
                head.consistency.push(Hash([1; 32]));
            }),
            ("an inclusion proof of something else", |batch, _| {
                let entry = batch.items[0].entry.as_mut().unwrap();
                entry.proof.push(Hash([1; 32]));
            }),
        ];
        let mut rows = Vec::new();
        for (what, change) in lies {
            let lie = self.lie("suite", "stable", 0);
            let mut batch = self.batch(link, &lie);
            change(&mut batch, &self.log);
            rows.push(self.tries(link, what, batch).await);
        }
        rows
    }

    async fn about_entries(&mut self, link: &mut Link) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut lie = self.lie("suite", "stable", 0);
        lie.is_logged = false;
        let batch = self.batch(link, &lie);
        rows.push(self.tries(link, "a release that is not in the log", batch).await);
        type Change = fn(&mut BatchItem, u64);
        let lies: [(&str, Change); 5] = [
            ("another requester than the log has", |item, _| {
                item.requester = Requester::new("pipeline-2").unwrap()
            }),
            ("another release id than the log has", |item, _| {
                item.release_id = ReleaseId::new("other").unwrap()
            }),
            ("another deadline than the log has", |item, _| item.entry.as_mut().unwrap().deadline += 1),
            ("evidence of which the log has nothing", |item, _| {
                item.entry.as_mut().unwrap().evidence = vec![Hash([5; 32])];
            }),
            ("another index", |item, _| item.entry.as_mut().unwrap().index -= 1),
        ];
        for (what, change) in lies {
            let lie = self.lie("suite", "stable", 0);
            let mut batch = self.batch(link, &lie);
            change(&mut batch.items[0], 0);
            rows.push(self.tries(link, what, batch).await);
        }
        for (what, deadline) in
            [("a deadline that is over", -3_600), ("a deadline in ten years", 3_650 * 86_400)]
        {
            let mut lie = self.lie("suite", "stable", 0);
            lie.terms.deadline = rutli::clock::unix_now().checked_add_signed(deadline).unwrap();
            let batch = self.batch(link, &lie);
            rows.push(self.tries(link, what, batch).await);
        }
        // Other content under the entry of the first.
        let (lie, mut other) = (self.lie("suite", "stable", 0), self.lie("suite", "stable", 0));
        other.is_logged = false;
        let first = self.batch(link, &lie);
        let mut batch = self.batch(link, &other);
        batch.items[0].entry.clone_from(&first.items[0].entry);
        rows.push(self.tries(link, "another release under an entry of the log", batch).await);
        rows
    }

    async fn about_releases(&mut self, link: &mut Link) -> Vec<Row> {
        let mut rows = Vec::new();
        let day = i64::try_from(DAY).unwrap();
        for (what, before) in [
            ("a release issued two days ago", 2 * day),
            ("a release issued a year ago", 365 * day),
            ("a release issued tomorrow", -day),
        ] {
            let lie = self.lie("suite", "stable", before);
            let batch = self.batch(link, &lie);
            rows.push(self.tries(link, what, batch).await);
        }
        let lie = self.lie("forbidden", "stable", 0);
        let batch = self.batch(link, &lie);
        rows.push(self.tries(link, "a product that no policy permits", batch).await);
        // Stripped: the node has to see what its policy asks for, whatever the log says of it.
        let lie = self.lie("tested", "stable", 0);
        let batch = self.batch(link, &lie);
        rows.push(self.tries(link, "a release without its evidence", batch).await);
        let mut lie = self.lie("tested", "stable", 0);
        let forged = evidence::tested(&lie.release, evidence::STRANGER, &["unit"], &[]);
        lie.terms.evidence = vec![rutli_log::sha256(&forged)];
        lie.evidence = vec![forged.into()];
        let batch = self.batch(link, &lie);
        rows.push(self.tries(link, "evidence by a stranger", batch).await);
        let (genuine, mut lie) = (self.lie("tested", "stable", 0), self.lie("tested", "stable", 0));
        let document = evidence::tests(&genuine.release, "unit");
        lie.terms.evidence = vec![rutli_log::sha256(&document)];
        lie.evidence = vec![document.into()];
        let batch = self.batch(link, &lie);
        rows.push(self.tries(link, "evidence of another release", batch).await);
        // Set back: what was signed before the coordinator was taken over.
        for (what, sequence, files) in
            [("a sequence that was signed, with other files", 2, 2), ("a sequence before that", 1, 3)]
        {
            let lie = self.lie_of(build("stable", sequence, files), 0);
            let batch = self.batch(link, &lie);
            rows.push(self.tries(link, what, batch).await);
        }
        // A quorum without a vendor, and one in which the node is not.
        for (what, at) in [("a quorum of too few", 0), ("a quorum twice", 1)] {
            let lie = self.lie("suite", "quorum", 0);
            let mut batch = self.batch(link, &lie);
            if at == 0 {
                batch.signers.pop();
                let slots = batch.items[0].slots.len();
                batch.items[0].commitments.truncate(slots * batch.signers.len());
            } else {
                batch.signers[1] = batch.signers[0];
            }
            rows.push(self.tries(link, what, batch).await);
        }
        rows
    }

    async fn replays(&mut self, link: &mut Link) -> Row {
        let truth = self.lie("suite", "stable", 0);
        let batch = self.batch(link, &truth);
        let (reply, _) = link.ask(batch.clone()).await;
        assert!(has_shares(&reply), "{reply:?}");
        let mut again = batch;
        self.next += 1;
        again.id = BatchId(self.next);
        self.log.complete(&mut again, link.size);
        self.tries(link, "the same batch once more, with the same commitments", again).await
    }

    /// Two heads of one size: no cosignature, no share, and the node stays closed.
    async fn forks(&mut self, link: &mut Link) -> Row {
        let size = link.size;
        let mut fork = self.log.fork(size - 1);
        fork.append_leaf(Hash([99; 32]));
        let head = fork.head_between(size, size);
        link.say(&ToNode::Head(LogHead { consistency: Vec::new(), ..head })).await;
        let (witnessed, refusal) = link.hear_head().await;
        let state = self.cluster.status(NODE).await;
        let mut holes = Vec::new();
        if witnessed.cosignature.is_some() || refusal.is_none() {
            holes.push(format!("the node cosigned a fork: {witnessed:?}"));
        }
        if state.state == "ready" {
            holes.push("it goes on".into());
        }
        Row {
            attack: "the coordinator".into(),
            tried: "two heads of one size".into(),
            came: format!(
                "{}; the node is {}",
                refusal.map_or(String::new(), |refusal| refusal.code.to_string()),
                state.log_state
            ),
            figures: String::new(),
            holes,
        }
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Link {
    async fn say(&self, message: &ToNode) {
        self.say.send(Ok(message.into())).await.unwrap();
    }

    /// The next message; commitments and sizes are kept.
    async fn hear(&mut self) -> FromNode {
        let message =
            timeout(PATIENCE, self.heard.recv()).await.expect("the node is silent").expect("it left");
        match &message {
            FromNode::Commitments(_, fresh) => self.commitments.extend(fresh),
            FromNode::Hello { log_size, .. } => self.size = *log_size,
            FromNode::Reply(BatchReply { witnessed: Some(witnessed), .. }) | FromNode::Head(witnessed, _) => {
                self.size = witnessed.size;
            }
            _ => {}
        }
        message
    }

    async fn ask(&mut self, batch: Batch) -> (BatchReply, Duration) {
        let (id, began) = (batch.id, tokio::time::Instant::now());
        self.say(&ToNode::Batch(batch)).await;
        loop {
            if let FromNode::Reply(reply) = self.hear().await
                && reply.id == id
            {
                return (reply, began.elapsed());
            }
        }
    }

    async fn hear_head(&mut self) -> (Witnessed, Option<Refusal>) {
        loop {
            if let FromNode::Head(witnessed, refusal) = self.hear().await {
                return (witnessed, refusal);
            }
        }
    }
}

fn has_shares(reply: &BatchReply) -> bool {
    reply.answer.as_ref().is_ok_and(|items| items.iter().any(Result::is_ok))
}

fn row(attack: &str, tried: &str, reply: &BatchReply) -> Row {
    let came = match &reply.answer {
        Err(refusal) => refusal.code.to_string(),
        Ok(items) => items
            .iter()
            .map(|item| item.as_ref().map_or_else(|refusal| refusal.code.to_string(), |_| "shares".into()))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let holes =
        if has_shares(reply) { vec![format!("the node gave shares for {tried}")] } else { Vec::new() };
    Row { attack: attack.into(), tried: tried.into(), came, figures: String::new(), holes }
}

/// Two points of which nobody needs to know more.
fn anybodys() -> CommitmentBytes {
    let mut bytes = [0; 64];
    for half in bytes.chunks_mut(32) {
        let point = EdwardsPoint::mul_base(&Scalar::from(OsRng.next_u64()));
        half.copy_from_slice(point.compress().as_bytes());
    }
    CommitmentBytes(bytes)
}

/// The seed in a PKCS #8 file.
fn seed(path: &std::path::Path) -> [u8; 32] {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let pem = std::fs::read_to_string(path).unwrap();
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    let at = der.windows(2).position(|window| window == [4, 32]).unwrap() + 2;
    der[at..at + 32].try_into().unwrap()
}

async fn serve(config: &rutli_coordinator::Config) -> (JoinHandle<()>, mpsc::Receiver<Link>) {
    let read = |path| std::fs::read(path).unwrap();
    let (ca, certificate, key) = (read(&config.tls.ca), read(&config.tls.certificate), read(&config.tls.key));
    let acceptor = TlsAcceptor::from(Arc::new(
        server_config(Pem { ca: &ca, certificate: &certificate, key: &key }).unwrap(),
    ));
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let incoming = futures::StreamExt::filter_map(TcpListenerStream::new(listener), move |tcp| {
        let acceptor = acceptor.clone();
        async move {
            let mut tls = acceptor.accept(tcp.ok()?).await.ok()?;
            let (mut near, far) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut tls, &mut near).await });
            Some(Ok::<_, std::io::Error>(far))
        }
    });
    let (sender, attached) = mpsc::channel(10);
    let service = NodeServiceServer::new(Service(sender));
    let server = Server::builder().add_service(service);
    let task = tokio::spawn(async move { drop(server.serve_with_incoming(Box::pin(incoming)).await) });
    (task, attached)
}
