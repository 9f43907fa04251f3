//! Findings of a round, of which there may be as many as there are entries: the first of each code are kept, the rest are
//! counted. So no flood of one kind hides another, nor fills the memory.

use std::collections::BTreeMap;

use rutli_log::{Code, Finding};

use super::limits::MAX_OF_A_CODE;

/// Collects findings.
#[derive(Default)]
pub struct Findings {
    kept: Vec<Finding>,
    /// How many of each code are kept, and how many are only counted.
    codes: BTreeMap<Code, (usize, u64)>,
}

impl Findings {
    /// Takes one more.
    pub fn push(&mut self, finding: Finding) {
        let (kept, more) = self.codes.entry(finding.code).or_default();
        if *kept < MAX_OF_A_CODE {
            *kept = kept.saturating_add(1);
            self.kept.push(finding);
        } else {
            *more = more.saturating_add(finding.count);
        }
    }

    /// In order; at the end how many more there are of each code.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        let counted = self.codes.into_iter().filter(|(_, (_, more))| *more > 0);
        let more = counted.map(|(code, (_, more))| Finding::more(code, more));
        self.kept.into_iter().chain(more).collect()
    }
}

impl Extend<Finding> for Findings {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        findings.into_iter().for_each(|finding| self.push(finding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_counted_and_hides_no_other() {
        let most = u64::try_from(MAX_OF_A_CODE).unwrap();
        let mut findings = Findings::default();
        findings.extend((0..most + 7).map(|index| Finding::at(Code::NodeReinstated, index, "")));
        findings.push(Finding::of_log(Code::HeadForked, ""));
        let once = findings.into_vec();
        assert_eq!(once.len(), MAX_OF_A_CODE + 2);
        assert_eq!(once[MAX_OF_A_CODE].code, Code::HeadForked);
        assert_eq!(once[MAX_OF_A_CODE + 1], Finding::more(Code::NodeReinstated, 7));
        // Collected again, nothing is lost.
        let mut again = Findings::default();
        again.push(Finding::of_log(Code::NodeReinstated, ""));
        again.extend(once);
        let again = again.into_vec();
        assert_eq!(again.iter().map(|finding| finding.count).sum::<u64>(), most + 9);
        assert_eq!(again.len(), MAX_OF_A_CODE + 2);
    }
}
