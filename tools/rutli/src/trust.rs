//! Whom a node trusts, from its folder of rules: `trust.toml` and `allowed_signers`, each where it is there.

use std::{collections::BTreeMap, path::Path};

use rutli_evidence::Trust;
use rutli_policy::{Rules, SIGNERS_FILE, TRUST_FILE, limits};

use crate::{files, report::Failure};

/// Reads whom a node trusts.
///
/// # Errors
/// Exit code 2: a folder with neither file, or with one that a node would not take either.
pub fn read(folder: &Path) -> Result<Trust, Failure> {
    let wrong = |problem: String| {
        Failure::usage(format!("{} does not say whom to trust: {problem}", folder.display()))
    };
    let mut contents = BTreeMap::new();
    let cannot = |error: &std::io::Error| files::cannot("read", folder, error);
    for entry in std::fs::read_dir(folder).map_err(|error| cannot(&error))? {
        let path = entry.map_err(|error| cannot(&error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
        if let Some(name) = name.filter(|_| path.is_file() && contents.len() <= limits::MAX_RULES_FILES) {
            contents.insert(name.to_owned(), files::read_within(&path, limits::MAX_RULES_BYTES as u64)?);
        }
    }
    if !contents.contains_key(TRUST_FILE) && !contents.contains_key(SIGNERS_FILE) {
        return Err(wrong(format!("it has neither {TRUST_FILE} nor {SIGNERS_FILE}"))
            .help("give a node's folder of rules, with trust.toml or allowed_signers in it"));
    }
    Rules::parse_trust(&contents).map_err(|error| {
        wrong(error.to_string()).help("correct that line or file; a node would not take the folder either")
    })
}

#[cfg(test)]
mod tests {
    use rutli_evidence::Role;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";

    #[test]
    fn a_folder_says_whom_to_trust_or_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let problem = || read(folder.path()).unwrap_err().to_string();
        assert!(problem().contains("neither trust.toml nor allowed_signers"));
        write("allowed_signers", &format!("clara {KEY}\n"));
        assert_eq!(Vec::from_iter(read(folder.path()).unwrap().custodians()), ["clara"]);
        write("allowed_signers", "clara ssh-rsa AAAA\n");
        assert!(
            problem().contains("line 1") && problem().contains("help: correct that line"),
            "{}",
            problem()
        );
        std::fs::remove_file(folder.path().join("allowed_signers")).unwrap();
        write("qa.pub", KEY);
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"tester\"\nfile = \"qa.pub\"\n");
        assert!(read(folder.path()).unwrap().keys()[&Role::Tester].contains("qa"));
        for file in ["../qa.pub", "none", ".."] {
            write("trust.toml", &format!("[[key]]\nname = \"qa\"\nrole = \"tester\"\nfile = \"{file}\"\n"));
            assert!(problem().contains("line 2: there is no file"), "{}", problem());
        }
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"tester\"\n");
        assert!(problem().contains("give one of them"), "{}", problem());
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"king\"\n");
        assert!(problem().contains("king"), "{}", problem());
    }
}
