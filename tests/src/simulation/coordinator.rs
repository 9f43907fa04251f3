//! The coordinator's side of a story: its engine while it runs, and what of it is durable.

use prost::Message as _;
use rutli_wire::convert::release_to_content;

use super::*;

impl Coordinator {
    fn number_of(&self, id: &ReleaseId) -> Option<(ChannelKey, Sequence)> {
        let submission = self.admitted.iter().find(|submission| submission.release_id == *id)?;
        Some((submission.release.channel_key(), submission.release.sequence()))
    }

    /// What was signed, durably, as its channel and number.
    fn signed(&self) -> impl Iterator<Item = (ChannelKey, Sequence)> {
        let signed = self.finished.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Signed { .. }));
        signed.filter_map(|(id, _)| self.number_of(id))
    }

    fn signed_in(&self, channel: &ChannelKey) -> Option<Sequence> {
        self.signed().filter(|(signed, _)| signed == channel).map(|(_, sequence)| sequence).max()
    }

    /// As the store does: of two under one number the second one is not signed.
    fn first_under_its_number(&self, id: &ReleaseId, outcome: Outcome) -> Outcome {
        let Some(number) = self.number_of(id) else { return outcome };
        let is_second =
            matches!(outcome, Outcome::Signed { .. }) && self.signed().any(|other| other == number);
        if is_second { Outcome::Overtaken(number.1) } else { outcome }
    }
}

impl World<'_> {
    pub(super) fn start_coordinator(&mut self) -> Result<(), String> {
        if self.coordinator.engine.is_some() {
            return Ok(());
        }
        self.coordinator.life += 1;
        self.tell("the coordinator starts");
        self.coordinator.engine = Some(Engine::new(self.coordinator.culprits.clone(), None));
        self.engine_event(Event::KeyAdded(Box::new(self.fixture.roster.clone())))?;
        for submission in self.coordinator.admitted.clone() {
            if !self.coordinator.finished.contains_key(&submission.release_id) {
                let channel = submission.release.channel_key();
                if let Some(signed) = self.coordinator.signed_in(&channel) {
                    self.engine_event(Event::Signed(channel, signed))?;
                }
                let submission = Submission { resumed: true, ..submission };
                self.engine_event(Event::Submit(submission))?;
            }
        }
        Ok(())
    }

    pub(super) fn crash_coordinator(&mut self) {
        if self.coordinator.engine.take().is_some() {
            self.report.crashes += 1;
            self.coordinator.life += 1;
            self.tell("the coordinator crashes");
            for id in self.nodes.keys().cloned().collect::<Vec<_>>() {
                self.node_stream_over(&id);
            }
        }
    }

    /// Admission: durable before it is acknowledged, and its entry in the log with it. A pipeline whose coordinator is down
    /// asks again.
    pub(super) fn submit(&mut self, request: Request) -> Result<(), String> {
        if self.coordinator.engine.is_none() {
            self.at(200, Step::Submit(request));
            return Ok(());
        }
        let Request { release_id, requester, release } = request;
        // Admission demands that a sequence is above what was signed: whoever had to ask again may come too late.
        if self.coordinator.signed_in(&release.channel_key()) >= Some(release.sequence()) {
            self.tell(format!("{release_id} is not admitted: its sequence is behind"));
            return Ok(());
        }
        self.tell(format!("{release_id} is admitted"));
        let terms = self.terms(&release_id, &requester);
        let entry = self.coordinator.log.log_release(&release, &terms);
        let content_bytes = release_to_content(&release).encoded_len();
        let submission = Submission {
            release_id,
            requester,
            release,
            content_bytes,
            entry,
            evidence: Vec::new(),
            resumed: false,
        };
        self.coordinator.admitted.push(submission.clone());
        self.engine_event(Event::Submit(submission))
    }

    pub(super) fn terms(&self, release_id: &ReleaseId, requester: &Requester) -> RequestTerms {
        RequestTerms {
            release_id: release_id.clone(),
            requester: requester.clone(),
            roster: Hash(*self.fixture.roster.roster().hash().as_bytes()),
            deadline: EPOCH + DEADLINE_S,
            evidence: Vec::new(),
            embargo: None,
        }
    }

    pub(super) fn cancel(&mut self, id: &ReleaseId) -> Result<(), String> {
        let Some(engine) = &mut self.coordinator.engine else { return Ok(()) };
        match engine.cancel(id) {
            Ok(actions) => {
                self.tell(format!("{id} is taken back"));
                self.carry_out(actions)
            }
            Err(_) => Ok(()),
        }
    }

    pub(super) fn durable(&mut self, id: ReleaseId, outcome: Outcome) -> Result<(), String> {
        let outcome = self.coordinator.first_under_its_number(&id, outcome);
        self.tell(format!("{id} is over: {}", checks::word(&outcome)));
        self.checks.finished(&self.coordinator.admitted, &id, &outcome)?;
        let signed = matches!(outcome, Outcome::Signed { .. });
        self.coordinator.finished.insert(id.clone(), outcome);
        if let Some((channel, sequence)) = self.coordinator.number_of(&id).filter(|_| signed) {
            self.engine_event(Event::Signed(channel, sequence))?;
        }
        self.engine_event(Event::Published(id))?;
        self.ask_for_cosignatures();
        Ok(())
    }

    /// Shows the newest head to every node that is there.
    fn ask_for_cosignatures(&mut self) {
        let size = self.coordinator.log.size();
        let streams: Vec<_> =
            self.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.stream?))).collect();
        for (id, stream) in streams {
            if let Some(from) = self.coordinator.believed.insert(stream, size) {
                let head = self.coordinator.log.head_for(from.min(size));
                self.send_down(id, stream, &ToNode::Head(head));
            }
        }
    }

    /// A node says where its head is. An answer on its way may be older than what was sent since; only a node that could
    /// not use what was sent is taken at its word.
    fn note_head(&mut self, stream: u64, witnessed: Option<&Witnessed>, refused: Option<RefusalCode>) {
        let (Some(witnessed), Some(believed)) = (witnessed, self.coordinator.believed.get_mut(&stream))
        else {
            return;
        };
        *believed = match refused {
            Some(RefusalCode::LogGap | RefusalCode::LogBehind | RefusalCode::Closed) => witnessed.size,
            _ => witnessed.size.max(*believed),
        };
    }

    /// What an honest coordinator adds to a batch when it sends it.
    fn add_log(&mut self, stream: u64, mut batch: Batch) -> Batch {
        let size = self.coordinator.log.size();
        let from = self.coordinator.believed.insert(stream, size).unwrap_or(0);
        self.coordinator.log.complete(&mut batch, from.min(size));
        batch
    }

    fn send_down(&mut self, node: NodeId, stream: u64, message: &ToNode) {
        let bytes = v1::CoordinatorMessage::from(message).encode_to_vec();
        for delay in self.fates_of_message() {
            self.at(delay, Step::ToNode(node.clone(), stream, bytes.clone()));
        }
    }

    pub(super) fn arrive_at_coordinator(
        &mut self,
        node: &NodeId,
        stream: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let message = v1::NodeMessage::decode(bytes).map_err(|error| error.to_string())?;
        let message = FromNode::try_from(message).map_err(|error| error.to_string())?;
        let event = match message {
            FromNode::Commitments(key, commitments) => {
                let parsed = commitments.into_iter().filter_map(Commitment::parse).collect();
                Event::Commitments(node.clone(), StreamId(stream), key, parsed)
            }
            FromNode::Reply(reply) => {
                let refused = reply.answer.as_ref().err().map(|refusal| refusal.code);
                self.note_head(stream, reply.witnessed.as_ref(), refused);
                Event::Reply(node.clone(), StreamId(stream), reply)
            }
            FromNode::Head(witnessed, refusal) => {
                self.note_head(stream, Some(&witnessed), refusal.map(|refusal| refusal.code));
                return Ok(());
            }
            FromNode::Status(status) => Event::Status(node.clone(), StreamId(stream), status),
            _ => return Ok(()),
        };
        self.engine_event(event)
    }

    pub(super) fn engine_event(&mut self, event: Event) -> Result<(), String> {
        let Some(engine) = &mut self.coordinator.engine else { return Ok(()) };
        let actions = engine.handle(Millis(self.now), event);
        self.carry_out(actions)?;
        if let Some(deadline) = self.coordinator.engine.as_ref().and_then(Engine::next_deadline) {
            let life = self.coordinator.life;
            self.at(deadline.0.saturating_sub(self.now).max(1), Step::Tick(life));
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, actions: Vec<Action>) -> Result<(), String> {
        let life = self.coordinator.life;
        for action in actions {
            match action {
                Action::Send(node, stream, ToNode::Batch(batch)) => {
                    let batch = self.add_log(stream.0, batch);
                    let batch = self.forge(&node, batch);
                    self.send_down(node, stream.0, &ToNode::Batch(batch));
                }
                Action::Send(node, stream, message) => self.send_down(node, stream.0, &message),
                Action::Disconnect(node, stream, reason) => {
                    self.tell(format!("the coordinator ends the stream of {node}: {reason}"));
                    self.at(1, Step::LinkLost(node.clone(), stream.0));
                    self.at(50, Step::Dial(node));
                }
                Action::Aggregate(job) => {
                    let delay = self.rng.gen_range(1..20);
                    self.at(delay, Step::Aggregated(life, aggregate(&job)));
                }
                Action::Progress(..) | Action::Clock(..) => {}
                Action::Finished(id, outcome) => {
                    let delay = self.rng.gen_range(1..50);
                    self.at(delay, Step::Durable(life, id, outcome));
                }
                Action::Culprit(node, reason) => {
                    self.tell(format!("{node} is a culprit: {reason}"));
                    self.checks.blamed(&node, &reason)?;
                    self.coordinator.culprits.insert(node, reason);
                }
            }
        }
        Ok(())
    }
}
