//! Which versions this node permitted in each channel, and under which content first: for `context.versionIsNew`.

use std::collections::BTreeMap;

use rutli_release::{ChannelKey, Class, Product, Version};
use sha2::{Digest as _, Sha256};

use crate::limits;

/// Half of a SHA-256: nobody can make two contents collide in it.
type Half = [u8; 16];

/// See the module. In memory, for it is asked about with every decision.
#[derive(Debug, Default)]
pub struct Versions {
    first: BTreeMap<Half, Half>,
    /// How many there are of each class and product.
    held: BTreeMap<(Class, Product), usize>,
}

impl Versions {
    /// Whether no other content than this one was permitted under a version. Where there is no room to remember more, what
    /// is not known counts as used: no doubt is resolved towards signing.
    #[must_use]
    pub fn is_new(&self, channel: &ChannelKey, version: &Version, digest: &[u8; 32]) -> bool {
        match self.first.get(&name(channel, version)) {
            Some(first) => *first == half(digest),
            None => self.has_room(channel),
        }
    }

    /// A release of this digest was permitted under a version. The first one stays.
    pub fn note(&mut self, channel: &ChannelKey, version: &Version, digest: &[u8; 32]) {
        let name = name(channel, version);
        if self.has_room(channel) && !self.first.contains_key(&name) {
            self.first.insert(name, half(digest));
            *self.held.entry((channel.class, channel.product.clone())).or_default() += 1;
        }
    }

    fn has_room(&self, channel: &ChannelKey) -> bool {
        let own = self.held.get(&(channel.class, channel.product.clone())).copied().unwrap_or(0);
        limits::has_room(limits::MAX_VERSIONS, own, self.first.len())
    }
}

fn name(channel: &ChannelKey, version: &Version) -> Half {
    // No name has a space in it.
    half(&Sha256::digest(format!("{channel} {version}")).into())
}

fn half(digest: &[u8; 32]) -> Half {
    let (half, _) = digest.split_first_chunk().unwrap_or((&[0; 16], &[]));
    *half
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;

    #[test]
    fn a_version_belongs_to_the_first_content_that_had_it() {
        let mut versions = Versions::default();
        let (suite, other) = (release("suite", 1, 1).channel_key(), release("other", 1, 1).channel_key());
        let version = Version::new("1.0").unwrap();
        assert!(versions.is_new(&suite, &version, &[1; 32]));
        versions.note(&suite, &version, &[1; 32]);
        versions.note(&suite, &version, &[2; 32]);
        assert!(versions.is_new(&suite, &version, &[1; 32]), "it comes again");
        assert!(!versions.is_new(&suite, &version, &[2; 32]));
        assert!(versions.is_new(&other, &version, &[2; 32]));
        assert!(versions.is_new(&suite, &Version::new("1.0.1").unwrap(), &[2; 32]));
    }

    /// What there is no room for is not new; and one product takes no room of another.
    #[test]
    fn what_there_is_no_room_for_is_not_new() {
        let mut versions = Versions::default();
        let (suite, other) = (release("suite", 1, 1).channel_key(), release("other", 1, 1).channel_key());
        let version = |number: usize| Version::new(number.to_string()).unwrap();
        let share = limits::MAX_VERSIONS / 4;
        (0..=limits::MAX_VERSIONS).for_each(|number| versions.note(&suite, &version(number), &[1; 32]));
        assert_eq!(versions.first.len(), share);
        assert!(versions.is_new(&suite, &version(0), &[1; 32]));
        assert!(!versions.is_new(&suite, &version(share), &[1; 32]));
        assert!(versions.is_new(&other, &version(share), &[1; 32]));
        versions.note(&other, &version(share), &[1; 32]);
        assert!(!versions.is_new(&other, &version(share), &[2; 32]));
    }
}
