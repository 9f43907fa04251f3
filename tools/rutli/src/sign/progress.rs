//! What is seen while a release is waited for.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use rutli_wire::v1;

use crate::{releases, waits};

/// Progress for eyes: a line that is drawn over on a terminal, else one line per change. What somebody has to bring is said once on lines
/// that stay.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The line that was shown last.
    pub(super) last: String,
    /// What was said to be missing.
    missing: Option<String>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last: String::new(), missing: None }
    }

    pub(super) fn show(&mut self, release: &v1::Release) {
        let line = releases::stage(release);
        let missing = self.news(release);
        match &self.bar {
            Some(bar) if releases::is_final(release.state) => bar.finish_and_clear(),
            Some(bar) => {
                if let Some(missing) = missing {
                    bar.println(missing);
                }
                bar.set_message(line.clone());
            }
            None => match missing {
                Some(missing) => eprintln!("{missing}"),
                // Without a terminal only what one has to act on, not every count.
                None if !release.waiting_for.is_empty() && line != self.last => eprintln!("{line}"),
                None => {}
            },
        }
        self.last = line;
    }

    /// What is missing, unless it was said already: nodes are asked again and again.
    fn news(&mut self, release: &v1::Release) -> Option<String> {
        let missing = waits::advice(release, None)?;
        if self.missing.as_ref() == Some(&missing) {
            return None;
        }
        self.missing = Some(missing.clone());
        Some(missing)
    }
}

#[cfg(test)]
mod tests {
    use rutli_wire::v1::ReleaseState;

    use super::*;
    use crate::waits::tests::waiting;

    #[test]
    fn what_is_missing_is_said_once_and_again_when_it_is_something_else() {
        let mut progress = Progress::new();
        let release = waiting();
        let said = progress.news(&release).unwrap();
        assert!(said.contains("rutli evidence add") && said.contains("organisation supervisor"), "{said}");
        let signing = v1::Release { state: ReleaseState::Signing.into(), ..release.clone() };
        assert_eq!((progress.news(&signing), progress.news(&release)), (None, None));
        let mut other = release;
        other.refusals[0].reason = "an approval by clara".to_owned();
        assert!(progress.news(&other).unwrap().contains("an approval by clara"));
    }
}
