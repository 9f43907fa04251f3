//! What a round of the monitor found, for eyes and programs.

use std::collections::BTreeMap;

use rutli_log::{Code, Finding, Head, Severity};
use serde_json::{Value, json};

use crate::{
    report::{Failure, Report},
    text,
};

/// What a round found.
pub struct Round {
    /// Which log.
    pub origin: String,
    /// The last verified head.
    pub head: Head,
    /// Entries since the round before.
    pub new: u64,
    /// Requests without an outcome.
    pub open: usize,
    /// Embargoes without a disclosure.
    pub embargoes: usize,
    /// Known witnesses of the published head.
    pub cosigned_by: Vec<String>,
    /// Entries of the head for Sigstore's tools, if that was compared.
    pub sigstore_size: Option<u64>,
    /// Unix seconds.
    pub time: u64,
    /// What is wrong, or worth knowing.
    pub findings: Vec<Finding>,
    /// Whether it is cosigned as the policy asks, if it is a head of the log.
    pub quorum: Option<bool>,
    /// For how many seconds it may be not.
    pub grace: u64,
    /// What kept sources from being read or compared.
    pub problems: BTreeMap<Subject, Failure>,
}

/// What a monitor reads or writes, and may fail to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The log.
    Log,
    /// Its head for Sigstore's tools.
    Sigstore,
    /// Another source of this name.
    Other(String),
    /// The file of metrics.
    Metrics,
}

impl Round {
    /// Whether all that the log published could be read.
    #[must_use]
    pub fn read_the_log(&self) -> bool {
        !self.problems.contains_key(&Subject::Log)
    }

    /// How many findings of a severity.
    #[must_use]
    pub fn count(&self, of: Severity) -> usize {
        let counted = self.findings.iter().filter(|finding| finding.code.severity() == of);
        usize::try_from(counted.map(|finding| finding.count).sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// For eyes and programs.
    #[must_use]
    pub fn report(&self) -> Report {
        let lines: Vec<String> =
            std::iter::once(self.summary()).chain(self.findings.iter().map(describe)).collect();
        let findings: Vec<Value> = self.findings.iter().map(to_json).collect();
        Report::new(
            lines.join("\n"),
            json!({
                "log": self.origin,
                "time": self.time,
                "size": self.head.size,
                "root": self.head.root.to_string(),
                "new_entries": self.new,
                "open_requests": self.open,
                "embargoes": self.embargoes,
                "cosigned_by": self.cosigned_by,
                "quorum": self.quorum,
                "sigstore_size": self.sigstore_size,
                "alarms": self.count(Severity::Alarm),
                "notices": self.count(Severity::Notice),
                "findings": findings,
            }),
        )
    }

    fn summary(&self) -> String {
        let found = match self.count(Severity::Alarm).saturating_add(self.count(Severity::Notice)) {
            0 if self.quorum == Some(false) => "nothing else found".to_owned(),
            0 => "nothing found".to_owned(),
            number => text::count(number, "finding", "findings"),
        };
        let cosigned = match self.cosigned_by.len() {
            0 => String::new(),
            number => format!(", cosigned by {}", text::count(number, "witness", "witnesses")),
        };
        let found_already =
            |finding: &Finding| matches!(finding.code, Code::CosignaturesMissing | Code::CosignatureInvalid);
        let lacks = if self.quorum == Some(false) && !self.findings.iter().any(found_already) {
            format!(", NOT cosigned as the policy asks (an alarm after {} s)", self.grace)
        } else {
            String::new()
        };
        let sigstore = self.sigstore_size.map_or_else(String::new, |size| {
            format!(", head for Sigstore's tools of {size} entries the same")
        });
        format!(
            "{} {}: verified up to {} entries ({} new){cosigned}{lacks}{sigstore}, {}: {found}",
            text::time(self.time),
            self.origin,
            self.head.size,
            self.new,
            text::count(self.open, "open request", "open requests"),
        )
    }

    /// How a single round ends, and what else went wrong in it.
    #[must_use]
    pub fn into_failure(self) -> (Option<Failure>, Vec<Failure>) {
        let alarms = self.count(Severity::Alarm);
        let mut problems = self.problems.into_values();
        let failure = match alarms {
            0 => problems.next(),
            alarms => Some(alarmed(text::count(alarms, "alarm", "alarms"))),
        };
        (failure, problems.collect())
    }
}

/// The failure of a monitor that found alarms.
#[must_use]
pub fn alarmed(problem: impl Into<String>) -> Failure {
    Failure::failed(problem).help("`rutli help log-alarms` says what each one means")
}

fn describe(finding: &Finding) -> String {
    let severity = match finding.code.severity() {
        Severity::Alarm => "ALARM",
        Severity::Notice => "notice",
    };
    let place = finding.index.map_or_else(String::new, |index| format!(" at entry {index}"));
    format!(
        "{severity} {}{place}: {}\n  do: {}",
        finding.code,
        text::printable(&finding.text),
        finding.code.advice()
    )
}

fn to_json(finding: &Finding) -> Value {
    json!({
        "code": finding.code.as_str(),
        "severity": finding.code.severity(),
        "index": finding.index,
        "text": finding.text,
        "help": finding.code.advice(),
    })
}
