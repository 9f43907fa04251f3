//! The releases that are not final yet: how many may be, and how watchers see them change.
//!
//! The truth about a release is in the store; here is only what the session engine says about it meanwhile, and what a
//! watcher is told at its end. One [`Waiting`] per process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rutli_release::{Class, ReleaseId};
use rutli_wire::v1;
use tokio::sync::{Semaphore, watch};

pub use tokio::sync::OwnedSemaphorePermit as WatcherSlot;

use crate::{
    error::{Error, Result},
    limits,
};

/// The registry of unfinished releases.
pub struct Waiting {
    most: usize,
    state: Mutex<State>,
    watchers: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    count: usize,
    bytes: usize,
    carried: HashMap<ReleaseId, Carried>,
    seen: HashMap<ReleaseId, watch::Sender<Seen>>,
    /// Signed releases whose proof somebody waits for.
    unproven: HashMap<ReleaseId, watch::Sender<()>>,
}

/// A release that is not final.
#[derive(Default)]
struct Carried {
    /// How many tasks have it in hand: more than one while the same request is on its way twice.
    carriers: usize,
    /// Bytes of what was added to it since; given back with the last of them.
    added: usize,
}

/// What a watcher sees of a release; each message is complete but for what the store knows about it anyway.
#[derive(Clone, Debug)]
pub enum Seen {
    /// It goes on.
    Unfinished(Arc<v1::Release>),
    /// It is over, and durable.
    Final(Arc<v1::Release>),
}

impl Waiting {
    /// Room for `most` releases.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
            watchers: Arc::new(Semaphore::new(limits::MAX_WATCHERS)),
        })
    }

    /// Takes room for a release of `class` with `bytes` of content.
    ///
    /// # Errors
    /// [`Error::QueueFull`]
    pub fn reserve(self: &Arc<Self>, class: Class, bytes: usize) -> Result<Slot> {
        let mut state = self.state();
        if state.count >= share(class, self.most) {
            return Err(Error::QueueFull { what: format!("{} releases wait", state.count) });
        }
        check_bytes(&state, share(class, limits::MAX_WAITING_BYTES), bytes)?;
        Ok(self.take(&mut state, bytes))
    }

    /// Takes room for `bytes` more of a release that waits; given back with the release's own.
    ///
    /// # Errors
    /// [`Error::QueueFull`]; [`Error::StoreClosed`] if nobody carries the release, who would take what is added to the nodes.
    pub fn grow(self: &Arc<Self>, id: &ReleaseId, class: Class, bytes: usize) -> Result<Growth> {
        self.grow_within(id, share(class, limits::MAX_WAITING_BYTES), bytes)
    }

    /// The same for what a custodian brings: there is room for it also where pipelines have filled all of theirs, for it may be the
    /// refusal of what they ask for.
    ///
    /// # Errors
    /// As [`Waiting::grow`].
    pub fn grow_for_custodian(self: &Arc<Self>, id: &ReleaseId, bytes: usize) -> Result<Growth> {
        self.grow_within(id, limits::MAX_WAITING_BYTES + limits::WAITING_BYTES_FOR_CUSTODIANS, bytes)
    }

    fn grow_within(self: &Arc<Self>, id: &ReleaseId, most: usize, bytes: usize) -> Result<Growth> {
        let mut guard = self.state();
        let state = &mut *guard;
        check_bytes(state, most, bytes)?;
        let carried = state.carried.get_mut(id).ok_or_else(|| Error::StoreClosed {
            reason: format!("{id} ends in this moment, or is about to be taken up"),
        })?;
        carried.added = carried.added.saturating_add(bytes);
        state.bytes = state.bytes.saturating_add(bytes);
        Ok(Growth { waiting: Arc::clone(self), id: id.clone(), bytes })
    }

    /// Room for a release that was admitted, and that nobody carries: it was promised, whatever the bounds are now.
    #[must_use]
    pub fn restore(self: &Arc<Self>, bytes: usize) -> Slot {
        self.take(&mut self.state(), bytes)
    }

    fn take(self: &Arc<Self>, state: &mut State, bytes: usize) -> Slot {
        state.count = state.count.saturating_add(1);
        state.bytes = state.bytes.saturating_add(bytes);
        Slot { waiting: Arc::clone(self), bytes, id: None }
    }

    /// Lets watchers find a release that is new or taken up again, as long as a [`Slot`] carries it.
    pub fn show(&self, id: &ReleaseId, evidence: Vec<v1::EvidenceInfo>) {
        let state = v1::ReleaseState::Queued.into();
        let queued = v1::Release { state, evidence, ..v1::Release::default() };
        let (seen, _) = watch::channel(Seen::Unfinished(Arc::new(queued)));
        self.state().seen.insert(id.clone(), seen);
    }

    /// What the session engine says; `change` has nothing but state, `waiting_for`, refusals and counts.
    pub fn progress(&self, id: &ReleaseId, mut change: v1::Release) {
        self.change(id, |last| {
            change.evidence.clone_from(&last.evidence);
            change
        });
    }

    /// All evidence that there is of a release, after some was added.
    pub fn evidence(&self, id: &ReleaseId, all: Vec<v1::EvidenceInfo>) {
        self.change(id, |last| v1::Release { evidence: all, ..last.clone() });
    }

    fn change(&self, id: &ReleaseId, change: impl FnOnce(&v1::Release) -> v1::Release) {
        if let Some(seen) = self.state().seen.get(id) {
            seen.send_if_modified(|seen| {
                let Seen::Unfinished(last) = &*seen else { return false };
                let change = change(last);
                let changed = **last != change;
                if changed {
                    *seen = Seen::Unfinished(Arc::new(change));
                }
                changed
            });
        }
    }

    /// Lays over `release`, as the store has it, what is known here about it.
    pub fn overlay(&self, release: &mut v1::Release) {
        if release.state() != v1::ReleaseState::Queued {
            return;
        }
        let seen = ReleaseId::new(release.release_id.as_str())
            .ok()
            .and_then(|id| self.state().seen.get(&id).map(|seen| seen.borrow().clone()));
        // A final one is taken from the store, when it is read next.
        if let Some(Seen::Unfinished(change)) = seen {
            lay_over(release, &change);
        }
    }

    /// Follows a release; none if it is not waiting.
    #[must_use]
    pub fn follow(&self, id: &ReleaseId) -> Option<watch::Receiver<Seen>> {
        self.state().seen.get(id).map(watch::Sender::subscribe)
    }

    /// Waits for the proof of a signed release: the receiver sees a change when it is durable, or its sender gone. To be
    /// asked for before the store is read.
    #[must_use]
    pub fn unproven(&self, id: &ReleaseId) -> watch::Receiver<()> {
        let mut state = self.state();
        // Whoever stopped watching leaves an entry; there are as many as watchers, and they go when the next one comes.
        state.unproven.retain(|_, proven| proven.receiver_count() > 0);
        state.unproven.entry(id.clone()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// The proofs of these releases are durable.
    pub fn proven(&self, ids: &[ReleaseId]) {
        let mut state = self.state();
        for id in ids {
            if let Some(waiting) = state.unproven.remove(id) {
                waiting.send_replace(());
            }
        }
    }

    /// Permission to hold one watcher's stream open.
    ///
    /// # Errors
    /// [`Error::TooManyWatchers`]
    pub fn watcher(&self) -> Result<WatcherSlot> {
        Arc::clone(&self.watchers)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyWatchers { most: limits::MAX_WATCHERS })
    }

    /// How many releases wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lays what is known about the course or end of a release over what the store knew before.
pub fn lay_over(release: &mut v1::Release, change: &v1::Release) {
    release.state = change.state;
    release.waiting_for.clone_from(&change.waiting_for);
    release.refusals.clone_from(&change.refusals);
    release.signatures_done = change.signatures_done;
    release.signed_by.clone_from(&change.signed_by);
    release.key.clone_from(&change.key);
    release.finished_at = change.finished_at;
    release.files.clone_from(&change.files);
    // It only grows, and whichever of the two was read later has more.
    if change.evidence.len() > release.evidence.len() {
        release.evidence.clone_from(&change.evidence);
    }
}

/// What a class may have of a bound: product builds leave the last part to the urgent ones.
fn share(class: Class, bound: usize) -> usize {
    match class {
        Class::AvDatabase => bound,
        Class::ProductBuild => bound - bound / limits::RESERVED_FOR_AV,
    }
}

fn check_bytes(state: &State, most: usize, bytes: usize) -> Result<()> {
    if state.bytes.saturating_add(bytes) > most {
        return Err(Error::QueueFull { what: format!("releases of {} bytes wait", state.bytes) });
    }
    Ok(())
}

/// Room for one unfinished release, given back when dropped.
pub struct Slot {
    waiting: Arc<Waiting>,
    bytes: usize,
    id: Option<ReleaseId>,
}

impl Slot {
    /// Says which release has this room; true if no other slot carries it. To be said before the release is durable, for
    /// what is durable and not carried is taken up again. Watchers lose it when the last slot is given back.
    pub fn carries(&mut self, id: &ReleaseId) -> bool {
        self.id = Some(id.clone());
        let mut state = self.waiting.state();
        let carried = state.carried.entry(id.clone()).or_default();
        carried.carriers += 1;
        carried.carriers == 1
    }

    /// What is carried has so many bytes more than were known. It was promised, whatever the bounds are now.
    pub fn add(&mut self, bytes: usize) {
        let mut state = self.waiting.state();
        self.bytes = self.bytes.saturating_add(bytes);
        state.bytes = state.bytes.saturating_add(bytes);
    }

    /// Tells the watchers how it ended, which must be durable already, and gives the room back.
    pub fn finished(self, ended: Arc<v1::Release>) {
        if let Some(id) = &self.id
            && let Some(seen) = self.waiting.state().seen.get(id)
        {
            seen.send_modify(|seen| {
                let ended = match &*seen {
                    // Who has not seen yet what was added last sees it with the end.
                    Seen::Unfinished(last) if !last.evidence.is_empty() => {
                        let evidence = last.evidence.clone();
                        Arc::new(v1::Release { evidence, ..v1::Release::clone(&ended) })
                    }
                    _ => ended,
                };
                *seen = Seen::Final(ended);
            });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.waiting.state();
        state.count = state.count.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(self.bytes);
        if let Some(id) = &self.id
            && let Some(carried) = state.carried.get_mut(id)
        {
            carried.carriers = carried.carriers.saturating_sub(1);
            if carried.carriers == 0 {
                let added = carried.added;
                state.bytes = state.bytes.saturating_sub(added);
                state.carried.remove(id);
                state.seen.remove(id);
            }
        }
    }
}

/// Room that was taken for what is to be added to a release: given back when dropped, unless it is kept.
pub struct Growth {
    waiting: Arc<Waiting>,
    id: ReleaseId,
    bytes: usize,
}

impl Growth {
    /// It was added: from now on the room is the release's.
    pub fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        let mut guard = self.waiting.state();
        let state = &mut *guard;
        // A release that has ended meanwhile has given it back.
        if let Some(carried) = state.carried.get_mut(&self.id) {
            let bytes = self.bytes.min(carried.added);
            carried.added = carried.added.saturating_sub(bytes);
            state.bytes = state.bytes.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn product_builds_leave_room_for_databases() {
        let waiting = Waiting::new(10);
        let builds: Vec<_> = (0..9).map(|_| waiting.reserve(Class::ProductBuild, 1).unwrap()).collect();
        assert!(matches!(waiting.reserve(Class::ProductBuild, 1), Err(Error::QueueFull { .. })));
        let database = waiting.reserve(Class::AvDatabase, 1).unwrap();
        assert!(waiting.reserve(Class::AvDatabase, 1).is_err());
        drop((builds, database));
        assert_eq!(waiting.count(), 0);
        assert!(waiting.reserve(Class::ProductBuild, 1).is_ok());
    }

    #[test]
    fn bytes_are_bounded_too() {
        let waiting = Waiting::new(10);
        let _most = waiting.reserve(Class::AvDatabase, limits::MAX_WAITING_BYTES - 5).unwrap();
        assert!(waiting.reserve(Class::AvDatabase, 6).is_err());
        assert!(waiting.reserve(Class::AvDatabase, 5).is_ok());
    }

    #[test]
    fn what_is_added_is_bounded_leaves_room_for_databases_and_is_given_back() {
        let waiting = Waiting::new(10);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let closed = waiting.grow(&id, Class::ProductBuild, 1);
        assert!(matches!(closed, Err(Error::StoreClosed { .. })), "nobody would take it to the nodes");
        let mut slot = waiting.reserve(Class::ProductBuild, 1_000).unwrap();
        assert!(slot.carries(&id));
        let most = limits::MAX_WAITING_BYTES - limits::MAX_WAITING_BYTES / limits::RESERVED_FOR_AV;
        assert!(matches!(waiting.grow(&id, Class::ProductBuild, most - 999), Err(Error::QueueFull { .. })));
        waiting.grow(&id, Class::ProductBuild, most - 1_000).unwrap().keep();
        assert!(waiting.grow(&id, Class::ProductBuild, 1).is_err());
        // What is not added after all takes no room.
        let growth = waiting.grow(&id, Class::AvDatabase, 500).unwrap();
        assert_eq!(waiting.state().bytes, most + 500);
        drop(growth);
        assert_eq!(waiting.state().bytes, most);
        // Of a release that ends meanwhile nothing is given back twice.
        let growth = waiting.grow(&id, Class::AvDatabase, 500).unwrap();
        let other = waiting.reserve(Class::AvDatabase, 700).unwrap();
        drop(slot);
        assert_eq!(waiting.state().bytes, 700);
        drop(growth);
        assert_eq!(waiting.state().bytes, 700);
        drop(other);
        // What is taken up has what it had.
        let mut slot = waiting.restore(1_000);
        slot.add(500);
        assert_eq!(waiting.state().bytes, 1_500);
        drop(slot);
        assert_eq!(waiting.state().bytes, 0);
    }

    /// Whoever has a pipeline's certificate fills all that waits, and custodians refuse what he asks for all the same.
    #[test]
    fn there_is_room_for_a_custodians_word_where_pipelines_have_filled_theirs() {
        let waiting = Waiting::new(10);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let mut slot = waiting.reserve(Class::AvDatabase, limits::MAX_WAITING_BYTES).unwrap();
        assert!(slot.carries(&id));
        assert!(waiting.grow(&id, Class::AvDatabase, 1).is_err());
        let most = limits::WAITING_BYTES_FOR_CUSTODIANS;
        waiting.grow_for_custodian(&id, most).unwrap().keep();
        assert!(waiting.grow_for_custodian(&id, 1).is_err());
    }

    #[test]
    fn watchers_see_evidence_and_lose_none_of_it() {
        let waiting = Waiting::new(1);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let mut slot = waiting.reserve(Class::ProductBuild, 1).unwrap();
        let info = |log_index| v1::EvidenceInfo { log_index, ..v1::EvidenceInfo::default() };
        waiting.show(&id, vec![info(1)]);
        assert!(slot.carries(&id));
        let mut follower = waiting.follow(&id).unwrap();
        let mut release = v1::Release { state: 1, release_id: id.to_string(), ..v1::Release::default() };
        let mut see = |waiting: &Waiting| {
            waiting.overlay(&mut release);
            release.evidence.len()
        };
        assert_eq!(see(&waiting), 1);
        waiting.evidence(&id, vec![info(1), info(2)]);
        assert!(follower.has_changed().unwrap());
        let signing = v1::Release { state: v1::ReleaseState::Signing.into(), ..v1::Release::default() };
        waiting.progress(&id, signing.clone());
        assert_eq!(see(&waiting), 2, "the engine knows nothing of it");
        let _ = follower.borrow_and_update();
        waiting.progress(&id, signing);
        waiting.evidence(&id, vec![info(1), info(2)]);
        assert!(!follower.has_changed().unwrap(), "no news is not news");
        slot.finished(Arc::new(v1::Release { state: 5, ..v1::Release::default() }));
        assert!(matches!(&*follower.borrow(), Seen::Final(ended) if ended.evidence.len() == 2));
    }

    #[test]
    fn watchers_see_progress_and_the_end() {
        let waiting = Waiting::new(1);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let mut slot = waiting.reserve(Class::ProductBuild, 1).unwrap();
        waiting.show(&id, Vec::new());
        assert!(slot.carries(&id));
        let mut follower = waiting.follow(&id).unwrap();
        let signing = v1::Release { state: v1::ReleaseState::Signing.into(), ..v1::Release::default() };
        waiting.progress(&id, signing.clone());
        assert!(follower.has_changed().unwrap());
        let mut release = v1::Release { state: 1, release_id: id.to_string(), ..v1::Release::default() };
        waiting.overlay(&mut release);
        assert_eq!(release.state(), v1::ReleaseState::Signing);
        let _ = follower.borrow_and_update();
        waiting.progress(&id, signing);
        assert!(!follower.has_changed().unwrap(), "no news is not news");
        slot.finished(Arc::new(v1::Release { state: 4, ..v1::Release::default() }));
        assert!(matches!(&*follower.borrow(), Seen::Final(ended) if ended.state == 4));
        assert!(waiting.follow(&id).is_none());
    }
}
