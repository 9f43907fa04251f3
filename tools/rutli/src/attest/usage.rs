//! What a tree of processes uses, as `/proc` has it: where no cgroup counts it.

use std::{collections::HashMap, fs};

use nix::unistd::{SysconfVar, sysconf};

/// What a tree of processes uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processes and threads.
    pub tasks: u64,
    /// Bytes of memory that they have; what several share counts for each.
    pub resident: u64,
}

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    parent: u32,
    threads: u64,
    pages: u64,
}

/// What this process and all below it use. Nobody gets out of the tree: an orphan has the first process of its namespace for a parent.
#[must_use]
pub fn of_tree(root: u32) -> Usage {
    let mut children: HashMap<u32, Vec<Process>> = HashMap::new();
    let mut open = Vec::new();
    // What has ended meanwhile uses nothing.
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let is_process = entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
        let line = is_process.then(|| fs::read(entry.path().join("stat")).ok()).flatten();
        let Some(process) = line.and_then(|line| parse(&String::from_utf8_lossy(&line))) else { continue };
        if process.id == root {
            open.push(process);
        } else {
            children.entry(process.parent).or_default().push(process);
        }
    }
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok());
    let mut used = Usage::default();
    while let Some(process) = open.pop() {
        used.tasks = used.tasks.saturating_add(process.threads);
        used.resident = used.resident.saturating_add(process.pages.saturating_mul(page.unwrap_or(4096)));
        open.extend(children.remove(&process.id).unwrap_or_default());
    }
    used
}

/// A name may have anything in it, also blanks and brackets.
fn parse(line: &str) -> Option<Process> {
    let (id, rest) = line.split_once(" (")?;
    let fields: Vec<_> = rest.rsplit_once(") ")?.1.split(' ').collect();
    // proc(5) counts from 1, and the state is its third field.
    let field = |number: usize| fields.get(number.checked_sub(3)?);
    Some(Process {
        id: id.parse().ok()?,
        parent: field(4)?.parse().ok()?,
        threads: field(20)?.parse().ok()?,
        pages: field(24)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_forges_no_fields() {
        let line = "7 (a) R 1 (b) S 5 7 7 0 -1 4194560 92 0 0 0 0 0 0 0 20 0 3 0 221 2732032 42 184467\n";
        assert_eq!(parse(line), Some(Process { id: 7, parent: 5, threads: 3, pages: 42 }));
        assert_eq!(parse("7 (a"), None);
    }

    #[test]
    fn children_of_children_count() {
        let mut shell = Command::new("sh")
            .args(["-c", "exec 3<&0; cat <&3 & cat <&3 & echo; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let used = of_tree(shell.id());
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(used.tasks, 3);
        assert!(used.resident > 0);
        assert_eq!(of_tree(u32::MAX), Usage::default());
    }
}
