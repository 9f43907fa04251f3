//! The heart of the node: what must hold before a share leaves, in this order.
//!
//! 1. [`Signer::open`]: the node's own condition, the key, the roster, the quorum, the head of the log; then all the
//!    batch's nonces leave the pool, whatever becomes of them.
//! 2. [`Signer::decide_next`], again and again: for one release its entry in the log, its time, policy and
//!    marks. [`undecided`] chooses whose turn it is; [`Signer::take_decided`] returns the batches to be
//!    answered. Each one, a [`Pending`], names what the journal must contain. Releases that were not decided
//!    in the batch's time are answered as undecided.
//! 3. The driver makes those records and the new head durable: one transaction, one fsync for all of them.
//! 4. [`Signer::release_shares`]: encodes the bytes itself and computes one share for each signature (RFC 9591,
//!    section 5.2). The cosignature of the head goes with them.
//!
//! A head may also come alone: [`Signer::receive_head`], then the journal, then [`Signer::witness`].
//!
//! Sans-IO: no socket, no file, no clock; time and randomness are handed in. The daemon's driver and the simulator run
//! this very code. What must hold of the log is in [`crate::gate`].

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rand::{CryptoRng, RngCore};
use rutli_keys::{IdentityKey, KeyName, NodeId, RosterHash, SignedRoster, SigningShare};
use rutli_log::Head;
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_signer_secrets::{CannotLock, Locked, NoncePool};
use rutli_wire::link::{
    Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, Condition, FromNode, ItemReply, LogHead,
    NodeStatus, Refusal, RefusalCode, Witnessed,
};

use crate::{
    clock::Reading,
    gate::{Gate, Unsaved, out_of_time},
    limits,
    marks::{Marks, Novelty},
    policy::{Change, Denied, PermittedRelease, Policy},
    rates::RateCounter,
};

mod lines;
mod shares;
mod undecided;

pub use lines::{JournalRecord, Verdict};
use lines::{record, refused_line};
use shares::{Effective, HeldKey, ItemWork, SlotWork, Work, fits, sign_item};
use undecided::{Content, OpenBatch, OpenBatches};

const SEALED: &str = "this node is sealed; its custodian opens it with `unseal`";

/// Names one connection to one coordinator, never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// The node's core: keys, pools, policy, marks, the log's gate.
#[derive(Debug)]
pub struct Signer {
    me: NodeId,
    policy: Policy,
    marks: Marks,
    gate: Gate,
    keys: BTreeMap<KeyName, HeldKey>,
    pools: HashMap<(StreamId, KeyName), NoncePool>,
    streams: Vec<StreamId>,
    open: OpenBatches,
    paused: Option<String>,
    closed: Option<String>,
    /// Why it makes no nonces at the moment.
    lull: Option<String>,
    /// Its memory is incomplete, until its custodian decides to go on.
    lost: Option<String>,
    shares_made: u64,
}

/// A key that this node cannot hold.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The roster does not name this node. The operator gave the wrong file.
    #[error("the roster of key {0} does not name this node; it belongs to other nodes")]
    NotAMember(KeyName),
    /// The share does not fit the roster. The file is damaged, or belongs to another epoch.
    #[error("the share of key {0} does not fit its roster; restore the share file of this roster's epoch")]
    WrongShare(KeyName),
}

/// A batch whose decisions are done, but whose records are not durable yet.
#[must_use = "make its records durable, then hand it to release_shares"]
#[derive(Debug)]
pub struct Pending {
    stream: StreamId,
    id: BatchId,
    at: u64,
    records: Vec<JournalRecord>,
    log: Option<Unsaved>,
    work: Result<Work, Refusal>,
    decision_ms: Vec<u32>,
}

impl Pending {
    /// Where the answer goes.
    #[must_use]
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// Which batch.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// Decisions that the journal must hold before any share leaves; empty if it holds all of them already.
    #[must_use]
    pub fn records(&self) -> &[JournalRecord] {
        &self.records
    }

    /// What it must hold of the log, in the same transaction; `None` if it holds that already.
    #[must_use]
    pub fn log(&self) -> Option<&Unsaved> {
        self.log.as_ref()
    }
}

/// A head of the log that was looked at, but is not durable yet.
#[must_use = "make it durable, then hand it to witness"]
#[derive(Debug)]
pub struct PendingHead {
    at: u64,
    log: Option<Unsaved>,
    taken: Result<(), Refusal>,
}

impl PendingHead {
    /// What the journal must hold before the cosignature leaves; `None` if it holds that already.
    #[must_use]
    pub fn log(&self) -> Option<&Unsaved> {
        self.log.as_ref()
    }
}

impl Signer {
    /// A node without keys; `paused` is the reason if its custodian paused it before the last restart.
    #[must_use]
    pub fn new(me: NodeId, policy: Policy, marks: Marks, gate: Gate, paused: Option<String>) -> Self {
        Self {
            me,
            policy,
            marks,
            gate,
            keys: BTreeMap::new(),
            pools: HashMap::new(),
            streams: Vec::new(),
            open: OpenBatches::default(),
            paused,
            closed: None,
            lull: None,
            lost: None,
            shares_made: 0,
        }
    }

    /// Checks a batch as a whole and draws its nonces. [`Signer::decide_next`] decides its releases.
    pub fn open(&mut self, stream: StreamId, batch: Batch, now: Reading) {
        let opened = if self.open.has_room() {
            self.open_batch(stream, batch, now)
        } else {
            self.use_up(stream, &batch);
            let problem =
                format!("this node has {} batches in hand; ask again in a moment", limits::MAX_OPEN_BATCHES);
            let refused = Err(refuse(RefusalCode::Undecided, problem));
            OpenBatch::new((stream, batch.id), Vec::new(), refused, now.monotonic_ms)
        };
        self.open.push(opened);
    }

    /// Whether another batch may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.has_room()
    }

    /// Whether a batch is open.
    #[must_use]
    pub fn is_deciding(&self) -> bool {
        !self.open.is_empty()
    }

    /// Decides one release of the batch whose turn it is, and says which. To be followed by [`Signer::take_decided`] with the time
    /// after it.
    pub fn decide_next(&mut self, now: Reading) -> Option<ReleaseId> {
        let mut open = std::mem::take(&mut self.open);
        let decided = open.begin(now).and_then(|batch| self.decide_one(batch, now.unix_s()));
        self.open = open;
        decided
    }

    /// The batches that are to be answered now.
    pub fn take_decided(&mut self, now: Reading) -> Vec<Pending> {
        self.open.end(now);
        let ready = self.open.take_ready(now);
        ready.into_iter().map(|batch| self.finish(batch, now.unix_s())).collect()
    }

    /// All open batches, however far they are: something that decisions depend on changes.
    pub fn take_all(&mut self, now: Reading) -> Vec<Pending> {
        let all = self.open.take_all();
        all.into_iter().map(|batch| self.finish(batch, now.unix_s())).collect()
    }

    /// Decides a batch at one moment, however long it takes. `now` in Unix seconds.
    pub fn receive(&mut self, stream: StreamId, batch: Batch, now: u64) -> Pending {
        let mut batch = self.open_batch(stream, batch, Reading::at(now));
        while self.decide_one(&mut batch, now).is_some() {}
        self.finish(batch, now)
    }

    fn open_batch(&mut self, stream: StreamId, batch: Batch, now: Reading) -> OpenBatch {
        let (at, name) = (now.unix_s(), (stream, batch.id));
        let mut records = Vec::new();
        let opened = self.check_batch(&batch).and_then(|effective| {
            let head = self.take_head(batch.head.as_ref(), at).inspect_err(|refusal| {
                // A gap is no decision: nothing is wrong, and the same comes again with the right proof. It costs no write.
                if refusal.code != RefusalCode::LogGap {
                    let refused = batch.items.iter();
                    records.extend(
                        refused.map(|item| refused_line(item, &batch.key, at, Denied::from(refusal.clone()))),
                    );
                }
            })?;
            Ok((effective, head))
        });
        if opened.is_err() {
            self.use_up(stream, &batch);
        }
        let content = opened.map(|(effective, head)| {
            let Batch { key, roster, items, signers, .. } = batch;
            let draw = |item: BatchItem| {
                // Nonces leave the pool first, so that no nonce of a refused or undecided release can be used
                // again.
                let nonces = self.draw(stream, &key, signers.len(), effective.place, &item);
                (item, nonces)
            };
            let undecided = items.into_iter().map(draw).collect();
            Content { key, roster, head, effective, undecided, decided: Vec::new(), decision_ms: Vec::new() }
        });
        OpenBatch::new(name, records, content, now.monotonic_ms)
    }

    /// Decides the next release of a batch; `None` if there is none. `now` in Unix seconds.
    fn decide_one(&mut self, batch: &mut OpenBatch, now: u64) -> Option<ReleaseId> {
        let content = batch.content.as_mut().ok()?;
        let (item, slots) = content.undecided.pop_front()?;
        let decision = self.decide(&item, &content.head, content.roster, now);
        batch.records.extend(record(&item, &content.key, now, &decision));
        content.decision_ms.push(0);
        content.decided.push(match decision {
            Ok((release, _)) => slots.map(|slots| ItemWork { release, slots }),
            Err(denied) => {
                let mark = self.marks.mark(&item.release.channel_key());
                Err(Refusal { mark, ..denied.refusal })
            }
        });
        Some(item.release_id)
    }

    fn finish(&self, batch: OpenBatch, now: u64) -> Pending {
        let OpenBatch { stream, id, records, content, .. } = batch;
        let (work, decision_ms) = match content.map(Content::into_work) {
            Ok((work, decision_ms)) => (Ok(work), decision_ms),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        Pending { stream, id, at: now, records, log: self.gate.unsaved(), work, decision_ms }
    }

    /// Computes the shares of a batch whose records are durable. If they could not be made durable no share is made,
    /// its nonces are gone, and the node closes until [`Signer::reopen`].
    pub fn release_shares(&mut self, pending: Pending, journaled: Result<(), String>) -> BatchReply {
        let Pending { id, at, records, log, work, decision_ms, .. } = pending;
        self.settle(log.as_ref(), journaled);
        let answer =
            self.condition().and(work).and_then(|work| self.check_still(&work).map(|()| work)).map(|work| {
                for record in &records {
                    self.settle_record(record);
                }
                work.items
                    .into_iter()
                    .map(|item| sign_item(&work.effective, item?))
                    .collect::<Vec<ItemReply>>()
            });
        if let Ok(items) = &answer {
            let made: usize = items.iter().flatten().map(Vec::len).sum();
            self.shares_made = self.shares_made.saturating_add(u64::try_from(made).unwrap_or(u64::MAX));
        }
        // With a request that is not what the log has, no cosignature goes either: that coordinator is not to be helped.
        let is_logged = |items: &Vec<ItemReply>| items.iter().all(|item| !is_unlogged(item));
        let witnessed = self.witnessed(answer.as_ref().is_ok_and(is_logged), at);
        BatchReply { id, answer, witnessed: Some(witnessed), decision_ms }
    }

    /// Looks at a head of the log that comes alone. A paused node is a witness all the same, a closed one is not. A sealed one
    /// follows the log, and has nothing to cosign with. `now` in Unix seconds.
    pub fn receive_head(&mut self, head: &LogHead, now: u64) -> PendingHead {
        let taken = self.check_sound().and_then(|()| self.take_head(Some(head), now)).map(drop);
        PendingHead { at: now, log: self.gate.unsaved(), taken }
    }

    /// Cosigns a head that is durable, or says why not. If it could not be made durable the node closes until
    /// [`Signer::reopen`].
    pub fn witness(
        &mut self,
        pending: PendingHead,
        journaled: Result<(), String>,
    ) -> (Witnessed, Option<Refusal>) {
        let PendingHead { at, log, taken } = pending;
        self.settle(log.as_ref(), journaled);
        let taken = self.check_sound().and(taken).and_then(|()| self.check_gate());
        let taken = taken.and_then(|()| self.check_unsealed());
        (self.witnessed(taken.is_ok(), at), taken.err())
    }

    /// The head of the log under which a batch's entries are, or that comes alone.
    fn take_head(&mut self, head: Option<&LogHead>, now: u64) -> Result<Head, Refusal> {
        self.gate.take(head, self.keys.values().map(|held| &held.roster), now)
    }

    fn settle(&mut self, log: Option<&Unsaved>, journaled: Result<(), String>) {
        match (journaled, log) {
            (Ok(()), Some(saved)) => self.gate.settle(saved),
            (Ok(()), None) => {}
            (Err(problem), _) => self
                .close(format!("the journal could not be written: {problem}; free space or mend the disk")),
        }
    }

    fn settle_record(&mut self, record: &JournalRecord) {
        if record.verdict == Verdict::Permitted {
            self.marks.settle(&record.channel_key(), record.sequence);
        }
        record.refused_by.iter().for_each(|refusal| self.policy.settle(refusal));
    }

    fn witnessed(&self, cosign: bool, at: u64) -> Witnessed {
        Witnessed {
            size: self.gate.size(),
            cosignature: if cosign { self.gate.cosignature(at) } else { None },
        }
    }

    /// Everything about a batch that does not depend on a release: condition, key, roster, quorum.
    fn check_batch(&mut self, batch: &Batch) -> Result<Arc<Effective>, Refusal> {
        self.condition()?;
        let held = self.keys.get_mut(&batch.key).ok_or_else(|| {
            refuse(RefusalCode::UnknownKey, format!("this node holds no key {}; see its `status`", batch.key))
        })?;
        if held.roster.hash() != batch.roster {
            return Err(refuse(
                RefusalCode::WrongRoster,
                format!(
                    "the batch names roster {} of key {}, this node's own is {} (epoch {})",
                    batch.roster,
                    batch.key,
                    held.roster.hash(),
                    held.roster.epoch()
                ),
            ));
        }
        held.effective(&batch.signers)
    }

    /// A batch that is refused as a whole uses up its commitments too: the coordinator has no more use for them, and a
    /// pool that still counted them would never be topped up.
    fn use_up(&mut self, stream: StreamId, batch: &Batch) {
        let Some(pool) = self.pools.get_mut(&(stream, batch.key.clone())) else { return };
        for commitment in batch.items.iter().flat_map(|item| &item.commitments) {
            // Most are other nodes'.
            drop(pool.take(&commitment.0));
        }
    }

    /// What this node itself decides about a release: its entry in the log, its time, its policy, its marks.
    fn decide(
        &mut self,
        item: &BatchItem,
        head: &Head,
        roster: RosterHash,
        now: u64,
    ) -> Result<(PermittedRelease, Novelty), Box<Denied>> {
        self.gate.check_entry(head, item, roster, now)?;
        let not_logged_at = item.entry.as_ref().and_then(|entry| self.gate.not_logged_at(entry.index));
        check_time(&item.release, not_logged_at, now)?;
        let permitted = self.policy.decide(item, &self.marks, now).or_else(|denied| {
            // No evidence can make a wrong number right.
            let waits = denied.refusal.code.waits();
            if waits {
                self.marks.check(&item.release, item.release.digest())?
            }
            Err(denied)
        })?;
        let (release, digest) = (permitted.release(), permitted.release().digest());
        let is_first = self.marks.history(release, digest).permitted_at.is_none();
        let novelty = self.marks.admit(release, digest, now)?;
        if is_first {
            self.policy.count(release, now);
        }
        Ok((permitted, novelty))
    }

    /// Takes the own nonce pair of every slot; all of them leave the pool, also when one is unknown.
    fn draw(
        &mut self,
        stream: StreamId,
        key: &KeyName,
        signers: usize,
        place: usize,
        item: &BatchItem,
    ) -> Result<Vec<SlotWork>, Refusal> {
        let pool = self.pools.get_mut(&(stream, key.clone())).ok_or_else(|| {
            refuse(RefusalCode::UnknownCommitment, "nothing was announced on this connection".to_owned())
        })?;
        let drawn: Vec<_> = item
            .slots
            .iter()
            .zip(item.commitments.chunks(signers))
            .map(|(slot, commitments)| {
                let own = commitments.get(place).copied().unwrap_or(CommitmentBytes([0; 64]));
                match pool.take(&own.0) {
                    Some(pair) => Ok(SlotWork { slot: *slot, pair, commitments: commitments.to_vec() }),
                    None => Err(unknown_commitment(&own)),
                }
            })
            .collect();
        drawn.into_iter().collect()
    }

    fn condition(&self) -> Result<(), Refusal> {
        let (condition, reason) = self.state();
        let code = match condition {
            Condition::Ready => return Ok(()),
            Condition::Paused => RefusalCode::Paused,
            Condition::Sealed => RefusalCode::Sealed,
            Condition::Closed => RefusalCode::Closed,
        };
        Err(refuse(code, reason))
    }

    /// Whether journal, clock and memory are what they should be.
    fn check_sound(&self) -> Result<(), Refusal> {
        self.unsound().map_or(Ok(()), |reason| Err(refuse(RefusalCode::Closed, reason.clone())))
    }

    /// Whether there is an identity key to cosign with.
    fn check_unsealed(&self) -> Result<(), Refusal> {
        if self.gate.is_sealed() { Err(refuse(RefusalCode::Sealed, SEALED.to_owned())) } else { Ok(()) }
    }

    fn unsound(&self) -> Option<&String> {
        self.lost.as_ref().or(self.closed.as_ref())
    }

    /// What was true when the batch came must still be true when its shares leave: the journal was written in
    /// between.
    fn check_still(&self, work: &Work) -> Result<(), Refusal> {
        self.check_gate()?;
        let held = self.keys.get(&work.key).map(|held| held.roster.hash());
        if held == Some(work.roster) { Ok(()) } else { Err(other_roster(work, held)) }
    }

    /// Another batch or head may have shown since that the log forked, or that this node was restored.
    fn check_gate(&self) -> Result<(), Refusal> {
        self.gate.obstacle().map_or(Ok(()), Err)
    }

    /// The node's condition but for the log.
    fn state(&self) -> (Condition, String) {
        let sealed = self.gate.is_sealed() || self.keys.values().any(|held| held.share.is_none());
        if let Some(reason) = self.unsound() {
            (Condition::Closed, reason.clone())
        } else if let Some(reason) = &self.paused {
            (Condition::Paused, format!("paused by its custodian: {reason}"))
        } else if sealed {
            (Condition::Sealed, SEALED.to_owned())
        } else {
            (Condition::Ready, String::new())
        }
    }

    /// Which node this is.
    #[must_use]
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// What the node says of itself to coordinators and to its custodian.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let (condition, reason) = match (self.state(), self.gate.obstacle()) {
            ((Condition::Closed, reason), _) => (Condition::Closed, reason),
            (_, Some(obstacle)) => (Condition::Closed, obstacle.reason),
            (own, None) => own,
        };
        let keys = self.keys.iter().map(|(name, held)| (name.clone(), held.roster.hash())).collect();
        let warning = self.policy.problem().or(self.lull.as_deref()).unwrap_or_default().to_owned();
        NodeStatus { condition, reason, keys, warning }
    }

    /// What it knows of the log.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The marks, for the custodian's eyes.
    #[must_use]
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The rules in force, for the custodian's eyes.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The custodian's files changed, at a time in Unix seconds: see [`Policy::reload`].
    pub fn reload(&mut self, change: Change, now: u64) {
        self.policy.reload(change, now);
    }

    /// Signature shares made since the start.
    #[must_use]
    pub fn shares_made(&self) -> u64 {
        self.shares_made
    }

    /// Stops signing, by the custodian's will.
    pub fn pause(&mut self, reason: String) {
        self.paused = Some(reason);
    }

    /// The custodian vouches, and the journal has it: ends a pause, and goes on with the log as [`Gate::vouched`] said.
    pub fn resume(&mut self, log: Unsaved) {
        self.paused = None;
        self.lost = None;
        self.gate.adopt(log);
    }

    /// The custodian vouched for the clock, which may have been set back: this counts by it. `now` in Unix seconds.
    pub fn recount(&mut self, rates: RateCounter, now: u64) {
        self.policy.recount(rates);
        self.marks.not_after(now);
    }

    /// The node has lost its memory, for this reason: nothing is signed or cosigned before its custodian
    /// resumes it.
    pub fn lose_memory(&mut self, reason: String) {
        self.lost = Some(reason);
    }

    /// Stops signing because something failed the node.
    pub fn close(&mut self, reason: String) {
        self.closed = Some(reason);
    }

    /// What failed works again.
    pub fn reopen(&mut self) {
        self.closed = None;
    }

    /// The node's identity key is there: it cosigns, and is not sealed any more if its keys' shares are there too.
    pub fn unseal(&mut self, identity: Arc<IdentityKey>) {
        self.gate.unseal(identity);
    }

    /// A key whose share is still sealed.
    pub fn install_sealed(&mut self, roster: SignedRoster) -> Result<(), KeyError> {
        self.install(roster, None)
    }

    /// A key with its share. The share must fit the roster's verifying share of this node.
    pub fn install_key(&mut self, roster: SignedRoster, share: Locked<SigningShare>) -> Result<(), KeyError> {
        self.install(roster, Some(share))
    }

    fn install(&mut self, roster: SignedRoster, share: Option<Locked<SigningShare>>) -> Result<(), KeyError> {
        let roster = roster.into_roster();
        let name = roster.key().clone();
        let index = roster.index_of(&self.me).ok_or_else(|| KeyError::NotAMember(name.clone()))?;
        if share.as_ref().is_some_and(|share| !fits(share, &roster, index)) {
            return Err(KeyError::WrongShare(name));
        }
        // Nonces made with another share or for another roster are of no use any more.
        self.pools.retain(|(_, key), _| *key != name);
        self.keys.insert(name, HeldKey { roster, index, share, effective: HashMap::new() });
        Ok(())
    }

    /// A connection is up; its pools are empty.
    pub fn stream_opened(&mut self, stream: StreamId) {
        if !self.streams.contains(&stream) {
            self.streams.push(stream);
        }
    }

    /// A connection is gone, and with it every nonce that was announced on it.
    pub fn stream_closed(&mut self, stream: StreamId) {
        self.streams.retain(|open| *open != stream);
        self.pools.retain(|(owner, _), _| *owner != stream);
        self.open.forget_stream(stream);
    }

    /// Forgets every nonce: for a process that may have been copied or resumed (see the operator's guide).
    pub fn forget_nonces(&mut self) {
        self.pools.clear();
        self.open.forget();
    }

    /// Why no nonces are made for a while, for everybody to see; `None` once they are made again.
    pub fn set_lull(&mut self, why: Option<String>) {
        self.lull = why;
    }

    /// Makes up to `most` nonce pairs where a stream's pool has room, for announcement on that stream. An error means
    /// that none could be made, for want of memory that can be locked.
    pub fn announce(
        &mut self,
        stream: StreamId,
        most: usize,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<FromNode>, CannotLock> {
        if !self.streams.contains(&stream) {
            return Ok(Vec::new());
        }
        let mut left = most;
        let mut announcements = Vec::new();
        for (name, held) in &self.keys {
            let Some(share) = &held.share else { continue };
            let pool = self.pools.entry((stream, name.clone())).or_default();
            let made = match pool.top_up(share.expose(), limits::NONCE_POOL, left, rng) {
                Ok(made) => made,
                Err(error) if announcements.is_empty() => return Err(error),
                Err(_) => break,
            };
            left = left.saturating_sub(made.len());
            if !made.is_empty() {
                let made = made.into_iter().map(CommitmentBytes).collect();
                announcements.push(FromNode::Commitments(name.clone(), made));
            }
        }
        Ok(announcements)
    }
}

/// Bounded on both sides, because nothing else proves when a release was issued: not later than now, and not
/// before the last time at which this node knows that the log did not have it. If it is only a little
/// outside, a clock may be wrong.
fn check_time(release: &VerifiedRelease, not_logged_at: Option<u64>, now: u64) -> Result<(), Refusal> {
    let issued = release.issued_at().0;
    let wrong = |what: &str, time, clock: &str, than| {
        Err(out_of_time((what, time), (clock, than), RefusalCode::OutOfTime))
    };
    if issued > now.saturating_add(limits::MAX_CLOCK_SKEW_S) {
        return wrong("the release says that it was issued at", issued, "this node's clock says", now);
    }
    let not_logged_at = not_logged_at.unwrap_or(0);
    if issued < not_logged_at.saturating_sub(limits::MAX_CLOCK_SKEW_S) {
        let clock = "by this node's clock the log did not have it yet at";
        return wrong("the release says that it was issued at", issued, clock, not_logged_at);
    }
    match release.expires_at() {
        Some(expires) if expires.0 <= now => {
            wrong("the statement says that it expires at", expires.0, "this node's clock says", now)
        }
        _ => Ok(()),
    }
}

/// Whether an item was refused for what the log has, or has not.
fn is_unlogged(item: &ItemReply) -> bool {
    use RefusalCode::{LogInclusion, LogOtherEntry, LogTerms, NotLogged};
    let is_log = |code| matches!(code, NotLogged | LogInclusion | LogOtherEntry | LogTerms);
    item.as_ref().is_err_and(|refusal| is_log(refusal.code))
}

fn refuse(code: RefusalCode, reason: String) -> Refusal {
    Refusal::new(code, reason)
}

/// Either the coordinator is wrong or lies, or the stream was lost in between. A new session with new
/// commitments resolves it.
fn unknown_commitment(commitment: &CommitmentBytes) -> Refusal {
    let reason = format!(
        "commitment {commitment} is not in this connection's pool: used already, another node's, or of an earlier connection"
    );
    refuse(RefusalCode::UnknownCommitment, reason)
}

/// The key was exchanged for that of another epoch while the journal was written.
fn other_roster(work: &Work, held: Option<RosterHash>) -> Refusal {
    let now = held.map_or("none".to_owned(), |hash| hash.to_string());
    refuse(
        RefusalCode::WrongRoster,
        format!(
            "the batch was decided under roster {} of key {}, this node's is {now} now",
            work.roster, work.key
        ),
    )
}

fn malformed(problem: &str) -> Refusal {
    refuse(RefusalCode::Malformed, problem.to_owned())
}
