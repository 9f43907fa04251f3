//! From the command line to an exit code: the only place that prints results.

use std::{
    ffi::OsString,
    io::{ErrorKind, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind as ClapError};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    attest,
    ceremonies::{self, Place},
    cli::{Attest, Ceremony, Cli, Command, Custodian, Keys, Log, Node, Policy, Release},
    client::{self, Profile},
    demo, evidence, help, init, keys, log, nodes, pending, policy, releases,
    report::{Failure, Report, pretty},
    review, sign, verify, word,
};

/// Runs one command line and says how it ended.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // clap may refuse the line before it has read the flag.
    let json = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let result = match Cli::try_parse_from(&args) {
        Ok(cli) => execute(cli),
        Err(error) if matches!(error.kind(), ClapError::DisplayHelp | ClapError::DisplayVersion) => {
            return match error.print() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    eprintln!("{}", unwritable(&error));
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(error) if !json => {
            let _ = error.print();
            return ExitCode::from(2);
        }
        Err(error) => Err(usage(&error)),
    };
    let failure = match result.and_then(|report| show(&report, json)) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    // Where stdout fails too, the problem must still be seen.
    if failure.said {
        return ExitCode::from(failure.exit.code());
    }
    if !json && let Err(unwritable) = print(&failure.text) {
        eprintln!("{unwritable}");
    }
    if !json || failure.shown || print(&pretty(&failure.json())).is_err() {
        eprintln!("{failure}");
    }
    ExitCode::from(failure.exit.code())
}

/// Prints a report; nothing for one that says nothing.
///
/// # Errors
/// Exit code 1: stdout cannot be written.
pub fn show(report: &Report, json: bool) -> Result<(), Failure> {
    let text = match (json, &report.json) {
        (true, Value::Null) => String::new(),
        (true, document) => pretty(document),
        (false, _) => report.text.clone(),
    };
    print(&text)
}

fn execute(cli: Cli) -> Result<Report, Failure> {
    match cli.command {
        Command::Init(args) => init::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Attest(Attest::Provenance(args)) => attest::statements::provenance(&args),
        Command::Attest(Attest::TestResult(args)) => attest::statements::test_result(&args),
        Command::Log(command) if !command.follows() => log::run(&command, cli.json),
        Command::Policy(command) if !matches!(command, Policy::Replay(_)) => policy::run(&command),
        Command::Help { topic } => help::run(&topic),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "rutli", &mut script);
            let script = String::from_utf8_lossy(&script).trim_end().to_owned();
            Ok(Report::new(script.clone(), json!({ "script": script })))
        }
        Command::Attest(Attest::Rebuild(args)) => {
            // While this process has one thread only.
            let place = attest::place::Place::new(args.disk.as_u64())?;
            with_runtime(attest::rebuild::run(*args, place))
        }
        _ => with_runtime(execute_online(cli)),
    }
}

fn with_runtime(work: impl Future<Output = Result<Report, Failure>>) -> Result<Report, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(
            |error| {
                Failure::failed(format!("cannot start: {error}"))
                    .help("see how many threads and files this user may have (`ulimit -a`)")
            },
        )?;
    let result = runtime.block_on(work);
    // Hashing that was interrupted is not waited for.
    runtime.shutdown_background();
    result
}

async fn execute_online(cli: Cli) -> Result<Report, Failure> {
    let Cli { profile, socket, command, json } = cli;
    let coordinator = async || -> Result<Channel, Failure> {
        let path = profile.as_deref().ok_or_else(|| {
            Failure::usage("which coordinator, and as whom?")
                .help("give a client.toml with --profile FILE or RUTLI_PROFILE")
        })?;
        Profile::read(path)?.connect().await
    };
    let node = async || -> Result<Channel, Failure> {
        let path = socket.as_deref().ok_or_else(|| {
            Failure::usage("which node?")
                .help("give its custodian's socket with --socket PATH or RUTLI_SOCKET")
        })?;
        client::connect_socket(path).await
    };
    match command {
        Command::Sign(args) => sign::run(*args, coordinator()).await,
        Command::Release(release) => on_release(release, coordinator().await?).await,
        Command::Cancel(args) => releases::cancel_any(coordinator().await?, &args).await,
        Command::Custodian(command) => on_custodian(command, coordinator()).await,
        Command::Ceremony(ceremony) => {
            let custodians = matches!(
                ceremony,
                Ceremony::Propose { .. }
                    | Ceremony::Join { .. }
                    | Ceremony::Reject { .. }
                    | Ceremony::Abort { .. }
            );
            let place = if custodians || socket.is_some() {
                Place::Node(node().await?)
            } else {
                Place::Coordinator(coordinator().await?)
            };
            ceremonies::run(ceremony, &place).await
        }
        Command::Node(Node::List) => nodes::list(coordinator().await?).await,
        Command::Node(Node::Reinstate { node }) => nodes::reinstate(coordinator().await?, &node).await,
        Command::Node(command) => nodes::at_node(command, node().await?).await,
        Command::Keys(Keys::List) => keys::list(coordinator().await?).await,
        Command::Keys(Keys::Export { out, allow }) => keys::export(coordinator().await?, &out, &allow).await,
        Command::Demo(args) => demo::run(args, json).await,
        Command::Log(Log::Monitor(args)) => log::follow::run(&args, json).await,
        Command::Policy(Policy::Replay(args)) => policy::replay::run(args, coordinator()).await,
        Command::Init(_)
        | Command::Verify(_)
        | Command::Attest(_)
        | Command::Log(_)
        | Command::Policy(_)
        | Command::Help { .. }
        | Command::Completions { .. } => Err(Failure::usage("this command needs no connection")),
    }
}

async fn on_release(command: Release, channel: Channel) -> Result<Report, Failure> {
    match command {
        Release::List { product, channel: of, state, limit } => {
            releases::list(channel, product, of, state, limit).await
        }
        Release::Show { release } => releases::show(channel, &release).await,
        Release::Watch { release, timeout } => releases::watch(channel, &release, timeout).await,
        Release::Cancel(args) => releases::cancel_any(channel, &args).await,
        Release::Disclose { release } => releases::disclose(channel, &release).await,
        Release::Fetch { release, out } => releases::fetch(channel, &release, &out).await,
    }
}

async fn on_custodian(
    command: Custodian,
    coordinator: impl Future<Output = Result<Channel, Failure>>,
) -> Result<Report, Failure> {
    match command {
        Custodian::Pending(args) => pending::run(coordinator.await?, args).await,
        Custodian::Review(args) => review::run(args, coordinator).await,
        Custodian::Approve(args) => word::approve(args, coordinator).await,
        Custodian::Refuse(args) => word::refuse(args, coordinator).await,
        Custodian::Evidence(command) => evidence::run(command, coordinator).await,
    }
}

fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut problem = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let mut rest: Vec<_> = lines.map(str::trim).collect();
    // clap lists what is missing on the lines below.
    if problem.ends_with(':') {
        let listed = rest.iter().take_while(|line| !is_advice(line)).count();
        let names: Vec<_> = rest.drain(..listed).collect();
        problem = format!("{problem} {}", names.join(", "));
    }
    let failure = Failure::usage(problem);
    if rest.is_empty() { failure } else { failure.help(rest.join("\n")) }
}

fn is_advice(line: &str) -> bool {
    ["Usage:", "tip:", "For more information", "["].iter().any(|start| line.starts_with(start))
}

/// To stdout; a reader that went away (`| head`) is no error of ours.
fn print(text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(unwritable(&error)),
        _ => Ok(()),
    }
}

fn unwritable(error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot write to stdout: {error}"))
        .help("give stdout a place to write to; what was asked for may be done already")
}
