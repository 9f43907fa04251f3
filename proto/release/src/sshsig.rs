//! SSHSIG: OpenSSH's signatures over files, for `ssh-keygen -Y verify`.
//!
//! With `string` = 32-bit big-endian length ‖ bytes, from OpenSSH's `PROTOCOL.sshsig`:
//!
//! - signed: `"SSHSIG"` ‖ string namespace ‖ string reserved (empty) ‖ string `"sha256"` ‖ string SHA-256(file)
//! - file: `"SSHSIG"` ‖ u32 1 ‖ string publickey ‖ string namespace ‖ string reserved ‖ string `"sha256"` ‖ string signature,
//!   in Base64 lines of 70 characters between `-----BEGIN SSH SIGNATURE-----` and `-----END SSH SIGNATURE-----`
//! - publickey: string `"ssh-ed25519"` ‖ string 32 bytes; signature: string `"ssh-ed25519"` ‖ string 64 bytes
//!
//! The namespace is signed, and is what keeps a signature over a release's file from being taken for one over, say, a Git commit.

use alloc::string::String;
use alloc::vec::Vec;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::key::ReleaseKey;
use crate::verify::NotVerified;

pub(crate) const KEY_TYPE: &str = "ssh-ed25519";

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const HASH_ALGORITHM: &[u8] = b"sha256";
const ARMOUR_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const ARMOUR_END: &str = "-----END SSH SIGNATURE-----\n";
const ARMOUR_LINE: usize = 70;

/// The bytes that Ed25519 signs for a file with this SHA-256.
pub(crate) fn signed_bytes(namespace: &str, sha256: &[u8; 32]) -> Vec<u8> {
    // Two short constants, four lengths.
    let mut out =
        Vec::with_capacity(MAGIC.len() + HASH_ALGORITHM.len() + 16 + namespace.len() + sha256.len());
    out.extend_from_slice(MAGIC);
    string(&mut out, namespace.as_bytes());
    string(&mut out, b"");
    string(&mut out, HASH_ALGORITHM);
    string(&mut out, sha256);
    out
}

/// The public key as OpenSSH writes it (RFC 8709 section 4).
pub(crate) fn public_key(key: &ReleaseKey) -> Vec<u8> {
    let mut out = Vec::with_capacity(51);
    string(&mut out, KEY_TYPE.as_bytes());
    string(&mut out, key.as_bytes());
    out
}

/// The `.sig` file.
pub(crate) fn armoured(key: &ReleaseKey, namespace: &str, signature: &[u8; 64]) -> String {
    let encoded = STANDARD.encode(blob(key, namespace, signature));
    let mut out = String::with_capacity(encoded.len() + 80);
    out.push_str(ARMOUR_BEGIN);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII, so every place is a boundary.
        let (line, remainder) = rest.split_at_checked(ARMOUR_LINE).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = remainder;
    }
    out.push_str(ARMOUR_END);
    out
}

/// What a `.sig` file says. Nothing of it is verified.
pub(crate) struct OpenSignature {
    pub(crate) namespace: String,
    pub(crate) signature: [u8; 64],
}

/// Opens a `.sig` file made with `key`, refusing every spelling but our own.
pub(crate) fn open(key: &ReleaseKey, armour: &str) -> Result<OpenSignature, NotVerified> {
    let bytes = unarmour(armour)?;
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(NotVerified::NotAnSshSignature)?;
    if take_u32(&mut rest)? != VERSION {
        return Err(NotVerified::SshSignatureVersion);
    }
    if take_string(&mut rest)? != public_key(key) {
        return Err(NotVerified::WrongKey);
    }
    let namespace = core::str::from_utf8(take_string(&mut rest)?).map_err(|_| NotVerified::Namespace)?.into();
    if !take_string(&mut rest)?.is_empty() {
        return Err(NotVerified::SshSignatureReserved);
    }
    if take_string(&mut rest)? != HASH_ALGORITHM {
        return Err(NotVerified::SshSignatureHash);
    }
    let mut inner = take_string(&mut rest)?;
    if take_string(&mut inner)? != KEY_TYPE.as_bytes() {
        return Err(NotVerified::SshSignatureType);
    }
    let signature = take_string(&mut inner)?.try_into().map_err(|_| NotVerified::SignatureLength)?;
    if !inner.is_empty() || !rest.is_empty() {
        return Err(NotVerified::TrailingData);
    }
    let open = OpenSignature { namespace, signature };
    // The last word: whatever the steps above let through, only the one encoding that we write is accepted.
    if armoured(key, &open.namespace, &open.signature) != armour {
        return Err(NotVerified::NotAnSshSignature);
    }
    Ok(open)
}

fn blob(key: &ReleaseKey, namespace: &str, signature: &[u8; 64]) -> Vec<u8> {
    let mut inner = Vec::with_capacity(83);
    string(&mut inner, KEY_TYPE.as_bytes());
    string(&mut inner, signature);

    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    string(&mut out, &public_key(key));
    string(&mut out, namespace.as_bytes());
    string(&mut out, b"");
    string(&mut out, HASH_ALGORITHM);
    string(&mut out, &inner);
    out
}

/// Appends `bytes` after their length (RFC 4251 section 5).
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    // All strings here are namespaces, keys and digests of less than 300 bytes; saturating gives a length that no reader takes.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn unarmour(armour: &str) -> Result<Vec<u8>, NotVerified> {
    let body: String = armour
        .strip_prefix(ARMOUR_BEGIN)
        .and_then(|rest| rest.strip_suffix(ARMOUR_END))
        .ok_or(NotVerified::NotAnSshSignature)?
        .lines()
        .collect();
    STANDARD.decode(body).map_err(|_| NotVerified::NotAnSshSignature)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, NotVerified> {
    let (bytes, remainder) = rest.split_first_chunk::<4>().ok_or(NotVerified::NotAnSshSignature)?;
    *rest = remainder;
    Ok(u32::from_be_bytes(*bytes))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], NotVerified> {
    let length = usize::try_from(take_u32(rest)?).map_err(|_| NotVerified::NotAnSshSignature)?;
    let (bytes, remainder) = rest.split_at_checked(length).ok_or(NotVerified::NotAnSshSignature)?;
    *rest = remainder;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ssh_key::{HashAlg, SshSig};

    use super::*;
    use crate::testing::{release_key, text};

    const NAMESPACE: &str = "product-build/suite/stable@rutli";

    /// The `.sig` file with these bytes in it.
    fn armour(bytes: &[u8]) -> String {
        let encoded = STANDARD.encode(bytes);
        let lines: Vec<&str> =
            encoded.as_bytes().chunks(70).map(|line| core::str::from_utf8(line).unwrap()).collect();
        alloc::format!("{ARMOUR_BEGIN}{}\n{ARMOUR_END}", lines.join("\n"))
    }

    fn encode(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for part in parts {
            string(&mut out, part);
        }
        out
    }

    /// A signature of which every field can be chosen.
    fn custom(version: u32, fields: [&[u8]; 5], rest: &[u8]) -> String {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&encode(&fields));
        bytes.extend_from_slice(rest);
        armour(&bytes)
    }

    #[test]
    fn another_implementation_signs_the_same_bytes() {
        let file = b"some file";
        let sha256: [u8; 32] = {
            use sha2::Digest;
            sha2::Sha256::digest(file).into()
        };
        assert_eq!(
            signed_bytes(NAMESPACE, &sha256),
            SshSig::signed_data(NAMESPACE, HashAlg::Sha256, file).unwrap()
        );
    }

    #[test]
    fn another_implementation_reads_the_same_fields() {
        let key = release_key();
        let parsed = SshSig::from_pem(armoured(&key, NAMESPACE, &[9; 64])).unwrap();
        assert_eq!(parsed.version(), 1);
        assert_eq!(parsed.public_key().ed25519().unwrap().as_ref(), key.as_bytes());
        assert_eq!(parsed.namespace(), NAMESPACE);
        assert_eq!(parsed.reserved(), b"");
        assert_eq!(parsed.hash_alg(), HashAlg::Sha256);
        assert_eq!(parsed.signature_bytes(), [9; 64]);
        let public = ssh_key::PublicKey::from_openssh(&key.to_openssh("a comment").unwrap()).unwrap();
        assert_eq!(public.key_data().ed25519().unwrap().as_ref(), key.as_bytes());
        assert_eq!(public.comment(), "a comment");
    }

    #[test]
    fn every_field_must_be_ours() {
        let key = release_key();
        let public = public_key(&key);
        let signature = encode(&[b"ssh-ed25519", &[9; 64]]);
        let fields = [&public[..], NAMESPACE.as_bytes(), b"", b"sha256", &signature];
        assert_eq!(custom(1, fields, b""), armoured(&key, NAMESPACE, &[9; 64]));
        assert!(open(&key, &custom(1, fields, b"")).is_ok());

        let refused = |field: usize, value: &[u8]| {
            let mut changed = fields;
            changed[field] = value;
            open(&key, &custom(1, changed, b"")).err()
        };
        for version in [0, 2, u32::MAX] {
            assert_eq!(
                open(&key, &custom(version, fields, b"")).err(),
                Some(NotVerified::SshSignatureVersion)
            );
        }
        let other_key = encode(&[b"ssh-ed25519", &[1; 32]]);
        let other_type = encode(&[b"sk-ssh-ed25519@openssh.com", key.as_bytes(), b"ssh:"]);
        let longer_key = [&public[..], b"x"].concat();
        for wrong in [&other_key[..], &other_type, &longer_key, b""] {
            assert_eq!(refused(0, wrong), Some(NotVerified::WrongKey));
        }
        assert_eq!(refused(1, b"\xff"), Some(NotVerified::Namespace));
        assert_eq!(refused(2, b"x"), Some(NotVerified::SshSignatureReserved));
        for hash in [&b"sha512"[..], b"SHA256", b""] {
            assert_eq!(refused(3, hash), Some(NotVerified::SshSignatureHash));
        }
        assert_eq!(refused(4, &encode(&[b"ssh-rsa", &[9; 64]])), Some(NotVerified::SshSignatureType));
        for length in [0, 63, 65] {
            let wrong = encode(&[b"ssh-ed25519", &[9; 65][..length]]);
            assert_eq!(refused(4, &wrong), Some(NotVerified::SignatureLength));
        }
        let longer = [&signature[..], b"x"].concat();
        assert_eq!(refused(4, &longer), Some(NotVerified::TrailingData));
        assert_eq!(open(&key, &custom(1, fields, b"x")).err(), Some(NotVerified::TrailingData));
    }

    #[test]
    fn only_one_spelling_is_read() {
        let key = release_key();
        let good = armoured(&key, NAMESPACE, &[9; 64]);
        let one_line = good.lines().collect::<Vec<_>>().join("");
        for bad in [
            good.replace('\n', "\r\n"),
            good.trim_end().into(),
            good.clone() + "\n",
            good.clone() + &good,
            String::from("\n") + &good,
            good.replace("SSH SIGNATURE", "SIGNATURE"),
            good.replacen("-----\n", "-----\nComment: x\n\n", 1),
            good.replacen("-----\n", "-----\n\n", 1),
            one_line,
            good.replace("\n-----END", "=\n-----END"),
            String::new(),
            ARMOUR_BEGIN.into(),
            alloc::format!("{ARMOUR_BEGIN}{ARMOUR_END}"),
        ] {
            assert_ne!(bad, good);
            assert_eq!(open(&key, &bad).err(), Some(NotVerified::NotAnSshSignature), "{bad}");
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let key = release_key();
        let bytes = blob(&key, NAMESPACE, &[9; 64]);
        for length in 0..bytes.len() {
            assert_eq!(
                open(&key, &armour(&bytes[..length])).err(),
                Some(NotVerified::NotAnSshSignature),
                "{length}"
            );
        }
    }

    #[test]
    fn the_armour_is_that_of_ssh_keygen() {
        let armour = armoured(&release_key(), NAMESPACE, &[9; 64]);
        let lines: Vec<&str> = armour.lines().collect();
        assert_eq!(lines[0], "-----BEGIN SSH SIGNATURE-----");
        assert_eq!(lines[lines.len() - 1], "-----END SSH SIGNATURE-----");
        let (last, full) = lines[1..lines.len() - 1].split_last().unwrap();
        assert!(full.iter().all(|line| line.len() == 70) && !last.is_empty() && last.len() <= 70);
        assert!(armour.len() <= crate::limits::MAX_SSHSIG_BYTES);
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in any::<Vec<u8>>(), noise in any::<String>()) {
            let key = release_key();
            prop_assert!(open(&key, &noise).is_err());
            prop_assert!(open(&key, &armour(&bytes)).is_err());
            let mut bytes = [MAGIC, &[0, 0, 0, 1], &bytes].concat();
            prop_assert!(open(&key, &armour(&bytes)).is_err());
            bytes.truncate(10);
            string(&mut bytes, &public_key(&key));
            bytes.extend_from_slice(noise.as_bytes());
            prop_assert!(open(&key, &armour(&bytes)).is_err());
        }

        #[test]
        fn what_is_written_is_read_back(signature in any::<[[u8; 32]; 2]>(), namespace in "[a-z@./-]{1,64}") {
            let signature: [u8; 64] = signature.concat().try_into().unwrap();
            let key = release_key();
            let opened = open(&key, &armoured(&key, &namespace, &signature)).unwrap();
            prop_assert_eq!(opened.namespace, namespace);
            prop_assert_eq!(opened.signature, signature);
        }
    }

    #[test]
    fn the_armour_is_ascii() {
        assert!(text(armoured(&release_key(), NAMESPACE, &[0xff; 64]).into_bytes()).is_ascii());
    }
}
