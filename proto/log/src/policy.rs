//! Which cosignatures a verifier wants (c2sp.org/tlog-policy).
//!
//! ```text
//! log <vkey> [url]
//! witness <name> <vkey> [url]
//! group <name> <k|any|all> <member>…
//! quorum <name|none>
//! ```
//!
//! Lines end with a line feed; items stand apart by spaces and tabs; empty lines and lines that begin with `#` say nothing.
//! A name is defined above the line that uses it, and is a member of one group at most. A checkpoint is witnessed if
//! one of the logs signed it and the quorum's witnesses cosigned it.
//!
//! Narrower than the specification: logs have Ed25519 keys (type 0x01), witnesses Ed25519 cosignature keys (0x04), there is at
//! least one log, and the text is UTF-8.

mod age;

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::{
    checkpoint::{LogKey, NotACheckpoint, SignedCheckpoint},
    cosignature::Cosigner,
    limits::{MAX_POLICY_BYTES, MAX_POLICY_LOGS, MAX_POLICY_NAMES},
};

/// The name of the quorum in [`Policy::of`]. Groups of organisations have another prefix, so none can be called so.
const ORGANISATIONS: &str = "organisations";

/// Says which checkpoints a verifier accepts. As text a file in C2SP's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Log>,
    /// In the order of their lines, so that a group's members stand before it.
    members: Vec<Member>,
    quorum: Quorum,
}

/// Text, or names and thresholds, that make no policy: the operator's mistake, or a damaged file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A line of a file.
    #[error("line {line} of the policy: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what is wanted.
        problem: String,
    },
    /// The whole.
    #[error("the policy: {0}")]
    Whole(String),
}

/// Why a checkpoint is not what a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWitnessed {
    /// It is no checkpoint of the policy's logs, or a cosignature by a known key does not verify.
    #[error(transparent)]
    Checkpoint(#[from] NotACheckpoint),
    /// Too few witnesses have cosigned it.
    #[error("too few witnesses have cosigned it: {}", .missing.join(", "))]
    Quorum {
        /// What is missing, for people: `organisation:vendor has 1 of 2`.
        missing: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    key: LogKey,
    url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Witness {
        cosigner: Box<Cosigner>,
        url: Option<String>,
    },
    Group {
        threshold: usize,
        /// Places in [`Policy::members`], each before the group's own.
        members: Vec<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quorum {
    None,
    Member(usize),
}

impl Policy {
    /// The policy of a deployment: a group for each organisation with its threshold, all of which make the quorum. Each
    /// organisation is its name, its threshold and its nodes, which are named as their cosigners are.
    ///
    /// # Errors
    /// [`InvalidPolicy`]: no organisation, a threshold that is 0 or above the number of nodes, a name or key twice.
    pub fn of(
        log: LogKey,
        organisations: impl IntoIterator<Item = (String, usize, Vec<Cosigner>)>,
    ) -> Result<Self, InvalidPolicy> {
        let mut draft = Draft::default();
        let build = || {
            draft.log(log, None)?;
            let mut groups = Vec::new();
            for (organisation, threshold, cosigners) in organisations {
                let mut names = Vec::new();
                for cosigner in cosigners {
                    let name = cosigner.name().to_owned();
                    draft.witness(&name, cosigner, None)?;
                    names.push(name);
                }
                let group = format!("organisation:{organisation}");
                draft.group(&group, |_| Ok(threshold), names.iter().map(String::as_str))?;
                groups.push(group);
            }
            draft.group(ORGANISATIONS, Ok, groups.iter().map(String::as_str))?;
            draft.quorum(ORGANISATIONS)
        };
        build().map_err(InvalidPolicy::Whole)?;
        draft.finish()
    }

    /// Its logs.
    pub fn logs(&self) -> impl Iterator<Item = &LogKey> {
        self.logs.iter().map(|log| &log.key)
    }

    /// Its witnesses, in the order of their lines, with the names that the policy gives them.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &Cosigner)> {
        self.members.iter().filter_map(|member| match &member.rule {
            Rule::Witness { cosigner, .. } => Some((member.name.as_str(), cosigner.as_ref())),
            Rule::Group { .. } => None,
        })
    }

    /// Opens a checkpoint: one of the logs has signed it, and the quorum's witnesses have cosigned it. Gives it with the
    /// names of all known witnesses that cosigned. Lines by unknown keys are not looked at.
    ///
    /// # Errors
    /// [`NotWitnessed`]
    pub fn check(&self, note: &str) -> Result<(SignedCheckpoint, Vec<String>), NotWitnessed> {
        let checkpoint = self.open(note)?;
        let mut held: Vec<bool> = Vec::with_capacity(self.members.len());
        let mut cosigned = Vec::new();
        let mut missing = Vec::new();
        for member in &self.members {
            let holds = match &member.rule {
                Rule::Witness { cosigner, .. } => checkpoint.cosignature(cosigner)?.is_some(),
                Rule::Group { threshold, members } => {
                    let count = members.iter().filter(|place| held.get(**place) == Some(&true)).count();
                    if count < *threshold {
                        missing.push(format!("{} has {count} of {threshold}", member.name));
                    }
                    count >= *threshold
                }
            };
            if holds && matches!(member.rule, Rule::Witness { .. }) {
                cosigned.push(member.name.clone());
            }
            held.push(holds);
        }
        match self.quorum {
            Quorum::None => Ok((checkpoint, cosigned)),
            Quorum::Member(place) if held.get(place) == Some(&true) => Ok((checkpoint, cosigned)),
            Quorum::Member(place) => {
                if missing.is_empty() {
                    missing
                        .extend(self.members.get(place).map(|witness| format!("{} has not", witness.name)));
                }
                Err(NotWitnessed::Quorum { missing })
            }
        }
    }

    /// Opens it under the first log whose signature it has. Several logs may have one origin: a log with a new key.
    fn open(&self, note: &str) -> Result<SignedCheckpoint, NotACheckpoint> {
        let mut refused = None;
        for log in &self.logs {
            match log.key.open(note) {
                Ok(checkpoint) => return Ok(checkpoint),
                // That one of its own says more than that it is not of another.
                Err(NotACheckpoint::Origin { .. }) if refused.is_some() => {}
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or(NotACheckpoint::Malformed))
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        let name = |place: &usize| self.members.get(*place).map_or("", |member| member.name.as_str());
        for log in &self.logs {
            writeln!(f, "log {}{}", log.key, url(&log.url))?;
        }
        for member in &self.members {
            match &member.rule {
                Rule::Witness { cosigner, url: own } => {
                    writeln!(f, "witness {} {cosigner}{}", member.name, url(own))?;
                }
                Rule::Group { threshold, members } => {
                    write!(f, "group {} {threshold}", member.name)?;
                    members.iter().try_for_each(|place| write!(f, " {}", name(place)))?;
                    writeln!(f)?;
                }
            }
        }
        match self.quorum {
            Quorum::None => writeln!(f, "quorum none"),
            Quorum::Member(place) => writeln!(f, "quorum {}", name(&place)),
        }
    }
}

impl FromStr for Policy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(InvalidPolicy::Whole(format!("it has more than {MAX_POLICY_BYTES} bytes")));
        }
        let mut draft = Draft::default();
        let mut lines = text.split('\n').enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let done = match lines.peek() {
                Some(_) => draft.line(line),
                // What follows the last line feed.
                None if line.is_empty() => Ok(()),
                None => Err("it does not end with a line feed: the file may have been cut".into()),
            };
            done.map_err(|problem| InvalidPolicy::Line { line: number.saturating_add(1), problem })?;
        }
        draft.finish()
    }
}

/// A policy as far as it was read.
#[derive(Default)]
struct Draft {
    logs: Vec<Log>,
    members: Vec<Member>,
    places: BTreeMap<String, Place>,
    quorum: Option<Quorum>,
}

/// Where a name was defined, and whether a group has it.
struct Place {
    place: usize,
    in_group: bool,
}

impl Draft {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.chars().any(|c| c.is_ascii_control() && c != '\t') {
            return Err("it has a control character".into());
        }
        let mut items = line.split([' ', '\t']).filter(|item| !item.is_empty());
        let Some(keyword) = items.next() else { return Ok(()) };
        if keyword.starts_with('#') {
            return Ok(());
        }
        let items: Vec<&str> = items.collect();
        match (keyword, items.as_slice()) {
            ("log", [vkey, url @ ..]) if url.len() <= 1 => {
                let key = vkey.parse().map_err(|error| format!("the log's key: {error}"))?;
                self.log(key, url.first().map(|url| (*url).to_owned()))
            }
            ("witness", [name, vkey, url @ ..]) if url.len() <= 1 => {
                let key = vkey.parse().map_err(|error| format!("the witness's key: {error}"))?;
                self.witness(name, key, url.first().map(|url| (*url).to_owned()))
            }
            ("group", [name, threshold, members @ ..]) => {
                self.group(name, |count| parse_threshold(threshold, count), members.iter().copied())
            }
            ("quorum", [name]) => self.quorum(name),
            _ => Err("want `log VKEY [URL]`, `witness NAME VKEY [URL]`, `group NAME K|any|all MEMBER…` or \
                      `quorum NAME|none`"
                .into()),
        }
    }

    fn log(&mut self, key: LogKey, url: Option<String>) -> Result<(), String> {
        if self.logs.iter().any(|log| log.key.key() == key.key()) {
            return Err(format!("the key of the log {} is there twice", key.origin()));
        }
        if self.logs.len() >= MAX_POLICY_LOGS {
            return Err(format!("there are more than {MAX_POLICY_LOGS} logs"));
        }
        self.logs.push(Log { key, url });
        Ok(())
    }

    fn witness(&mut self, name: &str, cosigner: Cosigner, url: Option<String>) -> Result<(), String> {
        // A key under two names would count twice.
        let same = |rule: &Rule| matches!(rule, Rule::Witness { cosigner: other, .. } if other.key() == cosigner.key());
        if let Some(other) = self.members.iter().find(|member| same(&member.rule)) {
            return Err(format!("the witnesses {} and {name} have the same key", other.name));
        }
        self.define(name, Rule::Witness { cosigner: Box::new(cosigner), url })
    }

    /// `threshold` is asked with the number of members.
    fn group<'a>(
        &mut self,
        name: &str,
        threshold: impl FnOnce(usize) -> Result<usize, String>,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), String> {
        let mut members = Vec::new();
        for member in names {
            let place =
                self.places.get_mut(member).ok_or_else(|| format!("{member} is not defined above"))?;
            // Else a witness could count in more than one way.
            if place.in_group {
                return Err(format!("{member} is a member already, of this group or another"));
            }
            place.in_group = true;
            members.push(place.place);
        }
        let threshold = threshold(members.len())?;
        if !(1..=members.len()).contains(&threshold) {
            return Err(format!("want 1 to {} members of {name}, not {threshold}", members.len()));
        }
        self.define(name, Rule::Group { threshold, members })
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a quorum already".into());
        }
        self.quorum = Some(match (name, self.places.get(name)) {
            ("none", _) => Quorum::None,
            (_, Some(place)) => Quorum::Member(place.place),
            _ => return Err(format!("{name} is not defined above")),
        });
        Ok(())
    }

    fn define(&mut self, name: &str, rule: Rule) -> Result<(), String> {
        if name.is_empty() || name == "none" || name.contains(|c: char| c == ' ' || c.is_ascii_control()) {
            return Err(format!("{name:?} cannot be a name here"));
        }
        if self.members.len() >= MAX_POLICY_NAMES {
            return Err(format!("there are more than {MAX_POLICY_NAMES} witnesses and groups"));
        }
        let place = Place { place: self.members.len(), in_group: false };
        if self.places.insert(name.to_owned(), place).is_some() {
            return Err(format!("{name} is defined twice"));
        }
        self.members.push(Member { name: name.to_owned(), rule });
        Ok(())
    }

    fn finish(self) -> Result<Policy, InvalidPolicy> {
        let whole = |problem: &str| InvalidPolicy::Whole(problem.to_owned());
        if self.logs.is_empty() {
            return Err(whole("it names no log: want a line `log VKEY`"));
        }
        let quorum = self
            .quorum
            .ok_or_else(|| whole("it has no quorum: want a line `quorum NAME`, or `quorum none`"))?;
        Ok(Policy { logs: self.logs, members: self.members, quorum })
    }
}

fn parse_threshold(text: &str, members: usize) -> Result<usize, String> {
    match text {
        "any" => Ok(1),
        "all" => Ok(members),
        // Decimal, in one spelling.
        _ => text
            .parse()
            .ok()
            .filter(|number: &usize| number.to_string() == text)
            .ok_or_else(|| format!("{text} is no threshold: want a number, `any` or `all`")),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::{Cosignature, Head, LogSigner, Origin, cosigned_message, sha256};

    fn log(seed: u8) -> LogSigner {
        LogSigner::from_bytes(Origin::new("log.example/1").unwrap(), &[seed; 32])
    }

    fn secret(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn witness(name: &str, seed: u8) -> Cosigner {
        Cosigner::new(name, secret(seed).verifying_key().as_bytes()).unwrap()
    }

    fn head() -> Head {
        Head { size: 7, root: sha256(b"root") }
    }

    /// A checkpoint cosigned by the keys with these seeds.
    fn cosigned(seeds: &[u8]) -> SignedCheckpoint {
        let mut checkpoint = log(1).sign(head());
        for seed in seeds {
            let cosigner = witness(&format!("o/n{seed}"), *seed);
            let signature = secret(*seed).sign(&cosigned_message(9, &checkpoint.text())).to_bytes();
            checkpoint.add_cosignature(&cosigner, &Cosignature { time: 9, signature }).unwrap();
        }
        checkpoint
    }

    fn two_organisations() -> Policy {
        let nodes = |seeds: &[u8]| seeds.iter().map(|seed| witness(&format!("o/n{seed}"), *seed)).collect();
        Policy::of(
            log(1).public(),
            [("v".into(), 2, nodes(&[10, 11, 12])), ("r".into(), 1, nodes(&[20, 21]))],
        )
        .unwrap()
    }

    #[test]
    fn each_organisation_needs_its_threshold() {
        let policy = two_organisations();
        assert_eq!(policy.witnesses().count(), 5);
        for (seeds, holds) in [
            (&[10, 11, 20][..], true),
            (&[12, 11, 21, 99], true),
            (&[10, 11, 12], false),
            (&[10, 20, 21], false),
            (&[], false),
            (&[97, 98, 99], false),
        ] {
            let note = cosigned(seeds).to_note();
            let found = policy.check(&note);
            assert_eq!(found.is_ok(), holds, "{seeds:?}: {found:?}");
            if let Ok((checkpoint, names)) = found {
                assert_eq!(checkpoint.head(), head());
                let mut known: Vec<_> = seeds.iter().filter(|seed| **seed < 90).copied().collect();
                known.sort_unstable();
                assert_eq!(names, known.iter().map(|seed| format!("o/n{seed}")).collect::<Vec<_>>());
            }
        }
        let error = policy.check(&cosigned(&[10, 20]).to_note()).unwrap_err().to_string();
        assert_eq!(
            error,
            "too few witnesses have cosigned it: organisation:v has 1 of 2, organisations has 1 of 2"
        );
    }

    #[test]
    fn forged_lines_of_known_keys_and_foreign_logs_are_refused() {
        let policy = two_organisations();
        let good = cosigned(&[10, 11, 12, 20]);
        // The cosignature of another checkpoint.
        let mut other = log(1).sign(Head { size: 8, root: sha256(b"root") });
        let line = |checkpoint: &SignedCheckpoint| {
            let note = checkpoint.to_note();
            note.lines().find(|line| line.starts_with("— o/n12 ")).unwrap().to_owned()
        };
        let cosigner = witness("o/n12", 12);
        let signature = secret(12).sign(&cosigned_message(9, &other.text())).to_bytes();
        other.add_cosignature(&cosigner, &Cosignature { time: 9, signature }).unwrap();
        let forged = good.to_note().replace(&line(&good), &line(&other));
        assert_eq!(
            policy.check(&forged).unwrap_err(),
            NotWitnessed::Checkpoint(NotACheckpoint::Signature("o/n12".into()))
        );
        // The same origin with another key, and another origin.
        for foreign in [log(2), LogSigner::from_bytes(Origin::new("log.example/2").unwrap(), &[1; 32])] {
            let policy = Policy { logs: vec![Log { key: foreign.public(), url: None }], ..policy.clone() };
            assert!(matches!(policy.check(&good.to_note()), Err(NotWitnessed::Checkpoint(_))));
            // A second log does no harm to the first.
            let both = Policy {
                logs: vec![Log { key: foreign.public(), url: None }, Log { key: log(1).public(), url: None }],
                ..policy
            };
            both.check(&good.to_note()).unwrap();
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let policy = two_organisations();
        let text = policy.to_string();
        assert_eq!(text.parse::<Policy>().unwrap(), policy);
        assert!(
            text.ends_with("group organisations 2 organisation:v organisation:r\nquorum organisations\n")
        );
        let odd = format!(
            "# ours\n\n\t log  {}\thttps://log.example \nwitness ü {} \ngroup g any ü\n  #x\nquorum none\n",
            log(1).public(),
            witness("o/n10", 10)
        );
        let policy: Policy = odd.parse().unwrap();
        assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        assert_eq!(policy.check(&cosigned(&[10]).to_note()).unwrap().1, ["ü"]);
        assert_eq!(policy.check(&cosigned(&[]).to_note()).unwrap().1, Vec::<String>::new());
        let single = odd.replace("quorum none", "quorum ü").parse::<Policy>().unwrap();
        single.check(&cosigned(&[10]).to_note()).unwrap();
        let error = single.check(&cosigned(&[]).to_note()).unwrap_err().to_string();
        assert!(error.contains("g has 0 of 1"), "{error}");
    }

    #[test]
    fn whatever_is_not_a_policy_is_refused_with_its_line() {
        let (log, a, b) = (log(1).public(), witness("o/a", 10), witness("o/b", 11));
        let good = format!("log {log}\nwitness a {a}\nwitness b {b}\ngroup g 2 a b\nquorum g\n");
        good.parse::<Policy>().unwrap();
        let swap = |from: &str, to: &str| good.replacen(from, to, 1);
        for (text, line) in [
            (swap("log ", "Log "), Some(1)),
            (swap("log ", &format!("log {log}\nlog ")), Some(2)),
            (swap(&log.to_string(), &a.to_string()), Some(1)),
            (swap(&log.to_string(), ""), Some(1)),
            (swap("\nwitness a", " url more\nwitness a"), Some(1)),
            (swap(&b.to_string(), &log.to_string()), Some(3)),
            (swap(&b.to_string(), &witness("o/b", 10).to_string()), Some(3)),
            (swap("witness b", "witness a"), Some(3)),
            (swap("witness b", "witness none"), Some(3)),
            (swap("g 2 a b", "g 3 a b"), Some(4)),
            (swap("g 2 a b", "g 0 a b"), Some(4)),
            (swap("g 2 a b", "g 02 a b"), Some(4)),
            (swap("g 2 a b", "g +2 a b"), Some(4)),
            (swap("g 2 a b", "g most a b"), Some(4)),
            (swap("g 2 a b", "g all"), Some(4)),
            (swap("g 2 a b", "g any"), Some(4)),
            (swap("g 2 a b", "g 2 a a"), Some(4)),
            (swap("g 2 a b", "g 1 a none"), Some(4)),
            (swap("g 2 a b", "g 1 a g"), Some(4)),
            (swap("g 2 a b", "a 1 b"), Some(4)),
            (swap("quorum", "group h 1 a\nquorum"), Some(5)),
            (swap("quorum g", "quorum h"), Some(5)),
            (swap("quorum g", "quorum"), Some(5)),
            (swap("quorum g", "quorum g g"), Some(5)),
            (swap("quorum g\n", "quorum g"), Some(5)),
            (swap("quorum g", "quorum g\nquorum none"), Some(6)),
            (swap("a ", "a\r "), Some(2)),
            (swap("quorum g\n", ""), None),
            (swap(&format!("log {log}\n"), ""), None),
            (" ".repeat(MAX_POLICY_BYTES + 1), None),
            (String::new(), None),
        ] {
            assert_ne!(text, good);
            match text.parse::<Policy>() {
                Err(InvalidPolicy::Line { line: found, .. }) => assert_eq!(Some(found), line, "{text}"),
                Err(InvalidPolicy::Whole(_)) => assert_eq!(line, None, "{text}"),
                Ok(_) => panic!("accepted: {text}"),
            }
        }
    }

    #[test]
    fn policies_have_bounds() {
        let key = |seed: usize| {
            let seed = sha256(&seed.to_be_bytes());
            *SigningKey::from_bytes(seed.as_bytes()).verifying_key().as_bytes()
        };
        let witnesses = |count: usize| -> String {
            (0..count)
                .map(|n| format!("witness {n} {}\n", Cosigner::new("w", &key(n)).unwrap()))
                .collect::<String>()
        };
        let rest = format!("log {}\nquorum none\n", log(1).public());
        assert!((witnesses(MAX_POLICY_NAMES) + &rest).parse::<Policy>().is_ok());
        assert!((witnesses(MAX_POLICY_NAMES + 1) + &rest).parse::<Policy>().is_err());
        let logs = |count: usize| -> String {
            let signer =
                |n: usize| LogSigner::from_bytes(Origin::new("l").unwrap(), &sha256(&n.to_be_bytes()).0);
            (0..count).map(|n| format!("log {}\n", signer(n).public())).collect::<String>() + "quorum none\n"
        };
        assert!(logs(MAX_POLICY_LOGS).parse::<Policy>().is_ok());
        assert!(logs(MAX_POLICY_LOGS + 1).parse::<Policy>().is_err());
    }

    #[test]
    fn thresholds_that_cannot_be_met_are_refused() {
        for threshold in [0, 2] {
            let organisation = ("v".to_owned(), threshold, vec![witness("v/n", 10)]);
            assert!(Policy::of(log(1).public(), [organisation]).is_err());
        }
        assert!(Policy::of(log(1).public(), []).is_err());
        let same = || ("v".to_owned(), 1, vec![witness("v/n", 10)]);
        assert!(Policy::of(log(1).public(), [same(), same()]).is_err());
    }
}
