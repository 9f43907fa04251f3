//! How two files differ, in plain words.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    build::End,
    compare::{Comparison, Found},
    expected::ExpectedFile,
    isolation::{BUILD, Isolation, Room},
    limits::{EXPLAIN_TIMEOUT, MAX_EXPLAINED, MAX_SHOWN_BYTES, PROBE_TIMEOUT},
    place::Place,
};
use crate::{files, hash::Hashed, report::Failure, text};

/// The first byte that differs, and a line about all of it.
///
/// # Errors
/// One of the files cannot be read.
pub fn difference(expected: &ExpectedFile, rebuilt: &Hashed) -> Result<(Option<u64>, String), Failure> {
    let size = match expected.size {
        Some(size) if size > rebuilt.size => {
            format!("{} bytes instead of {size}, {} fewer", rebuilt.size, size - rebuilt.size)
        }
        Some(size) if size < rebuilt.size => {
            format!("{} bytes instead of {size}, {} more", rebuilt.size, rebuilt.size - size)
        }
        Some(size) => format!("{size} bytes as expected"),
        None => format!("{} bytes", rebuilt.size),
    };
    let Some(path) = &expected.path else {
        let digests = [expected.sha256, rebuilt.sha256].map(hex::encode);
        let [expected, rebuilt] = &digests;
        return Ok((None, format!("{size}, SHA-256 {rebuilt} instead of {expected}")));
    };
    let (offset, [expected, rebuilt]) = first_difference(path, &rebuilt.path)?;
    Ok((
        Some(offset),
        format!("{size}; from byte {offset} (0x{offset:x}) on {rebuilt} instead of {expected}"),
    ))
}

/// Where two files that differ begin to, and some bytes of either from there on, or `its end`.
fn first_difference(expected: &Path, rebuilt: &Path) -> Result<(u64, [String; 2]), Failure> {
    let open = |path: &Path| {
        File::open(path)
            .map(|file| BufReader::new(file).bytes())
            .map_err(|error| files::cannot("read", path, &error))
    };
    let (mut left, mut right) = (open(expected)?, open(rebuilt)?);
    let next = |bytes: &mut std::io::Bytes<BufReader<File>>, path: &Path| {
        bytes.next().transpose().map_err(|error| files::cannot("read", path, &error))
    };
    let mut offset = 0_u64;
    loop {
        let pair = (next(&mut left, expected)?, next(&mut right, rebuilt)?);
        if pair.0 != pair.1 || pair.0.is_none() {
            let shown = |first: Option<u8>, rest: std::io::Bytes<BufReader<File>>| {
                let bytes = first.into_iter().chain(rest.map_while(Result::ok)).take(MAX_SHOWN_BYTES);
                let bytes: Vec<_> = bytes.map(|byte| format!("{byte:02x}")).collect();
                if first.is_none() { "its end".to_owned() } else { bytes.join(" ") }
            };
            return Ok((offset, [shown(pair.0, left), shown(pair.1, right)]));
        }
        offset = offset.saturating_add(1);
    }
}

/// What diffoscope says about the first files that differ. It reads what a build made, which is as hostile as its source, so it
/// runs between the same walls.
///
/// # Errors
/// Exit code 1: it was ended by somebody.
pub async fn diffoscope(
    comparison: &Comparison,
    isolation: Isolation,
    place: &Place,
    room: &Room,
) -> Result<String, Failure> {
    // What the build left in its own may lead elsewhere.
    let room = Room { scratch: place.scratch()?, ..room.clone() };
    let there = ["/bin/sh", "-c", "command -v diffoscope"];
    if !isolation.run(&room, &there, PROBE_TIMEOUT, false).await?.succeeded() {
        return Ok("diffoscope is not installed where a build sees it: install it (Debian: `apt install diffoscope`), or let it in with \
                   --ro-bind and --env PATH=…"
            .to_owned());
    }
    let mut said = Vec::new();
    let differing = comparison.differences.iter().filter_map(|difference| match &difference.found {
        Found::Differs { rebuilt, .. } => Some((difference, rebuilt)),
        Found::Missing | Found::Ambiguous(_) => None,
    });
    for (difference, rebuilt) in differing.take(MAX_EXPLAINED) {
        let Some(expected) = &difference.expected.path else {
            return Ok("diffoscope needs the expected files: give their folder with --expect".to_owned());
        };
        let [left, right] = ["/tmp/expected", "/tmp/rebuilt"];
        let mut room = Room { work: PathBuf::from(BUILD), scratch: place.scratch()?, ..room.clone() };
        for (from, to) in [(expected, left), (&rebuilt.path, right)] {
            let from = std::fs::canonicalize(from).map_err(|error| files::cannot("read", from, &error))?;
            room.read_only.push((from, PathBuf::from(to)));
        }
        let line = ["diffoscope", "--no-progress", "--text", "-", left, right];
        let ended = isolation.run(&room, &line, EXPLAIN_TIMEOUT, false).await?;
        if let End::Interrupted(_) = ended.end {
            return Err(ended.failure());
        }
        // It ends with 1 where files differ; what it says tells whether it ran at all.
        said.push(format!(
            "diffoscope of {}:\n{}",
            text::printable(difference.name.as_str()),
            ended.tail.trim_end()
        ));
    }
    Ok(said.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::hash::{self, Digests};

    #[test]
    fn a_difference_is_told_with_its_place_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let said = |expected: &[u8], rebuilt: &[u8]| {
            let [left, right] = ["expected", "rebuilt"].map(|name| folder.path().join(name));
            fs::write(&left, expected).unwrap();
            fs::write(&right, rebuilt).unwrap();
            let mut hashed = hash::hash_files(&[left.clone(), right], Digests::Sha256).unwrap();
            let (rebuilt, expected) = (hashed.pop().unwrap(), hashed.pop().unwrap());
            let file = ExpectedFile { sha256: expected.sha256, size: Some(expected.size), path: Some(left) };
            let listed = ExpectedFile { size: None, path: None, ..file.clone() };
            let (none, words) = difference(&listed, &rebuilt).unwrap();
            assert!(none.is_none() && words.contains(&hex::encode(expected.sha256)), "{words}");
            difference(&file, &rebuilt).unwrap()
        };
        let long = vec![7; 100_000];
        let mut changed = long.clone();
        changed[70_000] = 0xff;
        let (offset, words) = said(&long, &changed);
        assert_eq!(offset, Some(70_000));
        assert_eq!(
            words,
            "100000 bytes as expected; from byte 70000 (0x11170) on ff 07 07 07 07 07 07 07 instead of 07 07 07 07 07 07 07 07"
        );
        let (offset, words) = said(b"abc", b"ab");
        assert_eq!(offset, Some(2));
        assert_eq!(words, "2 bytes instead of 3, 1 fewer; from byte 2 (0x2) on its end instead of 63");
        assert_eq!(
            said(b"", b"x").1,
            "1 bytes instead of 0, 1 more; from byte 0 (0x0) on 78 instead of its end"
        );
    }
}
