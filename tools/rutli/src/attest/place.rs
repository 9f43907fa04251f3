//! The place where a build happens: a file system of its own, of bounded size, that nobody else sees and that ends with this program.
//!
//! All that a build can write to lies in it, so the kernel itself counts it, files without a name and names without a file included. It
//! is in memory: a disk has quotas only where its administrator made some.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statvfs::statvfs,
    unistd::{getegid, geteuid},
};
use tempfile::TempDir;

use super::{bounds::Bound, isolation::NO_NAMESPACES, limits::BYTES_OF_FILE};
use crate::{
    files::{self, Access},
    report::Failure,
};

/// Whom a build runs as where this program runs as root: `nobody`. The kernel bounds no processes of root's.
pub const NOBODY: u32 = 65_534;

/// A file system of this run alone.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    as_nobody: bool,
}

impl Place {
    /// Makes one of at most this many `bytes`, and puts this process into a mount namespace of its own to see it, with a user namespace for
    /// those who are not root. Only a process without other threads can do that.
    ///
    /// # Errors
    /// Exit code 1: the system does not let it.
    pub fn new(bytes: u64) -> Result<Self, Failure> {
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new()
            .prefix("rutli-rebuild-")
            .tempdir_in(&temporary)
            .map_err(|error| files::cannot("work in", &temporary, &error))?;
        let as_nobody = enter_namespaces().map_err(|error| forbidden(&error))?;
        let options = format!("mode=0700,size={bytes},nr_inodes={}", bytes / BYTES_OF_FILE);
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some(options.as_str()))
            .map_err(|error| forbidden(&error.into()))?;
        // From here on it is taken away again whatever happens.
        let place = Self { folder, as_nobody };
        for name in ["build", "root"] {
            files::create_folder(&place.path().join(name), Access::Public)?;
        }
        Ok(place)
    }

    /// Where it is, outside of the walls.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What is `/build` inside.
    #[must_use]
    pub fn build(&self) -> PathBuf {
        self.path().join("build")
    }

    /// Whether builds run as [`NOBODY`].
    #[must_use]
    pub fn as_nobody(&self) -> bool {
        self.as_nobody
    }

    /// A new folder with what is `/tmp` and `/dev/shm` inside. Each command has its own: things are mounted below `/tmp`, and what a
    /// build left there could lead such a mount elsewhere.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<PathBuf, Failure> {
        let make = || {
            let folder = tempfile::Builder::new().prefix("scratch-").tempdir_in(self.path())?.keep();
            for name in ["tmp", "shm"] {
                let path = folder.join(name);
                fs::create_dir(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))?;
            }
            Ok(folder)
        };
        make().map_err(|error: io::Error| files::cannot("work in", self.path(), &error))
    }

    /// Makes what was unpacked the build's own.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn hand_over(&self) -> Result<(), Failure> {
        if !self.as_nobody {
            return Ok(());
        }
        let give = || {
            let mut folders = vec![self.build()];
            while let Some(folder) = folders.pop() {
                chown(&folder, Some(NOBODY), Some(NOBODY))?;
                for entry in fs::read_dir(&folder)? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        folders.push(entry.path());
                    } else {
                        lchown(entry.path(), Some(NOBODY), Some(NOBODY))?;
                    }
                }
            }
            Ok(())
        };
        give().map_err(|error: io::Error| files::cannot("hand over", &self.build(), &error))
    }
}

/// The bound of the file system at `path` that leaves no room for more.
#[must_use]
pub fn full(path: &Path) -> Option<Bound> {
    let free = statvfs(path).ok()?;
    match (free.blocks_available(), free.files_free()) {
        (0, _) => Some(Bound::Disk),
        (_, 0) => Some(Bound::Files),
        _ => None,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Best effort: it goes with the process at the latest, and the empty folder below it stays.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// Whether builds are to run as [`NOBODY`]: root needs no user namespace, and can have them do so.
fn enter_namespaces() -> io::Result<bool> {
    let (user, group) = (geteuid(), getegid());
    let as_nobody = match unshare(CloneFlags::CLONE_NEWNS) {
        // In a user namespace the kernel counts root's processes as everybody's.
        Ok(()) => user.is_root() && fs::read_to_string("/proc/self/uid_map")?.contains("4294967295"),
        Err(Errno::EPERM) => {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
            false
        }
        Err(error) => return Err(error.into()),
    };
    // Nothing that is mounted here is seen elsewhere.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(as_nobody)
}

fn forbidden(error: &io::Error) -> Failure {
    let reason = files::in_words(error).0;
    Failure::failed(format!("cannot make a file system of bounded size for the build: {reason}"))
        .help(NO_NAMESPACES)
}
