//! The verifiers that endpoints have already, readers of logs that others wrote, and a Python with gRPC. A missing one fails the test: an unproved format is
//! not a format.

pub mod sigstore;

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rutli_release::PRINCIPAL;

/// Whether `ssh-keygen -Y verify` accepts the signature of a file.
#[must_use]
pub fn ssh_keygen_accepts(allowed_signers: &Path, namespace: &str, signature: &Path, file: &Path) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-Y", "verify", "-I", PRINCIPAL, "-n", namespace, "-f"]).arg(allowed_signers);
    command.arg("-s").arg(signature).stdin(File::open(file).unwrap());
    run(command, "openssh-client").status.success()
}

/// Whether `openssl pkeyutl -verify -rawin` accepts the raw signature of a statement file.
#[must_use]
pub fn openssl_accepts(key: &Path, signature: &Path, statement: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"]).arg(key).arg("-in").arg(statement);
    command.arg("-sigfile").arg(signature).stdin(Stdio::null());
    run(command, "openssl").status.success()
}

/// Runs a program of `tests/python` and gives what it printed. Panics, with its errors, if it fails.
pub fn python(program: &str, arguments: &[&OsStr]) -> String {
    let mut command = Command::new(environment());
    command.arg(folder().join(program)).args(arguments).stdin(Stdio::null());
    succeed(&run(command, "python3"), program)
}

/// Generates Python's client code from the `.proto` files into `out`.
pub fn generate_python_client(out: &Path) {
    let protos = folder().ancestors().nth(2).unwrap().join("proto/wire/proto");
    let mut command = Command::new(environment());
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&protos);
    for flag in ["--python_out", "--grpc_python_out"] {
        command.arg(format!("{flag}={}", out.display()));
    }
    command.args(["release", "node", "ceremony"].map(|file| protos.join(format!("rutli/v1/{file}.proto"))));
    succeed(&run(command, "python3"), "grpc_tools.protoc");
}

/// The Python of `target/venv`, which is made if it is not there, exactly as `cargo xtask test` makes it.
fn environment() -> PathBuf {
    let mut command = Command::new("python3");
    command.arg(folder().join("make_venv.py")).arg(target().join("venv")).stdin(Stdio::null());
    PathBuf::from(succeed(&run(command, "python3 python3-venv"), "make_venv.py").trim())
}

/// Where the tests' tools are installed.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let programs = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
    programs.parent().unwrap().to_owned()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn run(mut command: Command, package: &str) -> Output {
    command.output().unwrap_or_else(|error| {
        panic!(
            "{} must be installed for this test: apt-get install {package} ({error})",
            command.get_program().display()
        )
    })
}

fn succeed(output: &Output, what: &str) -> String {
    assert!(output.status.success(), "{what} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}
