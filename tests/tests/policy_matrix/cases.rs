//! The combinations: nodes, releases and documents, right ones and every kind of wrong one.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rutli_evidence::{REFUSAL_NAMESPACE, approval_text};
use rutli_release::Class;
use rutli_tests::{
    evidence::{
        ANNA, BEAT, BUILDER, REBUILDER, SOURCE, STRANGER, TESTER, approval, built, refusal, signed, tested,
    },
    examples::CLARA,
};
use rutli_wire::link::BatchItem;
use sha2::{Digest as _, Sha256};

/// A node with what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    VendorStable,
    VendorBeta,
    /// A channel that no policy speaks of.
    VendorNightly,
    VendorDatabase,
    SupervisorProduct,
    SupervisorDatabase,
    Databases,
    /// A database of more than one GiB.
    DatabasesLarge,
    DatabasesProduct,
}

/// A document that some policy asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    Provenance,
    Rebuild,
    Unit,
    Install,
    Clean,
    /// By the first custodian of the node's organisation.
    Approval,
    /// By the second one.
    Second,
}

/// What comes in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Right,
    Missing,
    /// By a key that nobody trusts.
    Forged,
    /// True, and of another release.
    Swapped,
    /// The right text under the signature of another release's document.
    Tampered,
    /// By somebody who is trusted for something else.
    WrongRole,
    /// By the right key, in the name of somebody for whom it may not speak.
    WrongName,
    /// By the right key, in the name of a builder of something else.
    OtherBuilder,
    /// From another source than the build.
    OtherSource,
    /// Right, and beside it one by the same builder from another source.
    Contradicted,
    /// The builder says that it built again.
    BySelf,
    /// Right, but the custodian of the node took another key in the place of that one.
    Revoked,
    /// A run in which this test passed and another failed.
    Failed,
    /// A run in which another test passed.
    OtherTest,
    /// Of the same id, with another content.
    OtherStatement,
    /// By the other organisation's custodian.
    OtherOrganisation,
    /// Signed as something else.
    OtherNamespace,
}

/// A custodian's refusal beside all that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    No,
    ByOwn,
    ByOther,
}

/// Documents of one combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Papers {
    pub slots: Vec<(Slot, Variant)>,
    pub refused: Refused,
}

use Variant::{
    BySelf, Contradicted, Failed, Forged, Missing, OtherBuilder, OtherNamespace, OtherOrganisation,
    OtherSource, OtherStatement, OtherTest, Revoked, Right, Swapped, Tampered, WrongName, WrongRole,
};

/// The builders of the examples.
const SUITE_BUILDER: &str = "https://ci.vendor.example/builder";
const AV_BUILDER: &str = "https://ci.vendor.example/avdb";

impl Lane {
    /// The folder of its rules.
    pub fn folder(self) -> &'static str {
        match self {
            Self::VendorStable | Self::VendorBeta | Self::VendorNightly | Self::VendorDatabase => {
                "vendor-node"
            }
            Self::SupervisorProduct | Self::SupervisorDatabase => "supervisor-node",
            Self::Databases | Self::DatabasesLarge | Self::DatabasesProduct => "av-database",
        }
    }

    pub fn class(self) -> Class {
        match self {
            Self::VendorDatabase | Self::SupervisorDatabase | Self::Databases | Self::DatabasesLarge => {
                Class::AvDatabase
            }
            _ => Class::ProductBuild,
        }
    }

    pub fn channel(self) -> &'static str {
        match self {
            Self::VendorBeta => "beta",
            Self::VendorNightly => "nightly",
            _ => "stable",
        }
    }

    pub fn is_supervisor(self) -> bool {
        self.folder() == "supervisor-node"
    }

    /// Who builds what it is asked for, and who builds something else.
    fn builders(self) -> (&'static str, &'static str) {
        match self.class() {
            Class::ProductBuild if self.folder() != "av-database" => (SUITE_BUILDER, AV_BUILDER),
            _ => (AV_BUILDER, SUITE_BUILDER),
        }
    }

    pub fn slots(self) -> &'static [Slot] {
        use Slot::{Approval, Clean, Install, Provenance, Rebuild, Second, Unit};
        match self {
            Self::VendorStable => &[Provenance, Unit, Install, Approval],
            Self::VendorBeta => &[Provenance, Unit],
            Self::VendorNightly => &[Provenance, Unit, Approval],
            Self::SupervisorProduct => &[Provenance, Rebuild, Approval],
            Self::VendorDatabase | Self::SupervisorDatabase => &[Provenance, Clean],
            Self::Databases | Self::DatabasesLarge => &[Provenance, Clean, Approval, Second],
            Self::DatabasesProduct => &[Provenance, Clean, Approval],
        }
    }
}

impl Slot {
    /// Whose key it takes.
    pub fn holder(self, lane: Lane) -> &'static str {
        match self {
            Self::Provenance => "vendor-builder",
            Self::Rebuild => "supervisor-rebuilder",
            Self::Unit | Self::Install | Self::Clean => "vendor-tester",
            Self::Approval if lane.is_supervisor() => "clara",
            Self::Approval => "anna",
            Self::Second => "beat",
        }
    }

    fn variants(self) -> &'static [Variant] {
        match self {
            Self::Provenance => &[
                Missing,
                Forged,
                Swapped,
                Tampered,
                WrongRole,
                WrongName,
                OtherBuilder,
                Contradicted,
                Revoked,
            ],
            Self::Rebuild => {
                &[Missing, Forged, Swapped, Tampered, WrongRole, WrongName, OtherSource, BySelf, Revoked]
            }
            Self::Unit | Self::Install | Self::Clean => {
                &[Missing, Forged, Swapped, Tampered, WrongRole, Failed, OtherTest, Revoked]
            }
            Self::Approval | Self::Second => &[
                Missing,
                Forged,
                Swapped,
                Tampered,
                OtherStatement,
                OtherOrganisation,
                OtherNamespace,
                Revoked,
            ],
        }
    }

    pub fn test(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Clean => "false-positives",
            _ => "unit",
        }
    }
}

impl Papers {
    /// All right; each wrong in each way, with all others right, or one of them missing; some missing; all missing; and a
    /// refusal beside what is right, or nothing.
    pub fn all(lane: Lane) -> Vec<Self> {
        let slots = lane.slots();
        let mut sets: Vec<Vec<Variant>> = Vec::new();
        let right = vec![Right; slots.len()];
        for some in 0..1_u32 << slots.len() {
            sets.push((0..slots.len()).map(|at| if some >> at & 1 == 1 { Missing } else { Right }).collect());
        }
        for (at, slot) in slots.iter().enumerate() {
            for variant in slot.variants().iter().filter(|variant| **variant != Missing) {
                let mut one = right.clone();
                one[at] = *variant;
                for other in (0..slots.len()).filter(|other| *other != at) {
                    let mut two = one.clone();
                    two[other] = Missing;
                    sets.push(two);
                }
                sets.push(one);
            }
        }
        let papers = |set: &Vec<Variant>, refused| Self {
            slots: slots.iter().copied().zip(set.iter().copied()).collect(),
            refused,
        };
        let mut all: Vec<Self> = sets.iter().map(|set| papers(set, Refused::No)).collect();
        all.dedup();
        for refused in [Refused::ByOwn, Refused::ByOther] {
            all.extend([&sets[0], &vec![Missing; slots.len()]].map(|set| papers(set, refused)));
        }
        all
    }

    /// The holders whose key was replaced.
    pub fn revoked(&self, lane: Lane) -> Vec<&'static str> {
        let revoked = self.slots.iter().filter(|(_, variant)| *variant == Revoked);
        revoked.map(|(slot, _)| slot.holder(lane)).collect()
    }

    /// The documents, each with the words with which it is not counted, if it is not.
    pub fn documents(
        &self,
        lane: Lane,
        (item, other): (&BatchItem, &BatchItem),
        known: &mut BTreeMap<String, Vec<u8>>,
    ) -> Vec<(Vec<u8>, Option<&'static str>)> {
        let revoked = self.revoked(lane);
        let mut documents = Vec::new();
        for (slot, variant) in self.slots.iter().copied() {
            let mut make = |variant: Variant| {
                let name = format!("{slot:?} {variant:?}");
                known.entry(name).or_insert_with(|| document(lane, slot, variant, item, other)).clone()
            };
            let is_revoked = revoked.contains(&slot.holder(lane));
            match variant {
                Missing => {}
                Contradicted => {
                    for one in [Right, OtherSource] {
                        documents.push((make(one), note(lane, slot, one, is_revoked)));
                    }
                }
                _ => documents.push((make(variant), note(lane, slot, variant, is_revoked))),
            }
        }
        let (own, foreign) = if lane.is_supervisor() { (CLARA, ANNA) } else { (BEAT, CLARA) };
        match self.refused {
            Refused::No => {}
            Refused::ByOwn => documents.push((refusal(item, own), None)),
            Refused::ByOther => documents.push((refusal(item, foreign), Some("no custodian's"))),
        }
        documents
    }
}

fn document(lane: Lane, slot: Slot, variant: Variant, item: &BatchItem, other: &BatchItem) -> Vec<u8> {
    match slot {
        Slot::Provenance if variant == OtherBuilder => {
            built(&item.release, BUILDER, lane.builders().1, SOURCE)
        }
        Slot::Provenance => build(BUILDER, lane.builders().0, TESTER, variant, (item, other)),
        Slot::Rebuild if variant == BySelf => {
            let release = &item.release;
            let again = built(release, BUILDER, SUITE_BUILDER, SOURCE);
            // Not the very document that is the provenance.
            spaced(&again)
        }
        Slot::Rebuild => {
            build(REBUILDER, "https://rebuild.supervisor.example", TESTER, variant, (item, other))
        }
        Slot::Unit | Slot::Install | Slot::Clean => test_run(slot.test(), variant, item, other),
        Slot::Approval | Slot::Second => {
            let (own, foreign) = match slot {
                Slot::Second => (BEAT, CLARA),
                _ if lane.is_supervisor() => (CLARA, ANNA),
                _ => (ANNA, CLARA),
            };
            word(own, foreign, variant, item, other)
        }
    }
}

fn build(
    key: u8,
    id: &str,
    other_role: u8,
    variant: Variant,
    (item, other): (&BatchItem, &BatchItem),
) -> Vec<u8> {
    let (right, foreign) = (built(&item.release, key, id, SOURCE), built(&other.release, key, id, SOURCE));
    match variant {
        Forged => built(&item.release, STRANGER, id, SOURCE),
        Swapped => foreign,
        Tampered => with_signatures_of(&right, &foreign),
        WrongRole => built(&item.release, other_role, id, SOURCE),
        WrongName => built(&item.release, key, "https://elsewhere.example", SOURCE),
        OtherSource => built(&item.release, key, id, [10; 32]),
        _ => right,
    }
}

fn test_run(test: &str, variant: Variant, item: &BatchItem, other: &BatchItem) -> Vec<u8> {
    let right = tested(&item.release, TESTER, &[test], &[]);
    let foreign = tested(&other.release, TESTER, &[test], &[]);
    match variant {
        Forged => tested(&item.release, STRANGER, &[test], &[]),
        Swapped => foreign,
        Tampered => with_signatures_of(&right, &foreign),
        WrongRole => tested(&item.release, BUILDER, &[test], &[]),
        Failed => tested(&item.release, TESTER, &[test], &["load"]),
        OtherTest => tested(&item.release, TESTER, &["spelling"], &[]),
        _ => right,
    }
}

fn word(own: u8, foreign: u8, variant: Variant, item: &BatchItem, other: &BatchItem) -> Vec<u8> {
    let right = approval(item, own);
    let mut other_content = item.clone();
    other_content.release = other.release.clone();
    match variant {
        Forged => approval(item, STRANGER),
        Swapped => approval(other, own),
        Tampered => {
            let text = |document: &[u8]| {
                let document = String::from_utf8(document.to_vec()).unwrap();
                let (text, armour) = document.split_once("-----BEGIN").unwrap();
                (text.to_owned(), format!("-----BEGIN{armour}"))
            };
            (text(&right).0 + &text(&approval(other, own)).1).into_bytes()
        }
        OtherStatement => approval(&other_content, own),
        OtherOrganisation => approval(item, foreign),
        OtherNamespace => {
            let statement = Sha256::digest(item.release.statement()).into();
            signed(&approval_text(&item.release_id, &statement), REFUSAL_NAMESPACE, own)
        }
        _ => right,
    }
}

/// Why a document is not counted. Nothing for one that counts, and for one that says something else that is true.
fn note(lane: Lane, slot: Slot, variant: Variant, is_revoked: bool) -> Option<&'static str> {
    if matches!(slot, Slot::Approval | Slot::Second) {
        return match variant {
            Swapped => Some("it is about the release other"),
            OtherStatement => Some("with another statement"),
            OtherNamespace => Some("in the SSH namespace \"refusal@rutli\""),
            Forged | OtherOrganisation | Revoked => Some("no custodian's"),
            Tampered => Some("does not verify under the key of"),
            _ => None,
        };
    }
    let is_build = matches!(slot, Slot::Provenance | Slot::Rebuild);
    let knows_one_builder = lane.folder() == "av-database";
    match variant {
        Forged | Tampered | Revoked => Some("no signature of it verifies"),
        _ if is_revoked => Some("no signature of it verifies"),
        WrongRole if is_build => Some("whom this node trusts as tester"),
        WrongRole => Some("whom this node trusts as builder"),
        Swapped => Some("it contradicts the release"),
        WrongName => Some("may not speak for"),
        OtherBuilder if knows_one_builder => Some("may not speak for"),
        _ => None,
    }
}

/// One document's text under another's signatures.
fn with_signatures_of(document: &[u8], other: &[u8]) -> Vec<u8> {
    let mut envelope: serde_json::Value = serde_json::from_slice(document).unwrap();
    let other: serde_json::Value = serde_json::from_slice(other).unwrap();
    assert!(STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap().starts_with(b"{"));
    envelope["signatures"] = other["signatures"].clone();
    serde_json::to_vec(&envelope).unwrap()
}

/// The same envelope in other bytes.
fn spaced(document: &[u8]) -> Vec<u8> {
    let envelope: serde_json::Value = serde_json::from_slice(document).unwrap();
    serde_json::to_vec_pretty(&envelope).unwrap()
}
