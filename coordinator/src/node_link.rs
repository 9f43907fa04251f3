//! One stream of one signer node: identity from its certificate, `Hello` first, then work down and answers up.
//!
//! A writer task sends what the session engine and the ceremonies have for the node; the reader hands on what comes.
//! Whatever ends one ends the other. An end that anybody intends is said with `Goodbye`; any other is a loss. A message
//! that does not parse ends the stream with the reason, and nothing else.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rutli_keys::{NodeId, SignedRoster};
use rutli_wire::{
    link::{FromNode, KeptLog, NodeStatus, ToNode},
    v1,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{
    ceremonies::{Ceremonies, Transcript},
    error::{Error, Result},
    keyring::Keyring,
    limits,
    log::Log,
    session::{Sessions, StreamId},
    share::aside,
};

/// What a link needs. One per process.
pub struct NodeLinks {
    /// Gets commitments, answers and states.
    pub sessions: Sessions,
    /// Gets ceremony messages.
    pub ceremonies: Arc<Ceremonies>,
    /// Is compared with what nodes keep of it.
    pub log: Log,
    /// Knows without which nodes nothing is signed.
    pub keyring: Keyring,
    /// Ends every link with a goodbye.
    pub stopping: CancellationToken,
    /// The newest stream of each node. An earlier one whose `Hello` has not come is given up for it, so that a node has
    /// one first message under way and not as many as streams.
    pub newest: Mutex<HashMap<NodeId, CancellationToken>>,
}

/// What goes down a stream; an error ends it.
pub type Down = Result<v1::CoordinatorMessage>;

impl NodeLinks {
    /// Serves one stream in a task of its own.
    #[must_use]
    pub fn serve(self: &Arc<Self>, node: NodeId, up: Streaming<v1::NodeMessage>) -> mpsc::Receiver<Down> {
        let (down, stream) = mpsc::channel(limits::LINK_WRITE_BUFFER);
        let (links, newer) = (Arc::clone(self), CancellationToken::new());
        let before =
            self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(node.clone(), newer.clone());
        if let Some(before) = before {
            before.cancel();
        }
        tokio::spawn(async move { links.run(node, up, down, newer).await });
        stream
    }

    async fn run(
        &self,
        node: NodeId,
        mut up: Streaming<v1::NodeMessage>,
        down: mpsc::Sender<Down>,
        newer: CancellationToken,
    ) {
        let hello = newer.run_until_cancelled(self.hello(&mut up)).await;
        let (version, status, kept) = match hello.unwrap_or(Err(Error::Replaced)) {
            Ok(hello) => hello,
            Err(error) => {
                tracing::warn!(%node, %error, "refused a node's stream");
                return say(&down, Err(error)).await;
            }
        };
        tracing::info!(%node, version, state = status.condition.as_str(), "attached");
        let welcome = ToNode::Welcome(env!("CARGO_PKG_VERSION").to_owned());
        say(&down, Ok((&welcome).into())).await;
        let log_size = kept.size;
        // Before any work: whatever is appended to a log that is none forks it further.
        if self.compare(&node, kept).await.is_err() {
            return say(&down, Err(Error::Stopping)).await;
        }
        let (outbox, work) = mpsc::channel(limits::LINK_OUTBOX);
        let Ok(stream) = self.sessions.attach(node.clone(), version, status, log_size, outbox).await else {
            return say(&down, Err(Error::Stopping)).await;
        };
        let (end, ended) = oneshot::channel();
        let writer = write(down, work, self.ceremonies.transcript(node.clone()), ended);
        let mut writer = tokio::spawn(writer);
        let why = tokio::select! {
            why = self.read(&node, stream, &mut up) => why,
            // The engine ended it, or the peer is gone.
            _ = &mut writer => End::Silent("its stream is over"),
            () = self.stopping.cancelled() => End::Goodbye("the coordinator is stopping"),
            () = tokio::time::sleep(age(&node)) => End::Goodbye("the connection is old; connect anew"),
        };
        tracing::info!(%node, reason = %why, "detached");
        self.sessions.detach(&node, stream).await;
        // A writer that is gone needs no word.
        let _ = end.send(why);
    }

    /// What a node keeps of the log with the log; that is stopped if it is none.
    async fn compare(&self, node: &NodeId, kept: KeptLog) -> Result<()> {
        let (log, node) = (self.log.clone(), node.clone());
        aside(true, move || log.kept_by(&node, &kept)).await?;
        let active = self.keyring.active();
        self.log.stop_if_contradicted(active.as_ref().map(SignedRoster::roster));
        Ok(())
    }

    async fn hello(&self, up: &mut Streaming<v1::NodeMessage>) -> Result<(String, NodeStatus, KeptLog)> {
        let wait = Duration::from_secs(limits::HELLO_TIMEOUT_SECONDS);
        let first = tokio::select! {
            first = tokio::time::timeout(wait, up.message()) => first,
            () = self.stopping.cancelled() => return Err(Error::Stopping),
        };
        let first = first
            .map_err(|_| {
                Error::Link(format!("no Hello came within {} seconds", limits::HELLO_TIMEOUT_SECONDS))
            })?
            .map_err(|status| Error::Link(format!("the first message does not read: {}", status.message())))?
            .ok_or_else(|| Error::Link("the stream ended before Hello".into()))?;
        match FromNode::try_from(first)? {
            FromNode::Hello { version, status, log } => Ok((version, status, log)),
            _ => Err(Error::Link("the first message must be Hello".into())),
        }
    }

    async fn read(&self, node: &NodeId, stream: StreamId, up: &mut Streaming<v1::NodeMessage>) -> End {
        loop {
            let message = match up.message().await {
                Ok(Some(message)) => message,
                // When keep-alive gives up, the stream ends cleanly too; only a goodbye is one.
                Ok(None) => return End::Silent("it was lost without a goodbye"),
                Err(status) if is_malformed(&status) => {
                    return End::Error(Error::Link(status.message().to_owned()));
                }
                Err(_) => return End::Silent("the connection broke"),
            };
            let result = match FromNode::try_from(message) {
                Ok(FromNode::Hello { .. }) => Err(Error::Link("Hello comes once".into())),
                Ok(FromNode::Goodbye(reason)) => {
                    tracing::info!(%node, reason, "said goodbye");
                    return End::Silent("it said goodbye");
                }
                Ok(FromNode::Ceremony(envelope)) => self.ceremonies.received(node, envelope).await,
                Ok(message) => {
                    self.sessions.received(node, stream, message).await;
                    Ok(())
                }
                Err(malformed) => Err(Error::from(malformed)),
            };
            if let Err(error) = result {
                return End::Error(error);
            }
        }
    }
}

/// Why a stream ends from our side, and what is said about it.
#[derive(Debug)]
enum End {
    /// Nothing: nobody is there to hear it, or everything was said.
    Silent(&'static str),
    /// A goodbye.
    Goodbye(&'static str),
    /// A status.
    Error(Error),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(reason) | Self::Goodbye(reason) => f.write_str(reason),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// Sends what there is for the node, until the engine drops its end or the reader says why it is over.
async fn write(
    down: mpsc::Sender<Down>,
    mut work: mpsc::Receiver<ToNode>,
    mut transcript: Transcript,
    mut ended: oneshot::Receiver<End>,
) {
    loop {
        let message = tokio::select! {
            biased;
            end = &mut ended => return last_word(&down, end.ok()).await,
            message = work.recv() => match message {
                Some(message) => message,
                None => return say(&down, Err(Error::Replaced)).await,
            },
            envelope = transcript.next() => ToNode::Ceremony(envelope),
        };
        let message = v1::CoordinatorMessage::from(&message);
        tokio::select! {
            sent = down.send(Ok(message)) => if sent.is_err() { return },
            end = &mut ended => return last_word(&down, end.ok()).await,
        }
    }
}

async fn last_word(down: &mpsc::Sender<Down>, end: Option<End>) {
    match end {
        Some(End::Goodbye(reason)) => {
            let goodbye = ToNode::Goodbye(reason.to_owned());
            say(down, Ok((&goodbye).into())).await;
        }
        Some(End::Error(error)) => say(down, Err(error)).await,
        Some(End::Silent(_)) | None => {}
    }
}

/// Says one thing to a peer that may not be listening.
async fn say(down: &mpsc::Sender<Down>, message: Down) {
    let _ = tokio::time::timeout(Duration::from_secs(1), down.send(message)).await;
}

/// What the gRPC layer says of a message that it could not read, in contrast to a connection that broke.
fn is_malformed(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted | Code::Unimplemented
    )
}

/// How long a link may live: each node's own time, a little less than its connection's.
fn age(node: &NodeId) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let spread = hasher.finish() % limits::LINK_AGE_SPREAD_SECONDS;
    Duration::from_secs(limits::CONNECTION_AGE_SECONDS.saturating_sub(spread))
}
