//! The pipeline's credentials are stolen: whoever has its certificate, all documents of earlier releases and keys of his own, but no key
//! of a builder, a rebuilder, a tester or a custodian, gets nothing signed. The nodes decide by the example rules as they are shipped.

use rutli_evidence::{APPROVAL_NAMESPACE, approval_text};
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_tests::{
    cluster::{Cluster, Setup, eventually},
    evidence::{BUILDER, REBUILDER, SOURCE, STRANGER, TESTER, built, signed, tested},
    examples::{self, CLARA, holders},
    releases::{build, database, finished},
};
use rutli_wire::{convert::release_from_content, v1};
use sha2::{Digest as _, Sha256};

use super::{SOON, create, get};

const BUILDER_ID: &str = "https://ci.vendor.example/builder";
const REBUILDER_ID: &str = "https://rebuild.supervisor.example";

/// As many databases as the supervisor's example permits within an hour.
const DATABASES_IN_HOUR: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_pipeline_gets_nothing_signed() {
    let cluster = Cluster::start(Setup::default()).await;
    take_example_rules(&cluster).await;
    let (id, release) = asked(&cluster, build("beta", 1, 2), &[]).await;
    waits(&cluster, &id, &["vendor/vendor-", "supervisor/supervisor-1"]).await;
    let genuine = documents(&id, &release);
    add(&cluster, &id, &genuine).await;
    assert_eq!(
        finished(cluster.channel("pipeline").await, &id, SOON).await.state(),
        v1::ReleaseState::Signed
    );

    let other = other_files_with_all_that_a_thief_has(&cluster, &genuine).await;
    databases(&cluster).await;

    // The very release that the thief asked for is signed as soon as those who may say so do.
    let content = content(&cluster, &other).await;
    add(&cluster, &other, &documents(&other, &content)).await;
    let ended = finished(cluster.channel("pipeline").await, &other, SOON).await;
    assert_eq!(ended.state(), v1::ReleaseState::Signed, "{:?}", ended.refusals);
    // Last, for the vendor's nodes permit it: its sequence goes up, and an earlier one would be refused from now on.
    the_same_files_once_more(&cluster, &genuine).await;
}

/// His own word under the right names, and every word of the right people about an earlier release, in another order.
async fn other_files_with_all_that_a_thief_has(cluster: &Cluster, genuine: &[Vec<u8>]) -> String {
    let (id, release) = asked(cluster, build("beta", 2, 2), &[]).await;
    let statement: [u8; 32] = Sha256::digest(release.statement()).into();
    let approval = approval_text(&ReleaseId::new(id.clone()).unwrap(), &statement);
    let mut words = vec![
        built(&release, STRANGER, BUILDER_ID, SOURCE),
        built(&release, STRANGER, REBUILDER_ID, SOURCE),
        tested(&release, STRANGER, &["unit"], &[]),
        signed(&approval, APPROVAL_NAMESPACE, STRANGER),
    ];
    words.extend(genuine.iter().rev().cloned());
    add(cluster, &id, &words).await;
    let wanted = ["vendor-builder", "vendor-tester", "supervisor-rebuilder", "clara"];
    waits(cluster, &id, &wanted).await;
    id
}

/// What builder, rebuilder and tester said of these files still holds; the approval was for the earlier statement alone.
async fn the_same_files_once_more(cluster: &Cluster, genuine: &[Vec<u8>]) {
    let mut again = build("beta", 3, 2);
    again.artifacts = build("beta", 1, 2).artifacts;
    let (id, _) = asked(cluster, again, genuine).await;
    let waiting = waits(cluster, &id, &["approval", "clara"]).await;
    assert!(!waiting.contains("vendor-builder") && !waiting.contains("rebuild by"), "{waiting}");
}

/// None without its own test result; and with the tester's key, too, only so many in an hour.
async fn databases(cluster: &Cluster) {
    let mut old = Vec::new();
    for sequence in 1..=DATABASES_IN_HOUR {
        let (id, release) = asked(cluster, database("stable", sequence, 3), &old).await;
        waits(cluster, &id, &["false-positives"]).await;
        let result = tested(&release, TESTER, &["false-positives"], &[]);
        add(cluster, &id, std::slice::from_ref(&result)).await;
        let ended = finished(cluster.channel("pipeline").await, &id, SOON).await;
        assert_eq!(ended.state(), v1::ReleaseState::Signed);
        old = vec![result];
    }
    let (id, release) = asked(cluster, database("stable", DATABASES_IN_HOUR + 1, 3), &[]).await;
    add(cluster, &id, &[tested(&release, TESTER, &["false-positives"], &[])]).await;
    waits(cluster, &id, &["supervisor/supervisor-1", "quieter hour"]).await;
}

/// Every word that the example policies ask for a build in `beta`, by those who may give it.
fn documents(id: &str, release: &VerifiedRelease) -> Vec<Vec<u8>> {
    let statement: [u8; 32] = Sha256::digest(release.statement()).into();
    let approval = approval_text(&ReleaseId::new(id.to_owned()).unwrap(), &statement);
    vec![
        built(release, BUILDER, BUILDER_ID, SOURCE),
        built(release, REBUILDER, REBUILDER_ID, SOURCE),
        tested(release, TESTER, &["unit"], &[]),
        signed(&approval, APPROVAL_NAMESPACE, CLARA),
    ]
}

async fn take_example_rules(cluster: &Cluster) {
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
async fn asked(
    cluster: &Cluster,
    request: v1::CreateReleaseRequest,
    evidence: &[Vec<u8>],
) -> (String, VerifiedRelease) {
    let evidence = evidence.iter().map(|document| document.clone().into()).collect();
    let id = create(cluster, v1::CreateReleaseRequest { evidence, ..request }).await;
    let content = content(cluster, &id).await;
    (id, content)
}

async fn content(cluster: &Cluster, id: &str) -> VerifiedRelease {
    release_from_content(get(cluster, id).await.content.unwrap()).unwrap()
}

/// Adds documents as the pipeline, for it is stolen.
async fn add(cluster: &Cluster, id: &str, documents: &[Vec<u8>]) {
    let evidence = documents.iter().map(|document| document.clone().into()).collect();
    let request = v1::AddEvidenceRequest { release_id: id.to_owned(), evidence };
    cluster.pipeline().await.add_evidence(request).await.unwrap();
}

/// Waits until a release waits for evidence with all of these words, and nothing of it is signed; gives what it waits for.
async fn waits(cluster: &Cluster, id: &str, words: &[&str]) -> String {
    eventually(&format!("{id} awaits evidence with {words:?}"), SOON, async || {
        let release = get(cluster, id).await;
        assert!(release.files.is_empty() && release.state() != v1::ReleaseState::Signed, "{release:?}");
        let text = release.waiting_for.join("; ");
        let is_there = release.state() == v1::ReleaseState::AwaitingEvidence;
        if is_there && words.iter().all(|word| text.contains(word)) { Ok(text) } else { Err(text) }
    })
    .await
}
