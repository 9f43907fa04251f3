//! The demo as people run it, with real processes: what it leaves, and that it leaves nobody behind.
//!
//! Needs the daemons beside the built program: `cargo build --workspace`, as `cargo xtask test` does before all tests.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

fn demo(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rutli"));
    command
        .arg("demo")
        .arg("--dir")
        .arg(dir)
        .args(more)
        .env_remove("RUTLI_PROFILE")
        .env_remove("RUTLI_SOCKET");
    command
}

/// Process ids in `demo.json`.
fn pids(description: &Value) -> Vec<i32> {
    let nodes = description["nodes"].as_array().unwrap().iter().map(|node| &node["pid"]);
    std::iter::once(&description["coordinator"]["pid"])
        .chain(nodes)
        .map(|pid| i32::try_from(pid.as_i64().unwrap()).unwrap())
        .collect()
}

fn is_alive(pid: i32) -> bool {
    nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok()
}

fn description(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("demo.json")).unwrap()).unwrap()
}

/// Processes whose command line mentions a folder.
fn processes_of(dir: &Path) -> Vec<String> {
    let wanted = dir.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| {
            line.contains(wanted) && (line.contains("rutli-signer") || line.contains("rutli-coordinator"))
        })
        .collect()
}

fn stop(child: &mut Child, signal: Signal) {
    nix::sys::signal::kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn it_leaves_what_is_promised_and_no_process() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let file = folder.path().join("a file");
    std::fs::write(&file, b"content").unwrap();
    let output = demo(&dir, &["--json", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true));
    let releases = report["releases"].as_array().unwrap();
    assert_eq!(report["notices"], Value::Array(Vec::new()), "this machine can keep a build to itself");
    let products: Vec<_> = releases.iter().map(|release| release["product"].as_str().unwrap()).collect();
    assert_eq!(products, ["sandbox", "avdb", "suite"]);
    let kinds = |release: &Value| -> Vec<String> {
        let evidence = release["evidence"].as_array().unwrap().iter();
        evidence.map(|document| document["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&releases[1]), ["build", "tests"]);
    assert_eq!(kinds(&releases[2]), ["build", "tests", "build", "approval"]);
    assert!(releases.iter().all(|release| release["sequence"] == 1));
    for release in releases {
        let id = release["release_id"].as_str().unwrap();
        assert_eq!(release["signed_by"].as_array().unwrap().len(), 3);
        assert_eq!(std::fs::metadata(dir.join(format!("out/{id}.statement.sig"))).unwrap().len(), 64);
        assert!(dir.join(format!("out/{id}.statement")).is_file());
        assert!(dir.join(format!("out/{id}.intoto.json")).is_file());
        // The checks above have verified both.
        assert_eq!(release["proven"], true);
        assert!(dir.join(format!("out/{id}.sigstore.json")).is_file());
        assert!(dir.join(format!("out/{id}.tlog-proof")).is_file());
    }
    let in_log = |check: &&Value| {
        ["Sigstore bundle", "proof of"].iter().any(|what| check["what"].as_str().unwrap().starts_with(what))
    };
    assert_eq!(report["checks"].as_array().unwrap().iter().filter(in_log).count(), 15);
    for path in [
        "keys/release.pem",
        "keys/allowed_signers",
        "keys/log.vkey",
        "keys/tlog-policy",
        "keys/trusted_root.json",
        "out/a file.sig",
        "out/avdb-20.vdb.sig",
        "out/suite.sig",
        "client.toml",
    ] {
        assert!(dir.join(path).is_file(), "{path}");
    }

    let description = description(&dir);
    assert!(description["coordinator"]["grpc"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(description["log"]["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    let nodes = description["nodes"].as_array().unwrap();
    let names: Vec<_> = nodes
        .iter()
        .map(|node| (node["organisation"].as_str().unwrap(), node["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        names,
        [
            ("vendor", "vendor-1"),
            ("vendor", "vendor-2"),
            ("vendor", "vendor-3"),
            ("supervisor", "supervisor-1")
        ]
    );
    assert!(nodes.iter().all(|node| node["socket"].as_str().unwrap().ends_with("node.sock")));
    for part in ["certificate", "key", "ca"] {
        assert!(PathBuf::from(description["client"][part].as_str().unwrap()).is_file(), "{part}");
    }
    assert!(pids(&description).into_iter().all(|pid| !is_alive(pid)));
    assert_eq!(processes_of(&dir), Vec::<String>::new());
}

#[test]
fn kept_it_stays_up_without_one_of_its_nodes_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let file = folder.path().join("file");
    std::fs::write(&file, b"content").unwrap();
    let mut child = demo(&dir, &["--keep", file.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.contains("up until Ctrl-C")), "it did not come up");
    let description = description(&dir);
    let pids = pids(&description);
    assert!(pids.iter().all(|pid| is_alive(*pid)));

    // One vendor node less is nothing to 2 of 3.
    nix::sys::signal::kill(Pid::from_raw(pids[3]), Signal::SIGKILL).unwrap();
    assert!(lines.by_ref().any(|line| line.contains("vendor/vendor-3 ended")));
    let out = folder.path().join("signatures");
    let rutli = |line: &str, more: &[&Path]| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rutli"));
        command.arg("--json").arg("--profile").arg(dir.join("client.toml")).args(line.split(' '));
        let output = command.args(more).arg("--out").arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let sign = "sign --class av-database --product sandbox --channel beta --timeout 5m --proof-timeout";
    let signed = rutli(&format!("{sign} 5m --version 2 --sequence 1"), &[&file]);
    assert_eq!(signed["proven"], true);
    let id = signed["release_id"].as_str().unwrap();
    assert!(out.join(format!("{id}.sigstore.json")).is_file());

    // The signatures do not wait for the proof, and the proof can be had later.
    let unproven = rutli(&format!("{sign} 0 --version 3 --sequence 2"), &[&file]);
    let id = unproven["release_id"].as_str().unwrap();
    assert!(out.join(format!("{id}.intoto.json")).is_file());
    let proof = out.join(format!("{id}.tlog-proof"));
    let is_proven = |_| {
        std::thread::sleep(Duration::from_millis(200));
        rutli(&format!("release fetch {id}"), &[])["proven"] == true
    };
    assert!((0..1_500).any(is_proven), "the proof does not come");
    assert!(proof.is_file());

    // A second demo does not touch the folder of one that runs.
    let second = demo(&dir, &[]).output().unwrap();
    assert_eq!(second.status.code(), Some(2));

    stop(&mut child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

#[test]
fn interrupted_in_the_middle_it_fails_and_stops_all() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("demo");
    let mut child = demo(&dir, &[]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.contains("listens")));
    stop(&mut child, Signal::SIGINT);
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.iter().any(|line| line.contains("interrupted by Ctrl-C")), "{rest:?}");
    let nobody_is_left = |_| {
        std::thread::sleep(Duration::from_millis(100));
        processes_of(&dir).is_empty()
    };
    assert!((0..600).any(nobody_is_left), "{:?}", processes_of(&dir));
}
