//! Archives, honest ones and others.

use std::{
    io::Write,
    os::unix::fs::MetadataExt,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::*;

/// An archive in the making; nothing in it is checked.
#[derive(Default)]
struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    fn entry(mut self, kind: u8, path: &[u8], link: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(EntryType::new(kind));
        header.set_size(content.len() as u64);
        header.set_mode(if path.ends_with(b".sh") { 0o4777 } else { 0o600 });
        header.set_mtime(1_700_000_000 + path.len() as u64);
        if kind == b'S' {
            header.as_gnu_mut().unwrap().set_real_size(0);
        }
        header.set_cksum();
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.entry(b'0', path.as_bytes(), b"", content.as_bytes())
    }

    fn folder(self, path: &str) -> Self {
        self.entry(b'5', path.as_bytes(), b"", b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path.as_bytes(), target.as_bytes(), b"")
    }

    fn link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path.as_bytes(), target.as_bytes(), b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

/// A folder with an archive `a` and a folder `out`, whose neighbour is not to be touched.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(archive: &[u8]) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(desk.path("out")).unwrap();
        fs::write(desk.path("neighbour"), "mine").unwrap();
        fs::write(desk.path("a"), archive).unwrap();
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn unpack(&self) -> Result<Unpacked, Failure> {
        let result = unpack_within(&self.path("a"), &self.path("out"), 1 << 20, 50);
        assert_eq!(fs::read(self.path("neighbour")).unwrap(), b"mine");
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 3);
        result
    }
}

fn refusal(archive: &[u8]) -> String {
    let failure = Desk::new(archive).unpack().unwrap_err();
    assert_eq!(failure.exit.code(), 2);
    assert!(failure.help.is_some());
    failure.problem
}

fn source() -> Tar {
    Tar::default()
        .entry(b'g', b"pax_global_header", b"", b"52 comment=0123456789012345678901234567890123456789\n")
        .folder("suite-1/")
        .file("suite-1/src/main.c", "int main;")
        .file("suite-1/build.sh", "cc")
        .symlink("suite-1/src/up", "../build.sh")
        .symlink("suite-1/latest", "./src")
        .link("suite-1/same.c", "suite-1/src/main.c")
}

/// Through a program and its arguments.
fn piped(line: &str, input: &[u8]) -> Vec<u8> {
    let mut words = line.split(' ');
    let program = words.next().unwrap();
    let mut child = Command::new(program)
        .arg("-c")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn a_source_comes_out_as_it_was_packed_however_it_is_compressed() {
    let plain = source().end();
    for archive in [plain.clone(), piped("gzip", &plain), piped("xz", &plain), piped("zstd", &plain)] {
        let desk = Desk::new(&archive);
        let unpacked = desk.unpack().unwrap();
        assert_eq!(unpacked.sha256, <[u8; 32]>::from(Sha256::digest(&archive)));
        assert_eq!(unpacked.top, Path::new("suite-1"));
        assert_eq!(unpacked.newest, 1_700_000_018);
        let top = desk.path("out/suite-1");
        assert_eq!(fs::read(top.join("src/main.c")).unwrap(), b"int main;");
        assert_eq!(fs::read(top.join("same.c")).unwrap(), b"int main;");
        assert_eq!(fs::read(top.join("src/up")).unwrap(), b"cc");
        assert_eq!(fs::read(top.join("latest/main.c")).unwrap(), b"int main;");
        let metadata = |name: &str| fs::metadata(top.join(name)).unwrap();
        assert_eq!(metadata("build.sh").mode() & 0o7777, 0o755);
        assert_eq!(metadata("src/main.c").mode() & 0o7777, 0o644);
        assert_eq!(metadata("src/main.c").mtime(), 1_700_000_018);
        assert_eq!(metadata("").mtime(), 1_700_000_008);
    }
}

#[test]
fn what_tar_and_git_write_is_read() {
    let desk = Desk::new(b"");
    let tree = tempfile::tempdir().unwrap();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(180));
    fs::create_dir_all(tree.path().join("d".repeat(120))).unwrap();
    fs::write(tree.path().join(&long), "long").unwrap();
    fs::write(tree.path().join("Zürich"), "x").unwrap();
    for format in ["gnu", "posix", "pax"] {
        let mut command = Command::new("tar");
        command
            .arg(format!("--format={format}"))
            .arg("-cf")
            .arg(desk.path("a"))
            .arg("-C")
            .arg(tree.path())
            .arg(".");
        assert!(command.status().unwrap().success());
        fs::remove_dir_all(desk.path("out")).unwrap();
        fs::create_dir(desk.path("out")).unwrap();
        assert_eq!(desk.unpack().unwrap().top, Path::new(""), "{format}");
        assert_eq!(fs::read(desk.path("out").join(&long)).unwrap(), b"long");
        assert_eq!(fs::read(desk.path("out/Zürich")).unwrap(), b"x");
    }
}

#[test]
fn what_leads_out_of_the_folder_is_refused_by_name() {
    let inside = || Tar::default().folder("d/").file("d/f", "x");
    for (archive, name) in [
        (Tar::default().file("/etc/passwd", "x"), "/etc/passwd has an absolute path"),
        (Tar::default().file("../neighbour", "x"), "../neighbour has a path with `..`"),
        (inside().file("d/../../neighbour", "x"), "d/../../neighbour has a path with `..`"),
        (inside().folder("../new"), "../new has a path with `..`"),
        (inside().symlink("l", "/etc/passwd"), "l is a link that leads out of it, to /etc/passwd"),
        (inside().symlink("l", "../neighbour"), "l is a link that leads out of it"),
        (inside().symlink("d/l", "../../neighbour"), "d/l is a link that leads out of it"),
        (inside().symlink("d/l", ""), "d/l is a link that leads out of it"),
        // Through a link upwards, and up from there.
        (
            inside().symlink("d/up", "..").symlink("d/l", "up/../neighbour"),
            "d/l is a link that leads out of it",
        ),
        (inside().symlink("l", "d").file("l/g", "x"), "l/g lies below something that is no folder"),
        (inside().symlink("l", "d").folder("l/"), "l/ lies below something that is no folder"),
        (inside().file("d/f/g", "x"), "d/f/g lies below something that is no folder"),
        (inside().link("l", "../neighbour"), "l is a link to what is no file of the archive"),
        (inside().link("l", "/etc/passwd"), "l is a link to what is no file of the archive"),
        (inside().link("l", "none"), "l is a link to what is no file of the archive"),
        (inside().link("l", "d"), "l is a link to what is no file of the archive"),
        (inside().symlink("s", "d").link("l", "s/f"), "l is a link to what is no file of the archive"),
        (inside().symlink("s", "d/f").link("l", "s"), "l is a link to what is no file of the archive"),
    ] {
        let problem = refusal(&archive.end());
        assert!(problem.contains(name), "{name}: {problem}");
    }
}

#[test]
fn what_is_no_file_folder_or_link_is_refused_by_name() {
    for (kind, what) in [
        (b'3', "x is a device"),
        (b'4', "x is a device"),
        (b'6', "x is a named pipe"),
        (b'S', "x is a sparse file"),
        (b'V', "x is of a kind that is not known"),
        (b'M', "x is of a kind that is not known"),
    ] {
        let problem = refusal(&Tar::default().entry(kind, b"x", b"", b"").end());
        assert!(problem.contains(what), "{what}: {problem}");
    }
    let sparse =
        Tar::default().entry(b'x', b"PaxHeaders/x", b"", b"22 GNU.sparse.major=1\n").file("x", "1\n0\n4\n");
    assert!(refusal(&sparse.end()).contains("x is a sparse file"));
    let global = Tar::default().entry(b'g', b"g", b"", b"14 path=other\n").file("x", "y");
    assert!(refusal(&global.end()).contains("a global header sets path"));
}

#[test]
fn names_stand_once_and_are_shown_without_control_characters() {
    let twice = Tar::default().file("a", "1").file("a", "2");
    assert!(refusal(&twice.end()).contains("a is in it twice"));
    let twice = Tar::default().symlink("a", "b").file("a", "2");
    assert!(refusal(&twice.end()).contains("a is in it twice"));
    let ugly = Tar::default().file("../\u{1b}[31m\n", "x");
    let problem = refusal(&ugly.end());
    assert!(problem.contains("`..`") && !problem.contains(['\u{1b}', '\n']), "{problem}");
}

/// A field of an extended header, with its own length before it.
fn field(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n").len();
    let length = (rest..).find(|length| length.to_string().len() + rest == *length).unwrap();
    format!("{length} {key}={value}\n")
}

/// `tar` takes the last of two fields, and POSIX' name before GNU's; here it was the other way round. A reviewer who unpacks with
/// it would have approved another tree than the one that is built.
#[test]
fn what_readers_of_archives_understand_in_different_ways_is_refused() {
    let extended = |fields: &[(&str, &str)]| {
        let fields: String = fields.iter().map(|(key, value)| field(key, value)).collect();
        Tar::default().entry(b'x', b"x", b"", fields.as_bytes())
    };
    for (archive, what) in [
        (extended(&[("path", "built.c"), ("path", "seen.c")]).file("x", "y"), "path"),
        (extended(&[("path", "seen.c")]).entry(b'L', b"l", b"", b"built.c\0").file("x", "y"), "path"),
        (extended(&[("linkpath", "built"), ("linkpath", "seen")]).symlink("x", "y"), "linkpath"),
        (extended(&[("linkpath", "seen")]).entry(b'K', b"l", b"", b"built\0").symlink("x", "y"), "linkpath"),
        (extended(&[("size", "1"), ("size", "513")]).file("x", "y").file("z", ""), "size"),
    ] {
        let problem = refusal(&archive.end());
        assert!(problem.contains(&format!("has two headers that say its {what}")), "{what}: {problem}");
    }
    let once = extended(&[("path", "seen.c"), ("mtime", "1700000002.5")]).file("x", "y").end();
    let desk = Desk::new(&once);
    assert_eq!(desk.unpack().unwrap().newest, 1_700_000_002, "that of the extended header, as `tar` has it");
    assert_eq!(fs::read(desk.path("out/seen.c")).unwrap(), b"y");
}

/// `pzstd` writes many frames, and whoever wants to hide the rest of a tree two.
#[test]
fn all_frames_of_an_archive_are_read() {
    let plain = source().file("suite-1/last", "here").end();
    let (one, other) = plain.split_at(1024);
    let desk = Desk::new(&[piped("zstd", one), piped("zstd", b""), piped("zstd", other)].concat());
    desk.unpack().unwrap();
    assert_eq!(fs::read(desk.path("out/suite-1/last")).unwrap(), b"here");
    let cut = [piped("zstd", one), b"rubbish".to_vec()].concat();
    assert!(refusal(&cut).contains("is not unpacked"));
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    let gzip = |bytes: &[u8]| piped("gzip", bytes);
    let large = "0".repeat((1 << 20) + 1);
    let many = (0..60).fold(Tar::default(), |tar, number| tar.file(&format!("{number}"), ""));
    let nested = Tar::default().file(&"d/".repeat(49), "").file("d/f", "");
    let (one, another) = ("0".repeat(600 << 10), "0".repeat(600 << 10));
    for (archive, what) in [
        (Tar::default().file("x", &large).end(), "more than is bearable"),
        (gzip(&Tar::default().file("x", &one).file("y", &another).end()), "more than is bearable"),
        (many.end(), "one more file or folder than is bearable"),
        (nested.file("d/g", "").file("d/h", "").end(), "one more file or folder than is bearable"),
        (Tar::default().entry(b'L', b"l", b"", &[b'x'; 300 << 10]).file("x", "").end(), "larger headers"),
        (
            gzip(&Tar::default().entry(b'x', b"l", b"", &[b'x'; 300 << 10]).file("x", "").end()),
            "larger headers",
        ),
        (Tar::default().file(&"d/".repeat(50), "").end(), "than is bearable"),
    ] {
        let desk = Desk::new(&archive);
        let problem = desk.unpack().unwrap_err().problem;
        assert!(problem.contains(what), "{what}: {problem}");
        let large = fs::read_dir(desk.path("out"))
            .unwrap()
            .flatten()
            .any(|entry| entry.metadata().unwrap().len() > 1 << 20);
        assert!(!large, "{what}");
    }
    // What says that it is too large does not fill the disk first.
    let desk = Desk::new(&Tar::default().file("x", &large).end());
    assert!(desk.unpack().is_err());
    assert_eq!(fs::read_dir(desk.path("out")).unwrap().count(), 0);
    // Memory, which compressed files say how much of it they want.
    for line in ["xz --lzma2=dict=256MiB", "zstd --long=31"] {
        let problem = refusal(&piped(line, &source().end()));
        assert!(problem.contains("is not unpacked"), "{line}: {problem}");
    }
    // A header that promises more than follows.
    let mut cut = Tar::default().file("x", &"0".repeat(2000)).bytes;
    cut.truncate(1000);
    assert!(refusal(&cut).contains("x"));
    let deep = "d/".repeat(MAX_DEPTH + 1);
    assert_eq!(components(deep.as_bytes()), Err("lies in more folders within each other than is bearable"));
}

#[test]
fn other_files_are_named_as_what_they_are() {
    let tar = source().end();
    let mut damaged = piped("gzip", &tar);
    let middle = damaged.len() / 2;
    damaged.truncate(middle);
    for (bytes, what) in [
        (&b""[..], "empty"),
        (b"PK\x03\x04....", "ZIP"),
        (b"BZh91AY", "bzip2"),
        (&[b'x'; 2000], "no tar archive"),
        (&[0; 2000], "no tar archive"),
        (&Tar::default().end(), "no tar archive"),
        (&piped("gzip", &[0; 2000]), "nothing in it"),
        (&damaged, "is not unpacked"),
        (&piped("xz", &tar)[..100], "is not unpacked"),
        (&piped("zstd", &tar)[..100], "is not unpacked"),
    ] {
        let problem = refusal(bytes);
        assert!(problem.contains(what), "{what}: {problem}");
    }
    assert!(
        unpack(Path::new("/dev/zero"), Path::new("/nonexistent")).unwrap_err().problem.contains("not a file")
    );
}
