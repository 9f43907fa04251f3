//! The configuration: one TOML file. Unknown keys are errors, for a misspelt limit would otherwise be no limit; relative
//! paths are relative to the file's own folder.

use std::{
    collections::BTreeSet,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rutli_keys::KeyName;
use rutli_log::{Cosigner, Origin, sigstore::LogUrl};
use serde::Deserialize;
use tonic::transport::Uri;

use crate::{
    clients::Clients,
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
    /// The transparency log that it keeps.
    pub log: Log,
    /// The key that signs releases, by its name. Absent: the first one that was made.
    #[serde(default)]
    pub release_key: Option<String>,
    /// Bounds, all optional.
    #[serde(default)]
    pub limits: Limits,
    /// Who may ask for what.
    #[serde(default, rename = "client")]
    pub clients: Clients,
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

/// The transparency log: its name and keys, and how the world reads it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Names the log for ever: another origin is another log.
    pub origin: Origin,
    /// Signs checkpoints: Ed25519, PKCS #8 PEM.
    pub key: PathBuf,
    /// Signs the heads that Sigstore's verifiers want: ECDSA P-256, PKCS #8 PEM.
    pub sigstore_key: PathBuf,
    /// Where it is read, over HTTP.
    pub listen: SocketAddr,
    /// How the world reaches it, without a slash at its end. Absent or empty: `http://` and the address it listens on.
    #[serde(default)]
    pub url: String,
    /// The files that are read there, and nothing else. Made if it is not there. Absent or empty: `log` in the data folder.
    #[serde(default)]
    pub folder: PathBuf,
    /// Witnesses outside of the deployment that are asked to cosign.
    #[serde(default)]
    pub witness: Vec<Witness>,
}

/// A witness outside of the deployment (c2sp.org/tlog-witness).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// `add-checkpoint` is below it; without a slash at its end.
    pub url: String,
    /// What its cosignatures verify with.
    pub key: Cosigner,
}

/// What an operator may bound otherwise than by default. Each is for all together; one name has at most a quarter of it, the
/// names of one authority three quarters.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections of clients.
    pub max_connections: u32,
    /// Open connections of nodes.
    pub max_node_connections: u32,
    /// Connections whose handshake is under way.
    pub max_handshakes: u32,
    /// Calls with one answer, until it is sent.
    pub max_calls: u32,
    /// Streams of those who watch.
    pub max_watchers: u32,
    /// Requests on their way in.
    pub max_request_mebibytes: u32,
    /// Answers on their way out.
    pub max_answer_mebibytes: u32,
    /// Seconds that a request may take to arrive.
    pub request_seconds: u32,
    /// Seconds that an answer may go without being read.
    pub answer_seconds: u32,
    /// Releases that are not final yet.
    pub max_waiting_releases: u32,
    /// Content and evidence of these.
    pub max_waiting_mebibytes: u32,
    /// Releases and documents of evidence that are taken in an hour.
    pub max_requests_per_hour: u32,
    /// Growth of store and log by these in an hour.
    pub max_mebibytes_per_hour: u32,
    /// Requests under embargo.
    pub max_embargoes: u32,
    /// Hours after which a release that could not be signed expires.
    pub release_lifetime_hours: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: limits::DEFAULT_CONNECTIONS,
            max_node_connections: limits::DEFAULT_NODE_CONNECTIONS,
            max_handshakes: limits::DEFAULT_HANDSHAKES,
            max_calls: limits::DEFAULT_CALLS,
            max_watchers: limits::DEFAULT_WATCHERS,
            max_request_mebibytes: limits::DEFAULT_REQUEST_MEBIBYTES,
            max_answer_mebibytes: limits::DEFAULT_ANSWER_MEBIBYTES,
            request_seconds: limits::DEFAULT_REQUEST_SECONDS,
            answer_seconds: limits::DEFAULT_ANSWER_SECONDS,
            max_waiting_releases: limits::DEFAULT_WAITING_RELEASES,
            max_waiting_mebibytes: limits::DEFAULT_WAITING_MEBIBYTES,
            max_requests_per_hour: limits::DEFAULT_REQUESTS_PER_HOUR,
            max_mebibytes_per_hour: limits::DEFAULT_MEBIBYTES_PER_HOUR,
            max_embargoes: limits::MAX_EMBARGOES,
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
        Self::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(wrong)
    }

    /// From text that lies in `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.limits.check()?;
        config.clients.check()?;
        if let Some(name) = &config.release_key {
            KeyName::new(name.as_str()).map_err(|error| format!("release_key: {error}"))?;
        }
        for (name, path) in [
            ("data_dir", &mut config.data_dir),
            ("tls.ca", &mut config.tls.ca),
            ("tls.certificate", &mut config.tls.certificate),
            ("tls.key", &mut config.tls.key),
            ("log.key", &mut config.log.key),
            ("log.sigstore_key", &mut config.log.sigstore_key),
        ] {
            if path.as_os_str().is_empty() {
                return Err(format!("{name} is empty: give a path"));
            }
            *path = folder.join(&*path);
        }
        config.log.folder = if config.log.folder.as_os_str().is_empty() {
            config.data_dir.join("log")
        } else {
            folder.join(&config.log.folder)
        };
        config.log.check()?;
        config.keep_secrets_out_of_the_log()?;
        if config.listen == config.log.listen && config.listen.port() != 0 {
            return Err(format!("listen and log.listen are both {}: give each its own port", config.listen));
        }
        Ok(config)
    }

    /// Everything in the log's folder is for the world.
    fn keep_secrets_out_of_the_log(&self) -> Result<(), String> {
        for (name, path) in [
            ("data_dir", &self.data_dir),
            ("tls.key", &self.tls.key),
            ("log.key", &self.log.key),
            ("log.sigstore_key", &self.log.sigstore_key),
        ] {
            if path.starts_with(&self.log.folder) {
                return Err(format!(
                    "{name} is in log.folder ({}), which the world reads: give the log a folder of its own",
                    self.log.folder.display()
                ));
            }
        }
        Ok(())
    }
}

impl Limits {
    /// Bytes of requests on their way in.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        mebibytes(self.max_request_mebibytes)
    }

    /// Bytes of answers on their way out.
    #[must_use]
    pub fn answer_bytes(&self) -> u64 {
        mebibytes(self.max_answer_mebibytes)
    }

    /// Bytes of content and evidence that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        mebibytes(self.max_waiting_mebibytes)
    }

    /// Bytes by which store and log may grow in an hour.
    #[must_use]
    pub fn bytes_per_hour(&self) -> u64 {
        mebibytes(self.max_mebibytes_per_hour)
    }

    fn check(&self) -> Result<(), String> {
        let least = limits::LEAST_MEBIBYTES;
        for (name, value, least, most) in [
            ("max_connections", self.max_connections, 1, limits::MAX_CONNECTIONS),
            ("max_node_connections", self.max_node_connections, 1, limits::MAX_CONNECTIONS),
            ("max_handshakes", self.max_handshakes, 1, limits::MAX_HANDSHAKES),
            ("max_calls", self.max_calls, 1, limits::MAX_CALLS),
            ("max_watchers", self.max_watchers, 1, limits::MAX_WATCHERS),
            ("max_request_mebibytes", self.max_request_mebibytes, least, limits::MOST_MEBIBYTES),
            ("max_answer_mebibytes", self.max_answer_mebibytes, least, limits::MOST_MEBIBYTES),
            ("request_seconds", self.request_seconds, 1, limits::MAX_SECONDS),
            ("answer_seconds", self.answer_seconds, 1, limits::MAX_SECONDS),
            ("max_waiting_releases", self.max_waiting_releases, 1, limits::MAX_WAITING_RELEASES),
            ("max_waiting_mebibytes", self.max_waiting_mebibytes, least, limits::MOST_MEBIBYTES),
            ("max_requests_per_hour", self.max_requests_per_hour, 1, limits::MAX_REQUESTS_PER_HOUR),
            ("max_mebibytes_per_hour", self.max_mebibytes_per_hour, 1, limits::MAX_MEBIBYTES_PER_HOUR),
            ("max_embargoes", self.max_embargoes, 1, limits::MAX_EMBARGOES),
            ("release_lifetime_hours", self.release_lifetime_hours, 1, limits::MAX_LIFETIME_HOURS),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("limits.{name} is {value}: give {least} to {most}"));
            }
        }
        Ok(())
    }
}

fn mebibytes(count: u32) -> u64 {
    u64::from(count) << 20
}

impl Log {
    /// Checks what types do not, and brings URLs into one form.
    fn check(&mut self) -> Result<(), String> {
        if self.key == self.sigstore_key {
            return Err(
                "log.key and log.sigstore_key are the same file: the first is an Ed25519 key, the second an \
                        ECDSA P-256 key"
                    .to_owned(),
            );
        }
        if self.url.is_empty() {
            if self.listen.ip().is_unspecified() {
                return Err(format!(
                    "log.listen is every address ({}): say in log.url how the world reaches the log, as \
                     https://log.example.com",
                    self.listen
                ));
            }
            self.url = format!("http://{}", self.listen);
        }
        // Its host and port are the log's name in Sigstore's bundles.
        let url: LogUrl = self.url.parse().map_err(|error| format!("log.url is {:?}: {error}", self.url))?;
        self.url = url.to_string();
        if self.witness.len() > limits::MAX_WITNESSES {
            return Err(format!(
                "log.witness is there {} times: give at most {}",
                self.witness.len(),
                limits::MAX_WITNESSES
            ));
        }
        let mut keys = BTreeSet::new();
        for witness in &mut self.witness {
            witness.url = base_url(&witness.url)?;
            if !keys.insert(*witness.key.key()) {
                return Err(format!("the key of log.witness {} is there twice: leave one out", witness.url));
            }
        }
        Ok(())
    }
}

/// An HTTP URL that paths can be put after, without a slash at its end.
fn base_url(url: &str) -> Result<String, String> {
    let usable = |uri: &Uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.query().is_none()
    };
    match url.parse::<Uri>() {
        Ok(uri) if url.len() <= limits::MAX_URL_BYTES && usable(&uri) && !url.contains(['#', '@']) => {
            Ok(url.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "log.witness.url is {url:?}: give http:// or https://, a host and perhaps a path, as https://witness.example"
        )),
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
[log]
origin = "log.example.com/2026"
key = "log.pem"
sigstore_key = "log-sigstore.pem"
listen = "127.0.0.1:7412"
"#;
    const WITNESS: &str = include_str!("../../proto/log/tests/vectors/witness.vkey");

    const WRONG_URLS: [&str; 7] = [
        "log.example.com",
        "ftp://log.example.com",
        "https://",
        "https://x/?a",
        "https://x/#a",
        "https://a@x/",
        "https://x y",
    ];

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/rutli")).unwrap()
    }

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
        assert_eq!(config.log.key, folder.path().join("log.pem"));
        assert_eq!(config.log.sigstore_key, folder.path().join("log-sigstore.pem"));
    }

    #[test]
    fn what_the_log_leaves_out_has_defaults() {
        let log = parse(GOOD).log;
        assert_eq!(log.origin.as_str(), "log.example.com/2026");
        assert_eq!(log.url, "http://127.0.0.1:7412");
        assert_eq!(log.folder, Path::new("/etc/rutli/data/log"));
        assert!(log.witness.is_empty());
    }

    #[test]
    fn what_the_log_says_is_taken() {
        let witness =
            format!("[[log.witness]]\nurl = \"https://w.example/\"\nkey = \"{}\"\n", WITNESS.trim());
        let text = format!("{GOOD}url = \"https://log.example.com/a/\"\nfolder = \"public\"\n{witness}");
        let log = parse(&text).log;
        assert_eq!(log.url, "https://log.example.com/a");
        assert_eq!(log.folder, Path::new("/etc/rutli/public"));
        assert_eq!(log.witness[0].url, "https://w.example");
        assert_eq!(log.witness[0].key.to_string(), WITNESS.trim());
        assert!(problem(&format!("{text}{witness}")).contains("is there twice"));
        let many = witness.repeat(limits::MAX_WITNESSES + 1);
        assert!(problem(&format!("{GOOD}{many}")).contains("give at most"));
        assert!(problem(&text.replace(&WITNESS.trim()[..20], "rubbish")).contains("key"));
    }

    #[test]
    fn mistakes_about_the_log_are_named() {
        let section = GOOD.find("[log]").unwrap();
        assert!(problem(&GOOD[..section]).contains("missing field `log`"));
        assert!(problem(&format!("{GOOD}surprise = 1\n")).contains("surprise"));
        for key in ["origin", "key", "sigstore_key", "listen"] {
            let log: String = GOOD[section..]
                .lines()
                .filter(|line| !line.starts_with(key))
                .fold(String::new(), |text, line| text + line + "\n");
            assert!(problem(&format!("{}{log}", &GOOD[..section])).contains(key), "{key}");
        }
        assert!(problem(&GOOD.replace("log.example.com/2026", "my log")).contains("without spaces"));
        assert!(problem(&GOOD.replace("log-sigstore.pem", "log.pem")).contains("are the same file"));
        assert!(problem(&GOOD.replace("log.pem", "")).contains("log.key is empty"));
        assert!(problem(&GOOD.replace("127.0.0.1:7412", "127.0.0.1:7410")).contains("each its own port"));
        // Nobody dials 0.0.0.0: the address that bundles and people are given has to be said.
        let everywhere = GOOD.replace("127.0.0.1:7412", "0.0.0.0:7412");
        assert!(problem(&everywhere).contains("log.url"));
        parse(&format!("{everywhere}url = \"https://log.example.com\"\n"));
        for url in WRONG_URLS {
            assert!(problem(&format!("{GOOD}url = \"{url}\"\n")).contains("log.url is"), "{url}");
        }
    }

    #[test]
    fn mistakes_about_witnesses_are_named() {
        let with =
            |url: &str| format!("{GOOD}[[log.witness]]\nurl = \"{url}\"\nkey = \"{}\"\n", WITNESS.trim());
        parse(&with("https://w.example/a"));
        for url in WRONG_URLS {
            assert!(problem(&with(url)).contains("log.witness.url is"), "{url}");
        }
        let long = format!("https://w.example/{}", "a".repeat(limits::MAX_URL_BYTES));
        assert!(problem(&with(&long)).contains("log.witness.url is"));
        // A log's key is no cosigner's.
        let log = include_str!("../../proto/log/tests/vectors/log.vkey");
        assert!(
            problem(&with("https://w.example").replace(WITNESS.trim(), log.trim())).contains("another type")
        );
    }

    #[test]
    fn no_secret_lies_in_the_folder_that_the_world_reads() {
        for folder in [".", "data"] {
            let message = problem(&format!("{GOOD}folder = \"{folder}\"\n"));
            assert!(message.contains("which the world reads"), "{folder}: {message}");
        }
        for name in ["tls.key", "log.pem", "log-sigstore.pem"] {
            let text = GOOD.replace(&format!("\"{name}\""), &format!("\"data/log/{name}\""));
            assert!(problem(&text).contains("which the world reads"), "{name}");
        }
    }

    #[test]
    fn limits_are_read() {
        let config = parse(&format!("{GOOD}[limits]\nmax_waiting_releases = 5\n"));
        assert_eq!(config.limits.max_waiting_releases, 5);
        assert_eq!(config.limits.max_connections, limits::DEFAULT_CONNECTIONS);
    }

    #[test]
    fn clients_are_read_and_their_mistakes_named() {
        let entry = "[[client]]\nname = \"av\"\nclasses = [\"av-database\"]\nproducts = [\"avdb\"]\n";
        let config = parse(&format!("{GOOD}{entry}"));
        assert_eq!(config.clients.0.len(), 1);
        assert_eq!(parse(GOOD).clients, Clients::default());
        assert!(problem(&format!("{GOOD}{}", entry.replace("av-database", "av"))).contains("class"));
        assert!(
            problem(&format!("{GOOD}{}", entry.replace("\"av-database\"", ""))).contains("classes is empty")
        );
        assert!(problem(&format!("{GOOD}{}", entry.replace("\"avdb\"", ""))).contains("products is empty"));
        assert!(problem(&format!("{GOOD}{entry}surprise = 1\n")).contains("surprise"));
    }

    #[test]
    fn the_example_is_right() {
        let example = include_str!("../../deploy/examples/coordinator.toml");
        let config = parse(example);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.clients.0.len(), 2);
        assert_eq!(config.log.url, "https://log.example.com");
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
