//! All attacks in their long form, and the table: `cargo xtask attack [--minutes M]`.

#![allow(clippy::unwrap_used, reason = "an attack that cannot be carried out ends the run")]

use std::process::ExitCode;

use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use rutli_tests::attack::{
    Row, Scale, damage, rogue,
    starve::{Stage, Way},
    stolen,
};

/// Of a measurement: the honest client's share of the hourly budget lasts longer than two of them.
const MOST_SECONDS: u64 = 25;

/// Attack a deployment of real processes on loopback, and print what came of it.
#[derive(Parser)]
#[command(name = "cargo xtask attack", max_term_width = 100)]
struct Cli {
    /// About how long the run takes, in minutes.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// Run only the attacks whose name contains this text: `stolen`, `coordinator`, `damage`, or an attacker
    /// such as `auditor`.
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let wanted = |name: &str| name.contains(&cli.only);
    // Two thirds of the time go to those who starve others: their ways, and twice what nobody disturbs.
    let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| wanted(&way.name())).collect();
    let seconds = (cli.minutes * 40 / (u64::try_from(ways.len()).unwrap() + 2)).clamp(5, MOST_SECONDS);
    let scale = Scale::Long { seconds };
    let mut rows = Vec::new();
    if wanted("stolen") {
        tell(&mut rows, stolen::thefts(scale).await);
    }
    if wanted("coordinator") {
        tell(&mut rows, rogue::lies(scale).await);
    }
    if wanted("damage") {
        tell(&mut rows, damage::damages(scale).await);
    }
    if !ways.is_empty() {
        tell(&mut rows, starved(&ways, scale).await);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["attack", "what it tries", "what came of it", "figures", "open"]);
    for row in &rows {
        let known = row.known().map(|why| format!("known: {why}"));
        let open = row.holes.iter().cloned().chain(known).collect::<Vec<_>>().join("\n");
        table.add_row([&row.attack, &row.tried, &row.came, &row.figures, &open]);
    }
    println!("{table}");
    let open = rows.iter().filter(|row| !row.holes.is_empty()).count();
    println!("{} attacks, {open} achieved something", rows.len());
    if open == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn starved(ways: &[Way], scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    for way in ways {
        // One for each: the honest client, too, has an hourly budget.
        let mut stage = Stage::set().await;
        let undisturbed = stage.undisturbed(scale).await;
        rows.push(stage.endure(*way, scale, &undisturbed).await);
        println!("{:?}: {}", way, rows.last().unwrap().figures);
    }
    rows
}

fn tell(rows: &mut Vec<Row>, more: Vec<Row>) {
    for row in &more {
        println!("{}: {}: {}", row.attack, row.tried, if row.holes.is_empty() { &row.came } else { "OPEN" });
    }
    rows.extend(more);
}
