//! Reading over a network, and round after round.

use std::process::Command;

use serde_json::Value;

use crate::{
    place::{Place, Round},
    server::{Manner, serve},
};

#[test]
fn over_http_too() {
    let place = Place::new(700);
    let (honest, _guard) = serve(&place.path("honest"), Manner::Plain);
    let round = place.monitor(&honest, "state", &["--compare", "honest"]);
    round.assert("over HTTP", &[]);
    assert_eq!(round.json["new_entries"].as_u64(), Some(700));
    // Busy now and then: asked again.
    let (busy, _guard) = serve(&place.path("honest"), Manner::Busy);
    let output = place.rutli("monitor", &busy, &["--once", "--state", "busy", "--documents", "none"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("checkpoint is asked for again: "));
    Round::of(output).assert("busy", &[]);
    for (manner, exit) in [(Manner::Redirects, 3), (Manner::Endless, 1), (Manner::Empty, 3)] {
        let (url, _guard) = serve(&place.path("honest"), manner);
        let output = place.rutli("monitor", &url, &["--once", "--state", "other"]);
        assert_eq!(output.status.code(), Some(exit), "{}", String::from_utf8_lossy(&output.stdout));
    }
    // Following prints a line for each round.
    let mut follow = Command::new(env!("CARGO_BIN_EXE_rutli"));
    follow.args([
        "--json",
        "log",
        "monitor",
        "--interval",
        "1s",
        "--state",
        "follow",
        "--policy",
        "tlog-policy",
    ]);
    follow.args(["--log", &honest]).current_dir(place.folder.path()).stdout(std::process::Stdio::piped());
    let mut follow = follow.spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    let sizes: Vec<Value> = lines.take(2).map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(sizes[0]["new_entries"], 700);
    assert_eq!(sizes[1]["new_entries"], 0);
}
