//! The node link: what flows between a signer node and a coordinator, parsed into types.
//!
//! Wire layout: `proto/rutli/v1/node.proto`. Everything here is bounded by [`crate::limits`] while it is parsed, so
//! that the engines on both sides never meet an over-long list. Ceremony messages stay opaque: `rutli-keys` reads them.
//! What is said of the transparency log is in [`log`].

use std::{fmt, sync::Arc};

use prost::bytes::Bytes;
use rutli_keys::{KeyName, RosterHash};
use rutli_release::{ReleaseId, Requester, Sequence, VerifiedRelease};

use crate::{
    convert::{Malformed, release_from_content, release_to_content},
    limits, v1,
};

pub mod log;

pub use log::{KeptLog, LogHead, LoggedEntry, LoggedEvidence, Witnessed};

/// One nonce commitment on the wire: compressed hiding point ‖ compressed binding point (RFC 9591, section 5.1).
///
/// It is also the only name of the nonce pair it commits to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitmentBytes(pub [u8; 64]);

impl fmt::Debug for CommitmentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The first eight bytes in hex: enough for a person to find it again.
impl fmt::Display for CommitmentBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// Names a batch on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// Work for one quorum: the same batch goes to each of its nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Names the reply.
    pub id: BatchId,
    /// Which group key signs.
    pub key: KeyName,
    /// The roster that the coordinator believes in; a node compares it with its own.
    pub roster: RosterHash,
    /// Indices into the roster's nodes, ascending.
    pub signers: Vec<u16>,
    /// At least one.
    pub items: Vec<BatchItem>,
    /// The head of the log under which all their entries are. A node signs nothing without it.
    pub head: Option<LogHead>,
}

/// One release in a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchItem {
    /// The coordinator's name of the release.
    pub release_id: ReleaseId,
    /// Who asked, by its certificate.
    pub requester: Requester,
    /// The typed request, from which each node encodes the bytes to sign itself.
    pub release: Arc<VerifiedRelease>,
    /// Which of the release's signables, ascending and unique.
    pub slots: Vec<u32>,
    /// Slot by slot, signer by signer: `slots.len() * signers.len()`.
    pub commitments: Vec<CommitmentBytes>,
    /// Where the request stands in the log. A node signs nothing without it.
    pub entry: Option<LoggedEntry>,
    /// All evidence that there is for it, unopened. Which of it counts is for the node's policy.
    pub evidence: Vec<Bytes>,
}

/// A node's answer to a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchReply {
    /// Of the batch.
    pub id: BatchId,
    /// An answer for each item in order, or the refusal of the whole.
    pub answer: Result<Vec<ItemReply>, Refusal>,
    /// What the node keeps of the log now; `None` only if the batch did not even parse.
    pub witnessed: Option<Witnessed>,
    /// Milliseconds that the decision about each item took, in order; empty if none took one.
    pub decision_ms: Vec<u32>,
}

/// A signature share for each slot of an item (32 bytes each, RFC 9591 section 5.2), or why there is none.
pub type ItemReply = Result<Vec<[u8; 32]>, Refusal>;

/// Why a node gave no share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub code: RefusalCode,
    /// For a person: the problem, then the way out.
    pub reason: String,
    /// The highest sequence that the node permitted in the channel of the release, if it permitted one.
    pub mark: Option<Sequence>,
}

impl Refusal {
    /// A refusal without a high-water mark.
    #[must_use]
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), mark: None }
    }
}

/// Every reason for which a node gives no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusalCode {
    /// The node's policy does not permit this release. An answer, not a fault.
    NotAllowed,
    /// The sequence does not go up in its channel.
    SequenceBehind,
    /// This sequence was permitted before with other content.
    SequenceConflict,
    /// The sequence is further above the node's high-water mark than its custodian permits.
    SequenceStep,
    /// By the node's clock, a time of the release is past or in the future by more than clocks may differ.
    OutOfTime,
    /// By the node's clock, a time of the release is past or in the future, but by so little that the clock
    /// may be wrong. The release waits until the clock is right.
    ClockDiffers,
    /// The custodian paused the node.
    Paused,
    /// The node's shares and identity key are not unsealed.
    Sealed,
    /// The node is closed: its journal, clock or memory failed it.
    Closed,
    /// The node does not hold this key.
    UnknownKey,
    /// The roster is not the node's own: another epoch or another key.
    WrongRoster,
    /// The signers are not a quorum by the node's own roster, or the node is not among them.
    WrongQuorum,
    /// A commitment of the node's own is used, foreign, or of an earlier connection.
    UnknownCommitment,
    /// The batch does not parse.
    Malformed,
    /// The batch names no head of the log.
    LogHeadMissing,
    /// The head is no checkpoint that the log signed.
    LogHeadUnsigned,
    /// The head is of another log.
    LogOrigin,
    /// The head is older than the node's own: a log never gets shorter.
    LogBehind,
    /// The proof does not begin at the node's own head; its size goes with the answer. Nothing is wrong yet.
    LogGap,
    /// The proof does not show that the head extends the node's own.
    LogInconsistent,
    /// Two heads of one size that the log signed: the log forked. The node stays closed.
    LogForked,
    /// The node was restored, and waits for a head that its peers cosigned since.
    LogCatchingUp,
    /// The request names no entry of the log.
    NotLogged,
    /// The proof does not show that the entry is in the log.
    LogInclusion,
    /// The entry in the log is not the one of this release.
    LogOtherEntry,
    /// The entry's deadline, or the end of its embargo, is past or too far away.
    LogTerms,
    /// The node's policy wants evidence that it has not seen. It may yet come.
    EvidenceMissing,
    /// The node's policy permits it later: a time window, or a rate.
    NotYet,
    /// A custodian whom the node trusts refused the release: for good, whatever comes.
    CustodianRefused,
    /// The node has not looked at the release: its time for the batch was used up before. This says nothing about the
    /// release; ask again with fresh commitments, in a smaller batch.
    Undecided,
}

impl RefusalCode {
    /// Whether the same release may be permitted by the same node once something has come: evidence, or its time.
    #[must_use]
    pub fn waits(self) -> bool {
        self == Self::EvidenceMissing || self.waits_for_time()
    }

    /// Whether that comes with time alone.
    #[must_use]
    pub fn waits_for_time(self) -> bool {
        matches!(self, Self::NotYet | Self::ClockDiffers)
    }

    /// Every code with its stable word.
    pub const ALL: [(Self, &'static str); 30] = [
        (Self::NotAllowed, "not-allowed"),
        (Self::SequenceBehind, "sequence-behind"),
        (Self::SequenceConflict, "sequence-conflict"),
        (Self::SequenceStep, "sequence-step"),
        (Self::OutOfTime, "out-of-time"),
        (Self::ClockDiffers, "clock-differs"),
        (Self::Paused, "paused"),
        (Self::Sealed, "sealed"),
        (Self::Closed, "closed"),
        (Self::UnknownKey, "unknown-key"),
        (Self::WrongRoster, "wrong-roster"),
        (Self::WrongQuorum, "wrong-quorum"),
        (Self::UnknownCommitment, "unknown-commitment"),
        (Self::Malformed, "malformed"),
        (Self::LogHeadMissing, "log-head-missing"),
        (Self::LogHeadUnsigned, "log-head-unsigned"),
        (Self::LogOrigin, "log-origin"),
        (Self::LogBehind, "log-behind"),
        (Self::LogGap, "log-gap"),
        (Self::LogInconsistent, "log-inconsistent"),
        (Self::LogForked, "log-forked"),
        (Self::LogCatchingUp, "log-catching-up"),
        (Self::NotLogged, "not-logged"),
        (Self::LogInclusion, "log-inclusion"),
        (Self::LogOtherEntry, "log-other-entry"),
        (Self::LogTerms, "log-terms"),
        (Self::EvidenceMissing, "evidence-missing"),
        (Self::NotYet, "not-yet"),
        (Self::CustodianRefused, "custodian-refused"),
        (Self::Undecided, "undecided"),
    ];

    /// The stable word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(code, _)| *code == self).map_or("unknown", |(_, word)| word)
    }

    /// The code of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, name)| *name == word).map(|(code, _)| *code)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a node can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It signs.
    Ready,
    /// Its custodian paused it.
    Paused,
    /// Its shares and identity key are not unsealed.
    Sealed,
    /// Something failed it: journal, clock, memory.
    Closed,
}

impl Condition {
    /// The stable word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Sealed => "sealed",
            Self::Closed => "closed",
        }
    }

    fn parse(word: &str) -> Result<Self, Malformed> {
        [Self::Ready, Self::Paused, Self::Sealed, Self::Closed]
            .into_iter()
            .find(|condition| condition.as_str() == word)
            .ok_or_else(|| Malformed::new("state", "give ready, paused, sealed or closed"))
    }
}

/// A node's own word about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Whether it signs.
    pub condition: Condition,
    /// For a person, if it does not.
    pub reason: String,
    /// Keys it holds, with their rosters.
    pub keys: Vec<(KeyName, RosterHash)>,
    /// For a person, if something wants its custodian's attention although it goes on; else empty.
    pub warning: String,
}

/// Ceremony material on its way through the coordinator, opaque to the link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CeremonyEnvelope {
    /// A signed proposal, if it travels along.
    pub proposal: Option<Vec<u8>>,
    /// Encoded ceremony messages.
    pub messages: Vec<Vec<u8>>,
}

/// What a node sends.
#[derive(Clone, Debug, PartialEq)]
pub enum FromNode {
    /// First on the stream.
    Hello {
        /// Version of the node's program.
        version: String,
        /// Its state.
        status: NodeStatus,
        /// What it keeps of the log.
        log: KeptLog,
    },
    /// Commitments made ahead for a key.
    Commitments(KeyName, Vec<CommitmentBytes>),
    /// An answer.
    Reply(BatchReply),
    /// Its state changed.
    Status(NodeStatus),
    /// To be relayed.
    Ceremony(CeremonyEnvelope),
    /// What it says to a head of the log, and why it did not take it.
    Head(Witnessed, Option<Refusal>),
    /// It leaves on purpose.
    Goodbye(String),
}

/// What a coordinator sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ToNode {
    /// First on the stream, with the version of the coordinator's program.
    Welcome(String),
    /// Work.
    Batch(Batch),
    /// From other nodes.
    Ceremony(CeremonyEnvelope),
    /// A head of the log, to be cosigned.
    Head(LogHead),
    /// It leaves on purpose.
    Goodbye(String),
}

impl From<&Batch> for v1::Batch {
    fn from(batch: &Batch) -> Self {
        Self {
            batch_id: batch.id.0,
            key: batch.key.to_string(),
            roster_hash: batch.roster.as_bytes().to_vec(),
            signers: batch.signers.iter().map(|index| u32::from(*index)).collect(),
            items: batch
                .items
                .iter()
                .map(|item| v1::BatchItem {
                    release_id: item.release_id.to_string(),
                    requester: item.requester.to_string(),
                    content: Some(release_to_content(&item.release)),
                    slots: item.slots.clone(),
                    commitments: join_commitments(&item.commitments),
                    entry: item.entry.as_ref().map(Into::into),
                    evidence: item.evidence.clone(),
                })
                .collect(),
            log_head: batch.head.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::Batch> for Batch {
    type Error = Malformed;

    fn try_from(batch: v1::Batch) -> Result<Self, Malformed> {
        within("signers", batch.signers.len(), 1, limits::MAX_SIGNERS)?;
        within("items", batch.items.len(), 1, limits::MAX_BATCH_ITEMS)?;
        let slots: usize = batch.items.iter().map(|item| item.slots.len()).sum();
        within("slots", slots, 1, limits::MAX_BATCH_SLOTS)?;
        let signers = batch
            .signers
            .iter()
            .map(|index| {
                u16::try_from(*index).map_err(|_| Malformed::new("signers", "an index is too large"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let items = batch
            .items
            .into_iter()
            .map(|item| item_from_wire(item, signers.len()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            id: BatchId(batch.batch_id),
            key: key_name(batch.key)?,
            roster: roster_hash(&batch.roster_hash)?,
            signers,
            items,
            head: batch.log_head.map(TryInto::try_into).transpose()?,
        })
    }
}

fn item_from_wire(item: v1::BatchItem, signers: usize) -> Result<BatchItem, Malformed> {
    let content = item.content.ok_or_else(|| Malformed::new("content", "is missing"))?;
    let release = release_from_content(content)?;
    let count = release.signable_count();
    within("slots", item.slots.len(), 1, limits::MAX_BATCH_SLOTS)?;
    if !item.slots.is_sorted_by(|a, b| a < b)
        || item.slots.iter().any(|slot| usize::try_from(*slot).is_ok_and(|slot| slot >= count))
    {
        return Err(Malformed::new("slots", "must ascend and lie within the release's signatures"));
    }
    let commitments = split_commitments(&item.commitments)?;
    if commitments.len() != item.slots.len() * signers {
        return Err(Malformed::new("commitments", "want one for each slot and signer"));
    }
    check_evidence(&item.evidence, 0)?;
    Ok(BatchItem {
        release_id: ReleaseId::new(item.release_id)?,
        requester: Requester::new(item.requester)?,
        release: Arc::new(release),
        slots: item.slots,
        commitments,
        entry: item.entry.map(TryInto::try_into).transpose()?,
        evidence: item.evidence,
    })
}

/// Whether so many documents of such sizes may be the evidence of one release, at least `least` of them.
pub fn check_evidence(documents: &[Bytes], least: usize) -> Result<(), Malformed> {
    within("evidence", documents.len(), least, limits::MAX_EVIDENCE)?;
    let bytes: usize = documents.iter().map(Bytes::len).sum();
    if bytes <= limits::MAX_EVIDENCE_TOTAL_BYTES {
        return Ok(());
    }
    let most = limits::MAX_EVIDENCE_TOTAL_BYTES;
    Err(Malformed::new("evidence", format!("has {bytes} bytes; a release may have {most} of it")))
}

impl From<&BatchReply> for v1::BatchReply {
    fn from(reply: &BatchReply) -> Self {
        let (items, refusal) = match &reply.answer {
            Ok(items) => (items.iter().map(item_reply_to_wire).collect(), None),
            Err(refusal) => (Vec::new(), Some(refusal_to_wire(refusal))),
        };
        Self {
            batch_id: reply.id.0,
            items,
            refusal,
            witnessed: reply.witnessed.map(Into::into),
            decision_ms: reply.decision_ms.clone(),
        }
    }
}

impl TryFrom<v1::BatchReply> for BatchReply {
    type Error = Malformed;

    fn try_from(reply: v1::BatchReply) -> Result<Self, Malformed> {
        let answer = match reply.refusal {
            Some(refusal) => Err(refusal_from_wire(refusal)?),
            None => {
                within("items", reply.items.len(), 1, limits::MAX_BATCH_ITEMS)?;
                Ok(reply.items.into_iter().map(item_reply_from_wire).collect::<Result<_, _>>()?)
            }
        };
        within("decision_ms", reply.decision_ms.len(), 0, limits::MAX_BATCH_ITEMS)?;
        let witnessed = reply.witnessed.map(TryInto::try_into).transpose()?;
        Ok(Self { id: BatchId(reply.batch_id), answer, witnessed, decision_ms: reply.decision_ms })
    }
}

fn item_reply_to_wire(reply: &ItemReply) -> v1::ItemReply {
    let reply = match reply {
        Ok(shares) => v1::item_reply::Reply::Shares(shares.concat()),
        Err(refusal) => v1::item_reply::Reply::Refusal(refusal_to_wire(refusal)),
    };
    v1::ItemReply { reply: Some(reply) }
}

fn item_reply_from_wire(item: v1::ItemReply) -> Result<ItemReply, Malformed> {
    match item.reply {
        Some(v1::item_reply::Reply::Shares(bytes)) => {
            let (shares, rest) = bytes.as_chunks::<32>();
            if !rest.is_empty() {
                return Err(Malformed::new("shares", "want 32 bytes for each slot"));
            }
            within("shares", shares.len(), 1, limits::MAX_BATCH_SLOTS)?;
            Ok(Ok(shares.to_vec()))
        }
        Some(v1::item_reply::Reply::Refusal(refusal)) => Ok(Err(refusal_from_wire(refusal)?)),
        None => Err(Malformed::new("reply", "is missing")),
    }
}

fn refusal_to_wire(refusal: &Refusal) -> v1::NodeRefusal {
    let mark = refusal.mark.map_or(0, Sequence::get);
    v1::NodeRefusal { code: refusal.code.to_string(), reason: cut(refusal.reason.clone()), mark }
}

fn refusal_from_wire(refusal: v1::NodeRefusal) -> Result<Refusal, Malformed> {
    let code =
        RefusalCode::parse(&refusal.code).ok_or_else(|| Malformed::new("code", "is not known here"))?;
    let mark = match refusal.mark {
        0 => None,
        mark => Some(Sequence::new(mark)?),
    };
    Ok(Refusal { code, reason: cut(refusal.reason), mark })
}

impl From<&NodeStatus> for v1::NodeStatus {
    fn from(status: &NodeStatus) -> Self {
        Self {
            state: status.condition.as_str().into(),
            reason: cut(status.reason.clone()),
            keys: status.keys.iter().map(held_key).collect(),
            warning: cut(status.warning.clone()),
        }
    }
}

/// A key that a node holds, for the wire.
#[must_use]
pub fn held_key((name, hash): &(KeyName, RosterHash)) -> v1::HeldKey {
    v1::HeldKey { name: name.to_string(), roster_hash: hash.as_bytes().to_vec() }
}

impl TryFrom<v1::NodeStatus> for NodeStatus {
    type Error = Malformed;

    fn try_from(status: v1::NodeStatus) -> Result<Self, Malformed> {
        within("keys", status.keys.len(), 0, limits::MAX_KEYS)?;
        Ok(Self {
            condition: Condition::parse(&status.state)?,
            reason: cut(status.reason),
            keys: status
                .keys
                .into_iter()
                .map(|key| Ok((key_name(key.name)?, roster_hash(&key.roster_hash)?)))
                .collect::<Result<_, Malformed>>()?,
            warning: cut(status.warning),
        })
    }
}

impl From<CeremonyEnvelope> for v1::CeremonyEnvelope {
    fn from(envelope: CeremonyEnvelope) -> Self {
        Self { proposal: envelope.proposal.unwrap_or_default(), messages: envelope.messages }
    }
}

impl TryFrom<v1::CeremonyEnvelope> for CeremonyEnvelope {
    type Error = Malformed;

    fn try_from(envelope: v1::CeremonyEnvelope) -> Result<Self, Malformed> {
        within("messages", envelope.messages.len(), 0, limits::MAX_CEREMONY_MESSAGES)?;
        for bytes in envelope.messages.iter().chain([&envelope.proposal]) {
            within("messages", bytes.len(), 0, limits::MAX_CEREMONY_MESSAGE_BYTES)?;
        }
        let proposal = (!envelope.proposal.is_empty()).then_some(envelope.proposal);
        Ok(Self { proposal, messages: envelope.messages })
    }
}

impl From<FromNode> for v1::NodeMessage {
    fn from(message: FromNode) -> Self {
        use v1::node_message::Message;
        let message = match message {
            FromNode::Hello { version, status, log } => Message::Hello(v1::Hello {
                version,
                status: Some((&status).into()),
                log_size: log.size,
                log_checkpoint: log.checkpoint,
            }),
            FromNode::Commitments(key, commitments) => Message::Commitments(v1::Commitments {
                key: key.to_string(),
                commitments: join_commitments(&commitments),
            }),
            FromNode::Reply(reply) => Message::BatchReply((&reply).into()),
            FromNode::Status(status) => Message::Status((&status).into()),
            FromNode::Ceremony(envelope) => Message::Ceremony(envelope.into()),
            FromNode::Head(witnessed, refusal) => Message::HeadReply(v1::HeadReply {
                witnessed: Some(witnessed.into()),
                refusal: refusal.as_ref().map(refusal_to_wire),
            }),
            FromNode::Goodbye(reason) => Message::Goodbye(v1::Goodbye { reason: cut(reason) }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::NodeMessage> for FromNode {
    type Error = Malformed;

    fn try_from(message: v1::NodeMessage) -> Result<Self, Malformed> {
        use v1::node_message::Message;
        Ok(match message.message.ok_or_else(|| Malformed::new("message", "is missing"))? {
            Message::Hello(hello) => Self::Hello {
                version: cut(hello.version),
                status: hello.status.ok_or_else(|| Malformed::new("status", "is missing"))?.try_into()?,
                log: (hello.log_size, hello.log_checkpoint).try_into()?,
            },
            Message::Commitments(announced) => {
                let commitments = split_commitments(&announced.commitments)?;
                within("commitments", commitments.len(), 1, limits::MAX_ANNOUNCED_COMMITMENTS)?;
                Self::Commitments(key_name(announced.key)?, commitments)
            }
            Message::BatchReply(reply) => Self::Reply(reply.try_into()?),
            Message::Status(status) => Self::Status(status.try_into()?),
            Message::Ceremony(envelope) => Self::Ceremony(envelope.try_into()?),
            Message::HeadReply(reply) => Self::Head(
                reply.witnessed.ok_or_else(|| Malformed::new("witnessed", "is missing"))?.try_into()?,
                reply.refusal.map(refusal_from_wire).transpose()?,
            ),
            Message::Goodbye(goodbye) => Self::Goodbye(cut(goodbye.reason)),
        })
    }
}

impl From<&ToNode> for v1::CoordinatorMessage {
    fn from(message: &ToNode) -> Self {
        use v1::coordinator_message::Message;
        let message = match message {
            ToNode::Welcome(version) => Message::Welcome(v1::Welcome { version: version.clone() }),
            ToNode::Batch(batch) => Message::Batch(batch.into()),
            ToNode::Ceremony(envelope) => Message::Ceremony(envelope.clone().into()),
            ToNode::Head(head) => Message::LogHead(head.into()),
            ToNode::Goodbye(reason) => Message::Goodbye(v1::Goodbye { reason: cut(reason.clone()) }),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::CoordinatorMessage> for ToNode {
    type Error = Malformed;

    fn try_from(message: v1::CoordinatorMessage) -> Result<Self, Malformed> {
        use v1::coordinator_message::Message;
        Ok(match message.message.ok_or_else(|| Malformed::new("message", "is missing"))? {
            Message::Welcome(welcome) => Self::Welcome(cut(welcome.version)),
            Message::Batch(batch) => Self::Batch(batch.try_into()?),
            Message::Ceremony(envelope) => Self::Ceremony(envelope.try_into()?),
            Message::LogHead(head) => Self::Head(head.try_into()?),
            Message::Goodbye(goodbye) => Self::Goodbye(cut(goodbye.reason)),
        })
    }
}

fn join_commitments(commitments: &[CommitmentBytes]) -> Vec<u8> {
    commitments.iter().flat_map(|commitment| commitment.0).collect()
}

fn split_commitments(bytes: &[u8]) -> Result<Vec<CommitmentBytes>, Malformed> {
    let (chunks, rest) = bytes.as_chunks::<64>();
    if !rest.is_empty() {
        return Err(Malformed::new("commitments", "want 64 bytes each"));
    }
    Ok(chunks.iter().map(|chunk| CommitmentBytes(*chunk)).collect())
}

fn key_name(name: String) -> Result<KeyName, Malformed> {
    KeyName::new(name).map_err(|error| Malformed::new("key", error.to_string()))
}

fn roster_hash(bytes: &[u8]) -> Result<RosterHash, Malformed> {
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| Malformed::new("roster_hash", "want 32 bytes"))?;
    Ok(RosterHash::from_bytes(bytes))
}

fn within(field: &'static str, count: usize, least: usize, most: usize) -> Result<(), Malformed> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(Malformed::new(field, format!("{count} given, allowed are {least} to {most}")))
}

/// Text from a peer goes to people and logs: bounded, and without control characters that could forge a line.
fn cut(text: String) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = text.floor_char_boundary(limits::MAX_TEXT_BYTES);
    text.truncate(end);
    text
}
