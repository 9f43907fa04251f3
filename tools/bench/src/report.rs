//! The figures, for eyes and for programs.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    args::Args,
    cost::{CpuCost, Memory},
    latency::Latency,
    load::{Burst, Throughput},
    log::LogSpeed,
    micro::Micro,
    naive::Naive,
    policy::PolicyCost,
    stats::float,
};

/// First goals; see the README's table.
const RATIO_GOAL: f64 = 0.8;
const BURST_GOAL: f64 = 1.0;
const LATENCY_GOAL: f64 = 3.0;
/// A long log is written as fast as a short one.
const LOG_GOAL: f64 = 0.95;
/// Per cent of what a node spends on a release of 100 files.
const POLICY_GOAL: f64 = 2.0;
const COORDINATOR_GOAL_MIB: f64 = 256.0;
const NODE_GOAL_MIB: f64 = 64.0;

/// Naive figures of one run that differ by more than this, or loops that had so much less than all cores, say that the
/// machine had something else to do.
const STEADY: f64 = 0.1;

/// Tables have lines around them and under their head, and no others.
const RULES: &str = "  ── ══            ";

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    machine: Machine,
    /// The yardstick.
    pub naive: Option<NaiveFigure>,
    /// One signature per release.
    pub service: Option<Throughput>,
    /// 17 signatures per release.
    pub files: Option<Throughput>,
    /// 1,000 signatures at once.
    pub burst: Option<Burst>,
    /// Lone releases.
    pub latency: Option<Latency>,
    /// By process.
    pub memory: Vec<Memory>,
    /// Step by step.
    pub micro: Vec<Micro>,
    /// The log at two lengths.
    pub log: Option<LogSpeed>,
    /// A decision beside the signing.
    pub policy: Option<PolicyCost>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Where and how it was measured.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    cores: usize,
    organisations: String,
    seconds: u64,
    /// Figures of a build without optimisation say nothing.
    optimised: bool,
}

/// The naive loop, before and after the service.
#[derive(Clone, Debug, Serialize)]
pub struct NaiveFigure {
    /// Mean.
    pub per_second: f64,
    /// Mean CPU microseconds per signature.
    pub us_per_signature: f64,
    /// One for each run.
    pub runs: Vec<Naive>,
}

impl NaiveFigure {
    /// Over the runs; none for none.
    #[must_use]
    pub fn over(runs: &[Naive]) -> Option<Self> {
        let mean = |of: fn(&Naive) -> f64| runs.iter().map(of).sum::<f64>() / float(runs.len().max(1));
        (!runs.is_empty()).then(|| Self {
            per_second: mean(|run| run.per_second),
            us_per_signature: mean(|run| run.us_per_signature),
            runs: runs.to_vec(),
        })
    }

    fn spread(&self) -> f64 {
        let of = |pick: fn(f64, f64) -> f64| self.runs.iter().map(|run| run.per_second).reduce(pick);
        match (of(f64::min), of(f64::max)) {
            (Some(least), Some(most)) if most > 0.0 => 1.0 - least / most,
            _ => 0.0,
        }
    }
}

impl Report {
    /// Nothing yet.
    #[must_use]
    pub fn new(args: &Args) -> Self {
        let organisations = args
            .organisations()
            .iter()
            .map(|organisation| {
                format!("{} of {} {}", organisation.threshold, organisation.nodes, organisation.name)
            })
            .collect::<Vec<_>>()
            .join(" + ");
        Self {
            machine: Machine {
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                organisations,
                seconds: args.seconds,
                optimised: !cfg!(debug_assertions),
            },
            naive: None,
            service: None,
            files: None,
            burst: None,
            latency: None,
            memory: Vec::new(),
            micro: Vec::new(),
            log: None,
            policy: None,
            failures: Vec::new(),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut document =
            serde_json::to_value(self).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        if let Some(fields) = document.as_object_mut() {
            fields.insert("ratio".to_owned(), json!(self.ratio(self.service.as_ref())));
            fields.insert("files_ratio".to_owned(), json!(self.ratio(self.files.as_ref())));
            fields.insert("cpu_ratio".to_owned(), json!(self.cpu_ratio(self.service.as_ref())));
            fields.insert("files_cpu_ratio".to_owned(), json!(self.cpu_ratio(self.files.as_ref())));
            fields
                .insert("policy_of_signature".to_owned(), json!(self.policy.map(|cost| cost.of_signature())));
            fields.insert("policy_of_release".to_owned(), json!(self.policy.map(|cost| cost.of_release())));
            fields.insert("burst_ratio".to_owned(), json!(self.burst_ratio()));
        }
        document
    }

    fn ratio(&self, service: Option<&Throughput>) -> Option<f64> {
        Some(service?.per_second / self.naive.as_ref()?.per_second)
    }

    /// The same by CPU: what it would be if CPU alone set the pace. Other load on the machine hardly moves it.
    fn cpu_ratio(&self, service: Option<&Throughput>) -> Option<f64> {
        let spent: f64 = service?.cpu.iter().map(|cost| cost.us_per_signature).sum();
        Some(self.naive.as_ref()?.us_per_signature / spent)
    }

    fn burst_ratio(&self) -> Option<f64> {
        Some(self.burst.as_ref()?.per_second / self.naive.as_ref()?.per_second)
    }

    fn figures(&self) -> Vec<[String; 4]> {
        let mut rows = Vec::new();
        let mut row = |figure: &str, value: String, goal: String, note: String| {
            rows.push([figure.to_owned(), value, goal, note]);
        };
        if let Some(naive) = &self.naive {
            let spread = naive.spread();
            let had = naive.per_second * naive.us_per_signature / 1e6;
            let quiet = spread <= STEADY && had >= (1.0 - STEADY) * float(self.machine.cores);
            let unsteady = if quiet { "" } else { "; NOT QUIET, compare by CPU" };
            let note = format!(
                "{:.0} µs of CPU each, {had:.2} of {} cores; before and after differ by {:.0} %{unsteady}",
                naive.us_per_signature,
                self.machine.cores,
                spread * 100.0
            );
            row("naive", per_second(naive.per_second), String::new(), note);
        }
        if let Some(service) = &self.service {
            row("service", per_second(service.per_second), String::new(), load_note(service));
        }
        if let Some(files) = &self.files {
            row("service, 16 files", per_second(files.per_second), String::new(), load_note(files));
        }
        if let Some(ratio) = self.ratio(self.service.as_ref()) {
            let note = by_cpu("service ÷ naive", self.cpu_ratio(self.service.as_ref()));
            row("ratio", times(ratio), least(ratio, RATIO_GOAL), note);
        }
        if let Some(ratio) = self.ratio(self.files.as_ref()) {
            let note = by_cpu("17 signatures per release", self.cpu_ratio(self.files.as_ref()));
            row("ratio, 16 files", times(ratio), String::new(), note);
        }
        if let Some(burst) = &self.burst {
            let note = format!(
                "{} signatures in {:.0} ms (best {:.0}, worst {:.0} of {})",
                burst.signatures, burst.time.p50_ms, burst.time.min_ms, burst.time.max_ms, burst.time.samples
            );
            match self.burst_ratio() {
                Some(ratio) => row("burst", times(ratio), least(ratio, BURST_GOAL), note),
                None => row("burst", per_second(burst.per_second), String::new(), note),
            }
        }
        if let Some(log) = &self.log {
            let note = format!(
                "{:.0} entries/s at 10³, {:.0}/s at 10⁶, each committed, laid down and published",
                log.short, log.long
            );
            let ratio = log.long / log.short;
            row("log, 10⁶ ÷ 10³", format!("{ratio:.2}"), least(ratio, LOG_GOAL), note);
        }
        if let Some(latency) = &self.latency {
            let note = format!(
                "p50 {:.1} ms, p99 {:.1} ms, acknowledged after {:.1} ms; unavoidable {:.1} ms",
                latency.whole.p50_ms,
                latency.whole.p99_ms,
                latency.acknowledged.p50_ms,
                latency.unavoidable_ms
            );
            let ratio = latency.ratio;
            row(
                "latency",
                format!("{ratio:.2} × unavoidable"),
                goal("≤", LATENCY_GOAL, ratio <= LATENCY_GOAL),
                note,
            );
        }
        rows.extend(self.policy_row());
        rows
    }

    fn policy_row(&self) -> Option<[String; 4]> {
        let cost = self.policy.as_ref()?;
        let note = format!(
            "{:.0} µs for a decision, {:.0} of them in the policies: {:.0} % of the {:.0} µs that a node has for 1 of {} signatures",
            cost.decision_us,
            cost.policies_us,
            cost.of_signature() * 100.0,
            cost.node_us_per_signature,
            cost.signatures
        );
        let share = cost.of_release() * 100.0;
        let wanted = goal("<", POLICY_GOAL, share < POLICY_GOAL);
        Some(["policy, 100 files".to_owned(), format!("{share:.2} %"), wanted, note])
    }

    fn latency_table(&self) -> Option<Table> {
        let latency = self.latency.as_ref()?;
        let mut table = table(&["UNAVOIDABLE PART", "MS"], &[1]);
        for part in &latency.parts {
            table.add_row([part.name.to_owned(), format!("{:.2}", part.ms)]);
        }
        table.add_row(["together".to_owned(), format!("{:.2}", latency.unavoidable_ms)]);
        Some(table)
    }

    fn cost_table(&self) -> Option<Table> {
        let loads: Vec<(&str, &[CpuCost])> = [
            ("SERVICE", self.service.as_ref().map(|load| load.cpu.as_slice())),
            ("16 FILES", self.files.as_ref().map(|load| load.cpu.as_slice())),
            ("BURST", self.burst.as_ref().map(|burst| burst.cpu.as_slice())),
        ]
        .into_iter()
        .filter_map(|(name, cpu)| Some((name, cpu?)))
        .collect();
        let (_, first) = loads.first()?;
        let mut header = vec!["CPU µs PER SIGNATURE".to_owned()];
        header.extend(loads.iter().map(|(name, _)| (*name).to_owned()));
        header.extend(["MiB AT REST", "MiB AT MOST", "GOAL"].map(str::to_owned));
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = table(&header, &(1..header.len() - 1).collect::<Vec<_>>());
        for (number, cost) in first.iter().enumerate() {
            let mut row = vec![cost.process.clone()];
            row.extend(loads.iter().map(|(_, cpu)| cpu.get(number).map_or_else(String::new, cpu_cell)));
            match self.memory.iter().find(|memory| memory.process == cost.process) {
                Some(memory) => {
                    let most = if number == 0 { COORDINATOR_GOAL_MIB } else { NODE_GOAL_MIB };
                    row.push(format!("{:.1}", memory.rest_mib));
                    row.push(format!("{:.1}", memory.peak_mib));
                    row.push(goal("<", most, memory.peak_mib < most));
                }
                None => row.extend([String::new(), String::new(), String::new()]),
            }
            table.add_row(row);
        }
        let mut row = vec!["together".to_owned()];
        row.extend(loads.iter().map(|(_, cpu)| cpu_cell(&together(cpu))));
        row.extend([String::new(), String::new(), String::new()]);
        table.add_row(row);
        Some(table)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, organisations, seconds, optimised } = &self.machine;
        writeln!(f, "{organisations}; {cores} cores; {seconds} s for each load")?;
        if !optimised {
            writeln!(f, "NOT OPTIMISED: these figures say nothing; build with --release")?;
        }
        let figures = self.figures();
        if !figures.is_empty() {
            let mut table = table(&["FIGURE", "VALUE", "GOAL", ""], &[1]);
            table.add_rows(figures);
            writeln!(f, "\n{table}")?;
        }
        for table in [self.latency_table(), self.cost_table()].into_iter().flatten() {
            writeln!(f, "\n{table}")?;
        }
        for micro in &self.micro {
            writeln!(f, "\n{}", micro_table(micro))?;
        }
        for failure in &self.failures {
            writeln!(f, "\nnot measured: {failure}")?;
        }
        Ok(())
    }
}

fn micro_table(micro: &Micro) -> Table {
    let mut table = table(&["CPU µs PER SIGNATURE", "EACH", "TIMES", "TOGETHER", "%"], &[1, 2, 3, 4]);
    table.add_row([micro.batch, "", "", "", ""]);
    for step in &micro.steps {
        let together = step.us * float(step.times);
        let (times, sum, share) = if step.times == 0 {
            (String::new(), String::new(), String::new())
        } else {
            (
                step.times.to_string(),
                format!("{together:.1}"),
                format!("{:.0}", together / micro.total_us * 100.0),
            )
        };
        table.add_row([step.name.to_owned(), format!("{:.1}", step.us), times, sum, share]);
    }
    table.add_row(["together", "", "", &format!("{:.1}", micro.total_us), ""]);
    table
}

fn table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(RULES);
    table.set_header(header.iter().map(Cell::new));
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn load_note(load: &Throughput) -> String {
    format!(
        "{} at once; p50 {:.0} ms, p99 {:.0} ms; {:.0} releases/s",
        load.concurrency, load.latency.p50_ms, load.latency.p99_ms, load.releases_per_second
    )
}

fn by_cpu(what: &str, ratio: Option<f64>) -> String {
    ratio.map_or_else(|| what.to_owned(), |ratio| format!("{what}; by CPU alone {ratio:.2}"))
}

fn together(cpu: &[CpuCost]) -> CpuCost {
    CpuCost {
        process: "together".to_owned(),
        us_per_signature: cpu.iter().map(|cost| cost.us_per_signature).sum(),
        cores: cpu.iter().map(|cost| cost.cores).sum(),
    }
}

fn cpu_cell(cost: &CpuCost) -> String {
    format!("{:.0} ({:.2} cores)", cost.us_per_signature, cost.cores)
}

fn per_second(value: f64) -> String {
    format!("{value:.0} /s")
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} × naive")
}

fn least(value: f64, wanted: f64) -> String {
    goal("≥", wanted, value >= wanted)
}

fn goal(relation: &str, wanted: f64, met: bool) -> String {
    format!("{relation} {wanted}: {}", if met { "met" } else { "MISSED" })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{latency::Part, micro::Step, stats::Times};

    #[test]
    fn everything_shows_for_eyes_and_programs() {
        let mut report = Report::new(&Args::parse_from(["rutli-bench"]));
        let naive = Naive { per_second: 1_000.0, us_per_signature: 2_000.0, signatures: 10, threads: 2 };
        report.naive = NaiveFigure::over(&[naive, Naive { per_second: 800.0, ..naive }]);
        let cpu = |process: &str| CpuCost { process: process.into(), us_per_signature: 500.0, cores: 0.5 };
        report.service = Some(Throughput {
            per_second: 450.0,
            releases_per_second: 450.0,
            signatures: 9,
            concurrency: 3,
            latency: Times::default(),
            cpu: vec![cpu("coordinator"), cpu("vendor-1")],
        });
        let parts = vec![Part { name: "fsync", ms: 2.0 }];
        report.latency = Some(Latency {
            whole: Times::default(),
            acknowledged: Times::default(),
            parts,
            unavoidable_ms: 2.0,
            ratio: 4.0,
        });
        report.log = Some(crate::log::LogSpeed { short: 1_000.0, long: 900.0 });
        report.policy = Some(PolicyCost {
            policies_us: 40.0,
            decision_us: 500.0,
            node_us_per_signature: 200.0,
            signatures: 100,
        });
        report.memory = vec![Memory { process: "coordinator".into(), rest_mib: 20.0, peak_mib: 300.0 }];
        let steps = vec![Step { name: "share", us: 10.0, times: 3 }];
        report.micro = vec![Micro { batch: "one", steps, total_us: 30.0 }];
        let text = report.to_string();
        for part in [
            "900 /s",
            "0.50 × naive",
            "≥ 0.8: MISSED",
            "≤ 3: MISSED",
            "< 256: MISSED",
            "NOT QUIET",
            "share",
            "≥ 0.95: MISSED",
            "by CPU alone 2.00",
            "2.50 %",
            "< 2: MISSED",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let json = report.json();
        assert_eq!(json["ratio"], 0.5);
        assert_eq!(json["service"]["cpu"][1]["process"], "vendor-1");
        assert_eq!(json["burst_ratio"], Value::Null);
        assert_eq!(
            (&json["policy"]["policies_us"], &json["policy_of_release"]),
            (&json!(40.0), &json!(0.025))
        );
    }
}
