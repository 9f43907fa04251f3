//! A pipeline's certificate was stolen, together with the genuine evidence of every earlier release. No file
//! is signed that nobody has built, rebuilt and tested, whatever the request says. Claims that a pipeline may
//! make are signed, and nothing else.

use rutli::releases::is_final;
use rutli_release::VerifiedRelease;
use rutli_wire::{convert::release_from_content, v1};
use tonic::Status;

use super::{
    Row, Scale,
    starve::{create, take_policy},
};
use crate::{
    cluster::{Cluster, PATIENCE, Setup, eventually, repeated},
    evidence::{SOURCE, STRANGER, TESTER, built, provenance, rebuild, tested},
    releases::{artifact, build, check, finished},
};

const POLICY: &str = r#"
@id("audited") permit (principal, action == Action::"sign", resource) when {
    resource.product == "suite" && context.builders.contains("ci") && context.rebuilders.contains("rebuild") &&
    context.testsPassed.contains("unit")
};
"#;

/// What is done to the request of an earlier release.
type Change = fn(&mut v1::CreateReleaseRequest);

/// What has to come of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// The pipeline may say so: it is signed, and the signatures are over the genuine files.
    Claimed,
    /// Nothing is signed.
    Nothing,
}

struct Stage {
    cluster: Cluster,
    /// Requests that were signed, and the documents about them.
    earlier: Vec<(v1::CreateReleaseRequest, Vec<Vec<u8>>)>,
    sequence: u64,
}

/// Every field of a request changed after its evidence was made; and evidence of earlier releases in all
/// manners.
pub async fn thefts(_scale: Scale) -> Vec<Row> {
    let cluster = Cluster::start(Setup { log: "warn", ..Setup::default() }).await;
    take_policy(&cluster, POLICY).await;
    let mut stage = Stage { cluster, earlier: Vec::new(), sequence: 0 };
    for _ in 0..2 {
        stage.genuine().await;
    }
    let mut rows = stage.fields().await;
    rows.extend(stage.other_files().await);
    rows
}

impl Stage {
    /// A release with everything that the policy asks for.
    async fn genuine(&mut self) {
        self.sequence += 1;
        let request = build("beta", self.sequence, 2);
        let release = self.ask(request.clone(), &[]).await.unwrap();
        let documents = documents(&content(&release));
        self.add(&release.release_id, &documents).await;
        let pipeline = self.cluster.channel("pipeline").await;
        let ended = finished(pipeline, &release.release_id, PATIENCE).await;
        check(&self.cluster.release_key().await, &request, &ended);
        self.earlier.push((request, documents));
    }

    async fn ask(
        &self,
        request: v1::CreateReleaseRequest,
        documents: &[Vec<u8>],
    ) -> Result<v1::Release, Status> {
        let evidence = documents.iter().map(|document| document.clone().into()).collect();
        create(&self.cluster, v1::CreateReleaseRequest { evidence, ..request }).await
    }

    async fn add(&self, id: &str, documents: &[Vec<u8>]) {
        let evidence = documents.iter().map(|document| document.clone().into()).collect();
        let request = v1::AddEvidenceRequest { release_id: id.to_owned(), evidence };
        let added = repeated(async || self.cluster.pipeline().await.add_evidence(request.clone()).await);
        added.await.unwrap();
    }

    /// Waits until it is signed, refused, or waits for evidence that does not come.
    async fn end(&self, id: &str) -> v1::Release {
        let is_end = |release: &v1::Release| {
            is_final(release.state) || release.state() == v1::ReleaseState::AwaitingEvidence
        };
        self.until(&format!("something comes of {id}"), id, is_end).await
    }

    async fn until(&self, what: &str, id: &str, like: impl Fn(&v1::Release) -> bool) -> v1::Release {
        let request = v1::GetReleaseRequest { release_id: id.to_owned() };
        eventually(what, PATIENCE, async || {
            let answered = self.cluster.pipeline().await.get_release(request.clone()).await;
            let release = answered.map_err(|status| status.to_string())?.into_inner();
            if like(&release) {
                Ok(release)
            } else {
                Err(format!("{:?} {:?}", release.state(), release.waiting_for))
            }
        })
        .await
    }

    /// Asks for it with these documents and looks what comes of it.
    async fn attempt(
        &mut self,
        what: &str,
        request: v1::CreateReleaseRequest,
        documents: &[Vec<u8>],
        right: Right,
    ) -> Row {
        let mut holes = Vec::new();
        let came = match self.ask(request.clone(), documents).await {
            Err(status) => {
                let came = format!("{:?}: {}", status.code(), status.message());
                if right == Right::Claimed {
                    holes.push(format!("the control is not admitted: {came}"));
                }
                came
            }
            Ok(v1::Release { release_id: id, .. }) => {
                let ended = self.end(&id).await;
                match (right, ended.state()) {
                    (Right::Nothing, v1::ReleaseState::Signed) => holes.push(format!("{id} is signed")),
                    (Right::Claimed, v1::ReleaseState::Signed) => {
                        check(&self.cluster.release_key().await, &request, &ended);
                    }
                    (Right::Claimed, _) => holes.push(format!(
                        "the control is not signed: {:?} {:?} {:?}",
                        ended.state(),
                        ended.waiting_for,
                        ended.refusals
                    )),
                    _ => {}
                }
                if ended.state() != v1::ReleaseState::Signed {
                    // Out of the way of the next.
                    let request = v1::CancelReleaseRequest { release_id: id };
                    let cancelled = repeated(async || {
                        self.cluster.pipeline().await.cancel_release(request.clone()).await
                    });
                    let _ = cancelled.await;
                }
                format!("{:?}", ended.state())
            }
        };
        Row { attack: "a stolen pipeline".into(), tried: what.into(), came, figures: String::new(), holes }
    }

    /// The first release's request once more, as new as a pipeline can make it, with one change.
    fn again(&mut self) -> v1::CreateReleaseRequest {
        self.sequence += 1;
        let (request, _) = &self.earlier[0];
        v1::CreateReleaseRequest {
            request_id: format!("again-{}", self.sequence),
            version: format!("2.0.{}", self.sequence),
            sequence: self.sequence,
            ..request.clone()
        }
    }

    async fn fields(&mut self) -> Vec<Row> {
        let documents = self.earlier[0].1.clone();
        let mut changes: Vec<(&str, Right, Change)> = Vec::new();
        let mut change = |what, right, change: Change| {
            changes.push((what, right, change));
        };
        // Whoever adds a field adds a line: without it this does not compile.
        let v1::CreateReleaseRequest {
            request_id: _,
            release_class: _,
            product: _,
            channel: _,
            version: _,
            sequence: _,
            expires_at: _,
            artifacts: _,
            formats: _,
            embargo_until: _,
            evidence: _,
        } = self.earlier[0].0.clone();
        let v1::Artifact { name: _, sha256: _ } = self.earlier[0].0.artifacts[0].clone();
        change("request_id, version, sequence", Right::Claimed, |_| ());
        change("product", Right::Nothing, |request| request.product = "suite-2".into());
        change("channel", Right::Claimed, |request| request.channel = "gamma".into());
        change("expires_at", Right::Claimed, |request| request.expires_at = 4_000_000_000);
        change("formats", Right::Claimed, |request| request.formats = vec![v1::SignatureFormat::Dsse.into()]);
        change("embargo_until", Right::Claimed, |request| {
            request.embargo_until = rutli::clock::unix_now() + 3_600
        });
        change("artifacts: one less", Right::Claimed, |request| _ = request.artifacts.pop());
        change("artifacts: one more", Right::Nothing, |request| {
            request.artifacts.push(artifact("lib/evil.so", b"evil"))
        });
        change("artifacts: their names exchanged", Right::Nothing, |request| {
            let [first, second] = &mut request.artifacts[..] else { panic!() };
            std::mem::swap(&mut first.name, &mut second.name);
        });
        change("artifact.name", Right::Nothing, |request| request.artifacts[1].name = "lib/other.so".into());
        change("artifact.sha256", Right::Nothing, |request| request.artifacts[1].sha256 = evil().sha256);
        let mut rows = Vec::new();
        for (what, right, change) in changes {
            let mut request = self.again();
            change(&mut request);
            rows.push(
                self.attempt(&format!("{what} changed after the evidence"), request, &documents, right).await,
            );
        }
        rows
    }

    /// Evil files, with all that a thief has.
    async fn other_files(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        let all: Vec<Vec<u8>> = self.earlier.iter().flat_map(|(_, documents)| documents.clone()).collect();
        let mut request = self.again();
        request.artifacts =
            vec![artifact("lib/suite-0.so", b"evil"), artifact("lib/suite-1.so", b"evil too")];
        rows.push(self.attempt("evil files with all earlier evidence", request, &all, Right::Nothing).await);
        let mut request = self.again();
        request.artifacts[1] = self.earlier[1].0.artifacts[1].clone();
        rows.push(self.attempt("one file of each of two releases", request, &all, Right::Nothing).await);
        let mut reversed = all.clone();
        reversed.reverse();
        let mut request = self.again();
        request.artifacts[0] = artifact("lib/suite-0.so", b"evil");
        rows.push(
            self.attempt("one evil file, evidence in another order", request, &reversed, Right::Nothing)
                .await,
        );
        let request = self.again();
        rows.push(self.attempt("genuine files without evidence", request, &[], Right::Nothing).await);
        // What the thief can make itself, under the right names.
        let mut request = self.again();
        request.artifacts[0] = artifact("lib/suite-0.so", b"evil");
        let release = self.ask(request.clone(), &[]).await.unwrap();
        let content = content(&release);
        let forged = [
            built(&content, STRANGER, "https://ci.example", SOURCE),
            built(&content, STRANGER, "https://rebuild.example", SOURCE),
            tested(&content, STRANGER, &["unit"], &[]),
        ];
        self.add(&release.release_id, &forged).await;
        // Until then it waits as it did without them.
        let are_seen = |release: &v1::Release| {
            is_final(release.state) || release.waiting_for.iter().any(|line| line.contains("not counted"))
        };
        self.until("the stranger's evidence is looked at", &release.release_id, are_seen).await;
        let row =
            self.attempt("an evil file with evidence by a stranger", request, &[], Right::Nothing).await;
        rows.push(row);
        rows
    }
}

fn evil() -> v1::Artifact {
    artifact("lib/suite-1.so", b"evil")
}

fn content(release: &v1::Release) -> VerifiedRelease {
    release_from_content(release.content.clone().unwrap()).unwrap()
}

fn documents(release: &VerifiedRelease) -> Vec<Vec<u8>> {
    vec![
        provenance(release, crate::evidence::BUILDER),
        rebuild(release),
        tested(release, TESTER, &["unit"], &[]),
    ]
}
