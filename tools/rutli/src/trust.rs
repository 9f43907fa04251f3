//! Whom a node trusts, from its folder of rules: `trust.toml` and `allowed_signers`, each where it is there.

use std::path::Path;

use rutli_evidence::{AttestationKey, Role, Trust, limits};
use serde::Deserialize;

use crate::{files, report::Failure};

/// `trust.toml`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustToml {
    #[serde(default, rename = "key")]
    keys: Vec<Key>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    role: RoleWord,
    /// A file in the same folder.
    file: Option<String>,
    public_key: Option<String>,
    #[serde(default)]
    ids: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleWord {
    Builder,
    Rebuilder,
    Tester,
    Reviewer,
}

/// Reads whom a node trusts.
///
/// # Errors
/// Exit code 2: a folder with neither file, or with one that a node would not take either.
pub fn read(folder: &Path) -> Result<Trust, Failure> {
    let wrong = |problem: String| {
        Failure::usage(format!("{} does not say whom to trust: {problem}", folder.display()))
            .help("give a node's folder of rules, with trust.toml or allowed_signers in it")
    };
    let (toml, signers) = (folder.join("trust.toml"), folder.join("allowed_signers"));
    if !toml.exists() && !signers.exists() {
        return Err(wrong("it has neither trust.toml nor allowed_signers".to_owned()));
    }
    let keys = if toml.exists() {
        let parsed: TrustToml = toml::from_str(&files::read_text(&toml)?)
            .map_err(|error| wrong(format!("trust.toml: {}", error.message())))?;
        parsed.keys.into_iter().map(|key| attestation_key(folder, key)).collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let signers = if signers.exists() { files::read_text(&signers)? } else { String::new() };
    Trust::new(keys, &signers).map_err(|error| wrong(error.to_string()))
}

fn attestation_key(folder: &Path, key: Key) -> Result<AttestationKey, Failure> {
    let wrong = |problem: String| Failure::usage(format!("the key {:?} in trust.toml {problem}", key.name));
    let public_key = match (key.file, key.public_key) {
        (Some(file), None) => {
            if Path::new(&file).file_name().is_none_or(|name| name != file.as_str()) {
                return Err(wrong(format!("has the file {file:?}"))
                    .help("give the name of a file in the same folder, without a path"));
            }
            let bytes = files::read_within(&folder.join(file), limits::MAX_KEY_FILE_BYTES as u64)?;
            String::from_utf8(bytes)
                .map_err(|_| wrong("has a file that is not text".to_owned()).help("is it a public key?"))?
        }
        (None, Some(public_key)) => public_key,
        _ => {
            return Err(
                wrong("has neither or both of `file` and `public_key`".to_owned()).help("give one of them")
            );
        }
    };
    let role = match key.role {
        RoleWord::Builder => Role::Builder,
        RoleWord::Rebuilder => Role::Rebuilder,
        RoleWord::Tester => Role::Tester,
        RoleWord::Reviewer => Role::Reviewer,
    };
    Ok(AttestationKey { name: key.name, role, public_key, ids: key.ids })
}

#[cfg(test)]
mod tests {
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
        assert!(problem().contains("line 1"), "{}", problem());
        std::fs::remove_file(folder.path().join("allowed_signers")).unwrap();
        write("qa.pub", KEY);
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"tester\"\nfile = \"qa.pub\"\n");
        assert!(read(folder.path()).unwrap().keys()[&Role::Tester].contains("qa"));
        for (file, said) in
            [("../qa.pub", "without a path"), ("none", "does not exist"), ("..", "without a path")]
        {
            write("trust.toml", &format!("[[key]]\nname = \"qa\"\nrole = \"tester\"\nfile = \"{file}\"\n"));
            assert!(problem().contains(said), "{}", problem());
        }
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"tester\"\n");
        assert!(problem().contains("give one of them"), "{}", problem());
        write("trust.toml", "[[key]]\nname = \"qa\"\nrole = \"king\"\n");
        assert!(problem().contains("king"), "{}", problem());
    }
}
