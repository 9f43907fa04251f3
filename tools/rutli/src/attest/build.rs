//! Running a build: within its time, with what it says on stderr as it says it, and the end of that kept.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::{Child, Command},
};

use super::{
    bounds::{Bound, Limits},
    isolation::Room,
    limits::{KILL_TIMEOUT, LOOK_INTERVAL, MAX_LINE_BYTES, MAX_TAIL_BYTES, MAX_TAIL_LINES},
};
use crate::{files, interruption::Interruption, report::Failure, text};

/// A command that has ended, and all that it started with it.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// The last of what it said, printable.
    pub tail: String,
    /// The bound that it ran into.
    pub bound: Option<Bound>,
    limits: Arc<Limits>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was killed: its time was up.
    TimedOut(Duration),
    /// It was killed: it had come to a bound.
    Bounded,
    /// It was killed: somebody ended this program with this signal.
    Interrupted(&'static str),
}

/// Runs a command that takes all of its children with it when it is killed, in a room whose limits it keeps to.
///
/// # Errors
/// Exit code 1: it cannot be started, or not be ended.
pub async fn run(command: Command, room: &Room, timeout: Duration, echo: bool) -> Result<Ended, Failure> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| {
        let reason = if error.kind() == ErrorKind::NotFound {
            "it is not installed".into()
        } else {
            files::in_words(&error).0
        };
        Failure::failed(format!("cannot run {program}: {reason}")).help("install it, or see `ulimit -a`")
    };
    let mut interruption = Interruption::listen()?.or_hang_up()?;
    let (mut child, mut output) = start(command, failed)?;
    let mut said = Said { echo, ..Said::default() };
    let mut buffer = vec![0; MAX_LINE_BYTES];
    let deadline = tokio::time::sleep(timeout);
    tokio::pin!(deadline);
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let hit = |child: &Child| room.limits.hit(&room.place, child.id());
    let (mut open, mut bound) = (true, None);
    let end = loop {
        tokio::select! {
            read = output.read(&mut buffer), if open => match read {
                Ok(0) | Err(_) => open = false,
                Ok(bytes) => said.push(buffer.get(..bytes).unwrap_or_default()),
            },
            status = child.wait() => break End::Exited(status.map_err(failed)?),
            () = &mut deadline => break End::TimedOut(timeout),
            signal = interruption.wait() => break End::Interrupted(signal),
            _ = looks.tick() => {
                bound = hit(&child);
                if bound.is_some() {
                    break End::Bounded;
                }
            }
        }
    };
    // The kernel may have ended it, or what it said no to.
    bound = bound.or_else(|| hit(&child)).or_else(|| end.of_a_large_file().then_some(Bound::Disk));
    if !matches!(end, End::Exited(_)) {
        room.limits.end();
        kill(&mut child).await?;
    }
    let rest = async {
        while let Ok(bytes @ 1..) = output.read(&mut buffer).await {
            said.push(buffer.get(..bytes).unwrap_or_default());
        }
    };
    // The pipe ends with the last of its processes.
    if tokio::time::timeout(KILL_TIMEOUT, rest).await.is_err() {
        return Err(Failure::failed("a part of the build goes on although it was killed")
            .help("find it with `ps`, end it, and try again"));
    }
    Ok(Ended { end, tail: said.end(), bound, limits: Arc::clone(&room.limits) })
}

/// Starts it in a process group of its own, and gives what it says.
fn start(
    mut command: Command,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(Child, pipe::Receiver), Failure> {
    close_inherited().map_err(|error| {
        let reason = files::in_words(&error).0;
        Failure::failed(format!(
            "cannot tell which files are open here, which the build would have too: {reason}"
        ))
        .help("is /proc mounted?")
    })?;
    let (reader, writer) = io::pipe().map_err(&failed)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(&failed)?).stderr(writer);
    // A group of its own, so that Ctrl-C reaches it through us alone.
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(&failed)?;
    // Its ends of the pipe: while one is open the pipe does not end.
    drop(command);
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?))
}

/// The walls fall on all of the build when the process that holds them up ends.
async fn kill(child: &mut Child) -> Result<(), Failure> {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(group) = group {
        // Best effort: what is left of the group after the next line.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    match tokio::time::timeout(KILL_TIMEOUT, child.kill()).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Failure::failed("the build cannot be ended").help("find it with `ps`, and end it")),
    }
}

/// Closes what whoever started this program left open in it, as a lock or a folder: nothing here needs it, all that this program opens
/// itself closes by itself in what it starts, and a build with such a folder walks from there to wherever it wants.
fn close_inherited() -> io::Result<()> {
    let open: Vec<_> = fs::read_dir("/proc/self/fdinfo")?.collect::<Result<_, _>>()?;
    for entry in open {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        // The folder that was just read is closed already.
        let (Some(number @ 3..), Ok(info)) = (number, fs::read_to_string(entry.path())) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim);
        let flags =
            flags.and_then(|flags| i32::from_str_radix(flags, 8).ok()).ok_or(ErrorKind::InvalidData)?;
        if flags & OFlag::O_CLOEXEC.bits() == 0 {
            nix::unistd::close(number)?;
        }
    }
    Ok(())
}

impl End {
    /// Whether one file was to have more bytes than the disk, which the kernel answers with a signal, and a shell with its number.
    fn of_a_large_file(self) -> bool {
        let Self::Exited(status) = self else { return false };
        let signal = status.signal().or_else(|| status.code()?.checked_sub(128));
        signal == Some(Signal::SIGXFSZ as i32)
    }
}

impl Ended {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.success())
    }

    /// Why there is nothing to compare.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (how, help) = match (self.end, self.bound) {
            (End::TimedOut(_), _) => {
                (format!("the build was killed: {}", self.in_words()), "give it more time with --timeout")
            }
            (End::Interrupted(_), _) => {
                (format!("the build was killed: {}", self.in_words()), "run the command again")
            }
            (End::Bounded, Some(bound)) => (
                format!("the build was killed: it used up its {}", self.limits.in_words(bound)),
                bound.help(),
            ),
            (_, Some(bound)) => {
                let limit = self.limits.in_words(bound);
                (format!("the build failed ({}): it used up its {limit}", self.in_words()), bound.help())
            }
            (_, None) => self.own_failure(),
        };
        let bound = self.bound.map(Bound::as_str);
        Failure::failed(format!("{how}; nothing is attested"))
            .help(help)
            .with(json!({ "reproduced": false, "bound": bound, "output": self.last_lines() }))
    }

    /// A build that failed by itself. What it says may be of a bound that the kernel kept it to.
    fn own_failure(&self) -> (String, &'static str) {
        let failed = format!("the build failed ({})", self.in_words());
        match Bound::said(&self.last_lines()) {
            Some((bound, said)) => {
                let limit = self.limits.in_words(bound);
                (format!("{failed}; it says `{said}`, and may have no more than {limit}"), bound.help())
            }
            None => (
                failed,
                "correct --command; what the build needs beside the system's programs it must be given with --ro-bind and --env, for it \
                 has no network and sees nothing of yours",
            ),
        }
    }

    /// How it ended, and the first thing that it said, on a line.
    #[must_use]
    pub fn in_a_line(&self) -> String {
        let first = self.tail.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        format!("{first} ({})", self.in_words()).trim_start().to_owned()
    }

    fn in_words(&self) -> String {
        match self.end {
            End::Exited(status) => status.to_string(),
            End::TimedOut(after) => format!("its {} seconds are up", after.as_secs()),
            End::Bounded => "it came to a bound".to_owned(),
            End::Interrupted(signal) => format!("{signal} came"),
        }
    }

    fn last_lines(&self) -> String {
        let lines: Vec<_> = self.tail.lines().collect();
        let from = lines.len().saturating_sub(MAX_TAIL_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

/// What a build says: foreign text, whose lines are made printable.
#[derive(Default)]
struct Said {
    echo: bool,
    line: Vec<u8>,
    tail: String,
}

impl Said {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.show(),
                _ => self.line.push(*byte),
            }
            if self.line.len() >= MAX_LINE_BYTES {
                self.show();
            }
        }
    }

    fn show(&mut self) {
        let line = text::printable(&String::from_utf8_lossy(&self.line).replace('\t', "    "));
        self.line.clear();
        if self.echo {
            // A terminal that went away does not end the build.
            let _ = writeln!(io::stderr(), "  {line}");
        }
        self.tail.push_str(&line);
        self.tail.push('\n');
        if self.tail.len() > 2 * MAX_TAIL_BYTES {
            let mut cut = self.tail.len().saturating_sub(MAX_TAIL_BYTES);
            while !self.tail.is_char_boundary(cut) {
                cut = cut.saturating_add(1);
            }
            self.tail.drain(..cut);
        }
    }

    fn end(mut self) -> String {
        if !self.line.is_empty() {
            self.show();
        }
        self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_printable_and_the_end() {
        let mut said = Said::default();
        for number in 0..100_000 {
            said.push(format!("\u{1b}[31mline {number} é\n").as_bytes());
        }
        said.push(&vec![b'x'; 3 * MAX_LINE_BYTES]);
        said.push(b"the end");
        assert!(said.tail.len() <= 2 * MAX_TAIL_BYTES && said.line.len() < MAX_LINE_BYTES);
        let tail = said.end();
        assert!(tail.ends_with("the end\n") && tail.contains("line 99999") && !tail.contains("line 5\n"));
        assert!(!tail.contains('\u{1b}'));
    }
}
