//! Making attestations: in-toto Statements v1 as canonical JSON (RFC 8785), and DSSE envelopes around them.
//!
//! Fields are declared in the order of their names, so that what is written is canonical whatever a serialiser is set to.
//! Signatures are Ed25519, which needs no randomness.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, pkcs8::DecodePrivateKey as _};
use rutli_release::{PAYLOAD_TYPE, ReleaseKey, Timestamp};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    document::{Evidence, NotEvidence},
    fact::SourceDigest,
    limits::MAX_KEY_FILE_BYTES,
    statement::{self, PROVENANCE, STATEMENT, TEST_RESULT},
    words::{is_printable, quoted},
};

/// A file by name and digest: an artifact that is attested, or the configuration of a test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct File {
    /// For artifacts the name that the release gives it.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
    /// Its other digests, where they are to be named too: for formats that sign one of them.
    pub others: Option<OtherDigests>,
}

/// Digests of a file beside its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OtherDigests {
    /// SHA-512 of its content.
    pub sha512: [u8; 64],
    /// BLAKE2b of its content, with 64 bytes of output.
    pub blake2b: [u8; 64],
}

/// A build or rebuild, for [`provenance_statement`]. See SLSA provenance v1 for what the fields mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// `runDetails.builder.id`: whose word it is.
    pub builder_id: String,
    /// `buildDefinition.buildType`: an address that says how to read the parameters.
    pub build_type: String,
    /// `buildDefinition.externalParameters`, such as the command. Names are printable ASCII.
    pub parameters: BTreeMap<String, String>,
    /// Where the source is.
    pub source_uri: Option<String>,
    /// Which source it is.
    pub source_digest: SourceDigest,
    /// `runDetails.metadata.invocationId`.
    pub invocation_id: Option<String>,
    /// When it began, in Unix seconds.
    pub started_at: Option<u64>,
    /// When it was done, in Unix seconds.
    pub finished_at: Option<u64>,
}

/// A test run, for [`test_statement`]. Its result is `FAILED` if any test failed, else `WARNED` if any passed with a warning only,
/// else `PASSED`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRun {
    /// What configured it. Their names count as passed if the run did.
    pub configurations: Vec<File>,
    /// The names of tests that passed.
    pub passed: BTreeSet<String>,
    /// The names of tests that passed with a warning.
    pub warned: BTreeSet<String>,
    /// The names of tests that failed.
    pub failed: BTreeSet<String>,
    /// Where to read about it.
    pub url: Option<String>,
}

/// Why an attestation cannot be made. The caller's mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotMade {
    /// What would come out is no evidence: too large, or with a field that is not printable or too long.
    #[error("the attestation would not be accepted: {0}")]
    NotEvidence(#[from] NotEvidence),
    /// The name of a parameter whose place in canonical JSON readers could differ about.
    #[error("the parameter {name} cannot be recorded: its name must be printable ASCII")]
    Parameter {
        /// Which one, cut and escaped.
        name: String,
    },
    /// A bug.
    #[error("the attestation could not be encoded: {0}; please report this")]
    Encoding(String),
}

/// An SLSA provenance v1 about files that were built or built again: an in-toto Statement for [`sign_dsse`].
///
/// # Errors
/// [`NotMade`]
pub fn provenance_statement(subjects: &[File], build: &Build) -> Result<Vec<u8>, NotMade> {
    if let Some(name) = build.parameters.keys().find(|name| !name.is_ascii() || !is_printable(name)) {
        return Err(NotMade::Parameter { name: quoted(name) });
    }
    let time = |seconds: Option<u64>| seconds.map(|seconds| Timestamp(seconds).rfc3339());
    let digest = &build.source_digest;
    encode(
        subjects,
        PROVENANCE,
        ProvenanceOut {
            build_definition: DefinitionOut {
                build_type: &build.build_type,
                external_parameters: &build.parameters,
                resolved_dependencies: [ResourceOut {
                    digest: BTreeMap::from([(digest.algorithm(), digest.hex())]),
                    name: "source",
                    uri: build.source_uri.as_deref(),
                }],
            },
            run_details: RunOut {
                builder: BuilderOut { id: &build.builder_id },
                metadata: MetadataOut {
                    finished_on: time(build.finished_at),
                    invocation_id: build.invocation_id.as_deref(),
                    started_on: time(build.started_at),
                },
            },
        },
    )
}

/// An in-toto test result v0.1 about files that were tested: an in-toto Statement for [`sign_dsse`].
///
/// # Errors
/// [`NotMade`]
pub fn test_statement(subjects: &[File], run: &TestRun) -> Result<Vec<u8>, NotMade> {
    let result = match (run.failed.is_empty(), run.warned.is_empty()) {
        (false, _) => "FAILED",
        (true, false) => "WARNED",
        (true, true) => "PASSED",
    };
    encode(
        subjects,
        TEST_RESULT,
        TestsOut {
            configuration: run.configurations.iter().map(file).collect(),
            failed_tests: &run.failed,
            passed_tests: &run.passed,
            result,
            url: run.url.as_deref(),
            warned_tests: &run.warned,
        },
    )
}

/// Signs a statement: a DSSE envelope, which is a piece of [`Evidence`].
///
/// # Errors
/// [`NotMade::NotEvidence`] if `statement` is none of a known type, or too large.
pub fn sign_dsse(statement: &[u8], signer: &AttestationSigner) -> Result<Vec<u8>, NotMade> {
    let signature = signer.secret.sign(&rutli_release::pae(PAYLOAD_TYPE, statement));
    let envelope = json(&EnvelopeOut {
        payload: STANDARD.encode(statement),
        payload_type: PAYLOAD_TYPE,
        signatures: [SignatureOut {
            keyid: signer.public.key_id(),
            sig: STANDARD.encode(signature.to_bytes()),
        }],
    })?;
    Evidence::parse(&envelope)?;
    Ok(envelope)
}

/// A secret key for attestations: Ed25519. Overwritten when dropped, and never shown.
pub struct AttestationSigner {
    secret: SigningKey,
    public: ReleaseKey,
}

/// Why a file gives no key to sign attestations with. The operator's mistake. Nothing of the file is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSigner {
    /// Behind a passphrase.
    #[error(
        "the key is encrypted: decrypt a copy of it first, with `{hint}`, and keep that where only the signer reads it"
    )]
    Encrypted {
        /// The command that does it.
        hint: &'static str,
    },
    /// A secret key for another algorithm.
    #[error(
        "the key is not an Ed25519 key: make one with `openssl genpkey -algorithm ed25519` or `ssh-keygen -t ed25519 -N ''`"
    )]
    NotEd25519,
    /// No secret key.
    #[error(
        "the file is no secret key: want PKCS #8 in PEM (`-----BEGIN PRIVATE KEY-----`), as `openssl genpkey -algorithm ed25519` \
         writes it, or OpenSSH's (`-----BEGIN OPENSSH PRIVATE KEY-----`)"
    )]
    NotAKey,
}

impl AttestationSigner {
    /// Reads the content of a key file: PKCS #8 in PEM, as OpenSSL writes it, or OpenSSH's own format. Not encrypted.
    ///
    /// # Errors
    /// [`InvalidSigner`]
    pub fn from_private_key(text: &str) -> Result<Self, InvalidSigner> {
        if text.len() > MAX_KEY_FILE_BYTES {
            return Err(InvalidSigner::NotAKey);
        }
        let secret = match text.trim_start().lines().next().map(str::trim_end) {
            Some("-----BEGIN ENCRYPTED PRIVATE KEY-----") => {
                return Err(InvalidSigner::Encrypted { hint: "openssl pkey -in FILE -out COPY" });
            }
            Some("-----BEGIN PRIVATE KEY-----") => {
                SigningKey::from_pkcs8_pem(text.trim_start()).map_err(|_| InvalidSigner::NotEd25519)?
            }
            Some("-----BEGIN OPENSSH PRIVATE KEY-----") => from_openssh(text.trim_start())?,
            _ => return Err(InvalidSigner::NotAKey),
        };
        let public = ReleaseKey::from_bytes(secret.verifying_key().as_bytes());
        Ok(Self { public: public.map_err(|_| InvalidSigner::NotAKey)?, secret })
    }

    /// The public half in PEM (SPKI), for [`AttestationKey`](crate::AttestationKey)s.
    #[must_use]
    pub fn public_pem(&self) -> String {
        self.public.to_pem()
    }
}

impl fmt::Debug for AttestationSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttestationSigner({})", self.public.key_id())
    }
}

fn from_openssh(text: &str) -> Result<SigningKey, InvalidSigner> {
    let key = ssh_key::PrivateKey::from_openssh(text).map_err(|_| InvalidSigner::NotAKey)?;
    if key.is_encrypted() {
        return Err(InvalidSigner::Encrypted { hint: "ssh-keygen -p -N '' -f COPY" });
    }
    let pair = key.key_data().ed25519().ok_or(InvalidSigner::NotEd25519)?;
    Ok(SigningKey::from_bytes(&Zeroizing::new(pair.private.to_bytes())))
}

/// Encodes a statement, and reads it back, so that none is signed that nobody would take.
fn encode<P: Serialize>(
    subjects: &[File],
    predicate_type: &'static str,
    predicate: P,
) -> Result<Vec<u8>, NotMade> {
    let subject = subjects.iter().map(file).collect();
    let payload = json(&StatementOut { statement_type: STATEMENT, predicate, predicate_type, subject })?;
    statement::parse(&payload)?;
    Ok(payload)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, NotMade> {
    serde_json::to_vec(value).map_err(|error| NotMade::Encoding(error.to_string()))
}

fn file(file: &File) -> FileOut<'_> {
    let mut digest = BTreeMap::from([("sha256", hex::encode(file.sha256))]);
    if let Some(OtherDigests { sha512, blake2b }) = &file.others {
        digest.insert("sha512", hex::encode(sha512));
        digest.insert("blake2b", hex::encode(blake2b));
    }
    FileOut { digest, name: &file.name }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvelopeOut {
    payload: String,
    payload_type: &'static str,
    signatures: [SignatureOut; 1],
}

#[derive(Serialize)]
struct SignatureOut {
    keyid: String,
    sig: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatementOut<'a, P> {
    #[serde(rename = "_type")]
    statement_type: &'static str,
    predicate: P,
    predicate_type: &'static str,
    subject: Vec<FileOut<'a>>,
}

#[derive(Serialize)]
struct FileOut<'a> {
    digest: BTreeMap<&'static str, String>,
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProvenanceOut<'a> {
    build_definition: DefinitionOut<'a>,
    run_details: RunOut<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DefinitionOut<'a> {
    build_type: &'a str,
    external_parameters: &'a BTreeMap<String, String>,
    resolved_dependencies: [ResourceOut<'a>; 1],
}

#[derive(Serialize)]
struct ResourceOut<'a> {
    digest: BTreeMap<&'static str, String>,
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<&'a str>,
}

#[derive(Serialize)]
struct RunOut<'a> {
    builder: BuilderOut<'a>,
    metadata: MetadataOut<'a>,
}

#[derive(Serialize)]
struct BuilderOut<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_on: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TestsOut<'a> {
    configuration: Vec<FileOut<'a>>,
    failed_tests: &'a BTreeSet<String>,
    passed_tests: &'a BTreeSet<String>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    warned_tests: &'a BTreeSet<String>,
}
