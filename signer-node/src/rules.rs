//! The folder with the custodian's rules: read at the start, looked at again and again, and on request.
//!
//! The files are the truth: nothing of them is kept elsewhere. What is wrong with them at the start stops the node; later it
//! leaves in force what was there, and the node says so. A change that is found by looking is taken once two looks have seen the same,
//! for half a file may be rules too; a change that the custodian announces is taken at once.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rutli_policy::{
    Rules,
    limits::{MAX_RULES_BYTES, MAX_RULES_FILES},
};
use sha2::{Digest, Sha256};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    error::Error,
    limits,
    node::{Event, NodeHandle},
};

/// Such a folder.
#[derive(Clone, Debug)]
pub struct RulesFolder(PathBuf);

/// Rules that were read.
#[derive(Debug)]
pub struct Loaded {
    /// What they say.
    pub rules: Rules,
    /// By which look.
    pub look: Look,
}

/// A look at the folder: what looks the same is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look([u8; 32]);

/// All files of the folder by name, or why they cannot be read.
type Seen = Result<BTreeMap<String, Vec<u8>>, String>;

impl RulesFolder {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The rules as they lie there now.
    pub fn load(&self) -> Result<Loaded, Error> {
        let seen = read_folder(&self.0);
        let rules = parse(&seen).map_err(|problem| Error::Rules { path: self.0.clone(), problem })?;
        Ok(Loaded { rules, look: Look::of(&seen) })
    }
}

/// Reads the regular files of a folder, by their names: bounded, and following no link. Files whose names begin with a dot are
/// passed over, for editors leave some.
fn read_folder(path: &Path) -> Seen {
    check_is_ours(path, &fs::metadata(path).map_err(|error| format!("cannot read the folder: {error}"))?)?;
    let mut files = BTreeMap::new();
    let mut room = MAX_RULES_BYTES;
    for entry in fs::read_dir(path).map_err(|error| format!("cannot read the folder: {error}"))? {
        let entry = entry.map_err(|error| format!("cannot read the folder: {error}"))?;
        let name = entry.file_name().into_string().map_err(|name| {
            format!("the name {} is not UTF-8; rename that file", name.to_string_lossy().escape_debug())
        })?;
        if name.starts_with('.') {
            continue;
        }
        if files.len() >= MAX_RULES_FILES {
            return Err(format!("there are more than {MAX_RULES_FILES} files; take away what is not used"));
        }
        let content = read_file(&entry.path(), room).map_err(|problem| format!("{name}: {problem}"))?;
        room = room.saturating_sub(content.len());
        files.insert(name, content);
    }
    Ok(files)
}

fn read_file(path: &Path, room: usize) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| match error.raw_os_error() {
        Some(nix::libc::ELOOP) => "it is a symbolic link; put the file itself there".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // A pipe would make an open wait for its writer.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is no regular file; take it away".to_owned());
    }
    check_is_ours(path, &metadata)?;
    let most = u64::try_from(room).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut content).map_err(cannot)?;
    if content.len() > room {
        return Err(format!(
            "with it there are more than {MAX_RULES_BYTES} bytes; take away what is not used"
        ));
    }
    Ok(content)
}

/// Whoever can write there decides what is signed.
fn check_is_ours(path: &Path, metadata: &fs::Metadata) -> Result<(), String> {
    if metadata.mode() & 0o002 == 0 {
        return Ok(());
    }
    Err(format!("everybody can write to it; run: chmod o-w '{}'", path.display()))
}

fn parse(seen: &Seen) -> Result<Rules, String> {
    let files = seen.as_ref().map_err(Clone::clone)?;
    Rules::parse(files).map_err(|error| error.to_string())
}

impl Look {
    fn of(seen: &Seen) -> Self {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        };
        match seen {
            Ok(files) => files.iter().for_each(|(name, content)| {
                add(name.as_bytes());
                add(content);
            }),
            Err(problem) => add(problem.as_bytes()),
        }
        Self(hash.finalize().into())
    }
}

/// The way to the one who looks at the folder.
#[derive(Clone, Debug)]
pub struct RulesHandle(mpsc::Sender<oneshot::Sender<()>>);

impl RulesHandle {
    /// Has the folder read and taken now, and waits until that is done; whether it holds, the node's report says.
    pub async fn reload(&self) -> Result<(), Error> {
        let (done, waiting) = oneshot::channel();
        self.0.send(done).await.map_err(|_| Error::Stopping)?;
        waiting.await.map_err(|_| Error::Stopping)
    }
}

/// Looks at the folder for as long as the process runs, and tells the node.
#[derive(Debug)]
pub struct Keeper {
    folder: RulesFolder,
    node: NodeHandle,
    wishes: mpsc::Receiver<oneshot::Sender<()>>,
    /// What the node was told.
    taken: Look,
    /// The last one.
    seen: Look,
}

impl Keeper {
    /// The node has the rules that this look at the folder saw.
    #[must_use]
    pub fn new(folder: RulesFolder, look: Look, node: NodeHandle) -> (Self, RulesHandle) {
        let (handle, wishes) = mpsc::channel(limits::MAX_CUSTODIANS);
        (Self { folder, node, wishes, taken: look, seen: look }, RulesHandle(handle))
    }

    /// Until the node or all who could wish for something are gone.
    pub async fn keep(mut self) {
        let mut looks = interval(Duration::from_millis(limits::RULES_LOOK_MS));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signal = signal(SignalKind::hangup()).ok();
        loop {
            let (at_once, done) = tokio::select! {
                _ = looks.tick() => (false, None),
                () = hangup(signal.as_mut()) => (true, None),
                wish = self.wishes.recv() => match wish {
                    Some(done) => (true, Some(done)),
                    None => return,
                },
            };
            if self.look(at_once).await.is_err() {
                return;
            }
            // Who wished for it may have gone.
            _ = done.map(|done: oneshot::Sender<()>| done.send(()));
        }
    }

    async fn look(&mut self, at_once: bool) -> Result<(), Error> {
        let path = self.folder.0.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let seen = read_folder(&path);
            (Look::of(&seen), seen)
        });
        let (look, seen) = looked.await.map_err(|_| Error::Stopping)?;
        let is_settled = std::mem::replace(&mut self.seen, look) == look;
        if !at_once && (look == self.taken || !is_settled) {
            return Ok(());
        }
        self.taken = look;
        // Cedar needs some milliseconds, and more for many policies.
        let parsed = tokio::task::spawn_blocking(move || parse(&seen)).await.map_err(|_| Error::Stopping)?;
        let path = self.folder.0.display();
        let rules = parsed.map(Box::new).map_err(|problem| {
            format!("the rules in {path} are not in force, those of before are: {problem}")
        });
        self.node.ask(|answer| Event::Rules(rules, answer)).await
    }
}

/// SIGHUP, by custom: read the configuration again. Without it there are other ways.
async fn hangup(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::testing::{SUITE, TestNode};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("policy");
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("suite.cedar"), SUITE).unwrap();
        (folder, rules)
    }

    fn problem(path: &Path) -> String {
        RulesFolder::new(path.to_owned()).load().unwrap_err().to_string()
    }

    #[test]
    fn the_files_of_a_folder_are_read_and_an_editors_are_not() {
        let (_folder, path) = folder();
        fs::write(path.join(".suite.cedar.swp"), [0xff; 9]).unwrap();
        symlink("/nowhere", path.join(".#suite.cedar")).unwrap();
        let loaded = RulesFolder::new(path.clone()).load().unwrap();
        assert_eq!(loaded.rules.policies.ids().count(), 1);
        assert_eq!(RulesFolder::new(path.clone()).load().unwrap().look, loaded.look);
        // The same texts, and one of them is a policy no more.
        fs::rename(path.join("suite.cedar"), path.join("suite.off")).unwrap();
        assert_ne!(RulesFolder::new(path.clone()).load().unwrap().look, loaded.look);
        fs::write(path.join("suite.cedar"), format!("{SUITE}\n")).unwrap();
        fs::remove_file(path.join("suite.off")).unwrap();
        assert_ne!(RulesFolder::new(path).load().unwrap().look, loaded.look);
    }

    #[test]
    fn a_mistake_is_named_with_folder_file_and_line() {
        let (_folder, path) = folder();
        fs::write(path.join("b.cedar"), "\n\nnothing").unwrap();
        let problem = problem(&path);
        assert!(problem.contains("policy do not hold: b.cedar, line 3"), "{problem}");
        assert!(self::problem(&path.join("none")).contains("cannot read the folder"));
    }

    /// Links could lead out of what the custodian looks after; a pipe would hold the node up; and whoever may write there
    /// would be its custodian.
    #[test]
    fn links_pipes_folders_and_files_of_everybody_are_refused() {
        let (folder, path) = folder();
        let other = path.join("other.cedar");
        let outside = folder.path().join("outside.cedar");
        fs::write(&outside, SUITE.replace("suite", "other")).unwrap();
        symlink(&outside, &other).unwrap();
        assert!(problem(&path).contains("other.cedar: it is a symbolic link"), "{}", problem(&path));
        fs::remove_file(&other).unwrap();
        fs::create_dir(&other).unwrap();
        assert!(problem(&path).contains("other.cedar: it is no regular file"), "{}", problem(&path));
        fs::remove_dir(&other).unwrap();
        nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(problem(&path).contains("other.cedar: it is no regular file"), "{}", problem(&path));
        fs::remove_file(&other).unwrap();
        for open in [path.join("suite.cedar"), path.clone()] {
            let before = fs::metadata(&open).unwrap().permissions();
            fs::set_permissions(&open, fs::Permissions::from_mode(before.mode() | 0o002)).unwrap();
            assert!(problem(&path).contains("chmod o-w"), "{}", problem(&path));
            fs::set_permissions(&open, before).unwrap();
        }
        RulesFolder::new(path).load().unwrap();
    }

    #[test]
    fn files_and_bytes_are_bounded_before_they_are_read() {
        let (_folder, path) = folder();
        let large = path.join("large.txt");
        // Sparse: it would not fit into memory.
        fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
        assert!(problem(&path).contains("large.txt: with it there are more than"), "{}", problem(&path));
        fs::remove_file(&large).unwrap();
        (0..=MAX_RULES_FILES).for_each(|number| fs::write(path.join(format!("{number}.txt")), "").unwrap());
        assert!(problem(&path).contains("more than 128 files"), "{}", problem(&path));
    }

    /// A node, and the one who looks at its folder.
    async fn kept(node: &TestNode, path: &Path) -> RulesHandle {
        let folder = RulesFolder::new(path.to_owned());
        let look = folder.load().unwrap().look;
        let (keeper, handle) = Keeper::new(folder, look, node.node.clone());
        tokio::spawn(keeper.keep());
        handle
    }

    /// Until it is so, for ten looks.
    async fn until(node: &TestNode, so: impl Fn(&crate::policy::RulesReport) -> bool) {
        for _ in 0..200 {
            if so(&node.node.report().await.unwrap().rules) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{:?}", node.node.report().await.unwrap().rules);
    }

    #[tokio::test]
    async fn a_change_is_found_and_a_broken_one_leaves_the_earlier_rules() {
        let (folder, path) = folder();
        let node = TestNode::start(folder.path()).await;
        let _handle = kept(&node, &path).await;
        fs::write(path.join("more.cedar"), SUITE.replace("suite", "more")).unwrap();
        until(&node, |rules| rules.policies == ["more", "suite"]).await;
        fs::write(path.join("more.cedar"), "forbid").unwrap();
        until(&node, |rules| {
            rules.problem.as_ref().is_some_and(|problem| problem.contains("more.cedar, line 1"))
        })
        .await;
        assert_eq!(node.node.report().await.unwrap().rules.policies, ["more", "suite"]);
        assert!(node.node.status().warning.contains("more.cedar, line 1"));
        fs::remove_file(path.join("more.cedar")).unwrap();
        until(&node, |rules| rules.policies == ["suite"] && rules.problem.is_none()).await;
    }

    /// Half a file may be rules too.
    #[tokio::test]
    async fn a_change_is_taken_once_two_looks_agree() {
        let (folder, path) = folder();
        let node = TestNode::start(folder.path()).await;
        let rules = RulesFolder::new(path.clone());
        let look = rules.load().unwrap().look;
        let (mut keeper, _handle) = Keeper::new(rules, look, node.node.clone());
        for (written, in_force) in
            [(Some("half"), &["suite"][..]), (Some("whole"), &["suite"]), (None, &["suite", "whole"])]
        {
            if let Some(id) = written {
                fs::write(path.join("more.cedar"), SUITE.replace("suite", id)).unwrap();
            }
            keeper.look(false).await.unwrap();
            assert_eq!(node.node.report().await.unwrap().rules.policies, in_force);
        }
    }

    #[tokio::test]
    async fn a_custodians_word_is_followed_at_once() {
        let (folder, path) = folder();
        let node = TestNode::start(folder.path()).await;
        let handle = kept(&node, &path).await;
        fs::write(path.join("suite.cedar"), "forbid").unwrap();
        handle.reload().await.unwrap();
        let rules = node.node.report().await.unwrap().rules;
        assert!(rules.problem.unwrap().contains("suite.cedar, line 1"));
        fs::write(path.join("suite.cedar"), SUITE.replace("suite", "other")).unwrap();
        handle.reload().await.unwrap();
        let rules = node.node.report().await.unwrap().rules;
        assert_eq!((rules.policies, rules.problem), (vec!["other".to_owned()], None));
    }
}
