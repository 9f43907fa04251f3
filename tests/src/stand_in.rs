//! A node that takes the place of a real one: it is made of the real library, with the real node's certificate, identity
//! and share, but it behaves as a test wants. The real process must be stopped.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rand::rngs::OsRng;
use rutli::client::{Profile, TlsFiles, nodes};
use rutli_signer_node::{
    config::Config,
    gate::{Gate, LogState},
    identity::{IdentityFile, Unsealed},
    journal::Journal,
    key_store::KeyStore,
    marks::Marks,
    policy::Policy,
    rates::RateCounter,
    refusals::Refusals,
    sign::{Signer, StreamId},
};
use rutli_wire::link::{Batch, BatchReply, FromNode, ToNode};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As a real node.
    Honest,
    /// One bit of each share is wrong.
    WrongShares,
    /// Shares that are no scalars.
    NoScalars,
    /// One share less than asked for.
    TooFewShares,
    /// It takes batches and never answers.
    Silent,
}

/// A stand-in that is attached. It ends when it is dropped.
pub struct StandIn {
    task: JoinHandle<()>,
    batches: Arc<AtomicUsize>,
}

impl StandIn {
    /// Attaches in place of the node with this `node.toml`.
    pub async fn attach(config: &Path, manner: Manner) -> Self {
        let config = Config::load(config).unwrap();
        let kept = kept(&config).await;
        let mut signer = signer(&config, kept);
        let coordinator = config.coordinators.first().unwrap();
        let profile = Profile {
            coordinator: coordinator.url.clone(),
            server_name: Some(coordinator.server_name.to_str().into_owned()),
            tls: TlsFiles {
                ca: config.tls.ca.clone(),
                certificate: config.tls.certificate.clone(),
                key: config.tls.key.clone(),
            },
        };
        let (outbox, waiting) = mpsc::channel(256);
        outbox
            .send(FromNode::Hello {
                version: "stand-in".into(),
                status: signer.status(),
                log: signer.gate().kept(),
            })
            .await
            .unwrap();
        let up = ReceiverStream::new(waiting).map(Into::into);
        let mut down = nodes(profile.connect().await.unwrap()).attach(up).await.unwrap().into_inner();
        let batches = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&batches);
        let task = tokio::spawn(async move {
            let stream = StreamId(1);
            signer.stream_opened(stream);
            announce(&mut signer, stream, &outbox).await;
            while let Ok(Some(message)) = down.message().await {
                match ToNode::try_from(message) {
                    Ok(ToNode::Batch(batch)) => {
                        seen.fetch_add(1, Ordering::SeqCst);
                        if let Some(reply) = answer(&mut signer, stream, batch, manner) {
                            // The coordinator may have gone.
                            let _ = outbox.send(FromNode::Reply(reply)).await;
                        }
                        announce(&mut signer, stream, &outbox).await;
                    }
                    Ok(ToNode::Head(head)) => {
                        let pending = signer.receive_head(&head, rutli::clock::unix_now());
                        let (witnessed, refusal) = signer.witness(pending, Ok(()));
                        let _ = outbox.send(FromNode::Head(witnessed, refusal)).await;
                    }
                    _ => {}
                }
            }
        });
        Self { task, batches }
    }

    /// Batches that came so far.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the node kept of the log. A stand-in that had seen nothing of it would find the node's own cosignature beyond its head, and
/// wait for its peers as a node does that was reverted.
async fn kept(config: &Config) -> LogState {
    let (journal, _) = Journal::open(&config.data_dir.join("node.sqlite")).await.unwrap();
    let kept = journal.log(config.log.origin()).await.unwrap();
    journal.close().await.unwrap();
    kept
}

/// The real heart of the node, with the shares from the node's own folder.
fn signer(config: &Config, kept: LogState) -> Signer {
    let keys = KeyStore::open(&config.data_dir, config.seal.clone()).unwrap();
    let Unsealed { opener, identity } =
        IdentityFile::of(config).open(keys.opener().unwrap().unwrap()).unwrap();
    let gate = Gate::new(config.log.clone(), config.me.clone(), identity, &config.peers, kept).unwrap();
    let rules = config.policy.load().unwrap().rules;
    let policy = Policy::new(rules, 0, RateCounter::default(), Refusals::default());
    let mut signer = Signer::new(config.me.clone(), policy, Marks::default(), gate, None);
    for roster in keys.rosters().unwrap() {
        let share = keys.share(&opener, roster.roster(), &config.me).unwrap();
        signer.install_key(roster, share).unwrap();
    }
    signer
}

fn answer(signer: &mut Signer, stream: StreamId, batch: Batch, manner: Manner) -> Option<BatchReply> {
    let pending = signer.receive(stream, batch, rutli::clock::unix_now());
    let mut reply = signer.release_shares(pending, Ok(()));
    match manner {
        Manner::Honest => {}
        Manner::Silent => return None,
        // The lowest bit: it stays a scalar, so only the check of the signature can tell.
        Manner::WrongShares => shares(&mut reply).flatten().for_each(|share| share[0] ^= 1),
        Manner::NoScalars => shares(&mut reply).flatten().for_each(|share| *share = [0xff; 32]),
        Manner::TooFewShares => shares(&mut reply).for_each(|shares| shares.truncate(shares.len() - 1)),
    }
    Some(reply)
}

/// The shares of each item that is not refused.
fn shares(reply: &mut BatchReply) -> impl Iterator<Item = &mut Vec<[u8; 32]>> {
    reply.answer.iter_mut().flatten().flatten()
}

async fn announce(signer: &mut Signer, stream: StreamId, outbox: &mpsc::Sender<FromNode>) {
    for announcement in signer.announce(stream, 256, &mut OsRng).unwrap() {
        // The coordinator may have gone.
        let _ = outbox.send(announcement).await;
    }
}
