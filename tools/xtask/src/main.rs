//! Rütli's task runner, behind `cargo xtask`: the few things that take more than one cargo command.

mod supply;
mod verifiers;

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// Rütli's task runner.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything, then run a whole deployment on this machine: ceremony, signing, verification.
    Demo {
        /// As for `rutli demo`: --dir DIR, --keep, FILE…
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Everything that must hold: format, lints, all tests. Installs the stock verifiers that tests need.
    Test {
        /// For the test runner, as a filter.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build for release, then attack a deployment on this machine, and print a table of what came of it.
    Attack {
        /// As for the attacks: --minutes M, --only NAME.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Build for release, then measure.
    Bench {
        /// As for `rutli-bench`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Demo { args } => demo(&args),
        Task::Test { args } => test(&args),
        Task::Attack { args } => attack(&args),
        Task::Bench { args } => bench(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The demo replaces this process, so that signals meant for it reach it.
fn demo(args: &[OsString]) -> Result<()> {
    run(cargo().args(["build", "--workspace", "--bins"]))?;
    let programs = programs()?;
    let mut demo = Command::new(programs.join("rutli"));
    demo.arg("demo").arg("--bin-dir").arg(&programs);
    if let Some(python) = verifiers::installed_python(&target()?) {
        demo.arg("--python").arg(python);
    }
    replace_by(demo.args(args))
}

/// The runner's last line is this task's last line.
fn test(args: &[OsString]) -> Result<()> {
    verifiers::install(&target()?)?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    supply::check(workspace())?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // Tests start the daemons as processes: they must be there before the first test runs.
    run(cargo().args(["build", "--workspace", "--all-targets"]))?;
    // What an optimising compiler leaves of secrets is to be seen in the profile that is shipped.
    run(cargo().args(["test", "--release", "--package", "rutli-signer-secrets", "--test", "wiped"]))?;
    let mut runner = cargo();
    if has_nextest() {
        // nextest does not run examples in documentation.
        run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
        runner.args(["nextest", "run", "--workspace"]);
    } else {
        eprintln!("cargo-nextest is not installed: running `cargo test`, which takes longer");
        runner.args(["test", "--workspace", "--no-fail-fast"]);
    }
    replace_by(runner.args(args))
}

fn attack(args: &[OsString]) -> Result<()> {
    run(cargo().args(["build", "--workspace", "--bins", "--example", "attack", "--release"]))?;
    replace_by(Command::new(target()?.join("release/examples/attack")).args(args))
}

fn bench(args: &[OsString]) -> Result<()> {
    run(cargo().args(["build", "--workspace", "--bins", "--release"]))?;
    replace_by(Command::new(target()?.join("release/rutli-bench")).args(args))
}

/// cargo, in the workspace, wherever the task was started.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env("CARGO_TERM_COLOR", std::env::var_os("CARGO_TERM_COLOR").unwrap_or_else(|| "auto".into()));
    cargo.current_dir(workspace());
    cargo
}

fn has_nextest() -> bool {
    cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Where this program was built to, and with it all others.
fn programs() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    Ok(program.parent().context("this program is in no folder")?.to_owned())
}

fn target() -> Result<PathBuf> {
    Ok(programs()?.parent().context("there is no target folder")?.to_owned())
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

fn replace_by(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(command)))
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words: Vec<_> =
        std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_on_as_they_are() {
        let line = ["xtask", "demo", "--dir", "/tmp/x", "--keep", "a", "b"];
        let Task::Demo { args } = Cli::try_parse_from(line).unwrap().task else { panic!() };
        assert_eq!(args, ["--dir", "/tmp/x", "--keep", "a", "b"]);
        assert!(workspace().join("Cargo.toml").is_file());
        assert_eq!(shown(Command::new("/usr/bin/cargo").arg("fmt")), "cargo fmt");
    }
}
