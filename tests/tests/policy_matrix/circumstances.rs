//! Sequence, rate, time and embargo: what a node knows beside the documents.

use rutli_policy::Rates;
use rutli_release::{Class, Product, VerifiedRelease};
use rutli_signer_node::{
    marks::{Mark, Marks, Steps},
    rates::RateCounter,
    versions::Versions,
};

use crate::cases::Lane;

/// One of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    pub sequence: Sequence,
    pub rate: Rate,
    pub when: When,
    pub embargoed: bool,
}

/// How the sequence stands to what the node permitted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    First,
    /// By 1000.
    Up,
    /// By 1001.
    Leap,
    /// The very same was permitted already.
    Again,
    Behind,
    /// Another content was permitted under it.
    Conflict,
}

/// What the node permitted of that class and product within the hour, besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    Quiet,
    /// One more is the last.
    Last,
    /// One more is one too many.
    Over,
    /// One release with 2000 files.
    Files,
}

/// A time of the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Friday, 2027-01-15T08:00:00Z.
    Friday,
    /// The first second of working time.
    Opening,
    /// A second before that.
    Early,
    /// The last one.
    Closing,
    /// A second later.
    Late,
    /// At noon.
    Saturday,
}

/// The release's own.
pub const SEQUENCE: u64 = 1_042;

impl Circumstances {
    /// All of them that may matter for a node and what it is asked for.
    pub fn all(lane: Lane) -> Vec<Self> {
        let whens: &[When] = match lane {
            Lane::VendorStable => &When::ALL,
            Lane::VendorNightly | Lane::DatabasesLarge | Lane::DatabasesProduct => &[When::Friday],
            _ => &[When::Friday, When::Saturday],
        };
        let rates: &[Rate] = match lane.folder() {
            "vendor-node" => &[Rate::Over],
            _ => &[Rate::Quiet, Rate::Last, Rate::Over, Rate::Files],
        };
        let mut all = Vec::new();
        for sequence in Sequence::ALL {
            for rate in rates.iter().copied() {
                for when in whens.iter().copied() {
                    all.extend([false, true].map(|embargoed| Self { sequence, rate, when, embargoed }));
                }
            }
        }
        all
    }
}

impl Circumstances {
    /// Whether nothing that is not a document keeps a release back.
    pub fn are_plain(&self) -> bool {
        let is_up = matches!(self.sequence, Sequence::First | Sequence::Up | Sequence::Again);
        is_up && self.rate != Rate::Files && self.when == When::Friday && !self.embargoed
    }
}

impl Sequence {
    pub const ALL: [Self; 6] = [Self::First, Self::Up, Self::Leap, Self::Again, Self::Behind, Self::Conflict];

    /// As the node's journal has it.
    pub fn marks(self, release: &VerifiedRelease, now: u64) -> Marks {
        let mark = |sequence, digest| Mark {
            channel: release.channel_key(),
            sequence,
            digest,
            version: release.version().clone(),
            at: now - 90,
        };
        let other = [7; 32];
        let rows = match self {
            Self::First => Vec::new(),
            Self::Up => vec![mark(SEQUENCE - 1_000, other)],
            Self::Leap => vec![mark(SEQUENCE - 1_001, other)],
            Self::Again => vec![mark(SEQUENCE - 1, other), mark(SEQUENCE, release.digest())],
            Self::Behind => vec![mark(SEQUENCE + 8, other)],
            Self::Conflict => vec![mark(SEQUENCE - 1, other), mark(SEQUENCE, other)],
        };
        // The step is bounded by a policy here.
        let steps = Steps { max_step: 2 * SEQUENCE, ..Steps::default() };
        Marks::from_rows(rows, Versions::default()).with_steps(steps)
    }
}

impl Rate {
    /// Releases and files.
    pub fn others(self, lane: Lane) -> (u64, u64) {
        let most = if lane.is_supervisor() { 6 } else { 12 };
        match self {
            Self::Quiet => (0, 0),
            Self::Last => (most - 1, most - 1),
            Self::Over => (most, most),
            Self::Files => (1, 2_000),
        }
    }

    /// As the node's journal has it; with the release itself if it was permitted already.
    pub fn counter(self, lane: Lane, release: &VerifiedRelease, sequence: Sequence, now: u64) -> RateCounter {
        let (mut releases_in_hour, mut artifacts_in_hour) = self.others(lane);
        if sequence == Sequence::Again {
            (releases_in_hour, artifacts_in_hour) = (releases_in_hour + 1, artifacts_in_hour + 1);
        }
        let minute = (now - 90) / 60;
        let own = (lane.class(), release.product().clone());
        let rates = Rates { releases_in_hour, artifacts_in_hour };
        let many = Rates { releases_in_hour: 100, artifacts_in_hour: 100_000 };
        let elsewhere = [
            (Class::ALL[0], Product::new("other").unwrap(), minute, many),
            (own.0, own.1.clone(), minute - 62, many),
        ];
        RateCounter::from_rows(elsewhere.into_iter().chain([(own.0, own.1, minute, rates)]), now)
    }
}

impl When {
    pub const ALL: [Self; 6] =
        [Self::Friday, Self::Opening, Self::Early, Self::Closing, Self::Late, Self::Saturday];

    pub fn unix(self) -> u64 {
        const FRIDAY_AT_EIGHT: u64 = 1_800_000_000;
        match self {
            Self::Friday => FRIDAY_AT_EIGHT,
            Self::Opening => FRIDAY_AT_EIGHT - 3_600,
            Self::Early => FRIDAY_AT_EIGHT - 3_601,
            Self::Closing => FRIDAY_AT_EIGHT + 8 * 3_600 - 1,
            Self::Late => FRIDAY_AT_EIGHT + 8 * 3_600,
            Self::Saturday => FRIDAY_AT_EIGHT + 28 * 3_600,
        }
    }

    pub fn is_working_time(self) -> bool {
        matches!(self, Self::Friday | Self::Opening | Self::Closing)
    }

    /// Of those that are none.
    pub fn next_working_time(self) -> &'static str {
        match self {
            Self::Early => "2027-01-15T07:00:00Z",
            _ => "2027-01-18T07:00:00Z",
        }
    }
}
