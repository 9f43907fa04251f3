//! `rutli verify`: a signature, files and a public key → a verdict with its reason.
//!
//! Works offline and trusts nothing but the key. The three forms are told apart by their content; what a signature does
//! not bind (an SSHSIG binds neither sequence nor name) cannot be asked of it. With `--bundle` also the
//! proof that the signature is in the log, and under which cosignatures.

mod logged;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rutli_release::{
    Expectation, NotVerified, ReleaseKey, SshNamespace, SshsigVerdict, Statement, Timestamp, verify_dsse,
    verify_sshsig, verify_statement,
};
use serde_json::{Value, json};

use crate::{
    cli, clock, files,
    hash::{self, Digests, Hashed},
    report::{Failure, Report},
    sign::read_key,
    text,
};

const ARMOUR: &[u8] = b"-----BEGIN SSH SIGNATURE";

/// How a statement begins: what is signed is in DSSE's pre-authentication encoding.
const PREAMBLE: &[u8] = b"DSSEv1 ";

/// `rutli verify`
///
/// # Errors
/// Exit code 1 when something is not verified, with the reason; 2 when it cannot be asked.
pub fn run(args: &cli::Verify) -> Result<Report, Failure> {
    let key = read_key(&args.key)?;
    match (&args.bundle, &args.signature) {
        (Some(bundle), _) => logged::verify(args, &key, bundle),
        (None, Some(path)) => by_signature(args, &key, path),
        (None, None) => {
            Err(Failure::usage("there is nothing to verify with").help("give --signature or --bundle"))
        }
    }
}

fn by_signature(args: &cli::Verify, key: &ReleaseKey, path: &Path) -> Result<Report, Failure> {
    let signature = files::read(path)?;
    check_asked(args, path, &signature)?;
    match Form::of(args, path, &signature) {
        Form::Sshsig => sshsig(args, key, &signature),
        Form::Dsse => statement(args, key, "dsse", path, || verify_dsse(key, &signature)),
        Form::Statement => {
            let signed = files::read(&statement_path(args, path)?)?;
            statement(args, key, "statement", path, || {
                let raw: &[u8; 64] =
                    signature.as_slice().try_into().map_err(|_| NotVerified::SignatureLength)?;
                verify_statement(key, &signed, raw)
            })
        }
    }
}

/// Refuses what no signature could answer, so that a mix-up is not taken for a forgery.
fn check_asked(args: &cli::Verify, path: &Path, signature: &[u8]) -> Result<(), Failure> {
    let name = path.display();
    if args.statement.is_some() && signature.starts_with(ARMOUR) {
        return Err(Failure::usage(format!("{name} is an SSH signature of a file, not of a statement"))
            .help("leave --statement out, or give RELEASE.statement.sig as --signature"));
    }
    if signature.starts_with(PREAMBLE) {
        return Err(Failure::usage(format!("{name} is a statement, not its signature"))
            .help(format!("give {name}.sig as --signature")));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Sshsig,
    Dsse,
    Statement,
}

impl Form {
    /// By content first; the name only decides what a damaged one was meant to be.
    fn of(args: &cli::Verify, path: &Path, signature: &[u8]) -> Self {
        let name = path.to_string_lossy();
        if args.statement.is_some() {
            Self::Statement
        } else if signature.starts_with(ARMOUR) {
            Self::Sshsig
        } else if signature.len() == 64 || name.ends_with(".statement.sig") {
            Self::Statement
        } else if signature.first() == Some(&b'{') || name.ends_with(".intoto.json") {
            Self::Dsse
        } else {
            Self::Sshsig
        }
    }
}

fn sshsig(args: &cli::Verify, key: &ReleaseKey, signature: &[u8]) -> Result<Report, Failure> {
    refuse_unbound(args)?;
    let [path] = args.files.as_slice() else {
        return Err(Failure::usage("an SSH signature is for one file, but several are given")
            .help("verify each file with its own .sig, or all with RELEASE.intoto.json"));
    };
    let hashed = hash::hash_files(std::slice::from_ref(path), Digests::Sha256)?;
    let verdict = hashed.first().ok_or(NotVerified::UnknownFile);
    let verdict = verdict.and_then(|file| sshsig_of(args, key, file, signature));
    let verdict = verdict.map_err(|reason| refused(args, "sshsig", path, &reason).help(way_out(&reason)))?;
    let SshNamespace { class, product, channel } = &verdict.namespace;
    Ok(Report::new(
        format!(
            "verified: {} was signed for {product} ({class}, channel {channel}) with the key {}",
            path.display(),
            short_id(key)
        ),
        json!({
            "verified": true,
            "format": "sshsig",
            "namespace": verdict.namespace.to_string(),
            "class": class.as_str(),
            "product": product.as_str(),
            "channel": channel.as_str(),
            "key_id": key.key_id(),
            "files": [{ "path": path }],
        }),
    ))
}

/// What an SSH signature says nothing about cannot be asked of it.
fn refuse_unbound(args: &cli::Verify) -> Result<(), Failure> {
    let unbound = [("--min-sequence", args.min_sequence.is_some()), ("--name", args.name.is_some())];
    match unbound.iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(Failure::usage(format!("an SSH signature does not bind what {flag} asks for"))
                .help("verify RELEASE.intoto.json or RELEASE.statement.sig, which do"))
        }
        None => Ok(()),
    }
}

fn sshsig_of(
    args: &cli::Verify,
    key: &ReleaseKey,
    file: &Hashed,
    signature: &[u8],
) -> Result<SshsigVerdict, NotVerified> {
    let armour = std::str::from_utf8(signature).map_err(|_| NotVerified::NotAnSshSignature)?;
    let verdict = verify_sshsig(key, armour, &file.sha256)?;
    verdict.namespace.expect(&expectation(args))?;
    Ok(verdict)
}

fn expectation(args: &cli::Verify) -> Expectation {
    Expectation {
        product: args.product.clone(),
        channel: args.channel.clone(),
        class: args.class,
        min_sequence: args.min_sequence,
        now: Some(Timestamp(clock::unix_now())),
    }
}

fn statement(
    args: &cli::Verify,
    key: &ReleaseKey,
    format: &'static str,
    path: &Path,
    open: impl FnOnce() -> Result<Statement, NotVerified>,
) -> Result<Report, Failure> {
    let refused_signature = |reason: NotVerified| refused(args, format, path, &reason).help(way_out(&reason));
    let statement = open().map_err(refused_signature)?;
    statement.expect(&expectation(args)).map_err(refused_signature)?;
    let mut found = Vec::new();
    for file in hash::hash_files(&args.files, Digests::Sha256)? {
        let name = check_file(args, &statement, &file).map_err(|reason| {
            let failure = refused(args, format, &file.path, &reason);
            match statement.check_file(None, &file.sha256) {
                Ok(subject) => failure.help(format!(
                    "its content is in the release under the name {}: give --name, or --any-name",
                    text::printable(subject.name.as_str())
                )),
                Err(_) => failure,
            }
        })?;
        found.push((file.path, name));
    }
    Ok(verified(key, format, &statement, &found))
}

/// Finds the file in the statement, under the name that it must have; gives that name.
fn check_file(args: &cli::Verify, statement: &Statement, file: &Hashed) -> Result<String, NotVerified> {
    let check =
        |name: Option<&str>| statement.check_file(name, &file.sha256).map(|subject| subject.name.to_string());
    if args.any_name {
        return check(None);
    }
    if let Some(name) = &args.name {
        return check(Some(name));
    }
    // The folders of a release need not be there any more where its files are installed; the file names are.
    let own = file.path.file_name().and_then(|name| name.to_str()).ok_or(NotVerified::UnknownFile)?;
    let mut verdict = Err(NotVerified::UnknownFile);
    for subject in statement.subjects().iter().filter(|subject| subject.name.file_name() == own) {
        verdict = check(Some(subject.name.as_str()));
        if verdict.is_ok() {
            break;
        }
    }
    verdict
}

fn verified(key: &ReleaseKey, format: &str, statement: &Statement, files: &[(PathBuf, String)]) -> Report {
    let expiry = statement.expires_at().map(|time| format!(", until {}", time.rfc3339())).unwrap_or_default();
    let text = format!(
        "verified: {} of {} {} ({}, channel {}, sequence {}), signed {} with the key {}{expiry}",
        match files {
            [(path, _)] => path.display().to_string(),
            _ => text::count(files.len(), "file", "files"),
        },
        statement.product(),
        statement.version(),
        statement.class(),
        statement.channel(),
        statement.sequence(),
        statement.issued_at().rfc3339(),
        short_id(key),
    );
    let files: Vec<Value> = files.iter().map(|(path, name)| json!({ "path": path, "name": name })).collect();
    Report::new(
        text,
        json!({
            "verified": true,
            "format": format,
            "key_id": key.key_id(),
            "class": statement.class().as_str(),
            "product": statement.product().as_str(),
            "channel": statement.channel().as_str(),
            "version": statement.version().as_str(),
            "sequence": statement.sequence().get(),
            "issued_at": statement.issued_at().0,
            "expires_at": statement.expires_at().map(|time| time.0),
            "files": files,
        }),
    )
}

/// What to do about a refusal by what is known to be wrong. Nothing of it makes the file a good one.
fn way_out(reason: &NotVerified) -> &'static str {
    match reason {
        NotVerified::WrongKey => {
            "give the public key that it was signed with, from its publisher; until it verifies, do not use the file"
        }
        NotVerified::SignatureLength
        | NotVerified::NotAnEnvelope
        | NotVerified::PayloadType
        | NotVerified::NotAStatementFile
        | NotVerified::NotAnSshSignature => {
            "give the file's signature, whole, as it was published; until it verifies, do not use the file"
        }
        _ => "do not use the file",
    }
}

fn refused(args: &cli::Verify, format: &str, path: &Path, reason: &dyn fmt::Display) -> Failure {
    Failure::failed(format!("not verified: {}: {reason}", path.display())).help("do not use the file").with(
        json!({
            "verified": false,
            "format": format,
            "reason": reason.to_string(),
            "files": args.files.iter().map(|path| json!({ "path": path })).collect::<Vec<_>>(),
        }),
    )
}

fn statement_path(args: &cli::Verify, signature: &Path) -> Result<PathBuf, Failure> {
    if let Some(path) = &args.statement {
        return Ok(path.clone());
    }
    let unknown = |what: String| {
        Failure::usage(what).help("give the statement with --statement FILE: RELEASE.statement")
    };
    let name = signature.to_string_lossy();
    let path = name.strip_suffix(".sig").map(PathBuf::from).ok_or_else(|| {
        unknown(format!("{name} is the signature of a statement, but of which is not said"))
    })?;
    if path.exists() {
        return Ok(path);
    }
    Err(unknown(format!("{name} is the signature of a statement, but {} does not exist", path.display())))
}

fn short_id(key: &ReleaseKey) -> String {
    key.key_id().chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_about_what_is_wrong_and_never_to_use_the_file() {
        let (key, signature) = (way_out(&NotVerified::WrongKey), way_out(&NotVerified::NotAnSshSignature));
        assert!(key.contains("give the public key"), "{key}");
        assert!(signature.contains("give the file's signature"), "{signature}");
        for help in [key, signature, way_out(&NotVerified::Signature), way_out(&NotVerified::UnknownFile)] {
            assert!(help.ends_with("do not use the file"), "{help}");
        }
    }
}
