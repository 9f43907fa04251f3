//! Every step of a signature in one process and on one thread, without network and disk: what dominates.
//!
//! The very functions of the daemons run here, in the order of a session, over keys from a rehearsed ceremony. Times
//! are CPU of this thread, so other load on the machine hardly shows. What is left between the sum here and the figure
//! *cost* is transport, storage and scheduling.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use prost::Message as _;
use rand::rngs::OsRng;
use rutli_coordinator::{
    aggregate::{AggregateItem, AggregateJob, QuorumKeys, aggregate},
    commitment::Commitment,
};
use rutli_keys::{IdentityKey, KeyName, Quorum as Signers, Roster, rehearsal::Cast};
use rutli_log::{Entry, Frontier, Hash, LogSigner, Origin, Tiles, entry::RequestTerms};
use rutli_policy::Rules;
use rutli_release::{Class, ReleaseId, ReleaseKey, Requester, VerifiedRelease, VerifiedSignature, files_of};
use rutli_signer_node::{
    Locked,
    gate::{Gate, LogState},
    marks::Marks,
    policy::Policy,
    rates::RateCounter,
    refusals::Refusals,
    sign::{Signer, StreamId},
};
use rutli_wire::{
    convert::{release_from_content, release_to_content},
    link::{Batch, BatchId, BatchItem, BatchReply, CommitmentBytes, FromNode, LogHead, LoggedEntry},
    v1,
};
use serde::Serialize;

use crate::{
    args::Organisation,
    clock::thread_cpu,
    stats::float,
    work::{AV_PRODUCT, BURST, FILES, LONE, PRODUCTS, Shape},
};

/// CPU seconds spent on each table.
const SPEND: Duration = Duration::from_secs(2);

/// Unix seconds that the nodes take for now: when the releases were issued.
pub(crate) const NOW: u64 = 1_800_000_000;

/// Nonce pairs made in one go, as the nodes do.
const ANNOUNCED: usize = 64;

/// The one stream of each node.
const STREAM: StreamId = StreamId(1);

/// What is measured: a batch of so many releases of a shape.
const TABLES: [(&str, Shape, usize); 3] = [
    ("256 releases of 1 file, 1 signature each", LONE, 256),
    ("16 releases of 16 files, 17 signatures each", FILES, 16),
    ("1 release of 500 files, 500 signatures", Shape { files: 500, signatures: 500, ..BURST }, 1),
];

/// One table.
#[derive(Clone, Debug, Serialize)]
pub struct Micro {
    /// What was in each batch.
    pub batch: &'static str,
    /// In the order of a session.
    pub steps: Vec<Step>,
    /// CPU microseconds per signature, all steps together.
    pub total_us: f64,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Where and what.
    pub name: &'static str,
    /// CPU microseconds per signature, each time.
    pub us: f64,
    /// How many times for each signature.
    pub times: usize,
}

/// What *latency* needs of a lone signature.
#[derive(Clone, Copy, Debug)]
pub struct Arithmetic {
    /// A signer's share, with the parsing of the others' commitments.
    pub share_us: f64,
    /// Aggregation.
    pub aggregate_us: f64,
}

/// A quorum of nodes in memory, with the coordinator's half of the key.
#[derive(Debug)]
pub struct Quorum {
    nodes: Vec<Signer>,
    indices: Vec<u16>,
    roster: Roster,
    keys: Arc<QuorumKeys>,
    key: ReleaseKey,
    sequence: u64,
    log: LogSigner,
    tiles: Tiles,
}

impl Quorum {
    /// Rehearses a ceremony, and takes the first nodes of every organisation.
    ///
    /// # Errors
    /// For organisations that make no key.
    pub fn rehearse(organisations: &[Organisation]) -> Result<Self> {
        let cast: Vec<_> = organisations
            .iter()
            .map(|organisation| (organisation.name.as_str(), organisation.threshold, organisation.nodes))
            .collect();
        let mut rehearsed = Cast::new(&cast, &["release"], [7; 32])?.run()?;
        let signed = rehearsed.rosters.pop().context("a rehearsal without keys")?;
        let roster = signed.roster().clone();
        let indices = first_quorum(&roster)?;
        let log = LogSigner::from_bytes(Origin::new("log.bench/1")?, &[7; 32]);
        let mut nodes = Vec::new();
        for index in &indices {
            let id = roster.node(*index).context("an index outside of the roster")?.id.clone();
            let share =
                rehearsed.shares.remove(&(id.clone(), KeyName::new("release")?)).context("no share")?;
            let identity = Arc::new(IdentityKey::from_bytes(&[3; 32]));
            let gate = Gate::new(log.public(), id.clone(), identity, &BTreeMap::new(), LogState::default())?;
            let mut node = Signer::new(id, policy()?, Marks::default(), gate, None);
            node.install_key(signed.clone(), Locked::new(share)?)?;
            node.stream_opened(STREAM);
            nodes.push(node);
        }
        let signers = Signers::new(&roster, &indices)?;
        let keys = QuorumKeys::new(&roster, &signers).context("no quorum")?;
        let key = ReleaseKey::from_bytes(roster.group_key())?;
        Ok(Self {
            nodes,
            indices,
            roster,
            keys: Arc::new(keys),
            key,
            sequence: 0,
            log,
            tiles: Tiles::default(),
        })
    }

    /// How many sign.
    #[must_use]
    pub fn signers(&self) -> usize {
        self.nodes.len()
    }
}

/// All tables.
///
/// # Errors
/// A step fails, which none does.
pub fn measure(quorum: &mut Quorum) -> Result<Vec<Micro>> {
    TABLES.into_iter().map(|(batch, shape, releases)| table(quorum, batch, shape, releases)).collect()
}

/// The arithmetic of lone releases.
///
/// # Errors
/// As [`measure`].
pub fn arithmetic(quorum: &mut Quorum) -> Result<Arithmetic> {
    let mut meter = Meter::default();
    for _ in 0..100 {
        round(quorum, LONE, 1, &mut meter)?;
    }
    Ok(Arithmetic { share_us: meter.us(SHARES), aggregate_us: meter.us(AGGREGATE) })
}

/// CPU microseconds that one node spends for one signature of releases of a shape.
///
/// # Errors
/// As [`measure`].
pub fn node_us(quorum: &mut Quorum, shape: Shape) -> Result<f64> {
    let mut meter = Meter::default();
    let start = thread_cpu();
    while thread_cpu().saturating_sub(start) < SPEND {
        round(quorum, shape, 1, &mut meter)?;
    }
    Ok([ANNOUNCE, DECODE, RECEIVE, SHARES].iter().map(|step| meter.us(step)).sum())
}

const ADMIT: &str = "coordinator: decode and verify a release, request digest";
const LOG: &str = "coordinator: log the request, prove that it is there";
const ANNOUNCE: &str = "node: make and announce a commitment";
const PARSE: &str = "coordinator: parse a commitment";
const ENCODE: &str = "coordinator: encode a batch";
const DECODE: &str = "node: decode a batch";
const RECEIVE: &str = "node: check the log, decide, draw nonces";
const SHARES: &str = "node: parse foreign commitments, make a share";
const AGGREGATE: &str = "coordinator: aggregate and verify";
const FILES_OUT: &str = "coordinator: write signed files";
const STATEMENT: &str = "of these: statement";
const DIGEST: &str = "of these: digest";
const SIGNABLES: &str = "of these: signables";

/// Steps with the number of times that each happens for a signature: by each signer, or once.
const STEPS: [(&str, bool); 10] = [
    (ADMIT, false),
    (LOG, false),
    (ANNOUNCE, true),
    (PARSE, true),
    (ENCODE, true),
    (DECODE, true),
    (RECEIVE, true),
    (SHARES, true),
    (AGGREGATE, false),
    (FILES_OUT, false),
];

/// CPU by step.
#[derive(Debug, Default)]
struct Meter(Vec<(&'static str, Duration, usize)>);

impl Meter {
    /// Runs a step for so many signatures.
    fn run<T>(&mut self, step: &'static str, signatures: usize, work: impl FnOnce() -> T) -> T {
        let before = thread_cpu();
        let result = work();
        let spent = thread_cpu().saturating_sub(before);
        match self.0.iter_mut().find(|(name, _, _)| *name == step) {
            Some((_, time, count)) => {
                *time += spent;
                *count += signatures;
            }
            None => self.0.push((step, spent, signatures)),
        }
        result
    }

    fn us(&self, step: &str) -> f64 {
        self.0
            .iter()
            .find(|(name, _, _)| *name == step)
            .map_or(0.0, |(_, time, count)| time.as_secs_f64() * 1e6 / float((*count).max(1)))
    }
}

fn table(quorum: &mut Quorum, batch: &'static str, shape: Shape, releases: usize) -> Result<Micro> {
    let mut meter = Meter::default();
    let start = thread_cpu();
    while thread_cpu().saturating_sub(start) < SPEND {
        round(quorum, shape, releases, &mut meter)?;
    }
    let signers = quorum.signers();
    let mut steps: Vec<Step> = STEPS
        .into_iter()
        .map(|(name, each)| Step { name, us: meter.us(name), times: if each { signers } else { 1 } })
        .collect();
    let total_us = steps.iter().map(|step| step.us * float(step.times)).sum();
    steps.extend([STATEMENT, DIGEST, SIGNABLES].map(|name| Step { name, us: meter.us(name), times: 0 }));
    Ok(Micro { batch, steps, total_us })
}

/// One session, from the requests to the files.
fn round(quorum: &mut Quorum, shape: Shape, releases: usize, meter: &mut Meter) -> Result<()> {
    let signatures = releases * shape.signatures;
    let releases = admit(quorum, shape, releases, meter)?;
    let stock = announce(quorum, signatures, meter)?;
    let (mut batch, points) = make_batch(quorum, &releases, &stock)?;
    meter.run(LOG, signatures, || log_batch(quorum, &mut batch))?;
    let mut replies = Vec::new();
    for node in &mut quorum.nodes {
        let sent = meter.run(ENCODE, signatures, || v1::Batch::from(&batch).encode_to_vec());
        let received = meter.run(DECODE, signatures, || {
            v1::Batch::decode(sent.as_slice())
                .map_err(anyhow::Error::from)
                .and_then(|batch| Batch::try_from(batch).map_err(anyhow::Error::from))
        })?;
        let pending = meter.run(RECEIVE, signatures, || node.receive(STREAM, received, NOW));
        replies.push(meter.run(SHARES, signatures, || node.release_shares(pending, Ok(()))));
    }
    let made = sum(quorum, &batch, points, replies, signatures, meter)?;
    for (item, signatures) in batch.items.iter().zip(made) {
        let count = signatures.len();
        meter
            .run(FILES_OUT, count, || files_of(&item.release, &item.release_id, &quorum.key, &signatures))?;
        meter.run(STATEMENT, count, || std::hint::black_box(item.release.statement()));
        meter.run(DIGEST, count, || std::hint::black_box(item.release.digest()));
        meter.run(SIGNABLES, count, || std::hint::black_box(item.release.signables()));
    }
    Ok(())
}

/// Requests as they come from the wire.
fn admit(
    quorum: &mut Quorum,
    shape: Shape,
    releases: usize,
    meter: &mut Meter,
) -> Result<Vec<Arc<VerifiedRelease>>> {
    (0..releases)
        .map(|_| {
            quorum.sequence += 1;
            let bytes = release_to_content(&shape.release(quorum.sequence)?).encode_to_vec();
            let release = meter.run(ADMIT, shape.signatures, || -> Result<VerifiedRelease> {
                let release = release_from_content(v1::ReleaseContent::decode(bytes.as_slice())?)?;
                std::hint::black_box(release.request_digest());
                Ok(release)
            })?;
            Ok(Arc::new(release))
        })
        .collect()
}

/// Has all requests of a batch in the log, under one head that extends what the nodes keep.
fn log_batch(quorum: &mut Quorum, batch: &mut Batch) -> Result<()> {
    let from = quorum.tiles.size();
    for item in &mut batch.items {
        let terms = RequestTerms {
            release_id: item.release_id.clone(),
            requester: item.requester.clone(),
            roster: Hash(*batch.roster.as_bytes()),
            deadline: NOW + 3_600,
            evidence: Vec::new(),
            embargo: None,
        };
        let leaf = Entry::request(&item.release, &terms).leaf_hash();
        let index = quorum.tiles.size();
        item.entry = Some(LoggedEntry {
            index,
            leaf,
            proof: Vec::new(),
            deadline: terms.deadline,
            embargo: None,
            evidence: Vec::new(),
            added: Vec::new(),
        });
        quorum.tiles.push(leaf);
    }
    let size = quorum.tiles.size();
    for entry in batch.items.iter_mut().filter_map(|item| item.entry.as_mut()) {
        entry.proof = quorum.tiles.prove_inclusion(entry.index, size)?;
    }
    let checkpoint = quorum.log.sign(Frontier::of(&quorum.tiles, size)?.head()).to_note();
    let consistency = quorum.tiles.prove_consistency(from, size)?;
    batch.head = Some(LogHead { checkpoint, from, consistency });
    Ok(())
}

/// Fresh commitments of every node, parsed by the coordinator.
fn announce(quorum: &mut Quorum, wanted: usize, meter: &mut Meter) -> Result<Vec<Vec<Commitment>>> {
    let mut stock = Vec::new();
    for node in &mut quorum.nodes {
        let mut of_node: Vec<Commitment> = Vec::new();
        while of_node.len() < wanted {
            let most = ANNOUNCED.min(wanted - of_node.len());
            let announced = meter.run(ANNOUNCE, most, || node.announce(STREAM, most, &mut OsRng))?;
            let commitments = announced.into_iter().flat_map(|message| match message {
                FromNode::Commitments(_, commitments) => commitments,
                _ => Vec::new(),
            });
            let commitments: Vec<CommitmentBytes> = commitments.collect();
            ensure!(commitments.len() == most, "a node's pool is smaller than a batch");
            let parsed: Option<Vec<_>> =
                meter.run(PARSE, most, || commitments.into_iter().map(Commitment::parse).collect());
            of_node.extend(parsed.context("a node announced what is no commitment")?);
        }
        stock.push(of_node);
    }
    Ok(stock)
}

type Points = Vec<Vec<Commitment>>;

fn make_batch(
    quorum: &Quorum,
    releases: &[Arc<VerifiedRelease>],
    stock: &[Vec<Commitment>],
) -> Result<(Batch, Points)> {
    let mut drawn = 0;
    let mut items = Vec::new();
    let mut points = Vec::new();
    for release in releases {
        let count = release.signable_count();
        let commitments: Vec<&Commitment> = (drawn..drawn + count)
            .flat_map(|slot| stock.iter().filter_map(move |of_node| of_node.get(slot)))
            .collect();
        drawn += count;
        points.push(commitments.iter().map(|commitment| **commitment).collect());
        items.push(BatchItem {
            release_id: ReleaseId::new(format!("r-{}", release.sequence().get()))?,
            requester: Requester::new("pipeline")?,
            release: Arc::clone(release),
            slots: (0..u32::try_from(count)?).collect(),
            commitments: commitments.iter().map(|commitment| commitment.bytes).collect(),
            entry: None,
            evidence: Vec::new(),
        });
    }
    let batch = Batch {
        id: BatchId(1),
        key: quorum.roster.key().clone(),
        roster: quorum.roster.hash(),
        signers: quorum.indices.clone(),
        items,
        head: None,
    };
    Ok((batch, points))
}

/// From the nodes' shares to signatures, release by release.
fn sum(
    quorum: &Quorum,
    batch: &Batch,
    points: Points,
    replies: Vec<BatchReply>,
    signatures: usize,
    meter: &mut Meter,
) -> Result<Vec<Vec<VerifiedSignature>>> {
    let mut shares: Vec<_> = Vec::new();
    for reply in replies {
        let items = reply.answer.map_err(|refusal| anyhow!("refused: {}", refusal.reason))?;
        let items: Result<Vec<_>, _> = items.into_iter().collect();
        shares.push(items.map_err(|refusal| anyhow!("refused: {}", refusal.reason))?.into_iter());
    }
    let mut items = Vec::new();
    for (item, commitments) in batch.items.iter().zip(points) {
        let shares: Option<Vec<_>> = shares.iter_mut().map(Iterator::next).collect();
        items.push(AggregateItem {
            release: Arc::clone(&item.release),
            slots: item.slots.clone(),
            commitments,
            shares: shares.context("a reply is too short")?,
        });
    }
    let job = AggregateJob { batch: batch.id, quorum: Arc::clone(&quorum.keys), items };
    let result = meter.run(AGGREGATE, signatures, || aggregate(&job));
    result
        .items
        .into_iter()
        .map(|slots| {
            slots
                .into_iter()
                .map(|slot| slot.map_err(|blame| anyhow!("not signed: {}", blame.reason)))
                .collect()
        })
        .collect()
}

/// Indices of the first nodes of every organisation, as many as must sign.
fn first_quorum(roster: &Roster) -> Result<Vec<u16>> {
    let mut indices = Vec::new();
    for organisation in roster.organisations() {
        for node in organisation.nodes.iter().take(usize::from(organisation.threshold)) {
            indices.push(roster.index_of(&node.id).context("a node outside of its roster")?);
        }
    }
    indices.sort_unstable();
    Ok(indices)
}

/// What is measured is permitted, by one policy of each class.
fn policy() -> Result<Policy> {
    let permit = |class: Class, product: &str| {
        format!(
            "@id(\"{product}\") permit (principal, action == Action::\"sign\", resource) \
             when {{ resource.class == Class::\"{class}\" && resource.product == \"{product}\" }};\n"
        )
    };
    let cedar = permit(Class::ProductBuild, PRODUCTS[0]) + &permit(Class::AvDatabase, AV_PRODUCT);
    let rules = Rules::parse(&[("policy.cedar".to_owned(), cedar.into_bytes())].into())?;
    Ok(Policy::new(rules, 0, RateCounter::default(), Refusals::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_signs_whatever_the_organisations() {
        let organisation =
            |name: &str, threshold, nodes| Organisation { name: name.into(), threshold, nodes };
        let organisations = [organisation("vendor", 2, 3), organisation("supervisor", 1, 1)];
        let mut quorum = Quorum::rehearse(&organisations).unwrap();
        let mut meter = Meter::default();
        for (_, shape, releases) in TABLES {
            round(&mut quorum, shape, releases.min(2), &mut meter).unwrap();
        }
        assert_eq!(quorum.signers(), 3);
        assert!(STEPS.iter().all(|(name, _)| meter.us(name) > 0.0));
    }
}
