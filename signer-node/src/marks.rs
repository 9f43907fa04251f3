//! The node's own high-water marks: in each channel of a product and class the sequence goes up, never back,
//! and no sequence is permitted twice with other content. It goes up by at most what the custodian permits
//! ([`Steps`]), so that one permitted release cannot use up a channel's numbers.
//!
//! A release that was permitted once may come again with the same content, for its quorum may have failed after this
//! node signed: the last [`limits::RETRY_WINDOW`] permitted sequences of a channel are kept for that.

use std::collections::BTreeMap;

use rutli_release::{ChannelKey, Sequence, VerifiedRelease, Version};
use rutli_wire::link::{Refusal, RefusalCode};

use crate::{limits, versions::Versions};

/// Whether a permission is new to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It must be made durable before a share leaves.
    New,
    /// It is durable already.
    Durable,
}

/// How far a sequence may go up at once, as the custodian configured it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Above the mark of the channel, or above what `first` says where that is higher.
    pub max_step: u64,
    /// Where the numbers of a channel begin, or continue.
    pub first: BTreeMap<ChannelKey, Sequence>,
}

/// Permitted sequences and versions of every channel.
#[derive(Debug, Default)]
pub struct Marks {
    channels: BTreeMap<ChannelKey, BTreeMap<u64, Permitted>>,
    versions: Versions,
    steps: Steps,
}

#[derive(Debug)]
struct Permitted {
    digest: [u8; 32],
    version: Version,
    /// Unix seconds when it was first permitted.
    at: u64,
    durable: bool,
}

/// A permitted sequence, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of this class, product and channel.
    pub channel: ChannelKey,
    /// Which one.
    pub sequence: u64,
    /// Of the release ([`VerifiedRelease::digest`]).
    pub digest: [u8; 32],
    /// Of the release.
    pub version: Version,
    /// Unix seconds when it was first permitted.
    pub at: u64,
}

/// What the marks say of a release before it is decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The highest sequence that was permitted in its channel before it, with its version. A release that
    /// comes again does not precede itself, and neither does a later one.
    pub previous: Option<(Sequence, Version)>,
    /// Whether no other content was permitted under its version in its channel.
    pub version_is_new: bool,
    /// Unix seconds when this very release was first permitted.
    pub permitted_at: Option<u64>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { max_step: limits::MAX_STEP, first: BTreeMap::new() }
    }
}

impl Steps {
    /// The highest sequence that is permitted after a mark.
    fn highest(&self, channel: &ChannelKey, mark: u64) -> u64 {
        let first = self.first.get(channel).map_or(0, |first| first.get());
        mark.max(first).saturating_add(self.max_step)
    }
}

impl Marks {
    /// From the journal: its marks, and the versions that its lines name.
    pub fn from_rows(rows: impl IntoIterator<Item = Mark>, versions: Versions) -> Self {
        let mut marks = Self { versions, ..Self::default() };
        for Mark { channel, sequence, digest, version, at } in rows {
            let window = marks.channels.entry(channel).or_default();
            window.insert(sequence, Permitted { digest, version, at, durable: true });
            shorten(window);
        }
        marks
    }

    /// As the custodian's configuration has it.
    #[must_use]
    pub fn with_steps(self, steps: Steps) -> Self {
        Self { steps, ..self }
    }

    /// The highest permitted sequence of a channel.
    #[must_use]
    pub fn mark(&self, channel: &ChannelKey) -> Option<Sequence> {
        let (mark, _) = self.channels.get(channel)?.last_key_value()?;
        Sequence::new(*mark).ok()
    }

    /// What was permitted before a release, and whether it was permitted itself.
    #[must_use]
    pub fn history(&self, release: &VerifiedRelease, digest: [u8; 32]) -> History {
        let channel = release.channel_key();
        let version_is_new = self.versions.is_new(&channel, release.version(), &digest);
        let Some(window) = self.channels.get(&channel) else {
            return History { version_is_new, ..History::default() };
        };
        let sequence = release.sequence().get();
        let again = window.get(&sequence).filter(|permitted| permitted.digest == digest);
        let previous = match again {
            Some(_) => window.range(..sequence).next_back(),
            None => window.last_key_value(),
        };
        let named = |(sequence, permitted): (&u64, &Permitted)| {
            Some((Sequence::new(*sequence).ok()?, permitted.version.clone()))
        };
        History {
            previous: previous.and_then(named),
            version_is_new,
            permitted_at: again.map(|permitted| permitted.at),
        }
    }

    /// Says why the sequence of a release forbids it, if it does.
    pub fn check(&self, release: &VerifiedRelease, digest: [u8; 32]) -> Result<(), Refusal> {
        let channel = release.channel_key();
        let refuse = |code, reason| Err(Refusal::new(code, reason));
        let window = self.channels.get(&channel);
        if window.is_none() && !self.has_room(&channel) {
            let reason = format!(
                "this node keeps marks for {} channels of {} and has no room for another: use one of these, or have its custodian name \
                 the channels in its policies",
                self.channels_of(&channel),
                channel.product
            );
            return refuse(RefusalCode::NotAllowed, reason);
        }
        let sequence = release.sequence().get();
        if let Some(permitted) = window.and_then(|window| window.get(&sequence)) {
            if permitted.digest == digest {
                return Ok(());
            }
            let reason = format!(
                "sequence {sequence} of {channel} was permitted before with other content; take the next sequence"
            );
            return refuse(RefusalCode::SequenceConflict, reason);
        }
        let mark = window.and_then(|window| window.last_key_value()).map_or(0, |(mark, _)| *mark);
        if sequence < mark {
            let reason = format!(
                "sequence {sequence} of {channel} is behind {mark}, which this node permitted already; take a higher one"
            );
            return refuse(RefusalCode::SequenceBehind, reason);
        }
        let highest = self.steps.highest(&channel, mark);
        if sequence > highest {
            let reason = format!(
                "sequence {sequence} of {channel} is too far above {mark}, this node's high-water mark; take one up to \
                 {highest}, or have its custodian set [[first]] or max_step in node.toml"
            );
            return refuse(RefusalCode::SequenceStep, reason);
        }
        Ok(())
    }

    fn has_room(&self, channel: &ChannelKey) -> bool {
        limits::has_room(limits::MAX_CHANNELS, self.channels_of(channel), self.channels.len())
    }

    /// How many channels of the same product and class there are.
    fn channels_of(&self, channel: &ChannelKey) -> usize {
        let is_of = |other: &&ChannelKey| other.class == channel.class && other.product == channel.product;
        self.channels.keys().filter(is_of).count()
    }

    /// Admits a release, or says why its sequence forbids it. `New` until [`Marks::settle`] says that it is durable. `now` in
    /// Unix seconds.
    pub fn admit(
        &mut self,
        release: &VerifiedRelease,
        digest: [u8; 32],
        now: u64,
    ) -> Result<Novelty, Refusal> {
        self.check(release, digest)?;
        let (channel, version) = (release.channel_key(), release.version().clone());
        self.versions.note(&channel, &version, &digest);
        let window = self.channels.entry(channel).or_default();
        let permitted = window.entry(release.sequence().get());
        let permitted = permitted.or_insert(Permitted { digest, version, at: now, durable: false });
        let novelty = if permitted.durable { Novelty::Durable } else { Novelty::New };
        shorten(window);
        Ok(novelty)
    }

    /// The journal has it.
    pub fn settle(&mut self, channel: &ChannelKey, sequence: u64) {
        if let Some(permitted) = self.channels.get_mut(channel).and_then(|window| window.get_mut(&sequence)) {
            permitted.durable = true;
        }
    }

    /// Nothing was permitted later than this: the custodian vouched for a clock that was set back.
    pub fn not_after(&mut self, now: u64) {
        for permitted in self.channels.values_mut().flat_map(BTreeMap::values_mut) {
            permitted.at = permitted.at.min(now);
        }
    }

    /// The highest permitted sequence of each channel.
    pub fn highest(&self) -> impl Iterator<Item = (&ChannelKey, u64)> {
        let highest = |(channel, window): (_, &BTreeMap<u64, Permitted>)| {
            window.last_key_value().map(|(sequence, _)| (channel, *sequence))
        };
        self.channels.iter().filter_map(highest)
    }
}

fn shorten(window: &mut BTreeMap<u64, Permitted>) {
    while window.len() > limits::RETRY_WINDOW {
        window.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use rutli_release::{Class, UnverifiedRelease};

    use super::*;
    use crate::testing::{release, release_of};

    #[test]
    fn a_sequence_goes_up_and_never_back() {
        let mut marks = Marks::default();
        let admit = |marks: &mut Marks, sequence| marks.admit(&release("suite", sequence, 1), [1; 32], 50);
        assert_eq!(admit(&mut marks, 5), Ok(Novelty::New));
        assert_eq!(admit(&mut marks, 4).unwrap_err().code, RefusalCode::SequenceBehind);
        assert_eq!(admit(&mut marks, 6), Ok(Novelty::New));
        assert_eq!(marks.highest().map(|(_, sequence)| sequence).collect::<Vec<_>>(), [6]);
        // Another product is another channel.
        assert_eq!(marks.admit(&release("avdb", 1, 1), [1; 32], 50), Ok(Novelty::New));
        // Classes are separate too: a database's number does not raise a build's.
        let database = release_of(Class::AvDatabase, "suite", 900, 1);
        assert_eq!(marks.admit(&database, [1; 32], 50), Ok(Novelty::New));
        assert_eq!(admit(&mut marks, 7), Ok(Novelty::New));
    }

    #[test]
    fn a_sequence_goes_up_by_a_bounded_step() {
        let admit = |marks: &mut Marks, sequence| {
            let admitted = marks.admit(&release("suite", sequence, 1), [1; 32], 50);
            admitted.map_err(|refusal| refusal.code)
        };
        let mut marks = Marks::default();
        for far in [limits::MAX_STEP + 1, (1 << 53) - 1] {
            assert_eq!(admit(&mut marks, far), Err(RefusalCode::SequenceStep), "above nothing");
        }
        assert_eq!(admit(&mut marks, limits::MAX_STEP), Ok(Novelty::New));
        assert_eq!(admit(&mut marks, 2 * limits::MAX_STEP + 1), Err(RefusalCode::SequenceStep));
        assert_eq!(admit(&mut marks, 2 * limits::MAX_STEP), Ok(Novelty::New));
        // As the custodian configures it: another step, and numbers that begin, or continue, elsewhere.
        let channel = release("suite", 1, 1).channel_key();
        let first = [(channel, Sequence::new(20_260_000).unwrap())].into();
        let mut marks = marks.with_steps(Steps { max_step: 10, first });
        assert_eq!(admit(&mut marks, 20_260_011), Err(RefusalCode::SequenceStep));
        assert_eq!(admit(&mut marks, 20_260_010), Ok(Novelty::New));
        assert_eq!(admit(&mut marks, 20_260_021), Err(RefusalCode::SequenceStep));
    }

    /// A refused release moves no mark and uses no version.
    #[test]
    fn what_is_refused_leaves_no_trace() {
        let mut marks = Marks::default();
        marks.admit(&release("suite", 1, 1), [1; 32], 50).unwrap();
        for sequence in [1, 5_000] {
            assert!(marks.admit(&release("suite", sequence, 1), [2; 32], 50).is_err());
        }
        assert_eq!(marks.mark(&release("suite", 1, 1).channel_key()), Sequence::new(1).ok());
        assert!(marks.history(&release("suite", 5_000, 1), [3; 32]).version_is_new);
    }

    #[test]
    fn the_same_sequence_comes_again_with_the_same_content_only() {
        let mut marks = Marks::default();
        let suite = release("suite", 5, 1);
        assert_eq!(marks.admit(&suite, [1; 32], 50), Ok(Novelty::New));
        assert_eq!(marks.admit(&suite, [2; 32], 50).unwrap_err().code, RefusalCode::SequenceConflict);
        // Not durable yet: it must be journaled again, for the first try may have failed.
        assert_eq!(marks.admit(&suite, [1; 32], 50), Ok(Novelty::New));
        marks.settle(&suite.channel_key(), 5);
        assert_eq!(marks.admit(&suite, [1; 32], 50), Ok(Novelty::Durable));
        marks.admit(&release("suite", 9, 1), [3; 32], 50).unwrap();
        assert_eq!(
            marks.admit(&suite, [1; 32], 50),
            Ok(Novelty::Durable),
            "a retry may come after a later release"
        );
    }

    #[test]
    fn marks_survive_a_restart() {
        let suite = release("suite", 5, 1);
        let row = Mark {
            channel: suite.channel_key(),
            sequence: 5,
            digest: [1; 32],
            version: suite.version().clone(),
            at: 50,
        };
        let mut marks = Marks::from_rows([row], Versions::default());
        assert_eq!(marks.admit(&suite, [2; 32], 50).unwrap_err().code, RefusalCode::SequenceConflict);
        assert_eq!(
            marks.admit(&release("suite", 4, 1), [1; 32], 50).unwrap_err().code,
            RefusalCode::SequenceBehind
        );
    }

    /// The same answer for all batches of a release, whatever was permitted between them.
    #[test]
    fn a_release_that_comes_again_is_not_before_itself() {
        let mut marks = Marks::default();
        let history =
            |marks: &Marks, sequence, digest| marks.history(&release("suite", sequence, 1), [digest; 32]);
        let previous = |sequence: u64| {
            Some((Sequence::new(sequence).unwrap(), Version::new(format!("1.0.{sequence}")).unwrap()))
        };
        let told =
            |previous, version_is_new, permitted_at| History { previous, version_is_new, permitted_at };
        assert_eq!(history(&marks, 5, 1), told(None, true, None));
        marks.admit(&release("suite", 5, 1), [1; 32], 50).unwrap();
        marks.admit(&release("suite", 7, 1), [2; 32], 60).unwrap();
        assert_eq!(history(&marks, 9, 3), told(previous(7), true, None));
        assert_eq!(history(&marks, 7, 2), told(previous(5), true, Some(60)));
        assert_eq!(history(&marks, 5, 1), told(None, true, Some(50)));
        // Another content under a used sequence was never permitted, and its version names another release.
        assert_eq!(history(&marks, 7, 9), told(previous(7), false, None));
        marks.not_after(55);
        assert_eq!(history(&marks, 7, 2).permitted_at, Some(55));
    }

    #[test]
    fn the_window_and_the_channels_are_bounded() {
        let mut marks = Marks::default();
        for sequence in 1..=(limits::RETRY_WINDOW as u64 + 10) {
            marks.admit(&release("suite", sequence, 1), [1; 32], 50).unwrap();
        }
        assert_eq!(marks.channels.values().map(BTreeMap::len).max(), Some(limits::RETRY_WINDOW));
        assert_eq!(
            marks.admit(&release("suite", 1, 1), [1; 32], 50).unwrap_err().code,
            RefusalCode::SequenceBehind
        );
    }

    /// A product whose pipeline takes one channel after the other leaves room for all others, and keeps those that it has.
    #[test]
    fn a_product_takes_no_channels_of_another() {
        let mut marks = Marks::default();
        let mut admit = |product: &str, channel: usize| {
            let release = release(product, 1, 1);
            let release = UnverifiedRelease { channel: format!("c{channel}"), ..(&release).into() };
            marks.admit(&release.verify().unwrap(), [1; 32], 50).map_err(|refusal| refusal.code)
        };
        let share = limits::MAX_CHANNELS / 4;
        for channel in 0..share {
            admit("busy", channel).unwrap();
        }
        assert_eq!(admit("busy", share), Err(RefusalCode::NotAllowed));
        assert_eq!(admit("busy", 0), Ok(Novelty::New), "one that it has");
        for channel in 0..share {
            admit("busier", channel).unwrap();
            admit("busiest", channel).unwrap();
        }
        assert_eq!(admit("quiet", 0), Ok(Novelty::New));
    }
}
