//! What a node's decision costs beside the signing: the supervisor's example rules over a release of 100 files.
//!
//! Twice: the policies alone ([`PolicySet::decide`] over facts that are established), and all that the node's own
//! [`Policy::decide`] does, which makes these facts of the documents that came: digests, what it remembers of attestations, the
//! approval's signature anew, marks, rates. Beside it stands what one node spends on the signatures of such a release.
//! Times are CPU of this thread.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use rutli_evidence::{
    APPROVAL_NAMESPACE, AttestationSigner, Build, Established, Evidence, File, SourceDigest, approval_text,
    provenance_statement, sign_dsse, verify,
};
use rutli_log::{Hash, sha256};
use rutli_policy::{Facts, PolicySet, Rates, Rules};
use rutli_release::{Class, ReleaseId, Requester, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{marks::Marks, policy::Policy, rates::RateCounter, refusals::Refusals};
use rutli_wire::link::{BatchItem, LoggedEntry};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use ssh_key::{HashAlg, LineEnding, PrivateKey, private::Ed25519Keypair};

use crate::{
    clock::thread_cpu,
    micro::{NOW, Quorum, node_us},
    stats::float,
    work::{FILES, Shape},
};

/// Decisions that are timed, each way.
const DECISIONS: usize = 10_000;

/// 100 files, and the statement.
const RELEASE: Shape = Shape { files: 100, signatures: 101, ..FILES };

/// The rules of the supervisor's node, as they are shipped.
const CEDAR: &str = include_str!("../../../deploy/examples/supervisor-node/policy.cedar");

/// What these rules name.
const PRODUCT: &str = "suite";
const BUILDER: (&str, &str) = ("vendor-builder", "https://ci.vendor.example/builder");
const REBUILDER: (&str, &str) = ("supervisor-rebuilder", "https://rebuild.supervisor.example");
const TESTER: &str = "vendor-tester";
const CUSTODIANS: [&str; 2] = ["clara", "dario"];

/// CPU of one decision, and of the signing that it goes before, at one node.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PolicyCost {
    /// Microseconds for the policies, over facts that are established.
    pub policies_us: f64,
    /// Microseconds for all of a decision, from documents to the answer.
    pub decision_us: f64,
    /// Microseconds of one node for one signature of such a release.
    pub node_us_per_signature: f64,
    /// Signatures of the release.
    pub signatures: usize,
}

impl PolicyCost {
    /// The whole decision, as a share of what the node spends on one signature.
    #[must_use]
    pub fn of_signature(&self) -> f64 {
        self.decision_us / self.node_us_per_signature
    }

    /// The whole decision, as a share of what the node spends on all signatures of the release.
    #[must_use]
    pub fn of_release(&self) -> f64 {
        self.of_signature() / float(self.signatures)
    }
}

/// Times both ways, and the signing.
///
/// # Errors
/// Something is not permitted, which all of it is.
pub fn measure(quorum: &mut Quorum) -> Result<PolicyCost> {
    let scene = Scene::set()?;
    Ok(PolicyCost {
        policies_us: scene.time_policies(DECISIONS)?,
        decision_us: scene.time_decisions(DECISIONS)?,
        node_us_per_signature: node_us(quorum, RELEASE)?,
        signatures: RELEASE.signatures,
    })
}

/// A release with its evidence, and the rules that permit it.
struct Scene {
    item: BatchItem,
    established: Vec<Established>,
    files: BTreeMap<String, Vec<u8>>,
    policies: PolicySet,
}

impl Scene {
    fn set() -> Result<Self> {
        let release = release()?;
        let id = ReleaseId::new("suite-1.0.1-0123456789ab")?;
        let documents = documents(&release, &id)?;
        let files = rules()?;
        let Rules { policies, trust, .. } = parse(&files)?;
        let established = documents
            .iter()
            .map(|document| Ok(verify(&Evidence::parse(document)?, &trust, &release, &id, NOW)?))
            .collect::<Result<_>>()?;
        let item = BatchItem {
            release_id: id,
            requester: Requester::new("pipeline")?,
            release: Arc::new(release),
            slots: Vec::new(),
            commitments: Vec::new(),
            entry: Some(entry_naming(&documents)),
            evidence: documents.into_iter().map(Into::into).collect(),
        };
        Ok(Self { item, established, files, policies })
    }

    /// Microseconds for each.
    fn time_policies(&self, times: usize) -> Result<f64> {
        let start = thread_cpu();
        for _ in 0..times {
            // As the node makes them.
            let facts = Facts {
                requester: &self.item.requester,
                release: self.item.release.as_ref().into(),
                embargoed: false,
                established: &self.established,
                files_permitted_before: 0,
                previous_sequence: None,
                previous_version: None,
                version_is_new: true,
                rates: Rates::default(),
                now_unix: NOW,
            };
            let decision = self.policies.decide(&facts);
            ensure!(decision.is_permitted(), "not permitted: {}", decision.words());
        }
        Ok(thread_cpu().saturating_sub(start).as_secs_f64() * 1e6 / float(times))
    }

    /// Microseconds for each; the first one, which alone verifies attestations, is among them.
    fn time_decisions(&self, times: usize) -> Result<f64> {
        let mut policy = Policy::new(parse(&self.files)?, 0, RateCounter::default(), Refusals::default());
        let marks = Marks::default();
        let start = thread_cpu();
        for _ in 0..times {
            policy
                .decide(&self.item, &marks, NOW)
                .map_err(|denied| anyhow!("not permitted: {}", denied.refusal.reason))?;
        }
        Ok(thread_cpu().saturating_sub(start).as_secs_f64() * 1e6 / float(times))
    }
}

/// The bench's release of this shape, under the name that the rules have for it.
fn release() -> Result<VerifiedRelease> {
    let like = RELEASE.release(1)?;
    let renamed = UnverifiedRelease { product: PRODUCT.to_owned(), ..UnverifiedRelease::from(&like) };
    ensure!(renamed.class == Class::ProductBuild, "the rules want a product build");
    Ok(renamed.verify()?)
}

/// The entry of a request that came with these documents. A decision looks at what it names alone: its place in the log is the gate's.
fn entry_naming(documents: &[Vec<u8>]) -> LoggedEntry {
    LoggedEntry {
        index: 0,
        leaf: Hash([0; 32]),
        proof: Vec::new(),
        deadline: NOW + 3_600,
        embargo: None,
        evidence: documents.iter().map(|document| sha256(document)).collect(),
        added: Vec::new(),
    }
}

/// A provenance, a rebuild of the same source, and a custodian's approval.
fn documents(release: &VerifiedRelease, id: &ReleaseId) -> Result<Vec<Vec<u8>>> {
    let statement = Sha256::digest(release.statement()).into();
    let text = approval_text(id, &statement);
    let signature = ssh(key(CUSTODIANS[0]).sign(APPROVAL_NAMESPACE, HashAlg::Sha512, text.as_bytes()))?;
    Ok(vec![
        provenance(release, BUILDER)?,
        provenance(release, REBUILDER)?,
        (text + &ssh(signature.to_pem(LineEnding::LF))?).into_bytes(),
    ])
}

fn provenance(release: &VerifiedRelease, (name, builder_id): (&str, &str)) -> Result<Vec<u8>> {
    let subjects: Vec<File> = release
        .artifacts()
        .iter()
        .map(|artifact| File { name: artifact.name.to_string(), sha256: artifact.sha256, others: None })
        .collect();
    let build = Build {
        builder_id: builder_id.to_owned(),
        build_type: "https://rutli.example/bench".to_owned(),
        parameters: [("command".to_owned(), "make dist".to_owned())].into(),
        source_uri: Some("https://vendor.example/suite-1.0.tar.gz".to_owned()),
        source_digest: SourceDigest::Sha256([7; 32]),
        invocation_id: None,
        started_at: Some(NOW),
        finished_at: Some(NOW),
    };
    let signer = AttestationSigner::from_private_key(&ssh(key(name).to_openssh(LineEnding::LF))?)?;
    Ok(sign_dsse(&provenance_statement(&subjects, &build)?, &signer)?)
}

/// The example's folder, with keys whose secret parts this program knows.
fn rules() -> Result<BTreeMap<String, Vec<u8>>> {
    let public = |name: &str| ssh(key(name).public_key().to_openssh());
    let mut trust = String::new();
    for (name, role, id) in [
        (BUILDER.0, "builder", Some(BUILDER.1)),
        (REBUILDER.0, "rebuilder", Some(REBUILDER.1)),
        (TESTER, "tester", None),
    ] {
        let ids = id.map(|id| format!("ids = [{id:?}]\n")).unwrap_or_default();
        let public = public(name)?;
        trust += &format!("[[key]]\nname = {name:?}\nrole = {role:?}\npublic_key = {public:?}\n{ids}\n");
    }
    let mut signers = String::new();
    for name in CUSTODIANS {
        signers += &format!("{name} namespaces=\"{APPROVAL_NAMESPACE}\" {}\n", public(name)?);
    }
    Ok([("policy.cedar", CEDAR.to_owned()), ("trust.toml", trust), ("allowed_signers", signers)]
        .map(|(name, text)| (name.to_owned(), text.into_bytes()))
        .into())
}

fn parse(files: &BTreeMap<String, Vec<u8>>) -> Result<Rules> {
    Rules::parse(files).context("the example rules")
}

/// One key for each name, always the same.
fn key(name: &str) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&Sha256::digest(name).into()))
}

/// Without its `std` the crate's errors are none of Rust's.
fn ssh<T>(result: ssh_key::Result<T>) -> Result<T> {
    result.map_err(|error| anyhow!("an SSH key or signature: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_permit_and_no_piece_of_evidence_is_for_show() {
        let mut scene = Scene::set().unwrap();
        assert!(scene.time_policies(2).unwrap() > 0.0 && scene.time_decisions(2).unwrap() > 0.0);
        for without in 0..3 {
            let (item, established) = (scene.item.clone(), scene.established.clone());
            scene.item.evidence.remove(without);
            scene.established.remove(without);
            assert!(scene.time_policies(1).is_err() && scene.time_decisions(1).is_err(), "{without}");
            (scene.item, scene.established) = (item, established);
        }
    }

    #[test]
    fn shares_are_of_what_one_node_does() {
        let cost = PolicyCost {
            policies_us: 20.0,
            decision_us: 100.0,
            node_us_per_signature: 500.0,
            signatures: 100,
        };
        assert!((cost.of_signature() - 0.2).abs() < 1e-9 && (cost.of_release() - 0.002).abs() < 1e-9);
    }
}
