//! Rounds with scripted nodes: what is published, what is proved, and what comes later.

use std::path::Path;

use rutli_log::{
    entry::OutcomeState,
    sigstore::{TrustedRoot, bundle},
};

use rutli_release::ReleaseId;
use rutli_wire::link::KeptLog;

use super::*;
use crate::testing::{
    NOW, PATIENCE, StillClock, eventually, eventually_some, log_signer,
    nodes::{Conduct, Core, sigstore},
    request,
};

/// A coordinator with all its nodes.
async fn attended() -> (tempfile::TempDir, Core, Publisher, Vec<Arc<crate::testing::nodes::Node>>) {
    let folder = tempfile::tempdir().unwrap();
    let (core, publisher) = Core::open(folder.path()).await.unwrap();
    let nodes = core.attach_all().await;
    (folder, core, publisher, nodes)
}

fn ssh_only(request_id: &str, sequence: u64) -> v1::CreateReleaseRequest {
    let formats = vec![v1::SignatureFormat::Sshsig.into()];
    v1::CreateReleaseRequest { formats, ..request(request_id, sequence) }
}

async fn signed(core: &Core, message: v1::CreateReleaseRequest) -> v1::Release {
    let id = core.ask(message).await.unwrap().release_id;
    let ended = core.ended(&id).await;
    assert_eq!(ended.state(), v1::ReleaseState::Signed);
    ended
}

/// Another coordinator over the same data, once the first is gone.
async fn restarted(data_dir: &Path, before: (Core, Publisher)) -> (Core, Publisher) {
    drop(before);
    eventually_some("the store is free", async || match Core::open(data_dir).await {
        Err(error) if error.to_string().contains("another coordinator") => None,
        opened => Some(opened.unwrap()),
    })
    .await
}

fn published(core: &Core, data_dir: &Path) -> (SignedCheckpoint, Vec<String>) {
    let note = std::fs::read_to_string(data_dir.join("log/checkpoint")).unwrap();
    let checkpoint = core.store.log().key().open(&note).unwrap();
    let cosigners = core.keyring.cosigners();
    let by = cosigners.iter().filter(|(_, cosigner)| checkpoint.cosignature(cosigner).unwrap().is_some());
    let by = by.map(|(node, _)| node.to_string()).collect();
    (checkpoint, by)
}

fn file<'a>(release: &'a v1::Release, end: &str) -> &'a [u8] {
    &release.files.iter().find(|file| file.name == format!("{}.{end}", release.release_id)).unwrap().data
}

/// Waits until something is so, long before a log at rest is published again.
async fn soon(what: &str, is_so: impl AsyncFn() -> bool) {
    let patience = Duration::from_millis(limits::LOG_IDLE_MS - 10_000);
    tokio::time::timeout(patience, eventually(what, is_so)).await.expect(what);
}

/// The proof file holds for what it proves, under the policy of the deployment.
fn assert_proof(core: &Core, release: &v1::Release, entry: Option<&[u8]>) -> Entry {
    let text = std::str::from_utf8(file(release, "tlog-proof")).unwrap();
    let proof = ProofFile::parse(text).unwrap();
    let entry = entry.or(proof.extra.as_deref()).unwrap();
    let (_, witnesses) = proof.verify(entry, &core.policy()).unwrap();
    assert!(witnesses.len() >= 3, "{witnesses:?}");
    Entry::parse(entry).unwrap()
}

#[tokio::test]
async fn a_round_writes_publishes_and_proves() {
    let (folder, core, mut publisher, _nodes) = attended().await;
    let before = signed(&core, request("job-1", 1)).await;
    assert_eq!((before.proven_at, before.log_index), (0, 1));
    let names = |release: &v1::Release| {
        release.files.iter().map(|file| file.name.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    // Nobody is waited for who has answered.
    let still = StillClock::new();
    assert!(!publisher.round().await.unwrap(), "nothing is left to wait for");
    drop(still);

    let (checkpoint, cosigners) = published(&core, folder.path());
    assert_eq!(checkpoint.head(), core.store.log().newest().head());
    assert_eq!(
        cosigners,
        ["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-2", "vendor/vendor-3"]
    );
    assert_eq!(core.store.log().backlog(), 0);
    assert!(core.store.staged(0, u64::MAX).await.unwrap().entries.is_empty());
    for document in ["statement", "roster"] {
        let bytes = match document {
            "roster" => core.roster.encode(),
            _ => core
                .store
                .release(&ReleaseId::new(before.release_id.as_str()).unwrap())
                .await
                .unwrap()
                .map(|stored| {
                    rutli_wire::convert::release_from_content(stored.message.content.unwrap())
                        .unwrap()
                        .statement()
                })
                .unwrap(),
        };
        let name = rutli_log::tile::document_path(&rutli_log::sha256(&bytes));
        assert_eq!(std::fs::read(folder.path().join("log").join(name)).unwrap(), bytes, "{document}");
    }

    let proven = core.stored(&before.release_id).await;
    assert_eq!(proven.proven_at, NOW);
    let new: Vec<_> = names(&proven).difference(&names(&before)).cloned().collect();
    let id = &before.release_id;
    assert_eq!(new, [format!("{id}.sigstore.json"), format!("{id}.tlog-proof")]);
    let key = core.keyring.release_key(core.roster.roster().key()).unwrap();
    let root = TrustedRoot::of(sigstore().public().unwrap());
    let bundle = bundle::verify(file(&proven, "sigstore.json"), &key, Some("release"), &root).unwrap();
    assert_eq!((bundle.index, bundle.time, bundle.head), (3, NOW, checkpoint.head()));
    let entry = assert_proof(&core, &proven, Some(&bundle.entry));
    assert!(matches!(entry, Entry::Dsse(_)));
    // Proved once: another round leaves it.
    signed(&core, request("job-2", 2)).await;
    publisher.round().await.unwrap();
    assert_eq!(core.stored(id).await.files, proven.files);
}

#[tokio::test]
async fn an_ssh_signature_is_proved_by_its_outcome() {
    let (_folder, core, mut publisher, _nodes) = attended().await;
    let id = signed(&core, ssh_only("job-1", 1)).await.release_id;
    publisher.round().await.unwrap();
    let proven = core.stored(&id).await;
    assert!(proven.files.iter().all(|file| !file.name.ends_with(".sigstore.json")));
    let Entry::Outcome(outcome) = assert_proof(&core, &proven, None) else { panic!("another entry") };
    assert_eq!((outcome.state, outcome.request), (OutcomeState::Signed, 1));
    assert_eq!(outcome.roster, Some(rutli_log::Hash(*core.roster.roster().hash().as_bytes())));
}

#[tokio::test]
async fn without_a_quorum_it_is_published_and_proved_later() {
    let (folder, core, mut publisher, nodes) = attended().await;
    let id = signed(&core, request("job-1", 1)).await.release_id;
    let mut told = core.waiting.unproven(&ReleaseId::new(id.as_str()).unwrap());
    // Two silent vendors and a supervisor that forges: neither organisation has its threshold.
    nodes[0].set(Conduct::Silent);
    nodes[1].set(Conduct::Silent);
    nodes[3].set(Conduct::Forges);
    assert!(publisher.round().await.unwrap(), "it waits for nodes");
    let (checkpoint, cosigners) = published(&core, folder.path());
    assert_eq!(checkpoint.head(), core.store.log().newest().head());
    assert_eq!(cosigners, ["vendor/vendor-3"], "what is forged or missing is left out");
    core.policy().check(&checkpoint.to_note()).unwrap_err();
    assert_eq!(core.stored(&id).await.proven_at, 0);
    // One organisation's threshold alone is none.
    nodes[0].set(Conduct::Honest);
    assert!(publisher.round().await.unwrap());
    assert_eq!(core.stored(&id).await.proven_at, 0);
    assert!(!told.has_changed().unwrap());

    nodes[3].set(Conduct::Honest);
    assert!(!publisher.round().await.unwrap());
    let (_, cosigners) = published(&core, folder.path());
    assert_eq!(cosigners, ["supervisor/supervisor-1", "vendor/vendor-1", "vendor/vendor-3"]);
    let proven = core.stored(&id).await;
    assert_eq!(proven.proven_at, NOW);
    told.changed().await.unwrap();
    nodes[3].set(Conduct::Silent);
    assert!(!publisher.round().await.unwrap(), "nothing waits for a proof");
}

#[tokio::test]
async fn a_node_that_lies_does_not_shorten_the_wait_for_one_that_is_far_away() {
    let (_folder, core, mut publisher, nodes) = attended().await;
    let id = signed(&core, request("job-1", 1)).await.release_id;
    nodes[0].set(Conduct::Forges);
    nodes[1].set(Conduct::Forges);
    nodes[2].set(Conduct::Slow);
    // Time passes only when nobody has anything else to do, however busy the machine is.
    tokio::time::pause();
    let (newest, asked) = core.sessions.cosign().await.unwrap();
    let (_, cosigners, is_quorum) = publisher.collect(newest, asked.len()).await;
    tokio::time::resume();
    let cosigners: Vec<_> = cosigners.iter().map(NodeId::to_string).collect();
    assert_eq!(cosigners, ["supervisor/supervisor-1", "vendor/vendor-3"]);
    assert!(!is_quorum, "one vendor node of the two that it takes");
    nodes[0].set(Conduct::Honest);
    nodes[2].set(Conduct::Honest);
    let still = StillClock::new();
    assert!(!publisher.round().await.unwrap());
    drop(still);
    assert_eq!(core.stored(&id).await.proven_at, NOW);
}

#[tokio::test]
async fn a_log_without_nodes_is_published_and_nodes_that_come_prove() {
    let folder = tempfile::tempdir().unwrap();
    let (core, mut publisher) = Core::open(folder.path()).await.unwrap();
    let it_waits_for_nobody = StillClock::new();
    assert!(!publisher.round().await.unwrap());
    drop(it_waits_for_nobody);
    assert_eq!(published(&core, folder.path()).1, Vec::<String>::new());
    let stop = CancellationToken::new();
    let running = tokio::spawn(publisher.run(stop.clone()));
    core.attach_all().await;
    // The rounds that their coming begins are over by then.
    tokio::time::sleep(Duration::from_millis(4 * limits::LOG_ROUND_MS)).await;
    let id = signed(&core, request("job-1", 1)).await.release_id;
    soon("the log's growth begins a round", async || core.stored(&id).await.proven_at != 0).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_node_that_attaches_begins_a_round() {
    let folder = tempfile::tempdir().unwrap();
    let (core, publisher) = Core::open(folder.path()).await.unwrap();
    tokio::spawn(publisher.run(CancellationToken::new()));
    let checkpoint = folder.path().join("log/checkpoint");
    eventually("a first round", async || checkpoint.exists()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    core.attach_all().await;
    soon("they cosign", async || !published(&core, folder.path()).1.is_empty()).await;
}

#[tokio::test]
async fn a_restored_node_gets_the_head_that_the_others_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let (core, mut publisher) = Core::open(folder.path()).await.unwrap();
    for name in ["vendor-1", "vendor-2", "supervisor-1"] {
        core.attach(name, Conduct::Honest).await;
    }
    let restored = core.attach("vendor-3", Conduct::Restored).await;
    publisher.round().await.unwrap();
    eventually("it has caught up", async || restored.size() != 0).await;
    let offered = restored.offered.lock().unwrap().clone();
    let (checkpoint, _) = published(&core, folder.path());
    assert_eq!(offered.last().unwrap().checkpoint, checkpoint.to_note(), "with all cosignatures");
    assert_eq!(restored.size(), checkpoint.head().size);
    publisher.round().await.unwrap();
    assert_eq!(published(&core, folder.path()).1.len(), 4, "then it is a cosigner again");
    let offered = restored.offered.lock().unwrap().len();
    publisher.round().await.unwrap();
    eventually("it is shown the head", async || restored.offered.lock().unwrap().len() > offered).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(restored.offered.lock().unwrap().len(), offered + 1, "nobody catches up any more");
}

#[tokio::test]
async fn under_embargo_the_log_has_no_reasons_and_no_statement() {
    let (folder, core, mut publisher, nodes) = attended().await;
    nodes[3].set(Conduct::Refuses);
    let hidden = v1::CreateReleaseRequest { embargo_until: NOW + 50, ..request("job-1", 1) };
    let hidden = core.ask(hidden).await.unwrap().release_id;
    let told = core.ended(&hidden).await;
    assert!(told.refusals[0].reason.contains(&hidden), "who asked is told: {:?}", told.refusals);
    let open = core.ask(request("job-2", 2)).await.unwrap().release_id;
    core.ended(&open).await;

    let staged = core.store.staged(0, u64::MAX).await.unwrap();
    let refusals: Vec<_> = staged
        .entries
        .iter()
        .filter_map(|entry| match Entry::parse(entry).unwrap() {
            Entry::Outcome(outcome) => Some(outcome.refusals),
            _ => None,
        })
        .collect();
    assert_eq!((refusals.len(), refusals[0].len()), (2, 1));
    assert_eq!((refusals[0][0].code.as_str(), refusals[0][0].reason.as_str()), ("not-allowed", ""));
    assert_eq!(refusals[1][0].reason, format!("{open} is not for us"));
    publisher.round().await.unwrap();
    let found = |text: &str| {
        let mut pending = vec![folder.path().join("log")];
        while let Some(path) = pending.pop() {
            if path.is_dir() {
                pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(text) {
                return true;
            }
        }
        false
    };
    assert!(found("\"1.2\""), "the version of the open one");
    assert!(!found("\"1.1\"") && !found(&hidden), "nothing names the hidden one");

    core.signing.disclose(&ReleaseId::new(hidden.as_str()).unwrap()).await.unwrap();
    core.signing.disclose(&ReleaseId::new(hidden.as_str()).unwrap()).await.unwrap();
    let size = core.store.log().newest().head().size;
    publisher.round().await.unwrap();
    assert!(found("\"1.1\"") && found(&hidden));
    assert_eq!(size, 6, "key, two requests, two outcomes, one disclosure");
}

#[tokio::test]
async fn a_folder_that_fails_loses_nothing() {
    let (folder, core, mut publisher, _nodes) = attended().await;
    let id = signed(&core, request("job-1", 1)).await.release_id;
    let log = folder.path().join("log");
    std::fs::write(log.join("tile"), "no folder").unwrap();
    publisher.round().await.unwrap_err();
    let size = core.store.log().newest().head().size;
    assert_eq!(core.store.log().backlog(), size);
    let second = signed(&core, request("job-2", 2)).await.release_id;
    publisher.round().await.unwrap_err();
    assert!(!log.join("checkpoint").exists(), "nothing is published that is not there");
    std::fs::remove_file(log.join("tile")).unwrap();
    assert!(!publisher.round().await.unwrap());
    for id in [id, second] {
        let proven = core.stored(&id).await;
        assert_eq!(proven.proven_at, NOW);
    }
    assert_eq!(core.store.log().backlog(), 0);
    assert_eq!(published(&core, folder.path()).0, {
        let mut newest = core.store.log().newest();
        for (node, cosignature) in core.store.log().collected() {
            newest.add_cosignature(&core.keyring.cosigners()[&node], &cosignature).unwrap();
        }
        newest
    });
}

#[tokio::test]
async fn what_was_written_and_not_unstaged_is_written_again() {
    let (folder, core, mut publisher, _nodes) = attended().await;
    signed(&core, request("job-1", 1)).await;
    // A crash, or a closed store, between the folder and the end of staging.
    let staged = core.store.staged(0, u64::MAX).await.unwrap();
    let head = core.store.log().newest().head();
    publisher
        .with_appender(move |appender| appender.append(&staged.entries, &staged.documents, head))
        .await
        .unwrap();
    signed(&core, request("job-2", 2)).await;
    assert!(!publisher.round().await.unwrap());
    let (checkpoint, _) = published(&core, folder.path());
    assert_eq!(checkpoint.head(), core.store.log().newest().head());
    let (again, mut publisher) = restarted(folder.path(), (core, publisher)).await;
    assert_eq!(again.store.log().newest().head(), checkpoint.head());
    assert!(!publisher.round().await.unwrap());
}

#[tokio::test]
async fn a_damaged_tile_proves_nothing_and_holds_up_nobody_else() {
    let (folder, core, mut publisher, nodes) = attended().await;
    nodes[3].set(Conduct::Silent);
    let early = signed(&core, ssh_only("job-1", 1)).await.release_id;
    for number in 0..300 {
        let node = NodeId::new("vendor", format!("n{number}")).unwrap();
        core.store.culprit(&node, Some(("x".into(), 1)), format!("{{}}{number}").into_bytes()).await.unwrap();
    }
    publisher.round().await.unwrap();
    let (core, mut publisher) = restarted(folder.path(), (core, publisher)).await;
    core.attach_all().await;
    let late = signed(&core, request("job-2", 2)).await.release_id;
    // The hash beside the early outcome, in a full tile that is not in memory after a restart.
    let tile = folder.path().join("log/tile/0/000");
    let whole = std::fs::read(&tile).unwrap();
    let mut damaged = whole.clone();
    damaged[32 * 100] ^= 1;
    std::fs::write(&tile, &damaged).unwrap();
    assert!(publisher.round().await.unwrap(), "it is tried again");
    assert_eq!(core.stored(&early).await.proven_at, 0, "no proof is stored that does not hold");
    assert_eq!(core.stored(&late).await.proven_at, NOW, "another release is proved");
    drop(nodes);
    std::fs::write(&tile, &whole).unwrap();
    let (core, mut publisher) = restarted(folder.path(), (core, publisher)).await;
    core.attach_all().await;
    assert!(!publisher.round().await.unwrap());
    let proven = core.stored(&early).await;
    assert_proof(&core, &proven, None);
}

#[tokio::test]
async fn many_signatures_are_proved_in_one_round() {
    let (_folder, core, mut publisher, nodes) = attended().await;
    let roster = rutli_log::Hash([0; 32]);
    // More than are proved at a time, ended by hand: the outcome is what is proved.
    let most = u64::try_from(limits::LOG_PROOFS_AT_ONCE).unwrap() + 3;
    let first = signed(&core, ssh_only("job-0", 1)).await;
    drop(nodes);
    let stored =
        core.store.release(&ReleaseId::new(first.release_id.as_str()).unwrap()).await.unwrap().unwrap();
    let release = rutli_wire::convert::release_from_content(stored.message.content.clone().unwrap()).unwrap();
    let mut outcome = rutli_log::entry::Outcome::new(1, &release, NOW);
    outcome.signed("release", roster, &[[1; 64]], std::iter::empty());
    for number in 2..=most {
        let product = rutli_release::Product::new(format!("p{number}")).unwrap();
        let version = rutli_release::Version::new("1").unwrap();
        let requester = rutli_release::Requester::new("ci").unwrap();
        let request_id = rutli_release::RequestId::new(format!("job-{number}")).unwrap();
        let new = crate::store::NewRelease {
            release_id: ReleaseId::for_request(&requester, &request_id, &product, &version),
            requester,
            request_id,
            request_digest: [1; 32],
            channel: rutli_release::ChannelKey {
                class: rutli_release::Class::ProductBuild,
                product,
                channel: rutli_release::Channel::new("stable").unwrap(),
            },
            sequence: rutli_release::Sequence::new(1).unwrap(),
            content: prost::Message::encode_to_vec(stored.message.content.as_ref().unwrap()),
            evidence: Vec::new(),
            signatures: 1,
            created_at: NOW,
            logged: crate::testing::new_logged(),
            charge: crate::testing::charge(NOW),
        };
        let crate::store::Admission::New(number, _) = core.store.admit(new, |_| {}).await.unwrap() else {
            panic!("known")
        };
        let message = v1::Release { state: v1::ReleaseState::Signed.into(), ..first.clone() };
        let entries = vec![Entry::Outcome(outcome.clone()).encode()];
        core.store.finish(Arc::new(crate::store::Ending::new(number, &message, entries))).await.unwrap();
    }
    assert_eq!(core.store.unproven(0, u64::MAX).await.unwrap().len(), 64);
    assert!(!publisher.round().await.unwrap());
    assert!(core.store.unproven(0, u64::MAX).await.unwrap().is_empty());
    let page = core.store.list(&crate::store::ReleaseFilter::default(), 200, |_| true).await.unwrap();
    assert!(page.releases.iter().all(|release| release.proven_at == NOW));
    assert_eq!(page.releases.len(), usize::try_from(most).unwrap());
}

#[tokio::test]
async fn a_quorum_is_a_threshold_of_every_organisation() {
    let folder = tempfile::tempdir().unwrap();
    let (core, _publisher) = Core::open(folder.path()).await.unwrap();
    let node = |name: &str| NodeId::new(name.split('-').next().unwrap(), name).unwrap();
    let quorum = |names: &[&str]| {
        is_quorum(core.roster.roster(), &names.iter().map(|name| node(name)).collect::<Vec<_>>())
    };
    assert!(quorum(&["vendor-1", "vendor-3", "supervisor-1"]));
    assert!(!quorum(&["vendor-1", "vendor-2", "vendor-3"]));
    assert!(!quorum(&["vendor-1", "supervisor-1"]));
    assert!(!quorum(&["vendor-1", "vendor-9", "supervisor-1"]));
}

#[tokio::test]
async fn a_round_waits_for_a_store_that_is_closed() {
    let (folder, core, mut publisher, _nodes) = attended().await;
    let id = signed(&core, request("job-1", 1)).await.release_id;
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(folder.path().join(crate::store::FILE_NAME));
    let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let mut set = async |note: String| {
        let set = sqlx::query("UPDATE log_head SET checkpoint = $1").bind(note);
        set.execute(&mut database).await.unwrap();
    };
    set("nothing".into()).await;
    let node = NodeId::new("vendor", "vendor-9").unwrap();
    let closed = core.store.culprit(&node, Some(("x".into(), 1)), b"{}".to_vec()).await;
    assert!(matches!(closed, Err(Error::StoreClosed { .. })));
    let round = tokio::spawn(async move { publisher.round().await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(!round.is_finished());
    set(core.store.log().newest().to_note()).await;
    assert!(!tokio::time::timeout(PATIENCE, round).await.unwrap().unwrap().unwrap());
    assert_eq!(core.stored(&id).await.proven_at, NOW);
    assert_eq!(core.store.log().backlog(), 0);
}

/// A store that is an old copy, and was written on before nodes were there: those remember another history. One node may have been
/// led astray; without the supervisor's, nothing is signed.
#[tokio::test]
async fn a_log_that_nodes_contradict_is_stopped() {
    let (_folder, core, mut publisher, nodes) = attended().await;
    signed(&core, request("job-1", 1)).await;
    let log = core.store.log();
    let size = log.newest().head().size;
    let other = log_signer().sign(Head { size, root: rutli_log::Hash([7; 32]) });
    let kept = KeptLog { size, checkpoint: other.to_note() };
    for (node, is_stopped) in [(&nodes[0], false), (&nodes[3], true)] {
        log.kept_by(&node.id, &kept);
        log.stop_if_contradicted(core.keyring.active().as_ref().map(|active| active.roster()));
        assert_eq!(log.stopped().is_some(), is_stopped, "{}", node.id);
    }
    let reason = log.stopped().unwrap();
    for word in ["is an old copy", "supervisor/supervisor-1", "restore the newest copies"] {
        assert!(reason.contains(word), "{reason}");
    }
    // Before anybody writes, and whatever the probes say.
    let closed = crate::store::Health::Closed(reason.clone());
    let mut health = core.store.health();
    tokio::time::timeout(PATIENCE, health.wait_for(|health| *health == closed)).await.unwrap().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(*health.borrow(), closed);
    let refused = core.ask(request("job-2", 2)).await.unwrap_err();
    assert!(matches!(&refused, Error::StoreClosed { reason: why } if *why == reason), "{refused}");
    assert_eq!(log.newest().head().size, size, "nothing is appended");
    nodes.iter().for_each(|node| node.offered.lock().unwrap().clear());
    assert!(!publisher.round().await.unwrap());
    assert!(nodes.iter().all(|node| node.offered.lock().unwrap().is_empty()), "nobody is asked to cosign it");
}
