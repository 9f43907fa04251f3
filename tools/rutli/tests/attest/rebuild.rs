//! What is the same is attested; what is not is named, and nothing is signed.

use std::fs;

use rutli_evidence::{Established, NotEstablished, Role, SourceDigest};
use serde_json::json;

use crate::desk::{COMMAND, Desk, ISOLATIONS, REBUILDER, code, json, run, said, sha256};

const OUTPUT: [&str; 2] = ["--output", "out"];

#[test]
fn what_comes_out_the_same_is_attested_and_counts_as_a_rebuild() {
    for isolation in ISOLATIONS {
        let desk = Desk::new();
        let more = ["--output", "out", "--source-uri", "https://vendor.example/suite-1.2.tar.gz", "--json"];
        let output = desk.rebuild(isolation, COMMAND, &more).output().unwrap();
        assert_eq!(code(&output), 0, "{isolation}: {}", said(&output));
        let source = SourceDigest::Sha256(sha256(&desk.path("source.tar.gz")));
        let Ok(Established::Rebuild(fact)) = desk.established("rebuild.dsse.json", Role::Rebuilder) else {
            panic!()
        };
        assert_eq!((fact.builder_id.as_str(), &fact.source_digest), (REBUILDER, &source));
        assert_eq!(fact.source_uri.unwrap(), "https://vendor.example/suite-1.2.tar.gz");
        assert!(fact.finished_at.is_some());
        let document = json(&output);
        assert_eq!(document["reproduced"], true);
        assert_eq!(document["isolation"], isolation);
        assert_eq!(document["source_digest"], source.to_string());
        assert_eq!(document["files"].as_array().unwrap().len(), 2);
        assert_eq!(document["extra"], json!([]));
        // A pipeline's own build counts by another role, and so by another key.
        assert!(matches!(
            desk.established("rebuild.dsse.json", Role::Tester),
            Err(NotEstablished::WrongRole { .. })
        ));
    }
}

#[test]
fn a_person_is_told_what_to_do_next_and_what_was_beside() {
    let desk = Desk::new();
    let line = format!("{COMMAND} && touch out/more out/other && ln -s more out/link");
    let output = desk.rebuild("auto", &line, &OUTPUT).output().unwrap();
    let said = said(&output);
    assert_eq!(code(&output), 0, "{said}");
    for part in [
        "reproduced: 2 files from sha256:",
        "beside them are 3 more files, not attested: link, more, other",
        "rutli evidence add RELEASE rebuild.dsse.json",
        "building in /build/suite-1.2 by bwrap",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn files_are_found_by_their_path_or_as_the_only_one_of_their_name() {
    let desk = Desk::new();
    // `rutli sign` without --base.
    fs::rename(desk.path("expected/bin/suite"), desk.path("expected/suite")).unwrap();
    let output = desk.rebuild("auto", COMMAND, &["--json"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", said(&output));
    let line = format!("{COMMAND} && cp out/notes.txt . && mkdir copy && cp out/bin/suite copy");
    let output = desk.rebuild("auto", &line, &["--json"]).output().unwrap();
    assert_eq!(code(&output), 5, "{}", said(&output));
    let document = json(&output);
    let differences = document["differences"].as_array().unwrap();
    assert_eq!((differences.len(), &differences[0]["kind"]), (1, &json!("ambiguous")));
    assert!(differences[0]["text"].as_str().unwrap().contains("copy/suite, out/bin/suite"));
}

#[test]
fn one_changed_byte_of_the_source_is_found_in_what_is_built() {
    let desk = Desk::new();
    desk.pack_changed("source.tar.gz");
    let output = desk.rebuild("auto", COMMAND, &OUTPUT).output().unwrap();
    let said = said(&output);
    assert_eq!(code(&output), 5, "{said}");
    assert!(said.contains("not reproduced: 1 of 2 files are not as expected; nothing is attested"), "{said}");
    assert!(said.contains("bin/suite differs: ") && !said.contains("notes.txt differs"), "{said}");
    assert!(!desk.path("rebuild.dsse.json").exists());
}

#[test]
fn one_changed_byte_of_the_program_is_found_with_its_place() {
    let desk = Desk::new();
    let path = desk.path("expected/bin/suite");
    let mut bytes = fs::read(&path).unwrap();
    let size = bytes.len();
    bytes[5_000] ^= 0xff;
    let (there, here) = (bytes[5_000], !bytes[5_000]);
    fs::write(&path, &bytes).unwrap();
    let more = ["--output", "out", "--json", "--save", "saved"];
    let output = desk.rebuild("auto", COMMAND, &more).output().unwrap();
    assert_eq!(code(&output), 5, "{}", said(&output));
    let document = json(&output);
    assert_eq!((&document["reproduced"], &document["error"]["exit"]), (&json!(false), &json!(5)));
    let difference = &document["differences"][0];
    assert_eq!((&difference["name"], &difference["kind"]), (&json!("bin/suite"), &json!("differs")));
    assert_eq!((&difference["offset"], &difference["rebuilt"]["size"]), (&json!(5_000), &json!(size)));
    let text = difference["text"].as_str().unwrap();
    assert!(
        text.contains(&format!("{size} bytes as expected; from byte 5000 (0x1388) on {here:02x} ")),
        "{text}"
    );
    assert!(text.contains(&format!("instead of {there:02x} ")), "{text}");
    assert!(!desk.path("rebuild.dsse.json").exists());
    assert_eq!(fs::read(desk.path("saved/bin/suite")).unwrap()[5_000], here);
    assert!(fs::read(desk.path("saved/notes.txt")).is_ok());
}

#[test]
fn every_artifact_must_come_out() {
    let desk = Desk::new();
    desk.write("expected/bin/more", "x");
    let output = desk.rebuild("auto", COMMAND, &OUTPUT).output().unwrap();
    assert_eq!(code(&output), 5, "{}", said(&output));
    assert!(said(&output).contains("bin/more is missing: the build did not make it"), "{}", said(&output));
    // A list of digests does as well as the files, but for the place of the difference.
    fs::remove_file(desk.path("expected/bin/more")).unwrap();
    let sums = format!(
        "{}  bin/suite\n{}  notes.txt\n",
        "ab".repeat(32),
        hex::encode(sha256(&desk.path("expected/notes.txt")))
    );
    desk.write("SHA256SUMS", &sums);
    let output =
        desk.rebuild("auto", COMMAND, &["--output", "out", "--expect", "SHA256SUMS"]).output().unwrap();
    assert_eq!(code(&output), 2, "--expect twice: {}", said(&output));
    let list = || {
        let mut command = desk.attest(&["rebuild", "--source", "source.tar.gz", "--builder-id", REBUILDER]);
        command.args(["--expect", "SHA256SUMS", "--key", "key.pem", "--out", "rebuild.dsse.json"]);
        command.args(["--command", COMMAND]).args(OUTPUT).output().unwrap()
    };
    let output = list();
    assert_eq!(code(&output), 5, "{}", said(&output));
    assert!(said(&output).contains(&format!("instead of {}", "ab".repeat(32))), "{}", said(&output));
    let right = sums.replace(&"ab".repeat(32), &hex::encode(sha256(&desk.path("expected/bin/suite"))));
    desk.write("SHA256SUMS", &right);
    assert_eq!(code(&list()), 0);
    assert!(matches!(desk.established("rebuild.dsse.json", Role::Rebuilder), Ok(Established::Rebuild(_))));
}

#[test]
fn links_in_what_is_built_lead_no_further_than_the_build() {
    let desk = Desk::bare();
    desk.write("expected/passwd", &fs::read_to_string("/etc/passwd").unwrap());
    desk.write("expected/inside", "x");
    let line = "ln -s /etc/passwd passwd; printf x >real; ln -s real inside; mkfifo pipe; ln -s / root";
    let output = desk.rebuild("auto", line, &["--json"]).output().unwrap();
    assert_eq!(code(&output), 5, "{}", said(&output));
    let document = json(&output);
    assert_eq!(document["differences"].as_array().unwrap().len(), 1, "{document}");
    assert_eq!(
        (&document["differences"][0]["name"], &document["differences"][0]["kind"]),
        (&json!("passwd"), &json!("missing"))
    );
    // A folder that leads out is none.
    let output = desk.rebuild("auto", "ln -s / out", &OUTPUT).output().unwrap();
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(said(&output).contains("did not make the folder suite-1.2/out"), "{}", said(&output));
}

#[test]
fn diffoscope_explains_between_the_walls() {
    for isolation in ISOLATIONS {
        let desk = Desk::new();
        desk.pack_changed("source.tar.gz");
        fs::create_dir(desk.path("tools")).unwrap();
        let tool = desk.path("tools/diffoscope");
        fs::write(
            &tool,
            "#!/bin/sh\necho \"in $PWD with $(ls /build): $*\"\ncmp -l \"$4\" \"$5\" | wc -l\nexit 1\n",
        )
        .unwrap();
        run(std::process::Command::new("chmod").arg("755").arg(&tool));
        let tools = desk.path("tools").to_str().unwrap().to_owned();
        let path = format!("PATH={tools}:/usr/bin:/bin");
        let more = ["--output", "out", "--diffoscope", "--ro-bind", &tools, "--env", &path];
        let output = desk.rebuild(isolation, COMMAND, &more).output().unwrap();
        assert_eq!(code(&output), 5, "{}", said(&output));
        let wanted = "diffoscope of bin/suite:\nin /build with suite-1.2: --no-progress --text - /tmp/expected /tmp/rebuilt\n";
        assert!(said(&output).contains(wanted), "{}", said(&output));
        // Also on a machine that has it.
        let line = format!("PATH=/usr/bin:/bin; {COMMAND}");
        let more = ["--output", "out", "--diffoscope", "--env", "PATH=/nonexistent"];
        let output = desk.rebuild(isolation, &line, &more).output().unwrap();
        assert_eq!(code(&output), 5, "{}", said(&output));
        assert!(
            said(&output).contains("diffoscope is not installed where a build sees it"),
            "{}",
            said(&output)
        );
    }
}

#[test]
fn what_is_wrong_is_said_before_the_work() {
    let desk = Desk::new();
    desk.write("not-a-tar", "x");
    desk.write("sums", "x");
    let key = desk.path("").to_str().unwrap().to_owned();
    for (args, reason) in [
        (vec!["--builder-id", ""], "the same argument"),
        (vec!["--build-type", "a\nb"], "buildDefinition.buildType"),
        (vec!["--output", "../x"], "--output ../x is no folder of the build's"),
        (vec!["--output", "/etc"], "--output /etc is no folder of the build's"),
        (vec!["--env", "1A=x"], "1A is no name of a variable"),
        (vec!["--env", "A"], "give NAME=VALUE"),
        (vec!["--ro-bind", "/"], "something of its own is there"),
        (vec!["--ro-bind", "/tmp"], "something of its own is there"),
        (vec!["--ro-bind", "/nonexistent"], "does not exist"),
        (vec!["--ro-bind", "relative"], "no absolute path"),
        (vec!["--ro-bind", &key], "secret key"),
        (vec!["--save", "expected"], "expected is not empty"),
        (vec!["--timeout", "soon"], "90s"),
    ] {
        let output = desk.rebuild("auto", "touch ran", &args).output().unwrap();
        assert_eq!(code(&output), 2, "{args:?}: {}", said(&output));
        let said = said(&output);
        assert!(said.contains(reason) || reason == "the same argument", "{args:?}: {said}");
        assert!(!said.contains("building in"), "{args:?}: {said}");
    }
    for (flag, value, reason) in [
        ("--source", "not-a-tar", "it is no tar archive"),
        ("--source", "missing", "does not exist"),
        ("--expect", "sums", "does not say what to expect: line 1"),
        ("--out", "expected", "expected is a folder"),
    ] {
        let mut args = vec!["rebuild", "--builder-id", REBUILDER, "--command", "true", "--key", "key.pem"];
        for (name, default) in [("--source", "source.tar.gz"), ("--expect", "expected"), ("--out", "o")] {
            args.extend([name, if name == flag { value } else { default }]);
        }
        let output = desk.attest(&args).output().unwrap();
        assert_eq!(code(&output), 2, "{flag} {value}: {}", said(&output));
        assert!(said(&output).contains(reason), "{flag} {value}: {}", said(&output));
    }
}
