//! Who gets in, who does not, and what each role may.

use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    config::Limits,
    testing::{Authority, Running, StillClock, client, connect, eventually, request, write_identity},
};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "rutli");
    info.reason.clone()
}

/// Whether the server takes the session: in TLS 1.3 a client hears of a refusal with its first read.
async fn is_let_in(
    session: std::io::Result<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>,
) -> bool {
    let Ok(mut session) = session else { return false };
    // The preface of HTTP/2 and empty settings: the server answers with its own settings.
    let _ = session.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut answer = [0];
    session.read_exact(&mut answer).await.is_ok()
}

#[tokio::test]
async fn only_certificates_of_the_authority_get_in() {
    let running = Running::start().await;
    let authority = &running.authority;
    assert!(is_let_in(running.tls(&authority.issue("rutli:pipeline:ci")).await).await);

    let expired = authority.issue_until("rutli:pipeline:ci", 2020);
    assert!(!is_let_in(running.tls(&expired).await).await, "expired");

    let stranger = Authority::new().issue("rutli:pipeline:ci");
    assert!(!is_let_in(running.tls(&stranger).await).await, "of another authority");

    let roots = {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(rustls::pki_types::CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
            .unwrap();
        roots
    };
    let mut anonymous =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
    anonymous.alpn_protocols = vec![b"h2".to_vec()];
    assert!(!is_let_in(connect(running.address, Arc::new(anonymous)).await).await, "without a certificate");

    let old =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    assert!(connect(running.address, Arc::new(old)).await.is_err(), "TLS 1.2");

    let server = authority.issue("rutli:coordinator:other");
    assert!(!is_let_in(running.tls(&server).await).await, "a server's certificate is none of a client");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn roles_are_told_apart() {
    let running = Running::start().await;
    let wrong = |status: Status| {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert_eq!(reason(&status), "WRONG_ROLE");
    };
    for party in ["rutli:operator:o", "rutli:auditor:a", "rutli:node:vendor:vendor-1"] {
        wrong(running.releases(party).await.create_release(request("r", 1)).await.unwrap_err());
    }
    for party in ["rutli:pipeline:ci", "rutli:operator:o", "rutli:auditor:a"] {
        let hello = tokio_stream::iter([v1::NodeMessage::default()]);
        wrong(running.nodes(party).await.attach(hello).await.unwrap_err());
    }
    // Who is turned away before the call is looked at is told of all who may, not of the first.
    let mut nodes = running.nodes("rutli:pipeline:ci").await;
    let status = nodes.list_nodes(v1::ListNodesRequest {}).await.unwrap_err();
    assert!(status.message().contains("the role node, operator, custodian or auditor"), "{status}");
    for party in ["rutli:pipeline:ci", "rutli:node:vendor:vendor-1"] {
        wrong(running.nodes(party).await.list_nodes(v1::ListNodesRequest {}).await.unwrap_err());
        wrong(
            running.ceremonies(party).await.list_ceremonies(v1::ListCeremoniesRequest {}).await.unwrap_err(),
        );
    }
    for party in ["rutli:pipeline:ci", "rutli:auditor:a", "rutli:node:vendor:vendor-1"] {
        let node = v1::ReinstateNodeRequest { node: "vendor/vendor-1".into() };
        wrong(running.nodes(party).await.reinstate_node(node).await.unwrap_err());
    }
    let node = "rutli:node:vendor:vendor-1";
    wrong(running.releases(node).await.list_releases(v1::ListReleasesRequest::default()).await.unwrap_err());
    wrong(running.ceremonies(node).await.list_keys(v1::ListKeysRequest {}).await.unwrap_err());
    let cancel = v1::CancelReleaseRequest { release_id: "suite-1-0".into() };
    wrong(running.releases("rutli:auditor:a").await.cancel_release(cancel).await.unwrap_err());

    // What is right is right.
    running
        .releases("rutli:auditor:a")
        .await
        .list_releases(v1::ListReleasesRequest::default())
        .await
        .unwrap();
    running.nodes("rutli:operator:o").await.list_nodes(v1::ListNodesRequest {}).await.unwrap();
    running.ceremonies("rutli:pipeline:ci").await.list_keys(v1::ListKeysRequest {}).await.unwrap();

    // Genuine certificates that name nobody.
    for uri in ["", "rutli:root:x"] {
        let status = running.releases(uri).await.create_release(request("r", 1)).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "UNKNOWN_PARTY"));
    }
    running.stop().await.unwrap();
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let running = Running::start().await;
    let pipeline = running.authority.issue("rutli:pipeline:ci");
    let serial = |session: &tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        session.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let mut open = running.releases("rutli:pipeline:ci").await;
    let first = serial(&running.tls(&pipeline).await.unwrap());

    // Half of an update: the certificate does not fit the key.
    let renewed = running.authority.issue("rutli:coordinator:main");
    std::fs::write(running.folder.path().join("tls.pem"), &renewed.certificate).unwrap();
    running.signals.reload.notify_one();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(serial(&running.tls(&pipeline).await.unwrap()), first, "the old one stays in use");

    // Without a word, by looking.
    write_identity(running.folder.path(), &renewed);
    eventually("the new one is in use", async || serial(&running.tls(&pipeline).await.unwrap()) != first)
        .await;

    // Another authority, by SIGHUP, before anybody looks: who was vouched for by the first one gets in no more.
    let still = StillClock::new();
    let other = Authority::new();
    let third = other.issue("rutli:coordinator:main");
    std::fs::write(running.folder.path().join("ca.pem"), &other.pem).unwrap();
    write_identity(running.folder.path(), &third);
    running.signals.reload.notify_one();
    let ours = client(&other, &other.issue("rutli:pipeline:ci"));
    while !is_let_in(connect(running.address, Arc::clone(&ours)).await).await {}
    drop(still);
    let theirs = client(&other, &pipeline);
    assert!(!is_let_in(connect(running.address, theirs).await).await);

    // Connections that are open stay open.
    open.list_releases(v1::ListReleasesRequest::default()).await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn surplus_connections_are_closed_at_once() {
    let running = Running::start_with(Limits { max_connections: 8, ..Limits::default() }).await;
    let pipeline = running.authority.issue("rutli:pipeline:ci");
    let first = running.releases("rutli:pipeline:ci").await;
    let mut second = running.tls(&pipeline).await.unwrap();
    assert!(is_let_in(Ok(&mut second)).await);
    assert!(!is_let_in(running.tls(&pipeline).await).await);
    drop(second);
    let is_let_in = async || is_let_in(running.tls(&pipeline).await).await;
    eventually("room that was given back is taken again", is_let_in).await;
    drop(first);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn silent_peers_keep_nobody_out() {
    let running = Running::start_with(Limits { max_handshakes: 16, ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(running.address).await.unwrap());
    }
    let pipeline = running.authority.issue("rutli:pipeline:ci");
    assert!(is_let_in(running.tls(&pipeline).await).await);
    drop(silent);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let running = Running::start().await;
    let channel = running.channel("rutli:auditor:a").await;
    for service in ["", "rutli.v1.ReleaseService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"rutli.v1.ReleaseService"), "{names:?}");
    assert!(!names.contains(&"rutli.v1.CustodianService"), "{names:?}");
    drop(answers);
    running.stop().await.unwrap();
}
