//! Seeded stories with loss, delay, reordering, duplicates, crashes, failing disks and a lying node: see
//! `rutli_tests::simulation`. Together 300 seeds; `RUTLI_SEEDS=5000` tells more, `RUTLI_SEED=17` tells one in full.

#![expect(clippy::expect_used, clippy::panic, reason = "a failed expectation is a failed test")]

use rutli_tests::simulation::{Fixture, Report, run};

/// Seeds of this command over all tests.
const SEEDS: u64 = 300;

fn seeds() -> u64 {
    std::env::var("RUTLI_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("RUTLI_SEEDS is a number"))
}

/// A third of the seeds each, so that they run side by side.
fn tell(part: u64, organisations: &[(&str, u16, u16)]) {
    let fixture = Fixture::new(organisations);
    let (mut signed, mut crashes, mut mishaps, mut undecided, mut culprits) = (0, 0, 0, 0, 0);
    for seed in (0..seeds()).filter(|seed| seed % 3 == part) {
        let report = run(&fixture, seed).unwrap_or_else(|violation| panic!("{violation}"));
        signed += report.signed;
        crashes += report.crashes;
        mishaps += report.mishaps;
        undecided += report.undecided;
        culprits += report.culprits.len();
    }
    println!(
        "{signed} releases signed through {crashes} crashes and {mishaps} mishaps; {culprits} culprits named"
    );
    // Stories in which nothing happens would show nothing.
    assert!(signed > 0 && crashes > 0 && mishaps > 0 && undecided > 0 && culprits > 0);
}

#[test]
fn two_of_three_and_a_lone_supervisor() {
    tell(0, &[("vendor", 2, 3), ("supervisor", 1, 1)]);
}

#[test]
fn two_of_three_on_both_sides() {
    tell(1, &[("vendor", 2, 3), ("supervisor", 2, 3)]);
}

#[test]
fn three_organisations_one_of_them_replicated() {
    tell(2, &[("vendor", 2, 3), ("supervisor", 1, 1), ("auditor", 1, 2)]);
}

/// A failing seed replays exactly: the same seed gives the same story, step by step.
#[test]
fn a_seed_tells_the_same_story_twice() {
    let fixture = Fixture::new(&[("vendor", 2, 3), ("supervisor", 1, 1)]);
    for seed in [0, 3, 6] {
        let tell = || -> Report { run(&fixture, seed).unwrap_or_else(|violation| panic!("{violation}")) };
        assert_eq!(tell(), tell());
    }
}

/// `RUTLI_SEED=17 cargo test … one_seed -- --nocapture` tells a story in full.
#[test]
fn one_seed() {
    let seed = std::env::var("RUTLI_SEED").map_or(1, |seed| seed.parse().expect("RUTLI_SEED is a number"));
    let fixture = Fixture::new(&[("vendor", 2, 3), ("supervisor", 1, 1)]);
    let report = run(&fixture, seed).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{}", report.story.join("\n"));
    assert_eq!(
        report.signed + report.refused + report.cancelled + report.overtaken,
        report.story.iter().filter(|l| l.contains("is over")).count()
    );
}
