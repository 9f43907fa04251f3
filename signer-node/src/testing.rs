//! What unit tests of this crate share.

use std::sync::Arc;

use rand::{RngCore as _, rngs::OsRng};
use rutli_keys::{
    IdentityKey, KeyName, NodeId, Purpose, SignedRoster, SigningShare,
    ceremony::{CeremonyMachine, KeySpec, NodeSpec, OrganisationSpec, Output, Proposal, ProposalSpec},
};
use rutli_release::{Class, Format, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease};

/// A product build in channel `stable` with so many files, issued at second 1,000.
pub fn release(product: &str, sequence: u64, files: u8) -> VerifiedRelease {
    UnverifiedRelease {
        class: Class::ProductBuild,
        product: product.into(),
        channel: "stable".into(),
        version: format!("1.0.{sequence}"),
        sequence,
        issued_at: 1_000,
        expires_at: None,
        artifacts: (0..files)
            .map(|file| UnverifiedArtifact {
                name: format!("file-{file}.bin"),
                size: 1,
                sha256: vec![file; 32],
                sha512: vec![file; 64],
                blake2b: vec![file; 64],
            })
            .collect(),
        formats: vec![Format::Dsse, Format::Sshsig, Format::Statement],
    }
    .verify()
    .unwrap()
}

/// A key of an organisation with a lone node, made by its own ceremony, fresh each time.
pub fn lone_key(name: &str) -> (SignedRoster, SigningShare, NodeId) {
    let me = NodeId::new("vendor", "vendor-1").unwrap();
    let identity = Arc::new(IdentityKey::generate(&mut OsRng));
    let spec = ProposalSpec {
        deadline: 2_000,
        keys: vec![KeySpec { name: KeyName::new(name).unwrap(), purpose: Purpose::Release }],
        name: KeyName::new("genesis").unwrap(),
        organisations: vec![OrganisationSpec {
            name: me.organisation.clone(),
            nodes: vec![NodeSpec { identity: identity.public(), name: me.node.clone() }],
            threshold: 1,
        }],
        proposed_at: 1_000,
    };
    let mut seed = [0; 32];
    OsRng.fill_bytes(&mut seed);
    let proposal = Proposal::new(spec).unwrap();
    let mut machine = CeremonyMachine::new(proposal, me.clone(), identity, seed).unwrap();
    let outputs = machine.join().unwrap();
    let done = outputs.into_iter().find_map(|output| match output {
        Output::Done { keys } => keys.into_iter().next(),
        _ => None,
    });
    let (roster, share) = done.unwrap();
    (roster, share, me)
}
