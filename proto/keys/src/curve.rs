//! Scalars and points of edwards25519, through the public traits of `frost-ed25519` alone.

use frost_ed25519::keys::VerifyingShare;
use frost_ed25519::{Ed25519Group, Ed25519ScalarField, Field, Group, Identifier, VerifyingKey};
use zeroize::Zeroizing;

/// An integer modulo the order of the group.
pub(crate) type Scalar = <Ed25519ScalarField as Field>::Scalar;

/// A point of the prime-order group.
pub(crate) type Element = <Ed25519Group as Group>::Element;

/// The scalar of a participant: its x coordinate.
pub(crate) fn identifier_scalar(identifier: &Identifier) -> Option<Scalar> {
    scalar(identifier.serialize().as_slice())
}

/// Canonical 32 bytes only.
pub(crate) fn scalar(bytes: &[u8]) -> Option<Scalar> {
    let bytes = Zeroizing::new(<[u8; 32]>::try_from(bytes).ok()?);
    Ed25519ScalarField::deserialize(&bytes).ok()
}

/// 32 bytes; wiped when dropped, because most scalars here are secret.
pub(crate) fn scalar_bytes(scalar: &Scalar) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Ed25519ScalarField::serialize(scalar))
}

/// Refuses what is not a point, the identity, and points outside the prime-order group.
pub(crate) fn element(bytes: &[u8; 32]) -> Option<Element> {
    Ed25519Group::deserialize(bytes).ok()
}

/// None for the identity, which has no encoding here.
pub(crate) fn element_bytes(element: &Element) -> Option<[u8; 32]> {
    Ed25519Group::serialize(element).ok()
}

/// None for the identity.
pub(crate) fn verifying_share(element: &Element) -> Option<VerifyingShare> {
    VerifyingShare::deserialize(&element_bytes(element)?).ok()
}

/// None for what [`element`] refuses.
pub(crate) fn verifying_key(bytes: &[u8; 32]) -> Option<VerifyingKey> {
    VerifyingKey::deserialize(bytes).ok()
}

/// `scalar · B`.
pub(crate) fn base_times(scalar: &Scalar) -> Element {
    Ed25519Group::generator() * *scalar
}

/// The neutral element.
pub(crate) fn identity() -> Element {
    Ed25519Group::identity()
}

/// One.
pub(crate) fn one() -> Scalar {
    Ed25519ScalarField::one()
}

/// Zero.
pub(crate) fn zero() -> Scalar {
    Ed25519ScalarField::zero()
}

/// None for zero.
pub(crate) fn invert(scalar: &Scalar) -> Option<Scalar> {
    Ed25519ScalarField::invert(scalar).ok()
}

/// The value at `x` of the polynomial in the exponent that passes through `points`, by Lagrange.
///
/// None if two of the points have the same x coordinate.
pub(crate) fn interpolate(points: &[(Scalar, Element)], x: &Scalar) -> Option<Element> {
    let mut sum = identity();
    for (i, (x_i, y_i)) in points.iter().enumerate() {
        let mut numerator = one();
        let mut denominator = one();
        for (_, (x_j, _)) in points.iter().enumerate().filter(|(j, _)| *j != i) {
            numerator *= *x - *x_j;
            denominator *= *x_i - *x_j;
        }
        sum += *y_i * (numerator * invert(&denominator)?);
    }
    Some(sum)
}
