//! `rutli attest rebuild`: a third party builds a release again from the source that it has audited, and says whether it is the same.
//!
//! One straight way: read what is expected, unpack the source, build it between walls, compare every file, and only where all are the
//! same sign. What is signed is what came out of this build.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path},
    sync::Arc,
};

use rutli_evidence::{AttestationSigner, Build, File, SourceDigest, provenance_statement};
use rutli_release::ArtifactName;
use serde_json::{Value, json};

use super::{
    archive::{self, Unpacked},
    bounds::{Bounds, Limits},
    compare::{self, Comparison},
    expected::{self, Expected, ExpectedFile},
    explain,
    isolation::{self, BUILD, Isolation, Room},
    limits::{MAX_DIFFERENCES, MAX_EXTRA},
    place::{self, Place},
    statements,
};
use crate::{
    cli, clock,
    files::{self, Access},
    interruption::Interruption,
    report::{Failure, Report},
    text,
};

/// `rutli attest rebuild`, in a place that was made before this process had any threads.
///
/// # Errors
/// Exit code 1: the build failed, was killed, ran into a bound, or cannot be kept to itself here. 2: a file or field that cannot be used.
/// 5: something else came out than was expected.
pub async fn run(args: cli::AttestRebuild, place: Place) -> Result<Report, Failure> {
    let signer = statements::read_signer(&args.signing.key)?;
    let expected = expected::read(&args.expect)?;
    check(&args)?;
    let limits = Arc::new(Limits::choose(args.limits, bounds(&args))?);
    // Before the work, so that no field spoils it at the end.
    let trial = parameters(&args, 0, Isolation::Unshare, &limits);
    let trial = build_of(&args, SourceDigest::Sha256([0; 32]), trial);
    let trial = provenance_statement(&subjects_expected(&expected), &trial);
    statements::check_size(&trial.map_err(|error| statements::not_made(&error))?)?;

    let source = unpack(&args, &place).await?;
    eprintln!("source: sha256:{}, {}", hex::encode(source.sha256), args.source.display());
    let epoch = args.source_date.unwrap_or(source.newest);
    let room = room(&args, &place, &source, epoch, limits)?;
    let isolation = Isolation::choose(args.isolation, &room).await?;
    let parameters = parameters(&args, epoch, isolation, &room.limits);
    let mut build = build_of(&args, SourceDigest::Sha256(source.sha256), parameters);
    build.started_at = Some(clock::unix_now());
    eprintln!("building in {} by {isolation}: {}", room.work.display(), text::printable(&args.command));
    eprintln!("limits: {}", room.limits);
    room.limits.warning().into_iter().for_each(|warning| eprintln!("{warning}"));
    let ended = isolation.run(&room, &["/bin/sh", "-c", &args.command], args.timeout, true).await?;
    if !ended.succeeded() {
        return Err(ended.failure());
    }
    build.finished_at = Some(clock::unix_now());

    let output = place.build().join(&source.top).join(args.output.as_deref().unwrap_or(Path::new("")));
    let (built, disk) = (place.build(), args.disk.as_u64());
    let comparison = interruptible(move || compare::compare(&expected, &output, &built, disk)).await?;
    save(&args, &comparison)?;
    if !comparison.differences.is_empty() {
        let explained = if args.diffoscope {
            explain::diffoscope(&comparison, isolation, &place, &room).await?
        } else {
            String::new()
        };
        return Err(differs(&comparison, &explained));
    }
    attest(&args, &signer, &build, &comparison, (isolation, &room.limits))
}

/// What the build may use.
#[must_use]
pub fn bounds(args: &cli::AttestRebuild) -> Bounds {
    Bounds { memory: args.memory.as_u64(), disk: args.disk.as_u64(), processes: args.processes }
}

/// Unpacks the source, and makes it the build's.
async fn unpack(args: &cli::AttestRebuild, place: &Place) -> Result<Unpacked, Failure> {
    let (archive, into) = (args.source.clone(), place.build());
    let unpacked = interruptible(move || archive::unpack(&archive, &into)).await;
    let source = unpacked.map_err(|failure| match place::full(place.path()) {
        Some(bound) => Failure::failed(format!(
            "{} is not unpacked: it does not fit into --disk {}",
            args.source.display(),
            args.disk
        ))
        .help(bound.help())
        .with(json!({ "reproduced": false, "bound": bound.as_str() })),
        None => failure,
    })?;
    place.hand_over()?;
    Ok(source)
}

/// Long work on a thread of its own, so that whoever ends this program ends it in order: nothing is left on the disk.
async fn interruptible<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let mut interruption = Interruption::listen()?.or_hang_up()?;
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => done.map_err(|error| Failure::failed(error.to_string()))?,
        signal = interruption.wait() => {
            Err(Failure::failed(format!("{signal} came; nothing is attested")).help("run the command again"))
        }
    }
}

/// Signs what came out of the build, all of which is as expected.
fn attest(
    args: &cli::AttestRebuild,
    signer: &AttestationSigner,
    build: &Build,
    comparison: &Comparison,
    (isolation, limits): (Isolation, &Limits),
) -> Result<Report, Failure> {
    let rebuilt: Vec<_> = comparison
        .rebuilt
        .iter()
        .map(|(name, file)| File { name: name.to_string(), sha256: file.sha256, others: file.others.clone() })
        .collect();
    let (rebuilt, statement) = statements::fitting(rebuilt, |files| provenance_statement(files, build))?;
    statements::write(&statement, signer, &args.signing.out)?;
    let mut said = format!(
        "reproduced: {} from {}, bit for bit",
        text::count(rebuilt.len(), "file", "files"),
        build.source_digest
    );
    if let Some(beside) = extra(comparison) {
        said = format!("{said}\n{beside}");
    }
    let document = json!({
        "reproduced": true,
        "builder_id": build.builder_id,
        "source": args.source,
        "source_digest": build.source_digest.to_string(),
        "isolation": isolation.as_str(),
        "limits": limits.to_json(),
        "extra": comparison.extra.0,
    });
    Ok(statements::report(&said, document, &rebuilt, &args.signing.out))
}

/// Says what is not the same; nothing is signed.
fn differs(comparison: &Comparison, explained: &str) -> Failure {
    let differences = &comparison.differences;
    let same = comparison.rebuilt.values().len().saturating_sub(
        differences.iter().filter(|difference| comparison.rebuilt.contains_key(&difference.name)).count(),
    );
    let mut lines = vec![format!(
        "not reproduced: {} of {} not as expected; nothing is attested",
        differences.len(),
        text::count(differences.len().saturating_add(same), "file is", "files are"),
    )];
    lines.extend(differences.iter().take(MAX_DIFFERENCES).map(|one| format!("  {}", one.in_words())));
    if differences.len() > MAX_DIFFERENCES {
        lines.push(format!("  … and {} more", differences.len().saturating_sub(MAX_DIFFERENCES)));
    }
    lines.extend(extra(comparison).map(|beside| format!("  {beside}")));
    lines.extend(Some(explained.to_owned()).filter(|explained| !explained.is_empty()));
    let each: Vec<Value> = differences.iter().map(compare::Difference::to_json).collect();
    Failure::differs(lines.join("\n"))
        .help(
            "if source and tools are the same as the vendor's, ask the vendor before anybody approves; what makes builds differ: \
             docs/operating/attest.md. --save DIR keeps what was built, --diffoscope explains it",
        )
        .with(json!({ "reproduced": false, "differences": each, "extra": comparison.extra.0 }))
}

/// Other files than the expected ones, which are not attested.
fn extra(comparison: &Comparison) -> Option<String> {
    let (names, count) = &comparison.extra;
    let more = if *count > MAX_EXTRA { ", …" } else { "" };
    let verb = if *count == 1 { "is" } else { "are" };
    let count = (*count > 0).then(|| text::count(*count, "more file", "more files"))?;
    Some(format!("beside them {verb} {count}, not attested: {}{more}", text::list(names)))
}

/// What can be known to be wrong before the work.
fn check(args: &cli::AttestRebuild) -> Result<(), Failure> {
    statements::check_out(&args.signing.out)?;
    if args.command.contains('\0') || args.command.trim().is_empty() {
        return Err(Failure::usage("there is no command to build with").help("give --command 'make'"));
    }
    let below =
        |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if let Some(output) = args.output.as_deref().filter(|output| !below(output)) {
        return Err(Failure::usage(format!("--output {} is no folder of the build's", output.display()))
            .help("give a path without `..`, as seen from where the command runs"));
    }
    for (name, value) in &args.variables {
        isolation::check_variable(name, value)?;
    }
    match &args.save {
        Some(folder) if files::has_entries(folder)? => {
            Err(Failure::usage(format!("{} is not empty", folder.display())).help("give --save a new folder"))
        }
        Some(folder) => files::create_output_folder(folder),
        None => Ok(()),
    }
}

fn room(
    args: &cli::AttestRebuild,
    place: &Place,
    source: &Unpacked,
    epoch: u64,
    limits: Arc<Limits>,
) -> Result<Room, Failure> {
    let mut read_only = isolation::etc(&place.path().join("etc"))?;
    for path in &args.ro_binds {
        read_only.push(isolation::readable(path, &[&args.signing.key])?);
    }
    let mut variables = isolation::environment(epoch);
    variables.extend(args.variables.iter().cloned());
    Ok(Room {
        place: place.path().to_owned(),
        scratch: place.scratch()?,
        as_nobody: place.as_nobody(),
        limits,
        work: Path::new(BUILD).join(&source.top),
        variables,
        read_only,
    })
}

fn build_of(
    args: &cli::AttestRebuild,
    source_digest: SourceDigest,
    parameters: BTreeMap<String, String>,
) -> Build {
    Build {
        builder_id: args.builder_id.clone(),
        build_type: args.build_type.clone(),
        parameters,
        source_uri: args.source_uri.clone(),
        source_digest,
        invocation_id: None,
        started_at: None,
        finished_at: None,
    }
}

/// What somebody needs to do the same again.
fn parameters(
    args: &cli::AttestRebuild,
    epoch: u64,
    isolation: Isolation,
    limits: &Limits,
) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<_, _> =
        args.variables.iter().map(|(name, value)| (format!("env.{name}"), value.clone())).collect();
    parameters.insert("command".to_owned(), args.command.clone());
    parameters.insert("isolation".to_owned(), isolation.to_string());
    parameters.insert("limits".to_owned(), limits.to_string());
    parameters.insert("source_date_epoch".to_owned(), epoch.to_string());
    if let Some(output) = &args.output {
        parameters.insert("output".to_owned(), output.to_string_lossy().into_owned());
    }
    if !args.ro_binds.is_empty() {
        let paths: Vec<_> = args.ro_binds.iter().map(|path| path.to_string_lossy()).collect();
        parameters.insert("read_only".to_owned(), paths.join("\n"));
    }
    parameters
}

fn subjects_expected(expected: &Expected) -> Vec<File> {
    let file = |(name, file): (&ArtifactName, &ExpectedFile)| File {
        name: name.to_string(),
        sha256: file.sha256,
        others: None,
    };
    expected.iter().map(file).collect()
}

/// Copies what stands for the release's files; content alone, so that nothing of it can be run by mistake.
fn save(args: &cli::AttestRebuild, comparison: &Comparison) -> Result<(), Failure> {
    let Some(folder) = &args.save else { return Ok(()) };
    for (name, file) in &comparison.rebuilt {
        let path = folder.join(name.as_str());
        if let Some(parent) = path.parent() {
            files::create_folder(parent, Access::Public)?;
        }
        let copy = fs::File::open(&file.path)
            .and_then(|mut from| std::io::copy(&mut from, &mut fs::File::create_new(&path)?));
        copy.map_err(|error| files::cannot("write", &path, &error))?;
    }
    Ok(())
}
