//! Policies, facts and evidence for the tests.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "each test uses some of it, and fails by panicking"
)]

use std::collections::BTreeSet;

use rutli_evidence::{AttestationKey, BuildFact, Established, Role, SourceDigest, Trust};
use rutli_policy::{
    Decision, Facts, FileNames, InvalidPolicy, Missing, MissingKind, PolicyId, PolicySet, Rates, ReleaseFacts,
};
use rutli_release::{ArtifactName, Channel, Class, Format, Product, Requester, Sequence, Timestamp, Version};

/// 2026-11-23T10:00:00Z, a Monday.
pub const MONDAY: u64 = 1_795_428_000;

/// Everything that facts borrow from.
#[derive(Clone, Debug)]
pub struct Stage {
    pub requester: Requester,
    pub class: Class,
    pub product: Product,
    pub channel: Channel,
    pub version: Version,
    pub sequence: u64,
    pub artifacts: u64,
    pub file_names: Vec<ArtifactName>,
    pub issued_at: u64,
    pub expires_at: Option<u64>,
    pub formats: Vec<Format>,
    pub embargoed: bool,
    pub established: Vec<Established>,
    pub previous: Option<u64>,
    pub previous_version: Option<Version>,
    pub version_is_new: bool,
    pub permitted_before: u64,
    pub rates: Rates,
    pub now: u64,
}

impl Stage {
    /// A product build of `suite` with nothing beside it.
    pub fn suite() -> Self {
        Self {
            requester: Requester::new("pipeline").unwrap(),
            class: Class::ProductBuild,
            product: Product::new("suite").unwrap(),
            channel: Channel::new("stable").unwrap(),
            version: Version::new("1.0.0").unwrap(),
            sequence: 1,
            artifacts: 2,
            file_names: ["bin/suite", "notes"].map(|name| ArtifactName::new(name).unwrap()).into(),
            issued_at: MONDAY - 60,
            expires_at: None,
            formats: Format::ALL.into(),
            embargoed: false,
            established: Vec::new(),
            previous: None,
            previous_version: None,
            version_is_new: true,
            permitted_before: 0,
            rates: Rates::default(),
            now: MONDAY,
        }
    }

    pub fn avdb() -> Self {
        Self { class: Class::AvDatabase, product: Product::new("avdb").unwrap(), ..Self::suite() }
    }

    pub fn with(mut self, established: impl IntoIterator<Item = Established>) -> Self {
        self.established.extend(established);
        self
    }

    pub fn facts(&self) -> Facts<'_> {
        Facts {
            requester: &self.requester,
            release: ReleaseFacts {
                class: self.class,
                product: &self.product,
                channel: &self.channel,
                version: &self.version,
                sequence: Sequence::new(self.sequence).unwrap(),
                artifacts: self.artifacts,
                file_names: FileNames::Names(&self.file_names),
                issued_at: Timestamp(self.issued_at),
                expires_at: self.expires_at.map(Timestamp),
                formats: &self.formats,
            },
            embargoed: self.embargoed,
            established: &self.established,
            files_permitted_before: self.permitted_before,
            previous_sequence: self.previous.map(|previous| Sequence::new(previous).unwrap()),
            previous_version: self.previous_version.as_ref(),
            version_is_new: self.version_is_new,
            rates: self.rates,
            now_unix: self.now,
        }
    }

    pub fn decide(&self, set: &PolicySet) -> Decision {
        set.decide(&self.facts())
    }
}

/// A policy that permits `when`, under the id `p`.
pub fn permit_when(when: &str) -> String {
    format!("@id(\"p\") permit(principal, action == Action::\"sign\", resource) when {{ {when} }};")
}

pub fn parse(text: &str, trust: Option<&Trust>) -> Result<PolicySet, InvalidPolicy> {
    PolicySet::parse(&[("policy.cedar".to_owned(), text.to_owned())], trust)
}

pub fn set(text: &str) -> PolicySet {
    parse(text, None).unwrap_or_else(|error| panic!("{error}"))
}

pub fn trusting(text: &str) -> PolicySet {
    parse(text, Some(&trust())).unwrap_or_else(|error| panic!("{error}"))
}

/// Two builders, two rebuilders, a tester, a reviewer, and four custodians.
pub fn trust() -> Trust {
    let key = |name: &str, role, seed: u8| AttestationKey {
        name: name.to_owned(),
        role,
        public_key: openssh(seed),
        ids: match role {
            Role::Builder | Role::Rebuilder => vec!["https://example.com/builder".to_owned()],
            Role::Tester | Role::Reviewer => Vec::new(),
        },
    };
    let keys = vec![
        key("vendor-builder", Role::Builder, 1),
        key("other-builder", Role::Builder, 2),
        key("supervisor-rebuilder", Role::Rebuilder, 3),
        key("other-rebuilder", Role::Rebuilder, 4),
        key("vendor-tester", Role::Tester, 5),
        key("auditor", Role::Reviewer, 6),
    ];
    let signers: String = ["anna", "beat", "clara", "dario"]
        .iter()
        .zip(11_u8..)
        .map(|(name, seed)| format!("{name} {}\n", openssh(seed)))
        .collect();
    Trust::new(keys, &signers).unwrap()
}

fn openssh(seed: u8) -> String {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let key = rutli_release::ReleaseKey::from_bytes(key.verifying_key().as_bytes()).unwrap();
    key.to_openssh("").unwrap()
}

pub fn source(number: u8) -> SourceDigest {
    SourceDigest::Sha256([number; 32])
}

pub fn build(by: &str, of: u8) -> BuildFact {
    BuildFact {
        by: by.to_owned(),
        builder_id: "https://example.com/builder".to_owned(),
        build_type: "https://example.com/type".to_owned(),
        source_uri: Some("git+https://example.com/suite".to_owned()),
        source_digest: source(of),
        invocation_id: None,
        finished_at: None,
    }
}

pub fn built_as(id: &str, by: &str, of: u8) -> Established {
    Established::Provenance(BuildFact { builder_id: id.to_owned(), ..build(by, of) })
}

pub fn provenance(by: &str, of: u8) -> Established {
    Established::Provenance(build(by, of))
}

pub fn rebuild(by: &str, of: u8) -> Established {
    Established::Rebuild(build(by, of))
}

pub fn tests(by: &str, passed: &[&str]) -> Established {
    let passed: BTreeSet<String> = passed.iter().map(|test| (*test).to_owned()).collect();
    Established::Tests { by: by.to_owned(), passed, url: None }
}

pub fn review(by: &str, of: u8, levels: &[&str]) -> Established {
    Established::Review {
        by: by.to_owned(),
        verifier_id: "https://example.com/reviewer".to_owned(),
        source_uri: "git+https://example.com/suite".to_owned(),
        source_digest: source(of),
        levels: levels.iter().map(|level| (*level).to_owned()).collect(),
    }
}

pub fn approval(custodian: &str) -> Established {
    Established::Approval { custodian: custodian.to_owned() }
}

pub fn refusal(custodian: &str) -> Established {
    let refused = rutli_evidence::Refused {
        statement: [0; 32],
        product: rutli_release::Product::new("suite").unwrap(),
        files: [[0; 32]].into(),
    };
    Established::Refusal { custodian: custodian.to_owned(), reason: "not this one".to_owned(), refused }
}

/// What is missing, in words.
pub fn words(decision: &Decision) -> Vec<&str> {
    match decision {
        Decision::Waits { missing, .. } => missing.iter().map(|missing| missing.words.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The reason of a refusal.
pub fn reason(decision: &Decision) -> &str {
    match decision {
        Decision::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

pub fn ids(policies: &[PolicyId]) -> Vec<&str> {
    policies.iter().map(PolicyId::as_str).collect()
}

/// Does what is said to be missing: gives documents of the source by the first who may, changes the time, waits an hour.
pub fn supply(stage: &mut Stage, missing: &[Missing]) {
    // What waits already may be about one source.
    let named =
        missing.iter().flat_map(|missing| &missing.saying).find_map(|text| text.parse::<SourceDigest>().ok());
    let there = stage.established.iter().find_map(|document| match document {
        Established::Provenance(build) => Some(build.source_digest.clone()),
        _ => None,
    });
    let source = there.or(named).unwrap_or(source(1));
    let of = match source {
        SourceDigest::Sha256(bytes) => bytes[0],
        SourceDigest::GitCommit(_) => panic!("{source}"),
    };
    for missing in missing {
        let saying: Vec<&str> = missing.saying.iter().map(String::as_str).collect();
        let anybody = [String::from("zoe"), String::from("yves")];
        let givers = if missing.of.is_empty() { &anybody[..] } else { &missing.of };
        for name in givers.iter().take(missing.count) {
            stage.established.push(match missing.kind {
                MissingKind::Provenance => {
                    let Established::Provenance(mut build) = provenance(name, of) else { panic!() };
                    let id = saying.iter().find(|text| text.starts_with("https://"));
                    build.builder_id = id.map_or(build.builder_id, |id| (*id).to_owned());
                    Established::Provenance(build)
                }
                MissingKind::Rebuild => rebuild(name, of),
                MissingKind::Tests => tests(name, &saying),
                MissingKind::Review => review(name, of, &saying),
                MissingKind::Approval => approval(name),
                MissingKind::Agreement | MissingKind::Rate | MissingKind::Time => panic!("{missing:?}"),
            });
        }
        match missing.kind {
            // The custodian trusts the others no more.
            MissingKind::Agreement => stage.established.retain(|document| match document {
                Established::Provenance(build) => {
                    Some(build.source_digest.to_string()) == missing.saying.first().cloned()
                }
                _ => true,
            }),
            MissingKind::Time => stage.now = missing.not_before.unwrap(),
            MissingKind::Rate => stage.rates = Rates::default(),
            _ => {}
        }
    }
}
