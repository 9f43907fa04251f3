//! The configuration: one TOML file. Unknown keys are errors, for a misspelt limit would otherwise be no limit; relative
//! paths are relative to the file's own folder.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rutli_keys::KeyName;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    limits,
};

/// Everything the daemon is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, for nodes and clients alike.
    pub listen: SocketAddr,
    /// Where `coordinator.sqlite` lies. Made if it is not there.
    pub data_dir: PathBuf,
    /// PEM files; read again when they change.
    pub tls: TlsFiles,
    /// The key that signs releases, by its name. Absent: the first one that was made.
    #[serde(default)]
    pub release_key: Option<String>,
    /// Bounds, all optional.
    #[serde(default)]
    pub limits: Limits,
}

/// Paths of PEM files.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Authorities that vouch for nodes and clients.
    pub ca: PathBuf,
    /// Own certificate, then intermediates.
    pub certificate: PathBuf,
    /// Own private key.
    pub key: PathBuf,
}

/// What an operator may bound otherwise than by default.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections, nodes and clients together.
    pub max_connections: u32,
    /// Releases that are not final yet.
    pub max_waiting_releases: u32,
    /// Hours after which a release that could not be signed expires.
    pub release_lifetime_hours: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: limits::DEFAULT_CONNECTIONS,
            max_waiting_releases: limits::DEFAULT_WAITING_RELEASES,
            release_lifetime_hours: limits::DEFAULT_LIFETIME_HOURS,
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error::Config`] with the place of the problem.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |problem: String| Error::Config { path: path.to_owned(), problem };
        let mut text = String::new();
        std::fs::File::open(path)
            .and_then(|file| file.take(limits::MAX_CONFIG_BYTES).read_to_string(&mut text))
            .map_err(|error| wrong(error.to_string()))?;
        let mut config = Self::parse(&text).map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for relative in
            [&mut config.data_dir, &mut config.tls.ca, &mut config.tls.certificate, &mut config.tls.key]
        {
            *relative = folder.join(&*relative);
        }
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for (name, value, most) in [
            ("max_connections", config.limits.max_connections, limits::MAX_CONNECTIONS),
            ("max_waiting_releases", config.limits.max_waiting_releases, limits::MAX_WAITING_RELEASES),
            ("release_lifetime_hours", config.limits.release_lifetime_hours, limits::MAX_LIFETIME_HOURS),
        ] {
            if value == 0 || value > most {
                return Err(format!("limits.{name} is {value}: give 1 to {most}"));
            }
        }
        if let Some(name) = &config.release_key {
            KeyName::new(name.as_str()).map_err(|error| format!("release_key: {error}"))?;
        }
        for (name, path) in [
            ("data_dir", &config.data_dir),
            ("tls.ca", &config.tls.ca),
            ("tls.certificate", &config.tls.certificate),
            ("tls.key", &config.tls.key),
        ] {
            if path.as_os_str().is_empty() {
                return Err(format!("{name} is empty: give a path"));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
listen = "127.0.0.1:7410"
data_dir = "data"
[tls]
ca = "ca.pem"
certificate = "/etc/rutli/tls.pem"
key = "tls.key"
"#;

    fn problem(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, text).unwrap();
        let message = Config::read(&path).unwrap_err().to_string();
        assert!(message.contains("coordinator.toml"), "{message}");
        message
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, GOOD).unwrap();
        let config = Config::read(&path).unwrap();
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.tls.ca, folder.path().join("ca.pem"));
        assert_eq!(config.tls.certificate, Path::new("/etc/rutli/tls.pem"));
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn limits_are_read() {
        let config = Config::parse(&format!("{GOOD}[limits]\nmax_waiting_releases = 5\n")).unwrap();
        assert_eq!(config.limits.max_waiting_releases, 5);
        assert_eq!(config.limits.max_connections, limits::DEFAULT_CONNECTIONS);
    }

    #[test]
    fn the_example_is_right() {
        let example = include_str!("../../deploy/examples/coordinator.toml");
        assert_eq!(Config::parse(example).unwrap().limits, Limits::default());
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(problem(&GOOD.replace("ca.pem\"", "ca.pem\"\nsurprise = 1")).contains("surprise"));
        assert!(problem(&GOOD.replace("listen = \"127.0.0.1:7410\"", "")).contains("listen"));
        assert!(problem(&GOOD.replace("127.0.0.1:7410", "localhost")).contains("listen = \"localhost\""));
        assert!(problem(&format!("{GOOD}[limits]\nmax_conections = 5\n")).contains("max_conections"));
        assert!(
            problem(&format!("{GOOD}[limits]\nmax_connections = 0\n"))
                .contains("limits.max_connections is 0")
        );
        assert!(problem(&GOOD.replace("\"data\"", "\"\"")).contains("data_dir is empty"));
    }

    #[test]
    fn a_missing_file_is_named() {
        let message = Config::read(Path::new("/nonexistent/coordinator.toml")).unwrap_err().to_string();
        assert!(message.contains("/nonexistent/coordinator.toml"), "{message}");
    }
}
