//! Requests with real files, and the check of everything that comes back.

use std::time::Duration;

use rutli::releases::{follow, is_final, state_word};
use rutli_release::{Format, ReleaseKey, verify_dsse, verify_sshsig, verify_statement};
use rutli_wire::{
    convert::{release_from_content, release_from_request},
    v1,
};
use sha2::{Digest as _, Sha256};
use tonic::transport::Channel;

use crate::cluster::{Cluster, repeated};

/// One file of a release, hashed.
#[must_use]
pub fn artifact(name: &str, content: &[u8]) -> v1::Artifact {
    v1::Artifact { name: name.to_owned(), sha256: Sha256::digest(content).to_vec() }
}

/// A product build of `suite` with so many files, in all formats. Its content follows from the arguments.
#[must_use]
pub fn build(channel: &str, sequence: u64, files: usize) -> v1::CreateReleaseRequest {
    let artifacts = (0..files).map(|file| {
        let name = format!("lib/suite-{file}.so");
        artifact(&name, format!("{channel} {sequence} {file}").as_bytes())
    });
    v1::CreateReleaseRequest {
        request_id: format!("{channel}-{sequence}"),
        release_class: v1::ReleaseClass::ProductBuild.into(),
        product: "suite".to_owned(),
        channel: channel.to_owned(),
        version: format!("1.0.{sequence}"),
        sequence,
        expires_at: 0,
        artifacts: artifacts.collect(),
        formats: Vec::new(),
        embargo_until: 0,
        evidence: Vec::new(),
    }
}

/// An AV database of so many files, each with a signature of its own and nothing else.
#[must_use]
pub fn database(channel: &str, sequence: u64, files: usize) -> v1::CreateReleaseRequest {
    v1::CreateReleaseRequest {
        request_id: format!("avdb-{channel}-{sequence}"),
        release_class: v1::ReleaseClass::AvDatabase.into(),
        product: "avdb".to_owned(),
        formats: vec![v1::SignatureFormat::Sshsig.into()],
        ..build(channel, sequence, files)
    }
}

/// Asks as the pipeline, waits, and checks everything that came. Panics if it is not signed within `within`.
pub async fn sign(cluster: &Cluster, request: v1::CreateReleaseRequest, within: Duration) -> v1::Release {
    let asked = repeated(async || cluster.pipeline().await.create_release(request.clone()).await);
    let release = asked.await.unwrap();
    let release = finished(cluster.channel("pipeline").await, &release.release_id, within).await;
    check(&cluster.release_key().await, &request, &release);
    release
}

/// Follows a release to its end, over restarts of the coordinator.
pub async fn finished(channel: Channel, release_id: &str, within: Duration) -> v1::Release {
    let mut last = None;
    let followed = tokio::time::timeout(
        within,
        follow(channel.clone(), release_id, |release| last = Some(release.clone())),
    );
    match followed.await {
        Ok(Ok(release)) => release,
        Ok(Err(failure)) => panic!("cannot follow {release_id}: {failure}"),
        Err(_) => panic!("{release_id} is not final within {within:?}; last: {last:?}"),
    }
}

/// Verifies that a release is signed, is what was asked for, and that every file of every format verifies under the key;
/// gives the number of signatures.
pub fn check(key: &ReleaseKey, asked: &v1::CreateReleaseRequest, release: &v1::Release) -> usize {
    assert!(is_final(release.state) && state_word(release.state) == "signed", "not signed: {release:?}");
    let content = release_from_content(release.content.clone().unwrap()).unwrap();
    let wanted = release_from_request(asked.clone(), content.issued_at().0).unwrap();
    assert_eq!(content, wanted, "what was signed is not what was asked for");
    let file = |name: &str| {
        let found = release.files.iter().find(|file| file.name == name);
        found.unwrap_or_else(|| panic!("{} has no file {name}", release.release_id)).data.to_vec()
    };
    let id = &release.release_id;
    let mut signatures = 0;
    let mut files = 0;
    for format in content.formats() {
        match format {
            Format::Dsse => {
                let statement = verify_dsse(key, &file(&format!("{id}.intoto.json"))).unwrap();
                assert_eq!(statement.sequence(), content.sequence());
                files += 1;
            }
            Format::Statement => {
                let signature = file(&format!("{id}.statement.sig")).try_into().unwrap();
                let statement = verify_statement(key, &file(&format!("{id}.statement")), &signature).unwrap();
                for artifact in content.artifacts() {
                    statement.check_file(Some(artifact.name.as_str()), &artifact.sha256).unwrap();
                }
                files += 2;
            }
            Format::Sshsig => {
                for artifact in content.artifacts() {
                    let armour =
                        String::from_utf8(file(&format!("{}.sig", artifact.name.file_name()))).unwrap();
                    let verdict = verify_sshsig(key, &armour, &artifact.sha256).unwrap();
                    assert_eq!(verdict.namespace, content.ssh_namespace());
                }
                signatures += content.artifacts().len();
                files += content.artifacts().len();
            }
        }
    }
    let has_statement = content.formats() != [Format::Sshsig];
    if release.proven_at != 0 {
        assert!(!file(&format!("{id}.tlog-proof")).is_empty());
        files += 1;
        if has_statement {
            assert!(!file(&format!("{id}.sigstore.json")).is_empty());
            files += 1;
        }
    }
    assert_eq!(release.files.len(), files, "more files than formats and proofs ask for");
    signatures + usize::from(has_statement)
}
