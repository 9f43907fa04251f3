//! What a build sees: neither network nor people, with either way of isolation; and what is said where neither works.

use std::{collections::BTreeSet, fs, net::TcpListener, os::unix::fs::symlink, process::Command};

use crate::desk::{COMMAND, Desk, ISOLATIONS, code, json, said};

#[test]
fn there_is_no_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
    // That it would get through, were there no walls.
    assert!(Command::new("bash").args(["-c", &connect]).status().unwrap().success());
    assert!(listener.accept().is_ok());
    for isolation in ISOLATIONS {
        let desk = Desk::bare();
        let line = format!(
            "bash -c '{connect}' 2>/dev/null; echo \"connect: $?\"; cat /proc/net/dev /proc/net/route"
        );
        let said = desk.inside(isolation, &line, &[]);
        assert!(said.contains("connect: 1"), "{isolation}: {said}");
        let devices = said.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
        assert_eq!(devices.collect::<Vec<_>>(), ["connect", "lo"], "{isolation}: {said}");
        assert!(listener.accept().is_err(), "{isolation}");
    }
}

/// A shell that holds a lock, or a folder: with it a build could walk out of its own, to the key that signs.
#[test]
fn what_is_open_where_it_was_started_is_not_open_inside() {
    for isolation in ISOLATIONS {
        let desk = Desk::bare();
        desk.write("expected/said", "");
        let line = "{ ls /proc/self/fd; cat /proc/self/fd/*/key.pem; } >said 2>&1; true";
        let rebuild = desk.rebuild(isolation, line, &["--save", "saved"]);
        let mut shell = Command::new("bash");
        shell.args(["-c", "exec 7<. 70<.; exec \"$@\"", "bash"]).current_dir(desk.path("."));
        let output = shell.arg(rebuild.get_program()).args(rebuild.get_args()).output().unwrap();
        assert_eq!(code(&output), 5, "{}", crate::desk::said(&output));
        let said = fs::read_to_string(desk.path("saved/said")).unwrap();
        assert!(!said.contains("PRIVATE KEY"), "{isolation}: {said}");
        let open: Vec<_> = said.lines().take_while(|line| line.parse::<u32>().is_ok()).collect();
        assert!(open.starts_with(&["0", "1"]) && !open.contains(&"7") && !open.contains(&"70"), "{open:?}");
    }
}

#[test]
fn there_is_nothing_of_the_user() {
    for isolation in ISOLATIONS {
        let desk = Desk::bare();
        let home = desk.path("home");
        fs::create_dir(&home).unwrap();
        fs::write(home.join("secret"), "mine").unwrap();
        desk.write("expected/said", "");
        let line = "env | sort; id -u; id -g; hostname; id -un; ls -A / $HOME /tmp /etc; cat KEY SECRET /etc/shadow; \
                    ls -d /proc/[0-9]* | wc -l; grep -e CapEff -e NoNewPrivs /proc/self/status; touch /usr/x /etc/x /x /dev/x; \
                    ls /var /run /home /root /sys; sleep 0"
            .replace("KEY", desk.path("key.pem").to_str().unwrap())
            .replace("SECRET", home.join("secret").to_str().unwrap());
        let mut rebuild =
            desk.rebuild(isolation, &format!("{{ {line}\n}} >said 2>&1; true"), &["--save", "saved"]);
        rebuild.env("HOME", &home).env("TOKEN", "mine").env("LD_LIBRARY_PATH", "/nonexistent");
        let output = rebuild.output().unwrap();
        assert!([0, 5].contains(&code(&output)), "{}", crate::desk::said(&output));
        let said = fs::read_to_string(desk.path("saved/said")).unwrap();
        assert!(
            !said.contains("mine") && !said.contains("PRIVATE KEY") && !said.contains("/nonexistent"),
            "{said}"
        );
        let variables: BTreeSet<_> =
            said.lines().map_while(|line| line.split_once('=')).map(|(name, _)| name).collect();
        let fixed =
            ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "PWD", "SOURCE_DATE_EPOCH", "TMPDIR", "TZ", "USER"];
        assert_eq!(variables, fixed.into(), "{isolation}: {said}");
        assert!(said.contains("\n1000\n1000\nbuild\nbuild\n"), "{isolation}: {said}");
        assert!(said.contains("CapEff:\t0000000000000000\n") && said.contains("NoNewPrivs:\t1\n"), "{said}");
        // The whole of the root: what is mounted elsewhere would let the build see everything.
        let roots: BTreeSet<_> = said
            .lines()
            .skip_while(|line| *line != "/:")
            .skip(1)
            .take_while(|line| !line.is_empty())
            .collect();
        let known =
            ["bin", "build", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr"];
        assert!(roots.contains("build") && roots.is_subset(&known.into()), "{isolation}: {said}");
        for gone in [
            "cannot access '/var'",
            "cannot access '/home'",
            "cannot access '/root'",
            "cannot access '/sys'",
            "/etc/shadow: No such",
        ] {
            assert!(said.contains(gone), "{isolation}: {gone}: {said}");
        }
        for read_only in ["'/usr/x': Read-only", "'/etc/x': Read-only", "'/x': Read-only"] {
            assert!(said.contains(read_only), "{isolation}: {read_only}: {said}");
        }
        let processes: u32 =
            said.lines().find_map(|line| line.parse().ok().filter(|number| *number < 100)).unwrap();
        assert!(processes < 10, "{isolation}: {said}");
    }
}

#[test]
fn toolchains_and_variables_are_let_in_and_recorded() {
    for isolation in ISOLATIONS {
        let desk = Desk::new();
        fs::create_dir(desk.path("tool chain")).unwrap();
        desk.write("tool chain/cc", "#!/bin/sh\n/usr/bin/cc \"$@\"\n");
        assert!(Command::new("chmod").arg("755").arg(desk.path("tool chain/cc")).status().unwrap().success());
        let tools = desk.path("tool chain").to_str().unwrap().to_owned();
        let line = format!("{COMMAND} && ! touch '{tools}/x' && [ \"$A\" = 'b c' ]");
        let path = format!("PATH={tools}:/usr/bin:/bin");
        let more = ["--output", "out", "--ro-bind", &tools, "--env", &path, "--env", "A=b c"];
        let output = desk.rebuild(isolation, &line, &more).output().unwrap();
        assert_eq!(code(&output), 0, "{isolation}: {}", said(&output));
        let envelope: serde_json::Value =
            serde_json::from_slice(&fs::read(desk.path("rebuild.dsse.json")).unwrap()).unwrap();
        let payload = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            envelope["payload"].as_str().unwrap(),
        );
        let statement: serde_json::Value = serde_json::from_slice(&payload.unwrap()).unwrap();
        let parameters = &statement["predicate"]["buildDefinition"]["externalParameters"];
        assert_eq!(parameters["command"], line);
        assert_eq!((&parameters["env.A"], &parameters["isolation"]), (&"b c".into(), &isolation.into()));
        assert_eq!(
            (&parameters["read_only"], &parameters["source_date_epoch"]),
            (&tools.into(), &"1795168800".into())
        );
    }
}

#[test]
fn without_bubblewrap_namespaces_do_and_without_both_nothing_is_built() {
    let desk = Desk::new();
    let with = |programs: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        for program in programs {
            let found =
                ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(|folder| format!("{folder}/{program}"));
            let found = found.into_iter().find(|path| fs::metadata(path).is_ok()).unwrap();
            symlink(found, folder.path().join(program)).unwrap();
        }
        folder
    };
    let namespaces = with(&["setpriv", "unshare"]);
    let rebuild = || desk.rebuild("auto", COMMAND, &["--output", "out", "--json"]);
    let output = rebuild().env("PATH", namespaces.path()).output().unwrap();
    // `setpriv` looks for `setsid` where we do.
    assert_eq!(code(&output), 1, "{}", said(&output));
    assert!(
        json(&output)["error"]["problem"]
            .as_str()
            .unwrap()
            .contains("bwrap: cannot run bwrap: it is not installed")
    );
    let namespaces = with(&["setpriv", "unshare", "setsid"]);
    let output = rebuild().env("PATH", namespaces.path()).output().unwrap();
    assert_eq!(code(&output), 0, "{}", said(&output));
    assert_eq!(json(&output)["isolation"], "unshare");

    fs::remove_file(desk.path("rebuild.dsse.json")).unwrap();
    let none = with(&[]);
    let output = rebuild().env("PATH", none.path()).output().unwrap();
    assert_eq!(code(&output), 1, "{}", said(&output));
    let error = json(&output)["error"].clone();
    assert!(
        error["problem"].as_str().unwrap().starts_with("nothing here keeps a build from the network"),
        "{error}"
    );
    assert!(error["help"].as_str().unwrap().contains("apt install bubblewrap"), "{error}");
    assert!(!said(&output).contains("building in") && !desk.path("rebuild.dsse.json").exists());

    // One that is there and does not work is not taken.
    let broken = tempfile::tempdir().unwrap();
    fs::write(broken.path().join("bwrap"), "#!/bin/sh\necho 'no permission' >&2; exit 1\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(broken.path().join("bwrap")).status().unwrap().success());
    let output = rebuild().env("PATH", broken.path()).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("bwrap: no permission (exit status: 1)"), "{}", said(&output));
}
