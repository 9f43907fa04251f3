//! The log's gate: a node signs nothing that is not in the log, and follows one log that only ever grows.
//!
//! In this order, for a batch or for a head alone:
//!
//! 1. [`Gate::take`]: the checkpoint is one that the log signed; it is not older than the own head; it does not contradict
//!    it; the proof begins at the own head and shows that the new one extends it; and if this node was restored, its
//!    peers have cosigned the head since.
//! 2. [`Gate::check_entry`], for each release: an entry is named, it is under that head, it is the one that this node
//!    encoded itself, and it comes due in its readers' time. The same for each entry that names evidence added later.
//! 3. The driver makes the new head durable, in the transaction of the decisions ([`Gate::unsaved`], [`Gate::settle`]).
//! 4. Only then shares leave, and the [cosignature](Gate::cosignature) of the head (c2sp.org/tlog-cosignature).
//!
//! Sans-IO. Log, own identity and peers come from the node's own configuration, never from a coordinator.

use std::{collections::BTreeMap, sync::Arc};

use rutli_keys::{IdentityKey, IdentityPublic, NodeId, Roster, RosterHash};
use rutli_log::{
    Cosignature, Cosigner, Entry, Hash, Head, LogKey, NotACheckpoint, Origin, SignedCheckpoint,
    check_consistency, check_inclusion,
    checkpoint::InvalidLogKey,
    entry::{Evidence, RequestTerms, kinds},
    limits::{MAX_DEADLINE_SECONDS, MAX_EMBARGO_SECONDS},
};
use rutli_release::Timestamp;
use rutli_signer_secrets::on_wiped_stack;
use rutli_wire::link::{BatchItem, KeptLog, LogHead, LoggedEntry, LoggedEvidence, Refusal, RefusalCode};

use crate::limits;

/// A head that this node took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptHead {
    /// The head.
    pub head: Head,
    /// The checkpoint with the log's own signature, and no other: evidence.
    pub note: String,
}

/// Two heads of one size with different roots, both signed by the log: proof that it forked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Unix seconds.
    pub at: u64,
    /// What this node had.
    pub own: KeptHead,
    /// What it was shown.
    pub other: KeptHead,
}

/// At this time of the node's own clock the log had no more entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Unix seconds.
    pub at: u64,
    /// Entries under the head that the log showed next.
    pub size: u64,
}

/// What a node keeps of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// The newest head that it took; `None`: it has taken none yet.
    pub head: Option<KeptHead>,
    /// A later one that the custodian vouched for by name, until the log has shown a head that extends it.
    pub vouched: Option<Head>,
    /// Since this the node is closed, until its custodian vouches.
    pub fork: Option<Fork>,
    /// Unix seconds at which the node was restored from a backup, as long as it has not caught up.
    pub catching_up: Option<u64>,
    /// Unix seconds of the newest line of the whole journal: times of cosignatures never go back behind it.
    pub newest_at: u64,
    /// Sizes of the log, about one an hour, oldest first. They never go down.
    pub reached: Arc<Vec<Reached>>,
}

/// A head for which the custodian cannot vouch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotVouch {
    /// A log never gets shorter. An older head was given.
    #[error("the head has {given} entries and this node took one of {own}; vouch for one that is as new")]
    Behind {
        /// Entries under the head that was given.
        given: u64,
        /// Entries under the node's own.
        own: u64,
    },
    /// The node has seen the log sign another one. Mistyped, or the log forked.
    #[error(
        "this node took a head of {size} entries with root {own}, signed by the log; compare the root once more. If it \
         is right the log has forked: vouch for a later head of the history that stands"
    )]
    OtherRoot {
        /// Entries under both.
        size: u64,
        /// Root of the node's own.
        own: Hash,
    },
}

/// What the journal must hold before anything leaves the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsaved {
    /// Of which log.
    pub origin: Origin,
    /// All of it.
    pub state: LogState,
    /// Goes up with each change in this process.
    pub revision: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    log: LogKey,
    me: NodeId,
    /// `None` while the node is sealed: it follows the log and cosigns nothing.
    identity: Option<Arc<IdentityKey>>,
    own: Cosigner,
    peers: BTreeMap<NodeId, Cosigner>,
    /// As of now; it may be ahead of the journal.
    state: LogState,
    revision: u64,
    /// The newest revision that the journal has.
    durable: u64,
    /// Unix seconds from which on the next [`Reached`] is noted.
    reached_due: u64,
}

impl Gate {
    /// The gate of a node that follows one log and has `kept` this of it.
    ///
    /// # Errors
    /// [`InvalidLogKey`]: never for names and identities that were parsed.
    pub fn new(
        log: LogKey,
        me: NodeId,
        identity: Arc<IdentityKey>,
        peers: &BTreeMap<NodeId, IdentityPublic>,
        kept: LogState,
    ) -> Result<Self, InvalidLogKey> {
        let mut gate = Self::sealed(log, me, &identity.public(), peers, kept)?;
        gate.unseal(identity);
        Ok(gate)
    }

    /// The same of a sealed node, of which only the public key is known.
    ///
    /// # Errors
    /// As [`Gate::new`].
    pub fn sealed(
        log: LogKey,
        me: NodeId,
        own: &IdentityPublic,
        peers: &BTreeMap<NodeId, IdentityPublic>,
        kept: LogState,
    ) -> Result<Self, InvalidLogKey> {
        let own = cosigner(&me, own)?;
        let peers = peers
            .iter()
            .map(|(id, identity)| Ok((id.clone(), cosigner(id, identity)?)))
            .collect::<Result<_, InvalidLogKey>>()?;
        Ok(Self { log, me, identity: None, own, peers, state: kept, revision: 0, durable: 0, reached_due: 0 })
    }

    /// The node is unsealed: from now on it cosigns. `identity` is the pair of the public key that it was made with.
    pub fn unseal(&mut self, identity: Arc<IdentityKey>) {
        self.identity = Some(identity);
    }

    /// Whether the identity key is not there yet.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.identity.is_none()
    }

    /// Takes a head that is at least as new as the own one, or says what is wrong with it. Until [`Gate::settle`] it is
    /// not durable. `rosters` are those of the keys that this node holds, `now` is in Unix seconds.
    ///
    /// # Errors
    /// A refusal whose code begins with `log-`.
    pub fn take<'a>(
        &mut self,
        offered: Option<&LogHead>,
        rosters: impl Iterator<Item = &'a Roster>,
        now: u64,
    ) -> Result<Head, Refusal> {
        self.check_not_forked()?;
        let offered = offered.ok_or_else(|| {
            refuse(
                RefusalCode::LogHeadMissing,
                "the batch names no head of the log; nothing is signed unlogged",
            )
        })?;
        let head = match self.own_head_again(&offered.checkpoint) {
            Some(head) => head,
            None => self.take_new(offered, rosters, now)?,
        };
        self.note_reached(head, now);
        self.keep_time(now);
        Ok(head)
    }

    fn take_new<'a>(
        &mut self,
        offered: &LogHead,
        rosters: impl Iterator<Item = &'a Roster>,
        now: u64,
    ) -> Result<Head, Refusal> {
        let checkpoint = self.open(&offered.checkpoint)?;
        self.check_not_older(&checkpoint)?;
        self.check_no_other_root(&checkpoint, now)?;
        self.notice_restore(&checkpoint, now);
        self.check_extends(&checkpoint, offered)?;
        self.check_caught_up(&checkpoint, rosters, now)?;
        self.keep(&checkpoint);
        Ok(checkpoint.head())
    }

    /// The request's entry is in the log, under a head that was taken, it is the one that this node encoded itself for its
    /// own roster, and what it promises to the log's readers comes due in their time. `now` in Unix seconds.
    ///
    /// # Errors
    /// [`RefusalCode::NotLogged`], [`RefusalCode::LogInclusion`], [`RefusalCode::LogOtherEntry`],
    /// [`RefusalCode::LogTerms`].
    pub fn check_entry(
        &self,
        head: &Head,
        item: &BatchItem,
        roster: RosterHash,
        now: u64,
    ) -> Result<(), Refusal> {
        let logged = item.entry.as_ref().ok_or_else(|| {
            refuse(RefusalCode::NotLogged, "the request names no entry of the log; it must be logged first")
        })?;
        check_inclusion(head, logged.index, logged.leaf, &logged.proof).map_err(|error| {
            let problem = format!("entry {} is not shown to be in the log: {error}", logged.index);
            refuse(RefusalCode::LogInclusion, problem)
        })?;
        if own_leaf(item, logged, roster) != logged.leaf {
            let problem = format!(
                "entry {} of the log is not the request for this release by {} under this roster and deadline",
                logged.index, item.requester
            );
            return Err(refuse(RefusalCode::LogOtherEntry, problem));
        }
        logged.added.iter().try_for_each(|added| check_added(head, logged.index, added))?;
        check_terms(logged, now)
    }

    /// The log forked: nothing is looked at any more.
    fn check_not_forked(&self) -> Result<(), Refusal> {
        self.state.fork.as_ref().map_or(Ok(()), |fork| Err(forked(fork)))
    }

    /// The text of the own head again, whatever signature lines follow: its one signature that counts was verified when
    /// it was taken. A node that catches up wants those lines.
    fn own_head_again(&self, note: &str) -> Option<Head> {
        let is_settled = self.state.catching_up.is_none() && self.state.vouched.is_none();
        let own = self.state.head.as_ref().filter(|_| is_settled)?;
        let text = own.note.split_inclusive('\n').take(CHECKPOINT_LINES).collect::<String>();
        let lines = note.strip_prefix(&text)?.strip_prefix('\n')?;
        (!lines.is_empty() && lines.lines().all(|line| line.starts_with("— "))).then_some(own.head)
    }

    /// Form, the log's signature, origin.
    fn open(&self, note: &str) -> Result<SignedCheckpoint, Refusal> {
        self.log.open(note).map_err(|error| {
            let code = match &error {
                NotACheckpoint::Origin { .. } => RefusalCode::LogOrigin,
                _ => RefusalCode::LogHeadUnsigned,
            };
            refuse(
                code,
                format!("the head of the log does not hold: {error}; compare [log] key with the log's own"),
            )
        })
    }

    fn check_not_older(&self, checkpoint: &SignedCheckpoint) -> Result<(), Refusal> {
        let (own, offered) = (self.size(), checkpoint.head().size);
        if offered >= own {
            return Ok(());
        }
        Err(refuse(
            RefusalCode::LogBehind,
            format!("the head has {offered} entries and this node has seen {own}; a log never gets shorter"),
        ))
    }

    /// The one thing that no honest log ever does. Both notes are kept.
    fn check_no_other_root(&mut self, checkpoint: &SignedCheckpoint, now: u64) -> Result<(), Refusal> {
        let offered = checkpoint.head();
        match &self.state.head {
            Some(own) if own.head.size == offered.size && own.head.root != offered.root => {
                let fork = Fork { at: now, own: own.clone(), other: kept(checkpoint) };
                let refusal = forked(&fork);
                self.state.fork = Some(fork);
                self.revision += 1;
                Err(refusal)
            }
            _ => Ok(()),
        }
    }

    /// This node's own cosignature beyond its own head: it was restored, and nobody said so.
    fn notice_restore(&mut self, checkpoint: &SignedCheckpoint, now: u64) {
        let beyond = checkpoint.head().size > self.size() && self.state.catching_up.is_none();
        if beyond && matches!(checkpoint.cosignature(&self.own), Ok(Some(_))) {
            self.state.catching_up = Some(now.max(self.state.newest_at));
            self.revision += 1;
        }
    }

    fn check_extends(&self, checkpoint: &SignedCheckpoint, offered: &LogHead) -> Result<(), Refusal> {
        let own = self.head();
        if offered.from != own.size {
            return Err(refuse(
                RefusalCode::LogGap,
                format!(
                    "the consistency proof begins at {}, this node's own head at {}; prove it from there",
                    offered.from, own.size
                ),
            ));
        }
        check_consistency(&own, &checkpoint.head(), &offered.consistency).map_err(|error| {
            let problem = format!(
                "the head of {} entries is not shown to extend this node's own of {}: {error}",
                checkpoint.head().size,
                own.size
            );
            refuse(RefusalCode::LogInconsistent, problem)
        })
    }

    /// A node that was restored may have seen more than it knows. Every quorum that it signed with had a threshold of
    /// each organisation, with itself in its own: at least one honest node of so many *others* has seen it too, and tells
    /// by cosigning since. Of an organisation that has no more nodes all others are asked.
    ///
    /// Since: strictly later than the own clock said at the restore, for what a peer cosigned before may be as old as the
    /// backup. Peers whose clocks are behind make it wait a little longer, which is safe: coordinators ask for
    /// cosignatures once a minute at least. A peer whose clock is ahead might vouch with what it cosigned in the last
    /// seconds before the restore; that is why the peers are several, and clocks are to be kept right.
    fn check_caught_up<'a>(
        &mut self,
        checkpoint: &SignedCheckpoint,
        rosters: impl Iterator<Item = &'a Roster>,
        now: u64,
    ) -> Result<(), Refusal> {
        let Some(since) = self.state.catching_up else { return Ok(()) };
        let fresh = |id: &NodeId| {
            let cosigner = self.peers.get(id);
            let cosignature = cosigner.and_then(|peer| checkpoint.cosignature(peer).ok().flatten());
            cosignature.is_some_and(|cosignature| {
                cosignature.time > since && cosignature.time <= now.saturating_add(limits::MAX_CLOCK_SKEW_S)
            })
        };
        let mut keys = 0;
        for roster in rosters {
            keys += 1;
            for organisation in roster.organisations() {
                let others = || organisation.nodes.iter().filter(|node| node.id != self.me);
                let wanted = usize::from(organisation.threshold).min(others().count());
                if others().filter(|node| fresh(&node.id)).count() < wanted {
                    return Err(catching_up(since));
                }
            }
        }
        // Without a key there is no quorum that could vouch.
        if keys == 0 {
            return Err(catching_up(since));
        }
        self.state.catching_up = None;
        self.revision += 1;
        Ok(())
    }

    fn keep(&mut self, checkpoint: &SignedCheckpoint) {
        let new = kept(checkpoint);
        let was_vouched = self.state.vouched.take().is_some();
        if was_vouched || self.state.head.as_ref().is_none_or(|own| own.head != new.head) {
            self.state.head = Some(new);
            self.revision += 1;
        }
    }

    /// Seconds are coarse: at most one more write in each.
    fn keep_time(&mut self, now: u64) {
        if now > self.state.newest_at {
            self.state.newest_at = now;
            self.revision += 1;
        }
    }

    /// Records the size of the log once an hour, with the time at which this node was last shown a head
    /// before. A node that was suspended for hours may find an equally old head in its queue, and must not
    /// take it for a current one.
    fn note_reached(&mut self, head: Head, now: u64) {
        let at = self.state.newest_at;
        if at == 0 || now < at || now < self.reached_due {
            return;
        }
        self.reached_due = now.saturating_add(limits::REACHED_EVERY_S);
        if self.state.reached.last().is_some_and(|last| at <= last.at) {
            return;
        }
        let reached = Arc::make_mut(&mut self.state.reached);
        reached.push(Reached { at, size: head.size });
        let kept_from = at.saturating_sub(limits::REACHED_KEPT_S);
        let old = reached.partition_point(|reached| reached.at < kept_from);
        reached.drain(..old);
        self.revision += 1;
    }

    /// The last time at which this node knows that the log did not have this entry, in Unix seconds; `None`
    /// if it knows of none. The release was not issued before, except for the difference of the clocks.
    #[must_use]
    pub fn not_logged_at(&self, index: u64) -> Option<u64> {
        let before = self.state.reached.partition_point(|reached| reached.size <= index);
        self.state.reached.get(before.checked_sub(1)?).map(|reached| reached.at)
    }

    /// What is not durable yet.
    #[must_use]
    pub fn unsaved(&self) -> Option<Unsaved> {
        (self.revision > self.durable).then(|| Unsaved {
            origin: self.log.origin().clone(),
            state: self.state.clone(),
            revision: self.revision,
        })
    }

    /// The journal has it.
    pub fn settle(&mut self, saved: &Unsaved) {
        self.durable = self.durable.max(saved.revision);
    }

    /// This node's cosignature of its own head, made at `now`, or at the newest time in the journal if that is later; only
    /// of a head that is durable, that the log has signed, and that it stands by, and only if the node is not sealed.
    #[must_use]
    pub fn cosignature(&self, now: u64) -> Option<Cosignature> {
        let (own, identity) = (self.state.head.as_ref()?, self.identity.as_ref()?);
        if self.revision > self.durable || self.state.vouched.is_some() || self.obstacle().is_some() {
            return None;
        }
        let time = now.max(self.state.newest_at);
        let checkpoint = rutli_log::Checkpoint { origin: self.log.origin().clone(), head: own.head };
        let signature = on_wiped_stack(|| identity.cosign(time, &checkpoint.text()));
        Some(Cosignature { time, signature })
    }

    /// Why nothing may leave now.
    #[must_use]
    pub fn obstacle(&self) -> Option<Refusal> {
        self.state.fork.as_ref().map(forked).or_else(|| self.state.catching_up.map(catching_up))
    }

    /// What the custodian's word makes of it, once the journal has that and [`Gate::adopt`] was called: the present time
    /// (`now`, Unix seconds) is right; so is the own head, whatever fork of it there is; and with a `head` by name that one
    /// is, so that the node need not wait for its peers, and takes what extends it.
    ///
    /// # Errors
    /// [`CannotVouch`]: the log signed something else before.
    pub fn vouched(&self, head: Option<Head>, now: u64) -> Result<Unsaved, CannotVouch> {
        let mut state = self.state.clone();
        state.fork = None;
        state.newest_at = state.newest_at.min(now);
        Arc::make_mut(&mut state.reached).retain(|reached| reached.at <= now);
        if let Some(given) = head {
            // Not the one that was vouched for before: whoever mistyped that one must be able to say it again.
            let own = state.head.as_ref().map_or(Head::EMPTY, |kept| kept.head);
            if given.size < own.size {
                return Err(CannotVouch::Behind { given: given.size, own: own.size });
            }
            if given.size == own.size && given.root != own.root {
                return Err(CannotVouch::OtherRoot { size: own.size, own: own.root });
            }
            state.vouched = (given.size > own.size).then_some(given);
            state.catching_up = None;
        }
        Ok(Unsaved { origin: self.log.origin().clone(), state, revision: self.revision + 1 })
    }

    /// The journal has the custodian's word.
    pub fn adopt(&mut self, vouched: Unsaved) {
        self.durable = self.durable.max(vouched.revision);
        self.revision = vouched.revision;
        self.state = vouched.state;
        self.reached_due = 0;
    }

    /// Which node this is.
    #[must_use]
    pub fn me(&self) -> &NodeId {
        &self.me
    }

    /// Which log.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        self.log.origin()
    }

    /// Entries under the own head: where the next consistency proof begins.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head().size
    }

    /// What it keeps, as of now.
    #[must_use]
    pub fn state(&self) -> &LogState {
        &self.state
    }

    /// What a coordinator is told of it when the node attaches. The checkpoint shows a coordinator that its log is not this
    /// one; a custodian who vouched for a head has decided otherwise.
    #[must_use]
    pub fn kept(&self) -> KeptLog {
        let own = self.state.head.as_ref().filter(|_| self.state.vouched.is_none());
        KeptLog { size: self.size(), checkpoint: own.map(|kept| kept.note.clone()).unwrap_or_default() }
    }

    /// What the next head must extend.
    #[must_use]
    pub fn head(&self) -> Head {
        let kept = self.state.head.as_ref().map_or(Head::EMPTY, |kept| kept.head);
        self.state.vouched.unwrap_or(kept)
    }
}

/// Lines of a checkpoint's text: origin, size, root.
const CHECKPOINT_LINES: usize = 3;

fn cosigner(id: &NodeId, identity: &IdentityPublic) -> Result<Cosigner, InvalidLogKey> {
    Cosigner::new(id.to_string(), &identity.to_bytes())
}

/// Text, blank line, and the log's own signature, which an opened checkpoint has first; cosignatures are left out, for
/// they would make the journal's row long, and prove nothing against the log.
fn kept(checkpoint: &SignedCheckpoint) -> KeptHead {
    let note = checkpoint.to_note();
    let note = note.split_inclusive('\n').take(CHECKPOINT_LINES + 2).collect();
    KeptHead { head: checkpoint.head(), note }
}

/// The leaf of the entry as this node encodes it. Nothing of it is taken from the log, and of the coordinator only what
/// the release itself does not say.
fn own_leaf(item: &BatchItem, logged: &LoggedEntry, roster: RosterHash) -> Hash {
    let terms = RequestTerms {
        release_id: item.release_id.clone(),
        requester: item.requester.clone(),
        roster: Hash(*roster.as_bytes()),
        deadline: logged.deadline,
        evidence: logged.evidence.clone(),
        embargo: logged.embargo,
    };
    Entry::request(&item.release, &terms).leaf_hash()
}

/// Evidence that was added later is in the log under the same head, in an entry that this node encoded
/// itself, for this same request. So everybody can see what a signature is based on.
fn check_added(head: &Head, request: u64, added: &LoggedEvidence) -> Result<(), Refusal> {
    check_inclusion(head, added.index, added.leaf, &added.proof).map_err(|error| {
        let problem =
            format!("entry {} of added evidence is not shown to be in the log: {error}", added.index);
        refuse(RefusalCode::LogInclusion, problem)
    })?;
    let (by, evidence) = (added.by.clone(), added.evidence.clone());
    let own = Evidence { by, evidence, kind: kinds::Evidence::default(), request, time: added.time };
    if Entry::Evidence(own).leaf_hash() == added.leaf {
        return Ok(());
    }
    let problem = format!(
        "entry {} of the log does not say that {} added this evidence to the request at {request}",
        added.index,
        added.by.escape_debug()
    );
    Err(refuse(RefusalCode::LogOtherEntry, problem))
}

/// A monitor raises its alarm when a request has no outcome after its deadline, and when an embargo has no disclosure after
/// its end. What is never due is never missed.
fn check_terms(logged: &LoggedEntry, now: u64) -> Result<(), Refusal> {
    let due = |what: &str, time: u64, most: u64| {
        let (earliest, latest) = (
            now.saturating_sub(limits::MAX_CLOCK_SKEW_S),
            now.saturating_add(most).saturating_add(limits::MAX_CLOCK_SKEW_S),
        );
        if (earliest..=latest).contains(&time) {
            return Ok(());
        }
        let what = format!("entry {} of the log has {what}, due from {earliest} to {latest},", logged.index);
        let refusal = out_of_time((&what, time), ("this node's clock says", now), RefusalCode::LogTerms);
        // An end too far in the future is not a matter of clocks.
        Err(if time < earliest { refusal } else { Refusal { code: RefusalCode::LogTerms, ..refusal } })
    };
    due("a deadline", logged.deadline, MAX_DEADLINE_SECONDS)?;
    logged
        .embargo
        .map_or(Ok(()), |embargo| due("an end of its embargo", embargo.disclose_by, MAX_EMBARGO_SECONDS))
}

/// A time that this node's clock does not permit. If it is only a little outside, the clock may be wrong: the
/// release then waits, undecided. Otherwise it is refused with this code.
pub(crate) fn out_of_time(
    (what, time): (&str, u64),
    (clock, than): (&str, u64),
    code: RefusalCode,
) -> Refusal {
    let difference = time.abs_diff(than);
    let side = if time > than { "before" } else { "after" };
    let code = if difference <= limits::MAX_CLOCK_ERROR_S { RefusalCode::ClockDiffers } else { code };
    let (time, than) = (Timestamp(time), Timestamp(than));
    refuse(
        code,
        format!(
            "{what} {time}, and {clock} {than}, {difference} seconds {side} that; compare the clocks, or ask for a new release"
        ),
    )
}

fn forked(fork: &Fork) -> Refusal {
    refuse(
        RefusalCode::LogForked,
        format!(
            "the log forked: it signed two heads of {} entries, with roots {} and {}. Both notes are in this node's \
             journal (log_forks). Show them to the other custodians; then follow a new log, or vouch for this node's own \
             head with `resume`",
            fork.own.head.size, fork.own.head.root, fork.other.head.root
        ),
    )
}

fn catching_up(since: u64) -> Refusal {
    refuse(
        RefusalCode::LogCatchingUp,
        format!(
            "this node was restored at {since}, and waits for a head of the log that its peers cosigned since; it goes on \
             by itself once a quorum of them is up. Cannot that come? Custodians compare the newest head by telephone, and \
             vouch for it with `resume --log-head`"
        ),
    )
}

fn refuse(code: RefusalCode, reason: impl Into<String>) -> Refusal {
    Refusal::new(code, reason)
}
