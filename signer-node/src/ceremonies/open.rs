//! One ceremony: what this node knows of it, what it has to say, what is durable of both.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rutli_keys::{
    CeremonyId, IdentityKey, NodeId, SignedRoster, SigningShare, VerificationPhrase,
    ceremony::{
        CeremonyError, CeremonyMachine, CeremonyMessage, CeremonyObserver, CeremonyStatus, Output,
        SignedProposal, Step,
    },
};
use rutli_signer_secrets::on_wiped_stack;
use rutli_wire::{
    limits as wire,
    link::{CeremonyEnvelope, FromNode},
};

use zeroize::Zeroizing;

use super::store::End;

/// A ceremony under way.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) signed: SignedProposal,
    /// Sealed; there once the custodian has joined.
    pub(super) seed: Option<Vec<u8>>,
    pub(super) part: Part,
    /// Which messages the journal has.
    pub(super) saved: BTreeSet<(NodeId, Step)>,
    /// Own messages, in the order of making.
    pub(super) own: Vec<CeremonyMessage>,
    /// How many of them may be sent: the journal has them.
    pub(super) released: usize,
    pub(super) finish: Option<Finish>,
}

/// How this node takes part.
#[derive(Debug)]
pub(super) enum Part {
    /// Sealed: it looks on.
    Looking(Box<CeremonyObserver>),
    /// With its secrets.
    Acting(Box<CeremonyMachine>),
}

/// What is still to be made durable at the end.
#[derive(Debug)]
pub(super) enum Finish {
    /// As they came: what is moved out of a vector stays behind in its memory, what is dropped in it is wiped.
    Done(Vec<(SignedRoster, SigningShare)>),
    Aborted(End),
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) signed: SignedProposal,
    pub(super) end: End,
    pub(super) steps: BTreeMap<NodeId, Step>,
    pub(super) own: Vec<CeremonyMessage>,
}

impl Part {
    pub(super) fn status(&self) -> CeremonyStatus {
        match self {
            Self::Looking(observer) => observer.status(),
            Self::Acting(machine) => machine.status(),
        }
    }

    /// What custodians compare, once it is known.
    pub(super) fn phrase(&self) -> Option<VerificationPhrase> {
        match self {
            Self::Looking(observer) => observer.phrase(),
            Self::Acting(machine) => machine.phrase(),
        }
    }

    pub(super) fn messages(&self) -> Vec<&CeremonyMessage> {
        match self {
            Self::Looking(observer) => observer.messages().collect(),
            Self::Acting(machine) => machine.messages().collect(),
        }
    }

    pub(super) fn receive(&mut self, message: &CeremonyMessage) -> Result<Vec<Output>, CeremonyError> {
        match self {
            Self::Looking(observer) => observer.receive(message).map(|_| Vec::new()),
            Self::Acting(machine) => on_wiped_stack(|| machine.receive(message)),
        }
    }

    pub(super) fn tick(&mut self, now: u64) -> Result<Vec<Output>, CeremonyError> {
        match self {
            Self::Looking(observer) => {
                observer.tick(now);
                Ok(Vec::new())
            }
            Self::Acting(machine) => on_wiped_stack(|| machine.tick(now)),
        }
    }
}

impl Open {
    pub(super) fn new(signed: SignedProposal) -> Self {
        let observer = CeremonyObserver::new(signed.proposal().clone());
        Self {
            part: Part::Looking(Box::new(observer)),
            signed,
            seed: None,
            saved: BTreeSet::new(),
            own: Vec::new(),
            released: 0,
            finish: None,
        }
    }

    pub(super) fn id(&self) -> CeremonyId {
        self.signed.proposal().id()
    }

    /// Whether this node's custodian has joined.
    pub(super) fn has_joined(&self) -> bool {
        self.own.iter().any(|message| message.step == Step::Join)
    }

    /// Who has not done what is awaited, for people.
    pub(super) fn missing(&self) -> String {
        let missing = self.part.status().waiting_for;
        missing.iter().map(|(node, _)| node.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Goes on with secrets from where it looks on. Who proposes a ceremony joins it, also after a restart.
    pub(super) fn take_part(
        &mut self,
        me: &NodeId,
        identity: &Arc<IdentityKey>,
        seed: &Zeroizing<[u8; 32]>,
    ) -> Result<(), CeremonyError> {
        let Part::Looking(observer) = &self.part else { return Ok(()) };
        let (mut machine, outputs) = on_wiped_stack(|| {
            let (machine, outputs) = super::resume(&self.signed, me, identity, seed, observer.messages())?;
            Ok::<_, CeremonyError>((Box::new(machine), outputs))
        })?;
        let proposed = self.signed.proposer() == me && !machine.has_joined() && observer.ended().is_none();
        let joined = if proposed { on_wiped_stack(|| machine.join())? } else { Vec::new() };
        self.part = Part::Acting(machine);
        self.absorb(outputs);
        self.absorb(joined);
        Ok(())
    }

    /// Notes what a machine wants done; [`Ceremonies::settle`] does it, durable things first.
    pub(super) fn absorb(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(message) => self.own.push(message),
                Output::Done { keys } => self.finish = Some(Finish::Done(keys)),
                Output::Aborted { reason, culprits } => {
                    self.finish =
                        Some(Finish::Aborted(End { done: false, reason: reason.to_string(), culprits }));
                }
            }
        }
    }

    /// A ceremony that was only looked at ends with what is seen.
    pub(super) fn look_for_end(&mut self) {
        if let Part::Looking(observer) = &self.part
            && !self.has_joined()
            && self.finish.is_none()
            && let Some(reason) = observer.ended()
        {
            let end = End { done: false, reason: reason.to_string(), culprits: reason.culprits() };
            self.finish = Some(Finish::Aborted(end));
        }
    }

    pub(super) fn unsaved(&self) -> Vec<CeremonyMessage> {
        let is_unsaved =
            |message: &&CeremonyMessage| !self.saved.contains(&(message.from.clone(), message.step));
        let mut unsaved: Vec<_> = self.part.messages().into_iter().filter(is_unsaved).cloned().collect();
        // A farewell is not on the machine's own table.
        for message in self.own.iter().filter(is_unsaved) {
            if !unsaved.iter().any(|other| other.step == message.step && other.from == message.from) {
                unsaved.push(message.clone());
            }
        }
        unsaved
    }

    pub(super) fn envelope(&self, messages: &[CeremonyMessage]) -> FromNode {
        envelope(&self.signed, messages)
    }
}

/// What this node says to a coordinator about one ceremony.
pub(super) fn envelope(signed: &SignedProposal, messages: &[CeremonyMessage]) -> FromNode {
    let messages = messages.iter().take(wire::MAX_CEREMONY_MESSAGES).map(CeremonyMessage::encode).collect();
    FromNode::Ceremony(CeremonyEnvelope { proposal: Some(signed.encode()), messages })
}
