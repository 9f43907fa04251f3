//! SSHSIG: OpenSSH's signatures over files, for `ssh-keygen -Y verify`.
//!
//! With `string` = 32-bit big-endian length ‖ bytes, from OpenSSH's `PROTOCOL.sshsig`:
//!
//! - signed: `"SSHSIG"` ‖ string namespace ‖ string reserved (empty) ‖ string `"sha512"` ‖ string SHA-512(file)
//! - file: `"SSHSIG"` ‖ u32 1 ‖ string publickey ‖ string namespace ‖ string reserved ‖ string `"sha512"` ‖ string signature,
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
const HASH_ALGORITHM: &[u8] = b"sha512";
const ARMOUR_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const ARMOUR_END: &str = "-----END SSH SIGNATURE-----\n";
const ARMOUR_LINE: usize = 70;

/// The bytes that Ed25519 signs for a file with this SHA-512.
pub(crate) fn signed_bytes(namespace: &str, sha512: &[u8; 64]) -> Vec<u8> {
    // Two short constants, four lengths.
    let mut out =
        Vec::with_capacity(MAGIC.len() + HASH_ALGORITHM.len() + 16 + namespace.len() + sha512.len());
    out.extend_from_slice(MAGIC);
    string(&mut out, namespace.as_bytes());
    string(&mut out, b"");
    string(&mut out, HASH_ALGORITHM);
    string(&mut out, sha512);
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
