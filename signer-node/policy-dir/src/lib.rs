//! A custodian's policy directory, as a node reads it: bounded, without following links, and only if nobody
//! else can write to it.
//!
//! The node and `rutli policy check` read it with the same function, so their results agree. Write access
//! means deciding what is signed. So each file and the directory must belong to the program's user or to
//! root, and nobody else may be able to write to them or replace the directory.
//!
//! Out of scope: the meaning of the files (`rutli-policy`), and watching for changes.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rutli_evidence::Trust;
use rutli_policy::{
    Rules, SIGNERS_FILE, TRUST_FILE,
    limits::{MAX_RULES_BYTES, MAX_RULES_FILES},
};
use sha2::{Digest, Sha256};

/// A policy directory. Nothing of it is read yet.
#[derive(Clone, Debug)]
pub struct PolicyDir(PathBuf);

/// What one look at the directory saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The files by name, each with its content or why it is rejected; or why the whole directory is
    /// rejected.
    files: Result<BTreeMap<String, Result<Vec<u8>, String>>, String>,
}

impl PolicyDir {
    /// The directory at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads all of it. Names that begin with a dot are ignored, because editors leave such files.
    #[must_use]
    pub fn look(&self) -> Seen {
        Seen { files: read_dir(&self.0, nix::unistd::geteuid().as_raw()) }
    }
}

impl Seen {
    /// The policies and trust of the whole directory.
    ///
    /// # Errors
    /// The first thing that is wrong, with its file, for a person.
    pub fn rules(&self) -> Result<Rules, String> {
        Rules::parse(&self.files()?).map_err(|error| error.to_string())
    }

    /// All files by name.
    ///
    /// # Errors
    /// The first file that is rejected, and why, for a person.
    pub fn files(&self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let files = self.files.as_ref().map_err(Clone::clone)?;
        let file = |(name, content): (&String, &Result<Vec<u8>, String>)| {
            let content = content.clone().map_err(|problem| format!("{name}: {problem}"))?;
            Ok((name.clone(), content))
        };
        files.iter().map(file).collect()
    }

    /// Whom it trusts, whatever else is wrong with it.
    ///
    /// # Errors
    /// Why `trust.toml` or `allowed_signers` says nothing, for a person.
    pub fn trust(&self) -> Result<Trust, String> {
        let files = self.files.as_ref().map_err(Clone::clone)?;
        for name in [TRUST_FILE, SIGNERS_FILE] {
            if let Some(Err(problem)) = files.get(name) {
                return Err(format!("{name}: {problem}"));
            }
        }
        let readable = files.iter().filter_map(|(name, content)| Some((name.clone(), content.clone().ok()?)));
        Rules::parse_trust(&readable.collect()).map_err(|error| error.to_string())
    }

    /// All files by name, `None` for those that are rejected. Empty if the whole directory is.
    #[must_use]
    pub fn readable(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let files = self.files.iter().flatten();
        files.map(|(name, content)| (name.clone(), content.clone().ok())).collect()
    }

    /// Whether it has a file of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.as_ref().is_ok_and(|files| files.contains_key(name))
    }

    /// Equal for looks that saw the same content.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        };
        match &self.files {
            Ok(files) => files.iter().for_each(|(name, content)| {
                add(name.as_bytes());
                match content {
                    Ok(content) => add(content),
                    Err(problem) => [b"cannot be read", problem.as_bytes()].into_iter().for_each(&mut add),
                }
            }),
            Err(problem) => add(problem.as_bytes()),
        }
        hash.finalize().into()
    }
}

fn read_dir(path: &Path, me: u32) -> Result<BTreeMap<String, Result<Vec<u8>, String>>, String> {
    let cannot = |error: io::Error| format!("cannot read the directory: {error}");
    check_way(path, me)?;
    check_is_ours(path, &fs::metadata(path).map_err(cannot)?, me)?;
    let mut files = BTreeMap::new();
    let mut room = MAX_RULES_BYTES;
    for entry in fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let name = entry.file_name().into_string().map_err(|name| {
            format!("the name {} is not UTF-8; rename that file", name.to_string_lossy().escape_debug())
        })?;
        if name.starts_with('.') {
            continue;
        }
        if files.len() >= MAX_RULES_FILES {
            return Err(format!("it has more than {MAX_RULES_FILES} files; remove those that are not used"));
        }
        let content = read_file(&entry.path(), room, me);
        room = room.saturating_sub(content.as_ref().map_or(0, Vec::len));
        files.insert(name, content);
    }
    Ok(files)
}

fn read_file(path: &Path, room: usize, me: u32) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| match error.raw_os_error() {
        Some(nix::libc::ELOOP) => "it is a symbolic link; put the file itself there".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    // Opening a named pipe would wait for its writer.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if !metadata.is_file() {
        return Err("it is not a regular file; remove it".to_owned());
    }
    check_is_ours(path, &metadata, me)?;
    let most = u64::try_from(room).unwrap_or(u64::MAX);
    let mut content = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut content).map_err(cannot)?;
    if content.len() > room {
        return Err(format!("with it there are more than {MAX_RULES_BYTES} bytes; remove what is not used"));
    }
    Ok(content)
}

/// Bits of a mode: the group or others may write.
const OTHERS_WRITE: u32 = 0o022;

/// A bit of a directory's mode: only owners may remove or rename what is in it.
const STICKY: u32 = 0o1000;

/// The directory itself and each file in it: ours or root's, and writable by nobody else.
fn check_is_ours(path: &Path, metadata: &fs::Metadata, me: u32) -> Result<(), String> {
    let (path, owner) = (path.display(), metadata.uid());
    if owner != me && owner != 0 {
        return Err(format!(
            "'{path}' belongs to user {owner}, not to user {me}, who reads it, or root; run: chown {me} '{path}'"
        ));
    }
    if metadata.mode() & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(format!("users other than its owner can write to '{path}'; run: chmod go-w '{path}'"))
}

/// Each directory above it, by its given and by its real path: anybody who can rename there could replace the
/// policy directory.
fn check_way(path: &Path, me: u32) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot read the directory: {error}");
    let (named, real) = (std::path::absolute(path).map_err(cannot)?, path.canonicalize().map_err(cannot)?);
    for above in named.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let metadata = fs::metadata(above).map_err(cannot)?;
        let (owner, mode) = (metadata.uid(), metadata.mode());
        let above = above.display();
        if owner != me && owner != 0 {
            return Err(format!(
                "'{above}', above the policy directory, belongs to user {owner}, who could replace it; run: chown {me} '{above}', or \
                 move the policy directory"
            ));
        }
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(format!(
                "users other than its owner can write to '{above}', above the policy directory, and could replace it; run: chmod go-w \
                 '{above}'"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    const SUITE: &str = r#"@id("suite") permit (principal, action == Action::"sign", resource)
        when { resource.product == "suite" };"#;

    fn dir() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        write(&path.join("suite.cedar"), SUITE);
        (folder, path)
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn look(path: &Path) -> Seen {
        PolicyDir::new(path.to_owned()).look()
    }

    fn problem(path: &Path) -> String {
        look(path).rules().unwrap_err()
    }

    #[test]
    fn the_files_of_a_directory_are_read_and_an_editors_are_not() {
        let (_folder, path) = dir();
        fs::write(path.join(".suite.cedar.swp"), [0xff; 9]).unwrap();
        symlink("/nowhere", path.join(".#suite.cedar")).unwrap();
        let seen = look(&path);
        assert_eq!(seen.rules().unwrap().policies.ids().count(), 1);
        assert_eq!(look(&path).digest(), seen.digest());
        // The same texts, but one file is no longer a policy.
        fs::rename(path.join("suite.cedar"), path.join("suite.off")).unwrap();
        assert_ne!(look(&path).digest(), seen.digest());
        write(&path.join("suite.cedar"), &format!("{SUITE}\n"));
        fs::remove_file(path.join("suite.off")).unwrap();
        assert_ne!(look(&path).digest(), seen.digest());
    }

    /// Links could lead out of the custodian's directory; a named pipe would block the node.
    #[test]
    fn links_pipes_and_folders_are_refused() {
        let (folder, path) = dir();
        let other = path.join("other.cedar");
        let outside = folder.path().join("outside.cedar");
        write(&outside, &SUITE.replace("suite", "other"));
        symlink(&outside, &other).unwrap();
        assert!(problem(&path).contains("other.cedar: it is a symbolic link"), "{}", problem(&path));
        fs::remove_file(&other).unwrap();
        fs::create_dir(&other).unwrap();
        assert!(problem(&path).contains("other.cedar: it is not a regular file"), "{}", problem(&path));
        fs::remove_dir(&other).unwrap();
        nix::unistd::mkfifo(&other, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(problem(&path).contains("other.cedar: it is not a regular file"), "{}", problem(&path));
        assert!(look(&path).trust().is_ok(), "whom it trusts is to be read all the same");
        fs::remove_file(&other).unwrap();
        look(&path).rules().unwrap();
    }

    /// Anybody who can write there would be its custodian. Each way is reported, with the command that closes
    /// it.
    #[test]
    fn what_others_may_write_is_refused() {
        let (folder, path) = dir();
        for open in [path.join("suite.cedar"), path.clone(), folder.path().to_owned()] {
            let before = fs::metadata(&open).unwrap().permissions();
            for bits in [0o002, 0o020] {
                fs::set_permissions(&open, fs::Permissions::from_mode(before.mode() | bits)).unwrap();
                let problem = problem(&path);
                assert!(problem.contains(&format!("chmod go-w '{}'", open.display())), "{bits:o}: {problem}");
            }
            fs::set_permissions(&open, before).unwrap();
        }
        look(&path).rules().unwrap();
        // Below a directory like /tmp, only owners can replace their files.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        look(&path).rules().unwrap();
        // A link in a place where others can write leads wherever they want.
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(&path, open.join("policy")).unwrap();
        assert!(problem(&open.join("policy")).contains(&format!("chmod go-w '{}'", open.display())));
    }

    /// As for a program of another user: root's files are accepted, anybody else's are not.
    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let (_folder, path) = dir();
        let mine = nix::unistd::geteuid().as_raw();
        let other = mine + 4_711;
        let metadata = fs::metadata(path.join("suite.cedar")).unwrap();
        let outcome = check_is_ours(&path, &metadata, other);
        if mine == 0 {
            assert_eq!(outcome, Ok(()));
            let (user, group) = (nix::unistd::Uid::from_raw(4_711), None);
            for foreign in [path.join("suite.cedar"), path.clone()] {
                nix::unistd::chown(&foreign, Some(user), group).unwrap();
                let problem = problem(&path);
                assert!(problem.contains(&format!("run: chown 0 '{}'", foreign.display())), "{problem}");
                nix::unistd::chown(&foreign, Some(nix::unistd::Uid::from_raw(0)), group).unwrap();
            }
            look(&path).rules().unwrap();
        } else {
            assert!(outcome.unwrap_err().contains(&format!("run: chown {other}")));
        }
    }

    #[test]
    fn files_and_bytes_are_bounded_before_they_are_read() {
        let (_folder, path) = dir();
        let large = path.join("large.txt");
        // Sparse: it would not fit into memory.
        fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
        fs::set_permissions(&large, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(problem(&path).contains("large.txt: with it there are more than"), "{}", problem(&path));
        fs::remove_file(&large).unwrap();
        (0..=MAX_RULES_FILES).for_each(|number| write(&path.join(format!("{number}.txt")), ""));
        assert!(problem(&path).contains("more than 128 files"), "{}", problem(&path));
    }

    #[test]
    fn trust_is_read_without_policies_and_only_as_a_whole() {
        let (_folder, path) = dir();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
        write(&path.join("allowed_signers"), &format!("clara {key}\n"));
        write(&path.join("suite.cedar"), "forbid");
        let seen = look(&path);
        assert!(seen.rules().is_err());
        assert_eq!(seen.trust().unwrap().custodians().into_iter().collect::<Vec<_>>(), ["clara"]);
        for (file, text) in [("allowed_signers", "clara"), ("trust.toml", "[[key]")] {
            let (_folder, path) = dir();
            write(&path.join(file), text);
            assert!(look(&path).trust().unwrap_err().contains("line 1"));
        }
        fs::remove_file(path.join("allowed_signers")).unwrap();
        symlink("/dev/null", path.join("allowed_signers")).unwrap();
        assert!(look(&path).trust().unwrap_err().contains("allowed_signers: it is a symbolic link"));
        assert!(look(&path.join("none")).trust().unwrap_err().contains("cannot read the directory"));
    }
}
