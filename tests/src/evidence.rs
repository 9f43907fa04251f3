//! Evidence about releases, by keys that follow from a number; and the files in which a custodian trusts them.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use rutli_evidence::{
    APPROVAL_NAMESPACE, AttestationSigner, Build, File, REFUSAL_NAMESPACE, Refused, SourceDigest, TestRun,
    approval_text, provenance_statement, refusal_text, sign_dsse, test_statement,
};
use rutli_keys::IdentityKey;
use rutli_release::VerifiedRelease;
use rutli_wire::link::BatchItem;
use sha2::{Digest, Sha256, Sha512};

/// The builder's key.
pub const BUILDER: u8 = 101;
/// The rebuilder's key.
pub const REBUILDER: u8 = 102;
/// The tester's key.
pub const TESTER: u8 = 103;
/// A custodian's key.
pub const ANNA: u8 = 111;
/// Another custodian's key.
pub const BEAT: u8 = 112;
/// Nobody trusts it.
pub const STRANGER: u8 = 120;

/// SHA-256 of the source of every build, unless a test says another.
pub const SOURCE: [u8; 32] = [9; 32];

/// A folder of rules with this policy, in which all of them are trusted but the stranger. The files are by name.
#[must_use]
pub fn rules(cedar: &str) -> BTreeMap<String, Vec<u8>> {
    let key = |name: &str, role: &str, number: u8, ids: &str| {
        let pem = attester(number).public_pem();
        format!(
            "[[key]]\nname = \"{name}\"\nrole = \"{role}\"\npublic_key = \"\"\"\n{pem}\"\"\"\nids = [{ids}]\n\n"
        )
    };
    let trust = key("ci", "builder", BUILDER, "\"https://ci.example\"")
        + &key("rebuild", "rebuilder", REBUILDER, "\"https://rebuild.example\"")
        + &key("qa", "tester", TESTER, "");
    let signers = signer_line("anna", ANNA, "") + &signer_line("beat", BEAT, "");
    [("policy.cedar", cedar.to_owned()), ("trust.toml", trust), ("allowed_signers", signers)]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .collect()
}

/// A line of an allowed-signers file, with options or none.
#[must_use]
pub fn signer_line(custodian: &str, number: u8, options: &str) -> String {
    format!("{custodian} {options} ssh-ed25519 {}\n", STANDARD.encode(ssh_blob(number)))
}

/// A provenance of a release, by the builder or another.
#[must_use]
pub fn provenance(release: &VerifiedRelease, number: u8) -> Vec<u8> {
    built(release, number, "https://ci.example", SOURCE)
}

/// A rebuild of the same source.
#[must_use]
pub fn rebuild(release: &VerifiedRelease) -> Vec<u8> {
    built(release, REBUILDER, "https://rebuild.example", SOURCE)
}

/// A test run in which this passed.
#[must_use]
pub fn tests(release: &VerifiedRelease, passed: &str) -> Vec<u8> {
    tested(release, TESTER, &[passed], &[])
}

/// A test run by a key, in which these passed and those failed.
#[must_use]
pub fn tested(release: &VerifiedRelease, number: u8, passed: &[&str], failed: &[&str]) -> Vec<u8> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let run = TestRun { passed: names(passed), failed: names(failed), ..TestRun::default() };
    sign_dsse(&test_statement(&files(release), &run).unwrap(), &attester(number)).unwrap()
}

/// A custodian's approval of an item's release.
#[must_use]
pub fn approval(item: &BatchItem, number: u8) -> Vec<u8> {
    signed(&approval_text(&item.release_id, &statement(item)), APPROVAL_NAMESPACE, number)
}

/// A custodian's refusal of an item's release.
#[must_use]
pub fn refusal(item: &BatchItem, number: u8) -> Vec<u8> {
    let refused = Refused {
        statement: statement(item),
        product: item.release.product().clone(),
        files: item.release.artifacts().iter().map(|artifact| artifact.sha256).collect(),
    };
    let text = refusal_text(&item.release_id, &refused, "the changelog is wrong").unwrap();
    signed(&text, REFUSAL_NAMESPACE, number)
}

fn statement(item: &BatchItem) -> [u8; 32] {
    Sha256::digest(item.release.statement()).into()
}

/// A build by a key in the name of a builder, from the source of this SHA-256.
#[must_use]
pub fn built(release: &VerifiedRelease, number: u8, builder_id: &str, source: [u8; 32]) -> Vec<u8> {
    let build = Build {
        builder_id: builder_id.to_owned(),
        build_type: "https://ci.example/build/v1".to_owned(),
        parameters: BTreeMap::new(),
        source_uri: Some("https://source.example/suite.tar.gz".to_owned()),
        source_digest: SourceDigest::Sha256(source),
        invocation_id: None,
        started_at: None,
        finished_at: None,
    };
    sign_dsse(&provenance_statement(&files(release), &build).unwrap(), &attester(number)).unwrap()
}

fn files(release: &VerifiedRelease) -> Vec<File> {
    let file = |artifact: &rutli_release::Artifact| File {
        name: artifact.name.as_str().to_owned(),
        sha256: artifact.sha256,
        others: None,
    };
    release.artifacts().iter().map(file).collect()
}

/// The public half of an attester's key, in PEM.
#[must_use]
pub fn public_pem(number: u8) -> String {
    attester(number).public_pem()
}

fn attester(number: u8) -> AttestationSigner {
    let pem = IdentityKey::from_bytes(&[number; 32]).to_pkcs8_pem().unwrap();
    AttestationSigner::from_private_key(&pem).unwrap()
}

/// A text with its signature, as `ssh-keygen -Y sign` makes it.
#[must_use]
pub fn signed(text: &str, namespace: &str, number: u8) -> Vec<u8> {
    let head = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
    let message = [b"SSHSIG", &head[..], &string(&Sha512::digest(text))].concat();
    let signature = SigningKey::from_bytes(&[number; 32]).sign(&message).to_bytes();
    let signature = [string(b"ssh-ed25519"), string(&signature)].concat();
    let version = 1_u32.to_be_bytes();
    let blob = [b"SSHSIG", &version[..], &string(&ssh_blob(number)), &head, &string(&signature)].concat();
    let encoded = STANDARD.encode(blob);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let armor = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    format!("{text}{armor}").into_bytes()
}

/// The public half of a custodian's key, as OpenSSH encodes it.
#[must_use]
pub fn ssh_blob(number: u8) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[number; 32]).verifying_key();
    [string(b"ssh-ed25519"), string(key.as_bytes())].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}
