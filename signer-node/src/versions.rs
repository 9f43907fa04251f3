//! Which versions this node permitted in each channel, and under which content first: for `context.versionIsNew`.

use std::collections::BTreeMap;

use rutli_release::{ChannelKey, Version};
use sha2::{Digest as _, Sha256};

use crate::limits;

/// Half of a SHA-256: nobody can make two contents collide in it.
type Half = [u8; 16];

/// See the module. In memory, for it is asked about with every decision.
#[derive(Debug, Default)]
pub struct Versions(BTreeMap<Half, Half>);

impl Versions {
    /// Whether no other content than this one was permitted under a version. If there is no room to remember
    /// more, an unknown version counts as used: when in doubt, nothing is signed.
    #[must_use]
    pub fn is_new(&self, channel: &ChannelKey, version: &Version, digest: &[u8; 32]) -> bool {
        match self.0.get(&name(channel, version)) {
            Some(first) => *first == half(digest),
            None => self.0.len() < limits::MAX_VERSIONS,
        }
    }

    /// A release of this digest was permitted under a version. The first one stays.
    pub fn note(&mut self, channel: &ChannelKey, version: &Version, digest: &[u8; 32]) {
        if self.0.len() < limits::MAX_VERSIONS {
            self.0.entry(name(channel, version)).or_insert_with(|| half(digest));
        }
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

    #[test]
    fn what_there_is_no_room_for_is_not_new() {
        let mut versions = Versions::default();
        let suite = release("suite", 1, 1).channel_key();
        let version = |number: usize| Version::new(number.to_string()).unwrap();
        (0..=limits::MAX_VERSIONS).for_each(|number| versions.note(&suite, &version(number), &[1; 32]));
        assert_eq!(versions.0.len(), limits::MAX_VERSIONS);
        assert!(versions.is_new(&suite, &version(0), &[1; 32]));
        assert!(!versions.is_new(&suite, &version(limits::MAX_VERSIONS), &[1; 32]));
    }
}
