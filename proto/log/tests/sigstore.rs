//! Heads, trusted roots and bundles for Sigstore's verifiers. That those accept them is shown in `tests/`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use ed25519_dalek::{Signer as _, SigningKey};
use rutli_log::{
    Frontier, Hash, Head, Tiles,
    entry::{Dsse, Entry},
    limits::MAX_TREE_SIZE,
    sha256,
    sigstore::{
        BundleNotVerified, LogUrl, LoggedSignature, SigstoreSigner, TrustedRoot,
        bundle::{entry_of_envelope, verify},
    },
};
use rutli_release::{
    Class, Format, NotVerified, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease, signed_files,
};
use serde_json::Value;

const URL: &str = "https://log.example:8443/main/";

fn signer() -> SigstoreSigner {
    SigstoreSigner::from_bytes(URL.parse().unwrap(), &[9; 32]).unwrap()
}

fn root() -> TrustedRoot {
    TrustedRoot::parse(signer().trusted_root(1_700_000_000).unwrap().as_bytes()).unwrap()
}

fn secret() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn release_key() -> ReleaseKey {
    ReleaseKey::from_bytes(secret().verifying_key().as_bytes()).unwrap()
}

/// The DSSE envelope of a release by the key above.
fn envelope(sequence: u64) -> Vec<u8> {
    let artifact = UnverifiedArtifact { name: "suite.bin".into(), sha256: vec![1; 32] };
    let release = UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: "1".into(),
        sequence,
        issued_at: 1_795_255_200,
        expires_at: None,
        artifacts: vec![artifact],
        formats: vec![Format::Dsse],
    };
    let release = release.verify().unwrap();
    let signatures: Vec<_> =
        release.signables().iter().map(|signable| secret().sign(&signable.bytes).to_bytes()).collect();
    let id = ReleaseId::new("suite-1").unwrap();
    signed_files(&release, &id, &release_key(), &signatures).unwrap().remove(0).bytes
}

fn dsse(envelope: &[u8]) -> Dsse {
    match Entry::parse(&entry_of_envelope(envelope, &release_key()).unwrap()).unwrap() {
        Entry::Dsse(entry) => entry,
        other => panic!("{other:?}"),
    }
}

/// A signature by the signer's key that was not made here, with the lower or the higher `s`.
fn other_library(message: &[u8], high: bool) -> Vec<u8> {
    let key = p256::ecdsa::SigningKey::from_slice(&[9; 32]).unwrap();
    let signature: p256::ecdsa::Signature = key.sign(message);
    let low = signature.normalize_s().unwrap_or(signature);
    let other = p256::ecdsa::Signature::from_scalars(low.r(), -low.s()).unwrap();
    assert!(other.normalize_s() == Some(low));
    if high { other } else { low }.to_der().as_bytes().to_vec()
}

/// A bundle of an entry in the middle of a tree.
fn bundle() -> Vec<u8> {
    bundle_by(|signer, logged| signer.bundle(logged))
}

fn bundle_by(
    make: impl FnOnce(&SigstoreSigner, &LoggedSignature<'_>) -> Result<Vec<u8>, BundleNotVerified>,
) -> Vec<u8> {
    let (envelope, index) = (envelope(1), 517);
    let entry = dsse(&envelope);
    let (mut frontier, mut tiles) = (Frontier::default(), Tiles::default());
    for number in 0..1000_u64 {
        let leaf = if number == index {
            Entry::Dsse(entry.clone()).leaf_hash()
        } else {
            sha256(&number.to_be_bytes())
        };
        frontier.push(leaf);
        tiles.push(leaf);
    }
    let proof = tiles.prove_inclusion(index, 1000).unwrap();
    let logged = LoggedSignature {
        envelope: &envelope,
        hint: "release",
        key: &release_key(),
        entry: &entry,
        index,
        head: &signer().sign_head(frontier.head()).unwrap(),
        proof: &proof,
        time: 1_795_255_300,
    };
    make(&signer(), &logged).unwrap()
}

#[test]
fn promises_of_another_library_verify_whatever_their_s() {
    for high in [false, true] {
        let promise = |message: &[u8]| Some(other_library(message, high));
        let made = bundle_by(|signer, logged| signer.bundle_of_verified(logged, promise));
        verify(&made, &release_key(), Some("release"), &root()).unwrap();
        assert_eq!(made, bundle(), "the lower one, as ours");
    }
}

fn refused(json: &Value) -> BundleNotVerified {
    verify(json.to_string().as_bytes(), &release_key(), Some("release"), &root()).unwrap_err()
}

#[test]
fn what_is_made_verifies_in_any_layout() {
    let json = bundle();
    let verified = verify(&json, &release_key(), None, &root()).unwrap();
    assert_eq!((verified.index, verified.head.size, verified.time), (517, 1000, 1_795_255_300));
    assert_eq!((verified.log.as_str(), verified.hint.as_str()), ("log.example:8443", "release"));
    assert_eq!(verified.statement.sequence().get(), 1);
    assert_eq!(verified.entry, entry_of_envelope(&envelope(1), &release_key()).unwrap());
    let value: Value = serde_json::from_slice(&json).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    verify(&pretty, &release_key(), Some("release"), &root()).unwrap();
    // Made again, it is the same: nothing is drawn.
    assert_eq!(json, bundle());
}

/// Every field of the document, changed in the ways that its form allows, is refused: nothing is left unlooked at.
#[test]
fn no_value_of_a_bundle_can_be_changed() {
    let value: Value = serde_json::from_slice(&bundle()).unwrap();
    let mut paths = Vec::new();
    leaves(&value, String::new(), &mut paths);
    assert!(paths.len() >= 25, "{paths:?}");
    for path in paths {
        let text = value.pointer(&path).unwrap().as_str().unwrap().to_owned();
        for place in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[place] = if changed[place] == b'1' { b'2' } else { b'1' };
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let mut other = value.clone();
            *other.pointer_mut(&path).unwrap() = changed.into();
            refused(&other);
        }
        let mut other = value.clone();
        *other.pointer_mut(&path).unwrap() = Value::Null;
        refused(&other);
        let mut other = value.clone();
        let (parent, _) = path.rsplit_once('/').unwrap();
        if let Some(fields) = other.pointer_mut(parent).unwrap().as_object_mut() {
            fields.insert("more".into(), "1".into());
            refused(&other);
        }
    }
}

fn leaves(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, format!("{path}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| leaves(value, format!("{path}/{n}"), found));
        }
        _ => found.push(path),
    }
}

#[test]
fn refusals_have_names() {
    let value: Value = serde_json::from_slice(&bundle()).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    let set = |path: &str, to: Value| {
        let mut other = value.clone();
        *other.pointer_mut(path).unwrap() = to;
        refused(&other)
    };
    let log = || "log.example:8443".to_owned();
    assert!(matches!(
        set("/verificationMaterial/publicKey/hint", "other".into()),
        BundleNotVerified::Hint { .. }
    ));
    assert_eq!(
        set(&format!("{entry}/logId/keyId"), Hash([1; 32]).to_base64().into()),
        BundleNotVerified::UnknownLog
    );
    assert!(matches!(
        set(&format!("{entry}/inclusionProof/treeSize"), "1001".into()),
        BundleNotVerified::Contradiction(_)
    ));
    assert!(matches!(set(&format!("{entry}/logIndex"), "516".into()), BundleNotVerified::Contradiction(_)));
    assert_eq!(
        set(&format!("{entry}/integratedTime"), "1795255301".into()),
        BundleNotVerified::Promise(log())
    );
    assert!(matches!(
        set(&format!("{entry}/inclusionProof/hashes"), Value::Array(Vec::new())),
        BundleNotVerified::Proof(_)
    ));
    for (path, to) in [
        ("/mediaType".to_owned(), "application/vnd.dev.sigstore.bundle+json;version=0.3"),
        (format!("{entry}/kindVersion/kind"), "intoto"),
        (format!("{entry}/kindVersion/version"), "0.0.2"),
    ] {
        assert!(matches!(set(&path, to.into()), BundleNotVerified::Form(_)), "{path}");
    }
    let other: Value = serde_json::from_slice(&envelope(2)).unwrap();
    assert_eq!(set("/dsseEnvelope", other), BundleNotVerified::Entry);
    let twice = value.pointer(entry).unwrap().clone();
    assert!(matches!(
        set("/verificationMaterial/tlogEntries", vec![twice.clone(), twice].into()),
        BundleNotVerified::Form(_)
    ));
    let wrong = ReleaseKey::from_bytes(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes()).unwrap();
    assert_eq!(
        verify(&bundle(), &wrong, None, &root()).unwrap_err(),
        BundleNotVerified::Signature(NotVerified::WrongKey)
    );
    let late = signer().trusted_root(1_795_255_301).unwrap();
    let late = TrustedRoot::parse(late.as_bytes()).unwrap();
    assert_eq!(verify(&bundle(), &release_key(), None, &late).unwrap_err(), BundleNotVerified::Time);
}

#[test]
fn a_bundle_of_parts_that_do_not_belong_together_is_not_made() {
    let (one, two) = (envelope(1), envelope(2));
    let entry = dsse(&one);
    let root = Entry::Dsse(entry.clone()).leaf_hash();
    let head = signer().sign_head(Head { size: 1, root }).unwrap();
    let logged = LoggedSignature {
        envelope: &one,
        hint: "release",
        key: &release_key(),
        entry: &entry,
        index: 0,
        head: &head,
        proof: &[],
        time: 1,
    };
    signer().bundle(&logged).unwrap();
    let promise = |message: &[u8]| Some(other_library(message, false));
    signer().bundle_of_verified(&logged, promise).unwrap();
    let of_verified =
        |logged: LoggedSignature<'_>| signer().bundle_of_verified(&logged, promise).unwrap_err();
    assert_eq!(of_verified(LoggedSignature { envelope: &two, ..logged }), BundleNotVerified::Entry);
    assert!(matches!(of_verified(LoggedSignature { index: 1, ..logged }), BundleNotVerified::Proof(_)));
    for none in [None, Some(Vec::new()), Some(vec![0; 70])] {
        let refused = signer().bundle_of_verified(&logged, |_| none).unwrap_err();
        assert_eq!(refused, BundleNotVerified::Promise("log.example:8443".into()));
    }
    let made = |logged: LoggedSignature<'_>| signer().bundle(&logged).unwrap_err();
    let other = ReleaseKey::from_bytes(SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes()).unwrap();
    assert!(matches!(made(LoggedSignature { key: &other, ..logged }), BundleNotVerified::Signature(_)));
    assert_eq!(made(LoggedSignature { envelope: &two, ..logged }), BundleNotVerified::Entry);
    assert!(matches!(made(LoggedSignature { index: 1, ..logged }), BundleNotVerified::Proof(_)));
    let larger = signer().sign_head(Head { size: 2, root }).unwrap();
    assert!(matches!(made(LoggedSignature { head: &larger, ..logged }), BundleNotVerified::Proof(_)));
    // Its head is verified no more, so it must be its own: neither of another key nor from before the log moved.
    let foreign = SigstoreSigner::from_bytes(URL.parse().unwrap(), &[8; 32]).unwrap();
    let moved = signer().to_pkcs8_pem().unwrap();
    let moved = SigstoreSigner::from_pkcs8_pem("https://new.example".parse().unwrap(), &moved).unwrap();
    for other in [foreign, moved] {
        let head = other.sign_head(Head { size: 1, root }).unwrap();
        let refused = made(LoggedSignature { head: &head, ..logged });
        assert_eq!(refused, BundleNotVerified::Head("log.example:8443".into()));
    }
}

#[test]
fn heads_open_as_they_are_only() {
    let head = Head { size: 7, root: sha256(b"root") };
    let signed = signer().sign_head(head).unwrap();
    assert_eq!(signed.head(), head);
    let (note, key) = (signed.note().to_owned(), signer().public().unwrap());
    assert!(note.starts_with("log.example:8443 - 1\n7\n"));
    // What no reader would open is not given out.
    assert!(signer().sign_head(Head { size: MAX_TREE_SIZE + 1, ..head }).is_err());
    assert_eq!(key.open_head(&note), Some(head));
    for bit in 0..note.len() * 8 {
        let mut changed = note.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(changed) = String::from_utf8(changed) else { continue };
        assert_eq!(key.open_head(&changed), None, "bit {bit}: {changed}");
    }
    let line = note.lines().last().unwrap();
    for changed in [format!("{note}{line}\n"), note.replace("\n7\n", "\n07\n"), note.trim_end().to_owned()] {
        assert_eq!(key.open_head(&changed), None, "{changed}");
    }
    let foreign = SigstoreSigner::from_bytes(URL.parse().unwrap(), &[8; 32]).unwrap();
    assert_eq!(foreign.public().unwrap().open_head(&note), None);
}

/// ECDSA signatures come in pairs, s and n − s: the other one is refused, so that nobody makes a second file from one.
#[test]
fn the_other_signature_of_the_pair_is_refused() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let note = signer().sign_head(Head::EMPTY).unwrap().note().to_owned();
    let encoded = note.trim_end().rsplit(' ').next().unwrap();
    let bytes = STANDARD.decode(encoded).unwrap();
    let signature = p256::ecdsa::Signature::from_der(&bytes[4..]).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap();
    let other = STANDARD.encode([&bytes[..4], other.to_der().as_bytes()].concat());
    let key = signer().public().unwrap();
    assert_eq!(key.open_head(&note), Some(Head::EMPTY));
    assert_eq!(key.open_head(&note.replace(encoded, &other)), None);
}

#[test]
fn addresses_name_logs() {
    for (url, name) in [
        ("https://log.example.com", "log.example.com"),
        ("http://127.0.0.1:7412/", "127.0.0.1:7412"),
        ("https://log-1.example:7412/a/b", "log-1.example:7412"),
    ] {
        let parsed: LogUrl = url.parse().unwrap();
        assert_eq!(parsed.name(), name);
        assert_eq!(parsed.as_str(), url.trim_end_matches('/'));
    }
    for bad in [
        "",
        "log.example",
        "ftp://x",
        "https://",
        "https:///x",
        "https://a b",
        "https://u@x",
        "https://x?y",
        "https://x#y",
        "https://[::1]:7412",
    ] {
        assert!(bad.parse::<LogUrl>().is_err(), "{bad}");
    }
}

#[test]
fn keys_are_read_as_they_are_written() {
    let pem = signer().to_pkcs8_pem().unwrap();
    let read = SigstoreSigner::from_pkcs8_pem(URL.parse().unwrap(), &pem).unwrap();
    assert_eq!(read.public().unwrap(), signer().public().unwrap());
    let ed25519 = rutli_log::LogSigner::from_bytes(rutli_log::Origin::new("x").unwrap(), &[1; 32]);
    let ed25519 = ed25519.to_pkcs8_pem().unwrap();
    assert!(SigstoreSigner::from_pkcs8_pem(URL.parse().unwrap(), &ed25519).is_err());
    assert!(SigstoreSigner::from_bytes(URL.parse().unwrap(), &[0; 32]).is_err());
    assert!(SigstoreSigner::from_bytes(URL.parse().unwrap(), &[0xff; 32]).is_err());
    assert!(!format!("{:?}", signer()).contains("09"));
}

#[test]
fn trusted_roots_are_read_strictly_where_they_concern_us() {
    let text = signer().trusted_root(1_700_000_000).unwrap();
    let logs = root().logs().to_vec();
    assert_eq!(logs.len(), 1);
    assert_eq!((logs[0].valid_from, logs[0].valid_until), (1_700_000_000, None));
    assert_eq!(logs[0].key, signer().public().unwrap());
    let positions: Vec<_> = [
        "certificateAuthorities",
        "ctlogs",
        "mediaType",
        "timestampAuthorities",
        "tlogs",
        "baseUrl",
        "hashAlgorithm",
        "logId",
    ]
    .map(|name| text.find(&format!("\"{name}\"")).unwrap())
    .into();
    assert!(positions.is_sorted(), "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    let with = |path: &str, to: Value| {
        let mut other = value.clone();
        *other.pointer_mut(path).unwrap() = to;
        TrustedRoot::parse(other.to_string().as_bytes())
    };
    // Others' logs and authorities stay out of it.
    let mut foreign = value["tlogs"][0].clone();
    foreign["publicKey"]["keyDetails"] = "PKIX_ED25519".into();
    let merged = with("/tlogs", vec![value["tlogs"][0].clone(), foreign.clone()].into()).unwrap();
    assert_eq!(merged.logs().len(), 1);
    assert!(with("/certificateAuthorities", vec![Value::Null].into()).is_ok());
    for (path, to) in [
        ("/tlogs", Value::Array(Vec::new())),
        ("/tlogs", vec![foreign].into()),
        ("/mediaType", "application/json".into()),
        ("/tlogs/0/logId/keyId", Hash([1; 32]).to_base64().into()),
        ("/tlogs/0/baseUrl", "log.example".into()),
        ("/tlogs/0/publicKey/rawBytes", "AAAA".into()),
        ("/tlogs/0/publicKey/validFor/start", "soon".into()),
        ("/tlogs/0/publicKey/validFor", Value::Null),
        ("/tlogs/0/hashAlgorithm", "SHA2_512".into()),
        ("/tlogs/0/hashAlgorithm", "sha2_256".into()),
        ("/tlogs/0/hashAlgorithm", Value::Null),
        // What is an object is not an array of the same things.
        ("/tlogs/0/logId", vec![value["tlogs"][0]["logId"]["keyId"].clone()].into()),
        (
            "/tlogs/0/publicKey/validFor",
            vec![value["tlogs"][0]["publicKey"]["validFor"]["start"].clone(), Value::Null].into(),
        ),
    ] {
        assert!(with(path, to).is_err(), "{path}");
    }
    let mut unsaid = value.clone();
    unsaid["tlogs"][0].as_object_mut().unwrap().remove("hashAlgorithm");
    assert!(TrustedRoot::parse(unsaid.to_string().as_bytes()).is_err());
    let as_list = Value::from(vec![value["mediaType"].clone(), value["tlogs"].clone()]);
    assert!(TrustedRoot::parse(as_list.to_string().as_bytes()).is_err());
    assert!(TrustedRoot::parse(&vec![b' '; 2 << 20]).is_err());
}
