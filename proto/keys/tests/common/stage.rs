//! Several machines and a relay in memory, with a hand on every message.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use rutli_keys::ceremony::{
    AbortReason, CeremonyMachine, CeremonyMessage, CeremonyObserver, Output, Proposal, Received, Step,
};
use rutli_keys::rehearsal::Cast;
use rutli_keys::{NodeId, SignedRoster, SigningShare};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a hand makes of a message on its way to a node.
pub type Hand = Box<dyn FnMut(&NodeId, &CeremonyMessage) -> Vec<CeremonyMessage>>;

pub struct Stage {
    pub cast: Cast,
    pub proposal: Proposal,
    pub actors: BTreeMap<NodeId, Actor>,
    pub relay: CeremonyObserver,
    /// On its way to the relay.
    pub queue: VecDeque<CeremonyMessage>,
    pub hand: Hand,
}

pub struct Actor {
    pub machine: CeremonyMachine,
    pub keys: Option<Vec<(SignedRoster, SigningShare)>>,
    pub aborted: Option<(AbortReason, Vec<NodeId>)>,
}

impl Stage {
    pub fn new(organisations: &[(&str, u16, u16)], keys: &[&str], seed: u8) -> Self {
        let cast = Cast::new(organisations, keys, [seed; 32]).unwrap();
        let proposal = Proposal::new(cast.spec.clone()).unwrap();
        let actor =
            |member: &rutli_keys::ceremony::Member| (member.id.clone(), fresh(&cast, &proposal, &member.id));
        let actors = proposal.members().iter().map(actor).collect();
        let relay = CeremonyObserver::new(proposal.clone());
        let hand: Hand = Box::new(|_, message| vec![message.clone()]);
        Self { cast, proposal, actors, relay, queue: VecDeque::new(), hand }
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.actors.keys().cloned().collect()
    }

    pub fn join_all(&mut self) {
        for id in self.ids() {
            let outputs = self.actors.get_mut(&id).unwrap().machine.join().unwrap();
            self.take(&id, outputs);
        }
    }

    /// Relays until nothing is left.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// Everybody joins, and everything is relayed.
    pub fn play(&mut self) {
        self.join_all();
        self.run();
    }

    /// Relays one message. False if there is none.
    pub fn step(&mut self) -> bool {
        let Some(message) = self.queue.pop_front() else {
            return false;
        };
        if self.relay.receive(&message) == Ok(Received::New) {
            for id in self.ids().into_iter().filter(|id| *id != message.from) {
                for message in (self.hand)(&id, &message) {
                    self.deliver(&id, &message);
                }
            }
        }
        true
    }

    /// To one node, past the relay. What it refuses has no effect.
    pub fn deliver(&mut self, to: &NodeId, message: &CeremonyMessage) {
        if let Ok(outputs) = self.actors.get_mut(to).unwrap().machine.receive(message) {
            self.take(to, outputs);
        }
    }

    pub fn take(&mut self, id: &NodeId, outputs: Vec<Output>) {
        let actor = self.actors.get_mut(id).unwrap();
        for output in outputs {
            match output {
                Output::Send(message) => {
                    assert_eq!(message.from, *id);
                    self.queue.push_back(message);
                }
                Output::Done { keys } => assert!(actor.keys.replace(keys).is_none(), "done once"),
                Output::Aborted { reason, culprits } => {
                    assert!(actor.aborted.replace((reason, culprits)).is_none(), "aborted once");
                }
            }
        }
    }

    /// The process dies with all it has not published, and starts again with its sealed seed.
    pub fn crash(&mut self, id: &NodeId) {
        self.queue.retain(|message| message.from != *id);
        let transcript: Vec<_> = self.relay.messages().cloned().collect();
        let had_joined = self.actors[id].machine.has_joined();
        let (machine, outputs) = CeremonyMachine::resume(
            self.proposal.clone(),
            id.clone(),
            Arc::clone(&self.cast.identities[id]),
            self.cast.seeds[id],
            &transcript,
        )
        .unwrap();
        self.actors.insert(id.clone(), Actor { machine, keys: None, aborted: None });
        self.take(id, outputs);
        if had_joined && !self.actors[id].machine.has_joined() && !self.actors[id].machine.is_over() {
            // The custodian had joined, but the message was lost: the node remembers the decision.
            let outputs = self.actors.get_mut(id).unwrap().machine.join().unwrap();
            self.take(id, outputs);
        }
    }

    pub fn tick(&mut self, now: u64) {
        self.relay.tick(now);
        for id in self.ids() {
            let outputs = self.actors.get_mut(&id).unwrap().machine.tick(now).unwrap();
            self.take(&id, outputs);
        }
    }

    /// All nodes have the same certified rosters and their own shares; the relay has the rosters too.
    pub fn assert_done(&self) -> Vec<SignedRoster> {
        let rosters = self.relay.rosters().expect("the relay has the rosters").to_vec();
        for (id, actor) in &self.actors {
            let keys = actor.keys.as_ref().unwrap_or_else(|| panic!("{id} is done: {:?}", actor.machine));
            assert_eq!(keys.len(), rosters.len());
            for ((roster, share), expected) in keys.iter().zip(&rosters) {
                assert_eq!(roster, expected);
                let node = roster.roster().nodes().find(|node| node.id == *id).unwrap();
                assert_eq!(node.verifying_share, share.verifying_share());
            }
            assert_eq!(actor.machine.status().state.as_str(), "done");
        }
        rosters
    }

    /// Nobody has keys, and all but the given nodes know that it is over.
    pub fn assert_aborted(&self, except: &[&str]) {
        assert!(self.relay.rosters().is_none());
        for (id, actor) in &self.actors {
            assert!(actor.keys.is_none(), "{id} has keys");
            if !except.contains(&id.to_string().as_str()) {
                assert!(actor.aborted.is_some(), "{id} has not ended: {:?}", actor.machine);
                assert_eq!(actor.machine.status().state.as_str(), "aborted");
            }
        }
    }

    /// Why a node ended, as text, and whom it blames.
    pub fn end_of(&self, id: &str) -> (String, Vec<String>) {
        let (reason, culprits) = self.actors[&id.parse().unwrap()].aborted.as_ref().expect("it has ended");
        (reason.to_string(), culprits.iter().map(ToString::to_string).collect())
    }

    /// Signs a message anew, with another body, by the sender's true identity.
    pub fn forge(&self, message: &CeremonyMessage, change: impl FnOnce(&mut Value)) -> CeremonyMessage {
        let mut body: Value = serde_json::from_slice(&message.body).unwrap();
        change(&mut body);
        self.forge_raw(message, serde_json_canonicalizer::to_vec(&body).unwrap())
    }

    pub fn forge_raw(&self, message: &CeremonyMessage, body: Vec<u8>) -> CeremonyMessage {
        signed(&self.cast, message, body)
    }
}

/// The envelope's signature, made independently of the crate's own code.
pub fn signed(cast: &Cast, message: &CeremonyMessage, body: Vec<u8>) -> CeremonyMessage {
    let mut text = message.ceremony.as_bytes().to_vec();
    text.extend(format!("{}\0{}\0", message.from, message.step).bytes());
    text.extend(Sha256::digest(&body));
    let signature = cast.identities[&message.from].sign(rutli_keys::SignedText::Ceremony, &text);
    CeremonyMessage { body, signature, ..message.clone() }
}

/// The commitment that belongs to a forged reveal.
pub fn commitment(reveal: &CeremonyMessage) -> Value {
    let mut text = b"rutli/ceremony-commit/v1\0".to_vec();
    text.extend(reveal.ceremony.as_bytes());
    text.extend(format!("{}\0", reveal.from).bytes());
    text.extend(&reveal.body);
    Value::String(hex::encode(Sha256::digest(&text)))
}

pub fn fresh(cast: &Cast, proposal: &Proposal, id: &NodeId) -> Actor {
    let identity = Arc::clone(&cast.identities[id]);
    let machine = CeremonyMachine::new(proposal.clone(), id.clone(), identity, cast.seeds[id]).unwrap();
    Actor { machine, keys: None, aborted: None }
}

/// What a node sends in a step when everybody is honest.
pub fn honest_message(
    organisations: &[(&str, u16, u16)],
    seed: u8,
    from: &str,
    step: Step,
) -> CeremonyMessage {
    type Transcripts = BTreeMap<(String, u8), Vec<CeremonyMessage>>;
    static PLAYED: Mutex<Transcripts> = Mutex::new(BTreeMap::new());
    let mut played = PLAYED.lock().unwrap();
    let transcript = played.entry((format!("{organisations:?}"), seed)).or_insert_with(|| {
        let mut stage = Stage::new(organisations, &["release"], seed);
        stage.play();
        stage.assert_done();
        stage.relay.messages().cloned().collect()
    });
    let found = transcript.iter().find(|message| message.from.to_string() == from && message.step == step);
    found.unwrap().clone()
}
