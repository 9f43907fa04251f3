//! Whom one custodian trusts, from the contents of the files that say so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rutli_release::Timestamp;

use crate::{
    key::PublicKey,
    limits::{MAX_ATTESTATION_KEYS, MAX_IDS, MAX_TEXT_BYTES},
    signers::{self, Signer},
    words::{is_name, is_printable, quoted},
};

/// What the holder of an attestation key is trusted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Builds releases: its provenance is [`Established::Provenance`](crate::Established::Provenance).
    Builder,
    /// Builds releases again: its provenance is [`Established::Rebuild`](crate::Established::Rebuild).
    Rebuilder,
    /// Tests releases.
    Tester,
    /// Reviews sources.
    Reviewer,
}

/// A key for attestations, as a custodian's configuration names it. Nothing about it is checked before [`Trust::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestationKey {
    /// What facts call it: 1 to 64 of `A-Z a-z 0-9 . _ @ + -`.
    pub name: String,
    /// What it is trusted for. A key with several roles is given several times, under the same name.
    pub role: Role,
    /// The content of its file: Ed25519 or ECDSA P-256 in PEM (SPKI), or an OpenSSH line `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// For whom it may speak. For builders and rebuilders the `builder.id`s, at least one. For reviewers the `verifier.id`s; none
    /// means any. For testers none.
    pub ids: Vec<String>,
}

/// Whom one custodian trusts. A key that is not in it, or not any more, establishes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    pub(crate) keys: Vec<TrustedKey>,
    pub(crate) signers: Vec<Signer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrustedKey {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) key: PublicKey,
    pub(crate) ids: BTreeSet<String>,
}

/// Why files say of nobody that he is trusted. The custodian's mistake: correct the file and load it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTrust {
    /// More keys than are verified with in bearable time.
    #[error(
        "there are {count} attestation keys: at most {MAX_ATTESTATION_KEYS} may be trusted; remove those that are not used"
    )]
    TooManyKeys {
        /// How many.
        count: usize,
    },
    /// A key has a name that facts and policies cannot use.
    #[error("the attestation key {name}: a name has 1 to 64 of A-Z a-z 0-9 . _ @ + -; rename it")]
    Name {
        /// Which one, cut and escaped.
        name: String,
    },
    /// A key that cannot be used.
    #[error("the {role}'s key {name}: {problem}")]
    Key {
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
        /// What is wrong with it, and what is wanted.
        problem: String,
    },
    /// The identifiers that a key may speak for do not fit its role.
    #[error("the {role}'s key {name}: {problem}")]
    Ids {
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
        /// What is wrong with them, and what is wanted.
        problem: String,
    },
    /// One name for two keys, one key under two names, or the same entry twice.
    #[error(
        "the {role}'s key {name}: {problem}; give each key one name, and name it once for each of its roles"
    )]
    Repeated {
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
        /// What it collides with.
        problem: String,
    },
    /// One key both as builder and as rebuilder: a rebuild shows something only if somebody else made it.
    #[error(
        "the key {name} is both a builder's and a rebuilder's, so that its rebuilds would be its own word again: give the rebuilder a \
         key of its own"
    )]
    BuilderIsRebuilder {
        /// Its name.
        name: String,
    },
    /// The allowed-signers file is too large.
    #[error("the allowed-signers file: {problem}")]
    Signers {
        /// What is wrong with it, and what is wanted.
        problem: String,
    },
    /// A line of the allowed-signers file.
    #[error("line {line} of the allowed-signers file: {problem}")]
    SignersLine {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it, and what is wanted.
        problem: String,
    },
}

impl Trust {
    /// Whom a custodian trusts: `keys` for attestations, and the custodians whose approvals and refusals count, as the text of an OpenSSH
    /// allowed-signers file (ssh-keygen(1)). A line is `principal [options] key-type key [comment]`. The principal is the
    /// custodian's name; a custodian with several keys has several lines and counts once. Options are `namespaces="…"`,
    /// `valid-after="…"` and `valid-before="…"`, both times included. Narrower than OpenSSH: one principal on a line, no patterns,
    /// no certificates, times in UTC with `Z` at the end (this crate knows no other time zone), and no key twice,
    /// whatever kind of key it is, nor one of `keys`.
    ///
    /// # Errors
    /// [`InvalidTrust`] for the first thing that is wrong.
    pub fn new(keys: Vec<AttestationKey>, allowed_signers: &str) -> Result<Self, InvalidTrust> {
        if keys.len() > MAX_ATTESTATION_KEYS {
            return Err(InvalidTrust::TooManyKeys { count: keys.len() });
        }
        let mut trusted: Vec<TrustedKey> = Vec::with_capacity(keys.len());
        for key in keys {
            let key = trusted_key(key)?;
            check_unique(&trusted, &key)?;
            trusted.push(key);
        }
        let signers = signers::parse(allowed_signers)?;
        check_people(&trusted, &signers)?;
        // A document that is signed for two roles counts for the first.
        trusted.sort_by_key(|key| key.role);
        Ok(Self { keys: trusted, signers })
    }

    /// The part of this trust that a later one keeps: keys in the same role for the ids that both name, and
    /// custodians' keys under the options of both. Only keys that are in both are in it.
    #[must_use]
    pub fn restricted_by(&self, later: &Self) -> Self {
        let of_keys = |key: &TrustedKey| {
            let other = later.keys.iter().find(|other| other.key == key.key && other.role == key.role)?;
            key.restricted_by(other)
        };
        let of_signers = |signer: &Signer| later.signers.iter().find_map(|other| signer.restricted_by(other));
        Self {
            keys: self.keys.iter().filter_map(of_keys).collect(),
            signers: self.signers.iter().filter_map(of_signers).collect(),
        }
    }

    /// The custodians whose approvals and refusals count, in the order of their names.
    #[must_use]
    pub fn custodians(&self) -> BTreeSet<&str> {
        self.signers.iter().map(|signer| signer.custodian.as_str()).collect()
    }

    /// The custodians whose keys have all passed their `valid-before` by a time in Unix seconds, each with the latest of these: what
    /// they say counts no more, whoever waits for it.
    #[must_use]
    pub fn expired_custodians(&self, now_unix: u64) -> BTreeMap<&str, Timestamp> {
        let mut ends: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for signer in &self.signers {
            let end = signer.expired(now_unix);
            let latest = ends.entry(signer.custodian.as_str()).or_insert(end);
            *latest = latest.zip(end).map(|(one, other)| one.max(other));
        }
        ends.into_iter().filter_map(|(name, end)| Some((name, Timestamp(end?)))).collect()
    }

    /// The ids that the keys of builders may speak for.
    #[must_use]
    pub fn builder_ids(&self) -> BTreeSet<&str> {
        let builders = self.keys.iter().filter(|key| key.role == Role::Builder);
        builders.flat_map(|key| key.ids.iter().map(String::as_str)).collect()
    }

    /// The names of the keys for attestations, by role.
    #[must_use]
    pub fn keys(&self) -> BTreeMap<Role, BTreeSet<&str>> {
        let mut names: BTreeMap<Role, BTreeSet<&str>> = BTreeMap::new();
        for key in &self.keys {
            names.entry(key.role).or_default().insert(&key.name);
        }
        names
    }
}

impl TrustedKey {
    /// `None` if no id is left that it may speak for.
    fn restricted_by(&self, later: &Self) -> Option<Self> {
        // A reviewer's key without ids may speak for any.
        let any = |key: &Self| key.role == Role::Reviewer && key.ids.is_empty();
        let ids: BTreeSet<String> = match (any(self), any(later)) {
            (true, _) => later.ids.clone(),
            (_, true) => self.ids.clone(),
            _ => self.ids.intersection(&later.ids).cloned().collect(),
        };
        let speaks = !ids.is_empty() || self.role == Role::Tester || (any(self) && any(later));
        speaks.then(|| Self { ids, ..self.clone() })
    }
}

/// One key is one person: nobody attests and approves with the same key.
fn check_people(keys: &[TrustedKey], signers: &[Signer]) -> Result<(), InvalidTrust> {
    for signer in signers {
        if let Some(key) = keys.iter().find(|key| key.key.point() == signer.key.point()) {
            let problem = format!(
                "the key of {} is the {}'s key {} in the file of attestation keys too: one secret would count for two; give each \
                 of them a key",
                signer.custodian, key.role, key.name
            );
            return Err(InvalidTrust::SignersLine { line: signer.line, problem });
        }
    }
    Ok(())
}

fn trusted_key(key: AttestationKey) -> Result<TrustedKey, InvalidTrust> {
    let AttestationKey { name, role, public_key, ids } = key;
    if !is_name(&name) {
        return Err(InvalidTrust::Name { name: quoted(&name) });
    }
    let key = PublicKey::parse(&public_key).map_err(|problem| InvalidTrust::Key {
        name: name.clone(),
        role,
        problem,
    })?;
    let wrong = |problem: String| InvalidTrust::Ids { name: name.clone(), role, problem };
    match (role, ids.len()) {
        (Role::Builder | Role::Rebuilder, 0) => {
            return Err(wrong("name at least one builder.id that it may speak for".into()));
        }
        (Role::Tester, 1..) => return Err(wrong("a tester speaks for no builder.id: remove them".into())),
        (_, count) if count > MAX_IDS => {
            return Err(wrong(format!("it has more than {MAX_IDS} ids: remove some")));
        }
        _ => {}
    }
    if let Some(id) = ids.iter().find(|id| id.len() > MAX_TEXT_BYTES || !is_printable(id)) {
        return Err(wrong(format!(
            "{} is no id: want 1 to {MAX_TEXT_BYTES} bytes of printable text",
            quoted(id)
        )));
    }
    Ok(TrustedKey { name, role, key, ids: ids.into_iter().collect() })
}

fn check_unique(others: &[TrustedKey], key: &TrustedKey) -> Result<(), InvalidTrust> {
    let repeated =
        |problem: String| InvalidTrust::Repeated { name: key.name.clone(), role: key.role, problem };
    for other in others {
        let same_key = other.key.point() == key.key.point();
        if same_key != (other.name == key.name) {
            return Err(repeated(match same_key {
                true => format!("the {}'s key {} is the same key", other.role, other.name),
                false => format!("the {}'s key of this name is another key", other.role),
            }));
        }
        if same_key && other.role == key.role {
            return Err(repeated("it is there twice".into()));
        }
        if same_key
            && other.role.max(key.role) == Role::Rebuilder
            && other.role.min(key.role) == Role::Builder
        {
            return Err(InvalidTrust::BuilderIsRebuilder { name: key.name.clone() });
        }
    }
    Ok(())
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Builder => "builder",
            Self::Rebuilder => "rebuilder",
            Self::Tester => "tester",
            Self::Reviewer => "reviewer",
        })
    }
}
