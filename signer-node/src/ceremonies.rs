//! The key ceremonies of this node, over restarts.
//!
//! Each ceremony is a machine of `rutli-keys`; here is what surrounds it: which proposals this node takes part in, its
//! custodian's word, the sealed seed, the durable transcript, and the keys at the end.
//!
//! # What survives a crash, and why nothing is lost
//!
//! - The seed is durable, sealed, before the first message that depends on it. It and the messages are all that a
//!   machine is made of, so a machine is made again from the journal.
//! - Everything that came in is durable before anything that follows from it is sent, in one transaction. So before this
//!   node's certificate leaves, the journal holds all that its shares are computed from: a certified key is never lost.
//! - At the end shares and rosters are durable before the seed goes.
//! - A write that fails is tried again every second; until then nothing is sent.
//! - A key that is durable but that the signer cannot take is taken from the store later.
//!
//! A sealed node has neither its identity key nor its seeds: it follows its ceremonies, says nothing in them, and goes on
//! when it is unsealed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use age::secrecy::SecretString;
use rand::{RngCore as _, rngs::OsRng};
use rutli_keys::{
    CeremonyId, IdentityKey, IdentityPublic, KeyName, NodeId, SignedRoster, SigningShare,
    ceremony::{
        CeremonyError, CeremonyMachine, CeremonyMessage, CeremonyObserver, Output, Proposal, SignedProposal,
        Step,
    },
};
use rutli_signer_secrets::{Locked, on_wiped_stack};
use rutli_wire::{convert::key_to_wire, link::CeremonyEnvelope, v1};
use tokio::{
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use self::{
    open::{Ended, Finish, Open, Part, envelope},
    store::{End, StoredCeremony},
};
use crate::{
    clock::Reading,
    error::Error,
    identity::{IdentityFile, Unsealed},
    journal::Journal,
    key_store::{KeyStore, Label, Opener},
    limits,
    node::{Event as NodeEvent, NodeHandle, OpenKey, Stream},
    sign::StreamId,
};

mod open;
mod propose;
mod store;
mod view;

/// What a custodian wants of a ceremony.
#[derive(Debug)]
pub enum Wish {
    /// Propose one, given as a person writes it, and join it.
    Propose(Vec<u8>),
    /// Join; with the verification phrase that the custodians read to each other.
    Join(CeremonyId, String),
    /// Do not join, and end it for everybody.
    Reject(CeremonyId, String),
    /// End it for everybody, after having joined.
    Abort(CeremonyId, String),
    /// How does it do?
    Get(CeremonyId),
}

/// What waits for the ceremonies' task.
#[derive(Debug)]
enum Event {
    Opened(Stream),
    Closed(StreamId),
    Received(CeremonyEnvelope),
    Wish(Wish, oneshot::Sender<Result<v1::Ceremony, Error>>),
    List(oneshot::Sender<Vec<v1::Ceremony>>),
    Unseal(SecretString, oneshot::Sender<Result<(), Error>>),
    Keys(oneshot::Sender<Result<Vec<v1::Key>, Error>>),
}

/// The way to the ceremonies' task.
#[derive(Clone, Debug)]
pub struct CeremoniesHandle(mpsc::Sender<Event>);

impl CeremoniesHandle {
    /// A stream to a coordinator is up.
    pub async fn opened(&self, stream: Stream) {
        _ = self.0.send(Event::Opened(stream)).await;
    }

    /// It is gone.
    pub async fn closed(&self, stream: StreamId) {
        _ = self.0.send(Event::Closed(stream)).await;
    }

    /// Something came on a stream.
    pub async fn received(&self, envelope: CeremonyEnvelope) {
        _ = self.0.send(Event::Received(envelope)).await;
    }

    /// Does what a custodian wants, and shows the ceremony.
    pub async fn wish(&self, wish: Wish) -> Result<v1::Ceremony, Error> {
        self.ask(|answer| Event::Wish(wish, answer)).await?
    }

    /// All ceremonies, oldest first.
    pub async fn list(&self) -> Result<Vec<v1::Ceremony>, Error> {
        self.ask(Event::List).await
    }

    /// Opens the age identity with its passphrase, and with it shares and seeds.
    pub async fn unseal(&self, passphrase: SecretString) -> Result<(), Error> {
        self.ask(|answer| Event::Unseal(passphrase, answer)).await?
    }

    /// The keys of this node.
    pub async fn keys(&self) -> Result<Vec<v1::Key>, Error> {
        self.ask(Event::Keys).await?
    }

    /// Returns when the ceremonies' task has ended.
    pub async fn gone(&self) {
        self.0.closed().await;
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.0.send(event(answer)).await.map_err(|_| Error::Stopping)?;
        answered.await.map_err(|_| Error::Stopping)
    }
}

/// What the ceremonies of a node need.
#[derive(Debug)]
pub struct Ceremonies {
    me: NodeId,
    identity_file: IdentityFile,
    peers: BTreeMap<NodeId, IdentityPublic>,
    journal: Journal,
    keys: Arc<KeyStore>,
    node: NodeHandle,
    /// `None` while the node is sealed.
    identity: Option<Arc<IdentityKey>>,
    open: BTreeMap<CeremonyId, Open>,
    ended: BTreeMap<CeremonyId, Ended>,
    streams: BTreeMap<StreamId, Stream>,
    /// Keys of ended ceremonies that are on disk, but that the signer could not take.
    waiting: BTreeSet<KeyName>,
}

impl Ceremonies {
    /// Takes up what the journal knows. `unsealed` is there if the seal is plain; identity, shares and rosters are installed here
    /// too.
    pub async fn start(
        me: NodeId,
        identity_file: IdentityFile,
        peers: BTreeMap<NodeId, IdentityPublic>,
        journal: Journal,
        keys: Arc<KeyStore>,
        node: NodeHandle,
        unsealed: Option<Unsealed>,
    ) -> Result<Self, Error> {
        let stored = store::load(&journal).await?;
        let mut ceremonies = Self {
            me,
            identity_file,
            peers,
            journal,
            keys,
            node,
            identity: None,
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            streams: BTreeMap::new(),
            waiting: BTreeSet::new(),
        };
        stored.into_iter().for_each(|stored| ceremonies.restore(stored));
        if let Some(unsealed) = unsealed {
            ceremonies.unseal(unsealed).await?;
        }
        Ok(ceremonies)
    }

    /// Runs until the last handle is dropped.
    pub fn spawn(mut self) -> CeremoniesHandle {
        let (events, mut inbox) = mpsc::channel(limits::CEREMONY_QUEUE);
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(limits::TICK_MS));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    _ = ticks.tick() => self.tick().await,
                    event = inbox.recv() => match event {
                        Some(event) => self.handle(event).await,
                        None => return,
                    },
                }
            }
        });
        CeremoniesHandle(events)
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Opened(stream) => self.opened(stream),
            Event::Closed(stream) => _ = self.streams.remove(&stream),
            Event::Received(envelope) => self.received(envelope).await,
            Event::Wish(wish, answer) => _ = answer.send(self.wish(wish).await),
            Event::List(answer) => _ = answer.send(self.list()),
            Event::Unseal(passphrase, answer) => _ = answer.send(self.unlock(passphrase).await),
            Event::Keys(answer) => {
                _ = answer.send(self.keys.rosters().map(|rosters| rosters.iter().map(key_to_wire).collect()));
            }
        }
    }

    /// A coordinator that is new here, or was away, gets all that this node has to say.
    fn opened(&mut self, stream: Stream) {
        for open in self.open.values() {
            let released = open.own.get(..open.released).unwrap_or_default();
            stream.send(open.envelope(released));
        }
        for ended in self.ended.values().filter(|ended| !ended.own.is_empty()) {
            stream.send(envelope(&ended.signed, &ended.own));
        }
        self.streams.insert(stream.id, stream);
    }

    /// What a coordinator relays. Everything in it is checked; invalid messages are skipped.
    async fn received(&mut self, envelope: CeremonyEnvelope) {
        if let Some(proposal) = envelope.proposal
            && let Err(error) = self.consider(&proposal).await
        {
            tracing::warn!(%error, "left out a proposal");
        }
        let mut touched = BTreeSet::new();
        for bytes in envelope.messages {
            let message = match CeremonyMessage::parse(&bytes) {
                Ok(message) => message,
                Err(error) => {
                    tracing::warn!(%error, "left out a ceremony message");
                    continue;
                }
            };
            let Some(open) = self.open.get_mut(&message.ceremony) else { continue };
            match open.part.receive(&message) {
                Ok(outputs) => open.absorb(outputs),
                Err(error) => {
                    tracing::warn!(from = %message.from, step = %message.step, %error, "left out a message")
                }
            }
            touched.insert(message.ceremony);
        }
        for id in touched {
            self.settle_or_log(id).await;
        }
    }

    /// Takes a proposal up if it is for this node, and new.
    async fn consider(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let signed = SignedProposal::parse(bytes).map_err(|error| Error::Proposal(error.to_string()))?;
        let id = signed.proposal().id();
        if self.open.contains_key(&id) || self.ended.contains_key(&id) {
            return Ok(());
        }
        self.accept(signed).await?;
        tracing::info!(ceremony = %id, "a ceremony is proposed; its custodian joins or rejects it");
        Ok(())
    }

    async fn accept(&mut self, signed: SignedProposal) -> Result<(), Error> {
        let now = Reading::now().unix_s();
        propose::check(&signed, &self.me, &self.identity_file.public(), &self.peers, now)?;
        if let Some(key) = signed.proposal().keys().iter().find(|key| self.keys.holds(&key.name)) {
            return Err(Error::KeyExists(key.name.clone()));
        }
        if self.open.len() >= limits::MAX_OPEN_CEREMONIES {
            return Err(Error::TooManyCeremonies(self.open.len()));
        }
        store::accept(&self.journal, &signed, now).await?;
        let id = signed.proposal().id();
        self.open.insert(id, Open::new(signed));
        // What fails here is tried again every second.
        if let Err(error) = self.begin(id).await {
            tracing::error!(ceremony = %id, %error, "the ceremony cannot begin yet");
        }
        Ok(())
    }

    /// Draws the seed of a ceremony that has none, and with it this node's part of the verification phrase.
    /// This needs no custodian, but an unsealed node.
    async fn begin(&mut self, id: CeremonyId) -> Result<(), Error> {
        let (Some(open), Some(identity)) = (self.open.get_mut(&id), &self.identity) else { return Ok(()) };
        if open.seed.is_some() || !matches!(open.part, Part::Looking(_)) {
            return Ok(());
        }
        // A crash before the second line leaves a ceremony without a seed, one after it a ceremony that is
        // resumed.
        let mut seed = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(seed.as_mut());
        let sealed = self.keys.seal(Label::Seed, id.as_bytes(), &seed)?;
        store::keep_seed(&self.journal, id, &sealed).await?;
        open.seed = Some(sealed);
        open.take_part(&self.me, identity, &seed).map_err(refused)?;
        self.settle(id).await
    }

    async fn wish(&mut self, wish: Wish) -> Result<v1::Ceremony, Error> {
        let id = match wish {
            Wish::Propose(text) => self.propose(&text).await?,
            Wish::Join(id, words) => {
                self.check_phrase(id, &words)?;
                self.join(id).await?;
                id
            }
            Wish::Reject(id, reason) => self.leave(id, Leave::Reject(reason)).await?,
            Wish::Abort(id, reason) => self.leave(id, Leave::Abort(reason)).await?,
            Wish::Get(id) => id,
        };
        self.view(id).ok_or_else(|| Error::UnknownCeremony(id.to_string()))
    }

    async fn propose(&mut self, text: &[u8]) -> Result<CeremonyId, Error> {
        let identity = self.identity()?;
        let mut proposed_at = Reading::now().unix_s();
        let mut proposal = propose::read(text, proposed_at)?;
        // The same proposal once more in the same second would be the same ceremony.
        while self.open.contains_key(&proposal.id()) || self.ended.contains_key(&proposal.id()) {
            proposed_at = proposed_at.saturating_add(1);
            proposal = propose::read(text, proposed_at)?;
        }
        let id = proposal.id();
        let signed = on_wiped_stack(|| SignedProposal::sign(proposal, self.me.clone(), &identity))
            .map_err(|error| Error::Proposal(error.to_string()))?;
        // Before anything is durable: what is refused leaves nothing.
        self.check_names(signed.proposal())?;
        self.accept(signed).await?;
        tracing::info!(ceremony = %id, "proposed; this node joins once the verification phrase is known");
        Ok(id)
    }

    fn check_phrase(&self, id: CeremonyId, typed: &str) -> Result<(), Error> {
        self.check_open(id)?;
        let open = self.open.get(&id).ok_or_else(|| Error::UnknownCeremony(id.to_string()))?;
        match open.part.phrase() {
            Some(phrase) if phrase.is(typed) => Ok(()),
            Some(_) => Err(Error::WrongWords(id)),
            None if self.identity.is_none() => Err(Error::Sealed),
            None => Err(Error::NoPhrase(open.missing())),
        }
    }

    fn identity(&self) -> Result<Arc<IdentityKey>, Error> {
        self.identity.clone().ok_or(Error::Sealed)
    }

    async fn join(&mut self, id: CeremonyId) -> Result<(), Error> {
        self.identity()?;
        self.check_open(id)?;
        let unknown = || Error::UnknownCeremony(id.to_string());
        self.check_names(self.open.get(&id).ok_or_else(unknown)?.signed.proposal())?;
        self.begin(id).await?;
        let open = self.open.get_mut(&id).ok_or_else(unknown)?;
        if let Part::Looking(_) = &open.part {
            return Err(Error::Ceremony("its seed does not open; reject it and propose a new one".into()));
        }
        if let Part::Acting(machine) = &mut open.part {
            let outputs = on_wiped_stack(|| machine.tick(Reading::now().unix_s())).map_err(refused)?;
            open.absorb(outputs);
        }
        if let Part::Acting(machine) = &mut open.part {
            let outputs = on_wiped_stack(|| machine.join()).map_err(refused)?;
            open.absorb(outputs);
        }
        self.settle(id).await
    }

    fn check_open(&self, id: CeremonyId) -> Result<(), Error> {
        match self.ended.get(&id) {
            Some(ended) if ended.end.done => Err(Error::Ceremony("it is done already".into())),
            Some(ended) => {
                Err(Error::Ceremony(format!("it has ended: {}; propose a new one", ended.end.reason)))
            }
            None if self.open.contains_key(&id) => Ok(()),
            None => Err(Error::UnknownCeremony(id.to_string())),
        }
    }

    /// Two ceremonies that make a key of the same name would both be certified, and one of them be lost.
    fn check_names(&self, proposal: &Proposal) -> Result<(), Error> {
        let joined = self.open.values().filter(|other| other.id() != proposal.id() && other.has_joined());
        let taken: BTreeSet<_> =
            joined.flat_map(|other| other.signed.proposal().keys()).map(|key| &key.name).collect();
        for key in proposal.keys() {
            if self.keys.holds(&key.name) {
                return Err(Error::KeyExists(key.name.clone()));
            }
            if taken.contains(&key.name) {
                return Err(Error::NameInUse(key.name.clone()));
            }
        }
        Ok(())
    }

    /// A custodian's no, before or after joining.
    async fn leave(&mut self, id: CeremonyId, how: Leave) -> Result<CeremonyId, Error> {
        self.check_open(id)?;
        let open = self.open.get_mut(&id).ok_or_else(|| Error::UnknownCeremony(id.to_string()))?;
        let outputs = match &mut open.part {
            Part::Acting(machine) => on_wiped_stack(|| how.run(machine)),
            Part::Looking(observer) => {
                how.check(&self.me, observer).map_err(refused)?;
                let identity = self.identity.as_ref().ok_or(Error::Sealed)?;
                // A seed that is lost or does not open keeps nobody in a ceremony: leaving needs the identity key alone.
                // This machine's seed is never used, and it sees no message: the node's own Join would contradict that seed.
                let seed = Zeroizing::new([0; 32]);
                on_wiped_stack(|| {
                    let (mut machine, _) =
                        resume(&open.signed, &self.me, identity, &seed, std::iter::empty())?;
                    how.run(&mut machine)
                })
            }
        };
        open.absorb(outputs.map_err(refused)?);
        self.settle(id).await?;
        Ok(id)
    }

    async fn settle_or_log(&mut self, id: CeremonyId) {
        if let Err(error) = self.settle(id).await {
            tracing::error!(ceremony = %id, %error, "the ceremony waits until this is mended");
        }
    }

    /// First durable, then sent; at the end first the keys, then the end.
    async fn settle(&mut self, id: CeremonyId) -> Result<(), Error> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        open.look_for_end();
        let unsaved = open.unsaved();
        store::keep_messages(&self.journal, id, &unsaved).await?;
        open.saved.extend(unsaved.into_iter().map(|message| (message.from, message.step)));
        let fresh = open.own.get(open.released..).unwrap_or_default();
        if !fresh.is_empty() {
            let message = open.envelope(fresh);
            self.streams.values().for_each(|stream| stream.send(message.clone()));
        }
        open.released = open.own.len();
        if open.finish.is_some() { self.finish(id).await } else { Ok(()) }
    }

    async fn finish(&mut self, id: CeremonyId) -> Result<(), Error> {
        let Some(open) = self.open.get_mut(&id) else { return Ok(()) };
        let (end, keep_seed) = match &open.finish {
            Some(Finish::Done(keys)) => {
                for (roster, share) in keys {
                    self.keys.store(roster, share)?;
                }
                (End { done: true, reason: String::new(), culprits: Vec::new() }, false)
            }
            Some(Finish::Aborted(end)) => {
                let certified = matches!(&open.part, Part::Acting(machine) if machine.has_certified());
                (end.clone(), certified)
            }
            None => return Ok(()),
        };
        // A crash before this line: the ceremony is taken up from seed and messages, and ends here again.
        store::end(&self.journal, id, &end, keep_seed, Reading::now().unix_s()).await?;
        let Some(open) = self.open.remove(&id) else { return Ok(()) };
        tracing::info!(ceremony = %id, done = end.done, reason = end.reason, "the ceremony has ended");
        let messages: Vec<_> = open.part.messages().into_iter().cloned().collect();
        let ended = Ended { steps: view::last_steps(&messages), signed: open.signed, end, own: open.own };
        self.remember(id, ended);
        let Some(Finish::Done(keys)) = open.finish else { return Ok(()) };
        for (roster, share) in &keys {
            let name = roster.roster().key().clone();
            if let Err(error) = self.install_made(roster, share).await {
                tracing::error!(
                    key = %name,
                    %error,
                    "the key is on disk, but cannot be used yet; tried again every second, or, where the seal identity \
                     has a passphrase, by `unseal`"
                );
                self.waiting.insert(name);
            }
        }
        Ok(())
    }

    async fn install_made(&self, roster: &SignedRoster, share: &SigningShare) -> Result<(), Error> {
        let share = on_wiped_stack(|| Locked::new(share.duplicate()))?;
        let key = OpenKey { roster: roster.clone(), share };
        self.node.ask(|answer| NodeEvent::Install(Box::new(key), answer)).await
    }

    /// Takes keys from the store that the signer could not take before. Nothing secret was kept for that: with a
    /// passphrase, its custodian unseals once more.
    async fn install_waiting(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let Some(opener) = self.keys.opener()? else { return Ok(()) };
        for roster in self.keys.rosters()? {
            let name = roster.roster().key().clone();
            if self.waiting.contains(&name) {
                let share = self.keys.share(&opener, roster.roster(), &self.me)?;
                let key = OpenKey { roster, share };
                self.node.ask(|answer| NodeEvent::Install(Box::new(key), answer)).await?;
                self.waiting.remove(&name);
            }
        }
        Ok(())
    }

    fn remember(&mut self, id: CeremonyId, ended: Ended) {
        self.ended.insert(id, ended);
        if self.ended.len() > limits::MAX_ENDED_CEREMONIES
            && let Some(oldest) = self
                .ended
                .iter()
                .min_by_key(|(_, ended)| ended.signed.proposal().proposed_at())
                .map(|(id, _)| *id)
        {
            self.ended.remove(&oldest);
        }
    }

    /// Once a second: deadlines, and what could not be written.
    async fn tick(&mut self) {
        if let Err(error) = self.install_waiting().await {
            tracing::error!(%error, keys = ?self.waiting, "keys on disk cannot be used yet; tried again in a second");
        }
        let now = Reading::now().unix_s();
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            if let Err(error) = self.begin(id).await {
                tracing::error!(ceremony = %id, %error, "the ceremony cannot begin yet; tried again in a second");
            }
            if let Some(open) = self.open.get_mut(&id) {
                match open.part.tick(now) {
                    Ok(outputs) => open.absorb(outputs),
                    Err(error) => tracing::error!(ceremony = %id, %error, "the ceremony cannot go on"),
                }
            }
            self.settle_or_log(id).await;
        }
    }

    async fn unlock(&mut self, passphrase: SecretString) -> Result<(), Error> {
        if self.identity.is_some() && self.waiting.is_empty() {
            return Err(Error::NotSealed);
        }
        let (keys, identity) = (Arc::clone(&self.keys), self.identity_file.clone());
        let unsealed = tokio::task::spawn_blocking(move || identity.open(keys.unlock(passphrase)?));
        let unsealed = unsealed.await.map_err(|_| Error::Stopping)??;
        self.unseal(unsealed).await
    }

    /// Opens shares and seeds; the node is unsealed if all of them open. The opener is wiped at the end.
    async fn unseal(&mut self, Unsealed { opener, identity }: Unsealed) -> Result<(), Error> {
        let mut opened = Vec::new();
        for roster in self.keys.rosters()? {
            let share = self.keys.share(&opener, roster.roster(), &self.me)?;
            opened.push(OpenKey { roster, share });
        }
        self.node.ask(|answer| NodeEvent::Unseal(Arc::clone(&identity), opened, answer)).await?;
        self.identity = Some(identity);
        self.waiting.clear();
        let ids: Vec<_> = self.open.keys().copied().collect();
        for id in ids {
            if let Err(error) = self.take_up(id, &opener) {
                tracing::error!(ceremony = %id, %error, "the ceremony cannot be taken up");
            }
            if let Err(error) = self.begin(id).await {
                tracing::error!(ceremony = %id, %error, "the ceremony cannot begin yet; tried again in a second");
            }
            self.settle_or_log(id).await;
        }
        Ok(())
    }

    /// Makes the machine of a joined ceremony from its seed and its messages.
    fn take_up(&mut self, id: CeremonyId, opener: &Opener) -> Result<(), Error> {
        let (Some(open), Some(identity)) = (self.open.get_mut(&id), &self.identity) else { return Ok(()) };
        let (Some(sealed), Part::Looking(_)) = (&open.seed, &open.part) else { return Ok(()) };
        let seed = opener
            .open(Label::Seed, id.as_bytes(), sealed)
            .map_err(|problem| Error::Ceremony(format!("its seed does not open: {problem}")))?;
        open.take_part(&self.me, identity, &seed).map_err(refused)?;
        tracing::info!(ceremony = %id, "took up the ceremony where it was");
        Ok(())
    }

    /// From the journal: looking on, until it is unsealed.
    fn restore(&mut self, stored: StoredCeremony) {
        let StoredCeremony { signed, seed, end, messages } = stored;
        let id = signed.proposal().id();
        let own: Vec<_> = messages.iter().filter(|message| message.from == self.me).cloned().collect();
        if let Some(end) = end {
            self.remember(id, Ended { steps: view::last_steps(&messages), signed, end, own });
            return;
        }
        let mut open = Open { seed, released: own.len(), own, ..Open::new(signed) };
        for message in &messages {
            open.saved.insert((message.from.clone(), message.step));
            if let Err(error) = open.part.receive(message) {
                tracing::warn!(ceremony = %id, %error, "the journal holds a message that does not hold");
            }
        }
        self.open.insert(id, open);
    }

    fn list(&self) -> Vec<v1::Ceremony> {
        let mut ids: Vec<_> = self
            .open
            .values()
            .map(|open| &open.signed)
            .chain(self.ended.values().map(|ended| &ended.signed))
            .map(|signed| (signed.proposal().proposed_at(), signed.proposal().id()))
            .collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|(_, id)| self.view(id)).collect()
    }

    fn view(&self, id: CeremonyId) -> Option<v1::Ceremony> {
        if let Some(open) = self.open.get(&id) {
            return Some(view::open(open, &self.me, !self.streams.is_empty()));
        }
        let ended = self.ended.get(&id)?;
        let rosters = if ended.end.done { self.keys.rosters().unwrap_or_default() } else { Vec::new() };
        let keys =
            rosters.iter().filter(|roster| roster.roster().ceremony() == id).map(key_to_wire).collect();
        Some(view::ended(&ended.signed, &ended.end, &ended.steps, keys))
    }
}

/// How a custodian leaves.
enum Leave {
    Reject(String),
    Abort(String),
}

impl Leave {
    fn run(&self, machine: &mut CeremonyMachine) -> Result<Vec<Output>, CeremonyError> {
        match self {
            Self::Reject(reason) => machine.reject(reason),
            Self::Abort(reason) => machine.abort(reason),
        }
    }

    /// What the machine of a joined ceremony would check, for a node that has none: not joined, or sealed.
    fn check(&self, me: &NodeId, observer: &CeremonyObserver) -> Result<(), CeremonyError> {
        let took = |step| observer.messages().any(|message| message.from == *me && message.step == step);
        if observer.ended().is_some() || observer.rosters().is_some() {
            return Err(CeremonyError::Over);
        }
        if took(Step::Certify) {
            return Err(CeremonyError::Decided("certified the keys, and others may already have them"));
        }
        if matches!(self, Self::Reject(_)) && took(Step::Join) {
            return Err(CeremonyError::Decided("joined: end the ceremony by abort instead"));
        }
        Ok(())
    }
}

fn resume<'a>(
    signed: &SignedProposal,
    me: &NodeId,
    identity: &Arc<IdentityKey>,
    seed: &Zeroizing<[u8; 32]>,
    messages: impl Iterator<Item = &'a CeremonyMessage>,
) -> Result<(CeremonyMachine, Vec<Output>), CeremonyError> {
    CeremonyMachine::resume(signed.proposal().clone(), me.clone(), Arc::clone(identity), **seed, messages)
}

fn refused(error: CeremonyError) -> Error {
    Error::Ceremony(error.to_string())
}

#[cfg(test)]
mod tests;
