//! What a build may use of the machine, and what keeps it to that.
//!
//! | | a cgroup | else, resource limits |
//! | --- | --- | --- |
//! | memory | of all processes and files together | of each process; of all, as often as is looked |
//! | processes | counted by the kernel | counted by the kernel |
//! | disk | the size of [`Place`](super::place::Place)'s file system | the same |
//!
//! Where a bound stands in the way of a build the kernel refuses it more, which many programs put up with and try again. So somebody
//! looks, [ten times a second](super::limits::LOOK_INTERVAL), and ends the build at its bound.

use std::{ffi::OsString, fmt, fs, path::Path};

use bytesize::ByteSize;
use nix::sys::sysinfo::sysinfo;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    cgroup::Cgroup,
    limits::{MEMORY_SLACK, MIN_FREE_MEMORY_SHARE},
    place, usage,
};
use crate::{cli::LimitsChosen, report::Failure};

/// By its path: the build's PATH is the build's.
const PRLIMIT: &str = "/usr/bin/prlimit";

/// How much a build may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of all that it writes; they are in memory too.
    pub disk: u64,
    /// Processes and threads at a time.
    pub processes: u64,
}

/// What a build ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Its memory.
    Memory,
    /// The machine's memory, although it kept to its own as far as that was counted.
    Machine,
    /// Its processes.
    Processes,
    /// Its disk, by bytes.
    Disk,
    /// Its disk, by files.
    Files,
}

/// The bounds of a build, with what enforces them.
#[derive(Debug)]
pub struct Limits {
    bounds: Bounds,
    cgroup: Option<Cgroup>,
}

impl Limits {
    /// Makes what enforces the bounds: a cgroup where one may be made, unless something else was asked for.
    ///
    /// # Errors
    /// Exit code 1: a cgroup was asked for, and none may be made.
    pub fn choose(chosen: LimitsChosen, bounds: Bounds) -> Result<Self, Failure> {
        let cgroup = match chosen {
            LimitsChosen::Rlimits => None,
            LimitsChosen::Auto => Cgroup::new(bounds).ok(),
            LimitsChosen::Cgroup => Some(Cgroup::new(bounds).map_err(|why| {
                Failure::failed(format!("cannot make a cgroup for the build: {why}")).help(
                    "run the command in a subtree that is delegated to you: `systemd-run --user --scope -p Delegate=yes rutli attest \
                     rebuild …` (as root without --user); or let resource limits do, with --limits rlimits",
                )
            })?),
        };
        Ok(Self { bounds, cgroup })
    }

    /// A warning for a machine that has less memory than the bounds let a build use.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let machine = sysinfo().ok()?;
        let has = machine.ram_total().saturating_add(machine.swap_total());
        let wants = self.bounds.memory.saturating_add(self.bounds.disk);
        (wants > has).then(|| {
            format!(
                "warning: the build may use {} of memory, its files included, and this machine has {}; a hostile build could use it up: \
                 lower --memory or --disk",
                ByteSize(wants),
                ByteSize(has)
            )
        })
    }

    /// The program to start between the walls, with what must come before it.
    #[must_use]
    pub fn outside(&self, program: &str) -> Command {
        match &self.cgroup {
            Some(cgroup) => cgroup.enter(program),
            None => Command::new(program),
        }
    }

    /// What comes before the build's own command, within the innermost user namespace: the kernel counts processes by namespace.
    #[must_use]
    pub fn inside(&self) -> Vec<OsString> {
        let Bounds { memory, disk, processes } = self.bounds;
        let mut words = vec![PRLIMIT.to_owned(), "--core=0".to_owned(), format!("--fsize={disk}")];
        if self.cgroup.is_none() {
            let data = memory.saturating_add(MEMORY_SLACK);
            words.extend([format!("--nproc={processes}"), format!("--data={data}")]);
        }
        words.push("--".to_owned());
        words.into_iter().map(OsString::from).collect()
    }

    /// A line for `sh` that fails where the kernel does not count a build's processes, as it does not for root.
    #[must_use]
    pub fn trial(&self) -> &'static str {
        match self.cgroup {
            Some(_) => ":",
            None => {
                "if /usr/bin/prlimit --nproc=1 -- /bin/sh -c '(:) & wait' 2>/dev/null; then echo 'the number of processes cannot be bounded'; exit 1; fi"
            }
        }
    }

    /// The bound that a build has run into, which writes to the file system at `place`, and whose first process is this one.
    #[must_use]
    pub fn hit(&self, place: &Path, process: Option<u32>) -> Option<Bound> {
        let full = || place::full(place);
        match &self.cgroup {
            Some(cgroup) => cgroup.hit().or_else(full),
            None => process.and_then(|process| self.counted(process)).or_else(full),
        }
    }

    /// Without a cgroup: the sum of what its processes use, and what the machine has left, for not all memory is some process's.
    fn counted(&self, process: u32) -> Option<Bound> {
        let used = usage::of_tree(process);
        if used.tasks >= self.bounds.processes {
            return Some(Bound::Processes);
        }
        if used.resident > self.bounds.memory {
            return Some(Bound::Memory);
        }
        let memory = fs::read_to_string("/proc/meminfo").ok()?;
        is_scarce(&memory).then_some(Bound::Machine)
    }

    /// Ends all of a build at once, where something can.
    pub fn end(&self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
    }

    /// In a word: `cgroup`, `rlimits`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        if self.cgroup.is_some() { "cgroup" } else { "rlimits" }
    }

    /// What was run into, in words: the bound with its size.
    #[must_use]
    pub fn in_words(&self, bound: Bound) -> String {
        let Bounds { memory, disk, processes } = self.bounds;
        match bound {
            Bound::Memory if self.cgroup.is_some() => {
                format!("{} of memory and {} of files together", ByteSize(memory), ByteSize(disk))
            }
            Bound::Memory => format!("{} of memory", ByteSize(memory)),
            Bound::Machine => "part of the machine's memory: less than a sixteenth is left".to_owned(),
            Bound::Processes => format!("{processes} processes"),
            Bound::Disk => format!("{} of disk", ByteSize(disk)),
            Bound::Files => {
                format!("{} files, one for each 4 KiB of disk", disk / super::limits::BYTES_OF_FILE)
            }
        }
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Bounds { memory, disk, processes } = self.bounds;
        json!({ "by": self.as_str(), "memory": memory, "disk": disk, "processes": processes })
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { memory, disk, processes } = self.bounds;
        let by = self.as_str();
        write!(f, "{} memory, {} disk, {processes} processes, by {by}", ByteSize(memory), ByteSize(disk))
    }
}

impl Bound {
    /// For programs: `memory`, `machine`, `processes`, `disk`, `files`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Machine => "machine",
            Self::Processes => "processes",
            Self::Disk => "disk",
            Self::Files => "files",
        }
    }

    /// How to raise it.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Memory => "where an honest build needs more, raise --memory, as in --memory 8GiB",
            Self::Machine => {
                "lower --memory, --disk and --processes, run the build in a delegated cgroup (see docs/operating/attest.md), or on a machine \
                 with more memory"
            }
            Self::Processes => "where an honest build needs more, raise --processes, as in --processes 2048",
            Self::Disk | Self::Files => {
                "where an honest build needs more, raise --disk, as in --disk 16GiB; its files are in memory"
            }
        }
    }

    /// The bound that a program complains of in the C library's words, or its language's.
    #[must_use]
    pub fn said(words: &str) -> Option<(Self, &'static str)> {
        const WORDS: [(&str, Bound); 10] = [
            ("Cannot allocate memory", Bound::Memory),
            ("memory exhausted", Bound::Memory),
            ("out of memory", Bound::Memory),
            ("std::bad_alloc", Bound::Memory),
            ("MemoryError", Bound::Memory),
            ("memory allocation of", Bound::Memory),
            ("Resource temporarily unavailable", Bound::Processes),
            ("Cannot fork", Bound::Processes),
            ("No space left on device", Bound::Disk),
            ("File too large", Bound::Disk),
        ];
        WORDS.into_iter().find(|(phrase, _)| words.contains(phrase)).map(|(phrase, bound)| (bound, phrase))
    }
}

/// Whether the machine with this `/proc/meminfo` is about to run out of memory.
fn is_scarce(memory: &str) -> bool {
    let kib = |name: &str| -> Option<u64> {
        let rest = memory.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    match (kib("MemTotal:"), kib("MemAvailable:")) {
        (Some(total), Some(available)) => available < total / MIN_FREE_MEMORY_SHARE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_memory_is_told_from_one_with() {
        let memory = |available: u64| {
            format!("MemTotal:       16000000 kB\nMemFree:          1 kB\nMemAvailable:   {available} kB\n")
        };
        assert!(is_scarce(&memory(999_999)));
        assert!(!is_scarce(&memory(1_000_000)));
        assert!(!is_scarce("nothing"));
    }
}
