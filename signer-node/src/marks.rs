//! The node's own high-water marks: in each channel of a product the sequence goes up, never back, and no sequence is
//! permitted twice with other content.
//!
//! A release that was permitted once may come again with the same content, for its quorum may have failed after this
//! node signed: the last [`limits::RETRY_WINDOW`] permitted sequences of a channel are kept for that.

use std::collections::BTreeMap;

use rutli_release::{Channel, Product, Sequence, VerifiedRelease};
use rutli_wire::link::{Refusal, RefusalCode};

use crate::limits;

/// Whether a permission is new to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It must be made durable before a share leaves.
    New,
    /// It is durable already.
    Durable,
}

/// Permitted sequences of every channel.
#[derive(Debug, Default)]
pub struct Marks(BTreeMap<(Product, Channel), BTreeMap<u64, Permitted>>);

#[derive(Debug)]
struct Permitted {
    digest: [u8; 32],
    /// Unix seconds when it was first permitted.
    at: u64,
    durable: bool,
}

/// A permitted sequence, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of this product …
    pub product: Product,
    /// … and channel.
    pub channel: Channel,
    /// Which one.
    pub sequence: u64,
    /// Of the release ([`VerifiedRelease::digest`]).
    pub digest: [u8; 32],
    /// Unix seconds when it was first permitted.
    pub at: u64,
}

/// What the marks say of a release before it is decided on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The highest sequence that was permitted in its channel before it. A release that comes again is not before itself, nor
    /// is what was permitted after it.
    pub previous: Option<Sequence>,
    /// Unix seconds when this very release was first permitted.
    pub permitted_at: Option<u64>,
}

impl Marks {
    /// From the journal.
    pub fn from_rows(rows: impl IntoIterator<Item = Mark>) -> Self {
        let mut marks = Self::default();
        for Mark { product, channel, sequence, digest, at } in rows {
            let window = marks.0.entry((product, channel)).or_default();
            window.insert(sequence, Permitted { digest, at, durable: true });
            shorten(window);
        }
        marks
    }

    /// What was permitted before a release, and whether it was permitted itself.
    #[must_use]
    pub fn history(&self, release: &VerifiedRelease, digest: [u8; 32]) -> History {
        let channel = (release.product().clone(), release.channel().clone());
        let Some(window) = self.0.get(&channel) else { return History::default() };
        let sequence = release.sequence().get();
        let again = window.get(&sequence).filter(|permitted| permitted.digest == digest);
        let previous = match again {
            Some(_) => window.range(..sequence).next_back(),
            None => window.last_key_value(),
        };
        History {
            previous: previous.and_then(|(sequence, _)| Sequence::try_from(*sequence).ok()),
            permitted_at: again.map(|permitted| permitted.at),
        }
    }

    /// Admits a release, or says why its sequence forbids it. `New` until [`Marks::settle`] says that it is durable. `now` in
    /// Unix seconds.
    pub fn admit(
        &mut self,
        release: &VerifiedRelease,
        digest: [u8; 32],
        now: u64,
    ) -> Result<Novelty, Refusal> {
        let channel = (release.product().clone(), release.channel().clone());
        if !self.0.contains_key(&channel) && self.0.len() >= limits::MAX_CHANNELS {
            return Err(Refusal {
                code: RefusalCode::NotAllowed,
                reason: format!(
                    "this node keeps marks for {} channels and has no room for another; narrow its policies",
                    limits::MAX_CHANNELS
                ),
            });
        }
        let sequence = release.sequence().get();
        let window = self.0.entry(channel).or_default();
        if let Some(permitted) = window.get(&sequence) {
            return if permitted.digest != digest {
                Err(Refusal {
                    code: RefusalCode::SequenceConflict,
                    reason: format!(
                        "sequence {sequence} of {} {} was permitted before with other content; take the next sequence",
                        release.product(),
                        release.channel()
                    ),
                })
            } else if permitted.durable {
                Ok(Novelty::Durable)
            } else {
                Ok(Novelty::New)
            };
        }
        match window.last_key_value() {
            Some((mark, _)) if *mark > sequence => Err(Refusal {
                code: RefusalCode::SequenceBehind,
                reason: format!(
                    "sequence {sequence} of {} {} is behind {mark}, which this node permitted already; take a higher one",
                    release.product(),
                    release.channel()
                ),
            }),
            _ => {
                window.insert(sequence, Permitted { digest, at: now, durable: false });
                shorten(window);
                Ok(Novelty::New)
            }
        }
    }

    /// The journal has it.
    pub fn settle(&mut self, product: &Product, channel: &Channel, sequence: u64) {
        if let Some(window) = self.0.get_mut(&(product.clone(), channel.clone()))
            && let Some(permitted) = window.get_mut(&sequence)
        {
            permitted.durable = true;
        }
    }

    /// Nothing was permitted later than this: the custodian vouched for a clock that was set back.
    pub fn not_after(&mut self, now: u64) {
        for permitted in self.0.values_mut().flat_map(BTreeMap::values_mut) {
            permitted.at = permitted.at.min(now);
        }
    }

    /// The highest permitted sequence of each channel.
    pub fn highest(&self) -> impl Iterator<Item = (&Product, &Channel, u64)> {
        self.0.iter().filter_map(|((product, channel), window)| {
            window.last_key_value().map(|(sequence, _)| (product, channel, *sequence))
        })
    }
}

fn shorten(window: &mut BTreeMap<u64, Permitted>) {
    while window.len() > limits::RETRY_WINDOW {
        window.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::release;

    #[test]
    fn a_sequence_goes_up_and_never_back() {
        let mut marks = Marks::default();
        let admit = |marks: &mut Marks, sequence| marks.admit(&release("suite", sequence, 1), [1; 32], 50);
        assert_eq!(admit(&mut marks, 5), Ok(Novelty::New));
        assert_eq!(admit(&mut marks, 4).unwrap_err().code, RefusalCode::SequenceBehind);
        assert_eq!(admit(&mut marks, 6), Ok(Novelty::New));
        assert_eq!(marks.highest().map(|(_, _, sequence)| sequence).collect::<Vec<_>>(), [6]);
        // Another product is another channel.
        assert_eq!(marks.admit(&release("avdb", 1, 1), [1; 32], 50), Ok(Novelty::New));
    }

    #[test]
    fn the_same_sequence_comes_again_with_the_same_content_only() {
        let mut marks = Marks::default();
        let suite = release("suite", 5, 1);
        assert_eq!(marks.admit(&suite, [1; 32], 50), Ok(Novelty::New));
        assert_eq!(marks.admit(&suite, [2; 32], 50).unwrap_err().code, RefusalCode::SequenceConflict);
        // Not durable yet: it must be journaled again, for the first try may have failed.
        assert_eq!(marks.admit(&suite, [1; 32], 50), Ok(Novelty::New));
        marks.settle(suite.product(), suite.channel(), 5);
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
            product: suite.product().clone(),
            channel: suite.channel().clone(),
            sequence: 5,
            digest: [1; 32],
            at: 50,
        };
        let mut marks = Marks::from_rows([row]);
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
        assert_eq!(history(&marks, 5, 1), History::default());
        marks.admit(&release("suite", 5, 1), [1; 32], 50).unwrap();
        marks.admit(&release("suite", 7, 1), [2; 32], 60).unwrap();
        let previous = |sequence: u64| Some(Sequence::try_from(sequence).unwrap());
        assert_eq!(history(&marks, 9, 3), History { previous: previous(7), permitted_at: None });
        assert_eq!(history(&marks, 7, 2), History { previous: previous(5), permitted_at: Some(60) });
        assert_eq!(history(&marks, 5, 1), History { previous: None, permitted_at: Some(50) });
        // Another content under a used sequence was never permitted.
        assert_eq!(history(&marks, 7, 9), History { previous: previous(7), permitted_at: None });
        marks.not_after(55);
        assert_eq!(history(&marks, 7, 2).permitted_at, Some(55));
    }

    #[test]
    fn the_window_and_the_channels_are_bounded() {
        let mut marks = Marks::default();
        for sequence in 1..=(limits::RETRY_WINDOW as u64 + 10) {
            marks.admit(&release("suite", sequence, 1), [1; 32], 50).unwrap();
        }
        assert_eq!(marks.0.values().map(BTreeMap::len).max(), Some(limits::RETRY_WINDOW));
        assert_eq!(
            marks.admit(&release("suite", 1, 1), [1; 32], 50).unwrap_err().code,
            RefusalCode::SequenceBehind
        );
        for product in 1..limits::MAX_CHANNELS {
            marks.admit(&release(&format!("p{product}"), 1, 1), [1; 32], 50).unwrap();
        }
        assert_eq!(
            marks.admit(&release("one-more", 1, 1), [1; 32], 50).unwrap_err().code,
            RefusalCode::NotAllowed
        );
    }
}
