//! A release that waits for a day, and everybody's process is another one by then. The clock is handed to the processes by libfaketime; the
//! files, the certificates and the test itself stay in the present.

use rutli_tests::{
    cluster::{Cluster, Setup, eventually, process::program},
    releases::{build, check, finished},
};
use rutli_wire::v1;

use super::{
    SOON,
    by_examples::{add, asked, documents, take_example_rules, waits, waits_without},
};

const HOUR: u64 = 3_600;

/// Asked at noon; built again in the evening; approved on the next day. Meanwhile everybody is stopped, killed and started again, and
/// nobody brings anything a second time. Another release, which nobody approves, expires at its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_waits_for_a_day_over_restarts_of_everybody_is_approved_and_signed() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let key = cluster.release_key().await;
    take_example_rules(&cluster).await;
    let forgotten = asked(&cluster, build("stable", 1, 2), &[]).await.0;
    let request = build("beta", 1, 2);
    let (id, content) = asked(&cluster, request.clone(), &[]).await;
    let documents = documents(&id, &content);
    let [provenance, rebuild, tests, approval] = &documents[..] else { panic!("four words") };
    add(&cluster, &id, &[provenance.clone(), tests.clone()]).await;
    waits(&cluster, &id, &["supervisor/supervisor-1", "supervisor-rebuilder", "clara"]).await;

    // The vendor's part of the newer one is done; a desk with room for one line names the older one.
    for (organisation, first) in [("vendor", &forgotten), ("supervisor", &id)] {
        eventually("the desk shows it", SOON, async || {
            let shown = pending(&cluster, organisation);
            if shown == std::slice::from_ref(first) { Ok(()) } else { Err(format!("{shown:?}")) }
        })
        .await;
    }

    later(&mut cluster, 7, Cluster::stop).await;
    waits_without(&cluster, &id, &["supervisor-rebuilder", "clara"], &["vendor-builder"]).await;
    add(&cluster, &id, std::slice::from_ref(rebuild)).await;
    waits(&cluster, &id, &["clara"]).await;

    later(&mut cluster, 25, Cluster::kill).await;
    waits_without(&cluster, &id, &["clara"], &["supervisor-rebuilder"]).await;
    add(&cluster, &id, std::slice::from_ref(approval)).await;
    let signed = finished(cluster.channel("pipeline").await, &id, SOON).await;
    check(&key, &request, &signed);
    let waited = signed.finished_at - signed.created_at;
    assert!((25 * HOUR..26 * HOUR).contains(&waited), "it was signed after {waited} seconds");
    assert_eq!(signed.evidence.len(), 4);

    // A week is what a release has, unless its request says less.
    later(&mut cluster, 167, Cluster::stop).await;
    waits(&cluster, &forgotten, &["clara"]).await;
    later(&mut cluster, 169, Cluster::stop).await;
    let expired = finished(cluster.channel("pipeline").await, &forgotten, SOON).await;
    assert_eq!(expired.state(), v1::ReleaseState::Expired);
}

/// Ends all processes, and starts them so many hours after the present.
async fn later(cluster: &mut Cluster, hours: u64, end: impl Fn(&mut Cluster, &str)) {
    let parties: Vec<String> = cluster.nodes().into_iter().chain(["coordinator".to_owned()]).collect();
    for party in &parties {
        end(cluster, party);
    }
    let shift = format!("+{hours}h");
    for party in &parties {
        // The dynamic linker puts in the machine's own folder for $LIB. Files keep their times, and waiting takes as long as ever.
        cluster.process(party).start_with(&[
            ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketime.so.1"),
            ("FAKETIME", &shift),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]);
    }
    cluster.ready().await;
}

/// The first release that waits for an organisation.
fn pending(cluster: &Cluster, organisation: &str) -> Vec<String> {
    let mut command = std::process::Command::new(program("rutli"));
    command.arg("--profile").arg(cluster.profile("custodian"));
    command.args(["--json", "pending", "--limit", "1", "--organisation", organisation]);
    let document: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let ids = document["releases"].as_array().unwrap().iter().map(|release| &release["release_id"]);
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}
