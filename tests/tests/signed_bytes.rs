//! What is verified is what is signed: a pipeline uses the genuine evidence of one release to request another
//! one.
//!
//! The guard is over the **signed bytes**, not over what policies see: each field of a release is changed after its evidence was
//! made, and the real hearts of a whole quorum are asked, with a policy that demands a build, a rebuild and a test. Allowed are exactly:
//!
//! - no byte that is given to Ed25519 changes,
//! - nothing is signed,
//! - the field is on the list of what is merely claimed ([`VerifiedRelease::claims`]), and every digest that is signed is still one
//!   that the evidence names for that very file.
//!
//! A new field does not compile without a line here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use frost_ed25519::{self as frost, SigningPackage};
use rutli_keys::{Quorum, effective::effective_public_package};
use rutli_policy::Rules;
use rutli_release::{
    Artifact, Class, Format, ReleaseKey, SignableKind, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease,
};
use rutli_tests::{
    evidence::{ANNA, BUILDER, approval, provenance, rebuild, rules, tests},
    hearts::{Deployment, NOW, Nodes, parse, rehearse},
};
use rutli_wire::link::Refusal;

/// All that attestations can show, and nothing of what a release claims.
const ATTESTED: &str = r#"
@id("attested")
permit (principal, action == Action::"sign", resource)
when {
    context.builders.contains("ci") && context.rebuilders.contains("rebuild") &&
    context.testsPassedBy.contains("qa/install")
};
"#;

const APPROVED: &str = r#"
@id("approved")
permit (principal, action == Action::"sign", resource)
when { context.builders.contains("ci") && context.approvals >= 1 };
"#;

const QUORUM: [u16; 4] = [0, 1, 3, 4];

/// What the evidence is about.
fn original() -> UnverifiedRelease {
    let artifact = |name: &str, byte: u8| UnverifiedArtifact { name: name.into(), sha256: vec![byte; 32] };
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: "suite".into(),
        channel: "stable".into(),
        version: "1.0".into(),
        sequence: 7,
        issued_at: NOW - 100,
        expires_at: Some(NOW + 86_400),
        artifacts: vec![artifact("bin/suite", 1), artifact("notes.txt", 2)],
        formats: Format::ALL.into(),
    }
}

/// Names of all fields of a struct, by a destructuring that names each of them.
macro_rules! fields {
    ($type:ident { $($field:ident),* }, $value:expr) => {{
        let $type { $($field: _),* } = $value;
        [$(stringify!($field)),*]
    }};
}

/// A change after the fact.
struct Change {
    /// The field that it is to.
    field: &'static str,
    /// Under which name that field is on the list of claims; `None`: it is on no list, and must not be.
    claim: Option<&'static str>,
    change: fn(&mut UnverifiedRelease),
}

fn changes() -> Vec<Change> {
    let change = |field, claim, change| Change { field, claim, change };
    let all = vec![
        change("class", Some("class"), |r| r.class = Class::AvDatabase),
        change("product", Some("product"), |r| r.product = "other".into()),
        change("channel", Some("channel"), |r| r.channel = "beta".into()),
        change("version", Some("version"), |r| r.version = "2.0".into()),
        change("sequence", Some("sequence"), |r| r.sequence = 8),
        change("issued_at", Some("issuedAt"), |r| r.issued_at = NOW),
        change("issued_at", Some("issuedAt"), |r| r.issued_at = NOW + 3_600),
        change("expires_at", Some("expiresAt"), |r| r.expires_at = None),
        change("expires_at", Some("expiresAt"), |r| r.expires_at = Some(NOW + 999_999)),
        change("formats", Some("formats"), |r| r.formats = vec![Format::Dsse]),
        change("formats", Some("formats"), |r| r.formats = vec![Format::Sshsig]),
        // Which of the attested files, and in which order.
        change("artifacts", Some("files"), |r| r.artifacts.reverse()),
        change("artifacts", Some("files"), |r| drop(r.artifacts.pop())),
        // And no others.
        change("artifacts", None, |r| {
            r.artifacts.push(UnverifiedArtifact { name: "evil".into(), sha256: vec![1; 32] });
        }),
        change("name", None, |r| r.artifacts[0].name = "bin/evil".into()),
        change("name", None, |r| {
            let (one, two) = (r.artifacts[0].name.clone(), r.artifacts[1].name.clone());
            (r.artifacts[0].name, r.artifacts[1].name) = (two, one);
        }),
        // The SHA-256 of a file that nobody built.
        change("sha256", None, |r| r.artifacts[0].sha256 = vec![0xee; 32]),
        change("sha256", None, |r| r.artifacts[1].sha256[31] ^= 1),
        // That of another attested file.
        change("sha256", None, |r| r.artifacts[0].sha256 = vec![2; 32]),
    ];
    let release = fields!(
        UnverifiedRelease {
            class,
            product,
            channel,
            version,
            sequence,
            issued_at,
            expires_at,
            artifacts,
            formats
        },
        original()
    );
    let artifact = fields!(UnverifiedArtifact { name, sha256 }, original().artifacts.remove(0));
    let changed: BTreeSet<&str> = all.iter().map(|change| change.field).collect();
    assert_eq!(changed, release.into_iter().chain(artifact).collect(), "each field has its changes");
    all
}

/// The documents of the original, whatever is asked for with them.
fn evidence() -> Vec<Vec<u8>> {
    let release = original().verify().unwrap();
    vec![provenance(&release, BUILDER), rebuild(&release), tests(&release, "install")]
}

/// Every message for which a quorum of fresh nodes made a signature that verifies under the group's key, or why they did not.
fn signed(
    deployment: &Deployment,
    policy: &str,
    release: &VerifiedRelease,
    evidence: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut nodes = Nodes::with(deployment);
    for signer in &mut nodes.signers {
        let rules = Rules::parse(&rules(policy)).unwrap();
        signer.reload(rutli_signer_node::policy::Change::Rules(Box::new(rules)), NOW);
    }
    let mut batch = nodes.batch(&QUORUM, std::slice::from_ref(release));
    nodes.bring(&mut batch.items[0], evidence);
    let replies: Vec<_> = QUORUM.iter().map(|index| nodes.ask(*index, &batch)).collect();
    let items: Vec<_> = replies.into_iter().map(|reply| reply.answer.unwrap().remove(0)).collect();
    let permitted = items.iter().filter(|item| item.is_ok()).count();
    assert!(permitted == 0 || permitted == QUORUM.len(), "nodes with the same policy say the same");
    let shares: Vec<Vec<[u8; 32]>> = items.into_iter().collect::<Result<_, Refusal>>()?;

    let key = ReleaseKey::from_bytes(nodes.roster.group_key()).unwrap();
    let quorum = Quorum::new(&nodes.roster, &QUORUM).unwrap();
    let package = effective_public_package(&nodes.roster, &quorum).unwrap();
    let mut messages = Vec::new();
    for (slot, signable) in release.signables().into_iter().enumerate() {
        let (mut commitments, mut of_slot) = (BTreeMap::new(), BTreeMap::new());
        for (place, index) in QUORUM.iter().enumerate() {
            let identifier = *nodes.roster.identifier(*index).unwrap();
            let commitment = &batch.items[0].commitments[slot * QUORUM.len() + place];
            commitments.insert(identifier, parse(commitment));
            let share = frost::round2::SignatureShare::deserialize(&shares[place][slot]).unwrap();
            of_slot.insert(identifier, share);
        }
        let made = SigningPackage::new(commitments, &signable.bytes);
        let signature = frost::aggregate(&made, &of_slot, &package).unwrap().serialize().unwrap();
        key.verify(&signable.bytes, &signature.try_into().unwrap()).unwrap();
        messages.push(signable.bytes);
    }
    Ok(messages)
}

/// Whether a release has no file but those that the evidence is about, each under its name with its digests.
fn is_attested(release: &VerifiedRelease) -> bool {
    let attested = original().verify().unwrap();
    let known = |file: &Artifact| attested.artifacts().iter().any(|known| known == file);
    release.artifacts().iter().all(known)
}

#[test]
fn nothing_that_no_evidence_names_is_signed_but_what_is_listed_as_claimed() {
    let deployment = rehearse([1; 32], &["release"]);
    let before = signed(&deployment, ATTESTED, &original().verify().unwrap(), &evidence()).unwrap();
    assert_eq!(before.len(), 3, "a statement and two files: without this no refusal below means anything");
    let before: BTreeSet<_> = before.into_iter().collect();
    let (mut same, mut refused, mut claimed) = (0, 0, 0);
    for (number, Change { field, claim, change }) in changes().into_iter().enumerate() {
        let mut release = original();
        change(&mut release);
        let release = release.verify().unwrap();
        let listed = release.claims().iter().any(|listed| Some(listed.field) == claim);
        assert_eq!(listed, claim.is_some(), "{number} {field}: a field is on the list, or it is not");
        let found = match signed(&deployment, ATTESTED, &release, &evidence()) {
            Err(refusal) => {
                refused += 1;
                format!("nothing is signed: {}", refusal.code)
            }
            Ok(messages) if messages.iter().all(|message| before.contains(message)) => {
                same += 1;
                "the same bytes are signed".to_owned()
            }
            Ok(_) if listed && is_attested(&release) => {
                claimed += 1;
                "other bytes are signed: claimed".to_owned()
            }
            Ok(_) => {
                panic!("change {number}, to {field}: bytes are signed that no evidence names and no list")
            }
        };
        println!("{number:>2} {field:<10} {found}");
    }
    // 0 of any would mean that the test does not see it.
    assert!(same >= 2 && refused >= 7 && claimed >= 7, "{same} {refused} {claimed}");
}

/// A digest is on no list of claims, and every claim is an attribute that policies can ask about, but for the order of files.
#[test]
fn a_digest_is_no_claim() {
    let release = original().verify().unwrap();
    for claim in release.claims() {
        assert!(!claim.field.contains("sha") && !claim.field.contains("digest"), "{}", claim.field);
        assert!(rutli_policy::SCHEMA.contains(&format!("    {}", claim.attribute)), "{}", claim.attribute);
    }
    // Each digest that is signed over a bare file is one that evidence must name.
    for signable in release.signables() {
        if let SignableKind::Artifact(index) = signable.kind {
            let digests = release.artifacts()[index].digests();
            assert!(digests.iter().any(|(_, digest)| signable.bytes.ends_with(digest)), "{index}");
        }
    }
}

/// An approval names the statement: with one nothing can be changed afterwards but the formats, which are not in it.
#[test]
fn an_approval_covers_every_claim_in_the_statement() {
    let deployment = rehearse([1; 32], &["release"]);
    let original_release = original().verify().unwrap();
    let item =
        Nodes::with(&deployment).batch(&QUORUM, std::slice::from_ref(&original_release)).items.remove(0);
    let documents = vec![provenance(&original_release, BUILDER), approval(&item, ANNA)];
    let before: BTreeSet<_> =
        signed(&deployment, APPROVED, &original_release, &documents).unwrap().into_iter().collect();
    for (number, Change { field, change, .. }) in changes().into_iter().enumerate() {
        let mut release = original();
        change(&mut release);
        let after = signed(&deployment, APPROVED, &release.verify().unwrap(), &documents);
        let same = after.is_ok_and(|messages| messages.iter().all(|message| before.contains(message)));
        assert_eq!(same, field == "formats", "change {number}, to {field}");
    }
}
