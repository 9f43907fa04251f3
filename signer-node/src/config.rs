//! The node's configuration: one TOML file that the custodian owns. Relative paths in it are relative to its folder.
//!
//! Everything is checked before anything starts: unknown fields, names, permissions of the files with secrets, the
//! socket's path. What the files hold is read by those who need it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustls::pki_types::ServerName;
use rutli_keys::{IdentityPublic, NodeId, NodeName, OrgName};
use rutli_log::LogKey;
use rutli_release::{Channel, ChannelKey, Class, Product, Sequence};
use serde::{Deserialize, de::IgnoredAny};
use tonic::transport::Uri;
use zeroize::Zeroizing;

use crate::{error::Error, limits, marks::Steps, rules::RulesFolder};

/// A configuration that holds. Paths are absolute, or relative to the working folder as the file's own path was.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which node this is.
    pub me: NodeId,
    /// Folder of the journal and the keys.
    pub data_dir: PathBuf,
    /// The journal's witness, outside of that folder.
    pub journal_witness: PathBuf,
    /// The custodian's socket.
    pub socket: PathBuf,
    /// The identity key, sealed as shares are.
    pub identity: PathBuf,
    /// Its public half, from this node's own entry among the peers.
    pub public_identity: IdentityPublic,
    /// PEM files of the link.
    pub tls: TlsFiles,
    /// How shares and the identity key are sealed.
    pub seal: Seal,
    /// Whom to dial.
    pub coordinators: Vec<Coordinator>,
    /// Every node of the deployment with its identity key.
    pub peers: BTreeMap<NodeId, IdentityPublic>,
    /// Which log this node follows.
    pub log: LogKey,
    /// Folder of the rules that say what may be signed.
    pub policy: RulesFolder,
    /// How far sequences may go up at once.
    pub steps: Steps,
}

/// PEM files of the link.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Authorities that vouch for coordinators.
    pub ca: PathBuf,
    /// This node's certificate, then intermediates.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How shares and the identity key are sealed at rest.
///
/// One X25519 recipient of `age`. Plugins (a YubiKey's, a TPM's) are not supported: the daemon would have to run
/// programs that the configuration names next to its unlocked secrets.
#[derive(Clone, Debug)]
pub struct Seal {
    /// Who can open them.
    pub recipient: age::x25519::Recipient,
    /// The recipient's own file: plain, or encrypted with a passphrase.
    pub identity_file: PathBuf,
}

/// A coordinator to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// As the configuration gives it.
    pub url: String,
    /// Name or address to dial.
    pub host: String,
    /// Port to dial.
    pub port: u16,
    /// What its certificate must name.
    pub server_name: ServerName<'static>,
}

impl Config {
    /// Reads and checks the file. No secret is read, but files with secrets must be closed to others.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let config = Self::read(path)?;
        for secret in [&config.tls.key, &config.seal.identity_file] {
            check_closed(secret)?;
        }
        Ok(config)
    }

    /// Reads the file for a node whose secrets are yet to be restored.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = read_limited(path, limits::MAX_CONFIG_BYTES)?;
        let wrong = |problem: String| Error::Config { path: path.to_path_buf(), problem };
        let text = std::str::from_utf8(&text).map_err(|_| wrong("it is not UTF-8".into()))?;
        let raw: Raw = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = raw.check(folder).map_err(wrong)?;
        check_socket_path(&config.socket)?;
        Ok(config)
    }
}

/// Reads a file of at most so many bytes. Wiped on drop, for many of them are secret.
pub fn read_limited(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, Error> {
    let file = fs::File::open(path).map_err(Error::file("open", path))?;
    let length = file.metadata().map_err(Error::file("read", path))?.len();
    // Room for all of it at once: a growing buffer would leave unwiped copies behind.
    let room = usize::try_from(length.min(most) + 1).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(most + 1).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
        return Ok(bytes);
    }
    let too_large = io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"));
    Err(Error::file("read", path)(too_large))
}

fn check_closed(path: &Path) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(Error::file("open", path))?.permissions().mode() & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(Error::Exposed { path: path.to_path_buf(), mode }) }
}

fn check_socket_path(path: &Path) -> Result<(), Error> {
    let length = path.as_os_str().as_bytes().len();
    if length <= limits::MAX_SOCKET_PATH_BYTES {
        return Ok(());
    }
    Err(Error::SocketPath { path: path.to_path_buf(), length, most: limits::MAX_SOCKET_PATH_BYTES })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    organisation: OrgName,
    name: NodeName,
    data_dir: PathBuf,
    journal_witness: Option<PathBuf>,
    socket: PathBuf,
    identity: PathBuf,
    tls: TlsFiles,
    seal: RawSeal,
    coordinator: Vec<RawCoordinator>,
    log: RawLog,
    peer: Vec<RawPeer>,
    policy: Option<PathBuf>,
    max_step: Option<Sequence>,
    #[serde(default)]
    first: Vec<RawFirst>,
    /// Of earlier versions: only to say what became of it.
    allow: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeal {
    recipient: String,
    identity_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCoordinator {
    url: String,
    server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    key: LogKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    organisation: OrgName,
    name: NodeName,
    identity: IdentityPublic,
}

/// Where the numbers of a channel begin, or go on.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFirst {
    class: Class,
    product: Product,
    channel: Channel,
    sequence: Sequence,
}

const NO_POLICY: &str = "it names no rules, and nothing is signed without: write policy = \"policy\" (before the first [table]), and put \
                         *.cedar files into the folder policy beside it";

const NO_MORE_ALLOW: &str = "[[allow]] is no more: take it out, write policy = \"policy\" (before the first [table]), and put what it allowed \
                             into policy/policy.cedar beside it, such as\n\
                             @id(\"suite\")\n\
                             permit (principal, action == Action::\"sign\", resource)\n\
                             when { resource.class == Class::\"product-build\" && resource.product == \"suite\" && !context.embargoed &&\n\
                             \x20      context.builderIds.contains(\"https://ci.example/suite\") };";

impl Raw {
    fn check(self, folder: &Path) -> Result<Config, String> {
        within("[[coordinator]]", self.coordinator.len(), 1, limits::MAX_COORDINATORS)?;
        within("[[peer]]", self.peer.len(), 1, limits::MAX_PEERS)?;
        if self.allow.is_some() {
            return Err(NO_MORE_ALLOW.into());
        }
        let policy = self.policy.ok_or(NO_POLICY)?;
        let recipient = self.seal.recipient.parse().map_err(|problem| {
            format!("[seal] recipient must be an X25519 recipient of age, as age1…: {problem}")
        })?;
        let coordinators: Vec<_> = self.coordinator.into_iter().map(coordinator).collect::<Result<_, _>>()?;
        let different: BTreeSet<_> = coordinators.iter().map(|one| (&one.host, one.port)).collect();
        if different.len() < coordinators.len() {
            return Err("a [[coordinator]] is given twice".into());
        }
        let me = NodeId { organisation: self.organisation, node: self.name };
        let peers = peers(self.peer)?;
        let public_identity = *peers.get(&me).ok_or_else(|| no_entry(&me))?;
        Ok(Config {
            me,
            journal_witness: folder
                .join(self.journal_witness.unwrap_or_else(|| default_witness(&self.data_dir))),
            data_dir: folder.join(self.data_dir),
            socket: folder.join(self.socket),
            identity: folder.join(self.identity),
            public_identity,
            tls: TlsFiles {
                ca: folder.join(self.tls.ca),
                certificate: folder.join(self.tls.certificate),
                key: folder.join(self.tls.key),
            },
            seal: Seal { recipient, identity_file: folder.join(self.seal.identity_file) },
            coordinators,
            peers,
            log: self.log.key,
            policy: RulesFolder::new(folder.join(policy)),
            steps: steps(self.max_step, self.first)?,
        })
    }
}

/// Beside the data folder, in a folder of its own: `/var/lib/rutli-signer-witness/journal`.
fn default_witness(data_dir: &Path) -> PathBuf {
    let mut folder = data_dir.as_os_str().to_owned();
    folder.push("-witness");
    Path::new(&folder).join("journal")
}

fn coordinator(raw: RawCoordinator) -> Result<Coordinator, String> {
    let url = raw.url;
    let wrong =
        |problem: &str| format!("[[coordinator]] url {url:?} {problem}; give it as https://HOST:PORT");
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("is not https"));
    }
    if uri.path() != "/" || uri.query().is_some() || uri.authority().is_some_and(|a| a.as_str().contains('@'))
    {
        return Err(wrong("has more than a host and a port"));
    }
    let port = uri.port_u16().ok_or_else(|| wrong("has no port"))?;
    let host = uri.host().ok_or_else(|| wrong("has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let expected = raw.server_name.unwrap_or_else(|| host.clone());
    let server_name = ServerName::try_from(expected.clone()).map_err(|_| {
        format!("[[coordinator]] server_name {expected:?} is neither a DNS name nor an IP address")
    })?;
    Ok(Coordinator { url, host, port, server_name })
}

/// A sealed node knows its own public key from nowhere else.
fn no_entry(me: &NodeId) -> String {
    format!(
        "no [[peer]] lists this node, {me}; add it, with the identity that this prints: age -d -i SEAL.txt identity.age | \
         openssl pkey -pubout -outform DER | tail -c 32 | base64"
    )
}

fn peers(raw: Vec<RawPeer>) -> Result<BTreeMap<NodeId, IdentityPublic>, String> {
    let mut peers = BTreeMap::new();
    let mut identities = BTreeMap::new();
    for peer in raw {
        let id = NodeId { organisation: peer.organisation, node: peer.name };
        if let Some(other) = identities.insert(peer.identity.to_bytes(), id.clone()) {
            return Err(format!("[[peer]] {id} has the identity key of {other}; each node has its own"));
        }
        if peers.insert(id.clone(), peer.identity).is_some() {
            return Err(format!("[[peer]] {id} is given twice"));
        }
    }
    Ok(peers)
}

fn steps(max_step: Option<Sequence>, raw: Vec<RawFirst>) -> Result<Steps, String> {
    within("[[first]]", raw.len(), 0, limits::MAX_FIRSTS)?;
    let mut steps = Steps::default();
    steps.max_step = max_step.map_or(steps.max_step, Sequence::get);
    for RawFirst { class, product, channel, sequence } in raw {
        let channel = ChannelKey { class, product, channel };
        if steps.first.insert(channel.clone(), sequence).is_some() {
            return Err(format!("[[first]] is given twice for {channel}; keep one of them"));
        }
    }
    Ok(steps)
}

fn within(what: &str, count: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&count) {
        return Ok(());
    }
    Err(format!("{count} {what} are given, allowed are {least} to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        organisation = "vendor"
        name = "vendor-1"
        data_dir = "data"
        socket = "node.sock"
        identity = "identity.age"
        policy = "policy"
        [tls]
        ca = "ca.pem"
        certificate = "tls.pem"
        key = "/absolute/../tls.key"
        [seal]
        recipient = "RECIPIENT"
        identity_file = "seal.txt"
        [[coordinator]]
        url = "https://127.0.0.1:7410"
        server_name = "localhost"
        [log]
        key = "LOG_KEY"
        [[peer]]
        organisation = "vendor"
        name = "vendor-1"
        identity = "IDENTITY"
    "#;

    fn sound() -> String {
        let identity = rutli_keys::IdentityKey::from_bytes(&[7; 32]).public().to_string();
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let log = crate::testing::log_signer().public().to_string();
        SOUND.replace("RECIPIENT", &recipient).replace("IDENTITY", &identity).replace("LOG_KEY", &log)
    }

    /// A folder with the configuration and the files that it names.
    fn folder(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let text = text.replace("/absolute/../tls.key", &folder.path().join("tls.key").display().to_string());
        fs::write(folder.path().join("node.toml"), text).unwrap();
        fs::create_dir(folder.path().join("policy")).unwrap();
        fs::write(folder.path().join("policy/suite.cedar"), crate::testing::SUITE).unwrap();
        for secret in ["tls.key", "seal.txt"] {
            let path = folder.path().join(secret);
            fs::write(&path, "secret").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        folder
    }

    fn problem(text: &str) -> String {
        Config::load(&folder(text).path().join("node.toml")).unwrap_err().to_string()
    }

    #[test]
    fn a_sound_one_holds_and_paths_are_relative_to_it() {
        let folder = folder(&sound());
        let config = Config::load(&folder.path().join("node.toml")).unwrap();
        assert_eq!(config.me.to_string(), "vendor/vendor-1");
        assert_eq!(config.data_dir, folder.path().join("data"));
        assert_eq!(config.journal_witness, folder.path().join("data-witness/journal"));
        assert_eq!(config.tls.key, folder.path().join("tls.key"));
        assert_eq!(config.coordinators[0].server_name, ServerName::try_from("localhost").unwrap());
        assert_eq!((config.coordinators[0].host.as_str(), config.coordinators[0].port), ("127.0.0.1", 7410));
        assert_eq!(config.peers.len(), 1);
        assert_eq!(config.public_identity, config.peers[&config.me]);
        let rules = config.policy.load().unwrap().rules;
        assert_eq!(rules.policies.ids().map(ToString::to_string).collect::<Vec<_>>(), ["suite"]);
        assert_eq!(config.log.origin().as_str(), "log.test/1");
        assert_eq!(config.steps, Steps::default());
    }

    #[test]
    fn the_custodian_says_how_far_sequences_go_up() {
        let first = "[[first]]\nclass = \"av-database\"\nproduct = \"avdb\"\nchannel = \"stable\"\nsequence = 20260000\n";
        let text = sound().replacen("policy = ", "max_step = 5\npolicy = ", 1) + "\n" + first;
        let steps = Config::load(&folder(&text).path().join("node.toml")).unwrap().steps;
        assert_eq!(steps.max_step, 5);
        let first_of = steps.first.iter().map(|(channel, first)| (channel.to_string(), first.get()));
        assert_eq!(first_of.collect::<Vec<_>>(), [("av-database avdb stable".to_owned(), 20_260_000)]);
        let twice = problem(&(text.clone() + first));
        assert!(twice.contains("given twice for av-database avdb stable"), "{twice}");
        for wrong in ["max_step = 0", "max_step = 9007199254740992", "max_step = -1"] {
            assert!(problem(&text.replace("max_step = 5", wrong)).contains("max_step"), "{wrong}");
        }
    }

    #[test]
    fn the_example_holds() {
        let raw: Raw = toml::from_str(include_str!("../../deploy/examples/node.toml")).unwrap();
        let config = raw.check(Path::new("/etc/rutli-signer")).unwrap();
        assert_eq!(config.peers.len(), 2);
        assert_eq!(config.log.origin().as_str(), "log.example.com/2026");
        assert_eq!(config.identity, Path::new("/etc/rutli-signer/identity.age"));
        assert_eq!(config.data_dir, Path::new("/var/lib/rutli-signer"));
        assert_eq!(config.journal_witness, Path::new("/var/lib/rutli-signer-witness/journal"));
    }

    #[test]
    fn each_mistake_is_named() {
        let sound = sound();
        for (from, to, expected) in [
            ("name = \"vendor-1\"", "name = \"vendor-1\"\nport = 1", "unknown field `port`"),
            ("organisation = \"vendor\"", "organisation = \"Vendor\"", "\"Vendor\" is not a name"),
            ("policy = \"policy\"", "", "it names no rules"),
            ("name = \"vendor-1\"", "name = \"vendor-2\"", "no [[peer]] lists this node, vendor/vendor-2"),
            ("https://127.0.0.1:7410", "http://127.0.0.1:7410", "is not https"),
            ("https://127.0.0.1:7410", "https://127.0.0.1", "has no port"),
            ("https://127.0.0.1:7410", "https://127.0.0.1:7410/x", "more than a host and a port"),
            ("server_name = \"localhost\"", "server_name = \"not a name\"", "neither a DNS name nor an IP"),
            ("recipient = \"age1", "recipient = \"age2", "must be an X25519 recipient"),
            ("[[coordinator]]", "[[coordinators]]", "unknown field `coordinators`"),
            ("[log]", "[logs]", "unknown field `logs`"),
            ("key = \"log.test/1+", "key = \"log.test/2+", "its id does not fit its name and key"),
            ("key = \"log.test/1+", "witness = \"\"\nkey = \"log.test/1+", "unknown field `witness`"),
            ("socket = \"node.sock\"", "socket = \"/SOCKET\"", "the system takes at most 107"),
        ] {
            let text = sound.replacen(from, to, 1).replace("/SOCKET", &"s".repeat(120));
            let problem = problem(&text);
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
    }

    #[test]
    fn who_comes_from_allow_rules_is_told_what_to_write() {
        let text = format!("{}\n[[allow]]\nclass = \"product-build\"\nproduct = \"suite\"", sound());
        let problem = problem(&text);
        assert!(
            problem.contains("[[allow]] is no more") && problem.contains("policy = \"policy\""),
            "{problem}"
        );
        // What it says is a policy.
        let (_, cedar) = problem.split_once("such as\n").unwrap();
        let files = [("policy.cedar".to_owned(), cedar.as_bytes().to_vec())].into();
        let rules = rutli_policy::Rules::parse(&files).unwrap();
        assert_eq!(rules.policies.ids().count(), 1);
        // Whom to trust is not said here.
        assert!(rules.warnings().iter().all(|warning| warning.contains("you trust no such builder id")));
    }

    /// Without a log there is no way to sign: nobody runs a node without one by oversight.
    #[test]
    fn the_log_is_required() {
        let sound = sound();
        let log = &sound[sound.find("[log]").unwrap()..sound.find("[[peer]]").unwrap()];
        let problem = problem(&sound.replace(log, ""));
        assert!(problem.contains("missing field `log`"), "{problem}");
    }

    #[test]
    fn peers_are_different() {
        let sound = sound();
        let peer = &sound[sound.find("[[peer]]").unwrap()..];
        let twice = format!("{sound}\n{peer}");
        assert!(problem(&twice).contains("has the identity key of vendor/vendor-1"), "{}", problem(&twice));
    }

    #[test]
    fn an_open_secret_is_refused_with_the_command_that_closes_it() {
        for secret in ["tls.key", "seal.txt"] {
            let folder = folder(&sound());
            let path = folder.path().join(secret);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let problem = Config::load(&folder.path().join("node.toml")).unwrap_err().to_string();
            assert!(problem.contains(&format!("chmod 600 '{}'", path.display())), "{problem}");
            fs::remove_file(&path).unwrap();
            let problem = Config::load(&folder.path().join("node.toml")).unwrap_err().to_string();
            assert!(problem.contains("cannot open"), "{problem}");
        }
    }

    #[test]
    fn a_file_over_its_bound_is_refused() {
        let folder = folder(&"#".repeat(2 << 20));
        let problem = Config::load(&folder.path().join("node.toml")).unwrap_err().to_string();
        assert!(problem.contains("more than 1048576 bytes"), "{problem}");
    }
}
