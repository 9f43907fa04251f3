//! Evidence from outside: who may bring and read it, and what is said to those who may not. No node has a key here, so
//! releases wait.

use prost::bytes::Bytes;
use rutli_log::sha256;
use rutli_wire::{limits as wire_limits, v1};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    limits,
    testing::{NOW, Running, attestation, request},
};

const PIPELINE: &str = "rutli:pipeline:ci";
const CUSTODIAN: &str = "rutli:custodian:clara";

type Client = v1::release_service_client::ReleaseServiceClient<Channel>;

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

fn add(id: &str, evidence: Vec<Bytes>) -> v1::AddEvidenceRequest {
    v1::AddEvidenceRequest { release_id: id.into(), evidence }
}

async fn get(client: &mut Client, id: &str) -> v1::Release {
    client.get_release(v1::GetReleaseRequest { release_id: id.into() }).await.unwrap().into_inner()
}

/// Digests and submitters of what there is.
fn told(release: &v1::Release) -> Vec<(Vec<u8>, &str)> {
    release.evidence.iter().map(|info| (info.digest.clone(), info.submitter.as_str())).collect()
}

fn digest(document: &Bytes) -> Vec<u8> {
    sha256(document).as_bytes().to_vec()
}

#[tokio::test]
async fn evidence_comes_with_a_release_and_later() {
    let running = Running::start().await;
    let (a, b, c) = (attestation("a"), attestation("b"), attestation("c"));
    let mut client = running.releases(PIPELINE).await;
    let with = |evidence: Vec<Bytes>| v1::CreateReleaseRequest { evidence, ..request("job-1", 1) };
    let asked =
        client.create_release(with(vec![a.clone(), b.clone(), a.clone()])).await.unwrap().into_inner();
    let id = asked.release_id.as_str();
    let both = [(digest(&a), "pipeline:ci"), (digest(&b), "pipeline:ci")];
    assert_eq!(told(&asked), both, "of two that are the same, one");
    let info = &asked.evidence[0];
    assert_eq!((info.kind.as_str(), info.added_at, info.log_index), ("tests", NOW, asked.log_index));
    assert_eq!(info.size as usize, a.len());
    let again = client.create_release(with(vec![c.clone()])).await.unwrap().into_inner();
    assert_eq!((&again.release_id, told(&again)), (&asked.release_id, both.to_vec()), "unchanged");

    let mut states =
        client.watch_release(v1::WatchReleaseRequest { release_id: id.into() }).await.unwrap().into_inner();
    assert_eq!(told(&states.message().await.unwrap().unwrap()), both);
    let mut custodian = running.releases(CUSTODIAN).await;
    let added = custodian.add_evidence(add(id, vec![c.clone(), a.clone()])).await.unwrap().into_inner();
    let all = [both.as_slice(), &[(digest(&c), "custodian:clara")]].concat();
    assert_eq!(told(&added), all);
    assert_eq!(added.evidence[2].log_index, asked.log_index + 1);
    let seen = loop {
        let state = states.message().await.unwrap().unwrap();
        if state.evidence.len() > 2 {
            break state;
        }
    };
    assert_eq!((told(&seen), seen.state()), (all.clone(), added.state()));
    assert_eq!(told(&get(&mut client, id).await), all);
    let list = v1::ListReleasesRequest::default;
    let listed = custodian.list_releases(list()).await.unwrap().into_inner().releases;
    assert!(listed.len() == 1 && listed[0].evidence.is_empty());

    // Said again, nothing more is logged; nor is what was not taken.
    client.add_evidence(add(id, vec![a.clone(), b.clone(), c.clone()])).await.unwrap();
    client.cancel_release(v1::CancelReleaseRequest { release_id: id.into() }).await.unwrap();
    let late = client.add_evidence(add(id, vec![a.clone(), attestation("d")])).await.unwrap_err();
    assert_eq!(reason(&late), (Code::FailedPrecondition, "TOO_LATE".into()));
    client.add_evidence(add(id, vec![c.clone()])).await.expect("it is there");
    let next = client.create_release(request("job-2", 2)).await.unwrap().into_inner();
    assert_eq!(next.log_index, asked.log_index + 3, "the request, evidence, the outcome");
    let got = v1::GetEvidenceRequest { release_id: id.into() };
    let documents = running.releases("rutli:auditor:a").await.get_evidence(got).await.unwrap().into_inner();
    let bytes: Vec<Bytes> = documents.evidence.iter().map(|document| document.document.clone()).collect();
    assert_eq!(bytes, [a, b, c]);
    let infos: Vec<_> = documents.evidence.into_iter().map(|document| document.info.unwrap()).collect();
    assert_eq!(infos, added.evidence, "what has ended keeps it");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn evidence_is_brought_and_read_by_those_who_may() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let id = client.create_release(request("job-1", 1)).await.unwrap().into_inner().release_id;
    let documents = v1::GetEvidenceRequest { release_id: id.clone() };
    for (party, may_add, may_read) in [
        (PIPELINE, Ok(()), Ok(())),
        ("rutli:operator:o", Ok(()), Ok(())),
        (CUSTODIAN, Ok(()), Ok(())),
        ("rutli:auditor:a", Err(Code::PermissionDenied), Ok(())),
        ("rutli:pipeline:other", Err(Code::NotFound), Err(Code::NotFound)),
        ("rutli:node:vendor:vendor-1", Err(Code::PermissionDenied), Err(Code::PermissionDenied)),
    ] {
        let mut client = running.releases(party).await;
        let added = client.add_evidence(add(&id, vec![attestation(party)])).await;
        assert_eq!(added.map(drop).map_err(|status| status.code()), may_add, "{party}");
        let read = client.get_evidence(documents.clone()).await;
        assert_eq!(read.map(drop).map_err(|status| status.code()), may_read, "{party}");
    }
    let submitters: Vec<_> =
        get(&mut client, &id).await.evidence.into_iter().map(|info| info.submitter).collect();
    assert_eq!(submitters, ["pipeline:ci", "operator:o", "custodian:clara"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn custodians_read_what_auditors_read_and_change_nothing_else() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let id = client.create_release(request("job-1", 1)).await.unwrap().into_inner().release_id;
    let mut releases = running.releases(CUSTODIAN).await;
    assert_eq!(get(&mut releases, &id).await.release_id, id);
    releases.watch_release(v1::WatchReleaseRequest { release_id: id.clone() }).await.unwrap();
    let mut nodes = running.nodes(CUSTODIAN).await;
    nodes.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    let mut ceremonies = running.ceremonies(CUSTODIAN).await;
    assert_eq!(ceremonies.list_keys(v1::ListKeysRequest {}).await.unwrap().into_inner().keys.len(), 1);
    ceremonies.list_ceremonies(v1::ListCeremoniesRequest {}).await.unwrap();

    let denied = |status: Status| assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    denied(releases.create_release(request("job-2", 2)).await.unwrap_err());
    denied(releases.cancel_release(v1::CancelReleaseRequest { release_id: id.clone() }).await.unwrap_err());
    denied(releases.disclose_release(v1::DiscloseReleaseRequest { release_id: id }).await.unwrap_err());
    denied(
        nodes.reinstate_node(v1::ReinstateNodeRequest { node: "vendor/vendor-1".into() }).await.unwrap_err(),
    );
    running.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_no_evidence_or_too_much_is_refused_with_its_reason() {
    let running = Running::start().await;
    let mut client = running.releases(PIPELINE).await;
    let rubbish = vec![attestation("a"), Bytes::from_static(b"not evidence")];
    let most = limits::MAX_EVIDENCE_OF_SUBMITTER;
    let many = |count: usize| -> Vec<Bytes> { (0..count).map(|n| attestation(&n.to_string())).collect() };
    let large = vec![Bytes::from(vec![b'{'; wire_limits::MAX_EVIDENCE_TOTAL_BYTES + 1])];
    let invalid = |status: Status, words: &str| {
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_REQUEST".into()));
        let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
        assert_eq!(violations[0].field, "evidence");
        assert!(violations[0].description.contains(words), "{violations:?}");
    };
    for (evidence, words) in [
        (rubbish.clone(), "document 2 of 2: it is neither"),
        (many(most + 1), "one party may bring"),
        (vec![attestation("a"); wire_limits::MAX_EVIDENCE + 1], "65 given"),
        (large.clone(), "bytes; a release may have"),
    ] {
        let asked = v1::CreateReleaseRequest { evidence, ..request("job-1", 1) };
        invalid(client.create_release(asked).await.unwrap_err(), words);
    }
    let asked = client.create_release(request("job-1", 1)).await.unwrap().into_inner();
    let id = asked.release_id.as_str();
    for (evidence, words) in [
        (rubbish, "document 2 of 2: it is neither"),
        (Vec::new(), "0 given"),
        (vec![attestation("a"); wire_limits::MAX_EVIDENCE + 1], "65 given"),
        (large, "bytes; a release may have"),
    ] {
        invalid(client.add_evidence(add(id, evidence)).await.unwrap_err(), words);
    }
    let full = client.add_evidence(add(id, many(most + 1))).await.unwrap_err();
    assert_eq!(reason(&full), (Code::ResourceExhausted, "EVIDENCE_FULL".into()));
    assert!(full.get_error_details().retry_info().is_none(), "the same fails again");
    assert!(get(&mut client, id).await.evidence.is_empty(), "all of it, or nothing");
    client.add_evidence(add(id, many(most))).await.unwrap();
    let nothing = client.add_evidence(add("suite-9-000000000000", many(1))).await.unwrap_err();
    assert_eq!(nothing.code(), Code::NotFound);
    running.stop().await.unwrap();
}
