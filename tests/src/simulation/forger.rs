//! A coordinator in other hands for a moment: it has the log's key, and asks for what its log does not say.

use super::*;

/// The requester that is in no log.
const MALLORY: &str = "mallory";

impl World<'_> {
    /// One batch in a hundred of a storm is changed, so that no honest node may give a share for it, nor a cosignature for
    /// its head. Its answer belongs to no session: the engine waits in vain, and goes on.
    pub(super) fn forge(&mut self, node: &NodeId, batch: Batch) -> Batch {
        if !self.stormy || !self.rng.gen_bool(0.01) {
            return batch;
        }
        let mut forged = batch;
        forged.id = BatchId(forged.id.0 | 1 << 63);
        for item in &mut forged.items {
            item.requester = Requester::new(MALLORY).unwrap();
        }
        // Of a log of which a node has seen nothing yet any fork looks like the log itself: only others can tell.
        let seen = self.nodes[node].log.head.as_ref().map_or(0, |kept| kept.head.size);
        let what = match self.rng.gen_range(0..if seen > 0 { 4 } else { 3 }) {
            0 => "under another's entry",
            1 => {
                forged.items.iter_mut().for_each(|item| item.entry = None);
                "without an entry"
            }
            2 => {
                self.name_leaves(&mut forged);
                "under a leaf that is not there"
            }
            _ => {
                self.fork_log(&mut forged, seen);
                "under a forked log"
            }
        };
        self.tell(format!("{node} is asked for what nobody asked for, {what}"));
        forged
    }

    /// Every entry's leaf is what the node will encode, but the proofs are those of the log.
    fn name_leaves(&self, batch: &mut Batch) {
        for item in &mut batch.items {
            let mut scratch = self.coordinator.log.fork(0);
            let terms = self.terms(&item.release_id, &item.requester);
            let leaf = scratch.log_release(&item.release, &terms).leaf;
            if let Some(entry) = &mut item.entry {
                entry.leaf = leaf;
            }
        }
    }

    /// Another log under the same key, in which the request stands instead of the last entry that the node has `seen`.
    fn fork_log(&self, batch: &mut Batch, seen: u64) {
        let mut fork = self.coordinator.log.fork(seen - 1);
        for item in &mut batch.items {
            let terms = self.terms(&item.release_id, &item.requester);
            item.entry = Some(fork.log_release(&item.release, &terms));
        }
        let from = batch.head.as_ref().map_or(0, |head| head.from);
        fork.complete(batch, from);
    }
}
