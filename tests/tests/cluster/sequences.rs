//! Sequence numbers: a request takes nobody else's number, and anybody who asks for the next one gets it.

use std::{
    fs,
    process::{Command, Output},
    sync::Arc,
};

use rutli::releases::follow;
use rutli_tests::{
    cluster::{Cluster, Setup, process::program},
    releases::{build, finished, sign},
};
use rutli_wire::v1;
use tokio::sync::Semaphore;
use tonic::Code;

use super::{
    SOON,
    by_examples::{add, asked, documents, take_example_rules, waits},
    create, reason, refused,
};

const LAST: u64 = (1 << 53) - 1;

/// A certificate that no node permits anything asks for the last numbers that there are, over and over: the honest pipeline's
/// next release is signed all the same.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_channels_numbers_by_asking() {
    let mut cluster = Cluster::start(Setup::default()).await;
    only_the_first_pipeline(&cluster).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    let mut thief = rutli::client::releases(cluster.channel("pipeline-2").await);
    for (attempt, sequence) in [LAST, LAST, LAST - 1, 1_001].into_iter().enumerate() {
        let mut asked = build("stable", sequence, 1);
        asked.request_id = format!("thief-{attempt}");
        let id = thief.create_release(asked).await.unwrap().into_inner().release_id;
        let next = u64::try_from(attempt).unwrap() + 2;
        sign(&cluster, build("stable", next, 1), SOON).await;
        let ended = finished(cluster.channel("pipeline-2").await, &id, SOON).await;
        assert_eq!(ended.state(), v1::ReleaseState::Refused, "{ended:?}");
    }
    cluster.kill("coordinator");
    cluster.start_party("coordinator");
    sign(&cluster, build("stable", 6, 1), SOON).await;
    // A database's number raises no build's, nor the other way round.
    let mut database = build("stable", 900, 1);
    database.release_class = v1::ReleaseClass::AvDatabase.into();
    database.request_id = "database".into();
    permit(&cluster, "@id(\"all\") permit (principal, action == Action::\"sign\", resource);").await;
    sign(&cluster, database, SOON).await;
    sign(&cluster, build("stable", 7, 1), SOON).await;
}

/// Somebody with a certificate that is permitted everything, or a coordinator in other hands, does not get far either: a node's step is
/// its custodian's.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_no_further_than_its_custodian_says() {
    let mut cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
    let id = create(&cluster, build("stable", 1_002, 1)).await;
    let ended = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(ended.state(), v1::ReleaseState::Refused);
    assert!(ended.refusals.iter().all(|refusal| refusal.code == "sequence-step"), "{ended:?}");
    assert!(ended.refusals.iter().all(|refusal| refusal.reason.contains("up to 100")), "{ended:?}");
    // What was refused has used no number.
    sign(&cluster, build("stable", 2, 1), SOON).await;
    for node in cluster.nodes() {
        let path = cluster.config(&node);
        let text = fs::read_to_string(&path).unwrap();
        let first = "[[first]]\nclass = \"product-build\"\nproduct = \"suite\"\nchannel = \"stable\"\nsequence = 20260000\n";
        fs::write(&path, format!("max_step = 5\n{text}\n{first}")).unwrap();
        cluster.stop(&node);
        cluster.start_party(&node);
    }
    cluster.ready().await;
    let far = create(&cluster, build("stable", 20_260_006, 1)).await;
    let ended = finished(cluster.channel("pipeline").await, &far, SOON).await;
    assert_eq!(ended.state(), v1::ReleaseState::Refused, "{ended:?}");
    sign(&cluster, build("stable", 20_260_005, 1), SOON).await;
}

/// What waits reserves nothing: two wait under one number, a third one under it is signed, and both are overtaken, in the log too.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_overtaken() {
    let cluster = Cluster::start(Setup::default()).await;
    take_example_rules(&cluster).await;
    let under = |name: &str| v1::CreateReleaseRequest { request_id: name.into(), ..build("beta", 5, 2) };
    let mut waiting = Vec::new();
    for name in ["one", "two"] {
        let (id, _) = asked(&cluster, under(name), &[]).await;
        waits(&cluster, &id, &["vendor/vendor-", "supervisor/supervisor-1"]).await;
        waiting.push(id);
    }
    let (first, content) = asked(&cluster, under("three"), &[]).await;
    let channel = cluster.channel("pipeline").await;
    let seen = Arc::new(Semaphore::new(0));
    let watch = |id: &String| {
        let (channel, id, seen) = (channel.clone(), id.clone(), Arc::clone(&seen));
        async move {
            let mut told = false;
            let on_change = |_: &v1::Release| {
                if !std::mem::replace(&mut told, true) {
                    seen.add_permits(1);
                }
            };
            follow(channel, &id, on_change).await.unwrap_or_else(|why| panic!("{why}"))
        }
    };
    let watched = tokio::spawn(futures::future::join_all(waiting.iter().map(watch)));
    let both = u32::try_from(waiting.len()).unwrap();
    tokio::time::timeout(SOON, seen.acquire_many(both)).await.unwrap().unwrap().forget();
    add(&cluster, &first, &documents(&first, &content)).await;
    let ended = finished(cluster.channel("pipeline").await, &first, SOON).await;
    assert_eq!(ended.state(), v1::ReleaseState::Signed, "{ended:?}");
    let watched = tokio::time::timeout(SOON, watched).await.unwrap().unwrap();
    let read = futures::future::join_all(waiting.iter().map(|id| finished(channel.clone(), id, SOON))).await;
    for ended in watched.into_iter().chain(read) {
        assert_eq!((ended.state(), ended.overtaken_by), (v1::ReleaseState::Overtaken, 5));
    }
    let status =
        refused(cluster.pipeline().await.create_release(under("four")).await, Code::FailedPrecondition);
    assert_eq!(reason(&status), "SEQUENCE_BEHIND");
}

/// `rutli sign --sequence next`: the number is in the request; running it again comes to the same release; two at a time get two numbers.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_number_is_named_and_asked_for_again_if_another_was_first() {
    let cluster = Cluster::start(Setup::default()).await;
    sign(&cluster, build("stable", 41, 1), SOON).await;
    let folder = cluster.folder().join("next");
    fs::create_dir(&folder).unwrap();
    let profile = cluster.profile("pipeline");
    let run = |name: &'static str, text: &'static str| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        let mut command = Command::new(program("rutli"));
        command.arg("--profile").arg(&profile).args(["--json", "sign"]);
        command.args(["--class", "product-build", "--product", "suite", "--channel", "stable"]);
        command.args(["--version", name, "--sequence", "next", "--proof-timeout", "0", "--out"]);
        command.arg(folder.join("out")).arg(&file);
        async { tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap() }
    };
    let sequence = |output: Output| -> u64 {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["sequence"].as_u64().unwrap()
    };
    assert_eq!(sequence(run("1.0", "one").await), 42);
    assert_eq!(sequence(run("1.0", "one").await), 42, "the same again is the same release");
    let all = futures::future::join_all(
        [("1.1", "a"), ("1.2", "b"), ("1.3", "c")].map(|(name, text)| run(name, text)),
    );
    let mut all: Vec<u64> = all.await.into_iter().map(sequence).collect();
    all.sort_unstable();
    all.dedup();
    assert!(all.len() == 3 && all[0] > 42, "{all:?}");
}

/// Nodes permit what the pipeline `pipeline` asks for, and nothing else.
async fn only_the_first_pipeline(cluster: &Cluster) {
    permit(
        cluster,
        "@id(\"first\") permit (principal, action == Action::\"sign\", resource) when { principal == Requester::\"pipeline\" };",
    )
    .await;
}

/// All nodes decide by this policy from now on.
async fn permit(cluster: &Cluster, cedar: &str) {
    for node in cluster.nodes() {
        let folder = cluster.node_folder(&node).join("policy");
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "cedar") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::write(folder.join("policy.cedar"), cedar).unwrap();
        let mut custodian = cluster.custodian(&node).await;
        let status = custodian.reload(v1::ReloadRequest {}).await.unwrap().into_inner();
        assert_eq!(status.policy.unwrap().problem, "");
    }
}
