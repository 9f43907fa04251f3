//! The example policies as they are shipped, in the node's real heart, under combinations of documents, sequence, rate,
//! time and embargo; the answer of each is held against an oracle that knows neither Cedar nor documents.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cases;
mod circumstances;
mod oracle;

use std::{collections::BTreeMap, sync::Arc};

use rutli_log::{
    Hash,
    entry::{Embargo, RequestTerms},
};
use rutli_policy::Rules;
use rutli_release::{Format, ReleaseId, Requester, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease};
use rutli_signer_node::{
    Locked,
    gate::LogState,
    policy::Policy,
    refusals::Refusals,
    sign::{JournalRecord, Signer, Verdict},
};
use rutli_tests::{
    examples::{self, holders},
    hearts::{self, Deployment, Nodes, STREAM, key, rehearse},
};
use rutli_wire::link::{Batch, BatchId, BatchItem, CommitmentBytes, ItemReply};

use self::{
    cases::{Lane, Papers},
    circumstances::{Circumstances, SEQUENCE, When},
    oracle::{Expected, expected},
};

/// supervisor-1, supervisor-2, vendor-1 and vendor-2 in roster order.
const QUORUM: [u16; 4] = [0, 1, 3, 4];

/// Of whom nobody knows the key that took a revoked one's place.
const SUCCESSOR: u8 = 140;

#[test]
fn stable_builds_at_the_vendors_node() {
    hold(Lane::VendorStable, 28);
}

#[test]
fn beta_builds_at_the_vendors_node() {
    hold(Lane::VendorBeta, 21);
}

#[test]
fn a_channel_of_which_no_policy_speaks_at_the_vendors_node() {
    hold(Lane::VendorNightly, 0);
}

#[test]
fn databases_at_the_vendors_node() {
    hold(Lane::VendorDatabase, 21);
}

#[test]
fn product_builds_at_the_supervisors_node() {
    hold(Lane::SupervisorProduct, 43);
}

#[test]
fn databases_at_the_supervisors_node() {
    hold(Lane::SupervisorDatabase, 40);
}

#[test]
fn databases_in_the_lane_for_them() {
    hold(Lane::Databases, 385);
}

#[test]
fn large_databases_in_the_lane_for_databases() {
    hold(Lane::DatabasesLarge, 0);
}

#[test]
fn product_builds_in_the_lane_for_databases() {
    hold(Lane::DatabasesProduct, 0);
}

/// Every combination of a lane; so many of them are permitted, and no other.
fn hold(lane: Lane, permitted: usize) {
    let mut desk = Desk::new(lane);
    let (mut asked, mut signed, mut wrong) = (0, 0, Vec::new());
    for (turn, circumstances) in Circumstances::all(lane).into_iter().enumerate() {
        for papers in papers(lane, &circumstances, turn) {
            let wanted = expected(lane, &papers, &circumstances);
            let (reply, record) = desk.ask(&circumstances, &papers);
            asked += 1;
            signed += usize::from(reply.is_ok());
            let notes = desk.notes.as_slice();
            if let Err(problem) = compare(&wanted, &reply, record.as_ref(), notes) {
                wrong
                    .push(format!("{problem}\n  {circumstances:?}\n  {papers:?}\n  {wanted:?}\n  {reply:?}"));
            }
        }
    }
    println!("{lane:?}: {asked} combinations, {signed} permitted");
    wrong.truncate(5);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert_eq!(signed, permitted, "of {asked}");
}

/// All documents where nothing else is in the way. Elsewhere the right ones, and of all others each eleventh in turn, so that they
/// meet all circumstances together: what can never be permitted costs a long search each time.
fn papers(lane: Lane, circumstances: &Circumstances, turn: usize) -> Vec<Papers> {
    let mut all = Papers::all(lane);
    if !circumstances.are_plain() {
        let others = all.split_off(1);
        all.extend(others.into_iter().skip(turn % 11).step_by(11));
    }
    // Nodes that trust the same can go on.
    all.sort_by_key(|papers| papers.revoked(lane));
    all
}

fn compare(
    wanted: &Expected,
    reply: &ItemReply,
    record: Option<&JournalRecord>,
    notes: &[&'static str],
) -> Result<(), String> {
    let policies = record.and_then(|record| record.basis.as_ref()).map(|basis| basis.policies.clone());
    let is_as_wanted = |found: Option<Vec<String>>| match found {
        Some(found) if found != wanted.policies => Err(format!("decided by {found:?}")),
        _ => Ok(()),
    };
    let Err(refusal) = reply else {
        is_as_wanted(policies)?;
        let is_permitted = record.is_none_or(|record| record.verdict == Verdict::Permitted);
        return if wanted.code.is_none() && is_permitted { Ok(()) } else { Err("PERMITTED".into()) };
    };
    if wanted.code != Some(refusal.code) {
        return Err(format!("answered {}", refusal.code));
    }
    if record.is_none() != refusal.code.waits() {
        return Err("what waits is in the journal, or what is refused is not".into());
    }
    is_as_wanted(policies)?;
    let (said, not_counted) = refusal.reason.split_once("; not counted: ").unwrap_or((&refusal.reason, ""));
    if let Some(word) = wanted.words.iter().find(|word| !said.contains(*word)) {
        return Err(format!("does not say {word:?}"));
    }
    if let Some(word) = wanted.not.iter().find(|word| said.contains(**word)) {
        return Err(format!("says {word:?}"));
    }
    let notes = if wanted.notes { notes } else { &[] };
    let found = not_counted.split("; not counted: ").filter(|note| !note.is_empty()).count();
    if found != notes.len() || notes.iter().any(|note| !not_counted.contains(note)) {
        return Err(format!("not counted: wanted {notes:?}"));
    }
    Ok(())
}

/// A node, and the test as its coordinator.
struct Desk {
    lane: Lane,
    deployment: Deployment,
    nodes: Nodes,
    /// What the others announced, again and again: they do not sign here.
    others: Vec<CommitmentBytes>,
    /// With what the node's state depends on.
    standing: Option<(Circumstances, Vec<&'static str>)>,
    documents: BTreeMap<(u64, bool), BTreeMap<String, Vec<u8>>>,
    notes: Vec<&'static str>,
}

impl Desk {
    fn new(lane: Lane) -> Self {
        let deployment = rehearse([1; 32], &["release"]);
        let mut nodes = Nodes::with(&deployment);
        let others = QUORUM.iter().map(|index| nodes.draw(*index)).collect();
        let (standing, documents, notes) = (None, BTreeMap::new(), Vec::new());
        Self { lane, deployment, nodes, others, standing, documents, notes }
    }

    /// The node's index in the roster.
    fn me(&self) -> usize {
        match self.lane.folder() {
            "supervisor-node" => 0,
            "vendor-node" => 3,
            _ => 4,
        }
    }

    /// The node's answer, and the line of its journal.
    fn ask(&mut self, circumstances: &Circumstances, papers: &Papers) -> (ItemReply, Option<JournalRecord>) {
        let Circumstances { when, embargoed, .. } = *circumstances;
        let now = when.unix();
        let revoked = papers.revoked(self.lane);
        // The embargo is the request's, and all else the node's.
        let wanted = (Circumstances { embargoed: false, ..*circumstances }, revoked);
        if self.standing.as_ref() != Some(&wanted) {
            self.start(circumstances, &wanted.1);
            self.standing = Some(wanted);
        }
        let mut batch = self.batch(when, embargoed);
        let other = self.item("other", release(self.lane, when, 9));
        let known = self.documents.entry((now, embargoed)).or_default();
        let documents = papers.documents(self.lane, (&batch.items[0], &other), known);
        self.notes = documents.iter().filter_map(|(_, note)| *note).collect();
        self.notes.truncate(rutli_signer_node::limits::MAX_NOTES);
        let evidence: Vec<Vec<u8>> = documents.into_iter().map(|(document, _)| document).collect();
        self.nodes.bring(&mut batch.items[0], &evidence);

        let me = u16::try_from(self.me()).unwrap();
        let batch = self.nodes.complete(me, &batch);
        let signer = &mut self.nodes.signers[usize::from(me)];
        let pending = signer.receive(STREAM, batch, now);
        let record = pending.records().first().cloned();
        let mut reply = signer.release_shares(pending, Ok(())).answer.unwrap();
        let changes =
            |record: &JournalRecord| record.verdict == Verdict::Permitted || !record.refused_by.is_empty();
        if record.as_ref().is_some_and(changes) {
            // It knows more now than it should for the next one.
            self.standing = None;
        }
        (reply.pop().unwrap(), record)
    }

    /// The node comes up with what its journal has.
    fn start(&mut self, circumstances: &Circumstances, revoked: &[&'static str]) {
        let Circumstances { sequence, rate, when, .. } = *circumstances;
        let now = when.unix();
        let release = release(self.lane, when, 1);
        let mut keys = holders();
        keys.extend(revoked.iter().map(|holder| (*holder, SUCCESSOR)));
        let rules = Rules::parse(&examples::rules(self.lane.folder(), &keys)).unwrap();
        let rates = rate.counter(self.lane, &release, sequence, now);
        let policy = Policy::new(rules, now, rates, Refusals::default());
        let me = self.me();
        let id = self.nodes.roster.node(u16::try_from(me).unwrap()).unwrap().id.clone();
        let gate = hearts::gate(&self.deployment, &self.nodes.log, &id, LogState::default());
        let mut signer = Signer::new(id.clone(), policy, sequence.marks(&release, now), gate, None);
        let share = &self.deployment.keys.shares[&(id, key())];
        signer
            .install_key(self.deployment.keys.rosters[0].clone(), Locked::new(share.duplicate()).unwrap())
            .unwrap();
        signer.stream_opened(STREAM);
        self.nodes.signers[me] = signer;
        self.nodes.announced[me].clear();
    }

    /// As an honest coordinator makes it.
    fn batch(&mut self, when: When, embargoed: bool) -> Batch {
        let now = when.unix();
        let me = self.me();
        if self.nodes.announced[me].is_empty() {
            let (signer, rng) = (&mut self.nodes.signers[me], &mut self.nodes.rng);
            self.nodes.announced[me] = hearts::open(signer, STREAM, rng);
        }
        let place = QUORUM.iter().position(|index| usize::from(*index) == me).unwrap();
        let mut commitments = self.others.clone();
        commitments[place] = self.nodes.announced[me].pop().unwrap();
        let mut item = self.item("candidate", release(self.lane, when, 1));
        let embargo = Embargo { salt: Hash([70; 32]), disclose_by: now + 3_000 };
        let terms = RequestTerms {
            release_id: item.release_id.clone(),
            requester: item.requester.clone(),
            deadline: now + 3_600,
            embargo: embargoed.then_some(embargo),
            ..self.nodes.terms(&item.release)
        };
        item.entry = Some(self.nodes.log.log_release(&item.release, &terms));
        item.commitments = commitments;
        Batch {
            id: BatchId(1),
            key: key(),
            roster: self.nodes.roster.hash(),
            signers: QUORUM.to_vec(),
            items: vec![item],
            head: None,
        }
    }

    fn item(&self, id: &str, release: VerifiedRelease) -> BatchItem {
        BatchItem {
            release_id: ReleaseId::new(id).unwrap(),
            requester: Requester::new("pipeline").unwrap(),
            release: Arc::new(release),
            slots: vec![0],
            commitments: Vec::new(),
            entry: None,
            evidence: Vec::new(),
        }
    }
}

/// What is asked for; its files follow from the byte.
fn release(lane: Lane, when: When, byte: u8) -> VerifiedRelease {
    let more = if lane == Lane::DatabasesLarge { 500 } else { 0 };
    let names = (0..more).map(|number| format!("part-{number}"));
    UnverifiedRelease {
        class: lane.class(),
        product: if lane.class() == rutli_release::Class::AvDatabase { "avdb" } else { "suite" }.into(),
        channel: lane.channel().into(),
        version: "1.42".into(),
        sequence: SEQUENCE,
        issued_at: when.unix() - 100,
        expires_at: None,
        artifacts: std::iter::once("suite.bin".to_owned())
            .chain(names)
            .map(|name| UnverifiedArtifact { name, sha256: vec![byte; 32] })
            .collect(),
        formats: vec![Format::Statement],
    }
    .verify()
    .unwrap()
}
