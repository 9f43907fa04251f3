//! What must come out of a rebuild: names and digests, out of whatever has them.
//!
//! None of these is trusted: a rebuilder attests what it built itself, and these only say which files that shall be. So signatures
//! are not verified here; with a forged list the attestation would be about other files than the release's, and no node takes it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_release::{ArtifactName, limits::MAX_ARTIFACTS};
use serde::Deserialize;

use super::limits::MAX_DEPTH;
use crate::{files, hash, report::Failure, text};

/// A file that must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedFile {
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its size in bytes, where that is known.
    pub size: Option<u64>,
    /// Where it lies, where it is at hand.
    pub path: Option<PathBuf>,
}

/// All that must come out, by the names that the release gives them; 1 to 5,000.
pub type Expected = BTreeMap<ArtifactName, ExpectedFile>;

/// Reads what is expected: a folder of files, a SHA256SUMS, or a document with names and digests.
///
/// # Errors
/// Exit code 2: it cannot be read, or is none of these.
pub fn read(path: &Path) -> Result<Expected, Failure> {
    let unusable = |problem: String| {
        Failure::usage(format!("{} does not say what to expect: {problem}", path.display())).help(
            "give a folder with the release's files and nothing else, a SHA256SUMS, or a document about the release: a statement, \
             .intoto.json or .sigstore.json, or what `rutli release show ID --json` prints",
        )
    };
    let found =
        if path.is_dir() { folder(path)? } else { document(&files::read(path)?).map_err(unusable)? };
    collect(found).map_err(unusable)
}

fn collect(found: Vec<(String, ExpectedFile)>) -> Result<Expected, String> {
    if !(1..=MAX_ARTIFACTS).contains(&found.len()) {
        return Err(format!("it names {} files, and a release has 1 to {MAX_ARTIFACTS}", found.len()));
    }
    let mut expected = Expected::new();
    for (name, file) in found {
        let shown = text::printable(&name);
        let name = ArtifactName::new(name).map_err(|error| format!("{shown}: {error}"))?;
        if expected.insert(name, file).is_some() {
            return Err(format!("it names {shown} twice"));
        }
    }
    Ok(expected)
}

/// Every file of a folder and its folders, named by its path.
fn folder(root: &Path) -> Result<Vec<(String, ExpectedFile)>, Failure> {
    let (mut names, mut paths) = (Vec::new(), Vec::new());
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let cannot = |error: std::io::Error| files::cannot("look into", &folder, &error);
        for entry in fs::read_dir(&folder).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let is_folder = fs::symlink_metadata(&path).map_err(cannot)?.is_dir();
            if is_folder && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
                continue;
            }
            if paths.len() >= MAX_ARTIFACTS {
                return Err(Failure::usage(format!(
                    "{} has more than {MAX_ARTIFACTS} files, and no release has",
                    root.display()
                ))
                .help("give a folder with the release's files and nothing else"));
            }
            // A link to a file is hashed as its file, as `rutli sign` does.
            names.push(crate::sign::name_of(&path, Some(root))?);
            paths.push(path);
        }
    }
    let hashed = hash::hash_files(&paths, hash::Digests::Sha256)?;
    let file = |file: hash::Hashed| ExpectedFile {
        sha256: file.sha256,
        size: Some(file.size),
        path: Some(file.path),
    };
    Ok(names.into_iter().zip(hashed.into_iter().map(file)).collect())
}

/// By content, not by name.
fn document(bytes: &[u8]) -> Result<Vec<(String, ExpectedFile)>, String> {
    if bytes.starts_with(b"DSSEv1 ") {
        return statement(encoded(bytes).ok_or("it is a statement that is cut short")?);
    }
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return sums(std::str::from_utf8(bytes).map_err(|_| "it is neither text nor a folder")?);
    }
    match json(bytes)? {
        Document { payload: Some(payload), .. }
        | Document { dsse_envelope: Some(Envelope { payload }), .. } => {
            statement(&STANDARD.decode(payload).map_err(|_| "its payload is no Base64")?)
        }
        Document { subject: Some(subjects), .. } => self::subjects(subjects),
        Document { artifacts: Some(artifacts), .. } => {
            artifacts.into_iter().map(|Artifact { name, size, sha256 }| file(name, &sha256, size)).collect()
        }
        _ => Err("it is JSON, but has neither `subject`, `payload`, `dsseEnvelope` nor `artifacts`".into()),
    }
}

/// `DSSEv1 <length> <type> <length> <statement>`
fn encoded(bytes: &[u8]) -> Option<&[u8]> {
    let mut parts = bytes.splitn(5, |byte| *byte == b' ').skip(3);
    let (length, body) = (parts.next()?, parts.next()?);
    let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
    (body.len() == length).then_some(body)
}

fn statement(bytes: &[u8]) -> Result<Vec<(String, ExpectedFile)>, String> {
    subjects(json(bytes)?.subject.ok_or("its statement has no `subject`")?)
}

fn subjects(subjects: Vec<Subject>) -> Result<Vec<(String, ExpectedFile)>, String> {
    let named = |Subject { name, digest }: Subject| {
        let sha256 = digest.get("sha256").cloned().unwrap_or_default();
        file(name, &sha256, None)
    };
    subjects.into_iter().map(named).collect()
}

/// As coreutils write it: `<SHA-256>  <name>`, or `<SHA-256> *<name>`.
fn sums(text: &str) -> Result<Vec<(String, ExpectedFile)>, String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once(' ').and_then(|(sha256, rest)| {
            let name = rest.strip_prefix([' ', '*'])?;
            Some((sha256, name.strip_prefix("./").unwrap_or(name)))
        });
        let read = parts.ok_or_else(|| "it is no `<SHA-256>  <name>`".to_owned());
        let read = read.and_then(|(sha256, name)| file(name.to_owned(), sha256, None));
        found.push(read.map_err(|problem| format!("line {}: {problem}", number + 1))?);
    }
    Ok(found)
}

fn file(name: String, sha256: &str, size: Option<u64>) -> Result<(String, ExpectedFile), String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(sha256, &mut digest)
        .map_err(|_| format!("{} has no SHA-256 in hexadecimal", text::printable(&name)))?;
    Ok((name, ExpectedFile { sha256: digest, size, path: None }))
}

fn json(bytes: &[u8]) -> Result<Document, String> {
    rutli_release::json::parse(bytes).map_err(|error| text::printable(&error.to_string()))
}

/// Whichever it is.
#[derive(Deserialize)]
struct Document {
    subject: Option<Vec<Subject>>,
    payload: Option<String>,
    #[serde(default, rename = "dsseEnvelope", deserialize_with = "rutli_release::json::maybe_object")]
    dsse_envelope: Option<Envelope>,
    artifacts: Option<Vec<Artifact>>,
}

#[derive(Deserialize)]
struct Envelope {
    payload: String,
}

#[derive(Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    size: Option<u64>,
    sha256: String,
}

#[cfg(test)]
mod tests {
    use rutli_release::{
        Class, Format, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease, signed_files,
    };
    use serde_json::json;

    use super::*;

    fn names(path: &Path) -> Vec<(String, [u8; 32])> {
        read(path).unwrap().into_iter().map(|(name, file)| (name.to_string(), file.sha256)).collect()
    }

    #[test]
    fn every_form_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("files");
        fs::create_dir_all(files.join("bin")).unwrap();
        let sha256 = |content: &str| -> [u8; 32] { <sha2::Sha256 as sha2::Digest>::digest(content).into() };
        let artifacts = [("bin/suite", "one"), ("notes", "two")].map(|(name, content)| {
            fs::write(files.join(name), content).unwrap();
            (name.to_owned(), sha256(content))
        });
        let release = UnverifiedRelease {
            class: Class::ProductBuild,
            product: "suite".into(),
            channel: "stable".into(),
            version: "1".into(),
            sequence: 1,
            issued_at: 1_795_255_200,
            expires_at: None,
            artifacts: artifacts
                .iter()
                .map(|(name, sha256)| UnverifiedArtifact { name: name.clone(), sha256: sha256.to_vec() })
                .collect(),
            formats: vec![Format::Dsse, Format::Statement],
        };
        let release = release.verify().unwrap();
        let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let key = ReleaseKey::from_bytes(secret.verifying_key().as_bytes()).unwrap();
        let signatures: Vec<_> = release
            .signables()
            .iter()
            .map(|signable| ed25519_dalek::Signer::sign(&secret, &signable.bytes).to_bytes())
            .collect();
        let mut places = vec![files];
        for file in signed_files(&release, &ReleaseId::new("r").unwrap(), &key, &signatures).unwrap() {
            let path = folder.path().join(&file.name);
            fs::write(&path, &file.bytes).unwrap();
            if file.name.ends_with(".intoto.json") {
                let envelope: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
                let bundle = json!({ "mediaType": "x", "dsseEnvelope": envelope });
                fs::write(folder.path().join("r.sigstore.json"), bundle.to_string()).unwrap();
                places.push(folder.path().join("r.sigstore.json"));
            }
            if !file.name.ends_with(".sig") {
                places.push(path);
            }
        }
        fs::write(folder.path().join("plain.json"), release.statement()).unwrap();
        let list = |line: fn(&str, &str) -> String| -> String {
            artifacts.iter().map(|(name, sha256)| line(name, &hex::encode(sha256))).collect()
        };
        let sums = list(|name, sha256| format!("{sha256}  ./{name}\n"));
        fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
        fs::write(folder.path().join("binary"), list(|name, sha256| format!("{sha256} *{name}\n"))).unwrap();
        let shown = json!({ "artifacts": artifacts.iter().map(|(name, sha256)| {
            json!({ "name": name, "size": 3, "sha256": hex::encode(sha256) })
        }).collect::<Vec<_>>() });
        fs::write(folder.path().join("show.json"), serde_json::to_string_pretty(&shown).unwrap()).unwrap();
        places
            .extend(["plain.json", "SHA256SUMS", "binary", "show.json"].map(|name| folder.path().join(name)));
        assert_eq!(places.len(), 8);
        for place in places {
            assert_eq!(names(&place), artifacts, "{}", place.display());
        }
    }

    #[test]
    fn what_says_nothing_is_refused_with_the_reason() {
        let digest = "ab".repeat(32);
        for (content, reason) in [
            (String::new(), "names 0 files"),
            ("{}".into(), "neither `subject`"),
            ("{".into(), "EOF"),
            ("rubbish".into(), "line 1: it is no"),
            (format!("{digest}  a\n{digest}  a\n"), "a twice"),
            (format!("{digest}  ../a\n"), "../a: "),
            (format!("{digest}  /etc/passwd\n"), "/etc/passwd: "),
            ("abcd  a\n".into(), "a has no SHA-256"),
            (r#"{"subject":[]}"#.into(), "names 0 files"),
            (r#"{"subject":[{"name":"a","digest":{"sha512":"00"}}]}"#.into(), "a has no SHA-256"),
            (r#"{"payload":"*"}"#.into(), "no Base64"),
            (r#"{"payload":"e30="}"#.into(), "no `subject`"),
            ("DSSEv1 1 x 9 {}".into(), "cut short"),
            (format!("{digest}  a\n").repeat(5001), "names 5001 files"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("expected");
            fs::write(&path, &content).unwrap();
            let failure = read(&path).unwrap_err();
            assert_eq!(failure.exit.code(), 2);
            assert!(failure.problem.contains(reason), "{content:.40}: {}", failure.problem);
        }
    }
}
