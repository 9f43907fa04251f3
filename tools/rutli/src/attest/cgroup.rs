//! A cgroup (version 2) for a build, where this program may make one: in its own, if that is delegated to it alone, else beside it.
//!
//! The limits are on the outer of two. The build's processes are in the inner one, which is the root of all that they can see of cgroups:
//! a build that mounts them inside, as the owner of these files, finds no limit there to raise.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
};

use tempfile::TempDir;
use tokio::process::Command;

use super::{
    bounds::{Bound, Bounds},
    limits::{END_ATTEMPTS, END_INTERVAL},
};
use crate::files;

/// Puts itself into a cgroup, then becomes what shall run in it.
const ENTER: &str = "echo 0 >\"$0/cgroup.procs\" && exec \"$@\"";

/// A cgroup with limits; it ends with all of its processes when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    outer: PathBuf,
    /// Where this process went, so that there is none in the cgroup that it was in. It goes back when the other is gone.
    #[expect(dead_code, reason = "what it does it does when it is dropped")]
    own: Option<Own>,
}

/// A cgroup for this process alone.
#[derive(Debug)]
struct Own {
    before: PathBuf,
    now: PathBuf,
}

impl Cgroup {
    /// Makes one with these limits.
    ///
    /// # Errors
    /// In words, why none may be made.
    pub fn new(bounds: Bounds) -> Result<Self, String> {
        let before = current()?;
        // The root of all may have processes and cgroups, and so may one whose controllers are in use already.
        let (parent, own) = if enable(&before).is_ok() {
            (before, None)
        } else if is_alone(&before) {
            let own = Own::enter(&before)?;
            enable(&before).map_err(|error| told("use", &before, &error))?;
            (before, Some(own))
        } else {
            let parent = before.parent().ok_or("there is none above this process's own")?.to_owned();
            enable(&parent).map_err(|error| told("use", &parent, &error))?;
            (parent, None)
        };
        let cgroup = Self { outer: make(&parent)?, own };
        cgroup.set_up(bounds).map_err(|error| told("limit", &cgroup.outer, &error))?;
        Ok(cgroup)
    }

    fn set_up(&self, bounds: Bounds) -> io::Result<()> {
        let limit = |name: &str, value: u64| set(&self.outer, name, &value.to_string());
        // Files are memory, too.
        limit("memory.max", bounds.memory.saturating_add(bounds.disk))?;
        limit("memory.oom.group", 1)?;
        limit("pids.max", bounds.processes)?;
        match limit("memory.swap.max", 0) {
            // A kernel that does not count swap by cgroup.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        fs::create_dir(self.inner())?;
        // No more below: each costs the kernel memory, and is to be taken away in the end.
        limit("cgroup.max.descendants", 1)
    }

    fn inner(&self) -> PathBuf {
        self.outer.join("build")
    }

    /// A program that is in it from its start.
    #[must_use]
    pub fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", ENTER]).arg(self.inner()).arg(program);
        command
    }

    /// The limit that stood in the way of one of its processes.
    #[must_use]
    pub fn hit(&self) -> Option<Bound> {
        let has_been = |file: &str, event: &str| {
            let events = fs::read_to_string(self.outer.join(file)).unwrap_or_default();
            let mut lines = events.lines().filter_map(|line| line.split_once(' '));
            lines.any(|(name, count)| name == event && count != "0")
        };
        if has_been("memory.events", "oom_kill") {
            return Some(Bound::Memory);
        }
        has_been("pids.events", "max").then_some(Bound::Processes)
    }

    /// Ends all of its processes at once. Best effort: the walls end them, too.
    pub fn kill(&self) {
        let _ = set(&self.outer, "cgroup.kill", "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        remove(&self.inner());
        remove(&self.outer);
    }
}

impl Own {
    fn enter(before: &Path) -> Result<Self, String> {
        let own = Self { before: before.to_owned(), now: make(before)? };
        set(&own.now, "cgroup.procs", "0").map_err(|error| told("enter", &own.now, &error))?;
        Ok(own)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Best effort: what stays is an empty cgroup, which goes with the one that it is in.
        let _ = set(&self.before, "cgroup.subtree_control", "-memory -pids");
        let _ = set(&self.before, "cgroup.procs", "0");
        remove(&self.now);
    }
}

/// Where this process is.
fn current() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| told("read", Path::new(path), &error));
    locate(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
        .ok_or_else(|| "no cgroup file system of version 2 is mounted".to_owned())
}

/// The folder of the cgroup that a process is in, by its `cgroup` and `mountinfo`.
fn locate(cgroup: &str, mounts: &str) -> Option<PathBuf> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let below = Path::new(path).strip_prefix(root).ok()?;
        kind.starts_with("cgroup2 ").then(|| Path::new(at).join(below))
    })
}

/// Has the kernel bound memory and processes of what is below.
fn enable(cgroup: &Path) -> io::Result<()> {
    set(cgroup, "cgroup.subtree_control", "+memory +pids")
}

fn make(parent: &Path) -> Result<PathBuf, String> {
    let prefix = format!("rutli-rebuild-{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent);
    folder.map(TempDir::keep).map_err(|error| told("make one in", parent, &error))
}

/// Writes to a file of a cgroup. It is there, or this is no cgroup.
fn set(cgroup: &Path, name: &str, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(cgroup.join(name))?.write_all(value.as_bytes())
}

fn is_alone(cgroup: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|processes| processes.trim() == own)
}

/// Best effort, and patient: a cgroup is empty a moment after its processes have been killed.
fn remove(cgroup: &Path) {
    for _ in 0..END_ATTEMPTS {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => thread::sleep(END_INTERVAL),
            _ => return,
        }
    }
}

fn told(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {}", path.display(), files::in_words(error).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_wherever_it_is_mounted() {
        let mounts = "22 1 0:20 / /sys rw - sysfs sysfs rw\n31 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = locate("0::/user.slice/run.scope\n", mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/user.slice/run.scope")));
        let hybrid = "3 2 0:30 /box /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
        let found = locate("4:memory:/other\n0::/box/inner\n", hybrid);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/unified/inner")));
        assert_eq!(locate("0::/elsewhere\n", hybrid), None);
        assert_eq!(locate("4:memory:/\n", mounts), None);
        assert_eq!(locate("0::/\n", "22 1 0:20 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
