//! One node's part in a ceremony, as a sans-IO state machine.
//!
//! # How a driver uses it
//!
//! - Before [`CeremonyMachine::new`], draw 32 random bytes, and store them sealed: the **seed** is all that must
//!   survive a crash. A seed is used for one ceremony.
//! - The first [`CeremonyMachine::tick`] sends what needs no custodian. [`CeremonyMachine::join`] sends the rest.
//! - Pass every message that arrives to [`CeremonyMachine::receive`], and tell the time by
//!   [`CeremonyMachine::tick`]. Do what the [`Output`]s say, in their order.
//! - After a restart make a new machine with the same seed by [`CeremonyMachine::resume`], and give it all messages
//!   that the relay still has. It sends whatever is missing again. Its messages are the same as before, bit by bit,
//!   but for the ciphertexts of `Deal`, of which the first one published counts.
//! - On [`Output::Done`] store shares and rosters durably, and only then forget the seed. On [`Output::Aborted`] forget
//!   the seed; if [`CeremonyMachine::has_certified`], only when the custodians agree that nobody has the keys.
//!
//! Messages may come in any order and any number of times.

use std::sync::Arc;

use super::error::CeremonyError;
use super::message::{AbortBody, Body, CeremonyMessage, RejectBody, Step, is_plain, is_reason};
use super::observer::{CeremonyObserver, Received};
use super::proposal::Proposal;
use super::secrets::{BadDeal, NoShare, Secrets};
use super::status::{AbortReason, CeremonyStatus};
use crate::identity::IdentityKey;
use crate::limits::{MAX_ACCUSED, MAX_REASON_BYTES};
use crate::names::{NodeId, VerificationPhrase};
use crate::roster::SignedRoster;
use crate::share::SigningShare;

/// One node in one ceremony.
pub struct CeremonyMachine {
    observer: CeremonyObserver,
    own: usize,
    me: NodeId,
    identity: Arc<IdentityKey>,
    secrets: Secrets,
    wants_to_join: bool,
    /// Steps of this node that are on the table and known to be its own.
    settled: usize,
    shares: Option<Vec<SigningShare>>,
    reported: bool,
}

/// What the driver must do.
#[derive(Debug)]
pub enum Output {
    /// Send to all others, by way of the relay.
    Send(CeremonyMessage),
    /// The keys are made: store them. Comes once.
    Done {
        /// Each key's roster and this node's share, in the order of the proposal's keys.
        keys: Vec<(SignedRoster, SigningShare)>,
    },
    /// The ceremony ended without keys. Comes once.
    Aborted {
        /// Why.
        reason: AbortReason,
        /// Whom to blame, or to ask.
        culprits: Vec<NodeId>,
    },
}

impl CeremonyMachine {
    /// Begins. `seed` is 32 fresh random bytes for this ceremony alone, or, after a restart, the same as before.
    ///
    /// The caller has checked that the members are who they should be.
    pub fn new(
        proposal: Proposal,
        me: NodeId,
        identity: Arc<IdentityKey>,
        seed: [u8; 32],
    ) -> Result<Self, CeremonyError> {
        let own = proposal.index_of(&me).ok_or_else(|| CeremonyError::NotAMember(me.clone()))?;
        let member =
            proposal.members().get(own).cloned().ok_or_else(|| CeremonyError::NotAMember(me.clone()))?;
        if member.identity != identity.public() {
            return Err(CeremonyError::OtherIdentity(me));
        }
        Ok(Self {
            observer: CeremonyObserver::new(proposal),
            own,
            me,
            identity,
            secrets: Secrets::new(seed, own, member),
            wants_to_join: false,
            settled: 0,
            shares: None,
            reported: false,
        })
    }

    /// Begins where a crash ended: takes all messages at once, and then sends what is missing of its own. Messages that
    /// do not verify are left out.
    pub fn resume<'a>(
        proposal: Proposal,
        me: NodeId,
        identity: Arc<IdentityKey>,
        seed: [u8; 32],
        messages: impl IntoIterator<Item = &'a CeremonyMessage>,
    ) -> Result<(Self, Vec<Output>), CeremonyError> {
        let mut machine = Self::new(proposal, me, identity, seed)?;
        for message in messages {
            // A relay that adds rubbish does not keep a node from resuming.
            let _refused = machine.observer.receive(message);
        }
        let outputs = machine.advance()?;
        Ok((machine, outputs))
    }

    /// The custodian agrees. What it says goes out once the verification phrase is known.
    pub fn join(&mut self) -> Result<Vec<Output>, CeremonyError> {
        if self.observer.status().state.as_str() == "aborted" || self.observer.has_ended_itself(self.own) {
            return Err(CeremonyError::Over);
        }
        if self.has_joined() {
            return Err(CeremonyError::Decided("joined"));
        }
        if self.observer.now() > self.observer.proposal().deadline() {
            return Err(CeremonyError::DeadlinePassed);
        }
        self.wants_to_join = true;
        self.advance()
    }

    /// The custodian does not agree. Ends the ceremony for everybody.
    pub fn reject(&mut self, reason: &str) -> Result<Vec<Output>, CeremonyError> {
        if self.has_joined() {
            return Err(CeremonyError::Decided("joined: end the ceremony by abort instead"));
        }
        check_reason(reason)?;
        self.leave(&Body::Reject(RejectBody { reason: reason.to_owned() }))
    }

    /// The custodian ends the ceremony for everybody. Possible until this node has certified the keys.
    pub fn abort(&mut self, reason: &str) -> Result<Vec<Output>, CeremonyError> {
        check_reason(reason)?;
        self.leave(&Body::Abort(AbortBody { accused: Vec::new(), reason: reason.to_owned() }))
    }

    /// Takes one message. An error says why it was refused, and changes nothing.
    pub fn receive(&mut self, message: &CeremonyMessage) -> Result<Vec<Output>, CeremonyError> {
        match self.observer.receive(message)? {
            Received::New => self.advance(),
            Received::Known => Ok(Vec::new()),
        }
    }

    /// Tells the time, Unix seconds. A node that has not certified by the deadline aborts; one that has goes on waiting,
    /// because others may already hold its certificate.
    pub fn tick(&mut self, now: u64) -> Result<Vec<Output>, CeremonyError> {
        self.observer.tick(now);
        let overdue = self.observer.now() > self.observer.proposal().deadline();
        if overdue && !self.has_certified() && !self.is_over() {
            let missing = self.observer.missing();
            self.observer.end(AbortReason::DeadlinePassed { missing });
        }
        self.advance()
    }

    /// Where the ceremony stands, as this node sees it.
    pub fn status(&self) -> CeremonyStatus {
        self.observer.status()
    }

    /// See [`CeremonyObserver::phrase`].
    pub fn phrase(&self) -> Option<VerificationPhrase> {
        self.observer.phrase()
    }

    /// The proposal.
    pub fn proposal(&self) -> &Proposal {
        self.observer.proposal()
    }

    /// All messages on the table, this node's own too.
    pub fn messages(&self) -> impl Iterator<Item = &CeremonyMessage> {
        self.observer.messages()
    }

    /// Whether this node has joined, or will as soon as the verification phrase is known.
    pub fn has_joined(&self) -> bool {
        self.wants_to_join || self.observer.body(Step::Join, self.own).is_some()
    }

    /// Whether this node has signed the rosters. From then on others may have the keys.
    pub fn has_certified(&self) -> bool {
        self.observer.body(Step::Certify, self.own).is_some()
    }

    /// Whether the ceremony has ended, with keys or without.
    pub fn is_over(&self) -> bool {
        self.observer.rosters().is_some() || self.observer.final_end().is_some()
    }

    fn leave(&mut self, body: &Body) -> Result<Vec<Output>, CeremonyError> {
        if self.is_over() {
            return Err(CeremonyError::Over);
        }
        if self.has_certified() {
            return Err(CeremonyError::Decided("certified the keys, and others may already have them"));
        }
        let message = self.publish(body)?;
        let mut outputs = vec![Output::Send(message)];
        outputs.extend(self.advance()?);
        Ok(outputs)
    }

    /// Takes all steps that can be taken now, and reports the end.
    fn advance(&mut self) -> Result<Vec<Output>, CeremonyError> {
        let mut outputs = Vec::new();
        // Also when everything is there already, as after a restart: the shares must be found, and the messages that are
        // said to be this node's must be its own.
        while self.observer.final_end().is_none() {
            match self.next_message() {
                Ok(Some(message)) => outputs.push(Output::Send(message)),
                Ok(None) => break,
                Err(NoShare::Dealt(bad)) => outputs.extend(self.accuse(bad)?),
                Err(NoShare::Internal(error)) => outputs.extend(self.give_up(&error)?),
            }
        }
        outputs.extend(self.report()?);
        Ok(outputs)
    }

    /// Settles this node's next step: makes its message, or recognises the one on the table as its own.
    fn next_message(&mut self) -> Result<Option<CeremonyMessage>, NoShare> {
        let Some(&step) = Step::ALL.get(self.settled) else {
            return Ok(None);
        };
        let before_is_complete = self.settled.checked_sub(1).and_then(|before| Step::ALL.get(before));
        if before_is_complete.is_some_and(|before| !self.observer.is_complete(*before)) {
            return Ok(None);
        }
        let present = self.observer.body(step, self.own).is_some();
        if step == Step::Join && !present && !self.wants_to_join {
            return Ok(None);
        }
        if step == Step::Prove {
            self.find_shares()?;
        }
        if present && step == Step::Deal {
            self.settled += 1;
            return self.next_message();
        }
        let body = self.make(step).map_err(NoShare::Internal)?;
        if !present {
            self.settled += 1;
            return self.publish(&body).map(Some).map_err(NoShare::Internal);
        }
        if self.observer.body(step, self.own) != Some(&body) {
            self.observer.end(AbortReason::OwnIdentityUsed { step });
            return Ok(None);
        }
        self.settled += 1;
        self.next_message()
    }

    fn make(&self, step: Step) -> Result<Body, CeremonyError> {
        let proposal = self.observer.proposal();
        let keys = || self.observer.keys().ok_or_else(|| internal("the reveals are not verified"));
        match step {
            Step::NonceCommit => Ok(self.secrets.nonce_commit(proposal)),
            Step::NonceReveal => Ok(self.secrets.nonce_reveal(proposal)),
            Step::Join => self.secrets.join(proposal),
            Step::Commit => self.secrets.commit(proposal),
            Step::Reveal => self.secrets.reveal(proposal),
            Step::Deal => self.secrets.deal(proposal, keys()?, &self.recipients()?),
            Step::Prove => {
                let shares = self.shares.as_deref().ok_or_else(|| internal("the shares are not there"))?;
                self.secrets.prove(proposal, keys()?, shares)
            }
            Step::Certify => Ok(super::secrets::certify(keys()?, &self.identity)),
            Step::Reject | Step::Abort => Err(internal("not a step that everybody takes")),
        }
    }

    fn recipients(&self) -> Result<Vec<age::x25519::Recipient>, CeremonyError> {
        let recipient = |member| match self.observer.body(Step::Join, member) {
            Some(Body::Join(body)) => body.recipient.parse().map_err(internal),
            _ => Err(internal("a member has not joined")),
        };
        (0..self.observer.proposal().members().len()).map(recipient).collect()
    }

    fn find_shares(&mut self) -> Result<(), NoShare> {
        if self.shares.is_some() {
            return Ok(());
        }
        let proposal = self.observer.proposal();
        let keys = self
            .observer
            .keys()
            .ok_or_else(|| NoShare::Internal(internal("the reveals are not verified")))?;
        let deals = self.observer.deals();
        let share = |(key, material)| self.secrets.share(proposal, key, material, &deals);
        self.shares = Some(keys.iter().enumerate().map(share).collect::<Result<_, _>>()?);
        Ok(())
    }

    /// Signs, and puts the message on the own table as if it had come from outside.
    fn publish(&mut self, body: &Body) -> Result<CeremonyMessage, CeremonyError> {
        let ceremony = self.observer.proposal().id();
        let message = CeremonyMessage::sign(ceremony, self.me.clone(), body, &self.identity);
        self.observer.receive(&message)?;
        Ok(message)
    }

    /// Ends the ceremony because of a share that is not right. Nobody else can see that, so it is an accusation.
    fn accuse(&mut self, bad: BadDeal) -> Result<Vec<Output>, CeremonyError> {
        if self.has_certified() {
            // Only a relay that shows another deal after a restart than before it can bring us here. The certificate
            // is out, so this node cannot end the ceremony for the others.
            self.observer.end(AbortReason::Misbehaviour { culprits: vec![bad.dealer], finding: bad.what });
            return Ok(Vec::new());
        }
        let body = Body::Abort(AbortBody { accused: vec![bad.dealer], reason: plain(&bad.what) });
        Ok(vec![Output::Send(self.publish(&body)?)])
    }

    /// Ends the ceremony because this node cannot go on, so that people see why instead of waiting for the deadline.
    fn give_up(&mut self, error: &CeremonyError) -> Result<Vec<Output>, CeremonyError> {
        let reason = plain(&error.to_string());
        if self.has_certified() {
            self.observer.end(AbortReason::Aborted { by: self.me.clone(), reason, accused: Vec::new() });
            return Ok(Vec::new());
        }
        let body = Body::Abort(AbortBody { accused: Vec::new(), reason });
        Ok(vec![Output::Send(self.publish(&body)?)])
    }

    fn report(&mut self) -> Result<Vec<Output>, CeremonyError> {
        if self.reported || !self.is_over() {
            return Ok(Vec::new());
        }
        self.reported = true;
        let shares = self.shares.take();
        if let Some(reason) = self.observer.final_end().cloned() {
            let culprits = reason.culprits();
            let farewell = self.farewell(&reason).map(Output::Send);
            return Ok(farewell.into_iter().chain([Output::Aborted { reason, culprits }]).collect());
        }
        let rosters = self.observer.rosters().unwrap_or_default();
        let shares = shares.ok_or_else(|| internal("the shares are not there"))?;
        Ok(vec![Output::Done { keys: rosters.iter().cloned().zip(shares).collect() }])
    }

    /// Tells the others what this node has found, unless they know it from somebody's message, or this node never
    /// joined or has already certified.
    fn farewell(&self, reason: &AbortReason) -> Option<CeremonyMessage> {
        let by_message = matches!(reason, AbortReason::Rejected { .. } | AbortReason::Aborted { .. });
        if by_message
            || self.has_certified()
            || !self.has_joined()
            || self.observer.has_ended_itself(self.own)
        {
            return None;
        }
        let mut accused =
            if matches!(reason, AbortReason::Misbehaviour { .. }) { reason.culprits() } else { Vec::new() };
        accused.truncate(MAX_ACCUSED);
        let body = Body::Abort(AbortBody { accused, reason: plain(&reason.to_string()) });
        let ceremony = self.observer.proposal().id();
        Some(CeremonyMessage::sign(ceremony, self.me.clone(), &body, &self.identity))
    }
}

impl std::fmt::Debug for CeremonyMachine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CeremonyMachine({}, {:?})", self.me, self.observer)
    }
}

fn check_reason(reason: &str) -> Result<(), CeremonyError> {
    if is_reason(reason) { Ok(()) } else { Err(CeremonyError::Reason) }
}

/// Cut to the length of a reason, without control characters.
fn plain(text: &str) -> String {
    let mut plain: String = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect();
    while plain.len() > MAX_REASON_BYTES {
        plain.pop();
    }
    plain
}

fn internal(error: impl ToString) -> CeremonyError {
    CeremonyError::Internal(error.to_string())
}
