//! A node whose age identity is encrypted with a passphrase.

use rutli_tests::{
    cluster::{Cluster, Setup},
    releases::{build, check, finished, sign},
};
use rutli_wire::v1;
use tonic::Code;

use super::{SOON, awaits, create, refused};

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
    unseal(&cluster).await;
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
    unseal(&cluster).await;
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

async fn wrong_passphrases(cluster: &Cluster) {
    for wrong in ["", "seven mountains and a meado", "Seven mountains and a meadow"] {
        let request = v1::UnsealRequest { passphrase: wrong.into() };
        let status =
            refused(cluster.custodian("supervisor-1").await.unseal(request).await, Code::Unauthenticated);
        assert!(status.message().contains("passphrase"), "{status:?}");
        assert!(wrong.is_empty() || !status.message().contains(wrong), "the passphrase is in the error");
    }
}

async fn unseal(cluster: &Cluster) {
    let request = v1::UnsealRequest { passphrase: PASSPHRASE.into() };
    let status = cluster.custodian("supervisor-1").await.unseal(request).await.unwrap().into_inner();
    assert_eq!(status.state, "ready");
}
