//! The nodes' side of a story: their hearts while they run, their journals, their streams.

use curve25519_dalek::{constants::EIGHT_TORSION, edwards::CompressedEdwardsY};
use rutli_signer_node::Locked;
use rutli_wire::link::{CommitmentBytes, Refusal};

use super::*;

impl Node {
    pub(super) fn new() -> Self {
        Self {
            signer: None,
            life: 0,
            journal: Vec::new(),
            log: LogState::default(),
            log_revision: 0,
            paused: None,
            stream: None,
            writing: BTreeMap::new(),
            open: Vec::new(),
            deciding: false,
        }
    }

    /// What the disk has from now on. The story's disk may end two writes in another order than they began.
    fn write(&mut self, writing: &Writing) {
        let log = match writing {
            Writing::Batch(pending, _) => {
                self.journal.extend(pending.records().iter().cloned());
                pending.log()
            }
            Writing::Head(pending) => pending.log(),
        };
        if let Some(log) = log.filter(|log| log.revision > self.log_revision) {
            self.log = log.state.clone();
            self.log_revision = log.revision;
        }
    }

    /// The custodian's word about the log, if the node runs; the disk has it at once.
    fn vouch(&mut self, now: u64) -> Option<Unsaved> {
        let log = self.signer.as_ref()?.gate().vouched(None, now).unwrap();
        self.log = log.state.clone();
        self.log_revision = log.revision;
        Some(log)
    }

    pub(super) fn marks(&self) -> Marks {
        let permitted = self.journal.iter().filter(|record| record.verdict == Verdict::Permitted);
        let rows = permitted.map(|record| Mark {
            channel: record.channel_key(),
            sequence: record.sequence,
            digest: record.release_digest,
            version: record.version.clone(),
            at: record.at,
        });
        Marks::from_rows(rows, Versions::default())
    }
}

impl World<'_> {
    pub(super) fn node(&mut self, id: &NodeId) -> &mut Node {
        self.nodes.get_mut(id).unwrap()
    }

    pub(super) fn with_signer(
        &mut self,
        id: &NodeId,
        life: u64,
        act: impl FnOnce(&mut Signer),
    ) -> Result<(), String> {
        let node = self.node(id);
        match &mut node.signer {
            Some(signer) if node.life == life => act(signer),
            _ => return Ok(()),
        }
        self.send_status(id)
    }

    pub(super) fn start_node(&mut self, id: &NodeId) {
        let share = self.fixture.shares[id].duplicate();
        let roster = self.fixture.roster.clone();
        let identity = Arc::clone(&self.fixture.identities[id]);
        let peers = self.fixture.peers();
        let log = self.coordinator.log.key();
        let node = self.node(id);
        if node.signer.is_some() {
            return;
        }
        node.life += 1;
        node.log_revision = 0;
        let gate = Gate::new(log, id.clone(), identity, &peers, node.log.clone()).unwrap();
        let policy = hearts::policy(requests::POLICY);
        let mut signer = Signer::new(id.clone(), policy, node.marks(), gate, node.paused.clone());
        signer.install_key(roster, Locked::new(share).unwrap()).unwrap();
        node.signer = Some(signer);
        self.tell(format!("{id} starts"));
        self.at(10, Step::Dial(id.clone()));
    }

    pub(super) fn crash_node(&mut self, id: &NodeId) -> Result<(), String> {
        let node = self.node(id);
        if node.signer.take().is_none() {
            return Ok(());
        }
        node.life += 1;
        node.writing.clear();
        node.open.clear();
        node.deciding = false;
        let stream = node.stream.take();
        self.report.crashes += 1;
        self.tell(format!("{id} crashes"));
        match stream {
            Some(stream) => self.engine_event(Event::Detached(id.clone(), StreamId(stream))),
            None => Ok(()),
        }
    }

    pub(super) fn pause(&mut self, id: &NodeId, paused: Option<String>) -> Result<(), String> {
        self.tell(format!("{id} is {}", if paused.is_some() { "paused" } else { "resumed" }));
        let now = EPOCH + self.now / 1_000;
        let node = self.node(id);
        node.paused.clone_from(&paused);
        let log = if paused.is_none() { node.vouch(now) } else { None };
        let life = node.life;
        self.with_signer(id, life, |signer| match (paused, log) {
            (Some(reason), _) => signer.pause(reason),
            (None, log) => signer.resume(log.unwrap()),
        })
    }

    pub(super) fn dial(&mut self, id: &NodeId) {
        let node = self.node(id);
        if node.signer.is_none() || node.stream.is_some() {
            return;
        }
        if self.coordinator.engine.is_none() {
            self.at(100, Step::Dial(id.clone()));
            return;
        }
        let stream = self.next_stream;
        self.next_stream += 1;
        let node = self.node(id);
        node.stream = Some(stream);
        if let Some(signer) = &mut node.signer {
            signer.stream_opened(NodeStream(stream));
        }
        self.at(2, Step::Hello(id.clone(), stream));
    }

    pub(super) fn hello(&mut self, id: &NodeId, stream: u64) -> Result<(), String> {
        let node = self.node(id);
        if node.stream != Some(stream) {
            return Ok(());
        }
        let Some(signer) = &node.signer else { return Ok(()) };
        let (status, log_size) = (signer.status(), signer.gate().size());
        self.tell(format!("{id} attaches with stream {stream}"));
        self.coordinator.believed.insert(stream, log_size);
        self.engine_event(Event::Attached {
            node: id.clone(),
            stream: StreamId(stream),
            version: "simulated".to_owned(),
            status,
        })?;
        for _ in 0..4 {
            self.announce(id);
        }
        Ok(())
    }

    /// A stream ends for both sides. 0 names the current one.
    pub(super) fn link_lost(&mut self, id: &NodeId, stream: u64) -> Result<(), String> {
        let current = self.node(id).stream;
        let Some(current) = current.filter(|current| stream == 0 || stream == *current) else {
            return Ok(());
        };
        self.tell(format!("stream {current} of {id} is lost"));
        self.node_stream_over(id);
        self.engine_event(Event::Detached(id.clone(), StreamId(current)))
    }

    pub(super) fn node_stream_over(&mut self, id: &NodeId) {
        let node = self.node(id);
        if let Some(stream) = node.stream.take() {
            if let Some(signer) = &mut node.signer {
                signer.stream_closed(NodeStream(stream));
            }
            self.at(100, Step::Dial(id.clone()));
        }
    }

    pub(super) fn announce(&mut self, id: &NodeId) {
        let mut rng = ChaCha20Rng::from_rng(&mut self.rng).unwrap();
        let node = self.node(id);
        let (Some(stream), Some(signer)) = (node.stream, &mut node.signer) else { return };
        let announced = signer.announce(NodeStream(stream), ANNOUNCED, &mut rng).unwrap();
        for mut message in announced {
            if self.liar.as_ref() == Some(id)
                && let FromNode::Commitments(_, commitments) = &mut message
                && let Some(commitment) = commitments.last_mut().filter(|_| rng.gen_bool(0.25))
            {
                *commitment = outside_group(*commitment);
            }
            self.send_up(id, stream, message);
        }
    }

    pub(super) fn send_status(&mut self, id: &NodeId) -> Result<(), String> {
        let node = self.node(id);
        if let (Some(stream), Some(signer)) = (node.stream, &node.signer) {
            let status = signer.status();
            // The last word on a node's state must arrive: on a real stream nothing is lost but with the stream.
            let bytes = v1::NodeMessage::from(FromNode::Status(status)).encode_to_vec();
            self.at(1, Step::ToCoordinator(id.clone(), stream, bytes));
        }
        Ok(())
    }

    pub(super) fn send_up(&mut self, id: &NodeId, stream: u64, message: FromNode) {
        let bytes = v1::NodeMessage::from(message).encode_to_vec();
        let fates = self.fates_of_message();
        self.report.mishaps += usize::from(fates.len() != 1);
        for delay in fates {
            self.at(delay, Step::ToCoordinator(id.clone(), stream, bytes.clone()));
        }
    }

    pub(super) fn arrive_at_node(&mut self, id: &NodeId, stream: u64, bytes: &[u8]) -> Result<(), String> {
        let message = v1::CoordinatorMessage::decode(bytes).map_err(|error| error.to_string())?;
        let message = ToNode::try_from(message).map_err(|error| error.to_string())?;
        let now = self.reading();
        let node = self.node(id);
        let Some(signer) = node.signer.as_mut().filter(|_| node.stream == Some(stream)) else {
            return Ok(());
        };
        match message {
            ToNode::Batch(batch) => {
                signer.open(NodeStream(stream), batch.clone(), now);
                node.open.push((stream, batch));
                let life = node.life;
                if !std::mem::replace(&mut node.deciding, true) {
                    self.at(0, Step::Decide(id.clone(), life));
                }
            }
            ToNode::Head(head) => {
                let pending = signer.receive_head(&head, now.unix_s());
                self.write(id, stream, Writing::Head(pending));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts something on the node's disk, which takes a while and may fail.
    fn write(&mut self, id: &NodeId, stream: u64, writing: Writing) {
        let fate = match self.rng.gen_range(0..100) {
            0 if self.stormy => Fate::Failed,
            1 if self.stormy => Fate::WrittenButFailed,
            _ => Fate::Written,
        };
        let (ticket, delay) = (self.next_step, self.rng.gen_range(1..10));
        let node = self.node(id);
        node.writing.insert(ticket, (stream, writing));
        let life = node.life;
        self.at(delay, Step::Journaled { node: id.clone(), life, ticket, fate });
    }

    /// Usually a decision takes no time; in a storm some take longer than a batch may.
    pub(super) fn decide(&mut self, id: &NodeId, life: u64) {
        let takes = match self.rng.gen_range(0..10) {
            0 if self.stormy => self.rng.gen_range(100..900),
            1..3 if self.stormy => self.rng.gen_range(1..100),
            _ => 0,
        };
        let now = self.reading();
        let node = self.node(id);
        let Some(signer) = node.signer.as_mut().filter(|_| node.life == life) else { return };
        signer.decide_next(now);
        self.at(takes, Step::Decided(id.clone(), life));
    }

    /// What is decided by now goes to the disk.
    pub(super) fn decided(&mut self, id: &NodeId, life: u64) {
        let now = self.reading();
        let node = self.node(id);
        let Some(signer) = node.signer.as_mut().filter(|_| node.life == life) else { return };
        let ready = signer.take_decided(now);
        node.deciding = signer.is_deciding();
        if node.deciding {
            self.at(0, Step::Decide(id.clone(), life));
        }
        for pending in ready {
            let open = &mut self.node(id).open;
            let of_it = |(stream, batch): &(u64, Batch)| {
                NodeStream(*stream) == pending.stream() && batch.id == pending.id()
            };
            // A message that came twice has two answers, in the order in which it came.
            if let Some(place) = open.iter().position(of_it) {
                let (stream, batch) = open.remove(place);
                self.write(id, stream, Writing::Batch(Box::new(pending), batch));
            }
        }
    }

    pub(super) fn journaled(
        &mut self,
        id: &NodeId,
        life: u64,
        ticket: u64,
        fate: Fate,
    ) -> Result<(), String> {
        let node = self.node(id);
        if node.life != life {
            return Ok(());
        }
        let Some((stream, writing)) = node.writing.remove(&ticket) else { return Ok(()) };
        if !matches!(fate, Fate::Failed) {
            node.write(&writing);
        }
        let result = match fate {
            Fate::Written => Ok(()),
            Fate::Failed | Fate::WrittenButFailed => Err(format!("the story says {fate:?}")),
        };
        let failed = result.is_err();
        let Some(before) = node.signer.as_ref().map(Signer::status) else { return Ok(()) };
        let answer = match writing {
            Writing::Batch(pending, batch) => self.answer_batch(id, *pending, &batch, result)?,
            Writing::Head(pending) => self.answer_head(id, pending, result)?,
        };
        if failed {
            self.tell(format!("the journal of {id}: {fate:?}"));
            self.at(700, Step::Reopen(id.clone(), life));
        }
        if self.node(id).signer.as_ref().is_some_and(|signer| signer.status() != before) || failed {
            self.send_status(id)?;
        }
        if self.node(id).stream == Some(stream) {
            self.send_up(id, stream, answer);
            self.announce(id);
        }
        Ok(())
    }

    fn answer_batch(
        &mut self,
        id: &NodeId,
        pending: Pending,
        batch: &Batch,
        result: Result<(), String>,
    ) -> Result<FromNode, String> {
        let node = self.nodes.get_mut(id).unwrap();
        let mut reply = node.signer.as_mut().unwrap().release_shares(pending, result);
        let undecided = |item: &&Result<_, Refusal>| {
            item.as_ref().is_err_and(|refusal| refusal.code == RefusalCode::Undecided)
        };
        self.report.undecided += reply.answer.iter().flatten().filter(undecided).count();
        self.checks.replied(id, batch, &reply, &node.journal)?;
        self.checks.logged(id, batch, &reply, &self.coordinator.log)?;
        self.checks.witnessed(id, reply.witnessed.as_ref(), &node.log, &self.coordinator.log)?;
        if self.liar.as_ref() == Some(id)
            && let Ok(items) = &mut reply.answer
            && let Some(Ok(shares)) = items.first_mut()
            && let Some(share) = shares.first_mut()
        {
            share[0] ^= 1;
        }
        Ok(FromNode::Reply(reply))
    }

    fn answer_head(
        &mut self,
        id: &NodeId,
        pending: PendingHead,
        result: Result<(), String>,
    ) -> Result<FromNode, String> {
        let node = self.nodes.get_mut(id).unwrap();
        let (witnessed, refusal) = node.signer.as_mut().unwrap().witness(pending, result);
        self.checks.witnessed(id, Some(&witnessed), &node.log, &self.coordinator.log)?;
        Ok(FromNode::Head(witnessed, refusal))
    }

    /// All faults end: everybody is there, and every link starts afresh.
    pub(super) fn end_storm(&mut self) -> Result<(), String> {
        self.tell("the storm ends");
        self.stormy = false;
        self.start_coordinator()?;
        for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.start_node(&id);
            self.pause(&id, None)?;
            self.link_lost(&id, 0)?;
            self.at(10, Step::Dial(id));
        }
        Ok(())
    }
}

/// The same commitment with a part of small order: on the curve, but not of the prime-order group.
fn outside_group(commitment: CommitmentBytes) -> CommitmentBytes {
    let mut bytes = commitment.0;
    let (hiding, _) = bytes.split_at_mut(32);
    let point = CompressedEdwardsY::from_slice(hiding).unwrap().decompress().unwrap();
    hiding.copy_from_slice((point + EIGHT_TORSION[1]).compress().as_bytes());
    CommitmentBytes(bytes)
}
