//! The `rutli` program: see [`rutli::cli`] for its commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    rutli::run::run(std::env::args_os())
}
