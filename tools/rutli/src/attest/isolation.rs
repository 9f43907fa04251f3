//! The walls around a build: it sees the system's programs and its own folder, and neither network nor people.
//!
//! | inside | is |
//! | --- | --- |
//! | `/build` | the build's folder: what is left of it |
//! | `/usr`, `/bin`, `/lib` … | the system's, to be read |
//! | `/etc` | three files and the alternatives of the system's programs, to be read |
//! | `/tmp`, `/dev/shm` | empty folders: all else that it can write to |
//! | `/proc`, `/dev` | fresh ones |
//! | network | a loopback device of its own |
//! | environment | [`environment`], and what was asked for |
//! | user | 1000, without any capability; outside, the user who runs this program, or `nobody` where that is root. Host `build` |
//! | how much | [`Limits`] |
//!
//! With Bubblewrap where it works, else by util-linux in `namespaces.sh`, to the same effect but for this: Bubblewrap has the loopback
//! device up, and a terminal in `/dev`. When this program ends, all of the build does.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::process::Command;

use super::{
    bounds::Limits,
    build::{self, End, Ended},
    limits::PROBE_TIMEOUT,
    place::NOBODY,
};
use crate::{
    cli::IsolationChosen,
    files::{self, Access},
    report::Failure,
    text,
};

/// Where the build's folder is inside, so that paths in what is built are the same everywhere.
pub const BUILD: &str = "/build";

/// Where programs are looked for inside.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Folders with the system's programs; where one is a link, it is one inside.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What programs need of `/etc`, where it is there. Nobody's names, addresses or keys.
const ETC: [&str; 3] = ["/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf.d"];

/// Users that programs may ask for.
const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nbuild:x:1000:1000:build:/tmp:/bin/sh\n";

/// Their groups.
const GROUP: &str = "root:x:0:\nbuild:x:1000:\n";

const NAMESPACES: &str = include_str!("namespaces.sh");

/// What to do where the system forbids namespaces.
pub const NO_NAMESPACES: &str = "let this user make user namespaces: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and \
                                 kernel.apparmor_restrict_unprivileged_userns; in a container, let it make them, or use a virtual machine";

/// What keeps a build to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Bubblewrap.
    Bwrap,
    /// Namespaces, by util-linux.
    Unshare,
}

/// What is between the walls.
#[derive(Clone, Debug)]
pub struct Room {
    /// The place that all of it lies in, outside: `build` is the build's folder, and `root` an empty one for a root to be built on.
    pub place: PathBuf,
    /// The folder there with `tmp` and `shm`: `/tmp` and `/dev/shm` inside.
    pub scratch: PathBuf,
    /// Whether this program is root, and the build is to be nobody outside.
    pub as_nobody: bool,
    /// How much it may use.
    pub limits: Arc<Limits>,
    /// Where the command runs, inside.
    pub work: PathBuf,
    /// The whole environment.
    pub variables: BTreeMap<String, String>,
    /// What can be read beside the system: from where, to where.
    pub read_only: Vec<(PathBuf, PathBuf)>,
}

/// The environment of a build: the same everywhere.
#[must_use]
pub fn environment(source_date_epoch: u64) -> BTreeMap<String, String> {
    let fixed = [
        ("HOME", "/tmp"),
        ("LANG", "C"),
        ("LC_ALL", "C"),
        ("LOGNAME", "build"),
        ("PATH", PATH),
        ("TMPDIR", "/tmp"),
        ("TZ", "UTC"),
        ("USER", "build"),
    ];
    let mut variables: BTreeMap<_, _> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    variables.insert("SOURCE_DATE_EPOCH".to_owned(), source_date_epoch.to_string());
    variables
}

/// What of the system's `/etc` a build can read; `folder` takes the files that are made for it.
///
/// # Errors
/// They cannot be written.
pub fn etc(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    files::create_folder(folder, Access::Public)?;
    let mut read_only: Vec<_> =
        ETC.iter().map(PathBuf::from).filter(|path| path.exists()).map(|path| (path.clone(), path)).collect();
    for (name, content) in [("passwd", PASSWD), ("group", GROUP)] {
        let path = folder.join(name);
        files::write_atomically(&path, content.as_bytes(), Access::Public)?;
        read_only.push((path, Path::new("/etc").join(name)));
    }
    Ok(read_only)
}

/// A path that a build shall be able to read, at the same place. `secrets` are files that it must not see.
///
/// # Errors
/// Exit code 2: it is not there, would hide the walls, or has a secret in it.
pub fn readable(path: &Path, secrets: &[&Path]) -> Result<(PathBuf, PathBuf), Failure> {
    let unusable = |why: &str| {
        Failure::usage(format!("the build cannot be let read {}: {why}", path.display()))
            .help("give the folder of a toolchain with --ro-bind")
    };
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let is_text = path.to_str().is_some_and(|path| !path.contains(char::is_control));
    if !path.is_absolute() || !is_plain || !is_text {
        return Err(unusable("it is no absolute path in printable UTF-8 without `..`"));
    }
    let real = fs::canonicalize(path).map_err(|error| files::cannot("read", path, &error))?;
    let hides = |wall: &str| Path::new(wall).starts_with(path) || Path::new(wall).starts_with(&real);
    if ["/proc", "/dev", "/tmp", "/etc", BUILD].iter().any(|wall| hides(wall)) {
        return Err(unusable("inside, something of its own is there"));
    }
    if [BUILD, "/proc", "/dev"].iter().any(|wall| path.starts_with(wall) || real.starts_with(wall)) {
        return Err(unusable("inside, something of its own is there"));
    }
    if secrets.iter().any(|secret| fs::canonicalize(secret).is_ok_and(|secret| secret.starts_with(&real))) {
        return Err(unusable("the secret key that signs the attestation is in it"));
    }
    Ok((real, path.to_owned()))
}

impl Isolation {
    /// The first that works here, of those that were asked for: it runs a program that does nothing but look whether limits hold.
    ///
    /// # Errors
    /// Exit code 1: none works.
    pub async fn choose(chosen: IsolationChosen, room: &Room) -> Result<Self, Failure> {
        let candidates: &[Self] = match chosen {
            IsolationChosen::Auto => &[Self::Bwrap, Self::Unshare],
            IsolationChosen::Bwrap => &[Self::Bwrap],
            IsolationChosen::Unshare => &[Self::Unshare],
        };
        let mut reasons = Vec::new();
        for isolation in candidates {
            match isolation.run(room, &["/bin/sh", "-c", room.limits.trial()], PROBE_TIMEOUT, false).await {
                Ok(ended) if ended.succeeded() => return Ok(*isolation),
                Ok(ended) if matches!(ended.end, End::Interrupted(_)) => return Err(ended.failure()),
                Ok(ended) => reasons.push(format!("{isolation}: {}", ended.in_a_line())),
                Err(failure) => reasons.push(format!("{isolation}: {}", failure.problem)),
            }
        }
        Err(Failure::failed(format!("nothing here keeps a build from the network and from your files: {}", reasons.join("; ")))
            .help(format!(
                "install bubblewrap (Debian: `apt install bubblewrap`), or util-linux 2.38 with `hostname`. If it is there, {NO_NAMESPACES}"
            )))
    }

    /// Runs a command between the walls, within its limits.
    ///
    /// # Errors
    /// As [`build::run`].
    pub async fn run(
        self,
        room: &Room,
        run: &[&str],
        timeout: Duration,
        echo: bool,
    ) -> Result<Ended, Failure> {
        build::run(self.command(room, run), room, timeout, echo).await
    }

    fn command(self, room: &Room, run: &[&str]) -> Command {
        let mut command = match self {
            Self::Bwrap => bwrap(room),
            Self::Unshare => unshare(room),
        };
        command.args(room.limits.inside()).args(run);
        command
    }

    /// In a word: `bwrap`, `unshare`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bwrap => "bwrap",
            Self::Unshare => "unshare",
        }
    }
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bubblewrap, up to where the build's own command begins.
fn bwrap(room: &Room) -> Command {
    let mut command = room.limits.outside("bwrap");
    command.args([
        "--unshare-net",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]);
    command.args(["--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
    if room.as_nobody {
        // A user namespace that root makes here has nobody but root in it.
        for capability in ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"] {
            command.args(["--cap-add", capability]);
        }
    } else {
        command.args(["--unshare-user", "--uid", "1000", "--gid", "1000"]);
    }
    command.args(["--hostname", "build", "--clearenv"]);
    for (name, value) in &room.variables {
        command.args(["--setenv", name, value]);
    }
    command.args(["--proc", "/proc", "--dev", "/dev"]);
    command.arg("--bind").arg(room.scratch.join("shm")).args(["/dev/shm", "--remount-ro", "/dev"]);
    command.arg("--bind").arg(room.scratch.join("tmp")).arg("/tmp");
    for name in SYSTEM {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(target) => command.arg("--symlink").arg(target).arg(&path),
            Err(_) if path.is_dir() => command.arg("--ro-bind").arg(&path).arg(&path),
            Err(_) => &mut command,
        };
    }
    for (from, to) in &room.read_only {
        // It lets nobody but itself into the folders that it makes without being told to.
        let folders: Vec<_> = to.ancestors().skip(1).collect();
        for folder in folders.iter().rev().skip(1) {
            command.arg("--dir").arg(folder);
        }
        command.arg("--ro-bind").arg(from).arg(to);
    }
    command.arg("--bind").arg(room.place.join("build")).arg(BUILD);
    // Last, over all that was made on the way.
    command.args(["--remount-ro", "/", "--chdir"]).arg(&room.work).arg("--");
    if room.as_nobody {
        command.args(become_nobody()).args(USER_NAMESPACE);
    }
    command
}

/// util-linux, up to where the build's own command begins.
fn unshare(room: &Room) -> Command {
    let mut command = room.limits.outside("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare"]);
    if !room.as_nobody {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child=KILL"]);
    command.args(["--", "setsid", "--wait", "/bin/sh", "-eu", "-c", NAMESPACES, "namespaces.sh"]);
    command.arg(&room.place).arg(&room.scratch).arg(room.read_only.len().to_string());
    for (from, to) in &room.read_only {
        command.arg(from).arg(to);
    }
    if room.as_nobody {
        command.args(become_nobody());
    } else {
        command.args(["/usr/bin/setpriv", "--no-new-privs", "--"]);
    }
    command.args(USER_NAMESPACE).args(["env", "--ignore-environment"]);
    let mut chdir = OsString::from("--chdir=");
    chdir.push(&room.work);
    command.arg(chdir);
    command.args(room.variables.iter().map(|(name, value)| format!("{name}={value}")));
    command
}

/// A user namespace for the build, by a program that the build's PATH does not choose, where it is user 1000 and has no right over the walls.
const USER_NAMESPACE: [&str; 5] = ["/usr/bin/unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];

/// From root to nobody, permanently.
fn become_nobody() -> Vec<String> {
    let line = format!(
        "/usr/bin/setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs --"
    );
    line.split(' ').map(str::to_owned).collect()
}

/// Checks variables that were asked for, so that none is taken for something else.
///
/// # Errors
/// Exit code 2.
pub fn check_variable(name: &str, value: &str) -> Result<(), Failure> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !value.contains('\0')
    {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is no name of a variable", text::printable(name)))
        .help("give --env NAME=VALUE, the name of letters, digits and `_`"))
}
