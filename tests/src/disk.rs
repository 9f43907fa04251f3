//! A disk that is full: a small tmpfs in a mount namespace of its own, where the system grants one, else a limit on the
//! size of files.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A small disk over one folder, seen only by processes that are started with [`SmallDisk::wrap`].
pub enum SmallDisk {
    /// A mount namespace, kept by a process that sleeps.
    Tmpfs {
        /// Keeps it.
        holder: Child,
        /// Where the disk lies.
        folder: PathBuf,
    },
    /// No namespace: files that are full cannot grow (`RLIMIT_FSIZE`).
    FileLimit,
}

impl SmallDisk {
    /// A disk of so many MiB over `folder`, which is made.
    #[must_use]
    pub fn new(folder: &Path, mebibytes: u32) -> Self {
        fs::create_dir_all(folder).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m,mode=700 tmpfs \"$0\" && echo ready && exec sleep 3600"
        );
        let spawned = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let forced = std::env::var_os("RUTLI_TEST_NO_MOUNT").is_some();
        if let Ok(mut holder) = spawned {
            let mut line = String::new();
            let read = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
            if read.is_ok() && line.trim() == "ready" && !forced {
                return Self::Tmpfs { holder, folder: folder.to_owned() };
            }
            end(&mut holder);
        }
        println!("no mount namespace here: the disk is a limit on the size of files");
        Self::FileLimit
    }

    /// The command that runs `command` where the disk is seen. Its process id is that of the program itself.
    #[must_use]
    pub fn wrap(&self, command: Vec<OsString>) -> Vec<OsString> {
        let mut wrapped: Vec<OsString> = match self {
            Self::Tmpfs { holder, .. } => {
                vec![
                    "nsenter".into(),
                    "--mount".into(),
                    "--target".into(),
                    holder.id().to_string().into(),
                    "--".into(),
                ]
            }
            Self::FileLimit => Vec::new(),
        };
        wrapped.extend(command);
        wrapped
    }

    /// Leaves not a page free, and no room in logs.
    pub fn fill(&mut self, pid: u32) {
        match self {
            Self::Tmpfs { .. } => {
                let mut ballast = File::create(self.ballast()).unwrap();
                while ballast.write_all(&[7; 4096]).is_ok() {}
                // Pages that a log has already.
                for entry in fs::read_dir(self.ballast().parent().unwrap()).unwrap() {
                    let path = entry.unwrap().path();
                    if path.extension().is_some_and(|extension| extension == "log") {
                        let mut log = File::options().append(true).open(path).unwrap();
                        while log.write_all(&[b'\n'; 4096]).is_ok() {}
                    }
                }
            }
            Self::FileLimit => limit(pid, "0"),
        }
    }

    /// Space is back.
    pub fn free(&mut self, pid: u32) {
        match self {
            Self::Tmpfs { .. } => fs::remove_file(self.ballast()).unwrap(),
            Self::FileLimit => limit(pid, "unlimited"),
        }
    }

    /// The way to the disk's folder for a process outside of the namespace.
    #[must_use]
    pub fn seen_from_outside(&self, folder: &Path) -> PathBuf {
        match self {
            Self::Tmpfs { holder, .. } => Path::new("/proc")
                .join(holder.id().to_string())
                .join("root")
                .join(folder.strip_prefix("/").unwrap()),
            Self::FileLimit => folder.to_owned(),
        }
    }

    fn ballast(&self) -> PathBuf {
        match self {
            Self::Tmpfs { folder, .. } => self.seen_from_outside(folder).join("ballast"),
            Self::FileLimit => PathBuf::new(),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Self::Tmpfs { holder, .. } = self {
            end(holder);
        }
    }
}

/// The soft limit alone: the hard one stays, so that the same user can raise it again.
fn limit(pid: u32, soft: &str) {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--fsize={soft}:")]).status();
    assert!(status.unwrap().success(), "prlimit must be installed for this test (package util-linux)");
}

fn end(holder: &mut Child) {
    // It may be over already.
    let _ = holder.kill();
    holder.wait().unwrap();
}
