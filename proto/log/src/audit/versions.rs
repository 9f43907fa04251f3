//! The versions of recently signed releases: two contents with one version in a channel are a finding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::order::{Asked, Said};
use crate::{
    finding::{Code, Finding},
    hash::{Hash, sha256},
    limits::MAX_VERSIONS,
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Versions(BTreeMap<Hash, First>);

/// The release that had a version first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    /// Index of its request.
    index: u64,
    statement: Hash,
}

impl Versions {
    /// Takes note that a request was signed, and says whether another one with its version was.
    pub(super) fn sign(&mut self, said: Said, asked: &Asked) -> Option<Finding> {
        let Asked { channel, version, index, statement, .. } = asked;
        let name = sha256(format!("{channel} {version}").as_bytes());
        let first = self.0.entry(name).or_insert(First { index: *index, statement: *statement });
        let finding = (first.statement != *statement).then(|| {
            let text = format!(
                "in {channel} the version {version} was signed twice with different content (entries {} and {index})",
                first.index
            );
            Finding::at(Code::VersionRepeated, said.at, text)
        });
        self.keep_bounded();
        finding
    }

    /// Forgets an eighth at once, so that it costs each entry little.
    fn keep_bounded(&mut self) {
        if self.0.len() <= MAX_VERSIONS {
            return;
        }
        let mut indices: Vec<u64> = self.0.values().map(|first| first.index).collect();
        indices.sort_unstable();
        let oldest = indices.get(MAX_VERSIONS / 8).copied().unwrap_or(u64::MAX);
        self.0.retain(|_, first| first.index > oldest);
    }
}
