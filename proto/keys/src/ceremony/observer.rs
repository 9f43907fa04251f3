//! A ceremony as anybody can follow it: all that can be verified without a secret.
//!
//! The coordinator and auditors run a [`CeremonyObserver`]; each node's
//! [`CeremonyMachine`](super::CeremonyMachine) has one inside. Messages of honest members lead to the same conclusion in
//! any order.
//!
//! # States
//!
//! Messages are filed by member and step, one each. When a step is complete its claims are verified, once. The ceremony
//! is done when the last step, `Certify`, is complete and verified; it is over when a member rejects or aborts, or when
//! something is found that must not be.
//!
//! The deadline binds the nodes: a node that has not certified by then aborts. A node that has certified cannot abort
//! any more, because the others may already hold its certificate; so after the deadline an observer shows a ceremony as
//! aborted only while nobody has certified, and still takes messages.

use super::error::CeremonyError;
use super::message::{
    AbortBody, Body, CeremonyMessage, CommitBody, DealBody, ProofsBody, RejectBody, RevealBody, Step,
};
use super::proposal::{Member, Proposal};
use super::status::{AbortReason, CeremonyState, CeremonyStatus, NodeProgress};
use super::verify::{self, Finding, KeyMaterial};
use crate::names::VerificationPhrase;
use crate::roster::SignedRoster;

/// Steps that the transcript covers: all up to [`Step::Reveal`].
const TRANSCRIPT_STEPS: usize = 5;

/// Follows one ceremony.
pub struct CeremonyObserver {
    proposal: Proposal,
    /// By step, then by member.
    steps: Vec<Vec<Option<Filed>>>,
    /// `Reject` or `Abort`, by member.
    ends: Vec<Option<Filed>>,
    /// Once all nonces are there and verified.
    phrase: Option<VerificationPhrase>,
    /// Once all reveals are there and verified.
    keys: Option<Vec<KeyMaterial>>,
    proved: bool,
    certified: Option<Vec<SignedRoster>>,
    ended: Option<AbortReason>,
    now: u64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is new: store it and pass it on.
    New,
    /// It was already there, or comes after the end. Nothing changed.
    Known,
}

struct Filed {
    message: CeremonyMessage,
    body: Body,
}

impl CeremonyObserver {
    /// Begins with a proposal. Whether its members are who they should be, the caller has decided.
    pub fn new(proposal: Proposal) -> Self {
        let members = proposal.members().len();
        let empty = || std::iter::repeat_with(|| None).take(members).collect();
        Self {
            steps: Step::ALL.iter().map(|_| empty()).collect(),
            ends: empty(),
            phrase: None,
            keys: None,
            proved: false,
            certified: None,
            ended: None,
            now: proposal.proposed_at(),
            proposal,
        }
    }

    /// Verifies and files one message. An error changes nothing.
    pub fn receive(&mut self, message: &CeremonyMessage) -> Result<Received, CeremonyError> {
        let filed = self.file(message)?;
        if filed == Received::New {
            self.advance();
        }
        Ok(filed)
    }

    /// Tells the time, Unix seconds. It never runs backwards here.
    pub fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// The proposal.
    pub fn proposal(&self) -> &Proposal {
        &self.proposal
    }

    /// What the custodians read to each other before they join, once every member has added its nonce.
    pub fn phrase(&self) -> Option<VerificationPhrase> {
        self.phrase
    }

    /// The signed rosters, in the order of the proposal's keys, once the ceremony is done.
    pub fn rosters(&self) -> Option<&[SignedRoster]> {
        self.certified.as_deref()
    }

    /// Why the ceremony ended without keys, if it did, or if it seems so because its deadline has passed.
    pub fn ended(&self) -> Option<AbortReason> {
        let overdue = self.certified.is_none() && self.is_overdue();
        let deadline_passed = || AbortReason::DeadlinePassed { missing: self.missing() };
        self.ended.clone().or_else(|| overdue.then(deadline_passed))
    }

    /// All messages filed, by step and member: the public transcript. Feeding them to a new observer or machine brings
    /// it to where this one is.
    pub fn messages(&self) -> impl Iterator<Item = &CeremonyMessage> {
        self.steps.iter().flatten().chain(&self.ends).flatten().map(|filed| &filed.message)
    }

    /// Where the ceremony stands, for people.
    pub fn status(&self) -> CeremonyStatus {
        let state = if let Some(reason) = self.ended() {
            CeremonyState::Aborted { reason }
        } else if self.certified.is_some() {
            CeremonyState::Done
        } else {
            match self.awaited() {
                Some(Step::NonceCommit | Step::NonceReveal | Step::Join) | None => CeremonyState::Proposed,
                Some(step) => CeremonyState::Running { step },
            }
        };
        let over = matches!(state, CeremonyState::Done | CeremonyState::Aborted { .. });
        CeremonyStatus {
            state,
            nodes: self
                .proposal
                .members()
                .iter()
                .enumerate()
                .map(|(index, member)| self.progress(index, member))
                .collect(),
            deadline: self.proposal.deadline(),
            waiting_for: if over { Vec::new() } else { self.missing() },
        }
    }

    /// The first step that is not complete.
    pub(crate) fn awaited(&self) -> Option<Step> {
        Step::ALL.into_iter().find(|step| !self.is_complete(*step))
    }

    pub(crate) fn is_complete(&self, step: Step) -> bool {
        self.slots(step).is_some_and(|slots| slots.iter().all(Option::is_some))
    }

    /// The body that a member has sent in a step.
    pub(crate) fn body(&self, step: Step, member: usize) -> Option<&Body> {
        Some(&self.slots(step)?.get(member)?.as_ref()?.body)
    }

    pub(crate) fn has_ended_itself(&self, member: usize) -> bool {
        self.ends.get(member).is_some_and(Option::is_some)
    }

    pub(crate) fn keys(&self) -> Option<&[KeyMaterial]> {
        self.keys.as_deref()
    }

    /// Only an end by a message or a finding: final, unlike the passing of the deadline.
    pub(crate) fn final_end(&self) -> Option<&AbortReason> {
        self.ended.as_ref()
    }

    pub(crate) fn end(&mut self, reason: AbortReason) {
        self.ended.get_or_insert(reason);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Who has not done the step that is awaited.
    pub(crate) fn missing(&self) -> Vec<(crate::names::NodeId, Step)> {
        let Some(step) = self.awaited() else {
            return Vec::new();
        };
        let absent = |(index, _): &(usize, &Member)| self.body(step, *index).is_none();
        self.proposal
            .members()
            .iter()
            .enumerate()
            .filter(absent)
            .map(|(_, member)| (member.id.clone(), step))
            .collect()
    }

    fn is_overdue(&self) -> bool {
        let nobody_certified =
            self.slots(Step::Certify).is_some_and(|slots| slots.iter().all(Option::is_none));
        self.now > self.proposal.deadline() && nobody_certified
    }

    fn slots(&self, step: Step) -> Option<&Vec<Option<Filed>>> {
        self.steps.get(step.position()?)
    }

    fn progress(&self, index: usize, member: &Member) -> NodeProgress {
        let sent = |step: &Step| self.body(*step, index).is_some();
        let end = self.ends.get(index).and_then(Option::as_ref).map(|filed| filed.message.step);
        NodeProgress {
            node: member.id.clone(),
            step: end.or_else(|| Step::ALL.into_iter().rev().find(sent)),
            joined: sent(&Step::Join),
        }
    }

    /// Authenticates, then files. A member's own signature under nonsense, or under two different messages of one step,
    /// ends the ceremony; anything else that is wrong is refused without effect.
    fn file(&mut self, message: &CeremonyMessage) -> Result<Received, CeremonyError> {
        if message.ceremony != self.proposal.id() {
            return Err(CeremonyError::OtherCeremony);
        }
        if message.body.len() > self.proposal.max_body_bytes() {
            return Err(CeremonyError::TooLong(message.body.len()));
        }
        let index = self.proposal.index_of(&message.from);
        let index = index.ok_or_else(|| CeremonyError::NotAMember(message.from.clone()))?;
        if self.filed(index, message.step).is_some_and(|filed| filed.message == *message) {
            return Ok(Received::Known);
        }
        let members = self.proposal.members();
        let member = members.get(index).ok_or_else(|| CeremonyError::NotAMember(message.from.clone()))?;
        message.verify(member)?;
        if self.ended.is_some() || self.certified.is_some() {
            return Ok(Received::Known);
        }
        self.check_order(index, message)?;
        if let Some(filed) = self.filed(index, message.step) {
            return Ok(self.conflict(message, filed.message.body == message.body));
        }
        match Body::parse(message.step, &message.body, &self.proposal, member) {
            Ok(body) => self.put(index, Filed { message: message.clone(), body }),
            Err(what) => {
                let finding = format!("{} sent a {} that cannot be: {what}", message.from, message.step);
                self.end(AbortReason::Misbehaviour { culprits: vec![message.from.clone()], finding });
            }
        }
        Ok(Received::New)
    }

    fn filed(&self, member: usize, step: Step) -> Option<&Filed> {
        match step.position() {
            Some(position) => self.steps.get(position)?.get(member)?.as_ref(),
            None => self.ends.get(member)?.as_ref(),
        }
    }

    fn put(&mut self, member: usize, filed: Filed) {
        let slots = match filed.message.step.position() {
            Some(position) => self.steps.get_mut(position),
            None => Some(&mut self.ends),
        };
        if let Some(slot) = slots.and_then(|slots| slots.get_mut(member)) {
            *slot = Some(filed);
        }
    }

    /// A certificate is final: who has sent one cannot end the ceremony, and who has ended it cannot certify.
    fn check_order(&self, member: usize, message: &CeremonyMessage) -> Result<(), CeremonyError> {
        let is_end = message.step.position().is_none();
        let earlier = if is_end {
            self.filed(member, Step::Certify)
        } else {
            self.filed(member, Step::Abort).filter(|_| message.step == Step::Certify)
        };
        match earlier {
            Some(filed) => Err(CeremonyError::TooLate {
                from: message.from.clone(),
                step: message.step,
                earlier: filed.message.step,
            }),
            None => Ok(()),
        }
    }

    /// A second message in a slot. A `Deal` may differ, since its ciphertext is random: the first one counts.
    fn conflict(&mut self, message: &CeremonyMessage, same_body: bool) -> Received {
        if same_body || matches!(message.step, Step::Deal | Step::Reject | Step::Abort) {
            return Received::Known;
        }
        let finding = format!("{} signed two different {} messages", message.from, message.step);
        self.end(AbortReason::Misbehaviour { culprits: vec![message.from.clone()], finding });
        Received::New
    }

    /// Draws the conclusions of what is there.
    fn advance(&mut self) {
        self.note_ends();
        if self.ended.is_some() {
            return;
        }
        if let Err(Finding { culprits, what }) = self.verify() {
            self.end(AbortReason::Misbehaviour { culprits, finding: what });
        }
    }

    fn note_ends(&mut self) {
        for (member, filed) in self.proposal.members().iter().zip(&self.ends) {
            let by = member.id.clone();
            let reason = match filed.as_ref().map(|filed| &filed.body) {
                Some(Body::Reject(RejectBody { reason })) => {
                    AbortReason::Rejected { by, reason: reason.clone() }
                }
                Some(Body::Abort(AbortBody { accused, reason })) => {
                    AbortReason::Aborted { by, reason: reason.clone(), accused: accused.clone() }
                }
                _ => continue,
            };
            self.ended.get_or_insert(reason);
        }
    }

    fn verify(&mut self) -> Result<(), Finding> {
        if self.phrase.is_none() && self.is_complete(Step::NonceCommit) && self.is_complete(Step::NonceReveal)
        {
            self.phrase = Some(self.verify_nonces()?);
        }
        if self.phrase.is_some()
            && self.keys.is_none()
            && [Step::Join, Step::Commit, Step::Reveal].iter().all(|step| self.is_complete(*step))
        {
            self.keys = Some(self.verify_reveals()?);
        }
        let Some(keys) = self.keys.as_deref() else {
            return Ok(());
        };
        if !self.proved && self.is_complete(Step::Deal) && self.is_complete(Step::Prove) {
            verify::check_proofs(&self.proposal, keys, &self.proofs(Step::Prove))?;
            self.proved = true;
        }
        if self.proved && self.certified.is_none() && self.is_complete(Step::Certify) {
            let certificates = self.proofs(Step::Certify);
            verify::check_certificates(&self.proposal, keys, &certificates)?;
            let signed =
                |(position, material)| signed_roster(&self.proposal, material, position, &certificates);
            self.certified = Some(keys.iter().enumerate().map(signed).collect::<Result<_, _>>()?);
        }
        Ok(())
    }

    fn verify_nonces(&self) -> Result<VerificationPhrase, Finding> {
        let commits = self.bodies(Step::NonceCommit, |body| match body {
            Body::NonceCommit(body) => Some(body),
            _ => None,
        });
        let reveals = self.bodies(Step::NonceReveal, |body| match body {
            Body::NonceReveal(body) => Some(body),
            _ => None,
        });
        let commits: Vec<&CommitBody> = commits.into_iter().map(|(body, _)| body).collect();
        verify::check_nonces(&self.proposal, &commits, &reveals)?;
        let nonces = reveals.iter().map(|(body, _)| &body.nonce.0);
        Ok(verify::phrase(&self.proposal.id(), nonces))
    }

    fn verify_reveals(&self) -> Result<Vec<KeyMaterial>, Finding> {
        let commits = self.bodies(Step::Commit, |body| match body {
            Body::Commit(body) => Some(body),
            _ => None,
        });
        let commits: Vec<&CommitBody> = commits.into_iter().map(|(body, _)| body).collect();
        let reveals: Vec<(&RevealBody, &[u8])> = self.bodies(Step::Reveal, |body| match body {
            Body::Reveal(body) => Some(body),
            _ => None,
        });
        verify::check_openings(&self.proposal, &commits, &reveals)?;
        let first_steps = self.steps.iter().take(TRANSCRIPT_STEPS).flatten().flatten();
        let transcript =
            verify::transcript(&self.proposal.id(), first_steps.map(|filed| filed.message.body.as_slice()));
        let reveals: Vec<_> = reveals.into_iter().map(|(body, _)| body).collect();
        let keys = 0..self.proposal.keys().len();
        keys.map(|key| verify::key_material(&self.proposal, key, &reveals, transcript)).collect()
    }

    fn proofs(&self, step: Step) -> Vec<&ProofsBody> {
        let proofs = self.bodies(step, |body| match body {
            Body::Prove(body) | Body::Certify(body) => Some(body),
            _ => None,
        });
        proofs.into_iter().map(|(body, _)| body).collect()
    }

    /// The deals of a complete step, by member.
    pub(crate) fn deals(&self) -> Vec<&DealBody> {
        let deals = self.bodies(Step::Deal, |body| match body {
            Body::Deal(body) => Some(body),
            _ => None,
        });
        deals.into_iter().map(|(body, _)| body).collect()
    }

    fn bodies<'a, T>(
        &'a self,
        step: Step,
        kind: impl Fn(&'a Body) -> Option<&'a T>,
    ) -> Vec<(&'a T, &'a [u8])> {
        let filed = self.slots(step).into_iter().flatten().flatten();
        filed.filter_map(|filed| Some((kind(&filed.body)?, filed.message.body.as_slice()))).collect()
    }
}

impl std::fmt::Debug for CeremonyObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CeremonyObserver({}, {:?})", self.proposal.id(), self.status().state)
    }
}

fn signed_roster(
    proposal: &Proposal,
    material: &KeyMaterial,
    position: usize,
    certificates: &[&ProofsBody],
) -> Result<SignedRoster, Finding> {
    let signature = |(member, body): (&Member, &&ProofsBody)| {
        Some((member.id.clone(), body.keys.get(position)?.signature.0))
    };
    let signatures = proposal.members().iter().zip(certificates).filter_map(signature).collect();
    SignedRoster::new(material.roster.clone(), signatures)
        .map_err(|error| Finding { culprits: Vec::new(), what: error.to_string() })
}
