//! `rutli log monitor` without `--once`: a round after the other until somebody ends it.
//!
//! Rounds go to stdout. What keeps one from looking is told when it begins and when it is over, and not in every round:
//! with `--json` on stdout too, one object on a line as a round is. A monitor that is told to stop ends at once, also in
//! the midst of a round, for what was shown is kept and what was not is found again.

use std::collections::BTreeMap;

use rutli_log::{Origin, Severity};
use serde_json::{Value, json};

use super::{
    monitor::Monitor,
    round::{Round, Subject, alarmed},
};
use crate::{
    cli::LogMonitor,
    clock,
    interruption::Interruption,
    report::{self, Exit, Failure, Report},
    run, text,
};

/// `rutli log monitor`
///
/// # Errors
/// When it was told to stop: exit code 1 if there was an alarm in any round, else that of what kept the last one from
/// looking. At once: exit code 2 for files that cannot be used.
pub async fn run(args: &LogMonitor, json: bool) -> Result<Report, Failure> {
    let mut interruption = Interruption::listen()?;
    let mut monitor = Monitor::open(args).map_err(|failure| before(failure, json))?;
    let mut teller =
        Teller { origin: monitor.origin().clone(), json, problems: BTreeMap::new(), alarmed: false };
    loop {
        let reading = tokio::task::spawn_blocking(move || {
            let round = monitor.round(clock::unix_now());
            (monitor, round)
        });
        let read = tokio::select! {
            read = reading => read,
            signal = interruption.wait() => return teller.end(signal),
        };
        let round;
        (monitor, round) = read.map_err(|error| {
            Failure::failed(format!("a round broke off: {error}"))
                .help("run it again; if it breaks off again, report it with the log's checkpoint")
        })?;
        teller.tell_round(&monitor, round).map_err(|failure| teller.give_up(failure))?;
        tokio::select! {
            () = tokio::time::sleep(args.interval) => {}
            signal = interruption.wait() => return teller.end(signal),
        }
    }
}

/// Tells what happens, each thing once.
struct Teller {
    origin: Origin,
    json: bool,
    /// What was told and is not over.
    problems: BTreeMap<Subject, Failure>,
    /// In any round.
    alarmed: bool,
}

/// A failure before it is known which log it is. A program reads lines from the first on.
fn before(failure: Failure, json: bool) -> Failure {
    let document = failure.clone().with(json!({ "log": null, "time": clock::unix_now() })).json();
    let said = json && run::show(&Report::new(report::line(&document), Value::Null), false).is_ok();
    Failure { said, ..failure }
}

impl Teller {
    /// Tells what a round found, then keeps it: what a crash cuts off is found again.
    fn tell_round(&mut self, monitor: &Monitor, round: Result<Round, Failure>) -> Result<(), Failure> {
        let (mut problems, looked, up) = match round {
            Ok(round) => {
                let report = round.report();
                let line = if self.json { report::line(&report.json) } else { report.text };
                run::show(&Report::new(line, Value::Null), false)?;
                self.alarmed |= round.count(Severity::Alarm) > 0;
                monitor.keep()?;
                let up = round.read_the_log();
                (round.problems, true, up)
            }
            // A log that does not answer is asked again; a file that cannot be used stays so.
            Err(failure) if failure.exit == Exit::Usage => return Err(failure),
            Err(failure) => (BTreeMap::from([(Subject::Log, failure)]), false, false),
        };
        if let Err(failure) = monitor.measure(up) {
            problems.insert(Subject::Metrics, failure);
        }
        self.tell_problems(problems, looked)
    }

    /// Tells what is new and what is over. Other sources are not `looked` at where the log itself cannot be read.
    fn tell_problems(&mut self, now: BTreeMap<Subject, Failure>, looked: bool) -> Result<(), Failure> {
        let is_over =
            |subject: &Subject| !now.contains_key(subject) && (looked || *subject == Subject::Metrics);
        for (_, failure) in self.problems.extract_if(.., |subject, _| is_over(subject)).collect::<Vec<_>>() {
            self.tell(
                &format!("over: {}", failure.problem),
                json!({ "over": { "problem": failure.problem } }),
            )?;
        }
        for (subject, failure) in now {
            if self.problems.get(&subject) != Some(&failure) {
                self.tell(&failure.to_string(), failure.json())?;
                self.problems.insert(subject, failure);
            }
        }
        Ok(())
    }

    fn tell(&self, words: &str, mut document: Value) -> Result<(), Failure> {
        let now = clock::unix_now();
        if !self.json {
            eprintln!("{} {}: {words}", text::time(now), self.origin);
            return Ok(());
        }
        if let Some(fields) = document.as_object_mut() {
            fields.insert("log".to_owned(), json!(self.origin));
            fields.insert("time".to_owned(), json!(now));
        }
        run::show(&Report::new(report::line(&document), Value::Null), false)
    }

    /// How the process ends that is told to stop.
    fn end(self, signal: &str) -> Result<Report, Failure> {
        eprintln!("{} {}: ended by {signal}", text::time(clock::unix_now()), self.origin);
        match self.problems.values().next() {
            _ if self.alarmed => Err(self.give_up(alarmed("there were alarms since it was started"))),
            None => Ok(Report::default()),
            Some(told) => Err(Failure { said: true, ..told.clone() }),
        }
    }

    /// Tells why the process ends, as all before it was told.
    fn give_up(&self, failure: Failure) -> Failure {
        let said = self.tell(&failure.to_string(), failure.json()).is_ok();
        Failure { said, ..failure }
    }
}
