//! All that a custodian gives its node to decide by: the contents of one folder.

use std::collections::{BTreeMap, BTreeSet};

use rutli_evidence::{AttestationKey, InvalidTrust, Role, Trust};
use rutli_release::Timestamp;
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
    /// The policies as they were read, by file.
    texts: Vec<(String, String)>,
    digest: [u8; 32],
    warnings: Vec<String>,
}

/// Why the contents of a folder are no rules. The custodian's mistake: correct the file and load it again; until then what was loaded
/// before stays in force. Lines are counted from 1. For the first thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRules {
    /// More files than rules need.
    #[error(
        "there are {count} files: at most {MAX_RULES_FILES} may lie in a folder of rules; take away what is not used"
    )]
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
    /// A name that only looks like a valid one: its content would be ignored silently.
    #[error(
        "{file} would be passed over: files that count are called *.cedar, {TRUST_FILE} and {SIGNERS_FILE}; rename it"
    )]
    Name {
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
        let (trust, key_files) = read_trust(files)?;
        check_names(files)?;
        let texts = files
            .iter()
            .filter(|(name, _)| is_policy(name))
            .map(|(name, bytes)| Ok((name.clone(), text(name, bytes)?.to_owned())))
            .collect::<Result<Vec<_>, InvalidRules>>()?;
        let policies = PolicySet::parse(&texts, Some(&trust))?;
        let (counting, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|(name, _)| counts(name, &key_files));
        let mut warnings = [policies.strangers(), policies.warnings()].concat();
        if policies.ids().next().is_none() {
            warnings.push("there is no policy in a file *.cedar: nothing is permitted".to_owned());
        }
        let strange = others.into_iter().filter(|(name, _)| *name != CASES_FILE && !name.starts_with('.'));
        warnings.extend(strange.map(|(name, _)| {
            format!("{} is passed over: it is no *.cedar, and {TRUST_FILE} does not name it", cut(name))
        }));
        Ok(Self { policies, trust, texts, digest: digest(&counting), warnings })
    }

    /// The same policies, for those whom a later trust still names: only keys in both count.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: never for less trust than the policies were read with.
    pub fn restricted_by(&self, later: &Trust) -> Result<Self, InvalidPolicy> {
        let trust = self.trust.restricted_by(later);
        let policies = PolicySet::parse(&self.texts, Some(&trust))?;
        let warnings = [policies.strangers(), policies.warnings()].concat();
        let restricted = Self { policies, trust, texts: self.texts.clone(), digest: self.digest, warnings };
        if restricted.trust == self.trust {
            return Ok(restricted);
        }
        // The state in force is in no file: the earlier policies, and the remaining trust.
        let mut hash = Sha256::new();
        hash.update(b"restricted");
        hash.update(self.digest);
        for line in restricted.trusts(0) {
            hash.update(u64::try_from(line.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(line);
        }
        Ok(Self { digest: hash.finalize().into(), ..restricted })
    }

    /// The policies of a folder as it is now, though a part of it is invalid: the text of each file that is valid by itself, and for
    /// the others, `None` being one that cannot be read, what they said in these rules. A file that is gone says nothing.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for what is wrong with them together.
    pub fn as_far_as_valid(
        &self,
        files: &BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<PolicySet, InvalidPolicy> {
        let valid = |name: &String, content: &Option<Vec<u8>>| {
            let text = std::str::from_utf8(content.as_deref()?).ok()?;
            let file = (name.clone(), text.to_owned());
            PolicySet::parse(std::slice::from_ref(&file), None).ok().map(|_| file)
        };
        let before = |name: &String| self.texts.iter().find(|(before, _)| before == name).cloned();
        let policies = files.iter().filter(|(name, _)| is_policy(name));
        let texts = policies.filter_map(|(name, content)| valid(name, content).or_else(|| before(name)));
        PolicySet::parse(&texts.collect::<Vec<_>>(), None)
    }

    /// Whom the contents of a folder trust, whatever its policies are.
    ///
    /// # Errors
    /// As for [`Rules::parse`].
    pub fn parse_trust(files: &BTreeMap<String, Vec<u8>>) -> Result<Trust, InvalidRules> {
        read_trust(files).map(|(trust, _)| trust)
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

    /// [`Rules::warnings`], and those that come with time: custodians whose keys have expired at a time in Unix seconds.
    #[must_use]
    pub fn warnings_at(&self, now_unix: u64) -> Vec<String> {
        [self.warnings.clone(), expired(&self.trust, now_unix)].concat()
    }

    /// Whom it trusts at a time in Unix seconds, for a person: one line for each role of a key, and for each custodian.
    #[must_use]
    pub fn trusts(&self, now_unix: u64) -> Vec<String> {
        let expired = self.trust.expired_custodians(now_unix);
        let custodian = |name: &str| match expired.get(name) {
            Some(end) => format!("custodian {name}: {}", every_key_expired(*end)),
            None => format!("custodian {name}"),
        };
        let keys = self.trust.keys().into_iter();
        keys.flat_map(|(role, names)| names.into_iter().map(move |name| format!("{role} {name}")))
            .chain(self.trust.custodians().into_iter().map(custodian))
            .collect()
    }
}

/// What a custodian should look at as time goes on: one line for each whose keys have all expired at a time in Unix seconds. Policies
/// that ask for such a one wait for what cannot come.
#[must_use]
pub fn expired(trust: &Trust, now_unix: u64) -> Vec<String> {
    let expired = trust.expired_custodians(now_unix).into_iter();
    expired
        .map(|(name, end)| {
            format!(
                "{name}: {}, and nothing that {name} signs counts: put a new key into {SIGNERS_FILE}, or ask for somebody else",
                every_key_expired(end)
            )
        })
        .collect()
}

fn every_key_expired(end: Timestamp) -> String {
    format!("every key of this name has expired (valid-before {})", end.rfc3339())
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

/// Whom they trust, and the names of the files with the keys.
fn read_trust(files: &BTreeMap<String, Vec<u8>>) -> Result<(Trust, BTreeSet<String>), InvalidRules> {
    measure(files)?;
    let entries = match files.get(TRUST_FILE) {
        Some(bytes) => trust_entries(text(TRUST_FILE, bytes)?)?,
        None => Vec::new(),
    };
    let signers = match files.get(SIGNERS_FILE) {
        Some(bytes) => text(SIGNERS_FILE, bytes)?,
        None => "",
    };
    let key_files = entries.iter().filter_map(|entry| entry.file.clone()).collect();
    Ok((trust(entries, signers, files)?, key_files))
}

fn trust_entries(text: &str) -> Result<Vec<Entry>, InvalidRules> {
    let wrong = |line, problem: String| InvalidRules::TrustFile { line, problem };
    if text.len() > MAX_TRUST_BYTES {
        return Err(wrong(
            1,
            format!("it has more than {MAX_TRUST_BYTES} bytes: remove keys that are not used"),
        ));
    }
    let mut file: TrustFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        wrong(
            line,
            format!("{}; each [[key]] has name, role, file or public_key, and ids", cut(error.message())),
        )
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
    let lines: Vec<(String, Role, usize)> =
        entries.iter().map(|entry| (entry.name.get_ref().clone(), entry.role.into(), entry.line)).collect();
    let keys =
        entries.into_iter().map(|entry| attestation_key(entry, files)).collect::<Result<Vec<_>, _>>()?;
    Trust::new(keys, signers).map_err(|source| {
        let named = match &source {
            InvalidTrust::Name { name } => lines.iter().rfind(|(key, ..)| cut(key) == name.trim_matches('"')),
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

fn attestation_key(entry: Entry, files: &BTreeMap<String, Vec<u8>>) -> Result<AttestationKey, InvalidRules> {
    let Entry { name, role, file, public_key, ids, line } = entry;
    let wrong = |problem: String| InvalidRules::TrustFile { line, problem };
    let public_key = match (file, public_key) {
        (Some(file), None) => {
            let bytes = files.get(&file).ok_or_else(|| {
                wrong(format!(
                    "there is no file {} beside it: put the public key there, by that very name",
                    cut(&file)
                ))
            })?;
            text(&file, bytes)?.to_owned()
        }
        (None, Some(key)) => key,
        (None, None) => {
            return Err(wrong("the key has neither `file` nor `public_key`: give one of them".into()));
        }
        (Some(_), Some(_)) => {
            return Err(wrong("the key has both `file` and `public_key`: give one of them".into()));
        }
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

/// Capital letters, or another extension after the right one: a forbid in such a file would forbid nothing.
fn check_names(files: &BTreeMap<String, Vec<u8>>) -> Result<(), InvalidRules> {
    let is_near = |name: &&String| {
        let lower = name.to_ascii_lowercase().replace('-', "_");
        let almost = lower.ends_with(".cedar") || [TRUST_FILE, SIGNERS_FILE].contains(&lower.as_str());
        let exact = name.ends_with(".cedar") || [TRUST_FILE, SIGNERS_FILE].contains(&name.as_str());
        !name.starts_with('.') && ((almost && !exact) || lower.contains(".cedar."))
    };
    match files.keys().find(is_near) {
        Some(name) => Err(InvalidRules::Name { file: cut(name) }),
        None => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "@id(\"a\")\npermit (principal, action == Action::\"sign\", resource)\nwhen { resource.class == Class::\"product-build\" && resource.product == \"suite\" && context.builders.contains(\"ci\") };\n";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICFolhxAps6/xQ9U0QQw02xtvYvoPsvuAUNsIJ7pwit/";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJEvrXG4IGLAW3UoqV4Lj5dLgicCGb4Z/MPSLV0TevFm";

    fn trust() -> String {
        "[[key]]\nname = \"ci\"\nrole = \"builder\"\nfile = \"ci.pub\"\nids = [\"https://ci.example\"]\n"
            .to_owned()
    }

    fn files(changes: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let signers = format!("anna {OTHER}\n");
        let mut files: BTreeMap<String, Vec<u8>> = [
            ("a.cedar", POLICY),
            ("trust.toml", &trust()),
            ("ci.pub", KEY),
            ("allowed_signers", &signers),
            ("cases.toml", "never read ["),
            (".a.cedar.swp", "never read ["),
        ]
        .into_iter()
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .collect();
        for (name, text) in changes {
            files.insert((*name).to_owned(), text.as_bytes().to_vec());
        }
        files
    }

    fn parse(changes: &[(&str, &str)]) -> Result<Rules, InvalidRules> {
        Rules::parse(&files(changes))
    }

    fn problem(changes: &[(&str, &str)]) -> String {
        parse(changes).unwrap_err().to_string()
    }

    #[test]
    fn a_name_that_is_nearly_right_is_a_mistake() {
        for name in [
            "X.CEDAR",
            "x.Cedar",
            "x.cedar.txt",
            "x.cedar.bak",
            "Trust.toml",
            "allowed-signers",
            "ALLOWED_SIGNERS",
        ] {
            assert_eq!(parse(&[(name, "")]).unwrap_err(), InvalidRules::Name { file: name.into() });
        }
        assert!(parse(&[("notes.txt", ""), (".x.CEDAR", ""), ("cedar", "")]).is_ok());
    }

    /// Only keys in both count, with the restrictions of both.
    #[test]
    fn trust_is_only_taken_back() {
        let rules = parse(&[]).unwrap();
        let restricted = |changes: &[(&str, &str)]| {
            rules.restricted_by(&Rules::parse_trust(&files(changes)).unwrap()).unwrap()
        };
        let same = restricted(&[("a.cedar", "broken")]);
        assert_eq!((same.trust == rules.trust, same.digest()), (true, rules.digest()));
        let nobody = restricted(&[("allowed_signers", "")]);
        assert_eq!(nobody.trusts(0), ["builder ci"]);
        assert_ne!(nobody.digest(), rules.digest());
        assert_eq!(restricted(&[("trust.toml", "")]).trusts(0), ["custodian anna"]);
        let more = format!(
            "anna {OTHER}\nbeat {}\n",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
        );
        assert_eq!(
            restricted(&[("allowed_signers", &more)]).trusts(0),
            ["builder ci", "custodian anna"],
            "nobody new"
        );
        assert_eq!(
            restricted(&[("allowed_signers", &format!("beat {OTHER}\n"))]).trusts(0),
            ["builder ci"],
            "another's now"
        );
        let expired = format!("anna valid-before=\"20260101000000Z\" {OTHER}\n");
        assert_eq!(restricted(&[("allowed_signers", &expired)]).trust.expired_custodians(u64::MAX).len(), 1);
        let other_id = trust().replace("https://ci.example", "https://other.example");
        assert_eq!(restricted(&[("trust.toml", &other_id)]).trusts(0), ["custodian anna"]);
        let other_role = trust().replace("builder", "tester").replace("ids = [\"https://ci.example\"]\n", "");
        assert_eq!(restricted(&[("trust.toml", &other_role)]).trusts(0), ["custodian anna"]);
    }

    /// Warnings but for the one that the policies of these tests have no builder in them.
    fn told(rules: &Rules) -> Vec<&str> {
        let warnings = rules.warnings().iter().map(String::as_str);
        warnings.filter(|warning| !warning.contains("does not tie the files to the product")).collect()
    }

    #[test]
    fn a_folder_holds_policies_keys_and_custodians() {
        let rules = parse(&[]).unwrap();
        assert_eq!(rules.policies.ids().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
        assert_eq!(rules.trusts(0), ["builder ci", "custodian anna"]);
        assert_eq!(told(&rules), [""; 0]);
        let inline = trust().replace("file = \"ci.pub\"", &format!("public_key = \"{KEY}\""));
        assert_eq!(parse(&[("trust.toml", &inline)]).unwrap().trusts(0), rules.trusts(0));
    }

    /// Rules that are refused leave the earlier ones in force, and with them the key that was to count no more.
    #[test]
    fn a_key_that_was_taken_away_counts_no_more_where_a_policy_still_names_it() {
        let named = "@id(\"a\") permit(principal, action == Action::\"sign\", resource) when { resource.class == Class::\"product-build\" && resource.product == \"suite\" && context.approvers.contains(\"anna\") };";
        assert_eq!(told(&parse(&[("a.cedar", named)]).unwrap()), [""; 0]);
        let rules = parse(&[("a.cedar", named), ("allowed_signers", "")]).unwrap();
        assert_eq!(rules.trusts(0), ["builder ci"]);
        assert!(told(&rules)[0].contains("names anna in context.approvers"), "{:?}", rules.warnings());
    }

    /// A node that runs on must not say that it waits for somebody whose word no longer counts as if it could come.
    #[test]
    fn a_custodian_whose_keys_have_expired_is_told_when_asked() {
        let signers = format!("anna valid-before=\"20270115080000Z\" {OTHER}\n");
        let rules = parse(&[("allowed_signers", &signers)]).unwrap();
        assert_eq!(rules.trusts(1_800_000_000), ["builder ci", "custodian anna"]);
        assert_eq!(rules.warnings_at(1_800_000_000), rules.warnings());
        let said = "every key of this name has expired (valid-before 2027-01-15T08:00:00Z)";
        assert_eq!(rules.trusts(1_800_000_001)[1], format!("custodian anna: {said}"));
        let warnings = rules.warnings_at(1_800_000_001);
        assert!(
            warnings.iter().any(|warning| warning.starts_with(&format!("anna: {said}, and nothing"))),
            "{warnings:?}"
        );
    }

    #[test]
    fn no_files_permit_nothing_and_that_is_said() {
        let rules = Rules::parse(&BTreeMap::new()).unwrap();
        assert_eq!(rules.policies.ids().count(), 0);
        assert!(rules.warnings()[0].contains("nothing is permitted"));
    }

    /// A policy in a file with another ending would be missed silently, and it may be the one that forbids.
    #[test]
    fn files_that_count_for_nothing_are_named() {
        let rules = parse(&[("forbid.ceder", "forbid"), ("old.pub", KEY)]).unwrap();
        assert_eq!(told(&rules).len(), 2);
        assert!(told(&rules)[0].starts_with("forbid.ceder is passed over"), "{:?}", rules.warnings());
    }

    /// All that a decision can depend on, and nothing else.
    #[test]
    fn the_digest_is_over_all_that_counts() {
        let digest = |changes: &[(&str, &str)]| parse(changes).unwrap().digest();
        let unchanged = digest(&[]);
        assert_eq!(
            digest(&[("cases.toml", ""), (".a.cedar.swp", ""), (".b.cedar", "never read [")]),
            unchanged
        );
        // What ends a name does not begin a text.
        assert_ne!(digest(&[("b.cedar", "// .cedar\n")]), digest(&[("b.cedar// .cedar", "\n")]));
        let signers = format!("beat {OTHER}\n");
        for change in [
            ("a.cedar", "@id(\"b\") permit (principal, action == Action::\"sign\", resource);"),
            ("b.cedar", ""),
            ("trust.toml", trust().replace("https://ci.", "https://ci2.").as_str()),
            ("ci.pub", OTHER.replace(" AAAA", "  AAAA").trim_start()),
            ("allowed_signers", signers.as_str()),
        ] {
            if let Ok(rules) = parse(&[change]) {
                assert_ne!(rules.digest(), unchanged, "{change:?}");
            }
        }
    }

    #[test]
    fn each_mistake_is_named_with_its_file_and_line() {
        let second = format!("{}\n{}", trust(), trust().replace("\"builder\"", "\"rebuilder\""));
        for (file, text, expected) in [
            ("a.cedar", format!("{POLICY}\nnothing"), "a.cedar, line 5"),
            ("trust.toml", "\n[[key]]\nnam = 1".to_owned(), "trust.toml, line 3"),
            ("trust.toml", trust().replace("builder", "boss"), "trust.toml, line 3"),
            (
                "trust.toml",
                trust().replace("ci.pub", "../ci.pub"),
                "trust.toml, line 2: there is no file ../ci.pub",
            ),
            (
                "trust.toml",
                trust().replace("file = \"ci.pub\"\n", ""),
                "trust.toml, line 2: the key has neither",
            ),
            (
                "trust.toml",
                trust() + &format!("public_key = \"{KEY}\""),
                "trust.toml, line 2: the key has both",
            ),
            (
                "trust.toml",
                trust().replace("[\"https://ci.example\"]", "[]"),
                "trust.toml, line 2: the builder's key ci",
            ),
            ("trust.toml", trust().replace("\"ci\"", "\"c i\""), "trust.toml, line 2"),
            ("trust.toml", second, "trust.toml, line 8"),
            ("ci.pub", "no key".to_owned(), "trust.toml, line 2: the builder's key ci"),
            ("allowed_signers", format!("anna {OTHER}\nbeat no-key"), "line 2 of the allowed-signers file"),
            ("trust.toml", "#".repeat(MAX_TRUST_BYTES + 1), "trust.toml, line 1: it has more than"),
            ("cases.toml", "#".repeat(MAX_RULES_BYTES), "cases.toml: with it there are more than"),
        ] {
            let problem = problem(&[(file, &text)]);
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
        let mut not_text = files(&[]);
        not_text.insert("a.cedar".to_owned(), b"// a\n// \xff".to_vec());
        assert!(
            Rules::parse(&not_text).unwrap_err().to_string().starts_with("a.cedar, line 2: it is not UTF-8")
        );
        let many = (0..=MAX_RULES_FILES).map(|number| (format!("{number}"), Vec::new())).collect();
        assert!(Rules::parse(&many).unwrap_err().to_string().contains("129 files"));
    }
}
