//! Attacks on whole deployments of real processes, in a short form: see [`rutli_tests::attack`]. `cargo
//! xtask attack` runs the long one.

use rutli_tests::attack::{
    Row, Scale, damage, known_open, rogue,
    starve::{Stage, Way},
    stolen,
};

/// All of them are told before the first one fails.
fn must_hold(rows: &[Row]) {
    for row in rows {
        println!("{}: {}\n    {} {}", row.attack, row.tried, row.came, row.figures);
    }
    let holes: Vec<_> = rows.iter().filter(|row| row.known().is_none()).flat_map(|row| &row.holes).collect();
    assert!(holes.is_empty(), "{holes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_pipeline_with_earlier_evidence_gets_nothing_new_signed() {
    must_hold(&stolen::thefts(Scale::Short).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_taken_over_gets_no_share() {
    must_hold(&rogue::lies(Scale::Short).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_never_a_first_start() {
    must_hold(&damage::damages(Scale::Short).await);
}

/// The honest client gets its releases signed beside each of them, and nobody uses more memory than it may.
async fn starved_by(attacker: &str) {
    let mut stage = Stage::set().await;
    let undisturbed = stage.undisturbed(Scale::Short).await;
    let mut rows = Vec::new();
    let ways = Way::ALL.into_iter().filter(|way| way.attacker() == attacker);
    // One that is open would take minutes to fail.
    for way in ways.filter(|way| known_open(&way.name(), "").is_none()) {
        rows.push(stage.endure(way, Scale::Short, &undisturbed).await);
    }
    must_hold(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_starves_nobody() {
    starved_by("auditor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_starves_nobody() {
    starved_by("pipeline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_starves_nobody() {
    starved_by("custodian").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_starves_nobody() {
    starved_by("stranger").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_node_starves_nobody() {
    starved_by("node").await;
}
