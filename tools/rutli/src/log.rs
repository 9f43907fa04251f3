//! `rutli log`: reading a transparency log, and trusting nobody who serves it.
//!
//! | module | does |
//! | --- | --- |
//! | [`source`] | a folder or server that the log is read from |
//! | [`unanswered`] | why it does not answer, in plain words |
//! | [`trust`] | the log's key, and the witnesses that one asks for |
//! | [`walk`] | all entries against all tiles against the head |
//! | [`documents`] | statements and signed rosters against entries |
//! | [`compare`] | heads of mirrors and witnesses |
//! | [`sigstore`] | the head for Sigstore's tools |
//! | [`monitor`] | `monitor`: rounds, [`findings`]; [`state`] and [`metrics`] are its files |
//! | [`round`] | what a round found, for eyes and programs |
//! | [`follow`] | `monitor` without `--once`: round after round, until somebody ends it |
//! | [`show`] | `show` and `export`: what was asked for and how it ended |
//! | [`prove`] | `prove`, and one entry of `show` |

pub mod compare;
pub mod documents;
pub mod findings;
pub mod follow;
pub mod limits;
pub mod metrics;
pub mod monitor;
pub mod prove;
pub mod round;
pub mod show;
pub mod sigstore;
pub mod source;
pub mod state;
pub mod trust;
pub mod unanswered;
pub mod walk;

use crate::{
    cli,
    report::{Failure, Report},
};

/// `rutli log …`, but for a monitor that [follows](cli::Log::follows).
///
/// # Errors
/// As the commands say.
pub fn run(command: &cli::Log, json: bool) -> Result<Report, Failure> {
    match command {
        cli::Log::Monitor(args) => monitor::once(args, json),
        cli::Log::Show(args) => match args.index {
            Some(index) => prove::show(&args.place, index),
            None => show::show(args),
        },
        cli::Log::Prove(args) => prove::run(args),
        cli::Log::Export(args) => show::export(args),
    }
}
