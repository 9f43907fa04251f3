//! OpenSSH's allowed-signers files: the custodians and their keys (ssh-keygen(1), ALLOWED SIGNERS).

use std::collections::BTreeSet;

use ssh_key::public::KeyData;

use crate::{
    key::SshKey,
    limits::{MAX_SIGNERS, MAX_SIGNERS_BYTES},
    trust::InvalidTrust,
    words::{is_name, quoted},
};

/// One line: a key of a custodian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signer {
    pub(crate) custodian: String,
    /// Where it stands, counted from 1.
    pub(crate) line: usize,
    pub(crate) data: KeyData,
    pub(crate) key: SshKey,
    options: Options,
}

/// Why a key may not be used for a signature although it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAllowed {
    Namespace,
    NotYet { since: u64 },
    Expired { until: u64 },
}

/// What a line restricts its key to. Both times are included, as OpenSSH has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    namespaces: Option<BTreeSet<String>>,
    valid_after: Option<u64>,
    valid_before: Option<u64>,
}

impl Signer {
    /// Whether the line lets the key sign in `namespace` at a time in Unix seconds.
    pub(crate) fn allows(&self, namespace: &str, now_unix: u64) -> Result<(), NotAllowed> {
        let Options { namespaces, valid_after, .. } = &self.options;
        if namespaces.as_ref().is_some_and(|allowed| !allowed.contains(namespace)) {
            return Err(NotAllowed::Namespace);
        }
        if let Some(since) = valid_after.filter(|since| now_unix < *since) {
            return Err(NotAllowed::NotYet { since });
        }
        match self.expired(now_unix) {
            Some(until) => Err(NotAllowed::Expired { until }),
            None => Ok(()),
        }
    }

    /// This line, restricted to what a line of a later file lets the same key sign: `None` if that one is
    /// another custodian's or another key type.
    pub(crate) fn restricted_by(&self, later: &Self) -> Option<Self> {
        if self.key != later.key || self.custodian != later.custodian {
            return None;
        }
        let (one, other) = (&self.options, &later.options);
        let namespaces = match (&one.namespaces, &other.namespaces) {
            (Some(one), Some(other)) => Some(one.intersection(other).cloned().collect()),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        let options = Options {
            namespaces,
            valid_after: one.valid_after.max(other.valid_after),
            valid_before: [one.valid_before, other.valid_before].into_iter().flatten().min(),
        };
        Some(Self { options, ..self.clone() })
    }

    /// Its `valid-before`, if that is past at a time in Unix seconds.
    pub(crate) fn expired(&self, now_unix: u64) -> Option<u64> {
        self.options.valid_before.filter(|until| now_unix > *until)
    }
}

pub(crate) fn parse(text: &str) -> Result<Vec<Signer>, InvalidTrust> {
    if text.len() > MAX_SIGNERS_BYTES {
        return Err(InvalidTrust::Signers { problem: format!("it has more than {MAX_SIGNERS_BYTES} bytes") });
    }
    let mut signers: Vec<Signer> = Vec::new();
    for (number, line) in (1_usize..).zip(text.lines()) {
        let line = line.trim_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem| InvalidTrust::SignersLine { line: number, problem };
        let signer = parse_line(number, line).map_err(wrong)?;
        if let Some(other) = signers.iter().find(|other| other.key.point() == signer.key.point()) {
            return Err(wrong(repeated(other, &signer)));
        }
        signers.push(signer);
        if signers.len() > MAX_SIGNERS {
            return Err(wrong(format!(
                "there are more than {MAX_SIGNERS} keys: remove those that are not used"
            )));
        }
    }
    Ok(signers)
}

/// One key counts for one custodian, with one set of options. This includes other key types, applications and
/// encodings of it, because one secret signs for all of them.
fn repeated(other: &Signer, signer: &Signer) -> String {
    if other.custodian == signer.custodian {
        return format!("the same key stands on line {} already: keep one of the lines", other.line);
    }
    format!(
        "the same key stands on line {} for {}: one person with it would count for two; give each custodian a key",
        other.line, other.custodian
    )
}

fn parse_line(number: usize, line: &str) -> Result<Signer, String> {
    if line.chars().any(|character| character.is_control() && character != '\t') {
        return Err("it has a control character".into());
    }
    let (principal, rest) = line.split_once(BLANK).ok_or(WANTED)?;
    if !is_name(principal) {
        return Err(format!(
            "{} is no custodian's name: want one name, not a list or pattern, of 1 to 64 of A-Z a-z 0-9 . _ @ + -",
            quoted(principal)
        ));
    }
    let rest = rest.trim_start_matches(BLANK);
    let (options, key) = match is_key(rest) {
        true => ("", rest),
        false => split_options(rest)?,
    };
    let options = parse_options(options)?;
    let mut words = key.split(BLANK).filter(|word| !word.is_empty());
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else { return Err(WANTED.into()) };
    if kind.contains("-cert-v0") {
        return Err("it has a certificate, which is not supported: put the custodian's own key there".into());
    }
    let key = ssh_key::PublicKey::from_openssh(&format!("{kind} {base64}"))
        .map_err(|_| format!("it has no SSH public key where one is wanted, but {}", quoted(kind)))?;
    let data = key.key_data().clone();
    Ok(Signer { custodian: principal.to_owned(), line: number, key: SshKey::new(&data)?, data, options })
}

/// Whether a key follows at once: no option begins as key types do.
fn is_key(text: &str) -> bool {
    ["ssh-", "sk-", "ecdsa-"].iter().any(|kind| text.starts_with(kind))
}

/// Splits at the first blank outside quotation marks.
fn split_options(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                let (options, key) = text.split_at_checked(at).ok_or(WANTED)?;
                return Ok((options, key.trim_start_matches(BLANK)));
            }
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    Err(WANTED.into())
}

fn parse_options(mut text: &str) -> Result<Options, String> {
    let mut options = Options::default();
    while !text.is_empty() {
        let (name, rest) =
            text.split_at_checked(text.find(['=', ',']).unwrap_or(text.len())).unwrap_or((text, ""));
        let name = name.to_ascii_lowercase();
        if name == "cert-authority" {
            return Err("`cert-authority` is not supported: list the custodians' own keys".into());
        }
        let known = ["namespaces", "valid-after", "valid-before"].contains(&name.as_str());
        let (value, rest) = match rest.strip_prefix("=\"").and_then(|rest| rest.split_once('"')) {
            Some(parts) if known => parts,
            None if known => return Err(format!("the option {name} has no value in quotation marks")),
            _ => {
                return Err(format!(
                    "{} is no option: want namespaces, valid-after or valid-before",
                    quoted(&name)
                ));
            }
        };
        let first = match name.as_str() {
            "namespaces" => options.namespaces.replace(parse_namespaces(value)?).is_none(),
            "valid-after" => options.valid_after.replace(parse_time(value)?).is_none(),
            _ => options.valid_before.replace(parse_time(value)?).is_none(),
        };
        if !first {
            return Err(format!("it has the option {name} twice"));
        }
        text = match rest.strip_prefix(',') {
            Some("") => return Err("its options end with a comma".into()),
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return Err(format!("a comma is wanted between options, not {}", quoted(rest))),
        };
    }
    if options.valid_after.zip(options.valid_before).is_some_and(|(after, before)| before <= after) {
        return Err("its valid-before is not after its valid-after".into());
    }
    Ok(options)
}

fn parse_namespaces(value: &str) -> Result<BTreeSet<String>, String> {
    let names: BTreeSet<String> = value.split(',').map(str::to_owned).collect();
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!(
            "{} is no namespace: want names between commas; patterns are not supported",
            quoted(name)
        )),
        None => Ok(names),
    }
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`, in Unix seconds.
fn parse_time(value: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{} is no time: want YYYYMMDDZ or YYYYMMDDHHMM[SS]Z, with the Z for UTC, since this machine's time zone is \
             not known here",
            quoted(value)
        )
    };
    let digits = value.strip_suffix('Z').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let digits = digits.filter(|digits| matches!(digits.len(), 8 | 12 | 14)).ok_or_else(wrong)?;
    let time =
        jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", format!("{digits:0<14}")).map_err(|_| wrong())?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
    u64::try_from(time.timestamp().as_second()).map_err(|_| wrong())
}

const BLANK: [char; 2] = [' ', '\t'];

const WANTED: &str = "want `custodian [options] key-type key [comment]`";
