//! What Prometheus's textfile collector reads of a monitor.

use std::{fmt::Write as _, path::Path};

use rutli_log::{Code, Severity};

use super::state::State;
use crate::{
    files::{self, Access},
    report::Failure,
};

/// Writes the file in place of the last one.
///
/// # Errors
/// Exit code 2, with the file.
pub fn write(path: &Path, state: &State, up: bool) -> Result<(), Failure> {
    files::write_atomically(path, render(state, up).as_bytes(), Access::Public)
}

fn render(state: &State, up: bool) -> String {
    let mut out = String::new();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    for (name, help, value) in [
        ("up", "Whether the last round could read the log.", u64::from(up)),
        ("size", "Entries of the last verified head.", state.tiles.size()),
        ("open_requests", "Requests without an outcome.", count(state.auditor.open_requests())),
        ("embargoes", "Embargoes without a disclosure.", count(state.auditor.embargoes())),
        ("last_success_timestamp_seconds", "When a head was last verified.", state.verified),
        ("head_timestamp_seconds", "When the last verified head was seen first.", state.head_seen),
        (
            "uncosigned_since_timestamp_seconds",
            "Since when heads lack cosignatures that the policy asks for; 0: they do not.",
            state.uncosigned_since.unwrap_or(0),
        ),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "# HELP rutli_log_{name} {help}\n# TYPE rutli_log_{name} gauge\nrutli_log_{name}{{log=\"{}\"}} {value}",
            label(state.origin.as_str())
        );
    }
    out.push_str("# HELP rutli_log_findings_total Findings so far, by code.\n# TYPE rutli_log_findings_total counter\n");
    for code in Code::ALL {
        let severity = if code.severity() == Severity::Alarm { "alarm" } else { "notice" };
        let value = state.counts.get(code.as_str()).copied().unwrap_or(0);
        let _ = writeln!(
            out,
            "rutli_log_findings_total{{log=\"{}\",code=\"{code}\",severity=\"{severity}\"}} {value}",
            label(state.origin.as_str())
        );
    }
    out
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
