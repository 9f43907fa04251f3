//! A whole deployment of real processes under faults: see each module. Needs the programs of the workspace beside it:
//! `cargo build --workspace --bins`, as `cargo xtask test` does.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod access;
mod approvals;
mod batches;
mod blame;
mod bounds;
mod by_examples;
mod ceremony;
mod crash;
mod day;
mod disk;
mod idempotency;
mod interop;
mod limits;
mod locked;
mod log;
mod memory;
mod python;
mod quorum;
mod refusals;
mod sealed;
mod secrets;
mod sequences;
mod stolen;

use std::time::Duration;

use rutli_tests::cluster::{Cluster, eventually, repeated};
use rutli_wire::v1;
use tonic::{Code, Status};

/// What a release may take on a machine that is busy with something else. Only a test that fails waits so long.
const SOON: Duration = Duration::from_secs(240);

/// A release as its pipeline sees it.
async fn get(cluster: &Cluster, release_id: &str) -> v1::Release {
    let request = v1::GetReleaseRequest { release_id: release_id.to_owned() };
    repeated(async || cluster.pipeline().await.get_release(request.clone()).await).await.unwrap()
}

/// Hands a request in; gives the release's id.
async fn create(cluster: &Cluster, request: v1::CreateReleaseRequest) -> String {
    let asked = repeated(async || cluster.pipeline().await.create_release(request.clone()).await);
    asked.await.unwrap().release_id
}

/// Waits until a release awaits its quorum with all of these words; gives it.
async fn awaits(cluster: &Cluster, release_id: &str, words: &[&str]) -> v1::Release {
    eventually(&format!("{release_id} awaits its quorum with {words:?}"), SOON, async || {
        let release = get(cluster, release_id).await;
        let text = release.waiting_for.join("; ");
        if release.state() == v1::ReleaseState::AwaitingQuorum && words.iter().all(|word| text.contains(word))
        {
            assert!(release.files.is_empty(), "files without a quorum: {release:?}");
            return Ok(release);
        }
        Err(format!("{:?} {:?}", release.state(), release.waiting_for))
    })
    .await
}

/// The stable reason in a status's details, for programs.
fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// An error with this code and a message for a person.
fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code) -> Status {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().len() > 10, "no message for a person: {status:?}");
    println!("refused: {:?} {}", status.code(), status.message());
    status
}
