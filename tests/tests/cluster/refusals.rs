//! For each code with which a node refuses, and each state that it can be in, a real node over the real link that comes to
//! it. A new code without a scenario does not compile.
//!
//! An honest coordinator never causes most of them, so a compromised one does ([`rutli_tests::liar`]), with
//! the real one's certificate, address and log key. The real one causes the others, in the second half and in
//! `memory.rs`.

use std::{fs, path::PathBuf, process::Command};

use rutli_keys::{KeyName, RosterHash};
use rutli_log::{Hash, LogSigner, Origin};
use rutli_release::VerifiedRelease;
use rutli_tests::{
    cluster::{Cluster, Setup, eventually, process::program, seal},
    evidence::{ANNA, refusal, rules},
    liar::Liar,
    log::ScriptedLog,
    releases::{build, finished},
};
use rutli_wire::{
    link::{Batch, BatchReply, Condition, RefusalCode},
    v1,
};

use super::{SOON, batches::costly, create};

const NODE: &str = "vendor-1";

/// The rules of the node: `suite` is free, but for two channels.
const POLICY: &str = r#"
@id("open")
permit (principal, action == Action::"sign", resource)
when { resource.product == "suite" && resource.channel == "stable" };

@id("built")
permit (principal, action == Action::"sign", resource)
when { resource.product == "suite" && resource.channel == "beta" && context.builders.contains("ci") };

@id("one-an-hour")
permit (principal, action == Action::"sign", resource)
when { resource.product == "suite" && resource.channel == "slow" && context.releasesInHour <= 1 };
"#;

struct Stage {
    cluster: Cluster,
    liar: Liar,
    sequence: u64,
}

impl Stage {
    async fn new() -> Self {
        let mut cluster = Cluster::start(Setup::default()).await;
        for (name, content) in rules(&(POLICY.to_owned() + &costly("resource.channel == \"costly\""))) {
            fs::write(cluster.node_folder(NODE).join("policy").join(name), content).unwrap();
        }
        cluster.custodian(NODE).await.reload(v1::ReloadRequest {}).await.unwrap();
        let liar = Liar::before(&mut cluster, NODE).await;
        let mut stage = Self { cluster, liar, sequence: 10 };
        // Without this no refusal below means anything.
        stage.signs().await;
        stage
    }

    fn next(&mut self, channel: &str) -> VerifiedRelease {
        self.sequence += 1;
        self.liar.release(build(channel, self.sequence, 1), -5)
    }

    async fn honest(&mut self) -> Batch {
        let release = self.next("stable");
        self.liar.batch(&release).await
    }

    async fn signs(&mut self) {
        let batch = self.honest().await;
        let reply = self.liar.ask(&batch).await;
        assert!(reply.answer.as_ref().unwrap().iter().all(Result::is_ok), "{reply:?}");
    }

    /// The answer to an honest batch with one change.
    async fn changed(&mut self, change: impl FnOnce(&mut Batch, &ScriptedLog, u64)) -> BatchReply {
        let mut batch = self.honest().await;
        change(&mut batch, &self.liar.log, self.liar.size);
        self.liar.ask(&batch).await
    }

    async fn ask_for(&mut self, release: &VerifiedRelease) -> BatchReply {
        let batch = self.liar.batch(release).await;
        self.liar.ask(&batch).await
    }

    async fn restart(&mut self) {
        self.cluster.start_party(NODE);
        self.liar.attach().await;
    }

    async fn resume(&mut self, head: Option<rutli_log::Head>) {
        let request = head.map_or_else(v1::ResumeRequest::default, |head| v1::ResumeRequest {
            log_size: head.size,
            log_root: head.root.as_bytes().to_vec(),
        });
        self.cluster.custodian(NODE).await.resume(request).await.unwrap();
        self.liar.until("it is ready", |status| status.condition == Condition::Ready).await;
        // It keeps what its custodian vouched for.
        self.liar.size = self.cluster.status(NODE).await.log_size;
    }

    fn witness(&self) -> PathBuf {
        self.cluster.node_folder(NODE).join("witness/journal")
    }

    /// Brings the node to refuse with this code, and back.
    async fn refused_with(&mut self, code: RefusalCode) -> BatchReply {
        match code {
            RefusalCode::NotAllowed => {
                self.sequence += 1;
                let other = v1::CreateReleaseRequest {
                    product: "forbidden".into(),
                    ..build("stable", self.sequence, 1)
                };
                let release = self.liar.release(other, -5);
                self.ask_for(&release).await
            }
            RefusalCode::SequenceBehind => {
                let (earlier, later) = (self.next("stable"), self.next("stable"));
                self.ask_for(&later).await;
                self.ask_for(&earlier).await
            }
            RefusalCode::SequenceConflict => {
                let first = self.next("stable");
                self.ask_for(&first).await;
                let other = self.liar.release(build("stable", self.sequence, 2), -5);
                self.ask_for(&other).await
            }
            RefusalCode::SequenceStep => {
                // Above the mark of its channel by more than its custodian lets it go up at once.
                let release = self.liar.release(build("stable", self.sequence + 1_000_000, 1), -5);
                self.ask_for(&release).await
            }
            RefusalCode::OutOfTime => {
                self.sequence += 1;
                let release = self.liar.release(build("stable", self.sequence, 1), 200_000);
                self.ask_for(&release).await
            }
            RefusalCode::ClockDiffers => {
                self.sequence += 1;
                let release = self.liar.release(build("stable", self.sequence, 1), 3_600);
                self.ask_for(&release).await
            }
            RefusalCode::Paused => {
                let pause = v1::PauseRequest { reason: "audit".into() };
                self.cluster.custodian(NODE).await.pause(pause).await.unwrap();
                let reply = self.changed(|_, _, _| {}).await;
                self.resume(None).await;
                reply
            }
            RefusalCode::Sealed => {
                self.cluster.stop(NODE);
                let seal = self.cluster.node_folder(NODE).join("seal.txt");
                let plain = fs::read(&seal).unwrap();
                seal::encrypt(&seal, "a passphrase");
                self.restart().await;
                let reply = self.changed(|_, _, _| {}).await;
                self.cluster.stop(NODE);
                fs::write(&seal, plain).unwrap();
                self.restart().await;
                reply
            }
            RefusalCode::Closed => {
                self.cluster.stop(NODE);
                let (witness, away) = (self.witness(), self.witness().with_file_name("away"));
                fs::rename(&witness, &away).unwrap();
                self.restart().await;
                let reply = self.changed(|_, _, _| {}).await;
                self.cluster.stop(NODE);
                fs::rename(&away, &witness).unwrap();
                self.restart().await;
                self.resume(Some(self.liar.log.head_at(self.liar.log.size()))).await;
                reply
            }
            RefusalCode::UnknownKey => {
                self.changed(|batch, _, _| batch.key = KeyName::new("other").unwrap()).await
            }
            RefusalCode::WrongRoster => {
                self.changed(|batch, _, _| batch.roster = RosterHash::from_bytes([7; 32])).await
            }
            RefusalCode::WrongQuorum => {
                self.changed(|batch, _, _| {
                    batch.signers.truncate(1);
                    let item = &mut batch.items[0];
                    item.commitments.truncate(item.slots.len());
                })
                .await
            }
            RefusalCode::UnknownCommitment => {
                let batch = self.honest().await;
                let [_, again] = self.liar.ask_twice(&batch).await;
                again
            }
            RefusalCode::Malformed => self.liar.ask_malformed().await,
            RefusalCode::LogHeadMissing => self.changed(|batch, _, _| batch.head = None).await,
            RefusalCode::LogHeadUnsigned => {
                self.changed(|batch, log, _| {
                    let forger = LogSigner::from_bytes(log.key().origin().clone(), &[7; 32]);
                    batch.head.as_mut().unwrap().checkpoint = forger.sign(log.head_at(log.size())).to_note();
                })
                .await
            }
            RefusalCode::LogOrigin => {
                self.changed(|batch, log, _| {
                    let other = LogSigner::from_bytes(Origin::new("other.test/1").unwrap(), &[7; 32]);
                    batch.head.as_mut().unwrap().checkpoint = other.sign(log.head_at(log.size())).to_note();
                })
                .await
            }
            RefusalCode::LogBehind => {
                self.changed(|batch, log, size| batch.head = Some(log.head_between(size - 1, size - 1))).await
            }
            RefusalCode::LogGap => {
                self.changed(|batch, log, size| batch.head = Some(log.head_for(size - 1))).await
            }
            RefusalCode::LogInconsistent => {
                self.changed(|batch, log, size| {
                    let mut fork = log.fork(size - 1);
                    (0..3).for_each(|number| _ = fork.append_leaf(Hash([number; 32])));
                    batch.head = Some(fork.head_for(size));
                })
                .await
            }
            RefusalCode::LogForked => {
                let reply = self
                    .changed(|batch, log, size| {
                        let mut fork = log.fork(size - 1);
                        fork.append_leaf(Hash([7; 32]));
                        batch.head = Some(fork.head_for(size));
                    })
                    .await;
                assert_eq!(self.cluster.status(NODE).await.log_state, "forked");
                self.resume(None).await;
                reply
            }
            RefusalCode::LogCatchingUp => {
                self.cluster.stop(NODE);
                let config = self.cluster.config(NODE);
                let marked = Command::new(program("rutli-signer"))
                    .arg("--config")
                    .arg(config)
                    .arg("restored")
                    .output();
                assert!(marked.unwrap().status.success());
                self.restart().await;
                assert_eq!(self.cluster.status(NODE).await.log_state, "catching-up");
                let reply = self.changed(|_, _, _| {}).await;
                self.resume(Some(self.liar.log.head_at(self.liar.log.size()))).await;
                reply
            }
            RefusalCode::NotLogged => self.changed(|batch, _, _| batch.items[0].entry = None).await,
            RefusalCode::LogInclusion => {
                self.changed(|batch, _, _| {
                    batch.items[0].entry.as_mut().unwrap().proof[0] = Hash([7; 32]);
                })
                .await
            }
            RefusalCode::LogOtherEntry => {
                let other = self.honest().await;
                self.changed(|batch, log, _| {
                    let mut entry = other.items[0].entry.clone().unwrap();
                    entry.proof = log.prove(entry.index, log.size());
                    batch.items[0].entry = Some(entry);
                })
                .await
            }
            RefusalCode::LogTerms => {
                let release = self.next("stable");
                let terms = self.liar.terms(&release, -200_000);
                let batch = self.liar.batch_under(&release, &terms).await;
                self.liar.ask(&batch).await
            }
            RefusalCode::EvidenceMissing => {
                let release = self.next("beta");
                self.ask_for(&release).await
            }
            RefusalCode::NotYet => {
                // What was permitted before counts: the hour is full.
                let release = self.next("slow");
                self.ask_for(&release).await
            }
            RefusalCode::Undecided => {
                // More than can be decided in the time of a batch.
                let mut batch = self.honest().await;
                for _ in 0..30 {
                    let release = self.next("costly");
                    batch.items.extend(self.liar.batch(&release).await.items);
                }
                self.liar.log.complete(&mut batch, self.liar.size);
                let mut reply = self.liar.ask(&batch).await;
                reply.answer.iter_mut().for_each(|items| drop(items.drain(..items.len() - 1)));
                reply
            }
            RefusalCode::CustodianRefused => {
                self.changed(|batch, _, _| {
                    let document = refusal(&batch.items[0], ANNA);
                    batch.items[0].evidence = vec![document.into()];
                })
                .await
            }
        }
    }
}

/// Over the real link, by a coordinator that lies where an honest one would not do it: each code is brought about, and the
/// node signs again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn every_code_is_brought_about_at_a_real_node() {
    let mut stage = Stage::new().await;
    for (code, word) in RefusalCode::ALL {
        let reply = stage.refused_with(code).await;
        let found = match &reply.answer {
            Err(refusal) => Some(refusal),
            Ok(items) => items.iter().find_map(|item| item.as_ref().err()),
        };
        let found = found.unwrap_or_else(|| panic!("{word}: it signed: {reply:?}"));
        assert_eq!(found.code, code, "{word}: {found:?}");
        assert!(found.reason.len() > 10, "{word}: {found:?}");
        println!("{word}: {}", found.reason);
        stage.signs().await;
    }
}

/// Every state of a node, as its custodian and the coordinator see it.
#[tokio::test(flavor = "multi_thread")]
async fn every_state_of_a_node_is_shown_to_its_custodian_and_its_coordinator() {
    let mut cluster = Cluster::start(Setup::default()).await;
    for condition in [Condition::Ready, Condition::Paused, Condition::Sealed, Condition::Closed] {
        let (witness, seal) =
            (cluster.node_folder(NODE).join("witness/journal"), cluster.node_folder(NODE).join("seal.txt"));
        let plain = fs::read(&seal).unwrap();
        match condition {
            Condition::Ready => {}
            Condition::Paused => {
                let pause = v1::PauseRequest { reason: "audit".into() };
                cluster.custodian(NODE).await.pause(pause).await.unwrap();
            }
            Condition::Sealed => {
                cluster.stop(NODE);
                seal::encrypt(&seal, "a passphrase");
                cluster.start_party(NODE);
            }
            Condition::Closed => {
                cluster.stop(NODE);
                fs::remove_file(&witness).unwrap();
                cluster.start_party(NODE);
            }
        }
        let seen = cluster
            .until_node(NODE, condition.as_str(), |info| info.connected && info.state == condition.as_str())
            .await;
        let own = cluster.status(NODE).await;
        assert_eq!((own.state.as_str(), &own.reason), (condition.as_str(), &seen.reason));
        println!("{}: {}", seen.state, seen.reason);
        match condition {
            Condition::Ready => {}
            Condition::Paused => {
                _ = cluster.custodian(NODE).await.resume(v1::ResumeRequest::default()).await.unwrap();
            }
            Condition::Sealed => {
                let unseal = v1::UnsealRequest { passphrase: "a passphrase".into() };
                cluster.custodian(NODE).await.unseal(unseal).await.unwrap();
                fs::write(&seal, plain).unwrap();
            }
            Condition::Closed => {
                _ = cluster.custodian(NODE).await.resume(v1::ResumeRequest::default()).await.unwrap();
            }
        }
        // After the last it waits for its peers first.
        cluster.until_ready(NODE).await;
    }
}

/// What an honest coordinator brings about: the codes come to the one who asked.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_coordinator_tells_why_nodes_refuse() {
    let cluster = Cluster::start(Setup::default()).await;
    for node in cluster.nodes() {
        for (name, content) in rules(POLICY) {
            fs::write(cluster.node_folder(&node).join("policy").join(name), content).unwrap();
        }
        cluster.custodian(&node).await.reload(v1::ReloadRequest {}).await.unwrap();
    }
    let forbidden = v1::CreateReleaseRequest { product: "forbidden".into(), ..build("x", 1, 1) };
    let id = create(&cluster, forbidden).await;
    let release = finished(cluster.channel("pipeline").await, &id, SOON).await;
    assert_eq!(release.state(), v1::ReleaseState::Refused);
    assert!(release.refusals.iter().all(|refusal| refusal.code == "not-allowed"), "{release:?}");
    let waits = async |request: v1::CreateReleaseRequest, code: &str| {
        let id = create(&cluster, request).await;
        eventually(&format!("{id} waits: {code}"), SOON, async || {
            let release = super::get(&cluster, &id).await;
            let is_so = release.refusals.iter().any(|refusal| refusal.code == code);
            let waits = release.state() == v1::ReleaseState::AwaitingEvidence;
            if is_so && waits { Ok(()) } else { Err(format!("{:?} {:?}", release.state(), release.refusals)) }
        })
        .await;
    };
    waits(build("beta", 2, 1), "evidence-missing").await;
    let first = create(&cluster, build("stable", 3, 1)).await;
    finished(cluster.channel("pipeline").await, &first, SOON).await;
    waits(build("slow", 4, 1), "not-yet").await;
}
