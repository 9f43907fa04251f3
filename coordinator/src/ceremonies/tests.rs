//! Whole ceremonies over the relay, with the nodes' own machines at its ends.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rutli_keys::{
    IdentityKey, KeyName, NodeName, OrgName, Purpose,
    ceremony::{CeremonyMachine, KeySpec, NodeSpec, OrganisationSpec, Output, Proposal, ProposalSpec},
};

use super::*;
use crate::testing::{eventually, eventually_some, open_store};

const NOW: u64 = 1_000_000;

/// A coordinator's relay and its clock.
struct Relay {
    ceremonies: Arc<Ceremonies>,
    clock: Arc<AtomicU64>,
}

impl Relay {
    async fn open(folder: &std::path::Path) -> Self {
        let store = eventually_some("the store is free", async || open_store(folder).await.ok()).await;
        let clock = Arc::new(AtomicU64::new(NOW));
        let hand = Arc::clone(&clock);
        let now = Clock::new(move || hand.load(Ordering::Relaxed));
        let (sessions, _notices) =
            Sessions::start(Vec::new(), BTreeMap::new(), None, store.log().clone(), now.clone());
        let keyring = Keyring::default();
        for roster in store.keys().await.unwrap() {
            keyring.add(SignedRoster::parse(&roster).unwrap());
        }
        let ceremonies = Ceremonies::open(store, sessions, keyring, now).await.unwrap();
        Self { ceremonies, clock }
    }

    async fn send(&self, from: &Node, messages: Vec<Vec<u8>>) -> Result<()> {
        self.ceremonies.received(&from.id, CeremonyEnvelope { proposal: None, messages }).await
    }

    async fn propose(&self, by: &Node, proposal: &Proposal) -> Result<()> {
        let signed = SignedProposal::sign(proposal.clone(), by.id.clone(), &by.identity).unwrap();
        let envelope = CeremonyEnvelope { proposal: Some(signed.encode()), messages: Vec::new() };
        self.ceremonies.received(&by.id, envelope).await
    }
}

struct Node {
    id: NodeId,
    identity: Arc<IdentityKey>,
    seed: [u8; 32],
}

impl Node {
    fn new(organisation: &str, name: &str, seed: u8) -> Self {
        Self {
            id: NodeId::new(organisation, name).unwrap(),
            identity: Arc::new(IdentityKey::from_bytes(&[seed; 32])),
            seed: [seed; 32],
        }
    }

    fn machine(&self, proposal: &Proposal) -> CeremonyMachine {
        CeremonyMachine::new(proposal.clone(), self.id.clone(), Arc::clone(&self.identity), self.seed)
            .unwrap()
    }
}

fn nodes() -> [Node; 3] {
    [Node::new("supervisor", "s-1", 1), Node::new("vendor", "v-1", 2), Node::new("vendor", "v-2", 3)]
}

fn proposal(name: &str, members: &[&Node]) -> Proposal {
    let mut organisations: Vec<OrganisationSpec> = Vec::new();
    for member in members {
        let node = NodeSpec {
            identity: member.identity.public(),
            name: NodeName::new(member.id.node.as_str()).unwrap(),
        };
        match organisations.iter_mut().find(|organisation| organisation.name == member.id.organisation) {
            Some(organisation) => {
                organisation.nodes.push(node);
                organisation.threshold += 1;
            }
            None => organisations.push(OrganisationSpec {
                name: OrgName::new(member.id.organisation.as_str()).unwrap(),
                nodes: vec![node],
                threshold: 1,
            }),
        }
    }
    Proposal::new(ProposalSpec {
        deadline: NOW + 600,
        keys: vec![KeySpec { name: KeyName::new("release").unwrap(), purpose: Purpose::Release }],
        name: KeyName::new(name).unwrap(),
        organisations,
        proposed_at: NOW,
    })
    .unwrap()
}

fn sent(outputs: Vec<Output>) -> Vec<Vec<u8>> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Send(message) = output { Some(message.encode()) } else { None })
        .collect()
}

/// Whether there is something to read at once.
async fn next(transcript: &mut Transcript) -> Option<CeremonyEnvelope> {
    tokio::time::timeout(Duration::from_millis(50), transcript.next()).await.ok()
}

/// Lets everybody join and talk until nobody has anything to say.
async fn run(relay: &Relay, proposal: &Proposal, nodes: &[&Node]) -> Vec<bool> {
    let mut ends = Vec::new();
    for node in nodes {
        let mut machine = node.machine(proposal);
        relay.send(node, sent(machine.join().unwrap())).await.unwrap();
        ends.push((machine, relay.ceremonies.transcript(node.id.clone()), false));
    }
    let mut quiet = false;
    while !quiet {
        quiet = true;
        for (node, (machine, transcript, done)) in nodes.iter().zip(&mut ends) {
            while let Some(envelope) = next(transcript).await {
                quiet = false;
                for bytes in envelope.messages {
                    let message = CeremonyMessage::parse(&bytes).unwrap();
                    if message.ceremony != proposal.id() {
                        continue;
                    }
                    let outputs = machine.receive(&message).unwrap();
                    *done |= outputs.iter().any(|output| matches!(output, Output::Done { .. }));
                    relay.send(node, sent(outputs)).await.unwrap();
                }
            }
        }
    }
    ends.into_iter().map(|(_, _, done)| done).collect()
}

#[tokio::test]
async fn a_ceremony_makes_a_key_that_a_restart_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path()).await;
    let [supervisor, first, second] = nodes();
    let proposal = proposal("genesis", &[&supervisor, &first, &second]);
    relay.propose(&first, &proposal).await.unwrap();
    let shown = relay.ceremonies.get(&proposal.id()).await.unwrap();
    assert_eq!((shown.state(), shown.proposer.as_str()), (v1::CeremonyState::Proposed, "vendor/v-1"));
    assert_eq!(shown.waiting_for.len(), 3);

    let done = run(&relay, &proposal, &[&supervisor, &first, &second]).await;
    assert_eq!(done, [true, true, true]);
    let shown = relay.ceremonies.get(&proposal.id()).await.unwrap();
    assert_eq!((shown.state(), shown.keys.len()), (v1::CeremonyState::Done, 1));
    assert!(shown.nodes.iter().all(|node| node.step == "certify"));
    let key = relay.ceremonies.keyring.first().unwrap();
    drop(relay);

    let again = Relay::open(folder.path()).await;
    assert_eq!(again.ceremonies.keyring.first().unwrap().roster().hash(), key.roster().hash());
    assert_eq!(again.ceremonies.list().await[0].state(), v1::CeremonyState::Done);
    // Who missed the end gets it all.
    let mut transcript = again.ceremonies.transcript(second.id.clone());
    let envelope = next(&mut transcript).await.unwrap();
    assert!(envelope.proposal.is_some());
    let messages: Vec<_> =
        envelope.messages.iter().map(|bytes| CeremonyMessage::parse(bytes).unwrap()).collect();
    let (_, outputs) =
        CeremonyMachine::resume(proposal.clone(), second.id.clone(), second.identity, second.seed, &messages)
            .unwrap();
    assert!(outputs.iter().any(|output| matches!(output, Output::Done { .. })));
    assert!(next(&mut transcript).await.is_none());
    // Who is no member gets nothing.
    let mut stranger = again.ceremonies.transcript(NodeId::new("vendor", "v-9").unwrap());
    assert!(next(&mut stranger).await.is_none());
}

#[tokio::test]
async fn a_ceremony_goes_on_after_a_restart_in_its_middle() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path()).await;
    let [supervisor, first, second] = nodes();
    let proposal = proposal("genesis", &[&supervisor, &first, &second]);
    relay.propose(&first, &proposal).await.unwrap();
    for node in [&supervisor, &first] {
        let joined = node.machine(&proposal).join().unwrap();
        relay.send(node, sent(joined)).await.unwrap();
    }
    drop(relay);
    let relay = Relay::open(folder.path()).await;
    let shown = relay.ceremonies.get(&proposal.id()).await.unwrap();
    assert_eq!(shown.waiting_for, ["vendor/v-2: nonce-commit"]);
    // Joining again with the same seed says the same again, which changes nothing.
    assert_eq!(run(&relay, &proposal, &[&supervisor, &first, &second]).await, [true, true, true]);
}

#[tokio::test]
async fn time_and_members_end_a_ceremony() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path()).await;
    let [supervisor, first, second] = nodes();
    let members = [&supervisor, &first, &second];
    let (late, rejected) = (proposal("late", &members), proposal("rejected", &members));
    relay.propose(&first, &late).await.unwrap();
    relay.propose(&first, &rejected).await.unwrap();
    let no = supervisor.machine(&rejected).reject("not today").unwrap();
    relay.send(&supervisor, sent(no)).await.unwrap();
    let shown = relay.ceremonies.get(&rejected.id()).await.unwrap();
    assert_eq!(shown.state(), v1::CeremonyState::Aborted);
    assert!(shown.reason.contains("not today"), "{}", shown.reason);
    assert!(
        relay.send(&first, sent(first.machine(&rejected).join().unwrap())).await.is_ok(),
        "late is no fault"
    );

    let stopping = CancellationToken::new();
    tokio::spawn(Arc::clone(&relay.ceremonies).watch_deadlines(stopping.clone()));
    relay.clock.store(NOW + 601, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_ne!(relay.ceremonies.get(&late.id()).await.unwrap().state(), v1::CeremonyState::Aborted, "grace");
    relay.clock.store(NOW + 601 + limits::CEREMONY_GRACE_SECONDS, Ordering::Relaxed);
    let shown = async || relay.ceremonies.get(&late.id()).await.unwrap();
    eventually("it is over", async || shown().await.state() == v1::CeremonyState::Aborted).await;
    let shown = shown().await;
    assert!(!shown.culprits.is_empty());
    stopping.cancel();
}

/// What is over is remembered until its deadline, and takes its proposer's places, not the others'; a restart changes nothing.
#[tokio::test]
async fn a_node_that_proposes_and_aborts_keeps_nobody_from_proposing() {
    let folder = tempfile::tempdir().unwrap();
    let mut relay = Relay::open(folder.path()).await;
    let [supervisor, first, second] = nodes();
    let members = [&supervisor, &first, &second];
    let mut taken = 0;
    for number in 0..=limits::MAX_CEREMONIES {
        let proposal = proposal(&format!("p{number}"), &members);
        relay.propose(&second, &proposal).await.unwrap();
        if relay.ceremonies.get(&proposal.id()).await.is_err() {
            break;
        }
        taken += 1;
        relay.send(&second, sent(second.machine(&proposal).reject("no").unwrap())).await.unwrap();
        let shown = relay.ceremonies.get(&proposal.id()).await.unwrap();
        assert_eq!(shown.state(), v1::CeremonyState::Aborted);
    }
    assert_eq!(taken, limits::MAX_CEREMONIES / 4);
    for name in ["before", "after"] {
        let wanted = proposal(name, &members);
        relay.propose(&supervisor, &wanted).await.unwrap();
        assert!(relay.ceremonies.get(&wanted.id()).await.is_ok(), "{name} the restart");
        drop(relay);
        relay = Relay::open(folder.path()).await;
    }
    let one_more = proposal("one-more", &members);
    relay.propose(&second, &one_more).await.unwrap();
    assert!(relay.ceremonies.get(&one_more.id()).await.is_err());
}

#[tokio::test]
async fn what_is_not_wanted_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::open(folder.path()).await;
    let [supervisor, first, second] = nodes();
    let members = [&supervisor, &first, &second];
    let genesis = proposal("genesis", &members);

    // By a node that is no member of it.
    let signed = SignedProposal::sign(genesis.clone(), first.id.clone(), &first.identity).unwrap();
    let envelope = CeremonyEnvelope { proposal: Some(signed.encode()), messages: Vec::new() };
    relay.ceremonies.received(&NodeId::new("vendor", "v-9").unwrap(), envelope).await.unwrap();
    assert!(relay.ceremonies.get(&genesis.id()).await.is_err());
    // With a signature that is not its proposer's: a fault.
    let mut forged = signed.encode();
    let digit = forged.iter().rposition(u8::is_ascii_hexdigit).unwrap();
    forged[digit] = if forged[digit] == b'0' { b'1' } else { b'0' };
    let envelope = CeremonyEnvelope { proposal: Some(forged), messages: Vec::new() };
    assert!(matches!(relay.ceremonies.received(&first.id, envelope).await, Err(Error::Ceremony(_))));
    // More than one node may have open.
    for name in ["a", "b", "c"] {
        relay.propose(&second, &proposal(name, &members)).await.unwrap();
    }
    assert!(relay.ceremonies.get(&proposal("c", &members).id()).await.is_err());

    relay.propose(&first, &genesis).await.unwrap();
    // Another node's message, though genuine: who could bring these in could hold a ceremony with invented members.
    let stolen = sent(first.machine(&genesis).join().unwrap());
    assert!(matches!(relay.send(&second, stolen).await, Err(Error::Ceremony(_))));
    // A message whose signature is not its sender's: a fault, and the good ones before it stay.
    let good = sent(second.machine(&genesis).join().unwrap());
    let mut bad = CeremonyMessage::parse(&good[0]).unwrap();
    bad.signature[0] ^= 1;
    let fault = relay.send(&second, vec![good[0].clone(), bad.encode()]).await;
    assert!(matches!(fault, Err(Error::Ceremony(_))));
    let shown = relay.ceremonies.get(&genesis.id()).await.unwrap();
    assert_eq!(
        shown.nodes.iter().map(|node| node.step.as_str()).collect::<Vec<_>>(),
        ["none", "none", "nonce-commit"]
    );

    // Once there is a key, nobody makes one without an organisation that has a part in it.
    assert_eq!(run(&relay, &genesis, &[&supervisor, &second, &first]).await.len(), 3);
    assert_eq!(relay.ceremonies.get(&genesis.id()).await.unwrap().state(), v1::CeremonyState::Done);
    let coup = proposal("coup", &[&first]);
    relay.propose(&first, &coup).await.unwrap();
    assert!(relay.ceremonies.get(&coup.id()).await.is_err());
    // Nor one with the name of a key that is there, nor in another node's name.
    let again = proposal("again", &members);
    relay.propose(&first, &again).await.unwrap();
    assert!(relay.ceremonies.get(&again.id()).await.is_err());
}
