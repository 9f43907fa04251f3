//! SSHSIG namespaces: which releases a signature over a bare file belongs to.
//!
//! `<class>/<product>/<channel>@rutli`, as in `product-build/suite/stable@rutli`. The namespace is signed, so
//! a file of one product or channel is never accepted as one of another, as a Git commit (`git`) or as any
//! other file (`file`). Class, product and channel are what the *pipeline claimed*; nodes' policies decide
//! who may claim which.

use core::fmt;
use core::str::FromStr;

use crate::class::Class;
use crate::invalid::InvalidRelease;
use crate::names::{Channel, Product};
use crate::verify::{Expectation, NotVerified};

const SUFFIX: &str = "@rutli";

/// The namespace in which the files of a release are signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshNamespace {
    /// What kind of release it is.
    pub class: Class,
    /// The product.
    pub product: Product,
    /// The channel.
    pub channel: Channel,
}

impl SshNamespace {
    /// Compares the namespace with what the caller expects, in the order product, class, channel.
    ///
    /// # Errors
    /// [`NotVerified`] for the first thing that differs; [`NotVerified::NotInNamespace`] if the caller expects a sequence, which
    /// only a statement has.
    pub fn expect(&self, expectation: &Expectation) -> Result<(), NotVerified> {
        if expectation.min_sequence.is_some() {
            return Err(NotVerified::NotInNamespace);
        }
        expectation.check_scope(&self.product, self.class, &self.channel)
    }
}

impl fmt::Display for SshNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}{SUFFIX}", self.class, self.product, self.channel)
    }
}

impl FromStr for SshNamespace {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        let scope = text.strip_suffix(SUFFIX).ok_or(InvalidRelease::Namespace)?;
        match scope.parse()? {
            SshNamespaces { class, product, channel: Some(channel) } => Ok(Self { class, product, channel }),
            SshNamespaces { channel: None, .. } => Err(InvalidRelease::Namespace),
        }
    }
}

/// The namespaces of one product in one class: of one channel or of all. What a line of an allowed-signers file accepts.
///
/// Read from `<class>/<product>` or `<class>/<product>/<channel>`. Written as a pattern of OpenSSH
/// (`ssh_config`, "PATTERNS"): its `*` also matches `/`, so class and product are always written in full. No
/// name has a character with a meaning in patterns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshNamespaces {
    /// What kind of releases.
    pub class: Class,
    /// The product.
    pub product: Product,
    /// The channel; `None` for all.
    pub channel: Option<Channel>,
}

impl fmt::Display for SshNamespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channel = self.channel.as_ref().map_or("*", Channel::as_str);
        write!(f, "{}/{}/{channel}{SUFFIX}", self.class, self.product)
    }
}

impl FromStr for SshNamespaces {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        let (class, names) = text.split_once('/').ok_or(InvalidRelease::Namespace)?;
        let (product, channel) = match names.split_once('/') {
            Some((product, channel)) => (product, Some(channel.parse()?)),
            None => (names, None),
        };
        Ok(Self { class: class.parse()?, product: product.parse()?, channel })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::Sequence;

    fn namespace() -> SshNamespace {
        "product-build/suite/stable@rutli".parse().unwrap()
    }

    #[test]
    fn namespaces_are_written_as_they_are_read() {
        assert_eq!(namespace().to_string(), "product-build/suite/stable@rutli");
        assert_eq!(namespace().class, Class::ProductBuild);
        assert_eq!(namespace().product.as_str(), "suite");
        assert_eq!(namespace().channel.as_str(), "stable");
        for bad in [
            "",
            "file",
            "git",
            "@rutli",
            "product-build@rutli",
            "product-build/suite@rutli",
            "product-build/suite/@rutli",
            "product-build//stable@rutli",
            "product-build/suite/stable",
            "product-build/suite/stable@rutli@rutli",
            "product-build/suite/stable/x@rutli",
            "product-build/suite/*@rutli",
            "product-build/suite/Stable@rutli",
            "firmware/suite/stable@rutli",
            " product-build/suite/stable@rutli",
            "product-build/suite/stable@rutli\n",
        ] {
            assert!(bad.parse::<SshNamespace>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_name_class_and_product_in_full() {
        let pattern = |text: &str| text.parse::<SshNamespaces>().map(|pattern| pattern.to_string());
        assert_eq!(pattern("product-build/suite").unwrap(), "product-build/suite/*@rutli");
        assert_eq!(pattern("av-database/base/beta").unwrap(), "av-database/base/beta@rutli");
        for bad in ["", "suite", "product-build", "product-build/", "*/suite", "product-build/*", "a/b/c/d"] {
            assert!(pattern(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn expectations_are_compared_and_a_sequence_is_not_in_it() {
        let expect = |expectation: Expectation| namespace().expect(&expectation);
        let none = Expectation::default();
        let own = Expectation {
            class: Some(Class::ProductBuild),
            product: Some(Product::new("suite").unwrap()),
            channel: Some(Channel::new("stable").unwrap()),
            ..none.clone()
        };
        assert_eq!(expect(none.clone()), Ok(()));
        assert_eq!(expect(own), Ok(()));
        let other = Expectation { class: Some(Class::AvDatabase), ..none.clone() };
        assert!(matches!(expect(other), Err(NotVerified::OtherClass { .. })));
        let other = Expectation { product: Some(Product::new("other").unwrap()), ..none.clone() };
        assert!(matches!(expect(other), Err(NotVerified::OtherProduct { .. })));
        let other = Expectation { channel: Some(Channel::new("beta").unwrap()), ..none.clone() };
        assert!(matches!(expect(other), Err(NotVerified::OtherChannel { .. })));
        let sequence = Expectation { min_sequence: Some(Sequence::new(1).unwrap()), ..none };
        assert_eq!(expect(sequence), Err(NotVerified::NotInNamespace));
    }
}
