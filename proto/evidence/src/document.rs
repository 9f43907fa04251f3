//! One piece of evidence: which kind of document it is.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{
    envelope::Envelope,
    limits::{MAX_EVIDENCE_BYTES, MAX_SIGNATURES, MAX_SIGNED_BYTES, MAX_SUBJECTS},
    statement::Predicate,
    text::{self, SignedText, Word},
};

/// One piece of evidence about a release: an attestation, an approval or a refusal whose form is right. Nothing about it is verified;
/// [`verify`](crate::verify) does that.
#[derive(Clone, PartialEq, Eq)]
pub struct Evidence {
    bytes: Vec<u8>,
    pub(crate) content: Content,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Envelope(Envelope),
    Text(SignedText),
}

/// What a piece of evidence claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// SLSA provenance v1, of a build or of a rebuild: which one it is, the key says that it is verified with.
    Build,
    /// in-toto test result v0.1.
    Tests,
    /// SLSA verification summary v1, of a review of the source.
    Review,
    /// A custodian's approval.
    Approval,
    /// A custodian's refusal.
    Refusal,
}

/// Why a document is no evidence. Always its sender's mistake: the same document is refused again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEvidence {
    /// Too many bytes.
    #[error(
        "it has {bytes} bytes: a piece of evidence has at most {MAX_EVIDENCE_BYTES}; attest fewer files at once"
    )]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// Neither an envelope nor a signed text.
    #[error(
        "it is neither a DSSE envelope in JSON nor a signed approval or refusal: send an attestation, or what `rutli approve` \
         or `rutli refuse` wrote"
    )]
    NotRecognised,
    /// JSON, but no envelope.
    #[error("it is no DSSE envelope: {0}; make the attestation again")]
    Envelope(String),
    /// An envelope of something else.
    #[error("the envelope's payloadType is {found}: only `application/vnd.in-toto+json` is evidence")]
    PayloadType {
        /// Which one, cut and escaped.
        found: String,
    },
    /// No signature, or more than anybody needs.
    #[error("the envelope has {count} signatures: it must have 1 to {MAX_SIGNATURES}")]
    Signatures {
        /// How many.
        count: usize,
    },
    /// A large statement with more signatures than it may cost to verify.
    #[error(
        "the envelope has {count} signatures over {bytes} bytes, {MAX_SIGNED_BYTES} bytes is the most for all of them together: leave \
         out those of keys that nobody uses any more"
    )]
    Signed {
        /// How many.
        count: usize,
        /// How long the statement is.
        bytes: usize,
    },
    /// Text that is no Base64.
    #[error("the envelope's {what} is no Base64 with padding: make the attestation again")]
    Base64 {
        /// Whether payload or signature.
        what: &'static str,
    },
    /// The payload is no in-toto Statement v1.
    #[error("the payload is no in-toto Statement v1: {0}; make the attestation again")]
    Statement(String),
    /// More subjects than a release has artifacts.
    #[error("the statement has {count} subjects: it must have 1 to {MAX_SUBJECTS}")]
    Subjects {
        /// How many.
        count: usize,
    },
    /// A statement about something that is not known here.
    #[error(
        "the statement is of the type {found}, which is no evidence here: send SLSA provenance v1, an in-toto test result v0.1 \
         or an SLSA verification summary v1"
    )]
    UnknownPredicate {
        /// Which one, cut and escaped.
        found: String,
    },
    /// A statement of a known type that lacks what it must have.
    #[error("the {predicate} in the statement cannot be used: {problem}; make the attestation again")]
    Predicate {
        /// Which one.
        predicate: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An approval or a refusal in another spelling than the one that there is.
    #[error(
        "the signed text is not as `rutli approve` and `rutli refuse` write it: {problem}; sign exactly what they print"
    )]
    Text {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What follows the text is no SSH signature in the spelling of `ssh-keygen`.
    #[error(
        "what follows the text is no SSH signature as `ssh-keygen -Y sign` writes it: {problem}; sign again"
    )]
    SshSignature {
        /// What is wrong with it.
        problem: String,
    },
}

impl Evidence {
    /// Reads a piece of evidence: a DSSE envelope with an in-toto Statement v1 of a known type, or a text of ours with an SSH
    /// signature directly after it. See [the crate](crate) for both.
    ///
    /// # Errors
    /// [`NotEvidence`] for everything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotEvidence> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            return Err(NotEvidence::TooLarge { bytes: bytes.len() });
        }
        let content = if bytes.trim_ascii_start().starts_with(b"{") {
            Content::Envelope(Envelope::parse(bytes)?)
        } else if bytes.starts_with(text::BEGIN) {
            Content::Text(SignedText::parse(bytes)?)
        } else {
            return Err(NotEvidence::NotRecognised);
        };
        Ok(Self { bytes: bytes.to_vec(), content })
    }

    /// The document.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the document: its name in the log and among nodes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Signatures on it, each of which is verified with every key that may have made it.
    #[must_use]
    pub fn signatures(&self) -> usize {
        match &self.content {
            Content::Envelope(envelope) => envelope.signatures.len(),
            Content::Text(_) => 1,
        }
    }

    /// What it claims to be.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.content {
            Content::Envelope(envelope) => match envelope.statement.predicate {
                Predicate::Provenance(_) => Kind::Build,
                Predicate::Tests(_) => Kind::Tests,
                Predicate::Review(_) => Kind::Review,
            },
            Content::Text(text) => match text.word {
                Word::Approval => Kind::Approval,
                Word::Refusal { .. } => Kind::Refusal,
            },
        }
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Evidence({}, sha256:{})", self.kind(), hex::encode(self.digest()))
    }
}

impl Kind {
    /// In words: `build`, `tests`, `review`, `approval`, `refusal`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Tests => "tests",
            Self::Review => "review",
            Self::Approval => "approval",
            Self::Refusal => "refusal",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
