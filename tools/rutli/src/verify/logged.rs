//! `rutli verify --bundle`: the signature is in the log.
//!
//! | bundle | binds | wants |
//! | --- | --- | --- |
//! | `RELEASE.sigstore.json` | the DSSE signature in it, under the log's own word | `--trusted-root`; with `--policy` also the proof beside it |
//! | `RELEASE.tlog-proof` | the DSSE signature beside it, under a quorum's cosignatures | `--policy` |
//! | the same of a release with SSH signatures alone | all of them together: see [`outcome`] | `--policy`, and every file |
//!
//! All of it works offline. A signature in the log is one that monitors have seen, or will: that is what the proof adds.

use std::path::{Path, PathBuf};

use rutli_log::{
    Entry, Head, Policy, ProofFile,
    entry::{Outcome, OutcomeState},
    sha256,
    sigstore::{TrustedRoot, VerifiedBundle, bundle},
};
use rutli_release::{ReleaseKey, verify_dsse};
use serde_json::json;

use super::{ARMOUR, refuse_unbound, refused, short_id, sshsig_of, statement};
use crate::{
    cli, files,
    hash::{self, Digests},
    report::{Failure, Report},
    text,
};

const BUNDLE: &str = ".sigstore.json";
const PROOF: &str = ".tlog-proof";
const ENVELOPE: &str = ".intoto.json";

pub(super) fn verify(args: &cli::Verify, key: &ReleaseKey, path: &Path) -> Result<Report, Failure> {
    let bytes = files::read(path)?;
    let policy = args.policy.as_deref().map(read_policy).transpose()?;
    // By content first; the name only decides what a damaged one was meant to be.
    let is_proof = bytes.starts_with(b"c2sp.org/")
        || (bytes.first() != Some(&b'{') && path.to_string_lossy().ends_with(PROOF));
    match policy {
        _ if !is_proof => sigstore(args, key, path, &bytes, policy.as_ref()),
        Some(policy) => proof(args, key, path, &policy),
        None => Err(Failure::usage(format!("whose word {} counts by is not said", path.display()))
            .help("give the log and its witnesses with --policy: tlog-policy")),
    }
}

/// Where an entry was found.
struct Place {
    log: String,
    index: u64,
    head: Head,
    /// Unix seconds by the log's own word.
    integrated: Option<u64>,
    /// Of the policy, that have cosigned.
    witnesses: Vec<String>,
}

fn sigstore(
    args: &cli::Verify,
    key: &ReleaseKey,
    path: &Path,
    bytes: &[u8],
    policy: Option<&Policy>,
) -> Result<Report, Failure> {
    if let Some(signature) = &args.signature {
        return Err(Failure::usage(format!("{} has the signature in it", path.display()))
            .help(format!("leave --signature {} out", signature.display())));
    }
    let root = args.trusted_root.as_deref().ok_or_else(|| {
        Failure::usage(format!("which logs {} counts by is not said", path.display()))
            .help("give them with --trusted-root: trusted_root.json")
    })?;
    let trusted = TrustedRoot::parse(&files::read(root)?).map_err(|error| {
        Failure::usage(format!("{} cannot be used: {error}", root.display()))
            .help("get the trusted_root.json of the deployment again from a place you trust")
    })?;
    let verified = bundle::verify(bytes, key, None, &trusted)
        .map_err(|reason| refused(args, "sigstore", path, &reason))?;
    let mut place = Place {
        log: verified.log.clone(),
        index: verified.index,
        head: verified.head,
        integrated: Some(verified.time),
        witnesses: Vec::new(),
    };
    if let Some(policy) = policy {
        place = cosigned(args, path, &verified, policy)?;
    }
    let report = statement(args, key, "sigstore", path, || Ok(verified.statement))?;
    Ok(place.add_to(report))
}

/// The bundle's head has no cosignatures: the proof beside it shows the same entry under one that has.
fn cosigned(
    args: &cli::Verify,
    bundle: &Path,
    verified: &VerifiedBundle,
    policy: &Policy,
) -> Result<Place, Failure> {
    let path = args.proof.clone().or_else(|| beside(bundle, BUNDLE, PROOF)).ok_or_else(|| {
        Failure::usage(format!("no witness cosigns the head in {}", bundle.display()))
            .help("give the cosigned proof with --proof: RELEASE.tlog-proof")
    })?;
    let not_verified = |reason: &str| refused(args, "sigstore", &path, &reason);
    let proof = read_proof(args, "sigstore", &path)?;
    let (checkpoint, witnesses) =
        proof.verify(&verified.entry, policy).map_err(|reason| refused(args, "sigstore", &path, &reason))?;
    if proof.index != verified.index {
        return Err(not_verified("it is of another entry than the bundle"));
    }
    let head = checkpoint.head();
    if head.size == verified.head.size && head.root != verified.head.root {
        return Err(not_verified(
            "the log has shown two trees of one size, one in the bundle and one to its witnesses: report it",
        ));
    }
    let log = checkpoint.origin().to_string();
    Ok(Place { log, index: proof.index, head, integrated: Some(verified.time), witnesses })
}

fn proof(args: &cli::Verify, key: &ReleaseKey, path: &Path, policy: &Policy) -> Result<Report, Failure> {
    if args.trusted_root.is_some() || args.proof.is_some() {
        return Err(Failure::usage(format!("{} is a proof with cosignatures", path.display()))
            .help("leave --trusted-root and --proof out: they are for a RELEASE.sigstore.json"));
    }
    let file = read_proof(args, "tlog-proof", path)?;
    let given = args.signature.as_deref().map(files::read).transpose()?;
    let envelope = match (given, beside(path, PROOF, ENVELOPE)) {
        (Some(given), _) if !given.starts_with(ARMOUR) => Some(given),
        (None, Some(found)) => Some(files::read(&found)?),
        _ => None,
    };
    let Some(envelope) = envelope else { return outcome(args, key, path, &file, policy) };
    let entry = verify_dsse(key, &envelope)
        .map_err(|reason| refused(args, "tlog-proof", path, &reason))
        .and_then(|_| {
            bundle::entry_of_envelope(&envelope, key)
                .map_err(|reason| refused(args, "tlog-proof", path, &reason))
        })?;
    let place = place_of(args, path, &file, &entry, policy)?;
    let report = statement(args, key, "tlog-proof", path, || verify_dsse(key, &envelope))?;
    Ok(place.add_to(report))
}

/// A release with SSH signatures alone has no entry of its own for each; the entry of its outcome, which comes with the proof, has a
/// digest over all of them in the release's order. So the log binds every signature if every file is there, and says by its key's
/// name, statement digest and signers what it was; product, version and names of files stay unbound, as in SSH signatures.
fn outcome(
    args: &cli::Verify,
    key: &ReleaseKey,
    path: &Path,
    file: &ProofFile,
    policy: &Policy,
) -> Result<Report, Failure> {
    refuse_unbound(args)?;
    let not_verified = |path: &Path, reason: &str| refused(args, "tlog-proof", path, &reason);
    let Some(entry) = &file.extra else {
        return Err(Failure::usage(format!("{} is of a DSSE signature, which is not there", path.display()))
            .help("give it with --signature: RELEASE.intoto.json"));
    };
    let place = place_of(args, path, file, entry, policy)?;
    let Ok(Entry::Outcome(Outcome {
        state: OutcomeState::Signed,
        signatures: Some(logged),
        signed_by,
        statement,
        ..
    })) = Entry::parse(entry)
    else {
        return Err(not_verified(path, "the entry in the log does not say that a release was signed"));
    };
    let mut signatures = Vec::new();
    let mut namespace = String::new();
    for hashed in hash::hash_files(&args.files, Digests::Sha256)? {
        let armour = files::read(&ssh_signature(args, path, &hashed.path)?)?;
        let verdict = sshsig_of(args, key, &hashed, &armour)
            .map_err(|reason| refused(args, "tlog-proof", &hashed.path, &reason))?;
        signatures.extend(verdict.signature);
        // The log's entry is about all of them, which are of one release and so in one namespace.
        namespace = verdict.namespace.to_string();
    }
    if sha256(&signatures) != logged {
        return Err(not_verified(
            path,
            "the log's entry is not of these signatures: give every file of the release, in the order in which they were \
             signed",
        ));
    }
    let report = Report::new(
        format!(
            "verified: {} signed for {namespace} with the key {} by {}\nnot bound by SSH signatures: version, sequence and names of \
             files",
            text::count(args.files.len(), "file was", "files were"),
            short_id(key),
            text::printable(&text::list(&signed_by)),
        ),
        json!({
            "verified": true,
            "format": "tlog-proof",
            "namespace": namespace,
            "key_id": key.key_id(),
            "statement": statement.to_string(),
            "signed_by": signed_by,
            "files": args.files.iter().map(|path| json!({ "path": path })).collect::<Vec<_>>(),
        }),
    );
    Ok(place.add_to(report))
}

/// `--signature` for a single file; otherwise FILE.sig beside the proof, where `rutli release get` writes it, or beside the file.
fn ssh_signature(args: &cli::Verify, proof: &Path, file: &Path) -> Result<PathBuf, Failure> {
    if let (Some(given), [_]) = (&args.signature, args.files.as_slice()) {
        return Ok(given.clone());
    }
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".sig");
    [proof, file].map(|path| path.with_file_name(&name)).into_iter().find(|path| path.exists()).ok_or_else(
        || {
            Failure::usage(format!("there is no {} beside the proof or the file", name.display()))
                .help("put the release's signatures beside its proof")
        },
    )
}

fn place_of(
    args: &cli::Verify,
    path: &Path,
    file: &ProofFile,
    entry: &[u8],
    policy: &Policy,
) -> Result<Place, Failure> {
    let (checkpoint, witnesses) =
        file.verify(entry, policy).map_err(|reason| refused(args, "tlog-proof", path, &reason))?;
    let log = checkpoint.origin().to_string();
    Ok(Place { log, index: file.index, head: checkpoint.head(), integrated: None, witnesses })
}

impl Place {
    fn add_to(&self, mut report: Report) -> Report {
        let cosigned = match self.witnesses.as_slice() {
            [] => "by the log's word alone".to_owned(),
            witnesses => format!("cosigned by {}", text::list(witnesses)),
        };
        report.text.push_str(&format!(
            "\nin the log {} as entry {} of {}, {}",
            self.log,
            self.index,
            self.head.size,
            text::printable(&cosigned)
        ));
        if let Some(fields) = report.json.as_object_mut() {
            let log = json!({
                "name": self.log,
                "index": self.index,
                "size": self.head.size,
                "root": self.head.root.to_string(),
                "integrated_at": self.integrated,
                "witnesses": self.witnesses,
            });
            fields.insert("log".to_owned(), log);
        }
        report
    }
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    files::read_text(path)?.parse().map_err(|error| {
        Failure::usage(format!("{}: {error}", path.display()))
            .help("get the tlog-policy of the deployment again from a place you trust")
    })
}

fn read_proof(args: &cli::Verify, format: &str, path: &Path) -> Result<ProofFile, Failure> {
    ProofFile::parse(&files::read_text(path)?).map_err(|reason| refused(args, format, path, &reason))
}

/// The file of the same release with another ending, if it is there.
fn beside(path: &Path, own: &str, other: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(own)?;
    Some(path.with_file_name(format!("{name}{other}"))).filter(|path| path.exists())
}
