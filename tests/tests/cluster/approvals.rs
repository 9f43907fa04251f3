//! Custodians at work, with the commands that they have: what waits, what it is, approving and refusing it by each kind of key; and what
//! does not get in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use rutli::client;
use rutli_evidence::{
    APPROVAL_NAMESPACE, AttestationKey, AttestationSigner, Build, Established, Evidence, File, Kind,
    NotEstablished, Role, SourceDigest, Trust, provenance_statement, sign_dsse, verify,
};
use rutli_release::{ReleaseId, VerifiedRelease};
use rutli_tests::{
    cluster::{Cluster, PATIENCE, Setup, eventually, process::program},
    releases::finished,
};
use rutli_wire::{convert::release_from_content, v1};
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

use super::{SOON, get};

const BUILDER: &str = "https://ci.vendor.example/builders/1";

/// Beyond every clock's time in a test.
const NOW: u64 = 1_795_255_200;

/// One release is signed with a build's provenance; of the next one, which waits, a custodian sees the difference and approves it by a key in
/// a file, an encrypted one, an agent and an authenticator; another refuses it. The coordinator keeps exactly what was signed, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_sees_what_waits_and_says_a_word_that_nodes_can_verify() {
    let mut desk = Desk::new(Cluster::start(Setup::default()).await);
    let first = desk.sign_with_provenance(1);
    exported(&desk, &first).await;

    desk.cluster.kill("supervisor-1");
    let second = desk.ask(2);
    pending(&desk, &second).await;
    difference(&desk, &first, &second);

    let text = desk.path("word");
    let shown = desk.run(&["approve", &second, "--print-text"], &[&text]).json();
    let content = content(&desk.cluster, &second).await;
    let statement: [u8; 32] = Sha256::digest(content.statement()).into();
    assert_eq!(shown["statement_sha256"], hex::encode(statement));
    let id = ReleaseId::new(second.clone()).unwrap();
    assert_eq!(fs::read_to_string(&text).unwrap(), rutli_evidence::approval_text(&id, &statement));

    let agent = by_every_kind_of_key(&desk, &second, &text).await;
    drop(agent);
    nothing_else_is_sent(&desk, &second, &content, &text);
    let reason = "the build server was taken over";
    desk.run(&["refuse", &second, "--yes", "--reason", reason, "--key"], &[&desk.path("dora")]).json();

    let trust = desk.trust();
    let mut words = BTreeMap::new();
    for document in documents(&desk.cluster, &second).await {
        match verify(&document, &trust, &content, &id, NOW).unwrap() {
            Established::Approval { custodian } => words.insert(custodian, "approved".to_owned()),
            Established::Refusal { custodian, reason, .. } => words.insert(custodian, reason),
            other => panic!("{other:?}"),
        };
    }
    let approved = |name: &str| (name.to_owned(), "approved".to_owned());
    let expected = ["anna", "ben", "clara", "fido"].map(approved).into_iter();
    assert_eq!(words, expected.chain([("dora".to_owned(), reason.to_owned())]).collect());
    let view = desk.run(&["review", &second, "--trust"], &[&desk.policy()]).json();
    assert_eq!(view["evidence"].as_array().unwrap().len(), 5);
    assert!(view["evidence"].as_array().unwrap().iter().all(|one| one["established"].is_string()), "{view}");

    compared(&desk, &second);
    desk.cluster.start_party("supervisor-1");
    let signed = finished(desk.cluster.channel("pipeline").await, &second, SOON).await;
    assert_eq!(signed.evidence.len(), 5);
    let late = desk.run(&["approve", &second, "--yes", "--key"], &[&desk.path("dora")]);
    late.fails(1, "is signed already");
    replayed(&desk, &first, &second);

    desk.cluster.kill("supervisor-1");
    let changing = Changing::sign(&desk, 3);
    desk.cluster.start_party("supervisor-1");
    changing.ends();
}

/// Files at hand are compared with those of the release, by name and digest.
fn compared(desk: &Desk, release: &str) {
    let same = desk.path("same");
    let review = |paths: &[&Path]| desk.run(&["review", release], paths);
    let good = review(&[&same, &desk.path("new-2")]);
    assert_eq!(good.0.status.code(), Some(0), "{}", good.error());
    let verdicts = |document: &Value| -> Vec<String> {
        let compared = document["compared"].as_array().unwrap();
        compared.iter().map(|file| file["verdict"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(verdicts(&good.json()), ["matches", "matches"]);
    let other = desk.path("elsewhere");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("same"), "evil").unwrap();
    fs::write(other.join("stray"), "stray").unwrap();
    let bad = review(&[&same, &other.join("same"), &other.join("stray")]);
    assert_eq!(bad.0.status.code(), Some(5), "{}", bad.error());
    assert_eq!(verdicts(&bad.document()), ["matches", "differs", "not-in-release"]);
    let claimed = good.json()["claimed"].as_array().unwrap().len();
    assert_eq!(claimed, 9, "all that no evidence proves");
}

/// `rutli sign` waits, and one of its files is changed meanwhile.
struct Changing {
    process: Child,
    out: PathBuf,
    folder: PathBuf,
}

impl Changing {
    fn sign(desk: &Desk, sequence: u64) -> Self {
        let folder = desk.path("changing");
        let out = folder.join("out");
        fs::create_dir(&folder).unwrap();
        for name in ["stays", "changes"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let sequence = sequence.to_string();
        let words = ["sign", "--class", "product-build", "--product", "suite", "--channel", "changing"];
        let words = [&words[..], &["--version", "1", "--sequence", &sequence, "--json", "--out"]].concat();
        let paths = [out.clone(), folder.join("stays"), folder.join("changes")];
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let mut command = desk.command("pipeline", &words, &paths);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Its first line says that the files are hashed and the release is asked for.
        let mut first = String::new();
        let mut said = std::io::BufReader::new(process.stderr.take().unwrap());
        std::io::BufRead::read_line(&mut said, &mut first).unwrap();
        assert!(first.starts_with("release "), "{first}");
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        fs::write(folder.join("changes"), "into something else").unwrap();
        Self { process, out, folder }
    }

    /// With an exit code of its own, and nothing for that file.
    fn ends(self) {
        let output = self.process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(6));
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let changed = self.folder.join("changes").display().to_string();
        assert!(document["error"]["problem"].as_str().unwrap().contains(&changed), "{document}");
        assert!(self.out.join("stays.sig").exists() && !self.out.join("changes.sig").exists());
    }
}

/// What other rules would have said to both, which these nodes signed: by their evidence, and by what went before.
fn replayed(desk: &Desk, first: &str, second: &str) {
    let policy = desk.path("new.cedar");
    let replay = |text: &str, words: &[&str]| {
        fs::write(&policy, text).unwrap();
        desk.run(&[&["policy", "replay"], words].concat(), &[Path::new("--trust"), &desk.policy(), &policy])
    };
    let explained = |document: &Value, id: &str| -> Value {
        let all = document["releases"].as_array().unwrap();
        all.iter().find(|one| one["release_id"] == id).unwrap()["explanation"].clone()
    };
    let built = "@id(\"built\") permit(principal, action == Action::\"sign\", resource) when { context.builders.contains(\"vendor-ci\") };\n";
    let both = replay(built, &[]);
    both.fails(1, "1 release was signed, and by these policies would not have been");
    let both = both.document();
    assert_eq!(both["releases"].as_array().unwrap().len(), 2, "{both}");
    assert_eq!(explained(&both, first)["decision"]["decision"], "permitted", "{both}");
    // The custodian's refusal is among the documents of the second.
    assert!(explained(&both, second)["words"].as_str().unwrap().contains("dora"), "{both}");

    let alone = replay(built, &["--release", first, "--explain"]).json();
    assert_eq!(alone["releases"][0]["differs"], false);
    let facts = &alone["releases"][0]["explanation"]["facts"];
    assert_eq!(
        (&facts["releasesInHour"], &facts["previousSequence"]),
        (&Value::from(1), &Value::Null),
        "{facts}"
    );
    let facts = &explained(&both, second)["facts"];
    assert_eq!(
        (&facts["releasesInHour"], &facts["previousSequence"]),
        (&Value::from(2), &Value::from(1)),
        "{facts}"
    );

    desk.run(&["policy", "replay"], &[&policy]).fails(2, "by whose keys?");
    replay("permit(", &[]).fails(2, "new.cedar");
    replay(built, &["--release", "suite-9.9-0123456789ab"]).fails(1, "suite-9.9-0123456789ab");
}

/// What is no evidence, too much of it, and of whom nothing is taken.
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_floods_and_wrong_roles_do_not_get_in() {
    let mut desk = Desk::new(Cluster::start(Setup::default()).await);
    desk.cluster.kill("supervisor-1");
    let release = desk.ask(1);
    let text = desk.path("word");
    desk.run(&["approve", &release, "--print-text"], &[&text]).json();
    let words: Vec<PathBuf> =
        (0..17).map(|number| desk.word(&text, &Authenticator::new(100 + number))).collect();
    let paths: Vec<&Path> = words.iter().map(PathBuf::as_path).collect();

    let garbage = desk.path("garbage");
    fs::write(&garbage, "garbage").unwrap();
    let refused = desk.run(&["evidence", "add", &release], &[paths[0], &garbage]);
    refused.fails(2, "garbage is no evidence");
    fs::write(&garbage, vec![b'{'; rutli_evidence::limits::MAX_EVIDENCE_BYTES + 1]).unwrap();
    desk.run(&["evidence", "add", &release], &[&garbage]).fails(2, "larger than");
    desk.run(&["evidence", "add", &release], &vec![paths[0]; 65]).fails(2, "at most 64");
    // A coordinator does not rely on that.
    let request = v1::AddEvidenceRequest { release_id: release.clone(), evidence: vec!["garbage".into()] };
    let mut custodian = client::releases(desk.cluster.channel("custodian").await);
    super::refused(custodian.add_evidence(request).await, tonic::Code::InvalidArgument);

    let full = desk.run(&["evidence", "add", &release], &paths);
    full.fails(1, "no room for more evidence");
    assert!(!full.error().contains("try again"), "{}", full.error());
    assert!(documents(&desk.cluster, &release).await.is_empty(), "all of a call or nothing");

    desk.run_as("auditor", &["evidence", "add", &release], &paths[..1]).fails(3, "role");
    desk.run_as("auditor", &["approve", &release, "--yes", "--key"], &[&desk.path("anna")]).fails(3, "role");
    desk.run_as("pipeline-2", &["evidence", "add", &release], &paths[..1]).fails(1, &release);
    assert!(documents(&desk.cluster, &release).await.is_empty());
    assert_eq!(
        desk.run_as("auditor", &["evidence", "list", &release], &[]).json()["evidence"],
        serde_json::json!([])
    );

    let added = desk.run(&["evidence", "add", &release], &paths[..16]).json();
    assert_eq!(added["added"].as_array().unwrap().len(), 16);
    // One more is one too many of this party, and nothing keeps another from its own.
    desk.run(&["evidence", "add", &release], &paths[16..]).fails(1, "no room");
    desk.run_as("pipeline", &["evidence", "add", &release], &paths[16..]).json();
    assert_eq!(documents(&desk.cluster, &release).await.len(), 17);

    // Nobody is asked where nobody can answer.
    let mute = desk.run(&["approve", &release, "--key"], &[&desk.path("anna")]);
    mute.fails(2, "stdin is no terminal");
    at_a_terminal(&desk, &release).await;
}

/// A person is shown the release and asked, and only yes or the release's id is yes. An operator carries the word this time: who brings it
/// does not matter.
async fn at_a_terminal(desk: &Desk, release: &str) {
    let answer = |answer: &str| {
        let mut rutli = format!(
            "{} --profile {}",
            program("rutli").display(),
            desk.cluster.profile("operator").display()
        );
        rutli += &format!(" approve {release} --key {}", desk.path("anna").display());
        let typed = desk.path("typed");
        fs::write(&typed, format!("{answer}\n")).unwrap();
        let mut terminal = Command::new("script");
        terminal.args(["-qec", &rutli, "/dev/null"]).stdin(fs::File::open(typed).unwrap());
        Ran(terminal.output().unwrap())
    };
    for no in ["no", "", "suite-1.0-0123456789ab"] {
        let refused = answer(no);
        refused.fails(1, "nothing was signed");
        assert!(refused.error().contains("sha256:"), "the release was not shown: {}", refused.error());
    }
    assert_eq!(documents(&desk.cluster, release).await.len(), 17);
    let signed = answer(release);
    assert!(signed.0.status.success(), "{}", signed.error());
    assert_eq!(documents(&desk.cluster, release).await.len(), 18);
}

/// The documents of a release come back as they went, under their digest and kind, and establish what they said.
async fn exported(desk: &Desk, release: &str) {
    let out = desk.path("exported");
    desk.run(&["evidence", "export", release, "--out"], &[&out]).json();
    let sent = fs::read(desk.path("provenance.json")).unwrap();
    let name = format!("{}.build.json", hex::encode(Sha256::digest(&sent)));
    assert_eq!(fs::read(out.join(&name)).unwrap(), sent);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    let listed = desk.run(&["evidence", "list", release], &[]).json();
    let info = &listed["evidence"][0];
    assert_eq!((&info["kind"], &info["submitter"]), (&"build".into(), &"pipeline:pipeline".into()));
    let kept = documents(&desk.cluster, release).await;
    let id = ReleaseId::new(release).unwrap();
    let established = verify(&kept[0], &desk.trust(), &content(&desk.cluster, release).await, &id, NOW);
    assert!(matches!(established, Ok(Established::Provenance(_))), "{established:?}");
}

/// What waits for a node of one organisation is not what waits for another.
async fn pending(desk: &Desk, release: &str) {
    let found = |organisation: &str| {
        let listed = desk.run(&["pending", "--organisation", organisation], &[]).json();
        listed["releases"].as_array().unwrap().iter().any(|one| one["release_id"] == release)
    };
    eventually("the release waits for the supervisor", PATIENCE, async || {
        if found("supervisor") { Ok(()) } else { Err(format!("{:?}", get(&desk.cluster, release).await)) }
    })
    .await;
    assert!(!found("vendor"));
    let all = desk.run(&["pending"], &[]).json();
    assert_eq!(all["releases"].as_array().unwrap().len(), 1, "what is signed does not wait: {all}");
}

/// From the first release to the second: one file is another, one is new, one is gone, and the provenance is missing.
fn difference(desk: &Desk, first: &str, second: &str) {
    let view = desk.run(&["review", second], &[]).json();
    let difference = &view["difference"];
    assert_eq!(difference["release_id"], first);
    assert_eq!(difference["sequence_before"], 1);
    assert_eq!(difference["added"][0]["name"], "new-2");
    assert_eq!(difference["removed"][0]["name"], "new-1");
    assert_eq!(difference["changed"][0]["name"], "grows");
    assert_eq!(difference["unchanged"], 1);
    assert_eq!(difference["less_evidence"][0]["kind"], "build");
    let text = desk.command("custodian", &["review", second], &[]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("MISSING: the last one had 1 build or rebuild, and this one has none"), "{text}");
    println!("{text}");
    // The first one has nothing before it, and by the custodian's keys its document is more than text.
    let view = desk.run(&["review", first, "--trust"], &[&desk.policy()]).json();
    assert_eq!(
        (&view["difference"], &view["evidence"][0]["established"]),
        (&Value::Null, &"provenance".into())
    );
    assert_eq!(view["evidence"][0]["by"], "vendor-ci");
    let view = desk.run(&["review", first], &[]).json();
    assert_eq!(view["evidence"][0]["established"], Value::Null);
    assert_eq!(view["evidence"][0]["says"]["builder"], BUILDER);
}

/// Anna's key lies in a file, Ben's is encrypted, Clara's in an agent, and the last one in an authenticator elsewhere.
async fn by_every_kind_of_key(desk: &Desk, release: &str, text: &Path) -> Agent {
    let approve = ["approve", release, "--yes", "--key"];
    let anna = desk.run(&approve, &[&desk.path("anna")]).json();
    assert_eq!(anna["added"].as_array().unwrap().len(), 1);
    let again = desk.run(&approve, &[&desk.path("anna")]).json();
    assert_eq!((&again["added"], &again["digest"]), (&serde_json::json!([]), &anna["digest"]));
    assert_eq!(again["evidence"].as_array().unwrap().len(), 1, "the same word twice counts once");

    let asks = desk.path("askpass");
    fs::write(&asks, "#!/bin/sh\necho open\n").unwrap();
    fs::set_permissions(&asks, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let mut ben = desk.command("custodian", &approve, &[&desk.path("ben")]);
    ben.env("SSH_ASKPASS", &asks).env("SSH_ASKPASS_REQUIRE", "force");
    assert!(ben.status().unwrap().success());
    fs::write(&asks, "#!/bin/sh\necho wrong\n").unwrap();
    Ran(ben.output().unwrap()).fails(1, "ssh-keygen did not sign");

    let public = desk.path("clara.pub");
    let agent = Agent::with(desk, &desk.path("clara")).await;
    fs::remove_file(desk.path("clara")).unwrap();
    let mut clara = desk.command("custodian", &approve, &[&public]);
    let clara = clara.env("SSH_AUTH_SOCK", &agent.socket).output().unwrap();
    assert!(clara.status.success(), "{}", Ran(clara).error());

    let signature = desk.signature(text, &Authenticator::new(12));
    let trust = desk.policy();
    desk.run(&["approve", release, "--yes", "--signature"], &[&signature, Path::new("--trust"), &trust])
        .json();
    agent
}

/// What no node would count is not even sent: an authenticator that nobody touched, a text of another release, a stranger.
fn nothing_else_is_sent(desk: &Desk, release: &str, content: &VerifiedRelease, text: &Path) {
    let send = |signature: &Path| desk.run(&["approve", release, "--yes", "--signature"], &[signature]);
    let untouched = Authenticator { flags: 0, ..Authenticator::new(12) };
    send(&desk.signature(text, &untouched)).fails(1, "without being touched");
    let other = desk.path("other");
    fs::write(&other, fs::read_to_string(text).unwrap().replace("sha256:", "sha256:0")).unwrap();
    send(&desk.signature(&other, &Authenticator::new(12))).fails(1, "does not verify");
    fs::write(&other, "garbage").unwrap();
    send(&other).fails(2, "cannot be used");
    let stranger = desk.signature(text, &Authenticator::new(99));
    let trust = desk.policy();
    desk.run(&["approve", release, "--yes", "--signature"], &[&stranger, Path::new("--trust"), &trust])
        .fails(1, "would not count it");
    let kept = desk.run(&["evidence", "list", release], &[]).json();
    assert_eq!(kept["evidence"].as_array().unwrap().len(), 4);
    // Whoever sends it all the same sends something that establishes nothing.
    let document = fs::read(desk.word(text, &untouched)).unwrap();
    let document = Evidence::parse(&document).unwrap();
    assert_eq!(document.kind(), Kind::Approval);
    assert_eq!(
        verify(&document, &desk.trust(), content, &ReleaseId::new(release).unwrap(), NOW),
        Err(NotEstablished::NoPresence { custodian: "fido".into() })
    );
}

/// A custodian's desk: keys, a node's folder of rules, and the command line.
struct Desk {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(cluster: Cluster) -> Self {
        let desk = Self { cluster, folder: tempfile::tempdir_in("/tmp").unwrap() };
        for (name, kind, passphrase) in [
            ("anna", "ed25519", ""),
            ("ben", "ecdsa", "open"),
            ("clara", "ed25519", ""),
            ("dora", "ed25519", ""),
            ("vendor-ci", "ed25519", ""),
        ] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", kind, "-N", passphrase, "-C", "a test", "-f"]).arg(desk.path(name));
            assert!(command.status().unwrap().success());
        }
        let line = |name: &str, key: &str| {
            format!("{name} namespaces=\"approval@rutli,refusal@rutli\" {}\n", key.trim())
        };
        let mut signers = line("fido", &Authenticator::new(12).public());
        for name in ["anna", "ben", "clara", "dora"] {
            signers += &line(name, &fs::read_to_string(desk.path(&format!("{name}.pub"))).unwrap());
        }
        fs::create_dir(desk.policy()).unwrap();
        fs::write(desk.policy().join("allowed_signers"), signers).unwrap();
        fs::copy(desk.path("vendor-ci.pub"), desk.policy().join("vendor-ci.pub")).unwrap();
        let keys = format!(
            "[[key]]\nname = \"vendor-ci\"\nrole = \"builder\"\nfile = \"vendor-ci.pub\"\nids = [\"{BUILDER}\"]\n"
        );
        fs::write(desk.policy().join("trust.toml"), keys).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn policy(&self) -> PathBuf {
        self.path("policy")
    }

    /// What is in the folder of rules, read without the command line.
    fn trust(&self) -> Trust {
        let ci = AttestationKey {
            name: "vendor-ci".into(),
            role: Role::Builder,
            public_key: fs::read_to_string(self.path("vendor-ci.pub")).unwrap(),
            ids: vec![BUILDER.into()],
        };
        Trust::new(vec![ci], &fs::read_to_string(self.policy().join("allowed_signers")).unwrap()).unwrap()
    }

    fn run(&self, words: &[&str], paths: &[&Path]) -> Ran {
        self.run_as("custodian", words, paths)
    }

    fn run_as(&self, client: &str, words: &[&str], paths: &[&Path]) -> Ran {
        Ran(self.command(client, words, paths).arg("--json").output().unwrap())
    }

    fn command(&self, client: &str, words: &[&str], paths: &[&Path]) -> Command {
        let mut command = Command::new(program("rutli"));
        command.arg("--profile").arg(self.cluster.profile(client)).args(words).args(paths);
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null());
        command
    }

    /// Three files: one is always the same, one grows, one has a name of its own.
    fn files(&self, sequence: u64) -> Vec<PathBuf> {
        let grown = "x".repeat(usize::try_from(sequence).unwrap());
        let files =
            [("same".to_owned(), "same"), ("grows".to_owned(), &grown), (format!("new-{sequence}"), "new")];
        let write = |(name, content): (String, &str)| {
            fs::write(self.path(&name), content).unwrap();
            self.path(&name)
        };
        files.map(write).to_vec()
    }

    fn sign(&self, sequence: u64, more: &[&str], evidence: &[&Path]) -> String {
        let (number, version) = (sequence.to_string(), format!("1.{sequence}"));
        let out = self.path("out");
        let mut words = vec!["sign", "--class", "product-build", "--product", "suite", "--channel", "stable"];
        words.extend(["--version", &version, "--sequence", &number, "--out", out.to_str().unwrap()]);
        words.extend(more);
        let files = self.files(sequence);
        let mut paths: Vec<&Path> = evidence.to_vec();
        paths.extend(files.iter().map(PathBuf::as_path));
        self.run_as("pipeline", &words, &paths).json()["release_id"].as_str().unwrap().to_owned()
    }

    /// Hands a release in that will wait.
    fn ask(&self, sequence: u64) -> String {
        self.sign(sequence, &["--no-wait"], &[])
    }

    /// Has a release signed that comes with a builder's provenance.
    fn sign_with_provenance(&self, sequence: u64) -> String {
        let subjects: Vec<File> = self
            .files(sequence)
            .iter()
            .map(|path| File {
                name: path.file_name().unwrap().to_str().unwrap().into(),
                sha256: Sha256::digest(fs::read(path).unwrap()).into(),
                others: None,
            })
            .collect();
        let build = Build {
            builder_id: BUILDER.into(),
            build_type: "https://vendor.example/build/v1".into(),
            parameters: BTreeMap::new(),
            source_uri: Some("https://vendor.example/suite.tar.gz".into()),
            source_digest: SourceDigest::Sha256([5; 32]),
            invocation_id: None,
            started_at: None,
            finished_at: None,
        };
        let ci = fs::read_to_string(self.path("vendor-ci")).unwrap();
        let ci = AttestationSigner::from_private_key(&ci).unwrap();
        let envelope = sign_dsse(&provenance_statement(&subjects, &build).unwrap(), &ci).unwrap();
        fs::write(self.path("provenance.json"), envelope).unwrap();
        self.sign(sequence, &["--evidence"], &[&self.path("provenance.json")])
    }

    /// The file that `ssh-keygen -Y sign` would have written.
    fn signature(&self, text: &Path, key: &Authenticator) -> PathBuf {
        let path = self.path("word.sig");
        fs::write(&path, key.sign(APPROVAL_NAMESPACE, &fs::read_to_string(text).unwrap())).unwrap();
        path
    }

    /// The text and the signature: a document.
    fn word(&self, text: &Path, key: &Authenticator) -> PathBuf {
        let path = self.path(&format!("word-{}", key.number));
        let text = fs::read_to_string(text).unwrap();
        fs::write(&path, format!("{text}{}", key.sign(APPROVAL_NAMESPACE, &text))).unwrap();
        path
    }
}

/// How a command ended.
struct Ran(Output);

impl Ran {
    fn json(&self) -> Value {
        assert!(self.0.status.success(), "{}", self.error());
        self.document()
    }

    fn document(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap_or(Value::Null)
    }

    fn error(&self) -> String {
        [&self.0.stdout[..], &self.0.stderr].map(String::from_utf8_lossy).concat()
    }

    fn fails(&self, code: i32, said: &str) {
        let error = self.error();
        assert_eq!(self.0.status.code(), Some(code), "{error}");
        assert!(error.contains(said) && error.contains("help"), "{said}: {error}");
    }
}

/// An agent of this test's own; it ends with it.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    async fn with(desk: &Desk, key: &Path) -> Self {
        let socket = desk.path("agent");
        let mut command = Command::new("ssh-agent");
        command.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
        let agent = Self { process: command.spawn().unwrap(), socket };
        // Its socket is there a moment before it listens.
        eventually("the agent has the key", PATIENCE, async || {
            let added =
                Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &agent.socket).output();
            let added = added.unwrap();
            if added.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&added.stderr).into()) }
        })
        .await;
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A FIDO authenticator in software, as OpenSSH's PROTOCOL.u2f and PROTOCOL.sshsig have it: `sk-ssh-ed25519`.
struct Authenticator {
    number: u8,
    key: SigningKey,
    /// 1: it was touched.
    flags: u8,
}

impl Authenticator {
    fn new(number: u8) -> Self {
        Self { number, key: SigningKey::from_bytes(&[number; 32]), flags: 1 }
    }

    fn blob(&self) -> Vec<u8> {
        let point = self.key.verifying_key().to_bytes();
        [string(b"sk-ssh-ed25519@openssh.com"), string(&point), string(b"ssh:")].concat()
    }

    fn public(&self) -> String {
        format!("sk-ssh-ed25519@openssh.com {}", STANDARD.encode(self.blob()))
    }

    fn sign(&self, namespace: &str, text: &str) -> String {
        let head = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
        let message = [b"SSHSIG", &head[..], &string(&Sha512::digest(text))].concat();
        let trailer = [self.flags, 0, 0, 0, 9];
        let signed = [&Sha256::digest("ssh:")[..], &trailer, &Sha256::digest(&message)].concat();
        let made = string(&self.key.sign(&signed).to_bytes());
        let signature = [string(b"sk-ssh-ed25519@openssh.com"), made, trailer.to_vec()].concat();
        let blob = [&b"SSHSIG\0\0\0\x01"[..], &string(&self.blob()), &head, &string(&signature)].concat();
        let encoded = STANDARD.encode(blob);
        let lines: Vec<_> =
            encoded.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

async fn content(cluster: &Cluster, release: &str) -> VerifiedRelease {
    release_from_content(get(cluster, release).await.content.unwrap()).unwrap()
}

/// What the coordinator keeps, as another reader than the command line gets it.
async fn documents(cluster: &Cluster, release: &str) -> Vec<Evidence> {
    let request = v1::GetEvidenceRequest { release_id: release.to_owned() };
    let mut auditor = client::releases(cluster.channel("auditor").await);
    let answer = auditor.get_evidence(request).await.unwrap().into_inner();
    answer
        .evidence
        .iter()
        .map(|kept| {
            let document = Evidence::parse(&kept.document).unwrap();
            assert_eq!(kept.info.as_ref().unwrap().digest, document.digest());
            document
        })
        .collect()
}
