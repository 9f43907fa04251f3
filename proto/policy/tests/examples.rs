//! The folders of rules that are shipped as examples: each is whole, as a node reads it, and its cases go as they say.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rutli_policy::{CASES_FILE, Cases, Rules, SIGNERS_FILE, TRUST_FILE, run_cases};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");

#[test]
fn each_folder_is_whole_and_its_cases_go_as_expected() {
    let folders = folders();
    let names: Vec<_> = folders.iter().map(|folder| folder.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["av-database", "supervisor-node", "vendor-node"]);
    for folder in folders {
        let name = folder.display();
        let files = contents(&folder);
        let rules = Rules::parse(&files).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(rules.warnings(), [""; 0], "{name}");
        assert!(files.contains_key(TRUST_FILE) && files.contains_key(SIGNERS_FILE), "{name}");
        assert!(!rules.trust.keys().is_empty() && !rules.trust.custodians().is_empty(), "{name}");
        let cases = Cases::parse(std::str::from_utf8(&files[CASES_FILE]).unwrap()).unwrap();
        let report = run_cases(&rules.policies, &cases);
        let problems: Vec<_> = report.cases.iter().filter(|case| !case.passed).collect();
        assert!(report.passed, "{name}: {problems:#?}");
        assert!(report.cases.len() >= 8, "{name}");
    }
}

/// Nothing in an example is for show: without any one of its files it is no rules any more, or other ones.
#[test]
fn each_file_counts() {
    for folder in folders() {
        let whole = contents(&folder);
        let digest = Rules::parse(&whole).unwrap().digest();
        for file in whole.keys().filter(|file| *file != CASES_FILE) {
            let mut files = whole.clone();
            files.remove(file);
            let differs = Rules::parse(&files).map_or(true, |rules| rules.digest() != digest);
            assert!(differs, "{}: {file} is passed over", folder.display());
        }
    }
}

/// In the order of their names.
fn folders() -> Vec<PathBuf> {
    let paths = fs::read_dir(EXAMPLES).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = paths.filter(|path| path.join("policy.cedar").exists()).collect();
    folders.sort();
    folders
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}
