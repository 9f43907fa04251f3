//! Reading over a network, and round after round.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

use crate::{
    folder::unix_now,
    place::{Place, Round},
    server::{Manner, serve},
};

/// Far longer than anything takes that is waited for, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A monitor that follows a log, a round each second.
struct Follower {
    child: Child,
    lines: Receiver<String>,
    /// What it wrote to stderr so far.
    said: Arc<Mutex<String>>,
    listener: JoinHandle<()>,
}

/// Waits until something is so.
fn eventually(what: &str, is: impl Fn() -> bool) {
    const STEP: Duration = Duration::from_millis(20);
    assert!(
        (0..PATIENCE.as_millis() / STEP.as_millis()).any(|_| is() || {
            thread::sleep(STEP);
            false
        }),
        "{what}"
    );
}

impl Follower {
    fn start(place: &Place, log: &str, state: &str, more: &[&str]) -> Self {
        // As under `nohup`.
        let mut rutli = Command::new("sh");
        rutli.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rutli")]);
        rutli.args(["log", "monitor", "--interval", "1s", "--policy", "tlog-policy"]);
        rutli.args(["--log", log, "--state", state]).args(more);
        rutli.env_remove("RUTLI_LOG").current_dir(place.folder.path());
        let mut child = rutli.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, (sender, lines)) = (child.stdout.take().unwrap(), channel());
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let (stderr, said) = (child.stderr.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let heard = Arc::clone(&said);
        let listener = thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writeln!(heard.lock().unwrap(), "{line}").unwrap();
            }
        });
        Self { child, lines, said, listener }
    }

    /// The next line of stdout.
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line that is no round, as JSON.
    #[track_caller]
    fn change(&self) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line()).unwrap();
            if line["findings"].is_null() {
                return line;
            }
        }
    }

    fn send(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Tells it to stop; gives its exit code and what it wrote to stderr.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        self.send(signal);
        let code = self.child.wait().unwrap().code();
        self.listener.join().unwrap();
        (code, std::mem::take(&mut self.said.lock().unwrap()))
    }
}

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
}

#[test]
fn following_tells_each_round_and_each_problem_once_with_its_time() {
    let place = Place::new(300);
    crate::folder::copy(&place.path("honest"), &place.path("mirror"));
    let follower = Follower::start(&place, "honest", "state", &["--json", "--compare", "mirror"]);
    let rounds = [follower.line(), follower.line()].map(|line| serde_json::from_str::<Value>(&line).unwrap());
    assert_eq!(rounds.map(|round| round["new_entries"].as_u64()), [Some(300), Some(0)]);
    for folder in ["honest", "mirror"] {
        let (checkpoint, away) = (place.path(folder).join("checkpoint"), place.path("away"));
        let before = unix_now();
        fs::rename(&checkpoint, &away).unwrap();
        let error = follower.change();
        assert_eq!(
            (error["error"]["exit"].as_u64(), error["log"].as_str()),
            (Some(3), Some("log.example.com/2026"))
        );
        assert!((before..=unix_now()).contains(&error["time"].as_u64().unwrap()), "{error}");
        let problem = error["error"]["problem"].as_str().unwrap();
        assert!(problem.contains(folder) && error["error"]["help"].is_string(), "{error}");
        // Some rounds later it is no other one.
        thread::sleep(Duration::from_millis(2_500));
        fs::rename(&away, &checkpoint).unwrap();
        let over = follower.change();
        assert_eq!(over["over"]["problem"], problem, "{over}");
        assert!(over["time"].as_u64() > error["time"].as_u64(), "{over}");
    }
    assert!(serde_json::from_str::<Value>(&follower.line()).unwrap()["findings"].is_array());
    let (exit, stderr) = follower.stop(Signal::SIGTERM);
    assert_eq!((exit, stderr.contains("error")), (Some(0), false), "{stderr}");
}

#[test]
fn following_for_eyes_tells_problems_with_their_time_too() {
    let place = Place::new(8);
    // Nobody listens there.
    let follower = Follower::start(&place, "http://127.0.0.1:9", "state", &[]);
    eventually("it says so", || follower.said.lock().unwrap().contains("help: "));
    // Some rounds later it is no other one.
    thread::sleep(Duration::from_millis(2_500));
    let (exit, stderr) = follower.stop(Signal::SIGINT);
    assert_eq!(exit, Some(3), "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.contains("error")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    let (time, error) = errors[0].split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.parse::<jiff::Timestamp>().is_ok(), "{stderr}");
    assert!(error.starts_with("log.example.com/2026: error: ") && stderr.contains("\nhelp: "), "{stderr}");
    // Nothing is said of each try.
    assert!(!stderr.contains("asked for again"), "{stderr}");
}

#[test]
fn a_monitor_that_is_told_to_stop_ends_with_what_it_found() {
    let mut place = Place::new(300);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let follower = Follower::start(&place, "honest", "state", &["--json"]);
        follower.line();
        follower.send(Signal::SIGHUP);
        // The state is kept after a round is shown; a second round comes after that.
        follower.line();
        let (exit, stderr) = follower.stop(signal);
        assert_eq!(exit, Some(0), "{signal}: {stderr}");
        let round = place.monitor("honest", "state", &[]);
        assert_eq!(round.json["new_entries"].as_u64(), Some(0), "{signal}");
    }
    // An alarm of any round.
    drop(place.log.ask_next());
    place.log.publish(&place.path("honest"), 256);
    let follower = Follower::start(&place, "honest", "state", &[]);
    assert!(follower.line().contains("1 finding"));
    while !follower.line().contains("nothing found") {}
    let (exit, stderr) = follower.stop(Signal::SIGTERM);
    assert_eq!(exit, Some(1), "{stderr}");
    assert!(stderr.contains("error: there were alarms"), "{stderr}");
    // In the midst of a round.
    let (silent, guard) = serve(&place.path("honest"), Manner::Silent);
    let follower = Follower::start(&place, &silent, "other", &["--json"]);
    eventually("it asks", || guard.asked() > 0);
    // A round that waited for its answers would end without them, with another code.
    assert_eq!(follower.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn a_file_that_cannot_be_used_ends_a_following_monitor_with_one_line() {
    let place = Place::new(8);
    let mut follower = Follower::start(&place, "honest", "none/state", &["--json"]);
    follower.line();
    let error: Value = serde_json::from_str(&follower.line()).unwrap();
    assert_eq!(error["error"]["exit"], 2, "{error}");
    assert_eq!(follower.child.wait().unwrap().code(), Some(2));
    assert!(follower.lines.recv_timeout(PATIENCE).is_err(), "one line, and no other");
    // So it is before it is known which log it is.
    let mut follower = Follower::start(&place, "nowhere", "state", &["--json"]);
    let error: Value = serde_json::from_str(&follower.line()).unwrap();
    assert_eq!((error["error"]["exit"].as_u64(), error["time"].is_u64()), (Some(2), true), "{error}");
    assert_eq!(follower.child.wait().unwrap().code(), Some(2));
    assert!(follower.lines.recv_timeout(PATIENCE).is_err(), "one line, and no other");
}
