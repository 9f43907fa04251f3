//! All that a custodian gives its node to decide by: the contents of one folder.

use std::collections::{BTreeMap, BTreeSet};

use rutli_evidence::{AttestationKey, InvalidTrust, Role, Trust};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use crate::{
    invalid::{InvalidPolicy, cut, line_at},
    limits::{MAX_RULES_BYTES, MAX_RULES_FILES, MAX_TRUST_BYTES},
    set::PolicySet,
};

/// Whose keys count for attestations.
pub const TRUST_FILE: &str = "trust.toml";

/// The custodians whose approvals and refusals count, in the format of ssh-keygen(1).
pub const SIGNERS_FILE: &str = "allowed_signers";

/// What the policies are tried on; a node passes over it.
pub const CASES_FILE: &str = "cases.toml";

/// The contents of a folder with a custodian's rules, parsed and validated together.
///
/// | file | what it is |
/// | --- | --- |
/// | `*.cedar` | policies, in the order of the files' names; none: nothing is permitted |
/// | `trust.toml` | attestation keys, one `[[key]]` each: `name`, `role`, and `file` or `public_key`, and `ids`; none: no key counts |
/// | files that `trust.toml` names | public keys, as [`AttestationKey`] wants them |
/// | `allowed_signers` | custodians; none: nobody approves |
/// | `cases.toml` | passed over, as are files whose names begin with a dot |
///
/// Any other file is passed over too, and named in [`Rules::warnings`]: it may be a policy whose name has a mistake in it.
#[derive(Debug)]
pub struct Rules {
    /// What is permitted.
    pub policies: PolicySet,
    /// Whose evidence counts.
    pub trust: Trust,
    digest: [u8; 32],
    warnings: Vec<String>,
}

/// Why the contents of a folder are no rules. The custodian's mistake: correct the file and load it again; until then what was loaded
/// before stays in force. Lines are counted from 1. For the first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRules {
    /// More files than rules need.
    #[error("there are {count} files: at most {MAX_RULES_FILES} may lie in a folder of rules; take away what is not used")]
    TooManyFiles {
        /// How many.
        count: usize,
    },
    /// More bytes than rules need.
    #[error("{file}: with it there are more than {MAX_RULES_BYTES} bytes: take away what is not used")]
    TooLarge {
        /// Which file.
        file: String,
    },
    /// A text that is none.
    #[error("{file}, line {line}: it is not UTF-8 from there on: save it as UTF-8")]
    NotText {
        /// Which file.
        file: String,
        /// Up to where it is text.
        line: usize,
    },
    /// `trust.toml` does not parse, or has a field that means nothing.
    #[error("{TRUST_FILE}, line {line}: {problem}")]
    TrustFile {
        /// Where.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A key that cannot be trusted as it stands.
    #[error("{TRUST_FILE}, line {line}: {source}")]
    Key {
        /// Where the key begins.
        line: usize,
        /// Why not.
        source: InvalidTrust,
    },
    /// The attestation keys or the allowed signers as a whole. It names the file and, where there is one, the line.
    #[error(transparent)]
    Trust(InvalidTrust),
    /// The policies.
    #[error(transparent)]
    Policy(#[from] InvalidPolicy),
}

impl Rules {
    /// Parses the contents of a folder, by the names of the files in it.
    ///
    /// # Errors
    /// [`InvalidRules`] for the first thing that is wrong, with its file and line.
    pub fn parse(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, InvalidRules> {
        measure(files)?;
        let entries = match files.get(TRUST_FILE) {
            Some(bytes) => trust_entries(text(TRUST_FILE, bytes)?)?,
            None => Vec::new(),
        };
        let signers = match files.get(SIGNERS_FILE) {
            Some(bytes) => text(SIGNERS_FILE, bytes)?,
            None => "",
        };
        let key_files: BTreeSet<String> = entries.iter().filter_map(|entry| entry.file.clone()).collect();
        let trust = trust(entries, signers, files)?;
        let policies = files
            .iter()
            .filter(|(name, _)| is_policy(name))
            .map(|(name, bytes)| Ok((name.clone(), text(name, bytes)?.to_owned())))
            .collect::<Result<Vec<_>, InvalidRules>>()?;
        let policies = PolicySet::parse(&policies, Some(&trust))?;
        let (counting, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|(name, _)| counts(name, &key_files));
        let mut warnings = policies.warnings().to_vec();
        if policies.ids().next().is_none() {
            warnings.push("there is no policy in a file *.cedar: nothing is permitted".to_owned());
        }
        let strange = others.into_iter().filter(|(name, _)| *name != CASES_FILE && !name.starts_with('.'));
        warnings.extend(strange.map(|(name, _)| {
            format!("{} is passed over: it is no *.cedar, and {TRUST_FILE} does not name it", cut(name))
        }));
        Ok(Self { policies, trust, digest: digest(&counting), warnings })
    }

    /// SHA-256 over all files that count, in the order of their names: for each its name and its content, each after its length in
    /// bytes as eight bytes, big-endian.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// What a custodian should look at, though it is no error: one line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whom it trusts, for a person: one line for each role of a key, and for each custodian.
    #[must_use]
    pub fn trusts(&self) -> Vec<String> {
        let keys = self.trust.keys().into_iter();
        keys.flat_map(|(role, names)| names.into_iter().map(move |name| format!("{role} {name}")))
            .chain(self.trust.custodians().into_iter().map(|name| format!("custodian {name}")))
            .collect()
    }
}

/// A key of `trust.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    role: RoleWord,
    file: Option<String>,
    public_key: Option<String>,
    #[serde(default)]
    ids: Vec<String>,
    /// Filled in afterwards.
    #[serde(skip)]
    line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustFile {
    #[serde(rename = "key", default)]
    keys: Vec<Entry>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleWord {
    Builder,
    Rebuilder,
    Tester,
    Reviewer,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Builder => Self::Builder,
            RoleWord::Rebuilder => Self::Rebuilder,
            RoleWord::Tester => Self::Tester,
            RoleWord::Reviewer => Self::Reviewer,
        }
    }
}

fn trust_entries(text: &str) -> Result<Vec<Entry>, InvalidRules> {
    let wrong = |line, problem: String| InvalidRules::TrustFile { line, problem };
    if text.len() > MAX_TRUST_BYTES {
        return Err(wrong(1, format!("it has more than {MAX_TRUST_BYTES} bytes: remove keys that are not used")));
    }
    let mut file: TrustFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        wrong(line, format!("{}; each [[key]] has name, role, file or public_key, and ids", cut(error.message())))
    })?;
    for entry in &mut file.keys {
        entry.line = line_at(text, entry.name.span().start);
    }
    Ok(file.keys)
}

fn trust(
    entries: Vec<Entry>,
    signers: &str,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Trust, InvalidRules> {
    let lines: Vec<(String, Role, usize)> = entries
        .iter()
        .map(|entry| (entry.name.get_ref().clone(), entry.role.into(), entry.line))
        .collect();
    let keys = entries.into_iter().map(|entry| attestation_key(entry, files)).collect::<Result<Vec<_>, _>>()?;
    Trust::new(keys, signers).map_err(|source| {
        let named = match &source {
            InvalidTrust::Name { name } => lines.iter().rfind(|(key, ..)| cut(key) == *name),
            InvalidTrust::Key { name, role, .. }
            | InvalidTrust::Ids { name, role, .. }
            | InvalidTrust::Repeated { name, role, .. } => {
                lines.iter().rfind(|(key, of, _)| key == name && of == role)
            }
            InvalidTrust::BuilderIsRebuilder { name } => lines.iter().rfind(|(key, ..)| key == name),
            _ => None,
        };
        match named {
            Some((_, _, line)) => InvalidRules::Key { line: *line, source },
            None => InvalidRules::Trust(source),
        }
    })
}

fn attestation_key(
    entry: Entry,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<AttestationKey, InvalidRules> {
    let Entry { name, role, file, public_key, ids, line } = entry;
    let wrong = |problem: String| InvalidRules::TrustFile { line, problem };
    let public_key = match (file, public_key) {
        (Some(file), None) => {
            let bytes = files.get(&file).ok_or_else(|| {
                wrong(format!("there is no file {} beside it: put the public key there, by that very name", cut(&file)))
            })?;
            text(&file, bytes)?.to_owned()
        }
        (None, Some(key)) => key,
        (None, None) => return Err(wrong("the key has neither `file` nor `public_key`: give one of them".into())),
        (Some(_), Some(_)) => return Err(wrong("the key has both `file` and `public_key`: give one of them".into())),
    };
    Ok(AttestationKey { name: name.into_inner(), role: role.into(), public_key, ids })
}

fn measure(files: &BTreeMap<String, Vec<u8>>) -> Result<(), InvalidRules> {
    if files.len() > MAX_RULES_FILES {
        return Err(InvalidRules::TooManyFiles { count: files.len() });
    }
    let mut bytes = 0_usize;
    for (name, content) in files {
        bytes = bytes.saturating_add(content.len());
        if bytes > MAX_RULES_BYTES {
            return Err(InvalidRules::TooLarge { file: cut(name) });
        }
    }
    Ok(())
}

fn is_policy(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".cedar")
}

fn counts(name: &str, key_files: &BTreeSet<String>) -> bool {
    is_policy(name) || name == TRUST_FILE || name == SIGNERS_FILE || key_files.contains(name)
}

fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, InvalidRules> {
    std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count().saturating_add(1);
        InvalidRules::NotText { file: cut(file), line }
    })
}

fn digest(files: &[(&String, &Vec<u8>)]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|(name, content)| [name.as_bytes(), content.as_slice()]) {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
