//! The usable keys, as public material: signed rosters in the order in which they became usable.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use rutli_keys::{KeyName, NodeId, Purpose, RosterHash, SignedRoster};
use rutli_log::Cosigner;
use rutli_release::ReleaseKey;
use rutli_wire::{convert::key_to_wire, v1};

/// A handle; clones share the same keys.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Arc<RwLock<Keys>>);

#[derive(Debug, Default)]
struct Keys {
    /// Which key signs releases, if the operator chose.
    chosen: Option<KeyName>,
    rosters: Vec<SignedRoster>,
    /// By name, in the newest epoch; parsed once, for its subgroup check costs as much as verifying a signature.
    release_keys: BTreeMap<KeyName, ReleaseKey>,
}

impl Keyring {
    /// No keys yet. Releases are signed with the `chosen` key, or else with the first one of that purpose.
    #[must_use]
    pub fn new(chosen: Option<KeyName>) -> Self {
        Self(Arc::new(RwLock::new(Keys { chosen, ..Keys::default() })))
    }

    /// The newest roster of the key that signs releases.
    #[must_use]
    pub fn active(&self) -> Option<SignedRoster> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let for_releases = |key: &&SignedRoster| key.roster().purpose() == Purpose::Release;
        let name = match &keys.chosen {
            Some(chosen) => chosen.clone(),
            None => keys.rosters.iter().find(for_releases)?.roster().key().clone(),
        };
        keys.rosters.iter().filter(for_releases).rfind(|key| *key.roster().key() == name).cloned()
    }

    /// The roster under a hash.
    #[must_use]
    pub fn roster(&self, hash: &RosterHash) -> Option<SignedRoster> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.rosters.iter().find(|key| key.roster().hash() == *hash).cloned()
    }

    /// Adds a key, or a new epoch of one. One that is there already changes nothing.
    pub fn add(&self, roster: SignedRoster) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.rosters.iter().all(|key| key.roster().hash() != roster.roster().hash()) {
            let name = roster.roster().key().clone();
            match ReleaseKey::from_bytes(roster.roster().group_key()) {
                Ok(key) => keys.release_keys.insert(name, key),
                Err(_) => keys.release_keys.remove(&name),
            };
            keys.rosters.push(roster);
        }
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<SignedRoster> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).rosters.clone()
    }

    /// The public key under a name, in its newest epoch. None if there is no such key, or if it is not one that
    /// verifiers would take.
    #[must_use]
    pub fn release_key(&self, name: &KeyName) -> Option<ReleaseKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).release_keys.get(name).copied()
    }

    /// Every node that holds a share of a key, as a cosigner of the log.
    #[must_use]
    pub fn cosigners(&self) -> BTreeMap<NodeId, Cosigner> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.rosters
            .iter()
            .flat_map(|key| key.roster().nodes())
            .filter_map(|node| {
                let cosigner = Cosigner::new(node.id.to_string(), &node.identity.to_bytes()).ok()?;
                Some((node.id.clone(), cosigner))
            })
            .collect()
    }

    /// Whether a name is taken.
    #[must_use]
    pub fn has(&self, name: &KeyName) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .rosters
            .iter()
            .any(|key| key.roster().key() == name)
    }

    /// The first key that was made for releases. Whoever holds a part of it has a say in every later one.
    #[must_use]
    pub fn first(&self) -> Option<SignedRoster> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.rosters.iter().find(|key| key.roster().purpose() == Purpose::Release).cloned()
    }

    /// All of them for the wire.
    #[must_use]
    pub fn messages(&self) -> Vec<v1::Key> {
        self.all().iter().map(key_to_wire).collect()
    }
}
