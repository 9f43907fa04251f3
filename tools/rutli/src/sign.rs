//! `rutli sign`: hash files where they lie, ask for a release, wait for it, write its signatures.
//!
//! The request id follows from the content unless one is given. So the command may be run again after any crash, here or
//! there, and comes to the same release.

mod progress;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use rutli_evidence::Evidence;
use rutli_release::{
    Channel, Class, Expectation, Format, Product, ReleaseKey, RequestId, Sequence, Timestamp,
    VerifiedRelease, Version, verify_dsse, verify_sshsig, verify_statement,
};
use rutli_wire::{
    convert::{class_to_wire, format_to_wire, release_from_request},
    v1,
};
use serde_json::{Value, json};
use tonic::{Status, transport::Channel as Connection};

use self::progress::Progress;
use crate::{
    cli, client, evidence, files,
    hash::{self, Digests, Hashed},
    release_files, releases,
    report::{Failure, Report},
    status, text, waits,
};

/// Attempts to hand a request in while the coordinator says that it is not ready.
const CREATE_ATTEMPTS: u32 = 6;

/// Numbers that are asked for with `--sequence next` before the command gives up.
const NEXT_ATTEMPTS: u32 = 5;

/// Files that the report lists by name.
const LISTED_FILES: usize = 10;

/// What is to be signed, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// What kind of release.
    pub class: Class,
    /// The product.
    pub product: Product,
    /// The channel.
    pub channel: Channel,
    /// The version.
    pub version: Version,
    /// Goes up in its channel.
    pub sequence: Sequence,
    /// Unix seconds.
    pub expires_at: Option<u64>,
    /// Unix seconds: until then the log shows that something was asked for, and not what.
    pub embargo_until: Option<u64>,
    /// Empty: all.
    pub formats: Vec<Format>,
    /// None: from the content.
    pub request_id: Option<RequestId>,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Names are relative to it; none: file names.
    pub base: Option<PathBuf>,
    /// What goes with the request: attestations, approvals.
    pub evidence: Vec<Evidence>,
}

/// How a release ended well.
#[derive(Clone, Debug)]
pub struct Signed {
    /// As the coordinator gave it.
    pub release: v1::Release,
    /// The files written.
    pub written: Vec<PathBuf>,
    /// Files that were changed after they were hashed: for these nothing was written.
    pub changed: Vec<PathBuf>,
}

/// `rutli sign`
///
/// # Errors
/// As [`sign`].
pub async fn run(
    args: cli::Sign,
    connect: impl Future<Output = Result<Connection, Failure>>,
) -> Result<Report, Failure> {
    let key = args.key.as_deref().map(read_key).transpose()?;
    let sequence = match args.sequence {
        cli::Number::Given(sequence) => sequence,
        // Until the coordinator has named one.
        cli::Number::Next => Sequence::new(1).map_err(|error| Failure::usage(error.to_string()))?,
    };
    let request = Request {
        class: args.class,
        product: args.product.clone(),
        channel: args.channel.clone(),
        version: args.version.clone(),
        sequence,
        expires_at: args.expires_at,
        embargo_until: args.embargo_until,
        formats: args.formats.clone(),
        request_id: args.request_id.clone(),
        files: args.files.clone(),
        base: args.base.clone(),
        evidence: evidence::read(&args.evidence)?,
    };
    let (mut wire, hashed) = prepare(&request)?;
    if !args.no_wait {
        // A release that is signed must have a place to be written to.
        files::create_output_folder(&args.out)?;
    }
    let connection = connect.await?;
    let release = match args.sequence {
        cli::Number::Given(_) => ask(connection.clone(), &wire, &request.evidence, &args).await?,
        cli::Number::Next => ask_for_next(connection.clone(), &mut wire, &request, &args).await?,
    };
    if args.no_wait {
        let mut report =
            format!("release {} is {}", text::printable(&release.release_id), releases::stage(&release));
        if let Some(advice) = waits::advice(&release, None) {
            report = format!("{report}\n{advice}");
        }
        return Ok(Report::new(report, releases::to_json(&release)));
    }
    let asked = Asked { wire: &wire, hashed: &hashed };
    let signed = finish(connection.clone(), release, &asked, key.as_ref(), &args.out).await?;
    let signed = prove(connection, signed, args.proof_timeout, &args.out).await?;
    unchanged(&signed, report(&signed, &args.out))
}

/// A signature over the old content does not cover the new one: the caller, who publishes both, must be told.
fn unchanged(signed: &Signed, report: Report) -> Result<Report, Failure> {
    let Some(first) = signed.changed.first() else { return Ok(report) };
    let problem = match signed.changed.len() {
        1 => format!("{} was changed after it was hashed", first.display()),
        files => format!("{files} files were changed after they were hashed, {} for one", first.display()),
    };
    let failure = Failure::changed(problem)
        .help("no signature of it was written; ask for a new release when nothing writes to it any more")
        .with(report.json);
    Err(Failure { text: report.text, ..failure })
}

/// The request, with the files as they were then.
struct Asked<'a> {
    wire: &'a v1::CreateReleaseRequest,
    hashed: &'a [Hashed],
}

/// Submits a request, and watches its release to the end, unless nobody waits for it.
async fn ask(
    connection: Connection,
    wire: &v1::CreateReleaseRequest,
    documents: &[Evidence],
    args: &cli::Sign,
) -> Result<v1::Release, Failure> {
    let release = create(connection.clone(), wire).await?;
    follow(connection, wire, release, documents, args).await
}

async fn follow(
    connection: Connection,
    wire: &v1::CreateReleaseRequest,
    release: v1::Release,
    documents: &[Evidence],
    args: &cli::Sign,
) -> Result<v1::Release, Failure> {
    let release = complete(connection.clone(), release, documents).await?;
    eprintln!("release {} (request id {})", text::printable(&release.release_id), wire.request_id);
    if args.no_wait { Ok(release) } else { wait(connection, release, args.timeout).await }
}

/// The same with a number from the coordinator, and another one if another release was faster. Each number
/// has its own request, whose id is derived from the content and the number of attempts. So the command can
/// be run again after any crash, and gets the same releases.
async fn ask_for_next(
    connection: Connection,
    wire: &mut v1::CreateReleaseRequest,
    request: &Request,
    args: &cli::Sign,
) -> Result<v1::Release, Failure> {
    let first = match &request.request_id {
        Some(id) => id.to_string(),
        None => wire.request_id.replacen("content-", "next-", 1),
    };
    wire.request_id.clone_from(&first);
    let mut asked: u32 = 1;
    for attempt in 1.. {
        wire.sequence = next_sequence(connection.clone(), wire).await?;
        let last = attempt >= NEXT_ATTEMPTS;
        match hand_in(connection.clone(), wire).await {
            Ok(release) => {
                let release = under_embargo(release, wire)?;
                let release = follow(connection.clone(), wire, release, &request.evidence, args).await?;
                if last || !was_outrun(&release) {
                    return Ok(release);
                }
                asked = asked.saturating_add(1);
                wire.request_id = again(&first, asked)?;
            }
            Err(status) if last || status::reason_of(&status) != "SEQUENCE_BEHIND" => {
                return Err(status::failure(&status));
            }
            Err(_) => {}
        }
        eprintln!("sequence {} was taken meanwhile: asking for the next one", wire.sequence);
    }
    Err(Failure::failed("no sequence was free").help("run the command again"))
}

async fn next_sequence(connection: Connection, wire: &v1::CreateReleaseRequest) -> Result<u64, Failure> {
    let asked = v1::NextSequenceRequest {
        request_id: wire.request_id.clone(),
        release_class: wire.release_class,
        product: wire.product.clone(),
        channel: wire.channel.clone(),
    };
    let next = client::releases(connection).next_sequence(asked).await;
    let sequence = next.map_err(|status| status::failure(&status))?.into_inner().sequence;
    Sequence::new(sequence).map(Sequence::get).map_err(|error| releases::rubbish(&error.to_string()))
}

/// The id of a request that is made once more, with another number.
fn again(first: &str, asked: u32) -> Result<String, Failure> {
    RequestId::new(format!("{first}.{asked}")).map(|id| id.to_string()).map_err(|error| {
        Failure::usage(format!("the request id cannot be used again with a number behind it: {error}"))
            .help("give a shorter --request-id, or none")
    })
}

/// Whether a release ended for its number alone, so that another number may do.
fn was_outrun(release: &v1::Release) -> bool {
    let number =
        |refusal: &v1::Refusal| ["sequence-behind", "sequence-conflict"].contains(&refusal.code.as_str());
    match release.state() {
        v1::ReleaseState::Overtaken => true,
        v1::ReleaseState::Refused => release.refusals.iter().all(number),
        _ => false,
    }
}

/// Has files signed and writes the signatures to `out`, and the proofs if they come within `proof_timeout`: what
/// `rutli sign` does, for programs.
///
/// # Errors
/// Exit code 1 when it ends unsigned, 2 for files or fields that cannot be, 3 when the coordinator cannot be reached or
/// does not permit it, 4 when time is up, 6 when a file was changed after it was hashed.
pub async fn sign(
    connection: Connection,
    request: &Request,
    key: Option<&ReleaseKey>,
    out: &Path,
    timeout: Option<Duration>,
    proof_timeout: Duration,
) -> Result<Signed, Failure> {
    let documents = request.evidence.clone();
    let request = request.clone();
    // Off this thread, so that the caller can be interrupted meanwhile.
    let prepared = tokio::task::spawn_blocking(move || prepare(&request)).await;
    let (wire, hashed) = prepared.map_err(|error| Failure::failed(error.to_string()))??;
    let release = create(connection.clone(), &wire).await?;
    let release = complete(connection.clone(), release, &documents).await?;
    let release = wait(connection.clone(), release, timeout).await?;
    let asked = Asked { wire: &wire, hashed: &hashed };
    let signed = finish(connection.clone(), release, &asked, key, out).await?;
    let signed = prove(connection, signed, proof_timeout, out).await?;
    unchanged(&signed, report(&signed, out))?;
    Ok(signed)
}

/// Hashes the files and makes the request for the wire, with a request id that follows from the content.
///
/// # Errors
/// Exit code 2: files that cannot be read, fields that no coordinator would take.
pub fn prepare(request: &Request) -> Result<(v1::CreateReleaseRequest, Vec<Hashed>), Failure> {
    // The limits are checked before gigabytes are read.
    let (mut wire, names) = check(request)?;
    let hashed = hash::hash_files(&request.files, Digests::Sha256)?;
    wire.artifacts = names
        .into_iter()
        .zip(&hashed)
        .map(|(name, file)| v1::Artifact { name, sha256: file.sha256.to_vec() })
        .collect();
    let digest = checked(&wire)?.request_digest();
    wire.request_id = match &request.request_id {
        Some(id) => id.to_string(),
        None => format!("content-{}", hex::encode(digest)),
    };
    Ok((wire, hashed))
}

/// Checks all but the content of the files, which is not read; gives the request so far, and the files' names in it.
///
/// # Errors
/// Exit code 2: names or fields that no coordinator would take.
pub fn check(request: &Request) -> Result<(v1::CreateReleaseRequest, Vec<String>), Failure> {
    let names = request
        .files
        .iter()
        .map(|path| name_of(path, request.base.as_deref()))
        .collect::<Result<Vec<_>, _>>()?;
    let wire = wire_request(request, names.iter().map(|name| placeholder(name)).collect());
    checked(&wire)?;
    Ok((wire, names))
}

/// Hands the request in. The same request may come twice, so a coordinator that is not ready is asked again.
///
/// # Errors
/// As the coordinator answers.
pub async fn create(
    connection: Connection,
    request: &v1::CreateReleaseRequest,
) -> Result<v1::Release, Failure> {
    let release = hand_in(connection, request).await.map_err(|status| status::failure(&status))?;
    under_embargo(release, request)
}

async fn hand_in(connection: Connection, request: &v1::CreateReleaseRequest) -> Result<v1::Release, Status> {
    let mut client = client::releases(connection);
    let mut delay = Duration::from_millis(200);
    for attempt in 1.. {
        match client.create_release(request.clone()).await {
            Ok(release) => return Ok(release.into_inner()),
            Err(status) if attempt < CREATE_ATTEMPTS && status::is_passing(&status) => {
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
            Err(status) => return Err(status),
        }
    }
    Err(Status::unavailable("the coordinator is not ready"))
}

/// A release that was asked for before is as it was then: evidence that it does not have yet is added to it.
async fn complete(
    connection: Connection,
    release: v1::Release,
    documents: &[Evidence],
) -> Result<v1::Release, Failure> {
    let there: BTreeSet<&[u8]> = release.evidence.iter().map(|info| info.digest.as_slice()).collect();
    let missing: Vec<_> =
        documents.iter().filter(|document| !there.contains(&document.digest()[..])).cloned().collect();
    if missing.is_empty() || releases::is_final(release.state) {
        return Ok(release);
    }
    evidence::add(connection, &release.release_id, &missing).await
}

/// Whoever asks for an embargo must know at once that there is none: by now the log may show everything.
fn under_embargo(release: v1::Release, request: &v1::CreateReleaseRequest) -> Result<v1::Release, Failure> {
    if release.embargo_until == request.embargo_until {
        return Ok(release);
    }
    let id = text::printable(&release.release_id);
    let (problem, help) = if release.embargo_until == 0 {
        (
            format!("release {id} is not under embargo: the log shows what was asked for"),
            "it was asked for before without --embargo-until; ask for an embargo the first time",
        )
    } else {
        (
            format!("release {id} is under another embargo, until {}", text::time(release.embargo_until)),
            "it was asked for before: give the same --embargo-until, or end it with `rutli release disclose`",
        )
    };
    Err(Failure::failed(problem).help(help).with(releases::to_json(&release)))
}

/// Follows the release until it is final; Ctrl-C and the end of time say how to go on.
async fn wait(
    connection: Connection,
    release: v1::Release,
    timeout: Option<Duration>,
) -> Result<v1::Release, Failure> {
    if releases::is_final(release.state) {
        return Ok(release);
    }
    let id = text::printable(&release.release_id);
    let still_there = |problem: String, release: &v1::Release| {
        let advice = waits::advice(release, None).map(|advice| format!("{advice}\n")).unwrap_or_default();
        Failure::waiting(problem)
            .help(format!("{advice}it goes on at the coordinator: run the same command again to wait for it,\nor take it back with `rutli release cancel {id}`"))
            .with(releases::to_json(release))
    };
    let mut seen = release.clone();
    let mut progress = Progress::new();
    let following = releases::follow(connection, &release.release_id, |release| {
        progress.show(release);
        seen.clone_from(release);
    });
    let ended = tokio::select! {
        result = releases::within(timeout, following) => result.ok_or("time is up"),
        _ = tokio::signal::ctrl_c() => Err("interrupted"),
    };
    ended.unwrap_or_else(|why| {
        Err(still_there(format!("{why}: release {id} is not signed yet; {}", progress.last), &seen))
    })
}

/// From a final release to files, after checking that it is what was asked for.
async fn finish(
    connection: Connection,
    release: v1::Release,
    asked: &Asked<'_>,
    key: Option<&ReleaseKey>,
    out: &Path,
) -> Result<Signed, Failure> {
    releases::signed_or_failure(&release)?;
    // A watcher gets the files too, but what counts is what can be fetched again at any time.
    let release = releases::get(connection, &release.release_id).await?;
    releases::signed_or_failure(&release)?;
    let content = releases::content(&release)?;
    if content.request_digest() != checked(asked.wire)?.request_digest() {
        return Err(Failure::failed(format!(
            "release {} is not what was asked for: the coordinator signed something else",
            text::printable(&release.release_id)
        ))
        .help("do not use it; look at the coordinator"));
    }
    if let Some(key) = key {
        verify_all(key, &release, &content)?;
    }
    // In the order of the request, and so of the content.
    let changed = asked.hashed.iter().enumerate().filter(|(_, file)| file.has_changed());
    let (places, changed): (Vec<usize>, _) = changed.map(|(place, file)| (place, file.path.clone())).unzip();
    let written = release_files::write_all(&release, &content, out, &places)?;
    Ok(Signed { release, written, changed })
}

/// Waits for the proof that the signature is in the log, which follows the signature, and writes it. A release is signed
/// without it: that it does not come in time is no failure.
async fn prove(
    connection: Connection,
    signed: Signed,
    timeout: Duration,
    out: &Path,
) -> Result<Signed, Failure> {
    if signed.release.proven_at != 0 || timeout.is_zero() {
        return Ok(signed);
    }
    let id = &signed.release.release_id;
    let proven = tokio::select! {
        proven = releases::within(Some(timeout), releases::follow_proof(connection.clone(), id)) => proven,
        _ = tokio::signal::ctrl_c() => None,
    };
    let Some(Ok(_)) = proven else { return Ok(signed) };
    let release = releases::get(connection, id).await?;
    let proofs = release_files::write_proofs(&release, &releases::content(&signed.release)?, out)?;
    Ok(Signed { release, written: [signed.written, proofs].concat(), changed: signed.changed })
}

/// Verifies every file of a release against the digests that were computed here.
fn verify_all(key: &ReleaseKey, release: &v1::Release, content: &VerifiedRelease) -> Result<(), Failure> {
    let refused = |name: &str, why: String| {
        Failure::failed(format!("{} does not verify: {why}", text::printable(name)))
            .help("nothing was written; check that --key is the key of this deployment")
    };
    let expectation = Expectation {
        product: Some(content.product().clone()),
        channel: Some(content.channel().clone()),
        class: Some(content.class()),
        min_sequence: Some(content.sequence()),
        now: None::<Timestamp>,
    };
    let file = |name: &str| release.files.iter().find(|file| file.name == name);
    for signed in &release.files {
        let name = signed.name.as_str();
        let artifact = content
            .artifacts()
            .iter()
            .find(|artifact| name.strip_suffix(".sig").is_some_and(|stem| stem == artifact.name.file_name()));
        let statement = if name.ends_with(".intoto.json") {
            verify_dsse(key, &signed.data)
        } else if let Some(artifact) = artifact {
            let armour =
                std::str::from_utf8(&signed.data).map_err(|_| refused(name, "it is not text".to_owned()))?;
            verify_sshsig(key, armour, &artifact.sha256)
                .and_then(|verdict| {
                    verdict.namespace.expect(&Expectation { min_sequence: None, ..expectation.clone() })
                })
                .map_err(|error| refused(name, error.to_string()))?;
            continue;
        } else if name.ends_with(".statement") {
            let signature = file(&format!("{name}.sig")).and_then(|file| file.data.as_ref().try_into().ok());
            verify_statement(
                key,
                &signed.data,
                signature.ok_or_else(|| refused(name, "its signature is missing".to_owned()))?,
            )
        } else {
            continue;
        };
        let statement = statement.map_err(|error| refused(name, error.to_string()))?;
        statement.expect(&expectation).map_err(|error| refused(name, error.to_string()))?;
        for artifact in content.artifacts() {
            statement
                .check_file(Some(artifact.name.as_str()), &artifact.sha256)
                .map_err(|error| refused(name, error.to_string()))?;
        }
    }
    Ok(())
}

fn report(signed: &Signed, out: &Path) -> Report {
    let release = &signed.release;
    let in_log = if release.proven_at == 0 {
        releases::not_proven(release, out)
    } else {
        format!("since {}, its request in entry {}", text::time(release.proven_at), release.log_index)
    };
    let mut written: Vec<_> =
        signed.written.iter().take(LISTED_FILES).map(|path| path.display().to_string()).collect();
    if signed.written.len() > LISTED_FILES {
        written.push(format!("… {} in all in {}", signed.written.len(), out.display()));
    }
    let text = text::fields([
        ("release", text::printable(&release.release_id)),
        (
            "signed by",
            format!("{} with key {}", text::list(&release.signed_by), text::printable(&release.key)),
        ),
        ("in the log", in_log),
        ("written", written.join("\n")),
    ]);
    let mut json = releases::to_json(release);
    if let Value::Object(fields) = &mut json {
        fields.insert("written".to_owned(), json!(signed.written));
    }
    Report::new(text, json)
}

/// Reads a release key.
///
/// # Errors
/// Exit code 2.
pub fn read_key(path: &Path) -> Result<ReleaseKey, Failure> {
    ReleaseKey::from_pem(&files::read_text(path)?).map_err(|error| {
        Failure::usage(format!("{}: {error}", path.display()))
            .help("give the public key that `rutli keys export` writes: release.pem")
    })
}

/// The name of a file in the release: its file name, or its path below `base`.
///
/// # Errors
/// Exit code 2: a path that has no such name.
pub fn name_of(path: &Path, base: Option<&Path>) -> Result<String, Failure> {
    let not_text =
        || Failure::usage(format!("the name of {} is not UTF-8", path.display())).help("rename it");
    let Some(base) = base else {
        let name = path
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{} does not name a file", path.display())))?;
        return Ok(name.to_str().ok_or_else(not_text)?.to_owned());
    };
    let (path, base) = (files::absolute(path)?, files::absolute(base)?);
    let below = path.strip_prefix(&base).map_err(|_| {
        Failure::usage(format!("{} is not below {}", path.display(), base.display()))
            .help("give a --base that all files are below")
    })?;
    Ok(below.to_str().ok_or_else(not_text)?.to_owned())
}

fn wire_request(request: &Request, artifacts: Vec<v1::Artifact>) -> v1::CreateReleaseRequest {
    v1::CreateReleaseRequest {
        request_id: String::new(),
        release_class: class_to_wire(request.class).into(),
        product: request.product.to_string(),
        channel: request.channel.to_string(),
        version: request.version.to_string(),
        sequence: request.sequence.get(),
        expires_at: request.expires_at.unwrap_or(0),
        artifacts,
        formats: request.formats.iter().map(|format| format_to_wire(*format).into()).collect(),
        embargo_until: request.embargo_until.unwrap_or(0),
        evidence: request.evidence.iter().map(|document| document.as_bytes().to_vec().into()).collect(),
    }
}

fn placeholder(name: &str) -> v1::Artifact {
    v1::Artifact { name: name.to_owned(), sha256: vec![0; 32] }
}

/// The request as the coordinator will read it, but for the time, which is not part of what is asked for.
fn checked(request: &v1::CreateReleaseRequest) -> Result<VerifiedRelease, Failure> {
    release_from_request(request.clone(), 1).map_err(|error| {
        Failure::usage(error.to_string()).help("`rutli sign --help` explains what a release is made of")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(files: Vec<PathBuf>, base: Option<PathBuf>) -> Request {
        Request {
            class: Class::ProductBuild,
            product: Product::new("x").unwrap(),
            channel: Channel::new("stable").unwrap(),
            version: Version::new("1").unwrap(),
            sequence: Sequence::new(1).unwrap(),
            expires_at: None,
            embargo_until: None,
            formats: vec![],
            request_id: None,
            files,
            base,
            evidence: vec![],
        }
    }

    #[test]
    fn the_request_id_follows_from_the_content_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, b"one").unwrap();
        let id = |request: &Request| prepare(request).unwrap().0.request_id;
        let first = request(vec![file.clone()], None);
        assert_eq!(id(&first), id(&first));
        RequestId::new(id(&first)).unwrap();
        let mut later = first.clone();
        later.sequence = Sequence::new(2).unwrap();
        assert_ne!(id(&first), id(&later));
        let before = id(&first);
        std::fs::write(&file, b"two").unwrap();
        assert_ne!(id(&first), before);
        let mut named = first.clone();
        named.request_id = Some(RequestId::new("mine").unwrap());
        assert_eq!(id(&named), "mine");
    }

    #[test]
    fn only_a_number_that_was_taken_is_asked_for_again() {
        let refused = |codes: &[&str]| v1::Release {
            state: v1::ReleaseState::Refused.into(),
            refusals: codes
                .iter()
                .map(|code| v1::Refusal { code: (*code).to_owned(), ..v1::Refusal::default() })
                .collect(),
            ..v1::Release::default()
        };
        assert!(was_outrun(&refused(&["sequence-behind", "sequence-conflict"])));
        for codes in [["sequence-behind", "not-allowed"], ["sequence-step", "sequence-step"]] {
            assert!(!was_outrun(&refused(&codes)), "{codes:?}");
        }
        let ended = |state: v1::ReleaseState| v1::Release { state: state.into(), ..v1::Release::default() };
        assert!(was_outrun(&ended(v1::ReleaseState::Overtaken)));
        assert!(
            !was_outrun(&ended(v1::ReleaseState::Expired)) && !was_outrun(&ended(v1::ReleaseState::Signed))
        );
        assert_eq!(again("job", 2).unwrap(), "job.2");
        assert_eq!(again(&"x".repeat(128), 2).unwrap_err().exit.code(), 2);
    }

    #[test]
    fn an_embargo_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, b"one").unwrap();
        let wanted = Request { embargo_until: Some(86_400), ..request(vec![file], None) };
        let (wire, _) = prepare(&wanted).unwrap();
        assert_eq!(wire.embargo_until, 86_400);
        let answer = |embargo_until| {
            under_embargo(v1::Release { embargo_until, ..v1::Release::default() }, &wire).map(drop)
        };
        answer(86_400).unwrap();
        let none = answer(0).unwrap_err();
        assert_eq!(none.exit.code(), 1);
        assert!(none.problem.contains("is not under embargo"), "{}", none.problem);
        assert!(answer(5).unwrap_err().problem.contains("until 1970-01-01T00:00:05Z"));
    }

    #[test]
    fn a_proof_that_is_not_there_yet_is_no_failure_and_has_a_way_out() {
        let release = v1::Release { release_id: "x-1".to_owned(), log_index: 7, ..v1::Release::default() };
        let signed = |proven_at| Signed {
            release: v1::Release { proven_at, ..release.clone() },
            written: vec![],
            changed: vec![],
        };
        let without = report(&signed(0), Path::new("out"));
        assert!(without.text.contains("rutli release fetch x-1 --out out"), "{}", without.text);
        assert_eq!(without.json["proven"], false);
        let with = report(&signed(86_400), Path::new("out"));
        assert!(with.text.contains("since 1970-01-02T00:00:00Z, its request in entry 7"), "{}", with.text);
        assert_eq!(with.json["proven"], true);
    }

    #[test]
    fn names_are_file_names_or_paths_below_the_base() {
        let base = Path::new("/a/b");
        assert_eq!(name_of(Path::new("/a/b/c/d"), None).unwrap(), "d");
        assert_eq!(name_of(Path::new("/a/b/c/d"), Some(base)).unwrap(), "c/d");
        assert!(name_of(Path::new("/a/x/d"), Some(base)).is_err());
        assert!(name_of(Path::new("/"), None).is_err());
    }

    #[test]
    fn what_no_coordinator_would_take_is_refused_before_hashing() {
        let folder = tempfile::tempdir().unwrap();
        for sub in ["a", "b"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
            std::fs::write(folder.path().join(sub).join("same"), sub).unwrap();
        }
        let files = vec![folder.path().join("a/same"), folder.path().join("b/same")];
        let failure = prepare(&request(files, None)).unwrap_err();
        assert_eq!(failure.exit.code(), 2);
        let missing = prepare(&request(vec![folder.path().join("none")], None)).unwrap_err();
        assert!(missing.problem.contains("does not exist"));
    }
}
