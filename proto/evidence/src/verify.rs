//! What a piece of evidence establishes about a release: one straight function for each kind of document.

use std::collections::{BTreeMap, BTreeSet};

use rutli_release::{ReleaseId, Timestamp, VerifiedRelease};
use sha2::{Digest, Sha256};
use ssh_key::HashAlg;

use crate::{
    document::{Content, Evidence},
    envelope::Envelope,
    fact::{BuildFact, Established},
    key::BadSignature,
    signers::NotAllowed,
    statement::{Predicate, Provenance, Review, ReviewResult, Subject, TestResult, Tests},
    text::{SignedText, Word},
    trust::{Role, Trust, TrustedKey},
    words::quoted,
};

/// Why a piece of evidence establishes nothing about this release, by these keys, now. In words for the custodian. With other keys, at
/// another time or for another release it may establish something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEstablished {
    /// No signature verifies under a key that is trusted at all. A foreign key, a removed one, or bytes that were changed.
    #[error(
        "no signature of it verifies under a key that you trust as {wanted}: have it signed by one, or add its key to those that you \
         trust"
    )]
    Untrusted {
        /// Which roles would do.
        wanted: &'static str,
    },
    /// Signed by somebody who is trusted for something else.
    #[error(
        "it is signed by {key}, whom you trust as {role}, but it must be signed by a {wanted}: ask one for it"
    )]
    WrongRole {
        /// The name of the key.
        key: String,
        /// What it is trusted for.
        role: Role,
        /// Which roles would do.
        wanted: &'static str,
    },
    /// Signed by the right key, in the name of somebody for whom it may not speak.
    #[error(
        "{key} signed it in the name of {id}, for whom you do not let that key speak: if that is right, add the id to the key"
    )]
    UntrustedId {
        /// The name of the key.
        key: String,
        /// `builder.id` or `verifier.id`, cut and escaped.
        id: String,
    },
    /// A digest that is to be signed for a file of the release is not among the subjects.
    #[error(
        "it does not name the {algorithm} digest of {file}, nor of {more} more files of the release: attest all of them together, with \
         every digest that the release has"
    )]
    SubjectMissing {
        /// The first such file, cut and escaped.
        file: String,
        /// The first such digest, by in-toto's name of the algorithm.
        algorithm: &'static str,
        /// How many more files there are.
        more: usize,
    },
    /// A file of the release is another one there.
    #[error(
        "it contradicts the release: {file} has the {algorithm} digest {release} in the release, and {evidence} in the evidence. One of \
         them is not what was built: find out which before anybody signs"
    )]
    SubjectContradicts {
        /// Which file, cut and escaped.
        file: String,
        /// In-toto's name of the algorithm.
        algorithm: &'static str,
        /// Its digest in the release.
        release: String,
        /// Its digest in the evidence.
        evidence: String,
    },
    /// The document has two digests of one algorithm for a file of the release.
    #[error(
        "it contradicts itself: {file} has two {algorithm} digests in it, so nobody can tell which file it is about; attest the files \
         again, each once"
    )]
    SubjectRepeated {
        /// Which file, cut and escaped.
        file: String,
        /// The algorithm, cut and escaped.
        algorithm: String,
    },
    /// The test run as a whole did not pass.
    #[error("the test run did not pass: its result is {result}; correct what it found, and test again")]
    TestsNotPassed {
        /// `WARNED` or `FAILED`.
        result: &'static str,
    },
    /// The test run says that it passed, and that something failed.
    #[error(
        "the test run failed in {first} and {more} more tests, whatever its result says: correct that, and test again"
    )]
    TestsFailed {
        /// The first test that failed, cut and escaped.
        first: String,
        /// How many more there are.
        more: usize,
    },
    /// The review did not pass.
    #[error("the review did not pass: its result is FAILED; speak to the reviewer")]
    ReviewNotPassed,
    /// The review is about more than one thing, or about something without a digest.
    #[error(
        "the review has {count} subjects, and must have exactly one, the source, with a sha256 or gitCommit digest: review one source \
         at a time"
    )]
    ReviewSubject {
        /// How many.
        count: usize,
    },
    /// Signed in another namespace: the custodian meant something else by it.
    #[error(
        "it is signed in the SSH namespace {found}, not in {wanted}: sign again, with `ssh-keygen -Y sign -n {wanted}`"
    )]
    Namespace {
        /// Which one, cut and escaped.
        found: String,
        /// The right one.
        wanted: &'static str,
    },
    /// About another release.
    #[error("it is about the release {found}, not about {wanted}: sign the text of this release")]
    OtherRelease {
        /// Which one.
        found: String,
        /// The right one.
        wanted: String,
    },
    /// About the same release id, but another content.
    #[error(
        "it is about a release of this name with another statement: sha256:{found}, not sha256:{wanted}. Look at the release again \
         (`rutli review`), and sign the text of this one"
    )]
    OtherStatement {
        /// The digest in the text.
        found: String,
        /// That of the release.
        wanted: String,
    },
    /// A refusal of another product, or of files that this release does not have.
    #[error("it refuses files of {found} that this release does not have: it is about another release")]
    OtherFiles {
        /// Which product.
        found: String,
    },
    /// Signed by a key that is not in the allowed-signers file, or not any more.
    #[error(
        "it is signed by the SSH key {fingerprint}, which is no custodian's in your allowed-signers file: add it there if it is one's"
    )]
    UnknownSigner {
        /// SHA-256 fingerprint, as `ssh-keygen -l` shows it.
        fingerprint: String,
    },
    /// The key's line does not name the namespace.
    #[error(
        "the key of {custodian} may not sign in {namespace}, by line {line} of your allowed-signers file: add the namespace there if it may"
    )]
    NotForNamespace {
        /// Whose key.
        custodian: String,
        /// Where it stands.
        line: usize,
        /// In which namespace it signed.
        namespace: &'static str,
    },
    /// Too early.
    #[error(
        "the key of {custodian} is valid only from {since}, by line {line} of your allowed-signers file: wait, or use another key"
    )]
    NotYetValid {
        /// Whose key.
        custodian: String,
        /// Where it stands.
        line: usize,
        /// From when on.
        since: String,
    },
    /// Too late.
    #[error(
        "the key of {custodian} was valid until {until}, by line {line} of your allowed-signers file: sign again with another key"
    )]
    Expired {
        /// Whose key.
        custodian: String,
        /// Where it stands.
        line: usize,
        /// Until when.
        until: String,
    },
    /// The signature is not one over this text.
    #[error(
        "the signature does not verify under the key of {custodian} that it names: it was changed or damaged; sign again"
    )]
    BadSignature {
        /// Whose key it names.
        custodian: String,
    },
    /// The authenticator signed without anybody there.
    #[error(
        "the authenticator of {custodian} signed without being touched: use a key that was not made with `no-touch-required`, and \
         touch it"
    )]
    NoPresence {
        /// Whose key.
        custodian: String,
    },
}

impl NotEstablished {
    /// The same in a few words, for those to whom a node says what it did not count: pipelines and other organisations, who can do
    /// nothing about this custodian's files. About 120 bytes, but for names of files and tests.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::Untrusted { wanted } => {
                format!("no signature of it verifies under a key that this node trusts as {wanted}")
            }
            Self::WrongRole { key, role, wanted } => {
                format!("it is signed by {key}, whom this node trusts as {role}: a {wanted} must sign it")
            }
            Self::UntrustedId { key, id } => format!("at this node {key} may not speak for {id}"),
            Self::SubjectMissing { file, algorithm, more } => {
                format!("it does not name the {algorithm} digest of {file} and of {more} more files")
            }
            Self::SubjectContradicts { file, algorithm, .. } => {
                format!("it contradicts the release: another {algorithm} digest for {file}")
            }
            Self::SubjectRepeated { file, algorithm } => {
                format!("it contradicts itself: two {algorithm} digests for {file}")
            }
            Self::TestsNotPassed { result } => format!("the test run did not pass: its result is {result}"),
            Self::TestsFailed { first, more } => {
                format!("the test run failed in {first} and {more} more tests")
            }
            Self::ReviewNotPassed => "the review did not pass".to_owned(),
            Self::ReviewSubject { count } => {
                format!("the review has {count} subjects, not one with a digest")
            }
            Self::Namespace { found, wanted } => {
                format!("it is signed in the SSH namespace {found}, not in {wanted}")
            }
            Self::OtherRelease { found, .. } => format!("it is about the release {found}"),
            Self::OtherStatement { .. } => {
                "it is about a release of this name with another statement".to_owned()
            }
            Self::OtherFiles { found } => {
                format!("it refuses files of {found} that this release does not have")
            }
            Self::UnknownSigner { fingerprint } => {
                format!("it is signed by the SSH key {fingerprint}, no custodian's at this node")
            }
            Self::NotForNamespace { custodian, namespace, .. } => {
                format!("at this node the key of {custodian} may not sign in {namespace}")
            }
            Self::NotYetValid { custodian, since, .. } => {
                format!("at this node the key of {custodian} is valid only from {since}")
            }
            Self::Expired { custodian, until, .. } => {
                format!("at this node the key of {custodian} was valid until {until}")
            }
            Self::BadSignature { custodian } => {
                format!("the signature does not verify under the key of {custodian}")
            }
            Self::NoPresence { custodian } => format!("the authenticator of {custodian} was not touched"),
        }
    }
}

/// What a piece of evidence establishes about a release, for a custodian who trusts these keys, at a time in Unix seconds.
///
/// - An attestation is signed by a key whose role fits it, and in the name of somebody whom that key may speak for. One valid signature
///   is enough; others are passed over, as DSSE has it.
/// - Provenance and test results name every file of the release with every digest that is signed for it, and
///   with no other value of any algorithm, over all subjects of that name. More subjects and more algorithms
///   do no harm. A document that does not comply does not count, and has no other effect: it ends no release.
///   A test run that failed counts as soon as it is about one of the files.
/// - An approval is about the id and the statement of this very release; a refusal about its product and one of its files, whichever
///   release the custodian looked at. Both are signed in their own namespace, by a custodian's key that is valid now. An authenticator
///   was touched for it.
///
/// # Errors
/// [`NotEstablished`] for the first of these that does not hold.
pub fn verify(
    evidence: &Evidence,
    trust: &Trust,
    release: &VerifiedRelease,
    id: &ReleaseId,
    now_unix: u64,
) -> Result<Established, NotEstablished> {
    match &evidence.content {
        Content::Envelope(envelope) => verify_envelope(envelope, trust, release),
        Content::Text(text) => verify_text(text, trust, release, id, now_unix),
    }
}

fn verify_envelope(
    envelope: &Envelope,
    trust: &Trust,
    release: &VerifiedRelease,
) -> Result<Established, NotEstablished> {
    let key = signer(envelope, trust)?;
    let by = key.name.clone();
    let subjects = &envelope.statement.subjects;
    match &envelope.statement.predicate {
        Predicate::Provenance(provenance) => {
            check_subjects(subjects, release)?;
            let fact = build_fact(by, provenance);
            Ok(match key.role {
                Role::Rebuilder => Established::Rebuild(fact),
                _ => Established::Provenance(fact),
            })
        }
        Predicate::Tests(tests) => {
            if tests.result == TestResult::Failed || !tests.failed.is_empty() {
                return failed(by, tests, subjects, release);
            }
            if tests.result == TestResult::Warned {
                return Err(NotEstablished::TestsNotPassed { result: "WARNED" });
            }
            check_subjects(subjects, release)?;
            Ok(Established::Tests { by, passed: tests.passed.clone(), url: tests.url.clone() })
        }
        Predicate::Review(review) => reviewed(by, review, subjects),
    }
}

/// The trusted key that an envelope is signed with, of a role that fits, and that may speak for whom it does.
fn signer<'t>(envelope: &Envelope, trust: &'t Trust) -> Result<&'t TrustedKey, NotEstablished> {
    let (roles, wanted, id): (&[Role], _, _) = match &envelope.statement.predicate {
        Predicate::Provenance(provenance) => {
            (&[Role::Builder, Role::Rebuilder], "builder or rebuilder", Some(&provenance.builder_id))
        }
        Predicate::Tests(_) => (&[Role::Tester], "tester", None),
        Predicate::Review(review) => (&[Role::Reviewer], "reviewer", Some(&review.verifier_id)),
    };
    let signed = |key: &&TrustedKey| {
        envelope.signatures.iter().any(|signature| key.key.verifies(&envelope.signed, signature))
    };
    let (fitting, others): (Vec<_>, Vec<_>) = trust.keys.iter().partition(|key| roles.contains(&key.role));
    let mut refused = None;
    for key in fitting.into_iter().filter(signed) {
        match id {
            Some(id) if !may_speak_for(key, id) => {
                refused.get_or_insert(NotEstablished::UntrustedId { key: key.name.clone(), id: quoted(id) });
            }
            _ => return Ok(key),
        }
    }
    if let Some(refused) = refused {
        return Err(refused);
    }
    // Only to say who it was instead.
    Err(match others.into_iter().find(signed) {
        Some(key) => NotEstablished::WrongRole { key: key.name.clone(), role: key.role, wanted },
        None => NotEstablished::Untrusted { wanted },
    })
}

/// A reviewer's key without ids may speak for any; a builder's always has some.
fn may_speak_for(key: &TrustedKey, id: &str) -> bool {
    key.ids.contains(id) || (key.role == Role::Reviewer && key.ids.is_empty())
}

/// The document gives every signed digest of a file of the release under that name, and no algorithm has a
/// second value for it.
///
/// Digests are collected over **all** subjects of a name: a document that names a file twice claims both, no
/// matter which one a reader would look at first.
fn check_subjects(subjects: &[Subject], release: &VerifiedRelease) -> Result<(), NotEstablished> {
    let mut named: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for subject in subjects {
        let Some(name) = &subject.name else { continue };
        let digests = named.entry(name).or_default();
        for (algorithm, digest) in &subject.digests {
            digests.entry(algorithm).or_default().insert(digest);
        }
    }
    let mut missing = Vec::new();
    for artifact in release.artifacts() {
        let file = artifact.name.as_str();
        let digests = named.remove(file).unwrap_or_default();
        if let Some((algorithm, _)) = digests.iter().find(|(_, values)| values.len() > 1) {
            return Err(NotEstablished::SubjectRepeated { file: quoted(file), algorithm: quoted(algorithm) });
        }
        for (algorithm, digest) in artifact.digests() {
            let digest = hex::encode(digest);
            match digests.get(algorithm).and_then(BTreeSet::first) {
                Some(same) if **same == digest => {}
                Some(other) => {
                    return Err(NotEstablished::SubjectContradicts {
                        file: quoted(file),
                        algorithm,
                        release: digest,
                        evidence: (*other).to_owned(),
                    });
                }
                None => missing.push((file, algorithm)),
            }
        }
    }
    match missing.first() {
        None => Ok(()),
        Some((file, algorithm)) => {
            let files: BTreeSet<&str> = missing.iter().map(|(file, _)| *file).collect();
            Err(NotEstablished::SubjectMissing {
                file: quoted(file),
                algorithm,
                more: files.len().saturating_sub(1),
            })
        }
    }
}

fn build_fact(by: String, provenance: &Provenance) -> BuildFact {
    let Provenance { builder_id, build_type, source_uri, source_digest, invocation_id, finished_at } =
        provenance.clone();
    BuildFact { by, builder_id, build_type, source_uri, source_digest, invocation_id, finished_at }
}

/// A failed run counts if it was about one of the release's files: withdrawing trust needs no more.
fn failed(
    by: String,
    tests: &Tests,
    subjects: &[Subject],
    release: &VerifiedRelease,
) -> Result<Established, NotEstablished> {
    let files: BTreeSet<String> =
        release.artifacts().iter().map(|artifact| hex::encode(artifact.sha256)).collect();
    let is_file = |subject: &Subject| {
        subject.digests.iter().any(|(name, digest)| name == "sha256" && files.contains(digest))
    };
    if subjects.iter().any(is_file) {
        return Ok(Established::TestsFailed { by });
    }
    Err(match tests.failed.first() {
        None => NotEstablished::TestsNotPassed { result: "FAILED" },
        Some(first) => {
            NotEstablished::TestsFailed { first: quoted(first), more: tests.failed.len().saturating_sub(1) }
        }
    })
}

fn reviewed(by: String, review: &Review, subjects: &[Subject]) -> Result<Established, NotEstablished> {
    if review.result != ReviewResult::Passed {
        return Err(NotEstablished::ReviewNotPassed);
    }
    let [Subject { source: Some(source_digest), .. }] = subjects else {
        return Err(NotEstablished::ReviewSubject { count: subjects.len() });
    };
    Ok(Established::Review {
        by,
        verifier_id: review.verifier_id.clone(),
        source_uri: review.resource_uri.clone(),
        source_digest: source_digest.clone(),
        levels: review.levels.clone(),
    })
}

fn verify_text(
    text: &SignedText,
    trust: &Trust,
    release: &VerifiedRelease,
    id: &ReleaseId,
    now_unix: u64,
) -> Result<Established, NotEstablished> {
    check_is_about(text, release, id)?;
    let namespace = text.word.namespace();
    if text.signature.namespace() != namespace {
        return Err(NotEstablished::Namespace {
            found: quoted(text.signature.namespace()),
            wanted: namespace,
        });
    }
    let named = text.signature.public_key();
    let signer = trust.signers.iter().find(|signer| signer.data == *named).ok_or_else(|| {
        NotEstablished::UnknownSigner { fingerprint: named.fingerprint(HashAlg::Sha256).to_string() }
    })?;
    let custodian = signer.custodian.clone();
    let line = signer.line;
    signer.allows(namespace, now_unix).map_err(|error| {
        let custodian = custodian.clone();
        match error {
            NotAllowed::Namespace => NotEstablished::NotForNamespace { custodian, line, namespace },
            NotAllowed::NotYet { since } => {
                NotEstablished::NotYetValid { custodian, line, since: Timestamp(since).rfc3339() }
            }
            NotAllowed::Expired { until } => {
                NotEstablished::Expired { custodian, line, until: Timestamp(until).rfc3339() }
            }
        }
    })?;
    signer.key.verify(namespace, &text.text, &text.signature).map_err(|error| match error {
        BadSignature::Signature => NotEstablished::BadSignature { custodian: custodian.clone() },
        BadSignature::NoPresence => NotEstablished::NoPresence { custodian: custodian.clone() },
    })?;
    Ok(match &text.word {
        Word::Approval => Established::Approval { custodian },
        Word::Refusal { refused, reason } => {
            Established::Refusal { custodian, reason: reason.clone(), refused: refused.clone() }
        }
    })
}

fn check_is_about(
    text: &SignedText,
    release: &VerifiedRelease,
    id: &ReleaseId,
) -> Result<(), NotEstablished> {
    if let Word::Refusal { refused, .. } = &text.word {
        return match refused.is_about(release) {
            true => Ok(()),
            false => Err(NotEstablished::OtherFiles { found: refused.product.to_string() }),
        };
    }
    if text.release != *id {
        return Err(NotEstablished::OtherRelease { found: text.release.to_string(), wanted: id.to_string() });
    }
    let statement: [u8; 32] = Sha256::digest(release.statement()).into();
    if text.statement != statement {
        return Err(NotEstablished::OtherStatement {
            found: hex::encode(text.statement),
            wanted: hex::encode(statement),
        });
    }
    Ok(())
}
