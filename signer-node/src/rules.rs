//! Watches the policy directory: reads it at startup, at regular intervals, and on request.
//!
//! The files are the truth: nothing of them is kept elsewhere. At startup a mistake stops the node. Later,
//! the earlier policies stay in force, except for those whom the directory no longer names, and the node says
//! so. A change that a look finds restricts at once, and takes effect once two looks have seen the same
//! files, because half a file may be a valid policy too: until then nothing is permitted. A change that the
//! custodian announces takes effect at once.

use std::{path::PathBuf, time::Duration};

use rutli_policy::Rules;
use rutli_policy_dir::{PolicyDir, Seen};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::{
    error::Error,
    limits,
    node::{Event, NodeHandle},
    policy::Change,
};

/// A policy directory.
#[derive(Clone, Debug)]
pub struct RulesFolder(PolicyDir);

/// Rules that were read.
#[derive(Debug)]
pub struct Loaded {
    /// What they say.
    pub rules: Rules,
    /// By which look.
    pub look: Look,
}

/// A look at the directory: what looks the same is equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look([u8; 32]);

impl RulesFolder {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(PolicyDir::new(path))
    }

    /// Reads the policies and trust as they are now.
    pub fn load(&self) -> Result<Loaded, Error> {
        let seen = self.0.look();
        let wrong = |problem| Error::Rules { path: self.0.path().to_owned(), problem };
        Ok(Loaded { rules: seen.rules().map_err(wrong)?, look: Look(seen.digest()) })
    }
}

/// The new policies, or, if they are invalid, the trust that can be withdrawn.
fn change(seen: &Seen, folder: &PolicyDir) -> Change {
    match seen.rules() {
        Ok(rules) => Change::Rules(Box::new(rules)),
        Err(problem) => {
            let trust = seen.trust();
            let rest = match &trust {
                Ok(_) => "the earlier policies are in force, for those alone whom it still trusts".to_owned(),
                Err(unread) => format!("nothing is permitted, for it does not say whom to trust ({unread})"),
            };
            let path = folder.path().display();
            Change::Broken {
                problem: format!("the rules in {path} are not in force: {problem}; {rest}"),
                trust: trust.ok(),
                files: seen.readable(),
            }
        }
    }
}

/// A handle to the [`Keeper`].
#[derive(Clone, Debug)]
pub struct RulesHandle(mpsc::Sender<oneshot::Sender<()>>);

impl RulesHandle {
    /// Has the directory read and applied now, and waits for that. The node's report says whether it is
    /// valid.
    pub async fn reload(&self) -> Result<(), Error> {
        let (done, waiting) = oneshot::channel();
        self.0.send(done).await.map_err(|_| Error::Stopping)?;
        waiting.await.map_err(|_| Error::Stopping)
    }
}

/// Watches the directory for as long as the process runs, and notifies the node.
#[derive(Debug)]
pub struct Keeper {
    folder: RulesFolder,
    node: NodeHandle,
    wishes: mpsc::Receiver<oneshot::Sender<()>>,
    /// The look that the node knows.
    taken: Look,
    /// The last one.
    seen: Look,
    /// Whether a change is still under way.
    is_under_way: bool,
}

impl Keeper {
    /// The node has the rules that this look at the folder saw.
    #[must_use]
    pub fn new(folder: RulesFolder, look: Look, node: NodeHandle) -> (Self, RulesHandle) {
        let (handle, wishes) = mpsc::channel(limits::MAX_CUSTODIANS);
        let keeper = Self { folder, node, wishes, taken: look, seen: look, is_under_way: false };
        (keeper, RulesHandle(handle))
    }

    /// Runs until the node, or every handle, is gone.
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
            // The caller may have gone.
            _ = done.map(|done: oneshot::Sender<()>| done.send(()));
        }
    }

    async fn look(&mut self, at_once: bool) -> Result<(), Error> {
        let folder = self.folder.0.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let seen = folder.look();
            (Look(seen.digest()), seen)
        });
        let (look, seen) = looked.await.map_err(|_| Error::Stopping)?;
        let is_settled = std::mem::replace(&mut self.seen, look) == look;
        if !at_once && is_settled && look == self.taken && !self.is_under_way {
            return Ok(());
        }
        let is_whole = at_once || is_settled;
        let folder = self.folder.0.clone();
        // Cedar needs some milliseconds, and more for many policies.
        let change = tokio::task::spawn_blocking(move || match is_whole {
            true => change(&seen, &folder),
            false => Change::UnderWay { trust: seen.trust().ok() },
        });
        let change = change.await.map_err(|_| Error::Stopping)?;
        self.is_under_way = !is_whole;
        if is_whole {
            self.taken = look;
        }
        self.node.ask(|answer| Event::Rules(change, answer)).await
    }
}

/// SIGHUP means, by convention, to read the configuration again. Without it there are other ways.
async fn hangup(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;
    use crate::testing::{PATIENCE, SUITE, TestNode};

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let rules = folder.path().join("policy");
        fs::create_dir(&rules).unwrap();
        fs::set_permissions(&rules, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(rules.join("suite.cedar"), SUITE).unwrap();
        (folder, rules)
    }

    #[test]
    fn a_mistake_is_named_with_folder_file_and_line() {
        let (_folder, path) = folder();
        fs::write(path.join("b.cedar"), "\n\nnothing").unwrap();
        let problem = RulesFolder::new(path).load().unwrap_err().to_string();
        assert!(problem.contains("policy do not hold: b.cedar, line 3"), "{problem}");
    }

    /// A node, and the one who looks at its folder.
    async fn kept(node: &TestNode, path: &Path) -> RulesHandle {
        let folder = RulesFolder::new(path.to_owned());
        let look = folder.load().unwrap().look;
        let (keeper, handle) = Keeper::new(folder, look, node.node.clone());
        tokio::spawn(keeper.keep());
        handle
    }

    /// Until it is so.
    async fn until(node: &TestNode, so: impl Fn(&crate::policy::RulesReport) -> bool) {
        let begun = tokio::time::Instant::now();
        loop {
            let rules = node.node.report().await.unwrap().rules;
            if so(&rules) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{rules:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
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
            let report = node.node.report().await.unwrap().rules;
            assert_eq!(report.policies, in_force);
            // Nothing is permitted while the directory changes.
            let changing = report.problem.is_some_and(|problem| problem.contains("is changing"));
            assert_eq!(changing, written.is_some());
        }
        // And back, between two looks.
        fs::write(path.join("more.cedar"), "forbid").unwrap();
        keeper.look(false).await.unwrap();
        fs::write(path.join("more.cedar"), SUITE.replace("suite", "whole")).unwrap();
        keeper.look(false).await.unwrap();
        assert!(node.node.report().await.unwrap().rules.problem.is_some());
        keeper.look(false).await.unwrap();
        assert_eq!(node.node.report().await.unwrap().rules.problem, None);
    }

    /// Anybody who is no longer named stops counting at the first look; if the trust cannot be read, nobody
    /// counts.
    #[tokio::test]
    async fn trust_is_taken_back_at_the_first_look() {
        let (folder, path) = folder();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
        fs::write(path.join("allowed_signers"), format!("clara {key}\n")).unwrap();
        let node = TestNode::start(folder.path()).await;
        let rules = RulesFolder::new(path.clone());
        let look = rules.load().unwrap().look;
        let (mut keeper, _handle) = Keeper::new(rules, look, node.node.clone());
        keeper.look(true).await.unwrap();
        let trusts = async || node.node.report().await.unwrap().rules.trusts;
        assert_eq!(trusts().await, ["custodian clara"]);
        fs::write(path.join("allowed_signers"), "").unwrap();
        fs::write(path.join("suite.cedar"), "forbid").unwrap();
        for _ in 0..2 {
            keeper.look(false).await.unwrap();
            assert_eq!(trusts().await, Vec::<String>::new());
        }
        let problem = node.node.report().await.unwrap().rules.problem.unwrap();
        assert!(
            problem.contains("suite.cedar, line 1") && problem.contains("whom it still trusts"),
            "{problem}"
        );
        fs::write(path.join("allowed_signers"), "clara").unwrap();
        keeper.look(true).await.unwrap();
        let problem = node.node.report().await.unwrap().rules.problem.unwrap();
        assert!(problem.contains("nothing is permitted"), "{problem}");
        // An invalid directory gives nobody anything.
        fs::write(path.join("allowed_signers"), format!("clara {key}\n")).unwrap();
        keeper.look(true).await.unwrap();
        assert_eq!(trusts().await, Vec::<String>::new());
        fs::write(path.join("suite.cedar"), SUITE).unwrap();
        keeper.look(true).await.unwrap();
        assert_eq!(trusts().await, ["custodian clara"]);
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
