//! For tests: a coordinator without its network, and nodes that do as they are told and sign with real shares.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use frost_ed25519::{self as frost, SigningPackage, round1::SigningNonces};
use rand::rngs::OsRng;
use rutli_keys::{
    NodeId, Quorum, Roster, SignedRoster, SigningShare, effective_key_package, rehearsal::Cast,
};
use rutli_log::{
    Cosignature, Cosigner, Head, Policy, check_consistency, check_inclusion, sigstore::SigstoreSigner,
};
use rutli_release::{ReleaseId, Requester};
use rutli_wire::{
    link::{
        Batch, BatchItem, BatchReply, CommitmentBytes, Condition, FromNode, ItemReply, LogHead, NodeStatus,
        Refusal, RefusalCode, ToNode, Witnessed,
    },
    v1,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{NOW, commitments::frost_commitments, eventually, log_signer, made, owner};
use crate::{
    Clock, Result,
    clients::Clients,
    config::Limits,
    embargo, evidence,
    keyring::Keyring,
    limits,
    log::{bundles::BundleSigner, outside::OutsideWitnesses, publisher::Publisher},
    session::Sessions,
    sign_release::{Order, Request, SignRelease},
    store::{Hourly, Store},
    waiting::Waiting,
};

/// A coordinator whose nodes are 2 of 3 vendors and one supervisor.
pub(crate) struct Core {
    pub(crate) cast: Cast,
    pub(crate) roster: SignedRoster,
    pub(crate) shares: BTreeMap<NodeId, Arc<SigningShare>>,
    pub(crate) store: Store,
    pub(crate) sessions: Sessions,
    pub(crate) keyring: Keyring,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) signing: Arc<SignRelease>,
    /// What its clock shows; [`NOW`] until somebody sets it.
    pub(crate) time: Arc<AtomicU64>,
}

impl Core {
    /// Opens one in `data_dir`, with the publisher that nobody runs yet.
    pub(crate) async fn open(data_dir: &Path) -> Result<(Self, Publisher)> {
        let cast = Cast::new(&[("vendor", 2, 3), ("supervisor", 1, 1)], &["release"], [3; 32]).unwrap();
        let rehearsed = cast.run().unwrap();
        let roster = rehearsed.rosters.into_iter().next().unwrap();
        let shares = rehearsed.shares.into_iter().map(|((node, _), share)| (node, Arc::new(share))).collect();
        let (store, appender) = Store::open(data_dir, log_signer(), &data_dir.join("log")).await?;
        store.ceremony(made(&roster)).await?;
        let keyring = Keyring::new(None);
        keyring.add(roster.clone());
        let log = store.log().clone();
        let time = Arc::new(AtomicU64::new(NOW));
        let shown = Arc::clone(&time);
        let clock = Clock::new(move || shown.load(Ordering::Relaxed));
        let (sessions, mut notices) =
            Sessions::start(vec![roster.clone()], BTreeMap::new(), None, log.clone(), clock.clone());
        tokio::spawn(async move { while notices.recv().await.is_some() {} });
        // A quarter is the one pipeline's.
        let configured = Limits { max_waiting_releases: 400, ..Limits::default() };
        let waiting = Waiting::new(&configured);
        let publisher = Publisher {
            store: store.clone(),
            sessions: sessions.clone(),
            keyring: keyring.clone(),
            waiting: Arc::clone(&waiting),
            clock: clock.clone(),
            sigstore: Arc::new(BundleSigner::new(sigstore()).unwrap()),
            outside: OutsideWitnesses::start(&[], &log, &CancellationToken::new())?,
            appender: Some(appender),
        };
        let signing = Arc::new(SignRelease {
            store: store.clone(),
            sessions: sessions.clone(),
            waiting: Arc::clone(&waiting),
            clients: Clients::default(),
            hourly: Hourly::new(&configured),
            embargoes: embargo::limit(&configured),
            reading: evidence::reading(),
            keyring: keyring.clone(),
            clock,
            lifetime_s: 3_600,
            order: Order::start(sessions.clone()),
            admitting: tokio::sync::RwLock::default(),
        });
        Ok((Self { cast, roster, shares, store, sessions, keyring, waiting, signing, time }, publisher))
    }

    /// What a verifier asks of the log.
    pub(crate) fn policy(&self) -> Policy {
        let organisations = self.roster.roster().organisations().iter().map(|organisation| {
            let cosigner =
                |id: &NodeId| Cosigner::new(id.to_string(), &self.cast.identities[id].public().to_bytes());
            let nodes = organisation.nodes.iter().map(|node| cosigner(&node.id).unwrap()).collect();
            (organisation.name.to_string(), usize::from(organisation.threshold), nodes)
        });
        Policy::of(log_signer().public(), organisations).unwrap()
    }

    /// Attaches `<organisation>-<number>`.
    pub(crate) async fn attach(&self, name: &str, conduct: Conduct) -> Arc<Node> {
        let id = NodeId::new(name.split('-').next().unwrap(), name).unwrap();
        let kept = Mutex::new(Head::EMPTY);
        let node = Arc::new(Node { id, conduct: Mutex::new(conduct), kept, offered: Mutex::default() });
        let (outbox, inbox) = mpsc::channel(limits::LINK_OUTBOX);
        let keys = vec![(self.roster.roster().key().clone(), self.roster.roster().hash())];
        let status =
            NodeStatus { condition: Condition::Ready, reason: String::new(), keys, warning: String::new() };
        let stream = self.sessions.attach(node.id.clone(), "1".into(), status, 0, outbox).await.unwrap();
        let share = Arc::clone(&self.shares[&node.id]);
        let (commitments, nonces) = (0..64).map(|_| commit(&share)).unzip::<_, _, Vec<_>, Vec<_>>();
        let nonces = commitments.iter().copied().zip(nonces).collect();
        let announced = FromNode::Commitments(self.roster.roster().key().clone(), commitments);
        self.sessions.received(&node.id, stream, announced).await;
        let identity = Arc::clone(&self.cast.identities[&node.id]);
        let work = Work {
            node: Arc::clone(&node),
            sign: Box::new({
                let roster = self.roster.roster().clone();
                move |batch| sign_batch(&roster, &share, &nonces, batch)
            }),
            cosign: Box::new(move |text| identity.cosign(NOW, text)),
        };
        tokio::spawn(work.run(self.sessions.clone(), stream, inbox));
        node
    }

    /// Attaches all nodes.
    pub(crate) async fn attach_all(&self) -> Vec<Arc<Node>> {
        let mut nodes = Vec::new();
        for name in ["vendor-1", "vendor-2", "vendor-3", "supervisor-1"] {
            nodes.push(self.attach(name, Conduct::Honest).await);
        }
        nodes
    }

    /// Asks for a release as the pipeline `ci`.
    pub(crate) async fn ask(&self, message: v1::CreateReleaseRequest) -> Result<v1::Release> {
        let (acknowledge, acknowledged) = oneshot::channel();
        let signing = Arc::clone(&self.signing);
        let request =
            Request { requester: Requester::new("ci").unwrap(), owner: owner("pipeline:ci"), message };
        tokio::spawn(async move { signing.sign_release(request, acknowledge).await });
        acknowledged.await.unwrap()
    }

    /// A release as the store has it once it is final.
    pub(crate) async fn ended(&self, release_id: &str) -> v1::Release {
        let id = ReleaseId::new(release_id).unwrap();
        // Its task is over, too: the log in memory has its outcome.
        eventually("a release ends", async || {
            self.waiting.follow(&id).is_none()
                && self.stored(release_id).await.state() != v1::ReleaseState::Queued
        })
        .await;
        self.stored(release_id).await
    }

    /// A release as the store has it.
    pub(crate) async fn stored(&self, release_id: &str) -> v1::Release {
        self.store.release(&ReleaseId::new(release_id).unwrap()).await.unwrap().unwrap().message
    }
}

/// The log's other key of all tests.
pub(crate) fn sigstore() -> SigstoreSigner {
    SigstoreSigner::from_bytes("http://log.test".parse().unwrap(), &[8; 32]).unwrap()
}

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// As it should.
    Honest,
    /// It says nothing to heads of the log.
    Silent,
    /// It cosigns heads of the log, after a while in which stragglers are given up.
    Slow,
    /// Its cosignatures do not verify.
    Forges,
    /// It was restored: it takes only heads that others have cosigned, and is honest then.
    Restored,
    /// Its policy permits nothing.
    Refuses,
    /// Its policy wants so many pieces of evidence.
    Wants(usize),
}

/// A scripted node, and what it saw.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) conduct: Mutex<Conduct>,
    /// Its own head.
    pub(crate) kept: Mutex<Head>,
    /// Heads that came, alone and with batches.
    pub(crate) offered: Mutex<Vec<LogHead>>,
}

impl Node {
    pub(crate) fn set(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap() = conduct;
    }

    pub(crate) fn size(&self) -> u64 {
        self.kept.lock().unwrap().size
    }

    fn conduct(&self) -> Conduct {
        *self.conduct.lock().unwrap()
    }

    /// As a node's gate does, in its order.
    fn take(&self, offered: &LogHead) -> Result<Head, Refusal> {
        self.offered.lock().unwrap().push(offered.clone());
        let mut kept = self.kept.lock().unwrap();
        let refuse = |code| Err(Refusal::new(code, "the script says so"));
        let Ok(checkpoint) = log_signer().public().open(&offered.checkpoint) else {
            return refuse(RefusalCode::LogHeadUnsigned);
        };
        let head = checkpoint.head();
        if head == *kept {
            return Ok(head);
        }
        if head.size < kept.size {
            return refuse(RefusalCode::LogBehind);
        }
        if offered.from != kept.size {
            return refuse(RefusalCode::LogGap);
        }
        if check_consistency(&kept, &head, &offered.consistency).is_err() {
            return refuse(RefusalCode::LogInconsistent);
        }
        if self.conduct() == Conduct::Restored {
            if !offered.checkpoint.contains("— vendor/") {
                return refuse(RefusalCode::LogCatchingUp);
            }
            self.set(Conduct::Honest);
        }
        *kept = head;
        Ok(head)
    }
}

type Sign = Box<dyn Fn(&Batch) -> Vec<ItemReply> + Send>;
type Cosign = Box<dyn Fn(&str) -> [u8; 64] + Send>;

/// What the task of a node needs.
struct Work {
    node: Arc<Node>,
    sign: Sign,
    cosign: Cosign,
}

impl Work {
    async fn run(
        self,
        sessions: Sessions,
        stream: crate::session::StreamId,
        mut inbox: mpsc::Receiver<ToNode>,
    ) {
        while let Some(message) = inbox.recv().await {
            let answer = match message {
                ToNode::Batch(batch) => {
                    let offered = batch.head.clone().unwrap();
                    let answer = self.node.take(&offered).and_then(|head| self.answer(&head, &batch));
                    let witnessed = Some(self.witnessed(&offered));
                    FromNode::Reply(BatchReply { id: batch.id, answer, witnessed, decision_ms: Vec::new() })
                }
                ToNode::Head(_) if self.node.conduct() == Conduct::Silent => continue,
                ToNode::Head(offered) => {
                    if self.node.conduct() == Conduct::Slow {
                        tokio::time::sleep(std::time::Duration::from_millis(2 * limits::LOG_STRAGGLERS_MS))
                            .await;
                    }
                    let refusal = self.node.take(&offered).err();
                    FromNode::Head(self.witnessed(&offered), refusal)
                }
                _ => continue,
            };
            sessions.received(&self.node.id, stream, answer).await;
        }
    }

    fn answer(&self, head: &Head, batch: &Batch) -> Result<Vec<ItemReply>, Refusal> {
        let refuse = |code| Refusal::new(code, format!("{} is not for us", batch.items[0].release_id));
        for item in &batch.items {
            let entry = item.entry.as_ref().ok_or_else(|| refuse(RefusalCode::NotLogged))?;
            check_inclusion(head, entry.index, entry.leaf, &entry.proof)
                .map_err(|_| refuse(RefusalCode::LogInclusion))?;
        }
        if self.node.conduct() == Conduct::Refuses {
            return Ok(batch.items.iter().map(|_| Err(refuse(RefusalCode::NotAllowed))).collect());
        }
        let mut answers = (self.sign)(batch);
        if let Conduct::Wants(most) = self.node.conduct() {
            for (item, answer) in batch.items.iter().zip(&mut answers) {
                if item.evidence.len() < most {
                    *answer = Err(refuse(RefusalCode::EvidenceMissing));
                }
            }
        }
        Ok(answers)
    }

    /// What it keeps, cosigned if that is what was offered.
    fn witnessed(&self, offered: &LogHead) -> Witnessed {
        let size = self.node.size();
        let text = offered.checkpoint.split_inclusive('\n').take(3).collect::<String>();
        let of_it = text.lines().nth(1) == Some(size.to_string().as_str());
        let mut signature = (self.cosign)(&text);
        if self.node.conduct() == Conduct::Forges {
            signature[0] ^= 1;
        }
        let cosignature = of_it.then_some(Cosignature { time: NOW, signature });
        Witnessed { size, cosignature }
    }
}

fn commit(share: &SigningShare) -> (CommitmentBytes, SigningNonces) {
    let (nonces, commitments) = frost::round1::commit(&share.to_frost(), &mut OsRng);
    let points = [commitments.hiding(), commitments.binding()].map(|point| point.serialize().unwrap());
    (CommitmentBytes(points.concat().try_into().unwrap()), nonces)
}

/// The honest answer of the node that made these nonces.
pub(crate) fn sign_batch(
    roster: &Roster,
    share: &SigningShare,
    nonces: &HashMap<CommitmentBytes, SigningNonces>,
    batch: &Batch,
) -> Vec<ItemReply> {
    let quorum = Quorum::new(roster, &batch.signers).unwrap();
    let width = batch.signers.len();
    let place = batch.items[0].commitments[..width].iter().position(|own| nonces.contains_key(own)).unwrap();
    let package = effective_key_package(roster, batch.signers[place], share, &quorum).unwrap();
    let sign = |item: &BatchItem| {
        let signables = item.release.signables();
        let slots = item.slots.iter().zip(item.commitments.chunks(width));
        slots
            .map(|(slot, commitments)| {
                let points = commitments.iter().map(|bytes| frost_commitments(*bytes));
                let identifiers = batch.signers.iter().map(|index| *roster.identifier(*index).unwrap());
                let message = &signables[*slot as usize].bytes;
                let signing = SigningPackage::new(identifiers.zip(points).collect(), message);
                let nonces = &nonces[&commitments[place]];
                frost::round2::sign(&signing, nonces, &package).unwrap().serialize().try_into().unwrap()
            })
            .collect()
    };
    batch.items.iter().map(|item| Ok(sign(item))).collect()
}
