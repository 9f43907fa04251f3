//! What the tests of evidence share: a release, keys, statements about it, and their signatures.

#![allow(dead_code, reason = "no test uses all of it")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use p256::{
    ecdsa,
    pkcs8::{EncodePublicKey as _, LineEnding},
};
use rutli_evidence::{
    AttestationKey, Established, Evidence, NotEstablished, NotEvidence, Role, Trust, verify,
};
use rutli_release::{
    Class, Format, PAYLOAD_TYPE, ReleaseId, ReleaseKey, UnverifiedArtifact, UnverifiedRelease,
    VerifiedRelease, pae,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const NOW: u64 = 1_795_255_200;
pub const BUILDER: &str = "https://ci.vendor.example/builders/1";
pub const REBUILDER: &str = "https://supervisor.example/rebuilder";

/// Three files, whose SHA-256 are 32 times 1, 2 and 3.
pub fn release() -> VerifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: "1.2".into(),
        sequence: 7,
        issued_at: NOW,
        expires_at: None,
        artifacts: (1..=3)
            .map(|number| UnverifiedArtifact {
                name: format!("linux/suite-{number}"),
                sha256: vec![number; 32],
            })
            .collect(),
        formats: vec![Format::Dsse],
    }
    .verify()
    .unwrap()
}

pub fn id() -> ReleaseId {
    ReleaseId::new("suite-1.2-0123456789ab").unwrap()
}

pub fn statement_sha256() -> [u8; 32] {
    Sha256::digest(release().statement()).into()
}

/// A key pair, known by its number.
pub fn ed25519(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub fn pem(key: &SigningKey) -> String {
    ReleaseKey::from_bytes(key.verifying_key().as_bytes()).unwrap().to_pem()
}

pub fn p256_key() -> ecdsa::SigningKey {
    ecdsa::SigningKey::from_bytes(&[9; 32].into()).unwrap()
}

pub fn p256_pem(key: &ecdsa::SigningKey) -> String {
    key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

pub fn attestation_key(name: &str, role: Role, public_key: String, ids: &[&str]) -> AttestationKey {
    AttestationKey { name: name.into(), role, public_key, ids: ids.iter().map(|id| (*id).into()).collect() }
}

/// Builder 1, rebuilder 2, tester 3, reviewer 4.
pub fn keys() -> Vec<AttestationKey> {
    vec![
        attestation_key("vendor-ci", Role::Builder, pem(&ed25519(1)), &[BUILDER]),
        attestation_key("supervisor-rebuild", Role::Rebuilder, pem(&ed25519(2)), &[REBUILDER]),
        attestation_key("qa", Role::Tester, pem(&ed25519(3)), &[]),
        attestation_key("audit", Role::Reviewer, pem(&ed25519(4)), &[]),
    ]
}

pub fn trust() -> Trust {
    Trust::new(keys(), "").unwrap()
}

pub fn subjects() -> Value {
    (1..=3_u8)
        .map(|number| json!({"name": format!("linux/suite-{number}"), "digest": {"sha256": hex::encode([number; 32])}}))
        .collect()
}

pub fn provenance(builder_id: &str) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(),
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://vendor.example/build/v1",
                "externalParameters": {"target": "linux"},
                "internalParameters": {},
                "resolvedDependencies": [
                    {"name": "compiler", "uri": "pkg:generic/cc@1", "digest": {"sha512": "00"}},
                    {"name": "source", "uri": "git+https://vendor.example/suite", "digest": {"gitCommit": "ab".repeat(20)}},
                ],
            },
            "runDetails": {
                "builder": {"id": builder_id, "version": {"ci": "4"}},
                "metadata": {"invocationId": "run-17", "startedOn": "2026-11-21T09:00:00Z", "finishedOn": "2026-11-21T10:00:00.5Z"},
            },
        },
    })
}

pub fn test_result() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(),
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": "PASSED",
            "configuration": [{"name": "clean-set", "digest": {"sha256": "cd".repeat(32)}}, {"uri": "https://qa.example/x"}],
            "url": "https://qa.example/runs/1",
            "passedTests": ["false-positives", "install"],
            "warnedTests": ["slow"],
            "failedTests": [],
        },
    })
}

pub fn review() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "suite-1.2.tar.gz", "digest": {"sha256": "ef".repeat(32)}}],
        "predicateType": "https://slsa.dev/verification_summary/v1",
        "predicate": {
            "verifier": {"id": "https://audit.example/reviewers"},
            "timeVerified": "2026-11-20T10:00:00Z",
            "resourceUri": "https://vendor.example/suite-1.2.tar.gz",
            "policy": {"uri": "https://audit.example/policy"},
            "verificationResult": "PASSED",
            "verifiedLevels": ["AUDITED"],
        },
    })
}

/// `value` with another value at a JSON pointer.
pub fn with(mut value: Value, pointer: &str, to: Value) -> Value {
    *value.pointer_mut(pointer).unwrap() = to;
    value
}

/// `value` without the field at a JSON pointer.
pub fn without(mut value: Value, pointer: &str) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field).unwrap();
    value
}

pub fn envelope(payload: &[u8], signatures: &[Vec<u8>]) -> Vec<u8> {
    let signatures: Vec<Value> = signatures
        .iter()
        .map(|signature| json!({"keyid": "any", "sig": STANDARD.encode(signature)}))
        .collect();
    json!({"payload": STANDARD.encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": signatures})
        .to_string()
        .into_bytes()
}

pub fn sign(key: &SigningKey, payload: &[u8]) -> Vec<u8> {
    key.sign(&pae(PAYLOAD_TYPE, payload)).to_bytes().into()
}

pub fn sign_p256(key: &ecdsa::SigningKey, payload: &[u8]) -> ecdsa::Signature {
    key.sign(&pae(PAYLOAD_TYPE, payload))
}

/// An envelope signed by the key of this number.
pub fn attested(statement: &Value, number: u8) -> Vec<u8> {
    let payload = statement.to_string().into_bytes();
    envelope(&payload, &[sign(&ed25519(number), &payload)])
}

pub fn check(trust: &Trust, document: &[u8]) -> Result<Established, NotEstablished> {
    verify(&Evidence::parse(document).unwrap(), trust, &release(), &id(), NOW)
}

pub fn refused(document: &[u8]) -> NotEvidence {
    Evidence::parse(document).unwrap_err()
}
