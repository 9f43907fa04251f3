//! Those whose word the demo's nodes ask for: the vendor's builder and tester, the supervisor's rebuilder and a custodian.
//!
//! The nodes get the policies and trust files of `deploy/examples/` as they stand there, with keys that the demo makes; beside them
//! lies what `rutli init` wrote for `sandbox`, which is free in the demo alone. All that these people do they do by the commands that
//! people have.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use rand::{RngCore as _, rngs::OsRng};
use rutli_release::ReleaseKey;
use serde_json::Value;
use ssh_key::{
    LineEnding, PrivateKey,
    private::{Ed25519Keypair, KeypairData},
};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::Workplace;
use crate::{
    files::{self, Access},
    init::Written,
    report::{Exit, Failure},
};

/// Attestation keys, by the names that the examples' `trust.toml` has for their files.
const ATTESTERS: [&str; 3] = ["vendor-builder", "vendor-tester", "supervisor-rebuilder"];

/// Custodians: the organisation, and whom its example policies name.
const CUSTODIANS: [(&str, &str); 3] = [("vendor", "anna"), ("vendor", "beat"), ("supervisor", "clara")];

/// The rules of each organisation's nodes: `policy.cedar` and `trust.toml`.
const RULES: [(&str, &str, &str); 2] = [
    (
        "vendor",
        include_str!("../../../../deploy/examples/vendor-node/policy.cedar"),
        include_str!("../../../../deploy/examples/vendor-node/trust.toml"),
    ),
    (
        "supervisor",
        include_str!("../../../../deploy/examples/supervisor-node/policy.cedar"),
        include_str!("../../../../deploy/examples/supervisor-node/trust.toml"),
    ),
];

/// Builder ids of the examples: of the suite, of databases, and of the rebuilder.
const BUILDER_ID: &str = "https://ci.vendor.example/builder";
const AV_BUILDER_ID: &str = "https://ci.vendor.example/avdb";
const REBUILDER_ID: &str = "https://rebuild.supervisor.example";

const SOURCE: &str = "suite-1.0.0";

/// How the suite is built, by the vendor and again by the supervisor.
const BUILD: &str = "cc -O2 -o suite suite.c";

/// The whole source of the demo's product.
const SUITE_C: &str = r#"#include <stdio.h>

/* The demo's product. Whoever builds it from this source gets the same bytes. */
int main(void) {
    puts("suite 1.0.0: nothing found");
    return 0;
}
"#;

/// Their keys, and where they work.
pub struct People<'a> {
    workplace: &'a Workplace,
    folder: PathBuf,
}

/// A product that was built, tested and attested, and not signed yet.
pub struct Built {
    /// The program.
    pub file: PathBuf,
    /// The vendor's provenance and test result.
    pub evidence: Vec<PathBuf>,
    archive: PathBuf,
}

impl<'a> People<'a> {
    /// Makes their keys.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn new(workplace: &'a Workplace) -> Result<Self, Failure> {
        let folder = workplace.dir.join("people");
        files::create_folder(&folder, Access::Secret)?;
        let people = Self { workplace, folder };
        for name in ATTESTERS.into_iter().chain(CUSTODIANS.map(|(_, name)| name)) {
            people.make_key(name)?;
        }
        Ok(people)
    }

    /// Writes every node's rules beside what `rutli init` wrote.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_rules(&self, written: &Written) -> Result<(), Failure> {
        for node in &written.nodes {
            let folder = node.config.with_file_name("policy");
            let organisation = node.id.organisation.as_str();
            let Some((_, policy, trust)) = RULES.iter().find(|(name, ..)| *name == organisation) else {
                continue;
            };
            let write = |name: &str, text: &str| {
                files::write_atomically(&folder.join(name), text.as_bytes(), Access::Public)
            };
            write(&format!("{organisation}-node.cedar"), policy)?;
            write("trust.toml", trust)?;
            for name in ATTESTERS {
                let file = format!("{name}.pem");
                if trust.contains(&file) {
                    write(&file, &files::read_text(&self.folder.join(&file))?)?;
                }
            }
            let own = CUSTODIANS.iter().filter(|(of, _)| *of == organisation);
            let signers: Result<String, Failure> = own
                .map(|(_, name)| {
                    Ok(format!("{name} {}\n", files::read_text(&self.public_key(name))?.trim_end()))
                })
                .collect();
            write("allowed_signers", &signers?)?;
        }
        Ok(())
    }

    /// The vendor builds the suite from its source, tests it, and attests both.
    ///
    /// # Errors
    /// When the compiler or a command fails.
    pub async fn build_suite(&self) -> Result<Built, Failure> {
        let source = self.workplace.dir.join("source");
        files::create_folder(&source, Access::Public)?;
        let archive = source.join(format!("{SOURCE}.tar.gz"));
        files::write_atomically(&archive, &pack()?, Access::Public)?;
        files::write_atomically(&source.join("suite.c"), SUITE_C.as_bytes(), Access::Public)?;
        let compiled = Command::new("sh")
            .args(["-c", BUILD])
            .current_dir(&source)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::failed(format!("cannot run `{BUILD}`: {error}")))?;
        if !compiled.status.success() {
            let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
            return Err(
                Failure::failed(format!("`{BUILD}` failed: {said}")).help("the demo needs a C compiler")
            );
        }
        let file = source.join("suite");
        let provenance = self.evidence("provenance");
        let command = format!("command={BUILD}");
        let files = std::slice::from_ref(&file);
        self.attest_build(&[BUILDER_ID, "--param", &command], &archive, files, &provenance).await?;
        let tests = self.attest_tests("unit", files).await?;
        Ok(Built { file, evidence: vec![provenance, tests], archive })
    }

    /// The vendor builds a database, tests it, and attests both. Gives the evidence.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn attest_av_database(&self, database: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
        let source = self.workplace.dir.join("source");
        files::create_folder(&source, Access::Public)?;
        let patterns = source.join("patterns.txt");
        files::write_atomically(&patterns, b"The demo's database is invented.\n", Access::Public)?;
        let provenance = self.evidence("avdb-provenance");
        self.attest_build(&[AV_BUILDER_ID], &patterns, database, &provenance).await?;
        Ok(vec![provenance, self.attest_tests("false-positives", database).await?])
    }

    /// Attests a build by the vendor's builder. `id` is the builder id, with further arguments.
    async fn attest_build(
        &self,
        id: &[&str],
        source: &Path,
        built: &[PathBuf],
        out: &Path,
    ) -> Result<(), Failure> {
        let mut run = self.rutli();
        run.args(["attest", "provenance", "--builder-id"]).args(id).arg("--source").arg(source);
        run.arg("--key").arg(self.key("vendor-builder")).arg("--out").arg(out).args(built);
        succeed(run).await.map(drop)
    }

    /// Attests that the files passed a test of the vendor's tester. Returns the attestation's file.
    async fn attest_tests(&self, passed: &str, tested: &[PathBuf]) -> Result<PathBuf, Failure> {
        let out = self.evidence(passed);
        let mut run = self.rutli();
        run.args(["attest", "test-result", "--passed", passed]);
        run.arg("--key").arg(self.key("vendor-tester")).arg("--out").arg(&out).args(tested);
        succeed(run).await.map(|_| out)
    }

    /// The supervisor builds the suite again from the source, without network, compares, and attests that it is the same.
    /// `None`, with the reason, where this machine cannot keep a build to itself.
    ///
    /// # Errors
    /// When something else came out, or a command fails.
    pub async fn rebuild(&self, built: &Built) -> Result<Result<PathBuf, Failure>, Failure> {
        let (out, expected) = (self.evidence("rebuild"), self.workplace.dir.join("released"));
        files::create_folder(&expected, Access::Public)?;
        files::write_atomically(&expected.join("suite"), &files::read(&built.file)?, Access::Public)?;
        let mut run = self.rutli();
        run.args(["attest", "rebuild", "--builder-id", REBUILDER_ID, "--command", BUILD]);
        run.arg("--source").arg(&built.archive).arg("--expect").arg(&expected);
        run.arg("--key").arg(self.key("supervisor-rebuilder")).arg("--out").arg(&out);
        match succeed(run).await {
            Ok(_) => Ok(Ok(out)),
            Err(failure) if failure.exit == Exit::Usage => Ok(Err(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// A custodian of the supervisor adds evidence to a release and approves it.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn approve(&self, profile: &Path, release_id: &str, evidence: &Path) -> Result<(), Failure> {
        let mut add = self.rutli();
        add.arg("--profile").arg(profile).args(["evidence", "add", release_id]).arg(evidence);
        succeed(add).await?;
        let mut approve = self.rutli();
        approve.arg("--profile").arg(profile).args(["approve", release_id, "--yes", "--key"]);
        approve.arg(self.key("clara"));
        succeed(approve).await.map(drop)
    }

    /// Where a piece of evidence is written.
    #[must_use]
    pub fn evidence(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.dsse.json"))
    }

    /// Where somebody's secret key lies.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn public_key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pub"))
    }

    /// A secret key as `ssh-keygen` writes it; its public half for `allowed_signers`, and as PEM for `trust.toml`.
    fn make_key(&self, name: &str) -> Result<(), Failure> {
        let cannot = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot make a key: {error}"));
        let mut seed = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(seed.as_mut());
        let pair = Ed25519Keypair::from_seed(&seed);
        let public = ReleaseKey::from_bytes(&pair.public.0).map_err(|error| cannot(&error))?;
        let key = PrivateKey::new(KeypairData::Ed25519(pair), name).map_err(|error| cannot(&error))?;
        let secret = key.to_openssh(LineEnding::LF).map_err(|error| cannot(&error))?;
        let line = key.public_key().to_openssh().map_err(|error| cannot(&error))?;
        files::write_atomically(&self.key(name), secret.as_bytes(), Access::Secret)?;
        files::write_atomically(&self.public_key(name), format!("{line}\n").as_bytes(), Access::Public)?;
        let pem = self.folder.join(format!("{name}.pem"));
        files::write_atomically(&pem, public.to_pem().as_bytes(), Access::Public)
    }

    fn rutli(&self) -> Command {
        let mut command = Command::new(self.workplace.program("rutli"));
        command.arg("--json").env_remove("RUTLI_PROFILE").env_remove("RUTLI_SOCKET");
        command
    }
}

/// Runs a command of ours; gives what it said, or its error.
async fn succeed(mut command: Command) -> Result<Value, Failure> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = output.map_err(|error| Failure::failed(format!("cannot run rutli: {error}")))?;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if output.status.success() {
        return Ok(said);
    }
    let words = |pointer: &str| said.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
    let problem = words("/error/problem").or_else(|| words("/error/message"));
    let problem = problem.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).into_owned());
    let failure = match output.status.code() {
        Some(code) if code == i32::from(Exit::Usage.code()) => Failure::usage(problem),
        _ => Failure::failed(problem),
    };
    Err(match words("/error/help") {
        Some(help) => failure.help(help),
        None => failure,
    })
}

/// The source as an archive, the same each time.
fn pack() -> Result<Vec<u8>, Failure> {
    let cannot = |error: std::io::Error| Failure::failed(format!("cannot pack the source: {error}"));
    let compressor = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut archive = tar::Builder::new(compressor);
    let mut header = tar::Header::new_gnu();
    header.set_size(u64::try_from(SUITE_C.len()).unwrap_or(u64::MAX));
    header.set_mode(0o644);
    // 2026-11-01T00:00:00Z
    header.set_mtime(1_793_491_200);
    archive.append_data(&mut header, format!("{SOURCE}/suite.c"), SUITE_C.as_bytes()).map_err(cannot)?;
    archive.into_inner().map_err(cannot)?.finish().map_err(cannot)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The demo's rules are those of the examples: with keys in the places that they name, they load without a warning. What
    /// `rutli init` wrote for the sandbox asks nobody.
    #[test]
    fn the_examples_rules_take_the_demos_keys() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["rutli", "rutli-coordinator", "rutli-signer"] {
            std::fs::write(folder.path().join(program), "x").unwrap();
        }
        let (dir, bin_dir) = (Some(folder.path().join("demo")), Some(folder.path().to_owned()));
        let args = crate::cli::Demo { dir, bin_dir, python: None, files: Vec::new(), keep: false };
        let workplace = Workplace::prepare(&args).unwrap();
        let people = People::new(&workplace).unwrap();
        let description = super::super::processes::for_tests();
        let written = crate::init::write(&description, &workplace.deployment, false).unwrap();
        people.write_rules(&written).unwrap();
        for node in &written.nodes {
            let rules = node.config.with_file_name("policy");
            let files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(rules)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (path.file_name().unwrap().to_string_lossy().into(), std::fs::read(path).unwrap())
                })
                .collect();
            let rules = rutli_policy::Rules::parse(&files).unwrap();
            let of_examples =
                rules.warnings().iter().filter(|warning| !warning.contains("the permit allow-"));
            assert_eq!(of_examples.count(), 0, "{}: {:?}", node.id, rules.warnings());
            let ids: Vec<_> = rules.policies.ids().map(|id| id.as_str().to_owned()).collect();
            assert!(
                ids.contains(&"avdb-tested".to_owned()) && ids.contains(&"allow-1".to_owned()),
                "{ids:?}"
            );
        }
    }

    #[test]
    fn the_source_is_the_same_each_time() {
        assert_eq!(pack().unwrap(), pack().unwrap());
    }
}
