//! `rutli init`: from a description to everything that a deployment starts with.
//!
//! ```text
//! DIR/ca.pem, ca.key                           the development authority; take the key away
//! DIR/proposal.json                            for `rutli ceremony propose`
//! DIR/coordinator/coordinator.toml …           with its certificate
//! DIR/nodes/ORGANISATION/NODE/node.toml …      with certificate, seal, the identity sealed to it, and the folder `policy`, see
//!                                              [`policy`]
//! DIR/log/log.vkey …                           what those who read the log need, see [`log`]
//! DIR/clients/NAME/client.toml …               one profile for each client
//! ```
//!
//! Each folder is complete in itself and may be carried to its machine. Folders are the owner's alone (0700), so are
//! keys (0600). What exists already is not overwritten unless forced, and never where shares were sealed to it; the log's
//! keys are kept in any case.

pub mod deployment;
pub mod log;
pub mod pki;
pub mod policy;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use age::secrecy::ExposeSecret;
use rand::rngs::OsRng;
use rutli_keys::{IdentityKey, IdentityPublic, NodeId};
use rutli_log::{LogKey, Origin, sigstore::LogUrl};
use rutli_release::Class;
use rutli_wire::role::Party;
use serde::Serialize;
use serde_json::json;

use self::{
    deployment::{Allow, ClientRole, Deployment, EXAMPLE},
    log::{LogFiles, LogKeys},
    pki::{Authority, Issued, Validity},
};
use crate::{
    cli,
    client::{Profile, TlsFiles},
    clock,
    files::{self, Access},
    report::{self, Failure, Report},
};

/// Bytes of a Unix socket's path, with the zero at its end (`sockaddr_un`).
const MAX_SOCKET_PATH_BYTES: usize = 108;

/// Of a node's rules, beside its configuration.
const POLICY_FOLDER: &str = "policy";

/// What was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// For `rutli ceremony propose`.
    pub proposal: PathBuf,
    /// coordinator.toml
    pub coordinator: PathBuf,
    /// For those who read the log.
    pub log: LogFiles,
    /// All nodes.
    pub nodes: Vec<NodeFiles>,
    /// All clients.
    pub clients: Vec<ClientFiles>,
}

/// A node's files.
#[derive(Clone, Debug)]
pub struct NodeFiles {
    /// The node.
    pub id: NodeId,
    /// node.toml
    pub config: PathBuf,
    /// Its custodian's socket, once it runs.
    pub socket: PathBuf,
}

/// A client's files.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// Its role.
    pub role: ClientRole,
    /// Its name.
    pub name: String,
    /// client.toml
    pub profile: PathBuf,
}

/// `rutli init`
///
/// # Errors
/// Exit code 2: a wrong description, or files that are in the way.
pub fn run(args: &cli::Init) -> Result<Report, Failure> {
    let (Some(description), Some(out)) = (&args.deployment, &args.out) else {
        return Ok(Report::new(EXAMPLE.trim_end(), json!({ "example": EXAMPLE })));
    };
    let deployment = Deployment::parse(&files::read_text(description)?)?;
    let written = write(&deployment, out, args.force)?;
    for node in written.nodes.iter().filter(|node| !fits_a_socket(&node.socket)) {
        eprintln!(
            "warning: the socket {} is too long a path for this machine (at most {} bytes): set `sockets` in the description",
            node.socket.display(),
            MAX_SOCKET_PATH_BYTES - 1,
        );
    }
    for product in deployment.unattested() {
        eprintln!(
            "warning: {product} is unattested: nodes sign any files that a pipeline submits as it; name a `builder` before production"
        );
    }
    Ok(report(&written, out))
}

/// Writes certificates, identities and configurations for a deployment.
///
/// # Errors
/// Exit code 2: files that are in the way, or cannot be written.
pub fn write(deployment: &Deployment, out: &Path, force: bool) -> Result<Written, Failure> {
    refuse_to_destroy(out, force)?;
    for organisation in &deployment.organisations {
        // Found out before anything is written.
        policy::files(deployment.allow_of(organisation), &deployment.builders)?;
    }
    let out = files::absolute(out)?;
    let now = clock::unix_now();
    let validity = Validity::days(now, deployment.certificate_days);
    let authority = Authority::new(deployment.name.as_str(), validity)?;
    let log = LogKeys::keep_or_make(&out, deployment, now)?;
    let writer = Writer { deployment, authority: &authority, validity, log: &log.public(), out: &out };

    writer.folder(&out)?;
    writer.public(&out.join("ca.pem"), authority.certificate())?;
    writer.secret(&out.join("ca.key"), authority.key())?;
    let coordinator = writer.coordinator()?;
    let identities: BTreeMap<NodeId, IdentityKey> =
        deployment.nodes().map(|(_, id)| (id, IdentityKey::generate(&mut OsRng))).collect();
    let identity_of = |id: &NodeId| identities.get(id).map(IdentityKey::public);
    let log = log.write(&out, deployment, identity_of)?;
    let nodes = deployment
        .nodes()
        .map(|(organisation, id)| writer.node(&id, deployment.allow_of(organisation), &identities))
        .collect::<Result<_, _>>()?;
    let clients = deployment
        .clients()
        .map(|(role, name)| writer.client(role, name.as_str()))
        .collect::<Result<_, _>>()?;
    let proposal = out.join("proposal.json");
    let text = report::pretty(&deployment.proposal(identity_of));
    writer.public(&proposal, &format!("{text}\n"))?;
    Ok(Written { ca: out.join("ca.pem"), proposal, coordinator, log, nodes, clients })
}

/// Whether a Unix socket can have this path.
#[must_use]
pub fn fits_a_socket(path: &Path) -> bool {
    path.as_os_str().len() < MAX_SOCKET_PATH_BYTES
}

struct Writer<'a> {
    deployment: &'a Deployment,
    authority: &'a Authority,
    validity: Validity,
    log: &'a LogKey,
    out: &'a Path,
}

// The configurations, as the daemons read them: see their own documentation for each field.

#[derive(Serialize)]
struct CoordinatorConfig<'a> {
    listen: String,
    data_dir: &'static str,
    tls: TlsFiles,
    log: KeptLog<'a>,
    client: Vec<MayAsk<'a>>,
}

/// What a pipeline may ask for.
#[derive(Serialize)]
struct MayAsk<'a> {
    name: &'a str,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct KeptLog<'a> {
    origin: &'a Origin,
    key: &'static str,
    sigstore_key: &'static str,
    listen: String,
    url: LogUrl,
}

#[derive(Serialize)]
struct NodeConfig<'a> {
    organisation: &'a str,
    name: &'a str,
    data_dir: &'static str,
    journal_witness: &'static str,
    socket: PathBuf,
    identity: &'static str,
    policy: &'static str,
    tls: TlsFiles,
    seal: Seal,
    log: TrustedLog<'a>,
    coordinator: Vec<CoordinatorLink>,
    peer: Vec<Peer<'a>>,
}

#[derive(Serialize)]
struct Seal {
    recipient: String,
    identity_file: &'static str,
}

#[derive(Serialize)]
struct TrustedLog<'a> {
    key: &'a LogKey,
}

#[derive(Serialize)]
struct CoordinatorLink {
    url: String,
    server_name: Option<String>,
}

#[derive(Serialize)]
struct Peer<'a> {
    organisation: &'a str,
    name: &'a str,
    identity: IdentityPublic,
}

impl Writer<'_> {
    fn coordinator(&self) -> Result<PathBuf, Failure> {
        let folder = self.out.join("coordinator");
        self.folder(&folder)?;
        let party = Party::Coordinator(self.deployment.coordinator.name.clone());
        let issued = self.authority.issue(&party, &self.deployment.server_names(), self.validity)?;
        let tls = self.tls(&folder, &issued)?;
        let listen = self.deployment.coordinator.listen.to_string();
        self.config(
            &folder.join("coordinator.toml"),
            "rutli-coordinator --config",
            &CoordinatorConfig {
                listen,
                data_dir: "data",
                tls,
                log: KeptLog {
                    origin: self.log.origin(),
                    key: log::KEY_FILE,
                    sigstore_key: log::SIGSTORE_KEY_FILE,
                    listen: self.deployment.log_listen().to_string(),
                    url: self.deployment.log_url()?,
                },
                client: self.may_ask(),
            },
        )
    }

    /// Every pipeline may ask for product builds, and for databases where some node signs them.
    fn may_ask(&self) -> Vec<MayAsk<'_>> {
        let organisations = self.deployment.organisations.iter();
        let allowed = organisations.flat_map(|organisation| self.deployment.allow_of(organisation));
        let databases = allowed.filter(|allow| allow.class == Class::AvDatabase).map(|allow| allow.class);
        let classes: Vec<Class> = std::iter::once(Class::ProductBuild).chain(databases.take(1)).collect();
        let pipelines = self.deployment.clients.pipelines.iter();
        pipelines.map(|name| MayAsk { name: name.as_str(), classes: classes.clone() }).collect()
    }

    fn node(
        &self,
        id: &NodeId,
        allow: &[Allow],
        identities: &BTreeMap<NodeId, IdentityKey>,
    ) -> Result<NodeFiles, Failure> {
        let folder = self.out.join("nodes").join(id.organisation.as_str()).join(id.node.as_str());
        self.folder(&folder)?;
        let issued = self.authority.issue(&Party::Node(id.clone()), &[], self.validity)?;
        let tls = self.tls(&folder, &issued)?;
        let identity = identities.get(id).ok_or_else(|| Failure::failed(format!("{id} has no identity")))?;
        let pem = identity.to_pkcs8_pem().map_err(|error| Failure::failed(error.to_string()))?;
        let seal = age::x25519::Identity::generate();
        self.secret(&folder.join("seal.txt"), format!("{}\n", seal.to_string().expose_secret()))?;
        // As `age -r RECIPIENT` seals it. It never lies on a disk unsealed.
        let sealed = age::encrypt(&seal.to_public(), pem.as_bytes())
            .map_err(|error| Failure::failed(error.to_string()))?;
        self.secret(&folder.join("identity.age"), sealed)?;

        let policy = folder.join(POLICY_FOLDER);
        self.folder(&policy)?;
        // Its custodian's own: `--force` does not put back what somebody has changed or removed.
        if !files::has_entries(&policy)? {
            for (name, content) in policy::files(allow, &self.deployment.builders)? {
                files::write_atomically(&policy.join(name), &content, Access::Public)?;
            }
        }

        let socket = match &self.deployment.sockets {
            Some(sockets) => files::absolute(sockets)?.join(format!("{}-{}.sock", id.organisation, id.node)),
            None => PathBuf::from("node.sock"),
        };
        let peer = identities
            .iter()
            .map(|(id, identity)| Peer {
                organisation: id.organisation.as_str(),
                name: id.node.as_str(),
                identity: identity.public(),
            })
            .collect();
        let config = self.config(
            &folder.join("node.toml"),
            "rutli-signer --config",
            &NodeConfig {
                organisation: id.organisation.as_str(),
                name: id.node.as_str(),
                data_dir: "data",
                journal_witness: "witness/journal",
                socket: socket.clone(),
                identity: "identity.age",
                policy: POLICY_FOLDER,
                tls,
                seal: Seal { recipient: seal.to_public().to_string(), identity_file: "seal.txt" },
                log: TrustedLog { key: self.log },
                coordinator: vec![CoordinatorLink {
                    url: self.deployment.url(),
                    server_name: self.server_name(),
                }],
                peer,
            },
        )?;
        Ok(NodeFiles { id: id.clone(), config, socket: folder.join(socket) })
    }

    fn client(&self, role: ClientRole, name: &str) -> Result<ClientFiles, Failure> {
        let requester =
            rutli_release::Requester::new(name).map_err(|error| Failure::usage(error.to_string()))?;
        let party = match role {
            ClientRole::Pipeline => Party::Pipeline(requester),
            ClientRole::Operator => Party::Operator(requester),
            ClientRole::Custodian => Party::Custodian(requester),
            ClientRole::Auditor => Party::Auditor(requester),
        };
        let folder = self.out.join("clients").join(name);
        self.folder(&folder)?;
        let tls = self.tls(&folder, &self.authority.issue(&party, &[], self.validity)?)?;
        let profile = Profile { coordinator: self.deployment.url(), server_name: self.server_name(), tls };
        let profile = self.config(&folder.join("client.toml"), "rutli --profile", &profile)?;
        Ok(ClientFiles { role, name: name.to_owned(), profile })
    }

    fn server_name(&self) -> Option<String> {
        self.deployment.server_names().into_iter().next()
    }

    fn tls(&self, folder: &Path, issued: &Issued) -> Result<TlsFiles, Failure> {
        self.public(&folder.join("ca.pem"), self.authority.certificate())?;
        self.public(&folder.join("tls.pem"), &issued.certificate)?;
        self.secret(&folder.join("tls.key"), &issued.key)?;
        Ok(TlsFiles { ca: "ca.pem".into(), certificate: "tls.pem".into(), key: "tls.key".into() })
    }

    fn config(&self, path: &Path, for_what: &str, config: &impl Serialize) -> Result<PathBuf, Failure> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let text = toml::to_string_pretty(config).map_err(|error| Failure::failed(error.to_string()))?;
        let text =
            format!("# For `{for_what} {name}`. Relative paths are relative to this folder.\n\n{text}");
        self.public(path, &text)?;
        Ok(path.to_owned())
    }

    fn folder(&self, path: &Path) -> Result<(), Failure> {
        files::create_folder(path, Access::Secret)
    }

    fn public(&self, path: &Path, text: &str) -> Result<(), Failure> {
        files::write_atomically(path, text.as_bytes(), Access::Public)
    }

    fn secret(&self, path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        files::write_atomically(path, content.as_ref(), Access::Secret)
    }
}

/// New identities over old ones make sealed shares unreadable for ever: that is refused even with `--force`.
fn refuse_to_destroy(out: &Path, force: bool) -> Result<(), Failure> {
    if !files::has_entries(out)? {
        return Ok(());
    }
    if !force {
        return Err(Failure::usage(format!("{} exists and is not empty", out.display())).help(
            "give a new folder, or --force to write new certificates and identities over the old ones; policies are kept",
        ));
    }
    if let Some(share) = sealed_share(&out.join("nodes"), 6) {
        return Err(Failure::usage(format!(
            "{} holds a sealed share: new identities would make it unreadable",
            share.display()
        ))
        .help("move the deployment away, or give a new folder"));
    }
    Ok(())
}

fn sealed_share(folder: &Path, depth: usize) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if path.to_string_lossy().ends_with(".share.age") {
            return Some(path);
        }
        if is_folder
            && depth > 0
            && let Some(share) = sealed_share(&path, depth - 1)
        {
            return Some(share);
        }
    }
    None
}

fn report(written: &Written, out: &Path) -> Report {
    let shown = |path: &Path| path.display().to_string();
    let mut lines =
        vec![format!("Written to {}. Next, each at its own place:", out.display()), String::new()];
    lines.push(format!("  rutli-coordinator --config {}", shown(&written.coordinator)));
    lines.extend(written.nodes.iter().map(|node| format!("  rutli-signer --config {}", shown(&node.config))));
    if let Some(first) = written.nodes.first() {
        lines.push(format!(
            "  rutli ceremony propose --socket {} {}",
            shown(&first.socket),
            shown(&written.proposal)
        ));
    }
    lines.extend(
        written
            .nodes
            .iter()
            .skip(1)
            .map(|node| format!("  rutli ceremony join --socket {}", shown(&node.socket))),
    );
    lines.push(String::new());
    lines.push(format!(
        "The log will be read at {}. For those who verify and monitor it: {}",
        written.log.url,
        shown(&out.join("log"))
    ));
    if written.log.kept {
        lines.push("Its keys are those of before: new ones under its name would fork it.".to_owned());
    }
    lines.push(format!(
        "Take {} away from here: whoever has it can be any party.",
        shown(&out.join("ca.key"))
    ));
    let nodes: Vec<_> = written
        .nodes
        .iter()
        .map(|node| json!({ "node": node.id.to_string(), "config": node.config, "socket": node.socket }))
        .collect();
    let clients: Vec<_> = written
        .clients
        .iter()
        .map(|client| json!({ "name": client.name, "role": role_word(client.role), "profile": client.profile }))
        .collect();
    Report::new(
        lines.join("\n"),
        json!({
            "ca": written.ca,
            "proposal": written.proposal,
            "coordinator": { "config": written.coordinator },
            "log": {
                "url": written.log.url,
                "key": written.log.key,
                "policy": written.log.policy,
                "trusted_root": written.log.trusted_root,
                "kept": written.log.kept,
            },
            "nodes": nodes,
            "clients": clients,
        }),
    )
}

fn role_word(role: ClientRole) -> &'static str {
    match role {
        ClientRole::Pipeline => "pipeline",
        ClientRole::Operator => "operator",
        ClientRole::Custodian => "custodian",
        ClientRole::Auditor => "auditor",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_deployment_is_complete_and_its_secrets_are_the_owners() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("d");
        let written = write(&Deployment::parse(EXAMPLE).unwrap(), &out, false).unwrap();
        assert_eq!((written.nodes.len(), written.clients.len()), (4, 5));

        let node = written.nodes.iter().find(|node| node.id.to_string() == "vendor/vendor-1").unwrap();
        let config: toml::Table = std::fs::read_to_string(&node.config).unwrap().parse().unwrap();
        assert_eq!(config["organisation"].as_str(), Some("vendor"));
        assert_eq!(config["peer"].as_array().unwrap().len(), 4);
        let policy = node.config.with_file_name(config["policy"].as_str().unwrap());
        let files = std::fs::read_dir(&policy).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        let rules = rutli_policy::Rules::parse(&files.collect()).unwrap();
        assert_eq!(rules.policies.ids().count(), 2);
        // The example is a trial's, and says so.
        let untied = rules.warnings().iter().filter(|warning| warning.contains("does not tie the files"));
        assert_eq!((untied.count(), rules.warnings().len()), (2, 2));
        assert_eq!(config["coordinator"][0]["url"].as_str(), Some("https://127.0.0.1:7410"));
        let folder_of_node = node.config.parent().unwrap();
        for secret in ["identity.age", "seal.txt", "tls.key"] {
            assert_eq!(mode(&folder_of_node.join(secret)), 0o600, "{secret}");
        }
        assert_eq!(mode(&out.join("ca.key")), 0o600);
        assert_eq!(mode(folder_of_node), 0o700);
        assert_eq!(mode(&out), 0o700);

        let seal = std::fs::read_to_string(folder_of_node.join("seal.txt")).unwrap();
        let seal: age::x25519::Identity = seal.trim().parse().unwrap();
        assert_eq!(config["seal"]["recipient"].as_str().unwrap(), seal.to_public().to_string());
        let sealed = std::fs::read(folder_of_node.join(config["identity"].as_str().unwrap())).unwrap();
        let pem = String::from_utf8(age::decrypt(&seal, &sealed).unwrap()).unwrap();
        let identity = IdentityKey::from_pkcs8_pem(&pem);
        let own = config["peer"]
            .as_array()
            .unwrap()
            .iter()
            .find(|peer| peer["name"].as_str() == Some("vendor-1"))
            .unwrap();
        assert_eq!(own["identity"].as_str().unwrap(), identity.unwrap().public().to_string());

        let vkey = std::fs::read_to_string(&written.log.key).unwrap();
        assert_eq!(config["log"]["key"].as_str().unwrap(), vkey.trim());
        let coordinator: toml::Table =
            std::fs::read_to_string(&written.coordinator).unwrap().parse().unwrap();
        assert_eq!(coordinator["client"][0]["classes"].as_array().unwrap().len(), 2, "builds and databases");
        let log = &coordinator["log"];
        assert_eq!(log["url"].as_str(), Some("http://127.0.0.1:7412"));
        for name in ["key", "sigstore_key"] {
            let secret = written.coordinator.with_file_name(log[name].as_str().unwrap());
            assert_eq!(mode(&secret), 0o600, "{name}");
        }

        let proposal: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&written.proposal).unwrap()).unwrap();
        assert_eq!(proposal["organisations"][0]["threshold"], 2);
        Profile::read(&written.clients[0].profile).unwrap();
    }

    #[test]
    fn nothing_is_overwritten_unasked_and_shares_never() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("d");
        let deployment = Deployment::parse(EXAMPLE).unwrap();
        let written = write(&deployment, &out, false).unwrap();
        let refused = write(&deployment, &out, false).unwrap_err();
        assert_eq!(refused.exit.code(), 2);
        assert!(refused.help.unwrap().contains("--force"));
        write(&deployment, &out, true).unwrap();

        let keys = written.nodes[0].config.with_file_name("data").join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        std::fs::write(keys.join("release.share.age"), b"x").unwrap();
        assert!(write(&deployment, &out, true).unwrap_err().problem.contains("sealed share"));
    }
}
