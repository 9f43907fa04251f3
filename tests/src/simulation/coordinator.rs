//! The coordinator's side of a story: its engine while it runs, and what of it is durable.

use super::*;

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

    /// Admission: durable before it is acknowledged. A pipeline whose coordinator is down asks again.
    pub(super) fn submit(&mut self, submission: Submission) -> Result<(), String> {
        if self.coordinator.engine.is_none() {
            self.at(200, Step::Submit(submission));
            return Ok(());
        }
        // Admission demands that a channel's sequence goes up: whoever had to ask again may come too late.
        let asked = &submission.release;
        let behind = self.coordinator.admitted.iter().any(|other| {
            let other = &other.release;
            other.product() == asked.product()
                && other.channel() == asked.channel()
                && other.sequence() >= asked.sequence()
        });
        if behind {
            self.tell(format!("{} is not admitted: its sequence is behind", submission.release_id));
            return Ok(());
        }
        self.tell(format!("{} is admitted", submission.release_id));
        self.coordinator.admitted.push(submission.clone());
        self.engine_event(Event::Submit(submission))
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
        self.tell(format!("{id} is over: {}", checks::word(&outcome)));
        self.checks.finished(&self.coordinator.admitted, &id, &outcome)?;
        self.coordinator.finished.insert(id.clone(), outcome);
        self.engine_event(Event::Published(id))
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
                let parsed = commitments.into_iter().filter_map(parse_commitment).collect();
                Event::Commitments(node.clone(), StreamId(stream), key, parsed)
            }
            FromNode::Reply(reply) => Event::Reply(node.clone(), StreamId(stream), reply),
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
                Action::Send(node, stream, message) => {
                    let bytes = v1::CoordinatorMessage::from(&message).encode_to_vec();
                    for delay in self.fates_of_message() {
                        self.at(delay, Step::ToNode(node.clone(), stream.0, bytes.clone()));
                    }
                }
                Action::Disconnect(node, stream, reason) => {
                    self.tell(format!("the coordinator ends the stream of {node}: {reason}"));
                    self.at(1, Step::LinkLost(node.clone(), stream.0));
                    self.at(50, Step::Dial(node));
                }
                Action::Aggregate(job) => {
                    let delay = self.rng.gen_range(1..20);
                    self.at(delay, Step::Aggregated(life, aggregate(&job)));
                }
                Action::Progress(..) => {}
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
