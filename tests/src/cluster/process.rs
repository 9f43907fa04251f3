//! One process of a cluster.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long an orderly end may take.
const STOP: Duration = Duration::from_secs(60);

/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// A program with its arguments, running or not. Killed on drop.
pub struct Process {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// A program that does not run yet; its output goes to the end of `log`.
    #[must_use]
    pub fn new(command: Vec<OsString>, environment: Vec<(OsString, OsString)>, log: PathBuf) -> Self {
        Self { command, environment, log, child: None }
    }

    /// Starts it.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts it, this once, with more in its environment.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        assert!(!self.is_running(), "{:?} runs already", self.command);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let (program, arguments) = self.command.split_first().unwrap();
        let child = Command::new(program)
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        self.child = Some(child);
    }

    /// Its id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs now.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks it to end, and waits until it did.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(STOP).unwrap_or_else(|| {
            self.kill();
            panic!("{:?} did not end within {STOP:?} of SIGTERM", self.command)
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: it neither runs nor ends. When this returns none of its threads runs any more.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        while !self.threads().iter().all(|state| matches!(state, 'T' | 'Z' | 'X')) {
            std::thread::sleep(STEP);
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits for its end.
    pub fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let mut waited = Duration::ZERO;
        while waited < at_most {
            if let Some(status) = self.child.as_mut()?.try_wait().unwrap() {
                self.child = None;
                return Some(status);
            }
            std::thread::sleep(STEP);
            waited += STEP;
        }
        None
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(count)).map(|line| format!("    {line}\n")).collect()
    }

    /// The state of each thread, as in `/proc/PID/task/TID/stat`. Threads that end meanwhile are left out.
    fn threads(&self) -> Vec<char> {
        let tasks = Path::new("/proc").join(self.pid().unwrap().to_string()).join("task");
        let stats =
            fs::read_dir(tasks).unwrap().flatten().map(|task| fs::read_to_string(task.path().join("stat")));
        // After the name, which may contain anything, comes the state.
        let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        stats.flatten().filter_map(state).collect()
    }

    fn signal(&self, signal: Signal) {
        let pid =
            i32::try_from(self.pid().unwrap_or_else(|| panic!("{:?} does not run", self.command))).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of this workspace, which lies beside the test's own executable.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
    let path = folder.join(name);
    assert!(
        File::open(&path).is_ok(),
        "{} is not built: run `cargo build --workspace --bins` first, as `cargo xtask test` does",
        path.display()
    );
    path
}
