//! Go's own libraries for notes and trees (`golang.org/x/mod/sumdb`), as they come with the toolchain: `tests/go` reads a log's
//! folder with them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{environment, run, succeed, target};

/// Has Go read a log's folder: checkpoint, inclusion of every entry, consistency between sizes. Gives what it found: `origin`,
/// `size`, `root` (base64), `included`, `consistent` (sizes); or why it refused.
///
/// # Errors
/// What the program said.
pub fn reads(folder: &Path, vkey: &str) -> Result<Value, String> {
    let mut command = Command::new(program());
    command.arg(folder).arg(vkey).stdin(Stdio::null());
    let output = run(command, "python3 python3-venv");
    match output.status.code() {
        Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        Some(1) => Err(String::from_utf8(output.stderr).unwrap()),
        other => panic!("readlog ended with {other:?}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// `target/go/readlog`, which is built if it is not there, exactly as `cargo xtask test` builds it.
fn program() -> PathBuf {
    environment();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let mut command = Command::new("python3");
    command.arg(folder.join("build.py")).arg(target().join("venv")).arg(target().join("go"));
    PathBuf::from(succeed(&run(command, "python3"), "build.py").trim())
}
