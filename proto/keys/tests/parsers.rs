//! Whatever comes in, parsers neither panic nor accept a second spelling of anything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod common;
#[path = "common/stage.rs"]
mod stage;

use std::sync::OnceLock;

use common::REFERENCE;
use proptest::prelude::*;
use rutli_keys::ceremony::{CeremonyMessage, CeremonyObserver, Proposal, SignedProposal, Step};
use rutli_keys::{NodeId, OrgName, Roster, SignedRoster, SigningShare};
use stage::{Stage, honest_message};

/// One encoding of each kind.
fn samples() -> &'static [Vec<u8>] {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut stage = Stage::new(REFERENCE, &["release"], 31);
        stage.play();
        let signed = stage.assert_done().remove(0);
        let id = stage.ids().remove(0);
        let proposal =
            SignedProposal::sign(stage.proposal.clone(), id.clone(), &stage.cast.identities[&id]).unwrap();
        let messages = stage.relay.messages().map(CeremonyMessage::encode);
        let records = [signed.encode(), signed.roster().encode().to_vec(), proposal.encode()];
        records.into_iter().chain([stage.proposal.encode().to_vec()]).chain(messages).collect()
    })
}

fn check(bytes: &[u8]) {
    if let Ok(parsed) = SignedRoster::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
    if let Ok(parsed) = Roster::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
    if let Ok(parsed) = SignedProposal::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
    if let Ok(parsed) = Proposal::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
    if let Ok(parsed) = CeremonyMessage::parse(bytes) {
        assert_eq!(parsed.encode(), bytes);
    }
}

#[test]
fn samples_are_read_by_their_own_parser_only() {
    for sample in samples() {
        let read = [
            SignedRoster::parse(sample).is_ok(),
            Roster::parse(sample).is_ok(),
            SignedProposal::parse(sample).is_ok(),
            Proposal::parse(sample).is_ok(),
            CeremonyMessage::parse(sample).is_ok(),
        ];
        assert_eq!(read.iter().filter(|read| **read).count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
        let _any = SigningShare::from_bytes(&bytes);
    }

    /// Parts of one record in the midst of another.
    #[test]
    fn spliced_records(
        a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(), length in 0_usize..80,
    ) {
        let mut bytes = a.get(samples()).clone();
        let other = b.get(samples());
        let (at, from) = (at.index(bytes.len()), from.index(other.len()));
        let end = (from + length).min(other.len());
        bytes.splice(at..at, other[from..end].iter().copied());
        check(&bytes);
    }

    /// A member that signs nonsense does no more than end the ceremony.
    #[test]
    fn signed_nonsense(body in proptest::collection::vec(any::<u8>(), 0..200), step in 0_usize..8) {
        let steps = [Step::Reject, Step::Abort];
        let step = Step::ALL.iter().chain(&steps).nth(step).copied().unwrap();
        let stage = Stage::new(REFERENCE, &["release"], 31);
        let sample = honest_message(REFERENCE, 31, "vendor/vendor-1", Step::Join);
        let message = stage.forge_raw(&CeremonyMessage { step, ..sample }, body);
        let mut observer = CeremonyObserver::new(stage.proposal.clone());
        observer.receive(&message).unwrap();
        prop_assert_eq!(observer.status().state.as_str(), "aborted");
    }

    #[test]
    fn names_come_back(text in "[a-z0-9][a-z0-9._-]{0,63}", other in "\\PC{0,70}") {
        prop_assert_eq!(OrgName::new(text.clone()).unwrap().to_string(), text.clone());
        let id = format!("{text}/{text}");
        prop_assert_eq!(id.parse::<NodeId>().unwrap().to_string(), id);
        if let Ok(name) = OrgName::new(other.clone()) {
            prop_assert_eq!(name.as_str(), other);
        }
    }
}
