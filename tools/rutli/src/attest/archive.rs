//! Unpacking a source archive that may be hostile.
//!
//! What comes out lies below one folder, is files, folders and links that stay in it, and is within [`limits`](super::limits). Everything
//! else is refused by name; nothing is skipped, repaired or renamed, for a reviewer's tar would show another tree then. Owners and
//! access are not taken over, but for whether a file may be run; times are, because `make` goes by them.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, File, FileTimes, OpenOptions, Permissions},
    io::{self, BufRead, BufReader, ErrorKind, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, SystemTime},
};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::limits::{
    MAX_DECODER_KIB, MAX_DEPTH, MAX_ENTRIES, MAX_HEADER_BYTES, MAX_PATH_BYTES, MAX_SHOWN_CHARACTERS,
    MAX_UNPACKED_BYTES,
};
use crate::{files, report::Failure, text};

/// A source that was unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// SHA-256 of the archive, of the very bytes that were unpacked.
    pub sha256: [u8; 32],
    /// The one folder that all of it lies in, if it does; seen from where it was unpacked to. Else empty.
    pub top: PathBuf,
    /// When the newest file was changed, in Unix seconds.
    pub newest: u64,
}

/// Unpacks an archive into an empty folder.
///
/// # Errors
/// Exit code 2: it cannot be read, is no archive that is known here, or has something in it that does not belong there.
pub fn unpack(archive: &Path, into: &Path) -> Result<Unpacked, Failure> {
    unpack_within(archive, into, MAX_UNPACKED_BYTES, MAX_ENTRIES)
}

fn unpack_within(archive: &Path, into: &Path, max_bytes: u64, max_entries: u64) -> Result<Unpacked, Failure> {
    let cannot = |error: io::Error| files::cannot("read", archive, &error);
    let file = File::open(archive).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(Failure::usage(format!("{} is not a file", archive.display())).help("give an archive"));
    }
    let raw = Shared(Rc::new(RefCell::new(Hashing { file, sha256: Sha256::new() })));
    let meter = Rc::new(Meter { step: Cell::new(0), total: Cell::new(max_bytes), overrun: Cell::new(false) });
    let named = |problem: Problem| problem.of(archive);
    let inner = decoder(BufReader::new(raw.clone())).map_err(named)?;
    let mut tar = tar::Archive::new(Metered { inner, meter: Rc::clone(&meter) });
    let mut tree = Tree::new(into, max_entries);
    tree.fill(&mut tar, &meter).map_err(named)?;
    drop(tar);
    // What follows the last entry belongs to the archive too.
    io::copy(&mut raw.clone(), &mut io::sink()).map_err(cannot)?;
    tree.set_folder_times().map_err(named)?;
    let sha256 = raw.0.borrow().sha256.clone().finalize().into();
    Ok(Unpacked { sha256, top: tree.top(), newest: tree.newest })
}

/// Why an archive is refused: what is wrong in it, and what to do.
struct Problem {
    what: String,
    help: &'static str,
}

/// What to do about an archive that no honest tool makes.
const MAKE_AGAIN: &str =
    "do not use it; ask whoever made it for one that `git archive` or `tar` made of the reviewed tree";

impl Problem {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: MAKE_AGAIN }
    }

    fn entry(path: &[u8], what: &str) -> Self {
        Self::new(format!("{} {what}", shown(path)))
    }

    fn io(error: &io::Error) -> Self {
        Self { what: files::in_words(error).0, help: "is it whole? Fetch it again, and compare its digest" }
    }

    fn of(self, archive: &Path) -> Failure {
        Failure::usage(format!("{} is not unpacked: {}", archive.display(), self.what)).help(self.help)
    }
}

/// A name out of an archive, for a message.
fn shown(path: &[u8]) -> String {
    let text = text::printable(&String::from_utf8_lossy(path));
    text.chars().take(MAX_SHOWN_CHARACTERS).collect()
}

/// Chooses by content, not by name.
fn decoder(mut raw: BufReader<Shared>) -> Result<Box<dyn Read>, Problem> {
    let start = raw.fill_buf().map_err(|error| Problem::io(&error))?;
    let unknown = |kind: &str| Problem {
        what: format!("it is {kind}"),
        help: "give a .tar, .tar.gz, .tar.zst or .tar.xz; its digest must be the one that the release's provenance names",
    };
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(raw)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Ok(Box::new(Frames::new(raw)?));
    }
    if start.starts_with(b"\xfd7zXZ\0") {
        return Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(raw, true, MAX_DECODER_KIB)));
    }
    match start {
        [] => Err(unknown("empty")),
        [b'B', b'Z', b'h', ..] => Err(unknown("compressed with bzip2, which is not read here")),
        [b'P', b'K', 3, 4, ..] => Err(unknown("a ZIP archive")),
        _ if start.get(257..262) == Some(b"ustar") => Ok(Box::new(raw)),
        _ => Err(unknown("no tar archive")),
    }
}

/// What Zstandard packed: frame after frame, as `zstd -d` takes them. With the first alone the tree would end in its middle, and
/// a reviewer would have seen the rest of it too.
struct Frames(Option<StreamingDecoder<BufReader<Shared>, FrameDecoder>>);

impl Frames {
    fn new(raw: BufReader<Shared>) -> Result<Self, Problem> {
        // Its window is bounded by 128 MiB.
        let first = StreamingDecoder::new(raw);
        Ok(Self(Some(first.map_err(|error| Problem::new(text::printable(&error.to_string())))?)))
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(frame) = &mut self.0 {
            let read = frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some((mut raw, decoder)) = self.0.take().map(StreamingDecoder::into_parts) else { break };
            if !raw.fill_buf()?.is_empty() {
                let next = StreamingDecoder::new_with_decoder(raw, decoder);
                self.0 = Some(next.map_err(|error| io::Error::other(text::printable(&error.to_string())))?);
            }
        }
        Ok(0)
    }
}

/// The tree that is being unpacked. All folders in it are real ones that were made here, so that no path leads through a link.
struct Tree<'a> {
    root: &'a Path,
    entries_left: u64,
    /// The first components of paths; two are enough to know that there is not one.
    tops: BTreeSet<OsString>,
    /// Something lies at the top that is no folder.
    file_at_top: bool,
    folder_times: Vec<(PathBuf, u64)>,
    newest: u64,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Path, max_entries: u64) -> Self {
        Self {
            root,
            entries_left: max_entries,
            tops: BTreeSet::new(),
            file_at_top: false,
            folder_times: Vec::new(),
            newest: 0,
        }
    }

    fn fill<R: Read>(&mut self, tar: &mut tar::Archive<R>, meter: &Meter) -> Result<(), Problem> {
        let too_large = || Problem::new("it unpacks to more than is bearable: it is a bomb, or no source");
        let named = |problem: Problem| match (meter.overrun.get(), meter.total.get()) {
            (false, _) => problem,
            (true, 0) => too_large(),
            (true, _) => Problem::new("an entry has larger headers than is bearable"),
        };
        let mut entries = tar.entries().map_err(|error| Problem::io(&error))?;
        loop {
            meter.step.set(MAX_HEADER_BYTES);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| named(Problem::io(&error)))?;
            if entry.size() > meter.total.get() {
                return Err(too_large());
            }
            meter.step.set(entry.size());
            self.place(&mut entry).map_err(named)?;
        }
        if self.tops.is_empty() { Err(Problem::new("there is nothing in it")) } else { Ok(()) }
    }

    fn place<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), Problem> {
        let raw = entry.path_bytes().into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return check_global(entry);
        }
        let extended = read_extensions(entry, &raw)?;
        let path = components(&raw).map_err(|what| Problem::entry(&raw, what))?;
        let time = extended.map_or_else(|| entry.header().mtime(), Ok);
        let time = time.map_err(|error| Problem::io(&error))?.min(u32::MAX.into());
        let Some((name, parents)) = path.split_last() else {
            // The top itself.
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(Problem::entry(&raw, "has no name"))
            };
        };
        self.count(&raw)?;
        let folder = self.folder(&raw, parents)?;
        self.tops.extend(path.first().filter(|_| self.tops.len() < 2).map(|top| (*top).to_owned()));
        let at = folder.join(name);
        // Before POSIX a folder was a file whose name ends with a slash.
        let is_folder = kind == EntryType::Directory || (kind == EntryType::Regular && raw.ends_with(b"/"));
        self.file_at_top |= parents.is_empty() && !is_folder;
        match kind {
            _ if is_folder => {
                let at = self.folder(&raw, &path)?;
                self.folder_times.push((at, time));
                Ok(())
            }
            EntryType::Regular | EntryType::Continuous => {
                self.newest = self.newest.max(time);
                write_file(entry, &raw, &at, time)
            }
            EntryType::Symlink => write_symlink(entry, &raw, &at, parents.len()),
            EntryType::Link => self.write_link(entry, &raw, &at),
            EntryType::Char | EntryType::Block => Err(Problem::entry(&raw, "is a device")),
            EntryType::Fifo => Err(Problem::entry(&raw, "is a named pipe")),
            EntryType::GNUSparse => Err(Problem::entry(&raw, SPARSE)),
            _ => Err(Problem::entry(&raw, "is of a kind that is not known here")),
        }
    }

    fn count(&mut self, raw: &[u8]) -> Result<(), Problem> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or_else(|| {
            Problem::entry(raw, "is one more file or folder than is bearable: it is a bomb")
        })?;
        Ok(())
    }

    /// The path of a folder in the tree; it is made where it is missing, and never reached through a link.
    fn folder(&mut self, raw: &[u8], path: &[&OsStr]) -> Result<PathBuf, Problem> {
        let mut at = self.root.to_owned();
        for name in path {
            at.push(name);
            match fs::symlink_metadata(&at) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(Problem::entry(raw, "lies below something that is no folder")),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.count(raw)?;
                    fs::create_dir(&at)
                        .and_then(|()| fs::set_permissions(&at, Permissions::from_mode(0o755)))
                        .map_err(|error| in_entry(raw, &error))?;
                }
                Err(error) => return Err(in_entry(raw, &error)),
            }
        }
        Ok(at)
    }

    /// A second name of a file that is there already.
    fn write_link<R: Read>(
        &mut self,
        entry: &tar::Entry<'_, R>,
        raw: &[u8],
        at: &Path,
    ) -> Result<(), Problem> {
        let outside = || Problem::entry(raw, "is a link to what is no file of the archive before it");
        let target = entry.link_name_bytes().ok_or_else(outside)?;
        let target = components(&target).map_err(|_| outside())?;
        let mut file = self.root.to_owned();
        for (number, name) in target.iter().enumerate() {
            file.push(name);
            let found = fs::symlink_metadata(&file).map_err(|_| outside())?;
            let is_last = number + 1 == target.len();
            if !(if is_last { found.is_file() } else { found.is_dir() }) {
                return Err(outside());
            }
        }
        fs::hard_link(&file, at).map_err(|error| in_entry(raw, &error))
    }

    /// Last, for whatever is made in a folder changes its time.
    fn set_folder_times(&self) -> Result<(), Problem> {
        for (folder, time) in &self.folder_times {
            let set = File::open(folder).and_then(|folder| set_time(&folder, *time));
            set.map_err(|error| Problem::io(&error))?;
        }
        Ok(())
    }

    fn top(&self) -> PathBuf {
        match self.tops.first() {
            Some(top) if self.tops.len() == 1 && !self.file_at_top => PathBuf::from(top),
            _ => PathBuf::new(),
        }
    }
}

const SPARSE: &str =
    "is a sparse file, which readers of archives understand in different ways: pack it without --sparse";

/// `git archive` writes a comment for all entries. Anything else there would change what follows, for some readers.
fn check_global<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<(), Problem> {
    let mut bytes = Vec::new();
    entry.take(MAX_HEADER_BYTES).read_to_end(&mut bytes).map_err(|error| Problem::io(&error))?;
    for extension in tar::PaxExtensions::new(&bytes) {
        let extension = extension.map_err(|error| Problem::io(&error))?;
        if extension.key_bytes() != b"comment" {
            return Err(Problem::new(format!(
                "a global header sets {} for all entries",
                shown(extension.key_bytes())
            )));
        }
    }
    Ok(())
}

/// The time in an entry's extended header, in whole Unix seconds, if it has one. Of a field that is said twice some readers take the
/// first and others the last: a reviewer would have seen another tree.
fn read_extensions<R: Read>(entry: &mut tar::Entry<'_, R>, raw: &[u8]) -> Result<Option<u64>, Problem> {
    let link = entry.link_name_bytes().map(Cow::into_owned);
    let (mut said, mut time) = (BTreeSet::new(), None);
    for extension in entry.pax_extensions().map_err(|error| in_entry(raw, &error))?.into_iter().flatten() {
        let extension = extension.map_err(|error| in_entry(raw, &error))?;
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        if key.starts_with(b"GNU.sparse") {
            return Err(Problem::entry(raw, SPARSE));
        }
        // A name of GNU's kind goes before one of POSIX' here, and after it elsewhere.
        let is_other = match key {
            b"path" => value != raw,
            b"linkpath" => Some(value) != link.as_deref(),
            _ => false,
        };
        if is_other || !said.insert(key.to_vec()) {
            return Err(Problem::entry(raw, &format!("has two headers that say its {}", shown(key))));
        }
        if key == b"mtime" {
            let whole = extension.value().ok().and_then(|value| value.split('.').next()?.parse().ok());
            time = Some(whole.ok_or_else(|| Problem::entry(raw, "has a time that is none since 1970"))?);
        }
    }
    Ok(time)
}

/// The names that a path consists of; none of them leads upwards. Empty for the top itself.
fn components(raw: &[u8]) -> Result<Vec<&OsStr>, &'static str> {
    if raw.starts_with(b"/") {
        return Err("has an absolute path");
    }
    if raw.len() > MAX_PATH_BYTES {
        return Err("has a longer path than systems take");
    }
    let names: Vec<_> = raw.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).collect();
    if names.contains(&&b".."[..]) {
        return Err("has a path with `..` in it");
    }
    if raw.contains(&0) {
        return Err("has a NUL in its path");
    }
    if names.len() > MAX_DEPTH {
        return Err("lies in more folders within each other than is bearable");
    }
    Ok(names.into_iter().map(OsStr::from_bytes).collect())
}

fn write_file<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    raw: &[u8],
    at: &Path,
    time: u64,
) -> Result<(), Problem> {
    let in_entry = |error: io::Error| in_entry(raw, &error);
    let runs = entry.header().mode().map_err(in_entry)? & 0o111 != 0;
    let mode = if runs { 0o755 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(at).map_err(in_entry)?;
    let written = io::copy(entry, &mut file).map_err(in_entry)?;
    if written != entry.size() {
        return Err(Problem::entry(raw, "is cut short"));
    }
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(mode)).map_err(in_entry)?;
    set_time(&file, time).map_err(in_entry)
}

/// A link stays in the tree if it goes up no further than the folders that it lies in, which are real ones, and up only at its
/// beginning: after that it may pass through other links, and none of those leads out.
fn write_symlink<R: Read>(
    entry: &tar::Entry<'_, R>,
    raw: &[u8],
    at: &Path,
    depth: usize,
) -> Result<(), Problem> {
    let target = entry.link_name_bytes().unwrap_or_default();
    let outside = || Problem::entry(raw, &format!("is a link that leads out of it, to {}", shown(&target)));
    if target.is_empty() || target.len() > MAX_PATH_BYTES || target.contains(&0) || target.starts_with(b"/") {
        return Err(outside());
    }
    let names = target.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    let (mut up, mut down) = (0, false);
    for name in names {
        match name {
            b".." if down => return Err(outside()),
            b".." => up += 1,
            _ => down = true,
        }
    }
    if up > depth {
        return Err(outside());
    }
    symlink(OsStr::from_bytes(&target), at).map_err(|error| in_entry(raw, &error))
}

fn set_time(file: &File, seconds: u64) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let time = time.ok_or(ErrorKind::InvalidInput)?;
    file.set_times(FileTimes::new().set_accessed(time).set_modified(time))
}

fn in_entry(raw: &[u8], error: &io::Error) -> Problem {
    if error.kind() == ErrorKind::AlreadyExists {
        return Problem::entry(raw, "is in it twice");
    }
    let problem = Problem::io(error);
    Problem { what: format!("{}: {}", shown(raw), problem.what), ..problem }
}

/// How much may still be read: in this step, and in all. What a compressed file unpacks to is known only then.
struct Meter {
    step: Cell<u64>,
    total: Cell<u64>,
    /// More was asked for.
    overrun: Cell<bool>,
}

struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.step.get().min(self.meter.total.get());
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 && !buffer.is_empty() {
            self.meter.overrun.set(true);
            return Err(io::Error::other("more than is bearable"));
        }
        let read = self.inner.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        let bytes = u64::try_from(read).unwrap_or(u64::MAX);
        self.meter.step.set(self.meter.step.get().saturating_sub(bytes));
        self.meter.total.set(self.meter.total.get().saturating_sub(bytes));
        Ok(read)
    }
}

/// The archive's own bytes, hashed as they go by.
struct Hashing {
    file: File,
    sha256: Sha256,
}

#[derive(Clone)]
struct Shared(Rc<RefCell<Hashing>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut hashing = self.0.borrow_mut();
        let read = hashing.file.read(buffer)?;
        hashing.sha256.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
