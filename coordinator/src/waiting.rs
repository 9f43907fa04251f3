//! The releases that are not final yet: how many may be, and how watchers see them change.
//!
//! The truth about a release is in the store; here is only what the session engine says about it meanwhile, and what a
//! watcher is told at its end. One [`Waiting`] per process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rutli_release::{Class, ReleaseId};
use rutli_wire::v1;
use tokio::sync::watch;

use crate::{
    config::Limits,
    error::{Error, Result},
    limits,
    share::{Bound, Limit, Owner, Share},
};

/// The registry of unfinished releases.
pub struct Waiting {
    /// Places in the queue.
    places: Arc<Bound>,
    /// Bytes of content and evidence.
    bytes: Arc<Bound>,
    /// Bytes of evidence from custodians. There is room for it even if pipelines have filled theirs, because
    /// it may refuse what they request.
    words: Arc<Bound>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
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
    /// Room of what was added to it since; given back with the last of them.
    added: Vec<Share>,
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
    /// Room for as many releases as is configured.
    #[must_use]
    pub fn new(configured: &Limits) -> Arc<Self> {
        let retry = Duration::from_secs(limits::QUEUE_RETRY_SECONDS);
        let bound = |what, key, most| Bound::new(Limit { what, key, most, retry });
        let (releases, bytes) = (u64::from(configured.max_waiting_releases), configured.waiting_bytes());
        Arc::new(Self {
            places: bound("waiting releases", "max_waiting_releases", releases),
            bytes: bound("bytes of waiting releases", "max_waiting_mebibytes", bytes),
            words: bound(
                "bytes of custodians' evidence",
                "max_waiting_mebibytes",
                limits::WAITING_BYTES_FOR_CUSTODIANS,
            ),
            state: Mutex::default(),
        })
    }

    /// Takes room for a release of `class` with `bytes` of content.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub fn reserve(self: &Arc<Self>, class: Class, owner: &Owner, bytes: usize) -> Result<Slot> {
        let place = self.places.take_of(open_to(class, self.places.most()), owner, 1)?;
        let bytes = self.bytes.take_of(open_to(class, self.bytes.most()), owner, count(bytes))?;
        Ok(Slot { waiting: Arc::clone(self), bytes, id: None, _place: place })
    }

    /// Takes room for `bytes` more of a release that waits, brought by `owner`; given back with the release's own.
    ///
    /// # Errors
    /// [`Error::Full`]; [`Error::NotYet`] if nobody carries the release, who would take what is added to the nodes.
    pub fn grow(
        self: &Arc<Self>,
        id: &ReleaseId,
        class: Class,
        owner: &Owner,
        bytes: usize,
    ) -> Result<Growth> {
        self.must_be_carried(id)?;
        let share = self.bytes.take_of(open_to(class, self.bytes.most()), owner, count(bytes))?;
        Ok(Growth { waiting: Arc::clone(self), id: id.clone(), share })
    }

    /// The same for what a custodian brings.
    ///
    /// # Errors
    /// As [`Waiting::grow`].
    pub fn grow_for_custodian(
        self: &Arc<Self>,
        id: &ReleaseId,
        owner: &Owner,
        bytes: usize,
    ) -> Result<Growth> {
        self.must_be_carried(id)?;
        let share = self.words.take(owner, count(bytes))?;
        Ok(Growth { waiting: Arc::clone(self), id: id.clone(), share })
    }

    fn must_be_carried(&self, id: &ReleaseId) -> Result<()> {
        match self.state().carried.contains_key(id) {
            true => Ok(()),
            false => Err(Error::NotYet { reason: format!("{id} is just ending, or about to be resumed") }),
        }
    }

    /// Room for a release that was admitted, and that nobody carries: it was promised, whatever the bounds are now.
    #[must_use]
    pub fn restore(self: &Arc<Self>, owner: &Owner, bytes: usize) -> Slot {
        let (place, bytes) = (self.places.promised(owner, 1), self.bytes.promised(owner, count(bytes)));
        Slot { waiting: Arc::clone(self), bytes, id: None, _place: place }
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

    /// How many releases wait.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.places.used()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lays what is known about the course or end of a release over what the store knew before.
pub fn lay_over(release: &mut v1::Release, change: &v1::Release) {
    // All fields by name, so that a new one does not compile until it is decided which side it belongs to.
    let v1::Release {
        state,
        waiting_for,
        refusals,
        signatures_done,
        signed_by,
        key,
        finished_at,
        overtaken_by,
        files,
        evidence,
        // What was asked for, and what the log says of it: the store knows.
        release_id: _,
        request_id: _,
        requester: _,
        content: _,
        created_at: _,
        signatures_total: _,
        embargo_until: _,
        log_index: _,
        proven_at: _,
        disclosed_at: _,
    } = change;
    release.state = *state;
    release.waiting_for.clone_from(waiting_for);
    release.refusals.clone_from(refusals);
    release.signatures_done = *signatures_done;
    release.signed_by.clone_from(signed_by);
    release.key.clone_from(key);
    release.finished_at = *finished_at;
    release.overtaken_by = *overtaken_by;
    release.files.clone_from(files);
    // It only grows, and whichever of the two was read later has more.
    if evidence.len() > release.evidence.len() {
        release.evidence.clone_from(evidence);
    }
}

/// What of a bound is open to a class: product builds leave the last part to the urgent ones.
fn open_to(class: Class, bound: u64) -> u64 {
    match class {
        Class::AvDatabase => bound,
        Class::ProductBuild => bound - bound / limits::RESERVED_FOR_AV,
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Room for one unfinished release, given back when dropped.
pub struct Slot {
    waiting: Arc<Waiting>,
    bytes: Share,
    id: Option<ReleaseId>,
    _place: Share,
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
        self.bytes.grow_promised(count(bytes));
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
        let Some(id) = &self.id else { return };
        let mut state = self.waiting.state();
        if let Some(carried) = state.carried.get_mut(id) {
            carried.carriers = carried.carriers.saturating_sub(1);
            if carried.carriers == 0 {
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
    share: Share,
}

impl Growth {
    /// It was added: from now on the room is the release's, as long as that waits.
    pub fn keep(self) {
        if let Some(carried) = self.waiting.state().carried.get_mut(&self.id) {
            carried.added.push(self.share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{self, Whose};

    fn ci(number: u32) -> Owner {
        Owner::new(&format!("pipeline:ci-{number}"), &format!("CN=authority {number}"))
    }

    fn waiting(max_waiting_releases: u32) -> Arc<Waiting> {
        Waiting::new(&Limits { max_waiting_releases, ..Limits::default() })
    }

    #[test]
    fn one_pipeline_fills_a_quarter_and_builds_leave_room_for_databases() {
        let waiting = waiting(1_000);
        let fill = |class, number| {
            let mut slots = Vec::new();
            loop {
                match waiting.reserve(class, &ci(number), 1) {
                    Ok(slot) => slots.push(slot),
                    Err(Error::Full(full)) => return (slots, full.whose),
                    Err(other) => panic!("{other}"),
                }
            }
        };
        let (first, whose) = fill(Class::ProductBuild, 1);
        // A quarter of what is open to builds.
        assert_eq!((first.len(), whose), (225, Whose::Name));
        let all: Vec<_> = (2..6).map(|number| fill(Class::ProductBuild, number)).collect();
        let count = waiting.count();
        assert!((810..=900).contains(&count), "{count}");
        assert_eq!(all.last().map(|(_, whose)| *whose), Some(Whose::All));
        // Who has little still gets in, and the databases' reserve is untouched.
        let fresh = waiting.reserve(Class::ProductBuild, &ci(9), 1).unwrap();
        let (databases, _) = fill(Class::AvDatabase, 10);
        assert!(databases.len() >= 10, "{}", databases.len());
        drop((first, all, databases, fresh));
        assert_eq!((waiting.count(), waiting.bytes.used()), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let waiting = waiting(10);
        let most = usize::try_from(share::name_share(waiting.bytes.most())).unwrap();
        let _most = waiting.reserve(Class::AvDatabase, &ci(1), most - 5).unwrap();
        assert!(waiting.reserve(Class::AvDatabase, &ci(1), 6).is_err());
        assert!(waiting.reserve(Class::AvDatabase, &ci(1), 5).is_ok());
    }

    #[test]
    fn what_is_added_is_bounded_and_is_given_back() {
        let waiting = waiting(10);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let closed = waiting.grow(&id, Class::ProductBuild, &ci(1), 1);
        assert!(matches!(closed, Err(Error::NotYet { .. })), "nobody would take it to the nodes");
        let mut slot = waiting.reserve(Class::ProductBuild, &ci(1), 1_000).unwrap();
        assert!(slot.carries(&id));
        let most = share::name_share(open_to(Class::ProductBuild, waiting.bytes.most()));
        let most = usize::try_from(most).unwrap();
        assert!(matches!(waiting.grow(&id, Class::ProductBuild, &ci(1), most - 999), Err(Error::Full(_))));
        waiting.grow(&id, Class::ProductBuild, &ci(1), most - 1_000).unwrap().keep();
        assert!(waiting.grow(&id, Class::ProductBuild, &ci(1), 1).is_err());
        // What is not added after all takes no room.
        let growth = waiting.grow(&id, Class::ProductBuild, &ci(2), 500).unwrap();
        assert_eq!(waiting.bytes.used(), count(most + 500));
        drop(growth);
        assert_eq!(waiting.bytes.used(), count(most));
        // Of a release that ends meanwhile nothing is given back twice, and nothing stays.
        let growth = waiting.grow(&id, Class::ProductBuild, &ci(2), 500).unwrap();
        let other = waiting.reserve(Class::AvDatabase, &ci(3), 700).unwrap();
        drop(slot);
        assert_eq!(waiting.bytes.used(), 1_200);
        growth.keep();
        assert_eq!(waiting.bytes.used(), 700);
        drop(other);
        // What is taken up has what it had.
        let mut slot = waiting.restore(&ci(1), 1_000);
        slot.add(500);
        assert_eq!(waiting.bytes.used(), 1_500);
        drop(slot);
        assert_eq!(waiting.bytes.used(), 0);
    }

    /// A pipeline's certificate can fill its share of the queue, and custodians can still refuse its
    /// requests.
    #[test]
    fn there_is_room_for_a_custodians_word_where_pipelines_have_filled_theirs() {
        let waiting = waiting(10);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let all = usize::try_from(waiting.bytes.most()).unwrap();
        let mut slot = waiting.restore(&ci(1), all);
        assert!(slot.carries(&id));
        assert!(waiting.grow(&id, Class::AvDatabase, &ci(2), 1).is_err());
        let clara = Owner::new("custodian:clara", "CN=one");
        let most = usize::try_from(share::name_share(limits::WAITING_BYTES_FOR_CUSTODIANS)).unwrap();
        waiting.grow_for_custodian(&id, &clara, most).unwrap().keep();
        assert!(waiting.grow_for_custodian(&id, &clara, 1).is_err());
        // Nor does one custodian fill the others'.
        let carol = Owner::new("custodian:carol", "CN=one");
        waiting.grow_for_custodian(&id, &carol, most).unwrap();
    }

    #[test]
    fn watchers_see_evidence_and_lose_none_of_it() {
        let waiting = waiting(1);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let mut slot = waiting.reserve(Class::ProductBuild, &ci(1), 1).unwrap();
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
        let waiting = waiting(1);
        let id = ReleaseId::new("suite-1-000000000000").unwrap();
        let mut slot = waiting.reserve(Class::ProductBuild, &ci(1), 1).unwrap();
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
