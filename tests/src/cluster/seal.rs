//! A node's seal, and what it closes.

use std::{fs, path::Path};

use age::{secrecy::SecretString, x25519};
use rutli_keys::IdentityKey;

/// A node's `seal.txt`, encrypted with a passphrase. The work factor is the least, for it is not what is tested.
pub fn encrypt(path: &Path, passphrase: &str) {
    let plain = fs::read(path).unwrap();
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(rutli_signer_node::limits::MIN_SCRYPT_LOG_N);
    fs::write(path, age::encrypt(&recipient, &plain).unwrap()).unwrap();
}

/// The text of a node's seal; of an encrypted one with its passphrase, as its custodian would.
#[must_use]
pub fn text(node_folder: &Path, passphrase: &str) -> String {
    let file = fs::read(node_folder.join("seal.txt")).unwrap();
    let plain = if file.starts_with(b"age-encryption.org/") {
        age::decrypt(&age::scrypt::Identity::new(passphrase.to_owned().into()), &file).unwrap()
    } else {
        file
    };
    String::from_utf8(plain).unwrap().trim().to_owned()
}

/// Opens what is sealed to a node.
#[must_use]
pub fn open(node_folder: &Path, passphrase: &str, sealed: &[u8]) -> Vec<u8> {
    let seal: x25519::Identity = text(node_folder, passphrase).parse().unwrap();
    age::decrypt(&seal, sealed).unwrap()
}

/// The identity key of a node, as PKCS #8 PEM.
#[must_use]
pub fn identity_pem(node_folder: &Path, passphrase: &str) -> String {
    let sealed = fs::read(node_folder.join("identity.age")).unwrap();
    String::from_utf8(open(node_folder, passphrase, &sealed)).unwrap()
}

/// The identity key of a node.
#[must_use]
pub fn identity(node_folder: &Path, passphrase: &str) -> IdentityKey {
    IdentityKey::from_pkcs8_pem(&identity_pem(node_folder, passphrase)).unwrap()
}
