//! Batches that are being decided, release by release, and whose turn it is.
//!
//! A decision may take tens of milliseconds if nothing permits a release, and a batch may contain hundreds of
//! releases. So a batch has a time limit, and whatever is left then is answered as undecided. Between two
//! releases of one batch, other batches get their turn: AV databases first, then the batch that has used the
//! least time. Cheap batches go one after the other, because each is answered sooner that way; an expensive
//! one yields to all others.

use std::{collections::VecDeque, sync::Arc};

use rutli_keys::{KeyName, RosterHash};
use rutli_log::Head;
use rutli_release::Class;
use rutli_wire::link::{BatchId, BatchItem, Refusal, RefusalCode};

use super::{
    JournalRecord, StreamId, refuse,
    shares::{Effective, ItemWork, SlotWork, Work},
};
use crate::{clock::Reading, limits};

/// All open batches that were not answered yet, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct OpenBatches {
    batches: VecDeque<OpenBatch>,
    /// Index of the batch whose release is being decided, and since when, by the monotonic clock.
    deciding: Option<(usize, i64)>,
}

/// A batch that was checked as a whole, and whose nonces are drawn.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) stream: StreamId,
    pub(super) id: BatchId,
    pub(super) records: Vec<JournalRecord>,
    /// The refusal of the whole, or its releases.
    pub(super) content: Result<Content, Refusal>,
    /// Whether it begins with an AV database.
    is_urgent: bool,
    /// Milliseconds by the clock that counts.
    opened_ms: i64,
    spent_ms: i64,
    ready_ms: Option<i64>,
}

/// The releases of a batch.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) key: KeyName,
    pub(super) roster: RosterHash,
    /// The head under which all their entries are.
    pub(super) head: Head,
    pub(super) effective: Arc<Effective>,
    /// In the batch's order, with the nonces that were drawn for each. No pool has them any more.
    pub(super) undecided: VecDeque<(BatchItem, Result<Vec<SlotWork>, Refusal>)>,
    pub(super) decided: Vec<Result<ItemWork, Refusal>>,
    /// For each of these, how long it took.
    pub(super) decision_ms: Vec<u32>,
}

impl OpenBatch {
    pub(super) fn new(
        (stream, id): (StreamId, BatchId),
        records: Vec<JournalRecord>,
        content: Result<Content, Refusal>,
        now_ms: i64,
    ) -> Self {
        let first = content.as_ref().ok().and_then(|content| content.undecided.front());
        let is_urgent = first.is_some_and(|(item, _)| item.release.class() == Class::AvDatabase);
        Self { stream, id, records, content, is_urgent, opened_ms: now_ms, spent_ms: 0, ready_ms: None }
    }

    fn next_item(&self) -> Option<&BatchItem> {
        self.content.as_ref().ok()?.undecided.front().map(|(item, _)| item)
    }

    /// Lower values go first. An AV database goes before product builds, unless its batch takes very long.
    fn turn(&self, now_ms: i64) -> Option<(bool, bool, i64)> {
        let item = self.next_item()?;
        let urgent = item.release.class() == Class::AvDatabase && self.spent_ms < limits::URGENT_MS;
        // A batch that did not start in its time still gets at least one decision.
        Some((!self.is_late(now_ms), !urgent, self.spent_ms / limits::BATCH_TURN_MS))
    }

    fn is_late(&self, now_ms: i64) -> bool {
        now_ms >= self.opened_ms.saturating_add(limits::BATCH_MS)
    }

    /// Whether it is to be answered: everything is decided, or its time is over and something is decided.
    fn is_ready(&self, now_ms: i64) -> bool {
        let Ok(content) = &self.content else { return true };
        content.undecided.is_empty() || (self.is_late(now_ms) && !content.decided.is_empty())
    }

    /// A decision took so long.
    fn took(&mut self, ms: i64) {
        self.spent_ms = self.spent_ms.saturating_add(ms);
        if let Some(last) = self.content.as_mut().ok().and_then(|content| content.decision_ms.last_mut()) {
            *last = u32::try_from(ms).unwrap_or(u32::MAX);
        }
    }
}

impl Content {
    /// The releases to be signed. Undecided ones are not, and their unused nonces are wiped here.
    pub(super) fn into_work(self) -> (Work, Vec<u32>) {
        let Self { key, roster, effective, undecided, mut decided, mut decision_ms, .. } = self;
        decided.extend(undecided.into_iter().map(|(_, nonces)| {
            drop(nonces);
            Err(refuse(
                RefusalCode::Undecided,
                "this node had no time left for it; it is asked again by itself".to_owned(),
            ))
        }));
        if decision_ms.iter().all(|ms| *ms == 0) {
            decision_ms.clear();
        }
        (Work { key, roster, effective, items: decided }, decision_ms)
    }
}

impl OpenBatches {
    pub(super) fn push(&mut self, batch: OpenBatch) {
        self.batches.push_back(batch);
    }

    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < limits::MAX_OPEN_BATCHES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The batch whose turn it is.
    pub(super) fn begin(&mut self, now: Reading) -> Option<&mut OpenBatch> {
        let place = self.next(now.monotonic_ms)?;
        self.deciding = Some((place, now.monotonic_ms));
        self.batches.get_mut(place)
    }

    /// The decision that was begun is there.
    pub(super) fn end(&mut self, now: Reading) {
        let Some((place, since)) = self.deciding.take() else { return };
        if let Some(batch) = self.batches.get_mut(place) {
            batch.took(now.monotonic_ms.saturating_sub(since).max(0));
        }
    }

    /// The batches to be answered now. A ready one waits a moment for other cheap ones, so that they share
    /// one write to the journal.
    pub(super) fn take_ready(&mut self, now: Reading) -> Vec<OpenBatch> {
        let now_ms = now.monotonic_ms;
        let (mut oldest, mut is_urgent) = (None, false);
        for batch in self.batches.iter_mut().filter(|batch| batch.is_ready(now_ms)) {
            is_urgent |= batch.is_urgent;
            let since = *batch.ready_ms.get_or_insert(now_ms);
            oldest = Some(oldest.map_or(since, |oldest: i64| oldest.min(since)));
        }
        let Some(oldest) = oldest else { return Vec::new() };
        // An AV database waits only for other AV databases.
        let is_cheap =
            |batch: &OpenBatch| batch.spent_ms < limits::JOURNAL_GROUP_MS && (batch.is_urgent || !is_urgent);
        let others = self.next(now_ms).and_then(|place| self.batches.get(place)).is_some_and(is_cheap);
        if others && now_ms < oldest.saturating_add(limits::JOURNAL_GROUP_MS) {
            return Vec::new();
        }
        let (ready, rest) = self.batches.drain(..).partition(|batch| batch.is_ready(now_ms));
        self.batches = rest;
        Vec::from(ready)
    }

    /// All of them, as they are.
    pub(super) fn take_all(&mut self) -> Vec<OpenBatch> {
        self.deciding = None;
        self.batches.drain(..).collect()
    }

    /// A stream is gone, and with it every nonce that was drawn on it.
    pub(super) fn forget_stream(&mut self, stream: StreamId) {
        self.deciding = None;
        self.batches.retain(|batch| batch.stream != stream);
    }

    /// Every nonce that was drawn is gone.
    pub(super) fn forget(&mut self) {
        self.deciding = None;
        self.batches.clear();
    }

    fn next(&self, now_ms: i64) -> Option<usize> {
        let turns = self.batches.iter().enumerate();
        let undecided = turns.filter(|(_, batch)| !batch.is_ready(now_ms));
        undecided
            .filter_map(|(place, batch)| Some((place, batch.turn(now_ms)?)))
            .min_by_key(|(_, turn)| *turn)
            .map(|(place, _)| place)
    }
}
