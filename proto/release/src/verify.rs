//! Verification, as an endpoint does it: one straight function per format, each refusal with a name.
//!
//! All of them take bytes that may be hostile and a key that is trusted. Each checks, in this order: size, frame, key,
//! signature (strictly), and only then what the signed bytes say. No text is repeated in an error before its signature was verified.

use crate::class::Class;
use crate::key::ReleaseKey;
use crate::names::{ArtifactName, Channel, Product, Sequence, Timestamp};
use crate::namespace::SshNamespace;
use crate::release::Artifact;
use crate::statement::Statement;
use crate::{dsse, limits, sshsig};

/// Verifies a DSSE envelope (`.intoto.json`) and reads the statement in it.
///
/// The envelope has exactly one signature, whose `keyid` is that of `key`.
///
/// # Errors
/// [`NotVerified`], with the reason.
pub fn verify_dsse(key: &ReleaseKey, envelope_json: &[u8]) -> Result<Statement, NotVerified> {
    check_size("envelope", envelope_json.len(), limits::MAX_ENVELOPE_BYTES)?;
    let envelope = dsse::open(envelope_json)?;
    // Only a hint, as DSSE has it: what counts is the signature. But it tells people why that will not verify.
    if envelope.key_id != key.key_id() {
        return Err(NotVerified::WrongKey);
    }
    let signed = dsse::pae(dsse::PAYLOAD_TYPE, &envelope.payload);
    key.verify(&signed, &envelope.signature)?;
    Statement::parse(&envelope.payload)
}

/// Verifies a statement file (`.statement`) with its raw signature (`.statement.sig`), and reads the statement in it.
///
/// # Errors
/// [`NotVerified`], with the reason.
pub fn verify_statement(
    key: &ReleaseKey,
    pae_bytes: &[u8],
    sig: &[u8; 64],
) -> Result<Statement, NotVerified> {
    check_size("statement file", pae_bytes.len(), limits::MAX_PAE_BYTES)?;
    key.verify(pae_bytes, sig)?;
    Statement::parse(dsse::statement_in(pae_bytes)?)
}

/// Verifies an armoured SSHSIG (`.sig`) over the file whose SHA-256 is given, in a namespace of a class, product and channel.
///
/// An SSHSIG says that this content was signed for its namespace, and nothing else: no name, version or
/// sequence. Readers that need those verify a statement; readers that know which product and channel they
/// expect compare with [`SshNamespace::expect`].
///
/// # Errors
/// [`NotVerified`], with the reason.
pub fn verify_sshsig(
    key: &ReleaseKey,
    sig_armored: &str,
    file_sha256: &[u8; 32],
) -> Result<SshsigVerdict, NotVerified> {
    check_size("SSH signature", sig_armored.len(), limits::MAX_SSHSIG_BYTES)?;
    let open = sshsig::open(key, sig_armored)?;
    let namespace: SshNamespace = open.namespace.parse().map_err(|_| NotVerified::Namespace)?;
    let signed = sshsig::signed_bytes(&open.namespace, file_sha256);
    key.verify(&signed, &open.signature)?;
    Ok(SshsigVerdict { namespace, signature: open.signature })
}

/// What an SSHSIG that was verified says about its file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SshsigVerdict {
    /// The namespace it was signed in.
    pub namespace: SshNamespace,
    /// The signature proper, without its frame.
    pub signature: [u8; 64],
}

/// What the caller of [`Statement::expect`] expects. What is `None` is not asked about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The product to be installed.
    pub product: Option<Product>,
    /// The channel it is taken from.
    pub channel: Option<Channel>,
    /// The class it belongs to.
    pub class: Option<Class>,
    /// The sequence that is installed already: none below it is accepted.
    pub min_sequence: Option<Sequence>,
    /// The time, against which the expiry is checked. Without it a release never expires.
    pub now: Option<Timestamp>,
}

impl Expectation {
    /// Compares what statements and SSHSIG namespaces both contain, in the order product, class, channel.
    pub(crate) fn check_scope(
        &self,
        product: &Product,
        class: Class,
        channel: &Channel,
    ) -> Result<(), NotVerified> {
        if self.product.as_ref().is_some_and(|expected| expected != product) {
            return Err(NotVerified::OtherProduct { found: product.clone() });
        }
        if self.class.is_some_and(|expected| expected != class) {
            return Err(NotVerified::OtherClass { found: class });
        }
        if self.channel.as_ref().is_some_and(|expected| expected != channel) {
            return Err(NotVerified::OtherChannel { found: channel.clone() });
        }
        Ok(())
    }
}

impl Statement {
    /// Finds the file with this SHA-256, under `name` (the artifact's full name in the release) or, without one, under any name.
    ///
    /// # Errors
    /// [`NotVerified::UnknownFile`] if the statement does not name it, [`NotVerified::FileDiffers`] if it names it with other
    /// content.
    pub fn check_file(&self, name: Option<&str>, sha256: &[u8; 32]) -> Result<&Artifact, NotVerified> {
        let same_content = |subject: &&Artifact| subject.sha256 == *sha256;
        let Some(name) = name else {
            return self.subjects().iter().find(same_content).ok_or(NotVerified::UnknownFile);
        };
        let subject = self
            .subjects()
            .iter()
            .find(|subject| subject.name.as_str() == name)
            .ok_or(NotVerified::UnknownFile)?;
        Some(subject)
            .filter(same_content)
            .ok_or_else(|| NotVerified::FileDiffers { name: subject.name.clone() })
    }

    /// Compares the statement with what the caller expects, in the order product, class, channel, sequence, expiry.
    ///
    /// # Errors
    /// [`NotVerified`] for the first thing that differs.
    pub fn expect(&self, expectation: &Expectation) -> Result<(), NotVerified> {
        expectation.check_scope(self.product(), self.class(), self.channel())?;
        if let Some(installed) = expectation.min_sequence
            && self.sequence() < installed
        {
            return Err(NotVerified::Rollback { found: self.sequence(), installed });
        }
        if let (Some(now), Some(expired_at)) = (expectation.now, self.expires_at())
            && now >= expired_at
        {
            return Err(NotVerified::Expired { expired_at });
        }
        Ok(())
    }
}

/// Why a signature, a statement or a file was refused. Each means: do not use the file.
///
/// Trying again with the same bytes fails again. Either the download is damaged (get it again), or the wrong key or file was
/// given (the message says which), or somebody tampered with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotVerified {
    /// More bytes than any legal file of this kind has. Not read.
    #[error(
        "the {what} is larger than {limit} bytes, which none of ours is: check that it is the right file"
    )]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The signature does not hold for these bytes under this key: one of the three is not the one that was meant.
    #[error(
        "the signature does not verify: the file, its signature or the public key is not the right one; get all three again from a place you trust"
    )]
    Signature,
    /// Signed with another key than the one given, by its own account.
    #[error("the signature was made with another key: check that you have the right public key")]
    WrongKey,
    /// A signature has not exactly 64 bytes.
    #[error("the signature has not 64 bytes, as Ed25519 signatures have: check that it is the right file")]
    SignatureLength,

    /// Not a DSSE envelope with exactly the fields that ours have.
    #[error("not a DSSE envelope as Rütli writes it: check that it is the `.intoto.json` file")]
    NotAnEnvelope,
    /// The envelope has something else in it than an in-toto Statement.
    #[error("the envelope's payload is not an in-toto statement: check that it is the `.intoto.json` file")]
    PayloadType,
    /// The envelope has not exactly one signature.
    #[error("the envelope has {count} signatures instead of one: get the original file")]
    SignatureCount {
        /// How many it has.
        count: usize,
    },

    /// The signed bytes are no DSSE encoding of an in-toto statement.
    #[error("not a statement file as Rütli writes it: check that it is the `.statement` file")]
    NotAStatementFile,
    /// The statement is signed, but is no JSON with exactly the fields that ours have, or some text in it is illegal. The signers
    /// made it with another version, or the key signs other things too.
    #[error(
        "the statement is signed but is not one that Rütli writes: update this verifier, or report it to the publisher"
    )]
    StatementForm,
    /// The statement is signed, but of another type or with another predicate.
    #[error("the statement is signed but of another type: expected an in-toto Statement v1 about a release")]
    StatementType,
    /// The statement is signed, but there is another, canonical encoding of it. Two readers could take it for different things.
    #[error("the statement is signed but not in canonical encoding: report it to the publisher")]
    StatementNotCanonical,

    /// Not an armoured SSHSIG, or in another spelling than that of `ssh-keygen`.
    #[error(
        "not an SSH signature as Rütli writes it: check that it is the `.sig` file and that its line ends were not changed"
    )]
    NotAnSshSignature,
    /// The SSHSIG has another version than 1.
    #[error("the SSH signature has an unknown version: expected 1")]
    SshSignatureVersion,
    /// The SSHSIG has something in its reserved field.
    #[error("the SSH signature has data in its reserved field: get the original file")]
    SshSignatureReserved,
    /// The SSHSIG is over another hash than SHA-256.
    #[error("the SSH signature is not over SHA-256: get the original file")]
    SshSignatureHash,
    /// The signature inside the SSHSIG is not an Ed25519 one.
    #[error("the SSH signature is not an Ed25519 signature: get the original file")]
    SshSignatureType,
    /// Something follows after the end.
    #[error("there is data after the end of the signature: get the original file")]
    TrailingData,
    /// The SSHSIG was made for something else than a release.
    #[error("the SSH signature is in no namespace of a release: it was made for another purpose")]
    Namespace,
    /// An SSHSIG was asked about a sequence.
    #[error("an SSH signature binds no sequence: verify the statement of the release instead")]
    NotInNamespace,

    /// The statement names no such file.
    #[error(
        "the statement does not name this file: check that file and statement belong to the same release"
    )]
    UnknownFile,
    /// The statement names the file, but with other content.
    #[error("the file `{name}` is not the one that was signed: get it again")]
    FileDiffers {
        /// The file's name in the statement.
        name: ArtifactName,
    },
    /// The statement is about another product.
    #[error("the release is of another product, `{found}`")]
    OtherProduct {
        /// The product in the statement.
        found: Product,
    },
    /// The statement is about another class.
    #[error("the release is of another class, `{found}`")]
    OtherClass {
        /// The class in the statement.
        found: Class,
    },
    /// The statement is about another channel.
    #[error("the release is for another channel, `{found}`")]
    OtherChannel {
        /// The channel in the statement.
        found: Channel,
    },
    /// The statement is older than what is installed.
    #[error("the release is older than what is installed: its sequence is {found}, installed is {installed}")]
    Rollback {
        /// The sequence in the statement.
        found: Sequence,
        /// The sequence that is installed.
        installed: Sequence,
    },
    /// The statement has expired.
    #[error("the release expired at {expired_at}: get a newer one, and check this machine's clock")]
    Expired {
        /// From when on it is refused.
        expired_at: Timestamp,
    },
}

impl NotVerified {
    pub(crate) fn too_large(what: &'static str, limit: usize) -> Self {
        Self::TooLarge { what, limit }
    }
}

fn check_size(what: &'static str, size: usize, limit: usize) -> Result<(), NotVerified> {
    if size > limit {
        return Err(NotVerified::too_large(what, limit));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;
    use alloc::vec::Vec;

    use ed25519_dalek::Signer;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{bit_flips, file, largest, release_key, signing_key, text, unverified, verified};

    fn statement_files() -> (Vec<u8>, [u8; 64]) {
        let release = verified();
        (file(&release, ".statement"), file(&release, ".statement.sig").try_into().unwrap())
    }

    fn statement() -> Statement {
        let (pae, signature) = statement_files();
        verify_statement(&release_key(), &pae, &signature).unwrap()
    }

    fn other_key() -> ReleaseKey {
        ReleaseKey::from_bytes(ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes())
            .unwrap()
    }

    #[test]
    fn all_formats_are_accepted_and_say_the_same() {
        let release = verified();
        let from_envelope = verify_dsse(&release_key(), &file(&release, ".intoto.json")).unwrap();
        assert_eq!(from_envelope, statement());
        assert_eq!(from_envelope.subjects().len(), 2);
        let verdict = verify_sshsig(&release_key(), &text(file(&release, "rutli-2.sig")), &[2; 32]).unwrap();
        assert_eq!(verdict.namespace, release.ssh_namespace());
        assert_eq!(verdict.namespace.to_string(), "product-build/rutli/stable@rutli");
    }

    #[test]
    fn the_largest_release_is_accepted() {
        let mut release = largest();
        release.formats = vec![crate::Format::Dsse, crate::Format::Statement];
        let release = release.verify().unwrap();
        assert!(verify_dsse(&release_key(), &file(&release, ".intoto.json")).is_ok());
        let signature = file(&release, ".statement.sig").try_into().unwrap();
        assert!(verify_statement(&release_key(), &file(&release, ".statement"), &signature).is_ok());
    }

    #[test]
    fn every_bit_flip_in_a_statement_file_or_its_signature_is_refused() {
        let (pae, signature) = statement_files();
        for flipped in bit_flips(&pae) {
            assert_eq!(verify_statement(&release_key(), &flipped, &signature), Err(NotVerified::Signature));
        }
        for flipped in bit_flips(&signature) {
            let flipped = flipped.try_into().unwrap();
            assert_eq!(verify_statement(&release_key(), &pae, &flipped), Err(NotVerified::Signature));
        }
    }

    #[test]
    fn every_bit_flip_in_an_envelope_is_refused() {
        let envelope = file(&verified(), ".intoto.json");
        for flipped in bit_flips(&envelope) {
            assert!(verify_dsse(&release_key(), &flipped).is_err(), "{}", String::from_utf8_lossy(&flipped));
        }
    }

    #[test]
    fn every_bit_flip_in_an_ssh_signature_or_the_files_digest_is_refused() {
        let armour = file(&verified(), "rutli-1.sig");
        for flipped in bit_flips(&armour) {
            // What is not UTF-8 is not even text.
            let Ok(flipped) = core::str::from_utf8(&flipped) else { continue };
            assert!(verify_sshsig(&release_key(), flipped, &[1; 32]).is_err(), "{flipped}");
        }
        let armour = text(armour);
        for flipped in bit_flips(&[1; 32]) {
            let flipped = flipped.try_into().unwrap();
            assert_eq!(verify_sshsig(&release_key(), &armour, &flipped), Err(NotVerified::Signature));
        }
    }

    #[test]
    fn every_bit_flip_in_a_digest_is_another_file() {
        let statement = statement();
        let name = Some("linux/rutli-1");
        assert!(statement.check_file(name, &[1; 32]).is_ok());
        for flipped in bit_flips(&[1; 32]) {
            let flipped = flipped.try_into().unwrap();
            assert!(statement.check_file(name, &flipped).is_err());
            assert!(statement.check_file(None, &flipped).is_err());
        }
    }

    #[test]
    fn another_key_is_refused_by_name() {
        let release = verified();
        let (pae, signature) = statement_files();
        let (key, envelope) = (other_key(), text(file(&release, ".intoto.json")));
        assert_eq!(verify_dsse(&key, envelope.as_bytes()), Err(NotVerified::WrongKey));
        assert_eq!(verify_statement(&key, &pae, &signature), Err(NotVerified::Signature));
        let armour = text(file(&release, "rutli-1.sig"));
        assert_eq!(verify_sshsig(&key, &armour, &[1; 32]), Err(NotVerified::WrongKey));
        // The name of the key decides nothing.
        let renamed = envelope.replace(&release_key().key_id(), &key.key_id());
        assert_ne!(renamed, envelope);
        assert_eq!(verify_dsse(&key, renamed.as_bytes()), Err(NotVerified::Signature));
        assert_eq!(verify_dsse(&release_key(), renamed.as_bytes()), Err(NotVerified::WrongKey));
    }

    #[test]
    fn a_namespace_that_is_not_expected_is_refused() {
        let key = release_key();
        let armour = text(file(&verified(), "rutli-1.sig"));
        let signature = sshsig::open(&key, &armour).unwrap().signature;
        // A valid signature in a namespace that is not one of a release.
        for namespace in ["file", "git", "product-build@rutli", "product-build/rutli/*@rutli"] {
            let signed = signing_key().sign(&sshsig::signed_bytes(namespace, &[1; 32])).to_bytes();
            let foreign = sshsig::armoured(&key, namespace, &signed);
            assert_eq!(verify_sshsig(&key, &foreign, &[1; 32]), Err(NotVerified::Namespace), "{namespace}");
        }
        // Nor does claiming another one help: class, product and channel are signed.
        for namespace in [
            "av-database/rutli/stable@rutli",
            "product-build/other/stable@rutli",
            "product-build/rutli/beta@rutli",
        ] {
            let relabelled = sshsig::armoured(&key, namespace, &signature);
            assert_eq!(
                verify_sshsig(&key, &relabelled, &[1; 32]),
                Err(NotVerified::Signature),
                "{namespace}"
            );
        }
    }

    #[test]
    fn a_signature_in_one_format_is_none_in_another() {
        let release = verified();
        let (pae, _) = statement_files();
        let of_file = sshsig::open(&release_key(), &text(file(&release, "rutli-1.sig"))).unwrap().signature;
        assert_eq!(verify_statement(&release_key(), &pae, &of_file), Err(NotVerified::Signature));
        // A signature over the statement itself, without the frame.
        let bare = signing_key().sign(&release.statement()).to_bytes();
        assert_eq!(verify_statement(&release_key(), &pae, &bare), Err(NotVerified::Signature));
        assert_eq!(
            verify_statement(&release_key(), &release.statement(), &bare),
            Err(NotVerified::NotAStatementFile)
        );
    }

    #[test]
    fn signed_bytes_that_are_no_statement_are_refused() {
        let sign = |body: &[u8]| {
            let pae = dsse::pae(dsse::PAYLOAD_TYPE, body);
            let signature = signing_key().sign(&pae).to_bytes();
            let envelope = dsse::envelope(body, &release_key().key_id(), &signature);
            let verdict = verify_statement(&release_key(), &pae, &signature);
            assert_eq!(verify_dsse(&release_key(), &envelope), verdict);
            verdict
        };
        let statement = text(verified().statement());
        assert!(sign(statement.as_bytes()).is_ok());
        assert_eq!(sign(b""), Err(NotVerified::StatementForm));
        assert_eq!(sign(b"{}"), Err(NotVerified::StatementForm));
        assert_eq!(sign(b"\xff"), Err(NotVerified::StatementForm));
        let spaced = statement.replace("\"sequence\":", "\"sequence\": ");
        assert_eq!(sign(spaced.as_bytes()), Err(NotVerified::StatementNotCanonical));
        let other = statement.replace("release/v0.2", "release/v0.3");
        assert_eq!(sign(other.as_bytes()), Err(NotVerified::StatementType));

        let json = dsse::pae("application/json", statement.as_bytes());
        let signature = signing_key().sign(&json).to_bytes();
        assert_eq!(verify_statement(&release_key(), &json, &signature), Err(NotVerified::NotAStatementFile));
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let bytes = vec![b'{'; limits::MAX_ENVELOPE_BYTES + 1];
        assert!(matches!(verify_dsse(&release_key(), &bytes), Err(NotVerified::TooLarge { .. })));
        let pae = &bytes[..=limits::MAX_PAE_BYTES];
        assert!(matches!(verify_statement(&release_key(), pae, &[0; 64]), Err(NotVerified::TooLarge { .. })));
        let armour = "x".repeat(limits::MAX_SSHSIG_BYTES + 1);
        assert!(matches!(
            verify_sshsig(&release_key(), &armour, &[0; 32]),
            Err(NotVerified::TooLarge { .. })
        ));
    }

    #[test]
    fn files_are_found_by_name_and_content() {
        let statement = statement();
        let found = |name, byte: u8| statement.check_file(name, &[byte; 32]);
        assert_eq!(found(None, 2).unwrap().name.as_str(), "linux/rutli-2");
        assert_eq!(found(Some("linux/rutli-2"), 2).unwrap().name.as_str(), "linux/rutli-2");
        assert_eq!(found(None, 3), Err(NotVerified::UnknownFile));
        assert_eq!(found(Some("rutli-2"), 2), Err(NotVerified::UnknownFile));
        // A file of the release under the name of another one is not that other one.
        let name = crate::ArtifactName::new("linux/rutli-1").unwrap();
        assert_eq!(found(Some("linux/rutli-1"), 2), Err(NotVerified::FileDiffers { name }));
    }

    #[test]
    fn expectations_are_compared() {
        let statement = statement();
        let product = |name: &str| Some(Product::new(name).unwrap());
        let channel = |name: &str| Some(Channel::new(name).unwrap());
        let sequence = |number| Some(Sequence::new(number).unwrap());
        let expiry = 1_826_791_200;
        let all = Expectation {
            product: product("rutli"),
            channel: channel("stable"),
            class: Some(Class::ProductBuild),
            min_sequence: sequence(42),
            now: Some(Timestamp(expiry - 1)),
        };
        assert_eq!(statement.expect(&Expectation::default()), Ok(()));
        assert_eq!(statement.expect(&all), Ok(()));
        let other = |change: fn(&mut Expectation)| {
            let mut expectation = all.clone();
            change(&mut expectation);
            statement.expect(&expectation)
        };
        assert!(matches!(
            other(|e| e.product = Some(Product::new("other").unwrap())),
            Err(NotVerified::OtherProduct { .. })
        ));
        assert!(matches!(
            other(|e| e.channel = Some(Channel::new("beta").unwrap())),
            Err(NotVerified::OtherChannel { .. })
        ));
        assert!(matches!(
            other(|e| e.class = Some(Class::AvDatabase)),
            Err(NotVerified::OtherClass { found: Class::ProductBuild })
        ));
        assert!(matches!(
            other(|e| e.min_sequence = Some(Sequence::new(43).unwrap())),
            Err(NotVerified::Rollback { .. })
        ));
        assert_eq!(
            other(|e| e.now = Some(Timestamp(1_826_791_200))),
            Err(NotVerified::Expired { expired_at: Timestamp(expiry) })
        );
    }

    #[test]
    fn a_release_without_expiry_does_not_expire() {
        let mut release = unverified();
        release.expires_at = None;
        let release = release.verify().unwrap();
        let statement = verify_dsse(&release_key(), &file(&release, ".intoto.json")).unwrap();
        let expectation = Expectation { now: Some(Timestamp(u64::MAX)), ..Expectation::default() };
        assert_eq!(statement.expect(&expectation), Ok(()));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in any::<Vec<u8>>(), noise in any::<String>(), halves in any::<[[u8; 32]; 2]>()) {
            let signature: [u8; 64] = halves.concat().try_into().unwrap();
            prop_assert!(verify_dsse(&release_key(), &bytes).is_err());
            prop_assert!(verify_statement(&release_key(), &bytes, &signature).is_err());
            prop_assert!(verify_sshsig(&release_key(), &noise, &halves[0]).is_err());
        }

        #[test]
        fn spliced_envelopes_are_refused(
            start in any::<prop::sample::Index>(),
            length in 1..64_usize,
            insert in "[\\x21-\\x7f]{0,64}",
        ) {
            let original = file(&verified(), ".intoto.json");
            let mut bytes = original.clone();
            let start = start.index(bytes.len());
            let end = bytes.len().min(start + length);
            bytes.splice(start..end, insert.into_bytes());
            prop_assert_eq!(verify_dsse(&release_key(), &bytes).is_ok(), bytes == original);
        }
    }
}
