//! What a custodian's files may say, and what they are refused for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rutli_evidence::{InvalidTrust, Role, Trust, limits};
use support::*;

const ANNA: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBm/RAlphM3+hUG6wWfcO5bIUIaqMLa2ywxcOK1wMWbh";

fn keys_refused(change: impl FnOnce(&mut Vec<rutli_evidence::AttestationKey>)) -> InvalidTrust {
    let mut changed = keys();
    change(&mut changed);
    Trust::new(changed, "").unwrap_err()
}

fn line_refused(line: &str) -> String {
    match Trust::new(Vec::new(), &format!("# custodians\n\n{line}\n")).unwrap_err() {
        InvalidTrust::SignersLine { line: 3, problem } => problem,
        other => other.to_string(),
    }
}

#[test]
fn names_and_roles_are_told() {
    let trust = Trust::new(keys(), &format!("anna {ANNA}\n")).unwrap();
    assert_eq!(trust.keys()[&Role::Builder].iter().collect::<Vec<_>>(), [&"vendor-ci"]);
    assert_eq!(trust.keys().len(), 4);
    assert_eq!(trust.custodians().into_iter().collect::<Vec<_>>(), ["anna"]);
}

/// One key that is still good is enough; both times are included, as where a signature is verified.
#[test]
fn a_custodian_without_a_key_that_is_still_good_is_told() {
    let line = |number: u8, options: &str| {
        let key = ssh_key::public::Ed25519PublicKey(ed25519(number).verifying_key().to_bytes());
        format!("anna {options} {}\n", ssh_key::PublicKey::from(key).to_openssh().unwrap())
    };
    let expired = |lines: &[String], now| {
        let trust = Trust::new(Vec::new(), &lines.concat()).unwrap();
        trust
            .expired_custodians(now)
            .into_iter()
            .map(|(name, end)| format!("{name} {}", end.0))
            .collect::<Vec<_>>()
    };
    let first = line(1, "valid-before=\"20270115080000Z\"");
    let second = line(2, "valid-before=\"20270115080001Z\"");
    let both = [first.clone(), second];
    assert_eq!(expired(&both, 1_800_000_001), [""; 0]);
    assert_eq!(expired(&both, 1_800_000_002), ["anna 1800000001"]);
    assert_eq!(expired(&[first, line(3, "")], u64::MAX), [""; 0]);
}

#[test]
fn keys_are_ed25519_or_p256() {
    let key = ed25519(1);
    let ssh = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(key.verifying_key().to_bytes()));
    let ssh = ssh.to_openssh().unwrap();
    for good in [
        pem(&key),
        pem(&key).replace('\n', "\r\n"),
        ssh.clone(),
        format!("{ssh} a comment\n"),
        p256_pem(&p256_key()),
    ] {
        let key = attestation_key("ci", Role::Builder, good.clone(), &[BUILDER]);
        assert!(Trust::new(vec![key], "").is_ok(), "{good}");
    }
    let zero = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n";
    let p384 = "-----BEGIN PUBLIC KEY-----\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE\n-----END PUBLIC KEY-----\n";
    for (bad, says) in [
        (String::new(), "want an Ed25519"),
        ("x".into(), "want an Ed25519"),
        (pem(&key).replace("PUBLIC", "PRIVATE"), "private key"),
        (pem(&key).replace("MCow", "MCoW"), "want an Ed25519"),
        (zero.into(), "small order"),
        (p384.into(), "want an Ed25519"),
        (format!("{ssh} one\n{ssh} two"), "want an Ed25519"),
        (pem(&key) + &"\n ".repeat(9_000) + "x", "more than 4096 bytes"),
    ] {
        let refused = keys_refused(|keys| keys[0].public_key = bad.clone());
        assert!(
            matches!(&refused, InvalidTrust::Key { name, role: Role::Builder, problem } if name == "vendor-ci" && problem.contains(says)),
            "{refused}"
        );
    }
}

#[test]
fn ids_fit_the_role() {
    let ids = |keys: &mut Vec<rutli_evidence::AttestationKey>, place: usize, ids: &[&str]| {
        keys[place].ids = ids.iter().map(|id| (*id).into()).collect();
    };
    for (place, bad) in [
        (0, &[][..]),
        (1, &[]),
        (2, &[BUILDER]),
        (0, &[""]),
        (0, &["a\nb"]),
        (3, &["\u{202e}"]),
        (0, &["x"; 33]),
        (0, &[&"x".repeat(2_049)]),
    ] {
        let refused = keys_refused(|keys| ids(keys, place, bad));
        assert!(matches!(refused, InvalidTrust::Ids { .. }), "{place} {bad:?}: {refused}");
    }
}

#[test]
fn a_name_is_one_key_and_a_key_one_name() {
    let repeated =
        |refused: InvalidTrust| assert!(matches!(refused, InvalidTrust::Repeated { .. }), "{refused}");
    repeated(keys_refused(|keys| keys[2].name = keys[0].name.clone()));
    repeated(keys_refused(|keys| keys[2].public_key = keys[0].public_key.clone()));
    repeated(keys_refused(|keys| keys.push(keys[2].clone())));
    for bad in ["", "a b", "a\n", "ä", &"x".repeat(65)] {
        let refused = keys_refused(|keys| keys[0].name = bad.into());
        assert!(matches!(refused, InvalidTrust::Name { .. }), "{refused}");
    }
    // Several roles, one key, one name.
    let mut several = keys();
    several.push(attestation_key("vendor-ci", Role::Tester, several[0].public_key.clone(), &[]));
    let trust = Trust::new(several, "").unwrap();
    assert!(check(&trust, &attested(&test_result(), 1)).is_ok());
    assert!(check(&trust, &attested(&provenance(BUILDER), 1)).is_ok());
}

#[test]
fn nobody_rebuilds_his_own_builds() {
    for (first, second) in [(Role::Builder, Role::Rebuilder), (Role::Rebuilder, Role::Builder)] {
        let keys = [first, second].map(|role| attestation_key("ci", role, pem(&ed25519(1)), &[BUILDER]));
        let refused = Trust::new(keys.into(), "").unwrap_err();
        assert_eq!(refused, InvalidTrust::BuilderIsRebuilder { name: "ci".into() });
    }
}

#[test]
fn keys_are_bounded() {
    let many = |count: u8| {
        let key = |number| attestation_key(&format!("ci-{number}"), Role::Tester, pem(&ed25519(number)), &[]);
        Trust::new((1..=count).map(key).collect(), "")
    };
    assert!(many(32).is_ok());
    assert_eq!(many(33).unwrap_err(), InvalidTrust::TooManyKeys { count: 33 });
}

#[test]
fn lines_are_read_as_openssh_reads_them() {
    for good in [
        String::new(),
        "# nothing\n\n \t\n".into(),
        format!("anna {ANNA}"),
        format!("  anna\t{ANNA} comment with spaces\r\n"),
        format!("anna@vendor.example namespaces=\"approval@rutli\" {ANNA}"),
        format!(
            "anna namespaces=\"a,b\",valid-after=\"20260101Z\",valid-before=\"20270101000000Z\"   {ANNA}"
        ),
        format!("anna VALID-AFTER=\"202601010000Z\" {ANNA}"),
    ] {
        assert!(Trust::new(Vec::new(), &good).is_ok(), "{good}");
    }
}

#[test]
fn lines_that_are_not_understood_are_refused_by_their_number() {
    let cut = &ANNA[..ANNA.len() - 4];
    let kind = |kind: &str| ANNA.replace("ssh-ed25519", kind);
    for (bad, says) in [
        ("anna".into(), "want `custodian"),
        (format!("anna {cut}"), "no SSH public key"),
        ("anna ssh-ed25519".into(), "want `custodian"),
        (format!("anna {}", kind("ssh-rsa")), "no SSH public key"),
        (format!("anna {}", kind("ssh-ed25519-cert-v01@openssh.com")), "certificate"),
        (format!("anna cert-authority {ANNA}"), "`cert-authority` is not supported"),
        (format!("anna CERT-AUTHORITY,namespaces=\"a\" {ANNA}"), "`cert-authority` is not supported"),
        (format!("anna namespaces=\"a\",cert-authority {ANNA}"), "`cert-authority` is not supported"),
        (format!("anna,ben {ANNA}"), "not a list or pattern"),
        (format!("*@vendor {ANNA}"), "not a list or pattern"),
        (format!("!anna {ANNA}"), "not a list or pattern"),
        (format!("\"anna b\" {ANNA}"), "not a list or pattern"),
        (format!("anna namespaces=\"*\" {ANNA}"), "patterns are not supported"),
        (format!("anna namespaces=\"!git,a\" {ANNA}"), "patterns are not supported"),
        (format!("anna namespaces=\"\" {ANNA}"), "no namespace"),
        (format!("anna namespaces=a {ANNA}"), "quotation marks"),
        (format!("anna namespaces {ANNA}"), "quotation marks"),
        (format!("anna namespaces=\"a {ANNA}"), "want `custodian"),
        (format!("anna namespaces=\"a\",namespaces=\"b\" {ANNA}"), "twice"),
        (format!("anna namespaces=\"a\", {ANNA}"), "comma"),
        (format!("anna namespaces=\"a\"valid-after=\"20260101Z\" {ANNA}"), "comma"),
        (format!("anna no-touch-required {ANNA}"), "no option"),
        (format!("anna verify-time=\"20260101Z\" {ANNA}"), "no option"),
        (format!("anna valid-after=\"20260101\" {ANNA}"), "with the Z"),
        (format!("anna valid-after=\"2026Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"20261301Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"2026010110Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"+2026112Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"20260230Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"0x5f000000\" {ANNA}"), "is no time"),
        (format!("anna valid-before=\"19600101Z\" {ANNA}"), "is no time"),
        (format!("anna valid-after=\"20260102Z\",valid-before=\"20260101Z\" {ANNA}"), "not after"),
        (format!("anna valid-after=\"20260101Z\",valid-before=\"20260101Z\" {ANNA}"), "not after"),
        (format!("an\u{1b}na {ANNA}"), "control character"),
        (format!("anna {ANNA}\nben {ANNA}"), "line 4"),
    ] {
        let problem = line_refused(&bad);
        assert!(problem.contains(says), "{bad}: {problem}");
        assert!(!problem.contains('\u{1b}') && problem.len() < 500);
    }
    let types = [
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBKlLzFSPYJfrOtTHJxRVlUCBYG5cQ4wd6zDVOuMQLO2+tVYVhFvVgUJmgt3ZbJ0vvT8vbJ6uVHiBjwwPRJLQdAwGMA4FqcvQP8kqMZsK8o0f4rcz1kJPPJ0Tm0PXGbBD0g==",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ];
    for key in types {
        let problem = line_refused(&format!("anna {key}"));
        assert!(
            ["not supported", "small order", "no SSH"].iter().any(|says| problem.contains(says)),
            "{problem}"
        );
    }
}

#[test]
fn one_key_is_one_custodian() {
    let twice = |first: &str, second: &str| match Trust::new(
        Vec::new(),
        &format!("{first} {ANNA}\n{second} {ANNA} again\n"),
    )
    .unwrap_err()
    {
        InvalidTrust::SignersLine { line: 2, problem } => problem,
        other => other.to_string(),
    };
    assert!(twice("anna", "ben").contains("count for two"));
    assert!(twice("anna", "anna").contains("keep one of the lines"));
    assert!(twice("anna", "anna namespaces=\"git\"").contains("keep one of the lines"));
}

#[test]
fn the_file_is_bounded() {
    let long = "#".repeat(limits::MAX_SIGNERS_BYTES);
    assert!(Trust::new(Vec::new(), &long).is_ok());
    assert!(matches!(Trust::new(Vec::new(), &(long + "#")), Err(InvalidTrust::Signers { .. })));
    let line = |number: u8| {
        let key = ssh_key::public::Ed25519PublicKey(ed25519(number).verifying_key().to_bytes());
        format!("anna {}\n", ssh_key::PublicKey::from(key).to_openssh().unwrap())
    };
    let file: String = (0..=127).map(line).collect();
    assert!(Trust::new(Vec::new(), &file).is_ok());
    let refused = Trust::new(Vec::new(), &(file + &line(128))).unwrap_err();
    assert!(matches!(refused, InvalidTrust::SignersLine { line: 129, .. }));
}
