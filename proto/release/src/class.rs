//! What kind of release it is.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidRelease;

/// What kind of release it is. Policies, queues and SSHSIG namespaces differ by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A build of a product: few, large, reviewed.
    ProductBuild,
    /// An update of an anti-virus database: frequent and urgent.
    AvDatabase,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 2] = [Self::ProductBuild, Self::AvDatabase];

    /// The class as it is written: `product-build` or `av-database`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProductBuild => "product-build",
            Self::AvDatabase => "av-database",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Class {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(InvalidRelease::Class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_written_as_they_are_read() {
        for class in Class::ALL {
            assert_eq!(class.as_str().parse::<Class>().unwrap(), class);
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
        assert_eq!("product".parse::<Class>(), Err(InvalidRelease::Class));
    }
}
