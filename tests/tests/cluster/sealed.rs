//! A node whose age identity is encrypted with a passphrase.

use std::{fs, path::Path, process::Command};

use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup, eventually, seal},
    releases::{build, check, finished, sign},
};
use rutli_wire::v1;
use tonic::Code;

use super::{SOON, awaits, create, get, locked::found, refused, secrets::find_in};

const PASSPHRASE: &str = "seven mountains and a meadow";

/// It starts sealed, says so to custodian and coordinator, joins no ceremony and signs nothing; a wrong passphrase is a
/// clear error and changes nothing; the right one opens it, without a restart of anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_node_waits_for_its_passphrase() {
    let sealed = vec![("supervisor-1", PASSPHRASE)];
    let mut cluster = Cluster::without_key(Setup { sealed, ..Setup::default() }).await;

    // Before it has a key, it cannot take part in making one.
    let ceremony = cluster.propose().await;
    cluster.ceremony_at("supervisor-1", &ceremony.ceremony_id, "known", |_| true).await;
    let join =
        v1::JoinCeremonyRequest { ceremony_id: ceremony.ceremony_id.clone(), words: ceremony.words.clone() };
    refused(cluster.custodian("supervisor-1").await.join_ceremony(join).await, Code::FailedPrecondition);
    wrong_passphrases(&cluster).await;
    unseal(&cluster, "supervisor-1").await;
    for node in ["supervisor-1", "vendor-2", "vendor-3"] {
        cluster.join(node, &ceremony).await;
    }
    cluster.key_everywhere().await;
    cluster.ready().await;
    sign(&cluster, build("stable", 1, 2), SOON).await;

    // After a restart its share is sealed again.
    cluster.kill("supervisor-1");
    cluster.start_party("supervisor-1");
    let status = cluster.status("supervisor-1").await;
    assert_eq!(status.state, "sealed");
    assert!(status.reason.contains("unseal"), "{}", status.reason);
    assert_eq!(status.keys.len(), 1, "it knows its keys");
    cluster.until_node("supervisor-1", "sealed", |info| info.state == "sealed" && info.connected).await;
    let asked = build("stable", 2, 2);
    let id = create(&cluster, asked.clone()).await;
    let waiting = awaits(&cluster, &id, &["supervisor-1", "sealed"]).await;
    println!("sealed: {:?}", waiting.waiting_for);
    wrong_passphrases(&cluster).await;
    awaits(&cluster, &id, &["supervisor-1", "sealed"]).await;
    unseal(&cluster, "supervisor-1").await;
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    check(&cluster.release_key().await, &asked, &release);

    // Unsealed is unsealed; a node with a plain identity never was sealed.
    for node in ["supervisor-1", "vendor-1"] {
        let request = v1::UnsealRequest { passphrase: PASSPHRASE.into() };
        match cluster.custodian(node).await.unseal(request).await {
            Ok(status) => assert_eq!(status.into_inner().state, "ready"),
            Err(status) => drop(refused::<()>(Err(status), Code::FailedPrecondition)),
        }
    }
}

/// Until its custodian unseals it a node has no identity: it is in no file of its folder and not in its memory. The node
/// follows the log and cosigns no head; the others are a quorum without it. Then it cosigns, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_node_cosigns_nothing() {
    const NODE: &str = "vendor-3";
    let sealed = vec![(NODE, PASSPHRASE)];
    let mut cluster = Cluster::without_key(Setup { sealed, ..Setup::default() }).await;
    unseal(&cluster, NODE).await;
    cluster.make_key().await;
    cluster.ready().await;
    let mut sequences = 1..;
    until_cosigned(&cluster, NODE, &mut sequences).await;

    cluster.kill(NODE);
    cluster.start_party(NODE);
    cluster.until_node(NODE, "sealed", |info| info.state == "sealed" && info.connected).await;
    let before = cluster.status(NODE).await;
    let secret = *seal::identity(&cluster.node_folder(NODE), PASSPHRASE).expose();
    let still = [NODE.to_owned()];
    let lies_in = cluster.while_frozen(&still, |cluster| find_in(&cluster.node_folder(NODE), &secret));
    assert!(lies_in.is_empty(), "the identity is unsealed in {lies_in:?}");
    let pid = cluster.process(NODE).pid().unwrap();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(found(pid, &secret), (0, Vec::new()), "a sealed node has its identity in memory");
    }
    for sequence in sequences.by_ref().take(3) {
        proven(&cluster, sequence).await;
        eventually("its peers cosign", PATIENCE, async || cosigned(&cluster, "supervisor-1")).await;
        cosigned(&cluster, NODE).expect_err("a sealed node cosigned");
    }
    eventually("it follows the log", PATIENCE, async || {
        let status = cluster.status(NODE).await;
        if status.log_size > before.log_size { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!(cluster.status(NODE).await.identity, before.identity, "who it is, is no secret");
    assert!(!cluster.log("coordinator").contains("did not take a head"), "{}", cluster.log("coordinator"));

    unseal(&cluster, NODE).await;
    until_cosigned(&cluster, NODE, &mut sequences).await;
    if nix::unistd::geteuid().is_root() {
        let (locked, elsewhere) = found(pid, &secret);
        assert!(locked > 0 && elsewhere.is_empty(), "{locked} {elsewhere:?}");
    }
}

/// Signs releases until the node cosigned the head of one: a quorum waits for the others for a moment only.
async fn until_cosigned(cluster: &Cluster, node: &str, sequences: &mut std::ops::RangeFrom<u64>) {
    eventually(&format!("{node} cosigns"), SOON, async || {
        proven(cluster, sequences.next().unwrap()).await;
        cosigned(cluster, node)
    })
    .await;
}

/// Signs a release, and waits until a quorum cosigned a head with it.
async fn proven(cluster: &Cluster, sequence: u64) {
    let release = sign(cluster, build("stable", sequence, 1), SOON).await;
    eventually("it is proven", SOON, async || {
        let release = get(cluster, &release.release_id).await;
        if release.proven_at == 0 { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// Whether a node cosigned the published head.
fn cosigned(cluster: &Cluster, node: &str) -> Result<(), String> {
    let note = fs::read_to_string(cluster.data("coordinator").join("log/checkpoint")).unwrap();
    if note.contains(&format!("/{node} ")) { Ok(()) } else { Err(note) }
}

/// A key that was put there as `openssl` makes it: the node does not start, says how to seal it, and does once that was done.
#[tokio::test(flavor = "multi_thread")]
async fn an_unsealed_identity_keeps_a_node_from_starting() {
    const NODE: &str = "vendor-2";
    let mut cluster = Cluster::start(Setup::default()).await;
    cluster.stop(NODE);
    let folder = cluster.node_folder(NODE);
    let path = folder.join("identity.age");
    let pem = seal::identity_pem(&folder, "");
    fs::write(&path, &pem).unwrap();
    cluster.start_party(NODE);
    let status = cluster.process(NODE).wait(PATIENCE).expect("it runs with an unsealed identity");
    assert!(!status.success());
    let said = cluster.process(NODE).last_lines(1);
    println!("{said}");
    assert!(said.contains(&format!("the identity key {} is not sealed; run: age -r age1", path.display())));
    assert!(!said.contains(pem.lines().nth(1).unwrap()), "{said}");
    seal_as_told(&said, &path, &pem);
    cluster.start_party(NODE);
    cluster.until_ready(NODE).await;
}

/// Runs the command in the error, or does what it would where there is no `age`.
fn seal_as_told(said: &str, path: &Path, pem: &str) {
    if Command::new("age").arg("--version").output().is_ok() {
        let (_, command) = said.split_once("run: ").unwrap();
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        return;
    }
    let recipient = said.split("age -r ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let recipient: age::x25519::Recipient = recipient.parse().unwrap();
    fs::write(path, age::encrypt(&recipient, pem.as_bytes()).unwrap()).unwrap();
}

async fn wrong_passphrases(cluster: &Cluster) {
    for wrong in ["", "seven mountains and a meado", "Seven mountains and a meadow"] {
        let request = v1::UnsealRequest { passphrase: wrong.into() };
        let status =
            refused(cluster.custodian("supervisor-1").await.unseal(request).await, Code::Unauthenticated);
        assert!(status.message().contains("passphrase"), "{status:?}");
        assert!(wrong.is_empty() || !status.message().contains(wrong), "the passphrase is in the error");
    }
}

async fn unseal(cluster: &Cluster, node: &str) {
    let request = v1::UnsealRequest { passphrase: PASSPHRASE.into() };
    let status = cluster.custodian(node).await.unseal(request).await.unwrap().into_inner();
    assert_eq!(status.state, "ready");
}
