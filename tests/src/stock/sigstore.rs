//! Sigstore's own verifiers, with their defaults: npm's `@sigstore/verify`, the current version and the one before, and the
//! crate `sigstore-verify`; and ours beside them. Each gets the bundle, and then every tampering.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_log::{
    Entry, Hash, Head,
    sigstore::{LogUrl, LoggedSignature, SigstoreSigner, TrustedRoot, bundle::verify},
};
use rutli_release::ReleaseKey;
use serde_json::{Value, json};
use sigstore_verify::{
    PublicKeyVerificationPolicy, Verifier,
    trust_root::TrustedRoot as CratesRoot,
    types::{Bundle, DerPublicKey, Sha256Hash},
};

use super::{run, succeed, target};

/// What a verifier is given.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// `<release>.sigstore.json`, with two hashes or more in its proof.
    pub bundle: &'a Path,
    /// That of another release by the same key in the same log, under a head of another size.
    pub other: &'a Path,
    /// `trusted_root.json`
    pub trusted_root: &'a Path,
    /// The release key.
    pub key: &'a Path,
    /// Its name.
    pub hint: &'a str,
}

/// A verifier with its verdicts, in the order of the bundles: `None` is accepted, otherwise the reason.
type Verdicts = (&'static str, Vec<Option<String>>);

/// Who looks at what: npm's 3 and 4, the crate.
const NPM: [&str; 2] = ["verify-3", "verify-4"];
const CRATE: &str = "sigstore-verify";
const OURS: &str = "rutli-log";

/// Has every verifier accept the bundle, and refuse it under another release key, another trusted root, and with every
/// [`tamperings`]. Gives how many refusals there were.
///
/// # Panics
/// With all verdicts that are not as they must be.
#[must_use]
pub fn accept_and_refuse_tampering(evidence: &Evidence<'_>) -> usize {
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let (bundle, other) = (read(evidence.bundle), read(evidence.other));
    let original = fs::read_to_string(evidence.bundle).unwrap();
    for (verifier, verdicts) in verdicts(evidence, std::slice::from_ref(&original)) {
        assert_eq!(verdicts, [None], "{verifier} refuses {}", evidence.bundle.display());
    }
    let mut refused = refuse_other_keys(evidence, &original);

    let tamperings = tamperings(&bundle, &other, evidence);
    let changed: Vec<String> = tamperings.iter().map(|(_, changed, _)| changed.to_string()).collect();
    let mut wrong = Vec::new();
    for (verifier, verdicts) in verdicts(evidence, &changed) {
        for ((name, changed, unseen), verdict) in tamperings.iter().zip(verdicts) {
            assert_ne!(*changed, bundle, "{name} changes nothing");
            // A list that says too much would hide a verifier that got better, or that we were wrong.
            if unseen.contains(&verifier) != verdict.is_none() {
                wrong.push(format!("{name}: {verifier} says {verdict:?}"));
            }
            println!("{name:44} {verifier:16} {}", verdict.as_deref().unwrap_or("does not look at it"));
            refused += usize::from(verdict.is_some());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    refused
}

/// Only that every verifier accepts it.
///
/// # Panics
/// If one does not.
pub fn accept(evidence: &Evidence<'_>) {
    let original = fs::read_to_string(evidence.bundle).unwrap();
    for (verifier, verdicts) in verdicts(evidence, &[original]) {
        assert_eq!(verdicts, [None], "{verifier} refuses {}", evidence.bundle.display());
    }
}

/// The bundle as it is, under a release key or a log that is not its own.
fn refuse_other_keys(evidence: &Evidence<'_>, original: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (key, root) = (folder.path().join("other.pem"), folder.path().join("other_root.json"));
    let secret = ed25519_dalek::SigningKey::from_bytes(&[0xee; 32]);
    let other = ReleaseKey::from_bytes(secret.verifying_key().as_bytes()).unwrap();
    fs::write(&key, other.to_pem()).unwrap();
    fs::write(&root, foreign(evidence).trusted_root(0).unwrap()).unwrap();
    let mut refused = 0;
    for evidence in [Evidence { key: &key, ..*evidence }, Evidence { trusted_root: &root, ..*evidence }] {
        for (verifier, verdicts) in verdicts(&evidence, &[original.to_owned()]) {
            assert!(verdicts[0].is_some(), "{verifier} accepts {evidence:?}");
            refused += 1;
        }
    }
    refused
}

fn verdicts(evidence: &Evidence<'_>, bundles: &[String]) -> Vec<Verdicts> {
    let mut all = npm(evidence, bundles);
    all.push((CRATE, bundles.iter().map(|bundle| by_crate(evidence, bundle).err()).collect()));
    all.push((OURS, bundles.iter().map(|bundle| by_us(evidence, bundle).err()).collect()));
    all
}

fn npm(evidence: &Evidence<'_>, bundles: &[String]) -> Vec<Verdicts> {
    let mut command = Command::new("node");
    command.arg(folder().join("verify.mjs")).arg(modules());
    command.arg(evidence.trusted_root).arg(evidence.key).arg(evidence.hint);
    let input = tempfile::NamedTempFile::new().unwrap();
    input.as_file().write_all(serde_json::to_string(bundles).unwrap().as_bytes()).unwrap();
    command.stdin(fs::File::open(input.path()).unwrap());
    let said = succeed(&run(command, "nodejs"), "verify.mjs");
    let said: Value = serde_json::from_str(&said).unwrap();
    NPM.map(|verifier| {
        let verdicts = said[verifier].as_array().unwrap();
        assert_eq!(verdicts.len(), bundles.len());
        (verifier, verdicts.iter().map(|verdict| verdict.as_str().map(str::to_owned)).collect())
    })
    .into()
}

fn by_crate(evidence: &Evidence<'_>, bundle: &str) -> Result<(), String> {
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let root = CratesRoot::from_json(&text(evidence.trusted_root)).map_err(|error| error.to_string())?;
    let key = DerPublicKey::from_pem(&text(evidence.key)).map_err(|error| error.to_string())?;
    let bundle = Bundle::from_json(bundle).map_err(|error| error.to_string())?;
    let verifier = Verifier::new(&root).map_err(|error| error.to_string())?;
    let artifact = Sha256Hash::from_hex(&artifact(evidence)).unwrap();
    let result = verifier
        .verify(artifact, &bundle, &PublicKeyVerificationPolicy::new(key))
        .map_err(|error| error.to_string())?;
    assert!(result.tlog_verified());
    Ok(())
}

/// The SHA-256 of the first file that the untouched bundle is about.
fn artifact(evidence: &Evidence<'_>) -> String {
    let bundle: Value = serde_json::from_slice(&fs::read(evidence.bundle).unwrap()).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["subject"][0]["digest"]["sha256"].as_str().unwrap().to_owned()
}

fn by_us(evidence: &Evidence<'_>, bundle: &str) -> Result<(), String> {
    let root = TrustedRoot::parse(&fs::read(evidence.trusted_root).unwrap()).unwrap();
    let key = ReleaseKey::from_pem(&fs::read_to_string(evidence.key).unwrap()).unwrap();
    verify(bundle.as_bytes(), &key, Some(evidence.hint), &root).map(drop).map_err(|error| error.to_string())
}

/// A name, the tampered bundle, and the verifiers that by design do not look at what was changed.
type Tampering = (&'static str, Value, &'static [&'static str]);

/// Where a verifier does not look at a field, because it takes the same fact from a field that is signed, or because the specification
/// says that nobody shall rely on it, another tampering in the table changes that fact where the verifier must see it:
///
/// - tree size and root of the proof: npm takes them from the signed head, and the crate sees another size only if a proof of this
///   length cannot be of it;
/// - the envelope's key id and the hint's name: both unsigned; the key that the caller gave decides;
/// - a promise that is not there: the crate is content with the proof. npm takes the signing time from it and refuses;
/// - an entry that is there twice: the crate checks each.
fn tamperings(bundle: &Value, other: &Value, evidence: &Evidence<'_>) -> Vec<Tampering> {
    let mut all: Vec<Tampering> = Vec::new();
    let mut add = |name, unseen, change: &dyn Fn(&mut Value)| {
        let mut changed = bundle.clone();
        change(&mut changed);
        all.push((name, changed, unseen));
    };
    envelope_tamperings(&mut add, other);
    proof_tamperings(&mut add, other);
    entry_tamperings(&mut add, other);

    let forged = by_foreign_log(bundle, evidence);
    add("a foreign log, under its own id", &[], &|bundle| *bundle = forged.clone());
    add("a foreign log, under our log's id", &[], &|bundle| {
        let id = bundle.pointer(&at("logId/keyId")).unwrap().clone();
        *bundle = forged.clone();
        *bundle.pointer_mut(&at("logId/keyId")).unwrap() = id;
    });
    add("a foreign log's head alone", &[], &|bundle| {
        copy(bundle, &forged, "inclusionProof/checkpoint/envelope");
    });
    add("a foreign log's promise alone", &[], &|bundle| copy(bundle, &forged, "inclusionPromise"));
    all
}

type Add<'a> = dyn FnMut(&'static str, &'static [&'static str], &dyn Fn(&mut Value)) + 'a;

fn envelope_tamperings(add: &mut Add<'_>, other: &Value) {
    let stock: &[&str] = &["verify-3", "verify-4", CRATE];
    add("a bit of the payload", &[], &|bundle| flip(bundle, "/dsseEnvelope/payload", 30));
    add("the payload's type", &[], &|bundle| {
        bundle["dsseEnvelope"]["payloadType"] = json!("application/json")
    });
    add("a bit of the signature", &[], &|bundle| flip(bundle, "/dsseEnvelope/signatures/0/sig", 3));
    add("the signature cut", &[], &|bundle| cut(bundle, "/dsseEnvelope/signatures/0/sig"));
    add("no signature", &[], &|bundle| bundle["dsseEnvelope"]["signatures"] = json!([]));
    add("the other release's signature", &[], &|bundle| {
        bundle["dsseEnvelope"]["signatures"] = other["dsseEnvelope"]["signatures"].clone();
    });
    add("the other release's envelope", &[], &|bundle| {
        bundle["dsseEnvelope"] = other["dsseEnvelope"].clone()
    });
    add("the envelope's key id", stock, &|bundle| {
        bundle["dsseEnvelope"]["signatures"][0]["keyid"] = json!("0".repeat(64));
    });
    add("the hint", &[CRATE], &|bundle| {
        bundle["verificationMaterial"]["publicKey"]["hint"] = json!("another");
    });
    add("no hint", &[], &|bundle| {
        bundle["verificationMaterial"].as_object_mut().unwrap().remove("publicKey");
    });
    add("the media type", &[], &|bundle| {
        bundle["mediaType"] = json!("application/vnd.dev.sigstore.bundle.v9+json");
    });
}

fn proof_tamperings(add: &mut Add<'_>, other: &Value) {
    let npm: &[&str] = &["verify-3", "verify-4"];
    add("a bit of a hash of the proof", &[], &|bundle| flip(bundle, &at("inclusionProof/hashes/1"), 9));
    add("the proof too short", &[], &|bundle| {
        hashes(bundle).pop();
    });
    add("the proof too long", &[], &|bundle| {
        let more = hashes(bundle)[0].clone();
        hashes(bundle).push(more);
    });
    add("two hashes of the proof exchanged", &[], &|bundle| hashes(bundle).swap(0, 1));
    add("the other entry's proof", &[], &|bundle| copy(bundle, other, "inclusionProof/hashes"));
    add("no proof", &[], &|bundle| remove(bundle, "inclusionProof"));
    add("the proof's index", &[], &|bundle| count(bundle, "inclusionProof/logIndex"));
    add("the entry's index", &[], &|bundle| count(bundle, "logIndex"));
    add("both indexes", &[], &|bundle| {
        count(bundle, "logIndex");
        count(bundle, "inclusionProof/logIndex");
    });
    add("the proof's tree size", npm, &|bundle| {
        let index = bundle.pointer(&at("inclusionProof/logIndex")).unwrap().clone();
        *bundle.pointer_mut(&at("inclusionProof/treeSize")).unwrap() = index;
    });
    add("the proof's root", npm, &|bundle| flip(bundle, &at("inclusionProof/rootHash"), 0));
    add("the size in head and proof", &[], &|bundle| {
        let size = text(bundle, "inclusionProof/treeSize");
        count(bundle, "inclusionProof/treeSize");
        let more = text(bundle, "inclusionProof/treeSize");
        in_head(bundle, &format!("\n{size}\n"), &format!("\n{more}\n"));
    });
    add("the root in head and proof", &[], &|bundle| {
        let root = text(bundle, "inclusionProof/rootHash");
        flip(bundle, &at("inclusionProof/rootHash"), 7);
        let forged = text(bundle, "inclusionProof/rootHash");
        in_head(bundle, &root, &forged);
    });
    add("the head's origin", &[], &|bundle| in_head(bundle, " - 1\n", " - 2\n"));
    add("a bit of the head's signature", &[], &|bundle| {
        let head = text(bundle, "inclusionProof/checkpoint/envelope");
        let signature = head.trim_end().rsplit(' ').next().unwrap().to_owned();
        let mut bytes = STANDARD.decode(&signature).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        in_head(bundle, &signature, &STANDARD.encode(bytes));
    });
    add("the head without its signature", &[], &|bundle| {
        let head = text(bundle, "inclusionProof/checkpoint/envelope");
        let (unsigned, _) = head.split_once("\n\n").unwrap();
        in_head(bundle, &head, &format!("{unsigned}\n\n"));
    });
    add("the head of another tree", &[], &|bundle| {
        copy(bundle, other, "inclusionProof/checkpoint/envelope");
    });
    add("the head, size and root of another tree", &[], &|bundle| {
        for field in ["checkpoint/envelope", "treeSize", "rootHash"] {
            copy(bundle, other, &format!("inclusionProof/{field}"));
        }
    });
}

fn entry_tamperings(add: &mut Add<'_>, other: &Value) {
    add("the log's id", &[], &|bundle| flip(bundle, &at("logId/keyId"), 0));
    add("a digit of the entry's payload hash", &[], &|bundle| {
        edit_body(bundle, |body| {
            let hash = body["spec"]["payloadHash"]["value"].as_str().unwrap();
            let digit = if hash.starts_with('0') { "1" } else { "0" };
            body["spec"]["payloadHash"]["value"] = json!(format!("{digit}{}", &hash[1..]));
        });
    });
    add("the key in the entry", &[], &|bundle| {
        edit_body(bundle, |body| body["spec"]["signatures"][0]["verifier"] = json!("LS0="));
    });
    add("another entry's body", &[], &|bundle| copy(bundle, other, "canonicalizedBody"));
    add("the other release's whole entry", &[], &|bundle| {
        bundle["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"].clone();
    });
    add("no entry", &[], &|bundle| bundle["verificationMaterial"]["tlogEntries"] = json!([]));
    add("the entry twice", &[CRATE], &|bundle| {
        let entry = bundle.pointer("/verificationMaterial/tlogEntries/0").unwrap().clone();
        bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap().push(entry);
    });
    add("the time", &[], &|bundle| count(bundle, "integratedTime"));
    add("a bit of the promise", &[], &|bundle| {
        flip(bundle, &at("inclusionPromise/signedEntryTimestamp"), 20);
    });
    add("another entry's promise", &[], &|bundle| copy(bundle, other, "inclusionPromise"));
    add("no promise", &[CRATE], &|bundle| remove(bundle, "inclusionPromise"));
    add("the kind's version", &[], &|bundle| {
        *bundle.pointer_mut(&at("kindVersion/version")).unwrap() = json!("0.0.2");
    });
    add("the kind", &[], &|bundle| {
        *bundle.pointer_mut(&at("kindVersion/kind")).unwrap() = json!("hashedrekord");
    });
}

/// A log with the same name and another key.
fn foreign(evidence: &Evidence<'_>) -> SigstoreSigner {
    let root: Value = serde_json::from_slice(&fs::read(evidence.trusted_root).unwrap()).unwrap();
    let url: LogUrl = root["tlogs"][0]["baseUrl"].as_str().unwrap().parse().unwrap();
    SigstoreSigner::from_bytes(url, &[0xaa; 32]).unwrap()
}

/// The same bundle as a forger would make it, who has everything but the log's key.
fn by_foreign_log(bundle: &Value, evidence: &Evidence<'_>) -> Value {
    let number = |path: &str| text(bundle, path).parse::<u64>().unwrap();
    let body = STANDARD.decode(text(bundle, "canonicalizedBody")).unwrap();
    let Entry::Dsse(entry) = Entry::parse(&body).unwrap() else { panic!("no DSSE entry") };
    let hash = |text: &str| Hash::from_base64(text).unwrap();
    let proof = bundle.pointer(&at("inclusionProof/hashes")).unwrap().as_array().unwrap();
    let proof: Vec<Hash> = proof.iter().map(|text| hash(text.as_str().unwrap())).collect();
    let envelope = bundle["dsseEnvelope"].to_string();
    let head = Head {
        size: number("inclusionProof/treeSize"),
        root: hash(&text(bundle, "inclusionProof/rootHash")),
    };
    let logged = LoggedSignature {
        envelope: envelope.as_bytes(),
        hint: evidence.hint,
        key: &entry.key().unwrap(),
        entry: &entry,
        index: number("logIndex"),
        head: &foreign(evidence).sign_head(head).unwrap(),
        proof: &proof,
        time: number("integratedTime"),
    };
    serde_json::from_slice(&foreign(evidence).bundle(&logged).unwrap()).unwrap()
}

/// A pointer to a field of the bundle's one entry.
fn at(field: &str) -> String {
    format!("/verificationMaterial/tlogEntries/0/{field}")
}

fn text(bundle: &Value, field: &str) -> String {
    bundle.pointer(&at(field)).unwrap().as_str().unwrap().to_owned()
}

fn hashes(bundle: &mut Value) -> &mut Vec<Value> {
    bundle.pointer_mut(&at("inclusionProof/hashes")).unwrap().as_array_mut().unwrap()
}

fn copy(bundle: &mut Value, from: &Value, field: &str) {
    *bundle.pointer_mut(&at(field)).unwrap() = from.pointer(&at(field)).unwrap().clone();
}

fn remove(bundle: &mut Value, field: &str) {
    bundle.pointer_mut("/verificationMaterial/tlogEntries/0").unwrap().as_object_mut().unwrap().remove(field);
}

/// The next number.
fn count(bundle: &mut Value, field: &str) {
    let number: u64 = text(bundle, field).parse().unwrap();
    *bundle.pointer_mut(&at(field)).unwrap() = json!((number + 1).to_string());
}

fn flip(bundle: &mut Value, pointer: &str, byte: usize) {
    let field = bundle.pointer_mut(pointer).unwrap();
    let mut bytes = STANDARD.decode(field.as_str().unwrap()).unwrap();
    bytes[byte] ^= 1;
    *field = json!(STANDARD.encode(bytes));
}

fn cut(bundle: &mut Value, pointer: &str) {
    let field = bundle.pointer_mut(pointer).unwrap();
    let mut bytes = STANDARD.decode(field.as_str().unwrap()).unwrap();
    bytes.pop();
    *field = json!(STANDARD.encode(bytes));
}

fn in_head(bundle: &mut Value, from: &str, to: &str) {
    let field = bundle.pointer_mut(&at("inclusionProof/checkpoint/envelope")).unwrap();
    *field = json!(field.as_str().unwrap().replacen(from, to, 1));
}

fn edit_body(bundle: &mut Value, edit: impl FnOnce(&mut Value)) {
    let field = bundle.pointer_mut(&at("canonicalizedBody")).unwrap();
    let mut body = serde_json::from_slice(&STANDARD.decode(field.as_str().unwrap()).unwrap()).unwrap();
    edit(&mut body);
    *field = json!(STANDARD.encode(body.to_string()));
}

/// `target/node`, which is made if it is not there, exactly as `cargo xtask test` makes it.
fn modules() -> PathBuf {
    let mut command = Command::new("python3");
    command.arg(folder().join("make_modules.py")).arg(target().join("node")).stdin(Stdio::null());
    PathBuf::from(succeed(&run(command, "python3 nodejs npm"), "make_modules.py").trim())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("node")
}
