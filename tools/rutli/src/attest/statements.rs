//! `rutli attest provenance` and `rutli attest test-result`, and what all attestations share: names, digests, key and file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use rutli_evidence::{
    AttestationSigner, Build, File, NotMade, SourceDigest, TestRun, limits::MAX_EVIDENCE_BYTES,
    provenance_statement, sign_dsse, test_statement,
};
use rutli_release::{ArtifactName, limits::MAX_ARTIFACTS};
use serde_json::{Value, json};

use crate::{
    cli, clock,
    files::{self, Access},
    hash::{self, Digests, Hashed},
    report::{Failure, Report},
    sign::name_of,
    text,
};

/// `rutli attest provenance`
///
/// # Errors
/// Exit code 2: a key, a file or a field that cannot be used. 1: the attestation cannot be made.
pub fn provenance(args: &cli::AttestProvenance) -> Result<Report, Failure> {
    let signer = read_signer(&args.signing.key)?;
    let mut parameters = BTreeMap::new();
    for (name, value) in &args.parameters {
        if parameters.insert(name.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("--param {} is given twice", text::printable(name)))
                .help("give each parameter once"));
        }
    }
    let source_digest = match (&args.source, &args.source_digest) {
        (_, Some(digest)) => digest.clone(),
        (Some(archive), None) => SourceDigest::Sha256(sha256_of(archive)?),
        (None, None) => {
            return Err(Failure::usage("the source is not named").help("give --source or --source-digest"));
        }
    };
    let attested = Attested::read(&args.files)?;
    let build = Build {
        builder_id: args.builder_id.clone(),
        build_type: args.build_type.clone(),
        parameters,
        source_uri: args.source_uri.clone(),
        source_digest,
        invocation_id: args.invocation_id.clone(),
        started_at: None,
        finished_at: Some(clock::unix_now()),
    };
    let (files, statement) = fitting(attested.files.clone(), |files| provenance_statement(files, &build))?;
    attested.check_unchanged()?;
    write(&statement, &signer, &args.signing.out)?;
    Ok(report(
        &format!(
            "attested: {} built from {} by {}",
            text::count(files.len(), "file", "files"),
            build.source_digest,
            text::printable(&build.builder_id)
        ),
        json!({
            "builder_id": build.builder_id,
            "source_digest": build.source_digest.to_string(),
        }),
        &files,
        &args.signing.out,
    ))
}

/// `rutli attest test-result`
///
/// # Errors
/// As [`provenance`].
pub fn test_result(args: &cli::AttestTests) -> Result<Report, Failure> {
    let signer = read_signer(&args.signing.key)?;
    let names = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let (passed, warned, failed) = (names(&args.passed), names(&args.warned), names(&args.failed));
    if passed.is_empty() && warned.is_empty() && failed.is_empty() {
        return Err(
            Failure::usage("no test is named").help("name each test with --passed, --warned or --failed")
        );
    }
    let both = passed
        .intersection(&warned)
        .chain(passed.intersection(&failed))
        .chain(warned.intersection(&failed))
        .next();
    if let Some(name) = both {
        return Err(Failure::usage(format!(
            "the test {} cannot have ended in two ways",
            text::printable(name)
        ))
        .help("name each test once"));
    }
    let mut configurations = Vec::new();
    for path in &args.configurations {
        configurations.push(File { name: name_of(path, None)?, sha256: sha256_of(path)?, others: None });
    }
    let attested = Attested::read(&args.files)?;
    let result = match (failed.is_empty(), warned.is_empty()) {
        (true, true) => "PASSED",
        (true, false) => "WARNED",
        (false, _) => "FAILED",
    };
    let run = TestRun { configurations, passed, warned, failed, url: args.url.clone() };
    let (files, statement) = fitting(attested.files.clone(), |files| test_statement(files, &run))?;
    attested.check_unchanged()?;
    write(&statement, &signer, &args.signing.out)?;
    let count = text::count(files.len(), "file", "files");
    let said = match result {
        "PASSED" => format!("attested: {count} passed the tests"),
        _ => format!("attested: {count}, with the result {result}, which no node takes for passed"),
    };
    Ok(report(&said, json!({ "result": result }), &files, &args.signing.out))
}

/// Reads the key that signs.
///
/// # Errors
/// Exit code 2: it is no such key, or is encrypted.
pub fn read_signer(path: &Path) -> Result<AttestationSigner, Failure> {
    let bytes = zeroize::Zeroizing::new(files::read_within(path, 64 * 1024)?);
    let unusable = |problem: &str| {
        let mut parts = problem.splitn(2, ": ");
        let what = parts.next().unwrap_or_default();
        let failure = Failure::usage(format!("{} cannot sign attestations: {what}", path.display()));
        failure.help(parts.next().unwrap_or("give a secret Ed25519 key"))
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("the file is no secret key"))?;
    AttestationSigner::from_private_key(text).map_err(|error| unusable(&error.to_string()))
}

/// Looks whether the attestation can be written, before long work.
///
/// # Errors
/// Exit code 2: not there.
pub fn check_out(out: &Path) -> Result<(), Failure> {
    if out.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", out.display()))
            .help("give a file's name, as release.rebuild.dsse.json"));
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::create_output_folder(folder)
}

/// Signs a statement and writes the attestation, whole or not at all.
///
/// # Errors
/// It would be no evidence, or cannot be written.
pub fn write(statement: &[u8], signer: &AttestationSigner, out: &Path) -> Result<(), Failure> {
    check_out(out)?;
    let envelope = sign_dsse(statement, signer).map_err(|error| not_made(&error))?;
    files::write_atomically(out, &envelope, Access::Public)
}

/// The statement about files with all their digests; with SHA-256 alone where the attestation would be too large with all of them.
/// Gives the files as they stand in it. SHA-256 is what the formats of today sign.
///
/// # Errors
/// [`not_made`]
pub fn fitting(
    mut files: Vec<File>,
    make: impl Fn(&[File]) -> Result<Vec<u8>, NotMade>,
) -> Result<(Vec<File>, Vec<u8>), Failure> {
    let mut statement = make(&files).map_err(|error| not_made(&error))?;
    if envelope_bytes(&statement) > MAX_EVIDENCE_BYTES {
        files.iter_mut().for_each(|file| file.others = None);
        statement = make(&files).map_err(|error| not_made(&error))?;
    }
    Ok((files, statement))
}

/// At most so many bytes has an attestation of this statement: Base64, and the envelope around it with its one signature.
fn envelope_bytes(statement: &[u8]) -> usize {
    statement.len().div_ceil(3).saturating_mul(4).saturating_add(512)
}

/// Looks whether an attestation of this statement would be small enough, without making one.
///
/// # Errors
/// Exit code 2: it would not be.
pub fn check_size(statement: &[u8]) -> Result<(), Failure> {
    let bytes = envelope_bytes(statement);
    if bytes <= MAX_EVIDENCE_BYTES {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the attestation would have {bytes} bytes, and evidence has at most {MAX_EVIDENCE_BYTES}"
    ))
    .help("give the files shorter names, or divide the release"))
}

/// An attestation that cannot be made.
#[must_use]
pub fn not_made(error: &NotMade) -> Failure {
    Failure::usage(error.to_string())
        .help("correct the field that it names; `rutli attest --help` says what each is for")
}

/// What was attested, and what to do with it.
#[must_use]
pub fn report(said: &str, mut document: Value, attested: &[File], out: &Path) -> Report {
    if let Value::Object(fields) = &mut document {
        let files: Vec<_> = attested
            .iter()
            .map(|file| {
                let others = file.others.as_ref();
                json!({
                    "name": file.name,
                    "sha256": hex::encode(file.sha256),
                    "sha512": others.map(|others| hex::encode(others.sha512)),
                    "blake2b": others.map(|others| hex::encode(others.blake2b)),
                })
            })
            .collect();
        fields.insert("files".to_owned(), files.into());
        fields.insert("written".to_owned(), json!(out));
    }
    let out = out.display();
    let digests = if attested.iter().all(|file| file.others.is_some()) {
        "sha256, sha512 and blake2b"
    } else {
        "sha256 alone, for it would be too large with sha512 and blake2b"
    };
    Report::new(
        format!(
            "{said}\ndigests: {digests}\nwritten to {out}; send it to the release with\n  rutli evidence add RELEASE {out}"
        ),
        document,
    )
}

/// Files with their names in the release.
struct Attested {
    hashed: Vec<Hashed>,
    files: Vec<File>,
}

impl Attested {
    fn read(args: &cli::Attested) -> Result<Self, Failure> {
        if args.files.len() > MAX_ARTIFACTS {
            return Err(Failure::usage(format!(
                "{} files are given, and a release has at most {MAX_ARTIFACTS}",
                args.files.len()
            ))
            .help("attest each release's files by themselves"));
        }
        let mut names = BTreeSet::new();
        for path in &args.files {
            let name = ArtifactName::new(name_of(path, args.base.as_deref())?).map_err(|error| {
                Failure::usage(format!("{}: {error}", path.display()))
                    .help("`rutli sign` does not take that name either")
            })?;
            if !names.insert(name.clone()) {
                return Err(Failure::usage(format!(
                    "two files are named {}",
                    text::printable(name.as_str())
                ))
                .help(
                    "give --base, so that their folders are part of their names, here and with `rutli sign`",
                ));
            }
        }
        let hashed = hash::hash_files(&args.files, Digests::All)?;
        let files = hashed
            .iter()
            .map(|file| {
                Ok(File {
                    name: name_of(&file.path, args.base.as_deref())?,
                    sha256: file.sha256,
                    others: file.others.clone(),
                })
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self { hashed, files })
    }

    fn check_unchanged(&self) -> Result<(), Failure> {
        match self.hashed.iter().find(|file| file.has_changed()) {
            None => Ok(()),
            Some(file) => Err(Failure::usage(format!("{} was changed meanwhile", file.path.display()))
                .help("attest it when nothing writes to it any more")),
        }
    }
}

fn sha256_of(path: &Path) -> Result<[u8; 32], Failure> {
    let hashed = hash::hash_files(&[PathBuf::from(path)], Digests::Sha256)?;
    hashed.first().map(|file| file.sha256).ok_or_else(|| Failure::failed("nothing was hashed"))
}
