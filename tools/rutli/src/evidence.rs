//! `rutli evidence …`: documents from files to a release, and back.
//!
//! Documents are read here before they are sent, so that an error names the file; and again when they come back, for nothing that
//! a coordinator says of a document counts but the document.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use rutli_evidence::{Evidence, Kind, limits::MAX_EVIDENCE_BYTES};
use rutli_release::ReleaseId;
use rutli_wire::{
    limits::{MAX_EVIDENCE, MAX_EVIDENCE_TOTAL_BYTES},
    v1,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    cli, client,
    files::{self, Access},
    limits::ADD_ATTEMPTS,
    releases::{self, rubbish},
    report::{Failure, Report},
    status, text,
};

/// A document of a release, as it came from the coordinator.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What the coordinator says of it. The digest and the size are checked.
    pub info: v1::EvidenceInfo,
    /// The document, or why this program cannot read it.
    pub document: Result<Evidence, String>,
    /// The document's bytes.
    pub bytes: Vec<u8>,
}

/// `rutli evidence …`
///
/// # Errors
/// What the coordinator answers; files that are no evidence or cannot be written.
pub async fn run(
    command: cli::Evidence,
    connect: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    match command {
        cli::Evidence::Add { release, files } => {
            // What is no evidence is said before anybody is asked for a connection.
            let documents = read(&files)?;
            add_and_report(connect.await?, &release, &documents).await
        }
        cli::Evidence::List { release } => list(connect.await?, &release).await,
        cli::Evidence::Export { release, out } => export(connect.await?, &release, &out).await,
    }
}

/// Reads documents from files, each within the bounds of one release.
///
/// # Errors
/// Exit code 2, naming the file that is no evidence.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Evidence>, Failure> {
    if paths.len() > MAX_EVIDENCE {
        return Err(Failure::usage(format!(
            "{} documents: a release has at most {MAX_EVIDENCE}",
            paths.len()
        ))
        .help("give fewer"));
    }
    let documents = paths.iter().map(|path| read_one(path)).collect::<Result<Vec<_>, _>>()?;
    let total: usize = documents.iter().map(|document| document.as_bytes().len()).sum();
    if total > MAX_EVIDENCE_TOTAL_BYTES {
        return Err(Failure::usage(format!(
            "the documents have {total} bytes together: a release has at most {MAX_EVIDENCE_TOTAL_BYTES}"
        ))
        .help("give fewer, or smaller ones"));
    }
    Ok(documents)
}

/// Adds documents to a release; gives the release then. What is there already does no harm, so that a coordinator that is
/// not ready is asked again.
///
/// # Errors
/// What the coordinator answers.
pub async fn add(channel: Channel, release_id: &str, documents: &[Evidence]) -> Result<v1::Release, Failure> {
    let request = v1::AddEvidenceRequest {
        release_id: release_id.to_owned(),
        evidence: documents.iter().map(|document| document.as_bytes().to_vec().into()).collect(),
    };
    let mut client = client::releases(channel);
    let mut delay = Duration::from_millis(200);
    for attempt in 1.. {
        match client.add_evidence(request.clone()).await {
            Ok(release) => return Ok(release.into_inner()),
            Err(status) if attempt < ADD_ATTEMPTS && status::is_passing(&status) => {
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
            Err(status) => return Err(status::failure(&status)),
        }
    }
    Err(Failure::unreachable("the coordinator is not ready").help("try again"))
}

/// A release's documents, each checked against the digest that it is known by.
///
/// # Errors
/// What the coordinator answers; documents that are not what it says.
pub async fn fetch(channel: Channel, release_id: &str) -> Result<Vec<Kept>, Failure> {
    let request = v1::GetEvidenceRequest { release_id: release_id.to_owned() };
    let answer = client::releases(channel).get_evidence(request).await;
    let documents = answer.map_err(|status| status::failure(&status))?.into_inner().evidence;
    documents.into_iter().map(kept).collect()
}

/// What is known of a document, on a line of a list.
#[must_use]
pub fn row(info: &v1::EvidenceInfo) -> Vec<String> {
    vec![
        text::printable(&info.kind),
        format!("sha256:{}", hex::encode(&info.digest)),
        info.size.to_string(),
        text::printable(&info.submitter),
        text::time(info.added_at),
        info.log_index.to_string(),
    ]
}

/// For programs.
#[must_use]
pub fn info_json(info: &v1::EvidenceInfo) -> Value {
    json!({
        "digest": hex::encode(&info.digest),
        "kind": info.kind,
        "submitter": info.submitter,
        "added_at": info.added_at,
        "size": info.size,
        "log_index": info.log_index,
    })
}

async fn add_and_report(
    channel: Channel,
    release: &ReleaseId,
    documents: &[Evidence],
) -> Result<Report, Failure> {
    let before: BTreeSet<Vec<u8>> = releases::get(channel.clone(), release.as_str())
        .await?
        .evidence
        .into_iter()
        .map(|info| info.digest)
        .collect();
    let after = add(channel, release.as_str(), documents).await?;
    let mut lines = Vec::new();
    let mut added = Vec::new();
    for document in documents {
        let digest = document.digest();
        let was_there = before.contains(&digest[..]);
        let word = if was_there { "was there already" } else { "added" };
        lines.push(format!("{word}: {} sha256:{}", document.kind(), hex::encode(digest)));
        if !was_there {
            added.push(hex::encode(digest));
        }
    }
    lines.push(format!("release {release} is {}", releases::stage(&after)));
    let mut json = releases::to_json(&after);
    if let Value::Object(fields) = &mut json {
        fields.insert("added".to_owned(), json!(added));
    }
    Ok(Report::new(lines.join("\n"), json))
}

async fn list(channel: Channel, release: &ReleaseId) -> Result<Report, Failure> {
    let infos = releases::get(channel, release.as_str()).await?.evidence;
    let json = json!({ "release_id": release.as_str(), "evidence": infos.iter().map(info_json).collect::<Vec<_>>() });
    if infos.is_empty() {
        return Ok(Report::new("no evidence", json));
    }
    let header = ["KIND", "DIGEST", "BYTES", "FROM", "ADDED", "LOG ENTRY"];
    Ok(Report::new(text::columns(&header, infos.iter().map(row)), json))
}

async fn export(channel: Channel, release: &ReleaseId, out: &Path) -> Result<Report, Failure> {
    let documents = fetch(channel, release.as_str()).await?;
    files::create_output_folder(out)?;
    let mut written = Vec::new();
    for document in &documents {
        let path = out.join(file_name(document));
        files::write_atomically(&path, &document.bytes, Access::Public)?;
        written.push(path);
    }
    files::sync_folder(out)?;
    let text =
        format!("{} written to {}", text::count(written.len(), "document", "documents"), out.display());
    let infos: Vec<_> = documents.iter().map(|document| info_json(&document.info)).collect();
    Ok(Report::new(text, json!({ "release_id": release.as_str(), "evidence": infos, "written": written })))
}

fn read_one(path: &Path) -> Result<Evidence, Failure> {
    let bytes = files::read_within(path, MAX_EVIDENCE_BYTES as u64)?;
    Evidence::parse(&bytes).map_err(|error| {
        let said = error.to_string();
        // The problem, then the way out, as they stand in it.
        let (problem, help) =
            said.rsplit_once(';').unwrap_or((&said, "send an attestation, or a signed approval or refusal"));
        Failure::usage(format!("{} is no evidence: {problem}", path.display())).help(help.trim())
    })
}

fn kept(document: v1::EvidenceDocument) -> Result<Kept, Failure> {
    use sha2::Digest as _;
    let info = document.info.ok_or_else(|| rubbish("evidence of which it says nothing"))?;
    let bytes = document.document.to_vec();
    if sha2::Sha256::digest(&bytes)[..] != info.digest || usize::try_from(info.size) != Ok(bytes.len()) {
        return Err(rubbish("evidence that does not have its digest and size"));
    }
    let document = Evidence::parse(&bytes).map_err(|error| error.to_string());
    Ok(Kept { info, document, bytes })
}

/// By what the document is, not by what is said of it: a coordinator does not choose where files are written.
fn file_name(kept: &Kept) -> String {
    let digest = hex::encode(&kept.info.digest);
    match &kept.document {
        Ok(document) => {
            let kind = document.kind();
            let extension = if matches!(kind, Kind::Approval | Kind::Refusal) { "txt" } else { "json" };
            format!("{digest}.{kind}.{extension}")
        }
        Err(_) => format!("{digest}.unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(bytes: &[u8], digest: [u8; 32], kind: &str) -> v1::EvidenceDocument {
        v1::EvidenceDocument {
            info: Some(v1::EvidenceInfo {
                digest: digest.to_vec(),
                kind: kind.to_owned(),
                size: u32::try_from(bytes.len()).unwrap(),
                ..v1::EvidenceInfo::default()
            }),
            document: bytes.to_vec().into(),
        }
    }

    #[test]
    fn what_is_no_evidence_is_said_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("garbage");
        std::fs::write(&path, b"garbage").unwrap();
        let failure = read(std::slice::from_ref(&path)).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        assert!(failure.problem.contains("garbage is no evidence"), "{failure}");
        assert!(failure.help.is_some());
        std::fs::write(&path, vec![b'{'; MAX_EVIDENCE_BYTES + 1]).unwrap();
        assert!(read(std::slice::from_ref(&path)).unwrap_err().problem.contains("larger than"));
        let many = vec![path; MAX_EVIDENCE + 1];
        assert!(read(&many).unwrap_err().problem.contains("at most 64"));
    }

    #[test]
    fn a_document_that_is_not_what_is_said_of_it_is_refused() {
        use sha2::Digest as _;
        let right: [u8; 32] = sha2::Sha256::digest(b"x").into();
        let good = kept(document(b"x", right, "../../etc/passwd")).unwrap();
        assert_eq!(file_name(&good), format!("{}.unknown", hex::encode(right)));
        assert!(kept(document(b"y", right, "approval")).is_err());
        let mut short = document(b"x", right, "approval");
        short.info.as_mut().unwrap().size = 2;
        assert!(kept(short).is_err());
        assert!(kept(v1::EvidenceDocument::default()).is_err());
    }
}
