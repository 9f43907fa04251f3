//! The known sequence numbers of channels: what was signed, and what nodes have permitted.
//!
//! Not durable, and bounded: the nodes have the real marks, and the store has what was signed. The next
//! refusal reports again what is forgotten here.

use std::collections::{BTreeMap, HashMap, VecDeque};

use rutli_keys::{NodeId, Roster};
use rutli_release::{ChannelKey, Sequence};

use crate::limits;

/// See the module.
#[derive(Debug, Default)]
pub struct Numbers {
    channels: HashMap<ChannelKey, Known>,
    /// In the order in which they became known.
    order: VecDeque<ChannelKey>,
}

/// Of one channel.
#[derive(Debug, Default)]
struct Known {
    signed: Option<Sequence>,
    marks: BTreeMap<NodeId, Sequence>,
}

impl Numbers {
    /// A release is signed, durably.
    pub fn signed(&mut self, channel: &ChannelKey, sequence: Sequence) {
        let known = self.known(channel);
        known.signed = known.signed.max(Some(sequence));
    }

    /// The highest signed sequence, as far as is known here.
    #[must_use]
    pub fn signed_in(&self, channel: &ChannelKey) -> Option<Sequence> {
        self.channels.get(channel)?.signed
    }

    /// A node reported its mark, or permitted a sequence.
    pub fn told(&mut self, channel: &ChannelKey, node: &NodeId, mark: Sequence) {
        self.known(channel).marks.insert(node.clone(), mark);
    }

    /// A release ended unsigned, and these nodes may have permitted it.
    pub fn left<'a>(
        &mut self,
        channel: &ChannelKey,
        sequence: Sequence,
        nodes: impl Iterator<Item = &'a NodeId>,
    ) {
        for node in nodes {
            let mark = self.known(channel).marks.entry(node.clone()).or_insert(sequence);
            *mark = (*mark).max(sequence);
        }
    }

    /// The lowest sequence above what is signed, above the marks, and above what is `used` within a step of
    /// these. A request for a number far away therefore takes nobody's number.
    #[must_use]
    pub fn next(
        &self,
        channel: &ChannelKey,
        signed: Option<Sequence>,
        roster: Option<&Roster>,
        used: impl Iterator<Item = Sequence>,
    ) -> Option<Sequence> {
        let known = self.channels.get(channel);
        let marks = roster.zip(known).and_then(|(roster, known)| known.quorum_mark(roster));
        let floor = signed.max(marks).max(known.and_then(|known| known.signed)).map_or(0, Sequence::get);
        let reach = floor.saturating_add(limits::NEXT_REACH);
        let used = used.map(Sequence::get).filter(|sequence| *sequence < reach);
        let highest = used.max().unwrap_or(0).max(floor);
        Sequence::new(highest.saturating_add(1)).ok()
    }

    fn known(&mut self, channel: &ChannelKey) -> &mut Known {
        if !self.channels.contains_key(channel) {
            self.order.push_back(channel.clone());
            while self.order.len() > limits::KNOWN_CHANNELS {
                if let Some(oldest) = self.order.pop_front() {
                    self.channels.remove(&oldest);
                }
            }
        }
        self.channels.entry(channel.clone()).or_default()
    }
}

impl Known {
    /// The highest sequence that some organisation can no longer sign, because the nodes that have not
    /// permitted it, or a higher one, are fewer than its threshold. A single node cannot close a channel,
    /// unless its organisation cannot do without it.
    fn quorum_mark(&self, roster: &Roster) -> Option<Sequence> {
        let of = |organisation: &rutli_keys::RosterOrganisation| {
            let mut marks: Vec<Option<Sequence>> =
                organisation.nodes.iter().map(|node| self.marks.get(&node.id).copied()).collect();
            marks.sort_unstable();
            let threshold = usize::from(organisation.threshold);
            marks.get(threshold.saturating_sub(1)).copied().flatten()
        };
        roster.organisations().iter().filter_map(of).max()
    }
}

#[cfg(test)]
mod tests {
    use rutli_keys::rehearsal::Cast;
    use rutli_release::{Channel, Class, Product};

    use super::*;

    fn channel(product: &str) -> ChannelKey {
        let (product, channel) = (Product::new(product).unwrap(), Channel::new("stable").unwrap());
        ChannelKey { class: Class::ProductBuild, product, channel }
    }

    fn number(number: u64) -> Sequence {
        Sequence::new(number).unwrap()
    }

    #[test]
    fn the_next_one_is_above_what_a_quorum_has_permitted() {
        let cast = Cast::new(&[("vendor", 2, 3), ("supervisor", 1, 1)], &["release"], [3; 32]).unwrap();
        let rosters = cast.run().unwrap().rosters;
        let roster = rosters[0].roster();
        let node = |organisation, name| NodeId::new(organisation, name).unwrap();
        let suite = channel("suite");
        let mut numbers = Numbers::default();
        let next = |numbers: &Numbers, signed: Option<u64>, used: &[u64]| {
            let used = used.iter().copied().map(number);
            numbers.next(&suite, signed.map(number), Some(roster), used).map(Sequence::get)
        };
        assert_eq!(next(&numbers, None, &[]), Some(1));
        assert_eq!(next(&numbers, Some(7), &[3, 9]), Some(10));
        assert_eq!(next(&numbers, Some(7), &[(1 << 53) - 1]), Some(8), "what is far away takes nobody's");
        // A lying node closes nothing as long as the others are enough.
        numbers.told(&suite, &node("vendor", "vendor-1"), number((1 << 53) - 1));
        assert_eq!(next(&numbers, Some(7), &[]), Some(8));
        numbers.told(&suite, &node("vendor", "vendor-2"), number(20));
        assert_eq!(next(&numbers, Some(7), &[]), Some(21), "two must sign");
        numbers.left(&suite, number(15), [node("vendor", "vendor-3")].iter());
        numbers.told(&suite, &node("vendor", "vendor-2"), number(10));
        assert_eq!(next(&numbers, Some(7), &[]), Some(16), "it may have permitted what it never answered to");
        numbers.told(&suite, &node("supervisor", "supervisor-1"), number(30));
        assert_eq!(next(&numbers, Some(7), &[]), Some(31));
        numbers.signed(&suite, number((1 << 53) - 1));
        assert_eq!(next(&numbers, Some(7), &[]), None);
        assert_eq!(numbers.next(&channel("other"), None, Some(roster), std::iter::empty()), Some(number(1)));
    }

    #[test]
    fn there_is_room_for_so_many_channels() {
        let mut numbers = Numbers::default();
        for product in 0..=limits::KNOWN_CHANNELS {
            numbers.signed(&channel(&format!("p{product}")), number(1));
        }
        assert_eq!(
            (numbers.channels.len(), numbers.order.len()),
            (limits::KNOWN_CHANNELS, limits::KNOWN_CHANNELS)
        );
        assert_eq!(numbers.signed_in(&channel("p0")), None);
        assert_eq!(numbers.signed_in(&channel("p1")), Some(number(1)));
    }
}
