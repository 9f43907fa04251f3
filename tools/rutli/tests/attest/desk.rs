//! A rebuilder's desk: a source, what a pipeline built from it, a key.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use ed25519_dalek::{
    SigningKey,
    pkcs8::{EncodePrivateKey as _, spki::der::pem::LineEnding},
};
use rutli_evidence::{
    AttestationKey, AttestationSigner, Established, Evidence, NotEstablished, Role, Trust, verify,
};
use rutli_release::{Class, Format, ReleaseId, UnverifiedArtifact, UnverifiedRelease, VerifiedRelease};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// What a custodian's configuration calls the rebuilder.
pub const REBUILDER: &str = "https://supervisor.example/rebuilder";

/// Both ways of isolation.
pub const ISOLATIONS: [&str; 2] = ["bwrap", "unshare"];

/// How both parties build: paths, times and locale do not end up in what is built.
pub const COMMAND: &str = "mkdir -p out/bin && cc -g -O1 -ffile-prefix-map=\"$PWD\"=. -o out/bin/suite main.c && \
                           sh notes.sh >out/notes.txt";

const MAIN: &str = r#"#include <stdio.h>
int main(void) { printf("suite 1.2 of %s in %s\n", __DATE__, __FILE__); return 0; }
"#;

const NOTES: &str = "date -u -d @$SOURCE_DATE_EPOCH\necho '100% free of surprises'\n";

/// When the source was changed last.
const SOURCE_DATE: &str = "2026-11-20T10:00:00Z";

/// A folder with `source.tar.gz`, `key.pem`, and in `expected` what a pipeline built of it.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    /// With a source and no build of it.
    pub fn bare() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        let pem = secret().to_pkcs8_pem(LineEnding::LF).unwrap();
        fs::write(desk.path("key.pem"), pem.as_bytes()).unwrap();
        fs::create_dir(desk.path("expected")).unwrap();
        desk.pack("source.tar.gz", MAIN);
        desk
    }

    /// With what a pipeline built of the source, in a folder and an environment of its own.
    pub fn new() -> Self {
        let desk = Self::bare();
        let work = desk.path("the pipeline's own folder");
        fs::create_dir(&work).unwrap();
        run(Command::new("tar").arg("-xzf").arg(desk.path("source.tar.gz")).arg("-C").arg(&work));
        let epoch = stdout(Command::new("date").args(["-d", SOURCE_DATE, "+%s"]));
        let top = work.join("suite-1.2");
        let mut build = Command::new("sh");
        build.args(["-c", COMMAND]).env("SOURCE_DATE_EPOCH", epoch.trim()).env("LC_ALL", "C");
        run(build.current_dir(&top));
        fs::remove_dir(desk.path("expected")).unwrap();
        fs::rename(top.join("out"), desk.path("expected")).unwrap();
        desk
    }

    /// Packs the source with this `main.c`.
    pub fn pack(&self, archive: &str, main: &str) {
        let tree = tempfile::tempdir().unwrap();
        let top = tree.path().join("suite-1.2");
        fs::create_dir(&top).unwrap();
        fs::write(top.join("main.c"), main).unwrap();
        fs::write(top.join("notes.sh"), NOTES).unwrap();
        run(Command::new("tar")
            .arg(format!("--mtime={SOURCE_DATE}"))
            .args(["--sort=name", "-czf"])
            .arg(self.path(archive))
            .arg("-C")
            .arg(tree.path())
            .arg("suite-1.2"));
    }

    /// Packs a source whose text is another one.
    pub fn pack_changed(&self, archive: &str) {
        self.pack(archive, &MAIN.replace("1.2", "1.3"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// `rutli attest …` here.
    pub fn attest(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rutli"));
        command.arg("attest").args(args).current_dir(&self.folder);
        // What is killed cannot tidy up; this goes with the desk.
        command.env("TMPDIR", self.folder.path());
        command.env_remove("RUTLI_PROFILE").env_remove("RUTLI_SOCKET");
        command
    }

    /// `rutli attest rebuild` of the source with a command; `more` comes last.
    pub fn rebuild(&self, isolation: &str, command: &str, more: &[&str]) -> Command {
        let mut rebuild = self.attest(&["rebuild", "--source", "source.tar.gz", "--builder-id", REBUILDER]);
        rebuild.args(["--expect", "expected", "--key", "key.pem", "--out", "rebuild.dsse.json"]);
        rebuild.args(["--isolation", isolation, "--command", command]).args(more);
        rebuild
    }

    /// The same command as an ordinary user, whom access rights hold, if the tests run as root, whom they do not.
    pub fn as_ordinary_user(&self, command: &Command) -> Command {
        const NOBODY: u32 = 65_534;
        let mut ordinary = Command::new(command.get_program());
        if nix::unistd::geteuid().is_root() {
            // Theirs, and where they may come.
            fs::copy(command.get_program(), self.path("rutli")).unwrap();
            run(Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(self.path("")));
            ordinary = Command::new(self.path("rutli"));
            ordinary.uid(NOBODY).gid(NOBODY);
        }
        ordinary.args(command.get_args()).current_dir(self.path(""));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => ordinary.env(name, value),
                None => ordinary.env_remove(name),
            };
        }
        ordinary
    }

    /// Runs `line` between the walls, and gives what it says on stdout: the rest of the way shows that it is that.
    pub fn inside(&self, isolation: &str, line: &str, more: &[&str]) -> String {
        let saved = tempfile::tempdir().unwrap();
        self.write("expected/said", "");
        let mut rebuild = self.rebuild(isolation, &format!("{{ {line}\n}} >said"), more);
        let output = rebuild.arg("--save").arg(saved.path()).output().unwrap();
        assert!([0, 5].contains(&code(&output)), "{}", said(&output));
        fs::read_to_string(saved.path().join("said")).unwrap()
    }

    /// What the attestation at `name` establishes about the release of the files in `expected`.
    pub fn established(&self, name: &str, role: Role) -> Result<Established, NotEstablished> {
        let evidence = Evidence::parse(&fs::read(self.path(name)).unwrap()).unwrap();
        let ids = if role == Role::Tester { vec![] } else { vec![REBUILDER.to_owned()] };
        let pem = fs::read_to_string(self.path("key.pem")).unwrap();
        let public_key = AttestationSigner::from_private_key(&pem).unwrap().public_pem();
        let key = AttestationKey { name: "third-party".into(), role, public_key, ids };
        let trust = Trust::new(vec![key], "").unwrap();
        verify(&evidence, &trust, &self.release(), &ReleaseId::new("suite-1.2").unwrap(), 1_795_255_200)
    }

    /// The release that the vendor asks for, with names as `rutli sign --base expected` gives them.
    fn release(&self) -> VerifiedRelease {
        let artifact = |name: &str| UnverifiedArtifact {
            name: name.into(),
            sha256: sha256(&self.path("expected").join(name)).to_vec(),
        };
        let release = UnverifiedRelease {
            class: Class::ProductBuild,
            product: "suite".into(),
            channel: "stable".into(),
            version: "1.2".into(),
            sequence: 1,
            issued_at: 1_795_255_200,
            expires_at: None,
            artifacts: ["bin/suite", "notes.txt"].map(artifact).into(),
            formats: vec![Format::Dsse],
        };
        release.verify().unwrap()
    }
}

pub fn secret() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn sha256(path: &Path) -> [u8; 32] {
    Sha256::digest(fs::read(path).unwrap()).into()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// All that was said, on both streams.
pub fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
