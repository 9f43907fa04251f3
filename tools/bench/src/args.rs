//! The command line.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use serde::Serialize;

/// The bare library and the whole service, side by side in one run on the same cores.
///
/// Exit codes: 0 all figures are there, 1 some could not be measured, 2 usage. A figure that misses its goal is no
/// failure.
#[derive(Clone, Debug, Parser)]
#[command(name = "rutli-bench", version)]
pub struct Args {
    /// Seconds of measuring for each throughput figure, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Only these figures, and what they need. May be repeated. Default: all but `micro`, `log` and `policy`.
    #[arg(long, value_name = "FIGURE")]
    pub only: Vec<Figure>,
    /// Go on with the next figure when one cannot be measured.
    #[arg(long)]
    pub keep_going: bool,
    /// Run the service in this folder, and leave it there. Its disk is what is measured. Default: a temporary one.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where `rutli-coordinator` and `rutli-signer` are. Default: beside this program.
    #[arg(long, value_name = "DIR")]
    pub bin: Option<PathBuf>,
    /// An organisation NAME=T/N: T of its N nodes must sign. May be repeated. Default: vendor=2/3 and supervisor=1/1.
    #[arg(long = "organisation", value_name = "NAME=T/N")]
    pub organisations: Vec<Organisation>,
    /// Releases under way at the same time for `service`, each in a channel of its own.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=2000))]
    pub concurrency: u16,
    /// Lone releases for `latency`.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub releases: u16,
    /// Bursts for `burst`; the figure is their median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub bursts: u16,
    /// For programs: one JSON document on stdout.
    #[arg(long)]
    pub json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Signatures/s of a loop over `frost-ed25519`.
    Naive,
    /// Signatures/s of the whole service, one per release.
    Service,
    /// Signatures/s of the whole service, 17 per release of 16 files.
    Files,
    /// Service ÷ naive.
    Ratio,
    /// One release of 1,000 signatures, against the naive time for as many.
    Burst,
    /// Lone releases, beside the sum of what cannot be avoided.
    Latency,
    /// CPU per signature and memory, by process.
    Cost,
    /// CPU of every step in one process, without network and disk.
    Micro,
    /// Entries/s that the log takes at a thousand and at a million entries. Takes a minute or two.
    Log,
    /// CPU of a node's decision by the supervisor's example rules, as a share of the signing of 100 files.
    Policy,
}

/// An organisation of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Organisation {
    /// Its name.
    pub name: String,
    /// How many of its nodes must sign.
    pub threshold: u16,
    /// How many it has.
    pub nodes: u16,
}

impl Args {
    /// Whether a figure is wanted, or needed for one that is.
    #[must_use]
    pub fn wants(&self, figure: Figure) -> bool {
        let chosen = |figure: Figure| {
            if self.only.is_empty() {
                !matches!(figure, Figure::Micro | Figure::Log | Figure::Policy)
            } else {
                self.only.contains(&figure)
            }
        };
        match figure {
            Figure::Naive => [Figure::Naive, Figure::Ratio, Figure::Burst].into_iter().any(chosen),
            Figure::Service => [Figure::Service, Figure::Ratio, Figure::Cost].into_iter().any(chosen),
            other => chosen(other),
        }
    }

    /// Whether the service must run.
    #[must_use]
    pub fn wants_cluster(&self) -> bool {
        [Figure::Service, Figure::Files, Figure::Burst, Figure::Latency]
            .into_iter()
            .any(|figure| self.wants(figure))
    }

    /// The deployment's organisations.
    #[must_use]
    pub fn organisations(&self) -> Vec<Organisation> {
        let organisation =
            |name: &str, threshold, nodes| Organisation { name: name.to_owned(), threshold, nodes };
        if self.organisations.is_empty() {
            return vec![organisation("vendor", 2, 3), organisation("supervisor", 1, 1)];
        }
        self.organisations.clone()
    }

    /// How many sign each signature.
    #[must_use]
    pub fn signers(&self) -> u16 {
        self.organisations().iter().map(|organisation| organisation.threshold).sum()
    }

    /// Measuring time of a throughput figure.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl FromStr for Organisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, counts)| {
            let (threshold, nodes) = counts.split_once('/')?;
            Some((name, threshold.parse().ok()?, nodes.parse().ok()?))
        });
        match parts {
            Some((name, threshold, nodes))
                if (1..=nodes).contains(&threshold) && nodes <= 16 && !name.is_empty() =>
            {
                Ok(Self { name: name.to_owned(), threshold, nodes })
            }
            _ => Err("write NAME=T/N, with 1 <= T <= N <= 16".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_brings_what_it_needs() {
        let args = Args::parse_from(["rutli-bench", "--only", "ratio"]);
        assert!(args.wants(Figure::Naive) && args.wants(Figure::Service) && args.wants_cluster());
        assert!(!args.wants(Figure::Latency) && !args.wants(Figure::Micro));
        let args = Args::parse_from(["rutli-bench", "--only", "naive"]);
        assert!(!args.wants_cluster());
        let args = Args::parse_from(["rutli-bench", "--only", "policy"]);
        assert!(args.wants(Figure::Policy) && !args.wants(Figure::Naive) && !args.wants_cluster());
        let all = Args::parse_from(["rutli-bench"]);
        assert!(all.wants(Figure::Cost) && !all.wants(Figure::Micro) && !all.wants(Figure::Policy));
        assert_eq!(all.signers(), 3);
    }

    #[test]
    fn organisations_read() {
        let five: Organisation = "vendor=3/5".parse().unwrap();
        assert_eq!((five.threshold, five.nodes), (3, 5));
        for bad in ["vendor", "vendor=3", "vendor=0/3", "vendor=4/3", "=1/1", "vendor=1/99"] {
            assert!(bad.parse::<Organisation>().is_err(), "{bad}");
        }
    }
}
