//! The example policies that come with Rütli, with keys in them whose secret halves the tests have.

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::evidence::{ANNA, BEAT, BUILDER, REBUILDER, TESTER, public_pem, ssh_blob};

/// A custodian of the supervisor.
pub const CLARA: u8 = 113;
/// Another one.
pub const DARIO: u8 = 114;

/// Who holds which key, by the names in the example files; custodians last.
pub const HOLDERS: [(&str, u8); 7] = [
    ("vendor-builder", BUILDER),
    ("supervisor-rebuilder", REBUILDER),
    ("vendor-tester", TESTER),
    ("anna", ANNA),
    ("beat", BEAT),
    ("clara", CLARA),
    ("dario", DARIO),
];

/// The folder of rules `deploy/examples/FOLDER` as it is, but with these holders' keys.
#[must_use]
pub fn rules(folder: &str, holders: &BTreeMap<&str, u8>) -> BTreeMap<String, Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(folder);
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = match name.strip_suffix(".pem") {
            Some(holder) => public_pem(*holders.get(holder).unwrap()),
            None if name == rutli_policy::SIGNERS_FILE => signers(&text, holders),
            None => text,
        };
        files.insert(name, text.into_bytes());
    }
    files
}

/// The holders of all keys.
#[must_use]
pub fn holders() -> BTreeMap<&'static str, u8> {
    HOLDERS.into_iter().collect()
}

/// The same lines with other keys at their ends.
fn signers(text: &str, holders: &BTreeMap<&str, u8>) -> String {
    let line = |line: &str| {
        if line.starts_with('#') {
            return format!("{line}\n");
        }
        let (rest, _) = line.rsplit_once(' ').unwrap();
        let custodian = line.split(' ').next().unwrap();
        format!("{rest} {}\n", STANDARD.encode(ssh_blob(*holders.get(custodian).unwrap())))
    };
    text.lines().map(line).collect()
}
