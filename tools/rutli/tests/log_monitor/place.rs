//! A folder to work in, and what `rutli log` says there.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use rutli_log::Policy;
use serde_json::Value;
use tempfile::TempDir;

use crate::folder::{Log, START};

pub struct Place {
    pub folder: TempDir,
    pub log: Log,
}

impl Place {
    pub fn new(size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::honest(&folder.path().join("documents"), size);
        assert_eq!(log.size(), size);
        let place = Self { folder, log };
        place.log.publish(&place.path("honest"), 0);
        fs::write(place.path("log.vkey"), Log::signer().public().to_string()).unwrap();
        let organisations = [("supervisor", 1, 0..1), ("vendor", 2, 1..4)].map(|(name, threshold, nodes)| {
            (name.to_owned(), threshold, place.log.key.cosigners()[nodes].to_vec())
        });
        let policy = Policy::of(Log::signer().public(), organisations).unwrap();
        fs::write(place.path("tlog-policy"), policy.to_string()).unwrap();
        let trusted_root = Log::sigstore_signer().trusted_root(*START).unwrap();
        fs::write(place.path("trusted_root.json"), trusted_root).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn rutli(&self, command: &str, log: &str, more: &[&str]) -> Output {
        let mut rutli = Command::new(env!("CARGO_BIN_EXE_rutli"));
        rutli.args(["--json", "log", command, "--log", log]).args(more);
        if !more.contains(&"--key") {
            rutli.args(["--policy", "tlog-policy"]);
        }
        rutli.env_remove("RUTLI_LOG").current_dir(self.folder.path()).output().unwrap()
    }

    /// `rutli log show` for eyes.
    pub fn show(&self) -> Output {
        let mut rutli = Command::new(env!("CARGO_BIN_EXE_rutli"));
        rutli.args(["log", "show", "--log", "honest", "--policy", "tlog-policy"]);
        rutli.env_remove("RUTLI_LOG").current_dir(self.folder.path()).output().unwrap()
    }

    pub fn monitor(&self, log: &str, state: &str, more: &[&str]) -> Round {
        let more = [&["--once", "--state", state], more].concat();
        Round::of(self.rutli("monitor", log, &more))
    }
}

/// What one round found.
pub struct Round {
    pub exit: i32,
    pub json: Value,
}

impl Round {
    pub fn of(output: Output) -> Self {
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&output.stderr)));
        Self { exit: output.status.code().unwrap(), json }
    }

    pub fn findings(&self) -> Vec<(&str, Option<u64>)> {
        let findings = self.json["findings"].as_array().unwrap_or_else(|| panic!("{}", self.json));
        findings.iter().map(|it| (it["code"].as_str().unwrap(), it["index"].as_u64())).collect()
    }

    pub fn codes(&self) -> Vec<&str> {
        let mut codes: Vec<_> = self.findings().into_iter().map(|(code, _)| code).collect();
        codes.dedup();
        codes
    }

    #[track_caller]
    pub fn assert(&self, what: &str, codes: &[&str]) {
        assert_eq!(self.codes(), codes, "{what}: {:#}", self.json);
        let alarm = self.json["alarms"].as_u64().unwrap() > 0;
        assert_eq!(self.exit, i32::from(alarm), "{what}");
    }
}

/// Has the head for Sigstore's tools compared, too.
pub const TRUSTED_ROOT: [&str; 2] = ["--trusted-root", "trusted_root.json"];
