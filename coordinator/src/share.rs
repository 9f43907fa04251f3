//! Bounds as shares: how much of a limited resource one party may use.
//!
//! Every bound applies first to the **name** in a certificate, then to the **authority** that issued it, then
//! to **all**. A name may hold at most a quarter, an authority at most three quarters, and the last tenth of
//! both is for names that hold less than a hundredth. So nobody can take another's share, and a newcomer
//! always gets in. Before a certificate is verified, an address block stands in for the name
//! ([`Owner::block`]). It never does afterwards, because many parties share an address.
//!
//! [`check`] is the rule, on numbers. [`Bound`] counts in memory what is held now; a [`Share`] gives back what it holds
//! when it is dropped. What lasts (hourly budgets, embargoes) is counted in the store and checked by the same rule.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, limits};

/// A name holds at most this part of a bound.
const PARTS_OF_A_NAME: u64 = 4;

/// Names of one authority together hold at most this many of these parts.
const PARTS_OF_AN_AUTHORITY: u64 = 3;

/// This part is left to names that hold little …
const RESERVE: u64 = 10;

/// … which is less than this part of the bound.
const LITTLE: u64 = 100;

/// Prefix length of an address block that usually belongs to one party: the addresses behind one router, or
/// one site's prefix.
const BLOCK_BITS_V4: u32 = 24;
const BLOCK_BITS_V6: u32 = 48;

/// Who holds shares.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    name: Arc<str>,
    authority: Option<Arc<str>>,
    /// Both: two authorities may vouch for one name, and neither takes the other's share.
    who: Arc<str>,
}

impl Owner {
    /// By a verified certificate: the name in it, and the authority that issued it.
    #[must_use]
    pub fn new(name: &str, authority: &str) -> Self {
        Self {
            name: name.into(),
            authority: Some(authority.into()),
            who: format!("{name}\n{authority}").into(),
        }
    }

    /// By an address, before there is a certificate.
    #[must_use]
    pub fn block(address: IpAddr) -> Self {
        let block = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(u32::BITS - BLOCK_BITS_V4).unwrap_or(0);
                format!("{}/{BLOCK_BITS_V4}", std::net::Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(u128::BITS - BLOCK_BITS_V6).unwrap_or(0);
                format!("{}/{BLOCK_BITS_V6}", std::net::Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        let name: Arc<str> = block.into();
        Self { who: Arc::clone(&name), name, authority: None }
    }

    /// As `ROLE:NAME`, or the block of addresses.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The authority, as its certificates name their issuer.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }
}

/// What is held of a bound: by a name, by all names of its authority, by all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// By the name.
    pub name: u64,
    /// By its authority; none before there is a certificate.
    pub authority: Option<u64>,
    /// By all.
    pub all: u64,
}

/// Whose share is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The name's.
    Name,
    /// That of all names of its authority.
    Authority,
    /// Everybody's.
    All,
}

/// A bound that is not only in memory: what it bounds, its key in the configuration, and how much there is.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is bounded, in the plural.
    pub what: &'static str,
    /// Its key in `[limits]`.
    pub key: &'static str,
    /// How much there is, for all.
    pub most: u64,
    /// When to try again.
    pub retry: Duration,
}

/// A share is full. The caller comes back later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Full {
    /// What is bounded.
    pub what: &'static str,
    /// The bound's key in `[limits]`.
    pub key: &'static str,
    /// Whose share it is.
    pub whose: Whose,
    /// The name, the authority, or nothing.
    pub holder: String,
    /// What that holder holds now.
    pub used: u64,
    /// What it may hold.
    pub most: u64,
    /// When to try again.
    pub retry: Duration,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, key, holder, used, most, .. } = self;
        let retry = self.retry.as_secs().max(1);
        match self.whose {
            Whose::Name => {
                write!(
                    f,
                    "the share of {holder} is full: it has {used} of {most} {what} that one name may have"
                )?;
            }
            Whose::Authority => {
                write!(f, "the share of authority {holder} is full: its names have {used} of {most} {what}")?;
            }
            Whose::All => write!(f, "{used} of {most} {what} are in use, by all parties together")?,
        }
        write!(f, " (limits.{key}); try again in {retry} s")
    }
}

/// What a name may hold.
#[must_use]
pub fn name_share(most: u64) -> u64 {
    most.div_ceil(PARTS_OF_A_NAME)
}

/// The rule: whether a name may take `amount` more of `most`, given what is held now.
///
/// # Errors
/// Whose share is full, what that holder has, and what it may have.
pub fn check(most: u64, held: Held, amount: u64) -> Result<(), (Whose, u64, u64)> {
    let of_name = name_share(most);
    if held.name.saturating_add(amount) > of_name {
        return Err((Whose::Name, held.name, of_name));
    }
    let holds_little = held.name < most.div_ceil(LITTLE);
    let open = |part: u64| if holds_little { part } else { part - part / RESERVE };
    let of_authority = open(most.saturating_mul(PARTS_OF_AN_AUTHORITY).div_ceil(PARTS_OF_A_NAME));
    if let Some(authority) = held.authority
        && authority.saturating_add(amount) > of_authority
    {
        return Err((Whose::Authority, authority, of_authority));
    }
    let of_all = open(most);
    if held.all.saturating_add(amount) > of_all {
        return Err((Whose::All, held.all, of_all));
    }
    Ok(())
}

impl Limit {
    /// [`check`], with an error for people.
    ///
    /// # Errors
    /// [`Full`]
    pub fn check(&self, owner: &Owner, held: Held, amount: u64) -> Result<(), Full> {
        check(self.most, held, amount).map_err(|(whose, used, most)| Full {
            what: self.what,
            key: self.key,
            whose,
            holder: match whose {
                Whose::Name => owner.name().to_owned(),
                Whose::Authority => owner.authority().unwrap_or_default().to_owned(),
                Whose::All => String::new(),
            },
            used,
            most,
            retry: self.retry,
        })
    }
}

/// A bound on what is held at one time. One of each kind per process.
#[derive(Debug)]
pub struct Bound {
    limit: Limit,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    all: u64,
    names: HashMap<Arc<str>, u64>,
    authorities: HashMap<Arc<str>, u64>,
    /// The calls that wait for room, by name; the name whose turn it is comes first.
    waiting: VecDeque<(Owner, VecDeque<Waiter>)>,
    /// Names whose calls wait whatever room there is, and until when: see [`Turn`].
    resting: HashMap<Arc<str>, Rest>,
    /// What may be taken from its holder, by name, oldest first.
    revocable: HashMap<Arc<str>, VecDeque<Revocable>>,
    next_id: u64,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    authority: Option<Arc<str>>,
}

#[derive(Debug)]
struct Waiter {
    amount: u64,
    granted: oneshot::Sender<Share>,
}

#[derive(Debug)]
struct Revocable {
    id: u64,
    owner: Owner,
    /// Whether its holder has begun to use it. Unused ones are revoked first.
    in_use: bool,
    revoked: CancellationToken,
}

/// A part of a [`Bound`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    bound: Arc<Bound>,
    owner: Owner,
    amount: AtomicU64,
    /// Of one that may be revoked.
    id: Option<u64>,
}

impl Bound {
    /// A bound of which nothing is held.
    #[must_use]
    pub fn new(limit: Limit) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Takes `amount`.
    ///
    /// # Errors
    /// [`Full`]
    pub fn take(self: &Arc<Self>, owner: &Owner, amount: u64) -> Result<Share, Full> {
        self.take_of(self.limit.most, owner, amount)
    }

    /// Takes `amount` as if the bound were only `most`: the rest is kept for something more urgent.
    ///
    /// # Errors
    /// [`Full`]
    pub fn take_of(self: &Arc<Self>, most: u64, owner: &Owner, amount: u64) -> Result<Share, Full> {
        let mut state = self.state();
        let limit = Limit { most: most.min(self.limit.most), ..self.limit };
        limit.check(owner, state.held(owner), amount)?;
        state.add(owner, amount);
        Ok(self.share(owner, amount))
    }

    /// Takes `amount` that was promised, whatever is held.
    #[must_use]
    pub fn promised(self: &Arc<Self>, owner: &Owner, amount: u64) -> Share {
        self.state().add(owner, amount);
        self.share(owner, amount)
    }

    /// Takes `amount` as soon as it is available. Names take turns, and each name's requests are met in their
    /// order.
    ///
    /// # Errors
    /// [`Full`] once `patience` is over.
    pub async fn wait(
        self: &Arc<Self>,
        owner: &Owner,
        amount: u64,
        patience: Duration,
    ) -> Result<Share, Full> {
        let (waiting, granted) = {
            let mut state = self.state();
            let waiting = state.queue(owner, amount);
            (waiting, state.grant(&self.limit))
        };
        self.hand_out(granted);
        match tokio::time::timeout(patience, waiting).await {
            Ok(Ok(share)) => Ok(share),
            // The waiter is dropped when its turn comes.
            _ => {
                let held = self.state().held(owner);
                Err(match self.limit.check(owner, held, amount) {
                    Err(full) => full,
                    // Room became free at the last moment, but others were first.
                    Ok(()) => Full {
                        what: self.limit.what,
                        key: self.limit.key,
                        whose: Whose::Name,
                        holder: owner.name().to_owned(),
                        used: held.name,
                        most: name_share(self.limit.most),
                        retry: self.limit.retry,
                    },
                })
            }
        }
    }

    /// Takes one of a resource that is held for long, and that may be revoked (`revoked`) when others need
    /// room. If everything is in use, or everything of one authority, the name that holds most loses its
    /// oldest. With `replace_own`, a name whose own share is full loses its own oldest, so there is always
    /// room.
    ///
    /// # Errors
    /// [`Full`], also if nobody holds more than the one that asks.
    pub fn take_revocable(
        self: &Arc<Self>,
        owner: &Owner,
        revoked: CancellationToken,
        replace_own: bool,
    ) -> Result<Share, Full> {
        let mut state = self.state();
        if let Err(full) = self.limit.check(owner, state.held(owner), 1) {
            let own = state.held(owner).name;
            let among = match full.whose {
                Whose::Authority => owner.authority(),
                Whose::Name | Whose::All => None,
            };
            let loser = match full.whose {
                Whose::Name => replace_own.then(|| Arc::clone(&owner.who)),
                Whose::Authority | Whose::All => state
                    .greatest(among)
                    .filter(|(_, holds)| replace_own || *holds > own.saturating_add(1))
                    .map(|(name, _)| name),
            };
            let Some(loser) = loser else { return Err(full) };
            state.revoke(&loser);
        }
        let id = state.next_id;
        state.next_id = state.next_id.wrapping_add(1);
        state.add(owner, 1);
        let held = state.revocable.entry(Arc::clone(&owner.who)).or_default();
        held.push_back(Revocable { id, owner: owner.clone(), in_use: false, revoked });
        drop(state);
        let mut share = self.share(owner, 1);
        share.id = Some(id);
        Ok(share)
    }

    /// What is held now.
    #[must_use]
    pub fn held(&self, owner: &Owner) -> Held {
        self.state().held(owner)
    }

    /// How much there is, for all.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.limit.most
    }

    /// How much is held, by all.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state().all
    }

    fn share(self: &Arc<Self>, owner: &Owner, amount: u64) -> Share {
        Share { bound: Arc::clone(self), owner: owner.clone(), amount: AtomicU64::new(amount), id: None }
    }

    /// Gives back, and hands over to calls that wait.
    fn give_back(self: &Arc<Self>, owner: &Owner, amount: u64, id: Option<u64>) {
        let granted = {
            let mut state = self.state();
            // What was revoked has been given back then.
            if id.is_some_and(|id| !state.forget(owner, id)) {
                return;
            }
            state.sub(owner, amount);
            state.grant(&self.limit)
        };
        self.hand_out(granted);
    }

    fn rested(self: &Arc<Self>, who: &Arc<str>) {
        let granted = {
            let mut state = self.state();
            if state.resting.get(who).is_some_and(|rest| rest.until <= Instant::now()) {
                state.resting.remove(who);
            }
            state.grant(&self.limit)
        };
        self.hand_out(granted);
    }

    fn hand_out(self: &Arc<Self>, granted: Vec<(Owner, Waiter)>) {
        for (owner, Waiter { amount, granted }) in granted {
            // A call that no longer waits gives it back here.
            drop(granted.send(self.share(&owner, amount)));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, owner: &Owner) -> Held {
        Held {
            name: self.names.get(&owner.who).copied().unwrap_or(0),
            authority: owner.authority().map(|by| self.authorities.get(by).copied().unwrap_or(0)),
            all: self.all,
        }
    }

    fn add(&mut self, owner: &Owner, amount: u64) {
        self.all = self.all.saturating_add(amount);
        let raise = |of: &mut HashMap<Arc<str>, u64>, name: &Arc<str>| {
            let held = of.entry(Arc::clone(name)).or_default();
            *held = held.saturating_add(amount);
        };
        raise(&mut self.names, &owner.who);
        if let Some(authority) = &owner.authority {
            raise(&mut self.authorities, authority);
        }
    }

    fn sub(&mut self, owner: &Owner, amount: u64) {
        self.all = self.all.saturating_sub(amount);
        let lower = |of: &mut HashMap<Arc<str>, u64>, name: &str| {
            if let Some(held) = of.get_mut(name) {
                *held = held.saturating_sub(amount);
                if *held == 0 {
                    of.remove(name);
                }
            }
        };
        lower(&mut self.names, &owner.who);
        if let Some(authority) = owner.authority() {
            lower(&mut self.authorities, authority);
        }
    }

    fn queue(&mut self, owner: &Owner, amount: u64) -> oneshot::Receiver<Share> {
        let (granted, receiver) = oneshot::channel();
        let waiter = Waiter { amount, granted };
        match self.waiting.iter_mut().find(|(name, _)| name == owner) {
            Some((_, queue)) => queue.push_back(waiter),
            None => self.waiting.push_back((owner.clone(), [waiter].into())),
        }
        receiver
    }

    /// Takes what is available now for the calls that wait: one for each name in turn, until none fits. A name that is passed
    /// over stays before all that come later.
    fn grant(&mut self, limit: &Limit) -> Vec<(Owner, Waiter)> {
        let mut granted = Vec::new();
        let mut passed_over = VecDeque::new();
        while let Some((owner, mut queue)) = self.waiting.pop_front() {
            while queue.front().is_some_and(|waiter| waiter.granted.is_closed()) {
                queue.pop_front();
            }
            // Room only becomes less here: what does not fit now is not tried again.
            if let Some(first) = queue.front()
                && !self.resting.contains_key(&owner.who)
                && limit.check(&owner, self.held(&owner), first.amount).is_ok()
                && let Some(first) = queue.pop_front()
            {
                self.add(&owner, first.amount);
                granted.push((owner.clone(), first));
                if !queue.is_empty() {
                    self.waiting.push_back((owner, queue));
                }
            } else if !queue.is_empty() {
                passed_over.push_back((owner, queue));
            }
        }
        self.waiting = passed_over;
        granted
    }

    /// Has a name rest after work that took so long; gives until when.
    fn rest(&mut self, owner: &Owner, took: Duration) -> Instant {
        let authority = owner.authority.clone();
        let now = Instant::now();
        let others = self.resting.iter().filter(|(who, rest)| {
            authority.is_some() && rest.authority == authority && **who != owner.who && rest.until > now
        });
        let names = u32::try_from(others.count()).unwrap_or(u32::MAX).saturating_add(1);
        let rest = took.saturating_mul(limits::LARGE_WORK_RESTS).saturating_mul(names);
        let until = now + rest.min(Duration::from_millis(limits::REST_MOST_MS));
        // A name may have several turns at a time.
        let own = self.resting.entry(Arc::clone(&owner.who)).or_insert(Rest { until, authority });
        own.until = own.until.max(until);
        own.until
    }

    /// The name that holds most of what may be revoked, of all or among those of one authority.
    fn greatest(&self, among: Option<&str>) -> Option<(Arc<str>, u64)> {
        let counts = self.revocable.iter().filter(|(_, held)| {
            among.is_none() || held.front().is_some_and(|first| first.owner.authority() == among)
        });
        let (name, held) = counts.max_by_key(|(_, held)| held.len())?;
        Some((Arc::clone(name), u64::try_from(held.len()).unwrap_or(u64::MAX)))
    }

    /// Takes its oldest from a name; first what nobody has begun to use.
    fn revoke(&mut self, name: &str) {
        let Some(held) = self.revocable.get_mut(name) else { return };
        let place = held.iter().position(|held| !held.in_use).unwrap_or(0);
        let Some(revoked) = held.remove(place) else { return };
        if held.is_empty() {
            self.revocable.remove(name);
        }
        self.sub(&revoked.owner, 1);
        revoked.revoked.cancel();
    }

    fn forget(&mut self, owner: &Owner, id: u64) -> bool {
        let Some(held) = self.revocable.get_mut(&owner.who) else { return false };
        let Some(place) = held.iter().position(|held| held.id == id) else { return false };
        held.remove(place);
        if held.is_empty() {
            self.revocable.remove(&owner.who);
        }
        true
    }
}

impl Share {
    /// Takes `amount` more.
    ///
    /// # Errors
    /// [`Full`]: it stays as it is.
    pub fn grow(&self, amount: u64) -> Result<(), Full> {
        let mut state = self.bound.state();
        self.bound.limit.check(&self.owner, state.held(&self.owner), amount)?;
        state.add(&self.owner, amount);
        self.amount.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Holds just `amount` from now on; more than before only as far as there is room.
    ///
    /// # Errors
    /// [`Full`]: it stays as it is.
    pub fn resize(&self, amount: u64) -> Result<(), Full> {
        let before = self.amount.load(Ordering::Relaxed);
        if amount > before {
            return self.grow(amount - before);
        }
        self.amount.store(amount, Ordering::Relaxed);
        self.bound.give_back(&self.owner, before - amount, None);
        Ok(())
    }

    /// Takes `amount` more that was promised, whatever is held.
    pub fn grow_promised(&self, amount: u64) {
        self.bound.state().add(&self.owner, amount);
        self.amount.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its holder has begun to use it: what is not used is revoked first.
    pub fn in_use(&self) {
        let mut state = self.bound.state();
        if let (Some(id), Some(held)) = (self.id, state.revocable.get_mut(&self.owner.who))
            && let Some(own) = held.iter_mut().find(|held| held.id == id)
        {
            own.in_use = true;
        }
    }
}

/// A turn at work of which everybody's processors suffer. After large work its name has no further turn for three times as
/// long as that took, multiplied by the number of names of its authority that rest, itself included, and for two seconds at
/// most: one that does it again and again leaves most of the time to others.
#[derive(Debug)]
pub struct Turn {
    share: Share,
    began: Instant,
    is_large: bool,
}

impl Turn {
    /// A turn that begins now, at work of about `bytes`.
    #[must_use]
    pub fn begin(share: Share, bytes: u64) -> Self {
        Self { share, began: Instant::now(), is_large: bytes >= limits::LARGE_WORK_BYTES }
    }
}

/// Does `work`; if it is large, off the threads that serve everybody.
///
/// # Errors
/// [`Error::Stopping`]
pub async fn aside<R: Send + 'static>(
    is_large: bool,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
    match is_large {
        false => Ok(work()),
        // A thread that does not come back was cut off at the end of the process.
        true => tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopping),
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // At the end of the process nobody waits for it.
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| self.is_large) else {
            return;
        };
        let (bound, owner) = (Arc::clone(&self.share.bound), self.share.owner.clone());
        let took = self.began.elapsed();
        let until = bound.state().rest(&owner, took);
        let who = owner.who;
        runtime.spawn(async move {
            tokio::time::sleep_until(until).await;
            bound.rested(&who);
        });
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let amount = self.amount.load(Ordering::Relaxed);
        self.bound.give_back(&self.owner, amount, self.id);
    }
}

#[cfg(test)]
mod tests;
