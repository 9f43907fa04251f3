//! Key ceremonies as the coordinator sees them: verify, store, relay.
//!
//! The coordinator has no part in a ceremony and no secret. It follows each one with a [`CeremonyObserver`], makes every
//! message durable *before* it passes it on, and gives each node that attaches the whole transcript of every ceremony it
//! is a member of, so that a ceremony goes on after any process restarts. The transcript is also the queue: a node's
//! link remembers how far it has read, and nothing else is kept per node.
//!
//! What it decides itself: how many ceremonies may be open, and that a new key must not leave out an organisation that
//! the key in use has, so that no single node can put itself in the place of all by a ceremony of its own. Nodes check
//! everything themselves all the same.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use rutli_keys::{
    CeremonyId, NodeId, SignedRoster,
    ceremony::{CeremonyError, CeremonyMessage, CeremonyObserver, CeremonyState, Received, SignedProposal},
};
use rutli_wire::{convert::key_to_wire, limits as wire_limits, link::CeremonyEnvelope, v1};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    error::{Error, Result},
    keyring::Keyring,
    limits,
    log::key_entry,
    session::Sessions,
    share::{self, Held, Whose},
    store::{CeremonyChange, CeremonyEnd, NewKey, Store, StoredCeremony},
};

/// All ceremonies of the process.
pub struct Ceremonies {
    store: Store,
    sessions: Sessions,
    keyring: Keyring,
    clock: Clock,
    /// Held over the write to the store, so that messages are relayed in the order in which they are durable.
    state: Mutex<State>,
    /// Counts changes, for links and watchers.
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    ceremonies: BTreeMap<CeremonyId, Ceremony>,
    /// Number of the next one; later ones have higher numbers.
    next: u64,
}

struct Ceremony {
    number: u64,
    signed_proposal: Vec<u8>,
    proposer: NodeId,
    observer: CeremonyObserver,
    /// Durable, in the order in which they came.
    messages: Vec<Vec<u8>>,
    ended: Option<Ended>,
}

struct Ended {
    state: v1::CeremonyState,
    at: u64,
    reason: String,
}

impl Ceremonies {
    /// Takes up all that the store has.
    ///
    /// # Errors
    /// [`Error::Store`], also if a stored proposal does not read.
    pub async fn open(store: Store, sessions: Sessions, keyring: Keyring, clock: Clock) -> Result<Arc<Self>> {
        let mut state = State::default();
        for stored in store.ceremonies(limits::MAX_CEREMONIES).await? {
            let id = stored.ceremony_id.clone();
            let (id, ceremony) = Ceremony::restore(stored, state.next)
                .map_err(|error| Error::Store { reason: format!("ceremony {id} does not read: {error}") })?;
            state.next = state.next.saturating_add(1);
            state.ceremonies.insert(id, ceremony);
        }
        state.forget(clock.now());
        let (changes, _) = watch::channel(0);
        Ok(Arc::new(Self { store, sessions, keyring, clock, state: Mutex::new(state), changes }))
    }

    /// Ends ceremonies whose time is over, until `stopping`.
    pub async fn watch_deadlines(self: Arc<Self>, stopping: CancellationToken) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(seconds.tick()).await.is_some() {
            let mut state = self.state.lock().await;
            let now = self.clock.now();
            let overdue: Vec<CeremonyId> = state
                .ceremonies
                .iter_mut()
                .filter(|(_, ceremony)| ceremony.ended.is_none())
                .filter_map(|(id, ceremony)| {
                    ceremony.observer.tick(now);
                    ceremony.is_to_end(now).then_some(*id)
                })
                .collect();
            for id in overdue {
                if let Some(ceremony) = state.ceremonies.get_mut(&id)
                    && let Err(error) = self.commit(&id, ceremony, Vec::new(), None).await
                {
                    tracing::warn!(%error, ceremony = %id, "the end of a ceremony is not stored yet");
                }
            }
        }
    }

    /// Takes what a node sent. In a task of its own: a link that ends in the middle does not tear it apart.
    ///
    /// # Errors
    /// [`Error::Ceremony`] for what no honest node sends, [`Error::StoreClosed`] if it could not be made durable.
    pub async fn received(self: &Arc<Self>, node: &NodeId, envelope: CeremonyEnvelope) -> Result<()> {
        let (this, node) = (Arc::clone(self), node.clone());
        tokio::spawn(async move { this.take(&node, envelope).await }).await.map_err(|_| Error::Stopping)?
    }

    /// What a node has to know, from the beginning.
    #[must_use]
    pub fn transcript(self: &Arc<Self>, node: NodeId) -> Transcript {
        Transcript {
            ceremonies: Arc::clone(self),
            node,
            read: HashMap::new(),
            changes: self.changes.subscribe(),
        }
    }

    /// All ceremonies at hand, newest first.
    pub async fn list(&self) -> Vec<v1::Ceremony> {
        let connected = self.connected().await;
        let state = self.state.lock().await;
        let mut newest: Vec<_> = state.ceremonies.iter().collect();
        newest.sort_unstable_by_key(|(_, ceremony)| std::cmp::Reverse(ceremony.number));
        newest.into_iter().map(|(id, ceremony)| ceremony.message(id, &connected)).collect()
    }

    /// One ceremony.
    ///
    /// # Errors
    /// [`Error::NotFound`]
    pub async fn get(&self, id: &CeremonyId) -> Result<v1::Ceremony> {
        let connected = self.connected().await;
        let state = self.state.lock().await;
        let ceremony = state.ceremonies.get(id);
        let missing = || Error::NotFound { kind: "ceremony", name: id.to_string() };
        ceremony.map(|ceremony| ceremony.message(id, &connected)).ok_or_else(missing)
    }

    /// Counts changes of any ceremony.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn connected(&self) -> BTreeMap<NodeId, bool> {
        self.sessions.nodes().await.into_iter().map(|node| (node.node, node.connected)).collect()
    }

    async fn take(&self, node: &NodeId, envelope: CeremonyEnvelope) -> Result<()> {
        let refused = |error: &dyn std::fmt::Display| Error::Ceremony(error.to_string());
        let proposal = envelope
            .proposal
            .map(|bytes| SignedProposal::parse(&bytes).map(|proposal| (proposal, bytes)))
            .transpose()
            .map_err(|e| refused(&e))?;
        let mut messages: BTreeMap<CeremonyId, Vec<(CeremonyMessage, Vec<u8>)>> = BTreeMap::new();
        for bytes in envelope.messages {
            let message = CeremonyMessage::parse(&bytes).map_err(|e| refused(&e))?;
            if message.from != *node {
                // Whoever could bring in others' messages could hold a ceremony with members that it invented.
                return Err(Error::Ceremony(format!("{node} sent a message of {}", message.from)));
            }
            messages.entry(message.ceremony).or_default().push((message, bytes));
        }
        let mut state = self.state.lock().await;
        if let Some((proposal, bytes)) = proposal {
            self.propose(&mut state, node, &proposal, bytes).await?;
        }
        for (id, messages) in messages {
            let Some(ceremony) = state.ceremonies.get_mut(&id).filter(|ceremony| ceremony.has_member(node))
            else {
                // Not taken, or forgotten by now: the node's own deadline ends it there.
                tracing::debug!(%node, ceremony = %id, "messages of an unknown ceremony");
                continue;
            };
            self.file(&id, ceremony, messages).await?;
        }
        Ok(())
    }

    /// A proposal that is well-formed but not wanted is no fault of the link: it is named in the log and left out.
    async fn propose(
        &self,
        state: &mut State,
        node: &NodeId,
        proposal: &SignedProposal,
        bytes: Vec<u8>,
    ) -> Result<()> {
        let id = proposal.proposal().id();
        if state.ceremonies.contains_key(&id) {
            return Ok(());
        }
        if proposal.proposal().deadline() <= self.clock.now() {
            // Nodes send all that they remember when they attach.
            tracing::debug!(%node, ceremony = %id, "a proposal of the past");
            return Ok(());
        }
        if let Err(problem) = self.is_wanted(state, node, proposal) {
            tracing::warn!(%node, ceremony = %id, problem, "a proposal is not taken");
            return Ok(());
        }
        let mut ceremony = Ceremony {
            number: state.next,
            signed_proposal: bytes.clone(),
            proposer: proposal.proposer().clone(),
            observer: CeremonyObserver::new(proposal.proposal().clone()),
            messages: Vec::new(),
            ended: None,
        };
        ceremony.observer.tick(self.clock.now());
        self.commit(&id, &mut ceremony, Vec::new(), Some(bytes)).await?;
        tracing::info!(ceremony = %id, proposer = %ceremony.proposer, "a ceremony is proposed");
        state.next = state.next.saturating_add(1);
        state.ceremonies.insert(id, ceremony);
        state.forget(self.clock.now());
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    fn is_wanted(&self, state: &State, node: &NodeId, signed: &SignedProposal) -> Result<(), String> {
        let proposal = signed.proposal();
        let now = self.clock.now();
        if signed.proposer() != node || proposal.index_of(node).is_none() {
            return Err("who sent it is not its proposer, or not a member".into());
        }
        if let Some(key) = proposal.keys().iter().find(|key| self.keyring.has(&key.name)) {
            return Err(format!("there is a key {} already; give the new one another name", key.name));
        }
        if proposal.deadline() > now.saturating_add(rutli_keys::limits::MAX_CEREMONY_SECONDS) {
            return Err("its deadline is too far away; see that the clocks are right".into());
        }
        let open = state.held(node, |ceremony| ceremony.is_open(now));
        if let Err((whose, used, most)) = share::check(limits::MAX_OPEN_CEREMONIES, open, 1) {
            let whose = whose_ceremonies(whose, node);
            return Err(format!("{used} of {most} ceremonies {whose} are open; end those that nobody needs"));
        }
        if let Err((whose, used, most)) = share::check(limits::MAX_CEREMONIES, state.held(node, |_| true), 1)
        {
            let whose = whose_ceremonies(whose, node);
            return Err(format!(
                "{used} of {most} ceremonies {whose} are remembered until their deadlines; wait for one of these"
            ));
        }
        if let Some(active) = self.keyring.first() {
            let named =
                |organisation| proposal.organisations().iter().any(|other| other.name == organisation);
            if let Some(left_out) =
                active.roster().organisations().iter().find(|organisation| !named(organisation.name.clone()))
            {
                return Err(format!("it leaves out {}, which holds a part of the key in use", left_out.name));
            }
        }
        Ok(())
    }

    async fn file(
        &self,
        id: &CeremonyId,
        ceremony: &mut Ceremony,
        messages: Vec<(CeremonyMessage, Vec<u8>)>,
    ) -> Result<()> {
        ceremony.observer.tick(self.clock.now());
        let mut new = Vec::new();
        let mut fault = None;
        for (message, bytes) in messages {
            if ceremony.ended.is_some() {
                break;
            }
            match ceremony.observer.receive(&message) {
                Ok(Received::New) => new.push(bytes),
                Ok(Received::Known) => {}
                Err(
                    error @ (CeremonyError::TooLong(_)
                    | CeremonyError::OtherCeremony
                    | CeremonyError::NotAMember(_)
                    | CeremonyError::Signature(_)
                    | CeremonyError::Encoding(_)),
                ) => {
                    fault = Some(Error::Ceremony(error.to_string()));
                    break;
                }
                Err(error) => tracing::info!(ceremony = %id, %error, "a ceremony message comes out of order"),
            }
        }
        // What came before a bad message is good.
        if !new.is_empty() {
            self.commit(id, ceremony, new, None).await?;
        }
        fault.map_or(Ok(()), Err)
    }

    /// Makes durable what is new, then lets links and watchers see it.
    async fn commit(
        &self,
        id: &CeremonyId,
        ceremony: &mut Ceremony,
        messages: Vec<Vec<u8>>,
        proposal: Option<Vec<u8>>,
    ) -> Result<()> {
        let now = self.clock.now();
        let ended = ceremony.end(now);
        let rosters: Vec<SignedRoster> = ceremony.observer.rosters().map(<[_]>::to_vec).unwrap_or_default();
        let change = CeremonyChange {
            ceremony_id: id.to_string(),
            begun: proposal.map(|bytes| (bytes, now)),
            messages: messages.clone(),
            ended: ended.as_ref().map(|ended| CeremonyEnd {
                state: ended.state,
                at: ended.at,
                reason: ended.reason.clone(),
                keys: rosters.iter().map(|roster| new_key(roster, ended.at)).collect(),
            }),
        };
        // Crash boundary: before this nobody has seen the messages, and their sender sends them again; after it every
        // node gets them with the transcript.
        if let Err(error) = self.store.ceremony(change).await {
            ceremony.rebuild();
            return Err(error);
        }
        ceremony.messages.extend(messages);
        if let Some(ended) = ended {
            match ended.state {
                v1::CeremonyState::Done => tracing::info!(ceremony = %id, "a ceremony is done"),
                _ => tracing::warn!(ceremony = %id, reason = ended.reason, "a ceremony ended without keys"),
            }
            ceremony.ended = Some(ended);
            for roster in rosters {
                self.keyring.add(roster.clone());
                self.sessions.add_key(roster).await;
            }
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }
}

/// Where one node's link stands in the transcripts of its ceremonies.
pub struct Transcript {
    ceremonies: Arc<Ceremonies>,
    node: NodeId,
    read: HashMap<CeremonyId, usize>,
    changes: watch::Receiver<u64>,
}

impl Transcript {
    /// The next part that the node has not got on this link; waits for one. Nothing is lost if the wait is given up.
    pub async fn next(&mut self) -> CeremonyEnvelope {
        loop {
            self.changes.borrow_and_update();
            {
                let state = self.ceremonies.state.lock().await;
                if let Some(envelope) = state.unread(&self.node, self.ceremonies.clock.now(), &mut self.read)
                {
                    return envelope;
                }
            }
            if self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl State {
    fn unread(
        &self,
        node: &NodeId,
        now: u64,
        read: &mut HashMap<CeremonyId, usize>,
    ) -> Option<CeremonyEnvelope> {
        let mut theirs: Vec<_> = self
            .ceremonies
            .iter()
            .filter(|(_, ceremony)| ceremony.has_member(node) && ceremony.is_replayed(now))
            .collect();
        theirs.sort_unstable_by_key(|(_, ceremony)| ceremony.number);
        theirs.into_iter().find_map(|(id, ceremony)| {
            let begun = read.get(id).copied();
            let unread = ceremony.messages.get(begun.unwrap_or(0)..).unwrap_or_default();
            if begun.is_some() && unread.is_empty() {
                return None;
            }
            let mut bytes = 0_usize;
            let messages: Vec<Vec<u8>> = unread
                .iter()
                .take(wire_limits::MAX_CEREMONY_MESSAGES)
                .take_while(|message| {
                    bytes = bytes.saturating_add(message.len());
                    bytes <= limits::MAX_ENVELOPE_BYTES
                })
                .cloned()
                .collect();
            read.insert(*id, begun.unwrap_or(0).saturating_add(messages.len()));
            Some(CeremonyEnvelope {
                proposal: begun.is_none().then(|| ceremony.signed_proposal.clone()),
                messages,
            })
        })
    }

    /// How many of those that `count` there are: of this proposer, of its organisation, and in all.
    fn held(&self, proposer: &NodeId, count: impl Fn(&Ceremony) -> bool) -> Held {
        let of = |whose: &dyn Fn(&NodeId) -> bool| {
            let counted =
                self.ceremonies.values().filter(|ceremony| count(ceremony) && whose(&ceremony.proposer));
            u64::try_from(counted.count()).unwrap_or(u64::MAX)
        };
        Held {
            name: of(&|other| other == proposer),
            authority: Some(of(&|other| other.organisation == proposer.organisation)),
            all: of(&|_| true),
        }
    }

    /// Keeps the newest finished ones at hand, and those whose time is not over.
    fn forget(&mut self, now: u64) {
        let mut finished: Vec<_> = self
            .ceremonies
            .iter()
            .filter(|(_, ceremony)| ceremony.ended.is_some() && ceremony.observer.proposal().deadline() < now)
            .map(|(id, ceremony)| (ceremony.number, *id))
            .collect();
        finished.sort_unstable();
        let surplus = finished.len().saturating_sub(limits::KEPT_CEREMONIES);
        for (_, id) in finished.into_iter().take(surplus) {
            self.ceremonies.remove(&id);
        }
    }
}

impl Ceremony {
    fn restore(stored: StoredCeremony, number: u64) -> Result<(CeremonyId, Self), CeremonyError> {
        let signed = SignedProposal::parse(&stored.proposal)?;
        let id = signed.proposal().id();
        let mut ceremony = Self {
            number,
            signed_proposal: stored.proposal,
            proposer: signed.proposer().clone(),
            observer: CeremonyObserver::new(signed.proposal().clone()),
            messages: stored.messages,
            ended: stored.finished_at.map(|at| Ended { state: stored.state, at, reason: stored.reason }),
        };
        ceremony.rebuild();
        Ok((id, ceremony))
    }

    /// Brings the observer back to what is durable.
    fn rebuild(&mut self) {
        let mut observer = CeremonyObserver::new(self.observer.proposal().clone());
        for message in &self.messages {
            // They were taken once; one that is not taken now would stall the ceremony, and its deadline end it.
            let taken = CeremonyMessage::parse(message).and_then(|message| observer.receive(&message));
            if let Err(error) = taken {
                tracing::error!(%error, "a stored ceremony message is not taken any more");
            }
        }
        self.observer = observer;
    }

    fn has_member(&self, node: &NodeId) -> bool {
        self.observer.proposal().index_of(node).is_some()
    }

    fn is_open(&self, now: u64) -> bool {
        self.ended.is_none() && now <= self.observer.proposal().deadline()
    }

    fn is_replayed(&self, now: u64) -> bool {
        self.ended.as_ref().is_none_or(|ended| now < ended.at.saturating_add(limits::REPLAY_SECONDS))
    }

    fn is_to_end(&self, now: u64) -> bool {
        self.end(now).is_some()
    }

    /// How it ends now, if it does and has not.
    fn end(&self, now: u64) -> Option<Ended> {
        if self.ended.is_some() {
            return None;
        }
        if self.observer.rosters().is_some() {
            return Some(Ended { state: v1::CeremonyState::Done, at: now, reason: String::new() });
        }
        let deadline = self.observer.proposal().deadline();
        let aborted = |reason: String| Some(Ended { state: v1::CeremonyState::Aborted, at: now, reason });
        match self.observer.ended() {
            // Nodes may have certified just in time, and their messages be under way still.
            Some(reason)
                if now > deadline.saturating_add(limits::CEREMONY_GRACE_SECONDS) || now <= deadline =>
            {
                aborted(reason.to_string())
            }
            Some(_) => None,
            // Somebody has certified, and somebody never came: no node can end it any more, but time can.
            None if now > deadline.saturating_add(limits::REPLAY_SECONDS) => {
                aborted("not all nodes certified the keys; propose it again".into())
            }
            None => None,
        }
    }

    fn message(&self, id: &CeremonyId, connected: &BTreeMap<NodeId, bool>) -> v1::Ceremony {
        let proposal = self.observer.proposal();
        let status = self.observer.status();
        let culprits = self.observer.ended().map(|reason| reason.culprits()).unwrap_or_default();
        let state = match (&self.ended, &status.state) {
            (Some(ended), _) => ended.state,
            (None, CeremonyState::Proposed) => v1::CeremonyState::Proposed,
            (None, _) => v1::CeremonyState::Running,
        };
        let waiting_for = status.waiting_for.iter().filter(|_| self.ended.is_none());
        let keys = self.observer.rosters().unwrap_or_default();
        v1::Ceremony {
            ceremony_id: id.to_string(),
            words: self.observer.phrase().map(|phrase| phrase.words()).unwrap_or_default(),
            state: state.into(),
            proposal: proposal.encode().to_vec(),
            proposer: self.proposer.to_string(),
            nodes: status
                .nodes
                .iter()
                .map(|progress| v1::CeremonyNode {
                    node: progress.node.to_string(),
                    step: progress.step.map_or("none", |step| step.as_str()).to_owned(),
                    connected: connected.get(&progress.node).copied().unwrap_or(false),
                })
                .collect(),
            deadline: proposal.deadline(),
            reason: self.ended.as_ref().map(|ended| ended.reason.clone()).unwrap_or_default(),
            culprits: culprits.iter().map(ToString::to_string).collect(),
            waiting_for: waiting_for.map(|(node, step)| format!("{node}: {step}")).collect(),
            keys: keys.iter().map(key_to_wire).collect(),
        }
    }
}

fn whose_ceremonies(whose: Whose, proposer: &NodeId) -> String {
    match whose {
        Whose::Name => format!("proposed by {proposer}"),
        Whose::Authority => format!("proposed by {}", proposer.organisation),
        Whose::All => "of all nodes".to_owned(),
    }
}

fn new_key(key: &SignedRoster, at: u64) -> NewKey {
    let roster = key.roster();
    NewKey {
        entry: key_entry(key, at),
        roster_hash: roster.hash().to_string(),
        name: roster.key().to_string(),
        signed_roster: key.encode(),
    }
}

#[cfg(test)]
mod tests;
