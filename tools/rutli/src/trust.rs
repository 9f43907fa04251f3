//! Whom a node trusts, from its folder of rules: `trust.toml` and `allowed_signers`, each where it is there.

use std::path::Path;

use rutli_evidence::Trust;
use rutli_policy::{SIGNERS_FILE, TRUST_FILE};
use rutli_policy_dir::PolicyDir;

use crate::report::Failure;

/// Reads whom a node trusts, with the node's own code.
///
/// # Errors
/// Exit code 2: a folder with neither file, or with one that a node would not take either.
pub fn read(folder: &Path) -> Result<Trust, Failure> {
    let wrong = |problem: String| {
        Failure::usage(format!("{} does not say whom to trust: {problem}", folder.display()))
    };
    let seen = PolicyDir::new(folder.to_owned()).look();
    let trust = seen.trust().map_err(|problem| {
        wrong(problem).help("correct that line or file; a node would not take the folder either")
    })?;
    if !seen.has(TRUST_FILE) && !seen.has(SIGNERS_FILE) {
        return Err(wrong(format!("it has neither {TRUST_FILE} nor {SIGNERS_FILE}"))
            .help("give a node's folder of rules, with trust.toml or allowed_signers in it"));
    }
    Ok(trust)
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
