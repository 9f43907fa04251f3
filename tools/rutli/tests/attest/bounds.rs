//! A build that takes all that it can get is ended at its bounds, with either way of isolation, as root and as an ordinary user.
//!
//! The bombs are small ones: where nothing bounds them they take some hundred MiB, processes or thousand files, and wait to be killed.

use std::{fs, path::Path, process::Output};

use serde_json::Value;

use crate::{
    desk::{COMMAND, Desk, ISOLATIONS, code, json, said},
    ending::{eventually, mark},
};

/// Compiles the source, and runs it under a name that can be found.
const RUN: &str = "cc -o bomb main.c && exec ./bomb MARK";

/// The bounds of all tests here.
const BOUNDS: [&str; 8] = ["--memory", "64MiB", "--disk", "32MiB", "--processes", "32", "--timeout", "90s"];

/// Takes memory, in `processes` processes, and does not mind if it gets none.
fn memory_bomb(processes: u32, mebibytes: u32) -> String {
    format!(
        "#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
         int main(void) {{\n\
         for (int i = 1; i < {processes} && fork(); i++);\n\
         for (int i = 0; i < {mebibytes}; i++) {{ char *p = malloc(1 << 20); if (p) memset(p, 1, 1 << 20); }}\n\
         sleep(600); return 0; }}\n"
    )
}

const FORK_BOMB: &str = "#include <unistd.h>\nint main(void) { for (int i = 0; i < 300; i++) if (!fork()) { sleep(600); return 0; }\n\
                         sleep(600); return 0; }\n";

const THREAD_BOMB: &str = "#include <pthread.h>\n#include <unistd.h>\nstatic void *rest(void *p) { sleep(600); return p; }\n\
                           int main(void) { pthread_t t; pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 1 << 16); for (int i = 0; i < 300; i++) pthread_create(&t, &a, rest, 0);\n\
                           sleep(600); return 0; }\n";

/// Both ways of bounding memory and processes, where the tests may make cgroups, for both kinds of users.
fn ways(desk: &Desk) -> Vec<(&'static str, bool)> {
    desk.write("expected/f", "x");
    let has_cgroup = |ordinary: bool| {
        let rebuild = desk.rebuild("auto", "printf x >f", &["--limits", "cgroup", "--json"]);
        let mut rebuild = if ordinary { desk.as_ordinary_user(&rebuild) } else { rebuild };
        let output = rebuild.output().unwrap();
        if code(&output) == 0 {
            assert_eq!(json(&output)["limits"]["by"], "cgroup");
            return true;
        }
        let error = json(&output)["error"].clone();
        assert!(
            error["problem"].as_str().unwrap().starts_with("cannot make a cgroup for the build"),
            "{error}"
        );
        assert!(error["help"].as_str().unwrap().contains("--limits rlimits"), "{error}");
        false
    };
    let with_cgroup = [false, true].into_iter().filter(|ordinary| has_cgroup(*ordinary));
    let mut ways: Vec<_> = with_cgroup.map(|ordinary| ("cgroup", ordinary)).collect();
    ways.extend([("rlimits", false), ("rlimits", true)]);
    ways
}

/// Runs a build in all ways, each of which must end it at this bound, and leave nothing of it.
fn ends(number: u32, source: &str, command: &str, bound: &str) {
    let desk = Desk::bare();
    desk.pack("source.tar.gz", source);
    let mark = mark(number);
    fs::create_dir(desk.path("tmp")).unwrap();
    for (limits, ordinary) in ways(&desk) {
        for isolation in ISOLATIONS {
            let command = command.replace("MARK", &mark);
            let mut rebuild = desk.rebuild(isolation, &command, &["--limits", limits, "--json"]);
            rebuild.args(BOUNDS).env("TMPDIR", desk.path("tmp"));
            let mut rebuild = if ordinary { desk.as_ordinary_user(&rebuild) } else { rebuild };
            let child = rebuild.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            let child = child.spawn().unwrap();
            let process = child.id();
            let output = child.wait_with_output().unwrap();
            let way = format!("{isolation}, {limits}, ordinary: {ordinary}");
            check(&output, &way, bound);
            eventually("a part of the build goes on", || !runs(&mark));
            assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0, "{way}");
            let mounts = fs::read_to_string("/proc/mounts").unwrap();
            assert!(!mounts.contains(desk.path("tmp").to_str().unwrap()), "{way}: {mounts}");
            let cgroups = Path::new("/sys/fs/cgroup");
            let name = format!("rutli-rebuild-{process}-");
            assert!(!has_folder(cgroups, &name), "{way}");
        }
    }
}

fn check(output: &Output, way: &str, bound: &str) {
    assert_eq!(code(output), 1, "{way}: {}", said(output));
    let document = json(output);
    assert_eq!(document["bound"], bound, "{way}: {document}");
    assert_eq!(document["reproduced"], false);
    let error = &document["error"];
    let [problem, help] = ["problem", "help"].map(|field| error[field].as_str().unwrap());
    let (size, option) = match bound {
        "memory" => ("64.0 MiB of memory", "--memory"),
        "processes" => ("32 processes", "--processes"),
        "disk" => ("32.0 MiB of disk", "--disk"),
        _ => ("8192 files", "--disk"),
    };
    assert!(problem.contains(&format!("it used up its {size}")), "{way}: {problem}");
    assert!(problem.ends_with("nothing is attested") && help.contains(option), "{way}: {error}");
}

/// Whether a process has this among its arguments.
fn runs(mark: &str) -> bool {
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| line.split(|byte| *byte == 0).any(|argument| argument == mark.as_bytes()))
}

fn has_folder(below: &Path, name: &str) -> bool {
    fs::read_dir(below).into_iter().flatten().flatten().any(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && (entry.file_name().to_string_lossy().starts_with(name) || has_folder(&entry.path(), name))
    })
}

#[test]
fn a_fork_bomb_is_ended() {
    ends(50, FORK_BOMB, RUN, "processes");
}

#[test]
fn a_bomb_of_threads_is_ended() {
    ends(51, THREAD_BOMB, &RUN.replace("main.c", "main.c -pthread"), "processes");
}

#[test]
fn a_process_that_takes_memory_without_end_is_ended() {
    ends(52, &memory_bomb(1, 600), RUN, "memory");
}

#[test]
fn processes_that_take_memory_together_are_ended() {
    ends(53, &memory_bomb(10, 60), RUN, "memory");
}

#[test]
fn one_large_file_ends_a_build_wherever_it_is() {
    let fill = "head -c 256M /dev/zero >FILE; exec sleep 600 MARK";
    for (number, file) in (54..).zip(["large", "/tmp/large", "/dev/shm/large"]) {
        ends(number, "", &fill.replace("FILE", file).replace("600 MARK", "MARK"), "disk");
    }
}

/// What has no name is in no list of files.
#[test]
fn files_without_names_end_a_build() {
    let fill = "for f in a b c d e f g h; do exec 3>$f; rm $f; head -c 30M /dev/zero >&3; tail -f /dev/null <&3 & done; exec sleep MARK";
    ends(57, "", fill, "disk");
}

#[test]
fn many_small_files_end_a_build() {
    ends(58, "", "seq 30000 | xargs touch; exec sleep MARK", "files");
}

#[test]
fn a_source_that_is_larger_than_the_disk_is_not_unpacked() {
    let desk = Desk::bare();
    desk.write("expected/f", "x");
    desk.pack("source.tar.gz", &"x".repeat(40 << 20));
    let output = desk.rebuild("auto", "true", &["--disk", "32MiB", "--json"]).output().unwrap();
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert_eq!(json(&output)["bound"], "disk");
    let error = json(&output)["error"].clone();
    assert!(error["problem"].as_str().unwrap().contains("it does not fit into --disk 32.0 MiB"), "{error}");
    assert!(error["help"].as_str().unwrap().contains("--disk 16GiB"), "{error}");
}

/// They take no disk, and would take for ever to compare.
#[test]
fn files_that_are_nothing_but_holes_are_not_compared() {
    let desk = Desk::bare();
    for name in ["a", "b", "c"] {
        desk.write(&format!("expected/{name}"), "x");
    }
    let line = "truncate -s 30M a; ln a b; ln -s a c";
    let output = desk.rebuild("auto", line, &["--disk", "64MiB", "--json"]).output().unwrap();
    assert_eq!(code(&output), 1, "{}", said(&output));
    let problem = json(&output)["error"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("leaves 90.0 MiB in place of the release's files"), "{problem}");
    let line = "truncate -s 1T a";
    let output = desk.rebuild("auto", line, &["--disk", "64MiB", "--json"]).output().unwrap();
    let problem = json(&output)["error"]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("it used up its 64.0 MiB of disk"), "{problem}");
}

#[test]
fn an_ordinary_build_keeps_to_its_bounds_and_they_are_recorded() {
    let desk = Desk::new();
    for (limits, ordinary) in ways(&desk) {
        fs::remove_file(desk.path("expected/f")).ok();
        for isolation in ISOLATIONS {
            let rebuild =
                desk.rebuild(isolation, COMMAND, &["--output", "out", "--limits", limits, "--json"]);
            let mut rebuild = if ordinary { desk.as_ordinary_user(&rebuild) } else { rebuild };
            let output = rebuild.args(["--memory", "256MiB", "--disk", "32MiB"]).output().unwrap();
            assert_eq!(code(&output), 0, "{isolation}, {limits}: {}", said(&output));
            let document = json(&output);
            assert_eq!(document["limits"]["by"], limits, "{document}");
            assert_eq!(document["limits"]["memory"], 256 << 20, "{document}");
            assert_eq!(document["limits"]["processes"], 512, "{document}");
            let words = format!("256.0 MiB memory, 32.0 MiB disk, 512 processes, by {limits}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(&format!("limits: {words}\n")));
            assert_eq!(parameters(&desk)["limits"], words);
        }
    }
}

fn parameters(desk: &Desk) -> Value {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let envelope: Value = serde_json::from_slice(&fs::read(desk.path("rebuild.dsse.json")).unwrap()).unwrap();
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    statement["predicate"]["buildDefinition"]["externalParameters"].clone()
}

/// The kernel refuses it more, and it says so by itself.
#[test]
fn a_build_that_gives_up_at_a_bound_is_told_which() {
    let desk = Desk::bare();
    desk.write("expected/f", "x");
    let lines = [
        ("echo 'cc1: out of memory allocating 1 bytes' >&2; exit 1", "64.0 MiB of memory", "--memory"),
        ("echo 'sh: 0: Cannot fork' >&2; exit 2", "32 processes", "--processes"),
        ("echo 'tar: x: Cannot write: No space left on device' >&2; exit 2", "32.0 MiB of disk", "--disk"),
    ];
    for (line, bound, option) in lines {
        let mut rebuild = desk.rebuild("auto", line, &["--limits", "rlimits", "--json"]);
        let output = rebuild.args(BOUNDS).output().unwrap();
        assert_eq!(code(&output), 1, "{}", said(&output));
        let error = json(&output)["error"].clone();
        let [problem, help] = ["problem", "help"].map(|field| error[field].as_str().unwrap());
        assert!(problem.contains(&format!("and may have no more than {bound}")), "{error}");
        assert!(help.contains(option), "{error}");
    }
}
