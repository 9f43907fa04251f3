//! The public key that releases are verified with, in the encodings that stock verifiers read.
//!
//! An ordinary Ed25519 key (RFC 8032). How it came about, by which organisations and thresholds, cannot be seen from it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::namespace::SshNamespaces;
use crate::verify::NotVerified;
use crate::{limits, sshsig};

/// The principal that stands for a release key in an allowed-signers file of ours, to be given to `ssh-keygen -Y verify -I`.
pub const PRINCIPAL: &str = "release";

/// A public key that releases are verified with: a canonical point of prime order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReleaseKey(VerifyingKey);

/// A signature that was verified, with what it was verified for. Only [`ReleaseKey::check`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedSignature {
    bytes: [u8; 64],
    /// The key.
    key: [u8; 32],
    /// SHA-256 of the message.
    message: [u8; 32],
}

impl ReleaseKey {
    /// Takes the 32 bytes of RFC 8032 section 5.1.2.
    ///
    /// # Errors
    /// [`InvalidKey`] if they are no point, not the canonical encoding of one, or if the point has a part of small order. The group
    /// key of honest signers is never any of these, and signatures under such keys mean different things to different verifiers.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey::NotAPoint)?;
        let point = key.to_edwards();
        if point.compress().as_bytes() != bytes {
            return Err(InvalidKey::NotCanonical);
        }
        if point.is_small_order() {
            return Err(InvalidKey::SmallOrder);
        }
        if !point.is_torsion_free() {
            return Err(InvalidKey::MixedOrder);
        }
        Ok(Self(key))
    }

    /// Reads a public key in PEM (`BEGIN PUBLIC KEY`, SPKI as in RFC 8410), as [`ReleaseKey::to_pem`] and `openssl pkey
    /// -pubout` write it. White space around it and CR LF line ends are accepted.
    ///
    /// # Errors
    /// [`InvalidKey`] for everything else.
    pub fn from_pem(pem: &str) -> Result<Self, InvalidKey> {
        if pem.len() > limits::MAX_KEY_FILE_BYTES {
            return Err(InvalidKey::NotPem);
        }
        let mut lines = pem.trim().lines().map(str::trim_end);
        let (Some(PEM_BEGIN), Some(body), Some(PEM_END), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(InvalidKey::NotPem);
        };
        let der = STANDARD.decode(body).map_err(|_| InvalidKey::NotPem)?;
        let bytes = der
            .strip_prefix(&SPKI_PREFIX)
            .and_then(|bytes| <&[u8; 32]>::try_from(bytes).ok())
            .ok_or(InvalidKey::NotEd25519)?;
        Self::from_bytes(bytes)
    }

    /// The key in PEM, as SPKI (RFC 8410), for OpenSSL and most other verifiers. Ends with a line break.
    #[must_use]
    pub fn to_pem(&self) -> String {
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(self.to_spki()))
    }

    /// The 32 bytes of RFC 8032 section 5.1.2.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The 32 bytes of RFC 8032 section 5.1.2.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key as `SubjectPublicKeyInfo` in DER (RFC 8410 section 4).
    #[must_use]
    pub fn to_spki(&self) -> [u8; 44] {
        let mut der = [0; 44];
        let bytes = SPKI_PREFIX.iter().chain(self.as_bytes());
        for (place, byte) in der.iter_mut().zip(bytes) {
            *place = *byte;
        }
        der
    }

    /// The key's id: SHA-256 of its SPKI, in lower-case hexadecimal. In-toto's and Sigstore's way of naming keys.
    #[must_use]
    pub fn key_id(&self) -> String {
        hex::encode(Sha256::digest(self.to_spki()))
    }

    /// The key in OpenSSH's form: `ssh-ed25519 AAAA… <comment>`, without a line break.
    ///
    /// # Errors
    /// [`InvalidKey::Comment`] if `comment` is longer than 255 bytes or has control characters, by which it could add lines of its
    /// own to a file.
    pub fn to_openssh(&self, comment: &str) -> Result<String, InvalidKey> {
        if comment.len() > limits::MAX_KEY_COMMENT_BYTES || comment.chars().any(char::is_control) {
            return Err(InvalidKey::Comment);
        }
        let separator = if comment.is_empty() { "" } else { " " };
        Ok(format!("{}{separator}{comment}", self.openssh()))
    }

    /// A line for OpenSSH's allowed-signers file, which accepts this key as `principal` (usually [`PRINCIPAL`]) in these namespaces
    /// and in no other, so that it can verify neither another product's files nor Git commits. Without a line break.
    ///
    /// # Errors
    /// [`InvalidKey::Principal`] if `principal` is not 1 to 255 of `A-Z a-z 0-9 . _ @ -`: other characters are patterns or options
    /// there. [`InvalidKey::NoNamespace`] if there is no namespace: OpenSSH takes a line without any for one that allows all.
    pub fn allowed_signers(
        &self,
        principal: &str,
        namespaces: &[SshNamespaces],
    ) -> Result<String, InvalidKey> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
        if principal.is_empty()
            || principal.len() > limits::MAX_KEY_COMMENT_BYTES
            || !principal.bytes().all(legal)
        {
            return Err(InvalidKey::Principal);
        }
        if namespaces.is_empty() {
            return Err(InvalidKey::NoNamespace);
        }
        let namespaces = namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Ok(format!("{principal} namespaces=\"{namespaces}\" {}", self.openssh()))
    }

    /// Verifies an Ed25519 signature over exactly `message`, strictly: canonical `S`, no small-order `R`, no cofactor.
    ///
    /// # Errors
    /// [`NotVerified::Signature`].
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), NotVerified> {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| NotVerified::Signature)
    }

    /// Verifies a signature as [`verify`](Self::verify) does, and says so by its type: it need not be verified again.
    ///
    /// # Errors
    /// [`NotVerified::Signature`].
    pub fn check(&self, message: &[u8], signature: [u8; 64]) -> Result<VerifiedSignature, NotVerified> {
        self.verify(message, &signature)?;
        Ok(VerifiedSignature {
            bytes: signature,
            key: self.to_bytes(),
            message: Sha256::digest(message).into(),
        })
    }

    fn openssh(&self) -> String {
        format!("{} {}", sshsig::KEY_TYPE, STANDARD.encode(sshsig::public_key(self)))
    }
}

impl VerifiedSignature {
    /// The signature: `R` and `S` of RFC 8032.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 64] {
        &self.bytes
    }

    /// Whether it was verified under this key over exactly this message.
    #[must_use]
    pub fn is_of(&self, key: &ReleaseKey, message: &[u8]) -> bool {
        self.key == key.to_bytes() && self.message == *Sha256::digest(message)
    }
}

impl fmt::Debug for ReleaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReleaseKey({})", hex::encode(self.as_bytes()))
    }
}

/// Why something is no release key, or cannot be written as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The bytes are no point of the curve. The key is damaged: get it again.
    #[error("the public key is not a point of the curve: it is damaged, get it again from a place you trust")]
    NotAPoint,
    /// Another encoding of the same point exists, and is the right one. No honest signer writes it.
    #[error("the public key is not in canonical encoding: do not use it, and ask where it came from")]
    NotCanonical,
    /// Anybody can sign under such a key. No honest signer has it.
    #[error(
        "the public key has small order, so that anybody can sign under it: do not use it, and ask where it came from"
    )]
    SmallOrder,
    /// Verifiers disagree about signatures under such a key. No honest signer has it.
    #[error("the public key has a part of small order: do not use it, and ask where it came from")]
    MixedOrder,
    /// Not a public key in PEM.
    #[error("not a public key in PEM: expected one block `-----BEGIN PUBLIC KEY-----` with one line in it")]
    NotPem,
    /// A public key, but not for Ed25519.
    #[error("not an Ed25519 public key: expected `SubjectPublicKeyInfo` as in RFC 8410")]
    NotEd25519,
    /// The comment could not be told from the rest of the file.
    #[error("the comment of the key is not valid: at most 255 bytes, no control characters")]
    Comment,
    /// The principal could not be told from patterns or options.
    #[error("the principal is not valid: use 1 to 255 of A-Z a-z 0-9 . _ @ -")]
    Principal,
    /// A line without namespaces would allow all.
    #[error("no namespace: name at least one class and product, for example `product-build/suite`")]
    NoNamespace,
}

const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes, no unused bits }: the whole SPKI but the key (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::testing::release_key;

    fn key(hex: &str) -> Result<ReleaseKey, InvalidKey> {
        ReleaseKey::from_bytes(&bytes(hex))
    }

    fn bytes(hex: &str) -> [u8; 32] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    /// The eight points of small order in canonical encoding: orders 1, 2, 4, 4, 8, 8, 8, 8.
    const SMALL_ORDER: [&str; 8] = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    ];

    #[test]
    fn keys_of_small_order_are_refused() {
        for hex in SMALL_ORDER {
            assert_eq!(key(hex), Err(InvalidKey::SmallOrder), "{hex}");
        }
    }

    #[test]
    fn keys_of_mixed_order_are_refused() {
        let honest = release_key().0.to_edwards();
        for hex in SMALL_ORDER.into_iter().skip(1) {
            let torsion = VerifyingKey::from_bytes(&bytes(hex)).unwrap().to_edwards();
            let mixed = (honest + torsion).compress().to_bytes();
            assert_eq!(ReleaseKey::from_bytes(&mixed), Err(InvalidKey::MixedOrder), "{hex}");
        }
    }

    #[test]
    fn no_second_encoding_of_a_key_is_accepted() {
        // Every y from p = 2^255 - 19 to 2^255 - 1, with both signs.
        for low in 0xed_u8..=0xff {
            for high in [0x7f_u8, 0xff] {
                let mut encoded = [0xff; 32];
                encoded[0] = low;
                encoded[31] = high;
                let refused = ReleaseKey::from_bytes(&encoded).unwrap_err();
                assert!(
                    matches!(refused, InvalidKey::NotAPoint | InvalidKey::NotCanonical),
                    "{low:x} {high:x}"
                );
            }
        }
        // x = 0 with the sign of a negative number.
        for hex in [
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ] {
            assert!(matches!(key(hex), Err(InvalidKey::NotAPoint | InvalidKey::NotCanonical)), "{hex}");
        }
        // No point has y = 2.
        assert_eq!(key(&("02".to_string() + &"00".repeat(31))), Err(InvalidKey::NotAPoint));
    }

    #[test]
    fn pem_is_read_as_it_is_written() {
        // The example of RFC 8410 section 10.1.
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END \
                   PUBLIC KEY-----\n";
        let key = ReleaseKey::from_pem(pem).unwrap();
        assert_eq!(
            hex::encode(key.to_bytes()),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
        assert_eq!(key.to_pem(), pem);
        assert_eq!(ReleaseKey::from_pem(&pem.replace('\n', "\r\n")).unwrap(), key);
        assert_eq!(ReleaseKey::from_pem(pem.trim_end()).unwrap(), key);
        assert_eq!(alloc::format!("{key:?}"), alloc::format!("ReleaseKey({})", hex::encode(key.as_bytes())));
    }

    #[test]
    fn other_pem_is_refused() {
        let pem = release_key().to_pem();
        let body = pem.lines().nth(1).unwrap();
        let with = |der: &[u8]| pem.replace(body, &STANDARD.encode(der));
        let der = release_key().to_spki();
        let x25519: Vec<u8> =
            der.iter().enumerate().map(|(at, byte)| if at == 8 { 0x6e } else { *byte }).collect();
        for (bad, reason) in [
            (String::new(), InvalidKey::NotPem),
            (pem.replace("PUBLIC", "PRIVATE"), InvalidKey::NotPem),
            (pem.clone() + &pem, InvalidKey::NotPem),
            (pem.replace(body, ""), InvalidKey::NotEd25519),
            (pem.replace(body, &(body.to_string() + "A")), InvalidKey::NotPem),
            (pem.replace(body, &body.replace('=', "")), InvalidKey::NotPem),
            (pem.clone() + &" ".repeat(limits::MAX_KEY_FILE_BYTES), InvalidKey::NotPem),
            (with(&x25519), InvalidKey::NotEd25519),
            (with(&der[..43]), InvalidKey::NotEd25519),
            (with(&[&der[..], &[0]].concat()), InvalidKey::NotEd25519),
            (with(&[&SPKI_PREFIX[..], &[0; 32]].concat()), InvalidKey::SmallOrder),
        ] {
            assert_eq!(ReleaseKey::from_pem(&bad), Err(reason), "{bad}");
        }
    }

    #[test]
    fn names_of_keys_cannot_add_lines_or_options() {
        let key = release_key();
        assert_eq!(key.to_openssh("").unwrap().split(' ').count(), 2);
        for bad in ["a\nb", "a\rb", "\0", &"x".repeat(256)] {
            assert_eq!(key.to_openssh(bad), Err(InvalidKey::Comment), "{bad:?}");
        }
        let namespaces = ["product-build/suite", "av-database/base/stable"].map(|text| text.parse().unwrap());
        let line = key.allowed_signers(PRINCIPAL, &namespaces).unwrap();
        assert!(
            line.starts_with(
                "release namespaces=\"product-build/suite/*@rutli,av-database/base/stable@rutli\" ssh-ed25519 AAAA"
            ),
            "{line}"
        );
        assert_eq!(key.allowed_signers(PRINCIPAL, &[]), Err(InvalidKey::NoNamespace));
        for bad in ["", "*", "a b", "a,b", "!a", "#a", "\"a\"", "a\n", &"x".repeat(256)] {
            assert_eq!(key.allowed_signers(bad, &namespaces), Err(InvalidKey::Principal), "{bad:?}");
        }
    }
}
