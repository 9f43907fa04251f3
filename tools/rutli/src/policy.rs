//! `rutli policy …`: a custodian's policies, checked and tried before a node loads them.

pub mod replay;

use std::path::Path;

use rutli_evidence::Trust;
use rutli_policy::{
    CaseResult, Cases, Decision, Effect, Explanation, PolicyExplanation, PolicySet, limits, run_cases,
};
use rutli_policy_dir::PolicyDir;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    cli::{Policy, PolicyFiles},
    clock::unix_now,
    files,
    report::{Failure, Report},
    text, trust,
};

/// Columns that what policies say is broken into.
const WIDTH: u16 = 100;

/// `rutli policy …`
///
/// # Errors
/// Exit code 1 for policies that a node would not load (`check`) and for cases that go otherwise (`test`), 2 for files that cannot be
/// used.
pub fn run(command: &Policy) -> Result<Report, Failure> {
    match command {
        Policy::Check(files) => check(files, unix_now()),
        Policy::Test { policies, cases } => test(policies, cases),
        Policy::Explain { policies, cases, case } => explain(policies, cases, case.as_deref()),
        Policy::Replay(_) => Err(Failure::usage("this command needs a connection")),
    }
}

fn check(files: &PolicyFiles, now_unix: u64) -> Result<Report, Failure> {
    // A whole directory is read as a node reads it, with everything in it.
    if let [path] = files.files.as_slice()
        && path.is_dir()
        && files.trust.as_deref().is_none_or(|trust| is_same(trust, path))
    {
        return check_dir(path, now_unix);
    }
    let trust = trusted(files)?;
    let set = load(files, trust.as_ref())?.map_err(|problem| Failure::failed(problem).help(KEEPS_OLD))?;
    let ids: Vec<&str> = set.ids().map(|id| id.as_str()).collect();
    let mut lines = vec![
        format!("{}: {}", text::count(ids.len(), "policy", "policies"), text::list(&ids)),
        format!("digest  {}", hex::encode(set.digest())),
    ];
    if files.trust.is_none() {
        lines.push(
            "whom they name was not checked: give the node's folder of rules with --trust DIR".to_owned(),
        );
    }
    let expired = trust.as_ref().map(|trust| rutli_policy::expired(trust, now_unix)).unwrap_or_default();
    let warnings = [set.warnings(), &expired].concat();
    lines.extend(warnings.iter().map(|warning| format!("warning: {}", text::printable(warning))));
    let json = json!({ "policies": ids, "digest": hex::encode(set.digest()), "warnings": warnings });
    Ok(Report::new(lines.join("\n"), json))
}

fn check_dir(path: &Path, now_unix: u64) -> Result<Report, Failure> {
    let rules = PolicyDir::new(path.to_owned()).look().rules();
    let rules =
        rules.map_err(|problem| Failure::failed(format!("{}: {problem}", path.display())).help(KEEPS_OLD))?;
    let set = &rules.policies;
    let ids: Vec<&str> = set.ids().map(|id| id.as_str()).collect();
    if ids.is_empty() {
        return Err(no_policies(path));
    }
    if !set.strangers().is_empty() {
        return Err(Failure::failed(set.strangers().join("\n")).help(KEEPS_OLD));
    }
    let digest = hex::encode(rules.digest());
    let warnings = rules.warnings_at(now_unix);
    let mut lines = vec![
        format!("{}: {}", text::count(ids.len(), "policy", "policies"), text::list(&ids)),
        format!("digest  {digest}"),
    ];
    lines.extend(warnings.iter().map(|warning| format!("warning: {}", text::printable(warning))));
    Ok(Report::new(lines.join("\n"), json!({ "policies": ids, "digest": digest, "warnings": warnings })))
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

fn no_policies(path: &Path) -> Failure {
    Failure::usage(format!("{} has no file *.cedar", path.display()))
        .help("give a Cedar file, or a folder with some")
}

const KEEPS_OLD: &str = "correct the file: until then a node keeps the rules that it has. A name that nobody has it takes, with a warning";

fn test(policies: &PolicyFiles, path: &Path) -> Result<Report, Failure> {
    let trust = trusted(policies)?;
    let set = usable(policies, trust.as_ref())?;
    let report = run_cases(&set, &read_cases(path, trust.as_ref())?);
    let count = report.cases.len();
    let failed: Vec<&str> =
        report.cases.iter().filter(|case| !case.passed).map(|case| case.name.as_str()).collect();
    let table = report.cases.iter().map(case_lines).collect::<Vec<_>>().join("\n");
    let document = value(&report);
    if failed.is_empty() {
        let all = format!("{} as expected", text::count(count, "case goes", "cases go"));
        return Ok(Report::new(format!("{table}\n{all}"), document));
    }
    let problem = format!("{} of {count} cases do not go as expected: {}", failed.len(), text::list(&failed));
    Err(Failure::failed(problem)
        .help("correct the policies or the cases; `rutli policy explain … --case NAME` says policy by policy what applies")
        .after(table)
        .with(document))
}

fn case_lines(case: &CaseResult) -> String {
    let (word, said) = match &case.problem {
        None => ("ok", &case.words),
        Some(problem) => ("NOT AS EXPECTED", problem),
    };
    format!("{word}  {}\n{}", text::printable(&case.name), indented(said))
}

fn explain(policies: &PolicyFiles, path: &Path, name: Option<&str>) -> Result<Report, Failure> {
    let trust = trusted(policies)?;
    let set = usable(policies, trust.as_ref())?;
    let cases = read_cases(path, trust.as_ref())?;
    let wanted = cases.cases.iter().filter(|case| name.is_none_or(|name| case.name == name));
    let explained: Vec<(&str, Explanation)> =
        wanted.map(|case| (case.name.as_str(), set.explain(&case.facts()))).collect();
    if explained.is_empty() {
        let names: Vec<&str> = cases.cases.iter().map(|case| case.name.as_str()).collect();
        return Err(Failure::usage(format!("{} has no case {:?}", path.display(), name.unwrap_or_default()))
            .help(format!("its cases: {}", text::list(&names))));
    }
    let blocks: Vec<String> = explained.iter().map(|(name, explanation)| block(name, explanation)).collect();
    let json: Vec<Value> = explained
        .iter()
        .map(|(name, explanation)| json!({ "name": name, "explanation": value(explanation) }))
        .collect();
    Ok(Report::new(blocks.join("\n\n"), json!({ "cases": json })))
}

/// A case, and below it each policy.
fn block(name: &str, explanation: &Explanation) -> String {
    let decision = match explanation.decision {
        Decision::Permitted { .. } => "permitted",
        Decision::Waits { .. } => "waits",
        Decision::Refused { .. } => "refused",
    };
    let mut lines = vec![format!("{}: {decision}", text::printable(name)), indented(&explanation.words)];
    for policy in &explanation.policies {
        lines.push(format!(
            "  {} {} ({}, line {})",
            effect(policy),
            policy.id,
            text::printable(&policy.file),
            policy.line
        ));
        lines.push(indented(&policy_words(policy)));
    }
    lines.join("\n")
}

fn effect(policy: &PolicyExplanation) -> &'static str {
    match policy.effect {
        Effect::Permit => "permit",
        Effect::Forbid => "forbid",
    }
}

fn policy_words(policy: &PolicyExplanation) -> String {
    if let Some(error) = &policy.error {
        return format!("cannot be evaluated, and so refuses the release: {error}");
    }
    let missing =
        policy.missing.iter().map(|missing| missing.words.as_str()).collect::<Vec<_>>().join("; and ");
    match (policy.effect, policy.applies) {
        (_, true) if policy.effect == Effect::Permit => "applies".to_owned(),
        (Effect::Permit, _) if policy.for_good => "does not apply, whatever evidence comes".to_owned(),
        (Effect::Permit, _) => format!("does not apply yet; missing: {missing}"),
        (Effect::Forbid, false) => "does not apply".to_owned(),
        (Effect::Forbid, true) if policy.for_good => "applies, whatever evidence comes".to_owned(),
        (Effect::Forbid, true) => format!("applies, until there is: {missing}"),
    }
}

fn trusted(files: &PolicyFiles) -> Result<Option<Trust>, Failure> {
    files.trust.as_deref().map(trust::read).transpose()
}

/// Policies that something is to be done with.
fn usable(files: &PolicyFiles, trust: Option<&Trust>) -> Result<PolicySet, Failure> {
    load(files, trust)?
        .map_err(|problem| Failure::usage(problem).help("`rutli policy check` says when it is right"))
}

/// What a node would not load, and whom policies name and nobody trusts, is the inner error.
fn load(files: &PolicyFiles, trust: Option<&Trust>) -> Result<Result<PolicySet, String>, Failure> {
    let mut texts = Vec::new();
    for path in &files.files {
        if path.is_dir() {
            texts.extend(cedar_files(path)?);
            continue;
        }
        // One byte more than fits, so that the policies' own bound is what is named.
        let bytes = files::read_start(path, limits::MAX_BYTES as u64 + 1)?;
        texts.push((path.display().to_string(), is_text(path, bytes)?));
    }
    let set = PolicySet::parse(&texts, trust).map_err(|error| error.to_string());
    Ok(set.and_then(|set| match set.strangers() {
        [] => Ok(set),
        strangers => Err(strangers.join("\n")),
    }))
}

/// The `*.cedar` of a folder, in the order of their names, as a node reads them.
fn cedar_files(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let files = PolicyDir::new(folder.to_owned()).look().files().map_err(|problem| {
        Failure::usage(format!("{}: {problem}", folder.display())).help("a node would not take it either")
    })?;
    let policies = files.into_iter().filter(|(name, _)| name.ends_with(".cedar"));
    let texts = policies
        .map(|(name, bytes)| {
            let path = folder.join(name);
            Ok((path.display().to_string(), is_text(&path, bytes)?))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    if texts.is_empty() {
        return Err(no_policies(folder));
    }
    Ok(texts)
}

fn is_text(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{} is not text", path.display())).help("is it the right file?"))
}

/// Cases that can go at a node as they go here: with nobody in them whom it does not believe.
fn read_cases(path: &Path, trust: Option<&Trust>) -> Result<Cases, Failure> {
    let text = files::read_text(path)?;
    let cases = Cases::parse(&text).map_err(|error| {
        Failure::usage(format!("{}: {error}", path.display()))
            .help("`rutli help policy-cases` shows what a case is made of")
    })?;
    let untrusted = trust.map(|trust| cases.untrusted(trust)).unwrap_or_default();
    if untrusted.is_empty() {
        return Ok(cases);
    }
    Err(Failure::usage(format!("{}: {}", path.display(), text::printable_lines(&untrusted)))
        .help("a node would not count it: add the key to that file of the folder in --trust, or have somebody say it who is in it"))
}

/// Our own types always have a document.
fn value(report: &impl Serialize) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}

fn indented(words: &str) -> String {
    text::indented(&text::printable(words), 4, WIDTH)
}
