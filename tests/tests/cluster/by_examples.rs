//! Nodes that decide by the example rules as they are shipped, and what is to be done to have a release signed by them.

use rutli_evidence::{APPROVAL_NAMESPACE, approval_text};
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_tests::{
    cluster::{Cluster, eventually, repeated},
    evidence::{BUILDER, REBUILDER, SOURCE, TESTER, built, signed, tested},
    examples::{self, CLARA, holders},
};
use rutli_wire::{convert::release_from_content, v1};
use sha2::{Digest as _, Sha256};

use super::{SOON, create, get};

/// The examples' builder.
pub(super) const BUILDER_ID: &str = "https://ci.vendor.example/builder";
/// The examples' builder of databases.
pub(super) const AV_BUILDER_ID: &str = "https://ci.vendor.example/avdb";
/// The examples' rebuilder.
pub(super) const REBUILDER_ID: &str = "https://rebuild.supervisor.example";

/// Every word that the example policies ask for a build in `beta`, by those who may give it.
pub(super) fn documents(id: &str, release: &VerifiedRelease) -> Vec<Vec<u8>> {
    let statement: [u8; 32] = Sha256::digest(release.statement()).into();
    let approval = approval_text(&ReleaseId::new(id.to_owned()).unwrap(), &statement);
    vec![
        built(release, BUILDER, BUILDER_ID, SOURCE),
        built(release, REBUILDER, REBUILDER_ID, SOURCE),
        tested(release, TESTER, &["unit"], &[]),
        signed(&approval, APPROVAL_NAMESPACE, CLARA),
    ]
}

pub(super) async fn take_example_rules(cluster: &Cluster) {
    for node in cluster.nodes() {
        let organisation = node.rsplit_once('-').unwrap().0;
        let folder = cluster.node_folder(&node).join("policy");
        for (name, content) in examples::rules(&format!("{organisation}-node"), &holders()) {
            std::fs::write(folder.join(name), content).unwrap();
        }
        let reloaded =
            cluster.custodian(&node).await.reload(v1::ReloadRequest {}).await.unwrap().into_inner();
        let policy = reloaded.policy.unwrap();
        assert_eq!(policy.problem, "");
        assert!(policy.policies.contains(&"avdb-tested".to_owned()), "{policy:?}");
    }
}

/// Asks as the pipeline, with documents; gives the release's id, and what nodes will see of it.
pub(super) async fn asked(
    cluster: &Cluster,
    request: v1::CreateReleaseRequest,
    evidence: &[Vec<u8>],
) -> (String, VerifiedRelease) {
    let evidence = evidence.iter().map(|document| document.clone().into()).collect();
    let id = create(cluster, v1::CreateReleaseRequest { evidence, ..request }).await;
    let content = content(cluster, &id).await;
    (id, content)
}

pub(super) async fn content(cluster: &Cluster, id: &str) -> VerifiedRelease {
    release_from_content(get(cluster, id).await.content.unwrap()).unwrap()
}

/// Adds documents as the pipeline, for it is stolen.
pub(super) async fn add(cluster: &Cluster, id: &str, documents: &[Vec<u8>]) {
    let evidence = documents.iter().map(|document| document.clone().into()).collect();
    let request = v1::AddEvidenceRequest { release_id: id.to_owned(), evidence };
    repeated(async || cluster.pipeline().await.add_evidence(request.clone()).await).await.unwrap();
}

/// Waits until a release waits for evidence with all of these words, and nothing of it is signed.
pub(super) async fn waits(cluster: &Cluster, id: &str, words: &[&str]) {
    waits_without(cluster, id, words, &[]).await;
}

/// The same, and with none of the others any more.
pub(super) async fn waits_without(cluster: &Cluster, id: &str, words: &[&str], over: &[&str]) {
    eventually(&format!("{id} awaits evidence with {words:?}, without {over:?}"), SOON, async || {
        let release = get(cluster, id).await;
        assert!(release.files.is_empty() && release.state() != v1::ReleaseState::Signed, "{release:?}");
        let text = release.waiting_for.join("; ");
        let is_there = release.state() == v1::ReleaseState::AwaitingEvidence
            && words.iter().all(|word| text.contains(word))
            && !over.iter().any(|word| text.contains(word));
        if is_there { Ok(()) } else { Err(format!("{:?} {text}", release.state())) }
    })
    .await;
}
