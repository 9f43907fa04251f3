//! From signatures to the files that a pipeline publishes beside its artifacts.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::format::Format;
use crate::key::{ReleaseKey, VerifiedSignature};
use crate::names::ReleaseId;
use crate::release::{Signable, SignableKind, VerifiedRelease};
use crate::{dsse, sshsig};

/// A file to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// The file's name, without a directory. Unique among the files of one release.
    pub name: String,
    /// The file's content.
    pub bytes: Vec<u8>,
}

/// Puts the signatures of a release, in the order of [`VerifiedRelease::signables`], into the files of its formats:
///
/// | format | files |
/// | --- | --- |
/// | [`Format::Dsse`] | `<release id>.intoto.json` |
/// | [`Format::Statement`] | `<release id>.statement` and, 64 bytes, `<release id>.statement.sig` |
/// | [`Format::Sshsig`] | `<file name of the artifact>.sig` for each artifact |
///
/// Every signature is verified before it is written, so that no file comes out that an endpoint would refuse.
///
/// # Errors
/// [`NotAssembled`] if the signatures are not those of this release under this key.
pub fn signed_files(
    release: &VerifiedRelease,
    release_id: &ReleaseId,
    key: &ReleaseKey,
    signatures: &[[u8; 64]],
) -> Result<Vec<SignedFile>, NotAssembled> {
    assemble(release, release_id, key, signatures, |message, signature| {
        key.verify(message, signature).is_ok().then_some(signature)
    })
}

/// The same files of signatures that were verified already: each must have been so under this key and over just the bytes
/// that it is written for.
///
/// # Errors
/// As for [`signed_files`].
pub fn files_of(
    release: &VerifiedRelease,
    release_id: &ReleaseId,
    key: &ReleaseKey,
    signatures: &[VerifiedSignature],
) -> Result<Vec<SignedFile>, NotAssembled> {
    assemble(release, release_id, key, signatures, |message, signature| {
        signature.is_of(key, message).then(|| signature.bytes())
    })
}

/// `checked` gives a signature's bytes if it is one over a message.
fn assemble<'a, S>(
    release: &VerifiedRelease,
    release_id: &ReleaseId,
    key: &ReleaseKey,
    signatures: &'a [S],
    checked: impl Fn(&[u8], &'a S) -> Option<&'a [u8; 64]>,
) -> Result<Vec<SignedFile>, NotAssembled> {
    let expected = release.signable_count();
    if signatures.len() != expected {
        return Err(NotAssembled::SignatureCount { expected, actual: signatures.len() });
    }
    let mut files = Vec::with_capacity(expected.saturating_add(2));
    for (slot, (signable, signature)) in release.signables().into_iter().zip(signatures).enumerate() {
        let signature = checked(&signable.bytes, signature).ok_or(NotAssembled::Signature { slot })?;
        match signable.kind {
            SignableKind::Statement => {
                statement_files(&mut files, release, release_id, key, signable, signature)
            }
            SignableKind::Artifact(index) => {
                // The index is one of this release's own; there is no other.
                if let Some(artifact) = release.artifacts().get(index) {
                    let namespace = release.ssh_namespace().to_string();
                    files.push(SignedFile {
                        name: format!("{}.sig", artifact.name.file_name()),
                        bytes: sshsig::armoured(key, &namespace, signature).into_bytes(),
                    });
                }
            }
        }
    }
    Ok(files)
}

/// Why signatures could not be put into files. The caller's mistake; trying again with the same signatures fails again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAssembled {
    /// There are not as many signatures as the release needs.
    #[error(
        "the release needs {expected} signatures, but there are {actual}: pass one for each of its signables, in order"
    )]
    SignatureCount {
        /// How many it needs.
        expected: usize,
        /// How many there are.
        actual: usize,
    },
    /// A signature does not verify.
    #[error(
        "signature {slot} does not verify: it is over another release, in another place or by another key"
    )]
    Signature {
        /// Its place, counted from 0.
        slot: usize,
    },
}

/// The DSSE envelope of a release, and the signature in it: canonical JSON, whether or not the release asks for the file.
/// `None` if nothing is signed over its statement.
#[must_use]
pub fn dsse_envelope(
    release: &VerifiedRelease,
    key: &ReleaseKey,
    signatures: &[[u8; 64]],
) -> Option<(Vec<u8>, [u8; 64])> {
    let signed = |format| release.formats().contains(&format);
    if !signed(Format::Dsse) && !signed(Format::Statement) {
        return None;
    }
    // The statement's signature comes first, see [`VerifiedRelease::signables`].
    let signature = signatures.first()?;
    Some((dsse::envelope(&release.statement(), &key.key_id(), signature), *signature))
}

fn statement_files(
    files: &mut Vec<SignedFile>,
    release: &VerifiedRelease,
    release_id: &ReleaseId,
    key: &ReleaseKey,
    signable: Signable,
    signature: &[u8; 64],
) {
    if release.formats().contains(&Format::Dsse) {
        files.push(SignedFile {
            name: format!("{release_id}.intoto.json"),
            bytes: dsse::envelope(&release.statement(), &key.key_id(), signature),
        });
    }
    if release.formats().contains(&Format::Statement) {
        files.push(SignedFile { name: format!("{release_id}.statement"), bytes: signable.bytes });
        files.push(SignedFile { name: format!("{release_id}.statement.sig"), bytes: signature.to_vec() });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::testing::{files, release_id, release_key, sign, unverified, verified};

    fn names(formats: &[Format]) -> Vec<String> {
        let mut release = unverified();
        release.formats = formats.to_vec();
        files(&release.verify().unwrap()).into_iter().map(|file| file.name).collect()
    }

    #[test]
    fn each_format_has_its_files() {
        let envelope = "rutli-1.4.2-0123456789ab.intoto.json";
        let statement = "rutli-1.4.2-0123456789ab.statement";
        let signature = "rutli-1.4.2-0123456789ab.statement.sig";
        let (one, two) = ("rutli-1.sig", "rutli-2.sig");
        assert_eq!(names(&[Format::Dsse]), [envelope]);
        assert_eq!(names(&[Format::Statement]), [statement, signature]);
        assert_eq!(names(&[Format::Sshsig]), [one, two]);
        assert_eq!(names(&Format::ALL), [envelope, statement, signature, one, two]);
    }

    #[test]
    fn signatures_that_are_not_those_of_the_release_are_refused() {
        let release = verified();
        let assemble =
            |signatures: &[[u8; 64]]| signed_files(&release, &release_id(), &release_key(), signatures);
        let signatures = sign(&release);
        assert!(assemble(&signatures).is_ok());
        assert_eq!(assemble(&signatures[..2]), Err(NotAssembled::SignatureCount { expected: 3, actual: 2 }));
        assert_eq!(assemble(&vec![[0; 64]; 4]), Err(NotAssembled::SignatureCount { expected: 3, actual: 4 }));
        for slot in 0..3 {
            let mut tampered = signatures.clone();
            tampered[slot][63] ^= 1;
            assert_eq!(assemble(&tampered), Err(NotAssembled::Signature { slot }));
        }
        let mut swapped = signatures;
        swapped.swap(1, 2);
        assert_eq!(assemble(&swapped), Err(NotAssembled::Signature { slot: 1 }));
    }

    #[test]
    fn what_was_verified_for_something_else_is_refused() {
        let (release, key) = (verified(), release_key());
        let assemble = |signatures: &[_]| files_of(&release, &release_id(), &key, signatures);
        let check = |key: &ReleaseKey, signature: &(Signable, [u8; 64])| {
            key.check(&signature.0.bytes, signature.1).unwrap()
        };
        let made: Vec<_> = release.signables().into_iter().zip(sign(&release)).collect();
        let signatures: Vec<_> = made.iter().map(|made| check(&key, made)).collect();
        assert_eq!(assemble(&signatures), Ok(files(&release)), "the same as of unverified ones");
        assert_eq!(assemble(&signatures[..2]), Err(NotAssembled::SignatureCount { expected: 3, actual: 2 }));
        let mut swapped = signatures.clone();
        swapped.swap(1, 2);
        assert_eq!(assemble(&swapped), Err(NotAssembled::Signature { slot: 1 }));
        let other = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
        let other_key = ReleaseKey::from_bytes(&other.verifying_key().to_bytes()).unwrap();
        assert_ne!(other_key, key);
        let by_other = ed25519_dalek::Signer::sign(&other, &made[0].0.bytes).to_bytes();
        let mut foreign = signatures.clone();
        foreign[0] = other_key.check(&made[0].0.bytes, by_other).unwrap();
        assert_eq!(assemble(&foreign), Err(NotAssembled::Signature { slot: 0 }), "by another key");
        let mut wrong = made[0].1;
        wrong[63] ^= 1;
        assert!(key.check(&made[0].0.bytes, wrong).is_err());
    }
}
