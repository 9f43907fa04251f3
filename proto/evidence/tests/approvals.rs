//! Approvals and refusals, made by `ssh-keygen`, by an authenticator in software, and by whoever wants to be taken for a custodian.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path, process::Command};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use p256::ecdsa;
use proptest::prelude::*;
use rutli_evidence::{
    APPROVAL_NAMESPACE, Established, Evidence, Kind, NotEstablished, NotEvidence, REFUSAL_NAMESPACE, Refused,
    Role, Trust, approval_text, refusal_text, verify,
};
use rutli_release::{Product, ReleaseId, UnverifiedRelease};
use sha2::{Digest, Sha256, Sha512};
use support::*;

/// A custodian's key as OpenSSH knows it (PROTOCOL.sshsig, PROTOCOL.u2f), written without the library that reads it.
#[derive(Clone)]
enum SshKey {
    Ed25519(SigningKey),
    P256(ecdsa::SigningKey),
    Sk { key: SigningKey, application: &'static str, flags: u8 },
}

use SshKey::{Ed25519, P256, Sk};

impl SshKey {
    fn kind(&self) -> &'static str {
        match self {
            Ed25519(_) => "ssh-ed25519",
            P256(_) => "ecdsa-sha2-nistp256",
            Sk { .. } => "sk-ssh-ed25519@openssh.com",
        }
    }

    fn blob(&self) -> Vec<u8> {
        let kind = string(self.kind().as_bytes());
        match self {
            Ed25519(key) => [kind, string(key.verifying_key().as_bytes())].concat(),
            P256(key) => {
                let point = key.verifying_key().to_encoded_point(false);
                [kind, string(b"nistp256"), string(point.as_bytes())].concat()
            }
            Sk { key, application, .. } => {
                [kind, string(key.verifying_key().as_bytes()), string(application.as_bytes())].concat()
            }
        }
    }

    fn line(&self, principal: &str) -> String {
        format!("{principal} {} {} a comment\n", self.kind(), STANDARD.encode(self.blob()))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let kind = string(self.kind().as_bytes());
        match self {
            Ed25519(key) => [kind, string(&key.sign(message).to_bytes())].concat(),
            P256(key) => {
                let signature: ecdsa::Signature = key.sign(message);
                let (r, s) = signature.split_bytes();
                [kind, string(&[mpint(&r), mpint(&s)].concat())].concat()
            }
            Sk { key, application, flags } => {
                let trailer = [&[*flags][..], &[0, 0, 0, 9]].concat();
                let signed = [&Sha256::digest(application)[..], &trailer, &Sha256::digest(message)].concat();
                [kind, string(&key.sign(&signed).to_bytes()), trailer].concat()
            }
        }
    }
}

/// An SSHSIG blob, as wrong as a test wants it.
struct Blob<'a> {
    version: u32,
    namespace: &'a str,
    reserved: &'a [u8],
    hash: &'a str,
}

impl Blob<'_> {
    fn encode(&self, key: &SshKey, text: &str) -> Vec<u8> {
        let digest = match self.hash {
            "sha256" => Sha256::digest(text).to_vec(),
            _ => Sha512::digest(text).to_vec(),
        };
        let namespace = string(self.namespace.as_bytes());
        let hash = string(self.hash.as_bytes());
        let message = [b"SSHSIG", &namespace[..], &string(self.reserved), &hash, &string(&digest)].concat();
        let signature = string(&key.sign(&message));
        let version = self.version.to_be_bytes();
        let public = string(&key.blob());
        [b"SSHSIG", &version[..], &public, &namespace, &string(self.reserved), &hash, &signature].concat()
    }
}

fn blob(namespace: &str) -> Blob<'_> {
    Blob { version: 1, namespace, reserved: b"", hash: "sha512" }
}

fn signed(key: &SshKey, namespace: &str, text: &str) -> Vec<u8> {
    format!("{text}{}", armored(&blob(namespace).encode(key, text), 70)).into_bytes()
}

fn armored(blob: &[u8], width: usize) -> String {
    let encoded = STANDARD.encode(blob);
    let mut armor = String::from("-----BEGIN SSH SIGNATURE-----\n");
    for line in encoded.as_bytes().chunks(width) {
        armor.push_str(std::str::from_utf8(line).unwrap());
        armor.push('\n');
    }
    armor + "-----END SSH SIGNATURE-----\n"
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn mpint(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
    let negative = digits.first().is_some_and(|byte| byte & 0x80 != 0);
    string(&if negative { [&[0], &digits[..]].concat() } else { digits })
}

fn anna() -> SshKey {
    Ed25519(ed25519(11))
}

fn touched() -> SshKey {
    Sk { key: ed25519(12), application: "ssh:", flags: 1 }
}

fn all() -> [SshKey; 3] {
    [anna(), touched(), P256(p256_key())]
}

fn approval() -> String {
    approval_text(&id(), &statement_sha256())
}

fn refusal() -> String {
    refusal_text(&id(), &all_refused(), "The tests on Windows are missing.").unwrap()
}

fn all_refused() -> Refused {
    Refused {
        statement: statement_sha256(),
        product: release().product().clone(),
        files: release().artifacts().iter().map(|artifact| artifact.sha256).collect(),
    }
}

fn signers(text: &str) -> Trust {
    Trust::new(Vec::new(), text).unwrap()
}

fn approved(by: &str) -> Established {
    Established::Approval { custodian: by.into() }
}

fn at(trust: &Trust, document: &[u8], now: u64) -> Result<Established, NotEstablished> {
    verify(&Evidence::parse(document).unwrap(), trust, &release(), &id(), now)
}

#[test]
fn a_custodians_word_counts_under_each_kind_of_key() {
    for key in all() {
        let trust = signers(&key.line("anna"));
        let document = signed(&key, APPROVAL_NAMESPACE, &approval());
        assert_eq!(check(&trust, &document), Ok(approved("anna")));
        assert_eq!(Evidence::parse(&document).unwrap().kind(), Kind::Approval);
        let document = signed(&key, REFUSAL_NAMESPACE, &refusal());
        let reason = "The tests on Windows are missing.".into();
        let custodian = "anna".into();
        assert_eq!(
            check(&trust, &document),
            Ok(Established::Refusal { custodian, reason, refused: all_refused() })
        );
        assert_eq!(Evidence::parse(&document).unwrap().kind(), Kind::Refusal);
        let sha256 = Blob { hash: "sha256", ..blob(APPROVAL_NAMESPACE) }.encode(&key, &approval());
        assert!(check(&trust, format!("{}{}", approval(), armored(&sha256, 70)).as_bytes()).is_ok());
    }
}

#[test]
fn several_keys_are_one_custodian() {
    let [first, second, third] = all();
    let trust =
        signers(&format!("{}\n# and\n{}  {}", first.line("anna"), second.line("anna"), third.line("ben")));
    assert_eq!(Vec::from_iter(trust.custodians()), ["anna", "ben"]);
    for (key, by) in [(first, "anna"), (second, "anna"), (third, "ben")] {
        assert_eq!(check(&trust, &signed(&key, APPROVAL_NAMESPACE, &approval())), Ok(approved(by)));
    }
}

/// One secret signs as every key type with its point, so its holder is one custodian.
#[test]
fn one_point_is_one_custodian() {
    let Ed25519(key) = anna() else { return };
    let sk = |application| Sk { key: key.clone(), application, flags: 1 };
    let P256(p256) = P256(p256_key()) else { return };
    let compressed = |principal: &str| {
        let point = p256.verifying_key().to_encoded_point(true);
        let blob = [string(b"ecdsa-sha2-nistp256"), string(b"nistp256"), string(point.as_bytes())].concat();
        format!("{principal} ecdsa-sha2-nistp256 {}\n", STANDARD.encode(blob))
    };
    let problem = |text: String| Trust::new(Vec::new(), &text).unwrap_err().to_string();
    assert!(Trust::new(Vec::new(), &compressed("beat")).is_ok(), "it is a key in any encoding");
    for (one, other) in [
        (anna().line("anna"), sk("ssh:").line("beat")),
        (sk("ssh:").line("anna"), sk("ssh:other").line("beat")),
        (sk("ssh:").line("anna"), anna().line("beat")),
        (P256(p256_key()).line("anna"), compressed("beat")),
        (compressed("anna"), P256(p256_key()).line("beat")),
    ] {
        let problem = problem(format!("{one}{other}"));
        assert!(problem.contains("line 2") && problem.contains("count for two"), "{problem}");
    }
    let own = problem(anna().line("anna") + &sk("ssh:").line("anna"));
    assert!(own.contains("stands on line 1 already"), "{own}");
    // Nor does it attest and approve.
    let attests = |pem: String, signers: String| {
        Trust::new(vec![attestation_key("qa", Role::Tester, pem, &[])], &signers).unwrap_err().to_string()
    };
    for problem in [
        attests(pem(&key), anna().line("anna")),
        attests(pem(&key), sk("ssh:").line("anna")),
        attests(p256_pem(&p256_key()), compressed("anna")),
    ] {
        assert!(problem.contains("line 1") && problem.contains("tester's key qa"), "{problem}");
    }
    let both = [pem(&key), pem(&key)].into_iter().zip(["a", "b"]);
    let keys = both.map(|(pem, name)| attestation_key(name, Role::Tester, pem, &[])).collect();
    assert!(Trust::new(keys, "").is_err());
}

#[test]
fn the_namespace_is_that_of_the_word() {
    for key in all() {
        let trust = signers(&key.line("anna"));
        for (text, wanted, namespaces) in [
            (approval(), APPROVAL_NAMESPACE, [REFUSAL_NAMESPACE, "file", "git", "product-build@rutli"]),
            (refusal(), REFUSAL_NAMESPACE, [APPROVAL_NAMESPACE, "file", "git", "product-build@rutli"]),
        ] {
            for namespace in namespaces {
                let found = format!("\"{namespace}\"");
                assert_eq!(
                    check(&trust, &signed(&key, namespace, &text)),
                    Err(NotEstablished::Namespace { found, wanted })
                );
            }
        }
    }
}

#[test]
fn a_word_is_about_one_release_with_one_content() {
    let trust = signers(&anna().line("anna"));
    let other = ReleaseId::new("suite-1.3-0123456789ab").unwrap();
    let text = approval_text(&other, &statement_sha256());
    assert_eq!(
        check(&trust, &signed(&anna(), APPROVAL_NAMESPACE, &text)),
        Err(NotEstablished::OtherRelease { found: other.to_string(), wanted: id().to_string() })
    );
    let text = approval_text(&id(), &[7; 32]);
    assert_eq!(
        check(&trust, &signed(&anna(), APPROVAL_NAMESPACE, &text)),
        Err(NotEstablished::OtherStatement {
            found: "07".repeat(32),
            wanted: hex::encode(statement_sha256())
        })
    );
    // A refusal is about product and files, whichever release the custodian looked at.
    let refusal = |refused: Refused| {
        let text = refusal_text(&other, &refused, "no").unwrap();
        check(&trust, &signed(&anna(), REFUSAL_NAMESPACE, &text))
    };
    let one = [[2; 32], [99; 32]].into();
    assert!(refusal(Refused { statement: [7; 32], files: one, ..all_refused() }).is_ok());
    for refused in [
        Refused { product: Product::new("other").unwrap(), ..all_refused() },
        Refused { files: [[99; 32]].into(), ..all_refused() },
    ] {
        let found = refused.product.to_string();
        assert_eq!(refusal(refused), Err(NotEstablished::OtherFiles { found }));
    }
    // The release changed after it was approved.
    let document = Evidence::parse(&signed(&anna(), APPROVAL_NAMESPACE, &approval())).unwrap();
    let mut changed = UnverifiedRelease::from(&release());
    changed.artifacts[0].sha256[0] ^= 1;
    let outcome = verify(&document, &trust, &changed.verify().unwrap(), &id(), NOW);
    assert!(matches!(outcome, Err(NotEstablished::OtherStatement { .. })));
}

#[test]
fn keys_that_are_not_in_the_file_or_not_any_more_count_for_nothing() {
    let document = signed(&anna(), APPROVAL_NAMESPACE, &approval());
    for file in [String::new(), touched().line("anna"), format!("# {}", anna().line("anna"))] {
        let refused = check(&signers(&file), &document).unwrap_err();
        assert!(
            matches!(&refused, NotEstablished::UnknownSigner { fingerprint } if fingerprint.starts_with("SHA256:"))
        );
    }
    // The same point as another kind of key, and for another application, is another key.
    let Ed25519(key) = anna() else { return };
    let sk = |application, flags| Sk { key: key.clone(), application, flags };
    assert!(check(&signers(&sk("ssh:", 1).line("anna")), &document).is_err());
    let document = signed(&sk("ssh:other", 1), APPROVAL_NAMESPACE, &approval());
    assert!(matches!(
        check(&signers(&sk("ssh:", 1).line("anna")), &document),
        Err(NotEstablished::UnknownSigner { .. })
    ));
    assert!(check(&signers(&sk("ssh:other", 1).line("anna")), &document).is_ok());
}

#[test]
fn a_line_restricts_namespaces_and_times() {
    let document = signed(&anna(), APPROVAL_NAMESPACE, &approval());
    let with = |options: &str| {
        let line = anna().line("anna");
        signers(&format!("# comment\n\n{}", line.replacen("anna ", &format!("anna {options} "), 1)))
    };
    let (custodian, line) = (String::from("anna"), 3);
    for namespaces in ["approval@rutli", "git,approval@rutli,refusal@rutli"] {
        assert_eq!(check(&with(&format!("namespaces=\"{namespaces}\"")), &document), Ok(approved("anna")));
    }
    assert_eq!(
        check(&with("namespaces=\"git,refusal@rutli\""), &document),
        Err(NotEstablished::NotForNamespace {
            custodian: custodian.clone(),
            line,
            namespace: APPROVAL_NAMESPACE
        })
    );
    // 2026-11-21T10:00:00Z is `NOW`, and both times are included.
    let trust = with("valid-after=\"20261121100000Z\",valid-before=\"202611211001Z\"");
    for (now, good) in
        [(NOW - 1, false), (NOW, true), (NOW + 60, true), (NOW + 61, false), (u64::MAX, false), (0, false)]
    {
        assert_eq!(at(&trust, &document, now).is_ok(), good, "{now}");
    }
    let since = "2026-11-21T10:00:00Z".into();
    assert_eq!(
        at(&trust, &document, NOW - 1),
        Err(NotEstablished::NotYetValid { custodian: custodian.clone(), line, since })
    );
    let until = "2026-11-21T10:01:00Z".into();
    assert_eq!(at(&trust, &document, NOW + 61), Err(NotEstablished::Expired { custodian, line, until }));
    assert!(at(&with("VALID-BEFORE=\"20261121Z\""), &document, NOW).is_err());
    assert!(at(&with("Valid-Before=\"20261122Z\""), &document, NOW).is_ok());
}

#[test]
fn authenticators_must_be_touched() {
    for (flags, good) in [(0, false), (1, true), (4, false), (5, true), (0xfe, false)] {
        let key = Sk { key: ed25519(12), application: "ssh:", flags };
        let outcome = check(&signers(&key.line("anna")), &signed(&key, APPROVAL_NAMESPACE, &approval()));
        let untouched = Err(NotEstablished::NoPresence { custodian: "anna".into() });
        assert_eq!(outcome, if good { Ok(approved("anna")) } else { untouched }, "{flags}");
    }
    // The flag is signed: it cannot be set afterwards. It stands five bytes before the end of the blob.
    let untouched = Sk { key: ed25519(12), application: "ssh:", flags: 0 };
    let mut bytes = blob(APPROVAL_NAMESPACE).encode(&untouched, &approval());
    let at = bytes.len() - 5;
    assert_eq!(std::mem::replace(&mut bytes[at], 1), 0);
    let document = format!("{}{}", approval(), armored(&bytes, 70));
    assert_eq!(
        check(&signers(&untouched.line("anna")), document.as_bytes()),
        Err(NotEstablished::BadSignature { custodian: "anna".into() })
    );
}

#[test]
fn signatures_are_over_this_text_by_the_key_that_they_name() {
    for key in all() {
        let trust = signers(&key.line("anna"));
        let other = approval_text(&id(), &[7; 32]);
        let moved = format!("{}{}", approval(), armored(&blob(APPROVAL_NAMESPACE).encode(&key, &other), 70));
        let bad = Err(NotEstablished::BadSignature { custodian: "anna".into() });
        assert_eq!(check(&trust, moved.as_bytes()), bad);
        // It names a custodian's key, and is by another one of each kind.
        let forged = SigningKey::from_bytes(&[99; 32]);
        for forger in [
            Ed25519(forged.clone()),
            Sk { key: forged.clone(), application: "ssh:", flags: 1 },
            P256(ecdsa::SigningKey::from_bytes(&[98; 32].into()).unwrap()),
        ] {
            let bytes = blob(APPROVAL_NAMESPACE).encode(&forger, &approval());
            let rest = &bytes[10 + string(&forger.blob()).len()..];
            let bytes = [&bytes[..10], &string(&key.blob()), rest].concat();
            let document = format!("{}{}", approval(), armored(&bytes, 70));
            assert_eq!(check(&trust, document.as_bytes()), bad);
        }
    }
}

/// The secret of an authenticator that was taken out of it signs as an ordinary key would, with nobody there; and the other way
/// round.
#[test]
fn a_key_signs_as_the_kind_that_it_is() {
    let plain = Ed25519(ed25519(12));
    for (named, signer) in [(touched(), plain.clone()), (plain, touched())] {
        let bytes = blob(APPROVAL_NAMESPACE).encode(&signer, &approval());
        let rest = &bytes[10 + string(&signer.blob()).len()..];
        let bytes = [&bytes[..10], &string(&named.blob()), rest].concat();
        let document = format!("{}{}", approval(), armored(&bytes, 70));
        let bad = Err(NotEstablished::BadSignature { custodian: "anna".into() });
        assert_eq!(check(&signers(&named.line("anna")), document.as_bytes()), bad);
    }
}

#[test]
fn signatures_have_one_spelling() {
    let text = approval();
    let good = blob(APPROVAL_NAMESPACE).encode(&anna(), &text);
    let armor = armored(&good, 70);
    assert!(check(&signers(&anna().line("anna")), format!("{text}{armor}").as_bytes()).is_ok());
    let versions = [0, 2]
        .map(|version| armored(&Blob { version, ..blob(APPROVAL_NAMESPACE) }.encode(&anna(), &text), 70));
    let reserved = Blob { reserved: b"x", ..blob(APPROVAL_NAMESPACE) }.encode(&anna(), &text);
    let md5 = Blob { hash: "md5", ..blob(APPROVAL_NAMESPACE) }.encode(&anna(), &text);
    let nameless = blob("").encode(&anna(), &text);
    for bad in [
        versions[0].clone(),
        versions[1].clone(),
        armored(&reserved, 70),
        armored(&md5, 70),
        armored(&nameless, 70),
        armored(&[&good[..], &[0]].concat(), 70),
        armored(&good[..good.len() - 1], 70),
        armored(b"", 70),
        armored(&good, 76),
        armored(&good, 64),
        armor.clone() + "\n",
        armor.clone() + " ",
        armor.trim_end().to_owned(),
        armor.clone() + &armor,
        armor.replace("END SSH", "END  SSH"),
        armor.replace('\n', "\n\n"),
        armor.replace("SIGNATURE-----\nU", "SIGNATURE-----\n U"),
        armored(&[&good[..], &vec![0; 4_000]].concat(), 70),
    ] {
        let refused = refused(format!("{text}{bad}").as_bytes());
        assert!(matches!(refused, NotEvidence::SshSignature { .. }), "{refused}\n{bad}");
    }
    for bad in [
        format!("{}{armor}", text.trim_end()),
        format!("{text}\n{armor}"),
        format!("{text}{}", armor.replace('\n', "\r\n")),
        text.clone(),
        format!("{text}{}", &armor[1..]),
        format!("{}{armor}", text.replace('\n', "\r\n")),
    ] {
        assert!(matches!(refused(bad.as_bytes()), NotEvidence::Text { .. }), "{bad}");
    }
    assert_eq!(refused(format!("\n{text}{armor}").as_bytes()), NotEvidence::NotRecognised);
    let not_utf8 = [b"rutli approval v1\n\xff", armor.as_bytes()].concat();
    assert!(matches!(refused(&not_utf8), NotEvidence::Text { problem: "it is not UTF-8" }));
}

#[test]
fn signatures_are_bounded() {
    let with = |application| Sk { key: ed25519(12), application, flags: 1 };
    assert!(
        Evidence::parse(&signed(&with("ssh:a-company.example"), APPROVAL_NAMESPACE, &approval())).is_ok()
    );
    let long = "x".repeat(2_000).leak();
    let refused = refused(&signed(&with(long), APPROVAL_NAMESPACE, &approval()));
    assert!(
        matches!(&refused, NotEvidence::SshSignature { problem } if problem.contains("more than 2048 bytes"))
    );
}

fn ssh_keygen(directory: &Path, arguments: &[&str], stdin: Option<&str>) -> bool {
    let stdin = stdin
        .map_or_else(std::process::Stdio::null, |file| fs::File::open(directory.join(file)).unwrap().into());
    Command::new("ssh-keygen")
        .args(arguments)
        .current_dir(directory)
        .stdin(stdin)
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn ssh_keygen_makes_what_is_verified() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for kind in [&["-t", "ed25519"][..], &["-t", "ecdsa", "-b", "256"]] {
        let _ = fs::remove_file(path.join("key"));
        assert!(ssh_keygen(path, &[kind, &["-q", "-N", "", "-C", "anna's key", "-f", "key"]].concat(), None));
        let trust = signers(&format!("anna {}", fs::read_to_string(path.join("key.pub")).unwrap()));
        for (text, namespace, hash) in
            [(approval(), APPROVAL_NAMESPACE, "sha512"), (refusal(), REFUSAL_NAMESPACE, "sha256")]
        {
            let _ = fs::remove_file(path.join("text.sig"));
            fs::write(path.join("text"), &text).unwrap();
            let option = format!("hashalg={hash}");
            assert!(ssh_keygen(
                path,
                &["-Y", "sign", "-O", &option, "-n", namespace, "-f", "key", "text"],
                None
            ));
            let document = [text.into_bytes(), fs::read(path.join("text.sig")).unwrap()].concat();
            assert!(check(&trust, &document).is_ok());
        }
    }
}

#[test]
fn ssh_keygen_verifies_what_the_tests_sign() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for key in all() {
        fs::write(path.join("allowed"), key.line("anna")).unwrap();
        fs::write(path.join("text"), approval()).unwrap();
        let signature = armored(&blob(APPROVAL_NAMESPACE).encode(&key, &approval()), 70);
        fs::write(path.join("text.sig"), signature).unwrap();
        let verify = |namespace| {
            let arguments =
                ["-Y", "verify", "-f", "allowed", "-I", "anna", "-n", namespace, "-s", "text.sig"];
            ssh_keygen(path, &arguments, Some("text"))
        };
        assert!(verify(APPROVAL_NAMESPACE), "{}", key.kind());
        assert!(!verify(REFUSAL_NAMESPACE));
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_establishes_nothing(kind in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let [first, second, third] = all();
        let trust = signers(&format!("{}{}{}", first.line("anna"), second.line("ben"), third.line("carl")));
        let mut document = signed(&all()[kind], APPROVAL_NAMESPACE, &approval());
        let at = at.index(document.len());
        document[at] ^= 1_u8 << bit;
        if let Ok(evidence) = Evidence::parse(&document) {
            prop_assert!(verify(&evidence, &trust, &release(), &id(), NOW).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_in_the_signature_establishes_nothing(kind in 0..3_usize, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let key = all()[kind].clone();
        let trust = signers(&key.line("anna"));
        let mut bytes = blob(APPROVAL_NAMESPACE).encode(&key, &approval());
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(evidence) = Evidence::parse(format!("{}{}", approval(), armored(&bytes, 70)).as_bytes()) {
            prop_assert!(verify(&evidence, &trust, &release(), &id(), NOW).is_err());
        }
    }

    #[test]
    fn garbage_for_a_signature_is_refused(bytes in any::<Vec<u8>>()) {
        for bytes in [&bytes[..], &[b"SSHSIG\0\0\0\x01", &bytes[..]].concat()] {
            let document = approval() + &armored(bytes, 70);
            prop_assert!(Evidence::parse(document.as_bytes()).is_err());
        }
    }
}
