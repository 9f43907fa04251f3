//! The stock verifiers and other programs that tests need: looked for, installed where that is possible, demanded otherwise. A verifier
//! that is missing would be a test that is not run, so it is a failure.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{run, workspace};

/// Programs with a harmless use of each, and the Debian packages that they come with. `ssh-keygen` has no use without
/// effect or error, but comes together with `ssh`.
const PROGRAMS: [(&str, &[&str], &str); 9] = [
    ("bwrap", &["--version"], "bubblewrap"),
    ("faketime", &["--version"], "faketime"),
    ("xz", &["--version"], "xz-utils"),
    ("zstd", &["--version"], "zstd"),
    ("ssh", &["-V"], "openssh-client"),
    ("openssl", &["version"], "openssl"),
    // Without ensurepip, which Debian packages apart, there is no virtual environment.
    ("python3", &["-c", "import venv, ensurepip"], "python3-venv"),
    ("node", &["--version"], "nodejs"),
    ("npm", &["--version"], "npm"),
];

/// Sees to it that all verifiers are there; in `target` a Python with its libraries, the packages for Node.js, and the program
/// built with Go, whose toolchain comes with the Python's libraries.
pub fn install(target: &Path) -> Result<()> {
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, probe, _)| !works(program, probe))
        .map(|(_, _, package)| *package)
        .collect();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    for (program, probe, package) in PROGRAMS {
        if !works(program, probe) {
            bail!("{program} is missing; install it (Debian: {package}): tests need it");
        }
    }
    // The tests call it too, and find its work done.
    let script = |name: &str| {
        let mut python = Command::new("python3");
        python.arg(workspace().join("tests").join(name));
        python
    };
    run(script("python/make_venv.py").arg(environment(target)))?;
    run(script("node/make_modules.py").arg(target.join("node")))?;
    run(script("go/build.py").arg(environment(target)).arg(target.join("go")))
}

/// The Python with the libraries, if it was installed before.
pub fn installed_python(target: &Path) -> Option<PathBuf> {
    let python = environment(target).join("bin/python");
    works(&python, &["-c", "import securesystemslib.signer, cryptography"]).then_some(python)
}

fn install_packages(packages: &[&str]) -> Result<()> {
    // The owner of this process's own entry is the effective user.
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if !is_root || !works("apt-get", &["--version"]) {
        bail!("install these first, tests need them (names of Debian packages): {}", packages.join(" "));
    }
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-qq", "--yes", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn works(program: impl AsRef<Path>, arguments: &[&str]) -> bool {
    let mut command = Command::new(program.as_ref());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn environment(target: &Path) -> PathBuf {
    target.join("venv")
}
