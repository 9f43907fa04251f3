//! Who is let in, and who may do what.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rutli::client::{self, Profile, TlsFiles};
use rutli_tests::{
    certificates::{Authority, Claim},
    cluster::{Cluster, PATIENCE, Setup, eventually},
    releases::{build, sign},
};
use rutli_wire::{
    tls::{Pem, client_config},
    v1,
};
use tonic::{Code, Status, transport::Channel};

use super::{SOON, reason, refused};

/// Point 4: no certificate, of another authority, expired, not valid yet, for another use, with TLS 1.2: refused in the
/// handshake with the alert that says which. A genuine one that names nobody, or two: `UNAUTHENTICATED` that says so.
#[tokio::test(flavor = "multi_thread")]
async fn only_genuine_certificates_are_let_in() {
    let mut cluster = Cluster::start(Setup::default()).await;
    let profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    let own = Authority::of_deployment(&cluster.folder().join("d"));
    let stranger = Cluster::written(&Setup::default());
    // `rutli init` gives both authorities the same name: only the key tells them apart.
    let namesake = Authority::of_deployment(&stranger.folder().join("d"));
    let other = Authority::invented("Another authority");
    let folder = cluster.folder().join("certificates");
    let pipeline = Claim::client(&["rutli:pipeline:pipeline"]);

    let good = own.issue(&pipeline, &folder.join("good"), &profile);
    assert_eq!(alert(&cluster, mutual(&good)), None, "what is right is let in");
    let cases = [
        (
            "another authority's",
            other.issue(&pipeline, &folder.join("other"), &profile),
            AlertDescription::UnknownCA,
        ),
        (
            "a namesake authority's",
            namesake.issue(&pipeline, &folder.join("namesake"), &profile),
            AlertDescription::DecryptError,
        ),
        (
            "expired",
            own.issue(&Claim { valid: (7200, -3600), ..pipeline.clone() }, &folder.join("expired"), &profile),
            AlertDescription::CertificateExpired,
        ),
        (
            "not valid yet",
            own.issue(&Claim { valid: (-3600, 7200), ..pipeline.clone() }, &folder.join("early"), &profile),
            AlertDescription::CertificateExpired,
        ),
        (
            "for another use",
            own.issue(
                &Claim { usage: ExtendedKeyUsagePurpose::ServerAuth, ..pipeline.clone() },
                &folder.join("use"),
                &profile,
            ),
            AlertDescription::UnsupportedCertificate,
        ),
    ];
    for (what, wrong, expected) in cases {
        let seen = alert(&cluster, mutual(&wrong));
        println!("{what}: {seen:?}");
        assert_eq!(seen, Some(expected), "{what}");
        let status = first_call(&wrong).await;
        println!("    in a person's words: {status}");
    }
    assert_eq!(alert(&cluster, without_certificate(&profile)), Some(AlertDescription::CertificateRequired));
    assert_eq!(alert(&cluster, old_tls(&profile)), Some(AlertDescription::ProtocolVersion));

    names_of_one_party(&own, &folder, &profile).await;

    // A client does not talk to a coordinator of another authority either.
    let fooled = Profile {
        tls: TlsFiles { ca: stranger.files().ca.clone(), ..profile.tls.clone() },
        ..profile.clone()
    };
    let failure = fooled.connect().await.unwrap_err();
    assert_eq!(failure.exit.code(), 3, "{failure}");
    println!("a coordinator of another authority: {failure}");

    renewal(&mut cluster, &own, &folder).await;
    impostor(&mut cluster, &own, &folder).await;
    sign(&cluster, build("stable", 1, 1), SOON).await;
}

/// A genuine certificate must name one party: not none, not two, and of a role that there is.
async fn names_of_one_party(own: &Authority, folder: &Path, profile: &Profile) {
    for (what, uris) in [
        ("nobody", &[][..]),
        ("two parties", &["rutli:pipeline:pipeline", "rutli:operator:operator"]),
        ("an unknown role", &["rutli:root:root"]),
    ] {
        let nobody = own.issue(&Claim::client(uris), &folder.join(what.replace(' ', "-")), profile);
        let mut releases = client::releases(nobody.connect().await.unwrap());
        let status =
            refused(releases.list_releases(v1::ListReleasesRequest::default()).await, Code::Unauthenticated);
        assert_eq!(reason(&status), "UNKNOWN_PARTY", "{what}");
    }
}

/// Certificates are renewed without a restart: the files change, and new connections see the new one.
async fn renewal(cluster: &mut Cluster, own: &Authority, folder: &Path) {
    let profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    let before = served_certificate(cluster, &profile);
    let pid = cluster.process("coordinator").pid();
    replace_coordinator_certificate(cluster, own, folder, "rutli:coordinator:coordinator");
    eventually("the renewed certificate is served", PATIENCE, async || {
        let now = served_certificate(cluster, &profile);
        if now == before { Err("still the old one".into()) } else { Ok(()) }
    })
    .await;
    assert_eq!(cluster.process("coordinator").pid(), pid);
}

/// A node does not attach to somebody whose certificate, genuine as it is, names no coordinator; and says so.
async fn impostor(cluster: &mut Cluster, own: &Authority, folder: &Path) {
    let files = cluster.config("coordinator").with_file_name("tls.pem");
    let genuine = (std::fs::read(&files).unwrap(), std::fs::read(files.with_file_name("tls.key")).unwrap());
    cluster.kill("coordinator");
    replace_coordinator_certificate(cluster, own, folder, "rutli:pipeline:pipeline");
    cluster.start_party("coordinator");
    let complaint = eventually("the node sees through it", PATIENCE, async || {
        let link = cluster.status("vendor-1").await.coordinators.remove(0);
        if link.error.contains("not a coordinator") && !link.connected {
            Ok(link.error)
        } else {
            Err(link.error)
        }
    })
    .await;
    println!("an impostor: {complaint}");
    cluster.kill("coordinator");
    std::fs::write(&files, genuine.0).unwrap();
    std::fs::write(files.with_file_name("tls.key"), genuine.1).unwrap();
    cluster.start_party("coordinator");
    cluster.ready().await;
}

/// Point 4: every call by every role. Who may not gets `PERMISSION_DENIED` with the role that may; who may gets past it.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_do_its_own_and_nothing_else() {
    let cluster = Cluster::start(Setup::default()).await;
    let signed = sign(&cluster, build("stable", 1, 1), SOON).await;
    let node = Profile {
        tls: TlsFiles {
            ca: cluster.node_folder("vendor-3").join("ca.pem"),
            certificate: cluster.node_folder("vendor-3").join("tls.pem"),
            key: cluster.node_folder("vendor-3").join("tls.key"),
        },
        ..Profile::read(&cluster.profile("pipeline")).unwrap()
    };
    let mut roles = vec![("node", node.connect().await.unwrap())];
    for role in ["pipeline", "operator", "custodian", "auditor"] {
        roles.push((role, cluster.channel(role).await));
    }
    for (call, allowed) in CALLS {
        for (role, channel) in &roles {
            let answer = make(call, channel.clone(), &signed.release_id).await;
            let code = answer.as_ref().map_or_else(Status::code, |()| Code::Ok);
            if allowed.contains(role) {
                assert!(
                    !matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented),
                    "{role} may {call}: {answer:?}"
                );
            } else {
                let status = refused(answer, Code::PermissionDenied);
                assert_eq!(reason(&status), "WRONG_ROLE", "{role} may not {call}");
            }
        }
    }
    cluster.ready().await;
}

/// Each call, and the roles that may make it.
const CALLS: [(&str, &[&str]); 14] = [
    ("CreateRelease", &["pipeline"]),
    ("GetRelease", &["pipeline", "operator", "custodian", "auditor"]),
    ("ListReleases", &["pipeline", "operator", "custodian", "auditor"]),
    ("WatchRelease", &["pipeline", "operator", "custodian", "auditor"]),
    ("CancelRelease", &["pipeline", "operator"]),
    ("AddEvidence", &["pipeline", "operator", "custodian"]),
    ("GetEvidence", &["pipeline", "operator", "custodian", "auditor"]),
    ("Attach", &["node"]),
    ("ListNodes", &["operator", "custodian", "auditor"]),
    ("ReinstateNode", &["operator"]),
    ("ListCeremonies", &["operator", "custodian", "auditor"]),
    ("GetCeremony", &["operator", "custodian", "auditor"]),
    ("WatchCeremony", &["operator", "custodian", "auditor"]),
    ("ListKeys", &["pipeline", "operator", "custodian", "auditor"]),
];

async fn make(call: &str, channel: Channel, release_id: &str) -> Result<(), Status> {
    let release_id = release_id.to_owned();
    let ceremony = v1::GetCeremonyRequest { ceremony_id: "00".repeat(32) };
    let mut releases = client::releases(channel.clone());
    let mut nodes = client::nodes(channel.clone());
    let mut ceremonies = client::ceremonies(channel);
    match call {
        "CreateRelease" => releases.create_release(v1::CreateReleaseRequest::default()).await.map(drop),
        "GetRelease" => releases.get_release(v1::GetReleaseRequest { release_id }).await.map(drop),
        "ListReleases" => releases.list_releases(v1::ListReleasesRequest::default()).await.map(drop),
        "WatchRelease" => releases.watch_release(v1::WatchReleaseRequest { release_id }).await.map(drop),
        "CancelRelease" => releases.cancel_release(v1::CancelReleaseRequest { release_id }).await.map(drop),
        "AddEvidence" => {
            releases.add_evidence(v1::AddEvidenceRequest { release_id, evidence: Vec::new() }).await.map(drop)
        }
        "GetEvidence" => releases.get_evidence(v1::GetEvidenceRequest { release_id }).await.map(drop),
        "Attach" => {
            let mut stream = nodes.attach(tokio_stream::empty()).await?.into_inner();
            stream.message().await.map(drop)
        }
        "ListNodes" => nodes.list_nodes(v1::ListNodesRequest {}).await.map(drop),
        "ReinstateNode" => {
            nodes.reinstate_node(v1::ReinstateNodeRequest { node: "vendor/vendor-1".into() }).await.map(drop)
        }
        "ListCeremonies" => ceremonies.list_ceremonies(v1::ListCeremoniesRequest {}).await.map(drop),
        "GetCeremony" => ceremonies.get_ceremony(ceremony).await.map(drop),
        "WatchCeremony" => ceremonies.watch_ceremony(ceremony).await.map(drop),
        "ListKeys" => ceremonies.list_keys(v1::ListKeysRequest {}).await.map(drop),
        other => panic!("no call {other}"),
    }
}

fn replace_coordinator_certificate(cluster: &Cluster, own: &Authority, folder: &Path, uri: &str) {
    let address = cluster.address().rsplit_once(':').unwrap().0.to_owned();
    let claim = Claim {
        uris: &[uri],
        names: &["localhost", &address],
        valid: (3600, 3600),
        usage: ExtendedKeyUsagePurpose::ServerAuth,
    };
    let profile = Profile::read(&cluster.profile("pipeline")).unwrap();
    let issued = own.issue(&claim, &folder.join(uri.replace(':', "-")), &profile);
    let target = cluster.config("coordinator");
    // Two renames, so that no reader sees half a file; for a moment the two do not fit together.
    for (from, to) in [(issued.tls.key, "tls.key"), (issued.tls.certificate, "tls.pem")] {
        std::fs::rename(from, target.with_file_name(to)).unwrap();
    }
}

/// The first call with a profile must fail with a status.
async fn first_call(profile: &Profile) -> String {
    let channel = match profile.connect().await {
        Ok(channel) => channel,
        Err(failure) => return failure.to_string(),
    };
    let status =
        client::releases(channel).list_releases(v1::ListReleasesRequest::default()).await.unwrap_err();
    rutli::status::failure(&status).to_string()
}

fn mutual(profile: &Profile) -> ClientConfig {
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    let (ca, certificate, key) =
        (read(&profile.tls.ca), read(&profile.tls.certificate), read(&profile.tls.key));
    client_config(Pem { ca: &ca, certificate: &certificate, key: &key }).unwrap()
}

fn without_certificate(profile: &Profile) -> ClientConfig {
    anonymous(profile, &rustls::version::TLS13)
}

fn old_tls(profile: &Profile) -> ClientConfig {
    anonymous(profile, &rustls::version::TLS12)
}

fn anonymous(profile: &Profile, version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&profile.tls.ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// The alert with which the coordinator ends a handshake; none if it lets the client in.
fn alert(cluster: &Cluster, config: ClientConfig) -> Option<AlertDescription> {
    let mut stream = dial(cluster, config);
    // With TLS 1.3 the client learns of its certificate's fate only when it reads.
    let answer = stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .and_then(|()| stream.read(&mut [0; 9]));
    let error = answer.err()?;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => panic!("the handshake ended without an alert: {error:?}"),
    }
}

fn served_certificate(cluster: &Cluster, profile: &Profile) -> Vec<u8> {
    let mut stream = dial(cluster, mutual(profile));
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768, "the key exchange is hybrid");
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn dial(cluster: &Cluster, config: ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
    let socket = TcpStream::connect(cluster.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}
