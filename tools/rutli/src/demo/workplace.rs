//! Where the demo works: its folder, the programs it starts, the files it signs.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};

use rutli_release::ArtifactName;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{CHANNEL, quoted};
use crate::{
    cli,
    files::{self, Access},
    init,
    report::{self, Failure},
    sign, text,
};

/// Files of the AV database, and bytes of each.
const AV_FILES: usize = 20;
const AV_FILE_BYTES: usize = 64 << 10;

/// Says that a folder is a demo's, and is locked while the demo runs.
const MARKER: &str = ".rutli-demo";

/// What a demo makes in its folder, besides the marker.
const OWN_FILES: [&str; 3] = ["client.toml", "demo.json", "monitor.state"];
const OWN_FOLDERS: [&str; 8] = ["avdb", "deployment", "keys", "logs", "out", "people", "released", "source"];

/// All the demo's places. Paths are absolute.
pub struct Workplace {
    /// The demo's folder.
    pub dir: PathBuf,
    /// Where the programs are.
    pub bin_dir: PathBuf,
    /// What `rutli init` writes.
    pub deployment: PathBuf,
    /// One log for each process.
    pub logs: PathBuf,
    /// Public keys.
    pub keys: PathBuf,
    /// Signatures.
    pub out: PathBuf,
    /// What is signed as a product build.
    pub files: Vec<PathBuf>,
    /// For sockets, where `dir` is too deep for them. Gone with the demo.
    pub sockets: Option<TempDir>,
    /// Held as long as the demo runs.
    _lock: File,
}

/// Files of those who read the log.
pub struct LogTrust {
    /// log.vkey
    pub key: PathBuf,
    /// tlog-policy
    pub policy: PathBuf,
    /// trusted_root.json
    pub trusted_root: PathBuf,
}

impl Workplace {
    /// Checks and makes folders; nothing is started yet.
    ///
    /// # Errors
    /// Exit code 2: a folder that is in use, programs or files that are not there.
    pub fn prepare(args: &cli::Demo) -> Result<Self, Failure> {
        let bin_dir = match &args.bin_dir {
            Some(dir) => files::absolute(dir)?,
            None => own_folder()?,
        };
        for program in ["rutli", "rutli-coordinator", "rutli-signer"] {
            if !bin_dir.join(program).is_file() {
                return Err(Failure::usage(format!("{program} is not in {}", bin_dir.display()))
                    .help("build it with `cargo build --workspace`, or run `cargo xtask demo`, which does; or give --bin-dir"));
            }
        }
        let given = if args.files.is_empty() { vec![bin_dir.join("rutli")] } else { args.files.clone() };
        let files = given.iter().map(|path| files::absolute(path)).collect::<Result<Vec<_>, _>>()?;
        check_files(&files)?;
        let dir = match &args.dir {
            Some(dir) => files::absolute(dir)?,
            None => temporary("rutli-demo-")?.keep(),
        };
        let lock = take(&dir)?;
        let workplace = Self {
            deployment: dir.join("deployment"),
            logs: dir.join("logs"),
            keys: dir.join("keys"),
            out: dir.join("out"),
            sockets: sockets_for(&dir)?,
            dir,
            bin_dir,
            files,
            _lock: lock,
        };
        for folder in [&workplace.logs, &workplace.keys, &workplace.out] {
            files::create_folder(folder, Access::Public)?;
        }
        Ok(workplace)
    }

    /// The key that releases are verified with.
    pub fn release_key(&self) -> PathBuf {
        self.keys.join("release.pem")
    }

    /// For `ssh-keygen -Y verify`.
    pub fn allowed_signers(&self) -> PathBuf {
        self.keys.join("allowed_signers")
    }

    /// What readers of the log need: its key, which cosignatures to ask for, and all that for Sigstore's verifiers.
    pub fn log_trust(&self) -> LogTrust {
        LogTrust {
            key: self.keys.join("log.vkey"),
            policy: self.keys.join("tlog-policy"),
            trusted_root: self.keys.join("trusted_root.json"),
        }
    }

    /// The pipeline's profile.
    pub fn client_toml(&self) -> PathBuf {
        self.dir.join("client.toml")
    }

    /// A program of Rütli's.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin_dir.join(name)
    }

    /// Writes `demo.json`, last of all: who finds it finds everything up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_description(&self, description: &Value) -> Result<(), Failure> {
        let text = report::pretty(description);
        files::write_atomically(&self.dir.join("demo.json"), format!("{text}\n").as_bytes(), Access::Public)
    }

    /// Writes the files of a made-up AV database, the same ones each time.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write_av_database(&self) -> Result<Vec<PathBuf>, Failure> {
        let folder = self.dir.join("avdb");
        files::create_folder(&folder, Access::Public)?;
        (1..=AV_FILES)
            .map(|number| {
                let path = folder.join(format!("avdb-{number:02}.vdb"));
                files::write_atomically(&path, &made_up(number), Access::Public)?;
                Ok(path)
            })
            .collect()
    }

    /// What one can do next: with `up`, the processes stay.
    pub fn next_steps(&self, up: bool, log_url: &str) -> String {
        // Its folder is the whole log, also when nobody serves it any more.
        let log = if up { log_url.to_owned() } else { quoted(&self.deployment.join("coordinator/data/log")) };
        let (program, policy) = (quoted(&self.program("rutli")), quoted(&self.log_trust().policy));
        let state = quoted(&self.dir.join("monitor.state"));
        // Nobody cosigns its head any more once the demo has ended.
        let age = if up { "" } else { " --max-age 0" };
        let look = format!(
            "Look at the log, and verify all of it:\n  \
             {program} log show --log {log} --policy {policy}\n  \
             {program} log monitor --once --log {log} --policy {policy} --state {state}{age}"
        );
        if !up {
            return format!(
                "{look}\n\nAll of it is in {}. With --keep the demo stays up, to be tried out.",
                self.dir.display()
            );
        }
        let (rutli, profile) = (quoted(&self.program("rutli")), quoted(&self.client_toml()));
        let operator = quoted(&self.deployment.join("clients/operator/client.toml"));
        let custodian = quoted(&self.deployment.join("clients/custodian/client.toml"));
        let people = quoted(&self.dir.join("people"));
        format!(
            "{look}\n\nTry it out; the nodes sign product builds and AV databases of sandbox at once, suite and avdb with evidence alone:\n  \
             {rutli} --profile {profile} sign --class product-build --product sandbox --channel {CHANNEL} --version 1.0.1 --sequence 2 --out OUT FILE…\n  \
             {rutli} --profile {profile} release list\n  \
             {rutli} --profile {custodian} pending      # `review`, `approve`, `refuse`: as a custodian; keys are in {people}\n  \
             {rutli} --profile {operator} node list"
        )
    }
}

fn own_folder() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    Ok(program.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Signatures are named after files: two of the same name would be one.
fn check_files(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut names: BTreeSet<_> = (1..=AV_FILES).map(|number| format!("avdb-{number:02}.vdb")).collect();
    names.insert("suite".to_owned());
    for path in paths {
        if !path.exists() {
            return Err(Failure::usage(format!("{} does not exist", path.display())).help("check the path"));
        }
        if !path.is_file() {
            return Err(
                Failure::usage(format!("{} is not a file", path.display())).help("give files to sign")
            );
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Failure::usage(format!("the name of {} is not UTF-8", path.display())).help("rename it")
        })?;
        let name = ArtifactName::new(name)
            .map_err(|error| {
                Failure::usage(format!(
                    "{} cannot be signed: {error}",
                    text::printable(&path.to_string_lossy())
                ))
                .help("rename it")
            })?
            .to_string();
        if !names.insert(name.clone()) {
            return Err(Failure::usage(format!("two files are named {name}"))
                .help("rename one: signatures are named after files"));
        }
    }
    // What else no release could hold is said now, and not when all is up.
    sign::check(&super::build_request(paths.to_vec())?).map(drop)
}

/// Takes a folder for this demo alone: a new or empty one, or one that an earlier demo left, whose things go.
fn take(dir: &Path) -> Result<File, Failure> {
    let marker = dir.join(MARKER);
    if files::has_entries(dir)? && !marker.exists() {
        return Err(Failure::usage(format!("{} is not empty", dir.display()))
            .help("give a new or empty folder: the demo does not touch what is there"));
    }
    files::create_folder(dir, Access::Public)?;
    let lock = OpenOptions::new().create(true).append(true).open(&marker);
    let lock = lock.map_err(|error| files::cannot("write", &marker, &error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::usage(format!("a demo runs in {} already", dir.display()))
                .help("stop it, or give another folder"));
        }
        Err(TryLockError::Error(error)) => return Err(files::cannot("lock", &marker, &error)),
    }
    for name in OWN_FILES {
        let path = dir.join(name);
        if path.is_file() {
            std::fs::remove_file(&path).map_err(|error| files::cannot("remove", &path, &error))?;
        }
    }
    for name in OWN_FOLDERS {
        let path = dir.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(|error| files::cannot("remove", &path, &error))?;
        }
    }
    Ok(lock)
}

fn temporary(prefix: &str) -> Result<TempDir, Failure> {
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir()
        .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))
}

fn sockets_for(dir: &Path) -> Result<Option<TempDir>, Failure> {
    let longest = dir.join("deployment/nodes/supervisor/supervisor-1/node.sock");
    if init::fits_a_socket(&longest) { Ok(None) } else { temporary("rutli-").map(Some) }
}

/// Bytes that look like nothing, the same for the same number.
fn made_up(number: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(AV_FILE_BYTES);
    let mut block = Sha256::digest(format!("av database, file {number}"));
    while bytes.len() < AV_FILE_BYTES {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_same_name_and_missing_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, b"x").unwrap();
            path
        };
        check_files(&[write("a/f"), write("a/g")]).unwrap();
        assert!(check_files(&[write("a/f"), write("b/f")]).unwrap_err().problem.contains("named f"));
        assert!(check_files(&[write("a/avdb-01.vdb")]).is_err());
        let missing = check_files(&[folder.path().join("none")]).unwrap_err();
        assert!(missing.problem.contains("does not exist"), "{}", missing.problem);
        assert_eq!(check_files(&[write("a/x.statement")]).unwrap_err().exit.code(), 2);
        assert_eq!(check_files(&[write("a/b\nc")]).unwrap_err().exit.code(), 2);
    }

    #[test]
    fn a_folder_is_taken_once_and_only_an_own_one_is_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let strange = folder.path().join("strange");
        std::fs::create_dir(&strange).unwrap();
        std::fs::write(strange.join("thesis.tex"), "x").unwrap();
        assert_eq!(take(&strange).unwrap_err().exit.code(), 2);

        let own = folder.path().join("own");
        let lock = take(&own).unwrap();
        assert!(take(&own).unwrap_err().problem.contains("runs"));
        for name in OWN_FILES {
            std::fs::write(own.join(name), "x").unwrap();
        }
        std::fs::create_dir(own.join("out")).unwrap();
        std::fs::write(own.join("mine"), "x").unwrap();
        drop(lock);
        let _lock = take(&own).unwrap();
        assert!(own.join("mine").exists() && !own.join("out").exists() && !own.join("demo.json").exists());
    }

    #[test]
    fn a_log_that_was_stopped_is_not_too_old_to_be_verified() {
        let folder = tempfile::tempdir().unwrap();
        for program in ["rutli", "rutli-coordinator", "rutli-signer"] {
            std::fs::write(folder.path().join(program), "x").unwrap();
        }
        let (dir, bin_dir) = (Some(folder.path().join("demo")), Some(folder.path().to_owned()));
        let args = cli::Demo { dir, bin_dir, python: None, files: Vec::new(), keep: false };
        let workplace = Workplace::prepare(&args).unwrap();
        let (up, ended) =
            (workplace.next_steps(true, "http://log"), workplace.next_steps(false, "http://log"));
        assert!(!up.contains("--max-age"), "{up}");
        let line = ended.lines().find(|line| line.contains("log monitor --once")).unwrap();
        assert!(line.ends_with(" --max-age 0"), "{line}");
    }

    #[test]
    fn deep_folders_get_their_sockets_elsewhere() {
        assert!(sockets_for(Path::new("/tmp/demo")).unwrap().is_none());
        let elsewhere = sockets_for(&Path::new("/tmp").join("x".repeat(80))).unwrap().unwrap();
        assert!(init::fits_a_socket(&elsewhere.path().join("supervisor-supervisor-1.sock")));
    }

    #[test]
    fn the_av_database_is_the_same_each_time() {
        assert_eq!(made_up(1), made_up(1));
        assert_ne!(made_up(1), made_up(2));
        assert_eq!(made_up(1).len(), AV_FILE_BYTES);
    }
}
