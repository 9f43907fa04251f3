//! Makes Sigstore bundles, with promises by aws-lc.
//!
//! One is made for every release, and the promise in it was most of its cost: aws-lc signs over P-256 in a fifth of the time.
//! Its nonces are random, hence it is here and not in `rutli-log`, which draws no randomness.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rutli_log::{
    Head, InvalidLogKey,
    sigstore::{BundleNotVerified, LoggedSignature, SigstoreHead, SigstoreSigner},
};

use crate::error::{Error, Result};

/// The log's key for Sigstore's verifiers, in both libraries.
#[derive(Debug)]
pub struct BundleSigner {
    signer: SigstoreSigner,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl BundleSigner {
    /// Takes the key over.
    ///
    /// # Errors
    /// [`Error::Log`]: never for a key that [`SigstoreSigner`] took.
    pub fn new(signer: SigstoreSigner) -> Result<Self> {
        let refused = |error: &dyn std::fmt::Display| {
            Error::Log(format!("its key for Sigstore's tools is not taken ({error}): make another one"))
        };
        let der = signer.to_pkcs8_der().map_err(|error| refused(&error))?;
        // Refused if its public half does not go with the secret one.
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der)
            .map_err(|error| refused(&error))?;
        Ok(Self { signer, key, random: SystemRandom::new() })
    }

    /// As [`SigstoreSigner::sign_head`].
    ///
    /// # Errors
    /// As there.
    pub fn sign_head(&self, head: Head) -> std::result::Result<SigstoreHead, InvalidLogKey> {
        self.signer.sign_head(head)
    }

    /// As [`SigstoreSigner::bundle_of_verified`]: the entry is one that this coordinator appended.
    ///
    /// # Errors
    /// As there.
    pub fn bundle(&self, logged: &LoggedSignature<'_>) -> std::result::Result<Vec<u8>, BundleNotVerified> {
        let sign = |message: &[u8]| Some(self.key.sign(&self.random, message).ok()?.as_ref().to_vec());
        self.signer.bundle_of_verified(logged, sign)
    }
}
