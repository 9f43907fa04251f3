//! `rutli-bench`: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use rutli_bench::{args::Args, run};

fn main() -> ExitCode {
    run(&Args::parse())
}
