//! A signing share in memory.
//!
//! `frost_ed25519::keys::SigningShare` is `Copy` and its `serialize` gives a `Vec` that nobody wipes. This type is
//! neither `Copy` nor `Clone`, holds its bytes inline, so that whoever boxes it decides which page they lie in and can
//! lock that page, and wipes them on drop.

use std::fmt;

use frost_ed25519::keys::SigningShare as FrostShare;
use zeroize::{Zeroize, Zeroizing};

use crate::curve::{self, Scalar};
use crate::error::InvalidShare;

/// One node's secret share of one key: a scalar other than zero, 32 bytes little-endian.
pub struct SigningShare(Zeroizing<[u8; 32]>);

impl SigningShare {
    /// Copies 32 canonical bytes. The caller wipes its own copy.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidShare> {
        let scalar = Zeroizing::new(curve::scalar(bytes).ok_or(InvalidShare)?);
        if *scalar == curve::zero() {
            return Err(InvalidShare);
        }
        let mut share = Zeroizing::new([0; 32]);
        share.copy_from_slice(bytes);
        Ok(Self(share))
    }

    /// The secret bytes, for sealing and for locking their memory.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The point that belongs to the share, compressed. Public.
    pub fn verifying_share(&self) -> [u8; 32] {
        // Not the identity, because the share is not zero.
        curve::element_bytes(&curve::base_times(&self.scalar())).unwrap_or_default()
    }

    /// The crate's own type, which is `Copy`: call `zeroize` on it as soon as it has done its work.
    pub fn to_frost(&self) -> Zeroizing<FrostShare> {
        Zeroizing::new(FrostShare::deserialize(self.expose()).unwrap_or_default())
    }

    /// Takes over a share of the crate's own type, and wipes it.
    pub(crate) fn from_frost(mut share: FrostShare) -> Result<Self, InvalidShare> {
        let bytes = Zeroizing::new(share.serialize());
        share.zeroize();
        Self::from_bytes(&bytes)
    }

    pub(crate) fn scalar(&self) -> Zeroizing<Scalar> {
        Zeroizing::new(curve::scalar(self.expose()).unwrap_or_else(curve::zero))
    }

    /// A second holder of the same share. Not `Clone`, so that every copy is seen in the code.
    pub fn duplicate(&self) -> Self {
        let mut share = Zeroizing::new([0; 32]);
        share.copy_from_slice(self.expose());
        Self(share)
    }
}

/// For containers that wipe what they hold.
impl Zeroize for SigningShare {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SigningShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningShare(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_scalars_other_than_zero() {
        assert!(SigningShare::from_bytes(&[0; 32]).is_err());
        assert!(SigningShare::from_bytes(&[0xff; 32]).is_err());
        assert!(SigningShare::from_bytes(&[1; 31]).is_err());
        let share = SigningShare::from_bytes(&[1; 32]).unwrap();
        assert_eq!(share.expose(), &[1; 32]);
        assert_eq!(share.to_frost().serialize(), [1; 32]);
        assert!(!format!("{share:?}").contains('1'));
    }
}
