//! A build ends with all that it started: when it is done, when its time is up, when somebody ends `rutli`, however roughly.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::desk::{COMMAND, Desk, ISOLATIONS, code, json, run, said};

/// Starts two that sleep, one of them in a session of its own, and says so. `mark` is a number that nobody else sleeps for.
fn line(mark: &str, then: &str) -> String {
    format!("sleep {mark}1 & setsid sleep {mark}2 & echo asleep; touch /build/ready; {then}")
}

/// Processes that sleep for this mark.
fn sleepers(mark: &str) -> usize {
    let lines = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with(format!("sleep\0{mark}").as_bytes())).count()
}

#[expect(clippy::disallowed_methods, reason = "a test that waits")]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn mark(number: u32) -> String {
    format!("{number}{:07}", std::process::id())
}

#[test]
fn time_is_bounded_and_takes_the_whole_tree() {
    for (number, isolation) in (1..).zip(ISOLATIONS) {
        let desk = Desk::bare();
        desk.write("expected/f", "x");
        let mark = mark(number);
        let line = line(&mark, "wait");
        // On a busy machine two seconds may be up before anybody sleeps.
        let had_begun = ["2", "20", "200"].iter().any(|seconds| {
            let timeout = format!("{seconds}s");
            let output = desk.rebuild(isolation, &line, &["--timeout", &timeout, "--json"]).output().unwrap();
            assert_eq!(code(&output), 1, "{isolation}: {}", said(&output));
            let document = json(&output);
            let problem = document["error"]["problem"].as_str().unwrap();
            let wanted = format!("its {seconds} seconds are up; nothing is attested");
            assert!(problem.contains(&wanted), "{problem}");
            eventually("a part of the build goes on", || sleepers(&mark) == 0);
            assert!(!desk.path("rebuild.dsse.json").exists());
            document["output"].as_str().unwrap().contains("asleep")
        });
        assert!(had_begun, "{isolation}: the build does not begin");
    }
}

#[test]
fn what_a_build_leaves_behind_ends_with_it() {
    for (number, isolation) in (3..).zip(ISOLATIONS) {
        let desk = Desk::bare();
        desk.write("expected/f", "x");
        let mark = mark(number);
        let output = desk.rebuild(isolation, &line(&mark, "printf x >f"), &[]).output().unwrap();
        assert_eq!(code(&output), 0, "{isolation}: {}", said(&output));
        eventually("a part of the build goes on", || sleepers(&mark) == 0);
    }
}

#[test]
fn a_build_that_fails_is_told_with_its_last_words() {
    for isolation in ISOLATIONS {
        let desk = Desk::bare();
        desk.write("expected/f", "x");
        let line = "seq 100; printf 'colour \\033[31mred\\n'; echo 'main.c: error' >&2; exit 7";
        let output = desk.rebuild(isolation, line, &["--json"]).output().unwrap();
        assert_eq!(code(&output), 1, "{}", said(&output));
        let document = json(&output);
        assert!(
            document["error"]["problem"].as_str().unwrap().contains("the build failed (exit status: 7)"),
            "{document}"
        );
        let last = document["output"].as_str().unwrap();
        assert!(
            last.ends_with("100\ncolour \u{fffd}[31mred\nmain.c: error") && !last.contains("\n10\n"),
            "{last}"
        );
        assert!(String::from_utf8_lossy(&output.stderr).contains("  main.c: error\n"));
    }
}

fn started(desk: &Desk, isolation: &str, mark: &str) -> Child {
    desk.write("expected/f", "x");
    // One that does not want to end with its starter.
    let stays = format!("exec setpriv --pdeathsig clear sleep {mark}3");
    let mut rebuild = desk.rebuild(isolation, &line(mark, &stays), &[]);
    let child = rebuild.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the build does not start", || sleepers(mark) == 3);
    child
}

#[test]
fn whoever_ends_rutli_ends_the_build() {
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL];
    for (number, isolation) in (0..).zip(ISOLATIONS) {
        for (more, signal) in (0..).zip(signals) {
            let desk = Desk::bare();
            let mark = mark(10 + 10 * number + more);
            let mut child = started(&desk, isolation, &mark);
            kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), (signal != Signal::SIGKILL).then_some(1), "{isolation} {signal}");
            eventually("a part of the build goes on", || sleepers(&mark) == 0);
        }
    }
}

#[test]
fn whoever_ends_it_while_it_unpacks_ends_it_in_order() {
    let desk = Desk::bare();
    desk.write("expected/f", "x");
    fs::create_dir(desk.path("tmp")).unwrap();
    let large = fs::File::create(desk.path("large")).unwrap();
    large.set_len(300 << 20).unwrap();
    let tar = desk.path("source.tar.gz");
    run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(desk.path("")).arg("large"));
    let mut rebuild = desk.rebuild("auto", "true", &[]);
    let rebuild = rebuild.env("TMPDIR", desk.path("tmp")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = rebuild.spawn().unwrap();
    let unpacking = || {
        // As it is seen where it is mounted.
        let seen = format!("/proc/{}/root{}", child.id(), desk.path("tmp").display());
        let mut places = fs::read_dir(seen).unwrap().flatten();
        places.any(|place| place.path().join("build/large").exists())
    };
    eventually("nothing is unpacked", unpacking);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
}

#[test]
fn an_ordinary_user_rebuilds_too_and_nothing_is_left_on_the_disk() {
    for isolation in ISOLATIONS {
        let desk = Desk::new();
        fs::create_dir(desk.path("tmp")).unwrap();
        let line = format!(
            "{COMMAND}; mkdir -p cache/deep; touch cache/deep/file; chmod -R a-w cache; chmod 0 cache"
        );
        let mut rebuild = desk.rebuild(isolation, &line, &["--output", "out"]);
        rebuild.env("TMPDIR", desk.path("tmp"));
        let output = desk.as_ordinary_user(&rebuild).output().unwrap();
        assert_eq!(code(&output), 0, "{isolation}: {}", said(&output));
        assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0, "{isolation}");
    }
}
