//! Approvals and refusals: a text that a custodian reads and signs with an SSH key, and the signature directly after it.
//!
//! ```text
//! rutli approval v1                        rutli refusal v1
//! release: <release id>                    release: <release id>
//! statement: sha256:<64 digits>            statement: sha256:<64 digits>
//! -----BEGIN SSH SIGNATURE-----            product: <product>
//! …                                        file: sha256:<64 digits>      (1 to 5,000 lines, ascending)
//!                                          reason: <one printable line of 1 to 500 bytes>
//!                                          -----BEGIN SSH SIGNATURE-----
//!                                          …
//! ```
//!
//! The statement's digest is the SHA-256 of the release's statement, a file's that of its content. An approval is about one
//! statement. A refusal is about product and files: any release of that product with one of them, whatever else it says. Every line ends with a line feed. There is one spelling of the text, and
//! one of the signature: that of `ssh-keygen`, version 1, nothing in its reserved field (OpenSSH's PROTOCOL.sshsig). So stock tools
//! make the same bytes as `rutli` does:
//!
//! ```text
//! ssh-keygen -Y sign -n approval@rutli -f KEY FILE && cat FILE FILE.sig
//! ```

use std::collections::BTreeSet;

use rutli_release::{Product, ReleaseId};
use ssh_key::{LineEnding, SshSig};

use crate::{
    document::NotEvidence,
    fact::Refused,
    limits::{MAX_REASON_BYTES, MAX_SSH_SIGNATURE_BYTES, MAX_SUBJECTS},
    words::is_printable,
};

/// The SSHSIG namespace that approvals are signed in.
pub const APPROVAL_NAMESPACE: &str = "approval@rutli";

/// The SSHSIG namespace that refusals are signed in.
pub const REFUSAL_NAMESPACE: &str = "refusal@rutli";

/// How every text begins.
pub(crate) const BEGIN: &[u8] = b"rutli ";

const APPROVAL: &str = "rutli approval v1\n";
const REFUSAL: &str = "rutli refusal v1\n";
const ARMOR: &str = "-----BEGIN SSH SIGNATURE-----\n";

/// The text that a custodian signs in the namespace [`APPROVAL_NAMESPACE`] to approve a release. `statement_sha256` is the SHA-256
/// of the release's statement.
#[must_use]
pub fn approval_text(release: &ReleaseId, statement_sha256: &[u8; 32]) -> String {
    format!("{APPROVAL}{}", subject_lines(release, statement_sha256))
}

/// The text that a custodian signs in the namespace [`REFUSAL_NAMESPACE`] to refuse a release, and every other release of its
/// product with one of these files.
///
/// # Errors
/// [`InvalidRefusal`] if there are no files or too many, or `reason` is not 1 to 500 bytes of printable text on one line.
pub fn refusal_text(release: &ReleaseId, refused: &Refused, reason: &str) -> Result<String, InvalidRefusal> {
    check_reason(reason)?;
    if !(1..=MAX_SUBJECTS).contains(&refused.files.len()) {
        return Err(InvalidRefusal::Files { count: refused.files.len() });
    }
    let files: String =
        refused.files.iter().map(|file| format!("file: sha256:{}\n", hex::encode(file))).collect();
    let subject = subject_lines(release, &refused.statement);
    Ok(format!("{REFUSAL}{subject}product: {}\n{files}reason: {reason}\n", refused.product))
}

/// Whether a reason is valid in a refusal.
///
/// # Errors
/// [`InvalidRefusal::Reason`]
pub fn check_reason(reason: &str) -> Result<(), InvalidRefusal> {
    if reason.len() > MAX_REASON_BYTES || !is_printable(reason) || reason.trim() != reason {
        return Err(InvalidRefusal::Reason);
    }
    Ok(())
}

/// What makes a refusal invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRefusal {
    /// The reason.
    #[error(
        "the reason is not one line of 1 to {MAX_REASON_BYTES} bytes of printable text without white space at its ends: say it in \
         fewer words"
    )]
    Reason,
    /// The files.
    #[error("the refusal names {count} files: name 1 to {MAX_SUBJECTS} of the release")]
    Files {
        /// How many.
        count: usize,
    },
}

/// A signed text whose form is right. The signature is not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedText {
    pub(crate) word: Word,
    pub(crate) release: ReleaseId,
    pub(crate) statement: [u8; 32],
    /// What is signed.
    pub(crate) text: String,
    pub(crate) signature: SshSig,
}

/// What the custodian says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Approval,
    Refusal { refused: Refused, reason: String },
}

impl Word {
    /// The SSHSIG namespace that it must be signed in.
    pub(crate) fn namespace(&self) -> &'static str {
        match self {
            Self::Approval => APPROVAL_NAMESPACE,
            Self::Refusal { .. } => REFUSAL_NAMESPACE,
        }
    }
}

impl SignedText {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NotEvidence> {
        let wrong = |problem| NotEvidence::Text { problem };
        let document = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        let (text, armor) = match document.find(ARMOR).and_then(|at| document.split_at_checked(at)) {
            Some(parts) => parts,
            None => return Err(wrong("no SSH signature follows it")),
        };
        let (word, release, statement) = read(text).map_err(wrong)?;
        Ok(Self { word, release, statement, text: text.to_owned(), signature: signature(armor)? })
    }
}

/// Reads a text: it must be what [`approval_text`] or [`refusal_text`] make of what was read.
fn read(text: &str) -> Result<(Word, ReleaseId, [u8; 32]), &'static str> {
    let refusal = text.starts_with(REFUSAL);
    let rest = text
        .strip_prefix(APPROVAL)
        .or_else(|| text.strip_prefix(REFUSAL))
        .ok_or("it begins with neither `rutli approval v1` nor `rutli refusal v1`")?;
    let mut lines = rest.split('\n').peekable();
    let mut line = |name| lines.next().and_then(|line| line.strip_prefix(name));
    let release = line("release: ").ok_or("its second line is not `release: ` and an id")?;
    let release = ReleaseId::new(release).map_err(|_| "its second line names no release")?;
    let statement = line("statement: sha256:")
        .and_then(digest)
        .ok_or("its third line is not `statement: sha256:` and 64 digits")?;
    let (word, expected) = if refusal {
        let product = line("product: ").and_then(|product| Product::new(product).ok());
        let product = product.ok_or("its fourth line is not `product: ` and a product")?;
        let mut files = BTreeSet::new();
        while let Some(file) = lines.next_if(|line| line.starts_with(FILE)) {
            files.insert(file.strip_prefix(FILE).and_then(digest).ok_or("a file has not 64 digits")?);
        }
        let reason = lines.next().and_then(|line| line.strip_prefix("reason: "));
        let reason = reason.ok_or("no `reason: ` follows its files")?;
        let refused = Refused { statement, product, files };
        let expected = refusal_text(&release, &refused, reason)
            .map_err(|_| "it has not 1 to 5000 files, or its reason is not one printable line")?;
        (Word::Refusal { refused, reason: reason.to_owned() }, expected)
    } else {
        (Word::Approval, approval_text(&release, &statement))
    };
    if text != expected {
        return Err("it has another line, or another spelling of one");
    }
    Ok((word, release, statement))
}

const FILE: &str = "file: sha256:";

fn digest(hex: &str) -> Option<[u8; 32]> {
    hex::decode(hex).ok()?.try_into().ok()
}

fn signature(armor: &str) -> Result<SshSig, NotEvidence> {
    let wrong = |problem: String| NotEvidence::SshSignature { problem };
    if armor.len() > MAX_SSH_SIGNATURE_BYTES {
        return Err(wrong(format!("it has more than {MAX_SSH_SIGNATURE_BYTES} bytes")));
    }
    let signature = SshSig::from_pem(armor).map_err(|error| wrong(error.to_string()))?;
    if signature.version() != SshSig::VERSION {
        return Err(wrong(format!("it is of version {}, not {}", signature.version(), SshSig::VERSION)));
    }
    if !signature.reserved().is_empty() {
        return Err(wrong("its reserved field is not empty".into()));
    }
    if signature.to_pem(LineEnding::LF).ok().as_deref() != Some(armor) {
        return Err(wrong("it is spelt otherwise, or something follows it".into()));
    }
    Ok(signature)
}

fn subject_lines(release: &ReleaseId, statement_sha256: &[u8; 32]) -> String {
    format!("release: {release}\nstatement: sha256:{}\n", hex::encode(statement_sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ReleaseId {
        ReleaseId::new("suite-1.2-0123456789ab").unwrap()
    }

    fn refused() -> Refused {
        let product = Product::new("suite").unwrap();
        Refused { statement: [0xab; 32], product, files: [[2; 32], [1; 32]].into() }
    }

    #[test]
    fn texts_are_exactly_these() {
        let digest = "ab".repeat(32);
        assert_eq!(
            approval_text(&id(), &[0xab; 32]),
            format!("rutli approval v1\nrelease: suite-1.2-0123456789ab\nstatement: sha256:{digest}\n")
        );
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        assert_eq!(
            refusal_text(&id(), &refused(), "not today").unwrap(),
            format!(
                "rutli refusal v1\nrelease: suite-1.2-0123456789ab\nstatement: sha256:{digest}\nproduct: suite\n\
                 file: sha256:{one}\nfile: sha256:{two}\nreason: not today\n"
            )
        );
    }

    #[test]
    fn reasons_are_one_printable_line() {
        for bad in ["", " ", " a", "a ", "a\nb", "a\r", "\u{1b}[31m", "a\u{202e}b", &"x".repeat(501)] {
            assert_eq!(refusal_text(&id(), &refused(), bad), Err(InvalidRefusal::Reason), "{bad:?}");
        }
        assert!(refusal_text(&id(), &refused(), &"x".repeat(500)).is_ok());
        assert!(refusal_text(&id(), &refused(), "Zürich: nein").is_ok());
    }

    #[test]
    fn a_refusal_names_some_files_and_no_more_than_a_release_has() {
        let file = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        let of = |count: usize| Refused { files: (0..count).map(file).collect(), ..refused() };
        for count in [0, MAX_SUBJECTS + 1] {
            assert_eq!(refusal_text(&id(), &of(count), "no"), Err(InvalidRefusal::Files { count }));
        }
        let text = refusal_text(&id(), &of(MAX_SUBJECTS), "no").unwrap();
        assert!(text.len() + 4_096 < crate::limits::MAX_EVIDENCE_BYTES, "{}", text.len());
        assert!(read(&text).is_ok());
    }

    #[test]
    fn texts_have_one_spelling() {
        let approval = approval_text(&id(), &[0xab; 32]);
        let refusal = refusal_text(&id(), &refused(), "no").unwrap();
        assert_eq!(read(&approval).unwrap(), (Word::Approval, id(), [0xab; 32]));
        let word = Word::Refusal { refused: refused(), reason: "no".into() };
        assert_eq!(read(&refusal).unwrap(), (word, id(), [0xab; 32]));
        let (one, two) =
            (format!("file: sha256:{}\n", "01".repeat(32)), format!("file: sha256:{}\n", "02".repeat(32)));
        for bad in [
            String::new(),
            format!("{approval}\n"),
            format!("{approval}reason: x\n"),
            format!("{refusal}\n"),
            format!("{refusal}reason: no\n"),
            format!("{refusal}{one}"),
            approval.trim_end().to_owned(),
            approval.replace('\n', "\r\n"),
            approval.replace("ab\n", "AB\n"),
            approval.replace("ab\n", "a\n"),
            approval.replace("release: ", "release:"),
            approval.replace("release: ", "release:  "),
            approval.replace("v1", "v2"),
            approval.replace("suite", "../suite"),
            approval.replace("sha256:", "sha512:"),
            approval.replace("sha256:", ""),
            refusal.replace("reason: no\n", ""),
            refusal.replace("no\n", "no \n"),
            refusal.replace("no\n", "\n"),
            refusal.replace("refusal", "approval"),
            refusal.replace("product: suite\n", ""),
            refusal.replace("product: suite", "product: "),
            refusal.replace("product: suite", "product: a/b"),
            refusal.replace(&format!("{one}{two}"), ""),
            refusal.replace(&one, &format!("{one}{one}")),
            refusal.replace(&format!("{one}{two}"), &format!("{two}{one}")),
            refusal.replace("file: sha256:01", "file: sha256:1"),
            refusal.replace("file: sha256:01", "file: sha512:01"),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }
}
