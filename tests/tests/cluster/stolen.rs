//! The pipeline's credentials are stolen: whoever has its certificate, all documents of earlier releases and keys of his own, but no key
//! of a builder, a rebuilder, a tester or a custodian, gets nothing signed. The nodes decide by the example rules as they are shipped.

use rutli_evidence::{APPROVAL_NAMESPACE, approval_text};
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_tests::{
    cluster::{Cluster, Setup},
    evidence::{BUILDER, SOURCE, STRANGER, TESTER, built, signed, tested},
    releases::{build, database, finished},
};
use rutli_wire::v1;
use sha2::{Digest as _, Sha256};

use super::{
    SOON,
    by_examples::{
        AV_BUILDER_ID, BUILDER_ID, REBUILDER_ID, add, asked, content, documents, take_example_rules, waits,
        waits_without,
    },
};

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
    waits_without(cluster, &id, &["approval", "clara"], &["vendor-builder", "rebuild by"]).await;
}

/// No database is signed without its own provenance and test result, or with another builder's; even with both keys, only so
/// many in an hour.
async fn databases(cluster: &Cluster) {
    let mut old = Vec::new();
    for sequence in 1..=DATABASES_IN_HOUR {
        let (id, release) = asked(cluster, database("stable", sequence, 3), &old).await;
        waits(cluster, &id, &["provenance", "false-positives"]).await;
        let own = database_evidence(&release);
        let of_suite = built(&release, BUILDER, BUILDER_ID, SOURCE);
        add(cluster, &id, &[own[1].clone(), of_suite]).await;
        waits_without(cluster, &id, &["provenance"], &["the passed test"]).await;
        add(cluster, &id, &own).await;
        let ended = finished(cluster.channel("pipeline").await, &id, SOON).await;
        assert_eq!(ended.state(), v1::ReleaseState::Signed);
        old = own;
    }
    let (id, release) = asked(cluster, database("stable", DATABASES_IN_HOUR + 1, 3), &[]).await;
    add(cluster, &id, &database_evidence(&release)).await;
    waits(cluster, &id, &["supervisor/supervisor-1", "quieter hour"]).await;
}

/// By the vendor's builder and tester.
fn database_evidence(release: &VerifiedRelease) -> Vec<Vec<u8>> {
    vec![built(release, BUILDER, AV_BUILDER_ID, SOURCE), tested(release, TESTER, &["false-positives"], &[])]
}
