//! Which formats a release's signatures come in.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::invalid::InvalidRelease;

/// A format that a release's signatures come in. The order is that of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A DSSE envelope around the in-toto Statement.
    Dsse,
    /// One SSHSIG per artifact, for `ssh-keygen -Y verify`.
    Sshsig,
    /// The signed bytes of the DSSE envelope as a file, and the raw signature over them as another.
    Statement,
}

impl Format {
    /// All formats, in order.
    pub const ALL: [Self; 3] = [Self::Dsse, Self::Sshsig, Self::Statement];

    /// The format as it is written: `dsse`, `sshsig` or `statement`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dsse => "dsse",
            Self::Sshsig => "sshsig",
            Self::Statement => "statement",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Format {
    type Err = InvalidRelease;

    fn from_str(text: &str) -> Result<Self, InvalidRelease> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(InvalidRelease::Format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_written_as_they_are_read() {
        for format in Format::ALL {
            assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
            assert_eq!(serde_json::to_value(format).unwrap(), format.as_str());
        }
        assert_eq!("Dsse".parse::<Format>(), Err(InvalidRelease::Format));
        assert!(Format::ALL.is_sorted() && Format::ALL.map(Format::as_str).is_sorted());
    }
}
