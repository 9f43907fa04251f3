//! Key ceremonies that end otherwise than planned, and one that is done in spite of everything.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rutli::client::{self, Profile};
use rutli_keys::{
    IdentityKey, NodeId,
    ceremony::{CeremonyMachine, CeremonyMessage, Output, Proposal, ProposalSpec, SignedProposal},
};
use rutli_tests::{
    cluster::{Cluster, Setup, eventually, seal},
    releases::{build, sign},
};
use rutli_wire::{
    link::{CeremonyEnvelope, Condition, FromNode, KeptLog, NodeStatus, ToNode},
    v1::{self, CeremonyState},
};
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{SOON, refused};

/// A ceremony is rejected, one is aborted, one runs out of time: each ends for everybody, with the reason and who it was,
/// and leaves no key. Words that do not match and strangers are refused.
#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_end_cleanly() {
    let mut cluster = Cluster::without_key(Setup::default()).await;
    strange_proposals(&cluster).await;

    // Rejected by one who was asked.
    let ceremony = cluster.propose().await;
    wrong_words(&cluster, &ceremony).await;
    cluster.join("vendor-2", &ceremony).await;
    cluster.ceremony_at("supervisor-1", &ceremony.ceremony_id, "known", |_| true).await;
    let reject = v1::RejectCeremonyRequest {
        ceremony_id: ceremony.ceremony_id.clone(),
        reason: "the words were read to me otherwise".into(),
    };
    cluster.custodian("supervisor-1").await.reject_ceremony(reject).await.unwrap();
    ended(&cluster, &ceremony, "read to me otherwise", "supervisor/supervisor-1").await;

    // Aborted by one who had joined.
    let ceremony = cluster.propose().await;
    cluster.join("vendor-3", &ceremony).await;
    let abort =
        v1::RejectCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone(), reason: "fire drill".into() };
    cluster.custodian("vendor-3").await.abort_ceremony(abort.clone()).await.unwrap();
    ended(&cluster, &ceremony, "fire drill", "vendor/vendor-3").await;
    refused(
        cluster.custodian("vendor-2").await.join_ceremony(join(&ceremony)).await,
        Code::FailedPrecondition,
    );

    // Out of time: the ones who did not join are named. The proposal is one with a deadline of seconds.
    cluster.stop("vendor-1");
    let (proposer, seen) = joined_in_time(&cluster, &["vendor-2", "supervisor-1"]).await;
    let over = ended_at(&cluster, "vendor-2", &seen).await;
    println!("out of time: {}", over.reason);
    assert!(
        over.reason.contains("deadline") && over.reason.contains("the join of vendor/vendor-3"),
        "{}",
        over.reason
    );
    assert!(!over.reason.contains("the join of vendor/vendor-2"), "{}", over.reason);
    drop(proposer);
    cluster.start_party("vendor-1");

    for node in cluster.nodes() {
        assert!(cluster.status(&node).await.keys.is_empty(), "{node} has a key of an aborted ceremony");
        assert!(!cluster.data(&node).join("keys/release.share.age").exists());
    }
    let keys = cluster.auditor().await.list_keys(v1::ListKeysRequest {}).await.unwrap().into_inner().keys;
    assert!(keys.is_empty());

    // And after all that, one is done.
    cluster.make_key().await;
    cluster.ready().await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    // A key's name is taken for ever.
    let proposal = std::fs::read(&cluster.files().proposal).unwrap();
    let again = v1::ProposeCeremonyRequest { proposal };
    refused(cluster.custodian("vendor-2").await.propose_ceremony(again).await, Code::AlreadyExists);
}

/// A ceremony outlives the death of every process in its middle, one after the other and all at once; what is certified
/// is never lost, and all nodes end with the same roster.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_outlives_every_process() {
    let mut cluster = Cluster::without_key(Setup::default()).await;
    let ceremony = cluster.propose().await;
    cluster.join("vendor-2", &ceremony).await;
    // One that joined, one that did not, and the relay.
    for party in ["vendor-2", "supervisor-1", "coordinator"] {
        cluster.kill(party);
    }
    for party in ["coordinator", "supervisor-1", "vendor-2"] {
        cluster.start_party(party);
    }
    cluster.join("supervisor-1", &ceremony).await;
    // The proposer is away while the others wait for the last one, who then brings it all into motion.
    cluster.kill("vendor-1");
    cluster.join("vendor-3", &ceremony).await;
    let at = cluster
        .ceremony_at("vendor-3", &ceremony.ceremony_id, "under way", |now| {
            now.state() != CeremonyState::Proposed
        })
        .await;
    println!("with vendor-1 away: {:?}", at.waiting_for);
    // Everybody dies while vendor-1 catches up: at most a moment after its start.
    cluster.start_party("vendor-1");
    tokio::time::sleep(Duration::from_millis(150)).await;
    for party in ["coordinator", "vendor-1", "vendor-2", "vendor-3", "supervisor-1"] {
        cluster.kill(party);
    }
    for party in ["supervisor-1", "vendor-3", "vendor-2", "vendor-1", "coordinator"] {
        cluster.start_party(party);
    }
    cluster.key_everywhere().await;
    let mut rosters = BTreeMap::new();
    for node in cluster.nodes() {
        let key = cluster.status(&node).await.keys.remove(0);
        rosters.insert(node, (key.roster_hash, key.words));
    }
    assert!(rosters.values().all(|roster| roster == &rosters["vendor-1"]), "{rosters:?}");
    let request = v1::GetCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone() };
    let over = cluster.auditor().await.get_ceremony(request).await.unwrap().into_inner();
    assert_eq!(over.state(), CeremonyState::Done);
    cluster.ready().await;
    let release = sign(&cluster, build("stable", 1, 1), SOON).await;
    println!("signed by {:?} with the key {}", release.signed_by, rosters["vendor-1"].1);
}

/// Proposals that are none of this deployment's: other identity keys, other nodes, no sense.
async fn strange_proposals(cluster: &Cluster) {
    let proposal: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&cluster.files().proposal).unwrap()).unwrap();
    let stranger = IdentityKey::from_bytes(&[3; 32]).public().to_string();
    type Change = fn(&mut serde_json::Value, String);
    let changes: [(&str, Change); 4] = [
        ("another identity key", |proposal, stranger| {
            proposal["organisations"][0]["nodes"][1]["identity"] = stranger.into();
        }),
        ("another node", |proposal, stranger| {
            let node = serde_json::json!({ "name": "vendor-9", "identity": stranger });
            proposal["organisations"][0]["nodes"].as_array_mut().unwrap().push(node);
        }),
        ("an impossible threshold", |proposal, _| proposal["organisations"][0]["threshold"] = 4.into()),
        ("an unknown purpose", |proposal, _| proposal["keys"][0]["purpose"] = "everything".into()),
    ];
    for (what, change) in changes {
        let mut strange = proposal.clone();
        change(&mut strange, stranger.clone());
        let request = v1::ProposeCeremonyRequest { proposal: strange.to_string().into_bytes() };
        println!("{what}:");
        refused(cluster.custodian("vendor-1").await.propose_ceremony(request).await, Code::InvalidArgument);
    }
}

async fn wrong_words(cluster: &Cluster, ceremony: &v1::Ceremony) {
    let phrase = cluster.phrase_at("vendor-2", ceremony).await;
    let mut custodian = cluster.custodian("vendor-2").await;
    let mut wrong = join(ceremony);
    wrong.words = phrase.split(' ').rev().collect::<Vec<_>>().join(" ");
    refused(custodian.join_ceremony(wrong).await, Code::InvalidArgument);
    let mut unknown = join(ceremony);
    unknown.ceremony_id = "ab".repeat(32);
    unknown.words = phrase;
    refused(custodian.join_ceremony(unknown).await, Code::NotFound);
}

fn join(ceremony: &v1::Ceremony) -> v1::JoinCeremonyRequest {
    v1::JoinCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone(), words: ceremony.words.clone() }
}

/// Everybody sees that it ended, why, and by whom.
async fn ended(cluster: &Cluster, ceremony: &v1::Ceremony, why: &str, by: &str) {
    for node in cluster.nodes() {
        let over = ended_at(cluster, &node, ceremony).await;
        assert!(over.reason.contains(why) && over.reason.contains(by), "{node}: {}", over.reason);
        // A person's no is an answer, not a fault.
        assert!(over.culprits.is_empty(), "{node}: {:?}", over.culprits);
    }
    let request = v1::GetCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone() };
    let over = eventually("the coordinator sees the end", SOON, async || {
        let over = cluster.auditor().await.get_ceremony(request.clone()).await.unwrap().into_inner();
        if over.state() == CeremonyState::Aborted { Ok(over) } else { Err(format!("{:?}", over.state())) }
    })
    .await;
    assert!(over.reason.contains(why) && over.reason.contains(by), "{}", over.reason);
    println!("ended: {}", over.reason);
}

async fn ended_at(cluster: &Cluster, node: &str, ceremony: &v1::Ceremony) -> v1::Ceremony {
    let aborted = |now: &v1::Ceremony| now.state() == CeremonyState::Aborted;
    cluster.ceremony_at(node, &ceremony.ceremony_id, "aborted", aborted).await
}

/// A ceremony with a deadline of seconds that these have joined before it was over.
async fn joined_in_time(cluster: &Cluster, nodes: &[&str]) -> (Proposer, v1::Ceremony) {
    for seconds in [6, 60, 600] {
        let proposer = propose_for_seconds(cluster, seconds).await;
        // A proposal that comes when its time is over is not taken.
        let known = cluster.ceremony_at(nodes[0], &proposer.id, "known", |_| true);
        let Ok(seen) = tokio::time::timeout(Duration::from_secs(seconds + 5), known).await else { continue };
        let mut in_time = true;
        for node in nodes {
            let ready = |now: &v1::Ceremony| !now.words.is_empty() || now.state() == CeremonyState::Aborted;
            let now = cluster.ceremony_at(node, &seen.ceremony_id, "ready to be compared", ready).await;
            in_time &= cluster.custodian(node).await.join_ceremony(join(&now)).await.is_ok();
        }
        if in_time {
            return (proposer, seen);
        }
        println!("{seconds} s are too short on this machine");
        ended_at(cluster, nodes[0], &seen).await;
    }
    panic!("nobody joins")
}

/// An attachment in place of vendor-1 that has proposed a ceremony, adds its nonce, and says nothing more.
struct Proposer {
    id: String,
    /// Aborted with it.
    _attachment: tokio::task::JoinSet<()>,
}

async fn propose_for_seconds(cluster: &Cluster, seconds: u64) -> Proposer {
    let folder = cluster.node_folder("vendor-1");
    let written: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&cluster.files().proposal).unwrap()).unwrap();
    let now = rutli::clock::unix_now();
    let spec = ProposalSpec {
        deadline: now + seconds,
        keys: serde_json::from_value(written["keys"].clone()).unwrap(),
        name: serde_json::from_value(written["name"].clone()).unwrap(),
        organisations: serde_json::from_value(written["organisations"].clone()).unwrap(),
        proposed_at: now,
    };
    let identity = seal::identity(&folder, "");
    let proposal = Proposal::new(spec).unwrap();
    let id = proposal.id().to_string();
    let signed = SignedProposal::sign(proposal, "vendor/vendor-1".parse().unwrap(), &identity).unwrap();
    let status = NodeStatus {
        condition: Condition::Ready,
        reason: String::new(),
        keys: Vec::new(),
        warning: String::new(),
    };
    let me: NodeId = "vendor/vendor-1".parse().unwrap();
    let seed = [7; 32];
    let mut machine = CeremonyMachine::new(signed.proposal().clone(), me, Arc::new(identity), seed).unwrap();
    let committed = sent(machine.tick(now).unwrap());
    let envelope = CeremonyEnvelope { proposal: Some(signed.encode()), messages: committed };
    let messages = [
        FromNode::Hello { version: "stand-in".into(), status, log: KeptLog::default() },
        FromNode::Ceremony(envelope),
    ];
    let mut profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    profile.tls.certificate = folder.join("tls.pem");
    profile.tls.key = folder.join("tls.key");
    let (say, said) = tokio::sync::mpsc::channel(16);
    let up = tokio_stream::iter(messages.map(v1::NodeMessage::from))
        .chain(tokio_stream::wrappers::ReceiverStream::new(said));
    let mut stream = client::nodes(profile.connect().await.unwrap()).attach(up).await.unwrap().into_inner();
    let mut attachment = tokio::task::JoinSet::new();
    attachment.spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let Ok(ToNode::Ceremony(envelope)) = ToNode::try_from(message) else { continue };
            for bytes in envelope.messages {
                let outputs = machine.receive(&CeremonyMessage::parse(&bytes).unwrap()).unwrap_or_default();
                let messages = sent(outputs);
                if !messages.is_empty() {
                    let envelope = CeremonyEnvelope { proposal: None, messages };
                    say.send(FromNode::Ceremony(envelope).into()).await.unwrap();
                }
            }
        }
    });
    Proposer { id, _attachment: attachment }
}

fn sent(outputs: Vec<Output>) -> Vec<Vec<u8>> {
    let message = |output| match output {
        Output::Send(message) => Some(message.encode()),
        _ => None,
    };
    outputs.into_iter().filter_map(message).collect()
}
